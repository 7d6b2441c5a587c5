/* SPDX-License-Identifier: MIT */
/*
 * runtime.h: tasks, workers, processors, and the few words they share; the runtime2.go of
 * ours.  Each field says who may touch it.
 *
 * The rules that everything else stands on:
 *
 * 1. A worker runs tasks only while it owns a processor.  It owns the one that w->proc
 *    names; sysmon alone may take it away behind its back, by the protocol at
 *    runtime_enter().
 * 2. A task is in one place: running on a worker, on one run queue, or parked.  Whoever
 *    moves its park word from PARKED to WOKEN, or finds RUNNING there and leaves WOKEN,
 *    has the duty that follows (see the park states).
 * 3. A waiter is on a bucket's queue until somebody removes it under the bucket's lock.
 *    That somebody, and nobody else, wakes it.
 * 4. Code of the runtime runs with w->in_runtime set.  It is never preempted there, and a
 *    signal that arrives there waits until runtime_leave().
 * 5. A bound task has a worker of its own and no processor.  It is bound before anybody can
 *    wake it, or by itself, while it runs (task_bind()), and stays so to its end; but for
 *    main while the runtime rests (rest.c), when nobody else is there.  So who has
 *    taken its waiter off a queue reads a `bound` that does not change, and reads it before
 *    the park word says WOKEN: from then on a bound task may go on by itself and end, and
 *    its memory be another's.
 */
#ifndef PGREEN_RUNTIME_H
#define PGREEN_RUNTIME_H

#include "base.h"
#include "config.h"
#include "lock.h"
#include "runq.h"
#include "shim.h"
#include "timer.h"

/* The park word: who owes the task a push to a run queue. */
enum park_state {
	PARK_RUNNING = 0, /* the task runs, or is about to leave its stack */
	PARK_PARKED = 1,  /* its registers are saved; the waker pushes it (or wakes its
			     kernel thread when it is bound) */
	PARK_WOKEN = 2,   /* woken before it had left: it does not park after all */
	PARK_INTERRUPTED = 3, /* bound only: parked, and a signal wants it to look */
};

/* What a task waits on; protected by the lock of the bucket that addr hashes to, but for
 * the owner's own fields. */
struct waiter {
	struct list chain; /* leaders only: the bucket's list of addresses */
	struct list peers; /* all waiters of addr, in their order after the leader */
	/* NULL: not queued.  From one address to another it changes under both buckets' locks, and
	 * at once: who is to end the wait finds it at one of them.  A condition's waiter that is
	 * signalled alone is at none for a while: see signal_waiter(). */
	const void *_Atomic addr;
	_Atomic uint32_t
	    *mutex_word; /* cond waits: where a signal may move it; or NULL */
	ns_t since;      /* mutex waits: when it began, for starvation; 0 otherwise */
	uint32_t bits;   /* wakes must meet these */
	uint32_t seen;   /* cond waits that a handler interrupts: bucket.signals then */
	int priority;    /* the task's real-time priority when it began */
	bool leads; /* first of its address, and so on the chain; not at its task's own */
	bool moved; /* a cond waiter that now waits for the mutex: cannot time out */
	bool granted; /* the lock was handed to it: it owns the mutex */
	bool lost; /* was woken for a lock word and found it taken: unlock may grant it */
	int result; /* 0, -ETIMEDOUT or -EINTR; written by who removes it */
	/* For dumps: what it is for (enum wait_kind), and until when. */
	uint8_t kind;
	const void *object;
	ns_t deadline;
};

/* Why a task must look at something on its way out of the runtime. */
enum attention {
	ATTEND_PREEMPT = 1, /* its time is up */
	ATTEND_SIGNAL = 2,  /* a signal that it does not block is pending */
	ATTEND_CANCEL = 4,  /* pthread_cancel was called for it */
	ATTEND_ASK = 8,     /* task_ask() was */
	ATTEND_REST = 16,   /* main: the runtime may go to sleep; only a hint */
};

enum task_life { TASK_FREE, TASK_LIVE, TASK_DONE };

/* A pending signal of a task or of the process. */
struct pending_signals {
	_Atomic uint64_t set;        /* SIG_BIT of each that waits */
	struct queued_signal *queue; /* their siginfo, oldest first; under signal lock */
};

/* A handler of the program's that runs; on the stack of who called it. */
struct activation {
	struct activation *outer;
	uintptr_t sp;    /* stack pointer of what it interrupted */
	uintptr_t aside; /* where the task stood aside when it called the handler; or 0 */
	uint64_t before; /* the task's mask then */
};

