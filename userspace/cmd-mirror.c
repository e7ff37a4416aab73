// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain mirror NAME PATH: a copy of a disk that follows it, until the disk goes
 * on there (pivot) or leaves it (cancel).
 *
 * Under the disk's lock: a token for the source, the target made or looked at, and
 * attached by a reload that changes nothing of what is seen; the start. Killed
 * before that, recover detaches the target and removes what was made; after it the
 * job is the kernel's.
 */
#include "label.h"
#include "mirror.h"
#include "perm.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* --- What the disk is now --- */

static int check_table(const struct mirror *m)
{
	const struct table *t = &m->old;

	if (table_extra(&t->layers[0]))
		return msg_fail(EXIT_REFUSED,
				"%s: a mirror of it is under way, or another layer is attached; dmchain job list %s, or dmchain recover %s",
				m->name, m->name, m->name);
	if (t->read_only || strcmp(t->layers[0].role, "rw"))
		return msg_fail(EXIT_REFUSED,
				"%s: open read-only: what does not change is just copied; or close it and open it without --read-only",
				m->name);
	return 0;
}

static int check_shallow(const struct mirror *m)
{
	if (!m->shallow || m->nr < 2 || m->format == DM_CHAIN_FORMAT_CHAIN)
		return 0;
	return msg_fail(EXIT_USAGE,
			"%s: a raw image stands on nothing, so a shallow copy would lack what lower layers hold; say --format chain, or leave --shallow out",
			m->path);
}

/* A path by which the target could be found again, and the source. */
static int check_source(const struct mirror *m)
{
	char path[PATH_MAX];
	struct stat st;
	dev_t fdev;
	ino_t ino;

	if (!loop_backing(m->old.layers[0].dev, path, sizeof(path), &fdev, &ino) ||
	    (!stat(path, &st) && st.st_dev == fdev && st.st_ino == ino))
		return 0;
	return msg_fail(EXIT_FAILED,
			"%s: its top has no path by which it could be found (%s); it was deleted, or opened by a descriptor without one",
			m->name, path);
}

/* What was seen, and may not be so any more. */
static void forget(struct mirror *m)
{
	dm_table_free(&m->old);
	free(m->layers);
	free(m->source);
	m->layers = NULL;
	m->source = NULL;
}

static int look(struct mirror *m)
{
	unsigned int i;
	int ret;

	forget(m);
	ret = control_layers(m->ctl, m->disk, &m->layers, &m->nr);
	if (!ret)
		ret = dm_table_read(m->name, &m->old, NULL);
	if (!ret)
		ret = check_table(m);
	if (ret)
		return ret;
	for (i = 0; i < m->nr && m->layers[i].role == DM_CHAIN_ROLE_LAYER; i++)
		;
	m->nr = i;
	if (!m->nr)
		return msg_fail(EXIT_FAILED, "%s: has no layers", m->name);
	m->source = disk_layer_path(m->old.layers[0].dev);
	if (!m->source)
		return msg_fail(EXIT_FAILED, "%s: out of memory", m->name);
	ret = check_shallow(m);
	if (!ret)
		ret = check_source(m);
	return ret ? ret : disk_check_place(m->name, m->disk, m->path);
}

/* All layers: a shallow copy is to stand on what the top stands on. */
static int look_to_take(struct take *t, void *arg)
{
	struct mirror *m = arg;
	int ret = look(m);

	t->layers = m->layers;
	t->nr = m->nr;
	return ret;
}

static int take_token(struct mirror *m, int (*look_first)(struct take *t, void *arg))
{
	struct take t = {
		.name = m->name, .op = DM_CHAIN_OP_MIRROR, .ctl = m->ctl,
		.disk = m->disk,
	};

	return perm_take(&t, look_first, m, &m->token);
}

/* --- Attach, start --- */

static int attach_target(struct mirror *m)
{
	struct table t = m->old;
	int ret = attach_image(&m->at, &m->img, true, NULL);

	if (ret)
		return ret;
	t.nr++;
	t.layers = calloc(t.nr, sizeof(*t.layers));
	if (!t.layers)
		return msg_fail(EXIT_FAILED, "%s: out of memory", m->name);
	t.layers[0] = (struct table_layer){
		.dev = m->at.dev, .format = m->format, .role = "target",
	};
	memcpy(t.layers + 1, m->old.layers, m->old.nr * sizeof(*t.layers));
	ret = dm_reload_resume(m->name, &t);
	free(t.layers);
	return ret;
}

static int start_failed(const struct mirror *m, int err)
{
	switch (-err) {
	case EBUSY:
		return msg_fail(EXIT_REFUSED,
				"%s: mirror refused: it has one already, or its top was merged by a commit and shows what it did by way of that (dmchain stream %s makes it stand by itself)",
				m->name, m->name);
	case ENOTEMPTY:
		return msg_fail(EXIT_IMAGE,
				"%s: can't become a copy of %s, it holds data already",
				m->path, m->name);
	case EIO:
		return msg_fail(EXIT_FAILED,
				"%s: mirror refused: a layer has failed; close the disk and dmchain check its layers",
				m->name);
	default:
		return msg_fail_errno(EXIT_FAILED, -err, "%s: cannot mirror",
				      m->name);
	}
}

