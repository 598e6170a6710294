/* SPDX-License-Identifier: MIT */
/*
 * firn-img dd: blocks of a disk as a new image. count= is the block at which
 * copying ends, as qemu-img 7.2 has it, whatever skip= is.
 */
#include "tools/img/common.h"

#define CHUNK ((uint64_t)2 * 1024 * 1024)

typedef struct Dd {
    ImgSource in;
    const char *out;
    const char *format;
    uint64_t bs;
    uint64_t skip;
    uint64_t count;
} Dd;

static int take_operand(Dd *p, const char *word)
{
    const char *value = strchr(word, '=');
    g_autofree char *name = g_strndup(word, value ? (size_t)(value - word)
                                                  : strlen(word));

    value = value ? value + 1 : "";
    if (!strcmp(name, "if")) {
        p->in.filename = value;
    } else if (!strcmp(name, "of")) {
        p->out = value;
    } else if (!strcmp(name, "bs")) {
        if (img_parse_size(value, "bs", &p->bs)) {
            return 1;
        }
        return p->bs && p->bs <= INT32_MAX ? 0 :
            img_error("bs '%s' is not between 1 and 2147483647", value);
    } else if (!strcmp(name, "count")) {
        return img_parse_size(value, "count", &p->count);
    } else if (!strcmp(name, "skip")) {
        return img_parse_size(value, "skip", &p->skip);
    } else {
        return img_refuse("dd", name, NEAREST_LIST("if=", "of=", "bs=",
                                                   "count=", "skip="));
    }
    return 0;
}

static int copy(BlockBackend *in, uint64_t from, BlockBackend *out,
                uint64_t bytes)
{
    uint8_t *buf = blk_try_memalign(CHUNK);
    int ret = buf ? 0 : -ENOMEM;

    for (uint64_t at = 0; at < bytes && ret == 0; at += CHUNK) {
        uint64_t n = MIN(CHUNK, bytes - at);

        ret = aio_check_stop();
        ret = ret < 0 ? ret : blk_pread(in, from + at, n, buf);
        ret = ret < 0 ? ret : blk_pwrite(out, at, n, buf);
    }
    free(buf);
    return ret;
}

static int write_out(const Dd *p, BlockBackend *in, uint64_t from,
                     uint64_t bytes)
{
    ImgSource target = { .filename = p->out, .format = p->format,
                         .flags = BDRV_O_RDWR };
    g_autofree char *size = g_strdup_printf("%" PRIu64, bytes);
    BdrvOptions *o;
    BlockBackend *out;
    int ret;

    if (img_check_sources(p->out, NULL, &in, 1)) {
        return 1;
    }
    o = bdrv_options_new();
    bdrv_options_set(o, "size", size);
    if (img_create_image(p->format, p->out, o)) {
        return 1;
    }
    out = img_open(&target);
    if (!out) {
        return 1;
    }
    img_when_stopped("'%s' is incomplete", p->out);
    ret = copy(in, from, out, bytes);
    if (ret < 0) {
        img_error("copying '%s' to '%s' failed: %s", p->in.filename, p->out,
                  g_strerror(-ret));
    }
    return img_close(out, p->out, ret < 0);
}

static int run(const Dd *p, BlockBackend *in)
{
    int64_t size = blk_getlength(in);
    uint64_t from, end;

    if (size < 0) {
        return img_error("%s: cannot find its size: %s", p->in.filename,
                         g_strerror(-size));
    }
    end = size;
    if (p->count <= end / p->bs) {
        end = p->count * p->bs;
    }
    if (p->skip > end / p->bs) {
        img_warn("%s: skip= leads behind the end%s, nothing is copied",
                 p->in.filename, end < (uint64_t)size ? " that count= sets"
                                                      : "");
        return write_out(p, in, 0, 0);
    }
    from = p->skip * p->bs;
    if (from && end < (uint64_t)size) {
        img_warn("%s: count= is counted from the start of the disk, not from "
                 "where skip= leads: %" PRIu64 " bytes are copied",
                 p->in.filename, end - from);
    }
    return write_out(p, in, from, end - from);
}

int img_dd(int argc, char **argv)
{
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "force-share", no_argument, NULL, 'U' },
        { 0 },
    };
    Dd p = { .format = "raw", .bs = 512, .count = UINT64_MAX };
    BlockBackend *in;
    int c;

    while ((c = img_getopt(argc, argv, ":hf:O:U", options)) != -1) {
        switch (c) {
        case 'f': p.in.format = optarg; break;
        case 'O': p.format = optarg; break;
        case 'U': p.in.flags |= BDRV_O_FORCE_SHARE; break;
        case IMG_OPT_IMAGE_OPTS: p.in.image_opts = true; break;
        default:
            return 1;
        }
    }
    for (; optind < argc; optind++) {
        if (take_operand(&p, argv[optind])) {
            return 1;
        }
    }
    if (!p.in.filename || !p.out) {
        return img_error("dd: say both if=FILE and of=FILE");
    }
    if (img_check_format(p.format)) {
        return 1;
    }
    in = img_open(&p.in);
    return in ? img_close(in, p.in.filename, run(&p, in)) : 1;
}