struct task {
	int tid;               /* first: task_tid() reads it.  Constant while it lives */
	_Atomic int attention; /* bits of enum attention; any worker */
	/* Who runs it, or ran it last; written before each switch to it, read by all, who
	 * then ask that worker's current. */
	struct worker *_Atomic worker;
	void *sp;      /* saved stack pointer while it does not run */
	uint32_t pkru; /* while it does not run: see switch.h */
	void *tcb;     /* its %fs: glibc's struct pthread */
	/* Link in the global queue, its owner's who holds the task; an adopted task's in
	 * foreign.all, written once. */
	struct task *_Atomic next;
	_Atomic uint32_t park; /* enum park_state; a bound task's futex */
	_Atomic uint32_t done; /* joiners wait here; see task.c for its bits */
	_Atomic uint8_t life;  /* enum task_life */
	/* Owns its kernel thread and uses no processor.  Written by rule 5; all read it. */
	_Atomic bool bound;
	/* Its slot is not used again: it forked, and this is the child, where it ends on its own
	 * stack; or task_keep_tcb().  Owner only. */
	bool keeps_slot;
	/* It has jumped: see shrink.c.  Owner; sysmon while that is parked. */
	bool keeps_stack;
	bool is_main;
	/* Main: bound only while the runtime rests.  Written by itself, by sysmon before, and
	 * under rest_lock. */
	_Atomic bool rests;
	bool adopted; /* its kernel thread is not ours */
	bool c11;
	_Atomic int spins_held; /* spinlocks held: not preempted; owner only */
	_Atomic bool in_door; /* between enter_kernel and leave_kernel; sysmon reads it */
	/* kernel_call's flag: do not enter the kernel.  Set after attention, by anyone. */
	_Atomic int interrupt;
	/* Our own signal came while the last kernel_call was made, or just after: what it
	 * answers may be less for that.  Owner, and its handler. */
	_Atomic bool was_cut;
	_Atomic uint32_t never; /* always 0: what a sleeper waits on */
	bool at_wait; /* owner only: preempted where libc waits, see preempt.c */
	/* Owner only: its waits end when it is cancelled, because it stands at a cancellation
	 * point, or because its cancel type is asynchronous. */
	bool cancel_point, cancel_anywhere;
	/* Bound: its kernel thread.  0 until it has run there: see kernel_tid_of().  It stays
	 * when the task has ended and its worker is another's: the kernel knows nobody by it
	 * then.  Written by itself, all read. */
	_Atomic int kernel_tid;
	ns_t
	    cpu_before; /* bound: CPU time that its kernel thread does not count, or has too
			    much; written before bound */
	struct waiter wait;
	struct timer timer;
	/* What it waits for in netpoll.c, the first of them, or -1; owner only, dumps read. */
	_Atomic int wait_fd;
	_Atomic short wait_events;
	/* All of them, while it waits for several; owner only, dumps read. */
	const struct pollfd *wait_fds;
	unsigned n_wait_fds;
	struct task *_Atomic joining; /* whom it joins, to find EDEADLK */
	void *(*start)(void *);
	void *arg;
	void *result;

	/* signals: see signal.c */
	_Atomic uint64_t sigmask; /* owner writes, all read */
	_Atomic uint64_t sigwait; /* what sigwait() waits for; owner writes */
	uint64_t
	    sigwait_counted; /* that, if sysmon takes it for the task, else 0; owner only */
	struct pending_signals pending;
	_Atomic uint64_t raised; /* by its writes, not in pending yet; owner only */
	void
	    *interrupted; /* the kernel's ucontext of preempted code, while it looks up */
	struct activation *handlers; /* that run, innermost first; owner only */
	/* The program's, of sigaltstack; owner only; a bound one's kernel thread has it too. */
	stack_t altstack;
	uint64_t kernel_mask;  /* bound: kept while the signal lock is held; owner only */
	int mask_class;        /* where its mask is counted; owner only */
	bool eintr_wanted;     /* a handler without SA_RESTART ran; owner only */
	uint32_t handlers_run; /* handlers so far: did one run meanwhile?  Owner only */
	bool by_handlers;      /* waits end when one has run since ...; owner only */
	uint32_t handlers_then;

