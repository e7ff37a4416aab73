// SPDX-License-Identifier: GPL-2.0-or-later
// sources: tests/unit/model.c tests/unit/model_disk.c tests/unit/model_io.c tests/unit/model_ops.c tests/unit/model_snapshot.c tests/unit/model_commit.c tests/unit/model_jobs.c tests/unit/model_check.c
/*
 * The protocol holds in all scenarios, and the checker is not blind: each
 * planted defect is found. Numbers in names are those of the counterexamples
 * in the protocol's description.
 *
 * MODEL_VERBOSE=1 prints counts, MODEL_VERBOSE=2 also the shortest trace to
 * each planted defect's violation.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "model.h"

/* --- what is on the disks at first --- */

struct layer_spec {
	u8 l;
	u8 parent;		/* 1 + layer; 0: none */
	u8 state[NR_BLOCKS];
	u8 size, limit;		/* 0: NR_BLOCKS */
	u8 sealed;		/* 1 + child */
	u8 many;		/* children */
	u8 in_use;
};

static u8 or_full(u8 blocks)
{
	return blocks ? blocks : NR_BLOCKS;
}

static void put_header(struct state *s, const struct layer_spec *y)
{
	struct hdr h = { .gen = 1, .uuid = y->l + 1, .cid = 10 + y->l };
	u8 number;

	h.size = or_full(y->size);
	h.limit = or_full(y->limit);
	h.sealed = y->sealed;
	h.many = y->many;
	h.in_use = y->in_use;
	h.parent = y->parent;
	if (y->parent && model.sc->kind[y->parent - 1] == RAW)
		h.parent_cid = unit_read(&s->u[y->parent - 1][data_unit(0, 0)]);
	else if (y->parent)
		h.parent_cid = 10 + y->parent - 1;
	number = header_number(&h);
	unit_set(&s->u[y->l][U_SLOT0], number);
	unit_set(&s->u[y->l][U_SLOT1], number);
}

static void put_maps(struct state *s, const struct layer_spec *y)
{
	u8 presence = SECTOR_VALID;

	for (int b = 0; b < NR_BLOCKS; b++)
		if (y->state[b] != ABSENT)
			presence |= BIT(group_of(b));
	unit_set(&s->u[y->l][U_PRESENCE], presence);
	for (int b = 0; b < NR_BLOCKS; b++) {
		struct unit *u = &s->u[y->l][U_MAP + map_sector_of(b)];

		if (presence & BIT(group_of(b)))
			unit_set(u, u->v[0] | SECTOR_VALID | y->state[b] << (2 * b));
	}
}

static u8 content(int l, int b, int sector)
{
	return 0xa0 + l * 4 + b * 2 + sector;
}

static void put_layer(struct state *s, const struct layer_spec *y)
{
	bool raw = model.sc->kind[y->l] == RAW;

	unit_set(&s->u[y->l][U_NAME], 1);
	for (int b = 0; b < NR_BLOCKS; b++)
		for (int i = 0; i < NR_SECTORS; i++)
			unit_set(&s->u[y->l][data_unit(b, i)],
				 raw || y->state[b] == DATA ? content(y->l, b, i) :
				 FORMER);
	if (raw)
		return;
	put_header(s, y);
	put_maps(s, y);
}

/* Units of layers that don't exist yet. */
static void put_nothing(struct state *s)
{
	for (int l = 0; l < NR_LAYERS; l++)
		for (int i = 0; i < NR_UNITS; i++)
			unit_set(&s->u[l][i], i < U_DATA ? 0 : FORMER);
}

/* All parents in the beginning are what their children recorded. */
static void put_ghosts(struct state *s)
{
	struct image im;
	struct chain c;

	image_latest(s, &im);
	for (int l = 0; l < NR_LAYERS; l++) {
		u8 v[NR_BLOCKS][NR_SECTORS];
		int p = im.hdr[l] ? hdr(im.hdr[l])->parent - 1 : -1;

		if (p < 0 || model.sc->kind[p] != CHAIN ||
		    open_chain(&im, p, false, &c))
			continue;
		for (int b = 0; b < NR_BLOCKS; b++) {
			memset(v[b], ZEROES, NR_SECTORS);
			if (b < hdr(im.hdr[p])->size)
				image_block(&im, &c, b, v[b]);
		}
		record_ghost(s, hdr(im.hdr[p])->uuid, hdr(im.hdr[p])->cid, v);
	}
}

static void put_layers(struct state *s, const struct layer_spec *y, int n)
{
	put_nothing(s);
	for (int i = 0; i < n; i++)
		put_layer(s, &y[i]);
	put_ghosts(s);
}

#define PUT_LAYERS(s, ...) do { \
	static const struct layer_spec spec[] = { __VA_ARGS__ }; \
	put_layers(s, spec, sizeof(spec) / sizeof(spec[0])); \
} while (0)

/* What the guest finds there. */
static void expect_present(struct state *s, int d)
{
	struct image im;
	struct chain c;

	image_latest(s, &im);
	if (open_disk(&im, d, &c) < 0)
		return;
	for (int b = 0; b < NR_BLOCKS; b++) {
		s->d[d].h[b].n = 1;
		image_block(&im, &c, b, s->d[d].h[b].op[0].v);
	}
	s->d[d].chain = c;
}

static void open_now(struct state *s, int d)
{
	const struct chain *c = &s->d[d].chain;

	expect_present(s, d);
	for (int i = 0; i < c->n; i++)
		load_layer(s, c->l[i]);
	s->d[d].opened = 1;
}

#define SCRIPT(name, ...) \
	static const struct guest_op name[] = { __VA_ARGS__ { GUEST_END, 0, 0, 0 } }
#define W(b, v)		{ WRITE, 0, b, v },
#define H(b, v)		{ WRITE_HALF, 0, b, v },
#define FUA(b, v)	{ WRITE_FUA, 0, b, v },
#define D(b)		{ DISCARD, 0, b, 0 },
#define F		{ FLUSH, 0, 0, 0 },

#define COMMA		,
#define GUEST(script)	{ #script, guest, script, 0, false }
#define FLUSHER(layer)	{ "flusher" #layer, flusher, NULL, layer, true }
#define PUNCHER(layer)	{ "puncher" #layer, puncher, NULL, layer, true }
#define ACTOR(name, steps) { name, steps, NULL, 0, false }
#define ACTOR_AT(name, steps, arg) { name, steps, NULL, arg, false }
#define DAEMON(name, steps) { name, steps, NULL, 0, true }

/* --- flush rounds --- */

SCRIPT(nothing, );
SCRIPT(write_discard_write, W(0, 1) D(0) W(0, 2) F);
SCRIPT(half_flush_write, H(1, 3) F W(1, 4));
SCRIPT(write_flush_again, W(0, 5) F W(0, 6) F);
SCRIPT(discard_flush_write, D(0) F W(0, 7) F);
SCRIPT(one_block, W(1, 8) F);
SCRIPT(other_block, W(0, 9) F);

static void init_empty_top(struct state *s)
{
	PUT_LAYERS(s, { .l = 0 }, { .l = 1, .parent = 1, .in_use = 1 });
	open_now(s, 0);
}

static void init_half_top(struct state *s)
{
	PUT_LAYERS(s, { .l = 0 },
		   { .l = 1, .parent = 1, .in_use = 1, .state = { DATA, ABSENT } });
	open_now(s, 0);
}

#define FLUSH_SCENARIO(geo, start) \
	.init = start, .geometry = geo, .kind = { RAW, CHAIN }, .disks = 1, \
	.tops = { BIT(1) }, .rot = true, \
	.actor[0] = { GUEST(write_discard_write), GUEST(half_flush_write), \
		      FLUSHER(1) }

static const struct scenario flush_one_sector = {
	.name = "flush, both blocks in one map sector",
	FLUSH_SCENARIO(ONE_SECTOR, init_empty_top),
};

static const struct scenario flush_two_sectors = {
	.name = "flush, a map sector each",
	FLUSH_SCENARIO(TWO_SECTORS, init_empty_top),
};

static const struct scenario flush_two_groups = {
	.name = "flush, a group each",
	FLUSH_SCENARIO(TWO_GROUPS, init_empty_top),
};

