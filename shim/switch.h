/* SPDX-License-Identifier: MIT */
/*
 * switch.h: the context switch; the contract of switch_x86_64.S.
 */
#ifndef PGREEN_SWITCH_H
#define PGREEN_SWITCH_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Saves the caller's callee-saved registers, mxcsr and x87 control word on its stack,
 * its stack pointer in *save, and continues the context whose stack pointer is load with
 * %fs at fs.  Returns when somebody continues *save.  Inside the runtime only.
 */
void switch_to(void **save, void *load, void *fs);

/* Writes what switch_to wants to find on a fresh stack that ends at top, so that the first
 * switch calls entry(arg) there; returns the stack pointer to load.  Never returns from
 * entry.  top is 16-byte aligned. */
void *switch_prepare(void *top, void (*entry)(void *), void *arg);

/* 1: wrfsbase is allowed in user mode (AT_HWCAP2, bit 1); 0: arch_prctl does it.  Set once
 * before the first switch. */
extern uint8_t switch_has_fsgsbase __attribute__((visibility("hidden")));

/*
 * PKRU, what each protection key allows, is a task's too, once a key is in use: that is,
 * once pkey_alloc() has succeeded, and so the CPU has the register.  Beside the switch, not
 * in it, for hardly any program has keys.
 */
extern uint8_t switch_keeps_pkru __attribute__((visibility("hidden")));
enum { PKRU_FIRST = 0x55555554 }; /* Linux's for a new process: key 0 alone */

static inline uint32_t pkru_read(void)
{
	uint32_t pkru, high;

	__asm__ volatile("rdpkru" : "=a"(pkru), "=d"(high) : "c"(0));
	return pkru;
}

static inline void pkru_write(uint32_t pkru)
{
	__asm__ volatile("wrpkru" : : "a"(pkru), "c"(0), "d"(0) : "memory");
}

/* The control words of a new process, and of a signal handler: all exceptions masked. */
enum { X87_CONTROL_FIRST = 0x37f, MXCSR_FIRST = 0x1f80 };

struct fpu_env {
	uint32_t x87[7]; /* fnstenv's */
	uint32_t mxcsr;
};

/*
 * Around a signal handler: it begins with the first control words, and what it changes is
 * undone when it returns, as the kernel does it.  By a task, where it calls a function: the
 * registers themselves are nobody's there.
 */
void fpu_begin(struct fpu_env *saved);
void fpu_end(const struct fpu_env *saved);

enum { CALL_REFUSED = -512 }; /* the kernel's ERESTARTSYS, which it never returns */

/*
 * kernel_call_asm: the system call nr, unless *flag is nonzero: then CALL_REFUSED at once.  A
 * signal handler that finds its program counter in [kernel_call_begin, kernel_call_end)
 * sets it to kernel_call_refused, so that a flag raised after the check and before the
 * kernel is entered is not lost (as musl's cancellation points do).
 */
long kernel_call_asm(_Atomic int *flag, long nr, const long args[6]);
extern const char kernel_call_begin[] __attribute__((visibility("hidden")));
extern const char kernel_call_end[] __attribute__((visibility("hidden")));
extern const char kernel_call_interrupted[] __attribute__((visibility("hidden")));
extern const char kernel_call_refused[] __attribute__((visibility("hidden")));

/*
 * Where the preemption signal makes an interrupted task go on: %rsp points at a struct
 * signal_frame; calls preempted(frame), then returns to the interrupted code by
 * rt_sigreturn, which restores every register.
 */
extern const char preempt_trampoline[] __attribute__((visibility("hidden")));

/* handler(sig, info, context) on the stack that ends at top, which is 16-byte aligned. */
void call_on_stack(void *top, void *handler, int sig, void *info, void *context);

/* The restorer of our own signal actions: rt_sigreturn. */
extern const char signal_restorer[] __attribute__((visibility("hidden")));

/* clone(2) with args (CLONE_VM and friends), the child calling entry(arg) on stack.
 * Returns the tid or -errno. */
long clone_thread(unsigned long flags, void *stack, int *parent_tid, int *child_tid,
		  void *fs, void (*entry)(void *), void *arg);

#endif
