// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/dm-chain: ioctls. Arguments are extensible structs: the number of a
 * call counts, its size is the caller's (see uapi/linux/dm-chain.h).
 *
 * Locking: queries pin the disk, so that no table of it is torn down and no
 * switch changes it meanwhile; they hold no other lock while they scan maps.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "dm-chain.h"

struct chain_id chain_instance;
static struct chain_id host_id;

/*
 * A descriptor: whether it holds RCU expedited, and what it tells of; the mutex
 * is its own. @monitor stays when it is set.
 */
struct ctl {
	struct mutex mutex;	/* both */
	bool expedited;
	struct chain_monitor *monitor;
};

union arg {
	struct dm_chain_version version;
	struct dm_chain_switch sw;
	struct dm_chain_resize resize;
	struct dm_chain_layers layers;
	struct dm_chain_map map;
	struct dm_chain_expedite expedite;
	struct dm_chain_holders holders;
	struct dm_chain_acquire acquire;
	struct dm_chain_job_start start;
	struct dm_chain_jobs jobs;
	struct dm_chain_job_verb verb;
	struct dm_chain_monitor monitor;
	struct dm_chain_relink relink;
	struct dm_chain_openers openers;
};

/*
 * A call under way. @file: a descriptor to be installed once the caller has
 * been told its number. @usize: what the caller has room for.
 */
struct call {
	struct ctl *ctl;
	union arg arg;
	struct file *file;
	size_t usize;
};

void chain_host_id(struct chain_id *host)
{
	mutex_lock(&chain_registry_mutex);
	*host = host_id;
	mutex_unlock(&chain_registry_mutex);
}

/* --- Calls --- */

static int do_version(struct call *call)
{
	struct dm_chain_version *v = &call->arg.version;
	struct chain_id host;
	int r = 0;

	if (v->flags)
		return -EINVAL;
	memcpy(host.b, v->host, sizeof(host.b));
	mutex_lock(&chain_registry_mutex);
	if (!chain_id_is_null(&host) && !chain_id_equal(&host, &host_id)) {
		if (!chain_id_is_null(&host_id) && chain_any_disk())
			r = -EBUSY;
		else
			host_id = host;
	}
	memcpy(v->host, host_id.b, sizeof(v->host));
	v->gone = chain_layers_gone();
	mutex_unlock(&chain_registry_mutex);
	v->abi = DM_CHAIN_ABI;
	memcpy(v->instance, chain_instance.b, sizeof(v->instance));
	return r;
}

static int do_switch(struct call *call)
{
	return chain_switch(&call->arg.sw);
}

static int do_resize(struct call *call)
{
	return chain_resize(&call->arg.resize);
}

static void fill_chain(const struct chain_layer *l, struct dm_chain_layer *out)
{
	u64 count[4];

	chain_statemap_count(&l->map, count);
	out->block_size = 1U << l->hdr.block_shift;
	out->data_bytes = count[DM_CHAIN_DATA] << l->hdr.block_shift;
	out->zero_bytes = count[DM_CHAIN_ZERO] << l->hdr.block_shift;
	out->damaged_bytes = count[DM_CHAIN_DAMAGED] << l->hdr.block_shift;
	out->map_bytes = chain_statemap_bytes(&l->map);
	out->marks = l->hdr.marks;
	memcpy(out->uuid, l->uuid.b, sizeof(out->uuid));
	memcpy(out->cid, l->hdr.cid.b, sizeof(out->cid));
	memcpy(out->parent_uuid, l->hdr.parent.uuid.b, sizeof(out->parent_uuid));
	memcpy(out->job, l->hdr.job.b, sizeof(out->job));
	memcpy(out->decision, l->hdr.decision.b, sizeof(out->decision));
	out->limit = l->hdr.limit;
	out->max_size = l->hdr.max_size;
	if (!(l->hdr.marks & DM_CHAIN_MARK_JOB) ||
	    l->hdr.record.flags & DM_CHAIN_RECORD_DONE)
		return;
	out->flags |= DM_CHAIN_LAYER_RECORD;
	if (READ_ONCE(l->tracks))
		out->flags |= DM_CHAIN_LAYER_TRACKED;
	out->record_type = l->hdr.record.type;
	memcpy(out->record_base, l->hdr.record.base.b, sizeof(out->record_base));
}

