/* SPDX-License-Identifier: MIT */
/*
 * check.h: what the test programs share.  A program runs the case that its first argument
 * names, and ends with status 0, or says what was wrong and ends with 1.  With a second
 * argument "in-child" it runs it in the child of a process that has threads.
 */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition)                                                        \
	do {                                                                    \
		if (!(condition)) {                                             \
			fprintf(stderr, "%s:%d: %s (errno %d, %s)\n", __FILE__, \
				__LINE__, #condition, errno, strerror(errno));  \
			_exit(1);                                               \
		}                                                               \
	} while (0)

/* For functions that return their error. */
#define CHECK_OK(call)                      \
	do {                                \
		errno = (call);             \
		CHECK(errno == 0 && #call); \
	} while (0)

/* For those that set errno. */
#define FAILS(call, with)                               \
	do {                                            \
		errno = 0;                              \
		CHECK((call) == -1 && errno == (with)); \
	} while (0)

static inline long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

static inline struct timespec in_ms(clockid_t clock, int ms)
{
	struct timespec ts;

	CHECK(clock_gettime(clock, &ts) == 0);
	ts.tv_nsec += ms % 1000 * 1000000L;
	ts.tv_sec += ms / 1000 + ts.tv_nsec / 1000000000;
	ts.tv_nsec %= 1000000000;
	return ts;
}

static inline void sleep_ms(int ms)
{
	struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

	while (nanosleep(&ts, &ts) != 0 && errno == EINTR)
		;
}

static inline bool is_blocked(int sig)
{
	sigset_t set;

	CHECK_OK(pthread_sigmask(SIG_BLOCK, NULL, &set));
	return sigismember(&set, sig);
}

/* The kernel thread's own id, which the library cannot put another's in place of. */
static inline int kernel_tid(void)
{
	long tid;

	__asm__ volatile("syscall"
			 : "=a"(tid)
			 : "0"(SYS_gettid)
			 : "rcx", "r11", "memory");
	return (int)tid;
}

static inline pthread_t start(void *(*routine)(void *), void *arg)
{
	pthread_t thread;

	CHECK_OK(pthread_create(&thread, NULL, routine, arg));
	return thread;
}

/* Whether that kernel thread waits for something, or is gone. */
static inline bool kernel_thread_sleeps(int tid)
{
	char path[64], stat[256] = "";

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	FILE *f = fopen(path, "r");
	if (f == NULL)
		return true;
	const char *name_end =
	    fgets(stat, sizeof(stat), f) != NULL ? strrchr(stat, ')') : NULL;
	fclose(f);
	return name_end == NULL || strchr("SD", name_end[2]) != NULL;
}

/*
 * Until the thread that stores its kernel_tid() there just before a call waits in it,
 * however busy the machine is: its kernel thread sleeps, or has been the caller's.  Twice,
 * for a green task may be in a queue: its turn comes while the caller sleeps.
 */
static inline void until_waits(const _Atomic int *tid)
{
	for (int n = 0; n < 2;) {
		sleep_ms(2);
		int on = *tid;

		if (on != 0 && (on == kernel_tid() || kernel_thread_sleeps(on)))
			n++;
		else
			n = 0;
	}
}

struct start_waiting {
	void *(*routine)(void *);
	void *arg;
	_Atomic int tid;
};

static inline void *run_waiting(void *arg)
{
	struct start_waiting *s = arg;
	void *(*routine)(void *) = s->routine;
	void *routine_arg = s->arg;

	s->tid = kernel_tid(); /* *s may be gone now */
	return routine(routine_arg);
}

/* Starts a thread that waits at once, and returns when it does. */
static inline pthread_t start_waiting(void *(*routine)(void *), void *arg)
{
	struct start_waiting s = {.routine = routine, .arg = arg};
	pthread_t thread = start(run_waiting, &s);

	until_waits(&s.tid);
	return thread;
}

static inline void run_elder(union sigval start)
{
	run_waiting(start.sival_ptr);
}

/* As start_waiting(), by a kernel thread that libc makes for a timer, and that nobody joins:
 * while nobody has created a thread, it waits natively. */
static inline void start_elder(void *(*routine)(void *), void *arg)
{
	struct start_waiting s = {.routine = routine, .arg = arg};
	struct sigevent event = {.sigev_notify = SIGEV_THREAD,
				 .sigev_notify_function = run_elder,
				 .sigev_value.sival_ptr = &s};
	struct itimerspec at = {.it_value.tv_nsec = 1};
	timer_t timer;

	CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
	CHECK(timer_settime(timer, 0, &at, NULL) == 0);
	until_waits(&s.tid);
}

/* Until so many have counted themselves. */
static inline void until_counted(const _Atomic int *n, int least)
{
	for (long long end = now_ms() + 15000; *n < least; sleep_ms(1))
		CHECK(now_ms() < end);
}

static inline void *join(pthread_t thread)
{
	void *result;

	CHECK_OK(pthread_join(thread, &result));
	return result;
}

static inline void *do_nothing(void *arg)
{
	return arg;
}

/* From here on the program has threads, as far as libc and pgreen are concerned. */
static inline void become_threaded(void)
{
	join(start(do_nothing, NULL));
}

/* Calls routine in a thread of its own and waits for it. */
static inline void *in_thread(void *(*routine)(void *), void *arg)
{
	return join(start(routine, arg));
}

struct test_case {
	const char *name;
	void (*run)(void);
};

/* In a child of a thread, others alive in the parent. */
static inline void *fork_and_run(void *run)
{
	int status;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		((void (*)(void))run)();
		exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(status == 0);
	return NULL;
}

static inline void run_in_child(void (*run)(void))
{
	in_thread(fork_and_run, (void *)run);
}

static inline int run_case(int argc, char **argv, const struct test_case *cases, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (argc < 2 || strcmp(argv[1], cases[i].name) != 0)
			continue;
		if (argc > 2 && strcmp(argv[2], "in-child") == 0)
			run_in_child(cases[i].run);
		else
			cases[i].run();
		return 0;
	}
	fprintf(stderr, "usage: %s CASE [in-child]\n", argv[0]);
	for (size_t i = 0; i < n; i++)
		fprintf(stderr, "\t%s\n", cases[i].name);
	return 2;
}

#endif
