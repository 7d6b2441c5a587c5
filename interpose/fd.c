/* SPDX-License-Identifier: MIT */
/*
 * fd.c: opening, locking files, waiting until data is on the disk, and other calls on a
 * descriptor that wait in the kernel (door 4): none of it can be polled.  And a stream's lock,
 * which is libc's own.
 */
#include "io.h"

#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>

/* --- open ------------------------------------------------------------------------------ */

/* The mode that follows flags in args, 0 where flags ask for none. */
#define MODE_AFTER(flags)                              \
	({                                             \
		mode_t mode_ = 0;                      \
		if (__OPEN_NEEDS_MODE(flags)) {        \
			va_list args_;                 \
			va_start(args_, flags);        \
			mode_ = va_arg(args_, mode_t); \
			va_end(args_);                 \
		}                                      \
		mode_;                                 \
	})

/* What was known of the number was known of another file. */
static int fresh(long fd)
{
	_Atomic uint16_t *hint = fd >= 0 ? fd_hint((int)fd) : NULL;

	if (hint != NULL)
		atomic_store_explicit(hint, 0, memory_order_relaxed);
	return (int)fd;
}

/* A FIFO's other end may be long in coming. */
static int open_at(struct task *t, int dir, const char *path, int flags, mode_t mode)
{
	return fresh(kernel_point(t, SYS_openat, dir, (long)path, flags, mode, 0, 0));
}

EXPORT int open(const char *path, int flags, ...)
{
	struct task *t = task_self();
	mode_t mode = MODE_AFTER(flags);

	if (t == NULL)
		return real.open(path, flags, mode);
	return open_at(t, AT_FDCWD, path, flags, mode);
}
ALIAS(open64, open);
ALIAS(__open, open);
ALIAS(__open64, open);

EXPORT int __open_2(const char *path, int flags)
{
	struct task *t = task_self();

	/* libc's own says what is wrong, and aborts. */
	if (t == NULL || __OPEN_NEEDS_MODE(flags))
		return real.__open_2(path, flags);
	return open_at(t, AT_FDCWD, path, flags, 0);
}
ALIAS(__open64_2, __open_2);

EXPORT int openat(int dir, const char *path, int flags, ...)
{
	struct task *t = task_self();
	mode_t mode = MODE_AFTER(flags);

	if (t == NULL)
		return real.openat(dir, path, flags, mode);
	return open_at(t, dir, path, flags, mode);
}
ALIAS(openat64, openat);

EXPORT int __openat_2(int dir, const char *path, int flags)
{
	struct task *t = task_self();

	if (t == NULL || __OPEN_NEEDS_MODE(flags))
		return real.__openat_2(dir, path, flags);
	return open_at(t, dir, path, flags, 0);
}
ALIAS(__openat64_2, __openat_2);

EXPORT int creat(const char *path, mode_t mode)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.creat(path, mode);
	return open_at(t, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
ALIAS(creat64, creat);

/* O_NONBLOCK may be another than is known. */
static void flags_change(int fd)
{
	_Atomic uint16_t *hint = fd_hint(fd);

	if (hint != NULL)
		atomic_fetch_and_explicit(hint, (uint16_t)~HINT_NONBLOCK,
					  memory_order_relaxed);
}

/* --- locks and the disk ------------------------------------------------------------------ */

EXPORT int fcntl(int fd, int command, ...)
{
	struct task *t = task_self();
	va_list args;

	va_start(args, command);
	void *arg = va_arg(args, void *);
	va_end(args);
	if (t == NULL)
		return real.fcntl(fd, command, arg);
	if (command == F_SETLKW || command == F_OFD_SETLKW)
		return (int)kernel_point(t, SYS_fcntl, fd, command, (long)arg, 0, 0, 0);
	int r = real.fcntl(fd, command, arg);
	if (command == F_SETFL)
		flags_change(fd);
	else if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
		fresh(r);
	return r;
}
ALIAS(fcntl64, fcntl);
ALIAS(__fcntl, fcntl);

/* Only what waits is a cancellation point. */
EXPORT int lockf(int fd, int command, off_t length)
{
	struct task *t = task_self();
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_len = length};

	if (t == NULL || command != F_LOCK)
		return real.lockf(fd, command, length);
	return (int)kernel_point(t, SYS_fcntl, fd, F_SETLKW, (long)&lock, 0, 0, 0);
}
ALIAS(lockf64, lockf);

/* No cancellation point in glibc. */
EXPORT int flock(int fd, int operation)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.flock(fd, operation);
	return kernel_door(t, SYS_flock, fd, operation, 0, 0, 0, 0);
}

EXPORT int fsync(int fd)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.fsync(fd);
	return kernel_point(t, SYS_fsync, fd, 0, 0, 0, 0, 0);
}

EXPORT int fdatasync(int fd)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.fdatasync(fd);
	return kernel_point(t, SYS_fdatasync, fd, 0, 0, 0, 0, 0);
}

EXPORT int msync(void *at, size_t size, int flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.msync(at, size, flags);
	return (int)kernel_point(t, SYS_msync, (long)at, (long)size, flags, 0, 0, 0);
}

EXPORT int sync_file_range(int fd, off64_t offset, off64_t size, unsigned flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.sync_file_range(fd, offset, size, flags);
	return (int)kernel_point(t, SYS_sync_file_range, fd, offset, size, flags, 0, 0);
}

/* --- streams ------------------------------------------------------------------------------ */

/* Its holder may have been preempted in the program's code, and all others come here before
 * he goes on: announced, each costs microseconds, not the milliseconds until sysmon sees. */
EXPORT void flockfile(FILE *f)
{
	if (task_self() == NULL) {
		real.flockfile(f);
	} else if (ftrylockfile(f) != 0) {
		enter_kernel();
		real.flockfile(f);
		leave_kernel();
	}
}

/* --- devices ------------------------------------------------------------------------------ */

/* No cancellation point. */
EXPORT int ioctl(int fd, unsigned long request, ...)
{
	struct task *t = task_self();
	va_list args;

	va_start(args, request);
	void *arg = va_arg(args, void *);
	va_end(args);
	if (t == NULL)
		return real.ioctl(fd, request, arg);
	if (request == FIONBIO)
		flags_change(fd);
	return (int)kernel_door(t, SYS_ioctl, fd, (long)request, (long)arg, 0, 0, 0);
}

/* Waits only while the system is young. */
EXPORT ssize_t getrandom(void *buf, size_t n, unsigned flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.getrandom(buf, n, flags);
	return kernel_point(t, SYS_getrandom, (long)buf, (long)n, flags, 0, 0, 0);
}

EXPORT int getentropy(void *buf, size_t n)
{
	struct task *t = task_self();
	size_t done = 0;

	if (t == NULL)
		return real.getentropy(buf, n);
	if (n > 256) /* POSIX's and libc's bound */
		return (int)ret_errno(-EIO);
	while (done < n) {
		long r = kernel_door(t, SYS_getrandom, (long)buf + (long)done,
				     (long)(n - done), 0, 0, 0, 0);
		if (r < 0 && errno != EINTR)
			return -1;
		done += r > 0 ? (size_t)r : 0;
	}
	return 0;
}

EXPORT int tcdrain(int fd)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.tcdrain(fd);
	/* An argument other than 0 means: drain, and send no break. */
	return kernel_point(t, SYS_ioctl, fd, TCSBRK, 1, 0, 0, 0);
}
