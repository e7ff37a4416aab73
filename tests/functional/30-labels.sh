#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.12 mem=1024 smp=2 timeout=600 group=labels
#
# Labels of image files: owner, group, mode and SELinux context through open,
# snapshot and close, with shared bases, after failures, kills and a lost /run.
# Files lie on a real ext4, each with an owner and a context of its own before.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
mkdir bin && cp "$(command -v dmchain)" bin/
PATH=$TMP/bin:$PATH

truncate -s 256M store
mkfs.ext4 -q store
mkdir mnt && mount -o loop store mnt
on_exit umount "$TMP/mnt"
on_exit cd /
cd mnt || exit 1

rw=107:64055:660,selinux=system_u:object_r:svirt_image_t:s0:c1,c2
ro=107:64055:440,selinux=system_u:object_r:virt_content_t:s0
labels=(--label-rw "$rw" --label-ro "$ro")
is_rw="107:64055:660 system_u:object_r:svirt_image_t:s0:c1,c2"
is_ro="107:64055:440 system_u:object_r:virt_content_t:s0"

context()	# FILE
{
	getfattr -h --absolute-names --only-values -n security.selinux "$1" 2>/dev/null | tr -d '\0'
}

# state FILE: what it has now
state()
{
	local c
	c=$(context "$1")
	echo "$(stat -c %u:%g:%a "$1") ${c:--}"
}

states()	# FILE...
{
	local f
	for f; do state "$f"; done | paste -sd '|'
}

# own FILE OWNER:GROUP:MODE [CONTEXT]: what it has before
own()
{
	chown "${2%:*}" "$1"
	chmod "${2##*:}" "$1"
	[ -z "$3" ] || setfattr -n security.selinux -v "$3" "$1"
}

memory()	# FILE...: those that remember what they had
{
	getfattr --absolute-names -n trusted.dmchain.label "$@" 2>/dev/null | sed -n 's/^# file: //p' | xargs
}

records()
{
	find /run/dmchain/labels -name 'file.*' -o -name 'disk.*' 2>/dev/null | wc -l
}

kinds()	# DISK
{
	json '[.layers[].label]|join(" ")' dmchain info "$1"
}

nothing_left()	# NAME
{
	is "$(records) $(memory ./*.img) $(ls /run/dmchain/lock.* 2>/dev/null)" "0  " "$1"
}

# --- open, snapshot, close

load_module
dmchain create base.img --size 32M >/dev/null
dmchain create mid.img --backing base.img --backing-format chain >/dev/null
dmchain create top.img --backing mid.img --backing-format chain >/dev/null
own base.img 0:0:644 user_u:object_r:base_t:s0
own mid.img 1:2:600
own top.img 3:4:640 user_u:object_r:top_t:s0
was_base="0:0:644 user_u:object_r:base_t:s0" was_mid="1:2:600 -" was_top="3:4:640 user_u:object_r:top_t:s0"
is "$(states base.img mid.img top.img)" "$was_base|$was_mid|$was_top" "files with owners of their own"

run_ok "open without labels" dmchain open d top.img
is "$(states base.img mid.img top.img)" "$was_base|$was_mid|$was_top" "changes nothing"
is "$(kinds d)" "none none none" "info: no labels"
run_ok "close" dmchain close d
run_fail any "there is not even a folder for labels" test -e /run/dmchain/labels

