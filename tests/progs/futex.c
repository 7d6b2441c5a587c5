/* SPDX-License-Identifier: MIT */
/*
 * futex.c: syscall(): futexes, ids, and what else the program asks of the kernel itself.
 */
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "check.h"

static _Atomic int word, other;

static long futex(_Atomic int *addr, int op, int val, const void *timeout,
		  _Atomic int *addr2, int val3)
{
	errno = 0;
	return syscall(SYS_futex, addr, op | FUTEX_PRIVATE_FLAG, val, timeout, addr2,
		       val3);
}

static void errors(void)
{
	struct timespec bad = {0, -1}, negative = {-1, 0}, ms = {0, 1000000};
	_Atomic int *odd = (_Atomic int *)((char *)&word + 1);

	become_threaded();
	FAILS(futex(&word, FUTEX_WAIT, 1, NULL, NULL, 0), EAGAIN);
	FAILS(futex(&word, FUTEX_WAIT_BITSET, 1, NULL, NULL, 1), EAGAIN);
	FAILS(futex(&word, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0), EINVAL);
	FAILS(futex(&word, FUTEX_WAKE_BITSET, 1, NULL, NULL, 0), EINVAL);
	FAILS(futex(&word, FUTEX_WAIT, 0, &bad, NULL, 0), EINVAL);
	FAILS(futex(&word, FUTEX_WAIT, 1, &bad, NULL, 0), EINVAL);
	FAILS(futex(&word, FUTEX_WAIT, 0, &negative, NULL, 0), EINVAL);
	FAILS(futex(odd, FUTEX_WAIT, 0, NULL, NULL, 0), EINVAL);
	FAILS(futex(odd, FUTEX_WAKE, 1, NULL, NULL, 0), EINVAL);
	FAILS(futex(NULL, FUTEX_WAIT, 0, NULL, NULL, 0), EFAULT);
	FAILS(futex(&word, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 0, &ms, NULL, 0), ENOSYS);
	FAILS(futex(&word, 99, 0, NULL, NULL, 0), ENOSYS);
	FAILS(futex(&word, FUTEX_CMP_REQUEUE, 1, (void *)1, &other, 1), EAGAIN);
	FAILS(futex(&word, FUTEX_CMP_REQUEUE, -1, (void *)1, &other, 0), EINVAL);
	FAILS(futex(&word, FUTEX_REQUEUE, 1, (void *)-1, &other, 0), EINVAL);
	CHECK(futex(&word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0) == 0);
	CHECK(futex(&word, FUTEX_REQUEUE, 1, (void *)1, &other, 0) == 0);
}

static void times(void)
{
	const struct timespec length = {0, 50000000};
	struct timespec at;
	long long begun;

	become_threaded();
	begun = now_ms();
	FAILS(futex(&word, FUTEX_WAIT, 0, &length, NULL, 0), ETIMEDOUT);
	CHECK(now_ms() - begun >= 49 && now_ms() - begun < 5000);
	begun = now_ms();
	at = in_ms(CLOCK_MONOTONIC, 50);
	FAILS(futex(&word, FUTEX_WAIT_BITSET, 0, &at, NULL, 1), ETIMEDOUT);
	CHECK(now_ms() - begun >= 49 && now_ms() - begun < 5000);
	FAILS(futex(&word, FUTEX_WAIT_BITSET, 0, &at, NULL, 1),
	      ETIMEDOUT); /* it is over */
	begun = now_ms();
	at = in_ms(CLOCK_REALTIME, 50);
	FAILS(futex(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &at, NULL, 1),
	      ETIMEDOUT);
	CHECK(now_ms() - begun >= 49 && now_ms() - begun < 5000);
}

/* --- who is woken -------------------------------------------------------------------------- */

struct waiter {
	_Atomic int *addr;
	int bits; /* 0: FUTEX_WAIT */
	_Atomic bool woken;
	pthread_t thread;
};

static void *wait_once(void *arg)
{
	struct waiter *w = arg;
	long r;

	if (w->bits == 0)
		r = futex(w->addr, FUTEX_WAIT, 0, NULL, NULL, 0);
	else
		r = futex(w->addr, FUTEX_WAIT_BITSET, 0, NULL, NULL, w->bits);
	CHECK(r == 0);
	w->woken = true;
	return NULL;
}

