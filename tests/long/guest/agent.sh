#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# In the guest: does what it is asked for. A request is a file of commands, request.N,
# and its answer, answer.N, has their exit status in the first line and what they
# printed behind it. A request "off" is the last one.

cd /run/test || exit 1
for ((n = 1; ; n++)); do
	until [ -e request.$n ]; do
		sleep 0.2
	done
	[ "$(<request.$n)" != off ] || exit 0
	bash request.$n >/run/answer 2>&1 </dev/null
	{ echo $?; cat /run/answer; } >answer.$n.new
	mv answer.$n.new answer.$n
done
