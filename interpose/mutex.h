/* SPDX-License-Identifier: MIT */
/*
 * mutex.h: what condition variables need of a mutex.
 */
#ifndef PGREEN_MUTEX_H
#define PGREEN_MUTEX_H

#include "wrap.h"

/* The lock word that waiters may be moved to; NULL for a mutex of the real functions. */
_Atomic uint32_t *mutex_word(pthread_mutex_t *m);

/* EPERM when m's type knows its owner and that is not t; else 0. */
int mutex_check_owner(pthread_mutex_t *m, struct task *t);

/* Gives m up whole, however deep it is locked; returns the depth.  May not park. */
unsigned mutex_leave(pthread_mutex_t *m);

/* Takes m back at that depth.  had: its word was handed to the caller; contended: others
 * may wait for it. */
void mutex_return(pthread_mutex_t *m, struct task *t, unsigned depth, bool had,
		  bool contended);

#endif
