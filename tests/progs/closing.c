/* SPDX-License-Identifier: MIT */
/*
 * closing.c: descriptors that are closed, replaced and used again, also behind the library's
 * back; the library's own, which nobody may close; and shells at the end of a pipe.
 */
#include <dirent.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "check.h"
#include "reading.h"

/* A close that no wrapper sees. */
static long hidden_close(int fd)
{
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"((long)SYS_close), "D"((long)fd)
			 : "rcx", "r11", "memory");
	return r;
}

static void check_alive(void)
{
	struct reading r;
	int fds[2];

	CHECK(pipe(fds) == 0);
	pthread_t thread = begin_reading(&r, fds[0]);
	CHECK(write(fds[1], "a", 1) == 1);
	join(thread);
	CHECK(r.result == 1);
	close(fds[0]);
	close(fds[1]);
}

/* --- numbers that are used again ----------------------------------------------------------------- */

enum { N_KINDS = 6 };

/* The read end of something with text in it, all of it in one read; *other is left to close. */
static int make_kind(int kind, const char *text, int *other)
{
	static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
	char path[] = "/tmp/closing.XXXXXX";
	size_t n = strlen(text);
	int fds[2];

	*other = -1;
	switch (kind) {
	case 0:
		CHECK(pipe(fds) == 0);
		break;
	case 1:
	case 2:
	case 3:
		CHECK(socketpair(AF_UNIX, types[kind - 1], 0, fds) == 0);
		break;
	case 4:
		close(mkstemp(path));
		unlink(path);
		CHECK(mkfifo(path, 0600) == 0);
		fds[0] = open(path, O_RDWR);
		fds[1] = dup(fds[0]);
		unlink(path);
		break;
	default:
		fds[0] = mkstemp(path);
		unlink(path);
		CHECK(write(fds[0], text, n) == (ssize_t)n);
		CHECK(lseek(fds[0], 0, SEEK_SET) == 0);
		return fds[0];
	}
	CHECK(write(fds[1], text, n) == (ssize_t)n);
	*other = fds[1];
	return fds[0];
}

static void use_kind(int kind, int fd, const char *text, int other)
{
	char buf[100];
	ssize_t n = 0;

	while (n < (ssize_t)strlen(text)) {
		ssize_t r = read(fd, buf + n, sizeof(buf) - (size_t)n);

		CHECK(r > 0);
		n += r;
	}
	CHECK(n == (ssize_t)strlen(text) && memcmp(buf, text, (size_t)n) == 0);
	if (kind == 5)
		return;
	/* And what waits is woken. */
	struct reading r;
	pthread_t thread = begin_reading(&r, fd);
	CHECK(write(other, "x", 1) == 1);
	join(thread);
	CHECK(r.result == 1 && r.buf[0] == 'x');
	CHECK(write(kind == 0 ? other : fd, "y", 1) == 1);
}

/* Every kind of file after every other at the same number; closed so that the library sees it,
 * and so that it does not. */
static void test_reused(void)
{
	const int number = 100;

	become_threaded();
	for (int hidden = 0; hidden < 2; hidden++) {
		for (int i = 0; i < N_KINDS * N_KINDS; i++) {
			int kinds[2] = {i / N_KINDS, i % N_KINDS};

			for (int j = 0; j < 2; j++) {
				int other, fd = make_kind(kinds[j], "some text", &other);

				if (hidden) {
					/* Only the lowest free number can be had so. */
					use_kind(kinds[j], fd, "some text", other);
					hidden_close(fd);
				} else {
					CHECK(dup2(fd, number) == number);
					close(fd);
					use_kind(kinds[j], number, "some text", other);
				}
				if (other >= 0)
					close(other);
			}
		}
	}
	close(number);
}

/* Threads that read what is closed and opened again under them get nobody else's bytes. */
static _Atomic bool stop;
static _Atomic int churned;

static void *read_churned(void *arg)
{
	char c;

	(void)arg;
	while (!stop) {
		ssize_t n = read(churned, &c, 1);

		CHECK(n == 0 || (n == 1 && c == 'x') || (n == -1 && errno == EBADF));
	}
	return NULL;
}

