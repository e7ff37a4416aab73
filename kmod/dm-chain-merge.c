// SPDX-License-Identifier: GPL-2.0-only
/*
 * Merged lookup: block -> owning slot, at the same cost for any depth.
 *
 * A chunk is 2048 blocks. Each has one word: NULL (unbuilt) or a pointer whose
 * two low bits tell what it is:
 *
 *	owner	all blocks have the owner in the word itself
 *	runs	struct chain_runs, sorted, when they are few
 *	ranks	struct chain_ranks, up to 1 KiB: which block begins a run, by which the
 *		run of another is counted
 *	page	CHAIN_CHUNK_BLOCKS u16 owners, when ranks would take more
 *
 * Words live in leaves of 512 (a page), allocated when first needed and kept
 * until the lookup goes: 1 MiB for a TiB of 4 KiB blocks that were looked at.
 *
 * Locking: what a word points to never changes. A writer makes a new one,
 * publishes it in the word, and leaves the old one to RCU; readers are RCU's of
 * either kind, and hold nothing else. Writers are serialized by the caller,
 * which also owns the other fields; @bytes and @nr_parts alone are read without that.
 */
#include "dm-chain-merge.h"
#include <linux/dm-chain-format.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>

#define LEAF_SHIFT	9
#define LEAF_WORDS	512U

#define TAG_RANKS	0UL		/* or NULL */
#define TAG_OWNER	1UL
#define TAG_RUNS	2UL
#define TAG_PAGE	3UL
#define TAG_MASK	3UL
#define TAG_BITS	2

struct chain_run {
	u16 start;
	u16 owner;
};

/* @run[0] starts at 0; @run[@nr] ends the last one, so that all have an end. */
struct chain_runs {
	struct rcu_head rcu;
	u32 nr;
	struct chain_run run[];
};

#define RUNS_FEW	32U

/*
 * @starts has a bit for each block of the chunk, @before the number of those that are
 * set in the words before: counting the rest in a block's own word gives its run.
 */
struct chain_ranks {
	struct rcu_head rcu;
	u32 nr;
	u64 starts[CHAIN_CHUNK_BLOCKS / 64];
	u16 before[CHAIN_CHUNK_BLOCKS / 64];
	u16 owner[];
};

#define RANKS_MAX	((1024 - offsetof(struct chain_ranks, owner)) / sizeof(u16))

struct chain_leaf {
	void __rcu *word[LEAF_WORDS];
};

struct chain_merge {
	u64 blocks;
	u64 chunks;
	size_t bytes;
	size_t cap;
	unsigned long nr_parts;
	u64 hand;
	size_t nr_leaves;
	struct chain_leaf __rcu *leaf[];
};

static_assert(CHAIN_CHUNK_BLOCKS * sizeof(u16) <= PAGE_SIZE);
static_assert(RUNS_FEW < RANKS_MAX);

static unsigned long tag_of(const void *word)
{
	return (unsigned long)word & TAG_MASK;
}

static void *untag(const void *word)
{
	return (void *)((unsigned long)word & ~TAG_MASK);
}

static void *tagged(const void *p, unsigned long tag)
{
	return (void *)((unsigned long)p | tag);
}

static void *owner_word(u16 owner)
{
	return (void *)((unsigned long)owner << TAG_BITS | TAG_OWNER);
}

static u16 word_owner(const void *word)
{
	return (unsigned long)word >> TAG_BITS;
}

struct chain_merge *chain_merge_create(u64 blocks, gfp_t gfp)
{
	u64 chunks = DIV_ROUND_UP_ULL(blocks, CHAIN_CHUNK_BLOCKS);
	size_t leaves = DIV_ROUND_UP_ULL(chunks, LEAF_WORDS);
	struct chain_merge *m;

	m = kvzalloc(struct_size(m, leaf, leaves), gfp);
	if (!m)
		return NULL;
	m->blocks = blocks;
	m->chunks = chunks;
	m->nr_leaves = leaves;
	m->bytes = struct_size(m, leaf, leaves);
	return m;
}

