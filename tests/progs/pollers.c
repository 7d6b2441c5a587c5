/* SPDX-License-Identifier: MIT */
/*
 * pollers.c: poll, select, epoll_wait and their kin: what they wait for, for how long, and
 * with which signal mask.
 */
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>

#include "check.h"

enum { TIMEOUT_MS = 60 };

static int fds[2];

static void *writer(void *arg)
{
	sleep_ms(20);
	CHECK(write(fds[1], "x", 1) == 1);
	return arg;
}

/* Calls wait(ms), which must return 0 after that time and not before. */
static void check_timeout(int (*wait)(int ms))
{
	for (int ms = 0; ms <= TIMEOUT_MS; ms += TIMEOUT_MS / 2) {
		long long before = now_ms();

		CHECK(wait(ms) == 0);
		/* Both clocks may be cut down to milliseconds. */
		CHECK(now_ms() - before >= ms - 1);
		CHECK(now_ms() - before < ms + 5000);
	}
}

/* Data that comes while wait(-1) or wait(a long time) is under way ends it. */
static void check_wakes(int (*wait)(int ms))
{
	char c;

	for (int round = 0; round < 2; round++) {
		pthread_t thread = start(writer, NULL);

		CHECK(wait(round == 0 ? -1 : 20000) == 1);
		CHECK(wait(0) == 1);
		join(thread);
		CHECK(read(fds[0], &c, 1) == 1);
		CHECK(wait(0) == 0);
	}
}

static void check_both(int (*wait)(int ms))
{
	become_threaded();
	CHECK(pipe(fds) == 0);
	check_timeout(wait);
	check_wakes(wait);
}

static struct timespec *timespec_of(int ms, struct timespec *ts)
{
	*ts = (struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
	return ms < 0 ? NULL : ts;
}

static int wait_poll(int ms)
{
	struct pollfd p = {.fd = fds[0], .events = POLLIN};
	int r = poll(&p, 1, ms);

	CHECK(r != 1 || p.revents == POLLIN);
	return r;
}

static int wait_ppoll(int ms)
{
	struct pollfd p = {.fd = fds[0], .events = POLLIN};
	struct timespec ts, *timeout = timespec_of(ms, &ts), before = ts;
	int r = ppoll(&p, 1, timeout, NULL);

	CHECK(memcmp(&before, &ts, sizeof(ts)) == 0);
	return r;
}

static int wait_select(int ms)
{
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
	fd_set set;

	FD_ZERO(&set);
	FD_SET(fds[0], &set);
	int r = select(fds[0] + 1, &set, NULL, NULL, ms < 0 ? NULL : &tv);
	CHECK(r < 0 || FD_ISSET(fds[0], &set) == r);
	/* Linux tells what was left. */
	CHECK(ms < 0 || r != 0 || (tv.tv_sec == 0 && tv.tv_usec == 0));
	CHECK(ms < 10000 || r != 1 || tv.tv_sec >= 9);
	return r;
}

static int wait_pselect(int ms)
{
	struct timespec ts;
	fd_set set;

	FD_ZERO(&set);
	FD_SET(fds[0], &set);
	return pselect(fds[0] + 1, &set, NULL, NULL, timespec_of(ms, &ts), NULL);
}

static int epfd = -1;

static void make_epoll(void)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u32 = 7};

	if (epfd >= 0)
		return;
	epfd = epoll_create1(0);
	CHECK(epfd >= 0);
	CHECK(epoll_ctl(epfd, EPOLL_CTL_ADD, fds[0], &e) == 0);
}

static int wait_epoll(int ms)
{
	struct epoll_event e;

	make_epoll();
	int r = epoll_wait(epfd, &e, 1, ms);
	CHECK(r != 1 || (e.events == EPOLLIN && e.data.u32 == 7));
	return r;
}

static int wait_epoll_masked(int ms)
{
	struct epoll_event e;
	sigset_t all;

	make_epoll();
	sigfillset(&all);
	return epoll_pwait(epfd, &e, 1, ms, &all);
}

static void test_poll(void)
{
	check_both(wait_poll);
}

static void test_ppoll(void)
{
	check_both(wait_ppoll);
}

static void test_select(void)
{
	check_both(wait_select);
}

static void test_pselect(void)
{
	check_both(wait_pselect);
}

static void test_epoll(void)
{
	check_both(wait_epoll);
	epfd = -1;
	check_both(wait_epoll_masked);
}

/* --- no descriptors: a sleep ----------------------------------------------------------------- */

static int sleep_poll(int ms)
{
	return poll(NULL, 0, ms);
}

static int sleep_ppoll(int ms)
{
	struct timespec ts;

	return ppoll(NULL, 0, timespec_of(ms, &ts), NULL);
}

static int sleep_select(int ms)
{
	struct timeval tv = {.tv_usec = ms * 1000L};
	int r = select(0, NULL, NULL, NULL, &tv);

	CHECK(tv.tv_sec == 0 && tv.tv_usec == 0);
	return r;
}

