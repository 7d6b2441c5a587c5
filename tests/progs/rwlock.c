/* SPDX-License-Identifier: MIT */
/*
 * rwlock.c: read-write locks: their errors, times, kinds, and who gets in when.
 */
#include <stdint.h>

#include "check.h"

/* pthread_rwlock_init with a kind. */
static void init_kind(pthread_rwlock_t *l, int kind)
{
	pthread_rwlockattr_t attr;

	CHECK_OK(pthread_rwlockattr_init(&attr));
	CHECK_OK(pthread_rwlockattr_setkind_np(&attr, kind));
	CHECK_OK(pthread_rwlock_init(l, &attr));
	CHECK_OK(pthread_rwlockattr_destroy(&attr));
}

static const int kinds[] = {PTHREAD_RWLOCK_PREFER_READER_NP,
			    PTHREAD_RWLOCK_PREFER_WRITER_NP,
			    PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP};

/* --- errors and times ------------------------------------------------------------------ */

static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;

static void *try_both(void *arg)
{
	int *expected = arg;
	int r = pthread_rwlock_tryrdlock(&lock);

	CHECK(r == expected[0]);
	if (r == 0)
		CHECK_OK(pthread_rwlock_unlock(&lock));
	r = pthread_rwlock_trywrlock(&lock);
	CHECK(r == expected[1]);
	if (r == 0)
		CHECK_OK(pthread_rwlock_unlock(&lock));
	return NULL;
}

static void errors(void)
{
	become_threaded();
	in_thread(try_both, (int[]){0, 0});
	CHECK_OK(pthread_rwlock_wrlock(&lock));
	CHECK(pthread_rwlock_wrlock(&lock) == EDEADLK);
	CHECK(pthread_rwlock_rdlock(&lock) == EDEADLK);
	CHECK(pthread_rwlock_trywrlock(&lock) == EBUSY);
	CHECK(pthread_rwlock_tryrdlock(&lock) == EBUSY);
	in_thread(try_both, (int[]){EBUSY, EBUSY});
	CHECK_OK(pthread_rwlock_unlock(&lock));

	CHECK_OK(pthread_rwlock_rdlock(&lock));
	CHECK_OK(pthread_rwlock_rdlock(&lock));
	CHECK_OK(pthread_rwlock_tryrdlock(&lock));
	CHECK(pthread_rwlock_trywrlock(&lock) == EBUSY);
	in_thread(try_both, (int[]){0, EBUSY});
	for (int i = 0; i < 3; i++)
		CHECK_OK(pthread_rwlock_unlock(&lock));
	in_thread(try_both, (int[]){0, 0});
	CHECK_OK(pthread_rwlock_destroy(&lock));
}

/* Locks taken and left while there was no other thread. */
static void taken_before(void)
{
	static pthread_rwlock_t idle = PTHREAD_RWLOCK_INITIALIZER,
				written = PTHREAD_RWLOCK_INITIALIZER;

	CHECK_OK(pthread_rwlock_wrlock(&idle));
	CHECK_OK(pthread_rwlock_unlock(&idle));
	CHECK_OK(pthread_rwlock_wrlock(&written));
	CHECK_OK(pthread_rwlock_rdlock(&lock));
	CHECK_OK(pthread_rwlock_rdlock(&lock));
	become_threaded();
	CHECK(pthread_rwlock_wrlock(&written) == EDEADLK);
	CHECK(pthread_rwlock_tryrdlock(&written) == EBUSY);
	CHECK_OK(pthread_rwlock_unlock(&written));
	CHECK_OK(pthread_rwlock_rdlock(&written));
	CHECK_OK(pthread_rwlock_unlock(&written));
	in_thread(try_both, (int[]){0, EBUSY});
	CHECK_OK(pthread_rwlock_unlock(&lock));
	in_thread(try_both, (int[]){0, EBUSY});
	CHECK_OK(pthread_rwlock_unlock(&lock));
	in_thread(try_both, (int[]){0, 0});
	CHECK_OK(pthread_rwlock_rdlock(&idle));
	CHECK_OK(pthread_rwlock_unlock(&idle));
	CHECK_OK(pthread_rwlock_trywrlock(&idle));
	CHECK_OK(pthread_rwlock_unlock(&idle));
}

static int read_until(clockid_t clock, const struct timespec *ts)
{
	return clock < 0 ? pthread_rwlock_timedrdlock(&lock, ts)
			 : pthread_rwlock_clockrdlock(&lock, clock, ts);
}

static int write_until(clockid_t clock, const struct timespec *ts)
{
	return clock < 0 ? pthread_rwlock_timedwrlock(&lock, ts)
			 : pthread_rwlock_clockwrlock(&lock, clock, ts);
}

