/* SPDX-License-Identifier: MIT */
/*
 * waits.c: every call that waits for a descriptor, in every way that a wait can end.
 *
 * A row of the table says how to make something that the call waits for, the call, and what
 * lets it go on.  `waits HOW [CALL]` runs the rows, or one of them:
 *
 *	many	fifty threads wait at once, others go on meanwhile, and all get their answers;
 *		green, those that can park take no kernel threads
 *	cancel	cancelling ends the wait where that is a cancellation point, and only there
 *	signal	a handler ends it with EINTR, or it goes on, as SA_RESTART and signal(7) say
 *	nonblock	with O_NONBLOCK it does not wait at all
 *	timeout	SO_RCVTIMEO and SO_SNDTIMEO end it with EAGAIN, and any handler with EINTR
 *	close	green only: it ends with EBADF when another thread closes the descriptor
 */
#include <dirent.h>
#include <fcntl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "check.h"

enum { N_MANY = 50, SPARE_THREADS = 4, SIZE = 64 };

/* What one call waits for. */
struct end {
	int fd;    /* that it names */
	int other; /* by which it is satisfied */
	int third;
	pid_t child;
	_Atomic bool *done; /* the call has returned */
	char path[64];
};

enum {
	PARKS = 1,    /* takes no kernel thread, green */
	POINT = 2,    /* of cancellation */
	ONCE = 4,     /* ends after any handler */
	NONBLOCK = 8, /* obeys O_NONBLOCK */
	TIMED = 16,   /* obeys the socket's timeout */
	CLOSES = 32,  /* ends when its descriptor is closed */
};

struct row {
	const char *name;
	void (*make)(struct end *e);
	long (*call)(struct end *e);
	void (*satisfy)(struct end *e);
	long result;
	int flags;
};

/* --- things to wait for --------------------------------------------------------------------- */

static void use(struct end *e, const int fds[2], bool writes)
{
	e->fd = fds[writes];
	e->other = fds[!writes];
}

static void make_pipe(struct end *e)
{
	int fds[2];

	CHECK(pipe(fds) == 0);
	use(e, fds, false);
}

/* Writes until fd takes no more; false: it took nothing. */
static bool fill(int fd)
{
	static char block[65536];
	int flags = fcntl(fd, F_GETFL);
	bool took = false;

	CHECK(fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0);
	for (size_t size = sizeof(block); size > 0; size /= 2)
		while (write(fd, block, size) > 0)
			took = true;
	CHECK(errno == EAGAIN);
	CHECK(fcntl(fd, F_SETFL, flags) == 0);
	return took;
}

static void make_full_pipe(struct end *e)
{
	int fds[2];

	CHECK(pipe(fds) == 0);
	use(e, fds, true);
	fill(e->fd);
}

static void make_pair(struct end *e)
{
	int fds[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	use(e, fds, false);
}

static void make_full_pair(struct end *e)
{
	make_pair(e);
	fill(e->fd);
}

static void make_datagrams(struct end *e)
{
	int fds[2];

	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds) == 0);
	use(e, fds, false);
}

static void make_records(struct end *e)
{
	int fds[2];

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) == 0);
	use(e, fds, false);
}

static int tcp_listener(struct sockaddr_in *addr)
{
	socklen_t len = sizeof(*addr);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	*addr = (struct sockaddr_in){.sin_family = AF_INET,
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)addr, len) == 0 &&
	      listen(fd, 5) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)addr, &len) == 0);
	return fd;
}

static void make_tcp(struct end *e)
{
	struct sockaddr_in addr;
	int listener = tcp_listener(&addr);

	int size = 32768;

	e->other = socket(AF_INET, SOCK_STREAM, 0);
	/* Or the buffers would grow while somebody waits for room. */
	CHECK(setsockopt(e->other, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) == 0);
	CHECK(connect(e->other, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	e->fd = accept(listener, NULL, NULL);
	CHECK(e->fd >= 0);
	CHECK(setsockopt(e->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) == 0);
	close(listener);
}

static void make_full_tcp(struct end *e)
{
	make_tcp(e);
	/* The receiver packs what it has with its delayed acknowledgement, 40 ms later and on a
	   busy machine much more, and once more when the sender probes it, 200 ms later. */
	for (int quiet = 0; quiet < 16; quiet = fill(e->fd) ? 0 : quiet + 1)
		sleep_ms(20);
}

static void make_udp(struct end *e)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);

	e->fd = socket(AF_INET, SOCK_DGRAM, 0);
	e->other = socket(AF_INET, SOCK_DGRAM, 0);
	CHECK(bind(e->fd, (struct sockaddr *)&addr, len) == 0);
	CHECK(getsockname(e->fd, (struct sockaddr *)&addr, &len) == 0);
	CHECK(connect(e->other, (struct sockaddr *)&addr, len) == 0);
}

static void make_tcp_listener(struct end *e)
{
	struct sockaddr_in addr;

	e->fd = tcp_listener(&addr);
	e->other = -1;
}

