/* SPDX-License-Identifier: MIT */
/*
 * The passphrases of encrypted images: added, replaced, erased and refused;
 * with power cut before each request, and with each request failing.
 */
#include "maint_fixture.h"

#include "block/qcow2/luks.h"
#include "block/secret.h"

#define DISK  "fake:k"
#define ADD   "encrypt.state=active,encrypt.iter-time=0,encrypt.new-secret="
#define SLOT  ",encrypt.keyslot="
#define ERASE "encrypt.state=inactive,encrypt.keyslot="
#define MATCH "encrypt.state=inactive,encrypt.old-secret="

static const char ids[] = "abc";

/* Secrets a, b and c; the library's own descriptors are opened first. */
static int setup(void **state)
{
    for (const char *p = ids; *p; p++) {
        char id[] = { *p, 0 };
        g_autofree char *o = g_strdup_printf("data=pass-%c", *p);

        if (secret_add(id, q_options(o), NULL) < 0) {
            return -1;
        }
    }
    return test_ctx_setup(state);
}

static int teardown(void **state)
{
    for (const char *p = ids; *p; p++) {
        char id[] = { *p, 0 };

        if (secret_remove(id) < 0) {
            return -1;
        }
    }
    return test_ctx_teardown(state);
}

static int group_setup(void **state)
{
    const LuksParams params = { "aes", "xts-plain64", "sha256", 32, 1 };
    g_autoptr(GBytes) passphrase = g_bytes_new_static("x", 1);
    g_autoptr(GByteArray) header = g_byte_array_new();

    return luks_format(&params, passphrase, header, NULL);
}

/* ---- images ---- */

static BlockBackend *open_with(char id)
{
    char key[] = "encrypt.key-secret=?";

    key[sizeof(key) - 2] = id;
    return q_open(DISK, key, BDRV_O_RDWR);
}

/* Passphrase a is in slot 0; short keys, for less key material. */
static FakeDisk *new_image(void)
{
    FakeDisk *d = fake_disk_new("k", 0);
    BlockBackend *blk;

    q_create(DISK, "size=64k,cluster_size=4k,encrypt.format=luks,"
             "encrypt.key-secret=a,encrypt.iter-time=0,"
             "encrypt.cipher-alg=aes-128");
    blk = open_with('a');
    maint_put(blk, 0, 16384, 'd');
    q_close(blk);
    return d;
}

static int amend(BlockBackend *blk, const char *options, bool force,
                 GError **errp)
{
    return blk_amend(blk, q_options(options), force, NULL, NULL, errp);
}

static void do_amend(BlockBackend *blk, const char *options, bool force)
{
    GError *error = NULL;

    q_check(amend(blk, options, force, &error), error);
}

/* Refused, and with the file as it was. */
static void refused(FakeDisk *d, BlockBackend *blk, const char *options,
                    bool force, int err, const char *text)
{
    g_autoptr(GError) error = NULL;
    unsigned writes = fake_count(d, FAKE_WRITE);
    int ret = amend(blk, options, force, &error);

    if (ret != err || !error || !strstr(error->message, text) ||
        !strstr(error->message, DISK)) {
        fail_msg("%s: %d, %s", options, ret,
                 error ? error->message : "(none)");
    }
    assert_int_equal(fake_count(d, FAKE_WRITE), writes);
}

/* ---- headers on the disk ---- */

typedef struct Header {
    uint64_t at;
    uint64_t bytes;
    uint8_t *data;
} Header;

static Header read_header(FakeDisk *d)
{
    uint8_t be[16];
    Header h;

    fake_disk_peek(d, 112, be, 4); /* the extension is the first one */
    assert_int_equal(be32_get(be), 0x0537be77);
    fake_disk_peek(d, 120, be, 16);
    h.at = be64_get(be);
    h.bytes = be64_get(be + 8);
    h.data = g_malloc(h.bytes);
    fake_disk_peek(d, h.at, h.data, h.bytes);
    return h;
}

static unsigned active_slots(const Header *h)
{
    unsigned mask = 0;

    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        mask |= luks_slot_is_active(h->data, i) ? 1u << i : 0;
    }
    return mask;
}

/* The active slots that passphrase @id opens. */
static unsigned slots_of(const Header *h, char id)
{
    char name[] = { id, 0 };
    g_autoptr(GBytes) passphrase = NULL;
    unsigned found = 0;

    assert_int_equal(secret_lookup(name, &passphrase, NULL), 0);
    assert_int_equal(luks_match_slots(h->data, h->bytes, active_slots(h),
                                      passphrase, &found, NULL), 0);
    return found;
}