/* Also where nobody has to wait. */
static void check_invalid_times(void)
{
	struct timespec bad = {.tv_sec = 1, .tv_nsec = -1},
			too_much = {.tv_sec = 1, .tv_nsec = 1000000000};

	for (int clock = -1; clock <= CLOCK_MONOTONIC; clock++) {
		CHECK(read_until(clock, &bad) == EINVAL);
		CHECK(write_until(clock, &bad) == EINVAL);
		CHECK(read_until(clock, &too_much) == EINVAL);
		CHECK(write_until(clock, &too_much) == EINVAL);
	}
	in_thread(try_both, (int[]){0, 0});
}

static void *time_out(void *arg)
{
	bool held_to_read = *(bool *)arg;

	for (int clock = -1; clock <= CLOCK_MONOTONIC; clock++) {
		struct timespec ts = in_ms(clock < 0 ? CLOCK_REALTIME : clock, 50);
		long long begun = now_ms(), took;

		CHECK(write_until(clock, &ts) == ETIMEDOUT);
		took = now_ms() - begun;
		CHECK(took >= 49 && took < 5000);
		CHECK(write_until(clock, &ts) == ETIMEDOUT); /* it is over */
		ts = in_ms(clock < 0 ? CLOCK_REALTIME : clock, 50);
		if (held_to_read) {
			CHECK_OK(read_until(clock, &ts));
			CHECK_OK(pthread_rwlock_unlock(&lock));
		} else {
			CHECK(read_until(clock, &ts) == ETIMEDOUT);
		}
		ts.tv_nsec = 1000000000;
		CHECK(write_until(clock, &ts) == EINVAL);
		ts.tv_nsec = -1;
		CHECK(write_until(clock, &ts) == EINVAL);
		CHECK(read_until(clock, &ts) == EINVAL);
		ts = (struct timespec){-1, 0};
		CHECK(write_until(clock, &ts) == ETIMEDOUT);
	}
	CHECK(write_until(CLOCK_THREAD_CPUTIME_ID, &(struct timespec){0}) == EINVAL);
	return NULL;
}

static void times(void)
{
	bool held_to_read = false;
	const struct timespec past = {1, 0};

	become_threaded();
	check_invalid_times();
	CHECK_OK(pthread_rwlock_wrlock(&lock));
	in_thread(time_out, &held_to_read);
	CHECK_OK(pthread_rwlock_unlock(&lock));
	CHECK_OK(pthread_rwlock_rdlock(&lock));
	held_to_read = true;
	in_thread(time_out, &held_to_read);
	CHECK_OK(pthread_rwlock_unlock(&lock));
	/* What can be had at once is had, whatever the time. */
	for (int clock = -1; clock <= CLOCK_MONOTONIC; clock++) {
		CHECK_OK(write_until(clock, &past));
		CHECK_OK(pthread_rwlock_unlock(&lock));
		CHECK_OK(read_until(clock, &past));
		CHECK_OK(pthread_rwlock_unlock(&lock));
	}
}

static void *wait_to_write(void *arg)
{
	struct timespec ts = in_ms(CLOCK_MONOTONIC, *(int *)arg);

	return (void *)(intptr_t)pthread_rwlock_clockwrlock(&lock, CLOCK_MONOTONIC, &ts);
}

static void *wait_to_read(void *arg)
{
	(void)arg;
	CHECK_OK(pthread_rwlock_rdlock(&lock));
	CHECK_OK(pthread_rwlock_unlock(&lock));
	return NULL;
}

