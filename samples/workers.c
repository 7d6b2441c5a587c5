/* SPDX-License-Identifier: MIT */
/*
 * workers: three workers share a sum, and main joins them in order.
 *
 * They finish in any order.  The output has only one, because join waits for the thread
 * that it was asked for, whether it ended long ago or still runs.
 *
 * usage: workers
 * prints:
 *	worker 1: sum of 1 to 1000000 is 500000500000
 *	worker 2: sum of 1000001 to 2000000 is 1500000500000
 *	worker 3: sum of 2000001 to 3000000 is 2500000500000
 *	all: 4500001500000
 */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_WORKERS = 3, SHARE = 1000000, EXIT_CANNOT_RUN = 77 };

struct share {
	uint64_t first, last;
	uint64_t sum; /* written by the worker, read by main after the join */
};

static void *add_up(void *arg)
{
	struct share *share = arg;

	for (uint64_t n = share->first; n <= share->last; n++)
		share->sum += n;
	return share;
}

int main(void)
{
	static struct share shares[N_WORKERS];
	pthread_t threads[N_WORKERS];
	uint64_t all = 0;

	for (int i = 0; i < N_WORKERS; i++) {
		shares[i].first = (uint64_t)i * SHARE + 1;
		shares[i].last = (uint64_t)(i + 1) * SHARE;
		int error = pthread_create(&threads[i], NULL, add_up, &shares[i]);
		if (error) {
			fprintf(stderr, "workers: cannot create: %s\n", strerror(error));
			return error == EAGAIN ? EXIT_CANNOT_RUN : EXIT_FAILURE;
		}
	}
	for (int i = 0; i < N_WORKERS; i++) {
		void *result;
		int error = pthread_join(threads[i], &result);
		if (error || result != &shares[i]) {
			fprintf(stderr, "workers: join %d: %s\n", i + 1, strerror(error));
			return EXIT_FAILURE;
		}
		printf("worker %d: sum of %ju to %ju is %ju\n", i + 1,
		       (uintmax_t)shares[i].first, (uintmax_t)shares[i].last,
		       (uintmax_t)shares[i].sum);
		all += shares[i].sum;
	}
	printf("all: %ju\n", (uintmax_t)all);

	const uint64_t n = (uint64_t)N_WORKERS * SHARE;
	return all == n * (n + 1) / 2 ? EXIT_SUCCESS : EXIT_FAILURE;
}
