# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# For tests of several disks at once; sourced after chain.sh. $data is the device that
# the layers are on.

data=

suspended()	# how many disks are
{
	cat /sys/block/dm-*/dm/suspended | grep -c 1
}

value()		# value NAME LINE: the number in "... NAME=number ..."
{
	local rest=" $2"
	rest=${rest##* "$1"=}
	echo "${rest%% *}"
}

# layers_on DEVICE N: /dev/mapper/lay0 and so on
layer_mib=14
layers_on()
{
	local i mib=$((layer_mib * 2048))
	for ((i = 0; i < $2; i++)); do
		# A disk as large as lay4 has to fit into lay5
		dmsetup create lay$i --table "0 $((i == 4 ? 8 * 2048 : mib)) linear $1 $((i * mib))" || return
	done
}

layers_off()	# layers_off N
{
	local i
	for ((i = 0; i < $1; i++)); do
		dmsetup remove lay$i || return
	done
}

# broken I FROM TO: I/O to these sectors of lay$I, on $data, fails, flushes don't;
# none: it is mended
broken()
{
	local mib=$((layer_mib * 2048)) at=$(($1 * layer_mib * 2048))
	if [ $# = 1 ]; then
		echo "0 $mib linear $data $at"
	else
		[ "$2" = 0 ] || echo "0 $2 linear $data $at"
		echo "$2 $(($3 - $2)) error"
		[ "$3" = $mib ] || echo "$3 $((mib - $3)) linear $data $((at + $3))"
	fi | dmsetup load lay"$1"
	# What is on its way, and flushes, must not wait for this one
	dmsetup resume --noflush lay"$1"
}

# judge_cuts CUTS: the log between its marks "before" and "behind" is replayed to so
# many of its entries, and with some of the writes behind; state() judges each image
# and notes in the file sides which side all are at
judge_cuts()
{
	local first last next=0 entry out bad=""
	crashlog list log --marks >marks
	first=$(awk '$NF == "before" { print $1 }' marks)
	last=$(awk '$NF == "behind" { print $1 }' marks)
	echo "# $((last - first)) entries"
	{
		seq "$first" $((last + 1)) | shuf -n "$1"
		echo "$first"
		echo "$last"
	} | sort -nu >.points
	: >sides
	while read -r entry; do
		out=$(crashlog replay log target --from $next --to-entry "$entry" --discard junk 2>>hazards) ||
			{ bad+="replay: $out;"; break; }
		next=$(value next "$out")
		state "entry $entry" target "$entry" >.bad
		bad+=$(cat .bad)
		cp --sparse=always target copy
		out=$(crashlog replay log copy --from "$next" --to-entry "$next" \
			--subset --seed $entry --torn 2>>hazards) || { bad+="subset: $out;"; break; }
		state "behind entry $entry" copy "$entry" >.bad
		bad+=$(cat .bad)
	done <.points
	sort sides | uniq -c | sed 's/^/# states with all:/'
	is "$bad" "" "all states after power cuts are all or none, and good"
	is "$(sort -u sides | xargs)" "new old" "among them both"
}
