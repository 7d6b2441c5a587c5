/* SPDX-License-Identifier: MIT */
/*
 * inlined.c: a library whose waits are futexes by instructions of its own, as libgomp's are,
 * and a program whose threads use it.  With LIBRARY defined this is the library; its name
 * begins as libgomp's.
 */
#include "check.h"

#include <linux/futex.h>
#include <stdint.h>
#include <sys/syscall.h>

/* What the library exports. */
pthread_t lib_start(void *(*routine)(void *), void *arg);
long lib_futex(_Atomic int *addr, int op, int val, const void *timeout);
long lib_getppid(void);
int lib_keeps_registers(void);

#ifdef LIBRARY

pthread_t lib_start(void *(*routine)(void *), void *arg)
{
	return start(routine, arg);
}

static inline long call(long nr, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return r;
}

long lib_futex(_Atomic int *addr, int op, int val, const void *timeout)
{
	return call(SYS_futex, (long)addr, op, val, (long)timeout);
}

long lib_getppid(void)
{
	return call(SYS_getppid, 0, 0, 0, 0);
}

/* A wait in the middle of a computation: everything but rax, rcx and r11 is as before, and
 * so is what lies below the stack pointer. */
int lib_keeps_registers(void)
{
	struct timespec soon = {.tv_nsec = 1000000};
	_Atomic int word = 1;
	long bad;

	__asm__ volatile("movq $0x1234567, %%rbx\n\t"
			 "movq $0x2345678, %%r8\n\t"
			 "movq $0x3456789, %%r9\n\t"
			 "movq $0x4567891, %%r12\n\t"
			 "movq %%rbx, %%xmm3\n\t"
			 "movq %%r8, %%xmm14\n\t"
			 "movq %%r9, -64(%%rsp)\n\t"
			 "movq %%r12, -128(%%rsp)\n\t"
			 "movl $202, %%eax\n\t"
			 "movq %1, %%rdi\n\t"
			 "movl $128, %%esi\n\t" /* FUTEX_WAIT, private */
			 "movl $1, %%edx\n\t"
			 "movq %2, %%r10\n\t"
			 "std\n\t"
			 "cld\n\t"
			 "syscall\n\t"
			 "addq $110, %%rax\n\t" /* ETIMEDOUT */
			 "subq %1, %%rdi\n\t"
			 "orq %%rdi, %%rax\n\t"
			 "subq $128, %%rsi\n\t"
			 "orq %%rsi, %%rax\n\t"
			 "subq $1, %%rdx\n\t"
			 "orq %%rdx, %%rax\n\t"
			 "subq $0x1234567, %%rbx\n\t"
			 "orq %%rbx, %%rax\n\t"
			 "subq $0x2345678, %%r8\n\t"
			 "orq %%r8, %%rax\n\t"
			 "subq $0x3456789, %%r9\n\t"
			 "orq %%r9, %%rax\n\t"
			 "subq $0x4567891, %%r12\n\t"
			 "orq %%r12, %%rax\n\t"
			 "movq %%xmm3, %%rcx\n\t"
			 "subq $0x1234567, %%rcx\n\t"
			 "orq %%rcx, %%rax\n\t"
			 "movq %%xmm14, %%rcx\n\t"
			 "subq $0x2345678, %%rcx\n\t"
			 "orq %%rcx, %%rax\n\t"
			 "movq -64(%%rsp), %%rcx\n\t"
			 "subq $0x3456789, %%rcx\n\t"
			 "orq %%rcx, %%rax\n\t"
			 "movq -128(%%rsp), %%rcx\n\t"
			 "subq $0x4567891, %%rcx\n\t"
			 "orq %%rcx, %%rax\n\t"
			 : "=&a"(bad)
			 : "r"(&word), "r"(&soon)
			 : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11",
			   "r12", "xmm3", "xmm14", "memory", "cc");
	return bad == 0;
}

#else

