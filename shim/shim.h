/* SPDX-License-Identifier: MIT */
/*
 * shim.h: what the wrappers may ask of the runtime; the only header of shim/ that
 * interpose/ includes.
 *
 * A wrapper finds the calling task with task_self().  NULL means that the runtime
 * sleeps (the program has not created a thread) and the real function serves.  All
 * waiting goes through one of the doors below.  Errors come back as -E; nothing here
 * touches errno, allocates with malloc, or calls a function that is wrapped.
 *
 * Unless said otherwise a function may be called by tasks only, floating or bound, and
 * not by signal handlers.
 */
#ifndef PGREEN_SHIM_H
#define PGREEN_SHIM_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <time.h>

typedef int64_t ns_t; /* nanoseconds, of CLOCK_MONOTONIC where it is a point in time */

#define NO_DEADLINE INT64_MAX

struct task;

/* --- who am I --------------------------------------------------------------------- */

/* The task that the calling kernel thread runs; NULL in a kernel thread that is not
 * ours.  The runtime's only thread-local: it lies in the task's own TLS, so it is right
 * on every worker, and its address may not be kept across a switch. */
extern __thread struct task *self_task;

/* Adopts a kernel thread that we did not start; NULL while the runtime sleeps. */
struct task *task_self_slow(void);

/* The calling task, NULL while the runtime sleeps.  Any kernel thread. */
static inline struct task *task_self(void)
{
	struct task *t = self_task;

	return __builtin_expect(t != NULL, 1) ? t : task_self_slow();
}

/* Tasks have tids from here on, but for main and the adopted: the kernel's lie below (its
 * PID_MAX_LIMIT). */
enum { FIRST_TASK_TID = 1 << 22 };

/* The first word of every task is its tid, for the fast path of mutexes. */
static inline int task_tid(const struct task *t)
{
	return *(const int *)t;
}

/* --- what a task waits for, for `pgreen dump` ---------------------------------------- */

enum wait_kind {
	WAIT_WORD, /* somebody is to change a word */
	WAIT_MUTEX,
	WAIT_COND,
	WAIT_READ, /* a read-write lock */
	WAIT_WRITE,
	WAIT_BARRIER,
	WAIT_SEMAPHORE,
	WAIT_ONCE,
	WAIT_FUTEX, /* the program's own */
	WAIT_JOIN,
	WAIT_SLEEP,
	WAIT_SIGNAL,
	WAIT_DESCRIPTOR,
	WAIT_DISK,
};

/* Says what t's next wait by park_on() or lock_slow() is for, and the object's address as the
 * program knows it.  By t itself; what is left unsaid shows as a word. */
void task_waits_for(struct task *t, enum wait_kind kind, const void *object);

/* --- door 1: memory ---------------------------------------------------------------- */

/*
 * Parks the caller while *addr == expected, until a wake, the deadline or a signal.
 * Returns 0 when woken, -EAGAIN when *addr differed, -ETIMEDOUT, -EINTR when a handler
 * ran or a cancel is pending.  A wake is never lost and never spent on a waiter that
 * returns anything but 0.
 */
int park_on(_Atomic uint32_t *addr, uint32_t expected, ns_t deadline);

/* As park_on, but only wakes whose bits meet this waiter's end it (FUTEX_WAIT_BITSET). */
int park_on_bits(_Atomic uint32_t *addr, uint32_t expected, uint32_t bits, ns_t deadline);

/* Makes at most n waiters of addr runnable, oldest first.  Returns how many.  Also
 * callable by workers and signal handlers that interrupted a task outside the runtime. */
int wake(const _Atomic uint32_t *addr, int n);

/* The program's own futexes: as wake(), of those whose bits meet these. */
int wake_bits(const _Atomic uint32_t *addr, int n, uint32_t bits);

/* Set before somebody waits for such a futex in the kernel, and for good: wake_bits() and
 * requeue() are then for both.
 *	waiter: set it; the kernel looks at the word and enqueues
 *	waker:  change the word; fence; is it set?  wake in the kernel
 */
extern _Atomic bool futexes_wait_in_kernel __attribute__((visibility("hidden")));

