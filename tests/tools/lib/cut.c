// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Threads write to disks, one write at a time each; which sectors write n of
 * thread t goes to follows from (seed, t, n). A layer frozen at one instant
 * must then hold, of each thread, a prefix of its writes: the highest number
 * found there, m, says what every sector of that thread holds, except that
 * write m itself may be there in part. And since each sector also says how
 * far the other threads' acknowledged writes had come when it was issued, a
 * write that is there without one that was acknowledged before it is found
 * as well, over several disks too.
 *
 * The first half of a disk belongs to the threads sector by sector (all meet
 * in each block), the second half in one piece each (long writes).
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cut.h"

#define MAX_DEVS	8
#define HOT_WRITES	64
#define HOT_SECTORS	64
#define READ_CHUNK	(1ULL << 20)

struct geometry {
	u64 seed;
	unsigned int threads, devs;
	u64 sectors;			/* of a disk */
	u64 max;			/* sectors of a write */
};

struct piece {
	unsigned int dev;
	u64 sector, count;
};

static unsigned int threads_on(const struct geometry *g, unsigned int dev)
{
	return (g->threads - dev + g->devs - 1) / g->devs;
}

/* The sector-by-sector half: near each other for writes of about one time. */
static u64 place_fine(const struct geometry *g, unsigned int local,
		      unsigned int of, u64 n, struct rng *r)
{
	u64 places = g->sectors / 2 / of, window = min_u64(HOT_SECTORS, places);
	struct rng hot;
	u64 k;

	rng_init(&hot, g->seed ^ 0x55, n / HOT_WRITES);
	k = rnd_below(&hot, places - window + 1) + rnd_below(r, window);
	return k * of + local;
}

static struct piece place(const struct geometry *g, unsigned int t, u64 n)
{
	struct piece p = { .dev = t % g->devs };
	unsigned int of = threads_on(g, p.dev), local = t / g->devs;
	u64 area = g->sectors / 2 / of;
	struct rng r;

	rng_init(&r, g->seed + t, n);
	if (rnd_chance(&r, 75)) {
		p.sector = place_fine(g, local, of, n, &r);
		p.count = 1;
		return p;
	}
	p.count = min_u64(rnd_len(&r, 1, g->max, 1), area);
	p.sector = g->sectors / 2 + local * area +
		   rnd_below(&r, area - p.count + 1);
	return p;
}

static void check_geometry(const struct geometry *g)
{
	if (!g->threads || g->threads > MAX_THREADS || g->threads < g->devs)
		die("cut: %u threads for %u disks (at most %u)", g->threads,
		    g->devs, MAX_THREADS);
	if (g->sectors < 64 * MAX_THREADS)
		die("cut: disk too small");
}

/* Writing */

struct cut {
	struct geometry g;
	struct dev devs[MAX_DEVS];
	bool flush;
	u64 end_ns, ops;
	atomic_ullong issued;
	atomic_uint acked[MAX_THREADS];
	atomic_bool failed;
};

struct cut_writer {
	pthread_t id;
	struct cut *cut;
	unsigned int no;
	u8 *buf;
};

static int write_one(struct cut_writer *w, u64 n)
{
	struct cut *c = w->cut;
	struct piece p = place(&c->g, w->no, n);
	u32 vec[MAX_THREADS];
	struct stamp_id id = {
		.seed = c->g.seed, .seq = n, .thread = w->no, .vec = vec,
		.param = c->g.threads | c->g.max << 8,
	};
	int r;
	unsigned int i;

	for (i = 0; i < MAX_THREADS; i++)
		vec[i] = atomic_load(&c->acked[i]);
	stamp_fill(w->buf, p.sector * SECTOR, p.count * SECTOR, &id);
	r = dev_write(&c->devs[p.dev], w->buf, p.count * SECTOR,
		      p.sector * SECTOR);
	if (!r)
		atomic_store(&c->acked[w->no], n);
	if (!r && c->flush && n % 64 == 63)
		r = dev_flush(&c->devs[p.dev], false);
	if (r)
		bad("%s: write %llu+%llu: %s", c->devs[p.dev].path,
		    (unsigned long long)p.sector * SECTOR,
		    (unsigned long long)p.count * SECTOR, strerror(-r));
	return r;
}

