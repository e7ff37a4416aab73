// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Open disks and where their layers live.
 */
#include "online.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/major.h>

#define STACK_MAX 32	/* devices on devices: deeper is a loop in sysfs */

int disk_find(const char *name, dev_t *dev)
{
	if (!dm_disk(name, dev, NULL))
		return 0;
	return msg_fail(EXIT_FAILED, "%s: no such disk; dmchain list shows those there are",
			name);
}

void disk_true_identity(dev_t *dev, ino_t *ino)
{
	char path[PATH_MAX];
	dev_t fdev;
	ino_t fino;

	if (!loop_backing(*dev, path, sizeof(path), &fdev, &fino))
		return;
	*dev = fdev;
	*ino = fino;
}

static char *node_text(dev_t dev)
{
	char text[512], *name, *out = NULL;

	if (sysfs_text(dev, "dm/name", text, sizeof(text)))
		return asprintf(&out, "/dev/mapper/%s", text) < 0 ? NULL : out;
	name = sysfs_text(dev, "uevent", text, sizeof(text)) ?
		strstr(text, "DEVNAME=") : NULL;
	if (name) {
		name += strlen("DEVNAME=");
		name[strcspn(name, "\n")] = 0;
		return asprintf(&out, "/dev/%s", name) < 0 ? NULL : out;
	}
	return asprintf(&out, "/dev/block/%u:%u", major(dev), minor(dev)) < 0 ?
		NULL : out;
}

char *disk_device_path(dev_t dev)
{
	return node_text(dev);
}

char *disk_layer_path(dev_t dev)
{
	char path[PATH_MAX];

	if (major(dev) == LOOP_MAJOR &&
	    sysfs_text(dev, "loop/backing_file", path, sizeof(path)))
		return strdup(path);
	return node_text(dev);
}

/* The source of a mount, from the fields behind " - ". */
static bool mount_source(const char *line, unsigned int id, char *source)
{
	const char *sep = strstr(line, " - ");
	unsigned int n;

	return sscanf(line, "%u", &n) == 1 && n == id && sep &&
	       sscanf(sep, " - %*s %255s", source) == 1;
}

/* Some file systems (btrfs) have numbers of their own: ask for the mount's. */
static bool mount_device(const char *path, dev_t *dev)
{
	struct statx sx;
	char source[256], *line = NULL;
	size_t room = 0;
	bool found = false;
	struct stat st;
	FILE *f;

	if (statx(AT_FDCWD, path, 0, STATX_MNT_ID, &sx) ||
	    !(sx.stx_mask & STATX_MNT_ID))
		return false;
	f = fopen("/proc/self/mountinfo", "re");
	while (f && !found && getline(&line, &room, f) > 0)
		found = mount_source(line, sx.stx_mnt_id, source);
	free(line);
	if (f)
		fclose(f);
	if (!found || stat(source, &st) || !S_ISBLK(st.st_mode))
		return false;
	*dev = st.st_rdev;
	return true;
}

static bool stands_on(dev_t dev, dev_t disk, unsigned int depth);

static bool file_stands_on(const char *path, dev_t disk, unsigned int depth)
{
	struct stat st;
	dev_t dev;

	if (stat(path, &st))
		return false;
	dev = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;
	if (!major(dev) && !mount_device(path, &dev))
		return false;
	return stands_on(dev, disk, depth + 1);
}

static bool slaves_stand_on(dev_t dev, dev_t disk, unsigned int depth)
{
	char path[400], text[32];
	unsigned int ma, mi;
	struct dirent *d;
	bool yes = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/slaves", major(dev),
		 minor(dev));
	dir = opendir(path);
	while (dir && !yes && (d = readdir(dir))) {
		if (d->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "slaves/%s/dev", d->d_name);
		yes = sysfs_text(dev, path, text, sizeof(text)) &&
		      sscanf(text, "%u:%u", &ma, &mi) == 2 &&
		      stands_on(makedev(ma, mi), disk, depth + 1);
	}
	if (dir)
		closedir(dir);
	return yes;
}

static bool stands_on(dev_t dev, dev_t disk, unsigned int depth)
{
	char text[PATH_MAX];
	unsigned int ma, mi;

	if (dev == disk)
		return true;
	if (depth > STACK_MAX)
		return false;
	if (sysfs_text(dev, "partition", text, sizeof(text)))
		return sysfs_text(dev, "../dev", text, sizeof(text)) &&
		       sscanf(text, "%u:%u", &ma, &mi) == 2 &&
		       stands_on(makedev(ma, mi), disk, depth + 1);
	if (major(dev) == LOOP_MAJOR &&
	    sysfs_text(dev, "loop/backing_file", text, sizeof(text)))
		return file_stands_on(text, disk, depth);
	return slaves_stand_on(dev, disk, depth);
}

bool path_stands_on(const char *path, dev_t disk)
{
	return file_stands_on(path, disk, 0);
}

bool path_place_stands_on(const char *path, dev_t disk)
{
	char *folder = strdup(path), *slash = folder ? strrchr(folder, '/') : NULL;
	bool on = false;

	if (slash) {
		slash[slash == folder] = 0;
		on = path_stands_on(access(path, F_OK) ? folder : path, disk);
	}
	free(folder);
	return on;
}

/* The cycle would not even need a second disk: each write would cause another. */
int disk_check_place(const char *name, dev_t disk, const char *path)
{
	if (!path_place_stands_on(path, disk))
		return 0;
	return msg_fail(EXIT_REFUSED,
			"%s: lies on the disk %s itself; choose a place that doesn't",
			path, name);
}

/* A disk can't be held still while another one that it stands on is. */
int disk_nested(const char *name, const char *path, const char *on_name)
{
	return msg_fail(EXIT_REFUSED,
			"%s: %s lies on the disk %s, and both at one instant can't be had; take them one by one",
			name, path, on_name);
}

int disk_check_apart(const char *name, dev_t layer, const char *on_name,
		     dev_t on_disk)
{
	char *path = disk_layer_path(layer), *node = disk_device_path(layer);
	int ret = 0;

	if (!path || !node)
		ret = msg_fail(EXIT_FAILED, "%s: out of memory", name);
	else if (path_stands_on(node, on_disk))
		ret = disk_nested(name, path, on_name);
	free(node);
	free(path);
	return ret;
}