/* If *from == expected (checked when check), wakes n_wake waiters of from and moves up to
 * n_move of the rest to wait on to.  Returns the number woken plus moved, or -EAGAIN. */
int requeue(_Atomic uint32_t *from, _Atomic uint32_t *to, int n_wake, int n_move,
	    bool check, uint32_t expected);

/*
 * The lock words of a mutex, with glibc's meaning: 0 free, 1 held, 2 held and somebody
 * may wait.  lock_slow takes a word that the caller failed to take (0, -ETIMEDOUT);
 * others_wait is for who was woken from the word's queue by a moved wait: it must leave 2
 * behind, or those that wait after it are never woken.
 * unlock_slow gives up a word that was 2: it wakes the first waiter, or hands the lock
 * to one that has starved: over a millisecond, and once it was woken and came too late.
 */
int lock_slow(_Atomic uint32_t *word, bool others_wait, ns_t deadline);
void unlock_slow(_Atomic uint32_t *word);

/* libc's own code is about to give up the word, which the caller holds, and to take it again. */
void lock_with_libc(_Atomic uint32_t *word);

/* When the runtime woke first, the process had other kernel threads, libc's own.  They may wait
 * in libc, and so in the kernel, for what tasks now give up: each wake is for both, and objects
 * whose words say who waits are left to libc.  It does not change after that. */
extern bool elders_wait __attribute__((visibility("hidden")));

/*
 * A condition variable's queue is keyed by its address and needs no word of it.
 * cond_park: enqueues the caller on cond, calls release(arg) (which unlocks the mutex and
 * may neither park nor leave the runtime), and parks.  *result is 0 when signalled, -ETIMEDOUT,
 * or -EINTR for a cancel, or when after a handler it is not known whether it was signalled; it
 * holds also where a cancel acts and the call does not return.
 * mutex_word, when not NULL, is the mutex's lock word: a signal that finds it held moves
 * the waiter there instead of waking it.  *result is then COND_GRANTED when the
 * mutex was handed to the caller, or COND_MOVED: it must be taken with lock_slow, since
 * others may wait behind.
 */
void cond_park(const void *cond, _Atomic uint32_t *mutex_word, void (*release)(void *),
	       void *arg, ns_t deadline, int *result);
enum { COND_MOVED = 1, COND_GRANTED = 2 };

/* Signals at most n waiters of cond.  Also callable by workers. */
void cond_wake(const void *cond, int n);

/* --- door 2: descriptors ------------------------------------------------------------ */

/*
 * A wrapper tries first, without blocking; where that gives EAGAIN, and the program has not
 * set O_NONBLOCK itself, it waits here and tries again.  A wait that ends with 0 says "look
 * again", and nothing more.  A bound task blocks in its own kernel thread: here it gets
 * -EPERM, for it may be bound at any moment.
 *
 * fd_generation() counts the closings of a descriptor number that we know of.  Who waits
 * tells the count from before its first try: a number that was closed meanwhile, and perhaps
 * is another file's by now, ends the wait with -EBADF.
 */
uint32_t fd_generation(int fd);

/* Parks until fd is ready for one of events (POLLIN, POLLOUT, POLLPRI), or has an error or
 * hang-up.  Of several tasks that wait here for the same event the oldest is woken, and the
 * next when it has had its turn.  0; -ETIMEDOUT; -EINTR; -EBADF: closed; -EPERM: cannot be
 * polled, so door 4 it is; -ENOMEM. */
int fd_wait(int fd, short events, uint32_t generation, ns_t deadline);

/* Parks until one of n descriptors is ready for its events; all tasks that wait so are woken,
 * as by poll().  revents are not touched, and the rest must stay as it is meanwhile: not the
 * program's own array, which its other threads may change.  Results as fd_wait's, but that a
 * descriptor that is closed meanwhile gives 0. */
struct pollfd;
int fds_wait(const struct pollfd *fds, unsigned n, ns_t deadline);

/* To be called before and after descriptors first to last are closed or replaced: the first
 * counts the generation up, both end the waits. */
