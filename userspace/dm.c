// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Everything of libdevmapper: names, UUIDs, tables, cookies.
 *
 * The host must not look into what a guest has written: each event of a disk
 * tells udev to make its node and to leave it at that.
 */
#include "online.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <libdevmapper.h>

#define UDEV_FLAGS (DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG | \
		    DM_UDEV_DISABLE_DISK_RULES_FLAG | \
		    DM_UDEV_DISABLE_OTHER_RULES_FLAG)

#define NAME_MAX_LEN	127	/* DM_NAME_LEN of the kernel, with the NUL */
#define REMOVE_TRIES	20	/* of 50 ms: udev or blkid may look just now */
#define LAYER_TEXT	48	/* " MAJOR:MINOR chain target" and room */

static void quiet(int level, const char *file, int line, int err,
		  const char *fmt, ...)
{
	/* All there is to say is said in one line, with the errno. */
	(void)level;
	(void)file;
	(void)line;
	(void)err;
	(void)fmt;
}

bool dm_name_valid(const char *name)
{
	/* No "=", it stands between name and path in other commands. */
	static const char ok[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				 "abcdefghijklmnopqrstuvwxyz0123456789#+-.:@_";
	size_t len = strlen(name);

	return len && len <= NAME_MAX_LEN && strspn(name, ok) == len &&
	       strcmp(name, ".") && strcmp(name, "..") &&
	       strcmp(name, "control");
}

static struct dm_task *task_new(int type, const char *name)
{
	struct dm_task *t;

	dm_log_with_errno_init(quiet);
	dm_set_name_mangling_mode(DM_STRING_MANGLING_NONE);
	t = dm_task_create(type);
	/* A slash would be taken for the path of some device. */
	if (t && name && (strchr(name, '/') || strlen(name) > NAME_MAX_LEN ||
			  !dm_task_set_name(t, name))) {
		dm_task_destroy(t);
		return NULL;
	}
	return t;
}

/* Run a task and drop it. Return: 0 or a negative errno. */
static int task_run(struct dm_task *t)
{
	int err = 0;

	if (!t)
		return -ENOMEM;
	if (!dm_task_run(t))
		err = dm_task_get_errno(t) ? -dm_task_get_errno(t) : -EIO;
	dm_task_destroy(t);
	return err;
}

/* The same for tasks that udev has to do with; waits for it, come what may. */
static int task_run_udev(struct dm_task *t)
{
	uint32_t cookie = 0;
	int err;

	if (!t)
		return -ENOMEM;
	if (!dm_task_set_cookie(t, &cookie, UDEV_FLAGS)) {
		dm_task_destroy(t);
		return -EIO;
	}
	err = task_run(t);
	dm_udev_wait(cookie);
	return err;
}

/* Is it the reason that somebody holds it, or the image, or something else? */
static int exit_code(int err)
{
	switch (-err) {
	case EBUSY:
	case EROFS:
	case EPERM:
	case EEXIST:
		return EXIT_REFUSED;
	case ESTALE:
	case EUCLEAN:
	case EBADMSG:
	case ELOOP:
	case ENOTUNIQ:
		return EXIT_IMAGE;
	default:
		return EXIT_FAILED;
	}
}

/* Tables. */

static const char *format_name(uint32_t format)
{
	return format == DM_CHAIN_FORMAT_RAW ? "raw" : "chain";
}

static char *table_params(const struct table *t, bool force)
{
	size_t len = 64 + (size_t)t->nr * LAYER_TEXT, at;
	char *text = malloc(len);
	unsigned int i;

	if (!text)
		return NULL;
	at = snprintf(text, len, "%u", t->nr);
	for (i = 0; i < t->nr; i++)
		at += snprintf(text + at, len - at, " %u:%u %s %s",
			       major(t->layers[i].dev), minor(t->layers[i].dev),
			       format_name(t->layers[i].format),
			       t->layers[i].role);
	if (force)
		snprintf(text + at, len - at, " 1 force");
	return text;
}

/* Other disks may have been refused something at the same time. */
static void say_why(const char *name, int err, int log, char *why, size_t len)
{
	struct dm_state s;

	*why = 0;
	if (!err) {
		if (log >= 0)
			close(log);
		return;
	}
	/* One that is gone has no number, and no line. */
	(void)dm_state(name, &s);
	if (!klog_reason(log, s.dev, why, len))
		snprintf(why, len, "%s; see dmesg", strerror(-err));
}

/* @why: what the kernel had against it; 0 or a negative errno */
static int load_once(const char *name, const struct table *t, bool force,
		     char *why, size_t len)
{
	struct dm_task *task = task_new(DM_DEVICE_RELOAD, name);
	char *params = table_params(t, force);
	bool ok = task && params;
	int log, err;

	ok = ok && dm_task_add_target(task, 0, t->sectors, DM_CHAIN_TARGET,
				      params);
	ok = ok && (!t->read_only || dm_task_set_ro(task));
	free(params);
	if (!ok) {
		if (task)
			dm_task_destroy(task);
		snprintf(why, len, "out of memory");
		return -ENOMEM;
	}
	log = klog_mark();
	err = task_run(task);
	say_why(name, err, log, why, len);
	return err;
}

static int refused(const char *name, int err, const char *why)
{
	return msg_fail(exit_code(err), "%s: the kernel refuses the table: %s",
			name, why);
}

static int table_load(const char *name, const struct table *t, bool force)
{
	char why[256];
	int err = load_once(name, t, force, why, sizeof(why));

	return err ? refused(name, err, why) : 0;
}

static const char *role_find(const char *role)
{
	static const char *const roles[] = { "rw", "ro", "next", "target" };
	unsigned int i;

	for (i = 0; role && i < ARRAY_SIZE(roles); i++)
		if (!strcmp(role, roles[i]))
			return roles[i];
	return NULL;
}

bool table_extra(const struct table_layer *l)
{
	return !strcmp(l->role, "next") || !strcmp(l->role, "target");
}

static bool layer_parse(struct table_layer *l, char **rest)
{
	char *dev = strsep(rest, " "), *format = strsep(rest, " ");
	const char *role = role_find(strsep(rest, " "));
	unsigned int ma, mi;

	if (!dev || !format || !role || sscanf(dev, "%u:%u", &ma, &mi) != 2)
		return false;
	l->dev = makedev(ma, mi);
	l->format = strcmp(format, "raw") ? DM_CHAIN_FORMAT_CHAIN :
					    DM_CHAIN_FORMAT_RAW;
	l->role = role;
	return true;
}

static bool table_parse(struct table *t, const char *params)
{
	char *text = strdup(params), *rest = text, *nr = strsep(&rest, " ");
	bool ok = nr;
	unsigned int i;

	t->nr = ok ? strtoul(nr, NULL, 10) : 0;
	ok = ok && t->nr && t->nr <= 2 * DM_CHAIN_MAX_LAYERS;
	t->layers = ok ? calloc(t->nr, sizeof(*t->layers)) : NULL;
	ok = ok && t->layers;
	for (i = 0; ok && i < t->nr; i++)
		ok = layer_parse(&t->layers[i], &rest);
	free(text);
	if (!ok)
		dm_table_free(t);
	return ok;
}

void dm_table_free(struct table *t)
{
	free(t->layers);
	free(t->was);
	t->layers = NULL;
	t->was = NULL;
	t->nr = 0;
}

/* A finished DM_DEVICE_TABLE task of @name, or NULL; info filled in. */
static struct dm_task *table_task(const char *name, struct dm_info *info)
{
	struct dm_task *t = task_new(DM_DEVICE_TABLE, name);

	if (t && dm_task_run(t) && dm_task_get_info(t, info) && info->exists)
		return t;
	if (t)
		dm_task_destroy(t);
	return NULL;
}

/* Its parameters if its one and only target is ours. */
static const char *chain_params(struct dm_task *t, uint64_t *sectors)
{
	char *type = NULL, *params = NULL;
	uint64_t start, length;

	if (dm_get_next_target(t, NULL, &start, &length, &type, &params) ||
	    !type || strcmp(type, DM_CHAIN_TARGET))
		return NULL;
	*sectors = length;
	return params;
}

/* Return: 0, TABLE_GONE with nothing said, or a negative exit code. */
#define TABLE_GONE 1

static int table_read(const char *name, struct table *t, char **text)
{
	struct dm_info info;
	struct dm_task *task = table_task(name, &info);
	const char *params;
	uint64_t sectors;
	int ret = 0;

	params = task ? chain_params(task, &sectors) : NULL;
	if (!params) {
		ret = TABLE_GONE;
	} else if (t && !table_parse(t, params)) {
		ret = msg_fail(EXIT_FAILED, "%s: table not understood: %s", name,
			       params);
	} else if (text && asprintf(text, "0 %llu " DM_CHAIN_TARGET " %s",
				    (unsigned long long)sectors, params) < 0) {
		if (t)
			dm_table_free(t);
		ret = msg_fail(EXIT_FAILED, "%s: out of memory", name);
	} else if (t) {
		t->sectors = sectors;
		t->read_only = info.read_only;
	}
	if (task)
		dm_task_destroy(task);
	return ret;
}

/* What it was, to tell later what was changed in it and what under it. */
static int keep_was(struct table *t)
{
	size_t bytes = (t->nr + 1) * sizeof(*t->was);

	t->was = malloc(bytes);
	if (!t->was)
		return msg_fail(EXIT_FAILED, "out of memory for a table");
	memcpy(t->was, t->layers, t->nr * sizeof(*t->was));
	t->was_nr = t->nr;
	t->was_sectors = t->sectors;
	return 0;
}

int dm_table_read(const char *name, struct table *t, char **text)
{
	int ret;

	if (t) {
		t->was = NULL;
		t->was_nr = 0;
	}
	ret = table_read(name, t, text);
	if (!ret && t) {
		ret = keep_was(t);
		if (ret)
			dm_table_free(t);
	}
	return ret == TABLE_GONE ?
	       msg_fail(EXIT_FAILED, "%s: no such disk", name) : ret;
}

int dm_table_look(const char *name, struct table *t, bool *gone)
{
	int ret;

	t->was = NULL;
	t->was_nr = 0;
	ret = table_read(name, t, NULL);
	*gone = ret == TABLE_GONE;
	return *gone ? 0 : ret;
}

/* Devices. */

int dm_state(const char *name, struct dm_state *s)
{
	struct dm_info info;
	struct dm_task *t;
	const char *uuid;
	uint64_t sectors;

	memset(s, 0, sizeof(*s));
	t = table_task(name, &info);
	if (!t)
		return -ENXIO;
	uuid = dm_task_get_uuid(t);
	s->dev = makedev(info.major, info.minor);
	s->exists = true;
	s->live = info.live_table;
	s->inactive = info.inactive_table;
	s->suspended = info.suspended;
	s->read_only = info.read_only;
	s->opens = info.open_count;
	/* A name and a UUID, but no table yet: only the UUID tells. */
	s->ours = chain_params(t, &sectors) ||
		  (!s->live && uuid &&
		   !strncmp(uuid, DMCHAIN_DM_UUID_PREFIX,
			    strlen(DMCHAIN_DM_UUID_PREFIX)));
	dm_task_destroy(t);
	return 0;
}

bool dm_failed(const char *name)
{
	struct dm_task *t = task_new(DM_DEVICE_STATUS, name);
	const char *params = NULL;
	uint64_t sectors;
	bool yes;

	/* Nobody wants to wait for I/O that fails. */
	if (t && dm_task_no_flush(t) && dm_task_run(t))
		params = chain_params(t, &sectors);
	yes = params && !strncmp(params, "failed ", 7);
	if (t)
		dm_task_destroy(t);
	return yes;
}

int dm_disk(const char *name, dev_t *dev, bool *suspended)
{
	struct dm_state s;

	/* Asking must not load device-mapper. */
	if (!module_present() || dm_state(name, &s) || !s.ours || !s.live)
		return -EXIT_FAILED;
	*dev = s.dev;
	if (suspended)
		*suspended = s.suspended;
	return 0;
}

int dm_each(int (*cb)(const char *name, dev_t dev, void *arg), void *arg)
{
	struct dm_task *t = module_present() ? task_new(DM_DEVICE_LIST, NULL) :
					       NULL;
	struct dm_names *n;
	struct dm_state s;
	int ret = 0;

	if (!t)
		return 0;
	if (!dm_task_run(t)) {
		ret = msg_fail_errno(EXIT_FAILED, dm_task_get_errno(t),
				     "device-mapper: cannot be asked");
		dm_task_destroy(t);
		return ret;
	}
	n = dm_task_get_names(t);
	while (!ret && n && n->dev) {
		if (!dm_state(n->name, &s) && s.ours)
			ret = cb(n->name, s.dev, arg);
		n = n->next ? (void *)((char *)n + n->next) : NULL;
	}
	dm_task_destroy(t);
	return ret;
}

int dm_clear(const char *name)
{
	int err = task_run(task_new(DM_DEVICE_CLEAR, name));

	if (!err)
		return 0;
	return msg_fail_errno(EXIT_FAILED, -err,
			      "%s: the table loaded beside the running one cannot be dropped",
			      name);
}

void dm_node_mend(const char *name)
{
	task_run(task_new(DM_DEVICE_MKNODES, name));
	dm_task_update_nodes();
}

static int resume(const char *name)
{
	struct dm_task *t = task_new(DM_DEVICE_RESUME, name);

	/* What is seen stays the same: no need to freeze a file system. */
	if (t)
		dm_task_skip_lockfs(t);
	return task_run_udev(t);
}

int dm_resume(const char *name)
{
	int err = resume(name);

	if (!err)
		return 0;
	return msg_fail_errno(EXIT_FAILED, -err, "%s: cannot be resumed", name);
}

/* The disk must run on, with whatever table it has. */
static void keep_running(const char *name)
{
	struct dm_state s;

	if (dm_state(name, &s))
		return;
	if (s.inactive)
		task_run(task_new(DM_DEVICE_CLEAR, name));
	if (s.suspended)
		resume(name);
}

static const struct table_layer *find_dev(const struct table_layer *l,
					  unsigned int nr, dev_t dev)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (l[i].dev == dev)
			return &l[i];
	return NULL;
}