static const struct scenario flush_in_use = {
	.name = "flush, group in use",
	FLUSH_SCENARIO(ONE_SECTOR, init_half_top),
};

static const struct scenario flush_fua = {
	.name = "flush, FUA in place of the second FLUSH", .fua = true,
	FLUSH_SCENARIO(TWO_GROUPS, init_empty_top),
};

static const struct scenario flush_rounds = {
	.name = "flush, three guests share rounds",
	.init = init_half_top, .geometry = TWO_GROUPS, .kind = { RAW, CHAIN },
	.disks = 1, .tops = { BIT(1) },
	.actor[0] = { GUEST(write_flush_again), GUEST(one_block),
		      GUEST(half_flush_write), FLUSHER(1) },
};

SCRIPT(fua_twice, FUA(0, 11) FUA(0, 12) W(0, 13));
SCRIPT(fua_between, W(1, 14) FUA(1, 15) F);

static const struct scenario flush_fua_writes = {
	.name = "FUA writes", .init = init_half_top, .geometry = ONE_SECTOR,
	.kind = { RAW, CHAIN }, .disks = 1, .tops = { BIT(1) }, .rot = true,
	.actor[0] = { GUEST(fua_twice), GUEST(fua_between), FLUSHER(1) },
};

SCRIPT(first_half, H(1, 16));
SCRIPT(second_half, H(1, 17) F);

static const struct scenario flush_same_block = {
	.name = "two writes into one block", .init = init_half_top,
	.geometry = ONE_SECTOR, .kind = { RAW, CHAIN }, .disks = 1,
	.tops = { BIT(1) }, .rot = true,
	.actor[0] = { GUEST(first_half), GUEST(second_half), FLUSHER(1) },
};

static const struct scenario flush_background = {
	.name = "rounds that nobody waits for", .init = init_half_top,
	.geometry = TWO_SECTORS, .kind = { RAW, CHAIN }, .disks = 1,
	.tops = { BIT(1) }, .rot = true,
	.actor[0] = { GUEST(write_discard_write), GUEST(fua_between), FLUSHER(1),
		      { "background", background, NULL, 1, true } },
};

static const struct scenario punching = {
	.name = "discard, punch, write",
	.init = init_half_top, .geometry = ONE_SECTOR, .kind = { RAW, CHAIN },
	.disks = 1, .tops = { BIT(1) },
	.actor[0] = { GUEST(discard_flush_write), GUEST(one_block), FLUSHER(1),
		      PUNCHER(1) },
};

/* --- unacknowledged rounds of a former life, twice --- */

SCRIPT(later_half, H(0, 10) F);
SCRIPT(later_discard, D(1) F);

#define STALE_SCENARIO(geo, start, after) \
	.init = start, .geometry = geo, .kind = { RAW, CHAIN }, .disks = 1, \
	.tops = { BIT(1) }, .warmth = COLD | WARM, \
	.actor = { { GUEST(other_block), GUEST(one_block), FLUSHER(1) }, \
		   { ACTOR("open", op_open), after, FLUSHER(1) } }

static const struct scenario stale_sectors = {
	.name = "stale sectors after crashes", .crashes = 3, .rot = true,
	STALE_SCENARIO(TWO_SECTORS, init_empty_top, GUEST(one_block)),
};

static const struct scenario stale_sectors_two = {
	.name = "stale sectors after crashes, two guests", .crashes = 2,
	STALE_SCENARIO(TWO_SECTORS, init_empty_top, GUEST(one_block) COMMA
		       GUEST(later_half)),
};

static const struct scenario stale_discard = {
	.name = "stale sectors after crashes, discard", .crashes = 2,
	STALE_SCENARIO(TWO_SECTORS, init_empty_top, GUEST(later_discard) COMMA
		       GUEST(later_half)),
};

static const struct scenario stale_groups = {
	.name = "stale groups after crashes", .crashes = 2, .rot = true,
	STALE_SCENARIO(TWO_GROUPS, init_empty_top, GUEST(one_block) COMMA
		       GUEST(later_half)),
};

static const struct scenario stale_one_sector = {
	.name = "stale sector of both blocks after crashes", .crashes = 2,
	STALE_SCENARIO(ONE_SECTOR, init_empty_top, GUEST(one_block) COMMA
		       GUEST(later_half)),
};

/* What load finds may be in the device's cache only: FUA must not build on it. */
SCRIPT(fua_again, FUA(0, 16));

static const struct scenario fua_reopened = {
	.name = "FUA writes after crashes", .crashes = 2,
	STALE_SCENARIO(ONE_SECTOR, init_empty_top, GUEST(fua_again)),
};

/* --- damage --- */

static void init_damaged(struct state *s)
{
	PUT_LAYERS(s, { .l = 0 }, { .l = 1, .parent = 1, .in_use = 1,
				    .state = { DATA, DATA } });
	unit_set(&s->u[1][U_MAP], SECTOR_ROTTEN);
	open_now(s, 0);
	s->d[0].h[0].eio = 1;
}

SCRIPT(around_damage, W(1, 1) D(1) F W(0, 2) H(0, 3) F);

static const struct scenario damage = {
	.name = "damaged map sector beside one in use",
	.init = init_damaged, .geometry = TWO_SECTORS, .kind = { RAW, CHAIN },
	.disks = 1, .tops = { BIT(1) }, .crashes = 1, .warmth = COLD,
	.actor = { { GUEST(around_damage), FLUSHER(1) },
		   { ACTOR("open", op_open), GUEST(around_damage), FLUSHER(1) } },
};

static const struct scenario failed_flush = {
	.name = "a FLUSH fails",
	.init = init_half_top, .geometry = ONE_SECTOR, .kind = { RAW, CHAIN },
	.disks = 1, .tops = { BIT(1) },
	.actor[0] = { GUEST(write_flush_again), GUEST(one_block), FLUSHER(1),
		      ACTOR_AT("device", op_fail_flush, 1) },
};

/* --- headers --- */

static void init_closed(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .state = { DATA, DATA } });
	expect_present(s, 0);
}

static void init_sealed(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .state = { DATA, DATA }, .sealed = 2 },
		   { .l = 1, .parent = 1 });
	expect_present(s, 0);
}

static void init_shared(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .state = { DATA, DATA } },
		   { .l = 1, .parent = 1 });
	expect_present(s, 0);
}

static const struct scenario unseal = {
	.name = "unseal, open, write, close: the child is refused",
	.init = init_sealed, .kind = { CHAIN, CHAIN }, .disks = 1,
	.tops = { BIT(0) | BIT(1) }, .rot = true,
	.actor[0] = { ACTOR("command", op_offline), GUEST(other_block), FLUSHER(0) },
};

static const struct scenario unseal_crashes = {
	.name = "unseal, and crashes", .crashes = 2, .warmth = COLD | WARM,
	.init = init_sealed, .kind = { CHAIN, CHAIN }, .disks = 1,
	.tops = { BIT(0) | BIT(1) }, .rot = true,
	.actor = { { ACTOR("command", op_offline), GUEST(other_block), FLUSHER(0) },
		   { ACTOR("open", op_open), GUEST(one_block), FLUSHER(0),
		     FLUSHER(1) } },
};

static const struct scenario open_shared = {
	.name = "open rw below a child",
	.init = init_shared, .kind = { CHAIN, CHAIN }, .disks = 1,
	.tops = { BIT(0) }, .rot = true,
	.actor[0] = { ACTOR("open", op_open), GUEST(other_block), FLUSHER(0) },
};

static void init_open(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .state = { DATA, DATA }, .in_use = 1 });
	open_now(s, 0);
}

static const struct scenario late_backing = {
	.name = "create --backing of a layer that is open rw",
	.init = init_open, .kind = { CHAIN, 0, 0, 0, CHAIN }, .disks = 1,
	.tops = { BIT(0) },
	.actor[0] = { GUEST(other_block), FLUSHER(0),
		      ACTOR("create", op_late_backing) },
};

static const struct scenario new_id = {
	.name = "new-id", .init = init_closed, .kind = { CHAIN }, .disks = 1,
	.tops = { BIT(0) }, .rot = true,
	.actor[0] = { ACTOR("command", op_new_id) },
};

