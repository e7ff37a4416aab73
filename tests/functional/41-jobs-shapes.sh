#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,6.12,debug mem=1024 smp=2 timeout=400 group=jobs
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

# --- a stream ends, and drops layers, when another command has looked at them

# aim CALL COMMAND...: what meanwhile is to stop at, found by a COMMAND that leaves it at that
aim()
{
	call="0xdc, $1,"
	strace -qq -o calls -e trace=ioctl "${@:2}" >/dev/null 2>&1
	before=$(awk -v "call=$call" 'index($0, call) { print NR - 1; exit }' calls)
}
acquire=0x7 start=0x8	# DM_CHAIN_IOC_ACQUIRE and _JOB_START

has_stopped()
{
	grep -q "stopped by SIGSTOP" calls
}

has_ended()
{
	[ "$(json '.[-1].status' dmchain job list d)" = concluded ]
}

# meanwhile NAME COMMAND...: it does not get to the call until the stream has ended
meanwhile()
{
	local name=$1 tracer
	shift
	strace -q -o calls -e trace=ioctl -e "inject=ioctl:signal=STOP:when=$before" "$@" >meanwhile.out 2>&1 &
	tracer=$!
	wait_for 60 has_stopped
	dmchain job speed d 0 >/dev/null
	wait_for 60 has_ended
	is $? 0 "$name: a stream ends"
	pkill -CONT -P $tracer
	wait $tracer
	is $? 0 "$name: it ends well ($(tail -n 1 meanwhile.out))"
	like "$(awk '/stopped by/ { stopped = 1 } stopped && /^ioctl/ { print; exit }' calls)" "$call" \
		"$name: it was stopped in the right place"
}

# slowly BASE: a stream into the top that goes on when it is let go
slowly()
{
	dmchain stream d --base "$1" --speed 1 --background >/dev/null
}

stack 7 4M
slowly 4.img
commit=(dmchain commit d --top 3.img --base 2.img)
aim $acquire "${commit[@]}" --dry-run
meanwhile "before a token" "${commit[@]}"
is "$(layers)" "6 4 2 1 0" "before a token: those are merged that were meant"
closed "before a token" 6.img
dmchain close d

stack 6 4M
slowly 3.img
commit=(dmchain commit d --top 2.img --base 1.img)
aim $start "${commit[@]}" --dry-run
meanwhile "behind a token" "${commit[@]}"
is "$(layers)" "5 3 1 0" "behind a token: those are merged that were meant"
closed "behind a token" 5.img
dmchain close d

# Until the stream has ended these are refused
stack 4 4M
slowly 1.img
hold=(dmchain perm hold commit d --top 1.img --base 0.img -- sh -c "dmchain perm d --json >held")
aim $acquire "${hold[@]}"
meanwhile "hold" "${hold[@]}"
is "$(jq -r '[.[] | select(.token) | (.layer | sub(".*/"; "")) + " " + .role] | join(", ")' held)" \
	"3.img overlay, 1.img range, 0.img base" "hold: those that were meant"
dmchain close d

stack 6 4M
slowly 3.img
mkdir there
move=(dmchain mirror d "$PWD/there/3.img" --layer 3.img)
aim $acquire "${move[@]}"
meanwhile "a layer moves" "${move[@]}"
is "$(layers) $(json '.layers[1].path' dmchain info d)" "5 3 2 1 0 $PWD/there/3.img" "a layer moves: the one that was meant"
closed "a layer moves" 5.img
dmchain close d

stack 4 4M
slowly 1.img
mirror=(dmchain mirror d "$PWD/4.img" --format chain --shallow --pivot)
aim $acquire "${mirror[@]}"
meanwhile "a shallow copy" "${mirror[@]}"
is "$(layers)" "4 1 0" "a shallow copy: it is the top"
closed "a shallow copy" 4.img
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
