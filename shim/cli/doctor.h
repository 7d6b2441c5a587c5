/* SPDX-License-Identifier: MIT */
#ifndef CLI_DOCTOR_H
#define CLI_DOCTOR_H

/* pgreen doctor */
int doctor_main(int argc, char **argv);

#endif
