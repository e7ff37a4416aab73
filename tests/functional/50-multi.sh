#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1024 smp=2 timeout=500 group=main
# allow: Buffer I/O error
# allow: I/O error, dev
# allow: (map write|map commit|header update|second header copy|switch|flush) failed
# allow: snapshot is not durable
# allow: snapshot made, a header is not
#
# Snapshots of several disks at one instant: all or none. Numbers that one writer
# puts on all disks in turn prove the instant. Layers fail at each write that there
# is, the command is killed anywhere, the power is cut anywhere.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"
. "$(dirname "$0")/../lib/several.sh"

cd "$TMP" || exit 1
mkdir bin && cp "$(command -v dmchain)" bin/
PATH=$TMP/bin:$PATH
kills=${KILLS:-2} cuts=${CUTS:-2} instants=${INSTANTS:-2} failures=${FAILURES:-0} often=2
[ -z "${LONG-}" ] || kills=${KILLS:-300} cuts=${CUTS:-1000} instants=${INSTANTS:-100} failures=${FAILURES:-1000} often=10
RANDOM=${SEED:-$$}
echo "# seed $RANDOM"

marks()		# marks FILE: of a layer, in use or not
{
	json '.layers[0].marks|join(" ")' dmchain info "$1"
}

tops()		# tops DISK...: how many layers each has
{
	local d
	for d; do
		json '.layers|length' dmchain info "$d"
	done | xargs
}

# --- what it does, and says ---

for d in a b c; do
	dmchain create $d.img --size 16M >/dev/null
	dmchain open $d $d.img
done
is "$(json 'map([.name, (.["pause-ns"] > 0)])' dmchain snapshot c=c1.img a=a1.img b=b1.img)" \
	'[["c",true],["a",true],["b",true]]' "a snapshot of three disks tells the pause of each"
is "$(tops a b c)" "2 2 2" "each has another top"
is "$(marks a.img),$(marks b.img),$(marks c.img)" sealed,sealed,sealed "the old ones are sealed"
is "$(for d in a b c; do dmchain check $d.img; done)" \
	"$(printf '%s: no damage\n' "$PWD/a.img" "$PWD/b.img" "$PWD/c.img")" "and nothing is left to be decided"
run_ok "in text, in another order" dmchain snapshot b=b2.img c=c2.img a=a2.img
like "$(output)" 'b: .*b2.img is the top now, .*b1.img is frozen \(paused for [0-9.]+ ms\)' "it says so"
is "$(output | cut -d : -f 1 | xargs)" "b c a" "as they were given"

echo "# $SECONDS s"

# --- what is refused, with nothing done ---

refused 2 "a: stands twice" "a disk twice" dmchain snapshot a=x.img b=y.img a=z.img
refused 2 "x.img: stands twice" "a new top twice" dmchain snapshot a=x.img b=x.img
refused 1 "nobody: no such disk" "a disk that isn't there" dmchain snapshot a=x.img nobody=y.img
refused 1 "c1.img: exists already" "a file that is there" dmchain snapshot a=x.img b=y.img c=c1.img
dmchain open r a.img --read-only
refused 3 "r: open read-only" "a disk that nobody writes" dmchain snapshot a=x.img r=y.img
dmchain close r
dmchain create /dev/mapper/a --size 8M >/dev/null
dmchain open inner /dev/mapper/a
refused 3 "inner: .*lies on the disk a" "a disk on another one of the set" dmchain snapshot a=x.img inner=y.img
refused 3 "inner: .*lies on the disk a" "in any order" dmchain snapshot inner=y.img b=z.img a=x.img
dmchain close inner
loop=$(losetup -f --show /dev/mapper/a)
dmchain create "$loop" --size 8M >/dev/null
dmchain open inner "$loop"
refused 3 "inner: .*lies on the disk a" "by way of a loop device" dmchain snapshot a=x.img inner=y.img
refused 3 "lies on the disk a" "a new top on another one" dmchain snapshot b=/dev/mapper/a a=x.img
dmchain close inner
losetup -d "$loop"
is "$(tops a b c) $(compgen -G '[x-z].img')" "3 3 3 " "nothing was done by these"

echo "# $SECONDS s"

# --- sets that overlap ---