static void init_rebase(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .state = { DATA, DATA } },
		   { .l = 1, .state = { DATA, DATA } },
		   { .l = 2, .parent = 2, .state = { DATA, ABSENT } },
		   { .l = 3, .parent = 3 });
}

static const struct scenario rebase = {
	.name = "rebase --unsafe", .init = init_rebase,
	.kind = { CHAIN, CHAIN, CHAIN, CHAIN },
	.actor[0] = { ACTOR("command", op_rebase) },
};

static void init_former_life(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .state = { DATA, ZERO } });
	expect_present(s, 0);
}

static const struct scenario create = {
	.name = "create on a device with a former life",
	.init = init_former_life, .kind = { CHAIN }, .disks = 1, .tops = { BIT(0) },
	.may_be_none = true, .crashes = 1, .warmth = COLD,
	.actor = { { ACTOR("create", op_create), GUEST(other_block), FLUSHER(0) },
		   { ACTOR("create", op_create), GUEST(one_block), FLUSHER(0) } },
};

#define SHRINK_SCENARIO(start) \
	.init = start, .kind = { CHAIN, CHAIN }, .disks = 1, .tops = { BIT(1) }, \
	.crashes = 2, .warmth = COLD, \
	.actor = { { ACTOR("shrink", op_shrink), FLUSHER(1) }, \
		   { ACTOR("grow", op_grow), FLUSHER(1) } }

static void init_shrink_data(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .state = { DATA, DATA } },
		   { .l = 1, .parent = 1, .state = { DATA, DATA } });
	expect_present(s, 0);
}

static void init_shrink_absent(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .state = { DATA, DATA } },
		   { .l = 1, .parent = 1, .state = { DATA, ABSENT } });
	expect_present(s, 0);
}

static const struct scenario shrink_data = {
	.name = "shrink, then grow: own data", SHRINK_SCENARIO(init_shrink_data),
};

static const struct scenario shrink_absent = {
	.name = "shrink, then grow: the parent's data",
	SHRINK_SCENARIO(init_shrink_absent),
};

/* --- snapshots --- */

SCRIPT(two_flushes, W(0, 1) F W(0, 2) F);
SCRIPT(rewrite, H(1, 3) F H(1, 4));

static void init_snapshot(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .in_use = 1, .state = { ABSENT, DATA } });
	open_now(s, 0);
}

#define SNAPSHOT_SCENARIO(op) \
	.init = init_snapshot, .kind = { CHAIN, CHAIN }, .disks = 1, \
	.tops = { BIT(0) | BIT(1) }, \
	.actor = { { GUEST(two_flushes), GUEST(rewrite), FLUSHER(0), FLUSHER(1), \
		     ACTOR("snapshot", op) }, \
		   { ACTOR("open", op_open), GUEST(one_block), FLUSHER(0), \
		     FLUSHER(1) } }

static const struct scenario snapshot = {
	.name = "snapshot", SNAPSHOT_SCENARIO(op_snapshot),
};

static const struct scenario snapshot_rot = {
	.name = "snapshot, a sector rots", .rot = true,
	SNAPSHOT_SCENARIO(op_snapshot),
};

static const struct scenario snapshot_crash = {
	.name = "snapshot, crash, on with what is there", .crashes = 1,
	.warmth = WARM | COLD, SNAPSHOT_SCENARIO(op_snapshot),
};

SCRIPT(fua_across, FUA(0, 5) FUA(0, 6));

static const struct scenario snapshot_fua = {
	.name = "snapshot under FUA writes", .init = init_snapshot,
	.kind = { CHAIN, CHAIN }, .disks = 1, .tops = { BIT(0) | BIT(1) },
	.actor[0] = { GUEST(fua_across), GUEST(rewrite), FLUSHER(0), FLUSHER(1),
		      ACTOR("snapshot", op_snapshot) },
};

static void init_snapshot_raw(struct state *s)
{
	PUT_LAYERS(s, { .l = 0 });
	open_now(s, 0);
}

static const struct scenario snapshot_raw = {
	.name = "snapshot of a raw top", .init = init_snapshot_raw,
	.kind = { RAW, CHAIN }, .disks = 1, .tops = { BIT(0) | BIT(1) },
	.raw_top = 1, .crashes = 1, .warmth = COLD | WARM,
	.actor = { { GUEST(two_flushes), GUEST(fua_across), FLUSHER(0), FLUSHER(1),
		     ACTOR("snapshot", op_snapshot_raw) },
		   { ACTOR("open", op_open), GUEST(one_block), FLUSHER(0),
		     FLUSHER(1) } },
};

static const struct scenario snapshot_abandoned = {
	.name = "snapshot abandoned", SNAPSHOT_SCENARIO(op_abandon),
};

static const struct scenario snapshot_undone = {
	.name = "snapshot undone", SNAPSHOT_SCENARIO(op_undo),
};

#define ON(disk, op, v)	{ op, disk, 0, v },
SCRIPT(on_both, ON(0, WRITE, 1) ON(0, FLUSH, 0) ON(1, WRITE, 2) ON(1, FLUSH, 0));
SCRIPT(on_second, ON(1, WRITE, 4) ON(1, FLUSH, 0));

static void init_group(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .in_use = 1, .state = { DATA, ABSENT } },
		   { .l = 2, .in_use = 1, .state = { DATA, ABSENT } });
	open_now(s, 0);
	open_now(s, 1);
}

static void init_group_raw(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .in_use = 1, .state = { DATA, ABSENT } },
		   { .l = 2 });
	open_now(s, 0);
	open_now(s, 1);
}

#define GROUP_SCENARIO(snapshot, before, after, first, second) \
	.init = init_group, .kind = { CHAIN, CHAIN, CHAIN, CHAIN }, .disks = 2, \
	GROUP_ACTORS(snapshot, before, after, first, second)
#define GROUP_ACTORS(snapshot, before, after, first, second) \
	.tops = { BIT(0) | BIT(1), BIT(2) | BIT(3) }, .one_side = true, \
	.actor = { { GUEST(before), FLUSHER(0), FLUSHER(1), \
		     FLUSHER(2), FLUSHER(3), ACTOR("snapshot", snapshot) }, \
		   { ACTOR("open1", first), ACTOR_AT("open2", second, 1), \
		     GUEST(after), FLUSHER(2), FLUSHER(3), \
		     ACTOR("recover", op_group_recover) } }

static const struct scenario group = {
	.name = "snapshot of two disks",
	GROUP_SCENARIO(op_group, on_both, nothing, op_open,
		       op_open_member),
};

static const struct scenario group_rot = {
	.name = "snapshot of two disks, a sector rots", .rot = true,
	GROUP_SCENARIO(op_group, nothing, nothing, op_open,
		       op_open_member),
};

static const struct scenario group_crash = {
	.name = "snapshot of two disks, crash, write", .crashes = 1, .warmth = COLD,
	GROUP_SCENARIO(op_group, nothing, on_second, op_open_last,
		       op_open_member),
};

static const struct scenario group_crashes = {
	.name = "snapshot of two disks, crash, recover, crash", .crashes = 2,
	.warmth = COLD | WARM,
	GROUP_SCENARIO(op_group, nothing, nothing, op_open_last,
		       op_open_member),
};

static const struct scenario group_other_order = {
	.name = "snapshot of two disks, crash, the first opens first", .crashes = 1,
	.warmth = COLD,
	GROUP_SCENARIO(op_group, nothing, nothing, op_open,
		       op_open_member),
};

static const struct scenario group_undone = {
	.name = "snapshot of two disks, undone", .crashes = 1, .warmth = COLD,
	GROUP_SCENARIO(op_group_undo, on_both, nothing, op_open_last,
		       op_open_member),
};

static const struct scenario group_raw = {
	.name = "snapshot of two disks, one raw", .init = init_group_raw,
	.kind = { CHAIN, CHAIN, RAW, CHAIN }, .disks = 2, .raw_top = 3,
	.crashes = 1, .warmth = COLD | WARM,
	GROUP_ACTORS(op_group_raw, on_both, nothing, op_open_last,
		     op_open_member),
};

