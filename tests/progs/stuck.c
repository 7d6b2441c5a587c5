/* SPDX-License-Identifier: MIT */
/*
 * stuck.c CASE: threads that do not let go by themselves: they spin, compute for ever, or
 * wait in a system call that nobody could see coming.
 */
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/auxv.h>
#include <sys/syscall.h>

#include "check.h"

/* --- spinning ----------------------------------------------------------------------- */

static volatile int flag;

static void *spin(void *arg)
{
	while (!flag)
		;
	return arg;
}

static void *raise_flag(void *arg)
{
	flag = 1;
	return arg;
}

static void spins_on_flag(void)
{
	pthread_t spinner = start(spin, NULL);

	sched_yield(); /* on one processor the spinner has it now */
	join(start(raise_flag, NULL));
	join(spinner);
}

/* More of them than there are processors, and the flag's thread behind them all. */
static void many_spin_on_flag(void)
{
	pthread_t spinners[8];

	for (int i = 0; i < 8; i++)
		spinners[i] = start(spin, NULL);
	sched_yield();
	join(start(raise_flag, NULL));
	for (int i = 0; i < 8; i++)
		join(spinners[i]);
}

/* --- an inlined system call --------------------------------------------------------- */

static int pipe_fds[2];

static void *read_inlined(void *arg)
{
	char c = 0;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "0"(SYS_read), "D"(pipe_fds[0]), "S"(&c), "d"(1)
			 : "rcx", "r11", "memory");
	CHECK(r == 1 && c == 'x');
	return arg;
}

static void *write_later(void *arg)
{
	sleep_ms(20);
	CHECK(write(pipe_fds[1], "x", 1) == 1);
	return arg;
}

static void inlined_read(void)
{
	pthread_t reader;

	CHECK(pipe(pipe_fds) == 0);
	become_threaded();
	reader = start(read_inlined, NULL);
	sched_yield();
	join(start(write_later, NULL));
	join(reader);
}

/* --- a spinlock over a sleep -------------------------------------------------------- */

static pthread_spinlock_t lock;
static _Atomic bool held;

static void *sleep_on_lock(void *arg)
{
	CHECK_OK(pthread_spin_lock(&lock));
	held = true;
	sleep_ms(50);
	CHECK_OK(pthread_spin_unlock(&lock));
	return arg;
}

static void spinlock_over_sleep(void)
{
	pthread_t holder, other;

	CHECK_OK(pthread_spin_init(&lock, PTHREAD_PROCESS_PRIVATE));
	holder = start(sleep_on_lock, NULL);
	while (!held)
		sched_yield();
	other = start(sleep_on_lock, NULL);
	join(holder);
	join(other);
}

/* --- computing for ever ------------------------------------------------------------- */

static void *compute_for_ever(void *arg)
{
	for (volatile uint64_t n = 0;; n++)
		;
	return arg;
}

/* In libc, where nothing is preempted. */
static void *compute_in_libc_for_ever(void *arg)
{
	static char text[1 << 20];

	for (;;)
		memset(text, 1, sizeof(text));
	return arg;
}

static void exit_while_computing(void)
{
	start(compute_for_ever, NULL);
	sleep_ms(50);
	exit(0);
}

static void exit_while_all_compute(void)
{
	for (int i = 0; i < 8; i++)
		start(i % 2 ? compute_for_ever : compute_in_libc_for_ever, NULL);
	sleep_ms(50);
	exit(0);
}

/* --- busy, but not computing -------------------------------------------------------- */

static void *call_for_ever(void *fd)
{
	for (;;)
		CHECK(write((int)(intptr_t)fd, "", 1) == 1);
}

/* Each call is short, and none ends its time slice. */
static void calls_for_ever(void)
{
	int fd = open("/dev/null", O_WRONLY);

	CHECK(fd >= 0);
	start(call_for_ever, (void *)(intptr_t)fd);
	sched_yield();
	join(start(do_nothing, NULL));
	exit(0);
}

static sem_t ping, pong;

static void *ping_for_ever(void *arg)
{
	(void)arg;
	for (;;)
		CHECK(sem_post(&ping) == 0 && sem_wait(&pong) == 0);
}

