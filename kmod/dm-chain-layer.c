// SPDX-License-Identifier: GPL-2.0-only
/*
 * Layers: the host-wide registry, and their headers.
 *
 * Owns: chain_layer objects. One for each UUID (raw: device number), found by
 * whoever's table names the device, freed when its last use goes.
 *
 * A layer is on one device. For a job that writes a lower layer it is attached
 * through a second one, as a loop device that was made read-only stays so: its
 * headers must be the same, and what is written through the new device must be
 * read through the old one, or it is a copy.
 *
 * Locking: registry_mutex for the list and the uses; never held over I/O, so
 * that a suspended disk below one chain can't stop another. The one who
 * inserts a layer loads it; others wait for @loaded. rw_mutex of the layer is
 * held over header I/O: it is taken in ctr, dtr and ioctls, never in a hook
 * between presuspend and resume, so that a resume never waits for I/O of
 * another disk.
 *
 * Crash order: opening read-write makes {in use, new content id} durable
 * before ctr returns, and so before any guest write; closing makes the maps
 * durable before the mark goes. Each update writes one slot, flushes, then the
 * other (H1), the stale one first, so that one valid slot stands at any time.
 *
 * Failure: an update that fails leaves the layer failed: what is on disk is
 * unknown, and nothing more is written until it is opened again.
 */
#include <linux/random.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "dm-chain.h"

/* The lists of layers and disks, and who uses what. */
DEFINE_MUTEX(chain_registry_mutex);
static LIST_HEAD(layers);
static u64 gone = 1;	/* registry_mutex */

void chain_random_id(struct chain_id *id)
{
	get_random_bytes(id->b, sizeof(id->b));
	id->b[6] = (id->b[6] & 0x0f) | 0x40;
	id->b[8] = (id->b[8] & 0x3f) | 0x80;
}

void chain_layer_fail(struct chain_layer *l, const char *what, int err)
{
	if (xchg(&l->failed, true))
		return;
	DMERR("layer %pUb on %u:%u: %s failed (%d); no more writes until it is opened again",
	      l->uuid.b, MAJOR(l->place[0].devt), MINOR(l->place[0].devt), what,
	      err);
}

/* --- Headers --- */

static const u64 slot_offset[2] = {
	DM_CHAIN_SLOT0_OFFSET, DM_CHAIN_SLOT1_OFFSET
};

/* Both slots as they are on disk; if one holds, an unreadable one is as good as damaged. */
static enum chain_header_status read_slots(struct chain_att *att, void *buf,
					   struct chain_header *h,
					   unsigned int *stale)
{
	void *slot[2];
	int i;

	for (i = 0; i < 2; i++) {
		slot[i] = buf + i * DM_CHAIN_HEADER_BYTES;
		if (chain_rw(att, CHAIN_META, slot_offset[i], slot[i], DM_CHAIN_HEADER_BYTES,
			     REQ_OP_READ))
			slot[i] = NULL;
	}
	return chain_header_pick(slot[0], slot[1], h, stale);
}

/*
 * Never fails: after a switch there is no way back. What takes references of pages
 * below us, as file systems do, takes them of each: so they are one compound.
 */
static void *alloc_slots(void)
{
	return (void *)__get_free_pages(GFP_KERNEL | __GFP_NOFAIL | __GFP_COMP, 1);
}

static void free_slots(void *buf)
{
	free_pages((unsigned long)buf, 1);
}

static int write_slot(struct chain_att *att, int i, void *buf)
{
	return chain_rw(att, CHAIN_META, slot_offset[i], buf, DM_CHAIN_HEADER_BYTES,
			REQ_OP_WRITE | REQ_FUA);
}

/* Rule H6: the slots must be as we left them, or another host writes here. */
static int check_ours(struct chain_att *att, void *buf, struct chain_header *h,
		      int *order)
{
	struct chain_layer *l = att->layer;
	enum chain_header_status s;
	unsigned int stale;

	s = read_slots(att, buf, h, &stale);
	if (s != CHAIN_HEADER_OK)
		return -EIO;
	if (h->generation != l->hdr.generation ||
	    !chain_id_equal(&h->use_nonce, &l->hdr.use_nonce))
		return -ESTALE;
	*order = stale & 2 ? 1 : 0;	/* a damaged or older slot goes first */
	return 0;
}

/* Which slot chain_layer_update(first) has not written. */
static int rest_of(const struct chain_att *att, const void *buf)
{
	const struct dm_chain_disk_header *d = buf;

	return le64_to_cpu(d->generation) == att->layer->hdr.generation ? 1 : 0;
}

/*
 * A layer that was moved names others as seen from where it lies now. Its first
 * update since is the mark of its use, which changes no path.
 */
