/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What several disks were asked, in the one order in which it was done, and what a
 * power cut then leaves of them; see cutlog.c.
 */
#ifndef DMCHAIN_TESTS_TOOLS_CUTLOG_H
#define DMCHAIN_TESTS_TOOLS_CUTLOG_H

#include <stdio.h>

#include "../common.h"

#define CUT_MAX_DISKS	16

enum cut_kind { CUT_WRITE, CUT_ZERO, CUT_TRIM, CUT_FLUSH, CUT_MARK };

/* In the file the data of a write, or the text of a mark, follows it. */
struct cut_rec {
	u64 magic;
	u64 number;		/* of the request, from 1; a mark has that before it */
	u64 off, len;
	u32 kind;
	u32 disk;
	u32 fua;
	u32 zero;
};

struct cut_entry {
	struct cut_rec r;
	const u8 *data;
};

struct cut_log {
	struct cut_entry *entries;
	u64 count;
	u64 requests;
};

void cut_append(FILE *f, const struct cut_rec *r, const void *data);
void cut_load(struct cut_log *log, const char *path);

/* Of a trimmed range anything may be read: that depends on the number. */
int cut_apply(int fd, const struct cut_rec *r, const u8 *data, u64 from, u64 len);

enum cut_keep { KEEP_NONE, KEEP_ALL, KEEP_SOME, KEEP_TORN, KEEP_DISKS };

struct cut_args {
	const char *log, *base, *to;
	u64 cut, seed;
	enum cut_keep keep;
	unsigned int disks;
	u64 liars;		/* a bit for each disk that only says it has flushed */
};

int cut_replay(const struct cut_args *a);

#endif