	/* memory: see slot.c */
	char *stack_low; /* of the stack it runs on, above the guard */
	size_t stack_size;
	/* Where it looks up when it is met on a stack that is not its own, or that has no room
	 * left: see preempt.c.
	 * NULL: never was.  Kept with the slot.  Owner only. */
	char *aside;
	char *slot_low; /* low end of its slot, the guard included; NULL: no slot */
	size_t slot_size;
	char *guard_low;       /* where its guard is, right below the stack */
	size_t guard_size;     /* bytes of it; 0: none */
	bool guard_is_mapping; /* made by mprotect, for want of MADV_GUARD_INSTALL */
	uint32_t index;        /* in the table of slots: the low bits of its tid */
	uint8_t slot_class;
	uint8_t generation;     /* the high bits of its tid */
	bool tls_ready;         /* the TCB has a dtv: it was used before */
	struct task *free_next; /* pool's list */

	/* Time stamp ticks that it has used, up to the last switch from it; who runs it writes,
	 * all read. */
	_Atomic uint64_t cpu_tsc;
	_Atomic uint64_t run_start; /* time stamp of that switch; likewise */
	/* The most of its use that anybody was told; its low byte is the slot's generation, by which a
	 * reader that is late leaves the slot's next task alone.  Anyone. */
	_Atomic uint64_t cpu_shown;
	/* When it stopped running: no other stop has the same, by which a dump knows that it has
	 * not run meanwhile.  Owner only, dumps read. */
	uint64_t left_tsc;
	uint64_t shrunk_tsc; /* left_tsc at its stack's last shrinking; sysmon only */
	char name[16];
	/* interpose's: struct task_ext, which holds an _Unwind_Exception */
	uint64_t ext[28] __attribute__((aligned(16)));
};

struct proc {
	_Atomic uint32_t status; /* enum proc_status */
	int id;
	_Atomic uint32_t
	    tick; /* picks of a task; written by the owner, read by thieves */
	struct proc *idle_next; /* idle list; sched.lock */
	/* Owner only, in time stamp ticks: see take_turns() in sched.c. */
	int64_t local_ahead;
	uint64_t slice_since;
	bool runs_global; /* its task came from the global queue */
	/* Written by the owner, read by sysmon. */
	_Atomic uint32_t switches; /* tasks started; stands still while one computes */
	_Atomic uint32_t kernel_calls; /* kernel doors entered */
	struct worker
	    *_Atomic owner; /* who runs on it, or did when it entered the kernel */
	/* sysmon only. */
	uint32_t seen_switches, seen_kernel_calls;
	ns_t slice_seen;  /* when the time slice began, as far as is known */
	ns_t seen_since;  /* and both counts */
	ns_t seen_cpu;    /* its worker's CPU time at the last look */
	ns_t still_since; /* when that last changed */
	bool seen_awake;  /* /proc has said so, and it has not changed since */
	ns_t preempt_sent;
	bool asked;     /* to stop, since its slice began */
	ns_t asked_cpu; /* its worker's CPU time when it was last asked to stop */
	int refusals;
	struct runq runq;
	struct timer_heap timers;
} __attribute__((aligned(CACHE_LINE)));

enum proc_status {
	/* Nobody's: on the idle list, unless GOMAXPROCS was lowered below it.  It becomes so,
	 * and ceases to be, together with that, under sched.lock. */
	PROC_IDLE,
	PROC_RUNNING,   /* its owner runs on it */
	PROC_IN_KERNEL, /* its owner is in the kernel; a CAS from here takes it */
};

/* What must be done about the task that a worker has just left, by whoever it runs next:
 * only then are its registers saved and its stack unused. */
enum after_switch {
	AFTER_NOTHING,
	AFTER_PARK,         /* tell its waker that it is parked */
	AFTER_REQUEUE,      /* push it to the global queue */
	AFTER_YIELD_LOCKED, /* the same, and sched.lock is held already */
	AFTER_EXIT,         /* it has ended: free its memory */
	AFTER_REST,         /* main: tell sysmon, who will run it: rest.c */
};

