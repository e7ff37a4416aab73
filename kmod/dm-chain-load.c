// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reading maps: on demand, and in the background.
 *
 * Owns: of each layer, which groups of its map are on disk and have not been read
 * yet (@todo). A layer appears when its presence map has been read, a sector for
 * 2048 groups, or 64 GiB; a dense TiB has 128 MiB of groups, and to wait for those of
 * a deep chain would take minutes.
 *
 * Who reads them:
 *	- a bio of the guest waits until those of its range are there, in all layers of
 *	  the disk (wait_for_map(), the slow path reads them);
 *	- the builder of the merged lookup, for its chunk;
 *	- the disk's worker, one after the other, while it has nothing else to do;
 *	- what needs maps as a whole (jobs, counts, resize) reads what is left of them
 *	  before it begins (chain_disk_pin_read()), so that nothing else in the module
 *	  has to know of unread groups.
 * The map of a layer that tracks changes is read at once: its flags are asked for
 * without a lock.
 *
 * Invariant: a state changes only when its group has been read. So an unread group is
 * never dirty, never written, and what is on disk is what it says. Groups start and
 * end with words of the map in memory: reading one leaves the words of others alone.
 *
 * Locking: load_mutex of the layer, held over one read, inside of all other locks but
 * the registry's, which is never taken under it. Nothing allocates under it that may
 * wait for I/O. Bits of @todo are cleared under it,
 * after the states are in the map; who finds them clear sees the states
 * (chain_blocks_read()).
 *
 * Failure: a group that can't be read, or is not what it should be, is damaged: EIO
 * there. Without memory it stays unread, and who asked for it fails.
 */
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "dm-chain.h"

#define LOAD_GROUPS	16U	/* read in one I/O, if there is memory for that */
#define SLICE_GROUPS	1024U	/* read by a query while a switch may wait for it */
#define ENTRY_GROUPS	(CHAIN_PAGE_BLOCKS / DM_CHAIN_GROUP_BLOCKS)

static u64 layer_groups(const struct chain_layer *l)
{
	return chain_blocks_to_groups(l->map.blocks);
}

/* --- Which groups there are --- */

int chain_presence_read(struct chain_att *att, u64 groups, unsigned long *present,
			unsigned long *lost, void *page)
{
	const struct chain_header *h = &att->layer->hdr;
	u64 i, n = DIV_ROUND_UP_ULL(groups, DM_CHAIN_PRESENCE_GROUPS);
	u64 words[CHAIN_SECTOR_WORDS], w, at;
	int r, ret = 0;

	for (i = 0; i < n; i++) {
		r = i % 8 ? 0 : chain_rw(att, CHAIN_META, h->presence_offset + i * 512,
					 page, 4096, REQ_OP_READ);
		if (r) {
			memset(page, 0, 4096);
			ret = -EIO;
		}
		if (!chain_sector_decode(DM_CHAIN_PRESENCE_MAGIC, h->map_seed, i,
					 page + i % 8 * 512, words)) {
			set_bit(i, lost);
			continue;
		}
		for (w = 0; w < CHAIN_SECTOR_WORDS; w++) {
			at = i * CHAIN_SECTOR_WORDS + w;
			if (at < BITS_TO_LONGS(groups))
				present[at] = words[w];
		}
	}
	return ret;
}

/* What was flagged before the machine went down still is, on disk, too. */
static void load_flags(struct chain_layer *l, u64 group, u8 changed)
{
	unsigned long bits = changed, i;

	if (!l->track)
		return;
	for_each_set_bit(i, &bits, DM_CHAIN_GROUP_SECTORS) {
		__set_bit(group * DM_CHAIN_GROUP_SECTORS + i, l->track);
		__set_bit(group * DM_CHAIN_GROUP_SECTORS + i, l->tracked);
	}
}

/*
 * Nobody knows which groups of a lost presence sector count: a valid one may be
 * what a round left that a crash cut off, and has been absent since.
 */