/* The slots that a, b and c open; no other one is on. */
static void expect_slots(FakeDisk *d, unsigned a, unsigned b, unsigned c)
{
    Header h = read_header(d);

    assert_int_equal(slots_of(&h, 'a'), a);
    assert_int_equal(slots_of(&h, 'b'), b);
    assert_int_equal(slots_of(&h, 'c'), c);
    assert_int_equal(active_slots(&h), a | b | c);
    g_free(h.data);
}

/* ---- what there is ---- */

static void test_passphrases_are_added_to_free_and_named_slots(void **state)
{
    FakeDisk *d = new_image();
    BlockBackend *blk = open_with('a');

    do_amend(blk, ADD "b", false);
    do_amend(blk, ADD "c" SLOT "6", false);
    do_amend(blk, ADD "c", false);
    expect_slots(d, 1 << 0, 1 << 1, 1 << 6 | 1 << 2);
    for (unsigned i = 0; i < 4; i++) {
        do_amend(blk, ADD "b", false);
    }
    refused(d, blk, ADD "b", false, -ENOSPC, "all 8 key slots");
    refused(d, blk, ADD "b", true, -ENOSPC, "all 8 key slots");
    q_close(blk);
    maint_check(d, false, "added");
    blk = open_with('c');
    assert_true(maint_is(blk, 0, 16384, 'd'));
    q_close(blk);
    fake_disk_free(d);
}

static void test_a_slot_in_use_is_replaced_by_force_only(void **state)
{
    FakeDisk *d = new_image();
    BlockBackend *blk = open_with('a');

    refused(d, blk, ADD "b" SLOT "0", false, -EEXIST, "slot 0 is in use");
    do_amend(blk, ADD "b" SLOT "0", true);
    expect_slots(d, 0, 1 << 0, 0);
    maint_put(blk, 4096, 8192, 'n'); /* the node goes on */
    do_amend(blk, ADD "c" SLOT "0", true);
    q_close(blk);
    expect_slots(d, 0, 0, 1 << 0);
    blk = open_with('c');
    assert_true(maint_is(blk, 4096, 8192, 'n'));
    for (unsigned i = 0; i < 7; i++) {
        do_amend(blk, ADD "b", false);
    }
    do_amend(blk, ADD "a" SLOT "7", true);
    expect_slots(d, 1 << 7, 0x7e, 1 << 0);
    q_close(blk);
    fake_disk_free(d);
}

static void test_passphrases_are_erased_by_slot_and_by_name(void **state)
{
    FakeDisk *d = new_image();
    BlockBackend *blk = open_with('a');

    do_amend(blk, ADD "b", false);
    do_amend(blk, ADD "b" SLOT "6", false);
    do_amend(blk, ADD "c" SLOT "4", false);
    refused(d, blk, MATCH "c" SLOT "1", true, -ENOENT, "not in key slot 1");
    refused(d, blk, ERASE "3", false, -ENOENT, "slot 3 is not in use");
    do_amend(blk, ERASE "3", true);
    do_amend(blk, MATCH "b", false);
    expect_slots(d, 1 << 0, 0, 1 << 4);
    refused(d, blk, MATCH "b", true, -ENOENT, "in no key slot");
    do_amend(blk, MATCH "c" SLOT "4", false);
    expect_slots(d, 1 << 0, 0, 0);
    refused(d, blk, ERASE "0", false, -EBUSY, "nothing could ever be read");
    refused(d, blk, MATCH "a", false, -EBUSY, "nothing could ever be read");
    do_amend(blk, MATCH "a", true);
    expect_slots(d, 0, 0, 0);
    assert_true(maint_is(blk, 0, 16384, 'd'));
    do_amend(blk, ADD "b", false);  /* while a node has the key */
    q_close(blk);
    expect_slots(d, 0, 1 << 0, 0);
    fake_disk_free(d);
}

static void test_nothing_of_an_erased_slot_is_left(void **state)
{
    FakeDisk *d = new_image();
    BlockBackend *blk = open_with('a');
    LuksMaterial m[LUKS_SLOTS];
    Header before, after;
    uint64_t same = 0;
    uint8_t zeroes[LUKS_MATERIAL_AT - LUKS_ITER_AT] = { 0 };

    do_amend(blk, ADD "b" SLOT "6", false);
    before = read_header(d);
    do_amend(blk, ERASE "6", false);
    q_close(blk);
    after = read_header(d);
    assert_int_equal(luks_find_material(after.data, after.bytes, m, NULL), 0);
    for (uint64_t i = m[6].at; i < m[6].at + m[6].bytes; i++) {
        same += before.data[i] == after.data[i];
    }
    assert_true(same < m[6].bytes / 100);   /* 1 of 256 by chance */
    assert_memory_equal(after.data + luks_slot_at(6) + LUKS_ITER_AT, zeroes,
                        sizeof(zeroes));
    /* And nothing else changed. */
    assert_memory_equal(before.data, after.data, luks_slot_at(6));
    assert_memory_equal(before.data + luks_slot_at(7),
                        after.data + luks_slot_at(7),
                        m[6].at - luks_slot_at(7));
    assert_memory_equal(before.data + m[7].at, after.data + m[7].at,
                        m[7].bytes);
    g_free(before.data);
    g_free(after.data);
    fake_disk_free(d);
}

