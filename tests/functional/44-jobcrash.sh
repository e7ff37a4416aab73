#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,6.12,debug mem=1024 smp=2 timeout=500 group=jobs
#
# Power cuts while jobs run. Four layers lie side by side on a device whose
# writes are logged; under a random load a stream, a commit of lower layers, or
# of the active layer with its pivot, runs to its end. The log is replayed to
# flushes of the run, and beyond them with a random subset of the writes that no
# flush covered, torn at 512 bytes. In each of these states the disk must open
# without help, hold what a completed flush covered and show each sector as
# before or as written; and so it must when the job has been resumed to its end.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
states=${STATES:-3}
[ -z "${LONG-}" ] || states=${STATES:-40}
[ "$KERNEL" != debug ] || states=3
layers=4 layer_mib=14

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

# open_disk: the top, or what it went on in by a pivot; says which
open_disk()
{
	local i format
	for i in $((layers - 1)) 0; do
		format=chain
		[ $i != 0 ] || format=$base_format
		if dmchain open d /dev/mapper/lay$i --format $format >.open 2>&1; then
			echo $i
			return
		fi
		# Only what a pivot has closed may refuse
		grep -qE 'modified after|retired' .open || return
	done
}

judge()		# judge WHAT MARK: the open disk, what is wrong with it
{
	local out
	[ "$(status_of d | cut -d ' ' -f 1)" = rw ] || echo "$1: it is $(status_of d);"
	out=$(crashwrite check /dev/mapper/d --log ops --mark "$2" --initial initial $whole 2>&1) ||
		echo "$1: mark $2: $(tail -n 3 <<<"$out" | paste -sd ' ');"
}

# Let what was going on come to its end
finish_job()	# finish_job WHAT
{
	local out
	dmchain job list d --json | jq -e 'any(.[]; .error == "interrupted")' >/dev/null || return
	resumed=$((resumed + 1))
	out=$(dmchain job resume d --wait 2>&1) || echo "$1: resume: $(tail -n 1 <<<"$out");"
	if dmchain job list d --json | jq -e 'any(.[]; .status == "ready")' >/dev/null; then
		out=$(dmchain pivot d 2>&1) || echo "$1: pivot: $out;"
	fi
}

# state WHAT IMAGE MARK: judge it; a message if it is bad
state()
{
	local what=$1 mark=$3 i out top
	cp --sparse=always "$2" scratch
	top=$(open_disk)
	if [ -z "$top" ]; then
		echo "$what: does not open: $(cat .open);"
		return
	fi
	echo "$top" >>tops
	judge "$what" "$mark"
	finish_job "$what" >.finish
	cat .finish
	judge "$what, resumed" "$mark"
	out=$(dmchain close d 2>&1) || echo "$what: close: $out;"
	# What a pivot has left behind nobody opens any more, so nobody mends it
	for ((i = 0; i <= top; i++)); do
		[ $i != 0 ] || [ "$base_format" = chain ] || continue
		out=$(dmchain check /dev/mapper/lay$i 2>&1) ||
			echo "$what: check of layer $i: $(tail -n 1 <<<"$out");"
	done
	top=$(open_disk)
	[ -n "$top" ] || { echo "$what, resumed: does not open: $(cat .open);"; return; }
	judge "$what, resumed and opened" "$mark"
	out=$(dmchain close d 2>&1) || echo "$what: close: $out;"
}

# What lies there before the log begins: each layer with writes of its own
fill_layers()
{
	local i how
	if [ "$base_format" = raw ]; then
		dmchain open d /dev/mapper/lay0 --format raw
	else
		dmchain create /dev/mapper/lay0 --size 8M >/dev/null && dmchain open d /dev/mapper/lay0
	fi || return
	for ((i = 0; i < layers; i++)); do
		[ $i = 0 ] || dmchain snapshot d=/dev/mapper/lay$i >/dev/null || return
		how=--parallel-flush
		[ "$base_format$i" != raw0 ] || how=--no-discard
		crashwrite run /dev/mapper/d --log fill --ops 60 --threads 2 --size 8M \
			--max 64K --seed $((seed + i)) $how >/dev/null || return
	done
	dd if=/dev/mapper/d of=initial bs=1M iflag=direct status=none
	dmchain close d
}

# power_cuts NAME BASE-FORMAT WHOLE COMMAND...: one run and what the cuts leave
power_cuts()
{
	local name=$1 data logdev flushes flush next out bad="" n resumed=0
	base_format=$2 whole=$3
	shift 3
	seed=$((${SEED:-0} + 7 * ++runs))
	rm -f data log ops target copy scratch fill initial
	truncate -s $((layers * layer_mib))M data
	truncate -s 600M log
	data=$(losetup -f --show data)
	logdev=$(losetup -f --show log)
	run_ok "$name: layers" layers_on "$data"
	run_ok "$name: they are filled" fill_layers
	run_ok "$name: no layers" layers_off
	cp --sparse=always data target

	run_ok "$name: log" dmsetup create lw --table \
		"0 $(blockdev --getsz "$data") log-writes $data $logdev"
	run_ok "$name: layers on the log" layers_on /dev/mapper/lw
	run_ok "$name: open" dmchain open d /dev/mapper/lay$((layers - 1))
	printf '#!/bin/sh\nexec %s >>%s/hook.out 2>&1\n' "$*" "$TMP" >hook
	chmod +x hook
	: >hook.out
	run_ok "$name: random load" crashwrite run /dev/mapper/d --log ops --mark-dev lw --size 8M \
		--hook "$TMP/hook" --hook-max 1 --hook-every 60 --ops ${OPS:-500} --threads 3 --max 32K \
		--flush-percent 10 --seed $seed
	dmchain job speed d 0 >>hook.out 2>&1
	dmchain job wait d >>hook.out 2>&1
	if dmchain job list d --json | jq -e 'any(.[]; .status == "ready")' >/dev/null; then
		run_ok "$name: pivot" dmchain pivot d
	fi
	is "$(json 'map(select(.error != null)) | length' dmchain job list d)" 0 "$name: the job ends well"
	run_ok "$name: close" dmchain close d
	# A mark of this boot would mean that a copy of an open layer is opened
	run_ok "$name: as if booted again" rmmod dm_chain
	run_ok "$name: no layers" layers_off
	run_ok "$name: end of the log" dmsetup remove lw
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
	for ((n = 0; n <= states; n++)); do
		flush=$((flushes * n / states))
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
	echo "# $name: $resumed jobs were resumed"
	[ $resumed -gt 0 ]
	is $? 0 "$name: some states have a job to be resumed"
	is "$bad" "" "$name: all states after power cuts are good"
	run_ok "$name: no layers" layers_off
	losetup -d "$data"
}

power_cuts "commit of lower layers" chain "" dmchain commit d --top 1 --base 3 --speed 1M --background
power_cuts "active commit" chain --no-whole dmchain commit d --base 3 --speed 1M --background
if [ -n "${LONG-}" ]; then
	power_cuts "stream" chain --no-whole dmchain stream d --speed 1M --background
	power_cuts "active commit, raw" raw --no-whole dmchain commit d --base 3 --speed 1M --background
fi

done_testing
