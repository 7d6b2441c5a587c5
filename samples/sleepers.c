/* SPDX-License-Identifier: MIT */
/*
 * sleepers: 10,000 threads sleep at once; how many kernel threads does that take?
 *
 * Natively one for each, and a sleeping thread still holds a kernel stack and a place in
 * the table of processes.  Green, a handful, however many sleep.  The count is read from
 * /proc/self/task while all of them sleep.  It is the one thing that may differ, and so it
 * goes to stderr.
 *
 * usage: sleepers [THREADS]
 * prints:
 *	10000 threads asleep at once
 *	10000 threads woke, 0 of them early
 * and on stderr, natively and then with GOMAXPROCS=2 green:
 *	sleepers: GOMAXPROCS not set, 10001 kernel threads
 *	sleepers: GOMAXPROCS 2, 4 kernel threads
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { STACK_SIZE = 64 << 10, EXIT_CANNOT_RUN = 77 };

static const int64_t NAP_NS = 500000000;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t one_more = PTHREAD_COND_INITIALIZER;
static int n_asleep;        /* under lock */
static atomic_bool wake_up; /* ends every sleeper's next nap */
static atomic_int n_early;  /* naps that were shorter than asked */
static atomic_int n_woken;

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void nap(void)
{
	const struct timespec length = {.tv_nsec = NAP_NS};
	int64_t start = now_ns();

	while (nanosleep(&length, NULL) && errno == EINTR)
		continue;
	if (now_ns() - start < NAP_NS)
		atomic_fetch_add(&n_early, 1);
}

/* Naps on until main has counted, so that no machine is too slow to see all asleep. */
static void *sleeper(void *unused)
{
	pthread_mutex_lock(&lock);
	n_asleep++;
	pthread_cond_signal(&one_more);
	pthread_mutex_unlock(&lock);
	do
		nap();
	while (!atomic_load(&wake_up));
	atomic_fetch_add(&n_woken, 1);
	return unused;
}

static int count_kernel_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	int n = 0;

	if (!dir)
		return -1;
	for (struct dirent *entry; (entry = readdir(dir));)
		n += entry->d_name[0] != '.';
	closedir(dir);
	return n;
}

/* Returns how many could be created: fewer than n at the machine's limit. */
static int create_all(pthread_t *threads, int n)
{
	pthread_attr_t attr;
	int i;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	for (i = 0; i < n; i++) {
		int error = pthread_create(&threads[i], &attr, sleeper, NULL);
		if (error) {
			fprintf(stderr, "sleepers: %d threads, then: %s\n", i,
				strerror(error));
			break;
		}
	}
	pthread_attr_destroy(&attr);
	return i;
}

static void wait_until_asleep(int n)
{
	pthread_mutex_lock(&lock);
	while (n_asleep < n)
		pthread_cond_wait(&one_more, &lock);
	pthread_mutex_unlock(&lock);
}

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 10000;
	pthread_t *threads = n > 0 ? calloc(n, sizeof(*threads)) : NULL;

	if (!threads) {
		fprintf(stderr, "usage: sleepers [THREADS]\n");
		return EXIT_FAILURE;
	}
	int n_created = create_all(threads, n);
	wait_until_asleep(n_created);

	const char *procs = getenv("GOMAXPROCS");
	fprintf(stderr, "sleepers: GOMAXPROCS %s, %d kernel threads\n",
		procs && *procs ? procs : "not set", count_kernel_threads());
	if (n_created == n)
		printf("%d threads asleep at once\n", n);

	atomic_store(&wake_up, true);
	for (int i = 0; i < n_created; i++)
		pthread_join(threads[i], NULL);
	free(threads);
	if (n_created < n)
		return EXIT_CANNOT_RUN;
	printf("%d threads woke, %d of them early\n", n_woken, n_early);
	return n_woken == n && n_early == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
