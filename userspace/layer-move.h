/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts share that let a lower layer of an open disk go on elsewhere.
 */
#ifndef DMCHAIN_LAYER_MOVE_H
#define DMCHAIN_LAYER_MOVE_H

#include "job.h"
#include "offline.h"

/* layer-copy.c */

/**
 * struct layer_copy - from one place to another
 * @from: image of the layer, which nobody writes
 * @to: writable; chain: of the same geometry and seed
 * @fresh: raw: it reads zeroes where nothing was written
 * @total: set by layer_copy_count(): bytes of data
 * @done: of these
 * @copied: of these, what was not there before
 * @tick: called now and then; nonzero ends it
 * @arg: for @tick
 */
struct layer_copy {
	struct image *from;
	struct image *to;
	bool fresh;
	uint64_t total;
	uint64_t done;
	uint64_t copied;
	int (*tick)(struct layer_copy *c);
	void *arg;
};

/** layer_copy_count() - how much there is to do */
int layer_copy_count(struct layer_copy *c);
/** layer_copy() - what the target lacks; durable, but for its header */
int layer_copy(struct layer_copy *c);
/** layer_compare() - map and data; says where they differ first */
int layer_compare(struct layer_copy *c);

#endif
