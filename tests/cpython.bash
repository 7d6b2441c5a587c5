# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# cpython.bash: CPython judged by its own tests, for bats files that load helpers too.

python=/usr/bin/python3 # the one whose tests Debian packages

python_testsuite() {
	"$python" -c 'import sys; print("libpython%d.%d-testsuite" % sys.version_info[:2])' 2>/dev/null ||
		echo libpython3-testsuite
}

# cpython_same MODULE [OPTION...] [MODULE...]: each test of CPython's MODULEs has
# native's outcome.  Most of them sleep, so both runs go on side by side.  Where native
# fails some, as it does on a very busy machine, green must at least pass what native does.
cpython_same() {
	local module=$1 how runs=()
	shift
	requires "$python"
	"$python" -c "import test.$module" 2>/dev/null || skip "$(python_testsuite) is not installed"

	for how in native green; do
		cpython "$how" "$@" "$module" >"verdicts.$how" &
		runs+=($!)
	done
	wait "${runs[@]}"
	echo "green, it ended with:" && tail -n 30 log.green
	assert [ -s verdicts.native ]
	if ! grep -q '^status 0$' verdicts.native; then
		echo "native, it ended with:" && tail -n 30 log.native
		assert grep ' completed$' verdicts.native >passed.native
		grep -Fx -f passed.native verdicts.green >passed.green || :
		same_file "what passes of $module" passed.native passed.green
		return
	fi
	same_file "outcomes of $module" verdicts.native verdicts.green
}

# cpython HOW ARG...: the status of CPython's test runner, then a line per test.
cpython() {
	local how=$1 status=0
	shift
	# Short: addresses of Unix sockets are paths there, of 107 bytes at most, and a test that
	# has none to spare skips itself, as the digits of its process's number have it.
	local tmp=${how:0:1}
	# The runner's own limit comes first, and tells more.  Natively test_concurrent_futures
	# has taken over 90 s, at a load of 70.
	local -x PGREEN_TEST_LIMIT=270
	mkdir "$tmp"
	TMPDIR=$PWD/$tmp PYTHONDONTWRITEBYTECODE=1 "$how" "$python" -m test --timeout 240 \
		--junit-xml "$PWD/$how.xml" "$@" >"log.$how" 2>&1 </dev/null || status=$?
	echo "status $status"
	"$python" - "$how.xml" <<-'PYTHON' | sort
		import sys, xml.etree.ElementTree as tree

		for case in tree.parse(sys.argv[1]).iter("testcase"):
		    said = [case.get("result")] + sorted(child.tag for child in case)
		    print(case.get("name"), *(word for word in said if not word.startswith("system-")))
	PYTHON
}
