// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Headers, and the operations that are little else: open, close, unseal, new-id,
 * rebase, create, shrink and grow.
 */
#include <assert.h>
#include <string.h>

#include "model_ops.h"

int go_to(const struct state *s, int me, step_fn run)
{
	const struct step *steps = actor_def(s, me)->steps;
	int i = 0;

	while (steps[i].run != run)
		i++;
	return i;
}

/* --- header writes (H1) --- */

static const struct step *current_step(const struct state *s, int me)
{
	return &actor_def(s, me)->steps[s->a[me].pc];
}

/* Mask of the layers that a header step is about. */
static u8 step_layers(const struct state *s, int me)
{
	if (current_step(s, me)->layers)
		return current_step(s, me)->layers;
	return BIT(s->d[actor_arg(s, me)].chain.l[0]);
}

/* The slot that doesn't serve goes first: it may be the damaged one. */
static int first_slot(const struct state *s, int l)
{
	if (planted(ALTERNATE_SLOTS))
		return U_SLOT0 + (hdr(s->l[l].hdr_new)->gen & 1);
	if (planted(FIRST_SLOT_FIRST))
		return U_SLOT0;
	return unit_read(&s->u[l][U_SLOT0]) == s->l[l].hdr ? U_SLOT1 : U_SLOT0;
}

/* Nothing is written for a header that wouldn't change. */
static void start_header(struct state *s, int me, int l)
{
	struct layer *y = &s->l[l];
	struct hdr h = *header_in_force(s, l);

	current_step(s, me)->build(s, me, l, &h);
	if (!memcmp(&h, header_in_force(s, l), sizeof(h)))
		return;
	h.gen++;
	y->hdr_new = header_number(&h);
	y->hdr_busy = 1;
	unit_write(&s->u[l][first_slot(s, l)], y->hdr_new);
	if (planted(SLOTS_TOGETHER)) {
		unit_write(&s->u[l][U_SLOT0], y->hdr_new);
		unit_write(&s->u[l][U_SLOT1], y->hdr_new);
	}
}

int header_start(struct state *s, int me)
{
	u8 layers = step_layers(s, me);

	for (int l = 0; l < NR_LAYERS; l++)
		if (layers & BIT(l) && model.sc->kind[l] == CHAIN)
			start_header(s, me, l);
	return STEP_NEXT;
}

/* From here on the new header holds, come what may. */
int header_durable(struct state *s, int me)
{
	u8 layers = step_layers(s, me);

	for (int l = 0; l < NR_LAYERS; l++) {
		if (!(layers & BIT(l)) || !s->l[l].hdr_new)
			continue;
		for (int i = U_SLOT0; i <= U_SLOT1; i++)
			if (unit_read(&s->u[l][i]) == s->l[l].hdr_new)
				unit_fua_done(&s->u[l][i]);
		s->l[l].hdr = s->l[l].hdr_new;
	}
	return STEP_NEXT;
}

int header_other(struct state *s, int me)
{
	u8 layers = step_layers(s, me);

	for (int l = 0; l < NR_LAYERS; l++) {
		if (!(layers & BIT(l)) || !s->l[l].hdr_new ||
		    planted(ALTERNATE_SLOTS))
			continue;
		unit_write(&s->u[l][U_SLOT0], s->l[l].hdr_new);
		unit_write(&s->u[l][U_SLOT1], s->l[l].hdr_new);
	}
	return STEP_NEXT;
}

int header_end(struct state *s, int me)
{
	u8 layers = step_layers(s, me);

	header_durable(s, me);
	for (int l = 0; l < NR_LAYERS; l++)
		if (layers & BIT(l))
			s->l[l].hdr_new = s->l[l].hdr_busy = 0;
	return STEP_NEXT;
}

/* --- small steps that many operations share --- */

int wait_rounds(struct state *s, int me)
{
	return rounds_done(s, me) ? STEP_NEXT : STEP_WAIT;
}

