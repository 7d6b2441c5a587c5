/* SPDX-License-Identifier: MIT */
/*
 * unfit.h: programs whose threads we leave native.
 */
#ifndef PGREEN_UNFIT_H
#define PGREEN_UNFIT_H

#include "wrap.h"

/* Why this program's threads cannot be green, or NULL.  At its first pthread_create. */
const char *unfit_reason(void);

#endif
