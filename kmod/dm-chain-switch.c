// SPDX-License-Identifier: GPL-2.0-only
/*
 * Switches: what changes a running disk at one instant.
 *
 * A switch opens and closes nothing: what it needs was attached by a reload
 * before. The disk is suspended from inside the kernel, pointers change, it is
 * resumed: nothing in between waits for I/O of other devices, allocates, or
 * can fail, and no signal ends it half way.
 *
 * Snapshot, crash order: writes go to the new top from the switch on; its
 * rounds are held, so that no flush that arrives after the switch completes.
 * Then a round of the old top and its header {sealed, the content id that the
 * new top expects}: the commit point. Only then are the rounds released. A cut
 * before opens the old top with all that any flush has covered; the new top is
 * then refused, as its parent was not sealed for it. A raw old top carries no
 * marks: there the new top's link, with the fingerprint of the frozen layer,
 * is the commit record.
 *
 * Failure after the switch: the old top could not be made durable. The disk
 * can't go back without losing what was acknowledged, so it stays as it is,
 * and refuses flushes and writes until it is opened again, at its old top.
 *
 * Locking: switch_mutex outermost. disk->switching keeps tables from coming
 * (ctr refuses). disk->pin keeps the live one from being torn down, should
 * another target's table take its place; a reference of the mapped device
 * keeps that. disk->shape keeps queries out while the disk is suspended.
 */
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "dm-chain.h"

/* One switch at a time, host-wide: outermost of all locks. */
static DEFINE_MUTEX(switch_mutex);

/* --- Having a disk to oneself --- */

static int claim(struct chain_disk *d)
{
	lockdep_assert_held(&chain_registry_mutex);
	if (!d->live)
		return -ENODEV;
	if (d->switching || !list_is_singular(&d->insts) ||
	    dm_suspended(d->live->ti) || !down_read_trylock(&d->pin))
		return -EBUSY;
	d->switching = true;
	return 0;
}

static void unclaim(struct chain_disk *d)
{
	mutex_lock(&chain_registry_mutex);
	d->switching = false;
	up_read(&d->pin);
	mutex_unlock(&chain_registry_mutex);
}

/* The reference keeps the mapped device's tables, should it be removed. */
int chain_claim(struct chain_disk *d)
{
	struct mapped_device *md = dm_get_md(d->devt);
	int r;

	if (!md)
		return -EBUSY;
	mutex_lock(&chain_registry_mutex);
	r = claim(d);
	mutex_unlock(&chain_registry_mutex);
	if (r)
		dm_put(md);
	return r;
}

void chain_unclaim(struct chain_disk *d)
{
	struct mapped_device *md = d->md;

	unclaim(d);
	dm_put(md);
}

static int claim_devt(dev_t devt, struct chain_inst **ci)
{
	struct chain_disk *d;
	int r = -ENODEV;

	mutex_lock(&chain_registry_mutex);
	d = chain_disk_find(devt);
	if (d)
		r = claim(d);
	if (!r)
		*ci = d->live;
	mutex_unlock(&chain_registry_mutex);
	return r;
}

/* Run @fn while what the operation needs of the top layer is held. */
static int with_top_held(struct chain_inst *ci, u32 row,
			 int (*fn)(struct chain_inst *ci, void *arg), void *arg)
{
	struct dm_chain_conflict *c = kmalloc(sizeof(*c), GFP_KERNEL);
	u32 *rows = kvcalloc(ci->nr, sizeof(*rows), GFP_KERNEL);
	struct chain_grant grant;
	struct chain_holder h = { .grants = &grant };
	int r = -ENOMEM;

	if (c && rows) {
		rows[0] = row;
		r = chain_hold(ci, rows, &h, c);
	}
	kvfree(rows);
	kfree(c);
	if (r)
		return r;
	r = fn(ci, arg);
	chain_release(&h);
	return r;
}

