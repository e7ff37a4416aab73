// SPDX-License-Identifier: GPL-2.0-only
/*
 * Plans: what has to be copied so that a layer can take a part of a disk in.
 *
 * The kind of job says what shall be at a place (want). What is between is here:
 * a block of the target is there as a whole or not at all, and may be larger
 * than what is held elsewhere. A block of which something is wanted, and which
 * the target does not have yet, is filled up with what is seen there now.
 *
 * A damaged block of the target stays damaged, whatever is written there. So nothing
 * is planned into one: who moves data drops the place where it was seen.
 *
 * Nothing is written, nothing locked: the caller keeps guest and table away.
 */
#include "dm-chain-job.h"

static sector_t plan_stop(const struct chain_plan *p)
{
	return min(p->end, p->size);
}

/* @n sectors from @sector on in pieces that kcopyd gets one by one. */
static bool add(struct chain_plan *p, struct chain_att *from, sector_t sector,
		sector_t n)
{
	struct chain_piece *last = p->nr ? &p->piece[p->nr - 1] : NULL;
	sector_t part;

	if (last && last->from == from && last->sector + last->n == sector &&
	    last->n < CHAIN_PIECE_SECTORS) {
		part = min_t(sector_t, n, CHAIN_PIECE_SECTORS - last->n);
		last->n += part;
		sector += part;
		n -= part;
	}
	for (; n; sector += part, n -= part) {
		if (p->nr == CHAIN_PIECES)
			return false;
		part = min_t(sector_t, n, CHAIN_PIECE_SECTORS);
		p->piece[p->nr++] = (struct chain_piece){
			.plan = p, .from = from, .sector = sector, .n = part,
		};
	}
	return true;
}

/* Where a plan can be cut: behind what is in it as a whole. */
struct mark {
	unsigned int nr;
	sector_t last;
};

static struct mark mark_now(const struct chain_plan *p)
{
	return (struct mark){ p->nr, p->nr ? p->piece[p->nr - 1].n : 0 };
}

static void back_to(struct chain_plan *p, struct mark m)
{
	p->nr = m.nr;
	if (m.nr)
		p->piece[m.nr - 1].n = m.last;
}

static unsigned int target_state(const struct chain_plan *p, sector_t sector)
{
	const struct chain_layer *l = p->to->layer;
	u64 block = sector_to_block(l, sector);

	return block < l->map.blocks ? chain_statemap_get(&l->map, block) :
				       DM_CHAIN_ABSENT;
}

/* --- Blocks that are not of one kind --- */

/* What a block becomes: KEEP, ZERO, COPY (that is data) or BAD. */
static enum chain_want judge(struct chain_plan *p, sector_t sector, sector_t stop)
{
	enum chain_want w, all = CHAIN_WANT_KEEP;
	struct chain_att *from;
	bool first = true;

	for (; sector < stop; first = false) {
		sector += p->want(p->job, sector, stop - sector, &w, &from);
		if (w == CHAIN_WANT_BAD)
			return w;
		if (first)
			all = w;
		else if (w != all)
			all = CHAIN_WANT_COPY;
	}
	return all;
}

/* What nobody wants in a block that the target lacks. */
static int fill_up(struct chain_plan *p, sector_t sector, sector_t n)
{
	unsigned int state = target_state(p, sector);
	struct chain_att *from;
	enum chain_want w;
	sector_t run;

	if (state == DM_CHAIN_DATA)
		return 0;
	if (state == DM_CHAIN_DAMAGED)
		return -EIO;
	if (state == DM_CHAIN_ZERO)
		return add(p, NULL, sector, n) ? 0 : -ENOSPC;
	for (; n; sector += run, n -= run) {
		run = p->fill(p->job, sector, n, &w, &from);
		if (w == CHAIN_WANT_BAD)
			return -EIO;
		if (!add(p, w == CHAIN_WANT_COPY ? from : NULL, sector, run))
			return -ENOSPC;
	}
	return 0;
}

