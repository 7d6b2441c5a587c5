/* SPDX-License-Identifier: MIT */
/*
 * posix-sync.c: what POSIX says of mutexes of each type, robust mutexes, condition variables,
 * read-write locks and barriers: one assertion at least for each "shall" that a program can
 * see.  Errors that POSIX allows ("may fail") are not asserted.
 */
#include <limits.h>
#include <signal.h>
#include <sys/mman.h>

#include "check.h"

static _Atomic int step, count;

static void wait_for(const _Atomic int *n, int least)
{
	for (long long end = now_ms() + 15000; *n < least; sleep_ms(1))
		CHECK(now_ms() < end);
}

/* --- mutexes --------------------------------------------------------------------------------- */

static pthread_mutex_t mutex;

static void make_mutex(int type, bool robust)
{
	pthread_mutexattr_t attr;
	int told;

	CHECK_OK(pthread_mutexattr_init(&attr));
	CHECK_OK(pthread_mutexattr_settype(&attr, type));
	CHECK_OK(pthread_mutexattr_gettype(&attr, &told));
	CHECK(told == type);
	if (robust)
		CHECK_OK(pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST));
	CHECK_OK(pthread_mutexattr_getrobust(&attr, &told));
	CHECK(told == (robust ? PTHREAD_MUTEX_ROBUST : PTHREAD_MUTEX_STALLED));
	CHECK_OK(pthread_mutex_init(&mutex, &attr));
	/* What is done to the attribute afterwards does not affect the mutex. */
	CHECK_OK(pthread_mutexattr_destroy(&attr));
}

static void *try_it(void *arg)
{
	(void)arg;
	return (void *)(intptr_t)pthread_mutex_trylock(&mutex);
}

static void *unlock_it(void *arg)
{
	(void)arg;
	return (void *)(intptr_t)pthread_mutex_unlock(&mutex);
}

static int by_other(void *(*what)(void *))
{
	return (int)(intptr_t)in_thread(what, NULL);
}

static void *lock_and_count(void *arg)
{
	for (int i = 0; i < 2000; i++) {
		CHECK_OK(pthread_mutex_lock(&mutex));
		int seen = count;
		if (i % 100 == 0)
			sched_yield();
		count = seen + 1;
		CHECK_OK(pthread_mutex_unlock(&mutex));
	}
	return arg;
}

static void exclude(void)
{
	pthread_t threads[6];

	count = 0;
	for (int i = 0; i < 6; i++)
		threads[i] = start(lock_and_count, NULL);
	for (int i = 0; i < 6; i++)
		join(threads[i]);
	CHECK(count == 12000);
}

static void check_type(int type)
{
	struct timespec soon, past = {.tv_sec = 1};

	make_mutex(type, false);
	exclude();
	CHECK_OK(pthread_mutex_lock(&mutex));
	CHECK(by_other(try_it) == EBUSY);
	if (type == PTHREAD_MUTEX_RECURSIVE) {
		CHECK_OK(pthread_mutex_lock(&mutex));
		CHECK_OK(pthread_mutex_trylock(&mutex));
		CHECK_OK(pthread_mutex_timedlock(&mutex, &past));
		for (int i = 0; i < 3; i++) {
			CHECK_OK(pthread_mutex_unlock(&mutex));
			CHECK(by_other(try_it) == EBUSY);
		}
	} else {
		CHECK(pthread_mutex_trylock(&mutex) == EBUSY);
	}
	if (type == PTHREAD_MUTEX_ERRORCHECK)
		CHECK(pthread_mutex_lock(&mutex) == EDEADLK);
	if (type == PTHREAD_MUTEX_NORMAL) {
		/* Deadlock, which a deadline ends: not before its time. */
		soon = in_ms(CLOCK_REALTIME, 30);
		long long begin = now_ms();
		CHECK(pthread_mutex_timedlock(&mutex, &soon) == ETIMEDOUT);
		CHECK(now_ms() - begin >= 29);
		soon.tv_nsec = 1000000000;
		CHECK(pthread_mutex_timedlock(&mutex, &soon) == EINVAL);
	} else if (type != PTHREAD_MUTEX_DEFAULT) {
		CHECK(by_other(unlock_it) == EPERM);
	}
	CHECK_OK(pthread_mutex_unlock(&mutex));
	if (type == PTHREAD_MUTEX_ERRORCHECK || type == PTHREAD_MUTEX_RECURSIVE)
		CHECK(pthread_mutex_unlock(&mutex) == EPERM);
	/* What can be had at once is had, whatever the deadline; it need not be valid. */
	past.tv_nsec = -1;
	CHECK_OK(pthread_mutex_timedlock(&mutex, &past));
	CHECK_OK(pthread_mutex_unlock(&mutex));
	CHECK_OK(pthread_mutex_destroy(&mutex));
}

