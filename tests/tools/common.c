// SPDX-License-Identifier: GPL-2.0-or-later
/* Shared by the test tools; see common.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

static const char *prog = "tool";

void set_prog(const char *name)
{
	prog = name;
	setvbuf(stdout, NULL, _IOLBF, 0);
}

static void say(const char *fmt, va_list ap)
{
	fflush(stdout);
	fprintf(stderr, "%s: ", prog);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
}

void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
	exit(EX_USE);
}

void bad(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
}

void *xzalloc(size_t n)
{
	void *p = calloc(1, n ? n : 1);

	if (!p)
		die("out of memory (%zu bytes)", n);
	return p;
}

void *xalloc_aligned(size_t n)
{
	void *p;

	if (posix_memalign(&p, PAGE, n ? n : 1))
		die("out of memory (%zu bytes)", n);
	memset(p, 0, n);
	return p;
}

u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

void sleep_ms(unsigned int ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&ts, NULL);
}

static int run_fmt(const char *fmt, va_list ap, int also_good)
{
	char *cmd;
	int status;

	if (vasprintf(&cmd, fmt, ap) < 0)
		die("out of memory");
	status = system(cmd);
	status = WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
	if (status && status != also_good)
		bad("'%s' failed (%s %d)", cmd, status < 256 ? "exit status" : "signal",
		    status & 255);
	free(cmd);
	return status;
}

bool run_cmd(const char *fmt, ...)
{
	int status;
	va_list ap;

	va_start(ap, fmt);
	status = run_fmt(fmt, ap, 0);
	va_end(ap);
	return !status;
}

int run_status(int also_good, const char *fmt, ...)
{
	int status;
	va_list ap;

	va_start(ap, fmt);
	status = run_fmt(fmt, ap, also_good);
	va_end(ap);
	return status;
}

u64 parse_num(const char *s)
{
	char *end;
	u64 v;

	errno = 0;
	v = strtoull(s, &end, 0);
	if (errno || end == s || *end || *s == '-')
		die("not a number: %s", s);
	return v;
}

u64 parse_size(const char *s)
{
	static const char units[] = "KMGT";
	const char *unit;
	char *end;
	u64 v;

	errno = 0;
	v = strtoull(s, &end, 0);
	if (errno || end == s || *s == '-')
		die("not a size: %s", s);
	if (!*end)
		return v;
	unit = strchr(units, *end);
	if (!unit || end[1])
		die("not a size: %s", s);
	return v << (10 * (unit - units + 1));
}

void rng_init(struct rng *r, u64 seed, u64 stream)
{
	r->s = mix64(seed + 0x9e3779b97f4a7c15ULL) ^ mix64(stream + 1);
}

u64 rnd_len(struct rng *r, u64 min, u64 max, u64 unit)
{
	unsigned int steps = 0;
	u64 low, len;

	while (min << (steps + 1) <= max)
		steps++;
	low = min << rnd_below(r, steps + 1);
	len = round_down_to(low + rnd_below(r, low + 1), unit);
	return max_u64(min, min_u64(len, max));
}

int full_pread(int fd, void *buf, u64 len, u64 off)
{
	while (len) {
		ssize_t n = pread(fd, buf, len, off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENODATA;
		buf = (u8 *)buf + n;
		off += n;
		len -= n;
	}
	return 0;
}

int full_pwrite(int fd, const void *buf, u64 len, u64 off)
{
	while (len) {
		ssize_t n = pwrite(fd, buf, len, off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		buf = (const u8 *)buf + n;
		off += n;
		len -= n;
	}
	return 0;
}

static int copy_extent(int from, int to, u64 off, u64 end, void *buf, u64 chunk)
{
	while (off < end) {
		u64 n = min_u64(chunk, end - off);
		int r = full_pread(from, buf, n, off);

		if (!r)
			r = full_pwrite(to, buf, n, off);
		if (r)
			return r;
		off += n;
	}
	return 0;
}

int copy_sparse(int from, int to, u64 size)
{
	const u64 chunk = 1 << 20;
	void *buf = xalloc_aligned(chunk);
	off_t data = 0, hole;
	int r = ftruncate(to, 0) || ftruncate(to, size) ? -errno : 0;

	while (!r) {
		data = lseek(from, data, SEEK_DATA);
		if (data < 0 || (u64)data >= size)
			break;
		hole = lseek(from, data, SEEK_HOLE);
		if (hole < 0)
			hole = size;
		r = copy_extent(from, to, data, min_u64(hole, size), buf, chunk);
		data = hole;
	}
	if (!r && data < 0 && errno != ENXIO)
		r = -errno;
	free(buf);
	return r;
}

static void dev_size(struct dev *d, const struct stat *st)
{
	d->is_block = S_ISBLK(st->st_mode);
	if (!d->is_block)
		d->size = st->st_size;
	else if (ioctl(d->fd, BLKGETSIZE64, &d->size))
		die("%s: size: %s", d->path, strerror(errno));
	if (!d->size || d->size % SECTOR)
		die("%s: its size (%llu) is not a number of sectors", d->path,
		    (unsigned long long)d->size);
}

void dev_open(struct dev *d, const char *path, unsigned int flags)
{
	int mode = (flags & DEV_RO ? O_RDONLY : O_RDWR) | O_CLOEXEC;
	struct stat st;

	memset(d, 0, sizeof(*d));
	d->path = path;
	d->block = DEF_BLOCK;
	if (stat(path, &st))
		die("%s: %s", path, strerror(errno));
	if (S_ISBLK(st.st_mode) && !(flags & DEV_BUFFERED))
		mode |= O_DIRECT;
	d->fd = open(path, mode);
	if (d->fd < 0)
		die("%s: %s", path, strerror(errno));
	dev_size(d, &st);
}

void dev_close(struct dev *d)
{
	close(d->fd);
	d->fd = -1;
}

void dev_plant(struct dev *d, const char *spec)
{
	static const char *const names[] = {
		[PLANT_FLIP] = "flip", [PLANT_DROP] = "drop",
		[PLANT_TEAR] = "tear", [PLANT_SHIFT] = "shift",
		[PLANT_NODISCARD] = "nodiscard", [PLANT_NOZERO] = "nozero",
		[PLANT_STALE] = "stale", [PLANT_NOFLUSH] = "noflush",
		[PLANT_NOFUA] = "nofua",
	};
	const char *colon = strchr(spec, ':');
	size_t i;

	d->plant_at = parse_num(colon ? colon + 1 : spec);
	if (!d->plant_at)
		die("defect in every 0th operation?");
	if (!colon) {
		d->plant = PLANT_FLIP;
		return;
	}
	for (i = 1; i < ARRAY_SIZE(names); i++)
		if (strlen(names[i]) == (size_t)(colon - spec) &&
		    !strncmp(spec, names[i], colon - spec))
			d->plant = i;
	if (d->plant == PLANT_NONE)
		die("no such defect: %s", spec);
}

/* True for every plant_at-th operation of the kind. */
bool dev_planted(struct dev *d, bool of_this_kind)
{
	if (!d->plant || !of_this_kind)
		return false;
	return (atomic_fetch_add(&d->plant_count, 1) + 1) % d->plant_at == 0;
}

