/* SPDX-License-Identifier: MIT */
/*
 * wrap.h: what every wrapper file includes, first, itself or by another header of
 * interpose/: libc's real functions (real.h) and the runtime's doors (shim.h).
 *
 * How to wrap another function:
 * 1. Change its row in symbols.def to WRAP (or TWIN for another name of a wrapper).
 * 2. Write its body in the file of its family, with libc's own prototype, as a
 *    translation into one of the runtime's doors (shim.h) and nothing else:
 *
 *	EXPORT ssize_t read(int fd, void *buf, size_t n)
 *	{
 *		struct task *t = task_self();
 *
 *		if (t == NULL)		the runtime sleeps: as if we were not there
 *			return real.read(fd, buf, n);
 *		return kernel_point(t, SYS_read, fd, (long)buf, n, 0, 0, 0);
 *	}
 *	ALIAS(__read, read);
 *
 * 3. tests/compat-table.sh --update docs/COMPATIBILITY.md; add its test; make check.
 *
 * Errors: the shim returns -E; interpose/ alone converts, with ret_errno() for calls that
 * set errno, and with a minus sign for those that return it.
 */
#ifndef PGREEN_WRAP_H
#define PGREEN_WRAP_H

#include "real.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <unwind.h>

#include "shim.h"

#define EXPORT __attribute__((visibility("default")))
#define ALIAS(new, old)            \
	extern __typeof__(old) new \
	    __attribute__((alias(#old), visibility("default"), copy(old)))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/*
 * What the kernel is to be told of a task's scheduling, by the task itself, which is bound
 * then: see schedule.c.  Who writes it holds schedule.c's lock, or creates the task, which
 * has it apart then; the task itself clears `what`.
 */
struct wish {
	_Atomic uint32_t what; /* bits of enum wish_kind; a futex */
	int error;             /* what came of the last: 0 or an errno */
	int policy, priority;
	int nice;
	bool
	    is_told; /* policy and priority are what the program last asked for, and got */
	uint64_t cpus[16]; /* as many as a cpu_set_t */
};
enum wish_kind { WISH_BIND = 1, WISH_POLICY = 2, WISH_NICE = 4, WISH_CPUS = 8 };

/* What interpose keeps of a task, in the storage that task_ext() gives: zero at first. */
struct task_ext {
	struct _Unwind_Exception exception; /* of its exit or cancel; see cancel.c */
	/* Owner only: cleanup handlers, innermost first, of the two kinds that C has. */
	struct cleanup_frame *frames;
	struct _pthread_cleanup_buffer *buffers;
	void *result;                    /* what it ends with */
	_Atomic uint32_t cancel_pending; /* anyone sets it, once; never cleared */
	/* The owner writes them; pthread_cancel reads. */
	_Atomic uint8_t cancel_disabled;
	_Atomic uint8_t cancel_async;
	_Atomic uint8_t cancel_in_libc; /* as async, for the length of a call */
	_Atomic uint8_t exiting;        /* it ends: no further cancel; see end_begins() */
	struct wish wish;               /* see schedule.c */
	/* Where its creator waits until it has what its attributes want; NULL: it does not. */
	struct creation *creation;
};
_Static_assert(sizeof(struct task_ext) <= 224, "task_ext() promises 224 bytes");

static inline long ret_errno(long r)
{
	if (r >= 0)
		return r;
	errno = -r;
	return -1;
}

/* --- points in time -------------------------------------------------------------------- */

static inline bool timespec_is_valid(const struct timespec *ts)
{
	return ts->tv_nsec >= 0 && ts->tv_nsec < 1000000000;
}

/* Nanoseconds of ts, saturated: far beyond any clock. */
static inline ns_t timespec_ns(const struct timespec *ts)
{
	if (ts->tv_sec >= INT64_MAX / 1000000000 - 1)
		return INT64_MAX - 1;
	if (ts->tv_sec < 0)
		return 0;
	return ts->tv_sec * 1000000000LL + ts->tv_nsec;
}

/* ns from now, saturated. */
static inline ns_t deadline_in(ns_t ns)
{
	ns_t now = now_ns();

	return ns < INT64_MAX - 1 - now ? now + ns : INT64_MAX - 1;
}

/* pthread_atfork, but that libc does not drop the handlers when this library is closed: exit()
 * closes it while other threads may be in fork(), and libc (2.36) then ends the process.  By
 * constructors. */
void at_fork(void (*before)(void), void (*in_parent)(void), void (*in_child)(void));

/*
 * The deadline for an absolute time on clock, CLOCK_REALTIME or CLOCK_MONOTONIC (others
 * count as the latter).  *deadline is NO_DEADLINE for a NULL ts.  0 or EINVAL.  Where another
 * preloaded library tells the program the time (libfaketime), ts is on its clock, and ours
 * counts what is left until then.
 */
int deadline_at(clockid_t clock, const struct timespec *ts, ns_t *deadline);

/* --- cancellation points ----------------------------------------------------------------- */

/* Acts on a pending cancel if the task allows it; then it does not return. */
void cancel_test(struct task *t);

/* Between these two, waits end with -EINTR when a cancel arrives that the task allows.
 * cancel_leave acts on it; callers whose call had an effect that must not be lost (a read
 * of bytes, a semaphore taken) pass acted = true, and the cancel stays pending. */
void cancel_enter(struct task *t);
void cancel_leave(struct task *t, bool acted);

/* Between these a cancel stays pending, also an asynchronous one, and ends no waits.  cancel_release
 * is told what cancel_hold said. */
bool cancel_hold(struct task *t);
void cancel_release(struct task *t, bool async);

/* Between these, in one function, routine(arg) is called when t's stack is unwound to above b, or
 * a jump leaves it. */
void cleanup_push(struct task *t, struct _pthread_cleanup_buffer *b,
		  void (*routine)(void *), void *arg);
void cleanup_pop(struct task *t, struct _pthread_cleanup_buffer *b);

/* A jump is about to leave what lies on t's stack below sp. */
void cleanup_jump(struct task *t, uintptr_t sp);

/* Around a function of libc that blocks and is a cancellation point: the kernel door, and a
 * cancel acts where it meets libc's wait, whose own cleanup then runs. */
void cancel_enter_libc(struct task *t);
void cancel_leave_libc(struct task *t);

/* --- the kernel door ------------------------------------------------------------------------ */

/* As kernel_try() for the caller t, for all that the call was asked for: of what our own
 * signal has cut short the rest comes as well. */
long kernel_whole(struct task *t, bool *begun, long nr, long a, long b, long c, long d,
		  long e, long f);

/* A system call that may block, announced; errno set.  It is made again when a signal
 * handler with SA_RESTART (and nothing else) interrupted it, unless the kernel would not
 * (see kernel_point_once). */
long kernel_door(struct task *t, long nr, long a, long b, long c, long d, long e, long f);

/* The same, and a cancellation point. */
long kernel_point(struct task *t, long nr, long a, long b, long c, long d, long e,
		  long f);

/* As kernel_point for calls that fail with EINTR after any handler: poll, select,
 * epoll_wait, nanosleep, semop, sigwait and their kin (signal(7)). */
long kernel_point_once(struct task *t, long nr, long a, long b, long c, long d, long e,
		       long f);

#endif
