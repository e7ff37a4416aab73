// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A disk grows while it is in use: first what is below it, then its header,
 * then its table. Cut off anywhere, it has the old size or the new one.
 */
#include "online.h"

#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct growth {
	const char *name;
	int ctl;
	dev_t disk;
	struct table table;
	struct dm_chain_layer top;
	char *path;		/* where the top lives */
	uint64_t size;		/* new one */
	uint64_t bytes;		/* that the top needs then */
};

static int look(struct growth *g)
{
	struct dm_chain_layer *layers;
	unsigned int nr;
	int ret = disk_find(g->name, &g->disk);

	/* Before the table: this waits for what the kernel takes back just now. */
	if (!ret)
		ret = control_layers(g->ctl, g->disk, &layers, &nr);
	if (ret)
		return ret;
	if (nr)
		g->top = layers[0];
	free(layers);
	ret = dm_table_read(g->name, &g->table, NULL);
	if (ret)
		return ret;
	if (!nr || g->table.read_only || g->top.access != DM_CHAIN_ACCESS_RW)
		return msg_fail(EXIT_REFUSED,
				"%s: open read-only, it can't change its size",
				g->name);
	ret = perm_ask(g->ctl, g->disk, g->name, DM_CHAIN_OP_RESIZE);
	if (ret)
		return ret;
	g->path = disk_layer_path(makedev(g->top.major, g->top.minor));
	if (!g->path)
		return msg_fail(EXIT_FAILED, "%s: out of memory", g->name);
	if (g->top.format == DM_CHAIN_FORMAT_CHAIN)
		return 0;
	/* It has no header that could be changed at one instant. */
	return msg_fail(EXIT_REFUSED,
			"%s: a raw layer can't change its size while it is open; close it, then resize %s",
			g->name, g->path);
}

static int choose_size(struct growth *g, const char *text)
{
	uint64_t old = g->table.sectors * 512;
	int ret = size_parse(text, &old, &g->size);

	if (ret)
		return ret;
	if (!g->size || g->size % 512 || g->size > DM_CHAIN_MAX_SIZE)
		return msg_fail(EXIT_USAGE,
				"%s: no size for a disk; it must be a multiple of 512, at most 64T",
				text);
	if (g->size < old)
		return msg_fail(EXIT_REFUSED,
				"%s: cannot shrink while it is open; close it, then resize %s",
				g->name, g->path);
	return 0;
}

/* The header tells what room there is, and how long the layer gets. */
static int plan(struct growth *g)
{
	struct image img;
	char most[32];
	uint64_t max;
	int ret;

	ret = image_open(&img, g->path, DM_CHAIN_FORMAT_CHAIN, IMAGE_ANY_MARK);
	if (ret)
		return ret;
	max = img.hdr.max_size;
	img.hdr.size = g->size;
	g->bytes = g->size > max ? 0 : chain_layer_bytes(&img.hdr);
	image_close(&img);
	if (g->bytes)
		return 0;
	return msg_fail(EXIT_FAILED,
			"%s: its maps have room for %s; take a snapshot, a new top has more",
			g->path, size_text(max, most));
}

static int grow(struct growth *g, struct disk_lock *l)
{
	int ret = disk_lock_note(l, note_new("resize"));

	if (!ret)
		ret = layer_grow(g->name, makedev(g->top.major, g->top.minor),
				 g->bytes);
	if (!ret)
		ret = control_resize(g->ctl, g->disk, g->size);
	if (!ret) {
		g->table.sectors = g->size / 512;
		ret = dm_reload_resume(g->name, &g->table);
	}
	/* Header new, table old: that is for recover. */
	if (!ret)
		disk_lock_note(l, NULL);
	return ret;
}

static void report(const struct growth *g)
{
	json_object *o;
	char size[32];

	if (!opt_json) {
		printf("%s: %s\n", g->name, size_text(g->size, size));
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "name", json_text(g->name));
	json_object_object_add(o, "virtual-size",
			       json_object_new_uint64(g->size));
	show_json(o);
}

static int resize_locked(struct growth *g, const char *size, struct disk_lock *l)
{
	int ret = disk_recover_locked(l, false, NULL);

	if (ret)
		return ret;
	g->ctl = control_open();
	if (g->ctl < 0)
		return g->ctl;
	ret = look(g);
	if (!ret)
		ret = choose_size(g, size);
	if (!ret)
		ret = plan(g);
	control_expedite(g->ctl, true);
	if (!ret && g->size != g->table.sectors * 512)
		ret = grow(g, l);
	close(g->ctl);
	if (!ret)
		report(g);
	dm_table_free(&g->table);
	free(g->path);
	return ret;
}

int disk_resize(const char *name, const char *size)
{
	struct growth g = { .name = name };
	struct disk_lock l;
	dev_t dev;
	int ret = disk_find(name, &dev);

	if (!ret)
		ret = disk_lock(name, &l);
	if (ret)
		return ret;
	ret = resize_locked(&g, size, &l);
	disk_unlock(&l);
	return ret;
}