static bool plant_in_write(const struct dev *d)
{
	return d->plant >= PLANT_FLIP && d->plant <= PLANT_STALE &&
	       d->plant != PLANT_NODISCARD && d->plant != PLANT_NOZERO;
}

void dev_tell(struct dev *d, enum dev_event ev, const void *buf, u64 off, u64 len)
{
	if (d->watch)
		d->watch(d->watch_arg, ev, buf, off, len);
}

static int raw_write(struct dev *d, const void *buf, u64 len, u64 off)
{
	int r = full_pwrite(d->fd, buf, len, off);

	if (!r)
		dev_tell(d, EV_WRITE, buf, off, len);
	return r;
}

/* A copy-up without a lock: reads the block, waits, writes it back. */
static int write_stale(struct dev *d, const void *buf, u64 len, u64 off)
{
	u64 from = round_down_to(off, d->block);
	u64 to = min_u64(round_up_to(off + len, d->block), d->size);
	u8 *copy = xalloc_aligned(to - from);
	int r = dev_read(d, copy, to - from, from);

	sleep_ms(5);
	memcpy(copy + (off - from), buf, len);
	if (!r)
		r = raw_write(d, copy, to - from, from);
	free(copy);
	return r;
}

static int write_planted(struct dev *d, const void *buf, u64 len, u64 off)
{
	u8 *copy;
	int r = 0;

	switch (d->plant) {
	case PLANT_DROP:
		return 0;
	case PLANT_TEAR:
		return raw_write(d, buf, len > SECTOR ? SECTOR : 0, off);
	case PLANT_SHIFT:
		off = off + len + SECTOR <= d->size ? off + SECTOR : off - SECTOR;
		return raw_write(d, buf, len, off);
	case PLANT_STALE:
		return write_stale(d, buf, len, off);
	default:
		copy = xalloc_aligned(len);
		memcpy(copy, buf, len);
		copy[len / 2 + 17] ^= 4;
		r = raw_write(d, copy, len, off);
		free(copy);
		return r;
	}
}

int dev_read(struct dev *d, void *buf, u64 len, u64 off)
{
	return full_pread(d->fd, buf, len, off);
}

int dev_write(struct dev *d, const void *buf, u64 len, u64 off)
{
	if (dev_planted(d, plant_in_write(d)))
		return write_planted(d, buf, len, off);
	return raw_write(d, buf, len, off);
}

int dev_flush(struct dev *d, bool data_only)
{
	int r;

	if (dev_planted(d, d->plant == PLANT_NOFLUSH))
		return 0;
	dev_tell(d, EV_FLUSH_BEGIN, NULL, 0, 0);
	r = data_only ? fdatasync(d->fd) : fsync(d->fd);
	if (r)
		return -errno;
	dev_tell(d, EV_FLUSH_END, NULL, 0, 0);
	return 0;
}

