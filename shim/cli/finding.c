/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>

#include "finding.h"

static int n_no;

void finding(enum level level, const char *subject, const char *format, ...)
{
	static const char *const words[] = {"ok", "note", "no"};
	va_list args;

	printf("%-5s %s: ", words[level], subject);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	n_no += level == FINDING_NO;
}

int finding_count_no(void)
{
	return n_no;
}