static int presence_lost(struct chain_layer *l, u64 index)
{
	u64 span = (u64)DM_CHAIN_PRESENCE_GROUPS * DM_CHAIN_GROUP_BLOCKS;
	u64 block = index * span;
	u64 n = min(span, l->map.blocks - block), i;
	int r;

	DMWARN_LIMIT("layer %pUb: presence sector %llu damaged: EIO for %llu blocks from %llu",
		     l->uuid.b, index, n, block);
	for (i = block; l->track && i < block + n; i += DM_CHAIN_GROUP_BLOCKS)
		load_flags(l, i / DM_CHAIN_GROUP_BLOCKS, 0xff);
	r = chain_statemap_prepare(&l->map, block, n, DM_CHAIN_DAMAGED, GFP_KERNEL);
	if (!r)
		chain_statemap_set(&l->map, block, n, DM_CHAIN_DAMAGED);
	return r;
}

/*
 * Groups whose presence bit is off were never part of a flush that completed:
 * they are absent, unread.
 */
static int find_groups(struct chain_att *att, unsigned long *lost, void *page)
{
	struct chain_layer *l = att->layer;
	u64 groups = layer_groups(l), i;
	u64 n = DIV_ROUND_UP_ULL(groups, DM_CHAIN_PRESENCE_GROUPS);
	int r = 0;

	chain_presence_read(att, groups, l->todo, lost, page);
	for_each_set_bit(i, lost, n) {
		r = presence_lost(l, i);
		if (r)
			return r;
	}
	l->nr_todo = bitmap_weight(l->todo, groups);
	return 0;
}

int chain_map_open(struct chain_att *att)
{
	struct chain_layer *l = att->layer;
	u64 groups = layer_groups(l);
	u64 n = DIV_ROUND_UP_ULL(groups, DM_CHAIN_PRESENCE_GROUPS);
	void *page = (void *)__get_free_page(GFP_KERNEL);
	unsigned long *lost = kvcalloc(BITS_TO_LONGS(n), sizeof(long), GFP_KERNEL);
	int r = -ENOMEM;

	l->todo = kvcalloc(BITS_TO_LONGS(groups), sizeof(long), GFP_KERNEL);
	if (page && lost && l->todo)
		r = find_groups(att, lost, page);
	if (!r && l->track)
		r = chain_map_read_all(att);
	kvfree(lost);
	free_page((unsigned long)page);
	return r;
}

/* --- Reading them --- */

struct reader {
	struct chain_att *att;
	unsigned int room;	/* groups in @buf */
	unsigned int order;	/* of @buf */
	void *buf;
	u64 *words;		/* an entry of the map in memory */
};

static int reader_init(struct reader *rd, struct chain_att *att, u64 groups)
{
	rd->att = att;
	rd->room = min_t(u64, groups, LOAD_GROUPS);
	rd->order = get_order((size_t)rd->room * DM_CHAIN_GROUP_BYTES);
	rd->words = (u64 *)__get_free_page(GFP_KERNEL);
	rd->buf = (void *)__get_free_pages(GFP_KERNEL | __GFP_COMP | __GFP_NORETRY |
					   __GFP_NOWARN, rd->order);
	if (!rd->buf) {
		rd->room = 1;
		rd->order = 0;
		rd->buf = (void *)__get_free_page(GFP_KERNEL);
	}
	return rd->buf && rd->words ? 0 : -ENOMEM;
}

static void reader_exit(struct reader *rd)
{
	free_pages((unsigned long)rd->buf, rd->order);
	free_page((unsigned long)rd->words);
}

/* A group into its part of the entry; one that could not be read is lost. */
static void decode(struct reader *rd, u64 group, const void *buf, bool unreadable)
{
	struct chain_layer *l = rd->att->layer;
	unsigned int damaged;
	u8 changed;

	damaged = chain_group_decode(l->hdr.map_seed, unreadable ? ~0ULL : group, buf,
				     rd->words + group % ENTRY_GROUPS * CHAIN_GROUP_WORDS,
				     &changed);
	load_flags(l, group, changed);
	if (damaged)
		DMWARN_LIMIT("layer %pUb: map group %llu damaged (0x%02x): EIO there",
			     l->uuid.b, group, damaged);
}

