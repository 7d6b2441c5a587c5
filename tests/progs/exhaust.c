/* SPDX-License-Identifier: MIT */
/*
 * exhaust.c CASE: more threads than the machine or a limit allows.  pthread_create says
 * EAGAIN, and the program goes on.
 */
#include <limits.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "check.h"

enum { MOST = 20000, NOBODY = 65534 };

static pthread_t threads[MOST];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t go_on = PTHREAD_COND_INITIALIZER;
static bool may_go;

static void *wait_here(void *arg)
{
	char local[3000];

	memset(local, 1, sizeof(local));
	pthread_mutex_lock(&mutex);
	while (!may_go)
		pthread_cond_wait(&go_on, &mutex);
	pthread_mutex_unlock(&mutex);
	return arg;
}

/* Creates threads until that fails with EAGAIN, or most are alive. */
static int create_until_full(int n, int most, const pthread_attr_t *attr)
{
	for (; n < most; n++) {
		int r = pthread_create(&threads[n], attr, wait_here, (void *)(intptr_t)n);
		if (r == 0)
			continue;
		CHECK(r == EAGAIN);
		break;
	}
	return n;
}

static void release_and_join(int n)
{
	pthread_mutex_lock(&mutex);
	may_go = true;
	pthread_cond_broadcast(&go_on);
	pthread_mutex_unlock(&mutex);
	for (intptr_t i = 0; i < n; i++)
		CHECK(join(threads[i]) == (void *)i);
	may_go = false;
}

static long size_kib(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	long kib = 0;

	CHECK(f != NULL);
	while (fgets(line, sizeof(line), f) != NULL)
		sscanf(line, "VmSize: %ld", &kib);
	fclose(f);
	return kib;
}

static void limit(int which, rlim_t to)
{
	struct rlimit r;

	CHECK(getrlimit(which, &r) == 0);
	r.rlim_cur = to;
	CHECK(setrlimit(which, &r) == 0);
}

/* Room for some dozens of default stacks: full, drained, and full again. */
static void address_space(void)
{
	int n;

	become_threaded();
	limit(RLIMIT_AS, (rlim_t)(size_kib() + 400 * 1024) << 10);
	for (int round = 0; round < 3; round++) {
		n = create_until_full(0, MOST, NULL);
		CHECK(n >= 16 && n < 100);
		CHECK(create_until_full(n, MOST, NULL) == n);
		release_and_join(n);
	}
	limit(RLIMIT_AS, RLIM_INFINITY);
	CHECK(create_until_full(0, 200, NULL) == 200);
	release_and_join(200);
}

/* A thread takes little more of a limited address space than its stack: the program has
 * the rest. */
static void shared_address_space(void)
{
	enum { N = 20, STACK_KIB = 8 * 1024, MORE_KIB = STACK_KIB / 4 };
	long before;
	int n;

	become_threaded();
	limit(RLIMIT_AS, 4UL << 30);
	before = size_kib();
	n = create_until_full(0, N, NULL);
	CHECK(n == N);
	/* malloc's arenas, of 64 MiB each, are not ours: threads here do not call it. */
	CHECK(size_kib() - before <= N * (STACK_KIB + MORE_KIB));
	release_and_join(n);
}

/* One that ends makes room for one that begins, also when nothing else can be had. */
static void one_by_one(void)
{
	pthread_attr_t attr;
	int n;

	become_threaded();
	limit(RLIMIT_AS, (rlim_t)(size_kib() + 300 * 1024) << 10);
	n = create_until_full(0, MOST, NULL);
	release_and_join(n);
	for (int i = 0; i < 1000; i++)
		join(start(do_nothing, NULL));
	CHECK_OK(pthread_attr_init(&attr));
	CHECK_OK(pthread_attr_setstacksize(&attr, 1UL << 30));
	for (int i = 0; i < 1000; i++)
		CHECK(pthread_create(&threads[0], &attr, do_nothing, NULL) == EAGAIN);
}

