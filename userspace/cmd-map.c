// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain map: which layer holds what, as a list or as a picture.
 */
#include "picture.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SVG_COLUMNS	900
#define TEXT_COLUMNS	64
#define TEXT_LABEL	40	/* of a terminal's line, for what is beside the row */

static int map_path(const char *path, uint32_t format)
{
	struct show_map s;
	struct walk w;
	int ret = walk_open(&w, path, format, WALK_READ_ONLY);

	if (ret)
		return ret;
	show_map_begin(&s, w.nr, opt_json);
	ret = walk_map(&w, show_map_extent, &s);
	if (!ret)
		show_map_end(&s);
	walk_close(&w);
	return ret;
}

static int picture_of_walk(struct picture *p, const char *path, struct walk *w,
			   unsigned int wish)
{
	const struct image *top = &w->images[0];
	uint64_t size = top->format == DM_CHAIN_FORMAT_RAW ? top->bytes :
							     top->hdr.size;
	int ret = picture_begin(p, path, size, w->nr, picture_columns(w->nr, wish));
	unsigned int i;

	for (i = 0; i < w->nr && !ret; i++)
		p->labels[i] = strdup(w->images[i].path);
	return ret ? ret : walk_map(w, picture_extent, p);
}

static int picture_path(struct picture *p, const char *path, uint32_t format,
			unsigned int wish)
{
	struct walk w;
	int ret = walk_open(&w, path, format, WALK_READ_ONLY);

	if (ret)
		return ret;
	ret = picture_of_walk(p, path, &w, wish);
	walk_close(&w);
	return ret;
}

/* A terminal has as many columns as it says. */
static unsigned int text_columns(void)
{
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) ||
	    size.ws_col < TEXT_LABEL + 24)
		return TEXT_COLUMNS;
	return size.ws_col - TEXT_LABEL;
}

static void report_json(const struct picture *p, const char *file)
{
	json_object *o = json_object_new_object(), *a = json_object_new_array();
	unsigned int i;

	for (i = 0; i < p->nr; i++) {
		json_object *l = json_object_new_object();

		json_object_object_add(l, "index", json_object_new_int64(i));
		json_object_object_add(l, "path", json_text(p->labels[i]));
		json_object_object_add(l, "seen-data-bytes",
				       json_object_new_uint64(p->rows[i].data));
		json_object_object_add(l, "seen-zero-bytes",
				       json_object_new_uint64(p->rows[i].zero));
		json_object_array_add(a, l);
	}
	json_object_object_add(o, "picture", json_text(file));
	json_object_object_add(o, "layers", a);
	show_json(o);
}

static int picture(const char *arg, uint32_t format, const char *file)
{
	unsigned int wish = file ? SVG_COLUMNS : text_columns();
	struct picture p = { .nr = 0 };
	int ret = arg_is_path(arg) ? picture_path(&p, arg, format, wish) :
				     disk_picture(arg, wish, &p);

	if (!ret && file)
		ret = picture_write(&p, file);
	if (!ret && opt_json)
		report_json(&p, file);
	else if (!ret && !file)
		picture_text(&p);
	picture_free(&p);
	return ret;
}

int cmd_map(int argc, char **argv)
{
	const char *format_given = NULL, *file = NULL;
	bool draw = false;
	const struct arg_opt opts[] = {
		{ "format", &format_given, NULL },
		{ "picture", &file, NULL },
		{ "draw", NULL, &draw },
		{ NULL, NULL, NULL },
	};
	uint32_t format;
	int ret = args_parse_layer(&argc, &argv, opts, 1, 1, 0);

	if (!ret)
		ret = args_format(format_given, &format);
	if (ret)
		return ret;
	if (file || draw)
		return picture(argv[0], format, file);
	return arg_is_path(argv[0]) ? map_path(argv[0], format) :
				      disk_map(argv[0], opt_json);
}