static int add_parts(struct chain_plan *p, sector_t sector, sector_t stop)
{
	struct chain_att *from;
	enum chain_want w;
	sector_t n;
	int r = 0;

	for (; sector < stop && !r; sector += n) {
		n = p->want(p->job, sector, stop - sector, &w, &from);
		if (w == CHAIN_WANT_KEEP)
			r = fill_up(p, sector, n);
		else if (!add(p, w == CHAIN_WANT_COPY ? from : NULL, sector, n))
			r = -ENOSPC;
	}
	return r;
}

/* One block of the target. -ENOSPC: it doesn't fit into the plan any more. */
static int plan_block(struct chain_plan *p, sector_t sector)
{
	const struct chain_layer *l = p->to->layer;
	sector_t end = sector + block_sectors(l), stop = min(end, p->size);
	u64 bit = sector_to_block(l, sector - p->start);
	struct mark before = mark_now(p);
	int r;

	switch (judge(p, sector, stop)) {
	case CHAIN_WANT_BAD:
		return -EIO;
	case CHAIN_WANT_KEEP:
		return 0;
	case CHAIN_WANT_ZERO:
		__set_bit(bit, p->zero);
		return 0;
	case CHAIN_WANT_COPY:
		break;
	}
	r = add_parts(p, sector, stop);
	/* Zeroes behind the disk's end, for the day that it grows. */
	if (!r && stop < end && target_state(p, sector) != DM_CHAIN_DATA &&
	    !add(p, NULL, stop, end - stop))
		r = -ENOSPC;
	if (r)
		back_to(p, before);
	else
		__set_bit(bit, p->data);
	return r;
}

/* --- Runs --- */

/* Whole blocks of one kind. */
static int plan_run(struct chain_plan *p, sector_t sector, sector_t n,
		    enum chain_want w, struct chain_att *from)
{
	const struct chain_layer *l = p->to->layer;
	u64 bit = sector_to_block(l, sector - p->start);
	struct mark before = mark_now(p);

	if (w == CHAIN_WANT_BAD)
		return -EIO;
	if (w == CHAIN_WANT_ZERO)
		bitmap_set(p->zero, bit, sector_to_block(l, n));
	if (w != CHAIN_WANT_COPY)
		return 0;
	if (!add(p, from, sector, n)) {
		back_to(p, before);
		return -ENOSPC;
	}
	bitmap_set(p->data, bit, sector_to_block(l, n));
	return 0;
}

/* Returns how far it came, or a negative errno. */
static s64 plan_chain(struct chain_plan *p)
{
	const struct chain_layer *l = p->to->layer;
	sector_t sector = p->start, stop = plan_stop(p), n;
	sector_t mask = block_sectors(l) - 1;
	struct chain_att *from;
	enum chain_want w;
	int r;

	while (sector < stop) {
		n = p->want(p->job, sector, stop - sector, &w, &from) & ~mask;
		if (n) {
			r = plan_run(p, sector, n, w, from);
		} else {
			n = mask + 1;
			r = plan_block(p, sector);
		}
		if (r == -ENOSPC && sector > p->start)
			return sector;
		if (r)
			return r;
		sector += n;
	}
	return p->end;
}

/* A raw target has no blocks and no map: zeroes are written. */
static s64 plan_raw(struct chain_plan *p)
{
	sector_t sector = p->start, stop = plan_stop(p), n;
	struct chain_att *from;
	enum chain_want w;

	for (; sector < stop; sector += n) {
		struct mark before = mark_now(p);

		n = p->want(p->job, sector, stop - sector, &w, &from);
		if (w == CHAIN_WANT_BAD)
			return -EIO;
		if (w == CHAIN_WANT_KEEP ||
		    add(p, w == CHAIN_WANT_COPY ? from : NULL, sector, n))
			continue;
		back_to(p, before);
		return sector;
	}
	return p->end;
}

