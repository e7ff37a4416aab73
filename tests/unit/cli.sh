#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The command line on closed images: the program as it is built, with
# sanitizers, in a folder of its own. Prints a line for each test.
#
#	DMCHAIN=path/to/dmchain tests/unit/cli.sh

set -u
export LC_ALL=C
top=$(cd "$(dirname "$0")/../.." && pwd)
DMCHAIN=$(realpath "${DMCHAIN:-${O:-$top/build}/asan/dmchain}")
folder=$(mktemp -d "${TMPDIR:-/tmp}/dmchain-cli.XXXXXX")
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
failed=0

ok()
{
	echo "ok - $1"
}

not_ok()
{
	echo "not ok - $1"
	failed=$((failed + 1))
	sed 's/^/# /' "$folder/.err"
}

# t NAME CODE ARGUMENTS...: dmchain exits with CODE, and says one line on
# stderr if and only if that isn't 0
t()
{
	local name=$1 want=$2 code lines
	shift 2
	"$DMCHAIN" "$@" > "$folder/.out" 2> "$folder/.err" < /dev/null
	code=$?
	lines=$(wc -l < "$folder/.err")
	if [ $code -ne "$want" ]; then
		echo "# exit code $code, not $want: dmchain $*"
		not_ok "$name"
	elif [ "$want" -ne 0 ] && [ -z "${quiet_failure:-}" ] && [ "$lines" -ne 1 ]; then
		echo "# $lines lines on stderr: dmchain $*"
		not_ok "$name"
	elif grep -q 'Sanitizer\|runtime error' "$folder/.err"; then
		not_ok "$name"
	else
		ok "$name"
	fi
}

# says NAME PATTERN: the last command said it
says()
{
	if grep -q -e "$2" "$folder/.out" "$folder/.err"; then
		ok "$1"
	else
		echo "# not said: $2"
		cat "$folder/.out"
		not_ok "$1"
	fi
}

# is NAME GOT WANTED
is()
{
	if [ "$2" = "$3" ]; then
		ok "$1"
	else
		echo "# $2, not $3"
		not_ok "$1"
	fi
}

# get EXPRESSION: of the JSON that the last command printed, as o
get()
{
	python3 -c 'import json, sys
o = json.load(open(sys.argv[1]))
print(json.dumps(eval(sys.argv[2])))' "$folder/.out" "$1"
}

