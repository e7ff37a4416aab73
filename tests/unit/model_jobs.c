// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Stream and mirror.
 */
#include <string.h>

#include "model_ops.h"

/* --- stream: T (2) pulls from M (1), down to B (0) --- */

static int stream_pick(struct state *s, int me)
{
	struct actor *a = &s->a[me];
	struct disk *k = disk_of(s, me);
	u8 v[NR_SECTORS];

	if (a->b == NR_BLOCKS)
		return STEP_NEXT;
	if (k->inflight & BIT(a->b))
		return STEP_WAIT;
	if (s->l[2].cur[a->b] != ABSENT || s->l[1].cur[a->b] == ABSENT) {
		a->b++;
		return go_to(s, me, stream_pick);
	}
	live_block(s, actor_arg(s, me), a->b, v);
	a->x = v[0];
	a->y = v[1];
	if (!planted(STREAM_NO_LOCK))
		k->lock |= BIT(a->b);
	return go_to(s, me, stream_pick) + 1;
}

static int stream_copy(struct state *s, int me)
{
	struct actor *a = &s->a[me];
	struct unit *u = s->u[2];

	if (a->b == NR_BLOCKS)
		return STEP_NEXT;
	if (disk_of(s, me)->inflight & BIT(a->b))
		return STEP_WAIT;
	if (s->l[1].cur[a->b] == ZERO) {
		set_block(s, 2, a->b, ZERO);
		return STEP_NEXT;
	}
	unit_write(&u[data_unit(a->b, 0)], a->x);
	unit_write(&u[data_unit(a->b, 1)], a->y);
	return STEP_NEXT;
}

static int stream_copied(struct state *s, int me)
{
	struct actor *a = &s->a[me];

	if (a->b == NR_BLOCKS)
		return STEP_NEXT;
	unit_done(&s->u[2][data_unit(a->b, 0)]);
	unit_done(&s->u[2][data_unit(a->b, 1)]);
	if (s->l[1].cur[a->b] == DATA)
		set_block(s, 2, a->b, DATA);
	disk_of(s, me)->lock &= ~BIT(a->b);
	a->b++;
	return go_to(s, me, stream_pick);
}

static int stream_flush(struct state *s, int me)
{
	if (!planted(RELINK_BEFORE_MAPS))
		ask_round(s, 2, me);
	return STEP_NEXT;
}

/* What is gone no longer ends what shows through: the limit does. */
static void build_relinked(struct state *s, int me, int l, struct hdr *h)
{
	const struct hdr *m = header_in_force(s, 1);

	(void)me;
	(void)l;
	h->parent = m->parent;
	h->parent_cid = m->parent_cid;
	if (!planted(STREAM_KEEPS_LIMIT))
		h->limit = min_u8(h->limit, min_u8(m->size, m->limit));
}

static void unlink_middle(struct state *s)
{
	unit_write(&s->u[1][U_NAME], 0);
	unit_done(&s->u[1][U_NAME]);
}

static int stream_unlink_early(struct state *s, int me)
{
	(void)me;
	if (planted(UNLINK_BEFORE_RELINK))
		unlink_middle(s);
	return STEP_NEXT;
}

static int stream_drop(struct state *s, int me)
{
	struct chain *c = &disk_of(s, me)->chain;

	c->l[1] = c->l[2];
	c->l[2] = 0;
	c->n = 2;
	return STEP_NEXT;
}

static int stream_unlink(struct state *s, int me)
{
	(void)me;
	unlink_middle(s);
	return STEP_END;
}

const struct step op_stream[] = {
	STEP("stream: next block", stream_pick),
	STEP("stream: copy submitted", stream_copy),
	STEP("stream: copied", stream_copied),
	STEP("stream: F1", stream_flush),
	STEP("stream: F1 done", wait_rounds),
	STEP("stream: (nothing)", stream_unlink_early),
	HEADER("stream: header T {parent = X, limit}", BIT(2), build_relinked),
	STEP("stream: table without M", stream_drop),
	STEP("stream: file of M goes", stream_unlink),
};

/* --- mirror: S is layer 0, D layer 1 --- */

/*
 * Writes from before there were flags have none. If they could still be lost
 * at the source when the target durably holds them, nobody would know.
 */
static int mirror_attach(struct state *s, int me)
{
	struct disk *k = disk_of(s, me);

	if (k->inflight)
		return STEP_WAIT;
	k->mirror = 2;
	k->tracking = model.sc->resume_mirror;
	k->touched = 0;
	if (k->tracking && !planted(TRACK_FROM_CACHE))
		ask_round(s, 0, me);
	return STEP_NEXT;
}

