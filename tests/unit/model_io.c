// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The running system: the guest's requests, the rounds that make them durable,
 * and punching.
 */
#include <assert.h>
#include <string.h>

#include "model.h"

/* --- lookups --- */

static bool is_raw(int l)
{
	return model.sc->kind[l] == RAW;
}

/* Nothing of the chain below shows through at @b. */
static bool ends_above(const struct state *s, int l, int b)
{
	return !is_raw(l) && !s->l[l].lifted && b >= hdr(s->l[l].hdr)->limit;
}

static bool is_short(const struct state *s, int l, int b)
{
	return !is_raw(l) && !s->l[l].lifted && b >= hdr(s->l[l].hdr)->size;
}

static void read_block(const struct state *s, int l, int b, u8 v[NR_SECTORS])
{
	enum block_state st = is_raw(l) ? DATA : s->l[l].cur[b];

	for (int i = 0; i < NR_SECTORS; i++) {
		if (st == DATA)
			v[i] = unit_read(&s->u[l][data_unit(b, i)]);
		else
			v[i] = st == DAMAGED ? EIO_READ : ZEROES;
	}
}

/* What the guest reads now. */
void live_block(const struct state *s, int d, int b, u8 v[NR_SECTORS])
{
	const struct chain *c = &s->d[d].chain;

	memset(v, ZEROES, NR_SECTORS);
	for (int i = 0; i < c->n; i++) {
		int l = c->l[i];

		if (i && is_short(s, l, b))
			return;
		if (is_raw(l) || s->l[l].cur[b] != ABSENT) {
			read_block(s, l, b, v);
			return;
		}
		if (ends_above(s, l, b))
			return;
	}
}

/*
 * Which layer of a commit's range decides about @b, be it by its shortness;
 * -1: none, the base shows through.
 */
int held_at(const struct state *s, int d, int b)
{
	const struct chain *c = &s->d[d].chain;
	int i = 0;

	while (c->l[i] != model.sc->commit_top)
		i++;
	for (; i < c->n; i++) {
		int l = c->l[i];

		if (l == model.sc->commit_base)
			return -1;
		if (l != model.sc->commit_top && is_short(s, l, b))
			return l;
		if (s->l[l].cur[b] != ABSENT || ends_above(s, l, b))
			return l;
	}
	return -1;
}

/* --- changes to a layer's map --- */

void set_block(struct state *s, int l, int b, enum block_state st)
{
	if (!is_raw(l) && s->l[l].cur[b] != st)
		s->l[l].dirty |= BIT(b);
	s->l[l].cur[b] = st;
}

/* A change of @b that is not on disk yet, or on its way there. */
bool uncommitted(const struct state *s, int l, int b)
{
	return (s->l[l].dirty | s->l[l].captured) & BIT(b);
}

static u8 sector_image(const struct state *s, int l, int sector,
		       const u8 *states, u8 track)
{
	u8 v = SECTOR_VALID | (hdr(s->l[l].hdr)->seed ? SECTOR_SEED : 0);

	if (track & BIT(sector))
		v |= SECTOR_TRACK;
	for (int b = 0; b < NR_BLOCKS; b++)
		if (sector_blocks(sector) & BIT(b))
			v |= states[b] << (2 * b);
	return v;
}

static u8 presence_image(const struct state *s, int l, u8 groups)
{
	return SECTOR_VALID | (hdr(s->l[l].hdr)->seed ? SECTOR_SEED : 0) | groups;
}

/* What the kernel makes of a layer when it opens it. */
void load_layer(struct state *s, int l)
{
	struct layer *y = &s->l[l];
	u8 slot0 = unit_read(&s->u[l][U_SLOT0]), slot1 = unit_read(&s->u[l][U_SLOT1]);
	u8 presence = unit_read(&s->u[l][U_PRESENCE]), seed;

	memset(y, 0, sizeof(*y));
	if (model.sc->kind[l] != CHAIN)
		return;
	y->hdr = pick_header(slot0, slot1);
	y->hdr_busy = slot0 != slot1 && !planted(ALTERNATE_SLOTS);
	seed = hdr(y->hdr)->seed;
	for (int b = 0; b < NR_BLOCKS; b++) {
		u8 sector = unit_read(&s->u[l][U_MAP + map_sector_of(b)]);

		y->cur[b] = sector_state(presence, sector, seed, b);
		if (sector & SECTOR_TRACK)
			y->track |= BIT(map_sector_of(b));
		if (presence & BIT(group_of(b)))
			y->present |= BIT(group_of(b));
	}
	y->tracked = y->track;
}

