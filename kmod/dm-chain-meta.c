// SPDX-License-Identifier: GPL-2.0-only
/*
 * The one writer of a layer's map.
 *
 * Owns: struct chain_meta, while the layer is open read-write: which groups
 * are dirty, which have been used before, and the rounds that bring them to
 * disk.
 *
 * A round, for all who asked for a flush by the time it starts:
 *
 *	1 capture: take the dirty bits, then copy the states of those groups.
 *	  Each state in the map speaks for data whose write has completed.
 *	2 groups used for the first time are written empty but valid
 *	3 FLUSH: now what was captured is due, and 2 is durable
 *	4 write the captured groups, and the presence bits of new ones
 *	5 FLUSH; complete those who asked
 *
 * A state that changes after 1 goes with the next round, even if it is in the
 * map before 4: sectors are built from the capture, never from the map later.
 * A cut between 3 and 5 leaves any mixture of old and new sectors; each one
 * was due. A cut before 5 with a presence bit on finds a valid group, of 2 or
 * of 4. A single run of used groups is one bio with PREFLUSH and FUA, which is
 * 3, 4 and 5 in one; map() submits it without a worker. Of a group that such a
 * round wrote not long ago its page is kept, and only the sectors are made anew in
 * which a state has changed since: these have a bit each, which nobody else clears.
 *
 * Blocks that a commit has moved turn absent in the sectors of a round while
 * lookups still find them; they turn absent in memory in the instant that the
 * round is done, before another one captures.
 *
 * Locking: @lock (irq) protects the waiters and the state of the round, and
 * joins a change of states to the dirty bit that speaks of it. A round clears
 * those bits without it. One round at a time, by who set @running. The worker
 * holds no lock over I/O.
 *
 * Failure: any failed write or flush of a round fails the layer. A round is
 * never tried again: the device may have dropped what it had acknowledged.
 */
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "dm-chain.h"
#include "trace.h"

#define FAST_GROUPS	4	/* a fast round's run, buffers in reserve */
#define KEPT_GROUPS	8	/* pages of what fast rounds wrote */
#define BATCH_GROUPS	512	/* groups captured at once by the worker */
#define COMMIT_SECS	5	/* what nobody flushes goes out after this */

struct chain_groups {
	unsigned long *dirty;		/* a bit a group */
	unsigned long *summary;		/* a bit a word of @dirty */
	unsigned long *sectors;		/* a bit a sector: not as in a kept page */
	unsigned long *present;		/* used before: on disk, or about to be */
	unsigned long *lost;		/* presence sectors that are damaged */
	u64 nr;
};

/* A captured group on its way to disk. */
struct group_buf {
	u64 group;
	void *page;
};

struct chain_meta {
	refcount_t ref;			/* the layer's, and hooks that look at it */
	struct chain_layer *layer;
	struct chain_att *att;
	struct chain_groups g;
	spinlock_t lock;		/* waiters and the state of the round */
	bool running;			/* lock: a round is under way */
	bool handed;			/* lock: it is for the worker to run */
	bool held;			/* lock: no round may start */
	struct list_head waiters;	/* lock: chain_bio of the next round */
	struct list_head now;		/* of this round: owned by it */
	wait_queue_head_t idle;		/* running has become false */
	struct workqueue_struct *wq;
	struct work_struct work;
	struct delayed_work commit;
	struct group_buf fast[FAST_GROUPS];	/* pages are kept ones */
	struct group_buf kept[KEPT_GROUPS];	/* of a group, by its index */
	unsigned int nr_fast;
	struct bio fast_bio;
	struct bio_vec fast_vec[FAST_GROUPS];
	struct bio_set bios;		/* of the worker's rounds */
	struct group_buf *batch;
	u64 words[CHAIN_GROUP_WORDS];	/* of the round */
	void *presence;			/* 4 KiB buffer of the round */
	const struct chain_clear *clear; /* of the round, or NULL */
};

/* --- Dirty groups --- */

static void dirty_free(struct chain_groups *g)
{
	kvfree(g->dirty);
	kvfree(g->summary);
	kvfree(g->sectors);
	kvfree(g->present);
	kvfree(g->lost);
}

static u64 lost_longs(const struct chain_groups *g)
{
	return BITS_TO_LONGS(DIV_ROUND_UP_ULL(g->nr, DM_CHAIN_PRESENCE_GROUPS));
}

static u64 sector_longs(const struct chain_groups *g)
{
	return BITS_TO_LONGS(g->nr * DM_CHAIN_GROUP_SECTORS);
}

