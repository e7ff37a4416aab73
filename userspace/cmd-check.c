// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain check: looks at all that a layer has beside its data, and mends it.
 * It looks first and writes then, so that what it says it will do is known
 * before the first write.
 */
#include "offline.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum fix {
	FIX_NOTE,	/* no damage */
	FIX_TIDY,	/* no damage: a cut may leave it so; a repair tidies it up */
	FIX_SAFE,	/* can be mended without loss */
	FIX_LOSSY,	/* what it covered is lost; the rest can be had */
	FIX_NONE,
	FIX_KINDS,
};

#define MAX_LISTED	1000

/**
 * struct check - what is found in an image
 * @walk: the image, and the chain below it
 * @img: images[0] of it
 * @nr: of what was found, by how it can be mended
 * @list: of it, for JSON
 * @run: damaged range that may go on, see add_range()
 * @run_kind: of @run; NULL: there is none
 * @truncated: the file ends before the layer does
 * @maps_cut: it even ends before the data: what the maps said is lost
 * @data_lost: a block held as data is behind the file's end
 * @bad_trailer: there is no copy of the header at the end
 */
struct check {
	bool repair;
	bool lossy;
	bool force;
	struct walk walk;
	struct image *img;
	struct presence presence;
	unsigned long nr[FIX_KINDS];
	json_object *list;
	struct { uint64_t start, end; } run;
	const char *run_kind;
	enum fix run_fix;
	bool truncated;
	bool maps_cut;
	bool data_lost;
	bool bad_trailer;
};

static bool will_mend(const struct check *c, enum fix fix)
{
	return c->repair &&
	       (fix == FIX_TIDY || fix == FIX_SAFE || (fix == FIX_LOSSY && c->lossy));
}

static const char *outcome(const struct check *c, enum fix fix)
{
	static const char * const can[] = {
		"no damage", "no damage; --repair tidies it up", "--repair mends it",
		"--repair --lossy gives it up and mends the rest",
		"can't be mended here",
	};

	if (!will_mend(c, fix))
		return can[fix];
	return fix == FIX_LOSSY ? "given up" : fix == FIX_TIDY ? "tidied up" : "mended";
}

static void add_json(struct check *c, const char *kind, enum fix fix,
		     const char *text)
{
	json_object *o = json_object_new_object();

	json_object_object_add(o, "kind", json_object_new_string(kind));
	json_object_object_add(o, "text", json_text(text));
	json_object_object_add(o, "damage",
			       json_object_new_boolean(fix > FIX_TIDY));
	json_object_object_add(o, "mended",
			       json_object_new_boolean(will_mend(c, fix)));
	json_object_array_add(c->list, o);
}

