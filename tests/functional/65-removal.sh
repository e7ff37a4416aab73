#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1024 smp=2 timeout=500 group=main
# allow: Buffer I/O error|I/O error, dev|lost async page write|layer .* failed|job [0-9]+ ended with error
# allow: (map write|map commit|header update|second header copy|switch|flush) failed
# allow: block nbd0: |nbd0: detected capacity change|EXT4-fs |JBD2: |Aborting journal|Remounting filesystem
#
# A layer that goes away under I/O: a SCSI disk or an NBD server, a file on a file system
# whose disk is pulled out, a device that hangs. Errors reach who asks for what is on it,
# nobody else; nothing hangs; the disk can be closed, and when the device is back it opens
# with all that was acknowledged.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
mib=24 d=/dev/mapper/d

# --- what can be pulled out and plugged in again; $lost is the layer on it

scsi_plugged()
{
	local dir
	for dir in /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*/block/*; do
		[ -b "/dev/${dir##*/}" ] && sdev=/dev/${dir##*/} && return
	done
	return 1
}

scsi_plug()
{
	local host
	for host in /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/scsi_host/host*/scan; do
		echo "- - -" >"$host"
	done
	wait_for 20 scsi_plugged && scsi_plugged && lost=$sdev
}

scsi_pull()
{
	echo 1 >"/sys/block/${sdev##*/}/device/delete"
}

# The process that serves /dev/nbd0 is killed
nbd_plug()
{
	cutdisk serve ctl nbd 1 >nbd.out 2>&1 &
	server=$!
	wait_for 20 nbd_plugged && lost=/dev/nbd0
}

nbd_plugged()
{
	[ "$(blockdev --getsz /dev/nbd0)" != 0 ]
}

nbd_pull()
{
	kill -KILL "$server"
	wait "$server" 2>/dev/null
}

# A file, on that SCSI disk
file_plug()
{
	scsi_plug && mount "$sdev" mnt && lost=mnt/l.img
}

file_pull()
{
	scsi_pull
}

# One write after the other, each to its own sectors and acknowledged when it is
# durable; those that were are in FILE
writer()		# writer FILE
{
	local i
	for ((i = 0; i < 2000; i++)); do
		printf '%4096d' $i | dd of=$d bs=4k seek=$((1024 + i)) oflag=direct,dsync conv=notrunc \
			iflag=fullblock status=none 2>>writer.err || return
		echo $i >>"$1"
	done
}

reader()
{
	local i
	for ((i = 0; i < 200; i++)); do
		dd if=$d of=/dev/null bs=64k count=64 iflag=direct status=none 2>>reader.err || return
	done
}

# What the writer was told is there
acknowledged()		# acknowledged FILE
{
	local i lost=""
	while read -r i; do
		[ "$(dd if=$d bs=4k skip=$((1024 + i)) count=1 iflag=direct status=none | tr -d ' ')" = "$i" ] ||
			lost+=" $i"
	done <"$1"
	echo "$lost"
}