void fds_closing(unsigned first, unsigned last);
void fds_closed(unsigned first, unsigned last);

/* While this holds, what is closed stays open a little longer: see the prober, sysmon.c. */
extern _Atomic bool fds_are_held;

/* Whether fd is the runtime's own, which no program may close or replace.  Anyone. */
bool fd_is_ours(int fd);

/* What interpose keeps for fd, for what it found out about it; 0 after each closing
 * that we know of.  NULL: fd is negative or beyond what we keep. */
_Atomic uint16_t *fd_hint(int fd);

/* PGREEN_SHAKE=io: at every chance wrappers pretend that nothing is ready, that less can be
 * moved, and that a signal of ours came by; for tests. */
extern bool shake_io __attribute__((visibility("hidden")));

/* Reads a file at an offset while the task is parked.  The count, or -ENOSYS: it is one for
 * door 4, for want of io_uring or because something is wrong, which the kernel then says. */
struct iovec;
long disk_read(int fd, const struct iovec *v, int n, int64_t offset);

/* --- door 3: time ------------------------------------------------------------------ */

ns_t now_ns(void); /* CLOCK_MONOTONIC.  Anyone. */

/* Parks until the deadline: 0, or -EINTR. */
int sleep_until(ns_t deadline);

/* Lets others run: the caller goes to the tail of the global queue. */
void task_yield(void);

/* --- door 4: the kernel ------------------------------------------------------------ */

/*
 * The system call nr in the caller's kernel thread, announced: its processor may be given
 * to others while the kernel blocks it.  Returns the kernel's answer, -errno.  When
 * interruptible, a signal or cancel for this task makes it -EINTR without fail, also one
 * that arrives just before the kernel is entered (the handler has then run already).
 */
long kernel_call(long nr, long a, long b, long c, long d, long e, long f);

/* The same, which sets *begun if the kernel was asked at all: natively a handler that runs
 * before the call is begun does not end it, and a file's write never fails with EINTR. */
long kernel_try(bool *begun, long nr, long a, long b, long c, long d, long e, long f);

/* Whether our own signal met the caller's last kernel_call: a write may have been left half
 * done for that alone. */
bool kernel_was_cut(const struct task *t);

/* The same for a libc function that blocks inside: announce, call, come back. */
void enter_kernel(void);
void leave_kernel(void);

/*
 * From here on the system calls that the code in [low, low + size) makes by instructions of
 * its own go to host.system_call.  One such range.  0, -EBUSY: there is another; -EINVAL:
 * this kernel cannot do it.
 */
int calls_dispatch(uintptr_t low, size_t size);

/* --- a task's life ------------------------------------------------------------------ */

struct task_spec {
	size_t stack_size; /* bytes wanted below the TLS; ignored when stack is given */
	size_t guard_size; /* bytes, 0 for none */
	void *stack;       /* the program's own stack: its low end, or NULL */
	size_t stack_len;  /* of stack, bytes */
	bool detached;
	bool
	    bound; /* with a kernel thread of its own, which inherits from the creator's */
	bool c11;  /* start returns int */
	uint64_t sigmask;
	void *(*start)(void *);
	void *arg;
	void (*prepare)(struct task *t,
			const void *arg); /* before it may run, by the creator */
	const void *prepare_arg;
};

/* What interpose hands over: the runtime's way to libc and to the wrappers' state. */
struct host {
	/* Makes and joins one thread of libc's own, which calls probe(): libc then knows that
	 * the program has threads.  0 or an errno. */
	int (*first_thread)(void (*probe)(void));
	/* The life of a new task: runs its start routine and ends with task_exit(). */
	void (*task_main)(struct task *t);
	/* A kernel thread was adopted: see to it that task_unadopt() is called at its end. */
	void (*adopted)(struct task *t);
	/* libc's exit(). */
	void (*exit_process)(int status);
	/* libc's abort(). */
	void (*abort_process)(void);
	/* libc's own, and no other library's: workers and sysmon have no thread-locals for it. */
	int (*clock_gettime)(clockid_t clock, struct timespec *ts);
	/* A system call that the task's code made by an instruction of its own: -E. */
	long (*system_call)(struct task *t, long nr, const long args[6]);
	/* Acts on a pending cancel, if the task allows it now; may not return. */
	void (*cancel_now)(struct task *t);
	/* Called by t after task_ask(t), outside the runtime, where its own code may be in the
	 * middle of anything. */
	void (*asked)(struct task *t);
};
extern struct host host __attribute__((visibility("hidden")));

