#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# traps.bats: what libc, C++ and other libraries do behind a thread's back: their state in
# each thread, their own threads, locks that nobody knows of, the ways a process ends.
#
# shellcheck disable=SC2016 # the sample's own dollars

load helpers

PROGS=(life spin malloc adopt exit files dlopen)

setup_file() {
	local prog
	for prog in "${PROGS[@]}"; do
		build_prog "trap-$prog"
	done
	build_library initial-exec -DINITIAL_EXEC
	build_library dynamic
	if command -v "${CXX:-c++}" >/dev/null; then
		"${CXX:-c++}" -O2 -g -pthread -o "$BATS_FILE_TMPDIR/trap-cxx" \
			"$BATS_TEST_DIRNAME/progs/trap-cxx.cpp"
	fi
}

# build_library NAME [FLAG...]: the library that trap-dlopen loads.
build_library() {
	local name=$1
	shift
	"${CC:-cc}" -O2 -g -std=gnu11 -fPIC -shared -DLIBRARY "$@" \
		-o "$BATS_FILE_TMPDIR/$name.so" "$BATS_TEST_DIRNAME/progs/trap-dlopen.c"
}

# everywhere PROG ARG...: natively; green on 1, 2 and 8 processors; and on 1 and 2 with
# preemption and hand-off at every chance.
everywhere() {
	local prog=$BATS_FILE_TMPDIR/trap-$1
	shift
	echo "$*, natively:"
	native "$prog" "$@"
	at_procs 1 2 8 -- green "$prog" "$@"
	PGREEN_SHAKE=preempt,handoff at_procs 1 2 -- green "$prog" "$@"
}

# same_everywhere [-f FILTER] PROG CASE...: each case's status and output are as natively.
same_everywhere() {
	local filter=cat prog case
	if [[ $1 == -f ]]; then
		filter=$2
		shift 2
	fi
	prog=$BATS_FILE_TMPDIR/trap-$1
	shift
	for case in "$@"; do
		echo "case $case:"
		at_procs 1 2 8 -- same -f "$filter" "$prog" "$case"
		PGREEN_SHAKE=preempt,handoff at_procs 1 2 -- same -f "$filter" "$prog" "$case"
	done
}

# --- a thread's beginning and end -------------------------------------------------------

@test "a thread begins with fresh errno, locale, ctype, resolver, dlerror and thread-locals" {
	everywhere life fresh
}

@test "each thread has its own resolver state, and getaddrinfo works in all" {
	everywhere life resolver
}

@test "destructors of keys run in libc's order, as often as libc's" {
	same_everywhere life key-destructors
}

@test "a deleted key's values have no destructor and are not the next key's" {
	everywhere life key-deleted
}

@test "pthread_getattr_np covers a parked thread's stack, and that of its handlers" {
	everywhere life stack-of-parked
}

@test "threads may use all of their stacks, in deep recursion and in one alloca" {
	everywhere life deep-stacks
}

# --- C++ -----------------------------------------------------------------------------------

@test "thread_local objects are made and destroyed with each thread, before its keys" {
	requires "${CXX:-c++}"
	everywhere cxx thread-locals
}

@test "exceptions are each thread's own, also while it waits in a handler" {
	requires "${CXX:-c++}"
	everywhere cxx exceptions
}

@test "an uncaught exception in a thread ends the process as natively" {
	requires "${CXX:-c++}"
	same_everywhere cxx uncaught
	assert_equal "$status" 134
}

@test "pthread_exit unwinds C++ frames, and catch (...) passes it on" {
	requires "${CXX:-c++}"
	everywhere cxx exit-unwinds
}

@test "so does a cancel in a wait, with the mutex held" {
	requires "${CXX:-c++}"
	everywhere cxx cancel-unwinds
}

@test "so does a cancel in a handler, whose stack lies above the thread's" {
	requires "${CXX:-c++}"
	everywhere cxx cancel-on-signal-stack
}

# --- libraries loaded later -------------------------------------------------------------------

@test "threads find their part of a library that was loaded while they waited" {
	everywhere dlopen "$BATS_FILE_TMPDIR/dynamic.so"
}