/* ---- what is refused ---- */

static void test_bad_options_for_passphrases_change_nothing(void **state)
{
    static const struct {
        const char *options, *text;
        int err;
    } bad[] = {
        { "encrypt.new-secret=b", "encrypt.state", -EINVAL },
        { "encrypt.keyslot=0", "encrypt.state", -EINVAL },
        { "encrypt.state=on", "'on'", -EINVAL },
        { "encrypt.state=active", "encrypt.new-secret", -EINVAL },
        { "encrypt.state=inactive", "encrypt.keyslot", -EINVAL },
        { ADD "b,encrypt.old-secret=a", "old-secret", -EINVAL },
        { ADD "none", "'none'", -ENOENT },
        { ADD "b" SLOT "8", "0 to 7", -EINVAL },
        { ADD "b" SLOT "4294967296", "0 to 7", -EINVAL },
        { ERASE "8", "0 to 7", -EINVAL },
        { ERASE "0,encrypt.new-secret=b", "new-secret", -EINVAL },
        { ERASE "0,encrypt.iter-time=1", "iter-time", -EINVAL },
        { MATCH "none", "'none'", -ENOENT },
        { "encrypt.state=active,encrypt.new-secret=b,"
          "encrypt.iter-time=100001", "iter-time", -EINVAL },
    };
    FakeDisk *d = new_image();
    BlockBackend *blk = open_with('a');

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        refused(d, blk, bad[i].options, false, bad[i].err, bad[i].text);
    }
    q_close(blk);
    blk = q_open(DISK, NULL, BDRV_O_CHECK | BDRV_O_RDWR);
    refused(d, blk, ADD "b", false, -EACCES, "encrypt.key-secret");
    q_close(blk);
    q_create(DISK, "size=64k");
    blk = q_open(DISK, NULL, BDRV_O_RDWR);
    refused(d, blk, ADD "b", false, -EINVAL, "not encrypted");
    q_close(blk);
    fake_disk_free(d);
}

/* What a slot says of its key material after the image was opened. */
static void test_damaged_slots_are_not_written_to(void **state)
{
    static const struct {
        unsigned at;
        uint32_t value;
    } bad[] = {
        { LUKS_MATERIAL_AT, 0 }, { LUKS_MATERIAL_AT, 0xffffffff },
        { LUKS_MATERIAL_AT, 9 },    /* where slot 0's is */
        { LUKS_STRIPES_AT, 0 }, { LUKS_STRIPES_AT, 0xffffffff },
    };
    FakeDisk *d = new_image();
    BlockBackend *blk = open_with('a');
    Header h = read_header(d);

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        uint64_t at = h.at + luks_slot_at(3) + bad[i].at;
        uint8_t old[4], be[4];

        fake_disk_peek(d, at, old, 4);
        be32_put(be, bad[i].value);
        fake_disk_poke(d, at, be, 4);
        refused(d, blk, ADD "b", false, -EINVAL, "slot 3");
        refused(d, blk, ERASE "3", true, -EINVAL, "slot 3");
        fake_disk_poke(d, at, old, 4);
    }
    do_amend(blk, ADD "b", false);
    q_close(blk);
    g_free(h.data);
    fake_disk_free(d);
}

/* The pointer to the LUKS header leads to the refcount table. */
static void test_a_luks_header_on_metadata_is_not_changed(void **state)
{
    FakeDisk *d = new_image();
    Header h = read_header(d);
    g_autoptr(GError) error = NULL;
    uint8_t be[8];
    BlockBackend *blk;

    fake_disk_poke(d, 4096, h.data, h.bytes); /* its copy opens */
    be64_put(be, 4096);
    fake_disk_poke(d, 120, be, 8);
    blk = q_open(DISK, "encrypt.key-secret=a", BDRV_O_CHECK | BDRV_O_RDWR);
    assert_int_equal(amend(blk, ADD "b", false, &error), -EIO);
    assert_non_null(error);
    (void)blk_close(blk);
    fake_disk_peek(d, 4096, h.data, h.bytes);
    assert_int_equal(active_slots(&h), 1);
    g_free(h.data);
    fake_disk_free(d);
}

/* ---- power cuts, failing requests ---- */

