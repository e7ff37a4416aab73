// SPDX-License-Identifier: GPL-2.0-or-later
// sources: userspace/args.c userspace/fdarg.c userspace/cmd-job.c userspace/job-list.c userspace/job-progress.c userspace/job-range.c userspace/job-show.c userspace/layer-arg.c userspace/msg.c userspace/path.c userspace/size.c
// libs: -ljson-c
/*
 * Jobs as a user sees them, with a kernel of paper: one disk, vm-a, of five
 * layers, and whatever jobs a test says there are.
 */
#include "job.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <cmocka.h>

#define NR	5
#define DISK	makedev(253, 7)

bool opt_json;

static struct dm_chain_layer layers[NR + 1];
static unsigned int nr_layers;
static struct dm_chain_job jobs[8];
static unsigned int nr_jobs;
static uint32_t header_base;	/* what the header of a layer says */
static bool loaded;
static json_object *shown;
static char calls[256];
static struct job_ask asked;
static struct chain_id asked_record;

static void call(const char *what)
{
	strcat(calls, calls[0] ? " " : "");
	strcat(calls, what);
}

static int setup(void **state)
{
	unsigned int i;

	(void)state;
	memset(layers, 0, sizeof(layers));
	nr_layers = NR;
	for (i = 0; i < NR; i++) {
		layers[i].major = 7;
		layers[i].minor = i;
		layers[i].format = DM_CHAIN_FORMAT_CHAIN;
		memset(layers[i].uuid, 0xa0 + (int)i, 16);
	}
	nr_jobs = 0;
	memset(jobs, 0, sizeof(jobs));
	loaded = true;
	opt_json = false;
	header_base = DM_CHAIN_FORMAT_NONE;
	calls[0] = '\0';
	memset(&asked, 0, sizeof(asked));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	json_object_put(shown);
	shown = NULL;
	return 0;
}

/* A job with a uuid of bytes @fill. */
static struct dm_chain_job *job(uint64_t id, int fill, uint32_t type,
				uint32_t status)
{
	struct dm_chain_job *j = &jobs[nr_jobs++];

	*j = (struct dm_chain_job){
		.id = id, .major = 253, .minor = 7, .type = type,
		.status = status, .total_bytes = 4096, .current_bytes = 1024,
	};
	memset(j->uuid, fill, sizeof(j->uuid));
	strcpy(j->disk, "vm-a");
	return j;
}

static void record(unsigned int index, int fill, uint32_t type, int base)
{
	struct dm_chain_layer *l = &layers[index];

	l->flags |= DM_CHAIN_LAYER_RECORD;
	l->record_type = type;
	memset(l->job, fill, sizeof(l->job));
	if (base >= 0)
		memcpy(l->record_base, layers[base].uuid, 16);
}

/* --- The kernel, and what the controller knows of it --- */

bool module_present(void)
{
	return loaded;
}

int control_open(void)
{
	assert_true(loaded);
	return dup(STDERR_FILENO);
}

int control_jobs(int ctl, uint64_t id, struct dm_chain_job **out,
		 unsigned int *nr)
{
	(void)ctl;
	assert_int_equal(id, 0);
	*out = malloc(sizeof(jobs));
	memcpy(*out, jobs, sizeof(jobs));
	*nr = nr_jobs;
	return 0;
}

int control_job(int ctl, uint64_t id, struct dm_chain_job *out)
{
	unsigned int i;

	(void)ctl;
	for (i = 0; i < nr_jobs; i++)
		if (jobs[i].id == id)
			*out = jobs[i];
	return 0;
}

int control_job_verb(int ctl, uint64_t id, uint32_t verb, uint64_t arg)
{
	char text[64];

	(void)ctl;
	snprintf(text, sizeof(text), "verb:%u:%u:%llu", (unsigned int)id, verb,
		 (unsigned long long)arg);
	call(text);
	return 0;
}

int control_layers(int ctl, dev_t disk, struct dm_chain_layer **out,
		   unsigned int *nr)
{
	(void)ctl;
	assert_int_equal(disk, DISK);
	*out = malloc(sizeof(layers));
	memcpy(*out, layers, sizeof(layers));
	*nr = nr_layers;
	return 0;
}

int dm_each(int (*cb)(const char *name, dev_t dev, void *arg), void *arg)
{
	return cb("vm-a", DISK, arg);
}

