/* SPDX-License-Identifier: MIT */
/*
 * hello: hello from a thread, and a main that waits for it.
 *
 * A main that does not wait ends the program, and the thread with it: the first surprise
 * of goroutines is that of threads as well.
 *
 * usage: hello
 * prints:
 *	hello from a thread
 *	main waited: it said 42
 */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_CANNOT_RUN = 77 };

static void *say_hello(void *arg)
{
	puts("hello from a thread");
	return (void *)((intptr_t)arg * 2);
}

int main(void)
{
	pthread_t thread;
	void *said;

	int error = pthread_create(&thread, NULL, say_hello, (void *)(intptr_t)21);
	if (error) {
		fprintf(stderr, "hello: cannot create a thread: %s\n", strerror(error));
		return error == EAGAIN ? EXIT_CANNOT_RUN : EXIT_FAILURE;
	}
	error = pthread_join(thread, &said);
	if (error) {
		fprintf(stderr, "hello: cannot join: %s\n", strerror(error));
		return EXIT_FAILURE;
	}
	printf("main waited: it said %d\n", (int)(intptr_t)said);
	return (intptr_t)said == 42 ? EXIT_SUCCESS : EXIT_FAILURE;
}
