// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * More room for a layer of an open disk: its file and loop device grow. A block
 * device is its owner's to grow.
 */
#include "online.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* The path could lead elsewhere by now: what the loop has counts. */
static int open_file(const char *disk, const char *path, dev_t dev)
{
	char backing[PATH_MAX];
	struct stat st;
	dev_t fdev;
	ino_t ino;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return msg_fail_errno(EXIT_FAILED, errno, "%s: cannot be opened",
				      path);
	if (loop_backing(dev, backing, sizeof(backing), &fdev, &ino) &&
	    !fstat(fd, &st) && st.st_dev == fdev && st.st_ino == ino)
		return fd;
	close(fd);
	return msg_fail(EXIT_FAILED, "%s: is not the file that disk %s has open",
			path, disk);
}

static int grow_file(const char *disk, const char *path, dev_t dev,
		     uint64_t bytes)
{
	struct stat st;
	int fd = open_file(disk, path, dev), err = 0;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) ||
	    ((uint64_t)st.st_size < bytes && ftruncate(fd, (off_t)bytes)) ||
	    fsync(fd))
		err = errno;
	close(fd);
	if (err)
		return msg_fail_errno(EXIT_FAILED, err,
				      "%s: cannot grow to %llu bytes", path,
				      (unsigned long long)bytes);
	return loop_grow(dev);
}

static int check_device(const char *path, dev_t dev, uint64_t needs)
{
	uint64_t bytes = layer_device_bytes(dev);

	if (bytes >= needs)
		return 0;
	return msg_fail(EXIT_FAILED,
			"%s: has %llu bytes, the layer needs %llu then; grow the device first",
			path, (unsigned long long)bytes,
			(unsigned long long)needs);
}

uint64_t layer_device_bytes(dev_t dev)
{
	char text[32];

	if (!sysfs_text(dev, "size", text, sizeof(text)))
		return 0;
	return strtoull(text, NULL, 10) * 512;
}

int layer_grow(const char *disk, dev_t dev, uint64_t bytes)
{
	char text[PATH_MAX], *path = disk_layer_path(dev);
	int ret;

	if (!path)
		return msg_fail(EXIT_FAILED, "%s: out of memory", disk);
	if (sysfs_text(dev, "loop/backing_file", text, sizeof(text)))
		ret = grow_file(disk, path, dev, bytes);
	else
		ret = check_device(path, dev, bytes);
	free(path);
	return ret;
}