/* The same changes on top of what the table is now. */
static void rebase_table(struct table *t, const struct table *now)
{
	unsigned int i, kept = 0;

	for (i = 0; i < t->nr; i++) {
		struct table_layer *l = &t->layers[i];
		const struct table_layer *was, *is;

		was = find_dev(t->was, t->was_nr, l->dev);
		is = find_dev(now->layers, now->nr, l->dev);
		if (was && !is)
			continue;
		if (was && !strcmp(l->role, was->role))
			l->role = is->role;
		t->layers[kept++] = *l;
	}
	t->nr = kept;
	if (t->sectors == t->was_sectors)
		t->sectors = now->sectors;
}

static bool same_table(const struct table *t, const struct table *now)
{
	unsigned int i;

	if (t->was_nr != now->nr || t->was_sectors != now->sectors)
		return false;
	for (i = 0; i < now->nr; i++)
		if (t->was[i].dev != now->layers[i].dev ||
		    strcmp(t->was[i].role, now->layers[i].role))
			return false;
	return true;
}

/* A job may have ended since the table was read: true if @t was made to fit. */
static bool table_moved(const char *name, struct table *t)
{
	struct table now;
	bool gone, moved;

	if (dm_table_look(name, &now, &gone) || gone)
		return false;
	moved = !same_table(t, &now);
	if (moved) {
		rebase_table(t, &now);
		free(t->was);
		t->was = now.layers;
		t->was_nr = now.nr;
		t->was_sectors = now.sectors;
		now.layers = NULL;
	}
	dm_table_free(&now);
	return moved;
}

