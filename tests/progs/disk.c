/* SPDX-License-Identifier: MIT */
/*
 * disk.c: reads of a file whose pages are not in memory.  TMPDIR must be on a disk for that;
 * elsewhere, and where the kernel keeps the pages, the answers are the same.
 */
#include "check.h"

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/uio.h>

enum { WORDS = 1 << 19, SIZE = WORDS * 8, READERS = 16, ROUNDS = 200 };

static int fd;
static _Atomic bool stop;

static uint64_t word_at(size_t i)
{
	return i * 0x9e3779b97f4a7c15ULL ^ i >> 3;
}

static void evict(void)
{
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

static void make_file(void)
{
	char name[] = "disk-XXXXXX";
	uint64_t *words = malloc(SIZE);

	CHECK((fd = mkstemp(name)) >= 0 && unlink(name) == 0);
	for (size_t i = 0; i < WORDS; i++)
		words[i] = word_at(i);
	CHECK(write(fd, words, SIZE) == SIZE && fsync(fd) == 0);
	free(words);
	evict();
	CHECK(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM) == 0);
}

static void check_words(const uint64_t *words, size_t at, size_t n)
{
	for (size_t i = 0; i < n; i++)
		CHECK(words[i] == word_at(at + i));
}

/* One read of random place and size, by pread or preadv. */
static void read_somewhere(unsigned *seed)
{
	uint64_t words[4096];
	size_t n = 1 + (size_t)rand_r(seed) % 4096,
	       at = (size_t)rand_r(seed) % (WORDS - n);
	size_t part = (size_t)rand_r(seed) % (n + 1);
	struct iovec v[2] = {{words, part * 8}, {words + part, (n - part) * 8}};
	ssize_t r = rand_r(seed) % 2 ? pread(fd, words, n * 8, (off_t)at * 8)
				     : preadv(fd, v, 2, (off_t)at * 8);

	CHECK(r == (ssize_t)n * 8);
	check_words(words, at, n);
}

static void *reader(void *arg)
{
	unsigned seed = (unsigned)(intptr_t)arg;

	for (int i = 0; i < ROUNDS; i++) {
		if (rand_r(&seed) % 16 == 0)
			evict();
		read_somewhere(&seed);
	}
	return NULL;
}

static void many_readers(void)
{
	pthread_t threads[READERS];

	make_file();
	for (intptr_t i = 0; i < READERS; i++)
		threads[i] = start(reader, (void *)i);
	for (int i = 0; i < READERS; i++)
		join(threads[i]);
}

static void ends(void)
{
	uint64_t words[8];
	int pipe_fds[2];
	struct iovec v[2] = {{words, 24}, {words + 3, 24}};
	void *volatile bad_address = (void *)8; /* not for the compiler to see */
	volatile int bad_count = -1;

	become_threaded();
	make_file();
	CHECK(pread(fd, words, 64, SIZE - 24) == 24);
	check_words(words, WORDS - 3, 3);
	evict();
	CHECK(preadv(fd, v, 2, SIZE - 40) == 40);
	check_words(words, WORDS - 5, 5);
	CHECK(pread(fd, words, 64, SIZE) == 0 && pread(fd, words, 64, SIZE + 4096) == 0);
	CHECK(pread(fd, words, 0, 0) == 0);
	CHECK(pread(fd, words, 8, -1) == -1 && errno == EINVAL);
	CHECK(pread(fd, bad_address, 8, 0) == -1 && errno == EFAULT);
	CHECK(preadv(fd, v, bad_count, 0) == -1 && errno == EINVAL);
	CHECK(pread(-1, words, 8, 0) == -1 && errno == EBADF);
	CHECK(pread(12345, words, 8, 0) == -1 && errno == EBADF);
	CHECK(pipe(pipe_fds) == 0);
	CHECK(pread(pipe_fds[0], words, 8, 0) == -1 && errno == ESPIPE);
	CHECK(lseek(fd, 0, SEEK_CUR) == SIZE); /* none of them moved it */
}

static _Atomic int n_handled;

static void handle(int sig)
{
	(void)sig;
	n_handled++;
}

static void *read_on(void *arg)
{
	unsigned seed = (unsigned)(intptr_t)arg;

	while (!stop) {
		if (rand_r(&seed) % 4 == 0)
			evict();
		read_somewhere(&seed);
	}
	return NULL;
}

/* A handler, even one without SA_RESTART, ends no read of a file. */
static void signals(void)
{
	struct sigaction action = {.sa_handler = handle};
	pthread_t thread;

	make_file();
	CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
	thread = start(read_on, NULL);
	for (int i = 0; i < 300; i++) {
		CHECK_OK(pthread_kill(thread, SIGUSR1));
		sleep_ms(1);
	}
	stop = true;
	join(thread);
	CHECK(n_handled > 0);
}

/* A child reads while its parent does. */
static void forks(void)
{
	pthread_t threads[4];
	unsigned seed = 1;
	int status;

	make_file();
	for (intptr_t i = 0; i < 4; i++)
		threads[i] = start(read_on, (void *)i);
	for (int i = 0; i < 10; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			reader((void *)99);
			many_readers();
			_exit(0);
		}
		CHECK(pid > 0);
		read_somewhere(&seed);
		CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	}
	stop = true;
	for (int i = 0; i < 4; i++)
		join(threads[i]);
}

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
	    {"many-readers", many_readers},
	    {"ends", ends},
	    {"signals", signals},
	    {"forks", forks},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
