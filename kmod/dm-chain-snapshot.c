// SPDX-License-Identifier: GPL-2.0-only
/*
 * Snapshot: the tops of one or several disks are frozen at one instant.
 *
 * One disk, crash order: writes go to the new top from the switch on; its
 * rounds are held, so that no flush that arrives after the switch completes.
 * Then a round of the old top and its header {sealed, the content id that the
 * new top expects}: the commit point. Only then are the rounds released. A cut
 * before opens the old top with all that any flush has covered; the new top is
 * then refused, as its parent was not sealed for it. A raw old top carries no
 * marks: there the new top's link, with the fingerprint of the frozen layer,
 * is the commit record.
 *
 * Several: the old top of one of them, the coordinator, decides for all.
 *
 *	1 headers of the other old tops: pending, with the content ids that the
 *	  new tops expect. This decides nothing, and the guests write on.
 *	2 the switch in memory, all disks suspended
 *	3 a round of each old top; on a raw one, the header of the new top: the
 *	  fingerprint, and pending
 *	4 header of the coordinator: sealed, and the decision: the commit point;
 *	  the rounds are released
 *	5 headers: no longer pending
 *	6 header of the coordinator: without the decision
 *
 * What can be done before the pause is: so a failure of 1 is undone with the old
 * tops running on, and flushes wait for 3 and 4 only. A cut before 4 leaves
 * layers pending that nobody has decided upon: they get a new content id before
 * they are written again. Where all old tops are raw, or have an old decision in
 * their headers, a new top is the coordinator.
 *
 * Failure after the switch: the old tops could not be made durable. The disks
 * can't go back without losing what was acknowledged, so they stay as they are,
 * and refuse flushes and writes until they are opened again, at their old tops.
 * If it was 4 that failed, only the disk knows which: it says the same to all.
 * A failure of 5 undoes nothing: the decision stays for who opens the layer.
 *
 * Locking: as in dm-chain-switch.c; one rw_mutex at a time.
 */
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "dm-chain.h"

/*
 * @decider: whose old or new top is the coordinator
 * @att: that one
 * @group: id; one disk: null
 */
struct snapshot {
	struct chain_member *m;
	unsigned int nr;
	struct chain_member *decider;
	struct chain_att *att;
	struct chain_id group;
};

static bool is_raw(const struct chain_member *m)
{
	return m->old->layer->format == DM_CHAIN_FORMAT_RAW;
}

/* The layer whose header says what became of the disk. */
static struct chain_att *record(const struct chain_member *m)
{
	return is_raw(m) ? m->new : m->old;
}

static int fail(struct chain_member *m, int error)
{
	m->error = error;
	return error;
}

/* --- Does it all fit? --- */

static int check_member(struct chain_member *m)
{
	const struct chain_layer *top = chain_top(m->ci)->layer, *next;
	int r = chain_check_writable(m->ci);

	if (r)
		return r;
	if (!m->ci->next)
		return -ENXIO;
	if (m->ci->nr >= DM_CHAIN_MAX_LAYERS)
		return -EMLINK;
	/* The top may be another one, or larger, since the table was loaded. */
	if (chain_next_unfit(m->ci))
		return -ESTALE;
	/* cid: the old top must get a new one, not keep what it has. */
	next = m->ci->next->layer;
	if (top->format == DM_CHAIN_FORMAT_CHAIN &&
	    (chain_id_equal(&next->hdr.parent.cid, &top->hdr.cid) ||
	     chain_id_is_null(&next->hdr.parent.cid)))
		return -ESTALE;
	return 0;
}

/* Does the coordinator's name fit one of the disk's two layers? */
static struct chain_att *decides(const struct chain_member *m,
				 const struct chain_id *coordinator)
{
	if (!is_raw(m) && chain_id_equal(&m->old->layer->uuid, coordinator))
		return m->old;
	return chain_id_equal(&m->new->layer->uuid, coordinator) ? m->new : NULL;
}

