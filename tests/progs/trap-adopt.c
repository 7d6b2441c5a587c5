/* SPDX-License-Identifier: MIT */
/*
 * trap-adopt.c CASE: threads that libc starts by itself, which call what any thread may.
 */
#include <aio.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <mqueue.h>
#include <netdb.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>

#include "check.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER; /* of the program's threads */
static pthread_cond_t notified_cond = PTHREAD_COND_INITIALIZER; /* of libc's */
static pthread_key_t key;
static long count; /* plain: mutex */
static int n_notified;
static _Atomic int n_entered, n_ended;
static _Atomic bool over;

static void value_ends(void *value)
{
	CHECK(value == &key);
	n_ended++;
}

/* In a thread of libc's. */
static void notified(union sigval value)
{
	n_entered++;
	CHECK(value.sival_int == 4711);
	CHECK(!pthread_equal(pthread_self(), (pthread_t)0));
	CHECK(pthread_getspecific(key) == NULL);
	CHECK_OK(pthread_setspecific(key, &key));
	CHECK_OK(pthread_mutex_lock(&mutex));
	count++;
	n_notified++;
	sched_yield(); /* while it is held */
	CHECK_OK(pthread_cond_broadcast(&notified_cond));
	CHECK_OK(pthread_mutex_unlock(&mutex));
	sched_yield();
}

/* One that waits for tasks, and makes some. */
static void notified_waits(union sigval value)
{
	long before;

	CHECK_OK(pthread_mutex_lock(&mutex));
	before = count;
	while (count == before)
		CHECK_OK(pthread_cond_wait(&cond, &mutex));
	CHECK_OK(pthread_mutex_unlock(&mutex));
	CHECK(in_thread(do_nothing, &key) == &key);
	sleep_ms(1);
	notified(value);
}

static struct sigevent event(void (*notify)(union sigval))
{
	return (struct sigevent){
	    .sigev_notify = SIGEV_THREAD,
	    .sigev_notify_function = notify,
	    .sigev_value.sival_int = 4711,
	};
}

/* Threads of the program's, which use the same mutex and condition. */
static void *contend(void *arg)
{
	while (!over) {
		CHECK_OK(pthread_mutex_lock(&mutex));
		count++;
		if (count % 4 == 0)
			sched_yield();
		CHECK_OK(pthread_cond_broadcast(&cond));
		CHECK_OK(pthread_mutex_unlock(&mutex));
		if (arg != NULL)
			sleep_ms(1);
	}
	return NULL;
}

static void *wait_notified(void *arg)
{
	CHECK_OK(pthread_mutex_lock(&mutex));
	while (n_notified < (int)(intptr_t)arg)
		CHECK_OK(pthread_cond_wait(&notified_cond, &mutex));
	CHECK_OK(pthread_mutex_unlock(&mutex));
	return NULL;
}

static void wait_for(int n)
{
	pthread_t contenders[4], waiters[4];

	for (int i = 0; i < 4; i++) {
		contenders[i] = start(contend, (void *)(intptr_t)(i != 0));
		waiters[i] = start(wait_notified, (void *)(intptr_t)n);
	}
	wait_notified((void *)(intptr_t)n);
	for (int i = 0; i < 4; i++)
		join(waiters[i]);
	over = true;
	for (int i = 0; i < 4; i++)
		join(contenders[i]);
}

static timer_t make_timer(void (*notify)(union sigval), int ms)
{
	struct sigevent ev = event(notify);
	timer_t timer;
	struct itimerspec spec = {
	    .it_value.tv_nsec = ms * 1000000L,
	    .it_interval.tv_nsec = ms * 1000000L,
	};

	CHECK(timer_create(CLOCK_MONOTONIC, &ev, &timer) == 0);
	CHECK(timer_settime(timer, 0, &spec, NULL) == 0);
	return timer;
}

/* Each thread of libc's ends soon after its notification, and with it its values. */
static void wait_ended(void)
{
	sleep_ms(10); /* those that begin only now */
	for (long long begun = now_ms(); n_ended < n_entered;) {
		CHECK(now_ms() - begun < 10000);
		sleep_ms(1);
	}
}

