#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug mem=2048 smp=2 timeout=14400 group=long
# allow: Buffer I/O error
# allow: I/O error, dev
# allow: (map write|map commit|header update|second header copy|switch|flush) failed
# allow: pivot is not durable
# allow: moved on, a header lacks it
#
# tests/functional/55-pivots.sh, all of it.

export LONG=1
exec "$(dirname "$0")/../functional/55-pivots.sh"
