/* SPDX-License-Identifier: MIT */
/*
 * client: many connections to echo or http at once, every byte of the answers verified.
 *
 * Opens all connections, asks once on each, and then goes on with so many requests in
 * flight, each on the connection that has waited longest.  One thread and one epoll, so
 * that it holds ten thousand connections for little more than their sockets.
 *
 * To echo it sends messages cut from noise, another piece each time; of http (-g) it gets
 * a path, and compares with the file that is expected there.  Of the server whose process
 * id it knows (-p) it tells what the requests cost it, and what the connections.
 *
 * usage: client [OPTION]... [ADDRESS:]PORT	on 127.0.0.1
 *	-c CONNECTIONS	how many (64)
 *	-m REQUESTS	in flight at a time (64)
 *	-n REQUESTS	in all, after the first on each (10000)
 *	-t SECONDS	instead: as many as there are in that time
 *	-s SIZE		of a message to echo (32)
 *	-g PATH -b FILE	get that path of http; the file has what is expected
 *	-i SECONDS	first holds the connections, idle, for so long
 *	-p PID		the server's process id
 *	-j		JSON instead of the lines below
 * prints, where -n says how many:
 *	64 connections, 10064 requests, 322048 bytes verified, 0 errors
 * and on stderr the requests per second, how long they took, and what the server used.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	N_CONNECTING = 128, /* at a time: fewer than any server's backlog */
	N_SOURCES = 200,    /* 127.0.0.1 to 127.0.0.200: each has 28,000 ports or so */
	N_NOISE = 1 << 16,  /* where a message may begin */
	MESSAGE_MAX = 1 << 24,
	HEAD_MAX = 1024, /* of an answer's head */
	N_EVENTS = 256,
	STALL_S = 30,    /* without any answer: then something hangs */
	SETTLE_MS = 300, /* before the look at the server's memory */
	LOOK_MS = 50,    /* between looks at its kernel threads */
	SUB_BITS = 5,    /* of a latency that are kept: 3 % */
	N_BUCKETS = 64 << SUB_BITS,
	EXIT_CANNOT_RUN = 77,
};

typedef int64_t ns_t;

static const ns_t SECOND = 1000000000;
static const ns_t MILLISECOND = 1000000;

struct connection {
	int fd;
	enum { UNCONNECTED, CONNECTING, IDLE, BUSY, DEAD } state;
	uint32_t n_asked;    /* requests that were begun */
	uint32_t n_sent;     /* bytes of the request */
	uint32_t n_received; /* bytes of the answer, without its head */
	uint32_t n_head;     /* bytes of its head; HEAD_MAX when that is done */
	char *head;
	ns_t begin;
};

static struct {
	int n_connections, n_in_flight;
	long n_requests;
	double seconds, idle;
	uint32_t size; /* of a message, or of what is got */
	const char *path, *file;
	int pid;
	bool json;
	struct sockaddr_in address;
} want = {.n_connections = 64, .n_in_flight = 64, .n_requests = 10000, .size = 32};

static struct connection *connections;
static int *idle; /* a ring of connections, the longest idle first */
static int first_idle, n_idle;
static int n_connecting, n_in_flight, n_open, source;
static int epoll_fd;
static ns_t last_progress;
static int peak_threads;

static const char *request; /* to http */
static uint32_t request_size;
static char *expected; /* noise, or the file */
static char scratch[1 << 16];

static uint64_t n_answers, n_bytes, n_errors;
static uint64_t latencies[N_BUCKETS];

/* ---- small things ---- */

static void fail(const char *what, int error)
{
	fprintf(stderr, "client: %s: %s\n", what, strerror(error));
	exit(EXIT_FAILURE);
}

static void *allocate(size_t n, size_t size)
{
	void *memory = calloc(n, size);

	if (!memory)
		fail("calloc", ENOMEM);
	return memory;
}

static ns_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * SECOND + ts.tv_nsec;
}

/* splitmix64's mixing function (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

/* ---- latencies: a histogram with SUB_BITS bits of each ---- */

static void add_latency(uint64_t ns)
{
	int high = ns ? 63 - __builtin_clzll(ns) : 0;
	int shift = high > SUB_BITS ? high - SUB_BITS : 0;

	latencies[((uint64_t)shift << SUB_BITS) + (ns >> shift)]++;
}

