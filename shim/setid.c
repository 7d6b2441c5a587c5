/* SPDX-License-Identifier: MIT */
/*
 * setid.c: setuid and its kin reach every kernel thread.
 *
 * The kernel keeps credentials per thread, POSIX per process.  glibc broadcasts its signal
 * 33 to the threads it knows and waits until each handler has cleared a flag in its own
 * TCB, which for a worker would be a task's: the sender would retry for ever (trap 1).  So
 * the broadcast is ours: the caller makes the call, and if that worked every worker makes
 * it in the preemption signal's handler.  (Threads that libc has for itself, and that never
 * called in, get libc's: interpose/ids.c.)
 */
#include <errno.h>

#include "runtime.h"

struct lock setid_lock;

static long call_nr, call_args[4];
static _Atomic bool call_failed; /* in some kernel thread, though the caller's worked */
static _Atomic uint32_t
    round_now; /* a worker has done its part when its mark equals it */

void setid_handle(struct worker *w)
{
	/* Pairs with setid_call(): the call is filled in. */
	uint32_t round = load_acquire(&round_now);

	if (load_relaxed(&w->setid_done) == round)
		return;
	if (sys(call_nr, call_args[0], call_args[1], call_args[2], call_args[3]) < 0)
		store_relaxed(&call_failed, true);
	store_release(&w->setid_done, round);
	sys_futex_wake(&w->setid_done, 1);
}

/* Waits until w has done its part in this round, or has ended. */
static void wait_for(struct worker *w, uint32_t round)
{
	uint32_t done;

	/* Pairs with setid_handle().  Rounds only grow. */
	while ((int32_t)((done = load_acquire(&w->setid_done)) - round) < 0) {
		struct timespec ts = ns_timespec(1000000);

		if (load_acquire(&w->kernel_tid) == 0)
			return;
		preempt_worker(w);
		sys_futex_wait(&w->setid_done, done, &ts);
	}
}

static void wait_for_workers(const struct worker *but, uint32_t round)
{
	/* Pairs with worker_create(). */
	struct worker *w = load_acquire(&sched.all_workers);

	for (; w != NULL; w = w->next_all)
		if (w != but)
			wait_for(w, round);
}

static bool wait_for_bound(struct task *t, void *arg)
{
	if (is_bound(t) && t != self_task)
		wait_for(t->worker, *(uint32_t *)arg);
	return true;
}

/*
 * Takes the lock when all have done the last call, so that none misses one.  sysmon looks
 * at our signal only when it sleeps, and until then it may wait for a lock whose holder
 * wants this one: so nobody waits for sysmon with it held.
 */
static void acquire_settled(void)
{
	for (;;) {
		lock_acquire(&setid_lock);
		uint32_t round = load_relaxed(&round_now);

		if (load_relaxed(&sysmon_worker.kernel_tid) == 0 ||
		    load_acquire(&sysmon_worker.setid_done) == round)
			return;
		lock_release(&setid_lock);
		wait_for(&sysmon_worker, round);
	}
}

long setid_call(long nr, long a, long b, long c)
{
	return call_everywhere(nr, a, b, c, 0);
}

long call_everywhere(long nr, long a, long b, long c, long d)
{
	struct task *t = task_self();

	/* Inside the runtime, where the task stays on this worker, and under the lock: of two
	 * that call at once every kernel thread makes both calls in the same order. */
	runtime_enter(t);
	acquire_settled();
	long r = sys(nr, a, b, c, d);
	if (r < 0) {
		lock_release(&setid_lock);
		runtime_leave(t);
		return r;
	}
	call_nr = nr;
	call_args[0] = a;
	call_args[1] = b;
	call_args[2] = c;
	call_args[3] = d;
	uint32_t round = load_relaxed(&round_now) + 1;
	store_relaxed(&t->worker->setid_done, round);
	store_release(&round_now, round);
	wait_for_workers(t->worker, round);
	tasks_for_each(wait_for_bound, &round);
	lock_release(&setid_lock);
	wait_for(&sysmon_worker, round);
	/* And for those that sysmon has brought into the world meanwhile. */
	wait_for_workers(t->worker, round);
	bool failed = load_relaxed(&call_failed);
	runtime_leave(t);
	/* Ids of its own for one kernel thread would be a hole: libc aborts too. */
	if (failed) {
		message("a system call failed in one kernel thread alone");
		host.abort_process();
	}
	return r;
}

/* A new kernel thread has its creator's ids; if that is sysmon, they may be out of date: see
 * worker_main(). */
void setid_inherit(struct worker *w)
{
	struct worker *creator = self_task != NULL ? self_task->worker : NULL;
	uint32_t round = load_relaxed(&round_now);

	store_relaxed(&w->setid_done, creator == &sysmon_worker && w != creator
					  ? load_relaxed(&creator->setid_done)
					  : round);
}
