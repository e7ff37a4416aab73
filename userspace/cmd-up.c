// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain up, down: what is declared is opened, with its unfinished jobs, and
 * closed. This is what the units of systemd call, and what another init can call.
 * And dmchain units, which makes systemd call it.
 */
#include "boot.h"
#include "job.h"
#include "label.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/**
 * struct turn - one command
 * @all: every disk that is declared
 * @unit: names are escaped, as in the instance of a unit
 * @names: of disks; those of @all are ours
 * @rows: for JSON
 */
struct turn {
	bool all;
	bool unit;
	unsigned int nr;
	char **names;
	json_object *rows;
};

/* --- Jobs that were cut off --- */

static int resume(const struct job_entry *e)
{
	struct job_ask ask = {
		.name = e->job.disk, .background = true, .quiet = true,
		/* Whose children were to be lost was decided when it began. */
		.force = true,
		.op = e->job.type == DM_CHAIN_JOB_STREAM ? DM_CHAIN_OP_STREAM :
							   DM_CHAIN_OP_COMMIT,
	};
	struct chain_id id;

	if (e->job.type == DM_CHAIN_JOB_MIRROR)
		return mirror_resume(e->job.disk, true, true);
	memcpy(id.b, e->job.uuid, sizeof(id.b));
	ask.record = &id;
	return job_run(&ask);
}

/* The disk is up in any case: what fails here is told and no more. */
static void resume_told(const struct job_entry *e, json_object *jobs)
{
	const char *type = job_type_name(e->job.type);
	char id[JOB_ID_TEXT];

	job_id(e, id);
	if (resume(e)) {
		msg_warn("%s: its unfinished %s (job %s) is not resumed; dmchain job resume %s tries again",
			 e->job.disk, type, id, e->job.disk);
		return;
	}
	json_object_array_add(jobs, json_text(id));
	if (!opt_json)
		printf("%s: its unfinished %s (job %s) goes on\n", e->job.disk,
		       type, id);
}

static void resume_all(const char *name, json_object *jobs)
{
	int ctl = control_open();
	struct job_list l;
	unsigned int i;

	if (ctl < 0)
		return;
	if (!job_list_read(ctl, name, &l)) {
		for (i = 0; i < l.nr; i++)
			if (l.jobs[i].left)
				resume_told(&l.jobs[i], jobs);
		job_list_free(&l);
	}
	close(ctl);
}

/* --- Up --- */

static bool is_up(const char *name)
{
	struct dm_state s;

	return module_present() && !dm_state(name, &s) && s.ours && s.live;
}

static void add_row(struct turn *t, const char *name, const char *path,
		    json_object *jobs)
{
	json_object *o = json_object_new_object();

	json_object_object_add(o, "name", json_text(name));
	json_object_object_add(o, "path", json_text(path));
	json_object_object_add(o, "resumed", jobs);
	json_object_array_add(t->rows, o);
}

static int open_top(struct turn *t, const struct boot_decl *d, bool next)
{
	struct disk_ask ask = {
		.name = d->name, .path = next ? d->next : d->path,
		.format = next ? d->next_format : d->format,
		.read_only = d->read_only, .quiet = !d->report,
		.label_rw = d->label_rw, .label_ro = d->label_ro,
	};
	json_object *jobs;
	int ret = disk_open(&ask);

	if (ret)
		return ret;
	jobs = json_object_new_array();
	if (!d->report && !d->read_only)
		resume_all(d->name, jobs);
	add_row(t, d->name, ask.path, jobs);
	return 0;
}

static int bring_up(struct turn *t, const struct boot_decl *d)
{
	bool next;
	int ret = label_check_texts(d->label_rw, d->label_ro);

	if (!ret)
		ret = boot_resolve(d, &next);
	return ret ? ret : open_top(t, d, next);
}

/* What is open already was opened by somebody who knew why. */
static int up_one(struct turn *t, const char *name)
{
	struct boot_decl d;
	int ret = boot_load(name, &d);

	if (!ret && is_up(name))
		add_row(t, name, d.next ? NULL : d.path,
			json_object_new_array());
	else if (!ret)
		ret = bring_up(t, &d);
	boot_free(&d);
	return ret;
}