static void keep_path(char *path, const char *known, const char *seen)
{
	if (!memcmp(path, known, DM_CHAIN_PATH_BYTES))
		memcpy(path, seen, DM_CHAIN_PATH_BYTES);
}

static int update_locked(struct chain_att *att, struct chain_header *hdr,
			 bool first, void *buf, struct chain_header *seen)
{
	const struct chain_header *known = &att->layer->hdr;
	int order = 0, r;

	r = check_ours(att, buf, seen, &order);
	if (r)
		return r;
	hdr->generation = seen->generation + 1;
	keep_path(hdr->parent_path, known->parent_path, seen->parent_path);
	keep_path(hdr->child_path, known->child_path, seen->child_path);
	chain_header_encode(hdr, buf);
	r = write_slot(att, order, buf);
	if (r)
		return r;
	att->layer->hdr = *hdr;
	/* What has given it another content id, or record, knows of no flags. */
	if (!chain_is_tracked(hdr))
		WRITE_ONCE(att->layer->tracks, false);
	return first ? 0 : write_slot(att, !order, buf);
}

int chain_layer_update(struct chain_att *att, struct chain_header *hdr,
		       bool first)
{
	struct chain_layer *l = att->layer;
	struct chain_header *seen;
	void *buf;
	int r;

	lockdep_assert_held(&l->rw_mutex);
	if (READ_ONCE(l->failed))
		return -EIO;
	buf = alloc_slots();
	seen = kmalloc(sizeof(*seen), GFP_KERNEL | __GFP_NOFAIL);
	r = update_locked(att, hdr, first, buf, seen);
	if (r)
		chain_layer_fail(l, r == -ESTALE ?
				 "another writer has the layer; header update" :
				 "header update", r);
	kfree(seen);
	free_slots(buf);
	return r;
}

int chain_layer_update_rest(struct chain_att *att)
{
	struct chain_layer *l = att->layer;
	void *buf = alloc_slots();
	int r, slot;

	lockdep_assert_held(&l->rw_mutex);
	r = chain_rw(att, CHAIN_META, slot_offset[0], buf, DM_CHAIN_HEADER_BYTES, REQ_OP_READ);
	slot = r ? 0 : rest_of(att, buf);
	chain_header_encode(&l->hdr, buf);
	r = write_slot(att, slot, buf);
	free_slots(buf);
	if (r)
		chain_layer_fail(l, "second header copy", r);
	return r;
}

int chain_layer_write_trailer(struct chain_att *att,
			      const struct chain_header *hdr)
{
	void *buf = alloc_slots();
	int r;

	chain_header_encode(hdr, buf);
	r = chain_rw(att, CHAIN_META, chain_trailer_offset(hdr), buf, DM_CHAIN_HEADER_BYTES,
		     REQ_OP_WRITE | REQ_FUA);
	free_slots(buf);
	return r;
}

/* --- Loading --- */

static void set_geometry(struct chain_layer *l)
{
	l->size = l->hdr.size >> SECTOR_SHIFT;
	l->limit = l->hdr.limit >> SECTOR_SHIFT;
	l->block_sectors_shift = l->hdr.block_shift - SECTOR_SHIFT;
	l->data_sector = l->hdr.data_offset >> SECTOR_SHIFT;
}

static int load_chain(struct chain_att *att, void *buf, char **error)
{
	struct chain_layer *l = att->layer;
	enum chain_header_status s;
	unsigned int stale;
	int r;

	/*
	 * A machine that crashed may have left what we are about to read in the
	 * device's cache only: nothing may be built on what a cut can take back.
	 */
	r = chain_flush_dev(att);
	if (r) {
		*error = "Cannot flush a layer's device";
		return r;
	}
	/* Again: it may have changed before the registry knew of us. */
	s = read_slots(att, buf, &l->hdr, &stale);
	if (s != CHAIN_HEADER_OK || !chain_id_equal(&l->hdr.uuid, &l->uuid)) {
		*error = "Layer header changed while it was opened";
		return -ESTALE;
	}
	if (bdev_nr_bytes(att->bdev) < chain_layer_bytes(&l->hdr)) {
		*error = "Layer is truncated: its device is smaller than its header says";
		return -EINVAL;
	}
	set_geometry(l);
	r = chain_statemap_init(&l->map, chain_blocks(&l->hdr));
	if (!r && chain_is_tracked(&l->hdr))
		r = chain_track_alloc(l, &l->track, &l->tracked);
	if (!r)
		r = chain_map_open(att);
	if (r)
		*error = "Cannot load the map of a layer";
	return r;
}