int load_all(struct state *s, int me)
{
	(void)me;
	for (int l = 0; l < NR_LAYERS; l++)
		load_layer(s, l);
	return STEP_NEXT;
}

int resume(struct state *s, int me)
{
	disk_of(s, me)->paused = 0;
	return STEP_NEXT;
}

int finish(struct state *s, int me)
{
	(void)s;
	(void)me;
	return STEP_END;
}

void record_ghost(struct state *s, u8 uuid, u8 cid, u8 v[NR_BLOCKS][NR_SECTORS])
{
	struct ghost *g = &s->ghost[s->nr_ghosts++];

	assert(s->nr_ghosts <= NR_GHOSTS);
	g->uuid = uuid;
	g->cid = cid;
	memcpy(g->v, v, sizeof(g->v));
}

void record_live(struct state *s, int d, int l, u8 cid)
{
	u8 v[NR_BLOCKS][NR_SECTORS];

	for (int b = 0; b < NR_BLOCKS; b++)
		live_block(s, d, b, v[b]);
	record_ghost(s, l + 1, cid, v);
}

/* A header of layer @l that names @parent under @cid, as create makes it. */
static u8 new_child_header(int l, int parent, u8 cid)
{
	struct hdr h = { .gen = 1, .uuid = l + 1, .cid = l + 1, .in_use = 1,
			 .size = NR_BLOCKS, .limit = NR_BLOCKS,
			 .parent = parent + 1, .parent_cid = cid };

	return header_number(&h);
}

void submit_child(struct state *s, int l, int parent, u8 cid)
{
	u8 number = new_child_header(l, parent, cid);

	unit_write(&s->u[l][U_NAME], 1);
	unit_write(&s->u[l][U_PRESENCE], SECTOR_VALID);
	unit_write(&s->u[l][U_SLOT0], number);
	unit_write(&s->u[l][U_SLOT1], number);
}

/* fsync of the file and of its directory. */
void sync_child(struct state *s, int l)
{
	for (int i = 0; i < NR_STRUCTURE; i++) {
		if (planted(CHILD_NOT_SYNCED))
			unit_done(&s->u[l][i]);
		else
			unit_fua_done(&s->u[l][i]);
	}
}

/* --- open, close, unseal, new-id, rebase --- */

static u8 layers_to_open(int d)
{
	return model.sc->disks > 1 ? model.sc->tops[d] : BIT(NR_LAYERS) - 1;
}

/*
 * What is read at open may still be in the cache only, if the machine crashed
 * without losing power. It has to be durable before it is built upon: a seal,
 * a new link or a cleared block in one layer decides what writes to *another*
 * layer mean.
 */
int open_flush(struct state *s, int me)
{
	for (int l = 0; l < NR_LAYERS; l++)
		if (layers_to_open(actor_arg(s, me)) & BIT(l))
			flush_begin(s, l);
	return STEP_NEXT;
}

static void open_flushed(struct state *s, int top, int l)
{
	if (planted(OPEN_WITHOUT_FLUSH) || (planted(OPEN_FLUSHES_TOP) && l != top))
		return;
	if (planted(OPEN_FLUSHES_HEADERS)) {
		unit_fua_done(&s->u[l][U_SLOT0]);
		unit_fua_done(&s->u[l][U_SLOT1]);
	} else {
		flush_end(s, l);
	}
}

/* Layers of a commit that was cut off, seen by way of its record. */
static void lift_spoiled(struct state *s, const struct chain *c)
{
	const struct hdr *record = NULL;

	for (int i = 0; i < c->n; i++) {
		const struct hdr *h;

		if (model.sc->kind[c->l[i]] != CHAIN)
			continue;
		h = header_in_force(s, c->l[i]);
		s->l[c->l[i]].lifted = is_lifted(record, h);
		if (h->job)
			record = h;
	}
}

