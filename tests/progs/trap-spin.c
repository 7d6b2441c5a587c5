/* SPDX-License-Identifier: MIT */
/*
 * trap-spin.c CASE: spinlocks that the program made itself, which nobody can know of, held
 * by threads that lose their processor.
 */
#include <sched.h>

#include "check.h"

enum { N_THREADS = 6, N_ROUNDS = 12, HOLD_MS = 15 }; /* more than a time slice */

static _Atomic int word;
static bool yields;
static long count;

static void lock(void)
{
	while (atomic_exchange(&word, 1) != 0)
		if (yields)
			sched_yield();
}

static void unlock(void)
{
	atomic_store(&word, 0);
}

static void *work(void *arg)
{
	for (int i = 0; i < N_ROUNDS; i++) {
		lock();
		count++;
		if (i % 6 == 0)
			for (long long begun = now_ms(); now_ms() - begun < HOLD_MS;)
				;
		count++;
		unlock();
		if (i % 3 == 0)
			sched_yield();
	}
	return arg;
}

static void run(void)
{
	pthread_t threads[N_THREADS];

	for (int i = 0; i < N_THREADS; i++)
		threads[i] = start(work, NULL);
	for (int i = 0; i < N_THREADS; i++)
		join(threads[i]);
	CHECK(count == 2L * N_THREADS * N_ROUNDS);
}

static void plain(void)
{
	run();
}

static void yielding(void)
{
	yields = true;
	run();
}

static void *sleep_holding(void *arg)
{
	lock();
	count = 1;
	sleep_ms(30);
	count = 0;
	unlock();
	return arg;
}

/* Held by one that waits, wanted by more than there are processors. */
static void over_sleep(void)
{
	pthread_t threads[10];

	for (int i = 0; i < 10; i++)
		threads[i] = start(sleep_holding, NULL);
	for (int i = 0; i < 10; i++)
		join(threads[i]);
	CHECK(count == 0);
}

static void over_sleep_yielding(void)
{
	yields = true;
	over_sleep();
}

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
	    {"plain", plain},
	    {"yielding", yielding},
	    {"over-sleep", over_sleep},
	    {"over-sleep-yielding", over_sleep_yielding},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