enum { N_WAITERS = 8 };
static struct waiter waiters[N_WAITERS];

static void start_waiter(struct waiter *w, _Atomic int *addr)
{
	w->addr = addr;
	w->woken = false;
	w->thread = start_waiting(wait_once, w);
}

/* They wait in this order. */
static void start_waiters(int n, _Atomic int *addr)
{
	for (int i = 0; i < n; i++)
		start_waiter(&waiters[i], addr);
}

/* How many of n are awake, when as many are as should be, and any others had time. */
static int n_woken(int n, int expected)
{
	long long end = now_ms() + 10000;
	int woken;

	do {
		sleep_ms(20);
		woken = 0;
		for (int i = 0; i < n; i++)
			woken += waiters[i].woken;
	} while (woken < expected && now_ms() < end);
	return woken;
}

static void join_waiters(int n)
{
	for (int i = 0; i < n; i++)
		join(waiters[i].thread);
}

static void wakes(void)
{
	start_waiters(N_WAITERS, &word);
	CHECK(futex(&other, FUTEX_WAKE, INT_MAX, NULL, NULL, 0) == 0);
	CHECK(futex(&word, FUTEX_WAKE, 2, NULL, NULL, 0) == 2);
	CHECK(n_woken(N_WAITERS, 2) == 2 && waiters[0].woken && waiters[1].woken);
	CHECK(futex(&word, FUTEX_WAKE, 0, NULL, NULL, 0) == 1);
	CHECK(n_woken(N_WAITERS, 3) == 3);
	CHECK(futex(&word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0) == N_WAITERS - 3);
	join_waiters(N_WAITERS);
}

static _Atomic int n_elders;

static void *wait_as_elder(void *addr)
{
	CHECK(futex(addr, FUTEX_WAIT, 0, NULL, NULL, 0) == 0);
	n_elders++;
	return NULL;
}

/* Who waits since before there were threads. */
static void elders(void)
{
	for (int i = 0; i < 3; i++)
		start_elder(wait_as_elder, (void *)&word);
	start_waiters(1, &word);
	CHECK(futex(&word, FUTEX_REQUEUE, 2, (void *)9, &other, 0) == 4);
	CHECK(futex(&other, FUTEX_WAKE, INT_MAX, NULL, NULL, 0) == 2);
	until_counted(&n_elders, 3);
	join_waiters(1);
}

static void bits(void)
{
	for (int i = 0; i < N_WAITERS; i++)
		waiters[i].bits = i == 0 ? 0 : 1 << i;
	start_waiters(N_WAITERS, &word);
	CHECK(futex(&word, FUTEX_WAKE_BITSET, INT_MAX, NULL, NULL,
		    1 << 3 | 1 << 5 | 1 << 30) == 3);
	CHECK(n_woken(N_WAITERS, 3) == 3);
	CHECK(waiters[0].woken && waiters[3].woken && waiters[5].woken);
	CHECK(futex(&word, FUTEX_WAKE_BITSET, 1, NULL, NULL, 1 << 7 | 1 << 6) == 1);
	CHECK(n_woken(N_WAITERS, 4) == 4 && waiters[6].woken);
	CHECK(futex(&word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0) == 4);
	join_waiters(N_WAITERS);
}

/* Threads whose time is over while they are moved to and fro. */
static struct timespec over;
static _Atomic int n_over;

static void *wait_until_over(void *arg)
{
	FAILS(futex(&word, FUTEX_WAIT_BITSET, 0, &over, NULL, -1), ETIMEDOUT);
	n_over++;
	return arg;
}

static void requeues_in_time(void)
{
	enum { N = 100, ROUNDS = 5 };
	pthread_t threads[N];

	for (int round = 0; round < ROUNDS; round++) {
		n_over = 0;
		over = in_ms(CLOCK_MONOTONIC, 100);
		for (int i = 0; i < N; i++)
			threads[i] = start(wait_until_over, NULL);
		long long end = now_ms() + 15000;
		while (n_over < N) {
			CHECK(now_ms() < end);
			futex(&word, FUTEX_REQUEUE, 0, (void *)(long)N, &other, 0);
			futex(&other, FUTEX_REQUEUE, 0, (void *)(long)N, &word, 0);
		}
		for (int i = 0; i < N; i++)
			join(threads[i]);
	}
}

