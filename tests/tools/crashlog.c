// SPDX-License-Identifier: GPL-2.0-or-later
// sources: tests/tools/common.c tests/tools/lib/writelog.c
/*
 * Lists and replays the log of a log-writes target: the states that a power
 * cut could have left. `replay --subset` goes further than the order of the
 * log: a disk with a volatile cache may have kept any of the writes that no
 * flush covered, and of one that was under way any sectors.
 *
 * Two facts about such logs matter. A FUA write is logged when it is done,
 * plain writes only with the next flush; so a plain write that was done (and
 * not flushed) before a FUA write of the same sectors comes after it in the
 * log. Where both are stamped, the newer one is kept; elsewhere it is
 * reported (--hazards: as failure). And the superblock counts only entries up
 * to the last FUA write or mark; removing the target adds a mark.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "lib/writelog.h"

#define CHUNK	(1ULL << 20)

enum discards { DISCARD_ZERO, DISCARD_KEEP, DISCARD_JUNK };

static const char *const discard_names[] = { "zero", "keep", "junk" };

static struct {
	struct wlog log;
	struct dev target;
	u8 *buf, *old;
	u32 *fua;			/* sector: 1 + flushes before its last FUA write */
	u32 flushes;			/* replayed so far */
	enum discards discards;
	bool log_order, subset, torn, metadata, fail_on_hazard;
	struct rng rng;
	u64 writes, discarded, hazards, newer_kept, kept, dropped, cut;
} cl;

static struct {
	u64 from, to, to_flush, seed, keep, every;
	const char *to_mark, *cmd;
	bool has_to, has_flush, has_seed;
	bool only_marks, only_flushes, summary;
} opt = { .keep = 50, .every = 1 };

static void check_io(int r, const char *what, u64 off)
{
	if (r)
		die("%s at byte %llu: %s", what, (unsigned long long)off,
		    strerror(-r));
}

/* The order of FUA and plain writes */

static void fua_set(const struct wlog_entry *e)
{
	u64 s;

	for (s = e->off / SECTOR; s < (e->off + e->len) / SECTOR; s++)
		cl.fua[s] = cl.flushes + 1;
}

static bool touches_fua(u64 off, u64 len)
{
	u64 s;

	for (s = off / SECTOR; s < (off + len) / SECTOR; s++)
		if (cl.fua[s])
			return true;
	return false;
}

/* A flush may have begun before the plain write was done: look one back. */
static bool lately_fua(u64 sector)
{
	return cl.fua[sector] && cl.flushes + 1 - cl.fua[sector] <= 1;
}

/* True if the one on the disk is the newer write of two stamped ones. */
static bool disk_is_newer(const u8 *on_disk, const u8 *logged)
{
	const struct stamp *d = (const void *)on_disk, *l = (const void *)logged;

	return d->seed == l->seed && d->sector == l->sector && d->seq > l->seq;
}

static void settle_order(u64 off, u64 len)
{
	u64 i;

	check_io(dev_read(&cl.target, cl.old, len, off), "read of target", off);
	for (i = 0; i < len; i += SECTOR) {
		u8 *logged = cl.buf + i, *on_disk = cl.old + i;

		if (!cl.fua[(off + i) / SECTOR] ||
		    !memcmp(logged, on_disk, SECTOR))
			continue;
		if (!stamp_valid(logged) || !stamp_valid(on_disk)) {
			cl.hazards += lately_fua((off + i) / SECTOR);
		} else if (disk_is_newer(on_disk, logged)) {
			memcpy(logged, on_disk, SECTOR);
			cl.newer_kept++;
		}
	}
}

/* Applying */

static void apply_data(const struct wlog_entry *e, u64 skip, u64 len)
{
	u64 done, n;
	u64 off = e->off + skip;

	for (done = 0; done < len; done += n) {
		n = min_u64(CHUNK, len - done);
		check_io(dev_read(&cl.log.dev, cl.buf, n, e->data + skip + done),
			 "read of log", e->data + skip + done);
		if (!(e->flags & WLOG_FUA) && !cl.log_order &&
		    touches_fua(off + done, n))
			settle_order(off + done, n);
		check_io(dev_write(&cl.target, cl.buf, n, off + done),
			 "write to target", off + done);
	}
}

