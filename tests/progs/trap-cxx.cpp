// SPDX-License-Identifier: MIT
//
// trap-cxx.cpp CASE: C++ in threads: thread_local objects, exceptions, and unwinding by
// pthread_exit and cancellation.

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cxxabi.h>
#include <exception>
#include <future>
#include <mutex>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdexcept>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>
#include <vector>

#define CHECK(condition)                                                                \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			_exit(1);                                                       \
		}                                                                       \
	} while (0)

static void pause_a_little()
{
	sched_yield();
	usleep(1000);
}

// --- thread_local ---------------------------------------------------------------------------

static std::atomic<int> alive, made;
static thread_local std::string order;
static pthread_key_t key;

struct Counted {
	char name;
	explicit Counted(char n) : name(n)
	{
		alive++;
		made++;
	}
	~Counted()
	{
		order += name;
		pause_a_little(); // a thread that ends still waits like any other
		alive--;
	}
	void touch() const
	{
	}
};

static std::string last_order;
static std::mutex order_mutex;

static void key_ends(void *)
{
	// thread_local objects first; of order itself a copy has been kept.
	order_mutex.lock();
	last_order += 'k';
	order_mutex.unlock();
}

struct Reporter {
	~Reporter()
	{
		order_mutex.lock();
		last_order = order;
		order_mutex.unlock();
	}
	void touch() const
	{
	}
};

static thread_local Reporter reporter;
static thread_local Counted first('1'), second('2');

static void *uses_thread_locals(void *how)
{
	CHECK(order.empty()); // constructed before, so destroyed after, the reporter
	reporter.touch();
	first.touch();
	second.touch();
	pthread_setspecific(key, &key);
	if (how != nullptr)
		pthread_exit(nullptr);
	return nullptr;
}

static void thread_locals()
{
	CHECK(pthread_key_create(&key, key_ends) == 0);
	for (int i = 0; i < 20; i++) {
		pthread_t thread;

		CHECK(pthread_create(&thread, nullptr, uses_thread_locals,
				     i % 2 ? &key : nullptr) == 0);
		CHECK(pthread_join(thread, nullptr) == 0);
		CHECK(last_order == "21k");
		CHECK(alive == 0 && made == 2 * (i + 1));
	}
	std::vector<std::thread> threads;
	for (int i = 0; i < 64; i++)
		threads.emplace_back([] { uses_thread_locals(nullptr); });
	for (auto &t : threads)
		t.join();
	CHECK(alive == 0 && made == 2 * (20 + 64));
}

// --- exceptions -----------------------------------------------------------------------------

static __attribute__((noinline)) void throw_deep(int depth, int value)
{
	Counted guard('x');

	if (depth == 0)
		throw value;
	throw_deep(depth - 1, value);
}

static void throws_and_catches(int me)
{
	for (int i = 0; i < 20; i++) {
		try {
			try {
				throw_deep(3, me * 1000 + i);
				CHECK(false);
			} catch (int value) {
				CHECK(value == me * 1000 + i);
				pause_a_little(); // others throw while this one is being handled
				try {
					throw std::runtime_error(std::to_string(me));
				} catch (const std::exception &e) {
					pause_a_little();
					CHECK(e.what() == std::to_string(me));
				}
				CHECK(std::uncaught_exceptions() == 0);
				throw;
			}
		} catch (...) {
			try {
				std::rethrow_exception(std::current_exception());
			} catch (int value) {
				CHECK(value == me * 1000 + i);
			}
		}
		CHECK(std::current_exception() == nullptr);
	}
}

static void exceptions()
{
	std::vector<std::thread> threads;

	for (int i = 0; i < 32; i++)
		threads.emplace_back(throws_and_catches, i);
	throws_and_catches(99);
	for (auto &t : threads)
		t.join();
	// And from one thread to another.
	auto result = std::async(std::launch::async,
				 []() -> int { throw std::out_of_range("far"); });
	try {
		result.get();
		CHECK(false);
	} catch (const std::out_of_range &e) {
		CHECK(!strcmp(e.what(), "far"));
	}
}

static void uncaught()
{
	std::set_terminate([] {
		fprintf(stderr, "terminate: %d\n", std::current_exception() != nullptr);
		abort();
	});
	std::thread([] { throw 1; }).join();
}

// --- pthread_exit and cancel ------------------------------------------------------------------

struct Guard {
	std::atomic<int> *count;
	~Guard()
	{
		(*count)++;
		pause_a_little();
	}
};

static std::atomic<int> n_destroyed, n_caught, n_rethrown;

