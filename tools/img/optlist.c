/* SPDX-License-Identifier: MIT */
/*
 * The options images are created with, in the order in which "Formatting"
 * shows them; what they mean is the format drivers' business.
 */
#include "tools/img/common.h"

#include "util/error.h"
#include "util/units.h"

typedef enum OptType { OPT_STR, OPT_BOOL, OPT_NUM, OPT_SIZE } OptType;

enum { QCOW2 = 1, RAW = 2, FILES = 4, AMEND = 8 };

typedef struct OptDesc {
    const char *name;
    OptType type;
    unsigned uses;          /* by create of a format, of files, by amend */
    const char *dflt;       /* shown when not given */
    const char *help;
} OptDesc;

static const OptDesc table[] = {
    { "encryption", OPT_BOOL, QCOW2, NULL, "Encrypt the image with format "
      "'aes'. (Deprecated in favor of encrypt.format=aes)" },
    { "encrypt.format", OPT_STR, QCOW2, NULL,
      "Encrypt the image, format choices: 'aes', 'luks'" },
    { "encrypt.key-secret", OPT_STR, QCOW2, NULL,
      "ID of secret providing qcow AES key or LUKS passphrase" },
    { "encrypt.cipher-alg", OPT_STR, QCOW2, NULL,
      "Name of encryption cipher algorithm" },
    { "encrypt.cipher-mode", OPT_STR, QCOW2, NULL,
      "Name of encryption cipher mode" },
    { "encrypt.ivgen-alg", OPT_STR, QCOW2, NULL, "Name of IV generator "
      "algorithm" },
    { "encrypt.ivgen-hash-alg", OPT_STR, QCOW2, NULL,
      "Name of IV generator hash algorithm" },
    { "encrypt.hash-alg", OPT_STR, QCOW2, NULL,
      "Name of encryption hash algorithm" },
    { "encrypt.iter-time", OPT_NUM, QCOW2 | AMEND, NULL,
      "Time to spend in PBKDF in milliseconds" },
    { "encrypt.keyslot", OPT_NUM, AMEND, NULL,
      "Select a single keyslot to modify explicitly" },
    { "encrypt.new-secret", OPT_STR, AMEND, NULL, "New secret to set in the "
      "matching keyslots. Empty string to erase" },
    { "encrypt.old-secret", OPT_STR, AMEND, NULL,
      "Select all keyslots that match this password" },
    { "encrypt.state", OPT_STR, AMEND, NULL,
      "Select new state of affected keyslots (active/inactive)" },
    { "cluster_size", OPT_SIZE, QCOW2, "65536", "qcow2 cluster size" },
    { "extended_l2", OPT_BOOL, QCOW2, "off", "Extended L2 tables" },
    { "preallocation", OPT_STR, QCOW2, NULL, "Preallocation mode (allowed "
      "values: off, metadata, falloc, full)" },
    { "compression_type", OPT_STR, QCOW2, "zlib",
      "Compression method used for image cluster compression" },
    { "size", OPT_SIZE, QCOW2 | RAW | AMEND, NULL, "Virtual disk size" },
    { "compat", OPT_STR, QCOW2 | AMEND, NULL,
      "Compatibility level (v2 [0.10] or v3 [1.1])" },
    { "backing_file", OPT_STR, QCOW2 | AMEND, NULL,
      "File name of a base image" },
    { "backing_fmt", OPT_STR, QCOW2 | AMEND, NULL,
      "Image format of the base image" },
    { "data_file", OPT_STR, QCOW2 | AMEND, NULL,
      "File name of an external data file" },
    { "data_file_raw", OPT_BOOL, QCOW2 | AMEND, NULL,
      "The external data file must stay valid as a raw image" },
    { "lazy_refcounts", OPT_BOOL, QCOW2 | AMEND, "off",
      "Postpone refcount updates" },
    { "refcount_bits", OPT_NUM, QCOW2 | AMEND, "16",
      "Width of a reference count entry in bits" },
    { "nocow", OPT_BOOL, FILES, NULL,
      "Turn off copy-on-write (valid only on btrfs)" },
    { "preallocation", OPT_STR, RAW | FILES, NULL,
      "Preallocation mode (allowed values: off, falloc, full)" },
    { "extent_size_hint", OPT_SIZE, FILES, NULL,
      "Extent size hint for the image file, 0 to disable" },
};