/* Nothing from @end on. */
static void cut(struct chain_plan *p, sector_t end)
{
	unsigned int shift = p->to->layer->block_sectors_shift;
	unsigned int first = (end - p->start) >> shift;

	while (p->nr && p->piece[p->nr - 1].sector >= end)
		p->nr--;
	if (p->nr)
		p->piece[p->nr - 1].n = min(p->piece[p->nr - 1].n,
					    end - p->piece[p->nr - 1].sector);
	bitmap_clear(p->data, first, CHAIN_PLAN_BLOCKS - first);
	bitmap_clear(p->zero, first, CHAIN_PLAN_BLOCKS - first);
}

static bool any_lost(const struct chain_layer *l, u64 first,
		     const unsigned long *bits)
{
	unsigned long from, to;

	for_each_set_bitrange(from, to, bits, CHAIN_PLAN_BLOCKS)
		if (chain_statemap_damaged(&l->map, first + from, to - from))
			return true;
	return false;
}

/* Does anything go where nobody would ever see it? */
static bool into_damage(const struct chain_plan *p)
{
	const struct chain_layer *l = p->to->layer;
	u64 first = sector_to_block(l, p->start);

	return l->format == DM_CHAIN_FORMAT_CHAIN &&
	       (any_lost(l, first, p->data) || any_lost(l, first, p->zero));
}

int chain_plan_make(struct chain_plan *p)
{
	unsigned int i;
	s64 end;

	p->nr = 0;
	p->bytes = 0;
	bitmap_zero(p->data, CHAIN_PLAN_BLOCKS);
	bitmap_zero(p->zero, CHAIN_PLAN_BLOCKS);
	if (p->to->layer->format == DM_CHAIN_FORMAT_RAW)
		end = plan_raw(p);
	else
		end = plan_chain(p);
	if (end < 0)
		return end;
	if (end < p->end) {
		p->end = round_down(end, p->grain);
		cut(p, p->end);
	}
	/* A grain has 256 units of 4 KiB at most: it fits. */
	if (WARN_ON_ONCE(p->end <= p->start))
		return -EIO;
	if (into_damage(p))
		return -EIO;
	for (i = 0; i < p->nr; i++)
		p->bytes += (u64)p->piece[i].n << SECTOR_SHIFT;
	return 0;
}

/* --- What the target's map says then --- */

static int prepare(struct chain_layer *l, u64 first, const unsigned long *bits,
		   unsigned int state)
{
	unsigned long from, to;
	int r;

	for_each_set_bitrange(from, to, bits, CHAIN_PLAN_BLOCKS) {
		r = chain_statemap_prepare(&l->map, first + from, to - from,
					   state, GFP_NOIO);
		if (r)
			return r;
	}
	return 0;
}

static void set(struct chain_layer *l, u64 first, const unsigned long *bits,
		unsigned int state)
{
	unsigned long from, to;
	unsigned int was;
	u64 n;

	for_each_set_bitrange(from, to, bits, CHAIN_PLAN_BLOCKS) {
		for (; from < to; from += n) {
			n = chain_statemap_run(&l->map, first + from, to - from,
					       &was);
			/* What is there already needs no round. */
			if (was != state)
				chain_meta_set(l, first + from, n, state);
		}
	}
}

int chain_plan_mark(struct chain_plan *p)
{
	struct chain_layer *l = p->to->layer;
	u64 first = sector_to_block(l, p->start);
	int r;

	if (l->format == DM_CHAIN_FORMAT_RAW)
		return 0;
	r = prepare(l, first, p->data, DM_CHAIN_DATA);
	if (!r)
		r = prepare(l, first, p->zero, DM_CHAIN_ZERO);
	if (r)
		return r;
	set(l, first, p->data, DM_CHAIN_DATA);
	set(l, first, p->zero, DM_CHAIN_ZERO);
	return 0;
}

CHAIN_EXPORT_FOR_KUNIT(chain_plan_make);
