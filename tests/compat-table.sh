#!/bin/sh
# SPDX-License-Identifier: MIT
#
# compat-table.sh [--update FILE]: prints the table of libc's functions and how
# each is treated, made from interpose/symbols.def; or puts it in FILE between
# the lines "<!-- table" and "<!-- end of table".
set -eu
cd "$(dirname "$0")/.."

rows() {
	${CC:-cc} -E -P -x c '-DSYM(n,f,v,verdict,why)=@n|f|verdict|why@' \
		interpose/symbols.def | tr -d '\n' | tr '@' '\n'
}

# Rows of one family with the same verdict and text share a line of the table, and
# a TWIN stands beside its wrapper.
table() {
	rows | awk -F ' *[|] *' '
	BEGIN {
		title["thread"] = "Threads"
		title["attr"] = "Thread attributes"
		title["cancel"] = "Cancellation"
		title["mutex"] = "Mutexes"
		title["cond"] = "Condition variables"
		title["rwlock"] = "Read-write locks, barriers, spinlocks"
		title["sem"] = "Semaphores"
		title["tsd"] = "Once, keys"
		title["c11"] = "`<threads.h>`"
		title["sleep"] = "Sleeping and yielding"
		title["syscall"] = "Raw system calls"
		title["sched"] = "Scheduling by thread id"
		title["process"] = "Processes, users and groups"
		title["signal"] = "Signals"
		title["io"] = "Reading and writing"
		title["socket"] = "Sockets"
		title["poll"] = "Waiting for descriptors"
		title["fd"] = "Descriptors"
		title["ipc"] = "System V and POSIX queues"
		title["timer"] = "Timers and asynchronous I/O"
		title["names"] = "Names and addresses"
		title["stdio"] = "Standard I/O"
		title["file"] = "Files by name, and the rest"
		title["dl"] = "Loading"
	}
	NF == 4 {
		how = $4
		gsub(/^"|"$/, "", how)
		if ($3 == "TWIN") {
			if (!(how in line_of))
				complain($1 " is a TWIN of " how ", which has no row above it")
			line = line_of[how]
		} else {
			line = ($3 == "WRAP" ? "green" : $3 == "PASS" ? "libc" : "libc, for now") " | " how
		}
		line_of[$1] = line
		if (!($2 in title))
			complain("no title for the family " $2)
		if (!($2 in n_lines))
			family[++n_families] = $2
		if (!(($2, line) in names))
			lines[$2, ++n_lines[$2]] = line
		else
			names[$2, line] = names[$2, line] ", "
		names[$2, line] = names[$2, line] "`" $1 "`"
	}
	END {
		for (i = 1; i <= n_families; i++) {
			f = family[i]
			printf "%s### %s\n\n", (i > 1 ? "\n" : ""), title[f]
			print "| function | treated | how |"
			print "|---|---|---|"
			for (j = 1; j <= n_lines[f]; j++)
				print "| " names[f, lines[f, j]] " | " lines[f, j] " |"
		}
		exit failed
	}
	function complain(what) {
		print "compat-table.sh: " what >"/dev/stderr"
		failed = 1
	}'
}

case ${1-} in
'') table ;;
--update)
	table >"$2.new"
	awk -v table="$2.new" '
	/^<!-- end of table/ { skip = 0; print "" }
	!skip { print }
	/^<!-- table/ {
		skip = 1
		print ""
		while ((getline line <table) > 0)
			print line
	}' "$2" >"$2.newer"
	mv "$2.newer" "$2"
	rm "$2.new"
	;;
*) echo "usage: compat-table.sh [--update FILE]" >&2 && exit 2 ;;
esac
