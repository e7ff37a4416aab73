// SPDX-License-Identifier: GPL-2.0-only
/*
 * Block locks: a table of 65536 bits a disk, a bit stands for all blocks with
 * the same remainder. 8 KiB however large the disk is; two ranges meet by
 * accident rarely, and then one waits.
 *
 * Locking: atomics only. dm-chain-lock.h says what callers owe each other.
 */
#include "dm-chain-lock.h"
#include <linux/bits.h>
#include <linux/slab.h>

#define LOCK_WORDS	(CHAIN_LOCK_BITS / BITS_PER_LONG)

/* @n bits of the table from @bit on; they go on at its start if they wrap. */
struct span {
	u32 bit;
	u32 n;
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

static struct span span_of(u64 block, u32 n)
{
	return (struct span){ block % CHAIN_LOCK_BITS, n };
}

/* The bits of a span in the word of its first bit; moves the span on. */
static unsigned long span_mask(struct span *s)
{
	u32 low = s->bit % BITS_PER_LONG;
	u32 n = min(s->n, BITS_PER_LONG - low);

	s->bit = (s->bit + n) % CHAIN_LOCK_BITS;
	s->n -= n;
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
	while (s.n) {
		atomic_long_t *word = &l->word[s.bit / BITS_PER_LONG];
		unsigned long mask = span_mask(&s);

		WARN_ON_ONCE(~atomic_long_read(word) & mask);
		atomic_long_andnot(mask, word);
	}
}

bool chain_locks_try(struct chain_locks *l, u64 block, u32 n)
{
	struct span s = span_of(block, n);

	if (WARN_ON_ONCE(!n || n > CHAIN_LOCK_MAX))
		return false;
	while (s.n) {
		atomic_long_t *word = &l->word[s.bit / BITS_PER_LONG];
		u32 taken = n - s.n;

		if (!word_lock(word, span_mask(&s))) {
			span_release(l, span_of(block, taken));
			return false;
		}
	}
	return true;
}

bool chain_locks_release(struct chain_locks *l, u64 block, u32 n)
{
	if (WARN_ON_ONCE(!n || n > CHAIN_LOCK_MAX))
		return false;
	/* What the holder did comes before the bits that it clears. */
	smp_mb__before_atomic();
	span_release(l, span_of(block, n));
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
