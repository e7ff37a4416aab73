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
# before or as written. The job has no more to do than it had reported to be left by
# then; and when it has been resumed, or the same command been given, the disk reads
# the same. So it does if the power is cut in there once more.
#
# A stream of an idle disk is cut, too: it loses no more than about a second's work.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
# Of the states that have a job, every so manieth is cut again, so often
states=${STATES:-3} second=4 second_cuts=2
[ -z "${LONG-}" ] || states=${STATES:-40} second=5 second_cuts=4
[ "$KERNEL" != debug ] || states=3
RANDOM=${SEED:-1}
layers=4 layer_mib=14

modprobe dm-log-writes || modprobe dm_log_writes
if ! dmsetup targets | grep -q log-writes; then
	skip "power cuts" "this kernel has no log-writes target"
	done_testing
fi

# layers_on DEVICE: /dev/mapper/lay0 and so on; a raw one is as large as the disk
layers_on()
{
	local i mib=$((layer_mib * 2048)) size
	for ((i = 0; i < layers; i++)); do
		size=$mib
		[ "$i$base_format" != 0raw ] || size=16384
		dmsetup create lay$i --table "0 $size linear $1 $((i * mib))" || return
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

interrupted()
{
	dmchain job list d --json | jq -e 'any(.[]; .error == "interrupted")' >/dev/null
}

read_disk()
{
	dd if=/dev/mapper/d bs=1M iflag=direct status=none
}

# After a cut nobody writes: what was read then stays
same()		# same WHAT
{
	local out
	out=$(read_disk | cmp was - 2>&1) || echo "$1: $out;"
}

bytes_left()	# what the job would have to do
{
	"${again[@]}" --dry-run --json | jq '."move-bytes" + ."zero-bytes"'
}

# What the job had reported to be left when the power went
reported_left()	# reported_left ENTRY
{
	awk -v end="$1" '$1 < end && sub(/^left-/, "", $NF) { n = $NF } END { print n }' marks
}

# Marks in the log say what is left to do, as the job reports it
report()
{
	local left
	while [ ! -e reported ]; do
		left=$(dmchain job list d --json | jq -r '.[] |
			select(.status == "running" and ."total-progress" > 0) |
			."total-progress" - ."current-progress"')
		[ -z "$left" ] || dmsetup message lw 0 mark "left-$left" || return
		sleep 0.1
	done
}

# Flushes to look behind: all along the log, and behind a report in the middle
points()
{
	local n
	for ((n = 0; n <= states; n++)); do
		echo $((flushes * n / states))
	done >.points
	sed -nE 's/.* after-flush=([0-9]+) mark left-.*/\1/p' marks |
		awk '{ at[NR] = $1 + 1 } END { if (NR) print at[int((NR + 1) / 2)] }' >>.points
	sort -nu .points
}

judge_left()	# judge_left WHAT ENTRY
{
	local reported left
	reported=$(reported_left "$2")
	[ -n "$reported" ] && [ -z "$slack" ] || return 0
	progress=$((progress + 1))
	left=$(bytes_left)
	[ -n "$left" ] && [ "$left" -le "$reported" ] ||
		echo "$1: $left bytes are left, $reported were reported;"
}

# Let what was going on come to its end
finish_job()	# finish_job WHAT
{
	local out
	interrupted || return 0
	resumed=$((resumed + 1))
	if [ $((resumed % 2)) = 0 ]; then
		out=$(dmchain job resume d --wait 2>&1) || echo "$1: resume: $(tail -n 1 <<<"$out");"
	else
		out=$("${again[@]}" 2>&1) || echo "$1: ${again[*]}: $(tail -n 1 <<<"$out");"
	fi
	if dmchain job list d --json | jq -e 'any(.[]; .status == "ready")' >/dev/null; then
		out=$(dmchain pivot d 2>&1) || echo "$1: pivot: $out;"
	fi
}

# state WHAT IMAGE MARK: judge it; a message if it is bad
state()
{
	local what=$1 mark=$3 i out top cut=
	cp --sparse=always "$2" scratch
	top=$(open_disk)
	if [ -z "$top" ]; then
		echo "$what: does not open: $(cat .open);"
		return
	fi
	echo "$top" >>tops
	judge "$what" "$mark"
	read_disk >was
	if interrupted; then
		[ $((resumed % second)) != 0 ] || cut=1
		judge_left "$what" "$4"
	fi
	finish_job "$what"
	same "$what, resumed"
	out=$(dmchain close d 2>&1) || echo "$what: close: $out;"
	top=$(open_disk)
	[ -n "$top" ] || { echo "$what, resumed: does not open: $(cat .open);"; return; }
	same "$what, resumed and opened"
	out=$(dmchain close d 2>&1) || echo "$what: close: $out;"
	# What a pivot has left behind nobody opens any more, so nobody mends it
	for ((i = 0; i <= top; i++)); do
		[ $i != 0 ] || [ "$base_format" = chain ] || continue
		out=$(dmchain check /dev/mapper/lay$i 2>&1) ||
			echo "$what: check of layer $i: $(tail -n 1 <<<"$out");"
	done
	[ -z "$cut" ] || cut_again "$what" "$2"
}

# cut_again WHAT IMAGE: the job that goes on there is logged, and cut, too
cut_again()
{
	local what=$1 logdev out flushes i flush before=$resumed
	rm -f log2
	truncate -s 300M log2
	logdev=$(losetup -f --show log2)
	rmmod dm_chain && layers_off || echo "$what: no layers;"
	cp --sparse=always "$2" scratch
	dmsetup create lw2 --table "0 $(blockdev --getsz "$data") log-writes $data $logdev" &&
		layers_on /dev/mapper/lw2 || echo "$what: log;"
	[ -n "$(open_disk)" ] || echo "$what: does not open on the log;"
	finish_job "$what, logged"
	out=$(dmchain close d 2>&1) || echo "$what: close: $out;"
	rmmod dm_chain && layers_off && dmsetup remove lw2 && layers_on "$data" ||
		echo "$what: end of the log;"
	losetup -d "$logdev"
	flushes=$(value flushes "$(crashlog list log2 --summary)")
	for ((i = 1; i <= second_cuts; i++)); do
		flush=$((RANDOM % (flushes + 1)))
		cp --sparse=always "$2" scratch
		out=$(crashlog replay log2 scratch --to-flush $flush --discard junk \
			--subset --seed $((seed + i)) --torn 2>>hazards) || echo "$what: replay: $out;"
		second_state "$what, cut again behind flush $flush"
	done
	resumed=$before
}

second_state()	# second_state WHAT
{
	local out
	twice=$((twice + 1))
	if [ -z "$(open_disk)" ]; then
		echo "$1: does not open: $(cat .open);"
		return
	fi
	same "$1"
	if interrupted; then
		resumed_twice=$((resumed_twice + 1))
		finish_job "$1"
		same "$1, resumed"
	fi
	out=$(dmchain close d 2>&1) || echo "$1: close: $out;"
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
	local name=$1 data logdev flushes flush next out bad="" resumed=0 twice=0 \
		resumed_twice=0 progress=0 reporter again
	base_format=$2 whole=$3 slack=$4
	shift 4
	again=("$@")
	set -- "$@" --speed 1M --background
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
	rm -f reported
	report 2>>report.out &
	reporter=$!
	run_ok "$name: random load" crashwrite run /dev/mapper/d --log ops --mark-dev lw --size 8M \
		--hook "$TMP/hook" --hook-max 1 --hook-every 60 --ops ${OPS:-500} --threads 3 --max 32K \
		--flush-percent 10 --seed $seed
	# It goes on without the load for a while
	sleep 1.5
	touch reported
	wait $reporter
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
	crashlog list log --marks >marks
	echo "# $name: $flushes flushes, $(grep -c left- marks) reports"
	[ "$flushes" -gt 20 ]
	is $? 0 "$name: there were flushes"
	next=0
	: >tops
	for flush in $(points); do
		out=$(crashlog replay log target --from $next --to-flush $flush \
			--discard junk 2>>hazards) || { bad+="replay: $out;"; break; }
		next=$(value next "$out")
		state "flush $flush" target "$(value mark "$out")" "$next" >.bad
		bad+=$(cat .bad)
		[ $flush -lt "$flushes" ] || break
		cp --sparse=always target copy
		out=$(crashlog replay log copy --from "$next" --to-entry "$next" \
			--subset --seed $flush --torn 2>>hazards) || { bad+="subset: $out;"; break; }
		state "behind flush $flush" copy "$(value mark "$out")" "$next" >.bad
		bad+=$(cat .bad)
	done
	sort tops | uniq -c | sed "s/^/# states with top:/"
	echo "# $name: $resumed jobs were resumed, $progress had reported what is left;" \
		"$twice second cuts, $resumed_twice resumed"
	[ $resumed -gt 0 ] && [ $twice -gt 0 ]
	is $? 0 "$name: some states have a job to be resumed, and to be cut again"
	judged=$((judged + progress))
	is "$bad" "" "$name: all states after power cuts are good"
	run_ok "$name: no layers" layers_off
	losetup -d "$data"
}

# A stream reports what is in the layer, durable or not; its maps are flushed each
# second, and nothing else flushes them here. Two seconds' worth and a batch may go.
idle_stream()	# idle_stream EVERY: look at every so manieth report
{
	local data logdev entry left reported least=8388608 bad="" name="stream, idle" \
		base_format=chain again=(dmchain stream d) next=0 out most=0
	rm -f data log target scratch reported
	truncate -s $((layers * layer_mib))M data
	truncate -s 300M log
	data=$(losetup -f --show data)
	logdev=$(losetup -f --show log)
	layers_on "$data"
	dmchain create /dev/mapper/lay0 --size 8M >/dev/null
	dmchain open d /dev/mapper/lay0
	head -c 8M /dev/zero | tr '\0' s |
		dd of=/dev/mapper/d bs=1M iflag=fullblock oflag=direct status=none
	dmchain snapshot d=/dev/mapper/lay1 >/dev/null
	dmchain close d
	layers_off
	cp --sparse=always data target
	dmsetup create lw --table "0 $(blockdev --getsz "$data") log-writes $data $logdev"
	layers_on /dev/mapper/lw
	dmchain open d /dev/mapper/lay1
	run_ok "$name: it begins" dmchain stream d --speed 1M --background
	report 2>>report.out &
	sleep 6
	touch reported
	wait $!
	dmchain job speed d 0 >/dev/null 2>&1
	run_ok "$name: it ends" dmchain job wait d
	run_ok "$name: close" dmchain close d
	rmmod dm_chain
	layers_off
	dmsetup remove lw
	losetup -d "$logdev"
	losetup -d "$data"

	truncate -s $((layers * layer_mib))M scratch
	data=$(losetup -f --show scratch)
	layers_on "$data"
	crashlog list log --marks | grep left- >marks
	# What no flush has covered comes behind the mark in the log
	while read -r entry reported; do
		out=$(crashlog replay log target --from $next --to-entry $((entry + 1)) --discard junk) ||
			{ bad+="replay: $out;"; break; }
		next=$(value next "$out")
		cp --sparse=always target scratch
		dmchain open d /dev/mapper/lay1 >.open 2>&1 || { bad+="does not open: $(cat .open);"; break; }
		left=$(bytes_left)
		[ $((left - reported)) -le $most ] || most=$((left - reported))
		[[ $left =~ ^[0-9]+$ ]] && [ $((left - reported)) -le $((3 << 20)) ] ||
			bad+="at $entry: $left bytes are left, $reported were reported;"
		least=$reported
		dmchain close d
	done < <(awk -v each="$1" 'NR % each == 0 { sub(/left-/, "", $NF); print $1, $NF }' marks)
	is "$bad" "" "$name: what is lost is no more than about a second's work"
	[ "$least" -lt $((5 << 20)) ]
	is $? 0 "$name: more than that had been done by the last cut"
	echo "# $name: $(wc -l <marks) reports, at most $most bytes were not durable"
	layers_off
	losetup -d "$data"
}

judged=0 each=2
[ -z "${LONG-}" ] || each=1
idle_stream $each
power_cuts "commit of lower layers" chain "" "" dmchain commit d --top 1 --base 3
power_cuts "active commit" chain --no-whole "" dmchain commit d --base 3
if [ -n "${LONG-}" ]; then
	power_cuts "stream" chain --no-whole any dmchain stream d
	power_cuts "active commit, raw" raw --no-whole "" dmchain commit d --base 3
fi

[ $judged -gt 0 ]
is $? 0 "some jobs had reported what is left"

done_testing
