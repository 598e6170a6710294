/* SPDX-License-Identifier: MIT */
/* block/options.c, block/filename.c and how a node is found from a name. */
#include "tests/support/test_main.h"

#include <errno.h>
#include <string.h>

#include "block/block_int.h"
#include "tests/support/fake_driver.h"
#include "tests/support/helpers.h"

static void test_parse_splits_at_single_commas(void **state)
{
    g_autoptr(BdrvOptions) o = NULL;

    assert_int_equal(bdrv_options_parse(&o, "a=1,b.c=x,,y,d=,e==", NULL), 0);

    assert_string_equal(bdrv_options_get(o, "a"), "1");
    assert_string_equal(bdrv_options_get(o, "b.c"), "x,y");
    assert_string_equal(bdrv_options_get(o, "d"), "");
    assert_string_equal(bdrv_options_get(o, "e"), "=");
    assert_int_equal(bdrv_options_size(o), 4);
}

static void test_parse_refuses_what_is_not_key_value(void **state)
{
    static const char *const bad[] = { "a", "=1", "a=1,b", ",a=1", "a=1,=",
                                       NULL };

    for (int i = 0; bad[i]; i++) {
        BdrvOptions *o = NULL;
        g_autoptr(GError) error = NULL;

        assert_int_equal(bdrv_options_parse(&o, bad[i], &error), -EINVAL);
        assert_null(o);
        assert_non_null(error);
    }
}

static void test_the_last_value_of_a_key_counts(void **state)
{
    g_autoptr(BdrvOptions) o = NULL;

    assert_int_equal(bdrv_options_parse(&o, "a=1,b=2,a=,a=3", NULL), 0);
    assert_string_equal(bdrv_options_get(o, "a"), "3");
    assert_int_equal(bdrv_options_size(o), 2);
}

static void test_json_is_flattened(void **state)
{
    g_autoptr(BdrvOptions) o = NULL;
    const char *json = "{\"driver\": \"qcow2\", \"file\": {\"filename\": "
        "\"x\", \"read-only\": true, \"deep\": {\"n\": 5}}, "
        "\"list\": [\"p\", {\"q\": false}]}";

    assert_int_equal(bdrv_options_parse_json(&o, json, NULL), 0);

    assert_string_equal(bdrv_options_get(o, "driver"), "qcow2");
    assert_string_equal(bdrv_options_get(o, "file.filename"), "x");
    assert_string_equal(bdrv_options_get(o, "file.read-only"), "on");
    assert_string_equal(bdrv_options_get(o, "file.deep.n"), "5");
    assert_string_equal(bdrv_options_get(o, "list.0"), "p");
    assert_string_equal(bdrv_options_get(o, "list.1.q"), "off");
    assert_int_equal(bdrv_options_size(o), 6);
}

static void test_bad_json_is_refused(void **state)
{
    g_autofree char *deep = g_strnfill(100000, '[');
    const char *bad[] = { "", "x", "[1]", "{\"a\":null}", "{\"a\":1.5}",
                          "{\"\":1}", "{\"a\":{\"b\":1},\"a.b\":2}", deep,
                          NULL };

    for (int i = 0; bad[i]; i++) {
        BdrvOptions *o = NULL;
        g_autoptr(GError) error = NULL;

        assert_int_equal(bdrv_options_parse_json(&o, bad[i], &error),
                         -EINVAL);
        assert_null(o);
        assert_non_null(error);
    }
}

/* @text so many times, far more than json-glib has stack for. */
static char *repeated(const char *text)
{
    g_autofree char *many = g_strnfill(20000, ' ');
    g_auto(GStrv) parts = g_strsplit(many, " ", -1);

    return g_strjoinv(text, parts);
}

