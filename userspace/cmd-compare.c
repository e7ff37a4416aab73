// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain compare: do two disks show the same bytes. What the maps say is
 * zeroes in both is not read.
 */
#include "dmchain.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK	(1024 * 1024)

/**
 * struct side - one of the two disks
 * @arg: as the user named it
 * @walk: see struct view
 * @view: what it shows
 */
struct side {
	const char *arg;
	struct walk walk;
	struct view view;
};

static int open_closed(struct side *s, const char *format_given)
{
	uint32_t format;
	int ret = args_format(format_given, &format);

	if (!ret)
		ret = walk_open(&s->walk, s->arg, format, WALK_READ_ONLY);
	if (ret)
		return ret;
	return view_of_walk(&s->view, s->arg, &s->walk);
}

static int open_disk_map(struct side *s, dev_t disk)
{
	struct extents x = { .cb = view_keep, .arg = &s->view };
	int ctl = control_open();
	int ret;

	if (ctl < 0)
		return ctl;
	ret = control_map(ctl, disk, extents_add, &x);
	close(ctl);
	return ret ? ret : extents_end(&x);
}

/* An open disk is read as a guest reads it, past the page cache. */
static int open_disk(struct side *s)
{
	char *path = NULL;
	bool suspended;
	dev_t disk;
	int ret;

	if (dm_disk(s->arg, &disk, &suspended))
		return msg_fail(EXIT_FAILED, "%s: no such file, and no such disk; dmchain list shows those there are",
				s->arg);
	if (suspended)
		return msg_fail(EXIT_FAILED, "%s: is suspended; resume it first",
				s->arg);
	if (asprintf(&path, "/dev/mapper/%s", s->arg) < 0)
		return msg_fail(EXIT_FAILED, "%s: out of memory", s->arg);
	ret = walk_open(&s->walk, path, DM_CHAIN_FORMAT_RAW, WALK_READ_ONLY);
	free(path);
	if (ret)
		return ret;
	s->view.label = s->arg;
	s->view.walk = &s->walk;
	s->view.open = true;
	s->view.size = s->walk.images[0].bytes;
	return open_disk_map(s, disk);
}

static int open_side(struct side *s, const char *arg, const char *format)
{
	s->arg = arg;
	return arg_is_path(arg) ? open_closed(s, format) : open_disk(s);
}

static void close_side(struct side *s)
{
	view_free(&s->view);
	walk_close(&s->walk);
}

static uint64_t lesser(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static size_t first_difference(const uint8_t *a, const uint8_t *b, size_t len)
{
	size_t i;

	if (!memcmp(a, b, len))
		return len;
	for (i = 0; a[i] == b[i]; i++)
		;
	return i;
}

/* One step: up to where both are one extent. @pos moves on. */
static int compare_step(struct side *a, struct side *b, uint64_t *pos,
			uint64_t end, bool *same)
{
	static uint8_t buf[2][CHUNK];
	struct dm_chain_extent ea, eb;
	uint64_t len;
	size_t equal;
	int ret;

	view_look(&a->view, *pos, &ea);
	view_look(&b->view, *pos, &eb);
	len = lesser(end - *pos, lesser(ea.length, eb.length));
	if (view_zeroes(&ea) && view_zeroes(&eb)) {
		*pos += len;
		return 0;
	}
	len = lesser(len, CHUNK);
	ret = view_read_extent(&a->view, &ea, buf[0], len);
	if (!ret)
		ret = view_read_extent(&b->view, &eb, buf[1], len);
	if (ret)
		return ret;
	equal = first_difference(buf[0], buf[1], len);
	*pos += equal;
	*same = equal == len;
	return 0;
}

static void report_json(const struct side *a, const struct side *b, bool same,
			uint64_t pos)
{
	json_object *o = json_object_new_object();

	json_object_object_add(o, "same", json_object_new_boolean(same));
	json_object_object_add(o, "first-difference",
			       same ? NULL : json_object_new_uint64(pos));
	json_object_object_add(o, "size-a", json_object_new_uint64(a->view.size));
	json_object_object_add(o, "size-b", json_object_new_uint64(b->view.size));
	show_json(o);
}

static void report(const struct side *a, const struct side *b, bool same,
		   uint64_t pos)
{
	if (opt_json) {
		report_json(a, b, same, pos);
		return;
	}
	if (a->view.size != b->view.size)
		printf("%s has %llu bytes, %s has %llu; the longer one's end counts as equal to zeroes\n",
		       a->arg, (unsigned long long)a->view.size, b->arg,
		       (unsigned long long)b->view.size);
	if (same)
		printf("%s and %s show the same\n", a->arg, b->arg);
	else
		printf("%s and %s differ, first at byte %llu\n", a->arg, b->arg,
		       (unsigned long long)pos);
}

static int compare(struct side *a, struct side *b)
{
	uint64_t pos = 0, end = a->view.size > b->view.size ? a->view.size : b->view.size;
	bool same = true;
	int ret = 0;

	work_begin(a->arg, "compare", end);
	while (!ret && same && pos < end) {
		ret = compare_step(a, b, &pos, end, &same);
		work_at(pos);
	}
	work_end();
	if (ret)
		return ret;
	report(a, b, same, pos);
	return same ? 0 : -EXIT_FAILED;
}

int cmd_compare(int argc, char **argv)
{
	const char *format_a = NULL, *format_b = NULL;
	const struct arg_opt opts[] = {
		{ "format-a", &format_a, NULL },
		{ "format-b", &format_b, NULL },
		{ NULL, NULL, NULL },
	};
	struct side a = { 0 }, b = { 0 };
	int ret = args_parse(&argc, &argv, opts, 2, 2);

	if (!ret)
		ret = arg_layer_check(argv[0]);
	if (!ret)
		ret = arg_layer_check(argv[1]);
	if (ret)
		return ret;
	ret = open_side(&a, argv[0], format_a);
	if (!ret)
		ret = open_side(&b, argv[1], format_b);
	if (!ret)
		ret = compare(&a, &b);
	close_side(&a);
	close_side(&b);
	return ret;
}
