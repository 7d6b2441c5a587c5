// SPDX-License-Identifier: MIT
//
// threads.cpp: what a program in C++20 does with the standard library's threads: futures,
// exceptions that cross threads, conditions, shared and timed mutexes, call_once, stop
// tokens, latches, barriers, semaphores, and waits on atomics, which are futexes.

#include <atomic>
#include <barrier>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <future>
#include <latch>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <semaphore>
#include <shared_mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

#define CHECK(condition)                                                              \
	do {                                                                          \
		if (!(condition)) {                                                   \
			std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			std::_Exit(1);                                                \
		}                                                                     \
	} while (0)

static void many(int n, std::function<void(int)> body)
{
	std::vector<std::thread> threads;

	for (int i = 0; i < n; i++)
		threads.emplace_back(body, i);
	for (auto &t : threads)
		t.join();
}

static void futures()
{
	std::vector<std::future<long>> sums;

	for (int i = 0; i < 64; i++)
		sums.push_back(std::async(std::launch::async, [i] {
			std::vector<long> v(1000);
			std::iota(v.begin(), v.end(), i);
			return std::accumulate(v.begin(), v.end(), 0L);
		}));
	long sum = 0;
	for (auto &f : sums)
		sum += f.get();
	CHECK(sum == 64 * 499500L + 1000 * 2016L);

	auto failing = std::async(std::launch::async, []() -> int { throw std::range_error("far"); });
	try {
		failing.get();
		CHECK(!"it threw");
	} catch (const std::range_error &e) {
		CHECK(std::string(e.what()) == "far");
	}

	std::promise<std::string> promise;
	auto shared = promise.get_future().share();
	CHECK(shared.wait_for(5ms) == std::future_status::timeout);
	std::thread fulfil([&] { promise.set_value("kept"); });
	many(10, [shared](int) { CHECK(shared.get() == "kept"); });
	fulfil.join();

	std::packaged_task<int(int)> task([](int x) { return x * x; });
	auto result = task.get_future();
	std::thread(std::move(task), 12).join();
	CHECK(result.get() == 144);

	auto late = std::async(std::launch::async, [p = std::make_shared<std::promise<int>>()] {
		auto f = p->get_future();
		std::thread([q = std::move(*p)]() mutable {
			q.set_value_at_thread_exit(5);
		}).detach();
		return f.get();
	});
	CHECK(late.get() == 5);
}

struct Pool {
	std::mutex lock;
	std::condition_variable_any more;
	std::deque<std::function<void()>> queue;
	std::vector<std::jthread> threads;

	explicit Pool(int n)
	{
		for (int i = 0; i < n; i++)
			threads.emplace_back([this](std::stop_token stop) { run(stop); });
	}

	void run(std::stop_token stop)
	{
		for (;;) {
			std::unique_lock guard(lock);
			if (!more.wait(guard, stop, [&] { return !queue.empty(); }))
				return;
			auto job = std::move(queue.front());
			queue.pop_front();
			guard.unlock();
			job();
		}
	}

	void add(std::function<void()> job)
	{
		{
			std::lock_guard guard(lock);
			queue.push_back(std::move(job));
		}
		more.notify_one();
	}
};

static void pools()
{
	std::atomic<int> done = 0;
	std::latch all(500);
	Pool pool(16);

	for (int i = 0; i < 500; i++)
		pool.add([&, i] {
			try {
				if (i % 3 == 0)
					throw i;
				done++;
			} catch (int k) {
				CHECK(k == i);
			}
			all.count_down();
		});
	all.wait();
	CHECK(done == 333);
}

static void locks()
{
	std::shared_mutex table_lock;
	std::map<int, int> table;
	std::timed_mutex timed;
	std::recursive_mutex recursive;
	std::once_flag once;
	int made = 0, tries = 0, deep = 0;

	many(32, [&](int i) {
		for (int k = 0; k < 200; k++) {
			if (k % 10 == 0) {
				std::unique_lock guard(table_lock);
				table[i]++;
			} else {
				std::shared_lock guard(table_lock);
				CHECK(table.size() <= 32);
			}
		}
		std::call_once(once, [&] { made++; });
		{
			std::scoped_lock both(recursive, timed);
			std::lock_guard again(recursive);
			deep++;
		}
		if (timed.try_lock_for(20s)) {
			tries++;
			timed.unlock();
		}
	});
	CHECK(made == 1 && tries == 32 && deep == 32 && table.size() == 32);
	for (auto [i, n] : table)
		CHECK(n == 20);
	timed.lock();
	many(4, [&](int) { CHECK(!timed.try_lock_for(10ms)); });
	timed.unlock();
	/* A call that throws leaves the flag as it was. */
	std::once_flag failing;
	int calls = 0;
	many(10, [&](int) {
		try {
			std::call_once(failing, [&] {
				if (++calls < 3)
					throw calls;
			});
		} catch (int) {
		}
	});
	CHECK(calls == 3);
}

