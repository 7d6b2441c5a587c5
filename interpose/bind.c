/* SPDX-License-Identifier: MIT */
/*
 * bind.c: calls that concern the calling kernel thread alone.
 *
 * What they change (namespaces, credentials, filters, per-thread options) belongs to one
 * kernel thread, and is inherited by what that starts.  The task that makes such a call is
 * bound, so that the change stays with it and nobody else gets it (task_bind_call).  A call
 * that fails, or changes nothing, binds nobody.
 *
 * What it changed before the runtime woke all kernel threads have inherited, as natively; but
 * what the kernel has hung on the one that called (a timer on its CPU clock, a tracer's
 * children) is there still: main keeps that kernel thread then, bound from the beginning.
 *
 * PGREEN_NATIVE binds threads that the user names.
 */
#include "bind.h"

#include "schedule.h"
#include "thread.h"

#include <dlfcn.h>
#include <fnmatch.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/io.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>

/* --- PGREEN_NATIVE --------------------------------------------------------------------- */

/* Whether one of the patterns, with commas between them, matches name. */
static bool is_named(const char *name)
{
	const char *at = runtime_native();
	char pattern[128];

	while (name != NULL && *at != '\0') {
		size_t n = strcspn(at, ",");

		if (n > 0 && n < sizeof(pattern)) {
			memcpy(pattern, at, n);
			pattern[n] = '\0';
			if (fnmatch(pattern, name, 0) == 0)
				return true;
		}
		at += n + (at[n] == ',');
	}
	return false;
}

static const char *file_of(const char *path)
{
	const char *slash = path != NULL ? strrchr(path, '/') : NULL;

	return slash != NULL ? slash + 1 : path;
}

bool native_wants(struct task *creator, void *start)
{
	Dl_info info;

	if (likely(*runtime_native() == '\0'))
		return false;
	/* A new thread's first name is its creator's. */
	if (is_named(task_name(creator)))
		return true;
	return dladdr(start, &info) != 0 &&
	       (is_named(info.dli_sname) || is_named(file_of(info.dli_fname)));
}

void native_look(struct task *t)
{
	if (*runtime_native() != '\0' && !task_is_bound(t) && is_named(task_name(t)))
		sched_bind(t);
}

/* The caller keeps the kernel thread that it has; t is NULL while the runtime sleeps. */
static void own_thread(struct task *t)
{
	if (t == NULL)
		runtime_keep_thread();
	else
		task_bind(t);
}

/* --- namespaces, credentials, execution domain ---------------------------------------------- */

/* Some namespaces are for processes with one thread only: the runtime goes to sleep for that
 * if the caller is its only task. */
static long enter_namespace(struct task *t, long nr, long a, long b)
{
	long r = task_bind_call(t, nr, a, b, 0, 0, 0);

	return r == -EINVAL && runtime_rest(t) ? task_bind_call(t, nr, a, b, 0, 0, 0) : r;
}

EXPORT int unshare(int flags)
{
	struct task *t = task_self();

	return t == NULL ? real.unshare(flags)
			 : (int)ret_errno(enter_namespace(t, SYS_unshare, flags, 0));
}

EXPORT int setns(int fd, int type)
{
	struct task *t = task_self();

	return t == NULL ? real.setns(fd, type)
			 : (int)ret_errno(enter_namespace(t, SYS_setns, fd, type));
}

EXPORT int capset(cap_user_header_t header, const cap_user_data_t data)
{
	struct task *t = task_self();

	return t == NULL ? real.capset(header, data)
			 : (int)ret_errno(task_bind_call(t, SYS_capset, (long)header,
							 (long)data, 0, 0, 0));
}

/* Both return the former id, and never fail. */
static int set_fs_id(struct task *t, long nr, long id)
{
	/* None has the id -1, which asks. */
	int now = (int)real.syscall(nr, -1L);

	return now == (int)id || id == -1 ? now
					  : (int)task_bind_call(t, nr, id, 0, 0, 0, 0);
}

EXPORT int setfsuid(uid_t id)
{
	struct task *t = task_self();

	return t == NULL ? real.setfsuid(id) : set_fs_id(t, SYS_setfsuid, (int)id);
}