static void make_unix_listener(struct end *e)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	e->fd = socket(AF_UNIX, SOCK_STREAM, 0);
	e->other = -1;
	/* The kernel finds a name, in its abstract space. */
	CHECK(bind(e->fd, (struct sockaddr *)&addr, sizeof(addr.sun_family)) == 0);
	CHECK(listen(e->fd, 5) == 0);
}

static void make_temporary(struct end *e)
{
	strcpy(e->path, "/tmp/waits.XXXXXX");
	e->fd = mkstemp(e->path);
	CHECK(e->fd >= 0);
}

static void make_fifo_name(struct end *e)
{
	make_temporary(e);
	close(e->fd);
	unlink(e->path);
	CHECK(mkfifo(e->path, 0600) == 0);
	e->fd = e->other = -1;
}

static void make_fifo(struct end *e)
{
	make_fifo_name(e);
	e->other = open(e->path, O_RDWR);
	e->fd = open(e->path, O_RDONLY);
	unlink(e->path);
}

static void make_full_fifo(struct end *e)
{
	make_fifo_name(e);
	e->other = open(e->path, O_RDWR);
	e->fd = open(e->path, O_WRONLY);
	unlink(e->path);
	fill(e->fd);
}

static void make_eventfd(struct end *e)
{
	e->fd = eventfd(0, 0);
	e->other = dup(e->fd);
}

static void make_full_eventfd(struct end *e)
{
	eventfd_t most = UINT64_MAX - 1;

	make_eventfd(e);
	CHECK(write(e->fd, &most, 8) == 8);
}

static void make_timer(struct end *e)
{
	e->fd = e->other = timerfd_create(CLOCK_MONOTONIC, 0);
}

static void make_inotify(struct end *e)
{
	make_temporary(e);
	e->other = e->fd;
	e->fd = inotify_init1(0);
	CHECK(inotify_add_watch(e->fd, e->path, IN_MODIFY) >= 0);
	unlink(e->path);
}

static void make_terminal(struct end *e)
{
	CHECK(openpty(&e->other, &e->fd, NULL, NULL, NULL) == 0);
}

static void make_queue(struct end *e, long messages)
{
	struct mq_attr attr = {.mq_maxmsg = 1, .mq_msgsize = SIZE};
	static _Atomic int n;

	snprintf(e->path, sizeof(e->path), "/waits.%d.%d", getpid(), n++);
	e->fd = mq_open(e->path, O_CREAT | O_RDWR, 0600, &attr);
	CHECK(e->fd >= 0);
	mq_unlink(e->path);
	e->other = dup(e->fd);
	for (; messages > 0; messages--)
		CHECK(mq_send(e->fd, "old", 3, 0) == 0);
}

static void make_empty_queue(struct end *e)
{
	make_queue(e, 0);
}

static void make_full_queue(struct end *e)
{
	make_queue(e, 1);
}

static void make_epoll(struct end *e)
{
	struct epoll_event event = {.events = EPOLLIN};

	make_pipe(e);
	e->third = e->fd;
	e->fd = epoll_create1(0);
	CHECK(epoll_ctl(e->fd, EPOLL_CTL_ADD, e->third, &event) == 0);
}

/* fd is the pipe to read from; third the one to write to. */
static void make_two_pipes(struct end *e)
{
	int fds[2];

	make_pipe(e);
	CHECK(pipe(fds) == 0);
	e->third = fds[1];
}

/* A file to send to a socket that is full. */
static void make_file_to_send(struct end *e)
{
	char path[] = "/tmp/waits.XXXXXX";

	make_full_pair(e);
	e->third = mkstemp(path);
	unlink(path);
	CHECK(write(e->third, "some text", 9) == 9);
	CHECK(lseek(e->third, 0, SEEK_SET) == 0);
}

static void make_locked_file(struct end *e)
{
	make_temporary(e);
	e->other = open(e->path, O_RDWR);
	unlink(e->path);
	CHECK(flock(e->other, LOCK_EX) == 0);
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	CHECK(fcntl(e->other, F_OFD_SETLK, &lock) == 0);
}

static void make_child(struct end *e)
{
	e->fd = e->other = -1;
	e->child = fork();
	CHECK(e->child >= 0);
	if (e->child == 0)
		for (;;)
			pause();
}

static void make_msg_queue(struct end *e)
{
	e->fd = e->other = -1;
	e->child = msgget(IPC_PRIVATE, 0600);
	CHECK(e->child >= 0);
}

static void make_semaphore(struct end *e)
{
	e->fd = e->other = -1;
	e->child = semget(IPC_PRIVATE, 1, 0600);
	CHECK(e->child >= 0);
}

/* --- satisfying --------------------------------------------------------------------------- */

static void put(struct end *e)
{
	CHECK(write(e->other, "abc\n", 4) == 4);
}

static void put_number(struct end *e)
{
	uint64_t n = 3;

	CHECK(write(e->other, &n, 8) == 8);
}

