#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1024 smp=2 timeout=300 group=qcow2
#
# What can be watched: trace events of what the target decides, dm-stats of a disk and
# of its parts, one event of a job a line; the kernel's log stays short whatever an image
# says.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
load_module
trace=/sys/kernel/tracing
mountpoint -q $trace || mount -t tracefs none $trace
events=$trace/events/dm_chain
on_exit sh -c "echo 0 >$events/enable"

traced()	# traced EVENT COMMAND...: what is recorded of it while the command runs
{
	local event=$1
	shift
	echo >$trace/trace
	echo 1 >"$events/$event/enable"
	"$@" >.cmd 2>&1
	echo 0 >"$events/$event/enable"
	sed -n "s/^.* $event: //p" $trace/trace
}

number()	# number DEVICE
{
	lsblk -dnro MAJ:MIN "$1"
}

x()		# x COMMAND...: of xfs_io
{
	xfs_io -d -c "$*" /dev/mapper/w
}

write_and_flush()
{
	xfs_io -d -c "pwrite -q 64k 4k" -c fsync /dev/mapper/w
}

run_ok "base" dmchain create base.img --size 16M
dmchain open w base.img && fill w 0 1 a && dmchain close w
run_ok "top" dmchain create top.img --backing base.img --backing-format chain
run_ok "open" dmchain open w top.img
disk=$(number /dev/mapper/w) top=$(number "$(loop_of top.img)") base=$(number "$(loop_of base.img)")
is "$(ls -d $events/dm_chain_* | sed 's/.*dm_chain_//' | tr '\n' ' ')" "copy_up io job refused round " "the events there are"

# --- where I/O goes

is "$(traced dm_chain_io x pread -q 8k 4k)" "$disk RS 16 + 8 layer $base" "io: a read of what the base has"
is "$(traced dm_chain_io x pread -q 4m 4k)" "$disk RS 8192 + 8 zeroes 0:0" "io: of what nobody has"
like "$(traced dm_chain_io x pwrite -q 0 4k)" "^$disk WS 0 \\+ 8 layer $top\$" "io: a first write"
like "$(traced dm_chain_io x pwrite -q 4096 512)" "^$disk WS 8 \\+ 1 deferred 0:0" "io: a part of a block has to read first"
like "$(traced dm_chain_io x fpunch 0 4k)" "^$disk [DN]S? 0 \\+ 8 layer $top\$" "io: zeroing gives space back"
like "$(traced dm_chain_io x fpunch 0 4k)" "^$disk [DN]S? 0 \\+ 8 map $top\$" "io: where there is none, it is for the map only"
is "$(traced dm_chain_copy_up x pwrite -q 8192 512)" "$disk 16 + 8 to $top error 0" "copy-up: the block, and where to"
is "$(traced dm_chain_copy_up x pwrite -q 8192 512)" "" "copy-up: not of what is there"
is "$(traced dm_chain_round write_and_flush | tr '\n' ';')" \
	"$top begins error 0;$top done error 0;" "round: a flush makes the map durable"

# --- jobs, refusals

is "$(traced dm_chain_job dmchain stream w | sed -nE "s/^$disk job [0-9]+ stream ([a-z]+) .* error 0\$/\\1/p" | uniq | tr '\n' ' ')" \
	"running pending concluded " "job: what it does"
run_ok "snapshot" dmchain snapshot w=next1.img
run_ok "snapshot" dmchain snapshot w=next2.img
dmchain perm hold commit w --top 1 --base 2 -- sh -c "echo >held; sleep 60" &
holder=$!
wait_for 20 test -e held
like "$(traced dm_chain_refused dmchain perm check stream w --into 1)" \
	"^$disk stream [a-z]+ of [0-9:]+: held by $disk commit [a-z]+ token [1-9][0-9]*, [a-z-]+\$" \
	"refused: who wanted what, who has it, what is missing"
kill $holder
wait $holder

# --- dm-stats

dmsetup message w 0 "@stats_create - /4" >.stats
x pread -q 0 1m
x pwrite -q 12m 64k
is "$(dmsetup message w 0 "@stats_print $(cat .stats)" | awk '{ print $4, $8 }' | tr '\n' ' ')" \
	"2048 0 0 0 0 0 0 128 " "dm-stats: sectors that were read and written, of each quarter of the disk"
run_ok "dm-stats: snapshots go on under it" dmchain snapshot w=next3.img
x pread -q 8m 4k
is "$(dmsetup message w 0 "@stats_print $(cat .stats)" | awk '{ print $4 }' | tr '\n' ' ')" "2048 0 8 0 " \
	"dm-stats: it goes on counting"
dmsetup message w 0 "@stats_delete $(cat .stats)"

run_ok "close" dmchain close w

# --- the kernel's log

# A presence sector speaks of 64 GiB: 256 of them are broken
run_ok "a large layer" dmchain create big.img --size 16T --max-size 16T
dd if=/dev/urandom of=big.img bs=512 seek=2048 count=256 conv=notrunc status=none
dmesg -C
run_ok "it opens" dmchain open big big.img --read-only
dmesg >.dmesg
lines=$(grep -c "layer .*: presence sector .* damaged" .dmesg)
[ "$lines" -ge 1 ] && [ "$lines" -le 20 ]
is $? 0 "the log tells of some of 256 damaged sectors"
echo "# of $lines"
run_ok "close" dmchain close big
done_testing
