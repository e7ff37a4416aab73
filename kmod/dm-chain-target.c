// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device-mapper target: tables come and go.
 *
 * What can fail, fails in ctr: devices are opened, layers reserved, loaded and
 * marked, links checked, memory allocated. resume only sets pointers; preresume
 * refuses while the table before is on its way out. A table that contradicts the
 * headers, or that would change what a running disk shows, is refused.
 *
 * ctr tolerates being undone at any point: inst_free() looks at what is there.
 * The error in ti->error is always a constant string: the core prints it after
 * ctr has returned.
 */
#include <linux/module.h>
#include <linux/slab.h>

#include "dm-chain.h"

/* --- Devices --- */

static blk_mode_t dev_mode(u8 word)
{
	return word == CHAIN_WORD_RO ? BLK_OPEN_READ :
				       BLK_OPEN_READ | BLK_OPEN_WRITE;
}

/*
 * A device twice in a line would make dm's second open replace the first one
 * under our feet: find out before any is opened.
 */
static int check_duplicates(const struct chain_args *args, char **error)
{
	unsigned int i, j;
	dev_t *devts;
	int r = 0;

	devts = kvcalloc(args->nr, sizeof(*devts), GFP_KERNEL);
	if (!devts)
		return -ENOMEM;
	for (i = 0; i < args->nr && !r; i++) {
		r = chain_devt(args->layers[i].dev, &devts[i]);
		if (r)
			*error = "Cannot find a layer's device";
		for (j = 0; j < i && !r; j++) {
			if (devts[i] != devts[j])
				continue;
			*error = "A device stands twice in the table";
			r = -EINVAL;
		}
	}
	kvfree(devts);
	return r;
}

/* dm opens by number and doesn't ask whether the device may be written. */
static int check_device(struct chain_inst *ci, struct chain_att *att,
			char **error)
{
	if (chain_att_rw(att) && bdev_read_only(att->bdev)) {
		*error = "Layer's device is read-only, the table wants to write it";
		return -EROFS;
	}
	if (chain_att_rw(att) &&
	    !(dm_table_get_mode(ci->ti->table) & BLK_OPEN_WRITE)) {
		*error = "A read-only table can't have a layer rw";
		return -EROFS;
	}
	return 0;
}

/* What a table holds on its i-th layer. */
static u8 row_of(const struct chain_args *args, unsigned int i)
{
	bool export = args->layers[args->nr_next].word == CHAIN_WORD_RO;

	if (args->layers[i].word == CHAIN_WORD_TARGET)
		return DM_CHAIN_OPROLE_MIRROR_TARGET;
	if (i < args->nr_next)
		return DM_CHAIN_OPROLE_GUEST_NEXT;
	if (i == args->nr_next)
		return export ? DM_CHAIN_OPROLE_EXPORT_TOP :
				DM_CHAIN_OPROLE_GUEST_ACTIVE;
	if (args->layers[i].word == CHAIN_WORD_RW)
		return DM_CHAIN_OPROLE_GUEST_THROUGH;
	return export ? DM_CHAIN_OPROLE_EXPORT_LOWER :
			DM_CHAIN_OPROLE_GUEST_LOWER;
}

static const u8 access_of[][CHAIN_WHO_NR] = {
#define RO DM_CHAIN_ACCESS_RO
#define RW DM_CHAIN_ACCESS_RW
#define NONE DM_CHAIN_ACCESS_NONE
	/*				    guest, meta, job */
	[DM_CHAIN_OPROLE_GUEST_ACTIVE] =  { RW,    RW,   RO },
	[DM_CHAIN_OPROLE_GUEST_LOWER] =   { RO,    RO,   RO },
	[DM_CHAIN_OPROLE_GUEST_THROUGH] = { RO,    RW,   RW },
	[DM_CHAIN_OPROLE_GUEST_NEXT] =    { NONE,  RW,   NONE },
	[DM_CHAIN_OPROLE_EXPORT_TOP] =    { RO,    RO,   RO },
	[DM_CHAIN_OPROLE_EXPORT_LOWER] =  { RO,    RO,   RO },
	/* Until a job has it: see mirror_bind(). */
	[DM_CHAIN_OPROLE_MIRROR_TARGET] = { NONE,  RW,   NONE },
#undef RO
#undef RW
#undef NONE
};

