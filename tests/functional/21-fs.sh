#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1024 smp=2 timeout=300 group=main
#
# File systems on disks, with snapshots while files are written: what was
# synced is in the frozen layer, too, and every file that can be read there is
# whole; file system checks find nothing. And fio --verify.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
mkdir -p mnt frozen

# Files with their sums in their names; the n-th syncfs leaves mark n behind
writer()	# writer DIR
{
	local i sum
	for ((i = 0; ; i++)); do
		head -c $((i * 7919 % 200000 + 1)) /dev/urandom >"$1/new" || return
		read -r sum _ < <(md5sum <"$1/new")
		sync "$1/new" && mv "$1/new" "$1/$sum" || return
		[ $((i % 8)) != 7 ] || sync -f "$1" || return
		[ ! -e "$TMP/stop" ] || return 0
	done
}

# wrong DIR: files that are not what their name says
wrong()
{
	(cd "$1" && find . -maxdepth 1 -type f ! -name new ! -name before -printf '%f  %f\n' |
		while read -r sum name; do
			echo "$sum  $name"
		done | md5sum -c --quiet 2>&1 | grep -v WARNING | head -n 3)
}

files_are()	# files_are COUNT: or more
{
	[ "$(find mnt -maxdepth 1 -type f ! -name new | wc -l)" -ge "$1" ]
}

fs_check()	# fs_check FS DEVICE
{
	case $1 in
	ext4)	e2fsck -fn "$2";;
	xfs)	xfs_repair -n "$2";;
	esac
}

for fs in ext4 xfs; do
	if ! modprobe $fs 2>/dev/null && ! grep -qw $fs /proc/filesystems; then
		skip "$fs" "this kernel does not know it"
		continue
	fi
	size=64M
	[ $fs = ext4 ] || size=320M
	rm -f stop ./*.img
	run_ok "$fs: create" dmchain create $fs-0.img --size $size
	run_ok "$fs: open" dmchain open d $fs-0.img
	run_ok "$fs: mkfs" mkfs.$fs -q /dev/mapper/d
	run_ok "$fs: mount" mount /dev/mapper/d mnt
	writer mnt 2>writer.err &
	writer=$!
	for n in 1 2 3; do
		# Each is to have some that the one before it had not
		sleep 1
		wait_for 60 files_are $((n * 3))
		echo $n >mnt/before
		sync mnt/before
		run_ok "$fs: snapshot $n of a mounted disk" dmchain snapshot d=$fs-$n.img
	done
	sleep 0.5
	: >stop
	wait $writer
	is $? 0 "$fs: the writer meets no error"
	files=$(find mnt -maxdepth 1 -type f | wc -l)
	[ "$files" -gt 8 ]
	is $? 0 "$fs: it wrote a number of files: $files"
	run_ok "$fs: unmount" umount mnt
	run_ok "$fs: check" fs_check $fs /dev/mapper/d
	for n in 0 1 2 3; do
		# The frozen ones have a journal to replay: on a layer of their own
		rm -f look.img
		if [ $n -lt 3 ]; then
			run_ok "$fs: a layer on what was frozen" dmchain create look.img \
				--backing $fs-$n.img --backing-format chain
			run_ok "$fs: open it" dmchain open look look.img
			dev=/dev/mapper/look
		else
			dev=/dev/mapper/d
		fi
		options=defaults
		[ $fs != xfs ] || options=nouuid
		run_ok "$fs: mount it" mount -o $options $dev frozen
		is "$(wrong frozen)" "" "$fs: each file in it is whole"
		[ $n = 3 ] || is "$(cat frozen/before)" $((n + 1)) "$fs: what was synced before is there"
		run_ok "$fs: unmount it" umount frozen
		run_ok "$fs: check it" fs_check $fs $dev
		[ $n = 3 ] || run_ok "$fs: close it" dmchain close look
	done
	run_ok "$fs: close" dmchain close d
done
rm -f ./*.img

# --- fio, over a base with data, with two snapshots

run_ok "fio: base" dmchain create f0.img --size 32M
run_ok "fio: open" dmchain open d f0.img
run_ok "fio: fill" dd if=/dev/urandom of=/dev/mapper/d bs=1M count=32 oflag=direct
run_ok "fio: snapshot" dmchain snapshot d=f1.img
cat >job <<-'END'
	[global]
	filename=/dev/mapper/d
	direct=1
	ioengine=libaio
	iodepth=16
	verify=crc32c
	verify_fatal=1
	do_verify=1
	randrepeat=1
	[mixed]
	rw=randwrite
	bsrange=512-64k
	bs_unaligned=0
	blockalign=512
	offset=0
	size=16m
	[blocks]
	rw=randwrite
	bs=4k
	offset=16m
	size=16m
	fdatasync=64
END
fio --output=fio.out job &
fio=$!
sleep 2
run_ok "fio: snapshot under it" dmchain snapshot d=f2.img
wait $fio
is $? 0 "fio --verify finds nothing"
grep -E 'err=|verify' fio.out | sed 's/^/# /'
no_violations "the gate refused nothing"
run_ok "fio: close" dmchain close d

done_testing
