// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where a layer of an open disk lies, in the words of the header of another one.
 */
#include "online.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static dev_t layer_dev(const struct dm_chain_layer *l)
{
	return makedev(l->major, l->minor);
}

bool layer_lasts(const char *path, dev_t dev)
{
	char backing[PATH_MAX];
	struct stat st;
	dev_t fdev;
	ino_t ino;

	return !loop_backing(dev, backing, sizeof(backing), &fdev, &ino) ||
	       (!stat(path, &st) && st.st_dev == fdev && st.st_ino == ino);
}

static int check_lasts(const char *name, unsigned int index, const char *path,
		       dev_t dev)
{
	if (layer_lasts(path, dev))
		return 0;
	return msg_fail(EXIT_FAILED,
			"%s: layer %u has no path by which the layer above could find it (%s); it was deleted, or opened by a descriptor without one",
			name, index, path);
}

/* Does the owner name its parent by a relative path? What has no path doesn't. */
static int ask_link(const char *owner, const struct dm_chain_layer *l, bool *relative)
{
	struct image img;
	int ret;

	*relative = false;
	if (access(owner, F_OK))
		return 0;
	ret = image_open(&img, owner, DM_CHAIN_FORMAT_CHAIN, IMAGE_ANY_MARK);
	if (ret)
		return ret;
	if (!memcmp(img.hdr.uuid.b, l->uuid, sizeof(l->uuid)))
		*relative = *img.hdr.parent_path && *img.hdr.parent_path != '/';
	image_close(&img);
	return 0;
}

int layer_link(const char *name, const struct dm_chain_layer *above,
	       const struct dm_chain_layer *below, unsigned int index, char *hint)
{
	char *owner = disk_layer_path(layer_dev(above));
	char *path = disk_layer_path(layer_dev(below));
	bool relative;
	int ret;

	ret = !owner || !path ? msg_fail(EXIT_FAILED, "%s: out of memory", name) :
				check_lasts(name, index, path, layer_dev(below));
	if (!ret)
		ret = ask_link(owner, above, &relative);
	if (!ret)
		ret = hint_make_near(hint, owner, path, relative);
	free(owner);
	free(path);
	return ret;
}
