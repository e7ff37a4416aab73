// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain enable NAME [PATH], disable NAME: a disk comes up with the machine, or
 * does no longer.
 */
#include "boot.h"
#include "label.h"
#include "online.h"

#include <errno.h>
#include <linux/magic.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

struct enabling {
	struct boot_decl decl;
	const char *path;
	const char *format;
	const char *jobs;
	const char *label_rw;
	const char *label_ro;
	bool open;
};

/* --- systemd is told, where there is one --- */

static int run_systemctl(char *const *argv)
{
	char *envp[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL };
	int status = 0;
	pid_t pid;

	fflush(NULL);
	if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, envp))
		return -1;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Of an open disk the service is started, too: it closes the disk in its turn. */
static void tell_systemd(const char *name, bool start)
{
	char instance[BOOT_UNIT_MAX], unit[BOOT_UNIT_MAX + 32];
	char *reload[] = { "systemctl", "daemon-reload", NULL };
	char *up[] = { "systemctl", "--no-block", "start", unit, NULL };

	if (access("/run/systemd/system", F_OK))
		return;
	snprintf(unit, sizeof(unit), "dmchain@%s.service",
		 unit_instance(name, instance));
	if (run_systemctl(reload) || (start && run_systemctl(up)))
		msg_warn("%s: systemd was not told; systemctl daemon-reload, then systemctl start %s",
			 name, unit);
}

/* --- What is declared --- */

static char *template_text(json_object *o)
{
	char owner[16] = "", group[16] = "", mode[16] = "", *text = NULL;
	struct label l;

	if (!label_from_json(o, &l))
		return NULL;
	if (l.parts & LABEL_OWNER)
		snprintf(owner, sizeof(owner), "%u", l.uid);
	if (l.parts & LABEL_GROUP)
		snprintf(group, sizeof(group), "%u", l.gid);
	if (l.parts & LABEL_MODE)
		snprintf(mode, sizeof(mode), "%o", l.mode);
	if (asprintf(&text, "%s:%s:%s%s%.*s", owner, group, mode,
		     l.selinux ? ",selinux=" : "",
		     l.selinux ? (int)l.selinux_len : 0,
		     l.selinux ? l.selinux : "") < 0)
		text = NULL;
	label_free(&l);
	return text;
}

/* Those that the disk was opened with. */
static void take_templates(struct boot_decl *d)
{
	json_object *o = templates_load(d->name), *v;

	if (json_object_object_get_ex(o, "rw", &v))
		d->label_rw = template_text(v);
	if (json_object_object_get_ex(o, "ro", &v))
		d->label_ro = template_text(v);
	json_object_put(o);
}

static int take_top(struct boot_decl *d, const struct table *t)
{
	unsigned int i;

	for (i = 0; i < t->nr && table_extra(&t->layers[i]); i++)
		;
	d->path = i < t->nr ? disk_layer_path(t->layers[i].dev) : NULL;
	if (!d->path)
		return msg_fail(EXIT_FAILED, "%s: out of memory", d->name);
	d->format = t->layers[i].format;
	if (layer_lasts(d->path, t->layers[i].dev))
		return 0;
	return msg_fail(EXIT_FAILED,
			"%s: its top has no path by which it could be found then (%s); it was deleted, or opened by a descriptor without one",
			d->name, d->path);
}

static int from_disk(struct enabling *e)
{
	struct boot_decl *d = &e->decl;
	unsigned int added;
	struct table t;
	int ret = dm_table_read(d->name, &t, NULL);

	if (ret)
		return ret;
	d->read_only = t.read_only;
	ret = take_top(d, &t);
	dm_table_free(&t);
	if (ret)
		return ret;
	take_templates(d);
	return boot_fill(d, &added);
}

/* Two disks that write one layer: which of them would come up? */
static int check_free(const struct enabling *e, const struct image *top)
{
	char *holder = NULL;
	int ret;

	if (e->open || e->decl.read_only)
		return 0;
	ret = disk_holding(top, false, &holder);
	if (!ret && holder)
		ret = msg_fail(EXIT_REFUSED,
			       "%s: in use, disk %s has it as a layer; dmchain enable %s, or another layer",
			       top->path, holder, holder);
	free(holder);
	return ret;
}

/* One that can't be opened now is not to be found out at boot. */
static int from_path(struct enabling *e)
{
	struct boot_decl *d = &e->decl;
	struct walk w;
	unsigned int i;
	int ret = walk_open(&w, e->path, d->format, WALK_READ_ONLY);

	if (ret)
		return ret;
	if (!d->read_only)
		ret = image_check_marks(&w.images[0], MARKS_TOP_RW, false);
	if (!ret)
		ret = check_free(e, &w.images[0]);
	for (i = 0; i < w.nr && ret >= 0; i++)
		ret = boot_need(d, w.images[i].path);
	d->path = strdup(w.images[0].path);
	walk_close(&w);
	if (ret >= 0 && !d->path)
		ret = msg_fail(EXIT_FAILED, "%s: out of memory", d->name);
	return ret < 0 ? ret : 0;
}

/*
 * What waits for the network must not be waited for by local file systems: systemd
 * would have to give one of them up.
 */
static bool on_network(const char *path)
{
	struct statfs fs;

	if (statfs(path, &fs))
		return false;
	switch ((uint32_t)fs.f_type) {
	case NFS_SUPER_MAGIC:
	case SMB_SUPER_MAGIC:
	case SMB2_SUPER_MAGIC:
	case CIFS_SUPER_MAGIC:
	case CEPH_SUPER_MAGIC:
	case AFS_SUPER_MAGIC:
		return true;
	}
	return false;
}