static void fill_junk(u64 n)
{
	u64 i, v;

	for (i = 0; i < n; i += sizeof(v)) {
		v = rnd(&cl.rng);
		memcpy(cl.buf + i, &v, sizeof(v));
	}
}

/*
 * After a discard a device may return anything; so what a FUA write may have
 * put there since is kept.
 */
static void keep_fua(u64 off, u64 len)
{
	u64 i;

	if (!touches_fua(off, len))
		return;
	check_io(dev_read(&cl.target, cl.old, len, off), "read of target", off);
	for (i = 0; i < len; i += SECTOR)
		if (lately_fua((off + i) / SECTOR))
			memcpy(cl.buf + i, cl.old + i, SECTOR);
}

static void apply_discard(const struct wlog_entry *e)
{
	u64 done, n;

	cl.discarded++;
	if (cl.discards == DISCARD_KEEP)
		return;
	for (done = 0; done < e->len; done += n) {
		n = min_u64(CHUNK, e->len - done);
		if (cl.discards == DISCARD_JUNK)
			fill_junk(n);
		else
			memset(cl.buf, 0, n);
		keep_fua(e->off + done, n);
		check_io(dev_write(&cl.target, cl.buf, n, e->off + done),
			 "write to target", e->off + done);
	}
}

static void check_fits(const struct wlog_entry *e)
{
	if (e->off > cl.target.size || e->len > cl.target.size - e->off)
		die("entry %llu (%llu+%llu) does not fit on the target",
		    (unsigned long long)(e - cl.log.entries),
		    (unsigned long long)e->off, (unsigned long long)e->len);
}

static void apply(const struct wlog_entry *e)
{
	cl.flushes += wlog_is_flush(e);
	if (!e->len || e->flags & WLOG_MARK)
		return;
	check_fits(e);
	if (e->flags & WLOG_DISCARD) {
		apply_discard(e);
		return;
	}
	cl.writes++;
	apply_data(e, 0, e->len);
	if (e->flags & WLOG_FUA)
		fua_set(e);
}

/* Any sectors of a write that was under way. */
static void apply_torn(const struct wlog_entry *e)
{
	u64 unit = cl.log.sector_size, i;

	check_fits(e);
	cl.cut++;
	for (i = 0; i < e->len; i += unit)
		if (rnd_chance(&cl.rng, 50))
			apply_data(e, i, unit);
}

/*
 * A cut between two flushes. Each FUA write before it counts as flushed;
 * which plain writes had been issued by then is known only for the end of the
 * stretch. So either all FUA writes and any of the plain ones, or the first
 * few FUA writes, none of the plain ones, and perhaps part of the next.
 *
 * --metadata: of the plain ones those that the target has marked as metadata. If it
 * says what lies where before that is there, this is the cut that shows it.
 */

static void maybe_apply(const struct wlog_entry *e)
{
	if (!e->len || e->flags & WLOG_MARK)
		return;
	if (cl.metadata ? !(e->flags & WLOG_META) :
			  !rnd_chance(&cl.rng, opt.keep)) {
		cl.dropped++;
		return;
	}
	cl.kept++;
	if (cl.torn && !(e->flags & WLOG_DISCARD) && rnd_chance(&cl.rng, 30))
		apply_torn(e);
	else
		apply(e);
}

static u64 cut_at_end(u64 from, u64 to)
{
	u64 i;

	for (i = from; i < to; i++) {
		const struct wlog_entry *e = &cl.log.entries[i];

		if (e->flags & WLOG_FUA)
			apply(e);
		else
			maybe_apply(e);
	}
	return to;
}

/* Returns the entry before which the power went. */
static u64 cut_at_fua(u64 from, u64 to, u64 nth)
{
	u64 i;

	for (i = from; i < to; i++) {
		const struct wlog_entry *e = &cl.log.entries[i];

		if (!(e->flags & WLOG_FUA))
			continue;
		if (!nth--) {
			if (cl.torn)
				apply_torn(e);
			break;
		}
		apply(e);
	}
	return i;
}

