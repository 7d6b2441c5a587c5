#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# limits.bats: how many threads there can be, what each takes, what is left of those that
# ended, and what happens when there can be no more.

load helpers

PROGS=(many churn exhaust stacks crowd locals)

setup_file() {
	local prog
	for prog in "${PROGS[@]}"; do
		build_prog "$prog"
	done
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

# number_before WORDS: the number that $output has in front of WORDS.
number_before() {
	local pattern="(-?[0-9]+) $1"
	[[ $output =~ $pattern ]] || fail "no number of $1: $output" || return
	echo "${BASH_REMATCH[1]}"
}

@test "20,000 threads alive at once are as they should be, on few kernel threads" {
	requires_green "natively there are as many kernel threads"
	at_procs 1 2 8 -- alive_at_once 20000
}

alive_at_once() {
	local kernel_threads bytes
	run green "$BATS_FILE_TMPDIR/many" "$1"
	assert_success
	kernel_threads=$(number_before 'kernel threads')
	bytes=$(number_before 'bytes per thread')
	((kernel_threads <= GOMAXPROCS + 4)) || fail "$kernel_threads kernel threads"
	((bytes <= 10240)) || fail "$bytes bytes per thread"
}

@test "64 threads that all block at once for the first time take few kernel threads" {
	requires_green "natively there are as many kernel threads"
	at_procs 1 2 8 -- blocked_at_once
}

blocked_at_once() {
	run green "$BATS_FILE_TMPDIR/crowd"
	assert_success
	((output <= GOMAXPROCS + 4)) || fail "$output kernel threads"
}

@test "threads alive at once are as they should be, natively" {
	run native "$BATS_FILE_TMPDIR/many" 1000
	assert_success
}

@test "threads that ended leave nothing behind, neither memory nor state" {
	native "$BATS_FILE_TMPDIR/churn" 20000
	at_procs 1 2 -- leaves_nothing 50000 1
	at_procs 1 2 8 -- leaves_nothing 50000 64
}

# leaves_nothing THREADS ALIVE: what one thread leaves may be no more than 16 bytes, and
# 1 MiB is the heap's own to grow.
leaves_nothing() {
	local kib
	run green "$BATS_FILE_TMPDIR/churn" "$1" "$2"
	assert_success
	kib=$(number_before 'KiB more')
	((kib < 1024 + $1 / 64)) || fail "$kib KiB more after $1 threads"
}

@test "pthread_create says EAGAIN when the address space is full, and the program goes on" {
	everywhere exhaust address-space shared-address-space one-by-one
}

@test "pthread_create says EAGAIN when memory is full, and the program goes on" {
	everywhere exhaust data
}

@test "the first thread may be the one for which there is no room" {
	everywhere exhaust no-room-for-the-first little-room-for-the-first
}

@test "stacks of sizes that nobody can have are refused" {
	everywhere exhaust sizes
}

@test "RLIMIT_NPROC is met by the first thread, by later ones and by workers" {
	everywhere exhaust processes processes-later processes-for-a-while
}

@test "it is met again when threads come after main was alone for long" {
	everywhere exhaust processes-after-rest
}

@test "2,000 threads with stacks of the default size" {
	everywhere exhaust default-stacks
}

@test "who finds no room for a thread lets those end that can" {
	everywhere exhaust turnover
	requires_green "natively others end meanwhile"
	at_procs 1 -- few_tries_in_vain
}

few_tries_in_vain() {
	run green "$BATS_FILE_TMPDIR/exhaust" turnover
	assert_success
	(($(number_before 'tries in vain') < 2000)) || fail "$output"
}

@test "a stack is as large as asked, and can be used to its end" {
	everywhere stacks sizes
}

@test "a thread knows its guard" {
	everywhere stacks guard-sizes
}

@test "threads run on stacks that the program supplies" {
	everywhere stacks own-stacks
}

@test "an overflow meets the guard" {
	everywhere stacks overflows overflows-after-fork
}

@test "a program that catches an overflow goes on" {
	everywhere stacks recovers
}

@test "thread-local variables may be larger than a small stack" {
	everywhere locals large
}

@test "a stack that is too small for them, or too large to be, is refused" {
	everywhere locals small-stacks
}

@test "stacks that nobody uses are given back" {
	everywhere stacks given-back
}

@test "a thread that waits for long keeps no more of its stack than it uses" {
	requires_green "native threads keep what they touched"
	at_procs 1 2 8 -- green "$BATS_FILE_TMPDIR/stacks" parked-shrink
}

@test "but all of it where its coroutines may have their stacks there" {
	native "$BATS_FILE_TMPDIR/stacks" coroutines
	PGREEN_SHAKE=preempt at_procs 1 2 -- green "$BATS_FILE_TMPDIR/stacks" coroutines
}

@test "RLIMIT_STACK is the default size" {
	local kib
	for kib in 256 8192 unlimited; do
		(ulimit -Ss "$kib" && same "$BATS_FILE_TMPDIR/stacks" default-size)
	done
	same "$BATS_FILE_TMPDIR/stacks" default-changed
}

@test "PGREEN_STACK is the default size where it is set" {
	requires_green "it is pgreen's"
	PGREEN_STACK=131072 run green "$BATS_FILE_TMPDIR/stacks" default-size
	assert_success
	assert_output 131072
}
