/* SPDX-License-Identifier: MIT */
/*
 * dump.c: programs for `pgreen dump` to look at.  All but "busy" print "ready" and do not end
 * by themselves.
 */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <linux/futex.h>

#include "check.h"

/* A function that is to be seen in a backtrace. */
#define SEEN __attribute__((noinline, noclone))

static pthread_t start_named(const char *name, void *(*routine)(void *), void *arg)
{
	pthread_t id = start(routine, arg);

	CHECK_OK(pthread_setname_np(id, name));
	return id;
}

static void say_ready(void)
{
	CHECK(write(STDOUT_FILENO, "ready\n", 6) == 6);
}

static void sleep_for_ever(void)
{
	for (;;)
		sleep(1000);
}

/* --- three that lock in a circle ------------------------------------------------------- */

pthread_mutex_t lock_a = PTHREAD_MUTEX_INITIALIZER, lock_b = PTHREAD_MUTEX_INITIALIZER,
		lock_c = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t all_hold;

struct pair {
	pthread_mutex_t *own, *other;
};

SEEN static void take_other(const struct pair *p)
{
	CHECK_OK(pthread_mutex_lock(p->other));
	CHECK_OK(pthread_mutex_unlock(p->other));
}

static void *lock_both(void *pair)
{
	const struct pair *p = pair;

	CHECK_OK(pthread_mutex_lock(p->own));
	pthread_barrier_wait(&all_hold);
	take_other(p);
	return NULL;
}

static void *follow(void *arg)
{
	CHECK_OK(pthread_mutex_lock(&lock_a));
	return arg;
}

static void circle(void)
{
	static struct pair pairs[] = {
	    {&lock_a, &lock_b}, {&lock_b, &lock_c}, {&lock_c, &lock_a}};
	pthread_t first;

	CHECK_OK(pthread_barrier_init(&all_hold, NULL, 4));
	first = start_named("first", lock_both, &pairs[0]);
	start_named("second", lock_both, &pairs[1]);
	start_named("third", lock_both, &pairs[2]);
	pthread_barrier_wait(&all_hold);
	start_named("follower", follow, NULL);
	say_ready();
	join(first);
}

/* Two ways to wait for each other that are not two mutexes. */

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;

static void *read_then_join(void *arg)
{
	pthread_barrier_wait(&all_hold);
	CHECK_OK(pthread_rwlock_rdlock(&rwlock));
	return arg;
}

static void joined(void)
{
	CHECK_OK(pthread_barrier_init(&all_hold, NULL, 2));
	CHECK_OK(pthread_rwlock_wrlock(&rwlock));
	pthread_t reader = start_named("reader", read_then_join, NULL);

	pthread_barrier_wait(&all_hold);
	say_ready();
	join(reader);
}

static void *lock_twice(void *arg)
{
	CHECK_OK(pthread_mutex_lock(&lock_a));
	CHECK_OK(pthread_mutex_lock(&lock_a));
	return arg;
}

static void alone(void)
{
	start_named("twice", lock_twice, NULL);
	say_ready();
	sleep_for_ever();
}

/* A mutex whose holder has ended is no circle. */
static void *lock_and_end(void *arg)
{
	CHECK_OK(pthread_mutex_lock(&lock_a));
	return arg;
}

static void orphan(void)
{
	in_thread(lock_and_end, NULL);
	start_named("heir", follow, NULL);
	say_ready();
	sleep_for_ever();
}

/* Two who wait for each other, but never both at a time: first the one holds the first lock
 * and waits for the second, then the other the second, and waits for the first. */
static void *take_turns(void *number)
{
	bool is_first = number == NULL;

	for (bool turn = true;; turn = !turn) {
		pthread_mutex_t *own = is_first ? &lock_a : &lock_b,
				*other = is_first ? &lock_b : &lock_a;

		CHECK_OK(pthread_mutex_lock(own));
		pthread_barrier_wait(&all_hold);
		if (turn == is_first) {
			CHECK_OK(pthread_mutex_lock(other));
			CHECK_OK(pthread_mutex_unlock(other));
		} else {
			sched_yield();
		}
		CHECK_OK(pthread_mutex_unlock(own));
		pthread_barrier_wait(&all_hold);
	}
	return NULL;
}

static void turns(void)
{
	CHECK_OK(pthread_barrier_init(&all_hold, NULL, 2));
	start_named("first", take_turns, NULL);
	start_named("second", take_turns, &all_hold);
	say_ready();
	sleep_for_ever();
}

/* --- nobody to wake them ----------------------------------------------------------------- */

static void *wait_in_vain(void *arg)
{
	pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t unknown = PTHREAD_COND_INITIALIZER;

	CHECK_OK(pthread_mutex_lock(&own));
	CHECK_OK(pthread_cond_wait(&unknown, &own));
	return arg;
}

