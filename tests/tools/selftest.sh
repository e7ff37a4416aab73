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
	truncate -s "${1:-8M}" "$work/disk"
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
	sleep 0.3
	cp "$a" "$a.torn"
	cp "$b" "$b.torn"
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

[ -n "$bin" ] || build
test_iomodel
test_hooks
test_cut
echo "$passed passed, $failed failed"
[ $failed = 0 ]