/* The limit leaves no room at all when the first thread is created. */
static void no_room_for_the_first(void)
{
	limit(RLIMIT_AS, (rlim_t)(size_kib() + 64) << 10);
	CHECK(pthread_create(&threads[0], NULL, do_nothing, NULL) == EAGAIN);
	CHECK(pthread_create(&threads[0], NULL, do_nothing, NULL) == EAGAIN);
	limit(RLIMIT_AS, RLIM_INFINITY);
	become_threaded();
	CHECK(create_until_full(0, 100, NULL) == 100);
	release_and_join(100);
}

/* What the runtime needs at its start may end at any point. */
static void little_room_for_the_first(void)
{
	for (long kib = 0; kib < 64 * 1024; kib += kib < 2048 ? 64 : 1024) {
		int status;
		pid_t pid = fork();

		CHECK(pid >= 0);
		if (pid != 0) {
			CHECK(waitpid(pid, &status, 0) == pid);
			CHECK(status == 0);
			continue;
		}
		limit(RLIMIT_AS, (rlim_t)(size_kib() + kib) << 10);
		int r = pthread_create(&threads[0], NULL, do_nothing, NULL);
		CHECK(r == 0 || r == EAGAIN);
		if (r == 0)
			join(threads[0]);
		limit(RLIMIT_AS, RLIM_INFINITY);
		become_threaded();
		_exit(0);
	}
}

/* Data pages and malloc's memory run out, not the address space alone. */
static void data(void)
{
	int n;

	become_threaded();
	limit(RLIMIT_DATA, 150UL << 20);
	for (int round = 0; round < 3; round++) {
		n = create_until_full(0, MOST, NULL);
		CHECK(n < MOST);
		release_and_join(n);
	}
	limit(RLIMIT_DATA, RLIM_INFINITY);
	CHECK(create_until_full(0, 100, NULL) == 100);
	release_and_join(100);
}

/* Sizes that nobody can have. */
static void sizes(void)
{
	static const size_t wanted[] = {1UL << 47, 1UL << 60, 1UL << 62, SIZE_MAX / 2,
					SIZE_MAX - 8191};
	pthread_attr_t attr;

	CHECK_OK(pthread_attr_init(&attr));
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		CHECK_OK(pthread_attr_setstacksize(&attr, wanted[i]));
		int r = pthread_create(&threads[0], &attr, do_nothing, NULL);
		CHECK(r == EAGAIN || r == EINVAL);
	}
	become_threaded();
}

/* No more kernel threads for this user: it matters to the first, and to workers. */
static void processes(void)
{
	if (getuid() == 0)
		CHECK(setresuid(NOBODY, NOBODY, NOBODY) == 0);
	limit(RLIMIT_NPROC, 1);
	CHECK(pthread_create(&threads[0], NULL, do_nothing, NULL) == EAGAIN);
	CHECK(pthread_create(&threads[0], NULL, do_nothing, NULL) == EAGAIN);
	limit(RLIMIT_NPROC, 10000);
	become_threaded();
	CHECK(create_until_full(0, 100, NULL) == 100);
	release_and_join(100);
}

static int pipe_fds[2];

static void *read_it(void *arg)
{
	char c;

	CHECK(read(pipe_fds[0], &c, 1) == 1);
	return arg;
}

/* The limit comes when there are threads: those that there are work on. */
static void processes_later(void)
{
	pthread_t readers[4];
	int n;

	if (getuid() == 0)
		CHECK(setresuid(NOBODY, NOBODY, NOBODY) == 0);
	CHECK(pipe(pipe_fds) == 0);
	for (int i = 0; i < 4; i++)
		readers[i] = start(read_it, NULL);
	sleep_ms(50);
	limit(RLIMIT_NPROC, 1);
	n = create_until_full(0, 1000, NULL);
	release_and_join(n);
	for (int i = 0; i < 4; i++)
		CHECK(write(pipe_fds[1], "x", 1) == 1);
	for (int i = 0; i < 4; i++)
		join(readers[i]);
	limit(RLIMIT_NPROC, 10000);
	CHECK(create_until_full(0, 100, NULL) == 100);
	release_and_join(100);
}