static int start(struct mirror *m)
{
	int err;

	m->start.token = m->token;
	m->start.speed = m->speed;
	m->start.on_error = m->on_error;
	if (m->verify)
		m->start.flags |= DM_CHAIN_JOB_VERIFY;
	err = control_job_start(m->ctl, &m->start);
	return err ? start_failed(m, err) : 0;
}

static void drop_token(struct mirror *m)
{
	if (m->token >= 0)
		close(m->token);
	m->token = -1;
}

static int detach(struct mirror *m)
{
	struct table t;
	bool attached;

	if (dm_table_read(m->name, &t, NULL))
		return -EXIT_FAILED;
	attached = table_extra(&t.layers[0]);
	dm_table_free(&t);
	return attached ? dm_reload_resume(m->name, &m->old) : 0;
}

/* What can't be undone now is left to recover: the note stays. */
static void undo(struct mirror *m, struct disk_lock *l)
{
	drop_token(m);
	if (m->at.dev && detach(m))
		return;
	attach_drop(&m->at);
	if (label_sync(m->name, NULL))
		return;
	mirror_target_undo(m);
	disk_lock_note(l, NULL);
}

static int change(struct mirror *m, struct disk_lock *l)
{
	int ret = mirror_target(m, l);

	/* Who is to use the disk when it has moved on needs the file. */
	if (!ret)
		ret = m->img.is_bdev ?
		      label_apply_device(m->name, m->img.dev, LABEL_RW) :
		      label_apply(m->name, m->img.fd, m->path, LABEL_RW);
	if (!ret)
		ret = attach_target(m);
	if (!ret)
		ret = start(m);
	if (ret) {
		undo(m, l);
		return ret;
	}
	attach_drop(&m->at);
	drop_token(m);
	return disk_lock_note(l, NULL);
}

static int run_locked(struct mirror *m, struct disk_lock *l)
{
	int ret = disk_recover_locked(l, false, NULL);

	if (ret)
		return ret;
	m->ctl = control_open();
	if (m->ctl < 0)
		return m->ctl;
	ret = take_token(m, look_to_take);
	control_expedite(m->ctl, true);
	if (!ret)
		ret = change(m, l);
	control_expedite(m->ctl, false);
	return ret;
}

/* --- And then --- */

static int report_started(const struct mirror *m)
{
	struct job_entry e = { .job.id = m->start.id };
	char id[JOB_ID_TEXT], uuid[37];
	struct chain_id u;
	json_object *o;

	job_id(&e, id);
	if (!opt_json) {
		printf("job %s\n", id);
		return 0;
	}
	memcpy(u.b, m->start.uuid, sizeof(u.b));
	o = json_object_new_object();
	json_object_object_add(o, "id", json_text(id));
	json_object_object_add(o, "uuid", json_text(id_text(&u, uuid)));
	json_object_object_add(o, "type", json_text("mirror"));
	json_object_object_add(o, "chain", json_text(m->name));
	show_json(o);
	return 0;
}

static void free_mirror(struct mirror *m)
{
	drop_token(m);
	if (m->ctl >= 0)
		close(m->ctl);
	image_close(&m->img);
	forget(m);
	free(m->path);
}

static int run(struct mirror *m)
{
	struct disk_lock l;
	int ret = disk_lock(m->name, &l);

	if (ret)
		return ret;
	/* While the lock is held they wait; then they mean the job. */
	if (!m->background)
		job_signals();
	ret = run_locked(m, &l);
	disk_unlock(&l);
	if (ret)
		return ret;
	if (m->background && m->quiet)
		return 0;
	return m->background ? report_started(m) :
	       job_follow(m->ctl, m->start.id, !m->pivot);
}

int mirror_path(const char *arg, char **path)
{
	*path = arg_fd(arg) < 0 ? path_absolute(arg) : arg_path(arg);
	if (*path)
		return 0;
	if (arg_fd(arg) >= 0)
		return msg_fail(EXIT_FAILED,
				"%s: has no path, and could not be found again without one; pass a file that has a name",
				arg);
	return msg_fail_errno(EXIT_FAILED, errno, "%s: no such place", arg);
}

static int mirror(struct mirror *m)
{
	int ret = disk_find(m->name, &m->disk);

	m->ctl = m->token = m->img.fd = m->img.given = m->at.fd = -1;
	if (!ret)
		ret = mirror_path(m->arg, &m->path);
	if (!ret)
		ret = run(m);
	free_mirror(m);
	return ret;
}

