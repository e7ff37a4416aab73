// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who holds which layer, and who is in whose way.
 *
 * Owns: the uses and grants on the list of each layer. A use is what the
 * tables of one disk have, by row of the permission matrix; a grant is what a
 * token, or an operation under way, holds on top of that. Both meet on the
 * layer, whichever disk they belong to, so that the answer depends neither on
 * the path nor on who came first.
 *
 * The tables of one disk are one holder. Where a job of the disk changes a
 * lower layer, the disk reads it by way of the job ("through").
 *
 * Locking: registry_mutex for everything here; no I/O and nothing that waits
 * for I/O. A grant keeps no layer: its disk's tables do. They can't lose the
 * layer, as a table without it is refused (chain_drops_held()), and nobody
 * gets a grant while another table is loaded. When the last table of the disk
 * goes, the grants go first.
 *
 * Failure: asking changes nothing; all layers of an operation are granted in
 * one critical section, or none.
 */
#include <linux/slab.h>

#include "dm-chain.h"
#include "trace.h"

struct chain_use *chain_find_use(const struct chain_layer *l,
				 const struct chain_disk *disk)
{
	struct chain_use *u;

	lockdep_assert_held(&chain_registry_mutex);
	list_for_each_entry(u, &l->uses, list)
		if (u->disk == disk)
			return u;
	return NULL;
}

unsigned int chain_layer_users(const struct chain_layer *l)
{
	const struct chain_use *u;
	unsigned int n = 0;

	lockdep_assert_held(&chain_registry_mutex);
	list_for_each_entry(u, &l->uses, list)
		n++;
	return n;
}

/* --- Who is in the way --- */

static void describe(struct dm_chain_holder *out, const struct chain_layer *l,
		     u32 row, const struct chain_disk *disk, u64 id)
{
	const struct chain_perm_rule *rule = chain_perm_rule(row);

	memset(out, 0, sizeof(*out));
	memcpy(out->uuid, l->uuid.b, sizeof(out->uuid));
	out->major = MAJOR(l->place[0].devt);
	out->minor = MINOR(l->place[0].devt);
	out->row = row;
	out->op = rule->op;
	out->require = rule->require;
	out->allow = rule->allow;
	out->id = id;
	out->disk_major = MAJOR(disk->devt);
	out->disk_minor = MINOR(disk->devt);
	strscpy(out->disk, disk->name, sizeof(out->disk));
}

static bool clash(const struct chain_layer *l, u32 held, u32 want,
		  const struct chain_disk *disk, u64 id,
		  struct dm_chain_conflict *c)
{
	struct chain_perm_clash clash = chain_perm_rows_conflict(held, want);
	u32 bits = clash.wanted ?: clash.held;

	if (!bits)
		return false;
	describe(&c->holder, l, held, disk, id);
	c->row = want;
	c->perm = bits & -bits;
	c->direction = clash.wanted ? DM_CHAIN_CONFLICT_WANTED :
				      DM_CHAIN_CONFLICT_HELD;
	return true;
}

/* A disk reads a lower layer that its own job changes by way of that job. */
static u32 lower_or_through(u32 row, u32 job)
{
	return row == DM_CHAIN_OPROLE_GUEST_LOWER && chain_perm_through(job) ?
	       DM_CHAIN_OPROLE_GUEST_THROUGH : row;
}

/*
 * What a table's row amounts to: until it is taken back, a layer whose job has
 * gone is read like any other.
 */
static u32 table_row(const struct chain_layer *l, const struct chain_disk *disk,
		     u32 row)
{
	const struct chain_grant *g;

	if (row != DM_CHAIN_OPROLE_GUEST_THROUGH)
		return row;
	list_for_each_entry(g, &l->grants, list)
		if (g->holder->disk == disk && chain_perm_through(g->row))
			return row;
	return DM_CHAIN_OPROLE_GUEST_LOWER;
}

/* Is what @disk wants, by a token @own or by a table, in the way of a use? */
static bool use_refuses(const struct chain_layer *l, const struct chain_use *u,
			const struct chain_disk *disk, u32 want, bool own_token,
			struct dm_chain_conflict *c)
{
	u32 row, held;

