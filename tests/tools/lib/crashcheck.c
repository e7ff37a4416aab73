// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Given the state of a disk at or after mark N of a run, and what the run did:
 *
 * - Each sector reads as the last operation on it that was durable when mark
 *   N was sent, or as any later one that had been issued. Durable: it was
 *   acknowledged before a flush was issued that was acknowledged before the
 *   mark; or a FUA write acknowledged before it. A snapshot counts as flush.
 *   Operations on one sector never overlap in time, so they have an order.
 * - A block written for the first time (into a new top) is there as a whole or
 *   not at all: if any sector of it shows an operation on that top, then some
 *   operation that can have been the first one shows in each of its sectors,
 *   except where a later one does.
 *
 * What snapshot N froze is judged by other rules, for no flush matters there: it
 * is a cut through the run at one instant while the snapshot was made.
 *
 * - What was acknowledged before the snapshot began is there, and nothing that
 *   was issued when it had returned.
 * - If an operation is there, so is each that had been acknowledged when that one
 *   was issued, or a later one on the same sector.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crashcheck.h"
#include "opslog.h"

#define NEVER		~0ULL
#define READ_CHUNK	(1ULL << 20)
#define MAX_COMPLAINTS	10

struct cop {
	enum rec_type type;
	u32 thread;
	u64 seq, off, len;		/* off, len: what it changes */
	u64 issued, acked;		/* positions in the log */
};

struct span {				/* a flush or a snapshot */
	u64 issued, acked;
};

struct check {
	struct dev dev, initial;
	const struct crash_args *args;
	u64 seed, size, block;

	struct cop *ops;		/* by number, ops[0]: none */
	u64 nr_ops;
	struct span *flushes, *snaps;
	u64 nr_flushes, nr_snaps;
	u64 mark_at;			/* position of the mark */
	u64 durable_until;		/* acknowledged before it: durable */
	u64 issued_until;		/* issued after it: not there */

	/* operations on sector s: refs[start[s]] .. refs[start[s + 1] - 1] */
	u64 *start;
	u32 *refs;
	/* what sector s shows, as index into its refs + 1; 0: as at the start */
	u32 *least, *most;

	u64 checked, newer, old, blocks, errors;
};

/* Loading */

static struct span *find_span(struct span *spans, u64 n, u64 *seqs, u64 seq)
{
	while (n--)
		if (seqs[n] == seq)
			return &spans[n];
	die("log: acknowledgement of %llu, which was not issued",
	    (unsigned long long)seq);
}

struct loader {
	struct check *c;
	u64 *flush_seqs, *snap_seqs;
};

static void load_op(struct check *c, const struct rec *r, u64 at)
{
	struct cop *op;
	u64 from, to;

	if (r->seq >= c->nr_ops || r->off > c->size || r->len > c->size - r->off)
		die("log: operation %llu is damaged", (unsigned long long)r->seq);
	op = &c->ops[r->seq];
	*op = (struct cop){
		.type = r->type, .thread = r->thread, .seq = r->seq,
		.off = r->off, .len = r->len, .issued = at, .acked = NEVER,
	};
	if (r->type != REC_DISCARD)
		return;
	if (!whole_blocks(r->off, r->len, c->block, &from, &to))
		to = from = r->off;
	op->off = from;
	op->len = to - from;
}

static void load_one(struct loader *l, const struct rec *r, u64 at)
{
	struct check *c = l->c;

	switch (r->type) {
	case REC_WRITE:
	case REC_FUA:
	case REC_DISCARD:
	case REC_ZERO:
		load_op(c, r, at);
		break;
	case REC_ACK:
		c->ops[r->seq].acked = at;
		break;
	case REC_FLUSH:
		l->flush_seqs[c->nr_flushes] = r->seq;
		c->flushes[c->nr_flushes++] = (struct span){ at, NEVER };
		break;
	case REC_FLUSH_ACK:
		find_span(c->flushes, c->nr_flushes, l->flush_seqs, r->seq)->acked = at;
		break;
	case REC_SNAP:
		l->snap_seqs[c->nr_snaps] = r->seq;
		c->snaps[c->nr_snaps++] = (struct span){ at, NEVER };
		break;
	case REC_SNAP_ACK:
		find_span(c->snaps, c->nr_snaps, l->snap_seqs, r->seq)->acked = at;
		break;
	case REC_MARK:
		if (r->seq == c->args->mark && !c->args->all)
			c->mark_at = at;
		break;
	}
}

