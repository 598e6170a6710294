/* SPDX-License-Identifier: MIT */
/* QEMUIOVector, compared with the same bytes in one flat buffer. */
#include "tests/support/test_main.h"

#include <string.h>

#include "util/iov.h"

enum { TOTAL = 100 };

/* Pieces of 1, 0, 9, 40, 0 and 50 bytes: 0, 1, 2, .. 99 in all. */
typedef struct Pieces {
    uint8_t bytes[TOTAL];
    QEMUIOVector q;
} Pieces;

static void pieces_init(Pieces *p)
{
    static const size_t lens[] = { 1, 0, 9, 40, 0, 50 };
    size_t offset = 0;

    for (size_t i = 0; i < TOTAL; i++) {
        p->bytes[i] = (uint8_t)i;
    }
    qemu_iovec_init(&p->q, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(lens); i++) {
        qemu_iovec_add(&p->q, p->bytes + offset, lens[i]);
        offset += lens[i];
    }
    assert_int_equal(p->q.size, TOTAL);
}

static void test_vector_grows_and_counts_its_bytes(void **state)
{
    QEMUIOVector q;
    uint8_t buf[4];

    qemu_iovec_init(&q, 1);
    for (int i = 0; i < 1000; i++) {
        qemu_iovec_add(&q, buf, sizeof(buf));
    }
    assert_int_equal(q.niov, 1000);
    assert_int_equal(q.size, 4000);

    qemu_iovec_reset(&q);
    assert_int_equal(q.niov, 0);
    assert_int_equal(q.size, 0);
    qemu_iovec_add(&q, buf, 3);
    assert_int_equal(q.size, 3);
    qemu_iovec_destroy(&q);
}

static void test_one_buffer_needs_no_allocation(void **state)
{
    QEMUIOVector q;
    uint8_t buf[16];

    qemu_iovec_init_buf(&q, buf, sizeof(buf));

    assert_ptr_equal(q.iov, &q.local_iov);
    assert_int_equal(q.niov, 1);
    assert_int_equal(q.size, 16);
    assert_ptr_equal(q.iov[0].iov_base, buf);
    qemu_iovec_destroy(&q);
    qemu_iovec_destroy(&q);
}

static void test_external_array_stays_the_callers(void **state)
{
    uint8_t buf[16];
    struct iovec iov[2] = { { buf, 4 }, { buf + 4, 12 } };
    QEMUIOVector q;

    qemu_iovec_init_external(&q, iov, 2);
    assert_int_equal(q.size, 16);
    assert_ptr_equal(q.iov, iov);
    qemu_iovec_destroy(&q);

    assert_ptr_equal(iov[1].iov_base, buf + 4);
}

static void test_every_range_copies_out_as_from_a_flat_buffer(void **state)
{
    Pieces p;
    uint8_t out[TOTAL + 10];

    pieces_init(&p);
    for (size_t offset = 0; offset <= TOTAL; offset++) {
        for (size_t len = 0; len <= TOTAL + 10; len++) {
            size_t expected = MIN(len, TOTAL - offset);

            memset(out, 0xee, sizeof(out));
            assert_int_equal(qemu_iovec_to_buf(&p.q, offset, out, len),
                             expected);
            for (size_t i = 0; i < expected; i++) {
                assert_int_equal(out[i], offset + i);
            }
            if (expected < sizeof(out)) {
                assert_int_equal(out[expected], 0xee);
            }
        }
    }
    qemu_iovec_destroy(&p.q);
}

static void test_every_range_copies_in_and_touches_nothing_else(void **state)
{
    Pieces p;
    uint8_t in[TOTAL + 10];

    memset(in, 0xaa, sizeof(in));
    for (size_t offset = 0; offset <= TOTAL; offset++) {
        for (size_t len = 0; len <= TOTAL + 10; len += 7) {
            size_t expected = MIN(len, TOTAL - offset);

            pieces_init(&p);
            assert_int_equal(qemu_iovec_from_buf(&p.q, offset, in, len),
                             expected);
            for (size_t i = 0; i < TOTAL; i++) {
                bool inside = i >= offset && i < offset + expected;

                assert_int_equal(p.bytes[i], inside ? 0xaa : i);
            }
            qemu_iovec_destroy(&p.q);
        }
    }
}

