// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Calls of /dev/dm-chain: filled in as they should be, then spoiled in places, cut,
 * made longer, or put where they can't be read or written. What lies behind the
 * argument and behind the arrays must stay as it was.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/dm-chain.h>
#include "kfuzz.h"

#define ARG_BYTES	(5 * PAGE)
#define ROOM_BYTES	(64 * PAGE)
#define FILLER		0xa5

static const size_t sizes[] = {
	sizeof(struct dm_chain_version), sizeof(struct dm_chain_switch),
	sizeof(struct dm_chain_resize), sizeof(struct dm_chain_layers),
	sizeof(struct dm_chain_map), sizeof(struct dm_chain_expedite),
	sizeof(struct dm_chain_holders), sizeof(struct dm_chain_acquire),
	sizeof(struct dm_chain_job_start), sizeof(struct dm_chain_jobs),
	sizeof(struct dm_chain_job_verb), sizeof(struct dm_chain_monitor),
	sizeof(struct dm_chain_relink), sizeof(struct dm_chain_openers), 64,
};

union call {
	struct dm_chain_version version;
	struct dm_chain_switch sw;
	struct dm_chain_resize resize;
	struct dm_chain_layers layers;
	struct dm_chain_map map;
	struct dm_chain_expedite expedite;
	struct dm_chain_holders holders;
	struct dm_chain_acquire acquire;
	struct dm_chain_job_start start;
	struct dm_chain_jobs jobs;
	struct dm_chain_job_verb verb;
	struct dm_chain_monitor monitor;
	struct dm_chain_relink relink;
	struct dm_chain_openers openers;
	u8 bytes[16384];
};

/* --- Where things are --- */

static u8 *map_pages(size_t bytes)
{
	u8 *p = mmap(NULL, bytes + PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p + bytes, PAGE, PROT_NONE))
		die("mmap: %s", strerror(errno));
	return p;
}

