/* SPDX-License-Identifier: MIT */
/*
 * What --help says, for the program and for each subcommand.
 *
 * Which options a subcommand takes is read from what it gives to img_getopt();
 * here are only the texts. A text that is not found leaves a bare option in
 * the list, which tests/integration/test_man_pages.py does not let pass.
 */
#include "tools/img/common.h"

typedef struct OptionText {
    const char *name;       /* the letter, or the long name where none is */
    const char *argument;   /* NULL: takes none */
    const char *text;
} OptionText;

/* Those that mean the same wherever they are and nothing else is said. */
static const OptionText shared[] = {
    { "b", "FILE", "the backing file" },
    { "F", "FORMAT", "format of the backing file" },
    { "f", "FORMAT", "format of the image; probed without it" },
    { "h", NULL, "this text" },
    { "image-opts", NULL, "the image's name is driver=...,file.filename=..." },
    { "O", "FORMAT", "format of the new image (raw)" },
    { "o", "NAME=VALUE,...", "options of the format; -o help lists them" },
    { "object", "SPEC", "secret,id=ID,data=TEXT: a passphrase" },
    { "output", "human|json", "what the answer looks like" },
    { "p", NULL, "show progress, as SIGUSR1 does once" },
    { "q", NULL, "print nothing but errors" },
    { "r", "RATE", "bytes per second at most" },
    { "T", "CACHE", "cache mode of what is read" },
    { "t", "CACHE", "cache mode of what is written" },
    { "U", NULL, "open although others write to it" },
    { 0 },
};

static const OptionText amend_options[] = {
    { "force", NULL, "allow what can make an image unreadable" },
    { "o", "NAME=VALUE,...", "what to change, passphrases too; -o help lists "
      "it" },
    { 0 },
};

static const OptionText bench_options[] = {
    { "c", "COUNT", "how many requests (75000)" },
    { "d", "DEPTH", "how many at a time (64)" },
    { "flush-interval", "N", "with -w: flush after every N writes" },
    { "i", "AIO", "native, threads or io_uring" },
    { "n", NULL, "the same as -i native" },
    { "no-drain", NULL, "flush without waiting for writes under way" },
    { "o", "OFFSET", "where the first request is (0)" },
    { "pattern", "BYTE", "what is written (0)" },
    { "q", NULL, "accepted, no effect" },
    { "S", "STEP", "from one request to the next (SIZE)" },
    { "s", "SIZE", "of a request (4k)" },
    { "t", "CACHE", "cache mode" },
    { "w", NULL, "write" },
    { 0 },
};

static const OptionText bitmap_options[] = {
    { "add", NULL, "create the bitmap" },
    { "remove", NULL, "delete the bitmap" },
    { "clear", NULL, "forget what it has recorded" },
    { "enable", NULL, "record writes from now on" },
    { "disable", NULL, "record no more writes" },
    { "merge", "NAME", "add what the bitmap NAME has recorded" },
    { "b", "FILE", "the bitmap to merge is in this image" },
    { "F", "FORMAT", "format of that image" },
    { "g", "SIZE", "with --add: bytes for one bit (64k)" },
    { 0 },
};

static const OptionText check_options[] = {
    { "r", "leaks|all", "repair leaked clusters only, or all" },
    { 0 },
};

static const OptionText commit_options[] = {
    { "b", "BASE", "commit into this backing file" },
    { "d", NULL, "do not empty the overlay" },
    { 0 },
};

static const OptionText compare_options[] = {
    { "f", "FORMAT", "format of FILE1; probed without it" },
    { "F", "FORMAT", "format of FILE2; probed without it" },
    { "s", NULL, "sizes and what is allocated must be equal, too" },
    { 0 },
};

