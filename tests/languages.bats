#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# languages.bats: languages and their libraries on top of threads: a program in each, whose
# outcome green is native's, on a handful of kernel threads.  First what their run-time
# systems ask of threads, in C.
#
# shellcheck disable=SC2030,SC2031 # $status is what `run` left in the same test

load helpers

setup_file() {
	build_prog runtimes
	build_prog inlined
	"${CC:-cc}" -O2 -g -std=gnu11 -D_GNU_SOURCE -pthread -fPIC -shared -DLIBRARY \
		-o "$BATS_FILE_TMPDIR/libgomp-like.so" "$BATS_TEST_DIRNAME/progs/inlined.c"
	export INLINED_LIBRARY=$BATS_FILE_TMPDIR/libgomp-like.so
}

setup() {
	export PGREEN_TEST_LIMIT=100 TMPDIR=$BATS_TEST_TMPDIR
	sources=$BATS_TEST_DIRNAME/languages
	cd "$BATS_TEST_TMPDIR" || return
}

# from_package PACKAGE COMMAND: the test is skipped where COMMAND cannot be had.
from_package() {
	command -v "$2" >/dev/null || "$BATS_TEST_DIRNAME/deps.sh" "$1" >&2 ||
		skip "$1 cannot be installed here"
	requires "$2"
}

# everywhere PROG...: natively; green on 1, 2 and 8 processors; and on 1 and 2 with
# preemption and hand-off at every chance.  What it prints, and its status, are native's.
everywhere() {
	local how
	outcome native "$@" >native.outcome
	cat native.outcome
	for how in 1 2 8; do
		at_procs "$how" -- outcome green "$@" >green.outcome
		same_file "$* at GOMAXPROCS=$how" native.outcome <(sed 1d green.outcome)
	done
	for how in 1 2; do
		PGREEN_SHAKE=preempt,handoff at_procs "$how" -- outcome green "$@" >green.outcome
		same_file "$*, shaken at GOMAXPROCS=$how" native.outcome <(sed 1d green.outcome)
	done
}

# outcome HOW PROG...: what it prints, and its status.
outcome() {
	local how=$1 status=0
	shift
	"$how" "$@" </dev/null 2>stderr || status=$?
	tail -n 20 stderr >&2
	echo "status $status"
}

# few_threads PROG...: where it takes over 30 kernel threads natively, green does with a few
# for each processor.
few_threads() {
	local peak most=$((2 * $(procs) + 8))
	requires /proc/thread-self/children
	peak=$(peak_threads native "$@")
	echo "$peak kernel threads native"
	assert [ "$peak" -gt 30 ]
	peak=$(peak_threads green "$@")
	echo "$peak kernel threads green, at most $most allowed"
	[[ -z $PGREEN_LIB ]] || assert [ "$peak" -le "$most" ]
}

# ---- what run-time systems ask for ------------------------------------------------

@test "a thread's CPU clock can be asked for by others, and has a resolution" {
	everywhere "$BATS_FILE_TMPDIR/runtimes" clocks
}

@test "a thread may close pages of its own stack, and open them in a fault's handler" {
	everywhere "$BATS_FILE_TMPDIR/runtimes" guards
}

@test "a fault's handler may make the thread go on elsewhere, and there wait" {
	everywhere "$BATS_FILE_TMPDIR/runtimes" safepoints
}

@test "nothing is written where the stack pointer is not on the thread's own stack" {
	everywhere "$BATS_FILE_TMPDIR/runtimes" heaps
}

@test "a collector stops all threads by signals, and finds all that is on their stacks" {
	everywhere "$BATS_FILE_TMPDIR/runtimes" collector
}

@test "threads that wait for their turn and yield get it soon, on any number of processors" {
	everywhere "$BATS_FILE_TMPDIR/runtimes" yields
}

@test "what protection keys allow is each thread's own" {
	everywhere "$BATS_FILE_TMPDIR/runtimes" keys
}

@test "a library's own futexes park threads, wake them, and answer as the kernel" {
	local name
	for name in team answers; do
		everywhere "$BATS_FILE_TMPDIR/inlined" "$name"
	done
}

@test "also when threads wait there already, and in children" {
	local name
	for name in late children; do
		everywhere "$BATS_FILE_TMPDIR/inlined" "$name"
	done
}

@test "and SIGSYS is still the program's" {
	ulimit -c 0
	everywhere "$BATS_FILE_TMPDIR/inlined" sigsys
	assert_equal "$(tail -n 1 native.outcome)" 'status 159'
}

# ---- languages --------------------------------------------------------------------

@test "Java: monitors, pools, faults, collections, sockets, children, clocks" {
	from_package default-jdk-headless javac
	javac -d . "$sources/Threads.java"
	everywhere java -Xss512k -Xmx256m -cp . Threads 50
	few_threads java -Xss512k -Xmx256m -cp . Threads 100 monitors pools queues faults garbage
}

@test "Java prints its version" {
	from_package default-jdk-headless java
	everywhere java -version
}

@test "Node.js: worker threads, the pool of libuv, children, sockets" {
	from_package nodejs node
	everywhere node "$sources/threads.js"
}

