#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug,kcsan long=6.1,debug,kcsan mem=1024 smp=2 timeout=240 group=main
#
# Who may hold which layer beside whom: all pairs of operations against the
# matrix, processes that fight for tokens and are killed, calls with nonsense in
# them; lower layers that become writable for a job, and cease to be.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
slow=1
[ "$KERNEL" != debug ] || slow=5

chain()		# chain PREFIX BASE COUNT: layers on a base
{
	local i below=$2
	for ((i = 1; i <= $3; i++)); do
		dmchain create $1$i.img --backing "$below" --backing-format chain >/dev/null ||
			fail "create $1$i.img"
		below=$1$i.img
	done
}

dmchain create base.img --size 8M --max-size 64M >/dev/null
chain a base.img 5
run_ok "open" dmchain open a a5.img

# --- the matrix

run_ok "all pairs of operations on one disk" token /dev/mapper/a pairs
output | sed 's/^/# /'
chain b a2.img 3
run_ok "a second disk on its lower layers" dmchain open b b3.img
run_ok "all pairs, three layers shared" token /dev/mapper/a pairs 3
output | sed 's/^/# /'
run_ok "... seen from the other disk" token /dev/mapper/b pairs 3
no_violations "the gate refused nothing"

# The controller gives the kernel's answers, and names who holds what
cat >alike.sh <<'END'
for what in "snapshot" "resize" "mirror" "commit --top 0 --base 1" "commit --top 1 --base 2" \
	"commit --top 2 --base 3" "commit --top 3 --base 5" "stream --into 0 --base 2" \
	"stream --into 2 --base 4" "stream --into 3" "copy-layer --top 1" "copy-layer --top 4"; do
	set -- $what
	top=0 base=0
	[ $1 != stream ] || base=6
	while [ $# -gt 1 ]; do
		case $2 in
		--top|--into)	top=$3;;
		--base)		base=$3;;
		esac
		op=$1; shift 3; set -- $op "$@"
	done
	[ $1 != mirror ] || set -- mirror
	token /dev/mapper/a hold $1 $top $base >kernel 2>&1
	kernel=$?
	dmchain perm check ${what%% *} a ${what#"$1"} >controller 2>&1
	controller=$?
	[ $kernel = $controller ] || echo "$what: kernel $kernel, controller $controller"
	[ $controller != 3 ] || grep -qE "held by [a-z]+ " controller || cat controller
	echo $controller >>codes
done
END
rm -f codes
for first in "snapshot 0 0" "mirror 0 0" "commit 1 2" "commit 0 1" "stream 0 6" "stream 2 4" "copy-layer 3 0"; do
	# shellcheck disable=SC2086 # three words
	is "$(token /dev/mapper/a hold $first sh alike.sh)" "" "beside $first: controller and kernel alike"
done
is "$(sort -u codes | xargs)" "0 3" "both answers came"

# --- from disk to disk, and who it is

refused 3 "a2.img|held|holds" "unseal below open disks" dmchain unseal a2.img
run_fail 3 "a commit into a layer that another disk has" token /dev/mapper/a hold commit 2 3
like "$(output)" "disk b: a table holds it as guest lower" "... which is named"
run_ok "... but above it" token /dev/mapper/a hold commit 1 2
run_fail 1 "nonsense: a commit upwards" token /dev/mapper/a hold commit 3 2
run_fail 1 "nonsense: no such layer" token /dev/mapper/a hold commit 7 8
dmchain close b

# --- beside the disk's own operations

hold()		# hold OPERATION TOP BASE COMMAND...
{
	token /dev/mapper/a hold "$@"
}

run_ok "a snapshot while a stream into the top runs" hold stream 0 3 dmchain snapshot a=s1.img
run_ok "a snapshot while a lower commit runs" hold commit 3 4 dmchain snapshot a=s2.img
run_ok "growing while a lower commit runs" hold commit 3 4 dmchain resize a +1M
run_fail 3 "no snapshot while a mirror runs" hold mirror 0 0 dmchain snapshot a=no.img
like "$(output)" "mirror" "... which is named"
run_fail 3 "no growing while a mirror runs" hold mirror 0 0 dmchain resize a +1M
like "$(output)" "mirror" "... which is named"
run_fail 3 "no snapshot while an active commit runs" hold commit 0 2 dmchain snapshot a=no.img
[ ! -e no.img ]
is $? 0 "no image is left of that"
run_ok "a read-only disk on a layer that is not changed" hold stream 0 2 dmchain open r a1.img --read-only
run_ok "close it" dmchain close r
run_fail 3 "none on a layer that is" hold commit 4 5 dmchain open r a3.img --read-only
like "$(output)" "held by a .commit, " "... which is named"
run_ok "snapshot and growing go on without a job" dmchain snapshot a=s3.img

# --- many at once

run_ok "tokens from many processes, killed at any moment" \
	token /dev/mapper/a storm $((10000 / slow)) 6
output | sed 's/^/# /'
run_ok "calls with nonsense in them" token /dev/mapper/a fuzz $((20000 / slow))
output | sed 's/^/# /'
run_ok "the disk still answers" dmchain info a
is "$(status_of a | grep -o 'violations=[0-9]*')" violations=0 "no I/O went without a permission"

# --- a lower layer becomes writable, and ceases to be

table=$(dmsetup table a)
marks_of()
{
	headeretc=$(headeredit "$1" get 0 marks)
	echo "$headeretc"
}
file=a2.img
depth=$(dmchain info a --json | jq ".layers[]|select(.path|endswith(\"/$file\")).index")
ro=$(loop_of $file)
rodev=$(lsblk -dnro MAJ:MIN "$ro" | tr -d ' ')
losetup -f $file
rw=$(losetup -n -O NAME,RO -j $file | awk '$2 == 0 { print $1 }')
up=${table//"$rodev chain ro"/"$rw chain rw"}
[ "$up" != "$table" ] || fail "the table has $rodev" "$table"

# What dm still has open for writing goes with the next reload
back()
{
	dmchain recover a && losetup -d "$rw"
}
before=$(sha256sum $file)
run_fail any "writable without a token: refused" dmsetup reload a --table "$up"
like "$(dmesg | tail -n 5)" "only while a job" "... which the log says"
run_fail any "nor with one for another layer" token /dev/mapper/a hold commit 1 2 \
	dmsetup reload a --table "$up"
run_fail any "nor with one that only reads it" token /dev/mapper/a hold stream $((depth - 1)) $((depth + 1)) \
	dmsetup reload a --table "$up"
is "$(sha256sum $file)" "$before" "nothing was written"
cp --sparse=always $file copy.img
losetup -f copy.img
run_fail any "a copy of the layer: refused" token /dev/mapper/a hold commit $((depth - 1)) "$depth" \
	dmsetup reload a --table "${up//"$rw"/$(loop_of copy.img)}"
like "$(dmesg | tail -n 5)" "copy" "... which the log says"
is "$(headeredit copy.img get 0 marks)" "$(headeredit $file get 0 marks)" "the copy is not marked in use"
losetup -d "$(loop_of copy.img)"

cat >up.sh <<-END
	dmsetup reload a --table "$up" && dmsetup resume a || exit 1
	dmsetup table a >during
	headeredit $file get 0 marks >marks
	exit 0
END
run_ok "with a token that writes it" token /dev/mapper/a events commit $((depth - 1)) "$depth" sh up.sh
like "$(output)" "1 upgraded $depth" "the token is told"
is "$(grep -o 'chain rw' during | wc -l)" 2 "it was rw meanwhile, as the top is"
is "$((0x$(printf %x "$(<marks)") & 4))" 4 "and marked in use"
wait_for 10 sh -c '! dmsetup table a | cut -d " " -f 8- | grep -q rw'
is $? 0 "without the token it is read-only again"
wait_for 10 sh -c "[ \$((\$(headeredit $file get 0 marks) & 4)) = 0 ]"
is $? 0 "and no longer in use"
is "$(json ".layers[$depth].access" dmchain info a)" ro "info says so"
is "$(blockdev --getro "$rw")" 0 "its device can still be written"
run_ok "recover opens it read-only" back
like "$(output)" "opened read-only" "... and says so"
is "$(dmsetup table a)" "${table/"$rodev chain"/"7:${rw#/dev/loop} chain"}" "all else is as before"
rm -f during
run_ok "once more, with a token that is killed" bash -c "
	losetup $rw $file 2>/dev/null
	token /dev/mapper/a hold commit $((depth - 1)) $depth sh -c 'sh up.sh; echo up >up; sleep 60' &
	until [ -e up ]; do sleep 0.1; done
	pkill -KILL -x token; pkill -x sleep; wait; exit 0"
is "$(grep -o 'chain rw' during | wc -l)" 2 "it was rw again"
wait_for 10 sh -c '! dmsetup table a | cut -d " " -f 8- | grep -q rw'
is $? 0 "the kernel takes it back"
run_ok "recover opens it read-only" dmchain recover a

# --- the same by the controller

hold="dmchain perm hold commit a --top $((depth - 1)) --base $depth --writable --"
run_ok "perm hold" $hold sh -c 'dmsetup table a >during; exit 0'
is "$(grep -o 'chain rw' during | wc -l)" 4 "base, range and overlay are rw meanwhile, and the top"
is "$(dmsetup table a | grep -o 'chain rw' | wc -l)" 1 "then only the top is"
run_fail 7 "the command's exit code is passed on" $hold sh -c 'exit 7'
run_fail 127 "no such command" $hold nonsense
run_ok "killed" bash -c "$hold sh -c 'echo up >up2; sleep 60' & until [ -e up2 ]; do sleep 0.1; done
	pkill -KILL -x dmchain; pkill -x sleep; wait; exit 0"
wait_for 10 sh -c '! dmsetup table a | cut -d " " -f 8- | grep -q rw'
is $? 0 "the kernel takes all back"
run_ok "recover" dmchain recover a
is "$(dmchain recover a)" "" "which is done then"
# Neither has to wait for the kernel to be done, they do so themselves
for next in "dmchain recover a" "dmchain snapshot a=s4.img" "dmchain resize a +1M"; do
	rm -f up2
	run_ok "killed" bash -c "$hold sh -c 'echo up >up2; sleep 60' & until [ -e up2 ]; do sleep 0.1; done
		pkill -KILL -x dmchain; pkill -x sleep; exit 0"
	run_ok "at once: $next" $next
done
depth=$(dmchain info a --json | jq ".layers[]|select(.path|endswith(\"/$file\")).index")
run_ok "recover" dmchain recover a
refused 3 "held by a .commit, range" "refused, with the holder's name" dmchain perm hold commit a \
	--top $((depth - 1)) --base $depth -- dmchain perm hold stream a --into $((depth - 1)) -- true
refused 2 "no such operation" "no such operation" dmchain perm hold nonsense a -- true

# --- a raw base, and images that can't be written

truncate -s 64M fs
mkfs.ext4 -q fs && mkdir mnt && mount fs mnt || fail "a file system"
yes raw | head -c 4M >mnt/raw.img
run_ok "raw: create" dmchain create mnt/r1.img --backing mnt/raw.img --backing-format raw --max-size 16M
run_ok "raw: open" dmchain open r mnt/r1.img
run_ok "raw: snapshot" dmchain snapshot r=mnt/r2.img
run_ok "raw: base and range writable" dmchain perm hold commit r --top 1 --base 2 --writable -- \
	sh -c 'dmsetup table r >during'
like "$(<during)" "raw rw" "raw: they were"
run_ok "raw: the disk reads on" cmp -n 4194304 /dev/mapper/r mnt/raw.img
run_ok "close" dmchain close r
run_ok "open again" dmchain open r mnt/r2.img
mount -o remount,ro mnt 2>/dev/null || { run_ok "freeze it" chattr +i mnt/raw.img; }
chattr +i mnt/raw.img 2>/dev/null
before=$(dmsetup table r)
refused 3 "raw.img" "an image that can't be written" dmchain perm hold commit r --top 1 --base 2 \
	--writable -- true
is "$(dmsetup table r)" "$before" "changes nothing"
chattr -i mnt/raw.img 2>/dev/null
run_ok "close" dmchain close r
umount mnt

# What a job leaves belongs to its disk until it is taken back, which may take
# its time: here the layer above the base is on a device that is suspended
yes raw | head -c 4M >raw.img
truncate -s 24M slow.dev
losetup -f slow.dev
slowdev=$(loop_of slow.dev)
run_ok "slow: a device" dmsetup create slow --table "0 $(blockdev --getsz "$slowdev") linear $slowdev 0"
run_ok "slow: create" dmchain create /dev/mapper/slow --backing raw.img --backing-format raw
run_ok "slow: open" dmchain open r /dev/mapper/slow
run_ok "slow: snapshot" dmchain snapshot r=r2.img
cat >slow.sh <<-'END'
	dmsetup suspend --noflush slow
	echo up >up3
	sleep 60
END
run_ok "slow: the job is killed when its layer can't be taken back" bash -c "
	dmchain perm hold commit r --top 1 --base 2 --writable -- sh slow.sh &
	until [ -e up3 ]; do sleep 0.1; done; pkill -KILL -x dmchain; pkill -x sleep; wait; exit 0"
rawdev=$(losetup -n -O NAME,RO -j raw.img | awk '$2 == 0 { print $1 }')
like "$rawdev" "^/dev/loop[0-9]+$" "slow: the base is there to be written"
run_fail any "slow: the base has no second writer meanwhile" dmsetup create thief \
	--table "0 8192 chain 1 $rawdev raw rw"
dmsetup remove thief 2>/dev/null
run_ok "slow: resume" dmsetup resume slow
wait_for 10 sh -c '! dmsetup table r | cut -d " " -f 8- | grep -q rw'
is $? 0 "slow: then all is taken back"
run_ok "slow: recover" dmchain recover r
run_ok "slow: close" dmchain close r
run_ok "slow: the device goes" dmsetup remove slow
losetup -d "$slowdev"

# --- a job holds its layers

table=$(dmsetup table a)
run_fail any "a layer that a job holds can't be dropped" token /dev/mapper/a hold stream $((depth - 1)) $((depth + 1)) \
	dmsetup reload a --table "$(awk -v n=$((4 + 3 * depth)) '{
		$4--; for (i = 1; i <= NF; i++) if (i <= n || i > n + 3) printf "%s ", $i }' <<<"$table")"
like "$(dmesg | tail -n 5)" "a job holds" "... which the log says"
run_ok "a disk that goes takes its grants along" token /dev/mapper/a events commit 2 3 dmchain close a
like "$(output)" "disk-gone" "the token is told"
run_ok "it opens again" dmchain open a s4.img
is "$(token /dev/mapper/a pairs | wc -l)" 1 "and all is free"
run_ok "close" dmchain close a
is "$(losetup -n -l 2>/dev/null)" "" "no loop device is left"

done_testing
