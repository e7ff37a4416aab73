#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# In the VM: how long a snapshot and a pivot hold back a guest that writes 4 KiB at
# random places, 32 at a time: the longest time between two completions, from the start
# of the command to its end. Each on RAM disks of its own, in turns. Who writes has
# real-time priority, as if it had a processor of its own, and sleeps for 100 us after
# each 4 of them; that time is the command's and the kernel's.

set -euo pipefail
# shellcheck source=tests/bench/lib.sh
. "$(dirname "$0")/lib.sh"

mib=128
sectors=$((mib * 2048))
results=/tmp/pauses
: >$results
cd /tmp

load_module
modprobe brd rd_nr=12 rd_size=$((256 * 1024)) max_part=0
modprobe dm-thin-pool
modprobe nbd max_part=0

fill()
{
	dd if=/dev/urandom of="$1" bs=1M count=$mib oflag=direct status=none
}

# measured NAME DEVICE... -- COMMAND...
measured()
{
	local name=$1 line
	shift
	line=$(gapmeter --pace 100 "$@" 2>command.out) || die "$name: $(cat command.out)"
	echo "$name $line" >>$results
	echo "# $name $line" >&2
}

#----------------------------------------------------------------

chain_open()	# chain_open NAME TOP
{
	dd if=/dev/zero of="$2" bs=1M count=2 oflag=direct status=none
	dmchain create "$2" --size ${mib}M >/dev/null
	dmchain open "$1" "$2"
	fill "/dev/mapper/$1"
}

chain_snapshot()
{
	chain_open j0 /dev/ram0
	measured snapshot:chain /dev/mapper/j0 -- dmchain snapshot j0=/dev/ram4
	dmchain close j0
}

chain_snapshots()
{
	local i
	for i in 0 1 2 3; do
		chain_open j$i /dev/ram$i
	done
	measured snapshot:chain-of-4 /dev/mapper/j{0,1,2,3} -- \
		dmchain snapshot j0=/dev/ram4 j1=/dev/ram5 j2=/dev/ram6 j3=/dev/ram7
	for i in 0 1 2 3; do
		dmchain close j$i
	done
}

chain_pivot()
{
	chain_open j0 /dev/ram0
	dmchain mirror j0 /dev/ram4 --format chain >/dev/null
	measured pivot:chain /dev/mapper/j0 -- dmchain pivot j0
	dmchain close j0
}

thin_snapshot()
{
	dd if=/dev/zero of=/dev/ram8 bs=4k count=1 oflag=direct status=none
	dmsetup create pool --table "0 524288 thin-pool /dev/ram8 /dev/ram9 128 0 1 skip_block_zeroing"
	dmsetup message pool 0 "create_thin 0"
	dmsetup create thin --table "0 $sectors thin /dev/mapper/pool 0"
	fill /dev/mapper/thin
	measured snapshot:dm-thin /dev/mapper/thin -- sh -c \
		'dmsetup suspend thin && dmsetup message pool 0 "create_snap 1 0" && dmsetup resume thin'
	dmsetup remove thin
	dmsetup remove pool
}

#----------------------------------------------------------------
# QEMU: a qcow2 file as a block device, by NBD
#----------------------------------------------------------------

# qmp COMMAND...: each has to succeed
cat >qmp <<'END'
#!/usr/bin/perl
use strict; use warnings; use IO::Socket::UNIX;
my $s = IO::Socket::UNIX->new("/tmp/qmp.sock") or die "no monitor\n";
sub answer {
	while (my $line = <$s>) {
		die $line if $line =~ /"error"/;
		return if $line =~ /"return"/;
	}
	die "no answer\n";
}
my $hello = <$s>;
for my $command ('{"execute":"qmp_capabilities"}', @ARGV) {
	print $s "$command\n";
	$s->flush;
	answer();
}
END
chmod +x qmp

qemu_snapshot()
{
	local daemon
	mkdir -p q
	mke2fs -q -t ext4 -O ^has_journal /dev/ram10
	mke2fs -q -t ext4 -O ^has_journal /dev/ram11
	mount /dev/ram10 q
	qemu-img create -q -f qcow2 q/base ${mib}M
	qemu-storage-daemon \
		--blockdev driver=file,node-name=f0,filename=q/base,cache.direct=on,aio=native \
		--blockdev driver=qcow2,node-name=d0,file=f0 \
		--nbd-server addr.type=unix,addr.path=/tmp/nbd.sock \
		--export type=nbd,id=e,node-name=d0,name=d,writable=on \
		--chardev socket,id=c,path=/tmp/qmp.sock,server=on,wait=off --monitor chardev=c &
	daemon=$!
	until [ -S /tmp/qmp.sock ] && [ -S /tmp/nbd.sock ]; do
		sleep 0.1
	done
	nbd-client -unix /tmp/nbd.sock /dev/nbd0 -N d -b 4096 >/dev/null 2>&1
	fill /dev/nbd0
	qemu-img create -q -f qcow2 -b /tmp/q/base -F qcow2 q/top
	measured snapshot:qemu /dev/nbd0 -- ./qmp \
		'{"execute":"blockdev-add","arguments":{"driver":"qcow2","node-name":"d1","backing":null,"file":{"driver":"file","filename":"q/top","cache":{"direct":true},"aio":"native"}}}' \
		'{"execute":"blockdev-snapshot","arguments":{"node":"d0","overlay":"d1"}}'
	nbd-client -d /dev/nbd0 >/dev/null
	kill $daemon
	wait $daemon || :
	umount q
	rm -f /tmp/qmp.sock /tmp/nbd.sock
}

# A RAM disk takes its pages when they are first written: not in what we measure
for disk in /dev/ram{0..11}; do
	dd if=/dev/zero of=$disk bs=1M oflag=direct status=none 2>/dev/null || :
done
for ((round = 1; round <= PAUSES; round++)); do
	! wanted snapshot:chain || chain_snapshot
	! wanted snapshot:chain-of-4 || chain_snapshots
	! wanted pivot:chain || chain_pivot
	! wanted snapshot:dm-thin || thin_snapshot
	! wanted snapshot:qemu || qemu_snapshot
done
echo
echo "Linux $(uname -r), $(nproc) processors, 4 KiB random writes, 32 at a time, $PAUSES times;"
echo "the longest time between two completions, us: while the command runs (median, maximum),"
echo "and in half a second before it (median):"
echo
gawk '
function value(name,    i, v) {
	for (i = 2; i <= NF; i++)
		if (split($i, v, "=") == 2 && v[1] == name)
			return v[2] / 1000
}
{ n[$1]++; gap[$1][n[$1]] = value("gap"); idle[$1][n[$1]] = value("idle"); took[$1][n[$1]] = value("took") }
function middle(a, k) { asort(a); return a[int((k + 1) / 2)] }
END {
	printf "%-24s %10s %10s %10s %12s\n", "", "median", "maximum", "before", "command"
	PROCINFO["sorted_in"] = "@ind_str_asc"
	for (w in n) {
		k = n[w]
		m = middle(gap[w], k)
		for (i = max = 0; ++i <= k;)
			if (gap[w][i] > max)
				max = gap[w][i]
		printf "%-24s %10.0f %10.0f %10.0f %12.0f\n", w, m, max, middle(idle[w], k), middle(took[w], k)
	}
}' $results
