#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1024 smp=2 timeout=300 group=main
#
# Disks that come up with the machine, without systemd: declarations and what is
# refused of them, enable, disable, up and down, the units that a generator makes, and
# that a declaration follows its disk.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"
. "$(dirname "$0")/../lib/several.sh"
. "$(dirname "$0")/../lib/jobs.sh"

cd "$TMP" || exit 1
etc=/etc/dmchain
rm -rf $etc
on_exit rm -rf $etc
on_exit umount -q $etc

declares()	# declares NAME JQ-QUERY
{
	jq -cr "$2" "$etc/$1.json"
}

top_of()	# top_of DISK
{
	json '.layers[0].path' dmchain info "$1"
}

# --- what a declaration may say

mkdir $etc
bad()		# bad STATUS REGEX NAME TEXT: up refuses it, in one line with the file's name
{
	printf '%s' "$4" >$etc/t.json
	refused "$1" "$2" "refused: $3" dmchain up t
}
what="^dmchain: $etc/t.json: "
bad 2 "$what"'is no JSON, at byte ' "no JSON" 'path=/x'
bad 2 "$what"'is no JSON' "an empty file" ''
bad 2 "$what"'is no JSON, at byte .*: unexpected end of data' "one that was cut off" '{"path": "/x"'
bad 2 "$what"'is no JSON' "more behind it" '{"path": "/x"} {}'
bad 2 "$what"'is no JSON.*too deep' "depth" "$(printf '[%.0s' {1..5000})"
bad 2 "$what"'has to be one JSON object' "an array" '["/x"]'
bad 2 "$what"'says no path' "no path" '{}'
bad 2 "$what"'what is pathh\?' "an unknown key" '{"path": "/x", "pathh": 1}'
bad 2 "$what"'path has to be an absolute path' "a relative path" '{"path": "x.img"}'
bad 2 "$what"'path has to be a text' "a number for a path" '{"path": 7}'
bad 2 "$what"'path has to be .*without a NUL' "a NUL" '{"path": "/x\u0000/y"}'
bad 2 "$what"'path has to be .*control' "a line for the unit" '{"path": "/x\n[Service]\nExecStart=/bin/y"}'
bad 2 "$what"'path has to be .*lasts' "a descriptor" '{"path": "/dev/fd/3"}'
bad 2 "$what"'format has to be' "a format" '{"path": "/x", "format": "qcow2"}'
bad 2 "$what"'read-only has to be true or false' "a text for a flag" '{"path": "/x", "read-only": "yes"}'
bad 2 "$what"'jobs has to be' "a word for jobs" '{"path": "/x", "jobs": "drop"}'
bad 2 "$what"'is about a disk named u' "another name" '{"path": "/x", "name": "u"}'
bad 2 "$what"'needs has to be a list' "no list" '{"path": "/x", "needs": "/y"}'
bad 2 "$what"'each of needs has to be an absolute path' "a bad need" '{"path": "/x", "needs": ["y"]}'
bad 2 "$what"'needs has to be a list of paths, not more than 64' "far too many needs" \
	"{\"path\": \"/x\", \"needs\": [$(printf '"/y",%.0s' {1..5000})\"/z\"]}"
