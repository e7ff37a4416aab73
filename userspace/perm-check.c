// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Would an operation be allowed, and who is in the way? Of open disks the
 * kernel is asked; of images, open or closed, who holds them.
 */
#include "perm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* What an operation can be asked about. */
static const struct about {
	bool disk;	/* NAME */
	bool path;	/* PATH */
	bool chain;	/* PATH and all that is below it */
} abouts[DM_CHAIN_OP_NR] = {
	[DM_CHAIN_OP_GUEST] = { .path = true, .chain = true },
	[DM_CHAIN_OP_EXPORT] = { .path = true, .chain = true },
	[DM_CHAIN_OP_SNAPSHOT] = { .disk = true },
	[DM_CHAIN_OP_RESIZE] = { .disk = true, .path = true },
	[DM_CHAIN_OP_COMMIT] = { .disk = true },
	[DM_CHAIN_OP_ACTIVE_COMMIT] = { .disk = true },
	[DM_CHAIN_OP_STREAM] = { .disk = true },
	[DM_CHAIN_OP_MIRROR] = { .disk = true },
	[DM_CHAIN_OP_COPY_LAYER] = { .disk = true },
	[DM_CHAIN_OP_REBASE] = { .path = true, .chain = true },
	[DM_CHAIN_OP_UNSAFE_REBASE] = { .path = true },
	[DM_CHAIN_OP_CREATE] = { .path = true },
	[DM_CHAIN_OP_UNSEAL] = { .path = true },
	[DM_CHAIN_OP_NEW_ID] = { .path = true },
	[DM_CHAIN_OP_CHECK] = { .path = true },
	[DM_CHAIN_OP_REPAIR] = { .path = true },
	[DM_CHAIN_OP_COMPARE] = { .path = true },
};

static int asked_room(struct asked *a, unsigned int nr)
{
	a->nr = nr;
	a->rows = calloc(nr + 1, sizeof(*a->rows));
	a->paths = calloc(nr + 1, sizeof(*a->paths));
	if (!a->rows || !a->paths)
		return msg_fail(EXIT_FAILED, "out of memory");
	return 0;
}

void asked_free(struct asked *a)
{
	unsigned int i;

	for (i = 0; a->paths && i < a->nr; i++)
		free(a->paths[i]);
	free(a->paths);
	free(a->rows);
	free(a->layers);
	a->paths = NULL;
	a->rows = NULL;
	a->layers = NULL;
}

/* --- Answers --- */

static json_object *answer_json(const struct asked *a, bool allowed)
{
	json_object *o = json_object_new_object();
	json_object *layers = json_object_new_array();
	unsigned int i;

	for (i = 0; i < a->nr; i++) {
		json_object *l;

		if (!a->rows[i])
			continue;
		l = json_object_new_object();
		json_object_object_add(l, "index", json_object_new_int64(i));
		json_object_object_add(l, "layer", json_text(a->paths[i]));
		perm_rule_json(l, chain_perm_rule(a->rows[i]));
		json_object_array_add(layers, l);
	}
	json_object_object_add(o, "operation", json_text(a->q->op));
	json_object_object_add(o, "object", json_text(a->q->object));
	json_object_object_add(o, "allowed", json_object_new_boolean(allowed));
	json_object_object_add(o, "layers", layers);
	return o;
}

static int allowed(const struct asked *a)
{
	unsigned int i;

	if (opt_json) {
		json_object *o = answer_json(a, true);

		json_object_object_add(o, "conflict", NULL);
		show_json(o);
		return 0;
	}
	printf("%s: %s: allowed\n", a->q->object, a->q->op);
	for (i = 0; i < a->nr; i++)
		if (a->rows[i])
			printf("%5u  %-8s  %s\n", i, perm_role(a->rows[i]),
			       a->paths[i] ? text_clean(a->paths[i]) : "-");
	return 0;
}

static void refused_json(const struct asked *a, const struct dm_chain_conflict *c)
{
	bool wanted = c->direction == DM_CHAIN_CONFLICT_WANTED;
	json_object *o = answer_json(a, false);
	json_object *why = json_object_new_object();

	json_object_object_add(why, "index", json_object_new_int64(c->depth));
	json_object_object_add(why, "role",
			       json_object_new_string(perm_role(c->row)));
	json_object_object_add(why, "permission",
			       json_text(chain_perm_name(c->perm)));
	json_object_object_add(why, "required-by",
			       json_object_new_string(wanted ? "operation" :
							       "holder"));
	json_object_object_add(why, "holder", perm_holder_json(&c->holder));
	json_object_object_add(o, "conflict", why);
	show_json(o);
}