/* --- flush rounds (F1) --- */

static enum wait_state waits(const struct state *s, int l, int me)
{
	return (s->l[l].waiting >> (2 * me)) & 3;
}

static void set_waits(struct state *s, int l, int me, enum wait_state w)
{
	s->l[l].waiting &= ~(3U << (2 * me));
	s->l[l].waiting |= w << (2 * me);
}

/*
 * Everybody who needs a layer's changes durable waits for a whole round, one
 * that captures after he asked. Only the flusher writes map sectors.
 */
void ask_round(struct state *s, int l, int me)
{
	bool join = planted(JOIN_RUNNING_ROUND) && s->l[l].busy;

	set_waits(s, l, me, join ? IN_ROUND : WANTS_ROUND);
}

/* All rounds that @me asked for are done; may be asked once. */
bool rounds_done(struct state *s, int me)
{
	for (int l = 0; l < NR_LAYERS; l++)
		if (waits(s, l, me) == WANTS_ROUND || waits(s, l, me) == IN_ROUND)
			return false;
	for (int l = 0; l < NR_LAYERS; l++)
		set_waits(s, l, me, NOT_WAITING);
	return true;
}

static bool move_waiters(struct state *s, int l, enum wait_state from,
			 enum wait_state to)
{
	bool any = false;

	for (int i = 0; i < NR_ACTORS; i++) {
		if (waits(s, l, i) == from) {
			set_waits(s, l, i, to);
			any = true;
		}
	}
	return any;
}

/*
 * Groups with changes are captured whole, as they are in memory now. All that
 * `cur` says has been true of the device before now: data writes complete
 * before they show there, so the FLUSH that follows covers them. What changes
 * from here on goes out with the next round. Blocks that a commit clears are
 * still there for lookups, and absent for the disk.
 */
static void capture(struct layer *y)
{
	u8 changed = y->dirty | y->clear;

	y->captured = 0;
	for (int b = 0; b < NR_BLOCKS; b++)
		if (changed & BIT(b))
			y->captured |= group_blocks(group_of(b));
	y->clearing = y->clear;
	y->clear = 0;
	y->dirty &= ~y->captured;
	y->track_cap = y->track;
	for (int b = 0; b < NR_BLOCKS; b++) {
		y->cap[b] = y->clearing & BIT(b) ? ABSENT : y->cur[b];
		if (planted(DAMAGE_FORGOTTEN) && y->cap[b] == DAMAGED)
			y->cap[b] = ABSENT;
	}
}

static u8 captured_groups(const struct layer *y)
{
	u8 groups = 0;

	for (int b = 0; b < NR_BLOCKS; b++)
		if (y->captured & BIT(b))
			groups |= BIT(group_of(b));
	return groups;
}

static bool group_looks_written(const struct state *s, int l, int group)
{
	for (int b = 0; b < NR_BLOCKS; b++)
		if (group_of(b) == group &&
		    !(unit_read(&s->u[l][U_MAP + map_sector_of(b)]) & SECTOR_VALID))
			return false;
	return true;
}

/*
 * First use of a group: empty but valid sectors, durable before any presence
 * bit. So a presence bit never points to sectors of a former round or life,
 * nor to none.
 */
static void write_empty_groups(struct state *s, int l)
{
	struct layer *y = &s->l[l];
	static const u8 nothing[NR_BLOCKS];
	u8 first = captured_groups(y) & ~y->present;

	if (planted(NO_EMPTY_GROUP))
		return;
	for (int b = 0; b < NR_BLOCKS; b++) {
		int m = map_sector_of(b);

		if (!(first & BIT(group_of(b))))
			continue;
		if (planted(EMPTY_GROUP_SKIPPED) &&
		    group_looks_written(s, l, group_of(b)))
			continue;
		unit_write(&s->u[l][U_MAP + m], sector_image(s, l, m, nothing, 0));
	}
}