static void requeues(void)
{
	start_waiters(N_WAITERS, &word);
	CHECK(futex(&word, FUTEX_CMP_REQUEUE, 1, (void *)2, &other, 0) == 3);
	CHECK(n_woken(N_WAITERS, 1) == 1 && waiters[0].woken);
	CHECK(futex(&other, FUTEX_WAKE, INT_MAX, NULL, NULL, 0) == 2);
	CHECK(n_woken(N_WAITERS, 3) == 3 && waiters[1].woken && waiters[2].woken);
	CHECK(futex(&word, FUTEX_REQUEUE, 0, (void *)INT_MAX, &other, 0) ==
	      N_WAITERS - 3);
	CHECK(futex(&word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0) == 0);
	CHECK(futex(&other, FUTEX_WAKE, INT_MAX, NULL, NULL, 0) == N_WAITERS - 3);
	join_waiters(N_WAITERS);
}

/* --- waits that only the kernel knows ---------------------------------------------------- */

enum {
	CALL_WAITV = 449,
	CALL_WAKE = 454,
	CALL_WAIT = 455,
	OF_PROCESS = 128,
	WORD_32 = 2
};

struct wait_for {
	uint64_t value, addr;
	uint32_t flags, unused;
};

static void *wait_for_two(void *arg)
{
	struct wait_for v[2] = {
	    {0, (uintptr_t)&other, WORD_32 | OF_PROCESS, 0},
	    {0, (uintptr_t)&word, WORD_32 | OF_PROCESS, 0},
	};
	struct waiter *w = arg;

	CHECK(syscall(CALL_WAITV, v, 2, 0, NULL, 0) == 1);
	w->woken = true;
	return NULL;
}

static void *wait_newly(void *arg)
{
	struct waiter *w = arg;

	CHECK(syscall(CALL_WAIT, &word, 0, ~0U, WORD_32 | OF_PROCESS, NULL, 0) == 0);
	w->woken = true;
	return NULL;
}

static void start_one(void *(*routine)(void *))
{
	waiters[0] = (struct waiter){.addr = &word};
	waiters[0].thread = start_waiting(routine, &waiters[0]);
}

static void expect_woken(long r)
{
	CHECK(r == 1);
	CHECK(n_woken(1, 1) == 1);
	join_waiters(1);
}

static void several(void)
{
	become_threaded();
	if (syscall(CALL_WAITV, NULL, 0, 0, NULL, 0) == -1 && errno == ENOSYS)
		return; /* before Linux 5.16 */
	start_one(wait_for_two);
	expect_woken(futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0));
	start_one(wait_for_two);
	expect_woken(futex(&word, FUTEX_WAKE_BITSET, INT_MAX, NULL, NULL, 4));
	start_one(wait_for_two);
	expect_woken(futex(&word, FUTEX_WAKE_OP, 1, (void *)1, &other,
			   FUTEX_OP(FUTEX_OP_SET, 0, FUTEX_OP_CMP_EQ, 1)));
	start_one(wait_for_two);
	expect_woken(futex(&word, FUTEX_CMP_REQUEUE, 1, (void *)1, &other, 0));
	/* Beside those that wait in the usual way. */
	start_one(wait_for_two);
	start_waiter(&waiters[1], &word);
	waiters[1].bits = 0;
	CHECK(futex(&word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0) == 2);
	CHECK(n_woken(2, 2) == 2);
	join_waiters(2);
	if (syscall(CALL_WAKE, &word, ~0U, 0, WORD_32 | OF_PROCESS) == -1 &&
	    errno == ENOSYS)
		return; /* before 6.7 */
	start_one(wait_newly);
	expect_woken(futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0));
	start_one(wait_once);
	expect_woken(syscall(CALL_WAKE, &word, ~0U, 1, WORD_32 | OF_PROCESS));
}

