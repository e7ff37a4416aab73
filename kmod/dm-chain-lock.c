// SPDX-License-Identifier: GPL-2.0-only
/*
 * Block locks: a table of 65536 bits a disk, a bit stands for all blocks with
 * the same remainder. 8 KiB however large the disk is; two ranges meet by
 * accident rarely, and then one waits.
 *
 * Locking: atomics only. A range is taken word by word in ascending order of
 * the *table*, also when it wraps. Hence of several tries that hinder each
 * other, the one that got furthest either succeeds or met a holder; that
 * holder's release, or the success's, finds the others waiting. Taken in
 * ascending order of blocks instead, two wrapping ranges could each fail for
 * what the other is about to give back, and both wait for ever.
 */
#include "dm-chain-lock.h"
#include <linux/bits.h>
#include <linux/slab.h>

#define LOCK_WORDS	(CHAIN_LOCK_BITS / BITS_PER_LONG)

/* Bits [@bit, @end) of the table. */
struct span {
	u32 bit;
	u32 end;
};

int chain_locks_init(struct chain_locks *l)
{
	atomic_set(&l->waiters, 0);
	l->word = kvcalloc(LOCK_WORDS, sizeof(*l->word), GFP_KERNEL);
	return l->word ? 0 : -ENOMEM;
}

void chain_locks_exit(struct chain_locks *l)
{
	kvfree(l->word);
	l->word = NULL;
}

/* A range is one span, or two if it wraps: the lower first. */
static void range_spans(u64 block, u32 n, struct span s[2])
{
	u32 first = block % CHAIN_LOCK_BITS;
	u32 end = first + n;

	if (end <= CHAIN_LOCK_BITS) {
		s[0] = (struct span){ first, end };
		s[1] = (struct span){ end, end };
	} else {
		s[0] = (struct span){ 0, end - CHAIN_LOCK_BITS };
		s[1] = (struct span){ first, CHAIN_LOCK_BITS };
	}
}

/* The bits of a span in the word of its first bit; moves the span on. */
static unsigned long span_mask(struct span *s)
{
	u32 low = s->bit % BITS_PER_LONG;
	u32 n = min(s->end - s->bit, BITS_PER_LONG - low);

	s->bit += n;
	return GENMASK(low + n - 1, low);
}

static bool word_lock(atomic_long_t *word, unsigned long mask)
{
	long old = atomic_long_read(word);

	do {
		if (old & mask)
			return false;
	} while (!atomic_long_try_cmpxchg_acquire(word, &old, old | mask));
	return true;
}

static void span_release(struct chain_locks *l, struct span s)
{
	while (s.bit < s.end) {
		atomic_long_t *word = &l->word[s.bit / BITS_PER_LONG];
		unsigned long mask = span_mask(&s);

		WARN_ON_ONCE(~atomic_long_read(word) & mask);
		atomic_long_andnot(mask, word);
	}
}

static bool span_lock(struct chain_locks *l, struct span s)
{
	struct span taken = { s.bit, s.bit };

	while (s.bit < s.end) {
		atomic_long_t *word = &l->word[s.bit / BITS_PER_LONG];
		unsigned long mask = span_mask(&s);

		if (!word_lock(word, mask)) {
			span_release(l, taken);
			return false;
		}
		taken.end = s.bit;
	}
	return true;
}

bool chain_locks_try(struct chain_locks *l, u64 block, u32 n)
{
	struct span s[2];

	if (WARN_ON_ONCE(!n || n > CHAIN_LOCK_MAX))
		return false;
	range_spans(block, n, s);
	if (!span_lock(l, s[0]))
		return false;
	if (span_lock(l, s[1]))
		return true;
	span_release(l, s[0]);
	return false;
}

bool chain_locks_release(struct chain_locks *l, u64 block, u32 n)
{
	struct span s[2];

	if (WARN_ON_ONCE(!n || n > CHAIN_LOCK_MAX))
		return false;
	range_spans(block, n, s);
	/* What the holder did comes before the bits that it clears. */
	smp_mb__before_atomic();
	span_release(l, s[0]);
	span_release(l, s[1]);
	/* Cleared before the look for waiters; see chain_locks_wait_begin(). */
	smp_mb__after_atomic();
	return atomic_read(&l->waiters) > 0;
}

bool chain_locks_waiting(struct chain_locks *l)
{
	/* As in chain_locks_release(), but no atomic need have come before. */
	smp_mb();
	return atomic_read(&l->waiters) > 0;
}

CHAIN_EXPORT_FOR_KUNIT(chain_locks_init);
CHAIN_EXPORT_FOR_KUNIT(chain_locks_exit);
CHAIN_EXPORT_FOR_KUNIT(chain_locks_try);
CHAIN_EXPORT_FOR_KUNIT(chain_locks_release);
CHAIN_EXPORT_FOR_KUNIT(chain_locks_waiting);
