/* SPDX-License-Identifier: MIT */
/*
 * Memory of coroutines: one mapping each,
 *
 *    guard page | stack, grows down <--- | struct Coroutine | colour
 *
 * and what valgrind and the leak sanitizer want to know about it. Pooling is
 * coroutine.c's.
 */
#include "util/coroutine-int.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__has_include)
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#endif
#endif

#ifndef VALGRIND_STACK_REGISTER
#define VALGRIND_STACK_REGISTER(start, end) 0
#define VALGRIND_STACK_DEREGISTER(id)       ((void)(id))
#endif

#if CO_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/lsan_interface.h>
#endif

/*
 * Stacks are equal in size, so their tops would all fall into the same sets
 * of the CPU's caches. Start each one at one of COLOURS distances from the end
 * of its mapping.
 */
#define COLOURS      16
#define COLOUR_BYTES 256

static atomic_uint next_colour;

static size_t guard_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

Coroutine *co_stack_new(void)
{
    size_t guard = guard_bytes();
    size_t size = guard + CO_STACK_BYTES;
    unsigned colour = atomic_fetch_add_explicit(&next_colour, 1,
                                                memory_order_relaxed);
    char *map, *top;
    Coroutine *co;

    map = mmap(NULL, size, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        return NULL;
    }
    if (mprotect(map, guard, PROT_NONE) < 0) {
        munmap(map, size);
        return NULL;
    }
    top = map + size - colour % COLOURS * COLOUR_BYTES;
    co = (Coroutine *)ROUND_DOWN((uintptr_t)(top - sizeof(*co)), 64);
    co->stack = map + guard;
    co->stack_bytes = (size_t)((char *)co - (char *)co->stack);
    co->valgrind_id = VALGRIND_STACK_REGISTER(co->stack, (char *)co);
#if CO_ASAN
    __lsan_register_root_region(co->stack, CO_STACK_BYTES);
#endif
    return co;
}

void co_stack_free(Coroutine *co)
{
    size_t guard = guard_bytes();
    char *map = (char *)co->stack - guard;
    int ret;

    VALGRIND_STACK_DEREGISTER(co->valgrind_id);
#if CO_ASAN
    __lsan_unregister_root_region(co->stack, CO_STACK_BYTES);
    __asan_unpoison_memory_region(co->stack, CO_STACK_BYTES);
#endif
    ret = munmap(map, guard + CO_STACK_BYTES);
    assert(ret == 0);
}

/* Frames that never returned left their redzones poisoned. */
void co_stack_reuse(Coroutine *co)
{
#if CO_ASAN
    __asan_unpoison_memory_region(co->stack, co->stack_bytes);
#endif
}
