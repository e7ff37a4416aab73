// SPDX-License-Identifier: GPL-2.0-or-later
// libs: -lpthread -luring
// sources: tests/tools/common.c
/*
 * Lost updates. A round is one block that the top does not hold yet; several
 * threads write parts of it at once (an eighth each), so that the first of
 * them is a copy-up and the others run into it. Three kinds of rounds:
 *
 *   parts   some parts are written, some of these once more when the first
 *           write is acknowledged; the rest must read as before the round
 *   all     every part is written
 *   beside  a write of the whole block runs beside writes of some parts; when
 *           it is acknowledged, other parts are written, and these must be
 *           there at the end
 *
 * When the disk is used up it is discarded, or a hook gives it a new top.
 */
#include <errno.h>
#include <getopt.h>
#include <liburing.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

#define PARTS		8
#define MAX_BATCH	256
#define DEPTH		128
/* numbers of the writes of a round: parts, parts again, the whole */
#define SEQ_AGAIN	PARTS
#define SEQ_WHOLE	(2 * PARTS)
#define SEQS		32

enum kind { KIND_PARTS, KIND_ALL, KIND_BESIDE, NR_KINDS };

static const char *const kind_names[NR_KINDS] = { "parts", "all", "beside" };

struct op {
	u8 *buf;
	u64 off;
	u32 len;
	u8 thread;
	bool first;			/* issued at once, not on an acknowledgement */
	struct op *next[PARTS];		/* issued when this one is acknowledged */
	unsigned int nr_next;
};

struct round {
	enum kind kind;
	u64 no, off;
	u8 early, again, late;		/* parts, as bits */
	bool whole_first;
	struct op parts[PARTS], twice[PARTS], whole;
	u8 *before, *after;		/* what was read */
};

static struct {
	struct dev dev;
	u64 rounds, seed, part;
	unsigned int threads, batch;
	bool discard;
	const char *hook;

	struct round *set;
	unsigned int nr_set;
	u8 *before, *after;
	u64 next_round, cursor, passes, writes, kinds[NR_KINDS];
	pthread_barrier_t meet;
	bool done;
	atomic_bool failed;
} lu = {
	.rounds = 100000, .seed = 1, .threads = 4, .batch = 64, .discard = true,
};

/* Making a round */

static void make_op(struct op *op, const struct round *r, u64 seq, u64 off,
		    u32 len, unsigned int thread)
{
	struct stamp_id id = {
		.seed = lu.seed, .seq = r->no * SEQS + seq, .thread = thread,
	};

	op->off = r->off + off;
	op->len = len;
	op->thread = thread;
	op->first = false;
	op->nr_next = 0;
	stamp_fill(op->buf, op->off, len, &id);
	lu.writes++;
}

static void make_part(struct round *r, unsigned int i, bool again,
		      unsigned int thread)
{
	struct op *op = again ? &r->twice[i] : &r->parts[i];

	make_op(op, r, i + (again ? SEQ_AGAIN : 0), i * lu.part, lu.part, thread);
}

static void then(struct op *op, struct op *next)
{
	op->next[op->nr_next++] = next;
}

static void make_beside(struct round *r, struct rng *g)
{
	unsigned int thread = rnd_below(g, lu.threads), i;

	r->early = rnd(g);
	r->late = rnd(g) & ~r->early;
	r->whole_first = rnd_chance(g, 50);
	make_op(&r->whole, r, SEQ_WHOLE, 0, lu.dev.block, thread);
	r->whole.first = true;
	for (i = 0; i < PARTS; i++)
		if (r->late & 1 << i) {
			make_part(r, i, false, thread);
			then(&r->whole, &r->parts[i]);
		}
}

static void make_round(struct round *r, u64 no, u64 off)
{
	unsigned int i;
	struct rng g;

	rng_init(&g, lu.seed, no);
	r->no = no;
	r->off = off;
	r->kind = rnd_below(&g, NR_KINDS);
	r->again = r->late = 0;
	r->early = r->kind == KIND_ALL ? 0xff : rnd_below(&g, 255) + 1;
	if (r->kind == KIND_BESIDE)
		make_beside(r, &g);
	else
		r->again = r->early & rnd(&g);
	for (i = 0; i < PARTS; i++) {
		unsigned int thread = (i + no) % lu.threads;

		if (!(r->early & 1 << i))
			continue;
		make_part(r, i, false, thread);
		r->parts[i].first = true;
		if (!(r->again & 1 << i))
			continue;
		make_part(r, i, true, thread);
		then(&r->parts[i], &r->twice[i]);
	}
	lu.kinds[r->kind]++;
}

