/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Consistent cut: is what a frozen layer holds a state that the disk was in?
 * See cut.c.
 */
#ifndef DMCHAIN_TESTS_TOOLS_CUT_H
#define DMCHAIN_TESTS_TOOLS_CUT_H

#include "../common.h"

struct cut_args {
	u64 seconds, ops, seed, max, size, block;
	unsigned int threads;
	bool flush;
	const char *plant;
};

int cut_run(int ndevs, char **paths, const struct cut_args *a);
int cut_check(int ndevs, char **paths, const struct cut_args *a);

#endif
