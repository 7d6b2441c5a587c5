/* SPDX-License-Identifier: MIT */
/*
 * cpubound: computing, by one thread and by four, on one processor and on several.
 *
 * Threads make computing faster only where there are processors for them; on one, four
 * threads take as long as one does, or a little longer.  The processors are chosen from
 * outside:
 *
 *	taskset -c 0 cpubound		natively, on one
 *	cpubound			natively, on all
 *	GOMAXPROCS=1 pgreen cpubound	green, on one
 *	GOMAXPROCS=2 pgreen cpubound	green, on two
 *
 * The work is counting primes by trial division: it never waits, never calls and never
 * yields, so that four threads on one processor also need a scheduler that takes it away
 * from them.  The answer goes to stdout, the times to stderr.
 *
 * usage: cpubound
 * prints:
 *	one thread: 148933 primes below 2000000
 *	4 threads: 148933 primes below 2000000
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { N_THREADS = 4, LIMIT = 2000000, N_PRIMES = 148933, EXIT_CANNOT_RUN = 77 };

static bool is_prime(unsigned odd)
{
	for (unsigned d = 3; d * d <= odd; d += 2)
		if (odd % d == 0)
			return false;
	return true;
}

/* Every N_THREADS-th odd number from 3 + 2 * part on: shares of equal weight. */
static unsigned count_primes(unsigned part)
{
	unsigned n = 0;

	for (unsigned odd = 3 + 2 * part; odd < LIMIT; odd += 2 * N_THREADS)
		n += is_prime(odd);
	return n;
}

static void *count_one_part(void *part)
{
	return (void *)(uintptr_t)count_primes((uintptr_t)part);
}

static unsigned count_by_one(void)
{
	unsigned n = 1; /* 2, the even prime */

	for (unsigned part = 0; part < N_THREADS; part++)
		n += count_primes(part);
	return n;
}

static unsigned count_by_many(void)
{
	pthread_t threads[N_THREADS];
	unsigned n = 1;

	for (uintptr_t part = 0; part < N_THREADS; part++) {
		int error =
		    pthread_create(&threads[part], NULL, count_one_part, (void *)part);
		if (error) {
			fprintf(stderr, "cpubound: cannot create: %s\n", strerror(error));
			exit(error == EAGAIN ? EXIT_CANNOT_RUN : EXIT_FAILURE);
		}
	}
	for (int part = 0; part < N_THREADS; part++) {
		void *found;
		pthread_join(threads[part], &found);
		n += (uintptr_t)found;
	}
	return n;
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

int main(void)
{
	double start = now_s();
	unsigned by_one = count_by_one();
	double between = now_s();
	unsigned by_many = count_by_many();
	double end = now_s();

	printf("one thread: %u primes below %d\n", by_one, LIMIT);
	printf("%d threads: %u primes below %d\n", N_THREADS, by_many, LIMIT);
	fprintf(stderr,
		"cpubound: one thread %.3f s, %d threads %.3f s, %.2f times as fast\n",
		between - start, N_THREADS, end - between,
		(between - start) / (end - between));
	return by_one == N_PRIMES && by_many == N_PRIMES ? EXIT_SUCCESS : EXIT_FAILURE;
}
