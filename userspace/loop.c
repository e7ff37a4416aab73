// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Image files on loop devices.
 *
 * Every loop made here goes with its last user (autoclear), so a controller
 * that is killed leaves none. One inode has one loop device: the kernel tells
 * raw layers apart by their devices.
 */
#include "online.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/fs.h>
#include <linux/loop.h>
#include <linux/major.h>

#define CONFIGURE_TRIES	64	/* somebody else may take the free one first */
#define NODE_LOCK_TRIES	250	/* of 20 ms, while udev looks at the new node */
#define GONE_TRIES	100	/* of 20 ms */

bool sysfs_text(dev_t dev, const char *file, char *buf, size_t len)
{
	char path[128];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s", major(dev),
		 minor(dev), file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, buf, len - 1);
	close(fd);
	if (n <= 0)
		return false;
	buf[n] = 0;
	/* The rest of a path may well have newlines. */
	if (buf[n - 1] == '\n')
		buf[n - 1] = 0;
	return true;
}

bool device_held(dev_t dev)
{
	char path[64];
	struct dirent *d;
	bool held = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/holders", major(dev),
		 minor(dev));
	dir = opendir(path);
	while (dir && !held && (d = readdir(dir)))
		held = d->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return held;
}

bool loop_going(dev_t dev)
{
	char text[8];

	return major(dev) == LOOP_MAJOR &&
	       sysfs_text(dev, "loop/autoclear", text, sizeof(text)) &&
	       text[0] == '1';
}

/* Loop devices. */

static int node_path(dev_t dev, char *path, size_t len)
{
	char text[512];
	char *name, *end;

	if (!sysfs_text(dev, "uevent", text, sizeof(text)))
		return -ENODEV;
	name = strstr(text, "DEVNAME=");
	if (!name)
		return -ENODEV;
	name += strlen("DEVNAME=");
	end = strchr(name, '\n');
	if (end)
		*end = 0;
	snprintf(path, len, "/dev/%s", name);
	return 0;
}

static int loop_open(dev_t dev, int flags)
{
	char path[128];
	int fd, err = node_path(dev, path, sizeof(path));

	if (err)
		return err;
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

bool loop_backing(dev_t dev, char *path, size_t len, dev_t *fdev, ino_t *ino)
{
	struct loop_info64 info;
	int fd, err;

	if (major(dev) != LOOP_MAJOR ||
	    !sysfs_text(dev, "loop/backing_file", path, len))
		return false;
	fd = loop_open(dev, O_RDONLY);
	if (fd < 0)
		return false;
	err = ioctl(fd, LOOP_GET_STATUS64, &info);
	close(fd);
	if (err)
		return false;
	*fdev = info.lo_device;
	*ino = info.lo_inode;
	return true;
}

static int grow_fd(int fd)
{
	return ioctl(fd, LOOP_SET_CAPACITY, 0) ? -errno : 0;
}

int loop_grow(dev_t dev)
{
	int fd = loop_open(dev, O_RDONLY), err = fd;

	if (fd >= 0) {
		err = grow_fd(fd);
		close(fd);
	}
	if (!err)
		return 0;
	return msg_fail_errno(EXIT_FAILED, -err,
			      "loop device %u:%u: does not take its file's new size",
			      major(dev), minor(dev));
}

void loop_wait_gone(dev_t dev)
{
	unsigned int i;

	for (i = 0; i < GONE_TRIES && loop_going(dev) && !device_held(dev); i++)
		usleep(20000);
}

/* All of the image, from its start, with the access that is needed. */
static bool loop_fits(int fd, const struct image *img, bool write)
{
	struct loop_info64 info;

	return !ioctl(fd, LOOP_GET_STATUS64, &info) &&
	       info.lo_device == img->dev && info.lo_inode == img->ino &&
	       !info.lo_offset && !info.lo_sizelimit &&
	       !(write && (info.lo_flags & LO_FLAGS_READ_ONLY));
}

/* An open descriptor of the loop device if it is the image's, or -1. */
static int loop_try(const char *path, const struct image *img, bool write, dev_t *dev)
{
	struct stat st;
	uint64_t bytes;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) || !loop_fits(fd, img, write)) {
		close(fd);
		return -1;
	}
	if (!ioctl(fd, BLKGETSIZE64, &bytes) && bytes < img->bytes / 512 * 512)
		grow_fd(fd);
	*dev = st.st_rdev;
	return fd;
}

