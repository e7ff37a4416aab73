// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What must hold: for every state, all that a power cut could leave of it is
 * opened and compared with what the guest may expect.
 *
 * Units survive independently of each other, so the images need not be made
 * one by one: for each combination of headers and presence sectors, each block
 * is looked at by itself, with all the values that its sectors may have.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "model.h"

static char why[256];

/* --- opening --- */

static const struct hdr *header_of(const struct image *im, int l)
{
	return im->hdr[l] ? hdr(im->hdr[l]) : NULL;
}

static u8 presence_of(const struct image *im, int l)
{
	if (im->rot_layer == l && im->rot_unit == U_PRESENCE)
		return SECTOR_ROTTEN;
	return im->v[l][U_PRESENCE];
}

static void pick_headers(struct image *im)
{
	for (int l = 0; l < NR_LAYERS; l++) {
		u8 slot[2] = { im->v[l][U_SLOT0], im->v[l][U_SLOT1] };

		im->hdr[l] = 0;
		if (model.sc->kind[l] != CHAIN || !im->v[l][U_NAME])
			continue;
		if (im->rot_layer == l && im->rot_unit <= U_SLOT1 &&
		    im->rot_unit >= U_SLOT0)
			slot[im->rot_unit - U_SLOT0] = TORN;
		im->hdr[l] = pick_header(slot[0], slot[1]);
	}
}

/* What is read from the devices while they are up, cache and all. */
void image_latest(const struct state *s, struct image *im)
{
	memset(im, 0, sizeof(*im));
	im->s = s;
	im->rot_layer = im->rot_unit = -1;
	for (int l = 0; l < NR_LAYERS; l++)
		for (int i = 0; i < NR_STRUCTURE; i++)
			im->v[l][i] = unit_read(&s->u[l][i]);
	pick_headers(im);
}

static int find_layer(const struct image *im, u8 uuid)
{
	for (int l = 0; l < NR_LAYERS; l++) {
		if (model.sc->kind[l] == RAW && uuid == l + 1)
			return l;
		if (im->hdr[l] && hdr(im->hdr[l])->uuid == uuid)
			return l;
	}
	return -1;
}

/* A pending member of a group is sealed iff its coordinator has decided so. */
static bool decided(const struct image *im, const struct hdr *h)
{
	int l = find_layer(im, h->coordinator);

	return l >= 0 && im->hdr[l] && hdr(im->hdr[l])->decision == h->pending;
}

static bool undecided(const struct image *im, const struct hdr *h)
{
	return h->pending && !decided(im, h);
}

/* An old top that waits is frozen or not, a new one on a raw layer is the disk
 * or nothing. */
static const char *pending_refusal(const struct image *im, const struct hdr *h)
{
	if (!h->pending)
		return h->sealed ? "sealed" : NULL;
	if (h->retired)
		return decided(im, h) ? "retired, decided" : NULL;
	if (h->sealed)
		return decided(im, h) ? "pending, decided" : NULL;
	return decided(im, h) ? NULL : "pending, not decided";
}

static bool retired_into(const struct image *im, u8 uuid)
{
	for (int l = 0; l < NR_LAYERS; l++)
		if (im->hdr[l] && hdr(im->hdr[l])->retired == uuid)
			return true;
	return false;
}

/* A child of a raw layer is complete when it has its fingerprint. */
static bool frozen_by(const struct image *im, u8 uuid)
{
	for (int l = 0; l < NR_LAYERS; l++)
		if (im->hdr[l] && hdr(im->hdr[l])->parent == uuid &&
		    hdr(im->hdr[l])->parent_cid &&
		    !undecided(im, hdr(im->hdr[l])))
			return true;
	return false;
}

/* The target of a mirror is the disk iff its source says so. */
static const char *mirror_refusal(const struct image *im, const struct hdr *h)
{
	int l;

	if (h->mirror == INCOMPLETE)
		return "incomplete";
	if (h->mirror != PREPARED)
		return NULL;
	l = find_layer(im, h->source);
	if (l < 0 || hdr(im->hdr[l])->retired != h->uuid)
		return "prepared, source not retired";
	if (undecided(im, hdr(im->hdr[l])) && !planted(PIVOTS_COPY_OPENS))
		return "prepared, source pending";
	return NULL;
}

