# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# server.bash: starting and ending the samples that serve.
#
# shellcheck disable=SC2034 # status and output are the caller's, as after run
#
#   SAMPLES  the directory with the built samples
#   LIBRARY  what green means; empty: native too
#
# A file that loads this calls kill_server in its teardown.

# start_server HOW SAMPLE [ARGUMENT...]: HOW is native or the number of processors.  Leaves
# its process id in server_pid and its port in port.
start_server() {
	local how=$1 out=$BATS_TEST_TMPDIR/server.out end=$((SECONDS + 20)) command
	shift
	command=("$SAMPLES/$1" "${@:2}")
	[[ $how == native || ! $LIBRARY ]] ||
		command=(GOMAXPROCS="$how" LD_PRELOAD="$LIBRARY" "${command[@]}")
	: >"$out"
	# A job of a shell without job control would ignore SIGINT.
	env --default-signal=INT "${command[@]}" >"$out" 3>&- &
	server_pid=$!
	until port=$(sed -n 's/.*: listening on .*://p' "$out") && [[ $port ]]; do
		kill -0 "$server_pid" && ((SECONDS < end)) || return
		sleep 0.02
	done
}

# stop_server SIGNAL: leaves what it printed, but for its port, in output.
stop_server() {
	local end=$((SECONDS + 20)) state
	kill "-$1" "$server_pid"
	while state=$(ps -o state= -p "$server_pid") && [[ $state != Z* ]]; do
		((SECONDS < end)) || fail "the server does not end" || return
		sleep 0.02
	done
	status=0
	wait "$server_pid" || status=$?
	server_pid=
	output=$(sed 's/127\.0\.0\.1:[0-9]*$/PORT/' "$BATS_TEST_TMPDIR/server.out")
	assert_success
}

# kill_server: the one that a failed test left.
kill_server() {
	[[ ! ${server_pid-} ]] || kill -KILL "$server_pid" 2>/dev/null || :
}
