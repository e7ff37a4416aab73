#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# In the VM: large and many. How long 64 layers of 1 TiB take to open, what their maps
# take in memory; what create, open, snapshot and close cost with up to $CHAINS disks
# that stand on one base, and what each disk takes of the kernel's memory.

set -euo pipefail
# shellcheck source=tests/bench/lib.sh
. "$(dirname "$0")/lib.sh"

CHAINS=${CHAINS:-100}
layers=64
load_module
cd /tmp

now()		# in us
{
	echo $(($(date +%s%N) / 1000))
}

meminfo()	# meminfo KEY: KiB
{
	awk -v key="$1:" '$1 == key { print $2 }' /proc/meminfo
}

# What the kernel has for itself, KiB: neither free, nor a cache, nor a program's
kernel_kib()
{
	sync
	echo 3 >/proc/sys/vm/drop_caches
	# The programs are not to be read again by who is measured
	dmchain list >/dev/null
	dd if=/dev/zero of=/dev/null count=1 status=none
	echo $(($(meminfo MemTotal) - $(meminfo MemFree) - $(meminfo Buffers) -
		$(meminfo Cached) - $(meminfo AnonPages)))
}

#----------------------------------------------------------------
# 64 layers of 1 TiB. Their maps are the same, so that they can be on one device: of
# their own they would take 8 GiB. Where their data would be is a hole.
#----------------------------------------------------------------

tib=$((1 << 40))

field()		# field FILE OFFSET: of a header (struct dm_chain_disk_header)
{
	od -A n -t u8 -j "$2" -N 8 "$1" | tr -d ' '
}

# big_device NAME RAM-DISK MAP-RAM-DISK MAP DATA: where map and data begin, in sectors
big_device()
{
	dmsetup create "$1" <<-END
		0 $4 linear $2 0
		$4 $(($5 - $4)) linear $3 0
		$5 $((tib / 512 + (1 << 20))) zero
	END
}

make_devices()
{
	local map data i
	modprobe brd rd_nr=$((layers + 1)) rd_size=$((192 << 10)) max_part=0
	# Where they begin says a header of such a layer
	big_device sample /dev/ram0 /dev/ram1 2048 4096
	mkchain --same $tib 0:4096:0 /dev/mapper/sample
	map=$(($(field /dev/mapper/sample 112) / 512))
	data=$(($(field /dev/mapper/sample 120) / 512))
	dmsetup remove sample
	for ((i = 0; i < layers; i++)); do
		big_device big$i /dev/ram$i /dev/ram$layers $map $data
	done
}

status_value()	# status_value DISK KEY
{
	dmsetup status "$1" | tr ' ' '\n' | sed -n "s/^$2=//p"
}

# big NAME AREAS
big()
{
	local before start opened read ready maps after
	wanted "open-$1" || return 0
	# shellcheck disable=SC2046
	mkchain --same $tib "$2" $(seq -f /dev/mapper/big%g 0 $((layers - 1)))
	before=$(kernel_kib)
	start=$(now)
	dmchain open big /dev/mapper/big$((layers - 1))
	opened=$(now)
	dd if=/dev/mapper/big of=/dev/null bs=4k count=1 skip=$((tib / 8192 - 77)) iflag=direct status=none
	read=$(now)
	while [ "$(status_value big unread)" != 0 ]; do sleep 0.2; done
	ready=$(now)
	after=$(kernel_kib)
	maps=$(dmchain info big --json | jq '[.layers[]["map-bytes"]] | add / 1024 | floor')
	dmchain close big
	awk -v name="$1" -v o=$((opened - start)) -v r=$((read - opened)) -v a=$((ready - start)) \
		-v m="$maps" -v k=$((after - before)) -v n=$layers \
		'BEGIN { printf "%-12s %10.1f %10.1f %10.0f %14.2f %14.2f\n", name, o / 1000,
			r / 1000, a / 1000, m / 1024 / n, k / 1024 / n }' >>big-table
	tail -n 1 big-table >&2
}

# 1 %: 160 pieces of 64 MiB
pieces()
{
	local i list=""
	for ((i = 0; i < 160; i++)); do
		list+=,$((i * (tib / 160 >> 26 << 26))):64M:0
	done
	echo "${list#,}"
}

bigs()
{
	wanted open- || return 0
	make_devices
	: >big-table
	big "1 %" "$(pieces)"
	big "100 %" "0:$tib:0"
	big "every other" "0:$tib:4K"
	dmsetup remove_all
	rmmod brd
	cat <<-END

	A chain of $layers layers of 1 TiB: ms until it is open, for the first read of 4 KiB
	then, and until all maps have been read; MiB of memory of a layer's map, and of the
	kernel altogether, for each layer:

	allocated          open       read    all read     MiB of map  MiB in all
	END
	cat big-table
}

#----------------------------------------------------------------
# Many disks
#----------------------------------------------------------------

# timed WHAT COMMAND...: its us are added to what is known of this step
timed()
{
	local what=$1 start
	shift
	start=$(now)
	"$@" >/dev/null
	took[$what]+=" $(($(now) - start))"
}

median()
{
	tr ' ' '\n' <<<"$1" | grep . | sort -n | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'
}

# Depth 4: the base, and three layers of its own
chain()		# chain I
{
	timed create dmchain create "c$1-1.img" --backing base.img --backing-format raw
	timed open dmchain open "c$1" "c$1-1.img"
	timed snapshot dmchain snapshot "c$1=c$1-2.img"
	timed snapshot dmchain snapshot "c$1=c$1-3.img"
}

# The last ones stand for all that there are by then
report()	# report I
{
	local i line=$1
	for ((i = $1 - 4; i <= $1; i++)); do
		timed close dmchain close "c$i"
		timed open dmchain open "c$i" "c$i-3.img"
	done
	for i in create open snapshot close; do
		line+=" $(median "${took[$i]}")"
	done
	# shellcheck disable=SC2086
	awk -v k=$(($(kernel_kib) - alone)) '{ printf "%6d %10.1f %10.1f %10.1f %10.1f %16.1f\n",
		$1, $2 / 1000, $3 / 1000, $4 / 1000, $5 / 1000, k / $1 }' <<<"$line" |
		tee -a many-table >&2
}

many()
{
	local i alone loops
	declare -A took=()
	wanted many || return 0
	modprobe loop max_loop=0
	truncate -s 64M base.img
	: >many-table
	# Caches of slabs and the like are there then
	chain 0
	# Before there were more of them: memory that has been in use may be used again
	for ((i = 0; i < 60; i++)); do truncate -s 64M "l$i.img"; done
	alone=$(kernel_kib)
	for ((i = 0; i < 60; i++)); do losetup --direct-io=on -f "l$i.img"; done
	loops=$((($(kernel_kib) - alone) / 60))
	for ((i = 0; i < 60; i++)); do losetup -d "$(losetup -n -O NAME -j "l$i.img")"; done
	alone=$(kernel_kib)
	for ((i = 1; i <= CHAINS; i++)); do
		[[ " 10 30 100 300 1000 " != *" $((i + 4)) "* ]] || took=()
		chain $i
		[[ " 10 30 100 300 1000 " != *" $i "* ]] || report $i
	done
	for ((i = 0; i <= CHAINS; i++)); do dmchain close "c$i"; done
	cat <<-END

	Disks of 4 layers on one base, image files: ms of a command with so many disks open,
	medians of 5 (snapshot, open: 10), KiB of the kernel's memory for each disk, of
	which its three loop devices take $((3 * loops)):

	 disks     create       open   snapshot      close     KiB per disk
	END
	cat many-table
}

bigs
many
