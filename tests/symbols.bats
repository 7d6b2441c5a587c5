#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# symbols.bats: interpose/symbols.def against the library that we built, against this
# machine's libc, and against docs/COMPATIBILITY.md.

load helpers

setup_file() {
	export LIBC
	LIBC=$("${CC:-cc}" -print-file-name=libc.so.6)
	cd "$BATS_TEST_DIRNAME/.." || return
	list_rows >"$BATS_FILE_TMPDIR/rows"
	list_exports "$LIBC" >"$BATS_FILE_TMPDIR/libc"
}

setup() {
	cd "$BATS_TEST_DIRNAME/.." || return
	rows=$BATS_FILE_TMPDIR/rows
	libc=$BATS_FILE_TMPDIR/libc
}

# list_rows: the rows of symbols.def, as lines "name version verdict".
list_rows() {
	"${CC:-cc}" -E -P -x c '-DSYM(name,family,version,verdict,why)=@name version verdict@' \
		interpose/symbols.def | tr -d '\n"' | tr '@' '\n' | grep .
}

# list_exports LIBRARY: its functions, as lines "name version address default|hidden".
list_exports() {
	nm -D --defined-only --with-symbol-versions "$1" | awk '
	$2 ~ /[TWi]/ && $3 !~ /GLIBC_PRIVATE/ {
		split($3, part, "@+")
		print part[1], part[2], $1, ($3 ~ /@@/ ? "default" : "hidden")
	}'
}

# names FILE [PATTERN]: the first words of the lines that match, each once.
names() {
	awk -v pattern="${2-.}" '$0 ~ pattern { print $1 }' "$1" | LC_ALL=C sort -u
}

# without_row FILE: those of its names that have no row.
without_row() {
	LC_ALL=C comm -23 <(LC_ALL=C sort -u "$1") <(names "$rows")
}

# cancellation_points: those that POSIX requires or allows, by pthreads(7).
cancellation_points() {
	tr -s '\t\n ' '\n' <<-'END'
	accept access aio_suspend asctime asctime_r catclose catgets catopen chmod chown
	clock_nanosleep close closedir closelog connect creat ctermid ctime ctime_r dlclose
	dlopen dprintf endgrent endhostent endnetent endprotoent endpwent endservent endutxent
	faccessat fchmod fchmodat fchown fchownat fclose fcntl fdatasync fflush fgetc fgetpos
	fgets fgetwc fgetws fmtmsg fopen fpathconf fprintf fputc fputs fputwc fputws fread
	freopen fscanf fseek fseeko fsetpos fstat fstatat fsync ftell ftello ftw futimens
	fwprintf fwrite fwscanf getaddrinfo getc getc_unlocked getchar getchar_unlocked getcwd
	getdate getdelim getgrent getgrgid getgrgid_r getgrnam getgrnam_r gethostbyaddr
	gethostbyname gethostent gethostid gethostname getline getlogin getlogin_r getmsg
	getnameinfo getnetbyaddr getnetbyname getnetent getopt getpmsg getprotobyname
	getprotobynumber getprotoent getpwent getpwnam getpwnam_r getpwuid getpwuid_r gets
	getservbyname getservbyport getservent getutxent getutxid getutxline getwc getwchar
	getwd glob iconv_close iconv_open ioctl link linkat lio_listio localtime localtime_r
	lockf lseek lstat mkdir mkdirat mkdtemp mkfifo mkfifoat mknod mknodat mkstemp mktime
	mq_receive mq_send mq_timedreceive mq_timedsend msgrcv msgsnd msync nanosleep nftw open
	openat opendir openlog pathconf pause pclose perror poll popen posix_fadvise
	posix_fallocate posix_madvise posix_openpt posix_spawn posix_spawnp pread printf pselect
	psiginfo psignal pthread_cond_timedwait pthread_cond_wait pthread_join
	pthread_rwlock_rdlock pthread_rwlock_timedrdlock pthread_rwlock_timedwrlock
	pthread_rwlock_wrlock pthread_testcancel putc putc_unlocked putchar putchar_unlocked
	putmsg putpmsg puts pututxline putwc putwchar pwrite read readdir readdir_r readlink
	readlinkat readv recv recvfrom recvmsg remove rename renameat rewind rewinddir scandir
	scanf seekdir select sem_timedwait sem_wait semop send sendmsg sendto setgrent
	sethostent setnetent setprotoent setpwent setservent setutxent sigpause sigsuspend
	sigtimedwait sigwait sigwaitinfo sleep stat strerror strerror_r strftime symlink
	symlinkat sync syslog system tcdrain tmpfile tmpnam ttyname ttyname_r tzset ungetc
	ungetwc unlink unlinkat usleep utime utimensat utimes vdprintf vfprintf vfwprintf
	vprintf vwprintf wait waitid waitpid wcsftime wordexp wprintf write writev wscanf
	END
}

