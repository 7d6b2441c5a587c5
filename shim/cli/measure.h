/* SPDX-License-Identifier: MIT */
/* measure.h: runs a program once and says what it cost and what it wrote. */
#ifndef CLI_MEASURE_H
#define CLI_MEASURE_H

#include <stdbool.h>
#include <stdint.h>
#include <xxhash.h>

#include "launch.h"
#include "progress.h"

enum metric {
	PEAK_THREADS,
	THREADS_CREATED,
	PEAK_RSS, /* bytes */
	VOLUNTARY,
	INVOLUNTARY,
	USER_TIME, /* seconds, as the two that follow */
	SYSTEM_TIME,
	WALL_TIME,
	N_METRICS,
};

/* What a program wrote to one of its streams: not kept, only hashed. */
struct output {
	uint64_t size;
	XXH128_hash_t hash;
};

struct run {
	double metric[N_METRICS]; /* NAN: unknown */
	int wait_status;
	struct output output[2]; /* stdout, stderr */
};

struct subject {
	const char *path;
	char **argv;
	int stdin_fd; /* rewound by the caller before each run */
};

/*
 * Runs @s and waits for it.  0; or -EINTR after a signal to stop, when the
 * program has been stopped too; or another -errno.
 */
int measure_run(struct run *run, const struct subject *s, const struct launch *l,
		bool green, struct progress *progress);

bool output_equal(const struct output *a, const struct output *b);

#endif