/* What it got is freed by dirty_free(), also if it fails. */
static int dirty_alloc(struct chain_groups *g, u64 blocks)
{
	u64 longs;

	g->nr = chain_blocks_to_groups(blocks);
	longs = BITS_TO_LONGS(g->nr);
	g->dirty = kvcalloc(longs, sizeof(long), GFP_KERNEL);
	g->present = kvcalloc(longs, sizeof(long), GFP_KERNEL);
	g->summary = kvcalloc(BITS_TO_LONGS(longs), sizeof(long), GFP_KERNEL);
	g->sectors = kvcalloc(sector_longs(g), sizeof(long), GFP_KERNEL);
	g->lost = kvcalloc(lost_longs(g), sizeof(long), GFP_KERNEL);
	if (g->dirty && g->present && g->summary && g->sectors && g->lost)
		return 0;
	return -ENOMEM;
}

static void set_dirty(struct chain_layer *l, u64 block, u64 n)
{
	struct chain_groups *g = &l->meta->g;
	u64 group = block / DM_CHAIN_GROUP_BLOCKS;
	u64 last = (block + n - 1) / DM_CHAIN_GROUP_BLOCKS;
	u64 sector;

	/*
	 * The states are visible before the bits that speak of them are looked
	 * at: if one is set still, who clears it will see them.
	 */
	smp_mb();
	for (sector = block / DM_CHAIN_SECTOR_BLOCKS;
	     sector <= (block + n - 1) / DM_CHAIN_SECTOR_BLOCKS; sector++)
		if (!test_bit(sector, g->sectors))
			set_bit(sector, g->sectors);
	/* Nor has a round that has the group's bit missed the sector's. */
	smp_mb__after_atomic();
	for (; group <= last; group++) {
		u64 word = group / BITS_PER_LONG;

		if (!test_bit(group, g->dirty))
			set_bit(group, g->dirty);
		/*
		 * Even if the bit was set: its setter may not be here yet. The
		 * word's bit comes after the group's: take_dirty() clears them
		 * in the opposite order.
		 */
		smp_mb__after_atomic();
		if (!test_bit(word, g->summary)) {
			set_bit(word, g->summary);
			queue_delayed_work(l->meta->wq, &l->meta->commit,
					   COMMIT_SECS * HZ);
		}
	}
}

/*
 * Who sees the new state writes in place and leaves no mark of its own: the
 * flush that comes after that write must find this one. So the state and the
 * dirty bit change under @lock, under which a flush asks whether there is
 * anything to do.
 */
void chain_meta_set(struct chain_layer *l, u64 block, u64 n, unsigned int state)
{
	struct chain_meta *m = l->meta;
	unsigned long flags;

	spin_lock_irqsave(&m->lock, flags);
	chain_statemap_set(&l->map, block, n, state);
	set_dirty(l, block, n);
	spin_unlock_irqrestore(&m->lock, flags);
}

void chain_meta_flag(struct chain_layer *l, u64 sector, bool on)
{
	struct chain_meta *m = l->meta;
	unsigned long flags;

	spin_lock_irqsave(&m->lock, flags);
	if (on)
		set_bit(sector, l->track);
	else
		clear_bit(sector, l->track);
	set_dirty(l, sector * DM_CHAIN_SECTOR_BLOCKS, 1);
	spin_unlock_irqrestore(&m->lock, flags);
}

static bool any_dirty(const struct chain_groups *g)
{
	return !bitmap_empty(g->summary, BITS_TO_LONGS(g->nr));
}

/* Behind the last of those that are dirty now. */
static u64 dirty_end(const struct chain_groups *g)
{
	u64 words = BITS_TO_LONGS(g->nr), last = find_last_bit(g->summary, words);

	return last < words ? (last + 1) * BITS_PER_LONG : 0;
}

/* Those of a word, from @from on; which ends up behind the last one taken. */
static unsigned int take_word(struct chain_groups *g, u64 word, u64 *from,
			      struct group_buf *bufs, unsigned int max)
{
	u64 first = word * BITS_PER_LONG;
	unsigned long bits, below = *from > first ? *from - first : 0;
	unsigned int n = 0;
	int i;

	clear_bit(word, g->summary);
	/* Pairs with the one between the two bits in set_dirty(). */
	smp_mb__after_atomic();
	bits = READ_ONCE(g->dirty[word]) & (~0UL << below);
	for_each_set_bit(i, &bits, BITS_PER_LONG) {
		if (n == max)
			break;
		clear_bit(first + i, g->dirty);
		bufs[n++].group = first + i;
		*from = first + i + 1;
	}
	/* Not taken, or dirty again. */
	if (READ_ONCE(g->dirty[word]))
		set_bit(word, g->summary);
	return n;
}

/*
 * Take up to @max dirty groups of those from @from to @end, ascending; their bits are
 * cleared before their states are read, so that a later change dirties them again.
 */
static unsigned int take_dirty(struct chain_groups *g, u64 *from, u64 end,
			       struct group_buf *bufs, unsigned int max)
{
	u64 words = BITS_TO_LONGS(end), word = *from / BITS_PER_LONG;
	unsigned int n = 0;