static void *write_all(void *arg)
{
	struct cut_writer *w = arg;
	struct cut *c = w->cut;
	u64 n = 0;

	while (!atomic_load(&c->failed) && now_ns() < c->end_ns &&
	       atomic_fetch_add(&c->issued, 1) < c->ops)
		if (write_one(w, ++n))
			atomic_store(&c->failed, true);
	return NULL;
}

static void open_devs(struct geometry *g, struct dev *devs, int n, char **paths,
		      const struct cut_args *a, unsigned int flags)
{
	int i;

	if (n > MAX_DEVS)
		die("cut: at most %u disks", MAX_DEVS);
	g->devs = n;
	g->seed = a->seed;
	g->sectors = a->size ? a->size / SECTOR : ~0ULL;
	for (i = 0; i < n; i++) {
		dev_open(&devs[i], paths[i], flags);
		if (a->size && devs[i].size < a->size)
			die("%s is smaller than --size", paths[i]);
		if (a->block)
			devs[i].block = a->block;
		g->sectors = min_u64(g->sectors, devs[i].size / SECTOR);
	}
	if (a->plant)
		dev_plant(&devs[0], a->plant);
}

int cut_run(int ndevs, char **paths, const struct cut_args *a)
{
	static struct cut c;
	struct cut_writer w[MAX_THREADS] = { 0 };
	unsigned int i;

	open_devs(&c.g, c.devs, ndevs, paths, a, 0);
	c.g.threads = a->threads;
	c.g.max = min_u64(a->max, 1 << 20) / SECTOR;
	c.flush = a->flush;
	c.ops = a->ops;
	c.end_ns = a->seconds ? now_ns() + a->seconds * 1000000000ULL : ~0ULL;
	check_geometry(&c.g);
	for (i = 0; i < c.g.threads; i++) {
		w[i].cut = &c;
		w[i].no = i;
		w[i].buf = xalloc_aligned(c.g.max * SECTOR);
		if (pthread_create(&w[i].id, NULL, write_all, &w[i]))
			die("cannot start a thread");
	}
	for (i = 0; i < c.g.threads; i++) {
		pthread_join(w[i].id, NULL);
		free(w[i].buf);
	}
	printf("iomodel: cut: %s writes", c.failed ? "FAILED" : "ok");
	for (i = 0; i < c.g.threads; i++)
		printf(" %u", atomic_load(&c.acked[i]));
	printf("\n");
	return c.failed ? EX_BAD : EX_OK;
}

/* Checking */

struct cut_image {
	struct geometry g;
	struct dev devs[MAX_DEVS];
	u32 *seen[MAX_DEVS];		/* write number found in a sector */
	u32 *want[MAX_DEVS];
	u32 top[MAX_THREADS];		/* highest number found */
	u32 needs[MAX_THREADS];		/* some write there came after this one */
	u32 needed_by[MAX_THREADS];	/* thread of that write */
	unsigned int errors;
};

static void take_stamp(struct cut_image *im, unsigned int dev, u64 sector,
		       const struct stamp *s)
{
	unsigned int i;

	if (!stamp_is(s, im->g.seed, sector) || s->thread >= MAX_THREADS)
		return;
	im->g.threads = s->param & 0xff;
	im->g.max = s->param >> 8;
	im->seen[dev][sector] = s->seq;
	if (s->seq > im->top[s->thread])
		im->top[s->thread] = s->seq;
	for (i = 0; i < MAX_THREADS; i++) {
		if (s->vec[i] <= im->needs[i])
			continue;
		im->needs[i] = s->vec[i];
		im->needed_by[i] = s->thread;
	}
}

