/* SPDX-License-Identifier: MIT */
/*
 * context.c: the contexts of ucontext.h.
 *
 * libc's set the kernel thread's mask by a system call of their own.  A worker's is the
 * runtime's and never changes; what a context has is its task's mask, before the first thread
 * as well as after, and in main while the runtime rests.  So ours save and load what libc's do,
 * where libc's do, and ask no kernel for the mask: a program may switch often.
 *
 * makecontext() is ours because what its function returns to is libc's own setcontext().
 */
#include "waiting.h"

#include <stdarg.h>
#include <stddef.h>

/* What shim/switch_x86_64.S goes by. */
_Static_assert(offsetof(ucontext_t, uc_mcontext.gregs) == 40 && REG_R8 == 0 &&
		   REG_R12 == 4 && REG_RDI == 8 && REG_RBP == 10 && REG_RDX == 12 &&
		   REG_RCX == 14 && REG_RSP == 15 && REG_RIP == 16 &&
		   offsetof(ucontext_t, uc_mcontext.fpregs) == 224 &&
		   offsetof(ucontext_t, __fpregs_mem) == 424 &&
		   offsetof(ucontext_t, __fpregs_mem.mxcsr) == 448,
	       "ucontext_t is as <sys/ucontext.h> has it");

#define UNUSED __attribute__((unused))

enum { N_IN_REGISTERS = 6 }; /* arguments, by the ABI */

/* The rest of the set is left alone, as the kernel leaves it. */
__attribute__((used)) static void save_mask(ucontext_t *uc)
{
	struct task *t = task_self();

	if (t == NULL)
		real.sigprocmask(SIG_BLOCK, NULL, &uc->uc_sigmask);
	else
		uc->uc_sigmask.__val[0] = signal_get_mask(t);
}

/* What it lets through is handled before this returns.  Who goes on in another context may have
 * coroutines on its own stack: see jump.c. */
static void load_mask(uint64_t mask)
{
	struct task *t = task_self();
	sigset_t set = {{mask}};

	if (t == NULL) {
		real.sigprocmask(SIG_SETMASK, &set, NULL);
		return;
	}
	task_keep_stack(t);
	signal_set_mask(t, mask);
}

__attribute__((used)) static void swap_masks(ucontext_t *from, const ucontext_t *to)
{
	uint64_t mask = sigset_word(&to->uc_sigmask); /* it may be the same */

	save_mask(from);
	load_mask(mask);
}

/* These two return to their caller more than once: nothing of ours is on the stack then. */
EXPORT __attribute__((naked)) int getcontext(ucontext_t *uc UNUSED)
{
	__asm__("pushq %rdi\n\t"
		".cfi_adjust_cfa_offset 8\n\t"
		"call save_mask\n\t"
		"popq %rdi\n\t"
		".cfi_adjust_cfa_offset -8\n\t"
		"jmp context_save");
}

EXPORT __attribute__((naked)) int swapcontext(ucontext_t *from UNUSED,
					      const ucontext_t *to UNUSED)
{
	__asm__("pushq %rdi\n\t"
		".cfi_adjust_cfa_offset 8\n\t"
		"pushq %rsi\n\t"
		".cfi_adjust_cfa_offset 8\n\t"
		"subq $8, %rsp\n\t"
		".cfi_adjust_cfa_offset 8\n\t"
		"call swap_masks\n\t"
		"addq $8, %rsp\n\t"
		".cfi_adjust_cfa_offset -8\n\t"
		"popq %rsi\n\t"
		".cfi_adjust_cfa_offset -8\n\t"
		"popq %rdi\n\t"
		".cfi_adjust_cfa_offset -8\n\t"
		"jmp context_swap");
}

EXPORT int setcontext(const ucontext_t *uc)
{
	struct task *t = task_self();

	/* Out of a handler, perhaps, as by longjmp. */
	if (t != NULL)
		signal_leave_handlers(t, (uintptr_t)uc->uc_mcontext.gregs[REG_RSP], NULL);
	load_mask(sigset_word(&uc->uc_sigmask));
	context_load(uc);
}

/* The function of a context has returned. */
static _Noreturn void context_end(const ucontext_t *link)
{
	if (link != NULL)
		setcontext(link);
	exit(0);
}

EXPORT void makecontext(ucontext_t *uc, void (*func)(void), int argc, ...)
{
	static const int registers[N_IN_REGISTERS] = {REG_RDI, REG_RSI, REG_RDX,
						      REG_RCX, REG_R8,  REG_R9};
	greg_t *regs = uc->uc_mcontext.gregs;
	int n_stacked = argc > N_IN_REGISTERS ? argc - N_IN_REGISTERS : 0;
	uintptr_t top = (uintptr_t)uc->uc_stack.ss_sp + uc->uc_stack.ss_size;
	greg_t *sp = (greg_t *)((top - (size_t)n_stacked * sizeof(*sp)) & -16UL) - 1;
	va_list args;

	sp[0] = (greg_t)switch_first;
	regs[REG_R12] = (greg_t)context_end;
	regs[REG_R13] = (greg_t)uc->uc_link;
	regs[REG_RSP] = (greg_t)sp;
	regs[REG_RIP] = (greg_t)func;
	/* Whole registers, as libc passes them: many give pointers for the ints. */
	va_start(args, argc);
	for (int i = 0; i < argc; i++)
		*(i < N_IN_REGISTERS ? &regs[registers[i]]
				     : &sp[1 + i - N_IN_REGISTERS]) =
		    va_arg(args, greg_t);
	va_end(args);
}
