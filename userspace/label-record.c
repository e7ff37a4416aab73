// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What is labelled, for whom, and what was there before: a file for each in
 * /run/dmchain/labels. A record is there before its file is changed and goes
 * after it has been restored, so that a killed controller's successor can
 * always finish. It never outlives a boot; see label_remember() for that.
 */
#include "label.h"
#include "online.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define DIR_NAME	"labels"
#define LABEL_DIR	RUN_DIR "/" DIR_NAME
#define LOCK_FILE	LABEL_DIR "/lock"
#define FILE_PREFIX	"file."
#define DISK_PREFIX	"disk."

int labels_lock(void)
{
	int fd, ret = run_dir(DIR_NAME);

	if (ret)
		return ret;
	fd = open(LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return msg_fail_errno(EXIT_FAILED, errno, LOCK_FILE
				      ": cannot be opened");
	while (flock(fd, LOCK_EX))
		if (errno != EINTR) {
			ret = msg_fail_errno(EXIT_FAILED, errno, LOCK_FILE
					     ": cannot be locked");
			close(fd);
			return ret;
		}
	return fd;
}

bool labels_any(void)
{
	return !access(LOCK_FILE, F_OK);
}

/* Files of the folder: whole and durable under a name, or not there. */

static bool write_all(int fd, const char *text)
{
	size_t len = strlen(text);

	while (len) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		text += n;
		len -= (size_t)n;
	}
	return !fsync(fd);
}

static int save_json(const char *path, json_object *o)
{
	static const char new[] = LABEL_DIR "/new";
	int fd = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC |
		      O_NOFOLLOW, 0600);
	bool ok = fd >= 0 && write_all(fd, json_object_to_json_string(o));
	int err = ok ? 0 : errno;

	json_object_put(o);
	if (fd >= 0)
		close(fd);
	if (!err && rename(new, path))
		err = errno;
	if (!err)
		return 0;
	return msg_fail_errno(EXIT_FAILED, err, "%s: cannot be written", path);
}

static json_object *load_json(const char *path)
{
	json_object *o = access(path, F_OK) ? NULL : json_object_from_file(path);

	if (json_object_is_type(o, json_type_object))
		return o;
	json_object_put(o);
	return NULL;
}

static void name_path(char *path, const char *prefix, const char *name)
{
	snprintf(path, PATH_MAX, LABEL_DIR "/%s%s", prefix, name);
}

/* Records. */

void record_key(dev_t dev, ino_t ino, char *key, size_t len)
{
	snprintf(key, len, "%u:%u:%llu", major(dev), minor(dev),
		 (unsigned long long)ino);
}

/* Tells a file from a later one of the same inode number. */
static char *handle_of(int fd, int *type)
{
	struct file_handle *h = calloc(1, sizeof(*h) + MAX_HANDLE_SZ);
	char *hex = NULL;
	int mount;

	if (!h)
		return NULL;
	h->handle_bytes = MAX_HANDLE_SZ;
	if (!name_to_handle_at(fd, "", h, &mount, AT_EMPTY_PATH)) {
		*type = h->handle_type;
		hex = hex_text(h->f_handle, h->handle_bytes);
	}
	free(h);
	return hex;
}

int record_new(struct label_record *r, int fd, const char *path)
{
	struct stat st;

	memset(r, 0, sizeof(*r));
	if (fstat(fd, &st))
		return msg_fail_errno(EXIT_FAILED, errno, "%s: can't look at it",
				      path);
	record_key(st.st_dev, st.st_ino, r->key, sizeof(r->key));
	r->path = strdup(path);
	r->handle = handle_of(fd, &r->handle_type);
	r->users = json_object_new_array();
	if (r->path && r->users)
		return 0;
	record_free(r);
	return msg_fail(EXIT_FAILED, "%s: out of memory", path);
}

static const char *member(json_object *o, const char *key)
{
	json_object *v;

	return json_object_object_get_ex(o, key, &v) &&
	       json_object_is_type(v, json_type_string) ?
	       json_object_get_string(v) : NULL;
}

static bool are_names(json_object *array)
{
	size_t i;

	if (!json_object_is_type(array, json_type_array))
		return false;
	for (i = 0; i < json_object_array_length(array); i++)
		if (!json_object_is_type(json_object_array_get_idx(array, i),
					 json_type_string))
			return false;
	return true;
}

static bool parse(struct label_record *r, json_object *o)
{
	const char *path = member(o, "path"), *handle = member(o, "handle");
	const char *kind = member(o, "kind");
	json_object *v;

	if (!path || !kind)
		return false;
	r->path = strdup(path);
	r->handle = handle ? strdup(handle) : NULL;
	if (json_object_object_get_ex(o, "handle-type", &v))
		r->handle_type = json_object_get_int(v);
	r->kind = strcmp(kind, "rw") ? LABEL_RO : LABEL_RW;
	if (!json_object_object_get_ex(o, "users", &v) || !are_names(v))
		return false;
	r->users = json_object_get(v);
	return r->path && json_object_object_get_ex(o, "label", &v) &&
	       label_from_json(v, &r->label) &&
	       json_object_object_get_ex(o, "before", &v) &&
	       label_from_json(v, &r->before);
}

bool record_load(struct label_record *r, const char *key)
{
	char path[PATH_MAX];
	json_object *o;
	bool ok;

	memset(r, 0, sizeof(*r));
	name_path(path, FILE_PREFIX, key);
	o = load_json(path);
	if (!o)
		return false;
	snprintf(r->key, sizeof(r->key), "%s", key);
	ok = parse(r, o);
	json_object_put(o);
	if (!ok)
		record_free(r);
	return ok;
}