# The device is one of three layers: 2 is the top
prepare()		# prepare LAYER
{
	local i path
	rm -f ./?.img acked ./*.err
	# Of the layer before
	case $kind in
	file)	rm -f mnt/l.img;;
	*)	blkdiscard -f "$lost";;
	esac
	for i in 0 1 2; do
		path=$i.img
		[ $i != "$1" ] || path=$lost
		if [ $i = 0 ]; then
			dmchain create "$path" --size ${mib}M >/dev/null && dmchain open d "$path"
		else
			dmchain snapshot "d=$path" >/dev/null
		fi || fail "prepare layer $i"
		fill d $i 2 a
	done
	sync
	head -c 4M $d | sha256sum >sum
}

pulled()	# pulled KIND LAYER
{
	local name="$1, layer $2 is pulled" kind=$1 layer=$2 force="" top=2.img other writer reader before
	prepare $layer
	iomodel run /dev/mapper/o --model o.m --seconds 6 --threads 2 --max 64K --seed $layer \
		--verify-end >other.out 2>&1 &
	other=$!
	writer acked &
	writer=$!
	reader &
	reader=$!
	wait_for 30 test -s acked
	is $? 0 "$name: it is written"
	sleep 1
	"${kind}_pull"
	wait_for 30 test -s reader.err
	is $? 0 "$name: who reads what is there gets an error"
	if [ $layer = 2 ]; then
		wait_for 30 test -s writer.err
		is $? 0 "$name: so does who writes"
	else
		before=$(wc -l <acked)
		sleep 2
		[ ! -s writer.err ] && [ "$(wc -l <acked)" -gt "$before" ]
		is $? 0 "$name: who writes to the top goes on"
		kill $writer 2>/dev/null
	fi
	wait $writer $reader 2>/dev/null
	wait $other
	is "$?$(grep -i error other.out)" 0 "$name: another disk reads as its model"
	within 20 "$name: info" dmchain info d
	within 30 "$name: close" dmchain close d
	[ "$kind" != file ] || umount mnt
	"${kind}_plug" || fail "$name: plugged in again"
	[ $layer != 2 ] || top=$lost
	if [ $layer = 2 ]; then
		# Nothing could be written there when it was closed
		refused 3 "its close failed" "$name: plugged in again, it is not taken for a closed one" \
			dmchain open d "$lost"
		force=--force
	fi
	# shellcheck disable=SC2086 # one option or none
	run_ok "$name: plugged in again, it opens" dmchain open d "$top" $force
	is "$(head -c 4M $d | sha256sum)" "$(<sum)" "$name: all is there"
	is "$(acknowledged acked)" "" "$name: and all $(wc -l <acked) writes that were acknowledged"
	run_ok "$name: close again" dmchain close d
}

# --- a device that is told off while a job writes to it

set_state()
{
	echo "$1" >"/sys/block/${sdev##*/}/device/state"
}

# shellcheck disable=SC2317 # called by wait_for
status_is()
{
	[ "$(json 'map(select(.error != "interrupted"))[-1].status' dmchain job list d)" = "$1" ]
}

offline()	# offline JOB
{
	local name="offline $1" args=(mirror d "$sdev" --format chain)
	rm -f ./?.img
	blkdiscard -f "$sdev"
	if [ "$1" = mirror ]; then
		dmchain create top.img --size ${mib}M >/dev/null
		run_ok "$name: open" dmchain open d top.img
	else
		args=(commit d --force)
		dmchain create "$sdev" --size ${mib}M >/dev/null
		run_ok "$name: open" dmchain open d "$sdev"
		fill d 0 2 z
		dmchain snapshot d=top.img >/dev/null
	fi
	fill d 0 4 a
	run_ok "$name: begins" dmchain "${args[@]}" --background
	wait_for 30 status_is ready
	is $? 0 "$name: ready"
	xfs_io -d -c "pwrite -q -S 0x62 4m 4m" -c fsync $d
	is $? 0 "$name: a write that is durable"
	set_state offline
	iomodel run $d --model off.m --size 4M --init-from-dev --seconds 3 --threads 2 --max 64K --seed 3 >off.out 2>&1
	xfs_io -d -c "pwrite -q -S 0x63 10m 64k" -c fsync $d >off.out 2>&1
	wait_for 30 status_is concluded
	is "$(json 'map(select(.error != "interrupted"))[-1] | [.status, .error] | join(" ")' dmchain job list d)" "concluded Input/output error" "$name: the job is at its end"
	if [ "$1" = mirror ]; then
		run_ok "$name: the disk goes on" xfs_io -d -c "pwrite -q -S 0x64 12m 1m" -c fsync $d
	else
		run_fail any "$name: no flush says that all is well" xfs_io -c fsync $d
	fi
	within 30 "$name: close" dmchain close d
	set_state running
	run_ok "$name: open again" dmchain open d top.img
	holds $d 5 3 b "$name: what was durable is there"
	within 30 "$name: close" dmchain close d
	rm top.img
}

dmchain create other.base --size 8M >/dev/null
dmchain open o other.base

if modprobe -q sd_mod && modprobe scsi_debug dev_size_mb=48 lbpu=1 && scsi_plug; then
	for layer in 0 1 2; do
		pulled scsi $layer
	done
	mkdir mnt
	mkfs.ext4 -q "$sdev"
	mount "$sdev" mnt && lost=mnt/l.img
	for layer in 1 2; do
		pulled file $layer
	done
	umount mnt
	wipefs -qa "$sdev"
	for what in mirror commit; do
		offline $what
	done