/* Run @fn with the live table of a device number claimed. */
static int with_disk(dev_t devt, u32 row,
		     int (*fn)(struct chain_inst *ci, void *arg), void *arg)
{
	struct mapped_device *md;
	struct chain_inst *ci;
	int r;

	if (mutex_lock_killable(&switch_mutex))
		return -EINTR;
	md = dm_get_md(devt);
	r = md ? claim_devt(devt, &ci) : -ENODEV;
	if (!r) {
		r = with_top_held(ci, row, fn, arg);
		unclaim(ci->disk);
	}
	if (md)
		dm_put(md);
	mutex_unlock(&switch_mutex);
	return r;
}

static int check_writable(struct chain_inst *ci)
{
	struct chain_att *top = chain_top(ci);

	if (!chain_guest_rw(top))
		return -EROFS;
	if (READ_ONCE(top->layer->failed) || READ_ONCE(ci->disk->failed))
		return -EIO;
	return 0;
}

/* --- The pause --- */

/* Jobs stop before it begins: the guest doesn't have to wait for their I/O. */
u64 chain_change(struct chain_inst *ci,
		 void (*fn)(struct chain_inst *ci, void *arg), void *arg)
{
	struct chain_disk *d = ci->disk;
	ktime_t start;

	chain_jobs_stop(d);
	down_write(&d->shape);
	rcu_expedite_gp();
	start = ktime_get();
	dm_internal_suspend_noflush(d->md);
	mutex_lock(&chain_registry_mutex);
	fn(ci, arg);
	mutex_unlock(&chain_registry_mutex);
	dm_internal_resume(d->md);
	rcu_unexpedite_gp();
	up_write(&d->shape);
	return ktime_to_ns(ktime_sub(ktime_get(), start));
}

/* --- Layers that go --- */

/* Without memory for an empty lookup, empty the one there is. */
static void forget_merged(struct chain_disk *d, struct chain_merge **fresh)
{
	u64 chunk, chunks;

	d->unmerged = 0;
	if (*fresh) {
		swap(d->merge, *fresh);
		return;
	}
	chunks = DIV_ROUND_UP_ULL(chain_top(d->live)->layer->size,
				  (u64)CHAIN_CHUNK_BLOCKS * CHAIN_UNIT_SECTORS);
	for (chunk = 0; chunk < chunks; chunk++)
		chain_merge_drop(d->merge, chunk);
}

static struct chain_merge *fresh_lookup(const struct chain_inst *ci)
{
	return chain_lookup_create(max(chain_top(ci)->layer->size,
				       ci->ti->len));
}

void chain_drop_prepare(struct chain_inst *ci, struct chain_drop *drop)
{
	drop->fresh = fresh_lookup(ci);
}

void chain_drop_now(struct chain_inst *ci, struct chain_drop *drop)
{
	unsigned int i, behind = drop->first + drop->n;

	lockdep_assert_held(&chain_registry_mutex);
	for (i = drop->first; i < behind; i++)
		ci->order[i]->dropped = true;
	memmove(ci->order + drop->first, ci->order + behind,
		(ci->nr - behind) * sizeof(*ci->order));
	ci->nr -= drop->n;
	if (drop->above)
		drop->above->limit = drop->limit;
	forget_merged(ci->disk, &drop->fresh);
	if (drop->also)
		drop->also(ci, drop->arg);
}

void chain_drop_done(struct chain_drop *drop)
{
	chain_merge_destroy(drop->fresh);
}

static void drop_now(struct chain_inst *ci, void *arg)
{
	chain_drop_now(ci, arg);
}

void chain_drop_layers(struct chain_inst *ci, struct chain_drop *drop)
{
	chain_drop_prepare(ci, drop);
	chain_change(ci, drop_now, drop);
	chain_drop_done(drop);
}

void chain_change_lookup(struct chain_inst *ci,
			 void (*fn)(struct chain_inst *ci, void *arg), void *arg)
{
	struct chain_drop none = { .also = fn, .arg = arg };

	chain_drop_layers(ci, &none);
}

/* --- Snapshot --- */

/* Suspended: the layer in role next becomes the top. */
static void push_top(struct chain_inst *ci, void *arg)
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