static void *pong_for_ever(void *arg)
{
	(void)arg;
	for (;;)
		CHECK(sem_wait(&ping) == 0 && sem_post(&pong) == 0);
}

/* A pair that wakes each other, some that compute, and one that comes last. */
static void ping_pong_for_ever(void)
{
	CHECK(sem_init(&ping, 0, 0) == 0 && sem_init(&pong, 0, 0) == 0);
	become_threaded();
	for (int i = 0; i < 2; i++)
		start(compute_for_ever, NULL);
	start(ping_for_ever, NULL);
	start(pong_for_ever, NULL);
	sleep_ms(50);
	for (int i = 0; i < 2; i++)
		start(do_nothing, NULL);
	join(start(do_nothing, NULL));
	exit(0);
}

/* --- registers ---------------------------------------------------------------------- */

enum { N_COMPUTING = 4, N_YMM = 16, N_ZMM = 32, ROUND_MS = 300 };

static _Atomic int last_to_run, n_changes;
static volatile bool time_is_up;

/* Counts how often another ran in between. */
static void note_turn(int number)
{
	if (last_to_run != number) {
		last_to_run = number;
		n_changes++;
	}
}

static void handler(int sig)
{
	(void)sig;
	if (__builtin_cpu_supports("avx"))
		__asm__ volatile("vzeroall" ::: "memory");
	else
		__asm__ volatile("xorps %%xmm0, %%xmm0; xorps %%xmm15, %%xmm15" ::
				     : "memory");
}

/* Loads the registers, counts in others for a while, and stores them again. */
#define HOLD(load, store, in, out, n)                                                    \
	__asm__ volatile(                                                                \
	    load "mov %[count], %%rcx\n1: lea 1(%%rbx), %%rbx\n"                         \
		 "lea (%%rbx,%%rbx,2), %%r12\nsub %%rbx, %%r12\nsub %%rbx, %%r12\n"      \
		 "cmp %%rbx, %%r12\njne 2f\ndec %%rcx\njnz 1b\n2:\n" store               \
		 "mov %%rcx, %[left]\n"                                                  \
	    : [left] "=m"(left)                                                          \
	    : [count] "r"((uint64_t)(n)), [from] "r"(in), [to] "r"(out)                  \
	    : "rbx", "rcx", "r12", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3",       \
	      "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", \
	      "xmm13", "xmm14", "xmm15")

#define EACH_16(op)                                                                      \
	op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11) op(12) \
	    op(13) op(14) op(15)
#define EACH_32(op)                                                                  \
	EACH_16(op)                                                                  \
	op(16) op(17) op(18) op(19) op(20) op(21) op(22) op(23) op(24) op(25) op(26) \
	    op(27) op(28) op(29) op(30) op(31)
#define LOAD_XMM(i) "movups " #i "*64(%[from]), %%xmm" #i "\n"
#define STORE_XMM(i) "movups %%xmm" #i ", " #i "*64(%[to])\n"
#define LOAD_YMM(i) "vmovups " #i "*64(%[from]), %%ymm" #i "\n"
#define STORE_YMM(i) "vmovups %%ymm" #i ", " #i "*64(%[to])\n"
#define LOAD_ZMM(i) "vmovups " #i "*64(%[from]), %%zmm" #i "\n"
#define STORE_ZMM(i) "vmovups %%zmm" #i ", " #i "*64(%[to])\n"

typedef unsigned char vector_image[N_ZMM][64];

/* Returns how many registers of how many bytes there are. */
static void hold_vectors(const vector_image *in, vector_image *out, int *n, int *size)
{
	enum { COUNT = 200000 };
	uint64_t left;

	if (__builtin_cpu_supports("avx512f")) {
		HOLD(EACH_32(LOAD_ZMM), EACH_32(STORE_ZMM) "vzeroupper\n", in, out,
		     COUNT);
		*n = N_ZMM, *size = 64;
	} else if (__builtin_cpu_supports("avx")) {
		HOLD(EACH_16(LOAD_YMM), EACH_16(STORE_YMM) "vzeroupper\n", in, out,
		     COUNT);
		*n = N_YMM, *size = 32;
	} else {
		HOLD(EACH_16(LOAD_XMM), EACH_16(STORE_XMM), in, out, COUNT);
		*n = N_YMM, *size = 16;
	}
	CHECK(left == 0);
}

