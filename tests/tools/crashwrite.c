// SPDX-License-Identifier: GPL-2.0-or-later
// libs: -lpthread
// sources: tests/tools/common.c tests/tools/lib/opslog.c tests/tools/lib/crashcheck.c tests/tools/lib/rangelock.c tests/tools/lib/fua.c tests/tools/lib/dmmark.c tests/tools/lib/writelog.c tests/tools/lib/writesim.c
/*
 * Writes self-naming sectors, flushes, discards; keeps a log of it elsewhere;
 * and tells whether a disk after a power cut shows nothing but what that
 * allows. Marks go to log-writes targets below when a flush or a FUA write has
 * been acknowledged.
 *
 * log-writes logs in an order that would make false losses of two things that
 * are legal, so they are avoided unless asked for: a FUA write into a block
 * with unflushed changes (--fua-any), and flushes that overlap in time
 * (--parallel-flush).
 */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "lib/crashcheck.h"
#include "lib/dmmark.h"
#include "lib/fua.h"
#include "lib/opslog.h"
#include "lib/rangelock.h"
#include "lib/writelog.h"

#define MAX_MARK_DEVS	16
#define HOT_OPS		256
#define HOT_BLOCKS	16
#define IN_FLIGHT	(~0ULL)
#define EX_REFUSED	3		/* of a hook: there is no snapshot of this number */

static struct {
	struct dev dev;
	struct opslog log;
	struct rangelock locks;
	struct wsim *sim;
	pthread_rwlock_t gate;
	pthread_mutex_t flush_lock, mark_lock;

	u64 seconds, ops, seed, min, max, mark_every;
	unsigned int threads, flush_percent, fua_percent;
	bool discard, zeroes, fua, fua_any, parallel_flush;
	const char *mark_devs[MAX_MARK_DEVS];
	unsigned int nr_mark_devs;

	u64 mark_fuas;			/* each of so many has a mark */
	const char *hook;
	u64 hook_every, hook_max;
	bool hook_freeze;

	atomic_ullong next_op, ticket, clean, flushes, marks, fuas, snaps;
	atomic_ullong *dirty;		/* of a block: ticket of its last change */
	atomic_bool stop, failed;
	u64 start;
} cw = {
	.ops = ~0ULL, .seed = 1, .min = SECTOR, .max = 64 << 10,
	.mark_every = 1, .mark_fuas = 4, .threads = 2, .flush_percent = 6,
	.fua_percent = 10, .discard = true, .zeroes = true, .fua = true,
	.flush_lock = PTHREAD_MUTEX_INITIALIZER,
	.mark_lock = PTHREAD_MUTEX_INITIALIZER,
};

struct worker {
	pthread_t id;
	unsigned int no;
	struct rng rng;
	u8 *buf;
};

static void fail_run(const char *what, u64 off, u64 len, int error)
{
	bad("%s: %s %llu+%llu: %s", cw.dev.path, what, (unsigned long long)off,
	    (unsigned long long)len, strerror(-error));
	atomic_store(&cw.failed, true);
	atomic_store(&cw.stop, true);
}

/* What has changed since the last flush */

static void set_dirty(u64 off, u64 len, u64 ticket)
{
	u64 b;

	for (b = off / cw.dev.block; b * cw.dev.block < off + len; b++)
		atomic_store(&cw.dirty[b], ticket);
}

static bool is_clean(u64 off, u64 len)
{
	u64 clean = atomic_load(&cw.clean), b;

	for (b = off / cw.dev.block; b * cw.dev.block < off + len; b++)
		if (atomic_load(&cw.dirty[b]) > clean)
			return false;
	return true;
}

/* Marks */

static void send_mark(void)
{
	char text[32];
	unsigned int i;
	int r;
	u64 no;

	pthread_mutex_lock(&cw.mark_lock);
	no = atomic_fetch_add(&cw.marks, 1) + 1;
	opslog_add(&cw.log, REC_MARK, 0, no);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)no);
	for (i = 0; i < cw.nr_mark_devs; i++) {
		r = dm_mark(cw.mark_devs[i], text);
		if (r)
			die("%s: mark: %s", cw.mark_devs[i], strerror(-r));
	}
	if (cw.sim)
		wsim_mark(cw.sim, text);
	pthread_mutex_unlock(&cw.mark_lock);
}

/* Operations */