EXPORT int setfsgid(gid_t id)
{
	struct task *t = task_self();

	return t == NULL ? real.setfsgid(id) : set_fs_id(t, SYS_setfsgid, (int)id);
}

EXPORT int personality(unsigned long persona)
{
	struct task *t = task_self();
	int now;

	if (t == NULL)
		return real.personality(persona);
	now = real.personality(0xffffffff);
	if (persona == 0xffffffff || (unsigned)now == (unsigned)persona)
		return now;
	return (int)ret_errno(
	    task_bind_call(t, SYS_personality, (long)persona, 0, 0, 0, 0));
}

/* --- the machine ----------------------------------------------------------------------------- */

EXPORT int iopl(int level)
{
	struct task *t = task_self();

	return t == NULL ? real.iopl(level)
			 : (int)ret_errno(task_bind_call(t, SYS_iopl, level, 0, 0, 0, 0));
}

EXPORT int ioperm(unsigned long from, unsigned long n, int on)
{
	struct task *t = task_self();

	return t == NULL ? real.ioperm(from, n, on)
			 : (int)ret_errno(task_bind_call(t, SYS_ioperm, (long)from,
							 (long)n, on, 0, 0));
}

/* What a key allows is a register, which the switch leaves alone until there is one. */
static long key_allocated(long r)
{
	if (r >= 0)
		switch_keep_pkru();
	return r;
}

EXPORT int pkey_alloc(unsigned flags, unsigned rights)
{
	return (int)key_allocated(real.pkey_alloc(flags, rights));
}

/* A tracer is a kernel thread: it attaches and asks from the same. */
EXPORT long ptrace(enum __ptrace_request request, ...)
{
	struct task *t = task_self();
	va_list args;

	va_start(args, request);
	pid_t pid = va_arg(args, pid_t);
	void *addr = va_arg(args, void *), *data = va_arg(args, void *);
	va_end(args);
	if (request != PTRACE_TRACEME)
		own_thread(t);
	return real.ptrace(request, pid, addr, data);
}

/* --- prctl ------------------------------------------------------------------------------------ */

/* Those that set something of the calling thread's alone. */
static bool is_of_thread(int option)
{
	switch (option) {
	case PR_SET_PDEATHSIG:
	case PR_SET_KEEPCAPS:
	case PR_SET_TIMERSLACK:
	case PR_SET_SECCOMP:
	case PR_SET_NO_NEW_PRIVS:
	case PR_SET_SECUREBITS:
	case PR_CAPBSET_DROP:
	case PR_CAP_AMBIENT:
	case PR_SET_TSC:
	case PR_SET_UNALIGN:
	case PR_SET_FPEMU:
	case PR_SET_FPEXC:
	case PR_SET_ENDIAN:
	case PR_MCE_KILL:
	case PR_SET_SPECULATION_CTRL:
	case PR_SET_TAGGED_ADDR_CTRL:
	case 57: /* PR_SET_IO_FLUSHER */
	case 59: /* PR_SET_SYSCALL_USER_DISPATCH */
	case 62: /* PR_SCHED_CORE */
		return true;
	default:
		return false;
	}
}

/* As the kernel's, -errno. */
static long call_prctl(struct task *t, const long a[5])
{
	switch (a[0]) {
	case PR_SET_NAME:
		thread_set_name(t, (const char *)a[1]);
		return 0;
	case PR_GET_NAME:
		memcpy((char *)a[1], task_name(t), 16);
		return 0;
	case PR_CAP_AMBIENT:
		if (a[1] == PR_CAP_AMBIENT_IS_SET)
			break;
		return task_bind_call(t, SYS_prctl, a[0], a[1], a[2], a[3], a[4]);
	default:
		if (is_of_thread((int)a[0]))
			return task_bind_call(t, SYS_prctl, a[0], a[1], a[2], a[3], a[4]);
	}
	int r = real.prctl((int)a[0], a[1], a[2], a[3], a[4]);
	return r < 0 ? -errno : r;
}

