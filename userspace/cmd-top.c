// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain top: what goes on, sample by sample.
 *
 * The block layer counts what each device does, so nothing has to be counted in the
 * path of I/O. A disk's counts are what its user does. A layer's are what its device
 * does: copy-ups, maps and jobs are in them, and of a layer that several disks share
 * what all of them do.
 */
#include "job.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define FEW_LAYERS	16	/* are all shown; of more those with I/O */

/**
 * struct io - what a device has done
 * @reads: requests
 * @read_bytes: of them
 * @writes: requests, flushes not among them
 * @written_bytes: of them
 */
struct io {
	uint64_t reads;
	uint64_t read_bytes;
	uint64_t writes;
	uint64_t written_bytes;
};

/**
 * struct device - one that was looked at
 * @dev: which
 * @path: where its data lives
 * @before: at the sample before
 * @now: at this one
 * @sample: number of that
 * @had: number of the one before, of which @before is
 */
struct device {
	dev_t dev;
	char *path;
	struct io before;
	struct io now;
	unsigned int sample;
	unsigned int had;
};

/**
 * struct top - what is asked for, and what is known
 * @names: of disks; none: all
 * @nr_names: how many
 * @delay_ms: between samples
 * @left: samples to come, if @counted
 * @clear: a terminal is drawn anew each time
 * @ctl: control device
 * @devices: all that were looked at
 * @nr: how many
 * @sample: number of this one, from 1 on
 * @at_ms: when it began
 * @ms: since the one before
 * @disks: JSON: array of this sample
 * @jobs: as they were at the sample before
 * @nr_jobs: how many
 */
struct top {
	char **names;
	int nr_names;
	uint64_t delay_ms;
	uint64_t left;
	bool counted;
	bool clear;
	int ctl;
	struct device *devices;
	unsigned int nr;
	unsigned int sample;
	uint64_t at_ms;
	uint64_t ms;
	json_object *disks;
	struct dm_chain_job *jobs;
	unsigned int nr_jobs;
};

/* --- What devices have done --- */

static bool read_io(dev_t dev, struct io *io)
{
	unsigned long long v[8];
	char text[256];

	if (!sysfs_text(dev, "stat", text, sizeof(text)) ||
	    sscanf(text, "%llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1],
		   &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]) != 8)
		return false;
	io->reads = v[0];
	io->read_bytes = v[2] * 512;
	io->writes = v[4];
	io->written_bytes = v[6] * 512;
	return true;
}

static struct device *find(struct top *t, dev_t dev)
{
	struct device *more;
	unsigned int i;

	for (i = 0; i < t->nr; i++)
		if (t->devices[i].dev == dev)
			return &t->devices[i];
	more = realloc(t->devices, (t->nr + 1) * sizeof(*more));
	if (!more)
		return NULL;
	t->devices = more;
	more[t->nr] = (struct device){ .dev = dev };
	return &more[t->nr++];
}

/* Once in a sample, however many disks have it. */
static struct device *look(struct top *t, dev_t dev)
{
	struct device *d = find(t, dev);

	if (!d || d->sample == t->sample)
		return d;
	d->before = d->now;
	d->had = d->sample;
	if (read_io(dev, &d->now))
		d->sample = t->sample;
	return d;
}

/* A counter that has gone back is another device's by now. */
static uint64_t more(uint64_t now, uint64_t before)
{
	return now > before ? now - before : 0;
}

static struct io difference(const struct top *t, const struct device *d)
{
	struct io io = { 0 };

	if (!d || d->sample != t->sample || d->had + 1 != t->sample)
		return io;
	io.reads = more(d->now.reads, d->before.reads);
	io.read_bytes = more(d->now.read_bytes, d->before.read_bytes);
	io.writes = more(d->now.writes, d->before.writes);
	io.written_bytes = more(d->now.written_bytes, d->before.written_bytes);
	return io;
}

static bool any(const struct io *io)
{
	return io->reads || io->writes;
}

