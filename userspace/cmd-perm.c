// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain perm: who holds what, what there is to hold, and would this be
 * allowed.
 */
#include "perm.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* @name: of a disk, or NULL: all holders that there are */
static int show_holders(const char *name)
{
	struct dm_chain_holder *h;
	unsigned int nr;
	dev_t disk = 0;
	int ctl, ret = name ? disk_find(name, &disk) : 0;

	if (ret)
		return ret;
	/* Nothing is open: no reason to load the module. */
	if (!name && !module_present()) {
		perm_show_holders(NULL, 0);
		return 0;
	}
	ctl = control_open();
	if (ctl < 0)
		return ctl;
	ret = control_holders(ctl, disk, &h, &nr);
	close(ctl);
	if (ret)
		return ret;
	perm_show_holders(h, nr);
	free(h);
	return 0;
}

static int misplaced(const char *what)
{
	return msg_fail(EXIT_USAGE, "perm: %s; see dmchain perm --help", what);
}

static bool has_layers(const struct perm_question *q)
{
	return q->format || q->top || q->base || q->into;
}

/* Before all else is opened: a closed descriptor could be any file by then. */
static int check_layers(const struct perm_question *q)
{
	int ret = q->top ? arg_layer_check(q->top) : 0;

	if (!ret && q->base)
		ret = arg_layer_check(q->base);
	if (!ret && q->into)
		ret = arg_layer_check(q->into);
	return ret;
}

static int check(int argc, char **argv, struct perm_question *q)
{
	if (argc != 3)
		return misplaced("check needs an operation and a NAME or PATH");
	q->op = argv[1];
	q->object = argv[2];
	return arg_layer_check(q->object) ? -EXIT_USAGE : perm_check(q);
}

static int hold(int argc, char **argv, struct perm_question *q)
{
	if (argc < 4)
		return misplaced("hold needs an operation, a NAME and a command");
	q->op = argv[1];
	q->object = argv[2];
	return perm_hold(q, argv + 3);
}

int cmd_perm(int argc, char **argv)
{
	struct perm_question q = { 0 };
	bool rst = false;
	const struct arg_opt opts[] = {
		{ "rst", NULL, &rst },
		{ "format", &q.format, NULL },
		{ "top", &q.top, NULL },
		{ "base", &q.base, NULL },
		{ "into", &q.into, NULL },
		{ "writable", NULL, &q.writable },
		{ NULL, NULL, NULL },
	};
	bool matrix;
	int ret = args_parse(&argc, &argv, opts, 0, INT_MAX);

	if (!ret)
		ret = check_layers(&q);
	if (ret)
		return ret;
	matrix = argc && !strcmp(argv[0], "matrix");
	if (rst && !matrix)
		return misplaced("--rst is an option of matrix");
	if (argc && !strcmp(argv[0], "hold"))
		return hold(argc, argv, &q);
	if (q.writable)
		return misplaced("--writable is an option of hold");
	if (argc && !strcmp(argv[0], "check"))
		return check(argc, argv, &q);
	if (has_layers(&q))
		return misplaced("these are options of check and hold");
	if (argc > 1)
		return misplaced("too many words");
	if (!matrix)
		return show_holders(argc ? argv[0] : NULL);
	perm_show_matrix(rst);
	return 0;
}
