/* SPDX-License-Identifier: MIT */
/*
 * sleep.c: sleeps: how long, until when, what interrupts them, and yielding.
 */
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <threads.h>

#include "check.h"

static void errors(void)
{
	struct timespec zero = {0}, negative = {-1, 0}, bad = {0, 1000000000}, left;

	become_threaded();
	CHECK(nanosleep(&zero, &left) == 0);
	errno = 0;
	CHECK(nanosleep(&bad, NULL) == -1 && errno == EINVAL);
	errno = 0;
	CHECK(nanosleep(&negative, &left) == -1 && errno == EINVAL);
	errno = 77;
	CHECK(clock_nanosleep(CLOCK_MONOTONIC, 0, &bad, NULL) == EINVAL);
	CHECK(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &negative, NULL) == EINVAL);
	CHECK(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &zero, NULL) == EINVAL);
	CHECK(clock_nanosleep(77, 0, &zero, NULL) == EINVAL);
	CHECK(clock_nanosleep(CLOCK_MONOTONIC_RAW, 0, &zero, NULL) == EOPNOTSUPP);
	CHECK(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &zero, NULL) == 0);
	CHECK(clock_nanosleep(CLOCK_TAI, 0, &zero, NULL) == 0);
	CHECK(errno == 77);
	CHECK(sleep(0) == 0 && usleep(0) == 0);
	CHECK(thrd_sleep(&zero, NULL) == 0);
	CHECK(thrd_sleep(&bad, NULL) < -1);
}

#define TAKES(ms, call)                                      \
	do {                                                 \
		long long begun = now_ms();                  \
		CHECK((call) == 0);                          \
		long long took = now_ms() - begun;           \
		CHECK(took >= (ms)-1 && took < (ms) + 3000); \
	} while (0)

static void *all_kinds(void *arg)
{
	const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME,
				    CLOCK_TAI};
	struct timespec ts = {0, 30000000};

	TAKES(30, nanosleep(&ts, NULL));
	TAKES(30, usleep(30000));
	TAKES(30, thrd_sleep(&ts, NULL));
	TAKES(1000, sleep(1));
	for (int i = 0; i < 4; i++) {
		struct timespec at = in_ms(clocks[i], 30);

		TAKES(30, clock_nanosleep(clocks[i], 0, &ts, NULL));
		at = in_ms(clocks[i], 30);
		TAKES(30, clock_nanosleep(clocks[i], TIMER_ABSTIME, &at, NULL));
		CHECK(clock_nanosleep(clocks[i], TIMER_ABSTIME, &at, NULL) == 0);
	}
	TAKES(30, syscall(SYS_nanosleep, &ts, NULL));
	TAKES(30, syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &ts, NULL));
	return arg;
}

/* All at the same time: nobody waits for another's sleep. */
static void lengths(void)
{
	pthread_t threads[200];
	long long begun = now_ms();

	for (int i = 0; i < 200; i++)
		threads[i] = start(all_kinds, NULL);
	for (int i = 0; i < 200; i++)
		join(threads[i]);
	CHECK(now_ms() - begun < 10000);
}

/* --- what interrupts ------------------------------------------------------------------------ */

static _Atomic int n_handled;
static _Atomic bool asleep;

static void handler(int sig)
{
	(void)sig;
	n_handled++;
}

static void *interrupted_kind(void *arg)
{
	struct timespec ts = {30, 0}, left = {0}, at = in_ms(CLOCK_MONOTONIC, 30000);
	intptr_t kind = (intptr_t)arg;

	asleep = true;
	errno = 0;
	switch (kind) {
	case 0:
		CHECK(nanosleep(&ts, &left) == -1 && errno == EINTR);
		break;
	case 1:
		CHECK(clock_nanosleep(CLOCK_REALTIME, 0, &ts, &left) == EINTR);
		break;
	case 2:
		left.tv_sec = 28;
		CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, &left) ==
		      EINTR);
		CHECK(left.tv_sec == 28 && left.tv_nsec == 0);
		break;
	case 3:
		left.tv_sec = sleep(30);
		break;
	case 4:
		CHECK(usleep(30000000) == -1 && errno == EINTR);
		left.tv_sec = 28;
		break;
	case 5:
		CHECK(thrd_sleep(&ts, &left) == -1);
		break;
	case 6:
		CHECK(clock_nanosleep(CLOCK_TAI, 0, &ts, &left) == EINTR);
		break;
	default:
		CHECK(syscall(SYS_nanosleep, &ts, &left) == -1 && errno == EINTR);
	}
	CHECK(left.tv_sec >= 15 && left.tv_sec < 30 && left.tv_nsec < 1000000000);
	asleep = false;
	return NULL;
}

static void interrupted(void)
{
	for (int restart = 0; restart < 2; restart++) {
		struct sigaction act = {.sa_handler = handler,
					.sa_flags = restart ? SA_RESTART : 0};

		CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
		for (intptr_t kind = 0; kind < 8; kind++) {
			asleep = false;
			pthread_t thread = start(interrupted_kind, (void *)kind);

			while (!asleep)
				sched_yield();
			sleep_ms(20);
			while (asleep) {
				CHECK_OK(pthread_kill(thread, SIGUSR1));
				sleep_ms(10);
			}
			join(thread);
		}
	}
}

static void *sleep_long(void *arg)
{
	struct timespec ts = {30, 0};

	asleep = true;
	switch ((intptr_t)arg) {
	case 0:
		nanosleep(&ts, NULL);
		break;
	case 1:
		sleep(30);
		break;
	case 2:
		usleep(30000000);
		break;
	default:
		clock_nanosleep(CLOCK_TAI, 0, &ts, NULL);
	}
	return NULL;
}

static void cancelled(void)
{
	long long begun = now_ms();

	for (intptr_t kind = 0; kind < 4; kind++) {
		asleep = false;
		pthread_t thread = start(sleep_long, (void *)kind);

		while (!asleep)
			sched_yield();
		sleep_ms(20);
		CHECK_OK(pthread_cancel(thread));
		CHECK(join(thread) == PTHREAD_CANCELED);
	}
	CHECK(now_ms() - begun < 10000);
}

/* --- yielding -------------------------------------------------------------------------------- */

static _Atomic int turn;

static void *take_turns(void *arg)
{
	int self = (int)(intptr_t)arg;

	for (int i = 0; i < 1000; i++) {
		while (turn != self)
			if (self == 0)
				sched_yield();
			else if (self == 1)
				thrd_yield();
			else
				syscall(SYS_sched_yield);
		turn = (self + 1) % 3;
	}
	return NULL;
}

static void yields(void)
{
	pthread_t threads[3];

	CHECK(sched_yield() == 0);
	for (intptr_t i = 0; i < 3; i++)
		threads[i] = start(take_turns, (void *)i);
	for (int i = 0; i < 3; i++)
		join(threads[i]);
	CHECK(sched_yield() == 0);
}

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
	    {"errors", errors},       {"lengths", lengths}, {"interrupted", interrupted},
	    {"cancelled", cancelled}, {"yields", yields},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