/* --- How they are shown --- */

static uint64_t rate(const struct top *t, uint64_t n)
{
	return t->ms ? n * 1000 / t->ms : 0;
}

static void print_io(const struct top *t, const struct io *io)
{
	char in[32], out[32];

	printf("%9llu  %10s  %9llu  %10s\n",
	       (unsigned long long)rate(t, io->reads),
	       size_text(rate(t, io->read_bytes), in),
	       (unsigned long long)rate(t, io->writes),
	       size_text(rate(t, io->written_bytes), out));
}

static void print_name(const char *text, unsigned int width)
{
	char *copy = strdup(text ? text : "?"), *name;

	if (!copy)
		return;
	name = strrchr(copy, '/') ? strrchr(copy, '/') + 1 : copy;
	printf("%-*.*s  ", (int)width, (int)width, text_clean(name));
	free(copy);
}

static void io_json(json_object *o, const struct io *io)
{
	json_object_object_add(o, "reads", json_object_new_uint64(io->reads));
	json_object_object_add(o, "read-bytes",
			       json_object_new_uint64(io->read_bytes));
	json_object_object_add(o, "writes", json_object_new_uint64(io->writes));
	json_object_object_add(o, "written-bytes",
			       json_object_new_uint64(io->written_bytes));
}

/* --- A disk --- */

static const char *access_text(const struct dm_chain_layer *l)
{
	return l->access == DM_CHAIN_ACCESS_RW ? "rw" :
	       l->access == DM_CHAIN_ACCESS_RO ? "ro" : "none";
}

static const char *role_text(const struct dm_chain_layer *l)
{
	return l->role == DM_CHAIN_ROLE_TARGET ? "target" :
	       l->role == DM_CHAIN_ROLE_LAYER ? "layer" : "attached";
}

static void layer_json(json_object *layers, const struct dm_chain_layer *l,
		       const struct device *d, const struct io *io)
{
	json_object *o = json_object_new_object();
	char device[32];

	snprintf(device, sizeof(device), "%u:%u", l->major, l->minor);
	json_object_object_add(o, "role", json_object_new_string(role_text(l)));
	json_object_object_add(o, "path", json_text(d ? d->path : NULL));
	json_object_object_add(o, "device", json_object_new_string(device));
	json_object_object_add(o, "access", json_object_new_string(access_text(l)));
	json_object_object_add(o, "users", json_object_new_int64(l->users));
	io_json(o, io);
	json_object_array_add(layers, o);
}

static void layer_text(const struct top *t, const struct dm_chain_layer *l,
		       unsigned int index, const struct device *d,
		       const struct io *io)
{
	if (l->role == DM_CHAIN_ROLE_LAYER)
		printf("%5u  %-4s  ", index, access_text(l));
	else
		printf("%5s  %-4s  ", "->", access_text(l));
	print_name(d ? d->path : NULL, 24);
	if (l->users > 1)
		printf("%u disks  ", l->users);
	else
		printf("%-9s", "");
	print_io(t, io);
}

static void show_layers(struct top *t, const struct dm_chain_layer *l,
			unsigned int nr, json_object *layers)
{
	unsigned int i, idle = 0;

	for (i = 0; i < nr; i++) {
		struct device *d = look(t, makedev(l[i].major, l[i].minor));
		struct io io = difference(t, d);

		if (d && !d->path)
			d->path = disk_layer_path(d->dev);
		if (layers)
			layer_json(layers, &l[i], d, &io);
		else if (nr <= FEW_LAYERS || !i || any(&io))
			layer_text(t, &l[i], i, d, &io);
		else
			idle++;
	}
	if (idle)
		printf("       and %u layers that do nothing\n", idle);
}