static int sleep_pselect(int ms)
{
	struct timespec ts;

	return pselect(1, NULL, NULL, NULL, timespec_of(ms, &ts), NULL);
}

static void test_sleep(void)
{
	become_threaded();
	check_timeout(sleep_poll);
	check_timeout(sleep_ppoll);
	check_timeout(sleep_select);
	check_timeout(sleep_pselect);
}

static void test_errors(void)
{
	struct timespec bad = {.tv_nsec = 1000000000}, past = {.tv_sec = -1};
	struct timeval bad_tv = {.tv_sec = -1}, odd_tv = {.tv_usec = 1000001};
	struct epoll_event e;
	fd_set set;

	become_threaded();
	CHECK(pipe(fds) == 0);
	struct pollfd p = {.fd = fds[0], .events = POLLIN};
	CHECK(ppoll(&p, 1, &bad, NULL) == -1 && errno == EINVAL);
	CHECK(ppoll(NULL, 0, &past, NULL) == -1 && errno == EINVAL);
	CHECK(pselect(0, NULL, NULL, NULL, &bad, NULL) == -1 && errno == EINVAL);
	CHECK(select(0, NULL, NULL, NULL, &bad_tv) == -1 && errno == EINVAL);
	CHECK(select(-1, NULL, NULL, NULL, NULL) == -1 && errno == EINVAL);
	CHECK(select(0, NULL, NULL, NULL, &odd_tv) == 0);
	CHECK(epoll_wait(epoll_create1(0), &e, 0, 0) == -1 && errno == EINVAL);
	CHECK(epoll_wait(fds[0], &e, 1, 0) == -1 && errno == EINVAL);
	close(fds[0]);
	CHECK(poll(&p, 1, 0) == 1 && p.revents == POLLNVAL);
	FD_ZERO(&set);
	FD_SET(fds[0], &set);
	CHECK(select(fds[0] + 1, &set, NULL, NULL, NULL) == -1 && errno == EBADF);
}

/* --- with a mask ----------------------------------------------------------------------------- */

static _Atomic int n_handled;
static sigset_t mask_in_handler;

static void handler(int sig)
{
	(void)sig;
	n_handled++;
	pthread_sigmask(SIG_BLOCK, NULL, &mask_in_handler);
}

static int masked_ppoll(const sigset_t *mask)
{
	struct pollfd p = {.fd = fds[0], .events = POLLIN};
	struct timespec ts = {.tv_sec = 20};

	return ppoll(&p, 1, &ts, mask);
}

static int masked_pselect(const sigset_t *mask)
{
	return pselect(0, NULL, NULL, NULL, NULL, mask);
}

static int masked_epoll(const sigset_t *mask)
{
	struct epoll_event e;

	make_epoll();
	return epoll_pwait(epfd, &e, 1, -1, mask);
}

struct masked {
	int (*wait)(const sigset_t *mask);
	bool pending; /* the signal is there before the wait */
};

static void *masked_thread(void *arg)
{
	struct masked *m = arg;
	sigset_t none, now;
	int before = n_handled;

	sigemptyset(&none);
	if (m->pending) {
		CHECK_OK(pthread_kill(pthread_self(), SIGUSR1));
		sleep_ms(5);
		CHECK(n_handled == before);
	}
	CHECK(m->wait(&none) == -1 && errno == EINTR);
	CHECK(n_handled > before);
	/* The wait's mask and the signal itself, in the handler; one's own, afterwards. */
	CHECK(sigismember(&mask_in_handler, SIGUSR1));
	CHECK_OK(pthread_sigmask(SIG_BLOCK, NULL, &now));
	CHECK(sigismember(&now, SIGUSR1));
	return arg;
}

static void check_masked(int (*wait)(const sigset_t *mask))
{
	struct masked m = {.wait = wait, .pending = true};

	in_thread(masked_thread, &m);
	struct masked late = {.wait = wait};
	pthread_t thread = start(masked_thread, &late);
	int before = n_handled;
	while (n_handled == before) {
		CHECK_OK(pthread_kill(thread, SIGUSR1));
		sleep_ms(5);
	}
	join(thread);
}

static void test_masks(void)
{
	struct sigaction act = {.sa_handler = handler, .sa_flags = SA_RESTART};
	sigset_t usr1;

	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	/* Inherited: it is handled in the waits and nowhere else. */
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	CHECK_OK(pthread_sigmask(SIG_BLOCK, &usr1, NULL));
	CHECK(pipe(fds) == 0);
	check_masked(masked_ppoll);
	check_masked(masked_pselect);
	check_masked(masked_epoll);
}

/* --- many -------------------------------------------------------------------------------------- */

enum { N_PAIRS = 60 };

static void *echo(void *arg)
{
	int *fd = arg;
	char c;

	while (read(*fd, &c, 1) == 1)
		CHECK(send(*fd, &c, 1, 0) == 1);
	return NULL;
}

