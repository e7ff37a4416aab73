#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# In the VM: writes of 512 bytes, less than a block: to blocks that the top holds, which
# is to cost what dm-linear costs, and to those that it has to make first.

set -euo pipefail
# shellcheck source=tests/bench/lib.sh
. "$(dirname "$0")/lib.sh"

load_module
ram_disks 70 400
bs=512

prepare()
{
	take_rams 2
	base_ram=$ram first_ram=${rams[1]}
	fill "$base_ram"
	fill "$first_ram" 160
}

# into NAME DEVICE: the first sector of each block, one block after the other, for fio
# can't keep account of random places that are not side by side
into()
{
	measure "$1" "$2" write:3584 $blocks
}

# chain_into NAME [BACKING...]: a new chain
chain_into()
{
	wanted "$1" || return 0
	dd if=/dev/zero of="$first_ram" bs=4k count=1 oflag=direct status=none
	dmchain create "$first_ram" --size $size --force "${@:2}" >/dev/null
	dmchain open first "$first_ram"
	into "$1" /dev/mapper/first
	dmchain close first
}

linear_into()
{
	wanted "$1" || return 0
	need "$2"
	into "$@"
}

measure_round()
{
	hit rewrite-512:linear /dev/mapper/linear randwrite
	limit=1.015
	hit rewrite-512:1 /dev/mapper/one randwrite
	limit=1.02
	hit rewrite-512:64 /dev/mapper/64 randwrite
	limit=
	linear_into first-512:linear /dev/mapper/linear
	chain_into first-512:over-nothing
	chain_into first-512:over-a-base --backing "$base_ram" --backing-format raw
}

prepare
for ((round = 1; round <= ROUNDS; round++)); do
	echo "# round $round" >&2
	measure_round
done
tables "512 bytes, queue depth 1"
