// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain recover [NAME|PATH]
 */
#include "label.h"
#include "online.h"

#include <stdlib.h>
#include <string.h>

/* Names first: what is done to a disk may take it away. */
struct names {
	unsigned int nr;
	char **name;
};

static int add(const char *name, void *arg)
{
	struct names *n = arg;
	char **more;
	unsigned int i;

	for (i = 0; i < n->nr; i++)
		if (!strcmp(n->name[i], name))
			return 0;
	more = realloc(n->name, (n->nr + 1) * sizeof(*more));
	if (!more)
		return msg_fail(EXIT_FAILED, "out of memory");
	n->name = more;
	n->name[n->nr] = strdup(name);
	if (!n->name[n->nr])
		return msg_fail(EXIT_FAILED, "out of memory");
	n->nr++;
	return 0;
}

static int add_disk(const char *name, dev_t dev, void *arg)
{
	(void)dev;
	return add(name, arg);
}

static int recover_one(const char *name, json_object *done)
{
	struct disk_lock l;
	int ret = disk_lock(name, &l);

	if (ret)
		return ret;
	ret = disk_recover_locked(&l, true, done);
	disk_unlock(&l);
	return ret;
}

static void print_done(const char *name, json_object *done)
{
	size_t i;

	for (i = 0; i < json_object_array_length(done); i++)
		msg_say("%s: %s", name, json_object_get_string(
			json_object_array_get_idx(done, i)));
}

/* One that can't be helped must not keep the others from being helped. */
static int recover_all(struct names *n)
{
	json_object *all = json_object_new_array();
	unsigned int i;
	int ret = 0;

	for (i = 0; i < n->nr; i++) {
		json_object *done = json_object_new_array();
		json_object *o = json_object_new_object();
		int one = recover_one(n->name[i], done);

		ret = ret ? ret : one;
		if (!opt_json)
			print_done(n->name[i], done);
		json_object_object_add(o, "name", json_text(n->name[i]));
		json_object_object_add(o, "done", done);
		json_object_array_add(all, o);
	}
	if (opt_json)
		show_json(all);
	else
		json_object_put(all);
	return ret;
}

static int check_assume(const char *assume, int argc, char **argv)
{
	if (!assume)
		return 0;
	if (strcmp(assume, "committed") && strcmp(assume, "aborted"))
		return msg_fail(EXIT_USAGE,
				"%s: --assume takes committed or aborted",
				assume);
	if (argc && arg_is_path(argv[0]))
		return 0;
	return msg_fail(EXIT_USAGE, "--assume goes with the path of a layer");
}

int cmd_recover(int argc, char **argv)
{
	const char *assume = NULL;
	const struct arg_opt opts[] = {
		{ "assume", &assume, NULL },
		{ NULL, NULL, NULL },
	};
	struct names n = { 0 };
	int ret = args_parse(&argc, &argv, opts, 0, 1);

	if (!ret)
		ret = check_assume(assume, argc, argv);
	if (!ret && argc && arg_is_path(argv[0]))
		return recover_closed(argv[0], assume);
	if (!ret && argc)
		ret = add(argv[0], &n);
	else if (!ret)
		ret = dm_each(add_disk, &n);
	/* Also what never became a device. */
	if (!ret && !argc)
		ret = disk_lock_each(add, &n);
	if (!ret && !argc)
		ret = label_each_disk(add, &n);
	if (!ret)
		ret = recover_all(&n);
	layer_markers_clean(true);
	while (n.nr)
		free(n.name[--n.nr]);
	free(n.name);
	return -ret;
}
