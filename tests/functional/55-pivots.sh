#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,6.12,debug mem=1024 smp=2 timeout=600 group=jobs
# allow: Buffer I/O error
# allow: I/O error, dev
# allow: (map write|map commit|header update|second header copy|switch|flush) failed
# allow: pivot is not durable
# allow: moved on, a header lacks it
#
# Mirrors of several disks, pivoted at one instant: all or none. Numbers that one
# writer puts on all disks in turn prove the instant. Sources and targets fail at
# writes, the command is killed anywhere, the power is cut anywhere.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"
. "$(dirname "$0")/../lib/several.sh"

cd "$TMP" || exit 1
mkdir bin && cp "$(command -v dmchain)" bin/
PATH=$TMP/bin:$PATH
kills=${KILLS:-3} cuts=${CUTS:-4} instants=${INSTANTS:-2} failures=${FAILURES:-0}
[ -z "${LONG-}" ] || kills=${KILLS:-100} cuts=${CUTS:-200} instants=${INSTANTS:-20} failures=${FAILURES:-1000}
RANDOM=${SEED:-$$}
echo "# seed $RANDOM"

tops()		# tops DISK...: the file name of each one's top
{
	local d
	for d; do
		json '.layers[0].path' dmchain info "$d"
	done | sed 's,.*/,,' | xargs
}

mirrors()	# mirrors DISK=TARGET...: they are made, and ready
{
	local m
	for m; do
		dmchain mirror "${m%%=*}" "${m#*=}" --format "${format:-chain}" >.mirror 2>&1 ||
			{ cat .mirror; return 1; }
	done
}

no_jobs()	# no_jobs DISK...: cancel what there is
{
	local d
	for d; do
		dmchain job cancel "$d" >/dev/null 2>&1
	done
	:
}

# --- what it does, and says ---

for d in a b c; do
	dmchain create $d.img --size 8M >/dev/null
	dmchain open $d $d.img
done
run_ok "mirrors of three disks" mirrors a=a1.img b=b1.img c=c1.img
is "$(json 'map([.chain, .status, (.["pause-ns"] > 0)])' dmchain pivot c a b)" \
	'[["c","concluded",true],["a","concluded",true],["b","concluded",true]]' \
	"their pivot tells the pause of each"
is "$(tops a b c)" "a1.img b1.img c1.img" "each goes on in its copy"
for d in a b c; do
	refused 4 "retired, the disk went on elsewhere, in .*${d}1.img" "$d: the source is retired" dmchain open x $d.img
	is "$(dmchain check $d.img)" "$PWD/$d.img: no damage" "$d: and has nothing left to be decided"
	is "$(dmchain check ${d}1.img 2>&1 | grep -c 'cut off')" 0 "$d: nor has the copy"
done
format=raw
run_ok "raw targets" mirrors a=a.raw b=b.raw
format=
run_ok "raw targets: pivot" dmchain pivot a b
is "$(tops a b)" "a.raw b.raw" "raw targets: they go on there"
run_ok "raw sources" mirrors a=a2.img b=b2.img c=c2.img
run_ok "raw sources and a chain: pivot" dmchain pivot a b c
is "$(tops a b c)" "a2.img b2.img c2.img" "raw sources: they go on in their copies"

# --- what is refused, with nothing done ---

