#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# servers-real.bats: real servers, from Debian's packages, answer their clients green as
# they do natively, and shut down as cleanly: memcached, redis, apache2, varnish, MariaDB,
# and CPython by its own tests of sockets, processes and event loops.
#
# The clients are always native.  Each server runs in the foreground, on a free port, and
# is killed with all that it started when its test is over, however that ended.

load helpers
load cpython

setup_file() {
	local packages=(memcached redis apache2-bin apache2-utils varnish mariadb-server
		sysbench curl python3) package

	# One at a time: what cannot be had skips its own tests and no others.
	for package in "${packages[@]}" "$(python_testsuite)"; do
		"$BATS_TEST_DIRNAME/deps.sh" "$package" >&2 || :
	done
}

setup() {
	export PGREEN_TEST_LIMIT=100
	# Servers that give root up read what lies here: bats's own directory is root's alone.
	work=$(mktemp -d "${TMPDIR:-/tmp}/pgreen-servers.XXXXXX")
	mkdir "$work/tmp"
	chmod 755 "$work"
	chmod 1777 "$work/tmp"
	export TMPDIR=$work/tmp
	cd "$work" || return
}

teardown() {
	local leftover
	cd /
	for leftover in $(marked); do
		kill -KILL "$leftover" 2>/dev/null || :
	done
	rm -rf "$work"
}

