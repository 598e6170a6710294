/* SPDX-License-Identifier: MIT */
/*
 * The command line of the subcommands, messages, progress and interruption.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "block/vmstate.h"
#include "tools/tool-common.h"
#include "util/aio.h"
#include "util/nearest.h"
#include "util/units.h"

#define DRAW_NS (100 * 1000 * 1000)

static volatile sig_atomic_t interrupted;
static ToolSource *bar_owner;   /* whose bar is on the terminal */

static void clear_bar(void)
{
    if (bar_owner && bar_owner->drawn) {
        fputs("\r\033[K", stderr);
        bar_owner->drawn = false;
    }
}

char *tool_printable(const char *text)
{
    char *valid = g_utf8_make_valid(text, -1);
    char *p;

    for (p = valid; *p; p++) {
        /* C0 and DEL; C1 is 0xc2 0x80..0x9f. */
        if (g_ascii_iscntrl(*p)) {
            *p = '?';
        } else if ((uint8_t)p[0] == 0xc2 && (uint8_t)p[1] < 0xa0) {
            p[0] = p[1] = '?';
        }
    }
    return valid;
}

void tool_error(const char *fmt, ...)
{
    g_autofree char *text = NULL;
    g_autofree char *printable = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    printable = tool_printable(text);
    clear_bar();
    fprintf(stderr, "firn-vmstate: %s\n", printable);
}

/* --- Options --- */

static const char common_options[] = "wctUiqh";
static const char short_options[] = "Uqho";     /* others are long only */

/* The letter is how a command lists it. */
static const struct {
    char letter;
    const char *name;
    const char *argument;       /* NULL: takes none */
    const char *text;
} option_table[] = {
    { 'J', "output", "FORMAT", "human (default) or json" },
    { 'D', "device", "NAME", "only sections of this name" },
    { 'F', "no-fields", NULL, "sections, but not what is in them" },
    { 'o', "out", "FILE", "where to; extract takes '-' as standard output" },
    { 'B', "block", "NAME", "only this RAM block, to FILE" },
    { 'E', "elf", NULL, "the largest RAM block as an ELF core file, with\n"
      "the registers of the vCPUs (x86)" },
    { 'G', "below-4g", "SIZE", "with --elf: how much of it is below 4 GiB\n"
      "(default: what the machine type does)" },
    { 'N', "no-checksum", NULL, "structure only, at the speed of the disk" },
    { 'w', "workers", "N", "requests in flight, 1 to 64 (default 8)" },
    { 'c', "chunk", "SIZE", "bytes of each request (default: 1M or the\n"
      "cluster size, whichever is larger)" },
    { 't', "cache", "MODE", "none, directsync, writeback (default),\n"
      "writethrough or unsafe" },
    { 'U', "force-share", NULL, "read the image even if it is in use" },
    { 'i', "image-opts", NULL, "IMAGE is driver=...,file.filename=..." },
    { 'q', "quiet", NULL, "no progress bar and no summary" },
    { 'h', "help", NULL, "this text" },
};

static bool takes(const ToolCommand *command, char letter)
{
    return strchr(common_options, letter) || strchr(command->options, letter);
}

static void print_help(const ToolCommand *command)
{
    printf("Usage: firn-vmstate %s %s [OPTIONS]\n\n%s\n", command->name,
           command->synopsis, command->help);
    for (size_t i = 0; i < G_N_ELEMENTS(option_table); i++) {
        g_auto(GStrv) text = g_strsplit(option_table[i].text, "\n", -1);
        const char *arg = option_table[i].argument;
        g_autofree char *name = NULL;

        if (!takes(command, option_table[i].letter)) {
            continue;
        }
        name = g_strconcat(option_table[i].name, arg ? " " : NULL, arg, NULL);
        if (strchr(short_options, option_table[i].letter)) {
            printf("  -%c, --%-20s%s\n", option_table[i].letter, name,
                   text[0]);
        } else {
            printf("      --%-20s%s\n", name, text[0]);
        }
        if (text[1]) {
            printf("%28s%s\n", "", text[1]);
        }
    }
    printf("\nExample:\n  firn-vmstate %s %s\n", command->name,
           command->example);
}

