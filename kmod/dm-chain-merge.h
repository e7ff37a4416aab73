/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Merged lookup of everything below the top: which layer owns a block. It
 * knows slots, not layers: what a slot stands for is the caller's business.
 */
#ifndef DM_CHAIN_MERGE_H
#define DM_CHAIN_MERGE_H

#include "dm-chain-env.h"
#include <linux/gfp_types.h>

#define CHAIN_CHUNK_SHIFT	11
#define CHAIN_CHUNK_BLOCKS	2048U

/*
 * An owner is a slot (0 to CHAIN_OWNER_MAX) or one of these. Slots are
 * stable ids, not depths: a new layer on top renumbers nothing.
 */
#define CHAIN_OWNER_MAX		0xfeff
#define CHAIN_OWNER_DAMAGED	0xfffd	/* a lost map sector decides: EIO */
#define CHAIN_OWNER_WALK	0xfffe	/* ask the layers one by one */
#define CHAIN_OWNER_ZERO	0xffff	/* held by nobody, or as zero */

struct chain_merge;

/**
 * chain_merge_create() - an empty lookup: all chunks unbuilt
 * @blocks: of the disk; blocks from there on are always CHAIN_OWNER_WALK
 * @gfp: of the directory, 8 bytes for each 2^20 blocks
 *
 * Context: may sleep if @gfp says so.
 * Return: the lookup, owned by the caller, or NULL without memory.
 */
struct chain_merge *chain_merge_create(u64 blocks, gfp_t gfp);

/**
 * chain_merge_destroy() - free it all at once
 * @m: may be NULL; nobody reads or writes it any more
 *
 * Context: may sleep. Chunks replaced earlier may still wait for their grace
 * period: the module's exit needs an rcu_barrier() after the last destroy.
 */
void chain_merge_destroy(struct chain_merge *m);

/**
 * chain_merge_set_cap() - bound its memory
 * @m: lookup
 * @bytes: that chain_merge_bytes() shall not pass; 0: no bound
 *
 * Nothing is given back at once; chain_merge_install() stops growing.
 *
 * Context: writer.
 */
void chain_merge_set_cap(struct chain_merge *m, size_t bytes);

/**
 * chain_merge_lookup() - who owns a block
 * @m: lookup
 * @block: any
 * @max: how many blocks the caller asks for
 * @run: set to the number of blocks, from @block on, that surely have this
 *	owner: 1 to @max (0 if @max is); it ends with the chunk at the latest
 *
 * Context: any, interrupts included; no lock. Writers may be at work: the
 * answer is that of one instant.
 * Return: owner; CHAIN_OWNER_WALK if the chunk is not built.
 */
u16 chain_merge_lookup(const struct chain_merge *m, u64 block, u32 max,
		       u32 *run);

/**
 * chain_merge_owner() - chain_merge_lookup() of one block
 * @m: lookup
 * @block: any
 *
 * Context: any; no lock. Return: owner.
 */
u16 chain_merge_owner(const struct chain_merge *m, u64 block);

/**
 * chain_merge_built() - does it know the owners of a chunk
 * @m: lookup
 * @chunk: block >> CHAIN_CHUNK_SHIFT
 *
 * Context: any; no lock.
 * Return: true if so; what chain_merge_lookup() then says may be newer.
 */
bool chain_merge_built(const struct chain_merge *m, u64 chunk);

/**
 * chain_merge_install() - build a chunk, or replace it as a whole
 * @m: lookup
 * @chunk: block >> CHAIN_CHUNK_SHIFT
 * @owners: CHAIN_CHUNK_BLOCKS of them; those past the disk's end are not read
 * @gfp: of all that it allocates
 *
 * A reader sees the chunk as it was or as it is, never a mixture.
 *
 * Context: writer (the caller lets in one at a time); may sleep if @gfp says so.
 * Return: 0. The chunk is as it was after -ENOMEM, -ENOSPC (the cap; a chunk
 * that takes no more than it did before always passes) or -EINVAL (no such
 * chunk).
 */
int chain_merge_install(struct chain_merge *m, u64 chunk, const u16 *owners,
			gfp_t gfp);

/**
 * chain_merge_expand() - the owners of a chunk, one by one
 * @m: lookup
 * @chunk: block >> CHAIN_CHUNK_SHIFT
 * @owners: CHAIN_CHUNK_BLOCKS, filled in; CHAIN_OWNER_WALK where it doesn't know
 *
 * Context: any; no lock.
 */
void chain_merge_expand(const struct chain_merge *m, u64 chunk, u16 *owners);

/**
 * chain_merge_drop() - forget a chunk: back to unbuilt
 * @m: lookup
 * @chunk: block >> CHAIN_CHUNK_SHIFT
 *
 * The chunk's memory comes back after a grace period; its word of the
 * directory (8 bytes a chunk) stays.
 *
 * Context: writer; doesn't sleep.
 */
void chain_merge_drop(struct chain_merge *m, u64 chunk);

/**
 * chain_merge_bytes() - the memory it takes, directory included
 * @m: lookup
 *
 * Context: any; no lock.
 * Return: bytes, without what waits for a grace period.
 */
size_t chain_merge_bytes(const struct chain_merge *m);

/**
 * chain_merge_parts() - chunks that take memory of their own
 * @m: lookup
 *
 * Context: any; no lock.
 */
unsigned long chain_merge_parts(const struct chain_merge *m);

/**
 * chain_merge_shrink() - chain_merge_drop() of chunks that take memory of their own
 * @m: lookup
 * @nr: so many, in turn
 *
 * Context: writer; doesn't sleep.
 * Return: how many there were to be dropped.
 */
unsigned long chain_merge_shrink(struct chain_merge *m, unsigned long nr);

/**
 * chain_merge_overlay() - put a layer on what lies below it
 * @owners: of what lies below; changed to what is seen through the layer
 * @states: of the layer, as chain_state_get() reads them, from the same block
 * @slot: of the layer
 * @n: blocks
 *
 * Data makes @slot the owner, zero CHAIN_OWNER_ZERO, damaged
 * CHAIN_OWNER_DAMAGED; absent leaves the owner as it is. Bottom-up over the
 * layers of a chain this makes the array that chain_merge_install() takes.
 */
void chain_merge_overlay(u16 *owners, const u64 *states, u16 slot, u32 n);

#endif
