// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain map: which layer holds what.
 */
#include "dmchain.h"

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

int cmd_map(int argc, char **argv)
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
	return arg_is_path(argv[0]) ? map_path(argv[0], format) :
				      disk_map(argv[0], opt_json);
}
