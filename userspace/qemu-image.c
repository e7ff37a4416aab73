// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A chain of qcow2 images, from its top down.
 *
 * What a header says is what somebody wrote who may have had the image as a guest's
 * disk. QEMU would follow whatever it names: a file anywhere, a server, a JSON text
 * with any driver in it. So QEMU is asked of one image at a time and never follows
 * anything itself; a backing file is a plain file or device, of a format that is
 * named, and lies with the image unless the user says that it may lie anywhere.
 */
#include "convert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <linux/fs.h>
#include <fcntl.h>
#include <unistd.h>

#define SUBCLUSTERS	32	/* of a cluster with extended entries */

/* --- What QEMU says of one --- */

static json_object *at(json_object *o, const char *key)
{
	json_object *value = NULL;

	if (json_object_is_type(o, json_type_object))
		json_object_object_get_ex(o, key, &value);
	return value;
}

static bool is_true(json_object *o, const char *key)
{
	return json_object_get_boolean(at(o, key));
}

static char *text_at(json_object *o, const char *key)
{
	const char *text = json_object_get_string(at(o, key));

	return text && *text ? strdup(text) : NULL;
}

static size_t count_at(json_object *o, const char *key)
{
	json_object *a = at(o, key);

	return json_object_is_type(a, json_type_array) ?
	       json_object_array_length(a) : 0;
}

static int refuse_features(const struct qimage *q, json_object *o,
			   json_object *data)
{
	if (is_true(o, "encrypted") || at(data, "encrypt"))
		return msg_fail(EXIT_IMAGE,
				"%s: is encrypted; take a plain copy that qemu-img convert makes with its key",
				q->path);
	if (at(data, "data-file"))
		return msg_fail(EXIT_IMAGE,
				"%s: has its data in another file; take a copy that qemu-img convert makes",
				q->path);
	if (is_true(data, "corrupt"))
		return msg_fail(EXIT_IMAGE,
				"%s: is marked corrupt; see qemu-img check, which can repair some damage",
				q->path);
	return 0;
}

/* Nothing of what is left behind goes without a word. */
static void warn_left(const struct qimage *q, json_object *o, json_object *data)
{
	size_t snapshots = count_at(o, "snapshots");
	size_t bitmaps = count_at(data, "bitmaps");

	if (snapshots)
		msg_warn("%s: snapshots inside of the image (%zu) are not taken over, only its present state; qemu-img convert -l copies one out",
			 q->path, snapshots);
	if (bitmaps)
		msg_warn("%s: dirty bitmaps (%zu) are not taken over", q->path,
			 bitmaps);
}

static int take_sizes(struct qimage *q, json_object *o, json_object *data)
{
	int64_t size = json_object_get_int64(at(o, "virtual-size"));
	int64_t grain = json_object_get_int64(at(o, "cluster-size"));

	if (size <= 0 || size % 512 || (uint64_t)size > DM_CHAIN_MAX_SIZE)
		return msg_fail(EXIT_IMAGE,
				"%s: a disk of %lld bytes can't be: it must have 512 bytes to 64T",
				q->path, (long long)size);
	q->size = (uint64_t)size;
	q->grain = grain > 0 ? (uint64_t)grain : 512;
	if (is_true(data, "extended-l2"))
		q->grain /= SUBCLUSTERS;
	return 0;
}

static int parse(struct qimage *q, json_object *o)
{
	json_object *data = at(at(o, "format-specific"), "data");
	const char *format = json_object_get_string(at(o, "format"));
	int ret;

	if (!format || strcmp(format, "qcow2"))
		return msg_fail(EXIT_IMAGE, "%s: QEMU says nothing that can be understood of it",
				q->path);
	ret = refuse_features(q, o, data);
	if (!ret)
		ret = take_sizes(q, o, data);
	if (ret)
		return ret;
	warn_left(q, o, data);
	q->backing = text_at(o, "backing-filename");
	q->backing_format = text_at(o, "backing-filename-format");
	return 0;
}

