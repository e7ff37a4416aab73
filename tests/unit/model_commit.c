// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Commit: T (layer 2) and M (1) into B (0). Intermediate: O (3) stands on T;
 * active: T is the top and the guest writes.
 */
#include <string.h>

#include "model_ops.h"

#define JOB	1

/* --- commit: T (2) and M (1) into B (0); O (3) above T, or T is active --- */

enum { C_BASE = BIT(0), C_MID = BIT(1), C_TOP = BIT(2), C_OVER = BIT(3) };

static bool is_active(void)
{
	return !model.sc->commit_over;
}

/*
 * Refused if the base has other children: they would be, for ever after. After
 * a crash: is there still something to commit?
 */
static int commit_start(struct state *s, int me)
{
	const struct chain *c = &disk_of(s, me)->chain;
	const struct hdr *top, *base = header_in_force(s, 0);
	bool there = false;

	if (!disk_of(s, me)->opened)
		return STEP_WAIT;
	for (int i = 0; i < c->n; i++)
		there |= c->l[i] == model.sc->commit_top;
	if (!there || (base->many && !planted(COMMIT_SHARED_BASE)))
		return STEP_END;
	top = header_in_force(s, model.sc->commit_top);
	/* Once its job has ended others may know the base by c1. */
	s->a[me].x = top->job && (!top->done || planted(DONE_REUSED)) ?
		     top->c1 : fresh_cid(s);
	return STEP_NEXT;
}

/* Does some layer of the range end before T does? */
static bool range_is_short(const struct state *s)
{
	u8 full = header_in_force(s, 2)->size;

	for (int l = 1; l <= 2; l++)
		if (model.sc->kind[l] == CHAIN && !s->l[l].lifted &&
		    min_u8(header_in_force(s, l)->size,
			   header_in_force(s, l)->limit) < full)
			return true;
	return false;
}

/*
 * Blocks that read zero only because a layer of the range is short would show
 * the base once the ends of the range's layers are lifted (C1, C2), and a
 * block moved from above such an end would vanish if they were not. So they
 * become `zero` in T's map before, durably, with all else that is new in it.
 */
static int commit_spell_out(struct state *s, int me)
{
	int top = model.sc->commit_top;

	if (!range_is_short(s) || planted(SHORT_STAYS_SHORT))
		return STEP_NEXT;
	if (disk_of(s, me)->inflight)
		return STEP_WAIT;
	for (int b = 0; b < NR_BLOCKS; b++) {
		int l = held_at(s, actor_arg(s, me), b);

		if (l >= 0 && s->l[l].cur[b] == ABSENT)
			set_block(s, top, b, ZERO);
	}
	if (!planted(SHORT_LIFTED_EARLY))
		ask_round(s, top, me);
	return STEP_NEXT;
}

static void build_record(struct state *s, int me, struct hdr *h)
{
	const struct hdr *base = header_in_force(s, 0);

	h->job = JOB;
	h->range = BIT(2) | BIT(3);
	h->base = 1;
	h->done = planted(DONE_EARLY);
	if (h->c1 != s->a[me].x) {
		h->c0 = base->cid;
		h->c1 = s->a[me].x;
	}
	if (!planted(SHORT_STAYS_SHORT))
		h->limit = h->size;
}

/* Seen by way of T's record, its own ends mean nothing any more. */
static void build_spoiled_middle(struct state *s, struct hdr *h)
{
	if (h->spoiled == JOB || planted(MIDDLE_NOT_MARKED))
		return;
	h->spoiled = JOB;
	h->cid = fresh_cid(s);
}

static void build_spoiled_base(struct state *s, int me, struct hdr *h)
{
	h->spoiled = JOB;
	h->cid = s->a[me].x;
	h->in_use = 1;
	if (h->size < header_in_force(s, 2)->size && !planted(BASE_STAYS_SMALL))
		h->size = header_in_force(s, 2)->size;
}

static void build_c1(struct state *s, int me, int l, struct hdr *h)
{
	if (l == 2 && !planted(MARKS_TOGETHER) && !planted(BASE_MARKED_FIRST) &&
	    !planted(RECORD_MISSING))
		build_record(s, me, h);
	if (l == 0 && planted(BASE_MARKED_FIRST))
		build_spoiled_base(s, me, h);
}

