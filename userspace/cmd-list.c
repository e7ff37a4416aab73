// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain list
 */
#include "online.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct row {
	const char *name;
	struct dm_state state;
	struct table table;
	char *top;
	bool pending;
};

/* Has it a layer that waits for the decision of a snapshot of several disks? */
static bool has_pending(const struct dm_state *s)
{
	bool yes;
	int ctl;

	if (!s->live)
		return false;
	ctl = control_open();
	if (ctl < 0)
		return false;
	yes = control_has_mark(ctl, s->dev, DM_CHAIN_MARK_PENDING);
	close(ctl);
	return yes;
}

static const char *state_text(const struct row *r)
{
	const struct dm_state *s = &r->state;

	return !s->live ? "unfinished" : s->suspended ? "suspended" :
	       r->pending ? "pending" : "active";
}

/* Attached layers are no part of the disk yet. */
static unsigned int nr_layers(const struct table *t)
{
	unsigned int i, nr = 0;

	for (i = 0; i < t->nr; i++)
		nr += !table_extra(&t->layers[i]);
	return nr;
}

static void row_json(const struct row *r, json_object *rows)
{
	json_object *o = json_object_new_object();
	char device[200];

	snprintf(device, sizeof(device), "/dev/mapper/%s", r->name);
	json_object_object_add(o, "name", json_text(r->name));
	json_object_object_add(o, "device", json_text(device));
	json_object_object_add(o, "virtual-size",
			       json_object_new_uint64(r->table.sectors * 512));
	json_object_object_add(o, "state",
			       json_object_new_string(state_text(r)));
	json_object_object_add(o, "read-only",
			       json_object_new_boolean(r->state.read_only));
	json_object_object_add(o, "layers",
			       json_object_new_int(nr_layers(&r->table)));
	json_object_object_add(o, "top", json_text(r->top));
	json_object_array_add(rows, o);
}

static void row_print(const struct row *r)
{
	char size[32];

	printf("%-20s  %10s  %6u  %-10s  %s\n", r->name,
	       size_text(r->table.sectors * 512, size), nr_layers(&r->table),
	       state_text(r), r->top ? text_clean(r->top) : "-");
}

static char *top_path(const struct table *t)
{
	unsigned int i;

	for (i = 0; i < t->nr; i++)
		if (!table_extra(&t->layers[i]))
			return disk_layer_path(t->layers[i].dev);
	return NULL;
}

static int row_cb(const char *name, dev_t dev, void *arg)
{
	struct row r = { .name = name };
	bool gone = false;
	int ret;

	(void)dev;
	/* It may have been closed in the meantime. */
	if (dm_state(name, &r.state))
		return 0;
	ret = r.state.live ? dm_table_look(name, &r.table, &gone) : 0;
	if (ret || gone)
		return ret;
	r.top = top_path(&r.table);
	r.pending = has_pending(&r.state);
	if (opt_json)
		row_json(&r, arg);
	else
		row_print(&r);
	free(r.top);
	dm_table_free(&r.table);
	return 0;
}

int cmd_list(int argc, char **argv)
{
	json_object *rows;
	int ret = args_parse(&argc, &argv, NULL, 0, 0);

	if (ret)
		return -ret;
	rows = json_object_new_array();
	if (!opt_json)
		printf("%-20s  %10s  %6s  %-10s  %s\n", "name", "size", "layers",
		       "state", "top");
	ret = dm_each(row_cb, rows);
	if (opt_json && !ret)
		show_json(rows);
	else
		json_object_put(rows);
	return -ret;
}
