/* SPDX-License-Identifier: MIT */
/*
 * Switch backend on assembly. All but the first stack frame is the work of
 * coroutine-<cpu>.S, which has co_backend_switch() too.
 */
#include "util/coroutine-int.h"

/* In coroutine-<cpu>.S; described there. */
void *co_asm_init(void *top, Coroutine *co);

void co_backend_init(Coroutine *co)
{
    co->own = co_asm_init((char *)co->stack + co->stack_bytes, co);
}
