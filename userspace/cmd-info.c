// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain info: what a disk is made of.
 */
#include "dmchain.h"

#include <stdlib.h>
#include <string.h>

/* The first open disk that has the layer, as a list; NULL if none has. */
static int layer_users(const struct image *img, char ***users)
{
	char *name = NULL;
	int ret = disk_holding(img, false, &name);

	if (ret || !name)
		return ret;
	*users = calloc(2, sizeof(**users));
	if (!*users) {
		free(name);
		return msg_fail(EXIT_FAILED, "%s: out of memory", img->path);
	}
	(*users)[0] = name;
	return 0;
}

static int count_blocks(struct image *img, struct show_layer *l)
{
	struct imgmap m;
	int ret = imgmap_load(&m, img);

	if (ret)
		return ret;
	l->data_bytes = imgmap_count(&m, &img->hdr, DM_CHAIN_DATA);
	l->zero_bytes = imgmap_count(&m, &img->hdr, DM_CHAIN_ZERO);
	l->damaged_bytes = imgmap_count(&m, &img->hdr, DM_CHAIN_DAMAGED);
	imgmap_free(&m);
	return 0;
}

static int fill_layer(struct image *img, struct show_layer *l)
{
	int ret;

	l->format = img->format;
	l->access = "none";
	l->path = strdup(img->path);
	if (!l->path)
		return msg_fail(EXIT_FAILED, "%s: out of memory", img->path);
	if (img->is_bdev)
		l->device = strdup(img->path);
	else
		l->label = label_of(img->dev, img->ino);
	ret = layer_users(img, &l->users);
	if (ret)
		return ret;
	if (img->format == DM_CHAIN_FORMAT_RAW) {
		l->size = l->data_bytes = img->bytes;
		return 0;
	}
	l->uuid = img->hdr.uuid;
	l->parent_uuid = img->hdr.parent.uuid;
	l->marks = img->hdr.marks;
	if (image_pending(img))
		l->coordinator = img->hdr.coordinator;
	l->decision = img->hdr.decision;
	l->size = img->hdr.size;
	return count_blocks(img, l);
}

static int fill_disk(struct walk *w, struct show_disk *d)
{
	const struct image *top = &w->images[0];
	unsigned int i;
	int ret = 0;

	d->layers = calloc(w->nr, sizeof(*d->layers));
	if (!d->layers)
		return msg_fail(EXIT_FAILED, "%s: out of memory", top->path);
	d->nr = w->nr;
	d->state = "closed";
	if (top->format == DM_CHAIN_FORMAT_CHAIN)
		d->block_size = 1U << top->hdr.block_shift;
	for (i = 0; i < w->nr && !ret; i++)
		ret = fill_layer(&w->images[i], &d->layers[i]);
	d->size = d->layers[0].size;
	return ret;
}

/* A chain with a parent that doesn't fit is shown, but isn't well. */
static int info_path(const char *path, uint32_t format)
{
	struct show_disk d = { 0 };
	struct walk w;
	int ret = walk_open(&w, path, format, WALK_READ_ONLY | WALK_LAX);

	if (ret)
		return ret;
	ret = fill_disk(&w, &d);
	if (!ret) {
		show_disk(&d, opt_json);
		ret = w.error;
	}
	show_disk_free(&d);
	walk_close(&w);
	return ret;
}

int cmd_info(int argc, char **argv)
{
	const char *format_given = NULL;
	const struct arg_opt opts[] = {
		{ "format", &format_given, NULL },
		{ NULL, NULL, NULL },
	};
	uint32_t format;
	int ret = args_parse_layer(&argc, &argv, opts, 1, 1, 0);

	if (!ret)
		ret = args_format(format_given, &format);
	if (ret)
		return ret;
	return arg_is_path(argv[0]) ? info_path(argv[0], format) :
				      disk_info(argv[0], opt_json);
}