struct worker {
	/* The take-away protocol's words: see runtime_enter(). */
	_Atomic int in_runtime;
	_Atomic bool must_look;    /* sysmon takes the processor, or has; retake_lock */
	struct proc *_Atomic proc; /* NULL: none; written by itself and by sysmon */
	struct proc *kernel_proc;  /* the one it entered the kernel with */
	struct task *_Atomic current; /* what it runs; NULL: its own stack */
	struct task *left;            /* for finish_switch */
	/* A bound task's own, to end with it: written by itself when it is bound. */
	bool owned;
	/* Owned, and its kernel thread may differ from the others': its task changed ids,
	 * namespaces, priority or the like.  What inherits from it differs too, so it starts no
	 * workers, and its task's threads are bound.  Anyone sets it, while its task lives. */
	_Atomic bool apart;
	enum after_switch after;
	_Atomic int preempt; /* a preemption was refused inside the runtime */
	bool spinning;       /* looks for work and is counted in sched.n_spinning */
	struct task self; /* the pseudo task whose stack and TCB the worker uses itself */
	_Atomic uint32_t wake_word;  /* futex: 1 when it was given something to do */
	_Atomic bool in_epoll;       /* sleeps there instead: worker_poke() */
	struct proc *_Atomic given;  /* the processor that start_worker hands over */
	_Atomic uint32_t kernel_tid; /* cleared by the kernel when the thread is gone */
	_Atomic int tid;             /* the same, kept; 0 until it runs */
	struct worker *next_idle;    /* idle list; sched.lock */
	struct worker *next_all;     /* all workers ever started; written once */
	bool is_listed;              /* among them */
	char *stack;                 /* the mapping of its own stack and signal stack */
	char *signal_stack;
	size_t signal_stack_size;
	char *stack_top;
	_Atomic uint32_t setid_done; /* set*id broadcast: see setid.c */
	/* Its CPU time, in ticks, that tasks and itself have been charged with: written by
	 * itself; and how much of it the kernel has not confirmed. */
	_Atomic uint64_t cpu_known;
	uint64_t cpu_assumed;
	/* sched.asking: a signal 32 is on its way to it, and whoever wants it to look up need
	 * send no other.  Real-time signals queue: they would pile up faster than it takes
	 * them, until the user's other programs can have none.  Its handler writes 0. */
	_Atomic uint32_t asked;
	_Atomic bool unheard; /* one did not get through */
	uint32_t random;      /* xorshift state: whom to steal from */
	void
	    *robust_list[3]; /* what the kernel is told: struct robust_list_head, empty */
	/* sysmon's: the CPU time of a stray when it was last looked at closely */
	ns_t seen_cpu;
	/* sysmon's: the CPU time that the process's timers have been routed to it for. */
	ns_t ticked_cpu;
	_Atomic bool stray; /* lost its processor unannounced and has not noticed */
	/* Since when it had been where it lost its processor, for dumps. */
	ns_t lost_since;
} __attribute__((aligned(CACHE_LINE)));

enum { MAX_PROCS = 1024 };

/* What shall end sysmon's sleep. */
enum sysmon_sleep {
	SYSMON_WATCHES, /* nothing: it is short */
	SYSMON_AWAY,    /* a task queues while no processor is idle */
	SYSMON_RESTS,   /* a processor is taken: until now all were idle */
};

struct sched {
	struct lock lock;                /* the queue, the idle lists, worker creation */
	struct task *_Atomic queue_head; /* global queue, FIFO; sched.lock */
	struct task *queue_tail;
	_Atomic uint32_t queue_len; /* read without the lock as a hint */
	struct proc *idle_procs;    /* sched.lock */
	_Atomic uint32_t n_idle_procs;
	_Atomic int n_spinning;
	struct worker *idle_workers; /* without a processor; sched.lock */
	struct worker *dead_workers; /* to be used again; sched.lock */
	struct worker *_Atomic all_workers;
	_Atomic int n_workers; /* alive, sysmon not counted */
	_Atomic int n_procs;
	int n_cpus;               /* that the process may use, when the runtime woke */
	_Atomic int n_procs_ever; /* the highest number there has been */
	int pid;
	/* The idle worker that sleeps until the next timer and, once there is a netpoller, until
	 * a descriptor is ready. */
	struct worker *_Atomic poller;
	_Atomic ns_t poll_until;
	/* Written by sysmon, and by who calls it back. */
	_Atomic int sysmon_sleep; /* enum sysmon_sleep */
	_Atomic ns_t last_poll;   /* when descriptors were last asked for */
	_Atomic int n_tasks;      /* alive, main included, adopted ones not */
	/* Counted up when signals on their way are lost (exec, fork).  Never 0. */
	_Atomic uint32_t asking;
	_Atomic int
	    reminders; /* some running task may have to be told again to look up */
	_Atomic bool worker_failed;   /* no worker could be started: sysmon tries again */
	bool live;                    /* the runtime is awake, or rests */
	_Atomic uint32_t rest;        /* enum rest; futex; rest_lock */
	struct task *_Atomic to_rest; /* main, which has left its worker for sysmon */
	int shake; /* bits of enum shake: what is forced at every chance, for tests */
	/* The length of a time stamp tick in ns, and of a ns in ticks, in 2^32nds; 0: unknown.
	 * Not floating-point numbers: rounding, flags and traps are the program's. */
	uint64_t ns_per_tick, ticks_per_ns;
	uint64_t assume_most; /* ticks until a worker asks the kernel: see sched.c */
	bool need_fence;      /* no membarrier: runtime_enter fences itself */
	int priority;       /* real-time, the process's when the runtime woke; 0: none */
	struct proc *procs; /* MAX_PROCS of them, memory on first touch */
};

