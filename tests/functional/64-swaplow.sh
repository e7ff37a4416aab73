#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12 long=6.1 mem=128 smp=2 timeout=300 group=swaplow disks=300M,300M,300M
# allow: page allocation failure
#
# A machine with 128 MiB whose swap is a disk of layers: twice as much is in use
# as there is memory, while a snapshot is taken, a job merges layers and files are
# written. Nothing that writes a page out may wait for memory, or all stands still.
# (28-swap.sh has a limit for one process only, and the machine's memory to itself.)

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
# What others tried to allocate without waiting may fail; what has to do with us not
memory=$(awk '$1 == "MemTotal:" { print int($2 / 1024) }' /proc/meminfo)
echo "# $memory MiB of memory"
[ "$memory" -lt 128 ]
is $? 0 "there is little memory"
run_ok "create" dmchain create /dev/vdb --size 256M
run_ok "open" dmchain open d /dev/vdb
run_ok "mkswap" mkswap /dev/mapper/d
run_ok "swapon" swapon /dev/mapper/d

# Uses some 90 MiB, goes through it several times and says what it read
hog()
{
	awk -v me="$1" 'BEGIN {
		for (i = 0; i < 500000; i++)
			a[i] = me " entry " i
		for (n = 0; n < 2; n++)
			for (i = 0; i < 500000; i++)
				if (a[i] != me " entry " i) { print "wrong at " i; exit 1 }
		print "right"
	}'
}
pids=()
for n in 1 2; do
	hog $n >hog.$n &
	pids+=($!)
done
swapped()	# swapped PAGES
{
	[ "$(awk '$1 == "pswpout" { print $2 }' /proc/vmstat)" -gt "$1" ]
}
wait_for 120 swapped 2000
is $? 0 "pages are swapped out"
within 60 "a snapshot beside it" dmchain snapshot d=/dev/vdc
wait_for 60 swapped 6000
within 60 "another one" dmchain snapshot d=/dev/vdd
within 200 "a stream beside it" dmchain stream d --speed 20M
for n in 1 2; do
	wait "${pids[n - 1]}"
	is $? 0 "process $n ends well"
	is "$(cat hog.$n)" right "... and reads what it wrote"
done
echo "# $(awk '$1 == "pswpout" { print $2 }' /proc/vmstat) pages were swapped out"
no_violations "the gate refused nothing"
within 120 "swapoff" swapoff /dev/mapper/d
run_ok "close" dmchain close d
bad=$(dmesg | grep -A 30 'page allocation failure' | grep 'dm_chain')
is "$bad" "" "no allocation of ours fails"

done_testing
