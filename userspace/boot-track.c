// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The declaration of a disk follows it: a snapshot or pivot gives the disk another
 * top, and that is what has to come up next time. Before the switch the declaration
 * gets the new top beside the old one, afterwards the new one alone. Cut off in
 * between, the headers tell which of the two is the disk. As long as they can't be
 * read it is neither: a disk that came up at the wrong one would lose what was written.
 */
#include "boot.h"
#include "job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* --- Now --- */

/* Where the top is now; malloc, or NULL: nobody can tell. */
static char *top_now(const char *name, uint32_t *format)
{
	char *path = NULL;
	struct table t;
	unsigned int i;
	bool gone;

	if (dm_table_look(name, &t, &gone) || gone)
		return NULL;
	for (i = 0; i < t.nr && table_extra(&t.layers[i]); i++)
		;
	if (i < t.nr) {
		path = disk_layer_path(t.layers[i].dev);
		*format = t.layers[i].format;
	}
	dm_table_free(&t);
	return path;
}

static void true_place(struct stat *st)
{
	if (!S_ISBLK(st->st_mode))
		return;
	st->st_dev = st->st_rdev;
	st->st_ino = 0;
	disk_true_identity(&st->st_dev, &st->st_ino);
}

/* By whatever links or loop devices: the kernel's path need not be the user's. */
static bool same_place(const char *a, const char *b)
{
	struct stat sa, sb;

	if (!strcmp(a, b))
		return true;
	if (stat(a, &sa) || stat(b, &sb))
		return false;
	true_place(&sa);
	true_place(&sb);
	return sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

/* --- Before --- */

static int cannot_follow(const char *name)
{
	return msg_fail(EXIT_FAILED,
			"%s: %s; the disk would not come up with its new top, so it gets none; mend that, or dmchain disable %s",
			name, msg_last(), name);
}

/*
 * A disk that has failed in the midst of a change shows its new top, but its headers
 * may say the old one. It gets no other, and which it is will be seen when it is
 * opened again.
 */
static bool undecided(const struct boot_decl *d)
{
	return d->next && dm_failed(d->name);
}

/* Could what is declared come up? What can't be looked at just now, could. */
static bool could_open(const struct boot_decl *d)
{
	struct walk w;
	bool yes;
	int ret;

	if (access(d->path, F_OK))
		return errno != ENOENT && errno != ENOTDIR;
	ret = walk_open(&w, d->path, d->format, WALK_READ_ONLY);
	if (ret)
		return ret != -EXIT_IMAGE;
	yes = !image_check_marks(&w.images[0], MARKS_TOP_RW, false);
	walk_close(&w);
	return yes;
}

/*
 * Another image may have been opened under the disk's name, to be tried out: what is
 * declared is left for the next boot then. Unless that can come up no more, as somebody
 * went back to an older layer: this one is the disk now.
 */
static bool is_declared(struct boot_decl *d)
{
	uint32_t format = d->format;
	char *top = top_now(d->name, &format);

	if (!top || same_place(top, d->path)) {
		free(top);
		return true;
	}
	if (!(d->next && same_place(top, d->next)) && could_open(d)) {
		msg_warn("%s: %s stays declared, as that is not its top now; dmchain enable %s declares what it has",
			 d->name, d->path, d->name);
		free(top);
		return false;
	}
	free(d->path);
	d->path = top;
	d->format = format;
	return true;
}

static int set_next(const char *name, const char *next, uint32_t format)
{
	struct boot_decl d;
	int ret;

	msg_mute(true);
	ret = boot_load(name, &d);
	if (!ret && !undecided(&d) && is_declared(&d)) {
		free(d.next);
		d.next = strdup(next);
		d.next_format = format;
		ret = d.next ? boot_save(&d) :
		      msg_fail(EXIT_FAILED, "%s: out of memory", name);
	}
	msg_mute(false);
	boot_free(&d);
	return ret ? cannot_follow(name) : 0;
}

int boot_before(const char *name, const char *next, uint32_t format)
{
	return boot_declared(name) ? set_next(name, next, format) : 0;
}

static const struct dm_chain_layer *by_uuid(const struct dm_chain_layer *layers,
					    unsigned int nr, const uint8_t *uuid)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (layers[i].role == DM_CHAIN_ROLE_LAYER &&
		    !memcmp(layers[i].uuid, uuid, sizeof(layers[i].uuid)))
			return &layers[i];
	return NULL;
}

