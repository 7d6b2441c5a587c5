/* SPDX-License-Identifier: MIT */
/*
 * switch_x86_64.S: the context switch, first entry, the interruptible system call, the
 * way back from a preemption, and clone.  All assembly of the project is here.
 */
	/* The runtime's section: see the Makefile. */
	.section shim_text, "ax", @progbits

/*
 * void switch_to(void **save /rdi, void *load /rsi, void *fs /rdx)
 * Saved frame, from low: [mxcsr:4 x87cw:2 pad:2] r15 r14 r13 r12 rbx rbp rip
 */
	.globl	switch_to
	.hidden	switch_to
	.type	switch_to, @function
	.p2align 4
switch_to:
	.cfi_startproc
	pushq	%rbp
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %rbp, 0
	pushq	%rbx
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %rbx, 0
	pushq	%r12
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %r12, 0
	pushq	%r13
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %r13, 0
	pushq	%r14
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %r14, 0
	pushq	%r15
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %r15, 0
	subq	$8, %rsp
	.cfi_adjust_cfa_offset 8
	movl	$0, 4(%rsp)
	stmxcsr	(%rsp)
	fnstcw	4(%rsp)
	movq	(%rsp), %r8		/* both control words, to compare */
	movq	%rsp, (%rdi)
	movq	%rsi, %rsp
	cmpb	$0, switch_has_fsgsbase(%rip)
	je	.Lno_fsgsbase
	wrfsbase %rdx
.Lfs_set:
	cmpq	(%rsp), %r8		/* loading them costs 8 ns; they rarely differ */
	jne	.Lload_control
.Lcontrol_set:
	.cfi_remember_state
	addq	$8, %rsp
	.cfi_adjust_cfa_offset -8
	popq	%r15
	.cfi_adjust_cfa_offset -8
	.cfi_restore %r15
	popq	%r14
	.cfi_adjust_cfa_offset -8
	.cfi_restore %r14
	popq	%r13
	.cfi_adjust_cfa_offset -8
	.cfi_restore %r13
	popq	%r12
	.cfi_adjust_cfa_offset -8
	.cfi_restore %r12
	popq	%rbx
	.cfi_adjust_cfa_offset -8
	.cfi_restore %rbx
	popq	%rbp
	.cfi_adjust_cfa_offset -8
	.cfi_restore %rbp
	popq	%rcx			/* an indirect jump: a ret would be mispredicted */
	.cfi_adjust_cfa_offset -8
	.cfi_register %rip, %rcx
	jmpq	*%rcx
	.cfi_restore_state
.Lload_control:
	ldmxcsr	(%rsp)
	fldcw	4(%rsp)
	jmp	.Lcontrol_set
.Lno_fsgsbase:
	movl	$158, %eax		/* arch_prctl(ARCH_SET_FS, fs) */
	movl	$0x1002, %edi
	movq	%rdx, %rsi
	syscall
	jmp	.Lfs_set
	.cfi_endproc
	.size	switch_to, . - switch_to

/* First entry of a task: entry in r12, argument in r13, from switch_prepare; and where the
 * first function of a program's context returns to.  No caller: an undefined return address
 * ends every backtrace here. */
	.globl	switch_first
	.hidden	switch_first
	.type	switch_first, @function
	.p2align 4
	.cfi_startproc
	.cfi_undefined %rip
	nop			/* where it is returned to: see preempt_trampoline */
switch_first:
	xorl	%ebp, %ebp
	movq	%r13, %rdi
	callq	*%r12
	ud2
	.cfi_endproc
	.size	switch_first, . - switch_first

/* The program's contexts: offsets in ucontext_t, which context.c of the wrappers checks. */
#define GREG(i)		40 + 8 * (i)
#define FPREGS		224
#define FPREGS_MEM	424
#define MXCSR		448

