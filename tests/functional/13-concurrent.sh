#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug,kcsan long=6.1,debug,kcsan mem=1024 smp=2 timeout=600 group=main
#
# Several controllers at once: on one disk they wait for each other, on disks
# that share layers they agree on the devices of these.

. "$(dirname "$0")/../lib/tap.sh"

cd "$TMP" || exit 1
mkdir bin && cp "$(command -v dmchain)" bin/
PATH=$TMP/bin:$PATH
nr=12

# together NAME COMMAND: COMMAND with N set to 1 ... nr, all at once; all succeed
together()
{
	local name=$1 pids=() failed=0
	shift
	for ((N = 1; N <= nr; N++)); do
		( eval "$*" >".out.$N" 2>&1 ) &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do
		wait "$pid" || failed=$((failed + 1))
	done
	is "$failed" 0 "$name"
	[ $failed = 0 ] || cat .out.*
	rm -f .out.*
}

nr_loops()
{
	losetup -n -O NAME 2>/dev/null | wc -l
}

truncate -s 16M golden.raw
dmchain create mid.img --backing golden.raw --backing-format raw >/dev/null
for ((i = 1; i <= nr; i++)); do
	dmchain create $i.img --backing mid.img --backing-format chain >/dev/null
done

together "$nr disks on one base are opened" 'dmchain open d$N $N.img'
is "$(nr_loops)" $((nr + 2)) "each layer has one loop device"
is "$(dmchain info d1 --json | jq -c '[.layers[].users|length]')" "[1,$nr,$nr]" "the lower ones are shared"
is "$(dmchain list --json | jq length)" $nr "list has them all"
is "$(ls /run/dmchain/layers | wc -l)" $((nr + 2)) "one marker each"

together "snapshots of all" 'dmchain snapshot d$N=top$N.img'
together "snapshots of one disk queue up" 'dmchain snapshot d1=x$N.img'
is "$(dmchain info d1 --json | jq '.layers|length')" $((nr + 4)) "all were made"
is "$(dmchain check "$(dmchain info d1 --json | jq -r '.layers[1].path')" >/dev/null 2>&1; echo $?)" 0 \
	"and a frozen one is in order"
together "closing all" 'dmchain close d$N'
is "$(nr_loops)" 0 "no loop device is left"
is "$(ls /run/dmchain/layers | wc -l)" 0 "no marker is left"

# What one does with loop devices others wait for: also who only shares the lock, for
# chance seldom lets two of them look at the same instant
(flock -s 9 && sleep 5) 9</run/dmchain/loops.lock &
sleep 1
dmchain create e.img --size 1M >/dev/null
dmchain open e e.img &
sleep 3
kill -0 $!
is $? 0 "who has the lock of loop devices has it alone"
wait $!
is $? 0 "and then it is the next one's turn"
wait
dmchain close e

# One wins, the others are told
won=0 refused=0
for ((i = 1; i <= 6; i++)); do
	dmchain open w$i 2.img --format chain >.out.$i 2>&1 &
done
for pid in $(jobs -p); do
	wait "$pid"
	case $? in
	0)	won=$((won + 1));;
	3)	refused=$((refused + 1));;
	esac
done
is "$won $refused" "0 6" "a frozen layer has no writer"
for ((i = 1; i <= 6; i++)); do
	dmchain open w$i top2.img >.out.$i 2>&1 &
done
won=0 refused=0
for pid in $(jobs -p); do
	wait "$pid"
	case $? in
	0)	won=$((won + 1));;
	3)	refused=$((refused + 1));;
	esac
done
is "$won $refused" "1 5" "a top has one"
is "$(cat .out.* | grep -c '^dmchain: ')" 5 "the others are told"
dmchain close "$(dmchain list --json | jq -r '.[0].name')"

# Commands and their opposites, over and over: nothing is left of it
storm()
{
	local k
	for ((k = 0; k < 8; k++)); do
		case $((RANDOM % 5)) in
		0)	dmchain open s "$1.img";;
		1)	dmchain close s;;
		2)	dmchain snapshot s=s$1-$k.img;;
		3)	dmchain recover s;;
		4)	dmchain list; dmchain info s; dmchain map s;;
		esac
	done >/dev/null 2>&1
	return 0
}
dmchain create 20.img --size 16M >/dev/null
dmchain create 21.img --size 16M >/dev/null
nr=6
together "a storm" 'RANDOM=$N; storm $((20 + N % 2))'
dmchain recover >/dev/null
[ ! -e /dev/mapper/s ] || run_ok "close" dmchain close s
is "$(dmsetup ls | grep -c '(')" 0 "no device is left"
is "$(nr_loops)" 0 "no loop device is left"
is "$(ls /run/dmchain)" "$(printf 'layers\nloops\nloops.lock')" "no lock is left"

done_testing