static void test_brackets_in_strings_do_not_hide_depth(void **state)
{
    static const char *const hostile[] = {
        "[\"]\",", "{\"}\":", "['}',", "[\"\\\"]\",", "[\"\\u1\"]\",",
        "[/*]*/", "[//]\n", "[#]\n", "[\"\\\\]\",",
    };
    const char *fine = "{\"a\":\"[[{\\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"}";
    g_autoptr(BdrvOptions) o = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(hostile); i++) {
        g_autofree char *json = repeated(hostile[i]);
        g_autoptr(GError) error = NULL;

        assert_int_equal(bdrv_options_parse_json(&o, json, &error), -EINVAL);
        assert_non_null(strstr(error->message, "deep"));
    }
    assert_int_equal(bdrv_options_parse_json(&o, fine, NULL), 0);
}

static void test_take_converts_and_removes(void **state)
{
    g_autoptr(BdrvOptions) o = NULL;
    uint64_t n;
    bool on;

    bdrv_options_parse(&o, "s=64k,n=0x10,t=yes,f=off,bad=abc", NULL);

    assert_int_equal(bdrv_options_take_size(o, "s", 1, &n, NULL), 0);
    assert_int_equal(n, 65536);
    assert_int_equal(bdrv_options_take_size(o, "s", 7, &n, NULL), 0);
    assert_int_equal(n, 7);
    assert_int_equal(bdrv_options_take_u64(o, "n", 0, &n, NULL), 0);
    assert_int_equal(n, 16);
    assert_int_equal(bdrv_options_take_bool(o, "t", false, &on, NULL), 0);
    assert_true(on);
    assert_int_equal(bdrv_options_take_bool(o, "f", true, &on, NULL), 0);
    assert_false(on);
    n = 99;
    assert_int_equal(bdrv_options_take_u64(o, "bad", 0, &n, NULL), -EINVAL);
    assert_int_equal(n, 99);
    assert_int_equal(bdrv_options_size(o), 0);
}

static void test_take_prefix_and_merge(void **state)
{
    g_autoptr(BdrvOptions) o = NULL, file = NULL, more = NULL;

    bdrv_options_parse(&o, "file.a=1,file.b.c=2,files=3,file=4", NULL);
    file = bdrv_options_take_prefix(o, "file.");
    bdrv_options_parse(&more, "a=other,z=5", NULL);
    bdrv_options_merge(file, g_steal_pointer(&more));

    assert_int_equal(bdrv_options_size(o), 2);
    assert_int_equal(bdrv_options_size(file), 3);
    assert_string_equal(bdrv_options_get(file, "a"), "1");
    assert_string_equal(bdrv_options_get(file, "b.c"), "2");
    assert_string_equal(bdrv_options_get(file, "z"), "5");
}

static void test_numbered_options_are_sorted_by_number(void **state)
{
    g_autoptr(BdrvOptions) o = NULL;
    g_autoptr(GPtrArray) taken = NULL;

    bdrv_options_parse(&o, "2.a=x,0.b.c=y,2.d=z,3.a=1,02.a=1,a=1,2=1,2.=1,"
                       "99999999999.a=1,.a=1,-1.a=1", NULL);
    taken = bdrv_options_take_numbered(o, 3);

    assert_int_equal(taken->len, 3);
    assert_null(taken->pdata[1]);
    assert_string_equal(bdrv_options_get(taken->pdata[0], "b.c"), "y");
    assert_string_equal(bdrv_options_get(taken->pdata[2], "a"), "x");
    assert_string_equal(bdrv_options_get(taken->pdata[2], "d"), "z");
    assert_int_equal(bdrv_options_size(taken->pdata[2]), 2);
    assert_int_equal(bdrv_options_size(o), 8);
}

static void test_unknown_option_is_named_with_its_neighbour(void **state)
{
    g_autoptr(BdrvOptions) o = NULL;
    g_autoptr(GError) error = NULL;

    bdrv_options_parse(&o, "lokcing=off", NULL);
    g_free(bdrv_options_take(o, "locking"));
    g_free(bdrv_options_take(o, "filename"));

    assert_int_equal(bdrv_options_check_empty(o, &error), -EINVAL);
    assert_non_null(strstr(error->message, "'lokcing'"));
    assert_non_null(strstr(error->message, "'locking'"));
    assert_null(strstr(error->message, "filename"));
}