static void build_c2(struct state *s, int me, int l, struct hdr *h)
{
	if (l == 2 && planted(RECORD_MISSING)) {
		return;
	} else if (l == 2) {
		build_record(s, me, h);
	} else if (l == 1) {
		build_spoiled_middle(s, h);
	} else if (!planted(BASE_MARKED_LATE)) {
		build_spoiled_base(s, me, h);
	}
}

/* The record is durable: the same in memory. Nothing of it changes what is seen. */
static int commit_lift(struct state *s, int me)
{
	(void)me;
	if (model.sc->kind[1] == CHAIN && !planted(SHORT_STAYS_SHORT))
		s->l[1].lifted = 1;
	return STEP_NEXT;
}

static int commit_route(struct state *s, int me)
{
	if (is_active())
		disk_of(s, me)->to_base = 1 + model.sc->commit_base;
	return STEP_NEXT;
}

/* Damage can't be moved, nor may it show when what hides it has gone. */
static bool range_damaged(const struct state *s, int b)
{
	for (int l = model.sc->commit_base + 1; l <= model.sc->commit_top; l++)
		if (model.sc->kind[l] == CHAIN && s->l[l].cur[b] == DAMAGED)
			return true;
	return false;
}

/* C4: the version that is seen goes to the base. */
static void copy_down(struct state *s, int from, int b)
{
	int base = model.sc->commit_base;
	bool data = s->l[from].cur[b] == DATA;

	if (!data && model.sc->kind[base] == CHAIN)
		return;
	for (int i = 0; i < NR_SECTORS; i++)
		unit_write(&s->u[base][data_unit(b, i)], !data ? ZEROES :
			   unit_read(&s->u[from][data_unit(b, i)]));
}

static int commit_clear(struct state *s, int me);
static int commit_drain(struct state *s, int me);

/*
 * C3: a block that the range holds, locked. A write that was on its way to T
 * when the route changed makes T hold a block when it completes, so it is waited
 * for before that is asked. A damaged block can't be moved: the job fails, the
 * record stays.
 *
 * What T's map says of it has to be durable: what the base refused, and what was
 * on its way when the route changed, is at T with nothing between the two. It is there as a whole or not at all, while
 * at the base it is laid over what it hides.
 */
static int commit_pick(struct state *s, int me)
{
	struct actor *a = &s->a[me];
	struct disk *k = disk_of(s, me);
	int from;

	if (a->b == NR_BLOCKS)
		return go_to(s, me, commit_drain);
	if (k->inflight & BIT(a->b) && !planted(PENDING_NOT_SEEN))
		return STEP_WAIT;
	from = held_at(s, actor_arg(s, me), a->b);
	if (from < 0) {
		a->b++;
		return go_to(s, me, commit_pick);
	}
	if (range_damaged(s, a->b) && !planted(DAMAGE_MOVED))
		return STEP_END;
	k->lock |= BIT(a->b);
	a->y = from;
	if (is_active() && uncommitted(s, model.sc->commit_top, a->b) &&
	    !planted(TOP_NOT_DURABLE))
		ask_round(s, model.sc->commit_top, me);
	return STEP_NEXT;
}

static int commit_copy(struct state *s, int me)
{
	if (!rounds_done(s, me))
		return STEP_WAIT;
	copy_down(s, s->a[me].y, s->a[me].b);
	return STEP_NEXT;
}

static void ask_to_clear(struct state *s, int me, int l, int b)
{
	if (model.sc->kind[l] != CHAIN || s->l[l].cur[b] == ABSENT)
		return;
	s->l[l].clear |= BIT(b);
	ask_round(s, l, me);
}