static const OptionText convert_options[] = {
    { "B", "FILE", "the target is an overlay of this file" },
    { "bitmaps", NULL, "copy the persistent bitmaps, too" },
    { "C", NULL, "let the kernel copy where it can" },
    { "c", NULL, "compress" },
    { "f", "FORMAT", "format of the sources; probed without it" },
    { "l", "SNAPSHOT", "copy this one: id, name or snapshot.id=ID" },
    { "m", "COUNT", "copies in flight (8)" },
    { "n", NULL, "write into a target that is there already" },
    { "O", "FORMAT", "format of the target (raw)" },
    { "S", "SIZE", "leave out runs of zeroes of SIZE (4k); 0: none" },
    { "salvage", NULL, "what cannot be read becomes zeroes" },
    { "skip-broken-bitmaps", NULL, "with --bitmaps: not the inconsistent ones" },
    { "source-image-opts", NULL, "the same as --image-opts" },
    { "target-image-opts", NULL, "with -n: TARGET is a list of options" },
    { "target-is-zero", NULL, "with -n: the target reads as zeroes" },
    { "W", NULL, "write in any order" },
    { 0 },
};

static const OptionText create_options[] = {
    { "b", "FILE", "the image is an overlay of this file" },
    { "f", "FORMAT", "format of the image (raw)" },
    { "u", NULL, "do not look at the backing file" },
    { 0 },
};

static const OptionText info_options[] = {
    { "backing-chain", NULL, "also of the files behind it" },
    { 0 },
};

static const OptionText map_options[] = {
    { "l", "BYTES", "how much of the disk" },
    { "s", "OFFSET", "where on the disk to begin" },
    { 0 },
};

static const OptionText measure_options[] = {
    { "l", "SNAPSHOT", "measure this snapshot of FILE" },
    { "size", "SIZE", "of an empty disk, in place of FILE" },
    { 0 },
};

static const OptionText rebase_options[] = {
    { "b", "FILE", "the new backing file; '' for none" },
    { "c", NULL, "compress what is copied" },
    { "T", "CACHE", "cache mode of the backing files" },
    { "t", "CACHE", "cache mode of the image" },
    { "u", NULL, "change the name only, whatever the files hold" },
    { 0 },
};

static const OptionText resize_options[] = {
    { "preallocation", "MODE", "off, metadata, falloc or full: what it gets" },
    { "shrink", NULL, "allow a smaller size" },
    { 0 },
};

static const OptionText snapshot_options[] = {
    { "a", "NAME", "apply a snapshot, by id or name" },
    { "c", "NAME", "create one" },
    { "d", "NAME", "delete one, by name or id" },
    { "l", NULL, "list them" },
    { 0 },
};

typedef struct Page {
    const char *name;
    const char *synopsis;   /* behind [OPTIONS] */
    const char *text;
    const char *example;
    const OptionText *options;  /* NULL: shared ones only */
} Page;

static const Page pages[] = {
    { "amend", "-o NAME=VALUE,... FILE",
      "Change what an image was created with.",
      "-o compat=1.1 disk.qcow2", amend_options },
    { "bench", "FILE", "Run equal requests and tell how long they took.",
      "-c 10000 -t none disk.qcow2", bench_options },
    { "bitmap", "FILE BITMAP",
      "Change the persistent dirty bitmaps of an image.",
      "--add -g 1M disk.qcow2 monday", bitmap_options },
    { "check", "FILE",
      "Check an image, and repair it. Exit status: 0 sound, 1 the check\n"
      "failed, 2 corrupt, 3 leaks only, 63 nothing to check in this format.",
      "-r leaks disk.qcow2", check_options },
    { "commit", "FILE", "Copy what an overlay holds into its backing file.",
      "-p overlay.qcow2", commit_options },
    { "compare", "FILE1 FILE2",
      "Compare two disks. Exit status: 0 equal, 1 different, 2 cannot open,\n"
      "3 no allocation status, 4 cannot read.",
      "disk.raw disk.qcow2", compare_options },
    { "convert", "FILE... TARGET",
      "Copy one or more disks, one behind the other, into a new image.",
      "-p -c -O qcow2 disk.raw disk.qcow2", convert_options },
    { "create", "FILE [SIZE]", "Make an image.",
      "-f qcow2 -b base.raw -F raw disk.qcow2", create_options },
    { "dd", "[bs=SIZE] [count=N] [skip=N] if=FILE of=FILE",
      "Copy blocks of a disk into a new image.",
      "bs=1M count=8 if=disk.qcow2 of=start.raw", NULL },
    { "info", "FILE", "Tell about an image.",
      "--backing-chain disk.qcow2", info_options },
    { "map", "FILE", "Tell where the data of a disk is.",
      "--output=json disk.qcow2", map_options },
    { "measure", "--size SIZE | FILE",
      "Tell how much space a new image would take.",
      "-O qcow2 disk.raw", measure_options },
    { "rebase", "-b FILE FILE", "Give an image another backing file.",
      "-b other.qcow2 -F qcow2 disk.qcow2", rebase_options },
    { "resize", "FILE [+|-]SIZE", "Change the size of a disk.",
      "disk.qcow2 +10G", resize_options },
    { "snapshot", "FILE",
      "List, apply, create or delete the snapshots inside an image.",
      "-c before-update disk.qcow2", snapshot_options },
};