static int open_device(struct chain_inst *ci, struct chain_att *att,
		       const struct chain_arg_layer *arg, u8 row, char **error)
{
	int r = dm_get_device(ci->ti, arg->dev, dev_mode(arg->word), &att->dev);

	if (r) {
		*error = "Cannot open a layer's device";
		return r;
	}
	att->bdev = att->dev->bdev;
	att->word = arg->word;
	att->row = row;
	memcpy(att->access, access_of[row], sizeof(att->access));
	return check_device(ci, att, error);
}

/* --- Does the table fit the headers, and the running disk --- */

static const char *link_error(enum chain_link_status s)
{
	switch (s) {
	case CHAIN_LINK_FORMAT:
		return "A layer's parent has another format than its header says";
	case CHAIN_LINK_UUID:
		return "A layer stands on another parent than its header says";
	case CHAIN_LINK_CID:
		return "A layer's parent was modified after the layer was made on it";
	case CHAIN_LINK_SIZE:
		return "A layer's raw parent has another size than its header says";
	case CHAIN_LINK_SPOILED:
		return "A layer was spoiled by a commit that the layer above is not part of";
	case CHAIN_LINK_PENDING:
		return "A layer waits for the decision of a change of several disks";
	default:
		return NULL;
	}
}

/* A running disk's own parent was checked when it was opened. */
static bool link_is_known(struct chain_inst *ci, unsigned int i)
{
	struct chain_inst *live;
	bool known = false;
	unsigned int j;

	mutex_lock(&chain_registry_mutex);
	live = ci->disk->live;
	for (j = 0; live && !known && j + 1 < live->nr; j++)
		known = live->order[j]->layer == ci->order[i]->layer &&
			live->order[j + 1]->layer == ci->order[i + 1]->layer;
	mutex_unlock(&chain_registry_mutex);
	return known;
}

static const struct chain_header *header_of(const struct chain_layer *l)
{
	return l->format == DM_CHAIN_FORMAT_CHAIN ? &l->hdr : NULL;
}

static int check_link(struct chain_inst *ci, unsigned int i,
		      const struct chain_header *through, char **error)
{
	struct chain_layer *child = ci->order[i]->layer;
	struct chain_layer *parent = ci->order[i + 1]->layer;
	enum chain_link_status s;
	struct chain_id fp = {};
	int r;

	if (child->format != DM_CHAIN_FORMAT_CHAIN) {
		*error = "Only the lowest layer can be raw";
		return -EINVAL;
	}
	if (link_is_known(ci, i))
		return 0;
	if (parent->format == DM_CHAIN_FORMAT_RAW &&
	    chain_link_raw_by_id(through)) {
		r = chain_raw_fingerprint(ci->order[i + 1], &fp);
		if (r) {
			*error = "Cannot read the raw layer";
			return r;
		}
	}
	s = chain_link_check(&child->hdr.parent, through, header_of(parent),
			     (u64)parent->size << SECTOR_SHIFT, &fp);
	/* Who only reads has asked the coordinator, and leaves it as it is. */
	if (s == CHAIN_LINK_OK ||
	    (s == CHAIN_LINK_PENDING && !chain_guest_rw(chain_top(ci))))
		return 0;
	*error = (char *)link_error(s);
	DMERR("%s: layer %u (%s): %s", ci->disk->name, i + 1,
	      ci->order[i + 1]->dev->name, *error);
	return -EINVAL;
}

/* Seen by way of a commit, where layers of its range end means nothing. */
static void lift_spoiled(struct chain_inst *ci)
{
	const struct chain_header *through = NULL;
	unsigned int i;

	for (i = 0; i < ci->nr; i++) {
		struct chain_layer *l = ci->order[i]->layer;

		if (through && !chain_is_base(through, header_of(l)) &&
		    l->hdr.marks & DM_CHAIN_MARK_SPOILED)
			WRITE_ONCE(l->lifted, true);
		through = chain_through(through, header_of(l));
	}
}