/* The middle of the bucket that holds it, in µs. */
static double latency_us(double share, uint64_t n_measured)
{
	uint64_t rank = (uint64_t)(share * (double)n_measured), n = 0;
	int i = 0;

	if (n_measured == 0)
		return 0;
	while (i < N_BUCKETS - 1 && (n += latencies[i]) <= rank)
		i++;
	int shift = i >> SUB_BITS > 0 ? (i >> SUB_BITS) - 1 : 0;
	uint64_t low = (uint64_t)(i - (shift << SUB_BITS)) << shift;
	return ((double)low + (double)(1ULL << shift) / 2) / 1e3;
}

/* ---- what the server uses ---- */

/* In KiB.  The last two are known only for the whole machine: a noisy neighbour shows in
 * them. */
struct usage {
	long rss, page_tables, kernel_stack, slab;
};

static long read_field(const char *path, const char *name)
{
	FILE *file = fopen(path, "r");
	char line[256];
	long value = 0;

	if (!file)
		fail(path, errno);
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, name, strlen(name)) == 0)
			value = strtol(line + strlen(name), NULL, 10);
	fclose(file);
	return value;
}

static const char *server_status(void)
{
	static char path[64];

	snprintf(path, sizeof(path), "/proc/%d/status", want.pid);
	return path;
}

static struct usage usage_now(void)
{
	if (!want.pid)
		return (struct usage){0};
	return (struct usage){
	    .rss = read_field(server_status(), "VmRSS:"),
	    .page_tables = read_field(server_status(), "VmPTE:"),
	    .kernel_stack = read_field("/proc/meminfo", "KernelStack:"),
	    .slab = read_field("/proc/meminfo", "Slab:"),
	};
}

static void look_at_threads(void)
{
	int n = want.pid ? (int)read_field(server_status(), "Threads:") : 0;

	if (n > peak_threads)
		peak_threads = n;
}

/* The CPU time of the server and all its threads, those that ended with them. */
static ns_t server_cpu(void)
{
	struct timespec ts;
	clockid_t clock;
	int error;

	if (!want.pid)
		return 0;
	error = clock_getcpuclockid(want.pid, &clock);
	if (error || clock_gettime(clock, &ts))
		fail("the server's CPU time", error ? error : errno);
	return ts.tv_sec * SECOND + ts.tv_nsec;
}

/* ---- a connection's life ---- */

static void lose(struct connection *c, const char *why)
{
	if (n_errors++ < 5)
		fprintf(stderr, "client: connection %d, request %u: %s\n",
			(int)(c - connections) + 1, c->n_asked, why);
	if (c->state == CONNECTING)
		n_connecting--;
	else
		n_open--;
	if (c->state == BUSY)
		n_in_flight--;
	c->state = DEAD;
	close(c->fd);
}

static void become_idle(struct connection *c)
{
	c->state = IDLE;
	idle[(first_idle + n_idle++) % want.n_connections] = (int)(c - connections);
}

/* The longest idle one that still lives, or NULL. */
static struct connection *take_idle(void)
{
	while (n_idle > 0) {
		struct connection *c = &connections[idle[first_idle]];
		first_idle = (first_idle + 1) % want.n_connections;
		n_idle--;
		if (c->state == IDLE)
			return c;
	}
	return NULL;
}

/* From another address of ours, once all ports of the first are taken. */
static void bind_source(int fd)
{
	struct sockaddr_in from = {
	    .sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK + source),
	};

	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){1}, sizeof(int));
	if (bind(fd, (struct sockaddr *)&from, sizeof(from)))
		fail("bind", errno);
}

static int try_connect(int fd)
{
	if (source)
		bind_source(fd);
	if (connect(fd, (struct sockaddr *)&want.address, sizeof(want.address)) == 0)
		return 0;
	return errno == EINPROGRESS ? 0 : errno;
}

/* All sockets are there before the first look at memory: what the kernel takes for our end
 * of the connections is not the server's. */
static void make_socket(struct connection *c)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
				    .data.u32 = (uint32_t)(c - connections)};

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		fail("socket", errno);
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event))
		fail("epoll_ctl", errno);
}

static void begin_connecting(struct connection *c)
{
	c->state = CONNECTING;
	n_connecting++;

	int error = try_connect(c->fd);
	while (error == EADDRNOTAVAIL && source < N_SOURCES - 1) {
		source++;
		error = try_connect(c->fd);
	}
	if (error)
		lose(c, strerror(error));
}

static void finish_connecting(struct connection *c)
{
	int error = 0;
	socklen_t size = sizeof(error);

	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error) {
		lose(c, strerror(error));
		return;
	}
	n_connecting--;
	n_open++;
	become_idle(c);
}

/* ---- requests and answers ---- */