run_ok "open with labels" dmchain open d top.img "${labels[@]}"
is "$(states top.img mid.img base.img)" "$is_rw|$is_ro|$is_ro" "the top has rw, what is below ro"
is "$(kinds d)" "rw ro ro" "info says so"
is "$(json '[.layers[].label]|join(" ")' dmchain info ./top.img)" "rw ro ro" "also of the files"
like "$(dmchain info d)" "label: rw" "also as text"
is "$(memory ./*.img)" "./base.img ./mid.img ./top.img" "the files remember what they had"
run_ok "snapshot" dmchain snapshot d=new.img
is "$(states new.img top.img mid.img)" "$is_rw|$is_ro|$is_ro" "the new top has rw, the old one ro"
is "$(kinds d)" "rw ro ro ro" "info says so"
mv mid.img moved.img
run_ok "close" dmchain close d
mv moved.img mid.img
is "$(states base.img mid.img top.img)" "$was_base|$was_mid|$was_top" "all have what they had, also one that was moved"
is "$(state new.img)" "0:0:600 -" "and the new one, what it was made with"
nothing_left "nothing is left"

run_ok "open read-only" dmchain open d new.img --read-only "${labels[@]}"
is "$(states new.img top.img)" "$is_ro|$is_ro" "all have ro"
run_ok "close" dmchain close d
run_ok "open with one template" dmchain open d new.img --label-rw ::666
is "$(states new.img top.img)" "0:0:666 -|$was_top" "only the top is labelled, the rest of it stays"
is "$(kinds d)" "rw none none none" "info says so"
run_ok "snapshot" dmchain snapshot d=new2.img
is "$(states new2.img new.img)" "0:0:666 -|0:0:600 -" "the old top has what it had"
run_ok "close" dmchain close d
run_ok "open with the other" dmchain open d new2.img --label-ro 5::
run_ok "snapshot" dmchain snapshot d=new3.img
is "$(states new3.img new2.img base.img)" "0:0:600 -|5:0:600 -|5:0:644 user_u:object_r:base_t:s0" \
	"the old top gets ro, the new one nothing"
run_ok "close" dmchain close d
is "$(states new2.img base.img)" "0:0:600 -|$was_base" "all as it was"
nothing_left "nothing is left"
rm new3.img new2.img
dmchain unseal new.img >/dev/null

run_ok "snapshot --existing: open" dmchain open d new.img "${labels[@]}"
dmchain close d
dmchain create ex.img --backing new.img --backing-format chain >/dev/null
dmchain unseal new.img >/dev/null
own ex.img 8:9:600 user_u:object_r:ex_t:s0
run_ok "open" dmchain open d new.img "${labels[@]}"
run_ok "snapshot --existing" dmchain snapshot d=ex.img --existing
is "$(states ex.img new.img)" "$is_rw|$is_ro" "labels as with a new one"
run_ok "close" dmchain close d
is "$(states ex.img new.img)" "8:9:600 user_u:object_r:ex_t:s0|0:0:600 -" "all as it was"

# --- shared bases

dmchain create a.img --backing base.img --backing-format chain >/dev/null
dmchain create b.img --backing base.img --backing-format chain >/dev/null
run_ok "one disk on the base" dmchain open a a.img "${labels[@]}"
run_ok "another, with the same ro label" dmchain open b b.img --label-rw 9:9:600 --label-ro $ro
is "$(states a.img b.img base.img)" "$is_rw|9:9:600 -|$is_ro" "each top has its own, the base one"
refused 3 "base.img: disk (a|b) has another label" "a third one with another ro label" \
	dmchain open c ex.img --label-ro 1:1:444
is "$(states base.img ex.img mid.img)" "$is_ro|8:9:600 user_u:object_r:ex_t:s0|$was_mid" "it leaves no trace"
run_ok "one without labels" dmchain open c ex.img
run_ok "close it" dmchain close c
run_ok "the first leaves" dmchain close a
is "$(states base.img a.img)" "$is_ro|0:0:600 -" "the base keeps its label"
run_ok "the last leaves" dmchain close b
is "$(state base.img)" "$was_base" "and has what it had"
run_ok "now the other label is fine" dmchain open c ex.img --label-ro 1:1:444
is "$(state base.img)" "1:1:444 user_u:object_r:base_t:s0" "it has it"
run_ok "close" dmchain close c
run_ok "a disk that dmsetup removed" dmchain open a a.img "${labels[@]}"
dmsetup remove a
is "$(state base.img)" "$is_ro" "leaves its labels"
run_ok "but is in nobody's way" dmchain open c ex.img --label-ro 1:1:444
run_ok "close" dmchain close c
is "$(states base.img a.img)" "$was_base|$is_rw" "with the last user the base is free"
run_ok "recover" dmchain recover
is "$(state a.img)" "0:0:600 -" "and takes back the rest"
nothing_left "nothing is left"

