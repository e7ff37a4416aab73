// SPDX-License-Identifier: GPL-2.0-or-later
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "writelog.h"

static void read_at(struct wlog *log, void *buf, u64 len, u64 off)
{
	int r = dev_read(&log->dev, buf, len, off);

	if (r)
		die("%s: %s at byte %llu", log->dev.path, strerror(-r),
		    (unsigned long long)off);
}

static u64 read_super(struct wlog *log, void *buf)
{
	const struct wlog_super *s = buf;

	read_at(log, buf, PAGE, 0);
	if (le64toh(s->magic) != WLOG_MAGIC)
		die("%s is no log of log-writes", log->dev.path);
	if (le64toh(s->version) != WLOG_VERSION)
		die("%s: log version %llu", log->dev.path,
		    (unsigned long long)le64toh(s->version));
	log->sector_size = le32toh(s->sector_size);
	if (log->sector_size < SECTOR || log->sector_size > 1 << 16 ||
	    log->sector_size & (log->sector_size - 1))
		die("%s: sector size %u", log->dev.path, log->sector_size);
	return le64toh(s->entries);
}

/* Returns where the next entry begins. */
static u64 read_entry(struct wlog *log, u64 at, u8 *buf, struct wlog_entry *e)
{
	struct wlog_head h;
	u64 data_len;

	read_at(log, buf, log->sector_size, at);
	memcpy(&h, buf, sizeof(h));
	e->off = le64toh(h.sector) * log->sector_size;
	e->len = le64toh(h.count) * log->sector_size;
	e->flags = le64toh(h.flags);
	e->data = at + log->sector_size;
	data_len = le64toh(h.data_len);
	if (le64toh(h.flags) & ~(u64)WLOG_KNOWN || e->len > log->dev.size * 64)
		die("%s: entry at byte %llu is damaged", log->dev.path,
		    (unsigned long long)at);
	if (e->flags & WLOG_MARK) {
		if (data_len > log->sector_size - sizeof(h))
			die("%s: mark at byte %llu is damaged", log->dev.path,
			    (unsigned long long)at);
		e->mark = strndup((char *)buf + sizeof(h), data_len);
	}
	return e->data + (e->flags & WLOG_DISCARD ? 0 : e->len);
}

void wlog_open(struct wlog *log, const char *path)
{
	u64 at, i, count;
	u8 *buf;

	memset(log, 0, sizeof(*log));
	dev_open(&log->dev, path, DEV_RO);
	buf = xalloc_aligned(1 << 16);
	count = read_super(log, buf);
	if (count > log->dev.size / log->sector_size)
		die("%s: %llu entries cannot be", path, (unsigned long long)count);
	log->entries = xzalloc(count * sizeof(*log->entries));
	at = log->sector_size;
	for (i = 0; i < count; i++)
		at = read_entry(log, at, buf, &log->entries[i]);
	if (at > log->dev.size)
		die("%s: the last entry ends behind the log", path);
	log->count = count;
	free(buf);
}

bool wlog_is_flush(const struct wlog_entry *e)
{
	return e->flags & WLOG_FLUSH;
}

u64 wlog_behind_flush(const struct wlog *log, u64 n)
{
	u64 i;

	for (i = 0; i < log->count && n; i++)
		n -= wlog_is_flush(&log->entries[i]);
	return i;
}

u64 wlog_flushes(const struct wlog *log, u64 end)
{
	u64 i, n = 0;

	for (i = 0; i < end && i < log->count; i++)
		n += wlog_is_flush(&log->entries[i]);
	return n;
}

u64 wlog_last_mark(const struct wlog *log, u64 end)
{
	u64 i, last = 0, n;
	char *rest;

	for (i = 0; i < end && i < log->count; i++) {
		if (!(log->entries[i].flags & WLOG_MARK))
			continue;
		n = strtoull(log->entries[i].mark, &rest, 10);
		if (rest != log->entries[i].mark && !*rest)
			last = n;
	}
	return last;
}
