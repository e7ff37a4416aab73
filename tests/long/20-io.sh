#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug mem=2048 smp=2 timeout=900 group=long
#
# tests/functional/20-io.sh with all of its snapshots taken under load.

export LONG=1
exec "$(dirname "$0")/../functional/20-io.sh"
