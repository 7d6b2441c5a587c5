/* SPDX-License-Identifier: MIT */
/*
 * attempt.h: calls on descriptors that park their task (door 2).
 *
 * Such a call
 * 1. notes how often the descriptor's number was closed, and tries without blocking and
 *    without touching O_NONBLOCK, which other processes may share: MSG_DONTWAIT for
 *    sockets, RWF_NOWAIT for what else understands it, poll without a timeout for the rest;
 * 2. takes EAGAIN for its answer if the program itself set O_NONBLOCK;
 * 3. parks until the descriptor is ready, and tries again.  Where the last first tries were
 *    all in vain, as in a thread that answers and then waits for the next question, it parks
 *    without having tried;
 * 4. goes through the kernel door where that can't be: regular files, bound tasks.
 *
 *	attempt_begin(&a, t, fd, POLLIN, is_point);
 *	r = attempt_run(&a, once, &call);
 *	if (r == ATTEMPT_DOOR)
 *		r = attempt_door(&a, SYS_read, fd, (long)buf, (long)n, 0, 0, 0);
 *	return attempt_end(&a, r);
 *
 * All of it is in the kernel's terms: a count, or -E.
 */
#ifndef PGREEN_ATTEMPT_H
#define PGREEN_ATTEMPT_H

#include "wrap.h"

/* Besides counts and errors: of a try, and of a wait. */
#define ATTEMPT_DOOR LONG_MIN        /* this call is one for the kernel door */
#define ATTEMPT_AGAIN (LONG_MIN + 1) /* try again */

/*
 * What was found out about a descriptor, in the bits that the runtime keeps for it.  It may
 * be that of a file which was closed behind our back: so it only says what to try first.
 */
enum {
	KIND_UNKNOWN,
	KIND_STREAM,    /* a socket; those of other types keep messages apart */
	KIND_DGRAM,     /* also raw and the like */
	KIND_SEQPACKET, /* write() on it ends a record */
	KIND_PIPE,      /* also a FIFO */
	KIND_DEVICE, /* a character device, or what has no type: eventfd, inotify, ... */
	KIND_FILE,   /* regular, a directory, a disk: never waits for anybody */
	KIND_TERMINAL,   /* a character device too, which is its own job's alone */
	HINT_KIND = 7,   /* the bits of the above */
	HINT_ASK_IN = 8, /* no RWF_NOWAIT for reading: poll is asked first */
	HINT_ASK_OUT = 16,
	HINT_LISTENS = 8,            /* a socket: accept() may wait for it */
	HINT_WAITS_FOR_EVER_IN = 32, /* a socket without SO_RCVTIMEO */
	HINT_WAITS_FOR_EVER_OUT = 64,
	HINT_NONBLOCK =
	    128, /* the program has set O_NONBLOCK: the kernel answers at once */
	/* A count, in the topmost bits: first tries to read that were in vain, without one
	 * that was not; from VAIN_ENOUGH on also those that were foreseen to be. */
	HINT_VAIN_ONE = 1 << 11,
	HINT_VAIN_ENOUGH = 4 * HINT_VAIN_ONE,
	HINT_VAIN = 31 * HINT_VAIN_ONE,
};

enum { MEMORY_DEVICES = 1 }; /* the kernel's MEM_MAJOR */

struct attempt {
	struct task *t;
	_Atomic uint16_t *hint; /* NULL: nothing is kept for such a number */
	int fd;
	short events;  /* to wait for: POLLIN or POLLOUT */
	bool is_point; /* of cancellation */
	bool is_socket;
	bool has_waited;
	bool has_begun;   /* natively it waits by now: a try in earnest was in vain */
	bool is_foreseen; /* the last was not made, since it would be in vain */
	bool is_refused;  /* nor that one, for PGREEN_SHAKE=io */
	bool is_calm;     /* no more of that */
	uint8_t n_fruitless;
	uint32_t generation; /* of fd */
	uint32_t handlers;   /* that had run */
	bool is_timed;       /* deadline is the call's own, and each try knows of it */
	ns_t deadline;       /* or SO_RCVTIMEO's or SO_SNDTIMEO's, once it waits */
	size_t done;         /* bytes moved by earlier tries */
};

