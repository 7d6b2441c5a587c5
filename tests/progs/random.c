/* SPDX-License-Identifier: MIT */
/*
 * random.c: a program drawn from a seed, whose outcome depends on nothing but the seed.
 *
 * random SEED [SIZE] draws a tree of threads.  Each draws by itself, from a generator that its
 * creator seeded, what it does: acts of its own (it sleeps, computes, counts under locks,
 * raises signals, runs into timeouts) and scenes, in which it starts threads with parts that fit
 * together (queues, barriers, connections, cancels, forks) and waits for them.  A scene's
 * threads act in between, and play scenes of their own.  Each subject is in half of the programs
 * alone, and so is at times nearly by itself.
 *
 * What a thread saw is noted in its own text.  At the end the seed, all texts and the totals
 * are printed, and the process ends in a way that is drawn as well.  So two runs of one seed
 * must print the same, however their threads were scheduled.  What keeps it so:
 *
 *	- locks are taken in ascending order and held over nothing that waits for another thread;
 *	- who takes from a queue knows how much comes;
 *	- who is to be cancelled has noted all before it can be, and owns nothing that its cleanup
 *	  handlers do not give back;
 *	- a handler may run at any time: whatever it can interrupt is called again;
 *	- a handler that tells others never runs in who can be cancelled;
 *	- a loop that goes round an unknown number of times draws nothing and notes nothing.
 */
#include <execinfo.h>
#include <fcntl.h>
#include <fenv.h>
#include <netinet/in.h>
#include <poll.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "check.h"

#define RETRY(call)                               \
	({                                        \
		long r_;                          \
		do                                \
			r_ = (call);              \
		while (r_ < 0 && errno == EINTR); \
		r_;                               \
	})

enum { N_LOCKS = 6, N_KEYS = 3, N_ONCE = 4, N_SUBJECTS = 64, LONG_S = 1000 };

#define SIG_RESTARTS (SIGRTMIN + 1)   /* to a thread; waits go on after it */
#define SIG_INTERRUPTS (SIGRTMIN + 2) /* to a thread; waits end with EINTR */
#define SIG_PROCESS (SIGRTMIN + 3)    /* to the process */
#define SIG_WAITED (SIGRTMIN + 4)     /* blocked, and taken by sigwait */
#define SIG_WAITED_TOO (SIGRTMIN + 5)

struct thread;
typedef void part(struct thread *t);

/* What all threads of one process share. */
struct world {
	pthread_mutex_t locks[N_LOCKS];
	long counts[N_LOCKS];
	pthread_rwlock_t rwlock;
	long twins[2]; /* equal, but for the writer */
	pthread_spinlock_t spin;
	long spun;
	pthread_key_t keys[N_KEYS];
	FILE *stream;
	char *stream_text;
	size_t stream_size;
	sem_t process_signals; /* posted by SIG_PROCESS's handler */
	sem_t alarms;
	pthread_mutex_t alarm_lock;
	unsigned char weights[N_SUBJECTS];
};

struct thread {
	struct world *world;
	struct thread *first, *last,
	    *next; /* children, in the order in which they were drawn */
	uint64_t random;
	int depth; /* how many more generations there may be */
	part *part;
	void *shared;
	int index;
	int ending;
	bool detached;
	pthread_t pthread;
	void *stack;
	sem_t done; /* posted at a detached thread's end */
	sem_t told; /* posted by the handlers of signals to this thread */
	_Atomic int n_told;
	_Atomic long sum_told;
	_Atomic int n_raised;
	int n_destroyed;
	sigjmp_buf jump;
	char *text;
	size_t length, size;
};

static struct world *world;
static _Thread_local struct thread *self;
static _Thread_local long local[8];

/* --- drawing, noting ------------------------------------------------------------------------ */

static uint64_t draw(struct thread *t)
{
	uint64_t x = t->random += 0x9e3779b97f4a7c15; /* splitmix64 */

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static int below(struct thread *t, int n)
{
	return (int)(draw(t) % (uint64_t)n);
}

static int between(struct thread *t, int low, int high)
{
	return low + below(t, high - low + 1);
}

static bool chance(struct thread *t, int percent)
{
	return below(t, 100) < percent;
}

static __attribute__((format(printf, 2, 3))) void note(struct thread *t,
						       const char *format, ...)
{
	va_list args;
	char line[256];

	va_start(args, format);
	int n = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (t->length + n + 1 > t->size) {
		t->size = 2 * t->size + n + 1;
		t->text = realloc(t->text, t->size);
		CHECK(t->text);
	}
	memcpy(t->text + t->length, line, n + 1);
	t->length += n;
}

static struct timespec after_us(clockid_t clock, long us)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	us += ts.tv_nsec / 1000;
	ts.tv_sec += us / 1000000;
	ts.tv_nsec = us % 1000000 * 1000;
	return ts;
}

static struct timespec long_after(clockid_t clock)
{
	return after_us(clock, LONG_S * 1000000L);
}

static bool is_over(clockid_t clock, const struct timespec *ts)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec > ts->tv_sec ||
	       (now.tv_sec == ts->tv_sec && now.tv_nsec >= ts->tv_nsec);
}

static void down(sem_t *sem)
{
	CHECK(RETRY(sem_wait(sem)) == 0);
}

/* A write that a handler interrupts may have moved less. */
static void put(int fd, const char *text, size_t n)
{
	while (n > 0) {
		long some = RETRY(write(fd, text, n));

		CHECK(some > 0);
		text += some;
		n -= some;
	}
}

/* --- threads -------------------------------------------------------------------------------- */

enum ending { RETURNS, EXITS, CANCELS_ITSELF, N_ENDINGS };

static void unwound(void *arg)
{
	note(arg, " unwound");
}

static void *end(struct thread *t)
{
	void *result = (void *)(long)below(t, 1000);

	if (t->ending == EXITS)
		pthread_exit(result);
	if (t->ending == CANCELS_ITSELF) {
		pthread_cancel(pthread_self());
		pthread_testcancel();
	}
	return result;
}

static void destroyed_late(void *arg)
{
	((struct thread *)arg)->n_destroyed += 100;
}

extern int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);
extern void *__dso_handle;

/* Of a detached thread nobody would know when its destructors have run. */
static void set_keys(struct thread *t)
{
	int which = below(t, 1 << (N_KEYS + 1));

	if (t->detached)
		return;
	for (int i = 0; i < N_KEYS; i++)
		if (which & 1 << i)
			CHECK_OK(pthread_setspecific(t->world->keys[i], t));
	if (which & 1 << N_KEYS)
		CHECK(__cxa_thread_atexit_impl(destroyed_late, t, &__dso_handle) == 0);
}

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	void *result;

	self = t;
	set_keys(t);
	pthread_cleanup_push(unwound, t);
	t->part(t);
	if (t->detached)
		CHECK(sem_post(&t->done) == 0);
	result = t->detached ? NULL : end(t);
	pthread_cleanup_pop(0);
	return result;
}

static struct thread *new_thread(struct thread *parent, part *part, void *shared,
				 int index)
{
	struct thread *t = calloc(1, sizeof(*t));

	CHECK(t);
	t->world = parent->world;
	t->random = draw(parent);
	t->depth = parent->depth - 1;
	t->part = part;
	t->shared = shared;
	t->index = index;
	sem_init(&t->done, 0, 0);
	sem_init(&t->told, 0, 0);
	if (parent->last)
		parent->last->next = t;
	else
		parent->first = t;
	parent->last = t;
	return t;
}

static void launch(struct thread *t)
{
	pthread_attr_t attr;
	int error;

	pthread_attr_init(&attr);
	if (t->detached)
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	switch (below(t, 6)) {
	case 0:
		CHECK_OK(pthread_attr_setstacksize(&attr, 256 << 10));
		break;
	case 1:
		if (t->detached)
			break;
		t->stack = mmap(NULL, 512 << 10, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(t->stack != MAP_FAILED);
		CHECK_OK(pthread_attr_setstack(&attr, t->stack, 512 << 10));
	}
	while ((error = pthread_create(&t->pthread, &attr, thread_main, t)) == EAGAIN)
		sleep_ms(5);
	CHECK_OK(error);
	pthread_attr_destroy(&attr);
}

/* A thread that ends in any way that is its own. */
static struct thread *spawn(struct thread *parent, part *part, void *shared, int index)
{
	struct thread *t = new_thread(parent, part, shared, index);

	t->ending = below(parent, N_ENDINGS);
	t->detached = chance(parent, 15);
	launch(t);
	return t;
}

/* One that may be named until it is reaped. */
static struct thread *spawn_joinable(struct thread *parent, part *part, void *shared,
				     int index)
{
	struct thread *t = new_thread(parent, part, shared, index);

	t->ending = below(parent, N_ENDINGS);
	launch(t);
	return t;
}

static void reap(struct thread *t, struct thread *child)
{
	struct timespec late = long_after(CLOCK_REALTIME);
	void *result;

	if (child->detached) {
		down(&child->done);
		note(t, " detached");
		return;
	}
	switch (below(t, 3)) {
	case 0:
		CHECK_OK(pthread_timedjoin_np(child->pthread, &result, &late));
		break;
	case 1:
		late = long_after(CLOCK_MONOTONIC);
		CHECK_OK(pthread_clockjoin_np(child->pthread, &result, CLOCK_MONOTONIC,
					      &late));
		break;
	default:
		CHECK_OK(pthread_join(child->pthread, &result));
	}
	if (child->stack)
		munmap(child->stack, 512 << 10);
	if (result == PTHREAD_CANCELED)
		note(t, " cancelled/%d", child->n_destroyed);
	else
		note(t, " joined:%ld/%d", (long)result, child->n_destroyed);
}

static void fill_in(struct thread *t);
static void act(struct thread *t, int n);

/* In the middle of a part: now and then something else. */
static void dawdle(struct thread *t)
{
	if (chance(t, 30))
		fill_in(t);
	else if (t->depth > 1 && chance(t, 5))
		act(t, 1);
}

/* --- handlers ------------------------------------------------------------------------------- */

static void on_told(int sig, siginfo_t *info, void *context)
{
	int saved = errno;

	(void)sig, (void)context;
	if (self) {
		atomic_fetch_add(&self->n_told, 1);
		atomic_fetch_add(&self->sum_told, info->si_value.sival_int);
		sem_post(&self->told);
	}
	errno = saved;
}

static void on_process(int sig)
{
	int saved = errno;

	sem_post(sig == SIGALRM ? &world->alarms : &world->process_signals);
	errno = saved;
}

static void on_raised(int sig)
{
	(void)sig;
	self->n_raised++;
	errno = EDOM; /* who raises a signal must expect that */
}

static void on_jump(int sig)
{
	siglongjmp(self->jump, sig);
}

/* Who is told something is not made to jump out of the handler. */
static void set_handlers(void)
{
	struct sigaction told = {.sa_sigaction = on_told,
				 .sa_flags = SA_SIGINFO | SA_RESTART};
	struct sigaction plain = {.sa_handler = on_process, .sa_flags = SA_RESTART};

	sigaddset(&told.sa_mask, SIGUSR1);
	sigaddset(&told.sa_mask, SIGUSR2);
	CHECK(sigaction(SIG_RESTARTS, &told, NULL) == 0);
	told.sa_flags = SA_SIGINFO | SA_ONSTACK;
	CHECK(sigaction(SIG_INTERRUPTS, &told, NULL) == 0);
	CHECK(sigaction(SIG_PROCESS, &plain, NULL) == 0);
	plain.sa_flags = 0;
	CHECK(sigaction(SIGALRM, &plain, NULL) == 0);
	plain.sa_handler = on_raised;
	CHECK(sigaction(SIGUSR1, &plain, NULL) == 0);
	CHECK(sigaction(SIGPIPE, &plain, NULL) == 0);
	plain.sa_handler = on_jump;
	CHECK(sigaction(SIGUSR2, &plain, NULL) == 0);
	CHECK(sigaction(SIGSEGV, &plain, NULL) == 0);
}

/* --- what a thread does by itself ----------------------------------------------------------- */

static void compute(struct thread *t)
{
	uint64_t x = draw(t) | 1;
	double f = 1.0;
	long double g = 1.0, h = 2.0; /* on the x87 stack all the time */

	for (int n = 1 << between(t, 4, chance(t, 10) ? 22 : 16); n > 0; n--) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		f = f * 1.0000001 + (double)(x & 7);
		g = g * 0.9999L + h;
		h = h * 0.9998L + 1;
	}
	note(t, " %lx,%.0f,%.0Lf,%.0Lf", (long)(x & 0xffff), f, g, h);
}

