/* SPDX-License-Identifier: MIT */
/*
 * Rounds of overlapping requests, all in flight at once, on images of tiny
 * clusters and tiny caches. Requests to the image file complete in an order
 * that a seeded generator draws. After each round every sector holds what one
 * of the requests of the round wrote last in some order; a read saw that or
 * what was there before. In the end refcounts equal references.
 *
 *   FIRN_TEST_SEED=n  another seed
 */
#include "qcow2_fixture.h"

#include "tests/support/qcow2_checker.h"

#define SECTORS 512
#define MAX_OPS 8

typedef enum OpType { READ, WRITE, ZERO, DISCARD, FLUSH, SAVE, NB_TYPES }
    OpType;

typedef struct Op {
    OpType type;
    unsigned lba, n, gen;
    unsigned unit;      /* discard: sectors that are done as one */
    uint8_t *buf;
    QEMUIOVector qiov;
    bool done;
    int ret;
} Op;

typedef struct World {
    FakeDisk *disk;
    BlockBackend *blk;
    GRand *rand;
    unsigned gen[SECTORS];
    unsigned next_gen;
    unsigned cluster;   /* sectors */
    Op ops[MAX_OPS];
    unsigned nb;
} World;

static unsigned draw(World *w, unsigned n)
{
    return g_rand_int_range(w->rand, 0, n);
}

static void fill_sector(uint8_t *p, unsigned lba, unsigned gen)
{
    if (gen) {
        test_fill(p, 512, lba * 100000 + gen);
    } else {
        memset(p, 0, 512);
    }
}

static bool sector_is(const uint8_t *p, unsigned lba, unsigned gen)
{
    uint8_t want[512];

    fill_sector(want, lba, gen);
    return !memcmp(p, want, 512);
}

static void op_done(void *opaque, int ret)
{
    Op *op = opaque;

    op->done = true;
    op->ret = ret;
}

typedef struct Save {
    World *w;
    Op *op;
} Save;

static void coroutine_fn save_entry(void *opaque)
{
    Save *s = opaque;
    BlockDriverState *bs = blk_bs(s->w->blk);
    Op *op = s->op;

    g_free(s);
    op_done(op, bs->drv->co_save_vmstate(bs, op->lba * 512, &op->qiov));
}

static void submit(World *w, Op *op)
{
    uint64_t offset = op->lba * 512, bytes = op->n * 512;

    switch (op->type) {
    case READ:
        blk_aio_preadv(w->blk, offset, &op->qiov, 0, op_done, op);
        break;
    case WRITE:
        blk_aio_pwritev(w->blk, offset, &op->qiov, 0, op_done, op);
        break;
    case ZERO:
        blk_aio_pwrite_zeroes(w->blk, offset, bytes, draw(w, 2)
                              ? BDRV_REQ_MAY_UNMAP : 0, op_done, op);
        break;
    case DISCARD:
        blk_aio_pdiscard(w->blk, offset, bytes, op_done, op);
        break;
    case FLUSH:
        blk_aio_flush(w->blk, op_done, op);
        break;
    default: {
        Save *s = g_new(Save, 1);

        *s = (Save) { w, op };
        test_spawn(save_entry, s);
    }
    }
}

static void start(World *w, Op *op)
{
    unsigned centre = draw(w, 4) * 100;

    *op = (Op) { .type = draw(w, NB_TYPES), .n = 1 + draw(w, 24) };
    if (op->type == FLUSH || draw(w, 3)) {
        op->type = draw(w, 2) ? WRITE : op->type;
    }
    op->lba = MIN(centre + draw(w, 20), SECTORS - op->n);
    if (op->type == DISCARD) {
        op->lba = ROUND_DOWN(op->lba, w->cluster);
        op->n = ROUND_UP(op->n, w->cluster);
        op->n = MIN(op->n, SECTORS - op->lba);
    }
    op->gen = op->type == WRITE ? ++w->next_gen : 0;
    op->buf = g_malloc(op->n * 512);
    for (unsigned i = 0; i < op->n; i++) {
        fill_sector(op->buf + i * 512, op->lba + i, op->gen);
    }
    qemu_iovec_init_buf(&op->qiov, op->buf, op->n * 512);
    submit(w, op);
}

static bool all_done(World *w)
{
    for (unsigned i = 0; i < w->nb; i++) {
        if (!w->ops[i].done) {
            return false;
        }
    }
    return true;
}

/* Let requests go in drawn order until all operations are over. */
static void complete(World *w)
{
    unsigned idle = 0;

    while (!all_done(w)) {
        test_turns(1 + draw(w, 4));
        if (fake_nb_held(w->disk)) {
            unsigned k = draw(w, fake_nb_held(w->disk));

            fake_release(w->disk, fake_nth_held(w->disk, k));
            idle = 0;
        } else if (++idle > 1000) {
            fail_msg("somebody waits for ever");
        }
    }
}

static bool touches(const Op *op, unsigned lba)
{
    return (op->type == WRITE || op->type == ZERO || op->type == DISCARD) &&
           lba >= op->lba && lba < op->lba + op->n;
}

