/* SPDX-License-Identifier: MIT */
/* progress.h: on a terminal one line that changes, otherwise a line for each run that ended. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	bool on_terminal;
	char label[32];    /* "green 2/3" */
	double shown_at_s; /* since the run's start; when the line was last drawn */
};

void progress_init(struct progress *p);
void progress_start(struct progress *p, const char *side, int run, int n_runs);

/* May be called often: draws ten times a second at most. */
void progress_tick(struct progress *p, double elapsed_s, long n_threads,
		   uint64_t n_bytes);

void progress_end(struct progress *p, double elapsed_s, long n_threads);

/* Wipes the line, so that something else can be printed. */
void progress_clear(struct progress *p);

#endif
