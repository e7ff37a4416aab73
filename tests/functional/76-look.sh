#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1024 smp=2 timeout=400 group=qcow2
#
# Looking instead of reading: the chain as info draws it, with who shares what and what
# jobs do; pictures of maps, of disks of 64 TiB, too; top counts what was read and
# written, byte for byte. (tests/unit/bars.sh looks at the progress of commands.)

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
load_module

tree()		# tree ARGUMENTS...: the part of info that draws
{
	dmchain info "$@" | sed -n '/^chain:/,/^layers:/p' | sed '1d;$d'
}

# --- the chain, with who shares it

run_ok "base" dmchain create base.img --size 64M
dmchain open a base.img && fill a 0 32 a && dmchain close a
run_ok "a" dmchain create a.img --backing base.img --backing-format chain
run_ok "b" dmchain create b.img --backing base.img --backing-format chain --size 96M
dmchain open a a.img && dmchain open b b.img
fill a 0 8 b
is "$(tree a)" "    0  a.img         rw    [#.........] 8 MiB
    |
    |  .-- b
    | /
    1  base.img      ro    [#####.....] 32 MiB" "tree: of a"
is "$(tree b)" "    0  b.img         rw    [..........] 0 B
    |
    |  .-- a
    | /
    1  base.img      ro    [#####.....] 32 MiB of 64 MiB" "tree: of b"
like "$(dmchain info a)" 'layers:
    0  chain  rw    data 8 MiB, zero 0 B
         /[^ ]*/a.img on /dev/loop' "info: what it said before"
is "$(json 'keys | join(" ")' dmchain info a)" "block-size device jobs layers name state virtual-size" "info: JSON is what it was"

# --- pictures

run_ok "snapshot" dmchain snapshot a=a2.img
is "$(dmchain map a --draw | sed 1d | cut -c 1-72)" "    0 |                                                                |
    1 |########                                                        |
    2 |        ########################                                |
       0                                                         64 MiB" "draw: an open disk"
run_ok "picture: an open disk" dmchain map a --picture a.svg
like "$(head -c 4 a.svg; tail -c 7 a.svg)" '^<svg</svg>$' "picture: is whole"
is "$(grep -c '<text .*\(a2\|a\|base\)\.img' a.svg)" 3 "picture: names the layers"
run_ok "picture: once more" dmchain map a --picture a.svg
sum=$(sums base.img)
refused 1 'exists and is no picture' "picture: a layer is none" dmchain map a --picture base.img
is "$(sums base.img)" "$sum" "picture: and is left alone"
dmchain close a
is "$(dmchain map a2.img --draw | sed 1d | cut -c 1-72 | head -n 3 | sha256sum)" \
	"$(dmchain open a a2.img; dmchain map a --draw | sed 1d | cut -c 1-72 | head -n 3 | sha256sum)" \
	"draw: closed as open"
dmchain close a

# 64 TiB, written at both ends and in the middle
run_ok "huge" dmchain create huge.img --size 64T
dmchain open h huge.img
for at in 0 32t 67108863m; do
	xfs_io -d -c "pwrite -q -b 1m $at 1m" /dev/mapper/h || fail "huge: write at $at"
done
within 60 "huge: draw" dmchain map h --draw
is "$(dmchain map h --draw | sed -n 2p | cut -c 1-72)" "    0 |.                               .                              .|" "huge: a trace is seen"
within 60 "huge: picture" dmchain map h --picture huge.svg
[ "$(stat -c %s huge.svg)" -lt 20000 ]
is $? 0 "huge: a small one ($(stat -c %s huge.svg) bytes)"
dmchain close h
within 60 "huge: closed" dmchain map huge.img --picture huge.svg
rm huge.*

# Many layers
cp base.img many0.img
dmchain new-id many0.img >/dev/null
dmchain create many1.img --backing many0.img --backing-format chain >/dev/null
dmchain open m many1.img
for ((i = 2; i < 60; i++)); do
	dmchain snapshot "m=many$i.img" >/dev/null || fail "many: snapshot $i"
done
fill m 1 1 z
is "$(dmchain map m --draw | wc -l)" 5 "many: what is not seen is told of in one line"
run_ok "many: picture" dmchain map m --picture many.svg
is "$(dmchain top m --delay 0.2 --once | tail -n 1)" "       and 59 layers that do nothing" "many: top tells of those that do something"
dmchain close m
rm many*

# --- top counts

total()		# total JQ FILE: over all samples
{
	jq -s "[.[] | $1] | add" "$2"
}

dmchain open a a2.img
like "$(dmchain top --delay 0.2 --once | head -n 3)" 'disk, and its layers +reads/s +read/s +writes/s +written/s
a ' "top: a table"
is "$(dmchain top --delay 0.1 -n 3 --json | jq -s length)" 3 "top: three samples, three lines"
refused 1 'no such disk' "top: no such disk" dmchain top nobody --once
refused 2 'no delay' "top: no delay" dmchain top --delay 0
refused 2 'no number of samples' "top: no number" dmchain top -n none
# More than a line is in the buffer of a pipe's end that has gone
within 30 "top: who reads it may go" sh -c 'dmchain top --delay 0.1 --json 2>/dev/null | head -n 2 >/dev/null; :'
dmchain top --delay 0.5 -n 14 --json >top.out &
sleep 2
# Past both caches: 3 MiB over the top's data, 5 MiB of the base
dd if=/dev/zero of=/dev/mapper/a bs=1M count=3 oflag=direct conv=notrunc status=none
dd if=/dev/mapper/a of=/dev/null bs=1M skip=16 count=5 iflag=direct status=none
dd if=/dev/mapper/b of=/dev/null bs=1M skip=20 count=2 iflag=direct status=none
wait $!
is "$(total '.disks[] | select(.name == "a") | ."written-bytes"' top.out)" 3145728 "top: a's writes"
is "$(total '.disks[] | select(.name == "a") | ."read-bytes"' top.out)" 5242880 "top: a's reads"
is "$(total '.disks[] | select(.name == "b") | ."read-bytes"' top.out)" 2097152 "top: b's reads"
is "$(total '.disks[] | select(.name == "a") | .layers[2] | ."read-bytes"' top.out)" 7340032 "top: the base's, of both"
is "$(total '.disks[] | select(.name == "b") | .layers[1] | ."read-bytes"' top.out)" 7340032 "top: whoever is asked"
is "$(jq -s '[.[].disks[] | select(.name == "a") | .layers[2].users] | unique' -c top.out)" "[2]" "top: two have it"
[ "$(total '.disks[] | select(.name == "a") | .layers[0] | ."written-bytes"' top.out)" -ge 3145728 ]
is $? 0 "top: the top layer has the writes"
is "$(total '.disks[] | select(.name == "a") | .layers[1] | ."written-bytes"' top.out)" 0 "top: nobody writes below"

# --- jobs in it

run_ok "job: stream" dmchain stream a --into 1 --background --speed 1M
# shellcheck disable=SC2317 # called by wait_for
moving()
{
	dmchain info a | grep -qE '<- stream [0-9]+ into this, running [0-9]+ %'
}
wait_for 30 moving
is $? 0 "job: the tree has it"
like "$(tree a)" '
    1  a.img  *r[wo]  *\[[#.]*\] [^<]*<- stream [0-9]+ into this' "job: at the layer that takes the data in"
dmchain top a --delay 1 --once >top.out
like "$(cat top.out)" 'job [0-9]+ a stream \[[#.]+\] [0-9]+ %, .* of .*, .*/s' "job: top has it, and its speed"
is "$(json '[.jobs[] | .type, .chain] | join(" ")' dmchain top a --delay 0.2 -n 1)" "stream a" "job: JSON, too"
is "$(json '.jobs | length' dmchain top b --delay 0.2 -n 1)" 0 "job: not of another disk"
run_ok "job: cancel" dmchain job cancel a

dmchain close a
dmchain close b

done_testing
