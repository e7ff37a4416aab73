#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,6.12,debug mem=1024 smp=2 timeout=500 group=jobs
#
# Power cuts of a mirror, its pivot and its cancel. Source and target lie side by side
# on a device whose writes are logged; under a random load the mirror is made, and
# ended. The log is replayed to flushes of the run, and beyond them with a random
# subset of the writes that no flush covered, torn at 512 bytes. In each of these
# states exactly one side opens as the disk (after a cancel the other one may be
# its complete copy), without help, and holds what a completed flush covered. If the
# mirror was cut off it is resumed: then the copy is the disk.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
states=${STATES:-6}
[ -z "${LONG-}" ] || states=${STATES:-60}
[ "$KERNEL" != debug ] || states=4
layer_mib=14 runs=0 around=12
[ -z "${LONG-}" ] || around=60

modprobe dm-log-writes || modprobe dm_log_writes
if ! dmsetup targets | grep -q log-writes; then
	skip "power cuts" "this kernel has no log-writes target"
	done_testing
fi

# layers_on DEVICE: /dev/mapper/lay0, the source, and lay1
layers_on()
{
	local i mib=$((layer_mib * 2048))
	for i in 0 1; do
		dmsetup create lay$i --table "0 $mib linear $1 $((i * mib))" || return
	done
}

layers_off()
{
	dmsetup remove lay0 && dmsetup remove lay1
}

