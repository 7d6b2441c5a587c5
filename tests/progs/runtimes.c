/* SPDX-License-Identifier: MIT */
/*
 * runtimes.c: what the run-time systems of languages ask of threads, beyond what programs do:
 * clocks of other threads, guard pages of their own on the stack, faults that a handler
 * repairs or redirects on a signal stack of each thread's own, and collectors that stop all
 * threads by signals and look through their stacks and registers.
 */
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "check.h"

enum { PAGE = 4096 };

static void handle(int sig, void (*handler)(int, siginfo_t *, void *), int flags)
{
	struct sigaction act = {.sa_sigaction = handler, .sa_flags = flags | SA_SIGINFO};

	sigfillset(&act.sa_mask);
	CHECK(sigaction(sig, &act, NULL) == 0);
}

static void use_signal_stack(void)
{
	enum { SIZE = 64 * 1024 };
	stack_t stack = {.ss_size = SIZE};

	stack.ss_sp =
	    mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(stack.ss_sp != MAP_FAILED);
	CHECK(sigaltstack(&stack, NULL) == 0);
}

static void drop_signal_stack(void)
{
	stack_t none = {.ss_flags = SS_DISABLE}, before;

	CHECK(sigaltstack(&none, &before) == 0);
	CHECK(munmap(before.ss_sp, before.ss_size) == 0);
}

/* --- clocks ---------------------------------------------------------------------------- */

static long long used_ns(clockid_t clock)
{
	struct timespec ts;

	CHECK(clock_gettime(clock, &ts) == 0);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void check_clock(pthread_t thread)
{
	clockid_t clock;
	struct timespec ts = {.tv_sec = 1};

	/* As OpenJDK does before it trusts them. */
	CHECK_OK(pthread_getcpuclockid(thread, &clock));
	CHECK(clock_getres(clock, &ts) == 0 && ts.tv_sec == 0);
	CHECK(used_ns(clock) >= 0);
}

static sem_t over;

static void *wait_for_the_end(void *arg)
{
	check_clock(pthread_self());
	CHECK(sem_wait(&over) == 0);
	return arg;
}

static void test_clocks(void)
{
	pthread_t main_thread = pthread_self(), parked = start(wait_for_the_end, NULL);
	struct timespec ts;
	clockid_t clock;

	check_clock(main_thread);
	check_clock(parked);
	CHECK(clock_getres(CLOCK_THREAD_CPUTIME_ID, &ts) == 0);
	long long before = used_ns(CLOCK_THREAD_CPUTIME_ID);
	while (used_ns(CLOCK_THREAD_CPUTIME_ID) < before + 20000000)
		;
	CHECK_OK(pthread_getcpuclockid(parked, &clock));
	CHECK(used_ns(clock) < 20000000);
	sem_post(&over);
	join(parked);
	CHECK(clock_getres((clockid_t)(~0x3ffffffU << 3 | 6), &ts) == -1 &&
	      errno == EINVAL);
}

/* --- guard pages on the stack --------------------------------------------------------------- */

static __thread char *guard; /* two pages of the thread's own stack */
static _Atomic int n_guarded;

static void open_guard(int sig, siginfo_t *info, void *context)
{
	char local;

	(void)sig, (void)context;
	CHECK((char *)info->si_addr >= guard && (char *)info->si_addr < guard + 2 * PAGE);
	CHECK(&local < guard || &local > guard + 16 * PAGE); /* the signal stack */
	CHECK(mprotect(guard, 2 * PAGE, PROT_READ | PROT_WRITE) == 0);
	n_guarded++;
}

__attribute__((noinline)) static void touch_down_to(volatile char *end)
{
	volatile char room[PAGE];

	room[0] = room[PAGE - 1] = 1;
	if (room > end)
		touch_down_to(end);
	room[1] = room[0];
}

/* Computes for a while with so much of the stack in use that it ends above low. */
__attribute__((noinline)) static void linger_above(const char *low)
{
	const char *here = __builtin_frame_address(0);
	volatile char *room = __builtin_alloca((size_t)(here - low));

	room[0] = 1;
	for (volatile int i = 0; i < 1000000; i++)
		;
}

static void *guard_own_stack(void *arg)
{
	pthread_attr_t attr;
	void *low;
	size_t size;

	use_signal_stack();
	CHECK_OK(pthread_getattr_np(pthread_self(), &attr));
	CHECK_OK(pthread_attr_getstack(&attr, &low, &size));
	pthread_attr_destroy(&attr);
	guard = (char *)(((uintptr_t)low + 4 * PAGE) & ~(uintptr_t)(PAGE - 1));
	for (int i = 0; i < 3; i++) {
		CHECK(mprotect(guard, 2 * PAGE, PROT_NONE) == 0);
		sched_yield();
		linger_above(guard + 2 * PAGE + (uintptr_t)arg);
		touch_down_to(guard);
	}
	drop_signal_stack();
	/* All of the stack is usable again, as is that of the thread which gets it next. */
	touch_down_to((char *)low + 2 * PAGE);
	return arg;
}

static void *linger_at_end(void *low)
{
	linger_above((char *)low + PAGE / 8);
	return NULL;
}

/* What lies below a stack that the program gave is the program's. */
static void below_given_stacks(void)
{
	enum { N = 8, SIZE = 16 * PAGE, ROUNDS = 10 };
	pthread_t threads[N];
	pthread_attr_t attr;
	char *stacks = mmap(NULL, N * 2 * SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(stacks != MAP_FAILED);
	memset(stacks, 'x', N * 2 * SIZE);
	CHECK_OK(pthread_attr_init(&attr));
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < N; i++) {
			char *low = stacks + (2 * i + 1) * SIZE;

			CHECK_OK(pthread_attr_setstack(&attr, low, SIZE));
			CHECK_OK(pthread_create(&threads[i], &attr, linger_at_end, low));
		}
		for (int i = 0; i < N; i++)
			join(threads[i]);
	}
	for (int i = 0; i < N; i++)
		for (int k = 0; k < SIZE; k++)
			CHECK(stacks[2 * i * SIZE + k] == 'x');
	pthread_attr_destroy(&attr);
	munmap(stacks, N * 2 * SIZE);
}

