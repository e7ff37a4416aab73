# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# For test scripts of the target and the controller; sourced after tap.sh.

# json QUERY COMMAND...: what jq says of the command's JSON
json()
{
	local query=$1
	shift
	"$@" --json | jq -cr "$query"
}

# fill DISK FIRST-MIB COUNT LETTER: with that letter, past the page cache
fill()
{
	xfs_io -d -c "pwrite -q -S $(printf %d "'$4") -b 1m ${2}m ${3}m" "/dev/mapper/$1"
}

# refused STATUS REGEX NAME COMMAND...: it fails with STATUS and one line that
# says why; warnings may stand before, and how far a job came that took a while
refused()
{
	local want=$1 regex=$2 name=$3 status=0 out err
	shift 3
	"$@" >"$TMP/.out" 2>"$TMP/.err" || status=$?
	out=$(grep -vE '^[^ ]+: [a-z]+ +[0-9]+ %' "$TMP/.out" | head -c 300)
	err=$(grep -v '^dmchain: warning: ' "$TMP/.err" | head -c 800)
	if [ "$status" != "$want" ]; then
		fail "$name" "expected exit status $want of '$*', saw $status: $err"
	elif [ "$(wc -l <<<"$err")" != 1 ] || [ -n "$out" ]; then
		fail "$name" "expected one line, saw: $out$err"
	elif ! grep -qE "$regex" <<<"$err"; then
		fail "$name" "expected something like '$regex', saw '$err'"
	else
		ok "$name"
	fi
}

# within SECONDS NAME COMMAND...: it succeeds, and in time. A hang is killed
# (if it can be), and the kernel's log gets the places where tasks wait.
within()
{
	local limit=$1 name=$2 status=0
	shift 2
	if [ "$(type -t "$1")" = function ]; then
		export -f "${1?}"
		set -- bash -c '"$@"' bash "$@"
	fi
	timeout -k 2 "$limit" "$@" >"$TMP/.output" 2>&1 || status=$?
	case $status in
	0)
		ok "$name"
		return
		;;
	124|137)
		fail "$name" "'$*' hangs: no end after $limit s"
		echo w >/proc/sysrq-trigger
		;;
	*)
		fail "$name" "expected exit status 0 of '$*', saw $status"
		;;
	esac
	head -n 50 "$TMP/.output" | sed 's/^/#   /'
	return 1
}

# loop_of FILE: its loop device
loop_of()
{
	losetup -n -O NAME -j "$1" | head -n 1
}

# status_of DISK: the target's part of dmsetup's status line
status_of()
{
	dmsetup status "$1" | cut -d ' ' -f 4-
}

# in_flight DEVICE COUNT: so many writes and discards are under way there
in_flight()
{
	local name
	name=$(dmsetup info -c --noheadings -o blkdevname "$1")
	[ "$(awk '{ print $2 }' "/sys/block/$name/inflight")" = "$2" ]
}

# no_violations NAME: the target never sent I/O that its gate refused. A disk
# has to be open.
no_violations()
{
	local name disk
	disk=$(dmsetup ls --target chain | awk '{ print $1; exit }')
	name=$(status_of "$disk" | grep -o 'violations=[0-9]*')
	is "$name" violations=0 "$1"
}

# holds FILE SKIP COUNT CHARACTER NAME: so many MiB hold nothing else, and can be read
holds()
{
	is "$(dd if="$1" bs=1M skip="$2" count="$3" iflag=direct status=none | md5sum)" \
		"$(head -c "${3}M" /dev/zero | tr '\0' "$4" | md5sum)" "$5"
}

# sums FILE...: what they hold, to see that nothing was changed
sums()
{
	sha256sum "$@" | sha256sum
}

# Nobody makes its nodes here before it is loaded
modprobe loop
