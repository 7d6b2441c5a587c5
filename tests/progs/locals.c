/* SPDX-License-Identifier: MIT */
/*
 * locals.c CASE: a program whose thread-local variables are larger than a small stack.
 */
#include <stdint.h>

#include "check.h"

enum { N = 10, LARGE = 1 << 20 };

static __thread unsigned char large[LARGE];
static __thread int initialised = 42;

static void *use(void *arg)
{
	unsigned char mark = (unsigned char)(intptr_t)arg;

	CHECK(initialised == 42);
	for (int i = 0; i < LARGE; i++)
		CHECK(large[i] == 0);
	memset(large, mark, LARGE);
	initialised = mark;
	sleep_ms(10);
	for (int i = 0; i < LARGE; i++)
		CHECK(large[i] == mark);
	CHECK(initialised == mark);
	return NULL;
}

/* The slots of threads that have ended are used again. */
static void large_ones(void)
{
	pthread_t threads[N];

	for (int round = 0; round < 3; round++) {
		for (intptr_t i = 0; i < N; i++)
			threads[i] = start(use, (void *)(i + 1));
		for (int i = 0; i < N; i++)
			join(threads[i]);
	}
}

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
	    {"large", large_ones},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