bool record_is(const struct label_record *r, int fd)
{
	int type = 0;
	char *handle = handle_of(fd, &type);
	bool same = !handle || !r->handle ||
		    (type == r->handle_type && !strcmp(handle, r->handle));

	free(handle);
	return same;
}

static json_object *record_json(const struct label_record *r)
{
	json_object *o = json_object_new_object();

	json_object_object_add(o, "path", json_object_new_string(r->path));
	if (r->handle)
		json_object_object_add(o, "handle",
				       json_object_new_string(r->handle));
	json_object_object_add(o, "handle-type",
			       json_object_new_int(r->handle_type));
	json_object_object_add(o, "kind", json_object_new_string(
		r->kind == LABEL_RW ? "rw" : "ro"));
	json_object_object_add(o, "label", label_to_json(&r->label));
	json_object_object_add(o, "before", label_to_json(&r->before));
	json_object_object_add(o, "users", json_object_get(r->users));
	return o;
}

bool record_equal(const struct label_record *a, const struct label_record *b)
{
	json_object *x = record_json(a), *y = record_json(b);
	bool equal = json_object_equal(x, y);

	json_object_put(x);
	json_object_put(y);
	return equal;
}

int record_save(const struct label_record *r)
{
	char path[PATH_MAX];

	name_path(path, FILE_PREFIX, r->key);
	return save_json(path, record_json(r));
}

void record_remove(const struct label_record *r)
{
	char path[PATH_MAX];

	name_path(path, FILE_PREFIX, r->key);
	unlink(path);
}

void record_free(struct label_record *r)
{
	free(r->path);
	free(r->handle);
	label_free(&r->label);
	label_free(&r->before);
	json_object_put(r->users);
	memset(r, 0, sizeof(*r));
}

/* Any folder on the file's own file system, to say which one is meant. */
static int open_mount(const struct label_record *r)
{
	char *folder = strdup(r->path), *slash, key[64];
	struct stat st;
	int fd = -1;

	while (folder && fd < 0 && (slash = strrchr(folder, '/'))) {
		slash[slash == folder] = '\0';
		fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0 && !fstat(fd, &st)) {
			record_key(st.st_dev, 0, key, sizeof(key));
			if (strncmp(key, r->key, strlen(key) - 1)) {
				close(fd);
				fd = -1;
			}
		}
		if (slash == folder)
			break;
	}
	free(folder);
	return fd;
}

static int open_handle(const struct label_record *r)
{
	struct file_handle *h;
	int fd = -ENOENT, mount;
	size_t len;
	void *bytes = hex_bytes(r->handle, &len);

	h = calloc(1, sizeof(*h) + MAX_HANDLE_SZ);
	mount = open_mount(r);
	if (bytes && h && len <= MAX_HANDLE_SZ && mount >= 0) {
		h->handle_type = r->handle_type;
		h->handle_bytes = (unsigned int)len;
		memcpy(h->f_handle, bytes, len);
		fd = open_by_handle_at(mount, h, O_RDONLY | O_CLOEXEC |
				       O_NONBLOCK);
		if (fd < 0)
			fd = -errno;
	}
	if (mount >= 0)
		close(mount);
	free(h);
	free(bytes);
	return fd;
}

int record_open(const struct label_record *r)
{
	char key[64];
	struct stat st;
	int fd = open(r->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd >= 0) {
		if (!fstat(fd, &st)) {
			record_key(st.st_dev, st.st_ino, key, sizeof(key));
			if (!strcmp(key, r->key) && record_is(r, fd))
				return fd;
		}
		close(fd);
	}
	return r->handle ? open_handle(r) : -ENOENT;
}

bool record_gone(const struct label_record *r, int fd)
{
	return fd == -ESTALE || (fd == -ENOENT && !r->handle);
}

int record_each(int (*cb)(const char *key, void *arg), void *arg)
{
	DIR *dir = opendir(LABEL_DIR);
	struct dirent *d;
	int ret = 0;

	while (dir && !ret && (d = readdir(dir)))
		if (!strncmp(d->d_name, FILE_PREFIX, strlen(FILE_PREFIX)))
			ret = cb(d->d_name + strlen(FILE_PREFIX), arg);
	if (dir)
		closedir(dir);
	return ret;
}

/* Templates. */

int templates_save(const char *disk, json_object *o)
{
	char path[PATH_MAX];

	name_path(path, DISK_PREFIX, disk);
	return save_json(path, o);
}

json_object *templates_load(const char *disk)
{
	char path[PATH_MAX];

	name_path(path, DISK_PREFIX, disk);
	return load_json(path);
}

void templates_remove(const char *disk)
{
	char path[PATH_MAX];

	name_path(path, DISK_PREFIX, disk);
	unlink(path);
}

int label_each_disk(int (*cb)(const char *name, void *arg), void *arg)
{
	DIR *dir = opendir(LABEL_DIR);
	struct dirent *d;
	int ret = 0;

	while (dir && !ret && (d = readdir(dir)))
		if (!strncmp(d->d_name, DISK_PREFIX, strlen(DISK_PREFIX)))
			ret = cb(d->d_name + strlen(DISK_PREFIX), arg);
	if (dir)
		closedir(dir);
	return ret;
}
