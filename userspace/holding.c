// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which open disks have an image as a layer?
 *
 * The kernel is asked once for all holders. That tells devices, the image may be
 * a file: its loop device is known by loop-index.c. Only loops which that
 * doesn't cover (of disks that were made without dmchain) are looked at one by one.
 * So an answer costs little more with a thousand disks than with ten.
 */
#include "online.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/major.h>

/* Without one of these a holder does not write. */
#define WRITES (DM_CHAIN_PERM_W | DM_CHAIN_PERM_WU | DM_CHAIN_PERM_MD | DM_CHAIN_PERM_RS)

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

static int search(struct image_at *at, const struct loops *l, bool writable_only, char **name)
{
	unsigned int i;
	bool has = false;
	int ret = 0;

	for (i = 0; i < l->nr && !ret && !has; i++) {
		const struct dm_chain_holder *holder = &l->holders[i];

		if ((writable_only && !(holder->require & WRITES)) || !holder->disk[0] ||
		    !image_at_device(at, l, makedev(holder->major, holder->minor)))
			continue;
		ret = has_layer(holder->disk, at, writable_only, &has);
		if (!has)
			continue;
		*name = strdup(holder->disk);
		if (!*name)
			ret = msg_fail(EXIT_FAILED, "out of memory");
	}
	return ret;
}

int loops_holding(const struct loops *l, const struct image *img, bool writable_only,
		  char **name)
{
	struct image_at at;

	*name = NULL;
	image_at_init(&at, img);
	return search(&at, l, writable_only, name);
}

int disk_holding(const struct image *img, bool writable_only, char **name)
{
	struct loops l;
	int ret;

	*name = NULL;
	if (!module_present())
		return 0;
	ret = loops_read(&l);
	if (!ret)
		ret = loops_holding(&l, img, writable_only, name);
	loops_free(&l);
	return ret;
}

int disk_holding_path(const char *path, bool writable_only, char **name)
{
	struct image img = { .fd = -1 };
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
