// SPDX-License-Identifier: GPL-2.0-or-later
// sources: tests/tools/common.c tests/tools/lib/kfuzz-ctl.c tests/tools/lib/kfuzz-dm.c
/*
 * Hostile input for the module: each call of /dev/dm-chain, tables and messages of
 * device-mapper, from several threads at once, by a grammar that knows what would be
 * valid, and then spoils it.
 *
 * What operation N does follows from the seed and N alone, so that one that went wrong
 * can be done again; what the disks are at that time is another matter.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "lib/kfuzz.h"

#define RENEW_EVERY	250	/* operations */

struct pool pool;
struct tally tallies[KF_KINDS];

static u64 seed, first, last = ~0ULL, next_op, deadline, patience, least;
static bool wanted[KF_KINDS];
static u32 nr_threads = 4, hang_secs = 120;
static int log_fd = -1;
static struct kf threads[MAX_THREADS];
static atomic_bool stop, wrong;

static void usage(void)
{
	fprintf(stderr,
"usage: kfuzz --seed S [--from N] [--count M] [--seconds T [--least M]] [--threads K] [--log FILE]\n"
"             [--want KIND...] [--hang SECONDS] --disk NAME... --table TABLE... [--device DEV...]\n"
"--want: goes on until one of that kind was done, but no longer than a hang would take;\n"
"--disk: its contents stay as they are whatever is done; --table: what would be valid,\n"
"MAJOR:MINOR that may be overwritten; --device: others that a table may name, behind all\n"
"tables\n");
	exit(EX_USE);
}

void kf_wrong(struct kf *k, const char *what)
{
	bad("operation %llu of seed %llu: %s", (unsigned long long)k->n,
	    (unsigned long long)seed, what);
	wrong = true;
	stop = true;
}

void kf_note(struct kf *k, enum kf_kind kind, int err)
{
	struct tally *t = &tallies[kind];

	(void)k;
	__atomic_add_fetch(err ? &t->refused : &t->done, 1, __ATOMIC_RELAXED);
}

/* Before it is done, for it may be the last one. */
void kf_say(struct kf *k, const char *fmt, ...)
{
	char line[512];
	va_list args;
	int n, m;

	if (log_fd < 0)
		return;
	n = snprintf(line, sizeof(line), "%llu ", (unsigned long long)k->n);
	va_start(args, fmt);
	m = vsnprintf(line + n, sizeof(line) - n - 1, fmt, args);
	va_end(args);
	n = m < (int)sizeof(line) - n - 1 ? n + m : (int)sizeof(line) - 2;
	line[n++] = '\n';
	if (write(log_fd, line, n) != n)
		log_fd = -1;
}

u64 kf_edge(struct rng *r)
{
	static const u64 edges[] = {
		0, 1, 2, 7, 8, 63, 64, 255, 256, 511, 512, 1023, 1024, 1025, 4095, 4096, 4097,
		65535, 65536, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, 1ULL << 46,
		(1ULL << 46) + 512, 1ULL << 62, 1ULL << 63, ~0ULL, ~0ULL - 511, ~0ULL << 9,
	};

	return rnd_chance(r, 15) ? rnd(r) >> rnd_below(r, 64) :
				   edges[rnd_below(r, ARRAY_SIZE(edges))];
}

/* What a thread does in between is no operation of others: they take it for reading. */
static pthread_rwlock_t renewing = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

/* Chains that were spoiled by what was done to them are refused for ever after. */
static void renew(struct kf *k)
{
	u32 i;

	pthread_rwlock_wrlock(&renewing);
	k->since = now_ns();
	kf_say(k, "renew");
	for (i = 0; i < nr_threads; i++)
		kf_drop_tokens(&threads[i]);
	if (!kf_dm_exit())
		kf_wrong(k, "a disk can't be removed");
	kf_dm_init();
	k->since = 0;
	pthread_rwlock_unlock(&renewing);
}