static bool copy_table(struct table *copy, const struct table *t)
{
	*copy = *t;
	copy->layers = calloc(t->nr + 1, sizeof(*copy->layers));
	copy->was = calloc(t->was_nr + 1, sizeof(*copy->was));
	if (!copy->layers || !copy->was)
		return false;
	memcpy(copy->layers, t->layers, t->nr * sizeof(*copy->layers));
	if (t->was_nr)
		memcpy(copy->was, t->was, t->was_nr * sizeof(*copy->was));
	return true;
}

#define SWITCH_TRIES	250	/* of 20 ms: a job is changing the disk */

static int load_moving(const char *name, const struct table *t)
{
	struct table copy;
	unsigned int tries = 0;
	char why[256] = "out of memory";
	int err = -ENOMEM;

	/* The words are the kernel's: EBUSY has other reasons, too. */
	while (copy_table(&copy, t)) {
		do {
			err = load_once(name, &copy, false, why, sizeof(why));
		} while (err && copy.was_nr && table_moved(name, &copy));
		dm_table_free(&copy);
		if (!strstr(why, "switch of the disk is under way") ||
		    ++tries == SWITCH_TRIES)
			return err ? refused(name, err, why) : 0;
		usleep(20000);
	}
	dm_table_free(&copy);
	return refused(name, err, why);
}

