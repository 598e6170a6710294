/* SPDX-License-Identifier: MIT */
/* firn-img info */
#include "tools/img/common.h"
#include "tools/json-lines.h"
#include "tools/one-line.h"

typedef struct Node {
    BlkImageInfo *info;
    GPtrArray *snapshots;
} Node;

static void node_free(void *opaque)
{
    Node *n = opaque;

    blk_image_info_free(n->info);
    g_ptr_array_unref(n->snapshots);
    g_free(n);
}

/* ---- for people ---- */

static void print_name(const char *before, const char *name, const char *after)
{
    g_autofree char *seen = one_line_if_seen(name);

    printf("%s%s%s", before, seen, after);
}

static void print_backing(const BlkImageInfo *info)
{
    if (!info->backing_file) {
        return;
    }
    print_name("backing file: ", info->backing_file, "");
    if (strcmp(info->backing_file, info->backing_path)) {
        print_name(" (actual path: ", info->backing_path, ")");
    }
    putchar('\n');
    if (info->backing_format) {
        print_name("backing file format: ", info->backing_format, "\n");
    }
}

static void print_human(const Node *n)
{
    const BlkImageInfo *info = n->info;
    g_autofree char *size = img_size_text(info->virtual_size);
    g_autofree char *actual = img_size_text(info->actual_size);

    print_name("image: ", info->filename, "\n");
    printf("file format: %s\nvirtual size: %s (%" PRIu64
           " bytes)\ndisk size: %s\n", info->format, size,
           info->virtual_size, actual);
    if (info->encrypted) {
        puts("encrypted: yes");
    }
    if (info->cluster_size) {
        printf("cluster_size: %" PRIu64 "\n", info->cluster_size);
    }
    if (info->dirty) {
        puts("cleanly shut down: no");
    }
    print_backing(info);
    img_print_snapshots(n->snapshots);
    if (info->specific) {
        puts("Format specific information:");
        json_lines_print(info->specific, 1);
    }
}

/* ---- for programs ---- */

static JsonArray *describe_snapshots(const GPtrArray *list)
{
    JsonArray *a = json_array_new();

    for (guint i = 0; i < list->len; i++) {
        const BdrvSnapshotInfo *s = g_ptr_array_index(list, i);
        JsonObject *o = json_object_new();

        if (s->icount != BDRV_SNAPSHOT_ICOUNT_NONE) {
            json_object_set_int_member(o, "icount", s->icount);
        }
        json_object_set_int_member(o, "vm-clock-nsec",
                                   s->vm_clock_nsec % 1000000000);
        json_object_set_string_member(o, "name", s->name);
        json_object_set_int_member(o, "date-sec", s->date_sec);
        json_object_set_int_member(o, "date-nsec", s->date_nsec);
        json_object_set_int_member(o, "vm-clock-sec",
                                   s->vm_clock_nsec / 1000000000);
        json_object_set_string_member(o, "id", s->id);
        json_object_set_int_member(o, "vm-state-size", s->vm_state_size);
        json_array_add_object_element(a, o);
    }
    return a;
}

static JsonObject *describe_specific(const BlkImageInfo *info)
{
    JsonObject *o = json_object_new();

    json_object_set_string_member(o, "type", info->format);
    json_object_set_object_member(o, "data",
                                  json_object_ref(info->specific));
    return o;
}

static void add_string(JsonObject *o, const char *name, const char *value)
{
    if (value) {
        json_object_set_string_member(o, name, value);
    }
}

static JsonObject *describe(const Node *n)
{
    const BlkImageInfo *info = n->info;
    JsonObject *o = json_object_new();

    add_string(o, "backing-filename-format", info->backing_format);
    if (n->snapshots->len) {
        json_object_set_array_member(o, "snapshots",
                                     describe_snapshots(n->snapshots));
    }
    json_object_set_int_member(o, "virtual-size", info->virtual_size);
    add_string(o, "filename", info->filename);
    if (info->cluster_size) {
        json_object_set_int_member(o, "cluster-size", info->cluster_size);
    }
    add_string(o, "format", info->format);
    json_object_set_int_member(o, "actual-size", info->actual_size);
    if (info->specific) {
        json_object_set_object_member(o, "format-specific",
                                      describe_specific(info));
    }
    add_string(o, "full-backing-filename", info->backing_path);
    add_string(o, "backing-filename", info->backing_file);
    if (info->encrypted) {
        json_object_set_boolean_member(o, "encrypted", true);
    }
    json_object_set_boolean_member(o, "dirty-flag", info->dirty);
    return o;
}