static void test_guards(void)
{
	enum { N = 20 };
	pthread_t threads[N];

	handle(SIGSEGV, open_guard, SA_ONSTACK);
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < N; i++)
			threads[i] = start(guard_own_stack,
					   (void *)(intptr_t)(PAGE / 8 * (i % 8 + 1)));
		for (int i = 0; i < N; i++)
			join(threads[i]);
	}
	CHECK(n_guarded == 5 * N * 3);
	below_given_stacks();
}

/* --- faults that go on elsewhere -------------------------------------------------------------- */

static _Atomic int n_polls;
static volatile char *polled; /* read by all; a fault while the page is closed */

/* Where a thread goes on that met the closed page; it returns to what met it. */
static void __attribute__((used)) at_safepoint(void)
{
	n_polls++;
	for (int i = 0; i < 5; i++)
		sched_yield();
	sleep_ms(1);
}

extern const char safepoint[], poll_begin[], poll_end[];

/* Calls at_safepoint() from anywhere: every register is as before. */
__asm__(".text\n"
	"safepoint:\n\t"
	"pushfq\n\t"
	"push %rax; push %rcx; push %rdx; push %rsi; push %rdi\n\t"
	"push %r8; push %r9; push %r10; push %r11; push %rbp\n\t"
	"mov %rsp, %rbp\n\t"
	"and $-16, %rsp\n\t"
	"sub $512, %rsp\n\t"
	"fxsave (%rsp)\n\t"
	"call at_safepoint\n\t"
	"fxrstor (%rsp)\n\t"
	"mov %rbp, %rsp\n\t"
	"pop %rbp; pop %r11; pop %r10; pop %r9; pop %r8\n\t"
	"pop %rdi; pop %rsi; pop %rdx; pop %rcx; pop %rax\n\t"
	"popfq\n\t"
	"ret $128\n\t");

/* One read of the page; the stack pointer is beyond the red zone. */
static inline void poll_page(void)
{
	__asm__ volatile("1: testb %%al, (%0)\n\t" : : "r"(polled) : "cc", "memory");
}

static void leave_for_safepoint(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *regs = uc->uc_mcontext.gregs;

	(void)sig;
	CHECK(info->si_addr == (void *)polled);
	regs[REG_RSP] -= 128 + 8;
	*(greg_t *)regs[REG_RSP] = regs[REG_RIP];
	regs[REG_RIP] = (greg_t)safepoint;
}

static _Atomic bool stop_polling;

