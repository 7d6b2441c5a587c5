/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launch.h"
#include "program.h"
#include "say.h"
#include "usage.h"

static const char LIBRARY_NAME[] = "libpgreen.so";

static int try_library(struct launch *l, const char *path)
{
	if (!realpath(path, l->library))
		return -errno;
	return access(l->library, R_OK) < 0 ? -errno : 0;
}

int launch_find_library(struct launch *l)
{
	const char *chosen = getenv("PGREEN_LIB");
	char exe[PATH_MAX - 64], path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (chosen && *chosen)
		return try_library(l, chosen);
	if (n < 0)
		return -errno;
	exe[n] = 0;
	*strrchr(exe, '/') = 0;
	snprintf(path, sizeof(path), "%s/%s", exe, LIBRARY_NAME); /* a build directory */
	if (try_library(l, path) == 0)
		return 0;
	snprintf(path, sizeof(path), "%s/../lib/pgreen/%s", exe, LIBRARY_NAME);
	return try_library(l, path);
}

void launch_require_library(struct launch *l)
{
	const char *chosen = getenv("PGREEN_LIB");
	int r = launch_find_library(l);

	if (r < 0 && chosen && *chosen)
		refuse(STATUS_REFUSED, "PGREEN_LIB is '%s': %s", chosen, strerror(-r));
	if (r < 0)
		refuse(STATUS_REFUSED, "%s is neither beside pgreen nor in ../lib/pgreen",
		       LIBRARY_NAME);
	/* ld.so splits LD_PRELOAD at both, expands $ORIGIN, and has no quoting */
	if (strpbrk(l->library, " :$"))
		refuse(
		    STATUS_REFUSED,
		    "LD_PRELOAD cannot hold a path with a space, a colon or a dollar: %s",
		    l->library);
}

void launch_set_procs(struct launch *l, const char *argument)
{
	char *end;
	long n = strtol(argument, &end, 10);

	if (end == argument || *end || n < 1 || n > INT_MAX)
		refuse(STATUS_REFUSED, "-p wants a number of processors, not '%s'",
		       argument);
	l->procs = argument;
}

/* Bytes with K, M or G; 0 when it is none of that. */
static unsigned long long parse_size(const char *text)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 10);
	const char *units = "kKmMgG", *unit = *end ? strchr(units, *end) : NULL;
	int shift = unit ? 10 * (1 + (int)(unit - units) / 2) : 0;

	if (end == text || *text == '-' || (*end && (!unit || end[1])) ||
	    n > ULLONG_MAX >> (shift + 16))
		return 0;
	return n << shift;
}

void launch_set_stack(struct launch *l, const char *argument)
{
	static char bytes[32];
	unsigned long long n = parse_size(argument);

	if (n == 0)
		refuse(STATUS_REFUSED,
		       "--stack wants a size such as 65536, 256K or 1M, not '%s'",
		       argument);
	snprintf(bytes, sizeof(bytes), "%llu", n);
	l->stack = bytes;
}

/* What LD_PRELOAD holds beside our library: @list, at least as long as LD_PRELOAD. */
static void list_others(const struct launch *l, const char *preload, char *list)
{
	size_t own = strlen(l->library), n = 0;

	while (*preload) {
		size_t length = strcspn(preload, ": ");

		if (length && !(length == own && memcmp(preload, l->library, own) == 0)) {
			if (n)
				list[n++] = ':';
			memcpy(list + n, preload, length);
			n += length;
		}
		preload += length;
		preload += strspn(preload, ": ");
	}
	list[n] = 0;
}

static void set_preload(const struct launch *l, const char *first)
{
	const char *preload = getenv("LD_PRELOAD") ?: "";
	size_t size = strlen(preload) + strlen(first) + 2;
	char *others = calloc(2, size), *list = others ? others + size : NULL;

	if (!others)
		refuse(STATUS_REFUSED, "out of memory");
	list_others(l, preload, others);
	snprintf(list, size, "%s%s%s", first, *first && *others ? ":" : "", others);
	if (*list)
		setenv("LD_PRELOAD", list, 1);
	else
		unsetenv("LD_PRELOAD");
	free(others);
}

void launch_make_green(const struct launch *l)
{
	set_preload(l, l->library);
	if (l->procs)
		setenv("GOMAXPROCS", l->procs, 1);
	if (l->stack)
		setenv("PGREEN_STACK", l->stack, 1);
}

void launch_make_native(const struct launch *l)
{
	set_preload(l, "");
}

int launch_exec(const char *path, char **argv)
{
	execv(path, argv);
	int error = errno;

	complain("'%s': %s", argv[0], strerror(error));
	return error == ENOENT ? STATUS_NOT_FOUND : STATUS_CANNOT_RUN;
}

/* Parses the options; returns the index of PROGRAM. */
static int parse_options(struct launch *l, int argc, char **argv)
{
	static const struct option options[] = {
	    {"procs", required_argument, NULL, 'p'},
	    {"stack", required_argument, NULL, 's'},
	    {"help", no_argument, NULL, 'h'},
	    {"version", no_argument, NULL, 'V'},
	    {0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "+p:hV", options, NULL)) != -1) {
		switch (c) {
		case 'p':
			launch_set_procs(l, optarg);
			break;
		case 's':
			launch_set_stack(l, optarg);
			break;
		default:
			usage_option(c);
		}
	}
	if (optind == argc)
		usage_wrong("there is no program to run");
	return optind;
}

int launch_main(int argc, char **argv)
{
	struct launch l = {0};
	struct program p;

	argv += parse_options(&l, argc, argv);
	program_require(&p, argv[0]);
	program_refuse_impossible(&p);
	if (p.verdict == VERDICT_NATIVE) {
		complain("%s runs natively: %s", p.path, p.reason);
		return launch_exec(p.path, argv);
	}
	launch_require_library(&l);
	launch_make_green(&l);
	return launch_exec(p.path, argv);
}