/* The same of /dev/@name, if it is a loop device with a file. */
static int loop_try_name(const char *name, const struct image *img, bool write, dev_t *dev)
{
	char path[300];

	/* The attribute is there only while a file is behind the loop. */
	snprintf(path, sizeof(path), "/sys/block/%s/loop/backing_file", name);
	if (access(path, F_OK))
		return -1;
	snprintf(path, sizeof(path), "/dev/%s", name);
	return loop_try(path, img, write, dev);
}

/* With partitions on loop devices their numbers are not those of their names. */
static bool names_are_numbers(void)
{
	FILE *f = fopen("/sys/module/loop/parameters/max_part", "re");
	int parts = 1;

	if (f && fscanf(f, "%d", &parts) != 1)
		parts = 1;
	if (f)
		fclose(f);
	return !parts;
}

static bool is_indexed(const struct loops *l, const char *name)
{
	unsigned int n;

	return l && sscanf(name, "loop%u", &n) == 1 &&
	       loops_indexed(l, makedev(LOOP_MAJOR, n));
}

/* Loops that the index knows have other files, so says @l (NULL: look at all). */
static int loop_search(const struct image *img, bool write, const struct loops *l, dev_t *dev)
{
	DIR *dir = opendir("/sys/block");
	struct dirent *d;
	int fd = -1;

	if (!names_are_numbers())
		l = NULL;
	while (dir && fd < 0 && (d = readdir(dir)))
		if (!strncmp(d->d_name, "loop", 4) && !is_indexed(l, d->d_name))
			fd = loop_try_name(d->d_name, img, write, dev);
	if (dir)
		closedir(dir);
	return fd;
}

static int loop_try_dev(dev_t at, const struct image *img, bool write, dev_t *dev)
{
	char path[128];

	return node_path(at, path, sizeof(path)) ? -1 : loop_try(path, img, write, dev);
}

/* -1: none has it; -ECANCELED: who knows, and why has been said */
static int loop_find(const struct image *img, bool write, struct loops *l, dev_t *dev)
{
	enum image_where where = image_where(l, img, dev);
	enum loop_known known;
	dev_t at = *dev;
	int fd = -1;

	if (where == IMAGE_NOWHERE)
		return -1;
	if (where == IMAGE_AT_ONE)
		fd = loop_try_dev(at, img, write, dev);
	if (fd >= 0)
		return fd;
	/* Also if the one that is known isn't fit: it may have got another file just now. */
	if (loops_need(l))
		return -ECANCELED;
	known = loop_known(img->dev, img->ino, &at);
	if (known == LOOP_KNOWN_NONE)
		return loop_search(img, write, l, dev);
	/* One that is read-only is not what a writer wants: there may be another. */
	if (known == LOOP_KNOWN_ONE)
		fd = loop_try_dev(at, img, write, dev);
	return fd < 0 ? loop_search(img, write, NULL, dev) : fd;
}

/*
 * udev locks a node (shared) while it handles an event of it. With our lock on
 * it the event of the node's birth, which knew no marker, can't meet the image.
 */
static void node_lock(int fd)
{
	unsigned int i;

	for (i = 0; i < NODE_LOCK_TRIES && flock(fd, LOCK_EX | LOCK_NB); i++)
		usleep(20000);
}