static void write_sectors(struct state *s, int l)
{
	struct layer *y = &s->l[l];
	const u8 *states = planted(BUILD_FROM_CUR) ? y->cur : y->cap;
	u8 groups = y->present | captured_groups(y);

	for (int b = 0; b < NR_BLOCKS; b++) {
		int m = map_sector_of(b);

		if (y->captured & BIT(b))
			unit_write(&s->u[l][U_MAP + m],
				   sector_image(s, l, m, states, y->track_cap));
	}
	if (planted(PRESENCE_LATE)) {
		groups = y->present_due;
		y->present_due |= captured_groups(y);
	}
	if (y->captured)
		unit_write(&s->u[l][U_PRESENCE],
			   presence_image(s, l, groups | y->present));
}

static void writes_done(struct state *s, int l)
{
	for (int m = 0; m < NR_BLOCKS; m++)
		unit_done(&s->u[l][U_MAP + m]);
	unit_done(&s->u[l][U_PRESENCE]);
}

enum { ROUND_START, ROUND_FLUSH, ROUND_WRITE, ROUND_FLUSH_AGAIN, ROUND_END };

static int round_start(struct state *s, int me)
{
	int l = actor_def(s, me)->arg;
	struct layer *y = &s->l[l];

	if (!move_waiters(s, l, WANTS_ROUND, y->failed ? ROUND_DONE : IN_ROUND))
		return STEP_WAIT;
	if (y->failed)
		return ROUND_START;
	y->busy = 1;
	/* Clears need no FLUSH before them. */
	y->one_flush = !y->dirty;
	if (!is_raw(l))
		capture(y);
	if (!y->captured) {
		flush_begin(s, l);
		return ROUND_END;
	}
	y->one_flush &= !(captured_groups(y) & ~y->present);
	if (y->one_flush) {
		write_sectors(s, l);
		return ROUND_FLUSH_AGAIN;
	}
	write_empty_groups(s, l);
	return STEP_NEXT;
}

static int round_flush(struct state *s, int me)
{
	int l = actor_def(s, me)->arg;

	writes_done(s, l);
	if (!planted(NO_FIRST_FLUSH))
		flush_begin(s, l);
	return STEP_NEXT;
}

/*
 * The cache below may have dropped what it failed to write and call it clean,
 * so a failed FLUSH is never tried again: the layer takes no more writes.
 */
static bool flush_failed(struct state *s, int l)
{
	struct layer *y = &s->l[l];

	if (!y->fail_next)
		return false;
	y->fail_next = 0;
	drop_cache(s, l);
	if (planted(RETRY_FLUSH)) {
		flush_begin(s, l);
		return false;
	}
	y->failed = 1;
	y->busy = 0;
	move_waiters(s, l, IN_ROUND, ROUND_DONE);
	return true;
}

static int round_write(struct state *s, int me)
{
	int l = actor_def(s, me)->arg;

	if (flush_failed(s, l))
		return ROUND_START;
	flush_end(s, l);
	write_sectors(s, l);
	return STEP_NEXT;
}

/*
 * FUA writes in place of the second FLUSH. Only if there was a first one: else
 * nothing has flushed the data that this round makes promises of.
 */
static bool fua_instead(struct layer *y)
{
	return model.sc->fua && (!y->one_flush || planted(FUA_ONLY));
}

static int round_flush_again(struct state *s, int me)
{
	int l = actor_def(s, me)->arg;

	if (fua_instead(&s->l[l])) {
		for (int m = 0; m < NR_BLOCKS; m++)
			unit_fua_done(&s->u[l][U_MAP + m]);
		unit_fua_done(&s->u[l][U_PRESENCE]);
		return STEP_NEXT;
	}
	writes_done(s, l);
	if (!planted(NO_SECOND_FLUSH))
		flush_begin(s, l);
	return STEP_NEXT;
}

/*
 * The round is durable. Lookups leave cleared blocks in the same instant:
 * the next round captures `cur` again and must not bring them back.
 */
static int round_end(struct state *s, int me)
{
	int l = actor_def(s, me)->arg;
	struct layer *y = &s->l[l];

	if (flush_failed(s, l))
		return ROUND_START;
	flush_end(s, l);
	y->present |= captured_groups(y);
	y->tracked = (y->tracked | y->track_cap) & y->track;
	for (int b = 0; b < NR_BLOCKS; b++)
		if (y->clearing & BIT(b) && !planted(LOOKUP_LATE))
			y->cur[b] = ABSENT;
	y->captured = y->clearing = y->track_cap = 0;
	memset(y->cap, 0, sizeof(y->cap));
	y->busy = y->one_flush = 0;
	move_waiters(s, l, IN_ROUND, ROUND_DONE);
	return ROUND_START;
}