bad 2 "$what"'next has to be an object' "half a next" '{"path": "/x", "next": {"path": "/y"}}'
bad 2 "$what"'is too long' "a long file" "{\"path\": \"/x\", \"name\": \"$(head -c 70000 /dev/zero | tr '\0' a)\"}"
bad 2 'no owner:group:mode|label|OWNER' "a label" '{"path": "/x", "label-rw": "nonsense"}'
bad 1 '/nowhere/x' "a layer that is not there" '{"path": "/nowhere/x"}'
printf '{"path": "/x\xff"}' >$etc/t.json
refused 2 "$what"'is no JSON' "refused: no UTF-8" dmchain up t
printf '{"path": "/x"}\0{}' >$etc/t.json
refused 2 "$what"'is no JSON, it has a NUL' "refused: a NUL in the file" dmchain up t
head -c 3000 /dev/urandom >$etc/t.json
refused 2 "$what"'is no JSON' "refused: noise" dmchain up t
echo '{"path": "/x"}' >$etc/t.json
chmod 666 $etc/t.json
refused 1 "$what"'others than root can write it' "refused: a file that others can write" dmchain up t
rm $etc/t.json
mkfifo $etc/t.json
refused 1 "$what"'is no file' "refused: a pipe, and nobody waits" timeout 20 dmchain up t
rm $etc/t.json
refused 1 '^dmchain: t: is not declared' "refused: what is not declared" dmchain up t
refused 2 'no name for a disk' "refused: a name with a slash" dmchain up ../t
refused 2 'say a NAME' "up: nobody is named" dmchain up
refused 2 'say a NAME' "up: --all and a name" dmchain up --all t

# --- enable, disable

truncate -s 16M golden.raw
run_ok "create" dmchain create a.img --backing golden.raw --backing-format raw
run_ok "create" dmchain create b.img --size 8M
refused 1 'd: is not open' "enable: a disk that is not open" dmchain enable d
refused 4 'nowhere|a.raw|valid' "enable: no image" dmchain enable d golden.raw
refused 1 'none.img' "enable: no file" dmchain enable d none.img
refused 2 'no name' "enable: no name" dmchain enable .d a.img
refused 2 'belong to a PATH' "enable: options of a path, and none" dmchain enable d --read-only
refused 2 'resume or report' "enable: jobs" dmchain enable d a.img --jobs never
refused 2 'gone by then' "enable: a descriptor" dmchain enable d fd:0 </dev/null
is "$(ls $etc)" "" "nothing of that is declared"
run_ok "enable, by the path" dmchain enable d a.img --jobs report
is "$(output)" "d: comes up with the machine ($etc/d.json)" "it says so"
is "$(declares d '"\(.name) \(.path) \(.format) \(.jobs) \(.needs[0])"')" \
	"d $TMP/a.img chain report $TMP" "the declaration"
is "$(stat -c %a $etc/d.json)" 644 "its mode"
run_ok "up" dmchain up d
is "$(top_of d)" "$TMP/a.img" "it is the disk"
run_ok "up again: nothing to do" dmchain up d
run_ok "enable, of an open disk" dmchain enable d
is "$(declares d '"\(.path) \(.jobs)"')" "$TMP/a.img resume" "it comes up as it is"
refused 3 'golden.raw|a.img' "enable: a layer below is no disk to be written" \
	dmchain enable e golden.raw --format raw
dmchain create gone.img --size 8M >/dev/null
dmchain open e gone.img
rm gone.img
refused 1 'was deleted' "enable: a top that has no path any more" dmchain enable e
[ ! -e $etc/e.json ]
is $? 0 "nothing is declared"
run_ok "it is closed" dmchain close e
run_ok "down" dmchain down d
run_ok "down again: nothing to do" dmchain down d
refused 1 'no such disk' "it is closed" dmchain info d
run_ok "enable, with labels and read-only" dmchain enable e b.img --read-only --label-ro 0:0:440
run_ok "up: all" dmchain up --all
is "$(json 'map(.name + " " + (."read-only" | tostring)) | join(",")' dmchain list)" "d false,e true" "all are up"
is "$(stat -c %a b.img)" 440 "labels are given"
run_ok "enable takes the labels of the open disk" dmchain enable e
is "$(declares e '"\(."label-ro") \(."read-only")"')" "0:0:440 true" "they are declared"
run_ok "down: all" dmchain down --all
is "$(dmchain list --json | jq length)" 0 "all are down"
echo '{' >$etc/bad.json
echo '{"path": "/x"}' >"$etc/a b.json"
run_fail 2 "up: all, with a bad one" dmchain up --all
like "$(output)" "a b.json: its name is none" "a name that can't be is told"
like "$(output)" "$etc/bad.json: is no JSON" "the bad one is told"
is "$(dmchain list --json | jq length)" 2 "the others are up"
dmchain down --all >/dev/null 2>&1
rm "$etc/bad.json" "$etc/a b.json"
run_ok "disable" dmchain disable e
refused 1 'e: is not declared' "disable: not declared" dmchain disable e
is "$(ls $etc)" d.json "its declaration is gone"