/* --- stream --- */

static void init_stream(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .state = { DATA, DATA }, .sealed = 2 },
		   { .l = 1, .parent = 1, .state = { DATA, ZERO }, .sealed = 3 },
		   { .l = 2, .parent = 2, .in_use = 1 });
	open_now(s, 0);
}

static void init_stream_short(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .state = { DATA, DATA }, .sealed = 2 },
		   { .l = 1, .parent = 1, .state = { DATA, ABSENT }, .limit = 1,
		     .sealed = 3 },
		   { .l = 2, .parent = 2, .in_use = 1 });
	open_now(s, 0);
}

SCRIPT(stream_guest, H(0, 1) F D(0) W(0, 2));

#define STREAM_SCENARIO(start) \
	.init = start, .kind = { CHAIN, CHAIN, CHAIN }, .disks = 1, \
	.tops = { BIT(2) }, .warmth = COLD | WARM, \
	.actor = { { GUEST(stream_guest), GUEST(one_block), FLUSHER(2), \
		     ACTOR("stream", op_stream) }, \
		   { ACTOR("open", op_open), GUEST(one_block), FLUSHER(2) } }

static const struct scenario stream = {
	.name = "stream", STREAM_SCENARIO(init_stream),
};

static const struct scenario stream_crash = {
	.name = "stream and crash", .crashes = 1, STREAM_SCENARIO(init_stream),
};

static const struct scenario stream_short = {
	.name = "stream, nothing shows through the dropped layer's end",
	STREAM_SCENARIO(init_stream_short),
};

/* --- commit --- */

#define ACTIVE	.commit_top = 2, .commit_base = 0
#define COMMIT_ACTORS(g1, g2) \
	{ g1, g2, FLUSHER(0), FLUSHER(1), FLUSHER(2), ACTOR("job", op_commit) }

SCRIPT(on_moved, W(0, 1) F D(0) W(0, 2) F);
SCRIPT(on_moved_short, W(0, 1) F);
SCRIPT(beside_moved, H(1, 3) FUA(1, 5));
SCRIPT(beside_discard, D(1) F H(1, 4));
SCRIPT(refused_whole, W(1, 6) F H(1, 7) F);
SCRIPT(after_pivot, W(0, 1) F W(1, 2) F);

/* T and M both hold block 0; block 1 is the base's. */
static void init_commit_three(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .state = { DATA, DATA }, .sealed = 2 },
		   { .l = 1, .parent = 1, .state = { DATA, ABSENT }, .sealed = 3 },
		   { .l = 2, .parent = 2, .state = { DATA, ABSENT }, .in_use = 1 });
	open_now(s, 0);
}

/* Block 0 in M only, block 1 hidden by a zero in T; the base holds nothing. */
static void init_commit_zero(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .sealed = 2 },
		   { .l = 1, .parent = 1, .state = { DATA, DATA }, .sealed = 3 },
		   { .l = 2, .parent = 2, .state = { ABSENT, ZERO }, .in_use = 1 });
	open_now(s, 0);
}

#define COMMIT_THREE(start, base) \
	.init = start, .kind = { base, CHAIN, CHAIN }, .disks = 1, \
	.tops = { BIT(0) | BIT(2) }, ACTIVE

static const struct scenario commit_three = {
	.name = "active commit, T over M over B",
	COMMIT_THREE(init_commit_three, CHAIN),
	.actor[0] = COMMIT_ACTORS(GUEST(on_moved), GUEST(beside_moved)),
};

static const struct scenario commit_zero = {
	.name = "active commit, zeroes and an empty base",
	COMMIT_THREE(init_commit_zero, CHAIN),
	.actor[0] = COMMIT_ACTORS(GUEST(on_moved), GUEST(beside_discard)),
};

static const struct scenario commit_fua = {
	.name = "active commit, FUA", .fua = true,
	COMMIT_THREE(init_commit_three, CHAIN),
	.actor[0] = COMMIT_ACTORS(GUEST(on_moved), GUEST(beside_moved)),
};

static const struct scenario commit_sectors = {
	.name = "active commit, a map sector each",
	COMMIT_THREE(init_commit_three, CHAIN), .geometry = TWO_SECTORS,
	.actor[0] = COMMIT_ACTORS(GUEST(on_moved), GUEST(beside_moved)),
};

static const struct scenario commit_raw = {
	.name = "active commit, T over M over a raw base",
	COMMIT_THREE(init_commit_three, RAW),
	.actor[0] = COMMIT_ACTORS(GUEST(on_moved), GUEST(beside_moved)),
};

static const struct scenario commit_raw_zero = {
	.name = "active commit, zeroes and a raw base",
	COMMIT_THREE(init_commit_zero, RAW),
	.actor[0] = COMMIT_ACTORS(GUEST(on_moved), GUEST(beside_discard)),
};

/* Open again: the job goes on, or nobody knows of it and the guest just writes. */
static const struct scenario commit_crash = {
	.name = "active commit, crash, resumed",
	COMMIT_THREE(init_commit_three, CHAIN), .crashes = 1,
	.warmth = COLD | WARM,
	.actor = { COMMIT_ACTORS(GUEST(on_moved_short), GUEST(nothing)),
		   { ACTOR("open", op_open), GUEST(beside_moved), FLUSHER(0),
		     FLUSHER(1), FLUSHER(2), ACTOR("job", op_commit) } },
};

static const struct scenario commit_raw_crash = {
	.name = "active commit into a raw base, crash, resumed",
	COMMIT_THREE(init_commit_three, RAW), .crashes = 1,
	.warmth = COLD | WARM,
	.actor = { COMMIT_ACTORS(GUEST(on_moved_short), GUEST(nothing)),
		   { ACTOR("open", op_open), GUEST(beside_moved), FLUSHER(0),
		     FLUSHER(1), FLUSHER(2), ACTOR("job", op_commit) } },
};

static const struct scenario commit_cancelled = {
	.name = "active commit cancelled",
	COMMIT_THREE(init_commit_three, CHAIN),
	.actor[0] = { GUEST(on_moved_short), GUEST(beside_moved), FLUSHER(0),
		      FLUSHER(1), FLUSHER(2), ACTOR("job", op_commit),
		      ACTOR("cancel", op_commit_cancel) },
};

/* The base refuses writes to block 1: the top takes them, and they are moved. */
static const struct scenario commit_refused = {
	.name = "active commit, the base refuses writes", .refused = BIT(1),
	COMMIT_THREE(init_commit_three, CHAIN),
	.actor[0] = COMMIT_ACTORS(GUEST(refused_whole), GUEST(nothing)),
};

static const struct scenario commit_refused_raw = {
	.name = "active commit, a raw base refuses writes", .refused = BIT(1),
	COMMIT_THREE(init_commit_three, RAW),
	.actor[0] = COMMIT_ACTORS(GUEST(refused_whole), GUEST(nothing)),
};

static const struct scenario commit_child = {
	.name = "a child made on a spoiled base",
	.init = init_commit_three, .kind = { CHAIN, CHAIN, CHAIN, 0, CHAIN },
	.disks = 1, .tops = { BIT(0) | BIT(2) }, ACTIVE,
	.actor[0] = { GUEST(nothing), FLUSHER(0), FLUSHER(1), FLUSHER(2),
		      ACTOR("job", op_commit),
		      DAEMON("create", op_spoiled_child) },
};

/* Damage in M, hidden by T; and in T, where the job has to stop. */
static void init_commit_damaged(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .state = { DATA, DATA }, .sealed = 2 },
		   { .l = 1, .parent = 1, .state = { DATA, DATA }, .sealed = 3 },
		   { .l = 2, .parent = 2, .state = { DATA, DATA }, .in_use = 1 });
	unit_set(&s->u[1][U_MAP], SECTOR_ROTTEN);
	unit_set(&s->u[2][U_MAP + 1], SECTOR_ROTTEN);
	s->nr_ghosts = 0;
	open_now(s, 0);
	s->d[0].h[1].eio = 1;
}

static const struct scenario commit_damaged = {
	.name = "active commit, damaged map sectors",
	COMMIT_THREE(init_commit_damaged, CHAIN), .geometry = TWO_SECTORS,
	.actor[0] = COMMIT_ACTORS(GUEST(on_moved), GUEST(beside_moved)),
};

