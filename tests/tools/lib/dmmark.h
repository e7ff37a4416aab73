/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `dmsetup message NAME 0 mark TEXT`, without starting a process for it. */
#ifndef DMCHAIN_TESTS_TOOLS_DMMARK_H
#define DMCHAIN_TESTS_TOOLS_DMMARK_H

int dm_mark(const char *name, const char *text);

#endif