static int mirror_pick(struct state *s, int me)
{
	struct actor *a = &s->a[me];
	struct disk *k = disk_of(s, me);
	u8 v[NR_SECTORS];

	if (a->b == NR_BLOCKS)
		return go_to(s, me, mirror_pick) + 2;
	if (k->inflight & BIT(a->b))
		return STEP_WAIT;
	if (s->l[1].cur[a->b] != ABSENT) {
		a->b++;
		return go_to(s, me, mirror_pick);
	}
	k->lock |= BIT(a->b);
	live_block(s, actor_arg(s, me), a->b, v);
	for (int i = 0; i < NR_SECTORS; i++)
		unit_write(&s->u[1][data_unit(a->b, i)], v[i]);
	return STEP_NEXT;
}

static int mirror_copied(struct state *s, int me)
{
	struct actor *a = &s->a[me];

	for (int i = 0; i < NR_SECTORS; i++)
		unit_done(&s->u[1][data_unit(a->b, i)]);
	set_block(s, 1, a->b, DATA);
	disk_of(s, me)->lock &= ~BIT(a->b);
	a->b++;
	return go_to(s, me, mirror_pick);
}

/* The guest goes on, and writes and flushes both sides until the switch. */
static int mirror_flush(struct state *s, int me)
{
	if (!planted(PIVOT_WITHOUT_FLUSH)) {
		ask_round(s, 0, me);
		ask_round(s, 1, me);
	}
	return STEP_NEXT;
}

static void build_complete(struct state *s, int me, int l, struct hdr *h)
{
	(void)s;
	(void)me;
	(void)l;
	h->mirror = NOT_MIRROR;
}

static void build_retired(struct state *s, int me, int l, struct hdr *h)
{
	(void)s;
	(void)me;
	(void)l;
	h->retired = 2;
	h->in_use = 0;
}

static void build_prepared(struct state *s, int me, int l, struct hdr *h)
{
	if (l == 0) {
		if (planted(RETIRE_FIRST))
			build_retired(s, me, l, h);
		return;
	}
	if (planted(RETIRE_FIRST))
		return;
	h->mirror = planted(COMPLETE_FIRST) ? NOT_MIRROR : PREPARED;
	h->cid = fresh_cid(s);
	h->in_use = 1;
}

static int mirror_switch(struct state *s, int me)
{
	struct disk *k = disk_of(s, me);

	if (k->inflight)
		return STEP_WAIT;
	k->chain = (struct chain){ .n = 1, .l = { 1 } };
	k->mirror = k->tracking = 0;
	k->written = 0;
	return STEP_NEXT;
}

#define MIRROR_COPY \
	STEP("mirror: writes go to both; tracking: F1 on S", mirror_attach), \
	STEP("mirror: F1 done", wait_rounds), \
	STEP("mirror: lock and copy a block", mirror_pick), \
	STEP("mirror: copied", mirror_copied)

const struct step op_mirror[] = {
	MIRROR_COPY,
	HEADER("pivot: header D {prepared J by S}", BIT(0) | BIT(1), build_prepared),
	STEP("pivot: F1 both", mirror_flush),
	STEP("pivot: F1 done", wait_rounds),
	HEADER("pivot: header S {retired to D}", BIT(0), build_retired),
	STEP("pivot: suspended: D is the top", mirror_switch),
	HEADER("pivot: header D {complete}", BIT(1), build_complete),
	STEP("pivoted", finish),
};

/*
 * --- pivots of two disks: S1 is layer 0, D1 1, S2 2, D2 3; nothing is left to copy ---
 */

#define PIVOTS	1

static void build_both_prepared(struct state *s, int me, int l, struct hdr *h)
{
	(void)me;
	(void)l;
	h->mirror = PREPARED;
	h->cid = fresh_cid(s);
	h->in_use = 1;
}

static int pivots_flush(struct state *s, int me)
{
	for (int l = 0; l < 4; l++)
		ask_round(s, l, me);
	return STEP_NEXT;
}

static void build_decision(struct state *s, int me, int l, struct hdr *h)
{
	build_retired(s, me, l, h);
	h->decision = PIVOTS;
}

/* In use still: whoever else finds it there has to leave it alone. */
static void build_retired_if(struct state *s, int me, int l, struct hdr *h)
{
	(void)s;
	(void)me;
	if (l == 0) {
		if (planted(PIVOTS_DECIDE_EARLY))
			build_decision(s, me, l, h);
		return;
	}
	h->retired = 4;
	if (planted(PIVOTS_NO_PENDING))
		return;
	h->pending = PIVOTS;
	h->coordinator = 1;
}

