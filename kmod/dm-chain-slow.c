// SPDX-License-Identifier: GPL-2.0-only
/*
 * The slow path: bios that have to wait for a block lock or for memory, and
 * writes below block size to a block that the top doesn't hold (copy-up).
 *
 * Each deferred bio has a work item of its own in its per-bio data, on the
 * disk's WQ_MEM_RECLAIM queue. A worker waits for I/O to other devices and for
 * one bounce buffer, never for another worker of the disk or for a round of
 * the map's writer, so that one worker (the rescuer) suffices to go on.
 *
 * Copy-up: under the block's lock, the block as it is seen is read into a
 * bounce buffer, the bio's data laid over it, and written to the top as a
 * whole; then the state turns to data. The bio itself is never submitted.
 *
 * Locking: disk->lock (irq) protects the parked bios. A bio that finds its
 * blocks locked tries again under disk->lock after it has announced itself
 * (chain_locks_wait_begin()), and parks there; a releaser clears the bits,
 * then looks for waiters, and takes disk->lock to let them go: either the
 * second try succeeds or the releaser finds the bio.
 */
#include <linux/highmem.h>
#include <linux/sched/mm.h>

#include "dm-chain.h"
#include "trace.h"

#define BOUNCE_ORDER	4	/* for blocks above 4 KiB, if there is memory */

/* --- Waiting for a lock --- */

void chain_unpark(struct chain_disk *disk)
{
	struct chain_bio *cb, *next;
	unsigned long flags;

	spin_lock_irqsave(&disk->lock, flags);
	list_for_each_entry_safe(cb, next, &disk->parked, list) {
		list_del(&cb->list);
		chain_locks_wait_end(&disk->locks);
		queue_work(disk->wq, &cb->work);
	}
	spin_unlock_irqrestore(&disk->lock, flags);
}

void chain_gave_up(struct chain_disk *disk)
{
	if (unlikely(chain_locks_waiting(&disk->locks)))
		chain_unpark(disk);
}

bool chain_lock_or_park(struct chain_bio *cb, u64 block, u32 n)
{
	struct chain_disk *disk = cb->inst->disk;
	bool locked;

	if (chain_locks_try(&disk->locks, block, n))
		return true;
	spin_lock_irq(&disk->lock);
	chain_locks_wait_begin(&disk->locks);
	locked = chain_locks_try(&disk->locks, block, n);
	if (locked)
		chain_locks_wait_end(&disk->locks);
	else
		list_add_tail(&cb->list, &disk->parked);
	spin_unlock_irq(&disk->lock);
	return locked;
}

/* --- Copy-up --- */

struct bounce {
	void *buf;
	struct page *page;
	unsigned int bytes;
	bool large;
};

static void bounce_get(struct chain_disk *disk, struct bounce *b, u32 bytes)
{
	b->large = false;
	b->bytes = PAGE_SIZE;
	if (bytes > PAGE_SIZE) {
		b->page = alloc_pages(GFP_NOIO | __GFP_COMP | __GFP_NORETRY |
				      __GFP_NOWARN, BOUNCE_ORDER);
		if (b->page) {
			b->large = true;
			b->bytes = min_t(u32, bytes, PAGE_SIZE << BOUNCE_ORDER);
		}
	}
	if (!b->large)
		b->page = mempool_alloc(&disk->pages, GFP_NOIO);
	b->buf = page_address(b->page);
}

static void bounce_put(struct chain_disk *disk, struct bounce *b)
{
	if (b->large)
		__free_pages(b->page, BOUNCE_ORDER);
	else
		mempool_free(b->page, &disk->pages);
}

/* What is seen below a layer. */
static sector_t look_below(struct chain_inst *ci, unsigned int depth,
			   sector_t sector, sector_t max,
			   struct chain_att **owner, unsigned int *state)
{
	const struct chain_layer *l = ci->order[depth]->layer;

	if (!depth)
		return chain_below(ci, sector, max, owner, state);
	*state = DM_CHAIN_ZERO;
	if (sector >= l->limit || depth + 1 >= ci->nr)
		return max;
	return chain_walk(ci, depth + 1, ci->nr, sector,
			  min(max, l->limit - sector), owner, state);
}