static u64 apply_subset(u64 from)
{
	u64 to = from, fua = 0;

	while (to < cl.log.count && !wlog_is_flush(&cl.log.entries[to]))
		fua += !!(cl.log.entries[to++].flags & WLOG_FUA);
	if (fua && !cl.metadata && rnd_chance(&cl.rng, 30))
		return cut_at_fua(from, to, rnd_below(&cl.rng, fua));
	return cut_at_end(from, to);
}

/* Commands */

static u64 find_mark(const char *name)
{
	u64 i;

	for (i = 0; i < cl.log.count; i++)
		if (cl.log.entries[i].flags & WLOG_MARK &&
		    !strcmp(cl.log.entries[i].mark, name))
			return i + 1;
	die("no mark '%s' in the log", name);
}

/* Where to stop; marks that follow at once belong to what precedes them. */
static u64 find_end(void)
{
	u64 end = cl.log.count;

	if (opt.to_mark)
		return find_mark(opt.to_mark);
	if (opt.has_to)
		end = min_u64(opt.to, end);
	else if (opt.has_flush)
		end = wlog_behind_flush(&cl.log, opt.to_flush);
	while (end && end < cl.log.count &&
	       cl.log.entries[end].flags & WLOG_MARK)
		end++;
	return end;
}

static void open_both(const char *log, const char *target)
{
	wlog_open(&cl.log, log);
	dev_open(&cl.target, target, 0);
	cl.buf = xalloc_aligned(CHUNK);
	cl.old = xalloc_aligned(CHUNK);
	cl.fua = xzalloc(cl.target.size / SECTOR * sizeof(*cl.fua));
}

/* What an earlier, incremental replay has applied. */
static void skip_to(u64 from)
{
	const struct wlog_entry *e;

	for (e = cl.log.entries; e < cl.log.entries + from; e++) {
		cl.flushes += wlog_is_flush(e);
		if (!(e->flags & WLOG_FUA))
			continue;
		check_fits(e);
		fua_set(e);
	}
}

static void print_replayed(u64 end, u64 reached)
{
	printf("next=%llu flush=%llu mark=%llu entries=%llu writes=%llu discards=%llu kept=%llu dropped=%llu torn=%llu fua-newer=%llu hazards=%llu\n",
	       (unsigned long long)end,
	       (unsigned long long)wlog_flushes(&cl.log, end),
	       (unsigned long long)wlog_last_mark(&cl.log, reached),
	       (unsigned long long)cl.log.count, (unsigned long long)cl.writes,
	       (unsigned long long)cl.discarded, (unsigned long long)cl.kept,
	       (unsigned long long)cl.dropped, (unsigned long long)cl.cut,
	       (unsigned long long)cl.newer_kept, (unsigned long long)cl.hazards);
}

static int cmd_replay(const char *log, const char *target)
{
	u64 end, i, reached;

	open_both(log, target);
	end = find_end();
	rng_init(&cl.rng, opt.seed, end);
	if (opt.from > end)
		die("--from %llu is behind the end, %llu",
		    (unsigned long long)opt.from, (unsigned long long)end);
	skip_to(opt.from);
	for (i = opt.from; i < end; i++)
		apply(&cl.log.entries[i]);
	reached = cl.subset ? apply_subset(end) : end;
	print_replayed(end, reached);
	if (cl.hazards)
		bad("%llu sectors: a FUA write is followed by a plain one that may be older",
		    (unsigned long long)cl.hazards);
	return cl.hazards && cl.fail_on_hazard ? EX_BAD : EX_OK;
}

/*
 * Stops at each flush (with the marks that follow it) and lets a command look
 * at the target; it must not change it.
 */
static void show(u64 next)
{
	if (!run_cmd("%s %u %llu %llu", opt.cmd, cl.flushes,
		     (unsigned long long)wlog_last_mark(&cl.log, next),
		     (unsigned long long)next))
		exit(EX_BAD);
}

