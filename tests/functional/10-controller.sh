#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1024 smp=2 timeout=300 group=main
#
# The controller's commands for disks: what they do, what they print, what they
# refuse and with which exit code. An error is one line.

. "$(dirname "$0")/../lib/tap.sh"

cd "$TMP" || exit 1

# err STATUS REGEX NAME COMMAND...: fails with one line that says why
err()
{
	local want=$1 regex=$2 name=$3 status=0
	shift 3
	"$@" >.out 2>.err || status=$?
	if [ "$status" != "$want" ]; then
		fail "$name" "expected exit status $want of '$*', saw $status: $(head -c 300 .err)"
	elif [ "$(wc -l <.err)" != 1 ] || [ -s .out ]; then
		fail "$name" "not one line: $(cat .out .err)"
	elif ! grep -qE "^dmchain: .*$regex" .err; then
		fail "$name" "expected something like '$regex', saw '$(cat .err)'"
	else
		ok "$name"
	fi
}

# json QUERY COMMAND...
json()
{
	local query=$1
	shift
	"$@" --json | jq -cr "$query"
}

# loops [COLUMNS]
loops()
{
	losetup -n -O "${1:-BACK-FILE}" 2>/dev/null | sort | xargs
}

write()	# write DISK OFFSET_MIB PATTERN
{
	yes "$3" | dd of="/dev/mapper/$1" bs=1M count=1 seek="$2" oflag=direct \
		iflag=fullblock conv=fsync status=none
}

reads()	# reads DISK OFFSET_MIB PATTERN NAME
{
	local seen
	seen=$(dd if="/dev/mapper/$1" bs=1M count=1 skip="$2" iflag=direct status=none |
		sha256sum)
	is "$seen" "$(yes "$3" | head -c 1048576 | sha256sum)" "$4"
}

# --- without the module

rmmod dm_chain 2>/dev/null
is "$(dmchain list --json | jq -c .)" '[]' "list: nothing is open"
err 1 "no such disk" "close: there is none" dmchain close d
run_ok "recover: nothing to do" dmchain recover
is "$(output)" "" "recover says nothing then"
run_fail any "asking does not load the module" test -d /sys/module/dm_chain

# --- open, close

run_ok "create" dmchain create base.img --size 64M
err 2 "missing" "open: PATH is needed" dmchain open d
err 2 "no such format" "open: a format there isn't" dmchain open d base.img --format qcow2
err 2 "no name for a disk" "open: a name with a slash" dmchain open a/b base.img
err 1 "nothing.img" "open: no such image" dmchain open d nothing.img
truncate -s 4M raw.img
err 4 "no chain header" "open: raw is not chain" dmchain open d raw.img
is "$(loops)" "" "no loop device is left of all these"

run_ok "open" dmchain open d base.img
is "$(output)" "" "open says nothing"
run_ok "the module was loaded" test -d /sys/module/dm_chain
run_ok "there is a node" test -b /dev/mapper/d
is "$(blockdev --getsize64 /dev/mapper/d)" 67108864 "of the right size"
is "$(blockdev --getss /dev/mapper/d)" 512 "with 512-byte blocks"
is "$(loops)" "$TMP/base.img" "one loop device"
is "$(loops RO,AUTOCLEAR,PARTSCAN)" "0 1 0" \
	"which is writable, goes by itself and is not scanned"
run_ok "with a marker for udev" test -e "/run/dmchain/layers/$(loops MAJ:MIN)"
like "$(dmsetup info -c --noheadings -o uuid d)" '^DMCHAIN-[0-9a-f-]{36}$' "a UUID of ours"
is "$(ls /run/dmchain)" "$(printf 'layers\nloops\nloops.lock')" "no lock is left"

err 3 "open already" "open: the name is taken" dmchain open d base.img
err 3 "disk d" "open: the layer has a writer, who is named" dmchain open e base.img
err 3 "disk d" "open: also for a reader" dmchain open e base.img --read-only
err 3 "disk d" "image commands refuse it" dmchain new-id base.img
cp --sparse=always base.img copy.img
err 3 "copy|UUID" "open: a copy with the same UUID" dmchain open e copy.img

