# SPDX-License-Identifier: MIT
#
# report.awk: samples (FIGURE PROCESSORS SYSTEM NUMBER) to a table and JSON.
#
# A row for each figure that has samples, in the order below.  A ratio is the median over
# pairs of runs that were neighbours in time, as they met the same neighbours on the machine:
# not quite the ratio of the medians.  Under 1 it says that green needs less; where more is
# better, a ratio over 1 is the good one.

BEGIN {
	figure("create_join", "create + join, one by one", "ns", "less")
	figure("create_many_first", "create 10,000, then join", "ns", "less")
	figure("create_many_warm", "the same again", "ns", "less")
	figure("yield", "yield, two tasks", "ns", "less")
	figure("ping_pong", "condition variable round trip", "ns", "less")
	figure("uncontended", "mutex lock + unlock, alone", "ns", "less")
	figure("contended", "mutex, 8 threads", "Mops/s", "more")
	figure("contended_fairness", "  fairness (Jain)", "", "more")
	figure("pipe_ping_pong", "pipe round trip, two tasks", "ns", "less")
	figure("pipe_ring", "pipe ring of 1,000, per hop", "ns", "less")
	for (i = 64; i <= 10000; i = i == 64 ? 1000 : i * 10) {
		echo = "echo_" i
		figure(echo, "echo, " grouped(i) " connections", "req/s", "more")
		figure(echo "_cpu", "  server CPU for a request", "us", "less")
		figure(echo "_p50", "  latency, median", "us", "less")
		figure(echo "_p99", "  latency, 99 %", "us", "less")
		figure(echo "_kernel_threads", "  kernel threads", "", "less")
		figure(echo "_memory", "  memory for a connection", "bytes", "less")
		figure(echo "_rss", "    resident", "bytes", "less")
		figure(echo "_page_tables", "    page tables", "bytes", "less")
		figure(echo "_kernel_stack", "    kernel stacks (machine)", "bytes", "less")
		figure(echo "_slab", "    slab (machine)", "bytes", "less")
		goal(echo, "least", i == 64 ? 0.95 : i == 1000 ? 1.05 : 1.4)
		goal(echo "_cpu", "most", 0.8)
		goal(echo "_kernel_threads", "beyond", 4)
		if (i == 10000)
			goal(echo "_memory", "most", 1 / 3)
	}
	figure("sleepers", "tasks asleep at once", "", "more")
	figure("sleepers_create", "  created, each", "ns", "less")
	figure("sleepers_memory", "  memory, each", "bytes", "less")
	figure("sleepers_rss", "    resident", "bytes", "less")
	figure("sleepers_page_tables", "    page tables", "bytes", "less")
	figure("sleepers_kernel_stack", "    kernel stacks (machine)", "bytes", "less")
	figure("sleepers_slab", "    slab (machine)", "bytes", "less")
	figure("sleepers_kernel_threads", "  kernel threads", "", "less")
	n_systems = split("native green go", systems, " ")
}

{
	key = $1 SUBSEP $2 SUBSEP $3
	sample[key, ++n_samples[key]] = $4
	seen[$1, $2] = 1
	if ($2 > max_processors)
		max_processors = $2
}

END {
	printf "%-31s %2s %-6s %11s %11s %11s %12s %9s\n", "median of " runs, "P", "",
		"native", "green", "Go", "green/native", "green/Go"
	begin_json()
	for (f = 1; f <= n_figures; f++)
		for (p = 1; p <= max_processors; p++)
			if ((name[f], p) in seen)
				row(f, p)
	printf "\n  ]\n}\n" > json
	if (close(json) != 0)
		exit 1
	if (show_goals)
		exit print_goals() > 0
}

function figure(id, text, unit_, better_)
{
	name[++n_figures] = id
	title[n_figures] = text
	unit[n_figures] = unit_
	better[n_figures] = better_
}

# What green should reach.  least, most: a share of native's figure; beyond: at most so much
# more than there are processors.
function goal(id, kind, wanted)
{
	goal_of[++n_goals] = id
	goal_kind[n_goals] = kind
	goal_wanted[n_goals] = wanted
}

# Those of the figures that were measured.  Returns how many are missed.
function print_goals(    g, f, p, is, verdict, n_missed)
{
	for (g = 1; g <= n_goals; g++)
		for (f = 1; f <= n_figures; f++)
			for (p = 1; p <= max_processors; p++)
				if (name[f] == goal_of[g] && (name[f], p) in seen)
					n_missed += !print_goal(g, f, p)
	return n_missed
}

