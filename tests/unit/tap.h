/* SPDX-License-Identifier: MIT */
/*
 * tap.h: what the unit tests share.  Each is a program on plain kernel threads, linked with
 * the objects that it names, that prints TAP and ends with status 1 if a test failed.
 */
#ifndef TAP_H
#define TAP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static int tap_n_run, tap_n_failed;
static bool tap_failing;

/* Notes that the test being run has failed.  Any thread may, once for all. */
#define EXPECT(condition)                                                        \
	do {                                                                     \
		if (!(condition) &&                                              \
		    !__atomic_exchange_n(&tap_failing, true, __ATOMIC_RELAXED))  \
			printf("# %s:%d: %s\n", __FILE__, __LINE__, #condition); \
	} while (0)

static inline void tap_test(const char *name, void (*test)(void))
{
	tap_failing = false;
	test();
	if (tap_failing)
		tap_n_failed++;
	printf("%s %d - %s\n", tap_failing ? "not ok" : "ok", ++tap_n_run, name);
	fflush(stdout);
}

static inline void tap_skip(const char *name, const char *why)
{
	printf("ok %d - %s # SKIP %s\n", ++tap_n_run, name, why);
}

static inline int tap_done(void)
{
	printf("1..%d\n", tap_n_run);
	return tap_n_failed != 0;
}

static inline pthread_t tap_start(void *(*routine)(void *), void *arg)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, routine, arg) != 0)
		abort();
	return thread;
}

static inline void tap_join(pthread_t thread)
{
	if (pthread_join(thread, NULL) != 0)
		abort();
}

/* xorshift: each thread has its own, so that a run can be repeated. */
static inline uint32_t tap_random(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

#endif