static void wake_op(void)
{
	struct {
		int op, arg, cmp, cmp_arg, before, after, also;
	} ops[] = {
	    {FUTEX_OP_SET, 7, FUTEX_OP_CMP_EQ, 3, 3, 7, 1},
	    {FUTEX_OP_ADD, -3, FUTEX_OP_CMP_NE, 2, 2, -1, 0},
	    {FUTEX_OP_OR, 6, FUTEX_OP_CMP_LT, 0, -8, -2, 1},
	    {FUTEX_OP_ANDN, 6, FUTEX_OP_CMP_LE, 6, 7, 1, 0},
	    {FUTEX_OP_XOR, 5, FUTEX_OP_CMP_GT, -1, 6, 3, 1},
	    {FUTEX_OP_OR | FUTEX_OP_OPARG_SHIFT, 10, FUTEX_OP_CMP_GE, 1, 0, 1024, 0},
	};

	become_threaded();
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		int val3 = (int)((unsigned)ops[i].op << 28 | (unsigned)ops[i].cmp << 24 |
				 ((unsigned)ops[i].arg & 0xfff) << 12 |
				 ((unsigned)ops[i].cmp_arg & 0xfff));

		start_waiters(2, &word);
		other = 0;
		start_waiter(&waiters[2], &other);
		other = ops[i].before;
		CHECK(futex(&word, FUTEX_WAKE_OP, 1, (void *)1, &other, val3) ==
		      1 + ops[i].also);
		CHECK(other == ops[i].after);
		CHECK(n_woken(2, 1) == 1 && waiters[2].woken == ops[i].also);
		CHECK(futex(&word, FUTEX_WAKE, 9, NULL, NULL, 0) == 1);
		CHECK(futex(&other, FUTEX_WAKE, 9, NULL, NULL, 0) == 1 - ops[i].also);
		join_waiters(3);
	}
	FAILS(futex(&word, FUTEX_WAKE_OP, 1, (void *)1, &other, 5 << 28), ENOSYS);
	FAILS(futex(&word, FUTEX_WAKE_OP, 1, (void *)1, &other, 7 << 24), ENOSYS);
}

/* --- a lock as Rust's std has it -------------------------------------------------------------- */

enum { N_THREADS = 16, N_ROUNDS = 5000 };
static long count;

static void *add(void *arg)
{
	for (int i = 0; i < N_ROUNDS; i++) {
		int free = 0;

		if (!atomic_compare_exchange_strong(&word, &free, 1))
			while (atomic_exchange(&word, 2) != 0)
				futex(&word, FUTEX_WAIT, 2, NULL, NULL, 0);
		count++;
		if (i % 32 == 0)
			sched_yield();
		if (atomic_exchange(&word, 0) == 2)
			futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0);
	}
	return arg;
}

static void locks(void)
{
	pthread_t threads[N_THREADS];

	for (int i = 0; i < N_THREADS; i++)
		threads[i] = start(add, NULL);
	for (int i = 0; i < N_THREADS; i++)
		join(threads[i]);
	CHECK(count == (long)N_THREADS * N_ROUNDS);
}

/* Futexes that are not private are the kernel's, and other processes'. */
static void process_shared(void)
{
	_Atomic int *shared =
	    mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const struct timespec ms = {0, 1000000};
	int status;

	become_threaded();
	CHECK(shared != MAP_FAILED);
	FAILS(syscall(SYS_futex, shared, FUTEX_WAIT, 0, &ms, NULL, 0), ETIMEDOUT);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		while (syscall(SYS_futex, shared, FUTEX_WAKE, 1, NULL, NULL, 0) != 1)
			usleep(1000);
		_exit(0);
	}
	CHECK(syscall(SYS_futex, shared, FUTEX_WAIT, 0, NULL, NULL, 0) == 0);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
}

/* --- signals --------------------------------------------------------------------------------- */

static _Atomic int n_handled, n_done;

static void handler(int sig)
{
	(void)sig;
	n_handled++;
}

static void *wait_long(void *arg)
{
	const struct timespec length = {60, 0};
	long r = futex(&word, FUTEX_WAIT, 0, arg == NULL ? NULL : &length, NULL, 0);

	r = r == 0 ? 0 : errno;
	n_done++;
	return (void *)r;
}

