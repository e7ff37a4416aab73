#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.12 mem=1024 smp=2 timeout=300 group=labels
#
# Layers given as descriptors: what they may do caps what the layer may do,
# wherever they come from and whatever has become of their paths.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
mkdir bin && cp "$(command -v dmchain)" "$(command -v fdpass)" bin/
PATH=$TMP/bin:$PATH

loops()	# [COLUMNS]
{
	losetup -n -O "${1:-BACK-FILE}" 2>/dev/null | sort | xargs
}

markers()
{
	cat /run/dmchain/layers/* 2>/dev/null | tr '\0' '\n' | grep -x read-only | xargs
}

write()	# DISK PATTERN
{
	yes "$2" | dd of="/dev/mapper/$1" bs=1M count=1 oflag=direct iflag=fullblock conv=fsync status=none
}

reads()	# DISK PATTERN NAME
{
	is "$(dd if="/dev/mapper/$1" bs=1M count=1 iflag=direct status=none | sha256sum)" \
		"$(yes "$2" | head -c 1048576 | sha256sum)" "$3"
}

nothing_left()	# NAME
{
	is "$(loops) $(dmsetup ls --target chain | grep -c '(') $(find /run/dmchain/layers /run/dmchain/lock.* -type f 2>/dev/null)" \
		" 0 " "$1"
}

load_module
dmchain create base.img --size 8M >/dev/null
dmchain create top.img --backing base.img --backing-format chain >/dev/null

# --- read and write

exec 3<>top.img
run_ok "open fd:N" dmchain open d fd:3
is "$(loops | tr ' ' '\n' | sed 's|.*/||' | xargs)" "base.img top.img" "loop devices"
is "$(json '.layers[0]|[.path,.access]|join(" ")' dmchain info d)" "$TMP/top.img rw" "info has its path"
is "$(markers)" "" "no cap"
exec 3<&-
write d one
reads d one "the disk outlives the descriptor"
: >next.img
exec 4<>next.img
run_ok "snapshot NAME=fd:N" strace -f -y -qq -o fsyncs -e trace=fsync dmchain snapshot d=fd:4
like "$(sed 's/ = .*//' fsyncs | xargs -d '\n')" "next.img>.*fsync\([0-9]+<$TMP>" "its entry in the folder is durable, too"
is "$(json '[.layers[].path|sub(".*/";"")]|join(" ")' dmchain info d)" "next.img top.img base.img" "it is the top"
exec 4<&-
write d two
run_ok "close" dmchain close d
nothing_left "nothing is left"
run_ok "the chain has its paths" dmchain open d next.img
reads d two "and its data"
run_ok "close" dmchain close d

exec 3<>next.img
run_ok "open --fd N" dmchain open d --fd 3
run_ok "close" dmchain close d
run_ok "open /dev/fd/N" dmchain open d /dev/fd/3
run_ok "close" dmchain close d
run_ok "open /proc/self/fd/N" dmchain open d /proc/self/fd/3
run_ok "close" dmchain close d
run_ok "open with labels" dmchain open d fd:3 --label-rw 5:6:660
is "$(stat -c %u:%g:%a next.img)" 5:6:660 "they are the file's"
run_ok "close" dmchain close d
is "$(stat -c %u:%g:%a next.img)" 0:0:644 "and go"
exec 3<&-
refused 2 "fd:5 is|no name|name for a disk" "a disk can't be called so" dmchain open fd:5 next.img

# --- read only

was=$(sums next.img top.img base.img)
exec 3<next.img
for arg in fd:3 /dev/fd/3 /proc/self/fd/3; do
	refused 3 "open for reading only" "a read-only descriptor is no top: $arg" dmchain open d $arg
done
refused 3 "open for reading only" "nor by --fd" dmchain open d --fd 3 --label-rw 5:6:660
is "$(sums next.img top.img base.img) $(stat -c %u next.img)" "$was 0" "nothing was changed"
nothing_left "nothing is left"
run_ok "with --read-only it is" dmchain open d --fd 3 --read-only
is "$(loops RO)" "1 1 1" "its loop device is read-only"
is "$(markers)" "read-only" "and its marker caps it"
reads d two "it reads"
exec 4<>next.img
refused 3 "in use, a layer of disk d" "and nobody writes it meanwhile" dmchain new-id fd:4
exec 4<&-
run_ok "close" dmchain close d
nothing_left "nothing is left"
exec 3<&-
exec 3<>next.img
run_ok "the cap goes with the marker" dmchain open d fd:3
is "$(markers)" "" "there is none"
: >ro.img
exec 4<ro.img
refused 3 "open for reading only" "snapshot into a read-only descriptor" dmchain snapshot d=fd:4
is "$(stat -c %s ro.img)" 0 "it stays empty"
is "$(json '.layers|length' dmchain info d)" 3 "the disk is as it was"
exec 4<>base.img
refused 3 "in use" "into a layer of it" dmchain snapshot d=fd:4 --existing
refused 1 "not empty" "into a file that holds something" dmchain snapshot d=fd:4
exec 4<&- 3<&-
run_ok "close" dmchain close d

# --- from another process

run_ok "open what was passed" fdpass next.img rw 3 dmchain open d fd:3
reads d two "it reads"
run_ok "close" dmchain close d
refused 3 "open for reading only" "passed read-only" fdpass next.img ro 3 dmchain open d fd:3
refused 3 "can't be read" "passed write-only" fdpass next.img wo 3 dmchain open d fd:3
refused 3 "can't be read" "passed as a path only" fdpass next.img path 3 dmchain open d fd:3
refused 3 "append" "passed for appending" fdpass next.img append 3 dmchain open d fd:3
run_ok "passed read-only, opened so" fdpass next.img ro 3 dmchain open d fd:3 --read-only
is "$(markers)" "read-only" "it is capped"
run_ok "close" dmchain close d

# Where this path leads is known there only
cat >hidden <<END
mkdir -p /mnt/hidden && mount -t tmpfs none /mnt/hidden || exit 9
dmchain create /mnt/hidden/h.img --backing $TMP/base.img --backing-format chain || exit 9
exec 3<>/mnt/hidden/h.img
exec nsenter --mount=/proc/$$/ns/mnt dmchain open h fd:3
END
run_ok "a file in another mount namespace" unshare -m bash hidden
run_fail any "whose path leads nowhere here" test -e /mnt/hidden/h.img
write h hidden
reads h hidden "reads and writes"
refused 1 "no path" "but a new layer can't name it" dmchain snapshot h=x.img
refused 1 "." "nor can it grow" dmchain resize h +1M
run_ok "close" dmchain close h

# --- deleted files, memory

cp --sparse=always next.img gone.img
dmchain new-id gone.img >/dev/null
exec 3<>gone.img
rm gone.img
refused 4 "parent is not found" "a deleted file with a relative parent" dmchain open d fd:3
exec 3<&-
: >gone.img
exec 3<>gone.img
rm gone.img
run_ok "create into a deleted file" dmchain create fd:3 --size 8M
run_ok "open it" dmchain open d fd:3
write d gone
reads d gone "it reads and writes"
refused 1 "no path" "no snapshot" dmchain snapshot d=x.img
run_fail any "nothing was made" test -e x.img
run_ok "close" dmchain close d
run_ok "and open once more" dmchain open d fd:3
reads d gone "it has its data"
run_ok "close" dmchain close d
refused 3 "no path by which its label" "no label that nobody could take back" \
	dmchain open d fd:3 --label-rw 5:6:660
is "$(stat -L -c %u:%g:%a /proc/self/fd/3)" 0:0:644 "the file is as it was"
run_ok "open" dmchain open d next.img
refused 1 "has no path" "snapshot into a deleted file" dmchain snapshot d=fd:3 --existing
run_ok "close" dmchain close d
exec 3<&-
# shellcheck disable=SC2016 # for that shell
run_ok "memory" fdpass mem memfd 3 bash -c 'dmchain create fd:3 --size 8M && dmchain open m fd:3'
write m memory
reads m memory "reads and writes"
run_ok "close" dmchain close m

# --- devices

if modprobe brd rd_nr=2 rd_size=32768 2>/dev/null; then
	exec 3<>/dev/ram0
	run_ok "create on a device" dmchain create fd:3 --size 8M
	run_ok "open it" dmchain open b fd:3
	is "$(json '.layers[0]|[.path,.device,.label]|join(" ")' dmchain info b)" "/dev/ram0 /dev/ram0 none" "info"
	write b dev
	exec 4<>/dev/ram1
	run_ok "snapshot to a device" dmchain snapshot b=fd:4
	reads b dev "it reads"
	run_ok "close" dmchain close b
	exec 3<&- 4<&-
	exec 4</dev/ram1
	refused 3 "open for reading only" "a read-only descriptor of it" dmchain open b fd:4
	run_ok "is a read-only disk" dmchain open b fd:4 --read-only
	is "$(cat /run/dmchain/layers/1:1 /run/dmchain/layers/1:0)" "read-only" "the marker caps it, and it alone"
	run_ok "close" dmchain close b
	exec 4<&-
else
	skip "devices" "no brd"
fi

# --- what is no layer

exec 3<"$TMP"
refused 4 "neither a file nor a block device" "a folder" dmchain open d fd:3
exec 3< <(sleep 20)
refused 4 "neither a file nor a block device" "a pipe" dmchain open d fd:3
exec 3</dev/zero
refused 4 "neither a file nor a block device" "a character device" dmchain open d fd:3
exec 3<&-
for bad in fd:3 fd:99 fd: fd:x fd:-1 fd:4294967296 /dev/fd/3; do
	refused 2 "descriptor" "no descriptor: $bad" dmchain open d "$bad"
	refused 2 "descriptor" "nor for a snapshot: $bad" dmchain snapshot "d=$bad"
done
refused 2 "descriptor" "no number" dmchain open d --fd x
refused 2 "what is this" "--fd and a path" dmchain open d --fd 0 next.img
nothing_left "nothing is left"

done_testing