static void look_for_network(struct boot_decl *d)
{
	unsigned int i;

	d->network |= on_network(d->path);
	for (i = 0; i < d->nr_needs; i++)
		d->network |= on_network(d->needs[i]);
}

static int state(struct enabling *e)
{
	const char *name = e->decl.name;
	struct dm_state s;

	e->open = module_present() && !dm_state(name, &s) && s.ours && s.live;
	if (e->path || e->open)
		return 0;
	return msg_fail(EXIT_FAILED,
			"%s: is not open; dmchain open it first, or say the PATH of its top",
			name);
}

static int set_label(char **label, const char *text)
{
	if (!text)
		return 0;
	free(*label);
	*label = strdup(text);
	return *label ? 0 : msg_fail(EXIT_FAILED, "%s: out of memory", text);
}

static int declare_locked(struct enabling *e)
{
	struct boot_decl *d = &e->decl;
	int ret = state(e);

	if (!ret)
		ret = e->path ? from_path(e) : from_disk(e);
	if (!ret)
		ret = set_label(&d->label_rw, e->label_rw);
	if (!ret)
		ret = set_label(&d->label_ro, e->label_ro);
	if (ret)
		return ret;
	look_for_network(d);
	return boot_save(d);
}

/* A command that gives the disk another top writes the declaration, too. */
static int declare(struct enabling *e)
{
	struct disk_lock l;
	int ret = disk_lock(e->decl.name, &l);

	if (ret)
		return ret;
	ret = declare_locked(e);
	disk_unlock(&l);
	return ret;
}

/* --- What is said of it --- */

static void report(const char *name, const char *path, const char *what)
{
	json_object *o = json_object_new_object();
	char *file = boot_path(name);

	json_object_object_add(o, "name", json_text(name));
	if (path)
		json_object_object_add(o, "path", json_text(path));
	json_object_object_add(o, "file", json_text(file));
	if (opt_json)
		show_json(o);
	else
		printf("%s: %s (%s)\n", name, what, file ? file : "");
	if (!opt_json)
		json_object_put(o);
	free(file);
}

static int check(struct enabling *e)
{
	struct boot_decl *d = &e->decl;
	int ret = args_format(e->format, &d->format);

	if (!ret && (!dm_name_valid(d->name) || arg_says_fd(d->name) ||
		     *d->name == '.'))
		ret = msg_fail(EXIT_USAGE, "%s: no name for a disk that comes up by itself",
			       d->name);
	if (!ret && e->path && arg_fd(e->path) >= 0)
		ret = msg_fail(EXIT_USAGE, "%s: is gone by then; say a path",
			       e->path);
	if (!ret && e->jobs && strcmp(e->jobs, "resume") &&
	    strcmp(e->jobs, "report"))
		ret = msg_fail(EXIT_USAGE, "%s: what is done with jobs that were cut off is resume or report",
			       e->jobs);
	d->report = e->jobs && !strcmp(e->jobs, "report");
	return ret ? ret : label_check_texts(e->label_rw, e->label_ro);
}

/* With nothing but a NAME the disk says all of it. */
static int check_given(const struct enabling *e)
{
	if (e->path || (!e->format && !e->decl.read_only))
		return 0;
	return msg_fail(EXIT_USAGE,
			"%s: --format and --read-only belong to a PATH; of an open disk that is known",
			e->decl.name);
}

int cmd_enable(int argc, char **argv)
{
	struct enabling e = { 0 };
	const struct arg_opt opts[] = {
		{ "format", &e.format, NULL },
		{ "read-only", NULL, &e.decl.read_only },
		{ "label-rw", &e.label_rw, NULL },
		{ "label-ro", &e.label_ro, NULL },
		{ "jobs", &e.jobs, NULL },
		{ "network", NULL, &e.decl.network },
		{ NULL, NULL, NULL },
	};
	int ret = args_parse(&argc, &argv, opts, 1, 2);

	if (ret)
		return -ret;
	e.path = argv[1];
	e.decl.name = strdup(argv[0]);
	ret = e.decl.name ? check(&e) :
	      msg_fail(EXIT_FAILED, "%s: out of memory", argv[0]);
	if (!ret)
		ret = check_given(&e);
	if (!ret)
		ret = declare(&e);
	if (!ret) {
		report(e.decl.name, e.decl.path, "comes up with the machine");
		tell_systemd(e.decl.name, e.open);
	}
	boot_free(&e.decl);
	return -ret;
}

/* Or a command that is changing the disk would declare it again. */
static int undeclare(const char *name)
{
	struct disk_lock l;
	int ret = disk_lock(name, &l);

	if (ret)
		return ret;
	ret = boot_remove(name);
	disk_unlock(&l);
	return ret;
}

int cmd_disable(int argc, char **argv)
{
	int ret = args_parse(&argc, &argv, NULL, 1, 1);

	if (!ret && !dm_name_valid(argv[0]))
		ret = msg_fail(EXIT_USAGE, "%s: no name for a disk", argv[0]);
	if (!ret)
		ret = undeclare(argv[0]);
	if (ret)
		return -ret;
	report(argv[0], NULL, "comes up with the machine no longer");
	tell_systemd(argv[0], false);
	return 0;
}
