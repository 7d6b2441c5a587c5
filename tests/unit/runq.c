/* SPDX-License-Identifier: MIT */
/*
 * runq.c: a processor's run queue: its order, its limits, and one producer against thieves.
 */
#include <sched.h>

#include "runq.h"
#include "tap.h"

struct task {
	uint32_t number;  /* written before the push, read by who takes it */
	uint32_t n_taken; /* plain: two takers are a data race, and a wrong count */
};

enum { N_SMALL = RUNQ_SIZE * 2 };
static struct task small[N_SMALL];
static struct task *batch[RUNQ_SIZE / 2 + 1];

static void push_all(struct runq *q, int from, int to)
{
	for (int i = from; i < to; i++)
		EXPECT(runq_push(q, &small[i], batch) == 0);
}

static void pop_all(struct runq *q, int from, int to)
{
	bool inherit = true;

	for (int i = from; i < to; i++) {
		EXPECT(runq_pop(q, &inherit) == &small[i]);
		EXPECT(!inherit);
	}
}

static void first_in_first_out(void)
{
	static struct runq q;
	bool inherit;

	EXPECT(runq_empty(&q));
	push_all(&q, 0, RUNQ_SIZE);
	EXPECT(!runq_empty(&q));
	pop_all(&q, 0, RUNQ_SIZE);
	EXPECT(runq_empty(&q));
	EXPECT(runq_pop(&q, &inherit) == NULL);
}

static void next_goes_first(void)
{
	static struct runq q;
	bool inherit = false;

	push_all(&q, 0, 2);
	EXPECT(runq_push_next(&q, &small[2]) == NULL);
	EXPECT(runq_push_next(&q, &small[3]) == &small[2]);
	EXPECT(runq_pop(&q, &inherit) == &small[3] && inherit);
	pop_all(&q, 0, 2);
	EXPECT(runq_push_next(&q, &small[4]) == NULL);
	EXPECT(!runq_empty(&q));
	EXPECT(runq_pop(&q, &inherit) == &small[4] && inherit);
	EXPECT(runq_empty(&q));
}

static void half_of_a_full_ring_overflows(void)
{
	static struct runq q;

	push_all(&q, 0, RUNQ_SIZE);
	EXPECT(runq_push(&q, &small[RUNQ_SIZE], batch) == RUNQ_SIZE / 2 + 1);
	for (int i = 0; i < RUNQ_SIZE / 2; i++)
		EXPECT(batch[i] == &small[i]);
	EXPECT(batch[RUNQ_SIZE / 2] == &small[RUNQ_SIZE]);
	push_all(&q, RUNQ_SIZE, RUNQ_SIZE + RUNQ_SIZE / 2);
	pop_all(&q, RUNQ_SIZE / 2, RUNQ_SIZE + RUNQ_SIZE / 2);
	EXPECT(runq_empty(&q));
}

static void indices_wrap(void)
{
	static struct runq q, thief;

	store_relaxed(&q.head, UINT32_MAX - 10);
	store_relaxed(&q.tail, UINT32_MAX - 10);
	store_relaxed(&thief.head, UINT32_MAX - 3);
	store_relaxed(&thief.tail, UINT32_MAX - 3);
	push_all(&q, 0, RUNQ_SIZE);
	EXPECT(runq_steal(&thief, &q, false) == &small[0]);
	pop_all(&thief, 1, RUNQ_SIZE / 2);
	push_all(&q, RUNQ_SIZE, RUNQ_SIZE + RUNQ_SIZE / 2);
	EXPECT(runq_push(&q, &small[0], batch) == RUNQ_SIZE / 2 + 1);
	EXPECT(batch[0] == &small[RUNQ_SIZE / 2]);
	pop_all(&q, RUNQ_SIZE, RUNQ_SIZE + RUNQ_SIZE / 2);
	EXPECT(runq_empty(&q) && runq_empty(&thief));
}

static void a_thief_takes_half(void)
{
	static struct runq q, thief;

	EXPECT(runq_steal(&thief, &q, true) == NULL);
	push_all(&q, 0, 5);
	EXPECT(runq_push_next(&q, &small[5]) == NULL);
	EXPECT(runq_steal(&thief, &q, true) == &small[0]);
	pop_all(&thief, 1, 3);
	EXPECT(runq_steal(&thief, &q, true) == &small[3]);
	EXPECT(runq_empty(&thief));
	EXPECT(runq_steal(&thief, &q, false) == &small[4]);
	/* run_next comes last, and only for who insists. */
	EXPECT(runq_steal(&thief, &q, false) == NULL);
	EXPECT(runq_steal(&thief, &q, true) == &small[5]);
	EXPECT(runq_empty(&q) && runq_empty(&thief));
}

/* --- one producer, several thieves --------------------------------------------------- */

#ifdef __SANITIZE_THREAD__
enum { N_TASKS = 200000 };
#else
enum { N_TASKS = 1000000 };
#endif
enum { N_THIEVES = 3, N_QUEUES = N_THIEVES + 1 };

static struct task tasks[N_TASKS];
static struct runq queues[N_QUEUES]; /* the last one is the producer's */
static _Atomic uint32_t n_taken;
static uint32_t n_overflowed, n_inherited; /* the producer's */
static _Atomic uint32_t n_stolen[N_THIEVES];

