// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * From extents of another format, which may begin and end anywhere, to blocks.
 */
#include "convert.h"

/* What a block is of which parts have several states. */
static unsigned int resolve(unsigned int seen)
{
	if (seen == 1U << DM_CHAIN_ABSENT)
		return DM_CHAIN_ABSENT;
	return seen == 1U << DM_CHAIN_ZERO ? DM_CHAIN_ZERO : DM_CHAIN_DATA;
}

/* The rest of a block that has begun. */
static int add_part(struct blockrun *b, uint64_t *length, unsigned int state)
{
	uint64_t bytes = 1ULL << b->shift, block = b->at >> b->shift;
	uint64_t part = bytes - b->at % bytes;

	if (part > *length)
		part = *length;
	b->seen |= 1U << state;
	b->at += part;
	*length -= part;
	if (b->at % bytes && b->at < b->size)
		return 0;
	state = resolve(b->seen);
	b->seen = 0;
	return b->cb(block, 1, state, b->arg);
}

int blockrun_add(struct blockrun *b, uint64_t length, unsigned int state)
{
	uint64_t bytes = 1ULL << b->shift, block, whole;
	int ret = 0;

	if (length > b->size - b->at)
		length = b->size - b->at;
	while (length && !ret) {
		block = b->at >> b->shift;
		whole = length >> b->shift;
		if (b->at % bytes || !whole) {
			ret = add_part(b, &length, state);
			continue;
		}
		b->at += whole << b->shift;
		length -= whole << b->shift;
		ret = b->cb(block, whole, state, b->arg);
	}
	return ret;
}
