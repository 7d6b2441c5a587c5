/* SPDX-License-Identifier: MIT */
/*
 * http: a small HTTP/1.1 server, with a thread for each connection.
 *
 * GET and HEAD of the files under a directory, and a fixed page at /.  A connection is
 * kept for as many requests as the client sends, also without waiting for the answers.
 * No ranges, no dates, no listings; symbolic links are followed.
 *
 * usage: http [-s STACK_KIB] [-d DIRECTORY] [PORT]
 *	any free port, stacks of 64 KiB; without a directory there is only the page
 * prints, until SIGTERM or SIGINT ends it:
 *	http: listening on 127.0.0.1:PORT
 *	http: 3 connections, 5 requests
 */
#include <fcntl.h>
#include <strings.h>
#include <sys/stat.h>
#include "server.h"

enum {
	HEAD_MAX = 8192, /* a request's head, which may not be longer */
	CHUNK_SIZE = 16 << 10,
};

static const char page[] = "<!DOCTYPE html>\n"
			   "<title>It works</title>\n"
			   "<p>A thread of its own serves each connection.</p>\n";

static int root = -1; /* the directory, or none */

struct request {
	char method[16];
	char path[1024]; /* decoded, relative to root; "" is the page */
	bool keep;       /* the connection, for another request */
};

/* What came on a connection and was not yet a request. */
struct input {
	int fd;
	size_t n;
	char data[HEAD_MAX + 1];
};

/* ---- answers ---- */

static const char *type_of(const char *path)
{
	static const char *const types[][2] = {
	    {".html", "text/html"},     {".txt", "text/plain"}, {".css", "text/css"},
	    {".js", "text/javascript"}, {".png", "image/png"},  {".jpg", "image/jpeg"},
	};
	const char *dot = strrchr(path, '.');

	for (size_t i = 0; dot && i < sizeof(types) / sizeof(*types); i++)
		if (strcasecmp(dot, types[i][0]) == 0)
			return types[i][1];
	return "application/octet-stream";
}

static int format_head(char *head, size_t size, const struct request *r,
		       const char *status, const char *type, size_t length)
{
	return snprintf(head, size,
			"HTTP/1.1 %s\r\n"
			"Content-Type: %s\r\n"
			"Content-Length: %zu\r\n"
			"%s\r\n",
			status, type, length, r->keep ? "" : "Connection: close\r\n");
}

static bool is_head(const struct request *r)
{
	return strcmp(r->method, "HEAD") == 0;
}

/* Both send the head together with the body, or as much of it as there is room for: the
 * client should not have to read twice. */
static bool send_text(int fd, const struct request *r, const char *status,
		      const char *type, const char *body)
{
	char text[512];
	size_t length = strlen(body);
	int n = format_head(text, sizeof(text), r, status, type, length);

	if (!is_head(r))
		n += snprintf(text + n, sizeof(text) - n, "%s", body);
	return write_all(fd, text, n);
}

/* Exactly as many bytes as were promised, or the connection cannot go on. */
static bool send_content(int fd, const struct request *r, int file, size_t left)
{
	char chunk[CHUNK_SIZE];
	size_t n = format_head(chunk, sizeof(chunk), r, "200 OK", type_of(r->path), left);

	if (is_head(r))
		left = 0;
	while (left > 0) {
		size_t room = sizeof(chunk) - n;
		ssize_t got = read(file, chunk + n, left < room ? left : room);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0 || !write_all(fd, chunk, n + got))
			return false;
		left -= got;
		n = 0;
	}
	return write_all(fd, chunk, n);
}

static bool send_error(int fd, const struct request *r, const char *status)
{
	char body[64];

	snprintf(body, sizeof(body), "%s\n", status);
	return send_text(fd, r, status, "text/plain", body);
}

static bool send_file(int fd, const struct request *r)
{
	struct stat info;
	bool sent;
	/* O_NONBLOCK: no FIFO may hold the thread. */
	int file = openat(root, r->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (file < 0)
		return send_error(fd, r,
				  errno == EACCES ? "403 Forbidden"
				  : errno == EMFILE || errno == ENFILE
				      ? "503 Service Unavailable"
				      : "404 Not Found");
	if (fstat(file, &info) || !S_ISREG(info.st_mode)) {
		close(file);
		return send_error(fd, r, "404 Not Found");
	}
	sent = send_content(fd, r, file, info.st_size);
	close(file);
	return sent;
}

static bool answer(int fd, const struct request *r)
{
	if (strcmp(r->method, "GET") != 0 && !is_head(r))
		return send_error(fd, r, "501 Not Implemented");
	if (!*r->path)
		return send_text(fd, r, "200 OK", "text/html", page);
	if (root < 0)
		return send_error(fd, r, "404 Not Found");
	return send_file(fd, r);
}

/* ---- requests ---- */

/* The end of the head in what has come: its empty line, or NULL. */
static char *end_of_head(struct input *in)
{
	in->data[in->n] = 0;
	return strstr(in->data, "\r\n\r\n");
}

/* Reads until there is a whole head.  NULL at the end of the connection, and when the head
 * is too long or holds a NUL: then *status says so. */
static char *read_head(struct input *in, const char **status)
{
	char *end;

	*status = NULL;
	while (!(end = end_of_head(in))) {
		if (strlen(in->data) < in->n)
			*status = "400 Bad Request";
		else if (in->n == HEAD_MAX)
			*status = "431 Request Header Fields Too Large";
		if (*status)
			return NULL;
		ssize_t n = read(in->fd, in->data + in->n, HEAD_MAX - in->n);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return NULL;
		in->n += n;
	}
	return end;
}

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef", *at = strchr(digits, c | 0x20);

	return c && at ? (int)(at - digits) : -1;
}