static int load_raw(struct chain_att *att, char **error)
{
	struct chain_layer *l = att->layer;
	int r = chain_flush_dev(att);

	l->size = bdev_nr_sectors(att->bdev);
	l->limit = 0;
	l->block_sectors_shift = CHAIN_UNIT_SHIFT - SECTOR_SHIFT;
	if (r)
		*error = "Cannot flush a layer's device";
	return r;
}

/* --- Registry --- */

static struct chain_place *find_place(struct chain_layer *l, dev_t devt)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(l->place); i++)
		if (l->place[i].devt == devt)
			return &l->place[i];
	return NULL;
}

static struct chain_layer *find_layer(u32 format, const struct chain_id *uuid,
				      dev_t devt)
{
	struct chain_layer *l;

	lockdep_assert_held(&chain_registry_mutex);
	list_for_each_entry(l, &layers, list) {
		if (l->format != format)
			continue;
		if (format == DM_CHAIN_FORMAT_CHAIN ?
		    chain_id_equal(&l->uuid, uuid) : !!find_place(l, devt))
			return l;
	}
	return NULL;
}

/* Another layer on the same device: one of the two formats must be wrong. */
static bool device_taken(const struct chain_layer *me, dev_t devt)
{
	struct chain_layer *l;

	lockdep_assert_held(&chain_registry_mutex);
	list_for_each_entry(l, &layers, list)
		if (l != me && find_place(l, devt))
			return true;
	return false;
}

/*
 * A layer moves to another device only for a job of its one disk, which is to write
 * it there, or for who has copied it.
 */
static bool may_move(const struct chain_layer *l, const struct chain_disk *disk,
		     const struct chain_att *att)
{
	const struct chain_use *u = chain_find_use(l, disk);

	/* Once it is written it stays where it is. */
	if (!u || u->nr[DM_CHAIN_OPROLE_GUEST_THROUGH] ||
	    !list_is_singular(&l->uses) || l->place[1].devt)
		return false;
	return att->row == DM_CHAIN_OPROLE_GUEST_THROUGH ||
	       (att->row == DM_CHAIN_OPROLE_GUEST_LOWER &&
		chain_copied_by_token(l, disk));
}

/* A raw layer has no name but its device: it is the lowest, before and after. */
static struct chain_layer *raw_elsewhere(const struct chain_disk *disk,
					 const struct chain_att *att)
{
	struct chain_layer *l;

	if (!disk->live)
		return NULL;
	l = disk->live->order[disk->live->nr - 1]->layer;
	return l->format == DM_CHAIN_FORMAT_RAW && may_move(l, disk, att) ?
	       l : NULL;
}

static struct chain_layer *alloc_layer(u32 format, const struct chain_id *uuid)
{
	struct chain_layer *l = kzalloc(sizeof(*l), GFP_KERNEL);

	if (!l)
		return NULL;
	INIT_LIST_HEAD(&l->list);
	INIT_LIST_HEAD(&l->uses);
	INIT_LIST_HEAD(&l->grants);
	init_completion(&l->loaded);
	mutex_init(&l->rw_mutex);
	mutex_init(&l->load_mutex);
	l->format = format;
	if (uuid)
		l->uuid = *uuid;
	return l;
}

static void free_layer(struct chain_layer *l)
{
	WARN_ON_ONCE(l->meta);
	if (l->format == DM_CHAIN_FORMAT_CHAIN)
		chain_statemap_exit(&l->map);
	kvfree(l->todo);
	kvfree(l->track);
	kvfree(l->tracked);
	kfree(l);
}

static void enter_place(struct chain_layer *l, const struct chain_att *att)
{
	struct chain_place *p = find_place(l, att->bdev->bd_dev);

	if (!p) {
		p = l->place[0].devt ? &l->place[1] : &l->place[0];
		p->devt = att->bdev->bd_dev;
	}
	p->nr++;
}

static void leave_place(struct chain_layer *l, const struct chain_att *att)
{
	struct chain_place *p = find_place(l, att->bdev->bd_dev);

	if (--p->nr)
		return;
	gone++;
	if (p == &l->place[0])
		l->place[0] = l->place[1];
	memset(&l->place[1], 0, sizeof(l->place[1]));
}

/* Drop a use; true if it was the last of the layer, which is then unlinked. */
static bool drop_use(struct chain_layer *l, struct chain_disk *disk,
		     struct chain_att *att)
{
	bool last;

	mutex_lock(&chain_registry_mutex);
	chain_use_drop(l, disk, att);
	leave_place(l, att);
	att->layer = NULL;
	last = list_empty(&l->uses);
	if (last)
		list_del_init(&l->list);
	mutex_unlock(&chain_registry_mutex);
	return last;
}

/* Where the layer is, or may be, found; an error: it must not be there. */
static struct chain_layer *locate(struct chain_disk *disk,
				  struct chain_att *att,
				  struct chain_layer *fresh, char **error)
{
	dev_t devt = att->bdev->bd_dev;
	struct chain_layer *l;