static void test_types(void)
{
	pthread_mutexattr_t attr;
	int type;

	become_threaded();
	CHECK_OK(pthread_mutexattr_init(&attr));
	CHECK_OK(pthread_mutexattr_gettype(&attr, &type));
	CHECK(type == PTHREAD_MUTEX_DEFAULT);
	CHECK(pthread_mutexattr_settype(&attr, 77) == EINVAL);
	CHECK_OK(pthread_mutexattr_gettype(&attr, &type));
	CHECK(type == PTHREAD_MUTEX_DEFAULT);
	CHECK_OK(pthread_mutexattr_destroy(&attr));
	check_type(PTHREAD_MUTEX_NORMAL);
	check_type(PTHREAD_MUTEX_ERRORCHECK);
	check_type(PTHREAD_MUTEX_RECURSIVE);
	check_type(PTHREAD_MUTEX_DEFAULT);
}

/* A handler runs while its thread waits for a mutex, and the wait goes on. */
static void note_signal(int sig)
{
	(void)sig;
	step++;
}

static void *lock_it(void *arg)
{
	CHECK_OK(pthread_mutex_lock(&mutex));
	count = 1;
	CHECK_OK(pthread_mutex_unlock(&mutex));
	return arg;
}

static void test_mutex_signal(void)
{
	struct sigaction act = {.sa_handler = note_signal};

	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	make_mutex(PTHREAD_MUTEX_NORMAL, false);
	CHECK_OK(pthread_mutex_lock(&mutex));
	pthread_t thread = start(lock_it, NULL);
	sleep_ms(20);
	CHECK_OK(pthread_kill(thread, SIGUSR1));
	wait_for(&step, 1);
	CHECK(count == 0);
	CHECK_OK(pthread_mutex_unlock(&mutex));
	join(thread);
	CHECK(count == 1);
}

/* --- robust mutexes -------------------------------------------------------------------------- */

static void *die_with_it(void *arg)
{
	CHECK_OK(pthread_mutex_lock(&mutex));
	if (arg != NULL) {
		step = 1;
		sleep_ms(50);
	}
	return NULL;
}

static void *take_dead(void *arg)
{
	int r = pthread_mutex_lock(&mutex);

	if (r == EOWNERDEAD) {
		CHECK_OK(pthread_mutex_consistent(&mutex));
		CHECK_OK(pthread_mutex_unlock(&mutex));
	}
	(void)arg;
	return (void *)(intptr_t)r;
}

static void check_robust(int type)
{
	struct timespec ts;

	make_mutex(type, true);
	/* It ended before: each way to take it tells, and gives it. */
	in_thread(die_with_it, NULL);
	CHECK(pthread_mutex_lock(&mutex) == EOWNERDEAD);
	CHECK(by_other(try_it) == EBUSY);
	CHECK_OK(pthread_mutex_consistent(&mutex));
	CHECK_OK(pthread_mutex_unlock(&mutex));
	CHECK_OK(pthread_mutex_lock(&mutex));
	CHECK_OK(pthread_mutex_unlock(&mutex));
	in_thread(die_with_it, NULL);
	CHECK(pthread_mutex_trylock(&mutex) == EOWNERDEAD);
	CHECK_OK(pthread_mutex_consistent(&mutex));
	CHECK_OK(pthread_mutex_unlock(&mutex));
	in_thread(die_with_it, NULL);
	ts = in_ms(CLOCK_REALTIME, 10000);
	CHECK(pthread_mutex_timedlock(&mutex, &ts) == EOWNERDEAD);
	CHECK_OK(pthread_mutex_consistent(&mutex));
	CHECK(pthread_mutex_consistent(&mutex) == EINVAL);
	CHECK_OK(pthread_mutex_unlock(&mutex));
	/* It ends while others wait: they are not left waiting, and one is told. */
	step = 0;
	pthread_t owner = start(die_with_it, &step), waiters[3];
	wait_for(&step, 1);
	for (int i = 0; i < 3; i++)
		waiters[i] = start(take_dead, NULL);
	int told = 0;
	for (int i = 0; i < 3; i++)
		told += (intptr_t)join(waiters[i]) == EOWNERDEAD;
	join(owner);
	CHECK(told >= 1);
	/* Not made consistent, it is of no use any more. */
	in_thread(die_with_it, NULL);
	CHECK(pthread_mutex_lock(&mutex) == EOWNERDEAD);
	CHECK_OK(pthread_mutex_unlock(&mutex));
	CHECK(pthread_mutex_lock(&mutex) == ENOTRECOVERABLE);
	CHECK(pthread_mutex_trylock(&mutex) == ENOTRECOVERABLE);
	CHECK_OK(pthread_mutex_destroy(&mutex));
}