static int cmd_walk(const char *log, const char *target)
{
	u64 i, shown = 0;

	if (!opt.cmd)
		die("walk needs --cmd");
	open_both(log, target);
	for (i = 0; i < cl.log.count;) {
		apply(&cl.log.entries[i]);
		if (!wlog_is_flush(&cl.log.entries[i++]))
			continue;
		while (i < cl.log.count && cl.log.entries[i].flags & WLOG_MARK)
			i++;
		if (cl.flushes % opt.every)
			continue;
		show(i);
		shown++;
	}
	printf("walked=%llu flushes=%u entries=%llu hazards=%llu\n",
	       (unsigned long long)shown, cl.flushes,
	       (unsigned long long)cl.log.count, (unsigned long long)cl.hazards);
	return EX_OK;
}

static void print_entry(u64 i, u64 flush)
{
	const struct wlog_entry *e = &cl.log.entries[i];
	bool mark = e->flags & WLOG_MARK;

	printf("%llu after-flush=%llu %s%s%s%s%s", (unsigned long long)i,
	       (unsigned long long)flush,
	       mark ? "mark" : e->flags & WLOG_DISCARD ? "discard" :
	       e->len ? "write" : "",
	       e->flags & WLOG_FLUSH ? e->len ? "+flush" : "flush" : "",
	       e->flags & WLOG_FUA ? "+fua" : "",
	       e->flags & WLOG_META ? "+meta" : "",
	       mark ? " " : "");
	if (mark)
		printf("%s", e->mark);
	else if (e->len)
		printf(" %llu+%llu", (unsigned long long)e->off,
		       (unsigned long long)e->len);
	printf("\n");
}

static void print_summary(void)
{
	u64 i, writes = 0, discards = 0, marks = 0, fua = 0;
	bool ended = false;

	for (i = 0; i < cl.log.count; i++) {
		const struct wlog_entry *e = &cl.log.entries[i];

		marks += !!(e->flags & WLOG_MARK);
		discards += !!(e->flags & WLOG_DISCARD);
		fua += !!(e->flags & WLOG_FUA);
		writes += e->len && !(e->flags & WLOG_DISCARD);
		ended = e->mark && !strcmp(e->mark, "dm-log-writes-end");
	}
	printf("entries=%llu flushes=%llu writes=%llu fua=%llu discards=%llu marks=%llu last-mark=%llu ended=%s sector-size=%u\n",
	       (unsigned long long)cl.log.count,
	       (unsigned long long)wlog_flushes(&cl.log, cl.log.count),
	       (unsigned long long)writes, (unsigned long long)fua,
	       (unsigned long long)discards, (unsigned long long)marks,
	       (unsigned long long)wlog_last_mark(&cl.log, cl.log.count),
	       ended ? "yes" : "no", cl.log.sector_size);
}

static int cmd_list(const char *log)
{
	u64 i, flush = 0, end;

	wlog_open(&cl.log, log);
	end = opt.has_to ? min_u64(opt.to, cl.log.count) : cl.log.count;
	for (i = 0; i < end && !opt.summary; i++) {
		const struct wlog_entry *e = &cl.log.entries[i];
		bool shown = (!opt.only_marks && !opt.only_flushes) ||
			     (opt.only_marks && e->flags & WLOG_MARK) ||
			     (opt.only_flushes && wlog_is_flush(e));

		if (shown && i >= opt.from)
			print_entry(i, flush);
		flush += wlog_is_flush(e);
	}
	if (opt.summary)
		print_summary();
	return EX_OK;
}

static void usage(void)
{
	fprintf(stderr,
"usage: crashlog list LOG [--from M] [--to-entry N] [--marks] [--flushes] [--summary]\n"
"       crashlog replay LOG TARGET [--to-flush N|--to-entry N|--to-mark NAME]\n"
"               [--from M] [--discard zero|keep|junk] [--log-order] [--hazards]\n"
"               [--subset [--seed X] [--keep PERCENT|--metadata] [--torn]]\n"
"       crashlog walk LOG TARGET --cmd CMD [--every N]   runs CMD FLUSH MARK NEXT at each flush\n"
"replay applies entries M to N-1 and prints next=N for an incremental --from;\n"
"mark= is the last mark before the cut whose name is a number\n");
	exit(EX_USE);
}

