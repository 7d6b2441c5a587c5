/* SPDX-License-Identifier: MIT */
/*
 * stacks.c CASE: threads' stacks: as large as asked, where they say they are, and guarded.
 */
#include <dlfcn.h>
#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <ucontext.h>

#include "check.h"

enum { PAGE = 4096 };

struct stack {
	char *low, *high;
	size_t size, guard;
};

static struct stack own_stack(void)
{
	pthread_attr_t attr;
	struct stack s;
	void *low;

	CHECK_OK(pthread_getattr_np(pthread_self(), &attr));
	CHECK_OK(pthread_attr_getstack(&attr, &low, &s.size));
	CHECK_OK(pthread_attr_getguardsize(&attr, &s.guard));
	CHECK_OK(pthread_attr_destroy(&attr));
	s.low = low;
	s.high = s.low + s.size;
	return s;
}

/* Writes to every page of the stack below the caller's frame, down to low. */
static __attribute__((noinline)) void touch_down_to(const char *low)
{
	volatile char *at = (volatile char *)__builtin_frame_address(0) - 512;

	for (; at >= low; at -= 256)
		*at = 1;
}

static void *use_whole_stack(void *wanted)
{
	struct stack s = own_stack();
	const char *here = __builtin_frame_address(0);

	CHECK(here > s.low && here < s.high);
	CHECK(s.size >= (size_t)wanted);
	/* Nothing but the thread-locals and the first frames is above. */
	CHECK(s.high - here < 8192);
	touch_down_to(s.low);
	return wanted;
}

/* libc takes the guard, in pages, out of the size. */
static void create_sized(size_t size, size_t guard)
{
	size_t guard_pages = (guard + PAGE - 1) / PAGE * PAGE;
	pthread_attr_t attr;
	pthread_t thread;

	CHECK_OK(pthread_attr_init(&attr));
	CHECK_OK(pthread_attr_setstacksize(&attr, size + guard_pages));
	CHECK_OK(pthread_attr_setguardsize(&attr, guard));
	CHECK_OK(pthread_create(&thread, &attr, use_whole_stack, (void *)size));
	CHECK(join(thread) == (void *)size);
	CHECK_OK(pthread_attr_destroy(&attr));
}

/* Each twice, in and out of order: slots are used again with another guard. */
static void sizes(void)
{
	const size_t all[] = {PTHREAD_STACK_MIN, 20480,   65536, 102400, 1 << 20, 65536,
			      PTHREAD_STACK_MIN, 10 << 20};
	static const size_t guards[] = {PAGE, 0, 65536, 1, 3 * PAGE};

	for (int round = 0; round < 2; round++)
		for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
			for (size_t g = 0; g < sizeof(guards) / sizeof(guards[0]); g++)
				create_sized(all[i], guards[g]);
}

static void *tell_guard(void *arg)
{
	*(size_t *)arg = own_stack().guard;
	return arg;
}

static void guard_sizes(void)
{
	static const size_t guards[] = {0, PAGE, 65536, PAGE, 0, 65536};

	for (size_t g = 0; g < sizeof(guards) / sizeof(guards[0]); g++) {
		pthread_attr_t attr;
		pthread_t thread;
		size_t guard = 1;

		CHECK_OK(pthread_attr_init(&attr));
		CHECK_OK(pthread_attr_setguardsize(&attr, guards[g]));
		CHECK_OK(pthread_create(&thread, &attr, tell_guard, &guard));
		join(thread);
		CHECK(guard == guards[g]);
	}
}

/* --- the program's own -------------------------------------------------------------- */

static __thread char thread_local_array[512];
static char *given;
static size_t given_size;

static void *use_given_stack(void *arg)
{
	struct stack s = own_stack();
	const char *here = __builtin_frame_address(0);

	CHECK(here > given && here < given + given_size);
	CHECK(s.low == given && s.size == given_size);
	for (size_t i = 0; i < sizeof(thread_local_array); i++)
		CHECK(thread_local_array[i] == 0);
	memset(thread_local_array, 1, sizeof(thread_local_array));
	touch_down_to(given);
	sched_yield();
	return arg;
}

static void create_on(void *stack, size_t size)
{
	pthread_attr_t attr;
	pthread_t thread;

	given = stack;
	given_size = size;
	CHECK_OK(pthread_attr_init(&attr));
	CHECK_OK(pthread_attr_setstack(&attr, stack, size));
	CHECK_OK(pthread_create(&thread, &attr, use_given_stack, NULL));
	join(thread);
}

/* The stack is the program's again when its thread was joined: it may go away at once. */
static void own_stacks(void)
{
	for (int round = 0; round < 200; round++) {
		size_t size = round % 2 == 0 ? 65536 : PTHREAD_STACK_MIN + 16;
		char *stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		CHECK(stack != MAP_FAILED);
		create_on(stack, size);
		CHECK(munmap(stack, 65536) == 0);
		/* And a slot's stack in between. */
		create_sized(65536, PAGE);
	}
	static char in_data[3 * 65536] __attribute__((aligned(64)));
	create_on(in_data, sizeof(in_data));
}

