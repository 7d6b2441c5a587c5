/* SPDX-License-Identifier: MIT */
/*
 * echo: a TCP server that sends back what it gets, with a thread for each connection.
 *
 * The simplest server there is: read, write, and never a thought for the other clients.
 * Ten thousand connections are ten thousand threads; green, they still take a handful of
 * kernel threads.  samples/client opens them and checks every byte.
 *
 * usage: echo [-s STACK_KIB] [PORT]	any free port, stacks of 64 KiB
 * prints, until SIGTERM or SIGINT ends it:
 *	echo: listening on 127.0.0.1:PORT
 *	echo: 500 connections, 336000 bytes
 */
#include "server.h"

enum { BUFFER_SIZE = 1024 };

/* Returns how many bytes it sent back. */
static long serve(int fd)
{
	char buffer[BUFFER_SIZE];
	long n_bytes = 0;

	for (;;) {
		ssize_t n = read(fd, buffer, sizeof(buffer));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || !write_all(fd, buffer, n))
			return n_bytes;
		n_bytes += n;
	}
}

int main(int argc, char **argv)
{
	long stack_kib = DEFAULT_STACK_KIB, port = 0;

	for (int option; (option = getopt(argc, argv, "s:")) != -1;)
		stack_kib = option == 's' ? number_in(optarg, 16, 1 << 20) : -1;
	if (optind < argc)
		port = number_in(argv[optind++], 0, 65535);
	if (stack_kib < 0 || port < 0 || optind < argc) {
		fprintf(stderr, "usage: echo [-s STACK_KIB] [PORT]\n");
		return EXIT_FAILURE;
	}
	return server_run("echo", (int)port, (size_t)stack_kib << 10, "bytes", serve);
}