/* Is it the contents from before (@before) or of one of the round? */
static bool explained(World *w, const uint8_t *p, unsigned lba, bool before,
                      unsigned *ret_gen)
{
    for (unsigned i = 0; i < w->nb; i++) {
        if (touches(&w->ops[i], lba)) {
            if (sector_is(p, lba, w->ops[i].gen)) {
                *ret_gen = w->ops[i].gen;
                return true;
            }
        }
    }
    *ret_gen = w->gen[lba];
    return before && sector_is(p, lba, w->gen[lba]);
}

static void check_round(World *w)
{
    uint8_t *disk = g_malloc(SECTORS * 512);
    unsigned now[SECTORS];
    unsigned gen;

    for (unsigned i = 0; i < w->nb; i++) {
        Op *op = &w->ops[i];

        assert_int_equal(op->ret, 0);
        for (unsigned k = 0; op->type == READ && k < op->n; k++) {
            if (!explained(w, op->buf + k * 512, op->lba + k, true, &gen)) {
                fail_msg("read of sector %u is foreign", op->lba + k);
            }
        }
    }
    assert_int_equal(blk_pread(w->blk, 0, SECTORS * 512, disk), 0);
    for (unsigned lba = 0; lba < SECTORS; lba++) {
        bool touched = false;

        for (unsigned i = 0; i < w->nb; i++) {
            touched |= touches(&w->ops[i], lba);
        }
        if (!explained(w, disk + lba * 512, lba, !touched, &now[lba])) {
            fail_msg("sector %u is foreign", lba);
        }
    }
    memcpy(w->gen, now, sizeof(now));
    g_free(disk);
}

static void check_idle(World *w)
{
    Qcow2State *s = q_state(w->blk);

    assert_int_equal(s->in_flight.length, 0);
    assert_int_equal(qcow2_cache_busy(s->l2_cache), 0);
    assert_int_equal(qcow2_cache_busy(s->refblock_cache), 0);
}

static void one_round(World *w)
{
    fake_log_clear(w->disk);
    fake_hold(w->disk, FAKE_ANY, 0, 0);
    w->nb = 2 + draw(w, MAX_OPS - 1);
    for (unsigned i = 0; i < w->nb; i++) {
        start(w, &w->ops[i]);
        if (draw(w, 2)) {
            test_turns(draw(w, 6));
        }
    }
    complete(w);
    fake_release_all(w->disk);
    check_round(w);
    check_idle(w);
    for (unsigned i = 0; i < w->nb; i++) {
        g_free(w->ops[i].buf);
    }
}

static void run(const char *create, const char *options, unsigned cluster,
                uint32_t seed, unsigned rounds)
{
    World *w = g_new0(World, 1);
    g_autofree uint8_t *image = NULL;
    Qcow2CheckResult r;

    w->cluster = cluster;
    w->rand = g_rand_new_with_seed(seed);
    w->disk = fake_disk_new("p", 0);
    q_create("fake:p", create);
    w->blk = q_open("fake:p", options, BDRV_O_RDWR | BDRV_O_UNMAP);
    for (unsigned i = 0; i < rounds; i++) {
        one_round(w);
        if (draw(w, 10) == 0) {
            assert_int_equal(q_vm_discard(w->blk), 0);
        }
        if (draw(w, 15) == 0) {
            assert_int_equal(q_snap_create(w->blk, "s", 0), 0);
        } else if (draw(w, 15) == 0) {
            (void)q_snap_delete(w->blk, "s");
        }
    }
    q_close(w->blk);
    image = g_malloc(w->disk->size);
    fake_disk_peek(w->disk, 0, image, w->disk->size);
    assert_int_equal(qcow2_checker_run(image, w->disk->size, &r), 0);
    if (r.corruptions || r.leaks || r.copied) {
        fail_msg("seed %u: %" PRIu64 " leaks, %" PRIu64 " flags, %" PRIu64
                 " corruptions: %s", seed, r.leaks, r.copied, r.corruptions,
                 r.first);
    }
    fake_disk_free(w->disk);
    g_rand_free(w->rand);
    g_free(w);
}

static void test_parallel_requests_in_any_order_of_completion(void **state)
{
    const char *env = g_getenv("FIRN_TEST_SEED");
    uint32_t seed = env ? atoi(env) : 1;

    for (unsigned i = 0; i < 6; i++) {
        run("size=256k,cluster_size=512,refcount_bits=64",
            "l2-cache-size=1k,l2-cache-entry-size=512,"
            "refcount-cache-size=2k", 1, seed + i, 80);
        run("size=256k,cluster_size=1k",
            "l2-cache-size=1k,l2-cache-entry-size=512", 2, seed + i, 80);
        run("size=256k,cluster_size=4k", NULL, 8, seed + i, 80);
        run("size=256k,cluster_size=16k,extended_l2=on",
            "l2-cache-size=1k,l2-cache-entry-size=512", 32, seed + i, 80);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_parallel_requests_in_any_order_of_completion,
            test_ctx_setup, test_ctx_teardown),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
