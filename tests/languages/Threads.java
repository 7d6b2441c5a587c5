// SPDX-License-Identifier: MIT
//
// Threads.java: what a program in Java does with threads: monitors and their time limits,
// interrupts, pools and timers, implicit null checks and full stacks, collections while all
// allocate, sockets, children, and the clocks and names that the virtual machine asks for.
//
//	java Threads [THREADS [PART...]]

import java.io.*;
import java.lang.management.*;
import java.net.*;
import java.nio.ByteBuffer;
import java.nio.channels.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import java.util.concurrent.locks.*;

public class Threads {
	static int n = 50;

	static void check(boolean ok, String what) {
		if (!ok)
			throw new AssertionError(what);
	}

	static Thread[] start(int count, Callable<?> body, AtomicInteger failed) {
		Thread[] threads = new Thread[count];
		for (int i = 0; i < count; i++) {
			threads[i] = new Thread(() -> {
				try {
					body.call();
				} catch (Throwable e) {
					e.printStackTrace();
					failed.incrementAndGet();
				}
			}, "worker-" + i);
			threads[i].start();
		}
		return threads;
	}

	static void all(int count, Callable<?> body) throws Exception {
		AtomicInteger failed = new AtomicInteger();
		for (Thread t : start(count, body, failed))
			t.join();
		check(failed.get() == 0, failed + " threads failed");
	}

	static long counter;

	static void monitors() throws Exception {
		Object lock = new Object();
		counter = 0;
		all(n, () -> {
			for (int i = 0; i < 1000; i++)
				synchronized (lock) {
					counter++;
				}
			return null;
		});
		check(counter == 1000L * n, "lost counts: " + counter);
		synchronized (lock) {
			long before = System.nanoTime();
			lock.wait(30);
			check(System.nanoTime() - before >= 29_000_000L, "wait ended early");
		}
	}

	static void interrupts() throws Exception {
		Thread me = Thread.currentThread();
		CountDownLatch waiting = new CountDownLatch(3);
		AtomicInteger interrupted = new AtomicInteger();
		Runnable[] waits = {
			() -> { try { Thread.sleep(100_000); } catch (InterruptedException e) { interrupted.incrementAndGet(); } },
			() -> { LockSupport.park(); if (Thread.interrupted()) interrupted.incrementAndGet(); },
			() -> { try { new LinkedBlockingQueue<Integer>().take(); } catch (InterruptedException e) { interrupted.incrementAndGet(); } },
		};
		List<Thread> threads = new ArrayList<>();
		for (Runnable wait : waits) {
			Thread t = new Thread(() -> { waiting.countDown(); wait.run(); });
			threads.add(t);
			t.start();
		}
		waiting.await();
		Thread.sleep(20);
		for (Thread t : threads)
			t.interrupt();
		for (Thread t : threads)
			t.join();
		check(interrupted.get() == 3, "interrupted: " + interrupted);
	}

	static void pools() throws Exception {
		ExecutorService pool = Executors.newFixedThreadPool(n);
		List<Future<Integer>> futures = new ArrayList<>();
		for (int i = 0; i < 2000; i++) {
			int k = i;
			futures.add(pool.submit(() -> k % 7 == 0 ? Integer.parseInt("x") : k));
		}
		int sum = 0, failed = 0;
		for (Future<Integer> f : futures)
			try {
				sum += f.get();
			} catch (ExecutionException e) {
				check(e.getCause() instanceof NumberFormatException, "cause");
				failed++;
			}
		check(failed == 286 && sum == 1713715, "pool: " + sum + " " + failed);
		pool.shutdown();
		check(pool.awaitTermination(10, TimeUnit.SECONDS), "the pool ends");

		ScheduledExecutorService timer = Executors.newScheduledThreadPool(2);
		CountDownLatch ticks = new CountDownLatch(10);
		timer.scheduleAtFixedRate(ticks::countDown, 1, 2, TimeUnit.MILLISECONDS);
		check(ticks.await(10, TimeUnit.SECONDS), "timer");
		timer.shutdownNow();

		long sum2 = new ForkJoinPool(8).submit(() -> java.util.stream.LongStream.range(0, 100_000)
			.parallel().map(x -> x % 13).sum()).get();
		check(sum2 == 599_982, "streams: " + sum2);
	}