static void test_memset_fills_a_range_and_stops_at_the_end(void **state)
{
    Pieces p;

    pieces_init(&p);
    assert_int_equal(qemu_iovec_memset(&p.q, 8, 0xbb, 45), 45);
    for (size_t i = 0; i < TOTAL; i++) {
        assert_int_equal(p.bytes[i], i >= 8 && i < 53 ? 0xbb : i);
    }
    assert_int_equal(qemu_iovec_memset(&p.q, 90, 0, 45), 10);
    assert_int_equal(qemu_iovec_memset(&p.q, TOTAL, 0, 45), 0);
    qemu_iovec_destroy(&p.q);
}

static void test_slice_shows_the_same_bytes(void **state)
{
    Pieces p;
    QEMUIOVector slice;
    uint8_t out[TOTAL];

    pieces_init(&p);
    for (size_t offset = 0; offset <= TOTAL; offset++) {
        for (size_t len = 0; len <= TOTAL - offset; len++) {
            qemu_iovec_init_slice(&slice, &p.q, offset, len);
            assert_int_equal(slice.size, len);
            assert_int_equal(qemu_iovec_to_buf(&slice, 0, out, TOTAL), len);
            assert_true(len == 0 ||
                        memcmp(out, p.bytes + offset, len) == 0);
            qemu_iovec_destroy(&slice);
        }
    }
    qemu_iovec_destroy(&p.q);
}

static void test_concat_appends_a_range(void **state)
{
    Pieces p;
    QEMUIOVector q;
    uint8_t head[2] = { 200, 201 };
    uint8_t out[8];

    pieces_init(&p);
    qemu_iovec_init(&q, 4);
    qemu_iovec_add(&q, head, 2);
    qemu_iovec_concat(&q, &p.q, 9, 3);

    assert_int_equal(q.size, 5);
    assert_int_equal(qemu_iovec_to_buf(&q, 0, out, 8), 5);
    assert_memory_equal(out, ((uint8_t[]) { 200, 201, 9, 10, 11 }), 5);
    qemu_iovec_destroy(&q);
    qemu_iovec_destroy(&p.q);
}

static void test_zero_test_sees_only_its_range(void **state)
{
    Pieces p;

    pieces_init(&p);
    qemu_iovec_memset(&p.q, 20, 0, 60);
    assert_true(qemu_iovec_is_zero(&p.q, 20, 60));
    assert_true(qemu_iovec_is_zero(&p.q, 30, 0));
    assert_true(qemu_iovec_is_zero(&p.q, 0, 1));
    assert_false(qemu_iovec_is_zero(&p.q, 19, 61));
    assert_false(qemu_iovec_is_zero(&p.q, 20, 61));
    qemu_iovec_destroy(&p.q);
}

static void test_alignment_is_of_addresses_and_lengths(void **state)
{
    uint8_t *buf = g_aligned_alloc(3, 512, 512);
    QEMUIOVector q;

    qemu_iovec_init(&q, 2);
    assert_true(qemu_iovec_is_aligned(&q, 512));
    qemu_iovec_add(&q, buf, 512);
    qemu_iovec_add(&q, buf + 512, 1024);
    assert_true(qemu_iovec_is_aligned(&q, 512));
    assert_false(qemu_iovec_is_aligned(&q, 1 << 20));

    qemu_iovec_reset(&q);
    qemu_iovec_add(&q, buf + 1, 512);
    assert_false(qemu_iovec_is_aligned(&q, 512));
    assert_true(qemu_iovec_is_aligned(&q, 1));

    qemu_iovec_reset(&q);
    qemu_iovec_add(&q, buf, 511);
    assert_false(qemu_iovec_is_aligned(&q, 512));
    qemu_iovec_destroy(&q);
    g_aligned_free(buf);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_vector_grows_and_counts_its_bytes),
    cmocka_unit_test(test_one_buffer_needs_no_allocation),
    cmocka_unit_test(test_external_array_stays_the_callers),
    cmocka_unit_test(test_every_range_copies_out_as_from_a_flat_buffer),
    cmocka_unit_test(test_every_range_copies_in_and_touches_nothing_else),
    cmocka_unit_test(test_memset_fills_a_range_and_stops_at_the_end),
    cmocka_unit_test(test_slice_shows_the_same_bytes),
    cmocka_unit_test(test_concat_appends_a_range),
    cmocka_unit_test(test_zero_test_sees_only_its_range),
    cmocka_unit_test(test_alignment_is_of_addresses_and_lengths),
};

FIRN_TEST_MAIN(tests)