/* Makes room until all is written. */
static void drain(struct end *e)
{
	static char block[65536];
	int flags = fcntl(e->other, F_GETFL);

	CHECK(fcntl(e->other, F_SETFL, flags | O_NONBLOCK) == 0);
	long long limit = now_ms() + 20000;
	while (!*e->done) {
		CHECK(now_ms() < limit);
		if (read(e->other, block, sizeof(block)) < 0)
			sleep_ms(1);
	}
	CHECK(fcntl(e->other, F_SETFL, flags) == 0);
}

static void take_number(struct end *e)
{
	uint64_t n;

	CHECK(read(e->other, &n, 8) == 8);
}

static void let_expire(struct end *e)
{
	struct itimerspec soon = {.it_value.tv_nsec = 1000000};

	CHECK(timerfd_settime(e->fd, 0, &soon, NULL) == 0);
}

static void modify(struct end *e)
{
	CHECK(write(e->other, "x", 1) == 1);
}

static void call_listener(struct end *e)
{
	struct sockaddr_storage addr = {0};
	socklen_t len = sizeof(addr);

	CHECK(getsockname(e->fd, (struct sockaddr *)&addr, &len) == 0);
	e->other = socket(addr.ss_family, SOCK_STREAM, 0);
	CHECK(connect(e->other, (struct sockaddr *)&addr, len) == 0);
}

static void send_message(struct end *e)
{
	CHECK(mq_send(e->other, "abc", 3, 0) == 0);
}

static void take_message(struct end *e)
{
	char buf[SIZE];

	CHECK(mq_receive(e->other, buf, sizeof(buf), NULL) == 3);
}

static void open_other(struct end *e)
{
	e->other = open(e->path, O_WRONLY);
	CHECK(e->other >= 0);
	unlink(e->path);
}

static void unlock(struct end *e)
{
	struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

	CHECK(flock(e->other, LOCK_UN) == 0);
	CHECK(fcntl(e->other, F_OFD_SETLK, &lock) == 0);
}

static void end_child(struct end *e)
{
	CHECK(kill(e->child, SIGKILL) == 0);
}

struct message {
	long type;
	char text[SIZE];
};

static void send_msg(struct end *e)
{
	struct message m = {.type = 1, .text = "abc"};

	CHECK(msgsnd(e->child, &m, 3, 0) == 0);
}

static void raise_semaphore(struct end *e)
{
	struct sembuf op = {.sem_op = 1};

	CHECK(semop(e->child, &op, 1) == 0);
}

/* --- the calls ------------------------------------------------------------------------------ */

static struct iovec *two_parts(char *buf, struct iovec v[2])
{
	v[0] = (struct iovec){buf, 2};
	v[1] = (struct iovec){buf + 2, SIZE - 2};
	return v;
}

/* Writing calls write so much that it takes several tries. */
enum { BIG = 300000 };

static char *big(void)
{
	static char block[BIG];

	return block;
}

static struct iovec *two_big(struct iovec v[2])
{
	v[0] = (struct iovec){big(), 100000};
	v[1] = (struct iovec){big(), BIG - 100000};
	return v;
}

static long call_read(struct end *e)
{
	char buf[SIZE];

	return read(e->fd, buf, sizeof(buf));
}

static long call_readv(struct end *e)
{
	char buf[SIZE];
	struct iovec v[2];

	return readv(e->fd, two_parts(buf, v), 2);
}

static long call_preadv2(struct end *e)
{
	char buf[SIZE];
	struct iovec v[2];

	return preadv2(e->fd, two_parts(buf, v), 2, -1, 0);
}

static long call_eventfd_read(struct end *e)
{
	eventfd_t n = 0;

	return eventfd_read(e->fd, &n) == 0 ? (long)n : -1;
}

static long call_recv(struct end *e)
{
	char buf[SIZE];

	return recv(e->fd, buf, sizeof(buf), 0);
}

static long call_recvfrom(struct end *e)
{
	char buf[SIZE];
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);

	return recvfrom(e->fd, buf, sizeof(buf), 0, (struct sockaddr *)&addr, &len);
}

static long call_recvmsg(struct end *e)
{
	char buf[SIZE];
	struct iovec v[2];
	struct msghdr m = {.msg_iov = two_parts(buf, v), .msg_iovlen = 2};

	return recvmsg(e->fd, &m, 0);
}

static long call_recvmmsg(struct end *e)
{
	char buf[SIZE];
	struct iovec v[2];
	struct mmsghdr m = {.msg_hdr = {.msg_iov = two_parts(buf, v), .msg_iovlen = 2}};
	int n = recvmmsg(e->fd, &m, 1, 0, NULL);

	return n == 1 ? (long)m.msg_len : n;
}

static long call_write(struct end *e)
{
	return write(e->fd, big(), BIG);
}

static long call_writev(struct end *e)
{
	struct iovec v[2];

	return writev(e->fd, two_big(v), 2);
}

static long call_pwritev2(struct end *e)
{
	struct iovec v[2];

	return pwritev2(e->fd, two_big(v), 2, -1, 0);
}

static long call_write_one(struct end *e)
{
	return write(e->fd, "x", 1);
}

