#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug mem=1024 smp=2 timeout=900 group=long
#
# tests/functional/69-thin.sh: all hundred snapshots of a disk in use, more orders and stores.

export LONG=1
exec "$(dirname "$0")/../functional/69-thin.sh"
