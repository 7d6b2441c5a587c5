// SPDX-License-Identifier: MIT
//
// tbb.cpp: oneTBB: loops, reductions, pipelines, graphs, containers, mutexes, exceptions and
// arenas, from several threads at once.

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <vector>

#include <tbb/tbb.h>

#define CHECK(condition)                                                              \
	do {                                                                          \
		if (!(condition)) {                                                   \
			std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			std::_Exit(1);                                                \
		}                                                                     \
	} while (0)

static void compute(long n)
{
	long sum = tbb::parallel_reduce(
	    tbb::blocked_range<long>(0, n, 1000), 0L,
	    [](const auto &r, long a) {
		    for (long i = r.begin(); i < r.end(); i++)
			    a += i % 7;
		    return a;
	    },
	    std::plus<long>());
	CHECK(sum == n / 7 * 21 + (n % 7) * (n % 7 - 1) / 2);

	tbb::concurrent_hash_map<int, int> map;
	tbb::concurrent_vector<int> vector;
	tbb::parallel_for(0, 20000, [&](int i) {
		decltype(map)::accessor a;
		map.insert(a, i % 100);
		a->second++;
		vector.push_back(i);
	});
	for (auto &entry : map)
		CHECK(entry.second == 200);
	CHECK(vector.size() == 20000);

	std::vector<int> values(200000);
	for (size_t i = 0; i < values.size(); i++)
		values[i] = (i * 7919) % 1000003;
	tbb::parallel_sort(values.begin(), values.end());
	CHECK(std::is_sorted(values.begin(), values.end()));
}

static void flow()
{
	std::atomic<int> count = 0;
	tbb::flow::graph graph;
	tbb::flow::function_node<int, int> twice(graph, tbb::flow::unlimited, [](int x) { return 2 * x; });
	tbb::flow::function_node<int, int> add(graph, tbb::flow::serial, [&](int x) { count += x; return x; });
	tbb::flow::make_edge(twice, add);
	for (int i = 0; i < 1000; i++)
		twice.try_put(i);
	graph.wait_for_all();
	CHECK(count == 999000);

	int next = 0, expected = 0;
	tbb::parallel_pipeline(
	    8, tbb::make_filter<void, int>(tbb::filter_mode::serial_in_order,
					   [&](tbb::flow_control &fc) {
						   if (next == 500)
							   fc.stop();
						   return next++;
					   }) &
		   tbb::make_filter<int, int>(tbb::filter_mode::parallel, [](int x) { return x * x; }) &
		   tbb::make_filter<int, void>(tbb::filter_mode::serial_in_order, [&](int x) {
			   CHECK(x == expected * expected);
			   expected++;
		   }));
	CHECK(expected == 500);
}

static void failures()
{
	int caught = 0;
	for (int i = 0; i < 20; i++)
		try {
			tbb::parallel_for(0, 1000, [](int k) {
				if (k == 777)
					throw std::runtime_error("777");
			});
		} catch (const std::runtime_error &) {
			caught++;
		}
	CHECK(caught == 20);
}

static void locks()
{
	tbb::spin_mutex spin;
	tbb::speculative_spin_mutex speculative;
	tbb::queuing_mutex queuing;
	tbb::queuing_rw_mutex shared;
	long a = 0, b = 0, c = 0, d = 0;
	tbb::parallel_for(0, 20000, [&](int i) {
		{ tbb::speculative_spin_mutex::scoped_lock guard(speculative); a++; }
		{ tbb::spin_mutex::scoped_lock guard(spin); b++; }
		{ tbb::queuing_mutex::scoped_lock guard(queuing); c++; }
		{
			tbb::queuing_rw_mutex::scoped_lock guard(shared, i % 10 == 0);
			if (i % 10 == 0)
				d++;
		}
	});
	CHECK(a == 20000 && b == 20000 && c == 20000 && d == 2000);

	tbb::concurrent_bounded_queue<int> queue;
	queue.set_capacity(4);
	std::atomic<long> taken = 0;
	std::vector<std::thread> threads;
	for (int i = 0; i < 4; i++)
		threads.emplace_back([&] {
			for (int x;;) {
				queue.pop(x);
				if (x < 0)
					return;
				taken += x;
			}
		});
	for (int i = 0; i < 2000; i++)
		queue.push(i);
	for (int i = 0; i < 4; i++)
		queue.push(-1);
	for (auto &t : threads)
		t.join();
	CHECK(taken == 1999000);
}

int main()
{
	tbb::global_control limit(tbb::global_control::max_allowed_parallelism, 8);

	compute(5000000);
	std::puts("compute");
	flow();
	std::puts("flow");
	failures();
	std::puts("failures");
	locks();
	std::puts("locks");
	tbb::task_arena arena(6);
	std::vector<std::thread> threads;
	for (int i = 0; i < 6; i++)
		threads.emplace_back([&, i] {
			if (i % 2)
				arena.execute([] { compute(100000); });
			else
				compute(100000);
		});
	for (auto &t : threads)
		t.join();
	std::puts("arenas");
}
