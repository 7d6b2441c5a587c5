/* SPDX-License-Identifier: MIT */
/*
 * endless: threads in an endless loop, until there are no more to be had.
 *
 * A program that starts a thread for everything meets the end of something: processes,
 * memory, mappings.  pthread_create then says EAGAIN, and a program that listens goes on:
 * this one lets all its threads go, joins them, and starts new ones as if nothing had
 * happened.  The end is also met at BOUND threads, so that a machine with much of
 * everything is not brought to its knees:
 *
 *	endless 1000000			until the machine's own limit
 *	(ulimit -v 500000; endless 1000000)	until half a gigabyte of address space is gone
 *
 * usage: endless [BOUND]		2000 if not given
 * prints:
 *	no more threads
 *	all of them ran and were joined
 *	100 new threads ran and were joined
 * and on stderr how many there were, and why no more.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { STACK_SIZE = 64 << 10, N_NEW = 100, EXIT_CANNOT_RUN = 77 };

/* Where the threads wait, so that every one of them lives until main lets them all go. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER;
static bool is_open; /* under lock, as is n_ran */
static int n_ran;

static void *wait_at_gate(void *unused)
{
	pthread_mutex_lock(&lock);
	while (!is_open)
		pthread_cond_wait(&opened, &lock);
	n_ran++;
	pthread_mutex_unlock(&lock);
	return unused;
}

static void set_gate(bool open)
{
	pthread_mutex_lock(&lock);
	is_open = open;
	if (open) {
		n_ran = 0;
		pthread_cond_broadcast(&opened);
	}
	pthread_mutex_unlock(&lock);
}

/* Creates up to bound threads.  Returns how many, and in *error why no more, or 0. */
static int create_until_refused(pthread_t *threads, int bound, int *error)
{
	pthread_attr_t attr;
	int n = 0;

	*error = 0;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	while (n < bound) {
		*error = pthread_create(&threads[n], &attr, wait_at_gate, NULL);
		if (*error)
			break;
		n++;
	}
	pthread_attr_destroy(&attr);
	return n;
}

/* Opens the gate and joins.  Returns how many threads went through it. */
static int release_and_join(pthread_t *threads, int n)
{
	set_gate(true);
	for (int i = 0; i < n; i++) {
		int error = pthread_join(threads[i], NULL);
		if (error) {
			fprintf(stderr, "endless: join %d: %s\n", i, strerror(error));
			exit(EXIT_FAILURE);
		}
	}
	set_gate(false);
	return n_ran;
}

static pthread_t *allocate_threads(int bound)
{
	/* From mmap, because the loop may leave malloc nothing to give. */
	void *memory = mmap(NULL, bound * sizeof(pthread_t), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

int main(int argc, char **argv)
{
	int bound = argc > 1 ? atoi(argv[1]) : 2000;
	pthread_t *threads = bound >= N_NEW ? allocate_threads(bound) : NULL;
	int error;

	if (!threads) {
		fprintf(stderr, "usage: endless [BOUND]\nBOUND is at least %d\n", N_NEW);
		return EXIT_FAILURE;
	}
	int n = create_until_refused(threads, bound, &error);
	fprintf(stderr, "endless: %d threads at once, then %s\n", n,
		error ? strerror(error) : "the bound");
	if (error && error != EAGAIN)
		return EXIT_FAILURE;
	puts("no more threads");

	if (release_and_join(threads, n) != n)
		return EXIT_FAILURE;
	puts("all of them ran and were joined");
	if (n < N_NEW) {
		fprintf(stderr, "endless: too few threads to go on with\n");
		return EXIT_CANNOT_RUN;
	}

	n = create_until_refused(threads, N_NEW, &error);
	if (n != N_NEW || release_and_join(threads, n) != n) {
		fprintf(stderr, "endless: the second time %d: %s\n", n, strerror(error));
		return EXIT_FAILURE;
	}
	printf("%d new threads ran and were joined\n", n);
	return EXIT_SUCCESS;
}