static void yield(struct thread *t)
{
	for (int n = between(t, 1, 20); n > 0; n--)
		sched_yield();
}

static void sleeps(struct thread *t)
{
	clockid_t clock = chance(t, 50) ? CLOCK_REALTIME : CLOCK_MONOTONIC;
	int us = below(t, chance(t, 20) ? 8000 : 500);
	struct timespec until = after_us(CLOCK_MONOTONIC, us), ts = {0, us * 1000};
	struct timespec absolute = after_us(clock, us);
	struct timeval tv = {0, us};

	switch (below(t, 6)) {
	case 0:
		while (nanosleep(&ts, &ts) != 0)
			CHECK(errno == EINTR);
		break;
	case 1:
		while (clock_nanosleep(clock, TIMER_ABSTIME, &absolute, NULL) != 0)
			;
		break;
	case 2:
		if (usleep(us) != 0)
			CHECK(errno == EINTR);
		break;
	case 3:
		CHECK(RETRY(poll(NULL, 0, us / 1000)) == 0);
		break;
	case 4:
		if (select(0, NULL, NULL, NULL, &tv) != 0)
			CHECK(errno == EINTR);
		break;
	default:
		while (ppoll(NULL, 0, &ts, NULL) != 0)
			CHECK(errno == EINTR);
		note(t, " over:%d", is_over(CLOCK_MONOTONIC, &until));
	}
}

static void allocate(struct thread *t)
{
	unsigned char *blocks[16];
	size_t sizes[16];
	int wrong = 0, n = between(t, 1, 16);

	for (int i = 0; i < n; i++) {
		sizes[i] = between(t, 1, chance(t, 10) ? 200000 : 500);
		blocks[i] = malloc(sizes[i]);
		CHECK(blocks[i]);
		memset(blocks[i], i, sizes[i]);
	}
	sched_yield();
	for (int i = 0; i < n; i++) {
		wrong += blocks[i][0] != i || blocks[i][sizes[i] - 1] != i;
		blocks[i] = realloc(blocks[i], 2 * sizes[i]);
		CHECK(blocks[i]);
		wrong += blocks[i][sizes[i] - 1] != i;
		free(blocks[i]);
	}
	note(t, " wrong:%d", wrong);
}

/* What may be done with locks held. */
static void linger(struct thread *t)
{
	switch (below(t, 8)) {
	case 0:
		compute(t);
		break;
	case 1:
		yield(t);
		break;
	case 2:
		sleeps(t);
		break;
	case 3:
		allocate(t);
	}
}

static void lock_somehow(struct thread *t, pthread_mutex_t *mutex)
{
	struct timespec late = long_after(CLOCK_REALTIME);

	switch (below(t, 4)) {
	case 0:
		while (pthread_mutex_trylock(mutex) != 0)
			sched_yield();
		break;
	case 1:
		CHECK_OK(pthread_mutex_timedlock(mutex, &late));
		break;
	case 2:
		late = long_after(CLOCK_MONOTONIC);
		CHECK_OK(pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &late));
		break;
	default:
		CHECK_OK(pthread_mutex_lock(mutex));
	}
}

static void count(struct thread *t)
{
	struct world *w = t->world;
	int which = between(t, 1, (1 << N_LOCKS) - 1);
	long seen[N_LOCKS];

	for (int i = 0; i < N_LOCKS; i++) {
		if (which & 1 << i) {
			lock_somehow(t, &w->locks[i]);
			seen[i] = w->counts[i];
			linger(t);
		}
	}
	for (int i = N_LOCKS - 1; i >= 0; i--) {
		if (which & 1 << i) {
			w->counts[i] = seen[i] + 1;
			CHECK_OK(pthread_mutex_unlock(&w->locks[i]));
		}
	}
}

static void read_or_write(struct thread *t)
{
	struct world *w = t->world;
	struct timespec late = long_after(CLOCK_REALTIME);

	if (chance(t, 60)) {
		if (chance(t, 50))
			CHECK_OK(pthread_rwlock_rdlock(&w->rwlock));
		else
			CHECK_OK(pthread_rwlock_timedrdlock(&w->rwlock, &late));
		note(t, " twins:%d", w->twins[0] == w->twins[1]);
		linger(t);
		note(t, "%d", w->twins[0] == w->twins[1]);
	} else {
		if (chance(t, 50))
			CHECK_OK(pthread_rwlock_wrlock(&w->rwlock));
		else
			CHECK_OK(pthread_rwlock_timedwrlock(&w->rwlock, &late));
		w->twins[0]++;
		linger(t);
		w->twins[1]++;
	}
	CHECK_OK(pthread_rwlock_unlock(&w->rwlock));
}

static void spin(struct thread *t)
{
	for (int n = between(t, 1, 50); n > 0; n--) {
		pthread_spin_lock(&t->world->spin);
		t->world->spun++;
		pthread_spin_unlock(&t->world->spin);
	}
}

static void keep_errno(struct thread *t)
{
	int mine = between(t, 1, 90);

	errno = mine;
	for (int n = between(t, 1, 5); n > 0; n--) {
		for (volatile int i = 0; i < 20000; i++)
			;
		sched_yield();
	}
	note(t, " errno:%d", errno == mine);
}

static void keep_locals(struct thread *t)
{
	long mine = (long)draw(t);
	bool same = true;

	for (int i = 0; i < 8; i++)
		local[i] = mine + i;
	linger(t);
	for (int i = 0; i < 8; i++)
		same &= local[i] == mine + i;
	note(t, " local:%d,%d", same, self == t);
}

static void keep_rounding(struct thread *t)
{
	static const int modes[] = {FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};
	int mode = modes[below(t, 4)];
	volatile double one = 1.0, three = 3.0;
	volatile long double long_one = 1.0;

	fesetround(mode);
	for (volatile int i = 0; i < 30000; i++)
		;
	sched_yield();
	note(t, " third:%a,%La,%d", one / three, long_one / three, fegetround() == mode);
	fesetround(FE_TONEAREST);
}

static pthread_once_t once[N_ONCE];
static _Atomic int n_once[N_ONCE];

#define ONCE_ROUTINE(i)            \
	static void once_##i(void) \
	{                          \
		sleep_ms(i);       \
		n_once[i]++;       \
	}
ONCE_ROUTINE(0)
ONCE_ROUTINE(1)
ONCE_ROUTINE(2)
ONCE_ROUTINE(3)

static void do_once(struct thread *t)
{
	static void (*const routines[N_ONCE])(void) = {once_0, once_1, once_2, once_3};
	int i = below(t, N_ONCE);

	CHECK_OK(pthread_once(&once[i], routines[i]));
	note(t, " once:%d", n_once[i]);
}

static void use_stdio(struct thread *t)
{
	char *text;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	CHECK(f);
	for (int n = between(t, 1, 30); n > 0; n--) {
		fprintf(f, "%d %s\n", below(t, 1000000), "words");
		if (chance(t, 20))
			sched_yield();
		flockfile(t->world->stream);
		fputc('x', t->world->stream);
		sched_yield();
		fputs("yz\n", t->world->stream);
		funlockfile(t->world->stream);
	}
	fclose(f);
	note(t, " wrote:%zu", size);
	free(text);
}

static __attribute__((noinline)) int descend(int n)
{
	volatile char frame[500];

	memset((char *)frame, n, sizeof(frame));
	if (n % 16 == 0)
		sched_yield();
	return n == 0 ? 0 : descend(n - 1) + (frame[n % 500] == (char)n);
}

static void go_deep(struct thread *t)
{
	int n = between(t, 1, 120);

	note(t, " deep:%d", n - descend(n));
}

static void raise_signal(struct thread *t)
{
	int before = t->n_raised, n = between(t, 1, 4);

	for (int i = 0; i < n; i++)
		CHECK((chance(t, 50) ? raise(SIGUSR1)
				     : pthread_kill(pthread_self(), SIGUSR1)) == 0);
	note(t, " raised:%d", n - (t->n_raised - before));
}

static void jump(struct thread *t)
{
	int volatile sig = sigsetjmp(t->jump, 1);
	sigset_t mask;

	if (sig == 0) {
		raise(SIGUSR2);
		note(t, " not jumped");
	}
	CHECK_OK(pthread_sigmask(SIG_BLOCK, NULL, &mask));
	note(t, " jumped:%d", sigismember(&mask, SIGUSR2));
}