	if (u->disk == disk && !own_token)
		return false;
	for (row = 1; row < CHAIN_USE_ROWS; row++) {
		if (!u->nr[row])
			continue;
		held = table_row(l, u->disk, row);
		if (u->disk == disk)
			held = lower_or_through(held, want);
		if (clash(l, held, want, u->disk, 0, c))
			return true;
	}
	return false;
}

static bool grant_refuses(const struct chain_grant *g,
			  const struct chain_disk *disk, u32 want,
			  bool own_token, struct dm_chain_conflict *c)
{
	if (g->holder->disk == disk && !own_token)
		want = lower_or_through(want, g->row);
	return clash(g->layer, g->row, want, g->holder->disk, g->holder->id, c);
}

static bool any_refuses(const struct chain_layer *l, const struct chain_disk *disk,
			u32 want, bool own_token, struct dm_chain_conflict *c)
{
	const struct chain_grant *g;
	const struct chain_use *u;

	list_for_each_entry(u, &l->uses, list)
		if (use_refuses(l, u, disk, want, own_token, c))
			return true;
	list_for_each_entry(g, &l->grants, list)
		if (grant_refuses(g, disk, want, own_token, c))
			return true;
	return false;
}

static bool refused(const struct chain_layer *l, const struct chain_disk *disk,
		    u32 want, bool own_token, struct dm_chain_conflict *c)
{
	if (!any_refuses(l, disk, want, own_token, c))
		return false;
	trace_dm_chain_refused(disk->devt, c);
	return true;
}

/* --- Tables --- */

int chain_use_add(struct chain_layer *l, struct chain_disk *disk,
		  const struct chain_att *att, struct chain_use *spare)
{
	struct chain_use *u = chain_find_use(l, disk);
	struct dm_chain_conflict c;

	if (refused(l, disk, table_row(l, disk, att->row), false, &c)) {
		DMERR("%s: layer on %u:%u is held by %s (%s %s): %s is in the way",
		      disk->name, c.holder.major, c.holder.minor, c.holder.disk,
		      chain_perm_op_name(c.holder.op),
		      chain_perm_rule(c.holder.row)->role,
		      chain_perm_name(c.perm));
		return -EBUSY;
	}
	if (!u) {
		u = spare;
		u->disk = disk;
		memset(u->nr, 0, sizeof(u->nr));
		list_add(&u->list, &l->uses);
	}
	u->nr[att->row]++;
	return 0;
}

void chain_use_drop(struct chain_layer *l, struct chain_disk *disk,
		    const struct chain_att *att)
{
	struct chain_use *u = chain_find_use(l, disk);

	u->nr[att->row]--;
	if (memchr_inv(u->nr, 0, sizeof(u->nr)))
		return;
	list_del(&u->list);
	kfree(u);
}

void chain_use_change(struct chain_disk *disk, struct chain_att *att, u8 row)
{
	struct chain_use *u = chain_find_use(att->layer, disk);

	u->nr[att->row]--;
	u->nr[row]++;
	att->row = row;
}

/* --- Tokens and operations --- */

static bool has_token(const struct chain_layer *l,
		      const struct chain_disk *disk, bool (*fits)(u32 row))
{
	const struct chain_grant *g;

	lockdep_assert_held(&chain_registry_mutex);
	list_for_each_entry(g, &l->grants, list)
		if (g->holder->disk == disk && g->holder->id && fits(g->row))
			return true;
	return false;
}

bool chain_written_by_job(const struct chain_layer *l,
			  const struct chain_disk *disk)
{
	return has_token(l, disk, chain_perm_writes);
}

static bool copies(u32 row)
{
	return row == DM_CHAIN_OPROLE_COPY_LAYER_LAYER;
}

bool chain_copied_by_token(const struct chain_layer *l,
			   const struct chain_disk *disk)
{
	return has_token(l, disk, copies);
}

u8 chain_job_access(const struct chain_layer *l, const struct chain_disk *disk)
{
	return has_token(l, disk, chain_perm_places) ? DM_CHAIN_ACCESS_RW :
						       DM_CHAIN_ACCESS_RO;
}

