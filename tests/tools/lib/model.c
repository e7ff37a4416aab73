// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "model.h"

void model_open(struct model *m, const char *path, u64 size, bool writable)
{
	int mode = writable ? O_RDWR | O_CREAT : O_RDONLY;
	u64 old;

	m->path = path;
	m->size = size;
	m->fd = path ? open(path, mode | O_CLOEXEC, 0644) :
		       memfd_create("model", MFD_CLOEXEC);
	if (m->fd < 0)
		die("%s: %s", path ? path : "model", strerror(errno));
	old = lseek(m->fd, 0, SEEK_END);
	if (!writable && old < size)
		die("%s is shorter (%llu) than the device (%llu)", path,
		    (unsigned long long)old, (unsigned long long)size);
	if (old < size && ftruncate(m->fd, size))
		die("%s: %s", path ? path : "model", strerror(errno));
	m->mem = mmap(NULL, size, writable ? PROT_READ | PROT_WRITE : PROT_READ,
		      MAP_SHARED | MAP_NORESERVE, m->fd, 0);
	if (m->mem == MAP_FAILED)
		die("model: %s", strerror(errno));
}

void model_init_from_file(struct model *m, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), r;
	u64 size;

	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	size = lseek(fd, 0, SEEK_END);
	r = copy_sparse(fd, m->fd, min_u64(size, m->size));
	if (!r && ftruncate(m->fd, m->size))
		r = -errno;
	if (r)
		die("%s: %s", path, strerror(-r));
	close(fd);
}

void model_init_from_dev(struct model *m, struct dev *d)
{
	const u64 chunk = 1 << 16;
	u8 *buf = xalloc_aligned(chunk);
	u64 off, len;
	int r;

	for (off = 0; off < m->size; off += len) {
		len = min_u64(chunk, m->size - off);
		r = dev_read(d, buf, len, off);
		if (r)
			die("%s: %s", d->path, strerror(-r));
		if (is_zero(buf, len))
			model_zero(m, off, len);
		else
			memcpy(m->mem + off, buf, len);
	}
	free(buf);
}

void model_zero(struct model *m, u64 off, u64 len)
{
	int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	if (len < 16 * PAGE || fallocate(m->fd, mode, off, len))
		memset(m->mem + off, 0, len);
}

void model_save(const struct model *m, unsigned int no)
{
	char *name;
	int fd, r;

	if (asprintf(&name, "%s.%u", m->path, no) < 0)
		die("out of memory");
	fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	r = fd < 0 ? -errno : copy_sparse(m->fd, fd, m->size);
	if (r)
		die("%s: %s", name, strerror(-r));
	close(fd);
	free(name);
}

u64 first_difference(const u8 *a, const u8 *b, u64 len)
{
	u64 i = 0;

	while (i < len && a[i] == b[i])
		i++;
	return i;
}

static u64 count_different(const u8 *a, const u8 *b, u64 len)
{
	u64 i, n = 0;

	for (i = 0; i < len; i += SECTOR)
		n += !!memcmp(a + i, b + i, SECTOR);
	return n;
}

void print_mismatch(const char *what, const char *path, const u8 *seen,
		    const u8 *want, u64 off, u64 len, u64 block)
{
	u64 diff = first_difference(seen, want, len);
	u64 at = round_down_to(diff, SECTOR), sector = (off + at) / SECTOR;
	char text[STAMP_TEXT];

	bad("%s: %s %llu+%llu: mismatch at byte %llu (sector %llu; block %llu, its sector %llu); %llu sectors differ",
	    path, what, (unsigned long long)off, (unsigned long long)len,
	    (unsigned long long)(off + diff), (unsigned long long)sector,
	    (unsigned long long)((off + diff) / block),
	    (unsigned long long)((off + diff) % block / SECTOR),
	    (unsigned long long)count_different(seen, want, len));
	fprintf(stderr, "  expected: %s\n", stamp_text(want + at, text, sizeof(text)));
	fprintf(stderr, "  seen:     %s\n", stamp_text(seen + at, text, sizeof(text)));
}