static void fault(struct thread *t)
{
	volatile char *page =
	    mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool touches = chance(t, 50);

	CHECK(page != MAP_FAILED);
	if (sigsetjmp(t->jump, 1) == 0) {
		if (touches)
			*page = 1;
		note(t, " untouched");
	} else {
		note(t, " faulted");
	}
	munmap((void *)page, 4096);
}

static void pend(struct thread *t)
{
	struct timespec zero = {0, 0};
	sigset_t set, old, pending;
	siginfo_t info;
	int value = below(t, 1000);

	sigemptyset(&set);
	sigaddset(&set, SIG_WAITED);
	CHECK_OK(pthread_sigmask(SIG_BLOCK, &set, &old));
	note(t, " waited:%d", RETRY(sigtimedwait(&set, &info, &zero)) < 0 ? errno : 0);
	while (pthread_sigqueue(pthread_self(), SIG_WAITED,
				(union sigval){.sival_int = value}) != 0)
		sleep_ms(1);
	sigpending(&pending);
	note(t, ",%d", sigismember(&pending, SIG_WAITED));
	CHECK(RETRY(sigwaitinfo(&set, &info)) == SIG_WAITED);
	note(t, ",%d", info.si_value.sival_int == value && info.si_code == SI_QUEUE);
	CHECK_OK(pthread_sigmask(SIG_SETMASK, &old, NULL));
}

static void time_out_cond(struct thread *t)
{
	clockid_t clock = chance(t, 50) ? CLOCK_REALTIME : CLOCK_MONOTONIC;
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t cond;
	pthread_condattr_t attr;
	struct timespec ts = after_us(clock, below(t, 3000));
	int error;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, clock);
	pthread_cond_init(&cond, &attr);
	pthread_mutex_lock(&mutex);
	do
		error = pthread_cond_timedwait(&cond, &mutex, &ts);
	while (error == 0);
	note(t, " cond:%d,%d,%d", error, is_over(clock, &ts),
	     pthread_mutex_trylock(&mutex));
	pthread_mutex_unlock(&mutex);
	pthread_cond_destroy(&cond);
}

static void time_out(struct thread *t)
{
	clockid_t clock = chance(t, 50) ? CLOCK_REALTIME : CLOCK_MONOTONIC;
	struct timespec ts = after_us(clock, below(t, 3000));
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
	sem_t sem;

	switch (below(t, 4)) {
	case 0:
		sem_init(&sem, 0, 0);
		note(t, " sem:%ld", RETRY(sem_clockwait(&sem, clock, &ts)));
		note(t, ",%d", errno);
		break;
	case 1:
		pthread_mutex_lock(&mutex);
		note(t, " mutex:%d", pthread_mutex_clocklock(&mutex, clock, &ts));
		break;
	case 2:
		pthread_rwlock_rdlock(&rwlock);
		note(t, " rwlock:%d", pthread_rwlock_clockwrlock(&rwlock, clock, &ts));
		break;
	default:
		time_out_cond(t);
		return;
	}
	note(t, ",%d", is_over(clock, &ts));
}

static void err(struct thread *t)
{
	pthread_mutexattr_t attr;
	pthread_mutex_t mutex;
	int kind = below(t, 3), protocol = chance(t, 20);

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, kind == 0   ? PTHREAD_MUTEX_ERRORCHECK
					 : kind == 1 ? PTHREAD_MUTEX_RECURSIVE
						     : PTHREAD_MUTEX_NORMAL);
	if (protocol)
		pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
	CHECK_OK(pthread_mutex_init(&mutex, &attr));
	note(t, " kind%d:%d", kind, pthread_mutex_lock(&mutex));
	note(t, ",%d", pthread_mutex_trylock(&mutex));
	if (kind != 2)
		note(t, ",%d", pthread_mutex_lock(&mutex));
	linger(t);
	note(t, ",%d", pthread_mutex_destroy(&mutex));
	for (int i = 0; i < (kind == 2 ? 1 : 4); i++)
		note(t, ",%d", pthread_mutex_unlock(&mutex));
	note(t, ",%d", pthread_mutex_destroy(&mutex));
}

/* Who is forked meanwhile keeps the ends open for a while: only shutdown() ends at once. */
static void use_pipe(struct thread *t)
{
	int fds[2], n = between(t, 1, 4000), ms = below(t, 3), before;
	int type = SOCK_STREAM | (chance(t, 30) ? SOCK_NONBLOCK : 0);
	bool is_socket = chance(t, 50);
	char out[4000], in[4000];

	if (is_socket)
		CHECK(socketpair(AF_UNIX, type, 0, fds) == 0);
	else
		CHECK(pipe2(fds, type & O_NONBLOCK) == 0);
	struct pollfd p = {fds[0], POLLIN, 0};
	note(t, " poll:%ld", RETRY(poll(&p, 1, ms)));
	memset(out, n, sizeof(out));
	put(fds[1], out, n);
	note(t, ",%ld", RETRY(poll(&p, 1, LONG_S)));
	note(t, ",%d", p.revents);
	for (int got = 0; got < n;) {
		int some = (int)RETRY(read(fds[0], in + got, n - got));
		CHECK(some > 0);
		got += some;
	}
	note(t, ",%d", memcmp(in, out, n));
	if (is_socket) {
		before = t->n_raised;
		shutdown(fds[chance(t, 50)], SHUT_RDWR);
		note(t, ",%ld", RETRY(read(fds[0], in, 1)));
		note(t, ",%d", RETRY(write(fds[1], out, 1)) < 0 ? errno : 0);
		note(t, ",%d", t->n_raised - before); /* SIGPIPE is the writer's */
	}
	close(fds[0]);
	close(fds[1]);
}

static void use_file(struct thread *t)
{
	FILE *f = tmpfile();
	int n = between(t, 1, 20), sum = 0, value;

	CHECK(f);
	for (int i = 0; i < n; i++) {
		value = below(t, 1000);
		CHECK(pwrite(fileno(f), &value, sizeof(value), i * 4) == 4);
	}
	linger(t);
	for (int i = 0; i < n; i++) {
		CHECK(pread(fileno(f), &value, sizeof(value), i * 4) == 4);
		sum += value;
	}
	fclose(f);
	note(t, " file:%d", sum);
}

static void use_timerfd(struct thread *t)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, 0);
	struct itimerspec in = {.it_value = {0, between(t, 1, 2000000)}};
	uint64_t n;

	CHECK(fd >= 0 && timerfd_settime(fd, 0, &in, NULL) == 0);
	CHECK(RETRY(read(fd, &n, sizeof(n))) == sizeof(n));
	note(t, " timer:%d", (int)n);
	close(fd);
}

static void name_itself(struct thread *t)
{
	char name[16], got[16];

	snprintf(name, sizeof(name), "t%d", below(t, 10000));
	CHECK_OK(pthread_setname_np(pthread_self(), name));
	linger(t);
	CHECK_OK(pthread_getname_np(pthread_self(), got, sizeof(got)));
	note(t, " name:%d", strcmp(name, got));
}

static void get_stack(struct thread *t)
{
	pthread_attr_t attr;
	void *low;
	size_t size;
	char here;

	CHECK_OK(pthread_getattr_np(pthread_self(), &attr));
	pthread_attr_getstack(&attr, &low, &size);
	pthread_attr_destroy(&attr);
	note(t, " stack:%d,%d", &here > (char *)low && &here < (char *)low + size,
	     pthread_join(pthread_self(), NULL));
}

/* stdio takes a handler for an error. */
static int get(FILE *f)
{
	int c;

	while ((c = fgetc(f)) == EOF && ferror(f) && errno == EINTR)
		clearerr(f);
	return c;
}

/* libc's popen() and system() take locks that its fork() does not: natively the child of a
 * process with threads may find them taken for ever.  Where a fork excludes them the child may
 * call them too; elsewhere it must not. */
static pthread_rwlock_t shells = PTHREAD_RWLOCK_INITIALIZER;
static bool shells_are_lost;

static FILE *open_shell(const char *command)
{
	CHECK_OK(pthread_rwlock_rdlock(&shells));
	FILE *f = popen(command, "r");
	CHECK_OK(pthread_rwlock_unlock(&shells));
	CHECK(f);
	return f;
}

static int close_shell(FILE *f)
{
	CHECK_OK(pthread_rwlock_rdlock(&shells));
	int status = pclose(f);
	CHECK_OK(pthread_rwlock_unlock(&shells));
	return status;
}

static int run_shell(const char *command)
{
	CHECK_OK(pthread_rwlock_rdlock(&shells));
	int status = system(command);
	CHECK_OK(pthread_rwlock_unlock(&shells));
	return status;
}

static pid_t fork_with_shells(bool with)
{
	if (with)
		CHECK_OK(pthread_rwlock_wrlock(&shells));
	pid_t pid = fork();
	if (pid == 0) {
		/* Who else held it, or waits for it, is not here. */
		CHECK_OK(pthread_rwlock_init(&shells, NULL));
		shells_are_lost |= !with;
	} else if (with) {
		CHECK_OK(pthread_rwlock_unlock(&shells));
	}
	return pid;
}

static void start_shell(struct thread *t)
{
	int status = below(t, 100), got = -1;
	char command[32];
	char *argv[] = {"sh", "-c", command, NULL};
	pid_t pid;
	FILE *f;

	snprintf(command, sizeof(command), "echo x; exit %d", status);
	switch (shells_are_lost ? 2 : below(t, 3)) {
	case 0:
		f = open_shell(command);
		int c = get(f);
		while (c != EOF && get(f) != EOF)
			;
		got = close_shell(f);
		note(t, " %c", c);
		break;
	case 1:
		snprintf(command, sizeof(command), "exit %d", status);
		got = run_shell(command);
		break;
	default:
		snprintf(command, sizeof(command), "exit %d", status);
		CHECK_OK(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ));
		CHECK(RETRY(waitpid(pid, &got, 0)) == pid);
	}
	note(t, " shell:%d", WIFEXITED(got) ? WEXITSTATUS(got) - status : -got);
}

/* kill() is the process's: any thread may run the handler, and all that sent are told. */
static void signal_process(struct thread *t)
{
	int n = between(t, 1, 5);

	for (int i = 0; i < n; i++)
		while (sigqueue(getpid(), SIG_PROCESS, (union sigval){.sival_int = i}) !=
		       0)
			sleep_ms(1);
	linger(t);
	for (int i = 0; i < n; i++)
		down(&t->world->process_signals);
	note(t, " process");
}