/* Who has suspended a disk wants it so: a new table would have it go on. */
static int wait_awake(const char *name)
{
	struct dm_state s;
	unsigned int i;

	for (i = 0; i < SWITCH_TRIES; i++) {
		if (dm_state(name, &s) || !s.suspended)
			return 0;
		usleep(20000);
	}
	return msg_fail(EXIT_REFUSED, "%s: somebody has suspended it; dmsetup resume %s, then again",
			name, name);
}

int dm_reload_resume(const char *name, const struct table *t)
{
	int err, ret = wait_awake(name);

	if (!ret)
		ret = load_moving(name, t);
	if (ret)
		return ret;
	err = resume(name);
	if (!err)
		return 0;
	keep_running(name);
	return msg_fail_errno(exit_code(err), -err,
			      "%s: the new table cannot be put in place; see dmesg",
			      name);
}

static int create_empty(const char *name, const char *uuid, bool read_only)
{
	struct dm_task *t = task_new(DM_DEVICE_CREATE, name);
	int err;

	if (t && (!dm_task_set_uuid(t, uuid) ||
		  (read_only && !dm_task_set_ro(t)))) {
		dm_task_destroy(t);
		t = NULL;
	}
	err = task_run(t);
	if (!err)
		return 0;
	if (err == -EBUSY)
		return msg_fail(EXIT_REFUSED,
				"%s: a device with this name or with its UUID %s is there already; dmchain list",
				name, uuid);
	return msg_fail_errno(EXIT_FAILED, -err, "%s: cannot be created", name);
}

