/* SPDX-License-Identifier: MIT */
/*
 * timer.c: the heap of deadlines against a reference that looks at every timer, and tasks
 * that disarm their timers while others fire them.
 */
#include <sched.h>
#include <string.h>

#include "tap.h"
#include "timer.h"

/* --- alone: against the reference ------------------------------------------------------ */

enum { N_TIMERS = 1500 }; /* more than the heap's first 256 and next 512 and 1024 */

static struct entry {
	struct timer timer;
	ns_t when; /* NO_DEADLINE: not armed */
	int n_fired;
} entries[N_TIMERS];

static ns_t last_fired, latest_allowed;
static int n_fired;

static void note_fired(struct timer *timer)
{
	struct entry *e = container_of(timer, struct entry, timer);

	EXPECT(e->when <= latest_allowed);
	EXPECT(e->when >= last_fired); /* the earliest first */
	last_fired = e->when;
	e->when = NO_DEADLINE;
	e->n_fired++;
	n_fired++;
	/* A task that sees the time-out may not find the timer disarmed before. */
	EXPECT(load_relaxed(&timer->heap) != NULL);
}

static ns_t reference_next(void)
{
	ns_t next = NO_DEADLINE;

	for (int i = 0; i < N_TIMERS; i++)
		if (entries[i].when < next)
			next = entries[i].when;
	return next;
}

static void fire(struct timer_heap *h, ns_t now)
{
	int before = n_fired, n_due = 0;

	for (int i = 0; i < N_TIMERS; i++)
		n_due += entries[i].when <= now;
	last_fired = 0;
	latest_allowed = now;
	EXPECT(timer_fire_due(h, now, note_fired) == n_due);
	EXPECT(n_fired - before == n_due);
}

static void agrees_with_reference(void)
{
	static struct timer_heap h;
	uint32_t seed = 1234567;
	ns_t now = 1000;

	for (int i = 0; i < N_TIMERS; i++)
		entries[i].when = NO_DEADLINE;
	timer_heap_init(&h);
	EXPECT(load_relaxed(&h.next) == NO_DEADLINE);
	for (int round = 0; round < 20000; round++) {
		struct entry *e = &entries[tap_random(&seed) % N_TIMERS];
		ns_t next = reference_next();
		bool first;

		if (e->when == NO_DEADLINE) {
			EXPECT(!timer_disarm(&e->timer));
			/* Few different times: many are equal. */
			e->when = now + tap_random(&seed) % 500;
			EXPECT(timer_arm(&h, &e->timer, e->when, &first) == 0);
			EXPECT(first == (e->when < next));
		} else if (tap_random(&seed) % 3 == 0) {
			EXPECT(timer_disarm(&e->timer));
			EXPECT(!timer_disarm(&e->timer));
			e->when = NO_DEADLINE;
		}
		if (tap_random(&seed) % 256 == 0) {
			now += tap_random(&seed) % 200;
			fire(&h, now);
		}
		EXPECT(load_relaxed(&h.next) == reference_next());
	}
	fire(&h, now + 500);
	EXPECT(h.n == 0 && load_relaxed(&h.next) == NO_DEADLINE);
}

static void grows(void)
{
	static struct timer_heap h;
	bool first;

	timer_heap_init(&h);
	for (int i = 0; i < N_TIMERS; i++) {
		entries[i].when = 1 + (i * 7919) % N_TIMERS;
		EXPECT(timer_arm(&h, &entries[i].timer, entries[i].when, &first) == 0);
	}
	EXPECT(h.n == N_TIMERS);
	fire(&h, N_TIMERS / 2);
	EXPECT(h.n == N_TIMERS - N_TIMERS / 2);
	fire(&h, N_TIMERS);
	EXPECT(h.n == 0);
}