int dm_disk(const char *name, dev_t *dev, bool *suspended)
{
	assert_null(suspended);
	*dev = DISK;
	return strcmp(name, "vm-a") ? -EXIT_FAILED : 0;
}

int dm_state(const char *name, struct dm_state *s)
{
	(void)name;
	*s = (struct dm_state){ .live = true, .ours = true };
	return 0;
}

int disk_find(const char *name, dev_t *dev)
{
	*dev = DISK;
	return strcmp(name, "vm-a") ?
		msg_fail(EXIT_FAILED, "%s: no such disk", name) : 0;
}

char *disk_layer_path(dev_t dev)
{
	char *path = NULL;

	assert_true(asprintf(&path, "/nowhere/%u", minor(dev)) > 0);
	return path;
}

void disk_true_identity(dev_t *dev, ino_t *ino)
{
	(void)dev;
	(void)ino;
}

int image_open(struct image *img, const char *path, uint32_t format, int flags)
{
	(void)path;
	(void)flags;
	memset(img, 0, sizeof(*img));
	img->format = format;
	img->hdr.record.base_format = header_base;
	return 0;
}

void image_close(struct image *img)
{
	(void)img;
}

void show_json(json_object *o)
{
	json_object_put(shown);
	shown = o;
}

int job_run(const struct job_ask *ask)
{
	asked = *ask;
	if (ask->record)
		asked_record = *ask->record;
	call("run");
	return 0;
}

int job_wait(int ctl, struct job_waiting *w)
{
	call("wait");
	control_job(ctl, w->id, &w->job);
	return w->timeout_ms && job_live(&w->job) ? JOB_TIMED_OUT : 0;
}

int job_finish(const char *name)
{
	assert_string_equal(name, "vm-a");
	call("finish");
	return 0;
}

int job_follow(int ctl, uint64_t id, bool no_pivot)
{
	(void)ctl;
	(void)id;
	assert_false(no_pivot);
	call("follow");
	return 0;
}

int mirror_resume(const char *name, bool background, bool quiet)
{
	(void)quiet;
	assert_string_equal(name, "vm-a");
	call(background ? "mirror-background" : "mirror");
	return 0;
}

int mirror_forget(const char *name)
{
	assert_string_equal(name, "vm-a");
	call("forget");
	return 0;
}

void job_signals(void)
{
}

int job_ended(const struct dm_chain_job *j)
{
	return j->error ? msg_fail(EXIT_FAILED, "ended %d", j->error) : 0;
}

/* --- Helpers --- */

static int run(const char *line)
{
	char text[256], *argv[16], *rest = text;
	int argc = 0;

	snprintf(text, sizeof(text), "%s", line);
	calls[0] = '\0';
	while ((argv[argc] = strsep(&rest, " ")))
		argc++;
	fflush(stdout);
	return -cmd_job(argc, argv);
}

static const char *text_of(json_object *o, const char *key)
{
	json_object *value;

	assert_true(json_object_object_get_ex(o, key, &value));
	return json_object_get_string(value);
}

static json_object *list_json(size_t nr)
{
	opt_json = true;
	assert_int_equal(run("job list"), 0);
	opt_json = false;
	assert_non_null(shown);
	assert_int_equal(json_object_array_length(shown), nr);
	return shown;
}

static void assert_said(const char *word)
{
	if (!strstr(msg_last(), word))
		fail_msg("not said: %s, but: %s", word, msg_last());
}

/* --- list, show --- */

static void lists_what_there_is(void **state)
{
	json_object *o;

	(void)state;
	loaded = false;
	list_json(0);
	loaded = true;
	list_json(0);
	job(3, 0x11, DM_CHAIN_JOB_STREAM, DM_CHAIN_JOB_RUNNING)->speed = 77;
	job(4, 0x22, DM_CHAIN_JOB_ACTIVE_COMMIT, DM_CHAIN_JOB_READY);
	o = json_object_array_get_idx(list_json(2), 0);
	assert_string_equal(json_object_to_json_string_ext(o, 0),
		"{\"id\":\"3\",\"uuid\":\"11111111-1111-1111-1111-111111111111\","
		"\"type\":\"stream\",\"chain\":\"vm-a\",\"status\":\"running\","
		"\"current-progress\":1024,\"total-progress\":4096,\"speed\":77,"
		"\"error\":null,\"on-error\":\"report\",\"errors\":0}");
	o = json_object_array_get_idx(shown, 1);
	assert_string_equal(text_of(o, "type"), "commit");
	assert_string_equal(text_of(o, "active"), "true");
	assert_string_equal(text_of(o, "status"), "ready");
}

