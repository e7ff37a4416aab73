// SPDX-License-Identifier: GPL-2.0-or-later
// libs: -lpthread
// sources: tests/tools/common.c tests/tools/lib/model.c tests/tools/lib/rangelock.c tests/tools/lib/cut.c
/*
 * Random I/O against a plain model: a sparse file that holds the byte that
 * each byte of the device must read as. Operations on the same bytes exclude
 * each other (a lock on the range), so the model is exact at every instant.
 */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "lib/cut.h"
#include "lib/model.h"
#include "lib/rangelock.h"

enum op { OP_READ, OP_WRITE, OP_DISCARD, OP_ZERO, OP_PUNCH, OP_FLUSH, NR_OPS };

static const char *const op_names[NR_OPS] = {
	"read", "write", "discard", "zero", "punch", "flush",
};

struct past {
	u64 no, off, len, begun, done;
	enum op op;
	u32 thread;
};

#define NR_PAST		(1 << 14)
#define HOT_OPS		512
#define HOT_BLOCKS	16

static struct {
	struct dev dev;
	struct model model;
	struct rangelock locks;
	pthread_rwlock_t gate;		/* held for writing by a freezing hook */

	u64 seconds, ops, seed, min, max, align;
	unsigned int threads, read_percent;
	bool discard, zeroes, flush, overlap, verify_end, plain_zero;

	const char *hook;
	u64 hook_every, hook_max;	/* ops, or ms if hook_ms */
	bool hook_ms, hook_freeze;

	atomic_ullong next_op, seq, bytes;
	atomic_ullong count[NR_OPS];
	atomic_uint hooks;
	atomic_bool stop, failed;
	struct past past[NR_PAST];
	pthread_mutex_t report;
	u64 start;
} io = {
	.ops = ~0ULL, .seed = 1, .min = SECTOR, .max = 1 << 20,
	.align = SECTOR, .threads = 4, .read_percent = 40,
	.discard = true, .zeroes = true, .flush = true, .plain_zero = true,
	.report = PTHREAD_MUTEX_INITIALIZER,
};

struct worker {
	pthread_t id;
	unsigned int no;
	struct rng rng;
	u8 *buf, *room;			/* buf: somewhere in room */
};

static void fail_run(void)
{
	atomic_store(&io.failed, true);
	atomic_store(&io.stop, true);
}

/* What lately touched the block: usually enough to see what went wrong. */
static void print_past(u64 at)
{
	u64 from = round_down_to(at, io.dev.block), to = from + io.dev.block;
	u64 end = atomic_load(&io.next_op), shown = 0, i;

	fprintf(stderr, "  lately on this block, latest first (ms from the start):\n");
	for (i = 0; i < min_u64(NR_PAST, end) && shown < 20; i++) {
		const struct past *p = &io.past[(end - 1 - i) % NR_PAST];

		if (p->off >= to || p->off + p->len <= from)
			continue;
		fprintf(stderr, "  op %llu thread %u %s %llu+%llu  %.3f .. %.3f%s\n",
			(unsigned long long)p->no, p->thread, op_names[p->op],
			(unsigned long long)p->off, (unsigned long long)p->len,
			(p->begun - io.start) / 1e6,
			p->done ? (p->done - io.start) / 1e6 : 0,
			p->done ? "" : " (not done)");
		shown++;
	}
}

static void report_mismatch(const char *what, const u8 *seen, const u8 *want,
			    u64 off, u64 len, bool past)
{
	pthread_mutex_lock(&io.report);
	if (!atomic_load(&io.failed)) {
		print_mismatch(what, io.dev.path, seen, want, off, len,
			       io.dev.block);
		if (past)
			print_past(off + first_difference(seen, want, len));
	}
	fail_run();
	pthread_mutex_unlock(&io.report);
}

static void report_error(enum op op, u64 off, u64 len, int error)
{
	bad("%s: %s %llu+%llu: %s", io.dev.path, op_names[op],
	    (unsigned long long)off, (unsigned long long)len, strerror(-error));
	fail_run();
}

