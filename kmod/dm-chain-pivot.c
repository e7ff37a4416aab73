// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pivot: disks go on in the targets of their mirrors: one, or several at one
 * instant. S: what was the top; D: the target.
 *
 * D's header is written and both sides are flushed before anything is decided, so
 * that D can fail without anybody's noticing:
 *
 *	P1 header D: prepared. It opens if S is retired by the same job
 *	P2 S and D, durable. From here on a guest's request that D fails waits
 *	P3 header S: retired, to D: the commit point. (Raw S: header D, complete)
 *	P4 those who wait hear of an error, if it is decided; else of none
 *	P5 while the disk is suspended D becomes the top
 *	P6 header D: complete
 *
 * Both sides are written, and flushed, up to P5, and from P2 on nobody hears of success
 * that one of them lacks. So whatever a flush has covered is on the side that opens
 * after a crash, and what has been read or acknowledged is there after P5.
 *
 * Several: the header of P3 of one of the disks, the decider, decides for all; it
 * has the decision, too. The others' are written before, and pending: S retired, or
 * D complete, if that decision was made. P5 is one pause. Behind P6 the others'
 * headers say so for good, and then the decision goes. Where source and target are
 * raw nothing is written: the switch in memory is all there is.
 *
 * Failure: before P3 headers of sources become again what they were, and the mirrors
 * go on. D stays prepared, which opens no more than incomplete does.
 * If it is the header of P3 that fails, only the disk knows what it says: nothing
 * more is written to any of them until they are opened again, at the side that it
 * tells. The targets have all that the guests were told of.
 *
 * Locking: as in dm-chain-switch.c; one rw_mutex at a time; m->lock for the phase.
 */
#include <linux/slab.h>

#include "dm-chain-mirror.h"

/*
 * @decider: whose record decides; NULL: none has one
 * @group: id of the set; one disk: null
 */
struct pivot {
	struct chain_member *m;
	unsigned int nr;
	struct chain_member *decider;
	struct chain_id group;
};

static bool is_raw(const struct chain_att *att)
{
	return att->layer->format == DM_CHAIN_FORMAT_RAW;
}

/* The layer whose header says where the disk is; NULL: neither has one. */
static struct chain_att *record(const struct chain_member *m)
{
	if (!is_raw(m->old))
		return m->old;
	return is_raw(m->new) ? NULL : m->new;
}

static int fail(struct chain_member *m, int error)
{
	m->error = error;
	return error;
}

/* --- Does it all fit? --- */

static int check_member(struct pivot *p, struct chain_member *m)
{
	m->old = chain_top(m->ci);
	m->new = m->ci->target;
	m->drop = (struct chain_drop){
		.n = m->job->m->shallow ? 1 : m->ci->nr,
	};
	/* Other jobs go on with layers that stay, and only with these. */
	if (chain_others_hold(m->ci, m->job->id, m->drop.n))
		return -EBUSY;
	if (record(m) && (!p->decider || m->decides))
		p->decider = m;
	return 0;
}

static int check(struct pivot *p)
{
	unsigned int i;
	int r;

	for (i = 0; i < p->nr; i++) {
		r = check_member(p, &p->m[i]);
		if (r)
			return fail(&p->m[i], r);
	}
	if (p->nr == 1 || !p->decider)
		return 0;
	/* Its place was told to the others; who has an older decision keeps it. */
	if (!p->decider->decides ||
	    !chain_id_is_null(&record(p->decider)->layer->hdr.decision))
		return fail(p->decider, -ESTALE);
	chain_random_id(&p->group);
	return 0;
}

/* --- Headers --- */

static void set_prepared(struct chain_member *m, struct chain_header *h,
			 const void *arg)
{
	h->marks &= ~DM_CHAIN_MARK_INCOMPLETE;
	h->marks |= DM_CHAIN_MARK_PREPARED;
}

static void set_complete(struct chain_member *m, struct chain_header *h,
			 const void *arg)
{
	chain_mirror_set_complete(m->job, h);
}

/*
 * What it says once the disk has moved on. A record stays until that is decided: as
 * long as the disk may go on at S its changes are tracked by it.
 */
static void set_moved(struct chain_member *m, struct chain_header *h)
{
	if (is_raw(m->old)) {
		chain_mirror_set_complete(m->job, h);
		return;
	}
	h->marks |= DM_CHAIN_MARK_RETIRED;
	h->job = m->job->uuid;
	h->sealed_by = m->new->layer->uuid;
	memcpy(h->child_path, m->job->path, sizeof(h->child_path));
}

