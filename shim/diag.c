/* SPDX-License-Identifier: MIT */
/*
 * diag.c: one line on stderr, from any place, without malloc, stdio or locks.
 */
#include <string.h>

#include "runtime.h"

static size_t append(char *to, size_t at, size_t room, const char *text)
{
	while (*text != '\0' && at < room)
		to[at++] = *text++;
	return at;
}

void message(const char *text)
{
	char line[256];
	size_t n = append(line, 0, sizeof(line) - 1, "pgreen: ");

	n = append(line, n, sizeof(line) - 1, text);
	line[n++] = '\n';
	sys(SYS_write, 2, line, n);
}

_Noreturn void fatal(const char *what, long value)
{
	char line[256], digits[24];
	size_t n = append(line, 0, sizeof(line), "fatal: "), i = sizeof(digits);
	unsigned long v = value < 0 ? -(unsigned long)value : (unsigned long)value;

	n = append(line, n, sizeof(line), what);
	n = append(line, n, sizeof(line), value < 0 ? ": -" : ": ");
	digits[--i] = '\0';
	do
		digits[--i] = '0' + v % 10;
	while ((v /= 10) != 0);
	n = append(line, n, sizeof(line) - 1, digits + i);
	line[n] = '\0';
	message(line);

	/* Abort as abort() would, but by hand: libc's may wait for a lock of ours. */
	struct kernel_sigaction dfl = {0};
	uint64_t abrt = SIG_BIT(SIGABRT);

	sys_sigaction(SIGABRT, &dfl, NULL);
	sys_sigmask(SIG_UNBLOCK, &abrt, NULL);
	sys(SYS_tgkill, sys(SYS_getpid), sys(SYS_gettid), SIGABRT);
	for (;;)
		sys(SYS_exit_group, 127);
}