static int usage_error(const ToolCommand *command)
{
    fprintf(stderr, "Try 'firn-vmstate %s --help'.\n", command->name);
    return TOOL_USAGE;
}

static bool parse_workers(const char *text, unsigned *ret)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (!g_ascii_isdigit(*text) || *end || value < 1 ||
        value > VMSTATE_MAX_WORKERS) {
        tool_error("--workers takes a number from 1 to %d, not '%s'",
                   VMSTATE_MAX_WORKERS, text);
        return false;
    }
    *ret = (unsigned)value;
    return true;
}

static bool parse_chunk(const char *text, uint64_t *ret)
{
    uint64_t value;

    if (parse_size(text, &value) < 0 || value == 0 || value % 4096 != 0 ||
        value > VMSTATE_MAX_CHUNK) {
        tool_error("--chunk takes a multiple of 4096 up to 64M, not '%s'",
                   text);
        return false;
    }
    *ret = value;
    return true;
}

static bool refuse(const char *what, const char *value,
                   const char *const *names)
{
    g_autofree char *refusal = nearest_refusal(value, names);

    tool_error("%s: %s", what, refusal);
    return false;
}

static bool parse_output(const char *text, bool *ret)
{
    if (!g_str_equal(text, "human") && !g_str_equal(text, "json")) {
        return refuse("--output", text, NEAREST_LIST("human", "json"));
    }
    *ret = g_str_equal(text, "json");
    return true;
}

static bool parse_below_4g(const char *text, uint64_t *ret)
{
    uint64_t value;

    if (parse_size(text, &value) < 0 || value == 0 || value % 4096 != 0 ||
        value > 4ULL << 30) {
        tool_error("--below-4g takes a multiple of 4096 up to 4G, not '%s'",
                   text);
        return false;
    }
    *ret = value;
    return true;
}

static bool parse_cache(const char *text, const char **ret)
{
    unsigned flags = 0;

    if (bdrv_parse_cache_mode(text, &flags) < 0) {
        return refuse("--cache", text, bdrv_cache_modes);
    }
    *ret = text;
    return true;
}

/* Returns false after a message. */
static bool apply_option(int letter, ToolArgs *args)
{
    switch (letter) {
    case 'q':
        args->quiet = true;
        return true;
    case 'U':
        args->image.force_share = true;
        return true;
    case 'w':
        return parse_workers(optarg, &args->image.workers);
    case 'c':
        return parse_chunk(optarg, &args->image.chunk_bytes);
    case 't':
        return parse_cache(optarg, &args->image.cache);
    case 'i':
        args->image.image_opts = true;
        return true;
    case 'J':
        return parse_output(optarg, &args->json);
    case 'o':
        args->out = optarg;
        return true;
    case 'D':
        args->device = optarg;
        return true;
    case 'F':
        args->no_fields = true;
        return true;
    case 'B':
        args->block = optarg;
        return true;
    case 'E':
        args->elf = true;
        return true;
    case 'G':
        return parse_below_4g(optarg, &args->below_4g);
    case 'N':
        args->no_checksum = true;
        return true;
    default:
        g_assert_not_reached();
    }
}

static int take_operands(const ToolCommand *command, int argc, char **argv,
                         ToolArgs *args)
{
    int want = command->has_tag ? 2 : 1;

    if (argc - optind != want) {
        tool_error("'%s' takes %s", command->name,
                   want == 2 ? "an image and a snapshot's name or id"
                             : "one image");
        return usage_error(command);
    }
    args->image_name = argv[optind];
    args->tag = want == 2 ? argv[optind + 1] : NULL;
    if (command->needs_out && !args->out) {
        tool_error("'%s' needs -o FILE", command->name);
        return usage_error(command);
    }
    return -1;
}

