/* SPDX-License-Identifier: MIT */
/*
 * barrier.c: barriers: their errors, rounds, and destruction by the first that comes out.
 */
#include <limits.h>
#include <stdint.h>

#include "check.h"

static pthread_barrier_t barrier;

/* Waits; whether this is the one thread of its round that is told apart. */
static bool is_serial(pthread_barrier_t *b)
{
	int r = pthread_barrier_wait(b);

	CHECK(r == 0 || r == PTHREAD_BARRIER_SERIAL_THREAD);
	return r != 0;
}

static void errors(void)
{
	CHECK(pthread_barrier_init(&barrier, NULL, 0) == EINVAL);
	CHECK(pthread_barrier_init(&barrier, NULL, UINT_MAX) == EINVAL);
	/* one that was used before there were threads */
	CHECK_OK(pthread_barrier_init(&barrier, NULL, 1));
	CHECK(is_serial(&barrier));
	become_threaded();
	for (int i = 0; i < 10; i++)
		CHECK(is_serial(&barrier));
	CHECK_OK(pthread_barrier_destroy(&barrier));
}

enum { N_THREADS = 64, N_ROUNDS = 300 };

static _Atomic int arrived[N_ROUNDS], n_serial;

static void *march(void *arg)
{
	for (int i = 0; i < N_ROUNDS; i++) {
		arrived[i]++;
		if (is_serial(&barrier))
			n_serial++;
		CHECK(arrived[i] == N_THREADS);
	}
	return arg;
}

/* Nobody goes on before all have come, and one in each round is told apart. */
static void rounds(void)
{
	pthread_t threads[N_THREADS];

	CHECK_OK(pthread_barrier_init(&barrier, NULL, N_THREADS));
	for (int i = 0; i < N_THREADS; i++)
		threads[i] = start(march, NULL);
	for (int i = 0; i < N_THREADS; i++)
		join(threads[i]);
	CHECK(n_serial == N_ROUNDS);
	CHECK_OK(pthread_barrier_destroy(&barrier));
}

static void *wait_once(void *arg)
{
	return (void *)(intptr_t)is_serial(arg);
}

static void *meet(void *arg)
{
	pthread_barrier_t *b = arg;

	if (is_serial(b)) {
		CHECK_OK(pthread_barrier_destroy(b));
		memset(b, 0xff, sizeof(*b));
		free(b);
	}
	return NULL;
}

static void destroyed_at_once(void)
{
	for (int i = 0; i < 2000; i++) {
		pthread_barrier_t *b = malloc(sizeof(*b));
		pthread_t threads[4];

		CHECK_OK(pthread_barrier_init(b, NULL, 4));
		for (int j = 0; j < 4; j++)
			threads[j] = start(meet, b);
		for (int j = 0; j < 4; j++)
			join(threads[j]);
	}
}

/* More threads may come than make a round. */
static void crowd(void)
{
	CHECK_OK(pthread_barrier_init(&barrier, NULL, 4));
	for (int i = 0; i < 50; i++) {
		pthread_t threads[32];

		for (int j = 0; j < 32; j++)
			threads[j] = start(wait_once, &barrier);
		int serial = 0;
		for (int j = 0; j < 32; j++)
			serial += (int)(intptr_t)join(threads[j]) != 0;
		CHECK(serial == 8);
	}
}

/* libc's words count on through the rounds, and this is where another program has set them:
 * after five whole ones (in nptl, the first word counts who came, the fifth who left). */
static void counted_on(void)
{
	pthread_t threads[4];

	CHECK_OK(pthread_barrier_init(&barrier, NULL, 4));
	((uint32_t *)&barrier)[0] = ((uint32_t *)&barrier)[4] = 20;
	for (int i = 0; i < 100; i++) {
		int serial = 0;

		for (int j = 0; j < 4; j++)
			threads[j] = start(wait_once, &barrier);
		for (int j = 0; j < 4; j++)
			serial += (int)(intptr_t)join(threads[j]) != 0;
		CHECK(serial == 1);
	}
	CHECK_OK(pthread_barrier_destroy(&barrier));
}

static void process_shared(void)
{
	pthread_barrierattr_t attr;
	pthread_t threads[N_THREADS];

	CHECK_OK(pthread_barrierattr_init(&attr));
	CHECK_OK(pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED));
	CHECK_OK(pthread_barrier_init(&barrier, &attr, 8));
	for (int i = 0; i < 8; i++)
		threads[i] = start(wait_once, &barrier);
	for (int i = 0; i < 8; i++)
		join(threads[i]);
	CHECK_OK(pthread_barrier_destroy(&barrier));
}

static _Atomic int n_out;

static void *attend(void *arg)
{
	for (int i = 0; i < 10; i++)
		is_serial(&barrier);
	n_out++;
	return arg;
}

/* Who waits since before there were threads. */
static void elders(void)
{
	CHECK_OK(pthread_barrier_init(&barrier, NULL, 4));
	start_elder(attend, NULL);
	start_elder(attend, NULL);
	pthread_t thread = start(attend, NULL);
	attend(NULL);
	until_counted(&n_out, 4);
	join(thread);
	CHECK_OK(pthread_barrier_destroy(&barrier));
}

/* No cancel ends it: it is no cancellation point. */
static void cancelled(void)
{
	CHECK_OK(pthread_barrier_init(&barrier, NULL, 2));
	pthread_t thread = start_waiting(attend, NULL);
	CHECK_OK(pthread_cancel(thread));
	sleep_ms(20);
	attend(NULL);
	until_counted(&n_out, 2);
	join(thread);
	CHECK_OK(pthread_barrier_destroy(&barrier));
}

#ifdef UNFIT
/* As if it were built with AddressSanitizer: its threads stay native. */
void __asan_init(void);
void __asan_init(void)
{
}
#endif

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
	    {"errors", errors},
	    {"rounds", rounds},
	    {"destroyed-at-once", destroyed_at_once},
	    {"crowd", crowd},
	    {"counted-on", counted_on},
	    {"process-shared", process_shared},
	    {"elders", elders},
	    {"cancelled", cancelled},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
