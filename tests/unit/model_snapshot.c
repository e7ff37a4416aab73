// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Snapshots, of one disk and of several at one instant.
 *
 * One disk: A is layer 0, N layer 1. The second disk of a group has 2 and 3.
 */

#include <string.h>

#include "model_ops.h"

#define GROUP	1

/* --- snapshot --- */

/* One disk: A is layer 0, N layer 1; the second disk of a group has 2 and 3. */
static int snap_create(struct state *s, int me)
{
	struct actor *a = &s->a[me];

	if (!disk_of(s, me)->opened)
		return STEP_WAIT;
	a->x = planted(SEAL_SAME_CID) ? header_in_force(s, 0)->cid : fresh_cid(s);
	submit_child(s, 1, 0, a->x);
	return STEP_NEXT;
}

static int snap_synced(struct state *s, int me)
{
	(void)me;
	sync_child(s, 1);
	return STEP_NEXT;
}

static void push_top(struct state *s, int d, int l)
{
	struct chain *c = &s->d[d].chain;

	load_layer(s, l);
	memmove(c->l + 1, c->l, c->n);
	c->l[0] = l;
	c->n++;
}

/*
 * No write is in flight; A is what it will be for ever. Flushes that arrive
 * from here on must not complete before N is the disk: N's writes would be
 * lost with it.
 */
static void switch_disk(struct state *s, int me, int d, u8 cid)
{
	int a = s->d[d].chain.l[0];

	record_live(s, d, a, cid);
	push_top(s, d, a + 1);
	s->d[d].hold = 1;
	ask_round(s, a, me);
}

static int snap_switch(struct state *s, int me)
{
	if (disk_of(s, me)->inflight && !planted(SWITCH_WITHOUT_DRAIN))
		return STEP_WAIT;
	switch_disk(s, me, actor_arg(s, me), s->a[me].x);
	return STEP_NEXT;
}

static int snap_flushed(struct state *s, int me)
{
	if (planted(SEAL_BEFORE_FLUSH))
		return STEP_NEXT;
	return wait_rounds(s, me);
}

static void build_sealed(struct state *s, int me, int l, struct hdr *h)
{
	h->sealed = l + 2;
	h->cid = s->a[me].x;
	h->in_use = 0;
}

static int snap_release(struct state *s, int me)
{
	struct disk *k = disk_of(s, me);

	k->hold = planted(HOLD_FOREVER);
	k->written &= ~BIT(0);
	return STEP_NEXT;
}

#define SNAP_CREATE \
	STEP("snapshot 1: N's header, file, name", snap_create), \
	STEP("snapshot 1: fsync file and directory", snap_synced)

const struct step op_snapshot[] = {
	SNAP_CREATE,
	STEP("snapshot 3: switch in memory", snap_switch),
	STEP("snapshot 4: F1 on A done", snap_flushed),
	HEADER_COMMIT("snapshot 4: header A {sealed by N, cid=cf}", BIT(0),
		      build_sealed),
	STEP("snapshot 4: release the flushes", snap_release),
	HEADER_OTHER("snapshot 4: header A", BIT(0)),
	STEP("snapshot returns", finish),
};

/* A raw A has no room for a seal: N's link, complete, is the commit record. */
static int raw_create(struct state *s, int me)
{
	(void)me;
	submit_child(s, 1, 0, 0);
	return STEP_NEXT;
}

static void build_frozen(struct state *s, int me, int l, struct hdr *h)
{
	(void)me;
	(void)l;
	h->parent_cid = unit_read(&s->u[0][data_unit(0, 0)]);
}

const struct step op_snapshot_raw[] = {
	STEP("snapshot 1: N's header, file, name", raw_create),
	STEP("snapshot 1: fsync file and directory", snap_synced),
	STEP("snapshot 3: switch in memory", snap_switch),
	STEP("snapshot 4: FLUSH of A done", snap_flushed),
	HEADER_COMMIT("snapshot 4: header N {fingerprint of A}", BIT(1),
		      build_frozen),
	STEP("snapshot 4: release the flushes", snap_release),
	HEADER_OTHER("snapshot 4: header N", BIT(1)),
	STEP("snapshot returns", finish),
};

const struct step op_abandon[] = {
	SNAP_CREATE,
	STEP("controller killed", finish),
};