static int pivots_switch(struct state *s, int me)
{
	(void)me;
	for (int d = 0; d < 2; d++)
		if (s->d[d].inflight)
			return STEP_WAIT;
	for (int d = 0; d < 2; d++) {
		struct disk *k = &s->d[d];

		k->chain = (struct chain){ .n = 1, .l = { k->mirror - 1 } };
		k->mirror = k->written = 0;
	}
	return STEP_NEXT;
}

static void build_no_decision(struct state *s, int me, int l, struct hdr *h)
{
	(void)s;
	(void)me;
	(void)l;
	h->decision = 0;
}

static void build_retired_for_good(struct state *s, int me, int l, struct hdr *h)
{
	if (l == 0) {
		if (planted(PIVOTS_DROP_EARLY))
			build_no_decision(s, me, l, h);
		return;
	}
	h->pending = h->coordinator = h->in_use = 0;
}

const struct step op_pivots[] = {
	HEADER("pivots: headers D1, D2 {prepared}", BIT(1) | BIT(3),
	       build_both_prepared),
	STEP("pivots: F1 all", pivots_flush),
	STEP("pivots: F1 done", wait_rounds),
	HEADER("pivots: header S2 {retired, pending}", BIT(0) | BIT(2),
	       build_retired_if),
	HEADER("pivots: header S1 {retired, decision}", BIT(0), build_decision),
	STEP("pivots: one switch in memory for all", pivots_switch),
	HEADER("pivots: headers D1, D2 {complete}", BIT(1) | BIT(3),
	       build_complete),
	HEADER("pivots: header S2 {no longer pending}", BIT(0) | BIT(2),
	       build_retired_for_good),
	HEADER("pivots: header S1 {no decision}", BIT(0), build_no_decision),
	STEP("pivoted", finish),
};

const struct step op_mirror_copy[] = {
	MIRROR_COPY,
	STEP("mirror: ready", finish),
};

/* Cancelled when ready, suspended: D is a complete copy of this instant. */
static int cancel_leave(struct state *s, int me)
{
	struct disk *k = disk_of(s, me);

	if (k->inflight)
		return STEP_WAIT;
	record_live(s, actor_arg(s, me), 1, header_in_force(s, 1)->cid);
	k->mirror = 0;
	k->written &= ~BIT(1);
	if (planted(TRACK_ENDS_EARLY))
		k->tracking = 0;
	return STEP_NEXT;
}

static int cancel_flush(struct state *s, int me)
{
	if (!planted(CANCEL_COMPLETE_FIRST))
		ask_round(s, 1, me);
	return STEP_NEXT;
}

static void build_forgotten(struct state *s, int me, int l, struct hdr *h)
{
	(void)s;
	(void)me;
	(void)l;
	h->track_cid = 0;
}

/* Nobody can go on with it any more. */
static int cancel_forget(struct state *s, int me)
{
	disk_of(s, me)->tracking = 0;
	return STEP_END;
}

const struct step op_mirror_cancel[] = {
	MIRROR_COPY,
	STEP("cancel: suspended: D is left", cancel_leave),
	STEP("cancel: F1 D", cancel_flush),
	STEP("cancel: F1 done", wait_rounds),
	HEADER("cancel: header D {complete}", BIT(1), build_complete),
	HEADER("cancel: header S {no record}", BIT(0), build_forgotten),
	STEP("cancelled: no flags any more", cancel_forget),
};

/* --- change flags are cleared while ready --- */

static bool mirror_ready(const struct state *s, const struct disk *k)
{
	for (int b = 0; b < NR_BLOCKS; b++)
		if (s->l[1].cur[b] == ABSENT)
			return false;
	return k->mirror && !k->inflight;
}

static int clean_start(struct state *s, int me)
{
	struct disk *k = disk_of(s, me);

	if (!s->l[0].track || !mirror_ready(s, k))
		return STEP_WAIT;
	k->touched = 0;
	if (!planted(TRACK_CLEAR_EARLY)) {
		ask_round(s, 0, me);
		ask_round(s, 1, me);
	}
	return STEP_NEXT;
}

/*
 * Both sides hold all that was written while the flag was set. In memory it is
 * gone at once, so that the next write sets it anew; on disk with the next
 * round.
 */
static int clean_end(struct state *s, int me)
{
	struct disk *k = disk_of(s, me);
	struct layer *y = &s->l[0];

	if (!rounds_done(s, me))
		return STEP_WAIT;
	if (k->touched)
		return STEP_END;
	y->track = y->tracked = 0;
	y->dirty = ALL_BLOCKS;
	return STEP_END;
}

const struct step op_clean_flags[] = {
	STEP("flags: F1 both sides", clean_start),
	STEP("flags: cleared", clean_end),
};