run_ok "table" dmchain table d
is "$(output)" "0 131072 chain 1 $(loops MAJ:MIN) chain rw" "is that of dmsetup"
is "$(json .table dmchain table d)" "$(dmsetup table d)" "as JSON, too"
is "$(json '.[]|[.name,.device,."virtual-size",.state,.layers,.top]|@csv' dmchain list)" \
	'"d","/dev/mapper/d",67108864,"active",1,"'"$TMP"'/base.img"' "list --json"
like "$(dmchain list)" "d +64 MiB +1 +active +$TMP/base.img" "list"

# --- info, map

is "$(json 'keys_unsorted|join(" ")' dmchain info d)" \
	"name device virtual-size block-size state layers jobs" "info: its keys"
for key in index path device format uuid parent-uuid access data-bytes \
		zero-bytes marks users map-bytes; do
	is "$(json ".layers[0]|has(\"$key\")" dmchain info d)" true "info: a layer has $key"
done
is "$(json '[.name,.device,."virtual-size",."block-size",.state,(.jobs|length)]|@csv' dmchain info d)" \
	'"d","/dev/mapper/d",67108864,4096,"active",0' "info of a disk"
is "$(json '.layers[0]|[.index,.path,.format,.access,."data-bytes",.marks[0],.users[0]]|@csv' dmchain info d)" \
	'0,"'"$TMP"'/base.img","chain","rw",0,"in-use","d"' "info of its layer"
write d 1 one
write d 4 gone
blkdiscard -o 4M -l 1M /dev/mapper/d
is "$(json '.layers[0]|[."data-bytes",."zero-bytes"]|@csv' dmchain info d)" \
	"1048576,1048576" "info: data and zeroes are counted"
is "$(json '[.[]|[.start,.length,.depth,.zero,.data]|join(",")]|join(" ")' dmchain map d)" \
	"0,1048576,0,true,false 1048576,1048576,0,false,true 2097152,2097152,0,true,false 4194304,1048576,0,true,false 5242880,61865984,0,true,false" \
	"map: what was written"
like "$(dmchain map d)" '1048576 +1048576 +0 +data' "map as text"
dmsetup suspend d
is "$(json .state dmchain info d)" suspended "info: suspended"
dmsetup resume d

# --- snapshot

err 2 "NAME=PATH" "snapshot: PATH is needed" dmchain snapshot d
err 1 "no such disk" "snapshot: no such disk" dmchain snapshot e=top.img
err 1 "exists already" "snapshot: the file exists" dmchain snapshot d=raw.img
err 1 "no such place|No such" "snapshot: no such folder" dmchain snapshot d=nowhere/top.img
run_ok "snapshot" dmchain snapshot d=top.img
like "$(output)" "top.img is the top now" "it says so"
base=$(json .layers[1].uuid dmchain info d)
is "$(json '[.layers[]|.path,.access,(.marks|join("+"))]|join(" ")' dmchain info d)" \
	"$TMP/top.img rw in-use $TMP/base.img ro sealed" "the old top is frozen below the new one"
is "$(json '.layers[0]."parent-uuid"' dmchain info d)" "$base" "which stands on it"
like "$(dmsetup table d)" "^0 131072 chain 2 [0-9:]+ chain rw [0-9:]+ chain ro$" "the table says so"
is "$(json '.layers[1]|[.marks[],(.path|sub(".*/";""))]|join(" ")' dmchain info top.img)" \
	"sealed base.img" "the image says so, while it is open"
reads d 1 one "what was written before is there"
write d 1 two
write d 2 three
reads d 1 two "a block written anew reads new"
is "$(json '[.[]|[.start,.length,.depth,.data]|join(",")]|join(" ")' dmchain map d)" \
	"0,1048576,1,false 1048576,2097152,0,true 3145728,1048576,1,false 4194304,1048576,1,false 5242880,61865984,1,false" \
	"map: the new top has it"
like "$(json '."pause-ns"' dmchain snapshot d=top2.img)" '^[0-9]+$' "snapshot --json tells the pause"
is "$(json '.layers|length' dmchain info d)" 3 "three layers"
run_ok "a frozen layer can be looked at meanwhile" dmchain open old base.img --read-only
run_ok "by several" dmchain open old2 base.img --read-only
reads old 1 one "it shows what it was"
is "$(json '.layers[2].users|sort|join(" ")' dmchain info d)" "d old old2" "info: users are named"
run_fail any "it can't be written" dd if=/dev/zero of=/dev/mapper/old bs=4k count=1 oflag=direct
err 3 "read-only" "snapshot: not of a read-only disk" dmchain snapshot old=x.img
err 3 "read-only" "resize: nor that" dmchain resize old +1M
run_ok "the refused ones left no file" test ! -e x.img
run_ok "close old" dmchain close old
run_ok "close old2" dmchain close old2