static void *poll_and_compute(void *arg)
{
	double x = 1;
	unsigned long sum = 0, n = 0;

	use_signal_stack();
	while (!stop_polling) {
		for (int i = 0; i < 1000; i++) {
			sum += i;
			x = x * 1.5 / 1.5;
		}
		n++;
		poll_page();
		CHECK(sum == n * 499500 && x > 0.99 && x < 1.01);
	}
	drop_signal_stack();
	return arg;
}

static void test_safepoints(void)
{
	enum { N = 8 };
	pthread_t threads[N];

	polled = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	handle(SIGSEGV, leave_for_safepoint, SA_ONSTACK);
	for (int i = 0; i < N; i++)
		threads[i] = start(poll_and_compute, NULL);
	for (int round = 0; round < 20; round++) {
		int before = n_polls;

		CHECK(mprotect((void *)polled, PAGE, PROT_NONE) == 0);
		for (long long end = now_ms() + 15000; n_polls < before + N; sleep_ms(1))
			CHECK(now_ms() < end);
		CHECK(mprotect((void *)polled, PAGE, PROT_READ) == 0);
	}
	stop_polling = true;
	for (int i = 0; i < N; i++)
		join(threads[i]);
}

/* --- stacks in the middle of a heap ------------------------------------------------------------- */

/* Erlang's compiled code has its stack pointer in a process's heap, with live data on both
 * sides, and all handlers on alternate stacks. */
enum { HEAP_WORDS = 16 * 1024 };

static _Atomic bool leave_heap;
static _Atomic int n_on_heap, n_nudged;

static void nudge(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)info, (void)context;
	for (int i = 0; i < 1000; i++)
		CHECK(errno != -1);
	n_nudged++;
}

__attribute__((noinline)) static void spin_on(char *sp, _Atomic bool *leave)
{
	__asm__ volatile("movq %%rsp, %%rbx\n\t"
			 "movq %0, %%rsp\n"
			 "1:\tpause\n\t"
			 "cmpb $0, (%1)\n\t"
			 "je 1b\n\t"
			 "movq %%rbx, %%rsp\n\t"
			 :
			 : "r"(sp), "r"(leave)
			 : "rbx", "memory", "cc");
}

static uint64_t mark_word(int i)
{
	return 0x1234567800000000 + (uint64_t)i;
}

static void *stand_on_heap(void *with_signal_stack)
{
	uint64_t *heap = malloc(HEAP_WORDS * sizeof(*heap));

	if (with_signal_stack)
		use_signal_stack();
	for (int i = 0; i < HEAP_WORDS; i++)
		heap[i] = mark_word(i);
	n_on_heap++;
	spin_on((char *)(heap + HEAP_WORDS / 2), &leave_heap);
	for (int i = 0; i < HEAP_WORDS; i++)
		CHECK(heap[i] == mark_word(i));
	free(heap);
	if (with_signal_stack)
		drop_signal_stack();
	return NULL;
}

static pthread_t main_thread;

static void *leave_later(void *arg)
{
	while (n_on_heap < 1)
		sleep_ms(1);
	for (int i = 0; i < 20; i++) {
		CHECK_OK(pthread_kill(main_thread, SIGUSR1));
		sleep_ms(2);
	}
	leave_heap = true;
	return arg;
}

static void test_heaps(void)
{
	enum { N = 6 };
	pthread_t threads[N];

	handle(SIGUSR1, nudge, SA_ONSTACK | SA_RESTART);
	for (int i = 0; i < N; i++)
		threads[i] = start(stand_on_heap, (void *)(intptr_t)(i % 2));
	while (n_on_heap < N)
		sleep_ms(1);
	for (int round = 0; round < 50; round++) {
		/* Only those that have a stack for it. */
		for (int i = 1; i < N; i += 2)
			CHECK_OK(pthread_kill(threads[i], SIGUSR1));
		sleep_ms(2);
	}
	while (n_nudged < 1)
		sleep_ms(1);
	leave_heap = true;
	for (int i = 0; i < N; i++)
		join(threads[i]);
	/* And main, whose stack has no end that anybody knows. */
	leave_heap = false;
	n_on_heap = 0;
	main_thread = pthread_self();
	pthread_t leaver = start(leave_later, NULL);
	stand_on_heap((void *)1);
	join(leaver);
}

/* --- collectors ----------------------------------------------------------------------------- */

/* After the Boehm collector: SIGPWR stops a thread where it is, SIGXCPU lets it go on. */
enum { SIG_STOP = SIGPWR, SIG_GO = SIGXCPU, N_MUTATORS = 24 };

