/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pids.h"
#include "say.h"

struct pair {
	pid_t inside, outside;
};

static struct {
	pid_t process; /* 0: not looked yet */
	bool is_nested;
	struct pair *pair; /* by inside */
	size_t n;
} pids;

/* The innermost number of those that /proc/PID/task/TID/status lists; *depth says how many. */
static pid_t innermost(pid_t process, const char *tid, int *depth)
{
	char path[64], line[256];
	pid_t last = 0;

	*depth = 0;
	snprintf(path, sizeof(path), "/proc/%d/task/%.16s/status", process, tid);
	FILE *status = fopen(path, "re");

	if (!status)
		return 0;
	while (fgets(line, sizeof(line), status)) {
		if (strncmp(line, "NSpid:", 6) != 0)
			continue;
		char *at = line + 6, *end;

		for (long n = strtol(at, &end, 10); end != at; n = strtol(at, &end, 10)) {
			last = (pid_t)n;
			at = end;
			++*depth;
		}
		break;
	}
	fclose(status);
	return last;
}

static int by_inside(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;

	return (x->inside > y->inside) - (x->inside < y->inside);
}

static void read_pairs(pid_t process)
{
	char path[64];
	struct dirent *entry;
	int depth;

	snprintf(path, sizeof(path), "/proc/%d/task", process);
	DIR *task = opendir(path);

	pids.n = 0;
	while (task && (entry = readdir(task))) {
		struct pair p = {.outside = atoi(entry->d_name)};

		if (p.outside <= 0)
			continue;
		p.inside = innermost(process, entry->d_name, &depth);
		pids.pair = realloc(pids.pair, (pids.n + 1) * sizeof(p));
		if (!pids.pair)
			refuse(STATUS_REFUSED, "out of memory");
		pids.pair[pids.n++] = p;
	}
	if (task)
		closedir(task);
	if (pids.n)
		qsort(pids.pair, pids.n, sizeof(struct pair), by_inside);
}

static pid_t find(pid_t inside)
{
	const struct pair key = {.inside = inside};
	const struct pair *found =
	    pids.n ? bsearch(&key, pids.pair, pids.n, sizeof(key), by_inside) : NULL;

	return found ? found->outside : 0;
}

pid_t pid_from_inside(pid_t process, pid_t inside)
{
	if (pids.process != process) {
		char own[16];
		int depth;

		snprintf(own, sizeof(own), "%d", process);
		innermost(process, own, &depth);
		pids.process = process;
		pids.is_nested = depth > 1;
		if (pids.is_nested)
			read_pairs(process);
	}
	if (!pids.is_nested || inside == 0)
		return inside;
	/* It may be younger than our list. */
	if (find(inside) == 0)
		read_pairs(process);
	return find(inside);
}
