/* SPDX-License-Identifier: MIT */
/*
 * offset.c: reading and writing at an offset, which files alone have.
 *
 * A read takes what the page cache has without a door (RWF_NOWAIT), and parks its task while
 * the disk is asked for the rest (disk_read).  Where that is not to be had, and for each
 * error, it is the kernel door, whose answer counts.  Writes go to the page cache; when that
 * makes them wait it is for long, and at the door.
 */
#include "io.h"

/* --- reading -------------------------------------------------------------------------- */

/* What was not in memory, of one buffer or of all.  -ENOSYS: one for the door. */
static long read_rest(int fd, const struct iovec *v, int n, off_t offset, size_t got)
{
	struct iovec rest = {(char *)v->iov_base + got, v->iov_len - got};

	if (got == 0)
		return disk_read(fd, v, n, offset);
	if (n != 1)
		return -ENOSYS;
	long r = disk_read(fd, &rest, 1, offset + (off_t)got);
	return r < 0 ? r : (long)got + r;
}

/* -ENOSYS: one for the door. */
static long read_cached(int fd, _Atomic uint16_t *hint, const struct iovec *v, int n,
			off_t offset)
{
	const struct data all = {.v = v, .n = n};
	long r = raw(SYS_preadv2, fd, v, n, offset, 0, RWF_NOWAIT);

	if (unlikely(shake_io) && r > 0)
		r = -EAGAIN;
	/* Nothing at all, not even an end of file, or all. */
	if (r == 0 || (r > 0 && (size_t)r >= data_size(&all)))
		return r;
	if (r == -EAGAIN)
		r = 0;
	else if (r == -EOPNOTSUPP)
		atomic_fetch_or_explicit(hint, HINT_ASK_IN, memory_order_relaxed);
	return r < 0 ? -ENOSYS : read_rest(fd, v, n, offset, (size_t)r);
}

static ssize_t read_at(struct task *t, int fd, long nr, long what, long count,
		       const struct iovec *v, int n, off_t offset)
{
	_Atomic uint16_t *hint = fd_hint(fd);
	long r = -ENOSYS;

	cancel_test(t);
	/* A file that does not know RWF_NOWAIT is not asked again. */
	if (hint != NULL && n > 0 && n <= IOV_MAX && offset >= 0 &&
	    !(atomic_load_explicit(hint, memory_order_relaxed) & HINT_ASK_IN))
		r = read_cached(fd, hint, v, n, offset);
	return r >= 0 ? r : kernel_point(t, nr, fd, what, count, offset, 0, 0);
}

static ssize_t read_one_at(struct task *t, int fd, void *buf, size_t n, off_t offset)
{
	const struct iovec one = {buf, n < MOST_AT_ONCE ? n : MOST_AT_ONCE};

	if (unlikely(!is_in_memory(buf, n)))
		return kernel_point(t, SYS_pread64, fd, (long)buf, (long)n, offset, 0, 0);
	return read_at(t, fd, SYS_pread64, (long)buf, (long)n, &one, 1, offset);
}

EXPORT ssize_t pread(int fd, void *buf, size_t n, off_t offset)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.pread(fd, buf, n, offset);
	return read_one_at(t, fd, buf, n, offset);
}
ALIAS(pread64, pread);
ALIAS(__pread64, pread);

EXPORT ssize_t __pread_chk(int fd, void *buf, size_t n, off_t offset, size_t buf_size)
{
	struct task *t = task_self();

	if (t == NULL || n > buf_size)
		return real.__pread_chk(fd, buf, n, offset, buf_size);
	return read_one_at(t, fd, buf, n, offset);
}
ALIAS(__pread64_chk, __pread_chk);

EXPORT ssize_t preadv(int fd, const struct iovec *v, int n, off_t offset)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.preadv(fd, v, n, offset);
	return read_at(t, fd, SYS_preadv, (long)v, n, v, n, offset);
}
ALIAS(preadv64, preadv);

/* With offset -1 it is readv, with flags. */
EXPORT ssize_t preadv2(int fd, const struct iovec *v, int n, off_t offset, int flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.preadv2(fd, v, n, offset, flags);
	if (flags == 0)
		return offset == -1 ? ret_errno(io_readv(t, true, fd, v, n))
				    : preadv(fd, v, n, offset);
	return kernel_point(t, SYS_preadv2, fd, (long)v, n, offset, 0, flags);
}
ALIAS(preadv64v2, preadv2);

/* --- writing -------------------------------------------------------------------------- */

static ssize_t write_at(struct task *t, int fd, long nr, long what, long n, off_t offset,
			int flags)
{
	return ret_errno(
	    attempt_by_door(t, true, fd, POLLOUT, nr, what, n, offset, 0, flags));
}

EXPORT ssize_t pwrite(int fd, const void *buf, size_t n, off_t offset)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.pwrite(fd, buf, n, offset);
	return write_at(t, fd, SYS_pwrite64, (long)buf, (long)n, offset, 0);
}
ALIAS(pwrite64, pwrite);
ALIAS(__pwrite64, pwrite);

EXPORT ssize_t pwritev(int fd, const struct iovec *v, int n, off_t offset)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.pwritev(fd, v, n, offset);
	return write_at(t, fd, SYS_pwritev, (long)v, n, offset, 0);
}
ALIAS(pwritev64, pwritev);

EXPORT ssize_t pwritev2(int fd, const struct iovec *v, int n, off_t offset, int flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.pwritev2(fd, v, n, offset, flags);
	if (offset == -1 && flags == 0)
		return ret_errno(io_writev(t, true, fd, v, n));
	return write_at(t, fd, SYS_pwritev2, (long)v, n, offset, flags);
}
ALIAS(pwritev64v2, pwritev2);
