/* SPDX-License-Identifier: MIT */
/*
 * sem.c: semaphores: errors, times, tokens, signals, cancellation, destruction.
 */
#include <fcntl.h>
#include <limits.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "check.h"

static sem_t sem;

static int value(void)
{
	int n = -1;

	CHECK(sem_getvalue(&sem, &n) == 0);
	return n;
}

static int wait_until(clockid_t clock, const struct timespec *ts)
{
	return clock < 0 ? sem_timedwait(&sem, ts) : sem_clockwait(&sem, clock, ts);
}

static void errors(void)
{
	struct timespec bad = {0, 1000000000}, past = {1, 0}, before = {-1, 0};

	FAILS(sem_init(&sem, 0, (unsigned)SEM_VALUE_MAX + 1), EINVAL);
	CHECK(sem_init(&sem, 0, 2) == 0);
	CHECK(sem_wait(&sem) == 0); /* before there are threads */
	become_threaded();
	CHECK(value() == 1);
	CHECK(sem_trywait(&sem) == 0);
	FAILS(sem_trywait(&sem), EAGAIN);
	CHECK(value() == 0);
	for (int clock = -1; clock <= CLOCK_MONOTONIC; clock++) {
		FAILS(wait_until(clock, &bad), EINVAL);
		FAILS(wait_until(clock, &past), ETIMEDOUT);
		FAILS(wait_until(clock, &before), ETIMEDOUT);
		struct timespec ts = in_ms(clock < 0 ? CLOCK_REALTIME : clock, 50);
		long long begun = now_ms();
		FAILS(wait_until(clock, &ts), ETIMEDOUT);
		long long took = now_ms() - begun;
		CHECK(took >= 49 && took < 5000);
		CHECK(sem_post(&sem) == 0);
		CHECK(wait_until(clock, &past) == 0);
	}
	FAILS(sem_clockwait(&sem, CLOCK_PROCESS_CPUTIME_ID, &past), EINVAL);
	CHECK(sem_destroy(&sem) == 0);
	CHECK(sem_init(&sem, 0, SEM_VALUE_MAX) == 0);
	FAILS(sem_post(&sem), EOVERFLOW);
	CHECK(sem_wait(&sem) == 0 && value() == SEM_VALUE_MAX - 1);
}

enum { N_THREADS = 16, N_ROUNDS = 5000 };
static _Atomic int n_inside;

static void *enter(void *arg)
{
	for (int i = 0; i < N_ROUNDS; i++) {
		struct timespec ts = in_ms(CLOCK_MONOTONIC, 60000);

		CHECK((i % 2 ? sem_wait(&sem)
			     : sem_clockwait(&sem, CLOCK_MONOTONIC, &ts)) == 0);
		CHECK(++n_inside <= 3);
		if (i % 64 == 0)
			sched_yield();
		n_inside--;
		CHECK(sem_post(&sem) == 0);
	}
	return arg;
}

/* Never more inside than there are tokens, and none is lost. */
static void tokens_of(int pshared)
{
	pthread_t threads[N_THREADS];

	CHECK(sem_init(&sem, pshared, 3) == 0);
	for (int i = 0; i < N_THREADS; i++)
		threads[i] = start(enter, NULL);
	for (int i = 0; i < N_THREADS; i++)
		join(threads[i]);
	CHECK(value() == 3);
	CHECK(sem_destroy(&sem) == 0);
}

static void tokens(void)
{
	tokens_of(0);
}

