#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,6.12,debug mem=1024 smp=2 timeout=300 group=jobs
#
# Streams and commits under random I/O, over layers of other block sizes and of
# other sizes; with snapshots, reloads and other jobs beside; cancelled, closed
# and resumed. The disk reads as its model all the time.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"
. "$(dirname "$0")/../lib/jobs.sh"

cd "$TMP" || exit 1
[ "$KERNEL" != debug ] || ops=80
[ -z "${LONG-}" ] || ops=1000

# --- space goes back while it runs: never twice the data

stack 2 64M
dd if=/dev/urandom of=/dev/mapper/d bs=1M count=24 seek=8 oflag=direct status=none
dmchain snapshot d=top.img >/dev/null
before=$(used 1.img)
dmchain commit d --top 1 >/dev/null
[ "$(used 1.img)" -lt $((before / 10)) ] && [ "$before" -gt 24000000 ]
is $? 0 "what was moved takes no space in the range ($before before, $(used 1.img) after)"
dmchain close d

# --- block sizes: larger ones above and below

# A discard zeroes whole blocks of the top: what that is changes with a pivot
for blocks in "64K 4K 1M" "1M 64K 4K" "4K 1M 64K"; do
	kind="--block-size ${blocks##* }"
	stack 3 12M "$blocks"
	kind="--block-size ${blocks##* }"
	dmchain snapshot d=top.img >/dev/null
	under "blocks $blocks: commit" dmchain commit d --top 1 --base 3
	closed "blocks $blocks: commit" top.img
	dmchain close d
	for kind in "--no-discard" "--min 1M --align 1M --max 3M"; do
		stack 3 12M "$blocks"
		under "blocks $blocks: active commit, $kind" dmchain commit d --base 2
		closed "blocks $blocks: active commit" 0.img
		dmchain close d
	done
	kind="--block-size ${blocks##* }"
	stack 3 12M "$blocks"
	under "blocks $blocks: stream" dmchain stream d --base 2
	closed "blocks $blocks: stream" 2.img
	dmchain close d
done
kind=

# --- sizes: no whole blocks, and layers that are shorter than those above

kind="--block-size 64K"
for what in "commit d --base 3" "stream d" "stream d --base 3" "commit d --top 1 --base 3"; do
	stack 2 $((5 * 1048576 + 512 * 7)) 64K
	for size in $((9 * 1048576 + 512 * 3)) $((12 * 1048576)); do
		n=$(json '.layers | length' dmchain info d)
		dmchain snapshot d=$n.img >/dev/null
		dmchain resize d $size >/dev/null
		truncate -s $size m
		write --ops 60 --seed $((++seed))
	done
	under "short layers: $what" dmchain $what
	top=$(json '.layers[0].path' dmchain info d)
	closed "short layers: $what" "$top"
	dmchain close d
done
kind=

# --- snapshots, reloads, suspends beside; several jobs at once

# While the job's end changes the disk no table is taken
reload()
{
	dmsetup table d | dmsetup reload d && dmsetup resume d
}

stack 4 8M
dmchain stream d --base 3 --speed 256K --background >/dev/null
run_ok "snapshot while the top takes data in" dmchain snapshot d=4.img
write --ops $((ops / 4)) --seed $((++seed)) --verify-end
is "$(json '.layers[1].marks | index("in-use") != null' dmchain info d)" true "who else would take it in hand is told that it is written"
run_ok "another one" dmchain snapshot d=5.img
for _ in 1 2 3 4 5; do
	reload || reload || fail "reload"
	dmsetup suspend --noflush d && dmsetup resume d || fail "suspend"
	write --ops 20 --seed $((++seed)) --verify-end
done
run_ok "it still runs" dmchain job speed d 0
run_ok "the stream ends" dmchain job wait d
is "$(layers)" "5 4 3 0" "its layer is a lower one by now"
is "$(json '.layers[2].marks | index("in-use")' dmchain info d)" null "and written by nobody"
closed "stream and snapshots" 5.img
dmchain close d

stack 7 8M
dmchain commit d --top 1 --base 2 --speed 32K --background >job.1 2>&1
dmchain commit d --top 3 --base 4 --speed 32K --background >job.2 2>&1
dmchain stream d --into 4 --base 6 --speed 32K --background >job.3 2>&1
is "$(json '[.[] | select(.status == "running" or .status == "pending")] | length' dmchain job list d)" "$(cat job.? | grep -c '^job')" \
	"jobs on layers of their own run at once"
n=$(cat job.? | grep -c '^job')
[ "$n" -ge 2 ]
is $? 0 "$n at a time"
write --ops $ops --seed $((++seed)) --verify-end && ok "several jobs: as the model"
run_ok "snapshot beside them" dmchain snapshot d=7.img
for id in $(sed -n 's/^job //p' job.?); do
	dmchain job speed "$id" 0 >/dev/null 2>&1
	run_ok "job $id ends" dmchain job wait "$id"
done
closed "several jobs" 7.img
dmchain close d

# --- cancelled again and again, closed in between

stack 4 8M
for k in 1 2 3 4; do
	dmchain commit d --base 3 --speed 3M --background >/dev/null 2>&1 || fail "commit $k"
	write --ops $((ops / 6)) --seed $((++seed)) --verify-end
	if [ $k -lt 3 ]; then
		dmchain job cancel d >/dev/null || fail "cancel $k"
		write --ops 40 --seed $((++seed)) --verify-end
	else
		dmchain close d 2>/dev/null || fail "close $k"
		dmchain open d 3.img 2>/dev/null || fail "open $k"
	fi
	iomodel verify /dev/mapper/d --model m >/dev/null || fail "round $k: the disk is not the model"
done
run_ok "cancelled, closed, resumed: it ends" dmchain job resume d --wait
is "$(layers)" 0 "the base is the disk"
closed "cancelled and resumed" 0.img
no_violations "the gate refused nothing"
dmchain close d

done_testing_jobs