@test "Ruby: queues, time limits, kill and raise, ractors, sockets, children" {
	from_package ruby ruby
	everywhere ruby "$sources/threads.rb"
}

@test "Perl: interpreter threads, shared variables, signals to threads" {
	requires perl
	perl -Mthreads -MThread::Queue -MTime::HiRes -e 1 2>/dev/null ||
		"$BATS_TEST_DIRNAME/deps.sh" perl >&2 || skip 'perl has no threads here'
	everywhere perl "$sources/threads.pl"
}

@test "Rust: scoped threads, channels, park, panics, sockets, children" {
	local rustc
	rustc=$(command -v rustc || command -v ~/.cargo/bin/rustc || :)
	[[ -n $rustc ]] || from_package rustc "${rustc:=rustc}"
	"$rustc" --edition 2021 -O -A unconditional_recursion -o threads "$sources/threads.rs"
	everywhere ./threads
	ulimit -c 0
	everywhere ./threads overflow
}

@test "C++: futures, stop tokens, shared mutexes, waits on atomics, exceptions" {
	requires "${CXX:-c++}"
	"${CXX:-c++}" -std=c++20 -O2 -pthread -o threads "$sources/threads.cpp"
	everywhere ./threads
}

@test "OpenMP: barriers, locks, tasks, nested teams" {
	"${CC:-cc}" -O2 -fopenmp -o omp "$sources/omp.c" 2>/dev/null || skip 'no OpenMP here'
	OMP_NUM_THREADS=8 everywhere ./omp 100
}

@test "OpenMP by LLVM: the same" {
	from_package clang clang
	[[ -e $(clang -print-file-name=libomp.so) ]] || "$BATS_TEST_DIRNAME/deps.sh" libomp-dev >&2 || :
	clang -O2 -fopenmp -o omp "$sources/omp.c" 2>/dev/null || skip 'no OpenMP for clang here'
	OMP_NUM_THREADS=16 everywhere ./omp 200
}

@test "the Boehm collector: lists that only waiting threads know are kept" {
	"$BATS_TEST_DIRNAME/deps.sh" libgc-dev >&2 || skip 'libgc-dev cannot be installed here'
	"${CC:-cc}" -O2 -pthread -o collector "$sources/collector.c" -lgc
	everywhere ./collector
}

@test "Erlang: processes, sockets, files" {
	from_package erlang-base erlc
	erlc "$sources/threads.erl"
	everywhere erl -noshell -run threads main
}

@test "oneTBB: loops, graphs, pipelines, containers, arenas" {
	"$BATS_TEST_DIRNAME/deps.sh" libtbb-dev >&2 || skip 'libtbb-dev cannot be installed here'
	"${CXX:-c++}" -std=c++17 -O2 -pthread -o tbb "$sources/tbb.cpp" -ltbb
	everywhere ./tbb
}

# ---- what stays native ----------------------------------------------------------

# stays_native WHY PROG...: it does what it does natively, and WHY is said on stderr.
stays_native() {
	local why=$1
	shift
	requires_green 'there is no library to say it'
	outcome native "$@" >native.outcome 2>/dev/null || skip "it does not run here: $*"
	outcome green "$@" >green.outcome
	same_file "$*" native.outcome green.outcome
	assert_equal "$(head -n 1 stderr)" "pgreen: $why: threads run native"
}

@test "a program with a sanitizer runs natively when the library is preloaded" {
	local cc=${CC:-cc} source=$BATS_TEST_DIRNAME/progs/trap-life.c
	"$cc" -w -O1 -std=gnu11 -D_GNU_SOURCE -fsanitize=thread -pthread -o tsan "$source" 2>/dev/null ||
		skip 'no ThreadSanitizer here'
	stays_native 'it is built with ThreadSanitizer' ./tsan key-destructors
	# gcc's AddressSanitizer refuses whatever is preloaded before itself.
	clang -w -O1 -std=gnu11 -D_GNU_SOURCE -fsanitize=address -pthread -o asan "$source" \
		2>/dev/null || return 0
	stays_native 'it is built with AddressSanitizer' ./asan key-destructors
}

@test "a program in Go runs natively" {
	from_package golang-go go
	cp "$sources/threads.go" .
	GOCACHE=$PWD/cache GOFLAGS=-mod=mod CGO_ENABLED=1 go build -o threads threads.go ||
		skip 'go cannot build here'
	stays_native 'it is written in Go, which has green threads of its own' ./threads
	native "$(dirname "${PGREEN_LIB}")/pgreen" doctor ./threads | grep -q 'written in Go'
}

@test "QEMU's user mode, known by a symbol of its own, runs natively" {
	cc -w -rdynamic -pthread -o qemu -xc - <<-'C'
		#include <pthread.h>
		void safe_syscall_base(void) { }
		static void *nothing(void *p) { return p; }
		int main(void)
		{
			pthread_t t;
			return pthread_create(&t, 0, nothing, 0) || pthread_join(t, 0);
		}
	C
	stays_native "it is QEMU, which makes its program's system calls itself" ./qemu
}
