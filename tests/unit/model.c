// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The walk through all states: breadth first, so that the first violation
 * found is a shortest one. A state is known by its 64-bit hash; of the states
 * behind the front only the way that led there is kept.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

struct model model;

/* How a state was reached: by which actor's step, or by which crash. */
struct node {
	u32 parent;
	u32 choice;		/* which crash image */
	u8 actor;		/* or one of the following */
};

enum { BY_CRASH = 0xf0, BY_WARM_CRASH, BY_NOTHING };

struct front {
	struct state *s;
	u32 *node;
	u32 n, room;
};

static struct {
	u64 *hashes;
	u32 nr_hashes, room;	/* room: a power of two */
	struct node *nodes;
	u32 nr_nodes, node_room;
	struct front now, next;
	struct result *r;
	u32 bad;		/* node of the violation */
} walk;

static void *grow(void *p, size_t bytes)
{
	p = realloc(p, bytes);
	if (!p)
		abort();
	return p;
}

/* --- set of states seen --- */

static u64 hash_state(const struct state *s)
{
	const u8 *p = (const u8 *)s;
	u64 h = 0x9e3779b97f4a7c15ULL, w;
	size_t n = sizeof(*s);

	for (; n >= sizeof(w); n -= sizeof(w), p += sizeof(w)) {
		memcpy(&w, p, sizeof(w));
		h = (h ^ w) * 0xff51afd7ed558ccdULL;
		h ^= h >> 32;
	}
	w = 0;
	memcpy(&w, p, n);
	h = (h ^ w) * 0xc4ceb9fe1a85ec53ULL;
	h ^= h >> 29;
	return h ? h : 1;
}

static bool hash_put(u64 *table, u32 room, u64 h)
{
	u32 i = h & (room - 1);

	while (table[i] && table[i] != h)
		i = (i + 1) & (room - 1);
	if (table[i])
		return false;
	table[i] = h;
	return true;
}

static void rehash(void)
{
	u32 room = walk.room ? walk.room * 2 : 1 << 12;
	u64 *table = calloc(room, sizeof(*table));

	if (!table)
		abort();
	for (u32 i = 0; i < walk.room; i++)
		if (walk.hashes[i])
			hash_put(table, room, walk.hashes[i]);
	free(walk.hashes);
	walk.hashes = table;
	walk.room = room;
}

static bool seen_before(const struct state *s)
{
	if (walk.nr_hashes >= walk.room / 2)
		rehash();
	if (!hash_put(walk.hashes, walk.room, hash_state(s)))
		return true;
	walk.nr_hashes++;
	return false;
}

/* --- front --- */

static u32 add_node(u32 parent, u8 actor, u32 choice)
{
	if (walk.nr_nodes == walk.node_room) {
		walk.node_room = walk.node_room ? walk.node_room * 2 : 1 << 12;
		walk.nodes = grow(walk.nodes, walk.node_room * sizeof(*walk.nodes));
	}
	walk.nodes[walk.nr_nodes] = (struct node){ parent, choice, actor };
	return walk.nr_nodes++;
}

static void add_to_front(struct front *f, const struct state *s, u32 node)
{
	if (f->n == f->room) {
		f->room = f->room ? f->room * 2 : 1 << 8;
		f->s = grow(f->s, f->room * sizeof(*f->s));
		f->node = grow(f->node, f->room * sizeof(*f->node));
	}
	f->s[f->n] = *s;
	f->node[f->n++] = node;
}

static void violation(u32 node, const char *error)
{
	walk.r->violated = true;
	snprintf(walk.r->why, sizeof(walk.r->why), "%s", error);
	walk.bad = node;
}

static void reach(const struct state *s, u32 parent, u8 actor, u32 choice)
{
	const char *error;
	u32 node;

	if (walk.r->violated || seen_before(s))
		return;
	node = add_node(parent, actor, choice);
	walk.r->states++;
	error = check_state(s, &walk.r->images);
	if (error)
		violation(node, error);
	else
		add_to_front(&walk.next, s, node);
}

/* --- steps --- */

static bool take_step(struct state *s, int i)
{
	const struct actor_def *def = actor_def(s, i);
	const struct step *st;
	int next;

	if (!def->steps || s->a[i].done)
		return false;
	st = &def->steps[s->a[i].pc];
	next = st->run(s, i);
	if (next == STEP_WAIT)
		return false;
	if (next == STEP_END)
		s->a[i] = (struct actor){ .done = 1 };
	else
		s->a[i].pc = next == STEP_NEXT ? s->a[i].pc + 1 : next;
	return true;
}

static bool all_done(const struct state *s)
{
	for (int i = 0; i < NR_ACTORS; i++) {
		const struct actor_def *def = actor_def(s, i);

		if (def->steps && !def->daemon && !s->a[i].done)
			return false;
	}
	return true;
}

/* --- crashes --- */

