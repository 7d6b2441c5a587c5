/* SPDX-License-Identifier: MIT */
/*
 * schedule.h: what other files of interpose/ need of scheduling.
 */
#ifndef PGREEN_SCHEDULE_H
#define PGREEN_SCHEDULE_H

#include "wrap.h"

/* For host: t does what its wish says. */
void sched_asked(struct task *t);

/* What the attributes of a new task want that its creator does not have: bits of enum
 * wish_kind, and w is filled in. */
uint32_t sched_read_attr(const pthread_attr_t *attr, struct wish *w);

/* A new task takes what its attributes want: 0 or an errno. */
int sched_fulfil(struct task *t, const struct wish *w);

/* In the child of a fork. */
void sched_fork_child(void);

/* Binds t, from any task. */
void sched_bind(struct task *t);

/* For pthread_getattr_np(). */
void sched_tell(struct task *t, pthread_attr_t *attr);

/* The task of a thread's CPU clock, and -1 less for no task's: NULL for other clocks. */
struct task *cpu_clock_task(struct task *self, clockid_t clock);

/* The system calls of this file by number.  False: nr is none of them. */
bool sched_call(struct task *t, long nr, const long a[6], long *result);

#endif