static void how_it_ended(void **state)
{
	json_object *o;

	(void)state;
	job(1, 1, DM_CHAIN_JOB_STREAM, DM_CHAIN_JOB_CONCLUDED)->error = -ECANCELED;
	job(2, 2, DM_CHAIN_JOB_COMMIT, DM_CHAIN_JOB_CONCLUDED)->error = -ENODEV;
	job(3, 3, DM_CHAIN_JOB_COMMIT, DM_CHAIN_JOB_PAUSED)->error = -ENOSPC;
	jobs[2].on_error = DM_CHAIN_ON_ERROR_ENOSPC;
	o = list_json(3);
	assert_string_equal(text_of(json_object_array_get_idx(o, 0), "error"),
			    "cancelled");
	assert_string_equal(text_of(json_object_array_get_idx(o, 1), "error"),
			    "the disk was closed");
	o = json_object_array_get_idx(o, 2);
	assert_string_equal(text_of(o, "error"), "No space left on device");
	assert_string_equal(text_of(o, "on-error"), "enospc");
}

static void records_are_jobs(void **state)
{
	json_object *o;

	(void)state;
	record(1, 0xcd, DM_CHAIN_RECORD_COMMIT, 3);
	o = json_object_array_get_idx(list_json(1), 0);
	assert_string_equal(text_of(o, "id"), "cdcdcdcd");
	assert_string_equal(text_of(o, "status"), "paused");
	assert_string_equal(text_of(o, "error"), "interrupted");
	assert_string_equal(text_of(o, "type"), "commit");
	assert_false(json_object_object_get_ex(o, "active", NULL));
	/* Not while it runs, but again when it was cancelled. */
	job(5, 0xcd, DM_CHAIN_JOB_COMMIT, DM_CHAIN_JOB_RUNNING);
	o = json_object_array_get_idx(list_json(1), 0);
	assert_string_equal(text_of(o, "id"), "5");
	jobs[0].status = DM_CHAIN_JOB_CONCLUDED;
	list_json(2);
	/* One of another job is no matter. */
	jobs[0].status = DM_CHAIN_JOB_RUNNING;
	memset(jobs[0].uuid, 0xce, 16);
	list_json(2);
}

static void records_of_the_top_are_active(void **state)
{
	json_object *o;

	(void)state;
	record(0, 0xcd, DM_CHAIN_RECORD_COMMIT, 1);
	o = json_object_array_get_idx(list_json(1), 0);
	assert_string_equal(text_of(o, "active"), "true");
	layers[0].record_type = DM_CHAIN_RECORD_STREAM;
	o = json_object_array_get_idx(list_json(1), 0);
	assert_string_equal(text_of(o, "type"), "stream");
	assert_false(json_object_object_get_ex(o, "active", NULL));
}

/* What a job has dropped is no layer of the disk any more. */
static void dropped_layers_have_no_record(void **state)
{
	(void)state;
	record(4, 0xcd, DM_CHAIN_RECORD_COMMIT, 3);
	list_json(1);
	layers[3].role = layers[4].role = DM_CHAIN_ROLE_DROPPED;
	list_json(0);
}

static void lists_of_one_disk(void **state)
{
	(void)state;
	job(1, 1, DM_CHAIN_JOB_STREAM, DM_CHAIN_JOB_RUNNING);
	job(2, 2, DM_CHAIN_JOB_STREAM, DM_CHAIN_JOB_CONCLUDED);
	strcpy(jobs[1].disk, "vm-b");
	jobs[1].major = 0;
	opt_json = true;
	assert_int_equal(run("job list vm-a"), 0);
	assert_int_equal(json_object_array_length(shown), 1);
	assert_int_equal(run("job list vm-b"), EXIT_FAILED);
	assert_int_equal(run("job list"), 0);
	assert_int_equal(json_object_array_length(shown), 2);
}