static void timers(void)
{
	timer_t timer;

	become_threaded();
	timer = make_timer(notified, 3);
	wait_for(30);
	CHECK(timer_delete(timer) == 0);
	wait_ended();
}

/* The timer, and its helper thread, are there before the program's first thread. */
static void timer_first(void)
{
	timer_t timer = make_timer(notified, 3);

	sleep_ms(10);
	wait_for(30);
	CHECK(timer_delete(timer) == 0);
	wait_ended();
}

/* --- threads of libc's that wait since before the program's first thread ------------------ */

static pthread_mutex_t elder_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t cond_mutex = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int n_waiting, n_woken;
static _Atomic bool is_held, let_go;
static bool told;

static void elder_holds(union sigval value)
{
	(void)value;
	CHECK_OK(pthread_mutex_lock(&elder_mutex));
	is_held = true;
	while (!let_go)
		sleep_ms(1);
	CHECK_OK(pthread_mutex_unlock(&elder_mutex));
}

static void elder_wants(union sigval value)
{
	(void)value;
	while (!is_held)
		sleep_ms(1);
	n_waiting++;
	CHECK_OK(pthread_mutex_lock(&elder_mutex));
	CHECK_OK(pthread_mutex_unlock(&elder_mutex));
	n_woken++;
}

static void elder_listens(union sigval value)
{
	(void)value;
	CHECK_OK(pthread_mutex_lock(&cond_mutex));
	n_waiting++;
	while (!told)
		CHECK_OK(pthread_cond_wait(&cond, &cond_mutex));
	CHECK_OK(pthread_mutex_unlock(&cond_mutex));
	n_woken++;
}

static void *tell(void *arg)
{
	CHECK_OK(pthread_mutex_lock(&cond_mutex));
	told = true;
	CHECK_OK(pthread_cond_broadcast(&cond));
	CHECK_OK(pthread_mutex_unlock(&cond_mutex));
	let_go = true;
	return arg;
}

static void elders(void)
{
	void (*notify[])(union sigval) = {elder_holds, elder_wants, elder_wants,
					  elder_listens, elder_listens};
	struct itimerspec once = {.it_value.tv_nsec = 1000000};

	for (int i = 0; i < 5; i++) {
		struct sigevent ev = event(notify[i]);
		timer_t timer;

		CHECK(timer_create(CLOCK_MONOTONIC, &ev, &timer) == 0);
		CHECK(timer_settime(timer, 0, &once, NULL) == 0);
	}
	while (n_waiting < 4)
		sleep_ms(1);
	sleep_ms(50); /* they wait in the kernel now, as far as one can tell */
	in_thread(tell, NULL);
	for (long long begun = now_ms(); n_woken < 4;) {
		CHECK(now_ms() - begun < 10000);
		sleep_ms(1);
	}
}

/* --- how they end -------------------------------------------------------------------------- */

static _Atomic int n_handled, n_keys_ended;

static void handle(void *arg)
{
	(void)arg;
	n_handled++;
}

static void key_ends(void *value)
{
	CHECK(value == &n_keys_ended);
	n_keys_ended++;
}

static pthread_key_t end_key;

static void exits(union sigval value)
{
	(void)value;
	pthread_cleanup_push(handle, NULL);
	pthread_cleanup_push(handle, NULL);
	CHECK_OK(pthread_setspecific(end_key, &n_keys_ended));
	pthread_exit(NULL);
	pthread_cleanup_pop(0);
	pthread_cleanup_pop(0);
}

static void cancels_itself(union sigval value)
{
	(void)value;
	pthread_cleanup_push(handle, NULL);
	pthread_cleanup_push(handle, NULL);
	CHECK_OK(pthread_setspecific(end_key, &n_keys_ended));
	CHECK_OK(pthread_cancel(pthread_self()));
	pthread_testcancel();
	CHECK(false);
	pthread_cleanup_pop(0);
	pthread_cleanup_pop(0);
}

static _Atomic pthread_t to_cancel;

static void sleeps(union sigval value)
{
	(void)value;
	pthread_cleanup_push(handle, NULL);
	pthread_cleanup_push(handle, NULL);
	CHECK_OK(pthread_setspecific(end_key, &n_keys_ended));
	to_cancel = pthread_self();
	sleep_ms(20000);
	pthread_cleanup_pop(0);
	pthread_cleanup_pop(0);
}

