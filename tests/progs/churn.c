/* SPDX-License-Identifier: MIT */
/*
 * churn.c N [ALIVE]: N threads, created and joined ALIVE (1) at a time, each using malloc,
 * locales, stdio and 40 keys.  None may see what another left, and memory may not grow: by
 * how much it did is told on stderr, in KiB.
 */
#include <ctype.h>
#include <locale.h>

#include "check.h"

enum { N_KEYS = 40, N_ARRAY = 1024, ALIVE_MOST = 256 };

static __thread char zeros[N_ARRAY];
static __thread char ones[N_ARRAY] = {[0 ... N_ARRAY - 1] = 1};
static pthread_key_t keys[N_KEYS];
static _Atomic long n_destroyed;

static void destroy(void *value)
{
	free(value);
	n_destroyed++;
}

static void check_thread_locals(void)
{
	for (int i = 0; i < N_ARRAY; i++)
		CHECK(zeros[i] == 0 && ones[i] == 1);
	memset(zeros, 3, sizeof(zeros));
	memset(ones, 3, sizeof(ones));
	CHECK(errno == 0);
	errno = E2BIG;
}

static void use_keys(void)
{
	for (int i = 0; i < N_KEYS; i++) {
		CHECK(pthread_getspecific(keys[i]) == NULL);
		CHECK_OK(pthread_setspecific(keys[i], malloc(16)));
	}
}

static void use_malloc(void)
{
	static const size_t sizes[] = {1, 24, 100, 1000, 5000, 40000, 200000};
	enum { N = sizeof(sizes) / sizeof(sizes[0]) };
	char *blocks[N];

	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < N; i++) {
			blocks[i] = malloc(sizes[i]);
			CHECK(blocks[i] != NULL);
			blocks[i][0] = blocks[i][sizes[i] - 1] = 1;
		}
		for (int i = 0; i < N; i++)
			free(blocks[i]);
	}
}

static void use_locale(void)
{
	locale_t utf8;

	CHECK(uselocale(NULL) == LC_GLOBAL_LOCALE);
	CHECK(setlocale(LC_CTYPE, NULL) != NULL);
	CHECK(isalpha('a') && !isalpha('1'));
	utf8 = newlocale(LC_ALL_MASK, "C.UTF-8", NULL);
	CHECK(utf8 != NULL);
	uselocale(utf8);
	CHECK(isalpha('a') && MB_CUR_MAX > 1);
	uselocale(LC_GLOBAL_LOCALE);
	freelocale(utf8);
	/* And leaves one behind for the next to find, which it may not. */
	static locale_t shared;
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	pthread_mutex_lock(&mutex);
	if (shared == NULL)
		shared = newlocale(LC_ALL_MASK, "C.UTF-8", NULL);
	pthread_mutex_unlock(&mutex);
	uselocale(shared);
}

static void use_stdio(void)
{
	char text[64];
	FILE *f = fopen("/dev/null", "w");

	CHECK(f != NULL);
	CHECK(fprintf(f, "%d %s %f\n", 1, "two", 3.0) > 0);
	CHECK(fclose(f) == 0);
	CHECK(snprintf(text, sizeof(text), "%.3f", 1.5) == 5);
	/* Allocates, for the thread to free. */
	CHECK(strstr(strerror(123456), "123456") != NULL);
}

static void *live(void *arg)
{
	check_thread_locals();
	use_keys();
	use_malloc();
	use_locale();
	use_stdio();
	return arg;
}

static void churn(int n, int n_alive)
{
	pthread_t threads[ALIVE_MOST];

	for (int done = 0; done < n; done += n_alive) {
		if (n_alive > n - done)
			n_alive = n - done;
		for (int i = 0; i < n_alive; i++)
			threads[i] = start(live, NULL);
		for (int i = 0; i < n_alive; i++)
			join(threads[i]);
	}
}

static long rss_kib(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	long kib = 0;

	CHECK(f != NULL);
	while (fgets(line, sizeof(line), f) != NULL)
		sscanf(line, "VmRSS: %ld", &kib);
	fclose(f);
	return kib;
}

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 1000, n_alive = argc > 2 ? atoi(argv[2]) : 1;
	int n_warm = 2000;
	long before;

	CHECK(n_alive > 0 && n_alive <= ALIVE_MOST);
	for (int i = 0; i < N_KEYS; i++)
		CHECK_OK(pthread_key_create(&keys[i], destroy));
	churn(n_warm, n_alive);
	before = rss_kib();
	churn(n, n_alive);
	fprintf(stderr, "%ld KiB more\n", rss_kib() - before);
	CHECK(n_destroyed == (long)N_KEYS * (n_warm + n));
	printf("%d threads, one after another\n", n);
	return 0;
}