static void free_word(void *word)
{
	if (tag_of(word) == TAG_RUNS || tag_of(word) == TAG_RANKS)
		kfree(untag(word));
	else if (tag_of(word) == TAG_PAGE)
		free_page((unsigned long)untag(word));
}

void chain_merge_destroy(struct chain_merge *m)
{
	struct chain_leaf *leaf;
	unsigned int w;
	size_t i;

	if (!m)
		return;
	for (i = 0; i < m->nr_leaves; i++) {
		leaf = rcu_dereference_protected(m->leaf[i], true);
		if (!leaf)
			continue;
		for (w = 0; w < LEAF_WORDS; w++)
			free_word(rcu_dereference_protected(leaf->word[w], true));
		kfree(leaf);
		cond_resched();
	}
	kvfree(m);
}

void chain_merge_set_cap(struct chain_merge *m, size_t bytes)
{
	m->cap = bytes;
}

size_t chain_merge_bytes(const struct chain_merge *m)
{
	return READ_ONCE(m->bytes);
}

unsigned long chain_merge_parts(const struct chain_merge *m)
{
	return READ_ONCE(m->nr_parts);
}

/* Under rcu_read_lock() or rcu_read_lock_sched(). */
static const void *read_word(const struct chain_merge *m, u64 chunk)
{
	const struct chain_leaf *leaf;

	if (unlikely(chunk >= m->chunks))
		return NULL;
	leaf = rcu_dereference_check(m->leaf[chunk >> LEAF_SHIFT],
				     rcu_read_lock_sched_held());
	if (unlikely(!leaf))
		return NULL;
	return rcu_dereference_check(leaf->word[chunk % LEAF_WORDS],
				     rcu_read_lock_sched_held());
}

static const struct chain_run *find_run(const struct chain_runs *runs, u32 at)
{
	const struct chain_run *run = runs->run;
	u32 n = runs->nr;

	while (n > 1) {
		u32 half = n / 2;

		if (run[half].start <= at)
			run += half;
		n -= half;
	}
	return run;
}

static u16 rank_owner(const struct chain_ranks *ranks, u32 at)
{
	u64 mine = ranks->starts[at / 64] & (~0ULL >> (63 - at % 64));

	return ranks->owner[ranks->before[at / 64] + hweight64(mine) - 1];
}

static u32 rank_run(const struct chain_ranks *ranks, u32 at)
{
	return find_next_bit((const unsigned long *)ranks->starts, CHAIN_CHUNK_BLOCKS,
			     at + 1) - at;
}

static u32 page_run(const u16 *owners, u32 at, u32 max)
{
	u32 end = at + min(max, CHAIN_CHUNK_BLOCKS - at);
	u32 i = at + 1;

	while (i < end && owners[i] == owners[at])
		i++;
	return i - at;
}

static u16 word_lookup(const void *word, u32 at, u32 max, u32 *run)
{
	const struct chain_run *r;
	const u16 *owners;

	switch (tag_of(word)) {
	case TAG_OWNER:
		*run = CHAIN_CHUNK_BLOCKS - at;
		return word_owner(word);
	case TAG_RUNS:
		r = find_run(untag(word), at);
		*run = r[1].start - at;
		return r->owner;
	case TAG_PAGE:
		owners = untag(word);
		*run = page_run(owners, at, max);
		return owners[at];
	}
	if (word) {
		*run = rank_run(word, at);
		return rank_owner(word, at);
	}
	*run = CHAIN_CHUNK_BLOCKS - at;
	return CHAIN_OWNER_WALK;
}

