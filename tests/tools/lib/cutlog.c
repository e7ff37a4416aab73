// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Each disk has a volatile cache of its own. What is in there is made durable by a
 * flush of that disk; a FUA write is durable by itself, and goes before what was
 * written to its sectors earlier. Of the rest a cut keeps, in their order, none, all,
 * any, or any sectors of any (torn: the power goes during the last request, so that
 * this one is of the rest, too), or on each disk all or none (disks).
 *
 * BASE/0 and so on hold what is durable. They, and BASE/upto, go along with cuts that
 * come later and later; TO/0 and so on are made anew each time.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cutlog.h"

#define MAGIC	0x6375746c6f673031ULL

struct cache {
	int fd;
	u64 size;
	u64 *durable;			/* number of a sector's last durable request */
	const struct cut_entry **held;
	u64 nr_held;
	struct rng rng;
	bool all;			/* KEEP_DISKS */
};

struct replay {
	const struct cut_args *a;
	struct cut_log log;
	struct cache disk[CUT_MAX_DISKS];
	struct rng rng;
	u64 upto, mark, kept, dropped, torn;
};

/* The log */

void cut_append(FILE *f, const struct cut_rec *r, const void *data)
{
	struct cut_rec rec = *r;

	rec.magic = MAGIC;
	if (fwrite(&rec, sizeof(rec), 1, f) != 1 ||
	    (data && fwrite(data, r->len, 1, f) != 1) || fflush(f))
		die("write to the log: %s", strerror(errno));
}

static bool has_data(const struct cut_rec *r)
{
	return r->kind == CUT_WRITE || r->kind == CUT_MARK;
}

static u64 parse_log(struct cut_log *log, const u8 *p, u64 size, const char *path)
{
	struct cut_rec r;
	u64 at = 0, n = 0;

	while (size - at >= sizeof(r)) {
		memcpy(&r, p + at, sizeof(r));
		at += sizeof(r);
		if (r.magic != MAGIC || r.disk >= CUT_MAX_DISKS ||
		    (has_data(&r) && r.len > size - at))
			die("%s: damaged at byte %llu", path, (unsigned long long)at);
		if (log->entries)
			log->entries[n] = (struct cut_entry){ r, p + at };
		n++;
		log->requests = r.number;
		at += has_data(&r) ? r.len : 0;
	}
	return n;
}

void cut_load(struct cut_log *log, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	const u8 *p = NULL;

	memset(log, 0, sizeof(*log));
	if (fd < 0 || fstat(fd, &st))
		die("%s: %s", path, strerror(errno));
	if (st.st_size)
		p = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		die("%s: %s", path, strerror(errno));
	close(fd);
	log->count = parse_log(log, p, st.st_size, path);
	log->entries = xzalloc(log->count * sizeof(*log->entries));
	parse_log(log, p, st.st_size, path);
}

/* Changing an image */

static int write_junk(int fd, u64 number, u64 off, u64 len)
{
	u64 words[SECTOR / 8], i;
	struct rng rng;
	int r = 0;

	for (; len && !r; off += SECTOR, len -= SECTOR) {
		rng_init(&rng, number, off);
		for (i = 0; i < ARRAY_SIZE(words); i++)
			words[i] = rnd(&rng);
		r = full_pwrite(fd, words, SECTOR, off);
	}
	return r;
}

static int punch(int fd, u64 off, u64 len)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len) ?
	       -errno : 0;
}

int cut_apply(int fd, const struct cut_rec *r, const u8 *data, u64 from, u64 len)
{
	if (r->kind == CUT_WRITE)
		return full_pwrite(fd, data + (from - r->off), len, from);
	if (r->kind == CUT_ZERO || r->number % 3 == 0)
		return punch(fd, from, len);
	return r->number % 3 == 1 ? 0 : write_junk(fd, r->number, from, len);
}

/*
 * Those sectors of it that nothing newer has made durable, and of a torn one those
 * that fall so.
 */
static void apply(struct cache *c, int fd, const struct cut_entry *e, struct rng *torn)
{
	u64 s, from = 0, n = 0, end = (e->r.off + e->r.len) / SECTOR;
	int r = 0;

	for (s = e->r.off / SECTOR; s <= end; s++) {
		if (s < end && c->durable[s] < e->r.number &&
		    (!torn || rnd_chance(torn, 50))) {
			from = n ? from : s;
			n++;
			continue;
		}
		if (n && !r)
			r = cut_apply(fd, &e->r, e->data, from * SECTOR, n * SECTOR);
		n = 0;
	}
	if (r)
		die("request %llu: %s", (unsigned long long)e->r.number, strerror(-r));
}

/* Caches */

static bool lies(const struct replay *p, const struct cut_entry *e)
{
	return p->a->liars >> e->r.disk & 1;
}

/* By request "by"; an earlier replay to this base may have done it. */
static void make_durable(struct replay *p, const struct cut_entry *e, u64 by)
{
	struct cache *c = &p->disk[e->r.disk];
	u64 s;

	if (by > p->upto)
		apply(c, c->fd, e, NULL);
	for (s = e->r.off / SECTOR; s < (e->r.off + e->r.len) / SECTOR; s++)
		if (c->durable[s] < e->r.number)
			c->durable[s] = e->r.number;
}