static u32 role_of(const struct chain_att *att)
{
	if (att->dropped)
		return DM_CHAIN_ROLE_DROPPED;
	if (att->word == CHAIN_WORD_TARGET)
		return DM_CHAIN_ROLE_TARGET;
	return att->word == CHAIN_WORD_NEXT ? DM_CHAIN_ROLE_NEXT :
					      DM_CHAIN_ROLE_LAYER;
}

static void fill_layer(const struct chain_disk *disk,
		       const struct chain_att *att, struct dm_chain_layer *out)
{
	struct chain_layer *l = att->layer;

	memset(out, 0, sizeof(*out));
	out->major = MAJOR(att->bdev->bd_dev);
	out->minor = MINOR(att->bdev->bd_dev);
	out->format = l->format;
	out->role = role_of(att);
	out->access = READ_ONCE(att->access[CHAIN_META]);
	out->flags = READ_ONCE(l->failed) ? DM_CHAIN_LAYER_FAILED : 0;
	if (!chain_att_rw(att) && att->dev->mode & BLK_OPEN_WRITE)
		out->flags |= DM_CHAIN_LAYER_DEV_RW;
	out->size = (u64)l->size << SECTOR_SHIFT;
	out->data_bytes = out->size;
	if (l->format == DM_CHAIN_FORMAT_CHAIN) {
		mutex_lock(&l->rw_mutex);
		fill_chain(l, out);
		mutex_unlock(&l->rw_mutex);
	}
	mutex_lock(&chain_registry_mutex);
	if (chain_back_is_due(disk, att))
		out->flags |= DM_CHAIN_LAYER_BACK;
	out->users = chain_layer_users(l);
	mutex_unlock(&chain_registry_mutex);
}

static int copy_layer(const struct dm_chain_layers *arg, u32 i,
		      const struct chain_disk *disk,
		      const struct chain_att *att)
{
	struct dm_chain_layer out;
	u8 __user *to = u64_to_user_ptr(arg->layers);

	fill_layer(disk, att, &out);
	to += (size_t)i * arg->layer_size;
	if (copy_to_user(to, &out, min_t(size_t, sizeof(out), arg->layer_size)))
		return -EFAULT;
	if (arg->layer_size > sizeof(out) &&
	    clear_user(to + sizeof(out), arg->layer_size - sizeof(out)))
		return -EFAULT;
	return 0;
}

/* The layers, top first, then what is attached in other roles. */
static int copy_layers(const struct dm_chain_layers *arg,
		       const struct chain_inst *ci, u32 *nr)
{
	unsigned int i;
	int r = 0;

	for (*nr = 0; *nr < ci->nr && !r; ++*nr)
		if (*nr < arg->nr)
			r = copy_layer(arg, *nr, ci->disk, ci->order[*nr]);
	for (i = 0; i < ci->nr_atts && !r; i++) {
		if (role_of(&ci->atts[i]) == DM_CHAIN_ROLE_LAYER)
			continue;
		if (*nr < arg->nr)
			r = copy_layer(arg, *nr, ci->disk, &ci->atts[i]);
		++*nr;
	}
	return r;
}

static int do_layers(struct call *call)
{
	struct dm_chain_layers *arg = &call->arg.layers;
	struct chain_inst *ci;
	u32 nr;
	int r;

	if (arg->flags & ~DM_CHAIN_LAYERS_QUICK || arg->pad || arg->layer_size < 64 ||
	    arg->layer_size > PAGE_SIZE)
		return -EINVAL;
	if (arg->flags & DM_CHAIN_LAYERS_QUICK)
		r = chain_disk_pin(MKDEV(arg->major, arg->minor), &ci);
	else
		r = chain_disk_pin_read(MKDEV(arg->major, arg->minor), &ci);
	if (r)
		return r;
	r = copy_layers(arg, ci, &nr);
	chain_disk_unpin(ci->disk);
	arg->nr = nr;
	return r;
}

