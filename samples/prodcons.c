/* SPDX-License-Identifier: MIT */
/*
 * prodcons: producers and consumers around a small buffer, with two condition variables.
 *
 * What a Go program writes as a channel of eight.  Two producers put 50,000 numbers each,
 * three consumers take them until the buffer is closed and empty; each number must come
 * out exactly once.
 *
 * usage: prodcons
 * prints:
 *	2 producers put 100000 numbers
 *	3 consumers took 100000 numbers, each once
 *	their sum is 4999950000
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	N_PRODUCERS = 2,
	N_CONSUMERS = 3,
	PER_PRODUCER = 50000,
	N_ITEMS = N_PRODUCERS * PER_PRODUCER,
	CAPACITY = 8,
	EXIT_CANNOT_RUN = 77,
};

/* All of it is under lock. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t not_empty, not_full;
	int items[CAPACITY]; /* a ring: n items from first on */
	int first, n;
	bool closed; /* nothing will be put any more */
} buffer = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .not_empty = PTHREAD_COND_INITIALIZER,
    .not_full = PTHREAD_COND_INITIALIZER,
};

/* How often each number came out.  Written by whoever took it, read after the joins. */
static unsigned char taken[N_ITEMS];

static void put(int item)
{
	pthread_mutex_lock(&buffer.lock);
	while (buffer.n == CAPACITY)
		pthread_cond_wait(&buffer.not_full, &buffer.lock);
	buffer.items[(buffer.first + buffer.n++) % CAPACITY] = item;
	pthread_cond_signal(&buffer.not_empty);
	pthread_mutex_unlock(&buffer.lock);
}

/* Returns false when the buffer is closed and empty. */
static bool take(int *item)
{
	bool got;

	pthread_mutex_lock(&buffer.lock);
	while (buffer.n == 0 && !buffer.closed)
		pthread_cond_wait(&buffer.not_empty, &buffer.lock);
	got = buffer.n > 0;
	if (got) {
		*item = buffer.items[buffer.first];
		buffer.first = (buffer.first + 1) % CAPACITY;
		buffer.n--;
		pthread_cond_signal(&buffer.not_full);
	}
	pthread_mutex_unlock(&buffer.lock);
	return got;
}

static void close_buffer(void)
{
	pthread_mutex_lock(&buffer.lock);
	buffer.closed = true;
	pthread_cond_broadcast(&buffer.not_empty);
	pthread_mutex_unlock(&buffer.lock);
}

static void *produce(void *arg)
{
	int first = (int)(intptr_t)arg * PER_PRODUCER;

	for (int i = 0; i < PER_PRODUCER; i++)
		put(first + i);
	return NULL;
}

static void *consume(void *arg)
{
	uint64_t *sum = arg;
	int item;

	while (take(&item)) {
		taken[item]++;
		*sum += item;
	}
	return NULL;
}

static void start(pthread_t *thread, void *(*routine)(void *), void *arg)
{
	int error = pthread_create(thread, NULL, routine, arg);

	if (error) {
		fprintf(stderr, "prodcons: cannot create: %s\n", strerror(error));
		exit(error == EAGAIN ? EXIT_CANNOT_RUN : EXIT_FAILURE);
	}
}

int main(void)
{
	pthread_t producers[N_PRODUCERS], consumers[N_CONSUMERS];
	uint64_t sums[N_CONSUMERS] = {0}, sum = 0;
	int n_taken = 0, n_wrong = 0;

	for (int i = 0; i < N_CONSUMERS; i++)
		start(&consumers[i], consume, &sums[i]);
	for (int i = 0; i < N_PRODUCERS; i++)
		start(&producers[i], produce, (void *)(intptr_t)i);
	for (int i = 0; i < N_PRODUCERS; i++)
		pthread_join(producers[i], NULL);
	printf("%d producers put %d numbers\n", N_PRODUCERS, N_ITEMS);
	close_buffer();
	for (int i = 0; i < N_CONSUMERS; i++) {
		pthread_join(consumers[i], NULL);
		sum += sums[i];
	}
	for (int i = 0; i < N_ITEMS; i++) {
		n_taken += taken[i];
		n_wrong += taken[i] != 1;
	}
	if (n_wrong) {
		fprintf(stderr, "prodcons: %d numbers not taken exactly once\n", n_wrong);
		return EXIT_FAILURE;
	}
	printf("%d consumers took %d numbers, each once\n", N_CONSUMERS, n_taken);
	printf("their sum is %ju\n", (uintmax_t)sum);
	return sum == (uint64_t)N_ITEMS * (N_ITEMS - 1) / 2 ? EXIT_SUCCESS : EXIT_FAILURE;
}