EXPORT int prctl(int option, ...)
{
	struct task *t = task_self();
	long a[5] = {option};
	va_list args;

	va_start(args, option);
	for (int i = 1; i < 5; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	return t == NULL ? real.prctl(option, a[1], a[2], a[3], a[4])
			 : (int)ret_errno(call_prctl(t, a));
}

/* --- timers ------------------------------------------------------------------------------------- */

/* Gives a timer's thread a kernel thread to notify; false: it has none. */
static bool name_notified(struct task *self, struct sigevent *event)
{
	struct task *t = task_of_tid(event->_sigev_un._tid);

	if (t == NULL)
		return true; /* the kernel knows it, or nobody */
	if (t == self)
		task_bind(t);
	else
		sched_bind(t);
	if (!task_is_bound(t))
		return false;
	event->_sigev_un._tid = task_kernel_tid(t);
	return true;
}

/* Whether such a timer hangs on a kernel thread: by what it counts, or whom it notifies. */
static bool timer_has_thread(clockid_t clock, const struct sigevent *event)
{
	const int which = 7, threads = 6; /* CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED */

	return clock == CLOCK_THREAD_CPUTIME_ID ||
	       (clock < 0 && (clock & which) == threads) ||
	       (event != NULL && event->sigev_notify == SIGEV_THREAD_ID);
}

EXPORT int timer_create(clockid_t clock, struct sigevent *event, timer_t *timer)
{
	struct task *self = task_self(), *t;
	struct sigevent named;

	if (self == NULL) {
		if (timer_has_thread(clock, event))
			runtime_keep_thread();
		return real.timer_create(clock, event, timer);
	}
	if (event != NULL && event->sigev_notify == SIGEV_THREAD_ID) {
		named = *event;
		event = &named;
		if (!name_notified(self, event))
			return (int)ret_errno(-EAGAIN);
	}
	t = cpu_clock_task(self, clock);
	if (t != NULL) {
		/* The kernel's clock is a kernel thread's.  POSIX lets a timer on another
		 * thread's be refused so. */
		if (t != self && !task_is_bound(t))
			return (int)ret_errno(-ENOTSUP);
		task_bind(self);
		clock = t == self ? CLOCK_THREAD_CPUTIME_ID
				  : (clockid_t)(~(unsigned)task_kernel_tid(t) << 3 | 6);
	}
	return real.timer_create(clock, event, timer);
}

/* --- by number ----------------------------------------------------------------------------------- */

enum {
	IOPRIO_WHO_THREAD = 1,     /* linux/ioprio.h: IOPRIO_WHO_PROCESS */
	SECCOMP_OF_ALL = 1,        /* linux/seccomp.h: SECCOMP_FILTER_FLAG_TSYNC */
	KEYCTL_JOIN_SESSION = 1,   /* linux/keyctl.h */
	ARCH_SET_GS_CODE = 0x1001, /* asm/prctl.h */
	URING_ONE_SUBMITTER = 3
			      << 12, /* linux/io_uring.h: SINGLE_ISSUER, DEFER_TASKRUN */
};

static long call_here(struct task *t, long nr, const long a[6])
{
	return task_bind_call(t, nr, a[0], a[1], a[2], a[3], a[4]);
}

static long call_plain(long nr, const long a[6])
{
	long r = real.syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);

	return r == -1 ? -errno : r;
}

static long call_ioprio(struct task *self, long nr, const long a[6])
{
	struct task *t = a[0] == IOPRIO_WHO_THREAD
			     ? (a[1] == 0 ? self : task_of_tid((int)a[1]))
			     : NULL;
	long with[6] = {a[0], 0, a[2]};

	if (t == NULL)
		return call_plain(nr, a);
	if (nr == SYS_ioprio_get) {
		with[1] = t == self && task_is_bound(t) ? 0 : task_twin_tid(t);
		return call_plain(nr, with);
	}
	if (t == self)
		return call_here(t, nr, with);
	sched_bind(t);
	if (!task_is_bound(t))
		return -EAGAIN;
	task_set_apart(t);
	with[1] = task_kernel_tid(t);
	return call_plain(nr, with);
}

