// SPDX-License-Identifier: GPL-2.0-only
/*
 * What lies below the top: who owns a sector there.
 *
 * Owns: the contents of the disk's merged lookup. Chunks of it are built when
 * they are first asked for, by the disk's worker; until then, and where memory
 * or the cap runs out, layers are asked one by one, which is always right.
 * A snapshot makes the old top the first layer below: it counts as unmerged,
 * and is asked first, until the worker has laid it over all chunks that are
 * built. Laying it over twice does no harm, so that a stopped pass just starts
 * again.
 *
 * Locking: none on the lookup side. Layers below the top don't change while a
 * disk runs; the topology changes only while it is suspended, and the worker
 * is stopped before (chain_presuspend()). The worker writes, and the shrinker
 * (dm-chain-shrink.c): merge_mutex.
 */
#include <linux/module.h>
#include <linux/sched/mm.h>

#include "dm-chain.h"

/* Others need the memory more. */
#define CHUNK_GFP	(GFP_NOIO | __GFP_NORETRY | __GFP_NOWARN)

/* At 128 KiB runs this is enough for 2.5 TiB, at 1 MiB runs for 12. */
static unsigned int lookup_mib = 128;
module_param(lookup_mib, uint, 0644);
MODULE_PARM_DESC(lookup_mib, "MiB that a disk's merged lookup may take; what doesn't fit is looked up layer by layer");

/* --- Asking layers one by one --- */

/* One layer's answer; ABSENT: look below, for so many sectors. */
static sector_t ask_raw(const struct chain_layer *l, sector_t sector,
			sector_t max, unsigned int *state)
{
	if (sector >= l->size) {
		*state = DM_CHAIN_ZERO;
		return max;
	}
	*state = DM_CHAIN_DATA;
	return min(max, l->size - sector);
}

static sector_t ask_chain(const struct chain_layer *l, sector_t sector,
			  sector_t max, unsigned int *state)
{
	sector_t into = sector & (block_sectors(l) - 1), run;
	u64 block = sector_to_block(l, sector);

	if (sector >= l->size) {
		*state = READ_ONCE(l->lifted) ? DM_CHAIN_ABSENT : DM_CHAIN_ZERO;
		return max;
	}
	max = min(max, l->size - sector);
	run = chain_statemap_run(&l->map, block,
				 sector_to_block(l, into + max - 1) + 1, state);
	run = min(block_to_sector(l, run) - into, max);
	if (*state != DM_CHAIN_ABSENT || READ_ONCE(l->lifted))
		return run;
	/* Above the see-through limit nothing below shows. */
	if (sector >= l->limit) {
		*state = DM_CHAIN_ZERO;
		return run;
	}
	return min(run, l->limit - sector);
}

sector_t chain_walk(const struct chain_inst *ci, unsigned int first,
		    unsigned int end, sector_t sector, sector_t max,
		    struct chain_att **owner, unsigned int *state)
{
	unsigned int depth;

	*owner = NULL;
	*state = DM_CHAIN_ABSENT;
	for (depth = first; depth < end; depth++) {
		const struct chain_layer *l = ci->order[depth]->layer;

		if (l->format == DM_CHAIN_FORMAT_RAW)
			max = ask_raw(l, sector, max, state);
		else
			max = ask_chain(l, sector, max, state);
		if (*state == DM_CHAIN_ABSENT)
			continue;
		if (*state == DM_CHAIN_DATA)
			*owner = ci->order[depth];
		return max;
	}
	if (end == ci->nr)
		*state = DM_CHAIN_ZERO;
	return max;
}

/* --- The merged lookup --- */

struct chain_merge *chain_lookup_create(sector_t sectors)
{
	struct chain_merge *m;

	m = chain_merge_create(DIV_ROUND_UP(sectors, CHAIN_UNIT_SECTORS),
			       GFP_KERNEL);
	if (m)
		chain_merge_set_cap(m, (size_t)READ_ONCE(lookup_mib) << 20);
	return m;
}

/* What was given back is not taken again at once. */
static bool rests(const struct chain_disk *disk)
{
	return time_before(jiffies, READ_ONCE(disk->shrunk) + HZ);
}

static void want_chunk(struct chain_disk *disk, u64 chunk)
{
	/* One at a time: who is not served asks again. */
	if (READ_ONCE(disk->stop) || READ_ONCE(disk->full) || rests(disk) ||
	    atomic64_read(&disk->want) || chain_merge_built(disk->merge, chunk))
		return;
	atomic64_set(&disk->want, chunk + 1);
	queue_work(disk->wq, &disk->merge_work);
}