static uint32_t read_mxcsr(void)
{
	uint32_t mxcsr;

	__asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
	return mxcsr;
}

static uint16_t read_x87_control(void)
{
	uint16_t control;

	__asm__ volatile("fnstcw %0" : "=m"(control));
	return control;
}

/* Rounding modes, which differ from thread to thread, and a value on the x87 stack. */
static void set_control(int number)
{
	uint32_t mxcsr = (read_mxcsr() & ~0x6000u) | (uint32_t)number % 4 << 13;
	uint16_t control = (read_x87_control() & ~0x0c00) | (uint16_t)(number % 4 << 10);

	__asm__ volatile("ldmxcsr %0; fldcw %1" ::"m"(mxcsr), "m"(control));
}

static void *hold_registers(void *arg)
{
	int number = (int)(intptr_t)arg, n, size;
	vector_image in, out;
	long double sum = 0.5L;

	set_control(number);
	for (int i = 0; i < N_ZMM; i++)
		memset(in[i], number * N_ZMM + i + 1, sizeof(in[i]));
	while (!time_is_up) {
		note_turn(number);
		memset(out, 0, sizeof(out));
		hold_vectors(&in, &out, &n, &size);
		for (int i = 0; i < n; i++)
			CHECK(memcmp(in[i], out[i], size) == 0);
		for (int i = 0; i < 1000; i++)
			sum = (sum + 1.5L) / 2;
		CHECK(sum > 1.0L && sum < 2.0L);
		CHECK((read_mxcsr() >> 13 & 3) == (uint32_t)number % 4);
		CHECK((read_x87_control() >> 10 & 3) == number % 4);
	}
	return arg;
}

/* While the threads take turns, handlers that use the registers interrupt them. */
static void registers(void)
{
	struct sigaction act = {.sa_handler = handler, .sa_flags = SA_RESTART};
	pthread_t threads[N_COMPUTING];
	long long begun = now_ms();

	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	for (intptr_t i = 0; i < N_COMPUTING; i++)
		threads[i] = start(hold_registers, (void *)i);
	/* Or longer, on a busy machine: until they have taken turns. */
	while (now_ms() - begun < ROUND_MS || n_changes < 10) {
		CHECK(now_ms() - begun < 20 * ROUND_MS);
		sleep_ms(5);
		for (int i = 0; i < N_COMPUTING; i++)
			CHECK_OK(pthread_kill(threads[i], SIGUSR1));
	}
	time_is_up = true;
	for (int i = 0; i < N_COMPUTING; i++)
		join(threads[i]);
}

/* --- taking turns ------------------------------------------------------------------- */

static _Atomic int n_moves; /* to another kernel thread */

static void note_move(long *last)
{
	long now = kernel_tid();

	n_moves += *last != 0 && *last != now;
	*last = now;
}

static void *write_and_read(void *fds)
{
	const int *ends = fds;
	long last = 0;
	char c;

	while (!time_is_up) {
		note_move(&last);
		CHECK(write(ends[1], "", 1) == 1);
		CHECK(read(ends[0], &c, 1) == 1);
	}
	return NULL;
}

static void *hold_spinlocks(void *arg)
{
	pthread_spinlock_t own;
	long last = 0;

	pthread_spin_init(&own, PTHREAD_PROCESS_PRIVATE);
	while (!time_is_up) {
		CHECK_OK(pthread_spin_lock(&own));
		note_move(&last);
		for (volatile int i = 0; i < 1000; i++)
			;
		CHECK_OK(pthread_spin_unlock(&own));
	}
	return arg;
}

/* Those who cannot be stopped just when their time is up stop as soon as they can: on one
 * processor they stay on one kernel thread.  It takes four refusals to lose it. */
static void takes_turns(void *(*routine)(void *))
{
	pthread_t threads[3];
	int fds[3][2];

	for (int i = 0; i < 3; i++) {
		CHECK(pipe(fds[i]) == 0);
		threads[i] = start(routine, fds[i]);
	}
	sleep_ms(500);
	time_is_up = true;
	for (int i = 0; i < 3; i++)
		join(threads[i]);
	const char *procs = getenv("GOMAXPROCS");
	if (procs != NULL && strcmp(procs, "1") == 0)
		CHECK(n_moves <= 12);
}