run_ok "close" dmchain close d
is "$(output)" "" "close says nothing"
is "$(loops) $(dmsetup ls --target chain | grep -c '(')" " 0" "nothing is left"
is "$(ls /run/dmchain/layers | wc -l)" 0 "no marker either"
err 3 "sealed.*top.img" "open: a sealed layer, with its child named" dmchain open d base.img
err 3 "sealed" "open: the one between, too" dmchain open d top.img
run_ok "open the new top" dmchain open d top2.img
reads d 1 two "all is there"
reads d 2 three "of both times"
run_ok "its folder has moved meanwhile" dmchain close d
mkdir moved && mv base.img top.img top2.img moved/
run_ok "the chain still opens" dmchain open d moved/top2.img
reads d 1 two "and reads"
is "$(loops RO)" "0 1 1" "lower layers are attached read-only"

# --- a disk in use

mkfs.ext4 -q /dev/mapper/d
mkdir -p mnt && mount /dev/mapper/d mnt
err 3 "mounted on" "close: in use, and where" dmchain close d
err 3 "lies on the disk" "snapshot: not into the disk itself" dmchain snapshot d=mnt/x.img
echo kept >mnt/kept
run_ok "snapshot of a mounted disk" dmchain snapshot d=moved/top3.img
is "$(cat mnt/kept)" kept "its files are there"
# shellcheck disable=SC2217 # it holds the disk open, no more
sleep 60 </dev/mapper/d &
umount mnt
err 3 "process [0-9]+ \(sleep\)" "close: the process that has it is named" dmchain close d
kill %1; wait
run_ok "close" dmchain close d

# --- the next existing one

run_ok "a top made before" dmchain create moved/n.img --backing moved/top3.img --backing-format chain
run_ok "unseal for the disk" dmchain unseal moved/top3.img
err 4 "modified|content id" "the child is refused from then on" dmchain open d moved/n.img
run_ok "open" dmchain open d moved/top3.img
dmchain create small.img --size 1M >/dev/null
dmchain create other.img --size 64M >/dev/null
err 1 "nothing" "snapshot --existing: nothing there" dmchain snapshot d=nothing.img --existing
err 4 "parent" "snapshot --existing: without a parent" dmchain snapshot d=other.img --existing
err 4 "smaller" "snapshot --existing: too small" dmchain snapshot d=small.img --existing
err 3 "in use" "snapshot --existing: a layer of it" dmchain snapshot d=moved/top3.img --existing
run_ok "snapshot --existing" dmchain snapshot d=moved/n.img --existing
is "$(json '.layers[0].path' dmchain info d)" "$TMP/moved/n.img" "it is the top"
run_ok "close" dmchain close d
run_ok "the chain opens" dmchain open d moved/n.img
run_ok "fsck" e2fsck -fn /dev/mapper/d

# --- resize

run_ok "resize" dmchain resize d +4M
is "$(blockdev --getsize64 /dev/mapper/d)" 71303168 "the disk has grown"
is "$(json '."virtual-size"' dmchain resize d 80M)" 83886080 "resize --json"
write d 79 end
reads d 79 end "the new end can be written"
run_ok "the same size is fine" dmchain resize d 80M
err 3 "shrink" "resize: not smaller" dmchain resize d 64M
err 2 "multiple of 512" "resize: no such size" dmchain resize d +100
err 2 "not a size" "resize: no size at all" dmchain resize d much
err 1 "room" "resize: more than the maps have room for" dmchain resize d 60T
run_ok "close" dmchain close d
run_ok "open" dmchain open d moved/n.img
is "$(blockdev --getsize64 /dev/mapper/d)" 83886080 "the size stays"
reads d 79 end "what was there, too"
run_ok "close" dmchain close d

# --- raw

truncate -s 8M raw.img
run_ok "open a raw image" dmchain open r raw.img --format raw
write r 1 raw
is "$(json '.layers[0]|[.format,.uuid,."data-bytes"]|@csv' dmchain info r)" '"raw",,8388608' \
	"info of a raw layer"
