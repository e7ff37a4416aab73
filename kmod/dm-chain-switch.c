// SPDX-License-Identifier: GPL-2.0-only
/*
 * Switches: what changes a running disk at one instant.
 *
 * A switch opens and closes nothing: what it needs was attached by a reload
 * before. The disk is suspended from inside the kernel, pointers change, it is
 * resumed: nothing in between waits for I/O of other devices, allocates, or
 * can fail, and no signal ends it half way.
 *
 * Several disks: all of them are claimed, or none; all are suspended, in the
 * order of their numbers, before anything changes. A disk whose layer is on
 * another one of them could never be suspended, and is refused.
 *
 * Locking: who has claimed a disk has it for itself, and nobody waits for a claim:
 * a switch of one disk shares no lock with one of another over any I/O, so a device
 * that hangs under it is nobody else's. Several: several_mutex, outermost, so that
 * two of them don't take each other's disks away. disk->switching is the claim, and
 * keeps tables from coming (ctr refuses). disk->pin keeps the live one from being torn
 * down, should another target's table take its place; a reference of the mapped device
 * keeps that. disk->shape keeps queries out while the disk is suspended.
 */
#include <linux/file.h>
#include <linux/slab.h>
#include <linux/sort.h>

#include "dm-chain.h"

/* One switch of several disks at a time, host-wide: outermost of all locks. */
static DEFINE_MUTEX(several_mutex);

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
	/* What has become due meanwhile was left to us; unpinned it may go. */
	chain_disk_take_back(d);
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

/* What the operation needs of the top layer. */
static int hold_top(struct chain_inst *ci, u32 row, struct chain_holder *h)
{
	struct dm_chain_conflict *c = kmalloc(sizeof(*c), GFP_KERNEL);
	u32 *rows = kvcalloc(ci->nr, sizeof(*rows), GFP_KERNEL);
	int r = -ENOMEM;

	if (c && rows) {
		rows[0] = row;
		r = chain_hold(ci, rows, h, c);
	}
	kvfree(rows);
	kfree(c);
	return r;
}

static int claim_member(struct chain_member *m, u32 row)
{
	int r;

	m->md = dm_get_md(m->devt);
	if (!m->md)
		return -ENODEV;
	r = claim_devt(m->devt, &m->ci);
	if (r)
		return r;
	m->claimed = true;
	m->hdr = kmalloc(sizeof(*m->hdr), GFP_KERNEL);
	if (!m->hdr)
		return -ENOMEM;
	m->holder.grants = &m->grant;
	return hold_top(m->ci, row, &m->holder);
}

static void release_member(struct chain_member *m)
{
	kfree(m->hdr);
	if (m->holder.disk)
		chain_release(&m->holder);
	if (m->claimed)
		unclaim(m->ci->disk);
	if (m->md)
		dm_put(m->md);
}

/* Is a layer of one of the disks on another one? Loops are for others to see. */
static bool stands_on(const struct chain_member *m, const struct chain_member *on)
{
	unsigned int i;

	for (i = 0; i < m->ci->nr_atts; i++)
		if (m->ci->atts[i].bdev->bd_disk == dm_disk(on->md))
			return true;
	return false;
}

int chain_member_update(struct chain_member *m, struct chain_att *att, bool first,
			void (*fn)(struct chain_member *m, struct chain_header *h,
				   const void *arg), const void *arg)
{
	int r;

	mutex_lock(&att->layer->rw_mutex);
	*m->hdr = att->layer->hdr;
	fn(m, m->hdr, arg);
	r = chain_layer_update(att, m->hdr, first);
	mutex_unlock(&att->layer->rw_mutex);
	return r;
}

static int check_stacked(struct chain_member *m, unsigned int nr)
{
	unsigned int i, j;

	for (i = 0; i < nr; i++) {
		for (j = 0; j < nr; j++) {
			if (!stands_on(&m[i], &m[j]))
				continue;
			m[i].error = -ELOOP;
			return -ELOOP;
		}
	}
	return 0;
}

static int with_members(struct chain_member *m, unsigned int nr, u32 row,
			int (*fn)(struct chain_member *m, unsigned int nr))
{
	unsigned int i;
	int r = 0;

	for (i = 0; i < nr && !r; i++) {
		r = claim_member(&m[i], row);
		m[i].error = r;
	}
	if (!r)
		r = check_stacked(m, nr);
	if (!r)
		r = fn(m, nr);
	for (i = 0; i < nr; i++)
		release_member(&m[i]);
	return r;
}

int chain_check_writable(struct chain_inst *ci)
{
	struct chain_att *top = chain_top(ci);

	if (!chain_guest_rw(top))
		return -EROFS;
	if (READ_ONCE(top->layer->failed) || READ_ONCE(ci->disk->failed))
		return -EIO;
	return 0;
}

/* --- The pause --- */

/* Of several, those of one set: by several_mutex nobody else takes more than one. */
static void shape_lock(struct chain_disk *d, bool several)
{
	if (several)
		down_write_nest_lock(&d->shape, &several_mutex);
	else
		down_write(&d->shape);
}