static int do_flush(struct worker *w)
{
	u64 seq, ticket;
	int r;

	if (!cw.parallel_flush)
		pthread_mutex_lock(&cw.flush_lock);
	ticket = atomic_load(&cw.ticket);
	seq = opslog_issue(&cw.log, REC_FLUSH, w->no, 0, 0);
	r = dev_flush(&cw.dev, rnd_chance(&w->rng, 50));
	if (!r) {
		opslog_add(&cw.log, REC_FLUSH_ACK, w->no, seq);
		if (!cw.parallel_flush)
			atomic_store(&cw.clean, ticket);
	}
	if (!cw.parallel_flush)
		pthread_mutex_unlock(&cw.flush_lock);
	if (r)
		fail_run("flush", 0, 0, r);
	else if (atomic_fetch_add(&cw.flushes, 1) % cw.mark_every == 0)
		send_mark();
	return r;
}

/* Not every device below can unmap and promise zeroes. */
static int zero(struct worker *w, u64 off, u64 len)
{
	int r = -EOPNOTSUPP;

	if (rnd_chance(&w->rng, 20))
		r = dev_zero(&cw.dev, off, len, true);
	return r == -EOPNOTSUPP ? dev_zero(&cw.dev, off, len, false) : r;
}

static int issue(struct worker *w, enum rec_type type, u64 seq, u64 off, u64 len)
{
	struct stamp_id id = { .seed = cw.seed, .seq = seq, .thread = w->no };

	switch (type) {
	case REC_DISCARD:
		return dev_discard(&cw.dev, off, len);
	case REC_ZERO:
		return zero(w, off, len);
	case REC_FUA:
		stamp_fill(w->buf, off, len, &id);
		return fua_write(&cw.dev, w->buf, len, off);
	default:
		stamp_fill(w->buf, off, len, &id);
		return dev_write(&cw.dev, w->buf, len, off);
	}
}

/* Locks whole blocks for FUA: no copy-up beside it. */
static enum rec_type lock_for(struct worker *w, enum rec_type type, u64 off, u64 len)
{
	u64 unit = type == REC_FUA ? cw.dev.block : SECTOR;

	range_lock(&cw.locks, w->no, round_down_to(off, unit),
		   round_up_to(off + len, unit), true);
	if (type == REC_FUA && !cw.fua_any && !is_clean(off, len))
		return REC_WRITE;
	return type;
}

static void do_change(struct worker *w, enum rec_type type, u64 off, u64 len)
{
	u64 seq;
	int r;

	type = lock_for(w, type, off, len);
	if (type != REC_FUA)
		set_dirty(off, len, IN_FLIGHT);
	seq = opslog_issue(&cw.log, type, w->no, off, len);
	r = issue(w, type, seq, off, len);
	if (!r)
		opslog_add(&cw.log, REC_ACK, w->no, seq);
	if (type != REC_FUA)
		set_dirty(off, len, atomic_fetch_add(&cw.ticket, 1) + 1);
	range_unlock(&cw.locks, w->no);
	if (r)
		fail_run("write, discard or zeroing", off, len, r);
	else if (type == REC_FUA && atomic_fetch_add(&cw.fuas, 1) % cw.mark_fuas == 0)
		send_mark();
}

static enum rec_type pick_type(struct rng *r)
{
	unsigned int n = rnd_below(r, 100);

	if (n < cw.flush_percent)
		return REC_FLUSH;
	n = rnd_below(r, 100);
	if (n < 10 && cw.discard)
		return REC_DISCARD;
	if (n < 15 && cw.zeroes)
		return REC_ZERO;
	if (n < 15 + cw.fua_percent && cw.fua)
		return REC_FUA;
	return REC_WRITE;
}

static void pick_range(struct rng *r, u64 no, u64 *off, u64 *len)
{
	u64 block = cw.dev.block, room;
	struct rng hot;

	*len = rnd_len(r, cw.min, cw.max, SECTOR);
	room = cw.dev.size - *len;
	rng_init(&hot, cw.seed, no / HOT_OPS);
	if (rnd_chance(r, 60))
		*off = round_down_to(rnd_below(&hot, room + 1), block) +
		       rnd_below(r, HOT_BLOCKS * block);
	else
		*off = rnd_below(r, room + 1);
	*off = round_down_to(min_u64(*off, room), SECTOR);
	if (*len < block || !rnd_chance(r, 60))
		return;
	*off = round_down_to(*off, block);
	*len = round_down_to(*len, block);
}

