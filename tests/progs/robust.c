/* SPDX-License-Identifier: MIT */
/*
 * robust.c: mutexes that know their owner's end, or lend priority, and objects that several
 * processes share.  The second process of a pair is this program again; PEER_PRELOAD is
 * its LD_PRELOAD.
 */
#include "check.h"

#include <fcntl.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static void make(pthread_mutex_t *m, int type, int protocol, int shared, int robust)
{
	pthread_mutexattr_t attr;

	CHECK_OK(pthread_mutexattr_init(&attr));
	CHECK_OK(pthread_mutexattr_settype(&attr, type));
	CHECK_OK(pthread_mutexattr_setprotocol(&attr, protocol));
	CHECK_OK(pthread_mutexattr_setpshared(&attr, shared));
	CHECK_OK(pthread_mutexattr_setrobust(&attr, robust));
	CHECK_OK(pthread_mutex_init(m, &attr));
	CHECK_OK(pthread_mutexattr_destroy(&attr));
}

static int lock_within(pthread_mutex_t *m, int ms)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_nsec += ms % 1000 * 1000000L;
	ts.tv_sec += ms / 1000 + ts.tv_nsec / 1000000000;
	ts.tv_nsec %= 1000000000;
	return pthread_mutex_timedlock(m, &ts);
}

/* --- error rules ---------------------------------------------------------------------------- */

static pthread_mutex_t one;

static const char *name(int error)
{
	return error == 0 ? "0" : strerrorname_np(error);
}

static void *from_another(void *arg)
{
	printf("other: unlock %s, ", name(pthread_mutex_unlock(&one)));
	printf("try %s, ", name(pthread_mutex_trylock(&one)));
	printf("timed %s; ", name(lock_within(&one, 5)));
	return arg;
}

static void print_rules(void)
{
	int ceiling = -1, old = -1, error;

	printf("lock %s, ", name(pthread_mutex_lock(&one)));
	printf("try %s, ", name(pthread_mutex_trylock(&one)));
	in_thread(from_another, NULL);
	for (int i = 0; i < 3; i++)
		printf("unlock %s, ", name(pthread_mutex_unlock(&one)));
	printf("consistent %s, ", name(pthread_mutex_consistent(&one)));
	error = pthread_mutex_getprioceiling(&one, &ceiling);
	printf("ceiling %s", name(error));
	if (error == 0)
		printf(" %d", ceiling);
	error = pthread_mutex_setprioceiling(&one, 5, &old);
	printf(", set %s", name(error));
	if (error == 0)
		printf(" %d", old);
	printf(", too high %s, ", name(pthread_mutex_setprioceiling(&one, 1000, &old)));
	printf("destroy %s\n", name(pthread_mutex_destroy(&one)));
}

/* The kinds there are. */
struct kind {
	int type, protocol, shared, robust;
};
enum { N_KINDS = 24 };

/* Makes the one mutex of kind i, and tells of it.  Not where it has a ceiling: only real-time
 * threads may lock it. */
static struct kind make_kind(int i)
{
	struct kind k = {i % 3, i / 3 % 2, i / 6 % 2, i / 12};

	printf("type %d, protocol %d, shared %d, robust %d: ", k.type, k.protocol,
	       k.shared, k.robust);
	make(&one, k.type, k.protocol, k.shared, k.robust);
	return k;
}

static void rules(void)
{
	become_threaded();
	for (int i = 0; i < N_KINDS; i++) {
		make_kind(i);
		print_rules();
	}
}

static void *try_while_waited(void *arg)
{
	(void)arg;
	sleep_ms(10);
	int r = pthread_mutex_trylock(&one);
	if (r == 0)
		CHECK_OK(pthread_mutex_unlock(&one));
	return (void *)(intptr_t)r;
}

static int wait_briefly(int ms)
{
	static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
	struct timespec ts = in_ms(CLOCK_REALTIME, ms);

	return pthread_cond_timedwait(&cond, &one, &ts);
}

/* What a wait for a private condition says of a mutex that is not the caller's, and does to one
 * that is locked twice. */
