// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Locks between controllers, in /run/dmchain. A lock file outlives a killed
 * holder with the note of what it was doing; it never outlives a boot, and
 * neither does what it speaks of.
 */
#include "boot.h"
#include "online.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_PREFIX "lock."
#define NOTE_MAX 16384

static sigset_t signals_before;
static unsigned int held;	/* locks */
static struct disk_lock *locks;	/* ours */

int run_dir(const char *sub)
{
	char path[64];

	if (mkdir(RUN_DIR, 0755) && errno != EEXIST)
		return msg_fail_errno(EXIT_FAILED, errno, RUN_DIR
				      ": cannot be made");
	if (!sub)
		return 0;
	snprintf(path, sizeof(path), RUN_DIR "/%s", sub);
	if (mkdir(path, 0755) && errno != EEXIST)
		return msg_fail_errno(EXIT_FAILED, errno, "%s: cannot be made",
				      path);
	return 0;
}

void signals_hold(void)
{
	sigset_t set;

	if (held++)
		return;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, &signals_before);
}

void signals_go(void)
{
	if (!--held)
		sigprocmask(SIG_SETMASK, &signals_before, NULL);
}

/* The holder before us may have removed the file that we waited for. */
static bool still_there(int fd, const char *path)
{
	struct stat a, b;

	return !fstat(fd, &a) && !stat(path, &b) && a.st_ino == b.st_ino &&
	       a.st_dev == b.st_dev;
}

static int lock_file(const char *path)
{
	for (;;) {
		int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
			      0600);

		if (fd < 0)
			return -errno;
		while (flock(fd, LOCK_EX))
			if (errno != EINTR) {
				int err = errno;

				close(fd);
				return -err;
			}
		if (still_there(fd, path))
			return fd;
		close(fd);
	}
}

int disk_lock(const char *name, struct disk_lock *l)
{
	int ret;

	l->fd = -1;
	l->path = NULL;
	l->name = name;
	if (!*name || strchr(name, '/'))
		return msg_fail(EXIT_FAILED, "%s: no such disk", name);
	ret = run_dir(NULL);
	if (ret)
		return ret;
	if (asprintf(&l->path, RUN_DIR "/" LOCK_PREFIX "%s", name) < 0) {
		l->path = NULL;
		return msg_fail(EXIT_FAILED, "%s: out of memory", name);
	}
	l->fd = lock_file(l->path);
	if (l->fd < 0) {
		ret = msg_fail_errno(EXIT_FAILED, -l->fd, "%s: cannot be locked",
				     l->path);
		free(l->path);
		l->path = NULL;
		return ret;
	}
	/* It may be there since long, of one that was killed. */
	(void)futimens(l->fd, NULL);
	l->next = locks;
	locks = l;
	signals_hold();
	return 0;
}

static void unlink_mine(const struct disk_lock *l)
{
	struct disk_lock **at = &locks;

	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
}

static bool is_mine(const struct stat *st)
{
	const struct disk_lock *l;
	struct stat mine;

	for (l = locks; l; l = l->next)
		if (!fstat(l->fd, &mine) && mine.st_ino == st->st_ino)
			return true;
	return false;
}

static bool later(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec >= b->tv_nsec;
}

struct left {
	const struct timespec *since;
	bool left;
	bool others;
};

static int look_at_lock(const char *name, void *arg)
{
	char path[sizeof(RUN_DIR) + sizeof(LOCK_PREFIX) + NAME_MAX];
	struct left *left = arg;
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), RUN_DIR "/" LOCK_PREFIX "%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return 0;
	if (!fstat(fd, &st) && !is_mine(&st)) {
		if (flock(fd, LOCK_SH | LOCK_NB))
			left->others = true;
		else if (later(&st.st_ctim, left->since))
			left->left = true;
	}
	close(fd);
	return 0;
}

bool disk_locks_left(const struct timespec *since, bool *others)
{
	struct left left = { .since = since };

	(void)disk_lock_each(look_at_lock, &left);
	*others = left.others;
	return left.left;
}

void disk_unlock(struct disk_lock *l)
{
	struct stat st;

	if (l->fd < 0)
		return;
	boot_settle(l->name);
	layer_markers_clean(false);
	unlink_mine(l);
	/* A note stays for the next one; an empty file is no use to anybody. */
	if (!fstat(l->fd, &st) && !st.st_size)
		unlink(l->path);
	close(l->fd);
	free(l->path);
	l->fd = -1;
	l->path = NULL;
	signals_go();
}

int disk_lock_note(struct disk_lock *l, struct json_object *note)
{
	const char *text = note ? json_object_to_json_string(note) : "";
	ssize_t len = strlen(text);
	int err = 0;

	/* One that is cut off in between reads as "something was going on". */
	if (ftruncate(l->fd, 0) || pwrite(l->fd, text, len, 0) != len)
		err = errno ? errno : EIO;
	json_object_put(note);
	if (!err)
		return 0;
	return msg_fail_errno(EXIT_FAILED, err, "%s: cannot be written", l->path);
}

struct json_object *note_new(const char *command)
{
	struct json_object *note = json_object_new_object();

	json_object_object_add(note, "command",
			       json_object_new_string(command));
	return note;
}

bool note_is(struct json_object *note, const char *command)
{
	struct json_object *o;
	const char *text = NULL;

	if (note && json_object_object_get_ex(note, "command", &o))
		text = json_object_get_string(o);
	return text && !strcmp(text, command);
}

struct json_object *disk_lock_left(struct disk_lock *l)
{
	char *text = calloc(1, NOTE_MAX);
	struct json_object *note = NULL;
	ssize_t len = 0;

	if (text)
		len = pread(l->fd, text, NOTE_MAX - 1, 0);
	if (len > 0) {
		note = json_tokener_parse(text);
		if (!json_object_is_type(note, json_type_object)) {
			json_object_put(note);
			note = json_object_new_object();
		}
	}
	free(text);
	return note;
}

int disk_lock_each(int (*cb)(const char *name, void *arg), void *arg)
{
	DIR *dir = opendir(RUN_DIR);
	struct dirent *d;
	int ret = 0;

	while (dir && !ret && (d = readdir(dir))) {
		if (strncmp(d->d_name, LOCK_PREFIX, strlen(LOCK_PREFIX)))
			continue;
		ret = cb(d->d_name + strlen(LOCK_PREFIX), arg);
	}
	if (dir)
		closedir(dir);
	return ret;
}