static long call_write_number(struct end *e)
{
	uint64_t n = 3;

	return write(e->fd, &n, 8);
}

static long call_eventfd_write(struct end *e)
{
	return eventfd_write(e->fd, 3);
}

static long call_send(struct end *e)
{
	return send(e->fd, big(), BIG, 0);
}

static long call_sendto(struct end *e)
{
	return sendto(e->fd, big(), BIG, MSG_NOSIGNAL, NULL, 0);
}

static long call_sendmsg(struct end *e)
{
	struct iovec v[2];
	struct msghdr m = {.msg_iov = two_big(v), .msg_iovlen = 2};

	return sendmsg(e->fd, &m, 0);
}

static long call_sendmmsg(struct end *e)
{
	struct iovec v[2];
	struct mmsghdr m[2] = {{.msg_hdr = {.msg_iov = two_big(v), .msg_iovlen = 2}}};

	m[1] = m[0];
	int n = sendmmsg(e->fd, m, 2, 0);
	return n == 2 ? (long)(m[0].msg_len + m[1].msg_len) : n;
}

static long fd_result(int fd)
{
	if (fd >= 0)
		close(fd);
	return fd < 0 ? -1 : 0;
}

static long call_accept(struct end *e)
{
	return fd_result(accept(e->fd, NULL, NULL));
}

static long call_accept4(struct end *e)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);

	return fd_result(accept4(e->fd, (struct sockaddr *)&addr, &len, SOCK_CLOEXEC));
}

static long call_poll(struct end *e)
{
	struct pollfd p[2] = {{.fd = e->fd, .events = POLLIN}, {.fd = -1}};

	return poll(p, 2, -1);
}

static long call_poll_long(struct end *e)
{
	struct pollfd p = {.fd = e->fd, .events = POLLIN | POLLRDHUP};

	return poll(&p, 1, 30000);
}

static long call_ppoll(struct end *e)
{
	struct pollfd p = {.fd = e->fd, .events = POLLIN};

	return ppoll(&p, 1, NULL, NULL);
}

static long call_poll_out(struct end *e)
{
	struct pollfd p = {.fd = e->fd, .events = POLLOUT};

	return poll(&p, 1, -1);
}

static long call_select(struct end *e)
{
	struct timeval tv = {.tv_sec = 30};
	fd_set set;

	FD_ZERO(&set);
	FD_SET(e->fd, &set);
	return select(e->fd + 1, &set, NULL, NULL, &tv);
}

static long call_pselect(struct end *e)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(e->fd, &set);
	return pselect(e->fd + 1, NULL, &set, NULL, NULL, NULL);
}

static long call_epoll_wait(struct end *e)
{
	struct epoll_event event;

	return epoll_wait(e->fd, &event, 1, -1);
}

static long call_epoll_pwait(struct end *e)
{
	struct epoll_event event;

	return epoll_pwait(e->fd, &event, 1, 30000, NULL);
}

static long call_epoll_pwait2(struct end *e)
{
	struct timespec ts = {.tv_sec = 30};
	struct epoll_event event;

	return epoll_pwait2(e->fd, &event, 1, &ts, NULL);
}

static long call_splice(struct end *e)
{
	return splice(e->fd, NULL, e->third, NULL, 4, 0);
}

static long call_tee(struct end *e)
{
	return tee(e->fd, e->third, 4, 0);
}

static long call_vmsplice(struct end *e)
{
	struct iovec v = {big(), 10};

	return vmsplice(e->fd, &v, 1, 0);
}

static long call_sendfile(struct end *e)
{
	return sendfile(e->fd, e->third, NULL, 100);
}

static long call_mq_receive(struct end *e)
{
	char buf[SIZE];
	unsigned prio;

	return mq_receive(e->fd, buf, sizeof(buf), &prio);
}

static long call_mq_timedreceive(struct end *e)
{
	char buf[SIZE];
	struct timespec ts = {0};

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += 30;
	return mq_timedreceive(e->fd, buf, sizeof(buf), NULL, &ts);
}

static long call_mq_send(struct end *e)
{
	return mq_send(e->fd, "abc", 3, 0);
}

static long call_open(struct end *e)
{
	return fd_result(open(e->path, O_RDONLY));
}

static long call_openat(struct end *e)
{
	return fd_result(openat(AT_FDCWD, e->path, O_RDONLY));
}

static long call_flock(struct end *e)
{
	return flock(e->fd, LOCK_EX);
}

static long call_lockf(struct end *e)
{
	return lockf(e->fd, F_LOCK, 0);
}

static long call_fcntl(struct end *e)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	return fcntl(e->fd, F_OFD_SETLKW, &lock);
}

static long call_waitpid(struct end *e)
{
	return waitpid(e->child, NULL, 0) == e->child ? 0 : -1;
}

static long call_waitid(struct end *e)
{
	siginfo_t info;

	return waitid(P_PID, (id_t)e->child, &info, WEXITED);
}

static long call_wait4(struct end *e)
{
	struct rusage usage;

	return wait4(e->child, NULL, 0, &usage) == e->child ? 0 : -1;
}

