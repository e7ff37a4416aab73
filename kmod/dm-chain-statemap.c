// SPDX-License-Identifier: GPL-2.0-only
/*
 * State map of a layer in memory. Owned by its layer object; pure: it knows
 * neither devices nor which changes are due on disk.
 *
 * Locking: none. A word changes by try_cmpxchg(), a directory entry turns from
 * a state into a page by cmpxchg() and never back while the map is shared.
 */
#include <linux/bitops.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "dm-chain-statemap.h"

#define GROUPS_PER_PAGE	(CHAIN_PAGE_BLOCKS / DM_CHAIN_GROUP_BLOCKS)

static_assert(GROUPS_PER_PAGE * CHAIN_GROUP_WORDS == CHAIN_PAGE_WORDS);

/* A word with all 32 states the same. */
static u64 state_word(unsigned int state)
{
	return state * 0x5555555555555555ULL;
}

static u64 dir_entries(u64 blocks)
{
	return (blocks + CHAIN_PAGE_BLOCKS - 1) >> CHAIN_PAGE_SHIFT;
}

unsigned long *chain_statemap_grow_alloc(u64 blocks)
{
	return kvcalloc(dir_entries(blocks), sizeof(unsigned long), GFP_KERNEL);
}

int chain_statemap_init(struct chain_statemap *m, u64 blocks)
{
	m->dir = chain_statemap_grow_alloc(blocks);
	if (!m->dir)
		return -ENOMEM;
	m->blocks = blocks;
	m->nr = dir_entries(blocks);
	atomic64_set(&m->pages, 0);
	return 0;
}

void chain_statemap_exit(struct chain_statemap *m)
{
	u64 i;

	for (i = 0; m->dir && i < m->nr; i++)
		if (!chain_dir_is_state(m->dir[i]))
			free_page(m->dir[i]);
	kvfree(m->dir);
	m->dir = NULL;
}

void chain_statemap_grow(struct chain_statemap *m, u64 blocks,
			 unsigned long *dir)
{
	memcpy(dir, m->dir, m->nr * sizeof(*dir));
	kvfree(m->dir);
	m->dir = dir;
	m->blocks = blocks;
	m->nr = dir_entries(blocks);
}

/* Turn an entry that is a state into a page full of it. */
static int make_page(struct chain_statemap *m, u64 entry, gfp_t gfp)
{
	unsigned long old = READ_ONCE(m->dir[entry]);
	u64 *page;

	if (!chain_dir_is_state(old))
		return 0;
	page = (u64 *)__get_free_page(gfp);
	if (!page)
		return -ENOMEM;
	/*
	 * The entry may go from one state to another beside us (a discard of
	 * all its blocks): start again with what it is then.
	 */
	do {
		memset64(page, state_word(old), CHAIN_PAGE_WORDS);
		if (try_cmpxchg(&m->dir[entry], &old, (unsigned long)page)) {
			atomic64_inc(&m->pages);
			return 0;
		}
	} while (chain_dir_is_state(old));
	free_page((unsigned long)page);
	return 0;
}

/* The part of [block, block + n) in the entry of @block. */
static u64 part_in_entry(u64 block, u64 n)
{
	return min_t(u64, n, CHAIN_PAGE_BLOCKS -
			     (block & (CHAIN_PAGE_BLOCKS - 1)));
}

/*
 * Is the part all of its entry? A last entry that is not full never is: what
 * lies beyond the end must stay absent when the layer grows.
 */
static bool whole_entry(u64 part)
{
	return part == CHAIN_PAGE_BLOCKS;
}

int chain_statemap_prepare(struct chain_statemap *m, u64 block, u64 n,
			   unsigned int state, gfp_t gfp)
{
	while (n) {
		u64 part = part_in_entry(block, n);
		u64 entry = block >> CHAIN_PAGE_SHIFT;
		int r;

		if (!whole_entry(part) &&
		    READ_ONCE(m->dir[entry]) != state) {
			r = make_page(m, entry, gfp);
			if (r)
				return r;
		}
		block += part;
		n -= part;
	}
	return 0;
}

/* A mask with both bits of each damaged state of a word. */
static u64 damaged_mask(u64 word)
{
	u64 both = word & (word >> 1) & 0x5555555555555555ULL;

	return both | (both << 1);
}

static void set_in_word(u64 *word, u64 mask, u64 pattern)
{
	u64 old = READ_ONCE(*word);
	u64 m;

	do {
		m = mask & ~damaged_mask(old);
	} while (!try_cmpxchg(word, &old, (old & ~m) | (pattern & m)));
}

