#!/usr/bin/gawk -f
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Lines "CURVE X SERIES NS" to DIR/cost-CURVE.svg, which shows by how much each series
# exceeds the series "linear". That has a line of each X, or just of the first.

BEGIN {
	title["depth"] = "layers"
	title["size"] = "size of the disk"
	title["run"] = "run of neighbouring blocks in one layer"
	label["top"] = "block in the top"
	label["spread"] = "blocks spread over all layers"
	color["top"] = "#1f6fb4"
	color["spread"] = "#c4501b"
	width = 640; height = 320
	left = 76; right = 24; upper = 48; lower = 52
	most = 4		# per cent; more is made room for
}

{
	if (!($1 SUBSEP $2 in place))
		place[$1, $2] = ++points[$1]
	x_of[$1, place[$1, $2]] = $2
	ns[$1, $2, $3] = $4
}

function over(curve, x, series,	base)
{
	base = (curve, x, "linear") in ns ? x : x_of[curve, 1]
	return 100 * (ns[curve, x, series] / ns[curve, base, "linear"] - 1)
}

function x_text(curve, x)
{
	if (curve == "depth")
		return x
	if (curve == "size")
		return x >= 1024 ? x / 1024 " TiB" : x " GiB"
	return x >= 1024 ? x / 1024 " MiB" : x " KiB"
}

function at_x(curve, x)
{
	first = x_of[curve, 1]
	last = x_of[curve, points[curve]]
	return left + 16 + (width - left - right - 32) * log(x / first) / log(last / first)
}

function at_y(percent)
{
	return height - lower - (height - upper - lower) * percent / most
}

function text(x, y, anchor, fill, what)
{
	printf "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" fill=\"%s\">%s</text>\n",
		x, y, anchor, fill, what >file
}

function line(x1, y1, x2, y2, stroke)
{
	printf "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n",
		x1, y1, x2, y2, stroke >file
}

function axes(curve,	i, p)
{
	for (p = 0; p <= most; p++) {
		line(left, at_y(p), width - right, at_y(p), p ? "#dddddd" : "#555555")
		text(left - 8, at_y(p) + 4, "end", "#333333", p ? "+" p " %" : "dm-linear")
	}
	for (i = 1; i <= points[curve]; i++) {
		line(at_x(curve, x_of[curve, i]), at_y(0), at_x(curve, x_of[curve, i]), at_y(0) + 5, "#555555")
		text(at_x(curve, x_of[curve, i]), at_y(0) + 19, "middle", "#333333",
		     x_text(curve, x_of[curve, i]))
	}
	text((left + width - right) / 2, height - 12, "middle", "#333333", title[curve])
}

function plot(curve, series, nth,	i, x, dots, path)
{
	for (i = 1; i <= points[curve]; i++) {
		x = x_of[curve, i]
		if (!((curve, x, series) in ns))
			continue
		path = path sprintf("%s%.1f,%.1f", path == "" ? "" : " ", at_x(curve, x),
				    at_y(over(curve, x, series)))
		dots = dots sprintf("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"/>\n",
				    at_x(curve, x), at_y(over(curve, x, series)), color[series])
	}
	if (path == "")
		return
	printf "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n%s",
		path, color[series], dots >file
	text(left + 16 + 220 * nth, upper - 10, "start", color[series], "\xe2\x97\x8f " label[series])
}

function room(curve,	i, s)
{
	for (s in label)
		for (i = 1; i <= points[curve]; i++)
			while ((curve, x_of[curve, i], s) in ns &&
			       over(curve, x_of[curve, i], s) > most)
				most++
}

END {
	for (curve in points) {
		file = dir "/cost-" curve ".svg"
		room(curve)
		printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n",
			width, height, width, height >file
		print "<!-- SPDX-License-Identifier: GPL-2.0-or-later; made by make curves -->" >file
		print "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>" >file
		text(left, 18, "start", "#333333", "Instructions of a random read of 4 KiB, more than with dm-linear")
		axes(curve)
		plot(curve, "spread", 0)
		plot(curve, "top", 1)
		print "</svg>" >file
		close(file)
	}
}