typedef struct Cut {
    const char *before;     /* by force, as is the rest */
    const char *options;
    /* Which of a, b, c may be all that is left at some point? */
    const char *enough;
} Cut;

/* Every slot that is on opens, and who had a passphrase gets in. */
static void look_at_keys(FakeDisk *d, const char *enough, const char *where)
{
    Header h = read_header(d);
    unsigned open = 0;
    bool gets_in = false;

    for (const char *p = ids; *p; p++) {
        unsigned mine = slots_of(&h, *p);

        open |= mine;
        gets_in |= mine && strchr(enough, *p);
    }
    if (open != active_slots(&h) || (!gets_in && *enough)) {
        fail_msg("%s: slots %#x are on, %#x open", where, active_slots(&h),
                 open);
    }
    g_free(h.data);
}

/* Returns true when the operation came to its end. */
static bool cut_once(FakeDisk *d, const char *base, const Cut *c, unsigned n,
                     unsigned mode)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(n * 8 + mode);
    g_autofree char *where = g_strdup_printf("%s, cut at %u, mode %u",
                                             c->options, n, mode);
    BlockBackend *blk;
    bool whole;
    int ret;

    fake_log_clear(d);
    assert_int_equal(fake_disk_load(d, base), 0);
    blk = open_with('a');
    fake_fail_nth(d, FAKE_WRITE | FAKE_FLUSH, n, EIO, true);
    ret = amend(blk, c->options, true, NULL);
    whole = d->fail_in > 1; /* it never came to that */
    if (whole) {
        fake_fail_nth(d, FAKE_ANY, 0, 0, false);
        assert_int_equal(ret, 0);
    }
    (void)blk_close(blk);
    fake_fail_nth(d, FAKE_ANY, 0, 0, false);
    if (!whole && mode < 2) {
        fake_power_on(d, mode);
    } else if (!whole) {
        fake_crash(d, rand);
    }
    look_at_keys(d, c->enough, where);
    maint_check(d, false, where);
    return whole;
}

static void test_a_power_cut_leaves_a_passphrase(void **state)
{
    static const Cut cuts[] = {
        { NULL, ADD "b" SLOT "6", "a" },
        { NULL, ADD "b" SLOT "0", "ab" },           /* the only one */
        { ADD "c" SLOT "6", MATCH "c", "a" },
        { ADD "c" SLOT "6", ADD "b" SLOT "6", "a" },
        { ADD "c" SLOT "6", MATCH "a", "c" },
        { NULL, ERASE "0", "" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cuts); i++) {
        FakeDisk *d = new_image();
        g_autofree char *base = test_path("keys.base");
        unsigned n = 0;

        if (cuts[i].before) {
            BlockBackend *blk = open_with('a');

            do_amend(blk, cuts[i].before, true);
            q_close(blk);
        }
        assert_int_equal(fake_disk_save(d, base), 0);
        for (bool whole = false; !whole; ) {
            n++;
            for (unsigned mode = 0; mode < 3; mode++) {
                whole = cut_once(d, base, &cuts[i], n, mode);
            }
        }
        assert_true(n > 4);
        fake_disk_free(d);
    }
}

static int replace(BlockBackend *blk, void *opaque)
{
    return amend(blk, ADD "b" SLOT "1", true, NULL);
}

static void look_for_data(BlockBackend *blk, int ret, void *opaque)
{
    assert_true(maint_is(blk, 0, 16384, 'd'));
    look_at_keys(fake_disk_find("k"), "a", "a request failed");
}

static void test_a_failing_request_leaves_a_passphrase(void **state)
{
    MaintCase c = { "k", DISK, "encrypt.key-secret=a", BDRV_O_RDWR, replace,
                    look_for_data, NULL };
    FakeDisk *d = new_image();
    BlockBackend *blk = open_with('a');

    do_amend(blk, ADD "c", false);
    q_close(blk);
    maint_fail_everywhere(&c);
    fake_disk_free(d);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

static const struct CMUnitTest tests[] = {
    TEST(test_passphrases_are_added_to_free_and_named_slots),
    TEST(test_a_slot_in_use_is_replaced_by_force_only),
    TEST(test_passphrases_are_erased_by_slot_and_by_name),
    TEST(test_nothing_of_an_erased_slot_is_left),
    TEST(test_bad_options_for_passphrases_change_nothing),
    TEST(test_damaged_slots_are_not_written_to),
    TEST(test_a_luks_header_on_metadata_is_not_changed),
    TEST(test_a_power_cut_leaves_a_passphrase),
    TEST(test_a_failing_request_leaves_a_passphrase),
};

FIRN_TEST_MAIN_FULL(tests, group_setup, NULL)