static void asleep(void)
{
	pthread_t id = start_named("vain", wait_in_vain, NULL);

	say_ready();
	join(id);
}

/* --- one in each kind of wait ----------------------------------------------------------- */

pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER, mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
pthread_rwlock_t read_by_main = PTHREAD_RWLOCK_INITIALIZER,
		 written_by_main = PTHREAD_RWLOCK_INITIALIZER;
pthread_barrier_t barrier;
pthread_once_t once = PTHREAD_ONCE_INIT;
sem_t semaphore;
int word;
static int pipe_fds[2], socket_fds[2], lock_file;

SEEN static void *in_mutex(void *arg)
{
	CHECK_OK(pthread_mutex_lock(&held));
	return arg;
}

SEEN static void *in_cond(void *arg)
{
	CHECK_OK(pthread_mutex_lock(&mutex));
	CHECK_OK(pthread_cond_wait(&cond, &mutex));
	return arg;
}

SEEN static void *in_timed_cond(void *arg)
{
	struct timespec ts;

	CHECK(clock_gettime(CLOCK_REALTIME, &ts) == 0);
	ts.tv_sec += 10000;
	CHECK_OK(pthread_mutex_lock(&mutex));
	CHECK_OK(pthread_cond_timedwait(&cond, &mutex, &ts));
	return arg;
}

SEEN static void *in_rdlock(void *arg)
{
	CHECK_OK(pthread_rwlock_rdlock(&written_by_main));
	return arg;
}

SEEN static void *in_wrlock(void *arg)
{
	CHECK_OK(pthread_rwlock_wrlock(&read_by_main));
	return arg;
}

SEEN static void *in_barrier(void *arg)
{
	pthread_barrier_wait(&barrier);
	return arg;
}

SEEN static void *in_sem(void *arg)
{
	CHECK(sem_wait(&semaphore) == 0);
	return arg;
}

SEEN static void *in_sleep(void *arg)
{
	sleep(20000);
	return arg;
}

SEEN static void *in_join(void *id)
{
	join((pthread_t)id);
	return NULL;
}

SEEN static void *in_futex(void *arg)
{
	CHECK(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL) == 0);
	return arg;
}

SEEN static void *in_sigwait(void *arg)
{
	sigset_t set;
	int sig;

	CHECK(sigemptyset(&set) == 0 && sigaddset(&set, SIGUSR1) == 0);
	CHECK_OK(sigwait(&set, &sig));
	return arg;
}

SEEN static void *in_read(void *arg)
{
	char c;

	CHECK(read(pipe_fds[0], &c, 1) == 1);
	return arg;
}

SEEN static void *in_recv(void *arg)
{
	char c;

	CHECK(recv(socket_fds[0], &c, 1, 0) == 1);
	return arg;
}

SEEN static void *in_poll(void *arg)
{
	struct pollfd fds[] = {{.fd = pipe_fds[0], .events = POLLIN},
			       {.fd = socket_fds[0], .events = POLLIN | POLLPRI}};

	CHECK(poll(fds, 2, -1) > 0);
	return arg;
}

/* A wait that only the kernel can do. */
SEEN static void *in_flock(void *arg)
{
	struct flock all = {.l_type = F_WRLCK};

	CHECK(fcntl(lock_file, F_OFD_SETLKW, &all) == 0);
	return arg;
}

SEEN static void run_once(void)
{
	sleep_for_ever();
}

SEEN static void *in_routine(void *arg)
{
	CHECK_OK(pthread_once(&once, run_once));
	return arg;
}

SEEN static void *in_once(void *arg)
{
	CHECK_OK(pthread_once(&once, run_once));
	return arg;
}

/* A system call that nobody announces. */
SEEN static long read_by_itself(int fd, void *to)
{
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(SYS_read), "D"(fd), "S"(to), "d"(1)
			 : "rcx", "r11", "memory");
	return r;
}

SEEN static void *in_inline(void *arg)
{
	char c;

	CHECK(read_by_itself(pipe_fds[0], &c) == 1);
	return arg;
}

static volatile sig_atomic_t in_handler;

SEEN static void handle(int sig)
{
	in_handler = sig;
	sleep_for_ever();
}

/* Interrupted in a wait, and then in the midst of its own code. */
SEEN static void *in_sem_handler(void *arg)
{
	CHECK(sem_wait(&semaphore) == 0);
	return arg;
}

SEEN static void *in_loop_handler(void *arg)
{
	while (in_handler != SIGUSR2)
		;
	return arg;
}