@test "the library exports the rows that are ours, and pgreen_* calls" {
	requires_green 'there is no library to look at'
	nm -D --defined-only "$PGREEN_LIB" | awk '{ print $3 }' | grep -v '^pgreen_' |
		LC_ALL=C sort >"$BATS_TEST_TMPDIR/exports"
	run -0 diff <(names "$rows" '(WRAP|TWIN)$') "$BATS_TEST_TMPDIR/exports"
}

@test "a row stands once, and names a function that libc exports" {
	awk '{ print $1 }' "$rows" | LC_ALL=C sort | uniq -d >"$BATS_TEST_TMPDIR/twice"
	run -0 cat "$BATS_TEST_TMPDIR/twice"
	assert_output ''
	run -0 comm -23 <(names "$rows") <(names "$libc")
	assert_output ''
}

@test "every function of threads that libc exports has a row" {
	names "$libc" '^_*(pthread_|sem_|mtx_|cnd_|thrd_|tss_|call_once )' >"$BATS_TEST_TMPDIR/libc"
	run -0 without_row "$BATS_TEST_TMPDIR/libc"
	assert_output ''
}

@test "every cancellation point of pthreads(7) has a row" {
	cancellation_points >"$BATS_TEST_TMPDIR/points"
	run -0 without_row "$BATS_TEST_TMPDIR/points"
	assert_output ''
}

@test "a version is given where a plain lookup might find another function" {
	awk '
	{ versions[$1] = versions[$1] " " $2 " " }
	$4 == "default" { has_default[$1] = 1 }
	!($1 in address) { address[$1] = $3 }
	address[$1] != $3 { differs[$1] = 1 }
	END { for (name in versions) print name, (differs[name] || !has_default[name]), versions[name] }
	' "$libc" >"$BATS_TEST_TMPDIR/versions"
	# shellcheck disable=SC2016 # awk's own
	run -0 awk '
	NR == FNR { wants[$1] = $2; $2 = ""; versions[$1] = $0 " "; next }
	!($1 in versions) { next }
	wants[$1] && $2 == "0" { print $1 ": give one of" versions[$1] }
	!wants[$1] && $2 != "0" { print $1 ": needs no version" }
	$2 != "0" && !index(versions[$1], " " $2 " ") { print $1 ": libc has no version " $2 }
	' "$BATS_TEST_TMPDIR/versions" "$rows"
	assert_output ''
}