static void atomics()
{
	std::atomic<int> turn = 0;
	std::atomic<char> small = 0;
	std::counting_semaphore<4> places(4);
	std::atomic<int> inside = 0, most = 0;
	long sum = 0;
	std::barrier barrier(8, [&]() noexcept { sum++; });

	many(16, [&](int i) {
		for (int now; (now = turn.load()) != i;)
			turn.wait(now);
		turn++;
		turn.notify_all();
	});
	std::thread waiting([&] { small.wait(0); });
	small = 1;
	small.notify_one();
	waiting.join();
	many(16, [&](int) {
		places.acquire();
		int n = ++inside, m = most;
		while (n > m && !most.compare_exchange_weak(m, n))
			;
		std::this_thread::sleep_for(1ms);
		inside--;
		places.release();
	});
	CHECK(most <= 4 && inside == 0);
	many(8, [&](int) {
		for (int k = 0; k < 100; k++)
			barrier.arrive_and_wait();
	});
	CHECK(sum == 100);
	CHECK(places.try_acquire_for(1s));
}

static std::atomic<int> n_mine;
struct Mine {
	std::string text = "initial";
	Mine() { n_mine++; }
	~Mine() { n_mine--; }
};
static thread_local Mine mine;
static thread_local int number = 7;

static void locals()
{
	many(50, [](int i) {
		CHECK(mine.text == "initial" && number == 7);
		mine.text += std::to_string(i);
		number = i;
		std::this_thread::yield();
		std::this_thread::sleep_for(1ms);
		CHECK(mine.text == "initial" + std::to_string(i) && number == i);
		std::ostringstream out;
		out << std::hex << i << ' ' << 1.5 * i << ' ' << std::this_thread::get_id();
		CHECK(!out.str().empty());
	});
	CHECK(n_mine == 0);
}

/* Exceptions under way in all threads at once, through frames that catch and throw again. */
static void rethrow(int depth, int value)
{
	std::string kept(20, 'x');
	try {
		if (depth == 0)
			throw std::logic_error(std::to_string(value));
		rethrow(depth - 1, value);
	} catch (const std::exception &) {
		std::this_thread::yield();
		CHECK(std::uncaught_exceptions() == 0 && kept.size() == 20);
		throw;
	}
}

static void exceptions()
{
	many(40, [](int i) {
		for (int k = 0; k < 20; k++)
			try {
				rethrow(10, i);
			} catch (const std::logic_error &e) {
				CHECK(std::stoi(e.what()) == i);
			}
	});
	std::exception_ptr crossing;
	std::thread([&] {
		try {
			throw std::out_of_range("crossing");
		} catch (...) {
			crossing = std::current_exception();
		}
	}).join();
	try {
		std::rethrow_exception(crossing);
	} catch (const std::out_of_range &e) {
		CHECK(std::string(e.what()) == "crossing");
	}
}

static void times()
{
	std::mutex lock;
	std::condition_variable changed;

	many(50, [&](int i) {
		auto before = std::chrono::steady_clock::now();
		std::unique_lock guard(lock);
		CHECK(changed.wait_for(guard, std::chrono::milliseconds(5 + i % 7)) ==
			      std::cv_status::timeout ||
		      std::chrono::steady_clock::now() > before);
		guard.unlock();
		std::this_thread::sleep_until(before + 20ms);
		CHECK(std::chrono::steady_clock::now() >= before + 20ms);
	});
	auto at = std::chrono::system_clock::now() + 20ms;
	std::unique_lock guard(lock);
	CHECK(!changed.wait_until(guard, at, [] { return false; }));
	CHECK(std::chrono::system_clock::now() >= at);
}

int main()
{
	const std::pair<const char *, void (*)()> parts[] = {
	    {"futures", futures}, {"pools", pools},	  {"locks", locks}, {"atomics", atomics},
	    {"locals", locals},	  {"exceptions", exceptions}, {"times", times},
	};

	for (auto [name, part] : parts) {
		part();
		std::puts(name);
	}
}