/* A raw layer has no marks: it is the disk if chain layers say no other. */
static const char *raw_top_refusal(const struct image *im, int l, bool rw)
{
	if (!rw || retired_into(im, l + 1))
		return NULL;
	if (model.sc->raw_top == l + 1 && !frozen_by(im, l + 1))
		return NULL;
	return "raw, not the disk";
}

static const char *top_refusal(const struct image *im, int l, bool rw)
{
	const struct hdr *h = header_of(im, l);
	const char *error;

	if (model.sc->kind[l] == RAW)
		return raw_top_refusal(im, l, rw);
	if (!h)
		return "no header";
	if (h->spoiled)
		return "spoiled";
	if (!rw)
		return mirror_refusal(im, h);
	error = pending_refusal(im, h);
	if (error)
		return error;
	if (h->retired && !h->pending)
		return "retired";
	return mirror_refusal(im, h);
}

/* The job record that holds for the layers below, if any. */
static const struct hdr *record_below(const struct hdr *h, const struct hdr *record)
{
	return h->job ? h : record;
}

/* Sampled: a change of the first sector shows, others don't. */
static bool fingerprint_fits(const struct image *im, int l, u8 print)
{
	const struct unit *u = &im->s->u[l][data_unit(0, 0)];

	for (int i = 0; i < u->n; i++)
		if (u->v[i] != print)
			return false;
	return true;
}

static const char *raw_refusal(const struct image *im, const struct hdr *child,
			       int l, const struct hdr *record)
{
	if (record && record->base == l + 1 && !planted(RAW_PRINT_KEPT))
		return NULL;
	return fingerprint_fits(im, l, child->parent_cid) ? NULL :
		"raw parent was modified";
}

static const char *record_refusal(const struct hdr *p, const struct hdr *record)
{
	bool old = p->cid == record->c0;
	bool new = p->cid == record->c1 && !planted(RECORD_OLD_ID_ONLY);

	if (p->spoiled && p->spoiled != record->job)
		return "parent spoiled by another job";
	if (p->uuid == record->base && !old && !new)
		return "base's id is neither c0 nor c1";
	return NULL;
}

/* Is @l the parent that @child was made on? */
static const char *link_refusal(const struct image *im, const struct hdr *child,
				int l, const struct hdr *record)
{
	const struct hdr *p;

	if (model.sc->kind[l] == RAW)
		return raw_refusal(im, child, l, record);
	p = hdr(im->hdr[l]);
	if (record && (p->uuid == record->base || record->range & BIT(p->uuid)))
		return record_refusal(p, record);
	if (p->cid != child->parent_cid)
		return "parent was modified";
	if (p->spoiled && !planted(SPOILED_WITHOUT_KEY))
		return "parent is spoiled";
	if (undecided(im, p) && !planted(GROUP_CHILD_OPENS))
		return "parent's seal is pending";
	return mirror_refusal(im, p);
}

/*
 * Open the chain whose top is @top, without help. NULL and @c, or what is
 * wrong. Layers below are found by their UUID.
 */
const char *open_chain(const struct image *im, int top, bool rw, struct chain *c)
{
	const char *error = top_refusal(im, top, rw);
	const struct hdr *record = NULL;
	int l = top;

	memset(c, 0, sizeof(*c));
	while (!error) {
		const struct hdr *h = header_of(im, l);

		c->l[c->n++] = l;
		if (!h || !h->parent)
			return NULL;
		record = record_below(h, record);
		l = find_layer(im, h->parent);
		if (l < 0 || c->n == NR_LAYERS)
			return "parent missing";
		error = link_refusal(im, h, l, record);
	}
	return error;
}

/* The one layer that opens as disk @d's top; -1: none, -2: several. */
int open_disk(const struct image *im, int d, struct chain *c)
{
	struct chain tried;
	int found = -1;

	for (int l = 0; l < NR_LAYERS; l++) {
		if (!(model.sc->tops[d] & BIT(l)) || open_chain(im, l, true, &tried))
			continue;
		if (found >= 0)
			return -2;
		found = l;
		*c = tried;
	}
	return found;
}

