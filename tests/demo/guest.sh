#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# In the VM: the demonstration. /dev/vdb holds the image files, /dev/vdc is a
# tar file. Each step says what it does, and how long that took; anything that
# is not as it should be ends the demonstration.

set -euo pipefail

store=/mnt
names=()		# layers, the base first
export TIMEFORMAT=%R

clock()
{
	date +%s%3N
}

took()
{
	awk -v ms=$(($(clock) - started)) 'BEGIN { printf "   -- %.1f s\n", ms / 1000 }'
}

# step TEXT: what comes next; the time of the one before
step()
{
	[ -z "${started-}" ] || took
	printf '\n\033[1m%d. %s\033[0m\n' $((++nr)) "$*"
	started=$(clock)
}

fail()
{
	printf '\nDEMO FAILED: %s\n' "$*" >&2
	exit 1
}

note()
{
	printf '   %s\n' "$*"
}

# run COMMAND...: show it and what it says
run()
{
	printf '   # %s\n' "$*"
	"$@" 2>&1 | sed 's/^/   /' || fail "$*"
}

# Of each layer: how much of the disk is read from there
map_summary()
{
	dmchain map --json "$1" | jq -r '
		group_by([.depth, .data, .present]) | .[] |
		[(map(.length) | add / 1048576 * 10 | round / 10),
		 (if .[0].data then "from layer \(.[0].depth)"
		  elif .[0].present then "zeroes, said by layer \(.[0].depth)"
		  else "zeroes, held by nobody" end), length] |
		"      \(.[0]) MiB \(.[1]) (\(.[2]) extents)"'
}

show()
{
	run dmchain info "$1"
	note "its map: of $(dmchain info --json "$1" | jq '.["virtual-size"] / 1048576') MiB are read"
	map_summary "$1"
}

# The files that have been in the file system since FILE was made
verify()
{
	(cd /tmp/fs && sha256sum --quiet -c "$1") || fail "files differ: $1"
	note "all $(wc -l <"$1") files have their checksums"
}

#----------------------------------------------------------------

nr=0
mkfs.ext4 -q -F /dev/vdb
mount /dev/vdb $store
mkdir -p /tmp/fs
cd $store

step "A base image: a plain file, with a file system and $(tar -tf /dev/vdc | wc -l) files"
truncate -s 512M base.raw
run dmchain open vm base.raw --format raw
mkfs.ext4 -q /dev/mapper/vm
mount /dev/mapper/vm /tmp/fs
tar -C /tmp/fs -xf /dev/vdc
(cd /tmp/fs && find . -type f -print0 | sort -z | xargs -0 sha256sum) >/tmp/sums.0
umount /tmp/fs
run dmchain close vm
names=(base.raw)

step "A layer on it: what is written goes there, the base is not touched"
run dmchain create top.img --backing base.raw --backing-format raw
run dmchain open vm top.img
mount /dev/mapper/vm /tmp/fs
show vm

step "A writer: it appends a line to a log, flushes it, and so on, until the end"
writer()
{
	local i
	for ((i = 1; ; i++)); do
		echo "$i $(date +%s.%N)" >>/tmp/fs/log
		sync -d /tmp/fs/log
		echo $i >/tmp/acknowledged
		[ ! -e /tmp/stop ] || return 0
	done
}
rm -f /tmp/stop
echo 0 >/tmp/acknowledged
writer &
writer=$!
while [ "$(cat /tmp/acknowledged)" -lt 5 ] 2>/dev/null; do sleep 0.05; done
note "$(cat /tmp/acknowledged) lines are written and acknowledged"
names+=(top.img)

for layer in 1 2 3; do
	step "Snapshot $layer, with the writer at work: 200 files change, 100 go, 100 are new"
	find /tmp/fs/usr -type f | sort | awk -v l=$layer 'NR % 20 == l' >/tmp/changed
	xargs -a /tmp/changed -n 50 sh -c 'for f; do echo "changed in layer '$layer'" >>"$f"; done' sh
	find /tmp/fs/usr -type f | sort | awk -v l=$layer 'NR % 40 == l + 10' | xargs rm
	mkdir /tmp/fs/new.$layer
	awk 'NR <= 100' /tmp/changed | xargs cp -t /tmp/fs/new.$layer --backup=numbered
	sync -f /tmp/fs
	(cd /tmp/fs && find usr new.* -type f -print0 | sort -z | xargs -0 sha256sum) >/tmp/sums.$layer
	before=$(cat /tmp/acknowledged)
	run dmchain snapshot vm=snap-$layer.img
	frozen=${names[-1]}
	# shellcheck disable=SC2206 # words are wanted
	names+=(snap-$layer.img)
	echo "$before" >/tmp/lines.$layer
	note "$frozen is frozen; $before lines had been acknowledged before"
	show vm
