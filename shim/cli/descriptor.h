/* SPDX-License-Identifier: MIT */
/* descriptor.h: what a descriptor of another process is, in a few words. */
#ifndef CLI_DESCRIPTOR_H
#define CLI_DESCRIPTOR_H

#include <stddef.h>
#include <sys/types.h>

/* "/var/log/x", "pipe:[7]", "TCP 127.0.0.1:80 with 10.0.0.2:4711", "no such descriptor" ... */
void descriptor_describe(pid_t pid, int fd, char *text, size_t size);

#endif
