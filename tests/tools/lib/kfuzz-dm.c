// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tables, messages and the life of disks by device-mapper's own calls, with lines that
 * are valid and lines that were; and I/O on the disks that come of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include "kfuzz.h"

#define NR_FUZZED	3
#define MAX_LINE	12000
#define MAX_WORDS	64

const char * const kf_kind_names[KF_KINDS] = {
	"version", "switch", "resize", "layers", "map", "expedite", "holders", "acquire",
	"job-start", "jobs", "job-verb", "monitor", "relink", "openers", "unknown",
	"create", "load", "clear", "suspend", "resume", "remove", "status", "message",
	"read", "write", "discard", "flush",
};

struct request {
	struct dm_ioctl h;
	u8 data[16384];
};

static int dm_fd = -1;

static void fuzzed_name(u32 i, char *name, size_t room)
{
	snprintf(name, room, "kfuzz%u", i);
}

static void begin(struct request *q, u32 i)
{
	memset(&q->h, 0, sizeof(q->h));
	q->h.version[0] = DM_VERSION_MAJOR;
	q->h.data_size = sizeof(*q);
	q->h.data_start = sizeof(q->h);
	fuzzed_name(i, q->h.name, sizeof(q->h.name));
}

static int send(struct request *q, unsigned long cmd)
{
	return ioctl(dm_fd, cmd, q) ? errno : 0;
}

/* One of which nothing but its name is needed. */
static int simple(u32 i, unsigned long cmd, u32 flags)
{
	struct request q;

	begin(&q, i);
	q.h.flags = flags;
	return send(&q, cmd);
}

/* Headers and the start of the maps: what data there is nobody asks. */
#define SAVED_BYTES	((1 << 20) + 16 * 4096)

struct saved {
	const char *device;	/* MAJOR:MINOR */
	u8 *bytes;
};

static struct saved saved[KF_DEVICES];
static u32 nr_saved;

/* There may be no udev that makes links of these names. */
static int open_device(const struct saved *s)
{
	static const char node[] = "/dev/kfuzz-node";
	unsigned int major, minor;
	int fd = -1;

	if (sscanf(s->device, "%u:%u", &major, &minor) == 2 &&
	    !mknod(node, S_IFBLK | 0600, makedev(major, minor)))
		fd = open(node, O_RDWR | O_DIRECT | O_CLOEXEC);
	unlink(node);
	if (fd < 0)
		die("%s: %s", s->device, strerror(errno));
	return fd;
}

static void save(const char *device)
{
	struct saved *s = &saved[nr_saved];
	u32 i;
	int fd;

	for (i = 0; i < nr_saved; i++)
		if (!strcmp(saved[i].device, device))
			return;
	s->device = device;
	s->bytes = xalloc_aligned(SAVED_BYTES);
	fd = open_device(s);
	if (full_pread(fd, s->bytes, SAVED_BYTES, 0))
		die("%s: can't be read", device);
	close(fd);
	nr_saved++;
}

static void renew(const struct saved *s)
{
	int fd = open_device(s);

	if (full_pwrite(fd, s->bytes, SAVED_BYTES, 0))
		die("%s: can't be written", s->device);
	close(fd);
}

void kf_dm_save(void)
{
	u32 i;

	dm_fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	if (dm_fd < 0)
		die("/dev/mapper/control: %s", strerror(errno));
	for (i = 0; i < pool.nr_owned; i++)
		save(pool.devices[i]);
}

void kf_dm_init(void)
{
	u32 i;

	for (i = 0; i < nr_saved; i++)
		renew(&saved[i]);
	for (i = 0; i < NR_FUZZED; i++)
		if (simple(i, DM_DEV_CREATE, 0))
			die("create: %s", strerror(errno));
}

void kf_resume_all(void)
{
	struct request q;
	u32 i;

	for (i = 0; i < NR_FUZZED; i++) {
		begin(&q, i);
		if (!send(&q, DM_DEV_STATUS) && q.h.flags & DM_SUSPEND_FLAG)
			simple(i, DM_DEV_SUSPEND, 0);
	}
}