/* --- what is seen through a chain --- */

typedef bool (*seen_fn)(const void *expected, const u8 v[NR_SECTORS]);

static bool all_data(const struct image *im, int l, int b, seen_fn seen,
		     const void *expected)
{
	const struct unit *u = &im->s->u[l][data_unit(b, 0)];
	u8 v[NR_SECTORS];

	for (int i = 0; i < u[0].n; i++) {
		for (int j = 0; j < u[1].n; j++) {
			v[0] = u[0].v[i];
			v[1] = u[1].v[j];
			if (!seen(expected, v))
				return false;
		}
	}
	return true;
}

/* Which states the map of @l may give for @b: mask of BIT(enum block_state). */
static u8 states_of(const struct image *im, int l, int b)
{
	int m = U_MAP + map_sector_of(b);
	const struct unit *u = &im->s->u[l][m];
	u8 seed = hdr(im->hdr[l])->seed, states = 0;

	if (im->rot_layer == l && im->rot_unit == m)
		return BIT(sector_state(presence_of(im, l), SECTOR_ROTTEN, seed, b));
	for (int i = 0; i < u->n; i++)
		states |= BIT(sector_state(presence_of(im, l), u->v[i], seed, b));
	return states;
}

/*
 * A layer that a commit has marked, seen by way of that commit's record: where
 * it ends means nothing.
 */
bool is_lifted(const struct hdr *record, const struct hdr *h)
{
	return record && record->range & BIT(h->uuid) &&
	       h->spoiled == record->job && !planted(SHORT_STAYS_SHORT) &&
	       !planted(SHORT_AT_OPEN);
}

static bool lifted_at(const struct image *im, const struct chain *c, int i)
{
	const struct hdr *record = NULL;

	for (int j = 0; j < i; j++)
		if (im->hdr[c->l[j]])
			record = record_below(hdr(im->hdr[c->l[j]]), record);
	return is_lifted(record, hdr(im->hdr[c->l[i]]));
}

static bool all_views(const struct image *im, const struct chain *c, int i, int b,
		      seen_fn seen, const void *expected)
{
	static const u8 zeroes[NR_SECTORS];
	static const u8 eio[NR_SECTORS] = { EIO_READ, EIO_READ };
	const struct hdr *h;
	bool lifted;
	u8 states;
	int l;

	if (i == c->n)
		return seen(expected, zeroes);
	l = c->l[i];
	if (model.sc->kind[l] == RAW)
		return all_data(im, l, b, seen, expected);
	h = hdr(im->hdr[l]);
	lifted = lifted_at(im, c, i);
	if (i && b >= h->size && !lifted)
		return seen(expected, zeroes);
	states = states_of(im, l, b);
	if (states & BIT(DATA) && !all_data(im, l, b, seen, expected))
		return false;
	if (states & BIT(ZERO) && !seen(expected, zeroes))
		return false;
	if (states & BIT(DAMAGED) && !seen(expected, eio))
		return false;
	if (!(states & BIT(ABSENT)))
		return true;
	if (b >= h->limit && !lifted)
		return seen(expected, zeroes);
	return all_views(im, c, i + 1, b, seen, expected);
}

static bool remember(const void *expected, const u8 v[NR_SECTORS])
{
	memcpy(*(u8 *const *)expected, v, NR_SECTORS);
	return true;
}

/* The view where nothing is left to chance, as after a power cut. */
void image_block(const struct image *im, const struct chain *c, int b,
		 u8 v[NR_SECTORS])
{
	all_views(im, c, 0, b, remember, &v);
}

/* What is read while the devices are up: the last write to each unit. */
void latest_block(const struct image *im, const struct chain *c, int b,
		  u8 v[NR_SECTORS])
{
	struct state latest = *im->s;
	struct image sure = *im;

	for (int l = 0; l < NR_LAYERS; l++)
		for (int i = 0; i < NR_UNITS; i++)
			unit_set(&latest.u[l][i], unit_read(&im->s->u[l][i]));
	sure.s = &latest;
	image_block(&sure, c, b, v);
}

