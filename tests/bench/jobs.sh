#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# In the VM: how fast jobs move data, and what the guest sees of them. All on
# RAM disks. A result is a line "WORKLOAD:WHO NS" in $results, ns for a MiB moved
# or for a read; table.awk does the rest. The time of a job is that between its
# states, as the kernel tells it.

set -euo pipefail
# shellcheck source=tests/bench/lib.sh
. "$(dirname "$0")/lib.sh"

mib=$JOB_MIB
sectors=$((mib * 2048))

load_module
modprobe brd rd_nr=6 rd_size=$(((mib + 96) * 1024)) max_part=0
modprobe dm-snapshot
modprobe dm-mirror
modprobe dm-raid
modprobe raid1

# moved NAME NS: what took so long, for each MiB
moved()
{
	result "$1" $(($2 / mib))
}

now()
{
	date +%s%N
}

fill()		# fill DEVICE [FIO OPTIONS]: data that is not zeroes
{
	fio --name=f --filename="$1" --rw=write --bs=1M --size="${mib}M" --direct=1 \
		--ioengine=psync --refill_buffers=0 "${@:2}" >/dev/null
}

# From the first "running" to the state in $1
span()
{
	jq -n --arg state "$1" 'reduce (inputs|select(.event=="status")) as $e ({};
		if $e.job.status == "running" and .from == null then .from = $e["time-ns"]
		elif $e.job.status == $state then .to = $e["time-ns"] else . end)
		| .to - .from' /tmp/events
}

# job NAME STATE COMMAND...: its time until that state
job()
{
	local name=$1 state=$2 monitor
	shift 2
	dmchain monitor --json >/tmp/events &
	monitor=$!
	sleep 0.2
	"$@" >/tmp/out 2>&1 || die "$name: $(cat /tmp/out)"
	sleep 0.2
	kill $monitor
	wait $monitor || :
	moved "$name" "$(span "$state")"
}

#----------------------------------------------------------------
# A GiB from one RAM disk to another
#----------------------------------------------------------------

limit_dd()
{
	local from
	from=$(now)
	dd if=/dev/ram0 of=/dev/ram1 bs=1M count=$mib iflag=direct oflag=direct status=none
	moved copy:dd $(($(now) - from))
}

# dm-mirror brings its second leg into sync, and raises an event then
limit_resync()
{
	local start
	start=$(now)
	dmsetup create mm --table "0 $sectors mirror core 1 1024 2 /dev/ram0 0 /dev/ram1 0"
	dmsetup wait mm 0 >/dev/null
	moved copy:resync $(($(now) - start))
	dmsetup status mm | grep -q " $((sectors / 1024))/$((sectors / 1024)) " ||
		die "the mirror is not in sync: $(dmsetup status mm)"
	dmsetup remove mm
}

# kcopyd as the kernel has it: a snapshot is merged into its origin
limit_merge()
{
	local from
	dd if=/dev/zero of=/dev/ram1 bs=1M count=1 oflag=direct status=none
	dmsetup create cow --table "0 $sectors snapshot /dev/ram0 /dev/ram1 P 128"
	fill /dev/mapper/cow
	dmsetup remove cow
	dmsetup create merge --table "0 $sectors snapshot-merge /dev/ram0 /dev/ram1 P 128"
	from=$(now)
	until dmsetup status merge | awk '{ split($4, a, "/"); exit a[1] != $5 }'; do
		sleep 0.02
	done
	moved copy:merge $(($(now) - from))
	dmsetup remove merge
}

# As files on RAM disks, without the page cache
peer_qemu()
{
	local from
	mkdir -p /tmp/q0 /tmp/q1
	mke2fs -q -t ext4 -O ^has_journal /dev/ram0
	mke2fs -q -t ext4 -O ^has_journal /dev/ram1
	mount /dev/ram0 /tmp/q0
	mount /dev/ram1 /tmp/q1
	qemu-img create -q -f raw /tmp/q0/base $((mib))M
	qemu-img create -q -f qcow2 -b /tmp/q0/base -F raw /tmp/q1/top
	qemu-io -t none -c "write -q -P 7 0 ${mib}M" /tmp/q1/top
	from=$(now)
	qemu-img commit -q -t none -d /tmp/q1/top
	moved copy:qemu-commit $(($(now) - from))
	umount /tmp/q0 /tmp/q1
}

# base on ram0, all the data in the layer on $top. Discards can't be turned on again once
# they are off: who gives no space back has a RAM disk of its own.
top=/dev/ram1
chain_make()	# chain_make FORMAT
{
	dd if=/dev/zero of=/dev/ram0 bs=1M count=2 oflag=direct status=none
	dd if=/dev/zero of=$top bs=1M count=2 oflag=direct status=none
	dd if=/dev/zero of=/dev/ram2 bs=1M count=2 oflag=direct status=none
	if [ "$1" = raw ]; then
		dmsetup create rawbase --table "0 $sectors linear /dev/ram0 0"
		dmchain create $top --backing /dev/mapper/rawbase --backing-format raw --force
	else
		dmchain create /dev/ram0 --size "${mib}M"
		dmchain create $top --backing /dev/ram0 --backing-format chain
	fi >/dev/null
	dmchain open j $top
	fill /dev/mapper/j
}