const struct step flusher[] = {
	[ROUND_START] = STEP("capture; empty groups for first uses", round_start),
	[ROUND_FLUSH] = STEP("FLUSH 1 starts", round_flush),
	[ROUND_WRITE] = STEP("FLUSH 1 done; write map sectors and presence",
			  round_write),
	[ROUND_FLUSH_AGAIN] = STEP("written; FLUSH 2 starts", round_flush_again),
	[ROUND_END] = STEP("FLUSH 2 done: round complete", round_end),
};

/* --- reference: what the guest may expect --- */

static u8 last_write(const struct history *h)
{
	return h->base + h->n - 1;
}

/*
 * A first write is all or nothing, unless the disk may still say `data` of
 * the block (data, discard, data within one flush interval): then it is a
 * rewrite, and takes the discard's atomicity with it.
 */
static void note_write(struct history *h, const u8 v[NR_SECTORS], bool whole)
{
	struct write *w = &h->op[h->n];

	assert(h->n < NR_WRITES);
	if (!whole)
		for (int i = 0; i < h->n; i++)
			h->op[i].whole = 0;
	memcpy(w->v, v, NR_SECTORS);
	w->whole = whole;
	h->n++;
}

/* A flush that promised all up to write number @upto has completed. */
static void note_flush(struct history *h, u8 upto)
{
	u8 drop = upto > h->base ? upto - h->base : 0;

	memmove(h->op, h->op + drop, (h->n - drop) * sizeof(h->op[0]));
	h->n -= drop;
	h->base += drop;
	memset(h->op + h->n, 0, drop * sizeof(h->op[0]));
	h->op[0].whole = 0;
}

/*
 * May the disk, now or after a power cut, say that @l holds data at @b? It may,
 * too, if a round is about to write that, captured before a later discard.
 */
static bool may_be_data_on_disk(const struct state *s, int l, int b)
{
	const struct unit *p = &s->u[l][U_PRESENCE];
	const struct unit *m = &s->u[l][U_MAP + map_sector_of(b)];
	u8 seed = hdr(s->l[l].hdr)->seed;

	if (s->l[l].captured & BIT(b) && s->l[l].cap[b] == DATA)
		return true;
	for (int i = 0; i < p->n; i++)
		for (int j = 0; j < m->n; j++)
			if (sector_state(p->v[i], m->v[j], seed, b) == DATA)
				return true;
	return false;
}

/* --- guest --- */

enum {
	GUEST_START, GUEST_WRITTEN, GUEST_FLUSHED, GUEST_TRACKED, GUEST_FLAGGED,
	GUEST_FUA, GUEST_FUA_DONE, GUEST_DIRTY
};

static const struct guest_op *request(const struct state *s, int me)
{
	return &actor_def(s, me)->script[s->a[me].op];
}

static int next_request(struct state *s, int me)
{
	s->a[me].op++;
	s->a[me].x = s->a[me].y = s->a[me].fua = 0;
	memset(s->a[me].cover, 0, sizeof(s->a[me].cover));
	return GUEST_START;
}

/*
 * Where a write goes: to the top; during an active commit to the base, but
 * only if no layer above the base holds the block. What the base refuses the
 * top takes.
 */
static int target_of(const struct state *s, int d, int b)
{
	const struct disk *k = &s->d[d];

	if (k->to_base && !(model.sc->refused & BIT(b)) &&
	    (held_at(s, d, b) < 0 || planted(GUEST_TO_BASE)))
		return k->to_base - 1;
	return k->chain.l[0];
}

static bool refused(const struct state *s, const struct guest_op *op, int l)
{
	u8 v[NR_SECTORS];

	if (s->l[l].failed)
		return true;
	if (planted(DAMAGE_WRITABLE))
		return false;
	live_block(s, op->disk, op->b, v);
	return s->l[l].cur[op->b] == DAMAGED ||
	       (op->kind == WRITE_HALF && v[0] == EIO_READ);
}

static void touch(struct disk *k, int b)
{
	if (k->tracking)
		k->touched |= BIT(b);
}