static void test_robust(void)
{
	check_robust(PTHREAD_MUTEX_NORMAL);
	check_robust(PTHREAD_MUTEX_ERRORCHECK);
	check_robust(PTHREAD_MUTEX_RECURSIVE);
	make_mutex(PTHREAD_MUTEX_NORMAL, false);
	CHECK(pthread_mutex_consistent(&mutex) == EINVAL);
}

/* --- condition variables --------------------------------------------------------------------- */

static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int tokens;
static _Atomic int waiting, woken;

static void *wait_for_token(void *arg)
{
	CHECK_OK(pthread_mutex_lock(&mutex));
	waiting++;
	while (tokens == 0)
		CHECK_OK(pthread_cond_wait(&cond, &mutex));
	/* The mutex is held by who comes back. */
	CHECK(pthread_mutex_trylock(&mutex) == EBUSY);
	tokens--;
	woken++;
	CHECK_OK(pthread_mutex_unlock(&mutex));
	return arg;
}

static void give(int n, bool all)
{
	CHECK_OK(pthread_mutex_lock(&mutex));
	tokens += n;
	CHECK_OK(all ? pthread_cond_broadcast(&cond) : pthread_cond_signal(&cond));
	CHECK_OK(pthread_mutex_unlock(&mutex));
}

static void check_timeout(clockid_t clock)
{
	pthread_condattr_t attr;
	pthread_cond_t c;
	clockid_t told;

	CHECK_OK(pthread_condattr_init(&attr));
	CHECK_OK(pthread_condattr_getclock(&attr, &told));
	CHECK(told == CLOCK_REALTIME);
	CHECK_OK(pthread_condattr_setclock(&attr, clock));
	CHECK_OK(pthread_cond_init(&c, &attr));
	CHECK_OK(pthread_condattr_destroy(&attr));
	CHECK_OK(pthread_mutex_lock(&mutex));
	struct timespec ts = in_ms(clock, 30);
	long long begin = now_ms();
	int r;
	while ((r = pthread_cond_timedwait(&c, &mutex, &ts)) == 0)
		;
	CHECK(r == ETIMEDOUT && now_ms() - begin >= 29);
	CHECK(pthread_mutex_trylock(&mutex) == EBUSY);
	ts.tv_sec = 0; /* long ago */
	CHECK(pthread_cond_timedwait(&c, &mutex, &ts) == ETIMEDOUT);
	ts.tv_nsec = -1;
	CHECK(pthread_cond_timedwait(&c, &mutex, &ts) == EINVAL);
	CHECK_OK(pthread_mutex_unlock(&mutex));
	CHECK_OK(pthread_cond_destroy(&c));
}

static void test_cond(void)
{
	enum { N = 8 };
	pthread_t threads[N];

	make_mutex(PTHREAD_MUTEX_NORMAL, false);
	/* With nobody waiting they have no effect. */
	CHECK_OK(pthread_cond_signal(&cond));
	CHECK_OK(pthread_cond_broadcast(&cond));
	for (int i = 0; i < N; i++)
		threads[i] = start(wait_for_token, NULL);
	wait_for(&waiting, N);
	/* POSIX allows that, and libc does it: the mutex is in use by those who wait. */
	CHECK(pthread_mutex_destroy(&mutex) == EBUSY);
	give(1, false);
	wait_for(&woken, 1);
	/* Without the mutex, too. */
	CHECK_OK(pthread_mutex_lock(&mutex));
	tokens++;
	CHECK_OK(pthread_mutex_unlock(&mutex));
	CHECK_OK(pthread_cond_signal(&cond));
	wait_for(&woken, 2);
	sleep_ms(20);
	CHECK(woken == 2);
	give(N - 2, true);
	for (int i = 0; i < N; i++)
		join(threads[i]);
	CHECK(woken == N && tokens == 0);
	check_timeout(CLOCK_REALTIME);
	check_timeout(CLOCK_MONOTONIC);
	pthread_condattr_t attr;
	CHECK_OK(pthread_condattr_init(&attr));
	CHECK(pthread_condattr_setclock(&attr, CLOCK_PROCESS_CPUTIME_ID) == EINVAL);
	CHECK(pthread_condattr_setpshared(&attr, 77) == EINVAL);
	/* An error-checking mutex that is not the caller's. */
	CHECK_OK(pthread_mutex_destroy(&mutex));
	make_mutex(PTHREAD_MUTEX_ERRORCHECK, false);
	CHECK(pthread_cond_wait(&cond, &mutex) == EPERM);
	/* Nobody waits: it can be destroyed, and made anew. */
	CHECK_OK(pthread_cond_destroy(&cond));
	CHECK_OK(pthread_cond_init(&cond, NULL));
}