static void take(struct task *t)
{
	t->n_taken++;
	EXPECT(t->number == (uint32_t)(t - tasks) + 1);
	add_relaxed(&n_taken, 1);
}

static void *thief(void *arg)
{
	uint32_t me = (uint32_t)(uintptr_t)arg, seed = me + 1;
	struct runq *q = &queues[me];

	while (load_relaxed(&n_taken) < N_TASKS) {
		uint32_t victim = tap_random(&seed) % N_QUEUES;
		struct task *t;
		bool inherit;

		if (victim == me)
			continue;
		t = runq_steal(q, &queues[victim], tap_random(&seed) % 4 == 0);
		if (t == NULL) {
			sched_yield();
			continue;
		}
		add_relaxed(&n_stolen[me], 1);
		take(t);
		/* Now and then it leaves what it stole to the others. */
		while (tap_random(&seed) % 16 != 0 && (t = runq_pop(q, &inherit)) != NULL)
			take(t);
		while (!runq_empty(q) && (t = runq_pop(q, &inherit)) != NULL)
			take(t);
	}
	return NULL;
}

static void push_or_take(struct runq *q, struct task *t)
{
	int n = runq_push(q, t, batch);

	n_overflowed += n;
	for (int i = 0; i < n; i++)
		take(batch[i]);
}

static bool all_stole(void)
{
	for (int i = 0; i < N_THIEVES; i++)
		if (load_relaxed(&n_stolen[i]) == 0)
			return false;
	return true;
}

static void produce(struct runq *q)
{
	uint32_t seed = 4711;
	bool inherit;

	for (uint32_t i = 0; i < N_TASKS; i++) {
		struct task *t = &tasks[i];

		t->number = i + 1;
		if (tap_random(&seed) % 8 == 0) {
			t = runq_push_next(q, t);
			if (t == NULL)
				continue;
		}
		push_or_take(q, t);
		/* A busy machine may not have let every thief begin. */
		if (i % 64 == 0 && !all_stole())
			sched_yield();
		/* In bursts: the ring now fills, now runs empty. */
		if ((i >> 12) % 2 == 0 && (t = runq_pop(q, &inherit)) != NULL) {
			n_inherited += inherit;
			take(t);
		}
	}
	while (load_relaxed(&n_taken) < N_TASKS) {
		struct task *t = runq_pop(q, &inherit);

		if (t != NULL)
			take(t);
		else
			sched_yield();
	}
}

static void taken_exactly_once(void)
{
	pthread_t threads[N_THIEVES];
	uint32_t n_wrong = 0;

	for (uintptr_t i = 0; i < N_THIEVES; i++)
		threads[i] = tap_start(thief, (void *)i);
	produce(&queues[N_THIEVES]);
	for (int i = 0; i < N_THIEVES; i++)
		tap_join(threads[i]);
	for (uint32_t i = 0; i < N_TASKS; i++)
		n_wrong += tasks[i].n_taken != 1;
	EXPECT(n_wrong == 0);
	EXPECT(n_taken == N_TASKS);
	for (int i = 0; i < N_QUEUES; i++)
		EXPECT(runq_empty(&queues[i]));
	/* Else nothing was tried.  That every thief had its turn is the machine's to say. */
	EXPECT(n_overflowed > 0 && n_inherited > 0);
	EXPECT(n_stolen[0] + n_stolen[1] + n_stolen[2] > 0);
}

/* --- run_next against a thief -------------------------------------------------------- */

enum { N_NEXT = N_TASKS };
static struct runq next_queue;
static _Atomic bool next_done;
static _Atomic uint32_t n_next_taken;

static void take_next(struct task *t)
{
	t->n_taken++;
	add_relaxed(&n_next_taken, 1);
}

static void *next_thief(void *arg)
{
	struct runq *q = &queues[0];

	while (!load_relaxed(&next_done)) {
		struct task *t = runq_steal(q, &next_queue, true);

		if (t != NULL)
			take_next(t);
	}
	return arg;
}

static void next_is_taken_once(void)
{
	pthread_t thread;
	uint32_t n_wrong = 0, n_popped = 0;
	bool inherit;

	for (uint32_t i = 0; i < N_NEXT; i++)
		tasks[i].n_taken = 0;
	thread = tap_start(next_thief, NULL);
	for (uint32_t i = 0; i < N_NEXT; i++) {
		struct task *t = runq_push_next(&next_queue, &tasks[i]);

		EXPECT(t == NULL);
		t = runq_pop(&next_queue, &inherit);
		if (t != NULL) {
			EXPECT(t == &tasks[i] && inherit);
			n_popped++;
			take_next(t);
		}
	}
	store_relaxed(&next_done, true);
	tap_join(thread);
	for (uint32_t i = 0; i < N_NEXT; i++)
		n_wrong += tasks[i].n_taken != 1;
	EXPECT(n_wrong == 0 && n_next_taken == N_NEXT && n_popped > 0);
}

int main(void)
{
	tap_test("tasks come out in the order of their push", first_in_first_out);
	tap_test("run_next goes first, and says so", next_goes_first);
	tap_test("a full ring gives away its older half", half_of_a_full_ring_overflows);
	tap_test("indices wrap around", indices_wrap);
	tap_test("a thief takes half, and run_next last", a_thief_takes_half);
	tap_test("against thieves each task is taken exactly once", taken_exactly_once);
	tap_test("against a thief run_next is taken exactly once", next_is_taken_once);
	return tap_done();
}
