#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1536 smp=2 timeout=600 group=qcow2
# allow: block nbd[0-9]+: |nbd[0-9]+: detected capacity change|Buffer I/O error|I/O error, dev
#
# From qcow2 and back: each image becomes a layer with just the blocks that it holds,
# explicit zeroes among them, and each layer an image; QEMU compares. Sizes that
# differ, clusters of less than a block, raw bases, a golden image over NBD. What a
# hostile image names is not followed, what exists is not overwritten, and what is
# killed, or has no room, leaves nothing.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
for tool in qemu-img qemu-io qemu-nbd; do
	command -v $tool >/dev/null && continue
	skip "qcow2" "no $tool here"
	done_testing
done
load_module
modprobe nbd nbds_max=2

# q NAME COMMANDS...: write to an image, which QEMU has alone
q()
{
	local file=$1 args=()
	shift
	while [ $# -gt 0 ]; do
		args+=(-c "$1")
		shift
	done
	qemu-io -f qcow2 "${args[@]}" "$file" >q.out 2>&1 || cat q.out
	! grep -i 'error\|failed\|argument' q.out
}

# shellcheck disable=SC2016 # jq's
merge='reduce .[] as $e ([]; if length > 0 and .[-1][0] + .[-1][1] == $e[0] and .[-1][2] == $e[2]
	then .[-1][1] += $e[1] else . + [$e] end)'

# What an image holds itself, whatever is below it
layout_q()	# layout_q FILE
{
	qemu-img map --output=json \
		"json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"$PWD/$1\"},\"backing\":null}" |
		jq -c "[.[] | select(.present) | [.start, .length, .zero]] | $merge"
}

layout_d()	# layout_d FILE: the same of a layer
{
	dmchain map "$1" --json |
		jq -c "[.[] | select(.present and .depth == 0) | [.start, .length, .zero]] | $merge"
}

same_layout()	# same_layout NAME QCOW2 LAYER
{
	is "$(layout_d "$3")" "$(layout_q "$2")" "$1"
}

same_bytes()	# same_bytes NAME QCOW2 LAYER: as a disk shows it to QEMU
{
	dmchain open cmp "$3" --read-only >open.out 2>&1 || cat open.out
	run_ok "$1" qemu-img compare -f qcow2 -F raw "$2" /dev/mapper/cmp
	[ -z "${tap_failed#0}" ] || output
	dmchain close cmp
}

empty()		# empty FOLDER NAME
{
	is "$(ls -A "$1")" "" "$2"
}

# shellcheck disable=SC2317 # called by wait_for
no_servers()
{
	local comm
	for comm in /proc/[0-9]*/comm; do
		[ "$(cat "$comm" 2>/dev/null)" != qemu-nbd ] || return 1
	done
}

# --- three layers, with all that they can hold

mkdir src into out again
cd src || exit 1
qemu-img create -q -f qcow2 base.qcow2 48M
q base.qcow2 'write -P 1 0 6M' 'write -c -P 2 8M 64k' 'write -P 3 47M 1M' 'write -z 20M 1M'
qemu-img create -q -f qcow2 -o cluster_size=4k -b base.qcow2 -F qcow2 mid.qcow2 64M
q mid.qcow2 'write -P 4 4k 4k' 'write -z 1M 128k' 'write -P 5 63M 1M' 'write -P 6 20M 8k'
qemu-img create -q -f qcow2 -o cluster_size=128k,extended_l2=on -b mid.qcow2 -F qcow2 top.qcow2
q top.qcow2 'write -P 7 8k 4k' 'write -z 2M 12k' 'write -P 8 20M 4k' 'write -z 63M 4k'
cd ..
run_ok "import" dmchain import src/top.qcow2 into/vm.img --verify
is "$(cd into && echo *)" "base.img mid.img vm.img" "a layer for each image"
for l in base:base mid:mid top:vm; do
	same_layout "import: ${l%:*} has its own blocks, and no others" "src/${l%:*}.qcow2" "into/${l#*:}.img"
	same_bytes "import: ${l%:*} shows what QEMU shows" "src/${l%:*}.qcow2" "into/${l#*:}.img"
	run_ok "import: ${l%:*} is sound" dmchain check "into/${l#*:}.img"