bool chain_back_is_due(const struct chain_disk *disk,
		       const struct chain_att *att)
{
	return att->row == DM_CHAIN_OPROLE_GUEST_THROUGH && att->layer &&
	       !chain_written_by_job(att->layer, disk);
}

static bool any_back_due(const struct chain_inst *ci)
{
	unsigned int i;

	for (i = 0; i < ci->nr_atts; i++)
		if (chain_back_is_due(ci->disk, &ci->atts[i]))
			return true;
	return false;
}

static int may_hold(const struct chain_inst *ci, const u32 *rows,
		    struct dm_chain_conflict *c)
{
	unsigned int i;

	for (i = 0; i < ci->nr; i++) {
		if (!rows[i] ||
		    !refused(ci->order[i]->layer, ci->disk, rows[i], true, c))
			continue;
		c->depth = i;
		return -EBUSY;
	}
	return 0;
}

static void grant(struct chain_inst *ci, const u32 *rows,
		  struct chain_holder *h)
{
	unsigned int i;

	h->disk = ci->disk;
	h->nr = 0;
	list_add_tail(&h->list, &ci->disk->holders);
	for (i = 0; i < ci->nr; i++) {
		struct chain_grant *g = &h->grants[h->nr];

		if (!rows[i])
			continue;
		g->layer = ci->order[i]->layer;
		g->holder = h;
		g->row = rows[i];
		list_add_tail(&g->list, &g->layer->grants);
		h->nr++;
	}
}

/* What the gates allow jobs follows what they hold, in all tables of the disk. */
static void set_gates(struct chain_disk *disk)
{
	struct chain_inst *ci;
	unsigned int i;

	list_for_each_entry(ci, &disk->insts, list) {
		for (i = 0; i < ci->nr_atts; i++) {
			struct chain_att *att = &ci->atts[i];

			if (att->layer && (att->row == DM_CHAIN_OPROLE_GUEST_THROUGH ||
					   att->row == DM_CHAIN_OPROLE_GUEST_ACTIVE))
				WRITE_ONCE(att->access[CHAIN_JOB],
					   chain_job_access(att->layer, disk));
		}
	}
}

int chain_hold(struct chain_inst *ci, const u32 *rows, struct chain_holder *h,
	       struct dm_chain_conflict *c)
{
	int r;

	memset(c, 0, sizeof(*c));
	mutex_lock(&chain_registry_mutex);
	/* If the table goes, chain_holders_gone() has been here already. */
	r = ci->disk->live == ci ? may_hold(ci, rows, c) : -ENODEV;
	/* What has been loaded was checked against the holders of its time. */
	if (!r && !list_is_singular(&ci->disk->insts))
		r = -EBUSY;
	/*
	 * First what the job before had: else that would be taken from us. And
	 * what changes the disk just now has looked at who holds what.
	 */
	if (!r && h && h->id && (ci->disk->switching || any_back_due(ci)))
		r = -EAGAIN;
	if (!r && h) {
		grant(ci, rows, h);
		set_gates(ci->disk);
	}
	mutex_unlock(&chain_registry_mutex);
	return r;
}

static void drop_grants(struct chain_holder *h)
{
	unsigned int i;

	for (i = 0; i < h->nr; i++)
		list_del(&h->grants[i].list);
	h->nr = 0;
	list_del(&h->list);
	h->disk = NULL;
}

/* Is there a layer that was rw for a job which has gone? */
static bool any_due(const struct chain_disk *disk)
{
	struct chain_inst *ci;

	list_for_each_entry(ci, &disk->insts, list)
		if (any_back_due(ci))
			return true;
	return false;
}

void chain_release(struct chain_holder *h)
{
	struct chain_disk *disk;

	mutex_lock(&chain_registry_mutex);
	disk = h->disk;
	if (disk) {
		drop_grants(h);
		/* No reload is needed for that. */
		set_gates(disk);
		/* Here, where the disk is known to be there. */
		if (any_due(disk))
			chain_disk_take_back(disk);
	}
	mutex_unlock(&chain_registry_mutex);
}

