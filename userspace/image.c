// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A layer's file or device while no open disk writes it: who may have it, and
 * its header in two slots.
 */
#include "offline.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOCK_PATIENCE_MS	5000
#define LOCK_STEP_MS		50

static const uint64_t slot_offset[2] = {
	DM_CHAIN_SLOT0_OFFSET,
	DM_CHAIN_SLOT1_OFFSET,
};

/* In use or not allowed: for somebody to give leave. Else it just failed. */
static int open_code(int err)
{
	switch (err) {
	case EACCES:
	case EPERM:
	case EROFS:
	case EBUSY:
	case ETXTBSY:
		return EXIT_REFUSED;
	default:
		return EXIT_FAILED;
	}
}

int image_identify(struct image *img)
{
	struct stat st;

	if (img->given >= 0 ? fstat(img->given, &st) : stat(img->path, &st))
		return msg_fail_errno(open_code(errno), errno, "%s: can't open",
				      img->label);
	img->is_bdev = S_ISBLK(st.st_mode);
	if (!img->is_bdev && !S_ISREG(st.st_mode))
		return msg_fail(EXIT_IMAGE,
				"%s: neither a file nor a block device",
				img->label);
	img->dev = img->is_bdev ? st.st_rdev : st.st_dev;
	img->ino = img->is_bdev ? 0 : st.st_ino;
	return 0;
}

/* Only the kernel writes what it has open. */
static int refuse_holder(struct image *img)
{
	char *name = NULL;
	int ret = disk_holding(img, false, &name);

	if (ret || !name)
		return ret;
	ret = msg_fail(EXIT_REFUSED,
		       "%s: in use, a layer of disk %s; close that first (dmchain close %s)",
		       img->label, name, name);
	free(name);
	return ret;
}

/* Some file systems have no O_DIRECT; then at least nothing old is read. */
static int open_flags(struct image *img, int flags)
{
	return img->given >= 0 ? fd_reopen(img->given, flags) :
				 open(img->path, flags | O_CLOEXEC);
}