bool whole_blocks(u64 off, u64 len, u64 block, u64 *from, u64 *to)
{
	*from = round_up_to(off, block);
	*to = round_down_to(off + len, block);
	return *from < *to;
}

static int file_punch(struct dev *d, u64 off, u64 len)
{
	int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	return fallocate(d->fd, mode, off, len) ? -errno : 0;
}

static int done(struct dev *d, enum dev_event ev, int r, u64 off, u64 len)
{
	if (!r)
		dev_tell(d, ev, NULL, off, len);
	return r;
}

int dev_discard(struct dev *d, u64 off, u64 len)
{
	u64 range[2] = { off, len }, from, to;

	if (dev_planted(d, d->plant == PLANT_NODISCARD))
		return 0;
	if (d->is_block)
		return ioctl(d->fd, BLKDISCARD, range) ? -errno : 0;
	if (!whole_blocks(off, len, d->block, &from, &to))
		return 0;
	return done(d, EV_DISCARD, file_punch(d, from, to - from), from, to - from);
}

int dev_zero(struct dev *d, u64 off, u64 len, bool punch)
{
	u64 range[2] = { off, len };

	if (dev_planted(d, d->plant == PLANT_NOZERO))
		return 0;
	if (d->is_block && !punch)
		return ioctl(d->fd, BLKZEROOUT, range) ? -errno : 0;
	return done(d, EV_ZERO, file_punch(d, off, len), off, len);
}

/* Stamps */

static const u8 stamp_magic[8] = { 'D', 'M', 'C', 'S', 'T', 'A', 'M', 'P' };

static u32 stamp_sum(const struct stamp *s)
{
	u64 words[offsetof(struct stamp, body) / 8];
	u64 h = 0;
	size_t i;

	memcpy(words, s, sizeof(words));
	((u32 *)words)[offsetof(struct stamp, sum) / 4] = 0;
	for (i = 0; i < ARRAY_SIZE(words); i++)
		h = (h ^ words[i]) * 0x9e3779b97f4a7c15ULL + i;
	return (u32)(h >> 32);
}

static u64 body_base(const struct stamp *s)
{
	return mix64(s->seed ^ mix64(s->sector) ^ (s->seq << 20));
}

static void stamp_one(struct stamp *s)
{
	u64 v;
	size_t i;

	s->sum = stamp_sum(s);
	v = body_base(s);
	for (i = 0; i < ARRAY_SIZE(s->body); i++, v += 0x9e3779b97f4a7c15ULL)
		s->body[i] = v;
}

void stamp_fill(void *buf, u64 off, u64 len, const struct stamp_id *id)
{
	struct stamp head = {
		.seed = id->seed, .seq = id->seq, .first = off / SECTOR,
		.count = len / SECTOR, .thread = id->thread, .param = id->param,
	};
	struct stamp *s = buf;
	u64 i;

	memcpy(head.magic, stamp_magic, sizeof(head.magic));
	if (id->vec)
		memcpy(head.vec, id->vec, sizeof(head.vec));
	for (i = 0; i < len / SECTOR; i++) {
		memcpy(&s[i], &head, offsetof(struct stamp, body));
		s[i].sector = off / SECTOR + i;
		stamp_one(&s[i]);
	}
}

bool stamp_valid(const void *sector)
{
	const struct stamp *s = sector;
	u64 v;
	size_t i;

	if (memcmp(s->magic, stamp_magic, sizeof(s->magic)) ||
	    s->sum != stamp_sum(s))
		return false;
	v = body_base(s);
	for (i = 0; i < ARRAY_SIZE(s->body); i++, v += 0x9e3779b97f4a7c15ULL)
		if (s->body[i] != v)
			return false;
	return true;
}

bool stamp_is(const void *sector, u64 seed, u64 at)
{
	const struct stamp *s = sector;

	return s->seed == seed && s->sector == at && stamp_valid(sector);
}

bool stamp_of(const void *sector, u64 seed)
{
	const struct stamp *s = sector;

	return !memcmp(s->magic, stamp_magic, sizeof(s->magic)) && s->seed == seed;
}

bool is_zero(const void *buf, size_t n)
{
	const u8 *p = buf;

	return !n || (!p[0] && !memcmp(p, p + 1, n - 1));
}

const char *stamp_text(const void *sector, char *text, size_t n)
{
	const struct stamp *s = sector;

	if (is_zero(sector, SECTOR)) {
		snprintf(text, n, "zeroes");
	} else if (memcmp(s->magic, stamp_magic, sizeof(s->magic))) {
		const u8 *b = sector;

		snprintf(text, n, "no stamp (%02x %02x %02x %02x ...)",
			 b[0], b[1], b[2], b[3]);
	} else {
		snprintf(text, n,
			 "write %llu of thread %u (seed %llu, sectors %llu+%u), its sector %llu%s",
			 (unsigned long long)s->seq, s->thread,
			 (unsigned long long)s->seed,
			 (unsigned long long)s->first, s->count,
			 (unsigned long long)s->sector,
			 stamp_valid(sector) ? "" : ", DAMAGED");
	}
	return text;
}
