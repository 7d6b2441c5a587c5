/* SPDX-License-Identifier: MIT */
/* finding.h: one line of the doctor's report. */
#ifndef CLI_FINDING_H
#define CLI_FINDING_H

enum level {
	FINDING_OK,
	FINDING_NOTE, /* works, at a price that the line names */
	FINDING_NO,   /* nothing can run green; the doctor's exit status is 1 */
};

void finding(enum level level, const char *subject, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* How many were FINDING_NO. */
int finding_count_no(void);

#endif