static void test_churned(void)
{
	pthread_t threads[4];
	int fds[2];

	check_alive(); /* the library opens its own meanwhile */
	CHECK(pipe(fds) == 0);
	churned = fds[0];
	for (int i = 0; i < 4; i++)
		threads[i] = start(read_churned, NULL);
	for (long long end = now_ms() + 300; now_ms() < end;) {
		int old = fds[0], old_writer = fds[1];

		CHECK(write(fds[1], "xxx", 3) == 3);
		sched_yield();
		CHECK(pipe(fds) == 0);
		churned = fds[0];
		/* Native threads stay in a read of what is closed, until the writer goes too. */
		close(old);
		close(old_writer);
	}
	stop = true;
	close(fds[0]);
	close(fds[1]);
	for (int i = 0; i < 4; i++)
		join(threads[i]);
}

/* --- the library's own ------------------------------------------------------------------------------ */

/* Descriptors that the program has not opened. */
static int strangers(int fds[16])
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;
	int n = 0;

	while ((e = readdir(dir)) != NULL) {
		int fd = atoi(e->d_name);

		if (e->d_name[0] != '.' && fd > 2 && fd != dirfd(dir) && n < 16)
			fds[n++] = fd;
	}
	closedir(dir);
	return n;
}

static void test_ours(void)
{
	int fds[16], n, pair[2];

	/* Whatever was inherited goes, and then they are opened. */
	closefrom(3);
	check_alive();
	n = strangers(fds);
	for (int i = 0; i < n; i++) {
		CHECK(close(fds[i]) == -1 && errno == EBADF);
		CHECK(dup2(0, fds[i]) == -1 && errno == EBADF);
		CHECK(dup3(0, fds[i], O_CLOEXEC) == -1 && errno == EBADF);
		CHECK(dup2(fds[i], 50) == -1 && errno == EBADF);
		CHECK(syscall(SYS_close, fds[i]) == -1 && errno == EBADF);
		check_alive();
	}
	CHECK(close_range(3, ~0U, 0) == 0);
	check_alive();
	closefrom(3);
	check_alive();
	CHECK(syscall(SYS_close_range, 3, ~0U, 0) == 0);
	check_alive();
	/* Of the program's, none is left. */
	CHECK(pipe(pair) == 0);
	CHECK(dup2(pair[0], 200) == 200 && dup2(pair[0], 5000) == 5000);
	CHECK(close_range(3, 4999, 0) == 0);
	CHECK(fcntl(200, F_GETFD) == -1 && fcntl(5000, F_GETFD) == 0);
	CHECK(close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0);
	CHECK(fcntl(5000, F_GETFD) == FD_CLOEXEC);
	CHECK(close_range(10, 3, 0) == -1 && errno == EINVAL);
	closefrom(3);
	CHECK(fcntl(5000, F_GETFD) == -1);
	/* A child closes all. */
	pid_t pid = fork();
	if (pid == 0) {
		for (int fd = 3; fd < 2000; fd++)
			close(fd);
		check_alive();
		_exit(0);
	}
	int status;
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	check_alive();
}

/* Wrong on purpose, and not for the compiler to see. */
static DIR *volatile no_dir;

static void test_errors(void)
{
	int fds[2];

	CHECK(close(-1) == -1 && errno == EBADF);
	CHECK(close(77) == -1 && errno == EBADF);
	CHECK(close(1 << 30) == -1 && errno == EBADF);
	CHECK(dup2(77, 78) == -1 && errno == EBADF);
	CHECK(dup2(0, -1) == -1 && errno == EBADF);
	CHECK(dup2(0, 1 << 30) == -1 && errno == EBADF);
	CHECK(dup2(0, 0) == 0);
	CHECK(dup3(0, 0, 0) == -1 && errno == EINVAL);
	CHECK(dup3(0, 9, 1) == -1 && errno == EINVAL);
	FAILS(closedir(no_dir), EINVAL);
	/* One that fails ends nobody's wait. */
	struct reading r;
	CHECK(pipe(fds) == 0);
	pthread_t thread = begin_reading(&r, fds[0]);
	CHECK(dup2(77, fds[0]) == -1 && dup2(fds[0], fds[0]) == fds[0]);
	FAILS(dup3(0, fds[0], O_APPEND), EINVAL);
	FAILS(close_range((unsigned)fds[0], (unsigned)fds[0], 1 << 10), EINVAL);
	struct rlimit limit, low;
	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	low = (struct rlimit){.rlim_cur = (rlim_t)fds[0], .rlim_max = limit.rlim_max};
	CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
	FAILS(dup2(0, fds[0]), EBADF);
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	sleep_ms(5);
	CHECK(!r.done);
	CHECK(write(fds[1], "a", 1) == 1);
	join(thread);
	CHECK(r.result == 1);
}

/* --- waits that look on ------------------------------------------------------------------------------- */

