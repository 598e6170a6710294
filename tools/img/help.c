/* SPDX-License-Identifier: MIT */
/* What --help says, for the program and for each subcommand. */
#include "tools/img/common.h"

static const struct {
    const char *name;
    const char *synopsis;
    const char *text;
} pages[] = {
    { "amend", "[-f FMT] [-t CACHE] [-p] [-q] [--force] -o OPTIONS FILE",
      "Change what an image was created with (-o help lists what)." },
    { "bench", "[-c COUNT] [-d DEPTH] [-f FMT] [--flush-interval=N] "
      "[-i AIO] [-n]\n    [--no-drain] [-o OFFSET] [--pattern=BYTE] [-q] "
      "[-s SIZE] [-S STEP]\n    [-t CACHE] [-w] [-U] FILE",
      "Run a simple sequential benchmark." },
    { "bitmap", "(--add | --remove | --clear | --enable | --disable | "
      "--merge NAME)...\n    [-b FILE [-F FMT]] [-g SIZE] [-f FMT] FILE "
      "BITMAP",
      "Change the persistent dirty bitmaps of an image." },
    { "check", "[-f FMT] [-r leaks|all] [-q] [-T CACHE] "
      "[--output=human|json] [-U] FILE",
      "Check an image. Exit status: 0 sound, 1 the check failed, 2 corrupt,\n"
      "3 leaks only, 63 nothing to check in this format." },
    { "commit", "[-f FMT] [-t CACHE] [-b BASE] [-r RATE] [-d] [-p] [-q] FILE",
      "Copy what an overlay holds into its backing file." },
    { "compare", "[-f FMT] [-F FMT] [-T CACHE] [-p] [-q] [-s] [-U] FILE1 "
      "FILE2",
      "Compare two disks. Exit status: 0 equal, 1 different, 2 cannot open,\n"
      "3 no allocation status, 4 cannot read." },
    { "convert", "[-f FMT] [-O FMT] [-o OPTIONS] [-B FILE [-F FMT]] [-c] "
      "[-l SNAPSHOT]\n    [-n] [-p] [-q] [-S SIZE] [-t CACHE] [-T CACHE] "
      "[-m COUNT] [-W] [-C] [-U]\n    [-r RATE] [--bitmaps] [--salvage] "
      "[--target-is-zero]\n    [--target-image-opts] FILE... TARGET",
      "Copy one or more disks, one behind the other, into a new image." },
    { "create", "[-f FMT] [-b FILE [-F FMT]] [-u] [-o OPTIONS] [-q] FILE "
      "[SIZE]",
      "Make an image (-o help lists options)." },
    { "dd", "[-f FMT] [-O FMT] [-U] [bs=SIZE] [count=N] [skip=N] if=FILE "
      "of=FILE",
      "Copy blocks of a disk into a new image." },
    { "info", "[-f FMT] [--output=human|json] [--backing-chain] [-U] FILE",
      "Tell about an image." },
    { "map", "[-f FMT] [-s OFFSET] [-l BYTES] [--output=human|json] [-U] "
      "FILE",
      "Tell where the data of a disk is." },
    { "measure", "[-O FMT] [-o OPTIONS] [--output=human|json] [-f FMT]\n"
      "    [-l SNAPSHOT] [-U] (--size SIZE | FILE)",
      "Tell how much space a new image would take." },
    { "rebase", "[-f FMT] [-t CACHE] [-T CACHE] [-p] [-q] [-u | -c] [-U]\n"
      "    -b FILE [-F FMT] FILE",
      "Give an image another backing file (-b '' for none)." },
    { "resize", "[-f FMT] [--preallocation=MODE] [-q] [--shrink] FILE "
      "[+|-]SIZE",
      "Change the size of a disk." },
    { "snapshot", "[-f FMT] [-l | -a NAME | -c NAME | -d NAME] [-q] [-U] "
      "FILE",
      "List, apply, create or delete an internal snapshot." },
};

static void print_all(void)
{
    fputs("Usage: firn-img [-h] [-V] [-T SPEC] COMMAND [OPTIONS]\n\n"
          "Disk images of formats qcow2 and raw; takes the command lines of\n"
          "qemu-img.\n\n", stdout);
    for (size_t i = 0; i < G_N_ELEMENTS(pages); i++) {
        printf("  %s %s\n", pages[i].name, pages[i].synopsis);
    }
    fputs("\nEvery command also takes --object secret,id=ID,..., --image-opts"
          " and --help.\nSizes are bytes, or a number with k, M, G, T, P or E."
          "\n", stdout);
}

bool img_print_help(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(pages); i++) {
        if (!strcmp(name, pages[i].name)) {
            printf("Usage: firn-img %s %s\n\n%s\n", name, pages[i].synopsis,
                   pages[i].text);
            return true;
        }
    }
    print_all();
    return false;
}
