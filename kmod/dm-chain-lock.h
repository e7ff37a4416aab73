/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Block locks: exclusive, for ranges, taken without waiting. They know no
 * bios: who doesn't get a range parks it where whoever releases one finds it.
 *
 * A range is taken word by word. A try that fails may have held a part of it
 * for an instant, and another's try may have failed for that alone. So that
 * nobody stays parked for ever, who gets false from chain_locks_try()
 *
 *  - parks: takes a lock that all who park share, calls
 *    chain_locks_wait_begin(), tries once more, parks if that fails, and only
 *    then drops that lock; or
 *  - gives up: kicks if chain_locks_waiting().
 *
 * To kick is to take the same lock and let go all that is parked; each calls
 * chain_locks_wait_end() and starts over. chain_locks_release() says when to.
 *
 * Why that is enough: take the bio whose last try under the lock was the last
 * of all. What was in its way was a holder, who will find it parked, or a try
 * outside the lock. That one then succeeded (a holder), or gave up (and
 * kicked), or went on to a last try of its own, which would be a later one.
 */
#ifndef DM_CHAIN_LOCK_H
#define DM_CHAIN_LOCK_H

#include "dm-chain-env.h"
#include <linux/atomic.h>

#define CHAIN_LOCK_BITS		65536
#define CHAIN_LOCK_MAX		32768	/* blocks in one range */

/**
 * struct chain_locks - the lock bits of a disk, and who waits for them
 * @word: a bit for each block modulo CHAIN_LOCK_BITS
 * @waiters: brackets between chain_locks_wait_begin() and _end() now open
 */
struct chain_locks {
	atomic_long_t *word;
	atomic_t waiters;
};

/**
 * chain_locks_init() - all free
 * @l: overwritten
 *
 * Context: may sleep.
 * Return: 0 or -ENOMEM.
 */
int chain_locks_init(struct chain_locks *l);

/**
 * chain_locks_exit() - free the table
 * @l: initialized, or zeroed; nobody holds or wants a lock of it
 */
void chain_locks_exit(struct chain_locks *l);

/**
 * chain_locks_try() - lock a range if it is free
 * @l: locks
 * @block: first of the range
 * @n: blocks, 1 to CHAIN_LOCK_MAX
 *
 * Blocks that are a multiple of CHAIN_LOCK_BITS apart share a lock, so whoever
 * holds a range may not insist on a second one. After false the caller parks
 * or gives up as described above.
 *
 * Context: any, interrupts included. Acquire when it succeeds.
 * Return: true if the whole range is now the caller's; false: nothing is.
 */
bool chain_locks_try(struct chain_locks *l, u64 block, u32 n);

/**
 * chain_locks_release() - give a locked range back
 * @l: locks
 * @block: as in chain_locks_try()
 * @n: as in chain_locks_try(); parts of a range may be released one by one
 *
 * Context: any, interrupts included; from another task or CPU than the lock,
 * too. Release.
 * Return: true if somebody waits: the caller kicks.
 */
bool chain_locks_release(struct chain_locks *l, u64 block, u32 n);

/**
 * chain_locks_waiting() - does anybody wait
 * @l: locks
 *
 * Context: any. Ordered after what the caller did before.
 * Return: true if so.
 */
bool chain_locks_waiting(struct chain_locks *l);

/**
 * chain_locks_wait_begin() - announce a waiter
 * @l: locks
 *
 * The waiter writes @waiters, then reads the bits; a releaser writes the bits,
 * then reads @waiters; each has a full barrier in between. At least one sees
 * the other's write: the waiter gets the lock or the releaser kicks.
 *
 * Context: any, under the lock that all who park share.
 */
static inline void chain_locks_wait_begin(struct chain_locks *l)
{
	atomic_inc(&l->waiters);
	/* Pairs with those in chain_locks_release() and chain_locks_waiting(). */
	smp_mb__after_atomic();
}

/**
 * chain_locks_wait_end() - a waiter has its lock, or has given up
 * @l: locks
 *
 * Context: any.
 */
static inline void chain_locks_wait_end(struct chain_locks *l)
{
	atomic_dec(&l->waiters);
}

#endif