/* Where the current message lies in the noise. */
static const char *message_of(const struct connection *c)
{
	uint64_t key = (uint64_t)(c - connections) << 32 | c->n_asked;

	return expected + mix(key) % N_NOISE;
}

static void send_more(struct connection *c)
{
	uint32_t size = want.path ? request_size : want.size;
	const char *data = want.path ? request : message_of(c);

	while (c->n_sent < size) {
		ssize_t n = send(c->fd, data + c->n_sent, size - c->n_sent, MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			lose(c, strerror(errno));
			return;
		}
		c->n_sent += n;
	}
}

static void begin_request(struct connection *c)
{
	c->state = BUSY;
	n_in_flight++;
	c->n_asked++;
	c->n_sent = c->n_received = c->n_head = 0;
	c->begin = now();
	send_more(c);
}

static void end_request(struct connection *c)
{
	last_progress = now();
	add_latency(last_progress - c->begin);
	n_answers++;
	n_bytes += want.size;
	n_in_flight--;
	become_idle(c);
}

/* What is wrong with an answer's head, or NULL. */
static const char *check_head(const char *head)
{
	static const char name[] = "\r\nContent-Length:";
	const size_t length = sizeof(name) - 1;

	if (strncmp(head, "HTTP/1.1 200 ", 13) != 0)
		return "the answer is not 200";
	while ((head = strstr(head, "\r\n")) && strncasecmp(head, name, length) != 0)
		head += 2;
	if (!head || strtoul(head + length, NULL, 10) != want.size)
		return "another Content-Length than the file's size";
	return NULL;
}

/* Takes a head's bytes from *data on; the rest is the body's.  False when it is bad. */
static bool take_head(struct connection *c, const char **data, size_t *n)
{
	const char *why = NULL;

	if (!c->head)
		c->head = allocate(1, HEAD_MAX);
	for (; *n > 0 && c->n_head < HEAD_MAX && !why; --*n) {
		if (c->n_head == HEAD_MAX - 1) {
			why = "the answer's head is too long";
			break;
		}
		c->head[c->n_head++] = *(*data)++;
		if (c->n_head >= 4 &&
		    memcmp(c->head + c->n_head - 4, "\r\n\r\n", 4) == 0) {
			c->head[c->n_head] = 0;
			why = check_head(c->head);
			c->n_head = HEAD_MAX;
		}
	}
	if (why)
		lose(c, why);
	return !why;
}

/* False when the connection was lost. */
static bool take_answer(struct connection *c, const char *data, size_t n)
{
	const char *body = want.path ? expected : message_of(c);

	if (c->state != BUSY) {
		lose(c, "bytes that nobody asked for");
		return false;
	}
	if (want.path && c->n_head < HEAD_MAX && !take_head(c, &data, &n))
		return false;
	if (n > want.size - c->n_received || memcmp(data, body + c->n_received, n) != 0) {
		lose(c, "other bytes than expected");
		return false;
	}
	c->n_received += n;
	if (c->n_received == want.size && (!want.path || c->n_head == HEAD_MAX))
		end_request(c);
	return true;
}

/* A short read has emptied the socket, unless the end is in there as well: of that there
 * will be no other event. */
static void receive(struct connection *c, bool has_end)
{
	ssize_t n;

	do {
		n = recv(c->fd, scratch, sizeof(scratch), 0);
		if (n == 0)
			lose(c, "the server closed it");
		else if (n < 0 && errno != EAGAIN)
			lose(c, strerror(errno));
		else if (n > 0 && !take_answer(c, scratch, n))
			return;
	} while (n == sizeof(scratch) || (n > 0 && has_end));
}

/* ---- all of them ---- */

static void handle(struct connection *c, uint32_t events)
{
	const uint32_t ends = EPOLLRDHUP | EPOLLHUP | EPOLLERR;

	if (c->state == CONNECTING)
		finish_connecting(c);
	if (c->state == BUSY && events & EPOLLOUT)
		send_more(c);
	if (c->state == BUSY || c->state == IDLE)
		if (events & (EPOLLIN | ends))
			receive(c, events & ends);
}

static void handle_events(int timeout_ms)
{
	struct epoll_event events[N_EVENTS];
	int n = epoll_wait(epoll_fd, events, N_EVENTS, timeout_ms);

	if (n < 0 && errno != EINTR)
		fail("epoll_wait", errno);
	for (int i = 0; i < n; i++)
		handle(&connections[events[i].data.u32], events[i].events);
	if (n > 0 || n_in_flight + n_connecting == 0)
		last_progress = now();
	else if (now() - last_progress > STALL_S * SECOND) {
		fprintf(
		    stderr,
		    "client: no answer for %d s: %d connecting, %d requests in flight\n",
		    STALL_S, n_connecting, n_in_flight);
		exit(EXIT_FAILURE);
	}
}