/* Has the frozen layer a job that goes on writing it, as a stream does? */
static bool goes_on(const struct chain_disk *disk, const struct chain_att *att)
{
	bool yes;

	mutex_lock(&chain_registry_mutex);
	yes = chain_written_by_job(att->layer, disk);
	mutex_unlock(&chain_registry_mutex);
	return yes;
}

/* One that was cut off can't go on from another top, or of another size. */
static void drop_mirror(struct chain_header *h)
{
	if (!(h->marks & DM_CHAIN_MARK_JOB) ||
	    h->record.type != DM_CHAIN_RECORD_MIRROR)
		return;
	h->marks &= ~DM_CHAIN_MARK_JOB;
	memset(&h->record, 0, sizeof(h->record));
	memset(&h->job, 0, sizeof(h->job));
}

static void seal(struct chain_header *h, const struct chain_header *child,
		 bool in_use)
{
	h->marks |= DM_CHAIN_MARK_SEALED;
	h->sealed_by = child->uuid;
	memcpy(h->child_path, child->child_path, sizeof(h->child_path));
	h->cid = child->parent.cid;
	drop_mirror(h);
	if (in_use)
		return;
	h->marks &= ~DM_CHAIN_MARK_IN_USE;
	memset(&h->use_host, 0, sizeof(h->use_host));
	memset(&h->use_boot, 0, sizeof(h->use_boot));
}

/* A chain layer is frozen by its seal. */
static int commit_chain(struct chain_disk *disk, struct chain_att *old,
			struct chain_att *new, struct chain_header *h)
{
	struct chain_layer *l = old->layer;
	int r;

	r = chain_meta_sync(l);
	if (r)
		return r;
	mutex_lock(&l->rw_mutex);
	*h = l->hdr;
	seal(h, &new->layer->hdr, goes_on(disk, old));
	r = chain_layer_update(old, h, true);
	chain_meta_release(new->layer, r);
	if (!r)
		chain_layer_update_rest(old);
	mutex_unlock(&l->rw_mutex);
	return r;
}

/* A raw one by what its child says of it. */
static int commit_raw(struct chain_att *old, struct chain_att *new,
		      struct chain_header *h)
{
	struct chain_layer *n = new->layer;
	struct chain_id fp;
	int r;

	r = chain_flush_dev(old);
	if (!r)
		r = chain_raw_fingerprint(old, &fp);
	if (r)
		return r;
	mutex_lock(&n->rw_mutex);
	*h = n->hdr;
	h->parent.cid = fp;
	h->parent.size = (u64)old->layer->size << SECTOR_SHIFT;
	r = chain_layer_update(new, h, true);
	chain_meta_release(n, r);
	if (!r)
		r = chain_layer_update_rest(new);
	mutex_unlock(&n->rw_mutex);
	return r;
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

static int commit_snapshot(struct chain_disk *disk, struct chain_att *old,
			   struct chain_att *new, struct chain_header *h)
{
	int r;