static void read_image(struct cut_image *im, unsigned int dev)
{
	struct dev *d = &im->devs[dev];
	u8 *buf = xalloc_aligned(READ_CHUNK);
	u64 off, len, i, size = im->g.sectors * SECTOR;
	int r;

	im->seen[dev] = xzalloc(im->g.sectors * sizeof(u32));
	im->want[dev] = xzalloc(im->g.sectors * sizeof(u32));
	for (off = 0; off < size; off += len) {
		len = min_u64(READ_CHUNK, size - off);
		r = dev_read(d, buf, len, off);
		if (r) {
			bad("%s: read %llu: %s", d->path,
			    (unsigned long long)off, strerror(-r));
			exit(EX_BAD);
		}
		for (i = 0; i < len; i += SECTOR)
			take_stamp(im, dev, (off + i) / SECTOR,
				   (const struct stamp *)(buf + i));
	}
	free(buf);
}

static void complain(struct cut_image *im, unsigned int t, unsigned int dev,
		     u64 sector)
{
	u32 want = im->want[dev][sector], seen = im->seen[dev][sector];

	if (im->errors++ > 10)
		return;
	bad("cut: %s sector %llu: thread %u write %u expected, %s %u seen; yet its write %u is there",
	    im->devs[dev].path, (unsigned long long)sector, t, want,
	    seen ? "write" : "nothing of this run", seen, im->top[t]);
}

static void check_piece(struct cut_image *im, unsigned int t, u64 n)
{
	struct piece p = place(&im->g, t, n);
	u64 s;

	for (s = p.sector; s < p.sector + p.count; s++)
		if (im->want[p.dev][s] == n &&
		    im->seen[p.dev][s] != im->want[p.dev][s])
			complain(im, t, p.dev, s);
}

/* Write m may be there in part: where it isn't, the one before must be. */
static void check_last(struct cut_image *im, unsigned int t, u64 m)
{
	struct piece p = place(&im->g, t, m);
	u64 s;

	for (s = p.sector; s < p.sector + p.count; s++)
		if (im->seen[p.dev][s] != m &&
		    im->seen[p.dev][s] != im->want[p.dev][s])
			complain(im, t, p.dev, s);
		else
			im->want[p.dev][s] = im->seen[p.dev][s];
}

static void check_thread(struct cut_image *im, unsigned int t)
{
	u64 n, s;

	for (n = 1; n < im->top[t]; n++) {
		struct piece p = place(&im->g, t, n);

		for (s = p.sector; s < p.sector + p.count; s++)
			im->want[p.dev][s] = n;
	}
	if (im->top[t])
		check_last(im, t, im->top[t]);
	for (n = 1; n < im->top[t]; n++)
		check_piece(im, t, n);
	if (im->needs[t] > im->top[t]) {
		bad("cut: write %u of thread %u was acknowledged before a write of thread %u that is there, and is not there (last: %u)",
		    im->needs[t], t, im->needed_by[t], im->top[t]);
		im->errors++;
	}
}

/* A number where no write of that thread went to. */
static void check_strays(struct cut_image *im, unsigned int dev)
{
	u64 s;

	for (s = 0; s < im->g.sectors; s++) {
		if (!im->seen[dev][s] || im->want[dev][s])
			continue;
		if (im->errors++ < 10)
			bad("cut: %s sector %llu: write %u seen, none expected",
			    im->devs[dev].path, (unsigned long long)s,
			    im->seen[dev][s]);
	}
}

int cut_check(int ndevs, char **paths, const struct cut_args *a)
{
	static struct cut_image im;
	unsigned int i;

	open_devs(&im.g, im.devs, ndevs, paths, a, DEV_RO);
	for (i = 0; i < im.g.devs; i++)
		read_image(&im, i);
	if (!im.g.threads) {
		printf("iomodel: cut-check: ok, no writes of seed %llu\n",
		       (unsigned long long)a->seed);
		return EX_OK;
	}
	check_geometry(&im.g);
	for (i = 0; i < im.g.threads; i++)
		check_thread(&im, i);
	for (i = 0; i < im.g.devs; i++)
		check_strays(&im, i);
	printf("iomodel: cut-check: %s, up to write", im.errors ? "FAILED" : "ok");
	for (i = 0; i < im.g.threads; i++)
		printf(" %u", im.top[i]);
	printf("\n");
	return im.errors ? EX_BAD : EX_OK;
}
