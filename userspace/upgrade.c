// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Lower layers become writable for a job, and cease to be.
 *
 * The kernel takes a lower layer rw only for a disk that has a token for it,
 * and refuses writes to it as soon as that is gone, whatever becomes of us. What
 * is left to do then is to let dm's open for writing go, by a reload: here, or
 * by recover.
 *
 * A loop device that was made read-only stays so. The image is attached through
 * a second one, which has to have the same file behind it; the kernel proves
 * that it holds the same layer before it lets the first one go. Nothing is
 * changed unless all layers can be written. Labels follow what is open how.
 */
#include "label.h"
#include "perm.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* The path could lead elsewhere by now: what the loop has counts. */
int layer_check_same(const char *name, const struct image *img, dev_t dev)
{
	char path[PATH_MAX];
	dev_t fdev;
	ino_t ino;

	if (img->is_bdev ? img->dev == dev :
	    loop_backing(dev, path, sizeof(path), &fdev, &ino) &&
	    fdev == img->dev && ino == img->ino)
		return 0;
	return msg_fail(EXIT_FAILED, "%s: is not what disk %s has open; put back what was there",
			img->path, name);
}

static int attach_writable(const char *name, const struct table_layer *l,
			   struct attached *at)
{
	char *path = disk_layer_path(l->dev);
	struct image img;
	int ret;

	if (!path)
		return msg_fail(EXIT_FAILED, "%s: out of memory", name);
	if (layer_capped(l->dev)) {
		ret = msg_fail(EXIT_REFUSED,
			       "%s: can't be written for disk %s: that or another disk has it by a descriptor that may only read; close that, then open it with one that may write",
			       path, name);
		free(path);
		return ret;
	}
	ret = image_open(&img, path, l->format, IMAGE_ANY_MARK);
	free(path);
	if (ret)
		return ret;
	ret = layer_check_same(name, &img, l->dev);
	/* Who is to write it may have to be let in first. */
	if (!ret)
		ret = label_apply_device(name, l->dev, LABEL_RW);
	if (!ret)
		ret = attach_image(at, &img, true, NULL);
	image_close(&img);
	return ret;
}

/* By its device: the table may have fewer layers than there were. */
static struct table_layer *layer_of(const struct table *t,
				    const struct dm_chain_layer *of)
{
	unsigned int i;

	for (i = 0; i < t->nr; i++)
		if (!table_extra(&t->layers[i]) &&
		    t->layers[i].dev == makedev(of->major, of->minor))
			return &t->layers[i];
	return NULL;
}

/* The layers of a table come behind what is attached beside them. */
static struct table_layer *layer_at(const struct table *t, unsigned int index)
{
	unsigned int i;

	for (i = 0; i < t->nr; i++)
		if (!table_extra(&t->layers[i]) && !index--)
			return &t->layers[i];
	return NULL;
}

static int attach_all(const char *name, const struct table *t,
		      const struct dm_chain_layer *layers,
		      const uint32_t *rows, unsigned int nr,
		      struct attached *at)
{
	unsigned int i;
	int ret = 0;

	for (i = 1; i < nr && !ret; i++) {
		struct table_layer *l = layer_of(t, &layers[i]);

		if (!l || !chain_perm_writes(rows[i]))
			continue;
		ret = attach_writable(name, l, &at[i]);
		if (ret)
			break;
		l->dev = at[i].dev;
		l->role = "rw";
	}
	return ret;
}

int disk_upgrade(const char *name, const struct dm_chain_layer *layers,
		 const uint32_t *rows, unsigned int nr, dev_t *devs)
{
	struct attached *at = calloc(nr, sizeof(*at));
	struct table t = { 0 };
	unsigned int i;
	int ret;

	if (!at)
		return msg_fail(EXIT_FAILED, "%s: out of memory", name);
	for (i = 0; i < nr; i++)
		at[i].fd = -1;
	memset(devs, 0, nr * sizeof(*devs));
	raise_file_limit();
	ret = dm_table_read(name, &t, NULL);
	if (!ret)
		ret = attach_all(name, &t, layers, rows, nr, at);
	if (!ret)
		ret = dm_reload_resume(name, &t);
	for (i = 0; i < nr; i++) {
		if (!ret)
			devs[i] = at[i].dev;
		attach_drop(&at[i]);
	}
	if (ret)
		label_sync(name, NULL);
	dm_table_free(&t);
	free(at);
	return ret;
}

static bool is_one_of(const dev_t *devs, unsigned int nr, dev_t dev)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (devs[i] && devs[i] == dev)
			return true;
	return false;
}

int disk_downgrade(const char *name, const dev_t *devs, unsigned int nr)
{
	struct table t;
	unsigned int i;
	int ret = dm_table_read(name, &t, NULL);

	if (ret)
		return ret;
	for (i = 1; layer_at(&t, i); i++)
		if (is_one_of(devs, nr, layer_at(&t, i)->dev))
			layer_at(&t, i)->role = "ro";
	ret = dm_reload_resume(name, &t);
	dm_table_free(&t);
	return ret ? ret : label_sync(name, NULL);
}
