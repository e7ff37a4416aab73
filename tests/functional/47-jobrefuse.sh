#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,6.12,debug mem=1024 smp=2 timeout=900 group=jobs
#
# What a job keeps off its layers, and who is named; ranges that are none; layers
# that others use, or have children; layers that a commit has spoiled.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"
. "$(dirname "$0")/../lib/jobverbs.sh"

cd "$TMP" || exit 1
id=

# --- what no job can do

stack 4
refused 1 "has ended already|no such job" "nothing to pivot to" dmchain pivot d
begin "a commit" dmchain commit d --top 2 --base 3 --speed 8K
for verb in frobnicate "speed d" "list d d" pause "wait d --timeout x" "pause d --wait" "resume d --timeout 1" ""; do
	# shellcheck disable=SC2086 # words
	run_fail 2 "usage: job $verb" dmchain job $verb
done
refused 1 "no such job" "no such number" dmchain job pause 999999
refused 1 "no such job" "no such disk" dmchain job pause nosuch
refused 1 "ends by itself" "pivot to a commit of lower layers" dmchain pivot d
refused 1 "still running" "it takes longer" dmchain job wait d --timeout 0

# --- beside it: layers of its own, or none

first=$id
sums=$(sums d0.img d4.img)
for what in "commit d --top 2 --base 3" "commit d --top 1 --base 2" "commit d --top 3 --base 4" \
	"commit d --top 1 --base 4" "stream d --into 1 --base 3" "stream d --into 2 --base 4" \
	"stream d" "commit d --base 4"; do
	# shellcheck disable=SC2086 # words
	refused 3 "held by d .commit, (base|range|overlay)" "beside it: $what" dmchain $what
done
is "$(sums d0.img d4.img)" "$sums" "nothing was written for that"
is "$(of status "$first")" running "it runs on"
# d5 d4 d3 d2 d1 d0: the commit is of d2 into d1, below d3
run_ok "a snapshot beside it" dmchain snapshot d=d5.img
begin "a stream above it" dmchain stream d --into 0 --base 2 --speed 8K
second=$id
refused 2 "2 jobs could be meant" "a disk with two" dmchain job pause d
is "$(json '[.[] | select(.status == "running") | .type] | sort | join(" ")' dmchain job list d)" "commit stream" "both run"
dmchain perm d >perm
for role in "commit, base" "commit, range" "commit, overlay" "stream, into" "stream, source" "guest, active" "guest, through"; do
	like "$(<perm)" "d: $role" "perm names who holds what: $role"
done
is "$(writable)" 4 "top, overlay, range and base are open for writing"
table=$(dmsetup table d)
run_ok "the table that dmsetup shows can be loaded again" sh -c "dmsetup reload d --table '$table' && dmsetup resume d"
is "$(dmsetup table d)" "$table" "and is the same"
run_fail any "one that makes a layer ro that a job writes can't" \
	dmsetup reload d --table "$(sed 's/ chain rw/ chain ro/2g' <<<"$table")"
like "$(dmesg | tail -n 5)" "makes a layer ro that a job writes" "the kernel says why"
no_violations "status: the gate refused nothing"
is "$(of status "$first") $(of status "$second")" "running running" "both run on"
for job in $first $second; do
	dmchain job speed "$job" 0
	run_ok "job $job ends" dmchain job wait "$job"
done
is "$(paths)" "d5 d3 d1 d0" "the layers of both are gone"
same "the disk is what it was"
dmchain close d

# --- the wrong layers

