// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain table NAME: the line that builds the same disk again.
 */
#include "online.h"

#include <stdlib.h>

static void show(const char *name, const char *text)
{
	json_object *o;

	if (!opt_json) {
		puts(text);
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "name", json_text(name));
	json_object_object_add(o, "table", json_text(text));
	show_json(o);
}

int cmd_table(int argc, char **argv)
{
	char *text = NULL;
	dev_t dev;
	int ret = args_parse(&argc, &argv, NULL, 1, 1);

	if (!ret)
		ret = disk_find(argv[0], &dev);
	if (!ret)
		ret = dm_table_read(argv[0], NULL, &text);
	if (!ret)
		show(argv[0], text);
	free(text);
	return -ret;
}