static void writers_take_turns(void)
{
	takes_turns(write_and_read);
}

static void spinlocks_take_turns(void)
{
	takes_turns(hold_spinlocks);
}

/* --- on a small stack ----------------------------------------------------------------- */

enum { HANDLER_STACK = 2048, BELOW = 65536 };

static char *broken_page;

/* As long as a crash takes to be described. */
static void repair(int sig)
{
	for (volatile long i = 0; i < 100000000; i++)
		;
	(void)sig;
	CHECK(mprotect(broken_page, 4096, PROT_READ | PROT_WRITE) == 0);
}

static void *break_page(void *arg)
{
	size_t size = getauxval(AT_MINSIGSTKSZ) + HANDLER_STACK;
	size_t all = BELOW + size + 4096;
	char *low = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	stack_t stack = {.ss_size = size}, none = {.ss_flags = SS_DISABLE};

	CHECK(low != MAP_FAILED);
	CHECK(mprotect(low + BELOW, all - BELOW, PROT_READ | PROT_WRITE) == 0);
	stack.ss_sp = low + BELOW;
	CHECK(sigaltstack(&stack, NULL) == 0);
	*broken_page = 1;
	CHECK(sigaltstack(&none, NULL) == 0);
	munmap(low, all);
	time_is_up = true;
	return arg;
}

/* A handler whose alternate stack has room for what it needs natively and no more. */
static void on_a_small_stack(void)
{
	struct sigaction act = {.sa_handler = repair, .sa_flags = SA_ONSTACK};

	broken_page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(broken_page != MAP_FAILED);
	CHECK(sigaction(SIGSEGV, &act, NULL) == 0);
	pthread_t breaks = start(break_page, NULL);
	while (!time_is_up)
		;
	join(breaks);
}

/* --- behind a crowd ------------------------------------------------------------------- */

enum { CROWD = 100 };

static _Atomic uint32_t crowd_word;

/* Each wakes all others, as readers of MariaDB's latches do that find a writer, and waits. */
static void *mill_around(void *arg)
{
	while (!time_is_up) {
		syscall(SYS_futex, &crowd_word, FUTEX_WAKE_PRIVATE, INT32_MAX);
		for (volatile int i = 0; i < 5000; i++)
			;
		syscall(SYS_futex, &crowd_word, FUTEX_WAIT_PRIVATE, 0, NULL);
	}
	crowd_word = 1;
	syscall(SYS_futex, &crowd_word, FUTEX_WAKE_PRIVATE, INT32_MAX);
	return arg;
}

/* Who comes back from the kernel finds its processor taken, and a crowd that is never at
 * rest in front. */
static void behind_a_crowd(void)
{
	struct timespec ms = {.tv_nsec = 1000000};
	pthread_t threads[CROWD];

	for (int i = 0; i < CROWD; i++)
		threads[i] = start(mill_around, NULL);
	for (int i = 0; i < 50; i++) {
		long r = SYS_nanosleep;

		__asm__ volatile("syscall"
				 : "+a"(r)
				 : "D"(&ms), "S"(NULL)
				 : "rcx", "r11", "memory");
	}
	time_is_up = true;
	for (int i = 0; i < CROWD; i++)
		join(threads[i]);
}

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
	    {"behind-a-crowd", behind_a_crowd},
	    {"on-a-small-stack", on_a_small_stack},
	    {"writers-take-turns", writers_take_turns},
	    {"spinlocks-take-turns", spinlocks_take_turns},
	    {"spins-on-flag", spins_on_flag},
	    {"many-spin-on-flag", many_spin_on_flag},
	    {"inlined-read", inlined_read},
	    {"spinlock-over-sleep", spinlock_over_sleep},
	    {"exit-while-computing", exit_while_computing},
	    {"exit-while-all-compute", exit_while_all_compute},
	    {"calls-for-ever", calls_for_ever},
	    {"ping-pong-for-ever", ping_pong_for_ever},
	    {"registers", registers},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