/* A line for each kind of damage, or range; a broken map has no end of them. */
static void found(struct check *c, const char *kind, enum fix fix,
		  const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
static void found(struct check *c, const char *kind, enum fix fix,
		  const char *fmt, ...)
{
	char text[8192];
	va_list args;

	c->nr[fix]++;
	if (c->nr[fix] > MAX_LISTED)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	work_clear();
	if (opt_json)
		add_json(c, kind, fix, text);
	else
		printf("%s: %s (%s)\n", kind, text_clean(text), outcome(c, fix));
}

static void end_range(struct check *c)
{
	uint64_t size = c->img->hdr.size;

	if (!c->run_kind)
		return;
	if (c->run.start >= size)
		found(c, c->run_kind, c->run_fix,
		      "behind the disk's end, bytes %llu to %llu",
		      (unsigned long long)c->run.start,
		      (unsigned long long)c->run.end - 1);
	else
		found(c, c->run_kind, c->run_fix,
		      "bytes %llu to %llu of the disk",
		      (unsigned long long)c->run.start,
		      (unsigned long long)(c->run.end < size ? c->run.end :
					   size) - 1);
	c->run_kind = NULL;
}

/* Ranges of blocks come in order; neighbours are told of as one. */
static void add_range(struct check *c, const char *kind, enum fix fix,
		      uint64_t block, uint64_t blocks)
{
	uint32_t shift = c->img->hdr.block_shift;
	uint64_t start = block << shift;

	if (c->run_kind != kind || c->run_fix != fix || c->run.end != start) {
		end_range(c);
		c->run_kind = kind;
		c->run_fix = fix;
		c->run.start = start;
	}
	c->run.end = (block + blocks) << shift;
}

static void check_job(struct check *c)
{
	const struct chain_header *h = &c->img->hdr;
	char job[37];

	if (h->marks & DM_CHAIN_MARK_SPOILED)
		found(c, "spoiled", FIX_NOTE,
		      "a commit has changed what it shows (job %s)",
		      id_text(&h->job, job));
	if (h->marks & DM_CHAIN_MARK_JOB &&
	    !(h->record.flags & DM_CHAIN_RECORD_DONE))
		found(c, "job", FIX_NOTE, "has an unfinished %s (job %s)",
		      record_name(h->record.type), id_text(&h->job, job));
}

static void check_set(struct check *c)
{
	const struct chain_header *h = &c->img->hdr;
	char id[37];

	if (h->marks & DM_CHAIN_MARK_PENDING)
		found(c, "pending", FIX_NOTE,
		      "part of a change of several disks that was cut off, layer %s has decided it",
		      id_text(&h->coordinator, id));
	if (!chain_id_is_null(&h->decision))
		found(c, "decision", FIX_NOTE,
		      "has decided a change of several disks (%s), which others may have to be told",
		      id_text(&h->decision, id));
}

static void check_slots(struct check *c)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		if (c->img->damaged_slots & 1U << i)
			found(c, "header", FIX_SAFE, "copy %u is damaged", i);
		else if (c->img->stale_slots & 1U << i)
			found(c, "header", FIX_TIDY,
			      "copy %u is older, an update was cut off", i);
	}
	if (c->img->hdr.marks & DM_CHAIN_MARK_IN_USE)
		found(c, "in-use", FIX_NOTE, "was not closed");
	check_job(c);
	check_set(c);
}

static void check_end(struct check *c)
{
	uint64_t bytes = chain_layer_bytes(&c->img->hdr);

	c->truncated = c->img->bytes < bytes;
	c->maps_cut = c->img->bytes < c->img->hdr.data_offset;
	c->data_lost = c->maps_cut;
	c->bad_trailer = !image_trailer_valid(c->img);
	if (!c->truncated && c->bad_trailer)
		found(c, "trailer", FIX_TIDY,
		      "the header's copy at the end is missing, damaged or of another size");
	if (c->img->bytes > bytes && !c->img->is_bdev)
		found(c, "length", FIX_NOTE,
		      "the file has %llu bytes, the layer only %llu",
		      (unsigned long long)c->img->bytes,
		      (unsigned long long)bytes);
}

/* Told of when it is known whether data was lost with it. */
static void check_length(struct check *c)
{
	enum fix fix = c->img->is_bdev ? FIX_NONE :
		       c->data_lost ? FIX_LOSSY : FIX_SAFE;

	if (!c->truncated)
		return;
	found(c, "length", fix, "has %llu bytes, the layer takes %llu%s",
	      (unsigned long long)c->img->bytes,
	      (unsigned long long)chain_layer_bytes(&c->img->hdr),
	      c->data_lost ? "; data is lost" : "");
}

static int check_presence(struct check *c)
{
	int ret = presence_load(&c->presence, c->img);
	uint64_t i;

	for (i = 0; !ret && i < c->presence.sectors; i++)
		if (c->presence.bad[i])
			found(c, "presence",
			      c->maps_cut ? FIX_LOSSY : FIX_SAFE,
			      "sector %llu of the presence map is damaged",
			      (unsigned long long)i);
	return ret;
}

static bool behind_file(const struct check *c, uint64_t block)
{
	const struct chain_header *h = &c->img->hdr;

	return h->data_offset + ((block + 1) << h->block_shift) > c->img->bytes;
}

