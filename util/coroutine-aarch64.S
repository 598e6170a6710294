/* SPDX-License-Identifier: MIT */
/*
 * Stack switch for AArch64, AAPCS64.
 *
 * What a function must preserve for its caller is stored on the old stack:
 * x19-x28, fp, lr, d8-d15, and FPCR (rounding and trap modes). The frame of a
 * stopped coroutine, from its saved stack pointer upwards:
 *
 *    0  x19, x20 ... x27, x28
 *   80  x29 (fp), x30 (lr)
 *   96  d8 ... d15
 *  160  FPCR, padding
 *
 * The first frame of a coroutine has the same form: it "returns" to
 * co_asm_start with the Coroutine in x19.
 */
#define FRAME_BYTES 176

    .text

/*
 * void co_backend_switch(CoContext *save, CoContext load, CoAfter *after,
 *                        Coroutine *co)
 *
 * Stop here, leave the stack pointer in *save, and go on where load was saved.
 * There, unless after is NULL, call after(co), then return from the
 * co_backend_switch that saved load.
 */
    .globl  co_backend_switch
    .hidden co_backend_switch
    .type   co_backend_switch, %function
    .p2align 4
co_backend_switch:
    .cfi_startproc
    hint    #34                         /* bti c */
    sub     sp, sp, #FRAME_BYTES
    .cfi_def_cfa_offset FRAME_BYTES
    stp     x19, x20, [sp, #0]
    stp     x21, x22, [sp, #16]
    stp     x23, x24, [sp, #32]
    stp     x25, x26, [sp, #48]
    stp     x27, x28, [sp, #64]
    stp     x29, x30, [sp, #80]
    .cfi_offset x19, -FRAME_BYTES
    .cfi_offset x20, -FRAME_BYTES + 8
    .cfi_offset x21, -FRAME_BYTES + 16
    .cfi_offset x22, -FRAME_BYTES + 24
    .cfi_offset x23, -FRAME_BYTES + 32
    .cfi_offset x24, -FRAME_BYTES + 40
    .cfi_offset x25, -FRAME_BYTES + 48
    .cfi_offset x26, -FRAME_BYTES + 56
    .cfi_offset x27, -FRAME_BYTES + 64
    .cfi_offset x28, -FRAME_BYTES + 72
    .cfi_offset x29, -FRAME_BYTES + 80
    .cfi_offset x30, -FRAME_BYTES + 88
    stp     d8, d9, [sp, #96]
    stp     d10, d11, [sp, #112]
    stp     d12, d13, [sp, #128]
    stp     d14, d15, [sp, #144]
    mrs     x5, fpcr
    str     x5, [sp, #160]

    /* The frames on both stacks look alike, so the CFI holds throughout. */
    mov     x4, sp
    str     x4, [x0]
    mov     sp, x1

    ldr     x4, [sp, #160]
    cmp     x5, x4                      /* writing FPCR is slow */
    b.eq    1f
    msr     fpcr, x4
1:  cbz     x2, 2f
    mov     x0, x3
    blr     x2
2:  ldp     d8, d9, [sp, #96]
    ldp     d10, d11, [sp, #112]
    ldp     d12, d13, [sp, #128]
    ldp     d14, d15, [sp, #144]
    ldp     x19, x20, [sp, #0]
    ldp     x21, x22, [sp, #16]
    ldp     x23, x24, [sp, #32]
    ldp     x25, x26, [sp, #48]
    ldp     x27, x28, [sp, #64]
    ldp     x29, x30, [sp, #80]
    add     sp, sp, #FRAME_BYTES
    .cfi_def_cfa_offset 0
    .cfi_restore x19
    .cfi_restore x20
    .cfi_restore x21
    .cfi_restore x22
    .cfi_restore x23
    .cfi_restore x24
    .cfi_restore x25
    .cfi_restore x26
    .cfi_restore x27
    .cfi_restore x28
    .cfi_restore x29
    .cfi_restore x30
    ret
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
    .type   co_asm_init, %function
    .p2align 4
co_asm_init:
    .cfi_startproc
    hint    #34                         /* bti c */
    sub     x0, x0, #FRAME_BYTES
    stp     x1, xzr, [x0, #0]           /* x19 */
    stp     xzr, xzr, [x0, #16]
    stp     xzr, xzr, [x0, #32]
    stp     xzr, xzr, [x0, #48]
    stp     xzr, xzr, [x0, #64]
    adr     x2, co_asm_start
    stp     xzr, x2, [x0, #80]          /* fp: end of the frame chain; lr */
    stp     xzr, xzr, [x0, #96]
    stp     xzr, xzr, [x0, #112]
    stp     xzr, xzr, [x0, #128]
    stp     xzr, xzr, [x0, #144]
    mrs     x3, fpcr
    str     x3, [x0, #160]
    ret
    .cfi_endproc
    .size   co_asm_init, . - co_asm_init

    .type   co_asm_start, %function
    .p2align 4
co_asm_start:
    .cfi_startproc
    .cfi_undefined x30                  /* outermost frame */
    mov     x0, x19
    bl      co_main
    brk     #1
    .cfi_endproc
    .size   co_asm_start, . - co_asm_start

    .section .note.GNU-stack, "", %progbits

    /* Usable with branch target identification. */
    .section .note.gnu.property, "a", %note
    .p2align 3
    .long   4, 16, 5
    .asciz  "GNU"
    .long   0xc0000000, 4, 1, 0