static void one_op(struct worker *w, u64 no)
{
	enum rec_type type = pick_type(&w->rng);
	u64 off, len;

	if (type == REC_FLUSH) {
		do_flush(w);
		return;
	}
	pick_range(&w->rng, no, &off, &len);
	do_change(w, type, off, len);
}

/* However slow they are, the load goes on until all snapshots are there. */
static bool hooks_due(void)
{
	return cw.hook && cw.hook_max && atomic_load(&cw.snaps) < cw.hook_max;
}

static bool over(u64 no)
{
	return atomic_load(&cw.stop) || (no >= cw.ops && !hooks_due()) ||
	       (cw.seconds && now_ns() - cw.start >= cw.seconds * 1000000000ULL);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	u64 no;

	for (;;) {
		no = atomic_fetch_add(&cw.next_op, 1);
		if (over(no))
			break;
		pthread_rwlock_rdlock(&cw.gate);
		one_op(w, no);
		pthread_rwlock_unlock(&cw.gate);
	}
	return NULL;
}

/* Snapshots */

static void snapshot(unsigned int no)
{
	int status;
	u64 seq;

	if (cw.hook_freeze)
		pthread_rwlock_wrlock(&cw.gate);
	seq = opslog_issue(&cw.log, REC_SNAP, 0, 0, 0);
	status = run_status(EX_REFUSED, "%s %u", cw.hook, no);
	if (!status) {
		opslog_add(&cw.log, REC_SNAP_ACK, 0, seq);
		atomic_fetch_add(&cw.snaps, 1);
		send_mark();
	} else if (status != EX_REFUSED) {
		atomic_store(&cw.failed, true);
		atomic_store(&cw.stop, true);
	}
	if (cw.hook_freeze)
		pthread_rwlock_unlock(&cw.gate);
}

static void *hook_thread(void *arg)
{
	u64 next = cw.hook_every;
	unsigned int no = 0;

	(void)arg;
	while (!atomic_load(&cw.stop) && (!cw.hook_max || no < cw.hook_max)) {
		if (atomic_load(&cw.next_op) < next) {
			sleep_ms(1);
			continue;
		}
		snapshot(++no);
		next += cw.hook_every;
	}
	return NULL;
}

static void init_run(const char *log, const char *simulate)
{
	pthread_rwlockattr_t attr;

	opslog_create(&cw.log, log, cw.seed, cw.dev.size, cw.dev.block);
	if (simulate) {
		cw.sim = wsim_create(simulate);
		cw.dev.watch = wsim_watch;
		cw.dev.watch_arg = cw.sim;
	}
	cw.dirty = xzalloc((cw.dev.size / cw.dev.block + 1) * sizeof(*cw.dirty));
	range_lock_init(&cw.locks);
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr,
				      PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&cw.gate, &attr);
	cw.start = now_ns();
}

static void run_threads(void)
{
	struct worker w[MAX_THREADS] = { 0 };
	pthread_t hook;
	unsigned int i;

	for (i = 0; i < cw.threads; i++) {
		w[i].no = i;
		w[i].buf = xalloc_aligned(cw.max);
		rng_init(&w[i].rng, cw.seed, 1000 + i);
		if (pthread_create(&w[i].id, NULL, work, &w[i]))
			die("cannot start a thread");
	}
	if (cw.hook && pthread_create(&hook, NULL, hook_thread, NULL))
		die("cannot start a thread");
	for (i = 0; i < cw.threads; i++) {
		pthread_join(w[i].id, NULL);
		free(w[i].buf);
	}
	atomic_store(&cw.stop, true);
	if (cw.hook)
		pthread_join(hook, NULL);
	opslog_add(&cw.log, REC_END, 0, 0);
}

enum {
	OPT_LOG = 256, OPT_SECONDS, OPT_OPS, OPT_SEED, OPT_THREADS, OPT_SIZE, OPT_BLOCK,
	OPT_MIN, OPT_MAX, OPT_MARKDEV, OPT_MARKEVERY, OPT_SIMULATE, OPT_NODISCARD, OPT_NOZERO,
	OPT_NOFUA, OPT_FUAANY, OPT_FUAS, OPT_PARALLEL, OPT_FLUSHES, OPT_HOOK, OPT_EVERY,
	OPT_HOOKMAX,
	OPT_FREEZE, OPT_PLANT, OPT_MARK, OPT_FRESH, OPT_NOWHOLE, OPT_INITIAL,
	OPT_SNAPSHOT,
};

