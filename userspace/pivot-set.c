// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain pivot of several mirrors: at one instant, all or none.
 *
 * Under the locks of all disks, taken in the order of their names. Who decides is
 * chosen here, as the others' headers have to say where to ask; all that is written
 * the kernel writes, so killed at any point there is nothing left but what recover
 * does for one disk, too.
 */
#include "boot.h"
#include "job.h"

#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

/**
 * struct member - one of the disks
 * @job: its mirror
 * @given: its place among the arguments
 * @layers: it is made of, and the target; @nr
 * @source: index of the top in @layers
 * @target: index
 * @path: of the layer whose header says where the disk is; NULL: none has one
 */
struct member {
	const struct dm_chain_job *job;
	unsigned int given;
	struct disk_lock lock;
	dev_t disk;
	struct dm_chain_layer *layers;
	unsigned int nr;
	unsigned int source;
	unsigned int target;
	char *path;
	uint64_t pause_ns;
};

struct set {
	int ctl;
	unsigned int nr;
	struct member *m;
	unsigned int decider;
};

static dev_t dev_of(const struct dm_chain_layer *l)
{
	return makedev(l->major, l->minor);
}

/* --- What there is --- */

static int find_sides(struct member *m)
{
	unsigned int i;

	m->source = m->target = m->nr;
	for (i = 0; i < m->nr; i++) {
		if (m->layers[i].role == DM_CHAIN_ROLE_TARGET)
			m->target = i;
		else if (m->layers[i].role == DM_CHAIN_ROLE_LAYER &&
			 m->source == m->nr)
			m->source = i;
	}
	if (m->source < m->nr && m->target < m->nr)
		return 0;
	return msg_fail(EXIT_FAILED,
			"%s: has no mirror any more; dmchain job list %s",
			m->job->disk, m->job->disk);
}

static const struct dm_chain_layer *record(const struct member *m)
{
	const struct dm_chain_layer *l = &m->layers[m->source];

	if (l->format == DM_CHAIN_FORMAT_CHAIN)
		return l;
	l = &m->layers[m->target];
	return l->format == DM_CHAIN_FORMAT_CHAIN ? l : NULL;
}

static int look(struct set *s, struct member *m)
{
	int ret = disk_recover_locked(&m->lock, false, NULL);

	if (!ret)
		ret = disk_find(m->job->disk, &m->disk);
	if (!ret)
		ret = control_layers(s->ctl, m->disk, &m->layers, &m->nr);
	if (!ret)
		ret = find_sides(m);
	if (ret || !record(m))
		return ret;
	m->path = disk_layer_path(dev_of(record(m)));
	return m->path ? 0 : msg_fail(EXIT_FAILED, "%s: out of memory",
				      m->job->disk);
}

static int check_apart(const struct member *m, const struct member *on)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < m->nr && !ret; i++)
		ret = disk_check_apart(m->job->disk, dev_of(&m->layers[i]),
				       on->job->disk, on->disk);
	return ret;
}

static int look_at_all(struct set *s)
{
	unsigned int i, j;
	int ret = 0;

	for (i = 0; i < s->nr && !ret; i++)
		ret = look(s, &s->m[i]);
	for (i = 0; i < s->nr && !ret; i++)
		for (j = 0; j < s->nr && !ret; j++)
			if (i != j)
				ret = check_apart(&s->m[i], &s->m[j]);
	return ret;
}

/*
 * Not one that has an older decision, which others may still have to ask for. A
 * source rather than a target: that is where people look who have only one.
 */
static int choose_decider(struct set *s)
{
	static const uint8_t none[16];
	unsigned int i, best = s->nr, any = s->nr;

	for (i = s->nr; i--; ) {
		const struct dm_chain_layer *l = record(&s->m[i]);

		if (!l)
			continue;
		any = i;
		if (memcmp(l->decision, none, sizeof(none)))
			continue;
		if (best == s->nr || l->role != DM_CHAIN_ROLE_TARGET)
			best = i;
	}
	if (best == s->nr && any < s->nr)
		return msg_fail(EXIT_REFUSED,
				"%s: cannot pivot, a change of several disks was cut off, and each of these has its decision; close and open one of them first",
				s->m[any].job->disk);
	s->decider = best < s->nr ? best : 0;
	return 0;
}

