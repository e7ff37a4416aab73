#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1024 smp=2 timeout=360 group=main
#
# Power cuts. Three layers lie side by side on a device whose writes are
# logged; a random load runs, with two snapshots. The log is replayed to
# flushes of the run, and beyond them with a random subset of the writes that
# no flush covered, torn at 512 bytes, or with the metadata among these only. In
# each of these states the chain must open without help, hold what a completed
# flush covered, show each sector as before or as written, and first-written
# blocks as a whole.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
states=${STATES:-5}
[ "$KERNEL" != debug ] || states=$((states * 2 / 3))
layers=3

modprobe dm-log-writes || modprobe dm_log_writes
if ! dmsetup targets | grep -q log-writes; then
	skip "power cuts" "this kernel has no log-writes target"
	done_testing
fi

# layers_on DEVICE: /dev/mapper/lay0 and so on
layers_on()
{
	local i mib=$((layer_mib * 2048))
	for ((i = 0; i < layers; i++)); do
		dmsetup create lay$i --table "0 $mib linear $1 $((i * mib))" || return
	done
}

layers_off()
{
	local i
	for ((i = 0; i < layers; i++)); do
		dmsetup remove lay$i || return
	done
}

value()		# value NAME LINE: the number in "... NAME=number ..."
{
	local rest=" $2"
	rest=${rest##* "$1"=}
	echo "${rest%% *}"
}

# state WHAT IMAGE MARK: judge it; a message if it is bad
state()
{
	local what=$1 image=$2 mark=$3 top=0 i out
	cp --sparse=always "$image" scratch
	# The disk's name is its first layer: a seal says where it is now
	while json '.layers[0].marks|join(" ")' dmchain info /dev/mapper/lay$top 2>.err |
			grep -qw sealed; do
		top=$((top + 1))
	done
	[ $top -lt 3 ] || { echo "$what: all layers are sealed;"; return; }
	echo "$top" >>tops
	if ! out=$(dmchain open d /dev/mapper/lay$top 2>&1); then
		echo "$what: layer $top does not open: $out;"
		return
	fi
	[ "$(status_of d | cut -d ' ' -f 1)" = rw ] || echo "$what: it is $(status_of d);"
	out=$(crashwrite check /dev/mapper/d --log ops --mark "$mark" --fresh 2>&1) ||
		echo "$what: top $top, mark $mark: $(tail -n 3 <<<"$out" | paste -sd ' ');"
	out=$(dmchain close d 2>&1) || echo "$what: close: $out;"
	for ((i = 0; i <= top; i++)); do
		out=$(dmchain check /dev/mapper/lay$i 2>&1) ||
			echo "$what: check of layer $i: $(tail -n 1 <<<"$out");"
	done
}

# Flushes to look behind: all along the log, and the next one after each snapshot
points()
{
	local n
	for ((n = 0; n <= states; n++)); do
		echo $((flushes * n / states))
	done >.points
	crashlog list log --marks | sed -nE 's/.* after-flush=([0-9]+) mark snapshot-.*/\1/p' |
		while read -r n; do
			[ "$n" -ge "$flushes" ] || echo $((n + 1))
		done >>.points
	sort -nu .points
}

# One run and what the power cuts leave of it
power_cuts()	# power_cuts NAME CRASHWRITE-OPTIONS...
{
	local name=$1 data logdev flushes flush next out bad="" layer_mib=$((mib + 6))
	shift
	rm -f data log ops target copy scratch
	# Where nothing was written yet lies something, as on any device
	yes junk | head -c $((layers * layer_mib))M >data
	truncate -s 400M log
	data=$(losetup -f --show data)
	logdev=$(losetup -f --show log)

	# What lies there before the log begins
	run_ok "$name: layers" layers_on "$data"
	run_ok "$name: create" dmchain create /dev/mapper/lay0 --size ${mib}M
	run_ok "$name: no layers" layers_off
	cp --sparse=always data target

	# While a flush takes its time, below the log, others write on
	run_ok "$name: slow flushes" dmsetup create slow --table \
		"0 $(blockdev --getsz "$data") delay $data 0 0 $data 0 0 $data 0 $flush_ms"
	run_ok "$name: log" dmsetup create lw --table \
		"0 $(blockdev --getsz "$data") log-writes /dev/mapper/slow $logdev"
	run_ok "$name: layers on the log" layers_on /dev/mapper/lw
	run_ok "$name: open" dmchain open d /dev/mapper/lay0
	cat >hook <<-END
		#!/bin/sh
		dmchain snapshot "d=/dev/mapper/lay\$1" >/dev/null &&
			exec dmsetup message lw 0 mark snapshot-\$1
	END
	chmod +x hook
	run_ok "$name: random load" crashwrite run /dev/mapper/d --log ops --mark-dev lw \
		--hook "$TMP/hook" --hook-max $((layers - 1)) "$@"
	output | sed 's/^/# /'
	run_ok "$name: close" dmchain close d
	# A mark of this boot would mean that a copy of an open layer is opened
	run_ok "$name: as if booted again" rmmod dm_chain
	run_ok "$name: no layers" layers_off
	run_ok "$name: end of the log" dmsetup remove lw slow
	losetup -d "$logdev"
	losetup -d "$data"

	truncate -s $((layers * layer_mib))M scratch
	data=$(losetup -f --show scratch)
	run_ok "$name: layers to replay to" layers_on "$data"
	flushes=$(value flushes "$(crashlog list log --summary)")
	echo "# $name: $flushes flushes"
	[ "$flushes" -gt 20 ]
	is $? 0 "$name: there were flushes"
	next=0
	: >tops
	for flush in $(points); do
		out=$(crashlog replay log target --from $next --to-flush $flush \
			--discard junk 2>>hazards) || { bad+="replay: $out;"; break; }
		next=$(value next "$out")
		bad+=$(state "flush $flush" target "$(value mark "$out")")
		[ $flush -lt "$flushes" ] || break
		cp --sparse=always target copy
		out=$(crashlog replay log copy --from "$next" --to-entry "$next" \
			--subset --seed $flush --torn 2>>hazards) || { bad+="subset: $out;"; break; }
		bad+=$(state "behind flush $flush" copy "$(value mark "$out")")
		cp --sparse=always target copy
		out=$(crashlog replay log copy --from "$next" --to-entry "$next" \
			--subset --metadata 2>>hazards) || { bad+="metadata: $out;"; break; }
		bad+=$(state "behind flush $flush, metadata without data" copy "$(value mark "$out")")
	done
	sort tops | uniq -c | sed "s/^/# states with top:/"
	is "$(sort -u tops | xargs)" "0 1 2" "$name: among them such with each of the tops"
	is "$bad" "" "$name: all states after power cuts are good"
	run_ok "$name: no layers" layers_off
	losetup -d "$data"
}

mib=8 flush_ms=0
power_cuts "load" --ops 1200 --threads 3 --hook-every 100 --max 32K --seed "${SEED:-1}"
# Large enough for what a flush covers to lie in groups that are no neighbours
mib=16 flush_ms=20
power_cuts "whole blocks and parts, flushed often" --ops 1000 --threads 4 --hook-every 100 \
	--max 8K --flush-percent 15 --parallel-flush --seed "${SEED:-2}"

done_testing