@test "the real functions are those that dlsym finds, another preload's first, without malloc" {
	cat >"$BATS_TEST_TMPDIR/table.c" <<-'END'
	#include "real.h"
	#include <dlfcn.h>
	#include <stdbool.h>
	#include <stdio.h>

	static bool is_counting, has_allocated;
	void *__libc_malloc(size_t n);
	__attribute__((visibility("default"))) void *malloc(size_t n)
	{
		has_allocated |= is_counting;
		return __libc_malloc(n);
	}

	static void compare(const char *name, const char *version, void *ours)
	{
		void *theirs = version ? dlvsym(RTLD_NEXT, name, version) :
					 dlsym(RTLD_NEXT, name);

		if (ours != theirs)
			printf("%s: %p, dlsym %p\n", name, ours, theirs);
	}

	#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	#define COMPARE_WRAP(name, version) compare(#name, version, (void *)real.name);
	#define COMPARE_TWIN(name, version) compare(#name, version, (void *)real.name);
	#define COMPARE_PASS(name, version)
	#define COMPARE_LATER(name, version)
	#define SYM(name, family, version, verdict, why) \
		COMPARE_##verdict(name, (const char *)version)
	__attribute__((visibility("default"))) void compare_all(void)
	{
		is_counting = true;
		const char *missing = real_init();
		is_counting = false;

		printf("missing %s, %s, pause answers %d\n", missing ? missing : "none",
		       has_allocated ? "allocated" : "no malloc", real.pause());
	#include "symbols.def"
	}
	END
	echo 'int pause(void) { return 42; }' >"$BATS_TEST_TMPDIR/behind.c"
	echo 'void compare_all(void); int main(void) { compare_all(); }' >"$BATS_TEST_TMPDIR/main.c"
	cd "$BATS_TEST_TMPDIR"
	"${CC:-cc}" -std=gnu11 -Wall -fPIC -fvisibility=hidden -shared -o libtable.so \
		-I"$OLDPWD/interpose" table.c "$OLDPWD/interpose/real.c"
	"${CC:-cc}" -fPIC -shared -o libbehind.so behind.c
	"${CC:-cc}" -o main main.c ./libtable.so -Wl,--no-as-needed ./libbehind.so
	run -0 ./main
	assert_output 'missing none, no malloc, pause answers 42'
}

@test "a library's constructor may call wrapped functions before ours has run" {
	cat >"$BATS_TEST_TMPDIR/early.c" <<-'END'
	#include <fcntl.h>
	#include <pthread.h>
	#include <semaphore.h>
	#include <signal.h>
	#include <stdlib.h>
	#include <sys/wait.h>
	#include <unistd.h>

	static void nothing(void) {}

	__attribute__((constructor(101))) static void early(void)
	{
		static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
		static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
		static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
		static pthread_once_t once = PTHREAD_ONCE_INIT;
		struct sigaction action = {.sa_handler = SIG_DFL};
		sem_t sem;
		char c;
		int status, fd = open("/dev/zero", O_RDONLY);

		pthread_mutex_lock(&lock);
		pthread_cond_signal(&cond);
		pthread_mutex_unlock(&lock);
		pthread_rwlock_rdlock(&rwlock);
		pthread_rwlock_unlock(&rwlock);
		pthread_once(&once, nothing);
		sem_init(&sem, 0, 0);
		sem_post(&sem);
		sem_wait(&sem);
		sigaction(SIGTERM, &action, NULL);
		usleep(1);
		if (fork() == 0)
			_exit(3);
		if (read(fd, &c, 1) != 1 || wait(&status) < 0 || WEXITSTATUS(status) != 3)
			abort();
		write(STDOUT_FILENO, "early\n", 6);
	}
	END
	echo 'int main(void) { return 0; }' >"$BATS_TEST_TMPDIR/main.c"
	cd "$BATS_TEST_TMPDIR"
	"${CC:-cc}" -O -fPIC -shared -o libearly.so early.c -pthread
	"${CC:-cc}" -o main main.c -Wl,--no-as-needed ./libearly.so
	run -0 same ./main
	assert_output ''
}