/* Registered before the program's first thread, and after. */
static void elder_exits(union sigval value)
{
	(void)value;
	pthread_cleanup_push(handle, NULL);
	pthread_cleanup_push(handle, NULL);
	is_held = true;
	while (!let_go)
		sleep_ms(1);
	pthread_cleanup_pop(1);
	CHECK_OK(pthread_setspecific(end_key, &n_keys_ended));
	pthread_exit(NULL);
	pthread_cleanup_pop(0);
}

static void notify_once(void (*notify)(union sigval))
{
	const struct itimerspec once = {.it_value.tv_nsec = 1000000};
	struct sigevent ev = event(notify);
	timer_t timer;

	CHECK(timer_create(CLOCK_MONOTONIC, &ev, &timer) == 0);
	CHECK(timer_settime(timer, 0, &once, NULL) == 0);
}

static void wait_until(_Atomic int *count, int n)
{
	for (long long begun = now_ms(); *count < n; sleep_ms(1))
		CHECK(now_ms() - begun < 10000);
	CHECK(*count == n);
}

static void ends(void)
{
	CHECK_OK(pthread_key_create(&end_key, key_ends));
	notify_once(elder_exits);
	while (!is_held)
		sleep_ms(1);
	become_threaded();
	let_go = true;
	wait_until(&n_keys_ended, 1);
	CHECK(n_handled == 2);
	notify_once(exits);
	wait_until(&n_keys_ended, 2);
	CHECK(n_handled == 4);
	notify_once(cancels_itself);
	wait_until(&n_keys_ended, 3);
	CHECK(n_handled == 6);
	notify_once(sleeps);
	while (to_cancel == 0)
		sleep_ms(1);
	CHECK_OK(pthread_cancel(to_cancel));
	wait_until(&n_keys_ended, 4);
	CHECK(n_handled == 8);
	in_thread(do_nothing, NULL);
	exit(7); /* and not as a thread that ends would have it */
}

/* --- threads that another library made by libc's own function ----------------------------- */

typedef int create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

static _Atomic bool may_end;

/* Calls nothing of ours. */
static void *spin(void *arg)
{
	while (!may_end)
		;
	return arg;
}

static void *adopted(void *arg)
{
	sleep_ms(arg == &mutex ? 50 : 1);
	return arg;
}

static void *sleep_for_good(void *arg)
{
	sleep_ms(1);
	may_end = true; /* it is known */
	sleep_ms(20000);
	return arg;
}

static void *join_it(void *thread)
{
	pthread_join(*(pthread_t *)thread, NULL);
	return NULL;
}

static void foreign(void)
{
	create *make = (create *)dlsym(dlopen("libc.so.6", RTLD_NOW), "pthread_create");
	void *(*routines[])(void *) = {spin, adopted};
	struct timespec at;
	pthread_t thread, joiner;
	void *result;

	CHECK(make != NULL);
	become_threaded();
	for (int i = 0; i < 6; i++) {
		void *arg = i < 4 ? (void *)&cond : &mutex;

		may_end = false;
		CHECK_OK(make(&thread, NULL, routines[i % 2], arg));
		at = in_ms(CLOCK_REALTIME, 5000);
		if (i % 2 == 0) {
			CHECK(pthread_tryjoin_np(thread, &result) == EBUSY);
			may_end = true;
		}
		if (i < 2)
			CHECK_OK(pthread_join(thread, &result));
		else if (i < 4)
			CHECK_OK(pthread_timedjoin_np(thread, &result, &at));
		else
			while (pthread_tryjoin_np(thread, &result) == EBUSY)
				sleep_ms(1);
		CHECK(result == arg);
	}
	/* A cancel ends the join, and the other can still be joined. */
	may_end = false;
	CHECK_OK(make(&thread, NULL, spin, &cond));
	joiner = start_waiting(join_it, &thread);
	CHECK_OK(pthread_cancel(joiner));
	CHECK(join(joiner) == PTHREAD_CANCELED);
	may_end = true;
	CHECK(join(thread) == &cond);
	may_end = false;
	CHECK_OK(make(&thread, NULL, sleep_for_good, NULL));
	while (!may_end)
		sleep_ms(1);
	CHECK_OK(pthread_cancel(thread));
	CHECK(join(thread) == PTHREAD_CANCELED);
	CHECK_OK(make(&thread, NULL, adopted, &cond));
	CHECK_OK(pthread_detach(thread));
}