# spoil FILE OFFSET: change 16 bytes
spoil()
{
	printf 'XXXXXXXXXXXXXXXX' |
		dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

commands="create open close list info map check compare table snapshot resize perm
	new-id unseal recover stream commit pivot job monitor rebase import export top
	enable disable up down units"

# --- Help and usage
t "no command" 2
t "unknown command" 2 frobnicate
t "help" 0 --help
for c in $commands; do
	says "help names $c" "^  $c "
done
for c in $commands; do
	t "$c --help" 0 "$c" --help
	says "$c --help shows its usage" "^usage: dmchain $c"
	"$DMCHAIN" "$c" --no-such-option > .out 2> .err
	is "$c: unknown option" $? 2
done
t "version" 0 --version
says "version says it" '^dmchain [0-9]'
is "packages have the same" "$(cat .out)" \
	"dmchain $(sed -n '1s/.*(\(.*\)).*/\1/p' "$top/debian/changelog")"
t "unknown global option" 2 --frobnicate create

# --- create, info, map
t "create" 0 create base --size 64M
t "create with options" 0 create wide --size 1G --block-size 64K --max-size 2G
t "create without a size" 2 create a
t "create with a bad size" 2 create a --size lots
t "create with an odd block size" 2 create a --size 1G --block-size 5K
t "create on a parent of no format" 2 create a --backing base
t "create over a file" 1 create base --size 64M
t "create on nothing" 1 create a --backing nowhere --backing-format chain
t "create in no folder" 1 create no/a --size 1G
is "failed creates leave nothing" "$(ls)" "$(printf 'base\nwide')"
t "create mid" 0 create mid --backing base --backing-format chain
t "create top, JSON" 0 create top --backing mid --backing-format chain --json
is "it tells its size" "$(get "o['virtual-size']")" 67108864
is "it tells its parent" "$(get "o['parent'].split('/')[-1]")" '"mid"'
t "info" 0 info ./top
says "info shows the base" '/base$'
t "info --json" 0 info --json ./top
is "info keys" "$(get "sorted(o)")" \
	'["block-size", "device", "jobs", "layers", "name", "state", "virtual-size"]'
is "layer keys" "$(get "sorted(o['layers'][0])")" \
	'["access", "data-bytes", "device", "format", "index", "label", "map-bytes", "marks", "parent-uuid", "path", "users", "uuid", "zero-bytes"]'
is "layers" "$(get "[l['path'].split('/')[-1] for l in o['layers']]")" \
	'["top", "mid", "base"]'
is "parent links" "$(get "o['layers'][0]['parent-uuid'] == o['layers'][1]['uuid']")" true
is "seals" "$(get "[l['marks'] for l in o['layers']]")" '[[], ["sealed"], ["sealed"]]'
t "--json before the command" 0 --json map ./top
is "an empty map" "$(get "o")" \
	'[{"start": 0, "length": 67108864, "depth": 2, "present": false, "zero": true, "data": false}]'
t "map" 0 map ./top
says "map has a table" '^ *0  *67108864  *2  absent'
t "info of no file" 1 info ./nowhere
t "map of no image" 4 map /dev/null
t "info without an argument" 2 info
t "info with two" 2 info ./top ./mid

# --- raw
truncate -s 8M raw
truncate -s 1000 odd
t "create on raw" 0 create onraw --backing raw --backing-format raw
t "raw of an odd size" 4 create a --backing odd --backing-format raw
t "raw is no chain" 4 info ./raw
says "it says how to name the format" '--format raw'
t "info of raw" 0 info ./raw --format raw --json
is "raw has no ids" "$(get "o['layers'][0]['uuid']")" null
t "map of raw" 0 map ./raw --format raw
t "no such format" 2 map ./raw --format qcow2
t "check of raw" 0 check raw --format raw
spoil raw 100
t "a modified raw parent" 4 map ./onraw
says "it names both ids" 'expects content id .*, has\|expects content id .*, this has'
t "info shows it all the same" 4 info ./onraw
says "with the layers" '/raw$'

# --- compare
truncate -s 8M zeroes
t "compare with zeroes" 0 compare ./top ./base
says "sizes are the same" 'show the same'
t "compare raw and chain" 0 compare ./wide zeroes --format-b raw
says "it tells of the sizes" 'has 8388608'
quiet_failure=1
t "compare what differs" 1 compare raw zeroes --format-a raw --format-b raw
says "it says where" 'first at byte 100$'
t "compare what differs, JSON" 1 --json compare raw zeroes --format-a raw --format-b raw
is "it says where there, too" "$(get "[o['same'], o['first-difference']]")" '[false, 100]'
quiet_failure=
t "compare with raw taken for a chain" 4 compare ./top raw
t "compare with nothing" 1 compare ./top ./nowhere
t "compare with a name that is none" 1 compare ./top typo.img
says "it says so" 'typo.img: no such file, and no such disk'

# --- check
t "check" 0 check top
t "check --json" 0 check top --json
is "nothing found" "$(get "[o['found'], o['damaged']]")" '[[], 0]'
spoil top 300
t "a damaged header copy still serves" 0 map ./top
says "with a warning" 'warning: .*/top: header copy 0 is damaged'
quiet_failure=1
t "check finds it" 1 check top
says "and says so" '^header: copy 0 is damaged'
quiet_failure=
t "check --repair mends it" 0 check top --repair
t "then it is clean" 0 check top
says "clean is clean" 'no damage'
t "--lossy alone" 2 check top --lossy
spoil wide 300
spoil wide $((512 * 1024 + 300))
t "both header copies damaged" 4 info ./wide
t "check can't help there" 4 check wide --repair
truncate -s 5M onraw
t "a truncated image" 4 map ./onraw --format chain
says "is called so" 'truncated'

# --- links
t "a sealed layer doesn't change" 3 resize ./mid +1M
says "its child is the disk" '/top) stands on it'
t "unseal" 0 unseal mid
says "it names the children" 'refused from now on: layer .*/top'
t "unseal once more" 1 unseal mid
t "the child is refused" 4 map ./top
says "as its parent was modified" '/mid: was modified after .*/top was made on it'
mv mid elsewhere
t "a lost parent" 4 map ./top
says "the child says where it should be" '/top: its parent is not found'
mv base mid
t "another layer in its place" 4 map ./top
says "both ids are told" 'stands on layer .*, this is layer'
mv mid base
mv elsewhere mid

# --- new-id, resize
cp base copy
t "new-id" 0 new-id copy --json
is "a new id" "$(get "len(o['uuid'])")" 36
t "the copy is no parent of mid" 0 map ./mid
t "resize grows" 0 resize ./copy +64M
says "resize tells the size" '128 MiB'
t "resize to less" 2 resize ./copy 8M
t "resize shrinks" 0 resize ./copy 8M --shrink
t "the result is clean" 0 check copy
t "resize beyond the maps" 1 resize ./copy 2T
says "it tells the most" '1099511627776 bytes'
t "resize to nonsense" 2 resize ./copy 1G1

# --- perm, as far as it goes without a disk
t "perm matrix" 0 perm matrix
says "it has the active layer" '^guest  *active  *CR W  *CR WU MD RS LK$'
says "and says what is what" 'CR consistent-read, W write, WU write-unchanged'
t "perm matrix --json" 0 perm matrix --json
is "a row for each role" "$(get "len(o)")" 30
is "its keys" "$(get "sorted(o[0])")" '["allow", "operation", "require", "role"]'
is "permissions by name" "$(get "[r['require'] for r in o if r['role'] == 'into']")" \
	'[["write-unchanged", "metadata", "link"]]'
is "all of them" "$(get "sorted(set(sum([r['allow'] for r in o], [])))")" \
	'["consistent-read", "link", "metadata", "resize", "write", "write-unchanged"]'
t "perm matrix --rst" 0 perm matrix --rst
says "has rulers" '^=====*  ==*  ==*  ==*$'
t "perm of a disk that isn't open" 1 perm nodisk
t "perm check of no operation" 2 perm check fly ./top
t "perm check of nothing" 2 perm check stream
t "perm check of an image, by a disk's operation" 2 perm check stream ./top
t "perm check of a disk, by an image's operation" 2 perm check create top-disk
t "perm check with an option of another" 2 perm check create ./top --into 1
t "perm check on a disk that isn't open" 1 perm check stream nodisk
t "perm matrix of something" 2 perm matrix ./top
t "perm --rst alone" 2 perm --rst
t "perm --help" 0 perm --help
says "options of hold stand before its command" "hold OPERATION .*\[LAYERS\] -- COMMAND...\$"

# --- jobs, as far as it goes without a disk
t "job list" 0 job list
says "has a head" '^job  *disk  *type  *status'
t "job list --json" 0 job list --json
is "no jobs" "$(get "o")" '[]'
t "job list of a disk that isn't open" 1 job list nodisk
t "job list of two" 2 job list a b
t "job without a word" 2 job
t "job of another word" 2 job fly 3
for verb in show wait pause resume cancel; do
	t "job $verb of nothing" 2 job $verb
	t "job $verb of no job" 1 job $verb 3
	says "it says where they are" 'dmchain job list'
done
t "job speed without a rate" 2 job speed 3
t "job speed of no job" 1 job speed 3 1M
t "job show with a rate" 2 job show 3 1M
t "--timeout is of wait" 2 job pause 3 --timeout 5
t "--wait is of resume" 2 job cancel 3 --wait
t "pivot of no job" 1 pivot nodisk
t "pivot of nothing" 2 pivot
t "monitor of something" 2 monitor nodisk
for verb in stream commit; do
	t "$verb of nothing" 2 $verb
	t "$verb of a disk that isn't open" 1 $verb nodisk
	t "$verb --dry-run" 1 $verb nodisk --dry-run
	t "$verb with a bad speed" 2 $verb nodisk --speed fast
	t "$verb with a bad policy" 2 $verb nodisk --on-error cry
	says "it says which there are" 'report, ignore, stop or enospc'
	t "$verb in two ways" 2 $verb nodisk --dry-run --background
	t "$verb on a closed descriptor" 2 $verb nodisk --base fd:77
done
t "stream has no --top" 2 stream nodisk --top 1
t "commit has no --into" 2 commit nodisk --into 1

# --- rebase
t "create for rebase" 0 create rbase --size 8M
t "another" 0 create rother --size 8M
t "a layer" 0 create rtop --backing rbase --backing-format chain
t "rebase without a parent" 2 rebase rtop
t "rebase without a format" 2 rebase rtop --backing rother
t "rebase on itself" 4 rebase rtop --backing rtop --backing-format chain
t "rebase on nothing" 1 rebase rtop --backing nowhere --backing-format chain
t "rebase" 0 rebase rtop --backing rother --backing-format chain --json
is "its keys" "$(get "sorted(o)")" '["data-bytes", "parent", "path", "uuid", "zero-bytes"]'
is "its parent" "$(get "o['parent'].split('/')[-1]")" '"rother"'
t "info" 0 info ./rtop --json
is "it stands there" "$(get "[l['path'].split('/')[-1] for l in o['layers']]")" '["rtop", "rother"]'
is "which is sealed" "$(get "o['layers'][1]['marks']")" '["sealed"]'
t "rebase --unsafe, in a sealed one's place" 3 rebase rother --backing rbase --backing-format chain --unsafe
rm rother
t "a parent that is gone" 4 rebase rtop --backing rbase --backing-format chain
t "is no matter to --unsafe" 0 rebase rtop --backing rbase --backing-format chain --unsafe
t "the chain is found" 0 map ./rtop
exec 9<> rtop
t "rebase by a descriptor" 0 rebase fd:9 --backing rbase --backing-format chain
t "and its number" 0 rebase --fd 9 --backing rbase --backing-format chain
exec 9<&-

# --- locks, odd names, output that can't be written
exec 9< copy
flock 9
t "a locked image" 3 new-id copy
exec 9<&-
t "a name with a newline" 0 create $'new\nline' --size 8M
t "and its refusal in one line" 1 create $'new\nline' --size 8M
says "cleaned" 'new?line: exists'
t "operands behind --" 0 create --size 8M -- --odd
t "are files" 0 check -- --odd
"$DMCHAIN" info ./base > /dev/full 2> .err
is "a full disk is no success" $? 1

# --- descriptors
t "create for descriptors" 0 create fdbase --size 8M
exec 7<> fdbase 8< fdbase
t "info of a descriptor" 0 info fd:8 --json
is "it has its path" "$(get "o['layers'][0]['path'].split('/')[-1]")" '"fdbase"'
t "info --fd" 0 info --fd 8
says "the same" '/fdbase$'
t "info of /dev/fd" 0 info /dev/fd/8
t "info of /proc/self/fd" 0 info /proc/self/fd/8
t "map" 0 map fd:8
t "check" 0 check fd:8
t "compare" 0 compare fd:8 fd:7
t "new-id through a writable one" 0 new-id fd:7
t "new-id through a read-only one" 3 new-id fd:8
says "it says why" 'open for reading only'
t "the same by /dev/fd, which could be opened anew" 3 new-id /dev/fd/8
t "resize through a read-only one" 3 resize --fd 8 +1M
t "resize through a writable one" 0 resize --fd 7 +1M
t "unseal through a read-only one" 3 unseal fd:8
t "check --repair too" 3 check fd:8 --repair
exec 6>> fdbase
t "one that appends is no reader" 3 info fd:6
exec 6>&-
exec 6<> /dev/null
t "a character device" 4 info fd:6
exec 6< "$folder"
t "a folder" 4 info fd:6
exec 6<&-
exec 6< <(sleep 5)
t "a pipe" 4 info fd:6
exec 6<&-
t "a closed descriptor" 2 info fd:6
t "and by its number" 2 info --fd 6
t "and by /dev/fd" 2 info /dev/fd/6
for layer in top base into; do
	t "and as --$layer" 2 perm check stream nodisk --$layer fd:6
done
t "standard output as a layer" 2 perm check commit nodisk --base fd:1
for bad in fd: fd:x fd:-1 fd:3x fd:99999999999 fd:2147483647; do
	t "bad number $bad" 2 info $bad
	t "bad number $bad, for a parent" 2 create c --backing $bad --backing-format chain
done
for bad in "" x -1 99999999999; do
	t "--fd '$bad'" 2 info --fd "$bad"
done
for bad in fd:3 fd:x fd: fd:3x; do
	t "$bad is no disk's name" 2 open $bad ./fdbase
	says "it says so" 'no name for a disk'
done
t "--fd and a path" 2 info --fd 8 ./fdbase
t "--fd for two paths" 2 compare --fd 8 ./fdbase
is "nothing was made" "$(ls c 2>&1 | wc -l)" 1
t "create on a descriptor's layer" 0 create fdtop --backing fd:7 --backing-format chain --json
is "its parent has a path" "$(get "o['parent'].split('/')[-1]")" '"fdbase"'
t "the chain is found" 0 map ./fdtop
t "create into a file that holds something" 1 create fd:7 --size 8M
: > empty
exec 6<> empty
t "create into an empty one" 0 create fd:6 --backing ./fdtop --backing-format chain
says "it is named as it was given" '^fd:6:'
t "the chain is found" 0 map ./empty
t "by the descriptor, too" 0 map fd:6
: > empty2
exec 5< empty2
t "create into a read-only one" 3 create fd:5 --size 8M
is "it stays empty" "$(stat -c %s empty2)" 0
exec 5<> empty2
t "a create that fails" 4 create fd:5 --backing fd:5 --backing-format raw
is "leaves it empty" "$(stat -c %s empty2)" 0
rm -f empty2
t "a deleted file can be made an image" 0 create fd:5 --size 4M
t "info" 0 info fd:5 --json
is "it is called what it was given as" "$(get "o['layers'][0]['path']")" '"fd:5"'
t "but has no path for a child" 1 create child --backing fd:5 --backing-format chain
says "it says so" 'has no path'
is "nothing was made" "$(ls child 2>&1 | wc -l)" 1
exec 4<> rel
t "a relative parent" 0 create fd:4 --backing fdbase --backing-format chain --force
rm rel
t "isn't found from a file without a path" 4 map fd:4
exec 4<&- 5<&- 6<&- 7<&- 8<&-
t "a file called fd:1" 0 create ./fd:1 --size 1M
t "is a file by its path" 0 info ./fd:1

echo "# $failed failed"
[ $failed -eq 0 ]
