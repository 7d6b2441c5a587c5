#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# programs.bats: real programs, from Debian's packages, give native's answer
# green.  First those that compute and synchronise: compressors, sysbench,
# stress-ng, hackbench, and CPython by its own tests.
#
# shellcheck disable=SC2030,SC2031 # $status is what `same` left in the same test

load helpers
load cpython

DATA_SIZE=32M
WIDE=16 # threads for a compressor; natively some may never start, as others are free again

setup_file() {
	local packages=(pigz pbzip2 xz-utils zstd sysbench stress-ng rt-tests python3) package

	# One at a time: what cannot be had skips its own tests and no others.
	for package in "${packages[@]}" "$(python_testsuite)"; do
		"$BATS_TEST_DIRNAME/deps.sh" "$package" >&2 || :
	done
	# Machine code and text, as people compress; tar is cut short and says so.
	tar -C / -cf - usr/lib usr/bin usr/share 2>/dev/null | head -c "$DATA_SIZE" >"$BATS_FILE_TMPDIR/data"
}

setup() {
	export PGREEN_TEST_LIMIT=100 TMPDIR=$BATS_TEST_TMPDIR
	data=$BATS_FILE_TMPDIR/data
	cd "$BATS_TEST_TMPDIR" || return
}

# ---- compressors ------------------------------------------------------------

# round_trip PACK... -- UNPACK...: green, PACK makes native's archive and UNPACK
# gets the data back, both on no more kernel threads than the contract allows:
# fewer than native takes, for which the processors are few.
round_trip() {
	local pack=() most peak
	local -x GOMAXPROCS
	GOMAXPROCS=$(procs)
	if ((GOMAXPROCS > 4)); then GOMAXPROCS=4; fi
	while [[ $1 != -- ]]; do
		pack+=("$1")
		shift
	done
	shift
	requires "${pack[0]}" /proc/thread-self/children
	most=$(($(procs) + 4))

	peak=$(peak_threads -o packed.native native "${pack[@]}" <"$data")
	echo "${pack[*]}: $peak kernel threads native"
	assert [ "$peak" -gt "$most" ]

	peak=$(peak_threads -o packed green "${pack[@]}" <"$data")
	echo "${pack[*]}: $peak kernel threads green, at most $most allowed"
	assert cmp packed.native packed
	[[ -z $PGREEN_LIB ]] || assert [ "$peak" -le "$most" ]

	peak=$(peak_threads -o unpacked green "$@" <packed)
	echo "$*: $peak kernel threads green, at most $most allowed"
	assert cmp "$data" unpacked
	[[ -z $PGREEN_LIB ]] || assert [ "$peak" -le "$most" ]
}

@test "pigz packs as native and unpacks, on GOMAXPROCS + 4 kernel threads" {
	round_trip pigz -p "$WIDE" -c -- pigz -p "$WIDE" -dc
}

@test "pbzip2 packs as native and unpacks, on GOMAXPROCS + 4 kernel threads" {
	round_trip pbzip2 -p"$WIDE" -z -c -- pbzip2 -p"$WIDE" -d -c
}

@test "xz packs as native and unpacks, on GOMAXPROCS + 4 kernel threads" {
	round_trip xz -T"$WIDE" -1 --block-size=2MiB -c -- xz -T"$WIDE" -dc
}

@test "zstd packs as native and unpacks, on GOMAXPROCS + 4 kernel threads" {
	round_trip zstd -q -T"$WIDE" -5 -c -- zstd -q -T"$WIDE" -dc
}

# ---- sysbench ---------------------------------------------------------------

# counts_only: what sysbench did, without how fast.
counts_only() {
	sed -E -e '/time:|per second:|transferred|events \(avg|execution time|^Latency|^ +(min|avg|max|sum|[0-9]+th percentile):/d' \
		-e 's/ \([0-9.]+ per second\)//'
}

sysbench_same() {
	requires sysbench
	same -f counts_only sysbench --time=0 "$@" run
	assert_equal "$status" 0
}

@test "sysbench cpu with 64 threads does native's events" {
	sysbench_same cpu --threads=64 --events=4000
}

@test "sysbench threads with 256 threads does native's events" {
	sysbench_same threads --threads=256 --events=2000 --thread-yields=100 --thread-locks=8
}

@test "sysbench mutex with 256 threads does native's events" {
	sysbench_same mutex --threads=256 --mutex-num=64 --mutex-locks=2000 --mutex-loops=200
}

@test "sysbench mutex with 1000 threads does native's events" {
	sysbench_same mutex --threads=1000 --mutex-num=16 --mutex-locks=200 --mutex-loops=100
}

@test "sysbench memory with 32 threads does native's operations" {
	sysbench_same memory --threads=32 --memory-total-size=4G
}

# ---- stress-ng --------------------------------------------------------------