static bool is_slot(int unit)
{
	return unit == U_SLOT0 || unit == U_SLOT1;
}

static u32 unit_choices(const struct unit *u, int unit)
{
	return u->n + (u->n > 1 && is_slot(unit));
}

static u32 crash_choices(const struct state *s)
{
	u32 n = 1;

	for (int l = 0; l < NR_LAYERS; l++)
		for (int i = 0; i < NR_UNITS; i++)
			n *= unit_choices(&s->u[l][i], i);
	return n;
}

/* What was in memory is gone. */
static void forget_memory(struct state *s)
{
	memset(s->l, 0, sizeof(s->l));
	memset(s->a, 0, sizeof(s->a));
	s->crashes++;
	for (int d = 0; d < NR_DISKS; d++) {
		struct disk was = s->d[d];

		memset(&s->d[d], 0, sizeof(s->d[d]));
		memcpy(s->d[d].h, was.h, sizeof(was.h));
	}
	for (int l = 0; l < NR_LAYERS; l++)
		s->l[l].hdr_busy = !planted(ALTERNATE_SLOTS) &&
			unit_read(&s->u[l][U_SLOT0]) != unit_read(&s->u[l][U_SLOT1]);
}

/* Power cut: each unit holds one of its values, and that is what was seen. */
static void note_survivors(struct state *s)
{
	struct image im;
	struct chain c;

	image_latest(s, &im);
	for (int d = 0; d < model.sc->disks; d++) {
		if (open_disk(&im, d, &c) < 0)
			continue;
		for (int b = 0; b < NR_BLOCKS; b++) {
			struct history *h = &s->d[d].h[b];
			struct write *w = &h->op[0];

			memset(h->op, 0, sizeof(h->op));
			h->base = 0;
			h->n = 1;
			image_block(&im, &c, b, w->v);
		}
	}
}

static void cut_power(struct state *s, u32 choice)
{
	for (int l = 0; l < NR_LAYERS; l++) {
		for (int i = 0; i < NR_UNITS; i++) {
			struct unit *u = &s->u[l][i];
			u32 n = unit_choices(u, i), k = choice % n;

			choice /= n;
			unit_set(u, k < u->n ? u->v[k] : TORN);
		}
	}
	forget_memory(s);
	note_survivors(s);
}

/*
 * The machine stops, the devices go on: all that was sent to them can be read,
 * none of it need be durable. What is read now is one more thing that may be
 * there after the next crash.
 */
static void stop_machine(struct state *s)
{
	struct image im;
	struct chain c;

	for (int l = 0; l < NR_LAYERS; l++) {
		for (int i = 0; i < NR_UNITS; i++) {
			unit_done(&s->u[l][i]);
			s->u[l][i].mark = 0;
		}
	}
	forget_memory(s);
	image_latest(s, &im);
	for (int d = 0; d < model.sc->disks; d++) {
		if (open_disk(&im, d, &c) < 0)
			continue;
		for (int b = 0; b < NR_BLOCKS; b++) {
			struct history *h = &s->d[d].h[b];
			struct write *w = &h->op[h->n];

			assert(h->n < NR_WRITES);
			latest_block(&im, &c, b, w->v);
			if (memcmp(w->v, w[-1].v, NR_SECTORS))
				h->n++;
			else
				memset(w, 0, sizeof(*w));
		}
	}
}

static void crash(const struct state *s, u32 node)
{
	struct state t;

	if (s->crashes >= model.sc->crashes)
		return;
	for (u32 i = 0; model.sc->warmth & COLD && i < crash_choices(s); i++) {
		t = *s;
		cut_power(&t, i);
		reach(&t, node, BY_CRASH, i);
	}
	if (model.sc->warmth & WARM) {
		t = *s;
		stop_machine(&t);
		reach(&t, node, BY_WARM_CRASH, 0);
	}
}

/* --- the walk --- */

static void expand(const struct state *s, u32 node)
{
	bool any = false;
	struct state t;

	for (int i = 0; i < NR_ACTORS; i++) {
		t = *s;
		if (!take_step(&t, i))
			continue;
		any = true;
		reach(&t, node, i, 0);
	}
	if (!any && !all_done(s) && !walk.r->violated)
		violation(node, "nobody can go on");
	crash(s, node);
}

static void walk_all(void)
{
	while (walk.next.n && !walk.r->violated) {
		struct front f = walk.now;

		walk.now = walk.next;
		walk.next = f;
		walk.next.n = 0;
		walk.r->depth++;
		for (u32 i = 0; i < walk.now.n && !walk.r->violated; i++)
			expand(&walk.now.s[i], walk.now.node[i]);
	}
}

static void walk_reset(void)
{
	free(walk.hashes);
	free(walk.nodes);
	free(walk.now.s);
	free(walk.now.node);
	free(walk.next.s);
	free(walk.next.node);
	memset(&walk, 0, sizeof(walk));
}

