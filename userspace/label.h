/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Labels: who may reach an image file while a disk has it. A disk has two
 * templates, for what it writes (rw) and what it reads (ro); a file has one
 * label at a time: none, ro or rw. What the file had before comes back when the
 * last disk leaves it.
 */
#ifndef DMCHAIN_LABEL_H
#define DMCHAIN_LABEL_H

#include "dmchain.h"

#define LABEL_OWNER	1
#define LABEL_GROUP	2
#define LABEL_MODE	4
#define LABEL_SELINUX	8

/**
 * struct label - owner, group, mode and SELinux context of a file
 * @parts: which of them it has: mask of LABEL_OWNER and so on
 * @uid: with LABEL_OWNER
 * @gid: with LABEL_GROUP
 * @mode: with LABEL_MODE
 * @selinux: value of security.selinux (malloc); NULL: no such attribute
 * @selinux_len: bytes of it; contexts end with a NUL, as the tools write them
 */
struct label {
	unsigned int parts;
	uid_t uid;
	gid_t gid;
	mode_t mode;
	char *selinux;
	size_t selinux_len;
};

/* label-text.c */

/**
 * label_parse() - "OWNER:GROUP:MODE[,selinux=CONTEXT]" or "selinux=CONTEXT"
 * @text: as the user gave it
 * @l: filled in
 *
 * An empty part stays as it is in the file. Owner and group are names or
 * numbers, the mode is octal.
 * Return: 0, or -EXIT_USAGE with the line printed.
 */
int label_parse(const char *text, struct label *l);
void label_free(struct label *l);
bool label_equal(const struct label *a, const struct label *b);
json_object *label_to_json(const struct label *l);
/** label_from_json() - false: it is none; @l is then empty */
bool label_from_json(json_object *o, struct label *l);
/** hex_text() - bytes as text; malloc */
char *hex_text(const void *bytes, size_t len);
/** hex_bytes() - the way back; malloc, or NULL */
void *hex_bytes(const char *text, size_t *len);

/* label-file.c: all on a descriptor, nothing follows a path; 0 or -errno */

/** label_read() - all parts of a file's present label */
int label_read(int fd, struct label *l);
/** label_write() - change what differs; at no instant may anybody do what
 * neither the old nor the new label allows */
int label_write(int fd, const struct label *l);
/** label_probe() - would label_write() be allowed, if it has anything to do?
 * Changes nothing; @l NULL: it has */
int label_probe(int fd, const struct label *l);

/**
 * label_remember() - keep a label in the file itself, durably
 * @fd: of the file
 * @l: what it had
 *
 * For the time after a reboot. A file system without trusted attributes keeps
 * none: that is no error.
 */
int label_remember(int fd, const struct label *l);
/** label_forget() - the label that was remembered is back in force */
int label_forget(int fd);

enum label_memory {
	LABEL_UNKNOWN,		/* nothing, or of another file (a copy) */
	LABEL_OURS,
	LABEL_FOREIGN,		/* another host has labelled the file */
};

/** label_recall() - what label_remember() has kept; @host: who kept it */
enum label_memory label_recall(int fd, struct label *l, struct chain_id *host);

/* label-record.c */

/**
 * struct label_record - a labelled file, as /run/dmchain/labels/ knows it
 * @key: name of the record's file
 * @path: where the file was when it got its label
 * @handle: file handle, in hexadecimal; NULL: its file system has none
 * @handle_type: of @handle
 * @kind: the label in force, or about to be
 * @label: template that it comes from
 * @before: what the file had
 * @users: names of disks, array of strings
 */
struct label_record {
	char key[64];
	char *path;
	char *handle;
	int handle_type;
	enum label_kind kind;
	struct label label;
	struct label before;
	json_object *users;
};

/** labels_lock() - one controller at a time; a descriptor to close, or a
 * negative exit code */
int labels_lock(void);
/** labels_any() - has there been a label at all since the host came up? */
bool labels_any(void);
/** record_key() - of a file */
void record_key(dev_t dev, ino_t ino, char *key, size_t len);
/** record_new() - of an open file, without label and users */
int record_new(struct label_record *r, int fd, const char *path);
/** record_load() - false: there is none */
bool record_load(struct label_record *r, const char *key);
/** record_is() - the record is of this very file, not of one that had its
 * inode number before */
bool record_is(const struct label_record *r, int fd);
/** record_equal() - do they say the same, but for their keys? */
bool record_equal(const struct label_record *a, const struct label_record *b);
/** record_save() - there as a whole or not at all */
int record_save(const struct label_record *r);
void record_remove(const struct label_record *r);
void record_free(struct label_record *r);
/**
 * record_open() - the file, wherever it was moved to
 * @r: its record
 *
 * Return: a descriptor, -ESTALE: there is no such file any more; another
 * -errno: it can't be reached.
 */
int record_open(const struct label_record *r);
/** record_gone() - does what record_open() returned mean that the file was
 * deleted? Without a handle that is all one can think. */
bool record_gone(const struct label_record *r, int fd);
/** record_each() - keys; @cb nonzero stops */
int record_each(int (*cb)(const char *key, void *arg), void *arg);

/** templates_save() - of a disk, as JSON that is consumed */
int templates_save(const char *disk, json_object *o);
/** templates_load() - or NULL */
json_object *templates_load(const char *disk);
void templates_remove(const char *disk);
/** label_each_disk() - names of disks that have templates */
int label_each_disk(int (*cb)(const char *name, void *arg), void *arg);

/*
 * label.c: transitions. The caller has the disk's lock and has left a note in
 * it. A transition that fails has changed nothing; what went before it in the
 * same operation label_sync() takes back. A disk without templates has no
 * labels, and nothing here does anything for it.
 */

/** label_check_texts() - are they templates? NULL: not given */
int label_check_texts(const char *rw, const char *ro);
/** label_disk_set() - a disk's templates, before its first label */
int label_disk_set(const char *disk, const char *rw, const char *ro);

/**
 * label_apply() - give an image file a label for a disk
 * @disk: name of the disk
 * @fd: of the file that is attached, in any mode; a device has no label
 * @path: for messages, and to find the file again
 * @want: LABEL_RO also takes LABEL_RW back; LABEL_NONE: label_drop()
 *
 * For whatever writes or reads a layer: before access is needed, LABEL_RW or
 * LABEL_RO; when it is no longer, LABEL_RO or LABEL_NONE. Without a template
 * for @want the file has none for this disk. Refused (EXIT_REFUSED, names the
 * disk): LABEL_RW of a file that another disk has too, LABEL_RO of one that
 * another disk has with another label.
 */
int label_apply(const char *disk, int fd, const char *path,
		enum label_kind want);
/** label_drop() - the disk is done with the file; with its last user it gets
 * back what it had */
int label_drop(const char *disk, int fd, const char *path);
/** label_apply_device() - label_apply() of the file behind a loop device */
int label_apply_device(const char *disk, dev_t dev, enum label_kind want);
/** label_probe_device() - would that be possible? For what follows a step that
 * can't be undone */
int label_probe_device(const char *disk, dev_t dev);

/**
 * label_sync() - bring the labels of a disk's files in line with its table
 * @disk: name of the disk
 * @done: array that gets texts of what was done, or NULL
 *
 * Of a disk without table (any more) all are dropped, and the templates.
 */
int label_sync(const char *disk, json_object *done);
/** label_check_drop() - can all files of a disk be restored? Before a close */
int label_check_drop(const char *disk);
/** label_heal() - a file that is opened without a label may have one from
 * before a reboot */
int label_heal(int fd, const char *path);

#endif