static void not_early(void)
{
	static struct timer_heap h;
	bool first;

	timer_heap_init(&h);
	entries[0].when = 100;
	EXPECT(timer_arm(&h, &entries[0].timer, 100, &first) == 0 && first);
	fire(&h, 99);
	EXPECT(entries[0].when == 100);
	fire(&h, 100);
	EXPECT(entries[0].when == NO_DEADLINE);
}

/* --- disarming against firing ------------------------------------------------------------ */

enum { N_HEAPS = 3, N_SLEEPERS = 4, N_ROUNDS = 20000 };

static struct timer_heap heaps[N_HEAPS];
static _Atomic bool done;

/* A task: it arms its timer, in the heap of whichever processor it runs on, and disarms it. */
struct sleeper {
	struct timer timer;
	_Atomic uint32_t n_fired;
	uint32_t n_disarmed;
	uint64_t result; /* plain: written by who fires, read by the task after */
};
static struct sleeper sleepers[N_SLEEPERS];

static void fire_sleeper(struct timer *timer)
{
	struct sleeper *s = container_of(timer, struct sleeper, timer);

	s->result = load_relaxed(&s->n_fired) + 1;
	add_relaxed(&s->n_fired, 1);
}

static void *sleeper(void *arg)
{
	struct sleeper *s = arg;
	uint32_t seed = (uint32_t)(s - sleepers) + 99;

	for (int i = 0; i < N_ROUNDS; i++) {
		uint32_t fired = load_relaxed(&s->n_fired);
		bool first;

		EXPECT(timer_arm(&heaps[tap_random(&seed) % N_HEAPS], &s->timer,
				 tap_random(&seed) % 3 + 1, &first) == 0);
		for (uint32_t n = tap_random(&seed) % 64; n > 0; n--)
			cpu_relax();
		if (i % 64 == 0)
			sched_yield();
		if (timer_disarm(&s->timer)) {
			s->n_disarmed++;
			EXPECT(load_relaxed(&s->n_fired) == fired);
		} else {
			/* It is out because it has fired: that is over, and can be seen. */
			EXPECT(load_relaxed(&s->n_fired) == fired + 1);
			EXPECT(s->result == fired + 1);
		}
	}
	return NULL;
}

static void *firer(void *arg)
{
	ns_t now = 0;

	while (!load_relaxed(&done)) {
		for (int i = 0; i < N_HEAPS; i++)
			timer_fire_due(&heaps[i], now, fire_sleeper);
		now = (now + 1) % 4;
		if (now == 0)
			sched_yield();
	}
	return arg;
}

static void disarmed_or_fired(void)
{
	pthread_t threads[N_SLEEPERS], firers[2];
	uint32_t n_disarmed = 0, n_fired_all = 0;

	for (int i = 0; i < N_HEAPS; i++)
		timer_heap_init(&heaps[i]);
	for (int i = 0; i < 2; i++)
		firers[i] = tap_start(firer, NULL);
	for (int i = 0; i < N_SLEEPERS; i++)
		threads[i] = tap_start(sleeper, &sleepers[i]);
	for (int i = 0; i < N_SLEEPERS; i++)
		tap_join(threads[i]);
	store_relaxed(&done, true);
	for (int i = 0; i < 2; i++)
		tap_join(firers[i]);
	for (int i = 0; i < N_SLEEPERS; i++) {
		n_disarmed += sleepers[i].n_disarmed;
		n_fired_all += sleepers[i].n_fired;
	}
	EXPECT(n_disarmed + n_fired_all == N_SLEEPERS * N_ROUNDS);
	/* Else nothing was tried. */
	EXPECT(n_disarmed > 0 && n_fired_all > 0);
	for (int i = 0; i < N_HEAPS; i++)
		EXPECT(heaps[i].n == 0 && load_relaxed(&heaps[i].next) == NO_DEADLINE);
}

int main(void)
{
	tap_test("arming, disarming and firing agree with a list", agrees_with_reference);
	tap_test("the heap grows", grows);
	tap_test("no timer fires early", not_early);
	tap_test("a timer is disarmed or fires, and never both", disarmed_or_fired);
	return tap_done();
}