	if (old->layer->format == DM_CHAIN_FORMAT_CHAIN)
		r = commit_chain(disk, old, new, h);
	else
		r = commit_raw(old, new, h);
	if (r) {
		WRITE_ONCE(disk->failed, true);
		chain_meta_release(new->layer, true);
		DMERR("%s: snapshot is not durable (%d): open the disk again at its old top",
		      disk->name, r);
		return -EIO;
	}
	freeze(disk, old);
	return 0;
}

static int check_snapshot(struct chain_inst *ci)
{
	const struct chain_layer *top = chain_top(ci)->layer, *next;
	int r = check_writable(ci);

	if (r)
		return r;
	if (!ci->next)
		return -ENXIO;
	if (ci->nr >= DM_CHAIN_MAX_LAYERS)
		return -EMLINK;
	/* cid: the old top must get a new one, not keep what it has. */
	next = ci->next->layer;
	if (top->format == DM_CHAIN_FORMAT_CHAIN &&
	    (chain_id_equal(&next->hdr.parent.cid, &top->hdr.cid) ||
	     chain_id_is_null(&next->hdr.parent.cid)))
		return -ESTALE;
	return 0;
}

static int snapshot(struct chain_inst *ci, void *arg)
{
	struct dm_chain_switch_disk *sd = arg;
	struct chain_att *old = chain_top(ci), *new = ci->next;
	unsigned int noio;
	struct chain_header *h;
	int r = check_snapshot(ci);

	if (r)
		return r;
	h = kmalloc(sizeof(*h), GFP_KERNEL);
	if (!h)
		return -ENOMEM;
	/* What is on its way has less to wait for in the pause. */
	if (old->layer->meta)
		r = chain_meta_sync(old->layer);
	if (!r) {
		/* Reclaim might wait for a flush that waits for us. */
		noio = memalloc_noio_save();
		chain_meta_hold(new->layer);
		sd->pause_ns = chain_change(ci, push_top, NULL);
		r = commit_snapshot(ci->disk, old, new, h);
		memalloc_noio_restore(noio);
	}
	kfree(h);
	return r;
}

static int pivot(struct chain_inst *ci, void *arg)
{
	struct dm_chain_switch_disk *sd = arg;
	int r = check_writable(ci);

	return r ?: chain_job_pivot(ci, &sd->pause_ns);
}

static int switch_user(const struct dm_chain_switch *arg,
		       struct dm_chain_switch_disk *sd)
{
	bool snap = arg->op == DM_CHAIN_SWITCH_SNAPSHOT;
	void __user *p = u64_to_user_ptr(arg->disks);

	if (copy_from_user(sd, p, sizeof(*sd)))
		return -EFAULT;
	if (sd->pad || sd->error || sd->pause_ns)
		return -EINVAL;
	sd->error = with_disk(MKDEV(sd->major, sd->minor),
			      snap ? DM_CHAIN_OPROLE_SNAPSHOT_TOP :
				     DM_CHAIN_OPROLE_NONE,
			      snap ? snapshot : pivot, sd);
	if (copy_to_user(p, sd, sizeof(*sd)))
		return -EFAULT;
	return sd->error;
}

int chain_switch(const struct dm_chain_switch *arg)
{
	struct dm_chain_switch_disk sd;

	if ((arg->op != DM_CHAIN_SWITCH_SNAPSHOT &&
	     arg->op != DM_CHAIN_SWITCH_PIVOT) ||
	    arg->nr_disks != 1 || arg->flags || arg->pad)
		return -EINVAL;
	return switch_user(arg, &sd);
}

/* --- Growing a layer --- */

/* What a larger layer needs, got before the pause. */
struct chain_growth {
	u64 size;
	u64 blocks;
	unsigned long *dir;
	void *meta;
};

void chain_growth_free(struct chain_growth *g)
{
	if (!g)
		return;
	kvfree(g->dir);
	chain_meta_grow_free(g->meta);
	kfree(g);
}

struct chain_growth *chain_growth_alloc(const struct chain_layer *l, u64 size)
{
	struct chain_growth *g = kzalloc(sizeof(*g), GFP_KERNEL);

	if (!g)
		return NULL;
	g->size = size;
	g->blocks = ((size - 1) >> l->hdr.block_shift) + 1;
	g->dir = chain_statemap_grow_alloc(g->blocks);
	g->meta = chain_meta_grow_alloc(g->blocks);
	if (g->dir && g->meta)
		return g;
	chain_growth_free(g);
	return NULL;
}

/* Suspended: the larger structures take the smaller ones' place. */
void chain_growth_swap(struct chain_layer *l, struct chain_growth *g)
{
	chain_statemap_grow(&l->map, g->blocks, g->dir);
	g->dir = NULL;
	chain_meta_grow(l, g->meta);
	l->size = g->size >> SECTOR_SHIFT;
	/* Its header has another content id: they are of no use any more. */
	l->tracks = false;
	kvfree(l->track);
	kvfree(l->tracked);
	l->track = NULL;
	l->tracked = NULL;
}

/*
 * A last block that the old end cuts holds zeroes behind it, unless a shrink
 * was cut off before it had written them.
 */
static int zero_tail(struct chain_att *top)
{
	struct chain_layer *l = top->layer;
	sector_t sector = l->size, stop = round_up(sector, block_sectors(l)), n;
	void *page;
	int r = 0;

	if (sector == stop || chain_statemap_get(&l->map, l->map.blocks - 1) !=
			      DM_CHAIN_DATA)
		return 0;
	page = (void *)get_zeroed_page(GFP_KERNEL);
	if (!page)
		return -ENOMEM;
	for (; sector < stop && !r; sector += n) {
		n = min_t(sector_t, stop - sector, CHAIN_UNIT_SECTORS);
		r = chain_rw(top, CHAIN_META,
			     (top->data_sector + sector) << SECTOR_SHIFT, page,
			     n << SECTOR_SHIFT, REQ_OP_WRITE);
	}
	free_page((unsigned long)page);
	return r;
}

int chain_growth_write(struct chain_att *att, struct chain_growth *g,
		       struct chain_header *hdr)
{
	int r;