/* Destroyed as soon as all have been woken, though they have not come back yet. */
static void *wait_once(void *arg)
{
	pthread_cond_t *c = arg;

	CHECK_OK(pthread_mutex_lock(&mutex));
	waiting++;
	while (tokens == 0)
		CHECK_OK(pthread_cond_wait(c, &mutex));
	CHECK_OK(pthread_mutex_unlock(&mutex));
	return NULL;
}

static void test_cond_destroy(void)
{
	pthread_t threads[5];

	make_mutex(PTHREAD_MUTEX_NORMAL, false);
	for (int round = 0; round < 50; round++) {
		pthread_cond_t *c = malloc(sizeof(*c));
		CHECK_OK(pthread_cond_init(c, NULL));
		waiting = tokens = 0;
		for (int i = 0; i < 5; i++)
			threads[i] = start(wait_once, c);
		wait_for(&waiting, 5);
		CHECK_OK(pthread_mutex_lock(&mutex));
		tokens = 1;
		CHECK_OK(pthread_cond_broadcast(c));
		CHECK_OK(pthread_mutex_unlock(&mutex));
		CHECK_OK(pthread_cond_destroy(c));
		*c = (pthread_cond_t){.__align = -1};
		for (int i = 0; i < 5; i++)
			join(threads[i]);
		free(c);
	}
}

/* --- read-write locks -------------------------------------------------------------------------- */

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;

static void *read_briefly(void *arg)
{
	struct timespec ts = in_ms(CLOCK_REALTIME, 20);

	(void)arg;
	int r = pthread_rwlock_tryrdlock(&rwlock);
	if (r != 0)
		CHECK(r == EBUSY &&
		      pthread_rwlock_timedrdlock(&rwlock, &ts) == ETIMEDOUT);
	else
		CHECK_OK(pthread_rwlock_unlock(&rwlock));
	return (void *)(intptr_t)r;
}

static void *write_briefly(void *arg)
{
	struct timespec ts = in_ms(CLOCK_REALTIME, 20);

	(void)arg;
	int r = pthread_rwlock_trywrlock(&rwlock);
	if (r != 0)
		CHECK(r == EBUSY &&
		      pthread_rwlock_timedwrlock(&rwlock, &ts) == ETIMEDOUT);
	else
		CHECK_OK(pthread_rwlock_unlock(&rwlock));
	return (void *)(intptr_t)r;
}

static int shared_data[2];

static void *write_on(void *arg)
{
	for (int i = 0; i < 500; i++) {
		CHECK_OK(pthread_rwlock_wrlock(&rwlock));
		shared_data[0]++;
		if (i % 50 == 0)
			sched_yield();
		shared_data[1]++;
		CHECK_OK(pthread_rwlock_unlock(&rwlock));
	}
	return arg;
}

static void *read_on(void *arg)
{
	for (int i = 0; i < 500; i++) {
		CHECK_OK(pthread_rwlock_rdlock(&rwlock));
		int a = shared_data[0];
		if (i % 50 == 0)
			sched_yield();
		CHECK(a == shared_data[1]);
		CHECK_OK(pthread_rwlock_unlock(&rwlock));
	}
	return arg;
}

static void *wait_to_write(void *arg)
{
	CHECK_OK(pthread_rwlock_wrlock(&rwlock));
	step = 1;
	CHECK_OK(pthread_rwlock_unlock(&rwlock));
	return arg;
}