static void set_alarm(struct thread *t)
{
	struct itimerval in = {.it_value = {0, between(t, 1, 3000)}};

	CHECK_OK(pthread_mutex_lock(&t->world->alarm_lock));
	CHECK(setitimer(ITIMER_REAL, &in, NULL) == 0);
	linger(t);
	down(&t->world->alarms);
	CHECK_OK(pthread_mutex_unlock(&t->world->alarm_lock));
	note(t, " alarm");
}

/* --- scenes --------------------------------------------------------------------------------- */

static int crowd(struct thread *t, int usual)
{
	return chance(t, 5) ? between(t, 1, 8 * usual) : between(t, 1, usual);
}

static void spawn_all(struct thread *t, struct thread **all, int n, part *part,
		      void *shared)
{
	for (int i = 0; i < n; i++) {
		all[i] = spawn(t, part, shared, i);
		if (chance(t, 10))
			linger(t);
	}
}

static void reap_all(struct thread *t, struct thread **all, int n)
{
	for (int i = 0; i < n; i++)
		reap(t, all[i]);
}

static void live(struct thread *t)
{
	act(t, between(t, 1, 6));
}

static void have_children(struct thread *t)
{
	struct thread *all[64];
	int n = crowd(t, 4);

	spawn_all(t, all, n, live, NULL);
	act(t, between(t, 0, 2));
	reap_all(t, all, n);
}

static void do_little(struct thread *t)
{
	if (chance(t, 30))
		linger(t);
}

static void swarm(struct thread *t)
{
	struct thread *all[100];
	int n = between(t, 10, 100);

	spawn_all(t, all, n, do_little, NULL);
	reap_all(t, all, n);
}

/* A bounded queue. */
struct queue {
	pthread_mutex_t mutex;
	pthread_cond_t not_empty, not_full;
	int items[16], first, n, size, each;
	bool broadcasts;
	int how;
	_Atomic long put, got;
};

static void queue_wait(struct queue *q, pthread_cond_t *cond)
{
	struct timespec ts;

	switch (q->how) {
	case 0: /* gives up, and looks again */
		ts = after_us(CLOCK_REALTIME, 700);
		pthread_cond_timedwait(cond, &q->mutex, &ts);
		break;
	case 1:
		ts = long_after(CLOCK_MONOTONIC);
		CHECK_OK(pthread_cond_clockwait(cond, &q->mutex, CLOCK_MONOTONIC, &ts));
		break;
	default:
		CHECK_OK(pthread_cond_wait(cond, &q->mutex));
	}
}

static void queue_tell(struct queue *q, pthread_cond_t *cond)
{
	if (q->broadcasts)
		pthread_cond_broadcast(cond);
	else
		pthread_cond_signal(cond);
}

static void produce(struct thread *t)
{
	struct queue *q = t->shared;

	for (int i = 0; i < q->each; i++) {
		int item = below(t, 1000);

		dawdle(t);
		pthread_mutex_lock(&q->mutex);
		while (q->n == q->size)
			queue_wait(q, &q->not_full);
		q->items[(q->first + q->n++) % 16] = item;
		queue_tell(q, &q->not_empty);
		pthread_mutex_unlock(&q->mutex);
		q->put += item;
	}
}

static void consume(struct thread *t)
{
	struct queue *q = t->shared;

	for (int i = 0; i < q->each; i++) {
		pthread_mutex_lock(&q->mutex);
		while (q->n == 0)
			queue_wait(q, &q->not_empty);
		int item = q->items[q->first];
		q->first = (q->first + 1) % 16;
		q->n--;
		pthread_mutex_unlock(&q->mutex);
		queue_tell(q, &q->not_full);
		q->got += item;
		dawdle(t);
	}
}

static void unlock(void *mutex)
{
	CHECK_OK(pthread_mutex_unlock(mutex));
}

static sigset_t signals_for_all(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIG_PROCESS);
	sigaddset(&set, SIGALRM);
	return set;
}

/* For who is to be cancelled: natively that ends a handler too, if it runs in a wait, and
 * before it has told anybody. */
static void leave_handlers_to_others(void)
{
	sigset_t set = signals_for_all();

	CHECK_OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
}

/* Waits among the consumers until it is cancelled. */
static void haunt(struct thread *t)
{
	struct queue *q = t->shared;

	leave_handlers_to_others();
	pthread_mutex_lock(&q->mutex);
	pthread_cleanup_push(unlock, &q->mutex);
	for (;;)
		pthread_cond_wait(&q->not_empty, &q->mutex);
	pthread_cleanup_pop(1);
}

static void pass_items(struct thread *t)
{
	struct queue *q = calloc(1, sizeof(*q));
	struct thread *producers[64], *consumers[64], *ghosts[4];
	int n = crowd(t, 4), n_ghosts = 0;

	pthread_mutex_init(&q->mutex, NULL);
	pthread_cond_init(&q->not_empty, NULL);
	pthread_cond_init(&q->not_full, NULL);
	q->size = between(t, 1, 16);
	q->each = between(t, 1, 30);
	q->broadcasts = chance(t, 40);
	q->how = below(t, 4);
	if (q->broadcasts) /* a signal might be a ghost's */
		n_ghosts = below(t, 5);
	for (int i = 0; i < n_ghosts; i++)
		ghosts[i] = spawn_joinable(t, haunt, q, i);
	spawn_all(t, consumers, n, consume, q);
	spawn_all(t, producers, n, produce, q);
	for (int i = 0; i < n_ghosts; i++) {
		linger(t);
		CHECK_OK(pthread_cancel(ghosts[i]->pthread));
	}
	reap_all(t, ghosts, n_ghosts);
	reap_all(t, producers, n);
	reap_all(t, consumers, n);
	note(t, " items:%ld,%ld", q->put, q->put - q->got);
}

/* A token goes round. */
struct ring {
	int n, rounds, turn;
	sem_t *sems;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	long laps;
	int (*pipes)[2];
};

static void pass_by_sem(struct thread *t)
{
	struct ring *r = t->shared;

	for (int i = 0; i < r->rounds; i++) {
		struct timespec late = long_after(CLOCK_REALTIME);

		if (chance(t, 50))
			down(&r->sems[t->index]);
		else
			CHECK(RETRY(sem_timedwait(&r->sems[t->index], &late)) == 0);
		r->laps++;
		dawdle(t);
		sem_post(&r->sems[(t->index + 1) % r->n]);
	}
}

static void pass_by_cond(struct thread *t)
{
	struct ring *r = t->shared;

	for (int i = 0; i < r->rounds; i++) {
		pthread_mutex_lock(&r->mutex);
		while (r->turn != t->index)
			pthread_cond_wait(&r->cond, &r->mutex);
		r->turn = (r->turn + 1) % r->n;
		r->laps++;
		pthread_cond_broadcast(&r->cond);
		pthread_mutex_unlock(&r->mutex);
		dawdle(t);
	}
}

static void pass_by_pipe(struct thread *t)
{
	struct ring *r = t->shared;
	char c;

	for (int i = 0; i < r->rounds; i++) {
		CHECK(RETRY(read(r->pipes[t->index][0], &c, 1)) == 1);
		r->laps++;
		dawdle(t);
		CHECK(RETRY(write(r->pipes[(t->index + 1) % r->n][1], &c, 1)) == 1);
	}
}

static void go_round(struct thread *t)
{
	static part *const parts[] = {pass_by_sem, pass_by_cond, pass_by_pipe};
	struct ring *r = calloc(1, sizeof(*r));
	struct thread *all[64];
	int how = below(t, 3);
	bool is_socket = chance(t, 50);

	r->n = crowd(t, 6);
	r->rounds = between(t, 1, 20);
	r->sems = calloc(r->n, sizeof(*r->sems));
	r->pipes = calloc(r->n, sizeof(*r->pipes));
	pthread_mutex_init(&r->mutex, NULL);
	pthread_cond_init(&r->cond, NULL);
	for (int i = 0; i < r->n; i++) {
		sem_init(&r->sems[i], 0, i == 0);
		CHECK((how != 2    ? 0
		       : is_socket ? socketpair(AF_UNIX, SOCK_STREAM, 0, r->pipes[i])
				   : pipe(r->pipes[i])) == 0);
	}
	if (how == 2)
		put(r->pipes[0][1], "x", 1);
	spawn_all(t, all, r->n, parts[how], r);
	reap_all(t, all, r->n);
	for (int i = 0; how == 2 && i < 2 * r->n; i++)
		close(r->pipes[i / 2][i % 2]);
	note(t, " laps:%ld", r->laps);
}

struct meeting {
	pthread_barrier_t barrier;
	int rounds, n;
	_Atomic int n_serial, n_came;
};

static void meet(struct thread *t)
{
	struct meeting *m = t->shared;
	int early = 0;

	for (int i = 1; i <= m->rounds; i++) {
		dawdle(t);
		m->n_came++;
		int r = pthread_barrier_wait(&m->barrier);
		m->n_serial += r == PTHREAD_BARRIER_SERIAL_THREAD;
		early += m->n_came < i * m->n;
	}
	note(t, " early:%d", early);
}

static void meet_all(struct thread *t)
{
	struct meeting *m = calloc(1, sizeof(*m));
	struct thread *all[64] = {NULL};

	m->n = crowd(t, 5);
	m->rounds = between(t, 1, 10);
	pthread_barrier_init(&m->barrier, NULL, m->n);
	spawn_all(t, all, m->n, meet, m);
	reap_all(t, all, m->n);
	pthread_barrier_destroy(&m->barrier);
	note(t, " met:%d", m->n_serial);
}

struct library {
	pthread_rwlock_t rwlock;
	int rounds;
	long a, b;
	_Atomic int wrong;
};

static void read_and_write(struct thread *t)
{
	struct library *l = t->shared;

	for (int i = 0; i < l->rounds; i++) {
		if (chance(t, 70)) {
			CHECK_OK(pthread_rwlock_rdlock(&l->rwlock));
			l->wrong += l->a != l->b;
		} else {
			CHECK_OK(pthread_rwlock_wrlock(&l->rwlock));
			l->a++;
			linger(t);
			l->b++;
		}
		CHECK_OK(pthread_rwlock_unlock(&l->rwlock));
		dawdle(t);
	}
}