struct polling {
	struct pollfd *p;
	nfds_t n;
	int timeout;
	_Atomic bool done;
	int result;
};

static void *poll_them(void *arg)
{
	struct polling *p = arg;

	p->result = poll(p->p, p->n, p->timeout);
	p->done = true;
	return NULL;
}

static pthread_t begin_polling(struct polling *p, struct pollfd *fds, nfds_t n)
{
	*p = (struct polling){.p = fds, .n = n, .timeout = -1};
	pthread_t thread = start_waiting(poll_them, p);

	CHECK(!p->done);
	return thread;
}

/* Closes a descriptor, in a thread that has a kernel thread of its own. */
static void *close_bound(void *fd)
{
	cpu_set_t one, all;

	CHECK(sched_getaffinity(0, sizeof(all), &all) == 0);
	CPU_ZERO(&one);
	for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
		if (CPU_ISSET(i, &all))
			CPU_SET(i, &one);
	CHECK(sched_setaffinity(0, sizeof(one), &one) == 0);
	sleep_ms(20); /* all processors are idle by then */
	close((int)(intptr_t)fd);
	return NULL;
}

/* Who polls it and another, which something then comes to, goes on. */
static void test_bound(void)
{
	int closed[2], fds[2];
	char c;

	for (int i = 0; i < 10; i++) {
		CHECK(pipe(closed) == 0 && pipe(fds) == 0);
		struct pollfd p[] = {{fds[0], POLLIN, 0}, {closed[0], POLLIN, 0}};
		pthread_t thread = start(close_bound, (void *)(intptr_t)closed[0]);
		pid_t pid = fork();

		if (pid == 0) {
			sleep_ms(60);
			_exit(write(fds[1], "a", 1) == 1 ? 0 : 1);
		}
		while (poll(p, 2, 20000) == 1 && p[0].revents == 0)
			p[1].fd = -1; /* it was told of what is closed */
		CHECK(p[0].revents == POLLIN && read(fds[0], &c, 1) == 1);
		CHECK(waitpid(pid, NULL, 0) == pid);
		join(thread);
		close(closed[1]);
		close(fds[0]);
		close(fds[1]);
	}
}

enum { N_MANY = 600 };

static void test_polls(void)
{
	static int pipes[N_MANY][2];
	static struct pollfd many[N_MANY];
	const char *preload = getenv("LD_PRELOAD");
	struct polling p, q;
	int fds[2];
	char c;

	/* For nothing but a hang-up. */
	CHECK(pipe(fds) == 0);
	struct pollfd one = {.fd = fds[0]}, two = {.fd = fds[0], .events = POLLIN};
	pthread_t thread = begin_polling(&p, &one, 1);
	CHECK(write(fds[1], "x", 1) == 1);
	sleep_ms(5);
	CHECK(!p.done && read(fds[0], &c, 1) == 1);
	close(fds[1]);
	join(thread);
	CHECK(p.result == 1 && one.revents == POLLHUP);
	close(fds[0]);
	/* For the other side's half only. */
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	one = (struct pollfd){.fd = fds[0], .events = POLLRDHUP};
	thread = begin_polling(&p, &one, 1);
	CHECK(write(fds[1], "x", 1) == 1);
	sleep_ms(5);
	CHECK(!p.done);
	CHECK(shutdown(fds[1], SHUT_WR) == 0);
	join(thread);
	CHECK(p.result == 1 && one.revents == POLLRDHUP);
	close(fds[1]);
	close(fds[0]);
	/* Two at the same descriptor, and one who reads it: all hear of it. */
	CHECK(pipe(fds) == 0);
	one = two = (struct pollfd){.fd = fds[0], .events = POLLIN};
	thread = begin_polling(&p, &one, 1);
	pthread_t other = begin_polling(&q, &two, 1);
	CHECK(write(fds[1], "x", 1) == 1);
	join(thread);
	join(other);
	CHECK(p.result == 1 && q.result == 1 && read(fds[0], &c, 1) == 1);
	/* Twice in one set; with and without something to look for. */
	struct pollfd twice[3] = {{.fd = fds[0], .events = POLLIN},
				  {.fd = -5, .events = POLLIN},
				  {.fd = fds[0], .events = POLLIN}};
	thread = begin_polling(&p, twice, 3);
	CHECK(write(fds[1], "x", 1) == 1);
	join(thread);
	CHECK(p.result == 2 && twice[0].revents == POLLIN && twice[1].revents == 0);
	CHECK(read(fds[0], &c, 1) == 1);
	/*
	 * Closed meanwhile: it looks again.  A look that lay across the close
	 * found the first entry still open.  Native threads are not told.
	 */
	if (preload != NULL && strstr(preload, "libpgreen") != NULL) {
		thread = begin_polling(&p, twice, 3);
		close(fds[0]);
		join(thread);
		CHECK(twice[2].revents == POLLNVAL &&
		      ((p.result == 2 && twice[0].revents == POLLNVAL) ||
		       (p.result == 1 && twice[0].revents == 0)));
	} else {
		close(fds[0]);
	}
	close(fds[1]);
	/* More than are waited for one by one. */
	for (int i = 0; i < N_MANY; i++) {
		CHECK(pipe(pipes[i]) == 0);
		many[i] = (struct pollfd){.fd = pipes[i][0], .events = POLLIN};
	}
	for (nfds_t n = 1; n <= N_MANY; n = n * 3 / 2 + 1) {
		thread = begin_polling(&p, many, n);
		CHECK(write(pipes[n - 1][1], "x", 1) == 1);
		join(thread);
		CHECK(p.result == 1 && many[n - 1].revents == POLLIN);
		CHECK(read(pipes[n - 1][0], &c, 1) == 1);
	}
}

