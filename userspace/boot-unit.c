// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Declared disks as systemd sees them. The template dmchain@.service does the work;
 * a generator says which disks there are and what each needs, as that of crypttab
 * does: the device asks for the service, so that a mount in fstab waits for it, and
 * fails at once if that fails.
 */
#include "boot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNIT_DIR	"/usr/lib/systemd/system"
#define TEMPLATE	UNIT_DIR "/dmchain@.service"

static bool plain(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c >= '0' && c <= '9') || c == ':' || c == '_' || c == '.';
}

static char *put_escaped(char *p, unsigned char c)
{
	return p + sprintf(p, "\\x%02x", c);
}

/* A '-' may stay: this is a name and no path, and people have to type it. */
const char *unit_instance(const char *name, char *buf)
{
	char *p = buf;

	for (; *name && p < buf + BOOT_UNIT_MAX - 5; name++) {
		if (plain((unsigned char)*name) || *name == '-' || *name == '@')
			*p++ = *name;
		else
			p = put_escaped(p, (unsigned char)*name);
	}
	*p = 0;
	return buf;
}

bool unit_unescape(char *text)
{
	char *in = text, *out = text;
	unsigned int c;
	int n;

	while (*in) {
		if (*in != '\\') {
			*out++ = *in++;
			continue;
		}
		n = 0;
		if (sscanf(in, "\\x%2x%n", &c, &n) != 1 || n != 4 || !c)
			return false;
		*out++ = (char)c;
		in += 4;
	}
	*out = 0;
	return true;
}

/* As systemd-escape --path: no doubled slashes, none at the ends. */
char *unit_path(const char *path)
{
	char *out = malloc(4 * strlen(path) + 2), *p = out;

	if (!out)
		return NULL;
	while (*path == '/')
		path++;
	if (!*path)
		*p++ = '-';
	for (; *path; path++) {
		if (*path != '/')
			p = plain((unsigned char)*path) && (*path != '.' || p > out) ?
			    (*p = *path, p + 1) :
			    put_escaped(p, (unsigned char)*path);
		else if (path[1] && path[1] != '/')
			*p++ = '-';
	}
	*p = 0;
	return out;
}

char *unit_quote(const char *path)
{
	char *out = malloc(2 * strlen(path) + 3), *p = out;

	if (!out)
		return NULL;
	*p++ = '"';
	for (; *path; path++) {
		if (*path == '"' || *path == '\\')
			*p++ = '\\';
		else if (*path == '%')
			*p++ = '%';
		*p++ = *path;
	}
	*p++ = '"';
	*p = 0;
	return out;
}

/* --- What a generator makes --- */

/**
 * struct making - the files of one disk
 * @dir: of the generator
 * @service: name of its unit
 * @device: /dev/mapper/NAME in names of units
 */
struct making {
	const char *dir;
	char *service;
	char *device;
};

static int failed(const char *path)
{
	return msg_fail_errno(EXIT_FAILED, errno, "%s: cannot be made", path);
}

static int make_dir(const char *path)
{
	return mkdir(path, 0755) && errno != EEXIST ? failed(path) : 0;
}

/* UNIT.HOW/SERVICE */
static int make_link(const struct making *m, const char *unit, const char *how)
{
	char *dir = NULL, *path = NULL;
	int ret;

	if (asprintf(&dir, "%s/%s.%s", m->dir, unit, how) < 0 ||
	    asprintf(&path, "%s/%s", dir, m->service) < 0) {
		free(dir);
		return msg_fail(EXIT_FAILED, "%s: out of memory", unit);
	}
	ret = make_dir(dir);
	if (!ret && symlink(TEMPLATE, path) && errno != EEXIST)
		ret = failed(path);
	free(path);
	free(dir);
	return ret;
}