#include <dlfcn.h>
#include <signal.h>

static __typeof__(lib_start) *do_start;
static __typeof__(lib_futex) *do_futex;
static __typeof__(lib_getppid) *do_getppid;
static __typeof__(lib_keeps_registers) *do_keep_registers;

static void load(void)
{
	void *lib = dlopen(getenv("INLINED_LIBRARY"), RTLD_NOW);

	CHECK(lib != NULL);
	do_start = dlsym(lib, "lib_start");
	do_futex = dlsym(lib, "lib_futex");
	do_getppid = dlsym(lib, "lib_getppid");
	do_keep_registers = dlsym(lib, "lib_keeps_registers");
}

enum { WAIT = FUTEX_WAIT | FUTEX_PRIVATE_FLAG, WAKE = FUTEX_WAKE | FUTEX_PRIVATE_FLAG };

/* --- a mutex and a barrier, as libgomp has them -------------------------------------------- */

static _Atomic int mutex;

static void lock(void)
{
	int free_word = 0;

	if (atomic_compare_exchange_strong(&mutex, &free_word, 1))
		return;
	while (atomic_exchange(&mutex, 2) != 0)
		do_futex(&mutex, WAIT, 2, NULL);
}

static void unlock(void)
{
	if (atomic_exchange(&mutex, 0) == 2)
		do_futex(&mutex, WAKE, 1, NULL);
}

enum { N_TEAM = 16 };

static struct {
	_Atomic int arrived, generation;
} barrier;
static long count;
static int rounds = 300;

static void wait_for_all(void)
{
	int generation = barrier.generation;

	if (atomic_fetch_add(&barrier.arrived, 1) == N_TEAM - 1) {
		barrier.arrived = 0;
		barrier.generation++;
		do_futex(&barrier.generation, WAKE, INT32_MAX, NULL);
		return;
	}
	while (barrier.generation == generation)
		do_futex(&barrier.generation, WAIT, generation, NULL);
}

static void *team(void *arg)
{
	for (int i = 0; i < rounds; i++) {
		lock();
		count++;
		unlock();
		wait_for_all();
		CHECK(count == (i + 1L) * N_TEAM);
		wait_for_all();
	}
	return arg;
}

static void run_team(void)
{
	pthread_t threads[N_TEAM];

	count = 0;
	for (int i = 0; i < N_TEAM; i++)
		threads[i] = do_start(team, NULL);
	for (int i = 0; i < N_TEAM; i++)
		join(threads[i]);
	CHECK(count == (long)N_TEAM * rounds);
}

static void test_team(void)
{
	load();
	run_team();
	run_team();
}

/* Children: of a process that has a team, and of one that has none yet. */
static void test_children(void)
{
	int status;
	pid_t pid;

	load();
	for (int i = 0; i < 2; i++) {
		pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			rounds = 50;
			run_team();
			_exit(7);
		}
		CHECK(waitpid(pid, &status, 0) == pid);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
		run_team();
	}
}

/* --- threads that are there already --------------------------------------------------------- */

/* They wait, natively or not, when the library creates its first thread. */
static _Atomic int turn, n_waiting;

static void *take_turns(void *arg)
{
	int mine = (int)(intptr_t)arg;

	for (int i = 0; i < 50; i++) {
		for (int now; (now = turn) % 8 != mine;) {
			n_waiting++;
			do_futex(&turn, WAIT, now, NULL);
		}
		turn++;
		do_futex(&turn, WAKE, INT32_MAX, NULL);
		if (i % 10 == 0)
			sleep_ms(1);
	}
	return arg;
}

static void test_late(void)
{
	pthread_t threads[8];

	load();
	for (int i = 1; i < 8; i++)
		threads[i] = start(take_turns, (void *)(intptr_t)i);
	while (n_waiting < 7)
		sleep_ms(1);
	threads[0] = do_start(take_turns, NULL);
	for (int i = 0; i < 8; i++)
		join(threads[i]);
	CHECK(turn == 400);
}