/* Its name at the start is not what it is called now. */
static void disks_are_renamed(void **state)
{
	json_object *o;

	(void)state;
	strcpy(job(1, 1, DM_CHAIN_JOB_STREAM, DM_CHAIN_JOB_RUNNING)->disk, "old");
	o = json_object_array_get_idx(list_json(1), 0);
	assert_string_equal(text_of(o, "chain"), "vm-a");
}

/* --- JOB --- */

static const struct job_entry *find(struct job_list *l, const char *arg)
{
	const struct job_entry *e = NULL;

	assert_int_equal(job_list_read(0, NULL, l), 0);
	return job_find(l, arg, &e) ? NULL : e;
}

static uint64_t found(const char *arg)
{
	struct job_list l;
	const struct job_entry *e = find(&l, arg);
	uint64_t id = !e ? 0 : e->left ? 999 : e->job.id;

	job_list_free(&l);
	return id;
}

static void finds_jobs(void **state)
{
	(void)state;
	assert_int_equal(found("1"), 0);
	assert_said("no such job");
	job(1, 0x12, DM_CHAIN_JOB_STREAM, DM_CHAIN_JOB_CONCLUDED);
	assert_int_equal(found("vm-a"), 1);
	job(2, 0x34, DM_CHAIN_JOB_STREAM, DM_CHAIN_JOB_CONCLUDED);
	assert_int_equal(found("vm-a"), 2);
	job(11, 0x56, DM_CHAIN_JOB_COMMIT, DM_CHAIN_JOB_RUNNING);
	assert_int_equal(found("vm-a"), 11);
	assert_int_equal(found("1"), 1);
	assert_int_equal(found("11"), 11);
	assert_int_equal(found("1212"), 1);
	assert_int_equal(found("56565656-5656"), 11);
	assert_int_equal(found("57"), 0);
	assert_int_equal(found("vm"), 0);
	assert_int_equal(found(""), 0);
	job(12, 0x57, DM_CHAIN_JOB_COMMIT, DM_CHAIN_JOB_PAUSED);
	assert_int_equal(found("vm-a"), 0);
	assert_said("2 jobs could be meant");
	assert_int_equal(found("5"), 0);
	assert_int_equal(found("57"), 12);
}

static void finds_records(void **state)
{
	(void)state;
	record(1, 0xcd, DM_CHAIN_RECORD_COMMIT, 3);
	assert_int_equal(found("vm-a"), 999);
	assert_int_equal(found("cdcdcdcd"), 999);
	assert_int_equal(found("CDCD"), 999);
	/* That one was cancelled, and left it. */
	job(4, 0xcd, DM_CHAIN_JOB_COMMIT, DM_CHAIN_JOB_CONCLUDED);
	assert_int_equal(found("cdcd"), 999);
	assert_int_equal(found("vm-a"), 999);
	assert_int_equal(found("4"), 4);
	jobs[0].status = DM_CHAIN_JOB_RUNNING;
	assert_int_equal(found("cdcd"), 4);
	assert_int_equal(found("vm-a"), 4);
}

/* --- Verbs --- */

static void verbs(void **state)
{
	(void)state;
	job(3, 0x11, DM_CHAIN_JOB_STREAM, DM_CHAIN_JOB_RUNNING);
	assert_int_equal(run("job pause 3"), 0);
	assert_string_equal(calls, "verb:3:1:0");
	assert_int_equal(run("job resume vm-a"), 0);
	assert_string_equal(calls, "verb:3:2:0");
	assert_int_equal(run("job resume vm-a --wait"), 0);
	assert_string_equal(calls, "verb:3:2:0 follow");
	assert_int_equal(run("job speed 3 10M"), 0);
	assert_string_equal(calls, "verb:3:3:10485760");
	assert_int_equal(run("job speed 3 0"), 0);
	assert_string_equal(calls, "verb:3:3:0");
	assert_int_equal(run("job speed 3 fast"), EXIT_USAGE);
	assert_int_equal(run("job speed 3"), EXIT_USAGE);
	assert_int_equal(run("job fly 3"), EXIT_USAGE);
	assert_int_equal(run("job show 3 4"), EXIT_USAGE);
	assert_int_equal(run("job pause 3 --timeout 1"), EXIT_USAGE);
	assert_int_equal(run("job wait 3 --wait"), EXIT_USAGE);
	assert_int_equal(run("job pause 4"), EXIT_FAILED);
	assert_string_equal(calls, "");
}

