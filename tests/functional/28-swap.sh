#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1024 smp=2 timeout=120 group=main
#
# Swap on a disk over brd, with less memory than is used: nothing in the way of
# a write may wait for memory that only writing can free.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
mib=96
modprobe brd rd_nr=2 rd_size=$(((mib + 24) * 1024)) max_part=0
run_ok "create" dmchain create /dev/ram0 --size ${mib}M
run_ok "open" dmchain open d /dev/ram0
run_ok "mkswap" mkswap /dev/mapper/d
run_ok "swapon" swapon /dev/mapper/d
mkdir -p /sys/fs/cgroup 2>/dev/null
mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
mkdir -p /sys/fs/cgroup/small
if ! echo 24M >/sys/fs/cgroup/small/memory.max; then
	skip "memory pressure" "this kernel has no memory control groups"
	swapoff /dev/mapper/d
	done_testing
fi

# Uses some 64 MiB, goes through it twice and says what it read
hog()
{
	echo $BASHPID >/sys/fs/cgroup/small/cgroup.procs
	awk 'BEGIN {
		for (i = 0; i < 400000; i++)
			a[i] = "entry " i
		for (i = 0; i < 400000; i++)
			if (a[i] != "entry " i) { print "wrong at " i; exit 1 }
		print "right"
	}'
}
hog >hog.out &
hog=$!
swapping()
{
	[ "$(awk '$1 == "pswpout" { print $2 }' /proc/vmstat)" -gt 200 ]
}
wait_for 60 swapping
is $? 0 "pages are being swapped out"
run_ok "a snapshot beside it" dmchain snapshot d=/dev/ram1
wait $hog
is $? 0 "a process that needs swap ends well"
is "$(cat hog.out)" right "and reads what it wrote"
used=$(awk '$1 == "pswpout" { print $2 }' /proc/vmstat)
[ "$used" -gt 1000 ]
is $? 0 "pages were swapped out: $used"
no_violations "the gate refused nothing"
within 60 "swapoff" swapoff /dev/mapper/d
run_ok "close" dmchain close d
rmdir /sys/fs/cgroup/small

done_testing