/* Whole-block discard: in memory at once. Lower layers never see it. */
static int discard(struct state *s, int me, const struct guest_op *op, int l)
{
	static const u8 zeroes[NR_SECTORS];
	struct disk *k = &s->d[op->disk];

	if (s->l[l].cur[op->b] == DATA)
		s->l[l].punch |= BIT(op->b);
	set_block(s, l, op->b, ZERO);
	if (k->mirror)
		set_block(s, k->mirror - 1, op->b, ZERO);
	k->written |= BIT(l);
	touch(k, op->b);
	note_write(&k->h[op->b], zeroes, true);
	return next_request(s, me);
}

/* A raw layer has no map to say `zero` in: zeroes are written. */
static bool mirrors_to_raw(const struct disk *k)
{
	return k->mirror && is_raw(k->mirror - 1);
}

/* Sectors that the request itself writes. */
static u8 sectors_of(const struct guest_op *op)
{
	return op->kind == WRITE_HALF ? BIT(op->value & 1) : BIT(NR_SECTORS) - 1;
}

/* In place if the layer holds the block, else the whole block (copy-up). */
static void submit(struct state *s, int l, const struct guest_op *op,
		   const u8 v[NR_SECTORS])
{
	bool in_place = is_raw(l) || s->l[l].cur[op->b] == DATA;
	u8 sectors = in_place ? sectors_of(op) : BIT(NR_SECTORS) - 1;

	for (int i = 0; i < NR_SECTORS; i++)
		if (sectors & BIT(i))
			unit_write(&s->u[l][data_unit(op->b, i)], v[i]);
	if (planted(BIT_AT_SUBMIT))
		set_block(s, l, op->b, DATA);
	s->l[l].punch &= ~BIT(op->b);
	s->d[op->disk].written |= BIT(l);
}

/*
 * Part of a block that the mirror's target doesn't hold yet stays with the
 * source: the job copies the block later.
 */
static bool goes_to_mirror(const struct state *s, const struct guest_op *op)
{
	const struct disk *k = &s->d[op->disk];

	return k->mirror && (op->kind != WRITE_HALF ||
			     s->l[k->mirror - 1].cur[op->b] != ABSENT);
}

/*
 * A FUA write of a block whose state is durable makes no use of the map: the
 * device's FUA is enough. Not while a round runs: it may be this one's.
 */
static bool fua_suffices(const struct state *s, const struct guest_op *op, int l)
{
	const struct disk *k = &s->d[op->disk];

	if (k->mirror || (k->hold && !planted(FUA_NOT_HELD)))
		return false;
	return planted(FUA_BEFORE_BIT) ||
	       (!uncommitted(s, l, op->b) && !s->l[l].busy);
}

static int start_write(struct state *s, int me, const struct guest_op *op, int l)
{
	struct disk *k = &s->d[op->disk];
	bool in_place = is_raw(l) || s->l[l].cur[op->b] == DATA;
	u8 v[NR_SECTORS], sectors = sectors_of(op);

	live_block(s, op->disk, op->b, v);
	for (int i = 0; i < NR_SECTORS; i++)
		if (sectors & BIT(i))
			v[i] = op->kind == DISCARD ? ZEROES : op->value;
	note_write(&k->h[op->b], v, !in_place && !may_be_data_on_disk(s, l, op->b));
	submit(s, l, op, v);
	s->a[me].x = l;
	s->a[me].fua = op->kind == WRITE_FUA && in_place && fua_suffices(s, op, l);
	if (goes_to_mirror(s, op)) {
		submit(s, k->mirror - 1, op, v);
		s->a[me].y = k->mirror;
	}
	k->inflight |= BIT(op->b);
	touch(k, op->b);
	return GUEST_WRITTEN;
}

/*
 * Change tracking: the flag is durable before the write is submitted. It goes
 * out in a whole round, as the sector that it lies in also has states.
 */
static int set_flag(struct state *s, int me, int l, int b)
{
	int m = map_sector_of(b);

	s->l[l].track |= BIT(m);
	if (planted(TRACK_FROM_CUR) || planted(TRACK_NO_PRESENCE)) {
		unit_write(&s->u[l][U_MAP + m],
			   sector_image(s, l, m, s->l[l].cur, s->l[l].track));
		s->a[me].x = l;
		s->a[me].y = m;
		return GUEST_FLAGGED;
	}
	s->l[l].dirty |= BIT(b);
	ask_round(s, l, me);
	return GUEST_TRACKED;
}

