/* SPDX-License-Identifier: MIT */
/*
 * Stack switch for x86-64, System V ABI.
 *
 * What a function must preserve for its caller is pushed on the old stack:
 * rbp, rbx, r12-r15, and the control bits of MXCSR and of the x87 unit. The
 * frame of a stopped coroutine, from its saved stack pointer upwards:
 *
 *    0  MXCSR (4 bytes), x87 control word (2), padding
 *    8  r15, r14, r13, r12, rbx, rbp
 *   56  return address
 *
 * The first frame of a coroutine has the same form: it "returns" to
 * co_asm_start with the Coroutine in rbx.
 */

/* All but the exception flags, which a call may change. */
#define MXCSR_CONTROL 0xffc0

    .text

/*
 * void co_backend_switch(CoContext *save, CoContext load, CoAfter *after,
 *                        Coroutine *co)
 *
 * Stop here, leave the stack pointer in *save, and go on where load was saved.
 * There, unless after is NULL, call after(co), then return from the
 * co_backend_switch that saved load.
 *
 * The return is a jump: a ret would always go elsewhere than the CPU's return
 * stack predicts, since the matching call was the other stack's.
 */
    .globl  co_backend_switch
    .hidden co_backend_switch
    .type   co_backend_switch, @function
    .p2align 4
co_backend_switch:
    .cfi_startproc
    endbr64
    pushq   %rbp
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbp, 0
    pushq   %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    pushq   %r12
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r12, 0
    pushq   %r13
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r13, 0
    pushq   %r14
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r14, 0
    pushq   %r15
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r15, 0
    subq    $8, %rsp
    .cfi_adjust_cfa_offset 8
    stmxcsr (%rsp)
    fnstcw  4(%rsp)
    movl    (%rsp), %eax
    movzwl  4(%rsp), %r8d

    /* The frames on both stacks look alike, so the CFI holds throughout. */
    movq    %rsp, (%rdi)
    movq    %rsi, %rsp

    /* Loading them is slow, even more so when only status bits differ. */
    xorl    (%rsp), %eax
    testl   $MXCSR_CONTROL, %eax
    jnz     2f
1:  cmpw    4(%rsp), %r8w
    jne     3f

4:  testq   %rdx, %rdx
    jnz     6f
5:
    .cfi_remember_state
    addq    $8, %rsp
    .cfi_adjust_cfa_offset -8
    popq    %r15
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r15
    popq    %r14
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r14
    popq    %r13
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r13
    popq    %r12
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r12
    popq    %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbx
    popq    %rbp
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbp
    popq    %rcx
    .cfi_adjust_cfa_offset -8
    .cfi_register %rip, %rcx
    notrack jmp *%rcx

    .cfi_restore_state
2:  ldmxcsr (%rsp)
    jmp     1b
3:  fldcw   4(%rsp)
    jmp     4b
6:  movq    %rcx, %rdi
    call    *%rdx                       /* rsp is a multiple of 16 here */
    jmp     5b
    .cfi_endproc
    .size   co_backend_switch, . - co_backend_switch

/*
 * void *co_asm_init(void *top, Coroutine *co)
 *
 * Build the first frame below top, which is 16-byte aligned, and return the
 * stack pointer to enter it with. A coroutine inherits the floating-point
 * modes of whoever initializes it.
 */
    .globl  co_asm_init
    .hidden co_asm_init
    .type   co_asm_init, @function
    .p2align 4
co_asm_init:
    .cfi_startproc
    endbr64
    leaq    co_asm_start(%rip), %rax
    movq    %rax, -16(%rdi)             /* rsp is top - 8 after the ret */
    leaq    -72(%rdi), %rax
    stmxcsr (%rax)
    fnstcw  4(%rax)
    xorl    %ecx, %ecx
    movq    %rcx, -8(%rdi)              /* end of the stack for debuggers */
    movq    %rcx, 8(%rax)
    movq    %rcx, 16(%rax)
    movq    %rcx, 24(%rax)
    movq    %rcx, 32(%rax)
    movq    %rsi, 40(%rax)              /* rbx */
    movq    %rcx, 48(%rax)              /* rbp: end of the frame chain */
    ret
    .cfi_endproc
    .size   co_asm_init, . - co_asm_init

    .type   co_asm_start, @function
    .p2align 4
co_asm_start:
    .cfi_startproc
    .cfi_undefined %rip                 /* outermost frame */
    endbr64
    movq    %rbx, %rdi
    subq    $8, %rsp                    /* aligned to 16 for the call */
    call    co_main
    ud2
    .cfi_endproc
    .size   co_asm_start, . - co_asm_start

    .section .note.GNU-stack, "", @progbits

    /* Usable with indirect branch tracking; shadow stacks are not switched. */
    .section .note.gnu.property, "a", @note
    .p2align 3
    .long   4, 16, 5
    .asciz  "GNU"
    .long   0xc0000002, 4, 1, 0
