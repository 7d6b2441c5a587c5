/* SPDX-License-Identifier: MIT */
/*
 * once.c: pthread_once and call_once: once, waited for, and again where it did not end.
 */
#include <sys/wait.h>
#include <threads.h>

#include "check.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Atomic int n_begun, n_done;
static _Atomic bool go_on;

static void routine(void)
{
	n_begun++;
	sleep_ms(30);
	n_done++;
}

static void *ask(void *arg)
{
	CHECK_OK(pthread_once(&once, routine));
	CHECK(n_done == 1);
	return arg;
}

static void crowd(void)
{
	pthread_t threads[64];

	for (int i = 0; i < 64; i++)
		threads[i] = start(ask, NULL);
	for (int i = 0; i < 64; i++)
		join(threads[i]);
	CHECK(n_begun == 1 && n_done == 1);
}

static void quick(void)
{
	n_begun++;
}

static once_flag flags[1000];

static void *ask_all(void *arg)
{
	for (int i = 0; i < 1000; i++)
		call_once(&flags[i], quick);
	return arg;
}

static void many(void)
{
	pthread_t threads[8];

	for (int i = 0; i < 8; i++)
		threads[i] = start(ask_all, NULL);
	for (int i = 0; i < 8; i++)
		join(threads[i]);
	CHECK(n_begun == 1000);
}

static void done_before(void)
{
	CHECK_OK(pthread_once(&once, quick));
	become_threaded();
	CHECK_OK(pthread_once(&once, quick));
	CHECK(n_begun == 1);
}

static pthread_t asker;

static void make_threads(void)
{
	asker = start(ask, NULL);
	sleep_ms(50);
	n_begun++;
	n_done++;
}

/* The routine makes the first thread, which asks as well. */
static void wakes_threads(void)
{
	CHECK_OK(pthread_once(&once, make_threads));
	join(asker);
	CHECK(n_begun == 1 && n_done == 1);
}

static void stay(void)
{
	n_begun++;
	for (;;)
		sleep_ms(1000);
}

static void *ask_to_stay(void *arg)
{
	CHECK_OK(pthread_once(&once, stay));
	return arg;
}

/* A routine that is cancelled has not run. */
static void cancelled(void)
{
	pthread_t first = start(ask_to_stay, NULL), others[4];

	while (n_begun == 0)
		sleep_ms(1);
	for (int i = 0; i < 4; i++)
		others[i] = start(ask, NULL);
	sleep_ms(20);
	CHECK(n_begun == 1);
	CHECK_OK(pthread_cancel(first));
	CHECK(join(first) == PTHREAD_CANCELED);
	for (int i = 0; i < 4; i++)
		join(others[i]);
	CHECK(n_begun == 2 && n_done == 1);
}

static void wait_to_go_on(void)
{
	n_begun++;
	while (!go_on)
		sleep_ms(1);
	n_done++;
}

static void *ask_to_wait(void *arg)
{
	CHECK_OK(pthread_once(&once, wait_to_go_on));
	return arg;
}

/* What another thread had begun is begun anew in a fork's child. */
static void forked(void)
{
	pthread_t first = start(ask_to_wait, NULL);
	int status;

	while (n_begun == 0)
		sleep_ms(1);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		alarm(20);
		CHECK_OK(pthread_once(&once, quick));
		_exit(n_begun == 2 ? 0 : 1);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	go_on = true;
	join(first);
	CHECK(n_begun == 1 && n_done == 1);
}

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
	    {"crowd", crowd},
	    {"many", many},
	    {"done-before", done_before},
	    {"wakes-threads", wakes_threads},
	    {"cancelled", cancelled},
	    {"forked", forked},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