/* The shorter kind of reader: what is freed waits for it as for the other. */
u16 chain_merge_owner(const struct chain_merge *m, u64 block)
{
	u32 at = block % CHAIN_CHUNK_BLOCKS;
	const void *word;
	u16 owner;

	rcu_read_lock_sched();
	word = read_word(m, block >> CHAIN_CHUNK_SHIFT);
	if (tag_of(word) == TAG_PAGE)
		owner = ((const u16 *)untag(word))[at];
	else if (tag_of(word) == TAG_RUNS)
		owner = find_run(untag(word), at)->owner;
	else if (tag_of(word) == TAG_OWNER)
		owner = word_owner(word);
	else
		owner = word ? rank_owner(word, at) : CHAIN_OWNER_WALK;
	rcu_read_unlock_sched();
	return owner;
}

u16 chain_merge_lookup(const struct chain_merge *m, u64 block, u32 max,
		       u32 *run)
{
	u16 owner;
	u32 len;

	rcu_read_lock();
	owner = word_lookup(read_word(m, block >> CHAIN_CHUNK_SHIFT),
			    block % CHAIN_CHUNK_BLOCKS, max, &len);
	rcu_read_unlock();
	*run = min(len, max);
	return owner;
}

bool chain_merge_built(const struct chain_merge *m, u64 chunk)
{
	bool built;

	rcu_read_lock();
	built = read_word(m, chunk);
	rcu_read_unlock();
	return built;
}

void chain_merge_expand(const struct chain_merge *m, u64 chunk, u16 *owners)
{
	const void *word;
	u32 at, run;

	rcu_read_lock();
	word = read_word(m, chunk);
	for (at = 0; at < CHAIN_CHUNK_BLOCKS; at += run) {
		u16 owner = word_lookup(word, at, CHAIN_CHUNK_BLOCKS, &run);

		memset16(owners + at, owner, run);
	}
	rcu_read_unlock();
}

/*
 * Writers. A new content is measured first: the cap is known to hold before
 * anything is allocated.
 */

/* What is past the end of the disk is nobody's: it isn't the last owner's. */
static u16 owner_at(const u16 *owners, u32 n, u32 at)
{
	return at < n ? owners[at] : CHAIN_OWNER_WALK;
}

/* Runs in @owners; counting stops when they are too many for less than a page. */
static u32 count_runs(const u16 *owners, u32 n)
{
	bool tail = n < CHAIN_CHUNK_BLOCKS && owners[n - 1] != CHAIN_OWNER_WALK;
	u32 i, nr = 1 + tail;

	for (i = 1; i < n && nr <= RANKS_MAX; i++)
		nr += owners[i] != owners[i - 1];
	return nr;
}

static size_t content_bytes(u32 nr)
{
	if (nr == 1)
		return 0;
	if (nr <= RUNS_FEW)
		return kmalloc_size_roundup(offsetof(struct chain_runs, run[nr + 1]));
	if (nr <= RANKS_MAX)
		return kmalloc_size_roundup(offsetof(struct chain_ranks, owner[nr]));
	return PAGE_SIZE;
}

static size_t word_bytes(const void *word)
{
	switch (tag_of(word)) {
	case TAG_RUNS:
		return content_bytes(((const struct chain_runs *)untag(word))->nr);
	case TAG_PAGE:
		return PAGE_SIZE;
	case TAG_OWNER:
		return 0;
	}
	return word ? content_bytes(((const struct chain_ranks *)word)->nr) : 0;
}

/* Does a run begin at @at? */
static bool begins(const u16 *owners, u32 n, u32 at)
{
	return !at || owner_at(owners, n, at) != owner_at(owners, n, at - 1);
}

static void *make_runs(const u16 *owners, u32 n, u32 nr, gfp_t gfp)
{
	struct chain_runs *runs = kmalloc(content_bytes(nr), gfp);
	u32 at, r = 0;

	if (!runs)
		return NULL;
	for (at = 0; at < CHAIN_CHUNK_BLOCKS && r < nr; at++) {
		if (!begins(owners, n, at))
			continue;
		runs->run[r].start = at;
		runs->run[r++].owner = owner_at(owners, n, at);
	}
	runs->run[nr].start = CHAIN_CHUNK_BLOCKS;
	runs->run[nr].owner = CHAIN_OWNER_WALK;
	runs->nr = nr;
	return tagged(runs, TAG_RUNS);
}

