/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <unistd.h>

#include "progress.h"

void progress_init(struct progress *p)
{
	*p = (struct progress){.on_terminal = isatty(STDERR_FILENO)};
}

void progress_start(struct progress *p, const char *side, int run, int n_runs)
{
	snprintf(p->label, sizeof(p->label), "%s %d/%d", side, run, n_runs);
	p->shown_at_s = 0;
}

void progress_tick(struct progress *p, double elapsed_s, long n_threads, uint64_t n_bytes)
{
	if (!p->on_terminal || elapsed_s < p->shown_at_s + 0.1)
		return;
	p->shown_at_s = elapsed_s;
	fprintf(stderr, "\r\033[K%s  %.1f s  %ld threads  %.1f MiB out", p->label,
		elapsed_s, n_threads, (double)n_bytes / (1 << 20));
}

void progress_end(struct progress *p, double elapsed_s, long n_threads)
{
	if (!p->on_terminal)
		fprintf(stderr, "pgreen: %s: %.2f s, at most %ld threads\n", p->label,
			elapsed_s, n_threads);
}

void progress_clear(struct progress *p)
{
	if (p->on_terminal)
		fputs("\r\033[K", stderr);
}