bool kf_dm_exit(void)
{
	int err = 0, tries;
	u32 i;

	for (i = 0; i < NR_FUZZED; i++) {
		for (tries = 0; tries < 600; tries++) {
			kf_resume_all();
			err = simple(i, DM_DEV_REMOVE, 0);
			if (!err || err == ENXIO)
				break;
			sleep_ms(100);
		}
		if (tries == 600) {
			bad("kfuzz%u: can't be removed: %s", i, strerror(err));
			return false;
		}
	}
	return true;
}

dev_t kf_dm_disk(u32 i)
{
	struct request q;

	begin(&q, i % NR_FUZZED);
	if (send(&q, DM_DEV_STATUS))
		return 0;
	return makedev(q.h.dev >> 8 & 0xfff, (q.h.dev & 0xff) | (q.h.dev >> 12 & 0xfff00));
}

/* --- The line --- */

struct line {
	char *words[MAX_WORDS];
	char text[MAX_LINE];
	u32 nr;
};

static const char *a_word(struct kf *k)
{
	static const char * const words[] = {
		"chain", "raw", "rw", "ro", "next", "target", "0", "1", "2", "3", "1024", "1025",
		"1032", "1033", "9999", "10000", "4294967296", "-1", "01", "force", "", "RW",
		"/dev/null", "/dev/dm-chain", "/nowhere", ".", "7:", ":", "7:4095", "0:0",
		"1:3x", "99999:99999", "%s%n", "\377\376",
	};
	u32 n = rnd_below(&k->rng, 100);

	if (n < 40 && pool.nr_devices)
		return pool.devices[rnd_below(&k->rng, pool.nr_devices)];
	return words[rnd_below(&k->rng, ARRAY_SIZE(words))];
}

static void insert(struct line *l, u32 at, const char *word)
{
	if (l->nr == MAX_WORDS || at > l->nr)
		return;
	memmove(l->words + at + 1, l->words + at, (l->nr - at) * sizeof(*l->words));
	l->words[at] = (char *)word;
	l->nr++;
}

static void erase(struct line *l, u32 at)
{
	if (at >= l->nr)
		return;
	l->nr--;
	memmove(l->words + at, l->words + at + 1, (l->nr - at) * sizeof(*l->words));
}

/* A layer more, or less, with a count that says so. */
static void other_layers(struct kf *k, struct line *l)
{
	static char * const counts[] = { "0", "1", "2", "3", "4", "5", "6", "7", "8", "9" };
	u32 nr = l->nr ? atoi(l->words[0]) : 0, at, i;

	if (!nr || nr > 8 || l->nr < 1 + 3 * nr)
		return;
	at = 1 + 3 * rnd_below(&k->rng, nr);
	if (rnd_chance(&k->rng, 50)) {
		for (i = 0; i < 3; i++)
			erase(l, at);
		nr--;
	} else {
		insert(l, at, rnd_chance(&k->rng, 50) ? "next" : "target");
		insert(l, at, rnd_chance(&k->rng, 70) ? "chain" : "raw");
		insert(l, at, a_word(k));
		nr++;
	}
	l->words[0] = counts[nr];
}

static void spoil(struct kf *k, struct line *l)
{
	u32 at = rnd_below(&k->rng, l->nr + 1), other = rnd_below(&k->rng, l->nr + 1);
	char *word;

	switch (rnd_below(&k->rng, 7)) {
	case 0:
		erase(l, at);
		break;
	case 1:
		insert(l, at, a_word(k));
		break;
	case 2:
		if (at < l->nr)
			l->words[at] = (char *)a_word(k);
		break;
	case 3:
		if (at < l->nr && other < l->nr) {
			word = l->words[at];
			l->words[at] = l->words[other];
			l->words[other] = word;
		}
		break;
	case 4:
		insert(l, l->nr, "1");
		insert(l, l->nr, "force");
		break;
	default:
		other_layers(k, l);
	}
}

