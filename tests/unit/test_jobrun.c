// SPDX-License-Identifier: GPL-2.0-or-later
// sources: kmod/dm-chain-perm.c userspace/args.c userspace/fdarg.c userspace/cmd-stream.c userspace/job-range.c userspace/job-run.c userspace/job-show.c userspace/job-space.c userspace/layer-arg.c userspace/layer-link.c userspace/msg.c userspace/path.c userspace/perm-take.c userspace/size.c
// libs: -ljson-c
/*
 * How a stream or commit is started, with a kernel of paper: in which order
 * things are done, what is given back when one of them fails, and what is
 * refused before anything is written. Layers are files l0 (top) to l4 in a
 * folder of the test's own.
 */
#include "job.h"
#include "perm.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <cmocka.h>

#define NR	5
#define DISK	makedev(253, 7)
#define GIB	(1ULL << 30)

bool opt_json;

static char folder[64];
static struct dm_chain_layer layers[NR];
static unsigned int nr_layers;
static char calls[512];
static json_object *shown;
static struct dm_chain_job_start answer, started;
static int start_error, prepare_error, upgrade_error, grow_error;
static bool conflict, on_devices;
static unsigned int ending;	/* jobs, each of which drops layer 1 */
static int tokens[16];
static unsigned int nr_tokens;
static uint64_t device_bytes_now;
static struct dm_chain_job ended;
static unsigned int acquired_top, acquired_base;
static const char *link_text, *base_path;	/* @base_path: of layer 2 */

static void call(const char *what)
{
	strcat(calls, calls[0] ? " " : "");
	strcat(calls, what);
}

static int setup(void **state)
{
	char path[100];
	unsigned int i;

	(void)state;
	strcpy(folder, "/tmp/dmchain-job-XXXXXX");
	assert_non_null(mkdtemp(folder));
	memset(layers, 0, sizeof(layers));
	nr_layers = NR;
	for (i = 0; i < NR; i++) {
		layers[i].major = 7;
		layers[i].minor = i;
		layers[i].format = DM_CHAIN_FORMAT_CHAIN;
		layers[i].size = GIB;
		layers[i].max_size = 16 * GIB;
		layers[i].access = i ? DM_CHAIN_ACCESS_RO : DM_CHAIN_ACCESS_RW;
		memset(layers[i].uuid, 0xa0 + (int)i, 16);
		snprintf(path, sizeof(path), "%s/l%u", folder, i);
		close(open(path, O_CREAT | O_RDWR, 0600));
	}
	memset(&answer, 0, sizeof(answer));
	answer.move_bytes = answer.new_bytes = 4096;
	answer.need_bytes = GIB;
	device_bytes_now = GIB;
	start_error = prepare_error = upgrade_error = grow_error = 0;
	conflict = on_devices = false;
	ending = nr_tokens = 0;
	memset(&ended, 0, sizeof(ended));
	opt_json = false;
	link_text = "l1";
	return 0;
}

static int teardown(void **state)
{
	char command[100];

	(void)state;
	json_object_put(shown);
	shown = NULL;
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command);
}

/* --- The kernel, and what the controller knows of it --- */

int disk_find(const char *name, dev_t *dev)
{
	*dev = DISK;
	return strcmp(name, "vm-a") ?
		msg_fail(EXIT_FAILED, "%s: no such disk", name) : 0;
}

int disk_lock(const char *name, struct disk_lock *l)
{
	l->name = name;
	call("lock");
	return 0;
}

void disk_unlock(struct disk_lock *l)
{
	(void)l;
	call("unlock");
}

struct json_object *note_new(const char *command)
{
	return json_object_new_string(command);
}

int disk_lock_note(struct disk_lock *l, struct json_object *note)
{
	char text[64];

	(void)l;
	snprintf(text, sizeof(text), "note:%s",
		 note ? json_object_get_string(note) : "-");
	json_object_put(note);
	call(text);
	return 0;
}

int disk_recover_locked(struct disk_lock *l, bool ask, json_object *done)
{
	(void)l;
	(void)done;
	assert_false(ask);
	call("recover");
	return 0;
}

