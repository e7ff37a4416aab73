#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What bash offers when dmchain's command line is completed: all commands and all of
# their options, disks, declarations, values and files.

set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
. "$top/tests/lib/tap.sh"
DMCHAIN=$(realpath "${DMCHAIN:-${O:-$top/build}/asan/dmchain}")
cd "$TMP" || exit 1
. "$top/userspace/completion/dmchain"

# Two disks and something else
mkdir -p sys/block/dm-{0,1,2}/dm etc files/a-folder
for n in 0 1 2; do
	echo "DMCHAIN-$n" >sys/block/dm-$n/dm/uuid
	echo "disk-$n" >sys/block/dm-$n/dm/name
done
echo LVM-x >sys/block/dm-2/dm/uuid
touch etc/boots.json files/an-image.img
export DMCHAIN_SYSFS=$TMP/sys DMCHAIN_ETC=$TMP/etc

# complete WORD...: what is offered for the last one, one line, sorted
complete_words()
{
	COMP_WORDS=("$DMCHAIN" "$@")
	COMP_CWORD=$#
	COMPREPLY=()
	(cd files && _dmchain "$DMCHAIN" 2>/dev/null; printf '%s\n' "${COMPREPLY[@]}" | sort -u | xargs)
}

offers()	# offers EXPECTED WORD...
{
	local want=$1
	shift
	is "$(complete_words "$@")" "$want" "dmchain $*"
}

commands=$("$DMCHAIN" --help | sed -n 's/^  \([a-z-]*\)  .*/\1/p')
run_ok "there are commands" test "$(wc -l <<<"$commands")" -gt 25
for c in $commands; do
	like " $(complete_words "") " " $c " "$c is offered"
	# In brackets or not, each option that the usage has
	missing=
	for option in $("$DMCHAIN" "$c" --help | head -n 1 | grep -o -- '--[a-z-]*[a-z]' | sort -u); do
		[[ " $(complete_words "$c" --) " == *" $option "* ]] || missing+=" $option"
	done
	is "$missing" "" "$c: no option is missing"
done
offers "snapshot" sn
offers "--backing --backing-format --block-size" create new.img --b
offers "disk-0 disk-1" close ""
offers "disk-1" close disk-1
offers "boots disk-0 disk-1" open ""
offers "a-folder an-image.img" open new ""
offers "an-image.img" info an
offers "chain raw" open new an-image.img --format ""
offers "raw" create x --backing an-image.img --backing-format r
offers "a-folder an-image.img" create x --backing a
offers "disk-0= disk-1=" snapshot d
offers "an-image.img" snapshot disk-0 = an
offers "a-folder an-image.img" snapshot disk-0 =
offers "enospc ignore report stop" stream disk-0 --on-error ""
offers "report resume" enable disk-0 --jobs re
offers "aborted committed" recover x --assume ""
offers "cancel list pause resume show speed wait" job ""
offers "disk-0 disk-1" job wait disk
offers "boots" up ""
offers "boots" disable ""
offers "check disk-0 disk-1 hold matrix" perm ""
offers "" create x --size ""
offers "--wait" job resume 3 --w
done_testing
