// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A layer of an open disk, as the user names it: an index (0 = top), a path, a
 * UUID or its start.
 */
#include "online.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define INDEX_DIGITS 4		/* more: the start of a UUID */

static int no_layer(const char *text, const char *name)
{
	return msg_fail(EXIT_FAILED,
			"%s: no such layer of %s; dmchain info %s shows them",
			text, name, name);
}

static bool is_index(const char *text)
{
	size_t n = strspn(text, "0123456789");

	return n && n <= INDEX_DIGITS && !text[n];
}

static int by_index(const char *text, const char *name, unsigned int nr,
		    unsigned int *index)
{
	*index = (unsigned int)strtoul(text, NULL, 10);
	return *index < nr ? 0 : no_layer(text, name);
}

static bool layer_at_path(const char *text, const struct dm_chain_layer *l,
			  unsigned int nr, unsigned int *index)
{
	ino_t ino, layer_ino;
	dev_t dev, layer_dev;
	struct stat st;

	if (arg_stat(text, &st))
		return false;
	dev = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;
	ino = S_ISBLK(st.st_mode) ? 0 : st.st_ino;
	if (S_ISBLK(st.st_mode))
		disk_true_identity(&dev, &ino);
	for (*index = 0; *index < nr; ++*index) {
		layer_dev = makedev(l[*index].major, l[*index].minor);
		layer_ino = 0;
		disk_true_identity(&layer_dev, &layer_ino);
		if (layer_dev == dev && layer_ino == ino)
			return true;
	}
	return false;
}

static int by_path(const char *text, const char *name,
		   const struct dm_chain_layer *l, unsigned int nr,
		   unsigned int *index)
{
	struct stat st;

	if (arg_stat(text, &st))
		return msg_fail_errno(EXIT_FAILED, errno, "%s: not found", text);
	return layer_at_path(text, l, nr, index) ? 0 : no_layer(text, name);
}

static bool uuid_starts(const struct dm_chain_layer *l, const char *text)
{
	struct chain_id id;
	char full[37];

	memcpy(id.b, l->uuid, sizeof(id.b));
	return !chain_id_is_null(&id) &&
	       !strncasecmp(id_text(&id, full), text, strlen(text));
}

static int by_uuid(const char *text, const char *name,
		   const struct dm_chain_layer *l, unsigned int nr,
		   unsigned int *index)
{
	unsigned int i, found = 0;

	for (i = 0; i < nr; i++) {
		if (!uuid_starts(&l[i], text))
			continue;
		*index = i;
		found++;
	}
	if (found > 1)
		return msg_fail(EXIT_USAGE,
				"%s: %u layers of %s have a UUID that starts so; say more of it",
				text, found, name);
	return found ? 0 : no_layer(text, name);
}

int layer_arg(const char *text, const char *name,
	      const struct dm_chain_layer *l, unsigned int nr,
	      unsigned int *index)
{
	if (!*text)
		return no_layer("\"\"", name);
	if (is_index(text))
		return by_index(text, name, nr, index);
	if (arg_is_path(text))
		return by_path(text, name, l, nr, index);
	return by_uuid(text, name, l, nr, index);
}