static unsigned format_use(const char *format)
{
    return strcmp(format, "qcow2") ? RAW : QCOW2;
}

/* ---- help ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const OptDesc *const *)a)->name,
                  (*(const OptDesc *const *)b)->name);
}

static void print_options(unsigned uses)
{
    static const char *const types[] = {
        "<str>", "<bool (on/off)>", "<num>", "<size>"
    };
    const OptDesc *list[G_N_ELEMENTS(table)];
    size_t n = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        /* The format's own word on preallocation wins. */
        if ((table[i].uses & uses) &&
            !(uses & QCOW2 && table[i].uses & RAW &&
              !(table[i].uses & QCOW2))) {
            list[n++] = &table[i];
        }
    }
    qsort(list, n, sizeof(*list), by_name);
    for (size_t i = 0; i < n; i++) {
        g_autofree char *left = g_strdup_printf("%s=%s", list[i]->name,
                                                types[list[i]->type]);

        printf("  %-22s - %s\n", left, list[i]->help);
    }
}

bool img_wants_help(const char *text)
{
    g_auto(GStrv) words = g_strsplit(text, ",", -1);

    return g_strv_contains((const char *const *)words, "help") ||
           g_strv_contains((const char *const *)words, "?");
}

int img_print_create_help(const char *format, const char *filename)
{
    unsigned use = format_use(format);

    if (img_check_format(format)) {
        return 1;
    }
    if (filename) {
        puts("Supported options:");
        print_options(use | FILES);
        return 0;
    }
    printf("Supported %s options:\n", format);
    if (use == RAW) {
        printf("  %-22s - %s\n", "size=<size>", "Virtual disk size");
    } else {
        print_options(use);
    }
    puts("\nThe protocol level may support further options.\n"
         "Specify the target filename to include those options.");
    return 0;
}

void img_print_amend_help(const char *format)
{
    printf("Amend options for '%s':\n", format);
    print_options(AMEND);
}

/* ---- parsing ---- */

static const OptDesc *find(const char *name, unsigned uses)
{
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        if ((table[i].uses & uses) && !strcmp(table[i].name, name)) {
            return &table[i];
        }
    }
    return NULL;
}

