#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# The samples print the same natively and green, whatever GOMAXPROCS is.
#
# They assert their own answers, so that a status of 0 already says much; what they print
# is compared with what is written here, and so with what they print natively.

bats_require_minimum_version 1.5.0
bats_load_library bats-support
bats_load_library bats-assert

LIMIT=60 # seconds for one run of one sample

setup_file() {
	local root=$BATS_TEST_DIRNAME/.. source
	for source in "$root"/samples/*.c; do
		"${CC:-cc}" -O2 -pthread -o "$BATS_FILE_TMPDIR/$(basename "$source" .c)" "$source"
	done
	export LIBRARY=${PGREEN_LIB:-${B:-build}/libpgreen.so}
	[[ $LIBRARY == /* ]] || LIBRARY=$root/$LIBRARY
	if [[ ! -e $LIBRARY ]]; then
		echo "no $LIBRARY: run make" >&2
		return 1
	fi
}

native() {
	timeout "$LIMIT" "$BATS_FILE_TMPDIR/$1" "${@:2}"
}

# green PROCESSORS SAMPLE [ARGUMENT...]: env comes last, so that nothing else is preloaded.
green() {
	timeout "$LIMIT" env GOMAXPROCS="$1" LD_PRELOAD="$LIBRARY" "$BATS_FILE_TMPDIR/$2" "${@:3}"
}

# shellcheck disable=SC2154 # run --separate-stderr assigns stderr
# The run before printed what is on stdin, and succeeded.
printed() {
	local expected
	expected=$(cat)
	if ((status == 77)); then
		skip "$stderr"
	fi
	# On failure, assert_success shows stdout alone.
	if ((status != 0)); then
		echo "stderr: $stderr" >&2
	fi
	assert_success
	assert_equal "$output" "$expected"
}

# same EXPECTED SAMPLE [ARGUMENT...]
same() {
	local expected=$1 processors
	shift
	run --separate-stderr native "$@"
	printed <<<"$expected"
	for processors in 1 2 8; do
		echo "green, GOMAXPROCS=$processors:"
		run --separate-stderr green "$processors" "$@"
		printed <<<"$expected"
	done
}

# The most kernel threads that a process had, as seen from outside until it ended.
peak_of() {
	local pid=$1 peak=0 now end=$((SECONDS + LIMIT))
	# A zombie still has one thread, and means that it ended.
	while now=$(awk '/^State:\tZ/ { exit } /^Threads:/ { print $2 }' \
		"/proc/$pid/status" 2>/dev/null) && [[ $now ]]; do
		((now > peak)) && peak=$now
		((SECONDS < end)) || kill -KILL "$pid"
		sleep 0.01
	done
	echo "$peak"
}

@test "hello: main waits for its thread, and gets what it returned" {
	same "$(cat <<-'END'
	hello from a thread
	main waited: it said 42
	END
	)" hello
}

@test "workers: three are joined in the order that main asks for" {
	same "$(cat <<-'END'
	worker 1: sum of 1 to 1000000 is 500000500000
	worker 2: sum of 1000001 to 2000000 is 1500000500000
	worker 3: sum of 2000001 to 3000000 is 2500000500000
	all: 4500001500000
	END
	)" workers
}

@test "sleepers: 10,000 threads sleep at once, and none wakes early" {
	same "$(cat <<-'END'
	10000 threads asleep at once
	10000 threads woke, 0 of them early
	END
	)" sleepers
}

@test "sleepers: green, they take at most GOMAXPROCS + 4 kernel threads" {
	local processors peak
	for processors in 1 2 8; do
		GOMAXPROCS=$processors LD_PRELOAD=$LIBRARY "$BATS_FILE_TMPDIR/sleepers" \
			>/dev/null 2>"$BATS_TEST_TMPDIR/stderr" 3>&- &
		peak=$(peak_of $!)
		wait $!
		run cat "$BATS_TEST_TMPDIR/stderr"
		assert_line --regexp "^sleepers: GOMAXPROCS $processors, [0-9]+ kernel threads$"
		echo "GOMAXPROCS=$processors: at most $peak seen from outside; $output"
		assert [ "$peak" -le $((processors + 4)) ]
		assert [ "$(sed -n 's/.*, \([0-9]*\) kernel threads$/\1/p' <<<"$output")" \
			-le $((processors + 4)) ]
	done
}

@test "cpubound: one thread and four find the same primes" {
	same "$(cat <<-'END'
	one thread: 148933 primes below 2000000
	4 threads: 148933 primes below 2000000
	END
	)" cpubound
}

@test "counter: no addition under the mutex is lost" {
	same "8 threads x 100000 additions = 800000" counter
}

@test "prodcons: every number put is taken exactly once" {
	same "$(cat <<-'END'
	2 producers put 100000 numbers
	3 consumers took 100000 numbers, each once
	their sum is 4999950000
	END
	)" prodcons
}

ENDLESS=$(cat <<-'END'
	no more threads
	all of them ran and were joined
	100 new threads ran and were joined
END
)

@test "endless: threads up to a bound, and the program goes on" {
	same "$ENDLESS" endless
}

@test "endless: threads until the address space is used up, and the program goes on" {
	ulimit -v 500000
	same "$ENDLESS" endless 1000000
	# The bound was not what ended it.
	[[ $stderr == *"Resource temporarily unavailable"* ]]
}
