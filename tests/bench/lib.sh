# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# What the measurements in the VM share. All on RAM disks, so that a target's own work
# is what differs. A result is a line "WORKLOAD:TARGET NS [LIMIT]" in $results; table.awk
# does the rest. Disks are made when a measurement wants them: with ONLY= few are.

blocks=32768				# of 4 KiB: an area of 128 MiB
size=$((blocks * 4096))
sectors=$((size / 512))
bs=4096					# of what measure() measures
jobs=1					# of fio, each of which does so many I/Os
limit=					# the ratio that it is to keep to, if any
results=/tmp/results
: >$results

die()
{
	echo "bench: $*" >&2
	exit 1
}

wanted()	# wanted NAME
{
	[ -z "$ONLY" ] || [[ $1 =~ $ONLY ]]
}

result()	# result NAME NS
{
	echo "$1 $2 $limit" >>$results
	echo "# $1 $2" >&2
}

# What a debug kernel or module does beside the work would be measured, too
load_module()
{
	if [ -e /proc/lockdep ] || [ -e /sys/kernel/debug/kmemleak ] || grep -qw __kasan_check_read /proc/kallsyms; then
		die "this is a debug kernel: its figures mean nothing"
	fi
	modprobe dm-chain
	! grep -q '__ksymtab_chain_locks_try' /proc/kallsyms ||
		die "dm-chain.ko was built for KUnit: its figures mean nothing"
}

# tables TITLE [BASE]: all that was measured, beside BASE (dm-linear)
tables()
{
	[ -s $results ] || return 0
	echo
	echo "Linux $(uname -r), $(fio --version), $1, $ROUNDS rounds:"
	echo
	/src/tests/bench/table.awk -v base_of="${2:-linear}" $results
}

#----------------------------------------------------------------
# Devices
#----------------------------------------------------------------

# ram_disks COUNT MIB: they take memory when they are written
ram_disks()
{
	modprobe brd rd_nr="$1" rd_size=$(($2 * 1024)) max_part=0
	next_ram=0
}

# RAM disks that nobody has, in $ram (the first) and ${rams[@]}
take_rams()	# take_rams COUNT
{
	local i
	rams=()
	for ((i = 0; i < $1; i++)); do
		rams+=("/dev/ram$((next_ram++))")
		[ -b "${rams[i]}" ] || die "there is no ${rams[i]}"
	done
	ram=${rams[0]}
}

take_ram()
{
	take_rams 1
}

fill()		# fill DEVICE [MIB]
{
	dd if=/dev/zero of="$1" bs=1M count="${2:-128}" oflag=direct status=none
}

make_linear()
{
	take_ram
	fill "$ram"
	dmsetup create linear --table "0 $sectors linear $ram 0"
}

# warm NAME: reads build the lookup below the top, a chunk for each miss
warm()
{
	local before=none now i
	for ((i = 0; i < 40; i++)); do
		dd if="/dev/mapper/$1" of=/dev/null bs=1M iflag=direct status=none
		now=$(dmsetup status "$1")
		[ "$now" != "$before" ] || [[ $now != *unmerged=0* ]] || return 0
		before=$now
	done
	die "$1: the lookup does not settle: $now"
}

# make_chain NAME SIZE AREAS LAYERS: as mkchain makes it, on RAM disks of its own
make_chain()
{
	take_rams "$4"
	mkchain "$2" "$3" "${rams[@]}"
	dmchain open "$1" "${rams[-1]}"
	[ "$(dmchain info "$1" --json | jq '.layers | length')" = "$4" ] ||
		die "$1: has not $4 layers"
}

# One layer, on $one_ram, and 64: all is in the top
make_one()
{
	make_chain one $size 0:$size:0 1
	# shellcheck disable=SC2034 # scripts use it
	one_ram=$ram
}

make_64()
{
	make_chain 64 $size 0:$size:0 64
}

# need DEVICE: /dev/mapper/NAME is made by make_NAME
need()
{
	[ -e "$1" ] || "make_${1##*/}"
}

#----------------------------------------------------------------
# Measuring
#----------------------------------------------------------------

# run_fio NAME DEVICE RW IOS [OPTIONS]: its time in ms, in $ms. Without statistics of
# devices: fio reads all that there are, which takes longer than the work with 1024.
run_fio()
{
	local name=$1 dev=$2 rw=$3 ios=$4 ran out=/tmp/fio.json
	shift 4
	fio --name=m --filename="$dev" --rw="$rw" --bs=$bs --size=$size \
		--io_size=$((ios * bs)) --number_ios="$ios" --direct=1 \
		--ioengine=libaio --iodepth=1 --randrepeat=1 --gtod_reduce=1 \
		--disk_util=0 --thread --output-format=json --output=$out "$@" ||
		die "$name: fio failed"
	ms=$(jq '[.jobs[] | .read.runtime + .write.runtime] | max' $out)
	ran=$(jq -r '[.jobs[] | .read, .write]
		| "\(map(.total_ios) | add) I/Os, \(map(.io_bytes) | add) bytes"' $out)
	[ "$ran" = "$((jobs * ios)) I/Os, $((jobs * ios * bs)) bytes" ] ||
		die "$name: $ran, not $jobs times $ios of $bs bytes"
}

# measure NAME DEVICE RW IOS [OPTIONS]
measure()
{
	run_fio "$@"
	[ "$ms" -ge 200 ] || die "$1: $ms ms are too few to be measured"
	result "$1" $((ms * 1000000 / $4))
}

# hit NAME DEVICE RW [OPTIONS]: each block twice, more or less
hit()
{
	wanted "$1" || return 0
	need "$2"
	measure "$1" "$2" "$3" $((2 * blocks)) --norandommap "${@:4}"
}