static int check_links(struct chain_inst *ci, char **error)
{
	struct chain_layer *last = ci->order[ci->nr - 1]->layer;
	const struct chain_header *through = NULL;
	unsigned int i;
	int r;

	for (i = 0; i + 1 < ci->nr; i++) {
		through = chain_through(through, header_of(ci->order[i]->layer));
		r = check_link(ci, i, through, error);
		if (r)
			return r;
	}
	lift_spoiled(ci);
	if (last->format == DM_CHAIN_FORMAT_CHAIN &&
	    last->hdr.parent.format != DM_CHAIN_FORMAT_NONE) {
		*error = "The table drops the layers below the last one";
		return -EINVAL;
	}
	return 0;
}

const char *chain_next_unfit(const struct chain_inst *ci)
{
	const struct chain_layer *top = chain_top(ci)->layer;
	const struct chain_layer *next = ci->next->layer;

	if (next->format != DM_CHAIN_FORMAT_CHAIN ||
	    next->hdr.parent.format != top->format ||
	    !chain_id_equal(&next->hdr.parent.uuid, &top->uuid))
		return "The layer in role next was not made for this top";
	if (next->size < ci->ti->len)
		return "The layer in role next is smaller than the disk";
	/* It was made before the top grew, say. */
	if (next->limit < min(next->size, top->size))
		return "The layer in role next does not show all of the disk";
	return NULL;
}

static int unfit(const char *why, char **error)
{
	if (why)
		*error = (char *)why;
	return why ? -EINVAL : 0;
}

/* A prepared top: made for this top, empty, and large enough, also to see all of it. */
static int check_next(struct chain_inst *ci, char **error)
{
	struct chain_layer *next;
	u64 count[4];
	int r;

	if (!ci->next)
		return 0;
	next = ci->next->layer;
	*error = "Cannot read the map of the layer in role next";
	if (next->format == DM_CHAIN_FORMAT_CHAIN) {
		r = chain_map_read_all(ci->next);
		if (r)
			return r;
	}
	r = unfit(chain_next_unfit(ci), error);
	if (r)
		return r;
	*error = "The layer in role next is not empty";
	chain_statemap_count(&next->map, count);
	return count[DM_CHAIN_ABSENT] == next->map.blocks ? 0 : -EINVAL;
}

static bool same_link(const struct chain_link *a, const struct chain_link *b)
{
	return a->format == b->format && a->size == b->size &&
	       chain_id_equal(&a->uuid, &b->uuid) &&
	       chain_id_equal(&a->cid, &b->cid);
}

const char *chain_target_unfit(const struct chain_inst *ci)
{
	const struct chain_layer *top = chain_top(ci)->layer;
	const struct chain_layer *to = ci->target->layer;

	if (to->size < top->size)
		return "The target of a mirror is smaller than its source";
	if (to->format == DM_CHAIN_FORMAT_RAW ||
	    to->hdr.parent.format == DM_CHAIN_FORMAT_NONE)
		return NULL;
	return top->format == DM_CHAIN_FORMAT_CHAIN &&
	       same_link(&to->hdr.parent, &top->hdr.parent) ? NULL :
	       "The target of a mirror stands on another parent than its source";
}

/*
 * A target of a mirror: as large as its source, at least. If it stands on
 * anything, then on what the source stands on. Is it running already, this has
 * been looked at: a parent's content id may have changed in the link since.
 */
static int check_target(struct chain_inst *ci, char **error)
{
	if (!ci->target)
		return 0;
	*error = "A read-only disk can't have a target of a mirror";
	if (!chain_guest_rw(chain_top(ci)))
		return -EINVAL;
	return unfit(chain_target_unfit(ci), error);
}