/* Where and how much. Half of it lands in a small window that all share. */

static u64 pick_len(struct rng *r)
{
	u64 sub = io.dev.block - SECTOR;

	if (io.overlap && io.min <= sub && rnd_chance(r, 80))
		return rnd_len(r, io.min, max_u64(io.min, min_u64(sub, io.max)),
			       io.align);
	return rnd_len(r, io.min, io.max, io.align);
}

static u64 pick_off(struct rng *r, u64 no, u64 len)
{
	u64 room = io.dev.size - len, window = HOT_BLOCKS * io.dev.block, off;
	struct rng hot;

	if (!rnd_chance(r, io.overlap ? 80 : 50))
		return round_down_to(rnd_below(r, room + 1), io.align);
	rng_init(&hot, io.seed, no / HOT_OPS);
	off = round_down_to(rnd_below(&hot, room + 1), io.dev.block);
	off += rnd_below(r, window);
	return round_down_to(min_u64(off, room), io.align);
}

static void pick_range(struct rng *r, u64 no, u64 *off, u64 *len)
{
	u64 block = io.dev.block;

	*len = min_u64(pick_len(r), round_down_to(io.dev.size, io.align));
	*off = pick_off(r, no, *len);
	if (block % io.align || !rnd_chance(r, 40) || *len < block)
		return;
	*off = round_down_to(*off, block);
	*len = round_down_to(*len, block);
}

static enum op pick_op(struct rng *r)
{
	unsigned int n = rnd_below(r, 100);

	if (n < io.read_percent)
		return OP_READ;
	n = rnd_below(r, 100);
	if (n < 14 && io.discard)
		return OP_DISCARD;
	if (n < 22 && io.zeroes && io.plain_zero)
		return OP_ZERO;
	if (n < 24 && io.zeroes)
		return OP_PUNCH;
	if (n < 29 && io.flush)
		return OP_FLUSH;
	return OP_WRITE;
}

/* The operations; each with its range locked. */

static int op_read(struct worker *w, u64 off, u64 len)
{
	int r = dev_read(&io.dev, w->buf, len, off);

	if (!r && memcmp(w->buf, io.model.mem + off, len))
		report_mismatch("read", w->buf, io.model.mem + off, off, len, true);
	return r;
}

static int op_write(struct worker *w, u64 off, u64 len)
{
	struct stamp_id id = {
		.seed = io.seed, .thread = w->no,
		.seq = atomic_fetch_add(&io.seq, 1) + 1,
	};
	int r;

	stamp_fill(w->buf, off, len, &id);
	r = dev_write(&io.dev, w->buf, len, off);
	if (!r)
		memcpy(io.model.mem + off, w->buf, len);
	return r;
}

static int op_discard(u64 off, u64 len)
{
	int r = dev_discard(&io.dev, off, len);
	u64 from, to;

	if (r == -EOPNOTSUPP)
		die("%s takes no discards (--no-discard)", io.dev.path);
	if (!r && whole_blocks(off, len, io.dev.block, &from, &to))
		model_zero(&io.model, from, to - from);
	return r;
}

static int op_zero(u64 off, u64 len, bool punch)
{
	int r = dev_zero(&io.dev, off, len, punch);

	if (r == -EOPNOTSUPP && punch)
		return 0;
	if (!r)
		model_zero(&io.model, off, len);
	return r;
}

static int do_op(struct worker *w, enum op op, u64 off, u64 len)
{
	switch (op) {
	case OP_READ:
		return op_read(w, off, len);
	case OP_WRITE:
		return op_write(w, off, len);
	case OP_DISCARD:
		return op_discard(off, len);
	case OP_ZERO:
	case OP_PUNCH:
		return op_zero(off, len, op == OP_PUNCH);
	default:
		return dev_flush(&io.dev, rnd_chance(&w->rng, 50));
	}
}