static void hold(struct replay *p, const struct cut_entry *e)
{
	struct cache *c = &p->disk[e->r.disk];

	c->held[c->nr_held++] = e;
}

static void flush(struct replay *p, const struct cut_entry *e)
{
	struct cache *c = &p->disk[e->r.disk];
	u64 i;

	for (i = 0; i < c->nr_held; i++)
		make_durable(p, c->held[i], e->r.number);
	c->nr_held = 0;
}

static void check_fits(const struct replay *p, const struct cut_entry *e)
{
	const struct cache *c = &p->disk[e->r.disk];

	if (e->r.disk >= p->a->disks || e->r.off > c->size || e->r.len > c->size - e->r.off)
		die("request %llu does not fit on disk %u",
		    (unsigned long long)e->r.number, e->r.disk);
}

static void replay_one(struct replay *p, const struct cut_entry *e, bool done)
{
	char *end;

	if (e->r.kind == CUT_MARK) {
		u64 v = strtoull((const char *)e->data, &end, 10);

		if (done && !*end)
			p->mark = v;
		return;
	}
	check_fits(p, e);
	if (e->r.kind == CUT_FLUSH) {
		if (done && !lies(p, e))
			flush(p, e);
	} else if (done && e->r.fua && !lies(p, e)) {
		make_durable(p, e, e->r.number);
	} else {
		hold(p, e);
	}
}

/* What the cut keeps of a cache */

static void keep_one(struct replay *p, struct cache *c, int fd, const struct cut_entry *e)
{
	enum cut_keep keep = p->a->keep;
	bool torn = keep == KEEP_TORN && rnd_chance(&p->rng, 40);

	if (keep == KEEP_NONE || (keep == KEEP_DISKS && !c->all) ||
	    (keep == KEEP_SOME && rnd_chance(&p->rng, 50)) ||
	    (keep == KEEP_TORN && !torn && rnd_chance(&p->rng, 50))) {
		p->dropped++;
		return;
	}
	p->kept += !torn;
	p->torn += torn;
	apply(c, fd, e, torn ? &p->rng : NULL);
}

static void leave(struct replay *p, unsigned int no)
{
	struct cache *c = &p->disk[no];
	char path[4096];
	u64 i;
	int fd, r;

	snprintf(path, sizeof(path), "%s/%u", p->a->to, no);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	r = copy_sparse(c->fd, fd, c->size);
	if (r)
		die("%s: %s", path, strerror(-r));
	c->all = rnd_chance(&p->rng, 50);
	for (i = 0; i < c->nr_held; i++)
		keep_one(p, c, fd, c->held[i]);
	close(fd);
}

/* The base */

static void open_disk(struct replay *p, unsigned int no)
{
	struct cache *c = &p->disk[no];
	char path[4096];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%u", p->a->base, no);
	c->fd = open(path, O_RDWR | O_CLOEXEC);
	if (c->fd < 0 || fstat(c->fd, &st))
		die("%s: %s", path, strerror(errno));
	c->size = st.st_size;
	c->durable = xzalloc(c->size / SECTOR * sizeof(*c->durable));
	c->held = xzalloc(p->log.count * sizeof(*c->held));
}

static FILE *open_upto(const struct replay *p, const char *mode)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/upto", p->a->base);
	f = fopen(path, mode);
	if (!f && *mode != 'r')
		die("%s: %s", path, strerror(errno));
	return f;
}

static void read_upto(struct replay *p, u64 end)
{
	FILE *f = open_upto(p, "re");
	unsigned long long upto, liars;

	if (!f)
		return;
	if (fscanf(f, "%llu %llx", &upto, &liars) != 2 || liars != p->a->liars || upto > end)
		die("%s is of a later cut, or of disks that lie", p->a->base);
	p->upto = upto;
	fclose(f);
}

static void write_upto(const struct replay *p, u64 end)
{
	FILE *f = open_upto(p, "we");

	fprintf(f, "%llu %llx\n", (unsigned long long)end,
		(unsigned long long)p->a->liars);
	if (fclose(f))
		die("%s/upto: %s", p->a->base, strerror(errno));
}

int cut_replay(const struct cut_args *a)
{
	struct replay p = { .a = a };
	u64 end = a->cut - (a->keep == KEEP_TORN && a->cut), i;
	unsigned int d;

	cut_load(&p.log, a->log);
	rng_init(&p.rng, a->seed, a->cut);
	for (d = 0; d < a->disks; d++)
		open_disk(&p, d);
	read_upto(&p, end);
	for (i = 0; i < p.log.count && p.log.entries[i].r.number <= a->cut; i++)
		replay_one(&p, &p.log.entries[i], p.log.entries[i].r.number <= end);
	write_upto(&p, end);
	for (d = 0; d < a->disks; d++)
		leave(&p, d);
	printf("cut=%llu requests=%llu mark=%llu kept=%llu dropped=%llu torn=%llu\n",
	       (unsigned long long)a->cut, (unsigned long long)p.log.requests,
	       (unsigned long long)p.mark, (unsigned long long)p.kept,
	       (unsigned long long)p.dropped, (unsigned long long)p.torn);
	return EX_OK;
}