static void print_all(void)
{
    fputs("Usage: firn-img [-T SPEC] COMMAND [OPTIONS] FILE...\n\n"
          "Disk images of formats qcow2 and raw; takes the command lines of\n"
          "qemu-img.\n\n", stdout);
    for (size_t i = 0; i < G_N_ELEMENTS(pages); i++) {
        const char *text = pages[i].text;

        /* The first sentence. */
        printf("  %-9s %.*s\n", pages[i].name, (int)strcspn(text, ".") + 1,
               text);
    }
    fputs("\n  -h, --help        this text; 'firn-img COMMAND --help' has the "
          "options\n"
          "  -T, --trace SPEC  accepted, no effect\n"
          "  -V, --version     the version\n\n"
          "Sizes are bytes, or a number with k, M, G, T, P or E.\n"
          "Supported formats: qcow2 raw\n"
          "Example:\n  firn-img info disk.qcow2\n", stdout);
}

static const OptionText *find_text(const OptionText *list, const char *name)
{
    for (; list && list->name; list++) {
        if (!strcmp(list->name, name)) {
            return list;
        }
    }
    return NULL;
}

static void print_option(const Page *page, char letter, const char *name)
{
    char key[2] = { letter, '\0' };
    const OptionText *t = find_text(page->options, letter ? key : name);
    g_autoptr(GString) left = g_string_new("  ");

    t = t ? t : find_text(shared, letter ? key : name);
    if (letter) {
        g_string_append_printf(left, "-%c%s", letter, name ? ", " : "");
    } else {
        g_string_append(left, "    ");
    }
    if (name) {
        g_string_append_printf(left, "--%s", name);
    }
    if (t && t->argument) {
        g_string_append_printf(left, " %s", t->argument);
    }
    if (left->len > 26) {
        g_string_append_c(left, '\n');
        fputs(left->str, stdout);
        g_string_truncate(left, 0);
    }
    printf("%-28s%s\n", left->str, t ? t->text : "");
}

static gint by_letter(gconstpointer a, gconstpointer b)
{
    const char *x = a, *y = b;
    int order = g_ascii_tolower(*x) - g_ascii_tolower(*y);

    return order ? order : *y - *x;
}

/* Those with a letter, in order of letters, and then the long ones. */
static void print_options(const Page *page, const char *letters,
                          const struct option *options)
{
    g_autofree char *sorted = g_strdup(letters);
    size_t n = 0;

    for (const char *p = letters; *p; p++) {
        if (g_ascii_isalpha(*p)) {
            sorted[n++] = *p;
        }
    }
    qsort(sorted, n, 1, by_letter);
    for (size_t i = 0; i < n; i++) {
        const struct option *o = options;

        while (o->name && o->val != sorted[i]) {
            o++;
        }
        print_option(page, sorted[i], o->name);
    }
    for (const struct option *o = options; o->name; o++) {
        if (o->val >= 256) {
            print_option(page, '\0', o->name);
        }
    }
}

void img_print_help(const char *name, const char *letters,
                    const struct option *options)
{
    for (size_t i = 0; i < G_N_ELEMENTS(pages); i++) {
        const Page *page = &pages[i];

        if (!strcmp(name, page->name)) {
            printf("Usage: firn-img %s [OPTIONS] %s\n\n%s\n\n", page->name,
                   page->synopsis, page->text);
            print_options(page, letters, options);
            printf("\nExample:\n  firn-img %s %s\n", page->name,
                   page->example);
            return;
        }
    }
    print_all();
}
