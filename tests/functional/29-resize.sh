#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1024 smp=2 timeout=300 group=main
#
# Sizes: what a shrink cuts off stays away, also when the shrink was killed
# half way and whoever grows the layer next, the target or the controller, has
# to clear what it left. Ends of layers are where their headers say.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
short=$((14 * 1048576 + 512))	# within a block, a group and a presence sector
long=$((48 * 1048576))

dmchain create made.img --size $long --max-size 64M >/dev/null
dmchain open d made.img
xfs_io -d -c "pwrite -q -b 1m -S 0x5a 12m 36m" /dev/mapper/d
dmchain close d

# digest FILE OFFSET LENGTH
digest()
{
	dd if="$1" iflag=direct,skip_bytes,count_bytes skip="$2" count="$3" bs=1M status=none | md5sum
}
zeroes=$(head -c $((long - short)) /dev/zero | md5sum)
below=$(head -c 2097664 /dev/zero | tr '\0' '\132' | md5sum)
beyond=$(head -c $((long - short)) /dev/zero | tr '\0' '\132' | md5sum)

# cut CALL NUMBER: shrink a fresh copy, killed at the n-th call of that name;
# false if it was not
cut()
{
	cp --sparse=always made.img l.img
	strace -qq -o /dev/null -e "trace=$1" -e "inject=$1:signal=KILL:when=$2" \
		dmchain resize l.img $short --shrink >/dev/null 2>&1
	[ $? = 137 ]
}

# grown NAME: the disk has its old length again; what of it is there?
grown()
{
	local size=$1 name=$2 end=$zeroes
	is "$(digest /dev/mapper/d 12582912 2097664)" "$below" "$name: before the cut all is there"
	[ "$size" = $short ] || end=$beyond
	is "$(digest /dev/mapper/d $short $((long - short)))" "$end" "$name: behind it what that says"
}

# Each of them by tests/long only
step=3
[ -z "${LONG-}" ] || step=1
for call in pwrite64 fsync ftruncate; do
	for ((n = 1; n < 60; n += step)); do
		bash -c "$(declare -f cut); call=$call short=$short; cut $call $n" 2>/dev/null || break
		cp --sparse=always l.img l2.img
		run_ok "killed at $call $n: opens" dmchain open d l.img
		size=$(blockdev --getsize64 /dev/mapper/d)
		[ "$size" = $short ] || [ "$size" = $long ] || fail "killed at $call $n: size" "$size"
		run_ok "grows while open" dmchain resize d $long
		grown "$size" "killed at $call $n, grown while open"
		run_ok "close" dmchain close d
		run_ok "check finds nothing" dmchain check l.img
		run_ok "open again" dmchain open d l.img
		grown "$size" "opened again"
		run_ok "close" dmchain close d
		[ "$size" = $short ] || continue
		# Nobody says --force: the mark in use was never on it
		run_ok "killed at $call $n: grows while closed" dmchain resize l2.img $long
		run_ok "check finds nothing" dmchain check l2.img
		run_ok "open" dmchain open d l2.img
		grown "$size" "killed at $call $n, grown while closed"
		run_ok "close" dmchain close d
	done
	[ $n -gt 1 ]
	is $? 0 "killed at calls of $call, up to number $n"
done

# Growing over a raw or chain parent shows nothing of it behind the old end
rm -f l.img l2.img
yes parent | head -c 32M >base.raw
run_ok "create" dmchain create l.img --backing base.raw --backing-format raw --size 8M --max-size 64M
run_ok "open" dmchain open d l.img
run_ok "grow" dmchain resize d 16M
is "$(digest /dev/mapper/d 8388608 8388608)" "$(head -c 8M /dev/zero | md5sum)" "what a layer grows by reads zeroes"
is "$(digest /dev/mapper/d 0 8388608)" "$(head -c 8M base.raw | md5sum)" "what it saw before it sees still"
run_ok "snapshot" dmchain snapshot d=l3.img
run_ok "grow the new top" dmchain resize d 24M
is "$(digest /dev/mapper/d 8388608 16777216)" "$(head -c 16M /dev/zero | md5sum)" "also below a longer top"
run_ok "close" dmchain close d
run_ok "check the lower one" dmchain check l.img
run_ok "check the top" dmchain check l3.img

# A top that was made before the disk has grown, and is to show all of it
dmchain create grown.img --size 16M --max-size 64M >/dev/null
dmchain create next.img --backing grown.img --backing-format chain --size 32M >/dev/null
dmchain unseal grown.img >/dev/null
dmchain resize grown.img 32M >/dev/null
at=$(losetup -f --show grown.img)
next=$(losetup -f --show next.img)
dmesg -C
run_fail any "a table with a next layer that doesn't show all of the top" \
	dmsetup create t --table "0 65536 chain 2 $next chain next $at chain rw"
like "$(dmesg)" "role next does not show all" "the log says why"
dmsetup remove t 2>/dev/null
losetup -d "$next" "$at"
dmchain open d grown.img 2>/dev/null || run_ok "open" dmchain open d grown.img --force
yes parent | dd of=/dev/mapper/d bs=1M count=32 iflag=fullblock oflag=direct status=none
run_ok "snapshot --existing" dmchain snapshot d=next.img --existing
is "$(digest /dev/mapper/d 0 33554432)" "$(head -c 32M base.raw | md5sum)" "the disk is what it was"
run_ok "close" dmchain close d
run_ok "open" dmchain open d next.img
is "$(digest /dev/mapper/d 0 33554432)" "$(head -c 32M base.raw | md5sum)" "opened again, too"
run_ok "close" dmchain close d