/* What a function must preserve, and its arguments, as libc does: of its caller, at its
 * entry. */
	.macro	SAVE_CONTEXT context
	movq	%r8, GREG(0)(\context)
	movq	%r9, GREG(1)(\context)
	movq	%r12, GREG(4)(\context)
	movq	%r13, GREG(5)(\context)
	movq	%r14, GREG(6)(\context)
	movq	%r15, GREG(7)(\context)
	movq	%rdi, GREG(8)(\context)
	movq	%rsi, GREG(9)(\context)
	movq	%rbp, GREG(10)(\context)
	movq	%rbx, GREG(11)(\context)
	movq	%rdx, GREG(12)(\context)
	movq	%rcx, GREG(14)(\context)
	movq	(%rsp), %rax
	leaq	8(%rsp), %r11
	movq	%r11, GREG(15)(\context)
	movq	%rax, GREG(16)(\context)
	leaq	FPREGS_MEM(\context), %rax
	movq	%rax, FPREGS(\context)
	fnstenv	(%rax)
	stmxcsr	MXCSR(\context)
	.endm

/* int context_save(ucontext_t * /rdi) */
	.globl	context_save
	.hidden	context_save
	.type	context_save, @function
	.p2align 4
context_save:
	.cfi_startproc
	SAVE_CONTEXT %rdi
	fldenv	(%rax)			/* fnstenv has masked the exceptions */
	xorl	%eax, %eax
	retq
	.cfi_endproc
	.size	context_save, . - context_save

/* int context_swap(ucontext_t *from /rdi, const ucontext_t *to /rsi) */
	.globl	context_swap
	.hidden	context_swap
	.type	context_swap, @function
	.p2align 4
context_swap:
	.cfi_startproc
	SAVE_CONTEXT %rdi
	movq	%rsi, %rdi
	jmp	context_load
	.cfi_endproc
	.size	context_swap, . - context_swap

/* void context_load(const ucontext_t * /rdi) */
	.globl	context_load
	.hidden	context_load
	.type	context_load, @function
	.p2align 4
context_load:
	.cfi_startproc
	movq	%rdi, %rax
	movq	FPREGS(%rax), %rcx
	fldenv	(%rcx)
	ldmxcsr	MXCSR(%rax)
	/* From here on whose frame it is, is in the context. */
	.cfi_def_cfa %rax, 0
	.cfi_offset %r12, GREG(4)
	.cfi_offset %r13, GREG(5)
	.cfi_offset %r14, GREG(6)
	.cfi_offset %r15, GREG(7)
	.cfi_offset %rbp, GREG(10)
	.cfi_offset %rbx, GREG(11)
	.cfi_offset %rsp, GREG(15)
	.cfi_offset %rip, GREG(16)
	movq	GREG(0)(%rax), %r8
	movq	GREG(1)(%rax), %r9
	movq	GREG(4)(%rax), %r12
	movq	GREG(5)(%rax), %r13
	movq	GREG(6)(%rax), %r14
	movq	GREG(7)(%rax), %r15
	movq	GREG(8)(%rax), %rdi
	movq	GREG(9)(%rax), %rsi
	movq	GREG(10)(%rax), %rbp
	movq	GREG(11)(%rax), %rbx
	movq	GREG(12)(%rax), %rdx
	movq	GREG(14)(%rax), %rcx
	movq	GREG(15)(%rax), %rsp
	movq	GREG(16)(%rax), %r11
	.cfi_endproc
	.cfi_startproc
	.cfi_def_cfa %rsp, 0
	.cfi_register %rip, %r11
	xorl	%eax, %eax
	jmpq	*%r11
	.cfi_endproc
	.size	context_load, . - context_load

/* long kernel_call_asm(volatile int *flag /rdi, long nr /rsi, const long args[6] /rdx)
 * The registers that a caller's frame may be found by lie on the stack meanwhile: of a
 * kernel thread in the kernel others are told %rsp and %rip alone, without stopping it. */
	.globl	kernel_call_asm
	.hidden	kernel_call_asm
	.type	kernel_call_asm, @function
	.p2align 4
kernel_call_asm:
	.cfi_startproc
	pushq	%rbp
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %rbp, 0
	pushq	%rbx
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %rbx, 0
	movq	%rdi, %r11
	movq	%rsi, %rax
	movq	%rdx, %rcx
	movq	0(%rcx), %rdi
	movq	8(%rcx), %rsi
	movq	16(%rcx), %rdx
	movq	24(%rcx), %r10
	movq	32(%rcx), %r8
	movq	40(%rcx), %r9
	.globl	kernel_call_begin
	.hidden	kernel_call_begin