static void load_log(struct check *c)
{
	struct loader l = { .c = c };
	u64 n, i;
	struct rec *recs = opslog_load(c->args->log, &n);

	c->seed = recs[0].seq;
	c->size = recs[0].off;
	c->block = recs[0].len;
	c->mark_at = c->args->all ? NEVER : 0;
	c->nr_ops = 1;
	for (i = 0; i < n; i++)
		if (recs[i].type != REC_HEAD && recs[i].type != REC_MARK)
			c->nr_ops = max_u64(c->nr_ops, recs[i].seq + 1);
	c->ops = xzalloc(c->nr_ops * sizeof(*c->ops));
	c->flushes = xzalloc(n * sizeof(*c->flushes));
	c->snaps = xzalloc(n * sizeof(*c->snaps));
	l.flush_seqs = xzalloc(n * sizeof(u64));
	l.snap_seqs = xzalloc(n * sizeof(u64));
	for (i = 0; i < n; i++)
		load_one(&l, &recs[i], i + 1);
	if (!c->mark_at && c->args->mark)
		die("%s: no mark %llu", c->args->log,
		    (unsigned long long)c->args->mark);
	free(l.flush_seqs);
	free(l.snap_seqs);
	free(recs);
}

static void see_durable(struct check *c, const struct span *spans, u64 n)
{
	for (; n--; spans++)
		if (spans->acked < c->mark_at && spans->issued > c->durable_until)
			c->durable_until = spans->issued;
}

/* What was acknowledged when snapshot N began, nothing issued after it. */
static void see_snapshot(struct check *c)
{
	u64 n = c->args->snapshot;

	if (n > c->nr_snaps)
		die("%s: no snapshot %llu", c->args->log, (unsigned long long)n);
	c->durable_until = c->snaps[n - 1].issued;
	c->issued_until = c->snaps[n - 1].acked;
}

static bool is_durable(const struct check *c, const struct cop *op)
{
	if (c->args->snapshot)
		return op->acked < c->durable_until;
	if (c->args->all)
		return op->acked != NEVER;
	return op->acked < c->durable_until ||
	       (op->type == REC_FUA && op->acked < c->mark_at);
}

/* Operations by sector, in their order */

static void index_ops(struct check *c)
{
	u64 sectors = c->size / SECTOR, i, s;
	u64 *fill;

	c->start = xzalloc((sectors + 1) * sizeof(*c->start));
	c->least = xzalloc(sectors * sizeof(*c->least));
	c->most = xzalloc(sectors * sizeof(*c->most));
	for (i = 1; i < c->nr_ops; i++)
		for (s = c->ops[i].off; s < c->ops[i].off + c->ops[i].len; s += SECTOR)
			c->start[s / SECTOR + 1]++;
	for (s = 0; s < sectors; s++)
		c->start[s + 1] += c->start[s];
	c->refs = xzalloc(c->start[sectors] * sizeof(*c->refs));
	fill = xzalloc((sectors + 1) * sizeof(*fill));
	memcpy(fill, c->start, (sectors + 1) * sizeof(*fill));
	for (i = 1; i < c->nr_ops; i++)
		for (s = c->ops[i].off; s < c->ops[i].off + c->ops[i].len; s += SECTOR)
			c->refs[fill[s / SECTOR]++] = i;
	free(fill);
}

static u64 nr_of(const struct check *c, u64 sector)
{
	return c->start[sector + 1] - c->start[sector];
}

/* The op'th operation on the sector, from 1. */
static const struct cop *op_of(const struct check *c, u64 sector, u64 op)
{
	return &c->ops[c->refs[c->start[sector] + op - 1]];
}

/* Rule one: sectors */

static u64 oldest_allowed(const struct check *c, u64 sector)
{
	u64 i;

	for (i = nr_of(c, sector); i; i--)
		if (is_durable(c, op_of(c, sector, i)))
			return i;
	return 0;
}

static bool makes_zeroes(const struct cop *op)
{
	return op->type == REC_DISCARD || op->type == REC_ZERO;
}