	if (word < words)
		for_each_set_bit_from(word, g->summary, words) {
			n += take_word(g, word, from, bufs + n, max - n);
			if (n == max)
				break;
		}
	/* The caller reads the states after this: pairs with the first one there. */
	smp_mb__after_atomic();
	return n;
}

/*
 * A round sets @running before it clears dirty bits, and clears it when all is
 * on disk: so the bit is looked at first. Seen clear, it was cleared by a round
 * that either still runs or has ended.
 */
bool chain_meta_durable(struct chain_layer *l, u64 block)
{
	struct chain_meta *m = l->meta;

	if (test_bit(block / DM_CHAIN_GROUP_BLOCKS, m->g.dirty))
		return false;
	/* Pairs with the order in round_start() and take_dirty(). */
	smp_rmb();
	return !READ_ONCE(m->running) && !READ_ONCE(m->held) &&
	       !READ_ONCE(l->failed);
}

/* --- The end of a round --- */

static void complete_waiters(struct list_head *list, blk_status_t status)
{
	struct chain_bio *cb, *next;

	list_for_each_entry_safe(cb, next, list, list) {
		struct bio *bio = chain_bio_to_bio(cb);

		list_del(&cb->list);
		if (cb->then) {
			cb->then(cb, status);
			continue;
		}
		bio->bi_status = status;
		bio_endio(bio);
	}
}

/* Ends the round; a next one follows if somebody waits. */
static void round_done(struct chain_meta *m, blk_status_t status)
{
	LIST_HEAD(done);
	unsigned long flags;

	if (READ_ONCE(m->layer->failed))
		status = BLK_STS_IOERR;
	trace_dm_chain_round(m->att->bdev->bd_dev, true, blk_status_to_errno(status));
	spin_lock_irqsave(&m->lock, flags);
	list_splice_init(&m->now, &done);
	m->running = false;
	if (!list_empty(&m->waiters) && !m->held)
		queue_work(m->wq, &m->work);
	wake_up(&m->idle);
	spin_unlock_irqrestore(&m->lock, flags);
	/* After this the layer may go: who waited was its reason to stay. */
	complete_waiters(&done, status);
}

/* Start a round for those who wait; false if one runs or must not. */
static bool round_start(struct chain_meta *m)
{
	lockdep_assert_held(&m->lock);
	if (m->running || m->held)
		return false;
	m->running = true;
	trace_dm_chain_round(m->att->bdev->bd_dev, false, 0);
	list_splice_init(&m->waiters, &m->now);
	return true;
}

/* --- Fast rounds: one run of used groups, one bio --- */

/* States [from, to) become absent, which is 0. */
static void clear_states(u64 *words, u64 from, u64 to)
{
	while (from < to) {
		unsigned int at = from % CHAIN_STATES_PER_WORD;
		u64 n = min_t(u64, to - from, CHAIN_STATES_PER_WORD - at);

		words[from / CHAIN_STATES_PER_WORD] &=
			~(GENMASK_ULL(2 * n - 1, 0) << (2 * at));
		from += n;
	}
}

/* What the round clears, in a group that was captured. */
static void apply_clear(struct chain_meta *m, u64 group)
{
	const struct chain_clear *c = m->clear;
	u64 first = group * DM_CHAIN_GROUP_BLOCKS, end;
	unsigned long from, to;

	if (!c)
		return;
	end = min(first + DM_CHAIN_GROUP_BLOCKS, c->block + c->n);
	if (end <= c->block)
		return;
	from = max(first, c->block) - c->block;
	for_each_set_bitrange_from(from, to, c->which, end - c->block)
		clear_states(m->words, c->block + from - first,
			     c->block + to - first);
}

/* Flags of changes: a byte has the eight sectors of a group. */
static u8 flags_of(const struct chain_layer *l, u64 group)
{
	unsigned int shift = group * DM_CHAIN_GROUP_SECTORS % BITS_PER_LONG;

	if (!l->track)
		return 0;
	return READ_ONCE(l->track[BIT_WORD(group * DM_CHAIN_GROUP_SECTORS)]) >>
	       shift;
}

/* What has changed in a group since its page was kept. */
static unsigned long take_sectors(struct chain_groups *g, u64 group)
{
	unsigned long first = group * DM_CHAIN_GROUP_SECTORS, mask = 0;
	unsigned int i;

	for (i = 0; i < DM_CHAIN_GROUP_SECTORS; i++)
		if (test_bit(first + i, g->sectors) &&
		    test_and_clear_bit(first + i, g->sectors))
			mask |= 1UL << i;
	return mask;
}

