/* SPDX-License-Identifier: MIT */
/*
 * resize.c N...: changes the number of processors to each N in turn while threads compute,
 * sleep and wait for each other.  Each time about as many kernel threads compute as there
 * are processors, and everybody gets on.
 *
 * resize.c hurry: changes it to and fro, faster than processors come and go, while threads
 * sleep for moments; at the end all processors are there.
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

static void *doze(void *number)
{
	const struct timespec moment = {.tv_nsec = 20000};

	while (!time_is_up) {
		nanosleep(&moment, NULL);
		progress[(intptr_t)number]++;
	}
	return NULL;
}

/* Two that wake each other, and so wake workers. */
static void *alternate(void *number)
{
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
	static intptr_t turn;

	while (!time_is_up) {
		struct timespec until = in_ms(CLOCK_REALTIME, 1);

		pthread_mutex_lock(&mutex);
		turn = (intptr_t)number;
		pthread_cond_broadcast(&turned);
		while (turn == (intptr_t)number && !time_is_up &&
		       pthread_cond_timedwait(&turned, &mutex, &until) == 0)
			;
		pthread_mutex_unlock(&mutex);
		progress[(intptr_t)number]++;
	}
	return NULL;
}

static int (*gomaxprocs)(int);

static void hurry(void)
{
	enum { MS = 3000, N = 6, MOST = 4 };
	pthread_t threads[N];
	const struct timespec moment = {.tv_nsec = 30000};

	for (intptr_t i = 0; i < N; i++)
		threads[i] = start(i < N - 2 ? doze : alternate, (void *)i);
	long long end = now_ms() + MS;
	for (int i = 0; now_ms() < end; i++) {
		gomaxprocs(1);
		if (i % 3 == 0)
			nanosleep(&moment, NULL);
		gomaxprocs(MOST);
		if (i % 3 == 1)
			nanosleep(&moment, NULL);
	}
	time_is_up = true;
	for (int i = 0; i < N; i++)
		join(threads[i]);
	/* None has been lost: as many threads as there are processors compute at once. */
	time_is_up = false;
	for (intptr_t i = 0; i < MOST; i++)
		threads[i] = start(compute, (void *)i);
	wait_for_computing(MOST);
	time_is_up = true;
	for (int i = 0; i < MOST; i++)
		join(threads[i]);
}

int main(int argc, char **argv)
{
	pthread_t threads[N_COMPUTING + N_PAIRS + N_SLEEPERS];
	intptr_t n = 0;

	gomaxprocs = (int (*)(int))dlsym(RTLD_DEFAULT, "pgreen_gomaxprocs");
	CHECK(gomaxprocs != NULL);
	CHECK(gomaxprocs(-1) == -1 && errno == EINVAL);
	if (argc > 1 && strcmp(argv[1], "hurry") == 0) {
		hurry();
		return 0;
	}
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