/* Sectors that a map step looks at: bounds the work for a run that is cut. */
#define MAP_STEP	(256U << (20 - SECTOR_SHIFT))
/* ... and what a call does while a switch may wait for it. */
#define MAP_STEPS	65536U

/* Who decides at @sector; explicit zeroes have a depth, implied ones none. */
static sector_t map_step(struct chain_inst *ci, sector_t sector, sector_t max,
			 struct dm_chain_extent *e)
{
	struct chain_att *owner;
	unsigned int depth, state;

	for (depth = 0; depth < ci->nr; depth++) {
		struct chain_layer *l = ci->order[depth]->layer;

		max = chain_walk(ci, depth, depth + 1, sector, max, &owner, &state);
		if (depth + 1 == ci->nr && state == DM_CHAIN_ZERO && !owner &&
		    l->format == DM_CHAIN_FORMAT_CHAIN && sector < l->size &&
		    chain_statemap_get(&l->map, sector_to_block(l, sector)) ==
		    DM_CHAIN_ABSENT)
			break;
		if (state == DM_CHAIN_ABSENT)
			continue;
		e->depth = depth;
		e->state = state;
		if (state == DM_CHAIN_ZERO &&
		    (l->format == DM_CHAIN_FORMAT_RAW || sector >= l->size ||
		     chain_statemap_get(&l->map, sector_to_block(l, sector)) !=
		     DM_CHAIN_ZERO))
			break;
		return max;
	}
	e->depth = ci->nr;
	e->state = DM_CHAIN_ABSENT;
	return max;
}

struct map_out {
	struct dm_chain_extent last;
	struct dm_chain_extent __user *to;
	u32 room;
	u32 nr;
};

static int map_emit(struct map_out *out)
{
	if (!out->last.length)
		return 0;
	if (copy_to_user(out->to + out->nr, &out->last, sizeof(out->last)))
		return -EFAULT;
	out->nr++;
	return 0;
}

