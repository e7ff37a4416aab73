// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A new layer: a file, or a device that forgets what it was. It is complete and
 * durable before its first header tells that there is one.
 */
#include "offline.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

uint64_t device_bytes(const char *path)
{
	struct stat st;
	uint64_t bytes = 0;
	int fd;

	if (arg_stat(path, &st) || !S_ISBLK(st.st_mode))
		return 0;
	fd = arg_fd(path);
	fd = fd < 0 ? open(path, O_RDONLY | O_CLOEXEC) :
		      fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return 0;
	if (ioctl(fd, BLKGETSIZE64, &bytes))
		bytes = 0;
	close(fd);
	return bytes;
}

static int write_presence(struct image *img)
{
	static const uint64_t none[CHAIN_SECTOR_WORDS];
	const struct chain_header *h = &img->hdr;
	uint64_t i, sectors = chain_presence_sectors(h);
	uint8_t *buf = malloc(sectors * 512);
	int ret;

	if (!buf)
		return msg_fail(EXIT_FAILED, "%s: out of memory", img->label);
	for (i = 0; i < sectors; i++)
		chain_sector_encode(DM_CHAIN_PRESENCE_MAGIC, h->map_seed, i,
				    none, buf + i * 512);
	ret = image_write(img, buf, sectors * 512, h->presence_offset);
	free(buf);
	return ret;
}

/* Only an empty one: nothing says that its contents are given up. */
static int take_given(struct image *img)
{
	struct stat st;
	int ret = image_identify(img);

	if (!ret)
		ret = fd_check_access(img->given, img->label, true);
	if (ret)
		return ret;
	if (fstat(img->given, &st) || st.st_size)
		return msg_fail(EXIT_FAILED,
				"%s: the file is not empty; pass a descriptor of an empty one",
				img->label);
	if (!ftruncate(img->given, (off_t)chain_layer_bytes(&img->hdr)))
		return 0;
	return msg_fail_errno(EXIT_FAILED, errno,
			      "%s: can't make a file of %llu bytes", img->label,
			      (unsigned long long)chain_layer_bytes(&img->hdr));
}

static void unmake_file(struct image *img)
{
	if (img->given < 0)
		unlink(img->path);
	else if (ftruncate(img->given, 0))
		msg_warn("%s: can't be emptied", img->label);
}

static int make_file(struct image *img, struct stat *made)
{
	int fd = open(img->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0 && errno == EEXIST)
		return msg_fail(EXIT_FAILED,
				"%s: exists already; remove it or choose another name",
				img->label);
	if (fd < 0)
		return msg_fail_errno(errno == EACCES || errno == EROFS ?
				      EXIT_REFUSED : EXIT_FAILED, errno,
				      "%s: can't make it", img->label);
	if (!ftruncate(fd, (off_t)chain_layer_bytes(&img->hdr)) &&
	    !fstat(fd, made)) {
		close(fd);
		return 0;
	}
	msg_fail_errno(EXIT_FAILED, errno,
		       "%s: can't make a file of %llu bytes", img->label,
		       (unsigned long long)chain_layer_bytes(&img->hdr));
	close(fd);
	unlink(img->path);
	return -EXIT_FAILED;
}

static int device_too_small(const struct image *img)
{
	char has[32], needs[32];

	return msg_fail(EXIT_FAILED,
			"%s: the device has %s, a layer of this size needs %s; take a larger one",
			img->label, size_text(img->bytes, has),
			size_text(chain_layer_bytes(&img->hdr), needs));
}

/*
 * The first MiB has the header slots of a former life, and labels of others
 * (LVM, md, GPT, file systems), as have the last bytes of the device.
 */
static int wipe_device(struct image *img)
{
	uint64_t layer = chain_layer_bytes(&img->hdr);
	uint64_t end = img->bytes / 4096 * 4096;
	int ret;

	if (layer > img->bytes)
		return device_too_small(img);
	ret = image_zero(img, DM_CHAIN_PRESENCE_OFFSET, 0);
	if (!ret)
		ret = image_flush(img);
	if (!ret)
		ret = image_zero(img, DM_CHAIN_TRAILER_BYTES,
				 layer - DM_CHAIN_TRAILER_BYTES);
	if (!ret)
		ret = image_zero(img, DM_CHAIN_TRAILER_BYTES,
				 end - DM_CHAIN_TRAILER_BYTES);
	return ret;
}