/* --- system calls that do not block ------------------------------------------------------ */

static inline long raw_call(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return r;
}

#define RAW_ARGS_(nr, a, b, c, d, e, f, ...) \
	raw_call(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define raw(...) RAW_ARGS_(__VA_ARGS__, 0, 0, 0, 0, 0, 0)

static inline bool attempt_knows(const struct attempt *a, unsigned bit)
{
	return a->hint != NULL &&
	       (atomic_load_explicit(a->hint, memory_order_relaxed) & bit) != 0;
}

/* --- the steps --------------------------------------------------------------------------- */

static inline void attempt_begin(struct attempt *a, struct task *t, int fd, short events,
				 bool is_point)
{
	if (is_point)
		cancel_test(t);
	signal_take_eintr(t);
	*a = (struct attempt){
	    .t = t,
	    .hint = fd_hint(fd),
	    .fd = fd,
	    .events = events,
	    .is_point = is_point,
	    .generation = fd_generation(fd),
	    .handlers = signal_handlers_run(t),
	    .deadline = NO_DEADLINE,
	};
}

/* After a try that said EAGAIN.  ATTEMPT_AGAIN, ATTEMPT_DOOR, or the call's error. */
long attempt_wait(struct attempt *a);

/* Tries and waits until the call has an answer, or is one for the door. */
static inline long attempt_run(struct attempt *a, long (*once)(struct attempt *, void *),
			       void *call)
{
	long r;

	do
		r = once(a, call);
	while (unlikely(r == -EAGAIN) && (r = attempt_wait(a)) == ATTEMPT_AGAIN);
	return r;
}

/* The first try has succeeded: the next is not foreseen to be in vain. */
void attempt_unlearn_vain(struct attempt *a);

/* The call itself, or what is left of it, by the kernel door. */
long attempt_door(struct attempt *a, long nr, long b, long c, long d, long e, long f,
		  long g);

/* Whether what the door has just answered may be less than was asked for only because our
 * own signal came: then the call goes on. */
bool attempt_may_go_on(struct attempt *a);

/* What the call returns, with r for its last part.  A pending cancel acts here if it ended
 * the call, and nothing is lost by it.  It may have been the cancel also where the descriptor
 * is closed: who cancels and then closes it did the one before the other. */
static inline long attempt_end(struct attempt *a, long r)
{
	if (likely(r >= 0)) {
		if (!a->has_waited && a->events == POLLIN && attempt_knows(a, HINT_VAIN))
			attempt_unlearn_vain(a);
		return (long)a->done + r;
	}
	if (a->done > 0)
		return (long)a->done;
	if ((r == -EINTR || r == -EBADF) && a->is_point)
		cancel_test(a->t);
	return r;
}

/* Part of it is done: size bytes. */
static inline void attempt_moved(struct attempt *a, size_t size)
{
	a->done += size;
	a->n_fruitless = 0;
}

/* A call that has neither a try nor anything else to wait for. */
long attempt_by_door(struct task *t, bool is_point, int fd, short events, long nr, long c,
		     long d, long e, long f, long g);

/* --- for tries --------------------------------------------------------------------------- */

/* KIND_STREAM and so on; asks the kernel if it is not known. */
unsigned attempt_kind(struct attempt *a);

/* The program's own O_NONBLOCK was met here: then the call itself is enough, by the door, and
 * need not be asked about when it says EAGAIN.  Looked at again now and then: other processes
 * may have taken it away, and the call may wait after all. */
bool attempt_looks_nonblocking(struct attempt *a);
static inline bool attempt_is_nonblocking(struct attempt *a)
{
	return attempt_knows(a, HINT_NONBLOCK) && attempt_looks_nonblocking(a);
}

void attempt_learn(struct attempt *a, unsigned bit);
void attempt_forget(struct attempt *a); /* all: it is another file's */

/* Whether the call may have the terminal a->fd: 0, or the call's error, when the process had
 * been stopped by sig or not, as job control has it. */
long attempt_claim(struct attempt *a, int sig);

/* -EAGAIN, or ATTEMPT_DOOR: it is ready, and the call may be made. */
long attempt_ask(struct attempt *a);

/* As raw_call, for calls that write: SIGPIPE and SIGXFSZ, which the kernel sends to the
 * kernel thread, become the task's. */
long attempt_raw_out(struct attempt *a, long nr, long b, long c, long d, long e, long f,
		     long g);

/* For the tests of PGREEN_SHAKE=io: whether this try is to get EAGAIN unmade; how much of n
 * bytes it may move. */
bool attempt_shakes(struct attempt *a);
size_t attempt_shaken_size(const struct attempt *a, size_t n);

static inline bool attempt_is_refused(struct attempt *a)
{
	return unlikely(shake_io) && attempt_shakes(a);
}

/* Sockets that setsockopt() gave a timeout or a low-water mark, since the program began. */
extern _Atomic bool timeouts_are_used, low_marks_are_used;

/* Whether a socket is ready for reading only when there is more than one byte
 * (SO_RCVLOWAT), which MSG_DONTWAIT does not obey. */
bool socket_low_mark(const struct attempt *a);
static inline bool socket_has_low_mark(const struct attempt *a)
{
	return unlikely(low_marks_are_used) && socket_low_mark(a);
}

/* --- what is read or written -------------------------------------------------------------- */

/* One buffer; or a vector, of whose first element buf is what is left once part of it has
 * been moved. */
struct data {
	char *buf;
	size_t size;
	const struct iovec *v;
	int n;
};

/* The most that one call moves (the kernel's MAX_RW_COUNT). */
enum { MOST_AT_ONCE = 0x7ffff000 };

/* Whether all of it may be a process's memory.  Where not the call is one for the door: the
 * kernel's answer to a size that cannot be, as a negative one, is EFAULT, which it would not
 * say to the most that we ask for at once.  (With five levels of page tables there is more;
 * then the door is a detour.) */
static inline bool is_in_memory(const void *buf, size_t size)
{
	enum { USER_BITS = 47 };

	return (uintptr_t)buf >> USER_BITS == 0 && size >> USER_BITS == 0 &&
	       ((uintptr_t)buf + size) >> USER_BITS == 0;
}

static inline struct data data_of(const void *buf, size_t size)
{
	return (struct data){.buf = (char *)buf,
			     .size = size < MOST_AT_ONCE ? size : MOST_AT_ONCE};
}

static inline size_t data_size(const struct data *d)
{
	size_t size = d->buf != NULL ? d->size : 0;

	for (int i = d->buf != NULL; i < d->n; i++)
		size += d->v[i].iov_len;
	return size;
}

/* The vector to try with: one where d is a buffer, and for PGREEN_SHAKE=io where it is not. */
const struct iovec *attempt_vector(const struct attempt *a, const struct data *d,
				   struct iovec *one);

/* Whether r is all of a vector's first part, which alone was given to the door since some of
 * it had been moved: then the rest is to come.  Less means that something has ended it. */
static inline bool data_is_part(const struct data *d, long r)
{
	return d->buf != NULL && r == (long)d->size;
}

/* Its first size bytes have been moved. */
void data_advance(struct data *d, size_t size);

/* Whether a try to read into d would be in vain, as things have gone lately: the caller says
 * EAGAIN without it.  It may be wrong: then the wait is a short one.  But only of a call that
 * waits before it says anything else: what is no good, or asks for nothing, is tried. */
bool attempt_foresees(struct attempt *a, const struct data *d);

#endif
