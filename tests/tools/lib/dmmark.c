// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../common.h"
#include "dmmark.h"

struct mark_msg {
	struct dm_ioctl io;
	struct dm_target_msg msg;
	char text[256];
};

int cut_tell(const char *path, const char *line, u64 *number)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), r = 0;
	char answer[32] = "", *end;

	if (fd < 0)
		return -errno;
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	if (connect(fd, (void *)&un, sizeof(un)) ||
	    send(fd, line, strlen(line), MSG_NOSIGNAL) < 0 ||
	    recv(fd, answer, sizeof(answer) - 1, 0) < 0)
		r = -errno;
	close(fd);
	*number = strtoull(answer, &end, 10);
	return r || end != answer ? r : -EPROTO;
}

static int cut_mark(const char *path, const char *text)
{
	char line[256];
	u64 number;

	snprintf(line, sizeof(line), "mark %s", text);
	return cut_tell(path, line, &number);
}

int dm_mark(const char *name, const char *text)
{
	struct mark_msg m = {
		.io.version = { 4, 0, 0 },
		.io.data_size = sizeof(m),
		.io.data_start = offsetof(struct mark_msg, msg),
	};
	int fd, r;

	if (strchr(name, '/'))
		return cut_mark(name, text);
	/* the text begins where the fixed part of the message ends */
	_Static_assert(offsetof(struct mark_msg, text) ==
		       offsetof(struct mark_msg, msg) +
		       offsetof(struct dm_target_msg, message), "message layout");
	snprintf(m.io.name, sizeof(m.io.name), "%s", name);
	snprintf(m.text, sizeof(m.text), "mark %s", text);
	fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = ioctl(fd, DM_TARGET_MSG, &m) ? -errno : 0;
	close(fd);
	return r;
}
