/* SPDX-License-Identifier: MIT */
/*
 * fd.c: making descriptors, locking files, and waiting until data is on the disk.
 */
#include "wrap.h"

#include <stdarg.h>
#include <sys/ioctl.h>

/* --- sockets --------------------------------------------------------------------------- */

EXPORT int accept(int fd, struct sockaddr *addr, socklen_t *addr_len)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.accept(fd, addr, addr_len);
	return kernel_point(t, SYS_accept, fd, (long)addr, (long)addr_len, 0, 0, 0);
}

EXPORT int accept4(int fd, struct sockaddr *addr, socklen_t *addr_len, int flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.accept4(fd, addr, addr_len, flags);
	return kernel_point(t, SYS_accept4, fd, (long)addr, (long)addr_len, flags, 0, 0);
}

EXPORT int connect(int fd, const struct sockaddr *addr, socklen_t addr_len)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.connect(fd, addr, addr_len);
	return kernel_point(t, SYS_connect, fd, (long)addr, addr_len, 0, 0, 0);
}
ALIAS(__connect, connect);

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

EXPORT int open(const char *path, int flags, ...)
{
	struct task *t = task_self();
	mode_t mode = MODE_AFTER(flags);

	if (t == NULL)
		return real.open(path, flags, mode);
	return kernel_point(t, SYS_openat, AT_FDCWD, (long)path, flags, mode, 0, 0);
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
	return kernel_point(t, SYS_openat, AT_FDCWD, (long)path, flags, 0, 0, 0);
}
ALIAS(__open64_2, __open_2);

EXPORT int openat(int dir, const char *path, int flags, ...)
{
	struct task *t = task_self();
	mode_t mode = MODE_AFTER(flags);

	if (t == NULL)
		return real.openat(dir, path, flags, mode);
	return kernel_point(t, SYS_openat, dir, (long)path, flags, mode, 0, 0);
}
ALIAS(openat64, openat);

EXPORT int __openat_2(int dir, const char *path, int flags)
{
	struct task *t = task_self();

	if (t == NULL || __OPEN_NEEDS_MODE(flags))
		return real.__openat_2(dir, path, flags);
	return kernel_point(t, SYS_openat, dir, (long)path, flags, 0, 0, 0);
}
ALIAS(__openat64_2, __openat_2);

/* --- locks and the disk ------------------------------------------------------------------ */

EXPORT int fcntl(int fd, int command, ...)
{
	struct task *t = task_self();
	va_list args;

	va_start(args, command);
	void *arg = va_arg(args, void *);
	va_end(args);
	if (t == NULL || (command != F_SETLKW && command != F_OFD_SETLKW))
		return real.fcntl(fd, command, arg);
	return kernel_point(t, SYS_fcntl, fd, command, (long)arg, 0, 0, 0);
}
ALIAS(fcntl64, fcntl);
ALIAS(__fcntl, fcntl);

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

EXPORT int tcdrain(int fd)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.tcdrain(fd);
	/* An argument other than 0 means: drain, and send no break. */
	return kernel_point(t, SYS_ioctl, fd, TCSBRK, 1, 0, 0, 0);
}