int open_load(struct state *s, int me)
{
	int d = actor_arg(s, me), top;
	struct image im;

	image_latest(s, &im);
	top = open_disk(&im, d, &s->d[d].chain);
	if (top < 0)
		return STEP_END;
	for (int l = 0; l < NR_LAYERS; l++) {
		if (!(layers_to_open(d) & BIT(l)))
			continue;
		open_flushed(s, top, l);
		load_layer(s, l);
	}
	lift_spoiled(s, &s->d[d].chain);
	s->d[d].opened = planted(OPEN_MARK_LATE);
	return STEP_NEXT;
}

int open_repair(struct state *s, int me)
{
	int top = disk_of(s, me)->chain.l[0];

	if (model.sc->kind[top] != CHAIN || planted(FIRST_SLOT_FIRST) ||
	    planted(ALTERNATE_SLOTS))
		return STEP_NEXT;
	unit_write(&s->u[top][U_SLOT0], s->l[top].hdr);
	unit_write(&s->u[top][U_SLOT1], s->l[top].hdr);
	return STEP_NEXT;
}

int open_repaired(struct state *s, int me)
{
	int top = disk_of(s, me)->chain.l[0];

	if (model.sc->kind[top] != CHAIN || planted(FIRST_SLOT_FIRST) ||
	    planted(ALTERNATE_SLOTS))
		return STEP_NEXT;
	unit_fua_done(&s->u[top][U_SLOT0]);
	unit_fua_done(&s->u[top][U_SLOT1]);
	s->l[top].hdr_busy = 0;
	return STEP_NEXT;
}

/* A pending old top that opens was not decided upon: its seal is undone. */
void build_in_use(struct state *s, int me, int l, struct hdr *h)
{
	bool keep = planted(OPEN_SAME_CID) ||
		    (planted(GROUP_ABORT_SAME_CID) && h->pending);

	(void)me;
	(void)l;
	h->in_use = 1;
	if (!keep)
		h->cid = fresh_cid(s);
	if (h->pending)
		h->sealed = h->retired = 0;
	h->pending = h->coordinator = 0;
	h->mirror = NOT_MIRROR;
}

int open_go(struct state *s, int me)
{
	disk_of(s, me)->opened = 1;
	return STEP_NEXT;
}

#define OPEN_STEPS \
	STEP("open: FLUSH the chain's devices", open_flush), \
	STEP("open: flushed; read headers and maps", open_load), \
	STEP("open: repair the other slot", open_repair), \
	STEP("open: repaired", open_repaired), \
	HEADER("open: header {in use, new cid}", TOP, build_in_use), \
	STEP("open: table", open_go)

const struct step op_open[] = {
	OPEN_STEPS,
	STEP("opened", finish),
};

static int wait_first_disk(struct state *s, int me)
{
	(void)me;
	return s->d[0].opened ? STEP_NEXT : STEP_WAIT;
}

const struct step op_open_after[] = {
	STEP("open: the other disk is open", wait_first_disk),
	OPEN_STEPS,
	STEP("opened", finish),
};

static int wait_second_disk(struct state *s, int me)
{
	(void)me;
	return s->d[1].opened ? STEP_NEXT : STEP_WAIT;
}

const struct step op_open_last[] = {
	STEP("open: the other disk is open", wait_second_disk),
	OPEN_STEPS,
	STEP("opened", finish),
};

static int unseal_load(struct state *s, int me)
{
	(void)me;
	load_layer(s, 0);
	return STEP_NEXT;
}

void build_unsealed(struct state *s, int me, int l, struct hdr *h)
{
	(void)me;
	(void)l;
	h->sealed = 0;
	if (!planted(UNSEAL_SAME_CID))
		h->cid = fresh_cid(s);
}

static void build_closed(struct state *s, int me, int l, struct hdr *h)
{
	(void)s;
	(void)me;
	(void)l;
	h->in_use = 0;
}

