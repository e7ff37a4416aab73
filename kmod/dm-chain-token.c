// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tokens: descriptors that hold layers of a disk for an operation.
 *
 * Owns: struct chain_token, from chain_acquire() to the last close of its
 * descriptor, and to the end of the job that was started with it. What it holds
 * is in its chain_holder (dm-chain-grant.c).
 *
 * Locking: registry_mutex for the holder; token->lock for its events, which
 * may come from resume: nothing in here waits but read(), for events, and
 * release, for registry_mutex.
 *
 * Failure: all that can fail comes before the grants. A killed owner closes
 * the descriptor; the grants go with it, and what only they allowed to be
 * written refuses writes before close() returns.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "dm-chain.h"

#define EVENTS	64

/*
 * @ref: the descriptor's, and that of the job that was started with it.
 * @job: that job, until it has given the layers back; registry_mutex.
 */
struct chain_token {
	struct chain_holder holder;
	refcount_t ref;
	struct chain_scope scope;
	struct chain_job *job;
	spinlock_t lock;		/* events */
	wait_queue_head_t wait;
	u64 seq;			/* of the next event */
	unsigned int first;		/* oldest unread one */
	unsigned int nr;		/* unread */
	bool lost;			/* some had no room */
	struct dm_chain_event events[EVENTS];
};

static atomic64_t last_id = ATOMIC64_INIT(0);

/* --- Events --- */

static void fill_event(struct chain_token *t, struct dm_chain_event *e,
		       u32 type, const struct chain_layer *l, u32 depth)
{
	memset(e, 0, sizeof(*e));
	e->type = type;
	e->id = t->holder.id;
	e->seq = t->seq++;
	e->time_ns = ktime_get_real_ns();
	e->depth = depth;
	if (l)
		memcpy(e->uuid, l->uuid.b, sizeof(e->uuid));
}

/* The oldest ones stay: they say what happened first. */
static void add_event(struct chain_token *t, u32 type,
		      const struct chain_layer *l, u32 depth)
{
	spin_lock(&t->lock);
	if (t->nr < EVENTS) {
		fill_event(t, &t->events[(t->first + t->nr++) % EVENTS], type,
			   l, depth);
	} else {
		t->seq++;
		t->lost = true;
	}
	spin_unlock(&t->lock);
	wake_up_interruptible(&t->wait);
}

static bool take_event(struct chain_token *t, struct dm_chain_event *e)
{
	bool any = true;

	spin_lock(&t->lock);
	if (t->nr) {
		*e = t->events[t->first];
		t->first = (t->first + 1) % EVENTS;
		t->nr--;
	} else if (t->lost) {
		t->lost = false;
		fill_event(t, e, DM_CHAIN_EVENT_LOST, NULL, 0);
	} else {
		any = false;
	}
	spin_unlock(&t->lock);
	return any;
}

static bool has_event(struct chain_token *t)
{
	return READ_ONCE(t->nr) || READ_ONCE(t->lost);
}

static void token_gone(struct chain_holder *h)
{
	struct chain_token *t = container_of(h, struct chain_token, holder);

	add_event(t, DM_CHAIN_EVENT_DISK_GONE, NULL, 0);
}

void chain_token_event(const struct chain_layer *l,
		       const struct chain_disk *disk, u32 type, u32 depth)
{
	const struct chain_grant *g;

	lockdep_assert_held(&chain_registry_mutex);
	list_for_each_entry(g, &l->grants, list)
		if (g->holder->disk == disk && g->holder->gone == token_gone)
			add_event(container_of(g->holder, struct chain_token,
					       holder), type, l, depth);
}

/* --- The descriptor --- */