	l = find_layer(fresh->format, &fresh->uuid, devt);
	if (!l && fresh->format == DM_CHAIN_FORMAT_RAW)
		l = raw_elsewhere(disk, att);
	if (att->row == DM_CHAIN_OPROLE_GUEST_THROUGH &&
	    (!l || !chain_written_by_job(l, disk))) {
		*error = "A lower layer can be rw only while a job of the disk may write it";
		return ERR_PTR(-EPERM);
	}
	if (l && !find_place(l, devt) && !may_move(l, disk, att)) {
		*error = "Layer's UUID is in use on another device: a copy needs a new id";
		return ERR_PTR(-EBUSY);
	}
	if (att->row == DM_CHAIN_OPROLE_GUEST_THROUGH &&
	    !list_is_singular(&l->uses)) {
		*error = "A layer that another disk has can't be rw";
		return ERR_PTR(-EBUSY);
	}
	if (l && (att->row == DM_CHAIN_OPROLE_GUEST_THROUGH ||
		  att->row == DM_CHAIN_OPROLE_GUEST_ACTIVE))
		att->access[CHAIN_JOB] = chain_job_access(l, disk);
	if (device_taken(l, devt)) {
		*error = "Device is in use as a layer of another format or UUID";
		return ERR_PTR(-EBUSY);
	}
	return l;
}

/*
 * Find the layer, or insert @fresh in state loading. Returns the layer with a
 * use added, or an error.
 */
static struct chain_layer *insert(struct chain_disk *disk,
				  struct chain_att *att,
				  struct chain_layer *fresh,
				  struct chain_use *spare, char **error)
{
	struct chain_layer *l;
	int r;

	mutex_lock(&chain_registry_mutex);
	l = locate(disk, att, fresh, error);
	if (IS_ERR(l))
		goto out;
	if (!l) {
		l = fresh;
		list_add(&l->list, &layers);
	}
	r = chain_use_add(l, disk, att, spare);
	if (r) {
		*error = "Layer is in use by another disk";
		if (l == fresh)
			list_del_init(&l->list);
		l = ERR_PTR(r);
		goto out;
	}
	enter_place(l, att);
out:
	mutex_unlock(&chain_registry_mutex);
	return l;
}

/* UUID of the chain layer on an attachment's device, from its header. */
static int peek(struct chain_att *att, struct chain_id *uuid, void *buf,
		char **error)
{
	struct chain_header *h = kmalloc(sizeof(*h), GFP_KERNEL);
	enum chain_header_status s;
	unsigned int stale;

	if (!h)
		return -ENOMEM;
	if (bdev_nr_bytes(att->bdev) < DM_CHAIN_PRESENCE_OFFSET) {
		*error = "Device is too small for a chain layer";
		kfree(h);
		return -EINVAL;
	}
	s = read_slots(att, buf, h, &stale);
	if (s == CHAIN_HEADER_OK)
		*uuid = h->uuid;
	kfree(h);
	if (s == CHAIN_HEADER_OK)
		return 0;
	*error = (char *)chain_header_strerror(s);
	return -EINVAL;
}

static int load(struct chain_att *att, void *buf, char **error)
{
	struct chain_layer *l = att->layer;

	if (l->format == DM_CHAIN_FORMAT_RAW)
		l->load_error = load_raw(att, error);
	else
		l->load_error = load_chain(att, buf, error);
	complete_all(&l->loaded);
	return l->load_error;
}

/* Are the headers on the attachment's device what they are in memory? */
static int compare_header(struct chain_att *att, const struct chain_layer *l,
			  char **error)
{
	struct chain_header *h = kmalloc(sizeof(*h), GFP_KERNEL);
	void *buf = alloc_slots();
	unsigned int stale;
	int r = -ENOMEM;

	if (h) {
		r = -EBUSY;
		if (read_slots(att, buf, h, &stale) == CHAIN_HEADER_OK &&
		    h->generation == l->hdr.generation &&
		    chain_id_equal(&h->cid, &l->hdr.cid) &&
		    chain_id_equal(&h->use_nonce, &l->hdr.use_nonce))
			r = 0;
		else
			*error = "Device holds a copy of the layer: a copy needs a new id";
	}
	free_slots(buf);
	kfree(h);
	return r;
}

/* The disk's own attachment of a layer through another device, if any. */
static struct chain_att *other_att(struct chain_inst *live,
				   const struct chain_att *att)
{
	unsigned int i;

	for (i = 0; i < live->nr_atts; i++)
		if (live->atts[i].layer == att->layer &&
		    live->atts[i].bdev->bd_dev != att->bdev->bd_dev)
			return &live->atts[i];
	return NULL;
}

