// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain close NAME
 */
#include "job.h"
#include "label.h"

#include <string.h>
#include <unistd.h>

/* Also of one that was never started: its device is all that there is. */
static int find(const char *name, struct dm_state *s)
{
	if (module_present() && !dm_state(name, s) && s->ours)
		return 0;
	return msg_fail(EXIT_FAILED, "%s: no such disk; dmchain list shows those there are",
			name);
}

/*
 * Its files get back what they had. That they can is known before the disk is
 * closed, which can't be taken back; a killed close leaves the note.
 */
static int remove_disk(const char *name, struct disk_lock *l)
{
	int ret = label_check_drop(name);

	if (!ret)
		ret = disk_lock_note(l, note_new("close"));
	if (ret)
		return ret;
	ret = dm_remove(name);
	if (ret || !label_sync(name, NULL)) {
		disk_lock_note(l, NULL);
		return ret;
	}
	return -EXIT_FAILED;
}

/* What runs on the disk stops where it is; its record stays. */
static void running_jobs(const char *name, struct job_list *l)
{
	int ctl = control_open();

	memset(l, 0, sizeof(*l));
	if (ctl < 0)
		return;
	(void)job_list_read(ctl, name, l);
	close(ctl);
}

static void tell_stopped(const char *name, const struct job_list *l)
{
	unsigned int i;

	for (i = 0; i < l->nr; i++) {
		const struct dm_chain_job *job = &l->jobs[i].job;

		if (l->jobs[i].left || !job_live(job))
			continue;
		if (job->type == DM_CHAIN_JOB_MIRROR) {
			msg_warn("%s: its mirror (job %llu) stopped where it was, the copy is incomplete%s",
				 name, (unsigned long long)job->id,
				 job_tracked(job) ? "; dmchain job resume goes on when the disk is open again" : "");
			continue;
		}
		msg_warn("%s: its %s (job %llu) stopped where it was; dmchain job resume %s goes on when it is open again",
			 name, job_type_name(job->type),
			 (unsigned long long)job->id, name);
	}
}

static int close_locked(const char *name, struct disk_lock *l)
{
	struct job_list jobs = { 0 };
	struct table t = { 0 };
	struct dm_state s;
	unsigned int i;
	int ret = find(name, &s);

	if (!ret && s.live)
		ret = dm_table_read(name, &t, NULL);
	if (!ret && s.live)
		running_jobs(name, &jobs);
	if (!ret)
		ret = remove_disk(name, l);
	if (!ret)
		tell_stopped(name, &jobs);
	job_list_free(&jobs);
	/* So that what comes after us finds the images free. */
	for (i = 0; !ret && i < t.nr; i++) {
		loop_wait_gone(t.layers[i].dev);
		marker_gone(t.layers[i].dev);
	}
	dm_table_free(&t);
	return ret;
}

/* What a job has left goes with the disk, also if dm could not let it go. */
static int recover_left(struct disk_lock *l)
{
	json_object *note = disk_lock_left(l);
	int ret = note ? disk_recover_locked(l, false, NULL) : 0;

	json_object_put(note);
	return ret;
}

int disk_close(const char *name)
{
	struct disk_lock l;
	int ret = disk_lock(name, &l);

	if (ret)
		return ret;
	ret = recover_left(&l);
	if (!ret)
		ret = close_locked(name, &l);
	disk_unlock(&l);
	return ret;
}

int cmd_close(int argc, char **argv)
{
	int ret = args_parse(&argc, &argv, NULL, 1, 1);

	return ret ? -ret : -disk_close(argv[0]);
}