# Returns whether it is met.
function print_goal(g, f, p,    is, wanted, met)
{
	is = median(name[f] SUBSEP p SUBSEP "green")
	wanted = goal_wanted[g]
	if (goal_kind[g] == "beyond")
		wanted += p
	else
		is = ratio(name[f] SUBSEP p, "native")
	met = is != "" && (goal_kind[g] == "least" ? is >= wanted : is <= wanted)
	if (!n_printed++)
		printf "\n%-50s %-25s %8s\n", "goals, for green", "wanted", "is"
	printf "%-50s %-25s %8s  %s\n", whole_title(f),
		(goal_kind[g] == "least" ? "at least " : "at most ") \
		(goal_kind[g] == "beyond" ? wanted : sprintf("%.2f of native's", wanted)),
		goal_kind[g] == "beyond" ? show(is) : show_ratio(is), met ? "met" : "missed"
	return met
}

# With the title that it stands under, if it is indented.
function whole_title(f,    above)
{
	for (above = f; title[above] ~ /^ /;)
		above--
	return above == f ? title[f] : title[above] ":" substr(title[f], 2)
}

# The median, or "" when there is none.
function median(key,    n, i, x)
{
	n = n_samples[key]
	for (i = 1; i <= n; i++)
		x[i] = sample[key, i] + 0
	return middle_of(x, n)
}

# Of x[1] to x[n], which it sorts.
function middle_of(x, n,    i, j, moving)
{
	for (i = 2; i <= n; i++) {
		moving = x[i]
		for (j = i - 1; j > 0 && x[j] > moving; j--)
			x[j + 1] = x[j]
		x[j + 1] = moving
	}
	return !n ? "" : n % 2 ? x[(n + 1) / 2] : (x[n / 2] + x[n / 2 + 1]) / 2
}

# Of green to another system, or "" where one of the two says nothing, as the little that a
# neighbour left does.
function ratio(figure_and_p, other,    a, b, n, i, m, x)
{
	a = figure_and_p SUBSEP "green"
	b = figure_and_p SUBSEP other
	n = n_samples[a] < n_samples[b] ? n_samples[a] : n_samples[b]
	for (i = 1; i <= n; i++)
		if (sample[a, i] >= 0 && sample[b, i] > 0)
			x[++m] = sample[a, i] / sample[b, i]
	return middle_of(x, m)
}

function show(x)
{
	if (x == "")
		return "-"
	x += 0
	if (x == int(x) || x >= 1000 || x <= -1000)
		return grouped(sprintf("%.0f", x))
	return sprintf(x < 10 ? "%.2f" : "%.1f", x)
}

function show_ratio(x)
{
	return x == "" ? "-" : sprintf(x < 0.01 ? "%.4f" : x < 10 ? "%.3f" : "%.1f", x)
}

function grouped(digits,    sign, out)
{
	sign = sub(/^-/, "", digits) ? "-" : ""
	while (length(digits) > 3) {
		out = "," substr(digits, length(digits) - 2) out
		digits = substr(digits, 1, length(digits) - 3)
	}
	return sign digits out
}

function row(f, p,    s, m)
{
	for (s = 1; s <= n_systems; s++)
		m[systems[s]] = median(name[f] SUBSEP p SUBSEP systems[s])
	printf "%-31s %2d %-6s %11s %11s %11s %12s %9s\n", title[f], p, unit[f],
		show(m["native"]), show(m["green"]), show(m["go"]),
		show_ratio(ratio(name[f] SUBSEP p, "native")),
		show_ratio(ratio(name[f] SUBSEP p, "go"))

	printf "%s    {\"figure\": %s, \"processors\": %d, \"unit\": %s, \"better\": %s",
		n_rows++ ? ",\n" : "", quoted(name[f]), p, quoted(unit[f]),
		quoted(better[f]) > json
	for (s = 1; s <= n_systems; s++)
		cell(systems[s], name[f] SUBSEP p SUBSEP systems[s], m[systems[s]])
	printf ",\n     \"green_to_native\": %s, \"green_to_go\": %s}",
		number(ratio(name[f] SUBSEP p, "native")),
		number(ratio(name[f] SUBSEP p, "go")) > json
}

function cell(whose, key, middle,    i)
{
	printf ",\n     \"%s\": ", whose > json
	if (middle == "") {
		printf "null" > json
		return
	}
	printf "{\"median\": %s, \"samples\": [", number(middle) > json
	for (i = 1; i <= n_samples[key]; i++)
		printf "%s%s", (i > 1 ? ", " : ""), sample[key, i] > json
	printf "]}" > json
}

function begin_json()
{
	printf "{\n  \"date\": %s,\n  \"runs\": %d,\n", quoted(date), runs > json
	printf "  \"machine\": {\"cpu\": %s, \"cpus\": %d, \"kernel\": %s, ",
		quoted(cpu), n_cpus, quoted(kernel) > json
	printf "\"libc\": %s, \"go\": %s},\n  \"figures\": [\n",
		quoted(libc), quoted(go) > json
}

function number(x)
{
	return x == "" ? "null" : sprintf("%.6g", x)
}

function quoted(text)
{
	gsub(/[\\"]/, "", text)
	return "\"" text "\""
}