static long call_msgrcv(struct end *e)
{
	struct message m;

	return msgrcv(e->child, &m, sizeof(m.text), 0, 0);
}

static long call_semop(struct end *e)
{
	struct sembuf op = {.sem_op = -1};

	return semop(e->child, &op, 1);
}

static long call_semtimedop(struct end *e)
{
	struct sembuf op = {.sem_op = -1};
	struct timespec ts = {.tv_sec = 30};

	return semtimedop(e->child, &op, 1, &ts);
}

/* The same by syscall(2): none is a cancellation point. */
static long raw_read(struct end *e)
{
	char buf[SIZE];

	return syscall(SYS_read, e->fd, buf, sizeof(buf));
}

static long raw_write(struct end *e)
{
	return syscall(SYS_write, e->fd, big(), BIG);
}

static long raw_recvfrom(struct end *e)
{
	char buf[SIZE];

	return syscall(SYS_recvfrom, e->fd, buf, sizeof(buf), 0, NULL, NULL);
}

static long raw_sendto(struct end *e)
{
	return syscall(SYS_sendto, e->fd, big(), (size_t)BIG, 0, NULL, 0);
}

static long raw_accept4(struct end *e)
{
	/* Not closed: that would be a cancellation point. */
	return syscall(SYS_accept4, e->fd, NULL, NULL, 0) >= 0 ? 0 : -1;
}

static long raw_poll(struct end *e)
{
	struct pollfd p = {.fd = e->fd, .events = POLLIN};

	return syscall(SYS_poll, &p, 1L, -1L);
}

static long raw_ppoll(struct end *e)
{
	struct pollfd p = {.fd = e->fd, .events = POLLIN};
	struct timespec ts = {.tv_sec = 30};
	long r = syscall(SYS_ppoll, &p, 1L, &ts, NULL, 8L);

	CHECK(ts.tv_sec < 30);
	return r;
}

static long raw_select(struct end *e)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(e->fd, &set);
	return syscall(SYS_pselect6, (long)e->fd + 1, &set, NULL, NULL, NULL, NULL);
}

static long raw_epoll_wait(struct end *e)
{
	struct epoll_event event;

	return syscall(SYS_epoll_wait, (long)e->fd, &event, 1L, -1L);
}

#define IN_SOCKET (PARKS | POINT | NONBLOCK | TIMED | CLOSES)
#define PLAIN (PARKS | POINT | NONBLOCK | CLOSES)
#define SEVERAL (PARKS | POINT | ONCE)

