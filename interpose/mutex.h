/* SPDX-License-Identifier: MIT */
/*
 * mutex.h: what condition variables need of a mutex.
 */
#ifndef PGREEN_MUTEX_H
#define PGREEN_MUTEX_H

#include "wrap.h"

/* The lock word that waiters may be moved to; NULL for a mutex that is no plain word, and for
 * one that the caller, who is about to wait, holds on to. */
_Atomic uint32_t *mutex_word(pthread_mutex_t *m);

/* Whether m's words mean to libc what they mean to us: it may handle m while tasks use it. */
bool mutex_suits_libc(const pthread_mutex_t *m);

/* EPERM when m's kind knows its owner and that is not t; else 0. */
int mutex_check_owner(pthread_mutex_t *m, struct task *t);

/* Where the owner of m is a kernel thread, t gets its own. */
void mutex_bind(pthread_mutex_t *m, struct task *t);

/* Unlocks m once, as libc's does for a wait: a recursive one may stay locked.  Inside the runtime,
 * by t, who owns m and whom mutex_bind() has bound. */
void mutex_leave(pthread_mutex_t *m, struct task *t);

/* Locks m again.  had: its word was handed to the caller; contended: others may wait for it.
 * 0, or what a robust mutex has to say. */
int mutex_return(pthread_mutex_t *m, struct task *t, bool had, bool contended);

/* Around the real functions for m: see mutex.c. */
void mutex_begin_real(pthread_mutex_t *m, struct task *t);
void mutex_end_real(struct task *t);

/* Marks the robust mutexes that the calling task holds: it ends. */
void mutex_task_ends(struct task *t);

#endif
