// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How far a job is, how fast it goes, how long it will take.
 */
#include "job.h"

#include <string.h>

#define NEW_SHARE 0.3		/* of the last look in the smoothed rate */

void progress_add(struct progress *p, uint64_t ms, uint64_t bytes)
{
	double rate;

	/* What a resumed or restarted count takes back is no rate. */
	if (p->looks && ms > p->ms) {
		rate = bytes > p->bytes ?
		       (double)(bytes - p->bytes) * 1000 / (ms - p->ms) : 0;
		p->rate = p->looks == 1 ? rate :
			  rate * NEW_SHARE + p->rate * (1 - NEW_SHARE);
	} else if (p->looks) {
		return;
	}
	p->ms = ms;
	p->bytes = bytes;
	p->looks++;
}

static unsigned int percent(const struct dm_chain_job *job)
{
	if (job->current_bytes >= job->total_bytes)
		return 100;
	return (unsigned int)((double)job->current_bytes * 100 /
			      job->total_bytes);
}

static void time_left(const struct progress *p, const struct dm_chain_job *job,
		      char *buf, size_t len)
{
	uint64_t left = 0, s;

	*buf = '\0';
	if (job->total_bytes > job->current_bytes)
		left = job->total_bytes - job->current_bytes;
	/* Slower than that it never ends. */
	if (!left || p->rate < 1 || left / p->rate > 100 * 3600)
		return;
	s = (uint64_t)(left / p->rate + 0.999);
	if (s >= 3600)
		snprintf(buf, len, ", %u:%02u:%02u left",
			 (unsigned int)(s / 3600), (unsigned int)(s / 60 % 60),
			 (unsigned int)(s % 60));
	else
		snprintf(buf, len, ", %u:%02u left", (unsigned int)(s / 60),
			 (unsigned int)(s % 60));
}

const char *progress_text(const struct progress *p,
			  const struct dm_chain_job *job, char *buf, size_t len)
{
	char done[32], total[32], rate[32], left[48] = "";

	if (job->status != DM_CHAIN_JOB_RUNNING) {
		snprintf(buf, len, "%u %%, %s of %s, %s", percent(job),
			 size_text(job->current_bytes, done),
			 size_text(job->total_bytes, total),
			 job_status_name(job->status));
		return buf;
	}
	time_left(p, job, left, sizeof(left));
	snprintf(buf, len, "%u %%, %s of %s, %s/s%s", percent(job),
		 size_text(job->current_bytes, done),
		 size_text(job->total_bytes, total),
		 size_text((uint64_t)p->rate, rate), left);
	return buf;
}

const char *progress_bar(const struct dm_chain_job *job, unsigned int width,
			 char *buf, size_t len)
{
	unsigned int full;

	if (width + 3 > len)
		width = len - 3;
	full = width * percent(job) / 100;
	buf[0] = '[';
	memset(buf + 1, '#', full);
	memset(buf + 1 + full, '.', width - full);
	buf[1 + width] = ']';
	buf[2 + width] = '\0';
	return buf;
}