/* @n sectors of that. */
static int read_runs(struct chain_inst *ci, unsigned int depth, sector_t sector,
		     sector_t n, u8 *buf)
{
	sector_t size = ci->order[depth]->layer->size, run;
	struct chain_att *owner;
	unsigned int state;
	int r;

	for (; n; sector += run, n -= run, buf += run << SECTOR_SHIFT) {
		run = n;
		if (sector >= size) {	/* the tail of the last block */
			memset(buf, 0, n << SECTOR_SHIFT);
			return 0;
		}
		run = look_below(ci, depth, sector, min(n, size - sector),
				 &owner, &state);
		if (state == DM_CHAIN_DAMAGED)
			return -EIO;
		if (state == DM_CHAIN_ZERO) {
			memset(buf, 0, run << SECTOR_SHIFT);
			continue;
		}
		r = chain_rw(owner, CHAIN_GUEST,
			     (owner->data_sector + sector) << SECTOR_SHIFT, buf,
			     run << SECTOR_SHIFT, REQ_OP_READ);
		if (r)
			return r;
	}
	return 0;
}

/* A commit must not give back what is found here before it has been read. */
static int read_below(struct chain_inst *ci, unsigned int depth,
		      sector_t sector, sector_t n, u8 *buf)
{
	int r, idx = srcu_read_lock(&ci->disk->reads);

	r = read_runs(ci, depth, sector, n, buf);
	srcu_read_unlock(&ci->disk->reads, idx);
	return r;
}

/* @n sectors of what is seen at the top. */
static int read_seen(struct chain_inst *ci, sector_t sector, sector_t n, u8 *buf)
{
	sector_t size = chain_top(ci)->layer->size, run;
	struct chain_att *owner;
	unsigned int state;
	int r = 0;

	for (; n && !r; sector += run, n -= run, buf += run << SECTOR_SHIFT) {
		run = n;
		state = DM_CHAIN_ZERO;
		if (sector < size)
			run = chain_walk(ci, 0, ci->nr, sector,
					 min(n, size - sector), &owner, &state);
		if (state == DM_CHAIN_DATA)
			r = chain_rw(owner, CHAIN_GUEST,
				     (owner->data_sector + sector) << SECTOR_SHIFT,
				     buf, run << SECTOR_SHIFT, REQ_OP_READ);
		else if (state == DM_CHAIN_ZERO)
			memset(buf, 0, run << SECTOR_SHIFT);
		else
			r = -EIO;
	}
	return r;
}

static int copy_seen(struct chain_inst *ci, struct chain_att *to, sector_t sector,
		     sector_t n, u8 *buf)
{
	int r, idx = srcu_read_lock(&ci->disk->reads);

	r = read_seen(ci, sector, n, buf);
	srcu_read_unlock(&ci->disk->reads, idx);
	if (r)
		return r;
	return chain_rw(to, CHAIN_JOB, (to->data_sector + sector) << SECTOR_SHIFT,
			buf, n << SECTOR_SHIFT, REQ_OP_WRITE);
}

int chain_copy_seen(struct chain_inst *ci, struct chain_att *to, sector_t sector,
		    sector_t n)
{
	struct bounce b;
	sector_t part;
	int r = 0;

	bounce_get(ci->disk, &b, min_t(sector_t, n, 2048) << SECTOR_SHIFT);
	for (; n && !r; sector += part, n -= part) {
		part = min_t(sector_t, n, b.bytes >> SECTOR_SHIFT);
		r = copy_seen(ci, to, sector, part, b.buf);
	}
	bounce_put(ci->disk, &b);
	return r;
}

/* Copy the bio's bytes that lie in [sector, sector + n) to where they belong. */
static void overlay_data(struct bio *bio, sector_t sector, sector_t n, u8 *buf)
{
	sector_t at = bio->bi_iter.bi_sector;
	struct bvec_iter iter;
	struct bio_vec bv;
	s64 pos = ((s64)at - (s64)sector) << SECTOR_SHIFT;
	s64 room = n << SECTOR_SHIFT;

	bio_for_each_segment(bv, bio, iter) {
		s64 from = max_t(s64, pos, 0);
		s64 to = min_t(s64, pos + bv.bv_len, room);

		if (from < to)
			memcpy_from_page(buf + from, bv.bv_page,
					 bv.bv_offset + (from - pos), to - from);
		pos += bv.bv_len;
	}
}

/* One that is to be zeroed: what of it is, the caller knows. */
static void overlay(struct bio *bio, sector_t from, sector_t to,
		    sector_t sector, sector_t n, u8 *buf)
{
	if (bio_op(bio) == REQ_OP_WRITE) {
		overlay_data(bio, sector, n, buf);
		return;
	}
	from = max(sector, from);
	to = min(sector + n, to);
	if (from < to)
		memset(buf + ((from - sector) << SECTOR_SHIFT), 0,
		       (to - from) << SECTOR_SHIFT);
}

/* What a copy-up is about, but for the piece. */
struct copy_up {
	struct chain_inst *ci;
	unsigned int depth;
	struct bio *bio;
	bool zero_below;
	sector_t from;
	sector_t to;
};

