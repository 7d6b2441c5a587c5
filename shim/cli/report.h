/* SPDX-License-Identifier: MIT */
/* report.h: medians of both sides, as a table for people and as JSON for programs. */
#ifndef CLI_REPORT_H
#define CLI_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include "launch.h"
#include "measure.h"

enum { NATIVE, GREEN };
enum { MAX_RUNS = 1000 };

struct comparison {
	const struct subject *subject;
	const struct launch *launch;
	int n_runs;
	struct run *run[2]; /* [NATIVE] and [GREEN], n_runs each */
};

/* Whether all runs of both sides agree. */
struct agreement {
	bool status;
	bool output[2];
};

struct agreement report_agreement(const struct comparison *c);
void report_table(const struct comparison *c, FILE *to);

/* @path may be "-".  0 or -1. */
int report_json(const struct comparison *c, const char *path);

#endif
