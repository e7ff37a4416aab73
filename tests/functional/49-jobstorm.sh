#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug,kcsan long=6.1,6.12,debug,kcsan mem=1024 smp=2 timeout=900 group=jobs
#
# Streams and commits under random I/O while tables are loaded, the disk is
# suspended and snapshots are made; closed with the module gone in between. What
# snapshots froze meanwhile reads as at their instant, offline. Explicit zeroes,
# odd sizes, and parents in other folders.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"
. "$(dirname "$0")/../lib/jobs.sh"

cd "$TMP" || exit 1
rounds=4
[ -z "${LONG-}" ] || rounds=25 ops=800
id=

begin()		# begin NAME COMMAND...: slowly, in the background, as job $id
{
	run_ok "$@" --speed 16K --background --json
	id=$(output | jq -r .id)
}

running()
{
	json .status dmchain job show "$id"
}

# At full speed from now on, and to its end
to_the_end()	# to_the_end NAME
{
	run_ok "$1: no limit" dmchain job speed "$id" 0
	run_ok "$1: it ends" dmchain job wait "$id"
	if [ "$(running)" = ready ]; then
		run_ok "$1: pivot" dmchain pivot d
	fi
}

# --- tables and suspends, while it runs and the guest does its work

storm()		# storm NAME: as long as the load runs, $rounds rounds at least
{
	local n bad=""
	write --ops $((ops * 2)) --seed $((++seed)) --verify-end --threads 3 &
	for ((n = 0; n < rounds || $(jobs -r | wc -l); n++)); do
		dmsetup table d | dmsetup reload d && dmsetup resume d || bad+=" reload $n;"
		dmsetup suspend d && dmsetup resume d || bad+=" suspend $n;"
		dmsetup suspend --noflush d && dmsetup resume d || bad+=" suspend --noflush $n;"
		[ $n -lt 200 ] || break
	done
	wait %%
	is "$?$bad" 0 "$1: $n rounds: as the model"
	is "$(running)" running "$1: it runs on"
}