/* C5: the base, with a round of its own. */
static int commit_copied(struct state *s, int me)
{
	struct actor *a = &s->a[me];
	int base = model.sc->commit_base;

	for (int i = 0; i < NR_SECTORS; i++)
		unit_done(&s->u[base][data_unit(a->b, i)]);
	set_block(s, base, a->b, s->l[a->y].cur[a->b] == DATA ? DATA : ZERO);
	if (!planted(CLEAR_BEFORE_BASE))
		ask_round(s, base, me);
	if (planted(LOOKUP_EARLY)) {
		ask_to_clear(s, me, a->y, a->b);
		s->l[a->y].cur[a->b] = ABSENT;
		disk_of(s, me)->lock &= ~BIT(a->b);
	}
	/* From here on: how far the clearing has come. */
	a->y = 0;
	return STEP_NEXT;
}

/* The planted second writer: past the flusher, from the map in memory. */
static void clear_directly(struct state *s, int l, int b)
{
	struct unit *u = &s->u[l][U_MAP + map_sector_of(b)];

	unit_write(u, unit_read(u) & ~(3 << (2 * b)));
}

/*
 * C6: from the layer above the base up to T, each when the one below has been
 * cleared durably: nothing older can show in its place.
 */
static int commit_clear(struct state *s, int me)
{
	struct actor *a = &s->a[me];
	int base = model.sc->commit_base, top = model.sc->commit_top, l;

	if (!rounds_done(s, me))
		return STEP_WAIT;
	if (planted(CLEAR_TOGETHER)) {
		for (l = base + 1; l <= top; l++)
			ask_to_clear(s, me, l, a->b);
		return STEP_NEXT;
	}
	a->y++;
	if (planted(PIVOT_UNCLEARED) && a->y == top - base) {
		s->l[top].cur[a->b] = ABSENT;
		return STEP_NEXT;
	}
	if (a->y > top - base)
		return STEP_NEXT;
	l = planted(CLEAR_TOP_FIRST) ? top + 1 - a->y : base + a->y;
	if (planted(TWO_WRITERS) && s->l[l].cur[a->b] != ABSENT)
		clear_directly(s, l, a->b);
	else if (!planted(TWO_WRITERS))
		ask_to_clear(s, me, l, a->b);
	return go_to(s, me, commit_clear);
}

/* C7: the rounds that cleared it have turned the lookups; space may go. */
static int commit_cleared(struct state *s, int me)
{
	struct actor *a = &s->a[me];
	int base = model.sc->commit_base, l;

	if (!rounds_done(s, me))
		return STEP_WAIT;
	for (l = model.sc->commit_top; l > base; l--) {
		if (planted(TWO_WRITERS) && s->l[l].cur[a->b] != ABSENT)
			unit_fua_done(&s->u[l][U_MAP + map_sector_of(a->b)]);
		if (planted(LOOKUP_LATE) || planted(TWO_WRITERS))
			s->l[l].cur[a->b] = ABSENT;
		s->l[l].punch |= BIT(a->b);
	}
	disk_of(s, me)->lock &= ~BIT(a->b);
	a->b++;
	return go_to(s, me, commit_pick);
}

/* Active: what is on its way has less to wait for in the pause. */
static int commit_drain(struct state *s, int me)
{
	if (is_active()) {
		ask_round(s, model.sc->commit_top, me);
		ask_round(s, model.sc->commit_base, me);
	}
	return STEP_NEXT;
}

static bool range_holds(const struct state *s, int me)
{
	for (int b = 0; b < NR_BLOCKS; b++)
		if (held_at(s, actor_arg(s, me), b) >= 0)
			return true;
	return false;
}

/*
 * Suspended: the base becomes the top, in memory. No header says so yet; till
 * then T shows the same, by way of its record, and holds nothing. If the base
 * has refused a write meanwhile, there is more to move.
 */
static int pivot_switch(struct state *s, int me)
{
	struct disk *k = disk_of(s, me);

	if (!is_active() || !k->to_base)
		return STEP_NEXT;
	if (k->inflight)
		return STEP_WAIT;
	if (range_holds(s, me) && !planted(PIVOT_LATE)) {
		s->a[me].b = 0;
		return go_to(s, me, commit_pick);
	}
	k->chain = (struct chain){ .n = 1, .l = { model.sc->commit_base } };
	k->to_base = 0;
	return STEP_NEXT;
}