int disk_layers(const char *name, dev_t *dev, bool *suspended,
		struct dm_chain_layer **out, unsigned int *nr)
{
	*suspended = false;
	*out = malloc(sizeof(layers));
	memcpy(*out, layers, sizeof(layers));
	*nr = nr_layers;
	return disk_find(name, dev) ? -EXIT_FAILED : dup(STDERR_FILENO);
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

/* It waits for the end of a job, and then the layers are others. */
static void end_job(void)
{
	if (!ending)
		return;
	ending--;
	if (nr_layers == 2) {
		layers[1].uuid[0]++;
		return;
	}
	nr_layers--;
	memmove(&layers[1], &layers[2], (nr_layers - 1) * sizeof(layers[0]));
}

int control_acquire(int ctl, dev_t disk, struct dm_chain_acquire *q)
{
	uint32_t rows[NR];

	(void)ctl;
	assert_int_equal(disk, DISK);
	end_job();
	acquired_top = q->top;
	acquired_base = q->base;
	call("acquire");
	if (chain_perm_plan(q->op, q->top, q->base, nr_layers, rows))
		return -EINVAL;
	if (conflict) {
		q->conflict.perm = DM_CHAIN_PERM_W;
		return -EBUSY;
	}
	q->fd = dup(STDERR_FILENO);
	tokens[nr_tokens++] = q->fd;
	return 0;
}

int control_acquire_failed(dev_t disk, int err)
{
	(void)disk;
	return msg_fail(EXIT_FAILED, "acquire: %s", strerror(-err));
}

int perm_refused(const char *name, uint32_t op, const struct dm_chain_conflict *c)
{
	(void)op;
	(void)c;
	return msg_fail(EXIT_REFUSED, "%s: held", name);
}

int control_expedite(int ctl, bool on)
{
	(void)ctl;
	(void)on;
	return 0;
}

int control_job_start(int ctl, struct dm_chain_job_start *q)
{
	(void)ctl;
	if (q->flags & DM_CHAIN_JOB_ESTIMATE) {
		call("estimate");
		q->move_bytes = answer.move_bytes;
		q->zero_bytes = answer.zero_bytes;
		q->new_bytes = answer.new_bytes;
		q->need_bytes = answer.need_bytes;
		return 0;
	}
	started = *q;
	if (q->flags & DM_CHAIN_JOB_PREPARE) {
		call("prepare");
		q->id = 42;
		return prepare_error;
	}
	call("start");
	q->id = 42;
	memset(q->uuid, 0x42, sizeof(q->uuid));
	return start_error;
}

int control_job_verb(int ctl, uint64_t id, uint32_t verb, uint64_t arg)
{
	(void)ctl;
	assert_int_equal(id, 42);
	assert_int_equal(verb, DM_CHAIN_VERB_CANCEL);
	assert_int_equal(arg, 0);
	call("cancel");
	return 0;
}

int disk_upgrade(const char *name, const struct dm_chain_layer *l,
		 const uint32_t *rows, unsigned int nr, dev_t *devs)
{
	char text[64];
	unsigned int i;

	(void)name;
	assert_memory_equal(l, layers, nr * sizeof(*l));
	strcpy(text, "upgrade:");
	for (i = 0; i < nr; i++) {
		devs[i] = 0;
		if (!i || !chain_perm_writes(rows[i]))
			continue;
		sprintf(text + strlen(text), "%u", i);
		/* Through another loop device. */
		devs[i] = makedev(7, 100 + i);
	}
	call(text);
	return upgrade_error;
}

uint64_t layer_device_bytes(dev_t dev)
{
	(void)dev;
	return device_bytes_now;
}

int layer_grow(const char *disk, dev_t dev, uint64_t bytes)
{
	char text[64];

	assert_string_equal(disk, "vm-a");
	snprintf(text, sizeof(text), "grow:%u:%llu", minor(dev),
		 (unsigned long long)bytes);
	call(text);
	return grow_error;
}

char *disk_layer_path(dev_t dev)
{
	char *path = NULL;

	if (base_path && minor(dev) % 100 == 2)
		return strdup(base_path);
	assert_true(asprintf(&path, on_devices ? "/dev/null%s%u" : "%s/l%u",
			     on_devices ? "" : folder, minor(dev) % 100) > 0);
	if (on_devices)
		strcpy(path, "/dev/null");
	return path;
}

bool loop_backing(dev_t dev, char *path, size_t len, dev_t *fdev, ino_t *ino)
{
	struct stat st;

	if (on_devices)
		return false;
	if (base_path && minor(dev) % 100 == 2)
		snprintf(path, len, "%s", base_path);
	else
		snprintf(path, len, "%s/l%u", folder, minor(dev) % 100);
	/* As long as it is there. */
	*fdev = *ino = 1;
	if (!stat(path, &st)) {
		*fdev = st.st_dev;
		*ino = st.st_ino;
	}
	return true;
}

void disk_true_identity(dev_t *dev, ino_t *ino)
{
	(void)dev;
	(void)ino;
}

int image_open(struct image *img, const char *path, uint32_t format, int flags)
{
	(void)format;
	(void)flags;
	memset(img, 0, sizeof(*img));
	memset(img->hdr.uuid.b, 0xa0 + path[strlen(path) - 1] - '0', 16);
	strcpy(img->hdr.parent_path, link_text);
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

void job_signals(void)
{
	call("signals");
}

int job_wait(int ctl, struct job_waiting *w)
{
	(void)ctl;
	assert_int_equal(w->id, 42);
	w->job = ended;
	call("wait");
	return 0;
}

int job_finish(const char *name)
{
	assert_string_equal(name, "vm-a");
	call("finish");
	return 0;
}

int job_ended(const struct dm_chain_job *j)
{
	return j->error ? msg_fail(EXIT_FAILED, "ended") : 0;
}

int job_follow(int ctl, uint64_t id, bool no_pivot)
{
	(void)ctl;
	assert_int_equal(id, 42);
	call(no_pivot ? "follow:ready" : "follow");
	return 0;
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
	return -(strcmp(argv[0], "stream") ? cmd_commit : cmd_stream)(argc, argv);
}

static void assert_said(const char *word)
{
	if (!strstr(msg_last(), word))
		fail_msg("not said: %s, but: %s", word, msg_last());
}

/* --- In which order --- */

static void into_the_top_nothing_is_upgraded(void **state)
{
	(void)state;
	assert_int_equal(run("stream vm-a --base 2"), 0);
	assert_string_equal(calls, "lock signals recover acquire estimate "
			    "note:stream start note:- unlock follow");
	assert_int_equal(acquired_top, 0);
	assert_int_equal(acquired_base, 2);
	assert_string_equal(started.parent_path, "l2");
	assert_int_equal(started.flags, 0);
}

static void into_a_lower_layer(void **state)
{
	(void)state;
	assert_int_equal(run("stream vm-a --into 1 --speed 1M --on-error stop"),
			 0);
	assert_string_equal(calls, "lock signals recover acquire estimate "
			    "note:stream upgrade:1 start note:- unlock follow");
	assert_int_equal(acquired_base, NR);
	assert_string_equal(started.parent_path, "");
	assert_int_equal(started.speed, 1 << 20);
	assert_int_equal(started.on_error, DM_CHAIN_ON_ERROR_STOP);
}

/* What was named by a relative path still is, also from one folder to another. */
static void links_stay_what_they_are(void **state)
{
	char want[100];

	(void)state;
	snprintf(want, sizeof(want), "%s/sub", folder);
	assert_int_equal(mkdir(want, 0700), 0);
	snprintf(want, sizeof(want), "%s/sub/l2", folder);
	base_path = want;
	close(open(want, O_CREAT | O_RDWR, 0600));
	assert_int_equal(run("stream vm-a --base 2"), 0);
	assert_string_equal(started.parent_path, "sub/l2");
	link_text = "/img/l1";
	assert_int_equal(run("stream vm-a --base 2"), 0);
	assert_string_equal(started.parent_path, want);
	base_path = NULL;
}

/* The overlay is written at the end; at 0 it is the top, which is anyway. */
static void commit_of_lower_layers(void **state)
{
	(void)state;
	assert_int_equal(run("commit vm-a --top 1 --base 3"), 0);
	assert_string_equal(calls, "lock signals recover acquire estimate "
			    "note:commit upgrade:123 start note:- unlock follow");
	assert_string_equal(started.parent_path, "l3");
	assert_int_equal(run("commit vm-a --top 2"), 0);
	assert_non_null(strstr(calls, "upgrade:123"));
}

static void commit_of_the_active_layer(void **state)
{
	(void)state;
	assert_int_equal(run("commit vm-a --no-pivot --force"), 0);
	assert_string_equal(calls, "lock signals recover acquire estimate "
			    "note:commit upgrade:1 start note:- unlock follow:ready");
	assert_string_equal(started.parent_path, "");
	assert_int_equal(started.flags, DM_CHAIN_JOB_FORCE);
}

/* The new loop device of the base grows, not the one that it had. */
static void a_chain_base_grows_before(void **state)
{
	(void)state;
	answer.need_bytes = 2 * GIB;
	assert_int_equal(run("commit vm-a"), 0);
	assert_string_equal(calls, "lock signals recover acquire estimate "
			    "note:commit upgrade:1 grow:101:2147483648 start "
			    "note:- unlock follow");
}

static void a_raw_base_is_prepared(void **state)
{
	(void)state;
	layers[4].format = DM_CHAIN_FORMAT_RAW;
	layers[4].size = GIB / 2;
	device_bytes_now = GIB / 2;
	assert_int_equal(run("commit vm-a --base 4"), 0);
	assert_string_equal(calls, "lock signals recover acquire estimate "
			    "note:commit upgrade:1234 prepare grow:104:1073741824 "
			    "start note:- unlock follow");
	assert_int_equal(started.flags, 0);
	/* One that is prepared and can't grow is ended. */
	grow_error = -EXIT_FAILED;
	assert_int_equal(run("commit vm-a --base 4"), EXIT_FAILED);
	assert_string_equal(calls, "lock signals recover acquire estimate "
			    "note:commit upgrade:1234 prepare grow:104:1073741824 "
			    "cancel wait recover unlock");
	grow_error = 0;
	prepare_error = -ERANGE;
	assert_int_equal(run("commit vm-a --base 4"), EXIT_FAILED);
	assert_string_equal(calls, "lock signals recover acquire estimate "
			    "note:commit upgrade:1234 prepare recover unlock");
}

static void in_the_background(void **state)
{
	json_object *o;

	(void)state;
	opt_json = true;
	assert_int_equal(run("commit vm-a --background"), 0);
	assert_string_equal(calls, "lock recover acquire estimate note:commit "
			    "upgrade:1 start note:- unlock");
	assert_true(json_object_object_get_ex(shown, "id", &o));
	assert_string_equal(json_object_get_string(o), "42");
	assert_true(json_object_object_get_ex(shown, "uuid", &o));
	assert_string_equal(json_object_get_string(o),
			    "42424242-4242-4242-4242-424242424242");
	assert_int_equal(json_object_object_length(shown), 4);
}

/* --- Jobs that end meanwhile --- */

static void assert_no_tokens(void)
{
	while (nr_tokens--)
		assert_int_equal(fcntl(tokens[nr_tokens], F_GETFD), -1);
	nr_tokens = 0;
}

/* The second look finds the layers where they are now. */
static void a_job_ends_before_the_token(void **state)
{
	(void)state;
	ending = 1;
	assert_int_equal(run("commit vm-a --top a2a2a --base a3a3a"), 0);
	assert_string_equal(calls, "lock signals recover acquire acquire estimate "
			    "note:commit upgrade:12 start note:- unlock follow");
	assert_int_equal(acquired_top, 1);
	assert_int_equal(acquired_base, 2);
	assert_string_equal(started.parent_path, "l3");
	assert_no_tokens();
	/* It may leave fewer than there were to be asked for. */
	ending = 1;
	assert_int_equal(run("stream vm-a --into a0a0a"), 0);
	assert_non_null(strstr(calls, "acquire acquire estimate"));
	assert_int_equal(acquired_base, NR - 2);
	assert_no_tokens();
}

/* Who is in the way of another layer is in nobody's way. */
static void refused_for_others(void **state)
{
	(void)state;
	conflict = true;
	ending = 2;
	assert_int_equal(run("commit vm-a --top a3a3a"), EXIT_REFUSED);
	assert_said("held");
	assert_string_equal(calls, "lock signals recover acquire acquire acquire unlock");
	assert_int_equal(acquired_top, 1);
}

static void one_job_after_the_other_ends(void **state)
{
	(void)state;
	ending = 1000;
	assert_int_equal(run("commit vm-a"), EXIT_REFUSED);
	assert_said("vm-a: commit refused: its layers change all the time");
	assert_null(strstr(calls, "estimate"));
	assert_no_tokens();
}

/* --- What fails --- */

static void failed_starts(void **state)
{
	static const struct {
		int err;
		int code;
		const char *word;
	} all[] = {
		{ EBUSY, EXIT_REFUSED, "another job" },
		{ EMLINK, EXIT_REFUSED, "other children" },
		{ ESTALE, EXIT_REFUSED, "another base" },
		{ EROFS, EXIT_REFUSED, "cannot be written" },
		{ ENOSPC, EXIT_FAILED, "too small" },
		{ EFBIG, EXIT_FAILED, "no room" },
		{ ERANGE, EXIT_FAILED, "larger than layer 0" },
		{ EIO, EXIT_FAILED, "has failed" },
		{ ENOMEM, EXIT_FAILED, "Cannot allocate memory" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(all); i++) {
		start_error = -all[i].err;
		assert_int_equal(run("commit vm-a"), all[i].code);
		assert_said(all[i].word);
		assert_said("vm-a: ");
		assert_string_equal(calls, "lock signals recover acquire estimate "
				    "note:commit upgrade:1 start recover unlock");
	}
}

static void failures_before(void **state)
{
	(void)state;
	assert_int_equal(run("commit vm-b"), EXIT_FAILED);
	assert_string_equal(calls, "");
	conflict = true;
	assert_int_equal(run("commit vm-a"), EXIT_REFUSED);
	assert_string_equal(calls, "lock signals recover acquire unlock");
	conflict = false;
	upgrade_error = -EXIT_REFUSED;
	assert_int_equal(run("commit vm-a"), EXIT_REFUSED);
	assert_string_equal(calls, "lock signals recover acquire estimate "
			    "note:commit upgrade:1 recover unlock");
	layers[0].access = DM_CHAIN_ACCESS_RO;
	assert_int_equal(run("commit vm-a"), EXIT_REFUSED);
	assert_said("read-only");
	assert_string_equal(calls, "lock signals recover unlock");
}

static void bases_that_do_not_fit(void **state)
{
	(void)state;
	layers[1].max_size = GIB / 2;
	assert_int_equal(run("commit vm-a"), EXIT_FAILED);
	assert_said("room for 512 MiB");
	layers[4].format = DM_CHAIN_FORMAT_RAW;
	layers[4].size = 2 * GIB;
	assert_int_equal(run("commit vm-a --base 4"), EXIT_FAILED);
	assert_said("raw and larger");
	assert_string_equal(calls, "lock signals recover unlock");
}

/* The new parent has to be found again by its path. */
static void a_deleted_base(void **state)
{
	char path[100];

	(void)state;
	snprintf(path, sizeof(path), "%s/l3", folder);
	unlink(path);
	assert_int_equal(run("stream vm-a --base 3"), EXIT_FAILED);
	assert_said("no path");
	assert_string_equal(calls, "lock signals recover acquire estimate unlock");
	/* For a pivot that doesn't matter. */
	assert_int_equal(run("commit vm-a --base 3"), 0);
}

/* --- Room --- */

static void no_room(void **state)
{
	(void)state;
	answer.new_bytes = 1ULL << 60;
	assert_int_equal(run("stream vm-a"), EXIT_FAILED);
	assert_said("are missing");
	assert_string_equal(calls, "lock signals recover acquire estimate unlock");
	assert_int_equal(run("stream vm-a --force"), 0);
	/* On one file system a commit gives back what it takes. */
	assert_int_equal(run("commit vm-a"), 0);
}

static void a_device_that_is_too_small(void **state)
{
	(void)state;
	on_devices = true;
	assert_int_equal(run("commit vm-a"), 0);
	answer.need_bytes = 2 * GIB;
	assert_int_equal(run("commit vm-a --force"), EXIT_FAILED);
	assert_said("too small");
	assert_string_equal(calls, "lock signals recover acquire estimate unlock");
}

static uint64_t member(const char *key)
{
	json_object *o;

	assert_true(json_object_object_get_ex(shown, key, &o));
	return json_object_get_uint64(o);
}

static void dry_runs(void **state)
{
	json_object *o;

	(void)state;
	opt_json = true;
	answer = (struct dm_chain_job_start){
		.move_bytes = 1, .zero_bytes = 2, .new_bytes = 1ULL << 60,
		.need_bytes = 4,
	};
	assert_int_equal(run("stream vm-a --dry-run"), 0);
	assert_string_equal(calls, "lock recover acquire estimate unlock");
	assert_int_equal(member("move-bytes"), 1);
	assert_int_equal(member("zero-bytes"), 2);
	assert_int_equal(member("new-bytes"), 1ULL << 60);
	assert_int_equal(member("need-bytes"), 4);
	assert_true(member("free-bytes") > 0);
	assert_int_equal(member("missing-bytes") + member("free-bytes"),
			 1ULL << 60);
	on_devices = true;
	answer.need_bytes = GIB + 5;
	assert_int_equal(run("stream vm-a --dry-run"), 0);
	assert_int_equal(member("missing-bytes"), 5);
	assert_true(json_object_object_get_ex(shown, "free-bytes", &o));
	assert_null(o);
	assert_int_equal(run("stream vm-a --dry-run --background"), EXIT_USAGE);
}

/* --- Records --- */

static void a_stream_that_was_left_is_dropped(void **state)
{
	struct chain_id id;
	struct job_ask ask = {
		.name = "vm-a", .op = DM_CHAIN_OP_STREAM, .record = &id,
		.cancel = true, .force = true,
	};

	(void)state;
	memset(id.b, 0xcd, sizeof(id.b));
	layers[0].flags = DM_CHAIN_LAYER_RECORD;
	layers[0].record_type = DM_CHAIN_RECORD_STREAM;
	memset(layers[0].job, 0xcd, 16);
	ended.error = -ECANCELED;
	calls[0] = '\0';
	assert_int_equal(job_run(&ask), 0);
	assert_string_equal(calls, "lock signals recover acquire estimate "
			    "note:stream start note:- unlock cancel wait finish");
	assert_int_equal(started.speed, 1);
	/* For that no room is needed; to go on with it there is. */
	answer.new_bytes = 1ULL << 60;
	assert_int_equal(job_run(&ask), 0);
	ask.cancel = false;
	assert_int_equal(job_run(&ask), -EXIT_FAILED);
	assert_said("are missing");
	ask.cancel = true;
	ended.error = -EIO;
	assert_int_equal(job_run(&ask), -EXIT_FAILED);
	assert_said("ended");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(into_the_top_nothing_is_upgraded),
		TEST(into_a_lower_layer),
		TEST(links_stay_what_they_are),
		TEST(commit_of_lower_layers),
		TEST(commit_of_the_active_layer),
		TEST(a_chain_base_grows_before),
		TEST(a_raw_base_is_prepared),
		TEST(in_the_background),
		TEST(a_job_ends_before_the_token),
		TEST(refused_for_others),
		TEST(one_job_after_the_other_ends),
		TEST(failed_starts),
		TEST(failures_before),
		TEST(bases_that_do_not_fit),
		TEST(a_deleted_base),
		TEST(no_room),
		TEST(a_device_that_is_too_small),
		TEST(dry_runs),
		TEST(a_stream_that_was_left_is_dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