static struct mutator {
	pthread_t thread;
	char *low, *high; /* its stack, as pthread_getattr_np says */
	char *_Atomic sp; /* where it was stopped */
	int kind;
	_Atomic unsigned long laps;
} mutators[N_MUTATORS];

static __thread struct mutator *self;
static sem_t stopped, gone;
static _Atomic int stop_round;
static _Atomic bool mutators_end;
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static sem_t empty;
static int pipe_fds[2];

static void stop_here(int sig, siginfo_t *info, void *context)
{
	int round = stop_round, saved_errno = errno;
	sigset_t all_but_go;
	char local;

	(void)sig, (void)info, (void)context;
	sigfillset(&all_but_go);
	sigdelset(&all_but_go, SIG_GO);
	self->sp = &local;
	CHECK(sem_post(&stopped) == 0);
	while (stop_round == round)
		sigsuspend(&all_but_go);
	CHECK(sem_post(&gone) == 0);
	errno = saved_errno;
}

static void go_on(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)info, (void)context;
}

/* A mark that lies on the stack alone, or in a register, while the thread waits or computes. */
static uintptr_t mark_of(const struct mutator *m, int which)
{
	return 0x5ca1ab1e00000000UL + (uintptr_t)(m - mutators) * 16 + (uintptr_t)which;
}

__attribute__((noinline)) static void mutate(struct mutator *m)
{
	volatile uintptr_t on_stack = mark_of(m, 0);
	struct timespec long_ago = {0}, soon;
	struct pollfd fd = {.fd = pipe_fds[0], .events = POLLIN};
	char c;

	switch (m->kind) {
	case 0: /* computes, with a mark in a register that is not saved by calls */
		for (int i = 0; i < 100000 && !mutators_end; i++) {
			register uintptr_t mark __asm__("r10") = mark_of(m, 1);
			__asm__ volatile("xchg %%r10, %%r10\n\tpause" : "+r"(mark));
			CHECK(mark == mark_of(m, 1));
		}
		break;
	case 1:
		CHECK(sem_wait(&empty) == 0 || errno == EINTR);
		break;
	case 2:
		clock_gettime(CLOCK_REALTIME, &soon);
		soon.tv_sec += 100;
		pthread_mutex_lock(&held);
		if (!mutators_end)
			pthread_cond_timedwait(&never, &held, &soon);
		pthread_mutex_unlock(&held);
		break;
	case 3:
		CHECK(read(pipe_fds[0], &c, 1) >= 0 || errno == EINTR);
		break;
	case 4:
		CHECK(poll(&fd, 1, 100000) >= 0 || errno == EINTR);
		break;
	case 5:
		soon = (struct timespec){.tv_nsec = 500000};
		nanosleep(&soon, &long_ago);
		break;
	case 6:
		free(malloc(100 + m->laps % 1000));
		sched_yield();
		break;
	default:
		usleep(200);
		break;
	}
	CHECK(on_stack == mark_of(m, 0));
	m->laps++;
}

static void *mutator(void *arg)
{
	pthread_attr_t attr;
	void *low;
	size_t size;

	self = arg;
	CHECK_OK(pthread_getattr_np(pthread_self(), &attr));
	CHECK_OK(pthread_attr_getstack(&attr, &low, &size));
	pthread_attr_destroy(&attr);
	self->low = low;
	self->high = (char *)low + size;
	CHECK(sem_post(&gone) == 0);
	while (!mutators_end)
		mutate(self);
	return NULL;
}

static void wait_times(sem_t *sem, int n)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 20;
	while (n > 0) {
		if (sem_timedwait(sem, &end) == 0)
			n--;
		else
			CHECK(errno == EINTR);
	}
}

static bool holds(char *from, char *to, uintptr_t value)
{
	from = (char *)(((uintptr_t)from + 7) & ~(uintptr_t)7);
	for (; from + sizeof(value) <= to; from += sizeof(value))
		if (*(uintptr_t *)from == value)
			return true;
	return false;
}