	lockdep_assert_held(&att->layer->rw_mutex);
	hdr->size = g->size;
	r = zero_tail(att);
	if (!r)
		r = chain_meta_clear_beyond(att, g->meta);
	if (!r)
		r = chain_layer_write_trailer(att, hdr);
	if (!r)
		r = chain_layer_update(att, hdr, false);
	return r;
}

/* --- Resize --- */

struct resize {
	struct chain_growth *g;
	struct chain_merge *merge;
};

static void grow_now(struct chain_inst *ci, void *arg)
{
	struct resize *rs = arg;

	chain_growth_swap(chain_top(ci)->layer, rs->g);
	/* Chunks are built anew, with all layers. */
	swap(ci->disk->merge, rs->merge);
	ci->disk->unmerged = 0;
}

static int grow(struct chain_inst *ci, struct resize *rs)
{
	struct chain_att *top = chain_top(ci);
	struct chain_header *h = kmalloc(sizeof(*h), GFP_KERNEL);
	int r;

	if (!h)
		return -ENOMEM;
	mutex_lock(&top->layer->rw_mutex);
	*h = top->layer->hdr;
	chain_random_id(&h->cid);
	drop_mirror(h);
	r = chain_growth_write(top, rs->g, h);
	mutex_unlock(&top->layer->rw_mutex);
	kfree(h);
	if (!r)
		chain_change(ci, grow_now, rs);
	return r;
}

static int check_resize(struct chain_inst *ci, u64 size)
{
	struct chain_att *top = chain_top(ci);
	struct chain_header *h;
	int r = check_writable(ci);

	if (r)
		return r;
	if (top->layer->format != DM_CHAIN_FORMAT_CHAIN ||
	    size % 512 || size < top->layer->hdr.size)
		return -EINVAL;
	if (size > top->layer->hdr.max_size)
		return -EFBIG;
	h = kmemdup(&top->layer->hdr, sizeof(*h), GFP_KERNEL);
	if (!h)
		return -ENOMEM;
	h->size = size;
	if (bdev_nr_bytes(top->bdev) < chain_layer_bytes(h))
		r = -ENOSPC;
	kfree(h);
	return r;
}

static int resize(struct chain_inst *ci, void *arg)
{
	u64 size = *(u64 *)arg;
	struct resize rs = {};
	int r = check_resize(ci, size);

	if (r)
		return r;
	rs.g = chain_growth_alloc(chain_top(ci)->layer, size);
	rs.merge = chain_lookup_create(size >> SECTOR_SHIFT);
	r = rs.g && rs.merge ? grow(ci, &rs) : -ENOMEM;
	chain_growth_free(rs.g);
	chain_merge_destroy(rs.merge);
	return r;
}

int chain_resize(const struct dm_chain_resize *arg)
{
	u64 size = arg->size;

	if (arg->flags || arg->pad)
		return -EINVAL;
	return with_disk(MKDEV(arg->major, arg->minor),
			 DM_CHAIN_OPROLE_RESIZE_ACTIVE, resize, &size);
}
