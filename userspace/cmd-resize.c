// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain resize, of closed images. What the header tells of is there before
 * the header tells of it, and goes after it.
 */
#include "offline.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

struct resize {
	struct image img;
	uint64_t old_size;
	uint64_t size;
	bool shrink;
	bool force;
};

static int too_large(const struct resize *r)
{
	return msg_fail(EXIT_FAILED,
			"%s: can't become larger than %llu bytes, for which room was reserved when it was made; make a larger layer and copy",
			r->img.label, (unsigned long long)r->img.hdr.max_size);
}

static int check(const struct resize *r)
{
	const struct image *img = &r->img;
	int ret = image_check_job(img, "resize");

	if (!ret)
		ret = image_check_marks(img, MARKS_TOP_RW, r->force);
	if (!ret)
		ret = image_check_in_use(img, "resize", r->force);
	if (ret)
		return ret;
	if (!r->size || r->size % 512)
		return msg_fail(EXIT_USAGE,
				"%s: %llu bytes are no size for a disk; it must be a multiple of 512",
				img->label, (unsigned long long)r->size);
	if (r->size > img->hdr.max_size)
		return too_large(r);
	if (r->size < img->hdr.size && !r->shrink)
		return msg_fail(EXIT_USAGE,
				"%s: that is smaller than it is (%llu bytes), and what is beyond would be lost; say --shrink if that is meant",
				img->label, (unsigned long long)img->hdr.size);
	return 0;
}

static int set_file_bytes(struct image *img, uint64_t bytes)
{
	if (ftruncate(img->fd, (off_t)bytes))
		return msg_fail_errno(EXIT_FAILED, errno,
				      "%s: can't make it %llu bytes long",
				      img->label, (unsigned long long)bytes);
	img->bytes = bytes;
	return image_flush(img);
}

static int make_room(struct image *img, uint64_t size)
{
	struct chain_header h = img->hdr;
	uint64_t needs;
	char text[32];

	h.size = size;
	needs = chain_layer_bytes(&h);
	if (needs <= img->bytes)
		return 0;
	if (!img->is_bdev)
		return set_file_bytes(img, needs);
	return msg_fail(EXIT_FAILED,
			"%s: the device is too small, that takes %s (%llu bytes); enlarge it first",
			img->label, size_text(needs, text),
			(unsigned long long)needs);
}

/* H3: what is seen at the layer changes with its size. */
static int write_size(struct image *img, uint64_t size)
{
	img->hdr.size = size;
	if (img->hdr.limit > size)
		img->hdr.limit = size;
	image_clear_use(img);
	id_random(&img->hdr.cid);
	return image_write_header(img);
}

/* The end of the device isn't the end of what the guest writes. */
static int write_end(struct image *img)
{
	uint64_t bytes = chain_layer_bytes(&img->hdr);
	int ret = image_zero(img, DM_CHAIN_TRAILER_BYTES,
			     bytes - DM_CHAIN_TRAILER_BYTES);

	if (!ret)
		ret = image_write_trailer(img);
	if (!ret && !img->is_bdev && img->bytes != bytes)
		return set_file_bytes(img, bytes);
	return ret ? ret : image_flush(img);
}

static int grow(struct resize *r)
{
	int ret = make_room(&r->img, r->size);

	if (!ret)
		ret = map_clear_beyond(&r->img);
	if (!ret)
		ret = image_flush(&r->img);
	if (!ret)
		ret = write_size(&r->img, r->size);
	return ret ? ret : write_end(&r->img);
}

static int shrink(struct resize *r)
{
	int ret = write_size(&r->img, r->size);

	if (!ret)
		ret = map_clear_beyond(&r->img);
	if (!ret)
		ret = image_flush(&r->img);
	return ret ? ret : write_end(&r->img);
}

static void report(const struct resize *r)
{
	json_object *o;
	char old[32], new[32];

	if (!opt_json) {
		printf("%s: %s (%llu bytes), was %s\n", r->img.path,
		       size_text(r->size, new), (unsigned long long)r->size,
		       size_text(r->old_size, old));
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "path", json_text(r->img.path));
	json_object_object_add(o, "virtual-size",
			       json_object_new_uint64(r->size));
	show_json(o);
}

static int resize(struct resize *r, const char *text)
{
	int ret = size_parse(text, &r->img.hdr.size, &r->size);

	if (!ret)
		ret = check(r);
	if (ret)
		return ret;
	r->old_size = r->img.hdr.size;
	if (r->size > r->old_size)
		ret = grow(r);
	else if (r->size < r->old_size)
		ret = shrink(r);
	if (!ret)
		report(r);
	return ret;
}

int cmd_resize(int argc, char **argv)
{
	struct resize r = { 0 };
	const struct arg_opt opts[] = {
		{ "shrink", NULL, &r.shrink },
		{ "force", NULL, &r.force },
		{ NULL, NULL, NULL },
	};
	int ret = args_parse_layer(&argc, &argv, opts, 2, 2, 0);

	if (ret)
		return ret;
	if (!arg_is_path(argv[0]))
		return disk_resize(argv[0], argv[1]);
	ret = image_open(&r.img, argv[0], DM_CHAIN_FORMAT_CHAIN,
			 IMAGE_WRITE | IMAGE_ANY_MARK);
	if (ret)
		return ret;
	ret = resize(&r, argv[1]);
	image_close(&r.img);
	return ret;
}
