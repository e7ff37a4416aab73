/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Logs in the format of the kernel's log-writes target: a superblock, then
 * for each request a sector that describes it and its data. "Sector" here is
 * the logical block of the logged device.
 */
#ifndef DMCHAIN_TESTS_TOOLS_WRITELOG_H
#define DMCHAIN_TESTS_TOOLS_WRITELOG_H

#include "../common.h"

#define WLOG_MAGIC	0x6a736677736872ULL
#define WLOG_VERSION	1

enum {
	WLOG_FLUSH = 1,
	WLOG_FUA = 2,
	WLOG_DISCARD = 4,
	WLOG_MARK = 8,
	WLOG_META = 16,
	WLOG_KNOWN = 31,
};

/* As on disk, little endian. */
struct wlog_super {
	u64 magic, version, entries;
	u32 sector_size;
};

struct wlog_head {
	u64 sector, count, flags, data_len;
};

struct wlog_entry {
	u64 off, len;			/* on the device, bytes */
	u64 data;			/* in the log, bytes */
	u32 flags;
	char *mark;			/* of WLOG_MARK */
};

struct wlog {
	struct dev dev;
	u32 sector_size;
	u64 count;
	struct wlog_entry *entries;
};

void wlog_open(struct wlog *log, const char *path);
bool wlog_is_flush(const struct wlog_entry *e);
/* Index just behind flush n (the first is 1), or behind the log if there are fewer. */
u64 wlog_behind_flush(const struct wlog *log, u64 n);
u64 wlog_flushes(const struct wlog *log, u64 end);
/* The last mark before entry end whose text is a number, or 0. */
u64 wlog_last_mark(const struct wlog *log, u64 end);

/*
 * What log-writes would log below a disk with a volatile cache; for tests of
 * the tools without a kernel. Give wsim_watch to a struct dev.
 */
struct wsim;
struct wsim *wsim_create(const char *path);
void wsim_watch(void *arg, enum dev_event ev, const void *buf, u64 off, u64 len);
void wsim_mark(struct wsim *sim, const char *text);
void wsim_close(struct wsim *sim);

#endif