/* A table of the pool, perhaps spoiled; @sectors: its length. */
static void make_line(struct kf *k, u32 disk, char *out, u64 *sectors)
{
	u32 chain = rnd_chance(&k->rng, 90) ? disk % 2 : rnd_below(&k->rng, 2);
	const char *table = pool.tables[chain * KF_PER_CHAIN + rnd_below(&k->rng, KF_PER_CHAIN)];
	struct line l = { .nr = 0 };
	char *rest = l.text, *word;
	u32 n = rnd_chance(&k->rng, 40) ? 0 : 1 + rnd_below(&k->rng, 3), i;
	size_t at = 0;

	*sectors = strtoull(table, NULL, 10);
	snprintf(l.text, sizeof(l.text), "%s", strstr(table, " chain ") + 7);
	while ((word = strsep(&rest, " ")) && l.nr < MAX_WORDS)
		l.words[l.nr++] = word;
	while (n--)
		spoil(k, &l);
	*out = 0;
	for (i = 0; i < l.nr; i++)
		at += snprintf(out + at, 8000 - at, "%s%s", i ? " " : "", l.words[i]);
	/* Far more words than there can be. */
	for (i = rnd_chance(&k->rng, 3) && at < 1000 ? 700 : 0; i; i--)
		at += snprintf(out + at, MAX_LINE - at, " 7:%u raw ro", i);
	if (rnd_chance(&k->rng, 5) && at)
		out[rnd_below(&k->rng, at)] = 1 + rnd_below(&k->rng, 255);
	if (rnd_chance(&k->rng, 10))
		*sectors = kf_edge(&k->rng);
}

static void put_target(struct request *q, u64 sectors, const char *line)
{
	struct dm_target_spec *t = (void *)(q->data);
	size_t n = strlen(line) + 1;

	memset(t, 0, sizeof(*t));
	t->length = sectors;
	strcpy(t->target_type, "chain");
	memcpy(t + 1, line, n);
	t->next = round_up_to(sizeof(*t) + n, 8);
	q->h.target_count = 1;
}

static int load(struct kf *k, u32 i)
{
	char line[MAX_LINE + 1];
	struct request q;
	u64 sectors;

	make_line(k, i, line, &sectors);
	kf_say(k, "load kfuzz%u 0 %llu chain %.400s", i, (unsigned long long)sectors, line);
	begin(&q, i);
	q.h.flags = rnd_chance(&k->rng, 20) ? DM_READONLY_FLAG : 0;
	put_target(&q, sectors, line);
	if (rnd_chance(&k->rng, 3))
		((struct dm_target_spec *)q.data)->sector_start = kf_edge(&k->rng);
	return send(&q, DM_TABLE_LOAD);
}

void kf_dm_table(struct kf *k, u32 disk, u32 table)
{
	const char *text = pool.tables[disk * KF_PER_CHAIN + table];
	struct request q;

	kf_say(k, "load kfuzz%u 0 %s", disk, text);
	begin(&q, disk);
	put_target(&q, strtoull(text, NULL, 10), strstr(text, " chain ") + 7);
	kf_note(k, KF_LOAD, send(&q, DM_TABLE_LOAD));
	kf_note(k, KF_RESUME, simple(disk, DM_DEV_SUSPEND, 0));
}

static int message(struct kf *k, u32 i)
{
	struct request q;
	struct dm_target_msg *m = (void *)q.data;
	u32 n = rnd_below(&k->rng, 6);
	size_t at = 0;

	begin(&q, i);
	m->sector = rnd_chance(&k->rng, 80) ? 0 : kf_edge(&k->rng);
	m->message[0] = 0;
	while (n--)
		at += snprintf(m->message + at, 4096 - at, "%s%s", at ? " " : "", a_word(k));
	kf_say(k, "message kfuzz%u %.100s", i, m->message);
	return send(&q, DM_TARGET_MSG);
}

