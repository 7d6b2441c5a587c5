#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# Turns at mutexes; rwlocks, barriers, spinlocks, semaphores, once, <threads.h>, sleeps and the
# program's own futexes: their errors, times and promises, the same natively and green.

load helpers

PROGS=(mutex rwlock barrier spin sem once c11 sleep futex)

setup_file() {
	local prog
	# The same, but that its threads stay native.
	build_prog barrier -DUNFIT -rdynamic
	mv "$BATS_FILE_TMPDIR"/{barrier,unfit}
	for prog in "${PROGS[@]}"; do
		build_prog "$prog"
	done
	build_throwing_once
}

# std::call_once relies on pthread_once: a routine that throws has not run.
build_throwing_once() {
	command -v "${CXX:-c++}" >/dev/null || return 0
	"${CXX:-c++}" -O2 -pthread -o "$BATS_FILE_TMPDIR/throwing_once" -x c++ - <<-'CXX'
		#include <atomic>
		#include <mutex>
		#include <thread>
		#include <vector>
		int main()
		{
			std::once_flag once;
			std::atomic<int> n_run{0}, n_returned{0};
			std::vector<std::thread> threads;

			for (int i = 0; i < 8; i++)
				threads.emplace_back([&] {
					try {
						std::call_once(once, [&] { if (n_run++ < 3) throw 1; });
						n_returned++;
					} catch (int) {
					}
				});
			for (auto &t : threads)
				t.join();
			return n_run == 4 && n_returned == 5 ? 0 : 1;
		}
	CXX
}

# everywhere PROG CASE...: runs the cases natively, and green on 1, 2 and 8 processors.
everywhere() {
	local prog=$BATS_FILE_TMPDIR/$1 case
	shift
	for case in "$@"; do
		echo "case $case, natively:"
		native "$prog" "$case"
		at_procs 1 2 8 -- green "$prog" "$case"
	done
}

@test "who lets go of a mutex may have it again before a crowd that waits for it" {
	native "$BATS_FILE_TMPDIR/mutex" had-again
	# With more, one of the crowd may have its turn in between.
	at_procs 1 -- green "$BATS_FILE_TMPDIR/mutex" had-again
}

@test "nobody starves at a mutex" {
	requires_green "natively it may"
	at_procs 1 2 8 -- green "$BATS_FILE_TMPDIR/mutex" hogged
}

@test "a rwlock reports errors as libc's does" {
	everywhere rwlock errors
}

@test "a rwlock taken before the first thread is held after it" {
	everywhere rwlock taken-before
}

@test "waits for a rwlock end in time, on either clock" {
	everywhere rwlock times
}

@test "a writer that gives up lets in the readers that it kept out" {
	everywhere rwlock gives-up
}

@test "a reader locks again, and others enter, while a writer waits" {
	everywhere rwlock recursion
}

@test "a kind that prefers writers keeps new readers out" {
	everywhere rwlock writers-first
}

@test "readers never meet a writer" {
	everywhere rwlock many
}

@test "nobody starves at a rwlock" {
	everywhere rwlock starving-writer
	requires_green "natively a writer may among writers"
	at_procs 1 2 8 -- green "$BATS_FILE_TMPDIR/rwlock" starving-reader
}

@test "a writer gets its turn among overlapping readers, whatever the kind" {
	requires_green "natively it starves"
	at_procs 1 2 8 -- green "$BATS_FILE_TMPDIR/rwlock" starving-writer-of-any-kind
}

@test "who waits since before there were threads is let in, or woken, like the others" {
	everywhere rwlock elders
	everywhere sem elders
	everywhere futex elders
	everywhere barrier elders
}

@test "the last to hold a rwlock may destroy it at once" {
	everywhere rwlock destroyed-at-once
}

@test "a barrier lets nobody go before all have come" {
	everywhere barrier errors rounds crowd counted-on process-shared
}

@test "no cancel ends the wait at a barrier, nor where threads stay native" {
	everywhere barrier cancelled
	everywhere unfit cancelled
}

@test "the first to leave a barrier may destroy it at once" {
	everywhere barrier destroyed-at-once
}

@test "spinlocks exclude, and may be held over a sleep or a long computation" {
	everywhere spin errors counter held-over-sleep held-over-computing
}

@test "semaphores report errors, and end in time on either clock" {
	everywhere sem errors
}

@test "a semaphore loses no token" {
	everywhere sem tokens process-shared named
}

@test "a signal ends the wait for a semaphore, unless SA_RESTART says otherwise" {
	everywhere sem interrupted posted-by-handler
}

@test "the wait for a semaphore can be cancelled" {
	everywhere sem cancelled
}

@test "who got the last token may destroy the semaphore at once" {
	everywhere sem destroyed-at-once
}

@test "pthread_once runs its routine once, and all wait for it" {
	everywhere once crowd many done-before wakes-threads
}

@test "a routine that was cancelled or forked away is run anew" {
	everywhere once cancelled forked
}

@test "a routine that throws is run anew" {
	requires "$BATS_FILE_TMPDIR/throwing_once"
	everywhere throwing_once ''
}

@test "<threads.h> does what <pthread.h> does" {
	everywhere c11 threads detached mutexes conditions storage
}

@test "sleeps report errors, and last as long as they should on every clock" {
	everywhere sleep errors lengths
}

@test "a signal ends a sleep and tells what is left" {
	everywhere sleep interrupted
}

@test "a sleep can be cancelled" {
	everywhere sleep cancelled
}

@test "who yields lets the others run" {
	everywhere sleep yields
}

@test "syscall(SYS_futex) answers as the kernel does" {
	everywhere futex errors times interrupted
}

@test "syscall(SYS_futex) wakes whom it should" {
	everywhere futex wakes bits requeues wake-op locks process-shared
}

@test "a futex's time ends while it is requeued" {
	everywhere futex requeues-in-time
}

@test "syscall(SYS_futex) wakes who waits by futex_waitv" {
	everywhere futex several
}

@test "syscall() speaks for the thread: its id, its signals, its mask, its end" {
	everywhere futex identity kills masks queues signal-stacks ends
}

@test "a call by syscall() that blocks blocks its thread alone" {
	everywhere futex blocks
}