int qimage_parse(struct qimage *q, const char *text)
{
	json_object *o = json_tokener_parse(text);
	int ret = parse(q, o);

	json_object_put(o);
	return ret;
}

/* --- One layer --- */

static int identify(struct qimage *q)
{
	struct stat st;

	if (stat(q->path, &st))
		return msg_fail_errno(EXIT_FAILED, errno, "%s: can't open", q->path);
	q->is_bdev = S_ISBLK(st.st_mode);
	if (!q->is_bdev && !S_ISREG(st.st_mode))
		return msg_fail(EXIT_IMAGE,
				"%s: neither a file nor a block device", q->path);
	q->dev = q->is_bdev ? st.st_rdev : st.st_dev;
	q->ino = q->is_bdev ? 0 : st.st_ino;
	q->size = q->is_bdev ? device_bytes(q->path) : (uint64_t)st.st_size;
	q->grain = 1;
	return 0;
}

/* It opens the image alone: neither its backing file nor its data. */
static int ask_qemu(struct qimage *q)
{
	const char *argv[] = {
		"qemu-img", "info", "--output=json", "-f", "qcow2", q->path, NULL,
	};
	char *text = NULL;
	int ret = tool_run(EXIT_IMAGE, argv, q->path, &text);

	if (!ret)
		ret = qimage_parse(q, text);
	free(text);
	return ret;
}

static bool same(const struct qimage *a, const struct qimage *b)
{
	return a->is_bdev == b->is_bdev && a->dev == b->dev && a->ino == b->ino;
}

static int check_once(const struct qchain *c, const struct qimage *q)
{
	unsigned int i;

	for (i = 0; i < c->nr; i++)
		if (same(&c->images[i], q))
			return msg_fail(EXIT_IMAGE,
					"%s: the backing files run in a circle: it is below itself; put the right image there",
					q->path);
	if (c->nr < DM_CHAIN_MAX_LAYERS)
		return 0;
	return msg_fail(EXIT_IMAGE, "%s: more than %d layers",
			c->images[0].path, DM_CHAIN_MAX_LAYERS);
}

static void free_image(struct qimage *q)
{
	free(q->path);
	free(q->backing);
	free(q->backing_format);
	memset(q, 0, sizeof(*q));
}

/* A loop device would not have its last bytes, which QEMU shows. */
static int check_raw(const struct qimage *q)
{
	if (!q->raw || q->size % 512 == 0)
		return 0;
	return msg_fail(EXIT_IMAGE,
			"%s: its size, %llu bytes, is no multiple of 512; pad it first (truncate -s %%512)",
			q->path, (unsigned long long)q->size);
}

/* @path is consumed. */
static int add(struct qchain *c, char *path, bool raw)
{
	struct qimage *more = NULL, q = { .path = path, .raw = raw };
	int ret = path ? 0 : msg_fail(EXIT_FAILED, "out of memory for a path");

	if (!ret)
		ret = identify(&q);
	if (!ret)
		ret = check_once(c, &q);
	if (!ret)
		ret = raw ? check_raw(&q) : ask_qemu(&q);
	if (!ret)
		more = realloc(c->images, (c->nr + 1) * sizeof(*more));
	if (!ret && !more)
		ret = msg_fail(EXIT_FAILED, "out of memory for %u layers", c->nr + 1);
	if (ret) {
		free_image(&q);
		return ret;
	}
	c->images = more;
	c->images[c->nr++] = q;
	return 0;
}

/* --- From one to the one below --- */

/* As QEMU reads it: "nbd:...", "json:...", "file:..." are no paths. */
static bool has_protocol(const char *name)
{
	return name[strcspn(name, ":/")] == ':';
}

char *qimage_backing(const struct qimage *q)
{
	char *folder, *path = NULL;

	if (has_protocol(q->backing)) {
		msg_fail(EXIT_IMAGE,
			 "%s: its backing file '%s' is no plain path, and nothing else is followed; if you know what that is, name a file or device by qemu-img rebase -u",
			 q->path, q->backing);
		return NULL;
	}
	if (*q->backing == '/')
		return strdup(q->backing);
	folder = convert_folder(q->path);
	if (folder && asprintf(&path, "%s/%s", strcmp(folder, "/") ? folder : "",
			       q->backing) < 0)
		path = NULL;
	free(folder);
	return path;
}

