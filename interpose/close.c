/* SPDX-License-Identifier: MIT */
/*
 * close.c: what ends descriptors.
 *
 * Whoever waits for a descriptor that is closed or replaced is told before it goes, and
 * again when it is gone (door 2).  The runtime's own descriptors do not exist for the
 * program: closing one is EBADF, and so is a dup2() onto one, as for a number beyond the
 * limit (EBUSY would have the caller try again).
 *
 * A close may wait, for a socket that lingers or a terminal that drains.  It is made once
 * and never again, interrupted or not: its number may be somebody else's by then.
 */
#include "io.h"
#include "popen.h"

#include <dirent.h>
#include <linux/close_range.h>
#include <sys/resource.h>

enum { NUMBERS = 1 << 20 }; /* beyond it nobody waits, and none is ours */

/* The call by the kernel door, once. */
static long close_call(long nr, long a, long b, long c)
{
	enter_kernel();
	while (unlikely(atomic_load_explicit(&fds_are_held, memory_order_acquire)))
		raw(SYS_sched_yield);
	long r = raw(nr, a, b, c);
	leave_kernel();
	return r;
}

long io_close(struct task *t, bool is_point, int fd)
{
	if (is_point)
		cancel_test(t);
	if (fd < 0 || fd_is_ours(fd))
		return -EBADF;
	fds_closing((unsigned)fd, (unsigned)fd);
	long r = close_call(SYS_close, fd, 0, 0);
	fds_closed((unsigned)fd, (unsigned)fd);
	return r;
}

EXPORT int close(int fd)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.close(fd);
	return (int)ret_errno(io_close(t, true, fd));
}
ALIAS(__close, close);

/* --- replacing --------------------------------------------------------------------------- */

static bool is_within_limit(int fd)
{
	struct rlimit limit = {0};

	return fd >= 0 && raw(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit) == 0 &&
	       (rlim_t)fd < limit.rlim_cur;
}

/* As dup3; but flags < 0 is dup2, for which the same number is no error. */
long io_dup3(int from, int to, int flags)
{
	long nr = flags < 0 ? SYS_dup2 : SYS_dup3;

	if (fd_is_ours(from) || fd_is_ours(to))
		return -EBADF;
	/* What fails, or does nothing, ends nobody's wait. */
	if ((flags > 0 && flags != O_CLOEXEC) || from == to || !is_within_limit(to) ||
	    raw(SYS_fcntl, from, F_GETFD) < 0)
		return raw(nr, from, to, flags);
	fds_closing((unsigned)to, (unsigned)to);
	long r = close_call(nr, from, to, flags);
	fds_closed((unsigned)to, (unsigned)to);
	return r;
}

EXPORT int dup2(int from, int to)
{
	return task_self() == NULL ? real.dup2(from, to)
				   : (int)ret_errno(io_dup3(from, to, -1));
}
ALIAS(__dup2, dup2);

EXPORT int dup3(int from, int to, int flags)
{
	if (task_self() == NULL)
		return real.dup3(from, to, flags);
	return (int)ret_errno(flags < 0 ? -EINVAL : io_dup3(from, to, flags));
}

/* --- many at once ------------------------------------------------------------------------ */

/* The first that is ours from first to last, or last + 1. */
static unsigned long next_of_ours(unsigned long first, unsigned long last)
{
	for (unsigned long fd = first; fd <= last && fd < NUMBERS; fd++)
		if (fd_is_ours((int)fd))
			return fd;
	return last + 1;
}

long io_close_range(struct task *t, unsigned first, unsigned last, int flags)
{
	const int known = CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE;
	bool ends = flags == 0;
	unsigned long from = first, to = (unsigned long)last + 1;
	long r = 0;

	/* Only this kernel thread would have a table of its own, and run other tasks in it. */
	if ((flags & CLOSE_RANGE_UNSHARE) && !task_is_bound(t))
		return -EINVAL;
	if (first > last || (flags & ~known))
		return raw(SYS_close_range, first, last, flags);
	if (ends)
		fds_closing(first, last);
	while (from < to && r == 0) {
		unsigned long next = next_of_ours(from, last);

		if (next > from)
			r = close_call(SYS_close_range, (long)from, (long)next - 1,
				       flags);
		from = next + 1;
	}
	if (ends)
		fds_closed(first, last);
	return r;
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.close_range(first, last, flags);
	return (int)ret_errno(io_close_range(t, first, last, flags));
}

/* One by one, where the kernel lacks the call (before 5.9). */
static void close_each_from(struct task *t, int low)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;

	if (dir == NULL)
		return;
	while ((e = readdir(dir)) != NULL) {
		int fd = (int)strtol(e->d_name, NULL, 10);

		if (e->d_name[0] != '.' && fd >= low && fd != dirfd(dir))
			io_close(t, false, fd);
	}
	closedir(dir);
}

EXPORT void closefrom(int low)
{
	struct task *t = task_self();

	if (t == NULL)
		real.closefrom(low);
	else if (io_close_range(t, low > 0 ? (unsigned)low : 0, UINT_MAX, 0) == -ENOSYS)
		close_each_from(t, low);
}

/* --- inside libc ------------------------------------------------------------------------- */

static void closing_begins(int fd)
{
	if (fd >= 0)
		fds_closing((unsigned)fd, (unsigned)fd);
	enter_kernel();
}

static void closing_ends(int fd)
{
	leave_kernel();
	if (fd >= 0)
		fds_closed((unsigned)fd, (unsigned)fd);
}

EXPORT int fclose(FILE *f)
{
	int status;

	/* libc's waits for the shell as well. */
	if (popen_close(f, &status))
		return status;
	if (task_self() == NULL)
		return real.fclose(f);
	int fd = fileno_unlocked(f);
	closing_begins(fd);
	int r = real.fclose(f);
	closing_ends(fd);
	return r;
}

EXPORT FILE *freopen(const char *path, const char *mode, FILE *f)
{
	if (task_self() == NULL)
		return real.freopen(path, mode, f);
	int fd = fileno_unlocked(f);
	closing_begins(fd);
	FILE *r = real.freopen(path, mode, f);
	closing_ends(fd);
	return r;
}
ALIAS(freopen64, freopen);

EXPORT int closedir(DIR *dir)
{
	DIR *volatile given =
	    dir; /* never NULL, says its declaration: but that is EINVAL */

	if (task_self() == NULL || given == NULL)
		return real.closedir(dir);
	int fd = dirfd(dir);
	closing_begins(fd);
	int r = real.closedir(dir);
	closing_ends(fd);
	return r;
}

EXPORT int mq_close(mqd_t queue)
{
	struct task *t = task_self();

	return t == NULL ? real.mq_close(queue)
			 : (int)ret_errno(io_close(t, false, queue));
}
