/* SPDX-License-Identifier: MIT */
/*
 * late-fork.c: a thread forks while another one is in exit(), late, when the libraries that
 * the program did not ask for have ended already; the child has threads.
 *
 * With -DLIBRARY it is the library whose destructor waits for that.
 */
#include "check.h"

#ifdef LIBRARY

void (*at_end)(void);

__attribute__((destructor)) static void end(void)
{
	at_end();
}

#else

/* Weak: it is built without the library, too. */
extern void (*at_end)(void) __attribute__((weak));

static _Atomic bool is_late, is_done;

static void *fork_late(void *arg)
{
	int status;

	while (!is_late)
		sleep_ms(1);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		alarm(20);
		for (int i = 0; i < 20; i++) {
			become_threaded();
			sleep_ms(2);
		}
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	is_done = true;
	return arg;
}

static void wait_for_fork(void)
{
	is_late = true;
	while (!is_done)
		sleep_ms(1);
}

int main(void)
{
	CHECK(&at_end != NULL);
	at_end = wait_for_fork;
	start(fork_late, NULL);
	exit(0);
}

#endif