/* All of what is to be seen is written: what is below may be damaged. */
static bool covered(const struct copy_up *c, sector_t sector, sector_t n)
{
	sector_t size = c->ci->order[c->depth]->layer->size;

	return c->from <= sector && c->to >= min(sector + n, size);
}

static int copy_piece(const struct copy_up *c, sector_t sector, sector_t n,
		      u8 *buf)
{
	struct chain_att *att = c->ci->order[c->depth];
	int r = 0;

	if (c->zero_below || covered(c, sector, n))
		memset(buf, 0, n << SECTOR_SHIFT);
	else
		r = read_below(c->ci, c->depth, sector, n, buf);
	if (r)
		return r;
	overlay(c->bio, c->from, c->to, sector, n, buf);
	return chain_rw(att, CHAIN_GUEST,
			(att->data_sector + sector) << SECTOR_SHIFT, buf,
			n << SECTOR_SHIFT, REQ_OP_WRITE);
}

int chain_copy_up(struct chain_inst *ci, unsigned int depth, struct bio *bio,
		  u64 block, bool zero_below, sector_t from, sector_t to)
{
	struct copy_up c = { ci, depth, bio, zero_below, from, to };
	struct chain_layer *l = ci->order[depth]->layer;
	sector_t sector = block_to_sector(l, block), done, n;
	struct bounce b;
	int r;

	r = chain_statemap_prepare(&l->map, block, 1, DM_CHAIN_DATA, GFP_NOIO);
	if (r)
		return r;
	bounce_get(ci->disk, &b, block_sectors(l) << SECTOR_SHIFT);
	for (done = 0; done < block_sectors(l) && !r; done += n) {
		n = min_t(sector_t, block_sectors(l) - done,
			  b.bytes >> SECTOR_SHIFT);
		r = copy_piece(&c, sector + done, n, b.buf);
	}
	bounce_put(ci->disk, &b);
	trace_dm_chain_copy_up(ci->disk->devt, ci->order[depth]->bdev->bd_dev, sector,
			       block_sectors(l), r);
	if (!r)
		chain_meta_set(l, block, 1, DM_CHAIN_DATA);
	return r;
}

int chain_write_part(struct chain_inst *ci, struct chain_att *att,
		     struct bio *bio, sector_t sector, sector_t n)
{
	struct bounce b;
	sector_t part;
	int r = 0;

	bounce_get(ci->disk, &b, n << SECTOR_SHIFT);
	for (; n && !r; sector += part, n -= part) {
		part = min_t(sector_t, n, b.bytes >> SECTOR_SHIFT);
		overlay(bio, sector, sector + part, sector, part, b.buf);
		r = chain_rw(att, CHAIN_GUEST,
			     (att->data_sector + sector) << SECTOR_SHIFT, b.buf,
			     part << SECTOR_SHIFT, REQ_OP_WRITE);
	}
	bounce_put(ci->disk, &b);
	return r;
}

/* --- A deferred bio --- */

void chain_submit(struct chain_att *att, struct bio *bio)
{
	if (!chain_allowed(att, CHAIN_GUEST, bio->bi_opf)) {
		bio_io_error(bio);
		return;
	}
	trace_dm_chain_io(bio, att->bdev->bd_dev, CHAIN_TO_LAYER);
	bio_set_dev(bio, att->bdev);
	bio->bi_iter.bi_sector += att->data_sector;
	dm_submit_bio_remap(bio, NULL);
}

static void finish(struct chain_inst *ci, struct bio *bio, int err)
{
	bio->bi_status = errno_to_blk_status(err);
	chain_end_write(chain_top(ci), bio, bio->bi_opf & REQ_FUA);
}

static void slow_part_of_block(struct chain_bio *cb, struct bio *bio, u64 block)
{
	struct chain_inst *ci = cb->inst;
	unsigned int state;
	int r = -EIO;

	if (!chain_lock_or_park(cb, block, 1))
		return;
	state = chain_statemap_get(&chain_top(ci)->layer->map, block);
	if (state == DM_CHAIN_DATA) {
		/* Somebody was here before: in place, its map with a round. */
		chain_unlock_blocks(ci->disk, block, 1);
		if (bio_op(bio) == REQ_OP_WRITE_ZEROES) {
			finish(ci, bio, chain_write_part(ci, chain_top(ci), bio,
							 bio->bi_iter.bi_sector,
							 bio_sectors(bio)));
			return;
		}
		chain_hook_write(ci, chain_top(ci), bio, 0, 0, 0, 0);
		chain_submit(chain_top(ci), bio);
		return;
	}
	if (state != DM_CHAIN_DAMAGED)
		r = chain_copy_up(ci, 0, bio, block, state == DM_CHAIN_ZERO,
				  bio->bi_iter.bi_sector, bio_end_sector(bio));
	chain_unlock_blocks(ci->disk, block, 1);
	finish(ci, bio, r);
}