/* ---- the chain ---- */

static Node *look(const ImgSource *src)
{
    BlockBackend *blk = img_open(src);
    Node *n = g_new0(Node, 1);
    GError *err = NULL;
    int ret = -EIO;

    if (!blk) {
        g_free(n);
        return NULL;
    }
    ret = blk_image_info(blk, &n->info, &err);
    if (ret == 0) {
        ret = blk_snapshot_list(blk, &n->snapshots, &err);
    }
    if (ret == -ENOTSUP) {
        g_clear_error(&err);
        n->snapshots = g_ptr_array_new();
        ret = 0;
    }
    if (ret < 0) {
        img_fail(&err, ret);
    }
    ret = img_close(blk, src->filename, ret < 0);
    if (ret) {
        blk_image_info_free(n->info);
        g_clear_pointer(&n->snapshots, g_ptr_array_unref);
        g_free(n);
        return NULL;
    }
    return n;
}

/* Add @src and, with @chain, what is behind it. 0, or 1 after a message. */
static int collect(ImgSource src, bool chain, GPtrArray *nodes)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    do {
        Node *n = look(&src);

        if (!n) {
            return 1;
        }
        g_ptr_array_add(nodes, n);
        if (!g_hash_table_add(seen, n->info->filename)) {
            return img_error("%s: the backing chain is an infinite loop",
                             n->info->filename);
        }
        src.filename = n->info->backing_path;
        src.format = n->info->backing_format;
        src.image_opts = false;
        src.options = NULL;
    } while (chain && src.filename);
    return 0;
}

static void print_all(GPtrArray *nodes, bool json, bool chain)
{
    JsonArray *list = json_array_new();

    for (guint i = 0; i < nodes->len; i++) {
        if (!json) {
            fputs(i ? "\n" : "", stdout);
            print_human(g_ptr_array_index(nodes, i));
        } else if (!chain) {
            img_print_json_object(describe(g_ptr_array_index(nodes, i)));
        } else {
            json_array_add_object_element(
                list, describe(g_ptr_array_index(nodes, i)));
        }
    }
    if (json && chain) {
        img_print_json(json_node_init_array(json_node_alloc(), list));
    }
    json_array_unref(list);
}

int img_info(int argc, char **argv)
{
    enum { OPT_CHAIN = IMG_OPT_FIRST };
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "format", required_argument, NULL, 'f' },
        { "output", required_argument, NULL, IMG_OPT_OUTPUT },
        { "backing-chain", no_argument, NULL, OPT_CHAIN },
        { "force-share", no_argument, NULL, 'U' },
        { 0 },
    };
    g_autoptr(GPtrArray) nodes = g_ptr_array_new_with_free_func(node_free);
    ImgSource src = { .flags = BDRV_O_NO_BACKING | BDRV_O_NO_IO };
    bool json = false, chain = false;
    int c;

    while ((c = img_getopt(argc, argv, ":hf:U", options)) != -1) {
        switch (c) {
        case 'f': src.format = optarg; break;
        case 'U': src.flags |= BDRV_O_FORCE_SHARE; break;
        case OPT_CHAIN: chain = true; break;
        case IMG_OPT_IMAGE_OPTS: src.image_opts = true; break;
        case IMG_OPT_OUTPUT:
            if (img_parse_output(optarg, &json)) {
                return 1;
            }
            break;
        default:
            return 1;
        }
    }
    if (optind != argc - 1) {
        return img_error("info: name one image");
    }
    src.filename = argv[optind];
    if (collect(src, chain, nodes)) {
        return 1;
    }
    print_all(nodes, json, chain);
    return 0;
}