@test "a library behind ours may tell the program another time" {
	requires_green 'natively libc waits by its own clock'
	cat >"$BATS_TEST_TMPDIR/time.c" <<-'END'
	#include <sys/syscall.h>
	#include <time.h>
	#include <unistd.h>

	_Thread_local long n_calls[1000]; /* which a worker has not */

	int clock_gettime(clockid_t clock, struct timespec *ts)
	{
		n_calls[clock & 7]++;
		int r = syscall(SYS_clock_gettime, clock, ts);
		ts->tv_sec += 10000000;
		return r;
	}
	END
	cat >"$BATS_TEST_TMPDIR/main.c" <<-'END'
	#include <errno.h>
	#include <pthread.h>
	#include <semaphore.h>
	#include <stdio.h>
	#include <stdlib.h>
	#include <time.h>

	static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
	static pthread_rwlock_t writing = PTHREAD_RWLOCK_INITIALIZER;

	static const struct timespec *soon(clockid_t clock)
	{
		static _Thread_local struct timespec ts;

		clock_gettime(clock, &ts);
		ts.tv_nsec += 20000000;
		if (ts.tv_nsec >= 1000000000)
			ts.tv_nsec -= 1000000000, ts.tv_sec++;
		return &ts;
	}

	static void late(const char *call, int error)
	{
		if (error != ETIMEDOUT)
			printf("%s: %d\n", call, error), exit(1);
	}

	static void *waits(void *arg)
	{
		const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC};
		pthread_mutex_t mine = PTHREAD_MUTEX_INITIALIZER;
		pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
		sem_t sem;

		sem_init(&sem, 0, 0);
		for (int i = 0; i < 2; i++) {
			clockid_t c = clocks[i];

			pthread_mutex_lock(&mine);
			late("cond", pthread_cond_clockwait(&cond, &mine, c, soon(c)));
			pthread_mutex_unlock(&mine);
			late("mutex", pthread_mutex_clocklock(&held, c, soon(c)));
			late("rwlock", pthread_rwlock_clockrdlock(&writing, c, soon(c)));
			late("sem", sem_clockwait(&sem, c, soon(c)) == 0 ? 0 : errno);
			if (clock_nanosleep(c, TIMER_ABSTIME, soon(c), NULL) != 0)
				exit(2);
		}
		return arg;
	}

	int main(void)
	{
		pthread_t threads[8];

		pthread_mutex_lock(&held);
		pthread_rwlock_wrlock(&writing);
		for (int i = 0; i < 8; i++)
			pthread_create(&threads[i], NULL, waits, NULL);
		for (int i = 0; i < 8; i++)
			pthread_join(threads[i], NULL);
		puts("in time");
	}
	END
	cd "$BATS_TEST_TMPDIR"
	"${CC:-cc}" -O -fPIC -shared -o libtime.so time.c
	"${CC:-cc}" -O -D_GNU_SOURCE -o main main.c -pthread
	at_procs 1 2 8 -- run -0 timeout 60 env LD_PRELOAD="$PGREEN_LIB:./libtime.so" ./main
	assert_output 'in time'
}

@test "docs/COMPATIBILITY.md has the table of these rows" {
	sed -n '/^<!-- table/,/^<!-- end of table/p' docs/COMPATIBILITY.md | sed '1,2d;$d' | sed '$d' \
		>"$BATS_TEST_TMPDIR/table"
	run -0 tests/compat-table.sh
	run -0 diff "$BATS_TEST_TMPDIR/table" - <<<"$output"
}

@test "the library has one thread-local, the current task" {
	requires_green 'there is no library to look at'
	run -0 bash -c "readelf -sW '$PGREEN_LIB' | awk '\$4 == \"TLS\" { print \$8 }' | sort -u"
	assert_output self_task
}

@test "the runtime calls no malloc, no stdio, and nothing that it wraps" {
	local objects=("${B:-build}"/shim/*.o)
	[[ -e ${objects[0]} ]] || skip 'no objects: another build directory?'
	{
		names "$rows" '(WRAP|TWIN)$'
		printf '%s\n' malloc calloc realloc reallocarray free memalign aligned_alloc \
			posix_memalign strdup strndup fopen fdopen fclose fflush fread fwrite \
			printf fprintf dprintf vprintf vfprintf vdprintf sprintf snprintf vsprintf \
			vsnprintf asprintf vasprintf puts fputs fputc putc putchar fgets getline \
			perror syslog __printf_chk __fprintf_chk __snprintf_chk __vsnprintf_chk
	} | LC_ALL=C sort -u >"$BATS_TEST_TMPDIR/banned"
	# libc.c gives back what ld.so allocated for a task that has ended.
	nm -A -u "${objects[@]}" | awk '!/libc\.o: +U free$/ { print $3 }' | LC_ALL=C sort -u \
		>"$BATS_TEST_TMPDIR/used"
	run -0 comm -12 "$BATS_TEST_TMPDIR/banned" "$BATS_TEST_TMPDIR/used"
	assert_output ''
}