static void wait_rules(void)
{
	become_threaded();
	for (int i = 0; i < N_KINDS; i++) {
		struct kind k = make_kind(i);

		/* A normal one does not know. */
		if (k.type != PTHREAD_MUTEX_NORMAL || k.protocol || k.robust)
			printf("not locked %s, ", name(wait_briefly(1)));
		CHECK_OK(pthread_mutex_lock(&one));
		if (k.type == PTHREAD_MUTEX_RECURSIVE) {
			CHECK_OK(pthread_mutex_lock(&one));
			pthread_t other = start(try_while_waited, NULL);
			printf("locked twice %s, ", name(wait_briefly(100)));
			printf("other's try %s, ", name((int)(intptr_t)join(other)));
			printf("unlock %s, ", name(pthread_mutex_unlock(&one)));
		}
		printf("locked %s, ", name(wait_briefly(1)));
		for (int n = 0; n < 2; n++)
			printf("unlock %s, ", name(pthread_mutex_unlock(&one)));
		printf("destroy %s\n", name(pthread_mutex_destroy(&one)));
	}
}

static void *lock_with_ceiling(void *arg)
{
	struct sched_param param = {.sched_priority = 3};
	pthread_mutexattr_t attr;
	int policy;

	if (arg != NULL && pthread_setschedparam(pthread_self(), SCHED_FIFO, &param) != 0)
		exit(77);
	CHECK_OK(pthread_mutexattr_init(&attr));
	CHECK_OK(pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_PROTECT));
	for (int ceiling = 1; ceiling < 12; ceiling += 5) {
		CHECK_OK(pthread_mutexattr_setprioceiling(&attr, ceiling));
		CHECK_OK(pthread_mutex_init(&one, &attr));
		int error = pthread_mutex_lock(&one);
		CHECK_OK(pthread_getschedparam(pthread_self(), &policy, &param));
		printf("ceiling %d: lock %s, priority %d, ", ceiling, name(error),
		       param.sched_priority);
		if (error == 0)
			CHECK_OK(pthread_mutex_unlock(&one));
		CHECK_OK(pthread_getschedparam(pthread_self(), &policy, &param));
		printf("then %d\n", param.sched_priority);
	}
	return NULL;
}

static void ceilings(void)
{
	in_thread(lock_with_ceiling, NULL);
	in_thread(lock_with_ceiling, NULL);
	in_thread(lock_with_ceiling, &one);
	in_thread(lock_with_ceiling, &one);
	in_thread(lock_with_ceiling, NULL);
}

/* --- the owner's end -------------------------------------------------------------------------- */

static _Atomic int ready;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;

static void unlock(void *m)
{
	pthread_mutex_unlock(m);
}

/* Ends holding it, each way in turn. */
static void *end_holding(void *how)
{
	CHECK_OK(pthread_mutex_lock(&one));
	if ((pthread_mutex_trylock(&one)) == 0)
		CHECK(one.__data.__count == 2);
	atomic_fetch_add(&ready, 1);
	switch ((intptr_t)how % 4) {
	case 1:
		pthread_exit(NULL);
	case 2:
		pthread_cancel(pthread_self());
		pthread_testcancel();
		break;
	case 3:
		syscall(SYS_exit, 0);
	}
	return NULL;
}

static pthread_t end_one(int how)
{
	pthread_t t = start(end_holding, (void *)(intptr_t)how);

	if (how % 4 != 3) {
		join(t);
		return t;
	}
	/* Nobody can join it natively. */
	CHECK_OK(pthread_detach(t));
	while (one.__data.__lock == 0 || !(one.__data.__lock & 0x40000000))
		sched_yield();
	return t;
}