static void one(struct kf *k)
{
	rng_init(&k->rng, seed, k->n);
	k->since = now_ns();
	if (rnd_chance(&k->rng, 60))
		kf_call(k);
	else
		kf_dm(k);
	k->since = 0;
}

static bool wants(void)
{
	u32 i;

	for (i = 0; i < KF_KINDS; i++)
		if (wanted[i] && !__atomic_load_n(&tallies[i].done, __ATOMIC_RELAXED))
			return true;
	return false;
}

/* So long, and at least so many, of each kind: some machines are slow. */
static bool goes_on(void)
{
	u64 now = now_ns();

	return !stop && (now < deadline ||
			 __atomic_load_n(&next_op, __ATOMIC_RELAXED) < first + least ||
			 (now < patience && wants()));
}

static void *work(void *arg)
{
	struct kf *k = arg;

	while (goes_on()) {
		k->n = __atomic_fetch_add(&next_op, 1, __ATOMIC_RELAXED);
		if (k->n >= last)
			break;
		if (k->n % RENEW_EVERY == RENEW_EVERY - 1)
			renew(k);
		pthread_rwlock_rdlock(&renewing);
		one(k);
		pthread_rwlock_unlock(&renewing);
	}
	return NULL;
}

/* --- Who looks whether all goes on --- */

static bool is_report(const char *text)
{
	static const char * const words[] = {
		"BUG:", "KASAN", "UBSAN", "WARNING:", "general protection", "Oops",
		"possible circular", "possible recursive", "inconsistent lock", "refcount_t:",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(words); i++)
		if (strstr(text, words[i]))
			return true;
	return false;
}

static void look_at_log(int fd)
{
	char text[8193];
	ssize_t n;

	while ((n = read(fd, text, sizeof(text) - 1)) > 0 || (n < 0 && errno == EPIPE)) {
		if (n < 0)
			continue;
		text[n] = 0;
		if (!is_report(text))
			continue;
		for (n = 0; n < nr_threads; n++)
			kf_wrong(&threads[n], "the kernel complained at this time");
		return;
	}
}

static void look_for_hang(struct kf *k)
{
	u64 since = k->since, now = now_ns();
	int fd;

	if (!since || now < since || now - since < hang_secs * 1000000000ULL)
		return;
	kf_wrong(k, "hangs");
	fd = open("/proc/sysrq-trigger", O_WRONLY);
	if (fd >= 0 && write(fd, "w", 1) < 0)
		bad("sysrq: %s", strerror(errno));
	exit(EX_BAD);
}

static void *watch(void *arg)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	u32 i;

	(void)arg;
	if (fd < 0 || lseek(fd, 0, SEEK_END) < 0)
		die("/dev/kmsg: %s", strerror(errno));
	for (;;) {
		sleep_ms(500);
		/* What one thread suspends another one may wait for. */
		kf_resume_all();
		look_at_log(fd);
		for (i = 0; i < nr_threads; i++)
			look_for_hang(&threads[i]);
	}
	return NULL;
}

/* --- */

static void add_disk(const char *name)
{
	char path[256];
	struct stat st;

	snprintf(path, sizeof(path), "/dev/mapper/%s", name);
	if (stat(path, &st) || !S_ISBLK(st.st_mode) || pool.nr_disks == KF_DISKS)
		die("%s: no disk, or one too many", path);
	pool.disks[pool.nr_disks++] = st.st_rdev;
}

static void add_device(const char *name)
{
	if (pool.nr_devices == KF_DEVICES)
		die("too many devices");
	pool.devices[pool.nr_devices++] = name;
}

/* "SECTORS chain N DEV FORMAT ROLE..." */
static void add_table(char *text)
{
	char *copy = strdup(text), *word;

	if (pool.nr_tables == KF_TABLES || pool.nr_owned != pool.nr_devices ||
	    !strstr(text, " chain "))
		die("no table, or one too many: %s", text);
	pool.tables[pool.nr_tables++] = text;
	while ((word = strsep(&copy, " ")))
		if (strchr(word, ':'))
			add_device(word);
	pool.nr_owned = pool.nr_devices;
}

