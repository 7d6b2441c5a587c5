/* SPDX-License-Identifier: MIT */
#ifndef CLI_MACHINE_H
#define CLI_MACHINE_H

/* Prints what the libc, the kernel and the processor here allow. */
void machine_examine(void);

#endif