static bool shows(const struct check *c, const struct cop *op, u64 sector,
		  const u8 *data)
{
	const struct stamp *s = (const void *)data;

	if (makes_zeroes(op))
		return is_zero(data, SECTOR);
	return stamp_is(data, c->seed, sector) && s->seq == op->seq;
}

static bool as_at_start(const struct check *c, const u8 *data, const u8 *initial)
{
	if (initial)
		return !memcmp(data, initial, SECTOR);
	return !stamp_of(data, c->seed);
}

static void complain(struct check *c, u64 sector, u64 oldest, const u8 *data)
{
	const struct cop *op = oldest ? op_of(c, sector, oldest) : NULL;
	char text[STAMP_TEXT];

	if (c->errors++ >= MAX_COMPLAINTS)
		return;
	bad("%s: sector %llu (block %llu, its sector %llu) shows %s",
	    c->dev.path, (unsigned long long)sector,
	    (unsigned long long)(sector * SECTOR / c->block),
	    (unsigned long long)(sector * SECTOR % c->block / SECTOR),
	    stamp_text(data, text, sizeof(text)));
	if (op)
		fprintf(stderr, "  durable: %s %llu of thread %u (%llu+%llu); later ones on this sector: %llu\n",
			makes_zeroes(op) ? "discard or zeroing" : "write",
			(unsigned long long)op->seq, op->thread,
			(unsigned long long)op->off / SECTOR,
			(unsigned long long)op->len / SECTOR,
			(unsigned long long)(nr_of(c, sector) - oldest));
	else
		fprintf(stderr, "  durable: none; operations on this sector: %llu\n",
			(unsigned long long)nr_of(c, sector));
}

static void check_sector(struct check *c, u64 sector, const u8 *data,
			 const u8 *initial)
{
	u64 oldest = oldest_allowed(c, sector), i, n = nr_of(c, sector);
	bool found = !oldest && as_at_start(c, data, initial);

	for (i = max_u64(oldest, 1); i <= n; i++) {
		if (op_of(c, sector, i)->issued > c->issued_until ||
		    !shows(c, op_of(c, sector, i), sector, data))
			continue;
		if (!found)
			c->least[sector] = i;
		c->most[sector] = i;
		found = true;
	}
	c->checked++;
	if (!found)
		complain(c, sector, oldest, data);
	else if (c->most[sector] > oldest)
		c->newer++;
	else if (!oldest)
		c->old++;
}

static void check_sectors(struct check *c)
{
	u8 *buf = xalloc_aligned(READ_CHUNK), *init = xalloc_aligned(READ_CHUNK);
	u64 off, len, i;
	int r;

	for (off = 0; off < c->size; off += len) {
		len = min_u64(READ_CHUNK, c->size - off);
		r = dev_read(&c->dev, buf, len, off);
		if (!r && c->args->initial)
			r = dev_read(&c->initial, init, len, off);
		if (r) {
			bad("%s: read %llu+%llu: %s", c->dev.path,
			    (unsigned long long)off, (unsigned long long)len,
			    strerror(-r));
			c->errors++;
			continue;
		}
		for (i = 0; i < len; i += SECTOR)
			check_sector(c, (off + i) / SECTOR, buf + i,
				     c->args->initial ? init + i : NULL);
	}
	free(buf);
	free(init);
}

/* The cut of a snapshot */

/* Of what is surely there: when the last one was issued. */
static u64 last_issued(const struct check *c)
{
	u64 last = 0, s;

	for (s = 0; s < c->size / SECTOR; s++)
		if (c->least[s])
			last = max_u64(last, op_of(c, s, c->least[s])->issued);
	return last;
}

static void complain_cut(struct check *c, u64 sector, const struct cop *op, u64 last)
{
	if (c->errors++ >= MAX_COMPLAINTS)
		return;
	bad("%s: not at one instant: sector %llu lacks operation %llu of thread %u, acknowledged at %llu; what was issued at %llu is there",
	    c->dev.path, (unsigned long long)sector, (unsigned long long)op->seq,
	    op->thread, (unsigned long long)op->acked, (unsigned long long)last);
}

static void check_cut(struct check *c)
{
	u64 last = last_issued(c), s, i;

	for (s = 0; s < c->size / SECTOR; s++)
		for (i = nr_of(c, s); i > c->most[s]; i--)
			if (op_of(c, s, i)->acked < last)
				complain_cut(c, s, op_of(c, s, i), last);
}

