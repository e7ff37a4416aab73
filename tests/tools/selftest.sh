#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Do the test tools find what they are to find? They run on plain files here;
# each check that must pass has a twin with a planted defect that must fail.
#
#	tests/tools/selftest.sh [DIRECTORY-WITH-THE-TOOLS]
#
# Without an argument the tools are built first.
set -u
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bin=${1:+$(cd "$1" && pwd)}
passed=0
failed=0

build() {
	local src more libs

	bin=$work/bin
	mkdir "$bin"
	for src in "$here"/*.c; do
		more=$(sed -n '1,5s@^// sources: @@p' "$src")
		libs=$(sed -n '1,5s@^// libs: @@p' "$src")
		[ -n "$more" ] || continue
		# shellcheck disable=SC2086 # lists of words
		(cd "$top" && gcc -O2 -Wall -Wextra -Werror -std=gnu11 \
			-D_GNU_SOURCE \
			-o "$bin/$(basename "$src" .c)" "$src" $more $libs) || exit 2
	done
}

# expect STATUS NAME COMMAND...
expect() {
	local want=$1 name=$2 got

	shift 2
	"$@" > "$work/out" 2>&1
	got=$?
	if [ $got = "$want" ]; then
		echo "ok - $name"
		passed=$((passed + 1))
	else
		echo "not ok - $name (exit $got, not $want)"
		sed 's/^/# /' "$work/out" | head -20
		failed=$((failed + 1))
	fi
}

# The same, and the output must hold TEXT.
expect_text() {
	local want=$1 text=$2 name=$3

	shift 3
	expect "$want" "$name" "$@"
	if ! grep -q -- "$text" "$work/out"; then
		echo "not ok - $name: says '$text'"
		sed 's/^/# /' "$work/out" | head -20
		failed=$((failed + 1))
	fi
}

new_disk() {
	rm -f "$work"/disk* "$work"/model*
	truncate -s 8M "$work/disk"
}

test_iomodel() {
	local io=$bin/iomodel disk=$work/disk model=$work/model defect

	new_disk
	expect 0 "iomodel: run" "$io" run "$disk" --model "$model" --ops 3000 \
		--max 128K --verify-end
	expect 0 "iomodel: verify" "$io" verify "$disk" --model "$model"
	expect 0 "iomodel: goes on with its model" "$io" run "$disk" \
		--model "$model" --ops 1000 --seed 2 --max 64K
	expect 0 "iomodel: model from the device" "$io" run "$disk" \
		--init-from-dev --ops 1000 --seed 3 --max 64K --verify-end
	expect 1 "iomodel: verify finds a foreign write" \
		"$io" verify "$disk" --model "$model"
	expect 0 "iomodel: compare" "$io" compare "$disk" "$disk"
	expect 1 "iomodel: compare finds a difference" \
		"$io" compare "$disk" "$model"
	for defect in flip drop tear shift nodiscard nozero; do
		new_disk
		expect_text 1 mismatch "iomodel: finds '$defect'" \
			"$io" run "$disk" --ops 8000 --max 64K --verify-end \
			--self-test-corrupt $defect:50
	done
	new_disk
	expect 0 "iomodel: neighbours in a block" "$io" run "$disk" --overlap \
		--ops 5000 --max 64K --verify-end
	expect_text 1 mismatch "iomodel: finds a lost update" "$io" run "$disk" \
		--overlap --ops 8000 --max 64K --verify-end \
		--self-test-corrupt stale:20
}

test_hooks() {
	local io=$bin/iomodel disk=$work/disk model=$work/model

	new_disk
	cat > "$work/freeze" <<-END
		#!/bin/sh
		cp --sparse=always "$disk" "$disk.frozen.\$1"
	END
	chmod +x "$work/freeze"
	expect_text 0 "hooks 4" "iomodel: freezing hook" "$io" run "$disk" \
		--model "$model" --hook "$work/freeze" --hook-every 700 \
		--hook-max 4 --hook-freeze --max 64K
	for k in 1 4; do
		expect 0 "iomodel: instant $k equals its model" \
			"$io" verify "$disk.frozen.$k" --model "$model.$k"
	done
	expect 1 "iomodel: instant 1 differs from 2" \
		"$io" verify "$disk.frozen.1" --model "$model.2"
	expect 1 "iomodel: a failing hook fails the run" "$io" run "$disk" \
		--init-from-dev --hook false --hook-every 100 --ops 5000
	expect_text 0 "hooks [1-9]" "iomodel: hook every so many ms" "$io" run \
		"$disk" --init-from-dev --hook true --hook-every 50ms --seconds 1 \
		--max 64K
}

test_cut() {
	local io=$bin/iomodel a=$work/disk b=$work/disk2 pid defect

	new_disk
	truncate -s 8M "$b"
	"$io" cut "$a" "$b" --seconds 2 --threads 6 --seed 9 --max 64K --no-flush \
		> "$work/cut" &
	pid=$!
	sleep 0.3
	kill -STOP $pid
	sleep 0.2
	cp "$a" "$a.cut"
	cp "$b" "$b.cut"
	kill -CONT $pid
	# One of them is: how much is written meanwhile nobody can say
	for ((i = 0; i < 20; i++)); do
		sleep 0.05
		cp "$a" "$a.torn"
		cp "$b" "$b.torn"
		"$io" cut-check "$a.torn" "$b.torn" --seed 9 >/dev/null 2>&1 || break
	done
	expect 0 "iomodel: cut run" wait $pid
	expect_text 0 "up to write" "iomodel: one instant of two disks" \
		"$io" cut-check "$a.cut" "$b.cut" --seed 9
	expect 0 "iomodel: the end of the run" "$io" cut-check "$a" "$b" --seed 9
	expect_text 1 "acknowledged before" "iomodel: two instants of two disks" \
		"$io" cut-check "$a.cut" "$b" --seed 9
	expect_text 1 "expected" "iomodel: a copy made under load" \
		"$io" cut-check "$a.torn" "$b.torn" --seed 9
	for defect in drop tear shift; do
		new_disk
		expect 0 "iomodel: cut run with '$defect'" "$io" cut "$a" \
			--ops 500 --no-flush --self-test-corrupt $defect:20
		expect 1 "iomodel: cut-check finds '$defect'" "$io" cut-check "$a"
	done
}

# A power cut at each flush of a run, then in the stretch behind it. Says how
# many of these states are wrong: flushes, subsets, subsets with torn writes,
# the last also judged as if first writes of blocks were whole.
crash_states() {
	local next=0 mark flush flushes copy=$work/target.copy out
	local bad=0 subset=0 torn=0 part=0

	truncate -s 4M "$work/target"
	flushes=$("$bin/crashlog" list "$work/log" --summary |
		  sed 's/.* flushes=\([0-9]*\).*/\1/')
	for ((flush = 0; flush <= flushes; flush++)); do
		out=$("$bin/crashlog" replay "$work/log" "$work/target" \
			--from "$next" --to-flush $flush --discard junk) || return 2
		next=$(value next "$out")
		state "$work/target" "$(value mark "$out")" --fresh ||
			bad=$((bad + 1))
		[ "$flush" -lt "$flushes" ] || break
		cp "$work/target" "$copy"
		mark=$(cut_after "$copy" "$next" $flush)
		state "$copy" "$mark" --no-whole || subset=$((subset + 1))
		cp "$work/target" "$copy"
		mark=$(cut_after "$copy" "$next" $flush --torn)
		state "$copy" "$mark" --no-whole || torn=$((torn + 1))
		state "$copy" "$mark" --fresh || part=$((part + 1))
	done
	echo "flushes $((flushes > 10)) wrong: $((bad > 0)) $((subset > 0)) $((torn > 0)) part $((part > 0))"
}