/* Wakes the runtime if it sleeps or rests.  0 or -E.  The first time it is called by the
 * program's first thread. */
int runtime_start(void);

/* While the runtime sleeps: main shall have the process's first kernel thread, which it has now,
 * also when it wakes. */
void runtime_keep_thread(void);

/* If the caller is main, and alone, the runtime goes to sleep again: t is bound to the process's
 * first kernel thread, and that is its only one, if none is libc's own.  False: not now. */
bool runtime_rest(struct task *t);

bool runtime_is_live(void);

/* A line on stderr, after "pgreen: ".  Anyone, anywhere. */
void message(const char *text);

/* Awake, and with workers: not while it rests, nor in a forked child that has created no
 * thread yet. */
bool runtime_is_running(void);

/* PGREEN_STACK, or 0: bytes of stack for tasks whose creator does not say. */
size_t runtime_stack_size(void);

/* PGREEN_NATIVE: patterns with commas between them, or an empty string. */
const char *runtime_native(void);

/* Runs the destructors of the calling task's keys, as POSIX wants, and forgets its values.
 * Called by a task at its end, outside the runtime. */
void keys_destroy(void);

/* The end of an adopted kernel thread. */
void task_unadopt(struct task *t);

/* Creates a task, ready to run, and stores its pthread_t.  0, -EAGAIN, -ENOMEM. */
int task_create(const struct task_spec *spec, uintptr_t *id);

/* Ends the calling task; what belongs to libc has been cleaned up by the caller. */
_Noreturn void task_exit(void *result);

/* The task of a pthread_t, or NULL when it cannot be one.  Anyone. */
struct task *task_of(uintptr_t id);

/* Whether a pthread_t is that of a thread that libc made, adopted or not: its to join. */
bool task_is_libcs(uintptr_t id);

/* What join and detach say of an id that is no task's any more: -EINVAL for one that was
 * detached, else -ESRCH, as libc's. */
int task_gone_error(uintptr_t id);

/* Waits for t's end: 0 and its result, -ETIMEDOUT, -EINTR, -EDEADLK, -EINVAL. */
int task_join(struct task *t, ns_t deadline, void **result);
int task_detach(struct task *t); /* 0 or -EINVAL */

/* t, which calls, ends: perhaps unwound from the middle of a join, sigwait or the like, which
 * would itself have cleared up behind it. */
void task_leave_waits(struct task *t);
bool task_is_done(const struct task *t);
struct task *task_of_tid(int tid); /* NULL when there is none */

bool task_is_bound(const struct task *t);
bool task_is_main(const struct task *t);
bool task_is_adopted(const struct task *t);
bool task_is_detached(const struct task *t);
void *task_start_routine(const struct task *t, void **arg, bool *c11);
char *task_name(struct task *t);           /* 16 bytes */
bool task_has_stack(const struct task *t); /* a slot's, or the program's own */
void task_get_stack(const struct task *t, void **low, size_t *size, size_t *guard);

/* t's stack may hold what is in use below its stack pointer: it is never shrunk. */
void task_keep_stack(struct task *t);

/* Counts a spinlock held: the holder is not preempted (trap 8). */
void task_hold_spin(struct task *t, int delta);

/* What stands for t's tid in the id of its CPU clock, which has room for 28 bits (the kernel's
 * encoding: ~tid << 3 | kind, and negative); and the task of such a one, or NULL. */
int task_clock_tid(const struct task *t);
struct task *task_of_clock_tid(int tid);

/* CPU time that t has used, ns. */
ns_t task_cpu_ns(struct task *t);

/* Number of tasks alive, main included, adopted ones not. */
int task_count(void);

/* While on, a pending cancel ends the caller's waits with -EINTR. */
void task_set_cancel_point(struct task *t, bool on);

