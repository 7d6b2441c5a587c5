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

/* They count as part of the stack: one that is too small for them is refused. */
static void small_stacks(void)
{
	enum { SMALL = 16 * 1024, ENOUGH = LARGE + 64 * 1024 };
	static char own[SMALL] __attribute__((aligned(4096)));
	const size_t refused[] = {SMALL, LARGE - 4096, LARGE, SIZE_MAX - 99,
				  SIZE_MAX - 4095};
	pthread_attr_t attr;
	pthread_t thread;

	for (int round = 0; round < 2; round++) {
		CHECK_OK(pthread_attr_init(&attr));
		for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
			CHECK_OK(pthread_attr_setstacksize(&attr, refused[i]));
			CHECK(pthread_create(&thread, &attr, use, NULL) == EINVAL);
		}
		CHECK_OK(pthread_attr_setstacksize(&attr, ENOUGH));
		CHECK_OK(pthread_attr_setguardsize(&attr, SIZE_MAX - 99));
		CHECK(pthread_create(&thread, &attr, use, NULL) == EINVAL);
		CHECK_OK(pthread_attr_setguardsize(&attr, 4096));
		CHECK_OK(pthread_create(&thread, &attr, use, (void *)1));
		join(thread);
		CHECK_OK(pthread_attr_setstack(&attr, own, SMALL));
		CHECK(pthread_create(&thread, &attr, use, NULL) == EINVAL);
		CHECK_OK(pthread_attr_destroy(&attr));
		in_thread(use, (void *)2);
	}
}

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
	    {"large", large_ones},
	    {"small-stacks", small_stacks},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