/* --- overflow ----------------------------------------------------------------------- */

static char *volatile *deepest; /* shared with the child */

static void *overflow(void *arg)
{
	struct stack s = own_stack();
	volatile char *at = (volatile char *)__builtin_frame_address(0) - 512;

	for (;; at -= 64) {
		*deepest = (char *)at;
		*at = 1;
		if (at < s.low - (1 << 20))
			return arg; /* into somebody else's memory */
	}
}

/* Somewhere in the guard, however large the frame that oversteps. */
static void *overstep(void *arg)
{
	((volatile char *)own_stack().low)[-(intptr_t)arg] = 1;
	return NULL;
}

static void dies_of_segv(void *(*routine)(void *), void *arg, size_t guard)
{
	int status;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		pthread_attr_t attr;
		pthread_t thread;

		pthread_attr_init(&attr);
		pthread_attr_setstacksize(&attr, 128 * 1024);
		pthread_attr_setguardsize(&attr, guard);
		CHECK_OK(pthread_create(&thread, &attr, routine, arg));
		join(thread);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

static void overflows(void)
{
	struct rlimit no_core = {0};

	CHECK(setrlimit(RLIMIT_CORE, &no_core) == 0);
	deepest =
	    mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(deepest != MAP_FAILED);
	for (size_t guard = PAGE; guard <= 65536; guard *= 4) {
		dies_of_segv(overflow, NULL, guard);
		CHECK(*deepest != NULL);
		for (size_t far = 1; far <= guard; far += guard / 4)
			dies_of_segv(overstep, (void *)far, guard);
	}
}

static void *overflow_in_child(void *arg)
{
	int status;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		overflow(arg);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	return arg;
}

/* The thread that forked keeps its guard in the child. */
static void overflows_after_fork(void)
{
	struct rlimit no_core = {0};

	CHECK(setrlimit(RLIMIT_CORE, &no_core) == 0);
	deepest =
	    mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(deepest != MAP_FAILED);
	in_thread(overflow_in_child, NULL);
}

static sigjmp_buf recovered;

static void on_segv(int sig)
{
	(void)sig;
	siglongjmp(recovered, 1);
}

static void *recover(void *arg)
{
	static char alternate[65536];
	stack_t stack = {.ss_sp = alternate, .ss_size = sizeof(alternate)};

	CHECK(sigaltstack(&stack, NULL) == 0);
	if (sigsetjmp(recovered, 1) == 0)
		overflow(arg);
	stack.ss_flags = SS_DISABLE;
	CHECK(sigaltstack(&stack, NULL) == 0);
	return (void *)1;
}

/* A program that catches the signal on a stack of its own goes on. */
static void recovers(void)
{
	struct sigaction act = {.sa_handler = on_segv, .sa_flags = SA_ONSTACK};

	deepest =
	    mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(deepest != MAP_FAILED);
	CHECK(sigaction(SIGSEGV, &act, NULL) == 0);
	for (int i = 0; i < 20; i++)
		CHECK(in_thread(recover, NULL) == (void *)1);
}

/* --- defaults and what idles -------------------------------------------------------- */

static void *print_size(void *arg)
{
	struct stack s = own_stack();

	printf("%zu\n", s.size);
	touch_down_to(s.low);
	return arg;
}

static void default_size(void)
{
	in_thread(print_size, NULL);
}

static void default_changed(void)
{
	pthread_attr_t attr;

	in_thread(print_size, NULL);
	CHECK_OK(pthread_attr_init(&attr));
	CHECK_OK(pthread_attr_setstacksize(&attr, 300 * 1024));
	CHECK_OK(pthread_setattr_default_np(&attr));
	in_thread(print_size, NULL);
}

static long rss_kib(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	long kib = 0;

	CHECK(f != NULL);
	while (fgets(line, sizeof(line), f) != NULL)
		sscanf(line, "VmRSS: %ld", &kib);
	fclose(f);
	return kib;
}

static pthread_barrier_t barrier;

static void *touch_a_megabyte(void *arg)
{
	touch_down_to((char *)__builtin_frame_address(0) - (1 << 20));
	pthread_barrier_wait(&barrier);
	return arg;
}

/* Until it has been looked at. */
static void *keep_a_megabyte(void *arg)
{
	touch_a_megabyte(arg);
	pthread_barrier_wait(&barrier);
	return arg;
}

/* The pages of stacks that nobody uses go back to the machine. */
static void given_back(void)
{
	enum { N = 200, ENOUGH_KIB = 10 * 1024 };
	pthread_t threads[N];
	long before, end = now_ms() + 10000;

	become_threaded();
	before = rss_kib();
	CHECK_OK(pthread_barrier_init(&barrier, NULL, N + 1));
	for (int i = 0; i < N; i++)
		threads[i] = start(keep_a_megabyte, NULL);
	pthread_barrier_wait(&barrier);
	CHECK(rss_kib() - before > 100 * 1024);
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < N; i++)
		join(threads[i]);
	while (rss_kib() - before > ENOUGH_KIB && now_ms() < end)
		sleep_ms(20);
	CHECK(rss_kib() - before <= ENOUGH_KIB);
}