snap_often()	# snap_often TAG DISK...
{
	local i d args
	for ((i = 0; i < often; i++)); do
		args=()
		for d in "${@:2}"; do
			args+=("$d=$1-$d-$i.img")
		done
		dmchain snapshot "${args[@]}" >/dev/null || return
	done
}
pids=()
snap_often p a b c & pids+=($!)
snap_often q c b & pids+=($!)
snap_often s b & pids+=($!)
failed=0
for pid in "${pids[@]}"; do
	wait "$pid" || failed=1
done
is "$failed $(tops a b c)" "0 $((3 + often)) $((3 + 3 * often)) $((3 + 2 * often))" "sets that overlap wait for each other"
is "$(suspended)" 0 "no disk is suspended"
no_violations "nothing was refused by the gate"
for d in a b c; do dmchain close $d; done
rm -f ./*.img

echo "# $SECONDS s"

# --- the instant ---

# frozen DISK LAYER: the layer, open to be read
numbers()
{
	local i layers=()
	for i in a b c; do
		dmchain open "f$i" "$i$1.img" --read-only || return
		layers+=("/dev/mapper/f$i")
	done
	numbered show "${layers[@]}"
	for i in a b c; do
		dmchain close "f$i"
	done
}

for d in a b c; do
	dmchain create ${d}0.img --size 16M >/dev/null
	dmchain open $d ${d}0.img
done
numbered write --until stop --flush 16 /dev/mapper/a /dev/mapper/b /dev/mapper/c >wrote 2>&1 &
writer=$!
for ((i = 1; i <= instants; i++)); do
	sleep 0.$((RANDOM % 4 + 1))
	dmchain snapshot b=b$i.img a=a$i.img c=c$i.img >/dev/null || fail "snapshot $i"
done
touch stop
wait $writer
is $? 0 "the writer never failed"
bad=""
for ((i = 0; i < instants; i++)); do
	read -r na nb nc <<<"$(numbers $i)"
	echo "# frozen $i: $na $nb $nc"
	[ "$na" -ge "$nb" ] && [ "$nb" -ge "$nc" ] && [ $((na - nc)) -le 1 ] && [ "$na" -gt 0 ] ||
		bad+="$i: $na $nb $nc;"
done
is "$bad" "" "no frozen layer has a number that one before it lacks"
is "$(numbered show /dev/mapper/a /dev/mapper/b /dev/mapper/c)" "$(xargs -n 1 <wrote | sed 's/.*/& & &/')" \
	"the disks have all of them"