for i in 1 2 3 4; do
	dmchain create p$i.img --backing base.img --backing-format chain >/dev/null
done
for i in 1 2 3 4; do
	{ dmchain open p$i p$i.img "${labels[@]}" && touch ../open$i && dmchain close p$i; } >../out$i 2>&1 &
done
wait
is "$(cat ../out?) $(ls ../open? | wc -l)" " 4" "four disks on it come and go at once"
is "$(states base.img p1.img p4.img)" "$was_base|0:0:600 -|0:0:600 -" "all as it was"
rm p?.img
nothing_left "nothing is left"

# --- failures: all as before

same()	# NAME: as the files were
{
	is "$(states base.img mid.img top.img new.img ex.img)" \
		"$was_base|$was_mid|$was_top|0:0:600 -|8:9:600 user_u:object_r:ex_t:s0" "$1"
}

chattr +i base.img
refused 1 "base.img: can't get its label \(ro\): Operation not permitted" \
	"open: a layer that can't be changed" dmchain open d ex.img "${labels[@]}"
same "all as before"
nothing_left "nothing is left"
run_fail any "there is no disk" dmsetup info d
chattr -i base.img
run_ok "open" dmchain open d ex.img "${labels[@]}"
chattr +i mid.img
refused 1 "mid.img: can't get back" "close: a layer that can't be changed" dmchain close d
is "$(kinds d)" "rw ro ro ro ro" "the disk is open, with its labels"
is "$(states ex.img new.img)" "$is_rw|$is_ro" "as before"
chattr -i mid.img
chattr +i ex.img
refused 1 "ex.img: can't get its label \(ro\)" "snapshot: the old top can't be changed" dmchain snapshot d=x.img
chattr -i ex.img
run_fail any "the new top is gone" test -e x.img
is "$(kinds d)" "rw ro ro ro ro" "labels are what they were"
refused 1 "x.img: can't get its label \(rw\)" "snapshot: the new top can't be changed" \
	strace -qq -o /dev/null -e trace=fchown -e inject=fchown:error=EPERM:when=1 dmchain snapshot d=x.img
run_fail any "it is gone" test -e x.img
is "$(kinds d)" "rw ro ro ro ro" "labels are what they were"
is "$(states ex.img new.img)" "$is_rw|$is_ro" "labels are what they were"
refused 3 "." "open: refused by another disk" dmchain open e ex.img "${labels[@]}"
is "$(states ex.img new.img)" "$is_rw|$is_ro" "labels are what they were"
run_ok "close" dmchain close d
same "all as it was"
nothing_left "nothing is left"
mkdir ../fat && truncate -s 64M ../fat.store
if mkfs.vfat ../fat.store >/dev/null 2>&1 && mount -o loop ../fat.store ../fat 2>/dev/null; then
	dmchain create ../fat/f.img --size 1M >/dev/null
	refused 1 "label" "a file system without owners and contexts" \
		dmchain open d ../fat/f.img "${labels[@]}"
	umount ../fat
else
	skip "a file system without owners and contexts" "no vfat"
