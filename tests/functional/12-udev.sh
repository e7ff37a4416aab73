#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1024 smp=2 timeout=700 udev=1 group=udev
#
# With udevd running: what a guest writes to its whole disk (RAID and LVM
# members, partition tables) is nothing to the host, neither on the disk nor on
# the devices of its layers, whatever happens to them.

. "$(dirname "$0")/../lib/tap.sh"

cd "$TMP" || exit 1
# Programs start faster from here
mkdir bin && cp "$(command -v dmchain)" "$(command -v trailers)" bin/
PATH=$TMP/bin:$PATH
size=64M kinds=(md0.90 md1.0 md1.1 md1.2 lvm gpt mbr)

rules()
{
	mkdir -p /run/udev/rules.d
	rm -f /run/udev/rules.d/57-dm-chain.rules
	[ "$1" = off ] || cp /src/userspace/udev/57-dm-chain.rules /run/udev/rules.d/
	udevadm control --reload
}

# Busy with its queue, udevd may be slow to answer
settle()
{
	udevadm settle --timeout=60 || udevadm settle --timeout=60 || echo "udev does not settle"
}

# What the host made of it: arrays, active volumes, partitions, links by
# content, and what the udev database says of contents
found()
{
	settle
	grep -o '^md[^ ]*' /proc/mdstat 2>/dev/null
	lvs --noheadings -o lv_name,lv_active 2>/dev/null | awk '$2 == "active" { print "volume", $1 }'
	for part in /sys/block/{loop,dm-}*/{loop,dm-}*; do
		[ ! -e "$part/partition" ] || echo "partition ${part##*/}"
	done
	for dir in by-uuid by-label by-partuuid by-partlabel; do
		for link in /dev/disk/$dir/*; do
			[[ $(readlink "$link") != */@(loop|dm-|md)* ]] || echo "link $dir"
		done
	done
	udevadm info --export-db | awk -v RS= '/\nN: (loop|dm-)/ &&
		/\nE: ID_(FS_TYPE|PART_TABLE_TYPE)=/ && !/ID_FS_TYPE=dm_chain_layer/ { print "known contents" }'
	for link in /dev/disk/by-id/lvm-pv-uuid-* /dev/disk/by-id/md-*; do
		[ ! -e "$link" ] || echo "link ${link##*/}"
	done
}

nothing()
{
	is "$(found | sort -u | xargs)" "" "$1"
}

clean()
{
	mdadm --quiet --stop --scan 2>/dev/null
	vgchange -q -an >/dev/null 2>&1
	losetup -D
	settle
}

for mod in loop md_mod raid0 raid1 linear; do
	modprobe $mod 2>/dev/null
done
rules on
run_ok "the rule is well-formed" udevadm test /sys/block/vda
output | grep -iE 'dm-chain.rules.*(invalid|error|unknown|ignoring)' && fail "no complaint of the rule"

# --- the trailers are good: without us the host takes them

for kind in "${kinds[@]}"; do
	truncate -s 0 plain.img
	truncate -s $size plain.img
	trailers plain.img "$kind"
	losetup -f plain.img
	like "$(found | sort -u | xargs)" . "a plain loop device: the host sees $kind"
	clean
done

# --- disks and their layers

for kind in "${kinds[@]}"; do
	rm -f ./*.img
	dmchain create base.img --size $size >/dev/null
	run_ok "$kind: open" dmchain open d base.img
	trailers /dev/mapper/d "$kind"
	# As if a watched device had been closed after writing
	udevadm trigger --action=change --subsystem-match=block
	nothing "$kind: written by the guest"
	run_ok "$kind: snapshot" dmchain snapshot d=top.img
	nothing "$kind: snapshot"
	run_ok "$kind: close" dmchain close d
	nothing "$kind: close"
	run_ok "$kind: open" dmchain open d top.img
	run_ok "$kind: the frozen layer" dmchain open old base.img --read-only
	nothing "$kind: open"
	udevadm trigger --action=add --subsystem-match=block
	dmsetup suspend d
	dmsetup resume d
	nothing "$kind: all events once more, and a resume by dmsetup"
	dmchain close old
	dmchain close d

	# A raw layer is the guest's bytes and nothing else
	truncate -s $size raw.img
	trailers raw.img "$kind"
	run_ok "$kind: raw" dmchain open r raw.img --format raw
	run_ok "$kind: raw, snapshot" dmchain snapshot r=over.img
	udevadm trigger --action=change --subsystem-match=block
	nothing "$kind: raw, snapshot"
	dmchain close r
	nothing "$kind: raw, closed"
done

# --- what udev is there for still works

run_ok "open" dmchain open d base.img --read-only
run_ok "there is a node" test -b /dev/mapper/d
run_ok "udev made it" test -L /dev/mapper/d
run_ok "close" dmchain close d
settle
run_fail any "it is gone" test -e /dev/mapper/d
is "$(dmsetup udevcookies | grep -c 0x)" 0 "no cookie is left"
is "$(ls /run/dmchain/layers | wc -l)" 0 "no marker is left"
# The loop device that was ours is anybody's again
truncate -s $size plain.img
mkfs.ext4 -q -U 11111111-2222-3333-4444-555555555555 plain.img
losetup -f plain.img
settle
run_ok "a loop device of others is looked at" test -e /dev/disk/by-uuid/11111111-2222-3333-4444-555555555555
clean

done_testing