/* Goes deep, comes back, and waits, with something on its stack. */
static void *deep_then_parked(void *arg)
{
	volatile char kept[256];

	for (size_t i = 0; i < sizeof(kept); i++)
		kept[i] = (char)(intptr_t)arg;
	touch_a_megabyte(NULL);
	pthread_barrier_wait(&barrier);
	touch_down_to((char *)__builtin_frame_address(0) - (1 << 20));
	for (size_t i = 0; i < sizeof(kept); i++)
		CHECK(kept[i] == (char)(intptr_t)arg);
	return arg;
}

/* A thread that waits for long keeps what it has on its stack, and not what it had. */
static void parked_shrink(void)
{
	enum { N = 100, ENOUGH_KIB = 10 * 1024 };
	pthread_t threads[N];
	long before, end = now_ms() + 60000;

	become_threaded();
	before = rss_kib();
	CHECK_OK(pthread_barrier_init(&barrier, NULL, N + 1));
	for (intptr_t i = 0; i < N; i++)
		threads[i] = start(deep_then_parked, (void *)i);
	pthread_barrier_wait(&barrier);
	CHECK(rss_kib() - before > 50 * 1024);
	while (rss_kib() - before > ENOUGH_KIB && now_ms() < end)
		sleep_ms(20);
	CHECK(rss_kib() - before <= ENOUGH_KIB);
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < N; i++)
		join(threads[i]);
}

/* --- coroutines whose stacks lie in their thread's own ------------------------------------ */

static void wait_long(void)
{
	for (int i = 0; i < 20; i++)
		sleep_ms(10);
}

static __thread ucontext_t resumer, coroutine;

static void wait_and_resume(void)
{
	wait_long();
	swapcontext(&coroutine, &resumer);
}

/* Its frame lies below the coroutine's stack. */
static __attribute__((noinline)) void resume(char *stack, size_t size)
{
	volatile int kept[2000];

	for (int i = 0; i < 2000; i++)
		kept[i] = i;
	CHECK(getcontext(&coroutine) == 0);
	coroutine.uc_stack.ss_sp = stack;
	coroutine.uc_stack.ss_size = size;
	makecontext(&coroutine, wait_and_resume, 0);
	CHECK(swapcontext(&resumer, &coroutine) == 0);
	for (int i = 0; i < 2000; i++)
		CHECK(kept[i] == i);
}

static void *run_coroutine(void *arg)
{
	char stack[65536];

	resume(stack, sizeof(stack));
	return arg;
}

static __thread jmp_buf above, below;
/* Not by its name, which a fortified program calls another function by: that lets nobody jump
 * down. */
static void (*jump)(jmp_buf, int);

static __attribute__((noinline)) void stay_below(void)
{
	volatile int kept[2000];

	for (int i = 0; i < 2000; i++)
		kept[i] = i;
	if (setjmp(below) == 0)
		jump(above, 1);
	for (int i = 0; i < 2000; i++)
		CHECK(kept[i] == i);
	jump(above, 2);
}

static __attribute__((noinline)) void leave_room(void)
{
	volatile char room[65536];

	room[0] = room[sizeof(room) - 1] = 1;
	stay_below();
	CHECK(room[0] == 1);
}

/* Comes back from a frame that it goes to again. */
static void *run_carved(void *arg)
{
	switch (setjmp(above)) {
	case 0:
		leave_room();
		CHECK(false);
		break;
	case 1:
		wait_long();
		jump(below, 1);
	}
	return arg;
}

static void coroutines(void)
{
	pthread_t threads[8];

	jump = (void (*)(jmp_buf, int))dlsym(RTLD_DEFAULT, "longjmp");
	CHECK(jump != NULL);
	for (int i = 0; i < 8; i++)
		threads[i] = start(i % 2 ? run_coroutine : run_carved, NULL);
	for (int i = 0; i < 8; i++)
		join(threads[i]);
}

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
	    {"sizes", sizes},
	    {"guard-sizes", guard_sizes},
	    {"own-stacks", own_stacks},
	    {"overflows", overflows},
	    {"overflows-after-fork", overflows_after_fork},
	    {"recovers", recovers},
	    {"default-size", default_size},
	    {"default-changed", default_changed},
	    {"given-back", given_back},
	    {"parked-shrink", parked_shrink},
	    {"coroutines", coroutines},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
