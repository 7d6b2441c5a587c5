/* SPDX-License-Identifier: MIT */
/*
 * lock.c: the runtime's own lock: it excludes, shows what the last holder wrote, and loses
 * no wake-up.
 */
#include <sched.h>
#include <time.h>

#include "lock.h"
#include "tap.h"

enum { N_THREADS = 8 };

static void held_by_one(void)
{
	struct lock l = {0};

	EXPECT(lock_try(&l));
	EXPECT(!lock_try(&l));
	lock_release(&l);
	lock_acquire(&l);
	EXPECT(!lock_try(&l));
	lock_release(&l);
	EXPECT(load_relaxed(&l.word) == 0);
}

static void run_threads(void *(*routine)(void *))
{
	pthread_t threads[N_THREADS];

	for (uintptr_t i = 0; i < N_THREADS; i++)
		threads[i] = tap_start(routine, (void *)i);
	for (int i = 0; i < N_THREADS; i++)
		tap_join(threads[i]);
}

/* --- short holds: mostly spinning ---------------------------------------------------- */

enum { N_ROUNDS = 50000 };
static struct lock short_lock;
static long count; /* plain: the lock is its only protection */

static void *add(void *arg)
{
	for (int i = 0; i < N_ROUNDS; i++) {
		lock_acquire(&short_lock);
		count++;
		lock_release(&short_lock);
	}
	return arg;
}

static void no_count_is_lost(void)
{
	run_threads(add);
	EXPECT(count == (long)N_THREADS * N_ROUNDS);
	EXPECT(load_relaxed(&short_lock.word) == 0);
}

/* --- long holds: waiting in the kernel ------------------------------------------------ */

enum { N_LONG_ROUNDS = 300 };
static struct lock long_lock;
static int owner = -1;
static long n_slept; /* releases that found a sleeper */

static void *hold_long(void *arg)
{
	int me = (int)(intptr_t)arg;

	for (int i = 0; i < N_LONG_ROUNDS; i++) {
		lock_acquire(&long_lock);
		EXPECT(owner == -1);
		owner = me;
		/* The holder loses its CPU, as when the kernel preempts it. */
		nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
		EXPECT(owner == me);
		owner = -1;
		n_slept += load_relaxed(&long_lock.word) == 2;
		lock_release(&long_lock);
		if (i % 16 == 0)
			sched_yield();
	}
	return arg;
}

static void sleepers_are_woken(void)
{
	run_threads(hold_long);
	EXPECT(load_relaxed(&long_lock.word) == 0);
	EXPECT(n_slept > 0);
}

/* --- one lock handed back and forth: each release must reach a sleeper ---------------- */

static struct lock turn_lock;
static uint32_t turn;
static void *take_turns(void *arg)
{
	uint32_t me = (uint32_t)(uintptr_t)arg;

	for (uint32_t done = 0; done < 2000 / N_THREADS;) {
		lock_acquire(&turn_lock);
		if (turn % N_THREADS == me) {
			turn++;
			done++;
		}
		lock_release(&turn_lock);
		sched_yield();
	}
	return arg;
}

static void everybody_has_a_turn(void)
{
	run_threads(take_turns);
	EXPECT(turn == 2000 / N_THREADS * N_THREADS);
}

int main(void)
{
	tap_test("one thread at a time holds it", held_by_one);
	tap_test("no count is lost under contention", no_count_is_lost);
	tap_test("who waits for a holder that has lost its CPU is woken",
		 sleepers_are_woken);
	tap_test("everybody has a turn", everybody_has_a_turn);
	return tap_done();
}
