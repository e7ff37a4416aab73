// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain unseal: a frozen layer becomes a disk again, at its children's cost.
 */
#include "dmchain.h"

#include <stdlib.h>

/* @h: as it was before */
static void report(const struct image *img, const struct chain_header *h)
{
	bool more = h->marks & DM_CHAIN_MARK_MANY_CHILDREN;
	char id[37];
	json_object *o;
	char *child;

	id_text(&h->sealed_by, id);
	child = *h->child_path ? hint_resolve(img->path, h->child_path) : NULL;
	if (!opt_json) {
		printf("%s: unsealed; refused from now on: layer %s (%s)%s\n",
		       img->path, id,
		       child ? text_clean(child) : "path unknown",
		       more ? " and all others that were made on it" : "");
	} else {
		o = json_object_new_object();
		json_object_object_add(o, "path", json_text(img->path));
		json_object_object_add(o, "child-uuid",
				       json_object_new_string(id));
		json_object_object_add(o, "child-path", json_text(child));
		json_object_object_add(o, "more-children",
				       json_object_new_boolean(more));
		show_json(o);
	}
	free(child);
}

static int unseal(struct image *img)
{
	static struct chain_header before;
	int ret;

	if (!(img->hdr.marks & DM_CHAIN_MARK_SEALED))
		return msg_fail(EXIT_FAILED,
				"%s: is not sealed; it can be opened as it is",
				img->label);
	before = img->hdr;
	image_clear_use(img);
	image_clear_seal(img);
	id_random(&img->hdr.cid);
	ret = image_write_header(img);
	if (!ret)
		report(img, &before);
	return ret;
}

int cmd_unseal(int argc, char **argv)
{
	bool force = false;
	const struct arg_opt opts[] = {
		{ "force", NULL, &force },
		{ NULL, NULL, NULL },
	};
	struct image img;
	int ret = args_parse_layer(&argc, &argv, opts, 1, 1, 0);

	if (!ret)
		ret = image_open(&img, argv[0], DM_CHAIN_FORMAT_CHAIN,
				 IMAGE_WRITE | IMAGE_ANY_MARK);
	if (ret)
		return ret;
	ret = image_check_job(&img, "unseal");
	if (!ret)
		ret = image_check_in_use(&img, "unseal", force);
	if (!ret)
		ret = unseal(&img);
	image_close(&img);
	return ret;
}