static void owner_dies(int type, int protocol, int shared)
{
	for (int how = 0; how < 8; how++) {
		/* The kernel is slower than join where it lends priority. */
		bool by_kernel = shared && protocol == PTHREAD_PRIO_INHERIT;

		make(&one, type, protocol, shared, PTHREAD_MUTEX_ROBUST);
		end_one(by_kernel ? 0 : how);
		int error = how < 4 && !by_kernel ? pthread_mutex_trylock(&one)
						  : lock_within(&one, 2000);
		CHECK(error == EOWNERDEAD);
		if (how % 2) {
			CHECK_OK(pthread_mutex_consistent(&one));
			CHECK(pthread_mutex_consistent(&one) == EINVAL);
			CHECK_OK(pthread_mutex_unlock(&one));
			CHECK_OK(pthread_mutex_lock(&one));
			CHECK_OK(pthread_mutex_unlock(&one));
		} else {
			CHECK_OK(pthread_mutex_unlock(&one));
			CHECK(pthread_mutex_lock(&one) == ENOTRECOVERABLE);
			CHECK(pthread_mutex_trylock(&one) == ENOTRECOVERABLE);
		}
		CHECK_OK(pthread_mutex_destroy(&one));
	}
}

static void owner_ends(void)
{
	for (int type = 0; type < 3; type++)
		for (int protocol = 0; protocol < 2; protocol++) {
			owner_dies(type, protocol, PTHREAD_PROCESS_PRIVATE);
			owner_dies(type, protocol, PTHREAD_PROCESS_SHARED);
		}
}

static void *wait_for_it(void *arg)
{
	int error;

	atomic_fetch_add(&ready, 1);
	error = arg != NULL ? lock_within(&one, 20000) : pthread_mutex_lock(&one);
	if (error == EOWNERDEAD) {
		sleep_ms(2);
		pthread_mutex_unlock(&one); /* without having made it consistent */
	}
	return (void *)(intptr_t)error;
}

static void *hold_a_while(void *arg)
{
	CHECK_OK(pthread_mutex_lock(&one));
	atomic_fetch_add(&ready, 1);
	while (atomic_load(&ready) < 21)
		sleep_ms(1);
	sleep_ms(5);
	return arg;
}

/* Waiters learn of it, one that the owner died, the others that it is lost.  Natively they may
 * sleep for ever: glibc 2.36 loses a wake there. */
static void waiters(void)
{
	for (int round = 0; round < 6; round++) {
		pthread_t many[20], owner;
		int died = 0, lost = 0;

		atomic_store(&ready, 0);
		make(&one, round % 3, round % 2, PTHREAD_PROCESS_PRIVATE,
		     PTHREAD_MUTEX_ROBUST);
		owner = start(hold_a_while, NULL);
		while (atomic_load(&ready) == 0)
			sleep_ms(1);
		for (int i = 0; i < 20; i++)
			many[i] = start(wait_for_it, i % 2 ? &one : NULL);
		join(owner);
		for (int i = 0; i < 20; i++) {
			int error = (int)(intptr_t)join(many[i]);
			died += error == EOWNERDEAD;
			lost += error == ENOTRECOVERABLE;
		}
		CHECK(died == 1 && lost == 19);
	}
}

/* Ends holding it again and again, while others pass the mutex on. */
static long counter;

static void *die_at_times(void *arg)
{
	unsigned seed = (unsigned)(intptr_t)arg;

	for (int i = 0; i < 200; i++) {
		int error = i % 3 ? pthread_mutex_lock(&one) : lock_within(&one, 30000);
		if (error == EOWNERDEAD)
			error = pthread_mutex_consistent(&one);
		CHECK_OK(error);
		counter++;
		if (rand_r(&seed) % 100 == 0)
			return (void *)(intptr_t)(i + 1);
		if (rand_r(&seed) % 8 == 0)
			sched_yield();
		CHECK_OK(pthread_mutex_unlock(&one));
	}
	return (void *)200;
}

static void contended(void)
{
	for (int kind = 0; kind < 4; kind++) {
		long sum = 0;

		counter = 0;
		make(&one, kind == 1, kind == 2, kind == 3, PTHREAD_MUTEX_ROBUST);
		for (int round = 0; round < 4; round++) {
			pthread_t many[12];
			for (int i = 0; i < 12; i++)
				many[i] = start(
				    die_at_times,
				    (void *)(intptr_t)(kind * 100 + round * 12 + i + 1));
			for (int i = 0; i < 12; i++)
				sum += (intptr_t)join(many[i]);
		}
		CHECK(sum == counter);
	}
}