static void test_cache_modes(void **state)
{
    unsigned flags = BDRV_O_RDWR | BDRV_O_NO_FLUSH;

    assert_int_equal(bdrv_parse_cache_mode("directsync", &flags), 0);
    assert_int_equal(flags, BDRV_O_RDWR | BDRV_O_NOCACHE |
                            BDRV_O_WRITETHROUGH);
    assert_int_equal(bdrv_parse_cache_mode("none", &flags), 0);
    assert_int_equal(flags, BDRV_O_RDWR | BDRV_O_NOCACHE);
    assert_int_equal(bdrv_parse_cache_mode("unsafe", &flags), 0);
    assert_int_equal(flags, BDRV_O_RDWR | BDRV_O_NO_FLUSH);
    assert_int_equal(bdrv_parse_cache_mode("off", &flags), 0);
    assert_int_equal(flags, BDRV_O_RDWR | BDRV_O_NOCACHE);
    assert_int_equal(bdrv_parse_cache_mode("writeback", &flags), 0);
    assert_int_equal(flags, BDRV_O_RDWR);
    assert_int_equal(bdrv_parse_cache_mode("wb", &flags), -EINVAL);
    assert_int_equal(flags, BDRV_O_RDWR);
}

static void test_protocol_prefix_ends_before_a_slash(void **state)
{
    assert_true(bdrv_has_protocol("file:x"));
    assert_true(bdrv_has_protocol("null-co://"));
    assert_true(bdrv_has_protocol("json:{}"));
    assert_false(bdrv_has_protocol("./a:b"));
    assert_false(bdrv_has_protocol("/tmp/a:b"));
    assert_false(bdrv_has_protocol("plain"));
    assert_false(bdrv_has_protocol(":x"));
    assert_false(bdrv_has_protocol(""));
}

static void test_relative_names_follow_the_image(void **state)
{
    static const char *const cases[][3] = {
        { "/a/b.qcow2", "base", "/a/base" },
        { "/a/b.qcow2", "/c", "/c" },
        { "b.qcow2", "base", "base" },
        { "file:/a/b", "base", "file:/a/base" },
        { "dir/b", "fake:x", "fake:x" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *name = bdrv_combine_filename(cases[i][0],
                                                      cases[i][1]);

        assert_string_equal(name, cases[i][2]);
    }
}

/* --- Opening by name and options --- */

static int open_with(const char *filename, const char *options,
                     unsigned flags, BlockBackend **ret, GError **errp)
{
    BdrvOptions *o = NULL;

    if (options) {
        assert_int_equal(bdrv_options_parse(&o, options, NULL), 0);
    }
    return blk_open(test_ctx, filename, o, flags, ret, errp);
}

static void test_open_by_each_kind_of_name(void **state)
{
    static const char *const cases[][4] = {
        /* filename, options, root format, format of its file */
        { "fake:d", NULL, "raw", "fake" },
        { NULL, "driver=fake,name=d", "fake", NULL },
        { NULL, "driver=raw,file.driver=fake,file.name=d", "raw", "fake" },
        { "fake:d", "driver=raw", "raw", "fake" },
        { NULL, "filename=fake:d,driver=raw", "raw", "fake" },
        { NULL, "filename=fake:d", "raw", "fake" },
        { "json:{\"driver\":\"raw\",\"file\":{\"driver\":\"fake\","
          "\"name\":\"d\"}}", NULL, "raw", "fake" },
        { "json:{\"driver\":\"raw\",\"filename\":\"fake:d\"}", NULL, "raw",
          "fake" },
        { "null-co://", NULL, "raw", "null-co" },
        { "blkdebug::fake:d", NULL, "raw", "blkdebug" },
        { NULL, "driver=blkdebug,image=fake:d", "blkdebug", "fake" },
    };
    FakeDisk *d = fake_disk_new("d", 1 << 20);

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        BlockBackend *blk = NULL;
        g_autoptr(GError) error = NULL;
        int ret = open_with(cases[i][0], cases[i][1], 0, &blk, &error);

        if (ret < 0) {
            fail_msg("case %zu: %s", i, error->message);
        }
        assert_string_equal(bdrv_get_format_name(blk_bs(blk)), cases[i][2]);
        if (cases[i][3]) {
            assert_string_equal(
                bdrv_get_format_name(blk_bs(blk)->file->bs), cases[i][3]);
        }
        assert_int_equal(blk_close(blk), 0);
    }
    fake_disk_free(d);
}

