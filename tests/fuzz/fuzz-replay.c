/* SPDX-License-Identifier: MIT */
/*
 * A main() for fuzz targets without libFuzzer: runs the files that it is given,
 * and those of directories, once each, and then mutated a few times.
 *
 *   fuzz-open-replay [-m ROUNDS] FILE|DIR...
 */
#include <glib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* libFuzzer's interface; qcow2-fuzz.h and words-fuzz.h have it, too. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t max,
                               unsigned seed);

#define TIME_LIMIT 60       /* seconds for one input */
#define ROOM 4096           /* for what a mutation may add */

static unsigned nb_run;

static void run_mutated(const char *text, gsize bytes, unsigned seed)
{
    g_autofree uint8_t *copy = g_malloc(bytes + ROOM);

    memcpy(copy, text, bytes);
    bytes = LLVMFuzzerCustomMutator(copy, bytes, bytes + ROOM, seed);
    LLVMFuzzerTestOneInput(copy, bytes);
}

static int run_file(const char *path, unsigned rounds)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    gsize bytes;

    if (!g_file_get_contents(path, &text, &bytes, &error)) {
        dprintf(STDERR_FILENO, "fuzz-replay: %s\n", error->message);
        return 1;
    }
    /* The last one named is the culprit. Targets may have taken stderr. */
    dprintf(STDERR_FILENO, "%s\n", path);
    for (unsigned i = 0; i <= rounds; i++) {
        alarm(TIME_LIMIT);
        if (i) {
            run_mutated(text, bytes, i);
        } else {
            LLVMFuzzerTestOneInput((const uint8_t *)text, bytes);
        }
        nb_run++;
    }
    return 0;
}

static int run_path(const char *path, unsigned rounds)
{
    g_autoptr(GDir) dir = NULL;
    const char *name;
    int status = 0;

    if (!g_file_test(path, G_FILE_TEST_IS_DIR)) {
        return run_file(path, rounds);
    }
    dir = g_dir_open(path, 0, NULL);
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, name, NULL);

        status |= *name == '.' ? 0 : run_path(file, rounds);
    }
    return status;
}

int main(int argc, char **argv)
{
    unsigned rounds = 0;
    int status = 0, i = 1;

    if (argc > 2 && !strcmp(argv[1], "-m")) {
        rounds = strtoul(argv[2], NULL, 10);
        i = 3;
    }
    for (; i < argc; i++) {
        status |= run_path(argv[i], rounds);
    }
    dprintf(STDERR_FILENO, "%u inputs\n", nb_run);
    return status || !nb_run;
}