/* A device has a unit of its own; what else lies in /dev is no place for files. */
static void put_place(FILE *f, const char *path)
{
	bool device = !strncmp(path, "/dev/", 5);
	char *text = device ? unit_path(path) : unit_quote(path);

	if (text && device)
		fprintf(f, "Wants=%s.device\nAfter=%s.device\n", text, text);
	else if (text)
		fprintf(f, "RequiresMountsFor=%s\n", text);
	free(text);
}

static void put_needs(FILE *f, const struct boot_decl *d)
{
	unsigned int i;

	put_place(f, d->path);
	if (d->next)
		put_place(f, d->next);
	for (i = 0; i < d->nr_needs; i++)
		put_place(f, d->needs[i]);
}

static void put_unit(FILE *f, const struct making *m, const struct boot_decl *d)
{
	if (d && d->network)
		fprintf(f, "Wants=network-online.target\n"
			   "After=network-online.target\n"
			   "Before=remote-fs.target\n");
	else
		fprintf(f, "Before=local-fs.target\n");
	/* Behind which mounts of the device come. */
	fprintf(f, "Wants=blockdev@%s.target\nBefore=blockdev@%s.target\n",
		m->device, m->device);
	if (d)
		put_needs(f, d);
}

/*
 * When a service is stopped, so is what is mounted of its disk, since that is bound to
 * the device; in which order the target tells, but only if it is stopped, too.
 */
static void put_target(FILE *f, const struct making *m, const struct boot_decl *d)
{
	(void)d;
	fprintf(f, "PartOf=%s\n", m->service);
}

static int make_dropin(const struct making *m, const char *unit,
		       void (*put)(FILE *f, const struct making *m,
				   const struct boot_decl *d),
		       const struct boot_decl *d)
{
	char *dir = NULL, *path = NULL;
	FILE *f;
	int ret;

	if (asprintf(&dir, "%s/%s.d", m->dir, unit) < 0 ||
	    asprintf(&path, "%s/50-declared.conf", dir) < 0) {
		free(dir);
		return msg_fail(EXIT_FAILED, "%s: out of memory", unit);
	}
	ret = make_dir(dir);
	f = ret ? NULL : fopen(path, "we");
	if (f) {
		fprintf(f, "# Made by dmchain units of what " BOOT_DIR " says.\n[Unit]\n");
		put(f, m, d);
	}
	if (!ret && (!f || ferror(f)))
		ret = failed(path);
	if (f && fclose(f) && !ret)
		ret = failed(path);
	free(path);
	free(dir);
	return ret;
}

static int make(const struct making *m, const struct boot_decl *d)
{
	char *device = NULL, *target = NULL;
	int ret = make_dropin(m, m->service, put_unit, d);

	if (!ret)
		ret = make_link(m, d && d->network ? "remote-fs.target" :
				   "local-fs.target", "wants");
	if (ret)
		return ret;
	if (asprintf(&device, "%s.device", m->device) < 0 ||
	    asprintf(&target, "blockdev@%s.target", m->device) < 0) {
		free(device);
		return msg_fail(EXIT_FAILED, "%s: out of memory", m->device);
	}
	ret = make_link(m, device, "requires");
	if (!ret)
		ret = make_dropin(m, target, put_target, d);
	free(target);
	free(device);
	return ret;
}

int unit_write(const char *dir, const char *name, const struct boot_decl *d)
{
	struct making m = { .dir = dir };
	char instance[BOOT_UNIT_MAX], *node = NULL;
	int ret;

	if (asprintf(&node, "/dev/mapper/%s", name) < 0)
		node = NULL;
	m.device = node ? unit_path(node) : NULL;
	if (asprintf(&m.service, "dmchain@%s.service",
		     unit_instance(name, instance)) < 0)
		m.service = NULL;
	ret = m.device && m.service ? make(&m, d) :
	      msg_fail(EXIT_FAILED, "%s: out of memory", name);
	free(m.service);
	free(m.device);
	free(node);
	return ret;
}
