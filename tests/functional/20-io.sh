#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug,kcsan long=kcsan mem=1024 smp=2 timeout=480 group=main
#
# Does a disk read, byte by byte, as a plain file would to which the same was
# done? Random reads, writes, discards, write-zeroes and flushes from several
# threads, with snapshots in between, at depths 1 to 64 and three block sizes;
# what is frozen is the disk of one instant; map and byte counts agree with
# what was written.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
# The debug kernel looks at locks and memory: a little of each will do
slow=1 ends="2 4 16" blocks_sizes="64K 1M"
if [ "$KERNEL" = debug ] && [ -z "${LONG-}" ]; then
	slow=8 ends="2 4" blocks_sizes=64K
fi

# Snapshots as hooks: the number of the hook is the argument
snapshot_hook()		# snapshot_hook DISK PREFIX
{
	cat >"hook.$2" <<-END
		#!/bin/sh
		exec dmchain snapshot "$1=$TMP/$2\$1.img" >/dev/null
	END
	chmod +x "hook.$2"
	echo "$TMP/hook.$2"
}

depth_of()
{
	json '.layers|length' dmchain info "$1"
}

# instants PREFIX MODEL COUNT FIRST: the layer that the k-th hook froze equals
# what the model was then
instants()
{
	local prefix=$1 model=$2 count=$3 frozen=$4 k bad=""
	for ((k = 1; k <= count; k++)); do
		dmchain compare "$frozen" "$model.$k" --format-b raw >.cmp 2>&1 ||
			bad+=" $k: $(head -n 1 .cmp);"
		frozen=$prefix$k.img
	done
	is "$bad" "" "each of the $count frozen layers reads as at its instant"
}

# --- a model, 4 KiB blocks, depths 1 to 64

run_ok "create" dmchain create base.img --size 8M
run_ok "open" dmchain open d base.img
run_ok "depth 1: as the model" iomodel run /dev/mapper/d --model m \
	--ops $((1500 / slow)) --threads 4 --seed 1 --verify-end
depth=1
for end in $ends; do
	# With everything held still while a snapshot is taken
	rm -f m.[0-9]*
	frozen=$(json '.layers[0].path' dmchain info d)
	run_ok "to depth $end: as the model" iomodel run /dev/mapper/d --model m \
		--threads 4 --seed $end --max 256K --hook "$(snapshot_hook d f$end-)" \
		--hook-every $((100 / slow)) --hook-max $((end - depth)) --hook-freeze --verify-end
	is "$(depth_of d)" $end "depth $end is reached"
	instants f$end- m $((end - depth)) "$frozen"
	depth=$end
done
rm -f m.[0-9]*
# All the way by snapshots under load takes its time: in the quick version some
# layers in between are made while the disk is closed.
more=48
[ -n "${LONG-}" ] || more=4
run_ok "$more snapshots under load: as the model" iomodel run /dev/mapper/d \
	--model m --threads 4 --seed 64 --max 64K --hook "$(snapshot_hook d g)" \
	--hook-every 20 --hook-max $more --verify-end
depth=$((depth + more))
is "$(depth_of d)" $depth "depth $depth is reached"
top=g$more.img
if [ $depth -lt 63 ] && [ $slow = 1 ]; then
	run_ok "close" dmchain close d
	for ((; depth < 63; depth++)); do
		dmchain create h$depth.img --backing "$top" --backing-format chain >.out || break
		top=h$depth.img
	done
	run_ok "open at depth 63" dmchain open d "$top"
	run_ok "depth 63: as the model" iomodel run /dev/mapper/d --model m \
		--threads 4 --seed 63 --max 64K --hook "$(snapshot_hook d i)" --hook-every $((150 / slow)) \
		--hook-max 1 --verify-end
	top=i1.img
fi
[ $slow != 1 ] || is "$(depth_of d)" 64 "depth 64 is reached"
run_ok "at the end: as the model" iomodel run /dev/mapper/d --model m \
	--ops $((1000 / slow)) --threads 8 --seed 65 --verify-end
