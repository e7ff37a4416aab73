// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Is there room for what a job moves? A commit gives back above what it has
 * taken below, batch by batch, so that on one file system it needs little more
 * than a batch; it is durable below first.
 */
#include "job.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#define BATCHES (128ULL << 20)	/* one under way, one not yet given back */

static bool file_path(const struct dm_chain_layer *l, char **path)
{
	char *text = disk_layer_path(makedev(l->major, l->minor));
	struct stat st;

	*path = NULL;
	if (!text || stat(text, &st) || !S_ISREG(st.st_mode)) {
		free(text);
		return false;
	}
	*path = text;
	return true;
}

static bool store_of(const struct dm_chain_layer *l, dev_t *dev)
{
	struct stat st;
	char *path;
	bool found = file_path(l, &path) && !stat(path, &st);

	if (found)
		*dev = st.st_dev;
	free(path);
	return found;
}

static bool one_store(const struct dm_chain_layer *into,
		      const struct dm_chain_layer *range, unsigned int nr)
{
	dev_t dev, other;
	unsigned int i;

	if (!nr || !store_of(into, &dev))
		return false;
	for (i = 0; i < nr; i++)
		if (!store_of(&range[i], &other) || other != dev)
			return false;
	return true;
}

static bool free_at(const struct dm_chain_layer *into, uint64_t *bytes)
{
	struct statvfs v;
	char *path;
	bool found = file_path(into, &path) && !statvfs(path, &v);

	if (found)
		*bytes = (uint64_t)v.f_bavail * v.f_frsize;
	free(path);
	return found;
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

void job_space_look(struct job_space *s, const struct dm_chain_job_start *est,
		    const struct dm_chain_layer *into,
		    const struct dm_chain_layer *range, unsigned int nr)
{
	uint64_t takes = est->new_bytes;

	*s = (struct job_space){
		.move = est->move_bytes, .zero = est->zero_bytes,
		.fresh = est->new_bytes, .need = est->need_bytes,
		.has = layer_device_bytes(makedev(into->major, into->minor)),
	};
	s->device = !free_at(into, &s->free);
	if (s->device) {
		s->missing = less(s->need, s->has);
		return;
	}
	if (takes > BATCHES && one_store(into, range, nr))
		takes = BATCHES;
	s->missing = less(takes, s->free);
}

int job_space_check(const struct job_space *s, const char *name,
		    const struct dm_chain_layer *into, bool force)
{
	char *path, a[32], b[32];
	int ret;

	if (!s->missing || (force && !s->device))
		return 0;
	path = disk_layer_path(makedev(into->major, into->minor));
	if (s->device)
		ret = msg_fail(EXIT_FAILED,
			       "%s: is too small for disk %s, it has %" PRIu64 " bytes and must have %" PRIu64 "; enlarge it first",
			       path ? path : "a device", name, s->has, s->need);
	else
		ret = msg_fail(EXIT_FAILED,
			       "%s: %s are missing where it lies, %s are free; make room, or say --force",
			       path ? path : name, size_text(s->missing, a),
			       size_text(s->free, b));
	free(path);
	return ret;
}

static void show_json_space(const struct job_space *s, const char *name)
{
	json_object *o = json_object_new_object();

	json_object_object_add(o, "name", json_text(name));
	json_object_object_add(o, "move-bytes", json_object_new_uint64(s->move));
	json_object_object_add(o, "zero-bytes", json_object_new_uint64(s->zero));
	json_object_object_add(o, "new-bytes", json_object_new_uint64(s->fresh));
	json_object_object_add(o, "need-bytes", json_object_new_uint64(s->need));
	json_object_object_add(o, "free-bytes", s->device ? NULL :
			       json_object_new_uint64(s->free));
	json_object_object_add(o, "missing-bytes",
			       json_object_new_uint64(s->missing));
	show_json(o);
}

static void line(const char *what, uint64_t bytes)
{
	char text[32];

	printf("%-36s  %s (%" PRIu64 " bytes)\n", what, size_text(bytes, text),
	       bytes);
}

void job_space_show(const struct job_space *s, const char *name)
{
	if (opt_json) {
		show_json_space(s, name);
		return;
	}
	line("data to be moved", s->move);
	line("to become zeroes", s->zero);
	line("new data in the layer that takes it", s->fresh);
	line("size that its device needs", s->need);
	if (s->device)
		printf("%-36s  n/a (a device)\n", "free where it lies");
	else
		line("free where it lies", s->free);
	line("missing", s->missing);
}