/* The base ends before T: it grows before the first block comes. */
static void init_commit_grow(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .state = { DATA, ABSENT }, .size = 1, .sealed = 2 },
		   { .l = 1, .parent = 1, .state = { DATA, ABSENT }, .limit = 1,
		     .sealed = 3 },
		   { .l = 2, .parent = 2, .state = { ABSENT, DATA }, .in_use = 1 });
	open_now(s, 0);
}

static const struct scenario commit_grow = {
	.name = "active commit, B shorter",
	COMMIT_THREE(init_commit_grow, CHAIN),
	.actor[0] = COMMIT_ACTORS(GUEST(beside_moved), GUEST(on_moved_short)),
};

/* Another child of the base, offline: another disk's top. */
static void init_commit_shared(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .state = { DATA, DATA }, .sealed = 2, .many = 1 },
		   { .l = 1, .parent = 1, .state = { DATA, ABSENT }, .sealed = 3 },
		   { .l = 2, .parent = 2, .state = { DATA, ABSENT }, .in_use = 1 },
		   { .l = 4, .parent = 1 });
	open_now(s, 0);
	expect_present(s, 1);
}

static const struct scenario commit_shared = {
	.name = "commit into a base with another child",
	.init = init_commit_shared, .kind = { CHAIN, CHAIN, CHAIN, 0, CHAIN },
	.disks = 2, .tops = { BIT(0) | BIT(2), BIT(4) }, ACTIVE,
	.actor[0] = COMMIT_ACTORS(GUEST(on_moved_short), GUEST(nothing)),
};

/* T > B: no layer between. */
static void init_commit_two(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .state = { DATA, ABSENT }, .sealed = 3 },
		   { .l = 2, .parent = 1, .state = { DATA, ABSENT }, .in_use = 1 });
	open_now(s, 0);
}

/* Nothing to move: all is about the guest beside the pivot. */
static void init_commit_empty(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .state = { DATA, ABSENT }, .sealed = 3 },
		   { .l = 2, .parent = 1, .in_use = 1 });
	open_now(s, 0);
}

#define PIVOT_SCENARIO(base) \
	.init = init_commit_empty, .kind = { base, 0, CHAIN }, .disks = 1, \
	.tops = { BIT(0) | BIT(2) }, ACTIVE, .warmth = COLD | WARM, .crashes = 1, \
	.actor = { { GUEST(after_pivot), FLUSHER(0), FLUSHER(2), \
		     ACTOR("job", op_commit) }, \
		   { ACTOR("open", op_open), GUEST(beside_moved), FLUSHER(0), \
		     FLUSHER(2), ACTOR("job", op_commit) } }

static const struct scenario pivot = {
	.name = "pivot, crash", PIVOT_SCENARIO(CHAIN),
};

static const struct scenario pivot_raw = {
	.name = "pivot to a raw base, crash", PIVOT_SCENARIO(RAW),
};

static const struct scenario commit_two = {
	.name = "active commit, T over B, punching", .init = init_commit_two,
	.kind = { CHAIN, 0, CHAIN }, .disks = 1, .tops = { BIT(0) | BIT(2) }, ACTIVE,
	.actor[0] = { GUEST(on_moved), GUEST(beside_discard), FLUSHER(0), FLUSHER(2),
		      ACTOR("job", op_commit), PUNCHER(2) },
};

/* O over T over M over B: the guest writes to O only. */
static void init_commit_middle(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .state = { DATA, DATA }, .sealed = 2 },
		   { .l = 1, .parent = 1, .state = { DATA, ABSENT }, .sealed = 3 },
		   { .l = 2, .parent = 2, .state = { DATA, ZERO }, .sealed = 4 },
		   { .l = 3, .parent = 3, .in_use = 1 });
	open_now(s, 0);
}

/* The base changes where its fingerprint has no sample. */
static void init_commit_middle_raw(struct state *s)
{
	PUT_LAYERS(s, { .l = 0 },
		   { .l = 1, .parent = 1, .state = { ABSENT, DATA }, .sealed = 3 },
		   { .l = 2, .parent = 2, .state = { ABSENT, DATA }, .sealed = 4 },
		   { .l = 3, .parent = 3, .in_use = 1 });
	open_now(s, 0);
}

#define COMMIT_MIDDLE(start, base) \
	.init = start, .kind = { base, CHAIN, CHAIN, CHAIN }, .disks = 1, \
	.tops = { BIT(3) }, .commit_top = 2, .commit_base = 0, .commit_over = 3

SCRIPT(above, H(0, 1) F);

static const struct scenario commit_middle = {
	.name = "intermediate commit", COMMIT_MIDDLE(init_commit_middle, CHAIN),
	.actor[0] = { GUEST(above), FLUSHER(0), FLUSHER(1), FLUSHER(2), FLUSHER(3),
		      ACTOR("job", op_commit) },
};

/* O goes away; T is unsealed, written to, and committed once more. */
static const struct scenario commit_again = {
	.name = "intermediate commit, and again from the same top",
	.init = init_commit_middle, .kind = { CHAIN, CHAIN, CHAIN, CHAIN },
	.tops = { BIT(3) }, .commit_top = 2, .commit_base = 0, .commit_over = 3,
	.actor[0] = { FLUSHER(0), FLUSHER(1), FLUSHER(2), FLUSHER(3),
		      ACTOR("job", op_commit), ACTOR("again", op_commit_again) },
};

static const struct scenario commit_middle_raw = {
	.name = "intermediate commit, raw base",
	COMMIT_MIDDLE(init_commit_middle_raw, RAW),
	.actor[0] = { GUEST(above), FLUSHER(0), FLUSHER(1), FLUSHER(2), FLUSHER(3),
		      ACTOR("job", op_commit) },
};

static const struct scenario commit_middle_crash = {
	.name = "intermediate commit, crash, resumed",
	COMMIT_MIDDLE(init_commit_middle, CHAIN), .crashes = 1,
	.warmth = COLD | WARM,
	.actor = { { FLUSHER(0), FLUSHER(1), FLUSHER(2), ACTOR("job", op_commit) },
		   { ACTOR("open", op_open), GUEST(above), FLUSHER(0), FLUSHER(1),
		     FLUSHER(2), FLUSHER(3), ACTOR("job", op_commit) } },
};

/* A first write on its way to T when the job begins, over a block of the base. */
static void init_commit_first(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .state = { DATA, DATA }, .sealed = 3 },
		   { .l = 2, .parent = 1, .state = { DATA, ABSENT }, .in_use = 1 });
	open_now(s, 0);
}

static const struct scenario commit_first = {
	.name = "active commit, first writes", .init = init_commit_first,
	.kind = { CHAIN, 0, CHAIN }, .disks = 1, .tops = { BIT(0) | BIT(2) }, ACTIVE,
	.actor[0] = { GUEST(one_block), GUEST(other_block), FLUSHER(0), FLUSHER(2),
		      ACTOR("job", op_commit) },
};

/* M ends before T and B: beyond, T hides B though no map says so. */
static void init_commit_short(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .state = { DATA, DATA }, .sealed = 2 },
		   { .l = 1, .parent = 1, .state = { DATA, ABSENT }, .size = 1,
		     .limit = 1, .sealed = 3 },
		   { .l = 2, .parent = 2, .state = { ABSENT, ABSENT }, .limit = 1,
		     .in_use = 1 });
	open_now(s, 0);
}

static void init_commit_short_middle(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .state = { DATA, DATA }, .sealed = 2 },
		   { .l = 1, .parent = 1, .state = { DATA, ABSENT }, .size = 1,
		     .limit = 1, .sealed = 3 },
		   { .l = 2, .parent = 2, .state = { ABSENT, DATA }, .limit = 1,
		     .sealed = 4 },
		   { .l = 3, .parent = 3, .in_use = 1 });
	open_now(s, 0);
}

static const struct scenario commit_short = {
	.name = "active commit, M shorter",
	COMMIT_THREE(init_commit_short, CHAIN),
	.actor[0] = COMMIT_ACTORS(GUEST(beside_moved), GUEST(nothing)),
};