static void add_wanted(const char *name)
{
	u32 i;

	for (i = 0; i < KF_KINDS && strcmp(kf_kind_names[i], name); i++)
		;
	if (i == KF_KINDS)
		die("%s: no such kind", name);
	wanted[i] = true;
}

static int open_log(const char *path)
{
	return open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
}

static void parse(int argc, char **argv)
{
	static const struct option opts[] = {
		{ "seed", 1, NULL, 's' }, { "from", 1, NULL, 'f' }, { "count", 1, NULL, 'c' },
		{ "seconds", 1, NULL, 't' }, { "least", 1, NULL, 'm' }, { "threads", 1, NULL, 'k' },
		{ "log", 1, NULL, 'l' }, { "hang", 1, NULL, 'h' }, { "disk", 1, NULL, 'd' },
		{ "table", 1, NULL, 'T' }, { "device", 1, NULL, 'D' }, { "want", 1, NULL, 'w' }, { 0 },
	};
	u64 count = 0, secs = 0;
	int c;

	while ((c = getopt_long(argc, argv, "", opts, NULL)) != -1) {
		if (c == 's')
			seed = parse_num(optarg);
		else if (c == 'f')
			first = parse_num(optarg);
		else if (c == 'c')
			count = parse_num(optarg);
		else if (c == 't')
			secs = parse_num(optarg);
		else if (c == 'm')
			least = parse_num(optarg);
		else if (c == 'k')
			nr_threads = parse_num(optarg);
		else if (c == 'h')
			hang_secs = parse_num(optarg);
		else if (c == 'd')
			add_disk(optarg);
		else if (c == 'T')
			add_table(optarg);
		else if (c == 'D')
			add_device(optarg);
		else if (c == 'w')
			add_wanted(optarg);
		else if (c == 'l')
			log_fd = open_log(optarg);
		else
			usage();
	}
	if (optind != argc || !pool.nr_disks || pool.nr_tables != KF_TABLES || !(count || secs) ||
	    !nr_threads || nr_threads > MAX_THREADS)
		usage();
	last = count ? first + count : ~0ULL;
	deadline = secs ? now_ns() + secs * 1000000000ULL : ~0ULL;
	patience = now_ns() + hang_secs * 1000000000ULL;
}

static void report(void)
{
	int i;

	for (i = 0; i < KF_KINDS; i++)
		if (tallies[i].done + tallies[i].refused)
			printf("%s %llu done, %llu refused\n", kf_kind_names[i],
			       (unsigned long long)tallies[i].done,
			       (unsigned long long)tallies[i].refused);
	printf("seed %llu: operations %llu to %llu\n", (unsigned long long)seed,
	       (unsigned long long)first, (unsigned long long)next_op);
}

int main(int argc, char **argv)
{
	pthread_t id[MAX_THREADS], watcher;
	u32 i;

	set_prog("kfuzz");
	signal(SIGPIPE, SIG_IGN);
	parse(argc, argv);
	next_op = first;
	kf_dm_save();
	kf_dm_init();
	for (i = 0; i < nr_threads; i++)
		kf_init(&threads[i]);
	if (pthread_create(&watcher, NULL, watch, NULL))
		die("threads: %s", strerror(errno));
	for (i = 0; i < nr_threads; i++)
		if (pthread_create(&id[i], NULL, work, &threads[i]))
			die("threads: %s", strerror(errno));
	for (i = 0; i < nr_threads; i++)
		pthread_join(id[i], NULL);
	for (i = 0; i < nr_threads; i++)
		kf_exit(&threads[i]);
	if (!kf_dm_exit())
		wrong = true;
	report();
	return wrong ? EX_BAD : EX_OK;
}