/* [group, end) are in one entry; @buf has them. */
static int take_entry(struct reader *rd, u64 group, u64 end, const void *buf,
		      bool unreadable)
{
	struct chain_layer *l = rd->att->layer;
	u64 i;
	int r;

	memset(rd->words, 0, PAGE_SIZE);
	for (i = group; i < end; i++)
		decode(rd, i, buf + (i - group) * DM_CHAIN_GROUP_BYTES, unreadable);
	r = chain_statemap_load(&l->map, group, end - group, rd->words);
	if (r)
		return r;
	/* Who finds the bits clear sees the states. */
	smp_mb__before_atomic();
	for (i = group; i < end; i++)
		clear_bit(i, l->todo);
	/* As who finds none left. */
	smp_store_release(&l->nr_todo, l->nr_todo - (end - group));
	return 0;
}

static int read_into(struct reader *rd, u64 group, u64 end)
{
	return chain_rw(rd->att, CHAIN_META,
			rd->att->layer->hdr.map_offset + group * DM_CHAIN_GROUP_BYTES,
			rd->buf, (end - group) * DM_CHAIN_GROUP_BYTES, REQ_OP_READ);
}

/* Neighbours, all of them unread, as many as there is room for. */
static int read_run(struct reader *rd, u64 group, u64 end)
{
	bool unreadable = read_into(rd, group, end);
	u64 i, next;
	int r = 0;

	/* One by one, then: only what can't be read is lost. */
	if (unreadable && end - group > 1) {
		for (i = group; i < end && !r; i++)
			r = read_run(rd, i, i + 1);
		return r;
	}
	for (i = group; i < end && !r; i = next) {
		next = min(end, round_down(i, ENTRY_GROUPS) + ENTRY_GROUPS);
		r = take_entry(rd, i, next, rd->buf + (i - group) * DM_CHAIN_GROUP_BYTES,
			       unreadable);
	}
	return r;
}

/* The run that starts with an unread group: it doesn't end within an entry. */
static u64 run_end(const struct reader *rd, u64 group, u64 end)
{
	u64 most = group + rd->room;

	if (most > round_down(most, ENTRY_GROUPS) && rd->room > 1)
		most = round_down(most, ENTRY_GROUPS);
	return find_next_zero_bit(rd->att->layer->todo, min(most, end), group);
}

/* A run at a time: a bio that waits for another group waits for one I/O at most. */
static bool read_next(struct reader *rd, u64 *group, u64 end, int *r)
{
	struct chain_layer *l = rd->att->layer;
	u64 stop;

	mutex_lock(&l->load_mutex);
	*group = find_next_bit(l->todo, end, *group);
	stop = *group < end ? run_end(rd, *group, end) : end;
	if (*group < end)
		*r = read_run(rd, *group, stop);
	mutex_unlock(&l->load_mutex);
	*group = stop;
	return !*r && stop < end;
}

static int read_groups(struct chain_att *att, u64 first, u64 end)
{
	struct reader rd;
	int r = reader_init(&rd, att, end - first);

	if (!r)
		while (read_next(&rd, &first, end, &r))
			cond_resched();
	reader_exit(&rd);
	return r;
}

/*
 * Entries as a whole: they may turn out to have but one state. Memory that is freed by
 * writing to this very disk must not be waited for: that may need the same groups.
 */
static int load_groups(struct chain_att *att, u64 first, u64 end)
{
	unsigned int noio = memalloc_noio_save();
	int r;

	first = round_down(first, ENTRY_GROUPS);
	end = min(round_up(end, ENTRY_GROUPS), layer_groups(att->layer));
	r = read_groups(att, first, end);
	memalloc_noio_restore(noio);
	return r;
}

/* From the first unread one on, so many at most. */
static int load_some(struct chain_att *att, u64 n)
{
	u64 groups = layer_groups(att->layer);
	u64 first = find_first_bit(att->layer->todo, groups);

	return first < groups ? load_groups(att, first, min(groups, first + n)) : 0;
}