/* What was just changed, and its neighbours as far as they are locked. */
static int read_behind(struct worker *w, enum op op, u64 off, u64 len, u64 unit)
{
	u64 from = round_down_to(off, unit);
	u64 to = min_u64(round_up_to(off + len, unit), io.dev.size);

	if (op == OP_READ || op == OP_FLUSH || !rnd_chance(&w->rng, 20))
		return 0;
	return op_read(w, from, to - from);
}

static void one_op(struct worker *w, u64 no)
{
	enum op op = pick_op(&w->rng);
	struct past *past = &io.past[no % NR_PAST];
	u64 off = 0, len = 0, unit;
	int r;

	w->buf = w->room + rnd_below(&w->rng, PAGE / SECTOR) * SECTOR;
	if (op != OP_FLUSH)
		pick_range(&w->rng, no, &off, &len);
	unit = io.overlap ? SECTOR : io.dev.block;
	range_lock(&io.locks, w->no, round_down_to(off, unit),
		   len ? round_up_to(off + len, unit) : 0, op != OP_READ);
	*past = (struct past){
		.no = no, .off = off, .len = len, .begun = now_ns(), .op = op,
		.thread = w->no,
	};
	r = do_op(w, op, off, len);
	if (!r)
		r = read_behind(w, op, off, len, unit);
	past->done = now_ns();
	range_unlock(&io.locks, w->no);
	if (r)
		report_error(op, off, len, r);
	atomic_fetch_add(&io.count[op], 1);
	atomic_fetch_add(&io.bytes, len);
}

static bool over(u64 no)
{
	return atomic_load(&io.stop) || no >= io.ops ||
	       (io.seconds && now_ns() - io.start >= io.seconds * 1000000000ULL);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	u64 no;

	for (;;) {
		no = atomic_fetch_add(&io.next_op, 1);
		if (over(no))
			break;
		pthread_rwlock_rdlock(&io.gate);
		one_op(w, no);
		pthread_rwlock_unlock(&io.gate);
	}
	return NULL;
}

/* Hooks */

static void hook_now(unsigned int no)
{
	if (io.hook_freeze)
		pthread_rwlock_wrlock(&io.gate);
	if (!run_cmd("%s %u", io.hook, no))
		fail_run();
	else if (io.hook_freeze)
		model_save(&io.model, no);
	if (io.hook_freeze)
		pthread_rwlock_unlock(&io.gate);
	atomic_store(&io.hooks, no);
}

static void *hook_thread(void *arg)
{
	u64 next = io.hook_every;
	unsigned int no = 0;

	(void)arg;
	while (!atomic_load(&io.stop)) {
		u64 at = io.hook_ms ? (now_ns() - io.start) / 1000000 :
				      atomic_load(&io.next_op);

		if (at < next) {
			sleep_ms(1);
			continue;
		}
		hook_now(++no);
		next += io.hook_every;
		if (io.hook_max && no >= io.hook_max) {
			if (io.ops == ~0ULL && !io.seconds)
				atomic_store(&io.stop, true);
			break;
		}
	}
	return NULL;
}

/* The run */

static bool verify_all(const char *what)
{
	const u64 chunk = 1 << 20;
	u8 *buf = xalloc_aligned(chunk);
	u64 off, len;
	int r;

	for (off = 0; off < io.dev.size && !atomic_load(&io.failed); off += len) {
		len = min_u64(chunk, io.dev.size - off);
		r = dev_read(&io.dev, buf, len, off);
		if (r)
			report_error(OP_READ, off, len, r);
		else if (memcmp(buf, io.model.mem + off, len))
			report_mismatch(what, buf, io.model.mem + off, off, len,
					false);
	}
	free(buf);
	return !atomic_load(&io.failed);
}

static void start_workers(struct worker *w)
{
	unsigned int i;

	for (i = 0; i < io.threads; i++) {
		w[i].no = i;
		w[i].room = xalloc_aligned(io.max + 2 * io.dev.block + PAGE);
		rng_init(&w[i].rng, io.seed, 1000 + i);
		if (pthread_create(&w[i].id, NULL, work, &w[i]))
			die("cannot start a thread");
	}
}

static void init_gate(void)
{
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr,
				      PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&io.gate, &attr);
}