static const struct scenario commit_short_crash = {
	.name = "active commit, M shorter, crash, resumed",
	COMMIT_THREE(init_commit_short, CHAIN), .crashes = 1,
	.warmth = COLD | WARM,
	.actor = { COMMIT_ACTORS(GUEST(beside_moved), GUEST(nothing)),
		   { ACTOR("open", op_open), GUEST(on_moved_short), FLUSHER(0),
		     FLUSHER(1), FLUSHER(2), ACTOR("job", op_commit) } },
};

static const struct scenario commit_short_middle = {
	.name = "intermediate commit, M shorter",
	COMMIT_MIDDLE(init_commit_short_middle, CHAIN),
	.actor[0] = { GUEST(above), FLUSHER(0), FLUSHER(1), FLUSHER(2), FLUSHER(3),
		      ACTOR("job", op_commit) },
};

/* --- mirror --- */

static void mark_target(struct state *s)
{
	struct hdr h = *hdr(unit_read(&s->u[1][U_SLOT0]));
	u8 number;

	h.mirror = INCOMPLETE;
	h.source = 1;
	number = header_number(&h);
	unit_set(&s->u[1][U_SLOT0], number);
	unit_set(&s->u[1][U_SLOT1], number);
}

static void mark_source(struct state *s)
{
	struct hdr h = *hdr(unit_read(&s->u[0][U_SLOT0]));
	u8 number;

	h.track_cid = h.cid;
	number = header_number(&h);
	unit_set(&s->u[0][U_SLOT0], number);
	unit_set(&s->u[0][U_SLOT1], number);
}

static void init_mirror(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .state = { DATA, ABSENT }, .in_use = 1 },
		   { .l = 1 });
	mark_target(s);
	mark_source(s);
	open_now(s, 0);
	load_layer(s, 1);
}

static void init_mirror_empty(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .in_use = 1 }, { .l = 1 });
	mark_target(s);
	mark_source(s);
	open_now(s, 0);
	load_layer(s, 1);
}

static void init_mirror_raw(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .state = { DATA, ABSENT }, .in_use = 1 },
		   { .l = 1 });
	open_now(s, 0);
}

SCRIPT(mirrored, W(0, 1) F H(0, 2));
SCRIPT(mirrored_too, H(1, 3) F D(1));

static const struct scenario mirror = {
	.name = "mirror and pivot", .init = init_mirror, .kind = { CHAIN, CHAIN },
	.disks = 1, .tops = { BIT(0) | BIT(1) },
	.actor[0] = { GUEST(mirrored), GUEST(mirrored_too), FLUSHER(0), FLUSHER(1),
		      ACTOR("mirror", op_mirror) },
};

static const struct scenario mirror_raw = {
	.name = "mirror to a raw target, pivot", .init = init_mirror_raw,
	.kind = { CHAIN, RAW }, .disks = 1, .tops = { BIT(0) | BIT(1) },
	.actor[0] = { GUEST(mirrored), GUEST(mirrored_too), FLUSHER(0), FLUSHER(1),
		      ACTOR("mirror", op_mirror) },
};

static const struct scenario mirror_crash = {
	.name = "mirror, pivot, crash", .init = init_mirror,
	.kind = { CHAIN, CHAIN }, .disks = 1, .tops = { BIT(0) | BIT(1) },
	.crashes = 1,
	.warmth = COLD | WARM,
	.actor = { { GUEST(mirrored_too), FLUSHER(0), FLUSHER(1),
		     ACTOR("mirror", op_mirror) },
		   { ACTOR("open", op_open), GUEST(other_block), FLUSHER(0),
		     FLUSHER(1) } },
};

/* --- pivots of two disks --- */

static void mark_copy(struct state *s, int l, u8 source)
{
	struct hdr h = *hdr(unit_read(&s->u[l][U_SLOT0]));
	u8 number;

	h.mirror = INCOMPLETE;
	h.source = source;
	number = header_number(&h);
	unit_set(&s->u[l][U_SLOT0], number);
	unit_set(&s->u[l][U_SLOT1], number);
}

/* Mirrors that are ready: both sides hold the same. */
static void init_pivots(struct state *s)
{
	PUT_LAYERS(s, { .l = 0, .in_use = 1 }, { .l = 1 },
		   { .l = 2, .in_use = 1 }, { .l = 3 });
	mark_copy(s, 1, 1);
	mark_copy(s, 3, 3);
	open_now(s, 0);
	open_now(s, 1);
	load_layer(s, 1);
	load_layer(s, 3);
	s->d[0].mirror = 2;
	s->d[1].mirror = 4;
}

#define PIVOTS_SCENARIO(before, after) \
	.init = init_pivots, .kind = { CHAIN, CHAIN, CHAIN, CHAIN }, .disks = 2, \
	.tops = { BIT(0) | BIT(1), BIT(2) | BIT(3) }, .one_side = true, \
	.actor = { { GUEST(before), FLUSHER(0), FLUSHER(1), \
		     FLUSHER(2), FLUSHER(3), ACTOR("pivots", op_pivots) }, \
		   { ACTOR("open1", op_open), ACTOR_AT("open2", op_open_copy, 1), \
		     GUEST(after), FLUSHER(2), FLUSHER(3) } }

static const struct scenario pivots = {
	.name = "pivots of two disks", PIVOTS_SCENARIO(on_both, nothing),
};

static const struct scenario pivots_crash = {
	.name = "pivots of two disks, crash, write", .crashes = 1, .warmth = COLD,
	PIVOTS_SCENARIO(on_second, on_second),
};

static const struct scenario mirror_cancelled = {
	.name = "mirror cancelled when ready", .init = init_mirror,
	.kind = { CHAIN, CHAIN }, .disks = 1, .tops = { BIT(0) },
	.actor[0] = { GUEST(mirrored), GUEST(mirrored_too), FLUSHER(0), FLUSHER(1),
		      ACTOR("mirror", op_mirror_cancel) },
};

#define TRACK_SCENARIO(start, guest1) \
	.init = start, .kind = { CHAIN, CHAIN }, .disks = 1, .tops = { BIT(0) }, \
	.resume_mirror = true, .warmth = COLD | WARM, \
	.actor = { { guest1, GUEST(mirrored_too), FLUSHER(0), FLUSHER(1), \
		     ACTOR("mirror", op_mirror_copy), \
		     DAEMON("cleaner", op_clean_flags) }, \
		   { ACTOR("open", op_open), GUEST(one_block), FLUSHER(0) } }

static const struct scenario track = {
	.name = "mirror with change flags",
	TRACK_SCENARIO(init_mirror, GUEST(mirrored)),
};

static const struct scenario track_sectors = {
	.name = "mirror with change flags, a map sector each",
	.geometry = TWO_SECTORS, TRACK_SCENARIO(init_mirror, GUEST(mirrored)),
};

static const struct scenario track_empty = {
	.name = "mirror with change flags, no group in use",
	TRACK_SCENARIO(init_mirror_empty, GUEST(mirrored)),
};

static const struct scenario track_crash = {
	.name = "mirror with change flags, crash, written without",
	.crashes = 1, TRACK_SCENARIO(init_mirror, GUEST(nothing)),
};

static const struct scenario track_cancelled = {
	.name = "mirror with change flags, cancelled when ready",
	.init = init_mirror, .kind = { CHAIN, CHAIN }, .disks = 1,
	.tops = { BIT(0) }, .resume_mirror = true, .warmth = COLD | WARM,
	.actor[0] = { GUEST(mirrored), FLUSHER(0), FLUSHER(1),
		      ACTOR("mirror", op_mirror_cancel) },
};

/* --- running --- */

struct planted_case {
	const struct scenario *sc;
	enum plant plant;
};

static struct {
	u64 states, images, runs;
} totals[2];

static int verbose(void)
{
	const char *v = getenv("MODEL_VERBOSE");

	return v ? atoi(v) : 0;
}

