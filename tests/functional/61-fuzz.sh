#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.12,debug long=6.12 mem=1024 smp=2 timeout=500 group=fuzz
#
# Hostile callers: every call of /dev/dm-chain, tables and messages, by kfuzz, while I/O
# runs on disks of the same module. These show what their model does afterwards, nothing
# hangs, and the kernel has nothing to say. FUZZ_SECONDS: for how long, FUZZ_SEED: one
# more seed. What is done goes to kfuzz-SEED.log in the output directory.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

seconds=${FUZZ_SECONDS:-20} scale=${TIMEOUT_SCALE:-1}
# What lands is judged by the same ones each time; those of chance are for the long run
chance=2
[ -z "${LONG-}" ] || chance=$(($(date +%s) % 1000000))
seeds="1 ${FUZZ_SEED:-$chance}"
cd "$TMP" || exit 1
load_module

# --- two disks whose contents count; the lower layers of one are open to others, too

run_ok "a base" dmchain create base.img --size 4M --max-size 64M
run_ok "a layer" dmchain create w1.img --backing base.img --backing-format chain
run_ok "a disk" dmchain open w w1.img
run_ok "it is filled" iomodel run /dev/mapper/w --model w.model --ops 200 --max 64K --seed 1
run_ok "snapshot" dmchain snapshot w=w2.img
truncate -s 4M raw.img
run_ok "a layer on a raw one" dmchain create x1.img --backing raw.img --backing-format raw
run_ok "a disk" dmchain open x x1.img
run_ok "it is filled" iomodel run /dev/mapper/x --model x.model --ops 200 --max 64K --seed 2

# --- what the fuzzer may have: two chains of three layers, a copy's target, a new top

args=()
declare -A dev
attach()	# attach FILE
{
	dev[$1]=$(losetup --show -f "$1") || fail "losetup $1"
	on_exit losetup -d "${dev[$1]}"
	dev[$1]=$(lsblk -dnro MAJ:MIN "${dev[$1]}" 2>/dev/null || cat "/sys/block/${dev[$1]#/dev/}/dev")
}
for c in a b; do
	dmchain create ${c}0.img --size 4M --max-size 64M >/dev/null
	dmchain create ${c}1.img --backing ${c}0.img --backing-format chain >/dev/null
	dmchain create ${c}2.img --backing ${c}1.img --backing-format chain >/dev/null
	dmchain create ${c}t.img --size 4M --max-size 64M >/dev/null
	truncate -s 4M ${c}r.img
	for file in ${c}0 ${c}1 ${c}2 ${c}t ${c}r; do
		attach $file.img
	done
	top="${dev[${c}2.img]} chain rw" mid="${dev[${c}1.img]} chain" base="${dev[${c}0.img]} chain"
	# In the order that kfuzz knows
	args+=(--table "8192 chain 3 $top $mid ro $base ro"
		--table "8192 chain 3 $top $mid rw $base rw"
		--table "8192 chain 4 ${dev[${c}t.img]} chain target $top $mid ro $base ro"
		--table "8192 chain 4 ${dev[${c}r.img]} raw target $top $mid ro $base ro"
		--table "8192 chain 2 $mid ro $base ro")
done
# Layers of the disks that count: who has them needs no fuzzer to be refused
for word in $(dmsetup table w) $(dmsetup table x); do
	[[ $word != *:* ]] || args+=(--device "$word")
done

# --- go

# A fuzzer whose calls are all refused at the door tests the door only
kinds="version layers map expedite holders acquire jobs monitor job-start job-verb load
	resume status read write remove"
# shellcheck disable=SC2086 # a list of words
want=$(printf -- ' --want %s' $kinds)

# The disk's I/O goes on all the time: nobody outside can hold it back
io()		# io DISK SEED
{
	iomodel run /dev/mapper/"$1" --model "$1.model" --seconds "$seconds" --threads 2 \
		--max 64K --seed "$2" --verify-end >"$1.out" 2>&1
	echo $? >"$1.status"
}

# Somebody who means well, and who may be in the way of the fuzzer's tokens
snapshots()	# snapshots SEED
{
	local i
	for ((i = 0; i < seconds / 5; i++)); do
		sleep 5
		dmchain snapshot w="s$1-$i.img" >>snapshots.out 2>&1 && echo taken >>snapshots.out
	done
}

for seed in $seeds; do
	log=/out/kfuzz-$seed.log
	echo "# seed $seed, $seconds s; to repeat operation N: kfuzz --seed $seed --from N --count 1"
	rm -f ./*.status
	io w "$seed" &
	io x "$((seed + 1))" &
	snapshots "$seed" &
	# shellcheck disable=SC2086 # words
	run_ok "seed $seed: nothing hangs, nothing is written where it should not be" \
		kfuzz --seed "$seed" --seconds "$seconds" --least 400 $want --log "$log" \
		--hang $((120 * scale)) --disk w --disk x "${args[@]}"
	output | tee -a all.out | sed 's/^/# /'
	wait
	is "$(cat w.status) $(cat x.status)" "0 0" "seed $seed: the disks' I/O went on as the model"
	want=
	for disk in w x; do
		run_ok "seed $seed: $disk reads as its model" iomodel verify /dev/mapper/$disk \
			--model $disk.model
	done
	no_violations "seed $seed: the gate refused nothing"
	is "$(dmsetup ls | grep -c kfuzz)" 0 "seed $seed: the fuzzer's disks are gone"
done
for what in $kinds; do
	grep -q "^$what [1-9]" all.out
	is $? 0 "some of what was tried was done: $what"
done
echo "# $(grep -c taken snapshots.out) snapshots beside it"
grep -q taken snapshots.out
is $? 0 "snapshots were taken beside it"
run_ok "the disk still has snapshots" dmchain snapshot w=w3.img
run_ok "it reads as its model" iomodel verify /dev/mapper/w --model w.model
for disk in w x; do
	run_ok "close" dmchain close $disk
done
for file in base.img w1.img w2.img w3.img x1.img; do
	run_ok "$file has no damage" dmchain check $file
done
done_testing