/* Asks it; -ENOENT: the disk has the layer on the very device of @att. */
static int ask_other(struct chain_disk *disk, const struct chain_att *att,
		     int (*ask)(struct chain_att *other, void *arg), void *arg)
{
	struct chain_inst *live;
	struct chain_att *other;
	int r = chain_disk_pin(disk->devt, &live);

	if (r)
		return r;
	other = other_att(live, att);
	r = other ? ask(other, arg) : -ENOENT;
	chain_disk_unpin(disk);
	return r;
}

static int ask_fingerprint(struct chain_att *att, void *fp)
{
	return chain_raw_fingerprint(att, fp);
}

static int ask_map(struct chain_att *att, void *unused)
{
	return chain_map_read_all(att);
}

/* A raw layer can be known by its samples only. */
static int compare_raw(struct chain_disk *disk, struct chain_att *att,
		       char **error)
{
	struct chain_id old = {}, new;
	int r = ask_other(disk, att, ask_fingerprint, &old);

	if (r == -ENOENT)
		return 0;
	*error = "Cannot read the raw layer";
	if (!r)
		r = chain_raw_fingerprint(att, &new);
	if (r)
		return r;
	if (bdev_nr_sectors(att->bdev) == att->layer->size &&
	    chain_id_equal(&old, &new))
		return 0;
	*error = "Device is not the raw layer that the disk has";
	return -EBUSY;
}

static bool same_map(const struct chain_statemap *a,
		     const struct chain_statemap *b, u64 *words)
{
	u64 group, groups = chain_blocks_to_groups(a->blocks);

	for (group = 0; group < groups; group++) {
		chain_statemap_read_group(a, group, words);
		chain_statemap_read_group(b, group, words + CHAIN_GROUP_WORDS);
		if (memcmp(words, words + CHAIN_GROUP_WORDS,
			   CHAIN_GROUP_WORDS * sizeof(*words)))
			return false;
		cond_resched();
	}
	return true;
}

/* By header and map as they are in memory the copy will be read. */
static int check_copy(const struct chain_layer *copy, const struct chain_layer *l,
		      void *buf, u64 *words, char **error)
{
	if (chain_header_same(&copy->hdr, &l->hdr, buf) &&
	    same_map(&copy->map, &l->map, words))
		return 0;
	*error = "Device holds another state of the layer: it is no copy of it";
	return -EBUSY;
}

static int compare_copy(const struct chain_att *att, struct chain_layer *l, char **error)
{
	struct chain_layer *copy = alloc_layer(l->format, &l->uuid);
	struct chain_att *probe = kmemdup(att, sizeof(*att), GFP_KERNEL);
	u64 *words = kmalloc_array(2 * CHAIN_GROUP_WORDS, sizeof(*words), GFP_KERNEL);
	void *buf = alloc_slots();
	int r = -ENOMEM;

	if (copy && probe && words) {
		probe->layer = copy;
		r = load_chain(probe, buf, error);
		if (!r)
			r = chain_map_read_all(probe);
		if (!r)
			r = check_copy(copy, l, buf, words, error);
	}
	free_slots(buf);
	kfree(words);
	kfree(probe);
	if (copy)
		free_layer(copy);
	return r;
}

/* What a copy is compared with. */
static int read_original(struct chain_disk *disk, struct chain_att *att, char **error)
{
	int r = ask_other(disk, att, ask_map, NULL);

	*error = "Cannot read the map of a layer";
	return r == -ENOENT ? chain_map_read_all(att) : r;
}

/* A layer that is there already, on a device of its own: is it the same? */
static int prove_same(struct chain_disk *disk, struct chain_att *att,
		      char **error)
{
	struct chain_layer *l = att->layer;
	bool copy = att->row == DM_CHAIN_OPROLE_GUEST_LOWER;
	bool moves;
	int r;

	mutex_lock(&chain_registry_mutex);
	moves = find_place(l, att->bdev->bd_dev) != &l->place[0];
	mutex_unlock(&chain_registry_mutex);
	if (!moves)
		return 0;
	if (l->format == DM_CHAIN_FORMAT_RAW)
		return compare_raw(disk, att, error);
	r = copy ? read_original(disk, att, error) : 0;
	if (r)
		return r;
	mutex_lock(&l->rw_mutex);
	r = compare_header(att, l, error);
	if (!r && copy)
		r = compare_copy(att, l, error);
	mutex_unlock(&l->rw_mutex);
	return r;
}

static int wait_loaded(struct chain_layer *l, char **error)
{
	if (wait_for_completion_killable(&l->loaded)) {
		*error = "Interrupted while another disk loads a layer";
		return -EINTR;
	}
	if (l->load_error)
		*error = "Cannot load the map of a layer";
	return l->load_error;
}