struct selecting {
	int n;
	fd_set in, out, except;
	_Atomic bool done;
	int result;
};

static void *select_them(void *arg)
{
	struct selecting *s = arg;

	s->result = select(s->n, &s->in, &s->out, &s->except, NULL);
	s->done = true;
	return NULL;
}

static void test_selects(void)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM, 0), fds[2], pipes[500][2];
	struct selecting s = {0};
	char c;

	CHECK(bind(listener, (struct sockaddr *)&addr, len) == 0 &&
	      listen(listener, 1) == 0);
	CHECK(getsockname(listener, (struct sockaddr *)&addr, &len) == 0);
	fds[1] = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(connect(fds[1], (struct sockaddr *)&addr, len) == 0);
	fds[0] = accept(listener, NULL, NULL);
	/* Urgent data is an exception, other data and the end are none. */
	FD_SET(fds[0], &s.except);
	s.n = fds[0] + 1;
	pthread_t thread = start(select_them, &s);
	CHECK(send(fds[1], "x", 1, 0) == 1);
	sleep_ms(10);
	CHECK(!s.done);
	CHECK(send(fds[1], "u", 1, MSG_OOB) == 1);
	join(thread);
	CHECK(s.result == 1 && FD_ISSET(fds[0], &s.except));
	CHECK(recv(fds[0], &c, 1, MSG_OOB) == 1 && c == 'u');
	close(fds[1]);
	s.done = false;
	struct timeval tv = {.tv_usec = 50000};
	long long before = now_ms();
	CHECK(read(fds[0], &c, 1) == 1 && read(fds[0], &c, 1) == 0);
	FD_SET(fds[0], &s.except);
	CHECK(select(s.n, NULL, NULL, &s.except, &tv) == 0);
	CHECK(now_ms() - before >= 49 && tv.tv_usec == 0 && !FD_ISSET(fds[0], &s.except));
	/* Many: one of each half is ready. */
	s = (struct selecting){0};
	for (int i = 0; i < 400; i++) {
		CHECK(pipe(pipes[i]) == 0);
		FD_SET(pipes[i][0], &s.in);
		s.n = pipes[i][1] + 1;
	}
	thread = start(select_them, &s);
	sleep_ms(5);
	CHECK(!s.done && write(pipes[399][1], "x", 1) == 1);
	join(thread);
	CHECK(s.result == 1 && FD_ISSET(pipes[399][0], &s.in) &&
	      !FD_ISSET(pipes[3][0], &s.in));
	CHECK(select(FD_SETSIZE, NULL, NULL, NULL, &(struct timeval){0}) == 0);
}

/* --- shells ------------------------------------------------------------------------------------------- */

static void expect_line(FILE *f, const char *text)
{
	char line[100] = "";

	CHECK(f != NULL && fgets(line, sizeof(line), f) != NULL);
	if (strcmp(line, text) != 0)
		fprintf(stderr, "%s", line);
	CHECK(strcmp(line, text) == 0);
}

static void *use_shell(void *arg)
{
	char command[100], line[100];

	for (int i = 0; i < 5; i++) {
		snprintf(command, sizeof(command), "echo %p %d; exit %d", arg, i, i);
		snprintf(line, sizeof(line), "%p %d\n", arg, i);
		FILE *f = popen(command, "r");
		expect_line(f, line);
		int status = pclose(f);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == i);
	}
	return NULL;
}

