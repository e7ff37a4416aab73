// SPDX-License-Identifier: GPL-2.0-only
/*
 * Disks: what the tables of one mapped device share.
 *
 * Owns: chain_disk objects, keyed by mapped device. The first table makes one,
 * the last one's dtr frees it. Up to three tables exist at a time (live,
 * inactive, and one that replaces the inactive one).
 *
 * Locking: registry_mutex for the list of disks, their tables and slots.
 */
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "dm-chain.h"

static LIST_HEAD(disks);

static struct chain_disk *find_md(const struct mapped_device *md)
{
	struct chain_disk *d;

	lockdep_assert_held(&chain_registry_mutex);
	list_for_each_entry(d, &disks, list)
		if (d->md == md)
			return d;
	return NULL;
}

struct chain_disk *chain_disk_find(dev_t devt)
{
	struct chain_disk *d;

	lockdep_assert_held(&chain_registry_mutex);
	list_for_each_entry(d, &disks, list)
		if (d->devt == devt)
			return d;
	return NULL;
}

static void disk_free(struct chain_disk *d)
{
	if (!d)
		return;
	cancel_work_sync(&d->back_work);
	if (d->wq)
		destroy_workqueue(d->wq);
	if (d->reads_ready)
		cleanup_srcu_struct(&d->reads);
	chain_merge_destroy(d->merge);
	chain_locks_exit(&d->locks);
	mempool_exit(&d->pages);
	kfree(d->owners);
	kvfree(d->slots);
	kfree(d);
}

/*
 * No job may write them any more: lower layers are read-only again. A switch may
 * have to write headers of layers that have just become such; at its end this is
 * looked at again.
 */
static void take_back(struct chain_inst *ci)
{
	unsigned int i;

	for (i = 0; i < ci->nr_atts; i++) {
		struct chain_att *att = &ci->atts[i];
		bool back;

		mutex_lock(&chain_registry_mutex);
		back = !ci->disk->switching && chain_back_is_due(ci->disk, att);
		mutex_unlock(&chain_registry_mutex);
		if (back)
			chain_layer_take_back(ci->disk, att);
	}
}

/* A table that is not live yet is looked at when it becomes so. */
static void take_back_work(struct work_struct *work)
{
	struct chain_disk *d = container_of(work, struct chain_disk, back_work);
	struct chain_inst *ci;

	if (chain_disk_pin(d->devt, &ci))
		return;
	take_back(ci);
	/* By then it may be another disk of that number. */
	chain_disk_unpin(ci->disk);
}

/*
 * Not on the disk's own queue: this waits for a switch, which may wait for what
 * is queued there, and the rescuer can only run one at a time.
 */
void chain_disk_take_back(struct chain_disk *d)
{
	queue_work(system_unbound_wq, &d->back_work);
}

static void disk_init(struct chain_disk *d, struct mapped_device *md)
{
	INIT_LIST_HEAD(&d->list);
	INIT_LIST_HEAD(&d->insts);
	INIT_LIST_HEAD(&d->holders);
	INIT_LIST_HEAD(&d->parked);
	INIT_LIST_HEAD(&d->jobs);
	spin_lock_init(&d->jobs_lock);
	init_waitqueue_head(&d->jobs_wait);
	d->jobs_stop = true;
	spin_lock_init(&d->lock);
	init_rwsem(&d->pin);
	init_rwsem(&d->shape);
	mutex_init(&d->merge_mutex);
	d->shrunk = jiffies - HZ;
	INIT_WORK(&d->merge_work, chain_merge_work);
	INIT_WORK(&d->back_work, take_back_work);
	atomic64_set(&d->want, 0);
	d->stop = true;
	d->md = md;
	d->devt = disk_devt(dm_disk(md));
	strscpy(d->name, dm_device_name(md), sizeof(d->name));
}

static struct chain_disk *disk_alloc(struct mapped_device *md)
{
	struct chain_disk *d = kzalloc(sizeof(*d), GFP_KERNEL);

	if (!d)
		return NULL;
	disk_init(d, md);
	d->reads_ready = !init_srcu_struct(&d->reads);
	d->owners = kmalloc_array(CHAIN_CHUNK_BLOCKS, sizeof(u16), GFP_KERNEL);
	d->wq = alloc_workqueue("dm-chain/%s", WQ_MEM_RECLAIM | WQ_UNBOUND, 32,
				d->name);
	if (!d->reads_ready || !d->owners || !d->wq || chain_locks_init(&d->locks) ||
	    mempool_init_page_pool(&d->pages, 1, 0)) {
		disk_free(d);
		return NULL;
	}
	return d;
}

