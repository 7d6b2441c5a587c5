/* SPDX-License-Identifier: MIT */
/*
 * process.c: fork, exec, spawn and wait.
 *
 * fork is libc's own.  The runtime is told of the child by a handler of at_fork() that
 * is registered before all others: so in the child it runs first, and the program's handlers
 * find a runtime that knows itself to be alone.  It also serves the forks inside libc
 * (daemon, forkpty).
 *
 * A new program inherits the mask of the kernel thread that calls exec.  That is the
 * worker's, and becomes the task's own for the length of the call, in which the task is not
 * preempted: it must not leave a worker behind with that mask. It inherits too what is pending
 * in the kernel, so what waits with us is shown there.
 */
#include "inlined.h"
#include "popen.h"
#include "schedule.h"

#include <stdarg.h>
#include <stddef.h>
#include <sys/resource.h>

/* --- fork ------------------------------------------------------------------------------ */

static void before_fork(void)
{
	/* A kernel thread that is not ours is adopted now: the child must be a task. */
	task_self();
}

static void shells_fork_child(void);

static void in_child(void)
{
	/* Its lock is taken where threads are native as well. */
	popen_fork_child();
	if (self_task == NULL)
		return;
	fork_child();
	inlined_fork_child();
	sched_fork_child();
	shells_fork_child();
}

__attribute__((constructor)) static void watch_fork(void)
{
	at_fork(before_fork, NULL, in_child);
}

EXPORT pid_t fork(void)
{
	return real.fork();
}
ALIAS(__fork, fork);

/* No handlers run, not even ours. */
EXPORT pid_t _Fork(void)
{
	before_fork();
	pid_t pid = real._Fork();

	if (pid == 0)
		in_child();
	return pid;
}

/* What vfork is at this moment.  The child of a real one would run our wrappers in the
 * parent's memory. */
__attribute__((used)) static pid_t (*vfork_now(void))(void)
{
	return task_self() == NULL ? real.vfork : real.fork;
}

/* The real one returns twice to our caller, whose frame is then the lowest: it has to be
 * jumped to, with nothing of ours on the stack. */
EXPORT __attribute__((naked)) pid_t vfork(void)
{
	__asm__("subq $8, %rsp\n\t"
		"call vfork_now\n\t"
		"addq $8, %rsp\n\t"
		"jmp *%rax");
}
ALIAS(__vfork, vfork);

/* --- exec ------------------------------------------------------------------------------ */

/* Returns how many signals are to be hidden again. */
static int exec_begin(struct task *t)
{
	task_hold_spin(t, 1);
	preempt_hold(true);
	int n = signal_show_pending(t);
	signal_expose_mask(t);
	return n;
}

static int exec_failed(struct task *t, int n_pending)
{
	signal_hide_pending(t, n_pending);
	signal_hide_mask(t);
	preempt_hold(false);
	task_hold_spin(t, -1);
	return -1;
}

long process_exec(struct task *t, long nr, const long a[6])
{
	int n = exec_begin(t);

	real.syscall(nr, a[0], a[1], a[2], a[3], a[4]);
	exec_failed(t, n);
	return -errno;
}

EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	struct task *t = task_self();

	if (t == NULL)
		return real.execve(path, argv, envp);
	int n_pending = exec_begin(t);
	real.execve(path, argv, envp);
	return exec_failed(t, n_pending);
}

EXPORT int execv(const char *path, char *const argv[])
{
	struct task *t = task_self();

	if (t == NULL)
		return real.execv(path, argv);
	int n_pending = exec_begin(t);
	real.execv(path, argv);
	return exec_failed(t, n_pending);
}

static int exec_in_path(const char *file, char *const argv[], char *const envp[])
{
	struct task *t = task_self();

	if (t == NULL)
		return real.execvpe(file, argv, envp);
	int n_pending = exec_begin(t);
	real.execvpe(file, argv, envp);
	return exec_failed(t, n_pending);
}

EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
	return exec_in_path(file, argv, envp);
}

EXPORT int execvp(const char *file, char *const argv[])
{
	return exec_in_path(file, argv, environ);
}

EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
	struct task *t = task_self();

	if (t == NULL)
		return real.fexecve(fd, argv, envp);
	int n_pending = exec_begin(t);
	real.fexecve(fd, argv, envp);
	return exec_failed(t, n_pending);
}

EXPORT int execveat(int dir, const char *path, char *const argv[], char *const envp[],
		    int flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.execveat(dir, path, argv, envp, flags);
	int n_pending = exec_begin(t);
	real.execveat(dir, path, argv, envp, flags);
	return exec_failed(t, n_pending);
}

/* How many arguments there are from first on, without the NULL that ends them. */
static size_t count_args(const char *first, va_list args)
{
	size_t n = 0;

	for (const char *arg = first; arg != NULL; arg = va_arg(args, const char *))
		n++;
	return n;
}

