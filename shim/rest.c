/* SPDX-License-Identifier: MIT */
/*
 * rest.c: the runtime goes to sleep again.
 *
 * When main has been the only task for a while, there is nothing left to schedule.  Then the
 * kernel threads go, and the process is single-threaded for the kernel as well, as it would
 * be natively: unshare() and setns() want that, and some programs count their threads before
 * they fork.
 *
 * In three steps, each on the kernel thread that it concerns:
 *
 *	sysmon: main has been alone for long: asks it to look up         rest_look()
 *	main:   looks up, and leaves its worker for nobody           runtime_rest()
 *	sysmon: ends all workers, and the prober, and gives main its own kernel thread, the
 *	        process's first                                          rest_begin()
 *
 * Main is bound there, as the one task of a forked child is, so all that it calls goes on as
 * before.  Its next thread wakes the runtime in the same way as its first: runtime_start().
 *
 * Nobody may come between: a task needs another one to be created by, and main is on its way;
 * an adopted thread waits in rest_wait(), or is seen by rest_begin(), which then begins
 * nothing.
 */
#include <linux/futex.h>

#include "config.h"
#include "runtime.h"
#include "slot.h"
#include "switch.h"

enum {
	/* Waking costs a tenth of a millisecond or so: nobody shall notice that it was done
	 * in vain. */
	PATIENCE_NS = 200000000,
	END_POLL_NS = 200000,
	YIELDS_MOST = 1000,
};

struct lock rest_lock;

bool rest_is_closing(void)
{
	return load_relaxed(&sched.rest) == REST_CLOSING;
}

void rest_wait(void)
{
	/* Pairs with rest_begin(): it sees that the caller was adopted, or we see it close. */
	fence_seq_cst();
	while (load_acquire(&sched.rest) == REST_CLOSING)
		sys_futex_wait(&sched.rest, REST_CLOSING, NULL);
}

/* --- main ----------------------------------------------------------------------------- */

bool runtime_rest(struct task *t)
{
	if (!task_may_rest(t) || t->handlers != NULL || load_relaxed(&t->spins_held) != 0)
		return false;
	runtime_enter(t);
	sched_count_cpu(t);
	sched_leave(t, AFTER_REST);
	/* Or on a worker, when somebody came between. */
	bool rests = is_bound(t);
	if (rests) {
		signal_set_alone(true);
		lock_release(&rest_lock);
		dispatch_setup_thread();
		signal_bind(t);
	}
	store_relaxed(&t->worker->in_runtime, 0);
	return rests;
}

/* --- sysmon ----------------------------------------------------------------------------- */

ns_t rest_look(ns_t since, ns_t now)
{
	struct task *t = task_main();

	if (!task_may_rest(t))
		return NO_DEADLINE;
	if (since == NO_DEADLINE)
		since = now;
	if (now - since < PATIENCE_NS && !(sched.shake & SHAKE_REST))
		return since;
	/* It is only asked, and not made to come back from a system call: not all of those are
	 * the same when they are made again. */
	or_acq_rel(&t->attention, ATTEND_REST);
	park_rouse(t);
	return since;
}

static void end_worker(struct worker *w)
{
	const struct timespec ts = ns_timespec(END_POLL_NS);
	int tid = load_relaxed(&w->tid);

	/* Pairs with the kernel's clearing; that wakes only who waits for a shared futex. */
	while (load_acquire(&w->kernel_tid) != 0) {
		worker_poke(w);
		sys(SYS_futex, &w->kernel_tid, FUTEX_WAIT, 1, &ts);
	}
	/* It is the process's until the kernel has forgotten its tid, a little later.  Not for
	 * ever: by now a thread of libc's own may have that. */
	for (int i = 0; i < YIELDS_MOST && tid != 0; i++) {
		if (sys(SYS_tgkill, sched.pid, tid, 0) != 0)
			break;
		sys(SYS_sched_yield);
	}
	store_relaxed(&w->tid, 0);
}

/* Workers are started by workers, and are at the head of the list before their starter can
 * end. */
static void end_workers(void)
{
	struct worker *first;

	do {
		/* Pairs with launch(). */
		first = load_acquire(&sched.all_workers);
		for (struct worker *w = first; w != NULL; w = w->next_all)
			end_worker(w);
	} while (load_acquire(&sched.all_workers) != first);
}

/* All others have ended: main goes on here. */
static _Noreturn void give_thread_to(struct task *t)
{
	struct worker *w = &sysmon_worker;

	task_take_first_thread(t);
	store_relaxed(&w->tid, 0);
	store_relaxed(&w->kernel_tid, 0);
	store_release(&sched.rest, REST_ON);
	sys_futex_wake(&sched.rest, INT32_MAX);
	switch_to(&w->self.sp, t->sp, t->tcb);
	__builtin_unreachable();
}

void rest_begin(void)
{
	/* Pairs with finish_switch(): its registers are saved. */
	struct task *t = swap_acq_rel(&sched.to_rest, NULL);

	if (likely(t == NULL))
		return;
	lock_acquire(&rest_lock);
	store_relaxed(&sched.rest, REST_CLOSING);
	/* Pairs with rest_wait(). */
	fence_seq_cst();
	if (task_may_rest(t)) {
		prober_end();
		end_workers();
		slot_trim();
		give_thread_to(t);
	}
	store_release(&sched.rest, REST_OFF);
	sys_futex_wake(&sched.rest, INT32_MAX);
	lock_release(&rest_lock);
	sched_push(t);
}