static void *wait_on_cond(void *arg)
{
	int error;

	(void)arg;
	CHECK_OK(pthread_mutex_lock(&one));
	atomic_fetch_add(&ready, 1);
	do
		error = pthread_cond_wait(&never, &one);
	while (error == 0);
	CHECK_OK(pthread_mutex_consistent(&one));
	CHECK_OK(pthread_mutex_unlock(&one));
	return (void *)(intptr_t)error;
}

static void *signal_and_end(void *arg)
{
	CHECK_OK(pthread_mutex_lock(&one));
	pthread_cond_broadcast(&never);
	sleep_ms(5);
	return arg;
}

/* A handler that waits itself interrupts the wait for a private condition, and it goes on. */
static _Atomic int handled_ms, woken;

static void sleep_in_handler(int sig)
{
	struct timespec ts = {.tv_nsec = 20000000};
	long long begun = now_ms();

	(void)sig;
	nanosleep(&ts, NULL);
	handled_ms = 1 + (int)(now_ms() - begun);
}

static void *wait_and_handle(void *arg)
{
	/* Of the kernel's: it comes to the kernel thread, whatever that is at. */
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
	struct itimerspec at = {.it_value = {.tv_nsec = 50000000}};
	pthread_cond_t *cond = arg;
	timer_t timer;

	event._sigev_un._tid = (int)syscall(SYS_gettid);
	CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
	CHECK_OK(pthread_mutex_lock(&one));
	CHECK(timer_settime(timer, 0, &at, NULL) == 0);
	while (!ready)
		CHECK_OK(pthread_cond_wait(cond, &one));
	CHECK_OK(pthread_mutex_unlock(&one));
	CHECK(timer_delete(timer) == 0);
	woken = 1;
	return NULL;
}

static void check_handled(void)
{
	static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
	struct sigaction act = {.sa_handler = sleep_in_handler};

	ready = handled_ms = woken = 0;
	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	pthread_t thread = start(wait_and_handle, &cond);
	for (long long end = now_ms() + 15000; handled_ms == 0; sleep_ms(1))
		CHECK(now_ms() < end);
	CHECK(handled_ms > 19);
	sleep_ms(5);
	CHECK_OK(pthread_mutex_lock(&one));
	ready = 1;
	CHECK_OK(pthread_cond_signal(&cond));
	CHECK_OK(pthread_mutex_unlock(&one));
	for (long long end = now_ms() + 15000; !woken; sleep_ms(1))
		CHECK(now_ms() < end);
	join(thread);
}

static void handlers(void)
{
	pthread_mutexattr_t attr;

	for (int kind = 0; kind < 4; kind++) {
		make(&one, 0, kind & 1, 1, kind >> 1);
		check_handled();
	}
	/* Only a real-time thread may lock one with a ceiling. */
	struct sched_param param = {.sched_priority = 1};
	if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &param) != 0)
		return;
	CHECK_OK(pthread_mutexattr_init(&attr));
	CHECK_OK(pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_PROTECT));
	CHECK_OK(pthread_mutexattr_setprioceiling(&attr, 5));
	CHECK_OK(pthread_mutex_init(&one, &attr));
	check_handled();
}

/* A wait for a condition comes back with what the mutex has to say. */
static void conditions(void)
{
	pthread_condattr_t attr;

	for (int shared = 0; shared < 2; shared++) {
		atomic_store(&ready, 0);
		CHECK_OK(pthread_condattr_init(&attr));
		CHECK_OK(pthread_condattr_setpshared(&attr, shared));
		CHECK_OK(pthread_cond_init(&never, &attr));
		make(&one, PTHREAD_MUTEX_ERRORCHECK, 0, shared, PTHREAD_MUTEX_ROBUST);
		CHECK(pthread_cond_wait(&never, &one) == EPERM || shared);
		pthread_t t = start(wait_on_cond, NULL);
		while (atomic_load(&ready) == 0)
			sleep_ms(1);
		in_thread(signal_and_end, NULL);
		CHECK(join(t) == (void *)EOWNERDEAD);
	}
}

static void *cancelled(void *arg)
{
	CHECK_OK(pthread_mutex_lock(&one));
	pthread_cleanup_push(unlock, &one);
	atomic_fetch_add(&ready, 1);
	for (;;)
		pthread_cond_wait(&never, &one);
	pthread_cleanup_pop(0);
	return arg;
}