/* Every name must be one of the table. */
static int check_names(const BdrvOptions *o, unsigned uses, GError **errp)
{
    g_autoptr(BdrvOptions) left = bdrv_options_copy(o);

    for (size_t i = 0; uses == AMEND && i < G_N_ELEMENTS(table); i++) {
        if (bdrv_options_get(o, table[i].name) &&
            !find(table[i].name, AMEND)) {
            return set_error(errp, -EINVAL, "option %s is for creating images "
                             "only; convert can make one with it",
                             table[i].name);
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        if (table[i].uses & uses) {
            g_free(bdrv_options_take(left, table[i].name));
        }
    }
    return bdrv_options_check_empty(left, errp);
}

static int check_value(const OptDesc *d, const char *value)
{
    static const char *const words[] = {
        "on", "off", "true", "false", "yes", "no", "y", "n", NULL
    };
    uint64_t v;

    switch (d->type) {
    case OPT_BOOL:
        return g_strv_contains(words, value) ? 0
            : img_refuse(d->name, value, NEAREST_LIST("on", "off"));
    case OPT_NUM:
        return img_parse_number(value, d->name, 0, INT64_MAX, &v);
    case OPT_SIZE:
        return img_parse_size(value, d->name, &v);
    default:
        return 0;
    }
}

/* The end of a word of a list; ",," is a comma. */
static const char *word_end(const char *p)
{
    for (; *p && (*p != ',' || p[1] == ','); p++) {
        p += *p == ',';
    }
    return p;
}

/* NAME and noNAME are short for NAME=on and NAME=off. */
static void set_word(BdrvOptions *o, char *word, unsigned uses)
{
    char *value = strchr(word, '=');
    const OptDesc *off = g_str_has_prefix(word, "no") ? find(word + 2, uses)
                                                      : NULL;

    if (value) {
        *value++ = '\0';
        bdrv_options_set(o, word, value);
    } else if (off && off->type == OPT_BOOL && !find(word, uses)) {
        bdrv_options_set(o, word + 2, "off");
    } else {
        bdrv_options_set(o, word, "on");
    }
}

/* Set what @text says; a later word counts. */
static int parse_list(BdrvOptions *o, const char *text, unsigned uses)
{
    const char *p = text;

    do {
        const char *end = word_end(p);
        g_autofree char *word = g_strndup(p, end - p);
        g_auto(GStrv) parts = g_strsplit(word, ",,", -1);
        g_autofree char *plain = g_strjoinv(",", parts);

        if (!*plain || *plain == '=') {
            return img_error("-o '%s': a word is empty", text);
        }
        set_word(o, plain, uses);
        p = *end ? end + 1 : NULL;
    } while (p);
    return 0;
}

int img_parse_create_options(const char *format, GPtrArray *texts,
                             const char *amended, BdrvOptions **ret)
{
    g_autoptr(BdrvOptions) o = bdrv_options_new();
    unsigned uses = amended ? AMEND : format_use(format) | FILES;
    GError *err = NULL;
    int r;

    for (guint i = 0; texts && i < texts->len; i++) {
        if (parse_list(o, g_ptr_array_index(texts, i), uses)) {
            return 1;
        }
    }
    r = check_names(o, uses, &err);
    if (r < 0) {
        prefix_error(&err, r, "%s%s-o: ", amended ? amended : "",
                     amended ? ": " : "");
        return img_fail(&err, r);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        const char *v = bdrv_options_get(o, table[i].name);

        if (v && (table[i].uses & uses) && check_value(&table[i], v)) {
            return 1;
        }
    }
    *ret = g_steal_pointer(&o);
    return 0;
}

/* ---- creating ---- */

int img_check_overwrite(const char *filename, const char *data_file,
                        const ImgSource *src, BlockBackend *backing)
{
    const char *names[] = { filename, data_file }, *path = src->filename;

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        const char *name = names[i];

        if (name == filename && bdrv_is_same_file(name, path)) {
            return img_error("%s: an image cannot be its own backing file",
                             name);
        }
        if (name && (backing ? bdrv_has_file(blk_bs(backing), name)
                             : img_chain_has_file(src, name))) {
            return img_error("%s: backing file '%s' needs what is in it, "
                             "which would be lost; take another name", name,
                             path);
        }
    }
    return 0;
}

int img_check_sources(const char *filename, const char *data_file,
                      BlockBackend *const *sources, unsigned nb)
{
    const char *names[] = { filename, data_file };

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        for (unsigned k = 0; names[i] && k < nb; k++) {
            if (bdrv_has_file(blk_bs(sources[k]), names[i])) {
                return img_error("%s: what is to be copied is in this file "
                                 "and would be lost; take another name",
                                 names[i]);
            }
        }
    }
    return 0;
}

int img_create_image(const char *format, const char *filename, BdrvOptions *o)
{
    GError *err = NULL;
    int ret;

    if (!strcmp(format, "raw")) {
        uint64_t bytes = 0;
        g_autofree char *text = NULL;

        /* Other programs count in sectors. */
        (void)parse_size(bdrv_options_get(o, "size"), &bytes);
        text = g_strdup_printf("%" PRIu64, ROUND_UP(bytes, 512));
        bdrv_options_set(o, "size", text);
    }
    ret = blk_create(img_ctx, format, filename, o, &err);
    return ret < 0 ? img_fail_in(filename, &err, ret) : 0;
}

/* ---- Formatting ---- */

char *img_describe_create(const char *format, const BdrvOptions *o)
{
    GString *out = g_string_new(NULL);
    unsigned use = format_use(format);

    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        const OptDesc *d = &table[i];
        const char *v;
        uint64_t n = 0;

        if (find(d->name, use | FILES) != d) {
            continue;
        }
        v = bdrv_options_get(o, d->name);
        v = v ? v : d->dflt;
        if (!v) {
            continue;
        }
        if (d->type == OPT_SIZE) {
            (void)parse_size(v, &n);
            g_string_append_printf(out, " %s=%" PRIu64, d->name, n);
        } else {
            /* As -o takes it: a comma is two. */
            g_auto(GStrv) parts = g_strsplit(v, ",", -1);
            g_autofree char *text = g_strjoinv(",,", parts);

            g_string_append_printf(out, " %s=%s", d->name, text);
        }
    }
    return g_string_free(out, FALSE);
}
