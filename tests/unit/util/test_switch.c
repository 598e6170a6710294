/* SPDX-License-Identifier: MIT */
/*
 * The coroutine core without glib, cmocka or an event loop: plain C that runs
 * on the host as a unit test, and under qemu-aarch64 when it is built by
 * scripts/test-aarch64, with the assembly, coroutine.c and co-lock of util/.
 *
 * It stands in for aio.c, of which the core needs two functions.
 */
#include "util/aio.h"
#include "util/co-lock.h"
#include "util/coroutine.h"

#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

static unsigned checks;

#define CHECK(cond)                                                     \
    do {                                                                \
        checks++;                                                       \
        if (!(cond)) {                                                  \
            printf("%s:%d: failed: %s\n", __FILE__, __LINE__, #cond);   \
            exit(1);                                                    \
        }                                                               \
    } while (0)

/* -- The stand-in for aio.c: no thread has a context ---------------------- */

AioContext *aio_get_current(void)
{
    return NULL;
}

void aio_co_wake(Coroutine *co)
{
    abort();                    /* no coroutine has a home */
}

/* -- Registers ------------------------------------------------------------ */

/*
 * Fill all registers that a function must preserve with values made of @seed,
 * call co_yield(), and say how many have changed. The compiler may not know
 * that a call keeps them, so this is written for each CPU.
 */
#if defined(__aarch64__)
static __attribute__((noinline)) unsigned yield_with_registers(uint64_t seed)
{
    register uint64_t base __asm__("x0") = seed;
    uint64_t wrong;

    __asm__ volatile(
        "stp  x29, x30, [sp, #-32]!\n"
        "str  x0, [sp, #16]\n"
        ".irp n, 19,20,21,22,23,24,25,26,27,28\n"
        "add  x\\n, x0, #\\n\n"
        ".endr\n"
        ".irp n, 8,9,10,11,12,13,14,15\n"
        "add  x1, x0, #(100 + \\n)\n"
        "fmov d\\n, x1\n"
        ".endr\n"
        "bl   co_yield\n"
        "ldr  x0, [sp, #16]\n"
        "mov  x2, #0\n"
        ".irp n, 19,20,21,22,23,24,25,26,27,28\n"
        "add  x1, x0, #\\n\n"
        "cmp  x1, x\\n\n"
        "cinc x2, x2, ne\n"
        ".endr\n"
        ".irp n, 8,9,10,11,12,13,14,15\n"
        "add  x1, x0, #(100 + \\n)\n"
        "fmov x3, d\\n\n"
        "cmp  x1, x3\n"
        "cinc x2, x2, ne\n"
        ".endr\n"
        "mov  %[wrong], x2\n"
        "ldp  x29, x30, [sp], #32\n"
        : [wrong] "=r" (wrong), "+r" (base)
        :
        : "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11",
          "x12", "x13", "x14", "x15", "x16", "x17", "x19", "x20", "x21",
          "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x30", "v0", "v1",
          "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12",
          "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21",
          "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30",
          "v31", "cc", "memory");
    return (unsigned)wrong;
}
#elif defined(__x86_64__)
static __attribute__((noinline)) unsigned yield_with_registers(uint64_t seed)
{
    uint64_t wrong;
    void coroutine_fn (*yield)(void) = co_yield;

    __asm__ volatile(
        "movq %%rsp, %%rax\n"
        "subq $256, %%rsp\n"            /* past the red zone */
        "andq $-16, %%rsp\n"
        "movq %%rax, (%%rsp)\n"
        "movq %%rbp, 8(%%rsp)\n"
        "movq %[seed], 16(%%rsp)\n"
        "movq %[yield], %%rax\n"
        "movq %[seed], %%rdi\n"
        "leaq 1(%%rdi), %%rbx\n"
        "leaq 2(%%rdi), %%rbp\n"
        "leaq 3(%%rdi), %%r12\n"
        "leaq 4(%%rdi), %%r13\n"
        "leaq 5(%%rdi), %%r14\n"
        "leaq 6(%%rdi), %%r15\n"
        "call *%%rax\n"
        "movq 16(%%rsp), %%rdi\n"
        "subq %%rdi, %%rbx\n"
        "subq %%rdi, %%rbp\n"
        "subq %%rdi, %%r12\n"
        "subq %%rdi, %%r13\n"
        "subq %%rdi, %%r14\n"
        "subq %%rdi, %%r15\n"
        "xorq $1, %%rbx\n"
        "xorq $2, %%rbp\n"
        "xorq $3, %%r12\n"
        "xorq $4, %%r13\n"
        "xorq $5, %%r14\n"
        "xorq $6, %%r15\n"
        "movq %%rbx, %%rax\n"
        "orq  %%rbp, %%rax\n"
        "orq  %%r12, %%rax\n"
        "orq  %%r13, %%rax\n"
        "orq  %%r14, %%rax\n"
        "orq  %%r15, %%rax\n"
        "movq 8(%%rsp), %%rbp\n"
        "movq (%%rsp), %%rsp\n"
        : "=&a" (wrong)
        : [seed] "S" (seed), [yield] "d" (yield)
        : "rbx", "rcx", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
          "r14", "r15", "cc", "memory");
    return wrong != 0;
}
#else
static unsigned yield_with_registers(uint64_t seed)
{
    co_yield();
    return 0;
}
#endif

static unsigned wrong_registers;

static void coroutine_fn registers_entry(void *opaque)
{
    uint64_t seed = (uintptr_t)opaque;

    for (unsigned i = 0; i < 10; i++) {
        wrong_registers += yield_with_registers(seed * 0x0123456789abcdefull);
    }
}

static void check_registers(void)
{
    Coroutine *co[5];

    for (uintptr_t i = 0; i < 5; i++) {
        co[i] = co_create(registers_entry, (void *)(i + 1));
    }
    for (unsigned round = 0; round < 11; round++) {
        for (unsigned i = 0; i < 5; i++) {
            co_enter(co[i]);
        }
    }
    CHECK(wrong_registers == 0);
    CHECK(co_live_count() == 0);
}

/* -- Floating point modes, stack alignment -------------------------------- */

static unsigned modes[2];

/* x86-64 has two units; fegetround() looks at one of them. */
static unsigned rounding(void)
{
    unsigned mode = (unsigned)fegetround();

#if defined(__x86_64__)
    mode |= _MM_GET_ROUNDING_MODE() << 16;
#endif
    return mode;
}

static unsigned set_rounding(int mode)
{
    fesetround(mode);
    return rounding();
}

static void coroutine_fn modes_entry(void *opaque)
{
    modes[0] = set_rounding(FE_UPWARD);
    co_yield();
    CHECK(rounding() == modes[0]);
    co_yield();
    modes[1] = rounding();
}

static void check_modes(void)
{
    Coroutine *co = co_create(modes_entry, NULL);
    unsigned nearest = rounding(), down;

    co_enter(co);
    CHECK(rounding() == nearest);
    co_enter(co);
    down = set_rounding(FE_DOWNWARD);
    co_enter(co);
    CHECK(rounding() == down);
    CHECK(set_rounding(FE_TONEAREST) == nearest);
    CHECK(modes[0] != nearest && modes[0] != down && modes[1] == modes[0]);
}

static void coroutine_fn alignment_entry(void *opaque)
{
    long double __attribute__((aligned(16))) value = 1;
    char text[64];

    snprintf(text, sizeof(text), "%.1Lf", value);   /* aligned accesses */
    *(bool *)opaque = strcmp(text, "1.0") == 0 &&
                      ((uintptr_t)__builtin_frame_address(0) & 15) == 0;
}

static void check_alignment(void)
{
    bool aligned = false;

    co_enter(co_create(alignment_entry, &aligned));
    CHECK(aligned);
}

/* -- Control flow, reuse, threads ----------------------------------------- */

static char trace[128];

static void note(const char *what)
{
    strncat(trace, what, sizeof(trace) - strlen(trace) - 1);
}

static void coroutine_fn inner_entry(void *opaque)
{
    note("b");
    co_yield();
    note("d");
}

static void coroutine_fn outer_entry(void *opaque)
{
    Coroutine *inner = co_create(inner_entry, NULL);

    note("a");
    co_enter(inner);
    note("c");
    co_yield();
    co_enter(inner);
    note("e");
}

static void check_control_flow(void)
{
    Coroutine *co = co_create(outer_entry, NULL);

    co_enter(co);
    CHECK(strcmp(trace, "abc") == 0);
    co_enter(co);
    CHECK(strcmp(trace, "abcde") == 0);
    CHECK(co_self() == NULL);
    trace[0] = '\0';
}

static void check_many(void)
{
    enum { N = 600 };
    static Coroutine *co[N];

    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < N; i++) {
            co[i] = co_create(inner_entry, NULL);
            co_enter(co[i]);
        }
        CHECK(co_live_count() == N);
        for (unsigned i = 0; i < N; i++) {
            co_enter(co[i]);
        }
        CHECK(co_live_count() == 0);
    }
    trace[0] = '\0';
}