static int pivot_switch_first(struct state *s, int me)
{
	return planted(PIVOT_RECORDED_FIRST) ? STEP_NEXT : pivot_switch(s, me);
}

/* End of an intermediate commit: O stands on the base. */
static void relink_over(struct state *s, int me, struct hdr *h)
{
	const struct hdr *top = header_in_force(s, 2);
	int base = model.sc->commit_base;

	h->parent = base + 1;
	if (model.sc->kind[base] == RAW)
		h->parent_cid = unit_read(&s->u[base][data_unit(0, 0)]);
	else
		h->parent_cid = s->a[me].x;
	h->limit = min_u8(h->limit, top->size);
}

/*
 * The base is itself again. Pivot: with an id that T's record doesn't accept,
 * so that the same header write closes T and opens the base.
 */
static void base_done(struct state *s, struct hdr *h)
{
	h->spoiled = 0;
	h->size = header_in_force(s, 2)->size;
	if (!is_active()) {
		h->sealed = model.sc->commit_over + 1;
		h->in_use = 0;
		return;
	}
	h->sealed = 0;
	if (!planted(PIVOT_SAME_CID))
		h->cid = fresh_cid(s);
}

static void build_end(struct state *s, int me, int l, struct hdr *h)
{
	if (l == 0 && !planted(RELINK_FIRST))
		base_done(s, h);
	if (l == 3 && planted(RELINK_FIRST))
		relink_over(s, me, h);
}

/* A raw base can carry no mark: T says where the disk went. */
static void build_end_above(struct state *s, int me, int l, struct hdr *h)
{
	bool raw = model.sc->kind[model.sc->commit_base] == RAW;

	if (l == 3)
		relink_over(s, me, h);
	if (l == 2 && is_active() && (raw || planted(PIVOT_SAME_CID)))
		h->retired = model.sc->commit_base + 1;
	if (l == 2 && is_active() && raw)
		h->done = 1;
}

/* What O relies on: nothing else may ever show at the base under c1. */
static void promise_base(struct state *s, int me)
{
	u8 v[NR_BLOCKS][NR_SECTORS];
	struct chain base = { .n = 1, .l = { model.sc->commit_base } };
	struct image im;

	if (model.sc->kind[base.l[0]] == RAW)
		return;
	image_latest(s, &im);
	for (int b = 0; b < NR_BLOCKS; b++)
		latest_block(&im, &base, b, v[b]);
	record_ghost(s, base.l[0] + 1, s->a[me].x, v);
}

static int commit_table(struct state *s, int me)
{
	struct chain c = {
		.n = 2, .l = { model.sc->commit_over, model.sc->commit_base },
	};

	if (is_active()) {
		pivot_switch(s, me);
		return STEP_END;
	}
	disk_of(s, me)->chain = c;
	promise_base(s, me);
	return STEP_NEXT;
}

/* T shows what it did, by its record, as long as the base is known by c1. */
static void build_done(struct state *s, int me, int l, struct hdr *h)
{
	(void)s;
	(void)me;
	(void)l;
	h->done = 1;
}

#define COMMIT_STEPS \
	STEP("commit starts", commit_start), \
	STEP("commit: T spells out what reads zero by shortness", commit_spell_out), \
	STEP("commit: durable in T", wait_rounds), \
	HEADER("C1: header T {job record}", C_BASE | C_TOP, build_c1), \
	STEP("C1: ends within the range mean nothing", commit_lift), \
	HEADER("C2: headers M, B {spoiled, cid}", C_BASE | C_MID | C_TOP, build_c2), \
	STEP("C3: writes to the base from here on", commit_route), \
	STEP("C4: lock a block; round: T", commit_pick), \
	STEP("C4: durable in T; copy the visible version", commit_copy), \
	STEP("C5: copied; round: base", commit_copied), \
	STEP("C6: durable; round: clear the next layer up", commit_clear), \
	STEP("C7: cleared; lookups switch, unlock", commit_cleared), \
	STEP("commit end: F1", commit_drain), \
	STEP("commit end: F1 done", wait_rounds), \
	STEP("pivot: the base is the top", pivot_switch_first), \
	HEADER("commit end: header B {not spoiled, ...}", C_BASE | C_OVER, build_end), \
	HEADER("commit end: header O {parent B, c1}; raw B: T {retired}", \
	       C_TOP | C_OVER, build_end_above), \
	STEP("commit end: table", commit_table), \
	HEADER("commit end: header T {done}", C_TOP, build_done), \
	STEP("committed", finish)