/* Issuing */

struct queue {
	struct io_uring ring;
	struct op *todo[MAX_BATCH * (2 * PARTS + 1)];
	unsigned int head, tail, in_flight;
	unsigned int thread;
};

static void push(struct queue *q, struct op *op)
{
	if (op->first && op->thread != q->thread)
		return;
	q->todo[q->tail++] = op;
}

static void push_round(struct queue *q, struct round *r)
{
	bool whole = r->kind == KIND_BESIDE;
	unsigned int i;

	if (whole && r->whole_first)
		push(q, &r->whole);
	for (i = 0; i < PARTS; i++)
		if (r->early & 1 << i)
			push(q, &r->parts[i]);
	if (whole && !r->whole_first)
		push(q, &r->whole);
}

static void acknowledged(struct queue *q, struct op *op, int res)
{
	unsigned int i;

	if (res != (int)op->len) {
		bad("%s: write %llu+%u: %s", lu.dev.path,
		    (unsigned long long)op->off, op->len,
		    res < 0 ? strerror(-res) : "short");
		atomic_store(&lu.failed, true);
		return;
	}
	for (i = 0; i < op->nr_next; i++)
		push(q, op->next[i]);
}

static void submit(struct queue *q)
{
	struct io_uring_sqe *sqe;
	int r;

	while (q->head < q->tail && q->in_flight < DEPTH) {
		struct op *op = q->todo[q->head];

		sqe = io_uring_get_sqe(&q->ring);
		if (!sqe)
			break;
		io_uring_prep_write(sqe, lu.dev.fd, op->buf, op->len, op->off);
		io_uring_sqe_set_data(sqe, op);
		q->head++;
		q->in_flight++;
	}
	do {
		r = io_uring_submit_and_wait(&q->ring, 1);
	} while (r == -EINTR);
	if (r < 0)
		die("io_uring_submit: %s", strerror(-r));
}

static void reap(struct queue *q)
{
	struct io_uring_cqe *cqe;

	while (!io_uring_peek_cqe(&q->ring, &cqe)) {
		struct op *op = io_uring_cqe_get_data(cqe);
		int res = cqe->res;

		io_uring_cqe_seen(&q->ring, cqe);
		q->in_flight--;
		acknowledged(q, op, res);
	}
}

/* With a planted defect: one after the other, so that it can be done by hand. */
static void issue_by_hand(struct queue *q)
{
	struct op *op;
	int r;

	while (q->head < q->tail) {
		op = q->todo[q->head++];
		r = dev_write(&lu.dev, op->buf, op->len, op->off);
		acknowledged(q, op, r ? r : (int)op->len);
	}
}

static void issue_set(struct queue *q)
{
	unsigned int i;

	q->head = q->tail = 0;
	for (i = 0; i < lu.nr_set; i++)
		push_round(q, &lu.set[i]);
	if (lu.dev.plant)
		issue_by_hand(q);
	while (q->head < q->tail || q->in_flight) {
		submit(q);
		reap(q);
	}
}

/* Judging */

static void complain(const struct round *r, unsigned int i, const u8 *want,
		     const char *what)
{
	const u8 *seen = r->after + i * lu.part;
	char text[STAMP_TEXT];
	u64 at = 0;

	while (at + SECTOR < lu.part && !memcmp(seen + at, want + at, SECTOR))
		at += SECTOR;
	bad("%s: round %llu (%s), block at %llu, part %u: %s", lu.dev.path,
	    (unsigned long long)r->no, kind_names[r->kind],
	    (unsigned long long)r->off, i, what);
	fprintf(stderr, "  expected: %s\n", stamp_text(want + at, text, sizeof(text)));
	fprintf(stderr, "  seen:     %s\n", stamp_text(seen + at, text, sizeof(text)));
	fprintf(stderr, "  written at once %02x, again %02x, after the whole %02x\n",
		r->early, r->again, r->late);
	atomic_store(&lu.failed, true);
}

/*
 * Two writes of one sector at the same time leave either, and on a RAM disk,
 * which copies byte by byte, a mixture of both; but nothing else.
 */