/* Rule two: blocks written for the first time */

struct block_view {
	u64 from, to;			/* sectors */
	const struct span *epoch;	/* the top was made here */
};

/* Does the block show anything that surely went to this top? */
static bool is_visible(const struct check *c, const struct block_view *b)
{
	u64 s;

	for (s = b->from; s < b->to; s++)
		if (c->least[s] &&
		    op_of(c, s, c->least[s])->issued > b->epoch->acked)
			return true;
	return false;
}

static u64 first_ack(const struct check *c, const struct block_view *b)
{
	u64 first = NEVER, s, i;

	for (s = b->from; s < b->to; s++)
		for (i = 1; i <= nr_of(c, s); i++) {
			const struct cop *op = op_of(c, s, i);

			if (op->issued > b->epoch->acked && op->acked < first)
				first = op->acked;
		}
	return first;
}

/* Each sector that op covers in the block shows op or a later one. */
static bool shows_whole(const struct check *c, const struct block_view *b,
			const struct cop *op)
{
	u64 s, i;

	for (s = b->from; s < b->to; s++) {
		if (op->off > s * SECTOR || op->off + op->len <= s * SECTOR)
			continue;
		for (i = 1; op_of(c, s, i) != op; i++)
			;
		if (c->most[s] < i)
			return false;
	}
	return true;
}

static bool shows_a_first(const struct check *c, const struct block_view *b)
{
	u64 ack = first_ack(c, b), s, i;

	for (s = b->from; s < b->to; s++)
		for (i = 1; i <= nr_of(c, s); i++) {
			const struct cop *op = op_of(c, s, i);

			if (op->acked > b->epoch->issued && op->issued < ack &&
			    shows_whole(c, b, op))
				return true;
		}
	return false;
}

static void check_block(struct check *c, u64 from, u64 to, const struct span *epoch)
{
	struct block_view b = { from, to, epoch };
	u64 s;

	if (!is_visible(c, &b))
		return;
	c->blocks++;
	if (shows_a_first(c, &b))
		return;
	if (c->errors++ >= MAX_COMPLAINTS)
		return;
	bad("%s: block %llu: its first write is there in part", c->dev.path,
	    (unsigned long long)(from * SECTOR / c->block));
	for (s = from; s < to; s++)
		fprintf(stderr, "  sector %llu: operation %llu\n",
			(unsigned long long)s, c->most[s] ?
			(unsigned long long)op_of(c, s, c->most[s])->seq : 0ULL);
}

static void check_blocks(struct check *c)
{
	static const struct span start;
	u64 n = c->size / SECTOR, per = c->block / SECTOR, s, i;

	for (s = 0; s < n; s += per) {
		u64 to = min_u64(s + per, n);

		if (c->start[to] == c->start[s])
			continue;
		if (c->args->fresh)
			check_block(c, s, to, &start);
		for (i = 0; i < c->nr_snaps; i++)
			if (c->snaps[i].acked != NEVER)
				check_block(c, s, to, &c->snaps[i]);
	}
}

int crash_check(const char *path, const struct crash_args *a)
{
	struct check c = { .args = a, .issued_until = NEVER };

	dev_open(&c.dev, path, DEV_RO);
	load_log(&c);
	if (c.dev.size < c.size)
		die("%s is smaller than the disk of the run", path);
	if (a->initial) {
		dev_open(&c.initial, a->initial, DEV_RO);
		if (c.initial.size < c.size)
			die("%s is smaller than the disk of the run", a->initial);
	}
	see_durable(&c, c.flushes, c.nr_flushes);
	see_durable(&c, c.snaps, c.nr_snaps);
	if (a->snapshot)
		see_snapshot(&c);
	index_ops(&c);
	check_sectors(&c);
	if (a->snapshot)
		check_cut(&c);
	else if (a->whole && !c.errors)
		check_blocks(&c);
	printf("crashwrite: %s mark %llu sectors %llu newer %llu untouched %llu first-writes %llu errors %llu\n",
	       c.errors ? "FAILED" : "ok", (unsigned long long)a->mark,
	       (unsigned long long)c.checked, (unsigned long long)c.newer,
	       (unsigned long long)c.old, (unsigned long long)c.blocks,
	       (unsigned long long)c.errors);
	return c.errors ? EX_BAD : EX_OK;
}
