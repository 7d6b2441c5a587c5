/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <sys/syscall.h>

#include "descriptor.h"
#include "waits.h"

enum { FDS_SHOWN = 4 };

/* --- what it is --------------------------------------------------------------------- */

static bool lies_in(const struct task_view *t, size_t size)
{
	return t->wait_addr >= t->wait_object && t->wait_addr - t->wait_object < size;
}

/* Whether what it waits on can be what it said last. */
static bool is_said(const struct task_view *t)
{
	switch (t->kind) {
	case DEBUG_WAIT_MUTEX:
		return lies_in(t, sizeof(pthread_mutex_t));
	case DEBUG_WAIT_READ:
	case DEBUG_WAIT_WRITE:
		return lies_in(t, sizeof(pthread_rwlock_t));
	case DEBUG_WAIT_BARRIER:
		return lies_in(t, sizeof(pthread_barrier_t));
	case DEBUG_WAIT_COND:
	case DEBUG_WAIT_SEMAPHORE:
	case DEBUG_WAIT_ONCE:
	case DEBUG_WAIT_FUTEX:
		return t->wait_addr == t->wait_object;
	case DEBUG_WAIT_JOIN:
		return t->wait_addr == t->wait_object + (t->done - t->at);
	case DEBUG_WAIT_SLEEP:
	case DEBUG_WAIT_SIGNAL:
	case DEBUG_WAIT_DESCRIPTOR:
	case DEBUG_WAIT_DISK:
		return t->wait_addr == t->never;
	default:
		return false;
	}
}

enum debug_kind wait_kind(const struct task_view *t)
{
	return is_said(t) ? t->kind : DEBUG_WAIT_WORD;
}

const char *wait_words(enum debug_kind kind, size_t n)
{
	static const char *const words[DEBUG_N_WAITS][2] = {
	    [DEBUG_WAIT_WORD] = {"waits for a word to change",
				 "wait for a word to change"},
	    [DEBUG_WAIT_MUTEX] = {"waits for a mutex", "wait for a mutex"},
	    [DEBUG_WAIT_COND] = {"waits for a condition", "wait for a condition"},
	    [DEBUG_WAIT_READ] = {"waits to read", "wait to read"},
	    [DEBUG_WAIT_WRITE] = {"waits to write", "wait to write"},
	    [DEBUG_WAIT_BARRIER] = {"waits at a barrier", "wait at a barrier"},
	    [DEBUG_WAIT_SEMAPHORE] = {"waits for a semaphore", "wait for a semaphore"},
	    [DEBUG_WAIT_ONCE] = {"waits for pthread_once", "wait for pthread_once"},
	    [DEBUG_WAIT_FUTEX] = {"waits for a futex", "wait for a futex"},
	    [DEBUG_WAIT_JOIN] = {"joins another", "join another"},
	    [DEBUG_WAIT_SLEEP] = {"sleeps", "sleep"},
	    [DEBUG_WAIT_SIGNAL] = {"waits for a signal", "wait for a signal"},
	    [DEBUG_WAIT_DESCRIPTOR] = {"waits for a descriptor", "wait for a descriptor"},
	    [DEBUG_WAIT_DISK] = {"waits for the disk", "wait for the disk"},
	};

	return words[kind][n != 1];
}

/* The mutex of a lock word: in one with a ceiling the word is another (mutex.c), and a mutex
 * is aligned as the pointers in it. */
static uint64_t mutex_of(uint64_t word)
{
	return word % sizeof(void *) == 0
		   ? word
		   : word - offsetof(pthread_mutex_t, __data.__spins);
}

static uint32_t read_u32(const struct runtime *rt, uint64_t at)
{
	uint32_t value = 0;

	remote_read(rt->remote, at, &value, sizeof(value));
	return value;
}

bool wait_awaited(const struct runtime *rt, const struct task_view *t, struct awaited *a)
{
	const struct task_view *joined;

	*a = (struct awaited){.kind = wait_kind(t), .object = t->wait_object};
	switch (a->kind) {
	case DEBUG_WAIT_MUTEX:
		a->object = mutex_of(t->wait_object);
		a->tid = (int)read_u32(rt, a->object +
					       offsetof(pthread_mutex_t, __data.__owner));
		break;
	case DEBUG_WAIT_READ:
	case DEBUG_WAIT_WRITE:
		a->tid = (int)read_u32(
		    rt, a->object + offsetof(pthread_rwlock_t, __data.__cur_writer));
		break;
	case DEBUG_WAIT_JOIN:
		joined = runtime_task_at(rt, t->wait_object);
		a->tid = joined ? joined->tid : 0;
		break;
	default:
		break;
	}
	return a->tid != 0;
}

/* --- in words ------------------------------------------------------------------------ */