static bool is_of_either(const u8 *seen, const u8 *a, const u8 *b, u64 len)
{
	u64 i;

	for (i = 0; i < len; i++)
		if (seen[i] != a[i] && seen[i] != b[i])
			return false;
	return true;
}

static void judge_part(const struct round *r, unsigned int i)
{
	const u8 *seen = r->after + i * lu.part, *want = r->before + i * lu.part;
	u8 bit = 1 << i;
	const char *what = "changed, though nobody wrote it";

	if (r->kind == KIND_BESIDE) {
		want = r->whole.buf + i * lu.part;
		what = "the write of the whole block is lost";
	}
	if (r->kind == KIND_BESIDE && r->early & bit &&
	    is_of_either(seen, want, r->parts[i].buf, lu.part))
		return;
	if ((r->early | r->late) & bit) {
		want = r->parts[i].buf;
		what = "an acknowledged write is lost";
	}
	if (r->again & bit)
		want = r->twice[i].buf;
	if (memcmp(seen, want, lu.part))
		complain(r, i, want, what);
}

static void judge_set(void)
{
	unsigned int i, k;

	for (i = 0; i < lu.nr_set && !atomic_load(&lu.failed); i++)
		for (k = 0; k < PARTS; k++)
			judge_part(&lu.set[i], k);
}

/* Sets of rounds */

static void read_set(u8 *buf)
{
	int r = dev_read(&lu.dev, buf, lu.nr_set * lu.dev.block, lu.set[0].off);

	if (!r)
		return;
	bad("%s: read: %s", lu.dev.path, strerror(-r));
	atomic_store(&lu.failed, true);
}

static void renew_disk(void)
{
	int r;

	lu.cursor = 0;
	lu.passes++;
	if (lu.hook) {
		if (!run_cmd("%s %llu", lu.hook, (unsigned long long)lu.passes))
			atomic_store(&lu.failed, true);
	} else if (lu.discard) {
		r = dev_discard(&lu.dev, 0, lu.dev.size);
		if (r)
			die("%s: discard: %s (--no-discard)", lu.dev.path,
			    strerror(-r));
	}
}

/* False when all rounds are done. */
static bool next_set(void)
{
	u64 left = lu.rounds - lu.next_round, room;
	unsigned int i;

	if (!left || atomic_load(&lu.failed))
		return false;
	if (lu.cursor == lu.dev.size / lu.dev.block)
		renew_disk();
	room = lu.dev.size / lu.dev.block - lu.cursor;
	lu.nr_set = min_u64(min_u64(lu.batch, left), room);
	for (i = 0; i < lu.nr_set; i++)
		make_round(&lu.set[i], lu.next_round++,
			   lu.cursor++ * lu.dev.block);
	read_set(lu.before);
	return true;
}

static void *work(void *arg)
{
	struct queue *q = arg;

	for (;;) {
		if (!q->thread)
			lu.done = !next_set();
		pthread_barrier_wait(&lu.meet);
		if (lu.done)
			break;
		issue_set(q);
		pthread_barrier_wait(&lu.meet);
		if (!q->thread && !atomic_load(&lu.failed)) {
			read_set(lu.after);
			judge_set();
		}
	}
	return NULL;
}

static void alloc_set(void)
{
	u64 block = lu.dev.block;
	unsigned int i, k;

	lu.set = xzalloc(lu.batch * sizeof(*lu.set));
	lu.before = xalloc_aligned(lu.batch * block);
	lu.after = xalloc_aligned(lu.batch * block);
	for (i = 0; i < lu.batch; i++) {
		struct round *r = &lu.set[i];
		u8 *room = xalloc_aligned(3 * block);

		r->before = lu.before + i * block;
		r->after = lu.after + i * block;
		r->whole.buf = room;
		for (k = 0; k < PARTS; k++) {
			r->parts[k].buf = room + block + k * lu.part;
			r->twice[k].buf = room + 2 * block + k * lu.part;
		}
	}
}

static void run(void)
{
	struct queue *q = xzalloc(lu.threads * sizeof(*q));
	pthread_t id[MAX_THREADS];
	unsigned int i;
	int r;

	pthread_barrier_init(&lu.meet, NULL, lu.threads);
	for (i = 0; i < lu.threads; i++) {
		q[i].thread = i;
		r = io_uring_queue_init(DEPTH, &q[i].ring, 0);
		if (r)
			die("io_uring: %s", strerror(-r));
		if (pthread_create(&id[i], NULL, work, &q[i]))
			die("cannot start a thread");
	}
	for (i = 0; i < lu.threads; i++) {
		pthread_join(id[i], NULL);
		io_uring_queue_exit(&q[i].ring);
	}
	free(q);
}