static void read_and_write_all(struct thread *t)
{
	struct library *l = calloc(1, sizeof(*l));
	struct thread *all[64];
	pthread_rwlockattr_t attr;
	int n = crowd(t, 6);

	l->rounds = between(t, 1, 20);
	pthread_rwlockattr_init(&attr);
	if (chance(t, 50))
		pthread_rwlockattr_setkind_np(
		    &attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&l->rwlock, &attr);
	spawn_all(t, all, n, read_and_write, l);
	reap_all(t, all, n);
	note(t, " wrote:%ld,%ld,%d", l->a, l->b, l->wrong);
}

struct estate {
	pthread_mutex_t mutex;
	sem_t held;
};

static void die_with_it(struct thread *t)
{
	struct estate *e = t->shared;

	CHECK_OK(pthread_mutex_lock(&e->mutex));
	sem_post(&e->held);
	linger(t);
}

static void inherit(struct thread *t)
{
	struct estate *e = t->shared;

	for (int i = 0; i < 3; i++) {
		int error = pthread_mutex_lock(&e->mutex);
		note(t, " heir:%d", error);
		if (error == EOWNERDEAD && t->index)
			note(t, ",%d", pthread_mutex_consistent(&e->mutex));
		if (error != ENOTRECOVERABLE)
			note(t, ",%d", pthread_mutex_unlock(&e->mutex));
	}
}

static void leave_estate(struct thread *t)
{
	struct estate *e = calloc(1, sizeof(*e));
	pthread_mutexattr_t attr;
	struct thread *owner, *heir;
	int error;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	if (chance(t, 20))
		pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	if (chance(t, 20))
		pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(&e->mutex, &attr);
	sem_init(&e->held, 0, 0);
	owner = spawn(t, die_with_it, e, 0);
	down(&e->held);
	heir = spawn(t, inherit, e, chance(t, 70));
	reap(t, owner);
	reap(t, heir);
	error = pthread_mutex_trylock(&e->mutex);
	note(t, " left:%d", error);
	if (error == 0)
		unlock(&e->mutex);
}

/* Many write, and few read, by descriptors that keep messages whole. */
struct channel {
	int fds[2];
	int each, size;
	pthread_mutex_t turn;
	_Atomic long put, got;
};

static void channel_write(struct thread *t)
{
	struct channel *c = t->shared;
	unsigned char *block = calloc(1, c->size);

	for (int i = 0; i < c->each; i++) {
		block[0] = (unsigned char)draw(t);
		block[c->size - 1] = block[0];
		c->put += block[0];
		CHECK(RETRY(write(c->fds[1], block, c->size)) == c->size);
		dawdle(t);
	}
	free(block);
}

/* A stream's readers take turns, since a read may bring less. */
static void channel_read(struct thread *t)
{
	struct channel *c = t->shared;
	unsigned char *block = calloc(1, c->size);

	for (int i = 0; i < c->each; i++) {
		pthread_mutex_lock(&c->turn);
		for (int got = 0; got < c->size;) {
			int some =
			    (int)RETRY(read(c->fds[0], block + got, c->size - got));
			CHECK(some > 0);
			got += some;
		}
		pthread_mutex_unlock(&c->turn);
		c->got += block[0] == block[c->size - 1] ? block[0] : 1000000;
		dawdle(t);
	}
	free(block);
}

static void use_channel(struct thread *t)
{
	struct channel *c = calloc(1, sizeof(*c));
	struct thread *writers[64], *readers[64];
	int n = crowd(t, 4), how = below(t, 4);

	c->each = between(t, 1, 20);
	c->size = how == 0 ? between(t, 1, 4096) : between(t, 1, 20000);
	pthread_mutex_init(&c->turn, NULL);
	if (how == 0) {
		CHECK(pipe(c->fds) == 0);
	} else {
		int kind = how == 1 ? SOCK_SEQPACKET : SOCK_DGRAM;
		CHECK(socketpair(AF_UNIX, kind, 0, c->fds) == 0);
	}
	spawn_all(t, writers, n, channel_write, c);
	spawn_all(t, readers, n, channel_read, c);
	reap_all(t, writers, n);
	reap_all(t, readers, n);
	close(c->fds[0]);
	close(c->fds[1]);
	note(t, " channel:%ld,%ld", c->put, c->put - c->got);
}

/* Two ends and much between them: both must wait. */
struct flood {
	int fds[2];
	long size;
	_Atomic unsigned sent, received;
};

static void flood_send(struct thread *t)
{
	struct flood *f = t->shared;
	unsigned char block[8192];
	unsigned sum = 0;

	for (long left = f->size; left > 0;) {
		long n = between(t, 1, sizeof(block));

		n = n < left ? n : left;
		for (long i = 0; i < n; i++)
			sum = sum * 31 + (block[i] = (unsigned char)(left - i));
		for (long at = 0; at < n;) {
			struct iovec v[2] = {
			    {block + at, (n - at) / 2},
			    {block + at + (n - at) / 2, n - at - (n - at) / 2}};
			long some = t->index
					? RETRY(writev(f->fds[1], v, 2))
					: RETRY(write(f->fds[1], block + at, n - at));
			CHECK(some > 0);
			at += some;
		}
		left -= n;
		if (chance(t, 5))
			linger(t);
	}
	f->sent = sum;
	shutdown(f->fds[1], SHUT_WR);
	close(f->fds[1]);
}

static void flood_receive(struct thread *t)
{
	struct flood *f = t->shared;
	unsigned char block[5000];
	unsigned sum = 0;
	long n, total = 0;

	while ((n = RETRY(read(f->fds[0], block, sizeof(block)))) > 0) {
		for (long i = 0; i < n; i++)
			sum = sum * 31 + block[i];
		total += n;
	}
	CHECK(n == 0);
	f->received = sum;
	close(f->fds[0]);
	note(t, " received:%ld", total);
}

static void flood_through(struct thread *t)
{
	struct flood *f = calloc(1, sizeof(*f));
	struct thread *sender, *receiver;

	CHECK((chance(t, 50)
		   ? pipe2(f->fds, O_CLOEXEC)
		   : socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, f->fds)) == 0);
	f->size = between(t, 1, 500000);
	sender = spawn(t, flood_send, f, chance(t, 50));
	receiver = spawn(t, flood_receive, f, 0);
	reap(t, sender);
	/* A child that was forked meanwhile keeps a copy, but not for long. */
	reap(t, receiver);
	note(t, " flood:%u", f->sent - f->received);
}

struct server {
	int fd;
	struct sockaddr_storage address;
	socklen_t size;
	int n, each;
};

static void echo(struct thread *t)
{
	char buffer[300];
	int fd = t->index;
	long n, total = 0;

	while ((n = RETRY(recv(fd, buffer, sizeof(buffer), 0))) > 0) {
		total += n;
		for (long at = 0, some; at < n; at += some) {
			some = RETRY(send(fd, buffer + at, n - at, 0));
			CHECK(some > 0);
		}
	}
	CHECK(n == 0);
	close(fd);
	note(t, " echoed:%ld", total);
}

static void serve(struct thread *t)
{
	struct server *s = t->shared;
	struct thread *all[64];

	for (int i = 0; i < s->n; i++) {
		int fd = (int)RETRY(accept4(s->fd, NULL, NULL, SOCK_CLOEXEC));
		CHECK(fd >= 0);
		all[i] = spawn(t, echo, NULL, fd);
	}
	for (int i = 0; i < s->n; i++) /* which client was first is not to be noted */
		if (all[i]->detached)
			down(&all[i]->done);
		else
			join(all[i]->pthread);
	t->first = t->last = NULL;
}

static void ask(struct thread *t)
{
	struct server *s = t->shared;
	int fd = socket(s->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), wrong = 0;

	CHECK(fd >= 0);
	while (connect(fd, (void *)&s->address, s->size) != 0 && errno != EISCONN)
		CHECK(errno == EINTR || errno == EALREADY);
	for (int i = 0; i < s->each; i++) {
		char out[200], in[200];
		int n = between(t, 1, sizeof(out));

		memset(out, below(t, 256), n);
		put(fd, out, n);
		for (int at = 0, some; at < n; at += some) {
			struct pollfd p = {fd, POLLIN, 0};
			if (s->each % 2)
				CHECK(RETRY(poll(&p, 1, -1)) == 1);
			some = (int)RETRY(recv(fd, in + at, n - at, MSG_WAITALL));
			CHECK(some > 0);
		}
		wrong += memcmp(in, out, n) != 0;
		dawdle(t);
	}
	shutdown(fd, SHUT_WR);
	char c;
	note(t, " asked:%d,%ld", wrong, RETRY(recv(fd, &c, 1, 0)));
	close(fd);
}

static void have_server(struct thread *t)
{
	struct server *s = calloc(1, sizeof(*s));
	struct thread *server, *all[64];
	struct sockaddr_in *in = (void *)&s->address;

	if (chance(t, 50)) {
		*in = (struct sockaddr_in){.sin_family = AF_INET,
					   .sin_addr = {htonl(INADDR_LOOPBACK)}};
		s->size = sizeof(*in);
	} else {
		s->address.ss_family = AF_UNIX; /* the kernel finds an abstract name */
		s->size = sizeof(sa_family_t);
	}
	s->fd = socket(s->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(s->fd >= 0);
	CHECK(bind(s->fd, (void *)&s->address, s->size) == 0 && listen(s->fd, 100) == 0);
	s->size = sizeof(s->address);
	CHECK(getsockname(s->fd, (void *)&s->address, &s->size) == 0);
	s->n = crowd(t, 4);
	s->each = between(t, 1, 10);
	server = spawn(t, serve, s, 0);
	spawn_all(t, all, s->n, ask, s);
	reap_all(t, all, s->n);
	reap(t, server);
	close(s->fd);
}

/* One waits for what many write. */
struct watch {
	int n, each, how;
	int fds[48];
};

static void write_events(struct thread *t)
{
	struct watch *w = t->shared;
	uint64_t one = 1;

	for (int i = 0; i < w->each; i++) {
		dawdle(t);
		CHECK(RETRY(write(w->fds[t->index], &one, sizeof(one))) == sizeof(one));
	}
}

static long take(int fd)
{
	uint64_t n;

	if (RETRY(read(fd, &n, sizeof(n))) == sizeof(n))
		return (long)n;
	CHECK(errno == EAGAIN);
	return 0;
}

static long watch_by_epoll(struct watch *w, int epoll)
{
	struct epoll_event events[8];
	long total = 0;
	int n = (int)RETRY(epoll_wait(epoll, events, 8, -1));

	CHECK(n > 0);
	for (int i = 0; i < n; i++) {
		int fd = events[i].data.fd;

		total += take(fd);
		if (w->how == 3) {
			events[i].events = EPOLLIN | EPOLLONESHOT;
			CHECK(epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &events[i]) == 0);
		}
	}
	return total;
}