no_violations "the gate refused nothing"
run_ok "close" dmchain close d
run_ok "open again" dmchain open d "$top"
run_ok "all is still there" iomodel verify /dev/mapper/d --model m
run_ok "close" dmchain close d
is "$(losetup -n -l 2>/dev/null)" "" "no loop device is left"
rm -f ./*.img m m.*

# --- larger blocks: discards that cover none, copy-ups of many pages

for block in $blocks_sizes; do
	run_ok "$block blocks: create" dmchain create b.img --size 24M --block-size $block
	run_ok "$block blocks: open" dmchain open d b.img
	rm -f m m.*
	run_ok "$block blocks: as the model" iomodel run /dev/mapper/d --model m \
		--threads 4 --seed 5 --block-size $block --max 1M --hook "$(snapshot_hook d b)" \
		--hook-every $((120 / slow)) --hook-max 3 --hook-freeze --verify-end
	instants b m 3 b.img
	run_ok "$block blocks: neighbours in a block" iomodel run /dev/mapper/d --model m \
		--ops $((1200 / slow)) --threads 6 --seed 6 --block-size $block --overlap \
		--max 256K --verify-end
	run_ok "$block blocks: close" dmchain close d
	rm -f ./*.img m m.*
done

# Layers of different block sizes: 1M over 4K over 64K
run_ok "mixed blocks: create" dmchain create m1.img --size 8M --block-size 64K
run_ok "mixed blocks: and 4K on it" dmchain create m2.img --backing m1.img \
	--backing-format chain --block-size 4K
run_ok "mixed blocks: unseal" dmchain unseal m1.img
run_ok "mixed blocks: fill the lowest" dmchain open d m1.img
run_ok "mixed blocks: as the model" iomodel run /dev/mapper/d --model m --ops $((150 / slow)) \
	--block-size 64K --max 128K --verify-end
run_ok "mixed blocks: close" dmchain close d
rm m2.img
for n in 2 3; do
	size=4K
	[ $n = 2 ] || size=1M
	run_ok "mixed blocks: $size on it" dmchain create m$n.img --backing m$((n - 1)).img \
		--backing-format chain --block-size $size
	run_ok "mixed blocks: open" dmchain open d m$n.img
	run_ok "mixed blocks: as the model" iomodel run /dev/mapper/d --model m --ops $((150 / slow)) \
		--seed $n --block-size $size --max 128K --verify-end
	run_ok "mixed blocks: close" dmchain close d
done
rm -f ./*.img m m.*

# --- one instant: what is frozen under load is a prefix of the writes in time

run_ok "instant: create" dmchain create c0.img --size 16M
run_ok "instant: open" dmchain open d c0.img
iomodel cut /dev/mapper/d --seconds $((slow > 1 ? 8 : 4)) --threads 6 --seed 9 --max 64K >cut.out 2>&1 &
cut=$!
for n in 1 2 3; do
	sleep 0.5
	run_ok "instant $n: snapshot under load" dmchain snapshot "d=c$n.img"
done
wait $cut
is $? 0 "instant: the writers meet no error"
for n in 0 1 2; do
	run_ok "instant: open what was frozen" dmchain open --read-only "s$n" c$n.img
	run_ok "instant: it is the disk of one instant" iomodel cut-check /dev/mapper/s$n --seed 9
	run_ok "instant: close" dmchain close "s$n"
done
run_ok "instant: and so is the disk now" iomodel cut-check /dev/mapper/d --seed 9
run_ok "instant: close" dmchain close d
rm -f ./*.img

# --- the map says what was written, block by block

blocks=512 layers=4
# Per layer: writes of blocks, zeroes, discards, and parts of blocks. Prints
# commands for each layer, and at its end each block's state in that layer:
# "." absent, "d" data, "z" zero.
awk -v blocks=$blocks -v layers=$layers '
# What shows zeroes already needs no entry of its own
function zero(k)
{
	if (s[k] != "." || below[k] == "d")
		s[k] = "z"
}
function io(l, what,	n, b, k)
{
	n = int(rand() * 12) + 1
	b = int(rand() * (blocks - n))
	if (what == 0) {
		printf "%d -c \"pwrite -q -S 0x%d%d %d %d\"\n", l, l + 1, b % 10, b * 4096, n * 4096
		for (k = b; k < b + n; k++) s[k] = "d"
	} else if (what == 1) {
		printf "%d -c \"fpunch %d %d\"\n", l, b * 4096, n * 4096
		for (k = b; k < b + n; k++) zero(k)
	} else if (what == 2) {
		printf "%d -c \"pwrite -q -S 0x%d%d %d %d\"\n", l, l + 1, b % 10, b * 4096 + 1024, n * 4096
		for (k = b; k <= b + n; k++) s[k] = "d"
	} else {
		# edges that cover no whole block stay
		printf "%d ; blkdiscard -o %d -l %d $d; $x\n", l, b * 4096 + 512, n * 4096
		for (k = b + 1; k < b + n; k++) zero(k)
	}
}
BEGIN {
	srand(7)
	for (l = 0; l < layers; l++) {
		for (b = 0; b < blocks; b++)
			s[b] = "."
		for (i = 0; i < 15; i++)
			io(l, int(rand() * 3))
		for (i = 0; i < 3; i++)
			io(l, 3)
		for (i = 0; i < 15; i++)
			io(l, int(rand() * 3))
		line = ""
		for (b = 0; b < blocks; b++) {
			line = line s[b]
			if (s[b] != ".")
				below[b] = s[b]
		}
		printf "%d state %s\n", l, line
	}
}' >ops

# What "dmchain map" must say of the disk: depth and state of each block
expected_map()		# expected_map TOP-LAYER
{
	awk -v top="$1" -v blocks=$blocks '
		$2 == "state" && $1 <= top { state[$1] = $3 }
		END {
			for (b = 1; b <= blocks; b++) {
				for (l = top; l >= 0; l--) {
					s = substr(state[l], b, 1)
					if (s != ".") break
				}
				printf "%s ", l < 0 ? "-" : (top - l) s
			}
		}' ops
}

seen_map()		# seen_map NAME|PATH
{
	dmchain map "$1" --json | jq -r '.[]|"\(.start) \(.length) \(.depth) \(.zero) \(.data)"' |
		awk -v end=$((blocks * 4096)) '
		$1 != next_start { print "gap at", next_start; exit }
		{
			next_start = $1 + $2
			s = $5 == "true" ? $3 "d" : $3 "z"
			for (b = $1; b < $1 + $2; b += 4096)
				out = out s " "
		}
		END { if (next_start != end) print "ends at", next_start; printf "%s", out }'
}

# Blocks that no layer holds read zero, from whatever depth the map calls that
same_map()		# same_map SEEN EXPECTED NAME
{
	local why
	why=$(printf '%s\n%s\n' "$1" "$2" | awk '
		NR == 1 { n = split($0, seen) }
		NR == 2 {
			if (split($0, want) != n) { print "not a map: " n " blocks"; exit }
			for (i = 1; i <= n; i++)
				if (want[i] == "-" ? seen[i] !~ /z$/ : seen[i] != want[i])
					bad = bad " " (i - 1) ": " seen[i] " not " want[i] ";"
			print bad
		}')
	is "$why" "" "$3"
}

bytes_of()		# bytes_of LAYER d|z
{
	local line
	line=$(awk -v l="$1" '$2 == "state" && $1 == l { print $3 }' ops)
	line=${line//[^$2]/}
	echo $((${#line} * 4096))
}

run_ok "map: create" dmchain create p0.img --size $((blocks * 4096))
run_ok "map: open" dmchain open d p0.img
for ((l = 0; l < layers; l++)); do
	[ $l = 0 ] || run_ok "map: snapshot $l" dmchain snapshot d=p$l.img
	echo 'd=/dev/mapper/d x="xfs_io -d $d"; $x \' >do.sh
	sed -n "/^$l state/d; s/^$l \(.*\)/\1 \\\\/p" ops >>do.sh
	echo >>do.sh
	run_ok "map: write into layer $l" bash -e do.sh
	same_map "$(seen_map d)" "$(expected_map $l)" "map: layer $l on top: each block as written"
done
for ((l = 0; l < layers; l++)); do
	at=$((layers - 1 - l))
	is "$(json ".layers[$at]|[.\"data-bytes\",.\"zero-bytes\"]" dmchain info d)" \
		"[$(bytes_of $l d),$(bytes_of $l z)]" "map: data-bytes and zero-bytes of layer $l"
done
run_ok "map: close" dmchain close d
same_map "$(seen_map p$((layers - 1)).img)" "$(expected_map $((layers - 1)))" \
	"map: the closed image says the same"
is "$(json '.layers[0]|[."data-bytes",."zero-bytes"]' dmchain info p$((layers - 1)).img)" \
	"[$(bytes_of $((layers - 1)) d),$(bytes_of $((layers - 1)) z)]" "map: and the same bytes"
same_map "$(seen_map p1.img)" "$(expected_map 1)" "map: so does a frozen layer"

done_testing
