/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>

#include "say.h"
#include "usage.h"

static const char HELP[] =
    "Usage: pgreen [run] [-p N] [--stack SIZE] [--] PROGRAM [ARGUMENT]...\n"
    "  or:  pgreen compare [-n RUNS] [-p N] [--stack SIZE] [--json FILE] [--] PROGRAM "
    "[ARGUMENT]...\n"
    "  or:  pgreen doctor [PROGRAM]\n"
    "  or:  pgreen dump [-a] [-b] PID\n"
    "Run the threads of an unmodified program as green tasks on a few kernel threads.\n"
    "\n"
    "Commands:\n"
    "  run      run PROGRAM green; its exit status, streams and signals are its own\n"
    "  compare  run it natively and green in turn and show what its threads cost\n"
    "  doctor   say what this machine and PROGRAM allow\n"
    "  dump     show every task of the running process PID: what it waits on, for how "
    "long,\n"
    "           and its backtrace; and name deadlocks\n"
    "\n"
    "Options:\n"
    "  -p, --procs=N       run on N processors (GOMAXPROCS)\n"
    "      --stack=SIZE    size of a thread's stack where the program sets none: 64K, "
    "1M\n"
    "  -n, --runs=RUNS     compare: run each side RUNS times (3)\n"
    "      --json=FILE     compare: also write every figure to FILE; - is standard "
    "output\n"
    "  -a, --all           dump: also show the library's own frames\n"
    "  -b, --brief         dump: of tasks with equal stacks, show one\n"
    "  -h, --help          show this help\n"
    "  -V, --version       show the version\n"
    "\n"
    "Environment:\n"
    "  GOMAXPROCS          how many processors; else the affinity mask and the cgroup "
    "say\n"
    "  PGREEN_STACK        as --stack\n"
    "  PGREEN_LIB          the libpgreen.so to preload\n"
    "\n"
    "Exit status: the program's; 125 if pgreen refuses, 126 if PROGRAM cannot be\n"
    "executed, 127 if it is not found.  compare: 0 if status and output agreed, 1 if\n"
    "not.  doctor: 0, or 1 if PROGRAM cannot run green here.  dump: 0, or 1 if there is\n"
    "a deadlock.\n";

noreturn void usage_option(int c)
{
	if (c == 'h')
		fputs(HELP, stdout);
	else if (c == 'V')
		puts("pgreen " PGREEN_VERSION);
	else
		fputs("Try 'pgreen --help' for more information.\n", stderr);
	exit(c == 'h' || c == 'V' ? EXIT_SUCCESS : STATUS_REFUSED);
}

noreturn void usage_wrong(const char *what)
{
	complain("%s", what);
	usage_option('?');
}