static ssize_t token_read(struct file *file, char __user *buf, size_t len,
			  loff_t *pos)
{
	struct chain_token *t = file->private_data;
	struct dm_chain_event e;
	size_t done = 0;

	if (len < sizeof(e))
		return -EINVAL;
	while (done + sizeof(e) <= len) {
		if (take_event(t, &e)) {
			if (copy_to_user(buf + done, &e, sizeof(e)))
				return done ?: -EFAULT;
			done += sizeof(e);
			continue;
		}
		if (done)
			break;
		if (file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		if (wait_event_interruptible(t->wait, has_event(t)))
			return -ERESTARTSYS;
	}
	return done;
}

static __poll_t token_poll(struct file *file, poll_table *wait)
{
	struct chain_token *t = file->private_data;

	poll_wait(file, &t->wait, wait);
	return has_event(t) ? EPOLLIN | EPOLLRDNORM : 0;
}

static void token_free(struct chain_token *t)
{
	if (t)
		kvfree(t->holder.grants);
	kfree(t);
}

static void token_put(struct chain_token *t)
{
	if (refcount_dec_and_test(&t->ref))
		token_free(t);
}

/* A job goes on without its descriptor, unless it waits for a second start. */
static int token_release(struct inode *inode, struct file *file)
{
	struct chain_token *t = file->private_data;
	bool begun;

	mutex_lock(&chain_registry_mutex);
	begun = t->job;
	if (begun)
		chain_job_orphan(t->job);
	mutex_unlock(&chain_registry_mutex);
	if (!begun)
		chain_release(&t->holder);
	token_put(t);
	return 0;
}

static const struct file_operations token_fops = {
	.owner = THIS_MODULE,
	.read = token_read,
	.poll = token_poll,
	.release = token_release,
};

static struct chain_token *token_alloc(unsigned int nr)
{
	struct chain_token *t = kzalloc(sizeof(*t), GFP_KERNEL);

	if (!t)
		return NULL;
	spin_lock_init(&t->lock);
	init_waitqueue_head(&t->wait);
	refcount_set(&t->ref, 1);
	t->holder.id = atomic64_inc_return(&last_id);
	t->holder.gone = token_gone;
	t->holder.grants = kvcalloc(nr, sizeof(*t->holder.grants), GFP_KERNEL);
	if (t->holder.grants)
		return t;
	token_free(t);
	return NULL;
}

/* --- Jobs --- */

struct chain_token *chain_token_of(struct file *file)
{
	return file->f_op == &token_fops ? file->private_data : NULL;
}

u64 chain_token_id(const struct chain_token *t)
{
	return t->holder.id;
}

const struct chain_scope *chain_token_scope(const struct chain_token *t)
{
	return &t->scope;
}

dev_t chain_token_devt(const struct chain_token *t)
{
	dev_t devt;

	mutex_lock(&chain_registry_mutex);
	devt = t->holder.disk ? t->holder.disk->devt : 0;
	mutex_unlock(&chain_registry_mutex);
	return devt;
}

struct chain_job *chain_token_job(const struct chain_token *t)
{
	lockdep_assert_held(&chain_registry_mutex);
	return t->job;
}

int chain_token_begin(struct chain_token *t, struct chain_job *job,
		      struct chain_disk *disk)
{
	lockdep_assert_held(&chain_registry_mutex);
	if (t->holder.disk != disk)
		return -ENODEV;
	if (t->job)
		return -EBUSY;
	t->job = job;
	t->holder.begun = true;
	refcount_inc(&t->ref);
	return 0;
}

void chain_token_end(struct chain_token *t)
{
	chain_release(&t->holder);
	mutex_lock(&chain_registry_mutex);
	t->job = NULL;
	mutex_unlock(&chain_registry_mutex);
	token_put(t);
}

/* --- Acquiring --- */

static void set_scope(struct chain_token *t, const struct chain_inst *ci,
		      const struct dm_chain_acquire *arg)
{
	t->scope.op = arg->op;
	t->scope.top_depth = arg->top;
	t->scope.top = ci->order[arg->top]->layer;
	if (arg->base < ci->nr)
		t->scope.base = ci->order[arg->base]->layer;
	if (arg->top)
		t->scope.over = ci->order[arg->top - 1]->layer;
}

/* The file comes first, the grants last: closing the file undoes both. */
static int acquire_token(struct chain_inst *ci, const u32 *rows,
			 struct dm_chain_acquire *arg, struct file **file)
{
	struct chain_token *t = token_alloc(ci->nr);
	int fd, r;

	if (!t)
		return -ENOMEM;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		token_free(t);
		return fd;
	}
	*file = anon_inode_getfile("[dm-chain-token]", &token_fops, t, O_RDONLY);
	if (IS_ERR(*file)) {
		r = PTR_ERR(*file);
		*file = NULL;
		token_free(t);
	} else {
		set_scope(t, ci, arg);
		r = chain_hold(ci, rows, &t->holder, &arg->conflict);
	}
	if (r) {
		put_unused_fd(fd);
		if (*file)
			fput(*file);
		*file = NULL;
		return r;
	}
	add_event(t, DM_CHAIN_EVENT_ACQUIRED, NULL, 0);
	arg->fd = fd;
	arg->id = t->holder.id;
	return 0;
}

static int acquire(struct chain_inst *ci, struct dm_chain_acquire *arg,
		   struct file **file)
{
	u32 *rows = kvcalloc(ci->nr, sizeof(*rows), GFP_KERNEL);
	int r = -ENOMEM;

	if (rows)
		r = chain_perm_plan(arg->op, arg->top, arg->base, ci->nr, rows);
	if (!r && arg->flags & DM_CHAIN_ACQUIRE_TEST)
		r = chain_hold(ci, rows, NULL, &arg->conflict);
	else if (!r)
		r = acquire_token(ci, rows, arg, file);
	kvfree(rows);
	return r;
}

int chain_acquire(struct dm_chain_acquire *arg, struct file **file)
{
	struct chain_inst *ci;
	int r;

	if (arg->flags & ~DM_CHAIN_ACQUIRE_TEST || arg->pad ||
	    arg->op == DM_CHAIN_OP_GUEST || arg->op == DM_CHAIN_OP_EXPORT)
		return -EINVAL;
	arg->fd = -1;
	arg->id = 0;
	memset(&arg->conflict, 0, sizeof(arg->conflict));
	do {
		r = chain_disk_pin(MKDEV(arg->major, arg->minor), &ci);
		if (r)
			return r;
		r = acquire(ci, arg, file);
		chain_disk_unpin(ci->disk);
		if (r == -EAGAIN && schedule_timeout_killable(1))
			r = -EINTR;
	} while (r == -EAGAIN);
	if (arg->conflict.perm)
		chain_holder_name(&arg->conflict.holder);
	return r;
}