/* What can be done about a holder; in static memory. */
static const char *advice(const char *object, bool disk,
			  const struct dm_chain_holder *h)
{
	static char text[sizeof(h->disk) + 40];

	if (h->id)
		return "wait until that is done, or cancel it";
	if (disk && !strcmp(h->disk, object))
		return "that is the disk itself: not while it is open";
	snprintf(text, sizeof(text), "close %s first", h->disk);
	return text;
}

static int refused_text(const char *object, const char *what, bool disk,
			const struct dm_chain_conflict *c)
{
	const struct dm_chain_holder *h = &c->holder;
	const char *perm = chain_perm_name(c->perm);
	const char *op = chain_perm_op_name(h->op);
	char *path = disk_layer_path(makedev(h->major, h->minor));
	bool wanted = c->direction == DM_CHAIN_CONFLICT_WANTED;
	int ret;

	ret = msg_fail(EXIT_REFUSED,
		       "%s: %s refused: %s is held by %s (%s, %s), which %s %s%s; %s",
		       object, what, path ? path : "a layer", h->disk,
		       op ? op : "unknown", perm_role(h->row),
		       wanted ? "does not allow" : "requires",
		       perm ? perm : "it",
		       wanted ? "" : " and could not go on",
		       advice(object, disk, h));
	free(path);
	return ret;
}

static int refused(const struct asked *a, const struct dm_chain_conflict *c)
{
	if (opt_json)
		refused_json(a, c);
	return refused_text(a->q->object, a->q->op, abouts[a->op].disk, c);
}

int perm_refused(const char *name, uint32_t op, const struct dm_chain_conflict *c)
{
	return refused_text(name, chain_perm_op_name(op), true, c);
}

int perm_ask(int ctl, dev_t disk, const char *name, uint32_t op)
{
	struct take t = { .name = name, .op = op, .ctl = ctl, .disk = disk };

	return perm_take(&t, NULL, NULL, NULL);
}

/* --- Questions --- */

static int bad_option(const struct perm_question *q, const char *option)
{
	return msg_fail(EXIT_USAGE, "perm: %s has no %s; see dmchain perm --help",
			q->op, option);
}

static int check_options(const struct perm_question *q, uint32_t op)
{
	bool stream = op == DM_CHAIN_OP_STREAM, commit = op == DM_CHAIN_OP_COMMIT;

	if (q->into && !stream)
		return bad_option(q, "--into");
	if (q->top && !commit && op != DM_CHAIN_OP_COPY_LAYER)
		return bad_option(q, "--top");
	if (q->base && !stream && !commit && op != DM_CHAIN_OP_ACTIVE_COMMIT)
		return bad_option(q, "--base");
	if (q->format && !abouts[op].path)
		return bad_option(q, "--format");
	return 0;
}

int asked_check(const struct asked *a)
{
	const struct perm_question *q = a->q;

	if (!a->op)
		return msg_fail(EXIT_USAGE,
				"%s: no such operation; dmchain perm matrix lists them",
				q->op);
	return check_options(q, a->op);
}

bool asked_about_disk(const struct asked *a)
{
	return abouts[a->op].disk;
}

/* --- Open disks --- */

static int bad_range(const struct asked *a, unsigned int top, unsigned int base)
{
	return msg_fail(EXIT_USAGE,
			"%s: no %s from layer %u to %u of %u; dmchain info %s shows them",
			a->q->object, a->q->op, top, base, a->nr, a->q->object);
}

/* Indices of what the options name, or of what goes without saying. */
static int find_range(const struct asked *a, unsigned int *top,
		      unsigned int *base)
{
	const struct dm_chain_layer *l = a->layers;
	const struct perm_question *q = a->q;
	const char *first = a->op == DM_CHAIN_OP_STREAM ? q->into : q->top;
	int ret = 0;

	*top = 0;
	if (first)
		ret = layer_arg(first, q->object, l, a->nr, top);
	*base = a->op == DM_CHAIN_OP_STREAM ? a->nr : *top + 1;
	if (!ret && q->base)
		ret = layer_arg(q->base, q->object, l, a->nr, base);
	return ret;
}

