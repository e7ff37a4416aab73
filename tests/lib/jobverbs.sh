# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# For test scripts that drive jobs by their verbs; sourced after chain.sh, in a
# folder of its own. The disk is d, its layers d0.img and so on; $id the job that
# was begun last.

# stack COUNT [FORMAT]: a base and COUNT layers on it, 6 MiB in each, of which the
# next hides 3. It is made once, then copied.
stack()
{
	local saved=saved-$1-${2:-chain}
	rm -f d[0-9]*.img
	[ -e "$saved" ] || build_stack "$saved" "$1" "${2:-chain}"
	cp --sparse=always "$saved"/* .
	dmchain open d "d$1.img"
}

build_stack()
{
	local saved=$1 count=$2 format=$3 i
	if [ "$format" = raw ]; then
		truncate -s 48M d0.img
	else
		dmchain create d0.img --size 48M >/dev/null
	fi
	dmchain open d d0.img --format "$format"
	for ((i = 0; i <= count; i++)); do
		[ $i = 0 ] || dmchain snapshot d=d$i.img >/dev/null
		yes "layer $i" | dd of=/dev/mapper/d bs=1M count=6 seek=$((3 * i)) \
			iflag=fullblock oflag=direct conv=notrunc status=none
	done
	sha256sum </dev/mapper/d >sum
	dmchain close d
	mkdir "$saved"
	mv sum d[0-9]*.img "$saved"
}

# same NAME: the disk is what it was
same()
{
	echo 3 >/proc/sys/vm/drop_caches
	is "$(sha256sum </dev/mapper/d)" "$(<sum)" "$1"
}

paths()
{
	json '[.layers[].path | sub(".*/"; "") | sub(".img"; "")] | join(" ")' dmchain info d
}

# Layers that the table opens for writing
writable()
{
	dmsetup table d | grep -oE '(chain|raw) rw' | wc -l
}

# begin NAME COMMAND...: it runs in the background, as job $id
begin()
{
	run_ok "$@" --background --json
	id=$(output | jq -r .id)
}

of()		# of KEY [JOB]
{
	json ".[\"$1\"]" dmchain job show "${2:-$id}"
}

status_is()	# status_is STATUS [JOB]
{
	[ "$(of status "${2-}")" = "$1" ]
}

at_least()	# at_least BYTES [JOB]
{
	[ "$(of current-progress "${2-}")" -ge "$1" ]
}

threads()
{
	pgrep -c dm-chain/job
}