static const struct option options[] = {
	{ "log", 1, NULL, OPT_LOG }, { "seconds", 1, NULL, OPT_SECONDS },
	{ "ops", 1, NULL, OPT_OPS }, { "seed", 1, NULL, OPT_SEED },
	{ "threads", 1, NULL, OPT_THREADS }, { "size", 1, NULL, OPT_SIZE },
	{ "block-size", 1, NULL, OPT_BLOCK }, { "min", 1, NULL, OPT_MIN },
	{ "max", 1, NULL, OPT_MAX }, { "mark-dev", 1, NULL, OPT_MARKDEV },
	{ "mark-every", 1, NULL, OPT_MARKEVERY },
	{ "simulate-log", 1, NULL, OPT_SIMULATE },
	{ "no-discard", 0, NULL, OPT_NODISCARD },
	{ "no-zeroes", 0, NULL, OPT_NOZERO }, { "no-fua", 0, NULL, OPT_NOFUA },
	{ "fua-any", 0, NULL, OPT_FUAANY }, { "fua-percent", 1, NULL, OPT_FUAS },
	{ "parallel-flush", 0, NULL, OPT_PARALLEL },
	{ "flush-percent", 1, NULL, OPT_FLUSHES }, { "hook", 1, NULL, OPT_HOOK },
	{ "hook-every", 1, NULL, OPT_EVERY }, { "hook-max", 1, NULL, OPT_HOOKMAX },
	{ "hook-freeze", 0, NULL, OPT_FREEZE },
	{ "self-test-corrupt", 1, NULL, OPT_PLANT }, { "mark", 1, NULL, OPT_MARK },
	{ "fresh", 0, NULL, OPT_FRESH }, { "no-whole", 0, NULL, OPT_NOWHOLE },
	{ "initial", 1, NULL, OPT_INITIAL }, { "snapshot", 1, NULL, OPT_SNAPSHOT },
	{ }
};

static struct {
	struct crash_args check;
	const char *simulate, *plant;
	u64 size, block;
} arg = { .check.whole = true };

static void usage(void)
{
	fprintf(stderr,
"usage: crashwrite run DEV --log FILE --seconds S|--ops N [--seed X]\n"
"               [--threads 2] [--size BYTES] [--block-size 4K] [--min 512] [--max 64K]\n"
"               [--flush-percent 6] [--mark-dev DM-NAME]... [--mark-every N]\n"
"               [--no-discard] [--no-zeroes] [--no-fua] [--fua-any] [--fua-percent 10]\n"
"               [--parallel-flush]\n"
"               [--hook CMD --hook-every OPS [--hook-max K] [--hook-freeze]]\n"
"               [--simulate-log FILE] [--self-test-corrupt DEFECT:N]\n"
"       crashwrite check DEV --log FILE --mark N|end|--snapshot N [--fresh]\n"
"               [--no-whole] [--initial FILE]\n"
"--mark end: no power was cut; --snapshot: what the N-th froze, the hook's others\n"
"counted as well; --fresh: the top was empty at the start;\n"
"--initial: what the disk read as then\n");
	exit(EX_USE);
}

static void take_check_option(int o)
{
	switch (o) {
	case OPT_MARK:
		arg.check.all = !strcmp(optarg, "end");
		arg.check.mark = arg.check.all ? 0 : parse_num(optarg);
		break;
	case OPT_SNAPSHOT:
		arg.check.snapshot = parse_num(optarg);
		break;
	case OPT_FRESH:
		arg.check.fresh = true;
		break;
	case OPT_NOWHOLE:
		arg.check.whole = false;
		break;
	case OPT_INITIAL:
		arg.check.initial = optarg;
		break;
	default:
		usage();
	}
}