static void set_in_page(u64 *page, u32 first, u32 n, unsigned int state)
{
	u64 pattern = state_word(state);

	while (n) {
		u32 at = first % CHAIN_STATES_PER_WORD;
		u32 part = min_t(u32, n, CHAIN_STATES_PER_WORD - at);
		u64 mask = part == CHAIN_STATES_PER_WORD ? ~0ULL :
			   ((1ULL << (2 * part)) - 1) << (2 * at);

		set_in_word(&page[first / CHAIN_STATES_PER_WORD], mask, pattern);
		first += part;
		n -= part;
	}
}

/* Change an entry's part: as a whole if it is a state, else in its page. */
static void set_in_entry(struct chain_statemap *m, u64 block, u64 part,
			 unsigned int state)
{
	u64 entry = block >> CHAIN_PAGE_SHIFT;
	unsigned long e = READ_ONCE(m->dir[entry]);

	while (chain_dir_is_state(e)) {
		if (e == state || e == DM_CHAIN_DAMAGED ||
		    WARN_ON_ONCE(!whole_entry(part)) ||
		    try_cmpxchg(&m->dir[entry], &e, (unsigned long)state))
			return;
	}
	set_in_page((u64 *)e, block & (CHAIN_PAGE_BLOCKS - 1), part, state);
}

void chain_statemap_set(struct chain_statemap *m, u64 block, u64 n,
			unsigned int state)
{
	while (n) {
		u64 part = part_in_entry(block, n);

		set_in_entry(m, block, part, state);
		block += part;
		n -= part;
	}
}

/* Blocks from @i on in a page that have @state; @max is within the page. */
static u32 run_in_page(const u64 *page, u32 i, u32 max, unsigned int state)
{
	u64 pattern = state_word(state);
	u32 run = 0;

	while (run < max) {
		u32 at = (i + run) % CHAIN_STATES_PER_WORD;
		u64 w = READ_ONCE(page[(i + run) / CHAIN_STATES_PER_WORD]);
		u64 differ = (w ^ pattern) >> (2 * at);

		if (differ)
			return min_t(u32, max, run + __ffs64(differ) / 2);
		run += CHAIN_STATES_PER_WORD - at;
	}
	return max;
}

u64 chain_statemap_run(const struct chain_statemap *m, u64 block, u64 max,
		       unsigned int *state)
{
	unsigned int s = chain_statemap_get(m, block);
	u64 run = 0;

	*state = s;
	while (run < max) {
		u64 part = part_in_entry(block + run, max - run);
		u64 entry = (block + run) >> CHAIN_PAGE_SHIFT;
		unsigned long e = READ_ONCE(m->dir[entry]);
		u64 here = part;

		if (chain_dir_is_state(e))
			here = e == s ? part : 0;
		else
			here = run_in_page((const u64 *)e,
					   (block + run) & (CHAIN_PAGE_BLOCKS - 1),
					   part, s);
		run += here;
		if (here < part)
			break;
	}
	/* A change between the two looks at the first block: it was s once. */
	return max_t(u64, run, 1);
}

bool chain_statemap_damaged(const struct chain_statemap *m, u64 block, u64 n)
{
	unsigned int state;
	u64 run;

	for (; n; block += run, n -= run) {
		run = chain_statemap_run(m, block, n, &state);
		if (state == DM_CHAIN_DAMAGED)
			return true;
	}
	return false;
}

/* Clear the states of @n blocks from @first on that lie beyond the last block. */
static void cut_tail(u64 blocks, u64 first, u64 n, u64 *words)
{
	u64 i;

	for (i = blocks > first ? blocks - first : 0; i < n; i++)
		chain_state_put(words, i, DM_CHAIN_ABSENT);
}

/* Have all blocks of an entry that is full the same state? */
static bool uniform(const struct chain_statemap *m, u64 entry, const u64 *words)
{
	return (entry + 1) << CHAIN_PAGE_SHIFT <= m->blocks &&
	       words[0] == state_word(words[0] & 3) &&
	       !memcmp(words, words + 1, PAGE_SIZE - sizeof(*words));
}

