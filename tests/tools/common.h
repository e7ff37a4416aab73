/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared by the test tools: devices (or plain files that stand in for one),
 * self-naming sectors, random numbers.
 */
#ifndef DMCHAIN_TESTS_TOOLS_COMMON_H
#define DMCHAIN_TESTS_TOOLS_COMMON_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define SECTOR		512ULL
#define PAGE		4096ULL
#define DEF_BLOCK	4096ULL
#define MAX_THREADS	16

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* Exit codes of all tools. */
enum {
	EX_OK = 0,
	EX_BAD = 1,		/* the device is not what it should be */
	EX_USE = 2,		/* usage, or the test itself cannot work */
};

void set_prog(const char *name);
void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
void bad(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void *xzalloc(size_t n);
void *xalloc_aligned(size_t n);
u64 now_ns(void);
void sleep_ms(unsigned int ms);

/* A shell command; says so when it fails. */
bool run_cmd(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Its exit status; nothing is said if that is `also_good`. */
int run_status(int also_good, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "64M", "512", "1T" */
u64 parse_size(const char *s);
u64 parse_num(const char *s);

static inline u64 round_down_to(u64 v, u64 unit)
{
	return v - v % unit;
}

static inline u64 round_up_to(u64 v, u64 unit)
{
	return round_down_to(v + unit - 1, unit);
}

static inline u64 min_u64(u64 a, u64 b)
{
	return a < b ? a : b;
}

static inline u64 max_u64(u64 a, u64 b)
{
	return a > b ? a : b;
}

/* Random numbers: splitmix64, good enough and the same everywhere. */
struct rng {
	u64 s;
};

static inline u64 mix64(u64 z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static inline u64 rnd(struct rng *r)
{
	r->s += 0x9e3779b97f4a7c15ULL;
	return mix64(r->s);
}

static inline u64 rnd_below(struct rng *r, u64 n)
{
	return rnd(r) % n;
}

static inline bool rnd_chance(struct rng *r, unsigned int percent)
{
	return rnd_below(r, 100) < percent;
}

void rng_init(struct rng *r, u64 seed, u64 stream);
/* A length in [min, max], every power of two as likely as the next, a multiple of unit. */
u64 rnd_len(struct rng *r, u64 min, u64 max, u64 unit);

/*
 * A device under test. A planted defect ("flip:100": every 100th write has a
 * bit flipped) proves that a test can fail.
 */
enum plant {
	PLANT_NONE,
	PLANT_FLIP,		/* one bit of a write */
	PLANT_DROP,		/* a write acknowledged, not done */
	PLANT_TEAR,		/* only its first sector done */
	PLANT_SHIFT,		/* done one sector further up */
	PLANT_NODISCARD,	/* a discard acknowledged, not done */
	PLANT_NOZERO,
	PLANT_STALE,		/* a whole-block read-modify-write with an old copy */
	PLANT_NOFLUSH,		/* a flush acknowledged, not done */
	PLANT_NOFUA,		/* a FUA write done as a plain one */
};

/* What really reached the device, told to an onlooker (struct dev, watch). */
enum dev_event {
	EV_WRITE,		/* done */
	EV_FUA,
	EV_DISCARD,
	EV_ZERO,
	EV_FLUSH_BEGIN,
	EV_FLUSH_END,
};

struct dev {
	const char *path;
	int fd;
	bool is_block;
	u64 size;
	u64 block;		/* of the chain: what a discard can cover */
	enum plant plant;
	u64 plant_at;
	atomic_ullong plant_count;
	void (*watch)(void *arg, enum dev_event ev, const void *buf, u64 off,
		      u64 len);
	void *watch_arg;
};

enum {
	DEV_RO = 1,
	DEV_BUFFERED = 2,
};

void dev_open(struct dev *d, const char *path, unsigned int flags);
void dev_close(struct dev *d);
void dev_plant(struct dev *d, const char *spec);
/* Is this operation, one of those that the defect is about, to suffer it? */
bool dev_planted(struct dev *d, bool of_this_kind);
void dev_tell(struct dev *d, enum dev_event ev, const void *buf, u64 off, u64 len);
/* All return 0 or -errno; short transfers are continued. */
int dev_read(struct dev *d, void *buf, u64 len, u64 off);
int dev_write(struct dev *d, const void *buf, u64 len, u64 off);
int dev_flush(struct dev *d, bool data_only);
/* Whole blocks inside the range read zero afterwards, edges are kept. */
int dev_discard(struct dev *d, u64 off, u64 len);
/* Zeroes exactly; punch: by fallocate() and with unmapping allowed. */
int dev_zero(struct dev *d, u64 off, u64 len, bool punch);
/* Whole blocks inside [off, off + len); false if there are none. */
bool whole_blocks(u64 off, u64 len, u64 block, u64 *from, u64 *to);

int full_pread(int fd, void *buf, u64 len, u64 off);
int full_pwrite(int fd, const void *buf, u64 len, u64 off);
/* Keeps holes. */
int copy_sparse(int from, int to, u64 size);

/*
 * A self-naming sector. The body follows from the head, so that a sector can
 * be judged without a model. The vector is for `iomodel cut`.
 */
struct stamp {
	u8 magic[8];
	u64 seed;
	u64 sector;		/* of this one */
	u64 seq;
	u64 first;		/* sector where the write began */
	u32 count;		/* its sectors */
	u32 thread;
	u32 param;
	u32 vec[MAX_THREADS];
	u32 sum;
	u64 body[49];
};
_Static_assert(sizeof(struct stamp) == SECTOR, "stamp is a sector");

struct stamp_id {
	u64 seed;
	u64 seq;
	u32 thread;
	u32 param;
	const u32 *vec;		/* MAX_THREADS, or NULL */
};

/* Stamps a write of len bytes at off. */
void stamp_fill(void *buf, u64 off, u64 len, const struct stamp_id *id);
bool stamp_valid(const void *sector);
/* valid, of this seed, and at its place */
bool stamp_is(const void *sector, u64 seed, u64 at);
/* carries this seed's stamp at all, even damaged or misplaced */
bool stamp_of(const void *sector, u64 seed);
const char *stamp_text(const void *sector, char *text, size_t n);
bool is_zero(const void *buf, size_t n);

#define STAMP_TEXT	192

#endif
