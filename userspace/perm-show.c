// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The permission matrix and the holders of layers on stdout.
 */
#include "perm.h"

#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

/* Room for all permissions in text. */
#define MASK_TEXT 128

#define SHORT_NAME(p, name) { DM_CHAIN_PERM_##p, #p, name },

static const struct {
	uint32_t bit;
	const char *brief;
	const char *name;
} perms[] = {
	DM_CHAIN_PERMS(SHORT_NAME)
};

static const char *mask_brief(uint32_t mask, char *buf)
{
	char *p = buf;
	size_t i;

	if (mask == DM_CHAIN_PERM_ALL)
		return "all";
	for (i = 0; i < ARRAY_SIZE(perms); i++)
		if (mask & perms[i].bit)
			p += sprintf(p, "%s%s", p == buf ? "" : " ",
				     perms[i].brief);
	return p == buf ? "none" : buf;
}

static const char *mask_text(uint32_t mask, char *buf)
{
	char *p = buf;
	size_t i;

	if (mask == DM_CHAIN_PERM_ALL)
		return "everything";
	for (i = 0; i < ARRAY_SIZE(perms); i++)
		if (mask & perms[i].bit)
			p += sprintf(p, "%s%s", p == buf ? "" : ", ",
				     perms[i].name);
	return p == buf ? "nothing" : buf;
}

static json_object *mask_json(uint32_t mask)
{
	json_object *a = json_object_new_array();
	size_t i;

	for (i = 0; i < ARRAY_SIZE(perms); i++)
		if (mask & perms[i].bit)
			json_object_array_add(a,
				json_object_new_string(perms[i].name));
	return a;
}

static void masks_json(json_object *o, uint32_t require, uint32_t allow)
{
	json_object_object_add(o, "require", mask_json(require));
	json_object_object_add(o, "allow", mask_json(allow));
}

void perm_rule_json(json_object *o, const struct chain_perm_rule *rule)
{
	json_object_object_add(o, "role", json_object_new_string(rule->role));
	masks_json(o, rule->require, rule->allow);
}

static void matrix_json(void)
{
	json_object *rows = json_object_new_array();
	uint32_t row;

	for (row = 1; row < DM_CHAIN_OPROLE_NR; row++) {
		const struct chain_perm_rule *r = chain_perm_rule(row);
		json_object *o = json_object_new_object();

		json_object_object_add(o, "operation",
			json_object_new_string(chain_perm_op_name(r->op)));
		perm_rule_json(o, r);
		json_object_array_add(rows, o);
	}
	show_json(rows);
}

#define MATRIX_ROW "%-14s  %-8s  %-14s  %s\n"

/* Each row has all of its words: rows are for grep, too. */
static void matrix_rows(void)
{
	char require[MASK_TEXT], allow[MASK_TEXT];
	uint32_t row;

	for (row = 1; row < DM_CHAIN_OPROLE_NR; row++) {
		const struct chain_perm_rule *r = chain_perm_rule(row);

		printf(MATRIX_ROW, chain_perm_op_name(r->op), r->role,
		       mask_brief(r->require, require),
		       mask_brief(r->allow, allow));
	}
}

static void matrix_rst(void)
{
	static const char ruler[] =
		"==============  ========  ==============  ==============\n";

	printf("%s" MATRIX_ROW "%s", ruler, "operation", "role", "requires",
	       "allows", ruler);
	matrix_rows();
	printf("%s", ruler);
}

static void matrix_text(void)
{
	size_t i;

	printf(MATRIX_ROW, "operation", "role", "requires", "allows");
	matrix_rows();
	putchar('\n');
	for (i = 0; i < ARRAY_SIZE(perms); i++)
		printf("%s%s %s", i ? ", " : "", perms[i].brief, perms[i].name);
	putchar('\n');
}

void perm_show_matrix(bool rst)
{
	if (rst)
		matrix_rst();
	else if (opt_json)
		matrix_json();
	else
		matrix_text();
}

const char *perm_role(uint32_t row)
{
	const struct chain_perm_rule *r = chain_perm_rule(row);

	return r ? r->role : "unknown";
}

static const char *op_text(uint32_t op)
{
	const char *name = chain_perm_op_name(op);

	return name ? name : "unknown";
}

static json_object *uuid_json(const struct dm_chain_holder *h)
{
	struct chain_id id;
	char text[37];

	memcpy(id.b, h->uuid, sizeof(id.b));
	return chain_id_is_null(&id) ? NULL :
		json_object_new_string(id_text(&id, text));
}

json_object *perm_holder_json(const struct dm_chain_holder *h)
{
	dev_t dev = makedev(h->major, h->minor);
	char *path = disk_layer_path(dev), *device = disk_device_path(dev);
	json_object *o = json_object_new_object();

	json_object_object_add(o, "layer", json_text(path));
	json_object_object_add(o, "device", json_text(device));
	json_object_object_add(o, "uuid", uuid_json(h));
	json_object_object_add(o, "disk", json_text(h->disk));
	json_object_object_add(o, "operation",
			       json_object_new_string(op_text(h->op)));
	json_object_object_add(o, "role",
			       json_object_new_string(perm_role(h->row)));
	json_object_object_add(o, "token",
			       h->id ? json_object_new_uint64(h->id) : NULL);
	masks_json(o, h->require, h->allow);
	free(path);
	free(device);
	return o;
}

static void print_layer(const struct dm_chain_holder *h)
{
	char *path = disk_layer_path(makedev(h->major, h->minor));

	printf("%s\n", path ? text_clean(path) : "-");
	free(path);
}

static void print_holder(const struct dm_chain_holder *h)
{
	char text[MASK_TEXT];
	char *disk = strdup(h->disk);

	printf("    %s: %s, %s", disk ? text_clean(disk) : "-", op_text(h->op),
	       perm_role(h->row));
	if (h->id)
		printf(", token %llu", (unsigned long long)h->id);
	printf("\n        requires %s\n", mask_text(h->require, text));
	printf("        allows %s\n", mask_text(h->allow, text));
	free(disk);
}

static bool same_layer(const struct dm_chain_holder *a,
		       const struct dm_chain_holder *b)
{
	return a->major == b->major && a->minor == b->minor;
}

void perm_show_holders(const struct dm_chain_holder *h, unsigned int nr)
{
	json_object *rows = json_object_new_array();
	unsigned int i;

	for (i = 0; i < nr; i++) {
		if (opt_json) {
			json_object_array_add(rows, perm_holder_json(&h[i]));
			continue;
		}
		if (!i || !same_layer(&h[i], &h[i - 1]))
			print_layer(&h[i]);
		print_holder(&h[i]);
	}
	if (opt_json)
		show_json(rows);
	else
		json_object_put(rows);
}