done

step "The writer stops"
touch /tmp/stop
wait $writer
note "$(cat /tmp/acknowledged) lines are written and acknowledged"
[ "$(wc -l </tmp/fs/log)" = "$(cat /tmp/acknowledged)" ] || fail "lines are missing"
verify /tmp/sums.3
umount /tmp/fs
run dmchain close vm

step "The base, read-only: a clean file system and all its files, as on the first day"
run dmchain open look base.raw --format raw --read-only
e2fsck -fn /dev/mapper/look >/dev/null 2>&1 || fail "e2fsck of the base"
note "e2fsck finds nothing"
mount -o ro /dev/mapper/look /tmp/fs
verify /tmp/sums.0
umount /tmp/fs
run dmchain close look

for ((i = 1; i < ${#names[@]} - 1; i++)); do
	step "Frozen layer ${names[i]}: the disk at one instant, as after a power cut"
	note "its journal has to be replayed: that goes to a layer of its own, then to be thrown away"
	run dmchain create replay.img --backing "${names[i]}" --backing-format chain
	run dmchain open look replay.img
	e2fsck -p /dev/mapper/look >/dev/null 2>&1 || [ $? = 1 ] || fail "replay of the journal"
	run dmchain close look
	run dmchain open look replay.img --read-only
	e2fsck -fn /dev/mapper/look >/dev/null 2>&1 || fail "e2fsck of ${names[i]}"
	note "e2fsck finds nothing"
	mount -o ro /dev/mapper/look /tmp/fs
	verify "/tmp/sums.$i"
	lines=$(wc -l </tmp/fs/log)
	[ "$lines" -ge "$(cat /tmp/lines.$i)" ] || fail "acknowledged lines are missing"
	note "the log has $lines lines, $(cat /tmp/lines.$i) had been acknowledged"
	umount /tmp/fs
	run dmchain close look
	rm replay.img
done

step "The last layer, read-only"
run dmchain open look "${names[-1]}" --read-only
e2fsck -fn /dev/mapper/look >/dev/null 2>&1 || fail "e2fsck of the top"
note "e2fsck finds nothing"
mount -o ro /dev/mapper/look /tmp/fs
verify /tmp/sums.3
umount /tmp/fs
run dmchain close look

step "Somebody mounts the base and writes to it, behind the layers' backs"
cp --sparse=always base.raw before.raw
run dmchain open look base.raw --format raw
mount /dev/mapper/look /tmp/fs
touch /tmp/fs/just-looking
umount /tmp/fs
run dmchain close look
printf '   # %s\n' "dmchain open vm ${names[-1]}"
status=0
dmchain open vm "${names[-1]}" >/tmp/error 2>&1 || status=$?
sed 's/^/   /' /tmp/error
[ $status = 4 ] || fail "a modified base must be refused with exit status 4, not $status"
note "refused, exit status 4"

step "With the base as it was, all is well again"
mv before.raw base.raw
run dmchain open vm "${names[-1]}"
mount /dev/mapper/vm /tmp/fs
verify /tmp/sums.3

step "Layers go while the disk is used: those in the middle, into the one below them"
rm /tmp/stop
echo 0 >/tmp/acknowledged
lines=$(wc -l </tmp/fs/log)
writer &
writer=$!
note "the layers for replays were children, too; they are gone, --force says so"
run dmchain commit vm --top 1 --base 3 --force
show vm

step "And all that is below the top, into the top: it needs no other image then"
run dmchain stream vm
show vm
touch /tmp/stop
wait $writer
note "$(cat /tmp/acknowledged) more lines are written and acknowledged"
[ "$(wc -l </tmp/fs/log)" = $((lines + $(cat /tmp/acknowledged))) ] || fail "lines are missing"
umount /tmp/fs
run dmchain close vm
rm base.raw
run dmchain open vm "${names[-1]}"
e2fsck -fn /dev/mapper/vm >/dev/null 2>&1 || fail "e2fsck of the disk"
note "e2fsck finds nothing"
mount /dev/mapper/vm /tmp/fs
verify /tmp/sums.3
umount /tmp/fs
run dmchain close vm
ls -ls --block-size=K --color=never ./*.img | awk '{ print "   " $1 " used, " $6 " long: " $NF }'
took
cd /
umount $store
printf '\nAll of it holds. %s\n' "$(awk '{ printf "%d s since the virtual machine started.", $1 }' /proc/uptime)"
