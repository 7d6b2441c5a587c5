/* SPDX-License-Identifier: MIT */
/*
 * interrupt.h: SIGINT, SIGTERM and SIGHUP while a measurement runs.
 *
 * They are blocked except inside ppoll with interrupt_mask(), so that none is
 * missed between a look at the flag and the wait.
 */
#ifndef CLI_INTERRUPT_H
#define CLI_INTERRUPT_H

#include <signal.h>
#include <stdnoreturn.h>

void interrupt_catch(void);

/* In the child, before exec: as if they had never been caught. */
void interrupt_restore(void);

/* The mask to wait with. */
const sigset_t *interrupt_mask(void);

/* The signal that came, or 0. */
int interrupt_signal(void);

/* Ends as the signal would have ended us, so that our parent sees it. */
noreturn void interrupt_die(void);

#endif
