/* SPDX-License-Identifier: MIT */
/*
 * setid.c: setuid and its kin reach every kernel thread.
 *
 * The kernel keeps credentials per thread, POSIX per process.  glibc broadcasts its signal
 * 33 to the threads it knows and waits until each handler has cleared a flag in its own
 * TCB, which for a worker would be a task's: the sender would retry for ever (trap 1).  So
 * the broadcast is ours: the caller makes the call, and if that worked every worker makes
 * it in the preemption signal's handler.
 */
#include <errno.h>

#include "runtime.h"

struct lock setid_lock;

static long call_nr, call_args[3];
static _Atomic uint32_t round_now; /* a worker has done its part when its mark equals it */

void setid_handle(struct worker *w)
{
	/* Pairs with setid_call(): the call is filled in. */
	uint32_t round = load_acquire(&round_now);

	if (load_relaxed(&w->setid_done) == round)
		return;
	if (sys(call_nr, call_args[0], call_args[1], call_args[2]) < 0)
		fatal("a kernel thread could not change its ids", call_nr);
	store_release(&w->setid_done, round);
	sys_futex_wake(&w->setid_done, 1);
}

static void wait_for(struct worker *w, uint32_t round)
{
	uint32_t done;

	/* Pairs with setid_handle().  A worker that ends meanwhile counts as done. */
	while ((done = load_acquire(&w->setid_done)) != round) {
		struct timespec ts = ns_timespec(1000000);

		if (load_acquire(&w->kernel_tid) == 0)
			return;
		preempt_worker(w);
		sys_futex_wait(&w->setid_done, done, &ts);
	}
}

long setid_call(long nr, long a, long b, long c)
{
	struct task *t = task_self();

	/* Inside the runtime, where the task stays on this worker, and under the lock: of two
	 * that call at once every kernel thread makes both calls in the same order. */
	runtime_enter(t);
	lock_acquire(&setid_lock);
	long r = sys(nr, a, b, c);
	if (r < 0)
		goto out;
	call_nr = nr;
	call_args[0] = a;
	call_args[1] = b;
	call_args[2] = c;
	uint32_t round = load_relaxed(&round_now) + 1;
	store_relaxed(&t->worker->setid_done, round);
	store_release(&round_now, round);
	for (struct worker *w = load_acquire(&sched.all_workers); w != NULL; w = w->next_all)
		if (w != t->worker)
			wait_for(w, round);
	if (load_relaxed(&sysmon_worker.kernel_tid) != 0)
		wait_for(&sysmon_worker, round);
out:
	lock_release(&setid_lock);
	runtime_leave(t);
	return r;
}

/* A new kernel thread has its creator's ids: nothing is asked of it. */
void setid_inherit(struct worker *w)
{
	store_relaxed(&w->setid_done, load_relaxed(&round_now));
}
