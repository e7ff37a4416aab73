# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# What the scripts that run on the host share: where things are, how to
# complain, how to build something in the cache exactly once.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
: "${HOME:=$(getent passwd "$(id -u)" | cut -d: -f6)}"
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/dm-chain
O=$(realpath -m "${O:-$TOP/build}")
JOBS=${JOBS:-$(nproc)}
export O CCACHE_DIR=${CCACHE_DIR:-$CACHE/ccache}
mkdir -p "$CACHE"

die()
{
	echo "${0##*/}: $*" >&2
	exit 1
}

note()
{
	echo "# ${0##*/}: $*" >&2
}

# once LOCK STAMP COMMAND...: run COMMAND under the lock LOCK unless STAMP is
# there already. COMMAND has to create STAMP as its very last act.
once()
{
	local lock=$1 stamp=$2
	shift 2
	[ -e "$stamp" ] && return
	mkdir -p "$(dirname "$lock")"
	(
		flock 9
		[ -e "$stamp" ] || "$@" 9>&-
	) 9>"$lock"
	[ -e "$stamp" ] || die "$* did not make $stamp"
}

# fetch_deb PACKAGE VERSION DIR: unpack a Debian package without installing it
fetch_deb()
{
	local pkg=$1 version=$2 dir=$3 tmp
	tmp=$(mktemp -d "$CACHE/fetch.XXXXXX")
	note "fetching $pkg $version"
	(
		cd "$tmp"
		apt-get -qq -o APT::Sandbox::User=root download "$pkg=$version" >&2 ||
			apt-get -qq -o APT::Sandbox::User=root download "$pkg" >&2
	) || die "cannot download $pkg $version"
	mkdir -p "$dir"
	dpkg -x "$tmp"/*.deb "$dir"
	rm -rf "$tmp"
}

# headers_release 6.1|6.12: the release of the newest installed Debian headers
headers_release()
{
	local dir
	dir=$(printf '%s\n' "/usr/src/linux-headers-$1".*-amd64 |
		grep -v -e -rt- -e -cloud- | sort -V | tail -n 1)
	[ -d "$dir" ] || die "no linux-headers for $1 are installed (tests/lib/install-deps does that)"
	echo "${dir#/usr/src/linux-headers-}"
}
