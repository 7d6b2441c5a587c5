/* SPDX-License-Identifier: MIT */
/*
 * c11.c: <threads.h>.
 */
#include <limits.h>
#include <stdint.h>
#include <threads.h>

#include "check.h"

static mtx_t mutex;
static cnd_t cond;
static long count;

static int answer(void *arg)
{
	return *(int *)arg;
}

static int answer_by_exit(void *arg)
{
	thrd_exit(*(int *)arg);
}

static int compare_self(void *arg)
{
	thrd_t self = thrd_current();

	CHECK(thrd_equal(self, thrd_current()));
	CHECK(!thrd_equal(self, *(thrd_t *)arg));
	return 0;
}

static void thread_results(void)
{
	const int values[] = {0, 1, -1, INT_MAX, INT_MIN};
	thrd_t main_thread = thrd_current(), t;
	int result;

	for (int i = 0; i < 5; i++) {
		int value = values[i];

		CHECK(thrd_create(&t, answer, &value) == thrd_success);
		CHECK(thrd_join(t, &result) == thrd_success && result == value);
		CHECK(thrd_create(&t, answer_by_exit, &value) == thrd_success);
		CHECK(thrd_join(t, &result) == thrd_success && result == value);
	}
	CHECK(thrd_create(&t, compare_self, &main_thread) == thrd_success);
	CHECK(thrd_join(t, NULL) == thrd_success);
	CHECK(thrd_join(main_thread, NULL) == thrd_error);
}

static _Atomic int n_detached;

static int run_detached(void *arg)
{
	(void)arg;
	n_detached++;
	return 0;
}

static void detached(void)
{
	for (int i = 0; i < 50; i++) {
		thrd_t t;

		CHECK(thrd_create(&t, run_detached, NULL) == thrd_success);
		CHECK(thrd_detach(t) == thrd_success);
	}
	for (int ms = 0; n_detached < 50; ms++) {
		CHECK(ms < 10000);
		thrd_sleep(&(struct timespec){0, 1000000}, NULL);
	}
}

static int try(void *arg)
{
	(void)arg;
	int r = mtx_trylock(&mutex);
	if (r == thrd_success)
		CHECK(mtx_unlock(&mutex) == thrd_success);
	return r;
}

static int try_elsewhere(void)
{
	thrd_t t;
	int result;

	CHECK(thrd_create(&t, try, NULL) == thrd_success);
	CHECK(thrd_join(t, &result) == thrd_success);
	return result;
}

static int time_out(void *arg)
{
	struct timespec ts = in_ms(CLOCK_REALTIME, 30), bad = {0, -1};
	long long begun = now_ms();

	(void)arg;
	CHECK(mtx_timedlock(&mutex, &ts) == thrd_timedout);
	CHECK(now_ms() - begun >= 29);
	CHECK(mtx_timedlock(&mutex, &bad) == thrd_error);
	return 0;
}

static void mutexes(void)
{
	const int types[] = {mtx_plain, mtx_timed, mtx_plain | mtx_recursive,
			     mtx_timed | mtx_recursive};
	thrd_t t;

	for (int i = 0; i < 4; i++) {
		int depth = types[i] & mtx_recursive ? 3 : 1;

		CHECK(mtx_init(&mutex, types[i]) == thrd_success);
		CHECK(try_elsewhere() == thrd_success);
		for (int d = 0; d < depth; d++)
			CHECK(mtx_lock(&mutex) == thrd_success);
		CHECK(try_elsewhere() == thrd_busy);
		CHECK(thrd_create(&t, time_out, NULL) == thrd_success);
		CHECK(thrd_join(t, NULL) == thrd_success);
		for (int d = 0; d < depth; d++)
			CHECK(mtx_unlock(&mutex) == thrd_success);
		CHECK(try_elsewhere() == thrd_success);
		struct timespec past = {1, 0};
		CHECK(mtx_timedlock(&mutex, &past) == thrd_success);
		CHECK(mtx_unlock(&mutex) == thrd_success);
		mtx_destroy(&mutex);
	}
}

enum { N_THREADS = 10, N_ROUNDS = 2000 };

static int add(void *arg)
{
	(void)arg;
	for (int i = 0; i < N_ROUNDS; i++) {
		CHECK(mtx_lock(&mutex) == thrd_success);
		count++;
		CHECK(cnd_signal(&cond) == thrd_success);
		CHECK(mtx_unlock(&mutex) == thrd_success);
	}
	return 0;
}

static int wait_for_all(void *arg)
{
	(void)arg;
	CHECK(mtx_lock(&mutex) == thrd_success);
	while (count != (long)N_THREADS * N_ROUNDS)
		CHECK(cnd_wait(&cond, &mutex) == thrd_success);
	CHECK(cnd_broadcast(&cond) == thrd_success);
	CHECK(mtx_unlock(&mutex) == thrd_success);
	return 0;
}

static void conditions(void)
{
	thrd_t adders[N_THREADS], waiters[N_THREADS];
	struct timespec ts = in_ms(CLOCK_REALTIME, 30);

	CHECK(mtx_init(&mutex, mtx_plain) == thrd_success);
	CHECK(cnd_init(&cond) == thrd_success);
	CHECK(mtx_lock(&mutex) == thrd_success);
	CHECK(cnd_timedwait(&cond, &mutex, &ts) == thrd_timedout);
	CHECK(mtx_unlock(&mutex) == thrd_success);
	for (int i = 0; i < N_THREADS; i++)
		CHECK(thrd_create(&waiters[i], wait_for_all, NULL) == thrd_success);
	for (int i = 0; i < N_THREADS; i++)
		CHECK(thrd_create(&adders[i], add, NULL) == thrd_success);
	for (int i = 0; i < N_THREADS; i++)
		CHECK(thrd_join(adders[i], NULL) == thrd_success);
	CHECK(mtx_lock(&mutex) == thrd_success);
	CHECK(cnd_broadcast(&cond) == thrd_success);
	CHECK(mtx_unlock(&mutex) == thrd_success);
	for (int i = 0; i < N_THREADS; i++)
		CHECK(thrd_join(waiters[i], NULL) == thrd_success);
	CHECK(count == (long)N_THREADS * N_ROUNDS);
	ts = in_ms(CLOCK_REALTIME, 30);
	CHECK(mtx_lock(&mutex) == thrd_success);
	CHECK(cnd_timedwait(&cond, &mutex, &ts) == thrd_timedout);
	CHECK(mtx_unlock(&mutex) == thrd_success);
	cnd_destroy(&cond);
	mtx_destroy(&mutex);
}

static tss_t key;
static _Atomic int n_destroyed;

static void destroy(void *value)
{
	CHECK(value == &key);
	n_destroyed++;
}

static int set_key(void *arg)
{
	(void)arg;
	CHECK(tss_get(key) == NULL);
	CHECK(tss_set(key, &key) == thrd_success);
	CHECK(tss_get(key) == &key);
	return 0;
}

static void storage(void)
{
	CHECK(tss_create(&key, destroy) == thrd_success);
	for (int i = 0; i < 20; i++) {
		thrd_t t;

		CHECK(thrd_create(&t, set_key, NULL) == thrd_success);
		CHECK(thrd_join(t, NULL) == thrd_success);
		CHECK(n_destroyed == i + 1);
	}
	tss_delete(key);
}

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
	    {"threads", thread_results}, {"detached", detached}, {"mutexes", mutexes},
	    {"conditions", conditions},  {"storage", storage},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
