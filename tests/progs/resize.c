/* SPDX-License-Identifier: MIT */
/*
 * resize.c N...: changes the number of processors to each N in turn while threads compute,
 * sleep and wait for each other.  Each time about as many kernel threads compute as there
 * are processors, and everybody gets on.
 */
#include <dlfcn.h>
#include <semaphore.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "check.h"

enum {
	N_COMPUTING = 12,
	N_PAIRS = 4,
	N_SLEEPERS = 4,
	N_PLACES = 256,
	PATIENCE_MS = 15000
};

static _Atomic long progress[N_COMPUTING + N_PAIRS + N_SLEEPERS];
static _Atomic bool time_is_up;

/* Where computing happens: each kernel thread's place counts its visits. */
static struct {
	_Atomic int tid;
	_Atomic long visits;
} places[N_PLACES];

static void visit(void)
{
	int tid = kernel_tid();

	for (int i = 0; i < N_PLACES; i++) {
		int none = 0;
		if (places[i].tid == 0)
			atomic_compare_exchange_strong(&places[i].tid, &none, tid);
		if (places[i].tid == tid) {
			places[i].visits++;
			return;
		}
	}
}

static void *compute(void *number)
{
	while (!time_is_up) {
		for (volatile int i = 0; i < 100000; i++)
			;
		visit();
		progress[(intptr_t)number]++;
	}
	return NULL;
}

static struct pair {
	sem_t ping, pong;
	bool is_over; /* said before the last ping */
} pairs[N_PAIRS];

static void *answer(void *arg)
{
	struct pair *p = arg;

	for (;;) {
		sem_wait(&p->ping);
		if (p->is_over)
			return NULL;
		sem_post(&p->pong);
	}
}

static void *ask(void *number)
{
	struct pair *p = &pairs[(intptr_t)number - N_COMPUTING];
	pthread_t other;

	CHECK(sem_init(&p->ping, 0, 0) == 0 && sem_init(&p->pong, 0, 0) == 0);
	other = start(answer, p);
	while (!time_is_up) {
		sem_post(&p->ping);
		sem_wait(&p->pong);
		progress[(intptr_t)number]++;
	}
	p->is_over = true;
	sem_post(&p->ping);
	join(other);
	return NULL;
}

static void *sleep_often(void *number)
{
	while (!time_is_up) {
		sleep_ms(1);
		progress[(intptr_t)number]++;
	}
	return NULL;
}

/* How many kernel threads computed within some time slices. */
static int count_computing(void)
{
	long before[N_PLACES];
	int n = 0;

	for (int i = 0; i < N_PLACES; i++)
		before[i] = places[i].visits;
	sleep_ms(100);
	for (int i = 0; i < N_PLACES; i++)
		n += places[i].visits != before[i];
	return n;
}

static void wait_for_computing(int n)
{
	long long end = now_ms() + PATIENCE_MS;
	int seen = 0, in_a_row = 0;

	/* On a busy machine a worker that waits for a CPU looks as if it were blocked: its
	 * processor goes to another, and both compute. */
	while (in_a_row < 2 && now_ms() < end) {
		seen = count_computing();
		in_a_row = seen >= n && seen <= 2 * n + 1 ? in_a_row + 1 : 0;
	}
	if (in_a_row < 2)
		fprintf(stderr, "%d kernel threads compute on %d processors\n", seen, n);
	CHECK(in_a_row == 2);
}

static void wait_for_progress(void)
{
	enum { N = N_COMPUTING + N_PAIRS + N_SLEEPERS };
	long before[N];
	long long end = now_ms() + PATIENCE_MS;

	for (int i = 0; i < N; i++)
		before[i] = progress[i];
	for (int i = 0; i < N; i++)
		while (progress[i] <= before[i] + 1) {
			CHECK(now_ms() < end);
			sleep_ms(1);
		}
}

int main(int argc, char **argv)
{
	pthread_t threads[N_COMPUTING + N_PAIRS + N_SLEEPERS];
	int (*gomaxprocs)(int) = (int (*)(int))dlsym(RTLD_DEFAULT, "pgreen_gomaxprocs");
	intptr_t n = 0;

	CHECK(gomaxprocs != NULL);
	CHECK(gomaxprocs(-1) == -1 && errno == EINVAL);
	for (; n < N_COMPUTING; n++)
		threads[n] = start(compute, (void *)n);
	for (; n < N_COMPUTING + N_PAIRS; n++)
		threads[n] = start(ask, (void *)n);
	for (; n < N_COMPUTING + N_PAIRS + N_SLEEPERS; n++)
		threads[n] = start(sleep_often, (void *)n);

	for (int i = 1; i < argc; i++) {
		int to = atoi(argv[i]), before = gomaxprocs(0);

		CHECK(gomaxprocs(to) == before && gomaxprocs(0) == to);
		wait_for_progress();
		wait_for_computing(to);
		wait_for_progress();
	}
	time_is_up = true;
	while (n > 0)
		join(threads[--n]);
	return 0;
}