static int plan_disk(struct asked *a, unsigned int nr, unsigned int *top,
		     unsigned int *base)
{
	const struct dm_chain_layer *l = a->layers;
	unsigned int i;
	int ret = asked_room(a, nr);

	if (!ret)
		ret = find_range(a, top, base);
	if (ret)
		return ret;
	if (chain_perm_plan(a->op, *top, *base, nr, a->rows))
		return bad_range(a, *top, *base);
	for (i = 0; i < nr; i++)
		a->paths[i] = disk_layer_path(makedev(l[i].major, l[i].minor));
	return 0;
}

static bool has_range(const struct asked *a)
{
	return a->op == DM_CHAIN_OP_COMMIT || a->op == DM_CHAIN_OP_STREAM ||
	       a->op == DM_CHAIN_OP_ACTIVE_COMMIT;
}

static int look(struct take *t, void *arg)
{
	struct asked *a = arg;
	bool suspended;
	int ret;

	asked_free(a);
	if (t->ctl >= 0)
		close(t->ctl);
	t->ctl = disk_layers(a->q->object, &t->disk, &suspended, &a->layers,
			     &t->nr);
	if (t->ctl < 0)
		return t->ctl;
	t->layers = a->layers;
	ret = plan_disk(a, t->nr, &t->top, &t->base);
	if (!has_range(a))
		t->base = 0;
	return ret;
}

int asked_of_disk(struct asked *a, int *fd)
{
	struct take t = { .name = a->q->object, .op = a->op, .ctl = -1 };
	int ret = perm_take(&t, look, a, fd);

	if (opt_json && t.conflict.perm)
		refused_json(a, &t.conflict);
	if (t.ctl >= 0)
		close(t.ctl);
	return ret;
}

static int check_disk(struct asked *a)
{
	int ret = asked_of_disk(a, NULL);

	return ret ? ret : allowed(a);
}

/* --- Images --- */

/*
 * A chain layer is what its UUID says, wherever it lies. But a copy may get an
 * id of its own while the original is in use: that is what new-id is for.
 */
static bool holds(const struct dm_chain_holder *h, const struct image *img,
		  struct image_at *at, const struct loops *l, uint32_t op)
{
	if (op != DM_CHAIN_OP_NEW_ID && img->format == DM_CHAIN_FORMAT_CHAIN &&
	    !memcmp(h->uuid, img->hdr.uuid.b, sizeof(h->uuid)))
		return true;
	return image_at_device(at, l, makedev(h->major, h->minor));
}

/* The lowest permission of a mask that isn't empty. */
static uint32_t first_perm(uint32_t mask)
{
	return mask & -mask;
}

/* Is @h in the way of row @row? Fills in what is not about the layer. */
static bool in_the_way(const struct dm_chain_holder *h, uint32_t row,
		       struct dm_chain_conflict *c)
{
	const struct chain_perm_rule *r = chain_perm_rule(row);
	struct chain_perm_clash clash;

	if (!r)
		return false;
	clash = chain_perm_conflict(h->require, h->allow, r->require, r->allow);
	if (!chain_perm_clashes(clash))
		return false;
	c->holder = *h;
	c->row = row;
	c->perm = first_perm(clash.wanted ? clash.wanted : clash.held);
	c->direction = clash.wanted ? DM_CHAIN_CONFLICT_WANTED :
				      DM_CHAIN_CONFLICT_HELD;
	return true;
}

static bool conflict_of(const struct asked *a, unsigned int i, struct dm_chain_holder *h,
			struct dm_chain_conflict *c)
{
	if (!in_the_way(h, a->rows[i], c))
		return false;
	c->depth = i;
	return true;
}

/* Among all that there are */
static int conflict_anywhere(const struct asked *a, const struct image *img, unsigned int i,
			     struct loops *l, struct dm_chain_conflict *c)
{
	struct image_at at;
	unsigned int j;
	int ret = loops_need(l);

	image_at_init(&at, img);
	for (j = 0; !ret && j < l->nr; j++)
		ret = holds(&l->holders[j], img, &at, l, a->op) &&
		      conflict_of(a, i, &l->holders[j], c);
	return ret;
}

/* Return: 1 with @c, 0, or a negative exit code. */
static int conflict_at(const struct asked *a, const struct image *img, unsigned int i,
		       struct loops *l, struct dm_chain_conflict *c)
{
	const struct chain_perm_rule *r = chain_perm_rule(a->rows[i]);
	struct holders_of of = { 0 };
	struct dm_chain_holder h;
	enum image_where where;
	unsigned int nr;
	int ret;