static void cancels(void)
{
	pthread_condattr_t attr;

	for (int kind = 0; kind < 4; kind++) {
		int shared = kind / 2;
		atomic_store(&ready, 0);
		CHECK_OK(pthread_condattr_init(&attr));
		CHECK_OK(pthread_condattr_setpshared(&attr, shared));
		CHECK_OK(pthread_cond_init(&never, &attr));
		make(&one, 0, kind % 2, shared, PTHREAD_MUTEX_ROBUST);
		pthread_t t = start(cancelled, NULL);
		while (atomic_load(&ready) == 0)
			sleep_ms(1);
		CHECK_OK(pthread_mutex_lock(&one));
		CHECK_OK(pthread_mutex_unlock(&one));
		CHECK_OK(pthread_cancel(t));
		CHECK(join(t) == PTHREAD_CANCELED);
		CHECK_OK(pthread_mutex_lock(&one));
		CHECK_OK(pthread_mutex_unlock(&one));
		CHECK_OK(pthread_cond_destroy(&never));
	}
}

/* Locked before there were threads. */
static void *expect_held(void *arg)
{
	CHECK(pthread_mutex_trylock(&one) == EBUSY);
	CHECK(pthread_mutex_unlock(&one) == EPERM);
	return arg;
}

static void before_threads(void)
{
	for (int kind = 0; kind < 4; kind++) {
		make(&one, PTHREAD_MUTEX_ERRORCHECK, kind % 2, kind / 2,
		     PTHREAD_MUTEX_ROBUST);
		pid_t pid = fork(); /* alone: the runtime sleeps still */
		if (pid != 0) {
			int status;
			CHECK(waitpid(pid, &status, 0) == pid && status == 0);
			continue;
		}
		CHECK_OK(pthread_mutex_lock(&one));
		in_thread(expect_held, NULL);
		CHECK(pthread_mutex_lock(&one) == EDEADLK);
		CHECK_OK(pthread_mutex_unlock(&one));
		in_thread(end_holding, NULL);
		CHECK(lock_within(&one, 1000) == EOWNERDEAD);
		_exit(0);
	}
}

static _Atomic int n_locked;

static void *lock_as_elder(void *arg)
{
	CHECK_OK(pthread_mutex_lock(&one));
	n_locked++;
	CHECK_OK(pthread_mutex_unlock(&one));
	return arg;
}

static void elders(void)
{
	make(&one, PTHREAD_MUTEX_NORMAL, 0, 0, PTHREAD_MUTEX_ROBUST);
	CHECK_OK(pthread_mutex_lock(&one));
	start_elder(lock_as_elder, NULL);
	start_elder(lock_as_elder, NULL);
	pthread_t thread = start_waiting(lock_as_elder, NULL);
	CHECK_OK(pthread_mutex_unlock(&one));
	until_counted(&n_locked, 3);
	join(thread);
}

/* A condition that is process-shared, and a mutex that is not. */
enum { N_TURNS = 400, N_PASSING = 4 };
static pthread_cond_t turned;
static int turn;

static void *pass_turn(void *arg)
{
	CHECK_OK(pthread_mutex_lock(&one));
	while (turn < N_TURNS) {
		if (turn % N_PASSING == (intptr_t)arg) {
			turn++;
			CHECK_OK(pthread_cond_broadcast(&turned));
		} else if (turn % 3 == 0) {
			struct timespec ts = in_ms(CLOCK_REALTIME, 30000);
			CHECK_OK(pthread_cond_timedwait(&turned, &one, &ts));
		} else {
			CHECK_OK(pthread_cond_wait(&turned, &one));
		}
	}
	CHECK_OK(pthread_mutex_unlock(&one));
	return NULL;
}

/* Has others wait for the mutex. */
static void *hold_now_and_then(void *arg)
{
	bool is_over = false;

	while (!is_over) {
		CHECK_OK(arg != NULL ? lock_within(&one, 30000)
				     : pthread_mutex_lock(&one));
		sched_yield();
		is_over = turn >= N_TURNS;
		CHECK_OK(pthread_mutex_unlock(&one));
		sleep_ms(1);
	}
	return NULL;
}