/* The target of a mirror, or the base of a commit. */
static const struct dm_chain_layer *leads_to(int ctl, dev_t disk,
					     const struct dm_chain_layer *layers,
					     unsigned int nr)
{
	const struct dm_chain_layer *found = NULL;
	struct dm_chain_job *jobs;
	unsigned int i, n;

	for (i = 0; i < nr; i++)
		if (layers[i].role == DM_CHAIN_ROLE_TARGET)
			return &layers[i];
	if (control_jobs(ctl, 0, &jobs, &n))
		return NULL;
	for (i = 0; i < n; i++)
		if (makedev(jobs[i].major, jobs[i].minor) == disk &&
		    job_live(&jobs[i]) &&
		    jobs[i].type == DM_CHAIN_JOB_ACTIVE_COMMIT)
			found = by_uuid(layers, nr, jobs[i].into);
	free(jobs);
	return found;
}

int boot_before_pivot(int ctl, const char *name, dev_t disk)
{
	const struct dm_chain_layer *to;
	struct dm_chain_layer *layers;
	unsigned int nr;
	char *path;
	int ret;

	if (!boot_declared(name))
		return 0;
	ret = control_layers(ctl, disk, &layers, &nr);
	if (ret)
		return ret;
	to = leads_to(ctl, disk, layers, nr);
	/* No job: the pivot itself will tell. */
	if (to) {
		path = disk_layer_path(makedev(to->major, to->minor));
		ret = path ? set_next(name, path, to->format) :
		      msg_fail(EXIT_FAILED, "%s: out of memory", name);
		free(path);
	}
	free(layers);
	return ret;
}

/* --- Afterwards --- */

static int add_place(struct boot_decl *d, dev_t layer, unsigned int *added)
{
	char *path = disk_layer_path(layer);
	int ret = path ? boot_need(d, path) :
		  msg_fail(EXIT_FAILED, "%s: out of memory", d->name);

	free(path);
	if (ret < 0)
		return ret;
	*added += (unsigned int)ret;
	return 0;
}

int boot_fill(struct boot_decl *d, unsigned int *added)
{
	struct table t;
	unsigned int i;
	int ret = dm_table_read(d->name, &t, NULL);

	*added = 0;
	if (ret)
		return ret;
	for (i = 0; i < t.nr && !ret; i++)
		if (!table_extra(&t.layers[i]))
			ret = add_place(d, t.layers[i].dev, added);
	dm_table_free(&t);
	return ret;
}

/* Which of the two it is now; false: another one, which is none of our business. */
static bool choose(struct boot_decl *d)
{
	char *top = top_now(d->name, &d->format);
	bool next = top && d->next && same_place(top, d->next);
	bool known = next || (top && same_place(top, d->path));

	free(top);
	if (next) {
		free(d->path);
		d->path = d->next;
	} else {
		free(d->next);
	}
	d->next = NULL;
	return known;
}

static void not_followed(const char *name)
{
	msg_warn("%s: its declaration does not follow it, %s; mend that, then dmchain enable %s",
		 name, msg_last(), name);
}

static int settle(struct boot_decl *d)
{
	bool changed = d->next;
	unsigned int added = 0;

	if (!choose(d))
		return 0;
	/* Without a need the disk comes up where there is none. */
	if (boot_fill(d, &added))
		added = 0;
	return changed || added ? boot_save(d) : 0;
}

