#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12 long=6.1 mem=1536 smp=2 timeout=500 group=jobs
#
# Others judge: btrfs, which has a checksum for each block, scrubs; e2fsck and
# xfs_repair look at file systems that stress-ng has worked on, comparing what it
# reads; LVM and LUKS lie on a disk. All of that while snapshots, streams, commits
# and mirrors go on below.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
mkdir store
# Image files are on a file system: loop has no direct I/O on tmpfs
truncate -s 1200M store.ext4
mkfs.ext4 -q -F store.ext4
mount -o loop store.ext4 store
cd store || exit 1
mkdir mnt look
on_exit eval "cd / && umount $TMP/store"
load=6
[ -z "${LONG-}" ] || load=60

stress()	# stress DIRECTORY
{
	stress-ng --temp-path "$1" --timeout $load --verify --no-rand-seed --oomable \
		--hdd 1 --hdd-bytes 4m --hdd-write-size 8k --iomix 1 --iomix-bytes 4m \
		--dentry 1 --dentries 64 --rename 1 --sync-file 1 --sync-file-bytes 1m >"$TMP/stress" 2>&1
}

# Snapshot, stream, commit, mirror and pivot of the disk d, again and again while
# process $1 lives, three times at least
jobs_under()
{
	local n bad=""
	for ((n = 1; n <= 3 || $(kill -0 "$1" 2>/dev/null && echo 1 || echo 0); n++)); do
		dmchain snapshot d=s$n-a.img >.out 2>&1 || bad+=" snapshot: $(tail -n 1 .out);"
		dmchain snapshot d=s$n-b.img >.out 2>&1 || bad+=" snapshot: $(tail -n 1 .out);"
		case $((n % 3)) in
		0)	dmchain mirror d m$n.img --format chain --pivot >.out 2>&1 || bad+=" mirror: $(tail -n 1 .out);";;
		1)	dmchain stream d >.out 2>&1 || bad+=" stream: $(tail -n 1 .out);";;
		2)	dmchain commit d --base 1 >.out 2>&1 || bad+=" commit: $(tail -n 1 .out);";;
		esac
		gone
	done
	is "$bad" "" "$what: $((n - 1)) times snapshots and a job"
}

gone()		# files of layers that the disk has no more
{
	local f have
	have=" $(json '[.layers[].path | sub(".*/"; "")] | join(" ")' dmchain info d) "
	for f in *.img; do
		[[ $have == *" $f "* ]] || rm "$f"
	done
}

stressed()
{
	stress mnt &
	jobs_under $!
	wait $!
	is "$?$(grep -E 'fail:|verif.*fail' "$TMP/stress" | head -n 3)" 0 "$what: stress-ng, which compares, finds nothing"
}

new_disk()	# new_disk SIZE
{
	rm -f ./*.img
	run_ok "$what: create" dmchain create base.img --size "$1"
	run_ok "$what: open" dmchain open d base.img
}

fs_check()
{
	case $what in
	ext4)	e2fsck -fn "$1";;
	xfs)	xfs_repair -n "$1";;
	btrfs)	btrfs check --readonly "$1";;
	esac
}

# --- file systems

scrub()		# scrub DIRECTORY: what it finds
{
	btrfs scrub start -B -r "$1" >"$TMP/scrub" 2>&1 || :
	sed -n 's/^Error summary: *//p' "$TMP/scrub"
}

for what in ext4 xfs btrfs; do
	if ! modprobe $what 2>/dev/null && ! grep -qw $what /proc/filesystems; then
		skip "$what" "this kernel does not know it"
		continue
	fi
	size=128M
	[ $what != xfs ] || size=320M
	new_disk $size
	run_ok "$what: mkfs" mkfs.$what -q /dev/mapper/d
	run_ok "$what: mount" mount /dev/mapper/d mnt
	stressed
	dd if=/dev/urandom of=mnt/last bs=1M count=8 status=none
	sync -f mnt
	[ $what != btrfs ] || is "$(scrub mnt)" "no errors found" "$what: scrub, in use"
	sum=$(md5sum <mnt/last)
	run_ok "$what: snapshot" dmchain snapshot d=last.img
	run_ok "$what: unmount" umount mnt
	run_ok "$what: check" fs_check /dev/mapper/d
	frozen=$(json '.layers[1].path' dmchain info d)
	options=defaults
	[ $what != xfs ] || options=nouuid
	dmchain close d
	dmchain create look.img --backing "$frozen" --backing-format chain >/dev/null
	dmchain open look look.img
	run_ok "$what: what was frozen, mounted" mount -o $options /dev/mapper/look look
	is "$(md5sum <look/last)" "$sum" "$what: holds what was synced"
	umount look
	run_ok "$what: check of that" fs_check /dev/mapper/look
	run_ok "$what: close" dmchain close look