static void process_shared(void)
{
	sem_t *s =
	    mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct timespec ts = in_ms(CLOCK_REALTIME, 30);
	int status;

	tokens_of(1);
	CHECK(s != MAP_FAILED && sem_init(s, 1, 0) == 0 && sem_init(s + 1, 1, 0) == 0);
	FAILS(sem_timedwait(s, &ts), ETIMEDOUT);
	ts = in_ms(CLOCK_MONOTONIC, 30);
	FAILS(sem_clockwait(s, CLOCK_MONOTONIC, &ts), ETIMEDOUT);
	FAILS(sem_clockwait(s, CLOCK_MONOTONIC, &(struct timespec){-1, 0}), ETIMEDOUT);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		for (int i = 0; i < 100; i++) {
			CHECK(sem_post(s) == 0);
			CHECK(sem_wait(s + 1) == 0);
		}
		_exit(0);
	}
	for (int i = 0; i < 100; i++) {
		CHECK(sem_wait(s) == 0);
		CHECK(sem_post(s + 1) == 0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void named(void)
{
	char name[64];

	snprintf(name, sizeof(name), "/pgreen-test-%d", (int)getpid());
	become_threaded();
	sem_t *s = sem_open(name, O_CREAT | O_EXCL, 0600, 1);
	CHECK(s != SEM_FAILED);
	CHECK(sem_unlink(name) == 0);
	CHECK(sem_wait(s) == 0);
	FAILS(sem_trywait(s), EAGAIN);
	CHECK(sem_post(s) == 0);
	CHECK(sem_close(s) == 0);
}

/* --- signals ----------------------------------------------------------------------------- */

static _Atomic int n_handled, n_done;

static void count(int sig)
{
	(void)sig;
	n_handled++;
}

static void post(int sig)
{
	int e = errno;

	(void)sig;
	CHECK(sem_post(&sem) == 0);
	n_handled++;
	errno = e;
}

static void handle(void (*handler)(int), int flags)
{
	struct sigaction act = {.sa_handler = handler, .sa_flags = flags};

	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	n_handled = n_done = 0;
}

static void *wait_once(void *arg)
{
	struct timespec ts = in_ms(CLOCK_REALTIME, 60000);
	int r = arg == NULL ? sem_wait(&sem) : sem_timedwait(&sem, &ts);

	r = r == 0 ? 0 : errno;
	n_done++;
	return (void *)(long)r;
}

/* Signals the waiter until it returns, at most n times. */
static long signalled(void *timed, int n)
{
	pthread_t thread = start(wait_once, timed);

	for (int i = 0; i < n && n_done == 0; i++) {
		int before = n_handled;

		sleep_ms(20);
		if (n_done != 0)
			break;
		CHECK_OK(pthread_kill(thread, SIGUSR1));
		for (int ms = 0; n_handled == before && ms < 5000; ms++)
			sleep_ms(1);
	}
	if (n_done == 0 && n == 3) {
		sleep_ms(20);
		CHECK(n_done == 0); /* it waits on */
		CHECK(sem_post(&sem) == 0);
	}
	return (long)join(thread);
}

static void interrupted(void)
{
	CHECK(sem_init(&sem, 0, 0) == 0);
	handle(count, 0);
	CHECK(signalled(NULL, 100) == EINTR);
	handle(count, 0);
	CHECK(signalled(&sem, 100) == EINTR);
	handle(count, SA_RESTART);
	CHECK(signalled(NULL, 3) == 0);
	handle(count, SA_RESTART);
	CHECK(signalled(&sem, 100) == EINTR); /* as the kernel has it */
	CHECK(value() == 0);
}

static void posted_by_handler(void)
{
	CHECK(sem_init(&sem, 0, 0) == 0);
	handle(post, SA_RESTART);
	for (int i = 0; i < 20; i++) {
		n_done = 0;
		CHECK(signalled(NULL, 1) == 0);
	}
	CHECK(value() == 0);
}

/* --- cancellation -------------------------------------------------------------------------- */

static void *wait_shared(void *arg)
{
	sem_wait((sem_t *)arg);
	return NULL;
}

static void *cancelled_before(void *arg)
{
	CHECK_OK(pthread_cancel(pthread_self()));
	sem_wait((sem_t *)arg); /* a token is there, and stays */
	return NULL;
}

static void cancelled(void)
{
	for (int pshared = 0; pshared < 2; pshared++) {
		CHECK(sem_init(&sem, pshared, 0) == 0);
		pthread_t thread = start(wait_shared, &sem);
		sleep_ms(20);
		CHECK_OK(pthread_cancel(thread));
		CHECK(join(thread) == PTHREAD_CANCELED);
		CHECK(sem_post(&sem) == 0);
		CHECK(in_thread(cancelled_before, &sem) == PTHREAD_CANCELED);
		CHECK(value() == 1 && sem_trywait(&sem) == 0);
	}
}

/* --- its memory ------------------------------------------------------------------------------- */

static void *post_one(void *arg)
{
	CHECK(sem_post((sem_t *)arg) == 0);
	return NULL;
}

/* Who got the token may destroy the semaphore while sem_post is on its way out. */
static void destroyed_at_once(void)
{
	for (int i = 0; i < 3000; i++) {
		sem_t *s = malloc(sizeof(*s));

		CHECK(sem_init(s, 0, 0) == 0);
		pthread_t thread = start(post_one, s);
		CHECK(sem_wait(s) == 0);
		CHECK(sem_destroy(s) == 0);
		memset(s, 0xff, sizeof(*s));
		free(s);
		join(thread);
	}
}

/* --- who waits since before there were threads ------------------------------------------------ */

static void *wait_and_count(void *arg)
{
	CHECK(sem_wait(&sem) == 0);
	n_done++;
	return arg;
}

static void elders(void)
{
	CHECK(sem_init(&sem, 0, 0) == 0);
	start_elder(wait_and_count, NULL);
	start_elder(wait_and_count, NULL);
	pthread_t thread = start_waiting(wait_and_count, NULL);
	for (int i = 1; i <= 3; i++) {
		CHECK(sem_post(&sem) == 0);
		until_counted(&n_done, i);
	}
	join(thread);
	CHECK(value() == 0);
}

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
	    {"errors", errors},
	    {"tokens", tokens},
	    {"process-shared", process_shared},
	    {"named", named},
	    {"interrupted", interrupted},
	    {"posted-by-handler", posted_by_handler},
	    {"cancelled", cancelled},
	    {"destroyed-at-once", destroyed_at_once},
	    {"elders", elders},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