static void test_open_errors_say_what_is_wrong(void **state)
{
    static const struct {
        const char *filename, *options;
        int ret;
        const char *text;
    } cases[] = {
        { "nosuch:x", NULL, -ENOTSUP, "unknown protocol 'nosuch'" },
        { "fake:d", "driver=nosuch", -ENOTSUP, "unknown driver 'nosuch'" },
        { "fake:d", "siez=5", -EINVAL, "'siez'; did you mean 'size'" },
        { "fake:d", "file.nmae=5", -EINVAL, "'nmae'; did you mean 'name'" },
        { "fake:d", "read-only=maybe", -EINVAL, "read-only" },
        { "fake:d", "discard=some", -EINVAL, "discard" },
        { "fake:d", "offset=2M", -EINVAL, "offset and size" },
        { "fake:d", "size=2M", -EINVAL, "offset and size" },
        { "fake:none", NULL, -ENOENT, "no fake disk 'none'" },
        { NULL, NULL, -EINVAL, "no file name" },
        { NULL, "driver=file", -EINVAL, "filename" },
        { "json:{", NULL, -EINVAL, "json" },
        { "null-co://x", NULL, -EINVAL, "nothing may follow" },
        { "blkdebug:x", NULL, -EINVAL, "blkdebug:CONFIG:IMAGE" },
        { "/nonexistent/file", NULL, -ENOENT, "'/nonexistent/file': No such" },
        { "/", NULL, -EISDIR, "regular file" },
        { "/dev/null", NULL, -EINVAL, "regular file" },
        { NULL, "driver=null-co,size=8E", -EFBIG, "more than any image" },
    };
    FakeDisk *d = fake_disk_new("d", 1 << 20);

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        BlockBackend *blk = NULL;
        g_autoptr(GError) error = NULL;
        int ret = open_with(cases[i].filename, cases[i].options, 0, &blk,
                            &error);

        if (ret != cases[i].ret) {
            fail_msg("case %zu: %d %s", i, ret, error ? error->message : "");
        }
        assert_null(blk);
        assert_int_equal(error->code, -ret);
        if (!strstr(error->message, cases[i].text)) {
            fail_msg("case %zu: %s", i, error->message);
        }
    }
    fake_disk_free(d);
}

static void test_generic_options_become_flags(void **state)
{
    FakeDisk *d = fake_disk_new("d", 1 << 20);
    BlockBackend *blk;

    assert_int_equal(open_with("fake:d", "read-only=on,cache.direct=on,"
                               "cache.no-flush=on,discard=unmap,"
                               "force-share=on,file.cache.direct=off",
                               BDRV_O_RDWR, &blk, NULL), 0);
    assert_true(blk_is_read_only(blk));
    assert_int_equal(blk_bs(blk)->open_flags,
                     BDRV_O_NOCACHE | BDRV_O_NO_FLUSH | BDRV_O_UNMAP |
                     BDRV_O_FORCE_SHARE);
    assert_true(blk_bs(blk)->file->bs->read_only);
    assert_false(blk_bs(blk)->file->bs->open_flags & BDRV_O_NOCACHE);
    blk_close(blk);

    /* A name inside an image must not be able to make it writable. */
    assert_int_equal(open_with("fake:d", "read-only=off", 0, &blk, NULL), 0);
    assert_true(blk_is_read_only(blk));
    assert_int_equal(blk_pwrite(blk, 0, 1, "x"), -EROFS);
    blk_close(blk);

    assert_int_equal(open_with("fake:d", "force-share=on", BDRV_O_RDWR, &blk,
                               NULL), -EINVAL);
    fake_disk_free(d);
}

