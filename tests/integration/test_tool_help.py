#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What the tools say when asked, and when a word is misspelt.

--help of each program and subcommand, and help of each command of firn-io, goes
to standard output with status 0 and names every option that is taken, and no
other. A word that does not exist is answered with the nearest one.
"""

import os
import re
import string
import subprocess
import tempfile
import unittest

from tool_help import PROGRAMS, commands, help_text, options, run


def everything():
    """(program, subcommand or None) of all there are."""
    for name in PROGRAMS:
        yield name, None
        for command in commands(name):
            yield name, command


class HelpTest(unittest.TestCase):

    def test_help_has_usage_options_and_an_example(self):
        for name, command in everything():
            with self.subTest(name, command=command):
                text = help_text(name, command)
                first = text.split('\n', 1)[0]
                if name == 'firn-io' and command:
                    self.assertRegex(first, r'^%s( .*)? -- \w' % command)
                    self.assertRegex(text, r'\nExample: %s\b' % command)
                else:
                    self.assertTrue(first.startswith(
                        'Usage: ' + ' '.join(filter(None, [name, command]))))
                    self.assertRegex(text, r'\nExample:\n  %s %s' % (
                        name, command or ''))
                for option, said in options(text).items():
                    self.assertTrue(said.strip(), option)

    def test_h_is_help(self):
        for command in commands('firn-img'):
            self.assertEqual(run('firn-img', command, '-h').stdout,
                             help_text('firn-img', command))

    def compare_letters(self, name, command, refused):
        known = {word[1] for option in options(help_text(name, command))
                 for word in option if len(word) == 2}
        self.assertEqual(set(string.ascii_letters) - refused, known,
                         (name, command))

    def test_help_names_the_letters_that_are_taken(self):
        # Help is printed from what the parser is given: some stand for all.
        for name, command in [('firn-img', 'convert'), ('firn-img', 'resize'),
                              ('firn-vmstate', 'extract')]:
            self.compare_letters(name, command, {
                letter for letter in string.ascii_letters
                if "there is no option '-%s'" % letter
                in run(name, command, '-' + letter, '+1G').stderr})

    def test_help_names_the_letters_of_commands_that_are_taken(self):
        with tempfile.TemporaryDirectory() as where:
            image = os.path.join(where, 'a.raw')
            with open(image, 'wb') as file:
                file.truncate(65536)
            for command in commands('firn-io'):
                if not options(help_text('firn-io', command)):
                    continue
                words = []
                for letter in string.ascii_letters:
                    words += ['-c', '%s -%s 0 0' % (command, letter)]
                said = run('firn-io', '-f', 'raw', *words, image).stderr
                self.compare_letters('firn-io', command, set(
                    re.findall(r"there is no option '-(.)'", said)))

    def test_long_options_of_help_are_taken(self):
        for name, command in everything():
            if name == 'firn-io' and command:
                continue
            for option in options(help_text(name, command)):
                for word in [w for w in option if w.startswith('--')]:
                    words = [command] if command else []
                    said = run(name, *words, word + 'x', '+1G').stderr
                    self.assertIn("there is no option '%sx'" % word, said)
                    self.assertIn("did you mean '%s'?" % word, said)


class NearestTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.dir.cleanup)
        cls.image = os.path.join(cls.dir.name, 'a.qcow2')
        assert run('firn-img', 'create', '-q', '-f', 'qcow2', cls.image,
                   '1M').returncode == 0

    def says(self, text, name, *argv, status=1):
        done = run(name, *argv)
        self.assertEqual((done.returncode, done.stdout), (status, ''), argv)
        self.assertEqual(done.stderr.split('\n')[0], name + ': ' + text)

    def test_commands(self):
        self.says("there is no command 'convrt'; did you mean 'convert'?",
                  'firn-img', 'convrt', 'a', 'b')
        self.says("there is no command 'frobnicate'; 'firn-img --help' lists "
                  'them', 'firn-img', 'frobnicate')
        self.says("there is no command 'shwo'; did you mean 'show'?",
                  'firn-vmstate', 'shwo', status=2)
        done = run('firn-io', '-c', 'aio_raed 0 1')
        self.assertEqual(done.stderr, "there is no command 'aio_raed'; did "
                         "you mean 'aio_read'?\n")
        done = run('firn-io', '-c', 'help aio_raed')
        self.assertEqual(done.stdout, "there is no command 'aio_raed'; did "
                         "you mean 'aio_read'?\n")

    def test_commands_of_the_monitor(self):
        done = subprocess.run(
            [os.environ['FIRN_VMM'], '--disk', self.image, '--paused'],
            input='savvm x\nfrobnicate\n', text=True, capture_output=True,
            timeout=300, check=True)
        self.assertEqual(done.stdout, "error: no command savvm; did you mean "
                         "'savevm'?\nerror: no command frobnicate; try help\n")

    def test_options(self):
        self.says("convert: there is no option '--target-is-zeroo'; did you "
                  "mean '--target-is-zero'?", 'firn-img', 'convert',
                  '--target-is-zeroo', 'a', 'b')
        self.says("map: there is no option '-u'; did you mean '-U'?",
                  'firn-img', 'map', '-u', 'a')
        self.says("there is no option '--hlep'; did you mean '--help'?",
                  'firn-img', '--hlep')
        self.says("there is no option '--forcr-share'; did you mean "
                  "'--force-share'?", 'firn-io', '--forcr-share', 'a')
        self.says("there is no option '--memroy'; did you mean '--memory'?",
                  'firn-vmm', '--memroy', '1G', status=2)
        self.says("list: there is no option '--outptu'; did you mean "
                  "'--output'?", 'firn-vmstate', 'list', '--outptu=json', 'a',
                  status=2)
        self.says("there is no option '--hlep'; did you mean '--help'?",
                  'firn-vmstate', '--hlep', status=2)

    def test_create_options(self):
        self.says("-o: unknown option 'cluster-size'; did you mean "
                  "'cluster_size'?", 'firn-img', 'create', '-f', 'qcow2',
                  '-o', 'cluster-size=64k', self.image + '.new', '1M')
        self.says(f"{self.image}: -o: unknown option 'comapt'; did you mean "
                  "'compat'?",
                  'firn-img', 'amend', '-o', 'comapt=1.1', self.image)

    def test_formats(self):
        said = "format 'qcow' is not supported; did you mean 'qcow2'?"
        self.says(said, 'firn-img', 'info', '-f', 'qcow', self.image)
        self.says(said, 'firn-img', 'convert', '-O', 'qcow', self.image, 'b')
        self.says(said, 'firn-img', 'create', '-f', 'qcow', 'b', '1M')
        self.says("format 'vmdk' is not supported; there are qcow2 and raw",
                  'firn-img', 'info', '-f', 'vmdk', self.image)
        self.assertIn("unknown driver 'qcow3'; did you mean 'qcow2'?",
                      run('firn-io', '-f', 'qcow3', self.image).stderr)

    def test_image_options(self):
        def said(*options):
            return run('firn-img', 'info', '--image-opts', ','.join(
                ['file.filename=' + self.image, *options])).stderr

        self.assertIn("unknown driver 'qcow3'; did you mean 'qcow2'?",
                      said('driver=qcow3'))
        self.assertIn("unknown option 'lazy-refcount'; did you mean "
                      "'lazy-refcounts'?", said('driver=qcow2',
                                                'lazy-refcount=on'))
        self.assertIn("unknown option 'drivr'; did you mean 'driver'?",
                      said('drivr=qcow2'))
        done = run('firn-io', '--image-opts', '-c', 'quit',
                   'driver=qcow2,file.driver=blkdebug,file.inject-error.0.event'
                   '=l2_laod,file.image.filename=' + self.image)
        self.assertIn("unknown event 'l2_laod'; did you mean 'l2_load'?",
                      done.stderr)

    def test_a_valid_option_is_not_taken_for_a_mistake(self):
        done = run('firn-img', 'info', '--image-opts', 'driver=raw,size=512')
        self.assertIn('needs the option file.filename', done.stderr)
        self.assertNotIn('size', done.stderr)

    def test_names_and_values_at_any_depth(self):
        """One line each, with the name that is near."""
        plain = f'driver=qcow2,file.filename={self.image}'
        debug = (f'driver=qcow2,file.driver=blkdebug,file.image.filename='
                 f'{self.image}')
        for right, *words in (
                ('filename', 'info', '--image-opts',
                 f'driver=qcow2,file.filenam={self.image}'),
                ('filename', 'map', '--image-opts',
                 f'driver=raw,file.driver=qcow2,file.file.filenme=x'),
                ('filename', 'map', '--image-opts',
                 plain + ',backing.driver=qcow2,backing.file.filenme=x'),
                ('driver', 'info', 'json:{"driver":"qcow2","file.drivr":'
                 f'"file","file.filename":"{self.image}"}}'),
                ('qcow2', 'info', '--image-opts', 'driver=qcow3,file.filename='
                 + self.image),
                ('on', 'info', '--image-opts', plain + ',cache.direct=onn'),
                ('on', 'info', '--image-opts', plain + ',file.locking=o'),
                ('unmap', 'info', '--image-opts', plain + ',discard=unmpa'),
                ('unmap', 'info', '--image-opts',
                 plain + ',detect-zeroes=unmapp'),
                ('native', 'info', '--image-opts', plain + ',file.aio=nativ'),
                ('all', 'info', '--image-opts', plain + ',overlap-check=al'),
                ('read', 'info', '--image-opts',
                 debug + ',file.inject-error.0.iotype=raed'),
                ('new_state', 'info', '--image-opts', debug +
                 ',file.set-state.0.event=l2_load,'
                 'file.set-state.0.new_stat=2'),
                ('blkdebug', 'info', 'blkdbug::' + self.image),
                ('null-co', 'info', 'nul-co://'),
                ('1.1', 'create', '-q', '-f', 'qcow2', '-o', 'compat=1.11',
                 'b', '1M'),
                ('metadata', 'create', '-q', '-f', 'qcow2', '-o',
                 'preallocation=metdata', 'b', '1M'),
                ('zstd', 'create', '-q', '-f', 'qcow2', '-o',
                 'compression_type=zst', 'b', '1M'),
                ('on', 'create', '-q', '-f', 'qcow2', '-o',
                 'lazy_refcounts=onn', 'b', '1M'),
                ('skip=', 'dd', f'if={self.image}', 'of=b', 'skp=1'),
                ('count=', 'dd', f'if={self.image}', 'of=b', 'cout=1'),
                ('all', 'check', '-r', 'al', self.image),
                ('json', 'info', '--output=jsn', self.image),
                ('writeback', 'check', '-T', 'writebak', self.image)):
            self.is_offered(right, 'firn-img', *words)

    def test_words_about_encryption(self):
        secret = ('--object', 'secret,id=s,data=x')
        luks = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.'
        for right, word in (
                ('luks', 'encrypt.format=lucs'),
                ('encrypt.format', 'encrypt.frmat=luks'),
                ('encrypt.key-secret', 'encrypt.keysecret=s'),
                ('aes-128', luks + 'cipher-alg=aes-12'),
                ('xts', luks + 'cipher-mode=xtz'),
                ('sha256', luks + 'hash-alg=sha25'),
                ('plain64', luks + 'ivgen-alg=plain65'),
                ('essiv', luks + 'ivgen-alg=esiv'),
                ('sha512', luks + 'ivgen-hash-alg=sh512'),
                ('encrypt.iter-time', luks + 'iter-tim=10'),
                ('encrypt.cipher-mode', luks + 'ciphermode=xts')):
            self.is_offered(right, 'firn-img', 'create', '-q', '-f', 'qcow2',
                            *secret, '-o', word, 'b', '1M')
        locked = os.path.join(self.dir.name, 'locked')
        assert run('firn-img', 'create', '-q', '-f', 'qcow2', *secret, '-o',
                   luks + 'iter-time=10', locked, '1M').returncode == 0
        for right, word in (
                ('active', 'state=activ,encrypt.new-secret=s'),
                ('inactive', 'state=inactve'),
                ('encrypt.state', 'stat=active'),
                ('encrypt.keyslot', 'keyslt=1')):
            self.is_offered(right, 'firn-img', 'amend', *secret,
                            '--image-opts', '-o', 'encrypt.' + word,
                            'driver=qcow2,encrypt.key-secret=s,file.filename='
                            + locked)

    def test_words_of_objects(self):
        for right, word in (
                ('secret', 'scret,id=a,data=x'),
                ('secret', 'qom-type=secrt,id=a,data=x'),
                ('secret', '{"qom-type":"secrt","id":"a","data":"x"}'),
                ('qom-type', 'qom-typ=secret,id=a,data=x'),
                ('qom-type', '{"qomtype":"secret","id":"a","data":"x"}'),
                ('id', 'secret,idd=a,data=x'),
                ('data', 'secret,id=a,dat=x'),
                ('file', 'secret,id=a,fil=x'),
                ('format', 'secret,id=a,data=x,frmat=raw'),
                ('raw', 'secret,id=a,data=x,format=rw'),
                ('base64', 'secret,id=a,data=x,format=base46')):
            for tool in (('firn-img', 'info'), ('firn-io',)):
                self.is_offered(right, *tool, '--object', word, self.image)

    def test_words_of_filters_and_groups_of_options(self):
        below = f'driver=qcow2,file.driver=blkdebug,file.image={self.image},'
        for right, words in (
                ('image', 'driver=blkdebug,imge=x'),
                ('image', 'driver=blkdebug,imag.filename=x'),
                ('inject-error.0.event',
                 below + 'file.inject-eror.0.event=l2_load'),
                ('set-state.0.event', below + 'file.set-stat.0.event=l2_load'),
                ('event', below + 'file.inject-error.0.evnt=l2_load'),
                ('once', below + 'file.inject-error.0.onc=on'),
                ('raw', 'driver=blkverify,raww.filename=x,test.filename=y'),
                ('file.filename', 'driver=copy-on-read,fil.filename=x'),
                ('file.filename', 'driver=preallocate,fiel.filename=x'),
                ('file.filename', 'driver=qcow2,fil.filename=x'),
                ('file.filename', 'json:{"driver":"raw","fil":"x"}'),
                ('file.filename', 'driver=raw,filee.filename=x'),
                ('json', 'jsn:{"driver":"raw","fil":"x"}'),
                ('null', f'driver=qcow2,file.filename={self.image},'
                 'backing=nul'),
                ('backing.filename', f'driver=qcow2,file.filename={self.image},'
                 'bakcing.filename=x')):
            how = () if words.startswith('js') else ('--image-opts',)
            self.is_offered(right, 'firn-img', 'map', *how, words)
            self.is_offered(right, 'firn-io', *how, words)

    def test_words_of_rules_and_breakpoints(self):
        rules = os.path.join(self.dir.name, 'rules')
        debug = f'blkdebug:{rules}:{self.image}'
        for right, text in (
                ('inject-error.0.event', '[inject-eror]\nevent = "l2_load"\n'),
                ('set-state.0.event', '[set-sate]\nevent = "l2_load"\n'),
                ('event', '[inject-error]\nevnt = "l2_load"\n'),
                ('l2_load', '[inject-error]\nevent = "l2_laod"\n'),
                ('errno', '[inject-error]\nevent = "l2_load"\nerno = "5"\n'),
                ('immediately', '[inject-error]\nevent = "l2_load"\n'
                 'immediatly = "on"\n'),
                ('new_state', '[set-state]\nevent = "l2_load"\n'
                 'newstate = "2"\n')):
            with open(rules, 'w', encoding='ascii') as file:
                file.write(text)
            self.is_offered(right, 'firn-io', debug)
            self.is_offered(right, 'firn-img', 'info', debug)
        plain = 'blkdebug::' + self.image
        for right, *commands in (
                ('l2_load', 'break l2_lod A'),
                ('cluster_alloc_bytes', 'break cluster_alloc_byte A'),
                ('one', 'break l2_load one', 'resume on'),
                ('one', 'break l2_load one', 'remove_break onne')):
            self.is_offered(right, 'firn-io', plain, *[
                word for text in commands for word in ('-c', text)])

    def test_long_words_for_what_has_a_letter_only(self):
        for right, *words in (('-l', 'snapshot', '--lst', 'a'),
                              ('-c', 'snapshot', '--create', 'x', 'a'),
                              ('-d', 'snapshot', '--delete=x', 'a'),
                              ('-n', 'convert', '--no-create', 'a', 'b'),
                              ('-b', 'rebase', '--backing=x', 'a')):
            self.is_offered(right, 'firn-img', *words)

    def is_offered(self, right, *words):
        """In one line on standard error, and the status says it failed."""
        with self.subTest(words=words):
            done = run(*words)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, rf"\A{words[0]}: [^\n]*did you mean "
                             rf"'{re.escape(right)}'\?[^\n]*\n\Z")

    def test_values_of_the_other_tools(self):
        for right, *words in (
                ('writeback', 'firn-io', '-t', 'writebak', self.image),
                ('unmap', 'firn-io', '-d', 'unmpa', self.image),
                ('native', 'firn-io', '-i', 'nativ', self.image),
                ('threads', 'firn-img', 'bench', '-i', 'thread', self.image),
                ('-P', 'firn-io', '-c', 'aio_write -p 1 0 1k', self.image),
                ('-r', 'firn-io', '-c', 'reopen -R', self.image),
                ('-m', 'firn-io', '-c', 'truncate -M off 1M', self.image),
                ('-s', 'firn-io', '-c', 'open -S ' + self.image),
                ('json', 'firn-vmstate', 'list', '--output', 'jsn',
                 self.image),
                ('none', 'firn-vmstate', 'list', '--cache', 'nne',
                 self.image),
                ('memfd', 'firn-vmm', '--memory-backend', 'memf')):
            with self.subTest(words=words):
                done = run(*words)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(f"did you mean '{right}'?", done.stderr)

    def test_an_ambiguous_start_is_answered_with_all(self):
        self.says("convert: option '--target' can be one of "
                  '--target-image-opts, --target-is-zero', 'firn-img',
                  'convert', '--target', 'a', 'b')


if __name__ == '__main__':
    unittest.main(verbosity=2)
