// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the kernel said. A table that is refused gives an errno only; the
 * reason is in the kernel's log.
 */
#include "online.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define RECORD_MAX 8192

int klog_mark(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0 && lseek(fd, 0, SEEK_END) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/*
 * "device-mapper: chain: 253:0: REASON", or by dm core of what the target told it:
 * "device-mapper: table: 253:0: chain: REASON (-EINVAL)". The number is the disk's.
 */
static const char *reason_in(const char *text, dev_t disk, bool *core)
{
	unsigned int ma, mi;
	const char *at;
	int skip = 0;

	*core = !strncmp(text, "device-mapper: table: ", 22);
	if (!*core && strncmp(text, "device-mapper: chain: ", 22))
		return NULL;
	text += 22;
	if (sscanf(text, "%u:%u: %n", &ma, &mi, &skip) != 2 || !skip ||
	    makedev(ma, mi) != disk)
		return NULL;
	text += skip;
	if (!*core)
		return text;
	at = strstr(text, "chain: ");
	return at == text ? at + 7 : NULL;
}

static void copy_line(char *buf, size_t len, const char *text)
{
	size_t i;

	for (i = 0; i + 1 < len && text[i] && text[i] != '\n'; i++)
		buf[i] = isprint((unsigned char)text[i]) ? text[i] : '?';
	buf[i] = 0;
}

bool klog_reason(int fd, dev_t disk, char *buf, size_t len)
{
	char record[RECORD_MAX + 1];
	bool have_own = false;
	ssize_t n;

	*buf = 0;
	if (fd < 0)
		return false;
	while ((n = read(fd, record, RECORD_MAX)) > 0 ||
	       (n < 0 && errno == EPIPE)) {
		const char *text;
		bool core;

		if (n < 0)
			continue;
		record[n] = 0;
		text = strchr(record, ';');
		text = text ? reason_in(text + 1, disk, &core) : NULL;
		/* The target's own last word says more than dm core's. */
		if (!text || (core && have_own))
			continue;
		have_own = !core;
		copy_line(buf, len, text);
	}
	close(fd);
	return *buf;
}