err 3 "disk r" "a raw layer has one writer, too" dmchain open r2 raw.img --format raw
err 3 "raw" "a raw disk does not grow while it is open" dmchain resize r 16M
run_ok "snapshot of a raw disk" dmchain snapshot r=over.img
write r 2 over
reads r 1 raw "what the raw layer holds shows"
run_ok "close" dmchain close r
run_ok "open the overlay" dmchain open r over.img
reads r 1 raw "it shows both"
reads r 2 over "the new and the old"
err 3 "disk r" "its raw parent can't be written" dmchain open r2 raw.img --format raw
run_ok "but read" dmchain open r2 raw.img --format raw --read-only
run_ok "close" dmchain close r2
run_ok "close" dmchain close r
run_ok "open the raw one by itself" dmchain open r raw.img --format raw
err 3 "disk r" "then its child can't be opened" dmchain open r2 over.img
write r 0 modified
run_ok "close" dmchain close r
err 4 "raw.img" "nor after it was modified" dmchain open r over.img
is "$(loops)" "" "no loop device is left"

# --- block devices

if modprobe brd rd_nr=2 rd_size=65536 2>/dev/null; then
	run_ok "create on a device" dmchain create /dev/ram0 --size 16M
	run_ok "open it" dmchain open b /dev/ram0
	is "$(json '.layers[0]|.path,.device' dmchain info b | xargs)" "/dev/ram0 /dev/ram0" "info"
	run_ok "it has a marker, too" test -e /run/dmchain/layers/1:0
	write b 1 dev
	run_ok "snapshot to a device" dmchain snapshot b=/dev/ram1
	reads b 1 dev "what was written is there"
	run_ok "grow within the device" dmchain resize b 24M
	err 1 "grow the device|maps have room" "but not beyond it" dmchain resize b 1G
	run_ok "close" dmchain close b
	run_ok "open it again" dmchain open b /dev/ram1
	reads b 1 dev "all is there"
	run_ok "close" dmchain close b
	is "$(ls /run/dmchain/layers | wc -l)" 0 "no marker is left"
else
	skip "block devices" "no brd"
fi

# --- in-use marks

dmchain create use.img --size 8M >/dev/null
dmchain open u use.img
cp --sparse=always use.img used.img
dmchain close u
err 3 "force" "a mark of this boot that no disk answers for" dmchain open u used.img
run_ok "--read-only needs no force" dmchain open u used.img --read-only
dmchain close u
cp /etc/machine-id id
tr 0-9a-f f0-9a-e <id >/etc/machine-id
err 3 "host.*force" "a mark of another host" dmchain open u used.img
run_ok "--force" dmchain open u used.img --force
run_ok "close" dmchain close u
run_ok "then the mark is gone" dmchain open u used.img
run_ok "close" dmchain close u
cp id /etc/machine-id

# --- recover

run_ok "open" dmchain open d moved/n.img
dmsetup suspend d
err 3 "d: somebody has suspended it" "snapshot of a disk that was suspended by somebody" dmchain snapshot d=sus.img
is "$(dmsetup info -c --noheadings -o suspended d)$(find . -name sus.img)" Suspended "it stays so, and nothing is left"
{ sleep 1; dmsetup resume d; } &
run_ok "one that is resumed a second later" dmchain snapshot d=sus.img
wait $!
dmsetup suspend d
run_ok "recover a suspended disk" dmchain recover d
like "$(output)" "^d: resumed$" "it says what it did"
is "$(dmsetup info -c --noheadings -o suspended d)" Active "it runs"
dmsetup table d | dmsetup load d
run_ok "recover a table that was loaded" dmchain recover
like "$(dmsetup info -c --noheadings -o tables_loaded d)" "^Live$" "it is gone"
dmsetup create half --notable -u DMCHAIN-half
run_ok "recover a device without a table" dmchain recover
run_fail any "it is gone" dmsetup info half
is "$(json 'map(.done|length)|add' dmchain recover)" 0 "again: nothing to do"
touch /run/dmchain/layers/7:99
run_ok "list" dmchain list
run_ok "recover cleans markers" dmchain recover
is "$(ls /run/dmchain/layers | sort | xargs)" \
	"$(loops MAJ:MIN)" "those of layers stay"
run_ok "close" dmchain close d
err 1 "no such disk" "close once more" dmchain close d
is "$(loops)" "" "no loop device is left"
is "$(ls /run/dmchain)" "$(printf 'layers\nloops\nloops.lock')" "no lock is left"

done_testing
