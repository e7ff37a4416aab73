#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The manual pages and the help of the controller say the same: each command has a page
# and is listed in dmchain(8), each option of it is described there, and none that there
# is not; no document has another one. groff has nothing to complain of.
#
#	DMCHAIN=path/to/dmchain tests/unit/man.sh

set -u
export LC_ALL=C
top=$(cd "$(dirname "$0")/../.." && pwd)
. "$top/tests/lib/tap.sh"
DMCHAIN=$(realpath "${DMCHAIN:-${O:-$top/build}/asan/dmchain}")
cd "$top/Documentation/man" || exit 1

# plain: a page as it is read, without what is for groff only
plain()
{
	sed 's/\\-/-/g; s/\\f[A-Z]//g' "$1"
}

# tags PAGE: options that have a paragraph of their own
tags()
{
	plain "$1" | sed -n '/^\.TP/{n;p}' | grep -oE -- '(^|[ ,])--?[a-z][a-z-]*' | tr -d ' ,' | sort -u
}

# words: the options that are named in a text
words()
{
	grep -oE -- '(^|[^a-zA-Z0-9-])--?[a-z][a-z-]*[a-z]' | grep -oE -- '--[a-z-]*' | sort -u
}

# without LIST OTHER: what is in the first and not in the second, on one line
without()
{
	comm -23 <(printf '%s\n' "$1") <(printf '%s\n' "$2") | xargs
}

commands=$("$DMCHAIN" --help | sed -n 's/^  \([a-z][a-z-]*\)  .*/\1/p' | sort)
run_ok "there are commands" test "$(wc -l <<<"$commands")" -gt 25
pages=$(for f in dmchain-*.8; do f=${f#dmchain-}; echo "${f%.8}"; done | sort)
is "$(without "$commands" "$pages")" "" "each command has a page"
is "$(without "$pages" "$commands")" "" "each page has a command"
listed=$(plain dmchain.8 | sed -n '/^\.SH COMMANDS/,/^\.SH FILE/p' |
	sed -n '/^\.TP 12/{n;s/^\.B //p}' | sort)
is "$listed" "$commands" "dmchain(8) lists them, once each"

declare -A helps=()
for c in $commands; do
	helps[$c]=$("$DMCHAIN" "$c" --help | words)
	page=dmchain-$c.8
	[ -e "$page" ] || continue
	help=$("$DMCHAIN" "$c" --help)
	tags=$(tags "$page" | grep -- -- || :)
	missing=$(without "$(sed -n '1p; /^  --/p' <<<"$help" | words)" "$tags")
	is "$missing" "" "$c: no option is missing"
	# In the synopsis, too
	more=$({ echo "$tags"; plain "$page" | sed -n '/^\.SH SYNOPSIS/,/^\.SH DESCR/p' | words; } | sort -u)
	is "$(without "$more" "$(words <<<"$help")")" "" "$c: no option is invented"
	missing=
	for section in NAME SYNOPSIS DESCRIPTION EXAMPLES 'SEE ALSO'; do
		grep -qxE "\.SH \"?$section\"?" "$page" || missing+=" $section"
	done
	is "$missing" "" "$c: all sections are there"
	is "$(plain "$page" | sed -n '/^\.SH NAME/{n;s/ - .*//p}')" "dmchain-$c" "$c: has its name"
done

for page in dmchain*.8; do
	name=${page%.8}
	dangling=
	for other in $(plain "$page" | grep -oE 'dmchain-[a-z-]+ ?\(8\)' | tr -d ' ' | sort -u); do
		[ -e "${other%(8)}.8" ] || dangling+=" $other"
	done
	is "$dangling" "" "$name: what it refers to is there"
done
# Commands with options that stand in documents: up to the end of the literal, of the
# command, of what is dmchain's own
unknown=
while read -r _ c rest; do
	if [ -z "${helps[$c]+there}" ]; then
		unknown+=" $c"
		continue
	fi
	help=${helps[$c]}
	for option in $(words <<<"$rest"); do
		[[ $'\n'$help$'\n--json\n--help\n--fd\n' == *$'\n'$option$'\n'* ]] || unknown+=" $c:$option"
	done
done < <(sed 's/\\-/-/g; s/\\f[A-Z]//g' ./*.8 ../*.rst ../../README.md |
	grep -oE '(^|[^a-z-])dmchain [a-z][a-z-]* [^`"|;&#]*--[a-z][^`"|;&#]*' |
	sed 's/ -- .*//; s/^[^d]*dmchain/dmchain/; s/, .*//')
is "$unknown" "" "documents have no command or option that there is not"
# One run for all of them: it names the page
is "$(groff -ww -Tutf8 -man dmchain*.8 2>&1 >/dev/null)" "" "groff does not complain"
done_testing
