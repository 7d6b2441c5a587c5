/* SPDX-License-Identifier: MIT */
/* usage.h: what --help, --version and a wrong command line print. */
#ifndef CLI_USAGE_H
#define CLI_USAGE_H

#include <stdnoreturn.h>

/* Handles 'h', 'V' and getopt's '?', and ends the process. */
noreturn void usage_option(int c);

/* Complains, points at --help, and ends with status 125. */
noreturn void usage_wrong(const char *what);

#endif
