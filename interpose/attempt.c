/* SPDX-License-Identifier: MIT */
/*
 * attempt.c: the steps of a call that parks its task until a descriptor is ready.
 */
#include "attempt.h"
#include "waiting.h"

#include <sys/ioctl.h>
#include <sys/sysmacros.h>

/* The kernel's names for what 64-bit programs ask for as SO_RCVTIMEO and SO_SNDTIMEO. */
enum { RECV_TIMEOUT = 20, SEND_TIMEOUT = 21 };

_Atomic bool timeouts_are_used, low_marks_are_used;

/* --- what is known of a descriptor -------------------------------------------------------- */

void attempt_learn(struct attempt *a, unsigned bit)
{
	if (a->hint != NULL)
		atomic_fetch_or_explicit(a->hint, bit, memory_order_relaxed);
}

bool attempt_looks_nonblocking(struct attempt *a)
{
	if (likely(__builtin_ia32_rdtsc() / 64 % 64 != 0) ||
	    (raw(SYS_fcntl, a->fd, F_GETFL) & O_NONBLOCK))
		return true;
	atomic_fetch_and_explicit(a->hint, (uint16_t)~HINT_NONBLOCK,
				  memory_order_relaxed);
	return false;
}

void attempt_forget(struct attempt *a)
{
	if (a->hint != NULL)
		atomic_store_explicit(a->hint, 0, memory_order_relaxed);
}