static int map_fill(struct chain_inst *ci, u64 *start, struct map_out *out)
{
	sector_t size = ci->ti->len, sector = *start >> SECTOR_SHIFT, n;
	unsigned int steps = MAP_STEPS;
	struct dm_chain_extent e;
	int r;

	while (sector < size && steps--) {
		n = map_step(ci, sector, min_t(sector_t, size - sector, MAP_STEP), &e);
		if (!out->last.length || e.depth != out->last.depth ||
		    e.state != out->last.state) {
			if (out->last.length && out->nr + 1 == out->room)
				break;
			r = map_emit(out);
			if (r)
				return r;
			out->last = e;
			out->last.start = (u64)sector << SECTOR_SHIFT;
			out->last.length = 0;
		}
		out->last.length += (u64)n << SECTOR_SHIFT;
		sector += n;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	*start = (u64)sector << SECTOR_SHIFT;
	return map_emit(out);
}

static int do_map(struct call *call)
{
	struct dm_chain_map *arg = &call->arg.map;
	struct map_out out = { .to = u64_to_user_ptr(arg->extents),
			       .room = arg->nr };
	struct chain_inst *ci;
	int r;

	if (arg->flags || arg->start % 512)
		return -EINVAL;
	r = chain_disk_pin_read(MKDEV(arg->major, arg->minor), &ci);
	if (r)
		return r;
	if (arg->nr)
		r = map_fill(ci, &arg->start, &out);
	chain_disk_unpin(ci->disk);
	arg->nr = out.nr;
	return r;
}

static void set_expedited(struct ctl *ctl, bool on)
{
	if (on == ctl->expedited)
		return;
	if (on)
		rcu_expedite_gp();
	else
		rcu_unexpedite_gp();
	ctl->expedited = on;
}

static int do_expedite(struct call *call)
{
	struct dm_chain_expedite *arg = &call->arg.expedite;
	struct ctl *ctl = call->ctl;

	if (arg->flags || arg->on > 1)
		return -EINVAL;
	mutex_lock(&ctl->mutex);
	set_expedited(ctl, arg->on);
	mutex_unlock(&ctl->mutex);
	return 0;
}

/* --- Who holds what --- */

/* Layers of a disk, top first, then what is prepared. */
static int fill_disk(dev_t devt, struct chain_holders_out *out)
{
	struct chain_disk *d = chain_disk_find(devt);
	struct chain_att *extra;
	struct chain_inst *ci;
	unsigned int i;

	if (!d || !d->live)
		return -ENODEV;
	ci = d->live;
	for (i = 0; i < ci->nr; i++)
		chain_holders_fill(ci->order[i]->layer, out);
	extra = ci->next ?: ci->target;
	if (extra)
		chain_holders_fill(extra->layer, out);
	return 0;
}

static int fill_holders(const struct dm_chain_holders *arg, struct chain_holders_out *out)
{
	dev_t devt = MKDEV(arg->major, arg->minor);
	struct chain_id uuid;

	lockdep_assert_held(&chain_registry_mutex);
	memcpy(uuid.b, arg->uuid, sizeof(uuid.b));
	if (!arg->flags && devt)
		return fill_disk(devt, out);
	if (arg->flags)
		chain_layer_fill(devt, &uuid, out);
	else
		chain_layers_fill(out);
	return 0;
}

static bool same_disk(const struct dm_chain_holder *a, const struct dm_chain_holder *b)
{
	return a->disk_major == b->disk_major && a->disk_minor == b->disk_minor;
}

static int copy_holders(const struct dm_chain_holders *arg,
			struct dm_chain_holder *list, u32 nr)
{
	u8 __user *to = u64_to_user_ptr(arg->holders);
	size_t size = min_t(size_t, sizeof(*list), arg->holder_size);
	u32 i;

	for (i = 0; i < nr; i++, to += arg->holder_size) {
		/* What a disk holds comes together, mostly. */
		if (i && same_disk(&list[i], &list[i - 1]))
			memcpy(list[i].disk, list[i - 1].disk, sizeof(list[i].disk));
		else
			chain_holder_name(&list[i]);
		if (copy_to_user(to, &list[i], size) ||
		    clear_user(to + size, arg->holder_size - size))
			return -EFAULT;
	}
	return 0;
}

/* Enough for ten thousand disks; who asks for them is root. */
#define MAX_HOLDERS	(128U << 10)

static bool holders_valid(const struct dm_chain_holders *arg)
{
	return !(arg->flags & ~DM_CHAIN_HOLDERS_LAYER) && !arg->pad &&
	       arg->holder_size >= 64 && arg->holder_size <= PAGE_SIZE &&
	       !((arg->require | arg->allow) & ~DM_CHAIN_PERM_ALL) &&
	       (arg->flags || !memchr_inv(arg->uuid, 0, sizeof(arg->uuid)));
}

static int do_holders(struct call *call)
{
	struct dm_chain_holders *arg = &call->arg.holders;
	struct chain_holders_out out = {
		.room = min(arg->nr, MAX_HOLDERS),
		.require = arg->require, .allow = arg->allow,
	};
	int r;

	if (!holders_valid(arg))
		return -EINVAL;
	out.list = kvcalloc(max(out.room, 1U), sizeof(*out.list), GFP_KERNEL);
	if (!out.list)
		return -ENOMEM;
	mutex_lock(&chain_registry_mutex);
	r = fill_holders(arg, &out);
	mutex_unlock(&chain_registry_mutex);
	if (!r)
		r = copy_holders(arg, out.list, min(out.nr, out.room));
	kvfree(out.list);
	arg->nr = out.nr;
	return r;
}

/* --- Who has a file open --- */

static int do_openers(struct call *call)
{
	struct dm_chain_openers *arg = &call->arg.openers;
	const struct inode *inode;
	struct file *file;
	int r = -EINVAL;

	if (arg->flags)
		return -EINVAL;
	file = fget_raw(arg->fd);
	if (!file)
		return -EBADF;
	inode = file_inode(file);
	if (S_ISREG(inode->i_mode)) {
		arg->readers = max(atomic_read(&inode->i_readcount), 0);
		/* Less than none: somebody keeps writers away. */
		arg->writers = max(atomic_read(&inode->i_writecount), 0);
		r = 0;
	}
	fput(file);
	return r;
}

static int do_acquire(struct call *call)
{
	/* A descriptor that the caller isn't told of could never be closed. */
	if (call->usize < offsetof(struct dm_chain_acquire, conflict))
		return -EINVAL;
	return chain_acquire(&call->arg.acquire, &call->file);
}

/* --- Jobs --- */

static int do_job_start(struct call *call)
{
	return chain_job_start(&call->arg.start);
}

static int do_job_verb(struct call *call)
{
	return chain_job_verb(&call->arg.verb);
}

static int copy_jobs(const struct dm_chain_jobs *arg,
		     const struct dm_chain_job *list, u32 nr)
{
	u8 __user *to = u64_to_user_ptr(arg->jobs);
	size_t size = min_t(size_t, sizeof(*list), arg->job_size);
	u32 i;

	for (i = 0; i < nr; i++, to += arg->job_size)
		if (copy_to_user(to, &list[i], size) ||
		    clear_user(to + size, arg->job_size - size))
			return -EFAULT;
	return 0;
}

#define MAX_JOBS	4096U

static int do_jobs(struct call *call)
{
	struct dm_chain_jobs *arg = &call->arg.jobs;
	u32 room = min(arg->nr, MAX_JOBS);
	struct dm_chain_job *list;
	int r;

	if (arg->flags || arg->pad || arg->job_size < 64 ||
	    arg->job_size > PAGE_SIZE)
		return -EINVAL;
	list = kvcalloc(max(room, 1U), sizeof(*list), GFP_KERNEL);
	if (!list)
		return -ENOMEM;
	arg->nr = chain_jobs_fill(arg->id, list, room);
	r = arg->id && !arg->nr ? -ENOENT :
				  copy_jobs(arg, list, min(arg->nr, room));
	kvfree(list);
	return r;
}

static int do_monitor(struct call *call)
{
	struct ctl *ctl = call->ctl;
	struct chain_monitor *m;
	int r = -EBUSY;

	mutex_lock(&ctl->mutex);
	if (!ctl->monitor) {
		m = chain_monitor_create(&call->arg.monitor);
		r = PTR_ERR_OR_ZERO(m);
		if (!r)
			WRITE_ONCE(ctl->monitor, m);
	}
	mutex_unlock(&ctl->mutex);
	return r;
}

static ssize_t ctl_read(struct file *file, char __user *buf, size_t len,
			loff_t *pos)
{
	struct ctl *ctl = file->private_data;
	struct chain_monitor *m = READ_ONCE(ctl->monitor);

	return m ? chain_monitor_read(m, file, buf, len) : -EINVAL;
}

static __poll_t ctl_poll(struct file *file, struct poll_table_struct *wait)
{
	struct ctl *ctl = file->private_data;
	struct chain_monitor *m = READ_ONCE(ctl->monitor);

	return m ? chain_monitor_poll(m, file, wait) : 0;
}

static int do_relink(struct call *call)
{
	return chain_relink(&call->arg.relink);
}

/* --- The device --- */

static const struct {
	int (*fn)(struct call *call);
	size_t size;
} calls[] = {
	[_IOC_NR(DM_CHAIN_IOC_VERSION)] = { do_version, sizeof(struct dm_chain_version) },
	[_IOC_NR(DM_CHAIN_IOC_SWITCH)] = { do_switch, sizeof(struct dm_chain_switch) },
	[_IOC_NR(DM_CHAIN_IOC_RESIZE)] = { do_resize, sizeof(struct dm_chain_resize) },
	[_IOC_NR(DM_CHAIN_IOC_LAYERS)] = { do_layers, sizeof(struct dm_chain_layers) },
	[_IOC_NR(DM_CHAIN_IOC_MAP)] = { do_map, sizeof(struct dm_chain_map) },
	[_IOC_NR(DM_CHAIN_IOC_EXPEDITE)] = { do_expedite, sizeof(struct dm_chain_expedite) },
	[_IOC_NR(DM_CHAIN_IOC_HOLDERS)] = { do_holders, sizeof(struct dm_chain_holders) },
	[_IOC_NR(DM_CHAIN_IOC_ACQUIRE)] = { do_acquire, sizeof(struct dm_chain_acquire) },
	[_IOC_NR(DM_CHAIN_IOC_JOB_START)] = { do_job_start, sizeof(struct dm_chain_job_start) },
	[_IOC_NR(DM_CHAIN_IOC_JOBS)] = { do_jobs, sizeof(struct dm_chain_jobs) },
	[_IOC_NR(DM_CHAIN_IOC_JOB_VERB)] = { do_job_verb, sizeof(struct dm_chain_job_verb) },
	[_IOC_NR(DM_CHAIN_IOC_MONITOR)] = { do_monitor, sizeof(struct dm_chain_monitor) },
	[_IOC_NR(DM_CHAIN_IOC_RELINK)] = { do_relink, sizeof(struct dm_chain_relink) },
	[_IOC_NR(DM_CHAIN_IOC_OPENERS)] = { do_openers, sizeof(struct dm_chain_openers) },
};

/* The caller knows what it has, or has nothing. */
static int finish_call(struct call *call, void __user *p, size_t size, int r)
{
	int fd = call->file ? call->arg.acquire.fd : -1;

	if (copy_to_user(p, &call->arg, size)) {
		if (call->file) {
			put_unused_fd(fd);
			fput(call->file);
		}
		return -EFAULT;
	}
	if (call->file)
		fd_install(fd, call->file);
	return r;
}

static long ctl_ioctl(struct file *file, unsigned int cmd, unsigned long uarg)
{
	void __user *p = (void __user *)uarg;
	unsigned int nr = _IOC_NR(cmd);
	size_t usize = _IOC_SIZE(cmd);
	struct call *call;
	int r;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	if (_IOC_TYPE(cmd) != DM_CHAIN_IOC_TYPE || nr >= ARRAY_SIZE(calls) ||
	    _IOC_DIR(cmd) != (_IOC_READ | _IOC_WRITE))
		return -ENOTTY;
	/* Paths make it too large for the stack. */
	call = kzalloc(sizeof(*call), GFP_KERNEL);
	if (!call)
		return -ENOMEM;
	call->ctl = file->private_data;
	call->usize = usize;
	r = copy_struct_from_user(&call->arg, calls[nr].size, p, usize);
	if (!r)
		r = finish_call(call, p, min(usize, calls[nr].size),
				calls[nr].fn(call));
	kfree(call);
	return r;
}

static int ctl_open(struct inode *inode, struct file *file)
{
	struct ctl *ctl = kzalloc(sizeof(*ctl), GFP_KERNEL);

	if (!ctl)
		return -ENOMEM;
	mutex_init(&ctl->mutex);
	file->private_data = ctl;
	return 0;
}

static int ctl_release(struct inode *inode, struct file *file)
{
	struct ctl *ctl = file->private_data;

	set_expedited(ctl, false);
	chain_monitor_destroy(ctl->monitor);
	kfree(ctl);
	return 0;
}

static const struct file_operations ctl_fops = {
	.owner = THIS_MODULE,
	.open = ctl_open,
	.release = ctl_release,
	.read = ctl_read,
	.poll = ctl_poll,
	.unlocked_ioctl = ctl_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice ctl_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = DM_CHAIN_CONTROL,
	.fops = &ctl_fops,
	.mode = 0600,
};

int chain_ctl_init(void)
{
	chain_random_id(&chain_instance);
	return misc_register(&ctl_misc);
}

void chain_ctl_exit(void)
{
	misc_deregister(&ctl_misc);
}