static int check_running(struct chain_inst *ci, char **error)
{
	unsigned int i, lbs;
	bool running, same, rw;

	mutex_lock(&chain_registry_mutex);
	running = ci->disk->live;
	same = running &&
	       chain_top(ci->disk->live)->layer == chain_top(ci)->layer;
	rw = same && chain_guest_rw(chain_top(ci->disk->live));
	mutex_unlock(&chain_registry_mutex);
	if (!running)
		return 0;
	if (!same) {
		*error = "The table has another top than the running one";
		return -EINVAL;
	}
	/* What it has written is made durable by its close, not by a reload. */
	if (rw && !chain_guest_rw(chain_top(ci))) {
		*error = "The running top is rw: close the disk to make it ro";
		return -EINVAL;
	}
	if (chain_drops_held(ci) || chain_jobs_lack_target(ci)) {
		*error = "The table drops a layer that a job holds";
		return -EBUSY;
	}
	if (chain_makes_ro(ci)) {
		*error = "The table makes a layer ro that a job writes";
		return -EBUSY;
	}
	lbs = bdev_logical_block_size(dm_disk(ci->disk->md)->part0);
	for (i = 0; i < ci->nr_atts; i++) {
		if (bdev_logical_block_size(ci->atts[i].bdev) <= lbs)
			continue;
		*error = "A layer's device has larger logical blocks than the running disk";
		return -EINVAL;
	}
	return 0;
}

static int check_size(struct chain_inst *ci, char **error)
{
	if (ci->ti->begin) {
		*error = "The target must begin at sector 0";
		return -EINVAL;
	}
	if (ci->ti->len <= chain_top(ci)->layer->size)
		return 0;
	*error = "The table is longer than its top layer";
	return -EINVAL;
}

static int check_table(struct chain_inst *ci, char **error)
{
	int r = check_size(ci, error);

	if (!r)
		r = check_running(ci, error);
	if (!r)
		r = check_links(ci, error);
	if (!r)
		r = check_next(ci, error);
	if (!r)
		r = check_target(ci, error);
	return r;
}

/* --- Making and freeing a table --- */

static void inst_free(struct chain_inst *ci)
{
	unsigned int i;

	if (!ci)
		return;
	chain_disk_dying(ci);
	for (i = 0; i < ci->nr_atts; i++)
		if (ci->atts[i].layer)
			chain_layer_put(ci->disk, &ci->atts[i]);
	chain_disk_leave(ci);
	for (i = 0; i < ci->nr_atts; i++)
		if (ci->atts[i].dev)
			dm_put_device(ci->ti, ci->atts[i].dev);
	chain_merge_destroy(ci->spare);
	kvfree(ci->by_slot);
	kvfree(ci->order);
	kvfree(ci->atts);
	kfree(ci);
}

static struct chain_inst *inst_alloc(struct dm_target *ti, unsigned int nr)
{
	struct chain_inst *ci = kzalloc(sizeof(*ci), GFP_KERNEL);

	if (!ci)
		return NULL;
	ci->ti = ti;
	INIT_LIST_HEAD(&ci->list);
	ci->atts = kvcalloc(nr, sizeof(*ci->atts), GFP_KERNEL);
	/* One more than there are: a switch puts what is new in front. */
	ci->order = kvcalloc(nr + 1, sizeof(*ci->order), GFP_KERNEL);
	if (!ci->atts || !ci->order) {
		inst_free(ci);
		return NULL;
	}
	return ci;
}

/* Open and load the layers; the topology is what is not "next". */
static int get_layers(struct chain_inst *ci, const struct chain_args *args,
		      char **error)
{
	unsigned int i;
	int r;

	for (i = 0; i < args->nr; i++) {
		struct chain_att *att = &ci->atts[i];

		ci->nr_atts = i + 1;
		r = open_device(ci, att, &args->layers[i], row_of(args, i),
				error);
		if (!r)
			r = chain_layer_get(ci->disk, att, args->layers[i].format,
					    error);
		if (r) {
			DMERR("%s: layer on %s: %s (%d)", ci->disk->name,
			      args->layers[i].dev, *error, r);
			return r;
		}
		if (att->word == CHAIN_WORD_NEXT)
			ci->next = att;
		else if (att->word == CHAIN_WORD_TARGET)
			ci->target = att;
		else
			ci->order[ci->nr++] = att;
	}
	return 0;
}