/* A disk that was suspended later was so for less time. */
static void pause_all(struct chain_member *m, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		m[i].start = ktime_get();
		dm_internal_suspend_noflush(m[i].ci->disk->md);
	}
}

static void go_on_all(struct chain_member *m, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		dm_internal_resume(m[i].ci->disk->md);
		m[i].pause_ns = ktime_to_ns(ktime_sub(ktime_get(), m[i].start));
	}
}

/*
 * Jobs and workers stop before it begins: the guest doesn't have to wait for their
 * I/O. So do queries: who looks at one disk while another is suspended could be kept
 * from going on by that.
 */
void chain_change_all(struct chain_member *m, unsigned int nr,
		      void (*fn)(void *arg), void *arg)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		chain_jobs_stop(m[i].ci->disk);
		chain_worker_stop(m[i].ci->disk);
	}
	for (i = 0; i < nr; i++)
		shape_lock(m[i].ci->disk, nr > 1);
	rcu_expedite_gp();
	pause_all(m, nr);
	/* Not done by the pause if somebody else has suspended the disk just before. */
	for (i = 0; i < nr; i++)
		chain_quiesce(m[i].ci);
	mutex_lock(&chain_registry_mutex);
	fn(arg);
	mutex_unlock(&chain_registry_mutex);
	go_on_all(m, nr);
	rcu_unexpedite_gp();
	for (i = 0; i < nr; i++)
		up_write(&m[i].ci->disk->shape);
}

struct change {
	struct chain_inst *ci;
	void (*fn)(struct chain_inst *ci, void *arg);
	void *arg;
};

static void change_one(void *arg)
{
	struct change *c = arg;

	c->fn(c->ci, c->arg);
}

u64 chain_change(struct chain_inst *ci,
		 void (*fn)(struct chain_inst *ci, void *arg), void *arg)
{
	struct change c = { .ci = ci, .fn = fn, .arg = arg };
	struct chain_member m = { .ci = ci };

	chain_change_all(&m, 1, change_one, &c);
	return m.pause_ns;
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

/* --- The call --- */

static int pivot(struct chain_member *m, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		m[i].error = chain_check_writable(m[i].ci);
		if (m[i].error)
			return m[i].error;
	}
	return chain_jobs_pivot(m, nr);
}

static int switch_members(u32 op, struct chain_member *m, unsigned int nr)
{
	bool snap = op == DM_CHAIN_SWITCH_SNAPSHOT;
	int r;

	if (nr > 1 && mutex_lock_killable(&several_mutex))
		return -EINTR;
	r = with_members(m, nr, snap ? DM_CHAIN_OPROLE_SNAPSHOT_TOP :
				       DM_CHAIN_OPROLE_NONE,
			 snap ? chain_snapshot : pivot);
	if (nr > 1)
		mutex_unlock(&several_mutex);
	return r;
}

static int by_devt(const void *a, const void *b)
{
	const struct chain_member *ma = a, *mb = b;

	if (ma->devt != mb->devt)
		return ma->devt < mb->devt ? -1 : 1;
	return 0;
}

static int fill_members(const struct dm_chain_switch_disk *sd,
			struct chain_member *m, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		if (sd[i].pad || sd[i].error || sd[i].pause_ns)
			return -EINVAL;
		m[i].index = i;
		m[i].devt = MKDEV(sd[i].major, sd[i].minor);
	}
	sort(m, nr, sizeof(*m), by_devt, NULL);
	for (i = 1; i < nr; i++)
		if (m[i].devt == m[i - 1].devt)
			return -EINVAL;
	return 0;
}

static void report_members(const struct chain_member *m, unsigned int nr,
			   struct dm_chain_switch_disk *sd)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		sd[m[i].index].error = m[i].error;
		sd[m[i].index].pause_ns = m[i].pause_ns;
	}
}

static bool is_several_pivots(const struct dm_chain_switch *arg)
{
	return arg->op == DM_CHAIN_SWITCH_PIVOT && arg->nr_disks > 1;
}

static bool switch_valid(const struct dm_chain_switch *arg)
{
	if (arg->op != DM_CHAIN_SWITCH_SNAPSHOT &&
	    arg->op != DM_CHAIN_SWITCH_PIVOT)
		return false;
	if (!arg->nr_disks || arg->nr_disks > DM_CHAIN_SWITCH_MAX || arg->flags)
		return false;
	return is_several_pivots(arg) ? arg->decider < arg->nr_disks :
					!arg->decider && !arg->hints;
}

/* What goes into headers is a string, and nothing else. */
static int clean_hint(char *hint)
{
	size_t len = strnlen(hint, DM_CHAIN_PATH_BYTES);

	if (len == DM_CHAIN_PATH_BYTES)
		return -ENAMETOOLONG;
	memset(hint + len, 0, DM_CHAIN_PATH_BYTES - len);
	return 0;
}

static int several_pivots(const struct dm_chain_switch *arg,
			  struct chain_member *m, char **hints)
{
	size_t bytes = (size_t)arg->nr_disks * DM_CHAIN_PATH_BYTES;
	unsigned int i;
	int r = 0;

