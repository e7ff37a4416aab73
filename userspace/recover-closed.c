// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain recover PATH: a closed layer that a change of several disks, or a pivot,
 * has left undecided. What decides is the layer that it names; only if that is lost
 * the user's word counts.
 */
#include "dmchain.h"

#include <stdio.h>
#include <string.h>

static const char *outcome(const struct image *img, bool committed, bool old)
{
	if (old && !strcmp(pending_what(img), "pivot"))
		return committed ?
		       "the pivot of several disks was made: its disk has moved on" :
		       "the pivot of several disks was not made: it is the top still";
	if (!committed)
		return "the snapshot of several disks was not taken: it is the top still";
	return old ? "the snapshot of several disks was taken: it is frozen" :
		     "the snapshot of several disks was taken: it is the top";
}

static void tell(const struct image *img, const char *text)
{
	json_object *o, *done;

	if (!opt_json) {
		msg_say("%s: %s", img->path, text);
		return;
	}
	o = json_object_new_object();
	done = json_object_new_array();
	json_object_array_add(done, json_text(text));
	json_object_object_add(o, "path", json_text(img->path));
	json_object_object_add(o, "done", done);
	show_json(o);
}

static int contradicted(const struct image *img, bool committed)
{
	return msg_fail(EXIT_REFUSED,
			"%s: was %s, says the layer that decided it; leave --assume out",
			img->path, committed ? "committed" : "aborted");
}

/* What the coordinator says counts; without one, what the user says. */
static int decide(const struct image *img, const char *assume, bool *committed)
{
	bool wanted = assume && !strcmp(assume, "committed");
	int ret = assume ? pending_reachable(img) : 1;

	if (ret <= 0) {
		*committed = wanted;
		return ret;
	}
	ret = pending_ask(img, NULL, committed);
	if (ret || !assume || *committed == wanted)
		return ret;
	return contradicted(img, *committed);
}

static int settle(struct image *img, const char *assume)
{
	bool committed = false, old = chain_pending_old(&img->hdr);
	const char *text;
	int ret = decide(img, assume, &committed);

	if (!ret)
		ret = image_check_in_use(img, NULL, false);
	if (ret)
		return ret;
	if (!committed && !old)
		return pending_never(img);
	text = outcome(img, committed, old);
	pending_set(img, committed);
	ret = image_write_header(img);
	if (!ret)
		tell(img, text);
	return ret;
}

/* A copy that waits for nothing but its source's word; without one, the user's. */
static int settle_copy(struct image *img, const char *assume)
{
	bool wanted = assume && !strcmp(assume, "committed"), decided = wanted;
	int ret = image_check_in_use(img, NULL, false);

	if (!ret)
		ret = assume ? copy_source_reachable(img) : 1;
	if (ret > 0)
		ret = copy_ask(img, &decided);
	if (!ret && assume && decided != wanted)
		ret = contradicted(img, decided);
	if (!ret && !decided)
		ret = copy_undecided(img);
	if (ret)
		return ret;
	copy_complete(img);
	ret = image_write_header(img);
	if (!ret)
		tell(img, "the pivot was made: it is the top");
	return ret;
}

int recover_closed(const char *path, const char *assume)
{
	struct image img;
	int ret = image_open(&img, path, DM_CHAIN_FORMAT_CHAIN,
			     IMAGE_WRITE | IMAGE_ANY_MARK);

	if (ret)
		return ret;
	if (image_pending(&img))
		ret = settle(&img, assume);
	else if (copy_prepared(&img))
		ret = settle_copy(&img, assume);
	else if (assume)
		ret = msg_fail(EXIT_FAILED,
			       "%s: waits for no decision, there is nothing to assume",
			       path);
	image_close(&img);
	return ret;
}