# A disk on a disk goes down first, whatever the names say
run_ok "up" dmchain up d
mkfs.ext4 -q /dev/mapper/d
mkdir m
mount /dev/mapper/d m
truncate -s 4M m/c.raw
run_ok "a disk on a disk" dmchain enable a m/c.raw --format raw
run_ok "up" dmchain up a
umount -l m
run_ok "down, in order" dmchain down --all
is "$(output)" "" "no word of what was tried too early"
is "$(dmchain list --json | jq length)" 0 "all are down"
dmchain disable a >/dev/null
rm -r m

# --- units

mkdir gen
echo '{' >$etc/bad.json
cat >$etc/v-1+x.json <<END
{ "path": "/srv/a \"b\" 100%/x.img", "network": true, "needs": ["/dev/vg/lv", "/data"] }
END
run_ok "units" dmchain units gen
unit='gen/dmchain@v-1\x2bx.service'
like "$(cat "$unit.d/50-declared.conf")" 'RequiresMountsFor="/srv/a \\"b\\" 100%%/x.img"' "a path is quoted"
like "$(cat "$unit.d/50-declared.conf")" 'After=dev-vg-lv.device' "a device is waited for"
like "$(cat "$unit.d/50-declared.conf")" 'After=network-online.target' "so is the network"
like "$(cat "$unit.d/50-declared.conf")" 'Before=blockdev@dev-mapper-v\\x2d1\\x2bx.target' "mounts wait for the disk"
run_ok "it is wanted by remote file systems" test -L 'gen/remote-fs.target.wants/dmchain@v-1\x2bx.service'
run_ok "the device asks for it" test -L 'gen/dev-mapper-v\x2d1\x2bx.device.requires/dmchain@v-1\x2bx.service'
like "$(cat 'gen/blockdev@dev-mapper-v\x2d1\x2bx.target.d/50-declared.conf')" 'PartOf=dmchain@v-1\\x2bx.service' \
	"and go before it does"
run_ok "one of local file systems" test -L gen/local-fs.target.wants/dmchain@d.service
run_ok "a bad one has a unit, too, which fails" test -L gen/local-fs.target.wants/dmchain@bad.service
refused 2 'bad.json' "... with a line" dmchain up --unit bad
refused 1 '/srv/a "b" 100%/x.img' "the unit's name is unescaped" dmchain up --unit 'v-1\x2bx'
refused 2 'no name' "what is no escape" dmchain up --unit 'v\x2'
rm -r gen $etc/bad.json $etc/v-1+x.json

# --- it follows the disk

run_ok "up" dmchain up d
run_ok "snapshot" dmchain snapshot d=a2.img
is "$(declares d .path)" "$TMP/a2.img" "a snapshot: the new top is declared"
is "$(declares d .next)" null "and nothing else"
dmchain down d
run_ok "up" dmchain up d
is "$(top_of d)" "$TMP/a2.img" "that comes up"
mkdir other
run_ok "snapshot elsewhere" dmchain snapshot d=other/a3.img
is "$(declares d '.needs | join(" ")')" "$TMP $TMP/other" "the file system is needed, too"
run_ok "commit of the active layer" dmchain commit d
is "$(declares d .path)" "$TMP/a2.img" "its base is declared"
run_ok "mirror" dmchain mirror d m1.img --format chain --pivot
is "$(declares d .path)" "$TMP/m1.img" "a pivot: the copy is declared"
run_ok "snapshot of an undeclared disk" dmchain open u b.img
run_ok "snapshot of an undeclared disk" dmchain snapshot u=b2.img
is "$(ls $etc)" d.json "it stays so"
dmchain close u
run_ok "mirror, raw" dmchain mirror d m2.raw --format raw --pivot
is "$(declares d '"\(.path) \(.format)"')" "$TMP/m2.raw raw" "a raw copy is declared as raw"
run_ok "snapshot of a raw top" dmchain snapshot d=a4.img
is "$(declares d '"\(.path) \(.format)"')" "$TMP/a4.img chain" "the new top of a raw one"