/* Takes them and the NULL. */
static void take_args(char **argv, const char *first, va_list *args)
{
	const char *arg = first;

	for (; arg != NULL; arg = va_arg(*args, const char *))
		*argv++ = (char *)arg;
	*argv = NULL;
}

/* On the stack, as libc keeps them: exec is called where malloc must not be. */
EXPORT int execl(const char *path, const char *arg, ...)
{
	struct task *t = task_self();
	va_list args;

	va_start(args, arg);
	size_t n = count_args(arg, args);
	va_end(args);
	char *argv[n + 1];
	va_start(args, arg);
	take_args(argv, arg, &args);
	va_end(args);
	if (t == NULL)
		return real.execv(path, argv);
	int n_pending = exec_begin(t);
	real.execv(path, argv);
	return exec_failed(t, n_pending);
}

EXPORT int execle(const char *path, const char *arg, ...)
{
	struct task *t = task_self();
	va_list args;

	va_start(args, arg);
	size_t n = count_args(arg, args);
	va_end(args);
	char *argv[n + 1];
	va_start(args, arg);
	take_args(argv, arg, &args);
	char **envp = va_arg(args, char **);
	va_end(args);
	if (t == NULL)
		return real.execve(path, argv, envp);
	int n_pending = exec_begin(t);
	real.execve(path, argv, envp);
	return exec_failed(t, n_pending);
}

EXPORT int execlp(const char *file, const char *arg, ...)
{
	va_list args;

	va_start(args, arg);
	size_t n = count_args(arg, args);
	va_end(args);
	char *argv[n + 1];
	va_start(args, arg);
	take_args(argv, arg, &args);
	va_end(args);
	return exec_in_path(file, argv, environ);
}

/* --- spawn ----------------------------------------------------------------------------- */

/* libc's spawn, with the task's mask for the child unless the program gave one. */
static int spawn(struct task *t, __typeof__(posix_spawn) *real_spawn, pid_t *pid,
		 const char *path, const posix_spawn_file_actions_t *actions,
		 const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	posix_spawnattr_t with_mask;
	short flags;

	if (attr != NULL)
		with_mask = *attr;
	else
		posix_spawnattr_init(&with_mask);
	posix_spawnattr_getflags(&with_mask, &flags);
	if (!(flags & POSIX_SPAWN_SETSIGMASK)) {
		sigset_t mask = {{signal_get_mask(t)}};

		posix_spawnattr_setflags(&with_mask, flags | POSIX_SPAWN_SETSIGMASK);
		posix_spawnattr_setsigmask(&with_mask, &mask);
	}
	/* It returns when the child has called exec. */
	enter_kernel();
	int r = real_spawn(pid, path, actions, &with_mask, argv, envp);
	leave_kernel();
	return r;
}

EXPORT int posix_spawn(pid_t *pid, const char *path,
		       const posix_spawn_file_actions_t *actions,
		       const posix_spawnattr_t *attr, char *const argv[],
		       char *const envp[])
{
	struct task *t = task_self();

	if (t == NULL)
		return real.posix_spawn(pid, path, actions, attr, argv, envp);
	return spawn(t, real.posix_spawn, pid, path, actions, attr, argv, envp);
}

EXPORT int posix_spawnp(pid_t *pid, const char *file,
			const posix_spawn_file_actions_t *actions,
			const posix_spawnattr_t *attr, char *const argv[],
			char *const envp[])
{
	struct task *t = task_self();

	if (t == NULL)
		return real.posix_spawnp(pid, file, actions, attr, argv, envp);
	return spawn(t, real.posix_spawnp, pid, file, actions, attr, argv, envp);
}

/* --- system ---------------------------------------------------------------------------- */

/*
 * Not libc's: it would wait with the task's mask on a worker, and restore actions that the
 * program may have changed through us meanwhile.
 *
 * SIGINT and SIGQUIT are the shell's as long as any system() is under way.
 */
static struct {
	_Atomic uint32_t lock; /* of what follows; words as a mutex's */
	int n_running;
	struct kernel_sigaction interrupt, quit; /* what the program had */
} shells;

static void shells_acquire(void)
{
	uint32_t free = 0;

	/* Pairs with shells_release(): what the last holder wrote is visible. */
	if (!atomic_compare_exchange_strong_explicit(
		&shells.lock, &free, 1, memory_order_acquire, memory_order_relaxed))
		lock_slow(&shells.lock, false, NO_DEADLINE);
}

static void shells_release(void)
{
	uint32_t held = 1;

	/* Pairs with shells_acquire() and lock_slow(). */
	if (!atomic_compare_exchange_strong_explicit(
		&shells.lock, &held, 0, memory_order_release, memory_order_relaxed))
		unlock_slow(&shells.lock);
}

/* Others' are the parent's: what they ignore stays ignored, as natively. */
static void shells_fork_child(void)
{
	atomic_store_explicit(&shells.lock, 0, memory_order_relaxed);
}