/* Stops all, looks through their stacks from where they stand, and lets them go. */
static void collect(void)
{
	for (int i = 0; i < N_MUTATORS; i++)
		CHECK_OK(pthread_kill(mutators[i].thread, SIG_STOP));
	wait_times(&stopped, N_MUTATORS);
	for (int i = 0; i < N_MUTATORS; i++) {
		struct mutator *m = &mutators[i];
		unsigned long laps = m->laps;

		CHECK(m->sp > m->low && m->sp < m->high);
		/* One that was met between two laps has no mark. */
		bool found = holds(m->sp, m->high, mark_of(m, 0));
		bool in_wait = m->kind >= 1 && m->kind <= 4;
		CHECK(found || !in_wait);
		if (i % 8 == 0)
			sched_yield();
		CHECK(m->laps == laps);
	}
	stop_round++;
	for (int i = 0; i < N_MUTATORS; i++)
		CHECK_OK(pthread_kill(mutators[i].thread, SIG_GO));
	wait_times(&gone, N_MUTATORS);
}

static void test_collector(void)
{
	CHECK(sem_init(&stopped, 0, 0) == 0 && sem_init(&gone, 0, 0) == 0);
	CHECK(sem_init(&empty, 0, 0) == 0 && pipe(pipe_fds) == 0);
	handle(SIG_STOP, stop_here, SA_RESTART);
	handle(SIG_GO, go_on, SA_RESTART);
	for (int i = 0; i < N_MUTATORS; i++) {
		mutators[i].kind = i % 8;
		mutators[i].thread = start(mutator, &mutators[i]);
	}
	wait_times(&gone, N_MUTATORS);
	sleep_ms(20);
	for (int round = 0; round < 50; round++) {
		collect();
		if (round % 10 == 0)
			sleep_ms(3);
	}
	pthread_mutex_lock(&held);
	mutators_end = true;
	pthread_cond_broadcast(&never);
	pthread_mutex_unlock(&held);
	for (int i = 0; i < N_MUTATORS; i++)
		sem_post(&empty);
	CHECK(close(pipe_fds[1]) == 0);
	for (int i = 0; i < N_MUTATORS; i++)
		join(mutators[i].thread);
}

/* --- protection keys ---------------------------------------------------------------------------- */

/* As V8 keeps its code from being written: each thread may or may not, for a while. */
static int key;

static void *use_key(void *arg)
{
	unsigned rights[] = {0, PKEY_DISABLE_WRITE, PKEY_DISABLE_ACCESS};

	for (int i = 0; i < 200; i++) {
		unsigned mine = rights[(i + (int)(intptr_t)arg) % 3];

		CHECK(pkey_set(key, mine) == 0);
		if (i % 3 == 0)
			sleep_ms(1);
		else if (i % 3 == 1)
			sched_yield();
		else
			for (volatile int k = 0; k < 100000; k++)
				;
		CHECK(pkey_get(key) == (int)mine);
	}
	return arg;
}

static void test_keys(void)
{
	enum { N = 8 };
	pthread_t threads[N];

	become_threaded();
	key = pkey_alloc(0, 0);
	if (key < 0)
		return; /* this machine has none */
	for (int i = 0; i < N; i++)
		threads[i] = start(use_key, (void *)(intptr_t)i);
	for (int i = 0; i < N; i++)
		join(threads[i]);
	CHECK(pkey_get(key) == 0);
}

/* --- spinning politely ------------------------------------------------------------------------ */

/* As LLVM's OpenMP and TBB wait: each looks for its turn and yields. */
enum { N_POLITE = 16, POLITE_ROUNDS = 750 };

static _Atomic int polite_turn;

static void *wait_politely(void *arg)
{
	int mine = (int)(intptr_t)arg;

	for (int i = 0; i < POLITE_ROUNDS; i++) {
		while (polite_turn % N_POLITE != mine)
			sched_yield();
		polite_turn++;
	}
	return arg;
}

static void test_yields(void)
{
	pthread_t threads[N_POLITE];
	struct timespec used;

	for (int i = 0; i < N_POLITE; i++)
		threads[i] = start(wait_politely, (void *)(intptr_t)i);
	for (int i = 0; i < N_POLITE; i++)
		join(threads[i]);
	CHECK(polite_turn == N_POLITE * POLITE_ROUNDS);
	/* A turn that waits for the kernel to end somebody's time slice takes milliseconds,
	   of a CPU that is used up meanwhile. */
	CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) == 0 && used.tv_sec < 20);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	    {"clocks", test_clocks},
	    {"guards", test_guards},
	    {"safepoints", test_safepoints},
	    {"heaps", test_heaps},
	    {"collector", test_collector},
	    {"yields", test_yields},
	    {"keys", test_keys},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
