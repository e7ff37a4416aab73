#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1024 smp=2 timeout=400 group=jobs
#
# stream, commit, pivot, job, monitor: what the commands do with a disk, say of
# it, and leave behind.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1

# stack DISK BASE-FORMAT: base and four layers, each with data of its own
stack()
{
	local i
	rm -f ./*.img ./*.was
	if [ "$2" = raw ]; then
		xfs_io -fc "pwrite -q -S 98 -b 1m 0 32m" "$1"0.img
	else
		dmchain create "$1"0.img --size 32M >/dev/null
	fi
	dmchain create "$1"1.img --backing "$1"0.img --backing-format "$2" >/dev/null
	dmchain open "$1" "$1"1.img
	for i in 1 2 3 4; do
		fill "$1" $((4 * i)) 6 $i
		[ $i = 4 ] || dmchain snapshot "$1=$1$((i + 1)).img" >/dev/null
	done
	kept "$1"
}

kept()		# what the disk is now
{
	dd if=/dev/mapper/"$1" of="$1".was bs=1M iflag=direct status=none
}

same()
{
	is "$(dd if=/dev/mapper/"$1" bs=1M iflag=direct status=none | cmp - "$1".was 2>&1)" "" "$2"
}

paths()
{
	json '[.layers[].path | sub(".*/"; "") | sub(".img"; "")] | join(" ")' dmchain info "$1"
}

# Layers that it has open for writing; what only dm still has so recover tells
writable()
{
	dmchain recover "$1"
	dmsetup table "$1" | grep -oE '[0-9]+:[0-9]+ (chain|raw) rw' | wc -l
}

# shellcheck disable=SC2317 # called by wait_for
running()
{
	[ "$(json 'map(select(.status == "running")) | length' dmchain job list "$1")" != 0 ]
}

# --- stream

stack a chain
is "$(paths a)" "a4 a3 a2 a1 a0" "five layers"
run_ok "stream --dry-run" dmchain stream a --base 4 --dry-run --json
is "$(output | jq -c 'keys')" \
	'["free-bytes","missing-bytes","move-bytes","name","need-bytes","new-bytes","zero-bytes"]' "its keys"
is "$(output | jq '."move-bytes"')" $((12 << 20)) "what there is to move"
is "$(output | jq '."missing-bytes"')" 0 "nothing is missing"
is "$(paths a)" "a4 a3 a2 a1 a0" "nothing was done"
run_ok "stream into a lower layer" dmchain stream a --into 1 --base 3
is "$(paths a)" "a4 a3 a1 a0" "one is gone"
is "$(writable a)" 1 "only the top is open for writing"
same a "the disk is what it was"
refused 1 "nothing to stream" "stream of nothing" dmchain stream a --into 1 --base 2
run_ok "stream all" dmchain stream a
is "$(paths a)" "a4" "one layer is left"
is "$(losetup -n -O BACK-FILE | grep -c "/a[0-9].img")" 1 "one file is in use"
same a "the disk is what it was"
run_ok "close" dmchain close a
run_ok "check" dmchain check a4.img
dmchain open a a4.img
same a "reopened, too"
dmchain close a

# --- commit of lower layers

stack b chain
run_ok "commit of lower layers" dmchain commit b --top 1 --base 3 --json
is "$(output | jq -c '[.type, .status, .error, .chain]')" '["commit","concluded",null,"b"]' "says how it ended"
is "$(paths b)" "b4 b1 b0" "two are gone"
is "$(writable b)" 1 "only the top is open for writing"
same b "the disk is what it was"
run_ok "commit of one" dmchain commit b --top 1
is "$(paths b)" "b4 b0" "they are one"
refused 1 "no layer below" "a commit of the base" dmchain commit b --top 1

# --- commit of the active layer

run_ok "commit of the active layer, not pivoted" dmchain commit b --no-pivot
is "$(json '.[-1] | [.type, .active, .status] | join(" ")' dmchain job list b)" "commit true ready" "it is ready"
is "$(json '.jobs | length' dmchain info b)" 1 "info shows it"
fill b 1 2 x
kept b
run_ok "pivot" dmchain pivot b
is "$(paths b)" "b0" "the base is the disk"
is "$(writable b)" 1 "and open for writing"
same b "the disk is what it was"
refused 1 "ended already" "pivot once more" dmchain pivot b
dmchain close b
dmchain open b b0.img
same b "reopened, too"
dmchain close b
refused 4 "modified" "the old top is refused" dmchain open b b4.img

stack c raw
run_ok "commit of all into raw" dmchain commit c --base 4
is "$(paths c)" "c0" "the raw base is the disk"
same c "it is what it was"
is "$(cmp c0.img c.was 2>&1)" "" "the image, too"
run_ok "close" dmchain close c

# --- bases that grow

for format in raw chain; do
	stack d $format
	dmchain resize d 48M >/dev/null
	fill d 40 4 y
	kept d
	run_ok "commit into a smaller $format base" dmchain commit d --base 4
	is "$(paths d)" "d0" "it is the disk"
	same d "which is what it was"
	dmchain close d
	run_ok "opens again" dmchain open d d0.img --format $format
	same d "and is what it was"
	dmchain close d
done

# --- jobs in the background, and verbs

