/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the operations of the model are made of.
 *
 * Between any two steps others may act, and the power may fail. A step that
 * can't be taken yet returns STEP_WAIT and has changed nothing.
 */
#ifndef DM_CHAIN_TESTS_MODEL_OPS_H
#define DM_CHAIN_TESTS_MODEL_OPS_H

#include "model.h"

typedef int (*step_fn)(struct state *s, int me);

static inline int actor_arg(const struct state *s, int me)
{
	return actor_def(s, me)->arg;
}

static inline struct disk *disk_of(struct state *s, int me)
{
	return &s->d[actor_arg(s, me)];
}

static inline const struct hdr *header_in_force(const struct state *s, int l)
{
	return hdr(s->l[l].hdr);
}

static inline u8 fresh_cid(struct state *s)
{
	return s->next_cid++;
}

static inline u8 min_u8(u8 a, u8 b)
{
	return a < b ? a : b;
}

/* The number of the step that @run stands for. */
int go_to(const struct state *s, int me, step_fn run);

/*
 * A header write, to one or several layers at once: both slots, one after the
 * other (H1). Once the first is durable the new header holds, come what may.
 * Nothing is written to a layer whose header wouldn't change.
 */
int header_start(struct state *s, int me);
int header_durable(struct state *s, int me);
int header_other(struct state *s, int me);
int header_end(struct state *s, int me);

#define HEADER_COMMIT(what, layers, build) \
	{ what, header_start, layers, build }, \
	{ what ": durable", header_durable, layers, NULL }
#define HEADER_OTHER(what, layers) \
	{ what ": other slot", header_other, layers, NULL }, \
	{ what ": both durable", header_end, layers, NULL }
#define HEADER(what, layers, build) \
	HEADER_COMMIT(what, layers, build), HEADER_OTHER(what, layers)

#define TOP	0		/* of the actor's disk, whichever it is */

/* Steps that many operations share. */
int wait_rounds(struct state *s, int me);
int load_all(struct state *s, int me);
int resume(struct state *s, int me);
int finish(struct state *s, int me);

/* Opening: the parts that a member of a group opens by, too. */
int open_flush(struct state *s, int me);
int open_load(struct state *s, int me);
int open_repair(struct state *s, int me);
int open_repaired(struct state *s, int me);
void build_in_use(struct state *s, int me, int l, struct hdr *h);
int open_go(struct state *s, int me);

/* A child records layer @l under @cid: this is what it will have to be. */
void record_live(struct state *s, int d, int l, u8 cid);

/* A new layer @l on @parent: file, name, header. Both durable after sync. */
void submit_child(struct state *s, int l, int parent, u8 cid);
void sync_child(struct state *s, int l);

void build_unsealed(struct state *s, int me, int l, struct hdr *h);

#endif