static const struct row rows[] = {
    {"read pipe", make_pipe, call_read, put, 4, PLAIN},
    {"read socket", make_pair, call_read, put, 4, IN_SOCKET},
    {"read tcp", make_tcp, call_read, put, 4, IN_SOCKET},
    {"read seqpacket", make_records, call_read, put, 4, IN_SOCKET},
    {"read fifo", make_fifo, call_read, put, 4, PLAIN},
    {"read eventfd", make_eventfd, call_read, put_number, 8, PLAIN},
    {"read timerfd", make_timer, call_read, let_expire, 8, PLAIN},
    {"read inotify", make_inotify, call_read, modify, sizeof(struct inotify_event),
     PLAIN},
    {"read terminal", make_terminal, call_read, put, 4, PLAIN},
    {"readv pipe", make_pipe, call_readv, put, 4, PLAIN},
    {"readv socket", make_pair, call_readv, put, 4, IN_SOCKET},
    {"preadv2 pipe", make_pipe, call_preadv2, put, 4, PLAIN},
    {"eventfd_read", make_eventfd, call_eventfd_read, put_number, 3, PLAIN},
    {"recv", make_pair, call_recv, put, 4, IN_SOCKET},
    {"recv datagram", make_datagrams, call_recv, put, 4, IN_SOCKET},
    {"recvfrom udp", make_udp, call_recvfrom, put, 4, IN_SOCKET},
    {"recvmsg", make_pair, call_recvmsg, put, 4, IN_SOCKET},
    {"recvmmsg", make_datagrams, call_recvmmsg, put, 4, IN_SOCKET},
    {"write pipe", make_full_pipe, call_write, drain, BIG, PLAIN},
    {"write socket", make_full_pair, call_write, drain, BIG, IN_SOCKET},
    {"write tcp", make_full_tcp, call_write, drain, BIG, IN_SOCKET},
    {"write fifo", make_full_fifo, call_write, drain, BIG, PLAIN},
    {"write one pipe", make_full_pipe, call_write_one, drain, 1, PLAIN},
    {"write eventfd", make_full_eventfd, call_write_number, take_number, 8, PLAIN},
    {"writev pipe", make_full_pipe, call_writev, drain, BIG, PLAIN},
    {"writev socket", make_full_pair, call_writev, drain, BIG, IN_SOCKET},
    {"writev fifo", make_full_fifo, call_writev, drain, BIG, PLAIN},
    {"pwritev2 pipe", make_full_pipe, call_pwritev2, drain, BIG, PLAIN},
    {"eventfd_write", make_full_eventfd, call_eventfd_write, take_number, 0, PLAIN},
    {"send", make_full_pair, call_send, drain, BIG, IN_SOCKET},
    {"sendto tcp", make_full_tcp, call_sendto, drain, BIG, IN_SOCKET},
    {"sendmsg", make_full_pair, call_sendmsg, drain, BIG, IN_SOCKET},
    {"sendmmsg", make_full_pair, call_sendmmsg, drain, 2 * BIG, IN_SOCKET},
    {"accept", make_unix_listener, call_accept, call_listener, 0, IN_SOCKET},
    {"accept4", make_tcp_listener, call_accept4, call_listener, 0, IN_SOCKET},
    {"poll", make_pipe, call_poll, put, 1, SEVERAL},
    {"poll with a timeout", make_pair, call_poll_long, put, 1, SEVERAL},
    {"poll out", make_full_pair, call_poll_out, drain, 1, SEVERAL},
    {"ppoll", make_tcp, call_ppoll, put, 1, SEVERAL},
    {"select", make_pipe, call_select, put, 1, SEVERAL},
    {"pselect", make_full_pipe, call_pselect, drain, 1, SEVERAL},
    {"epoll_wait", make_epoll, call_epoll_wait, put, 1, SEVERAL | CLOSES},
    {"epoll_pwait", make_epoll, call_epoll_pwait, put, 1, SEVERAL | CLOSES},
    {"epoll_pwait2", make_epoll, call_epoll_pwait2, put, 1, SEVERAL | CLOSES},
    {"splice", make_two_pipes, call_splice, put, 4, PLAIN},
    {"tee", make_two_pipes, call_tee, put, 4, PLAIN},
    {"vmsplice", make_full_pipe, call_vmsplice, drain, 10,
     PARKS | POINT | CLOSES}, /* without SPLICE_F_NONBLOCK it waits all the same */
    {"sendfile", make_file_to_send, call_sendfile, drain, 9, PARKS | NONBLOCK | CLOSES},
    {"mq_receive", make_empty_queue, call_mq_receive, send_message, 3, PLAIN},
    {"mq_timedreceive", make_empty_queue, call_mq_timedreceive, send_message, 3, PLAIN},
    {"mq_send", make_full_queue, call_mq_send, take_message, 0, PLAIN},
    {"open", make_fifo_name, call_open, open_other, 0, POINT},
    {"openat", make_fifo_name, call_openat, open_other, 0, POINT},
    {"flock", make_locked_file, call_flock, unlock, 0, 0},
    {"lockf", make_locked_file, call_lockf, unlock, 0, POINT},
    {"fcntl", make_locked_file, call_fcntl, unlock, 0, POINT},
    {"waitpid", make_child, call_waitpid, end_child, 0, POINT},
    {"waitid", make_child, call_waitid, end_child, 0, POINT},
    {"wait4", make_child, call_wait4, end_child, 0, POINT},
    {"msgrcv", make_msg_queue, call_msgrcv, send_msg, 3, POINT | ONCE},
    {"semop", make_semaphore, call_semop, raise_semaphore, 0, ONCE},
    {"semtimedop", make_semaphore, call_semtimedop, raise_semaphore, 0, ONCE},
    {"SYS_read", make_pipe, raw_read, put, 4, PARKS | NONBLOCK | CLOSES},
    {"SYS_write", make_full_pipe, raw_write, drain, BIG, PARKS | NONBLOCK | CLOSES},
    {"SYS_recvfrom", make_tcp, raw_recvfrom, put, 4, PARKS | NONBLOCK | TIMED | CLOSES},
    {"SYS_sendto", make_full_pair, raw_sendto, drain, BIG, PARKS | NONBLOCK | CLOSES},
    {"SYS_accept4", make_tcp_listener, raw_accept4, call_listener, 0,
     PARKS | NONBLOCK | TIMED | CLOSES},
    {"SYS_poll", make_pipe, raw_poll, put, 1, PARKS | ONCE},
    {"SYS_ppoll", make_pipe, raw_ppoll, put, 1, PARKS | ONCE},
    {"SYS_pselect6", make_pipe, raw_select, put, 1, PARKS | ONCE},
    {"SYS_epoll_wait", make_epoll, raw_epoll_wait, put, 1, PARKS | ONCE | CLOSES},
};
enum { N_ROWS = sizeof(rows) / sizeof(rows[0]) };

/* --- one wait ------------------------------------------------------------------------------- */

struct wait {
	const struct row *row;
	pthread_t thread;
	long result;
	struct end end;
	int error;
	_Atomic bool done;
	_Atomic int tid; /* of the kernel thread on which it began */
};

/* Whether the call did what it should: less, of a stream, when the fault injector says so. */
static bool is_fine(const struct wait *w)
{
	const char *shake = getenv("PGREEN_SHAKE");

	if (w->result == w->row->result)
		return true;
	return shake != NULL && strstr(shake, "io") != NULL && w->row->satisfy == put &&
	       w->result > 0 && w->result < w->row->result;
}