static long watch_by_poll(struct watch *w)
{
	struct pollfd p[48];
	fd_set set;
	long total = 0;

	FD_ZERO(&set);
	for (int i = 0; i < w->n; i++) {
		p[i] = (struct pollfd){w->fds[i], POLLIN, 0};
		FD_SET(w->fds[i], &set);
	}
	if (w->how == 0)
		CHECK(RETRY(poll(p, w->n, -1)) > 0);
	else if (select(FD_SETSIZE, &set, NULL, NULL, NULL) < 0)
		return 0;
	for (int i = 0; i < w->n; i++)
		if (w->how == 0 ? p[i].revents & POLLIN : FD_ISSET(w->fds[i], &set))
			total += take(w->fds[i]);
	return total;
}

static void watch(struct thread *t)
{
	struct watch *w = calloc(1, sizeof(*w));
	struct thread *all[64];
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	long total = 0;

	w->n = crowd(t, 5);
	w->each = between(t, 1, 15);
	w->how = below(t, 5); /* poll, select, epoll: level, one-shot, edge */
	for (int i = 0; i < w->n; i++) {
		struct epoll_event e = {.events = EPOLLIN | (w->how == 3   ? EPOLLONESHOT
							     : w->how == 4 ? EPOLLET
									   : 0)};
		w->fds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		CHECK(w->fds[i] >= 0);
		e.data.fd = w->fds[i];
		CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, w->fds[i], &e) == 0);
		if (w->fds[i] >= FD_SETSIZE && w->how == 1)
			w->how = 0;
	}
	spawn_all(t, all, w->n, write_events, w);
	while (total < (long)w->n * w->each)
		total += w->how < 2 ? watch_by_poll(w) : watch_by_epoll(w, epoll);
	reap_all(t, all, w->n);
	for (int i = 0; i < w->n; i++)
		close(w->fds[i]);
	close(epoll);
	note(t, " events:%ld", total);
}

/* --- scenes of cancels ---------------------------------------------------------------------- */

/* Where a victim waits, for what never comes. */
struct trap {
	sem_t empty, ready, sent, over;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	int fds[2], full[2], listener, timer, epoll, locked[2];
	pthread_t endless;
	int where, how;
	_Atomic bool computes;
};

static void at_cond(struct trap *p)
{
	pthread_cond_wait(&p->cond, &p->mutex);
}

static void at_timed_cond(struct trap *p)
{
	struct timespec ts = long_after(CLOCK_REALTIME);

	pthread_cond_timedwait(&p->cond, &p->mutex, &ts);
}

static void at_sem(struct trap *p)
{
	sem_wait(&p->empty);
}

static void at_timed_sem(struct trap *p)
{
	struct timespec ts = long_after(CLOCK_REALTIME);

	sem_timedwait(&p->empty, &ts);
}

static void at_read(struct trap *p)
{
	char c;

	if (read(p->fds[0], &c, 1) >= 0)
		abort();
}

static void at_write(struct trap *p)
{
	if (write(p->full[1], "x", 1) >= 0)
		abort();
}

static void at_recv(struct trap *p)
{
	char c;

	recv(p->fds[0], &c, 1, 0);
}

static void at_accept(struct trap *p)
{
	accept(p->listener, NULL, NULL);
}

static void at_poll(struct trap *p)
{
	struct pollfd fd = {p->fds[0], POLLIN, 0};

	poll(&fd, 1, -1);
}

static void at_select(struct trap *p)
{
	struct timeval tv = {LONG_S, 0};

	(void)p;
	select(0, NULL, NULL, NULL, &tv);
}

static void at_epoll(struct trap *p)
{
	struct epoll_event e;

	epoll_wait(p->epoll, &e, 1, -1);
}

static void at_timer(struct trap *p)
{
	uint64_t n;

	if (read(p->timer, &n, sizeof(n)) >= 0)
		abort();
}

static void at_sleep(struct trap *p)
{
	struct timespec ts = {LONG_S, 0};

	(void)p;
	nanosleep(&ts, NULL);
}

static void at_usleep(struct trap *p)
{
	(void)p;
	usleep(100000000);
}

static void at_absolute_sleep(struct trap *p)
{
	struct timespec ts = long_after(CLOCK_MONOTONIC);

	(void)p;
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static void at_join(struct trap *p)
{
	pthread_join(p->endless, NULL);
}

static void at_pause(struct trap *p)
{
	(void)p;
	pause();
}

static void at_sigsuspend(struct trap *p)
{
	sigset_t set = signals_for_all();

	(void)p;
	sigsuspend(&set);
}

static void at_sigwait(struct trap *p)
{
	sigset_t set;
	int sig;

	(void)p;
	sigemptyset(&set);
	sigaddset(&set, SIG_WAITED);
	sigwait(&set, &sig);
}

static void at_file_lock(struct trap *p)
{
	struct flock lock = {.l_type = F_WRLCK};

	fcntl(p->locked[1], F_OFD_SETLKW, &lock);
}

static void at_test(struct trap *p)
{
	(void)p;
	sched_yield();
	pthread_testcancel();
}

static void at_computing_test(struct trap *p)
{
	(void)p;
	for (volatile int i = 0; i < 10000; i++)
		;
	pthread_testcancel();
}

static void (*const traps[])(struct trap *) = {
    at_cond,  at_timed_cond,     at_sem,        at_timed_sem, at_read,
    at_write, at_recv,           at_accept,     at_poll,      at_select,
    at_epoll, at_timer,          at_sleep,      at_usleep,    at_absolute_sleep,
    at_join,  at_pause,          at_sigsuspend, at_sigwait,   at_file_lock,
    at_test,  at_computing_test,
};
enum { N_TRAPS = sizeof(traps) / sizeof(traps[0]) };

/* Cancelled any time; when it is ready; after it let itself be; asynchronously; never. */
enum how { ANY_TIME, READY, ALLOWED, ASYNCHRONOUS, REFUSED, N_HOW };

static void let_go(void *arg)
{
	struct thread *t = arg;
	struct trap *p = t->shared;

	note(t, " held:%d", pthread_mutex_trylock(&p->mutex));
	pthread_mutex_unlock(&p->mutex);
}

static void clean(void *arg)
{
	note(arg, " clean");
	sleep_ms(0); /* no point any more */
}

static void wait_in_trap(struct thread *t)
{
	struct trap *p = t->shared;

	pthread_mutex_lock(&p->mutex);
	pthread_cleanup_push(let_go, t);
	for (;;)
		traps[p->where](p);
	pthread_cleanup_pop(0);
}

static void be_cancelled(struct thread *t)
{
	struct trap *p = t->shared;
	volatile long n = 0;

	if (p->how == ALLOWED || p->how == REFUSED)
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	else
		leave_handlers_to_others();
	pthread_cleanup_push(clean, t);
	if (p->how != ANY_TIME)
		sem_post(&p->ready);
	if (p->how == ASYNCHRONOUS) {
		pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
		p->computes = true;
		for (;;)
			n++;
	}
	if (p->how == ALLOWED || p->how == REFUSED) {
		down(&p->sent);
		fill_in(t);
		note(t, " not yet");
	}
	if (p->how == ALLOWED) {
		leave_handlers_to_others();
		pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
	}
	if (p->how != REFUSED)
		wait_in_trap(t);
	pthread_cleanup_pop(1);
}

static void wait_for_end(struct thread *t)
{
	down(&((struct trap *)t->shared)->over);
}

static void fill(int fd)
{
	static const char block[4096];
	int flags = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	for (size_t size = sizeof(block); size > 0; size /= 2)
		while (write(fd, block, size) > 0)
			;
	fcntl(fd, F_SETFL, flags);
}

static void lock_file(struct trap *p)
{
	FILE *f = tmpfile();
	struct flock lock = {.l_type = F_WRLCK};
	char path[40];

	CHECK(f);
	/* Not self: that is the main thread, which has no descriptors once it has ended. */
	snprintf(path, sizeof(path), "/proc/thread-self/fd/%d", fileno(f));
	p->locked[0] = open(path, O_RDWR | O_CLOEXEC);
	p->locked[1] = open(path, O_RDWR | O_CLOEXEC);
	fclose(f);
	CHECK(p->locked[0] >= 0 && p->locked[1] >= 0);
	CHECK(fcntl(p->locked[0], F_OFD_SETLK, &lock) == 0);
}

static struct trap *set_trap(struct thread *t)
{
	struct trap *p = calloc(1, sizeof(*p));
	struct sockaddr_un name = {.sun_family = AF_UNIX};

	sem_init(&p->empty, 0, 0);
	sem_init(&p->ready, 0, 0);
	sem_init(&p->sent, 0, 0);
	sem_init(&p->over, 0, 0);
	pthread_mutex_init(&p->mutex, NULL);
	pthread_cond_init(&p->cond, NULL);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p->fds) == 0);
	CHECK(pipe2(p->full, O_CLOEXEC) == 0);
	fill(p->full[1]);
	p->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(bind(p->listener, (void *)&name, sizeof(sa_family_t)) == 0);
	CHECK(listen(p->listener, 1) == 0);
	p->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	p->epoll = epoll_create1(EPOLL_CLOEXEC);
	CHECK(p->timer >= 0 && p->epoll >= 0);
	p->where = below(t, N_TRAPS);
	p->how = below(t, N_HOW);
	p->locked[0] = p->locked[1] = -1;
	if (traps[p->where] == at_file_lock)
		lock_file(p);
	return p;
}