/* Ignores both signals; defaults gets those that the shell does not ignore. */
static void shells_enter(sigset_t *defaults)
{
	static const struct kernel_sigaction ignore = {.handler = (void *)SIG_IGN};

	shells_acquire();
	if (shells.n_running++ == 0) {
		signal_action(SIGINT, &ignore, &shells.interrupt);
		signal_action(SIGQUIT, &ignore, &shells.quit);
	}
	sigemptyset(defaults);
	if (shells.interrupt.handler != (void *)SIG_IGN)
		sigaddset(defaults, SIGINT);
	if (shells.quit.handler != (void *)SIG_IGN)
		sigaddset(defaults, SIGQUIT);
	shells_release();
}

static void shells_leave(void)
{
	shells_acquire();
	if (--shells.n_running == 0) {
		signal_action(SIGINT, &shells.interrupt, NULL);
		signal_action(SIGQUIT, &shells.quit, NULL);
	}
	shells_release();
}

/* Waits for pid whatever comes between, but for a cancel, which kills it. */
static int wait_for_shell(struct task *t, pid_t pid)
{
	int status;
	long r;

	do
		r = kernel_call(SYS_wait4, pid, (long)&status, 0, 0, 0, 0);
	while (r == -EINTR && !task_cancel_wanted(t));
	if (r == -EINTR) {
		real.kill(pid, SIGKILL);
		task_set_cancel_point(t, false);
		do
			r = kernel_call(SYS_wait4, pid, (long)&status, 0, 0, 0, 0);
		while (r == -EINTR);
		task_set_cancel_point(t, true);
	}
	return r == pid ? status : (int)ret_errno(r);
}

static int shell(struct task *t, const char *line)
{
	static const char *const name = "/bin/sh";
	char *argv[] = {"sh", "-c", (char *)line, NULL};
	uint64_t mask = signal_get_mask(t);
	sigset_t defaults, child_mask = {{mask}};
	posix_spawnattr_t attr;
	int status;
	pid_t pid;

	cancel_enter(t);
	shells_enter(&defaults);
	signal_set_mask(t, mask | 1ULL << (SIGCHLD - 1));
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &child_mask);
	posix_spawnattr_setsigdefault(&attr, &defaults);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	int r = spawn(t, real.posix_spawn, &pid, name, NULL, &attr, argv, environ);
	if (r == 0) {
		status = wait_for_shell(t, pid);
	} else {
		errno = r;
		status = W_EXITCODE(127, 0); /* as if the shell had said so */
	}
	int error = errno;
	shells_leave();
	signal_set_mask(t, mask);
	cancel_leave(t, false);
	child_ended(t);
	errno = error;
	return status;
}

EXPORT int system(const char *line)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.system(line);
	return line == NULL ? shell(t, "exit 0") == 0 : shell(t, line);
}

/* --- wait ------------------------------------------------------------------------------ */

/* What a child sent before it ended, and its SIGCHLD, came before it could be waited for.
 * Natively main, which the kernel asks first, runs their handlers before its wait returns,
 * and may have freed after it what they use. */
void child_ended(struct task *t)
{
	int error = errno;

	if (task_is_main(t))
		signal_settle_mains(t);
	errno = error;
}

static pid_t wait_for(struct task *t, pid_t pid, int *status, int options,
		      struct rusage *usage)
{
	pid_t r =
	    kernel_point(t, SYS_wait4, pid, (long)status, options, (long)usage, 0, 0);

	if (r > 0)
		child_ended(t);
	return r;
}

EXPORT pid_t wait(int *status)
{
	struct task *t = task_self();

	return t == NULL ? real.wait(status) : wait_for(t, -1, status, 0, NULL);
}
ALIAS(__wait, wait);

EXPORT pid_t waitpid(pid_t pid, int *status, int options)
{
	struct task *t = task_self();

	return t == NULL ? real.waitpid(pid, status, options)
			 : wait_for(t, pid, status, options, NULL);
}
ALIAS(__waitpid, waitpid);

EXPORT pid_t wait3(int *status, int options, struct rusage *usage)
{
	struct task *t = task_self();

	return t == NULL ? real.wait3(status, options, usage)
			 : wait_for(t, -1, status, options, usage);
}

EXPORT pid_t wait4(pid_t pid, int *status, int options, struct rusage *usage)
{
	struct task *t = task_self();

	return t == NULL ? real.wait4(pid, status, options, usage)
			 : wait_for(t, pid, status, options, usage);
}

EXPORT int waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.waitid(type, id, info, options);
	int r = kernel_point(t, SYS_waitid, type, id, (long)info, options, 0, 0);
	/* With WNOHANG there may be none: the kernel tells of process 0 then. */
	if (r == 0 && (info == NULL || info->si_pid != 0))
		child_ended(t);
	return r;
}