static int status(struct kf *k, u32 i)
{
	struct request q;

	kf_say(k, "status kfuzz%u", i);
	begin(&q, i);
	q.h.flags = rnd_chance(&k->rng, 50) ? DM_STATUS_TABLE_FLAG : 0;
	if (rnd_chance(&k->rng, 30))
		q.h.flags |= DM_QUERY_INACTIVE_TABLE_FLAG;
	/* Less room than it needs */
	if (rnd_chance(&k->rng, 30))
		q.h.data_size = sizeof(q.h) + rnd_below(&k->rng, 400);
	return send(&q, DM_TABLE_STATUS);
}

/* --- I/O --- */

static int io_on(struct kf *k, int fd, enum kf_kind kind)
{
	u64 len = 512 * (1 + rnd_below(&k->rng, 128)), at = 512 * rnd_below(&k->rng, 10000);
	u64 range[2] = { at, len };
	void *buf = k->room;

	switch (kind) {
	case KF_READ:
		return pread(fd, buf, len, at) < 0 ? errno : 0;
	case KF_WRITE:
		return pwrite(fd, buf, len, at) < 0 ? errno : 0;
	case KF_DISCARD:
		return ioctl(fd, rnd_chance(&k->rng, 50) ? BLKDISCARD : BLKZEROOUT,
			     range) ? errno : 0;
	default:
		return fsync(fd) ? errno : 0;
	}
}

static void io(struct kf *k, u32 i)
{
	enum kf_kind kind = KF_READ + rnd_below(&k->rng, 4);
	dev_t dev = kf_dm_disk(i);
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/dev/dm-%u", minor(dev));
	fd = dev ? open(path, O_RDWR | O_DIRECT | O_CLOEXEC | O_NONBLOCK) : -1;
	if (fd < 0)
		return;
	kf_say(k, "%s kfuzz%u", kf_kind_names[kind], i);
	kf_note(k, kind, io_on(k, fd, kind));
	close(fd);
}

/* --- */

/* A disk, from its creation to its end, in no order. */
static void live(struct kf *k, u32 i)
{
	static const struct {
		enum kf_kind kind;
		unsigned long cmd;
		u32 flags;
	} steps[] = {
		{ KF_SUSPEND, DM_DEV_SUSPEND, DM_SUSPEND_FLAG },
		{ KF_SUSPEND, DM_DEV_SUSPEND, DM_SUSPEND_FLAG | DM_NOFLUSH_FLAG },
		{ KF_RESUME, DM_DEV_SUSPEND, 0 },
		{ KF_RESUME, DM_DEV_SUSPEND, 0 },
		{ KF_RESUME, DM_DEV_SUSPEND, 0 },
		{ KF_CLEAR, DM_TABLE_CLEAR, 0 },
		{ KF_REMOVE, DM_DEV_REMOVE, 0 },
	};
	u32 s = rnd_below(&k->rng, ARRAY_SIZE(steps));

	kf_say(k, "%s kfuzz%u", kf_kind_names[steps[s].kind], i);
	kf_note(k, steps[s].kind, simple(i, steps[s].cmd, steps[s].flags));
	if (steps[s].kind == KF_REMOVE)
		kf_note(k, KF_CREATE, simple(i, DM_DEV_CREATE, 0));
}

void kf_dm(struct kf *k)
{
	u32 what = rnd_below(&k->rng, 100), i = rnd_below(&k->rng, NR_FUZZED);

	if (what < 40) {
		kf_note(k, KF_LOAD, load(k, i));
		if (rnd_chance(&k->rng, 85))
			kf_note(k, KF_RESUME, simple(i, DM_DEV_SUSPEND, 0));
	} else if (what < 50) {
		kf_note(k, KF_MESSAGE, message(k, i));
	} else if (what < 58) {
		kf_note(k, KF_STATUS, status(k, i));
	} else if (what < 80) {
		io(k, i);
	} else {
		live(k, i);
	}
}
