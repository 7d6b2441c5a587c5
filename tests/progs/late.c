/* SPDX-License-Identifier: MIT */
/*
 * late.c CASE: when all have been idle for long and one wakes up and computes, what others
 * wait for meanwhile comes to them nearly as soon as ever.
 */
#include <sys/wait.h>

#include "check.h"

enum {
	IDLE_MS = 3000, /* the runtime looks less and less often */
	GAP_MS = 100,
	AFTER_MS = 20,
	N_ROUNDS = 9,
	LATE_MS = 150, /* in half of the rounds; natively some on a busy machine */
	PATIENCE_MS = 5000,
};

static _Atomic long long due; /* the round's, in ms; 0: none yet, -1: it is over */
static _Atomic bool has_come;

static void sleep_until_ms(long long ms)
{
	const struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) != 0)
		;
}

/* Another process, which wakes the one at the round's begin, and perhaps the other when it is
 * due. */
static int begins[2], wake_one[2], wake_other[2];

static void wake_both(bool other)
{
	long long begin;

	close(begins[1]);
	while (read(begins[0], &begin, sizeof(begin)) == sizeof(begin)) {
		sleep_until_ms(begin);
		CHECK(write(wake_one[1], "", 1) == 1);
		sleep_until_ms(begin + AFTER_MS);
		if (other)
			CHECK(write(wake_other[1], "", 1) == 1);
	}
}

static void wait_for_byte(int fd)
{
	char byte;

	CHECK(read(fd, &byte, 1) == 1);
}

static void *wait_for_time(void *gate)
{
	for (;;) {
		pthread_barrier_wait(gate);
		if (due < 0)
			return NULL;
		sleep_until_ms(due);
		has_come = true;
	}
}

static void *wait_for_other(void *gate)
{
	for (;;) {
		pthread_barrier_wait(gate);
		if (due < 0)
			return NULL;
		wait_for_byte(wake_other[0]);
		has_come = true;
	}
}

static void rounds(void *(*wait)(void *))
{
	pthread_barrier_t gate;
	int n_late = 0;

	CHECK(pipe(begins) == 0 && pipe(wake_one) == 0 && pipe(wake_other) == 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		wake_both(wait == wait_for_other);
		_exit(0);
	}
	CHECK_OK(pthread_barrier_init(&gate, NULL, 2));
	pthread_t thread = start(wait, &gate);
	sleep_ms(IDLE_MS);
	for (int i = 0; i < N_ROUNDS; i++) {
		long long begin = now_ms() + GAP_MS;

		due = begin + AFTER_MS;
		has_come = false;
		pthread_barrier_wait(&gate);
		CHECK(write(begins[1], &begin, sizeof(begin)) == sizeof(begin));
		wait_for_byte(wake_one[0]);
		while (!has_come)
			CHECK(now_ms() < due + PATIENCE_MS);
		n_late += now_ms() - due > LATE_MS;
	}
	if (n_late > N_ROUNDS / 2)
		fprintf(stderr, "late in %d rounds of %d\n", n_late, N_ROUNDS);
	CHECK(n_late <= N_ROUNDS / 2);
	due = -1;
	pthread_barrier_wait(&gate);
	join(thread);
	close(begins[1]);
	CHECK(waitpid(pid, NULL, 0) == pid);
}

static void timers(void)
{
	rounds(wait_for_time);
}

static void descriptors(void)
{
	rounds(wait_for_other);
}

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
	    {"timers", timers},
	    {"descriptors", descriptors},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
