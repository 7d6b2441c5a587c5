#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# servers.bats: servers with a thread for each connection, at sizes where the threads count.
#
# Every byte is verified by samples/client, which runs natively and also tells what the
# server took.  Small sizes, and what servers and client say, are in samples.bats.

load helpers
load server

setup_file() {
	local sample
	export SAMPLES=$BATS_FILE_TMPDIR LIBRARY=$PGREEN_LIB
	for sample in echo http client; do
		"${CC:-cc}" -O2 -pthread -o "$SAMPLES/$sample" "$pgreen_root/samples/$sample.c"
	done
	has_library
}

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

# client ARGUMENT...: asks the server.  Leaves the JSON in output, and adds up in n_connections
# and n_bytes.
client() {
	run --separate-stderr timeout 100 "$SAMPLES/client" -j -p "$server_pid" "$@" "$port"
	echo "$output$stderr"
	((status != 77)) || skip "$stderr"
	assert_success
	n_connections=$((${n_connections-0} + $(told connections)))
	n_bytes=$((${n_bytes-0} + $(told bytes)))
}

# told NAME: the number in output.
told() {
	sed -n "s/.*\"$1\": \([0-9.-]*\).*/\1/p" <<<"$output"
}

# client_of_few HOW ARGUMENT...: asks a server of which at most as many kernel threads as
# processors and four are seen.  On a busy machine another may be seen for a while: one that
# waits for a CPU looks like one that waits in the kernel.
client_of_few() {
	local how=$1 i
	shift
	for i in {1..5}; do
		client "$@"
		[[ $how != native && $PGREEN_LIB ]] || return 0
		(($(told kernel_threads) > how + 4)) || return 0
	done
	fail "too many kernel threads, five times"
}

# stop_echo: what it counted is what the clients did.
stop_echo() {
	stop_server TERM
	assert_equal "$output" "$(printf 'echo: listening on PORT\necho: %d connections, %d bytes' \
		"$n_connections" "$n_bytes")"
	n_connections=0 n_bytes=0
}

# ticks: the CPU time that the server has taken, in hundredths of a second.
ticks() {
	local stat fields
	read -r stat <"/proc/$server_pid/stat"
	read -ra fields <<<"${stat##*) }"
	echo $((fields[11] + fields[12]))
}

# descriptors: how many the server has open.
descriptors() {
	local all=("/proc/$server_pid/fd"/*)
	echo "${#all[@]}"
}

echo_500() {
	start_server "$1" echo
	client_of_few "$1" -c 500 -m 64 -n 20000
	assert_equal "$(told requests)" 20500
	client_of_few "$1" -c 500 -m 500 -n 20000 -s 3000
	stop_echo
}

@test "500 connections to echo, 64 and 500 requests in flight" {
	everywhere echo_500
}

echo_10000() {
	start_server "$1" echo
	client_of_few "$1" -c 10000 -m 64 -n 20000
	stop_echo
}

@test "10,000 connections to echo" {
	echo_10000 native
	at_procs 1 2 -- eval 'echo_10000 "$GOMAXPROCS"'
}

http_200() {
	local file=$BATS_TEST_TMPDIR/file
	[[ -e $file ]] || head -c 300000 /dev/urandom >"$file"
	start_server "$1" http -d "$BATS_TEST_TMPDIR"
	client -c 200 -m 50 -n 1000 -g /file -b "$file"
	# A file's read holds its kernel thread.
	[[ $1 == native || ! $PGREEN_LIB ]] || assert [ "$(told kernel_threads)" -le "$(($1 + 20))" ]
	stop_server TERM
	assert_output --partial "http: 200 connections, 1200 requests"
}

@test "200 connections to http, which sends a file of 300 kB" {
	everywhere http_200
}

large_messages() {
	start_server "$1" echo
	client_of_few "$1" -c 8 -m 8 -n 24 -s 2000000
	stop_echo
}

@test "messages that fill the sockets in both directions" {
	everywhere large_messages
}

# Whoever does not read what it asked for keeps one thread in write.
stuck_clients() {
	local i sockets=() socket
	start_server "$1" echo
	for i in {1..10}; do
		exec {socket}<>"/dev/tcp/127.0.0.1/$port"
		head -c 20000000 /dev/zero >&"$socket" 3>&- &
		disown
		sockets+=("$socket")
	done
	sleep 0.3
	client_of_few "$1" -c 20 -m 20 -n 2000
	stop_server TERM # although ten of them do not read
	for socket in "${sockets[@]}"; do
		exec {socket}>&-
	done
}

@test "clients that do not read stop nobody else, nor the end" {
	everywhere stuck_clients
}

come_and_go() {
	local i before
	start_server "$1" echo
	client -c 50 -m 50 -n 0
	before=$(descriptors)
	for i in {1..20}; do
		run "$SAMPLES/client" -c 50 -m 50 -n 50 "$port"
		assert_success
	done
	client_of_few "$1" -c 50 -m 50 -n 0
	for ((i = 0; i < 200 && $(descriptors) > 10; i++)); do
		sleep 0.05
	done
	assert [ "$(descriptors)" -le "$before" ]
	n_connections=$((n_connections + 20 * 50)) n_bytes=$((n_bytes + 20 * 100 * 32))
	stop_echo
}

@test "connections that come and go leave nothing behind" {
	everywhere come_and_go
}

idle_500() {
	local before took
	start_server "$1" echo
	client -c 500 -n 0 -i 0.1 # what is done once is done
	before=$(ticks)
	client -c 500 -n 0 -i 2
	took=$(($(ticks) - before))
	echo "$took ticks"
	stop_server TERM
	# 0.3 s to create 500 threads and answer them once, on a busy machine.
	assert [ "$took" -le 30 ]
}

@test "500 idle connections take no processor" {
	everywhere idle_500
}

@test "every preemption and hand-off in the way of 50 connections" {
	requires_green "it is pgreen's"
	local how
	for how in 1 2 8; do
		PGREEN_SHAKE=preempt,handoff start_server "$how" echo
		client -c 50 -m 50 -n 3000
		client -c 50 -m 10 -n 100 -s 100000
		stop_echo
	done
}
