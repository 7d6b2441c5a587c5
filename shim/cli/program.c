/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "elf.h"
#include "program.h"
#include "say.h"

static void __attribute__((format(printf, 3, 4)))
judge(struct program *p, enum verdict verdict, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(p->reason, sizeof(p->reason), format, args);
	va_end(args);
	p->verdict = verdict;
}

/* 0 when @path can be executed, else -errno. */
static int check_executable(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EACCES;
	return access(path, X_OK) < 0 ? -errno : 0;
}

/* Looks in one directory of PATH; an empty one means the current directory. */
static int find_in(struct program *p, const char *dir, size_t dir_length,
		   const char *name)
{
	int n = snprintf(p->path, sizeof(p->path), "%.*s%s%s", (int)dir_length, dir,
			 dir_length ? "/" : "", name);

	if (n < 0 || (size_t)n >= sizeof(p->path))
		return -ENAMETOOLONG;
	return check_executable(p->path);
}

/* As execvp: a file that may not be executed does not end the search. */
static int search_path(struct program *p, const char *name)
{
	const char *dir = getenv("PATH");
	int error = -ENOENT;

	if (!dir)
		dir = "/bin:/usr/bin";
	for (;;) {
		size_t length = strcspn(dir, ":");
		int r = find_in(p, dir, length, name);

		if (r == 0)
			return 0;
		if (r == -EACCES)
			error = r;
		if (!dir[length])
			return error;
		dir += length + 1;
	}
}

/* Whether exec would change who we are, so that ld.so ignores LD_PRELOAD. */
static const char *privilege_of(const char *path)
{
	struct statvfs fs;
	struct stat st;

	if (stat(path, &st) < 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
		return NULL;
	if (statvfs(path, &fs) == 0 && fs.f_flag & ST_NOSUID)
		return NULL;
	if (st.st_mode & S_ISUID && st.st_uid != getuid())
		return "it is set-user-ID";
	if (st.st_mode & S_ISGID && st.st_mode & S_IXGRP && st.st_gid != getgid())
		return "it is set-group-ID";
	if (getuid() != 0 && getxattr(path, "security.capability", NULL, 0) > 0)
		return "it has file capabilities";
	return NULL;
}

static void judge_symbols(struct program *p, const struct elf *e)
{
	const char *old = elf_wants(e, "pthread_cond_", "GLIBC_2.2.5");

	if (old)
		judge(p, VERDICT_IMPOSSIBLE,
		      "it uses %s of before 2003 (GLIBC_2.2.5), which has another layout",
		      old);
	else if (elf_has_symbol(e, "__asan_init"))
		judge(p, VERDICT_NATIVE, "it is built with AddressSanitizer");
	else if (elf_has_symbol(e, "__tsan_init"))
		judge(p, VERDICT_NATIVE, "it is built with ThreadSanitizer");
	else if (elf_is_go(e))
		judge(p, VERDICT_NATIVE,
		      "it is written in Go, which has green threads of its own");
}

static void judge_dynamic(struct program *p, const struct elf *e)
{
	const char *loader = elf_loader(e);
	const char *name = strrchr(loader, '/');
	const char *privilege = privilege_of(p->path);

	if (strcmp(name ? name + 1 : loader, "ld-linux-x86-64.so.2") != 0)
		judge(p, VERDICT_IMPOSSIBLE, "its loader is %s, not glibc's", loader);
	else if (privilege)
		judge(p, VERDICT_IMPOSSIBLE,
		      "%s, and the loader ignores LD_PRELOAD for such programs",
		      privilege);
	else
		judge_symbols(p, e);
}

/*
 * The interpreter that the first line of a script names.  Returns 0 when it is
 * not a script, -errno when the interpreter cannot be run.
 */
static int follow_script(struct program *p, const struct elf *e)
{
	enum { KERNEL_READS = 256 }; /* BINPRM_BUF_SIZE */
	size_t size = e->size < KERNEL_READS ? e->size : KERNEL_READS;
	char line[KERNEL_READS + 1];
	char *name, *end;

	if (size < 3 || e->data[0] != '#' || e->data[1] != '!')
		return 0;
	memcpy(line, e->data, size);
	line[size] = 0;
	line[strcspn(line, "\n")] = 0;
	name = line + 2 + strspn(line + 2, " \t");
	end = name + strcspn(name, " \t\r");
	*end = 0;
	snprintf(p->binary, sizeof(p->binary), "%s", name);
	return check_executable(p->binary) ?: 1;
}

/* Judges p->binary.  1 when it was a script and there is one more file to judge. */
static int judge_binary(struct program *p)
{
	struct elf e;
	int more = 0;

	if (elf_open(&e, p->binary) < 0)
		return 0; /* executable but not readable: exec decides */
	switch (elf_kind(&e)) {
	case ELF_NOT:
		more = follow_script(p, &e);
		if (more == 0)
			judge(p, VERDICT_IMPOSSIBLE,
			      "it is neither an ELF program nor a #! script");
		break;
	case ELF_32_BIT:
		judge(p, VERDICT_IMPOSSIBLE, "it is a 32-bit program");
		break;
	case ELF_OTHER_MACHINE:
		judge(p, VERDICT_IMPOSSIBLE, "it is not an x86-64 program");
		break;
	case ELF_STATIC:
		judge(p, VERDICT_IMPOSSIBLE,
		      "it is statically linked, so nothing can be preloaded");
		break;
	case ELF_DYNAMIC:
		judge_dynamic(p, &e);
		break;
	}
	elf_close(&e);
	return more;
}

int program_find(struct program *p, const char *name)
{
	enum { MAX_SCRIPTS = 5 }; /* the kernel's limit on #! in a row */
	int r;

	*p = (struct program){0};
	if (strchr(name, '/'))
		r = find_in(p, "", 0, name);
	else
		r = *name ? search_path(p, name) : -ENOENT;
	if (r < 0)
		return r;
	memcpy(p->binary, p->path, sizeof(p->binary));
	for (int i = 0; i < MAX_SCRIPTS; i++) {
		r = judge_binary(p);
		if (r <= 0)
			return r;
	}
	return -ELOOP;
}

void program_require(struct program *p, const char *name)
{
	int r = program_find(p, name);

	if (r < 0)
		refuse(r == -ENOENT ? STATUS_NOT_FOUND : STATUS_CANNOT_RUN, "'%s': %s",
		       name, strerror(-r));
}

void program_refuse_impossible(const struct program *p)
{
	if (p->verdict != VERDICT_IMPOSSIBLE)
		return;
	if (strcmp(p->path, p->binary) == 0)
		refuse(STATUS_REFUSED, "%s cannot run green: %s", p->path, p->reason);
	refuse(STATUS_REFUSED, "%s cannot run green: its interpreter is %s, and %s",
	       p->path, p->binary, p->reason);
}