static void *enter_main(void *opaque)
{
    co_enter(opaque);
    return NULL;
}

static void check_threads(void)
{
    Coroutine *co = co_create(inner_entry, NULL);

    for (unsigned i = 0; i < 2; i++) {
        pthread_t thread;

        CHECK(pthread_create(&thread, NULL, enter_main, co) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    CHECK(strcmp(trace, "bd") == 0);
    CHECK(co_live_count() == 0);
    trace[0] = '\0';
}

/* -- Locks ---------------------------------------------------------------- */

static CoMutex mutex;
static CoQueue queue;
static CoRwlock rwlock;

static void coroutine_fn mutex_entry(void *opaque)
{
    co_mutex_lock(&mutex);
    note(opaque);
    co_yield();
    co_mutex_unlock(&mutex);
}

static void coroutine_fn queue_entry(void *opaque)
{
    co_mutex_lock(&mutex);
    co_queue_wait(&queue, &mutex);
    note(opaque);
    co_mutex_unlock(&mutex);
}

static void coroutine_fn writer_entry(void *opaque)
{
    co_rwlock_wrlock(&rwlock);
    note(opaque);
    co_yield();
    co_rwlock_downgrade(&rwlock);
    co_rwlock_unlock(&rwlock);
}

static void check_locks(void)
{
    Coroutine *a = co_create(mutex_entry, "a");
    Coroutine *b = co_create(mutex_entry, "b");

    co_mutex_init(&mutex);
    co_queue_init(&queue);
    co_rwlock_init(&rwlock);
    co_enter(a);
    co_enter(b);
    CHECK(strcmp(trace, "a") == 0);
    co_enter(a);
    CHECK(strcmp(trace, "ab") == 0);
    co_enter(b);

    co_enter(co_create(queue_entry, "c"));
    co_enter(co_create(queue_entry, "d"));
    co_queue_restart_all(&queue);
    CHECK(strcmp(trace, "abcd") == 0);

    a = co_create(writer_entry, "e");
    b = co_create(writer_entry, "f");
    co_enter(a);
    co_enter(b);
    CHECK(strcmp(trace, "abcde") == 0);
    co_enter(a);
    co_enter(b);
    CHECK(strcmp(trace, "abcdef") == 0);
    co_mutex_destroy(&mutex);
    co_rwlock_destroy(&rwlock);
    CHECK(co_live_count() == 0);
}

/* -- A mistake aborts ----------------------------------------------------- */

static void coroutine_fn enter_self(void *opaque)
{
    co_enter(co_self());
}

static void check_abort(void)
{
    int status;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        fclose(stderr);
        co_enter(co_create(enter_self, NULL));
        _exit(0);
    }
    CHECK(pid > 0);
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void)
{
    alarm(300);
    check_control_flow();
    check_registers();
    check_modes();
    check_alignment();
    check_many();
    check_threads();
    check_locks();
    check_abort();
    printf("test_switch: %u checks passed\n", checks);
    return 0;
}