static void clear_trap(struct trap *p)
{
	const int fds[] = {p->fds[0], p->fds[1], p->full[0],   p->full[1],  p->listener,
			   p->timer,  p->epoll,  p->locked[0], p->locked[1]};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static void cancel_one(struct thread *t)
{
	struct trap *p = set_trap(t);
	struct thread *endless = spawn_joinable(t, wait_for_end, p, 0);
	struct thread *victim;
	sigset_t set, old;

	p->endless = endless->pthread;
	sigemptyset(&set);
	sigaddset(&set, SIG_WAITED);
	CHECK_OK(pthread_sigmask(SIG_BLOCK, &set, &old));
	victim = spawn_joinable(t, be_cancelled, p, 0);
	CHECK_OK(pthread_sigmask(SIG_SETMASK, &old, NULL));
	note(t, " how:%d,%d", p->how, p->where);
	if (p->how != ANY_TIME)
		down(&p->ready);
	while (p->how == ASYNCHRONOUS && !p->computes)
		sched_yield();
	if (chance(t, 40))
		fill_in(t);
	if (chance(t, 30)) /* a handler may run in its wait, which goes on */
		pthread_kill(victim->pthread,
			     chance(t, 50) ? SIG_RESTARTS : SIG_INTERRUPTS);
	CHECK_OK(pthread_cancel(victim->pthread));
	if (p->how == ALLOWED || p->how == REFUSED)
		sem_post(&p->sent);
	reap(t, victim);
	sem_post(&p->over);
	reap(t, endless);
	clear_trap(p);
}

/* A token is taken by who goes on, and by nobody who is cancelled. */
struct tokens {
	sem_t sem;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	int left, how;
	_Atomic int taken;
};

/* No read(): natively a cancel may come when it has its byte. */
static void take_by_sem(struct thread *t)
{
	struct tokens *k = t->shared;

	leave_handlers_to_others();
	for (;;)
		if (sem_wait(&k->sem) == 0)
			k->taken++;
}

static void take_by_cond(struct thread *t)
{
	struct tokens *k = t->shared;

	leave_handlers_to_others();
	pthread_mutex_lock(&k->mutex);
	pthread_cleanup_push(unlock, &k->mutex);
	for (;;) {
		while (k->left == 0)
			pthread_cond_wait(&k->cond, &k->mutex);
		k->left--;
		k->taken++;
	}
	pthread_cleanup_pop(1);
}

static void give_token(struct tokens *k)
{
	if (k->how == 0) {
		sem_post(&k->sem);
		return;
	}
	pthread_mutex_lock(&k->mutex);
	k->left++;
	pthread_cond_signal(&k->cond);
	pthread_mutex_unlock(&k->mutex);
}

static void cancel_takers(struct thread *t)
{
	struct tokens *k = calloc(1, sizeof(*k));
	struct thread *all[64];
	int n = crowd(t, 5), n_tokens = between(t, 1, 40), left = 0;

	k->how = below(t, 2);
	sem_init(&k->sem, 0, 0);
	pthread_mutex_init(&k->mutex, NULL);
	pthread_cond_init(&k->cond, NULL);
	for (int i = 0; i < n; i++)
		all[i] = spawn_joinable(t, k->how ? take_by_cond : take_by_sem, k, i);
	for (int i = 0; i < n_tokens; i++) {
		give_token(k);
		if (chance(t, 10))
			linger(t);
		if (i < n - 1 && chance(t, 50))
			pthread_cancel(all[i]->pthread);
	}
	for (int i = 0; i < n; i++) {
		/* The last takes what the others did not; a semaphore's wake may natively be
		   lost to one that is cancelled. */
		while (k->how && i == n - 1 && k->taken < n_tokens)
			sleep_ms(1);
		pthread_cancel(all[i]->pthread);
	}
	reap_all(t, all, n);
	sem_getvalue(&k->sem, &left);
	note(t, " tokens:%d", n_tokens - k->taken - left - k->left);
}

/* --- scenes of signals ---------------------------------------------------------------------- */

struct mail {
	int each;
	_Atomic int n_ready;
	sem_t ready, all_sent;
	struct thread *targets[8];
	int n_targets;
};

static void be_told(struct thread *t)
{
	struct mail *m = t->shared;
	stack_t alt = {.ss_size = 64 << 10}, none = {.ss_flags = SS_DISABLE};
	bool on_stack = chance(t, 50);

	if (on_stack) {
		alt.ss_sp = malloc(alt.ss_size);
		CHECK(sigaltstack(&alt, NULL) == 0);
	}
	sem_post(&m->ready);
	act(t, between(t, 0, 3));
	for (int i = 0; i < m->each; i++)
		down(&t->told);
	if (on_stack) {
		CHECK(sigaltstack(&none, NULL) == 0);
		free(alt.ss_sp);
	}
	note(t, " told:%d,%ld", t->n_told, t->sum_told);
}

static void tell(struct thread *t)
{
	struct mail *m = t->shared;
	struct thread *target = m->targets[t->index];

	for (int i = 0; i < m->each; i++) {
		int sig = chance(t, 50) ? SIG_RESTARTS : SIG_INTERRUPTS;
		union sigval value = {.sival_int = below(t, 1000)};

		while (pthread_sigqueue(target->pthread, sig, value) != 0)
			sleep_ms(1);
		dawdle(t);
	}
}

static void send_signals(struct thread *t)
{
	struct mail *m = calloc(1, sizeof(*m));
	struct thread *senders[8] = {NULL};

	m->n_targets = between(t, 1, 4);
	m->each = between(t, 1, 10);
	sem_init(&m->ready, 0, 0);
	for (int i = 0; i < m->n_targets; i++)
		m->targets[i] = spawn_joinable(t, be_told, m, i);
	for (int i = 0; i < m->n_targets; i++)
		down(&m->ready);
	spawn_all(t, senders, m->n_targets, tell, m);
	reap_all(t, senders, m->n_targets);
	reap_all(t, m->targets, m->n_targets);
}

/* Real-time signals come in order, the lower number first. */
static void await_signals(struct thread *t)
{
	struct mail *m = t->shared;
	sigset_t set;
	siginfo_t info;
	long sum = 0, order = 0;

	sigemptyset(&set);
	sigaddset(&set, SIG_WAITED);
	sigaddset(&set, SIG_WAITED_TOO);
	CHECK_OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
	sem_post(&m->ready);
	if (t->index)
		down(&m->all_sent);
	for (int i = 0; i < m->each; i++) {
		struct timespec late = {LONG_S, 0};
		int sig = (int)(chance(t, 50) ? RETRY(sigwaitinfo(&set, &info))
					      : RETRY(sigtimedwait(&set, &info, &late)));
		CHECK(sig == SIG_WAITED || sig == SIG_WAITED_TOO);
		sum += info.si_value.sival_int;
		order = order * 31 + info.si_value.sival_int + (sig == SIG_WAITED);
	}
	note(t, " waited:%ld", sum);
	if (t->index)
		note(t, ",%ld", order & 0xffffff);
}

static void send_awaited(struct thread *t)
{
	struct mail *m = calloc(1, sizeof(*m));
	struct thread *waiter;

	m->each = between(t, 1, 12);
	sem_init(&m->ready, 0, 0);
	sem_init(&m->all_sent, 0, 0);
	waiter = spawn_joinable(t, await_signals, m, chance(t, 50));
	down(&m->ready);
	for (int i = 0; i < m->each; i++) {
		union sigval value = {.sival_int = below(t, 1000)};

		while (pthread_sigqueue(waiter->pthread,
					chance(t, 50) ? SIG_WAITED : SIG_WAITED_TOO,
					value) != 0)
			sleep_ms(1);
		if (chance(t, 20))
			linger(t);
	}
	sem_post(&m->all_sent);
	reap(t, waiter);
}

/* Blocked but in the wait: it ends when the handler has run, whenever that was sent. */
static void suspend(struct thread *t)
{
	struct mail *m = t->shared;
	sigset_t set, old;
	int n = 0;

	sigemptyset(&set);
	sigaddset(&set, SIG_INTERRUPTS);
	CHECK_OK(pthread_sigmask(SIG_BLOCK, &set, &old));
	sigdelset(&old, SIG_INTERRUPTS);
	sem_post(&m->ready);
	if (t->index % 3 == 1)
		fill_in(t);
	while (t->n_told < m->each) {
		struct pollfd none = {-1, 0, 0};

		if (t->index % 2)
			n = sigsuspend(&old);
		else
			n = ppoll(&none, 1, NULL, &old);
		CHECK(n < 0 && errno == EINTR);
	}
	note(t, " suspended:%d,%ld", t->n_told, t->sum_told);
}

static void send_suspended(struct thread *t)
{
	struct mail *m = calloc(1, sizeof(*m));
	struct thread *target;

	m->each = between(t, 1, 5);
	sem_init(&m->ready, 0, 0);
	target = spawn_joinable(t, suspend, m, below(t, 6));
	down(&m->ready);
	for (int i = 0; i < m->each; i++) {
		if (chance(t, 30))
			linger(t);
		while (pthread_sigqueue(target->pthread, SIG_INTERRUPTS,
					(union sigval){.sival_int = i}) != 0)
			sleep_ms(1);
	}
	reap(t, target);
}

/* --- scenes of processes -------------------------------------------------------------------- */

static void run_world(uint64_t seed, int depth, int n, int fd);

/* Ends another thread's process. */
static void end_process(struct thread *t)
{
	exit(t->index);
}

static _Noreturn void end_child(struct thread *t, int how, int status)
{
	char command[32];

	switch (how) {
	case 0:
		exit(status);
	case 1:
		_exit(status);
	case 2:
		spawn_joinable(t, end_process, NULL, status);
		pthread_exit(NULL);
	case 3:
		kill(getpid(), SIGKILL);
		abort();
	case 4:
		spawn_joinable(t, end_process, NULL, status);
		for (;;)
			pause();
	default:
		snprintf(command, sizeof(command), "exit %d", status);
		execl("/bin/sh", "sh", "-c", command, NULL);
		abort();
	}
}

/* The child lives in a world of its own: the parent's locks may be held by who is not here. */
static void fork_child(struct thread *t)
{
	int fds[2], status = below(t, 100), how = below(t, 6), depth = t->depth - 1;
	int n = between(t, 0, 3), got;
	uint64_t seed = draw(t);
	bool with_shells = seed % 2;
	char text[201];

	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	pid_t pid = fork_with_shells(with_shells);
	CHECK(pid >= 0);
	if (pid == 0) {
		close(fds[0]);
		run_world(seed, depth > 1 ? 1 : depth, n, fds[1]);
		end_child(self, how, status);
	}
	close(fds[1]);
	dawdle(t);
	note(t, " child {\n");
	for (long some; (some = RETRY(read(fds[0], text, 200))) != 0;) {
		CHECK(some > 0);
		text[some] = 0;
		note(t, "%s", text);
	}
	close(fds[0]);
	CHECK(RETRY(waitpid(pid, &got, 0)) == pid);
	note(t, "} status:%d,%d", WIFEXITED(got) ? WEXITSTATUS(got) : -WTERMSIG(got),
	     status);
}

/* Objects that two processes share. */
struct shared {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	sem_t sems[2];
	pthread_barrier_t barrier;
	long count;
	int turn;
};

static void use_shared(struct shared *s, int me, int rounds)
{
	for (int i = 0; i < rounds; i++) {
		CHECK_OK(pthread_mutex_lock(&s->mutex));
		while (s->turn != me)
			CHECK_OK(pthread_cond_wait(&s->cond, &s->mutex));
		s->count++;
		s->turn = !me;
		pthread_cond_broadcast(&s->cond);
		CHECK_OK(pthread_mutex_unlock(&s->mutex));
		sem_post(&s->sems[!me]);
		down(&s->sems[me]);
	}
	pthread_barrier_wait(&s->barrier);
}

static void share_with_child(struct thread *t)
{
	struct shared *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_mutexattr_t mutex;
	pthread_condattr_t cond;
	pthread_barrierattr_t barrier;
	int rounds = between(t, 1, 10), status;

	CHECK(s != MAP_FAILED);
	pthread_mutexattr_init(&mutex);
	pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&s->mutex, &mutex);
	pthread_condattr_init(&cond);
	pthread_condattr_setpshared(&cond, PTHREAD_PROCESS_SHARED);
	pthread_cond_init(&s->cond, &cond);
	pthread_barrierattr_init(&barrier);
	pthread_barrierattr_setpshared(&barrier, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&s->barrier, &barrier, 2);
	sem_init(&s->sems[0], 1, 0);
	sem_init(&s->sems[1], 1, 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		use_shared(s, 1, rounds);
		_exit(7);
	}
	use_shared(s, 0, rounds);
	CHECK(RETRY(waitpid(pid, &status, 0)) == pid);
	note(t, " shared:%ld,%d", s->count, status >> 8);
	munmap(s, sizeof(*s));
}

