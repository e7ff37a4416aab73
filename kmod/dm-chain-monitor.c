// SPDX-License-Identifier: GPL-2.0-only
/*
 * Monitors: descriptors of /dev/dm-chain that tell of what happens to jobs.
 *
 * Owns: struct chain_monitor, from DM_CHAIN_IOC_MONITOR to the last close of
 * the descriptor.
 *
 * Locking: monitors_lock (spin) for the list and for the events of all; nobody
 * sleeps under it. Who tells of an event holds no lock of a job.
 *
 * Failure: who doesn't read loses events, and is told that it did.
 */
#include <linux/fs.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "dm-chain-job.h"
#include "trace.h"

#define EVENTS	64

struct chain_monitor {
	struct list_head list;
	wait_queue_head_t wait;
	size_t event_size;
	u64 seq;			/* of the next event */
	unsigned int first;		/* oldest unread one */
	unsigned int nr;		/* unread */
	bool lost;			/* some had no room */
	struct dm_chain_job_event events[EVENTS];
};

static DEFINE_SPINLOCK(monitors_lock);
static LIST_HEAD(monitors);

/* The oldest ones stay: they say what happened first. */
static void add(struct chain_monitor *m, const struct dm_chain_job_event *e)
{
	struct dm_chain_job_event *to;

	lockdep_assert_held(&monitors_lock);
	if (m->nr == EVENTS) {
		m->seq++;
		m->lost = true;
		return;
	}
	to = &m->events[(m->first + m->nr++) % EVENTS];
	*to = *e;
	to->seq = m->seq++;
}

void chain_job_event(struct chain_job *job, u32 type)
{
	struct dm_chain_job_event e = { .type = type };
	struct chain_monitor *m;

	e.time_ns = ktime_get_real_ns();
	chain_job_fill(job, &e.job);
	trace_dm_chain_job(job, e.job.error);
	spin_lock(&monitors_lock);
	list_for_each_entry(m, &monitors, list) {
		add(m, &e);
		wake_up_interruptible(&m->wait);
	}
	spin_unlock(&monitors_lock);
}

struct chain_monitor *chain_monitor_create(struct dm_chain_monitor *arg)
{
	struct chain_monitor *m;

	if (arg->flags || arg->event_size < 64 || arg->event_size > PAGE_SIZE)
		return ERR_PTR(-EINVAL);
	m = kvzalloc(sizeof(*m), GFP_KERNEL);
	if (!m)
		return ERR_PTR(-ENOMEM);
	init_waitqueue_head(&m->wait);
	m->event_size = min_t(size_t, arg->event_size, sizeof(m->events[0]));
	arg->event_size = m->event_size;
	spin_lock(&monitors_lock);
	list_add_tail(&m->list, &monitors);
	spin_unlock(&monitors_lock);
	return m;
}

void chain_monitor_destroy(struct chain_monitor *m)
{
	if (!m)
		return;
	spin_lock(&monitors_lock);
	list_del(&m->list);
	spin_unlock(&monitors_lock);
	kvfree(m);
}

static bool take(struct chain_monitor *m, struct dm_chain_job_event *e)
{
	bool any = true;

	spin_lock(&monitors_lock);
	if (m->nr) {
		*e = m->events[m->first];
		m->first = (m->first + 1) % EVENTS;
		m->nr--;
	} else if (m->lost) {
		memset(e, 0, sizeof(*e));
		e->type = DM_CHAIN_JOB_EVENT_LOST;
		e->seq = m->seq++;
		e->time_ns = ktime_get_real_ns();
		m->lost = false;
	} else {
		any = false;
	}
	spin_unlock(&monitors_lock);
	return any;
}

static bool has_event(struct chain_monitor *m)
{
	return READ_ONCE(m->nr) || READ_ONCE(m->lost);
}

ssize_t chain_monitor_read(struct chain_monitor *m, struct file *file,
			   char __user *buf, size_t len)
{
	struct dm_chain_job_event e;
	size_t done = 0;

	if (len < m->event_size)
		return -EINVAL;
	while (done + m->event_size <= len) {
		if (take(m, &e)) {
			if (copy_to_user(buf + done, &e, m->event_size))
				return done ?: -EFAULT;
			done += m->event_size;
			continue;
		}
		if (done)
			break;
		if (file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		if (wait_event_interruptible(m->wait, has_event(m)))
			return -ERESTARTSYS;
	}
	return done;
}

__poll_t chain_monitor_poll(struct chain_monitor *m, struct file *file,
			    poll_table *wait)
{
	poll_wait(file, &m->wait, wait);
	return has_event(m) ? EPOLLIN | EPOLLRDNORM : 0;
}