# A declaration that can't follow: the disk stays as it is
mount --bind $etc $etc
mount -o remount,bind,ro $etc
refused 1 "^dmchain: d: $etc/d.json: cannot be written: Read-only file system; the disk would not come up with its new top.*dmchain disable d" \
	"a snapshot that can't be declared" \
	dmchain snapshot d=a5.img
is "$(top_of d)" "$TMP/a4.img" "the disk has its old top"
run_fail any "and no file is left" test -e a5.img
umount $etc
is "$(declares d '"\(.path) \(.next)"')" "$TMP/a4.img null" "nor anything declared"

# By links, as the kernel does not name it
mkdir real
ln -s real link
dmchain create real/l1.img --size 8M >/dev/null
ln -s l1.img real/top.img
printf '{"path": "%s"}' "$TMP/link/top.img" >$etc/l.json
run_ok "up, by links" dmchain up l
run_ok "snapshot" dmchain snapshot l=link/l2.img
is "$(declares l '"\(.path) \(.next)"')" "$TMP/real/l2.img null" "the new top is declared"
run_ok "down" dmchain down l
run_ok "up" dmchain up l
is "$(top_of l)" "$TMP/real/l2.img" "that comes up"
dmchain down l
dmchain disable l >/dev/null

# --- cut off between the switch and the declaration

cut()		# cut OLD NEXT FORMAT: as a crash would leave it
{
	both="$1 $2"
	jq --arg p "$1" --arg n "$2" --arg f "$3" '.path = $p | .format = (if $p | endswith("raw") then "raw" else "chain" end) |
		.next = {path: $n, format: $f}' $etc/d.json >d.json && cp d.json $etc/d.json
}
run_ok "snapshot" dmchain snapshot d=a5.img
dmchain down d
cut "$TMP/a4.img" "$TMP/a5.img" chain
run_ok "up, snapshot made" dmchain up d
is "$(top_of d)" "$TMP/a5.img" "the new top is the disk"
is "$(declares d '"\(.path) \(.next)"')" "$TMP/a5.img null" "and is declared"
dmchain down d
cut "$TMP/a5.img" "$TMP/a6.img" chain
run_ok "up, snapshot not made" dmchain up d
is "$(top_of d)" "$TMP/a5.img" "the old top is the disk"
is "$(declares d '"\(.path) \(.next)"')" "$TMP/a5.img null" "and is declared"
run_ok "mirror" dmchain mirror d m3.raw --format raw --pivot
dmchain down d
cut "$TMP/a5.img" "$TMP/m3.raw" raw
run_ok "up, pivot to a raw copy made" dmchain up d
is "$(top_of d)" "$TMP/m3.raw" "the copy is the disk"
run_ok "mirror, not ended" dmchain mirror d m4.img --format chain
dmchain down d >/dev/null 2>&1
cut "$TMP/m3.raw" "$TMP/m4.img" chain
run_ok "up, no pivot" dmchain up d
is "$(top_of d)" "$TMP/m3.raw" "the source is the disk"

# --- which of the two it is can't be told just now

hold()		# hold OPTIONS...: flock FILE for longer than anybody waits
{
	flock "$@" sleep 1000 &
	holder=$!
	wait_for 20 sh -c "! flock -n '${*: -1}' true"
}

let_go()
{
	pkill -P $holder
	wait $holder
}

undecided()	# undecided NAME: what is declared is what cut has put there
{
	is "$(declares d '"\(.path) \(.next.path)"')" "$both" "$1: both tops stay declared"
}