/* All were prepared for one set, and one of them decides. */
static int check_set(struct snapshot *s)
{
	const struct chain_header *first = &s->m->new->layer->hdr;
	unsigned int i;

	if (chain_id_is_null(&first->group))
		return fail(s->m, -ESTALE);
	s->group = first->group;
	for (i = 0; i < s->nr; i++) {
		struct chain_member *m = &s->m[i];
		const struct chain_header *h = &m->new->layer->hdr;
		struct chain_att *att = decides(m, &first->coordinator);

		if (!chain_id_equal(&h->group, &first->group) ||
		    !chain_id_equal(&h->coordinator, &first->coordinator))
			return fail(m, -ESTALE);
		if (!att)
			continue;
		s->decider = m;
		s->att = att;
	}
	/* Others may have to be told of an older one still. */
	if (!s->att || !chain_id_is_null(&s->att->layer->hdr.decision))
		return fail(s->m, -ESTALE);
	return 0;
}

static int check(struct snapshot *s)
{
	unsigned int i;
	int r;

	for (i = 0; i < s->nr; i++) {
		r = check_member(&s->m[i]);
		if (r)
			return fail(&s->m[i], r);
		s->m[i].old = chain_top(s->m[i].ci);
		s->m[i].new = s->m[i].ci->next;
	}
	if (s->nr > 1)
		return check_set(s);
	s->decider = s->m;
	s->att = record(s->m);
	return 0;
}

/* --- Headers --- */

/* Has the frozen layer a job that goes on writing it, as a stream does? */
static bool goes_on(const struct chain_disk *disk, const struct chain_att *att)
{
	bool yes;

	mutex_lock(&chain_registry_mutex);
	yes = chain_written_by_job(att->layer, disk);
	mutex_unlock(&chain_registry_mutex);
	return yes;
}

static void seal(struct chain_header *h, const struct chain_header *child,
		 bool in_use)
{
	h->marks |= DM_CHAIN_MARK_SEALED;
	h->sealed_by = child->uuid;
	memcpy(h->child_path, child->child_path, sizeof(h->child_path));
	h->cid = child->parent.cid;
	chain_drop_mirror(h);
	if (in_use)
		return;
	h->marks &= ~DM_CHAIN_MARK_IN_USE;
	memset(&h->use_host, 0, sizeof(h->use_host));
	memset(&h->use_boot, 0, sizeof(h->use_boot));
}

static void set_pending(struct chain_member *m, struct chain_header *h,
			const void *arg)
{
	const struct chain_header *new = &m->new->layer->hdr;

	h->cid = new->parent.cid;
	h->sealed_by = new->uuid;
	memcpy(h->child_path, new->child_path, sizeof(h->child_path));
	chain_pending_set(h, &new->group, &new->coordinator,
			  new->coordinator_path);
}

static void abort_pending(struct chain_member *m, struct chain_header *h,
			  const void *arg)
{
	struct chain_id cid;

	chain_random_id(&cid);
	chain_pending_abort(h, &cid);
}

static void set_raw_link(struct chain_member *m, struct chain_header *h)
{
	h->parent.cid = m->fp;
	h->parent.size = (u64)m->old->layer->size << SECTOR_SHIFT;
}

static void set_raw_pending(struct chain_member *m, struct chain_header *h,
			    const void *arg)
{
	set_raw_link(m, h);
	chain_pending_set(h, &h->group, &h->coordinator, h->coordinator_path);
}

static void clear_decision(struct chain_member *m, struct chain_header *h,
			   const void *arg)
{
	memset(&h->decision, 0, sizeof(h->decision));
}

/* --- 1: pending --- */

/* Who can't be made what it was has failed, and opens so when it is opened. */
static void undo_pending(struct snapshot *s)
{
	unsigned int i;

	for (i = 0; i < s->nr; i++) {
		struct chain_member *m = &s->m[i];

		if (m->pending && !READ_ONCE(m->old->layer->failed))
			chain_member_update(m, m->old, false, abort_pending, NULL);
		m->pending = false;
	}
}