/* The guest has gone. */
static int close_start(struct state *s, int me)
{
	struct disk *k = disk_of(s, me);

	for (int i = 0; i < NR_ACTORS; i++)
		if (actor_def(s, i)->steps == guest && !s->a[i].done)
			return STEP_WAIT;
	k->paused = 1;
	ask_round(s, k->chain.l[0], me);
	return STEP_NEXT;
}

const struct step op_offline[] = {
	STEP("unseal: read the header", unseal_load),
	HEADER("unseal: header {unsealed, new cid}", BIT(0), build_unsealed),
	OPEN_STEPS,
	STEP("close: F1", close_start),
	STEP("close: F1 done", wait_rounds),
	HEADER("close: header {not in use}", TOP, build_closed),
	STEP("closed", finish),
};

static void build_new_id(struct state *s, int me, int l, struct hdr *h)
{
	(void)me;
	(void)l;
	h->uuid = NR_LAYERS + 1;
	h->cid = fresh_cid(s);
	h->sealed = 0;
	if (planted(NEW_ID_CHANGES_SEED))
		h->seed = !h->seed;
}

const struct step op_new_id[] = {
	STEP("new-id: read the header", unseal_load),
	HEADER("new-id: header {new UUID, new cid, no seal}", BIT(0), build_new_id),
	STEP("new-id done", finish),
};

static void build_rebased(struct state *s, int me, int l, struct hdr *h)
{
	(void)me;
	(void)l;
	h->parent = header_in_force(s, 0)->uuid;
	h->parent_cid = header_in_force(s, 0)->cid;
	if (!planted(REBASE_SAME_CID))
		h->cid = fresh_cid(s);
}

const struct step op_rebase[] = {
	STEP("rebase: read headers", load_all),
	HEADER("rebase --unsafe: header {link, new cid}", BIT(2), build_rebased),
	STEP("rebased", finish),
};

/* --- create --- */

static int create_erase(struct state *s, int me)
{
	(void)me;
	if (planted(CREATE_OVER_HEADERS))
		return STEP_NEXT;
	unit_write(&s->u[0][U_SLOT0], 0);
	unit_write(&s->u[0][U_SLOT1], 0);
	return STEP_NEXT;
}

static int create_flushed(struct state *s, int me)
{
	(void)me;
	for (int i = 0; i < NR_UNITS; i++)
		unit_done(&s->u[0][i]);
	if (planted(CREATE_NO_BARRIER))
		return STEP_NEXT;
	flush_begin(s, 0);
	flush_end(s, 0);
	return STEP_NEXT;
}

static int create_presence(struct state *s, int me)
{
	(void)me;
	unit_write(&s->u[0][U_PRESENCE], SECTOR_VALID | SECTOR_SEED);
	return STEP_NEXT;
}

/* Nobody was told yet that the former life is over: either may be found. */
static void expect_zeroes_too(struct disk *k)
{
	for (int b = 0; b < NR_BLOCKS; b++) {
		struct history *h = &k->h[b];

		memset(&h->op[h->n], 0, sizeof(h->op[0]));
		if (h->n == 1)
			h->n++;
	}
}

/* A new life starts at generation 1, whatever the former one had. */
static int create_headers(struct state *s, int me)
{
	struct hdr h = { .gen = 1, .uuid = 1, .seed = 1, .size = NR_BLOCKS,
			 .limit = NR_BLOCKS };
	u8 number;

	expect_zeroes_too(disk_of(s, me));
	h.cid = fresh_cid(s);
	number = header_number(&h);
	unit_write(&s->u[0][U_SLOT0], number);
	unit_write(&s->u[0][U_SLOT1], number);
	return STEP_NEXT;
}

static int create_done(struct state *s, int me)
{
	static const u8 nothing[NR_SECTORS];
	struct disk *k = disk_of(s, me);

	flush_begin(s, 0);
	flush_end(s, 0);
	load_layer(s, 0);
	k->opened = 1;
	k->chain = (struct chain){ .n = 1 };
	for (int b = 0; b < NR_BLOCKS; b++) {
		memset(&k->h[b], 0, sizeof(k->h[b]));
		memcpy(k->h[b].op[0].v, nothing, sizeof(nothing));
		k->h[b].n = 1;
	}
	return STEP_END;
}

