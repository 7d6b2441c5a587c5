/* SPDX-License-Identifier: MIT */
/*
 * deadlock.h: tasks that wait for each other in a circle.
 *
 * A parked task waits for the owner of its mutex, for the writer that has its read-write
 * lock, or for the task that it joins: for one at most.  Who is parked gives nothing up; so
 * when all of a circle have not run since before the owners were read, it is a deadlock, and
 * no sight of a moment.
 */
#ifndef CLI_DEADLOCK_H
#define CLI_DEADLOCK_H

#include <stdio.h>

#include "waits.h"

/* Writes a paragraph for each circle among the tasks as the list has them.  Returns how many
 * there are. */
int deadlocks_print(const struct waits *w, FILE *to);

#endif