/* A block's state in a valid sector, or none: what is wrong with it. */
static const char *block_trouble(const struct check *c, uint64_t block,
				 unsigned int state, enum fix *fix)
{
	bool beyond = block >= chain_blocks(&c->img->hdr);

	/* A resize may have been cut off; what is there is never shown. */
	*fix = beyond ? FIX_TIDY : FIX_LOSSY;
	if (state == DM_CHAIN_DAMAGED)
		return "state";
	if (state != DM_CHAIN_DATA)
		return NULL;
	if (beyond)
		return "beyond-end";
	return behind_file(c, block) ? "data" : NULL;
}

static void check_sector(struct check *c, struct map_group *g, unsigned int i)
{
	uint64_t first = (g->index * DM_CHAIN_GROUP_SECTORS + i) *
			 DM_CHAIN_SECTOR_BLOCKS;
	uint64_t *words = g->words + i * CHAIN_SECTOR_WORDS;
	bool beyond = first >= chain_blocks(&c->img->hdr);
	uint64_t b;

	if (g->damaged & 1U << i) {
		add_range(c, "map", beyond ? FIX_SAFE : FIX_LOSSY, first,
			  DM_CHAIN_SECTOR_BLOCKS);
		return;
	}
	for (b = 0; b < DM_CHAIN_SECTOR_BLOCKS; b++) {
		enum fix fix;
		const char *kind = block_trouble(c, first + b,
						 chain_state_get(words, b),
						 &fix);

		if (!kind)
			continue;
		add_range(c, kind, fix, first + b, 1);
		if (fix == FIX_LOSSY && *kind == 'd')
			c->data_lost = true;
	}
}

/*
 * Where the presence sector is lost, a group that is all zeroes was most likely
 * never written: groups are written whole. Any trace means that it was.
 */
static bool never_written(const struct check *c, const struct map_group *g)
{
	return presence_bad(&c->presence, g->index) && g->blank;
}

static int check_group(struct map_group *g, void *arg)
{
	struct check *c = arg;
	unsigned int i;

	work_at((g->index * DM_CHAIN_GROUP_BLOCKS) << c->img->hdr.block_shift);
	if (never_written(c, g))
		return 0;
	for (i = 0; i < DM_CHAIN_GROUP_SECTORS; i++)
		check_sector(c, g, i);
	return 0;
}

static int check_map(struct check *c)
{
	int ret;

	work_begin(c->img->path, "check", c->img->hdr.max_size);
	ret = map_groups(c->img, &c->presence, chain_max_groups(&c->img->hdr),
			 check_group, c);
	work_end();
	end_range(c);
	return ret;
}

/* The walk has said on stderr what is wrong below. */
static void check_parents(struct check *c, const char *said)
{
	if (c->walk.error)
		found(c, "parent", FIX_NONE, "%s", said);
}

static int look(struct check *c, const char *said)
{
	int ret;

	check_slots(c);
	check_end(c);
	ret = check_presence(c);
	if (!ret)
		ret = check_map(c);
	check_length(c);
	check_parents(c, said);
	return ret;
}

static unsigned int mended_state(const struct check *c, uint64_t block,
				 unsigned int state)
{
	bool beyond = block >= chain_blocks(&c->img->hdr);

	if (state == DM_CHAIN_DAMAGED && (c->lossy || beyond))
		return DM_CHAIN_ABSENT;
	if (state != DM_CHAIN_DATA)
		return state;
	if (beyond)
		return DM_CHAIN_ZERO;
	return behind_file(c, block) && c->lossy ? DM_CHAIN_ABSENT : state;
}