/* Last: what is refused has changed nothing on disk. */
static int open_layers(struct chain_inst *ci, bool force, char **error)
{
	unsigned int i;
	int r = 0;

	for (i = 0; i < ci->nr_atts && !r; i++)
		r = chain_layer_open(ci->disk, &ci->atts[i], force, error);
	if (r)
		DMERR("%s: layer on %s: %s (%d)", ci->disk->name,
		      ci->atts[i - 1].dev->name, *error, r);
	return r;
}

static int make_lookup(struct chain_inst *ci, char **error)
{
	int r = chain_disk_slots(ci);

	*error = "Cannot allocate memory for the lookup";
	if (r)
		return r;
	ci->spare = chain_lookup_create(chain_top(ci)->layer->size);
	return ci->spare ? 0 : -ENOMEM;
}

static int inst_fill(struct chain_inst *ci, const struct chain_args *args,
		     char **error)
{
	int r = check_duplicates(args, error);

	if (!r && args->nr_next > 1) {
		*error = "One layer at most can be next or target";
		r = -EINVAL;
	}
	if (!r)
		r = chain_disk_join(ci, error);
	if (!r)
		r = get_layers(ci, args, error);
	if (!r)
		r = check_table(ci, error);
	if (!r)
		r = make_lookup(ci, error);
	if (!r)
		r = open_layers(ci, args->force, error);
	return r;
}

static void set_features(struct dm_target *ti, const struct chain_inst *ci)
{
	bool chain = chain_top(ci)->layer->format == DM_CHAIN_FORMAT_CHAIN;

	ti->num_flush_bios = 1;
	ti->flush_supported = true;
	/* A raw layer can't promise that a discarded block reads zeroes. */
	ti->num_discard_bios = chain ? 1 : 0;
	ti->discards_supported = chain;
	ti->num_write_zeroes_bios = 1;
	ti->limit_swap_bios = true;
	ti->per_io_data_size = sizeof(struct chain_bio);
}

static int chain_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct chain_args args = {};
	struct chain_inst *ci;
	const char *why = NULL;
	int r;

	r = chain_args_parse(argc, argv, &args, &why);
	if (r) {
		ti->error = (char *)why;
		return r;
	}
	ci = inst_alloc(ti, args.nr);
	ti->error = "Cannot allocate memory for a table";
	r = ci ? inst_fill(ci, &args, &ti->error) : -ENOMEM;
	chain_args_free(&args);
	if (r) {
		inst_free(ci);
		return r;
	}
	ti->private = ci;
	set_features(ti, ci);
	return 0;
}

static void chain_dtr(struct dm_target *ti)
{
	inst_free(ti->private);
}

/* --- Suspend and resume --- */

/*
 * I/O goes on, jobs have to: the guest may wait for what they do just now. For the
 * worker, which may be reading a map, it is better to wait before it is held back.
 */
static void chain_presuspend(struct dm_target *ti)
{
	struct chain_inst *ci = ti->private;

	chain_jobs_hurry(ci->disk);
	chain_worker_stop(ci->disk);
}

static void chain_presuspend_undo(struct dm_target *ti)
{
	struct chain_inst *ci = ti->private;

	chain_worker_start(ci->disk);
	chain_jobs_go(ci->disk);
}

/* Quiet: no guest I/O is under way; stop what goes on without it. */
void chain_quiesce(struct chain_inst *ci)
{
	unsigned int i;

	for (i = 0; i < ci->nr_atts; i++)
		if (chain_att_rw(&ci->atts[i]))
			chain_meta_quiesce(ci->atts[i].layer);
}

static void chain_postsuspend(struct dm_target *ti)
{
	struct chain_inst *ci = ti->private;

	chain_jobs_stop(ci->disk);
	/* Who saw it not stopped yet has asked for a chunk, maybe. */
	chain_worker_stop(ci->disk);
	chain_quiesce(ci);
}