static void shared_condition(void)
{
	pthread_t threads[N_PASSING + 2];
	pthread_condattr_t attr;

	CHECK_OK(pthread_condattr_init(&attr));
	CHECK_OK(pthread_condattr_setpshared(&attr, PTHREAD_PROCESS_SHARED));
	for (int kind = 0; kind < 16; kind++) {
		CHECK_OK(pthread_cond_init(&turned, &attr));
		make(&one, kind % 4, kind / 4 % 2, 0, kind / 8);
		turn = 0;
		for (int i = 0; i < N_PASSING; i++)
			threads[i] = start(pass_turn, (void *)(intptr_t)i);
		threads[N_PASSING] = start(hold_now_and_then, NULL);
		threads[N_PASSING + 1] = start(hold_now_and_then, &one);
		for (int i = 0; i < N_PASSING + 2; i++)
			join(threads[i]);
		CHECK(turn == N_TURNS);
		CHECK_OK(pthread_cond_destroy(&turned));
		CHECK_OK(pthread_mutex_destroy(&one));
	}
}

/* --- two processes ------------------------------------------------------------------------------ */

/* Lies in memory that both see. */
struct shared {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	pthread_rwlock_t rwlock;
	pthread_barrier_t barrier;
	sem_t sem[2];
	_Atomic int ready, go;
	int turn;
	long counter;
	_Atomic long readers;
};

static struct shared *shared;
static char path[4096];

static void share(int fd)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(shared != MAP_FAILED);
	close(fd);
}

static void make_shared(int type, int protocol, int robust)
{
	pthread_condattr_t cond;
	pthread_rwlockattr_t rwlock;
	pthread_barrierattr_t barrier;

	memset(shared, 0, sizeof(*shared));
	make(&shared->mutex, type, protocol, PTHREAD_PROCESS_SHARED, robust);
	CHECK_OK(pthread_condattr_init(&cond));
	CHECK_OK(pthread_condattr_setpshared(&cond, PTHREAD_PROCESS_SHARED));
	CHECK_OK(pthread_cond_init(&shared->cond, &cond));
	CHECK_OK(pthread_rwlockattr_init(&rwlock));
	CHECK_OK(pthread_rwlockattr_setpshared(&rwlock, PTHREAD_PROCESS_SHARED));
	CHECK_OK(pthread_rwlock_init(&shared->rwlock, &rwlock));
	CHECK_OK(pthread_barrierattr_init(&barrier));
	CHECK_OK(pthread_barrierattr_setpshared(&barrier, PTHREAD_PROCESS_SHARED));
	CHECK_OK(pthread_barrier_init(&shared->barrier, &barrier, 8));
	CHECK(sem_init(&shared->sem[0], 1, 0) == 0 &&
	      sem_init(&shared->sem[1], 1, 0) == 0);
}

/* This program again, doing its part as the peer. */
static pid_t start_peer(const char *part)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	const char *preload = getenv("PEER_PRELOAD");
	if (preload != NULL && *preload != '\0')
		setenv("LD_PRELOAD", preload, 1);
	else
		unsetenv("LD_PRELOAD");
	execl("/proc/self/exe", "robust", "peer", part, path, NULL);
	_exit(127);
}

static void end_peer(pid_t pid)
{
	int status;

	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(status == 0);
}

static void wait_ready(int n)
{
	long long end = now_ms() + 20000;

	while (atomic_load(&shared->ready) < n) {
		CHECK(now_ms() < end);
		sleep_ms(1);
	}
}

/* Four threads of each process, in each other's way. */
static void *exclude(void *arg)
{
	bool recurses = shared->mutex.__data.__kind % 16 == PTHREAD_MUTEX_RECURSIVE_NP;

	for (int i = 0; i < 1000; i++) {
		CHECK_OK(pthread_mutex_lock(&shared->mutex));
		if (recurses)
			CHECK_OK(pthread_mutex_lock(&shared->mutex));
		long was = shared->counter;
		if (i % 64 == 0)
			sched_yield();
		shared->counter = was + 1;
		if (recurses)
			CHECK_OK(pthread_mutex_unlock(&shared->mutex));
		CHECK_OK(pthread_mutex_unlock(&shared->mutex));
	}
	return arg;
}