extern struct sched sched __attribute__((visibility("hidden")));

static inline bool is_bound(const struct task *t)
{
	/* Pairs with task_bind(): its worker is the one that it has for good. */
	return load_acquire(&t->bound);
}

/* --- entering and leaving --------------------------------------------------------- */

void runtime_enter_slow(struct task *t);
void runtime_leave_slow(struct task *t);

/*
 * Every call from a task into the scheduler is between these two.  Returns its worker.
 *
 * sysmon takes the processor of a worker that the kernel blocks without a word:
 *	sysmon: w->must_look = 1; membarrier; w->in_runtime 0 and w->proc still p?  and once
 *		more?  take it
 *	worker: w->in_runtime = 1; compiler barrier; must_look?  wait for retake_lock
 *	out of a door: w->in_runtime = 1; w->proc = p
 * The membarrier stands for the fence that the worker does not pay for: either sysmon sees
 * in_runtime, or the worker sees that it must look.  sysmon holds retake_lock meanwhile,
 * and w->proc changes behind the worker's back only when it is really taken: a worker that
 * is past the test may read it as often as it likes.
 *
 * Only out of the kernel's door does it come without the test; into one it goes with it.  So
 * sysmon might see in_runtime while the worker is in there, and proc when it has come out and
 * is inside the runtime.  But after that it is not in a door again: if in_runtime is 0 once
 * more, it is outside, stays there, and has the processor that proc then names.
 *
 * No preemption can fall between the load of t->worker and the store: code of the library
 * is not preempted.
 */
static inline struct worker *runtime_enter(struct task *t)
{
	struct worker *w = load_relaxed(&t->worker);

	store_relaxed(&w->in_runtime, 1);
	compiler_barrier();
	if (unlikely(sched.need_fence))
		fence_seq_cst();
	/* None: in a door, where what libc calls has called us. */
	if (unlikely(load_relaxed(&w->must_look) || load_relaxed(&w->proc) == NULL) &&
	    !is_bound(t)) {
		runtime_enter_slow(t);
		w = load_relaxed(&t->worker);
	}
	return w;
}

static inline void runtime_leave(struct task *t)
{
	struct worker *w = load_relaxed(&t->worker);

	store_relaxed(&w->in_runtime, 0);
	compiler_barrier();
	if (unlikely(load_relaxed(&t->attention) | load_relaxed(&w->preempt)))
		runtime_leave_slow(t);
}

/* --- sched.c ----------------------------------------------------------------------- */

static inline uint64_t scale(uint64_t n, uint64_t by)
{
	return (uint64_t)((unsigned __int128)n * by >> 32);
}

static inline ns_t ticks_ns(uint64_t ticks)
{
	return (ns_t)scale(ticks, sched.ns_per_tick);
}

static inline uint64_t ns_ticks(ns_t ns)
{
	return scale((uint64_t)ns, sched.ticks_per_ns);
}

/* Pushes a floating task that was made runnable.  Any kernel thread of ours inside the
 * runtime, and sysmon. */
void ready(struct task *t);

/* Whether a task seems to queue that p could run.  Anyone; a hint, but for p's owner. */
static inline bool proc_has_work(struct proc *p)
{
	return !runq_empty(&p->runq) || load_relaxed(&sched.queue_len) != 0;
}

/* Leaves the calling task's stack, inside the runtime; comes back when somebody made it
 * runnable.  For AFTER_PARK the waker is told by the park word. */
void sched_leave(struct task *t, enum after_switch after);

/* Does what the task that w was left by wanted done.  On the new context, inside the runtime. */
void finish_switch(struct worker *w);

/* Parks until the park word says WOKEN; resets it.  deadline only matters to bound tasks,
 * for whom it returns false when it passed. */
bool sched_park(struct task *t, ns_t deadline);

/* Fires the timers of h that are due.  Returns how many. */
int timers_fire(struct timer_heap *h, ns_t now);
void park_fork_child(void);

/* In a signal handler of a bound task: if it is parked, it looks up. */
void park_interrupt(struct task *t);