stack 3
dmchain create x0.img --size 8M >/dev/null
dmchain create x1.img --backing x0.img --backing-format chain >/dev/null
dmchain open x x1.img
sums=$(sums d?.img)
jobs=$(json length dmchain job list)
refused 1 "nothing to stream" "stream: base is the layer itself" dmchain stream d --into 2 --base 2
refused 1 "nothing to stream" "stream: nothing between" dmchain stream d --into 0 --base 1
refused 2 "base lies below" "stream: base above" dmchain stream d --into 2 --base 1
refused 1 "no such layer of d" "stream: no such number" dmchain stream d --base 9
refused 1 "no such layer of d|not found" "stream: no such uuid" dmchain stream d --base 00000000-1111
refused 1 "nosuch.img" "stream: no such file" dmchain stream d --base ./nosuch.img
refused 1 "x0.img.*no such layer of d" "stream: a layer of another disk" dmchain stream d --base x0.img
refused 1 "nothing to stream" "stream: into the base" dmchain stream d --into 3
refused 2 "base lies below" "commit: base is top" dmchain commit d --top 1 --base 1
refused 2 "base lies below" "commit: upwards" dmchain commit d --top 2 --base 0
refused 1 "no such layer of d" "commit: no such top" dmchain commit d --top 9
refused 1 "x1.img.*no such layer of d" "commit: top of another disk" dmchain commit d --top x1.img
refused 1 "x0.img.*no such layer of d" "commit: base of another disk" dmchain commit d --base x0.img
refused 1 "no layer below" "commit: of the base" dmchain commit d --top 3
refused 2 "panic" "no such policy" dmchain commit d --on-error panic
refused 1 "nosuch" "no such disk" dmchain commit nosuch
is "$(sums d?.img)" "$sums" "nothing was written for that"
is "$(json length dmchain job list)" "$jobs" "and no job was begun"
dmchain close x

# --- other users of the layers

dmchain create y.img --backing d1.img --backing-format chain >/dev/null
dmchain open y y.img
sha256sum </dev/mapper/y >y.sum
refused 3 "held by y " "commit: the base is another disk's, too" dmchain commit d --top 1 --base 2
refused 3 "held by y " "commit: a layer of the range is" dmchain commit d --base 3
run_ok "stream: sources may be" dmchain stream d --base 3
is "$(paths)" "d3 d0" "they are gone"
same "the disk is what it was"
is "$(sha256sum </dev/mapper/y)" "$(<y.sum)" "so is the other one"
dmchain close y
dmchain close d

# A child that is made while nobody has the base open is noted there
rm y.img
stack 3
dmchain close d
dmchain create y.img --backing d1.img --backing-format chain >/dev/null
dmchain open d d3.img
refused 3 "other children.*--force" "commit: the base has a child elsewhere" dmchain commit d --top 1 --base 2
run_ok "with --force" dmchain commit d --top 1 --base 2 --force
same "the disk is what it was"
refused 4 "d1.img" "the child is refused then" dmchain open y y.img
dmchain close d

# --- spoiled until it is done, or for ever

for format in chain raw; do
	stack 3 $format
	begin "$format: a commit of lower layers" dmchain commit d --top 1 --base 3 --speed 96K
	wait_for 60 at_least 1
	if [ $format = raw ]; then
		refused 3 "disk d writes it" "raw: its base is no disk meanwhile" dmchain open e d0.img --format raw --read-only
	else
		refused 4 "d0.img: spoiled by a commit" "chain: its base is no disk meanwhile" dmchain open e d0.img --read-only
	fi
	refused 4 "d1.img: spoiled by a commit" "$format: nor is the range" dmchain open e d1.img --read-only
	run_ok "$format: cancel" dmchain job cancel d
	is "$(writable)" 1 "$format: only the top is open for writing"
	run_ok "$format: close" dmchain close d
	for layer in 0 1; do
		[ $layer$format != 0raw ] || continue
		for how in "" --read-only; do
			# shellcheck disable=SC2086 # one option or none
			refused 4 "d$layer.img: .*spoiled by a commit" "$format: layer $layer is refused $how" \
				dmchain open e d$layer.img $how
		done
		refused 4 "spoiled" "$format: layer $layer gets no child" \
			dmchain create z.img --backing d$layer.img --backing-format chain
	done
	[ ! -e z.img ]
	is $? 0 "$format: no image is left of that"
	run_ok "$format: the top of the range shows what it did" dmchain open e d2.img --read-only
	dmchain close e
	run_ok "$format: open" dmchain open d d3.img
	same "$format: the disk is what it was"
	run_ok "$format: resume" dmchain job resume d --wait
	same "$format: done, the disk is what it was"
	dmchain close d
	refused 4 "spoiled" "$format: the range is refused for ever" dmchain open e d1.img --read-only
	run_ok "$format: the base is a layer as any" dmchain open e d0.img --format $format --read-only
	dmchain close e
done

is "$(losetup -n -l 2>/dev/null)" "" "no loop device is left"
done_testing