/* --- what the guest may expect --- */

static bool sectors_may_be(const struct history *h, int i, int j)
{
	if (planted(BLOCK_ATOMIC))
		return i == j;
	for (int k = 1; k < h->n; k++)
		if (h->op[k].whole && (i >= k) != (j >= k))
			return false;
	return true;
}

/* Each sector as at the last flush or as written since; first writes whole. */
static bool history_allows(const void *expected, const u8 v[NR_SECTORS])
{
	const struct history *h = expected;

	for (int i = 0; i < h->n; i++)
		for (int j = 0; j < h->n; j++)
			if (h->op[i].v[0] == v[0] && h->op[j].v[1] == v[1] &&
			    sectors_may_be(h, i, j))
				return true;
	snprintf(why, sizeof(why), "reads %02x %02x", v[0], v[1]);
	return false;
}

static bool is_eio(const void *expected, const u8 v[NR_SECTORS])
{
	(void)expected;
	snprintf(why, sizeof(why), "damaged block reads %02x %02x", v[0], v[1]);
	return v[0] == EIO_READ && v[1] == EIO_READ;
}

static bool allowed_or_eio(const void *expected, const u8 v[NR_SECTORS])
{
	return (v[0] == EIO_READ && v[1] == EIO_READ) || history_allows(expected, v);
}

static const char *check_disk_view(const struct image *im, const struct chain *c,
				   int d)
{
	for (int b = 0; b < NR_BLOCKS; b++) {
		const struct history *h = &im->s->d[d].h[b];
		seen_fn seen = h->eio ? is_eio : history_allows;
		size_t n;

		if (im->hdr[c->l[0]] && b >= hdr(im->hdr[c->l[0]])->size)
			continue;
		if (im->rot_layer >= 0)
			seen = allowed_or_eio;
		if (all_views(im, c, 0, b, seen, h))
			continue;
		n = strlen(why);
		snprintf(why + n, sizeof(why) - n, ": disk %d, block %d, top layer %d",
			 d, b, c->l[0]);
		return why;
	}
	return NULL;
}

/* --- nothing but what a child recorded shows under its parent's id --- */

static bool same(const void *expected, const u8 v[NR_SECTORS])
{
	snprintf(why, sizeof(why), "reads %02x %02x, not %02x %02x", v[0], v[1],
		 ((const u8 *)expected)[0], ((const u8 *)expected)[1]);
	return !memcmp(expected, v, NR_SECTORS);
}

static bool same_or_eio(const void *expected, const u8 v[NR_SECTORS])
{
	return (v[0] == EIO_READ && v[1] == EIO_READ) || same(expected, v);
}

static const struct ghost *find_ghost(const struct state *s, u8 uuid, u8 cid)
{
	for (int i = 0; i < s->nr_ghosts; i++)
		if (s->ghost[i].uuid == uuid && s->ghost[i].cid == cid)
			return &s->ghost[i];
	return NULL;
}

/* The layer at place @i of @c was reached under the id @cid. */
static const char *check_ghost(const struct image *im, const struct chain *c,
			       int i, u8 cid)
{
	const struct ghost *g = find_ghost(im->s, hdr(im->hdr[c->l[i]])->uuid, cid);

	for (int b = 0; g && b < NR_BLOCKS; b++) {
		size_t n;

		if (b >= hdr(im->hdr[c->l[i]])->size)
			continue;
		if (all_views(im, c, i, b, im->rot_layer < 0 ? same : same_or_eio,
			      g->v[b]))
			continue;
		n = strlen(why);
		snprintf(why + n, sizeof(why) - n,
			 ": layer %d under content id %d, block %d, opened at %d",
			 c->l[i], cid, b, c->l[0]);
		return why;
	}
	return NULL;
}

