// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Bytes of a layer. All I/O goes past the page cache, in aligned windows
 * through one buffer: the cache of a loop device or an LV that dm holds knows
 * nothing of what dm has written.
 */
#include "offline.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define WINDOW	(1024 * 1024)
#define ALIGN	4096

static uint8_t window[WINDOW] __attribute__((aligned(ALIGN)));

static int io_failed(const struct image *img, const char *what,
		     uint64_t offset, int err)
{
	return msg_fail_errno(EXIT_FAILED, err, "%s: can't %s at byte %llu",
			      img->label, what, (unsigned long long)offset);
}

/* Up to @len bytes into the window, fewer only at the end; or -errno. */
static ssize_t read_window(struct image *img, size_t len, uint64_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(img->fd, window + done, len - done,
				  (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (size_t)n;
		/* An odd count can only be the end, and no O_DIRECT goes on. */
		if (!n || n % 512)
			break;
	}
	return (ssize_t)done;
}

static int write_window(struct image *img, size_t len, uint64_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(img->fd, window + done, len - done,
				   (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return io_failed(img, "write", offset + done,
					 n ? errno : ENOSPC);
		done += (size_t)n;
	}
	return 0;
}

/* What part of [offset, offset + len) the next window takes. */
static size_t window_part(uint64_t offset, size_t len)
{
	size_t room = WINDOW - offset % ALIGN;

	return len < room ? len : room;
}

static size_t window_bytes(uint64_t offset, size_t part)
{
	return (offset % ALIGN + part + ALIGN - 1) / ALIGN * ALIGN;
}

int image_try_read(struct image *img, void *buf, size_t len, uint64_t offset)
{
	while (len) {
		size_t part = window_part(offset, len);
		size_t skip = offset % ALIGN;
		ssize_t n = read_window(img, window_bytes(offset, part),
					offset - skip);

		if (n < 0)
			return (int)n;
		if ((size_t)n < skip + part)
			return -ENODATA;
		memcpy(buf, window + skip, part);
		buf = (uint8_t *)buf + part;
		offset += part;
		len -= part;
	}
	return 0;
}

bool all_zero(const uint8_t *buf, size_t len)
{
	return !*buf && !memcmp(buf, buf + 1, len - 1);
}

int image_read(struct image *img, void *buf, size_t len, uint64_t offset)
{
	int err = image_try_read(img, buf, len, offset);

	if (err == -ENODATA)
		return msg_fail(EXIT_IMAGE, "%s: ends before byte %llu",
				img->label, (unsigned long long)offset + len);
	return err ? io_failed(img, "read", offset, -err) : 0;
}

/* The window's edges that a write leaves alone must hold what is there. */
static int fill_edges(struct image *img, uint64_t offset, size_t part)
{
	size_t bytes = window_bytes(offset, part);
	ssize_t n;

	if (part == bytes)
		return 0;
	n = read_window(img, bytes, offset - offset % ALIGN);
	if (n < 0)
		return io_failed(img, "read", offset, (int)-n);
	memset(window + n, 0, bytes - (size_t)n);
	return 0;
}

/* Of a window that the image ends in, what is not behind its end. */
static size_t write_size(const struct image *img, uint64_t offset, size_t part)
{
	size_t bytes = window_bytes(offset, part);
	uint64_t start = offset - offset % ALIGN;

	if (offset + part > img->bytes || start + bytes <= img->bytes ||
	    img->bytes % 512)
		return bytes;
	return (size_t)(img->bytes - start);
}

/*
 * A raw layer may end anywhere, and is known by its size: no write makes it longer.
 * Where sectors have 4 KiB, less than that can't go past the page cache of a file.
 */
static int write_tail(struct image *img, size_t len, uint64_t offset)
{
	int flags = img->is_bdev ? 0 : fcntl(img->fd, F_GETFL), ret;

	if (flags > 0 && fcntl(img->fd, F_SETFL, flags & ~O_DIRECT))
		return io_failed(img, "write", offset, errno);
	ret = write_window(img, len, offset);
	if (flags > 0)
		(void)fcntl(img->fd, F_SETFL, flags);
	return ret;
}

static int write_out(struct image *img, size_t len, uint64_t offset)
{
	return len % ALIGN ? write_tail(img, len, offset) :
			     write_window(img, len, offset);
}

/* @buf NULL: zeroes. */
static int write_bytes(struct image *img, const uint8_t *buf, uint64_t len,
		       uint64_t offset)
{
	while (len) {
		size_t part = window_part(offset, len < WINDOW ? len : WINDOW);
		size_t skip = offset % ALIGN;
		int ret = fill_edges(img, offset, part);

		if (ret)
			return ret;
		if (buf)
			memcpy(window + skip, buf, part);
		else
			memset(window + skip, 0, part);
		ret = write_out(img, write_size(img, offset, part),
				offset - skip);
		if (ret)
			return ret;
		buf = buf ? buf + part : NULL;
		offset += part;
		len -= part;
	}
	return 0;
}

int image_write(struct image *img, const void *buf, size_t len, uint64_t offset)
{
	return write_bytes(img, buf, len, offset);
}

int image_zero(struct image *img, uint64_t len, uint64_t offset)
{
	return write_bytes(img, NULL, len, offset);
}

int image_flush(struct image *img)
{
	if (fsync(img->fd))
		return msg_fail_errno(EXIT_FAILED, errno,
				      "%s: can't flush", img->label);
	return 0;
}
