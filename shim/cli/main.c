/* SPDX-License-Identifier: MIT */
/* pgreen: runs a program green, compares it with its native self, explains. */
#include <string.h>

#include "compare.h"
#include "doctor.h"
#include "dump.h"
#include "launch.h"
#include "usage.h"

static const struct {
	const char *name;
	int (*main)(int argc, char **argv);
} commands[] = {
    {"run", launch_main},
    {"compare", compare_main},
    {"doctor", doctor_main},
    {"dump", dump_main},
};

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "help") == 0)
		usage_option('h');
	for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(argv[1], commands[i].name) != 0)
			continue;
		argv[1] = argv[0]; /* getopt's messages begin with argv[0] */
		return commands[i].main(argc - 1, argv + 1);
	}
	return launch_main(argc, argv);
}