static void *read_inlined(void *arg)
{
	char c;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "0"(SYS_read), "D"(pipe_fds[0]), "S"(&c), "d"(1)
			 : "rcx", "r11", "memory");
	CHECK(r == 1);
	return arg;
}

/* Every thread is blocked, and no kernel thread can be had for those that might go on,
 * until somebody lifts the limit. */
static void processes_for_a_while(void)
{
	enum { N = 8 };
	pthread_t readers[N];
	struct rlimit enough = {10000, 10000};
	pid_t lifter;

	if (getuid() == 0)
		CHECK(setresuid(NOBODY, NOBODY, NOBODY) == 0);
	CHECK(prctl(PR_SET_DUMPABLE, 1) ==
	      0); /* else its limits are not for others to set */
	CHECK(pipe(pipe_fds) == 0 && getrlimit(RLIMIT_NPROC, &enough) == 0);
	enough.rlim_cur = 10000;
	lifter = fork();
	CHECK(lifter >= 0);
	if (lifter == 0) {
		sleep_ms(300);
		CHECK(prlimit(getppid(), RLIMIT_NPROC, &enough, NULL) == 0);
		_exit(0);
	}
	become_threaded();
	limit(RLIMIT_NPROC, 1);
	for (int i = 0; i < N; i++)
		if (pthread_create(&readers[i], NULL, read_inlined, NULL) != 0) {
			/* Natively: then later. */
			sleep_ms(500);
			readers[i] = start(read_inlined, NULL);
		}
	sleep_ms(10);
	for (int i = 0; i < N; i++)
		CHECK(write(pipe_fds[1], "x", 1) == 1);
	for (int i = 0; i < N; i++)
		join(readers[i]);
	CHECK(waitpid(lifter, NULL, 0) == lifter);
}

/* No kernel thread can be had when threads come again, after main was alone for long. */
static void processes_after_rest(void)
{
	pthread_t thread;

	if (getuid() == 0)
		CHECK(setresuid(NOBODY, NOBODY, NOBODY) == 0);
	for (int round = 0; round < 2; round++) {
		become_threaded();
		sleep_ms(600);
		limit(RLIMIT_NPROC, 1);
		for (int i = 0; i < 3; i++) {
			int r = pthread_create(&thread, NULL, do_nothing, NULL);
			/* 0: green, it does not rest yet. */
			CHECK(r == EAGAIN || r == 0);
			if (r == 0)
				join(thread);
		}
		limit(RLIMIT_NPROC, 10000);
	}
	CHECK(create_until_full(0, 100, NULL) == 100);
	release_and_join(100);
}

/* Two thousand stacks of the default size, 8 MiB of which nobody touches. */
static void default_stacks(void)
{
	CHECK(create_until_full(0, 2000, NULL) == 2000);
	release_and_join(2000);
}

/* Detached threads with large stacks, which end at once: where there is no room for another
 * the creator tries again.  Prints how often that was in vain. */
static void turnover(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	long in_vain = 0;

	become_threaded();
	limit(RLIMIT_AS, (rlim_t)(size_kib() + 400 * 1024) << 10);
	CHECK_OK(pthread_attr_init(&attr));
	CHECK_OK(pthread_attr_setstacksize(&attr, 16 << 20));
	CHECK_OK(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED));
	for (int n = 0; n < 2000;) {
		int r = pthread_create(&thread, &attr, do_nothing, NULL);

		CHECK(r == 0 || r == EAGAIN);
		n += r == 0;
		in_vain += r != 0;
	}
	printf("%ld tries in vain\n", in_vain);
}

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
	    {"address-space", address_space},
	    {"shared-address-space", shared_address_space},
	    {"one-by-one", one_by_one},
	    {"no-room-for-the-first", no_room_for_the_first},
	    {"little-room-for-the-first", little_room_for_the_first},
	    {"data", data},
	    {"sizes", sizes},
	    {"processes", processes},
	    {"processes-later", processes_later},
	    {"processes-for-a-while", processes_for_a_while},
	    {"processes-after-rest", processes_after_rest},
	    {"default-stacks", default_stacks},
	    {"turnover", turnover},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
