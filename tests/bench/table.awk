#!/usr/bin/gawk -f
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Lines "WORKLOAD:TARGET NS [LIMIT]" to a table: the median of each, how far its
# rounds lie apart, its ratio to dm-linear (or what base_of says) under the same
# workload, and the limit that this is to keep to.

function median(list,	n, v)
{
	n = split(list, v, " ")
	asort(v)
	return v[int((n + 1) / 2)]
}

# The ratio's columns
function ratio(name, base,	r)
{
	if (!(base in all))
		return sprintf("%8s", "-")
	r = sprintf("%.3f", median(all[name]) / median(all[base]))
	if (limit[name] == "")
		return sprintf("%8s", r)
	return sprintf("%8s %7s%s", r, limit[name], r + 0 > limit[name] + 0 ? " missed" : "")
}

function spread(list,	n, v)
{
	n = split(list, v, " ")
	asort(v)
	return 100 * (v[n] - v[1]) / v[int((n + 1) / 2)]
}

{
	if (!($1 in all))
		name[++count] = $1
	all[$1] = all[$1] " " $2
	limit[$1] = $3
}

END {
	printf "%-22s %-15s %9s %8s %8s %7s\n", "workload", "target", "ns/I/O", "spread",
		"ratio", "limit"
	for (i = 1; i <= count; i++) {
		split(name[i], part, ":")
		base = part[1] == "gate" ? "gate:without" : part[1] ":" (base_of == "" ? "linear" : base_of)
		if (i > 1 && part[1] != last)
			print ""
		last = part[1]
		printf "%-22s %-15s %9d %6.1f %% %s\n", part[1], part[2], median(all[name[i]]),
			spread(all[name[i]]), ratio(name[i], base)
	}
}