/* A fast round's: it clears nothing. */
static void encode_kept(struct chain_meta *m, struct group_buf *b)
{
	struct group_buf *kept = &m->kept[b->group % KEPT_GROUPS];
	unsigned long mask = take_sectors(&m->g, b->group);
	u8 flags = flags_of(m->layer, b->group);
	unsigned int i;

	if (kept->group != b->group)
		mask = (1UL << DM_CHAIN_GROUP_SECTORS) - 1;
	kept->group = b->group;
	b->page = kept->page;
	for_each_set_bit(i, &mask, DM_CHAIN_GROUP_SECTORS) {
		u64 sector = b->group * DM_CHAIN_GROUP_SECTORS + i;

		chain_statemap_read_sector(&m->layer->map, sector, m->words);
		chain_map_sector_encode(m->layer->hdr.map_seed, sector, m->words,
					flags & 1U << i, kept->page + i * 512);
	}
}

static void encode(struct chain_meta *m, struct group_buf *b)
{
	chain_statemap_read_group(&m->layer->map, b->group, m->words);
	apply_clear(m, b->group);
	chain_group_encode(m->layer->hdr.map_seed, b->group, m->words,
			   flags_of(m->layer, b->group), b->page);
}

static void fast_end_io(struct bio *bio)
{
	struct chain_meta *m = bio->bi_private;
	blk_status_t status = bio->bi_status;

	bio_uninit(bio);
	if (status)
		chain_layer_fail(m->layer, "map write",
				 blk_status_to_errno(status));
	round_done(m, status);
}

/* Are the captured groups one run, and used before? */
static bool is_fast(const struct chain_meta *m, const struct group_buf *bufs,
		    unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		if (!test_bit(bufs[i].group, m->g.present) ||
		    bufs[i].group != bufs[0].group + i)
			return false;
	return n > 0;
}

static u64 group_offset(const struct chain_meta *m, u64 group)
{
	return m->layer->hdr.map_offset + group * DM_CHAIN_GROUP_BYTES;
}

static void submit_fast(struct chain_meta *m)
{
	struct bio *bio = &m->fast_bio;
	unsigned int i;

	bio_init(bio, m->att->bdev, m->fast_vec, FAST_GROUPS,
		 REQ_OP_WRITE | REQ_META | REQ_SYNC | REQ_PREFLUSH | REQ_FUA);
	bio->bi_iter.bi_sector = group_offset(m, m->fast[0].group) >> SECTOR_SHIFT;
	for (i = 0; i < m->nr_fast; i++) {
		encode_kept(m, &m->fast[i]);
		__bio_add_page(bio, virt_to_page(m->fast[i].page),
			       DM_CHAIN_GROUP_BYTES, 0);
	}
	bio->bi_private = m;
	bio->bi_end_io = fast_end_io;
	if (chain_allowed(m->att, CHAIN_META, bio->bi_opf)) {
		submit_bio_noacct(bio);
		return;
	}
	bio_io_error(bio);
}

/* Put taken groups back: the worker's round takes them again. */
static void give_back(struct chain_meta *m, const struct group_buf *bufs,
		      unsigned int n)
{
	while (n--)
		set_dirty(m->layer, bufs[n].group * DM_CHAIN_GROUP_BLOCKS, 1);
}

/* A round in the submitter's context, if it is a small one. */
static void run_from_map(struct chain_meta *m)
{
	u64 from = 0;
	unsigned int n = take_dirty(&m->g, &from, m->g.nr, m->fast, FAST_GROUPS);

	if (is_fast(m, m->fast, n) && !any_dirty(&m->g)) {
		m->nr_fast = n;
		submit_fast(m);
		return;
	}
	give_back(m, m->fast, n);
	spin_lock_irq(&m->lock);
	m->handed = true;
	queue_work(m->wq, &m->work);
	spin_unlock_irq(&m->lock);
}

/* --- The worker's rounds --- */

static int alloc_batch(struct group_buf *b)
{
	if (!b->page)
		b->page = (void *)__get_free_page(GFP_NOIO | __GFP_NORETRY |
						  __GFP_NOWARN);
	return b->page ? 0 : -ENOMEM;
}

/* Dirty groups there are now, so far as a batch can take them. */
static unsigned int count_dirty(const struct chain_groups *g)
{
	unsigned int n = 0;
	u64 word;

	for_each_set_bit(word, g->summary, BITS_TO_LONGS(g->nr)) {
		n += hweight_long(READ_ONCE(g->dirty[word]));
		if (n >= BATCH_GROUPS)
			return BATCH_GROUPS;
	}
	return n;
}

/* Buffers for a batch: as many as it needs, one at least (in reserve). */
static unsigned int batch_room(struct chain_meta *m)
{
	unsigned int n, need = max(count_dirty(&m->g), 1U);

	for (n = 0; n < need; n++)
		if (alloc_batch(&m->batch[n]))
			break;
	return n;
}

