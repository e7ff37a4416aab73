/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Block locks: exclusive, for ranges, taken without waiting. They know no
 * bios: who doesn't get a range queues it where its worker finds it.
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
 * holds a range may not insist on a second one.
 *
 * A try that fails may for an instant have held a part of the range, and some
 * other's try may have failed for that alone. So he who gets false goes on in
 * one of two ways: he becomes a waiter, or, if he gives up, he kicks the worker
 * if chain_locks_waiting().
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
 * Return: true if somebody waits: the caller kicks the worker, which lets all
 * that is queued try again.
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
 * The caller queues what waits, calls this, and *then* has it try once more
 * (itself or by a kick of the worker): a release before this call told nobody.
 *
 * The waiter writes @waiters, then reads the bits; a releaser writes the bits,
 * then reads @waiters; each has a full barrier in between. At least one sees
 * the other's write: the waiter gets the lock or the releaser kicks.
 *
 * Context: any. Ends with chain_locks_wait_end().
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