/* A damaged sector is written anew as a whole, or stays as it is. */
static void mend_sector(const struct check *c, struct map_group *g,
			unsigned int i)
{
	uint64_t first = (g->index * DM_CHAIN_GROUP_SECTORS + i) *
			 DM_CHAIN_SECTOR_BLOCKS;
	uint64_t *words = g->words + i * CHAIN_SECTOR_WORDS;
	uint64_t b;

	if (g->damaged & 1U << i) {
		if (!c->lossy && first < chain_blocks(&c->img->hdr))
			return;
		memset(words, 0, CHAIN_SECTOR_WORDS * sizeof(*words));
		g->damaged &= ~(1U << i);
		return;
	}
	for (b = 0; b < DM_CHAIN_SECTOR_BLOCKS; b++)
		chain_state_put(words, b,
				mended_state(c, first + b,
					     chain_state_get(words, b)));
}

static void presence_put(struct presence *p, uint64_t group, bool present)
{
	uint64_t bit = 1ULL << (group % 64);

	p->words[group / 64] &= ~bit;
	if (present)
		p->words[group / 64] |= bit;
}

static int mend_group(struct map_group *g, void *arg)
{
	struct check *c = arg;
	uint64_t before[CHAIN_GROUP_WORDS];
	unsigned int i;

	if (presence_bad(&c->presence, g->index))
		presence_put(&c->presence, g->index, !g->blank);
	if (never_written(c, g))
		return 0;
	memcpy(before, g->words, sizeof(before));
	for (i = 0; i < DM_CHAIN_GROUP_SECTORS; i++)
		mend_sector(c, g, i);
	if (!memcmp(before, g->words, sizeof(before)))
		return 0;
	return map_group_write(c->img, g);
}

static int mend_presence(struct check *c)
{
	uint64_t groups = c->presence.sectors * DM_CHAIN_PRESENCE_GROUPS;
	int ret = 0;
	uint64_t i;

	/* A damaged sector was taken for all ones, up to its own end. */
	for (i = chain_max_groups(&c->img->hdr); i < groups; i++)
		presence_put(&c->presence, i, false);
	for (i = 0; !ret && i < c->presence.sectors; i++)
		if (c->presence.bad[i])
			ret = presence_write(c->img, &c->presence, i);
	return ret;
}

/* H3: what the lost blocks showed is gone before the header says so. */
static int mend_header(struct check *c)
{
	bool loses = c->lossy && c->nr[FIX_LOSSY];

	if (!loses && !c->img->stale_slots)
		return 0;
	if (loses)
		id_random(&c->img->hdr.cid);
	return image_write_header(c->img);
}

static int mend_end(struct check *c)
{
	uint64_t bytes = chain_layer_bytes(&c->img->hdr);

	if (c->truncated && (c->img->is_bdev || (c->data_lost && !c->lossy)))
		return 0;
	if (c->truncated && ftruncate(c->img->fd, (off_t)bytes))
		return msg_fail_errno(EXIT_FAILED, errno,
				      "%s: can't make it %llu bytes long",
				      c->img->label, (unsigned long long)bytes);
	return c->bad_trailer ? image_write_trailer(c->img) : 0;
}

static int mend(struct check *c)
{
	int ret = mend_header(c);

	/* Without its maps nobody knows what it held: that is no mending. */
	if (ret || (c->maps_cut && !c->lossy))
		return ret;
	ret = map_groups(c->img, &c->presence, chain_max_groups(&c->img->hdr),
			 mend_group, c);
	if (!ret)
		ret = image_flush(c->img);
	/* The bits only now: a group they call written must have been. */
	if (!ret)
		ret = mend_presence(c);
	if (!ret)
		ret = mend_end(c);
	return ret ? ret : image_flush(c->img);
}

static unsigned long count(const struct check *c, bool mended)
{
	unsigned long n = 0;
	int fix;

	for (fix = FIX_SAFE; fix < FIX_KINDS; fix++)
		if (!mended || will_mend(c, (enum fix)fix))
			n += c->nr[fix];
	return n;
}

