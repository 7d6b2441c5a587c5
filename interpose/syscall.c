/* SPDX-License-Identifier: MIT */
/*
 * syscall.c: the program's own system calls, and its thread id.
 *
 * What a kernel thread would be asked and a task must answer is ours: futexes of the process
 * (Rust's std, abseil and folly build their locks on them), ids, sleeps, yields, signals to
 * a thread, a thread's end; and what waits for descriptors or ends such waits (callio.c).  All
 * others are made as they are, by door 4.
 *
 * syscall() is no cancellation point.
 */
#include "bind.h"
#include "inlined.h"
#include "io.h"
#include "mutex.h"
#include "popen.h"
#include "schedule.h"
#include "signal.h"
#include "sleep.h"
#include "thread.h"
#include "waiting.h"

#include <linux/futex.h>
#include <stdarg.h>

/* --- waiting -------------------------------------------------------------------------- */

/* Calls that the kernel does not begin anew after any handler (signal(7)). */
static bool is_never_restarted(long nr)
{
	switch (nr) {
	case SYS_semop:
	case SYS_semtimedop:
	case SYS_msgrcv:
	case SYS_msgsnd:
	case SYS_io_getevents:
	case SYS_io_pgetevents:
		return true;
	default:
		return false;
	}
}

static long call_kernel(struct task *t, long nr, bool by_any, const long a[6])
{
	uint32_t handlers;
	bool begun = false;
	long r;

	do {
		handlers = signal_handlers_run(t);
		signal_take_eintr(t);
		r = kernel_whole(t, &begun, nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	} while (r == -EINTR && !(is_interrupted(t, by_any, handlers) && begun));
	return r;
}

/* --- futexes --------------------------------------------------------------------------- */

/* futex(2)'s arguments, by the names it has for them. */
struct futex {
	_Atomic uint32_t *addr;
	int op;
	uint32_t val;
	const struct timespec *timeout; /* or val2 */
	_Atomic uint32_t *addr2;
	uint32_t val3;
};

/* Only what the kernel would refuse without looking; else a bad address is a fault. */
static int check_address(const void *addr)
{
	if ((uintptr_t)addr % sizeof(uint32_t) != 0)
		return -EINVAL;
	return (uintptr_t)addr < 4096 ? -EFAULT : 0;
}

static int futex_deadline(const struct futex *f, bool is_point, ns_t *deadline)
{
	clockid_t clock = f->op & FUTEX_CLOCK_REALTIME ? CLOCK_REALTIME : CLOCK_MONOTONIC;

	*deadline = NO_DEADLINE;
	if (f->timeout == NULL)
		return 0;
	if (!timespec_is_valid(f->timeout) || f->timeout->tv_sec < 0)
		return -EINVAL;
	if (is_point)
		return -deadline_at(clock, f->timeout, deadline);
	*deadline = deadline_in(timespec_ns(f->timeout));
	return 0;
}

/* is_point: the timeout is a point in time; else it is a length. */
static int futex_wait(struct task *t, const struct futex *f, uint32_t bits, bool is_point)
{
	ns_t deadline;
	int r = futex_deadline(f, is_point, &deadline);

	if (r == 0)
		r = check_address(f->addr);
	if (r != 0 || bits == 0)
		return r != 0 ? r : -EINVAL;
	for (;;) {
		uint32_t handlers = signal_handlers_run(t);

		signal_take_eintr(t);
		task_waits_for(t, WAIT_FUTEX, f->addr);
		r = park_on_bits(f->addr, f->val, bits, deadline);
		if (r != -EINTR || is_interrupted(t, f->timeout != NULL, handlers))
			return r;
	}
}

enum {
	CALL_FUTEX_WAITV = 449, /* asm/unistd_64.h, which may be older */
	CALL_FUTEX_WAKE = 454,
	CALL_FUTEX_WAIT = 455,
	FUTEX2_OF_PROCESS = FUTEX_PRIVATE_FLAG, /* linux/futex.h: FUTEX2_PRIVATE */
};

/* futex_waitv() and the waits of futex2 (Linux 5.16 and 6.7) park nobody: who calls them waits
 * in the kernel, for the process's futexes too. */
static long call_kernel_wait(struct task *t, long nr, const long a[6])
{
	futexes_wait_in_kernel = true;
	return call_kernel(t, nr, false, a);
}

/* The kernel says whether the call is right. */
static long call_futex_wake(struct task *t, const long a[6])
{
	_Atomic uint32_t *addr = (void *)a[0];
	int n = (int)a[2];
	long r = call_kernel(t, CALL_FUTEX_WAKE, false, a);

	if (r >= 0 && r < n && (a[3] & FUTEX2_OF_PROCESS))
		r += wake_bits(addr, n - (int)r, (uint32_t)a[1]);
	return r;
}

static int at_least_one(uint32_t n)
{
	return (int)n > 0 ? (int)n : 1; /* as the kernel, whatever the manual says */
}

static int futex_wake(const struct futex *f, uint32_t bits)
{
	if ((uintptr_t)f->addr % sizeof(uint32_t) != 0 || bits == 0)
		return -EINVAL;
	return wake_bits(f->addr, at_least_one(f->val), bits);
}

static int futex_requeue(const struct futex *f, bool check)
{
	int n_wake = (int)f->val, n_move = (int)(intptr_t)f->timeout;
	int r = (uintptr_t)f->addr2 % sizeof(uint32_t) != 0 ? -EINVAL
							    : check_address(f->addr);

	if (r != 0 || n_wake < 0 || n_move < 0)
		return r != 0 ? r : -EINVAL;
	return requeue(f->addr, f->addr2, n_wake, n_move, check, f->val3);
}

static int sign_extend_12(uint32_t n)
{
	return (int)(n << 20) >> 20;
}

/* What FUTEX_WAKE_OP does to the second word; *before is its old value. */
static int operate(const struct futex *f, int *before)
{
	uint32_t op = f->val3 >> 28, arg = sign_extend_12(f->val3 >> 12);
	uint32_t old, new;

	if (op & FUTEX_OP_OPARG_SHIFT)
		arg = 1U << (arg & 31);
	old = atomic_load_explicit(f->addr2, memory_order_relaxed);
	do {
		switch (op & ~FUTEX_OP_OPARG_SHIFT) {
		case FUTEX_OP_SET:
			new = arg;
			break;
		case FUTEX_OP_ADD:
			new = old + arg;
			break;
		case FUTEX_OP_OR:
			new = old | arg;
			break;
		case FUTEX_OP_ANDN:
			new = old & ~arg;
			break;
		case FUTEX_OP_XOR:
			new = old ^ arg;
			break;
		default:
			return -ENOSYS;
		}
		/* As the kernel's: pairs with whatever the program does with its word. */
	} while (!atomic_compare_exchange_weak_explicit(
	    f->addr2, &old, new, memory_order_seq_cst, memory_order_relaxed));
	*before = (int)old;
	return 0;
}

/* 1, 0, or -ENOSYS. */
static int compare(uint32_t val3, int before)
{
	int arg = sign_extend_12(val3);

	switch (val3 >> 24 & 15) {
	case FUTEX_OP_CMP_EQ:
		return before == arg;
	case FUTEX_OP_CMP_NE:
		return before != arg;
	case FUTEX_OP_CMP_LT:
		return before < arg;
	case FUTEX_OP_CMP_LE:
		return before <= arg;
	case FUTEX_OP_CMP_GT:
		return before > arg;
	case FUTEX_OP_CMP_GE:
		return before >= arg;
	default:
		return -ENOSYS;
	}
}

static int futex_wake_op(const struct futex *f)
{
	int before, also = 0, n, r = check_address(f->addr2);

	if ((uintptr_t)f->addr % sizeof(uint32_t) != 0)
		return -EINVAL;
	if (r == 0)
		r = operate(f, &before);
	if (r == 0)
		r = also = compare(f->val3, before);
	if (r < 0)
		return r;
	n = wake_bits(f->addr, at_least_one(f->val), FUTEX_BITSET_MATCH_ANY);
	if (also)
		n += wake_bits(f->addr2, at_least_one((uint32_t)(uintptr_t)f->timeout),
			       FUTEX_BITSET_MATCH_ANY);
	return n;
}

/* A futex of this process alone, and none that has an owner. */
static bool is_our_futex(int op)
{
	if (!(op & FUTEX_PRIVATE_FLAG))
		return false;
	switch (op & FUTEX_CMD_MASK) {
	case FUTEX_WAIT_BITSET:
		return true;
	case FUTEX_WAIT:
	case FUTEX_WAKE:
	case FUTEX_WAKE_BITSET:
	case FUTEX_REQUEUE:
	case FUTEX_CMP_REQUEUE:
	case FUTEX_WAKE_OP:
		return !(op & FUTEX_CLOCK_REALTIME); /* the kernel has its own answer */
	default:
		return false;
	}
}

static int our_futex(struct task *t, const struct futex *f)
{
	switch (f->op & FUTEX_CMD_MASK) {
	case FUTEX_WAIT:
		return futex_wait(t, f, FUTEX_BITSET_MATCH_ANY, false);
	case FUTEX_WAIT_BITSET:
		return futex_wait(t, f, f->val3, true);
	case FUTEX_WAKE:
		return futex_wake(f, FUTEX_BITSET_MATCH_ANY);
	case FUTEX_WAKE_BITSET:
		return futex_wake(f, f->val3);
	case FUTEX_REQUEUE:
		return futex_requeue(f, false);
	case FUTEX_CMP_REQUEUE:
		return futex_requeue(f, true);
	default:
		return futex_wake_op(f);
	}
}

static long call_futex(struct task *t, const long a[6])
{
	const struct futex f = {
	    .addr = (_Atomic uint32_t *)a[0],
	    .op = (int)a[1],
	    .val = (uint32_t)a[2],
	    .timeout = (const struct timespec *)a[3],
	    .addr2 = (_Atomic uint32_t *)a[4],
	    .val3 = (uint32_t)a[5],
	};
	int command = f.op & FUTEX_CMD_MASK;

	if (is_our_futex(f.op))
		return our_futex(t, &f);
	return call_kernel(
	    t, SYS_futex,
	    (command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET) && a[3] != 0, a);
}

/* --- signals and ends -------------------------------------------------------------------- */

/* What the kernel sends may come back. */
static long call_send(struct task *t, long nr, int sig, const long a[6])
{
	return signal_sent(t, sig, call_kernel(t, nr, false, a));
}

/* tgid 0: any. */
static long call_kill(struct task *t, int tgid, int tid, int sig, long nr,
		      const long a[6])
{
	if (tid >= FIRST_TASK_TID || task_of_tid(tid) != NULL) {
		if (tgid != 0 && tgid != getpid())
			return -ESRCH;
		return thread_kill_tid(tid, sig);
	}
	return call_kernel(t, nr, false, a);
}

static long call_queue(struct task *t, const long a[6])
{
	int tid = (int)a[1];

	if (a[0] == getpid() && (tid >= FIRST_TASK_TID || task_of_tid(tid) != NULL))
		return thread_queue_tid(t, tid, (int)a[2], (const siginfo_t *)a[3]);
	return call_kernel(t, SYS_rt_tgsigqueueinfo, false, a);
}

static long call_sigmask(struct task *t, int how, const uint64_t *set, uint64_t *old)
{
	uint64_t before = signal_get_mask(t), mask = before;

	if (set != NULL && how == SIG_BLOCK)
		mask |= *set;
	else if (set != NULL && how == SIG_UNBLOCK)
		mask &= ~*set;
	else if (set != NULL && how == SIG_SETMASK)
		mask = *set;
	else if (set != NULL)
		return -EINVAL;
	signal_set_mask(t, mask);
	if (old != NULL)
		*old = before;
	return 0;
}

/* The end of the thread alone, without its destructors. */
static long call_exit(struct task *t, int status)
{
	if (task_is_adopted(t)) {
		task_unadopt(t);
		real.syscall(SYS_exit, status);
	}
	if (task_count() == 1)
		real.syscall(SYS_exit_group, status);
	mutex_task_ends(t);
	task_exit(NULL);
}

/* --- the functions ------------------------------------------------------------------------ */

static long call(struct task *t, long nr, const long a[6])
{
	long result;

	switch (nr) {
	case SYS_futex:
		return call_futex(t, a);
	case CALL_FUTEX_WAITV:
	case CALL_FUTEX_WAIT:
		return call_kernel_wait(t, nr, a);
	case CALL_FUTEX_WAKE:
		return call_futex_wake(t, a);
	case SYS_gettid:
	case SYS_set_tid_address: /* it would be the worker's, which the runtime registered */
		return task_tid(t);
	case SYS_set_robust_list:
	case SYS_rseq:
		/* Likewise: no registration of one kernel thread can follow a task. */
		return nr == SYS_rseq ? -ENOSYS : 0;
	case SYS_sched_yield:
		task_yield();
		return 0;
	case SYS_nanosleep:
		return sleep_on_clock(t, CLOCK_MONOTONIC, 0, (const void *)a[0],
				      (void *)a[1]);
	case SYS_clock_nanosleep:
		return sleep_on_clock(t, (clockid_t)a[0], (int)a[1], (const void *)a[2],
				      (void *)a[3]);
	case SYS_tkill:
		return call_kill(t, 0, (int)a[0], (int)a[1], nr, a);
	case SYS_tgkill:
		return call_kill(t, (int)a[0], (int)a[1], (int)a[2], nr, a);
	case SYS_rt_tgsigqueueinfo:
		return call_queue(t, a);
	case SYS_sigaltstack: /* the worker has its own */
		return signal_altstack(t, (const stack_t *)a[0], (stack_t *)a[1]);
	case SYS_kill:
		return kill((pid_t)a[0], (int)a[1]) == 0 ? 0 : -errno;
	case SYS_rt_sigqueueinfo:
	case SYS_pidfd_send_signal:
		return call_send(t, nr, (int)a[1], a);
	case SYS_rt_sigprocmask:
		return a[3] == sizeof(uint64_t)
			   ? call_sigmask(t, (int)a[0], (const void *)a[1], (void *)a[2])
			   : -EINVAL;
	case SYS_execve:
	case SYS_execveat:
		return process_exec(t, nr, a);
	case SYS_exit:
		return call_exit(t, (int)a[0]);
	default:
		if (sched_call(t, nr, a, &result) || bind_call(t, nr, a, &result) ||
		    io_call(t, nr, a, &result))
			return result;
		return call_kernel(t, nr, is_never_restarted(nr), a);
	}
}

/* A call that was made without us: nobody there expects errno to change. */
long serve_system_call(struct task *t, long nr, const long a[6])
{
	int saved_errno = errno;
	long r = call(t, nr, a);

	errno = saved_errno;
	return r;
}

EXPORT long syscall(long nr, ...)
{
	struct task *t = task_self();
	long a[6];
	va_list ap;

	/* As libc's: who gave fewer gets what the registers and the stack happen to hold. */
	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (t == NULL && nr == SYS_pkey_alloc)
		return pkey_alloc((unsigned)a[0], (unsigned)a[1]);
	if (t == NULL) {
		bind_call_early(nr, a);
		return real.syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	}
	return ret_errno(call(t, nr, a));
}

EXPORT pid_t gettid(void)
{
	struct task *t = task_self();

	return t == NULL ? real.gettid() : task_tid(t);
}