/* A condition hands the turn from process to process. */
static void *take_turns(void *arg)
{
	int me = (int)(intptr_t)arg;

	for (int i = 0; i < 200; i++) {
		CHECK_OK(pthread_mutex_lock(&shared->mutex));
		while (shared->turn % 2 != me)
			CHECK_OK(pthread_cond_wait(&shared->cond, &shared->mutex));
		shared->turn++;
		CHECK_OK(i % 2 ? pthread_cond_broadcast(&shared->cond)
			       : pthread_cond_signal(&shared->cond));
		CHECK_OK(pthread_mutex_unlock(&shared->mutex));
	}
	return NULL;
}

static void *post_and_wait(void *arg)
{
	int me = (int)(intptr_t)arg;

	for (int i = 0; i < 200; i++) {
		if (me == 0)
			CHECK(sem_post(&shared->sem[1]) == 0);
		CHECK(sem_wait(&shared->sem[me]) == 0);
		if (me == 1)
			CHECK(sem_post(&shared->sem[0]) == 0);
	}
	return NULL;
}

static void *read_and_write(void *arg)
{
	for (int i = 0; i < 300; i++) {
		if (i % 4 == 0) {
			CHECK_OK(pthread_rwlock_wrlock(&shared->rwlock));
			CHECK(atomic_load(&shared->readers) == 0);
			shared->counter++;
			CHECK(atomic_load(&shared->readers) == 0);
		} else {
			CHECK_OK(pthread_rwlock_rdlock(&shared->rwlock));
			atomic_fetch_add(&shared->readers, 1);
			atomic_fetch_add(&shared->readers, -1);
		}
		CHECK_OK(pthread_rwlock_unlock(&shared->rwlock));
	}
	return arg;
}

static void *meet(void *arg)
{
	for (int i = 0; i < 50; i++) {
		int r = pthread_barrier_wait(&shared->barrier);
		CHECK(r == 0 || r == PTHREAD_BARRIER_SERIAL_THREAD);
	}
	return arg;
}

static void four(void *(*routine)(void *), void *arg)
{
	pthread_t many[4];

	for (int i = 0; i < 4; i++)
		many[i] = start(routine, arg);
	for (int i = 0; i < 4; i++)
		join(many[i]);
}

/* me is 1 in the peer. */
static void do_part(const char *part, int me)
{
	if (strcmp(part, "exclude") == 0)
		four(exclude, NULL);
	else if (strcmp(part, "turns") == 0)
		in_thread(take_turns, (void *)(intptr_t)me);
	else if (strcmp(part, "sem") == 0)
		in_thread(post_and_wait, (void *)(intptr_t)me);
	else if (strcmp(part, "rwlock") == 0)
		four(read_and_write, NULL);
	else if (strcmp(part, "barrier") == 0)
		four(meet, NULL);
	else
		CHECK(!"a part");
}

static void with_peer(const char *part, long count)
{
	pid_t peer = start_peer(part);

	do_part(part, 0);
	end_peer(peer);
	CHECK(shared->counter == count);
}

static void pair(void)
{
	for (int kind = 0; kind < 6; kind++) {
		make_shared(kind % 3 == 1 ? PTHREAD_MUTEX_RECURSIVE : kind % 3,
			    kind >= 4 ? PTHREAD_PRIO_INHERIT : PTHREAD_PRIO_NONE,
			    kind % 2 ? PTHREAD_MUTEX_ROBUST : PTHREAD_MUTEX_STALLED);
		with_peer("exclude", 8000);
		if (kind % 3 != 1)
			with_peer("turns", 8000);
	}
	make_shared(0, 0, PTHREAD_MUTEX_STALLED);
	with_peer("sem", 0);
	with_peer("barrier", 0);
	with_peer("rwlock", 2 * 4 * 75);
}

/* --- a process ends that holds one ---------------------------------------------------------------- */