/* A target as a path below root, without its query.  False when it is none: it has a bad
 * escape, a NUL, or a component "..". */
static bool decode_path(const char *target, char *path, size_t size)
{
	size_t n = 0;

	if (*target++ != '/')
		return false;
	while (*target == '/')
		target++;
	for (; *target && *target != '?' && n < size - 1; target++) {
		int c = (unsigned char)*target;
		if (c == '%') {
			int high = hex_digit(target[1]);
			int low = high < 0 ? -1 : hex_digit(target[2]);
			c = high * 16 + low;
			if (low < 0 || c == 0)
				return false;
			target += 2;
		}
		path[n++] = (char)c;
	}
	path[n] = 0;
	if ((*target && *target != '?') || *path == '/')
		return false;
	for (const char *p = path; (p = strstr(p, "..")); p += 2)
		if ((p == path || p[-1] == '/') && (p[2] == '/' || !p[2]))
			return false;
	return true;
}

/* The value of a field, as a copy in value, or false.  head is its first line's end. */
static bool find_field(const char *head, const char *name, char *value, size_t size)
{
	size_t n = strlen(name);

	for (const char *line = head; line; line = strstr(line, "\r\n")) {
		line += 2;
		if (strncasecmp(line, name, n) != 0 || line[n] != ':')
			continue;
		line += n + 1;
		line += strspn(line, " \t");
		snprintf(value, size, "%.*s", (int)strcspn(line, "\r"), line);
		return true;
	}
	return false;
}

/* Parses a head that ends with an empty line.  Returns NULL, or what is wrong with it;
 * after that the connection cannot go on. */
static const char *parse(char *head, struct request *r)
{
	char target[1024], value[64];
	int minor, length = 0;

	r->keep = false;
	if (sscanf(head, "%15[A-Z] %1023[!-~] HTTP/1.%1d%n", r->method, target, &minor,
		   &length) != 3 ||
	    strncmp(head + length, "\r\n", 2) != 0)
		return "400 Bad Request";
	head += length;
	if (find_field(head, "Transfer-Encoding", value, sizeof(value)) ||
	    (find_field(head, "Content-Length", value, sizeof(value)) &&
	     strcmp(value, "0") != 0))
		return "413 Content Too Large"; /* we want none */
	if (!decode_path(target, r->path, sizeof(r->path)))
		return "400 Bad Request";
	r->keep = minor > 0;
	if (find_field(head, "Connection", value, sizeof(value))) {
		if (strcasecmp(value, "close") == 0)
			r->keep = false;
		else if (strcasecmp(value, "keep-alive") == 0)
			r->keep = true;
	}
	return NULL;
}

/* Lets the client read our last answer: a close with input unread would reset. */
static void finish(struct input *in)
{
	shutdown(in->fd, SHUT_WR);
	for (int i = 0; i < 64 && read(in->fd, in->data, HEAD_MAX) > 0; i++)
		continue;
}

/* Returns how many requests it answered. */
static long serve(int fd)
{
	struct input in; /* not initialized as a whole, which would touch all of it */
	struct request r;
	const char *status;
	long n_requests = 0;

	in.fd = fd;
	in.n = 0;
	for (;;) {
		char *end = read_head(&in, &status);
		if (!end && !status)
			return n_requests;
		r = (struct request){.keep = false};
		if (end) {
			end += 4;
			char first = *end;
			*end = 0;
			status = parse(in.data, &r);
			*end = first;
		}
		n_requests++;
		if (!(status ? send_error(fd, &r, status) : answer(fd, &r)))
			return n_requests;
		if (!r.keep)
			break;
		in.n -= end - in.data;
		memmove(in.data, end, in.n);
	}
	finish(&in);
	return n_requests;
}

int main(int argc, char **argv)
{
	long stack_kib = DEFAULT_STACK_KIB, port = 0;
	const char *directory = NULL;

	for (int option; (option = getopt(argc, argv, "s:d:")) != -1;)
		if (option == 'd')
			directory = optarg;
		else
			stack_kib = option == 's' ? number_in(optarg, 64, 1 << 20) : -1;
	if (optind < argc)
		port = number_in(argv[optind++], 0, 65535);
	if (stack_kib < 0 || port < 0 || optind < argc) {
		fprintf(stderr, "usage: http [-s STACK_KIB] [-d DIRECTORY] [PORT]\n");
		return EXIT_FAILURE;
	}
	if (directory) {
		root = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (root < 0) {
			fprintf(stderr, "http: %s: %s\n", directory, strerror(errno));
			return EXIT_FAILURE;
		}
	}
	return server_run("http", (int)port, (size_t)stack_kib << 10, "requests", serve);
}
