/* SPDX-License-Identifier: MIT */
/* Words that mean something to the tools: options, values, names, commands. */
#include "words-fuzz.h"

#include <glib.h>

#include "block/blkdebug-events.h"

const char *const fuzz_words[] = {
#define EVENT_NAME(symbol, name) name,
    BLKDBG_EVENT_TABLE(EVENT_NAME)
#undef EVENT_NAME
    /* files, and how they are named */
    "b.qcow2", "q.qcow2", "t.qcow2", "e.qcow2", "d.qcow2", "d.raw",
    "o.qcow2", "l.qcow2", "r.raw", "rules", "secret", "empty", "new", "null",
    "blkdebug:", "blkdebug::", "blkdebug:rules:", "blkverify:", "null-co://",
    "file:", "json:{\"driver\":\"qcow2\",\"file.filename\":\"q.qcow2\"}",
    "json:", "nbd://",
    /* drivers and options of nodes */
    "driver", "driver=", "qcow2", "raw", "file", "file.filename", "filename",
    "blkdebug", "blkverify", "null-co", "copy-on-read", "preallocate",
    "throttle", "image", "image.", "test", "test.", "file.", "backing.",
    "backing", "data-file.", "data-file", "read-only", "force-share",
    "auto-read-only", "cache.direct", "cache.no-flush", "discard", "unmap",
    "ignore", "detect-zeroes", "on", "off", "true", "no", "aio", "threads",
    "native", "io_uring", "locking", "auto", "size", "offset", "read-zeroes",
    "latency-ns", "config", "align", "max-transfer", "opt-write-zero",
    "inject-error.0.", "inject-error.0.event", "set-state.0.event",
    "suspend.0.event", "suspend.0.tag", "event", "errno", "iotype", "sector",
    "once", "immediately", "state", "new_state", "nth", "write", "read",
    "flush", "block-status", "prealloc-size", "prealloc-align",
    "lazy-refcounts", "pass-discard-request", "pass-discard-snapshot",
    "pass-discard-other", "overlap-check", "overlap-check.template", "all",
    "cached", "constant", "none", "l2-cache-size", "l2-cache-entry-size",
    "refcount-cache-size", "cache-size", "cache-clean-interval",
    "encrypt.key-secret", "encrypt.format", "allow-data-file",
    /* creating and amending */
    "backing_file", "backing_fmt", "cluster_size", "compat", "compat=0.10",
    "compression_type", "zstd", "zlib", "data_file", "data_file_raw",
    "encryption", "luks", "aes", "encrypt.cipher-alg", "encrypt.cipher-mode",
    "encrypt.hash-alg", "encrypt.iter-time=1", "encrypt.ivgen-alg",
    "encrypt.keyslot", "encrypt.new-secret", "encrypt.old-secret",
    "encrypt.state", "active", "inactive", "extended_l2", "extent_size_hint",
    "lazy_refcounts", "nocow", "preallocation", "metadata", "falloc", "full",
    "refcount_bits", "help", "?",
    "secret,id=s,data=abc", "secret", "id", "data", "format", "base64",
    "jail", "qom-type",
    /* subcommands and options of firn-img */
    "amend", "bitmap", "check", "commit", "compare", "convert", "create",
    "dd", "info", "map", "measure", "rebase", "resize", "snapshot", "-f",
    "-F", "-O", "-o", "-b", "-B", "-c", "-d", "-l", "-n", "-p", "-q", "-S",
    "-s", "-t", "-T", "-u", "-U", "-W", "-a", "-g", "-m", "-P", "-v", "-z",
    "--output=json", "--image-opts", "--target-image-opts", "--object",
    "--salvage", "--target-is-zero", "--bitmaps", "--skip-broken-bitmaps",
    "--shrink", "--preallocation=metadata", "--add", "--remove", "--clear",
    "--enable", "--disable", "--merge", "--force", "--size", "-r all",
    "-r leaks", "bs=512", "count=1", "if=q.qcow2", "of=new", "skip=1",
    "writeback", "unsafe", "directsync",
    /* commands of firn-io */
    "read", "write", "readv", "writev", "aio_read", "aio_write",
    "aio_flush", "multiwrite", "discard", "truncate", "length", "open",
    "open -o", "close", "reopen", "reopen -r", "reopen -w", "reopen -c",
    "reopen -o", "quit", "alloc", "break", "resume", "wait_break",
    "remove_break", "sleep 1", "0 512", "0 64k", "A", "B",
};
const size_t fuzz_nb_words = G_N_ELEMENTS(fuzz_words);
