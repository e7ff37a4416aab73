// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The markers that keep udev's hands off the devices of layers, in
 * /run/dmchain/layers.
 *
 * Each device that is a layer has one, and it goes when the device is none any
 * more. To look for such ones takes the longer the more disks are open, so it is
 * not done each time: a command cleans up after itself, and the kernel counts what
 * ceases to be a layer. While that count stays as it was at the last look, and no
 * command has been killed since, there is nothing to be found.
 */
#include "online.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define MARKER_CAP	"read-only\n"
#define MARKER_FILE	16	/* where a marker says which file its loop has */
#define LOOPS_LOCK	RUN_DIR "/loops.lock"	/* struct swept is in it */

int loops_lock(void)
{
	int fd, ret = run_dir("layers");

	if (ret)
		return ret;
	fd = open(LOOPS_LOCK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return msg_fail_errno(EXIT_FAILED, errno, LOOPS_LOCK
				      ": cannot be opened");
	while (flock(fd, LOCK_EX))
		if (errno != EINTR) {
			ret = msg_fail_errno(EXIT_FAILED, errno, LOOPS_LOCK
					     ": cannot be locked");
			close(fd);
			return ret;
		}
	return fd;
}

/*
 * Markers. The one who sets a marker keeps it locked (shared) while its device
 * may not be in a table yet: till then nobody may clean it away. Exit and
 * SIGKILL drop the lock, too.
 */
struct marker {
	dev_t dev;
	int fd;
	bool gone;	/* it was a layer, of a disk that has been closed */
};

static struct marker *mine;
static unsigned int nr_mine;

static int marker_keep(dev_t dev, int fd, bool gone)
{
	struct marker *more = realloc(mine, (nr_mine + 1) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	mine = more;
	mine[nr_mine++] = (struct marker){ .dev = dev, .fd = fd, .gone = gone };
	return 0;
}

static void marker_path(dev_t dev, char *path, size_t len)
{
	snprintf(path, len, MARKER_DIR "/%u:%u", major(dev), minor(dev));
}

int marker_set(dev_t dev)
{
	char path[64];
	int fd;

	marker_path(dev, path, sizeof(path));
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return msg_fail_errno(EXIT_FAILED, errno, "%s: cannot be made",
				      path);
	if (!flock(fd, LOCK_SH | LOCK_NB) && !marker_keep(dev, fd, false))
		return 0;
	close(fd);
	return msg_fail(EXIT_FAILED, "%s: cannot be locked", path);
}

/* It's no hint to the file any more that its loop had. */
static void drop_hint(dev_t dev, int fd)
{
	char text[LOOP_INDEX_KEY] = "";

	if (pread(fd, text, sizeof(text) - 1, MARKER_FILE) > 0)
		loop_index_drop(dev, text);
}

int marker_empty(void)
{
	const struct marker *m = &mine[nr_mine - 1];

	drop_hint(m->dev, m->fd);
	return ftruncate(m->fd, 0) ? -errno : 0;
}

int marker_index(dev_t loop, dev_t dev, ino_t ino)
{
	char text[LOOP_INDEX_KEY] = "";
	int err = loop_index_add(loop, dev, ino);
	ssize_t n;

	loop_index_key(dev, ino, text, sizeof(text));
	/* Over what may be left of another file's. */
	n = err ? 0 : pwrite(mine[nr_mine - 1].fd, text, sizeof(text),
			     MARKER_FILE);
	if (n == (ssize_t)sizeof(text))
		return 0;
	if (!err)
		err = n < 0 ? -errno : -ENOSPC;
	return msg_fail_errno(EXIT_FAILED, -err, MARKER_DIR "/%u:%u: cannot be written",
			      major(loop), minor(loop));
}

int marker_set_file(dev_t dev)
{
	char path[PATH_MAX];
	int ret = marker_set(dev);
	dev_t fdev;
	ino_t ino;

	if (!ret && loop_backing(dev, path, sizeof(path), &fdev, &ino))
		ret = marker_index(dev, fdev, ino);
	return ret;
}

int layer_marker_set(dev_t dev)
{
	int lock, ret = loop_index_ready();

	lock = ret ? ret : loops_lock();
	if (lock < 0)
		return lock;
	ret = marker_set_file(dev);
	close(lock);
	return ret;
}

/* Markers of before there was an index. */
int loop_index_ready(void)
{
	struct dirent *d;
	unsigned int ma, mi;
	int lock, ret;
	DIR *dir;

	if (loop_index_is_ready())
		return 0;
	ret = run_dir("loops");
	lock = ret ? ret : loops_lock();
	if (lock < 0)
		return lock;
	dir = opendir(MARKER_DIR);
	while (dir && !ret && (d = readdir(dir)))
		if (sscanf(d->d_name, "%u:%u", &ma, &mi) == 2)
			ret = marker_set_file(makedev(ma, mi));
	if (dir)
		closedir(dir);
	if (!ret)
		ret = loop_index_set_ready();
	close(lock);
	return ret;
}

int layer_cap_set(dev_t dev)
{
	char path[64];
	int fd, err = 0;

	marker_path(dev, path, sizeof(path));
	fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || pwrite(fd, MARKER_CAP, strlen(MARKER_CAP), 0) < 0)
		err = errno;
	if (fd >= 0)
		close(fd);
	if (!err)
		return 0;
	return msg_fail_errno(EXIT_FAILED, err, "%s: cannot be written", path);
}

bool layer_capped(dev_t dev)
{
	char path[64], c = 0;
	int fd;

	marker_path(dev, path, sizeof(path));
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return false;
	if (pread(fd, &c, 1, 0) != 1)
		c = 0;
	close(fd);
	return c == MARKER_CAP[0];
}

/* --- What is to be cleaned up --- */

/*
 * @instance: of the module
 * @gone: what the kernel had counted
 * @at: when it was looked at
 */
struct swept {
	struct chain_id instance;
	uint64_t gone;
	struct timespec at;
};

/* Return: 1: the device is no layer, and its marker has gone; 0: it is one; -1: it stays */
static int marker_clean(dev_t dev)
{
	char path[64];
	int fd, ret = -1;

	if (device_held(dev))
		return 0;
	if (loop_going(dev))
		return -1;
	marker_path(dev, path, sizeof(path));
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? 0 : -1;
	if (!flock(fd, LOCK_EX | LOCK_NB)) {
		drop_hint(dev, fd);
		ret = unlink(path) ? -1 : 1;
	}
	close(fd);
	return ret;
}

/* What the kernel holds is a layer: only the others are looked at. Return: all clean */
static bool sweep(struct loops *l)
{
	bool all = !loops_need(l);
	unsigned int i;

	for (i = 0; all && i < l->nr_marked; i++)
		if (!loops_held(l, l->marked[i]))
			all &= marker_clean(l->marked[i]) == 1;
	return all;
}

void marker_gone(dev_t dev)
{
	/* If there is no memory for it, it will be missed, and looked for. */
	(void)marker_keep(dev, -1, true);
}

/* What has ceased to be a layer. Return: nothing stays that should not */
static bool clean_mine(uint64_t *gone)
{
	bool all = true;
	unsigned int i;
	int ret;

	*gone = 0;
	for (i = 0; i < nr_mine; i++) {
		ret = marker_clean(mine[i].dev);
		*gone += ret == 1 && mine[i].gone;
		all &= ret >= 0;
	}
	nr_mine = 0;
	free(mine);
	mine = NULL;
	return all;
}

static bool swept_now(struct loops *l, struct swept *now)
{
	int ctl = loops_ctl(l);

	memset(now, 0, sizeof(*now));
	/* As files have it */
	clock_gettime(CLOCK_REALTIME_COARSE, &now->at);
	return ctl >= 0 && !control_gone(ctl, &now->instance, &now->gone) && now->gone;
}

/* It is kept in the loops' lock, which who looks and who notes has. */
static bool read_swept(int lock, struct swept *was)
{
	return pread(lock, was, sizeof(*was), 0) == (ssize_t)sizeof(*was);
}

static void note_swept(int lock, const struct swept *now)
{
	if (pwrite(lock, now, sizeof(*now), 0) != (ssize_t)sizeof(*now))
		(void)!ftruncate(lock, 0);
}

/* Is what has gone since the last look, before which nobody was killed, @gone? */
static bool accounted(int lock, const struct swept *now, uint64_t gone)
{
	struct swept was;
	bool others;

	return read_swept(lock, &was) && chain_id_equal(&was.instance, &now->instance) &&
	       was.gone + gone == now->gone && !disk_locks_left(&was.at, &others);
}

/*
 * A look while others are at work is none: they may be killed after it, and have been
 * there before it. Who begins after it will be found by the time of his lock; if the
 * clock was set back since, only by the kernel's count, or by recover.
 */
static void clean(int lock, struct loops *l, bool all)
{
	struct swept now;
	uint64_t gone;
	bool others, known = swept_now(l, &now);

	(void)disk_locks_left(&now.at, &others);
	if (clean_mine(&gone) && known && !all && accounted(lock, &now, gone)) {
		if (gone && !others)
			note_swept(lock, &now);
	} else if (sweep(l) && known && !others) {
		note_swept(lock, &now);
	} else {
		(void)!ftruncate(lock, 0);
	}
}

/* From now on they are markers like all others. */
static void let_go(void)
{
	unsigned int i;

	for (i = 0; i < nr_mine; i++) {
		if (mine[i].fd >= 0)
			close(mine[i].fd);
		mine[i].fd = -1;
	}
}

void layer_markers_clean(bool all)
{
	struct loops l = { 0 };
	int lock;

	let_go();
	if (access(MARKER_DIR, F_OK) || loop_index_ready())
		return;
	lock = open(LOOPS_LOCK, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (lock >= 0 && !flock(lock, LOCK_EX))
		clean(lock, &l, all);
	loops_free(&l);
	if (lock >= 0)
		close(lock);
}