	if (!r)
		return 0;
	where = image_where(l, img, &of.dev);
	if (where == IMAGE_ANYWHERE)
		return conflict_anywhere(a, img, i, l, c);
	if (where == IMAGE_NOWHERE)
		of.dev = 0;
	/* As holds() */
	if (a->op != DM_CHAIN_OP_NEW_ID && img->format == DM_CHAIN_FORMAT_CHAIN)
		of.uuid = img->hdr.uuid;
	of.require = DM_CHAIN_PERM_ALL & ~r->allow;
	of.allow = r->require;
	ret = control_holders_of(loops_ctl(l), &of, &h, 1, &nr);
	return ret || !nr ? ret : conflict_of(a, i, &h, c);
}

/* Return: 1 with @c, 0, or a negative exit code. */
static int ask_holders(const struct asked *a, const struct walk *w,
		       struct loops *l, struct dm_chain_conflict *c)
{
	int ret = loop_index_ready(), ctl = ret ? ret : loops_ctl(l);
	unsigned int i;

	/* Without a module nobody holds anything. */
	if (ctl < 0)
		return ctl == -ENODEV ? 0 : ctl;
	for (i = 0; i < a->nr && !ret; i++)
		ret = conflict_at(a, &w->images[i], i, l, c);
	return ret;
}

static int answer_images(const struct asked *a, const struct walk *w)
{
	struct dm_chain_conflict c = { 0 };
	struct loops l = { 0 };
	int ret;

	/* Then nothing is open. */
	if (!module_present())
		return allowed(a);
	ret = ask_holders(a, w, &l, &c);
	loops_free(&l);
	if (ret < 0)
		return ret;
	return ret ? refused(a, &c) : allowed(a);
}

int perm_ask_images(const char *name, uint32_t op, const struct walk *w,
		    struct loops *l)
{
	struct asked a = { .op = op, .nr = w->nr };
	struct dm_chain_conflict c = { 0 };
	struct loops own = { 0 };
	int ret = 0;

	a.rows = calloc(w->nr + 1, sizeof(*a.rows));
	if (!a.rows || chain_perm_plan(op, 0, 0, a.nr, a.rows))
		ret = msg_fail(EXIT_FAILED, "%s: out of memory", name);
	if (!ret)
		ret = ask_holders(&a, w, l ?: &own, &c);
	if (ret > 0)
		ret = refused_text(name, op == DM_CHAIN_OP_GUEST ||
				   op == DM_CHAIN_OP_EXPORT ? "open" :
				   chain_perm_op_name(op), false, &c);
	loops_free(&own);
	free(a.rows);
	return ret;
}

static int plan_images(struct asked *a, const struct walk *w)
{
	unsigned int i;
	int ret = asked_room(a, abouts[a->op].chain ? w->nr : 1);

	if (ret)
		return ret;
	if (chain_perm_plan(a->op, 0, 0, a->nr, a->rows))
		return bad_range(a, 0, 0);
	for (i = 0; i < a->nr; i++)
		a->paths[i] = strdup(w->images[i].path);
	return 0;
}

/* A single layer, or the chain: what is asked about one needs no parents. */
static int open_images(struct walk *w, const struct asked *a, uint32_t format)
{
	const char *path = a->q->object;

	if (abouts[a->op].chain)
		return walk_open(w, path, format, WALK_READ_ONLY);
	w->images = calloc(1, sizeof(*w->images));
	if (!w->images)
		return msg_fail(EXIT_FAILED, "%s: out of memory", path);
	w->nr = 1;
	return image_open(w->images, path, format, IMAGE_ANY_MARK);
}

static int check_path(struct asked *a)
{
	struct walk w = { 0 };
	uint32_t format;
	int ret = args_format(a->q->format, &format);

	if (ret)
		return ret;
	ret = open_images(&w, a, format);
	if (!ret)
		ret = plan_images(a, &w);
	if (!ret)
		ret = answer_images(a, &w);
	walk_close(&w);
	return ret;
}

int perm_check(const struct perm_question *q)
{
	struct asked a = { .q = q, .op = chain_perm_op(q->op) };
	const struct about *about = &abouts[a.op];
	bool path = arg_is_path(q->object);
	int ret;

	ret = asked_check(&a);
	if (ret)
		return ret;
	if (path ? !about->path : !about->disk)
		return msg_fail(EXIT_USAGE,
				path ? "%s: %s is about an open disk; say its name" :
				       "%s: %s is about an image; say its path",
				q->object, q->op);
	ret = path ? check_path(&a) : check_disk(&a);
	asked_free(&a);
	return ret;
}
