#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug,kcsan long=kcsan mem=1024 smp=2 timeout=300 group=jobs
#
# Streams and commits under random I/O, byte by byte as a plain file would read:
# all, in part, into middle layers, of the active layer, into chain and raw bases.
# What is merged or left holds what it should, layer by layer.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"
. "$(dirname "$0")/../lib/jobs.sh"

cd "$TMP" || exit 1
depths="3 6"
[ "$KERNEL" = 6.12 ] || ops=80 depths=3
[ -z "${LONG-}" ] || ops=1500 depths="3 8 16 32"

for depth in $depths; do
	last=$((depth - 1))

	# --- stream
	stack $depth 8M
	sums=$(sums $(seq -f %g.img 0 $((last - 1))))
	under "depth $depth: stream" dmchain stream d
	is "$(layers)" "$last" "depth $depth: one layer is left"
	closed "depth $depth: stream" $last.img
	dmchain close d
	is "$(sums $(seq -f %g.img 0 $((last - 1))))" "$sums" "depth $depth: sources are untouched"

	stack $depth 8M
	[ $depth -le 3 ] || under "depth $depth: stream in the middle" dmchain stream d --into 1 --base $((last - 1))
	under "depth $depth: stream down to the base" dmchain stream d --base $(($(json '.layers | length' dmchain info d) - 1))
	is "$(layers)" "$last 0" "depth $depth: two layers are left"
	closed "depth $depth: stream to a base" $last.img
	dmchain close d

	# --- commit of lower layers
	stack $depth 8M
	cp --sparse=always m m.below
	dmchain snapshot d=top.img >/dev/null
	under "depth $depth: commit of lower layers" dmchain commit d --top 1 --base $depth
	is "$(layers)" "top 0" "depth $depth: top and base are left"
	run_ok "depth $depth: the base is what the range showed" dmchain compare 0.img m.below --format-b raw
	closed "depth $depth: commit" top.img
	dmchain close d

	# --- of the active layer
	for format in chain raw; do
		stack $depth 8M 4K $format
		# Of a disk that becomes a raw one a discard just then may be ignored
		[ $format = chain ] || kind=--no-discard
		under "depth $depth: active commit, $format" dmchain commit d --base $last
		kind=
		is "$(layers)" 0 "depth $depth: the $format base is the disk"
		run_ok "depth $depth: and reads so" iomodel verify /dev/mapper/d --model m
		closed "depth $depth: active commit, $format" 0.img --format $format
		run_ok "depth $depth: close" dmchain close d
		run_ok "depth $depth: the image, offline" dmchain compare 0.img m --format-a $format --format-b raw
		is "$(dmchain open e $last.img 2>&1 | grep -cE 'modified|retired')" 1 "depth $depth: the old top is refused"
	done
done

done_testing_jobs