static void set_pending(struct chain_member *m, struct chain_header *h,
			const void *arg)
{
	const struct pivot *p = arg;

	set_moved(m, h);
	chain_pending_set(h, &p->group, &record(p->decider)->layer->uuid, m->path);
}

/* Nobody has decided, and nobody will. */
static void set_not_pending(struct chain_member *m, struct chain_header *h,
			    const void *arg)
{
	chain_pending_clear(h);
	if (is_raw(m->old)) {
		chain_mirror_set_incomplete(m->job, h);
		return;
	}
	h->marks &= ~DM_CHAIN_MARK_RETIRED;
	memset(&h->sealed_by, 0, sizeof(h->sealed_by));
	if (h->marks & DM_CHAIN_MARK_JOB)
		return;
	memset(&h->job, 0, sizeof(h->job));
	memset(h->child_path, 0, sizeof(h->child_path));
}

static void set_decided(struct chain_member *m, struct chain_header *h,
			const void *arg)
{
	const struct pivot *p = arg;

	set_moved(m, h);
	chain_retired_final(h);
	if (p->nr > 1)
		h->decision = p->group;
}

static void set_committed(struct chain_member *m, struct chain_header *h,
			  const void *arg)
{
	chain_pending_commit(h);
}

static void clear_decision(struct chain_member *m, struct chain_header *h,
			   const void *arg)
{
	memset(&h->decision, 0, sizeof(h->decision));
}

/* --- P1, P2 --- */

static int prepare(struct chain_member *m)
{
	int r = chain_mirror_durable(m->job);

	if (r || is_raw(m->old) || is_raw(m->new))
		return r;
	r = chain_member_update(m, m->new, false, set_prepared, NULL);
	if (r)
		chain_mirror_lost(m->job->m, r);
	return r;
}

/* From here on nobody hears of success who could have to hear of failure. */
static int begin_to_decide(struct chain_member *m)
{
	struct chain_mirror *mirror = m->job->m;
	int r = 0;

	spin_lock_irq(&mirror->lock);
	if (chain_mirror_more(m->job))
		r = -EAGAIN;
	else
		mirror->phase = CHAIN_MIRROR_DECIDING;
	spin_unlock_irq(&mirror->lock);
	m->deciding = !r;
	return r;
}

/* What has been missed at a target until now is not decided upon. */
static int nothing_missed(struct chain_member *m)
{
	return chain_mirror_more(m->job) ? -EAGAIN : 0;
}

static int for_all(struct pivot *p, int (*fn)(struct chain_member *m))
{
	unsigned int i;
	int r;

	for (i = 0; i < p->nr; i++) {
		r = fn(&p->m[i]);
		if (r)
			return fail(&p->m[i], r);
	}
	return 0;
}

static int durable(struct chain_member *m)
{
	return chain_mirror_durable(m->job);
}

/* --- P3 --- */

static int make_pending(struct pivot *p)
{
	unsigned int i;
	int r;

	for (i = 0; i < p->nr; i++) {
		struct chain_member *m = &p->m[i];

		if (m == p->decider || !record(m))
			continue;
		m->pending = true;
		r = chain_member_update(m, record(m), false, set_pending, p);
		if (r)
			return fail(m, r);
	}
	return 0;
}

static int decide(struct pivot *p)
{
	int r = for_all(p, nothing_missed);

	if (r || !p->decider)
		return r;
	r = chain_member_update(p->decider, record(p->decider), false,
				set_decided, p);
	return r ? fail(p->decider, r) : 0;
}

/* Nobody knows what the header says. What is written of a raw S stays at S. */
static bool unknown(const struct pivot *p)
{
	return p->decider && (p->nr > 1 || !is_raw(p->decider->old)) &&
	       READ_ONCE(record(p->decider)->layer->failed);
}

static void end_phase(struct pivot *p, enum chain_mirror_phase phase)
{
	unsigned int i;

	for (i = 0; i < p->nr; i++) {
		if (p->m[i].deciding)
			chain_mirror_decide(p->m[i].job->m, phase);
		p->m[i].deciding = false;
	}
}