static int undo_pause(struct state *s, int me)
{
	struct disk *k = disk_of(s, me);

	if (k->inflight)
		return STEP_WAIT;
	k->paused = 1;
	record_live(s, actor_arg(s, me), 0, s->a[me].x);
	ask_round(s, 0, me);
	return STEP_NEXT;
}

static void build_seal_undone(struct state *s, int me, int l, struct hdr *h)
{
	build_unsealed(s, me, l, h);
	h->in_use = 1;
}

const struct step op_undo[] = {
	SNAP_CREATE,
	STEP("snapshot: suspend, F1", undo_pause),
	STEP("snapshot: F1 on A done", wait_rounds),
	HEADER("snapshot 4: header A {sealed by N, cid=cf}", BIT(0), build_sealed),
	HEADER("undo: header A {unsealed, new cid, in use}", BIT(0),
	       build_seal_undone),
	STEP("undo: resume on A", resume),
	STEP("undone", finish),
};

/*
 * --- snapshot of several disks ---
 *
 * Of the second one's record layer, A2 or (if that is raw) N2, the header says
 * whether its disk has switched: pending, and then as A1 has decided.
 */

static bool second_is_raw(void)
{
	return model.sc->kind[2] == RAW;
}

static int group_create(struct state *s, int me)
{
	if (!s->d[0].opened || !s->d[1].opened)
		return STEP_WAIT;
	s->a[me].x = fresh_cid(s);
	s->a[me].y = second_is_raw() ? 0 : fresh_cid(s);
	submit_child(s, 1, 0, s->a[me].x);
	submit_child(s, 3, 2, s->a[me].y);
	return STEP_NEXT;
}

static int group_synced(struct state *s, int me)
{
	(void)me;
	sync_child(s, 1);
	sync_child(s, 3);
	return STEP_NEXT;
}

static int group_switch(struct state *s, int me)
{
	if (s->d[0].inflight || s->d[1].inflight)
		return STEP_WAIT;
	switch_disk(s, me, 0, s->a[me].x);
	switch_disk(s, me, 1, s->a[me].y);
	return STEP_NEXT;
}

static int group_flushed(struct state *s, int me)
{
	return planted(GROUP_DECIDE_UNFLUSHED) ? STEP_NEXT : wait_rounds(s, me);
}

static void build_decision(struct state *s, int me, int l, struct hdr *h)
{
	build_sealed(s, me, l, h);
	h->decision = GROUP;
}

static void set_pending(struct hdr *h)
{
	if (planted(GROUP_NO_PENDING))
		return;
	h->pending = GROUP;
	h->coordinator = 1;
}

/* In use still: whoever else finds it there has to leave it alone. */
static void build_pending(struct state *s, int me, int l, struct hdr *h)
{
	if (l == 0) {
		if (planted(GROUP_DECIDE_EARLY))
			build_decision(s, me, l, h);
		return;
	}
	h->cid = s->a[me].y;
	h->sealed = l + 2;
	set_pending(h);
}

/* Only now there is something to be told of A2: what it is frozen as. */
static void build_raw_pending(struct state *s, int me, int l, struct hdr *h)
{
	build_frozen(s, me, l, h);
	h->parent_cid = unit_read(&s->u[2][data_unit(0, 0)]);
	set_pending(h);
}

static int group_release(struct state *s, int me)
{
	(void)me;
	s->d[0].hold = s->d[1].hold = 0;
	s->d[0].written &= ~BIT(0);
	s->d[1].written &= ~BIT(2);
	return STEP_NEXT;
}

static void build_dropped(struct state *s, int me, int l, struct hdr *h)
{
	(void)s;
	(void)me;
	(void)l;
	h->decision = 0;
}

static void build_final(struct state *s, int me, int l, struct hdr *h)
{
	if (l == 0 && planted(GROUP_DROP_EARLY))
		build_dropped(s, me, l, h);
	if (l == 0)
		return;
	h->pending = h->coordinator = 0;
	if (l == 2)
		h->in_use = 0;
}

#define GROUP_CREATE \
	STEP("group 1: all N_i", group_create), \
	STEP("group 1: fsync files and directories", group_synced)
#define GROUP_PENDING \
	HEADER("group 2: header A2 {pending, cf}", BIT(0) | BIT(2), build_pending)
#define GROUP_SWITCH \
	STEP("group 3: one switch in memory for all", group_switch), \
	STEP("group 4: F1 on all A_i done", group_flushed)