# marked: the processes that start() started for this test, and all that came of them.
marked() {
	local environ
	for environ in /proc/[0-9]*/environ; do
		if grep -qszF "PGREEN_TEST_SERVES=$work" "$environ"; then
			environ=${environ#/proc/}
			echo "${environ%/environ}"
		fi
	done
}

# ---- words ------------------------------------------------------------------

# same_service SERVICE [ARG...]: SERVICE HOW ARG..., run in a directory of its own, prints
# the same with HOW native and green: what a client saw, and how the server ended.  A
# crowd of threads takes few kernel threads green.
same_service() {
	local how
	for how in native green; do
		mkdir "$work/$how"
		cd "$work/$how" || return
		chmod 777 .
		"$1" "$how" "${@:2}" >answers || {
			echo "$how, it said:" && tail -n 30 answers server.err >&2
			return 1
		}
		echo "$how: at most $(<peak) kernel threads in one process"
	done
	cd "$work" || return
	assert [ -s native/answers ]
	cat native/answers
	same_file "answers of $*" {native,green}/answers
	# Some calls hold their kernel thread (disks, page faults), on a busy machine for longer.
	if [[ $PGREEN_LIB && $(<native/peak) -gt 60 ]]; then
		assert [ "$(<green/peak)" -le "$(($(procs) + 20))" ]
	fi
}

# start HOW PROG...: starts a server in the background; $server is its pid.
start() {
	local tree pid name program=$2

	PGREEN_TEST_SERVES=$work peak_threads -o server.out "$@" >peak 2>server.err </dev/null 3>&- &
	server_job=$!
	for _ in $(seq 200); do
		find_tree tree "$server_job"
		for pid in "${tree[@]}"; do
			read -r -d '' name <"/proc/$pid/cmdline" || continue
			[[ ${name##*/} == "$program"* ]] && server=$pid && return
		done 2>/dev/null
		sleep 0.02
	done
	echo "no $program among the processes" >&2
	return 1
}

# stop SIGNAL: ends the server and prints its status.
stop() {
	local status=0
	kill "-$1" "$server"
	wait "$server_job" || status=$?
	echo "exit status $status"
}

# free_port: a port that nobody listens on.
free_port() {
	local port
	while port=$((20000 + RANDOM % 10000)); do
		is_open "$port" || break
	done
	echo "$port"
}

is_open() {
	(exec 4<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

await_port() {
	for _ in $(seq 600); do
		is_open "$1" && return
		sleep 0.05
	done
	echo "nobody listens on port $1" >&2
	return 1
}

# as_user NAME WORD...: WORD... when we are root, whom servers do not want to be.
as_user() {
	((EUID == 0)) && id -u "$1" >/dev/null 2>&1 && echo "${@:2}"
	:
}

# pages: what a web server is to serve, in ./www.
pages() {
	mkdir www
	head -c 20000 /dev/urandom >www/small
	head -c 3000000 /dev/urandom >www/large
}

# load_web URL [kept]: what ab and curl saw; kept: connections that are kept may fail.
load_web() {
	local want ok=0 may_fail=${2-}

	ab -q -n 10000 -c 100 -k "$1/small" 2>ab.err | grep -E "^(Complete|Failed${may_fail:+=})" || cat ab.err
	ab -q -n 2000 -c 100 "$1/small" 2>ab.err | grep -E '^(Complete|Failed)' || cat ab.err
	want=$(sha256sum <www/large)
	for _ in {1..6}; do
		if [[ $(curl -s "$1/large" | sha256sum) == "$want" ]]; then ok=$((ok + 1)); fi
	done
	echo "large pages as they should be: $ok"
}

# ---- memcached --------------------------------------------------------------

memcached_service() {
	local how=$1 threads=$2 port
	port=$(free_port)
	# shellcheck disable=SC2046 # no word, or two
	start "$how" memcached $(as_user nobody -u nobody) -l 127.0.0.1 -p "$port" -t "$threads" -m 256
	await_port "$port"
	python3 - "$port" <<-'PYTHON'
		import hashlib, socket, sys, threading

		def connect():
		    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60)
		    return s, s.makefile("rb")

		def value(client, i):
		    return hashlib.sha256(b"%d-%d" % (client, i)).hexdigest().encode() * (i % 30 + 1)

		def load(client):
		    s, answers = connect()
		    for i in range(500):
		        v = value(client, i)
		        s.sendall(b"set k%d_%d 0 0 %d\r\n%s\r\n" % (client, i, len(v), v))
		        bad[client] += answers.readline() != b"STORED\r\n"
		    for i in range(500):
		        v = value(client, i)
		        s.sendall(b"get k%d_%d\r\n" % (client, i))
		        bad[client] += answers.readline() != b"VALUE k%d_%d 0 %d\r\n" % (client, i, len(v))
		        bad[client] += answers.read(len(v) + 7) != v + b"\r\nEND\r\n"
		    for i in range(200):
		        s.sendall(b"incr counter 1\r\n")
		        answers.readline()

		n = 20
		bad = [0] * n
		s, answers = connect()
		s.sendall(b"set counter 0 0 1\r\n0\r\n")
		answers.readline()
		clients = [threading.Thread(target=load, args=(i,)) for i in range(n)]
		for c in clients: c.start()
		for c in clients: c.join()
		s.sendall(b"get counter\r\nstats\r\n")
		print("bad answers", sum(bad), answers.readline(), answers.readline(), answers.readline())
		for line in iter(answers.readline, b"END\r\n"):
		    if line.split()[1] in (b"curr_items", b"threads", b"cmd_set", b"get_hits"):
		        print(line.decode().strip())
	PYTHON
	stop TERM
}

@test "memcached with 8 threads serves as native" {
	requires memcached python3
	same_service memcached_service 8
}

@test "memcached with 64 threads serves as native" {
	requires memcached python3
	same_service memcached_service 64
}

# ---- redis ------------------------------------------------------------------

redis_service() {
	local how=$1 port
	port=$(free_port)
	start "$how" redis-server --port "$port" --bind 127.0.0.1 --dir "$PWD" --io-threads 4 \
		--io-threads-do-reads yes --appendonly yes --save '' --enable-debug-command local
	await_port "$port"
	redis() { redis-cli -p "$port" "$@"; }

	redis-benchmark -p "$port" --threads 2 -c 50 -n 2000 -P 16 -t set,get,incr -q 2>&1 |
		tr '\r' '\n' | grep -c 'requests per second'
	redis get counter:__rand_int__
	redis flushall >/dev/null
	seq 0 19999 | awk '{ print "SET key:" $1, "value:" $1 * 7919 % 65537 }' | redis --pipe | tail -n 1
	redis debug digest
	redis bgsave
	# A rewrite that meets a save is "scheduled", not "started".
	for _ in {1..600}; do
		(($(redis info persistence | grep -c '^rdb_bgsave_in_progress:0') < 1)) || break
		sleep 0.1
	done
	redis bgrewriteaof
	for _ in {1..100}; do
		(($(redis info persistence | grep -cE '_in_progress:0|rewrite_scheduled:0') < 3)) || break
		sleep 0.1
	done
	redis info persistence | grep -E 'last_bg(save|rewrite)_status'
	redis unlink key:1
	redis flushall async
	redis dbsize
	stop TERM
}

@test "redis with 4 I/O threads serves and saves as native" {
	requires redis-server redis-cli redis-benchmark
	same_service redis_service
}

# ---- apache2 ----------------------------------------------------------------

httpd_service() {
	local how=$1 mpm=$2 port kept='' modules=/usr/lib/apache2/modules
	port=$(free_port)
	pages
	cat >conf <<-CONF
		ServerRoot $PWD
		ServerName localhost
		Listen 127.0.0.1:$port
		PidFile $PWD/pid
		LoadModule mpm_module $modules/mod_mpm_$mpm.so
		LoadModule authz_core_module $modules/mod_authz_core.so
		DocumentRoot $PWD/www
		ErrorLog $PWD/errors
		$(as_user www-data 'User www-data')
		$(as_user www-data 'Group www-data')
		StartServers 2
		ServerLimit 4
		ThreadsPerChild 64
		ThreadLimit 64
		MaxRequestWorkers 256
		MinSpareThreads 64
		MaxSpareThreads 256
		MaxKeepAliveRequests 0
		EnableMMAP off
	CONF
	sed -i "s/mpm_module/mpm_${mpm}_module/" conf
	start "$how" apache2 -f "$PWD/conf" -DFOREGROUND
	await_port "$port"
	# When the event module lacks threads it closes connections that idle, and ab counts a
	# failure: natively too, as it happens.
	[[ $mpm != event ]] || kept=kept
	load_web "http://127.0.0.1:$port" $kept
	stop WINCH
	grep -Eo 'exit signal.*|AH00(045|046).*' errors || :
}

@test "apache2's worker module serves as native" {
	requires apache2 ab curl /usr/lib/apache2/modules/mod_mpm_worker.so
	same_service httpd_service worker
}

@test "apache2's event module serves as native" {
	requires apache2 ab curl /usr/lib/apache2/modules/mod_mpm_event.so
	same_service httpd_service event
}

# ---- varnish ----------------------------------------------------------------

varnish_service() {
	local how=$1 port backend_port backend
	port=$(free_port)
	backend_port=$(free_port)
	pages
	PGREEN_TEST_SERVES=$work python3 -m http.server "$backend_port" --bind 127.0.0.1 -d www \
		>backend.log 2>&1 3>&- &
	backend=$!
	await_port "$backend_port"
	start "$how" varnishd -F -j none -n "$PWD/v" -a "127.0.0.1:$port" -b "127.0.0.1:$backend_port" \
		-s malloc,64m -p thread_pool_min=100 -p thread_pool_max=500 -p thread_pools=2
	await_port "$port"
	load_web "http://127.0.0.1:$port"
	varnishstat -n "$PWD/v" -1 | awk '$1 ~ /threads_(failed|limited)|fetch_failed|sess_fail$/ {print $1, $2}'
	stop TERM
	kill "$backend"
}

@test "varnish with 200 to 1000 threads serves as native" {
	requires varnishd varnishstat ab curl python3 gcc
	same_service varnish_service
}

# ---- MariaDB ----------------------------------------------------------------

mariadb_service() {
	local how=$1 clients=$2 queries=$3 socket=$PWD/s base

	cp -a "$work/data" data
	# shellcheck disable=SC2046 # no word, or one
	start "$how" mariadbd --no-defaults $(as_user mysql --user=mysql) --datadir="$PWD/data" \
		--socket="$socket" --skip-networking --pid-file="$PWD/pid" --skip-log-bin \
		--max-connections=$((clients + 50)) --back-log=$((clients + 50)) --thread-cache-size=0 \
		--innodb-buffer-pool-size=64M --innodb-flush-log-at-trx-commit=2
	sql() { mariadb -uroot -S "$socket" -N -e "$@"; }
	for _ in {1..600}; do
		sql 'select 1' >/dev/null 2>&1 && break
		sleep 0.05
	done
	sql 'create database sbtest; create table sbtest.counter (id int primary key, n int);
		insert into sbtest.counter values (1, 0), (2, 0);
		create table sbtest.log (id int auto_increment primary key, who int, key (who));
		use sbtest;
		create table words select seq, md5(seq) as word from seq_1_to_20000;
		alter table words add primary key (seq), add index (word)'

	# Transactions that all queue for the same two rows, in the same order.
	mariadb-slap -uroot -S "$socket" --no-drop --create-schema=sbtest --concurrency="$clients" \
		--number-of-queries="$queries" --delimiter=';' --query='begin;
		update counter set n = n + 1 where id = 1; insert into log values (null, connection_id());
		update counter set n = n + 2 where id = 2; commit' 2>&1 | grep -iE 'error|clients'
	sql 'select * from sbtest.counter; select count(*) from sbtest.log; checksum table sbtest.words'

	base=(--db-driver=mysql --mysql-socket="$socket" --mysql-user=root --tables=2 --table-size=2000
		--db-ps-mode=disable)
	sysbench oltp_read_only "${base[@]}" --rand-seed=1 prepare >prepare.log 2>&1
	sysbench oltp_read_only "${base[@]}" --threads="$clients" --time=0 --events=$((clients * 2)) run 2>&1 |
		grep -iE 'fatal|transactions:|errors:' | sed 's/(.*//'
	mariadb-check -uroot -S "$socket" sbtest
	sql 'show global status where variable_name in ("Aborted_connects", "Aborted_clients")'
	stop TERM
	grep -oE 'Shutdown complete|\[ERROR\].*' server.err
}

# mariadb_same CLIENTS QUERIES
mariadb_same() {
	requires mariadbd mariadb-install-db mariadb-slap sysbench
	ulimit -n "$(ulimit -H -n)"
	mkdir -m 777 data
	# shellcheck disable=SC2046 # no word, or one
	mariadb-install-db --no-defaults $(as_user mysql --user=mysql) --datadir="$work/data" \
		--auth-root-authentication-method=normal --skip-test-db >install.log 2>&1 || {
		cat install.log
		return 1
	}
	same_service mariadb_service "$@"
}

@test "MariaDB with 200 connections serves as native" {
	mariadb_same 200 2000
}

@test "MariaDB with 1000 connections serves as native" {
	mariadb_same 1000 2000
}

# ---- CPython ----------------------------------------------------------------

cpython_here() {
	cd "$BATS_TEST_TMPDIR" && cpython_same "$@"
}

@test "CPython's tests of sockets and of waiting for them as native" {
	# VSOCK hangs natively too where there is no hypervisor to talk to.
	cpython_here test_socket -j4 -u network -i '*VSOCK*' test_socketserver test_select \
		test_selectors test_poll test_epoll test_httplib test_httpservers
}

@test "CPython's tests of TLS and of event loops as native" {
	cpython_here test_ssl -j2 -m '*Threaded*' -m '*.test_s[ut]*.*' -m '*.test_unix*' test_asyncio
}

@test "CPython's tests of subprocesses and of interrupted calls as native" {
	cpython_here test_subprocess -j3 -m '*.POSIX*' -m '*Signals*' -m '*EINTR*' test_io test_eintr
}