/* --- the program ---------------------------------------------------------------------------- */

struct subject {
	const char *name;
	part *part;
	int weight;
	bool is_scene;
};

static const struct subject subjects[] = {
    {"compute", compute, 8, false},
    {"yield", yield, 8, false},
    {"sleep", sleeps, 10, false},
    {"malloc", allocate, 6, false},
    {"count", count, 12, false},
    {"rwlock", read_or_write, 8, false},
    {"spin", spin, 4, false},
    {"errno", keep_errno, 4, false},
    {"local", keep_locals, 4, false},
    {"rounding", keep_rounding, 3, false},
    {"once", do_once, 4, false},
    {"stdio", use_stdio, 4, false},
    {"deep", go_deep, 4, false},
    {"raise", raise_signal, 6, false},
    {"jump", jump, 5, false},
    {"fault", fault, 4, false},
    {"pend", pend, 5, false},
    {"timeout", time_out, 8, false},
    {"errors", err, 5, false},
    {"pipe", use_pipe, 6, false},
    {"file", use_file, 4, false},
    {"timerfd", use_timerfd, 4, false},
    {"name", name_itself, 3, false},
    {"stack", get_stack, 3, false},
    {"shell", start_shell, 1, false},
    {"process", signal_process, 6, false},
    {"alarm", set_alarm, 2, false},
    {"children", have_children, 20, true},
    {"swarm", swarm, 2, true},
    {"queue", pass_items, 8, true},
    {"ring", go_round, 8, true},
    {"barrier", meet_all, 6, true},
    {"library", read_and_write_all, 5, true},
    {"estate", leave_estate, 5, true},
    {"channel", use_channel, 6, true},
    {"flood", flood_through, 5, true},
    {"server", have_server, 5, true},
    {"watch", watch, 5, true},
    {"cancel", cancel_one, 20, true},
    {"tokens", cancel_takers, 5, true},
    {"signals", send_signals, 8, true},
    {"sigwait", send_awaited, 6, true},
    {"suspend", send_suspended, 6, true},
    {"fork", fork_child, 6, true},
    {"shared", share_with_child, 3, true},
};
#define N ((int)(sizeof(subjects) / sizeof(subjects[0])))
_Static_assert(N <= N_SUBJECTS, "each has a weight");

static void perform(struct thread *t, bool scenes)
{
	const unsigned char *weights = t->world->weights;
	int total = 0, i, at;

	for (i = 0; i < N; i++)
		total += scenes || !subjects[i].is_scene ? weights[i] : 0;
	at = below(t, total);
	for (i = 0;; i++) {
		at -= scenes || !subjects[i].is_scene ? weights[i] : 0;
		if (at < 0)
			break;
	}
	note(t, " %s", subjects[i].name);
	subjects[i].part(t);
}

static void fill_in(struct thread *t)
{
	perform(t, false);
}

static void act(struct thread *t, int n)
{
	while (n-- > 0)
		perform(t, t->depth > 0);
}

/* The first key's comes back each time, until the library has enough of it. */
static void destroy(void *value)
{
	struct thread *t = value;

	t->n_destroyed++;
	pthread_setspecific(t->world->keys[0], t);
}

static void make_world(struct thread *t)
{
	struct world *w = calloc(1, sizeof(*w));

	CHECK(w);
	for (int i = 0; i < N_LOCKS; i++) {
		pthread_mutexattr_t attr;

		pthread_mutexattr_init(&attr);
		pthread_mutexattr_settype(&attr, below(t, 4));
		if (chance(t, 20))
			pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
		CHECK_OK(pthread_mutex_init(&w->locks[i], &attr));
	}
	pthread_rwlock_init(&w->rwlock, NULL);
	pthread_spin_init(&w->spin, 0);
	pthread_mutex_init(&w->alarm_lock, NULL);
	sem_init(&w->process_signals, 0, 0);
	sem_init(&w->alarms, 0, 0);
	for (int i = 0; i < N_KEYS; i++)
		CHECK_OK(pthread_key_create(&w->keys[i], destroy));
	w->stream = open_memstream(&w->stream_text, &w->stream_size);
	CHECK(w->stream);
	for (int i = 0; i < N; i++)
		w->weights[i] = chance(t, 50) ? subjects[i].weight : 0;
	w->weights[2] += 1;  /* there must be something to do by oneself */
	w->weights[27] += 1; /* and somebody to do it */
	w->weights[38] += 1;
	memset(once, 0,
	       sizeof(once)); /* as PTHREAD_ONCE_INIT: a forked child's are its own */
	memset(n_once, 0, sizeof(n_once));
	t->world = w;
	world = w;
}

static void print_thread(int fd, const struct thread *t, const char *name)
{
	char path[100];
	int i = 0;

	put(fd, name, strlen(name));
	put(fd, ":", 1);
	put(fd, t->text, t->length);
	put(fd, "\n", 1);
	for (const struct thread *child = t->first; child; child = child->next) {
		snprintf(path, sizeof(path), "%s.%d", name, i++);
		print_thread(fd, child, path);
	}
}

static void print_world(int fd, struct thread *t)
{
	struct world *w = t->world;
	char line[300];
	int n = 0;

	print_thread(fd, t, "0");
	fflush(w->stream);
	for (int i = 0; i < N_LOCKS; i++)
		n += snprintf(line + n, sizeof(line) - n, "count:%ld ", w->counts[i]);
	n += snprintf(line + n, sizeof(line) - n, "twins:%ld,%ld spun:%ld stream:%zu\n",
		      w->twins[0], w->twins[1], w->spun, w->stream_size);
	put(fd, line, n);
}

/* Runs a tree of threads in a world of its own, and prints to fd what came of it. */
static void run_world(uint64_t seed, int depth, int n, int fd)
{
	struct thread *t = calloc(1, sizeof(*t));

	CHECK(t);
	t->random = seed;
	t->depth = depth;
	sem_init(&t->told, 0, 0);
	make_world(t);
	self = t;
	act(t, n);
	print_world(fd, t);
}

/* --- the end -------------------------------------------------------------------------------- */

static void sleep_on(struct thread *t)
{
	(void)t;
	for (;;)
		sleep(LONG_S);
}

static void compute_on(struct thread *t)
{
	(void)t;
	for (volatile long n = 0;; n++)
		;
}

static void read_on(struct thread *t)
{
	int fds[2];
	char c;

	(void)t;
	CHECK(pipe(fds) == 0);
	for (;;)
		(void)!read(fds[0], &c, 1);
}

static void wait_on(struct thread *t)
{
	(void)t;
	for (;;)
		sem_wait(&t->done);
}

static void fork_on(struct thread *t)
{
	(void)t;
	for (;;) {
		pid_t pid = fork();
		if (pid == 0)
			_exit(0);
		waitpid(pid, NULL, 0);
	}
}

static void spawn_on(struct thread *t)
{
	pthread_t thread;

	(void)t;
	for (;;)
		if (pthread_create(&thread, NULL, do_nothing, NULL) == 0)
			join(thread);
}

static void at_exit(void)
{
	put(1, "at exit\n", 8);
}

/* Others may still be at anything: they end with the process. */
static void leave_some(struct thread *t)
{
	static part *const parts[] = {sleep_on, compute_on, read_on,
				      wait_on,  fork_on,    spawn_on};

	for (int n = below(t, 5); n > 0; n--)
		spawn_joinable(t, parts[below(t, 6)], NULL, 0);
}

static pthread_t main_thread;

static void exit_last(struct thread *t)
{
	char word[] = "last\n";

	CHECK_OK(pthread_join(main_thread, NULL));
	dawdle(t);
	put(1, word, 5);
}

static int end_program(struct thread *t)
{
	int how = below(t, 8), status = below(t, 100);

	atexit(at_exit);
	if (how == 7) { /* the last thread's end is the process's, with status 0 */
		main_thread = pthread_self();
		spawn_joinable(t, exit_last, NULL, 0);
		pthread_exit(NULL);
	}
	leave_some(t);
	if (how < 6)
		end_child(t, how, status);
	return status;
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	int size = argc > 2 ? atoi(argv[2]) : 6;
	char line[40];
	void *at[1];

	put(1, line, snprintf(line, sizeof(line), "seed %lu\n", (unsigned long)seed));
	set_handlers();
	/* libc loads what unwinds a thread for the first one that is, and who forks meanwhile has
	 * a child that can load nothing. */
	backtrace(at, 1);
	run_world(seed, 3, size, 1);
	return end_program(self);
}
