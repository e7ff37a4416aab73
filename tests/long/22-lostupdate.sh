#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug mem=1024 smp=2 timeout=1800 group=long
#
# tests/functional/22-lostupdate.sh, 100 000 times.

export ROUNDS=100000
exec "$(dirname "$0")/../functional/22-lostupdate.sh"
