#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Is the table in Documentation/permissions.rst that of the matrix? --renew
# ("make docs") makes it so.

set -u
export LC_ALL=C
top=$(cd "$(dirname "$0")/../.." && pwd)
DMCHAIN=${DMCHAIN:-${O:-$top/build}/asan/dmchain}
doc=$top/Documentation/permissions.rst
new=$(mktemp "${TMPDIR:-/tmp}/dmchain-doc.XXXXXX")
trap 'rm -f "$new"' EXIT

# The document with the matrix that dmchain has, between its marks
renewed()
{
	sed '/^\.\. matrix begin/q' "$doc"
	echo
	"$DMCHAIN" perm matrix --rst || return
	echo
	sed -n '/^\.\. matrix end/,$p' "$doc"
}

if ! renewed > "$new" || [ "$(grep -c '^\.\. matrix' "$new")" != 2 ]; then
	echo "not ok - the table of permissions.rst can be made"
	exit 1
fi
if [ "${1:-}" = --renew ]; then
	cmp -s "$new" "$doc" || cat "$new" > "$doc"
	exit
fi
if difference=$(diff "$doc" "$new"); then
	echo "ok - permissions.rst has the table of the matrix"
else
	sed 's/^/# /' <<< "$difference"
	echo "not ok - permissions.rst has the table of the matrix: make docs"
	exit 1
fi