static int backing_format(const struct qchain *c, const struct qimage *q, bool *raw)
{
	const char *format = q->backing_format ? q->backing_format : c->format;

	if (!format)
		return msg_fail(EXIT_IMAGE,
				"%s: doesn't say which format its backing file %s has, and a format is never guessed; say --backing-format",
				q->path, q->backing);
	*raw = !strcmp(format, "raw");
	if (*raw || !strcmp(format, "qcow2"))
		return 0;
	return msg_fail(EXIT_IMAGE,
			"%s: its backing file %s has the format %s, which is not taken over; qemu-img convert can make qcow2 of it",
			q->path, q->backing, format);
}

/* Is @path, whatever links are in it, in the folder of @top or below that? */
static bool lies_with(const char *path, const char *top)
{
	char *real = realpath(path, NULL), *folder = convert_folder(top);
	char *base = folder ? realpath(folder, NULL) : NULL;
	size_t len = base ? strlen(base) : 0;
	bool yes = real && base && !strncmp(real, base, len) &&
		   (real[len] == '/' || len == 1);

	free(real);
	free(folder);
	free(base);
	return yes;
}

static int check_place(const struct qchain *c, const struct qimage *q,
		       const char *path)
{
	if (access(path, F_OK))
		return msg_fail(EXIT_IMAGE,
				"%s: its backing file is not found (%s): it says %s, that is %s; put it there",
				q->path, strerror(errno), q->backing, path);
	if (c->trust || lies_with(path, c->images[0].path))
		return 0;
	return msg_fail(EXIT_REFUSED,
			"%s: its backing file %s does not lie in the folder of %s; if that is as it should be, say --trust-backing",
			q->path, path, c->images[0].path);
}

static int add_backing(struct qchain *c)
{
	const struct qimage *q = &c->images[c->nr - 1];
	char *path = qimage_backing(q);
	bool raw = false;
	int ret = path ? backing_format(c, q, &raw) : -EXIT_IMAGE;

	if (!ret)
		ret = check_place(c, q, path);
	if (!ret)
		ret = add(c, path_absolute(path), raw);
	free(path);
	return ret;
}

int qchain_open(struct qchain *c, const char *path)
{
	char *abs = path_absolute(path);
	int ret;

	if (!abs)
		return msg_fail_errno(EXIT_FAILED, errno, "%s: can't open", path);
	ret = add(c, abs, false);
	while (!ret && c->images[c->nr - 1].backing)
		ret = add_backing(c);
	return ret;
}

void qchain_close(struct qchain *c)
{
	while (c->nr)
		free_image(&c->images[--c->nr]);
	free(c->images);
	c->images = NULL;
}

/* --- As QEMU is told of it --- */

json_object *qnode_file(const char *path, bool is_bdev)
{
	json_object *o = json_object_new_object();

	json_object_object_add(o, "driver",
		json_object_new_string(is_bdev ? "host_device" : "file"));
	json_object_object_add(o, "filename", json_object_new_string(path));
	return o;
}

json_object *qnode_image(const char *format, json_object *file,
			 json_object *backing)
{
	json_object *o = json_object_new_object();

	json_object_object_add(o, "driver", json_object_new_string(format));
	json_object_object_add(o, "file", file);
	/* Named or not there at all: the header's own is never followed. */
	if (strcmp(format, "raw"))
		json_object_object_add(o, "backing", backing);
	return o;
}

json_object *qchain_node(const struct qchain *c, unsigned int i, bool deep)
{
	const struct qimage *q = &c->images[i];
	json_object *below = NULL;

	if (deep && i + 1 < c->nr)
		below = qchain_node(c, i + 1, true);
	return qnode_image(q->raw ? "raw" : "qcow2",
			   qnode_file(q->path, q->is_bdev), below);
}