	static void queues() throws Exception {
		BlockingQueue<Integer> queue = new ArrayBlockingQueue<>(8);
		AtomicLong taken = new AtomicLong();
		AtomicInteger failed = new AtomicInteger();
		Thread[] takers = start(8, () -> {
			for (int x; (x = queue.take()) >= 0;)
				taken.addAndGet(x);
			return null;
		}, failed);
		all(8, () -> {
			for (int i = 0; i < 500; i++)
				queue.put(i);
			return null;
		});
		for (int i = 0; i < 8; i++)
			queue.put(-1);
		for (Thread t : takers)
			t.join();
		check(failed.get() == 0 && taken.get() == 8L * 499 * 500 / 2, "queue: " + taken);

		ReadWriteLock lock = new ReentrantReadWriteLock();
		Map<Integer, Integer> map = new HashMap<>();
		all(8, () -> {
			for (int i = 0; i < 300; i++) {
				Lock l = i % 10 == 0 ? lock.writeLock() : lock.readLock();
				l.lock();
				try {
					if (i % 10 == 0)
						map.merge(i, 1, Integer::sum);
					else
						map.get(i);
				} finally {
					l.unlock();
				}
			}
			return null;
		});
		check(map.values().stream().allMatch(x -> x == 8), "map");
	}

	// Faults that the virtual machine turns into exceptions, on each thread's own stack.
	static int depth;

	static int recurse(int k) {
		return recurse(k + 1) + 1;
	}

	static int length(int[] a) {
		return a.length;
	}

	static void faults() throws Exception {
		all(n, () -> {
			int[][] arrays = {new int[3], null};
			int caught = 0;
			for (int i = 0; i < 20_000; i++)
				try {
					length(arrays[i & 1]);
				} catch (NullPointerException e) {
					caught++;
				}
			check(caught == 10_000, "null: " + caught);
			for (int i = 0; i < 3; i++)
				try {
					recurse(0);
					check(false, "it ended");
				} catch (StackOverflowError e) {
					caught++;
				}
			check(caught == 10_003, "stack: " + caught);
			return null;
		});
	}

	static void garbage() throws Exception {
		AtomicBoolean over = new AtomicBoolean();
		AtomicInteger failed = new AtomicInteger();
		Thread[] spinning = start(4, () -> {
			long x = 0;
			while (!over.get())
				x = x * 31 + 7;
			return x;
		}, failed);
		all(n, () -> {
			List<byte[]> kept = new ArrayList<>();
			for (int i = 0; i < 400; i++) {
				byte[] b = new byte[8192];
				b[i] = 1;
				if (i % 16 == 0)
					kept.add(b);
			}
			check(kept.stream().mapToInt(b -> b.length).sum() == 25 * 8192, "kept");
			return null;
		});
		System.gc();
		over.set(true);
		for (Thread t : spinning)
			t.join();
		check(failed.get() == 0, "spinning");
	}

	static void sockets() throws Exception {
		try (ServerSocket server = new ServerSocket(0, 100, InetAddress.getLoopbackAddress())) {
			AtomicInteger failed = new AtomicInteger();
			Thread[] acceptor = start(1, () -> {
				for (int i = 0; i < n; i++) {
					Socket s = server.accept();
					new Thread(() -> {
						try (s) {
							s.getOutputStream().write(s.getInputStream().read() + 1);
						} catch (IOException e) {
							failed.incrementAndGet();
						}
					}).start();
				}
				return null;
			}, failed);
			AtomicInteger k = new AtomicInteger();
			all(n, () -> {
				int mine = k.incrementAndGet();
				try (Socket s = new Socket(server.getInetAddress(), server.getLocalPort())) {
					s.setSoTimeout(20_000);
					s.getOutputStream().write(mine);
					check(s.getInputStream().read() == mine + 1, "echo");
				}
				return null;
			});
			acceptor[0].join();
			check(failed.get() == 0, "server");
		}
		// A reader that somebody else's close ends.
		try (ServerSocket server = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
			CountDownLatch closed = new CountDownLatch(1);
			Thread t = new Thread(() -> {
				try {
					server.accept();
				} catch (SocketException e) {
					closed.countDown();
				} catch (IOException e) {
				}
			});
			t.start();
			Thread.sleep(20);
			server.close();
			check(closed.await(10, TimeUnit.SECONDS), "close ends accept");
			t.join();
		}
		// A selector, woken by a thread and by a pipe.
		Selector selector = Selector.open();
		Pipe pipe = Pipe.open();
		pipe.source().configureBlocking(false);
		pipe.source().register(selector, SelectionKey.OP_READ);
		new Thread(selector::wakeup).start();
		check(selector.select(10_000) == 0, "wakeup");
		new Thread(() -> {
			try {
				pipe.sink().write(ByteBuffer.wrap(new byte[] {1}));
			} catch (IOException e) {
			}
		}).start();
		check(selector.select(10_000) == 1, "select");
	}