@test "also where its thread-locals lie in the static block" {
	everywhere dlopen "$BATS_FILE_TMPDIR/initial-exec.so"
}

# --- locks that nobody knows of ------------------------------------------------------------

@test "a spinlock of the program's own may be held over a time slice" {
	everywhere spin plain
	everywhere spin yielding
}

@test "and over a sleep" {
	everywhere spin over-sleep
	everywhere spin over-sleep-yielding
}

# --- allocators ------------------------------------------------------------------------------

# with_allocator PACKAGE FILE: FILE preloaded before and after the library, and linked.
with_allocator() {
	local package=$1 name=$2 lib order prog=$BATS_FILE_TMPDIR/trap-malloc
	"$BATS_TEST_DIRNAME/deps.sh" "$package" || skip "no $package here"
	lib=$("${CC:-cc}" -print-file-name="$name")
	requires "$lib"
	echo "preloaded, natively:"
	LD_PRELOAD=$lib native "$prog" "$name"
	has_library
	for order in "$lib${PGREEN_LIB:+:$PGREEN_LIB}" "${PGREEN_LIB:+$PGREEN_LIB:}$lib"; do
		echo "LD_PRELOAD=$order:"
		at_procs 1 2 8 -- native LD_PRELOAD="$order" "$prog" "$name"
	done
	build_prog trap-malloc -Wl,--no-as-needed "$lib"
	everywhere malloc "$name"
}

@test "threads allocate from jemalloc, preloaded before and after, and linked" {
	with_allocator libjemalloc2 libjemalloc.so.2
}

@test "threads allocate from tcmalloc" {
	with_allocator libtcmalloc-minimal4 libtcmalloc_minimal.so.4
}

@test "threads allocate from mimalloc" {
	with_allocator libmimalloc2.0 libmimalloc.so.2
}

@test "threads allocate from libc's malloc" {
	build_prog trap-malloc
	everywhere malloc libc.so
}

# --- threads of libc's own -------------------------------------------------------------------

@test "a timer's thread locks, signals and has values of keys like any other" {
	everywhere adopt timers
	everywhere adopt timer-first
}

@test "it waits for the program's threads, and starts some" {
	everywhere adopt timer-waits
}

@test "what it waits for since before the program's first thread still wakes it" {
	everywhere adopt elders
}

@test "its cleanup handlers run when it exits or is cancelled, and it ends alone" {
	same_everywhere adopt ends
	assert_equal "$status" 7
}

@test "a thread that another library made by libc's own function is joined like any" {
	everywhere adopt foreign
}

@test "aio_read notifies by a thread, and aio_suspend waits" {
	everywhere adopt aio
	everywhere adopt aio-waits
}

@test "getaddrinfo_a notifies by a thread" {
	everywhere adopt lookups
}

@test "mq_notify notifies by a thread" {
	native "$BATS_FILE_TMPDIR/trap-adopt" queue || skip "no message queues here"
	everywhere adopt queue
}

# --- the end of a process -------------------------------------------------------------------

@test "exit in a thread or in main runs atexit once, whatever the other threads do" {
	same_everywhere exit exit-in-thread exit-in-main return-from-main
}

@test "main may end before its threads, and they outlive it" {
	same_everywhere exit exit-main-first last-thread main-alone main-has-keys
}

@test "a handler of atexit may wait for threads and start one" {
	same_everywhere exit joined-at-exit joined-at-exit-in-thread
}

@test "abort, a crash and quick_exit in a thread end the process as natively" {
	same_everywhere exit abort-in-thread quick-exit-in-thread crash-in-thread
}

# --- files and children ------------------------------------------------------------------------

@test "64 threads that print to one FILE lose no line and tear none" {
	same_everywhere -f sort files print
	run -0 bash -c '"$@" | wc -l' _ "$BATS_FILE_TMPDIR/trap-files" print
	assert_output "$((64 * 200))"
}

@test "what is printed under flockfile stays together" {
	same_everywhere -f sort files print-locked
}

@test "O_NONBLOCK of inherited files is never changed" {
	everywhere files flags
}

@test "system and popen in threads run pipelines whose commands are green too" {
	everywhere files shell
	everywhere files inherits
}