enum {
	OPT_FROM = 256, OPT_TO, OPT_FLUSH, OPT_MARK, OPT_DISCARD, OPT_ORDER, OPT_HAZARDS,
	OPT_SUBSET, OPT_SEED, OPT_KEEP, OPT_TORN, OPT_MARKS, OPT_FLUSHES, OPT_SUMMARY,
	OPT_CMD, OPT_EVERY, OPT_METADATA,
};

static const struct option options[] = {
	{ "from", 1, NULL, OPT_FROM }, { "to-entry", 1, NULL, OPT_TO },
	{ "to-flush", 1, NULL, OPT_FLUSH }, { "to-mark", 1, NULL, OPT_MARK },
	{ "discard", 1, NULL, OPT_DISCARD }, { "log-order", 0, NULL, OPT_ORDER },
	{ "hazards", 0, NULL, OPT_HAZARDS }, { "subset", 0, NULL, OPT_SUBSET },
	{ "seed", 1, NULL, OPT_SEED }, { "keep", 1, NULL, OPT_KEEP },
	{ "cmd", 1, NULL, OPT_CMD }, { "every", 1, NULL, OPT_EVERY },
	{ "torn", 0, NULL, OPT_TORN }, { "metadata", 0, NULL, OPT_METADATA },
	{ "marks", 0, NULL, OPT_MARKS },
	{ "flushes", 0, NULL, OPT_FLUSHES }, { "summary", 0, NULL, OPT_SUMMARY },
	{ }
};

static enum discards parse_discards(const char *s)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(discard_names); i++)
		if (!strcmp(s, discard_names[i]))
			return i;
	usage();
	return DISCARD_ZERO;
}

static void take_flag(int o)
{
	switch (o) {
	case OPT_ORDER:
		cl.log_order = true;
		break;
	case OPT_HAZARDS:
		cl.fail_on_hazard = true;
		break;
	case OPT_SUBSET:
		cl.subset = true;
		break;
	case OPT_TORN:
		cl.torn = true;
		break;
	case OPT_METADATA:
		cl.metadata = true;
		break;
	case OPT_MARKS:
		opt.only_marks = true;
		break;
	case OPT_FLUSHES:
		opt.only_flushes = true;
		break;
	case OPT_SUMMARY:
		opt.summary = true;
		break;
	default:
		usage();
	}
}

static void take_option(int o)
{
	switch (o) {
	case OPT_FROM:
		opt.from = parse_num(optarg);
		break;
	case OPT_TO:
		opt.to = parse_num(optarg);
		opt.has_to = true;
		break;
	case OPT_FLUSH:
		opt.to_flush = parse_num(optarg);
		opt.has_flush = true;
		break;
	case OPT_MARK:
		opt.to_mark = optarg;
		break;
	case OPT_DISCARD:
		cl.discards = parse_discards(optarg);
		break;
	case OPT_SEED:
		opt.seed = parse_num(optarg);
		break;
	case OPT_CMD:
		opt.cmd = optarg;
		break;
	case OPT_EVERY:
		opt.every = max_u64(1, parse_num(optarg));
		break;
	case OPT_KEEP:
		opt.keep = parse_num(optarg);
		break;
	default:
		take_flag(o);
	}
}

int main(int argc, char **argv)
{
	int o, n;

	set_prog("crashlog");
	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1)
		take_option(o);
	argv += optind;
	n = argc - optind;
	if (n == 2 && !strcmp(argv[0], "list"))
		return cmd_list(argv[1]);
	if (n == 3 && !strcmp(argv[0], "replay"))
		return cmd_replay(argv[1], argv[2]);
	if (n == 3 && !strcmp(argv[0], "walk"))
		return cmd_walk(argv[1], argv[2]);
	usage();
	return EX_USE;
}