static void free_batch(struct chain_meta *m, unsigned int keep)
{
	unsigned int n;

	for (n = keep; m->batch && n < BATCH_GROUPS; n++) {
		free_page((unsigned long)m->batch[n].page);
		m->batch[n].page = NULL;
	}
}

static int write_page(struct chain_meta *m, u64 offset, void *page)
{
	return chain_rw(m->att, CHAIN_META, offset, page, 4096, REQ_OP_WRITE);
}

/* Step 2: empty but valid, before the first FLUSH. */
static int write_fresh(struct chain_meta *m, unsigned int n, bool *fresh)
{
	unsigned int i;
	int r = 0;

	*fresh = false;
	for (i = 0; i < n && !r; i++) {
		u64 group = m->batch[i].group;

		if (test_bit(group, m->g.present))
			continue;
		*fresh = true;
		chain_group_encode(m->layer->hdr.map_seed, group, NULL, 0,
				   m->presence);
		r = write_page(m, group_offset(m, group), m->presence);
	}
	return r;
}

#define PAGE_GROUPS	(8 * DM_CHAIN_PRESENCE_GROUPS)	/* of a 4 KiB piece */

static void encode_presence(struct chain_meta *m, u64 piece)
{
	u64 words[CHAIN_SECTOR_WORDS];
	unsigned int i, w;

	for (i = 0; i < 8; i++) {
		u64 first = piece * PAGE_GROUPS + i * DM_CHAIN_PRESENCE_GROUPS;

		for (w = 0; w < CHAIN_SECTOR_WORDS; w++) {
			u64 at = first + w * 64;

			words[w] = at < m->g.nr ? m->g.present[at / 64] : 0;
		}
		/* What is lost stays lost: all it spoke for is damaged. */
		if (first < m->g.nr && test_bit(piece * 8 + i, m->g.lost)) {
			memset(m->presence + i * 512, 0, 512);
			continue;
		}
		chain_sector_encode(DM_CHAIN_PRESENCE_MAGIC,
				    m->layer->hdr.map_seed, piece * 8 + i, words,
				    m->presence + i * 512);
	}
}

/* The presence bits of new groups: with step 4. */
static int write_presence(struct chain_meta *m, unsigned int n)
{
	u64 piece, done = ~0ULL;
	unsigned int i;
	int r = 0;

	for (i = 0; i < n; i++)
		set_bit(m->batch[i].group, m->g.present);
	for (i = 0; i < n && !r; i++) {
		piece = m->batch[i].group / PAGE_GROUPS;
		if (piece == done)
			continue;
		done = piece;
		encode_presence(m, piece);
		r = write_page(m, m->layer->hdr.presence_offset + piece * 4096,
			       m->presence);
	}
	return r;
}

/* Writes of a batch that are under way. */
struct writes {
	atomic_t pending;
	blk_status_t status;
	struct completion done;
};

static void writes_end_io(struct bio *bio)
{
	struct writes *w = bio->bi_private;

	if (bio->bi_status)
		WRITE_ONCE(w->status, bio->bi_status);
	bio_put(bio);
	if (atomic_dec_and_test(&w->pending))
		complete(&w->done);
}

/* A run of neighbouring groups in one bio; returns how many it took. */
static unsigned int write_run(struct chain_meta *m, struct group_buf *bufs,
			      unsigned int max, struct writes *w)
{
	struct bio *bio;
	unsigned int n = 0;

	max = min_t(unsigned int, max, BIO_MAX_VECS);
	bio = bio_alloc_bioset(m->att->bdev, max,
			       REQ_OP_WRITE | REQ_META | REQ_SYNC, GFP_NOIO,
			       &m->bios);
	bio->bi_iter.bi_sector = group_offset(m, bufs[0].group) >> SECTOR_SHIFT;
	bio->bi_private = w;
	bio->bi_end_io = writes_end_io;
	while (n < max && bufs[n].group == bufs[0].group + n) {
		__bio_add_page(bio, virt_to_page(bufs[n].page),
			       DM_CHAIN_GROUP_BYTES, 0);
		n++;
	}
	atomic_inc(&w->pending);
	if (chain_allowed(m->att, CHAIN_META, bio->bi_opf))
		submit_bio_noacct(bio);
	else
		bio_io_error(bio);
	return n;
}

static int write_groups(struct chain_meta *m, unsigned int n)
{
	struct writes w = { .pending = ATOMIC_INIT(1) };
	struct blk_plug plug;
	unsigned int i = 0;

	init_completion(&w.done);
	blk_start_plug(&plug);
	while (i < n)
		i += write_run(m, m->batch + i, n - i, &w);
	blk_finish_plug(&plug);
	if (!atomic_dec_and_test(&w.pending))
		wait_for_completion_io(&w.done);
	return blk_status_to_errno(w.status);
}

