/* SPDX-License-Identifier: MIT */
/*
 * jump.c: longjmp out of a signal handler, and between coroutines.
 *
 * libc's sigsetjmp saved the kernel thread's mask, which is a worker's and says nothing of
 * the task's.  What a jump must put back is the task's mask from before the handlers that
 * it leaves: the runtime keeps that with each handler that runs.
 *
 * Who jumps may have coroutines, and their stacks may lie in the thread's own: in an array of
 * some frame, or below frames that it came back to.  Such a thread keeps all of its stack.
 */
#include <setjmp.h>

#include "wrap.h"

enum {
	JB_RSP = 6, /* sysdeps/x86_64/jmpbuf-offsets.h */
	MANGLE_ROTATE =
	    17, /* PTR_MANGLE: xor with the guard at %fs:0x30, then rotate left */
};

/* The stack pointer that a jump to env restores. */
static uintptr_t stack_pointer_of(const struct __jmp_buf_tag *env)
{
	uintptr_t sp = (uintptr_t)env->__jmpbuf[JB_RSP], guard;

	__asm__("movq %%fs:0x30, %0" : "=r"(guard));
	sp = sp >> MANGLE_ROTATE | sp << (64 - MANGLE_ROTATE);
	return sp ^ guard;
}

/*
 * Leaves the handlers behind; returns what to jump by: env, or a copy that does not touch
 * the kernel thread's mask, which is not the task's to set.
 */
static struct __jmp_buf_tag *leave_handlers(struct __jmp_buf_tag *env,
					    struct __jmp_buf_tag *copy)
{
	struct task *t = task_self();

	if (t == NULL)
		return env;
	cleanup_jump(t, stack_pointer_of(env));
	task_keep_stack(t);
	if (!env->__mask_was_saved) {
		signal_leave_handlers(t, stack_pointer_of(env), NULL);
		return env;
	}
	signal_leave_handlers(t, stack_pointer_of(env),
			      (const uint64_t *)&env->__saved_mask);
	*copy = *env;
	copy->__mask_was_saved = 0;
	return copy;
}

EXPORT _Noreturn void longjmp(struct __jmp_buf_tag env[1], int value)
{
	struct __jmp_buf_tag copy;

	real.longjmp(leave_handlers(env, &copy), value);
	__builtin_unreachable();
}

EXPORT _Noreturn void _longjmp(struct __jmp_buf_tag env[1], int value)
{
	struct __jmp_buf_tag copy;

	real._longjmp(leave_handlers(env, &copy), value);
	__builtin_unreachable();
}

EXPORT _Noreturn void siglongjmp(struct __jmp_buf_tag env[1], int value)
{
	struct __jmp_buf_tag copy;

	real.siglongjmp(leave_handlers(env, &copy), value);
	__builtin_unreachable();
}

EXPORT _Noreturn void __longjmp_chk(struct __jmp_buf_tag env[1], int value)
{
	struct __jmp_buf_tag copy;

	real.__longjmp_chk(leave_handlers(env, &copy), value);
	__builtin_unreachable();
}