static void *hold_and_stay(void *arg)
{
	(void)arg;
	CHECK_OK(pthread_mutex_lock(&shared->mutex));
	atomic_fetch_add(&shared->ready, 1);
	for (;;)
		sleep_ms(1000);
}

static void *hold_and_exit(void *arg)
{
	CHECK_OK(pthread_mutex_lock(&shared->mutex));
	atomic_fetch_add(&shared->ready, 1);
	sleep_ms(10);
	if (arg != NULL)
		exit(0);
	_exit(0);
}

static void *hold_and_end(void *arg)
{
	CHECK_OK(pthread_mutex_lock(&shared->mutex));
	return arg;
}

static int peer(const char *part, const char *file)
{
	int fd = open(file, O_RDWR);

	CHECK(fd >= 0);
	share(fd);
	if (strcmp(part, "main-first") == 0) {
		CHECK_OK(pthread_mutex_lock(&shared->mutex));
		become_threaded();
		atomic_fetch_add(&shared->ready, 1);
		for (;;)
			sleep_ms(1000);
	}
	become_threaded();
	if (strcmp(part, "killed") == 0)
		in_thread(hold_and_stay, NULL);
	else if (strcmp(part, "exits") == 0)
		in_thread(hold_and_exit, NULL);
	else if (strcmp(part, "exit-handlers") == 0)
		in_thread(hold_and_exit, shared);
	else if (strcmp(part, "thread-ends") == 0) {
		in_thread(hold_and_end, NULL);
		atomic_fetch_add(&shared->ready, 1);
		sleep_ms(100);
	} else
		do_part(part, 1);
	return 0;
}

static void *expect_dead(void *arg)
{
	int error = arg != NULL ? lock_within(&shared->mutex, 20000)
				: pthread_mutex_lock(&shared->mutex);

	if (error == EOWNERDEAD)
		CHECK_OK(pthread_mutex_consistent(&shared->mutex));
	else
		CHECK_OK(error);
	CHECK_OK(pthread_mutex_unlock(&shared->mutex));
	return (void *)(intptr_t)(error == EOWNERDEAD);
}

static void process_ends(void)
{
	static const char *const parts[] = {"killed", "exits", "exit-handlers",
					    "thread-ends", "main-first"};

	for (int i = 0; i < 20; i++) {
		const char *part = parts[i % 5];
		int protocol = i / 5 % 2, dead = 0;
		pthread_t many[4];

		make_shared(i / 10 ? PTHREAD_MUTEX_ERRORCHECK : PTHREAD_MUTEX_NORMAL,
			    protocol, PTHREAD_MUTEX_ROBUST);
		pid_t pid = start_peer(part);
		wait_ready(1);
		for (int k = 0; k < 4; k++)
			many[k] = start(expect_dead, k % 2 ? shared : NULL);
		if (i % 5 == 0 || i % 5 == 4) {
			CHECK(lock_within(&shared->mutex, 20) == ETIMEDOUT);
			kill(pid, SIGKILL);
		}
		for (int k = 0; k < 4; k++)
			dead += join(many[k]) != NULL;
		CHECK(dead == 1);
		CHECK(waitpid(pid, NULL, 0) == pid);
	}
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	    {"rules", rules},
	    {"wait-rules", wait_rules},
	    {"ceilings", ceilings},
	    {"owner-ends", owner_ends},
	    {"waiters", waiters},
	    {"contended", contended},
	    {"conditions", conditions},
	    {"handlers", handlers},
	    {"cancels", cancels},
	    {"before-threads", before_threads},
	    {"elders", elders},
	    {"shared-condition", shared_condition},
	    {"pair", pair},
	    {"process-ends", process_ends},
	};

	if (argc == 4 && strcmp(argv[1], "peer") == 0)
		return peer(argv[2], argv[3]);
	const char *dir = getenv("TMPDIR");
	snprintf(path, sizeof(path), "%s/robust-XXXXXX", dir != NULL ? dir : "/tmp");
	int fd = mkstemp(path);
	CHECK(fd >= 0 && ftruncate(fd, sizeof(struct shared)) == 0);
	share(fd);
	int r = run_case(argc, argv, cases, sizeof(cases) / sizeof(*cases));
	unlink(path);
	return r;
}