static void show_disk_io(struct top *t, const char *name, dev_t dev,
			 const struct dm_chain_layer *l, unsigned int nr)
{
	struct io io = difference(t, look(t, dev));
	json_object *o, *layers = NULL;

	if (!opt_json) {
		print_name(name, 46);
		print_io(t, &io);
		show_layers(t, l, nr, NULL);
		return;
	}
	o = json_object_new_object();
	layers = json_object_new_array();
	json_object_object_add(o, "name", json_text(name));
	io_json(o, &io);
	show_layers(t, l, nr, layers);
	json_object_object_add(o, "layers", layers);
	json_object_array_add(t->disks, o);
}

/* The first sample only says where the others begin. */
static void count_only(struct top *t, dev_t dev, const struct dm_chain_layer *l,
		       unsigned int nr)
{
	unsigned int i;

	(void)look(t, dev);
	for (i = 0; i < nr; i++)
		(void)look(t, makedev(l[i].major, l[i].minor));
}

static bool wanted(const struct top *t, const char *name)
{
	int i;

	for (i = 0; i < t->nr_names; i++)
		if (!strcmp(t->names[i], name))
			return true;
	return !t->nr_names;
}

/* A disk may be closed at any time, and then is not there. */
static int disk_cb(const char *name, dev_t dev, void *arg)
{
	struct dm_chain_layer *layers = NULL;
	struct top *t = arg;
	struct dm_state s;
	unsigned int nr = 0;

	if (!wanted(t, name) || dm_state(name, &s) || !s.live ||
	    control_layers(t->ctl, dev, &layers, &nr))
		return 0;
	if (t->sample == 1)
		count_only(t, dev, layers, nr);
	else
		show_disk_io(t, name, dev, layers, nr);
	free(layers);
	return 0;
}

/* --- Jobs --- */

static uint64_t job_before(const struct top *t, const struct dm_chain_job *job)
{
	unsigned int i;

	for (i = 0; i < t->nr_jobs; i++)
		if (t->jobs[i].id == job->id)
			return t->jobs[i].current_bytes;
	return job->current_bytes;
}

static void job_text(const struct top *t, const struct dm_chain_job *job)
{
	struct progress p = { .looks = 1 };
	char bar[32], text[160];

	p.rate = rate(t, more(job->current_bytes, job_before(t, job)));
	printf("job %llu %s %s %s %s\n", (unsigned long long)job->id, job->disk,
	       job_type_name(job->type), progress_bar(job, 20, bar, sizeof(bar)),
	       progress_text(&p, job, text, sizeof(text)));
}

static int show_jobs(struct top *t, json_object *out)
{
	struct dm_chain_job *jobs;
	unsigned int i, nr;
	int ret = control_jobs(t->ctl, 0, &jobs, &nr);

	if (ret)
		return ret;
	for (i = 0; i < nr && t->sample > 1; i++) {
		if (!job_live(&jobs[i]) || !wanted(t, jobs[i].disk))
			continue;
		if (out)
			json_object_array_add(out, job_kernel_json(&jobs[i]));
		else
			job_text(t, &jobs[i]);
	}
	free(t->jobs);
	t->jobs = jobs;
	t->nr_jobs = nr;
	return 0;
}

/* --- Samples --- */

static void head(const struct top *t)
{
	time_t now = time(NULL);
	char text[40];
	struct tm tm;

	strftime(text, sizeof(text), "%H:%M:%S", localtime_r(&now, &tm));
	if (t->clear)
		fputs("\033[H\033[J", stdout);
	printf("%s, of %llu.%llu s\n", text, (unsigned long long)t->ms / 1000,
	       (unsigned long long)t->ms / 100 % 10);
	printf("%-46s  %9s  %10s  %9s  %10s\n", "disk, and its layers", "reads/s",
	       "read/s", "writes/s", "written/s");
}

