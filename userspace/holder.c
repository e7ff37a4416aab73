// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Who has a block device open? Asked only to name the culprit.
 */
#include "online.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static bool by_device(dev_t dev, char *buf, size_t len)
{
	char path[300], name[200] = "";
	struct dirent *d;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/holders", major(dev),
		 minor(dev));
	dir = opendir(path);
	while (dir && !found && (d = readdir(dir))) {
		if (d->d_name[0] == '.')
			continue;
		found = true;
		snprintf(path, sizeof(path), "holders/%.200s/dm/name", d->d_name);
		if (!sysfs_text(dev, path, name, sizeof(name)))
			snprintf(name, sizeof(name), "%.190s", d->d_name);
		snprintf(buf, len, "part of the device %.100s", name);
	}
	if (dir)
		closedir(dir);
	return found;
}

static bool by_mount(dev_t dev, char *buf, size_t len)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	unsigned int ma, mi;
	char *line = NULL;
	bool found = false;
	char where[100];
	size_t room = 0;

	while (f && !found && getline(&line, &room, f) > 0)
		found = sscanf(line, "%*u %*u %u:%u %*s %99s", &ma, &mi,
			       where) == 3 && makedev(ma, mi) == dev;
	if (found)
		snprintf(buf, len, "mounted on %s", where);
	free(line);
	if (f)
		fclose(f);
	return found;
}

static bool process_has(const char *pid, dev_t dev)
{
	char path[300];
	struct dirent *d;
	struct stat st;
	bool has = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	dir = opendir(path);
	while (dir && !has && (d = readdir(dir)))
		has = d->d_name[0] != '.' &&
		      !fstatat(dirfd(dir), d->d_name, &st, 0) &&
		      S_ISBLK(st.st_mode) && st.st_rdev == dev;
	if (dir)
		closedir(dir);
	return has;
}

static void process_text(const char *pid, char *buf, size_t len)
{
	char path[64], name[32] = "?";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%.20s/comm", pid);
	f = fopen(path, "re");
	if (f && fgets(name, sizeof(name), f))
		name[strcspn(name, "\n")] = 0;
	if (f)
		fclose(f);
	snprintf(buf, len, "open in process %.20s (%s)", pid, name);
}

static bool by_process(dev_t dev, char *buf, size_t len)
{
	DIR *dir = opendir("/proc");
	struct dirent *d;
	bool found = false;

	while (dir && !found && (d = readdir(dir))) {
		if (strspn(d->d_name, "0123456789") != strlen(d->d_name) ||
		    !process_has(d->d_name, dev))
			continue;
		found = true;
		process_text(d->d_name, buf, len);
	}
	if (dir)
		closedir(dir);
	return found;
}

void holder_text(dev_t dev, char *buf, size_t len)
{
	if (!by_device(dev, buf, len) && !by_mount(dev, buf, len) &&
	    !by_process(dev, buf, len))
		snprintf(buf, len, "in use");
}
