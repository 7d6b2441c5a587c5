/* SPDX-License-Identifier: MIT */
/*
 * trap-exit.c CASE: the ways a process with threads ends.  Its output and status are the
 * same natively: what it prints must not be lost, nor come twice.
 */
#include <sched.h>
#include <signal.h>
#include <stdint.h>

#include "check.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_t main_thread;
static _Atomic int n_begun;
static _Atomic bool over;

static void *park(void *arg)
{
	n_begun++;
	CHECK_OK(pthread_mutex_lock(&mutex));
	while (!over)
		CHECK_OK(pthread_cond_wait(&cond, &mutex));
	CHECK_OK(pthread_mutex_unlock(&mutex));
	return arg;
}

static void *compute(void *arg)
{
	n_begun++;
	while (!over)
		;
	return arg;
}

static void *sleep_long(void *arg)
{
	n_begun++;
	sleep_ms(100000);
	return arg;
}

static void *read_for_ever(void *arg)
{
	int fds[2];
	char c;

	CHECK(pipe(fds) == 0);
	n_begun++;
	CHECK(read(fds[0], &c, 1) == 1);
	return arg;
}

static void company(void)
{
	int n = n_begun + 12;

	for (int i = 0; i < 3; i++) {
		start(park, NULL);
		start(compute, NULL);
		start(sleep_long, NULL);
		start(read_for_ever, NULL);
	}
	while (n_begun < n)
		sched_yield();
}

static void *exit_7(void *arg)
{
	printf("exiting\n");
	exit(7);
	return arg;
}

static void exit_in_thread(void)
{
	company();
	in_thread(exit_7, NULL);
}

static void exit_in_main(void)
{
	company();
	printf("exiting\n");
	exit(7);
}

/* main's return, by way of run_case. */
static void return_from_main(void)
{
	company();
	printf("returning\n");
}

static void *exit_after_main(void *arg)
{
	CHECK_OK(pthread_join(main_thread, &arg));
	printf("main ended with %d\n", (int)(intptr_t)arg);
	exit(5);
}

static void exit_main_first(void)
{
	company();
	start(exit_after_main, NULL);
	pthread_exit((void *)3);
}

static _Atomic bool main_has_said;

static void *outlive_main(void *arg)
{
	while (!main_has_said)
		sleep_ms(1);
	sleep_ms(20);
	CHECK_OK(pthread_mutex_lock(&mutex));
	printf("thread ends\n");
	CHECK_OK(pthread_mutex_unlock(&mutex));
	return arg;
}

/* The last thread's end is exit(0). */
static void last_thread(void)
{
	pthread_t threads[8];

	for (int i = 0; i < 8; i++) {
		threads[i] = start(outlive_main, (void *)1);
		CHECK_OK(pthread_detach(threads[i]));
	}
	printf("main ends\n");
	main_has_said = true;
	pthread_exit((void *)1);
}

static void main_alone(void)
{
	become_threaded();
	printf("main ends\n");
	pthread_exit((void *)1);
}

static void key_ends(void *value)
{
	printf("main's key ends: %s\n", (char *)value);
}

static void main_has_keys(void)
{
	pthread_key_t key;

	CHECK_OK(pthread_key_create(&key, key_ends));
	CHECK_OK(pthread_setspecific(key, "value"));
	become_threaded();
	pthread_exit(NULL);
}

/* A handler of atexit that waits for threads: they live until it is over. */
static pthread_t joined[4];

static void join_them(void)
{
	CHECK_OK(pthread_mutex_lock(&mutex));
	over = true;
	CHECK_OK(pthread_cond_broadcast(&cond));
	CHECK_OK(pthread_mutex_unlock(&mutex));
	for (int i = 0; i < 4; i++)
		join(joined[i]);
	CHECK(in_thread(do_nothing, &over) == &over);
	printf("joined\n");
}

static void joined_at_exit(void)
{
	for (int i = 0; i < 4; i++)
		joined[i] = start(i % 2 ? park : compute, NULL);
	atexit(join_them);
}

static void joined_at_exit_in_thread(void)
{
	joined_at_exit();
	in_thread(exit_7, NULL);
}

static void *do_abort(void *arg)
{
	abort();
	return arg;
}

static void abort_in_thread(void)
{
	company();
	in_thread(do_abort, NULL);
}

static void *do_quick_exit(void *arg)
{
	quick_exit(6);
	return arg;
}

static void quick(void)
{
	fprintf(stderr, "at_quick_exit\n");
}

static void quick_exit_in_thread(void)
{
	at_quick_exit(quick);
	company();
	in_thread(do_quick_exit, NULL);
}

static void *do_crash(void *arg)
{
	*(volatile int *)arg = 1;
	return arg;
}

static void crash_in_thread(void)
{
	company();
	in_thread(do_crash, NULL);
}

static void said_once(void)
{
	printf("atexit\n");
}

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
	    {"exit-in-thread", exit_in_thread},
	    {"exit-in-main", exit_in_main},
	    {"return-from-main", return_from_main},
	    {"exit-main-first", exit_main_first},
	    {"last-thread", last_thread},
	    {"main-alone", main_alone},
	    {"main-has-keys", main_has_keys},
	    {"joined-at-exit", joined_at_exit},
	    {"joined-at-exit-in-thread", joined_at_exit_in_thread},
	    {"abort-in-thread", abort_in_thread},
	    {"quick-exit-in-thread", quick_exit_in_thread},
	    {"crash-in-thread", crash_in_thread},
	};

	main_thread = pthread_self();
	atexit(said_once);
	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