static void run_threads(void)
{
	struct worker w[MAX_THREADS] = { 0 };
	pthread_t hook;
	unsigned int i;

	init_gate();
	range_lock_init(&io.locks);
	io.start = now_ns();
	start_workers(w);
	if (io.hook && pthread_create(&hook, NULL, hook_thread, NULL))
		die("cannot start a thread");
	for (i = 0; i < io.threads; i++) {
		pthread_join(w[i].id, NULL);
		free(w[i].room);
	}
	atomic_store(&io.stop, true);
	if (io.hook)
		pthread_join(hook, NULL);
}

static void print_counts(void)
{
	unsigned int i;

	printf("iomodel: %s seed %llu", atomic_load(&io.failed) ? "FAILED" : "ok",
	       (unsigned long long)io.seed);
	for (i = 0; i < NR_OPS; i++)
		printf(" %s %llu", op_names[i], (unsigned long long)io.count[i]);
	printf(" hooks %u MiB %llu seconds %.1f\n", atomic_load(&io.hooks),
	       (unsigned long long)io.bytes >> 20, (now_ns() - io.start) / 1e9);
}

enum {
	OPT_MODEL = 256, OPT_SECONDS, OPT_OPS, OPT_THREADS, OPT_SEED, OPT_SIZE, OPT_MIN,
	OPT_MAX, OPT_NODISCARD, OPT_NOZERO, OPT_NOFLUSH, OPT_ALIGN, OPT_BLOCK, OPT_HOOK,
	OPT_EVERY, OPT_HOOKMAX, OPT_FREEZE, OPT_OVERLAP, OPT_INITDEV, OPT_INIT, OPT_PLANT,
	OPT_VERIFY, OPT_READS, OPT_OFFSET,
};

static const struct option options[] = {
	{ "model", 1, NULL, OPT_MODEL }, { "seconds", 1, NULL, OPT_SECONDS },
	{ "ops", 1, NULL, OPT_OPS }, { "threads", 1, NULL, OPT_THREADS },
	{ "seed", 1, NULL, OPT_SEED }, { "size", 1, NULL, OPT_SIZE },
	{ "min", 1, NULL, OPT_MIN }, { "max", 1, NULL, OPT_MAX },
	{ "no-discard", 0, NULL, OPT_NODISCARD },
	{ "no-zeroes", 0, NULL, OPT_NOZERO }, { "no-flush", 0, NULL, OPT_NOFLUSH },
	{ "align", 1, NULL, OPT_ALIGN }, { "block-size", 1, NULL, OPT_BLOCK },
	{ "hook", 1, NULL, OPT_HOOK }, { "hook-every", 1, NULL, OPT_EVERY },
	{ "hook-max", 1, NULL, OPT_HOOKMAX }, { "hook-freeze", 0, NULL, OPT_FREEZE },
	{ "overlap", 0, NULL, OPT_OVERLAP },
	{ "init-from-dev", 0, NULL, OPT_INITDEV }, { "init", 1, NULL, OPT_INIT },
	{ "self-test-corrupt", 1, NULL, OPT_PLANT },
	{ "verify-end", 0, NULL, OPT_VERIFY },
	{ "read-percent", 1, NULL, OPT_READS }, { "offset", 1, NULL, OPT_OFFSET },
	{ }
};

struct args {
	const char *model, *init, *plant;
	u64 size, block, offset;
	bool init_from_dev;
};

static void usage(void)
{
	fprintf(stderr,
"usage: iomodel run DEV [--model FILE] [--init FILE|--init-from-dev]\n"
"               --seconds S|--ops N [--threads T] [--seed X] [--size BYTES]\n"
"               [--min 512] [--max 1M] [--align 512] [--block-size 4K]\n"
"               [--no-discard] [--no-zeroes] [--no-flush] [--read-percent P]\n"
"               [--overlap] [--verify-end]\n"
"               [--hook CMD --hook-every N|Nms [--hook-max K] [--hook-freeze]]\n"
"       iomodel verify DEV --model FILE [--size BYTES]\n"
"       iomodel compare DEV FILE [--offset BYTES] [--size BYTES]\n"
"       iomodel cut DEV... --seconds S|--ops N [--threads T] [--seed X]\n"
"               [--size BYTES] [--max 1M] [--no-flush]\n"
"       iomodel cut-check DEV... --seed X [--size BYTES]\n"
"self-tests: --self-test-corrupt flip|drop|tear|shift|stale|nodiscard|nozero:N\n"
"exit: 0 as it should be, 1 mismatch or I/O error, 2 usage\n");
	exit(EX_USE);
}