run_ok "raw source: mirror" dmchain mirror d m5.img --format chain --pivot
dmchain down d
cut "$TMP/m3.raw" "$TMP/m5.img" chain
hold -s m5.img
refused 3 "$TMP/m5.img: in use by another command" "raw source: its copy is in use" dmchain up d
let_go
undecided "raw source: its copy is in use"
hold -x m5.img
refused 3 "^dmchain: d: its top is $TMP/m3.raw or $TMP/m5.img.*in use by another command.*dmchain enable d PATH" \
	"raw source: its copy can't be looked at" dmchain up d
let_go
mv m5.img m5.away
refused 1 "^dmchain: d: its top is $TMP/m3.raw or $TMP/m5.img.*No such file" "raw source: its copy is not there" dmchain up d
mv m5.away m5.img
undecided "raw source: its copy is not there"
run_ok "raw source: its copy is there again" dmchain up d
is "$(top_of d)" "$TMP/m5.img" "raw source: its copy is the disk"

# Of a pivot of several disks this one waits for a decision, which b.img has
group=00112233445566778899aabbccddeeff none=00000000000000000000000000000000
pending()	# pending FILE
{
	headeredit "$1" set both marks+=128 group=$group coordinator="$(headeredit b.img get 0 uuid)" \
		coordinator_path="$TMP/b.img"
	headeredit b.img set both decision=$none
}
dmchain down d
pending m5.img
cut "$TMP/m3.raw" "$TMP/m5.img" chain
mv b.img b.away
refused 4 "^dmchain: d: its top is .* or .*m5.img.*the layer that decides it" "raw source, several: who decides is not there" dmchain up d
mv b.away b.img
undecided "raw source, several: who decides is not there"
run_ok "raw source, several: not decided" dmchain up d
is "$(top_of d)" "$TMP/m3.raw" "raw source, several: not decided, it is the disk"
dmchain down d
cut "$TMP/m3.raw" "$TMP/m5.img" chain
headeredit b.img set both decision=$group
run_ok "raw source, several: decided" dmchain up d
is "$(top_of d)" "$TMP/m5.img" "raw source, several: decided, its copy is the disk"

run_ok "raw copy, several: mirror" dmchain mirror d m6.raw --format raw --pivot
dmchain down d
cp --sparse=always m5.img m5.copy
pending m5.img
cut "$TMP/m5.img" "$TMP/m6.raw" raw
mv b.img b.away
refused 4 "^dmchain: d: its top is .* or .*m6.raw.*the layer that decides it" "raw copy, several: who decides is not there" dmchain up d
mv b.away b.img
undecided "raw copy, several: who decides is not there"
run_ok "raw copy, several: not decided" dmchain up d
is "$(top_of d)" "$TMP/m5.img" "raw copy, several: not decided, the source is the disk"
dmchain down d
cp --sparse=always m5.copy m5.img
pending m5.img
cut "$TMP/m5.img" "$TMP/m6.raw" raw
headeredit b.img set both decision=$group
run_ok "raw copy, several: decided" dmchain up d
is "$(top_of d)" "$TMP/m6.raw" "raw copy, several: decided, it is the disk"

# A frozen layer may be read, but is no disk any more
run_ok "read-only: snapshot" dmchain snapshot d=r1.img
run_ok "read-only: snapshot" dmchain snapshot d=r2.img
dmchain down d
cut "$TMP/r1.img" "$TMP/r2.img" chain
jq '."read-only" = true' $etc/d.json >d.json && cp d.json $etc/d.json
hold -x r2.img
refused 3 "^dmchain: d: its top is .*r1.img: sealed.*r2.img: in use by another" "read-only: its new top is in use" dmchain up d
let_go
undecided "read-only: its new top is in use"
run_ok "read-only: up" dmchain up d
is "$(top_of d)" "$TMP/r2.img" "read-only: its new top is the disk"
dmchain down d
run_ok "no longer read-only" dmchain enable d r2.img