kernel_call_begin:
	cmpl	$0, (%r11)
	jne	kernel_call_refused
	syscall
	.globl	kernel_call_end
	.hidden	kernel_call_end
kernel_call_end:
	popq	%rbx
	.cfi_remember_state
	.cfi_adjust_cfa_offset -8
	.cfi_restore %rbx
	popq	%rbp
	.cfi_adjust_cfa_offset -8
	.cfi_restore %rbp
	retq
	.globl	kernel_call_interrupted
	.hidden	kernel_call_interrupted
kernel_call_interrupted:
	.cfi_restore_state
	movq	$-4, %rax		/* -EINTR */
	jmp	kernel_call_end
	.globl	kernel_call_refused
	.hidden	kernel_call_refused
kernel_call_refused:
	movq	$-512, %rax		/* CALL_REFUSED */
	jmp	kernel_call_end
	.cfi_endproc
	.size	kernel_call_asm, . - kernel_call_asm

/*
 * The stack holds the frame that preempted() gets: struct signal_frame, with the general
 * registers in the order of ucontext_t from byte 48 on.  The unwinder is told where each
 * lies, relative to %rbx, so that it walks on into the interrupted code, as through the
 * kernel's own signal frames: cancellation unwinds here.  %rbx is the frame's address from the
 * first instruction on: a debugger may stop it there.
 */
#define SAVED(i) ((48 + 8 * (i)) & 0x7f) | 0x80, (48 + 8 * (i)) >> 7
/* DW_CFA_expression reg { DW_OP_breg3 offset } */
#define REGISTER_AT(reg, i) .cfi_escape 0x10, reg, 3, 0x73, SAVED(i)

	.globl	preempt_trampoline
	.hidden	preempt_trampoline
	.type	preempt_trampoline, @function
	.p2align 4
	.cfi_startproc
	.cfi_signal_frame
	/* DW_CFA_def_cfa_expression { DW_OP_breg3 rsp's place, DW_OP_deref } */
	.cfi_escape 0x0f, 4, 0x73, SAVED(15), 0x06
	REGISTER_AT(8, 0)
	REGISTER_AT(9, 1)
	REGISTER_AT(10, 2)
	REGISTER_AT(11, 3)
	REGISTER_AT(12, 4)
	REGISTER_AT(13, 5)
	REGISTER_AT(14, 6)
	REGISTER_AT(15, 7)
	REGISTER_AT(5, 8)	/* rdi */
	REGISTER_AT(4, 9)	/* rsi */
	REGISTER_AT(6, 10)	/* rbp */
	REGISTER_AT(3, 11)	/* rbx */
	REGISTER_AT(1, 12)	/* rdx */
	REGISTER_AT(0, 13)	/* rax */
	REGISTER_AT(2, 14)	/* rcx */
	REGISTER_AT(7, 15)	/* rsp */
	REGISTER_AT(16, 16)	/* rip */
	nop			/* the unwinder looks one byte before a frame's address */
preempt_trampoline:
	movq	%rsp, %rdi
	andq	$-16, %rsp
	callq	preempted
	leaq	8(%rbx), %rsp		/* the kernel expects the return address popped */
	movl	$15, %eax		/* rt_sigreturn */
	syscall
	ud2
	.cfi_endproc
	.size	preempt_trampoline, . - preempt_trampoline

/* void fpu_begin(struct fpu_env *saved /rdi) */
	.globl	fpu_begin
	.hidden	fpu_begin
	.type	fpu_begin, @function
fpu_begin:
	.cfi_startproc
	fnstenv	(%rdi)
	stmxcsr	28(%rdi)
	fninit
	movl	$0x1f80, -8(%rsp)	/* MXCSR_FIRST */
	ldmxcsr	-8(%rsp)
	retq
	.cfi_endproc
	.size	fpu_begin, . - fpu_begin

