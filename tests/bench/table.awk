#!/usr/bin/gawk -f
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Lines "WORKLOAD:TARGET NS" to a table: the median of each, how far its rounds
# lie apart, and its ratio to dm-linear (or what base_of says) under the same
# workload.

function median(list,	n, v)
{
	n = split(list, v, " ")
	asort(v)
	return v[int((n + 1) / 2)]
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
}

END {
	printf "%-15s %-15s %9s %8s %10s\n", "workload", "target", "ns/I/O", "spread", "ratio"
	for (i = 1; i <= count; i++) {
		split(name[i], part, ":")
		base = part[1] == "gate" ? "gate:without" : part[1] ":" (base_of == "" ? "linear" : base_of)
		m = median(all[name[i]])
		if (i > 1 && part[1] != last)
			print ""
		last = part[1]
		printf "%-15s %-15s %9d %6.1f %% %10s\n", part[1], part[2], m,
			spread(all[name[i]]),
			base in all ? sprintf("%.3f", m / median(all[base])) : "-"
	}
}
