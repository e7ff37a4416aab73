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
		printf("%s: %s\n", name, json_object_get_string(
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

/* A layer that a snapshot of several disks has left, closed. */

static const char *outcome(bool committed, bool old)
{
	if (!committed)
		return "the snapshot of several disks was not taken: it is the top still";
	return old ? "the snapshot of several disks was taken: it is frozen" :
		     "the snapshot of several disks was taken: it is the top";
}

static void tell(const struct image *img, const char *text)
{
	json_object *o, *done;

	if (!opt_json) {
		printf("%s: %s\n", img->path, text);
		return;
	}
	o = json_object_new_object();
	done = json_object_new_array();
	json_object_array_add(done, json_text(text));
	json_object_object_add(o, "path", json_text(img->path));
	json_object_object_add(o, "done", done);
	show_json(o);
}

/* What the coordinator says counts; without one, what the user says. */
static int decide(const struct image *img, const char *assume, bool *committed)
{
	bool wanted = assume && !strcmp(assume, "committed");
	int ret;

	if (assume && !pending_reachable(img)) {
		*committed = wanted;
		return 0;
	}
	ret = pending_ask(img, NULL, committed);
	if (ret || !assume || *committed == wanted)
		return ret;
	return msg_fail(EXIT_REFUSED,
			"%s: was %s, says the layer that decided it; leave --assume out",
			img->path, *committed ? "committed" : "aborted");
}

static int settle(struct image *img, const char *assume)
{
	bool committed = false, old = chain_pending_old(&img->hdr);
	int ret = decide(img, assume, &committed);

	if (!ret)
		ret = image_check_in_use(img, NULL, false);
	if (ret)
		return ret;
	if (!committed && !old)
		return pending_never(img);
	pending_set(img, committed);
	ret = image_write_header(img);
	if (!ret)
		tell(img, outcome(committed, old));
	return ret;
}

static int recover_path(const char *path, const char *assume)
{
	struct image img;
	int ret = image_open(&img, path, DM_CHAIN_FORMAT_CHAIN,
			     IMAGE_WRITE | IMAGE_ANY_MARK);

	if (ret)
		return ret;
	if (image_pending(&img))
		ret = settle(&img, assume);
	else if (assume)
		ret = msg_fail(EXIT_FAILED,
			       "%s: waits for no decision, there is nothing to assume",
			       path);
	image_close(&img);
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
		return recover_path(argv[0], assume);
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
	layer_markers_clean();
	while (n.nr)
		free(n.name[--n.nr]);
	free(n.name);
	return -ret;
}