void print_length(int64_t ns, FILE *to)
{
	int64_t s = ns / 1000000000;

	if (ns < 1000000)
		fprintf(to, "%.1f us", (double)ns / 1e3);
	else if (s < 1)
		fprintf(to, "%.1f ms", (double)ns / 1e6);
	else if (s < 60)
		fprintf(to, "%.2f s", (double)ns / 1e9);
	else if (s < 3600)
		fprintf(to, "%" PRId64 " min %" PRId64 " s", s / 60, s % 60);
	else
		fprintf(to, "%" PRId64 " h %" PRId64 " min", s / 3600, s / 60 % 60);
}

void print_text(const char *text, FILE *to)
{
	for (const char *c = text; *c; c++)
		fputc((unsigned char)*c < ' ' || *c == 127 ? '?' : *c, to);
}

void print_task(const struct task_view *t, FILE *to)
{
	fprintf(to, "%d \"", t->tid);
	print_text(t->name, to);
	fputc('"', to);
}

void print_object(const struct images *all, uint64_t at, FILE *to)
{
	struct image *i = image_at(all, at);
	struct symbol *s = i ? image_symbol(all, i, at, false) : NULL;

	fprintf(to, "0x%" PRIx64, at);
	if (s && at == s->at)
		fprintf(to, " (%s)", symbol_name(s));
	else if (s)
		fprintf(to, " (%s+0x%" PRIx64 ")", symbol_name(s), at - s->at);
}

static void print_owner(const struct waits *w, const struct task_view *t,
			const struct awaited *a, FILE *to)
{
	const struct task_view *owner = runtime_task_of_tid(w->rt, a->tid);

	if (a->tid == t->tid) {
		fputs("itself", to);
	} else if (owner) {
		print_task(owner, to);
	} else {
		fprintf(to, "%d, which has ended", a->tid);
	}
}

static void print_mutex(const struct waits *w, const struct task_view *t, FILE *to)
{
	struct awaited a;
	bool is_held = wait_awaited(w->rt, t, &a);

	fputs("waits for mutex ", to);
	print_object(w->images, a.object, to);
	fputs(is_held ? ", held by " : ", which is being passed on", to);
	if (is_held)
		print_owner(w, t, &a, to);
}

static void print_cond(const struct waits *w, const struct task_view *t, FILE *to)
{
	fputs("waits for condition ", to);
	print_object(w->images, t->wait_object, to);
	if (t->wait_word) {
		fputs(", with mutex ", to);
		print_object(w->images, mutex_of(t->wait_word), to);
	}
}

static void print_rwlock(const struct waits *w, const struct task_view *t, FILE *to)
{
	enum { READER = 8, READERS = 0x3ffffff8 }; /* of the word, as libc's */
	struct awaited a;
	bool is_written = wait_awaited(w->rt, t, &a);
	uint32_t n = (read_u32(w->rt, a.object) & READERS) / READER;

	fputs("waits for read-write lock ", to);
	print_object(w->images, a.object, to);
	fputs(a.kind == DEBUG_WAIT_READ ? " to read" : " to write", to);
	if (is_written) {
		fputs(", written by ", to);
		print_owner(w, t, &a, to);
	} else if (n) {
		fprintf(to, ", read by %" PRIu32 " task%s", n, n == 1 ? "" : "s");
	}
}

static void print_barrier(const struct waits *w, const struct task_view *t, FILE *to)
{
	/* The words as interpose/barrier.c has them. */
	uint32_t arrived = read_u32(w->rt, t->wait_object),
		 wanted = read_u32(w->rt, t->wait_object + 8);

	fputs("waits at barrier ", to);
	print_object(w->images, t->wait_object, to);
	fprintf(to, ", %" PRIu32 " of %" PRIu32 " are there", arrived, wanted);
}

static void print_join(const struct waits *w, const struct task_view *t, FILE *to)
{
	const struct task_view *joined = runtime_task_at(w->rt, t->wait_object);

	fputs("waits for the end of ", to);
	if (joined)
		print_task(joined, to);
	else
		fputs("a task that has just ended", to);
}

static void print_signals(uint64_t set, FILE *to)
{
	const char *before = "waits for signal ";

	if (set == 0 || set == UINT64_MAX)
		fputs("waits for any signal", to);
	for (int sig = 1; set != UINT64_MAX && sig <= 64; sig++) {
		if (!(set >> (sig - 1) & 1))
			continue;
		fprintf(to, "%s%d", before, sig);
		before = ", ";
	}
}

static void print_descriptor(const struct waits *w, int fd, FILE *to)
{
	char text[512];

	descriptor_describe(w->rt->remote->pid, fd, text, sizeof(text));
	fprintf(to, "descriptor %d (", fd);
	print_text(text, to);
	fputc(')', to);
}