static sector_t merged(struct chain_inst *ci, unsigned int first,
		       sector_t sector, sector_t max, struct chain_att **owner,
		       unsigned int *state)
{
	struct chain_disk *disk = ci->disk;
	u64 unit = sector / CHAIN_UNIT_SECTORS;
	sector_t into = sector % CHAIN_UNIT_SECTORS;
	u32 run;
	u16 slot;

	slot = chain_merge_lookup(disk->merge, unit,
				  min_t(u64, CHAIN_CHUNK_BLOCKS,
					DIV_ROUND_UP(into + max, CHAIN_UNIT_SECTORS)),
				  &run);
	if (unlikely(slot == CHAIN_OWNER_WALK)) {
		want_chunk(disk, unit >> CHAIN_CHUNK_SHIFT);
		return chain_walk(ci, first, ci->nr, sector, max, owner, state);
	}
	*owner = NULL;
	*state = DM_CHAIN_ZERO;
	if (slot == CHAIN_OWNER_DAMAGED) {
		*state = DM_CHAIN_DAMAGED;
	} else if (slot != CHAIN_OWNER_ZERO) {
		*state = DM_CHAIN_DATA;
		*owner = ci->by_slot[slot];
	}
	return min_t(sector_t, max, (sector_t)run * CHAIN_UNIT_SECTORS - into);
}

sector_t chain_below(struct chain_inst *ci, sector_t sector, sector_t max,
		     struct chain_att **owner, unsigned int *state)
{
	const struct chain_layer *top = chain_top(ci)->layer;
	unsigned int unmerged;

	if (sector >= top->limit) {
		*owner = NULL;
		*state = DM_CHAIN_ZERO;
		return max;
	}
	max = min(max, top->limit - sector);
	/* One layer below is its own lookup. */
	if (ci->nr <= 2)
		return chain_walk(ci, 1, ci->nr, sector, max, owner, state);
	/* Pairs with the release in merge_layer(). */
	unmerged = smp_load_acquire(&ci->disk->unmerged);
	if (unlikely(unmerged)) {
		max = chain_walk(ci, 1, 1 + unmerged, sector, max, owner, state);
		if (*state != DM_CHAIN_ABSENT)
			return max;
	}
	return merged(ci, 1 + unmerged, sector, max, owner, state);
}

bool chain_same_below(const struct chain_inst *a, const struct chain_inst *b)
{
	unsigned int i;

	if (a->nr != b->nr)
		return false;
	for (i = 1; i < a->nr; i++)
		if (a->order[i]->layer != b->order[i]->layer)
			return false;
	return true;
}

/* --- Building it --- */

/* Owners that a sector boundary cuts can't be told by unit. */
static void cut_at(u16 *owners, sector_t base, sector_t limit)
{
	sector_t chunk = (sector_t)CHAIN_CHUNK_BLOCKS * CHAIN_UNIT_SECTORS;
	u32 i;

	if (limit >= base + chunk)
		return;
	i = limit <= base ? 0 : (limit - base) / CHAIN_UNIT_SECTORS;
	if (limit > base && limit % CHAIN_UNIT_SECTORS) {
		if (owners[i] != CHAIN_OWNER_ZERO)
			owners[i] = CHAIN_OWNER_WALK;
		i++;
	}
	for (; i < CHAIN_CHUNK_BLOCKS; i++)
		owners[i] = CHAIN_OWNER_ZERO;
}

static void overlay_raw(u16 *owners, const struct chain_att *att, sector_t base)
{
	u32 i;

	for (i = 0; i < CHAIN_CHUNK_BLOCKS; i++)
		owners[i] = att->slot;
	cut_at(owners, base, att->layer->size);
}

static u16 owner_for(const struct chain_att *att, unsigned int state)
{
	switch (state) {
	case DM_CHAIN_DATA:
		return att->slot;
	case DM_CHAIN_ZERO:
		return CHAIN_OWNER_ZERO;
	default:
		return CHAIN_OWNER_DAMAGED;
	}
}

static void overlay_chain(u16 *owners, const struct chain_att *att,
			  sector_t base)
{
	const struct chain_layer *l = att->layer;
	unsigned int shift = l->block_sectors_shift -
			     (CHAIN_UNIT_SHIFT - SECTOR_SHIFT);
	u32 i = 0, n;

	if (!READ_ONCE(l->lifted))
		cut_at(owners, base, l->limit);
	while (i < CHAIN_CHUNK_BLOCKS) {
		u64 unit = base / CHAIN_UNIT_SECTORS + i;
		u64 block = unit >> shift;
		unsigned int state;
		u64 run;

		if (block >= l->map.blocks)
			return;
		run = chain_statemap_run(&l->map, block,
					 min_t(u64, l->map.blocks - block,
					       CHAIN_CHUNK_BLOCKS), &state);
		run = (run << shift) - (unit & ((1U << shift) - 1));
		n = min_t(u64, run, CHAIN_CHUNK_BLOCKS - i);
		if (state != DM_CHAIN_ABSENT)
			memset16(owners + i, owner_for(att, state), n);
		i += n;
	}
}