fi
mkdir ../ram && mount -t ramfs none ../ram
dmchain create ../ram/f.img --size 1M >/dev/null
refused 1 "f.img: can't get its label \(rw\)" "a file system without contexts" dmchain open d ../ram/f.img "${labels[@]}"
is "$(stat -c %u:%g:%a ../ram/f.img)" "0:0:600" "the file is as it was"
run_ok "owners alone are fine there" dmchain open d ../ram/f.img --label-rw 5:6:660
is "$(stat -c %u:%g:%a ../ram/f.img)" "5:6:660" "the file has them"
run_ok "close" dmchain close d
is "$(stat -c %u:%g:%a ../ram/f.img)" "0:0:600" "and what it had"
umount ../ram
nothing_left "nothing is left"

truncate -s 64M ../store2
mkfs.ext4 -q ../store2
loop=$(losetup --show -f ../store2)
mkdir ../two && mount "$loop" ../two
dmchain create ../two/r.img --size 8M >/dev/null
own ../two/r.img 107:64055:440 system_u:object_r:virt_content_t:s0
mount -o remount,ro ../two
run_ok "a read-only file system with the right label" dmchain open r ../two/r.img --read-only "${labels[@]}"
is "$(kinds r) $(state ../two/r.img)" "ro $is_ro" "needs no change"
run_ok "nor does close" dmchain close r
nothing_left "nothing is left"
refused 1 "r.img: can't get its label \(ro\): Read-only file system" "one with another" \
	dmchain open r ../two/r.img --read-only --label-ro 1::
nothing_left "nothing is left"
mount -o remount,rw ../two
own ../two/r.img 1:1:600
run_ok "open" dmchain open r ../two/r.img "${labels[@]}"
umount -l ../two
run_ok "close, with the file out of reach" dmchain close r
like "$(output)" "warning: .*/r.img: can't be found to take its label back" "says so"
mount "$loop" ../two
is "$(state ../two/r.img)" "$is_rw" "it has its label yet"
run_ok "recover, with the file in reach" dmchain recover
like "$(output)" "^r: label of .*/two/r.img taken back$" "says so"
is "$(state ../two/r.img)" "1:1:600 system_u:object_r:virt_content_t:s0" "it has what it had"
umount ../two
losetup -d "$loop"
nothing_left "nothing is left"

# --- usage

for bad in 1 1:2 1:2:3:4 :: "" 1:2:8 1:2:1777 no-such-user:: :no-such-group: 4294967295:: \
		99999999999:: -1:: selinux= selinux=a:b 1:2:600,selinux= 1:2:600,mode=3 "selinux=a:b:c d"; do
	refused 2 . "no label: '$bad'" dmchain open d ex.img --label-rw "$bad"
	refused 2 . "nor for reading: '$bad'" dmchain open d ex.img --label-ro "$bad"
done
run_ok "names" dmchain open d ex.img --label-rw nobody:nogroup:600
is "$(stat -c %U:%G:%a ex.img)" "nobody:nogroup:600" "are found"
run_ok "close" dmchain close d
same "all as it was"

# --- a reboot: /run is gone, the files are labelled

run_ok "open" dmchain open d ex.img "${labels[@]}"
dmsetup remove d
rm -rf /run/dmchain/labels
is "$(states ex.img base.img)" "$is_rw|$is_ro" "labels with nobody to know of them"
run_ok "open with other labels" dmchain open d ex.img --force --label-rw 1:1:600
is "$(state ex.img)" "1:1:600 user_u:object_r:ex_t:s0" "they come over what the file had first"
run_ok "close" dmchain close d
same "all as it was"
run_ok "open" dmchain open d ex.img "${labels[@]}"
dmsetup remove d
rm -rf /run/dmchain/labels
cp -a new.img copy.img
run_ok "open without labels" dmchain open d ex.img --force
same "takes old ones back"
run_ok "close" dmchain close d
dmchain new-id copy.img >/dev/null
run_ok "a copy has no business with its original's memory" dmchain open d copy.img --read-only --label-ro 1:1:444
run_ok "close it" dmchain close d
is "$(state copy.img)" "$is_ro" "it has what it was copied with"
rm copy.img
nothing_left "nothing is left"
run_ok "a label of another host" dmchain open d ex.img "${labels[@]}"
dmsetup remove d
rm -rf /run/dmchain/labels
cp /etc/machine-id id
tr 0-9a-f f0-9a-e <id >/etc/machine-id
refused 3 "labelled by host" "is not ours to change" dmchain open d ex.img --force "${labels[@]}"
cp id /etc/machine-id
run_ok "open" dmchain open d ex.img --force
run_ok "close" dmchain close d
same "all as it was"