static void connect_all(void)
{
	int i = 0;

	while (i < want.n_connections || n_connecting > 0) {
		while (i < want.n_connections && n_connecting < N_CONNECTING)
			begin_connecting(&connections[i++]);
		if (n_connecting > 0)
			handle_events(1000);
	}
}

/* So many requests, or until a time, with so many of them in flight. */
static void ask(long n, ns_t until)
{
	ns_t next_look = now();

	while (n > 0 || n_in_flight > 0) {
		struct connection *c;
		while (n > 0 && n_in_flight < want.n_in_flight && (c = take_idle())) {
			begin_request(c);
			n--;
		}
		if (n_in_flight == 0)
			return; /* no connection is left */
		handle_events(1000);
		if (last_progress >= next_look) {
			look_at_threads();
			next_look = last_progress + LOOK_MS * MILLISECOND;
		}
		if (last_progress >= until)
			n = 0;
	}
}

static void hold(double seconds)
{
	ns_t left, end = now() + (ns_t)(seconds * 1e9);

	while (n_open > 0 && (left = end - now()) > 0)
		handle_events((int)(left / MILLISECOND + 1));
	look_at_threads();
}

/* ---- from the first to the last ---- */

struct result {
	uint64_t n_answers; /* in the measured time alone, as the next three */
	ns_t took, cpu;
	struct usage before, after;
};

static struct result run(void)
{
	struct result r;

	for (int i = 0; i < want.n_connections; i++)
		make_socket(&connections[i]);
	r.before = usage_now();
	connect_all();
	ask(n_open, INT64_MAX);
	if (want.pid)
		hold(SETTLE_MS / 1e3);
	r.after = usage_now();
	hold(want.idle);

	uint64_t answers_before = n_answers;
	memset(latencies, 0, sizeof(latencies));
	ns_t cpu = server_cpu(), begin = now();
	ask(want.n_requests,
	    want.seconds ? begin + (ns_t)(want.seconds * 1e9) : INT64_MAX);
	r.took = now() - begin;
	r.cpu = server_cpu() - cpu;
	r.n_answers = n_answers - answers_before;
	return r;
}

static double per_connection(long after, long before)
{
	return (double)(after - before) * 1024 / want.n_connections;
}

static void print_server(FILE *file, const struct result *r, const char *format)
{
	double rss = per_connection(r->after.rss, r->before.rss);
	double page_tables = per_connection(r->after.page_tables, r->before.page_tables);
	double stacks = per_connection(r->after.kernel_stack, r->before.kernel_stack);
	double slab = per_connection(r->after.slab, r->before.slab);
	double cpu_us = r->n_answers ? (double)r->cpu / 1e3 / (double)r->n_answers : 0;

	fprintf(file, format, cpu_us, peak_threads, rss + page_tables + stacks + slab,
		rss, page_tables, stacks, slab);
}

static void print_result(const struct result *r)
{
	double rate = (double)r->n_answers * 1e9 / (double)r->took;
	double p50 = latency_us(0.5, r->n_answers), p99 = latency_us(0.99, r->n_answers);

	if (want.json) {
		printf(
		    "{\"connections\": %d, \"in_flight\": %d, \"requests\": %ju, "
		    "\"bytes\": %ju, \"errors\": %ju,\n \"seconds\": %.3f, "
		    "\"requests_per_second\": %.0f, \"p50_us\": %.1f, \"p99_us\": %.1f",
		    want.n_connections, want.n_in_flight, n_answers, n_bytes, n_errors,
		    (double)r->took / 1e9, rate, p50, p99);
		if (want.pid)
			print_server(stdout, r,
				     ",\n \"cpu_us\": %.2f, \"kernel_threads\": %d, "
				     "\"memory\": %.0f, \"rss\": %.0f, "
				     "\"page_tables\": %.0f, \"kernel_stack\": %.0f, "
				     "\"slab\": %.0f");
		puts("}");
		return;
	}
	printf("%d connections, %ju requests, %ju bytes verified, %ju errors\n",
	       want.n_connections, n_answers, n_bytes, n_errors);
	fprintf(stderr,
		"client: %.0f requests/s, of which half took %.1f us, 1%% %.1f us\n",
		rate, p50, p99);
	if (want.pid)
		print_server(
		    stderr, r,
		    "client: the server: %.2f us of CPU for a request, "
		    "%d kernel threads, %.0f bytes for a connection: %.0f resident, "
		    "%.0f page tables, %.0f kernel stacks, %.0f slab\n");
}