static int give_up(struct pivot *p)
{
	unsigned int i;

	for (i = 0; i < p->nr; i++) {
		struct chain_member *m = &p->m[i];

		WRITE_ONCE(m->ci->disk->failed, true);
		DMERR("%s: pivot is not durable: open the disk again, its copy tells if that is it",
		      m->ci->disk->name);
	}
	end_phase(p, CHAIN_MIRROR_TARGET);
	for (i = 0; i < p->nr; i++)
		chain_mirror_lost(p->m[i].job->m, -EIO);
	return -EIO;
}

/* Who can't be made what it was has failed, and opens so when it is opened. */
static void undo(struct pivot *p)
{
	unsigned int i;

	for (i = 0; i < p->nr; i++) {
		struct chain_member *m = &p->m[i];

		if (m->pending && !READ_ONCE(record(m)->layer->failed))
			chain_member_update(m, record(m), false,
					    set_not_pending, NULL);
		m->pending = false;
	}
	end_phase(p, CHAIN_MIRROR_SOURCE);
}

static int commit(struct pivot *p)
{
	int r = for_all(p, begin_to_decide);

	if (!r)
		r = for_all(p, durable);
	if (!r)
		r = make_pending(p);
	if (!r) {
		r = decide(p);
		if (r && unknown(p))
			return give_up(p);
	}
	if (r)
		undo(p);
	else
		end_phase(p, CHAIN_MIRROR_TARGET);
	return r;
}

/* --- P5 --- */

/* Suspended: the target takes the place of the source. */
static void move_on(struct chain_member *m)
{
	struct chain_inst *ci = m->ci;

	m->job->installed = false;
	m->job->unbound = true;
	ci->disk->mirror = NULL;
	chain_drop_now(ci, &m->drop);
	memmove(ci->order + 1, ci->order, ci->nr * sizeof(*ci->order));
	ci->order[0] = m->new;
	ci->nr++;
	ci->target = NULL;
	WRITE_ONCE(m->old->access[CHAIN_GUEST], DM_CHAIN_ACCESS_NONE);
	chain_use_change(ci->disk, m->old, DM_CHAIN_OPROLE_GUEST_THROUGH);
	WRITE_ONCE(m->new->access[CHAIN_GUEST], DM_CHAIN_ACCESS_RW);
	WRITE_ONCE(m->new->access[CHAIN_JOB], DM_CHAIN_ACCESS_RO);
	m->new->word = CHAIN_WORD_RW;
	chain_use_change(ci->disk, m->new, DM_CHAIN_OPROLE_GUEST_ACTIVE);
}

static void move_all(void *arg)
{
	struct pivot *p = arg;
	unsigned int i;

	for (i = 0; i < p->nr; i++)
		move_on(&p->m[i]);
}

static void switch_all(struct pivot *p)
{
	unsigned int i;

	for (i = 0; i < p->nr; i++)
		chain_drop_prepare(p->m[i].ci, &p->m[i].drop);
	chain_change_all(p->m, p->nr, move_all, p);
	for (i = 0; i < p->nr; i++)
		chain_drop_done(&p->m[i].drop);
}

/* --- P6, and what is left to write --- */

static int finish_member(struct chain_member *m)
{
	int r = 0;

	if (!is_raw(m->old) && !is_raw(m->new))
		r = chain_member_update(m, m->new, false, set_complete, NULL);
	if (!r && m->pending)
		r = chain_member_update(m, record(m), false, set_committed, NULL);
	return r;
}

/* The decision stays until all know. */
static int finish(struct pivot *p)
{
	unsigned int i;
	int r, first = 0;

	for (i = 0; i < p->nr; i++) {
		r = finish_member(&p->m[i]);
		if (!r)
			continue;
		fail(&p->m[i], r);
		first = first ?: r;
		DMWARN("%s: moved on, a header lacks it (%d): keep its old layers until reopened",
		       p->m[i].ci->disk->name, r);
	}
	if (!first && p->nr > 1 && p->decider)
		chain_member_update(p->decider, record(p->decider), false,
				    clear_decision, NULL);
	return first;
}

int chain_mirror_pivot(struct chain_member *m, unsigned int nr)
{
	struct pivot p = { .m = m, .nr = nr };
	int r = check(&p);

	if (!r)
		r = for_all(&p, prepare);
	if (!r)
		r = commit(&p);
	if (r)
		return r;
	switch_all(&p);
	return finish(&p);
}