/* Where the copy is that the record of the disk's top tells of. */
static int find_copy(const char *name, char **path, bool *shallow)
{
	struct dm_chain_layer *layers = NULL;
	struct image img;
	unsigned int nr;
	bool suspended;
	char *source;
	dev_t dev;
	int ret, ctl = disk_layers(name, &dev, &suspended, &layers, &nr);

	if (ctl < 0)
		return ctl;
	close(ctl);
	source = disk_layer_path(makedev(layers[0].major, layers[0].minor));
	free(layers);
	ret = source ? image_open(&img, source, DM_CHAIN_FORMAT_CHAIN,
				  IMAGE_ANY_MARK) :
		       msg_fail(EXIT_FAILED, "%s: out of memory", name);
	if (!ret) {
		*path = hint_resolve(source, img.hdr.child_path);
		image_close(&img);
	}
	free(source);
	if (!ret && !*path)
		ret = msg_fail(EXIT_FAILED, "%s: out of memory", name);
	if (!ret)
		ret = image_open(&img, *path, DM_CHAIN_FORMAT_CHAIN,
				 IMAGE_ANY_MARK);
	if (ret)
		return ret;
	*shallow = img.hdr.parent.format != DM_CHAIN_FORMAT_NONE;
	image_close(&img);
	return 0;
}

int mirror_resume(const char *name, bool background, bool quiet)
{
	struct mirror m = {
		.name = name, .format = DM_CHAIN_FORMAT_CHAIN,
		.existing = true, .background = background,
		.quiet = quiet,
	};
	char *path = NULL;
	int ret = find_copy(name, &path, &m.shallow);

	m.arg = path;
	if (!ret)
		ret = mirror(&m);
	free(path);
	return ret;
}

static int forget_locked(struct mirror *m)
{
	int ret, err;

	m->ctl = control_open();
	if (m->ctl < 0)
		return m->ctl;
	ret = take_token(m, NULL);
	if (ret)
		return ret;
	m->start.token = m->token;
	m->start.flags = DM_CHAIN_JOB_FORGET;
	err = control_job_start(m->ctl, &m->start);
	/* Somebody was faster. */
	return !err || err == -ENOENT ? 0 : start_failed(m, err);
}

int mirror_forget(const char *name)
{
	struct mirror m = { .name = name };
	struct disk_lock l;
	int ret = disk_find(name, &m.disk);

	if (!ret)
		ret = disk_lock(name, &l);
	if (ret)
		return ret;
	m.ctl = m.token = m.img.fd = m.img.given = m.at.fd = -1;
	ret = forget_locked(&m);
	disk_unlock(&l);
	free_mirror(&m);
	return ret;
}

/* What follows no disk has no such things. */
static int check_move(const struct mirror *m, const char *on_error)
{
	const char *no = m->shallow ? "shallow" : m->background ? "background" :
			 on_error ? "on-error" : NULL;

	if (!no)
		return 0;
	return msg_fail(EXIT_USAGE,
			"--%s: does not go with --layer, a layer is copied by the command itself, as it is, and the disk goes on with the copy; leave it out",
			no);
}

static int move(const struct mirror *m, const char *layer, const char *format)
{
	const struct move_ask ask = {
		.name = m->name, .arg = m->arg, .layer = layer,
		.format = format ? m->format : 0, .existing = m->existing,
		.verify = m->verify, .speed = m->speed,
	};

	return layer_move(&ask);
}

int cmd_mirror(int argc, char **argv)
{
	struct mirror m = { 0 };
	const char *format = NULL, *speed = NULL, *on_error = NULL, *layer = NULL;
	const struct arg_opt opts[] = {
		{ "layer", &layer, NULL },
		{ "format", &format, NULL },
		{ "shallow", NULL, &m.shallow },
		{ "existing", NULL, &m.existing },
		{ "verify", NULL, &m.verify },
		{ "pivot", NULL, &m.pivot },
		{ "speed", &speed, NULL },
		{ "on-error", &on_error, NULL },
		{ "background", NULL, &m.background },
		{ NULL, NULL, NULL },
	};
	int ret = args_parse_layer(&argc, &argv, opts, 2, 2, 1);

	if (!ret && layer)
		ret = check_move(&m, on_error);
	if (!ret && !format && !layer)
		ret = msg_fail(EXIT_USAGE,
			       "%s: say --format raw or chain, a format is never guessed",
			       argv[1]);
	if (!ret)
		ret = args_format(format, &m.format);
	if (!ret)
		ret = job_on_error(on_error, &m.on_error);
	if (!ret && speed)
		ret = size_parse(speed, NULL, &m.speed);
	if (!ret && m.pivot && m.background)
		ret = msg_fail(EXIT_USAGE,
			       "%s: nobody is there to pivot in the background; leave --pivot or --background out",
			       argv[0]);
	if (ret)
		return ret;
	m.name = argv[0];
	m.arg = argv[1];
	return layer ? move(&m, layer, format) : mirror(&m);
}
