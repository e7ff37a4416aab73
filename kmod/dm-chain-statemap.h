/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * State map of a layer in memory: 2 bits a block.
 *
 * A directory with an entry for every 16384 blocks: a state, if all of them
 * have the same, or a page of states. Lookups take no lock. States change by
 * compare-and-exchange, from any context; an entry that is to change in part
 * needs its page first (chain_statemap_prepare(), may fail). Pages go with the
 * map, so no reader ever holds one that is freed.
 */
#ifndef DM_CHAIN_STATEMAP_H
#define DM_CHAIN_STATEMAP_H

#include <linux/gfp.h>
#include "dm-chain-format.h"

#define CHAIN_PAGE_SHIFT	14
#define CHAIN_PAGE_BLOCKS	16384U	/* 1 << CHAIN_PAGE_SHIFT */
#define CHAIN_PAGE_WORDS	(CHAIN_PAGE_BLOCKS / CHAIN_STATES_PER_WORD)

/**
 * struct chain_statemap - states of @blocks blocks
 * @blocks: blocks there are; lookups beyond are the caller's bug
 * @nr: entries of @dir
 * @dir: per 16384 blocks a state (a value below 4) or a page of u64 words
 * @pages: pages allocated
 */
struct chain_statemap {
	u64 blocks;
	u64 nr;
	unsigned long *dir;
	atomic64_t pages;
};

/**
 * chain_statemap_init() - all absent
 * @m: map, zeroed
 * @blocks: of the layer
 *
 * Context: may sleep.
 * Return: 0 or -ENOMEM.
 */
int chain_statemap_init(struct chain_statemap *m, u64 blocks);

/**
 * chain_statemap_exit() - free it; nobody may look any more
 * @m: map
 */
void chain_statemap_exit(struct chain_statemap *m);

/**
 * chain_statemap_grow() - make room for more blocks, absent
 * @m: map
 * @blocks: new number, not smaller
 * @dir: from chain_statemap_grow_alloc() for the same @blocks
 *
 * Context: no lookups or changes at the same time (the disk is suspended).
 */
void chain_statemap_grow(struct chain_statemap *m, u64 blocks, unsigned long *dir);

/**
 * chain_statemap_grow_alloc() - a directory for so many blocks
 * @blocks: number
 *
 * Return: it, to be freed by kvfree() if it isn't used, or NULL.
 */
unsigned long *chain_statemap_grow_alloc(u64 blocks);

/**
 * chain_statemap_load() - take over groups that were read from disk
 * @m: map
 * @group: the first one
 * @n: groups, all in the entry of that one
 * @words: of the whole entry, CHAIN_PAGE_WORDS; zero but for the groups. States beyond
 *	the end are cleared in them
 *
 * Context: the groups' blocks are absent, and nobody looks at them or changes them;
 * others may be in use. May sleep.
 * Return: 0 or -ENOMEM.
 */
int chain_statemap_load(struct chain_statemap *m, u64 group, u64 n, u64 *words);

/**
 * chain_statemap_read_group() - copy a group's states
 * @m: map
 * @group: index
 * @words: CHAIN_GROUP_WORDS; blocks beyond the end are absent
 *
 * Each word is of one instant; the group as a whole isn't.
 */
void chain_statemap_read_group(const struct chain_statemap *m, u64 group,
			       u64 *words);

/**
 * chain_statemap_read_sector() - the same of what a sector of the map on disk has
 * @m: map
 * @sector: index
 * @words: CHAIN_SECTOR_WORDS
 */
void chain_statemap_read_sector(const struct chain_statemap *m, u64 sector,
				u64 *words);

/**
 * chain_statemap_prepare() - let chain_statemap_set() of a range work
 * @m: map
 * @block: first
 * @n: blocks
 * @state: that the range will get
 * @gfp: of the pages
 *
 * Context: as @gfp says.
 * Return: 0 or -ENOMEM.
 */
int chain_statemap_prepare(struct chain_statemap *m, u64 block, u64 n,
			   unsigned int state, gfp_t gfp);

/**
 * chain_statemap_set() - change the state of a range that was prepared
 * @m: map
 * @block: first
 * @n: blocks
 * @state: new one
 *
 * A damaged block stays damaged. Context: any. Ordering: what was written
 * before is seen by who sees the new state.
 */
void chain_statemap_set(struct chain_statemap *m, u64 block, u64 n,
			unsigned int state);

/**
 * chain_statemap_run() - how many blocks from @block on share its state
 * @m: map
 * @block: first
 * @max: look no further; at least 1
 * @state: set to that state
 *
 * Return: 1 to @max.
 */
u64 chain_statemap_run(const struct chain_statemap *m, u64 block, u64 max,
		       unsigned int *state);

/**
 * chain_statemap_damaged() - is the state of any block in a range lost
 * @m: map
 * @block: first
 * @n: blocks; may be 0
 *
 * Return: true if so.
 */
bool chain_statemap_damaged(const struct chain_statemap *m, u64 block, u64 n);

/**
 * chain_statemap_count() - blocks per state
 * @m: map
 * @count: 4 numbers, indexed by enum dm_chain_state
 */
void chain_statemap_count(const struct chain_statemap *m, u64 *count);

/**
 * chain_statemap_bytes() - memory it takes
 * @m: map
 */
size_t chain_statemap_bytes(const struct chain_statemap *m);

static inline bool chain_dir_is_state(unsigned long entry)
{
	return entry < 4;
}

/**
 * chain_statemap_get() - state of a block; any context, no lock
 * @m: map
 * @block: number, below @m->blocks
 */
static inline unsigned int chain_statemap_get(const struct chain_statemap *m,
					      u64 block)
{
	unsigned long e = READ_ONCE(m->dir[block >> CHAIN_PAGE_SHIFT]);
	const u64 *page;
	u32 i = block & (CHAIN_PAGE_BLOCKS - 1);

	if (chain_dir_is_state(e))
		return e;
	page = (const u64 *)e;
	return (READ_ONCE(page[i / CHAIN_STATES_PER_WORD]) >>
		(2 * (i % CHAIN_STATES_PER_WORD))) & 3;
}

#endif
