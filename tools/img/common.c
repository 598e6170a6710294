/* SPDX-License-Identifier: MIT */
/* Messages, options, sizes and the opening of images. */
#include "tools/img/common.h"

#include <poll.h>
#include <stdarg.h>
#include <unistd.h>

#include "block/secret.h"
#include "tools/one-line.h"
#include "tools/stop.h"
#include "util/error.h"
#include "util/nearest.h"
#include "util/units.h"

AioContext *img_ctx;

static char *stop_text;     /* of img_when_stopped() */
static const char *late_text = ""; /* of img_when_stopped_late() */

static void message(const char *kind, const char *fmt, va_list ap)
{
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    g_autofree char *line = one_line(text);

    img_progress_clear();
    fflush(stdout);
    fprintf(stderr, "firn-img: %s%s\n", kind, line);
}

int img_error(const char *fmt, ...)
{
    va_list ap;

    if (stop_signal()) {
        return 1; /* img_tell_stopped() says it */
    }
    va_start(ap, fmt);
    message("", fmt, ap);
    va_end(ap);
    return 1;
}

void img_warn(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    message("warning: ", fmt, ap);
    va_end(ap);
}

/* A reader that has seen enough (| head) is no failure. */
static bool reader_is_gone(void)
{
    struct pollfd p = { .fd = STDOUT_FILENO, .events = POLLOUT };

    return poll(&p, 1, 0) == 1 && (p.revents & POLLERR);
}

int img_end_output(int status)
{
    errno = EIO; /* of a write that failed earlier nobody knows why */
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == 0 &&
        !reader_is_gone()) {
        return img_error("cannot write standard output: %s",
                         g_strerror(errno));
    }
    return status;
}

void img_when_stopped(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_free(stop_text);
    stop_text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
}

void img_when_stopped_late(const char *text)
{
    late_text = text;
}