static unsigned socket_kind(int fd)
{
	int type = 0;
	socklen_t size = sizeof(type);

	if (raw(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0)
		return KIND_FILE;
	return type == SOCK_STREAM      ? KIND_STREAM
	       : type == SOCK_SEQPACKET ? KIND_SEQPACKET
					: KIND_DGRAM;
}

static unsigned device_kind(int fd, unsigned number)
{
	struct termios tty;

	/* null, zero, random and the like wait for nobody. */
	if (number == MEMORY_DEVICES)
		return KIND_FILE;
	return raw(SYS_ioctl, fd, TCGETS, &tty) == 0 ? KIND_TERMINAL : KIND_DEVICE;
}

static unsigned kind_of(int fd)
{
	struct stat st = {0};

	/* For what is none the door is right: the call itself says so. */
	if (raw(SYS_fstat, fd, &st) < 0)
		return KIND_UNKNOWN;
	switch (st.st_mode & S_IFMT) {
	case S_IFSOCK:
		return socket_kind(fd);
	case S_IFIFO:
		return KIND_PIPE;
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFBLK:
		return KIND_FILE;
	case S_IFCHR:
		return device_kind(fd, major(st.st_rdev));
	default:
		return KIND_DEVICE;
	}
}

unsigned attempt_kind(struct attempt *a)
{
	unsigned kind = KIND_FILE;

	if (likely(a->hint != NULL))
		kind = atomic_load_explicit(a->hint, memory_order_relaxed) & HINT_KIND;
	if (unlikely(kind == KIND_UNKNOWN)) {
		kind = kind_of(a->fd);
		if (kind == KIND_UNKNOWN)
			return KIND_FILE;
		attempt_learn(a, kind);
	}
	a->is_socket = kind <= KIND_SEQPACKET;
	return kind;
}

void data_advance(struct data *d, size_t size)
{
	/* What is no vector may be NULL: MSG_TRUNC only counts and discards. */
	if ((d->buf != NULL || d->n == 0) && size < d->size) {
		d->buf += d->buf != NULL ? size : 0;
		d->size -= size;
		return;
	}
	if (d->buf != NULL) {
		size -= d->size;
		d->buf = NULL;
		d->v += d->n > 0;
		d->n -= d->n > 0;
	}
	for (; d->n > 0 && d->v->iov_len <= size; d->v++, d->n--)
		size -= d->v->iov_len;
	if (d->n > 0 && size > 0) {
		d->buf = (char *)d->v->iov_base + size;
		d->size = d->v->iov_len - size;
	}
}

/* --- tries ------------------------------------------------------------------------------ */

static long ready_events(const struct attempt *a)
{
	struct pollfd p = {.fd = a->fd, .events = a->events};
	struct timespec none = {0};
	long r = raw(SYS_ppoll, &p, 1, &none);

	/* An error of poll's is the call's to find. */
	return r == 0 ? 0 : r < 0 ? POLLERR : p.revents;
}

long attempt_ask(struct attempt *a)
{
	return ready_events(a) == 0 ? -EAGAIN : ATTEMPT_DOOR;
}

long attempt_raw_out(struct attempt *a, long nr, long b, long c, long d, long e, long f,
		     long g)
{
	return signal_call(a->t, (long[]){nr, b, c, d, e, f, g});
}

/* --- the fault injector -------------------------------------------------------------------- */

static uint32_t shake_number(void)
{
	static _Atomic uint32_t n;
	uint32_t x = atomic_fetch_add_explicit(&n, 1, memory_order_relaxed) * 0x9e3779b9;

	return x >> 16;
}

bool attempt_shakes(struct attempt *a)
{
	a->is_refused = !a->is_calm && shake_number() % 4 != 0;
	return a->is_refused;
}

size_t attempt_shaken_size(const struct attempt *a, size_t n)
{
	unsigned kind = kind_of(a->fd); /* what was known may be another file's */
	size_t least = kind == KIND_PIPE && (a->events & POLLOUT) ? PIPE_BUF : 1;

	if ((kind != KIND_STREAM && kind != KIND_PIPE) || n <= least ||
	    shake_number() % 4 == 0)
		return n;
	return least + shake_number() % (n - least);
}

const struct iovec *attempt_vector(const struct attempt *a, const struct data *d,
				   struct iovec *one)
{
	*one = (struct iovec){d->buf, d->size};
	if (likely(!shake_io))
		return d->buf != NULL ? one : d->v;
	if (d->buf != NULL) {
		one->iov_len = attempt_shaken_size(a, d->size);
		return one;
	}
	/* A vector's first part, unless a pipe may have to take all of it at once. */
	if (kind_of(a->fd) != KIND_STREAM || d->n <= 0 || d->n > IOV_MAX ||
	    d->v->iov_len == 0 || !is_in_memory(d->v->iov_base, d->v->iov_len) ||
	    shake_number() % 4 == 0)
		return d->v;
	*one = (struct iovec){d->v->iov_base, attempt_shaken_size(a, d->v->iov_len)};
	return one;
}

/* The wait after a try that was refused: false if there is nothing to wait for, so that the
 * next must be in earnest. */
static bool may_refuse(struct attempt *a)
{
	a->is_calm =
	    (raw(SYS_fcntl, a->fd, F_GETFL) & O_NONBLOCK) || ready_events(a) == 0;
	return !a->is_calm;
}

/* --- what is foreseen ---------------------------------------------------------------------- */

static unsigned vain_tries(const struct attempt *a)
{
	return a->hint == NULL
		   ? 0
		   : atomic_load_explicit(a->hint, memory_order_relaxed) & HINT_VAIN;
}

void attempt_unlearn_vain(struct attempt *a)
{
	if (a->hint != NULL)
		atomic_fetch_and_explicit(a->hint, (uint16_t)~HINT_VAIN,
					  memory_order_relaxed);
}

/* Others may count meanwhile: beyond the most it begins at 0 again. */
static void learn_vain(struct attempt *a)
{
	int change =
	    vain_tries(a) == HINT_VAIN ? HINT_VAIN_ENOUGH - HINT_VAIN : HINT_VAIN_ONE;

	if (a->hint != NULL)
		atomic_fetch_add_explicit(a->hint, (uint16_t)change,
					  memory_order_relaxed);
}

/* The kernel refuses a buffer beyond a process's memory, and looks into vectors, before it
 * waits. */
static bool is_plain(const struct data *d)
{
	return d->buf != NULL && is_in_memory(d->buf, d->size);
}

/* Once in a while it is tried all the same, and then counted from there. */
bool attempt_foresees(struct attempt *a, const struct data *d)
{
	unsigned vain = vain_tries(a);

	/* Who listens waits to accept, and is not read from. */
	if (a->has_waited || !is_plain(d) ||
	    (a->is_socket && attempt_knows(a, HINT_LISTENS)))
		return false;
	a->is_foreseen = vain >= HINT_VAIN_ENOUGH && vain < HINT_VAIN;
	if (unlikely(shake_io))
		a->is_foreseen = shake_number() % 2 != 0;
	return a->is_foreseen;
}

/* --- waiting ------------------------------------------------------------------------------ */

/* A socket's timeout for this direction; 0: none. */
static ns_t socket_timeout(const struct attempt *a)
{
	struct timeval tv = {0};
	socklen_t size = sizeof(tv);
	int name = a->events & POLLOUT ? SEND_TIMEOUT : RECV_TIMEOUT;

	if (raw(SYS_getsockopt, a->fd, SOL_SOCKET, name, &tv, &size) < 0)
		return 0;
	return timespec_ns(
	    &(struct timespec){.tv_sec = tv.tv_sec, .tv_nsec = tv.tv_usec * 1000});
}

static ns_t socket_deadline(struct attempt *a)
{
	unsigned for_ever =
	    a->events & POLLOUT ? HINT_WAITS_FOR_EVER_OUT : HINT_WAITS_FOR_EVER_IN;

	/* While this program sets no timeouts, only such sockets have one that it got with
	 * one: looked at once.  Later, always: they may be known by several numbers. */
	if (!timeouts_are_used && (!a->is_socket || attempt_knows(a, for_ever)))
		return NO_DEADLINE;
	ns_t timeout = socket_timeout(a);
	if (timeout != 0)
		return deadline_in(timeout);
	if (a->is_socket)
		attempt_learn(a, for_ever);
	return NO_DEADLINE;
}

bool socket_low_mark(const struct attempt *a)
{
	int mark = 0;
	socklen_t size = sizeof(mark);

	return raw(SYS_getsockopt, a->fd, SOL_SOCKET, SO_RCVLOWAT, &mark, &size) == 0 &&
	       mark > 1;
}

/* Waits on sockets with a timeout end after any handler (signal(7)); a call with a deadline
 * of its own can be made again. */
static bool is_ended(struct attempt *a, bool has_timeout)
{
	bool must = is_interrupted(a->t, has_timeout && !a->is_timed, a->handlers);

	a->handlers = signal_handlers_run(a->t);
	return must;
}

/* Of the process's group nobody is there who could continue it.  Its parents in the group
 * are taken to have one. */
static bool is_orphaned(void)
{
	return raw(SYS_getsid, raw(SYS_getppid)) != raw(SYS_getsid, 0);
}

static bool is_in_background(int fd)
{
	pid_t foreground = 0;
	int packets;

	/* It fails for what is not the process's own terminal; but for the master of a
	 * pseudoterminal it tells the slave's.  Only a master knows packet mode. */
	return raw(SYS_ioctl, fd, TIOCGPGRP, &foreground) == 0 &&
	       foreground != raw(SYS_getpgid, 0) &&
	       raw(SYS_ioctl, fd, TIOCGPKT, &packets) != 0;
}

/*
 * The kernel stops a background process that reads from its terminal, unless the thread
 * that reads blocks the signal: then it gets EIO (drivers/tty/tty_jobctrl.c).  Workers block
 * them all; so what the task wants is done here, and a bound one is left to the kernel.
 */
long attempt_claim(struct attempt *a, int sig)
{
	struct kernel_sigaction act;

	if (task_is_bound(a->t))
		return 0;
	/* Each time that it is continued in the background it is stopped again.  Not for
	 * ever: it may be orphaned all the same. */
	for (int i = 0; i < 100; i++) {
		if (likely(!is_in_background(a->fd)))
			return 0;
		signal_action(sig, NULL, &act);
		if (act.handler == (void *)SIG_IGN || is_orphaned() ||
		    (signal_get_mask(a->t) & 1ULL << (sig - 1)))
			return -EIO;
		if (raw(SYS_kill, 0, sig) == 0)
			signal_settle(a->t, sig);
		if (is_ended(a, false))
			return -EINTR;
	}
	return -EIO;
}

static void set_cancel_point(const struct attempt *a, bool on)
{
	struct task_ext *ext = task_ext(a->t);

	if (a->is_point)
		task_set_cancel_point(a->t, on && !ext->cancel_disabled && !ext->exiting);
}

/* Whether the call waits at all: what its flags and options say when it begins to.  0: it
 * does. */
static long first_wait(struct attempt *a)
{
	long flags;

	if (task_is_bound(a->t))
		return ATTEMPT_DOOR;
	flags = raw(SYS_fcntl, a->fd, F_GETFL);
	if (flags < 0)
		return flags;
	if (flags & O_NONBLOCK) {
		attempt_learn(a, HINT_NONBLOCK);
		attempt_unlearn_vain(a);
		return a->has_begun ? -EAGAIN : ATTEMPT_AGAIN;
	}
	if (a->events == POLLIN)
		learn_vain(a);
	a->has_waited = true;
	if (!a->is_timed)
		a->deadline = socket_deadline(a);
	return 0;
}

/*
 * What the wait was good for.  Some files are ready to poll and yet refuse: a datagram
 * socket that sends to another whose queue is full.  Those wait in the kernel.  Often it
 * only was that somebody else has been faster.
 */
static long look_again(struct attempt *a)
{
	if (fd_generation(a->fd) != a->generation)
		return -EBADF;
	/* The error is for the next call, as natively, if this one has moved anything: a try
	 * would take it from the socket. */
	if (a->done > 0 && a->is_socket && (ready_events(a) & POLLERR))
		return -EPIPE;
	if (a->n_fruitless < 4)
		a->n_fruitless++;
	else if (ready_events(a) != 0 && ++a->n_fruitless > 6)
		return ATTEMPT_DOOR;
	return ATTEMPT_AGAIN;
}

long attempt_wait(struct attempt *a)
{
	long r;

	if (unlikely(a->is_refused) && !may_refuse(a))
		return ATTEMPT_AGAIN;
	a->has_begun = a->has_begun || !(a->is_foreseen || a->is_refused);
	a->is_foreseen = a->is_refused = false;
	if (!a->has_waited && (r = first_wait(a)) != 0)
		return r;
	if (unlikely(signal_handlers_run(a->t) != a->handlers)) {
		if (!a->has_begun)
			return ATTEMPT_AGAIN;
		if (is_ended(a, a->deadline != NO_DEADLINE))
			return -EINTR;
	}
	set_cancel_point(a, true);
	if (unlikely(shake_io) && shake_number() % 4 == 0)
		r = -EINTR;
	else
		r = fd_wait(a->fd, a->events, a->generation, a->deadline);
	bool is_cancelled = task_cancel_wanted(a->t);
	set_cancel_point(a, false);
	/* What was there before the signal or the deadline is the call's answer. */
	if ((r == -EINTR || r == -ETIMEDOUT) && !a->has_begun && !is_cancelled)
		return ATTEMPT_AGAIN;
	switch (r) {
	case 0:
		return look_again(a);
	case -EINTR:
		return is_cancelled || is_ended(a, a->deadline != NO_DEADLINE)
			   ? -EINTR
			   : ATTEMPT_AGAIN;
	case -ETIMEDOUT:
		/* To a call with a deadline the kernel itself says what is to be said. */
		return a->is_timed ? ATTEMPT_AGAIN : -EAGAIN;
	case -EBADF:
		return r;
	default:
		return ATTEMPT_DOOR;
	}
}

long attempt_door(struct attempt *a, long nr, long b, long c, long d, long e, long f,
		  long g)
{
	bool begun = a->has_begun, is_cancelled;
	long r;

	do {
		set_cancel_point(a, true);
		r = kernel_whole(a->t, &begun, nr, b, c, d, e, f, g);
		is_cancelled = task_cancel_wanted(a->t);
		set_cancel_point(a, false);
	} while (r == -EINTR && !is_cancelled &&
		 !(is_ended(a, socket_timeout(a) != 0) && begun));
	return r;
}

bool attempt_may_go_on(struct attempt *a)
{
	return kernel_was_cut(a->t) && signal_handlers_run(a->t) == a->handlers &&
	       !task_cancel_wanted(a->t);
}

long attempt_by_door(struct task *t, bool is_point, int fd, short events, long nr, long c,
		     long d, long e, long f, long g)
{
	struct attempt a;

	attempt_begin(&a, t, fd, events, is_point);
	return attempt_end(&a, attempt_door(&a, nr, fd, c, d, e, f, g));
}
