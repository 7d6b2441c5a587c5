/* SPDX-License-Identifier: MIT */
/*
 * jump.c: longjmp out of a signal handler.
 *
 * libc's sigsetjmp saved the kernel thread's mask, which is a worker's and says nothing of
 * the task's.  What a jump must put back is the task's mask from before the handlers that
 * it leaves: the runtime keeps that with each handler that runs.
 */
#include <setjmp.h>

#include "wrap.h"

enum {
	JB_RSP = 6,	    /* sysdeps/x86_64/jmpbuf-offsets.h */
	MANGLE_ROTATE = 17, /* PTR_MANGLE: xor with the guard at %fs:0x30, then rotate left */
};

/* The stack pointer that a jump to env restores. */
static uintptr_t stack_pointer_of(const struct __jmp_buf_tag *env)
{
	uintptr_t sp = (uintptr_t)env->__jmpbuf[JB_RSP], guard;

	__asm__("movq %%fs:0x30, %0" : "=r"(guard));
	sp = sp >> MANGLE_ROTATE | sp << (64 - MANGLE_ROTATE);
	return sp ^ guard;
}

static void leave_handlers(const struct __jmp_buf_tag *env)
{
	struct task *t = task_self();

	if (t != NULL)
		signal_leave_handlers(t, stack_pointer_of(env), env->__mask_was_saved != 0);
}

EXPORT _Noreturn void longjmp(struct __jmp_buf_tag env[1], int value)
{
	leave_handlers(env);
	real.longjmp(env, value);
	__builtin_unreachable();
}

EXPORT _Noreturn void _longjmp(struct __jmp_buf_tag env[1], int value)
{
	leave_handlers(env);
	real._longjmp(env, value);
	__builtin_unreachable();
}

EXPORT _Noreturn void siglongjmp(struct __jmp_buf_tag env[1], int value)
{
	leave_handlers(env);
	real.siglongjmp(env, value);
	__builtin_unreachable();
}

EXPORT _Noreturn void __longjmp_chk(struct __jmp_buf_tag env[1], int value)
{
	leave_handlers(env);
	real.__longjmp_chk(env, value);
	__builtin_unreachable();
}