static int configure(int loop, int file, const struct image *img, bool write)
{
	struct loop_config c = {
		.fd = file,
		/* As the guest knows it, whatever the store's sectors are. */
		.block_size = 512,
		.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO |
				 (write ? 0 : LO_FLAGS_READ_ONLY),
	};

	strncpy((char *)c.info.lo_file_name, img->path, LO_NAME_SIZE - 1);
	if (!ioctl(loop, LOOP_CONFIGURE, &c))
		return 0;
	if (errno != EINVAL)
		return -errno;
	c.block_size = 0;
	c.info.lo_flags &= ~LO_FLAGS_DIRECT_IO;
	return ioctl(loop, LOOP_CONFIGURE, &c) ? -errno : 0;
}

static int loop_bind(int ctl, int file, const struct image *img, bool write,
		     dev_t *dev)
{
	int index = ioctl(ctl, LOOP_CTL_GET_FREE);
	char path[64];
	struct stat st;
	int fd, err;

	if (index < 0)
		return -errno;
	snprintf(path, sizeof(path), "/dev/loop%d", index);
	fd = open(path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (fd < 0)
		return errno == ENXIO || errno == ENOENT ? -EBUSY : -errno;
	node_lock(fd);
	err = fstat(fd, &st) ? -errno : 0;
	if (!err && marker_set(st.st_rdev))
		err = -ECANCELED;
	/* A cap that is left is that of another file. */
	if (!err)
		err = marker_empty();
	if (!err)
		err = configure(fd, file, img, write);
	if (!err && marker_index(st.st_rdev, img->dev, img->ino))
		err = -ECANCELED;
	flock(fd, LOCK_UN);
	if (err) {
		close(fd);
		return err;
	}
	*dev = st.st_rdev;
	return fd;
}

/*
 * The image's own descriptor is for direct I/O and may be read-only. The one
 * that the user gave is what the loop device gets, so that the kernel knows what
 * it may do.
 */
static int reopen(const struct image *img, bool write)
{
	char path[64];
	int fd;

	if (img->given >= 0) {
		fd = fcntl(img->given, F_DUPFD_CLOEXEC, 3);
		return fd < 0 ? -errno : fd;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", img->fd);
	fd = open(path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int loop_control(void)
{
	int fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT) {
		module_load_loop();
		fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	}
	return fd < 0 ? -errno : fd;
}

static int loop_make(const struct image *img, bool write, dev_t *dev)
{
	int ctl = loop_control();
	int file, fd = -EBUSY;
	unsigned int i;

	if (ctl < 0)
		return ctl;
	file = reopen(img, write);
	if (file < 0)
		fd = file;
	for (i = 0; i < CONFIGURE_TRIES && file >= 0 && fd == -EBUSY; i++)
		fd = loop_bind(ctl, file, img, write, dev);
	if (file >= 0)
		close(file);
	close(ctl);
	return fd;
}

/* With the loops' lock held */
static int find_or_make(const struct image *img, bool write, struct loops *l, dev_t *dev)
{
	int fd = loop_find(img, write, l, dev);

	if (fd == -1)
		return loop_make(img, write, dev);
	if (fd >= 0 && marker_set_file(*dev)) {
		close(fd);
		fd = -ECANCELED;
	}
	return fd;
}

int loop_attach(const struct image *img, bool write, struct loops *known, dev_t *dev)
{
	struct loops own = { 0 };
	int lock, fd = loop_index_ready();

	lock = fd ? fd : loops_lock();
	if (lock < 0)
		return lock;
	fd = find_or_make(img, write, known ?: &own, dev);
	loops_free(&own);
	close(lock);
	if (fd >= 0)
		return fd;
	/* Cancelled: it has its line already. */
	if (fd == -ECANCELED)
		return -EXIT_FAILED;
	return msg_fail_errno(fd == -EROFS || fd == -EACCES ||
			      fd == -EPERM ? EXIT_REFUSED :
							      EXIT_FAILED,
			      -fd, "%s: no loop device for it", img->path);
}
