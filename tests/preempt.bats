#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# preempt.bats: a thread that does not let go starves nobody, on one processor least of
# all: not by computing, not by spinning, not in a system call that nobody announced.

load helpers

setup_file() {
	build_prog stuck
	build_prog resize -ldl
	build_prog late
	build_prog fpu -lm
}

# in_time CASE...: each case, natively and green on 1, 2 and 8 processors, is over soon, exit
# included: in two seconds, and ten times what this machine takes natively now.
in_time() {
	local case took most
	for case in "$@"; do
		most=60000
		echo "case $case, natively:"
		timed native "$BATS_FILE_TMPDIR/stuck" "$case"
		most=$((2000 + 10 * took))
		at_procs 1 2 8 -- timed green "$BATS_FILE_TMPDIR/stuck" "$case"
	done
}

# timed CMD...: fails when CMD does, or takes most milliseconds.
timed() {
	local begun=${EPOCHREALTIME/./}
	"$@" || return
	took=$(((${EPOCHREALTIME/./} - begun) / 1000))
	((took < most)) || fail "$took ms, of $most: $*"
}

@test "a thread that spins on a flag lets the thread run that sets it" {
	in_time spins-on-flag
}

@test "so do more of them than there are processors" {
	in_time many-spin-on-flag
}

@test "a thread in an inlined system call blocks nobody else" {
	in_time inlined-read
}

@test "a spinlock may be held over a sleep while another wants it" {
	in_time spinlock-over-sleep
}

@test "a process ends while threads compute" {
	in_time exit-while-computing exit-while-all-compute
}

@test "a thread whose calls are all short starves nobody" {
	in_time calls-for-ever
}

@test "a crowd that wakes each other lets in who comes back from the kernel" {
	in_time behind-a-crowd
}

@test "a handler on an alternate stack that is just large enough is preempted elsewhere" {
	in_time on-a-small-stack
}

# A forced hand-off moves them.
@test "threads that write, or hold spinlocks, all the time take turns on one kernel thread" {
	unset PGREEN_SHAKE
	in_time writers-take-turns spinlocks-take-turns
}

@test "a pair that wakes each other for ever starves nobody" {
	in_time ping-pong-for-ever
}

@test "all registers survive when threads that compute take turns" {
	in_time registers
}

# fpu CASE: natively, and green on 1, 2 and 8 processors.
fpu() {
	native "$BATS_FILE_TMPDIR/fpu" "$1"
	at_procs 1 2 8 -- green "$BATS_FILE_TMPDIR/fpu" "$1"
}

@test "nobody gets what another thread has on the x87 stack" {
	fpu x87-values
}

@test "a handler begins with the first floating-point settings, and changes none" {
	fpu in-handlers
}

@test "who computes after all were idle for long keeps no timer and no descriptor waiting" {
	local case
	for case in timers descriptors; do
		echo "case $case, natively:"
		native "$BATS_FILE_TMPDIR/late" "$case"
		at_procs 1 2 -- green "$BATS_FILE_TMPDIR/late" "$case"
	done
}

# These count who computes: a forced hand-off lets a task run on beside its processor.
@test "GOMAXPROCS can be changed while threads run" {
	requires_green "there is no such number"
	unset PGREEN_SHAKE
	at_procs 1 2 -- green "$BATS_FILE_TMPDIR/resize" 1 4 2 1
}

@test "processors taken out of use come back" {
	requires_green "there is no such number"
	unset PGREEN_SHAKE
	at_procs 3 -- green "$BATS_FILE_TMPDIR/resize" 1 4 1 2 4
}

@test "and when the number changes faster than they come and go" {
	requires_green "there is no such number"
	unset PGREEN_SHAKE
	PGREEN_TEST_LIMIT=20 at_procs 2 8 -- green "$BATS_FILE_TMPDIR/resize" hurry
}