/* Whether t should not wait at all: it has a signal or a cancel to attend to.  By t, or under
 * the lock of the bucket that it is queued in. */
bool park_is_wanted(struct task *t);

/* A wait for something that park.c does not know (netpoll.c): park_queue() queues the calling
 * task, park_wait() parks it and tells the result, and park_take() ends the wait, if it has
 * not ended: true when the caller must push the task.  Inside the runtime. */
void park_queue(struct task *t);
int park_wait(struct task *t, ns_t deadline);
bool park_take(struct task *t, int result);

/* Removes t from its wait, if it still is in one, with this result; then readies it. */
bool park_cancel(struct task *t, int result);

/* Makes t see its attention, which the caller has set: ends its wait, or preempts it.  Inside
 * the runtime, and sysmon. */
void park_rouse(struct task *t);

_Noreturn void worker_loop(struct worker *w);

/* Brings t->cpu_tsc up to this moment.  By t itself, floating, inside the runtime. */
void sched_count_cpu(struct task *t);

/* Ticks that t, floating, has used; about, while somebody runs it, but never less than was
 * told before.  Anyone. */
uint64_t sched_cpu_so_far(struct task *t);

/* The life of a worker that is started for a bound task. */
_Noreturn void worker_run_bound(struct worker *w, struct task *t);
void sched_kick(void); /* a processor is idle and work was pushed: wake one worker */
void sched_push(struct task *t);

/* Starts a worker though nothing queues yet: there will be one.  False: see worker_start_new(). */
bool sched_start_worker(void);
bool work_anywhere(void); /* whether any task queues */
void proc_release(struct proc *p);
bool worker_start(struct proc *p, bool spinning);
void proc_hand_off(struct proc *p);

/* Takes p from a worker that announced the kernel, and hands it off.  False: it is back. */
bool retake_kernel_proc(struct proc *p);
void timer_wake_poller(ns_t when);
void worker_poke(struct worker *w);
void sched_wake_poller(void); /* it shall look again at how it sleeps */

/* Pushes tasks that are linked by next to w's processor, or to the global queue if it has
 * none.  Returns how many.  It wakes nobody: sched_kick(), if w does not run them all. */
int sched_push_chain(struct worker *w, struct task *chain);
struct worker *idle_list_pop_locked(void);
void sched_resize(int before, int after); /* moves n_procs; see procs_set() */
void task_first_run(void *task);

/* --- netpoll.c --------------------------------------------------------------------- */

/* Whether anybody has ever waited for a descriptor: then somebody must poll. */
bool netpoll_is_live(void);

/* Waits until descriptors are ready or until the deadline, 0 for not at all; returns the tasks
 * that this made runnable, linked by next, for the caller to push.  Workers and sysmon. */
struct task *netpoll(ns_t until);

/* Ends the sleep of the worker in netpoll(), or its next one.  Anyone. */
void netpoll_wake(void);
void netpoll_fork_child(void);

/* Before there is another kernel thread: the kernel's table of descriptors grows to hold
 * ours.  While it is shared, growing it waits until every CPU has scheduled (10 ms), and all
 * tasks that come to wait for a descriptor meanwhile would hold their kernel threads. */
void netpoll_prepare(void);

/* Moves a descriptor of ours, or an error, out of the program's way; returns where it is. */
int netpoll_own(int fd);

/* Whether the poller watches fd, which it then knows: uring.c's. */
bool netpoll_watch(int fd);

/* --- uring.c ----------------------------------------------------------------------- */

/* The ring's descriptor, or -1. */
int uring_fd(void);

/* Hands out the results that are there; tasks that this made runnable go on *chain. */
void uring_reap(struct task **chain);
void uring_fork_child(void);

/* --- worker.c ---------------------------------------------------------------------- */

/* Gives a worker of its own stack and TCB; tid is its kernel thread's, or 0.  Returns
 * -ENOMEM when there is no memory. */
int worker_init_self(struct worker *w);

/* Starts w's kernel thread in entry(w), with all signals blocked. */
bool worker_spawn(struct worker *w, void (*entry)(void *));

/* Starts a kernel thread for t alone, which is bound from the beginning and inherits what
 * the caller's has; t is published and not runnable yet.  0 or -EAGAIN.  Inside the
 * runtime. */
int worker_start_bound(struct task *t);

/* Puts the first worker's memory aside, before the runtime is awake.  False: no memory. */
bool worker_reserve(void);

/* Starts a worker that begins with p.  False: the machine has no memory or no kernel thread for
 * it. */
bool worker_start_new(struct proc *p, bool spinning);