/* Of the row that is being run: CHECK names only the line. */
#define EXPECT(w, condition)                                                    \
	do {                                                                    \
		if (!(condition)) {                                             \
			fprintf(stderr, "%s: %s:%d: %s (result %ld, %s)\n",     \
				(w)->row->name, __FILE__, __LINE__, #condition, \
				(w)->result, strerror((w)->error));             \
			_exit(1);                                               \
		}                                                               \
	} while (0)

static void *waiter(void *arg)
{
	struct wait *w = arg;

	w->tid = kernel_tid();
	errno = 0;
	w->result = w->row->call(&w->end);
	w->error = errno;
	w->done = true;
	return NULL;
}

static void make_only(struct wait *w, const struct row *row)
{
	*w = (struct wait){.row = row};
	row->make(&w->end);
	w->end.done = &w->done;
}

static void begin(struct wait *w, const struct row *row)
{
	make_only(w, row);
	w->thread = start(waiter, w);
}

static void end(struct wait *w)
{
	if (w->end.fd >= 0)
		close(w->end.fd);
	if (w->end.other >= 0 && w->end.other != w->end.fd)
		close(w->end.other);
	if (w->end.third > 0)
		close(w->end.third);
	if (w->row->make == make_msg_queue)
		msgctl(w->end.child, IPC_RMID, NULL);
	if (w->row->make == make_semaphore)
		semctl(w->end.child, 0, IPC_RMID);
}

/* What waits for a child has it gone; who was interrupted or cancelled has not. */
static void bury(struct wait *w)
{
	if (w->row->make == make_child) {
		kill(w->end.child, SIGKILL);
		waitpid(w->end.child, NULL, 0);
	}
	if (w->row->make == make_fifo_name)
		unlink(w->end.path);
	end(w);
}

static bool is_green(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return preload != NULL && strstr(preload, "libpgreen") != NULL;
}

static int kernel_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	int n = 0;

	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n - 2;
}

static void until_in_wait(struct wait *w)
{
	until_waits(&w->tid);
	EXPECT(w, !w->done);
}

static int procs(void)
{
	const char *text = getenv("GOMAXPROCS");

	return text != NULL ? atoi(text) : (int)sysconf(_SC_NPROCESSORS_ONLN);
}

/* --- in all the ways ------------------------------------------------------------------------- */

static void run_many(const struct row *row)
{
	static struct wait waits[N_MANY];
	/* Some are bounded by the system, for all its users; some take long to make. */
	int n = row->make == make_full_tcp || row->make == make_inotify ||
			row->make == make_msg_queue || row->make == make_semaphore ||
			row->make == make_empty_queue || row->make == make_full_queue
		    ? 8
		    : N_MANY;

	for (int i = 0; i < n; i++)
		begin(&waits[i], row);
	for (int i = 0; i < n; i++)
		while (waits[i].tid == 0)
			sleep_ms(1);
	sleep_ms(20);
	for (int i = 0; i < n; i++)
		EXPECT(&waits[i], !waits[i].done);
	/* Workers that an earlier row has needed go away after a second. */
	long long patience = now_ms() + 5000;
	while (is_green() && (row->flags & PARKS) &&
	       kernel_threads() > procs() + SPARE_THREADS) {
		EXPECT(&waits[0], now_ms() < patience);
		sleep_ms(20);
	}
	/* From the middle, so that they do not come in order. */
	for (int i = 0; i < n; i++)
		row->satisfy(&waits[(i + n / 2) % n].end);
	for (int i = 0; i < n; i++) {
		join(waits[i].thread);
		EXPECT(&waits[i], is_fine(&waits[i]));
		end(&waits[i]);
	}
}

static _Atomic int n_handled;

static int null;

/* Makes calls of its own, as those do that write to a pipe of the program's loop. */
static void handler(int sig)
{
	char c;

	(void)sig;
	CHECK(write(null, "x", 1) == 1);
	CHECK(read(null, &c, 1) == 0);
	CHECK(poll(NULL, 0, 0) == 0);
	n_handled++;
}

static void handle(int flags)
{
	struct sigaction act = {.sa_handler = handler, .sa_flags = flags};

	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
}

/* Signals until the call returns, or n handlers have run. */
static void rain(struct wait *w, int n)
{
	int first = n_handled;
	long long end = now_ms() + 20000;

	while (!w->done && n_handled - first < n) {
		EXPECT(w, now_ms() < end);
		CHECK_OK(pthread_kill(w->thread, SIGUSR1));
		sleep_ms(1);
	}
}

static void run_cancel(const struct row *row)
{
	static struct wait w;
	void *result;

	begin(&w, row);
	until_in_wait(&w);
	/* A handler and its calls in the middle change nothing. */
	handle(SA_RESTART);
	if (!(row->flags & ONCE))
		rain(&w, 1);
	sleep_ms(5);
	CHECK_OK(pthread_cancel(w.thread));
	if (!(row->flags & POINT)) {
		sleep_ms(20);
		EXPECT(&w, !w.done);
		row->satisfy(&w.end);
	}
	CHECK_OK(pthread_join(w.thread, &result));
	/* Without a point it came to the end of its life. */
	EXPECT(&w, (result == PTHREAD_CANCELED) == ((row->flags & POINT) != 0));
	EXPECT(&w, (row->flags & POINT) || is_fine(&w));
	bury(&w);
}

