// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain job: look at jobs, and tell them what to do. A job that was cut off
 * is a record in a layer's header: it can be resumed, which starts it again.
 */
#include "job.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/**
 * struct order - what a job is to do
 * @ctl: control device
 * @list: of all jobs
 * @e: the one that is meant
 * @arg: JOB as it was given
 * @rate: of speed
 * @timeout: of wait, or NULL
 * @wait: of resume
 */
struct order {
	int ctl;
	struct job_list list;
	const struct job_entry *e;
	const char *arg;
	const char *rate;
	const char *timeout;
	bool wait;
};

static int no_job(const char *arg)
{
	return msg_fail(EXIT_FAILED,
			"%s: no such job, and no disk that has one; dmchain job list shows them",
			arg);
}

static int find_job(struct order *o)
{
	int ret;

	/* Asking must not load the module. */
	if (!module_present())
		return no_job(o->arg);
	o->ctl = control_open();
	if (o->ctl < 0)
		return o->ctl;
	ret = job_list_read(o->ctl, NULL, &o->list);
	return ret ? ret : job_find(&o->list, o->arg, &o->e);
}

/* --- list, show --- */

static int read_list(const char *name, struct job_list *l)
{
	int ret, ctl;

	memset(l, 0, sizeof(*l));
	if (!module_present())
		return 0;
	ctl = control_open();
	if (ctl < 0)
		return ctl;
	ret = job_list_read(ctl, name, l);
	close(ctl);
	return ret;
}

static int list(const char *name)
{
	json_object *all;
	struct job_list l;
	unsigned int i;
	dev_t dev;
	int ret = name ? disk_find(name, &dev) : 0;

	if (!ret)
		ret = read_list(name, &l);
	if (ret)
		return ret;
	all = json_object_new_array();
	if (!opt_json)
		job_print_head();
	for (i = 0; i < l.nr; i++) {
		if (opt_json)
			json_object_array_add(all, job_json(&l.jobs[i]));
		else
			job_print(&l.jobs[i]);
	}
	if (opt_json)
		show_json(all);
	else
		json_object_put(all);
	job_list_free(&l);
	return 0;
}

static int show(struct order *o)
{
	if (opt_json) {
		show_json(job_json(o->e));
		return 0;
	}
	job_print_head();
	job_print(o->e);
	return 0;
}

/* --- Verbs of what the kernel has --- */

static int left_on_disk(const struct order *o, const char *what)
{
	char id[JOB_ID_TEXT];

	return msg_fail(EXIT_FAILED,
			"%s: job %s was interrupted and does not run, so there is nothing to %s; dmchain job resume %s goes on with it",
			o->e->job.disk, job_id(o->e, id), what, id);
}

static int parse_timeout(const struct order *o, uint64_t *ms)
{
	unsigned long s;
	char *end;

	*ms = 0;
	if (!o->timeout)
		return 0;
	errno = 0;
	s = strtoul(o->timeout, &end, 10);
	if (o->timeout[strspn(o->timeout, "0123456789")] || !*o->timeout ||
	    errno || s > UINT_MAX)
		return msg_fail(EXIT_USAGE, "%s: no number of seconds",
				o->timeout);
	/* None at all is how to ask whether it has ended. */
	*ms = s ? s * 1000 : 1;
	return 0;
}

static int still(const struct dm_chain_job *job, const char *timeout)
{
	return msg_fail(EXIT_FAILED,
			"%s: job %llu is still %s after %s seconds; dmchain job show %llu",
			job->disk, (unsigned long long)job->id,
			job_status_name(job->status), timeout,
			(unsigned long long)job->id);
}

static int wait_job(struct order *o)
{
	struct job_waiting w = {
		.id = o->e->job.id, .until_ready = true,
		.show = isatty(STDERR_FILENO),
	};
	int end = 0, ret;

	if (o->e->left)
		return left_on_disk(o, "wait for");
	ret = parse_timeout(o, &w.timeout_ms);
	if (!ret)
		ret = job_wait(o->ctl, &w);
	if (ret == JOB_TIMED_OUT)
		return still(&w.job, o->timeout);
	if (ret)
		return ret;
	if (!job_live(&w.job)) {
		ret = job_finish(w.job.disk);
		end = job_ended(&w.job);
	}
	if (!end && opt_json)
		show_json(job_kernel_json(&w.job));
	return end ? end : ret;
}

/* What has changed shows in the job as it is then. */
static int told(struct order *o)
{
	struct dm_chain_job job;
	int ret;

	if (!opt_json)
		return 0;
	ret = control_job(o->ctl, o->e->job.id, &job);
	if (!ret)
		show_json(job_kernel_json(&job));
	return ret;
}

static int tell(struct order *o, uint32_t verb, uint64_t arg)
{
	int ret = control_job_verb(o->ctl, o->e->job.id, verb, arg);

	return ret ? ret : told(o);
}

static int pause_job(struct order *o)
{
	return o->e->left ? left_on_disk(o, "pause") :
			    tell(o, DM_CHAIN_VERB_PAUSE, 0);
}

