/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <unistd.h>

#include "interrupt.h"

static const int caught[] = {SIGINT, SIGTERM, SIGHUP};
enum { N_CAUGHT = sizeof(caught) / sizeof(caught[0]) };

static volatile sig_atomic_t arrived;
static sigset_t original_mask;
static struct sigaction original[N_CAUGHT];

static void note(int signal)
{
	arrived = signal;
}

void interrupt_catch(void)
{
	struct sigaction action = {.sa_handler = note};
	sigset_t blocked;

	sigemptyset(&blocked);
	for (int i = 0; i < N_CAUGHT; i++) {
		sigaction(caught[i], NULL, &original[i]);
		if (original[i].sa_handler == SIG_IGN)
			continue; /* nohup means it */
		sigaction(caught[i], &action, NULL);
		sigaddset(&blocked, caught[i]);
	}
	sigprocmask(SIG_BLOCK, &blocked, &original_mask);
}

void interrupt_restore(void)
{
	for (int i = 0; i < N_CAUGHT; i++)
		sigaction(caught[i], &original[i], NULL);
	sigprocmask(SIG_SETMASK, &original_mask, NULL);
}

const sigset_t *interrupt_mask(void)
{
	return &original_mask;
}

int interrupt_signal(void)
{
	return arrived;
}

noreturn void interrupt_die(void)
{
	int signal = arrived;

	interrupt_restore();
	raise(signal);
	_exit(128 + signal);
}