static void test_raw_shows_a_part(void **state)
{
    FakeDisk *d = fake_disk_new("d", 1 << 20);
    BlockBackend *blk;
    char buf[4];

    fake_disk_poke(d, 4096 + 10, "abcd", 4);
    assert_int_equal(open_with("fake:d", "driver=raw,offset=4k,size=8k",
                               BDRV_O_RDWR, &blk, NULL), 0);
    assert_int_equal(blk_getlength(blk), 8192);
    assert_int_equal(blk_pread(blk, 10, 4, buf), 0);
    assert_memory_equal(buf, "abcd", 4);
    assert_int_equal(blk_pwrite(blk, 8190, 2, "xy"), 0);
    assert_int_equal(blk_pwrite(blk, 8190, 3, "xyz"), -EIO);
    fake_disk_peek(d, 4096 + 8190, buf, 4);
    assert_memory_equal(buf, "xy\0\0", 4);
    assert_int_equal(blk_truncate(blk, 4096, BDRV_PREALLOC_OFF, NULL),
                     -ENOTSUP);
    blk_close(blk);
    fake_disk_free(d);
}

/* A name in a hostile image must not exhaust the stack. */
static void test_nested_drivers_are_limited(void **state)
{
    g_autoptr(GString) name = g_string_new("fake:d");
    g_autoptr(GError) error = NULL;
    FakeDisk *d = fake_disk_new("d", 1 << 20);
    BlockBackend *blk = NULL;

    for (int i = 0; i < 10; i++) {
        g_string_prepend(name, "blkdebug::");
    }
    assert_int_equal(open_with(name->str, NULL, 0, &blk, NULL), 0);
    blk_close(blk);
    for (int i = 0; i < 1000; i++) {
        g_string_prepend(name, "blkdebug::");
    }
    assert_int_equal(open_with(name->str, NULL, 0, &blk, &error), -ELOOP);
    fake_disk_free(d);
}

static void test_backing_file_that_is_its_own_ends(void **state)
{
    g_autofree char *path = test_path("loop.qcow2");
    g_autoptr(GError) error = NULL;
    BlockBackend *blk = NULL;

    if (!test_have_program("qemu-img")) {
        print_message("qemu-img is not installed\n");
        skip();
    }
    assert_int_equal(test_run(NULL, "qemu-img create -f qcow2 %s 1M", path),
                     0);
    assert_int_equal(test_run(NULL, "qemu-img rebase -u -f qcow2 -F qcow2 -b "
                              "loop.qcow2 %s", path), 0);
    assert_int_equal(open_with(path, NULL, 0, &blk, &error), -ELOOP);
    assert_non_null(strstr(error->message, "backing"));
}

#define CTX_TEST(f) \
    cmocka_unit_test_setup_teardown(f, test_ctx_setup, test_ctx_teardown)

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_parse_splits_at_single_commas),
    cmocka_unit_test(test_parse_refuses_what_is_not_key_value),
    cmocka_unit_test(test_the_last_value_of_a_key_counts),
    cmocka_unit_test(test_json_is_flattened),
    cmocka_unit_test(test_bad_json_is_refused),
    cmocka_unit_test(test_brackets_in_strings_do_not_hide_depth),
    cmocka_unit_test(test_take_converts_and_removes),
    cmocka_unit_test(test_take_prefix_and_merge),
    cmocka_unit_test(test_numbered_options_are_sorted_by_number),
    cmocka_unit_test(test_unknown_option_is_named_with_its_neighbour),
    cmocka_unit_test(test_cache_modes),
    cmocka_unit_test(test_protocol_prefix_ends_before_a_slash),
    cmocka_unit_test(test_relative_names_follow_the_image),
    CTX_TEST(test_open_by_each_kind_of_name),
    CTX_TEST(test_open_errors_say_what_is_wrong),
    CTX_TEST(test_generic_options_become_flags),
    CTX_TEST(test_raw_shows_a_part),
    CTX_TEST(test_nested_drivers_are_limited),
    CTX_TEST(test_backing_file_that_is_its_own_ends),
};

FIRN_TEST_MAIN(tests)