static void test_shells(void)
{
	pthread_t threads[8];
	char path[] = "/tmp/closing.XXXXXX", command[100];
	int fd;

	in_thread(use_shell, &fd);
	for (int i = 0; i < 8; i++)
		threads[i] = start(use_shell, &threads[i]);
	for (int i = 0; i < 8; i++)
		join(threads[i]);
	/* To one. */
	close(mkstemp(path));
	snprintf(command, sizeof(command), "cat >%s", path);
	FILE *f = popen(command, "w");
	CHECK(f != NULL && fputs("hello\n", f) >= 0 && pclose(f) == 0);
	f = fopen(path, "r");
	expect_line(f, "hello\n");
	fclose(f);
	unlink(path);
	/* A later one must not hold an earlier one's pipe open. */
	FILE *first = popen("cat >/dev/null", "w"), *second = popen("sleep 1", "r");
	long long before = now_ms();
	CHECK(pclose(first) == 0 && now_ms() - before < 900);
	/* glibc's fclose() waits for the shell too. */
	int (*volatile close_it)(FILE *) = fclose;
	CHECK(close_it(second) == 0 && now_ms() - before >= 900);
	/* What they inherit. */
	f = popen("true", "r");
	CHECK(fcntl(fileno(f), F_GETFD) == 0);
	pclose(f);
	f = popen("true", "re");
	CHECK(fcntl(fileno(f), F_GETFD) == FD_CLOEXEC);
	pclose(f);
	CHECK(popen("true", "x") == NULL && errno == EINVAL);
	CHECK(popen("true", "rw") == NULL && errno == EINVAL);
	f = popen("kill -9 $$", "r");
	int status = pclose(f);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_names(void)
{
	struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM},
			*found;
	char host[100], port[20];

	CHECK(getaddrinfo("127.0.0.1", "80", &hints, &found) == 0);
	CHECK(getnameinfo(found->ai_addr, found->ai_addrlen, host, sizeof(host), port,
			  sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) == 0);
	CHECK(strcmp(host, "127.0.0.1") == 0 && strcmp(port, "80") == 0);
	freeaddrinfo(found);
	struct hostent *h = gethostbyname("127.0.0.1");
	CHECK(h != NULL && h->h_addrtype == AF_INET);
	struct hostent entry;
	char buf[2000];
	int error;
	CHECK(gethostbyname_r("127.0.0.1", &entry, buf, sizeof(buf), &h, &error) == 0);
	CHECK(h == &entry);
}

/* --- at once ----------------------------------------------------------------------------- */

enum { N_PROCESSES = 60 };

static void *wait_hidden(void *arg)
{
	int *fds = arg;
	char c;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"((long)SYS_read), "D"((long)fds[0]), "S"(&c), "d"(1L)
			 : "rcx", "r11", "memory");
	CHECK(r == 1);
	return arg;
}

static _Atomic bool is_over;

static void *take_turns(void *arg)
{
	while (!is_over)
		sched_yield();
	return arg;
}

/* A pipe without readers is broken from the moment that the last is closed, also while the
 * library looks what has become of a thread that waits in the kernel. */
static void close_and_write(void)
{
	long long end = now_ms() + 30;
	int waits[2], fds[2];

	signal(SIGPIPE, SIG_IGN);
	CHECK(pipe(waits) == 0);
	pthread_t thread = start(wait_hidden, waits);
	pthread_t other = start(take_turns, NULL);
	while (now_ms() < end) {
		CHECK(pipe(fds) == 0);
		close(fds[0]);
		if (write(fds[1], "x", 1) != -1)
			_exit(1);
		close(fds[1]);
	}
	CHECK(write(waits[1], "x", 1) == 1);
	join(thread);
	is_over = true;
	join(other);
}

/* The kernel needs a few microseconds to give a thread of the library's a table of
 * descriptors of its own: it may happen once in a long while. */
static void test_at_once(void)
{
	int n_late = 0;

	for (int i = 0; i < N_PROCESSES; i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0) {
			close_and_write();
			_exit(0);
		}
		CHECK(waitpid(pid, &status, 0) == pid);
		n_late += status != 0;
	}
	CHECK(n_late <= 1);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	    {"reused", test_reused},   {"churned", test_churned}, {"ours", test_ours},
	    {"errors", test_errors},   {"bound", test_bound},     {"polls", test_polls},
	    {"selects", test_selects}, {"shells", test_shells},   {"names", test_names},
	    {"at-once", test_at_once},
	};

	become_threaded();
	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