/* --- Opening and closing read-write --- */

static const char *marks_forbid_write(const struct chain_header *h)
{
	if (h->marks & DM_CHAIN_MARK_SEALED)
		return "Top layer is sealed: another layer stands on it";
	if (h->marks & DM_CHAIN_MARK_SPOILED)
		return "Top layer was spoiled by a commit";
	if (h->marks & DM_CHAIN_MARK_PENDING)
		return "Top layer waits for the decision of a change of several disks";
	if (h->marks & DM_CHAIN_MARK_RETIRED)
		return "Top layer is retired: the disk went on elsewhere";
	if (h->marks & (DM_CHAIN_MARK_INCOMPLETE | DM_CHAIN_MARK_PREPARED))
		return "Top layer is an incomplete copy";
	if (h->compat_ro & ~DM_CHAIN_COMPAT_RO_KNOWN)
		return "Top layer has a feature that only allows reading";
	return NULL;
}

/* A copy may be begun again; nothing else that is of use to anybody. */
static const char *target_forbids_write(const struct chain_header *h)
{
	if (h->marks & DM_CHAIN_MARK_SEALED)
		return "Target is sealed: another layer stands on it";
	if (h->marks & (DM_CHAIN_MARK_SPOILED | DM_CHAIN_MARK_PENDING |
			DM_CHAIN_MARK_RETIRED | DM_CHAIN_MARK_JOB))
		return "Target is part of a job or of another disk";
	if (h->compat_ro & ~DM_CHAIN_COMPAT_RO_KNOWN)
		return "Target has a feature that only allows reading";
	return NULL;
}

static const char *lower_forbids_write(const struct chain_header *h)
{
	if (h->compat_ro & ~DM_CHAIN_COMPAT_RO_KNOWN)
		return "Layer has a feature that only allows reading";
	return NULL;
}

static const char *row_forbids_write(const struct chain_header *h, u8 row)
{
	switch (row) {
	case DM_CHAIN_OPROLE_GUEST_THROUGH:
		/* Seals and marks of commits are for the job to know. */
		return lower_forbids_write(h);
	case DM_CHAIN_OPROLE_MIRROR_TARGET:
		return target_forbids_write(h);
	default:
		return marks_forbid_write(h);
	}
}

/*
 * Another machine, or another copy of what this kernel had open? A lower layer or
 * a target that failed under a job keeps its mark: nobody else has its UUID open
 * here, and it is no disk by itself.
 */
static const char *use_forbids_write(const struct chain_header *h, bool lower)
{
	struct chain_id host;

	if (!(h->marks & DM_CHAIN_MARK_IN_USE))
		return NULL;
	chain_host_id(&host);
	if (!chain_id_equal(&h->use_host, &host))
		return "Layer is in use by another machine (feature force takes it)";
	if (!lower && chain_id_equal(&h->use_boot, &chain_instance))
		return "Layer is a copy of an open one (feature force takes it)";
	return NULL;	/* this machine crashed: nothing to repair */
}

/* What is seen at a lower layer stays, until the job says otherwise. */
static void mark_in_use(struct chain_header *h, bool lower)
{
	bool tracked;

	h->marks |= DM_CHAIN_MARK_IN_USE;
	chain_host_id(&h->use_host);
	h->use_boot = chain_instance;
	chain_random_id(&h->use_nonce);
	if (lower)
		return;
	tracked = chain_is_tracked(h);
	chain_random_id(&h->cid);
	/* Who opens it tracks its changes, and says so. */
	if (tracked)
		h->record.c0 = h->cid;
}

static int open_rw_locked(struct chain_disk *disk, struct chain_att *att,
			  bool force, char **error)
{
	struct chain_layer *l = att->layer;
	struct chain_header *h;
	bool lower = att->row == DM_CHAIN_OPROLE_GUEST_THROUGH;
	const char *no;
	int r;

	if (l->meta)
		return 0;
	if (lower && READ_ONCE(l->failed)) {
		*error = "Layer has failed: close the disk first";
		return -EIO;
	}
	no = row_forbids_write(&l->hdr, att->row);
	if (!no && !force)
		no = use_forbids_write(&l->hdr, lower ||
				       l->hdr.marks & (DM_CHAIN_MARK_INCOMPLETE |
						       DM_CHAIN_MARK_PREPARED));
	if (no) {
		*error = (char *)no;
		return -EBUSY;
	}
	h = kmemdup(&l->hdr, sizeof(*h), GFP_KERNEL);
	if (!h)
		return -ENOMEM;
	l->failed = false;
	mark_in_use(h, lower);
	r = chain_meta_create(att, disk->wq);
	if (!r)
		r = chain_layer_update(att, h, false);
	/* The flags are those of the load: nobody has written it since. */
	if (!r && !lower)
		l->tracks = l->track && chain_is_tracked(h);
	if (r) {
		*error = "Cannot mark a layer as in use";
		chain_meta_destroy(l);
	}
	kfree(h);
	return r;
}