void chain_holders_gone(struct chain_disk *disk)
{
	struct chain_holder *h, *next;

	lockdep_assert_held(&chain_registry_mutex);
	list_for_each_entry_safe(h, next, &disk->holders, list) {
		drop_grants(h);
		if (h->gone)
			h->gone(h);
	}
}

static bool has_layer(const struct chain_inst *ci, const struct chain_layer *l)
{
	unsigned int i;

	for (i = 0; i < ci->nr; i++)
		if (ci->order[i]->layer == l)
			return true;
	return false;
}

bool chain_others_hold(const struct chain_inst *ci, u64 id, unsigned int n)
{
	const struct chain_grant *g;
	bool held = false;
	unsigned int i;

	mutex_lock(&chain_registry_mutex);
	for (i = 0; i < n; i++)
		list_for_each_entry(g, &ci->order[i]->layer->grants, list)
			held |= g->holder->disk == ci->disk && g->holder->id &&
				g->holder->id != id;
	mutex_unlock(&chain_registry_mutex);
	return held;
}

bool chain_drops_held(const struct chain_inst *ci)
{
	const struct chain_holder *h;
	unsigned int i;
	bool drops = false;

	mutex_lock(&chain_registry_mutex);
	list_for_each_entry(h, &ci->disk->holders, list)
		for (i = 0; i < h->nr; i++)
			drops |= !has_layer(ci, h->grants[i].layer);
	mutex_unlock(&chain_registry_mutex);
	return drops;
}

static bool has_through(const struct chain_inst *ci, const struct chain_layer *l)
{
	unsigned int i;

	for (i = 0; i < ci->nr_atts; i++)
		if (ci->atts[i].layer == l)
			return ci->atts[i].row == DM_CHAIN_OPROLE_GUEST_THROUGH;
	return false;
}

bool chain_makes_ro(const struct chain_inst *ci)
{
	const struct chain_inst *live;
	const struct chain_holder *h;
	unsigned int i;
	bool ro = false;

	mutex_lock(&chain_registry_mutex);
	live = ci->disk->live;
	list_for_each_entry(h, &ci->disk->holders, list)
		for (i = 0; live && h->begun && i < h->nr; i++)
			ro |= chain_perm_writes(h->grants[i].row) &&
			      has_through(live, h->grants[i].layer) &&
			      !has_through(ci, h->grants[i].layer);
	mutex_unlock(&chain_registry_mutex);
	return ro;
}

/* --- Answers --- */

/* A row of the disk's own, as it stands beside the disk's jobs. */
static u32 shown_row(const struct chain_layer *l, const struct chain_disk *disk,
		     u32 row)
{
	const struct chain_grant *g;

	row = table_row(l, disk, row);
	list_for_each_entry(g, &l->grants, list)
		if (g->holder->disk == disk)
			row = lower_or_through(row, g->row);
	return row;
}

static void found(struct chain_holders_out *out, const struct chain_layer *l, u32 row,
		  const struct chain_disk *disk, u64 id)
{
	const struct chain_perm_rule *rule = chain_perm_rule(row);

	if ((out->require || out->allow) && !(rule->require & out->require) &&
	    !(out->allow & ~rule->allow))
		return;
	if (out->nr < out->room)
		describe(&out->list[out->nr], l, row, disk, id);
	out->nr++;
}

void chain_holders_fill(const struct chain_layer *l, struct chain_holders_out *out)
{
	const struct chain_grant *g;
	const struct chain_use *u;
	u32 row;

	lockdep_assert_held(&chain_registry_mutex);
	list_for_each_entry(u, &l->uses, list)
		for (row = 1; row < CHAIN_USE_ROWS; row++)
			if (u->nr[row])
				found(out, l, shown_row(l, u->disk, row), u->disk, 0);
	list_for_each_entry(g, &l->grants, list)
		found(out, l, g->row, g->holder->disk, g->holder->id);
}

void chain_holder_name(struct dm_chain_holder *h)
{
	struct mapped_device *md = dm_get_md(MKDEV(h->disk_major, h->disk_minor));

	BUILD_BUG_ON(sizeof(h->disk) < DM_NAME_LEN);
	if (!md)
		return;
	dm_copy_name_and_uuid(md, h->disk, NULL);
	dm_put(md);
}
