/* SPDX-License-Identifier: MIT */
#ifndef CLI_COMPARE_H
#define CLI_COMPARE_H

/* pgreen compare */
int compare_main(int argc, char **argv);

#endif
