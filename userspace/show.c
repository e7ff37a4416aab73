// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Layers and maps on stdout. Open and closed disks are told of in one way.
 */
#include "dmchain.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *format_name(uint32_t format)
{
	return format == DM_CHAIN_FORMAT_RAW ? "raw" : "chain";
}

static json_object *json_id(const struct chain_id *id)
{
	char text[37];

	return chain_id_is_null(id) ? NULL :
		json_object_new_string(id_text(id, text));
}

static json_object *json_marks(uint32_t marks)
{
	json_object *a = json_object_new_array();
	unsigned int i;

	for (i = 0; marks_name(i); i++)
		if (marks & 1U << i)
			json_object_array_add(a,
				json_object_new_string(marks_name(i)));
	return a;
}

static json_object *json_users(char **users)
{
	json_object *a = json_object_new_array();

	for (; users && *users; users++)
		json_object_array_add(a, json_text(*users));
	return a;
}

static json_object *json_layer(const struct show_layer *l, unsigned int index)
{
	json_object *o = json_object_new_object();

	json_object_object_add(o, "index", json_object_new_int64(index));
	json_object_object_add(o, "path", json_text(l->path));
	json_object_object_add(o, "device", json_text(l->device));
	json_object_object_add(o, "format",
			       json_object_new_string(format_name(l->format)));
	json_object_object_add(o, "uuid", json_id(&l->uuid));
	json_object_object_add(o, "parent-uuid", json_id(&l->parent_uuid));
	json_object_object_add(o, "access", json_object_new_string(l->access));
	json_object_object_add(o, "label",
			       json_object_new_string(label_name(l->label)));
	json_object_object_add(o, "data-bytes",
			       json_object_new_uint64(l->data_bytes));
	json_object_object_add(o, "zero-bytes",
			       json_object_new_uint64(l->zero_bytes));
	if (l->damaged_bytes)
		json_object_object_add(o, "damaged-bytes",
				json_object_new_uint64(l->damaged_bytes));
	json_object_object_add(o, "marks", json_marks(l->marks));
	if (!chain_id_is_null(&l->coordinator))
		json_object_object_add(o, "coordinator",
				       json_id(&l->coordinator));
	if (!chain_id_is_null(&l->decision))
		json_object_object_add(o, "decision", json_id(&l->decision));
	json_object_object_add(o, "users", json_users(l->users));
	json_object_object_add(o, "map-bytes",
			       json_object_new_uint64(l->map_bytes));
	return o;
}