/* While on, it ends all of them, and host.cancel_now acts: asynchronous cancellation. */
void task_set_cancel_anywhere(struct task *t, bool on);

/* Storage for interpose's own state of a task: 224 bytes, zero in a new task. */
struct task_ext *task_ext(struct task *t);

/* --- binding ----------------------------------------------------------------------- */

/*
 * A floating task takes its kernel thread for its own, and keeps it to its end.  Its
 * processor goes to the others.  Nothing happens to a bound one.
 */
void task_bind(struct task *t);

/* The system call nr, which does not block and changes the calling kernel thread alone: if
 * it succeeds the caller is bound, and what it creates from then on is bound too and
 * inherits.  Returns the kernel's answer. */
long task_bind_call(struct task *t, long nr, long a, long b, long c, long d, long e);

/* Whether t is main and the runtime rests: it is bound for so long only. */
bool task_rests(const struct task *t);

/* A bound task's kernel thread; 0 for a floating one. */
int task_kernel_tid(const struct task *t);

/* A kernel thread that has what t's has: its own, or for a floating task one that no task
 * can change.  0: the caller's own does. */
int task_twin_tid(const struct task *t);

/* While on, the bound caller's TCB has the tid of its kernel thread, not its virtual one:
 * what libc writes into an object then means something to the kernel and other processes. */
void task_set_identity(struct task *t, bool on);

/* libc has put something into t's TCB that no later task may find there, and that nobody can
 * clear: it is not used again. */
void task_keep_tcb(struct task *t);

/* The calling task's list of robust mutexes, which libc keeps in its TCB: a node as of
 * struct __pthread_internal_list. */
void *libc_robust_list(void);

/* What is left on that list when t ends the kernel finds when the kernel thread does. */
void task_leave_robust(struct task *t, void *list);

/* Somebody changed the kernel thread of t, which is bound: as if t had by task_bind_call. */
void task_set_apart(struct task *t);

/* Makes t call host.asked() soon, wherever it is. */
void task_ask(struct task *t);

/* --- signals ----------------------------------------------------------------------- */

/* The kernel's own struct sigaction, which libc's is not. */
struct kernel_sigaction {
	void *handler;
	unsigned long flags;
	void *restorer;
	uint64_t mask;
};

/* Sets and tells the program's action, as rt_sigaction.  0 or -EINVAL. */
int signal_action(int sig, const struct kernel_sigaction *act,
		  struct kernel_sigaction *old);

/* Sends info->si_signo to t.  0 or -EAGAIN.  Tasks outside the runtime. */
int signal_post(struct task *t, const siginfo_t *info);

/* The system call a[0], which does not block; what it raises is t's.  Here, where no handler
 * can come between and make t go on in another kernel thread. */
long signal_call(struct task *t, const long a[7]);

/* Sends a signal to the own process, to a task that does not block it, without the detour
 * by the kernel.  0, -EAGAIN, or -ENOENT: it has no handler, and the kernel must act. */
int signal_post_process(const siginfo_t *info);

/* Whether sig has a handler and main takes it, when it is sent to the process: the kernel asks
 * main first, whoever sends. */
bool signal_is_mains(int sig);

/* After the kernel itself was made to send sig, perhaps to this process: returns when it has
 * been given to a task, and its handler has run if that is the caller.  The caller does not
 * block it. */
void signal_settle(struct task *t, int sig);

/* The same for all that the kernel would give to main, the caller: what others sent before
 * something that main has just learned from the kernel. */
void signal_settle_mains(struct task *t);

/* As signal_settle() for each signal that has a handler and is t's to handle, not main's. */
void signal_settle_own(struct task *t);

/* The caller's mask.  Setting it runs the handlers of what is open now. */
void signal_set_mask(struct task *t, uint64_t mask);
uint64_t signal_get_mask(const struct task *t);
uint64_t signal_pending(struct task *t);

/* As sigaltstack, for the caller.  0 or -E. */
int signal_altstack(struct task *t, const stack_t *stack, stack_t *old);