#define GROUP_COMMIT(second) \
	HEADER_COMMIT("group 5: header A1 {sealed, decision}", BIT(0), \
		      build_decision), \
	STEP("group 5: release the flushes", group_release), \
	HEADER_OTHER("group 5: header A1", BIT(0)), \
	HEADER("group 6: header " second " {no longer pending}", \
	       BIT(0) | BIT(2) | BIT(3), build_final), \
	HEADER("group 7: header A1 {decision dropped}", BIT(0), build_dropped), \
	STEP("group snapshot returns", finish)

const struct step op_group[] = {
	GROUP_CREATE, GROUP_PENDING, GROUP_SWITCH, GROUP_COMMIT("A2"),
};

/* A raw A2 can't be pending: N2 is, with the fingerprint, after F1. */
const struct step op_group_raw[] = {
	GROUP_CREATE, GROUP_SWITCH,
	HEADER("group 4: header N2 {fingerprint of A2, pending}", BIT(3),
	       build_raw_pending),
	GROUP_COMMIT("N2"),
};

static void build_unpending(struct state *s, int me, int l, struct hdr *h)
{
	(void)me;
	(void)l;
	h->pending = h->coordinator = h->sealed = 0;
	if (!planted(GROUP_UNDO_SAME_CID))
		h->cid = fresh_cid(s);
}

/* Something fails before the switch: the old tops run on. */
const struct step op_group_undo[] = {
	GROUP_CREATE, GROUP_PENDING,
	HEADER("undo: header A2 {not pending, new cid}", BIT(2), build_unpending),
	STEP("undone", finish),
};

/* --- and what a crash leaves of it --- */

static int recover_wait(struct state *s, int me)
{
	(void)me;
	return s->d[0].opened && s->d[1].opened ? STEP_NEXT : STEP_WAIT;
}

/* Who opened the second disk has seen to it that nothing is pending. */
const struct step op_group_recover[] = {
	STEP("recover: both disks are open", recover_wait),
	HEADER("recover: header A1 {decision dropped}", BIT(0), build_dropped),
	STEP("recovered", finish),
};

static int member_flush(struct state *s, int me)
{
	(void)me;
	flush_begin(s, 0);
	return STEP_NEXT;
}

/* The decision may be in a cache only: nothing is built on it before. */
static int member_flushed(struct state *s, int me)
{
	(void)me;
	if (!planted(GROUP_DECISION_CACHED))
		flush_end(s, 0);
	return STEP_NEXT;
}

static int copy_flush(struct state *s, int me)
{
	(void)me;
	flush_begin(s, 2);
	return STEP_NEXT;
}

static int copy_flushed(struct state *s, int me)
{
	(void)me;
	flush_end(s, 2);
	return STEP_NEXT;
}

/* The second disk opened on its new top: then that was decided. */
static void build_settled(struct state *s, int me, int l, struct hdr *h)
{
	if (disk_of(s, me)->chain.l[0] != 3 || planted(GROUP_MEMBER_UNSETTLED))
		return;
	build_final(s, me, l, h);
}

/* A copy: what decides is flushed, too, as is its source. */
const struct step op_open_copy[] = {
	STEP("open: FLUSH the coordinator", member_flush),
	STEP("open: flushed; read its header", member_flushed),
	STEP("open: FLUSH the source", copy_flush),
	STEP("open: flushed; read its header", copy_flushed),
	STEP("open: FLUSH the chain's devices", open_flush),
	STEP("open: flushed; read headers and maps", open_load),
	STEP("open: repair the other slot", open_repair),
	STEP("open: repaired", open_repaired),
	HEADER("open: header {in use, new cid}", TOP, build_in_use),
	STEP("open: table", open_go),
	STEP("opened", finish),
};

const struct step op_open_member[] = {
	STEP("open: FLUSH the coordinator", member_flush),
	STEP("open: flushed; read its header", member_flushed),
	STEP("open: FLUSH the chain's devices", open_flush),
	STEP("open: flushed; read headers and maps", open_load),
	STEP("open: repair the other slot", open_repair),
	STEP("open: repaired", open_repaired),
	HEADER("open: header {no longer pending}", BIT(2) | BIT(3), build_settled),
	HEADER("open: header {in use, new cid}", TOP, build_in_use),
	STEP("open: table", open_go),
	STEP("opened", finish),
};