const struct step op_commit[] = {
	COMMIT_STEPS,
};

/* --- what may happen beside a commit --- */

static int find_commit(const struct state *s)
{
	for (int i = 0; i < NR_ACTORS; i++)
		if (actor_def(s, i)->steps == op_commit)
			return i;
	return -1;
}

/*
 * The controller gives up; a block that is being moved is moved to the end. The
 * disk is suspended for that: no write is on its way to the base.
 */
static int commit_cancel(struct state *s, int me)
{
	struct disk *k = disk_of(s, me);
	int job = find_commit(s);

	if (s->a[job].done)
		return STEP_END;
	if (op_commit[s->a[job].pc].run != commit_pick || k->lock ||
	    (k->inflight && !planted(CANCEL_NOT_DRAINED)))
		return STEP_WAIT;
	s->a[job].done = 1;
	k->to_base = 0;
	if (planted(CANCEL_FORGETS_BASE))
		k->written &= ~BIT(model.sc->commit_base);
	else
		ask_round(s, model.sc->commit_base, me);
	return STEP_NEXT;
}

/* Flushes cover the base until all in it is durable. */
static int commit_settled(struct state *s, int me)
{
	if (!rounds_done(s, me))
		return STEP_WAIT;
	disk_of(s, me)->written &= ~BIT(model.sc->commit_base);
	return STEP_END;
}

const struct step op_commit_cancel[] = {
	STEP("commit cancelled; round: base", commit_cancel),
	STEP("flushes leave the base out", commit_settled),
};

/* --- T, done, is unsealed and written to; then it is committed again --- */

static int again_start(struct state *s, int me)
{
	(void)me;
	return s->a[find_commit(s)].done ? STEP_NEXT : STEP_WAIT;
}

static int again_write(struct state *s, int me)
{
	int top = model.sc->commit_top;

	for (int i = 0; i < NR_SECTORS; i++) {
		unit_write(&s->u[top][data_unit(1, i)], 0x42);
		unit_done(&s->u[top][data_unit(1, i)]);
	}
	set_block(s, top, 1, DATA);
	ask_round(s, top, me);
	return STEP_NEXT;
}

static int again_chain(struct state *s, int me)
{
	static const struct chain c = { .n = 4, .l = { 3, 2, 1, 0 } };

	if (!rounds_done(s, me))
		return STEP_WAIT;
	disk_of(s, me)->chain = c;
	return STEP_NEXT;
}

const struct step op_commit_again[] = {
	STEP("the first commit has ended", again_start),
	HEADER("unseal T", C_TOP, build_unsealed),
	STEP("T is written to", again_write),
	STEP("durable; a new layer on T", again_chain),
	COMMIT_STEPS,
};

/* create --backing of the base as layer 4, offline, under a half-done commit. */
static int spoiled_child(struct state *s, int me)
{
	u8 v[NR_BLOCKS][NR_SECTORS];
	struct chain c = { .n = 1, .l = { model.sc->commit_base } };
	struct image im;

	(void)me;
	image_latest(s, &im);
	if (!hdr(im.hdr[c.l[0]])->spoiled)
		return STEP_WAIT;
	if (!planted(SPOILED_WITHOUT_KEY))
		return STEP_END;
	submit_child(s, 4, c.l[0], hdr(im.hdr[c.l[0]])->cid);
	sync_child(s, 4);
	for (int b = 0; b < NR_BLOCKS; b++)
		latest_block(&im, &c, b, v[b]);
	record_ghost(s, c.l[0] + 1, hdr(im.hdr[c.l[0]])->cid, v);
	return STEP_END;
}

const struct step op_spoiled_child[] = {
	STEP("create --backing of a spoiled layer", spoiled_child),
};