done

# The judge is judged: five bytes of a file's data, changed below the file system
if [ $what = btrfs ] && [ -n "${sum-}" ]; then
	dmchain open d last.img
	mount /dev/mapper/d mnt
	yes "the judge is judged" | head -c 1M >mnt/judge
	umount mnt
	at=$(grep -abo -m 1 "the judge is judged" /dev/mapper/d | head -n 1)
	printf 'other' | dd of=/dev/mapper/d bs=1 seek="${at%%:*}" conv=notrunc,fsync status=none
	run_ok "btrfs: mount" mount /dev/mapper/d mnt
	like "$(scrub mnt)" "csum=[1-9]" "btrfs: scrub finds five bytes that were changed below it"
	umount mnt
	dmchain close d
fi

# --- LVM on a disk

what=LVM
new_disk 64M
lvm_config='devices { filter = [ "a|^/dev/mapper/d$|", "r|.*|" ] use_devicesfile = 0 } activation { udev_sync = 0 udev_rules = 0 } global { use_lvmlockd = 0 }'
lv()
{
	"$@" --config "$lvm_config"
}
run_ok "$what: pvcreate" lv pvcreate -q /dev/mapper/d
run_ok "$what: vgcreate" lv vgcreate -q chainvg /dev/mapper/d
run_ok "$what: lvcreate" lv lvcreate -q -y -Wn -Zn -n vol -L 40M chainvg
lvm_dev=/dev/mapper/chainvg-vol
iomodel run $lvm_dev --model "$TMP/model" --seconds $load --threads 2 --max 64K --init-from-dev \
	--verify-end >"$TMP/io" 2>&1 &
jobs_under $!
wait $!
is "$?$(grep -v ': ok ' "$TMP/io" | head -n 5)" 0 "$what: all that is read is right"
run_ok "$what: vgchange -an" lv vgchange -an chainvg
top=$(json '.layers[0].path' dmchain info d)
run_ok "$what: close" dmchain close d
run_ok "$what: open" dmchain open d "$top"
run_ok "$what: vgchange -ay" lv vgchange -ay chainvg
run_ok "$what: it is there" iomodel verify $lvm_dev --model "$TMP/model"
run_ok "$what: vgchange -an" lv vgchange -an chainvg
run_ok "$what: close" dmchain close d

# --- LUKS on a disk

what=LUKS
new_disk 64M
luks()
{
	echo secret | cryptsetup "$@" --key-file -
}
if ! modprobe dm-crypt; then
	skip "$what" "this kernel has no dm-crypt"
	done_testing
fi
run_ok "$what: format" luks luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
	--cipher aes-xts-plain64 --key-size 256 --sector-size 512 /dev/mapper/d
run_ok "$what: open" luks luksOpen /dev/mapper/d plain
rm -f "$TMP/model"
iomodel run /dev/mapper/plain --model "$TMP/model" --seconds $load --threads 2 --max 64K \
	--init-from-dev --no-discard --verify-end >"$TMP/io" 2>&1 &
jobs_under $!
wait $!
is "$?$(grep -v ': ok ' "$TMP/io" | head -n 5)" 0 "$what: all that is read is right"
run_ok "$what: snapshot" dmchain snapshot d=luks-2.img
frozen=$(json '.layers[1].path' dmchain info d)
run_ok "$what: close" cryptsetup close plain
run_ok "$what: close" dmchain close d
run_ok "$what: what was frozen" dmchain open d "$frozen" --read-only
run_ok "$what: opens by its key" luks luksOpen --readonly /dev/mapper/d plain
run_ok "$what: and is what was written" iomodel verify /dev/mapper/plain --model "$TMP/model"
run_ok "$what: close" cryptsetup close plain
run_ok "$what: close" dmchain close d

done_testing