else
	skip "removal" "no scsi_debug here"
fi
modprobe nbd nbds_max=1 max_part=0
mkdir nbd
truncate -s 48M nbd/0
nbd_plug
for layer in 0 2; do
	pulled nbd $layer
done
nbd_pull

# --- a device that does not answer for a while

has_job()
{
	dmchain job list d --json | jq -e 'any(.[]; .status != "concluded")'
}

no_job()
{
	! has_job
}

rm -f ./?.img acked ./*.err
truncate -s 48M slow.back
back=$(losetup -f --show slow.back)
dmsetup create slow --table "0 $((48 * 2048)) linear $back 0"
dmchain create /dev/mapper/slow --size ${mib}M >/dev/null
dmchain open d /dev/mapper/slow
fill d 0 2 a
dmchain snapshot d=top.img >/dev/null
fill d 8 2 b
sync
dmsetup suspend --noflush --nolockfs slow
dd if=$d of=/dev/null bs=64k count=1 iflag=direct status=none &
waits=$!
sleep 0.5
kill -0 $waits
is $? 0 "a hanging layer: who reads from it waits"
within 20 "a hanging layer: other layers are read" \
	dd if=$d of=/dev/null bs=1M skip=8 count=2 iflag=direct status=none
within 20 "a hanging layer: the top is written" \
	dd if=/dev/zero of=$d bs=1M seek=10 count=1 oflag=direct,dsync conv=notrunc status=none
within 20 "a hanging layer: other disks are written" \
	dd if=/dev/zero of=/dev/mapper/o bs=1M count=2 oflag=direct,dsync conv=notrunc status=none
within 20 "a hanging layer: info" dmchain info d
within 20 "a hanging layer: the list of disks" dmchain list
dmchain stream d >stream.out 2>&1 &
stream=$!
wait_for 20 has_job
is $? 0 "a hanging layer: a stream begins"
kill -KILL $stream
wait $stream 2>/dev/null
within 20 "a hanging layer: the list of jobs behind a controller that was killed" dmchain job list
within 20 "a hanging layer: another disk is closed" dmchain close o
within 20 "a hanging layer: and opened" dmchain open o other.base
dmsetup resume slow
wait $waits
is $? 0 "it answers again: who waited gets the data"
wait_for 60 no_job
is $? 0 "it answers again: the job ends"
is "$(json '.layers | length' dmchain info d)" 1 "it answers again: and has done its work"
holds $d 0 2 a "it answers again: all is there"
no_violations "the gate refused nothing"
run_ok "close" dmchain close d

# A switch that takes its time in the kernel holds up that of no other disk
in_kernel()	# in_kernel PROCESS
{
	grep -q 'chain_\(switch\|resize\)' /proc/"$1"/task/*/stack
}

slow_writes()	# slow_writes MILLISECONDS
{
	dmsetup load slow --table "0 $((48 * 2048)) delay $back 0 0 $back 0 $1" &&
		dmsetup suspend --noflush --nolockfs slow && dmsetup resume slow
}

modprobe dm-delay
for what in snapshot resize; do
	dmchain create /dev/mapper/slow --size 8M >/dev/null
	dmchain open s /dev/mapper/slow
	dd if=/dev/zero of=/dev/mapper/s bs=64k count=1 oflag=direct status=none
	args=(snapshot s=s2.img)
	[ $what = snapshot ] || args=(resize s 16M)
	slow_writes 15000
	dmchain "${args[@]}" >hangs.out 2>&1 &
	hangs=$!
	wait_for 40 in_kernel $hangs
	is $? 0 "a slow $what: it is in the kernel"
	run_ok "a slow $what: another disk is frozen" dmchain snapshot "o=o-$what.img"
	run_ok "a slow $what: and resized" dmchain resize o +1M
	in_kernel $hangs
	is $? 0 "a slow $what: it is there yet"
	slow_writes 0
	wait $hangs
	is "$?$(grep dmchain: hangs.out)" 0 "a slow $what: it ends"
	run_ok "a slow $what: close" dmchain close s
done
run_ok "close the other one" dmchain close o

done_testing
