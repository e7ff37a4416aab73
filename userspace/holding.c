// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which open disks have an image as a layer?
 *
 * The kernel is asked for the holders of a device; the image may be a file. The
 * kernel tells how often that is open: if it is by nobody but us, and the loop device
 * that loop-index.c knows, then there is no other one. So an answer costs the same with
 * a thousand disks as with ten. Else all holders are asked for, and loops that the
 * index doesn't cover (of disks that were made without dmchain) are looked at.
 */
#include "online.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/major.h>

/* Without one of these a holder does not write. */
#define WRITES (DM_CHAIN_PERM_W | DM_CHAIN_PERM_WU | DM_CHAIN_PERM_MD | DM_CHAIN_PERM_RS)

/* A descriptor of the file, which need not be good for more. */
static int any_fd(const struct image *img)
{
	struct stat st;
	int fd;

	if (img->fd >= 0)
		return img->fd;
	fd = img->path ? open(img->path, O_PATH | O_CLOEXEC) : -1;
	if (fd < 0 || (!fstat(fd, &st) && st.st_dev == img->dev && st.st_ino == img->ino))
		return fd;
	close(fd);
	return -1;
}

/* Is it open by us and @loops loop devices, and by nobody else? */
static bool only_ours(struct loops *l, const struct image *img, unsigned int loops)
{
	unsigned int ours = img->fd >= 0, nr;
	int ctl = loops_ctl(l), fd = ctl < 0 ? -1 : any_fd(img);
	bool only = fd >= 0 && !control_openers(ctl, fd, &nr) && nr == ours + loops;

	if (fd >= 0 && fd != img->fd)
		close(fd);
	return only;
}

enum image_where image_where(struct loops *l, const struct image *img, dev_t *dev)
{
	dev_t at = img->dev;
	ino_t ino = img->ino;

	*dev = at;
	if (img->is_bdev) {
		disk_true_identity(&at, &ino);
		return at == img->dev ? IMAGE_AT_ONE : IMAGE_ANYWHERE;
	}
	/* Ours may be the same as the given one, so that who else there is goes unseen. */
	if (img->given >= 0)
		return IMAGE_ANYWHERE;
	switch (loop_known(at, ino, dev)) {
	case LOOP_KNOWN_NONE:
		return only_ours(l, img, 0) ? IMAGE_NOWHERE : IMAGE_ANYWHERE;
	case LOOP_KNOWN_ONE:
		return only_ours(l, img, 1) ? IMAGE_AT_ONE : IMAGE_ANYWHERE;
	default:
		return IMAGE_ANYWHERE;
	}
}

void image_at_init(struct image_at *at, const struct image *img)
{
	*at = (struct image_at){ .dev = img->dev, .ino = img->is_bdev ? 0 : img->ino };
	if (img->is_bdev)
		disk_true_identity(&at->dev, &at->ino);
	if (at->ino)
		at->known = loop_known(at->dev, at->ino, &at->loop);
}

static bool is_image(const struct image_at *at, dev_t dev)
{
	ino_t ino = 0;

	disk_true_identity(&dev, &ino);
	return dev == at->dev && ino == at->ino;
}

/* Holders of one layer are neighbours. */
bool image_at_device(struct image_at *at, const struct loops *l, dev_t dev)
{
	if (dev == at->last)
		return at->last_is;
	at->last = dev;
	if (!at->ino)
		at->last_is = dev == at->dev;
	else if (major(dev) != LOOP_MAJOR)
		at->last_is = false;
	else if (at->known == LOOP_KNOWN_ONE && dev == at->loop)
		at->last_is = true;
	else if (at->known != LOOP_KNOWN_MANY && loops_indexed(l, dev))
		at->last_is = false;
	else
		at->last_is = is_image(at, dev);
	return at->last_is;
}

/* As its table says: a holder may be a table that is loaded only. */
static int has_layer(const char *name, const struct image_at *at, bool writable_only, bool *has)
{
	struct dm_state s;
	struct table t;
	unsigned int i;
	bool gone;
	int ret;

	*has = false;
	/* One that is being made or taken down has no layers to speak of. */
	if (dm_state(name, &s) || !s.ours || !s.live)
		return 0;
	ret = dm_table_look(name, &t, &gone);
	if (ret || gone)
		return ret;
	for (i = 0; i < t.nr && !*has; i++)
		*has = !(writable_only && !strcmp(t.layers[i].role, "ro")) &&
		       is_image(at, t.layers[i].dev);
	dm_table_free(&t);
	return 0;
}

/* @h: of the image's device, or with @l of all */
static int search(const struct dm_chain_holder *h, unsigned int nr, struct image_at *at,
		  const struct loops *l, bool writable_only, char **name)
{
	unsigned int i;
	bool has = false;
	int ret = 0;

	for (i = 0; i < nr && !ret && !has; i++) {
		if ((writable_only && !(h[i].require & WRITES)) || !h[i].disk[0] ||
		    (l && !image_at_device(at, l, makedev(h[i].major, h[i].minor))))
			continue;
		ret = has_layer(h[i].disk, at, writable_only, &has);
		if (!has)
			continue;
		*name = strdup(h[i].disk);
		if (!*name)
			ret = msg_fail(EXIT_FAILED, "out of memory");
	}
	return ret;
}

#define FEW	16	/* one is enough, but it may be gone again */

/* Return: 1: too many of them are about to come or to go: look at all */
static int search_at(struct loops *l, dev_t dev, struct image_at *at, bool writable_only,
		     char **name)
{
	const struct holders_of of = {
		.dev = dev, .require = writable_only ? WRITES : 0,
	};
	struct dm_chain_holder h[FEW];
	unsigned int nr;
	int ctl = loops_ctl(l), ret;

	/* Without a module nobody holds anything. */
	if (ctl < 0)
		return ctl == -ENODEV ? 0 : ctl;
	ret = control_holders_of(ctl, &of, h, FEW, &nr);
	if (!ret)
		ret = search(h, nr < FEW ? nr : FEW, at, NULL, writable_only, name);
	return !ret && !*name && nr > FEW ? 1 : ret;
}

int loops_holding(struct loops *l, const struct image *img, bool writable_only, char **name)
{
	struct image_at at;
	dev_t dev;
	int ret = 1;

	*name = NULL;
	switch (image_where(l, img, &dev)) {
	case IMAGE_NOWHERE:
		return 0;
	case IMAGE_AT_ONE:
		image_at_init(&at, img);
		ret = search_at(l, dev, &at, writable_only, name);
		break;
	default:
		break;
	}
	if (ret <= 0)
		return ret;
	ret = loops_need(l);
	image_at_init(&at, img);
	return ret ? ret : search(l->holders, l->nr, &at, l, writable_only, name);
}

int disk_holding(const struct image *img, bool writable_only, char **name)
{
	struct loops l = { 0 };
	int ret;

	*name = NULL;
	if (!module_present())
		return 0;
	ret = loop_index_ready();
	if (!ret)
		ret = loops_holding(&l, img, writable_only, name);
	loops_free(&l);
	return ret;
}

int disk_holding_path(const char *path, bool writable_only, char **name)
{
	struct image img = { .path = (char *)path, .fd = -1, .given = -1 };
	struct stat st;

	*name = NULL;
	/* What isn't there isn't held; who opens it will say so. */
	if (stat(path, &st))
		return 0;
	img.is_bdev = S_ISBLK(st.st_mode);
	img.dev = img.is_bdev ? st.st_rdev : st.st_dev;
	img.ino = st.st_ino;
	return disk_holding(&img, writable_only, name);
}
