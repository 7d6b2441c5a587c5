/* SPDX-License-Identifier: MIT */
#include <dlfcn.h>
#include <errno.h>
#include <gnu/libc-version.h>
#include <linux/membarrier.h>
#include <math.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "finding.h"
#include "launch.h"
#include "machine.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif

static void examine_library(void)
{
	struct launch l = {0};

	if (launch_find_library(&l) < 0)
		finding(FINDING_NO, "library", "libpgreen.so is not found");
	else if (strpbrk(l.library, " :$"))
		finding(FINDING_NO, "library", "%s: LD_PRELOAD cannot hold such a path",
			l.library);
	else
		finding(FINDING_OK, "library", "%s", l.library);
}

/* What a thread made by hand needs of glibc; exported for debuggers and ld.so. */
static void examine_libc(void)
{
	static const char *const names[] = {
	    "_dl_allocate_tls",
	    "_dl_allocate_tls_init",
	    "_dl_get_tls_static_info",
	    "_thread_db_sizeof_pthread",
	    "_thread_db_pthread_tid",
	    "_thread_db_pthread_specific",
	    "__ctype_init",
	    "__call_tls_dtors",
	    "__resp",
	};
	enum { N_NAMES = sizeof(names) / sizeof(names[0]) };
	const char *version = gnu_get_libc_version();
	int n_missing = 0;

	for (int i = 0; i < N_NAMES; i++) {
		if (dlsym(RTLD_DEFAULT, names[i]))
			continue;
		n_missing++;
		finding(FINDING_NO, "libc", "glibc %s does not export %s", version,
			names[i]);
	}
	if (n_missing == 0)
		finding(FINDING_OK, "libc",
			"glibc %s exports all %d private symbols needed", version,
			N_NAMES);
}

static void examine_fsgsbase(void)
{
	enum { HWCAP2_FSGSBASE_BIT = 1 << 1 };

	if (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT)
		finding(FINDING_OK, "FSGSBASE",
			"a switch sets %%fs without a system call");
	else
		finding(FINDING_NOTE, "FSGSBASE",
			"not available: each switch makes an arch_prctl system call");
}

static long read_number(const char *path)
{
	FILE *f = fopen(path, "re");
	long n = -1;

	if (f && fscanf(f, "%ld", &n) != 1)
		n = -1;
	if (f)
		fclose(f);
	return n;
}

static void examine_guards(void)
{
	size_t size = (size_t)sysconf(_SC_PAGESIZE);
	void *page =
	    mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool can = page != MAP_FAILED && madvise(page, size, MADV_GUARD_INSTALL) == 0;

	if (page != MAP_FAILED)
		munmap(page, size);
	if (can)
		finding(FINDING_OK, "stack guards",
			"MADV_GUARD_INSTALL, which splits no mapping");
	else
		finding(FINDING_NOTE, "stack guards",
			"no MADV_GUARD_INSTALL before Linux 6.13: guards only while "
			"vm.max_map_count (%ld) lasts",
			read_number("/proc/sys/vm/max_map_count"));
}

static void examine_membarrier(void)
{
	long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);

	if (commands >= 0 && commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED)
		finding(FINDING_OK, "membarrier", "private expedited");
	else
		finding(FINDING_NOTE, "membarrier", "not available: %s",
			commands < 0 ? strerror(errno) : "no private expedited command");
}

static void examine_memory(void)
{
	if (read_number("/proc/sys/vm/overcommit_memory") == 2)
		finding(FINDING_NOTE, "memory",
			"vm.overcommit_memory is 2: every stack counts in full, so fewer "
			"threads fit");
}

/* How many CPUs one group's cpu.max allows; INFINITY without a limit. */
static double limit_of(const char *group)
{
	char path[PATH_MAX + 32];
	double quota, period, limit = INFINITY;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/fs/cgroup%s/cpu.max", group);
	f = fopen(path, "re");
	if (!f)
		return INFINITY;
	if (fscanf(f, "%lf %lf", &quota, &period) == 2 && period > 0)
		limit = quota / period; /* "max" is no number */
	fclose(f);
	return limit;
}

/* The tightest limit of our group and those around it. */
static double cgroup_limit(void)
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	char line[PATH_MAX], group[PATH_MAX] = "";
	double limit;

	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, "0::", 3) == 0)
			snprintf(group, sizeof(group), "%s", line + 3);
	if (f)
		fclose(f);
	group[strcspn(group, "\n")] = 0;
	for (limit = limit_of(group); strrchr(group, '/');) {
		*strrchr(group, '/') = 0;
		limit = fmin(limit, limit_of(group));
	}
	return limit;
}

static void examine_processors(void)
{
	cpu_set_t set;
	int n_cpus = 1, n;
	double limit = cgroup_limit();
	const char *chosen = getenv("GOMAXPROCS");

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		n_cpus = CPU_COUNT(&set);
	n = n_cpus;
	if (ceil(limit) < n_cpus) /* as Go 1.25: never one for a limit's sake alone */
		n = (int)fmax(ceil(limit), 2);
	if (isinf(limit))
		finding(FINDING_OK, "processors", "%d by affinity, no cgroup limit",
			n_cpus);
	else
		finding(FINDING_OK, "processors",
			"%d by affinity, %.2f by cgroup cpu.max", n_cpus, limit);
	if (chosen && *chosen)
		finding(FINDING_OK, "GOMAXPROCS", "%s, from the environment", chosen);
	else
		finding(FINDING_OK, "GOMAXPROCS", "%d", n);
}

void machine_examine(void)
{
	struct utsname u;

	uname(&u);
	finding(FINDING_OK, "kernel", "%s %s", u.sysname, u.release);
	examine_library();
	examine_libc();
	examine_fsgsbase();
	examine_guards();
	examine_membarrier();
	examine_memory();
	examine_processors();
}
