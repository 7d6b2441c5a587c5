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
load server

LIMIT=60 # seconds for one run of one sample

setup_file() {
	local root=$BATS_TEST_DIRNAME/.. source
	for source in "$root"/samples/*.c; do
		"${CC:-cc}" -O2 -pthread -o "$BATS_FILE_TMPDIR/$(basename "$source" .c)" "$source"
	done
	export SAMPLES=$BATS_FILE_TMPDIR
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

@test "pipering: the token goes round as often as asked" {
	same "100 threads passed the token on 5000 times" pipering 100 5000
	same "1 threads passed the token on 3 times" pipering 1 3
}

# ---- servers and their client ----

teardown() {
	kill_server
}

# everywhere FUNCTION: calls it with native, and with several numbers of processors.
everywhere() {
	local how
	for how in native 1 2 8; do
		echo "server $how:"
		"$1" "$how"
	done
}

echo_some() {
	start_server "$1" echo
	run -0 --separate-stderr native client -c 30 -m 10 -n 600 "$port"
	assert_output "30 connections, 630 requests, 20160 bytes verified, 0 errors"
	run -0 --separate-stderr native client -c 3 -m 3 -n 9 -s 1000000 "$port"
	assert_output "3 connections, 12 requests, 12000000 bytes verified, 0 errors"
	stop_server TERM
	assert_output "$(cat <<-'END'
	echo: listening on PORT
	echo: 33 connections, 12020160 bytes
	END
	)"
}

@test "echo and client: every byte comes back" {
	everywhere echo_some
}

end_while_open() {
	start_server "$1" echo
	native client -c 20 -m 20 -n 100 -i 30 "$port" >"$BATS_TEST_TMPDIR/client" 2>&1 3>&- &
	local client=$!
	until (($(ss -Htn state established "( sport = :$port )" | wc -l) == 20)); do
		sleep 0.05
	done
	stop_server INT
	assert_equal "$output" "$(cat <<-'END'
	echo: listening on PORT
	echo: 20 connections, 640 bytes
	END
	)"
	local status=0
	wait "$client" || status=$?
	assert_equal "$status" 1
	assert grep -q 'the server closed it' "$BATS_TEST_TMPDIR/client"
	assert grep -q '20 errors$' "$BATS_TEST_TMPDIR/client"
}

@test "echo: SIGINT ends it while connections are open and idle" {
	command -v ss >/dev/null || skip "ss is not installed"
	everywhere end_while_open
}

http_some() {
	local root=$BATS_TEST_TMPDIR/root page=$BATS_TEST_TMPDIR/page
	mkdir -p "$root/sub"
	head -c 200000 /dev/urandom >"$root/sub/random bytes.bin"
	: >"$root/empty.txt"
	cat >"$page" <<-'END'
	<!DOCTYPE html>
	<title>It works</title>
	<p>A thread of its own serves each connection.</p>
	END
	start_server "$1" http -d "$root"
	run -0 --separate-stderr native client -c 20 -m 10 -n 180 -g / -b "$page" "$port"
	assert_output "20 connections, 200 requests, 18200 bytes verified, 0 errors"
	run -0 --separate-stderr native client -c 20 -m 10 -n 80 -g /sub/random%20bytes.bin \
		-b "$root/sub/random bytes.bin" "$port"
	assert_output "20 connections, 100 requests, 20000000 bytes verified, 0 errors"
	run -0 --separate-stderr native client -c 1 -n 9 -g /empty.txt -b "$root/empty.txt" "$port"
	run -1 --separate-stderr native client -c 1 -n 9 -g /nothing -b "$page" "$port"
	stop_server TERM
	assert_output "$(cat <<-'END'
	http: listening on PORT
	http: 42 connections, 311 requests
	END
	)"
}

@test "http and client: pages and files arrive as they are" {
	everywhere http_some
}

# ask TEXT: sends it, and prints the status lines that come back until the server closes.
ask() {
	local socket
	exec {socket}<>"/dev/tcp/127.0.0.1/$port"
	printf "$1" >&"$socket"
	timeout 20 grep -a '^HTTP/' <&"$socket" | tr -d '\r'
	exec {socket}>&-
}

http_refuses() {
	start_server "$1" http -d "$BATS_TEST_TMPDIR"
	run -0 ask 'GET / HTTP/1.1\r\n\r\nHEAD / HTTP/1.1\r\n\r\nGET /x HTTP/1.0\r\n\r\n'
	assert_output "$(cat <<-'END'
	HTTP/1.1 200 OK
	HTTP/1.1 200 OK
	HTTP/1.1 404 Not Found
	END
	)"
	run -0 ask 'GET /../x HTTP/1.1\r\n\r\n'
	assert_output "HTTP/1.1 400 Bad Request"
	run -0 ask 'GET /%%2e%%2e/x HTTP/1.1\r\n\r\n'
	assert_output "HTTP/1.1 400 Bad Request"
	run -0 ask 'PUT /x HTTP/1.0\r\n\r\n'
	assert_output "HTTP/1.1 501 Not Implemented"
	run -0 ask 'POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc'
	assert_output "HTTP/1.1 413 Content Too Large"
	run -0 ask 'hello\r\n\r\n'
	assert_output "HTTP/1.1 400 Bad Request"
	run -0 ask "GET /$(printf '%9000s' x | tr ' ' x)"
	assert_output "HTTP/1.1 431 Request Header Fields Too Large"
	stop_server TERM
}

@test "http: what it does not serve it refuses" {
	everywhere http_refuses
}

@test "servers and client say what is wrong" {
	run -1 native echo nowhere
	assert_output --partial "usage: echo"
	run -1 native http -d /nonexistent
	assert_output "http: /nonexistent: No such file or directory"
	run -1 native client
	assert_output --partial "usage: client"
	start_server native echo
	run -1 native echo "$port"
	assert_output "echo: cannot listen on 127.0.0.1:$port: Address already in use"
	stop_server TERM
	run -1 --separate-stderr native client -c 2 "$port"
	assert_output "2 connections, 0 requests, 0 bytes verified, 2 errors"
	assert_equal "${stderr_lines[0]}" "client: connection 1, request 0: Connection refused"
}