static const char *check_parents(const struct image *im, int top)
{
	const struct hdr *record = NULL;
	const char *error;
	struct chain c;

	if (model.sc->kind[top] != CHAIN || open_chain(im, top, false, &c))
		return NULL;
	/* Nobody is told of a content id that is not decided upon. */
	error = undecided(im, hdr(im->hdr[top])) ? NULL :
		check_ghost(im, &c, 0, hdr(im->hdr[top])->cid);
	for (int i = 1; i < c.n && !error; i++) {
		const struct hdr *h = hdr(im->hdr[c.l[i - 1]]);

		record = record_below(h, record);
		if (model.sc->kind[c.l[i]] == CHAIN && !record)
			error = check_ghost(im, &c, i, h->parent_cid);
	}
	return error;
}

/* --- a mirror that is resumed after this crash --- */

/* Collects what may be seen, to tell whether it is certain, and what it is. */
struct certainty {
	bool any, several;
	u8 v[NR_SECTORS];
};

static struct certainty certain;

static bool collect(const void *expected, const u8 v[NR_SECTORS])
{
	(void)expected;
	if (certain.any && memcmp(certain.v, v, NR_SECTORS))
		certain.several = true;
	certain.any = true;
	memcpy(certain.v, v, NR_SECTORS);
	return true;
}

/* May the change flag of @b be 0 in the map of @l after the crash? */
static bool may_be_unflagged(const struct image *im, int l, int b)
{
	const struct unit *u = &im->s->u[l][U_MAP + map_sector_of(b)];

	if (!(presence_of(im, l) & BIT(group_of(b))))
		return true;
	for (int i = 0; i < u->n; i++)
		if (!(u->v[i] & SECTOR_TRACK))
			return true;
	return false;
}

/* What the target may hold, apart from nothing: that would be copied. */
static void collect_target(const struct image *im, int l, int b)
{
	static const u8 zeroes[NR_SECTORS];
	u8 states = states_of(im, l, b);

	if (states & BIT(DATA))
		all_data(im, l, b, collect, NULL);
	if (states & BIT(ZERO))
		collect(NULL, zeroes);
}

/*
 * A resumed mirror copies what the target doesn't hold and what is flagged.
 * The rest must be equal. Source: layer 0, target: layer 1.
 */
static const char *check_resume(const struct image *im)
{
	const struct hdr *source = header_of(im, 0), *target = header_of(im, 1);
	struct chain c;

	if (!source || !target || target->mirror != INCOMPLETE ||
	    (source->track_cid != source->cid && !planted(TRACK_ANY_WRITER)) ||
	    open_chain(im, 0, true, &c))
		return NULL;
	for (int b = 0; b < NR_BLOCKS; b++) {
		memset(&certain, 0, sizeof(certain));
		collect_target(im, 1, b);
		if (!certain.any || !may_be_unflagged(im, 0, b))
			continue;
		all_views(im, &c, 0, b, collect, NULL);
		if (certain.several)
			return "a resumed mirror would leave a difference";
	}
	return NULL;
}

/* --- all images of a state --- */

static const char *none_or_several(const struct image *im, int d, int top)
{
	struct chain c;
	size_t n;

	n = snprintf(why, sizeof(why), "disk %d: %s opens:", d,
		     top == -2 ? "more than one side" : "no side");
	for (int l = 0; l < NR_LAYERS && n < sizeof(why); l++) {
		const char *error = open_chain(im, l, true, &c);

		if (model.sc->tops[d] & BIT(l))
			n += snprintf(why + n, sizeof(why) - n, " layer %d: %s;", l,
				      error ? error : "opens");
	}
	return why;
}

static bool never_there(const struct image *im, int d)
{
	return model.sc->may_be_none && !im->s->d[d].opened;
}

/* Nobody would finish it, or tell anybody to. */
static const char *check_records(const struct image *im)
{
	for (int l = 0; l < NR_LAYERS; l++) {
		const struct hdr *h = header_of(im, l);
		int base = h && h->done ? find_layer(im, h->base) : -1;

		if (base >= 0 && im->hdr[base] && hdr(im->hdr[base])->spoiled == h->job)
			return "a record is done, its base is spoiled";
	}
	return NULL;
}