int tool_parse(const ToolCommand *command, int argc, char **argv,
               ToolArgs *args)
{
    struct option longs[G_N_ELEMENTS(option_table) + 1] = { 0 };
    const char *shorts = takes(command, 'o') ? ":hqUo:" : ":hqU";
    unsigned i, n = 0;
    int letter;

    for (i = 0; i < G_N_ELEMENTS(option_table); i++) {
        if (takes(command, option_table[i].letter)) {
            longs[n++] = (struct option) {
                option_table[i].name,
                option_table[i].argument ? required_argument : no_argument,
                NULL, option_table[i].letter };
        }
    }
    *args = (ToolArgs){ 0 };
    opterr = 0;
    while ((letter = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
        if (letter == '?' || letter == ':') {
            g_autofree char *mistake = nearest_option_mistake(letter, argv,
                                                              shorts, longs);

            tool_error("%s: %s", command->name, mistake);
            return usage_error(command);
        }
        if (letter == 'h') {
            print_help(command);
            return TOOL_OK;
        }
        if (!apply_option(letter, args)) {
            return usage_error(command);
        }
    }
    return take_operands(command, argc, argv, args);
}

/* --- The image --- */

static void on_interrupt(int sig)
{
    interrupted = sig;
}

static void catch_interrupts(void)
{
    struct sigaction action = { .sa_handler = on_interrupt };

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

bool tool_open(ToolSource *source, const ToolArgs *args)
{
    g_autoptr(GError) err = NULL;
    int ret;

    *source = (ToolSource){
        .args = args,
        .bar = !args->quiet && isatty(STDERR_FILENO),
    };
    progress_init(&source->progress, 0, aio_now_ns());
    bar_owner = source;
    catch_interrupts();
    ret = stream_image_open(args->image_name, &args->image, &source->image,
                            &err);
    if (ret == 0 && args->tag) {
        ret = stream_image_find(source->image, args->tag, &source->snapshot,
                                &err);
    }
    if (ret < 0) {
        tool_image_error(source, ret, err);
        return false;
    }
    if (source->snapshot) {
        progress_set_total(&source->progress, source->snapshot->vm_state_size);
    }
    return true;
}

void tool_close(ToolSource *source)
{
    clear_bar();
    bar_owner = NULL;
    bdrv_snapshot_info_free(source->snapshot);
    stream_image_close(source->image);
}

static unsigned terminal_width(void)
{
    struct winsize size;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col < 20) {
        return 79;
    }
    return size.ws_col - 1U;
}

gboolean tool_interrupted(void)
{
    return interrupted != 0;
}

int tool_progress(ToolSource *source, uint64_t done)
{
    int64_t now = aio_now_ns();

    if (interrupted) {
        return -EINTR;
    }
    progress_update(&source->progress, done, now);
    if (source->bar && now - source->shown_ns >= DRAW_NS) {
        g_autoptr(GString) line = g_string_new("\r");

        progress_render(&source->progress, now, terminal_width(), line);
        g_string_append(line, "\033[K");
        fputs(line->str, stderr);
        fflush(stderr);
        source->shown_ns = now;
        source->drawn = true;
    }
    return 0;
}

/* What a person can do about @err, or NULL. */
static const char *hint(const ToolSource *source, int err)
{
    switch (err) {
    case -EAGAIN:
    case -EBUSY:
        return "it is in use; -U (--force-share) reads it nevertheless";
    case -EINTR:
        return "interrupted; no output file was left";
    case -EACCES:
    case -EPERM:
        return "check the file's permissions";
    case -EIO:
        return "the disk cannot be read there; 'firn-img check' tells whether "
               "the image is whole";
    case -EINVAL:
        return !source->snapshot ? NULL : "the vmstate is damaged or no VMM "
               "of the QEMU family wrote it; 'firn-vmstate extract' gets the "
               "raw bytes";
    default:
        return NULL;
    }
}

void tool_image_error(ToolSource *source, int err, const GError *error)
{
    const char *name = source->args->image_name;
    const char *text = error ? error->message : g_strerror(-err);
    const char *help = hint(source, err);

    if (g_str_has_prefix(text, name) && text[strlen(name)] == ':') {
        text += strlen(name) + 1 + strspn(text + strlen(name) + 1, " ");
    }
    tool_error("%s: %s%s%s%s", name, text, help ? " (" : "",
               help ? help : "", help ? ")" : "");
}

double tool_elapsed(const ToolSource *source)
{
    return (double)(aio_now_ns() - source->progress.start_ns) / 1e9;
}
