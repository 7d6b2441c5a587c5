/* SPDX-License-Identifier: MIT */
/*
 * thread.h: what the files of interpose/ need of a thread's life.
 */
#ifndef PGREEN_THREAD_H
#define PGREEN_THREAD_H

#include "wrap.h"

/* As pthread_create, for POSIX and C11 threads (c11: start returns int).  0 or an errno;
 * ENOSYS: threads are native, the real function serves.  By the code at caller. */
int thread_create(pthread_t *id, const pthread_attr_t *attr, void *(*start)(void *),
		  void *arg, bool c11, const void *caller);

/* Ends the calling thread: cleanup handlers and C++ destructors run on the way. */
_Noreturn void thread_exit(void *result);

/* A cleanup handler of the current kind, which pthread_cleanup_push registers: libc's
 * __pthread_unwind_buf_t, whose private words are ours, laid out as libc's own: it may have
 * been registered there. */
struct cleanup_frame {
	struct {
		__jmp_buf registers;
		int mask_was_saved;
	} jump;
	struct cleanup_frame *outer;
	void *unused;  /* libc's register_cancel writes it */
	int was_async; /* where libc's has its type */
	void *unused_too;
};
_Static_assert(sizeof(struct cleanup_frame) == sizeof(__pthread_unwind_buf_t),
	       "programs allocate libc's size");

/* thread.c: names t, with as much as the kernel would take of name. */
void thread_set_name(struct task *t, const char *name);

/* cancel.c: what main, the caller, registered before the runtime woke is on our lists now. */
void cancel_take_over(struct task *t);

/* cancel.c: unwinds the calling task's stack and ends at the outermost frame registered,
 * or, when there is none (main), calls thread_end(). */
_Noreturn void cancel_unwind(struct task *t);

/* thread.c: the end of a task whose stack is unwound. */
_Noreturn void thread_end(struct task *t);

/*
 * cancel.c: what makes a cancel that libc acts on, at its own cancellation points, one of
 * ours.  It lies in the outermost frame of a task's stack.
 */
struct libc_points {
	__pthread_unwind_buf_t jump;
	struct _pthread_cleanup_buffer first;
};
void cancel_in_libc_too(struct task *t, struct libc_points *p);

/* The calling task ends: no cancel acts any more, ours or libc's. */
void end_begins(struct task *t);

/* cancel.c, for host: acts on a pending asynchronous cancel. */
void cancel_now(struct task *t);

#endif
