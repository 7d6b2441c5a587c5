/* SPDX-License-Identifier: MIT */
/*
 * libc-threads.c CASE: threads that libc makes for itself, for timers and the like.  They keep
 * the process alive when all of the program's have ended, and may be the first to create one.
 */
#include <aio.h>
#include <fcntl.h>
#include <semaphore.h>
#include <signal.h>

#include "check.h"

enum { TICK_MS = 30, TICKS = 3, STATUS = 7 };

static _Atomic int n_ticks;
static _Atomic bool has_threads;

static void tick(union sigval value)
{
	(void)value;
	if (has_threads)
		CHECK(in_thread(do_nothing, (void *)5) == (void *)5);
	if (++n_ticks == TICKS)
		exit(STATUS);
}

static void start_ticking(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD,
				 .sigev_notify_function = tick};
	const struct timespec every = {.tv_nsec = TICK_MS * 1000000};
	const struct itimerspec spec = {every, every};
	timer_t timer;

	CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
	CHECK(timer_settime(timer, 0, &spec, NULL) == 0);
}

static void timer(void)
{
	become_threaded();
	start_ticking();
	pthread_exit(NULL);
}

static void *start_ticking_later(void *arg)
{
	sleep_ms(20);
	start_ticking();
	return arg;
}

/* The last thread is another, and there are more meanwhile. */
static void timer_with_threads(void)
{
	has_threads = true;
	pthread_detach(start(start_ticking_later, NULL));
	pthread_exit(NULL);
}

/* After main was alone for long. */
static void timer_at_rest(void)
{
	become_threaded();
	sleep_ms(500);
	has_threads = true;
	timer();
}

static void *child_ends(void *arg)
{
	int status;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		/* libc's thread is the parent's alone. */
		if (arg != NULL)
			in_thread(do_nothing, NULL);
		pthread_exit(NULL);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	return NULL;
}

static void children(void)
{
	n_ticks = TICKS; /* it ticks, and ends nothing */
	start_ticking();
	child_ends(NULL);
	in_thread(child_ends, NULL);
	in_thread(child_ends, "with threads");
	child_ends("with threads");
	exit(STATUS);
}

/* The last of libc's own threads ends the process. */
static int fds[2];

static void tell_late(union sigval value)
{
	(void)value;
	sleep_ms(100);
	CHECK(write(fds[1], "", 1) == 1);
}

static void request(void)
{
	static struct aiocb request;

	request = (struct aiocb){.aio_fildes = open("/dev/null", O_WRONLY),
				 .aio_buf = "",
				 .aio_nbytes = 1,
				 .aio_sigevent = {.sigev_notify = SIGEV_THREAD,
						  .sigev_notify_function = tell_late}};
	become_threaded();
	CHECK(aio_write(&request) == 0);
	pthread_exit(NULL);
}

static void last_one(void)
{
	char byte;
	int status;

	CHECK(pipe(fds) == 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		request();
	close(fds[1]);
	CHECK(read(fds[0], &byte, 1) == 1);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	exit(STATUS);
}

/* It creates the process's first thread, and is not main. */
static pthread_mutex_t mains = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static sem_t created;

static void create(union sigval value)
{
	(void)value;
	CHECK(in_thread(do_nothing, (void *)5) == (void *)5);
	CHECK(gettid() != getpid());
	CHECK(pthread_mutex_trylock(&mains) == EBUSY);
	CHECK(sem_post(&created) == 0);
}

static void first_one(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD,
				 .sigev_notify_function = create};
	const struct itimerspec spec = {.it_value.tv_nsec = 1};
	timer_t timer;

	CHECK(sem_init(&created, 0, 0) == 0);
	CHECK_OK(pthread_mutex_lock(&mains));
	CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
	CHECK(timer_settime(timer, 0, &spec, NULL) == 0);
	while (sem_wait(&created) != 0)
		;
	CHECK(gettid() == getpid());
	become_threaded();
	CHECK_OK(pthread_mutex_unlock(&mains));
	CHECK(gettid() == getpid());
	exit(STATUS);
}

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
	    {"timer", timer},
	    {"timer-with-threads", timer_with_threads},
	    {"timer-at-rest", timer_at_rest},
	    {"children", children},
	    {"last-one", last_one},
	    {"first-one", first_one},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