static void overlay(u16 *owners, const struct chain_att *att, u64 chunk)
{
	sector_t base = (chunk << CHAIN_CHUNK_SHIFT) * CHAIN_UNIT_SECTORS;

	if (att->layer->format == DM_CHAIN_FORMAT_RAW)
		overlay_raw(owners, att, base);
	else
		overlay_chain(owners, att, base);
}

/* Its map there is read before; false: stopped, or no memory. */
static bool lay_over(struct chain_disk *disk, struct chain_att *att, u64 chunk)
{
	sector_t n = (sector_t)CHAIN_CHUNK_BLOCKS * CHAIN_UNIT_SECTORS;

	if (READ_ONCE(disk->stop) || chain_read_sectors(att, chunk * n, n))
		return false;
	overlay(disk->owners, att, chunk);
	return true;
}

/* From the bottom up; with the unmerged ones, which does no harm. */
static void build_chunk(struct chain_disk *disk, u64 chunk)
{
	struct chain_inst *ci = disk->live;
	unsigned int depth;

	memset16(disk->owners, CHAIN_OWNER_ZERO, CHAIN_CHUNK_BLOCKS);
	for (depth = ci->nr - 1; depth >= 1; depth--)
		if (!lay_over(disk, ci->order[depth], chunk))
			return;
	/* A failure leaves it unbuilt: slower, not wrong. */
	mutex_lock(&disk->merge_mutex);
	if (chain_merge_install(disk->merge, chunk, disk->owners, CHUNK_GFP) == -ENOSPC)
		WRITE_ONCE(disk->full, true);
	mutex_unlock(&disk->merge_mutex);
}

/* false: stopped, or no memory for its map. */
static bool merge_chunk(struct chain_disk *disk, struct chain_att *att, u64 chunk)
{
	bool done;

	lockdep_assert_held(&disk->merge_mutex);
	if (!chain_merge_built(disk->merge, chunk))
		return !READ_ONCE(disk->stop);
	chain_merge_expand(disk->merge, chunk, disk->owners);
	done = lay_over(disk, att, chunk);
	if (done && chain_merge_install(disk->merge, chunk, disk->owners, CHUNK_GFP))
		chain_merge_drop(disk->merge, chunk);
	return done;
}

/* Lay the deepest unmerged layer over all chunks; false if stopped. */
static bool merge_layer(struct chain_disk *disk, unsigned int depth)
{
	struct chain_att *att = disk->live->order[depth];
	u64 chunks = DIV_ROUND_UP_ULL(chain_top(disk->live)->layer->size,
				      (u64)CHAIN_CHUNK_BLOCKS * CHAIN_UNIT_SECTORS);
	bool done = true;
	u64 chunk;

	for (chunk = 0; chunk < chunks && done; chunk++) {
		mutex_lock(&disk->merge_mutex);
		done = merge_chunk(disk, att, chunk);
		mutex_unlock(&disk->merge_mutex);
		cond_resched();
	}
	if (!done)
		return false;
	/* Who sees it lowered sees the chunks. */
	smp_store_release(&disk->unmerged, depth - 1);
	return true;
}

/* What is next to be done, in this order; false: nothing, or stopped. */
static bool work_step(struct chain_disk *disk)
{
	u64 want = atomic64_xchg(&disk->want, 0);

	if (want) {
		build_chunk(disk, want - 1);
		return true;
	}
	if (disk->unmerged > disk->pinned)
		return merge_layer(disk, disk->unmerged);
	return READ_ONCE(disk->unread) && chain_read_more(disk);
}

void chain_merge_work(struct work_struct *work)
{
	struct chain_disk *disk = container_of(work, struct chain_disk,
					       merge_work);
	unsigned int noio = memalloc_noio_save();

	while (!READ_ONCE(disk->stop) && work_step(disk))
		cond_resched();
	memalloc_noio_restore(noio);
}

void chain_worker_stop(struct chain_disk *disk)
{
	WRITE_ONCE(disk->stop, true);
	cancel_work_sync(&disk->merge_work);
}

void chain_worker_start(struct chain_disk *disk)
{
	WRITE_ONCE(disk->stop, false);
	/* What was wanted when it was stopped would keep others from being so. */
	if (disk->unmerged > disk->pinned || disk->unread || atomic64_read(&disk->want))
		queue_work(disk->wq, &disk->merge_work);
}