static void start_lock(void)
{
	char path[] = "/tmp/dump.XXXXXX";
	int fd = mkstemp(path);
	struct flock all = {.l_type = F_WRLCK};

	CHECK(fd >= 0 && (lock_file = open(path, O_RDWR)) >= 0);
	CHECK(unlink(path) == 0);
	CHECK(fcntl(fd, F_OFD_SETLK, &all) == 0);
	start_named("flock", in_flock, NULL);
}

static void start_handled(const char *name, void *(*routine)(void *))
{
	pthread_t id;

	in_handler = 0;
	id = start_named(name, routine, NULL);
	sleep_ms(50); /* it is in its wait, or at its computation */
	CHECK_OK(pthread_kill(id, SIGUSR2));
	while (in_handler == 0)
		sleep_ms(1);
}

static void waits(void)
{
	CHECK_OK(pthread_mutex_lock(&held));
	CHECK_OK(pthread_rwlock_rdlock(&read_by_main));
	CHECK_OK(pthread_rwlock_wrlock(&written_by_main));
	CHECK_OK(pthread_barrier_init(&barrier, NULL, 3));
	CHECK(sem_init(&semaphore, 0, 0) == 0);
	CHECK(pipe(pipe_fds) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, socket_fds) == 0);
	CHECK(signal(SIGUSR2, handle) != SIG_ERR);
	start_named("mutex", in_mutex, NULL);
	start_named("cond", in_cond, NULL);
	start_named("timed-cond", in_timed_cond, NULL);
	start_named("rdlock", in_rdlock, NULL);
	start_named("wrlock", in_wrlock, NULL);
	start_named("barrier", in_barrier, NULL);
	start_named("sem", in_sem, NULL);
	pthread_t sleeper = start_named("sleep", in_sleep, NULL);
	start_named("join", in_join, (void *)sleeper);
	start_named("futex", in_futex, NULL);
	start_named("sigwait", in_sigwait, NULL);
	start_named("read", in_read, NULL);
	start_named("recv", in_recv, NULL);
	start_named("poll", in_poll, NULL);
	start_lock();
	start_named("routine", in_routine, NULL);
	sleep_ms(20);
	start_named("once", in_once, NULL);
	start_named("inline", in_inline, NULL);
	start_handled("sem-handler", in_sem_handler);
	start_handled("loop-handler", in_loop_handler);
	say_ready();
	sleep_for_ever();
}

/* --- many in one place ------------------------------------------------------------------- */

static void sleepers(void)
{
	for (int i = 0; i < 300; i++)
		start(in_sleep, NULL);
	say_ready();
	sleep_for_ever();
}

/* --- one that computes -------------------------------------------------------------------- */

SEEN static uint64_t compute_for_ever(uint64_t x)
{
	for (;;)
		__asm__ volatile("" : "+r"(x));
	return x;
}

static void *computing(void *arg)
{
	compute_for_ever(1);
	return arg;
}

static void computes(void)
{
	start_named("computing", computing, NULL);
	say_ready();
	sleep_for_ever();
}

/* --- those that must not be disturbed: until the end of standard input ------------------- */

enum { N_RING = 6, ROUNDS = 500, N_COMPUTE = 2, STEPS = 20000000 };

static int ring[N_RING][2];
static pthread_mutex_t sum_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t sum;
static atomic_bool over;

/* Hands a number round by pipes; each adds it up under a mutex. */
static void *pass_on(void *number)
{
	int i = (int)(intptr_t)number;
	uint64_t x;

	for (int k = 0; k < ROUNDS; k++) {
		CHECK(read(ring[i][0], &x, sizeof(x)) == sizeof(x));
		CHECK_OK(pthread_mutex_lock(&sum_lock));
		sum += x;
		CHECK_OK(pthread_mutex_unlock(&sum_lock));
		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		CHECK(write(ring[(i + 1) % N_RING][1], &x, sizeof(x)) == sizeof(x));
	}
	return NULL;
}

/* All kinds of registers, over and over.  It names itself, for it may end before others do. */
static void *compute(void *to)
{
	uint64_t x = 1;
	double y = 0;

	CHECK_OK(pthread_setname_np(pthread_self(), "compute"));
	for (uint64_t i = 0; i < STEPS; i++) {
		x = x * 6364136223846793005ULL + i;
		y = y / 2 + (double)(x >> 40);
	}
	*(uint64_t *)to = x ^ (uint64_t)y;
	return NULL;
}