static void parse_every(const char *s)
{
	size_t n = strlen(s);
	char num[32] = "";

	io.hook_ms = n > 2 && !strcmp(s + n - 2, "ms");
	if (!io.hook_ms) {
		io.hook_every = parse_num(s);
		return;
	}
	snprintf(num, sizeof(num), "%.*s", (int)n - 2, s);
	io.hook_every = parse_num(num);
}

static void option_of_device(int opt, struct args *a)
{
	switch (opt) {
	case OPT_MODEL:
		a->model = optarg;
		break;
	case OPT_INIT:
		a->init = optarg;
		break;
	case OPT_INITDEV:
		a->init_from_dev = true;
		break;
	case OPT_PLANT:
		a->plant = optarg;
		break;
	case OPT_SIZE:
		a->size = parse_size(optarg);
		break;
	case OPT_BLOCK:
		a->block = parse_size(optarg);
		break;
	case OPT_OFFSET:
		a->offset = parse_size(optarg);
		break;
	default:
		usage();
	}
}

static void option_of_hook(int opt, struct args *a)
{
	switch (opt) {
	case OPT_HOOK:
		io.hook = optarg;
		break;
	case OPT_EVERY:
		parse_every(optarg);
		break;
	case OPT_HOOKMAX:
		io.hook_max = parse_num(optarg);
		break;
	case OPT_FREEZE:
		io.hook_freeze = true;
		break;
	default:
		option_of_device(opt, a);
	}
}

static void option_flag(int opt, struct args *a)
{
	switch (opt) {
	case OPT_NODISCARD:
		io.discard = false;
		break;
	case OPT_NOZERO:
		io.zeroes = false;
		break;
	case OPT_NOFLUSH:
		io.flush = false;
		break;
	case OPT_OVERLAP:
		io.overlap = true;
		break;
	case OPT_VERIFY:
		io.verify_end = true;
		break;
	default:
		option_of_hook(opt, a);
	}
}

static void take_option(int opt, struct args *a)
{
	switch (opt) {
	case OPT_SECONDS:
		io.seconds = parse_num(optarg);
		break;
	case OPT_OPS:
		io.ops = parse_num(optarg);
		break;
	case OPT_THREADS:
		io.threads = parse_num(optarg);
		break;
	case OPT_SEED:
		io.seed = parse_num(optarg);
		break;
	case OPT_MIN:
		io.min = parse_size(optarg);
		break;
	case OPT_MAX:
		io.max = parse_size(optarg);
		break;
	case OPT_ALIGN:
		io.align = parse_size(optarg);
		break;
	case OPT_READS:
		io.read_percent = parse_num(optarg);
		break;
	default:
		option_flag(opt, a);
	}
}

static void check_options(void)
{
	if (!io.align || io.align % SECTOR || io.min % io.align ||
	    io.max % io.align || io.min < io.align || io.max < io.min)
		die("--min and --max: multiples of --align, that of 512");
	if (!io.threads || io.threads > MAX_THREADS)
		die("--threads: 1 to %u", MAX_THREADS);
	if (io.hook && !io.hook_every)
		die("--hook needs --hook-every");
	if (io.hook_freeze && !io.model.path)
		die("--hook-freeze needs --model");
	if (io.ops == ~0ULL && !io.seconds && !(io.hook && io.hook_max))
		die("--seconds, --ops or --hook-max?");
}

