/* SPDX-License-Identifier: MIT */
/*
 * sys.h: raw system calls, returning -errno; the runtime's only way to the kernel.
 * They touch no thread-local and may be made on any stack, by anyone.
 */
#ifndef PGREEN_SYS_H
#define PGREEN_SYS_H

#include <linux/futex.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

#include "shim.h"

static inline long sys_call6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

#define SYS_ARGS_(nr, a, b, c, d, e, f, ...) \
	sys_call6(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define sys(...) SYS_ARGS_(__VA_ARGS__, 0, 0, 0, 0, 0, 0)

/* Waits while *addr == value; timeout is relative, NULL for ever. */
static inline long sys_futex_wait(void *addr, uint32_t value, const struct timespec *ts)
{
	return sys(SYS_futex, addr, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, value, ts);
}

static inline long sys_futex_wake(void *addr, int n)
{
	return sys(SYS_futex, addr, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, n);
}

static inline int sys_futex_wake_bits(const _Atomic uint32_t *addr, int n, uint32_t bits)
{
	return (int)sys(SYS_futex, addr, FUTEX_WAKE_BITSET | FUTEX_PRIVATE_FLAG, n, 0, 0,
			bits);
}

static inline int sys_futex_requeue(const _Atomic uint32_t *from,
				    const _Atomic uint32_t *to, int n_wake, int n_move)
{
	return (int)sys(SYS_futex, from, FUTEX_REQUEUE | FUTEX_PRIVATE_FLAG, n_wake,
			n_move, to);
}

/* A relative timespec for ns; negative counts as zero. */
static inline struct timespec ns_timespec(int64_t ns)
{
	if (ns < 0)
		ns = 0;
	return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

/* The CPU time of a kernel thread: of the calling one, or of that with this tid. */
static inline int64_t sys_cpu_ns(void)
{
	struct timespec ts = {0};

	sys(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

/* The calling kernel thread's real-time priority, 0 where it has none. */
static inline int sys_own_priority(void)
{
	int priority = 0; /* struct sched_param */

	sys(SYS_sched_getparam, 0, &priority);
	return priority;
}

static inline int64_t sys_cpu_ns_of(int tid)
{
	/* The clock id of a thread: ~tid << 3 | per-thread, scheduler time. */
	long clock = (long)(~(unsigned)tid << 3 | 6);
	struct timespec ts = {0};

	sys(SYS_clock_gettime, (int)clock, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

enum { KERNEL_SIGSET_SIZE = 8 };
#define SIG_BIT(sig) (1ULL << ((sig)-1))

static inline long sys_sigaction(int sig, const struct kernel_sigaction *act,
				 struct kernel_sigaction *old)
{
	return sys(SYS_rt_sigaction, sig, act, old, KERNEL_SIGSET_SIZE);
}

static inline long sys_sigmask(int how, const uint64_t *set, uint64_t *old)
{
	return sys(SYS_rt_sigprocmask, how, set, old, KERNEL_SIGSET_SIZE);
}

#endif