static void waits(void **state)
{
	(void)state;
	job(3, 0x11, DM_CHAIN_JOB_STREAM, DM_CHAIN_JOB_RUNNING);
	assert_int_equal(run("job wait 3 --timeout 0"), EXIT_FAILED);
	assert_said("still running");
	assert_string_equal(calls, "wait");
	assert_int_equal(run("job wait 3 --timeout x"), EXIT_USAGE);
	assert_int_equal(run("job wait 3 --timeout -1"), EXIT_USAGE);
	jobs[0].status = DM_CHAIN_JOB_CONCLUDED;
	assert_int_equal(run("job wait 3 --timeout 5"), 0);
	assert_string_equal(calls, "wait finish");
	jobs[0].error = -EIO;
	assert_int_equal(run("job wait 3"), EXIT_FAILED);
	assert_string_equal(calls, "wait finish");
	jobs[0].status = DM_CHAIN_JOB_READY;
	jobs[0].error = 0;
	assert_int_equal(run("job wait 3"), 0);
	assert_string_equal(calls, "wait");
}

static void cancels(void **state)
{
	(void)state;
	job(3, 0x11, DM_CHAIN_JOB_STREAM, DM_CHAIN_JOB_CONCLUDED);
	jobs[0].error = -ECANCELED;
	assert_int_equal(run("job cancel 3"), 0);
	assert_string_equal(calls, "verb:3:4:0 wait finish");
	jobs[0].error = -EIO;
	assert_int_equal(run("job cancel 3"), EXIT_FAILED);
}

static void mirrors_go_on_or_are_forgotten(void **state)
{
	(void)state;
	record(0, 0xcd, DM_CHAIN_RECORD_MIRROR, -1);
	assert_int_equal(run("job resume vm-a"), 0);
	assert_string_equal(calls, "mirror-background");
	assert_int_equal(run("job resume vm-a --wait"), 0);
	assert_string_equal(calls, "mirror");
	assert_int_equal(run("job cancel vm-a"), 0);
	assert_string_equal(calls, "forget");
}

static void records_are_resumed(void **state)
{
	(void)state;
	record(1, 0xcd, DM_CHAIN_RECORD_COMMIT, 3);
	assert_int_equal(run("job resume vm-a"), 0);
	assert_string_equal(calls, "run");
	assert_int_equal(asked.op, DM_CHAIN_OP_COMMIT);
	assert_true(asked.background && asked.force && !asked.cancel);
	assert_int_equal(asked_record.b[3], 0xcd);
	assert_int_equal(run("job resume vm-a --wait"), 0);
	assert_false(asked.background);
	assert_int_equal(run("job cancel vm-a"), EXIT_FAILED);
	assert_said("can't be undone");
	assert_said("dmchain job resume cdcdcdcd");
	assert_string_equal(calls, "");
	assert_int_equal(run("job pause vm-a"), EXIT_FAILED);
	assert_int_equal(run("job wait vm-a"), EXIT_FAILED);
	assert_int_equal(run("job speed vm-a 1M"), EXIT_FAILED);
	assert_said("interrupted");
	layers[1].record_type = DM_CHAIN_RECORD_STREAM;
	assert_int_equal(run("job cancel cdcd"), 0);
	assert_int_equal(asked.op, DM_CHAIN_OP_STREAM);
	assert_true(asked.cancel);
}

/* --- Which layers --- */

static int range(struct job_ask ask, unsigned int *top, unsigned int *base)
{
	ask.name = "vm-a";
	return job_range(&ask, layers, nr_layers, top, base);
}

static void assert_range(struct job_ask ask, unsigned int top, unsigned int base)
{
	unsigned int t, b;

	assert_int_equal(range(ask, &t, &b), 0);
	assert_int_equal(t, top);
	assert_int_equal(b, base);
}

static void assert_no_range(int code, struct job_ask ask)
{
	unsigned int t, b;

	assert_int_equal(range(ask, &t, &b), -code);
}

#define STREAM	.op = DM_CHAIN_OP_STREAM
#define COMMIT	.op = DM_CHAIN_OP_COMMIT
#define ASK(...) ((struct job_ask){ __VA_ARGS__ })