/* Ends the calling worker, which runs no task any more and has no processor. */
_Noreturn void worker_exit(struct worker *w);

/* --- task.c ------------------------------------------------------------------------ */

/* After t's last switch: tells joiners, frees its slot.  Inside the runtime. */
void task_finish(struct task *t);
void task_init_main(void);
void task_fork_child(struct task *t);

/* The calling task's kernel thread is its own from now on: mask, signal stack, list of
 * robust mutexes. */
void task_own_thread(struct task *t);

/* By t outside the runtime, where its preemption has been refused: it looks up now, if it shall.
 * What always comes here may run all the time and still takes turns. */
void task_catch_up(struct task *t);

struct task *task_main(void);

/* Whether t is main as the program began with it, floats, and no other task is there, adopted
 * ones included. */
bool task_may_rest(const struct task *t);

/* sysmon: t is bound to the calling kernel thread, and sysmon's part to switch to it. */
void task_take_first_thread(struct task *t);

/* The same for main, which calls, when the runtime wakes for the first time. */
void task_keep_first_thread(struct task *t);

/* Whether t, which calls, need no longer be bound: it is so only while the runtime rests, and
 * nothing on its stack counts on it. */
bool task_may_float(const struct task *t);

/* By t, inside the runtime, before it leaves its kernel thread for a worker. */
void task_float(struct task *t);

/* The floating t has used so much CPU time until now, ns. */
void task_charge(struct task *t, ns_t used);

/* It stays bound, though the runtime wakes. */
void task_stays_bound(struct task *t);

/* Calls fn for every task alive until it returns false.  Tasks may come and go meanwhile. */
void tasks_for_each(bool (*fn)(struct task *, void *), void *arg);

/* The same for main and the adopted ones; whether fn never returned false. */
bool foreign_tasks_for_each(bool (*fn)(struct task *, void *), void *arg);

/* --- sysmon.c ---------------------------------------------------------------------- */

/* Held while a processor is taken away unannounced: see runtime_enter(). */
extern struct lock retake_lock __attribute__((visibility("hidden")));

/* sysmon's kernel thread: the process's first, once the runtime is awake. */
extern struct worker sysmon_worker __attribute__((visibility("hidden")));
_Noreturn void sysmon_loop(void);

/* The prober, one of all_workers, shall end; sysmon starts it again when it needs it.  sysmon. */
void prober_end(void);

/* In a fork's child: there is no sysmon yet. */
void sysmon_fork_child(void);

/* Ends sysmon's sleep, if it sleeps without end.  Anyone. */
void sysmon_wake(void);

/* The same, for who has found that it shall watch again. */
void sysmon_call_back(void);

/* A timer has expired that counts the process's CPU time: *who is the floating task that is to
 * have its signal, of those that run and do not block it, or NULL.  False: ask again at the next
 * look, for a worker is between two tasks.  sysmon. */
bool sysmon_ticked(uint64_t bit, struct task **who);

/* --- preempt.c --------------------------------------------------------------------- */

enum { SIG_PREEMPT = 32 };

/* Installs the handler.  0 or -E.  Once. */
int preempt_init(void);

/* Asks w's current task to look up: the handler decides.  Any worker or sysmon. */
void preempt_worker(struct worker *w);

/* In a signal handler: if what it interrupted is about to enter the kernel in
 * kernel_call_asm(), that returns CALL_REFUSED instead.  False: it is not. */
bool kernel_call_refuse(void *context);

enum { SYSCALL_SIZE = 2 };

/* Whether the instruction syscall lies there. */
bool is_syscall(uintptr_t pc);

/*
 * In a task, before a handler of the program's without SA_RESTART runs there: if our signal
 * met a call that waited, and had the kernel begin it again, the call returns -EINTR instead.
 */
void restarted_call_end(void *context);

/* A signal 32 has come to w, the calling kernel thread's; before it looks what for. */
void preempt_arrived(struct worker *w);

/* No signal 32 is on its way to anybody any more. */
void preempt_forget(void);

/*
 * In a signal handler on a worker's signal stack: makes the interrupted floating task go on,
 * when the handler returns, in preempted(): with sig 0 it looks up, else it runs the
 * handler of sig.  top is where the copy of context goes below; 0: the task's own stack.
 * False: there is no room.
 */
bool task_interrupt(struct task *t, void *context, uintptr_t top, int sig,
		    const siginfo_t *info);

/* Whether sp, the calling task's, is where it stands aside. */
bool task_is_aside(const struct task *t, uintptr_t sp);