static void slow_whole_blocks(struct chain_bio *cb, struct bio *bio, u64 block,
			      u32 n)
{
	struct chain_inst *ci = cb->inst;
	struct chain_layer *l = chain_top(ci)->layer;
	int r;

	if (!chain_lock_or_park(cb, block, n))
		return;
	/* What was deferred before its map was known is not cut to a run of one state. */
	r = chain_statemap_damaged(&l->map, block, n) ? -EIO :
	    chain_statemap_prepare(&l->map, block, n, DM_CHAIN_DATA, GFP_NOIO);
	if (r) {
		chain_unlock_blocks(ci->disk, block, n);
		finish(ci, bio, r);
		return;
	}
	chain_hook_write(ci, chain_top(ci), bio, block, n, block, n);
	chain_submit(chain_top(ci), bio);
}

static void slow_zero(struct chain_bio *cb, struct bio *bio)
{
	struct chain_inst *ci = cb->inst;
	struct chain_layer *l = chain_top(ci)->layer;
	u64 block, n;
	int r;

	chain_zero_range(l, bio, &block, &n);
	if (!chain_lock_or_park(cb, block, n))
		return;
	r = chain_zero_blocks(ci, bio, block, n, GFP_NOIO);
	chain_unlock_blocks(ci->disk, block, n);
	finish(ci, bio, r);
}

/* Of one unit, whose owner was not known: its map had to be read first. */
static void slow_read(struct chain_bio *cb, struct bio *bio)
{
	struct chain_inst *ci = cb->inst;
	struct chain_att *owner = chain_top(ci);
	sector_t sector = bio->bi_iter.bi_sector, n = bio_sectors(bio);
	unsigned int state;

	state = chain_statemap_get(&owner->layer->map, sector_to_block(owner->layer, sector));
	if (state == DM_CHAIN_ABSENT &&
	    WARN_ON_ONCE(chain_below(ci, sector, n, &owner, &state) < n))
		state = DM_CHAIN_DAMAGED;
	if (state == DM_CHAIN_DATA) {
		chain_submit(owner, bio);
		return;
	}
	if (state == DM_CHAIN_ZERO)
		zero_fill_bio(bio);
	else
		bio->bi_status = BLK_STS_IOERR;
	bio_endio(bio);
}

/* It was deferred for a lock, maybe, for which it won't park any more. */
static void slow_fail(struct chain_bio *cb, struct bio *bio, int err)
{
	chain_gave_up(cb->inst->disk);
	finish(cb->inst, bio, err);
}

/* The maps of all layers, where the bio is or where it makes a copy-up look. */
static int read_maps(struct chain_inst *ci, const struct bio *bio)
{
	sector_t from, n;

	/* Pairs with the release behind the last map: then the states are there. */
	if (!smp_load_acquire(&ci->disk->unread))
		return 0;
	n = chain_touched(ci, bio, &from);
	return chain_read_range(ci, from, n);
}

static void slow_work(struct work_struct *work)
{
	struct chain_bio *cb = container_of(work, struct chain_bio, work);
	struct bio *bio = chain_bio_to_bio(cb);
	struct chain_layer *l = chain_top(cb->inst)->layer;
	sector_t into = bio->bi_iter.bi_sector & (block_sectors(l) - 1);
	u64 block = sector_to_block(l, bio->bi_iter.bi_sector);
	unsigned int noio = memalloc_noio_save();
	bool part = into || bio_sectors(bio) < block_sectors(l);
	int r = read_maps(cb->inst, bio);

	if (r)
		slow_fail(cb, bio, r);
	else if (bio_op(bio) == REQ_OP_READ)
		slow_read(cb, bio);
	else if (READ_ONCE(l->failed))
		slow_fail(cb, bio, -EIO);
	else if (bio_op(bio) == REQ_OP_DISCARD)
		slow_zero(cb, bio);
	else if (part)
		slow_part_of_block(cb, bio, block);
	else if (bio_op(bio) == REQ_OP_WRITE_ZEROES)
		slow_zero(cb, bio);
	else
		slow_whole_blocks(cb, bio, block,
				  sector_to_block(l, bio_sectors(bio)));
	memalloc_noio_restore(noio);
}

void chain_defer(struct chain_inst *ci, struct bio *bio)
{
	struct chain_bio *cb = chain_bio(bio);

	cb->inst = ci;
	INIT_WORK(&cb->work, slow_work);
	queue_work(ci->disk->wq, &cb->work);
}