static void timer_waits(void)
{
	timer_t timer;

	become_threaded();
	timer = make_timer(notified_waits, 5);
	wait_for(10);
	CHECK(timer_delete(timer) == 0);
}

static void aio(void)
{
	enum { N = 8 };
	static char buffers[N][64];
	struct aiocb cbs[N];
	int fd = open("/proc/self/exe", O_RDONLY);

	become_threaded();
	CHECK(fd >= 0);
	for (int i = 0; i < N; i++) {
		cbs[i] = (struct aiocb){
		    .aio_fildes = fd,
		    .aio_buf = buffers[i],
		    .aio_nbytes = 64,
		    .aio_sigevent = event(notified),
		};
		CHECK(aio_read(&cbs[i]) == 0);
	}
	wait_for(N);
	wait_ended();
	for (int i = 0; i < N; i++) {
		CHECK(aio_error(&cbs[i]) == 0);
		CHECK(aio_return(&cbs[i]) == 64);
		CHECK(memcmp(buffers[i], "\177ELF", 4) == 0);
	}
}

static void *suspend(void *arg)
{
	static char buffer[64];
	struct aiocb cb = {
	    .aio_fildes = *(int *)arg, .aio_buf = buffer, .aio_nbytes = 64};
	const struct aiocb *list[] = {&cb};

	CHECK(aio_read(&cb) == 0);
	while (aio_error(&cb) == EINPROGRESS)
		CHECK(aio_suspend(list, 1, NULL) == 0 || errno == EINTR ||
		      errno == EAGAIN);
	CHECK(aio_error(&cb) == 0 && aio_return(&cb) == 1 && buffer[0] == 'x');
	return NULL;
}

static void aio_waits(void)
{
	int fds[2];
	pthread_t thread;

	CHECK(pipe(fds) == 0);
	thread = start(suspend, &fds[0]);
	sleep_ms(20);
	CHECK(write(fds[1], "x", 1) == 1);
	join(thread);
}

static void lookups(void)
{
	enum { N = 4 };
	struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
	struct gaicb cbs[N], *list[N];

	become_threaded();
	for (int i = 0; i < N; i++) {
		struct sigevent ev = event(notified);

		cbs[i] = (struct gaicb){
		    .ar_name = "127.0.0.1", .ar_service = "80", .ar_request = &hints};
		list[i] = &cbs[i];
		CHECK(getaddrinfo_a(GAI_NOWAIT, &list[i], 1, &ev) == 0);
	}
	wait_for(N);
	wait_ended();
	for (int i = 0; i < N; i++) {
		CHECK(gai_error(&cbs[i]) == 0);
		freeaddrinfo(cbs[i].ar_result);
	}
	CHECK(getaddrinfo_a(GAI_WAIT, list, N, NULL) == 0);
}

static void queue(void)
{
	char name[64];
	struct mq_attr attr = {.mq_maxmsg = 1, .mq_msgsize = 8};
	struct sigevent ev = event(notified);
	mqd_t q;

	snprintf(name, sizeof(name), "/pgreen-%d", (int)getpid());
	q = mq_open(name, O_RDWR | O_CREAT, 0600, &attr);
	if (q == (mqd_t)-1)
		exit(77);
	mq_unlink(name);
	become_threaded();
	CHECK(mq_notify(q, &ev) == 0);
	CHECK(mq_send(q, "x", 1, 0) == 0);
	wait_for(1);
}

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
	    {"timers", timers},
	    {"timer-first", timer_first},
	    {"timer-waits", timer_waits},
	    {"aio", aio},
	    {"aio-waits", aio_waits},
	    {"lookups", lookups},
	    {"queue", queue},
	    {"elders", elders},
	    {"ends", ends},
	    {"foreign", foreign},
	};

	CHECK_OK(pthread_key_create(&key, value_ends));
	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