static void ranges_of_options(void **state)
{
	(void)state;
	assert_range(ASK(STREAM), 0, NR);
	assert_range(ASK(STREAM, .top = "1"), 1, NR);
	assert_range(ASK(STREAM, .base = "2"), 0, 2);
	assert_range(ASK(STREAM, .top = "a1a1", .base = "a4a4"), 1, 4);
	assert_no_range(EXIT_FAILED, ASK(STREAM, .base = "1"));
	assert_said("nothing to stream");
	assert_no_range(EXIT_FAILED, ASK(STREAM, .top = "4"));
	assert_no_range(EXIT_USAGE, ASK(STREAM, .top = "3", .base = "1"));
	assert_no_range(EXIT_FAILED, ASK(STREAM, .top = "7"));
	assert_range(ASK(COMMIT), 0, 1);
	assert_range(ASK(COMMIT, .top = "2"), 2, 3);
	assert_range(ASK(COMMIT, .base = "4"), 0, 4);
	assert_range(ASK(COMMIT, .top = "1", .base = "a3"), 1, 3);
	assert_no_range(EXIT_FAILED, ASK(COMMIT, .top = "4"));
	assert_said("no layer below");
	assert_no_range(EXIT_USAGE, ASK(COMMIT, .top = "2", .base = "2"));
	assert_no_range(EXIT_USAGE, ASK(COMMIT, .top = "3", .base = "0"));
	nr_layers = 1;
	layers[0].format = DM_CHAIN_FORMAT_RAW;
	assert_no_range(EXIT_FAILED, ASK(STREAM));
	assert_said("is raw");
	assert_no_range(EXIT_FAILED, ASK(COMMIT));
	nr_layers = 0;
	assert_no_range(EXIT_FAILED, ASK(COMMIT));
}

/* What was begun goes on into the base that it has, unless that is named. */
static void a_record_has_its_base(void **state)
{
	(void)state;
	record(1, 0xcd, DM_CHAIN_RECORD_COMMIT, 3);
	assert_range(ASK(COMMIT, .top = "1"), 1, 3);
	assert_range(ASK(COMMIT, .top = "1", .base = "2"), 1, 2);
	assert_range(ASK(COMMIT, .top = "2"), 2, 3);
	assert_range(ASK(STREAM, .top = "1"), 1, NR);
}

static void ranges_of_records(void **state)
{
	struct chain_id id, other;

	(void)state;
	memset(id.b, 0xcd, sizeof(id.b));
	memset(other.b, 0xce, sizeof(other.b));
	record(1, 0xcd, DM_CHAIN_RECORD_COMMIT, 3);
	assert_range(ASK(COMMIT, .record = &id), 1, 3);
	assert_no_range(EXIT_FAILED, ASK(COMMIT, .record = &other));
	assert_said("no longer there");
	assert_no_range(EXIT_FAILED, ASK(STREAM, .record = &id));
	memset(layers[1].record_base, 0x77, 16);
	assert_no_range(EXIT_FAILED, ASK(COMMIT, .record = &id));
	assert_said("not among the layers");
	/* Of a commit the base must be raw, then. */
	memset(layers[1].record_base, 0, 16);
	assert_no_range(EXIT_FAILED, ASK(COMMIT, .record = &id));
	layers[4].format = DM_CHAIN_FORMAT_RAW;
	assert_range(ASK(COMMIT, .record = &id), 1, 4);
	/* Of a stream only the header knows. */
	layers[1].record_type = DM_CHAIN_RECORD_STREAM;
	assert_range(ASK(STREAM, .record = &id), 1, NR);
	header_base = DM_CHAIN_FORMAT_RAW;
	assert_range(ASK(STREAM, .record = &id), 1, 4);
	layers[4].format = DM_CHAIN_FORMAT_CHAIN;
	assert_range(ASK(STREAM, .record = &id), 1, NR);
}

/* --- Progress --- */

static const char *progress(struct progress *p, uint64_t done, uint64_t total)
{
	static char text[160];
	struct dm_chain_job j = {
		.status = DM_CHAIN_JOB_RUNNING, .current_bytes = done,
		.total_bytes = total,
	};

	return progress_text(p, &j, text, sizeof(text));
}