void show_json(json_object *o)
{
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY |
					    JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

static void show_disk_json(const struct show_disk *d)
{
	json_object *o = json_object_new_object();
	json_object *layers = json_object_new_array();
	unsigned int i;

	for (i = 0; i < d->nr; i++)
		json_object_array_add(layers, json_layer(&d->layers[i], i));
	json_object_object_add(o, "name", json_text(d->name));
	json_object_object_add(o, "device", json_text(d->device));
	json_object_object_add(o, "virtual-size",
			       json_object_new_uint64(d->size));
	json_object_object_add(o, "block-size",
			       json_object_new_int64(d->block_size));
	json_object_object_add(o, "state", json_object_new_string(d->state));
	json_object_object_add(o, "layers", layers);
	json_object_object_add(o, "jobs", d->jobs ? json_object_get(d->jobs) :
						     json_object_new_array());
	show_json(o);
}

static void print_text(const char *before, const char *text)
{
	char *clean = strdup(text);

	if (clean)
		printf("%s%s", before, text_clean(clean));
	free(clean);
}

static void print_marks(uint32_t marks)
{
	unsigned int i;

	for (i = 0; marks_name(i); i++)
		if (marks & 1U << i)
			printf(" %s", marks_name(i));
}

static void print_layer(const struct show_layer *l, unsigned int index)
{
	char id[37], data[32], zero[32];
	char **user;

	printf("%5u  %-5s  %-4s  data %s, zero %s", index,
	       format_name(l->format), l->access,
	       size_text(l->data_bytes, data), size_text(l->zero_bytes, zero));
	if (l->damaged_bytes)
		printf(", damaged %s", size_text(l->damaged_bytes, data));
	print_text("\n         ", l->path);
	if (l->device && strcmp(l->device, l->path))
		print_text(" on ", l->device);
	if (!chain_id_is_null(&l->uuid))
		printf("\n         uuid %s", id_text(&l->uuid, id));
	if (!chain_id_is_null(&l->parent_uuid))
		printf("\n         parent %s", id_text(&l->parent_uuid, id));
	if (l->marks) {
		printf("\n         marks:");
		print_marks(l->marks);
	}
	if (!chain_id_is_null(&l->coordinator))
		printf("\n         waits for what layer %s has decided",
		       id_text(&l->coordinator, id));
	if (!chain_id_is_null(&l->decision))
		printf("\n         has decided a change of several disks, %s",
		       id_text(&l->decision, id));
	if (l->label != LABEL_NONE)
		printf("\n         label: %s", label_name(l->label));
	for (user = l->users; user && *user; user++)
		print_text(user == l->users ? "\n         users: " : ", ", *user);
	putchar('\n');
}

static const char *member(json_object *o, const char *key)
{
	const char *text = json_object_get_string(json_object_object_get(o, key));

	return text ? text : "";
}

static void print_job(json_object *o)
{
	printf("job %s: %s %s, %s of %s bytes", member(o, "id"),
	       member(o, "type"), member(o, "status"),
	       member(o, "current-progress"), member(o, "total-progress"));
	if (*member(o, "error"))
		printf(" (%s)", member(o, "error"));
	putchar('\n');
}

static void print_jobs(json_object *jobs)
{
	size_t i;

	for (i = 0; jobs && i < json_object_array_length(jobs); i++)
		print_job(json_object_array_get_idx(jobs, i));
}

static void show_disk_text(const struct show_disk *d)
{
	char size[32];
	unsigned int i;

	if (d->name)
		print_text("name: ", d->name);
	if (d->device)
		print_text("\ndevice: ", d->device);
	if (d->name || d->device)
		putchar('\n');
	printf("virtual size: %s (%" PRIu64 " bytes)\n",
	       size_text(d->size, size), d->size);
	if (d->block_size)
		printf("block size: %s\n", size_text(d->block_size, size));
	printf("state: %s\n", d->state);
	show_tree(d);
	puts("layers:");
	for (i = 0; i < d->nr; i++)
		print_layer(&d->layers[i], i);
	print_jobs(d->jobs);
}

void show_disk(const struct show_disk *d, bool json)
{
	if (json)
		show_disk_json(d);
	else
		show_disk_text(d);
}

static void free_users(char **users)
{
	char **user;

	for (user = users; user && *user; user++)
		free(*user);
	free(users);
}

void show_disk_free(struct show_disk *d)
{
	unsigned int i;

	for (i = 0; i < d->nr; i++) {
		free(d->layers[i].path);
		free(d->layers[i].device);
		free(d->layers[i].work);
		free_users(d->layers[i].users);
	}
	free(d->layers);
	json_object_put(d->jobs);
	free(d->name);
	free(d->device);
	memset(d, 0, sizeof(*d));
}

static const char *bool_text(bool b)
{
	return b ? "true" : "false";
}

static void print_extent_json(const struct show_map *s, unsigned int depth,
			      const struct dm_chain_extent *e)
{
	bool damaged = e->state == DM_CHAIN_DAMAGED;

	printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64
	       ", \"depth\": %u, \"present\": %s, \"zero\": %s, \"data\": %s%s }",
	       s->count ? ",\n  " : "[ ", (uint64_t)e->start,
	       (uint64_t)e->length, depth,
	       bool_text(e->state != DM_CHAIN_ABSENT),
	       bool_text(e->state == DM_CHAIN_ABSENT ||
			 e->state == DM_CHAIN_ZERO),
	       bool_text(e->state == DM_CHAIN_DATA || damaged),
	       damaged ? ", \"damaged\": true" : "");
}

static void print_extent_text(unsigned int depth,
			      const struct dm_chain_extent *e)
{
	static const char * const states[] = {
		"absent", "data", "zero", "damaged",
	};

	printf("%16" PRIu64 "  %16" PRIu64 "  %5u  %s\n", (uint64_t)e->start,
	       (uint64_t)e->length, depth, states[e->state & 3]);
}

static int print_extent(const struct dm_chain_extent *e, void *arg)
{
	struct show_map *s = arg;
	unsigned int depth = e->depth;

	/* Where no layer holds anything it is the lowest one that says so. */
	if (depth >= s->nr && depth)
		depth = s->nr - 1;
	if (s->json)
		print_extent_json(s, depth, e);
	else
		print_extent_text(depth, e);
	s->count++;
	return 0;
}

void show_map_begin(struct show_map *s, unsigned int nr, bool json)
{
	memset(s, 0, sizeof(*s));
	s->json = json;
	s->nr = nr;
	s->merge.cb = print_extent;
	s->merge.arg = s;
	if (!json)
		printf("%16s  %16s  %5s  %s\n", "start", "length", "depth",
		       "state");
}

int show_map_extent(const struct dm_chain_extent *e, void *arg)
{
	struct show_map *s = arg;

	return extents_add(e, &s->merge);
}

void show_map_end(struct show_map *s)
{
	(void)extents_end(&s->merge);
	if (s->json)
		puts(s->count ? "]" : "[]");
}
