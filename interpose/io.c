/* SPDX-License-Identifier: MIT */
/*
 * io.c: reading and writing.
 *
 * All of it waits in the kernel (door 4) and is a cancellation point; what the kernel would
 * begin again after a handler with SA_RESTART is begun again here (signal(7)).
 */
#include "wrap.h"

EXPORT ssize_t read(int fd, void *buf, size_t n)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.read(fd, buf, n);
	return kernel_point(t, SYS_read, fd, (long)buf, (long)n, 0, 0, 0);
}
ALIAS(__read, read);

EXPORT ssize_t __read_chk(int fd, void *buf, size_t n, size_t buf_size)
{
	struct task *t = task_self();

	/* libc's own says what is wrong, and aborts. */
	if (t == NULL || n > buf_size)
		return real.__read_chk(fd, buf, n, buf_size);
	return kernel_point(t, SYS_read, fd, (long)buf, (long)n, 0, 0, 0);
}

EXPORT ssize_t readv(int fd, const struct iovec *parts, int n)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.readv(fd, parts, n);
	return kernel_point(t, SYS_readv, fd, (long)parts, n, 0, 0, 0);
}

EXPORT ssize_t pread(int fd, void *buf, size_t n, off_t offset)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.pread(fd, buf, n, offset);
	return kernel_point(t, SYS_pread64, fd, (long)buf, (long)n, offset, 0, 0);
}
ALIAS(pread64, pread);
ALIAS(__pread64, pread);

EXPORT ssize_t __pread_chk(int fd, void *buf, size_t n, off_t offset, size_t buf_size)
{
	struct task *t = task_self();

	if (t == NULL || n > buf_size)
		return real.__pread_chk(fd, buf, n, offset, buf_size);
	return kernel_point(t, SYS_pread64, fd, (long)buf, (long)n, offset, 0, 0);
}
ALIAS(__pread64_chk, __pread_chk);

EXPORT ssize_t write(int fd, const void *buf, size_t n)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.write(fd, buf, n);
	return kernel_point(t, SYS_write, fd, (long)buf, (long)n, 0, 0, 0);
}
ALIAS(__write, write);

EXPORT ssize_t writev(int fd, const struct iovec *parts, int n)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.writev(fd, parts, n);
	return kernel_point(t, SYS_writev, fd, (long)parts, n, 0, 0, 0);
}

EXPORT ssize_t pwrite(int fd, const void *buf, size_t n, off_t offset)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.pwrite(fd, buf, n, offset);
	return kernel_point(t, SYS_pwrite64, fd, (long)buf, (long)n, offset, 0, 0);
}
ALIAS(pwrite64, pwrite);
ALIAS(__pwrite64, pwrite);

/* --- sockets --------------------------------------------------------------------------- */

EXPORT ssize_t recv(int fd, void *buf, size_t n, int flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.recv(fd, buf, n, flags);
	return kernel_point(t, SYS_recvfrom, fd, (long)buf, (long)n, flags, 0, 0);
}

EXPORT ssize_t __recv_chk(int fd, void *buf, size_t n, size_t buf_size, int flags)
{
	struct task *t = task_self();

	if (t == NULL || n > buf_size)
		return real.__recv_chk(fd, buf, n, buf_size, flags);
	return kernel_point(t, SYS_recvfrom, fd, (long)buf, (long)n, flags, 0, 0);
}

EXPORT ssize_t recvfrom(int fd, void *buf, size_t n, int flags, struct sockaddr *addr,
			socklen_t *addr_len)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.recvfrom(fd, buf, n, flags, addr, addr_len);
	return kernel_point(t, SYS_recvfrom, fd, (long)buf, (long)n, flags, (long)addr,
			    (long)addr_len);
}

EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t n, size_t buf_size, int flags,
			      struct sockaddr *addr, socklen_t *addr_len)
{
	struct task *t = task_self();

	if (t == NULL || n > buf_size)
		return real.__recvfrom_chk(fd, buf, n, buf_size, flags, addr, addr_len);
	return kernel_point(t, SYS_recvfrom, fd, (long)buf, (long)n, flags, (long)addr,
			    (long)addr_len);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.recvmsg(fd, msg, flags);
	return kernel_point(t, SYS_recvmsg, fd, (long)msg, flags, 0, 0, 0);
}

EXPORT ssize_t send(int fd, const void *buf, size_t n, int flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.send(fd, buf, n, flags);
	return kernel_point(t, SYS_sendto, fd, (long)buf, (long)n, flags, 0, 0);
}
ALIAS(__send, send);

EXPORT ssize_t sendto(int fd, const void *buf, size_t n, int flags,
		      const struct sockaddr *addr, socklen_t addr_len)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.sendto(fd, buf, n, flags, addr, addr_len);
	return kernel_point(t, SYS_sendto, fd, (long)buf, (long)n, flags, (long)addr,
			    addr_len);
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.sendmsg(fd, msg, flags);
	return kernel_point(t, SYS_sendmsg, fd, (long)msg, flags, 0, 0, 0);
}

/* --- from descriptor to descriptor --------------------------------------------------------- */

/* No cancellation point in glibc. */
EXPORT ssize_t sendfile(int out, int in, off_t *offset, size_t n)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.sendfile(out, in, offset, n);
	return kernel_door(t, SYS_sendfile, out, in, (long)offset, (long)n, 0, 0);
}
ALIAS(sendfile64, sendfile);

EXPORT ssize_t splice(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t n,
		      unsigned flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.splice(in, in_offset, out, out_offset, n, flags);
	return kernel_point(t, SYS_splice, in, (long)in_offset, out, (long)out_offset,
			    (long)n, flags);
}

EXPORT ssize_t tee(int in, int out, size_t n, unsigned flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.tee(in, out, n, flags);
	return kernel_point(t, SYS_tee, in, out, (long)n, flags, 0, 0);
}