/* --- The switch --- */

static int make_hints(const struct set *s, char *hints)
{
	const char *decider = s->m[s->decider].path;
	unsigned int i;
	int ret = 0;

	for (i = 0; i < s->nr && !ret; i++)
		if (decider && s->m[i].path && i != s->decider)
			ret = hint_make_near(hints + (size_t)i * DM_CHAIN_PATH_BYTES,
					     s->m[i].path, decider, false);
	return ret;
}

static int switch_all(struct set *s)
{
	struct control_set q = {
		.nr = s->nr, .decider = s->decider,
		.disks = calloc(s->nr, sizeof(*q.disks)),
		.names = calloc(s->nr, sizeof(*q.names)),
		.hints = calloc(s->nr, DM_CHAIN_PATH_BYTES),
		.pause_ns = calloc(s->nr, sizeof(*q.pause_ns)),
	};
	unsigned int i;
	int ret;

	if (!q.disks || !q.names || !q.hints || !q.pause_ns) {
		ret = msg_fail(EXIT_FAILED, "out of memory");
		goto out;
	}
	for (i = 0; i < s->nr; i++) {
		q.disks[i] = s->m[i].disk;
		q.names[i] = s->m[i].job->disk;
	}
	ret = make_hints(s, q.hints);
	if (!ret)
		ret = control_pivot_set(s->ctl, &q);
	for (i = 0; i < s->nr; i++)
		s->m[i].pause_ns = q.pause_ns[i];
out:
	free(q.pause_ns);
	free(q.hints);
	free(q.names);
	free(q.disks);
	return ret;
}

static int pivot_locked(struct set *s)
{
	int ret = look_at_all(s);
	unsigned int i;

	if (!ret)
		ret = choose_decider(s);
	for (i = 0; i < s->nr && !ret; i++)
		ret = boot_before_pivot(s->ctl, s->m[i].job->disk, s->m[i].disk);
	if (!ret)
		ret = switch_all(s);
	for (i = 0; i < s->nr && !ret; i++)
		job_pivot_tidy(&s->m[i].lock);
	return ret;
}

static int pivot_all(struct set *s)
{
	unsigned int i, locked;
	int ret = 0;

	for (locked = 0; locked < s->nr && !ret; locked++)
		ret = disk_lock(s->m[locked].job->disk, &s->m[locked].lock);
	if (ret)
		locked--;
	if (!ret)
		ret = pivot_locked(s);
	for (i = 0; i < locked; i++)
		disk_unlock(&s->m[i].lock);
	return ret;
}

/* --- All of it --- */

static int by_name(const void *a, const void *b)
{
	const struct member *ma = a, *mb = b;

	return strcmp(ma->job->disk, mb->job->disk);
}

static int fill(struct set *s, const struct job_entry *const *jobs)
{
	unsigned int i;

	for (i = 0; i < s->nr; i++) {
		s->m[i].job = &jobs[i]->job;
		s->m[i].given = i;
	}
	qsort(s->m, s->nr, sizeof(*s->m), by_name);
	for (i = 1; i < s->nr; i++)
		if (!by_name(&s->m[i - 1], &s->m[i]))
			return msg_fail(EXIT_USAGE,
					"%s: stands twice; a disk moves on once",
					s->m[i].job->disk);
	return 0;
}

int pivot_several(int ctl, const struct job_entry *const *jobs, unsigned int nr,
		  uint64_t *pause_ns)
{
	struct set s = { .ctl = ctl, .nr = nr, .m = calloc(nr, sizeof(*s.m)) };
	unsigned int i;
	int ret = s.m ? fill(&s, jobs) : msg_fail(EXIT_FAILED, "out of memory");

	if (!ret)
		ret = pivot_all(&s);
	for (i = 0; s.m && i < nr; i++) {
		pause_ns[s.m[i].given] = s.m[i].pause_ns;
		free(s.m[i].layers);
		free(s.m[i].path);
	}
	free(s.m);
	return ret;
}