static void *make_ranks(const u16 *owners, u32 n, u32 nr, gfp_t gfp)
{
	struct chain_ranks *ranks = kzalloc(content_bytes(nr), gfp);
	u32 at, r = 0;

	if (!ranks)
		return NULL;
	for (at = 0; at < CHAIN_CHUNK_BLOCKS; at++) {
		if (at % 64 == 0)
			ranks->before[at / 64] = r;
		if (!begins(owners, n, at))
			continue;
		ranks->starts[at / 64] |= 1ULL << (at % 64);
		ranks->owner[r++] = owner_at(owners, n, at);
	}
	ranks->nr = nr;
	return ranks;
}

static void *make_page(const u16 *owners, u32 n, gfp_t gfp)
{
	/* The page as such, since its struct has room for the rcu_head. */
	u16 *page = (u16 *)__get_free_page(gfp);

	if (!page)
		return NULL;
	memcpy(page, owners, n * sizeof(*page));
	memset16(page + n, CHAIN_OWNER_WALK, CHAIN_CHUNK_BLOCKS - n);
	return tagged(page, TAG_PAGE);
}

static void *make_word(const u16 *owners, u32 n, u32 nr, gfp_t gfp)
{
	if (nr == 1)
		return owner_word(owners[0]);
	if (nr <= RUNS_FEW)
		return make_runs(owners, n, nr, gfp);
	if (nr <= RANKS_MAX)
		return make_ranks(owners, n, nr, gfp);
	return make_page(owners, n, gfp);
}

static void free_page_rcu(struct rcu_head *head)
{
	__free_page(container_of(head, struct page, rcu_head));
}

static void retire_word(void *word)
{
	struct chain_ranks *ranks = word;
	struct chain_runs *runs;

	if (tag_of(word) == TAG_RUNS) {
		runs = untag(word);
		kfree_rcu(runs, rcu);
	} else if (tag_of(word) == TAG_PAGE) {
		call_rcu(&virt_to_page(untag(word))->rcu_head, free_page_rcu);
	} else if (tag_of(word) == TAG_RANKS && ranks) {
		kfree_rcu(ranks, rcu);
	}
}

static struct chain_leaf *writer_leaf(struct chain_merge *m, u64 chunk)
{
	return rcu_dereference_protected(m->leaf[chunk >> LEAF_SHIFT], true);
}

static void *writer_word(struct chain_merge *m, u64 chunk)
{
	struct chain_leaf *leaf = writer_leaf(m, chunk);

	if (!leaf)
		return NULL;
	return rcu_dereference_protected(leaf->word[chunk % LEAF_WORDS], true);
}

static void account(struct chain_merge *m, size_t more, size_t less)
{
	WRITE_ONCE(m->bytes, m->bytes + more - less);
}

/* What a chunk's word points to goes from @less bytes to @more; 0: to nothing. */
static void account_part(struct chain_merge *m, size_t more, size_t less)
{
	account(m, more, less);
	WRITE_ONCE(m->nr_parts, m->nr_parts + !!more - !!less);
}

static struct chain_leaf *get_leaf(struct chain_merge *m, u64 chunk, gfp_t gfp)
{
	struct chain_leaf *leaf = writer_leaf(m, chunk);

	if (leaf)
		return leaf;
	leaf = kzalloc(sizeof(*leaf), gfp);
	if (!leaf)
		return NULL;
	rcu_assign_pointer(m->leaf[chunk >> LEAF_SHIFT], leaf);
	account(m, sizeof(*leaf), 0);
	return leaf;
}

static bool over_cap(struct chain_merge *m, u64 chunk, size_t more, size_t less)
{
	if (!writer_leaf(m, chunk))
		more += sizeof(struct chain_leaf);
	return m->cap && more > less && m->bytes + more - less > m->cap;
}

