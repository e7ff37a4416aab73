// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The label of an open file: owner, group, mode, SELinux context; and the
 * memory of the one before in an attribute of the file, for the time after a
 * reboot. All on the descriptor of the very file that is attached: a path that
 * was swapped in between is nobody's concern.
 */
#include "label.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define CONTEXT		"security.selinux"
#define MEMORY		"trusted.dmchain.label"
#define ATTR_MAX	16384

/* Length of an attribute's value, 0 with *value NULL: none; or -errno. */
static int attr_read(int fd, const char *name, char **value, size_t *len)
{
	char *buf = malloc(ATTR_MAX + 1);
	ssize_t n;

	*value = NULL;
	*len = 0;
	if (!buf)
		return -ENOMEM;
	n = fgetxattr(fd, name, buf, ATTR_MAX);
	if (n < 0) {
		int err = errno;

		free(buf);
		return err == ENODATA || err == EOPNOTSUPP ? 0 : -err;
	}
	buf[n] = '\0';
	*value = buf;
	*len = (size_t)n;
	return 0;
}

static int attr_write(int fd, const char *name, const char *value, size_t len)
{
	int ret = value ? fsetxattr(fd, name, value, len, 0) :
			  fremovexattr(fd, name);

	if (!ret || (!value && (errno == ENODATA || errno == EOPNOTSUPP)))
		return 0;
	return -errno;
}

int label_read(int fd, struct label *l)
{
	struct stat st;

	memset(l, 0, sizeof(*l));
	if (fstat(fd, &st))
		return -errno;
	l->parts = LABEL_OWNER | LABEL_GROUP | LABEL_MODE | LABEL_SELINUX;
	l->uid = st.st_uid;
	l->gid = st.st_gid;
	l->mode = st.st_mode & 07777;
	return attr_read(fd, CONTEXT, &l->selinux, &l->selinux_len);
}

static int write_context(int fd, const struct label *now, const struct label *l)
{
	struct label want = *l, have = *now;

	want.parts = have.parts = LABEL_SELINUX;
	if (!(l->parts & LABEL_SELINUX) || label_equal(&want, &have))
		return 0;
	return attr_write(fd, CONTEXT, l->selinux, l->selinux_len);
}

/* First take what one of the two doesn't allow, then change hands, then give. */
static int write_mode(int fd, const struct label *now, const struct label *l)
{
	uid_t uid = l->parts & LABEL_OWNER ? l->uid : now->uid;
	gid_t gid = l->parts & LABEL_GROUP ? l->gid : now->gid;
	mode_t mode = l->parts & LABEL_MODE ? l->mode : now->mode;
	bool hands = uid != now->uid || gid != now->gid;

	if (hands && (now->mode & mode) != now->mode &&
	    fchmod(fd, now->mode & mode))
		return -errno;
	if (hands && fchown(fd, uid, gid))
		return -errno;
	if ((hands || mode != now->mode) && fchmod(fd, mode))
		return -errno;
	return 0;
}

/* Before anything else: what only one of the two allows. */
static int narrow_mode(int fd, struct label *now, const struct label *l)
{
	mode_t both = now->mode & (l->parts & LABEL_MODE ? l->mode : now->mode);

	if (both == now->mode)
		return 0;
	if (fchmod(fd, both))
		return -errno;
	now->mode = both;
	return 0;
}

int label_write(int fd, const struct label *l)
{
	struct label now;
	int err = label_read(fd, &now);

	if (!err)
		err = narrow_mode(fd, &now, l);
	if (!err)
		err = write_context(fd, &now, l);
	if (!err)
		err = write_mode(fd, &now, l);
	label_free(&now);
	return err;
}

int label_probe(int fd, const struct label *l)
{
	struct label now;
	int err = label_read(fd, &now);
	bool equal = !err && l && label_equal(&now, l);

	if (!err && !equal && fchmod(fd, now.mode))
		err = -errno;
	label_free(&now);
	return err;
}

int label_remember(int fd, const struct label *l)
{
	json_object *o = label_to_json(l);
	struct chain_id host;
	const char *text;
	struct stat st;
	char id[37];
	int err;

	if (fstat(fd, &st)) {
		json_object_put(o);
		return -errno;
	}
	host_id(&host);
	json_object_object_add(o, "host", json_text(id_text(&host, id)));
	/* A copy of the file, attributes and all, is known by that. */
	json_object_object_add(o, "inode", json_object_new_uint64(st.st_ino));
	text = json_object_to_json_string(o);
	err = attr_write(fd, MEMORY, text, strlen(text));
	json_object_put(o);
	if (err == -EOPNOTSUPP)
		return 0;
	/* Never may a label be durable without what was there before it. */
	if (!err && fsync(fd))
		err = -errno;
	return err;
}

int label_forget(int fd)
{
	char *text;
	size_t len;
	int err = attr_read(fd, MEMORY, &text, &len);

	if (err || !text)
		return err;
	free(text);
	if (fsync(fd))
		return -errno;
	return attr_write(fd, MEMORY, NULL, 0);
}

static bool of_this_file(json_object *o, int fd)
{
	json_object *v;
	struct stat st;

	return json_object_object_get_ex(o, "inode", &v) && !fstat(fd, &st) &&
	       json_object_get_uint64(v) == st.st_ino;
}

enum label_memory label_recall(int fd, struct label *l, struct chain_id *host)
{
	enum label_memory known = LABEL_UNKNOWN;
	json_object *o = NULL, *v;
	struct chain_id here;
	char *text;
	size_t len;

	memset(l, 0, sizeof(*l));
	memset(host, 0, sizeof(*host));
	if (attr_read(fd, MEMORY, &text, &len) || !text)
		return LABEL_UNKNOWN;
	o = json_tokener_parse(text);
	free(text);
	if (json_object_is_type(o, json_type_object) && of_this_file(o, fd) &&
	    json_object_object_get_ex(o, "host", &v) &&
	    json_object_is_type(v, json_type_string) &&
	    id_parse(json_object_get_string(v), host) &&
	    label_from_json(o, l)) {
		host_id(&here);
		known = chain_id_equal(&here, host) ? LABEL_OURS : LABEL_FOREIGN;
	}
	json_object_put(o);
	return known;
}