/* --- what the kernel would answer ------------------------------------------------------------ */

static _Atomic int word, n_handled, waiting_tid;

static void handler(int sig)
{
	(void)sig;
	n_handled++;
	errno = EXDEV;
}

static void *wait_and_fail(void *arg)
{
	struct timespec soon = {.tv_nsec = 5000000}, bad = {.tv_nsec = 2000000000};

	errno = ERANGE;
	CHECK(do_futex(&word, WAIT, 1, NULL) == -EAGAIN);
	CHECK(do_futex(&word, WAIT, 0, &soon) == -ETIMEDOUT);
	CHECK(do_futex(&word, WAIT, 0, &bad) == -EINVAL);
	CHECK(do_futex(&word, WAKE, 1, NULL) == 0);
	CHECK(do_futex((void *)((char *)&word + 1), WAKE, 1, NULL) == -EINVAL);
	CHECK(do_futex(&word, 127, 1, NULL) == -ENOSYS);
	CHECK(do_getppid() == getppid());
	for (int i = 0; i < 5; i++)
		CHECK(do_keep_registers());
	CHECK(errno == ERANGE);
	return arg;
}

static void *wait_for_handler(void *arg)
{
	waiting_tid = kernel_tid();
	CHECK(do_futex(&word, WAIT, 0, NULL) == -EINTR);
	CHECK(n_handled == 1);
	return arg;
}

static void test_answers(void)
{
	struct sigaction act = {.sa_handler = handler};
	pthread_t thread;

	load();
	join(do_start(wait_and_fail, NULL));
	wait_and_fail(NULL);
	in_thread(wait_and_fail, NULL);
	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	thread = do_start(wait_for_handler, NULL);
	until_waits(&waiting_tid);
	CHECK_OK(pthread_kill(thread, SIGUSR1));
	join(thread);
}

/* --- SIGSYS is still the program's --------------------------------------------------------------- */

static void *with_sigsys_blocked(void *arg)
{
	sigset_t all;

	sigfillset(&all);
	CHECK_OK(pthread_sigmask(SIG_BLOCK, &all, NULL));
	wait_and_fail(NULL);
	return arg;
}

static _Atomic int n_expired;

static void expire(union sigval value)
{
	(void)value;
	with_sigsys_blocked(NULL);
	n_expired++;
	do_futex(&n_expired, WAKE, 1, NULL);
}

static void test_sigsys(void)
{
	struct sigaction act = {.sa_handler = handler}, before;
	struct sigevent event = {.sigev_notify = SIGEV_THREAD,
				 .sigev_notify_function = expire};
	struct itimerspec soon = {.it_value.tv_nsec = 5000000};
	timer_t timer;

	load();
	CHECK(sigaction(SIGSYS, &act, NULL) == 0);
	join(do_start(with_sigsys_blocked, NULL));
	CHECK(raise(SIGSYS) == 0 && n_handled == 1);
	CHECK(kill(getpid(), SIGSYS) == 0 && n_handled == 2);
	CHECK(sigaction(SIGSYS, NULL, &before) == 0 && before.sa_handler == handler);
	CHECK(signal(SIGSYS, SIG_IGN) == handler);
	wait_and_fail(NULL);
	CHECK(raise(SIGSYS) == 0 && n_handled == 2);
	/* A thread of libc's own. */
	CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
	CHECK(timer_settime(timer, 0, &soon, NULL) == 0);
	while (n_expired == 0)
		do_futex(&n_expired, WAIT, 0, NULL);
	CHECK(signal(SIGSYS, SIG_DFL) == SIG_IGN);
	wait_and_fail(NULL);
	raise(SIGSYS);
	CHECK(!"it ended the process");
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	    {"team", test_team},       {"children", test_children}, {"late", test_late},
	    {"answers", test_answers}, {"sigsys", test_sigsys},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}

#endif