stack e chain
dmchain monitor --json >monitor.out &
monitor=$!
wait_for 20 grep -q . monitor.out
run_ok "in the background" dmchain stream e --background --json --speed 1M
is "$(output | jq -c 'keys')" '["chain","id","type","uuid"]' "its keys"
id=$(output | jq -r .id)
uuid=$(output | jq -r .uuid)
run_ok "job show, by its number" dmchain job show "$id"
run_ok "... by its uuid" dmchain job show "${uuid:0:6}"
run_ok "... by its disk" dmchain job show e
is "$(json '[.id, .status, .speed] | join(" ")' dmchain job show e)" "$id running $((1 << 20))" "it runs"
run_ok "pause" dmchain job pause e
# shellcheck disable=SC2317 # called by wait_for
is_paused()
{
	[ "$(json .status dmchain job show e)" = paused ]
}
run_ok "it is paused" wait_for 20 is_paused
refused 1 "still paused after 1 sec" "wait with a timeout" dmchain job wait e --timeout 1
run_ok "speed" dmchain job speed e 2M
is "$(json .speed dmchain job show e)" $((2 << 20)) "is taken"
run_ok "resume" dmchain job resume e
refused 3 "held by e .stream, source" "a second one on its layers" dmchain commit e --top 2
run_ok "cancel" dmchain job cancel e
is "$(json '[.status, .error] | join(" ")' dmchain job show "$id")" "concluded cancelled" "it is cancelled"
is "$(paths e)" "e4 e3 e2 e1 e0" "no layer is gone"
same e "the disk is what it was"
refused 1 "has ended already" "cancel once more" dmchain job cancel "$id"
run_ok "again" dmchain stream e --background
run_ok "wait" dmchain job wait e
is "$(paths e)" "e4" "one layer is left"
same e "the disk is what it was"
kill -INT $monitor
wait $monitor
is $? 0 "monitor ends well"
is "$(jq -rs 'map(.job.status) | unique | join(" ")' monitor.out)" "concluded paused pending running" "and told of all states"
dmchain close e

# --- interrupted

stack f chain
dmchain commit f --base 4 --speed 2M >f.out 2>f.err &
job=$!
wait_for 20 running f
sleep 2
kill -INT $job
wait $job
is $? 1 "an interrupt cancels"
like "$(tail -n 1 f.err)" "f: commit cancelled .*dmchain job resume f goes on" "it says so"
like "$(cat f.out)" "^f: commit [0-9]+ %, .* of 18 MiB, .*/s" "and had told of its progress"
is "$(json '.[] | select(.error == "interrupted") | [.type, .status] | join(" ")' dmchain job list f)" "commit paused" \
	"its record is a job that is paused"
is "$(json '.layers[0].marks | join(" ")' dmchain info f)" "in-use job" "marked"
same f "the disk is what it was"
refused 1 "can't be undone" "which can't be cancelled" dmchain job cancel f
refused 3 "another base" "another base" dmchain commit f --base 2
run_ok "close" dmchain close f
refused 4 "spoiled by a commit" "its base is no disk" dmchain open f f0.img
run_ok "open" dmchain open f f4.img
like "$(output)" "warning: f: has an unfinished commit .*dmchain job resume f goes on" "says that there is a job"
same f "it is what it was"
run_ok "resume" dmchain job resume f --wait
is "$(paths f)" "f0" "the base is the disk"
same f "which is what it was"
dmchain close f

stack g chain
dmchain stream g --background --speed 1M >/dev/null
sleep 1
run_ok "close with a job" dmchain close g
like "$(output)" "warning: g: its stream .* stopped where it was; dmchain job resume g" "says what became of it"
dmchain open g g4.img 2>/dev/null
run_ok "its record can be cancelled" dmchain job cancel g
is "$(json 'map(select(.status != "concluded")) | length' dmchain job list g)" 0 "and is gone"
same g "the disk is what it was"

# --- killed

for what in "stream g --base 4" "commit g --base 1"; do
	# shellcheck disable=SC2086 # words
	dmchain $what --speed 256K >/dev/null 2>&1 &
	wait_for 20 running g || fail "$what does not start"
	kill -KILL $!
	wait $! 2>/dev/null
	dmchain job speed g 8M >/dev/null
	run_ok "killed: ${what%% *} goes on" dmchain job wait g
	[ "${what%% *}" = stream ] || run_ok "pivot" dmchain pivot g
	same g "the disk is what it was"
done
is "$(paths g)" "g0" "all is in the base"
run_ok "recover has nothing to do" dmchain recover g --json
is "$(output | jq -c .[].done)" '[]' "it says so"
dmchain close g

# What a killed command held goes when the kernel has cleared up behind it
is_alone()
{
	[ "$(writable "$1")" = 1 ]
}

# Before the start, in the middle of it, behind it
stack h chain
delays="0.06 0.2"
[ -z "${LONG-}" ] || delays="0.01 0.03 0.06 0.1 0.15 0.2 0.3 0.5"
for delay in $delays; do
	for what in "stream h --into 1 --base 4" "commit h --top 1 --base 3"; do
		[ ! -e h.committed ] || what=${what/stream*/commit h --top 1 --base 3}
		# shellcheck disable=SC2086 # words
		dmchain $what --speed 100K >/dev/null 2>&1 &
		sleep $delay
		kill -KILL $!
		wait $! 2>/dev/null
		dmchain recover h >/dev/null || fail "recover after a kill at $delay s of $what"
		live=$(json 'map(select(.status != "concluded" and .error != "interrupted")) | length' dmchain job list h)
		[ "$live" = 0 ] || dmchain job cancel h >/dev/null || fail "cancel after $what"
		[ "$(json 'map(select(.error == "interrupted" and .type == "commit")) | length' dmchain job list h)" = 0 ] ||
			touch h.committed
		wait_for 20 is_alone h || fail "killed at $delay s of $what: a lower layer is writable"
	done
done
same h "kills at many moments: the disk is what it was"
run_ok "and goes on" dmchain commit h --top 1 --base 3
same h "the disk is what it was"
run_ok "close" dmchain close h
for i in 4 1 0; do
	run_ok "check h$i" dmchain check h$i.img
done

is "$(losetup -n -O BACK-FILE | grep -c "$TMP")" 0 "no loop device is left"
done_testing
