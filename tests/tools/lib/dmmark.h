/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Marks in a log of what reaches disks: `dmsetup message NAME 0 mark TEXT`, without
 * starting a process for it; or, if the name is a path, to the socket of cutdisk.
 */
#ifndef DMCHAIN_TESTS_TOOLS_DMMARK_H
#define DMCHAIN_TESTS_TOOLS_DMMARK_H

#include "../common.h"

int dm_mark(const char *name, const char *text);

/* A line to cutdisk, which answers with the number of requests so far */
int cut_tell(const char *path, const char *line, u64 *number);

#endif