static void print_events(short events, FILE *to)
{
	bool in = events & (POLLIN | POLLRDNORM), out = events & (POLLOUT | POLLWRNORM);

	if (in || out)
		fprintf(to, " to be %s",
			in && out ? "readable or writable"
			: in      ? "readable"
				  : "writable");
	else if (events & (POLLPRI | POLLRDBAND))
		fputs(" to have urgent data", to);
	else
		fputs(" to fail or hang up", to);
}

static void print_pollfds(const struct waits *w, uint64_t at, uint64_t n, FILE *to)
{
	struct pollfd fds[FDS_SHOWN] = {0};
	uint64_t shown = n < FDS_SHOWN ? n : FDS_SHOWN;

	if (remote_read(w->rt->remote, at, fds, shown * sizeof(fds[0])) < 0)
		shown = 0;
	for (uint64_t i = 0; i < shown; i++) {
		fputs(i ? ", or " : "", to);
		print_descriptor(w, fds[i].fd, to);
		print_events(fds[i].events, to);
	}
	if (n > shown)
		fprintf(to, "%s%" PRIu64 " %sdescriptors", shown ? ", or one of " : "",
			n - shown, shown ? "more " : "");
}

static void print_fds(const struct waits *w, const struct task_view *t, FILE *to)
{
	fputs("waits for ", to);
	if (t->n_fds > 1) {
		print_pollfds(w, t->fds, t->n_fds, to);
	} else {
		print_descriptor(w, t->fd, to);
		print_events(t->events, to);
	}
}

static void print_simple(const struct waits *w, const char *what, uint64_t at, FILE *to)
{
	fprintf(to, "waits for %s ", what);
	print_object(w->images, at, to);
}

static void print_deadline(const struct waits *w, const struct task_view *t, FILE *to)
{
	int64_t left = t->deadline - w->now_ns;

	/* Who waits for a routine to end looks now and then himself. */
	if (t->deadline == INT64_MAX || wait_kind(t) == DEBUG_WAIT_ONCE)
		return;
	if (left <= 0) {
		fputs(", and is due", to);
		return;
	}
	fputs(wait_kind(t) == DEBUG_WAIT_SLEEP ? ", " : ", at most ", to);
	print_length(left, to);
	fputs(wait_kind(t) == DEBUG_WAIT_SLEEP ? " more" : " longer", to);
}

void wait_print(const struct waits *w, const struct task_view *t, FILE *to)
{
	switch (wait_kind(t)) {
	case DEBUG_WAIT_MUTEX:
		print_mutex(w, t, to);
		break;
	case DEBUG_WAIT_COND:
		print_cond(w, t, to);
		break;
	case DEBUG_WAIT_READ:
	case DEBUG_WAIT_WRITE:
		print_rwlock(w, t, to);
		break;
	case DEBUG_WAIT_BARRIER:
		print_barrier(w, t, to);
		break;
	case DEBUG_WAIT_SEMAPHORE:
		print_simple(w, "semaphore", t->wait_object, to);
		break;
	case DEBUG_WAIT_ONCE:
		print_simple(w, "pthread_once", t->wait_object, to);
		break;
	case DEBUG_WAIT_FUTEX:
		print_simple(w, "futex", t->wait_object, to);
		break;
	case DEBUG_WAIT_JOIN:
		print_join(w, t, to);
		break;
	case DEBUG_WAIT_SLEEP:
		fputs("sleeps", to);
		break;
	case DEBUG_WAIT_SIGNAL:
		print_signals(t->sigwait, to);
		break;
	case DEBUG_WAIT_DESCRIPTOR:
		print_fds(w, t, to);
		break;
	case DEBUG_WAIT_DISK:
		fputs("waits for the disk to read ", to);
		print_descriptor(w, t->fd, to);
		break;
	default:
		print_simple(w, "a change of the word", t->wait_addr, to);
		break;
	}
	print_deadline(w, t, to);
}

void wait_print_call(const struct waits *w, const struct kthread *k, FILE *to)
{
	bool has_descriptor;
	const char *name = call_name(k->nr, &has_descriptor);

	if (k->nr == NO_CALL) {
		fputs("in the kernel: a page fault, or stopped", to);
		return;
	}
	if (!name) {
		fprintf(to, "in the kernel: system call %ld", k->nr);
		return;
	}
	fprintf(to, "in the kernel: %s", name);
	if (has_descriptor) {
		fputs(" of ", to);
		print_descriptor(w, (int)k->args[0], to);
	} else if (k->nr == SYS_futex) {
		fputc(' ', to);
		print_object(w->images, k->args[0], to);
	} else if ((k->nr == SYS_poll || k->nr == SYS_ppoll) && k->args[1]) {
		fputs(" of ", to);
		print_pollfds(w, k->args[0], k->args[1], to);
	}
}
