/* SPDX-License-Identifier: MIT */
/* doctor.c: what this machine and one program allow, a line for each fact. */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "doctor.h"
#include "elf.h"
#include "finding.h"
#include "machine.h"
#include "program.h"
#include "say.h"
#include "usage.h"

/* The child: lists what @binary would load, without running any of it. */
static void list_libraries(const char *loader, const char *binary, int out)
{
	unsetenv("LD_PRELOAD"); /* only what the program itself asks for */
	dup2(out, STDOUT_FILENO);
	execl(loader, loader, "--list", binary, (char *)NULL);
	_exit(STATUS_CANNOT_RUN);
}

/* A stream of the loader's lines, "\tlibx.so.1 => /path/libx.so.1 (0x7f...)", or NULL. */
static FILE *open_list(const char *binary, pid_t *pid)
{
	struct elf e;
	char loader[PATH_MAX];
	int out[2];

	if (elf_open(&e, binary) < 0)
		return NULL;
	snprintf(loader, sizeof(loader), "%s", elf_loader(&e) ?: "");
	elf_close(&e);
	if (pipe(out) < 0)
		return NULL;
	*pid = fork();
	if (*pid == 0)
		list_libraries(loader, binary, out[1]);
	close(out[1]);
	return fdopen(out[0], "r");
}

/* The path in one of those lines, cut out in place, or NULL. */
static char *path_in(char *line)
{
	char *path = strchr(line, '/'), *end = path ? strstr(path, " (0x") : NULL;

	if (!end)
		return NULL;
	*end = 0;
	/* the loader itself may be written "ld-linux => /lib64/ld-linux" */
	end = strstr(path, " => ");
	return end ? end + 4 : path;
}

/* Where system calls belong, so that ours or libc's wrapper is what reaches them. */
static bool is_expected(const char *path)
{
	static const char *const names[] = {"libc.so.6", "ld-linux-x86-64.so.2",
					    "libpgreen.so"};
	const char *name = strrchr(path, '/');

	name = name ? name + 1 : path;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/* Examines one file of the program; returns how many inlined system calls it holds. */
static int examine_file(const char *path)
{
	const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	const char *old;
	struct elf e;
	int n;

	if (is_expected(path) || elf_open(&e, path) < 0)
		return 0;
	n = elf_count_syscalls(&e);
	if (n)
		finding(FINDING_NOTE, "system calls",
			"%s has about %d of its own: a wait in one holds a kernel thread "
			"until "
			"the processor is handed off",
			name, n);
	if (n && strncmp(name, "libgomp.so", 10) == 0)
		finding(FINDING_NOTE, "OpenMP",
			"libgomp waits by a system call of its own, and spins before: "
			"correct, and slower than native before Linux 6.16");
	old = elf_wants(&e, "pthread_cond_", "GLIBC_2.2.5");
	if (old)
		finding(FINDING_NO, "old symbols",
			"%s uses %s@GLIBC_2.2.5, of another layout", name, old);
	elf_close(&e);
	return n;
}

static void examine_files(const struct program *p)
{
	char line[2 * PATH_MAX], *path;
	pid_t pid = -1;
	FILE *list = open_list(p->binary, &pid);
	int n = examine_file(p->binary), n_files = 1, status = -1;

	while (list && fgets(line, sizeof(line), list)) {
		if (strstr(line, "not found"))
			finding(FINDING_NO, "libraries", "%.*s",
				(int)strcspn(line + 1, "\n"), line + 1);
		path = path_in(line);
		if (path) {
			n += examine_file(path);
			n_files++;
		}
	}
	if (list)
		fclose(list);
	if (pid > 0)
		waitpid(pid, &status, 0);
	if (status != 0)
		finding(FINDING_NOTE, "libraries", "the loader could not list them all");
	if (n == 0)
		finding(FINDING_OK, "system calls", "none outside libc in %d files",
			n_files);
}

static void examine_verdict(const struct program *p)
{
	if (strcmp(p->path, p->binary) != 0)
		finding(FINDING_OK, "script", "%s is run by %s", p->path, p->binary);
	if (p->verdict == VERDICT_IMPOSSIBLE)
		finding(FINDING_NO, "program", "%s: %s", p->binary, p->reason);
	else if (p->verdict == VERDICT_NATIVE)
		finding(FINDING_NOTE, "program", "%s runs natively: %s", p->binary,
			p->reason);
	else
		finding(FINDING_OK, "program",
			"%s: x86-64, dynamically linked, no privileges", p->binary);
}

static void examine_program(const char *name)
{
	struct program p;
	int r = program_find(&p, name);

	if (r < 0) {
		finding(FINDING_NO, "program", "%s: %s", name, strerror(-r));
		return;
	}
	examine_verdict(&p);
	if (p.verdict == VERDICT_GREEN)
		examine_files(&p);
}

int doctor_main(int argc, char **argv)
{
	static const struct option options[] = {
	    {"help", no_argument, NULL, 'h'},
	    {"version", no_argument, NULL, 'V'},
	    {0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "+hV", options, NULL)) != -1)
		usage_option(c);
	if (argc - optind > 1)
		usage_wrong("doctor wants one program, without its arguments");
	machine_examine();
	if (optind < argc)
		examine_program(argv[optind]);
	return finding_count_no() ? 1 : 0;
}