static long signalled(int flags, void *timed)
{
	struct sigaction act = {.sa_handler = handler, .sa_flags = flags};

	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	n_handled = n_done = 0;
	pthread_t thread = start(wait_long, timed);
	while (n_done == 0 && n_handled < 5) {
		sleep_ms(10);
		CHECK_OK(pthread_kill(thread, SIGUSR1));
	}
	sleep_ms(20);
	futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0);
	return (long)join(thread);
}

static void interrupted(void)
{
	CHECK(signalled(0, NULL) == EINTR);
	CHECK(signalled(0, &word) == EINTR);
	CHECK(signalled(SA_RESTART, NULL) == 0);
	CHECK(signalled(SA_RESTART, &word) == EINTR);
}

/* --- the thread's own ----------------------------------------------------------------------------- */

static _Atomic int ids[64];

static void *remember_id(void *arg)
{
	int i = (int)(intptr_t)arg;

	ids[i] = gettid();
	CHECK(syscall(SYS_gettid) == gettid() && gettid() != getpid());
	for (int k = 0; k < 10; k++) {
		sched_yield();
		CHECK(gettid() == ids[i]);
	}
	/* the id is this one's as long as it lives */
	futex(&word, FUTEX_WAIT, 0, NULL, NULL, 0);
	return NULL;
}

static void identity(void)
{
	pthread_t threads[64];

	CHECK(gettid() == getpid() && syscall(SYS_gettid) == getpid());
	become_threaded();
	CHECK(gettid() == getpid() && syscall(SYS_gettid) == getpid());
	for (intptr_t i = 0; i < 64; i++)
		threads[i] = start(remember_id, (void *)i);
	for (int i = 0; i < 64; i++)
		while (ids[i] == 0)
			sleep_ms(1);
	for (int i = 0; i < 64; i++)
		for (int k = 0; k < i; k++)
			CHECK(ids[i] != ids[k]);
	word = 1;
	for (int i = 0; i < 64; i++)
		do
			sleep_ms(1);
		while (futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0) < 0);
	futex(&word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	for (int i = 0; i < 64; i++)
		join(threads[i]);
}

static void *serve_signals(void *arg)
{
	*(_Atomic int *)arg = gettid();
	while (n_handled < 3)
		sleep_ms(1);
	return NULL;
}

static void kills(void)
{
	struct sigaction act = {.sa_handler = handler};
	static _Atomic int tid;
	sigset_t set, old;

	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_t thread = start(serve_signals, (void *)&tid);
	while (tid == 0)
		sleep_ms(1);
	CHECK_OK(pthread_sigmask(SIG_BLOCK, &set, &old)); /* not for this one */
	CHECK(syscall(SYS_tgkill, getpid(), tid, 0) == 0);
	FAILS(syscall(SYS_tgkill, getpid(), tid, 99), EINVAL);
	CHECK(syscall(SYS_tgkill, getpid(), tid, SIGUSR1) == 0);
	while (n_handled < 1)
		sleep_ms(1);
	CHECK(syscall(SYS_tkill, tid, SIGUSR1) == 0);
	while (n_handled < 2)
		sleep_ms(1);
	CHECK(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1) == 0);
	sleep_ms(20);
	CHECK(n_handled == 2);
	CHECK_OK(pthread_sigmask(SIG_SETMASK, &old, NULL));
	join(thread);
	CHECK(n_handled == 3);
	/* Natively it can be joined a little before the kernel forgets it. */
	while (syscall(SYS_tgkill, getpid(), tid, 0) == 0)
		sleep_ms(1);
	CHECK(errno == ESRCH);
}

static void *queue_to_myself(void *arg)
{
	siginfo_t info = {.si_code = SI_QUEUE}, got;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	CHECK_OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
	info.si_value.sival_int = 4711;
	CHECK(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGUSR1, &info) == 0);
	CHECK(sigwaitinfo(&set, &got) == SIGUSR1);
	CHECK(got.si_code == SI_QUEUE && got.si_value.sival_int == 4711);
	info.si_code = SI_USER;
	CHECK(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGUSR1, &info) == 0);
	CHECK(sigwaitinfo(&set, &got) == SIGUSR1 && got.si_code == SI_USER);
	*(_Atomic int *)arg = gettid();
	CHECK(sigwaitinfo(&set, &got) == SIGUSR1 && got.si_code == SI_QUEUE);
	return arg;
}

