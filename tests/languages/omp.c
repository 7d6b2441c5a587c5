/* SPDX-License-Identifier: MIT */
/*
 * omp.c: OpenMP: barriers, critical sections, locks, reductions, ordered loops, tasks with
 * dependences, sections, nested teams, and teams of threads that the program itself made.
 */
#include <omp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                           \
	do {                                                                       \
		if (!(condition)) {                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			exit(1);                                                   \
		}                                                                  \
	} while (0)

static void barriers(int rounds)
{
	int n = omp_get_max_threads();
	int at[n];

	for (int i = 0; i < n; i++)
		at[i] = 0;
#pragma omp parallel
	{
		int mine = omp_get_thread_num();

		for (int k = 1; k <= rounds; k++) {
#pragma omp atomic write
			at[mine] = k;
#pragma omp barrier
			for (int i = 0; i < n; i++) {
				int seen;
#pragma omp atomic read
				seen = at[i];
				CHECK(seen == k);
			}
#pragma omp barrier
		}
	}
}

static void exclusion(void)
{
	long count = 0, locked = 0, nested = 0;
	omp_lock_t lock;
	omp_nest_lock_t nest;

	omp_init_lock(&lock);
	omp_init_nest_lock(&nest);
#pragma omp parallel
	for (int i = 0; i < 500; i++) {
#pragma omp critical
		count++;
		omp_set_lock(&lock);
		locked++;
		omp_unset_lock(&lock);
		omp_set_nest_lock(&nest);
		omp_set_nest_lock(&nest);
		nested++;
		omp_unset_nest_lock(&nest);
		omp_unset_nest_lock(&nest);
	}
	int n = omp_get_max_threads();
	CHECK(count == 500L * n && locked == count && nested == count);
	omp_destroy_lock(&lock);
	omp_destroy_nest_lock(&nest);
}

static void loops(void)
{
	long sum = 0;
	int order = 0;

#pragma omp parallel for reduction(+ : sum) schedule(dynamic, 7)
	for (int i = 0; i < 100000; i++)
		sum += i % 10;
	CHECK(sum == 450000);
#pragma omp parallel for ordered schedule(static, 1)
	for (int i = 0; i < 200; i++) {
#pragma omp ordered
		{
			CHECK(order == i);
			order++;
		}
	}
#pragma omp parallel for schedule(guided) reduction(max : sum)
	for (int i = 0; i < 1000; i++)
		sum = i * 1000L > sum ? i * 1000L : sum;
	CHECK(sum == 999000);
}

static long fib(int n)
{
	long a, b;

	if (n < 2)
		return n;
#pragma omp task shared(a) if (n > 10)
	a = fib(n - 1);
#pragma omp task shared(b) if (n > 10)
	b = fib(n - 2);
#pragma omp taskwait
	return a + b;
}

static void tasks(void)
{
	long f = 0;
	int x = 0, done = 0;

#pragma omp parallel
#pragma omp single
	f = fib(20);
	CHECK(f == 6765);
#pragma omp parallel
#pragma omp single
	for (int i = 0; i < 200; i++) {
#pragma omp task depend(inout : x)
		x = x * 3 % 1000003 + 1;
	}
	int y = 0;
	for (int i = 0; i < 200; i++)
		y = y * 3 % 1000003 + 1;
	CHECK(x == y);
#pragma omp parallel sections reduction(+ : done)
	{
#pragma omp section
		done += 1;
#pragma omp section
		done += 2;
#pragma omp section
		done += 4;
	}
	CHECK(done == 7);
}

static void nested(void)
{
	int n = 0;

	omp_set_max_active_levels(2);
	for (int round = 0; round < 10; round++) {
#pragma omp parallel num_threads(4)
#pragma omp parallel num_threads(3)
#pragma omp atomic
		n++;
	}
	CHECK(n == 120);
}

static void *team(void *arg)
{
	long sum = 0;

	for (int round = 0; round < 20; round++) {
#pragma omp parallel for num_threads(3) reduction(+ : sum)
		for (int i = 0; i < 1000; i++)
			sum += i;
	}
	CHECK(sum == 20 * 499500L);
	return arg;
}

static void teams(void)
{
	pthread_t threads[6];

	for (int i = 0; i < 6; i++)
		CHECK(pthread_create(&threads[i], NULL, team, NULL) == 0);
	team(NULL);
	for (int i = 0; i < 6; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

int main(int argc, char **argv)
{
	barriers(argc > 1 ? atoi(argv[1]) : 200);
	puts("barriers");
	exclusion();
	puts("exclusion");
	loops();
	puts("loops");
	tasks();
	puts("tasks");
	nested();
	puts("nested");
	teams();
	puts("teams");
	return 0;
}