static void report(struct check *c)
{
	unsigned long damage = count(c, false), mended = count(c, true);
	json_object *o;

	if (!opt_json) {
		if (damage)
			printf("%s: %lu damaged, %lu mended\n", c->img->path,
			       damage, mended);
		else
			printf("%s: no damage\n", c->img->path);
		if (c->lossy && c->nr[FIX_LOSSY])
			printf("What was given up now shows what lower layers hold, or zeroes; children of this layer are refused from now on.\n");
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "path", json_text(c->img->path));
	json_object_object_add(o, "found", c->list);
	json_object_object_add(o, "damaged", json_object_new_uint64(damage));
	json_object_object_add(o, "mended", json_object_new_uint64(mended));
	show_json(o);
	c->list = NULL;
}

/* An open disk changes what is looked at, and knows better. */
static int refuse_writer(const struct image *img)
{
	char *name = NULL;
	int ret = disk_holding(img, true, &name);

	if (ret || !name)
		return ret;
	ret = msg_fail(EXIT_REFUSED,
		       "%s: in use, disk %s writes it; close that first (dmchain close %s)",
		       img->label, name, name);
	free(name);
	return ret;
}

static int may_repair(const struct check *c, const struct image *img)
{
	int ret = image_check_job(img, "repair");

	return ret ? ret : image_check_in_use(img, NULL, c->force);
}

static bool is_spoiled(const struct image *img)
{
	return img->format == DM_CHAIN_FORMAT_CHAIN &&
	       img->hdr.marks & DM_CHAIN_MARK_SPOILED;
}

static int just_this(struct check *c, struct image *img)
{
	c->img = c->walk.images = malloc(sizeof(*img));
	if (!c->img) {
		image_close(img);
		return msg_fail(EXIT_FAILED, "out of memory");
	}
	*c->img = *img;
	c->walk.nr = 1;
	return 0;
}

static int open_image(struct check *c, const char *path, uint32_t format)
{
	struct image img;
	int flags = IMAGE_ANY_MARK | IMAGE_CHECK | (c->repair ? IMAGE_WRITE : 0);
	int ret = image_open(&img, path, format, flags);

	if (ret)
		return ret;
	ret = c->repair ? may_repair(c, &img) : refuse_writer(&img);
	if (ret) {
		image_close(&img);
		return ret;
	}
	/* How it is linked only the top of the commit knows. */
	if (is_spoiled(&img))
		return just_this(c, &img);
	ret = walk_from(&c->walk, &img, WALK_READ_ONLY | WALK_LAX);
	c->img = c->walk.images;
	return ret;
}

static int check(struct check *c)
{
	/* Errors to come would overwrite what the walk said. */
	char *said = strdup(msg_last());
	int ret = said ? 0 : msg_fail(EXIT_FAILED, "out of memory");

	if (!ret && c->img->format == DM_CHAIN_FORMAT_CHAIN)
		ret = look(c, said);
	free(said);
	if (!ret && c->repair && c->img->format == DM_CHAIN_FORMAT_CHAIN)
		ret = mend(c);
	if (ret)
		return ret;
	ret = count(c, false) == count(c, true) ? 0 : -EXIT_FAILED;
	report(c);
	return ret;
}

int cmd_check(int argc, char **argv)
{
	struct check c = { 0 };
	const char *format_given = NULL;
	const struct arg_opt opts[] = {
		{ "format", &format_given, NULL },
		{ "repair", NULL, &c.repair },
		{ "lossy", NULL, &c.lossy },
		{ "force", NULL, &c.force },
		{ NULL, NULL, NULL },
	};
	uint32_t format;
	int ret = args_parse_layer(&argc, &argv, opts, 1, 1, 0);

	if (!ret)
		ret = args_format(format_given, &format);
	if (!ret && c.lossy && !c.repair)
		ret = msg_fail(EXIT_USAGE, "%s: --lossy goes with --repair",
			       argv[0]);
	if (!ret)
		ret = open_image(&c, argv[0], format);
	if (ret)
		return ret;
	c.list = json_object_new_array();
	ret = check(&c);
	json_object_put(c.list);
	presence_free(&c.presence);
	walk_close(&c.walk);
	return ret;
}