# --- what is killed, or fails, in the midst of it

kill_at()	# kill_at PATH CALL NUMBER COMMAND...: at the n-th call that is about the path
{
	local path=$1 call=$2 when=$3
	shift 3
	bash -c '"$@"; exit $?' bash strace -qq -o /dev/null -P "$path" -e "trace=$call" \
		-e "inject=$call:signal=KILL:when=$when" "$@" >.out 2>&1
}
run_ok "raw to raw: up" dmchain up d
run_ok "raw to raw: mirror" dmchain mirror d k1.raw --format raw --pivot
run_ok "raw to raw: mirror" dmchain mirror d k2.raw --format raw
kill_at $etc/d.json.new rename 2 dmchain pivot d
is "$?" 137 "raw to raw: the pivot is killed behind the switch"
is "$(top_of d) $(declares d '"\(.path) \(.next.path)"')" "$TMP/k2.raw $TMP/k1.raw $TMP/k2.raw" \
	"raw to raw: it is switched, both are declared"
run_ok "raw to raw: down" dmchain down d
is "$(declares d '"\(.path) \(.next)"')" "$TMP/k2.raw null" "raw to raw: the copy is declared by then"
run_ok "raw to raw: up" dmchain up d
is "$(top_of d)" "$TMP/k2.raw" "raw to raw: it comes up"
kill_at $etc fsync 1 dmchain snapshot d=k3.img
is "$? $(top_of d) $(declares d .next.path)" "137 $TMP/k2.raw $TMP/k3.img" "a snapshot is killed before the switch"
kill_at "$TMP/k3.img" unlink 1 dmchain recover d
is "$? $(ls k3.img) $(declares d .next)" "137 k3.img null" "its new top is declared no longer before it is removed"
run_ok "recover" dmchain recover d
run_fail any "it is removed" test -e k3.img
dmchain create z.img --size 8M >/dev/null
dmchain open z z.img
echo '{' >$etc/z.json
kill_at "$TMP/k4.img" unlink 1 dmchain snapshot d=k4.img z=k5.img
is "$? $(ls k4.img) $(declares d .next)" "137 k4.img null" "the same of one that fails"
rm $etc/z.json
run_ok "recover" dmchain recover
run_fail any "it is removed" test -e k4.img
dmchain close z
run_ok "down" dmchain down d
cut "$TMP/k2.raw" "$TMP/k6.img" chain
dmchain create k6.img --backing k2.raw --backing-format raw >/dev/null
headeredit k6.img set both parent.cid=$none
run_ok "raw top: up, snapshot not made" dmchain up d
is "$(top_of d)" "$TMP/k2.raw" "raw top: it is the disk"

# --- unfinished jobs

run_ok "snapshot" dmchain snapshot d=j1.img
fill d 0 12 a
run_ok "snapshot" dmchain snapshot d=j2.img
run_ok "a stream, slowly" dmchain stream d --background --speed 1M
run_ok "down: it is cut off" dmchain down d
like "$(output)" 'its stream .*stopped where it was' "that is told"
run_ok "up" dmchain up d
like "$(output)" 'd: its unfinished stream \(job [0-9a-f]{8}\) goes on' "it is resumed"
run_ok "it ends" dmchain job wait d --timeout 60
is "$(json '.layers | length' dmchain info d)" 1 "as it should"
run_ok "snapshot" dmchain snapshot d=j3.img
run_ok "a stream, slowly" dmchain stream d --background --speed 1M
dmchain down d >/dev/null 2>&1
jq '.jobs = "report"' $etc/d.json >d.json && cp d.json $etc/d.json
run_ok "up, jobs are reported" dmchain up d
like "$(output)" 'warning: d: has an unfinished stream.*dmchain job resume d' "it is told of"
is "$(json '.[-1].status' dmchain job list d)" paused "and is not resumed"
run_ok "it can be" dmchain job resume d --wait
run_ok "down" dmchain down d