int chain_merge_install(struct chain_merge *m, u64 chunk, const u16 *owners,
			gfp_t gfp)
{
	struct chain_leaf *leaf;
	void *old, *new;
	u32 n, nr;

	if (WARN_ON_ONCE(chunk >= m->chunks))
		return -EINVAL;
	n = min_t(u64, m->blocks - (chunk << CHAIN_CHUNK_SHIFT),
		  CHAIN_CHUNK_BLOCKS);
	nr = count_runs(owners, n);
	old = writer_word(m, chunk);
	if (over_cap(m, chunk, content_bytes(nr), word_bytes(old)))
		return -ENOSPC;
	leaf = get_leaf(m, chunk, gfp);
	if (!leaf)
		return -ENOMEM;
	new = make_word(owners, n, nr, gfp);
	if (!new)
		return -ENOMEM;
	account_part(m, content_bytes(nr), word_bytes(old));
	rcu_assign_pointer(leaf->word[chunk % LEAF_WORDS], new);
	retire_word(old);
	return 0;
}

void chain_merge_drop(struct chain_merge *m, u64 chunk)
{
	void *old;

	if (WARN_ON_ONCE(chunk >= m->chunks))
		return;
	old = writer_word(m, chunk);
	if (!old)
		return;
	account_part(m, 0, word_bytes(old));
	RCU_INIT_POINTER(writer_leaf(m, chunk)->word[chunk % LEAF_WORDS], NULL);
	retire_word(old);
}

/* The next chunk, from the hand on, that takes memory of its own. */
static bool find_part(struct chain_merge *m)
{
	u64 seen;

	for (seen = 0; seen < m->chunks + LEAF_WORDS; seen++, m->hand++) {
		if (m->hand >= m->chunks)
			m->hand = 0;
		if (!writer_leaf(m, m->hand)) {
			seen += LEAF_WORDS - 1 - m->hand % LEAF_WORDS;
			m->hand |= LEAF_WORDS - 1;
			continue;
		}
		if (word_bytes(writer_word(m, m->hand)))
			return true;
	}
	return false;
}

unsigned long chain_merge_shrink(struct chain_merge *m, unsigned long nr)
{
	unsigned long n;

	for (n = 0; n < nr && m->nr_parts && find_part(m); n++)
		chain_merge_drop(m, m->hand);
	return n;
}

static void overlay_word(u16 *owners, u64 word, u16 slot, u32 n)
{
	const u16 owner[] = {
		[DM_CHAIN_DATA] = slot,
		[DM_CHAIN_ZERO] = CHAIN_OWNER_ZERO,
		[DM_CHAIN_DAMAGED] = CHAIN_OWNER_DAMAGED,
	};
	u32 i;

	for (i = 0; word && i < n; i++, word >>= 2)
		if ((word & 3) != DM_CHAIN_ABSENT)
			owners[i] = owner[word & 3];
}

void chain_merge_overlay(u16 *owners, const u64 *states, u16 slot, u32 n)
{
	u32 i;

	for (i = 0; i < n; i += 32)
		overlay_word(owners + i, states[i / 32], slot, min(n - i, 32U));
}

CHAIN_EXPORT_FOR_KUNIT(chain_merge_create);
CHAIN_EXPORT_FOR_KUNIT(chain_merge_destroy);
CHAIN_EXPORT_FOR_KUNIT(chain_merge_set_cap);
CHAIN_EXPORT_FOR_KUNIT(chain_merge_bytes);
CHAIN_EXPORT_FOR_KUNIT(chain_merge_owner);
CHAIN_EXPORT_FOR_KUNIT(chain_merge_lookup);
CHAIN_EXPORT_FOR_KUNIT(chain_merge_built);
CHAIN_EXPORT_FOR_KUNIT(chain_merge_expand);
CHAIN_EXPORT_FOR_KUNIT(chain_merge_install);
CHAIN_EXPORT_FOR_KUNIT(chain_merge_drop);
CHAIN_EXPORT_FOR_KUNIT(chain_merge_parts);
CHAIN_EXPORT_FOR_KUNIT(chain_merge_shrink);
CHAIN_EXPORT_FOR_KUNIT(chain_merge_overlay);
