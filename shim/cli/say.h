/* SPDX-License-Identifier: MIT */
/* say.h: what the launcher tells its user, one line a time, on stderr. */
#ifndef CLI_SAY_H
#define CLI_SAY_H

#include <stdnoreturn.h>

/* As env(1), so that a script can tell our failures from the program's. */
enum {
	STATUS_REFUSED = 125,
	STATUS_CANNOT_RUN = 126,
	STATUS_NOT_FOUND = 127,
};

void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Complains and ends the process with @status. */
noreturn void refuse(int status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