/* Counts the calling thread, or another of this process. */
static long call_perf_event(struct task *self, long nr, const long a[6])
{
	struct task *t = a[1] == 0 ? self : a[1] > 0 ? task_of_tid((int)a[1]) : NULL;
	long with[6];

	if (t == NULL)
		return call_plain(nr, a);
	sched_bind(t);
	if (!task_is_bound(t))
		return -EAGAIN;
	memcpy(with, a, sizeof(with));
	with[1] = task_kernel_tid(t);
	return call_plain(nr, with);
}

/* The kernel's timers with a kernel thread to notify. */
static long call_timer(struct task *self, const long a[6])
{
	struct sigevent named;

	if (a[1] == 0 || ((const struct sigevent *)a[1])->sigev_notify != SIGEV_THREAD_ID)
		return call_plain(SYS_timer_create, a);
	named = *(const struct sigevent *)a[1];
	if (!name_notified(self, &named))
		return -EAGAIN;
	const long with[6] = {a[0], (long)&named, a[2]};
	return call_plain(SYS_timer_create, with);
}

/* struct io_uring_params begins with sq_entries, cq_entries, flags. */
static bool has_one_submitter(const void *params)
{
	return params != NULL &&
	       (((const uint32_t *)params)[2] & URING_ONE_SUBMITTER) != 0;
}

void bind_call_early(long nr, const long a[6])
{
	if ((nr == SYS_timer_create &&
	     timer_has_thread((clockid_t)a[0], (const struct sigevent *)a[1])) ||
	    (nr == SYS_perf_event_open && (a[1] == 0 || a[1] == getpid())) ||
	    (nr == SYS_io_uring_setup && has_one_submitter((const void *)a[1])) ||
	    (nr == SYS_ptrace && a[0] != PTRACE_TRACEME))
		runtime_keep_thread();
}

bool bind_call(struct task *t, long nr, const long a[6], long *result)
{
	switch (nr) {
	case SYS_setuid:
	case SYS_setgid:
	case SYS_setreuid:
	case SYS_setregid:
	case SYS_setresuid:
	case SYS_setresgid:
	case SYS_setgroups: /* of this thread alone, unlike libc's functions */
	case SYS_capset:
	case SYS_iopl:
	case SYS_ioperm:
	case SYS_set_mempolicy:
	case SYS_landlock_restrict_self:
		*result = call_here(t, nr, a);
		return true;
	case SYS_unshare:
	case SYS_setns:
		*result = enter_namespace(t, nr, a[0], a[1]);
		return true;
	case SYS_setfsuid:
	case SYS_setfsgid:
		*result = set_fs_id(t, nr, (int)a[0]);
		return true;
	case SYS_personality:
		*result = personality((unsigned long)a[0]);
		return true;
	case SYS_prctl:
		*result = call_prctl(t, a);
		return true;
	case SYS_seccomp:
		*result = a[1] & SECCOMP_OF_ALL ? call_plain(nr, a) : call_here(t, nr, a);
		return true;
	case SYS_keyctl:
		*result =
		    a[0] == KEYCTL_JOIN_SESSION ? call_here(t, nr, a) : call_plain(nr, a);
		return true;
	case SYS_pkey_alloc:
		*result = key_allocated(call_plain(nr, a));
		return true;
	case SYS_arch_prctl:
		*result =
		    a[0] == ARCH_SET_GS_CODE ? call_here(t, nr, a) : call_plain(nr, a);
		return true;
	case SYS_io_uring_setup:
		if (has_one_submitter((const void *)a[1]))
			task_bind(t);
		*result = call_plain(nr, a);
		return true;
	case SYS_ptrace:
		if (a[0] != PTRACE_TRACEME)
			task_bind(t);
		*result = call_plain(nr, a);
		return true;
	case SYS_ioprio_set:
	case SYS_ioprio_get:
		*result = call_ioprio(t, nr, a);
		return true;
	case SYS_perf_event_open:
		*result = call_perf_event(t, nr, a);
		return true;
	case SYS_timer_create:
		*result = call_timer(t, a);
		return true;
	default:
		return false;
	}
}
