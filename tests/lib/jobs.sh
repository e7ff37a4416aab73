# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# For test scripts of jobs; sourced after chain.sh, in a folder of its own. The
# disk is d, its model the file m; $ops is how much random I/O there is to be,
# $kind options that it always has.

ops=200 kind= seed=0

# write MODEL-OPTIONS...: random I/O that may be what it is
write()
{
	# shellcheck disable=SC2086 # a list of options
	iomodel run /dev/mapper/d --model m --threads 2 --max 64K $kind "$@" >iomodel.out 2>&1 ||
		{ fail "random I/O" "$(tail -n 5 iomodel.out)"; return 1; }
}

# stack DEPTH SIZE [BLOCK-SIZES] [BASE-FORMAT]: layers 0.img and so on, each with
# writes of its own; m is what the disk reads as
stack()
{
	local depth=$1 size=$2 blocks format=${4:-chain} i
	read -r -a blocks <<<"${3:-4K}"
	rm -f ./*.img m m.*
	if [ "$format" = raw ]; then
		truncate -s "$size" 0.img
		dmchain open d 0.img --format raw
	else
		dmchain create 0.img --size "$size" --block-size "${blocks[0]}" >/dev/null
		dmchain open d 0.img
	fi
	for ((i = 0; i < depth; i++)); do
		if [ $i -gt 0 ]; then
			dmchain close d
			if [ $i = 1 ] && [ "$format" = raw ]; then
				dmchain create 1.img --backing 0.img --backing-format raw \
					--block-size "${blocks[1 % ${#blocks[@]}]}" >/dev/null
			else
				dmchain create $i.img --backing $((i - 1)).img --backing-format chain \
					--block-size "${blocks[i % ${#blocks[@]}]}" >/dev/null
			fi
			dmchain open d $i.img
		fi
		if [ $i = 0 ] && [ "$format" = raw ]; then
			write --ops 60 --seed $((++seed)) --no-discard
		else
			write --ops 60 --seed $((++seed)) --block-size "${blocks[i % ${#blocks[@]}]}"
		fi
	done
}

# under COMMAND...: it runs while random I/O does, and both end well
under()
{
	local name=$1 job status
	shift
	"$@" >job.out 2>&1 &
	job=$!
	write --ops $ops --seed $((++seed)) --verify-end && ok "$name: as the model"
	wait $job
	status=$?
	is "$status$(grep -vE '%| done| is ready| now lies at ' job.out | head -n 3)" 0 "$name: the job ends well"
}

layers()
{
	json '[.layers[].path | sub(".*/"; "") | sub(".img"; "")] | join(" ")' dmchain info d
}

# closed TOP: the disk is the model after close and open, its layers are sound
closed()
{
	local name=$1 top=$2 bad="" f
	run_ok "$name: close" dmchain close d
	# shellcheck disable=SC2013 # words
	for f in $(json '.layers[] | select(.format == "chain") | .path' dmchain info "$top" "${@:3}"); do
		dmchain check "$f" >check.out 2>&1 || bad+=" $f: $(tail -n 1 check.out);"
	done
	is "$bad" "" "$name: its layers are sound"
	run_ok "$name: open" dmchain open d "$top" "${@:3}"
	run_ok "$name: all is there" iomodel verify /dev/mapper/d --model m
}

used()	# used FILE: bytes on the file system
{
	echo $(($(stat -c %b "$1") * 512))
}

done_testing_jobs()
{
	is "$(losetup -n -l 2>/dev/null)" "" "no loop device is left"
	done_testing
}