	static void children() throws Exception {
		all(8, () -> {
			Process p = new ProcessBuilder("sh", "-c", "read x; echo $((x * 2)); exit 3").start();
			p.getOutputStream().write("21\n".getBytes());
			p.getOutputStream().close();
			String line = new BufferedReader(new InputStreamReader(p.getInputStream())).readLine();
			check("42".equals(line) && p.waitFor() == 3, "child: " + line);
			return null;
		});
	}

	static void clocks() throws Exception {
		ThreadMXBean bean = ManagementFactory.getThreadMXBean();
		all(4, () -> {
			long before = bean.getCurrentThreadCpuTime();
			Thread.sleep(50);
			long slept = bean.getCurrentThreadCpuTime() - before;
			check(slept < 40_000_000L, "a sleeping thread uses no time: " + slept);
			long end = bean.getCurrentThreadCpuTime() + 5_000_000L;
			while (bean.getCurrentThreadCpuTime() < end)
				;
			return null;
		});
		Thread t = new Thread(() -> { try { Thread.sleep(100_000); } catch (InterruptedException e) {} }, "sleeper");
		t.start();
		Thread.sleep(10);
		check(bean.getThreadCpuTime(t.getId()) >= 0, "another's time");
		boolean found = false;
		for (ThreadInfo info : bean.dumpAllThreads(true, true))
			found |= info.getThreadName().equals("sleeper") && info.getStackTrace().length > 0;
		check(found, "the dump has the sleeper");
		t.interrupt();
		t.join();
	}

	static void exits() throws Exception {
		Thread.UncaughtExceptionHandler before = Thread.getDefaultUncaughtExceptionHandler();
		AtomicInteger caught = new AtomicInteger();
		Thread.setDefaultUncaughtExceptionHandler((t, e) -> caught.incrementAndGet());
		Thread[] threads = new Thread[n];
		for (int i = 0; i < n; i++) {
			threads[i] = new Thread(() -> { throw new IllegalStateException(); });
			threads[i].start();
		}
		for (Thread t : threads)
			t.join();
		Thread.setDefaultUncaughtExceptionHandler(before);
		check(caught.get() == n, "uncaught: " + caught);
		Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("hook")));
		Thread daemon = new Thread(() -> { while (true); });
		daemon.setDaemon(true);
		daemon.start();
	}

	interface Part {
		void run() throws Exception;
	}

	public static void main(String[] args) throws Exception {
		if (args.length > 0)
			n = Integer.parseInt(args[0]);
		Map<String, Part> parts = new LinkedHashMap<>();
		parts.put("monitors", Threads::monitors);
		parts.put("interrupts", Threads::interrupts);
		parts.put("pools", Threads::pools);
		parts.put("queues", Threads::queues);
		parts.put("faults", Threads::faults);
		parts.put("garbage", Threads::garbage);
		parts.put("sockets", Threads::sockets);
		parts.put("children", Threads::children);
		parts.put("clocks", Threads::clocks);
		parts.put("exits", Threads::exits);
		if (args.length > 1)
			parts.keySet().retainAll(Arrays.asList(args).subList(1, args.length));
		for (Map.Entry<String, Part> part : parts.entrySet()) {
			long before = System.nanoTime();
			try {
				part.getValue().run();
			} catch (Throwable e) {
				e.printStackTrace();
				System.exit(1);
			}
			System.out.println(part.getKey() + " as it should be");
			if (System.getenv("TIMES") != null)
				System.err.println(part.getKey() + " " + (System.nanoTime() - before) / 1000000 + " ms");
		}
	}
}