static void test_rwlock(void)
{
	pthread_t threads[8];
	struct timespec past = {.tv_sec = 1};

	become_threaded();
	/* Many readers, each of whom may have it several times. */
	CHECK_OK(pthread_rwlock_rdlock(&rwlock));
	CHECK_OK(pthread_rwlock_rdlock(&rwlock));
	CHECK(in_thread(read_briefly, NULL) == NULL);
	CHECK(in_thread(write_briefly, NULL) != NULL);
	CHECK_OK(pthread_rwlock_unlock(&rwlock));
	CHECK(in_thread(write_briefly, NULL) != NULL);
	CHECK_OK(pthread_rwlock_unlock(&rwlock));
	/* One writer alone. */
	CHECK_OK(pthread_rwlock_wrlock(&rwlock));
	CHECK(in_thread(read_briefly, NULL) != NULL);
	CHECK(in_thread(write_briefly, NULL) != NULL);
	CHECK(pthread_rwlock_wrlock(&rwlock) == EDEADLK);
	CHECK(pthread_rwlock_rdlock(&rwlock) == EDEADLK);
	CHECK_OK(pthread_rwlock_unlock(&rwlock));
	/* What can be had at once is had, whatever the deadline. */
	CHECK_OK(pthread_rwlock_timedrdlock(&rwlock, &past));
	/* A writer that waits gets it when the readers have gone. */
	pthread_t writer = start(wait_to_write, NULL);
	sleep_ms(20);
	CHECK(step == 0);
	CHECK_OK(pthread_rwlock_unlock(&rwlock));
	join(writer);
	CHECK(step == 1);
	for (int i = 0; i < 8; i++)
		threads[i] = start(i % 2 == 0 ? write_on : read_on, NULL);
	for (int i = 0; i < 8; i++)
		join(threads[i]);
	CHECK(shared_data[0] == 2000);
	CHECK_OK(pthread_rwlock_destroy(&rwlock));
	CHECK_OK(pthread_rwlock_init(&rwlock, NULL));
	CHECK_OK(pthread_rwlock_trywrlock(&rwlock));
	CHECK_OK(pthread_rwlock_unlock(&rwlock));
}

/* --- barriers ------------------------------------------------------------------------------------ */

static pthread_barrier_t barrier;
static _Atomic int arrivals, serials;

static void *meet(void *arg)
{
	for (int round = 1; round <= 30; round++) {
		arrivals++;
		int r = pthread_barrier_wait(&barrier);
		CHECK(r == 0 || r == PTHREAD_BARRIER_SERIAL_THREAD);
		CHECK(arrivals >= 5 * round); /* nobody leaves before all are there */
		serials += r == PTHREAD_BARRIER_SERIAL_THREAD;
		r = pthread_barrier_wait(&barrier);
		serials += r == PTHREAD_BARRIER_SERIAL_THREAD;
		CHECK(serials == 2 * round || serials == 2 * round - 1);
		pthread_barrier_wait(&barrier);
	}
	return arg;
}

/* A signal's handler runs, and the wait goes on. */
static void *meet_once(void *arg)
{
	int r = pthread_barrier_wait(&barrier);

	CHECK(r == 0 || r == PTHREAD_BARRIER_SERIAL_THREAD);
	count++;
	return arg;
}

static void test_barrier(void)
{
	struct sigaction act = {.sa_handler = note_signal};
	pthread_barrierattr_t attr;
	pthread_t threads[5];
	int told;

	CHECK(pthread_barrier_init(&barrier, NULL, 0) == EINVAL);
	CHECK_OK(pthread_barrierattr_init(&attr));
	CHECK_OK(pthread_barrierattr_getpshared(&attr, &told));
	CHECK(told == PTHREAD_PROCESS_PRIVATE);
	CHECK_OK(pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED));
	CHECK_OK(pthread_barrierattr_getpshared(&attr, &told));
	CHECK(told == PTHREAD_PROCESS_SHARED);
	CHECK(pthread_barrierattr_setpshared(&attr, 77) == EINVAL);
	CHECK_OK(pthread_barrierattr_destroy(&attr));
	CHECK_OK(pthread_barrier_init(&barrier, NULL, 5));
	for (int i = 0; i < 5; i++)
		threads[i] = start(meet, NULL);
	for (int i = 0; i < 5; i++)
		join(threads[i]);
	CHECK_OK(pthread_barrier_destroy(&barrier));
	CHECK_OK(pthread_barrier_init(&barrier, NULL, 1));
	for (int i = 0; i < 3; i++) {
		int r = pthread_barrier_wait(&barrier);

		CHECK(r == PTHREAD_BARRIER_SERIAL_THREAD);
	}
	CHECK_OK(pthread_barrier_destroy(&barrier));

	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	CHECK_OK(pthread_barrier_init(&barrier, NULL, 2));
	pthread_t thread = start(meet_once, NULL);
	sleep_ms(20);
	CHECK_OK(pthread_kill(thread, SIGUSR1));
	wait_for(&step, 1);
	sleep_ms(20);
	CHECK(count == 0);
	meet_once(NULL);
	join(thread);
	CHECK(count == 2);
	CHECK_OK(pthread_barrier_destroy(&barrier));
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	    {"types", test_types},
	    {"mutex-signal", test_mutex_signal},
	    {"robust", test_robust},
	    {"cond", test_cond},
	    {"cond-destroy", test_cond_destroy},
	    {"rwlock", test_rwlock},
	    {"barrier", test_barrier},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