/* The maps' writers go on through this table's devices. */
static void bind_metas(struct chain_inst *ci)
{
	unsigned int i;

	for (i = 0; i < ci->nr_atts; i++) {
		if (!chain_att_rw(&ci->atts[i]))
			continue;
		chain_meta_bind(&ci->atts[i]);
		chain_meta_resume(ci->atts[i].layer);
		/* Who allowed it to be written may have gone meanwhile. */
		if (ci->atts[i].row == DM_CHAIN_OPROLE_GUEST_THROUGH)
			chain_disk_take_back(ci->disk);
	}
}

static bool has_row(const struct chain_inst *ci, const struct chain_layer *l,
		    u8 row)
{
	unsigned int i;

	for (i = 0; ci && i < ci->nr_atts; i++)
		if (ci->atts[i].layer == l && ci->atts[i].row == row)
			return true;
	return false;
}

/* Tokens learn which layers they may write from now on, and no longer. */
static void tell_upgrades(const struct chain_inst *old,
			  const struct chain_inst *ci)
{
	unsigned int i;

	lockdep_assert_held(&chain_registry_mutex);
	for (i = 0; i < ci->nr; i++) {
		const struct chain_layer *l = ci->order[i]->layer;
		bool was = has_row(old, l, DM_CHAIN_OPROLE_GUEST_THROUGH);
		bool is = ci->order[i]->row == DM_CHAIN_OPROLE_GUEST_THROUGH;

		if (was != is)
			chain_token_event(l, ci->disk, is ?
					  DM_CHAIN_EVENT_UPGRADED :
					  DM_CHAIN_EVENT_DOWNGRADED, i);
	}
}

/* A table that came before the live one went waits until that one's jobs have ended. */
static int chain_preresume(struct dm_target *ti)
{
	struct chain_inst *ci = ti->private;
	bool dying;

	mutex_lock(&chain_registry_mutex);
	dying = ci->disk->dying;
	mutex_unlock(&chain_registry_mutex);
	return dying ? -EBUSY : 0;
}

/* This table becomes the disk; sets pointers only, can't fail. */
static void chain_resume(struct dm_target *ti)
{
	struct chain_inst *ci = ti->private;
	struct chain_disk *disk = ci->disk;

	/* The table before may be on its way out. */
	mutex_lock(&chain_registry_mutex);
	if (!disk->merge || !disk->live ||
	    (disk->live != ci && !chain_same_below(disk->live, ci))) {
		swap(disk->merge, ci->spare);
		disk->unmerged = 0;
	}
	atomic64_set(&disk->want, 0);
	WRITE_ONCE(disk->full, false);
	if (disk->live != ci)
		tell_upgrades(disk->live, ci);
	disk->live = ci;
	disk->tracking = chain_guest_rw(chain_top(ci)) &&
			 READ_ONCE(chain_top(ci)->layer->tracks);
	chain_jobs_bind(disk);
	disk->unread = chain_unread(ci);
	mutex_unlock(&chain_registry_mutex);
	bind_metas(ci);
	chain_worker_start(disk);
	chain_jobs_go(disk);
}

/* --- What the core asks --- */

static void print_att(char *result, unsigned int maxlen, unsigned int *size,
		      const struct chain_att *att)
{
	unsigned int sz = *size;

	DMEMIT(" %s %s %s", att->dev->name,
	       chain_format_name(att->layer->format), chain_word_name(att->word));
	*size = sz;
}

static void print_table(const struct chain_inst *ci, char *result,
			unsigned int maxlen)
{
	const struct chain_att *extra = ci->next ?: ci->target;
	unsigned int sz = 0, i;

	/* What was dropped is not in the table that stands for this disk. */
	DMEMIT("%u", ci->nr + (extra ? 1 : 0));
	if (extra)
		print_att(result, maxlen, &sz, extra);
	for (i = 0; i < ci->nr; i++)
		print_att(result, maxlen, &sz, ci->order[i]);
}