static void take_hook_option(int o)
{
	switch (o) {
	case OPT_HOOK:
		cw.hook = optarg;
		break;
	case OPT_EVERY:
		cw.hook_every = parse_num(optarg);
		break;
	case OPT_HOOKMAX:
		cw.hook_max = parse_num(optarg);
		break;
	case OPT_FREEZE:
		cw.hook_freeze = true;
		break;
	case OPT_MARKDEV:
		if (cw.nr_mark_devs == MAX_MARK_DEVS)
			die("too many --mark-dev");
		cw.mark_devs[cw.nr_mark_devs++] = optarg;
		break;
	case OPT_MARKEVERY:
		cw.mark_every = max_u64(1, parse_num(optarg));
		break;
	default:
		take_check_option(o);
	}
}

static void take_flag(int o)
{
	switch (o) {
	case OPT_NODISCARD:
		cw.discard = false;
		break;
	case OPT_NOZERO:
		cw.zeroes = false;
		break;
	case OPT_NOFUA:
		cw.fua = false;
		break;
	case OPT_FUAS:
		/* Who asks for them wants to know of each. */
		cw.fua_percent = parse_num(optarg);
		cw.mark_fuas = 1;
		break;
	case OPT_FUAANY:
		cw.fua_any = true;
		break;
	case OPT_PARALLEL:
		cw.parallel_flush = true;
		break;
	case OPT_SIMULATE:
		arg.simulate = optarg;
		break;
	case OPT_PLANT:
		arg.plant = optarg;
		break;
	default:
		take_hook_option(o);
	}
}

static void take_option(int o)
{
	switch (o) {
	case OPT_LOG:
		arg.check.log = optarg;
		break;
	case OPT_SECONDS:
		cw.seconds = parse_num(optarg);
		break;
	case OPT_OPS:
		cw.ops = parse_num(optarg);
		break;
	case OPT_SEED:
		cw.seed = parse_num(optarg);
		break;
	case OPT_THREADS:
		cw.threads = parse_num(optarg);
		break;
	case OPT_SIZE:
		arg.size = parse_size(optarg);
		break;
	case OPT_BLOCK:
		arg.block = parse_size(optarg);
		break;
	case OPT_MIN:
		cw.min = parse_size(optarg);
		break;
	case OPT_MAX:
		cw.max = parse_size(optarg);
		break;
	case OPT_FLUSHES:
		cw.flush_percent = parse_num(optarg);
		break;
	default:
		take_flag(o);
	}
}

static void check_options(void)
{
	if (cw.min < SECTOR || cw.min % SECTOR || cw.max % SECTOR || cw.max < cw.min)
		die("--min and --max: multiples of 512");
	if (cw.dev.block % SECTOR || cw.dev.size < cw.max)
		die("--block-size or --size");
	if (!cw.threads || cw.threads > MAX_THREADS)
		die("--threads: 1 to %u", MAX_THREADS);
	if (cw.hook && !cw.hook_every)
		die("--hook needs --hook-every");
	if (cw.ops == ~0ULL && !cw.seconds)
		die("--seconds or --ops?");
}

static int cmd_run(const char *path)
{
	dev_open(&cw.dev, path, 0);
	if (arg.size > cw.dev.size)
		die("%s is smaller than --size", path);
	if (arg.size)
		cw.dev.size = round_down_to(arg.size, SECTOR);
	if (arg.block)
		cw.dev.block = arg.block;
	if (arg.plant)
		dev_plant(&cw.dev, arg.plant);
	check_options();
	init_run(arg.check.log, arg.simulate);
	run_threads();
	if (cw.sim)
		wsim_close(cw.sim);
	printf("crashwrite: %s seed %llu ops %llu flushes %llu fua %llu snapshots %llu marks %llu seconds %.1f\n",
	       cw.failed ? "FAILED" : "ok", (unsigned long long)cw.seed,
	       (unsigned long long)cw.log.next_seq - 1,
	       (unsigned long long)cw.flushes, (unsigned long long)cw.fuas,
	       (unsigned long long)cw.snaps, (unsigned long long)cw.marks,
	       (now_ns() - cw.start) / 1e9);
	return cw.failed ? EX_BAD : EX_OK;
}

int main(int argc, char **argv)
{
	int o;

	set_prog("crashwrite");
	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1)
		take_option(o);
	argv += optind;
	if (argc - optind != 2 || !arg.check.log)
		usage();
	if (!strcmp(argv[0], "run"))
		return cmd_run(argv[1]);
	if (!strcmp(argv[0], "check"))
		return crash_check(argv[1], &arg.check);
	usage();
	return EX_USE;
}