static void queues(void)
{
	siginfo_t info = {.si_code = SI_USER};
	static _Atomic int tid;
	pthread_t thread = start(queue_to_myself, (void *)&tid);

	while (tid == 0)
		sleep_ms(1);
	FAILS(syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, SIGUSR1, &info), EPERM);
	info.si_code = SI_QUEUE;
	CHECK(syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, 0, &info) == 0);
	FAILS(syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, 99, &info), EINVAL);
	CHECK(syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, SIGUSR1, &info) == 0);
	join(thread);
}

static void *use_signal_stack(void *arg)
{
	static _Thread_local char memory[65536];
	stack_t stack = {.ss_sp = memory, .ss_size = sizeof(memory)}, old = {0};

	CHECK(syscall(SYS_sigaltstack, NULL, &old) == 0 && old.ss_flags == SS_DISABLE);
	CHECK(syscall(SYS_sigaltstack, &stack, &old) == 0);
	sched_yield();
	CHECK(sigaltstack(NULL, &old) == 0 && old.ss_sp == memory);
	return arg;
}

static void signal_stacks(void)
{
	pthread_t threads[8];

	for (int i = 0; i < 8; i++)
		threads[i] = start(use_signal_stack, NULL);
	for (int i = 0; i < 8; i++)
		join(threads[i]);
}

static void masks(void)
{
	uint64_t usr1 = 1ULL << (SIGUSR1 - 1), old = 0;
	sigset_t set;

	become_threaded();
	CHECK(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &usr1, &old, 8) == 0);
	CHECK((old & usr1) == 0);
	CHECK_OK(pthread_sigmask(SIG_BLOCK, NULL, &set));
	CHECK(sigismember(&set, SIGUSR1));
	CHECK(syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &usr1, &old, 8) == 0);
	CHECK(old & usr1);
	CHECK_OK(pthread_sigmask(SIG_BLOCK, NULL, &set));
	CHECK(!sigismember(&set, SIGUSR1));
	FAILS(syscall(SYS_rt_sigprocmask, 77, &usr1, &old, 8), EINVAL);
	FAILS(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &usr1, &old, 4), EINVAL);
}

static void *end_myself(void *arg)
{
	n_done++;
	syscall(SYS_exit, 0);
	return arg;
}

/* The thread's end, and not the process's. */
static void ends(void)
{
	pthread_t thread;
	void *result;

	for (int i = 0; i < 10; i++) {
		thread = start(end_myself, NULL);
		CHECK_OK(pthread_join(thread, &result));
		CHECK(n_done == i + 1);
	}
}

static void *read_byte(void *arg)
{
	char c = 0;

	CHECK(syscall(SYS_read, *(int *)arg, &c, 1) == 1);
	return (void *)(intptr_t)c;
}

/* One that blocks blocks its thread alone. */
static void blocks(void)
{
	int fds[2];

	CHECK(pipe(fds) == 0);
	pthread_t threads[8];
	for (int i = 0; i < 8; i++)
		threads[i] = start(read_byte, &fds[0]);
	sleep_ms(20);
	for (int i = 0; i < 8; i++)
		CHECK(syscall(SYS_write, fds[1], "x", 1) == 1);
	for (int i = 0; i < 8; i++)
		CHECK((intptr_t)join(threads[i]) == 'x');
	FAILS(syscall(SYS_read, -1, NULL, 0), EBADF);
	FAILS(syscall(100000), ENOSYS);
	/* all six arguments */
	char *p = (char *)syscall(SYS_mmap, NULL, 4096L, PROT_READ,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
	CHECK(p != MAP_FAILED && *p == 0);
}

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
	    {"errors", errors},
	    {"times", times},
	    {"wakes", wakes},
	    {"bits", bits},
	    {"requeues", requeues},
	    {"requeues-in-time", requeues_in_time},
	    {"elders", elders},
	    {"wake-op", wake_op},
	    {"several", several},
	    {"locks", locks},
	    {"process-shared", process_shared},
	    {"interrupted", interrupted},
	    {"identity", identity},
	    {"kills", kills},
	    {"masks", masks},
	    {"queues", queues},
	    {"signal-stacks", signal_stacks},
	    {"ends", ends},
	    {"blocks", blocks},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
