// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Layers that are given as open descriptors: fd:N, and /dev/fd/N, whose opening
 * would make another descriptor, with whatever access the file allows us. What
 * the descriptor may do caps what the layer may do.
 *
 * A descriptor that was closed when the program began could be any file of its
 * own by the time it is used: arg_layer_check() comes before all else is opened.
 */
#include "dmchain.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FD_PREFIX	"fd:"

/* The number behind one of the prefixes, or NULL. */
static const char *number_of(const char *arg)
{
	static const char * const prefixes[] = {
		FD_PREFIX, "/dev/fd/", "/proc/self/fd/",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (!strncmp(arg, prefixes[i], strlen(prefixes[i])))
			return arg + strlen(prefixes[i]);
	return NULL;
}

int arg_fd(const char *arg)
{
	const char *text = strcmp(arg, "/dev/stdin") ? number_of(arg) : "0";
	unsigned long n;

	if (!text || !*text || text[strspn(text, "0123456789")] ||
	    strlen(text) > 10)
		return -1;
	n = strtoul(text, NULL, 10);
	return n <= INT_MAX ? (int)n : -1;
}

bool arg_says_fd(const char *arg)
{
	return !strncmp(arg, FD_PREFIX, strlen(FD_PREFIX)) && !strchr(arg, '/');
}

int arg_layer_check(const char *arg)
{
	int fd = arg_fd(arg);

	if (fd < 0 && arg_says_fd(arg))
		return msg_fail(EXIT_USAGE,
				"%s: no descriptor; say fd: and its number, or ./%s if it is a file",
				arg, arg);
	if (fd < 0)
		return 0;
	if (fd == STDOUT_FILENO || fd == STDERR_FILENO)
		return msg_fail(EXIT_USAGE,
				"%s: what is printed would go into the layer; pass it as another descriptor",
				arg);
	/* Children, such as modprobe, have no business with it. */
	if (fcntl(fd, F_SETFD, FD_CLOEXEC))
		return msg_fail_errno(EXIT_USAGE, errno,
				      "%s: no open descriptor", arg);
	return 0;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	if (S_ISBLK(a->st_mode) && S_ISBLK(b->st_mode))
		return a->st_rdev == b->st_rdev;
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* The kernel tells a path even where it leads elsewhere, or nowhere, by now. */
char *fd_path(int fd)
{
	char link[64], path[PATH_MAX];
	struct stat st, named;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n > 0 && n < (ssize_t)sizeof(path) - 1 && path[0] == '/') {
		path[n] = '\0';
		if (!fstat(fd, &st) && !stat(path, &named) &&
		    same_file(&st, &named))
			return strdup(path);
	}
	errno = ENOENT;
	return NULL;
}

char *arg_path(const char *arg)
{
	int fd = arg_fd(arg);

	return fd < 0 ? strdup(arg) : fd_path(fd);
}

int arg_stat(const char *arg, struct stat *st)
{
	int fd = arg_fd(arg);

	return fd < 0 ? stat(arg, st) : fstat(fd, st);
}

int fd_check_access(int fd, const char *label, bool write)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return msg_fail_errno(EXIT_FAILED, errno, "%s: no open descriptor",
				      label);
	if ((flags & O_PATH) || (flags & O_ACCMODE) == O_WRONLY)
		return msg_fail(EXIT_REFUSED,
				"%s: the descriptor can't be read; pass one that is open for reading",
				label);
	if (!write)
		return 0;
	if ((flags & O_ACCMODE) != O_RDWR)
		return msg_fail(EXIT_REFUSED,
				"%s: the descriptor is open for reading only, so the layer can't be written; pass one that is open for both",
				label);
	/* All writes of a loop device would go to the end of the file. */
	if (flags & O_APPEND)
		return msg_fail(EXIT_REFUSED,
				"%s: the descriptor is open for appending; pass one without O_APPEND",
				label);
	return 0;
}

bool fd_read_only(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || (flags & O_ACCMODE) != O_RDWR || (flags & O_APPEND);
}

int fd_reopen(int fd, int flags)
{
	char path[64];
	int new;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	new = open(path, flags | O_CLOEXEC);
	/* A claim can't be shared, so a device must be opened once more. */
	if (new >= 0 || errno == EINVAL || errno == EBUSY || (flags & O_EXCL))
		return new;
	return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}