/* void fpu_end(const struct fpu_env *saved /rdi) */
	.globl	fpu_end
	.hidden	fpu_end
	.type	fpu_end, @function
fpu_end:
	.cfi_startproc
	fldenv	(%rdi)
	ldmxcsr	28(%rdi)
	retq
	.cfi_endproc
	.size	fpu_end, . - fpu_end

/* void call_on_stack(top /rdi, handler /rsi, sig /edx, info /rcx, context /r8) */
	.globl	call_on_stack
	.hidden	call_on_stack
	.type	call_on_stack, @function
	.p2align 4
call_on_stack:
	.cfi_startproc
	pushq	%rbp
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %rbp, 0
	movq	%rsp, %rbp
	.cfi_def_cfa_register %rbp
	movq	%rdi, %rsp
	movq	%rsi, %rax
	movl	%edx, %edi
	movq	%rcx, %rsi
	movq	%r8, %rdx
	callq	*%rax
	movq	%rbp, %rsp
	popq	%rbp
	.cfi_def_cfa %rsp, 8
	.cfi_restore %rbp
	retq
	.cfi_endproc
	.size	call_on_stack, . - call_on_stack

/*
 * Where the kernel has a handler return to: %rsp points at the ucontext_t.  Debuggers know the
 * instructions; libunwind goes by the tables alone, as it does in libc's own.
 */
#define KERNELS(i) ((40 + 8 * (i)) & 0x7f) | 0x80, (40 + 8 * (i)) >> 7
/* DW_CFA_expression reg { DW_OP_breg7 offset } */
#define KERNELS_AT(reg, i) .cfi_escape 0x10, reg, 3, 0x77, KERNELS(i)

	.globl	signal_restorer
	.hidden	signal_restorer
	.type	signal_restorer, @function
	.p2align 4
	.cfi_startproc
	.cfi_signal_frame
	/* DW_CFA_def_cfa_expression { DW_OP_breg7 rsp's place, DW_OP_deref } */
	.cfi_escape 0x0f, 4, 0x77, KERNELS(15), 0x06
	KERNELS_AT(8, 0)
	KERNELS_AT(9, 1)
	KERNELS_AT(10, 2)
	KERNELS_AT(11, 3)
	KERNELS_AT(12, 4)
	KERNELS_AT(13, 5)
	KERNELS_AT(14, 6)
	KERNELS_AT(15, 7)
	KERNELS_AT(5, 8)	/* rdi */
	KERNELS_AT(4, 9)	/* rsi */
	KERNELS_AT(6, 10)	/* rbp */
	KERNELS_AT(3, 11)	/* rbx */
	KERNELS_AT(1, 12)	/* rdx */
	KERNELS_AT(0, 13)	/* rax */
	KERNELS_AT(2, 14)	/* rcx */
	KERNELS_AT(7, 15)	/* rsp */
	KERNELS_AT(16, 16)	/* rip */
	nop			/* the unwinder looks one byte before a frame's address */
signal_restorer:
	movq	$15, %rax
	syscall
	.cfi_endproc
	.size	signal_restorer, . - signal_restorer

/* long clone_thread(flags /rdi, stack /rsi, parent_tid /rdx, child_tid /rcx, fs /r8,
 *                   entry /r9, arg /8(%rsp)) */
	.globl	clone_thread
	.hidden	clone_thread
	.type	clone_thread, @function
	.p2align 4
clone_thread:
	.cfi_startproc
	movq	8(%rsp), %rax
	andq	$-16, %rsi
	subq	$16, %rsi
	movq	%r9, 0(%rsi)
	movq	%rax, 8(%rsi)
	movq	%rcx, %r10
	movl	$56, %eax		/* clone(flags, stack, ptid, ctid, tls) */
	syscall
	testq	%rax, %rax
	jz	1f
	retq
1:	.cfi_undefined %rip
	xorl	%ebp, %ebp
	popq	%rax
	.cfi_adjust_cfa_offset -8
	popq	%rdi
	.cfi_adjust_cfa_offset -8
	callq	*%rax
	ud2
	.cfi_endproc
	.size	clone_thread, . - clone_thread

	.section .note.GNU-stack, "", @progbits