static void run(const struct planted_case *c, struct result *r)
{
	clock_t start = clock();

	explore(c->sc, c->plant, r);
	totals[c->plant != NO_DEFECT].states += r->states;
	totals[c->plant != NO_DEFECT].images += r->images;
	totals[c->plant != NO_DEFECT].runs++;
	if (verbose())
		print_message("# %s: %u states, %llu crash images, depth %u, %.2f s%s%s\n",
			      c->sc->name, r->states, (unsigned long long)r->images,
			      r->depth, (double)(clock() - start) / CLOCKS_PER_SEC,
			      r->violated ? "; " : "", r->why);
}

static void test_holds(void **state)
{
	struct result r;

	run(*state, &r);
	if (r.violated)
		explain(stdout);
	assert_false(r.violated);
}

static void test_found(void **state)
{
	struct result r;

	run(*state, &r);
	if (r.violated && verbose() > 1)
		explain(stdout);
	assert_true(r.violated);
}

/* A counterexample ends with what the disks may hold. */
static void test_trace(void **state)
{
	static const struct planted_case c = { &snapshot_crash, OPEN_FLUSHES_TOP };
	char *text = NULL;
	struct result r;
	size_t n;
	FILE *f;

	(void)state;
	run(&c, &r);
	assert_true(r.violated);
	f = open_memstream(&text, &n);
	assert_non_null(f);
	explain(f);
	fclose(f);
	assert_non_null(strstr(text, "submits a request: write block 1"));
	assert_non_null(strstr(text, "machine stops"));
	assert_non_null(strstr(text, "disk 0 block 1 may be"));
	free(text);
}

#define HOLDS(scenario) \
	{ "holds: " #scenario, test_holds, NULL, NULL, \
	  (void *)&(const struct planted_case){ &scenario, NO_DEFECT } }