# stress_same: for each line "STRESSOR INSTANCES OPERATIONS [OPTION...]" of stdin,
# green passes stress-ng's own verification, or not, as native does.  Two of the
# stressors end only by time.
stress_same() {
	local how name rest
	local -x PGREEN_TEST_LIMIT=100
	requires stress-ng

	while read -r name rest; do
		for how in native green; do
			# shellcheck disable=SC2086 # the words are meant to be split
			verdict "$how" "$name" $rest </dev/null >>"verdicts.$how"
		done
	done
	same_file "stress-ng's verdicts" verdicts.native verdicts.green
}

# verdict HOW STRESSOR INSTANCES OPERATIONS [OPTION...]: one line, without figures.
verdict() {
	local how=$1 name=$2 instances=$3 wanted=$4 status=0 done_ops said=''
	shift 4

	rm -f result.yaml
	"$how" stress-ng --verify --timeout 60 --temp-path . --metrics-brief --yaml result.yaml \
		"--$name" "$instances" "--$name-ops" "$wanted" "$@" >log 2>&1 || status=$?
	done_ops=$(sed -n 's/^ *bogo-ops: //p' result.yaml)
	((${done_ops:-0} >= wanted)) || said+=', not all operations'
	! grep -q 'fail:' log || said+=', failures'
	! grep -q 'skipped,' log || said+=', skipped'
	echo "$name: status $status$said"
	if [[ $how == green && -n $said ]]; then tail -n 20 log >&2; fi
}

@test "stress-ng verifies threads, locks and the scheduler as native" {
	stress_same <<-'LIST'
		pthread 2 4000 --pthread-max 256
		mutex 1 100000 --mutex-procs 8
		sem 2 5000 --sem-procs 8 --timeout 2
		futex 2 20000
		yield 2 10000 --timeout 2
		switch 2 20000
		schedpolicy 2 100
		race-sched 1 200
		membarrier 1 20
		peterson 1 10000
		dekker 1 10000
		lockbus 1 1000
		context 1 1000
		cpu 2 100
	LIST
}

@test "stress-ng verifies signals and timers as native" {
	stress_same <<-'LIST'
		sigq 2 5000
		sigsuspend 1 2000
		sigchld 1 500
		sigtrap 1 2000
		sigfpe 1 2000
		sigsegv 1 2000
		sigabrt 1 100
		timer 1 2000
		timerfd 1 2000
		itimer 1 200
		nanosleep 2 300
		sleep 1 200 --sleep-max 256
	LIST
}

@test "stress-ng verifies pipes, sockets, queues and asynchronous input and output as native" {
	stress_same <<-'LIST'
		pipe 2 20000
		fifo 1 10000
		eventfd 2 10000
		sockpair 1 2000
		sock 1 100
		poll 1 2000
		epoll 1 1000
		mq 1 10000
		aio 1 1000
		aiol 1 200
		sendfile 1 50
	LIST
}

@test "stress-ng verifies processes and memory as native" {
	stress_same <<-'LIST'
		fork 1 200
		clone 1 100
		zombie 1 200
		vm 1 500 --vm-bytes 32M
		mprotect 1 500
		userfaultfd 1 500
		tlb-shootdown 1 50
		landlock 1 10
		rlimit 1 50
		prctl 1 50
		set 1 1000
		getrandom 1 500
	LIST
}

# ---- hackbench --------------------------------------------------------------

untimed() {
	sed '/^Time:/d'
}

@test "hackbench passes 800,000 messages between 400 threads through pipes" {
	requires hackbench
	same -f untimed hackbench --threads --pipe --groups 10 --fds 20 --loops 200
	assert_equal "$status" 0
}

@test "hackbench passes 800,000 messages between 400 threads through sockets" {
	requires hackbench
	same -f untimed hackbench --threads --groups 10 --fds 20 --loops 200
	assert_equal "$status" 0
}

# ---- CPython ----------------------------------------------------------------

@test "CPython's test_threading as native" {
	cpython_same test_threading
}

@test "CPython's test_thread as native" {
	cpython_same test_thread
}

@test "CPython's test_threading_local as native" {
	cpython_same test_threading_local
}

@test "CPython's test_queue as native" {
	cpython_same test_queue
}

@test "CPython's test_sched as native" {
	cpython_same test_sched
}

@test "CPython's test_concurrent_futures as native: futures and thread pools" {
	cpython_same test_concurrent_futures -i '*.ProcessPool*'
}

@test "CPython's test_concurrent_futures as native: forked processes" {
	cpython_same test_concurrent_futures -m '*.ProcessPoolFork[!s]*'
}

@test "CPython's test_concurrent_futures as native: processes forked by a server" {
	cpython_same test_concurrent_futures -m '*.ProcessPoolForkserver*'
}

@test "CPython's test_concurrent_futures as native: spawned processes" {
	cpython_same test_concurrent_futures -m '*.ProcessPoolSpawn*'
}