# --- kills: at each change of a file or record, then recover

kill_at()	# CALL NUMBER COMMAND...
{
	bash -c '"$@"; exit $?' bash strace -qq -o /dev/null -e "trace=$1" \
		-e "inject=$1:signal=KILL:when=$2" "${@:3}" >/dev/null 2>&1
}

# calls COMMAND...: "call number" of all those that change something
calls()
{
	strace -qq -o "$TMP/trace" -e trace=rename,fchmod,fchown,fsetxattr,fremovexattr,unlink "$@" >/dev/null 2>&1
	awk -F'(' '{ print $1, ++n[$1] }' "$TMP/trace"
}

# fault WHAT...
fault()
{
	bad=$((bad + 1))
	echo "# $op killed at $at: $*"
}

# killed COMMAND...: at $at
killed()
{
	local status=0
	kill_at ${at% *} ${at#* } "$@" || status=$?
	[ $status = 137 ] || fault "was not killed: $status"
}

free="0:0:600 -|$was_base 0 "
check_free()
{
	local seen
	seen="$(states a.img base.img) $(records) $(memory ./*.img)"
	[ "$seen" = "$free" ] || fault "$seen"
}

mapfile -t at_open < <(calls dmchain open d a.img "${labels[@]}")
mapfile -t at_close < <(calls dmchain close d)
[ ${#at_open[@]} -gt 10 ] && [ ${#at_close[@]} -gt 10 ]
is $? 0 "there are many places to be killed at"
echo "# ${#at_open[@]} in open, ${#at_close[@]} in close"
bad=0 op=open
for at in "${at_open[@]}"; do
	killed dmchain open d a.img "${labels[@]}"
	dmchain recover >/dev/null || fault "recover fails"
	if [ -e /dev/mapper/d ]; then
		[ "$(states a.img base.img)" = "$is_rw|$is_ro" ] || fault "open with $(states a.img base.img)"
		dmchain close d
	fi
	check_free
done
is $bad 0 "open killed anywhere: recover takes all back"
bad=0 op=close
for at in "${at_close[@]}"; do
	dmchain open d a.img --force "${labels[@]}"
	killed dmchain close d
	# The next command that changes this disk does what recover does
	dmsetup info d >/dev/null 2>&1 || dmchain open d a.img || fault "does not open"
	dmchain close d || fault "does not close"
	check_free
done
is $bad 0 "close killed anywhere: the next command takes all back"
dmchain open d a.img "${labels[@]}"
mapfile -t at_snap < <(calls dmchain snapshot d=s0.img)
is "$(kinds d)" "rw ro ro" "a snapshot under strace"
bad=0 n=0 op=snapshot
for at in "${at_snap[@]}"; do
	n=$((n + 1))
	killed dmchain snapshot d=s$n.img
	dmchain recover d >/dev/null || fault "recover fails"
	list=$(json '[.layers[]|.path|sub(".*/"; "")]|join(" ")' dmchain info d)
	# shellcheck disable=SC2086 # names without blanks
	set -- $list
	seen=$(states "$1" "$2" "$3")
	[ "$seen" = "$is_rw|$is_ro|$is_ro" ] || fault "$list: $seen"
	[ "$1" = s$n.img ] || [ ! -e s$n.img ] || fault "s$n.img is left"
done
is $bad 0 "snapshot killed anywhere: labels follow the table"
run_ok "close" dmchain close d
nothing_left "nothing is left"
same "all as it was"

done_testing
