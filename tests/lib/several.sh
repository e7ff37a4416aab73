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

# broken I FROM TO: writes of these sectors of lay$I, on $data, fail; none: it is mended
broken()
{
	local mib=$((layer_mib * 2048)) at=$(($1 * layer_mib * 2048))
	if [ $# = 1 ]; then
		dmsetup load lay$1 --table "0 $mib linear $data $at"
	else
		{
			[ "$2" = 0 ] || echo "0 $2 linear $data $at"
			echo "$2 $(($3 - $2)) flakey $data $((at + $2)) 0 600 1 error_writes"
			[ "$3" = $mib ] || echo "$3 $((mib - $3)) linear $data $((at + $3))"
		} >.broken
		dmsetup load lay$1 .broken
	fi
	# What is on its way, and flushes, must not wait for this one
	dmsetup suspend --noflush lay$1 && dmsetup resume lay$1
}
