/* SPDX-License-Identifier: MIT */
/*
 * Switch backend for CPUs without assembly, and for comparison: POSIX
 * ucontext. Slower, since each swapcontext() also sets the signal mask.
 *
 * A CoContext points to a CoUcontext on the stack that it describes, in the
 * frame of the co_backend_switch() that stopped there.
 */
#include "util/coroutine-int.h"

#include <assert.h>
#include <stdint.h>
#include <ucontext.h>

typedef struct CoUcontext {
    ucontext_t uc;
    CoAfter *after;             /* said by the one that goes back to it */
    Coroutine *co;
} CoUcontext;

/* makecontext() passes ints: the pointer comes in two halves. */
static void co_ucontext_start(unsigned high, unsigned low)
{
    uintptr_t co = (uintptr_t)((uint64_t)high << 32 | low);

    co_main((Coroutine *)co);
}

/* The first context has no frame yet: it lies below the struct. */
void co_backend_init(Coroutine *co)
{
    uintptr_t top = ((uintptr_t)co - sizeof(CoUcontext)) & ~(uintptr_t)63;
    CoUcontext *first = (CoUcontext *)top;
    uint64_t arg = (uintptr_t)co;
    int ret = getcontext(&first->uc);

    assert(ret == 0);
    first->uc.uc_stack.ss_sp = co->stack;
    first->uc.uc_stack.ss_size = top - (uintptr_t)co->stack;
    first->uc.uc_link = NULL;
    makecontext(&first->uc, (void (*)(void))co_ucontext_start, 2,
                (unsigned)(arg >> 32), (unsigned)arg);
    co->own = first;
}

/* uc_stack is cleared because swapcontext() leaves it and ASan's reads it. */
CO_NO_TSAN void co_backend_switch(CoContext *save, CoContext load,
                                  CoAfter *after, Coroutine *co)
{
    CoUcontext here;
    CoUcontext *there = load;

    here.uc.uc_stack.ss_sp = NULL;
    here.uc.uc_stack.ss_size = 0;
    there->after = after;
    there->co = co;
    *save = &here;
    swapcontext(&here.uc, &there->uc);
    if (here.after) {
        here.after(here.co);
    }
}