/* A worker's first act: its signal stack and mask. */
void preempt_setup_thread(struct worker *w);
void preempt_setup_sysmon(struct worker *w);

/* --- signal.c ---------------------------------------------------------------------- */

/* Whether sp lies on t's alternate signal stack. */
bool signal_is_on_altstack(const struct task *t, uintptr_t sp);

/* What every worker blocks: all but faults, what writes raise, and our own signals. */
extern uint64_t worker_sigmask __attribute__((visibility("hidden")));

/* Takes over the program's handlers and the caller's mask.  Once, by main. */
void signal_init(struct task *main_task);
void signal_task_start(struct task *t);

/* t has ended: it is TASK_DONE, and no signal is pending for it any more. */
void signal_task_end(struct task *t);

/* Its part of task_leave_waits(). */
void signal_leave_waits(struct task *t);

/* Runs the handlers of t's pending signals, by t itself outside the runtime. */
void signal_deliver(struct task *t);

/* Runs the program's handler of sig, if it has one, on the current stack; context is the
 * kernel's ucontext of the interrupted code, or NULL.  By t itself, outside the runtime. */
void signal_run_handler(struct task *t, int sig, siginfo_t *info, void *context);

/* The calling task's kernel thread, which is its own now, gets its mask and its alternate
 * stack. */
void signal_bind(struct task *t);

/* Whether a task is alone on its kernel thread, and no worker is there or may come. */
void signal_set_alone(bool on);

/* What a bound task's kernel thread blocks: its mask, but for what must come through. */
uint64_t signal_kernel_mask(uint64_t mask);
void signal_set_kernel_mask(uint64_t mask);

/* What rt_sigreturn shall set from a frame on t's stack: its worker's signal stack and mask,
 * or the task's own if it is bound. */
void signal_frame_settings(const struct task *t, stack_t *stack, uint64_t *mask);

/* SIGSYS comes to dispatch_serve() from now on, whatever action the program has for it. */
void signal_serve_calls(void);

/* sysmon: routes what arrived for the process. */
void signal_route(void);

/* sysmon's sleep, in which it receives the process's signals. */
void signal_sleep(const struct timespec *ts);
void signal_fork_child(struct task *t);

/* --- rest.c ------------------------------------------------------------------------ */

enum rest {
	REST_OFF,
	REST_CLOSING, /* sysmon ends the workers */
	REST_ON, /* main is bound to the first kernel thread, and there is no other */
};

/* Held while the runtime goes to sleep again, until main has its kernel thread, and while it
 * wakes up from there. */
extern struct lock rest_lock __attribute__((visibility("hidden")));

/* Whether workers shall end as soon as they have nothing to do. */
bool rest_is_closing(void);

/* An adopted thread's first act, once it is counted: nobody comes while workers end. */
void rest_wait(void);

/* sysmon: asks main to look up when it has been alone for long; since is when that was first
 * seen, or NO_DEADLINE.  Returns it. */
ns_t rest_look(ns_t since, ns_t now);

/* sysmon: if main has left its worker in runtime_rest(), gives it the kernel thread, and does not
 * return. */
void rest_begin(void);

/* --- shrink.c ---------------------------------------------------------------------- */

/* Looks at so many tasks, each time at others, and shrinks the stacks of those that have been
 * parked for longer than patience.  sysmon. */
void stacks_shrink(uint32_t most, ns_t patience);

/* --- setid.c ----------------------------------------------------------------------- */

/* Held while kernel threads are started, and during a set*id broadcast. */
extern struct lock setid_lock __attribute__((visibility("hidden")));
void setid_handle(struct worker *w);

/* The system call nr in every kernel thread, as setid_call. */
long call_everywhere(long nr, long a, long b, long c, long d);

void setid_inherit(struct worker *w);

/* --- debug.c ----------------------------------------------------------------------- */

struct pgreen_debug;
void debug_publish(void); /* once, before the runtime is awake */

/* Each tells where its own data are. */
void task_publish(struct pgreen_debug *d);
void slot_publish(struct pgreen_debug *d);
void sysmon_publish(struct pgreen_debug *d);

/* --- dispatch.c ------------------------------------------------------------------------ */

/* A kernel thread's first act: what code of its own calls comes to us there too. */
void dispatch_setup_thread(void);
void dispatch_fork_child(void);

/* In the handler of SIGSYS, on the caller's own stack: makes the call that was stopped. */
void dispatch_serve(struct task *t, void *context);

/* --- diag.c ------------------------------------------------------------------------ */
_Noreturn void fatal(const char *what, long value);

#endif
