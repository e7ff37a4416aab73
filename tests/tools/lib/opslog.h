/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a writer did, in the order of its doing: an operation is recorded
 * before it is issued and again when it is acknowledged. Kept outside the
 * tested disk.
 */
#ifndef DMCHAIN_TESTS_TOOLS_OPSLOG_H
#define DMCHAIN_TESTS_TOOLS_OPSLOG_H

#include <pthread.h>

#include "../common.h"

enum rec_type {
	REC_HEAD = 1,		/* seq: seed, off: size of the disk, len: block */
	REC_WRITE,		/* issued: seq, off, len */
	REC_FUA,
	REC_DISCARD,
	REC_ZERO,
	REC_ACK,		/* of seq */
	REC_FLUSH,		/* issued: seq */
	REC_FLUSH_ACK,
	REC_SNAP,		/* a snapshot begins / has returned: seq */
	REC_SNAP_ACK,
	REC_MARK,		/* seq: number, recorded before it is sent */
	REC_END,
};

struct rec {
	u32 type;
	u32 thread;
	u64 seq, off, len;
};

struct opslog {
	pthread_mutex_t lock;
	const char *path;
	int fd;
	u64 next_seq;
};

void opslog_create(struct opslog *l, const char *path, u64 seed, u64 size, u64 block);
/* Records an operation that is about to be issued; returns its number. */
u64 opslog_issue(struct opslog *l, enum rec_type type, u32 thread, u64 off, u64 len);
void opslog_add(struct opslog *l, enum rec_type type, u32 thread, u64 seq);
/* All whole records of a log; a torn last one is left out. */
struct rec *opslog_load(const char *path, u64 *count);

#endif
