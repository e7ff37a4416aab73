/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Is this a state that a power cut may leave? See crashcheck.c. */
#ifndef DMCHAIN_TESTS_TOOLS_CRASHCHECK_H
#define DMCHAIN_TESTS_TOOLS_CRASHCHECK_H

#include "../common.h"

struct crash_args {
	const char *log;
	u64 mark;
	u64 snapshot;		/* or: the state that this one froze, from 1 */
	bool all;		/* no power cut: all that was acknowledged is there */
	bool fresh;		/* the top held nothing when the run began */
	bool whole;		/* first writes of a block are whole or not at all */
	const char *initial;	/* what the disk read as then, if known */
};

int crash_check(const char *path, const struct crash_args *a);

#endif
