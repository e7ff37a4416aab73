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

/* image-io.c */

/** image_try_read() - image_read() that says nothing; -errno, -ENODATA: the
 * end came before */
int image_try_read(struct image *img, void *buf, size_t len, uint64_t offset);
/** image_zero() - write zeroes */
int image_zero(struct image *img, uint64_t len, uint64_t offset);

/* imgmap.c */

/**
 * struct map_group - a map group as it was read
 * @present: its presence bit is on
 * @lost: its presence sector is damaged
 * @index: of the group
 * @words: states; a damaged sector's are DM_CHAIN_DAMAGED
 * @damaged: mask of damaged sectors
 * @invalid: mask of those that aren't valid: damaged, or never written
 * @blank: all bytes are zero
 */
struct map_group {
	bool present;
	bool lost;
	uint64_t index;
	uint64_t words[CHAIN_GROUP_WORDS];
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
 * @nr: groups from the first on
 * @cb: for each group that may hold anything, in order; nonzero stops
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