static __attribute__((noinline)) void exit_deep(int depth)
{
	Guard guard{&n_destroyed};

	if (depth == 0)
		pthread_exit(&n_destroyed);
	try {
		exit_deep(depth - 1);
	} catch (std::exception &) {
		CHECK(false);
	} catch (abi::__forced_unwind &) {
		n_caught++;
		throw;
	} catch (...) {
		CHECK(false);
	}
}

static void *exits(void *)
{
	try {
		exit_deep(5);
	} catch (...) {
		n_rethrown++;
		throw;
	}
	return nullptr;
}

static void exit_unwinds()
{
	for (int i = 1; i <= 20; i++) {
		pthread_t thread;
		void *result;

		CHECK(pthread_create(&thread, nullptr, exits, nullptr) == 0);
		CHECK(pthread_join(thread, &result) == 0);
		CHECK(result == &n_destroyed);
		CHECK(n_destroyed == 6 * i && n_caught == 5 * i && n_rethrown == i);
	}
}

static std::mutex mutex;
static std::condition_variable cond;
static std::atomic<int> n_waiting;

static void *waits(void *)
{
	Guard guard{&n_destroyed};
	std::unique_lock<std::mutex> lock(mutex);

	n_waiting++;
	try {
		for (;;)
			cond.wait(lock);
	} catch (abi::__forced_unwind &) {
		CHECK(lock.owns_lock()); // and lets it go in its destructor
		n_caught++;
		throw;
	}
}

static void cancel_unwinds()
{
	pthread_t threads[16];

	for (auto &thread : threads)
		CHECK(pthread_create(&thread, nullptr, waits, nullptr) == 0);
	while (n_waiting < 16)
		sched_yield();
	for (auto &thread : threads)
		CHECK(pthread_cancel(thread) == 0);
	for (auto &thread : threads) {
		void *result;

		CHECK(pthread_join(thread, &result) == 0);
		CHECK(result == PTHREAD_CANCELED);
	}
	CHECK(n_destroyed == 16 && n_caught == 16);
	CHECK(mutex.try_lock());
	mutex.unlock();
}

static constexpr size_t STACK_SIZE = 1 << 18;
static std::atomic<bool> has_stack;

static void cancelled_in_handler(int)
{
	Guard guard{&n_destroyed};

	pthread_cancel(pthread_self());
	pthread_testcancel();
}

// In the lower half of the memory; the signal stack is in the upper, above all its frames.
static void *takes_signal(void *memory)
{
	Guard guard{&n_destroyed};
	stack_t stack{};

	stack.ss_sp = static_cast<char *>(memory) + STACK_SIZE;
	stack.ss_size = STACK_SIZE;
	CHECK(sigaltstack(&stack, nullptr) == 0);
	has_stack = true;
	for (;;)
		pause();
}

static void cancel_on_signal_stack()
{
	struct sigaction action {
	};
	pthread_attr_t attr;

	action.sa_handler = cancelled_in_handler;
	action.sa_flags = SA_ONSTACK;
	CHECK(sigaction(SIGUSR1, &action, nullptr) == 0);
	CHECK(pthread_attr_init(&attr) == 0);
	for (int i = 1; i <= 5; i++) {
		void *memory = mmap(nullptr, 2 * STACK_SIZE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		pthread_t thread;
		void *result;

		CHECK(memory != MAP_FAILED);
		has_stack = false;
		CHECK(pthread_attr_setstack(&attr, memory, STACK_SIZE) == 0);
		CHECK(pthread_create(&thread, &attr, takes_signal, memory) == 0);
		while (!has_stack)
			sched_yield();
		CHECK(pthread_kill(thread, SIGUSR1) == 0);
		CHECK(pthread_join(thread, &result) == 0);
		CHECK(result == PTHREAD_CANCELED && n_destroyed == 2 * i);
		CHECK(munmap(memory, 2 * STACK_SIZE) == 0);
	}
}

int main(int argc, char **argv)
{
	const struct {
		const char *name;
		void (*run)();
	} cases[] = {
	    {"thread-locals", thread_locals},
	    {"exceptions", exceptions},
	    {"uncaught", uncaught},
	    {"exit-unwinds", exit_unwinds},
	    {"cancel-unwinds", cancel_unwinds},
	    {"cancel-on-signal-stack", cancel_on_signal_stack},
	};

	for (const auto &c : cases)
		if (argc > 1 && !strcmp(argv[1], c.name)) {
			c.run();
			return 0;
		}
	return 2;
}