/* Join the disk of @md; make it of @fresh if there is none. NULL: none. */
static struct chain_disk *join(struct chain_inst *ci, struct mapped_device *md,
			       struct chain_disk *fresh)
{
	struct chain_disk *d;

	mutex_lock(&chain_registry_mutex);
	d = find_md(md);
	if (!d && fresh) {
		d = fresh;
		list_add(&d->list, &disks);
	}
	if (d && (d->switching || d->dying)) {
		d = ERR_PTR(-EBUSY);
	} else if (d) {
		ci->disk = d;
		list_add(&ci->list, &d->insts);
	}
	mutex_unlock(&chain_registry_mutex);
	return d;
}

int chain_disk_join(struct chain_inst *ci, char **error)
{
	struct mapped_device *md = dm_table_get_md(ci->ti->table);
	struct chain_disk *d = join(ci, md, NULL), *fresh = NULL;

	if (!d) {
		*error = "Cannot allocate memory for a disk";
		fresh = disk_alloc(md);
		if (!fresh)
			return -ENOMEM;
		d = join(ci, md, fresh);
	}
	if (d != fresh)
		disk_free(fresh);
	if (!IS_ERR(d))
		return 0;
	*error = "A switch of the disk is under way";
	return PTR_ERR(d);
}

bool chain_any_disk(void)
{
	lockdep_assert_held(&chain_registry_mutex);
	return !list_empty(&disks);
}

unsigned long chain_lookup_parts(void)
{
	const struct chain_disk *d;
	unsigned long n = 0;

	lockdep_assert_held(&chain_registry_mutex);
	list_for_each_entry(d, &disks, list)
		n += d->merge ? chain_merge_parts(d->merge) : 0;
	return n;
}

static unsigned long shrink_disk(struct chain_disk *d, unsigned long nr)
{
	unsigned long n;

	if (!mutex_trylock(&d->merge_mutex))
		return 0;
	n = chain_merge_shrink(d->merge, nr);
	if (n) {
		WRITE_ONCE(d->full, false);
		WRITE_ONCE(d->shrunk, jiffies);
	}
	mutex_unlock(&d->merge_mutex);
	return n;
}

unsigned long chain_lookup_shrink(unsigned long nr)
{
	unsigned long total = chain_lookup_parts(), n = 0, parts;
	struct chain_disk *d;

	/* Workers go on building: there may be some that there were not just now. */
	total = max(total, 1UL);
	list_for_each_entry(d, &disks, list) {
		parts = d->merge ? chain_merge_parts(d->merge) : 0;
		if (parts)
			n += shrink_disk(d, mult_frac(nr, parts, total) + 1);
	}
	return n;
}

/* Wait for those who look at the disk. */
static void drain_pins(struct chain_disk *d)
{
	down_write(&d->pin);
	up_write(&d->pin);
}

/*
 * Its jobs have ended and undone nothing: a table that has come since must not take
 * over where they have sent the guest. @failed stays until no table is left.
 */
static void forget_jobs(struct chain_disk *d)
{
	mutex_lock(&chain_registry_mutex);
	d->route = 0;
	d->route_flush = 0;
	d->tracked = 0;
	d->rescan = false;
	d->dying = false;
	mutex_unlock(&chain_registry_mutex);
}

void chain_disk_dying(struct chain_inst *ci)
{
	struct chain_disk *d = ci->disk;
	bool live;

	if (!d)
		return;
	mutex_lock(&chain_registry_mutex);
	/* No table of ours took its place: before it lets its layers go. */
	live = d->live == ci;
	if (live) {
		d->live = NULL;
		d->dying = true;
		chain_holders_gone(d);
	}
	mutex_unlock(&chain_registry_mutex);
	if (live) {
		chain_jobs_end(d);
		forget_jobs(d);
	}
	drain_pins(d);
}

void chain_disk_leave(struct chain_inst *ci)
{
	struct chain_disk *d = ci->disk;
	bool last;

	if (!d)
		return;
	mutex_lock(&chain_registry_mutex);
	list_del(&ci->list);
	last = list_empty(&d->insts);
	if (last)
		list_del(&d->list);
	mutex_unlock(&chain_registry_mutex);
	if (!last)
		return;
	drain_pins(d);
	disk_free(d);
}

