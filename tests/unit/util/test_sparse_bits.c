/* SPDX-License-Identifier: MIT */
/*
 * SparseBits against a plain array of bytes, and the memory it takes: little
 * where bits are alike, and "all 1" when there is none.
 */
#include "tests/support/test_main.h"

#include <string.h>
#include <sys/resource.h>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#include "util/sparse-bits.h"

#define PAGE 32768u

/* ---- against a model ---- */

typedef struct Model {
    uint64_t size;
    uint8_t bit[5 * PAGE];
} Model;

static uint64_t model_next(const Model *m, uint64_t from, uint64_t end,
                           bool value)
{
    while (from < end && m->bit[from] != value) {
        from++;
    }
    return from;
}

static void compare(const SparseBits *b, const Model *m, GRand *rand)
{
    g_autofree uint8_t *bytes = g_malloc(5 * PAGE / 8 + 64);
    uint64_t count = 0, from, end;

    assert_int_equal(sparse_bits_size(b), m->size);
    for (uint64_t i = 0; i < m->size; i++) {
        count += m->bit[i];
    }
    assert_int_equal(sparse_bits_count(b), count);
    sparse_bits_get_bytes(b, 0, bytes, 5 * PAGE / 8 + 64);
    for (uint64_t i = 0; i < 5 * PAGE + 512; i++) {
        int want = i < m->size ? m->bit[i] : 0;

        assert_int_equal(bytes[i / 8] >> i % 8 & 1, want);
    }
    for (unsigned k = 0; k < 20 && m->size; k++) {
        end = g_rand_int_range(rand, 0, m->size + 1);
        from = g_rand_int_range(rand, 0, m->size);
        for (int v = 0; v < 2; v++) {
            assert_int_equal(sparse_bits_next(b, from, end, v),
                             from < end ? model_next(m, from, end, v) : end);
        }
        assert_int_equal(sparse_bits_test(b, from), m->bit[from]);
    }
}

/* A range that often begins or ends at a page. */
static void draw(GRand *rand, uint64_t size, uint64_t *first, uint64_t *n)
{
    uint64_t a = g_rand_int_range(rand, 0, size + 1);
    uint64_t z = g_rand_int_range(rand, 0, size + 1);

    if (g_rand_int_range(rand, 0, 3) == 0) {
        a = a / PAGE * PAGE;
    }
    if (g_rand_int_range(rand, 0, 3) == 0) {
        z = size;
    }
    *first = MIN(a, z);
    *n = MAX(a, z) - MIN(a, z);
    if (g_rand_int_range(rand, 0, 2)) {
        *n = MIN(*n, 100);
    }
}

static void resize(SparseBits *b, Model *m, uint64_t size)
{
    if (size > m->size) {
        memset(m->bit + m->size, 0, size - m->size);
    }
    m->size = size;
    sparse_bits_resize(b, size);
}

static void or_bytes(SparseBits *b, Model *m, GRand *rand)
{
    uint64_t first = g_rand_int_range(rand, 0, 5 * PAGE / 64) * 64ULL;
    uint8_t buf[4096];
    size_t n = g_rand_int_range(rand, 0, sizeof(buf) / 8 + 1) * 8;
    unsigned fill = g_rand_int_range(rand, 0, 3);

    for (size_t i = 0; i < n; i++) {
        buf[i] = fill == 0 ? 0xff : fill == 1 ? 0 : g_rand_int(rand);
    }
    for (uint64_t i = 0; i < n * 8 && first + i < m->size; i++) {
        m->bit[first + i] |= buf[i / 8] >> i % 8 & 1;
    }
    sparse_bits_or_bytes(b, first, buf, n);
}

