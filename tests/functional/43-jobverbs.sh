#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,6.12,debug mem=1024 smp=2 timeout=900 group=jobs
# allow: Buffer I/O error|I/O error, dev|lost async page write|job [0-9]+ ended with error
#
# What may be said to a job, and what it does then: pause, resume, speed, cancel
# and a second start; disks that are closed or replaced by errors under it.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"
. "$(dirname "$0")/../lib/jobverbs.sh"

cd "$TMP" || exit 1
id=

now_us()
{
	echo "${EPOCHREALTIME/[.,]/}"
}

# --- pause, resume

stack 4
begin "a stream" dmchain stream d --speed 1M
wait_for 60 at_least 1
is $? 0 "it moves"
run_ok "pause" dmchain job pause d
wait_for 20 status_is paused
is $? 0 "it is paused"
before=$(of current-progress)
held=$(json '.layers[0]."data-bytes"' dmchain info d)
sleep 1.5
is "$(of current-progress)" "$before" "its progress stands still"
is "$(json '.layers[0]."data-bytes"' dmchain info d)" "$held" "so does the layer that takes in"
run_ok "pause once more" dmchain job pause d
run_ok "without a limit now" dmchain job speed d 0
sleep 0.5
is "$(of status) $(of current-progress)" "paused $before" "that is no resume"
run_ok "a limit again" dmchain job speed d 1M
run_ok "resume" dmchain job resume d
wait_for 60 at_least $((before + 1))
is $? 0 "it moves on"
run_ok "resume what runs" dmchain job resume d
run_ok "pause to cancel" dmchain job pause d
wait_for 20 status_is paused
run_ok "cancel what is paused" dmchain job cancel d
is "$(of status) $(of error)" "concluded cancelled" "it is cancelled"
refused 1 "cancelled" "wait tells so" dmchain job wait "$id"
same "the disk is what it was"

# --- speed

begin "slow from the start" dmchain stream d --speed 1
wait_for 20 at_least 1
before=$(of current-progress)
sleep 1
is "$(of current-progress)" "$before" "a byte a second is next to nothing"
for speed in 262144 1048576; do
	run_ok "speed $speed" dmchain job speed "$id" $speed
	is "$(of speed)" $speed "it is shown"
	began=$(now_us) from=$(of current-progress)
	sleep 2
	moved=$(($(of current-progress) - from)) took=$(($(now_us) - began))
	# A batch is an eighth of a second's; one more may be counted
	most=$((took * speed / 1000000 * 3 / 2 + 2 * speed / 8))
	[ $moved -gt 0 ] && [ $moved -le $most ]
	is $? 0 "$moved bytes in $took us are some, and $most at most"
done
for speed in x -1 1Q ""; do
	run_fail 2 "no such speed: '$speed'" dmchain job speed "$id" "$speed"
done
run_fail 2 "nor to start with" dmchain stream d --speed fast
is "$(of speed)" 1048576 "its speed is what it was"
run_ok "no limit" dmchain job speed "$id" 0
run_ok "it ends" dmchain job wait "$id" --timeout 60
is "$(paths)" "d4" "one layer is left"
same "the disk is what it was"
dmchain close d

# --- cancelled on its way, and once more: what is left of it

to_move()	# to_move COMMAND...
{
	"$@" --dry-run --json | jq '."move-bytes" + ."zero-bytes"'
}

# again NAME LAYERS COMMAND...: COMMAND leaves LAYERS
again()
{
	local name=$1 want=$2 total moved left top
	shift 2
	top=$(paths)
	top=${top%% *}.img
	total=$(to_move "$@")
	begin "$name" "$@" --speed 3M
	wait_for 60 at_least $((total / 5))
	run_ok "$name: cancel at 20 %" dmchain job cancel "$id"
	is "$(of total-progress)" "$total" "$name: its total is what a dry run says"
	moved=$(of current-progress)
	[ "$moved" -ge $((total / 5)) ] && [ "$moved" -lt "$total" ]
	is $? 0 "$name: $moved of $total bytes were moved"
	left=$((total - moved))
	is "$(to_move "$@")" $left "$name: the rest is left"
	is "$(writable)" 1 "$name: only the top is open for writing"
	same "$name: cancelled, the disk is what it was"
	dmchain close d 2>/dev/null
	dmchain open d "$top" 2>/dev/null
	same "$name: opened again, too"
	is "$(to_move "$@")" $left "$name: nothing of it is lost"
	run_ok "$name: again" "$@" --json
	is "$(output | jq -r '[."current-progress", ."total-progress"] | join(" ")')" "$left $left" \
		"$name: that was the rest"
	is "$(paths)" "$want" "$name: layers are gone"
	same "$name: the disk is what it was"
}

stack 4
again "stream" "d4 d0" dmchain stream d --base 4
dmchain close d
stack 4
again "commit" "d4 d1 d0" dmchain commit d --top 1 --base 3
is "$(writable)" 1 "only the top is open for writing then"
dmchain close d
for format in chain raw; do
	stack 3 $format
	again "active commit, $format" d0 dmchain commit d --base 3
	dmchain close d
done

# --- ended from outside

for what in "stream d" "commit d --base 3" "commit d --top 1 --base 3"; do
	stack 3
	# shellcheck disable=SC2086 # words
	begin "$what" dmchain $what --speed 1M
	wait_for 60 at_least 1
	run_fail any "$what: the module can't be removed" rmmod dm_chain
	exec 9</dev/mapper/d
	# In use: it is replaced by errors, and stays
	dmsetup remove --force d >/dev/null 2>&1
	like "$(dmsetup table d 2>&1)" " error" "$what: remove --force while the disk is open"
	wait_for 20 status_is concluded
	is "$(of status) $(of error)" "concluded the disk was closed" "$what: the job ends with its disk"
	exec 9<&-
	run_ok "$what: the rest of it goes" dmsetup remove d
	is "$(threads)" 0 "$what: no thread is left"
	run_ok "$what: recover" dmchain recover
	is "$(losetup -n -l 2>/dev/null)" "" "$what: no loop device is left"
	run_ok "$what: the module can be removed" rmmod dm_chain
	run_ok "$what: open" dmchain open d d3.img
	same "$what: the disk is what it was"
	is "$(json 'map([.status, .error] | join(" ")) | join(",")' dmchain job list d)" "paused interrupted" \
		"$what: its record is there"
	run_ok "$what: resume" dmchain job resume d --wait
	same "$what: done, the disk is what it was"
	run_ok "$what: close" dmchain close d
done

for state in paused ready; do
	stack 2
	begin "$state: a commit" dmchain commit d --base 2 --speed 1M
	if [ $state = ready ]; then dmchain job speed d 0; else dmchain job pause d; fi
	wait_for 60 status_is $state
	is $? 0 "$state"
	run_ok "$state: close" dmchain close d
	is "$(threads)" 0 "$state: no thread is left"
	run_ok "$state: open" dmchain open d d2.img
	same "$state: the disk is what it was"
	run_ok "$state: resume" dmchain job resume d --wait
	is "$(paths)" d0 "$state: the base is the disk"
	same "$state: done, the disk is what it was"
	run_ok "$state: close" dmchain close d
done

dmchain monitor >/dev/null &
monitor=$!
wait_for 10 sh -c "awk '\$1 == \"dm_chain\" && \$3 > 0 { found = 1 } END { exit !found }' /proc/modules"
run_fail any "who listens keeps the module" rmmod dm_chain
kill $monitor
wait $monitor
run_ok "then it can be removed" rmmod dm_chain
is "$(losetup -n -l 2>/dev/null)" "" "no loop device is left"
done_testing
