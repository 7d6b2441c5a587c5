/* SPDX-License-Identifier: MIT */
/*
 * config.h: what the environment and the machine say, read when the runtime wakes.
 */
#ifndef PGREEN_CONFIG_H
#define PGREEN_CONFIG_H

#include <stddef.h>

/* How many CPUs the process may use. */
int config_cpus(void);

/* Number of processors: GOMAXPROCS, else the smaller of the affinity mask and the cgroup's
 * quota, rounded up and at least 2 if the mask has 2, as Go 1.25 does. */
int config_gomaxprocs(void);

/* Overrides it from now on. */
void config_set_gomaxprocs(int n);

/* PGREEN_STACK in bytes, or 0: default stack size of tasks. */
size_t config_stack_size(void);

/* PGREEN_NATIVE, or an empty string. */
const char *config_native(void);

/* PGREEN_SHAKE: bits of enum shake, for tests. */
enum shake {
	SHAKE_PREEMPT = 1,  /* preempt at every chance */
	SHAKE_HAND_OFF = 2, /* hand processors off at every chance */
	SHAKE_IO = 4,       /* tries of door 2 fail, or move less than they could */
	SHAKE_REST = 8,     /* the runtime goes to sleep as soon as main is alone */
};
int config_shake(void);

/* Remembers the environment: from the library's constructor, before main can change it. */
void config_read(char **envp);

#endif
