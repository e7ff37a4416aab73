// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which loop device has a file?
 *
 * Each file has one, and the kernel knows no way from a file to it: without an
 * index all loop devices have to be asked, which takes longer with each disk that
 * is open. Here a link in /run/dmchain/loops, named after the file's device and
 * inode, has the loop's number. It is made, under the loops' lock, with the marker
 * of the loop, and goes with it; killed in between, it is a hint that is wrong: what
 * it names is asked before it is believed.
 *
 * That a file is not in the index means that no loop has it of those that are both
 * marked and held by the kernel, which can't get another file meanwhile. All others
 * have to be looked at: somebody else made them. (One that somebody made, with a
 * table of his own, on the number of a marker that a killed command left would be
 * taken for indexed, till the next command here has cleaned that away.)
 */
#include "online.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/major.h>

#define INDEX_DIR	RUN_DIR "/loops"
#define READY		INDEX_DIR "/ready"
#define MANY		"many"		/* in place of a number */

void loop_index_key(dev_t dev, ino_t ino, char *text, size_t len)
{
	snprintf(text, len, "%u:%u:%llu", major(dev), minor(dev), (unsigned long long)ino);
}

static void entry_path(const char *key, char *path, size_t len)
{
	snprintf(path, len, INDEX_DIR "/%s", key);
}

static bool entry_read(const char *key, char *text, size_t len)
{
	char path[128];
	ssize_t n;

	entry_path(key, path, sizeof(path));
	n = readlink(path, text, len - 1);
	if (n < 0)
		return false;
	text[n] = 0;
	return true;
}

static bool has_file(dev_t loop, dev_t dev, ino_t ino)
{
	char path[PATH_MAX];
	dev_t fdev;
	ino_t fino;

	return loop_backing(loop, path, sizeof(path), &fdev, &fino) &&
	       fdev == dev && fino == ino;
}

enum loop_known loop_known(dev_t dev, ino_t ino, dev_t *loop)
{
	char key[LOOP_INDEX_KEY], text[32];
	unsigned int ma, mi;

	loop_index_key(dev, ino, key, sizeof(key));
	if (!entry_read(key, text, sizeof(text)))
		return LOOP_KNOWN_NONE;
	if (sscanf(text, "%u:%u", &ma, &mi) != 2)
		return LOOP_KNOWN_MANY;
	*loop = makedev(ma, mi);
	return has_file(*loop, dev, ino) ? LOOP_KNOWN_ONE : LOOP_KNOWN_NONE;
}

int loop_index_add(dev_t loop, dev_t dev, ino_t ino)
{
	char key[LOOP_INDEX_KEY], path[128], text[32];
	dev_t other;
	enum loop_known known = loop_known(dev, ino, &other);

	if (known == LOOP_KNOWN_MANY || (known == LOOP_KNOWN_ONE && other == loop))
		return 0;
	snprintf(text, sizeof(text), "%u:%u", major(loop), minor(loop));
	loop_index_key(dev, ino, key, sizeof(key));
	entry_path(key, path, sizeof(path));
	if (unlink(path) && errno != ENOENT)
		return -errno;
	return symlink(known == LOOP_KNOWN_ONE ? MANY : text, path) ? -errno : 0;
}

void loop_index_drop(dev_t loop, const char *key)
{
	char path[128], text[32];
	unsigned int ma, mi;

	/* Which of several has gone doesn't matter to who looks at all. */
	if (strchr(key, '/') || !entry_read(key, text, sizeof(text)) ||
	    sscanf(text, "%u:%u", &ma, &mi) != 2 || makedev(ma, mi) != loop)
		return;
	entry_path(key, path, sizeof(path));
	unlink(path);
}

bool loop_index_is_ready(void)
{
	return !access(READY, F_OK);
}

int loop_index_set_ready(void)
{
	int fd = open(READY, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);

	if (fd < 0)
		return msg_fail_errno(EXIT_FAILED, errno, READY ": cannot be made");
	close(fd);
	return 0;
}

/* What is held, what is marked. */

static int by_number(const void *a, const void *b)
{
	dev_t x = *(const dev_t *)a, y = *(const dev_t *)b;

	return x < y ? -1 : x > y;
}

static bool has(const dev_t *devs, unsigned int nr, dev_t dev)
{
	return nr && bsearch(&dev, devs, nr, sizeof(dev), by_number);
}

static int read_held(struct loops *l)
{
	int ctl = loops_ctl(l), ret;
	unsigned int i;

	if (ctl < 0)
		return ctl;
	ret = control_holders(ctl, 0, &l->holders, &l->nr);
	if (ret)
		return ret;
	l->held = malloc((l->nr + 1) * sizeof(*l->held));
	if (!l->held)
		return msg_fail(EXIT_FAILED, "out of memory");
	for (i = 0; i < l->nr; i++) {
		dev_t dev = makedev(l->holders[i].major, l->holders[i].minor);

		if (!l->nr_held || l->held[l->nr_held - 1] != dev)
			l->held[l->nr_held++] = dev;
	}
	qsort(l->held, l->nr_held, sizeof(*l->held), by_number);
	return 0;
}

static int add_marked(struct loops *l, const char *name, unsigned int *room)
{
	unsigned long ma, mi;
	dev_t *more;
	char *end;

	/* There are thousands of them: not by sscanf(). */
	ma = strtoul(name, &end, 10);
	if (end == name || *end != ':')
		return 0;
	mi = strtoul(end + 1, &end, 10);
	if (*end)
		return 0;
	if (l->nr_marked == *room) {
		*room = *room ? 2 * *room : 64;
		more = realloc(l->marked, *room * sizeof(*more));
		if (!more)
			return msg_fail(EXIT_FAILED, "out of memory");
		l->marked = more;
	}
	l->marked[l->nr_marked++] = makedev(ma, mi);
	return 0;
}

static int read_marked(struct loops *l)
{
	DIR *dir = opendir(MARKER_DIR);
	unsigned int room = 0;
	struct dirent *d;
	int ret = 0;

	while (dir && !ret && (d = readdir(dir)))
		ret = add_marked(l, d->d_name, &room);
	if (dir)
		closedir(dir);
	if (l->nr_marked)
		qsort(l->marked, l->nr_marked, sizeof(*l->marked), by_number);
	return ret;
}

int loops_ctl(struct loops *l)
{
	if (!l->has_ctl)
		l->ctl = module_present() ? control_open() : -ENODEV;
	l->has_ctl = l->ctl >= 0;
	return l->ctl;
}

int loops_need(struct loops *l)
{
	int ret;

	if (l->is_read)
		return 0;
	/* In this order: one that is marked between the two is looked at. */
	ret = read_marked(l);
	if (!ret && module_present())
		ret = read_held(l);
	l->is_read = !ret;
	return ret;
}

void loops_free(struct loops *l)
{
	if (l->has_ctl)
		close(l->ctl);
	free(l->holders);
	free(l->held);
	free(l->marked);
	memset(l, 0, sizeof(*l));
}

bool loops_held(const struct loops *l, dev_t dev)
{
	return has(l->held, l->nr_held, dev);
}

bool loops_indexed(const struct loops *l, dev_t dev)
{
	return major(dev) == LOOP_MAJOR && has(l->marked, l->nr_marked, dev) &&
	       loops_held(l, dev);
}
