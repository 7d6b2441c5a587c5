/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <sched.h>
#include <string.h>

#include "config.h"
#include "runtime.h"

enum { FILE_MOST = 4096, PATH_MOST = 512 };

static int gomaxprocs; /* 0: not said */
static size_t stack_size;
static char native[512];
static int shake;
bool shake_io;

static int parse_shake(const char *text);

/* --- the environment ------------------------------------------------------------------ */

static const char *find(char **envp, const char *name)
{
	size_t n = strlen(name);

	for (; envp != NULL && *envp != NULL; envp++)
		if (strncmp(*envp, name, n) == 0 && (*envp)[n] == '=')
			return *envp + n + 1;
	return NULL;
}

/* A positive decimal number with nothing behind it, or -1. */
static long parse_number(const char *text)
{
	long n = 0;

	if (text == NULL || *text == '\0')
		return -1;
	for (; *text >= '0' && *text <= '9'; text++)
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, *text - '0', &n))
			return -1;
	return *text == '\0' ? n : -1;
}

void config_read(char **envp)
{
	long n = parse_number(find(envp, "GOMAXPROCS"));

	/* As Go: what is no positive number is as if it were not there. */
	if (n > 0)
		gomaxprocs = n > MAX_PROCS ? MAX_PROCS : (int)n;
	n = parse_number(find(envp, "PGREEN_STACK"));
	if (n > 0)
		stack_size = n;
	else if (find(envp, "PGREEN_STACK") != NULL)
		message("PGREEN_STACK is not a number of bytes: ignored");
	const char *patterns = find(envp, "PGREEN_NATIVE");
	if (patterns != NULL && strlen(patterns) < sizeof(native))
		memcpy(native, patterns, strlen(patterns) + 1);
	else if (patterns != NULL)
		message("PGREEN_NATIVE is longer than 511 bytes: ignored");
	shake = parse_shake(find(envp, "PGREEN_SHAKE"));
	shake_io = (shake & SHAKE_IO) != 0;
}

/* Some of "preempt", "handoff", "io" and "rest", with commas. */
static int parse_shake(const char *text)
{
	int shake = 0;

	if (text == NULL)
		return 0;
	if (strstr(text, "preempt") != NULL)
		shake |= SHAKE_PREEMPT;
	if (strstr(text, "handoff") != NULL)
		shake |= SHAKE_HAND_OFF;
	if (strstr(text, "io") != NULL)
		shake |= SHAKE_IO;
	if (strstr(text, "rest") != NULL)
		shake |= SHAKE_REST;
	if (shake == 0)
		message(
		    "PGREEN_SHAKE wants preempt, handoff, io, rest, or several: ignored");
	return shake;
}

int config_shake(void)
{
	return shake;
}

const char *config_native(void)
{
	return native;
}

size_t config_stack_size(void)
{
	return stack_size;
}

void config_set_gomaxprocs(int n)
{
	gomaxprocs = n;
}

/* --- the machine ------------------------------------------------------------------------ */

int config_cpus(void)
{
	uint64_t mask[MAX_PROCS / 64] = {0};
	long size = sys(SYS_sched_getaffinity, 0, sizeof(mask), mask);
	int n = 0;

	for (long i = 0; i < size / 8; i++)
		n += __builtin_popcountll(mask[i]);
	return n > 0 ? n : 1;
}

/* Reads a small file; returns its length, 0 when it cannot be read. */
static size_t read_file(const char *path, char *text)
{
	long fd = sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC), n;

	if (fd < 0)
		return 0;
	n = sys(SYS_read, fd, text, FILE_MOST - 1);
	sys(SYS_close, fd);
	if (n < 0)
		n = 0;
	text[n] = '\0';
	return n;
}

/* "quota period" or "max period": CPUs, rounded up, or 0 for no limit. */
static int parse_quota(const char *text)
{
	long quota = 0, period = 0;

	for (; *text >= '0' && *text <= '9'; text++)
		quota = quota * 10 + *text - '0';
	if (*text != ' ')
		return 0;
	for (text++; *text >= '0' && *text <= '9'; text++)
		period = period * 10 + *text - '0';
	if (quota <= 0 || period <= 0)
		return 0;
	return (quota + period - 1) / period;
}

/* The path of this process's cgroup (version 2) in text, or NULL. */
static char *own_cgroup(char *text)
{
	char *line;

	if (read_file("/proc/self/cgroup", text) == 0)
		return NULL;
	line = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
	if (line == NULL)
		return NULL;
	line = strstr(line, "0::") + 3;
	line[strcspn(line, "\n")] = '\0';
	return line;
}

/* The tightest cpu.max from the process's cgroup up to the root; 0 for none.  A tighter
 * ancestor limits too; what cannot be read limits nothing (trap 15). */
static int cgroup_limit(void)
{
	char text[FILE_MOST], limit[FILE_MOST], path[PATH_MOST];
	char *group = own_cgroup(text);
	int least = 0;

	while (group != NULL) {
		static const char root[] = "/sys/fs/cgroup", file[] = "/cpu.max";
		size_t n = strlen(group);

		if (sizeof(root) + n + sizeof(file) > sizeof(path))
			break;
		memcpy(path, root, sizeof(root));
		memcpy(path + sizeof(root) - 1, group, n);
		memcpy(path + sizeof(root) - 1 + n, file, sizeof(file));
		if (read_file(path, limit) > 0) {
			int cpus = parse_quota(limit);
			if (cpus > 0 && (least == 0 || cpus < least))
				least = cpus;
		}
		char *slash = strrchr(group, '/');
		if (slash == NULL)
			break;
		*slash = '\0';
	}
	return least;
}

int config_gomaxprocs(void)
{
	if (gomaxprocs > 0)
		return gomaxprocs;
	int cpus = config_cpus(), limit = cgroup_limit();

	if (limit > 0 && limit < cpus)
		cpus = limit < 2 ? 2 : limit;
	return cpus > MAX_PROCS ? MAX_PROCS : cpus;
}