	*hints = kvmalloc(bytes, GFP_KERNEL);
	if (!*hints)
		return -ENOMEM;
	if (copy_from_user(*hints, u64_to_user_ptr(arg->hints), bytes))
		return -EFAULT;
	for (i = 0; i < arg->nr_disks && !r; i++) {
		m[i].path = *hints + m[i].index * DM_CHAIN_PATH_BYTES;
		m[i].decides = m[i].index == arg->decider;
		r = clean_hint(*hints + i * DM_CHAIN_PATH_BYTES);
	}
	return r;
}

static int switch_user(const struct dm_chain_switch *arg,
		       struct dm_chain_switch_disk *sd, struct chain_member *m)
{
	void __user *p = u64_to_user_ptr(arg->disks);
	size_t bytes = arg->nr_disks * sizeof(*sd);
	char *hints = NULL;
	int r;

	if (copy_from_user(sd, p, bytes))
		return -EFAULT;
	r = fill_members(sd, m, arg->nr_disks);
	if (!r && is_several_pivots(arg))
		r = several_pivots(arg, m, &hints);
	if (!r) {
		r = switch_members(arg->op, m, arg->nr_disks);
		report_members(m, arg->nr_disks, sd);
		if (copy_to_user(p, sd, bytes))
			r = -EFAULT;
	}
	kvfree(hints);
	return r;
}

int chain_switch(const struct dm_chain_switch *arg)
{
	struct dm_chain_switch_disk *sd;
	struct chain_member *m;
	int r = -ENOMEM;

	if (!switch_valid(arg))
		return -EINVAL;
	sd = kvcalloc(arg->nr_disks, sizeof(*sd), GFP_KERNEL);
	m = kvcalloc(arg->nr_disks, sizeof(*m), GFP_KERNEL);
	if (sd && m)
		r = switch_user(arg, sd, m);
	kvfree(m);
	kvfree(sd);
	return r;
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

/*
 * A commit that goes on knows a raw base by the size that it had, or that of the top,
 * to which it was grown.
 */
static void note_raw_base(const struct chain_inst *ci, struct chain_header *h)
{
	const struct chain_att *base = ci->order[ci->nr - 1];

	/* Its device may have been grown, and the commit not gone on. */
	if (chain_has_record(h) && h->record.base_format == DM_CHAIN_FORMAT_RAW &&
	    base->layer->format == DM_CHAIN_FORMAT_RAW)
		h->record.base_size = bdev_nr_bytes(base->bdev);
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
	chain_drop_mirror(h);
	note_raw_base(ci, h);
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
	int r = chain_check_writable(ci);

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

static int resize(struct chain_inst *ci, u64 size)
{
	struct resize rs = {};
	int r = check_resize(ci, size);

	if (!r)
		r = chain_map_read_all(chain_top(ci));
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
	struct chain_member m = { .devt = MKDEV(arg->major, arg->minor) };
	int r;

	if (arg->flags || arg->pad)
		return -EINVAL;
	r = claim_member(&m, DM_CHAIN_OPROLE_RESIZE_ACTIVE);
	if (!r)
		r = resize(m.ci, arg->size);
	release_member(&m);
	return r;
}

/* --- A layer that has moved --- */

/* Snapshots since the token was given don't matter. */
static struct chain_att *overlay_of(struct chain_inst *ci, const struct chain_layer *l)
{
	unsigned int i;

	for (i = 1; i < ci->nr; i++)
		if (ci->order[i]->layer == l)
			return ci->order[i - 1];
	return NULL;
}

static void set_parent_path(struct chain_member *m, struct chain_header *h,
			    const void *path)
{
	memcpy(h->parent_path, path, sizeof(h->parent_path));
}

static int relink(struct chain_member *m, struct chain_token *t, const char *path)
{
	struct chain_att *over;

	/* Claimed: as long as the token has the disk now, its layers stay. */
	if (chain_token_devt(t) != m->devt)
		return -ENODEV;
	over = overlay_of(m->ci, chain_token_scope(t)->top);
	if (!over)
		return -EINVAL;
	if (!chain_att_rw(over) || !over->layer->meta)
		return -EROFS;
	return chain_member_update(m, over, false, set_parent_path, path);
}

static int relink_claimed(struct chain_token *t, const char *path)
{
	struct chain_member m = { .devt = chain_token_devt(t) };
	int r;

	if (!m.devt)
		return -ENODEV;
	if (chain_token_scope(t)->op != DM_CHAIN_OP_COPY_LAYER)
		return -EINVAL;
	r = claim_member(&m, DM_CHAIN_OPROLE_NONE);
	if (!r)
		r = relink(&m, t, path);
	release_member(&m);
	return r;
}

int chain_relink(struct dm_chain_relink *arg)
{
	struct chain_token *t;
	struct file *file;
	int r = arg->flags ? -EINVAL : clean_hint(arg->parent_path);

	if (r)
		return r;
	file = fget(arg->token);
	t = file ? chain_token_of(file) : NULL;
	r = t ? relink_claimed(t, arg->parent_path) : -EBADF;
	if (file)
		fput(file);
	return r;
}