static int start_flush(struct state *s, int me, const struct guest_op *op)
{
	struct disk *k = &s->d[op->disk];
	u8 layers = k->written | BIT(k->chain.l[0]);

	/* What was zeroed is a change of the target's map, too. */
	if (k->mirror)
		layers |= BIT(k->mirror - 1);
	if (k->mirror && planted(MIRROR_FLUSH_SOURCE))
		layers &= ~BIT(k->mirror - 1);
	if (k->hold && !planted(FLUSH_NOT_HELD))
		return STEP_WAIT;
	for (int b = 0; b < NR_BLOCKS; b++)
		s->a[me].cover[b] = last_write(&k->h[b]) -
				    !!(k->inflight & BIT(b));
	for (int l = 0; l < NR_LAYERS; l++)
		if (layers & BIT(l))
			ask_round(s, l, me);
	return GUEST_FLUSHED;
}

static int guest_start(struct state *s, int me)
{
	const struct guest_op *op = request(s, me);
	struct disk *k = &s->d[op->disk];
	int l;

	if (op->kind == GUEST_END)
		return STEP_END;
	if (!k->opened || k->paused)
		return STEP_WAIT;
	if (op->kind == FLUSH)
		return start_flush(s, me, op);
	if ((k->inflight | (planted(NO_MOVE_LOCK) ? 0 : k->lock)) & BIT(op->b))
		return STEP_WAIT;
	l = target_of(s, op->disk, op->b);
	if (refused(s, op, l))
		return next_request(s, me);
	if (k->tracking && !planted(TRACK_LATE) &&
	    !(s->l[l].tracked & BIT(map_sector_of(op->b))))
		return set_flag(s, me, l, op->b);
	if (k->tracking && planted(TRACK_LATE)) {
		s->l[l].track |= BIT(map_sector_of(op->b));
		s->l[l].dirty |= BIT(op->b);
	}
	if (op->kind == DISCARD && !is_raw(l) && !mirrors_to_raw(k))
		return discard(s, me, op, l);
	if (s->l[l].punching & BIT(op->b) && !planted(PUNCH_RACE))
		return STEP_WAIT;
	return start_write(s, me, op, l);
}

/*
 * The data is on the device, so the map may say so. The change is there for the
 * next round in the same instant: a write in place, which another request may
 * already be by now, adds none of its own and relies on it.
 */
static void written(struct state *s, int l, int b)
{
	for (int i = 0; i < NR_SECTORS; i++)
		unit_done(&s->u[l][data_unit(b, i)]);
	set_block(s, l, b, DATA);
}

static int guest_written(struct state *s, int me)
{
	const struct guest_op *op = request(s, me);
	struct actor *a = &s->a[me];
	struct disk *k = &s->d[op->disk];

	for (int i = 0; a->fua && i < NR_SECTORS; i++)
		unit_fua_done(&s->u[a->x][data_unit(op->b, i)]);
	if (planted(DIRTY_LATE) && s->l[a->x].cur[op->b] != DATA) {
		written(s, a->x, op->b);
		s->l[a->x].dirty &= ~BIT(op->b);
		k->inflight &= ~BIT(op->b);
		return GUEST_DIRTY;
	}
	written(s, a->x, op->b);
	if (a->y)
		written(s, a->y - 1, op->b);
	if (planted(GUEST_TO_BASE) && k->to_base)
		for (int i = 0; k->chain.l[i] != a->x; i++)
			set_block(s, k->chain.l[i], op->b, ABSENT);
	if (op->kind == WRITE_FUA && !a->fua)
		return GUEST_FUA;
	if (a->fua)
		note_flush(&k->h[op->b], last_write(&k->h[op->b]));
	k->inflight &= ~BIT(op->b);
	return next_request(s, me);
}

static int guest_dirty(struct state *s, int me)
{
	s->l[s->a[me].x].dirty |= BIT(request(s, me)->b);
	return next_request(s, me);
}

/* FUA where the map has to change: the write, then as a flush. */
static int guest_fua(struct state *s, int me)
{
	const struct guest_op *op = request(s, me);

	if (s->d[op->disk].hold && !planted(FUA_NOT_HELD))
		return STEP_WAIT;
	ask_round(s, s->a[me].x, me);
	if (s->a[me].y)
		ask_round(s, s->a[me].y - 1, me);
	return GUEST_FUA_DONE;
}