static void tell(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

static void tell(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    message("", fmt, ap);
    va_end(ap);
}

void img_tell_stopped(const char *command, bool done)
{
    if (!stop_signal()) {
        return;
    }
    tell("%s: interrupted by %s%s%s", command, stop_signal_name(),
         done ? ", when all was done" : stop_text ? "; " : "",
         done ? late_text : stop_text ? stop_text : "");
}

int img_fail_in(const char *filename, GError **err, int ret)
{
    const char *text = *err ? (*err)->message : g_strerror(-ret);
    g_autofree char *quoted = g_strdup_printf("'%s'", filename);
    g_autofree char *front = g_strdup_printf("%s:", filename);
    g_autofree char *subject = g_strdup_printf("%s ", filename);

    if (strstr(text, quoted) || strstr(text, front) ||
        g_str_has_prefix(text, subject)) {
        img_error("%s", text);
    } else {
        img_error("%s: %s", filename, text);
    }
    g_clear_error(err);
    return 1;
}

int img_fail(GError **err, int ret)
{
    img_error("%s", *err ? (*err)->message : g_strerror(-ret));
    g_clear_error(err);
    return 1;
}

/* ---- options ---- */

static int add_object(const char *text)
{
    GError *err = NULL;
    int ret = secret_add_object(text, &err);

    return ret < 0 ? img_fail(&err, ret) : 0;
}

int img_getopt(int argc, char **argv, const char *letters,
               const struct option *options)
{
    g_autofree char *mistake = NULL;

    opterr = 0;
    for (;;) {
        int c = getopt_long(argc, argv, letters, options, NULL);

        switch (c) {
        case 'h':
            img_print_help(argv[0], letters, options);
            exit(img_end_output(0));
        case '?':
        case ':':
            mistake = nearest_option_mistake(c, argv, letters, options);
            img_error("%s%s%s", img_is_command(argv[0]) ? argv[0] : "",
                      img_is_command(argv[0]) ? ": " : "", mistake);
            optopt = 0;
            return '?';
        case IMG_OPT_OBJECT:
            if (add_object(optarg)) {
                optopt = c;
                return '?';
            }
            break;
        default:
            return c;
        }
    }
}

/* ---- numbers ---- */

int img_parse_size(const char *text, const char *what, uint64_t *ret)
{
    uint64_t v;
    int err = parse_size(text, &v);

    if (err == -ERANGE || (err == 0 && v > INT64_MAX)) {
        return img_error("%s '%s' is larger than 2^63-1", what, text);
    }
    if (err < 0) {
        return img_error("%s '%s' is not a size; write bytes, or a number "
                         "with k, M, G, T, P or E", what, text);
    }
    *ret = v;
    return 0;
}

int img_parse_number(const char *text, const char *what, uint64_t min,
                     uint64_t max, uint64_t *ret)
{
    char *end;
    uint64_t v;

    errno = 0;
    v = g_ascii_strtoull(text, &end, 0);
    if (!g_ascii_isxdigit(*text) || *end || errno || v < min || v > max) {
        return img_error("%s '%s' is not a number from %" PRIu64 " to %"
                         PRIu64, what, text, min, max);
    }
    *ret = v;
    return 0;
}

int img_refuse(const char *what, const char *value, const char *const *names)
{
    g_autofree char *refusal = nearest_refusal(value, names);

    return img_error("%s: %s", what, refusal);
}

int img_parse_output(const char *text, bool *ret_json)
{
    if (strcmp(text, "json") && strcmp(text, "human")) {
        return img_refuse("--output", text, NEAREST_LIST("human", "json"));
    }
    *ret_json = !strcmp(text, "json");
    return 0;
}

char *img_size_text(uint64_t bytes)
{
    static const char *const units[] = {
        "", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"
    };
    double v = bytes;
    size_t i = 0;

    /* 1000 of a unit would not fit three digits. */
    for (; v >= 1000 && i < G_N_ELEMENTS(units) - 1; i++) {
        v /= 1024;
    }
    return g_strdup_printf("%0.3g %sB", v, units[i]);
}

/* ---- images ---- */

int img_check_format(const char *name)
{
    if (strcmp(name, "raw") && strcmp(name, "qcow2")) {
        g_autofree char *hint = NULL;
        Nearest n;

        nearest_init(&n, name);
        nearest_offer(&n, "qcow2");
        nearest_offer(&n, "raw");
        hint = nearest_hint(&n, "", "; there are qcow2 and raw");
        return img_error("format '%s' is not supported%s", name, hint);
    }
    return 0;
}

int img_cache_mode(const char *mode, char letter, unsigned *flags)
{
    if (bdrv_parse_cache_mode(mode, flags) < 0) {
        char option[] = { '-', letter, '\0' };

        return img_refuse(option, mode, bdrv_cache_modes);
    }
    return 0;
}

/* What one names oneself may name its data file. */
static int source_options(const ImgSource *src, BdrvOptions **ret)
{
    BdrvOptions *o = src->options;
    BdrvOptions *words = NULL;
    GError *err = NULL;
    int r;

    if (src->image_opts) {
        r = bdrv_options_parse(&words, src->filename, &err);
        if (r < 0) {
            bdrv_options_free(o);
            prefix_error(&err, r, "--image-opts '%s': ", src->filename);
            return img_fail(&err, r);
        }
        if (o) {
            bdrv_options_merge(words, o);
        }
        o = words;
    }
    o = o ? o : bdrv_options_new();
    if (src->format) {
        bdrv_options_set(o, "driver", src->format);
    }
    bdrv_options_set_default(o, "allow-data-file", "on");
    *ret = o;
    return 0;
}

/* The same after a look at the format. */
static int take_words(const ImgSource *src, BdrvOptions **ret)
{
    if (src->format && src->image_opts) {
        bdrv_options_free(src->options);
        return img_error("--image-opts and a format exclude each other; say "
                         "driver=%s", src->format);
    }
    if (src->format && img_check_format(src->format)) {
        bdrv_options_free(src->options);
        return 1;
    }
    return source_options(src, ret);
}

int img_expand_source(ImgSource *src)
{
    GError *err = NULL;
    BdrvOptions *o;
    int ret;

    if (take_words(src, &o)) {
        src->options = NULL;
        return 1;
    }
    src->options = o;
    src->format = NULL;
    if (src->image_opts) {
        src->filename = NULL;
        src->image_opts = false;
    }
    ret = bdrv_options_expand_json(o, &src->filename, &err);
    return ret < 0 ? img_fail(&err, ret) : 0;
}

BlockBackend *img_open(const ImgSource *src)
{
    BdrvOptions *o;
    BlockBackend *blk = NULL;
    GError *err = NULL;
    int ret;

    if (take_words(src, &o)) {
        return NULL;
    }
    ret = blk_open(img_ctx, src->image_opts ? NULL : src->filename, o,
                   src->flags, &blk, &err);
    if (ret < 0) {
        img_fail(&err, ret);
        return NULL;
    }
    return blk;
}

/* One file of a chain: is it @name? Else *@ret_next is the file behind it, or
 * NULL; its options are the caller's. */
static bool layer_is(const ImgSource *src, const char *name,
                     BlkImageInfo **ret_next)
{
    BdrvOptions *o = bdrv_options_new();
    BlockBackend *blk = NULL;
    bool found;

    *ret_next = NULL;
    if (bdrv_is_same_file(src->filename, name)) {
        bdrv_options_free(o);
        return true;
    }
    if (src->format) {
        bdrv_options_set(o, "driver", src->format);
    }
    if (blk_open(img_ctx, src->filename, o, BDRV_O_NO_BACKING | BDRV_O_NO_IO |
                 BDRV_O_FORCE_SHARE, &blk, NULL) < 0) {
        return false;
    }
    found = bdrv_has_file(blk_bs(blk), name);
    (void)blk_image_info(blk, ret_next, NULL);
    (void)blk_close(blk);
    return found;
}

bool img_chain_has_file(const ImgSource *src, const char *name)
{
    g_autoptr(BlkImageInfo) info = NULL;
    ImgSource s = *src;

    for (unsigned depth = 0; depth < 200; depth++) {
        BlkImageInfo *next;
        bool found = layer_is(&s, name, &next);

        blk_image_info_free(info);
        info = next;
        if (found || !info || !info->backing_path) {
            return found;
        }
        s.filename = info->backing_path;
        s.format = info->backing_format;
    }
    return false; /* a loop, but not through @name */
}

int img_close(BlockBackend *blk, const char *filename, int status)
{
    int ret = blk_close(blk);

    if (ret < 0 && (status == 0 || stop_signal())) {
        tell("%s: closing failed: %s", filename, g_strerror(-ret));
        return 1;
    }
    return status;
}