static const char *check_image(const struct image *im)
{
	int top[NR_DISKS], first = -1;
	const char *error = check_records(im);
	struct chain c;

	for (int d = 0; d < model.sc->disks && !error; d++) {
		top[d] = open_disk(im, d, &c);
		if (top[d] == -1 && never_there(im, d))
			continue;
		if (top[d] < 0)
			return none_or_several(im, d, top[d]);
		error = check_disk_view(im, &c, d);
		if (d == 0)
			first = top[0];
		else if (model.sc->one_side && (top[d] & 1) != (first & 1))
			return "some disks switched, some not";
	}
	for (int l = 0; l < NR_LAYERS && !error; l++)
		error = check_parents(im, l);
	if (!error && model.sc->resume_mirror)
		error = check_resume(im);
	return error;
}

static bool slots_settled(const struct state *s)
{
	for (int l = 0; l < NR_LAYERS; l++)
		if (s->l[l].hdr_busy || s->u[l][U_SLOT0].n > 1 ||
		    s->u[l][U_SLOT1].n > 1)
			return false;
	return true;
}

/*
 * One sector that had been durable goes bad. Headers: the other slot serves,
 * and knows all that was acknowledged (not within an update). Maps: EIO.
 */
static const char *check_rot(struct image *im)
{
	const char *error = NULL;

	for (int l = 0; l < NR_LAYERS && !error; l++) {
		if (model.sc->kind[l] != CHAIN || !im->hdr[l])
			continue;
		for (int i = U_SLOT0; i < U_DATA && !error; i++) {
			if (i < U_PRESENCE && !slots_settled(im->s))
				continue;
			im->rot_layer = l;
			im->rot_unit = i;
			pick_headers(im);
			error = check_image(im);
		}
	}
	im->rot_layer = im->rot_unit = -1;
	return error;
}

static const char *check_structures(struct image *im, int at)
{
	int l = at / NR_STRUCTURE, i = at % NR_STRUCTURE;
	const char *error = NULL;
	const struct unit *u;

	if (at == NR_LAYERS * NR_STRUCTURE) {
		pick_headers(im);
		error = check_image(im);
		if (!error && model.sc->rot)
			error = check_rot(im);
		return error;
	}
	u = &im->s->u[l][i];
	for (int k = 0; k < u->n && !error; k++) {
		im->v[l][i] = u->v[k];
		error = check_structures(im, at + 1);
	}
	if (u->n > 1 && !error && (i == U_SLOT0 || i == U_SLOT1)) {
		im->v[l][i] = TORN;
		error = check_structures(im, at + 1);
	}
	return error;
}

static u64 count_images(const struct state *s)
{
	u64 n = 1;

	for (int l = 0; l < NR_LAYERS; l++)
		for (int i = 0; i < NR_UNITS; i++)
			n *= s->u[l][i].n +
			     (s->u[l][i].n > 1 && (i == U_SLOT0 || i == U_SLOT1));
	return n;
}

/* While all is well, the guest reads what it wrote last. */
static const char *check_live(const struct state *s)
{
	for (int d = 0; d < model.sc->disks; d++) {
		const struct disk *k = &s->d[d];

		for (int b = 0; k->opened && b < NR_BLOCKS; b++) {
			const struct history *h = &k->h[b];
			u8 v[NR_SECTORS];

			if (k->inflight & BIT(b))
				continue;
			live_block(s, d, b, v);
			if (h->eio ? is_eio(h, v) :
			    !memcmp(h->op[h->n - 1].v, v, NR_SECTORS))
				continue;
			snprintf(why, sizeof(why),
				 "live: disk %d, block %d reads %02x %02x", d, b,
				 v[0], v[1]);
			return why;
		}
	}
	return NULL;
}

static bool any_failed(const struct state *s)
{
	for (int l = 0; l < NR_LAYERS; l++)
		if (s->l[l].failed)
			return true;
	return false;
}

const char *check_state(const struct state *s, u64 *images)
{
	struct image im = { .s = s, .rot_layer = -1, .rot_unit = -1 };
	const char *error = any_failed(s) ? NULL : check_live(s);

	*images += count_images(s);
	return error ? error : check_structures(&im, 0);
}