static int sample_json(struct top *t)
{
	json_object *o = json_object_new_object(), *jobs = json_object_new_array();
	struct timespec now;
	int ret;

	clock_gettime(CLOCK_REALTIME, &now);
	t->disks = json_object_new_array();
	ret = dm_each(disk_cb, t);
	if (!ret)
		ret = show_jobs(t, jobs);
	json_object_object_add(o, "time-ns", json_object_new_uint64(
			       (uint64_t)now.tv_sec * 1000000000 + now.tv_nsec));
	json_object_object_add(o, "interval-ms", json_object_new_uint64(t->ms));
	json_object_object_add(o, "disks", t->disks);
	json_object_object_add(o, "jobs", jobs);
	if (!ret)
		puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
						    JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
	return ret;
}

static int sample(struct top *t)
{
	uint64_t now = job_now_ms();
	int ret;

	t->ms = t->sample ? now - t->at_ms : 0;
	t->at_ms = now;
	t->sample++;
	if (t->sample > 1 && opt_json)
		return sample_json(t);
	if (t->sample > 1)
		head(t);
	ret = dm_each(disk_cb, t);
	return ret ? ret : show_jobs(t, NULL);
}

static void rest(const struct top *t)
{
	struct timespec step = {
		.tv_sec = (time_t)(t->delay_ms / 1000),
		.tv_nsec = (long)(t->delay_ms % 1000 * 1000000),
	};

	(void)nanosleep(&step, NULL);
}

/* Who reads us may go: then there is nobody to tell. */
static int follow(struct top *t)
{
	int ret = sample(t);

	while (!ret && !ferror(stdout) && (!t->counted || t->left)) {
		rest(t);
		if (job_interrupted())
			break;
		ret = sample(t);
		fflush(stdout);
		t->left--;
	}
	return ret;
}

static int check_names(const struct top *t)
{
	dev_t dev;
	int i, ret = 0;

	for (i = 0; i < t->nr_names && !ret; i++)
		ret = disk_find(t->names[i], &dev);
	return ret;
}

static int top(struct top *t)
{
	unsigned int i;
	int ret = check_names(t);

	if (ret)
		return ret;
	t->ctl = control_open();
	if (t->ctl < 0)
		return t->ctl;
	job_signals();
	ret = follow(t);
	close(t->ctl);
	for (i = 0; i < t->nr; i++)
		free(t->devices[i].path);
	free(t->devices);
	free(t->jobs);
	return ret;
}

/* --- Options --- */

static int parse_delay(const char *text, uint64_t *ms)
{
	double s;
	char *end;

	*ms = 2000;
	if (!text)
		return 0;
	s = strtod(text, &end);
	if (end == text || *end || !(s >= 0.1) || s > 86400)
		return msg_fail(EXIT_USAGE, "%s: no delay; say seconds, 0.1 to 86400",
				text);
	*ms = (uint64_t)(s * 1000);
	return 0;
}

static int parse_count(const char *text, struct top *t)
{
	char *end;

	if (!text)
		return 0;
	errno = 0;
	t->left = strtoull(text, &end, 10);
	t->counted = true;
	if (!errno && end != text && !*end && *text != '-' && t->left)
		return 0;
	return msg_fail(EXIT_USAGE, "%s: no number of samples; say 1 or more", text);
}

/* As top(1) has it; all other options of ours are long. */
static void long_count(int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++)
		if (!strcmp(argv[i], "-n"))
			argv[i] = "--count";
}

int cmd_top(int argc, char **argv)
{
	const char *delay = NULL, *count = NULL;
	bool once = false;
	const struct arg_opt opts[] = {
		{ "delay", &delay, NULL },
		{ "count", &count, NULL },
		{ "once", NULL, &once },
		{ NULL, NULL, NULL },
	};
	struct top t = { .ctl = -1 };
	int ret;

	long_count(argc, argv);
	ret = args_parse(&argc, &argv, opts, 0, 1 << 16);
	if (!ret)
		ret = parse_delay(delay, &t.delay_ms);
	if (!ret)
		ret = parse_count(once && !count ? "1" : count, &t);
	if (ret)
		return ret;
	t.names = argv;
	t.nr_names = argc;
	t.clear = !opt_json && !t.counted && isatty(STDOUT_FILENO);
	return top(&t);
}