static void start_state(struct state *s)
{
	headers_reset();
	memset(s, 0, sizeof(*s));
	s->next_cid = 50;
	model.sc->init(s);
}

void explore(const struct scenario *sc, enum plant plant, struct result *r)
{
	struct state s;

	memset(r, 0, sizeof(*r));
	walk_reset();
	walk.r = r;
	model.sc = sc;
	model.plant = plant;
	start_state(&s);
	reach(&s, 0, BY_NOTHING, 0);
	walk_all();
}

/* --- trace --- */

static void print_mark(FILE *f, const char *name, u8 v)
{
	if (v)
		fprintf(f, " %s %u", name, v);
}

static void print_header(FILE *f, const struct hdr *h)
{
	fprintf(f, " {gen %u cid %u size %u limit %u", h->gen, h->cid, h->size, h->limit);
	if (h->parent)
		fprintf(f, " parent %u/%u", h->parent, h->parent_cid);
	print_mark(f, "sealed", h->sealed);
	print_mark(f, "in-use", h->in_use);
	print_mark(f, "pending", h->pending);
	print_mark(f, "decision", h->decision);
	if (h->job)
		fprintf(f, " job %u base in {%u,%u}", h->job, h->c0, h->c1);
	print_mark(f, "spoiled", h->spoiled);
	print_mark(f, "mirror", h->mirror);
	print_mark(f, "retired", h->retired);
	print_mark(f, "track", h->track_cid);
	fprintf(f, "}");
}

static void print_value(FILE *f, int unit, u8 v)
{
	if ((unit == U_SLOT0 || unit == U_SLOT1) && slot_valid(v))
		print_header(f, hdr(v));
	else
		fprintf(f, " %02x", v);
}

static void print_disks(FILE *f, const struct state *s)
{
	static const char *const names[NR_UNITS] = {
		"name", "slot 0", "slot 1", "presence", "map 0", "map 1",
		"data 0.0", "data 0.1", "data 1.0", "data 1.1",
	};

	for (int l = 0; l < NR_LAYERS; l++) {
		for (int i = 0; i < NR_UNITS; i++) {
			const struct unit *u = &s->u[l][i];

			if (u->n == 1 && (!u->v[0] || u->v[0] == FORMER))
				continue;
			fprintf(f, "    layer %d %-9s", l, names[i]);
			for (int k = 0; k < u->n; k++)
				print_value(f, i, u->v[k]);
			fprintf(f, "%s\n", u->flying ? " (not completed)" : "");
		}
	}
	for (int d = 0; d < model.sc->disks; d++) {
		for (int b = 0; b < NR_BLOCKS; b++) {
			const struct history *h = &s->d[d].h[b];

			fprintf(f, "    disk %d block %d may be", d, b);
			for (int i = 0; i < h->n; i++)
				fprintf(f, " %02x %02x%s", h->op[i].v[0], h->op[i].v[1],
				       h->op[i].whole ? " whole," : ",");
			fprintf(f, "\n");
		}
	}
}

static void print_request(FILE *f, const struct guest_op *op)
{
	static const char *const names[] = {
		[GUEST_END] = "no more", [WRITE] = "write", [DISCARD] = "discard",
		[WRITE_HALF] = "write half", [WRITE_FUA] = "write FUA",
		[FLUSH] = "flush",
	};

	fprintf(f, ": %s", names[op->kind]);
	if (op->kind != GUEST_END && op->kind != FLUSH)
		fprintf(f, " block %u (%02x)", op->b, op->value);
}

static void replay(FILE *f, struct state *s, const struct node *n)
{
	const struct actor_def *def;

	if (n->actor == BY_CRASH) {
		fprintf(f, "  power cut (image %u)\n", n->choice);
		cut_power(s, n->choice);
	} else if (n->actor == BY_WARM_CRASH) {
		fprintf(f, "  machine stops, devices stay powered\n");
		stop_machine(s);
	} else if (n->actor != BY_NOTHING) {
		def = actor_def(s, n->actor);
		fprintf(f, "  %-18s %s", def->name, def->steps[s->a[n->actor].pc].what);
		if (def->steps == guest && s->a[n->actor].pc == 0)
			print_request(f, &def->script[s->a[n->actor].op]);
		fprintf(f, "\n");
		take_step(s, n->actor);
	}
}

/* The steps to the last violation, and what was on the disks then. */
void explain(FILE *f)
{
	u32 way[1024], n = 0;
	struct state s;

	for (u32 i = walk.bad; i && n < 1024; i = walk.nodes[i].parent)
		way[n++] = i;
	fprintf(f, "%s: %s\n", model.sc->name, walk.r->why);
	start_state(&s);
	while (n)
		replay(f, &s, &walk.nodes[way[--n]]);
	print_disks(f, &s);
}
