/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "descriptor.h"
#include "say.h"

/* What /proc/PID/net says of one socket. */
struct socket {
	unsigned long inode;
	char text[160];
};

static struct {
	struct socket *socket; /* by inode */
	size_t n;
	pid_t pid; /* 0: not read yet */
} sockets;

static void add(unsigned long inode, const char *text)
{
	if ((sockets.n & (sockets.n - 1)) == 0) {
		size_t room = sockets.n ? 2 * sockets.n : 1;

		sockets.socket = realloc(sockets.socket, room * sizeof(struct socket));
		if (!sockets.socket)
			refuse(STATUS_REFUSED, "out of memory");
	}
	struct socket *s = &sockets.socket[sockets.n++];

	s->inode = inode;
	snprintf(s->text, sizeof(s->text), "%s", text);
}

/* "0100007F:1F90", or the same of 128 bits: words as the machine has them. */
static void format_address(const char *hex, char *text, size_t size)
{
	uint32_t word[4];
	unsigned port = 0;
	char address[INET6_ADDRSTRLEN] = "?";
	int n = sscanf(hex, "%8" SCNx32 "%8" SCNx32 "%8" SCNx32 "%8" SCNx32 ":%x",
		       &word[0], &word[1], &word[2], &word[3], &port);

	if (n == 5) {
		inet_ntop(AF_INET6, word, address, sizeof(address));
		snprintf(text, size, "[%s]:%u", address, port);
	} else if (sscanf(hex, "%8" SCNx32 ":%x", &word[0], &port) == 2) {
		inet_ntop(AF_INET, word, address, sizeof(address));
		snprintf(text, size, "%s:%u", address, port);
	} else {
		snprintf(text, size, "?");
	}
}

static void add_internet(const char *protocol, const char *line)
{
	enum { TCP_LISTEN = 10 };
	char local[64], peer[64], here[64], there[64], text[160];
	unsigned long inode;
	unsigned state;

	if (sscanf(line, " %*d: %63s %63s %x %*s %*s %*s %*d %*d %lu", local, peer,
		   &state, &inode) != 4)
		return;
	format_address(local, here, sizeof(here));
	format_address(peer, there, sizeof(there));
	bool is_tcp = protocol[0] == 'T',
	     is_connected = strcmp(peer + strlen(peer) - 4, "0000");

	if (is_tcp && state == TCP_LISTEN)
		snprintf(text, sizeof(text), "%s %s, listening", protocol, here);
	else if (is_connected)
		snprintf(text, sizeof(text), "%s %s with %s", protocol, here, there);
	else
		snprintf(text, sizeof(text), "%s %s", protocol, here);
	add(inode, text);
}

static void add_unix(const char *protocol, const char *line)
{
	unsigned long inode;
	char text[160], path[108] = "";

	if (sscanf(line, "%*x: %*s %*s %*s %*s %*s %lu %107s", &inode, path) < 1)
		return;
	snprintf(text, sizeof(text), "%s socket%s%s", protocol, path[0] ? " " : "", path);
	add(inode, text);
}

static void read_table(pid_t pid, const char *name, const char *protocol,
		       void (*add_line)(const char *, const char *))
{
	char path[64], line[512];

	snprintf(path, sizeof(path), "/proc/%d/net/%s", pid, name);
	FILE *table = fopen(path, "re");

	if (!table)
		return;
	if (fgets(line, sizeof(line), table)) /* the headings */
		while (fgets(line, sizeof(line), table))
			add_line(protocol, line);
	fclose(table);
}

static int by_inode(const void *a, const void *b)
{
	const struct socket *x = a, *y = b;

	return (x->inode > y->inode) - (x->inode < y->inode);
}

static void read_sockets(pid_t pid)
{
	sockets.pid = pid;
	read_table(pid, "tcp", "TCP", add_internet);
	read_table(pid, "tcp6", "TCP", add_internet);
	read_table(pid, "udp", "UDP", add_internet);
	read_table(pid, "udp6", "UDP", add_internet);
	read_table(pid, "unix", "Unix", add_unix);
	if (sockets.n)
		qsort(sockets.socket, sockets.n, sizeof(struct socket), by_inode);
}

/* The socket's text, or NULL. */
static const char *find_socket(pid_t pid, const char *link)
{
	struct socket key = {0}, *found;

	if (sscanf(link, "socket:[%lu]", &key.inode) != 1)
		return NULL;
	if (sockets.pid != pid)
		read_sockets(pid);
	found = sockets.n
		    ? bsearch(&key, sockets.socket, sockets.n, sizeof(key), by_inode)
		    : NULL;
	return found ? found->text : NULL;
}

void descriptor_describe(pid_t pid, int fd, char *text, size_t size)
{
	char path[64], link[256];

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
	ssize_t n = readlink(path, link, sizeof(link) - 1);

	link[n > 0 ? n : 0] = 0;
	snprintf(text, size, "%s",
		 n < 0 ? "no such descriptor" : find_socket(pid, link) ?: link);
}
