/* SPDX-License-Identifier: MIT */
#ifndef CLI_DUMP_H
#define CLI_DUMP_H

/* pgreen dump */
int dump_main(int argc, char **argv);

#endif
