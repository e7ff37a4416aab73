// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Layers of an open disk that were looked at are held for an operation.
 *
 * The kernel is told indices. A job that ends drops layers without the disk's lock,
 * and then they mean others. What is held can't be dropped any more: who sees the
 * same layers behind it has got those that were meant.
 */
#include "perm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRIES 8		/* a job has to have ended in each */

/* A raw layer has no name but its device. */
static bool same_layer(const struct dm_chain_layer *a,
		       const struct dm_chain_layer *b)
{
	return a->format == b->format &&
	       !memcmp(a->uuid, b->uuid, sizeof(a->uuid)) &&
	       (a->format != DM_CHAIN_FORMAT_RAW ||
		(a->major == b->major && a->minor == b->minor));
}

static bool same_layers(const struct take *t, const struct dm_chain_layer *l,
			unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr && l[i].role == DM_CHAIN_ROLE_LAYER; i++)
		if (i == t->nr || !same_layer(&t->layers[i], &l[i]))
			return false;
	return i == t->nr;
}

/* Return: 1, 0, or a negative exit code. */
static int changed(const struct take *t)
{
	struct dm_chain_layer *l;
	unsigned int nr;
	int ret;

	if (!t->layers)
		return 0;
	ret = control_layers(t->ctl, t->disk, &l, &nr);
	if (ret)
		return ret;
	ret = !same_layers(t, l, nr);
	free(l);
	return ret;
}

static int refused(const struct take *t, int err)
{
	if (err == -EBUSY && t->conflict.perm)
		return perm_refused(t->name, t->op, &t->conflict);
	return control_acquire_failed(t->disk, err);
}

/*
 * Also what is refused may have been meant for others. Return: 0, 1: look again, or
 * a negative exit code.
 */
static int take(struct take *t, int *fd)
{
	struct dm_chain_acquire q = {
		.op = t->op, .top = t->top, .base = t->base,
		.flags = fd ? 0 : DM_CHAIN_ACQUIRE_TEST,
	};
	int err = control_acquire(t->ctl, t->disk, &q), ret = changed(t);

	if (ret) {
		if (!err && fd)
			close(q.fd);
		return ret;
	}
	t->conflict = q.conflict;
	if (err)
		return refused(t, err);
	if (fd)
		*fd = q.fd;
	return 0;
}

int perm_take(struct take *t, int (*look)(struct take *t, void *arg), void *arg,
	      int *fd)
{
	unsigned int tries = TRIES;
	int ret;

	do {
		ret = look ? look(t, arg) : 0;
		if (ret)
			return ret;
		ret = take(t, fd);
	} while (ret > 0 && --tries);
	if (ret <= 0)
		return ret;
	return msg_fail(EXIT_REFUSED,
			"%s: %s refused: its layers change all the time; try again when its jobs have ended (dmchain job list %s)",
			t->name, chain_perm_op_name(t->op), t->name);
}
