/* SPDX-License-Identifier: MIT */
/*
 * Marks and small macros that every layer uses.
 *
 * coroutine_fn      may yield; call it from a coroutine only
 * no_coroutine_fn   blocks or polls; never call it from a coroutine
 *
 * REQUIRES, EXCLUDES, ACQUIRE and RELEASE are clang's thread-safety
 * attributes (-Wthread-safety) for CoMutex; other compilers see nothing.
 * DROPS(lock) says what those cannot: the lock is held on entry and on return
 * but not throughout, so whatever it protects may have changed in between.
 */
#ifndef FIRN_UTIL_COMPILER_H
#define FIRN_UTIL_COMPILER_H

#include <glib.h>
#include <stddef.h>
#include <stdint.h>

#define coroutine_fn
#define no_coroutine_fn

#if defined(__clang__)
#define FIRN_TSA(x) __attribute__((x))
#else
#define FIRN_TSA(x)
#endif

#define CAPABILITY(name) FIRN_TSA(capability(name))
#define REQUIRES(...)    FIRN_TSA(requires_capability(__VA_ARGS__))
#define EXCLUDES(...)    FIRN_TSA(locks_excluded(__VA_ARGS__))
#define ACQUIRE(...)     FIRN_TSA(acquire_capability(__VA_ARGS__))
#define TRY_ACQUIRE(...) FIRN_TSA(try_acquire_capability(__VA_ARGS__))
#define RELEASE(...)     FIRN_TSA(release_capability(__VA_ARGS__))
#define ASSERT_HELD(...) FIRN_TSA(assert_capability(__VA_ARGS__))
#define NO_TSA           FIRN_TSA(no_thread_safety_analysis)
#define DROPS(...)

#define container_of(ptr, type, member) \
    ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

/* @n must be a power of two for ROUND_UP, ROUND_DOWN and IS_ALIGNED. */
#define ROUND_DOWN(x, n)   ((x) & -(__typeof__(x))(n))
#define ROUND_UP(x, n)     ROUND_DOWN((x) + (__typeof__(x))((n) - 1), n)
#define IS_ALIGNED(x, n)   (((x) & ((__typeof__(x))(n) - 1)) == 0)
#define DIV_ROUND_UP(x, n) (((x) / (n)) + ((x) % (n) != 0))

#endif