static void usage(void)
{
	fprintf(stderr,
"usage: lostupdate DEV [--rounds 100000] [--threads 4] [--batch 64] [--seed X]\n"
"               [--size BYTES] [--block-size 4K] [--no-discard] [--hook CMD]\n"
"               [--self-test-corrupt stale|drop|...:N]\n"
"when all blocks are used: CMD N if given (a snapshot), else a discard of all\n");
	exit(EX_USE);
}

enum {
	OPT_ROUNDS = 256, OPT_THREADS, OPT_BATCH, OPT_SEED, OPT_SIZE, OPT_BLOCK, OPT_NODISCARD,
	OPT_HOOK, OPT_PLANT,
};

static const struct option options[] = {
	{ "rounds", 1, NULL, OPT_ROUNDS }, { "threads", 1, NULL, OPT_THREADS },
	{ "batch", 1, NULL, OPT_BATCH }, { "seed", 1, NULL, OPT_SEED },
	{ "size", 1, NULL, OPT_SIZE }, { "block-size", 1, NULL, OPT_BLOCK },
	{ "no-discard", 0, NULL, OPT_NODISCARD }, { "hook", 1, NULL, OPT_HOOK },
	{ "self-test-corrupt", 1, NULL, OPT_PLANT },
	{ }
};

static struct {
	u64 size, block;
	const char *plant;
} arg = { .block = DEF_BLOCK };

static void take_option(int o)
{
	switch (o) {
	case OPT_ROUNDS:
		lu.rounds = parse_num(optarg);
		break;
	case OPT_THREADS:
		lu.threads = parse_num(optarg);
		break;
	case OPT_BATCH:
		lu.batch = parse_num(optarg);
		break;
	case OPT_SEED:
		lu.seed = parse_num(optarg);
		break;
	case OPT_SIZE:
		arg.size = parse_size(optarg);
		break;
	case OPT_BLOCK:
		arg.block = parse_size(optarg);
		break;
	case OPT_NODISCARD:
		lu.discard = false;
		break;
	case OPT_HOOK:
		lu.hook = optarg;
		break;
	case OPT_PLANT:
		arg.plant = optarg;
		break;
	default:
		usage();
	}
}

static void open_disk(const char *path)
{
	dev_open(&lu.dev, path, 0);
	lu.dev.block = arg.block;
	lu.part = arg.block / PARTS;
	if (!lu.part || lu.part % SECTOR)
		die("--block-size: a multiple of %llu", PARTS * SECTOR);
	if (arg.size > lu.dev.size)
		die("%s is smaller than --size", path);
	if (arg.size)
		lu.dev.size = arg.size;
	lu.dev.size = round_down_to(lu.dev.size, arg.block);
	if (!lu.dev.size)
		die("%s is smaller than a block", path);
	if (arg.plant)
		dev_plant(&lu.dev, arg.plant);
}

int main(int argc, char **argv)
{
	u64 start = now_ns();
	int o;

	set_prog("lostupdate");
	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1)
		take_option(o);
	if (argc - optind != 1)
		usage();
	if (!lu.threads || lu.threads > PARTS || !lu.batch || lu.batch > MAX_BATCH)
		die("--threads: 1 to %u, --batch: 1 to %u", PARTS, MAX_BATCH);
	open_disk(argv[optind]);
	alloc_set();
	run();
	printf("lostupdate: %s rounds %llu (parts %llu all %llu beside %llu) writes %llu disk used up %llu times seconds %.1f\n",
	       atomic_load(&lu.failed) ? "FAILED" : "ok",
	       (unsigned long long)lu.next_round,
	       (unsigned long long)lu.kinds[KIND_PARTS],
	       (unsigned long long)lu.kinds[KIND_ALL],
	       (unsigned long long)lu.kinds[KIND_BESIDE],
	       (unsigned long long)lu.writes, (unsigned long long)lu.passes,
	       (now_ns() - start) / 1e9);
	return atomic_load(&lu.failed) ? EX_BAD : EX_OK;
}