static int guest_fua_done(struct state *s, int me)
{
	const struct guest_op *op = request(s, me);
	struct disk *k = &s->d[op->disk];
	struct history *h = &k->h[op->b];

	if (!rounds_done(s, me))
		return STEP_WAIT;
	if (!s->l[s->a[me].x].failed)
		note_flush(h, last_write(h));
	k->inflight &= ~BIT(op->b);
	return next_request(s, me);
}

static int guest_flushed(struct state *s, int me)
{
	const struct guest_op *op = request(s, me);
	struct disk *k = &s->d[op->disk];
	bool failed = false;

	if (!rounds_done(s, me))
		return STEP_WAIT;
	for (int l = 0; l < NR_LAYERS; l++)
		failed |= s->l[l].failed;
	for (int b = 0; b < NR_BLOCKS && !failed; b++)
		note_flush(&k->h[b], s->a[me].cover[b]);
	return next_request(s, me);
}

static int guest_tracked(struct state *s, int me)
{
	return rounds_done(s, me) ? GUEST_START : STEP_WAIT;
}

static int guest_flagged(struct state *s, int me)
{
	struct actor *a = &s->a[me];

	unit_fua_done(&s->u[a->x][U_MAP + a->y]);
	s->l[a->x].tracked |= BIT(a->y);
	a->x = a->y = 0;
	return GUEST_START;
}

const struct step guest[] = {
	[GUEST_START] = STEP("submits a request", guest_start),
	[GUEST_WRITTEN] = STEP("write completes", guest_written),
	[GUEST_FLUSHED] = STEP("flush completes", guest_flushed),
	[GUEST_TRACKED] = STEP("change flag durable", guest_tracked),
	[GUEST_FLAGGED] = STEP("change flag durable (planted)", guest_flagged),
	[GUEST_FUA] = STEP("FUA write asks for a round", guest_fua),
	[GUEST_FUA_DONE] = STEP("FUA write completes", guest_fua_done),
	[GUEST_DIRTY] = STEP("write dirties the map (planted)", guest_dirty),
};

/* --- punching --- */

static bool may_punch(const struct state *s, int l, int b)
{
	const struct layer *y = &s->l[l];

	if (!(y->punch & BIT(b)) || s->d[0].inflight & BIT(b))
		return false;
	return y->cur[b] != DATA && (planted(PUNCH_EARLY) || !uncommitted(s, l, b));
}

/* Space is given back when the map durably says that nothing is there. */
static int punch_start(struct state *s, int me)
{
	int l = actor_def(s, me)->arg;

	for (int b = 0; b < NR_BLOCKS; b++) {
		if (!may_punch(s, l, b))
			continue;
		for (int i = 0; i < NR_SECTORS; i++)
			unit_write(&s->u[l][data_unit(b, i)], PUNCHED);
		s->l[l].punch &= ~BIT(b);
		s->l[l].punching |= BIT(b);
		return STEP_NEXT;
	}
	return STEP_WAIT;
}

/* It takes effect somewhere between submission and completion. */
static int punch_end(struct state *s, int me)
{
	int l = actor_def(s, me)->arg;

	for (int b = 0; b < NR_BLOCKS; b++) {
		if (!(s->l[l].punching & BIT(b)))
			continue;
		for (int i = 0; i < NR_SECTORS; i++) {
			unit_write(&s->u[l][data_unit(b, i)], PUNCHED);
			unit_done(&s->u[l][data_unit(b, i)]);
		}
	}
	s->l[l].punching = 0;
	return 0;
}

const struct step puncher[] = {
	STEP("punch submitted", punch_start),
	STEP("punch completes", punch_end),
};

/* --- rounds that nobody asked for --- */

static int background_start(struct state *s, int me)
{
	int l = actor_def(s, me)->arg;

	if (!s->l[l].dirty)
		return STEP_WAIT;
	ask_round(s, l, me);
	return STEP_NEXT;
}

static int background_end(struct state *s, int me)
{
	return rounds_done(s, me) ? 0 : STEP_WAIT;
}

const struct step background[] = {
	STEP("time is up: round", background_start),
	STEP("round done", background_end),
};