static int make_pending(struct snapshot *s)
{
	unsigned int i;
	int r;

	for (i = 0; i < s->nr; i++) {
		struct chain_member *m = &s->m[i];

		if (m->old == s->att || is_raw(m))
			continue;
		m->pending = true;
		r = chain_member_update(m, m->old, false, set_pending, NULL);
		if (r)
			return fail(m, r);
	}
	return 0;
}

/* What is on its way has less to wait for in the pause, and behind it. */
static int sync_ahead(struct snapshot *s)
{
	unsigned int i;
	int r;

	for (i = 0; i < s->nr; i++) {
		r = s->m[i].old->layer->meta ?
		    chain_meta_sync(s->m[i].old->layer) : 0;
		if (r)
			return fail(&s->m[i], r);
	}
	return 0;
}

/* --- 2: the switch --- */

/* Suspended: the layer in role next becomes the top. */
static void push_top(struct chain_inst *ci)
{
	struct chain_att *old = chain_top(ci);

	lockdep_assert_held(&chain_registry_mutex);
	memmove(ci->order + 1, ci->order, ci->nr * sizeof(*ci->order));
	ci->order[0] = ci->next;
	ci->nr++;
	ci->next->word = CHAIN_WORD_RW;
	WRITE_ONCE(ci->next->access[CHAIN_GUEST], DM_CHAIN_ACCESS_RW);
	WRITE_ONCE(ci->next->access[CHAIN_JOB], DM_CHAIN_ACCESS_RO);
	chain_use_change(ci->disk, ci->next, DM_CHAIN_OPROLE_GUEST_ACTIVE);
	/* To be frozen: its map still has to be written. */
	WRITE_ONCE(old->access[CHAIN_GUEST], DM_CHAIN_ACCESS_RO);
	old->word = CHAIN_WORD_RO;
	ci->next = NULL;
	ci->disk->unmerged++;
}

static void push_tops(void *arg)
{
	struct snapshot *s = arg;
	unsigned int i;

	for (i = 0; i < s->nr; i++)
		push_top(s->m[i].ci);
}

static void switch_tops(struct snapshot *s)
{
	unsigned int i;

	for (i = 0; i < s->nr; i++)
		chain_meta_hold(s->m[i].new->layer);
	chain_change_all(s->m, s->nr, push_tops, s);
}

/* --- 3 and 4: the commit --- */

static int sync_old(struct snapshot *s, struct chain_member *m)
{
	int r;

	if (!is_raw(m))
		return chain_meta_sync(m->old->layer);
	r = chain_flush_dev(m->old);
	if (!r)
		r = chain_raw_fingerprint(m->old, &m->fp);
	if (r || m->new == s->att)
		return r;
	return chain_member_update(m, m->new, false, set_raw_pending, NULL);
}

static int sync_olds(struct snapshot *s)
{
	unsigned int i;
	int r;

	for (i = 0; i < s->nr; i++) {
		r = sync_old(s, &s->m[i]);
		if (r)
			return fail(&s->m[i], -EIO);
	}
	return 0;
}

/* One disk: what is frozen says so. Several: and it decides for all. */
static void set_decision(struct chain_member *m, struct chain_header *h,
			 const void *arg)
{
	const struct snapshot *s = arg;

	if (s->att == m->old)
		seal(h, &m->new->layer->hdr, goes_on(m->ci->disk, m->old));
	else if (is_raw(m))
		set_raw_link(m, h);
	if (s->nr > 1)
		h->decision = s->group;
}

static int decide(struct snapshot *s)
{
	int r = chain_member_update(s->decider, s->att, true, set_decision, s);

	return r ? fail(s->decider, -EIO) : 0;
}

static void release_new(struct snapshot *s, bool failed)
{
	unsigned int i;

	for (i = 0; i < s->nr; i++)
		chain_meta_release(s->m[i].new->layer, failed);
}

static int give_up(struct snapshot *s, int r)
{
	unsigned int i;

	for (i = 0; i < s->nr; i++)
		WRITE_ONCE(s->m[i].ci->disk->failed, true);
	release_new(s, true);
	for (i = 0; i < s->nr; i++)
		DMERR("%s: snapshot is not durable (%d): open the disk again at its old top",
		      s->m[i].ci->disk->name, r);
	return r;
}