static int open_ctl(void)
{
	int fd = open("/dev/" DM_CHAIN_CONTROL, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		die("/dev/" DM_CHAIN_CONTROL ": %s", strerror(errno));
	return fd;
}

void kf_init(struct kf *k)
{
	k->arg = map_pages(ARG_BYTES);
	k->room = map_pages(ROOM_BYTES);
	k->read_only = map_pages(PAGE);
	if (mprotect(k->read_only, PAGE, PROT_READ))
		die("mprotect: %s", strerror(errno));
	k->ctl[0] = open_ctl();
	k->ctl[1] = open_ctl();
}

void kf_drop_tokens(struct kf *k)
{
	u32 i;

	for (i = 0; i < KF_TOKENS; i++)
		if (k->token[i])
			close(k->token[i]);
	memset(k->token, 0, sizeof(k->token));
}

void kf_exit(struct kf *k)
{
	close(k->ctl[0]);
	close(k->ctl[1]);
	kf_drop_tokens(k);
}

static u64 a_bad_pointer(struct kf *k)
{
	const u64 list[] = {
		0, 1, ~0ULL, ~0ULL << 12, 0xffff888000000000ULL, 0xffffffff81000000ULL,
		1ULL << 63, 0x7ffffffff000ULL, (uintptr_t)k->arg + ARG_BYTES,
		(uintptr_t)k->room + ROOM_BYTES - 8, (uintptr_t)k->read_only,
		(uintptr_t)k->room + 3,
	};

	return list[rnd_below(&k->rng, ARRAY_SIZE(list))];
}

/* Of an array: mostly the whole room. */
static u64 a_pointer(struct kf *k)
{
	return rnd_chance(&k->rng, 90) ? (uintptr_t)k->room : a_bad_pointer(k);
}

/* --- What is valid, or nearly --- */

static dev_t a_disk(struct kf *k)
{
	u32 i = rnd_below(&k->rng, 100);
	dev_t dev = i < 50 ? kf_dm_disk(i % 3) : 0;

	if (dev)
		return dev;
	dev = pool.disks[i % pool.nr_disks];
	return i < 95 ? dev : makedev(major(dev), rnd_below(&k->rng, 300));
}

static u32 a_count(struct kf *k, u32 most)
{
	return rnd_chance(&k->rng, 90) ? rnd_below(&k->rng, most + 1) : kf_edge(&k->rng);
}

static u32 a_size(struct kf *k, u32 right)
{
	return rnd_chance(&k->rng, 80) ? right : 56 + 8 * rnd_below(&k->rng, 64);
}

static int a_token(struct kf *k)
{
	int fd = k->token[rnd_below(&k->rng, KF_TOKENS)];

	return fd && rnd_chance(&k->rng, 95) ? fd : (int)rnd_below(&k->rng, 64) - 2;
}

static u64 an_id(struct kf *k)
{
	return rnd_chance(&k->rng, 80) ? k->ids[rnd_below(&k->rng, KF_TOKENS)] :
					 rnd_below(&k->rng, 200);
}

static void a_path(struct kf *k, char *path, size_t room)
{
	size_t i, n = rnd_chance(&k->rng, 90) ? rnd_below(&k->rng, 40) : room;

	for (i = 0; i < n; i++)
		path[i] = rnd_chance(&k->rng, 90) ? 'a' + i % 26 : rnd(&k->rng);
}

static void fill_switch(struct kf *k, struct dm_chain_switch *s)
{
	struct dm_chain_switch_disk *d = (void *)k->room;
	u32 i;

	s->op = 1 + rnd_below(&k->rng, 2);
	s->nr_disks = rnd_chance(&k->rng, 70) ? 1 : a_count(k, DM_CHAIN_SWITCH_MAX + 1);
	s->disks = a_pointer(k);
	s->decider = rnd_chance(&k->rng, 80) ? 0 : a_count(k, 4);
	s->hints = rnd_chance(&k->rng, 70) ? 0 : a_pointer(k) + 8192;
	memset(d, 0, 300 * sizeof(*d));
	for (i = 0; i < 300; i++) {
		dev_t dev = a_disk(k);

		d[i].major = major(dev);
		d[i].minor = minor(dev);
	}
}

static void fill_acquire(struct kf *k, struct dm_chain_acquire *a)
{
	a->op = 1 + rnd_below(&k->rng, 18);
	/* Those of which jobs begin */
	if (rnd_chance(&k->rng, 60))
		a->op = DM_CHAIN_OP_COMMIT + rnd_below(&k->rng, 4);
	a->flags = rnd_chance(&k->rng, 20);
	a->top = a_count(k, 3);
	a->base = rnd_chance(&k->rng, 40) ? 0 : a_count(k, 4);
}

static void fill_start(struct kf *k, struct dm_chain_job_start *s)
{
	s->token = a_token(k);
	s->flags = rnd_chance(&k->rng, 50) ? 0 : rnd_below(&k->rng, 128);
	s->speed = rnd_chance(&k->rng, 70) ? 0 : kf_edge(&k->rng);
	s->on_error = rnd_below(&k->rng, 5);
	a_path(k, s->parent_path, sizeof(s->parent_path));
}

static void fill_array(struct kf *k, u32 nr, union call *c)
{
	switch (nr) {
	case _IOC_NR(DM_CHAIN_IOC_LAYERS):
		c->layers.nr = a_count(k, 12);
		c->layers.layer_size = a_size(k, sizeof(struct dm_chain_layer));
		c->layers.layers = a_pointer(k);
		c->layers.flags = rnd_chance(&k->rng, 30);
		break;
	case _IOC_NR(DM_CHAIN_IOC_MAP):
		c->map.start = rnd_chance(&k->rng, 60) ? 0 :
			       kf_edge(&k->rng) << rnd_below(&k->rng, 10);
		c->map.extents = a_pointer(k);
		c->map.nr = a_count(k, 64);
		break;
	case _IOC_NR(DM_CHAIN_IOC_HOLDERS):
		if (rnd_chance(&k->rng, 30))
			memset(c, 0, 8);
		c->holders.nr = a_count(k, 64);
		c->holders.holder_size = a_size(k, sizeof(struct dm_chain_holder));
		c->holders.holders = a_pointer(k);
		c->holders.flags = rnd_chance(&k->rng, 30);
		c->holders.require = rnd_chance(&k->rng, 20) ? rnd_below(&k->rng, 256) : 0;
		break;
	default:
		c->jobs.id = rnd_chance(&k->rng, 60) ? 0 : an_id(k);
		c->jobs.nr = a_count(k, 64);
		c->jobs.job_size = a_size(k, sizeof(struct dm_chain_job));
		c->jobs.jobs = a_pointer(k);
	}
}

static void fill(struct kf *k, u32 nr, union call *c)
{
	dev_t dev = a_disk(k);

	/* Most begin so. */
	c->layers.major = major(dev);
	c->layers.minor = minor(dev);
	switch (nr) {
	case _IOC_NR(DM_CHAIN_IOC_VERSION):
		memset(c, 0, sizeof(c->version));
		memset(c->version.host, rnd_chance(&k->rng, 20), sizeof(c->version.host));
		break;
	case _IOC_NR(DM_CHAIN_IOC_SWITCH):
		memset(c, 0, sizeof(c->sw));
		fill_switch(k, &c->sw);
		break;
	case _IOC_NR(DM_CHAIN_IOC_RESIZE):
		c->resize.size = rnd_chance(&k->rng, 50) ? (4 << 20) + 512 * rnd_below(&k->rng, 9) :
							   kf_edge(&k->rng);
		break;
	case _IOC_NR(DM_CHAIN_IOC_EXPEDITE):
		memset(c, 0, sizeof(c->expedite));
		c->expedite.on = rnd_below(&k->rng, 3);
		break;
	case _IOC_NR(DM_CHAIN_IOC_ACQUIRE):
		fill_acquire(k, &c->acquire);
		break;
	case _IOC_NR(DM_CHAIN_IOC_JOB_START):
		fill_start(k, &c->start);
		break;
	case _IOC_NR(DM_CHAIN_IOC_JOB_VERB):
		c->verb.id = an_id(k);
		c->verb.verb = 1 + rnd_below(&k->rng, 5);
		c->verb.arg = c->verb.verb == 3 ? kf_edge(&k->rng) : 0;
		break;
	case _IOC_NR(DM_CHAIN_IOC_MONITOR):
		memset(c, 0, sizeof(c->monitor));
		c->monitor.event_size = a_size(k, sizeof(struct dm_chain_job_event));
		break;
	case _IOC_NR(DM_CHAIN_IOC_RELINK):
		c->relink.token = a_token(k);
		a_path(k, c->relink.parent_path, sizeof(c->relink.parent_path));
		break;
	case _IOC_NR(DM_CHAIN_IOC_OPENERS):
		memset(c, 0, sizeof(c->openers));
		c->openers.fd = rnd_below(&k->rng, 64);
		break;
	default:
		fill_array(k, nr, c);
	}
}

/* --- What is spoiled --- */

static void spoil(struct kf *k, u8 *buf, size_t size)
{
	u32 n = 1 + rnd_below(&k->rng, 3);

	while (n-- && size >= 8) {
		u64 v = kf_edge(&k->rng);
		size_t width = 1UL << rnd_below(&k->rng, 4);

		if (rnd_chance(&k->rng, 20))
			v = a_bad_pointer(k);
		memcpy(buf + rnd_below(&k->rng, size / width) * width, &v, width);
	}
}

static size_t other_size(struct kf *k, size_t size)
{
	switch (rnd_below(&k->rng, 5)) {
	case 0:
		return rnd_below(&k->rng, size + 1);
	case 1:
		return size + 8 * rnd_below(&k->rng, 8);
	case 2:
		return rnd_below(&k->rng, 16384);
	case 3:
		return 16383;
	default:
		return size + 1 - 2 * rnd_below(&k->rng, 2);
	}
}

/* How much of the room a call may write. */
static size_t writable(u32 nr, const union call *c, const struct kf *k)
{
	u64 n = 0, size = 0, at = 0;

	switch (nr) {
	case _IOC_NR(DM_CHAIN_IOC_SWITCH):
		n = c->sw.nr_disks;
		size = sizeof(struct dm_chain_switch_disk);
		at = c->sw.disks;
		break;
	case _IOC_NR(DM_CHAIN_IOC_LAYERS):
		n = c->layers.nr;
		size = c->layers.layer_size;
		at = c->layers.layers;
		break;
	case _IOC_NR(DM_CHAIN_IOC_MAP):
		n = c->map.nr;
		size = sizeof(struct dm_chain_extent);
		at = c->map.extents;
		break;
	case _IOC_NR(DM_CHAIN_IOC_HOLDERS):
		n = c->holders.nr;
		size = c->holders.holder_size;
		at = c->holders.holders;
		break;
	case _IOC_NR(DM_CHAIN_IOC_JOBS):
		n = c->jobs.nr;
		size = c->jobs.job_size;
		at = c->jobs.jobs;
		break;
	}
	/* What names the room by other ways may do with it what it wants. */
	return at == (uintptr_t)k->room && n * size < ROOM_BYTES ? n * size : ROOM_BYTES;
}

static bool is_filler(const u8 *p, size_t n)
{
	return !n || (*p == FILLER && !memcmp(p, p + 1, n - 1));
}

/* --- The call --- */

/* Only of what the caller was told: else it has no idea of it. */
static void keep_token(struct kf *k, const union call *c)
{
	u32 i = rnd_below(&k->rng, KF_TOKENS);

	if (c->acquire.fd <= 2)
		return;
	if (k->token[i])
		close(k->token[i]);
	k->token[i] = c->acquire.fd;
	k->ids[i] = c->acquire.id;
	(void)fcntl(c->acquire.fd, F_SETFL, O_NONBLOCK);
}

/* The answer, if there is one, takes the place of what was asked. */
static int do_call(struct kf *k, u32 nr, union call *c, size_t size)
{
	bool sane = rnd_chance(&k->rng, 92);
	size_t shift = rnd_chance(&k->rng, 50) ? ARG_BYTES - size : 8 * rnd_below(&k->rng, 64);
	u8 *at = k->arg + (shift + size > ARG_BYTES ? 0 : shift);
	u64 p = sane ? (uintptr_t)at : a_bad_pointer(k);
	u32 dir = rnd_chance(&k->rng, 97) ? 3 : rnd_below(&k->rng, 4);
	size_t allowed = writable(nr, c, k);
	int r, err;

	kf_say(k, "call %u size %zu at %s", nr, size, sane ? "the end" : "a bad place");
	memset(k->arg, FILLER, ARG_BYTES);
	/* A switch has its input there. */
	memset(k->room + allowed, FILLER, nr == 1 && allowed < 8192 ? 0 : ROOM_BYTES - allowed);
	memcpy(at, c, size);
	r = ioctl(k->ctl[rnd_below(&k->rng, 2)], _IOC(dir, DM_CHAIN_IOC_TYPE, nr, size), p);
	err = r < 0 ? errno : 0;
	kf_note(k, nr < KF_UNKNOWN ? nr : KF_UNKNOWN, err);
	if (r > 0)
		kf_wrong(k, "a call returned what is neither 0 nor an error");
	if (!sane)
		return err;
	if (!is_filler(k->arg, at - k->arg) ||
	    !is_filler(at + size, k->arg + ARG_BYTES - at - size))
		kf_wrong(k, "a call wrote beside its argument");
	if (nr != 1 && !is_filler(k->room + allowed, ROOM_BYTES - allowed))
		kf_wrong(k, "a call wrote behind its array");
	if (!err && nr == _IOC_NR(DM_CHAIN_IOC_ACQUIRE) && dir == 3 &&
	    size >= offsetof(struct dm_chain_acquire, conflict))
		keep_token(k, (void *)at);
	memcpy(c, at, size);
	return err;
}

static void read_events(struct kf *k)
{
	int fd = rnd_chance(&k->rng, 50) ? k->ctl[rnd_below(&k->rng, 2)] :
					   k->token[rnd_below(&k->rng, KF_TOKENS)];
	size_t n = rnd_chance(&k->rng, 70) ? 4096 : rnd_below(&k->rng, 1024);
	u64 p = rnd_chance(&k->rng, 90) ? (uintptr_t)k->room : a_bad_pointer(k);

	if (!fd)
		return;
	kf_say(k, "read %zu bytes of events", n);
	kf_note(k, KF_READ, read(fd, (void *)(uintptr_t)p, n) < 0);
}

static void drop(struct kf *k)
{
	u32 i = rnd_below(&k->rng, KF_TOKENS + 1);

	kf_say(k, "close descriptor %u", i);
	if (i == KF_TOKENS) {
		close(k->ctl[1]);
		k->ctl[1] = open_ctl();
	} else if (k->token[i]) {
		close(k->token[i]);
		k->token[i] = 0;
	}
}

/* --- A job, from its token to its end: most of what a fuzzer never gets to --- */

static int step(struct kf *k, unsigned long cmd, union call *c)
{
	if (rnd_chance(&k->rng, 5))
		spoil(k, c->bytes, _IOC_SIZE(cmd));
	return do_call(k, _IOC_NR(cmd), c, _IOC_SIZE(cmd));
}

static u32 take_token(struct kf *k, dev_t dev, union call *c)
{
	static const struct {
		u32 op, top, base, table;
	} jobs[] = {
		{ DM_CHAIN_OP_STREAM, 0, 3, KF_PLAIN }, { DM_CHAIN_OP_STREAM, 0, 2, KF_PLAIN },
		{ DM_CHAIN_OP_COMMIT, 1, 2, KF_RW }, { DM_CHAIN_OP_ACTIVE_COMMIT, 0, 1, KF_RW },
		{ DM_CHAIN_OP_ACTIVE_COMMIT, 0, 2, KF_RW }, { DM_CHAIN_OP_MIRROR, 0, 0, KF_TARGET },
		{ DM_CHAIN_OP_MIRROR, 0, 0, KF_RAW_TARGET },
	};
	u32 i = rnd_below(&k->rng, ARRAY_SIZE(jobs));

	memset(c, 0, sizeof(*c));
	c->acquire.major = major(dev);
	c->acquire.minor = minor(dev);
	c->acquire.op = jobs[i].op;
	c->acquire.top = jobs[i].top;
	c->acquire.base = jobs[i].base;
	return jobs[i].table;
}

static void end_job(struct kf *k, dev_t dev, u64 id)
{
	struct dm_chain_switch_disk *d = (void *)k->room;
	union call c = { 0 };
	u32 n;

	for (n = rnd_below(&k->rng, 4); n; n--) {
		memset(&c, 0, sizeof(c.verb));
		c.verb.id = id;
		c.verb.verb = 1 + rnd_below(&k->rng, 4);
		step(k, DM_CHAIN_IOC_JOB_VERB, &c);
		sleep_ms(rnd_below(&k->rng, 20));
	}
	memset(&c, 0, sizeof(c.sw));
	c.sw.op = DM_CHAIN_SWITCH_PIVOT;
	c.sw.nr_disks = 1;
	c.sw.disks = (uintptr_t)d;
	*d = (struct dm_chain_switch_disk){ .major = major(dev), .minor = minor(dev) };
	step(k, DM_CHAIN_IOC_SWITCH, &c);
}

static void job(struct kf *k)
{
	u32 disk = rnd_below(&k->rng, 2), table;
	dev_t dev = kf_dm_disk(disk);
	union call c = { 0 };
	int token;

	table = take_token(k, dev, &c);
	kf_dm_table(k, disk, table == KF_RW ? KF_PLAIN : table);
	if (step(k, DM_CHAIN_IOC_ACQUIRE, &c))
		return;
	token = c.acquire.fd;
	if (table == KF_RW)
		kf_dm_table(k, disk, table);
	memset(&c, 0, sizeof(c.start));
	c.start.token = token;
	c.start.flags = rnd_chance(&k->rng, 80) ? DM_CHAIN_JOB_FORCE : rnd_below(&k->rng, 64);
	c.start.speed = rnd_chance(&k->rng, 50) ? 0 : 1 << rnd_below(&k->rng, 24);
	strcpy(c.start.parent_path, "hint");
	if (!step(k, DM_CHAIN_IOC_JOB_START, &c))
		end_job(k, dev, c.start.id);
}

void kf_call(struct kf *k)
{
	u32 what = rnd_below(&k->rng, 100), nr = rnd_below(&k->rng, KF_UNKNOWN);
	union call c;
	size_t size;

	if (what < 5) {
		read_events(k);
		return;
	}
	if (what < 10) {
		drop(k);
		return;
	}
	if (what < 16) {
		job(k);
		return;
	}
	if (what < 18)
		nr = rnd_below(&k->rng, 256);
	else if (what < 36)
		nr = rnd_chance(&k->rng, 50) ? _IOC_NR(DM_CHAIN_IOC_ACQUIRE) :
					       _IOC_NR(DM_CHAIN_IOC_JOB_START);
	size = sizes[nr < KF_UNKNOWN ? nr : KF_UNKNOWN];
	memset(&c, 0, sizeof(c));
	if (nr < KF_UNKNOWN)
		fill(k, nr, &c);
	if (rnd_chance(&k->rng, 30))
		spoil(k, c.bytes, size);
	if (rnd_chance(&k->rng, 12))
		size = other_size(k, size);
	if (rnd_chance(&k->rng, 3))
		spoil(k, c.bytes, sizeof(c));
	do_call(k, nr, &c, size);
}