int dm_create(const char *name, const char *uuid, const struct table *t,
	      bool force)
{
	int err, ret = create_empty(name, uuid, t->read_only);

	if (ret)
		return ret;
	ret = table_load(name, t, force);
	if (!ret) {
		err = resume(name);
		if (!err)
			return 0;
		ret = msg_fail_errno(exit_code(err), -err,
				     "%s: cannot be started; see dmesg", name);
	}
	task_run_udev(task_new(DM_DEVICE_REMOVE, name));
	return ret;
}

int dm_remove(const char *name)
{
	struct dm_state s;
	char who[128];
	unsigned int i;
	int err;

	for (i = 0; i < REMOVE_TRIES; i++) {
		if (i)
			usleep(50000);
		err = task_run_udev(task_new(DM_DEVICE_REMOVE, name));
		if (err != -EBUSY)
			break;
	}
	if (!err)
		return 0;
	if (err == -ENXIO)
		return msg_fail(EXIT_FAILED, "%s: no such disk", name);
	if (err != -EBUSY || dm_state(name, &s))
		return msg_fail_errno(EXIT_FAILED, -err, "%s: cannot be closed",
				      name);
	holder_text(s.dev, who, sizeof(who));
	return msg_fail(EXIT_REFUSED, "%s: cannot be closed, it is %s", name, who);
}