value()		# value NAME LINE: the number in "... NAME=number ..."
{
	local rest=" $2"
	rest=${rest##* "$1"=}
	echo "${rest%% *}"
}

interrupted()
{
	dmchain job list d --json | jq -e 'any(.[]; .error == "interrupted")' >/dev/null
}

# Let the mirror that was cut off come to its end: then the copy is the disk
resumed()	# resumed WHAT
{
	local out
	nr_resumed=$((nr_resumed + 1))
	dd if=/dev/mapper/d of=was bs=1M iflag=direct status=none
	# A target that was only about to be made, or has another life, begins anew
	out=$(dmchain job resume d --wait 2>&1) ||
		out=$(dmchain mirror d /dev/mapper/lay1 --format chain 2>&1) ||
		{ echo "$1: resume: $(tail -n 1 <<<"$out");"; return; }
	out=$(dmchain job cancel d 2>&1) || echo "$1: cancel: $out;"
	out=$(dmchain compare /dev/mapper/lay1 was --format-b raw 2>&1) || echo "$1: resumed: $out;"
	out=$(dmchain check /dev/mapper/lay1 2>&1) || echo "$1: check: $(tail -n 1 <<<"$out");"
}

# state WHAT IMAGE MARK: a message if it is bad
state()
{
	local what=$1 i out top=
	cp --sparse=always "$2" scratch
	for i in 0 1; do
		if dmchain open d /dev/mapper/lay$i >".open$i" 2>&1; then
			top=$i
			break
		fi
	done
	if [ -z "$top" ]; then
		echo "$what: nothing opens: $(cat .open0 .open1);"
		return
	fi
	echo "$top" >>tops
	[ "$(status_of d | cut -d ' ' -f 1)" = rw ] || echo "$what: it is $(status_of d);"
	out=$(crashwrite check /dev/mapper/d --log ops --mark "$3" --initial initial --no-whole 2>&1) ||
		echo "$what: top $top, mark $3: $(tail -n 3 <<<"$out" | paste -sd ' ');"
	if [ "$top" = 0 ] && ! dmchain open e /dev/mapper/lay1 >.open1 2>&1; then
		grep -qE 'never completed|not decided|no chain header' .open1 ||
			echo "$what: lay1: $(cat .open1);"
	elif [ "$top" = 0 ]; then
		[ "$end" = cancel ] || echo "$what: both sides open;"
		echo both >>tops
		dmchain close e
	fi
	if interrupted; then
		resumed "$what"
	fi
	out=$(dmchain close d 2>&1) || echo "$what: close: $out;"
	out=$(dmchain check /dev/mapper/lay"$top" 2>&1) || echo "$what: check: $(tail -n 1 <<<"$out");"
}

after_flush()	# after_flush MARK
{
	crashlog list log --marks | sed -nE "s/.* after-flush=([0-9]+) mark $1.*/\1/p"
}

# Flushes to look behind: all along the log, and each of those around the end of the
# mirror: what decides comes just before the command returns
points()
{
	local n begins ends
	begins=$(after_flush end-begins)
	ends=$(after_flush end-is-done)
	{
		for ((n = 0; n <= states; n++)); do
			echo $((flushes * n / states))
		done
		seq "$begins" $((begins + 2))
		seq $((ends + 3 - around)) $((ends + 2))
	} | sort -nu | awk -v all="$flushes" '$1 >= 0 && $1 <= all'
}

# power_cuts END: one run and what the cuts leave
power_cuts()
{
	local name=$1 end=$1 data logdev flushes flush next out bad="" nr_resumed=0
	seed=$((${SEED:-0} + 7 * ++runs))
	rm -f data log ops target copy scratch initial
	truncate -s $((2 * layer_mib))M data
	truncate -s 500M log
	data=$(losetup -f --show data)
	logdev=$(losetup -f --show log)
	layers_on "$data"
	dmchain create /dev/mapper/lay0 --size 8M >/dev/null
	dmchain open d /dev/mapper/lay0
	crashwrite run /dev/mapper/d --log fill --ops 60 --threads 2 --size 8M --max 64K \
		--seed $seed --parallel-flush >/dev/null
	dd if=/dev/mapper/d of=initial bs=1M iflag=direct status=none
	dmchain close d
	layers_off
	cp --sparse=always data target

	run_ok "$name: log" dmsetup create lw --table \
		"0 $(blockdev --getsz "$data") log-writes $data $logdev"
	run_ok "$name: layers on the log" layers_on /dev/mapper/lw
	run_ok "$name: open" dmchain open d /dev/mapper/lay0
	cat >hook <<-END
		#!/bin/sh
		exec >>"$TMP/hook.out" 2>&1
		dmchain mirror d /dev/mapper/lay1 --format chain --speed 4M >/dev/null || exit
		sleep 0.3
		dmsetup message lw 0 mark end-begins
		dmchain $([ "$end" = pivot ] && echo pivot || echo job cancel) d
		status=\$?
		dmsetup message lw 0 mark end-is-done
		exit \$status
	END
	chmod +x hook
	: >hook.out
	run_ok "$name: random load" crashwrite run /dev/mapper/d --log ops --mark-dev lw --size 8M \
		--hook "$TMP/hook" --hook-max 1 --hook-every 40 --ops ${OPS:-700} --threads 3 --max 32K \
		--flush-percent 10 --seed $seed
	is "$(json 'map(select(.error != null)) | length' dmchain job list d)" 0 "$name: the mirror ends well"
	sed 's/^/# /' hook.out
	run_ok "$name: close" dmchain close d
	# A mark of this boot would mean that a copy of an open layer is opened
	run_ok "$name: as if booted again" rmmod dm_chain
	run_ok "$name: no layers" layers_off
	run_ok "$name: end of the log" dmsetup remove lw
	losetup -d "$logdev"
	losetup -d "$data"

	truncate -s $((2 * layer_mib))M scratch
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
		state "flush $flush" target "$(value mark "$out")" >.bad
		bad+=$(cat .bad)
		[ $flush -lt "$flushes" ] || break
		cp --sparse=always target copy
		out=$(crashlog replay log copy --from "$next" --to-entry "$next" \
			--subset --seed $flush --torn 2>>hazards) || { bad+="subset: $out;"; break; }
		state "behind flush $flush" copy "$(value mark "$out")" >.bad
		bad+=$(cat .bad)
	done
	sort tops | uniq -c | sed "s/^/# states with top:/"
	# Before and behind what decides
	is "$(sort -u tops | xargs)" "$(if [ "$end" = pivot ]; then echo "0 1"; else echo "0 both"; fi)" \
		"$name: some states are before the end, and some behind it"
	[ $nr_resumed -gt 0 ]
	is $? 0 "$name: some mirrors could be resumed"
	is "$bad" "" "$name: all states after power cuts are good"
	run_ok "$name: no layers" layers_off
	losetup -d "$data"
}

power_cuts pivot
power_cuts cancel

done_testing
