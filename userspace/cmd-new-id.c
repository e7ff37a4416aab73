// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain new-id: a copied layer becomes a layer of its own.
 */
#include "dmchain.h"

#include <string.h>

static void report(const struct image *img)
{
	char id[37];
	json_object *o;

	id_text(&img->hdr.uuid, id);
	if (!opt_json) {
		printf("%s: uuid %s\n", img->path, id);
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "path", json_text(img->path));
	json_object_object_add(o, "uuid", json_object_new_string(id));
	show_json(o);
}

/* Children belong to the original, so the copy has no seal. */
static int renew(struct image *img)
{
	int ret;

	image_clear_use(img);
	image_clear_seal(img);
	img->hdr.marks &= ~DM_CHAIN_MARK_MANY_CHILDREN;
	/* It is the original that others ask. */
	memset(&img->hdr.decision, 0, sizeof(img->hdr.decision));
	id_random(&img->hdr.uuid);
	id_random(&img->hdr.cid);
	ret = image_write_header(img);
	if (!ret)
		ret = image_write_trailer(img);
	return ret ? ret : image_flush(img);
}

int cmd_new_id(int argc, char **argv)
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
	ret = image_check_job(&img, "rename");
	if (!ret)
		ret = image_check_in_use(&img, "new-id", force);
	if (!ret)
		ret = renew(&img);
	if (!ret)
		report(&img);
	image_close(&img);
	return ret;
}