chain_end()
{
	dmchain close j
	[ ! -e /dev/mapper/rawbase ] || dmsetup remove rawbase
}

chain_jobs()
{
	# As the peers do, who leave the space where it was
	top=/dev/ram3
	chain_make chain
	job copy:active-commit ready dmchain commit j
	chain_end
	chain_make raw
	job copy:commit-raw ready dmchain commit j
	chain_end
	chain_make chain
	dmchain snapshot j=/dev/ram2 >/dev/null
	job copy:commit concluded dmchain commit j --top 1
	chain_end
	top=/dev/ram1
	chain_make chain
	dmchain snapshot j=/dev/ram2 >/dev/null
	job copy:commit+discard concluded dmchain commit j --top 1
	chain_end
	# The RAM disk has given its pages back
	fill /dev/ram1
	chain_make chain
	dmchain snapshot j=/dev/ram2 >/dev/null
	job copy:stream concluded dmchain stream j
	chain_end
	mirrors
}

# All that the disk shows to a third RAM disk, until both sides are equal
mirrors()
{
	local format
	for format in chain raw; do
		chain_make chain
		if [ $format = chain ]; then
			job copy:mirror ready dmchain mirror j /dev/ram2 --format chain
		else
			dmsetup create rawcopy --table "0 $sectors linear /dev/ram2 0"
			job copy:mirror-raw ready dmchain mirror j /dev/mapper/rawcopy --format raw
		fi
		dmchain job cancel j >/dev/null
		chain_end
		[ ! -e /dev/mapper/rawcopy ] || dmsetup remove rawcopy
	done
}

#----------------------------------------------------------------
# What a guest sees: reads of 4 KiB, one at a time, of what is being moved
#----------------------------------------------------------------

latency()	# latency IOS WHO
{
	fio --name=l --filename=/dev/mapper/j --rw=randread --bs=4k --size="${mib}M" \
		--direct=1 --ioengine=libaio --iodepth=1 --number_ios=$1 --norandommap --lat_percentiles=1 \
		--output-format=json --output=/tmp/fio.json
	result "p50:$2" "$(jq '.jobs[0].read.lat_ns.percentile["50.000000"]' /tmp/fio.json)"
	result "mean:$2" "$(jq '.jobs[0].read|(.runtime*1000000/.total_ios|floor)' /tmp/fio.json)"
	result "p99:$2" "$(jq '.jobs[0].read.lat_ns.percentile["99.000000"]' /tmp/fio.json)"
}

latencies()
{
	local name
	for name in stream commit; do
		chain_make chain
		dmchain snapshot j=/dev/ram2 >/dev/null
		latency 2000 "idle-$name"
		if [ $name = stream ]; then
			dmchain stream j --background >/dev/null
		else
			dmchain commit j --top 1 --background >/dev/null
		fi
		latency 20000 "$name"
		dmchain job list --json | jq -e '.[]|select(.status=="running")' >/dev/null ||
			echo "# the $name had ended before the reads" >&2
		dmchain job wait j >/dev/null 2>&1 || :
		chain_end
	done
}

#----------------------------------------------------------------
# What writes cost while they go to two places: 4 KiB, one at a time, in place
#----------------------------------------------------------------

written()	# written WHO DEVICE
{
	measure "write:$1" "$2" randwrite $blocks --norandommap
}

mirrored_writes()
{
	dmsetup create ll --table "0 $sectors linear /dev/ram0 0"
	written linear /dev/mapper/ll
	dmsetup remove ll
	dmsetup create mm --table "0 $sectors mirror core 2 1024 nosync 2 /dev/ram0 0 /dev/ram1 0"
	written dm-mirror /dev/mapper/mm
	dmsetup remove mm
	dmsetup create rr --table "0 $sectors raid raid1 2 0 nosync 2 - /dev/ram0 - /dev/ram1"
	written dm-raid1 /dev/mapper/rr
	dmsetup remove rr
	chain_make chain
	written chain /dev/mapper/j
	dmchain mirror j /dev/ram2 --format chain >/dev/null
	written chain-mirror /dev/mapper/j
	dmchain job cancel j >/dev/null
	chain_end
}

# A RAM disk takes its pages when they are first written: not in what we measure
echo 0 >/sys/block/ram3/queue/discard_max_bytes
for disk in /dev/ram0 /dev/ram1 /dev/ram2 /dev/ram3; do
	dd if=/dev/zero of=$disk bs=1M oflag=direct status=none 2>/dev/null || :
done
for ((round = 1; round <= ROUNDS; round++)); do
	echo "# round $round" >&2
	! wanted copy:dd || limit_dd
	! wanted copy:resync || limit_resync
	! wanted copy:merge || limit_merge
	! wanted copy:qemu-commit || peer_qemu
	! wanted copy:chain || chain_jobs
	! wanted latency || latencies
	! wanted write || mirrored_writes
done
echo
echo "Linux $(uname -r), jobs over $mib MiB, $ROUNDS rounds; ns for a MiB, and for a read:"
echo
gawk -v base_of=dd -f /src/tests/bench/table.awk $results