const struct step op_create[] = {
	STEP("create: zero the former header slots", create_erase),
	STEP("create: zeroes durable", create_flushed),
	STEP("create: presence map", create_presence),
	STEP("create: presence map durable", create_flushed),
	STEP("create: both headers", create_headers),
	STEP("create: headers written", create_flushed),
	STEP("create: done", create_done),
};

/* create --backing of layer 0 as layer 4, while layer 0 is in use. */
static int late_backing(struct state *s, int me)
{
	if (!disk_of(s, me)->opened || disk_of(s, me)->inflight)
		return STEP_WAIT;
	if (header_in_force(s, 0)->in_use && !planted(BACKING_IN_USE))
		return STEP_END;
	submit_child(s, 4, 0, header_in_force(s, 0)->cid);
	sync_child(s, 4);
	record_live(s, actor_arg(s, me), 0, header_in_force(s, 0)->cid);
	return STEP_END;
}

const struct step op_late_backing[] = {
	STEP("create --backing of a layer in use", late_backing),
};

/* --- shrink and grow --- */

static void build_shrunk(struct state *s, int me, int l, struct hdr *h)
{
	(void)me;
	(void)l;
	h->size = 1;
	if (!planted(SHRINK_KEEPS_LIMIT))
		h->limit = min_u8(h->limit, 1);
	h->cid = fresh_cid(s);
}

/* Bits beyond the end become `zero`. Offline: nobody waits but this command. */
static int zero_beyond(struct state *s, int me)
{
	if (header_in_force(s, 1)->size > 1 ||
	    (planted(GROW_KEEPS_BITS) && s->crashes))
		return STEP_NEXT;
	if (s->l[1].cur[1] == DATA)
		set_block(s, 1, 1, ZERO);
	ask_round(s, 1, me);
	return STEP_NEXT;
}

static int truncate_data(struct state *s, int me)
{
	(void)me;
	for (int i = 0; i < NR_SECTORS; i++) {
		unit_write(&s->u[1][data_unit(1, i)], PUNCHED);
		unit_done(&s->u[1][data_unit(1, i)]);
	}
	return STEP_END;
}

const struct step op_shrink[] = {
	STEP("shrink: read headers", load_all),
	HEADER("shrink: header {size, limit, new cid}", BIT(1), build_shrunk),
	STEP("shrink: bits beyond the end become zero", zero_beyond),
	STEP("shrink: bits durable", wait_rounds),
	STEP("shrink: truncate", truncate_data),
};

/* Once grown again, what is beyond the old end reads zero, for good. */
static int grow_promise(struct state *s, int me)
{
	struct history *h = &disk_of(s, me)->h[1];

	if (header_in_force(s, 1)->size > 1)
		return STEP_END;
	memset(h, 0, sizeof(*h));
	h->n = 1;
	return STEP_NEXT;
}

static void build_grown(struct state *s, int me, int l, struct hdr *h)
{
	(void)me;
	(void)l;
	h->size = NR_BLOCKS;
	h->cid = fresh_cid(s);
}

const struct step op_grow[] = {
	STEP("grow: read headers", load_all),
	STEP("grow: bits beyond the end become zero", zero_beyond),
	STEP("grow: bits durable", wait_rounds),
	STEP("grow: start", grow_promise),
	HEADER("grow: header {size, new cid; limit unchanged}", BIT(1), build_grown),
	STEP("grown", finish),
};

/* --- a device that fails --- */

static int fail_flush(struct state *s, int me)
{
	s->l[actor_arg(s, me)].fail_next = 1;
	return STEP_END;
}

const struct step op_fail_flush[] = {
	STEP("the next FLUSH will fail", fail_flush),
};