/*
 * The mark has been written through the new device: is it seen through the old
 * one? If not, the new one is a copy, and gets back what it had.
 */
static int prove_written(struct chain_inst *live, struct chain_att *att,
			 const struct chain_header *before, char **error)
{
	struct chain_att *old = other_att(live, att);
	struct chain_layer *l = att->layer;
	struct chain_header *h;
	int r = old ? compare_header(old, l, error) : 0;

	if (!r)
		return 0;
	h = kmemdup(before, sizeof(*h), GFP_KERNEL | __GFP_NOFAIL);
	chain_layer_update(att, h, false);
	kfree(h);
	chain_meta_destroy(l);
	l->hdr = *before;
	return r;
}

static int open_lower_locked(struct chain_disk *disk, struct chain_inst *live,
			     struct chain_att *att, bool force, char **error)
{
	struct chain_layer *l = att->layer;
	struct chain_header *before;
	int r;

	if (l->meta)
		return 0;
	before = kmemdup(&l->hdr, sizeof(*before), GFP_KERNEL);
	if (!before)
		return -ENOMEM;
	r = open_rw_locked(disk, att, force, error);
	if (!r)
		r = prove_written(live, att, before, error);
	kfree(before);
	return r;
}

/* The pin is outside of the mutex: queries take them in this order. */
static int open_lower(struct chain_disk *disk, struct chain_att *att,
		      bool force, char **error)
{
	struct chain_inst *live;
	int r = chain_disk_pin(disk->devt, &live);

	if (r) {
		*error = "The disk goes away";
		return r;
	}
	mutex_lock(&att->layer->rw_mutex);
	r = open_lower_locked(disk, live, att, force, error);
	mutex_unlock(&att->layer->rw_mutex);
	chain_disk_unpin(disk);
	return r;
}

int chain_layer_open(struct chain_disk *disk, struct chain_att *att, bool force,
		     char **error)
{
	struct chain_layer *l = att->layer;
	int r;

	if (!chain_att_rw(att) || l->format == DM_CHAIN_FORMAT_RAW)
		return 0;
	if (att->row == DM_CHAIN_OPROLE_GUEST_THROUGH)
		return open_lower(disk, att, force, error);
	mutex_lock(&l->rw_mutex);
	r = open_rw_locked(disk, att, force, error);
	mutex_unlock(&l->rw_mutex);
	return r;
}

static void close_rw(struct chain_att *att)
{
	struct chain_layer *l = att->layer;
	/* Who can't write it would leave a layer that looks open. */
	struct chain_header *h = kmemdup(&l->hdr, sizeof(*h),
					 GFP_KERNEL | __GFP_NOFAIL);

	lockdep_assert_held(&l->rw_mutex);
	chain_meta_bind(att);
	if (!READ_ONCE(l->failed) && !chain_meta_sync(l)) {
		h->marks &= ~DM_CHAIN_MARK_IN_USE;
		memset(&h->use_host, 0, sizeof(h->use_host));
		memset(&h->use_boot, 0, sizeof(h->use_boot));
		memset(&h->use_nonce, 0, sizeof(h->use_nonce));
		chain_layer_update(att, h, false);
	}
	chain_meta_destroy(l);
	kfree(h);
}

/*
 * Is this the only attachment of its disk that writes the layer? If not it writes no
 * more: of two tables that go at once the second sees that it is the last one.
 */
static bool last_writer(struct chain_disk *disk, struct chain_att *att)
{
	const struct chain_use *u;
	unsigned int n;

	mutex_lock(&chain_registry_mutex);
	u = chain_find_use(att->layer, disk);
	n = u->nr[DM_CHAIN_OPROLE_GUEST_ACTIVE] +
	    u->nr[DM_CHAIN_OPROLE_GUEST_NEXT] +
	    u->nr[DM_CHAIN_OPROLE_GUEST_THROUGH] +
	    u->nr[DM_CHAIN_OPROLE_MIRROR_TARGET];
	if (n > 1)
		chain_use_change(disk, att, DM_CHAIN_OPROLE_GUEST_LOWER);
	mutex_unlock(&chain_registry_mutex);
	return n == 1;
}

