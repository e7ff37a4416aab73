// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * New files that nobody sees half made: they have no name until they are complete.
 * Whatever ends us, a kill or a power cut, what has no name is gone then. Where a
 * file system can't do that (NFS), the name says that it is a part only.
 */
#include "convert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOWEST_FD	10	/* a server is given its sockets as 3 and on */

static int exists(const char *path)
{
	return msg_fail(EXIT_FAILED,
			"%s: exists already; remove it or choose another name",
			path);
}

int newfile_free(const char *path)
{
	struct stat st;

	return lstat(path, &st) ? 0 : exists(path);
}

static int open_part(struct newfile *f)
{
	int fd;

	if (asprintf(&f->part, "%s.part", f->path) < 0) {
		f->part = NULL;
		return msg_fail(EXIT_FAILED, "%s: out of memory", f->path);
	}
	fd = open(f->part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd >= 0)
		return fd;
	if (errno == EEXIST)
		fd = msg_fail(EXIT_FAILED,
			      "%s: is there, left by one that was cut off, or still being made; if nobody makes it, remove it",
			      f->part);
	else
		fd = msg_fail_errno(EXIT_FAILED, errno, "%s: can't make it",
				    f->part);
	free(f->part);
	f->part = NULL;
	return fd;
}

static int open_nameless(struct newfile *f)
{
	char *folder = convert_folder(f->path);
	int fd;

	if (!folder)
		return msg_fail(EXIT_FAILED, "%s: out of memory", f->path);
	fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	free(folder);
	if (fd >= 0)
		return fd;
	/* An old kernel takes it for a folder that is to be written. */
	if (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)
		return open_part(f);
	return msg_fail_errno(errno == EACCES || errno == EROFS ? EXIT_REFUSED :
			      EXIT_FAILED, errno, "%s: can't make it", f->path);
}

int newfile_make(struct newfile *f, const char *path)
{
	int fd, ret = newfile_free(path);

	memset(f, 0, sizeof(*f));
	f->fd = -1;
	if (ret)
		return ret;
	f->path = path_absolute(path);
	if (!f->path)
		return msg_fail_errno(EXIT_FAILED, errno, "%s: can't make it", path);
	fd = open_nameless(f);
	if (fd < 0)
		return fd;
	/* For programs that are to work on it: they are told its number. */
	f->fd = fcntl(fd, F_DUPFD, LOWEST_FD);
	if (f->fd < 0)
		ret = msg_fail_errno(EXIT_FAILED, errno, "%s: can't make it", path);
	close(fd);
	return ret;
}

/* A name that somebody has taken meanwhile is not taken from him. */
static int give_name(const struct newfile *f)
{
	char from[40];

	if (!f->part) {
		snprintf(from, sizeof(from), "/proc/self/fd/%d", f->fd);
		return linkat(AT_FDCWD, from, AT_FDCWD, f->path,
			      AT_SYMLINK_FOLLOW);
	}
	if (!renameat2(AT_FDCWD, f->part, AT_FDCWD, f->path, RENAME_NOREPLACE))
		return 0;
	if (errno == EEXIST || link(f->part, f->path))
		return -1;
	return unlink(f->part);
}

int newfile_place(struct newfile *f)
{
	if (fsync(f->fd))
		return msg_fail_errno(EXIT_FAILED, errno, "%s: can't flush",
				      f->path);
	if (give_name(f))
		return errno == EEXIST ? exists(f->path) :
		       msg_fail_errno(EXIT_FAILED, errno,
				      "%s: can't get its name", f->path);
	f->placed = true;
	return folder_flush(f->path);
}

void newfile_remove(struct newfile *f)
{
	if (f->placed)
		unlink(f->path);
	f->placed = false;
}

void newfile_close(struct newfile *f)
{
	if (f->part && !f->placed)
		unlink(f->part);
	if (f->fd >= 0 && f->path)
		close(f->fd);
	free(f->part);
	free(f->path);
	memset(f, 0, sizeof(*f));
	f->fd = -1;
}