static const char *mode_of(const struct chain_inst *ci)
{
	const struct chain_att *top = chain_top(ci);

	if (READ_ONCE(top->layer->failed) || READ_ONCE(ci->disk->failed))
		return "failed";
	return chain_guest_rw(top) ? "rw" : "ro";
}

static size_t merge_bytes(const struct chain_inst *ci)
{
	return ci->disk->merge ? chain_merge_bytes(ci->disk->merge) : 0;
}

/*
 * Status line:
 *	<rw|ro|failed> <#layers> lookup-bytes=<n> unmerged=<n> violations=<n>
 *	jobs=<n> unread=<n>
 *
 * More key=value pairs may come behind.
 */
static void chain_status(struct dm_target *ti, status_type_t type,
			 unsigned int flags, char *result, unsigned int maxlen)
{
	struct chain_inst *ci = ti->private;
	unsigned int sz = 0;

	/* A switch changes topology and lookup under it. */
	mutex_lock(&chain_registry_mutex);
	switch (type) {
	case STATUSTYPE_INFO:
		DMEMIT("%s %u lookup-bytes=%zu unmerged=%u violations=%lld jobs=%zu unread=%llu",
		       mode_of(ci), ci->nr, merge_bytes(ci),
		       READ_ONCE(ci->disk->unmerged),
		       atomic64_read(&chain_violations),
		       list_count_nodes(&ci->disk->jobs), chain_unread(ci));
		break;
	case STATUSTYPE_TABLE:
		print_table(ci, result, maxlen);
		break;
	case STATUSTYPE_IMA:
		DMEMIT_TARGET_NAME_VERSION(ti->type);
		DMEMIT(",mode=%s,layers=%u,top=%pUb,top_cid=%pUb;", mode_of(ci),
		       ci->nr, chain_top(ci)->layer->uuid.b,
		       chain_top(ci)->layer->hdr.cid.b);
		break;
	}
	mutex_unlock(&chain_registry_mutex);
}

static int chain_iterate_devices(struct dm_target *ti,
				 iterate_devices_callout_fn fn, void *data)
{
	struct chain_inst *ci = ti->private;
	unsigned int i;
	int r = 0;

	for (i = 0; i < ci->nr_atts && !r; i++) {
		struct chain_layer *l = ci->atts[i].layer;
		sector_t len = l->size;

		if (l->format == DM_CHAIN_FORMAT_CHAIN)
			len = round_up(len, block_sectors(l));
		r = fn(ti, ci->atts[i].dev, l->data_sector, len, data);
	}
	return r;
}

static void chain_io_hints(struct dm_target *ti, struct queue_limits *limits)
{
	struct chain_inst *ci = ti->private;
	struct chain_layer *l = chain_top(ci)->layer;
	unsigned int block = block_sectors(l) << SECTOR_SHIFT;
	sector_t most = (sector_t)CHAIN_LOCK_BLOCKS << l->block_sectors_shift;

	if (l->format != DM_CHAIN_FORMAT_CHAIN)
		return;
	limits->physical_block_size = max(limits->physical_block_size,
					  1U << CHAIN_UNIT_SHIFT);
	limits->io_min = max(limits->io_min, limits->physical_block_size);
	limits->io_opt = max(limits->io_opt, block);
	limits->discard_granularity = block;
	limits->max_hw_discard_sectors = min_t(sector_t, most,
					       UINT_MAX >> SECTOR_SHIFT);
	limits->max_discard_sectors = limits->max_hw_discard_sectors;
}

struct target_type chain_target = {
	.name = DM_CHAIN_TARGET,
	.version = { 1, 0, 0 },
	.features = DM_TARGET_SINGLETON | DM_TARGET_NOWAIT,
	.module = THIS_MODULE,
	.ctr = chain_ctr,
	.dtr = chain_dtr,
	.map = chain_map,
	.presuspend = chain_presuspend,
	.presuspend_undo = chain_presuspend_undo,
	.postsuspend = chain_postsuspend,
	.preresume = chain_preresume,
	.resume = chain_resume,
	.status = chain_status,
	.iterate_devices = chain_iterate_devices,
	.io_hints = chain_io_hints,
};