# --- what is declared, and another disk of that name

dmchain create real.img --size 8M >/dev/null
dmchain create test.img --size 8M >/dev/null
run_ok "another: enable" dmchain enable o real.img
run_ok "another: open a test image by that name" dmchain open o test.img
run_ok "another: snapshot" dmchain snapshot o=test2.img
like "$(output)" "warning: o: $TMP/real.img stays declared" "another: the declaration stays, which is told"
is "$(declares o '"\(.path) \(.next)"')" "$TMP/real.img null" "another: it does"
run_ok "another: mirror" dmchain mirror o test3.img --format chain --pivot
is "$(declares o '"\(.path) \(.next)"')" "$TMP/real.img null" "another: nor does a pivot change it"
run_ok "another: close" dmchain close o
run_ok "another: up" dmchain up o
is "$(top_of o)" "$TMP/real.img" "another: the declared one comes up"
run_ok "going back: snapshot" dmchain snapshot o=real2.img
run_ok "going back: close" dmchain close o
run_ok "going back: unseal" dmchain unseal real.img
run_ok "going back: open" dmchain open o real.img
is "$(declares o .path)" "$TMP/real2.img" "going back: what is declared can't be opened"
run_ok "going back: snapshot" dmchain snapshot o=real3.img
is "$(declares o '"\(.path) \(.next)"')" "$TMP/real3.img null" "going back: it is followed again"
loop=$(losetup -f --show test3.img)
run_ok "by a loop device: close" dmchain close o
run_ok "by a loop device: enable" dmchain enable o "$loop"
run_ok "by a loop device: up" dmchain up o
run_ok "by a loop device: snapshot" dmchain snapshot o=test4.img
is "$(declares o '"\(.path) \(.next)"')" "$TMP/test4.img null" "by a loop device: it is followed"

# Who changes the disk writes its declaration, too
hold /run/dmchain/lock.o
run_fail 124 "locked: enable waits" timeout 2 dmchain enable o
run_fail 124 "locked: disable, too" timeout 2 dmchain disable o
is "$(declares o .path)" "$TMP/test4.img" "locked: it stays declared"
let_go
run_ok "not locked: disable" dmchain disable o
run_ok "close" dmchain close o
losetup -d "$loop"

# --- a snapshot whose commit record can't be written: which top it is the headers tell

truncate -s ${layer_mib}M data
data=$(losetup -f --show data)
layers_on "$data" 1
dmchain create /dev/mapper/lay0 --size 8M >/dev/null
run_ok "failed: open" dmchain open f /dev/mapper/lay0
run_ok "failed: enable" dmchain enable f
broken 0 0 8
run_fail 1 "failed: the snapshot" dmchain snapshot f=f2.img
like "$(dmsetup status f)" " chain failed " "failed: so has the disk"
is "$(top_of f)" "$TMP/f2.img" "failed: it had its new top by then"
is "$(declares f '"\(.path) \(.next.path)"')" "/dev/mapper/lay0 $TMP/f2.img" "failed: both tops are declared"
run_fail 1 "failed: another snapshot" dmchain snapshot f=f3.img
is "$(declares f '"\(.path) \(.next.path)"')" "/dev/mapper/lay0 $TMP/f2.img" "failed: that changes nothing"
broken 0
dmchain down f >/dev/null 2>&1
# As if booted again: of this boot it could be a copy of an open layer
headeredit /dev/mapper/lay0 set both use_boot="$(printf '%032x' 1)"
run_ok "failed: mended, it comes up" dmchain up f
is "$(top_of f)" /dev/mapper/lay0 "failed: at its old top"
like "$(dmsetup status f)" " chain rw " "failed: and is written"
is "$(declares f '"\(.path) \(.next)"')" "/dev/mapper/lay0 null" "failed: which is declared"
dmchain disable f >/dev/null
dmchain down f >/dev/null 2>&1
dmchain close f >/dev/null 2>&1
layers_off 1
losetup -d "$data"

done_testing