static void expect_eintr(struct wait *w)
{
	rain(w, 1 << 30);
	join(w->thread);
	EXPECT(w, w->result == -1 && w->error == EINTR);
	bury(w);
}

static void run_signal(const struct row *row)
{
	static struct wait w;

	handle(0);
	begin(&w, row);
	expect_eintr(&w);
	handle(SA_RESTART);
	begin(&w, row);
	/* inotify's own: not restarted by old kernels, says signal(7); it is by ours. */
	if (row->flags & ONCE) {
		expect_eintr(&w);
		return;
	}
	rain(&w, 10);
	EXPECT(&w, !w.done);
	row->satisfy(&w.end);
	join(w.thread);
	EXPECT(&w, is_fine(&w));
	end(&w);
}

static void *call_now(void *arg)
{
	return waiter(arg);
}

static void run_nonblock(const struct row *row)
{
	static struct wait w;

	if (!(row->flags & NONBLOCK))
		return;
	for (int i = 0; i < 2; i++) {
		make_only(&w, row);
		CHECK(fcntl(w.end.fd, F_SETFL, fcntl(w.end.fd, F_GETFL) | O_NONBLOCK) ==
		      0);
		in_thread(call_now, &w);
		EXPECT(&w, w.result == -1 && w.error == EAGAIN);
		/* And no more once it is cleared. */
		CHECK(fcntl(w.end.fd, F_SETFL, fcntl(w.end.fd, F_GETFL) & ~O_NONBLOCK) ==
		      0);
		w.tid = 0;
		w.done = false;
		w.thread = start(waiter, &w);
		sleep_ms(5);
		row->satisfy(&w.end);
		join(w.thread);
		EXPECT(&w, is_fine(&w));
		end(&w);
	}
}

static void set_timeout(struct wait *w, long ms)
{
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	CHECK(setsockopt(w->end.fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == 0);
	CHECK(setsockopt(w->end.fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) == 0);
}

static void run_timeout(const struct row *row)
{
	static struct wait w;

	if (!(row->flags & TIMED))
		return;
	make_only(&w, row);
	set_timeout(&w, 40);
	long long before = now_ms();
	in_thread(call_now, &w);
	long long took = now_ms() - before;
	EXPECT(&w, w.result == -1 && w.error == EAGAIN);
	/* Natively in the kernel's ticks, of 10 ms at most: one of them may be missing. */
	EXPECT(&w, took >= (is_green() ? 39 : 29));
	EXPECT(&w, took < 15000);
	end(&w);

	/* A wait with a timeout is not begun anew. */
	handle(SA_RESTART);
	make_only(&w, row);
	set_timeout(&w, 30000);
	w.thread = start(waiter, &w);
	expect_eintr(&w);

	make_only(&w, row);
	set_timeout(&w, 30000);
	w.thread = start(waiter, &w);
	sleep_ms(5);
	row->satisfy(&w.end);
	join(w.thread);
	EXPECT(&w, is_fine(&w));
	end(&w);
}

static void run_close(const struct row *row)
{
	static struct wait w;

	if (!(row->flags & CLOSES) || !is_green())
		return;
	begin(&w, row);
	until_in_wait(&w);
	/* The number is used again at once. */
	int null = open("/dev/null", O_RDWR), fd = w.end.fd;
	CHECK(dup2(null, fd) == fd);
	join(w.thread);
	EXPECT(&w, w.result == -1 && w.error == EBADF);
	close(null);
	end(&w);

	begin(&w, row);
	until_in_wait(&w);
	CHECK(close(w.end.fd) == 0);
	join(w.thread);
	EXPECT(&w, w.result == -1 && w.error == EBADF);
	w.end.fd = -1;
	end(&w);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(const struct row *row);
	} ways[] = {
	    {"many", run_many},         {"cancel", run_cancel},   {"signal", run_signal},
	    {"nonblock", run_nonblock}, {"timeout", run_timeout}, {"close", run_close},
	};
	const char *how = argc > 1 ? argv[1] : "", *which = argc > 2 ? argv[2] : NULL;
	int n = 0;

	signal(SIGPIPE, SIG_IGN);
	null = open("/dev/null", O_RDWR);
	become_threaded();
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		if (strcmp(how, ways[i].name) != 0)
			continue;
		for (int j = 0; j < N_ROWS; j++) {
			if (which != NULL && strcmp(which, rows[j].name) != 0)
				continue;
			if (getenv("WAITS_VERBOSE"))
				fprintf(stderr, "%s %s\n", how, rows[j].name);
			ways[i].run(&rows[j]);
			n++;
		}
	}
	if (n == 0)
		fprintf(stderr,
			"usage: %s many|cancel|signal|nonblock|timeout|close [CALL]\n",
			argv[0]);
	return n == 0 ? 2 : 0;
}