/* Steps 1 to 5 for one batch. */
static int commit_batch(struct chain_meta *m, unsigned int n)
{
	unsigned int i;
	bool fresh;
	int r;

	for (i = 0; i < n; i++)
		encode(m, &m->batch[i]);
	r = write_fresh(m, n, &fresh);
	if (!r)
		r = chain_flush_dev(m->att);
	if (!r && fresh)
		r = write_presence(m, n);
	if (!r)
		r = write_groups(m, n);
	if (!r)
		r = chain_flush_dev(m->att);
	return r;
}

/*
 * What is dirty now, once through: writers make groups dirty as fast as they go out,
 * and those who wait asked for no more.
 */
static int commit_all(struct chain_meta *m)
{
	u64 from = 0, end = dirty_end(&m->g);
	bool any = false;
	int r = 0;

	while (!r && from < end) {
		unsigned int n = take_dirty(&m->g, &from, end, m->batch,
					    batch_room(m));

		if (!n)
			break;
		any = true;
		r = commit_batch(m, n);
	}
	if (!r && !any)
		r = chain_flush_dev(m->att);
	free_batch(m, FAST_GROUPS);
	/* Nobody else may have: its word's bit was never seen to be off. */
	if (any_dirty(&m->g))
		queue_delayed_work(m->wq, &m->commit, COMMIT_SECS * HZ);
	return r;
}

/* Durable: now lookups may pass. The next round has not begun. */
static void end_clear(struct chain_meta *m)
{
	const struct chain_clear *c = m->clear;
	unsigned long first, end;

	spin_lock_irq(&m->lock);
	for_each_set_bitrange(first, end, c->which, c->n)
		chain_statemap_set(&m->layer->map, c->block + first,
				   end - first, DM_CHAIN_ABSENT);
	spin_unlock_irq(&m->lock);
}

static int run_worker_round(struct chain_meta *m)
{
	unsigned int noio = memalloc_noio_save();
	int r = 0;

	if (!READ_ONCE(m->layer->failed)) {
		r = commit_all(m);
		if (r)
			chain_layer_fail(m->layer, "map commit", r);
	}
	memalloc_noio_restore(noio);
	r = READ_ONCE(m->layer->failed) ? -EIO : r;
	if (m->clear && !r)
		end_clear(m);
	m->clear = NULL;
	round_done(m, errno_to_blk_status(r));
	return r;
}

/* Queued with a round handed over by run_from_map(), or for those who wait. */
static void meta_work(struct work_struct *work)
{
	struct chain_meta *m = container_of(work, struct chain_meta, work);
	bool mine;

	spin_lock_irq(&m->lock);
	mine = m->handed || (!list_empty(&m->waiters) && round_start(m));
	m->handed = false;
	spin_unlock_irq(&m->lock);
	if (mine)
		run_worker_round(m);
}

/* What nobody flushes is not left to a crash for longer than this. */
static void commit_work(struct work_struct *work)
{
	struct chain_meta *m = container_of(to_delayed_work(work),
					    struct chain_meta, commit);
	bool mine;

	if (!any_dirty(&m->g) || READ_ONCE(m->layer->failed))
		return;
	spin_lock_irq(&m->lock);
	mine = round_start(m);
	spin_unlock_irq(&m->lock);
	if (mine)
		run_worker_round(m);
	else
		queue_delayed_work(m->wq, &m->commit, COMMIT_SECS * HZ);
}

/* --- For the rest of the module --- */

bool chain_meta_flush(struct chain_layer *l, struct chain_bio *cb,
		      bool can_submit)
{
	struct chain_meta *m = l->meta;
	unsigned long flags;
	bool mine;

	spin_lock_irqsave(&m->lock, flags);
	if (can_submit && !m->running && !m->held && !any_dirty(&m->g)) {
		spin_unlock_irqrestore(&m->lock, flags);
		return false;
	}
	list_add_tail(&cb->list, &m->waiters);
	mine = can_submit && round_start(m);
	if (!mine && !m->running && !m->held)
		queue_work(m->wq, &m->work);
	spin_unlock_irqrestore(&m->lock, flags);
	if (mine)
		run_from_map(m);
	return true;
}

static int sync_round(struct chain_layer *l, const struct chain_clear *c)
{
	struct chain_meta *m = l->meta;

	spin_lock_irq(&m->lock);
	wait_event_lock_irq(m->idle, !m->running, m->lock);
	m->running = true;
	list_splice_init(&m->waiters, &m->now);
	if (c)
		set_dirty(l, c->block, c->n);
	spin_unlock_irq(&m->lock);
	m->clear = c;
	return run_worker_round(m);
}

