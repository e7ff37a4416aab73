// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * /dev/dm-chain: the calls that are about jobs.
 */
#include "job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static int too_old(void)
{
	return msg_fail(EXIT_FAILED,
			"/dev/dm-chain: the module knows no jobs, it is older than this dmchain; install both from one release");
}

int control_job_start(int ctl, struct dm_chain_job_start *q)
{
	return ioctl(ctl, DM_CHAIN_IOC_JOB_START, q) ? -errno : 0;
}

static int no_job(uint64_t id)
{
	return msg_fail(EXIT_FAILED,
			"job %llu: there is none (any more); dmchain job list shows them",
			(unsigned long long)id);
}

static int jobs_failed(uint64_t id, int err)
{
	if (err == ENOTTY)
		return too_old();
	if (err == ENOENT)
		return no_job(id);
	return msg_fail_errno(EXIT_FAILED, err,
			      "/dev/dm-chain: jobs cannot be asked for");
}

/* @nr: jobs there are, which may be more than there is room for. */
static int ask_jobs(int ctl, uint64_t id, struct dm_chain_job *jobs,
		    unsigned int room, unsigned int *nr)
{
	struct dm_chain_jobs q = {
		.id = id, .nr = room, .job_size = sizeof(*jobs),
		.jobs = (uintptr_t)jobs,
	};

	memset(jobs, 0, room * sizeof(*jobs));
	if (ioctl(ctl, DM_CHAIN_IOC_JOBS, &q))
		return jobs_failed(id, errno);
	*nr = q.nr;
	return 0;
}

int control_jobs(int ctl, uint64_t id, struct dm_chain_job **jobs,
		 unsigned int *nr)
{
	struct dm_chain_job *j = NULL, *more;
	unsigned int i, room = id ? 1 : 80;
	int ret;

	for (;; room = *nr) {
		more = realloc(j, room * sizeof(*j));
		if (!more) {
			free(j);
			return msg_fail(EXIT_FAILED, "out of memory");
		}
		j = more;
		ret = ask_jobs(ctl, id, j, room, nr);
		if (ret || *nr <= room)
			break;
	}
	if (ret) {
		free(j);
		return ret;
	}
	for (i = 0; i < *nr; i++)
		j[i].disk[sizeof(j[i].disk) - 1] = '\0';
	*jobs = j;
	return 0;
}

int control_job(int ctl, uint64_t id, struct dm_chain_job *job)
{
	struct dm_chain_job *jobs;
	unsigned int nr;
	int ret = control_jobs(ctl, id, &jobs, &nr);

	if (ret)
		return ret;
	if (nr)
		*job = jobs[0];
	free(jobs);
	return nr ? 0 : no_job(id);
}

int control_job_verb(int ctl, uint64_t id, uint32_t verb, uint64_t arg)
{
	struct dm_chain_job_verb q = { .id = id, .verb = verb, .arg = arg };

	if (!ioctl(ctl, DM_CHAIN_IOC_JOB_VERB, &q))
		return 0;
	switch (errno) {
	case ENOTTY:
		return too_old();
	case ENOENT:
		return no_job(id);
	case ESRCH:
		return msg_fail(EXIT_FAILED,
				"job %llu: has ended already; dmchain job show %llu tells how",
				(unsigned long long)id, (unsigned long long)id);
	case EBUSY:
		return msg_fail(EXIT_FAILED,
				"job %llu: is about to end, it is too late for that; dmchain job wait %llu",
				(unsigned long long)id, (unsigned long long)id);
	default:
		return msg_fail_errno(EXIT_FAILED, errno,
				      "job %llu: cannot do that",
				      (unsigned long long)id);
	}
}

int control_monitor(void)
{
	struct dm_chain_monitor q = {
		.event_size = sizeof(struct dm_chain_job_event),
	};
	int err, fd = control_open();

	if (fd < 0)
		return fd;
	if (!ioctl(fd, DM_CHAIN_IOC_MONITOR, &q) &&
	    !fcntl(fd, F_SETFL, O_NONBLOCK))
		return fd;
	err = errno;
	close(fd);
	return err == ENOTTY ? too_old() :
	       msg_fail_errno(EXIT_FAILED, err,
			      "/dev/dm-chain: does not tell of events");
}

int control_monitor_read(int mon, struct dm_chain_job_event *e)
{
	ssize_t n;

	memset(e, 0, sizeof(*e));
	n = read(mon, e, sizeof(*e));
	e->job.disk[sizeof(e->job.disk) - 1] = '\0';
	if (n > 0)
		return 1;
	if (!n || errno == EAGAIN || errno == EINTR)
		return 0;
	return msg_fail_errno(EXIT_FAILED, errno,
			      "/dev/dm-chain: does not tell of events");
}

/* What the errnos of the switch mean when it is a pivot. */
static int pivot_failed(const char *name, int err)
{
	switch (err) {
	case EAGAIN:
		return 1;
	case ENOENT:
		return msg_fail(EXIT_FAILED,
				"%s: has no mirror, and no commit of its active layer, that could be pivoted to; dmchain job list %s",
				name, name);
	case EBUSY:
		return msg_fail(EXIT_REFUSED,
				"%s: cannot pivot, it is suspended, another table is loaded (dmchain recover %s), or a job has layers that would go",
				name, name);
	case EINVAL:
		return msg_fail(EXIT_REFUSED,
				"%s: only mirrors can be pivoted to together; pivot to it by itself",
				name);
	case ELOOP:
		return msg_fail(EXIT_REFUSED,
				"%s: one of the disks lies on another one, and both at one instant can't be had; pivot one by one",
				name);
	case EIO:
		return msg_fail(EXIT_FAILED,
				"%s: cannot pivot, a layer could not be made durable; close the disk and open it again",
				name);
	default:
		return msg_fail_errno(EXIT_FAILED, err, "%s: cannot pivot",
				      name);
	}
}

int control_pivot(int ctl, dev_t disk, const char *name, uint64_t *pause_ns)
{
	struct control_set q = {
		.nr = 1, .disks = &disk, .names = &name, .pause_ns = pause_ns,
	};

	return control_pivot_set(ctl, &q);
}

/* The one that was in the way, if one is named. */
static int set_failed(const struct control_set *s,
		      const struct dm_chain_switch_disk *d, int err)
{
	unsigned int i;

	for (i = 0; i < s->nr; i++)
		if (d[i].error)
			return pivot_failed(s->names[i], -d[i].error);
	return pivot_failed(s->names[0], err);
}

int control_pivot_set(int ctl, const struct control_set *s)
{
	struct dm_chain_switch_disk *d = calloc(s->nr, sizeof(*d));
	struct dm_chain_switch q = {
		.op = DM_CHAIN_SWITCH_PIVOT, .nr_disks = s->nr,
		.disks = (uintptr_t)d, .decider = s->decider,
		.hints = (uintptr_t)s->hints,
	};
	unsigned int i;
	int ret = 0;

	if (!d)
		return msg_fail(EXIT_FAILED, "out of memory");
	for (i = 0; i < s->nr; i++) {
		d[i].major = major(s->disks[i]);
		d[i].minor = minor(s->disks[i]);
	}
	if (ioctl(ctl, DM_CHAIN_IOC_SWITCH, &q))
		ret = set_failed(s, d, errno);
	for (i = 0; i < s->nr; i++)
		s->pause_ns[i] = d[i].pause_ns;
	free(d);
	return ret;
}
