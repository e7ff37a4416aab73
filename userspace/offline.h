/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts that deal with closed layers share among themselves. What the
 * rest of the controller may use of them is in dmchain.h.
 */
#ifndef DMCHAIN_OFFLINE_H
#define DMCHAIN_OFFLINE_H

#include "dmchain.h"

/* image.c */

/** image_init() - names and nothing else; @child: see image_open_parent() */
int image_init(struct image *img, const char *path, uint32_t format,
	       const char *child);
/** image_identify() - what the path leads to: device and inode */
int image_identify(struct image *img);
/** image_open_file() - open, lock and size, for image_make(): no header */
int image_open_file(struct image *img, int flags);
/** image_write_slots() - the header as it is, to both slots, durable */
int image_write_slots(struct image *img);
/** image_trailer_valid() - a header of this layer's life is at its end */
bool image_trailer_valid(struct image *img);

/* seal.c: a layer that is to have a child */

/**
 * parent_open() - for writing, to seal it, if that can be
 * @parent: filled in, for image_close()
 * @path: of the parent
 * @format: of the parent
 * @child: path of the child, for messages
 *
 * Refuses what a disk writes.
 */
int parent_open(struct image *parent, const char *path, uint32_t format,
		const char *child);
/** parent_check() - may it have another child? @what: command, for the line */
int parent_check(const struct image *parent, const char *what, bool force);
/** parent_set_link() - what the child's header says of it */
int parent_set_link(struct image *parent, struct chain_link *link);
/**
 * parent_seal() - it says who stands on it, durably
 * @parent: the layer below, writable
 * @child: UUID
 * @child_path: or NULL: it has none
 * @now: set if it was not sealed before
 *
 * Before the child says so: a cut between leaves a seal too many, not a child
 * whose parent may be written. It may get another content id by that.
 */
int parent_seal(struct image *parent, const struct chain_id *child,
		const char *child_path, bool *now);
/** parent_unseal() - undo it; what was made on the parent is refused from then on */
void parent_unseal(struct image *parent);
/**
 * parent_take_back() - undo it, for a child that never was
 * @parent: the image that was sealed, locked ever since
 */
void parent_take_back(struct image *parent);

/* rebase-copy.c */

/**
 * struct rebase_copy - what of a layer's old view is not in its new one
 * @img: the layer, writable
 * @old: its view, by way of the old parent
 * @new: view of the new parent
 * @limit: up to which that will show
 * @data_bytes: set to what was copied
 * @zero_bytes: set to what was made zero
 */
struct rebase_copy {
	struct image *img;
	struct view *old;
	struct view *new;
	uint64_t limit;
	uint64_t data_bytes;
	uint64_t zero_bytes;
};

/**
 * rebase_copy() - put that into the layer
 * @r: what is to be copied, and what was
 *
 * Durable when it returns; if it is cut off, what is done needn't be done again.
 */
int rebase_copy(struct rebase_copy *r);

/* image-io.c */

/** image_try_read() - image_read() that says nothing; -errno, -ENODATA: the
 * end came before */
int image_try_read(struct image *img, void *buf, size_t len, uint64_t offset);
/** all_zero() - of one byte at least */
bool all_zero(const uint8_t *buf, size_t len);
/** image_zero() - write zeroes */
int image_zero(struct image *img, uint64_t len, uint64_t offset);

/* imgmap.c */

/**
 * struct map_group - a map group as it was read
 * @present: its presence bit is on
 * @lost: its presence sector is damaged
 * @index: of the group
 * @words: states; a damaged sector's are DM_CHAIN_DAMAGED
 * @changed: mask of sectors flagged as changed
 * @damaged: mask of damaged sectors
 * @invalid: mask of those that aren't valid: damaged, or never written
 * @blank: all bytes are zero
 */
struct map_group {
	bool present;
	bool lost;
	uint64_t index;
	uint64_t words[CHAIN_GROUP_WORDS];
	uint8_t changed;
	unsigned int damaged;
	unsigned int invalid;
	bool blank;
};

/**
 * struct presence - a presence map as it was read
 * @sectors: number of sectors
 * @words: CHAIN_SECTOR_WORDS each; of a damaged sector all ones
 * @bad: per sector: it is damaged
 * @damaged: how many are
 */
struct presence {
	uint64_t sectors;
	uint64_t *words;
	bool *bad;
	uint64_t damaged;
};

int presence_load(struct presence *p, struct image *img);
void presence_free(struct presence *p);
static inline bool presence_get(const struct presence *p, uint64_t group)
{
	return p->words[group / 64] >> (group % 64) & 1;
}

/**
 * map_groups() - read groups of a state map
 * @img: the layer
 * @p: which groups hold anything
 * @nr: groups from the first on
 * @cb: for each group that may hold anything, in order; nonzero stops
 * @arg: for @cb
 *
 * Return: 0, what @cb returned, or a negative exit code.
 */
int map_groups(struct image *img, const struct presence *p, uint64_t nr,
	       int (*cb)(struct map_group *g, void *arg), void *arg);

static inline bool presence_bad(const struct presence *p, uint64_t group)
{
	return p->bad[group / DM_CHAIN_PRESENCE_GROUPS];
}

/** presence_write() - a sector of it, from @p->words */
int presence_write(struct image *img, const struct presence *p, uint64_t sector);

/** map_group_read() - one group, also one that holds nothing */
void map_group_read(struct image *img, const struct presence *p, uint64_t index,
		    struct map_group *g);

/** map_group_write() - back to where it was read, but for damaged sectors,
 * which stay as they are */
int map_group_write(struct image *img, const struct map_group *g);

/**
 * map_clear_beyond() - nothing behind the end is held as data
 * @img: with the size that counts in its header
 *
 * Data behind the end, of a shrink that was cut off, becomes zero, and so do
 * the bytes of the last block that are behind the end: what grows there later
 * reads zeroes. No flush.
 */
int map_clear_beyond(struct image *img);

#endif