/* As many threads as pairs wait in read, and one in poll over all of them. */
static void test_many(void)
{
	static int ends[N_PAIRS][2];
	static pthread_t threads[N_PAIRS];
	struct pollfd p[N_PAIRS];
	int n_left = N_PAIRS;
	char c;

	for (int i = 0; i < N_PAIRS; i++) {
		CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends[i]) == 0);
		threads[i] = start(echo, &ends[i][1]);
		p[i] = (struct pollfd){.fd = ends[i][0], .events = POLLIN};
	}
	for (int i = 0; i < N_PAIRS; i++)
		CHECK(write(ends[i][0], "x", 1) == 1);
	while (n_left > 0) {
		CHECK(poll(p, N_PAIRS, 20000) > 0);
		for (int i = 0; i < N_PAIRS; i++) {
			if (!(p[i].revents & POLLIN))
				continue;
			CHECK(read(p[i].fd, &c, 1) == 1 && c == 'x');
			close(p[i].fd);
			p[i].fd = -1;
			n_left--;
		}
	}
	for (int i = 0; i < N_PAIRS; i++)
		join(threads[i]);
}

/* --- what others do meanwhile ---------------------------------------------------------------- */

struct asking {
	struct pollfd *p;
	nfds_t n;
	fd_set *set;
	int result;
};

static void *poll_all(void *arg)
{
	struct asking *a = arg;

	a->result = poll(a->p, a->n, -1);
	return NULL;
}

static void *select_all(void *arg)
{
	struct asking *a = arg;

	a->result = select(fds[0] + 1, a->set, NULL, NULL, NULL);
	return NULL;
}

/* The kernel has a copy, so a thread that waits goes by what was there when it called. */
static void test_changed(void)
{
	enum { MANY = 20 };
	struct pollfd p[MANY];
	fd_set set;
	char c;

	for (nfds_t n = 1; n <= MANY; n += MANY - 1) {
		CHECK(pipe(fds) == 0);
		for (nfds_t i = 0; i < n; i++)
			p[i] = (struct pollfd){.fd = fds[0], .events = POLLIN};
		struct asking a = {.p = p, .n = n};
		pthread_t thread = start_waiting(poll_all, &a);
		for (nfds_t i = 0; i < n; i++)
			p[i] = (struct pollfd){.fd = i % 2 != 0 ? 1 << 30 : -1};
		CHECK(write(fds[1], "x", 1) == 1);
		join(thread);
		CHECK(a.result == (int)n);
		for (nfds_t i = 0; i < n; i++)
			CHECK(p[i].events == 0 && p[i].revents == POLLIN);
		CHECK(read(fds[0], &c, 1) == 1);
		close(fds[0]);
		close(fds[1]);
	}
	CHECK(pipe(fds) == 0);
	FD_ZERO(&set);
	FD_SET(fds[0], &set);
	struct asking a = {.set = &set};
	pthread_t thread = start_waiting(select_all, &a);
	FD_ZERO(&set);
	CHECK(write(fds[1], "x", 1) == 1);
	join(thread);
	CHECK(a.result == 1 && FD_ISSET(fds[0], &set));
}

static void ignore(int sig)
{
	(void)sig;
}

static int (*wait_here)(int ms);
static _Atomic bool is_over;

static void *wait_for_ever(void *arg)
{
	int r = wait_here(-1);

	CHECK(r == 1 || (r == -1 && errno == EINTR));
	is_over = true;
	return arg;
}

static void *write_soon(void *arg)
{
	sleep_ms(5);
	CHECK(write(fds[1], "x", 1) == 1);
	return arg;
}

/* Data wakes a thread that polls and one that reads.  The second is faster, takes the data and
 * signals the first: which has been woken, and so saw either the data or the signal. */
static void test_overtaken(void)
{
	static int (*const waits[])(int ms) = {wait_poll, wait_select, wait_epoll};
	struct sigaction act = {.sa_handler = ignore};
	char c;

	become_threaded();
	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	for (int i = 0; i < 30; i++) {
		CHECK(pipe(fds) == 0);
		epfd = -1;
		wait_here = waits[i % 3];
		is_over = false;
		pthread_t thread = start_waiting(wait_for_ever, NULL);
		pthread_t other = start(write_soon, NULL);
		CHECK(read(fds[0], &c, 1) == 1);
		CHECK_OK(pthread_kill(thread, SIGUSR1));
		join(thread);
		join(other);
		close(fds[0]);
		close(fds[1]);
	}
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	    {"poll", test_poll},           {"ppoll", test_ppoll},
	    {"select", test_select},       {"pselect", test_pselect},
	    {"epoll", test_epoll},         {"sleep", test_sleep},
	    {"errors", test_errors},       {"masks", test_masks},
	    {"many", test_many},           {"changed", test_changed},
	    {"overtaken", test_overtaken},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
