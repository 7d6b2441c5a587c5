/* SPDX-License-Identifier: MIT */
/*
 * io.h: calls on descriptors, in the kernel's terms: a count, or -E.  Their wrappers set
 * errno; syscall() makes them without being a cancellation point.
 */
#ifndef PGREEN_IO_H
#define PGREEN_IO_H

#include "wrap.h"

#include "attempt.h"

/* io.c */
long io_read(struct task *t, bool is_point, int fd, void *buf, size_t n);
long io_readv(struct task *t, bool is_point, int fd, const struct iovec *v, int n);
long io_write(struct task *t, bool is_point, int fd, const void *buf, size_t n);
long io_writev(struct task *t, bool is_point, int fd, const struct iovec *v, int n);

/* socket.c */
long io_recv(struct task *t, bool is_point, int fd, void *buf, size_t n, int flags,
	     struct sockaddr *addr, socklen_t *addr_len);
long io_recvmsg(struct task *t, bool is_point, int fd, struct msghdr *msg, int flags);
long io_send(struct task *t, bool is_point, int fd, const void *buf, size_t n, int flags,
	     const struct sockaddr *addr, socklen_t addr_len);
long io_sendmsg(struct task *t, bool is_point, int fd, const struct msghdr *msg,
		int flags);

/* accept.c */
long io_accept(struct task *t, bool is_point, int fd, struct sockaddr *addr,
	       socklen_t *addr_len, int flags);
long io_connect(struct task *t, bool is_point, int fd, const struct sockaddr *addr,
		socklen_t addr_len);

/* close.c */
long io_close(struct task *t, bool is_point, int fd);
long io_dup3(int from, int to, int flags);
long io_close_range(struct task *t, unsigned first, unsigned last, int flags);

/* callio.c: whether the system call nr is one of those.  *r is its result, no cancellation
 * point passed. */
bool io_call(struct task *t, long nr, const long a[6], long *r);

#endif