static void open_device(const char *path, const struct args *a, unsigned int flags)
{
	dev_open(&io.dev, path, flags);
	if (a->block)
		io.dev.block = a->block;
	if (io.dev.block % SECTOR)
		die("--block-size: a multiple of 512");
	if (a->size) {
		if (a->size > io.dev.size)
			die("%s is smaller than --size", path);
		io.dev.size = round_down_to(a->size, SECTOR);
	}
	if (a->plant)
		dev_plant(&io.dev, a->plant);
	io.max = min_u64(io.max, round_down_to(io.dev.size, io.align));
}

static int cmd_run(const char *path, const struct args *a)
{
	open_device(path, a, 0);
	model_open(&io.model, a->model, io.dev.size, true);
	check_options();
	if (a->init)
		model_init_from_file(&io.model, a->init);
	if (a->init_from_dev)
		model_init_from_dev(&io.model, &io.dev);
	run_threads();
	if (io.verify_end && !atomic_load(&io.failed))
		verify_all("final compare");
	print_counts();
	return atomic_load(&io.failed) ? EX_BAD : EX_OK;
}

static int cmd_verify(const char *path, const struct args *a)
{
	if (!a->model)
		usage();
	open_device(path, a, DEV_RO);
	model_open(&io.model, a->model, io.dev.size, false);
	if (!verify_all("verify"))
		return EX_BAD;
	printf("iomodel: ok %s equals %s (%llu bytes)\n", path, a->model,
	       (unsigned long long)io.dev.size);
	return EX_OK;
}

/* DEV from 0 against FILE from --offset; FILE may be a layer's image or device. */
static int cmd_compare(const char *path, const char *file, const struct args *a)
{
	const u64 chunk = 1 << 20;
	u8 *x = xalloc_aligned(chunk), *y = xalloc_aligned(chunk);
	struct dev other;
	u64 off, len;
	int r = 0;

	open_device(path, a, DEV_RO);
	dev_open(&other, file, DEV_RO);
	if (a->offset > other.size || other.size - a->offset < io.dev.size)
		die("%s is too short to be compared (--size)", file);
	for (off = 0; off < io.dev.size; off += len) {
		len = min_u64(chunk, io.dev.size - off);
		r = dev_read(&io.dev, x, len, off);
		if (!r)
			r = dev_read(&other, y, len, a->offset + off);
		if (r)
			report_error(OP_READ, off, len, r);
		else if (memcmp(x, y, len))
			report_mismatch("compare", x, y, off, len, false);
		if (atomic_load(&io.failed))
			return EX_BAD;
	}
	printf("iomodel: ok %s equals %s (%llu bytes)\n", path, file,
	       (unsigned long long)io.dev.size);
	return EX_OK;
}

static int cmd_cut(int n, char **paths, const struct args *a, bool check)
{
	struct cut_args c = {
		.seconds = io.seconds, .ops = io.ops, .seed = io.seed,
		.threads = io.threads, .max = io.max, .size = a->size,
		.flush = io.flush, .plant = a->plant, .block = a->block,
	};

	if (!check && !c.seconds && c.ops == ~0ULL)
		die("--seconds or --ops?");
	return check ? cut_check(n, paths, &c) : cut_run(n, paths, &c);
}

int main(int argc, char **argv)
{
	struct args a = { 0 };
	const char *cmd;
	int opt, n;

	set_prog("iomodel");
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1)
		take_option(opt, &a);
	n = argc - optind - 2;
	argv += optind;
	if (n < 0)
		usage();
	cmd = argv[0];
	if (!strcmp(cmd, "run") && n == 0)
		return cmd_run(argv[1], &a);
	if (!strcmp(cmd, "verify") && n == 0)
		return cmd_verify(argv[1], &a);
	if (!strcmp(cmd, "compare") && n == 1)
		return cmd_compare(argv[1], argv[2], &a);
	if (!strcmp(cmd, "cut"))
		return cmd_cut(n + 1, argv + 1, &a, false);
	if (!strcmp(cmd, "cut-check"))
		return cmd_cut(n + 1, argv + 1, &a, true);
	usage();
	return EX_USE;
}
