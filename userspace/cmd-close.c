// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain close NAME
 */
#include "boot.h"
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
 * closed, which can't be taken back; a killed close leaves the note. What @moved
 * has left is note enough, and stays if the disk does.
 */
static int remove_disk(const char *name, struct disk_lock *l, bool moved)
{
	int ret = label_check_drop(name);

	if (!ret && !moved)
		ret = disk_lock_note(l, note_new("close"));
	if (ret)
		return ret;
	ret = dm_remove(name);
	if (ret && moved)
		return ret;
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

static int close_locked(const char *name, struct disk_lock *l, bool moved)
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
	/* Of a pivot that was killed: of two raw tops only the open disk tells. */
	if (!ret)
		boot_settle(name);
	if (!ret)
		ret = remove_disk(name, l, moved);
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

static bool is_open(const char *name)
{
	dev_t dev;

	return !dm_disk(name, &dev, NULL);
}

/*
 * A layer has moved, and no header can say so, as the one above has failed: it
 * takes none before it is opened anew, so nothing but this would ever close the
 * disk. No harm in it: nobody has written the copy since, and what the headers
 * name is the layer where it was.
 */
static int recover_move(struct disk_lock *l, bool *moved)
{
	int ret;

	msg_mute(true);
	ret = disk_recover_locked(l, false, NULL);
	msg_mute(false);
	if (ret != -EXIT_FAILED)
		return ret ? msg_fail(-ret, "%s", msg_last()) : 0;
	*moved = true;
	msg_warn("%s: a layer has moved, which can't be finished (%s); opened again, the disk has it at its old place, where nothing has changed",
		 l->name, msg_last());
	return 0;
}

/* What a job has left goes with the disk, also if dm could not let it go. */
static int recover_left(struct disk_lock *l, bool *moved)
{
	json_object *note = disk_lock_left(l);
	int ret = 0;

	*moved = false;
	if (note_is(note, "move") && is_open(l->name))
		ret = recover_move(l, moved);
	else if (note)
		ret = disk_recover_locked(l, false, NULL);
	json_object_put(note);
	return ret;
}

int disk_close(const char *name)
{
	struct disk_lock l;
	bool moved;
	int ret = disk_lock(name, &l);

	if (ret)
		return ret;
	ret = recover_left(&l, &moved);
	if (!ret)
		ret = close_locked(name, &l, moved);
	disk_unlock(&l);
	return ret;
}

int cmd_close(int argc, char **argv)
{
	int ret = args_parse(&argc, &argv, NULL, 1, 1);

	return ret ? -ret : -disk_close(argv[0]);
}