for what in "stream" "stream --into 1 --base 3" "commit --top 1 --base 3" "commit --base 3" "raw commit --base 3"; do
	format=chain
	[ "${what%% *}" != raw ] || format=raw
	stack 4 8M 4K $format
	# shellcheck disable=SC2086 # words
	set -- ${what#raw }
	begin "storm: $what" dmchain "$1" d "${@:2}"
	storm "storm: $what"
	to_the_end "storm: $what"
	top=$(json '.layers[0].path' dmchain info d)
	[ "$top" = "$TMP/0.img" ] || format=chain
	closed "storm: $what" "$top" --format $format
	no_violations "storm: $what: the gate refused nothing"
	dmchain close d
done

# --- snapshots meanwhile: what they froze

for what in "commit d --top 2 --base 3" "stream d --into 1 --base 3" "stream d --base 2"; do
	stack 4 8M
	frozen=3.img
	printf '#!/bin/sh\nexec dmchain snapshot "d=%s/s$1.img" >/dev/null\n' "$TMP" >hook
	chmod +x hook
	# shellcheck disable=SC2086 # words
	begin "snapshots: $what" dmchain $what
	write --ops $ops --seed $((++seed)) --hook "$TMP/hook" --hook-every $((ops / 4)) --hook-max 3 \
		--hook-freeze --verify-end && ok "snapshots: $what: as the model"
	is "$(running)" running "snapshots: $what: it runs on"
	to_the_end "snapshots: $what"
	closed "snapshots: $what" s3.img
	dmchain close d
	for n in 1 2 3; do
		run_ok "snapshots: $what: what number $n froze" dmchain compare $frozen m.$n --format-b raw
		frozen=s$n.img
	done
done

# --- the module goes and comes back

for what in "stream d" "commit d --top 1 --base 3" "commit d --base 3"; do
	stack 4 8M
	# shellcheck disable=SC2086 # words
	begin "gone: $what" dmchain $what
	for n in 1 2; do
		write --ops $((ops / 4)) --seed $((++seed))
		run_ok "gone: $what: close" dmchain close d
		run_ok "gone: $what: no module" rmmod dm_chain
		run_ok "gone: $what: open" dmchain open d 3.img
		is "$(json 'map(.status) | join(" ")' dmchain job list d)" paused "gone: $what: the job is there"
		run_ok "gone: $what: as the model" iomodel verify /dev/mapper/d --model m
		write --ops $((ops / 8)) --seed $((++seed))
		# The same command goes on, as slowly
		# shellcheck disable=SC2086 # words
		begin "gone: $what: again" dmchain $what
	done
	dmchain job speed "$id" 0
	write --ops $((ops / 4)) --seed $((++seed))
	dmchain job wait d >job.out 2>&1
	if [ "$(running)" = ready ]; then
		run_ok "gone: $what: pivot" dmchain pivot d
	fi
	is "$(json '.[-1] | [.status, .error] | join(" ")' dmchain job list d)" "concluded " "gone: $what: it ends well"
	closed "gone: $what" "$(json '.layers[0].path' dmchain info d)"
	dmchain close d
done

# --- explicit zeroes hide what the base holds

byte()		# byte OFFSET: as the disk reads it
{
	od -An -t x1 -j "$1" -N 1 /dev/mapper/d | tr -d ' '
}

for format in chain raw; do
	rm -f ./*.img
	truncate -s 8M 0.img
	[ $format = raw ] || { rm 0.img && dmchain create 0.img --size 8M >/dev/null; }
	dmchain open d 0.img --format $format
	xfs_io -d -c "pwrite -q -S 0xab 0 8m" /dev/mapper/d
	dmchain snapshot d=1.img >/dev/null
	xfs_io -d -c "fpunch 1m 1m" -c "fzero 3m 5120" -c "pwrite -q -S 0 5m 64k" /dev/mapper/d
	dmchain snapshot d=2.img >/dev/null
	xfs_io -d -c "pwrite -q -S 0xef 1100k 4k" -c "fpunch 4m 1m" -c "pwrite -q -S 0xef 6m 64k" /dev/mapper/d
	dd if=/dev/mapper/d of=was bs=1M status=none
	full=$(used 0.img)
	run_ok "zeroes, $format: commit" dmchain commit d --base 2
	is "$(layers)" 0 "zeroes, $format: the base is the disk"
	run_ok "zeroes, $format: it is what it was" cmp /dev/mapper/d was
	is "$(byte $((1 << 20))) $(byte $((1100 << 10))) $(byte $((3 << 20))) $(byte $(((3 << 20) + 5120))) $(byte $((9 << 19))) $(byte $((6 << 20))) $(byte $((7 << 20)))" \
		"00 ef 00 ab 00 ef ab" "zeroes, $format: byte by byte"
	dmchain close d
	run_ok "zeroes, $format: the image, offline" dmchain compare 0.img was --format-a $format --format-b raw
	[ $((full - $(used 0.img))) -gt $((3 << 19)) ]
	is $? 0 "zeroes, $format: they take no space ($full before, $(used 0.img) after)"
done

# --- odd sizes

for size in 512 $((1025 * 1024)) $((3 * 1024 * 1024 + 512)); do
	for blocks in "4K 1M" "1M 64K 4K"; do
		for what in "stream d" "commit d --base 2" "commit d --top 1 --base 2"; do
			rm -f ./*.img m
			kind="--block-size 1M --no-discard"
			[ "$size" -ge 65536 ] || kind="--block-size 1M --no-discard --max 512"
			below=""
			n=0
			for block in $blocks 4K; do
				# shellcheck disable=SC2086 # an option or none
				dmchain create $n.img --size "$size" --block-size "$block" $below >/dev/null
				dmchain open d $n.img
				write --ops 12 --seed $((++seed))
				dmchain close d
				below="--backing $n.img --backing-format chain"
				n=$((n + 1))
			done
			[ $n -ge 3 ] || what=${what/--base 2/--base 1}
			if [ "$what" = "commit d --top 1 --base 1" ]; then continue; fi
			dmchain open d $((n - 1)).img
			# shellcheck disable=SC2086 # words
			run_ok "size $size, blocks $blocks: $what" dmchain $what
			closed "size $size, blocks $blocks: $what" "$(json '.layers[0].path' dmchain info d)"
			dmchain close d
		done
	done
done

# --- parents in other folders, named by relative paths: so they are, when layers are gone

mkdir -p tree/a tree/b/c
rm -f ./*.img m
prev=
for f in tree/a/0.img tree/b/1.img tree/b/c/2.img tree/a/3.img tree/4.img; do
	[ -z "$prev" ] || dmchain close d
	# shellcheck disable=SC2086 # words
	dmchain create $f ${prev:---size 8M} >/dev/null
	prev="--backing $f --backing-format chain"
	dmchain open d $f
	write --ops 40 --seed $((++seed))
done
run_ok "folders: commit" dmchain commit d --top 2 --base 3
run_ok "folders: stream" dmchain stream d --base 2
is "$(json '[.layers[].path | sub(".*/tree/"; "")] | join(" ")' dmchain info d)" "4.img b/1.img a/0.img" "folders: two layers are gone"
run_ok "folders: close" dmchain close d
mv tree moved
closed_at=$PWD
cd / || exit 1
run_ok "folders: moved, it opens" dmchain open d "$closed_at/moved/4.img"
cd "$closed_at" || exit 1
run_ok "folders: all is there" iomodel verify /dev/mapper/d --model m
run_ok "folders: commit of the rest" dmchain commit d --base 2
run_ok "folders: all is there" iomodel verify /dev/mapper/d --model m
dmchain close d

done_testing_jobs
