#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# import and export on closed images, by the program with sanitizers: what a layer
# holds is what its image holds, there and back. Prints a line for each test.
#
#	DMCHAIN=path/to/dmchain tests/unit/qcow2.sh

set -u
export LC_ALL=C
top=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/lib/tap.sh
. "$top/tests/lib/tap.sh"
DMCHAIN=$(realpath "${DMCHAIN:-${O:-$top/build}/asan/dmchain}")
cd "$TMP" || exit 1

# t NAME CODE COMMAND...: one line on stderr if and only if it fails
t()
{
	local name=$1 want=$2 code lines
	shift 2
	"$@" >.out 2>.err </dev/null
	code=$?
	lines=$(grep -vc '^dmchain: warning: ' .err)
	if [ $code != "$want" ] || { [ "$want" != 0 ] && [ "$lines" != 1 ]; } ||
		grep -q 'Sanitizer\|runtime error' .err; then
		echo "# expected exit code $want of '$*', saw $code and $lines lines"
		sed 's/^/# /' .out .err
		fail "$name"
	else
		ok "$name"
	fi
}

# shellcheck disable=SC2016 # jq's
merge='reduce .[] as $e ([]; if length > 0 and .[-1][0] + .[-1][1] == $e[0] and .[-1][2] == $e[2]
	then .[-1][1] += $e[1] else . + [$e] end)'

layout_q()	# layout_q FILE: what an image holds itself: start, length, zero
{
	qemu-img map --output=json \
		"json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"$PWD/$1\"},\"backing\":null}" |
		jq -c "[.[] | select(.present) | [.start, .length, .zero]] | $merge"
}

layout_d()	# layout_d FILE: the same of a layer
{
	"$DMCHAIN" map "$1" --json |
		jq -c "[.[] | select(.present and .depth == 0) | [.start, .length, .zero]] | $merge"
}

io()		# io FILE COMMAND...
{
	local file=$1 args=() c
	shift
	for c; do
		args+=(-c "$c")
	done
	qemu-io -f qcow2 "${args[@]}" "$file" >.io 2>&1 || { cat .io; failed=$((failed + 1)); }
}

mkdir src in out back
qemu-img create -q -f qcow2 src/base.qcow2 8M
io src/base.qcow2 'write -P 1 0 2M' 'write -c -P 2 3M 64k' 'write -z 5M 1M'
qemu-img create -q -f qcow2 -o cluster_size=4k -b base.qcow2 -F qcow2 src/mid.qcow2 12M
io src/mid.qcow2 'write -P 4 4k 4k' 'write -z 1M 128k' 'write -P 5 11M 1M'
qemu-img create -q -f qcow2 -o cluster_size=512 -b mid.qcow2 -F qcow2 src/top.qcow2 9M
io src/top.qcow2 'write -P 7 512 512' 'write -z 1536k 512' 'write -P 9 8M 4k'

# --- There and back
t "import" 0 "$DMCHAIN" import src/top.qcow2 in --verify
is "$(layout_d in/base.img)" "$(layout_q src/base.qcow2)" "import: the base holds what its image holds"
is "$(layout_d in/mid.img)" "$(layout_q src/mid.qcow2)" "import: the middle, too"
is "$(layout_d in/top.img)" "[[0,4096,false],[1572864,4096,false],[8388608,4096,false]]" \
	"import: parts of blocks become blocks"
for l in base mid top; do
	t "import: $l is sound" 0 "$DMCHAIN" check in/$l.img
done
t "export" 0 "$DMCHAIN" export in/top.img out --verify
for l in base mid top; do
	is "$(layout_q out/$l.qcow2)" "$(layout_d in/$l.img)" "export: $l holds what its layer holds"
	t "export: $l: QEMU finds no fault" 0 qemu-img check -q -f qcow2 out/$l.qcow2
	t "export: $l: QEMU compares" 0 qemu-img compare -f qcow2 -F qcow2 src/$l.qcow2 out/$l.qcow2