static void progress_is_told(void **state)
{
	struct dm_chain_job ready = {
		.status = DM_CHAIN_JOB_READY, .current_bytes = 8, .total_bytes = 8,
	};
	struct progress p = { 0 };
	char text[160];

	(void)state;
	progress_add(&p, 1000, 0);
	assert_string_equal(progress(&p, 0, 100 << 20),
			    "0 %, 0 B of 100 MiB, 0 B/s");
	progress_add(&p, 2000, 10 << 20);
	assert_string_equal(progress(&p, 10 << 20, 100 << 20),
			    "10 %, 10 MiB of 100 MiB, 10 MiB/s, 0:09 left");
	assert_string_equal(progress(&p, 10 << 20, 1010 << 20),
			    "0 %, 10 MiB of 1010 MiB, 10 MiB/s, 1:40 left");
	assert_string_equal(progress(&p, 0, 72010ULL << 20),
			    "0 %, 0 B of 70.3 GiB, 10 MiB/s, 2:00:01 left");
	assert_string_equal(progress(&p, 0, 0), "100 %, 0 B of 0 B, 10 MiB/s");
	assert_string_equal(progress(&p, UINT64_MAX / 2, UINT64_MAX),
			    "50 %, 7.9 EiB of 15.9 EiB, 10 MiB/s");
	assert_string_equal(progress_text(&p, &ready, text, sizeof(text)),
			    "100 %, 8 B of 8 B, ready");
}

static void rates_are_smoothed(void **state)
{
	struct progress p = { 0 };

	(void)state;
	progress_add(&p, 0, 0);
	progress_add(&p, 1000, 1000);
	assert_int_equal((int)p.rate, 1000);
	progress_add(&p, 2000, 3000);
	assert_int_equal((int)p.rate, 1300);
	/* The same instant tells nothing, a count that begins anew neither. */
	progress_add(&p, 2000, 9000);
	assert_int_equal((int)p.rate, 1300);
	progress_add(&p, 3000, 0);
	assert_int_equal((int)p.rate, 909);
	progress_add(&p, 4000, 2000);
	assert_int_equal((int)p.rate, 1237);
}

static void bars(void **state)
{
	struct dm_chain_job j = { .current_bytes = 42, .total_bytes = 100 };
	char text[16];

	(void)state;
	assert_string_equal(progress_bar(&j, 10, text, sizeof(text)),
			    "[####......]");
	j.current_bytes = 0;
	assert_string_equal(progress_bar(&j, 4, text, sizeof(text)), "[....]");
	j.current_bytes = 100;
	assert_string_equal(progress_bar(&j, 4, text, sizeof(text)), "[####]");
	/* No more than there is room for. */
	assert_string_equal(progress_bar(&j, 100, text, sizeof(text)),
			    "[#############]");
}

static void policies(void **state)
{
	uint32_t p;

	(void)state;
	assert_int_equal(job_on_error(NULL, &p), 0);
	assert_int_equal(p, DM_CHAIN_ON_ERROR_REPORT);
	assert_int_equal(job_on_error("enospc", &p), 0);
	assert_int_equal(p, DM_CHAIN_ON_ERROR_ENOSPC);
	assert_int_equal(job_on_error("ignore", &p), 0);
	assert_int_equal(p, DM_CHAIN_ON_ERROR_IGNORE);
	assert_int_equal(job_on_error("cry", &p), -EXIT_USAGE);
	/* A newer module may have more. */
	assert_string_equal(job_status_name(99), "unknown");
	assert_string_equal(job_on_error_name(99), "unknown");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(lists_what_there_is),
		TEST(how_it_ended),
		TEST(records_are_jobs),
		TEST(records_of_the_top_are_active),
		TEST(dropped_layers_have_no_record),
		TEST(lists_of_one_disk),
		TEST(disks_are_renamed),
		TEST(finds_jobs),
		TEST(finds_records),
		TEST(verbs),
		TEST(waits),
		TEST(cancels),
		TEST(records_are_resumed),
		TEST(mirrors_go_on_or_are_forgotten),
		TEST(ranges_of_options),
		TEST(a_record_has_its_base),
		TEST(ranges_of_records),
		TEST(progress_is_told),
		TEST(rates_are_smoothed),
		TEST(bars),
		TEST(policies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