done
refused 3 sealed "import: what is below is sealed" dmchain open d into/mid.img
is "$(json '[.layers[1:][].marks[]] | unique | join(" ")' dmchain info into/vm.img)" sealed "import: and says so"
is "$(json '.layers | length' dmchain import src/top.qcow2 again)" 3 "import: a folder"
is "$(cd again && echo *)" "base.img mid.img top.img" "import: names of the images"
rm again/*

run_ok "open" dmchain open d into/vm.img
run_ok "write" xfs_io -c 'pwrite -q -S 9 30m 100k' -c 'pwrite -q -S 10 500 600' -c fsync /dev/mapper/d
blkdiscard -z -o 5M -l 1M /dev/mapper/d
refused 3 'disk d writes it; a snapshot' "export: not what a disk writes" dmchain export into/vm.img out
empty out "export: that leaves nothing"
run_ok "snapshot" dmchain snapshot d=into/next.img
run_ok "export: what was frozen, while the disk goes on" dmchain export into/vm.img out --verify
is "$(cd out && echo *)" "base.qcow2 mid.qcow2 vm.qcow2" "export: an image for each layer"
for l in base mid vm; do
	same_layout "export: $l has its own blocks, and no others" "out/$l.qcow2" "into/$l.img"
	run_ok "export: $l: QEMU finds no fault" qemu-img check -q -f qcow2 "out/$l.qcow2"
done
same_bytes "export: QEMU shows what the disk showed" out/vm.qcow2 into/vm.img
is "$(qemu-img info --output=json out/vm.qcow2 | jq -r '."backing-filename", ."backing-filename-format"' | xargs)" \
	"mid.qcow2 qcow2" "export: it names what is below, and its format"
dmchain close d
run_ok "and back" dmchain import out/vm.qcow2 again --verify
for l in base mid vm; do
	is "$(layout_d "again/$l.img")" "$(layout_d "into/$l.img")" "and back: $l is what it was"
done
run_ok "clusters of 64K" dmchain export into/vm.img again/big.qcow2 --cluster-size 64K --verify
same_bytes "clusters of 64K: the same" again/big.qcow2 into/vm.img
is "$(qemu-img info --output=json again/big.qcow2 | jq -c '[."cluster-size", ."format-specific".data."extended-l2"]')" \
	"[65536,false]" "clusters of 64K: without parts"

# Its parent is known by its content id
run_ok "a parent that changes" dmchain unseal again/mid.img
refused 4 'content id' "a parent that changed is refused" dmchain open d again/vm.img
rm -r into out again && mkdir into out again

# --- sizes; less than a block; larger blocks

mkdir odd
qemu-img create -q -f qcow2 odd/base.qcow2 33000960
q odd/base.qcow2 'write -P 1 0 32000000'
qemu-img create -q -f qcow2 -o cluster_size=512 -b base.qcow2 -F qcow2 odd/small.qcow2 20M
q odd/small.qcow2 'write -P 2 512 512' 'write -z 8704 1k' 'write -P 3 20479k 1k'
qemu-img create -q -f qcow2 -o extended_l2=on -b small.qcow2 -F qcow2 odd/large.qcow2 40000512
q odd/large.qcow2 'write -P 4 2k 2k' 'write -z 30M 2k' 'write -P 5 39999k 512'
run_ok "sizes" dmchain import odd/large.qcow2 into --verify
for l in base small large; do
	same_bytes "sizes: $l" "odd/$l.qcow2" "into/$l.img"
	run_ok "sizes: $l is sound" dmchain check "into/$l.img"
done
run_ok "sizes: back" dmchain export into/large.img out --verify
run_ok "sizes: QEMU compares" qemu-img compare -f qcow2 -F qcow2 odd/large.qcow2 out/large.qcow2
run_ok "blocks of 64K" dmchain import odd/large.qcow2 again --block-size 64K --verify
is "$(json '."block-size"' dmchain info again/large.img)" 65536 "blocks of 64K: they are"
same_bytes "blocks of 64K: large" odd/large.qcow2 again/large.img
rm -r out && mkdir out
run_ok "blocks of 64K: back" dmchain export again/large.img out --verify
run_ok "blocks of 64K: QEMU compares" qemu-img compare -f qcow2 -F qcow2 odd/large.qcow2 out/large.qcow2

# Shrunk and grown, a layer shows zeroes where its parent has data: qcow2 has to be told
rm -r into out && mkdir into out
run_ok "limit: base" dmchain create into/base.img --size 16M
dmchain open d into/base.img && fill d 0 16 a && dmchain close d
run_ok "limit: top" dmchain create into/top.img --backing into/base.img --backing-format chain
run_ok "limit: shrink" dmchain resize into/top.img 8M --shrink
run_ok "limit: grow" dmchain resize into/top.img 24M
run_ok "limit: export" dmchain export into/top.img out
same_bytes "limit: the same" out/top.qcow2 into/top.img
rm -r into out again odd && mkdir into out again

# --- a raw base

truncate -s 8M src/raw.img
xfs_io -c 'pwrite -q -S 7 1m 2m' src/raw.img
qemu-img create -q -f qcow2 -b raw.img -F raw src/onraw.qcow2
q src/onraw.qcow2 'write -P 1 2M 64k'
sum=$(sums src/raw.img)
run_ok "raw base" dmchain import src/onraw.qcow2 into --verify
is "$(cd into && echo *)" onraw.img "raw base: stays where it is"
is "$(json '.layers[1] | .format, .path' dmchain info into/onraw.img | xargs)" "raw $PWD/src/raw.img" "raw base: is found there"
same_bytes "raw base: the same" src/onraw.qcow2 into/onraw.img
run_ok "raw base: export" dmchain export into/onraw.img src/back.qcow2 --verify
is "$(qemu-img info --output=json src/back.qcow2 | jq -r '."backing-filename", ."backing-filename-format"' | xargs)" \
	"raw.img raw" "raw base: stays the base"
run_ok "raw base: QEMU compares" qemu-img compare -f qcow2 -F qcow2 src/onraw.qcow2 src/back.qcow2
is "$(sums src/raw.img)" "$sum" "raw base: untouched"
truncate -s 1M plain.raw
refused 4 'not in qcow2 format' "raw: is no image to import" dmchain import plain.raw again
# As older ones have it: nothing says what the format is
qemu-img create -q -f qcow2 -u -b raw.img -F raw src/noformat.qcow2 8M
at=$(LC_ALL=C grep -aboF $'\xe2\x79\x2a\xca' src/noformat.qcow2 | head -n 1 | cut -d : -f 1)
printf 'none' | dd of=src/noformat.qcow2 bs=1 seek="$at" conv=notrunc status=none
refused 4 'never guessed; say --backing-format' "raw base: of no format" dmchain import src/noformat.qcow2 again
run_ok "raw base: format given" dmchain import src/noformat.qcow2 again --backing-format raw
echo x >>src/raw.img
refused 4 'no multiple of 512' "raw base: of an odd size" dmchain import src/onraw.qcow2 again/x.img
truncate -s 8M src/raw.img
rm -r again && mkdir again

# --- what an image has beside its data

qemu-img create -q -f qcow2 extra.qcow2 4M
q extra.qcow2 'write -P 1 0 1M'
qemu-img snapshot -c before extra.qcow2
q extra.qcow2 'write -P 2 0 64k'
qemu-img bitmap --add extra.qcow2 b
dmchain import extra.qcow2 again >import.out 2>&1
is $? 0 "extras: import"
like "$(cat import.out)" 'warning: .*snapshots inside of the image \(1\) are not taken over' "extras: snapshots are said to be left"
like "$(cat import.out)" 'warning: .*dirty bitmaps \(1\) are not taken over' "extras: bitmaps, too"
same_bytes "extras: the present state" extra.qcow2 again/extra.img
qemu-img create -q -f qcow2 --object secret,id=s,data=abc -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 enc.qcow2 1M
refused 4 'is encrypted' "encrypted" dmchain import enc.qcow2 again
qemu-img create -q -f qcow2 -o data_file=data.raw df.qcow2 1M
refused 4 'its data in another file' "data file" dmchain import df.qcow2 again
cp extra.qcow2 broken.qcow2
printf '\377' | dd of=broken.qcow2 bs=1 seek=40 conv=notrunc status=none
run_fail 4 "broken" dmchain import broken.qcow2 again
head -c 1M /dev/urandom >noise.qcow2
refused 4 'not in qcow2 format' "no image at all" dmchain import noise.qcow2 again
is "$(ls again)" extra.img "refused: nothing is left"

# --- hostile names of what is below

hostile()	# hostile STATUS REGEX NAME BACKING [FORMAT]
{
	qemu-img create -q -f qcow2 -u -b "$4" -F "${5-raw}" evil/evil.qcow2 1M || fail "$3: made"
	refused "$1" "$2" "hostile: $3" dmchain import evil/evil.qcow2 evil/e.img
	is "$(cd evil && echo *)" "evil.qcow2 link" "hostile: $3: nothing is left"
}

mkdir evil
ln -s /etc/passwd evil/link
hostile 4 'no plain path' "json" 'json:{"driver":"raw","file":{"driver":"file","filename":"/etc/passwd"}}'
hostile 4 'no plain path' "a server" nbd://127.0.0.1:10809/x
hostile 4 'no plain path' "a protocol of QEMU's" file:evil.qcow2
hostile 3 'does not lie in the folder' "a file of the host" /etc/passwd
hostile 3 'does not lie in the folder' "upwards" ../extra.qcow2 qcow2
hostile 3 'does not lie in the folder' "a link" link
hostile 3 'does not lie in the folder' "a device" /dev/mem
hostile 4 'not found' "nothing" $'no\e[2Jthing'
hostile 4 'has the format vmdk' "another format" link vmdk
hostile 4 'run in a circle' "itself" ./evil.qcow2 qcow2
rm evil/link
qemu-img create -q -f qcow2 evil/a.qcow2 1M
qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 evil/b.qcow2
qemu-img rebase -u -b b.qcow2 -F qcow2 -f qcow2 evil/a.qcow2
refused 4 'run in a circle' "hostile: two below each other" dmchain import evil/a.qcow2 evil/x.img
qemu-img create -q -f qcow2 -u -b ../extra.qcow2 -F qcow2 evil/evil.qcow2 4M
run_ok "trusted: it may lie elsewhere" dmchain import evil/evil.qcow2 evil/e.img --trust-backing
same_bytes "trusted: the same" evil/evil.qcow2 evil/e.img
rm -r evil

# --- nothing is overwritten

echo precious >into/there
chmod 600 into/there
refused 1 'exists already' "exists: the top" dmchain import src/top.qcow2 into/there
cp into/there into/mid.img
refused 1 'mid.img: exists already' "exists: one below" dmchain import src/top.qcow2 into/new.img
refused 1 'exists already' "exists: an image" dmchain export into/onraw.img into/there
is "$(cat into/there into/mid.img)" $'precious\nprecious' "exists: all of it"
is "$(cd into && echo *)" "mid.img onraw.img there" "exists: nothing else came"
truncate -s 200M disk
loop=$(losetup -f --show disk)
refused 1 'say --overwrite' "device: is asked for" dmchain import src/base.qcow2 "$loop"
refused 2 'say where they are to be by --lower-in' "device: layers below have no place" \
	dmchain import src/top.qcow2 "$loop" --overwrite
is "$(head -c 1M disk | tr -d '\0' | wc -c)" 0 "device: is untouched"
run_ok "device: import" dmchain import src/top.qcow2 "$loop" --overwrite --lower-in again --verify
same_bytes "device: the same" src/top.qcow2 "$loop"
losetup -d "$loop"
# What is read is not given up, by whatever name
sum=$(sums src/base.qcow2 src/mid.qcow2)
loop=$(losetup -f --show src/base.qcow2)
other=$(losetup -f --show src/base.qcow2)
refused 3 'which the import reads' "device: not onto its own source" dmchain import "$loop" "$loop" --overwrite
refused 3 'which the import reads' "device: nor by another loop device" dmchain import "$other" "$loop" --overwrite
refused 3 'which the import reads' "device: nor onto what is below it" \
	dmchain import src/mid.qcow2 "$loop" --overwrite --lower-in again
run_ok "device: a layer for --onto" dmchain import src/base.qcow2 again/onto.img
losetup -d "$other"
other=$(losetup -f --show again/onto.img)
refused 3 'which the import reads' "device: nor onto the layer of --onto" \
	dmchain import src/mid.qcow2 "$other" --overwrite --onto again/onto.img
losetup -d "$loop" "$other"
is "$(sums src/base.qcow2 src/mid.qcow2)" "$sum" "device: its source is untouched"
rm again/onto.img
(sleep 30 | qemu-io -f qcow2 src/top.qcow2 >/dev/null 2>&1) &
holder=$!
wait_for 20 pidof qemu-io
refused 3 'somebody has it in use' "in use: by QEMU" dmchain import src/top.qcow2 again/inuse.img
kill $holder; pkill -x qemu-io 2>/dev/null || kill "$(pidof qemu-io)"
wait
rm -r into again disk && mkdir into again

# --- no room

mkdir full
mount -t tmpfs -o size=4M none full
refused 1 'not enough space: the layers need' "no room: import says so at once" dmchain import src/top.qcow2 full
empty full "no room: nothing is left"
run_ok "no room: (layers)" dmchain import src/top.qcow2 into
run_fail 1 "no room: export" dmchain export into/top.img full
empty full "no room: of that neither"
is "$(df --output=used full | tail -n 1 | tr -d ' ')" 0 "no room: all of it is free again"
umount full
rm -r into out && mkdir into out

# --- killed

qemu-img create -q -f qcow2 -b top.qcow2 -F qcow2 src/big.qcow2
q src/big.qcow2 'write -P 1 0 60M'
# Whatever has its name is complete: mostly nothing has
sound()		# sound FOLDER
{
	local f
	for f in "$1"/*; do
		case $f in
		*.img) dmchain check "$f" >sound.out 2>&1 || return;;
		*.qcow2) qemu-img check -q -f qcow2 "$f" >sound.out 2>&1 || return;;
		*'*') ;;
		*) return 1;;
		esac
	done
}

killed()	# killed SIGNAL FOLDER COMMAND...: in the midst of it, sooner and later
{
	local signal=$1 folder=$2 s bad="" hit=0
	shift 2
	for s in 0.1 0.5 0.9 1.5; do
		"$@" >killed.out 2>&1 &
		sleep $s
		kill "-$signal" $! 2>/dev/null && hit=$((hit + 1))
		wait $! 2>/dev/null
		sound "$folder" || bad+=" after $s s: $(ls -A "$folder") $(head -n 1 sound.out)"
		rm -f "$folder"/*
	done
	is "$bad" "" "killed by $signal ($hit times): $1 $2: nothing half made"
	[ $hit -gt 0 ]
	is $? 0 "killed by $signal: $1 $2: it was, in the midst"
}
killed KILL into dmchain import src/big.qcow2 into
killed TERM into dmchain import src/big.qcow2 into
run_ok "killed: import once more" dmchain import src/big.qcow2 into --verify
killed KILL out dmchain export into/big.img out
killed HUP out dmchain export into/big.img out
wait_for 20 no_servers
is $? 0 "killed: no server is left"
is "$(ls -d /tmp/dmchain.* 2>/dev/null)" "" "killed: nor its socket"
# While it starts, qemu-nbd forgets what it is told by signals
mkdir bin
printf '#!/bin/bash\ntrap "" TERM\nfor ((;;)); do sleep 1; done\n' >bin/qemu-nbd
chmod +x bin/qemu-nbd
PATH=$PWD/bin:$PATH dmchain export into/big.img out >/dev/null 2>&1 &
# shellcheck disable=SC2317 # called by wait_for
a_server()
{
	! no_servers
}
wait_for 20 a_server
is $? 0 "killed: a server starts"
kill -KILL $!
wait
wait_for 20 no_servers
is $? 0 "killed: not one that starts, either"
pkill -KILL -x qemu-nbd
run_ok "killed: export once more" dmchain export into/big.img out --verify
same_bytes "killed: the same" out/big.qcow2 into/big.img
rm -r into out && mkdir into out

# --- where files can't be without a name (overlayfs, up to 6.2)

mkdir -p o/{lower,upper,work,m}
if mount -t overlay none -o lowerdir=o/lower,upperdir=o/upper,workdir=o/work o/m; then
	run_ok "names: import" dmchain import src/top.qcow2 o/m --verify
	is "$(cd o/m && echo *)" "base.img mid.img top.img" "names: layers, and nothing else"
	run_ok "names: export" dmchain export o/m/top.img o/m --verify
	same_layout "names: its blocks" o/m/top.qcow2 o/m/top.img
	rm o/m/*
	touch o/m/base.img.part
	dmchain import src/base.qcow2 o/m/base.img >part.out 2>&1
	case $? in
	0) ok "names: none is needed";;
	*) like "$(cat part.out)" 'base.img.part: is there, left by one that was cut off' "names: a part that was left is told of";;
	esac
	umount o/m
fi

# --- a golden image over the network

if [ -e /dev/nbd0 ]; then
	run_ok "golden: served" qemu-nbd --read-only --format=qcow2 --persistent --connect=/dev/nbd0 src/top.qcow2
	wait_for 20 test "$(blockdev --getsz /dev/nbd0)" != 0
	sum=$(sums src/*.qcow2)
	run_ok "golden: a disk on it" dmchain create a.img --backing /dev/nbd0 --backing-format raw
	run_ok "golden: another" dmchain create b.img --backing /dev/nbd0 --backing-format raw
	run_ok "golden: open" dmchain open a a.img
	run_ok "golden: open the other" dmchain open b b.img
	run_ok "golden: the same" qemu-img compare -f qcow2 -F raw -U src/top.qcow2 /dev/mapper/a
	run_ok "golden: write" xfs_io -d -c 'pwrite -q -S 9 1m 1m' /dev/mapper/a
	run_ok "golden: the other sees nothing of that" qemu-img compare -f qcow2 -F raw -U src/top.qcow2 /dev/mapper/b
	run_ok "golden: close" dmchain close a
	run_ok "golden: close the other" dmchain close b
	qemu-nbd --disconnect /dev/nbd0 >/dev/null
	wait_for 20 test ! -e /sys/block/nbd0/pid
	run_fail any "golden: not served, it is refused" dmchain open a a.img
	is "$(sums src/*.qcow2)" "$sum" "golden: nobody wrote it"
	run_ok "golden: served again" qemu-nbd --read-only --format=qcow2 --persistent --connect=/dev/nbd0 src/top.qcow2
	wait_for 20 test "$(blockdev --getsz /dev/nbd0)" != 0
	run_ok "golden: open again" dmchain open a a.img
	holds /dev/mapper/a 1 1 '\011' "golden: what was written"
	dmchain close a
	qemu-nbd --disconnect /dev/nbd0 >/dev/null
	wait_for 20 test ! -e /sys/block/nbd0/pid
	run_ok "golden: another image" qemu-nbd --read-only --format=qcow2 --persistent --connect=/dev/nbd0 src/mid.qcow2
	wait_for 20 test "$(blockdev --getsz /dev/nbd0)" != 0
	refused 4 'was modified after' "golden: another image is refused" dmchain open a a.img
	qemu-nbd --disconnect /dev/nbd0 >/dev/null
	wait_for 20 test ! -e /sys/block/nbd0/pid
else
	skip "golden image" "no nbd here"
fi

done_testing