void boot_settle(const char *name)
{
	struct boot_decl d;
	struct dm_state s;
	int ret = 0;

	if (!boot_declared(name) || !module_present() || dm_state(name, &s) ||
	    !s.ours || !s.live)
		return;
	msg_mute(true);
	/* A bad one says so when it is asked for. */
	if (!boot_load(name, &d) && !undecided(&d))
		ret = settle(&d);
	msg_mute(false);
	boot_free(&d);
	if (ret)
		not_followed(name);
}

void boot_never(const char *name, const char *next)
{
	struct boot_decl d;
	int ret = 0;

	if (!boot_declared(name))
		return;
	msg_mute(true);
	if (!boot_load(name, &d) && d.next && !strcmp(d.next, next)) {
		free(d.next);
		d.next = NULL;
		ret = boot_save(&d);
	}
	msg_mute(false);
	boot_free(&d);
	if (ret)
		not_followed(name);
}

/* --- Next time --- */

/* The copy has no header: what became of its source says that of the source. */
static int told_by_source(const struct boot_decl *d, bool *next)
{
	struct image img;
	int ret = image_open(&img, d->path, d->format, IMAGE_ANY_MARK);

	if (ret)
		return ret;
	*next = img.hdr.marks & DM_CHAIN_MARK_RETIRED;
	/* One of several disks: then another one's header has decided for it. */
	if (*next && image_pending(&img))
		ret = pending_ask(&img, NULL, next);
	image_close(&img);
	return ret;
}

/* A copy into which all went, or a layer that has the frozen one's fingerprint. */
static bool complete(const struct chain_header *h)
{
	return !(h->marks & DM_CHAIN_MARK_INCOMPLETE) &&
	       !(h->parent.format == DM_CHAIN_FORMAT_RAW &&
		 chain_id_is_null(&h->parent.cid));
}

/* The old top has no header, and could be opened whatever became of it. */
static int told_by_next(const struct boot_decl *d, bool *next)
{
	struct image img;
	int ret = image_open(&img, d->next, d->next_format, IMAGE_ANY_MARK);

	if (ret)
		return ret;
	*next = complete(&img.hdr);
	if (image_pending(&img) && !chain_pending_old(&img.hdr))
		ret = pending_ask(&img, NULL, next);
	image_close(&img);
	return ret;
}

/* As it would be written: frozen layers can be read, too. */
static int opens(const char *path, uint32_t format)
{
	struct walk w;
	int ret = walk_open(&w, path, format, 0);

	if (!ret)
		walk_close(&w);
	return ret;
}

/* Both have headers: the old top opens if it is the disk still, else the new one. */
static int told_by_both(const struct boot_decl *d, bool *next)
{
	char *why;
	int ret = opens(d->path, d->format);

	if (!ret)
		return 0;
	why = strdup(msg_last());
	ret = opens(d->next, d->next_format);
	*next = !ret;
	if (ret)
		ret = msg_fail(-ret, "%s; %s", why ? why : d->path, msg_last());
	free(why);
	return ret;
}

static int told(const struct boot_decl *d, bool *next)
{
	bool raw = d->format == DM_CHAIN_FORMAT_RAW;

	if (d->next_format != DM_CHAIN_FORMAT_RAW)
		return raw ? told_by_next(d, next) : told_by_both(d, next);
	/* Where both are raw nothing tells. */
	return raw ? 0 : told_by_source(d, next);
}

int boot_resolve(const struct boot_decl *d, bool *next)
{
	int ret;

	*next = false;
	if (!d->next)
		return 0;
	msg_mute(true);
	ret = told(d, next);
	msg_mute(false);
	if (!ret)
		return 0;
	return msg_fail(-ret, "%s: its top is %s or %s, and which can't be told: %s; mend that, or say it by dmchain enable %s PATH",
			d->name, d->path, d->next, msg_last(), d->name);
}
