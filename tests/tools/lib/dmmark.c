// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../common.h"
#include "dmmark.h"

struct mark_msg {
	struct dm_ioctl io;
	struct dm_target_msg msg;
	char text[256];
};

int dm_mark(const char *name, const char *text)
{
	struct mark_msg m = {
		.io.version = { 4, 0, 0 },
		.io.data_size = sizeof(m),
		.io.data_start = offsetof(struct mark_msg, msg),
	};
	int fd, r;

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
