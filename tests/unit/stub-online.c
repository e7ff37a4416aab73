// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * No open disks, or the one that a test says there is: in place of what asks
 * the kernel.
 */
#include "images.h"
#include "online.h"
#include "picture.h"

#include <string.h>

bool opt_json;
const char *stub_holder;
bool stub_holder_writes;
bool stub_holder_late;

int disk_holding(const struct image *img, bool writable_only, char **name)
{
	*name = NULL;
	if (stub_holder && strstr(img->path, stub_holder) &&
	    (stub_holder_writes || !writable_only) &&
	    (!stub_holder_late || img->fd >= 0))
		*name = strdup("vm1");
	return 0;
}

bool loop_backing(dev_t dev, char *path, size_t len, dev_t *fdev, ino_t *ino)
{
	(void)dev;
	(void)path;
	(void)len;
	(void)fdev;
	(void)ino;
	return false;
}

enum label_kind label_of(dev_t dev, ino_t ino)
{
	(void)dev;
	(void)ino;
	return LABEL_NONE;
}

const char *label_name(enum label_kind kind)
{
	return kind == LABEL_NONE ? "none" : "?";
}

static int no_disk(const char *name)
{
	return msg_fail(EXIT_FAILED, "%s: no such disk", name);
}

int disk_info(const char *name, bool json)
{
	(void)json;
	return no_disk(name);
}

int disk_map(const char *name, bool json)
{
	(void)json;
	return no_disk(name);
}

int disk_resize(const char *name, const char *size)
{
	(void)size;
	return no_disk(name);
}

int dm_disk(const char *name, dev_t *dev, bool *suspended)
{
	(void)name;
	(void)dev;
	(void)suspended;
	return -EXIT_FAILED;
}

bool module_present(void)
{
	return false;
}

int perm_ask_images(const char *name, uint32_t op, const struct walk *w,
		    struct loops *l)
{
	(void)l;
	(void)op;
	(void)w;
	return no_disk(name);
}

int control_open(void)
{
	return no_disk("none");
}

int control_map(int ctl, dev_t disk,
		int (*cb)(const struct dm_chain_extent *e, void *arg), void *arg)
{
	(void)ctl;
	(void)disk;
	(void)cb;
	(void)arg;
	return no_disk("none");
}

int disk_picture(const char *name, unsigned int wish, struct picture *p)
{
	(void)wish;
	(void)p;
	return no_disk(name);
}

/* Nobody looks. */
void work_begin(const char *object, const char *what, uint64_t total)
{
	(void)object;
	(void)what;
	(void)total;
}

void work_at(uint64_t bytes)
{
	(void)bytes;
}

void work_step(uint64_t bytes)
{
	(void)bytes;
}

void work_end(void)
{
}

void work_clear(void)
{
}