static uint64_t run_batch(void)
{
	pthread_t in_ring[N_RING], computers[N_COMPUTE];
	uint64_t x = 1, results[N_COMPUTE];

	sum = 0;
	for (int i = 0; i < N_COMPUTE; i++)
		computers[i] = start(compute, &results[i]);
	for (int i = 0; i < N_RING; i++)
		in_ring[i] = start_named("ring", pass_on, (void *)(intptr_t)i);
	CHECK(write(ring[0][1], &x, sizeof(x)) == sizeof(x));
	for (int i = 0; i < N_RING; i++)
		join(in_ring[i]);
	CHECK(read(ring[0][0], &x, sizeof(x)) == sizeof(x));
	for (int i = 0; i < N_COMPUTE; i++) {
		join(computers[i]);
		sum = sum * 31 + results[i];
	}
	return sum;
}

/* What a wait that nobody interrupts answers. */
static void *wait_in_kernel(void *arg)
{
	const struct timespec ts = {.tv_nsec = 2000000};
	const struct timeval tv = {.tv_usec = 2000};
	sigset_t set;
	int fds[2];
	char c;

	CHECK(sigemptyset(&set) == 0 && sigaddset(&set, SIGUSR1) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	CHECK(setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == 0);
	while (!over) {
		CHECK(sigtimedwait(&set, NULL, &ts) == -1 && errno == EAGAIN);
		CHECK(recv(fds[0], &c, 1, 0) == -1 && errno == EAGAIN);
		CHECK(poll(NULL, 0, 1) == 0);
		CHECK(nanosleep(&ts, NULL) == 0);
	}
	return arg;
}

static void busy(void)
{
	pthread_t waiter = start_named("kernel", wait_in_kernel, NULL);
	struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
	uint64_t first;

	for (int i = 0; i < N_RING; i++)
		CHECK(pipe(ring[i]) == 0);
	say_ready();
	first = run_batch();
	while (poll(&in, 1, 0) == 0)
		CHECK(run_batch() == first);
	over = true;
	join(waiter);
	printf("%016llx\n", (unsigned long long)first);
}

/* System calls that nobody announces, nor makes again when they end with EINTR. */
static long call(long nr, long a, long b, long c, long d, long e, long f)
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

static void *wait_by_itself(void *arg)
{
	const struct timespec ts = {.tv_nsec = 3000000}, short_ts = {.tv_nsec = 30000};
	const struct timeval tv = {.tv_usec = 3000};
	struct epoll_event event;
	uint64_t set = 1 << (SIGUSR1 - 1);
	int fds[2], epoll = epoll_create1(0);
	char c;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	CHECK(setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == 0);
	while (!over) {
		CHECK(call(SYS_rt_sigtimedwait, (long)&set, 0, (long)&ts, 8, 0, 0) ==
		      -EAGAIN);
		CHECK(call(SYS_recvfrom, fds[0], (long)&c, 1, 0, 0, 0) == -EAGAIN);
		CHECK(call(SYS_epoll_wait, epoll, (long)&event, 1, 3, 0, 0) == 0);
		CHECK(call(SYS_nanosleep, (long)&ts, 0, 0, 0, 0, 0) == 0);
		CHECK(call(SYS_poll, 0, 0, 3, 0, 0, 0) == 0);
		/* Running one moment, and in a call the next. */
		for (int i = 0; i < 500; i++) {
			for (volatile int k = 0; k < 20000; k++)
				;
			CHECK(call(SYS_rt_sigtimedwait, (long)&set, 0, (long)&short_ts, 8,
				   0, 0) == -EAGAIN);
		}
	}
	return arg;
}

/* For more processors than it has threads, so that nobody is preempted: that ends those
 * calls too. */
static void unannounced(void)
{
	pthread_t waiter = start_named("waiter", wait_by_itself, NULL);
	char c;

	say_ready();
	CHECK(read(STDIN_FILENO, &c, 1) == 0);
	over = true;
	join(waiter);
	puts("done");
}

/* --- a thread that is not the program's ---------------------------------------------------- */

SEEN static void on_timer(union sigval arg)
{
	(void)arg;
	CHECK_OK(pthread_mutex_lock(&held));
}

static void adopted(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD,
				 .sigev_notify_function = on_timer};
	const struct itimerspec soon = {.it_value.tv_nsec = 1000000};
	timer_t timer;

	become_threaded();
	CHECK_OK(pthread_mutex_lock(&held));
	CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
	CHECK(timer_settime(timer, 0, &soon, NULL) == 0);
	say_ready();
	sleep_for_ever();
}

/* --- before its first thread ---------------------------------------------------------------- */

SEEN static void no_thread(void)
{
	say_ready();
	sleep_for_ever();
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	    {"circle", circle},
	    {"joined", joined},
	    {"alone", alone},
	    {"orphan", orphan},
	    {"turns", turns},
	    {"asleep", asleep},
	    {"waits", waits},
	    {"sleepers", sleepers},
	    {"computes", computes},
	    {"busy", busy},
	    {"unannounced", unannounced},
	    {"adopted", adopted},
	    {"no-thread", no_thread},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
