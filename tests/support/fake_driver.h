/* SPDX-License-Identifier: MIT */
/*
 * A protocol driver for tests, "fake", backed by memory. Open "fake:NAME", or
 * driver=fake,name=NAME. Its FakeDisk outlives the node, so that a test can
 * close, or lose power, and open again what is left.
 *
 * It logs requests in order, holds them until told, fails the Nth, cuts power
 * after the Nth write and can lose what was not flushed. A request takes effect
 * (data is copied) when it is let go, not when it arrives. All functions belong
 * to the thread of the AioContext.
 *
 *   request --> logged --> held? --- fake_release --> fail or power cut?
 *                            | no                        | no
 *                            +--> goes once round the --> data moves, done
 *                                 loop unless ->sync
 */
#ifndef FIRN_TESTS_SUPPORT_FAKE_DRIVER_H
#define FIRN_TESTS_SUPPORT_FAKE_DRIVER_H

#include "block/block_int.h"

typedef enum FakeType {
    FAKE_READ    = 1 << 0,
    FAKE_WRITE   = 1 << 1,
    FAKE_ZERO    = 1 << 2,
    FAKE_DISCARD = 1 << 3,
    FAKE_FLUSH   = 1 << 4,
    FAKE_ANY     = 31,
} FakeType;

/* One request in the log; its index is its id. */
typedef struct FakeRequest {
    FakeType type;
    uint64_t offset;
    uint64_t bytes;
    unsigned flags;     /* BDRV_REQ_* */
    bool held;          /* waits for fake_release() now */
    bool done;
    unsigned done_seq;  /* place in the order of ends, from 0 */
    int ret;            /* when done */
} FakeRequest;

typedef struct FakeDisk {
    char *name;
    uint64_t size;

    /* What the driver claims; set before open. */
    uint32_t align;         /* request_alignment, default 1 */
    uint32_t mem_align;     /* mem_alignment, default 1 */
    uint64_t max_transfer;
    bool fua;               /* supports BDRV_REQ_FUA */
    bool zeroes;            /* supports co_pwrite_zeroes */
    bool copies;            /* supports co_copy_range; logged as a write */
    bool fixed_size;        /* not growable */
    bool sync;              /* requests do not yield on their own */

    /* Read these. */
    GPtrArray *log;         /* FakeRequest, in order of arrival */
    unsigned in_flight;
    unsigned max_in_flight; /* reset it when you like */
    unsigned nb_done;
    bool powered_off;

    struct FakeStore *now;      /* what reads return */
    struct FakeStore *durable;  /* as of the last flush */
    GPtrArray *pending;         /* writes since then, in order */
    GList *holds;
    GList *held;
    FakeType fail_types;
    uint64_t fail_in;           /* matches to go until one fails, 0: none */
    bool fail_sticky;
    int fail_errno;
    bool cut_armed;
    uint64_t cut_after;         /* writes to go until power is cut */
} FakeDisk;

/* Make disk @name, @size zero bytes, and register the driver. */
FakeDisk *fake_disk_new(const char *name, uint64_t size);
/* Nobody may have it open. NULL: nothing. */
void fake_disk_free(FakeDisk *d);
/* The disk called @name, or NULL. */
FakeDisk *fake_disk_find(const char *name);

/* --- Contents, without requests --- */

void fake_disk_peek(FakeDisk *d, uint64_t offset, void *buf, size_t bytes);
/* Durable at once; extends the disk. */
void fake_disk_poke(FakeDisk *d, uint64_t offset, const void *buf,
                    size_t bytes);
/* Replace contents and size by those of the file, or write them, sparse. 0 or
 * -errno. */
int fake_disk_load(FakeDisk *d, const char *path);
int fake_disk_save(FakeDisk *d, const char *path);

/* --- Log --- */

/* Forget the log; nothing may be in flight. */
void fake_log_clear(FakeDisk *d);
/* Requests in the log of any of @types. */
unsigned fake_count(const FakeDisk *d, FakeType types);
const FakeRequest *fake_request(const FakeDisk *d, unsigned id);
/* Id of the first request from @from on that is of @types and overlaps
 * [@offset, @offset + @bytes) (@bytes 0: anywhere), or -1. */
int fake_find(const FakeDisk *d, unsigned from, FakeType types,
              uint64_t offset, uint64_t bytes);

/* --- Holding --- */

/* Hold requests of @types that overlap the range (@bytes 0: all). */
void fake_hold(FakeDisk *d, FakeType types, uint64_t offset, uint64_t bytes);
/* Hold no further ones; those held stay. */
void fake_hold_none(FakeDisk *d);
/* Let request @id go; it must be held. */
void fake_release(FakeDisk *d, unsigned id);
/* Let all go, and hold no further ones. */
void fake_release_all(FakeDisk *d);
unsigned fake_nb_held(const FakeDisk *d);
/* Id of the @n-th request that is held, in order of arrival, or -1. */
int fake_nth_held(const FakeDisk *d, unsigned n);

/* --- Failing --- */

/* The @n-th request of @types from now on (1: the next) fails with @err
 * (positive), and with @sticky each one after it. @n 0: stop that. */
void fake_fail_nth(FakeDisk *d, FakeType types, uint64_t n, int err,
                   bool sticky);

/* After @n more writes (or zeroes) everything fails with -EIO and changes
 * nothing. */
void fake_cut_power_after(FakeDisk *d, uint64_t n);

/*
 * Power is back. What was not flushed is as it was written (@lose false), or
 * all of it is lost. For what is in between see fake_crash().
 */
void fake_power_on(FakeDisk *d, bool lose);

/*
 * Lose power and get it back: of the writes since the last flush each one is
 * kept or lost, as the generator @rand says, in 512-byte sectors.
 */
void fake_crash(FakeDisk *d, GRand *rand);

#endif
