/* SPDX-License-Identifier: MIT */
/*
 * counter: eight threads add to one counter under a mutex, and no addition is lost.
 *
 * Every thousandth addition yields while it holds the lock, so that the others meet a
 * locked mutex even on one processor.
 *
 * usage: counter
 * prints:
 *	8 threads x 100000 additions = 800000
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_THREADS = 8, N_ADDITIONS = 100000, EXIT_CANNOT_RUN = 77 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long counter; /* under lock; not atomic, that is the point */

static void *add(void *unused)
{
	for (int i = 0; i < N_ADDITIONS; i++) {
		pthread_mutex_lock(&lock);
		long before = counter;
		if (i % 1000 == 0)
			sched_yield();
		counter = before + 1;
		pthread_mutex_unlock(&lock);
	}
	return unused;
}

int main(void)
{
	pthread_t threads[N_THREADS];

	for (int i = 0; i < N_THREADS; i++) {
		int error = pthread_create(&threads[i], NULL, add, NULL);
		if (error) {
			fprintf(stderr, "counter: cannot create: %s\n", strerror(error));
			return error == EAGAIN ? EXIT_CANNOT_RUN : EXIT_FAILURE;
		}
	}
	for (int i = 0; i < N_THREADS; i++)
		pthread_join(threads[i], NULL);
	printf("%d threads x %d additions = %ld\n", N_THREADS, N_ADDITIONS, counter);
	return counter == (long)N_THREADS * N_ADDITIONS ? EXIT_SUCCESS : EXIT_FAILURE;
}
