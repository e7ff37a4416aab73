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

static int claim(dev_t devt, struct chain_inst **ci)
{
	struct chain_disk *d;
	int r = 0;

	mutex_lock(&chain_registry_mutex);
	d = chain_disk_find(devt);
	if (!d) {
		r = -ENODEV;
	} else if (d->switching || !d->live || !list_is_singular(&d->insts) ||
		   !down_read_trylock(&d->pin)) {
		r = -EBUSY;
	} else {
		d->switching = true;
		*ci = d->live;
	}
	mutex_unlock(&chain_registry_mutex);
	return r;
}

static void unclaim(struct chain_disk *d)
{
	mutex_lock(&chain_registry_mutex);
	d->switching = false;
	up_read(&d->pin);
	mutex_unlock(&chain_registry_mutex);
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
	r = md ? claim(devt, &ci) : -ENODEV;
	if (!r) {
		if (dm_suspended(ci->ti))
			r = -EBUSY;
		else
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

/* --- Snapshot --- */

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

static u64 switch_tops(struct chain_inst *ci)
{
	struct mapped_device *md = ci->disk->md;
	ktime_t start;

	down_write(&ci->disk->shape);
	rcu_expedite_gp();
	start = ktime_get();
	dm_internal_suspend_noflush(md);
	mutex_lock(&chain_registry_mutex);
	push_top(ci);
	mutex_unlock(&chain_registry_mutex);
	dm_internal_resume(md);
	rcu_unexpedite_gp();
	up_write(&ci->disk->shape);
	return ktime_to_ns(ktime_sub(ktime_get(), start));
}

static void seal(struct chain_header *h, const struct chain_header *child)
{
	h->marks |= DM_CHAIN_MARK_SEALED;
	h->marks &= ~DM_CHAIN_MARK_IN_USE;
	h->sealed_by = child->uuid;
	memcpy(h->child_path, child->child_path, sizeof(h->child_path));
	h->cid = child->parent.cid;
	memset(&h->use_host, 0, sizeof(h->use_host));
	memset(&h->use_boot, 0, sizeof(h->use_boot));
}

/* A chain layer is frozen by its seal. */
static int commit_chain(struct chain_att *old, struct chain_att *new,
			struct chain_header *h)
{
	struct chain_layer *l = old->layer;
	int r;

	r = chain_meta_sync(l);
	if (r)
		return r;
	mutex_lock(&l->rw_mutex);
	*h = l->hdr;
	seal(h, &new->layer->hdr);
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

static void freeze(struct chain_disk *disk, struct chain_att *old)
{
	mutex_lock(&old->layer->rw_mutex);
	chain_meta_destroy(old->layer);
	mutex_lock(&chain_registry_mutex);
	chain_use_change(disk, old, DM_CHAIN_OPROLE_GUEST_LOWER);
	WRITE_ONCE(old->access[CHAIN_META], DM_CHAIN_ACCESS_RO);
	mutex_unlock(&chain_registry_mutex);
	mutex_unlock(&old->layer->rw_mutex);
}

static int commit_snapshot(struct chain_disk *disk, struct chain_att *old,
			   struct chain_att *new, struct chain_header *h)
{
	int r;

	if (old->layer->format == DM_CHAIN_FORMAT_CHAIN)
		r = commit_chain(old, new, h);
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
		sd->pause_ns = switch_tops(ci);
		r = commit_snapshot(ci->disk, old, new, h);
		memalloc_noio_restore(noio);
	}
	kfree(h);
	return r;
}

static int switch_user(const struct dm_chain_switch *arg,
		       struct dm_chain_switch_disk *sd)
{
	void __user *p = u64_to_user_ptr(arg->disks);

	if (copy_from_user(sd, p, sizeof(*sd)))
		return -EFAULT;
	if (sd->pad || sd->error || sd->pause_ns)
		return -EINVAL;
	sd->error = with_disk(MKDEV(sd->major, sd->minor),
			      DM_CHAIN_OPROLE_SNAPSHOT_TOP, snapshot, sd);
	if (copy_to_user(p, sd, sizeof(*sd)))
		return -EFAULT;
	return sd->error;
}

int chain_switch(const struct dm_chain_switch *arg)
{
	struct dm_chain_switch_disk sd;

	if (arg->op != DM_CHAIN_SWITCH_SNAPSHOT || arg->nr_disks != 1 ||
	    arg->flags || arg->pad)
		return -EINVAL;
	return switch_user(arg, &sd);
}

/* --- Resize --- */

/* What a larger layer needs, got before the pause. */
struct growth {
	struct chain_header hdr;
	u64 blocks;
	unsigned long *dir;
	void *meta;
	struct chain_merge *merge;
};

static void growth_free(struct growth *g)
{
	if (!g)
		return;
	kvfree(g->dir);
	chain_meta_grow_free(g->meta);
	chain_merge_destroy(g->merge);
	kfree(g);
}

static struct growth *growth_alloc(const struct chain_layer *l, u64 size)
{
	struct growth *g = kzalloc(sizeof(*g), GFP_KERNEL);

	if (!g)
		return NULL;
	g->hdr = l->hdr;
	g->hdr.size = size;
	chain_random_id(&g->hdr.cid);
	g->blocks = chain_blocks(&g->hdr);
	g->dir = chain_statemap_grow_alloc(g->blocks);
	g->meta = chain_meta_grow_alloc(g->blocks);
	g->merge = chain_lookup_create(size >> SECTOR_SHIFT);
	if (g->dir && g->meta && g->merge)
		return g;
	growth_free(g);
	return NULL;
}

/* Suspended: the larger structures take the smaller ones' place. */
static void swap_growth(struct chain_inst *ci, struct growth *g)
{
	struct chain_layer *l = chain_top(ci)->layer;

	chain_statemap_grow(&l->map, g->blocks, g->dir);
	g->dir = NULL;
	chain_meta_grow(l, g->meta);
	swap(ci->disk->merge, g->merge);
	/* Chunks are built anew, with all layers. */
	ci->disk->unmerged = 0;
	l->size = g->hdr.size >> SECTOR_SHIFT;
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

static int grow(struct chain_inst *ci, struct growth *g)
{
	struct chain_att *top = chain_top(ci);
	int r;

	mutex_lock(&top->layer->rw_mutex);
	r = zero_tail(top);
	if (!r)
		r = chain_meta_clear_beyond(top, g->meta);
	if (!r)
		r = chain_layer_write_trailer(top, &g->hdr);
	if (!r)
		r = chain_layer_update(top, &g->hdr, false);
	mutex_unlock(&top->layer->rw_mutex);
	if (r)
		return r;
	down_write(&ci->disk->shape);
	dm_internal_suspend_noflush(ci->disk->md);
	mutex_lock(&chain_registry_mutex);
	swap_growth(ci, g);
	mutex_unlock(&chain_registry_mutex);
	dm_internal_resume(ci->disk->md);
	up_write(&ci->disk->shape);
	return 0;
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
	struct growth *g;
	int r = check_resize(ci, size);

	if (r)
		return r;
	g = growth_alloc(chain_top(ci)->layer, size);
	r = g ? grow(ci, g) : -ENOMEM;
	growth_free(g);
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