int chain_statemap_load(struct chain_statemap *m, u64 group, u64 n, u64 *words)
{
	u64 entry = group / GROUPS_PER_PAGE;
	u64 *part = words + group % GROUPS_PER_PAGE * CHAIN_GROUP_WORDS;
	size_t bytes = n * CHAIN_GROUP_WORDS * sizeof(*words);
	unsigned long absent = DM_CHAIN_ABSENT;
	int r;

	cut_tail(m->blocks, entry << CHAIN_PAGE_SHIFT, CHAIN_PAGE_BLOCKS, words);
	if (!memchr_inv(part, 0, bytes))
		return 0;
	if (n == GROUPS_PER_PAGE && uniform(m, entry, words) &&
	    try_cmpxchg(&m->dir[entry], &absent, (unsigned long)(words[0] & 3)))
		return 0;
	r = make_page(m, entry, GFP_KERNEL);
	if (r)
		return r;
	/* Nobody looks at these words yet; others of the page may change beside us. */
	memcpy((u64 *)m->dir[entry] + (part - words), part, bytes);
	return 0;
}

/* They lie in one page. */
static void read_states(const struct chain_statemap *m, u64 block, u64 n, u64 *words)
{
	unsigned long e = READ_ONCE(m->dir[block >> CHAIN_PAGE_SHIFT]);
	const u64 *from = (u64 *)e + (block & (CHAIN_PAGE_BLOCKS - 1)) /
				     CHAIN_STATES_PER_WORD;
	u64 i, nr = n / CHAIN_STATES_PER_WORD;

	if (chain_dir_is_state(e)) {
		memset64(words, state_word(e), nr);
	} else {
		for (i = 0; i < nr; i++)
			words[i] = READ_ONCE(from[i]);
	}
	cut_tail(m->blocks, block, n, words);
}

void chain_statemap_read_group(const struct chain_statemap *m, u64 group,
			       u64 *words)
{
	read_states(m, group * DM_CHAIN_GROUP_BLOCKS, DM_CHAIN_GROUP_BLOCKS, words);
}

void chain_statemap_read_sector(const struct chain_statemap *m, u64 sector,
				u64 *words)
{
	read_states(m, sector * DM_CHAIN_SECTOR_BLOCKS, DM_CHAIN_SECTOR_BLOCKS, words);
}

static void count_page(const u64 *page, u64 blocks, u64 *count)
{
	u64 low, high, i;

	for (i = 0; i < blocks; i += CHAIN_STATES_PER_WORD) {
		u64 w = READ_ONCE(page[i / CHAIN_STATES_PER_WORD]);
		u64 n = min_t(u64, blocks - i, CHAIN_STATES_PER_WORD);
		u64 mask = n == CHAIN_STATES_PER_WORD ? ~0ULL : (1ULL << 2 * n) - 1;

		low = w & mask & 0x5555555555555555ULL;
		high = (w & mask) >> 1 & 0x5555555555555555ULL;
		count[DM_CHAIN_DATA] += hweight64(low & ~high);
		count[DM_CHAIN_ZERO] += hweight64(high & ~low);
		count[DM_CHAIN_DAMAGED] += hweight64(high & low);
		count[DM_CHAIN_ABSENT] += n - hweight64(high | low);
	}
}

void chain_statemap_count(const struct chain_statemap *m, u64 *count)
{
	u64 i;

	memset(count, 0, 4 * sizeof(*count));
	for (i = 0; i < m->nr; i++) {
		unsigned long e = READ_ONCE(m->dir[i]);
		u64 blocks = min_t(u64, CHAIN_PAGE_BLOCKS,
				   m->blocks - (i << CHAIN_PAGE_SHIFT));

		if (chain_dir_is_state(e))
			count[e] += blocks;
		else
			count_page((const u64 *)e, blocks, count);
		if (!(i % 64))
			cond_resched();
	}
}

size_t chain_statemap_bytes(const struct chain_statemap *m)
{
	return m->nr * sizeof(*m->dir) + atomic64_read(&m->pages) * PAGE_SIZE;
}

CHAIN_EXPORT_FOR_KUNIT(chain_statemap_grow_alloc);
CHAIN_EXPORT_FOR_KUNIT(chain_statemap_init);
CHAIN_EXPORT_FOR_KUNIT(chain_statemap_exit);
CHAIN_EXPORT_FOR_KUNIT(chain_statemap_grow);
CHAIN_EXPORT_FOR_KUNIT(chain_statemap_prepare);
CHAIN_EXPORT_FOR_KUNIT(chain_statemap_set);
CHAIN_EXPORT_FOR_KUNIT(chain_statemap_run);
CHAIN_EXPORT_FOR_KUNIT(chain_statemap_load);
CHAIN_EXPORT_FOR_KUNIT(chain_statemap_read_group);
CHAIN_EXPORT_FOR_KUNIT(chain_statemap_read_sector);
CHAIN_EXPORT_FOR_KUNIT(chain_statemap_count);
CHAIN_EXPORT_FOR_KUNIT(chain_statemap_bytes);