static int set_speed(struct order *o)
{
	uint64_t rate;
	int ret = size_parse(o->rate, NULL, &rate);

	if (ret)
		return ret;
	return o->e->left ? left_on_disk(o, "slow down") :
			    tell(o, DM_CHAIN_VERB_SPEED, rate);
}

/* --- What goes on, or is dropped, where a record was left --- */

static int run_record(struct order *o, struct job_ask *ask)
{
	struct chain_id id;

	memcpy(id.b, o->e->job.uuid, sizeof(id.b));
	ask->name = o->e->job.disk;
	ask->op = o->e->job.type == DM_CHAIN_JOB_STREAM ? DM_CHAIN_OP_STREAM :
							  DM_CHAIN_OP_COMMIT;
	ask->record = &id;
	/* Whose children were to be lost was decided when it began. */
	ask->force = true;
	return job_run(ask);
}

static int resume(struct order *o)
{
	struct job_ask ask = { .background = !o->wait };
	int ret;

	if (o->e->left && o->e->job.type == DM_CHAIN_JOB_MIRROR)
		return mirror_resume(o->e->job.disk, !o->wait, false);
	if (o->e->left)
		return run_record(o, &ask);
	if (!o->wait)
		return tell(o, DM_CHAIN_VERB_RESUME, 0);
	job_signals();
	ret = control_job_verb(o->ctl, o->e->job.id, DM_CHAIN_VERB_RESUME, 0);
	/* Where the disk goes on after a mirror is not to be decided here. */
	return ret ? ret : job_follow(o->ctl, o->e->job.id,
				      o->e->job.type == DM_CHAIN_JOB_MIRROR);
}

static int cancel_left(struct order *o)
{
	struct job_ask ask = { .cancel = true };
	char id[JOB_ID_TEXT];

	if (o->e->job.type == DM_CHAIN_JOB_STREAM)
		return run_record(o, &ask);
	if (o->e->job.type == DM_CHAIN_JOB_MIRROR)
		return mirror_forget(o->e->job.disk);
	job_id(o->e, id);
	return msg_fail(EXIT_FAILED,
			"%s: commit %s can't be undone, its base is changed already, only finished; dmchain job resume %s",
			o->e->job.disk, id, id);
}

static int cancel(struct order *o)
{
	struct job_waiting w = {
		.id = o->e->job.id, .show = isatty(STDERR_FILENO),
	};
	int end, ret;

	if (o->e->left)
		return cancel_left(o);
	ret = control_job_verb(o->ctl, w.id, DM_CHAIN_VERB_CANCEL, 0);
	if (!ret)
		ret = job_wait(o->ctl, &w);
	if (ret)
		return ret;
	ret = job_finish(w.job.disk);
	end = w.job.error == -ECANCELED ? 0 : job_ended(&w.job);
	if (!end && opt_json)
		show_json(job_kernel_json(&w.job));
	return end ? end : ret;
}

static const struct verb {
	const char *name;
	int (*run)(struct order *o);
	bool rate;
	bool timeout;
	bool wait;
} verbs[] = {
	{ "show", show, false, false, false },
	{ "wait", wait_job, false, true, false },
	{ "pause", pause_job, false, false, false },
	{ "resume", resume, false, false, true },
	{ "speed", set_speed, true, false, false },
	{ "cancel", cancel, false, false, false },
};

static int misplaced(const char *what)
{
	return msg_fail(EXIT_USAGE, "job: %s; see dmchain job --help", what);
}

static int obey(const struct verb *v, int argc, char **argv, struct order *o)
{
	int ret;

	if (argc != (v->rate ? 3 : 2))
		return misplaced(v->rate ? "speed needs a JOB and a RATE" :
					   "that needs one JOB");
	if (o->timeout && !v->timeout)
		return misplaced("--timeout is an option of wait");
	if (o->wait && !v->wait)
		return misplaced("--wait is an option of resume");
	o->arg = argv[1];
	o->rate = argv[2];
	ret = find_job(o);
	return ret ? ret : v->run(o);
}

static int run_verb(int argc, char **argv, struct order *o)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(verbs); i++)
		if (!strcmp(argv[0], verbs[i].name))
			return obey(&verbs[i], argc, argv, o);
	return msg_fail(EXIT_USAGE,
			"job: %s: nothing that a job could do; see dmchain job --help",
			argv[0]);
}

int cmd_job(int argc, char **argv)
{
	struct order o = { .ctl = -1 };
	const struct arg_opt opts[] = {
		{ "timeout", &o.timeout, NULL },
		{ "wait", NULL, &o.wait },
		{ NULL, NULL, NULL },
	};
	int ret = args_parse(&argc, &argv, opts, 1, 3);

	if (ret)
		return ret;
	if (strcmp(argv[0], "list"))
		ret = run_verb(argc, argv, &o);
	else if (o.timeout || o.wait || argc > 2)
		ret = misplaced("list takes the name of a disk, or nothing");
	else
		ret = list(argv[1]);
	job_list_free(&o.list);
	if (o.ctl >= 0)
		close(o.ctl);
	return ret;
}