/* A writer that gives up lets in the readers that waited because of it. */
static void gives_up(void)
{
	int ms = 1000;

	init_kind(&lock, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	CHECK_OK(pthread_rwlock_rdlock(&lock));
	pthread_t writer = start_waiting(wait_to_write, &ms);
	CHECK(pthread_rwlock_tryrdlock(&lock) == EBUSY);
	pthread_t readers[3];
	for (int i = 0; i < 3; i++)
		readers[i] = start(wait_to_read, NULL);
	CHECK((intptr_t)join(writer) == ETIMEDOUT);
	for (int i = 0; i < 3; i++)
		join(readers[i]);
	CHECK_OK(pthread_rwlock_unlock(&lock));
	CHECK_OK(pthread_rwlock_trywrlock(&lock));
}

/* --- who gets in ------------------------------------------------------------------------- */

static _Atomic bool wrote;

static void *write_once(void *arg)
{
	CHECK_OK(pthread_rwlock_wrlock(&lock));
	wrote = true;
	CHECK_OK(pthread_rwlock_unlock(&lock));
	return arg;
}

/* A reader may lock again, and others may enter, while a writer waits. */
static void recursion(void)
{
	for (int k = 0; k < 2; k++) {
		init_kind(&lock, kinds[k]);
		wrote = false;
		CHECK_OK(pthread_rwlock_rdlock(&lock));
		pthread_t writer = start_waiting(write_once, NULL);
		for (int i = 0; i < 100; i++) {
			CHECK_OK(pthread_rwlock_rdlock(&lock));
			in_thread(wait_to_read, NULL);
			CHECK(!wrote);
			CHECK_OK(pthread_rwlock_unlock(&lock));
		}
		CHECK(!wrote);
		CHECK_OK(pthread_rwlock_unlock(&lock));
		join(writer);
		CHECK(wrote);
	}
}

/* The kind that prefers writers keeps new readers out. */
static void writers_first(void)
{
	init_kind(&lock, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	CHECK_OK(pthread_rwlock_rdlock(&lock));
	pthread_t writer = start_waiting(write_once, NULL);
	pthread_t reader = start(wait_to_read, NULL);
	struct timespec ts = in_ms(CLOCK_REALTIME, 30);
	CHECK(pthread_rwlock_timedrdlock(&lock, &ts) == ETIMEDOUT);
	CHECK(!wrote);
	CHECK_OK(pthread_rwlock_unlock(&lock));
	join(writer);
	join(reader);
}

enum { N_THREADS = 12, N_ROUNDS = 4000 };

static struct {
	long a, b;
	_Atomic int n_readers, n_writers;
	_Atomic long n_written;
} shared;

static void look(void)
{
	shared.n_readers++;
	CHECK(shared.n_writers == 0);
	CHECK(shared.a == shared.b);
	shared.n_readers--;
}

static void change(void)
{
	CHECK(++shared.n_writers == 1 && shared.n_readers == 0);
	shared.a++;
	if (shared.a % 16 == 0)
		sched_yield();
	shared.b++;
	shared.n_written++;
	shared.n_writers--;
}

static void *work(void *arg)
{
	unsigned random = (unsigned)(uintptr_t)arg * 2654435761U + 1;

	for (int i = 0; i < N_ROUNDS; i++) {
		random = random * 1103515245 + 12345;
		struct timespec ts = in_ms(CLOCK_MONOTONIC, 0);
		int r = 1, how = (int)(random >> 16) % 10;

		ts.tv_nsec += ts.tv_nsec < 999900000 ? random % 100000 : 0;
		if (how < 4)
			r = pthread_rwlock_rdlock(&lock);
		else if (how == 4)
			r = pthread_rwlock_tryrdlock(&lock);
		else if (how == 5)
			r = pthread_rwlock_clockrdlock(&lock, CLOCK_MONOTONIC, &ts);
		if (how < 6) {
			CHECK(r == 0 || (how == 4 && r == EBUSY) ||
			      (how == 5 && r == ETIMEDOUT));
			if (r == 0)
				look();
		} else {
			if (how < 8)
				r = pthread_rwlock_wrlock(&lock);
			else if (how == 8)
				r = pthread_rwlock_trywrlock(&lock);
			else
				r = pthread_rwlock_clockwrlock(&lock, CLOCK_MONOTONIC,
							       &ts);
			CHECK(r == 0 || (how == 8 && r == EBUSY) ||
			      (how == 9 && r == ETIMEDOUT));
			if (r == 0)
				change();
		}
		if (r == 0)
			CHECK_OK(pthread_rwlock_unlock(&lock));
	}
	return NULL;
}

/* Readers never meet a writer, and every lock is got, in all ways to ask for it. */
static void many(void)
{
	for (size_t k = 0; k < 3; k++) {
		pthread_t threads[N_THREADS];

		init_kind(&lock, kinds[k]);
		for (intptr_t i = 0; i < N_THREADS; i++)
			threads[i] = start(work, (void *)i);
		for (int i = 0; i < N_THREADS; i++)
			join(threads[i]);
		CHECK(shared.a == shared.b && shared.a == shared.n_written);
		CHECK_OK(pthread_rwlock_trywrlock(&lock));
		CHECK_OK(pthread_rwlock_unlock(&lock));
		CHECK_OK(pthread_rwlock_destroy(&lock));
	}
}

static _Atomic bool over;

static void *read_always(void *arg)
{
	while (!over) {
		CHECK_OK(pthread_rwlock_rdlock(&lock));
		sleep_ms(2);
		CHECK_OK(pthread_rwlock_unlock(&lock));
	}
	return arg;
}

/* Natively this holds for the kind that prefers writers alone: so the case is for green
 * threads, or one of that kind. */
static void starving_writer_of(int kind)
{
	pthread_t readers[8];

	over = false;
	init_kind(&lock, kind);
	for (int i = 0; i < 8; i++)
		readers[i] = start(read_always, NULL);
	for (int i = 0; i < 5; i++) {
		sleep_ms(15 + i);
		long long begun = now_ms();

		CHECK_OK(pthread_rwlock_wrlock(&lock));
		CHECK(now_ms() - begun < 2000);
		CHECK_OK(pthread_rwlock_unlock(&lock));
	}
	over = true;
	for (int i = 0; i < 8; i++)
		join(readers[i]);
}

static void starving_writer(void)
{
	starving_writer_of(PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
}

static void starving_writer_of_any_kind(void)
{
	for (int k = 0; k < 3; k++)
		starving_writer_of(kinds[k]);
}

static void *write_always(void *arg)
{
	while (!over) {
		CHECK_OK(pthread_rwlock_wrlock(&lock));
		for (volatile int i = 0; i < 100000; i++)
			;
		CHECK_OK(pthread_rwlock_unlock(&lock));
	}
	return arg;
}

/* Readers get in between writers that never pause; so does each writer. */
static void starving_reader(void)
{
	pthread_t writers[4];

	init_kind(&lock, PTHREAD_RWLOCK_PREFER_READER_NP);
	for (int i = 0; i < 4; i++)
		writers[i] = start(write_always, NULL);
	sleep_ms(20);
	for (int i = 0; i < 20; i++) {
		long long begun = now_ms();

		CHECK_OK(pthread_rwlock_rdlock(&lock));
		CHECK_OK(pthread_rwlock_unlock(&lock));
		CHECK(now_ms() - begun < 2000);
	}
	for (int i = 0; i < 20; i++) {
		long long begun = now_ms();

		CHECK_OK(pthread_rwlock_wrlock(&lock));
		CHECK_OK(pthread_rwlock_unlock(&lock));
		CHECK(now_ms() - begun < 5000);
	}
	over = true;
	for (int i = 0; i < 4; i++)
		join(writers[i]);
}

/* --- its memory ----------------------------------------------------------------------------- */

struct counted {
	pthread_rwlock_t lock;
	int references;
};

static void *drop(void *arg)
{
	struct counted *c = arg;

	CHECK_OK(pthread_rwlock_wrlock(&c->lock));
	int left = --c->references;
	CHECK_OK(pthread_rwlock_unlock(&c->lock));
	if (left == 0) {
		CHECK_OK(pthread_rwlock_destroy(&c->lock));
		memset(c, 0xff, sizeof(*c));
		free(c);
	}
	return NULL;
}

/* Who was the last to have it may destroy it, while others are on their way out. */
static void destroyed_at_once(void)
{
	for (int i = 0; i < 2000; i++) {
		struct counted *c = malloc(sizeof(*c));
		pthread_t threads[3];

		init_kind(&c->lock, kinds[i % 3]);
		c->references = 3;
		for (int j = 0; j < 3; j++)
			threads[j] = start(drop, c);
		for (int j = 0; j < 3; j++)
			join(threads[j]);
	}
}

/* --- who waits since before there were threads --------------------------------------------- */

static _Atomic int n_through;

static void *write_and_count(void *l)
{
	CHECK_OK(pthread_rwlock_wrlock(l));
	CHECK(pthread_rwlock_rdlock(l) == EDEADLK);
	CHECK_OK(pthread_rwlock_unlock(l));
	n_through++;
	return l;
}

static void *read_and_count(void *l)
{
	CHECK_OK(pthread_rwlock_rdlock(l));
	CHECK_OK(pthread_rwlock_unlock(l));
	n_through++;
	return l;
}

static void elders(void)
{
	pthread_rwlock_t written[3], read[3];
	pthread_t threads[12];
	int n = 0;

	for (int i = 0; i < 3; i++) {
		init_kind(&written[i], kinds[i]);
		init_kind(&read[i], kinds[i]);
		CHECK_OK(pthread_rwlock_wrlock(&written[i]));
		CHECK_OK(pthread_rwlock_rdlock(&read[i]));
		start_elder(write_and_count, &written[i]);
		start_elder(read_and_count, &written[i]);
		start_elder(write_and_count, &read[i]);
	}
	for (int i = 0; i < 3; i++) {
		threads[n++] = start(write_and_count, &written[i]);
		threads[n++] = start(read_and_count, &written[i]);
		threads[n++] = start(write_and_count, &read[i]);
		threads[n++] = start(read_and_count, &read[i]);
	}
	for (int i = 0; i < 3; i++) {
		CHECK_OK(pthread_rwlock_unlock(&written[i]));
		CHECK_OK(pthread_rwlock_unlock(&read[i]));
	}
	until_counted(&n_through, 9 + n);
	while (n > 0)
		join(threads[--n]);
}

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
	    {"errors", errors},
	    {"taken-before", taken_before},
	    {"times", times},
	    {"gives-up", gives_up},
	    {"recursion", recursion},
	    {"writers-first", writers_first},
	    {"many", many},
	    {"starving-writer", starving_writer},
	    {"starving-writer-of-any-kind", starving_writer_of_any_kind},
	    {"starving-reader", starving_reader},
	    {"destroyed-at-once", destroyed_at_once},
	    {"elders", elders},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