static int open_fd(struct image *img, int flags)
{
	int fd = open_flags(img, flags | O_DIRECT);

	if (fd >= 0 || errno != EINVAL)
		return fd;
	fd = open_flags(img, flags);
	if (fd < 0)
		return fd;
	if (img->is_bdev)
		(void)ioctl(fd, BLKFLSBUF, 0);
	else
		(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	return fd;
}

static bool read_only_will_do(int flags)
{
	return (flags & IMAGE_TRY_WRITE) &&
	       (errno == EROFS || errno == EACCES || errno == EPERM);
}

/* A link that was swapped since the look at it. */
static int check_identity(const struct image *img)
{
	struct stat st;

	if (!fstat(img->fd, &st) &&
	    (img->is_bdev ? S_ISBLK(st.st_mode) && st.st_rdev == img->dev :
			    st.st_dev == img->dev && st.st_ino == img->ino))
		return 0;
	return msg_fail(EXIT_REFUSED,
			"%s: something else was put there meanwhile; see who writes to its folder",
			img->label);
}

static int open_file(struct image *img, int flags)
{
	bool write = flags & (IMAGE_WRITE | IMAGE_TRY_WRITE);
	int ret;

	if (img->given >= 0 && (flags & IMAGE_TRY_WRITE))
		write = !fd_read_only(img->given);
	ret = img->given < 0 ? 0 :
	      fd_check_access(img->given, img->label, write);
	if (!ret && write)
		ret = refuse_holder(img);
	if (ret)
		return ret;
	img->fd = open_fd(img, !write ? O_RDONLY :
			  O_RDWR | (img->is_bdev ? O_EXCL : 0));
	if (img->fd < 0 && write && read_only_will_do(flags)) {
		write = false;
		img->fd = open_fd(img, O_RDONLY);
	}
	if (img->fd < 0 && errno == EBUSY)
		return msg_fail(EXIT_REFUSED,
				"%s: in use (mounted, or claimed by another driver); free it first",
				img->label);
	if (img->fd < 0)
		return msg_fail_errno(open_code(errno), errno,
				      "%s: can't open%s", img->label,
				      write ? " for writing" : "");
	img->writable = write;
	return check_identity(img);
}

/* Others hold the lock for moments, so some patience is worth it. */
static int lock_file(struct image *img)
{
	static const struct timespec step = { .tv_nsec = LOCK_STEP_MS * 1000000L };
	int op = (img->writable ? LOCK_EX : LOCK_SH) | LOCK_NB;
	int waited;

	for (waited = 0; flock(img->fd, op); waited += LOCK_STEP_MS) {
		/* Where there are no locks, there is nobody to wait for. */
		if (errno != EWOULDBLOCK && errno != EINTR)
			return 0;
		if (waited >= LOCK_PATIENCE_MS)
			return msg_fail(EXIT_REFUSED,
					"%s: in use by another command; try again when it is done",
					img->label);
		nanosleep(&step, NULL);
	}
	return 0;
}

static int set_bytes(struct image *img)
{
	struct stat st;

	if (img->is_bdev) {
		if (ioctl(img->fd, BLKGETSIZE64, &img->bytes))
			return msg_fail_errno(EXIT_FAILED, errno,
					      "%s: can't tell its size",
					      img->label);
		return 0;
	}
	if (fstat(img->fd, &st))
		return msg_fail_errno(EXIT_FAILED, errno,
				      "%s: can't tell its size", img->label);
	img->bytes = (uint64_t)st.st_size;
	return 0;
}

/*
 * A slot beyond the end is as one that was never written. One that can't be read is
 * as good as damaged, if the other one holds.
 */
static enum chain_header_status pick_header(struct image *img,
					    uint8_t slots[2][DM_CHAIN_HEADER_BYTES])
{
	bool readable[2];
	int i;

	memset(slots, 0, 2 * DM_CHAIN_HEADER_BYTES);
	for (i = 0; i < 2; i++) {
		int err = image_try_read(img, slots[i], DM_CHAIN_HEADER_BYTES,
					 slot_offset[i]);

		readable[i] = !err || err == -ENODATA;
	}
	return chain_header_pick(readable[0] ? slots[0] : NULL,
				 readable[1] ? slots[1] : NULL, &img->hdr,
				 &img->stale_slots);
}

static int header_refused(const struct image *img,
			  enum chain_header_status status)
{
	const char *what = chain_header_strerror(status);

	if (status == CHAIN_HEADER_NONE && !strcmp(img->label, img->path))
		return msg_fail(EXIT_IMAGE,
				"%s: no chain header; if it is a raw image say --format raw",
				img->label);
	if (status == CHAIN_HEADER_NONE)
		return msg_fail(EXIT_IMAGE,
				"%s: no chain header, which its child says it has; put the right image there",
				img->label);
	/* What the image is remains to be seen. */
	if (status == CHAIN_HEADER_UNREAD)
		return msg_fail(EXIT_FAILED, "%s: %s, its device or file system gives errors; see dmesg",
				img->label, what);
	if (status == CHAIN_HEADER_CRC)
		return msg_fail(EXIT_IMAGE,
				"%s: %s, in both copies; restore it from a backup",
				img->label, what);
	if (status == CHAIN_HEADER_VERSION || status == CHAIN_HEADER_INCOMPAT)
		return msg_fail(EXIT_IMAGE,
				"%s: %s (features %#llx, marks %#x); use a newer dmchain",
				img->label, what,
				(unsigned long long)img->hdr.incompat,
				img->hdr.marks);
	return msg_fail(EXIT_IMAGE, "%s: %s; restore it from a backup",
			img->label, what);
}

/* Which of the slots that aren't current are damaged, not just older. */
static unsigned int damaged_slots(uint8_t slots[2][DM_CHAIN_HEADER_BYTES],
				  unsigned int stale)
{
	static struct chain_header scratch;
	unsigned int i, damaged = 0;

	for (i = 0; i < 2; i++)
		if ((stale & 1U << i) && chain_header_decode(slots[i], &scratch))
			damaged |= 1U << i;
	return damaged;
}

static int read_header(struct image *img)
{
	static uint8_t slots[2][DM_CHAIN_HEADER_BYTES];
	enum chain_header_status status = pick_header(img, slots);

	if (status)
		return header_refused(img, status);
	img->damaged_slots = damaged_slots(slots, img->stale_slots);
	return 0;
}

static int check_size(struct image *img, int flags)
{
	if (img->bytes >= chain_layer_bytes(&img->hdr) ||
	    (flags & IMAGE_CHECK))
		return 0;
	return msg_fail(EXIT_IMAGE,
			"%s: truncated, it has %llu bytes and its header tells of %llu; restore it from a backup",
			img->label, (unsigned long long)img->bytes,
			(unsigned long long)chain_layer_bytes(&img->hdr));
}

static int check_features(struct image *img, int flags)
{
	uint64_t unknown = img->hdr.compat_ro & ~DM_CHAIN_COMPAT_RO_KNOWN;

	if (unknown && (flags & IMAGE_TRY_WRITE))
		img->writable = false;
	if (!unknown || !img->writable)
		return 0;
	return msg_fail(EXIT_IMAGE,
			"%s: has features (%#llx) that this version may only read; open it --read-only or use a newer dmchain",
			img->label, (unsigned long long)unknown);
}

static int check_header(struct image *img, int flags)
{
	int ret = read_header(img);

	if (!ret)
		ret = check_size(img, flags);
	if (!ret)
		ret = check_features(img, flags);
	if (ret)
		return ret;
	if (img->damaged_slots && !(flags & IMAGE_CHECK))
		msg_warn("%s: header copy %d is damaged, the other serves; mend it with dmchain check --repair",
			 img->label, img->damaged_slots == 1 ? 0 : 1);
	if (flags & IMAGE_ANY_MARK)
		return 0;
	return image_check_marks(img, img->writable ? MARKS_TOP_RW :
						      MARKS_TOP_RO, false);
}

static int check_raw(struct image *img)
{
	if (img->bytes && img->bytes % 512 == 0)
		return 0;
	return msg_fail(EXIT_IMAGE,
			"%s: %llu bytes are no raw image's size; it must be a multiple of 512",
			img->label, (unsigned long long)img->bytes);
}

int image_open_file(struct image *img, int flags)
{
	int ret = image_identify(img);

	if (!ret)
		ret = open_file(img, flags);
	if (!ret)
		ret = lock_file(img);
	/* Who had the lock before may have made a disk of it, and holds it now. */
	if (!ret && img->writable)
		ret = refuse_holder(img);
	/*
	 * A machine that crashed may have left in a cache what is about to be
	 * read. Nothing may be built on what a power cut could still take back.
	 */
	if (!ret)
		ret = image_flush(img);
	return ret ? ret : set_bytes(img);
}

static int open_labelled(struct image *img, int flags)
{
	int ret = image_open_file(img, flags);

	if (ret)
		return ret;
	return img->format == DM_CHAIN_FORMAT_RAW ? check_raw(img) :
						    check_header(img, flags);
}

int image_init(struct image *img, const char *path, uint32_t format,
	       const char *child)
{
	memset(img, 0, sizeof(*img));
	img->fd = -1;
	/* A header must not reach into our descriptors. */
	img->given = child ? -1 : arg_fd(path);
	img->format = format;
	img->path = img->given >= 0 ? fd_path(img->given) : path_absolute(path);
	if (img->given >= 0 && !img->path) {
		img->nameless = true;
		if (asprintf(&img->path, "fd:%d", img->given) < 0)
			img->path = NULL;
	}
	if (!img->path)
		return msg_fail_errno(EXIT_FAILED, errno, "%s: can't open", path);
	if (!child)
		img->label = strdup(img->path);
	else if (asprintf(&img->label, "%s (parent of %s)", img->path, child) < 0)
		img->label = NULL;
	if (img->label)
		return 0;
	image_close(img);
	return msg_fail(EXIT_FAILED, "%s: out of memory", path);
}

int image_open_parent(struct image *img, const char *path, uint32_t format,
		      int flags, const char *child)
{
	int ret = image_init(img, path, format, child);

	if (!ret)
		ret = open_labelled(img, flags);
	if (ret)
		image_close(img);
	return ret;
}

int image_open(struct image *img, const char *path, uint32_t format, int flags)
{
	return image_open_parent(img, path, format, flags, NULL);
}

void image_release(struct image *img)
{
	/* Of what is a duplicate the lock would stay. */
	if (img->fd >= 0 && img->given >= 0)
		(void)flock(img->fd, LOCK_UN);
	if (img->fd >= 0)
		close(img->fd);
	img->fd = -1;
}

void image_close(struct image *img)
{
	if (img->path)
		image_release(img);
	free(img->path);
	free(img->label);
	memset(img, 0, sizeof(*img));
	img->fd = img->given = -1;
}

/* What is behind a loop device counts, not which of several devices. */
static void true_identity(const struct image *img, dev_t *dev, ino_t *ino)
{
	char path[DM_CHAIN_PATH_BYTES];

	*dev = img->dev;
	*ino = img->ino;
	if (img->is_bdev && !loop_backing(img->dev, path, sizeof(path), dev, ino)) {
		*dev = img->dev;
		*ino = 0;
	}
}

bool image_same(const struct image *a, const struct image *b)
{
	dev_t da, db;
	ino_t ia, ib;

	true_identity(a, &da, &ia);
	true_identity(b, &db, &ib);
	return da == db && ia == ib;
}

static int write_slot(struct image *img, int slot, const void *buf)
{
	int ret = image_write(img, buf, DM_CHAIN_HEADER_BYTES,
			      slot_offset[slot]);

	return ret ? ret : image_flush(img);
}

int image_write_slots(struct image *img)
{
	static uint8_t buf[DM_CHAIN_HEADER_BYTES];
	int first = img->stale_slots & 2 ? 1 : 0;
	int ret;

	chain_header_encode(&img->hdr, buf);
	/* The slot that doesn't count first: the other serves until then. */
	ret = write_slot(img, first, buf);
	if (!ret)
		ret = write_slot(img, !first, buf);
	if (!ret)
		img->stale_slots = img->damaged_slots = 0;
	return ret;
}

/* Locks don't reach other hosts, and dm takes none: look again. */
static int check_unchanged(struct image *img)
{
	struct image now = *img;
	int ret = read_header(&now);

	if (ret)
		return ret;
	img->stale_slots = now.stale_slots;
	if (now.hdr.generation == img->hdr.generation)
		return 0;
	return msg_fail(EXIT_REFUSED,
			"%s: somebody else has changed the header; find out who has it open",
			img->label);
}

int image_write_header(struct image *img)
{
	int ret = check_unchanged(img);

	if (ret)
		return ret;
	img->hdr.generation++;
	return image_write_slots(img);
}

int image_write_trailer(struct image *img)
{
	static uint8_t buf[DM_CHAIN_HEADER_BYTES];

	chain_header_encode(&img->hdr, buf);
	return image_write(img, buf, sizeof(buf),
			   chain_trailer_offset(&img->hdr));
}

bool image_trailer_valid(struct image *img)
{
	static uint8_t buf[DM_CHAIN_HEADER_BYTES];
	static struct chain_header h;
	uint64_t offset = chain_trailer_offset(&img->hdr);

	return offset + sizeof(buf) <= img->bytes &&
	       !image_read(img, buf, sizeof(buf), offset) &&
	       !chain_header_decode(buf, &h) &&
	       h.map_seed == img->hdr.map_seed;
}
