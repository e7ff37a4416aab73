# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# For tests of power cuts, each layer on a disk of its own with a volatile cache of its
# own (tests/tools/cutdisk.c); sourced after chain.sh. Layers are /dev/nbd0 and so on,
# which show what lies in live/; the folder is $TMP.
#
# An operation is two functions: prep fills layers, run does it, with marks "before" and
# "behind" in the log. What it leaves is judged by the function $judge, called with what
# it is, the last mark of crashwrite before the cut, and the request up to which marks
# count; it prints what is wrong, and to the file sides how far the operation was. It,
# $new and $states are the script's.
# shellcheck disable=SC2154

total=0 first=0 last=0 behind=0 runs=0 seed=0
cut_sizes=(14M 14M 14M 14M 8M 14M)
ctl=$TMP/ctl

tell()
{
	cutdisk tell "$ctl" "$@" >/dev/null
}

value()		# value NAME LINE: the number in "... NAME=number ..."
{
	local rest=" $2"
	rest=${rest##* "$1"=}
	echo "${rest%% *}"
}

start_disks()
{
	local i
	modprobe nbd nbds_max=${#cut_sizes[@]} max_part=0 || return
	mkdir live
	blank
	cutdisk serve "$ctl" live ${#cut_sizes[@]} >serve.out 2>&1 &
	on_exit tell stop
	wait_for 20 tell end || return
	for i in "${!cut_sizes[@]}"; do
		wait_for 20 test "$(blockdev --getsz /dev/nbd$i)" != 0 || return
	done
}

blank()		# all disks have nothing but zeroes
{
	local i
	for i in "${!cut_sizes[@]}"; do
		rm -f .blank
		truncate -s "${cut_sizes[i]}" .blank
		# The file stays the same one, it is being served
		cp --sparse=always .blank live/$i
	done
	[ ! -e "$ctl" ] || tell end
}

copy_disks()	# copy_disks FROM TO
{
	local i
	mkdir -p "$2"
	rm -f "$2/upto"
	for i in "${!cut_sizes[@]}"; do
		cp --sparse=always "$1/$i" "$2/$i"
	done
}

# Nothing stays open, whatever a bad state has led to
all_closed()
{
	local d
	for d in $(dmsetup ls --target chain | awk '{ print $1 }'); do
		[[ $d != No ]] || return 0
		dmchain close "$d" >.close 2>&1 || dmsetup remove --retry "$d" >>.close 2>&1
	done
	[ -z "$(dmsetup ls --target chain | grep -v '^No')" ] || cat .close
}

# reboot: a mark of this boot would mean that a copy of an open layer is opened
reboot()
{
	all_closed
	! lsmod | grep -q '^dm_chain ' || rmmod dm_chain
}

# record LOG RUN...: the disks are as in start/ before it
record()
{
	local log=$1 status=0
	shift
	copy_disks live start
	tell begin "$PWD/$log"
	"$@" || status=$?
	tell end
	return $status
}

# cut_to WHAT N KEEP BASE LOG OPTIONS...: live/ is what the cut leaves; $mark
cut_to()
{
	local out
	out=$(cutdisk replay "$5" --cut "$2" --keep "$3" --seed $((seed + $2)) --base "$4" \
		--to live --disks ${#cut_sizes[@]} "${@:6}" 2>&1) || { echo "$1: replay: $out;"; return 1; }
	mark=$(value mark "$out")
	tell end
}

# judge_cut N KEEP OPTIONS...: what is wrong behind the N-th request of the log
judge_cut()
{
	local what="cut $1, $2" mark upto=$1
	[ "$2" != torn ] || upto=$(($1 - 1))
	cut_to "$what" "$1" "$2" base log "${@:3}" || return
	"$judge" "$what" "$mark" "$upto" >.judged
	[ "$upto" -lt "$behind" ] || [ "$(tail -n 1 sides)" = "$new" ] ||
		echo "$what: it was done, and is undone;" >>.judged
	[ ! -s .judged ] || all_closed
	cat .judged
}

# Headers (copies at 0 and 512 KiB) of one disk are written before those of another: all
# rests on their order; the first of them are those that must not be the other way round
header_writes()
{
	cutdisk list log | awk -v from="$first" -v to="$last" '$1 >= from && $1 <= to && $3 ~ /^write/ {
		split($4, at, "+")
		if (at[1] != 0 && at[1] != 524288)
			next
		if (disk && disk != $2)
			print number, "none"
		disk = $2
		number = $1
	}' | head -n 4
}

# Each request; or so many: from where the operation begins, at its end, the last, and
# behind headers (or what $also says, which may say what is kept); and what is kept, in
# turn. What had to be durable by then shows best if nothing is
points()
{
	local n keep i=0 keeps=(torn some disks none none)
	if [ -n "$every" ]; then
		keeps=(torn disks none some all none)
		seq 1 "$every" "$total"
	else
		for ((n = 0; n < states; n++)); do
			echo $((first + (last - first) * n / states))
			echo $((last - n * 2))
		done
		echo "$total"
		"${also:-header_writes}"
	fi | sort -n | uniq | awk '$1 >= 0' | while read -r n keep; do
		echo "$n ${keep:-${keeps[i++ % ${#keeps[@]}]}}"
	done
}

find_marks()
{
	total=$(cutdisk list log | tail -n 1 | cut -d ' ' -f 1)
	cutdisk list log marks >marks
	first=$(awk '$NF == "before" { print $1 }' marks)
	last=$(awk '$NF == "behind" { print $1 }' marks)
	behind=${last:-$((total + 1))}
	: "${first:=1}" "${last:=$total}"
}

# lies NAME DISK...: one that says it has flushed, or all of them, has to be found out
lies()
{
	local name=$1 liar n bad
	for liar in "${@:2}"; do
		copy_disks start base
		bad=""
		for n in 2 3 1 4 5; do
			judge_cut $((first + (total - first) * n / 5)) none --lie "$liar" >.bad
			bad=$(cat .bad)
			[ -z "$bad" ] || break
			# Nothing of a liar's goes to the base, but of the others'
			copy_disks start base
		done
		[ -n "$bad" ] && [[ $bad != *": replay: "* ]]
		is $? 0 "$name: disks that don't flush ($liar) are found out"
		echo "# $name, $liar: ${bad:0:200}"
	done
}

# shellcheck disable=SC2317 # called by wait_for
gone()		# gone PROCESS
{
	! kill -0 "$1"
}

# dies NAME N: there is no power from the N-th request on. Whatever fails, all comes
# down, and opens again
dies()
{
	local name="$1, no power from request $2 on" keep bad=""
	copy_disks start live
	tell begin "$PWD/log"
	tell die "$2"
	run >die.out 2>&1 &
	# Commands that each fail, and are tried again, take their time on a slow host
	wait_for 180 gone $!
	is $? 0 "$name: nothing hangs"
	[ $tap_failed = 0 ] || tail -n 5 actions die.out 2>/dev/null | sed 's/^/#   /'
	within 60 "$name: all is closed" all_closed
	run_ok "$name: the module goes" rmmod dm_chain
	tell end
	find_marks
	copy_disks start base
	for keep in none disks; do
		judge_cut "$total" $keep >.bad
		bad+=$(cat .bad)
	done
	is "$bad" "" "$name: what is left is good"
}

# no_power NAME N: so many times, anywhere in the operation
no_power()
{
	local i from=$first to=$last
	for ((i = 0; i < $2; i++)); do
		dies "$1" $((from + RANDOM % (to - from + 1)))
	done
}

wanted()	# wanted NAME: ONLY is a regular expression in the environment
{
	[[ $1 =~ ${ONLY-} ]]
}

# operation NAME SIDES...: one run and what the cuts leave; all SIDES must be among it
operation()
{
	local name=$1 n keep bad="" begin=$SECONDS ran
	wanted "$name" || return 0
	shift
	seed=$((${SEED:-0} + 1000 * ++runs))
	blank
	run_ok "$name: layers" prep
	reboot
	run_ok "$name" record log run
	reboot
	find_marks
	ran=$((SECONDS - begin))
	points >.points
	copy_disks start base
	: >sides
	resumed=0 twice=0
	while read -r n keep; do
		judge_cut "$n" "$keep" >.bad
		bad+=$(cat .bad)
	done <.points
	echo "# $name: $total requests, $first to $last; $(wc -l <.points) states," \
		"$ran s to run, $((SECONDS - begin - ran)) s to judge; $resumed were resumed, $twice cut again"
	sort sides | uniq -c | sed 's/^/# /'
	is "$bad" "" "$name: all states after power cuts are good"
	is "$(grep -oE "$(printf '%s\n' "$@" | paste -sd '|')" sides | sort -u | paste -sd ,)" \
		"$(printf '%s\n' "$@" | sort -u | paste -sd ,)" "$name: some are before it, some behind it"
}

#----------------------------------------------------------------
# Disk d of 8 MiB, written by crashwrite
#----------------------------------------------------------------

read_disk()
{
	dd if=/dev/mapper/d bs=1M count=8 iflag=direct status=none
}

# fill_layers N: each with writes of its own but the top, which holds nothing
fill_layers()
{
	local i
	dmchain create /dev/nbd0 --size 8M >/dev/null && dmchain open d /dev/nbd0 || return
	for ((i = 0; i < $1; i++)); do
		[ $i = 0 ] || dmchain snapshot d=/dev/nbd$i >/dev/null || return
		[ $i -lt $(($1 - 1)) ] || [ "$1" = 1 ] || break
		crashwrite run /dev/mapper/d --log fill --ops 40 --threads 2 --size 8M \
			--max 64K --seed $((seed + i)) --parallel-flush >/dev/null || return
	done
	read_disk >initial
	dmchain close d
}

load()		# load OPTIONS...
{
	crashwrite run /dev/mapper/d --log ops --mark-dev "$ctl" --size 8M --ops "$ops" \
		--threads 3 --max 32K --flush-percent 10 --parallel-flush --fua-any \
		--seed "$seed" "$@" >load.out 2>&1
}

by_log()	# by_log MARK: nothing but what a cut may leave of the load
{
	crashwrite check /dev/mapper/d --log ops --mark "$1" --initial initial $check 2>&1
}

# After a cut nobody writes: what was read then stays
same()		# same WHAT
{
	local out
	out=$(read_disk | cmp was - 2>&1) || echo "$1: $out;"
}

sound()		# sound WHAT PATH...
{
	local what=$1 f out
	for f in "${@:2}"; do
		out=$(dmchain check "$f" 2>&1) || echo "$what: check of $f: $(paste -sd ' ' <<<"${out:0:300}");"
	done
}