void chain_layer_take_back(struct chain_disk *disk, struct chain_att *att)
{
	struct chain_layer *l = att->layer;

	mutex_lock(&l->rw_mutex);
	if (l->meta)
		close_rw(att);
	else if (chain_flush_dev(att))
		chain_layer_fail(l, "flush", -EIO);
	mutex_lock(&chain_registry_mutex);
	WRITE_ONCE(att->access[CHAIN_META], DM_CHAIN_ACCESS_RO);
	/* Closed already, unless the table came when the token went. */
	WRITE_ONCE(att->access[CHAIN_JOB], DM_CHAIN_ACCESS_RO);
	chain_use_change(disk, att, DM_CHAIN_OPROLE_GUEST_LOWER);
	att->word = CHAIN_WORD_RO;
	mutex_unlock(&chain_registry_mutex);
	mutex_unlock(&l->rw_mutex);
}

/* --- For tables --- */

static int get_uuid_and_layer(struct chain_disk *disk, struct chain_att *att,
			      u32 format, void *buf, char **error)
{
	struct chain_use *spare = kzalloc(sizeof(*spare), GFP_KERNEL);
	struct chain_id uuid = {};
	struct chain_layer *fresh, *l;
	int r;

	if (!spare)
		return -ENOMEM;
	if (format == DM_CHAIN_FORMAT_CHAIN) {
		r = peek(att, &uuid, buf, error);
		if (r)
			goto out;
	}
	r = -ENOMEM;
	fresh = alloc_layer(format, &uuid);
	if (!fresh)
		goto out;
	l = insert(disk, att, fresh, spare, error);
	if (l != fresh)
		free_layer(fresh);
	if (IS_ERR(l)) {
		r = PTR_ERR(l);
		goto out;
	}
	att->layer = l;
	if (spare->disk)	/* taken as the disk's first use of the layer */
		spare = NULL;
	r = l == fresh ? load(att, buf, error) : wait_loaded(l, error);
	if (!r && l != fresh)
		r = prove_same(disk, att, error);
out:
	kfree(spare);
	return r;
}

int chain_layer_get(struct chain_disk *disk, struct chain_att *att, u32 format,
		    char **error)
{
	void *buf = alloc_slots();
	struct chain_layer *l;
	int r;

	*error = "Cannot allocate memory for a layer";
	r = get_uuid_and_layer(disk, att, format, buf, error);
	free_slots(buf);
	if (!r)
		att->data_sector = att->layer->data_sector;
	l = att->layer;
	if (r && l && drop_use(l, disk, att))
		free_layer(l);
	return r;
}

void chain_layer_put(struct chain_disk *disk, struct chain_att *att)
{
	struct chain_layer *l = att->layer;

	if (!l)
		return;
	mutex_lock(&l->rw_mutex);
	if (chain_att_rw(att) && l->meta && last_writer(disk, att))
		close_rw(att);
	mutex_unlock(&l->rw_mutex);
	if (drop_use(l, disk, att))
		free_layer(l);
}

/* One sample, a page at a time: a commit record must not fail for memory. */
static int fingerprint_sample(struct chain_att *att, struct chain_id *fp,
			      unsigned int i, void *page)
{
	u64 offset, size = (u64)att->layer->size << SECTOR_SHIFT;
	u32 len, n;
	int r;

	chain_raw_sample(size, i, &offset, &len);
	for (; len; offset += n, len -= n) {
		n = min_t(u32, len, PAGE_SIZE);
		r = chain_rw(att, CHAIN_META, offset, page, n, REQ_OP_READ);
		if (r)
			return r;
		chain_raw_fingerprint_update(fp, i, page, n);
	}
	return 0;
}

int chain_raw_fingerprint(struct chain_att *att, struct chain_id *fp)
{
	void *page = (void *)__get_free_page(GFP_KERNEL | __GFP_NOFAIL);
	unsigned int i;
	int r = 0;

	memset(fp, 0, sizeof(*fp));
	for (i = 0; i < CHAIN_RAW_SAMPLES && !r; i++)
		r = fingerprint_sample(att, fp, i, page);
	free_page((unsigned long)page);
	return r;
}

void chain_layers_fill(struct chain_holders_out *out)
{
	const struct chain_layer *l;

	lockdep_assert_held(&chain_registry_mutex);
	list_for_each_entry(l, &layers, list)
		chain_holders_fill(l, out);
}

void chain_layer_fill(dev_t devt, const struct chain_id *uuid, struct chain_holders_out *out)
{
	bool by_uuid = !chain_id_is_null(uuid);
	struct chain_layer *l;

	lockdep_assert_held(&chain_registry_mutex);
	list_for_each_entry(l, &layers, list)
		if ((devt && find_place(l, devt)) ||
		    (by_uuid && chain_id_equal(&l->uuid, uuid)))
			chain_holders_fill(l, out);
}

u64 chain_layers_gone(void)
{
	lockdep_assert_held(&chain_registry_mutex);
	return gone;
}

void chain_layer_exit(void)
{
	WARN_ON(!list_empty(&layers));
}
