/* SPDX-License-Identifier: MIT */
/*
 * spin.c: spinlocks.
 */
#include <stdint.h>

#include "check.h"

static pthread_spinlock_t spin;

static void *try(void *arg)
{
	return (void *)(intptr_t)pthread_spin_trylock((pthread_spinlock_t *)arg);
}

static void errors(void)
{
	pthread_spinlock_t held;

	CHECK_OK(pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE));
	CHECK_OK(pthread_spin_init(&held, PTHREAD_PROCESS_SHARED));
	CHECK_OK(pthread_spin_lock(&held));
	become_threaded();
	CHECK((intptr_t)in_thread(try, (void *)&held) == EBUSY);
	CHECK_OK(pthread_spin_unlock(&held));
	CHECK_OK(pthread_spin_lock(&held));
	CHECK(pthread_spin_trylock(&held) == EBUSY);
	CHECK_OK(pthread_spin_unlock(&held));
	CHECK((intptr_t)in_thread(try, (void *)&spin) == 0);
	CHECK(pthread_spin_trylock(&spin) == EBUSY);
	CHECK_OK(pthread_spin_unlock(&spin));
	CHECK_OK(pthread_spin_destroy(&spin));
	CHECK_OK(pthread_spin_destroy(&held));
}

enum { N_THREADS = 16, N_ROUNDS = 20000 };
static long count;

static void *add(void *arg)
{
	for (int i = 0; i < N_ROUNDS; i++) {
		CHECK_OK(pthread_spin_lock(&spin));
		count++;
		CHECK_OK(pthread_spin_unlock(&spin));
	}
	return arg;
}

static void counter(void)
{
	pthread_t threads[N_THREADS];

	CHECK_OK(pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE));
	for (int i = 0; i < N_THREADS; i++)
		threads[i] = start(add, NULL);
	for (int i = 0; i < N_THREADS; i++)
		join(threads[i]);
	CHECK(count == (long)N_THREADS * N_ROUNDS);
}

static _Atomic bool held;

static void *sleep_on_it(void *arg)
{
	CHECK_OK(pthread_spin_lock(&spin));
	held = true;
	sleep_ms(100);
	CHECK_OK(pthread_spin_unlock(&spin));
	return arg;
}

/* Held over a sleep, with more that spin than there are processors. */
static void held_over_sleep(void)
{
	pthread_t sleeper, threads[8];
	long long begun = now_ms();

	CHECK_OK(pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE));
	sleeper = start(sleep_on_it, NULL);
	while (!held)
		sched_yield();
	for (int i = 0; i < 8; i++)
		threads[i] = start(sleep_on_it, NULL);
	join(sleeper);
	CHECK(now_ms() - begun < 1000);
	for (int i = 0; i < 8; i++)
		join(threads[i]);
	CHECK(now_ms() - begun < 5000);
}

static void *compute(void *arg)
{
	CHECK_OK(pthread_spin_lock(&spin));
	held = true;
	for (long long begun = now_ms(); now_ms() - begun < 100;)
		;
	CHECK_OK(pthread_spin_unlock(&spin));
	return arg;
}

/* Held for longer than a time slice. */
static void held_over_computing(void)
{
	pthread_t threads[4];
	long long begun = now_ms();

	CHECK_OK(pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE));
	for (int i = 0; i < 4; i++)
		threads[i] = start(compute, NULL);
	for (int i = 0; i < 4; i++)
		join(threads[i]);
	CHECK(now_ms() - begun < 5000);
}

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
	    {"errors", errors},
	    {"counter", counter},
	    {"held-over-sleep", held_over_sleep},
	    {"held-over-computing", held_over_computing},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