for d in a b c; do dmchain close $d; done
rm -f ./*.img stop

echo "# $SECONDS s"

# --- kill -9 ---

dmchain create k.img --size 16M >/dev/null
dmchain create l.img --size 16M >/dev/null
dmchain open k k.img
dmchain open l l.img
strace -qq -o .calls dmchain snapshot k=k0.img l=l0.img >/dev/null
mapfile -t calls < <(awk -F '(' '$1 ~ /^[a-z_0-9]+$/ && $1 != "exit_group" { print $1, ++n[$1] }' .calls)
bad="" killed=0 depth=2
for ((i = 1; i <= kills; i++)); do
	call=${calls[RANDOM % ${#calls[@]}]}
	status=0
	bash -c '"$@"; exit $?' bash strace -qq -o /dev/null -e "trace=${call% *}" \
		-e "inject=${call% *}:signal=KILL:when=${call#* }" dmchain snapshot k=k$i.img l=l$i.img \
		>.out 2>&1 || status=$?
	[ $status != 137 ] || killed=$((killed + 1))
	[ "$(suspended)" = 0 ] || bad+="$call: suspended;"
	dmchain recover >.out 2>&1 || bad+="$call: recover: $(<.out);"
	read -r nk nl <<<"$(tops k l)"
	[ "$nk" = "$nl" ] || bad+="$call: $nk and $nl layers;"
	want=$depth
	[ ! -e k$i.img ] || want=$((depth + 1))
	[ "$nk" = "$want" ] || bad+="$call: $nk layers, $depth before, $(compgen -G "[kl]$i.img" | xargs);"
	[ -e k$i.img ] || [ ! -e l$i.img ] || bad+="$call: $(compgen -G "[kl]$i.img" | xargs);"
	depth=$nk
	if [ "$depth" -gt 20 ]; then
		dmchain close k && dmchain close l && rm -f k*.img l*.img
		dmchain create k.img --size 16M >/dev/null && dmchain create l.img --size 16M >/dev/null
		dmchain open k k.img && dmchain open l l.img
		depth=1
	fi
done
is "$bad" "" "$killed of $kills were killed: all or none"
[ $killed -gt $((kills / 4)) ]
is $? 0 "and they were killed"
dmchain close k
dmchain close l
rm -f ./*.img

echo "# $SECONDS s"

# --- failing layers ---

# Who opens it: the old top, or the one that it says is the disk
reopen()	# reopen DISK OLD NEW
{
	if dmchain open "$1" "$2" --force >.open 2>&1; then
		echo old
	elif grep -q sealed .open && dmchain open "$1" "$3" --force >.open 2>&1; then
		echo new
	else
		echo "$1: $(cat .open)"
	fi
}

# A device that waits, below the top that is opened: it is settled first, and our own
# lock of it isn't in the way
truncate -s 64M device
loop=$(losetup -f --show device)
group=$(printf '%032x' 5)
dmchain create p.img --size 8M >/dev/null
dmchain create p2.img --backing p.img --backing-format chain >/dev/null
dmchain create "$loop" --size 8M >/dev/null
dmchain create q2.img --backing "$loop" --backing-format chain >/dev/null
headeredit p.img set both decision="$group"
headeredit "$loop" set both marks=128 group="$group" coordinator="$(headeredit p.img get 0 uuid)" \
	coordinator_path="$PWD/p.img"
run_ok "a parent that waits is a device: its child opens" dmchain open q q2.img
run_ok "a parent that waits is a device: close" dmchain close q
is "$(json '.layers[1].marks | join(" ")' dmchain info q2.img)" sealed "a parent that waits is a device: it is settled"
headeredit "$loop" set both marks=0 parent.format="$(headeredit p2.img get 0 parent.format)" \
	parent.uuid="$(headeredit "$loop" get 0 uuid)" parent.cid="$(headeredit "$loop" get 0 cid)" \
	parent.size=$((8 << 20)) parent_path="$loop"
refused 4 "run in a circle" "a device that is below itself" dmchain open q "$loop"
losetup -d "$loop"
rm device p.img p2.img q2.img

# Disks x, y and z; x decides. Old tops are lay0, lay1, lay2
truncate -s $((3 * layer_mib))M data
data=$(losetup -f --show data)
layers_on "$data" 3
prepare()
{
	local i=0 d
	for d in x y z; do
		dmchain create /dev/mapper/lay$i --size 8M >/dev/null
		dmchain open $d /dev/mapper/lay$i
		i=$((i + 1))
	done
	numbered write --count 20 --flush 7 /dev/mapper/{x,y,z} >/dev/null
}

# fails NAME LAYER FROM TO RUNS-ON...: a snapshot fails, these disks run on
fails()
{
	local name=$1 layer=$2 from=$3 to=$4 d i=0 got="" on
	shift 4
	prepare
	# Dirty maps: there is something to be written
	for d in x y z; do
		dd if=/dev/zero of=/dev/mapper/$d bs=4k count=1 seek=300 oflag=direct status=none
	done
	broken "$layer" "$from" "$to"
	run_fail 1 "$name: the snapshot fails" dmchain snapshot x=x.img y=y.img z=z.img
	for d in "$@"; do
		is "$(tops "$d") $(status_of "$d" | cut -d ' ' -f 1)" "1 rw" "$name: $d runs on"
	done
	rm -f .spare && truncate -s 1M .spare
	[ $# = 0 ] || run_ok "$name: and is written" numbered write --count 3 --flush 1 "${@/#//dev/mapper/}" .spare
	[ $# = 0 ] || is "$(compgen -G '[xyz].img')" "" "$name: no file is left"
	broken "$layer"
	for d in x y z; do
		dmchain close $d >/dev/null 2>&1
		on=$(reopen $d /dev/mapper/lay$i $d.img)
		got+="$on "
		i=$((i + 1))
	done
	is "$got" "old old old " "$name: all of them open at their old tops"
	like "$(numbered show --flush 14 /dev/mapper/{x,y,z})" '^[0-9]+ [0-9]+ [0-9]+$' "$name: with all that was flushed"
	for d in x y z; do
		dmchain close $d
	done
	rm -f [xyz].img
}

map_from=2048 map_to=$((layer_mib * 2048 - 2048))
fails "header of a member" 2 1024 1032 x y
fails "map of the coordinator" 0 $map_from $map_to y z
fails "header of the coordinator" 0 0 8
if [ -n "${LONG-}" ]; then
	fails "first slot of a member" 1 0 8 x z
	fails "map of a member" 1 $map_from $map_to x z
	fails "other slot of the coordinator" 0 1024 1032
fi

# random LAYER FROM TO: writes there fail while a snapshot is taken; what is wrong
random()
{
	local what="lay$1, sectors $2 to $3" d i=0 got="" n=0
	# What is left of the last one will do, unless it has other tops
	[ ! -e .n ] || n=$(<.n)
	[ -e .n ] || prepare || { echo "$what: not prepared;"; return; }
	numbered write --count 5 --flush 2 /dev/mapper/{x,y,z} >.out 2>&1 || echo "$what: before: $(cat .out);"
	n=$((n + 5))
	broken "$1" "$2" "$3"
	# What was acknowledged has to be there, whatever becomes of the snapshot
	! numbered write --count 3 --flush 1 /dev/mapper/{x,y,z} >.out 2>&1 || n=$((n + 3))
	dmchain snapshot x=x.img y=y.img z=z.img >.out 2>&1
	[ "$(suspended)" = 0 ] || echo "$what: suspended;"
	broken "$1"
	for d in x y z; do
		dmchain close $d >.out 2>&1
		got+="$(reopen $d /dev/mapper/lay$i $d.img) "
		i=$((i + 1))
	done
	case $got in
	"old old old "|"new new new ")	echo "${got:0:3}" >>sides;;
	*)				echo "$what: $got;";;
	esac
	for i in $(numbered show /dev/mapper/{x,y,z} 2>&1); do
		[[ $i != *torn* && $i -ge $n ]] || echo "$what: has $i of $n;"
		echo "$i"
	done >.shown
	grep -vx '[0-9]*' .shown
	grep -x '[0-9]*' .shown | sort -n | head -n 1 >.n
	[ "$got" != "old old old " ] || return
	for d in x y z; do
		dmchain close $d >.out 2>&1 || echo "$what: close: $(cat .out);"
	done
	rm -f [xyz].img .n
}

bad=""
: >sides
for ((f = 0; f < failures; f++)); do
	# Most of them where headers and maps are, others anywhere
	case $((RANDOM % 8)) in
	0)	from=$((RANDOM % (layer_mib * 2048 - 520))) to=$((from + 1 + RANDOM % 512));;
	1|2)	from=$((RANDOM % 8)) to=8;;
	3|4)	from=$((1024 + RANDOM % 8)) to=1032;;
	*)	from=$((2048 + RANDOM % 16)) to=$((from + 1 + RANDOM % 8));;
	esac
	bad+=$(random $((RANDOM % 3)) $from $to)
	[ $((f % 50)) != 49 ] || echo "# $((f + 1)) failures, $SECONDS s: $bad"
done
[ "$failures" = 0 ] || is "$bad" "" "$failures random failures: all or none"
if [ -e .n ]; then
	for d in x y z; do dmchain close $d; done
fi
sort sides | uniq -c | sed 's/^/# after failures all are at their tops:/'
layers_off 3
losetup -d "$data"

echo "# $SECONDS s"

# --- power cuts ---

modprobe dm-log-writes || modprobe dm_log_writes
if ! dmsetup targets | grep -q log-writes; then
	skip "power cuts" "this kernel has no log-writes target"
	done_testing
fi

# Disk u: lay0, then lay1. v: lay2, lay3. w: the raw lay4, then lay5
open_one()	# open_one DISK: says "old" or "new"
{
	local old=lay0 new=lay1 format=chain
	case $1 in
	v)	old=lay2 new=lay3;;
	w)	# Of a raw top only the new one knows
		if dmchain open w /dev/mapper/lay5 >.open 2>&1; then
			echo new
			return
		fi
		grep -qE 'not made|modified after|no chain header' .open || return
		old=lay4 format=raw new=;;
	esac
	if dmchain open "$1" /dev/mapper/$old --format $format >.open 2>&1; then
		echo old
	elif [ -n "$new" ] && grep -q sealed .open && dmchain open "$1" /dev/mapper/$new >.open 2>&1; then
		echo new
	fi
}

# Frozen layers are the disks of one instant
judge_frozen()	# judge_frozen WHAT
{
	local nu nv nw
	dmchain open fu /dev/mapper/lay0 --read-only && dmchain open fv /dev/mapper/lay2 --read-only &&
		dmchain open fw /dev/mapper/lay4 --read-only --format raw || { echo "$1: frozen: does not open;"; return; }
	read -r nu nv nw <<<"$(numbered show /dev/mapper/{fu,fv,fw})"
	dmchain close fu && dmchain close fv && dmchain close fw || echo "$1: frozen: close;"
	[[ "$nu$nv$nw" != *torn* ]] && [ "$nu" -ge "$nv" ] && [ "$nv" -ge "$nw" ] && [ $((nu - nw)) -le 1 ] ||
		echo "$1: frozen: $nu $nv $nw;"
}

# state WHAT IMAGE ENTRY: judge it; a message if it is bad
state()
{
	local what=$1 d order got="" side number=0 n out
	cp --sparse=always "$2" scratch
	mapfile -t order < <(shuf -e u v w)
	what+=" (${order[*]})"
	for d in "${order[@]}"; do
		side=$(open_one $d)
		[ -n "$side" ] || echo "$what: $d does not open: $(cat .open);"
		got+=$side
	done
	case $got in
	oldoldold|newnewnew)	echo "${got:0:3}" >>sides;;
	*)			echo "$what: $got;";;
	esac
	[ "$got" != newnewnew ] || judge_frozen "$what"
	number=$(awk -v end="$3" '$1 < end && sub(/^num-/, "", $NF) { n = $NF } END { print n + 0 }' marks)
	out=$(numbered show --flush "$number" /dev/mapper/{u,v,w} 2>&1) || echo "$what: $out;"
	[[ $out != *lost* ]] || echo "$what: has $out, $number was flushed;"
	for d in u v w; do
		out=$(dmchain close $d 2>&1) || echo "$what: close: $out;"
	done
	for n in 0 2 $([ "$got" != newnewnew ] || echo 1 3 5); do
		out=$(dmchain check /dev/mapper/lay$n 2>&1) || echo "$what: check of lay$n: $out;"
		[[ $out != *"was cut off, layer"* ]] || echo "$what: lay$n is pending still;"
	done
}

rm -f data log target copy scratch sides stop
truncate -s $((6 * layer_mib))M data
truncate -s 300M log
data=$(losetup -f --show data)
logdev=$(losetup -f --show log)
layers_on "$data" 6
dmchain create /dev/mapper/lay0 --size 8M >/dev/null
dmchain create /dev/mapper/lay2 --size 8M >/dev/null
layers_off 6
cp --sparse=always data target
dmsetup create lw --table "0 $(blockdev --getsz "$data") log-writes $data $logdev"
layers_on /dev/mapper/lw 6
dmchain open u /dev/mapper/lay0
dmchain open v /dev/mapper/lay2
dmchain open w /dev/mapper/lay4 --format raw
numbered write --count 4 --flush 2 --mark lw /dev/mapper/{u,v,w} >/dev/null
numbered write --until stop --flush 3 --mark lw /dev/mapper/{u,v,w} >/dev/null 2>wrote &
writer=$!
sleep 0.5
dmsetup message lw 0 mark before
run_ok "power cuts: the snapshot" dmchain snapshot w=/dev/mapper/lay5 v=/dev/mapper/lay3 u=/dev/mapper/lay1
dmsetup message lw 0 mark behind
sleep 0.3
touch stop
wait $writer
is "$? $(<wrote)" "0 " "power cuts: the writer never failed"
for d in u v w; do dmchain close $d; done
# A mark of this boot would mean that a copy of an open layer is opened
run_ok "power cuts: as if booted again" rmmod dm_chain
layers_off 6
dmsetup remove lw
losetup -d "$logdev"
losetup -d "$data"

truncate -s $((6 * layer_mib))M scratch
data=$(losetup -f --show scratch)
layers_on "$data" 6
judge_cuts "$cuts"
layers_off 6
losetup -d "$data"

done_testing