done
t "back" 0 "$DMCHAIN" import out/top.qcow2 back
for l in base mid top; do
	is "$(layout_d back/$l.img)" "$(layout_d in/$l.img)" "back: $l is what it was"
done
t "clusters" 0 "$DMCHAIN" export in/top.img out/big.qcow2 --lower-in back --cluster-size 64K --verify
t "clusters: QEMU compares" 0 qemu-img compare -f qcow2 -F qcow2 src/top.qcow2 out/big.qcow2
t "clusters: that are none" 2 "$DMCHAIN" export in/top.img out/x.qcow2 --cluster-size 3000
rm -f in/* out/* back/*

# --- Two images on one
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 src/one.qcow2
io src/one.qcow2 'write -P 11 1M 64k' 'write -z 0 64k'
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 src/two.qcow2 10M
io src/two.qcow2 'write -P 12 9M 64k'
t "shared: the base" 0 "$DMCHAIN" import src/base.qcow2 in
t "shared: not on a layer that shows something else" 1 sh -c "$DMCHAIN create in/other.img --size 8M >/dev/null &&
	$DMCHAIN import src/one.qcow2 in --onto in/other.img"
is "$(cd in && echo *)" "base.img other.img" "shared: that leaves nothing"
is "$("$DMCHAIN" info in/other.img --json | jq -c '.layers[0].marks')" "[]" "shared: nor a seal"
t "shared: one" 0 "$DMCHAIN" import src/one.qcow2 in --onto in/base.img
t "shared: two" 0 "$DMCHAIN" import src/two.qcow2 in --onto in/base.img
is "$(cd in && echo *)" "base.img one.img other.img two.img" "shared: there is one base"
is "$("$DMCHAIN" info in/two.img --json | jq -c '[.layers[].marks]')" '[[],["sealed","many-children"]]' \
	"shared: that knows of both"
is "$(layout_d in/one.img)" "$(layout_q src/one.qcow2)" "shared: one holds what its image holds"
is "$(layout_d in/two.img)" "$(layout_q src/two.qcow2)" "shared: two, too"
t "shared: one: export" 0 "$DMCHAIN" export in/one.img out
t "shared: one: QEMU compares" 0 qemu-img compare -f qcow2 -F qcow2 src/one.qcow2 out/one.qcow2
t "shared: on itself" 1 "$DMCHAIN" import src/one.qcow2 in --onto in/one.img
t "shared: it stands on nothing" 2 "$DMCHAIN" import src/base.qcow2 out --onto in/base.img
t "shared: no layer" 1 "$DMCHAIN" import src/one.qcow2 out/x.img --onto in/none.img
rm -f in/* out/*

# --- A layer that shows zeroes where its parent has data
qemu-img create -q -f qcow2 src/full.qcow2 4M
io src/full.qcow2 'write -P 1 0 4M'
t "limit: base" 0 "$DMCHAIN" import src/full.qcow2 in
t "limit: top" 0 "$DMCHAIN" create in/top.img --backing in/full.img --backing-format chain
t "limit: shrink" 0 "$DMCHAIN" resize in/top.img 1M --shrink
t "limit: grow" 0 "$DMCHAIN" resize in/top.img 6M
t "limit: export" 0 "$DMCHAIN" export in/top.img out --verify
is "$(layout_q out/top.qcow2)" "[[1048576,3145728,true]]" "limit: zeroes, as far as the parent goes"
# One that cuts a block: its first bytes are the parent's
rm -f out/*
t "limit within a block: top" 0 "$DMCHAIN" create in/cut.img --backing in/full.img --backing-format chain
t "limit within a block: shrink" 0 "$DMCHAIN" resize in/cut.img 1049088 --shrink
t "limit within a block: grow" 0 "$DMCHAIN" resize in/cut.img 6M
t "limit within a block: export" 0 "$DMCHAIN" export in/cut.img out --verify
rm -f in/* out/*

# --- A raw base; nothing says what it is
truncate -s 4M src/raw.img
qemu-img create -q -f qcow2 -b raw.img -F raw src/onraw.qcow2
io src/onraw.qcow2 'write -P 1 1M 64k'
t "raw base" 0 "$DMCHAIN" import src/onraw.qcow2 in --verify
is "$(cd in && echo *)" onraw.img "raw base: stays where it is"
t "raw base: export" 0 "$DMCHAIN" export in/onraw.img src/back.qcow2 --verify
t "raw base: QEMU compares" 0 qemu-img compare -f qcow2 -F qcow2 src/onraw.qcow2 src/back.qcow2
at=$(grep -aboF $'\xe2\x79\x2a\xca' src/onraw.qcow2 | head -n 1 | cut -d : -f 1)
printf none | dd of=src/onraw.qcow2 bs=1 seek="$at" conv=notrunc status=none
t "raw base: of no format" 4 "$DMCHAIN" import src/onraw.qcow2 out
t "raw base: format given" 0 "$DMCHAIN" import src/onraw.qcow2 out --backing-format raw
rm -f in/* out/*

# --- Nothing is overwritten, and nothing half made is left
echo there >out/base.img
t "exists: one below" 1 "$DMCHAIN" import src/top.qcow2 out
t "exists: the top" 1 "$DMCHAIN" import src/base.qcow2 out/base.img
is "$(cd out && echo * && cat base.img)" $'base.img\nthere' "exists: it is left, and alone"
rm out/*
t "block size" 2 "$DMCHAIN" import src/top.qcow2 out --block-size 5K
t "no folder" 1 "$DMCHAIN" import src/top.qcow2 out/no/x.img
t "no lower folder" 1 "$DMCHAIN" import src/top.qcow2 out --lower-in out/no
t "no image" 1 "$DMCHAIN" import src/top.qcow2.no out
t "a disk's name" 2 "$DMCHAIN" export vm1 out
head -c 1M /dev/urandom >src/noise
t "noise" 4 "$DMCHAIN" import src/noise out
qemu-img create -q -f qcow2 -u -b /etc/passwd -F raw src/evil.qcow2 1M
t "hostile: a file of the host" 3 "$DMCHAIN" import src/evil.qcow2 out
qemu-img create -q -f qcow2 -u -b nbd://127.0.0.1:1/x -F raw src/evil.qcow2 1M
t "hostile: a server" 4 "$DMCHAIN" import src/evil.qcow2 out
ln -s /etc/passwd src/link
qemu-img create -q -f qcow2 -u -b link -F raw src/evil.qcow2 1M
t "hostile: a link" 3 "$DMCHAIN" import src/evil.qcow2 out
esc=$'\e[31m'
mkdir "odd$esc"
cp src/full.qcow2 "src/full$esc.qcow2"
t "hostile: a name that a terminal obeys" 4 "$DMCHAIN" import "src/full$esc.qcow2" out
qemu-img create -q -f qcow2 -u -b "full$esc.qcow2" -F qcow2 src/evil.qcow2 1M
t "hostile: of one below" 4 "$DMCHAIN" import src/evil.qcow2 out/evil.img
is "$(ls -A out)" "" "nothing is left of all that"
t "hostile: a name of the user's own" 0 "$DMCHAIN" import "src/full$esc.qcow2" "odd$esc/a$esc.img"
is "$(tr -d '\n[:print:]' <.out | wc -c)" 0 "hostile: nothing of it goes to the terminal"
t "hostile: export of it" 4 "$DMCHAIN" export "odd$esc/a$esc.img" out
t "hostile: export of it to a name" 0 "$DMCHAIN" export "odd$esc/a$esc.img" "odd$esc/a$esc.qcow2"
is "$(tr -d '\n[:print:]' <.out | wc -c)" 0 "hostile: nor then"

done_testing
