/* SPDX-License-Identifier: MIT */
/*
 * mutex.h: what condition variables need of a mutex.
 */
#ifndef PGREEN_MUTEX_H
#define PGREEN_MUTEX_H

#include "wrap.h"

/* The lock word that waiters may be moved to; NULL for a mutex that is no plain word. */
_Atomic uint32_t *mutex_word(pthread_mutex_t *m);

/* EPERM when m's kind knows its owner and that is not t; else 0. */
int mutex_check_owner(pthread_mutex_t *m, struct task *t);

/* Gives m up whole, however deep it is locked; returns the depth.  May not park. */
unsigned mutex_leave(pthread_mutex_t *m, struct task *t);

/* Takes m back at that depth.  had: its word was handed to the caller; contended: others
 * may wait for it.  0, or what a robust mutex has to say. */
int mutex_return(pthread_mutex_t *m, struct task *t, unsigned depth, bool had,
		 bool contended);

/* Around the real functions for m: see mutex.c. */
void mutex_begin_real(pthread_mutex_t *m, struct task *t);
void mutex_end_real(struct task *t);

/* Marks the robust mutexes that the calling task holds: it ends. */
void mutex_task_ends(struct task *t);

#endif
