// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Jobs as text and as JSON, with the names that QEMU has for their states.
 */
#include "job.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char * const statuses[] = {
	[DM_CHAIN_JOB_CREATED] = "created",
	[DM_CHAIN_JOB_RUNNING] = "running",
	[DM_CHAIN_JOB_PAUSED] = "paused",
	[DM_CHAIN_JOB_READY] = "ready",
	[DM_CHAIN_JOB_PENDING] = "pending",
	[DM_CHAIN_JOB_CONCLUDED] = "concluded",
};

static const char * const policies[] = {
	[DM_CHAIN_ON_ERROR_REPORT] = "report",
	[DM_CHAIN_ON_ERROR_IGNORE] = "ignore",
	[DM_CHAIN_ON_ERROR_STOP] = "stop",
	[DM_CHAIN_ON_ERROR_ENOSPC] = "enospc",
};

const char *job_type_name(uint32_t type)
{
	switch (type) {
	case DM_CHAIN_JOB_STREAM:
		return "stream";
	case DM_CHAIN_JOB_MIRROR:
		return "mirror";
	default:
		return "commit";
	}
}

const char *job_status_name(uint32_t status)
{
	const char *name = status < ARRAY_SIZE(statuses) ? statuses[status] :
							   NULL;

	return name ? name : "unknown";
}

const char *job_on_error_name(uint32_t on_error)
{
	return on_error < ARRAY_SIZE(policies) ? policies[on_error] : "unknown";
}

int job_on_error(const char *text, uint32_t *on_error)
{
	*on_error = DM_CHAIN_ON_ERROR_REPORT;
	if (!text)
		return 0;
	for (; *on_error < ARRAY_SIZE(policies); ++*on_error)
		if (!strcmp(text, policies[*on_error]))
			return 0;
	return msg_fail(EXIT_USAGE,
			"%s: nothing that could be done at an error; say report, ignore, stop or enospc",
			text);
}

static const char *uuid_of(const struct dm_chain_job *job, char *buf)
{
	struct chain_id id;

	memcpy(id.b, job->uuid, sizeof(id.b));
	return id_text(&id, buf);
}

const char *job_id(const struct job_entry *e, char *buf)
{
	char uuid[37];

	if (e->left)
		snprintf(buf, JOB_ID_TEXT, "%.8s", uuid_of(&e->job, uuid));
	else
		snprintf(buf, JOB_ID_TEXT, "%" PRIu64, (uint64_t)e->job.id);
	return buf;
}

const char *job_error_text(const struct job_entry *e)
{
	if (e->left)
		return "interrupted";
	switch (-e->job.error) {
	case 0:
		return NULL;
	case ECANCELED:
		return "cancelled";
	case ENODEV:
		return "the disk was closed";
	case EILSEQ:
		return "the copy differs";
	default:
		return strerror(e->job.error < 0 ? -e->job.error :
						   e->job.error);
	}
}

static void add_number(json_object *o, const char *key, uint64_t n)
{
	json_object_object_add(o, key, json_object_new_uint64(n));
}

json_object *job_json(const struct job_entry *e)
{
	const struct dm_chain_job *job = &e->job;
	json_object *o = json_object_new_object();
	char id[JOB_ID_TEXT], uuid[37];

	json_object_object_add(o, "id", json_text(job_id(e, id)));
	json_object_object_add(o, "uuid", json_text(uuid_of(job, uuid)));
	json_object_object_add(o, "type", json_text(job_type_name(job->type)));
	if (job->type == DM_CHAIN_JOB_ACTIVE_COMMIT)
		json_object_object_add(o, "active",
				       json_object_new_boolean(true));
	json_object_object_add(o, "chain", json_text(job->disk));
	json_object_object_add(o, "status",
			       json_text(job_status_name(job->status)));
	add_number(o, "current-progress", job->current_bytes);
	add_number(o, "total-progress", job->total_bytes);
	add_number(o, "speed", job->speed);
	json_object_object_add(o, "error", json_text(job_error_text(e)));
	json_object_object_add(o, "on-error",
			       json_text(job_on_error_name(job->on_error)));
	add_number(o, "errors", job->errors);
	if (job->bad_bytes) {
		add_number(o, "bad-start", job->bad_start);
		add_number(o, "bad-bytes", job->bad_bytes);
	}
	return o;
}

json_object *job_kernel_json(const struct dm_chain_job *job)
{
	struct job_entry e = { .job = *job };

	return job_json(&e);
}

void job_print_head(void)
{
	printf("%-8s  %-20s  %-6s  %-9s  %5s  %s\n", "job", "disk", "type",
	       "status", "done", "error");
}

void job_print(const struct job_entry *e)
{
	const struct dm_chain_job *job = &e->job;
	const char *error = job_error_text(e);
	char id[JOB_ID_TEXT], done[16] = "-";

	if (!e->left && job->total_bytes)
		snprintf(done, sizeof(done), "%u %%", (unsigned int)
			 ((double)job->current_bytes * 100 / job->total_bytes));
	printf("%-8s  %-20s  %-6s  %-9s  %5s  %s\n", job_id(e, id), job->disk,
	       job_type_name(job->type), job_status_name(job->status), done,
	       error ? error : "-");
}