run_ok "refused: mirrors" mirrors a=a3.img b=b3.img
refused 2 "a: stands twice" "a disk twice" dmchain pivot a b a
refused 1 "c: job [0-9]+ has ended already" "a disk that has no mirror" dmchain pivot a c
dmchain snapshot c=c3.img >/dev/null
dmchain commit c --base 1 --no-pivot >/dev/null 2>&1
refused 3 "c: only mirrors can be pivoted to together" "a commit" dmchain pivot a c
no_jobs a b c
for d in a b c; do dmchain close $d; done
rm -f ./*.img ./*.raw

# --- the instant ---

for d in a b c; do
	dmchain create ${d}0.img --size 8M >/dev/null
	dmchain open $d ${d}0.img
done
numbered write --until stop --flush 16 /dev/mapper/{a,b,c} >wrote 2>&1 &
writer=$!
bad=""
for ((i = 1; i <= instants; i++)); do
	mirrors a=a$i.img b=b$i.img c=c$i.img || bad+="$i: mirrors;"
	for ((try = 0; try < 20; try++)); do
		! dmchain pivot b a c >.out 2>&1 || break
		grep -q "not ready" .out || break
	done
	[ "$(tops a b c)" = "a$i.img b$i.img c$i.img" ] || bad+="$i: $(cat .out);"
done
touch stop
wait $writer
is "$?,$bad" "0," "the writer never failed, and all moved on"
for ((i = 0; i < instants; i++)); do
	for d in a b c; do dmchain open f$d $d$i.img --read-only; done
	read -r na nb nc <<<"$(numbered show /dev/mapper/f{a,b,c})"
	for d in a b c; do dmchain close f$d; done
	echo "# left $i: $na $nb $nc"
	[ "$na" -ge "$nb" ] && [ "$nb" -ge "$nc" ] && [ $((na - nc)) -le 1 ] && [ "$na" -gt 0 ] ||
		bad+="$i: $na $nb $nc;"
done
is "$bad" "" "what was left has no number that one before it lacks"
is "$(numbered show /dev/mapper/{a,b,c})" "$(xargs -n 1 <wrote | sed 's/.*/& & &/')" "the disks have all of them"
for d in a b c; do dmchain close $d; done
rm -f ./*.img stop

# --- kill -9 ---

for d in k l; do
	dmchain create $d.img --size 8M >/dev/null
	dmchain open $d $d.img
done
mirrors k=k0.img l=l0.img
strace -qq -o .calls dmchain pivot k l >/dev/null
mapfile -t calls < <(awk -F '(' '$1 ~ /^[a-z_0-9]+$/ && $1 != "exit_group" { print $1, ++n[$1] }' .calls)
bad="" killed=0 moved=0
for ((i = 1; i <= kills; i++)); do
	before=$(tops k l)
	mirrors k=k$i.img l=l$i.img || bad+="$i: mirrors: $(cat .mirror);"
	call=${calls[RANDOM % ${#calls[@]}]}
	status=0
	bash -c '"$@"; exit $?' bash strace -qq -o /dev/null -e "trace=${call% *}" \
		-e "inject=${call% *}:signal=KILL:when=${call#* }" dmchain pivot k l >.out 2>&1 || status=$?
	[ $status != 137 ] || killed=$((killed + 1))
	[ "$(suspended)" = 0 ] || bad+="$call: suspended;"
	dmchain recover >.out 2>&1 || bad+="$call: recover: $(<.out);"
	case $(tops k l) in
	"k$i.img l$i.img")	moved=$((moved + 1));;
	"$before")		no_jobs k l;;
	*)			bad+="$call: $before, now $(tops k l);";;
	esac
	read -r nk nl <<<"$(tops k l)"
	dmchain close k && dmchain close l || bad+="$call: close;"
	dmchain open k "$nk" 2>.out && dmchain open l "$nl" 2>>.out || bad+="$call: $(cat .out);"
	for f in [kl]*.img; do
		[ "$f" = "$nk" ] || [ "$f" = "$nl" ] || rm -f "$f"
	done
done
is "$bad" "" "$killed of $kills were killed, $moved moved on: all or none"
[ $killed -gt $((kills / 4)) ]
is $? 0 "and they were killed"
dmchain close k
dmchain close l
rm -f ./*.img

# --- failing layers ---

# Disk u: lay0, then lay1. v: lay2, lay3. w: the raw lay4, then lay5
declare -A old=([u]=lay0 [v]=lay2 [w]=lay4) new=([u]=lay1 [v]=lay3 [w]=lay5)
truncate -s $((6 * layer_mib))M data
data=$(losetup -f --show data)
layers_on "$data" 6

prepare()	# prepare DISK...: with a ready mirror each
{
	local d
	for d; do
		dd if=/dev/zero of=/dev/mapper/${new[$d]} bs=1M count=2 oflag=direct status=none
		if [ "$d" = w ]; then
			dmchain open w /dev/mapper/lay4 --format raw || return
		else
			dmchain create /dev/mapper/${old[$d]} --size 8M >/dev/null &&
				dmchain open "$d" /dev/mapper/${old[$d]} || return
		fi
	done
	numbered write --count 20 --flush 7 "${@/#//dev/mapper/}" >/dev/null || return
	for d; do
		mirrors "$d=/dev/mapper/${new[$d]}" || return
	done
}

# open_one DISK: says "old" or "new": which side is the disk
open_one()
{
	if dmchain open "$1" /dev/mapper/${new[$1]} --force >.open 2>&1; then
		echo new
	elif ! grep -qE 'never was the disk|not decided|never completed|no chain header' .open; then
		echo "$1: $(cat .open)"
	elif dmchain open "$1" /dev/mapper/${old[$1]} --force --format "$([ "$1" = w ] && echo raw || echo chain)" >.open 2>&1; then
		echo old
	else
		echo "$1: $(cat .open)"
	fi
}

reopened()	# reopened DISK...: which sides open; $number: what they have to have
{
	local d got=""
	for d; do
		dmchain close "$d" >/dev/null 2>&1
	done
	for d in $(shuf -e "$@"); do
		got+=" $(open_one "$d")"
	done
	echo "$got"
}

# fails NAME LAYER FROM TO DISK...: writes there fail while these are pivoted; says
# what is wrong
fails()
{
	local name=$1 layer=$2 from=$3 to=$4 got side n
	shift 4
	prepare "$@" || { echo "$name: not prepared: $(cat .mirror);"; return; }
	broken "$layer" "$from" "$to"
	# What was written and acknowledged now has to be there, whatever becomes of it
	n=20
	! numbered write --count 3 --flush 1 "${@/#//dev/mapper/}" >.numbered 2>&1 || n=23
	dmchain pivot "$@" >.pivot 2>&1
	[ "$(suspended)" = 0 ] || echo "$name: suspended;"
	broken "$layer"
	got=$(reopened "$@")
	[[ $got =~ ^(\ old)+$|^(\ new)+$ ]] || echo "$name: $got;"
	read -r side _ <<<"$got"
	echo "$side" >>sides
	got=$(numbered show "${@/#//dev/mapper/}" 2>&1) || echo "$name: $got;"
	for got in $got; do
		[[ $got != *torn* && $got -ge $n ]] || echo "$name: has $got of $n;"
	done
	for d; do
		dmchain close "$d" >.out 2>&1 || echo "$name: close: $(cat .out);"
	done
}

header=8 other=1024 maps=2048
: >sides
is "$(fails "target of a member" 3 0 $header u v)" "" "the header of a target fails: all or none"
is "$(fails "other slot of a target" 1 $other $((other + 8)) u v)" "" "its other slot: all or none"
is "$(fails "source of a member" 2 0 $header u v)" "" "the header of a source fails: all or none"
is "$(fails "decider" 0 0 $header u v)" "" "the header that decides fails: all or none"
is "$(fails "maps of a source" 2 $maps $((layer_mib * 2048 - 2048)) u v)" "" "a map fails: all or none"
is "$(fails "target of a raw disk" 5 0 $header u w)" "" "the header of a raw disk's target fails: all or none"
sort sides | uniq -c | sed 's/^/# after a failure:/'
is "$(wc -l <sides)" 6 "each of them opens"
# What had been pending and is not goes on as before: its changes are tracked. Headers
# are written in the order in which the disks were opened
prepare u
dd if=/dev/zero of=/dev/mapper/lay3 bs=1M count=2 oflag=direct status=none
dmchain create /dev/mapper/lay2 --size 8M >/dev/null
dmchain open v /dev/mapper/lay2
fill v 5 1 a
mirrors v=/dev/mapper/lay3
prepare w
broken 5 0 $header
run_fail 1 "undone: the header of another disk fails" dmchain pivot u v w
broken 5
broken 3 $maps $((layer_mib * 2048 - 2048))
fill v 0 1 x
wait_for 20 sh -c "dmchain job list v --json | grep -q concluded"
broken 3
dmchain recover v >.out 2>&1
fill v 5 1 b
dmchain close v
dmchain open v /dev/mapper/lay2 >.out 2>&1
run_ok "undone: its mirror is resumed" dmchain job resume v --wait
run_ok "undone: cancel when it is ready" dmchain job cancel v
is "$(dmchain info /dev/mapper/lay3 --json | jq -c '.layers[0].marks')" "[]" "undone: the copy is complete"
dd if=/dev/mapper/v of=was bs=1M iflag=direct status=none
run_ok "undone: and has what was written meanwhile" dmchain compare /dev/mapper/lay3 was --format-b raw
for d in u v w; do dmchain close $d >.out 2>&1; done

bad=""
for ((i = 0; i < failures; i++)); do
	from=$((RANDOM % 2 ? RANDOM % 2048 : RANDOM % (layer_mib * 2048 - 8)))
	at="layer $((n = RANDOM % 4)), sectors $from and on"
	bad+=$(fails "$at" $n $from $((from + 8 + RANDOM % 1024 < layer_mib * 2048 ? from + 8 + RANDOM % 512 : from + 8)) u v)
	[ $((i % 50)) != 49 ] || echo "# $((i + 1)) failures, $SECONDS s: $bad"
done
[ "$failures" = 0 ] || is "$bad" "" "$failures random failures: all or none"
sort sides | uniq -c | sed 's/^/# sides:/'
layers_off 6
losetup -d "$data"

# --- power cuts ---

modprobe dm-log-writes || modprobe dm_log_writes
if ! dmsetup targets | grep -q log-writes; then
	skip "power cuts" "this kernel has no log-writes target"
	done_testing
fi

# state WHAT IMAGE ENTRY: judge it; a message if it is bad
state()
{
	local what=$1 d got="" number n out
	cp --sparse=always "$2" scratch
	for d in $(shuf -e u v w); do
		got+=" $d $(open_one "$d")"
	done
	case $(xargs -n 2 <<<"$got" | cut -d ' ' -f 2- | sort | uniq -c | xargs) in
	"3 old")	echo old >>sides;;
	"3 new")	echo new >>sides;;
	*)		echo "$what: $got;"; return;;
	esac
	number=$(awk -v end="$3" '$1 < end && sub(/^num-/, "", $NF) { n = $NF } END { print n + 0 }' marks)
	out=$(numbered show --flush "$number" /dev/mapper/{u,v,w} 2>&1) || echo "$what: $out;"
	[[ $out != *lost* ]] || echo "$what: has $out, $number was flushed;"
	for d in u v w; do
		out=$(dmchain close $d 2>&1) || echo "$what: close: $out;"
	done
	for n in 0 2 $([[ $got != *new* ]] || echo 1 3 5); do
		out=$(dmchain check /dev/mapper/lay$n 2>&1) || echo "$what: check of lay$n: $out;"
	done
	# The source that lost is known as such, the other way round it is open to be
	for d in u v; do
		if [[ $got == *new* ]] && out=$(dmchain open x /dev/mapper/${old[$d]} 2>&1); then
			dmchain close x
			echo "$what: both sides of $d open;"
		fi
	done
}

rm -f data log target copy scratch sides stop
truncate -s $((6 * layer_mib))M data
truncate -s 400M log
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
run_ok "power cuts: mirrors" mirrors u=/dev/mapper/lay1 v=/dev/mapper/lay3 w=/dev/mapper/lay5
numbered write --until stop --flush 3 --mark lw /dev/mapper/{u,v,w} >/dev/null 2>wrote &
writer=$!
sleep 0.5
dmsetup message lw 0 mark before
for ((try = 0; try < 20; try++)); do
	! dmchain pivot w v u >.out 2>&1 || break
	grep -q "not ready" .out || break
done
dmsetup message lw 0 mark behind
sleep 0.3
touch stop
wait $writer
is "$? $(<wrote)" "0 " "power cuts: the writer never failed"
is "$(tops u v w)" "lay1 lay3 lay5" "power cuts: all moved on"
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