/* -EAGAIN: a table goes; it or another one is there in a moment. */
static int try_pin(dev_t devt, struct chain_inst **ci)
{
	struct chain_disk *d;
	int r = 0;

	mutex_lock(&chain_registry_mutex);
	d = chain_disk_find(devt);
	if (!d || !d->live)
		r = -ENODEV;
	else if (!down_read_trylock(&d->pin))
		r = -EAGAIN;
	else
		*ci = d->live;
	mutex_unlock(&chain_registry_mutex);
	return r;
}

static void drop_pin(struct chain_disk *d)
{
	/* Held, so that who frees the disk can't do so under up_read()'s feet. */
	mutex_lock(&chain_registry_mutex);
	up_read(&d->pin);
	mutex_unlock(&chain_registry_mutex);
}

int chain_disk_pin(dev_t devt, struct chain_inst **ci)
{
	int r;

	do {
		r = try_pin(devt, ci);
		if (r == -EAGAIN && schedule_timeout_killable(1))
			return -EINTR;
	} while (r == -EAGAIN);
	if (!r && down_read_killable(&(*ci)->disk->shape)) {
		drop_pin((*ci)->disk);
		r = -EINTR;
	}
	return r;
}

void chain_disk_unpin(struct chain_disk *disk)
{
	up_read(&disk->shape);
	drop_pin(disk);
}

/* Does any table of the disk still have the layer in this slot? */
static bool slot_in_use(const struct chain_disk *d, unsigned int slot)
{
	struct chain_inst *ci;

	list_for_each_entry(ci, &d->insts, list)
		if (slot < ci->nr_slots && ci->by_slot[slot])
			return true;
	return false;
}

/* Slots of layers that no table has any more are free. */
static void free_slots_unused(struct chain_disk *d)
{
	unsigned int i;

	for (i = 0; i < d->nr_slots; i++)
		if (d->slots[i] && !slot_in_use(d, i))
			d->slots[i] = NULL;
}

/* The layer's slot, or a free one; @nr_slots if there is none. */
static unsigned int pick_slot(struct chain_disk *d, struct chain_layer *l)
{
	unsigned int i, free = d->nr_slots;

	for (i = 0; i < d->nr_slots; i++) {
		if (d->slots[i] == l)
			return i;
		if (!d->slots[i] && free == d->nr_slots)
			free = i;
	}
	return free;
}

static int grow_slots(struct chain_disk *d, unsigned int nr)
{
	struct chain_layer **slots;

	slots = kvcalloc(nr, sizeof(*slots), GFP_NOIO);
	if (!slots)
		return -ENOMEM;
	if (d->slots)
		memcpy(slots, d->slots, d->nr_slots * sizeof(*slots));
	kvfree(d->slots);
	d->slots = slots;
	d->nr_slots = nr;
	return 0;
}

static int assign(struct chain_inst *ci)
{
	struct chain_disk *d = ci->disk;
	unsigned int i, slot;
	int r;

	/* Room for all layers of this table beside all of another one. */
	if (d->nr_slots < ci->nr_slots) {
		r = grow_slots(d, ci->nr_slots);
		if (r)
			return r;
	}
	free_slots_unused(d);
	for (i = 0; i < ci->nr_atts; i++) {
		slot = pick_slot(d, ci->atts[i].layer);
		if (slot >= ci->nr_slots)
			return -ENOSPC;
		d->slots[slot] = ci->atts[i].layer;
		ci->atts[i].slot = slot;
		ci->by_slot[slot] = &ci->atts[i];
	}
	return 0;
}

int chain_disk_slots(struct chain_inst *ci)
{
	unsigned int nr;
	int r;

	/* Three tables at most: a free slot is always found among so many. */
	mutex_lock(&chain_registry_mutex);
	nr = max(ci->disk->nr_slots, 3 * ci->nr_atts + 8);
	mutex_unlock(&chain_registry_mutex);
	ci->by_slot = kvcalloc(nr, sizeof(*ci->by_slot), GFP_KERNEL);
	if (!ci->by_slot)
		return -ENOMEM;
	ci->nr_slots = nr;
	mutex_lock(&chain_registry_mutex);
	r = assign(ci);
	mutex_unlock(&chain_registry_mutex);
	return r;
}