int chain_meta_sync(struct chain_layer *l)
{
	return sync_round(l, NULL);
}

static int prepare_clear(struct chain_layer *l, const struct chain_clear *c)
{
	unsigned long first, end;
	int r;

	for_each_set_bitrange(first, end, c->which, c->n) {
		r = chain_statemap_prepare(&l->map, c->block + first,
					   end - first, DM_CHAIN_ABSENT,
					   GFP_NOIO);
		if (r)
			return r;
	}
	return 0;
}

int chain_meta_clear(struct chain_layer *l, const struct chain_clear *c)
{
	int r = prepare_clear(l, c);

	return r ?: sync_round(l, c);
}

void chain_meta_hold(struct chain_layer *l)
{
	spin_lock_irq(&l->meta->lock);
	l->meta->held = true;
	spin_unlock_irq(&l->meta->lock);
}

void chain_meta_release(struct chain_layer *l, bool failed)
{
	struct chain_meta *m = l->meta;

	if (failed)
		chain_layer_fail(l, "switch", -EIO);
	spin_lock_irq(&m->lock);
	m->held = false;
	if (!m->running && !list_empty(&m->waiters))
		queue_work(m->wq, &m->work);
	spin_unlock_irq(&m->lock);
}

/*
 * Suspend and resume can meet the end of a snapshot, or a layer's being taken
 * back, which destroy the writer: they have a reference, or registry_mutex,
 * under which the layer loses it.
 */
void chain_meta_bind(struct chain_att *att)
{
	mutex_lock(&chain_registry_mutex);
	if (att->layer->meta)
		att->layer->meta->att = att;
	mutex_unlock(&chain_registry_mutex);
}

static void quiesce(struct chain_meta *m)
{
	cancel_delayed_work_sync(&m->commit);
	spin_lock_irq(&m->lock);
	wait_event_lock_irq(m->idle, !m->running, m->lock);
	spin_unlock_irq(&m->lock);
	/* A round leaves what has become dirty meanwhile to it. */
	cancel_delayed_work_sync(&m->commit);
}

static void meta_free(struct chain_meta *m);

static void meta_put(struct chain_meta *m)
{
	if (refcount_dec_and_test(&m->ref))
		meta_free(m);
}

void chain_meta_quiesce(struct chain_layer *l)
{
	struct chain_meta *m;

	mutex_lock(&chain_registry_mutex);
	m = l->meta;
	if (m)
		refcount_inc(&m->ref);
	mutex_unlock(&chain_registry_mutex);
	if (!m)
		return;
	quiesce(m);
	meta_put(m);
}

void chain_meta_resume(struct chain_layer *l)
{
	struct chain_meta *m;

	mutex_lock(&chain_registry_mutex);
	m = l->meta;
	if (m && any_dirty(&m->g))
		queue_delayed_work(m->wq, &m->commit, COMMIT_SECS * HZ);
	mutex_unlock(&chain_registry_mutex);
}

/* --- Making and growing it --- */

/*
 * Which groups have been used. Those of a damaged sector are damaged in the
 * map: nothing is ever written to them.
 */
static int load_present(struct chain_att *att, struct chain_groups *g, void *page)
{
	return chain_presence_read(att, g->nr, g->present, g->lost, page);
}

static int alloc_buffers(struct chain_meta *m)
{
	unsigned int i;

	m->presence = (void *)__get_free_page(GFP_KERNEL);
	m->batch = kcalloc(BATCH_GROUPS, sizeof(*m->batch), GFP_KERNEL);
	if (!m->presence || !m->batch)
		return -ENOMEM;
	for (i = 0; i < FAST_GROUPS; i++) {
		m->batch[i].page = (void *)__get_free_page(GFP_KERNEL);
		if (!m->batch[i].page)
			return -ENOMEM;
	}
	for (i = 0; i < KEPT_GROUPS; i++) {
		m->kept[i].group = ~0ULL;
		m->kept[i].page = (void *)__get_free_page(GFP_KERNEL);
		if (!m->kept[i].page)
			return -ENOMEM;
	}
	return bioset_init(&m->bios, FAST_GROUPS, 0, BIOSET_NEED_BVECS);
}

static void meta_free(struct chain_meta *m)
{
	unsigned int i;

	for (i = 0; i < KEPT_GROUPS; i++)
		free_page((unsigned long)m->kept[i].page);
	free_batch(m, 0);
	kfree(m->batch);
	free_page((unsigned long)m->presence);
	bioset_exit(&m->bios);
	dirty_free(&m->g);
	kfree(m);
}