static void test_random_operations_agree_with_a_plain_array(void **state)
{
    for (uint32_t seed = 0; seed < 20; seed++) {
        GRand *rand = g_rand_new_with_seed(seed);
        g_autofree Model *m = g_new0(Model, 1);
        SparseBits *b;

        m->size = g_rand_int_range(rand, 0, 5 * PAGE);
        b = sparse_bits_new(m->size);
        for (unsigned k = 0; k < 60; k++) {
            unsigned op = g_rand_int_range(rand, 0, 10);
            uint64_t first, n;

            draw(rand, m->size, &first, &n);
            if (op < 4) {
                sparse_bits_set(b, first, n);
                memset(m->bit + first, 1, n);
            } else if (op < 7) {
                sparse_bits_clear(b, first, n);
                memset(m->bit + first, 0, n);
            } else if (op < 9) {
                or_bytes(b, m, rand);
            } else {
                resize(b, m, g_rand_int_range(rand, 0, 5 * PAGE));
            }
            if (k % 6 == 0) {
                SparseBits *copy = sparse_bits_copy(b);

                compare(b, m, rand);
                compare(copy, m, rand);
                sparse_bits_free(copy);
            }
        }
        sparse_bits_free(b);
        g_rand_free(rand);
    }
}

/* ---- memory ---- */

static void test_alike_parts_take_no_memory(void **state)
{
    SparseBits *b = sparse_bits_new(SPARSE_BITS_MAX);
    uint64_t empty = sparse_bits_memory(b);

    assert_true(empty < 200);
    sparse_bits_set(b, 5 * PAGE + 7, 1);
    assert_true(sparse_bits_memory(b) < 16 * 1024);
    sparse_bits_set(b, 0, SPARSE_BITS_MAX);
    assert_true(sparse_bits_memory(b) < 2 * 1024 * 1024);
    assert_int_equal(sparse_bits_count(b), SPARSE_BITS_MAX);
    sparse_bits_clear(b, 0, SPARSE_BITS_MAX);
    assert_int_equal(sparse_bits_memory(b), empty);
    sparse_bits_free(b);
}

static void test_a_page_that_fills_up_or_empties_bit_by_bit_goes(void **state)
{
    SparseBits *b = sparse_bits_new(PAGE * 3 / 2);
    uint64_t before;

    sparse_bits_set(b, 0, 1);
    before = sparse_bits_memory(b);
    for (unsigned i = 0; i < PAGE * 3 / 2; i++) {
        sparse_bits_set(b, i, 1);
    }
    assert_true(sparse_bits_memory(b) < before);
    for (unsigned i = 0; i < PAGE * 3 / 2; i++) {
        sparse_bits_clear(b, i, 1);
    }
    assert_true(sparse_bits_memory(b) < before);
    assert_int_equal(sparse_bits_count(b), 0);
    sparse_bits_free(b);
}

#ifndef __has_feature /* clang's way to say it */
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAVE_RLIMIT_AS false
#else
#define HAVE_RLIMIT_AS true
#endif

/* Mark one bit in each page until there is no memory for one more. */
static void exhaust(SparseBits *b)
{
    for (uint64_t i = 0; i < SPARSE_BITS_MAX; i += PAGE) {
        sparse_bits_set(b, i, 1);
    }
}

static void test_without_memory_everything_counts_as_set(void **state)
{
    SparseBits *b = sparse_bits_new(SPARSE_BITS_MAX);
    struct rlimit old, low;

    if (!HAVE_RLIMIT_AS || RUNNING_ON_VALGRIND) {
        print_message("memory cannot be limited under a sanitizer or "
                      "valgrind\n");
        sparse_bits_free(b);
        skip();
    }
    assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
    low = old;
    low.rlim_cur = 256 * 1024 * 1024;
    assert_int_equal(setrlimit(RLIMIT_AS, &low), 0);
    exhaust(b);
    assert_int_equal(setrlimit(RLIMIT_AS, &old), 0);

    assert_int_equal(sparse_bits_count(b), SPARSE_BITS_MAX);
    assert_true(sparse_bits_test(b, 12345));
    assert_int_equal(sparse_bits_next(b, 0, SPARSE_BITS_MAX, false),
                     SPARSE_BITS_MAX);

    sparse_bits_clear(b, 100, 5 * PAGE);
    assert_int_equal(sparse_bits_count(b), SPARSE_BITS_MAX - 5 * PAGE);
    assert_false(sparse_bits_test(b, 12345));
    assert_true(sparse_bits_test(b, 99));
    sparse_bits_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations_agree_with_a_plain_array),
        cmocka_unit_test(test_alike_parts_take_no_memory),
        cmocka_unit_test(test_a_page_that_fills_up_or_empties_bit_by_bit_goes),
        cmocka_unit_test(test_without_memory_everything_counts_as_set),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