/* @made: the file that was made, which need not be what is there by now */
static int prepare(struct image *img, const struct stat *made)
{
	int ret = image_open_file(img, IMAGE_WRITE);

	if (!ret && made->st_ino &&
	    (img->dev != made->st_dev || img->ino != made->st_ino))
		return msg_fail(EXIT_REFUSED,
				"%s: something else was put there meanwhile; see who writes to its folder",
				img->label);

	if (!ret && img->is_bdev)
		ret = wipe_device(img);
	if (!ret)
		ret = write_presence(img);
	return ret ? ret : image_flush(img);
}

int image_make(struct image *img, const char *path,
	       const struct chain_header *hdr)
{
	bool device = device_bytes(path);
	struct stat made = { 0 };
	int ret = image_init(img, path, DM_CHAIN_FORMAT_CHAIN, NULL);

	if (ret)
		return ret;
	img->hdr = *hdr;
	ret = device ? 0 : img->given >= 0 ? take_given(img) :
	      make_file(img, &made);
	if (ret) {
		image_close(img);
		return ret;
	}
	ret = prepare(img, &made);
	if (ret) {
		if (!device)
			unmake_file(img);
		image_close(img);
	}
	return ret;
}

int image_make_given(struct image *img, const char *path, int fd,
		     const struct chain_header *hdr)
{
	int ret = image_init(img, path, DM_CHAIN_FORMAT_CHAIN, NULL);

	if (ret)
		return ret;
	img->hdr = *hdr;
	img->given = fd;
	ret = take_given(img);
	if (!ret)
		ret = prepare(img, &(struct stat){ 0 });
	if (ret)
		image_close(img);
	return ret;
}

/* Without its folder's entry a file is lost, however durable itself. */
int folder_flush(const char *path)
{
	char *folder = strdup(path);
	char *slash = folder ? strrchr(folder, '/') : NULL;
	int fd = -1, ret = 0;

	if (slash) {
		slash[slash == folder] = '\0';
		fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (fd < 0 || fsync(fd))
		ret = msg_fail_errno(EXIT_FAILED, errno,
				     "%s: can't flush its folder", path);
	if (fd >= 0)
		close(fd);
	free(folder);
	return ret;
}

int image_renew(struct image *img)
{
	int ret;

	while (getrandom(&img->hdr.map_seed, sizeof(img->hdr.map_seed), 0) !=
	       sizeof(img->hdr.map_seed))
		;
	ret = write_presence(img);
	if (!ret)
		ret = image_write_trailer(img);
	if (!ret)
		ret = image_flush(img);
	return ret ? ret : image_write_header(img);
}

int image_make_header(struct image *img)
{
	int ret = image_write_trailer(img);

	if (!ret)
		ret = image_write_slots(img);
	/*
	 * What was given has its entry already, but who made it need not have
	 * flushed that. Without a name nobody finds it by one.
	 */
	if (!ret && !img->is_bdev && !img->nameless)
		ret = folder_flush(img->path);
	return ret;
}

int image_make_commit(struct image *img)
{
	img->hdr.generation = 1;
	return image_make_header(img);
}

void image_make_undo(struct image *img)
{
	if (!img->is_bdev)
		unmake_file(img);
	else if (!image_zero(img, DM_CHAIN_PRESENCE_OFFSET, 0))
		(void)image_flush(img);
	image_close(img);
}

/* --- Raw --- */

static int set_size(int fd, const char *path, uint64_t bytes)
{
	struct stat st;

	if (fstat(fd, &st) || st.st_size)
		return msg_fail(EXIT_FAILED,
				"%s: the file is not empty; say --existing if it was made for this",
				path);
	if (!ftruncate(fd, (off_t)bytes) && !fsync(fd))
		return 0;
	return msg_fail_errno(EXIT_FAILED, errno,
			      "%s: can't make a file of %llu bytes", path,
			      (unsigned long long)bytes);
}

int image_make_raw(const char *arg, const char *path, uint64_t bytes)
{
	int ret, fd = arg_fd(arg);

	if (fd >= 0) {
		ret = set_size(fd, path, bytes);
		return ret ? ret : folder_flush(path);
	}
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return msg_fail_errno(EXIT_FAILED, errno, "%s: can't make it",
				      path);
	ret = set_size(fd, path, bytes);
	if (!ret)
		ret = folder_flush(path);
	close(fd);
	if (ret)
		unlink(path);
	return ret;
}