#define FOUND(scenario, plant, what) \
	{ "found: " what, test_found, NULL, NULL, \
	  (void *)&(const struct planted_case){ &scenario, plant } }

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_trace),
	HOLDS(flush_one_sector),
	HOLDS(flush_two_sectors),
	HOLDS(flush_two_groups),
	HOLDS(flush_in_use),
	HOLDS(flush_fua),
	HOLDS(flush_rounds),
	HOLDS(flush_fua_writes),
	HOLDS(flush_same_block),
	HOLDS(flush_background),
	HOLDS(punching),
	HOLDS(stale_sectors),
	HOLDS(stale_groups),
	HOLDS(stale_sectors_two),
	HOLDS(stale_discard),
	HOLDS(stale_one_sector),
	HOLDS(fua_reopened),
	HOLDS(damage),
	HOLDS(failed_flush),
	FOUND(flush_in_use, BUILD_FROM_CUR, "4 sector built from the map in memory"),
	FOUND(flush_in_use, BIT_AT_SUBMIT, "4 bit before its data"),
	FOUND(flush_same_block, DIRTY_LATE, "state visible before it is dirty"),
	FOUND(flush_in_use, NO_FIRST_FLUSH, "no FLUSH before the sectors"),
	FOUND(flush_in_use, NO_SECOND_FLUSH, "no FLUSH after the sectors"),
	FOUND(flush_rounds, JOIN_RUNNING_ROUND, "flush joins a captured round"),
	FOUND(flush_two_sectors, NO_EMPTY_GROUP, "19 presence with the group"),
	FOUND(flush_two_sectors, PRESENCE_LATE, "19 presence after the group"),
	FOUND(stale_sectors, EMPTY_GROUP_SKIPPED, "19 stale sectors trusted at first use"),
	FOUND(stale_sectors, STALE_SECTORS_USED, "19 stale sectors read, then emptied"),
	FOUND(flush_two_groups, PRESENCE_LOST_ABSENT, "19 lost presence read as absent"),
	FOUND(stale_sectors, PRESENCE_LOST_PRESENT, "19 lost presence read as present"),
	FOUND(damage, DAMAGE_FORGOTTEN, "19 damage forgotten at a rewrite"),
	FOUND(damage, DAMAGE_WRITABLE, "19 write into damage"),
	FOUND(punching, PUNCH_EARLY, "22 punch before the change is durable"),
	FOUND(punching, PUNCH_RACE, "22 write does not wait for a punch"),
	FOUND(flush_fua_writes, FUA_BEFORE_BIT, "FUA in place before the bit"),
	FOUND(fua_reopened, OPEN_FLUSHES_HEADERS, "FUA in place under an undurable bit"),
	FOUND(failed_flush, RETRY_FLUSH, "27 failed flush tried again"),
	FOUND(flush_in_use, BLOCK_ATOMIC, "18 rewrites don't tear: cannot hold"),

	HOLDS(unseal),
	HOLDS(unseal_crashes),
	HOLDS(open_shared),
	HOLDS(late_backing),
	HOLDS(new_id),
	HOLDS(rebase),
	HOLDS(create),
	HOLDS(shrink_data),
	HOLDS(shrink_absent),
	FOUND(snapshot_rot, ALTERNATE_SLOTS, "10 header slots written in turn"),
	FOUND(unseal_crashes, FIRST_SLOT_FIRST, "10 serving slot overwritten first"),
	FOUND(unseal, SLOTS_TOGETHER, "10 both slots at once"),
	FOUND(open_shared, OPEN_SAME_CID, "11 open without a new cid"),
	FOUND(open_shared, OPEN_MARK_LATE, "11 guest writes before the new cid"),
	FOUND(unseal, UNSEAL_SAME_CID, "11 unseal without a new cid"),
	FOUND(late_backing, BACKING_IN_USE, "11 create --backing of a layer in use"),
	FOUND(new_id, NEW_ID_CHANGES_SEED, "21 new-id changes the seed"),
	FOUND(rebase, REBASE_SAME_CID, "28 unsafe rebase without a new cid"),
	FOUND(create, CREATE_OVER_HEADERS, "21 former headers not erased"),
	FOUND(create, CREATE_NO_BARRIER, "21 former headers not erased first"),
	FOUND(shrink_absent, SHRINK_KEEPS_LIMIT, "16 shrink keeps the limit"),
	FOUND(shrink_data, GROW_KEEPS_BITS, "16 grow keeps bits beyond the end"),

	HOLDS(snapshot),
	HOLDS(snapshot_rot),
	HOLDS(snapshot_crash),
	HOLDS(snapshot_fua),
	HOLDS(snapshot_raw),
	HOLDS(snapshot_abandoned),
	HOLDS(snapshot_undone),
	HOLDS(group),
	HOLDS(group_rot),
	HOLDS(group_crash),
	HOLDS(group_crashes),
	HOLDS(group_other_order),
	HOLDS(group_undone),
	HOLDS(group_raw),
	FOUND(snapshot_abandoned, SEAL_SAME_CID, "11 N prepared with A's present cid"),
	FOUND(snapshot_undone, UNSEAL_SAME_CID, "11 undo without a new cid"),
	FOUND(snapshot, SEAL_BEFORE_FLUSH, "seal before F1 of the frozen layer"),
	FOUND(snapshot, SWITCH_WITHOUT_DRAIN, "switch with a write in flight"),
	FOUND(snapshot, FLUSH_NOT_HELD, "guest flush not held until the seal"),
	FOUND(snapshot_fua, FUA_NOT_HELD, "FUA write not held until the seal"),
	FOUND(snapshot_raw, FLUSH_NOT_HELD, "guest flush not held (raw)"),
	FOUND(snapshot_raw, SEAL_BEFORE_FLUSH, "fingerprint before the FLUSH (raw)"),
	FOUND(snapshot, HOLD_FOREVER, "guest flush held for ever"),
	FOUND(snapshot, CHILD_NOT_SYNCED, "12 child's file not durable"),
	FOUND(snapshot_crash, OPEN_WITHOUT_FLUSH, "open trusts undurable slots"),
	FOUND(snapshot_crash, OPEN_FLUSHES_TOP, "open trusts an undurable seal"),
	FOUND(group, GROUP_NO_PENDING, "17 a seal for each disk"),
	FOUND(group, GROUP_DECIDE_EARLY, "17 decision before all are pending"),
	FOUND(group, GROUP_DROP_EARLY, "17 decision erased too early"),
	FOUND(group, FLUSH_NOT_HELD, "17 guest flush not held"),
	FOUND(group_crash, GROUP_ABORT_SAME_CID, "17 aborted member keeps its cid"),
	FOUND(group, GROUP_DECIDE_UNFLUSHED, "17 decision before F1 of all"),
	FOUND(group_raw, GROUP_DECIDE_UNFLUSHED, "17 decision before F1 (raw)"),
	FOUND(group_raw, GROUP_NO_PENDING, "17 a fingerprint is no decision (raw)"),
	FOUND(group_undone, GROUP_UNDO_SAME_CID, "17 undo without a new cid"),
	FOUND(group, GROUP_CHILD_OPENS, "17 new top of an undecided member"),
	FOUND(group_crashes, GROUP_DECISION_CACHED, "17 decision read from a cache"),
	FOUND(group_crashes, GROUP_MEMBER_UNSETTLED, "17 decision dropped over a pending member"),

	HOLDS(stream),
	HOLDS(stream_crash),
	HOLDS(stream_short),
	FOUND(stream, RELINK_BEFORE_MAPS, "stream re-links before F1"),
	FOUND(stream, UNLINK_BEFORE_RELINK, "stream drops files before the re-link"),
	FOUND(stream, STREAM_NO_LOCK, "stream overtakes a guest write"),
	FOUND(stream_short, STREAM_KEEPS_LIMIT, "16 limit not lowered at a re-link"),

	HOLDS(commit_three),
	HOLDS(commit_zero),
	HOLDS(commit_fua),
	HOLDS(commit_sectors),
	HOLDS(commit_raw),
	HOLDS(commit_raw_zero),
	HOLDS(commit_crash),
	HOLDS(commit_raw_crash),
	HOLDS(commit_cancelled),
	HOLDS(commit_grow),
	HOLDS(commit_damaged),
	HOLDS(commit_child),
	HOLDS(commit_refused),
	HOLDS(commit_refused_raw),
	HOLDS(commit_again),
	HOLDS(pivot),
	HOLDS(pivot_raw),
	HOLDS(commit_shared),
	HOLDS(commit_first),
	HOLDS(commit_two),
	HOLDS(commit_middle),
	HOLDS(commit_middle_raw),
	HOLDS(commit_middle_crash),
	HOLDS(commit_short),
	HOLDS(commit_short_middle),
	HOLDS(commit_short_crash),
	FOUND(commit_three, CLEAR_TOGETHER, "1 all copies cleared at once"),
	FOUND(commit_three, CLEAR_TOP_FIRST, "1 the top cleared first"),
	FOUND(commit_fua, FUA_ONLY, "FUA without a FLUSH"),
	FOUND(commit_two, CLEAR_BEFORE_BASE, "1 cleared before the base's bit"),
	FOUND(commit_three, GUEST_TO_BASE, "2 guest writes held blocks to the base"),
	FOUND(commit_two, LOOKUP_EARLY, "3 lookups switch when copied"),
	FOUND(commit_two, NO_MOVE_LOCK, "3 write at T while its block moves"),
	FOUND(commit_two, LOOKUP_LATE, "3 lookups switch after the next capture"),
	FOUND(commit_two, TWO_WRITERS, "5 job and flusher both write sectors"),
	FOUND(commit_damaged, DAMAGE_MOVED, "damage moved as zeroes"),
	FOUND(commit_three, PENDING_NOT_SEEN, "route changes under a first write"),
	FOUND(commit_cancelled, CANCEL_FORGETS_BASE, "cancel leaves the base unflushed"),
	FOUND(commit_three, BASE_MARKED_FIRST, "6 base marked before the record"),
	FOUND(commit_three, MARKS_TOGETHER, "6 record and marks at once"),
	FOUND(commit_three, RECORD_OLD_ID_ONLY, "6 record accepts the old id only"),
	FOUND(commit_three, BASE_MARKED_LATE, "6 data before the marks"),
	FOUND(commit_raw, RAW_PRINT_KEPT, "6 fingerprint not voided"),
	FOUND(commit_middle_raw, MIDDLE_NOT_MARKED, "7 M not spoiled"),
	FOUND(commit_child, SPOILED_WITHOUT_KEY, "8 another overlay of a spoiled base"),
	FOUND(commit_shared, COMMIT_SHARED_BASE, "9 other children of the base"),
	FOUND(commit_three, PIVOT_SAME_CID, "14 pivot keeps the base's id"),
	FOUND(commit_middle, RELINK_FIRST, "14 re-link before un-spoiling"),
	FOUND(commit_grow, BASE_STAYS_SMALL, "16 base not grown before the data"),
	FOUND(commit_short, SHORT_STAYS_SHORT, "16 M's end hides what was moved"),
	FOUND(commit_short_middle, SHORT_STAYS_SHORT, "16 M's end hides it (intermediate)"),
	FOUND(commit_short, SHORT_LIFTED_EARLY, "16 M's end lifted too early"),
	FOUND(commit_short_crash, SHORT_AT_OPEN, "16 M's end is back after a crash"),
	FOUND(commit_crash, OPEN_FLUSHES_HEADERS, "open trusts an undurable clear"),
	FOUND(commit_first, TOP_NOT_DURABLE, "first write torn by its move"),
	FOUND(commit_refused_raw, TOP_NOT_DURABLE, "moved before it is durable at T"),
	FOUND(commit_cancelled, CANCEL_NOT_DRAINED, "cancel under a write to the base"),
	FOUND(commit_three, RECORD_MISSING, "6 no record"),
	FOUND(commit_middle, DONE_EARLY, "record done too early"),
	FOUND(commit_again, DONE_REUSED, "another commit under the same id"),
	FOUND(commit_refused, PIVOT_LATE, "pivot leaves something at T"),
	FOUND(commit_refused, PIVOT_RECORDED_FIRST, "14 base's header before the switch"),
	FOUND(commit_two, PIVOT_UNCLEARED, "14 T's clears are not durable"),

	HOLDS(mirror),
	HOLDS(mirror_raw),
	HOLDS(mirror_crash),
	HOLDS(mirror_cancelled),
	HOLDS(pivots),
	HOLDS(pivots_crash),
	FOUND(pivots, PIVOTS_NO_PENDING, "17 sources retired one by one"),
	FOUND(pivots, PIVOTS_DECIDE_EARLY, "17 decision before all are pending"),
	FOUND(pivots, PIVOTS_DROP_EARLY, "17 decision erased too early"),
	FOUND(pivots, PIVOTS_COPY_OPENS, "17 copy of an undecided source"),
	HOLDS(track),
	HOLDS(track_sectors),
	HOLDS(track_empty),
	HOLDS(track_crash),
	HOLDS(track_cancelled),
	FOUND(mirror, COMPLETE_FIRST, "13 target complete first"),
	FOUND(mirror, RETIRE_FIRST, "13 source retired first"),
	FOUND(mirror, PIVOT_WITHOUT_FLUSH, "13 pivot without F1 of the target"),
	FOUND(mirror, MIRROR_FLUSH_SOURCE, "a flush leaves the target out"),
	FOUND(mirror_cancelled, CANCEL_COMPLETE_FIRST, "target complete before its F1"),
	FOUND(mirror_crash, OPEN_FLUSHES_TOP, "open trusts an undurable retirement"),
	FOUND(track, TRACK_FROM_CACHE, "15 unflushed source is copied"),
	FOUND(track, TRACK_LATE, "15 flag after the write"),
	FOUND(track, TRACK_FROM_CUR, "15 flag written past the flusher"),
	FOUND(track_empty, TRACK_NO_PRESENCE, "15 flag in a group not present"),
	FOUND(track, TRACK_CLEAR_EARLY, "15 flag cleared too early"),
	FOUND(track_crash, TRACK_ANY_WRITER, "15 written without flags"),
	FOUND(track_cancelled, TRACK_ENDS_EARLY, "15 no flags before the record is gone"),
};

int main(void)
{
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	print_message("# protocol: %llu states, %llu crash images in %llu scenarios; "
		      "%llu defects, %llu states\n",
		      (unsigned long long)totals[0].states,
		      (unsigned long long)totals[0].images,
		      (unsigned long long)totals[0].runs,
		      (unsigned long long)totals[1].runs,
		      (unsigned long long)totals[1].states);
	return failed;
}