int chain_map_read_all(struct chain_att *att)
{
	int r = 0;

	while (!r && !chain_map_is_read(att->layer))
		r = fatal_signal_pending(current) ? -EINTR :
						    load_some(att, SLICE_GROUPS);
	return r;
}

/* --- Ranges of a disk --- */

bool chain_blocks_read(const struct chain_layer *l, u64 block, u64 n)
{
	u64 end = min(layer_groups(l), chain_blocks_to_groups(block + n));
	bool read;

	if (chain_map_is_read(l))
		return true;
	read = find_next_bit(l->todo, end, block / DM_CHAIN_GROUP_BLOCKS) >= end;
	/* Pairs with the barrier in take_entry(). */
	smp_rmb();
	return read;
}

/* Blocks of a layer that lie in a range of the disk. */
static u64 blocks_in(const struct chain_layer *l, sector_t sector, sector_t n,
		     u64 *block)
{
	*block = sector_to_block(l, sector);
	return sector_to_block(l, sector + n - 1) - *block + 1;
}

static bool has_map(const struct chain_layer *l)
{
	return l->format == DM_CHAIN_FORMAT_CHAIN;
}

bool chain_range_read(const struct chain_inst *ci, sector_t sector, sector_t n)
{
	unsigned int i;
	u64 block, nr;

	for (i = 0; i < ci->nr; i++) {
		const struct chain_layer *l = ci->order[i]->layer;

		if (!has_map(l))
			continue;
		nr = blocks_in(l, sector, n, &block);
		if (!chain_blocks_read(l, block, nr))
			return false;
	}
	return true;
}

int chain_read_sectors(struct chain_att *att, sector_t sector, sector_t n)
{
	struct chain_layer *l = att->layer;
	u64 block, nr;

	if (!has_map(l))
		return 0;
	nr = blocks_in(l, sector, n, &block);
	if (chain_blocks_read(l, block, nr))
		return 0;
	return load_groups(att, block / DM_CHAIN_GROUP_BLOCKS,
			   chain_blocks_to_groups(block + nr));
}

int chain_read_range(struct chain_inst *ci, sector_t sector, sector_t n)
{
	unsigned int i;
	int r = 0;

	for (i = 0; i < ci->nr && !r; i++)
		r = chain_read_sectors(ci->order[i], sector, n);
	return r;
}

u64 chain_unread(const struct chain_inst *ci)
{
	unsigned int i;
	u64 n = 0;

	for (i = 0; i < ci->nr; i++)
		n += READ_ONCE(ci->order[i]->layer->nr_todo);
	return n;
}

/* One I/O: who suspends the disk waits for the worker. */
static int load_run(struct chain_att *att)
{
	u64 groups = layer_groups(att->layer);
	u64 first = find_first_bit(att->layer->todo, groups);
	u64 end = find_next_zero_bit(att->layer->todo, groups, first);

	return first < end ? load_groups(att, first, min(end, first + LOAD_GROUPS)) : 0;
}

bool chain_read_more(struct chain_disk *disk)
{
	struct chain_inst *ci = disk->live;
	unsigned int i;

	for (i = 0; i < ci->nr; i++)
		if (!chain_map_is_read(ci->order[i]->layer))
			return !load_run(ci->order[i]);
	/* Who sees this sees all states. */
	smp_store_release(&disk->unread, false);
	return false;
}

/* -EAGAIN: there is more, but others may want the disk meanwhile. */
static int read_slice(struct chain_inst *ci)
{
	unsigned int i;
	int r;

	for (i = 0; i < ci->nr_atts; i++) {
		if (chain_map_is_read(ci->atts[i].layer))
			continue;
		if (fatal_signal_pending(current))
			return -EINTR;
		r = load_some(&ci->atts[i], SLICE_GROUPS);
		return r ?: -EAGAIN;
	}
	return 0;
}

int chain_disk_pin_read(dev_t devt, struct chain_inst **ci)
{
	int r;

	do {
		r = chain_disk_pin(devt, ci);
		if (r)
			return r;
		r = read_slice(*ci);
		if (r)
			chain_disk_unpin((*ci)->disk);
	} while (r == -EAGAIN);
	return r;
}