static int commit(struct snapshot *s)
{
	int r = sync_olds(s);

	if (r) {
		undo_pending(s);
		return give_up(s, r);
	}
	/* Of a header that could not be written nobody knows what it says. */
	r = decide(s);
	if (r)
		return give_up(s, r);
	release_new(s, false);
	return 0;
}

/* --- 5 and 6: what is left to write --- */

static void finish_header(struct chain_member *m, struct chain_header *h,
			  const void *arg)
{
	if (!is_raw(m))
		seal(h, &m->new->layer->hdr, goes_on(m->ci->disk, m->old));
	chain_pending_commit(h);
}

static int finish_member(struct snapshot *s, struct chain_member *m)
{
	if (record(m) == s->att)
		return 0;
	return chain_member_update(m, record(m), false, finish_header, NULL);
}

static int update_rest(struct chain_att *att)
{
	int r;

	mutex_lock(&att->layer->rw_mutex);
	r = chain_layer_update_rest(att);
	mutex_unlock(&att->layer->rw_mutex);
	return r;
}

/* The decision stays until all know. */
static void finish(struct snapshot *s)
{
	bool all = !update_rest(s->att);
	unsigned int i;

	if (s->nr == 1)
		return;
	for (i = 0; i < s->nr; i++) {
		if (!finish_member(s, &s->m[i]))
			continue;
		all = false;
		DMWARN("%s: snapshot made, a header is not: keep layer %pUb until it is reopened",
		       s->m[i].ci->disk->name, s->att->layer->uuid.b);
	}
	if (all)
		chain_member_update(s->decider, s->att, false, clear_decision, NULL);
}

/*
 * Its job may have gone since the seal: then the layer is taken back as any
 * other that a job could write, and its in-use mark goes with that.
 */
static void freeze(struct chain_disk *disk, struct chain_att *old)
{
	struct chain_layer *l = old->layer;
	bool in_use = l->format == DM_CHAIN_FORMAT_CHAIN &&
		      l->hdr.marks & DM_CHAIN_MARK_IN_USE;

	mutex_lock(&l->rw_mutex);
	if (!in_use)
		chain_meta_destroy(l);
	mutex_lock(&chain_registry_mutex);
	if (in_use) {
		chain_use_change(disk, old, DM_CHAIN_OPROLE_GUEST_THROUGH);
		old->word = CHAIN_WORD_RW;
		if (chain_back_is_due(disk, old))
			chain_disk_take_back(disk);
	} else {
		chain_use_change(disk, old, DM_CHAIN_OPROLE_GUEST_LOWER);
		WRITE_ONCE(old->access[CHAIN_META], DM_CHAIN_ACCESS_RO);
		WRITE_ONCE(old->access[CHAIN_JOB], DM_CHAIN_ACCESS_RO);
	}
	mutex_unlock(&chain_registry_mutex);
	mutex_unlock(&l->rw_mutex);
}

static void freeze_all(struct snapshot *s)
{
	unsigned int i;

	for (i = 0; i < s->nr; i++)
		freeze(s->m[i].ci->disk, s->m[i].old);
}

/* --- All of it --- */

static int take(struct snapshot *s)
{
	int r = make_pending(s);

	if (!r)
		r = sync_ahead(s);
	if (r) {
		undo_pending(s);
		return r;
	}
	switch_tops(s);
	r = commit(s);
	if (r)
		return r;
	finish(s);
	freeze_all(s);
	return 0;
}

int chain_snapshot(struct chain_member *m, unsigned int nr)
{
	struct snapshot s = { .m = m, .nr = nr };
	unsigned int noio;
	int r = check(&s);

	if (r)
		return r;
	/* Reclaim might wait for a flush that waits for us. */
	noio = memalloc_noio_save();
	r = take(&s);
	memalloc_noio_restore(noio);
	return r;
}