static void meta_init(struct chain_meta *m, struct chain_att *att,
		      struct workqueue_struct *wq)
{
	refcount_set(&m->ref, 1);
	m->layer = att->layer;
	m->att = att;
	m->wq = wq;
	spin_lock_init(&m->lock);
	INIT_LIST_HEAD(&m->waiters);
	INIT_LIST_HEAD(&m->now);
	init_waitqueue_head(&m->idle);
	INIT_WORK(&m->work, meta_work);
	INIT_DELAYED_WORK(&m->commit, commit_work);
}

int chain_meta_create(struct chain_att *att, struct workqueue_struct *wq)
{
	struct chain_meta *m = kzalloc(sizeof(*m), GFP_KERNEL);
	int r;

	if (!m)
		return -ENOMEM;
	meta_init(m, att, wq);
	r = dirty_alloc(&m->g, att->layer->map.blocks);
	if (!r)
		r = alloc_buffers(m);
	if (!r)
		r = load_present(att, &m->g, m->presence);
	if (r) {
		meta_free(m);
		return r;
	}
	mutex_lock(&chain_registry_mutex);
	att->layer->meta = m;
	mutex_unlock(&chain_registry_mutex);
	return 0;
}

void chain_meta_destroy(struct chain_layer *l)
{
	struct chain_meta *m;

	mutex_lock(&chain_registry_mutex);
	m = l->meta;
	l->meta = NULL;
	mutex_unlock(&chain_registry_mutex);
	if (!m)
		return;
	quiesce(m);
	cancel_work_sync(&m->work);
	WARN_ON_ONCE(!list_empty(&m->waiters));
	meta_put(m);
}

void chain_meta_grow_free(void *mem)
{
	if (mem)
		dirty_free(mem);
	kfree(mem);
}

void *chain_meta_grow_alloc(u64 blocks)
{
	struct chain_groups *g = kzalloc(sizeof(*g), GFP_KERNEL);

	if (g && dirty_alloc(g, blocks)) {
		chain_meta_grow_free(g);
		return NULL;
	}
	return g;
}

/*
 * Empty but valid: what a shrink that was cut off left in these groups. They are new
 * ones: rounds up to the switch write no presence bits behind the old end.
 */
static int clear_groups(struct chain_att *att, struct chain_groups *g, u64 from,
			void *page)
{
	struct chain_meta *m = att->layer->meta;
	u64 seed = att->layer->hdr.map_seed, group = from;
	int r = 0;

	for_each_set_bit_from(group, g->present, g->nr) {
		chain_group_encode(seed, group, NULL, 0, page);
		r = chain_rw(att, CHAIN_META, group_offset(m, group), page,
			     DM_CHAIN_GROUP_BYTES, REQ_OP_WRITE);
		if (r)
			break;
		clear_bit(group, g->present);
	}
	return r;
}

/*
 * The group that the old end lies in, written with nothing behind that end. What of
 * it could not be read would be written as damaged, and may be well on disk.
 */
static int clear_last_group(struct chain_layer *l)
{
	struct chain_meta *m = l->meta;
	u64 block = l->map.blocks - 1, first = round_down(block, DM_CHAIN_GROUP_BLOCKS);

	if (!test_bit(block / DM_CHAIN_GROUP_BLOCKS, m->g.present))
		return 0;
	if (chain_statemap_damaged(&l->map, first, l->map.blocks - first))
		return -EIO;
	spin_lock_irq(&m->lock);
	set_dirty(l, block, 1);
	spin_unlock_irq(&m->lock);
	return chain_meta_sync(l);
}

int chain_meta_clear_beyond(struct chain_att *att, void *mem)
{
	struct chain_groups *g = mem;
	struct chain_meta *m = att->layer->meta;
	void *page = (void *)__get_free_page(GFP_KERNEL);
	int r = page ? load_present(att, g, page) : -ENOMEM;

	/* A lost sector would make what is beyond the end damaged. */
	if (!r && bitmap_weight(g->lost, lost_longs(g) * BITS_PER_LONG) !=
		  bitmap_weight(m->g.lost, lost_longs(&m->g) * BITS_PER_LONG))
		r = -EIO;
	if (!r)
		r = clear_groups(att, g, m->g.nr, page);
	if (!r)
		r = clear_last_group(att->layer);
	if (!r)
		r = chain_flush_dev(att);
	free_page((unsigned long)page);
	return r;
}

void chain_meta_grow(struct chain_layer *l, void *mem)
{
	struct chain_groups *g = mem, *old = &l->meta->g;
	u64 longs = BITS_TO_LONGS(old->nr);

	memcpy(g->dirty, old->dirty, longs * sizeof(long));
	bitmap_or(g->present, g->present, old->present, old->nr);
	memcpy(g->summary, old->summary, BITS_TO_LONGS(longs) * sizeof(long));
	memcpy(g->sectors, old->sectors, sector_longs(old) * sizeof(long));
	/* chain_meta_clear_beyond() has read the presence map for @g. */
	swap(*g, *old);
}
