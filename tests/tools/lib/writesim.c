// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The order of log-writes: plain writes and discards are logged when a flush
 * that began after they were done is done; FUA writes when they are done. A
 * discard is followed by a write of zeroes, since it promises nothing itself.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "writelog.h"

struct pending {
	struct pending *next;
	u64 off, len;
	u32 flags;
	u8 data[];
};

struct queue {
	struct pending *first, **last;
};

struct wsim {
	pthread_mutex_t lock;
	const char *path;
	int fd;
	u64 at, entries;
	struct queue unflushed;
};

/* Taken by the flush that this thread has under way. */
static __thread struct pending *captured;

static void queue_init(struct queue *q)
{
	q->first = NULL;
	q->last = &q->first;
}

static void put(struct wsim *sim, const void *buf, u64 len)
{
	int r = full_pwrite(sim->fd, buf, len, sim->at);

	if (r)
		die("%s: %s", sim->path, strerror(-r));
	sim->at += len;
}

static void put_entry(struct wsim *sim, u32 flags, u64 off, u64 len,
		      const void *data, u64 inlined)
{
	u8 sector[SECTOR] = { 0 };
	struct wlog_head h = {
		.sector = htole64(off / SECTOR), .count = htole64(len / SECTOR),
		.flags = htole64(flags), .data_len = htole64(inlined),
	};

	memcpy(sector, &h, sizeof(h));
	if (inlined)
		memcpy(sector + sizeof(h), data, inlined);
	put(sim, sector, sizeof(sector));
	if (len && !(flags & WLOG_DISCARD))
		put(sim, data, len);
	sim->entries++;
}

static void put_super(struct wsim *sim)
{
	u8 sector[SECTOR] = { 0 };
	struct wlog_super s = {
		.magic = htole64(WLOG_MAGIC), .version = htole64(WLOG_VERSION),
		.entries = htole64(sim->entries), .sector_size = htole32(SECTOR),
	};
	u64 at = sim->at;

	memcpy(sector, &s, sizeof(s));
	sim->at = 0;
	put(sim, sector, sizeof(sector));
	sim->at = max_u64(at, SECTOR);
}

struct wsim *wsim_create(const char *path)
{
	struct wsim *sim = xzalloc(sizeof(*sim));

	sim->path = path;
	sim->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (sim->fd < 0)
		die("%s: %s", path, strerror(errno));
	pthread_mutex_init(&sim->lock, NULL);
	queue_init(&sim->unflushed);
	put_super(sim);
	return sim;
}

static void add_unflushed(struct wsim *sim, u32 flags, const void *buf, u64 off,
			  u64 len)
{
	struct pending *p = xzalloc(sizeof(*p) + (flags & WLOG_DISCARD ? 0 : len));

	p->off = off;
	p->len = len;
	p->flags = flags;
	if (buf)
		memcpy(p->data, buf, len);
	*sim->unflushed.last = p;
	sim->unflushed.last = &p->next;
}

static void put_captured(struct wsim *sim)
{
	struct pending *p;

	while ((p = captured)) {
		captured = p->next;
		put_entry(sim, p->flags, p->off, p->len, p->data, 0);
		free(p);
	}
}

void wsim_watch(void *arg, enum dev_event ev, const void *buf, u64 off, u64 len)
{
	struct wsim *sim = arg;

	pthread_mutex_lock(&sim->lock);
	switch (ev) {
	case EV_WRITE:
		add_unflushed(sim, 0, buf, off, len);
		break;
	case EV_DISCARD:
		add_unflushed(sim, WLOG_DISCARD, NULL, off, len);
		add_unflushed(sim, 0, NULL, off, len);
		break;
	case EV_ZERO:
		add_unflushed(sim, 0, NULL, off, len);
		break;
	case EV_FUA:
		put_entry(sim, WLOG_FUA, off, len, buf, 0);
		break;
	case EV_FLUSH_BEGIN:
		captured = sim->unflushed.first;
		queue_init(&sim->unflushed);
		break;
	case EV_FLUSH_END:
		put_captured(sim);
		put_entry(sim, WLOG_FLUSH, 0, 0, NULL, 0);
		break;
	}
	pthread_mutex_unlock(&sim->lock);
}

void wsim_mark(struct wsim *sim, const char *text)
{
	pthread_mutex_lock(&sim->lock);
	put_entry(sim, WLOG_MARK, 0, 0, text, strlen(text));
	put_super(sim);
	pthread_mutex_unlock(&sim->lock);
}

void wsim_close(struct wsim *sim)
{
	captured = sim->unflushed.first;
	put_captured(sim);
	wsim_mark(sim, "dm-log-writes-end");
	close(sim->fd);
	free(sim);
}