/* ---- options ---- */

static void usage(void)
{
	fprintf(stderr, "usage: client [-c CONNECTIONS] [-m IN_FLIGHT] [-n REQUESTS | "
			"-t SECONDS] [-s SIZE | -g PATH -b FILE]\n"
			"              [-i IDLE_SECONDS] [-p PID] [-j] [ADDRESS:]PORT\n");
	exit(EXIT_FAILURE);
}

static double number(const char *text, double least, double most)
{
	char *end;
	double n = strtod(text, &end);

	if (end == text || *end || !(n >= least && n <= most))
		usage();
	return n;
}

static void parse_address(const char *text)
{
	const char *colon = strrchr(text, ':');
	char host[INET_ADDRSTRLEN] = "127.0.0.1";

	if (colon)
		snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
	want.address.sin_family = AF_INET;
	want.address.sin_port = htons((int)number(colon ? colon + 1 : text, 1, 65535));
	if (inet_pton(AF_INET, host, &want.address.sin_addr) != 1)
		usage();
}

static void parse_options(int argc, char **argv)
{
	for (int option; (option = getopt(argc, argv, "c:m:n:t:s:g:b:i:p:j")) != -1;) {
		switch (option) {
		case 'c':
			want.n_connections = (int)number(optarg, 1, 1000000);
			break;
		case 'm':
			want.n_in_flight = (int)number(optarg, 1, 1000000);
			break;
		case 'n':
			want.n_requests = (long)number(optarg, 0, 1e15);
			break;
		case 't':
			want.seconds = number(optarg, 0.001, 1e6);
			break;
		case 's':
			want.size = (uint32_t)number(optarg, 1, MESSAGE_MAX);
			break;
		case 'g':
			want.path = optarg;
			break;
		case 'b':
			want.file = optarg;
			break;
		case 'i':
			want.idle = number(optarg, 0, 1e6);
			break;
		case 'p':
			want.pid = (int)number(optarg, 1, 1 << 30);
			break;
		case 'j':
			want.json = true;
			break;
		default:
			usage();
		}
	}
	if (argc - optind != 1 || !want.path != !want.file)
		usage();
	parse_address(argv[optind]);
	if (want.seconds)
		want.n_requests = LONG_MAX;
}

static void read_expected_file(void)
{
	struct stat info;
	int fd = open(want.file, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &info))
		fail(want.file, errno);
	if (info.st_size > INT32_MAX)
		fail(want.file, EFBIG);
	want.size = info.st_size;
	expected = allocate(1, want.size + 1);
	for (uint32_t n = 0; n < want.size;) {
		ssize_t got = read(fd, expected + n, want.size - n);
		if (got <= 0)
			fail(want.file, got ? errno : EIO);
		n += got;
	}
	close(fd);
}

static void prepare(void)
{
	static char text[2048];

	if (want.path) {
		request_size =
		    snprintf(text, sizeof(text),
			     "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", want.path);
		if (request_size >= sizeof(text))
			fail("the path", ENAMETOOLONG);
		request = text;
		read_expected_file();
	} else {
		expected = allocate(1, N_NOISE + want.size + sizeof(uint64_t));
		for (uint32_t i = 0; i < N_NOISE + want.size; i += sizeof(uint64_t)) {
			uint64_t noise = mix(i);
			memcpy(expected + i, &noise, sizeof(noise));
		}
	}
	connections = allocate(want.n_connections, sizeof(*connections));
	idle = allocate(want.n_connections, sizeof(*idle));
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		fail("epoll_create1", errno);
}

static void raise_descriptor_limit(void)
{
	struct rlimit limit;
	rlim_t wanted = want.n_connections + 16;

	getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur >= wanted)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_max < wanted) {
		fprintf(stderr, "client: only %ju descriptors may be open\n",
			(uintmax_t)limit.rlim_max);
		exit(EXIT_CANNOT_RUN);
	}
}

int main(int argc, char **argv)
{
	parse_options(argc, argv);
	raise_descriptor_limit();
	prepare();

	struct result r = run();
	print_result(&r);
	if (fflush(stdout))
		return EXIT_FAILURE;
	return n_errors ? EXIT_FAILURE : EXIT_SUCCESS;
}