/* One that can't come up is no reason for others not to. */
static int up_each(struct turn *t)
{
	unsigned int i;
	int ret, first = 0;

	for (i = 0; i < t->nr; i++) {
		ret = up_one(t, t->names[i]);
		first = first ? first : ret;
	}
	return first;
}

/* --- Down --- */

static int down_one(const char *name)
{
	struct dm_state s;

	/* Also one that was never started, and nothing that is none of ours. */
	if (!module_present() || dm_state(name, &s) || !s.ours)
		return 0;
	return disk_close(name);
}

/*
 * Of a disk on which another one lies the other one has to go first; which lies on
 * which is found out by trying, as long as that leads on.
 */
static int down_each(struct turn *t)
{
	unsigned int i, before;
	bool *done = calloc(t->nr + 1, sizeof(*done));
	unsigned int left = t->nr;
	int ret, last = 0;

	if (!done)
		return msg_fail(EXIT_FAILED, "out of memory");
	msg_mute(true);
	do {
		before = left;
		for (i = t->nr; i--; ) {
			if (done[i] || down_one(t->names[i]))
				continue;
			done[i] = true;
			left--;
		}
	} while (left && left < before);
	msg_mute(false);
	for (i = t->nr; i--; ) {
		ret = done[i] ? 0 : down_one(t->names[i]);
		last = last ? last : ret;
	}
	free(done);
	return last;
}

/* --- Who is meant --- */

static int take_names(struct turn *t, const char *command, int argc, char **argv)
{
	int i;

	if (t->all == (argc > 0))
		return msg_fail(EXIT_USAGE,
				"%s: say a NAME, some, or --all for those that are declared",
				command);
	if (t->all)
		return boot_names(&t->names, &t->nr);
	t->names = argv;
	t->nr = (unsigned int)argc;
	for (i = 0; i < argc; i++)
		if ((t->unit && !unit_unescape(argv[i])) ||
		    !dm_name_valid(argv[i]))
			return msg_fail(EXIT_USAGE, "%s: no name for a disk",
					argv[i]);
	return 0;
}

static int turn(int argc, char **argv, int (*each)(struct turn *t))
{
	struct turn t = { 0 };
	const char *command = argv[0];
	const struct arg_opt opts[] = {
		{ "all", NULL, &t.all },
		{ "unit", NULL, &t.unit },
		{ NULL, NULL, NULL },
	};
	int ret = args_parse(&argc, &argv, opts, 0, DM_CHAIN_MAX_LAYERS);

	if (!ret)
		ret = take_names(&t, command, argc, argv);
	t.rows = json_object_new_array();
	if (!ret)
		ret = each(&t);
	if (opt_json && each == up_each && json_object_array_length(t.rows))
		show_json(json_object_get(t.rows));
	json_object_put(t.rows);
	if (t.all)
		boot_names_free(t.names);
	return -ret;
}

int cmd_up(int argc, char **argv)
{
	return turn(argc, argv, up_each);
}

int cmd_down(int argc, char **argv)
{
	return turn(argc, argv, down_each);
}

/* --- Units --- */

/* One that is bad gets a unit that fails, and says why when it does. */
static int write_one(const char *dir, const char *name)
{
	struct boot_decl d;
	bool good;
	int ret;

	msg_mute(true);
	good = !boot_load(name, &d);
	msg_mute(false);
	ret = unit_write(dir, name, good ? &d : NULL);
	boot_free(&d);
	return ret;
}

int cmd_units(int argc, char **argv)
{
	char **names = NULL;
	unsigned int i, nr = 0;
	int ret, first = args_parse(&argc, &argv, NULL, 1, 1);

	if (first)
		return -first;
	first = boot_names(&names, &nr);
	for (i = 0; i < nr; i++) {
		ret = write_one(argv[0], names[i]);
		first = first ? first : ret;
	}
	boot_names_free(names);
	return -first;
}