# value NAME LINE: the number in "... NAME=number ..."
value() {
	local rest=" $2"

	rest=${rest##* "$1"=}
	echo "${rest%% *}"
}

# state IMAGE MARK OPTION...
state() {
	local image=$1 mark=$2

	shift 2
	"$bin/crashwrite" check "$image" --log "$work/ops" --mark "$mark" "$@" \
		> "$work/state" 2>&1
}

cut_after() {
	local image=$1 next=$2 seed=$3

	shift 3
	value mark "$("$bin/crashlog" replay "$work/log" "$image" --from "$next" \
		--to-entry "$next" --subset --seed "$seed" "$@")"
}

crash_run() {
	rm -f "$work/log" "$work/ops" "$work"/target*
	truncate -s 0 "$work/disk"
	truncate -s 4M "$work/disk"
	"$bin/crashwrite" run "$work/disk" --log "$work/ops" --ops 800 \
		--simulate-log "$work/log" "$@"
}

test_crash() {
	local disk=$work/disk ops=$work/ops defect

	expect 0 "crashwrite: run" crash_run --threads 3
	expect 0 "crashwrite: no cut, nothing lost" "$bin/crashwrite" check \
		"$disk" --log "$ops" --mark end --fresh
	expect 0 "crashlog: list" "$bin/crashlog" list "$work/log"
	expect_text 0 "ended=yes" "crashlog: summary" \
		"$bin/crashlog" list "$work/log" --summary
	# the simulated disk tears first writes of blocks, as raw disks do
	expect_text 0 "flushes 1 wrong: 0 0 0 part 1" \
		"crash: states of a good disk" crash_states
	expect 0 "crashlog: replay to the end" "$bin/crashlog" replay \
		"$work/log" "$work/target"
	expect 0 "crashlog: ends as the disk did" \
		"$bin/iomodel" compare "$disk" "$work/target"
	rm "$work/target" && truncate -s 4M "$work/target"
	expect 0 "crashlog: walk" "$bin/crashlog" walk "$work/log" \
		"$work/target" --every 5 --cmd "sh -c 'test \$0 -ge 5'"
	expect 1 "crashlog: walk stops at a failure" "$bin/crashlog" walk \
		"$work/log" "$work/target" --cmd "sh -c 'test \$0 -lt 20'"
	expect 2 "crashlog: not a log" "$bin/crashlog" list "$disk"
	expect 0 "crashwrite: run without FUA" crash_run --no-fua
	expect_text 0 "flushes 1 wrong: 0 0 0 part 1" \
		"crash: states without FUA" crash_states
	expect 0 "crashwrite: a run that loses a flush" crash_run \
		--self-test-corrupt noflush:4
	expect_text 0 "wrong: 1 1 1" "crash: finds a lost flush" crash_states
	expect 0 "crashwrite: a run with lost FUA" crash_run \
		--self-test-corrupt nofua:1
	expect_text 0 "wrong: [01] 1 1" "crash: finds lost FUA" crash_states
	for defect in drop:20 tear:20 flip:20 nodiscard:2; do
		expect 0 "crashwrite: a run with '$defect'" crash_run \
			--self-test-corrupt $defect
		expect_text 0 "wrong: 1 1 1" "crash: finds '$defect'" crash_states
	done
}

# First writes of blocks, after a snapshot too: the hook does nothing here, but
# what follows it is judged as written to a new top.
test_first_writes() {
	local check=("$bin/crashwrite" check "$work/disk" --log "$work/ops")

	expect 0 "crashwrite: run with snapshots" crash_run --hook true \
		--hook-every 200 --hook-max 2
	expect_text 0 "first-writes [1-9]" "crashwrite: first writes in new tops" \
		"${check[@]}" --mark end
	expect 0 "crashwrite: run of whole blocks" crash_run --ops 1 --threads 1 \
		--min 8K --max 8K --no-discard --no-zeroes --no-fua --flush-percent 0
	expect 0 "crashwrite: first write there" "${check[@]}" --mark 0 --fresh
	tear_one_sector
	expect_text 1 "in part" "crashwrite: finds a torn first write" \
		"${check[@]}" --mark 0 --fresh
	expect 0 "crashwrite: torn is allowed in place" "${check[@]}" --mark 0
}

# What a snapshot froze: a copy at one instant is that, a copy of one half and then
# of the other, while writes go on, is not.
test_frozen() {
	local check=("$bin/crashwrite" check "$work/frozen.2" --log "$work/ops")
	local hook=(--hook "$work/freeze" --hook-every 200 --hook-max 3)

	cat > "$work/freeze" <<-END
		#!/bin/sh
		dd if="$work/disk" of="$work/frozen.\$1" bs=2M skip=1 seek=1 status=none
		[ -z "\$SLOW" ] || sleep \$SLOW
		dd if="$work/disk" of="$work/frozen.\$1" bs=2M count=1 conv=notrunc status=none
	END
	chmod +x "$work/freeze"
	expect 0 "crashwrite: run with frozen copies" crash_run "${hook[@]}" --hook-freeze
	expect 0 "crashwrite: a copy at one instant" "${check[@]}" --snapshot 2
	expect 1 "crashwrite: not of the instant before" "${check[@]}" --snapshot 1
	expect 1 "crashwrite: not of the instant after" "${check[@]}" --snapshot 3
	expect_text 0 "snapshots 0" "crashwrite: a hook that was refused" crash_run \
		--hook "exit 3;" --hook-every 200
	expect 1 "crashwrite: a hook that fails" crash_run --hook "exit 4;" --hook-every 200
	export SLOW=0.3
	expect 0 "crashwrite: run with slow copies" crash_run "${hook[@]}"
	unset SLOW
	expect_text 1 "not at one instant" "crashwrite: finds a copy in two halves" \
		"${check[@]}" --snapshot 2
}

# Zeroes one sector of a block of which the run wrote all.
tear_one_sector() {
	local block

	for ((block = 0; block < 1024; block++)); do
		[ "$(dd if="$work/disk" bs=4k skip=$block count=1 status=none |
		     grep -ac DMCSTAMP)" != 0 ] || continue
		dd if="$work/disk" bs=4k skip=$block count=1 status=none |
			grep -ao DMCSTAMP | wc -l | grep -qx 8 || continue
		dd if=/dev/zero of="$work/disk" bs=512 seek=$((block * 8 + 3)) \
			count=1 conv=notrunc status=none
		return
	done
	echo "# nothing to tear"
}

test_lostupdate() {
	local lu=$bin/lostupdate disk=$work/disk

	new_disk
	expect_text 0 "used up [2-9] times" "lostupdate: run" "$lu" "$disk" \
		--rounds 10000
	expect 0 "lostupdate: eight threads, large blocks, hook" "$lu" "$disk" \
		--rounds 1000 --threads 8 --block-size 64K --hook true
	expect_text 1 "is lost" "lostupdate: finds a copy-up without a lock" \
		"$lu" "$disk" --rounds 5000 --self-test-corrupt stale:40
	expect_text 1 "is lost" "lostupdate: finds a dropped write" \
		"$lu" "$disk" --rounds 5000 --self-test-corrupt drop:100
	expect 1 "lostupdate: a failing hook fails the run" "$lu" "$disk" \
		--rounds 5000 --hook false
}

test_uringread() {
	local ur=$bin/uringread disk=$work/disk

	new_disk
	expect 0 "uringread: reads without workers" "$ur" "$disk" 2000 \
		--max-workers 0
	expect_text 1 "workers [1-9]" "uringread: finds workers" \
		"$ur" "$disk" 2000 --max-workers 0 --force-async
	expect 0 "uringread: writes" "$ur" "$disk" 500 --write
}

test_trailers() {
	local tr=$bin/trailers disk=$work/disk kind text

	if ! command -v blkid > /dev/null; then
		echo "ok - trailers # SKIP no blkid"
		return
	fi
	for kind in md0.90/0.90 md1.0/1.0 md1.1/1.1 md1.2/1.2 lvm/LVM2_member \
		    mbr/dos gpt/gpt; do
		text=${kind#*/}
		kind=${kind%/*}
		new_disk
		expect 0 "trailers: $kind" "$tr" "$disk" "$kind"
		expect_text 0 "$text" "trailers: $kind is seen" blkid -p "$disk"
		expect 0 "trailers: wipe" "$tr" "$disk" wipe
		expect 2 "trailers: $kind is gone" blkid -p "$disk"
	done
}

# cut_at N KEEP [OPTIONS...]: what the two disks then hold, 4 sectors of each, - is zero
cut_at() {
	local n=$1 keep=$2 d out
	shift 2
	out=$("$bin/cutdisk" replay "$work/log" --cut "$n" --keep "$keep" --disks 2 \
		--base "$work/base" --to "$work/to" "$@") || return
	for d in 0 1; do
		od -A n -v -t x1 -w512 -N 2048 "$work/to/$d" | cut -c 2-3 | tr -d '\n' |
			sed 's/00/-/g; s/41/A/g; s/42/B/g; s/43/C/g; s/44/D/g; s/[0-9a-f][0-9a-f]/?/g'
		echo -n " "
	done
	value mark "$out"
}

# cuts N KEEP: all that 60 seeds leave
cuts() {
	local seed

	for ((seed = 0; seed < 60; seed++)); do
		cut_at "$@" --seed $seed
	done | sort -u | xargs
}

new_cut() {
	rm -rf "$work/base" "$work/to"
	mkdir "$work/base" "$work/to"
	truncate -s 64K "$work/base/0" "$work/base/1"
}

# same SEEN EXPECTED NAME
same() {
	expect 0 "$3" test "$1" = "$2"
	[ "$1" = "$2" ] || echo "# saw $1, expected $2"
}

test_cutdisk() {
	new_cut
	"$bin/cutdisk" make "$work/log" <<-END
		0 write 0 2048 A
		1 write 0 2048 B
		0 flush 0 0 -
		0 mark 0 0 1
		0 write 0 2048 C
		0 write+fua 512 512 D
		1 zero 0 1024 -
		1 flush 0 0 -
		0 mark 0 0 2
		0 mark 0 0 other
	END
	same "$(cut_at 1 none)" "---- ---- 0" "cutdisk: nothing is flushed"
	same "$(cut_at 2 all)" "AAAA BBBB 0" "cutdisk: all is kept"
	same "$(cuts 2 disks)" "---- ---- 0 ---- BBBB 0 AAAA ---- 0 AAAA BBBB 0" "cutdisk: disks all or none"
	same "$(cuts 2 some)" "---- ---- 0 ---- BBBB 0 AAAA ---- 0 AAAA BBBB 0" "cutdisk: some, whole"
	same "$(cut_at 3 torn | cut -d ' ' -f 3)" 0 "cutdisk: the power goes in the flush"
	same "$(cut_at 3 none)" "AAAA ---- 1" "cutdisk: a flush is of one disk"
	same "$(cut_at 4 none)" "AAAA ---- 1" "cutdisk: it covers nothing behind it"
	same "$(cuts 4 some | tr ' ' '\n' | grep -c '[AC]\{4\}')" 4 "cutdisk: old or new"
	new_cut
	expect 0 "cutdisk: old or new in each sector" test 8 -lt \
		"$(cuts 4 torn | tr ' ' '\n' | grep '^[AC]\{4\}$' | sort -u | wc -l)"
	same "$(cuts 5 torn | grep -o '[ACD]\{4\}' | cut -c 2 | sort -u | xargs)" "A C D" "cutdisk: a FUA write is torn"
	same "$(cut_at 5 none)" "ADAA ---- 1" "cutdisk: a FUA write is durable, and nothing else"
	same "$(cut_at 5 all)" "CDCC BBBB 1" "cutdisk: an older one doesn't come after it"
	same "$(cut_at 7 none)" "ADAA --BB 2" "cutdisk: zeroes"
	expect 2 "cutdisk: a base can't go back" "$bin/cutdisk" replay "$work/log" --cut 4 \
		--base "$work/base" --to "$work/to" --disks 2
	new_cut
	same "$(cut_at 7 none)" "ADAA --BB 2" "cutdisk: at once as step by step"
	new_cut
	same "$(cut_at 7 none --lie 0)" "---- --BB 2" "cutdisk: one lies"
	expect 2 "cutdisk: a base keeps to its liars" "$bin/cutdisk" replay "$work/log" --cut 7 \
		--base "$work/base" --to "$work/to" --disks 2
	new_cut
	same "$(cut_at 7 none --lie all)" "---- ---- 2" "cutdisk: all lie"
	test_trim
}

# Three trims, of which each does something else
test_trim() {
	new_cut
	"$bin/cutdisk" make "$work/log" <<-END
		0 trim 0 512 -
		0 write 0 2048 A
		0 trim 0 512 -
		0 trim 512 512 -
		0 trim 1024 512 -
		0 flush 0 0 -
	END
	same "$(cut_at 5 none)" "---- ---- 0" "cutdisk: trims wait for a flush, too"
	same "$(cut_at 6 none)" "-A?A ---- 0" "cutdisk: trimmed: zeroes, as it was, anything"
}

# log STATUS NAME LINE [ALLOW]: what tests/lib/scan-log makes of it in a kernel's log
log() {
	printf '[    1.0] loop0: detected capacity change\n[    2.0] %s\n' "$3" > "$work/dmesg"
	printf '#!/bin/bash\n%s\n' "${4:+# allow: $4}" > "$work/script"
	expect "$1" "scan-log: $2" "$top/tests/lib/scan-log" "$work/dmesg" "$work/script"
}

test_scan_log() {
	log 0 "nothing" "device-mapper: chain: 253:0: job 1 ended with error -5"
	log 1 "a warning" "WARNING: CPU: 0 PID: 1 at kmod/dm-chain-map.c:12 x+0x1/0x2"
	log 1 "a failed allocation" "dd: page allocation failure: order:4"
	log 0 "one that is allowed" "dd: page allocation failure: order:4" "page allocation failure"
	log 1 "a race of ours" "BUG: KCSAN: data-race in chain_map [dm_chain] / slow_work [dm_chain]"
	log 0 "a race of others" "BUG: KCSAN: data-race in loop_work [loop] / ktime_get"
	log 0 "the tick reads flags" "BUG: KCSAN: data-race in kthread_data / slow_work [dm_chain]"
}

[ -n "$bin" ] || build
test_iomodel
test_hooks
test_cut
test_crash
test_first_writes
test_frozen
test_lostupdate
test_uringread
test_trailers
test_cutdisk
test_scan_log
echo "$passed passed, $failed failed"
[ $failed = 0 ]