/* The caller jumps to where its stack pointer is sp: handlers that it leaves behind are over.
 * saved, when not NULL, is the mask that the kernel thread had when the jump was prepared:
 * the task's from before those handlers is put back. */
void signal_leave_handlers(struct task *t, uintptr_t sp, const uint64_t *saved);

/* As sigtimedwait: the signal's number, -EAGAIN at the deadline, or -EINTR. */
int signal_wait(struct task *t, uint64_t set, siginfo_t *info, ns_t deadline);

/* As sigsuspend: -EINTR, after a handler ran or a cancel came. */
int signal_suspend(struct task *t, uint64_t mask);

/* Whether a handler without SA_RESTART ran since the last question: a wait or system call
 * that returned -EINTR then fails with EINTR, else it is made again. */
bool signal_take_eintr(struct task *t);

/* How many handlers have run on t: whether any ran during a call. */
uint32_t signal_handlers_run(const struct task *t);

/* From now on, until told otherwise, the task does not wait any more once a handler has run:
 * also one that ran before the wait was begun, in code that can be preempted. */
void signal_ends_waits(struct task *t, bool on);

/*
 * Around exec: while held, our own signal is ignored, in every task.  exec resets what is
 * handled, but not what is ignored: one that sysmon sends as the old program goes would end
 * the new one (libc ignores its internal signals in posix_spawn's children likewise).
 */
void preempt_hold(bool hold);

/* Around fork, exec and spawn: the kernel thread's mask is the task's own, to inherit. */
void signal_expose_mask(struct task *t);
void signal_hide_mask(struct task *t);

/* Around exec, before the mask is exposed: what t blocks, and is pending for t and the process with
 * us, is pending for the kernel thread too, where the new program finds it.  Returns how many,
 * to be hidden again when exec has failed. */
int signal_show_pending(struct task *t);
void signal_hide_pending(struct task *t, int n);

/*
 * The registers and floating-point settings of a ucontext_t, as libc saves and loads them; its
 * mask is left alone.  context_save() and context_swap() save those of their caller, and return
 * 0, perhaps once more, when the context is loaded.
 */
int context_save(void *context) __attribute__((returns_twice));
int context_swap(void *from, const void *to);
_Noreturn void context_load(const void *context);

/* What returns here calls the function in r12 with the argument in r13, which do not return. */
extern const char switch_first[] __attribute__((visibility("hidden")));

/* Makes t look for a pending cancel, parked or running. */
void task_notice_cancel(struct task *t);
void task_clear_cancel(struct task *t);

/* In host.cancel_now: whether the task was met in a system call of libc's, where libc's own
 * cancellation would act. */
bool task_at_wait(const struct task *t);

/*
 * Libc's own cancellation points, which it has inside stdio and other functions that do not
 * reach the wrappers.  It looks at its own record of the thread's state; see cancel.c.
 */

/* The calling task's list of cleanup buffers that libc itself keeps, in its TCB. */
struct _pthread_cleanup_buffer **libc_cleanup_buffers(void);

/* Makes a jump buffer, which was filled where the stack was about here, one that libc's
 * unwinding reaches at its first step.  False: it is not as we know it. */
bool libc_unwind_at_once(void *jump, const void *stack);

void libc_allow_cancel(bool on); /* the caller: off before it ends */
void libc_set_cancel_state(bool disabled);

/* Whether a cancel is noticed and t stands at a cancellation point. */
bool task_cancel_wanted(const struct task *t);

/* A protection key is in use: what keys allow is each task's own from now on. */
void switch_keep_pkru(void);

/* --- processors ------------------------------------------------------------------- */

/* Sets the number of processors while running; 0 asks.  Returns the former number, or
 * -EINVAL. */
int procs_set(int n);

/* --- fork -------------------------------------------------------------------------- */

/* In the child, by the task that forked: it is the only task now, bound to the only kernel
 * thread; the runtime starts anew when it creates another. */
void fork_child(void);

/* --- set*id ------------------------------------------------------------------------ */

/* The system call nr (setuid and kin) in every kernel thread.  0 or -errno. */
long setid_call(long nr, long a, long b, long c);

#endif