# The top grows while a table has a layer that was to be the next one, or a mirror's
# target: the calls of a script, which ask nobody. What fitted when the table came no
# longer does when it is used.
dmchain create g.img --size 16M --max-size 64M >/dev/null
dmchain create n.img --backing g.img --backing-format chain --size 32M >/dev/null
dmchain unseal g.img >/dev/null
dmchain create s.img --size 16M --max-size 64M >/dev/null
dmchain create to.img --size 16M >/dev/null
truncate -s 64M g.img s.img
for role in next target; do
	at=$(losetup -f --show "$([ $role = next ] && echo g.img || echo s.img)")
	of=$(losetup -f --show "$([ $role = next ] && echo n.img || echo to.img)")
	run_ok "a table with a $role" dmsetup create t --table "0 32768 chain 2 $of chain $role $at chain rw"
	run_ok "its top grows" token /dev/mapper/t resize $((32 << 20))
	if [ $role = next ]; then
		run_fail any "a snapshot that does not show all" token /dev/mapper/t snapshot
	else
		run_fail any "a mirror to what is too small" token /dev/mapper/t start mirror 0 0
	fi
	like "$(output)" ESTALE "it does not fit any more"
	dmsetup remove t
	losetup -d "$of" "$at"
done

# --- Groups that a shrink has cut off are new ones when the disk grows again

rm -f g.img s.img n.img to.img
dmchain create far.img --size 10G >/dev/null
run_ok "far: open" dmchain open d far.img
xfs_io -d -c "pwrite -q -S 0x31 4095m 1m" -c "pwrite -q -S 0x32 9g 1m" -c fsync /dev/mapper/d
dmchain close d
run_ok "far: shrink" dmchain resize far.img 4G --shrink
run_ok "far: open" dmchain open d far.img
# The first of its group: its presence goes out while the disk grows
xfs_io -d -c "pwrite -q -S 0x33 1g 4k" /dev/mapper/d
run_ok "far: grow" dmchain resize d 10G
is "$(digest /dev/mapper/d $((9 << 30)) 1048576)" "$(head -c 1M /dev/zero | md5sum)" "far: what was cut off is gone"
run_ok "far: write there" xfs_io -d -c "pwrite -q -S 0x34 9g 1m" -c fsync /dev/mapper/d
run_ok "far: close" dmchain close d
run_ok "far: open" dmchain open d far.img
is "$(digest /dev/mapper/d $((9 << 30)) 1048576)" "$(head -c 1M /dev/zero | tr '\0' 4 | md5sum)" "far: what was flushed is there"
is "$(digest /dev/mapper/d $((1 << 30)) 4096)" "$(head -c 4K /dev/zero | tr '\0' 3 | md5sum)" "far: everywhere"
dmchain close d
run_ok "far: check" dmchain check far.img
rm far.img

# --- A map that can't be read now may be well: growing doesn't damage it

dmchain create bad.img --size 48M --max-size 64M >/dev/null
truncate -s 80M bad.img
loop=$(losetup -f --show bad.img)
end=$(blockdev --getsz "$loop") at=$(($(od -An -t u8 -j 112 -N 8 bad.img) / 512 + 8))
dmsetup create bad --table "0 $end linear $loop 0"
run_ok "unread: open" dmchain open d /dev/mapper/bad
xfs_io -d -c "pwrite -q -S 0x35 40m 1m" -c fsync /dev/mapper/d
dmchain close d
rmmod dm_chain
printf '%s\n' "0 $at linear $loop 0" "$at 8 error" "$((at + 8)) $((end - at - 8)) linear $loop $((at + 8))" |
	dmsetup load bad
dmsetup suspend bad && dmsetup resume bad
run_ok "unread: open" dmchain open d /dev/mapper/bad
run_fail any "unread: what was there can't be read" dd if=/dev/mapper/d of=/dev/null bs=4k skip=10240 count=1 iflag=direct
dmsetup load bad --table "0 $end linear $loop 0"
dmsetup suspend bad && dmsetup resume bad
run_fail any "unread: it can't grow now" dmchain resize d 56M
dmchain close d
rmmod dm_chain
run_ok "unread: open again" dmchain open d /dev/mapper/bad
is "$(digest /dev/mapper/d $((40 << 20)) 1048576)" "$(head -c 1M /dev/zero | tr '\0' 5 | md5sum)" "unread: all is there"
run_ok "unread: and grows" dmchain resize d 56M
dmchain close d
dmsetup remove bad
losetup -d "$loop"

# --- While a commit into a raw base has yet to be finished

truncate -s 5M grows.raw
dmchain create over.img --size 10M --max-size 64M --backing grows.raw --backing-format raw >/dev/null
run_ok "commit: open" dmchain open d over.img
xfs_io -d -c "pwrite -q -S 0x36 1m 8m" /dev/mapper/d
run_ok "commit: begin" dmchain commit d --background --speed 64K
# shellcheck disable=SC2317 # called by wait_for
began()
{
	[ "$(stat -c %s grows.raw)" = $((10 << 20)) ]
}
wait_for 20 began
is $? 0 "commit: the base has grown"
run_ok "commit: cancel" dmchain job cancel d
run_ok "commit: grow" dmchain resize d 20M
run_ok "commit: close" dmchain close d
run_ok "commit: open again" dmchain open d over.img
is "$(digest /dev/mapper/d $((1 << 20)) $((8 << 20)))" "$(head -c 8M /dev/zero | tr '\0' 6 | md5sum)" "commit: all is there"
run_ok "commit: close" dmchain close d

# The copy of the header at the end moves with it, and what was one is data
bytes=$(stat -c %s l3.img)
is "$(dd if=l3.img bs=1M iflag=skip_bytes skip=$((bytes - 4096)) count=1 status=none | head -c 8)" \
	"$(head -c 8 l3.img)" "the header's copy is at the end"

done_testing
