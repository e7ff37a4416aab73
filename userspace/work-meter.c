// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How far the work is that this program does itself: a bar, for people who wait at a
 * terminal for more than a second. Nobody else sees anything of it.
 */
#include "job.h"

#include <unistd.h>

#define FIRST_MS	1000
#define STEP_MS		200
#define BAR_WIDTH	24

/**
 * struct work - what is being done
 * @object: to what
 * @what: is done
 * @job: for those who draw progress
 * @p: how fast it goes
 * @next_ms: when the bar is due
 * @on: there is work, and somebody who looks
 * @bar: there is one on the terminal
 */
static struct work {
	const char *object;
	const char *what;
	struct dm_chain_job job;
	struct progress p;
	uint64_t next_ms;
	bool on;
	bool bar;
} work;

void work_clear(void)
{
	if (work.bar)
		fputs("\r\033[K", stderr);
	work.bar = false;
}

void work_begin(const char *object, const char *what, uint64_t total)
{
	work = (struct work){ .object = object, .what = what };
	work.on = !opt_json && total && isatty(STDERR_FILENO);
	if (!work.on)
		return;
	work.job.status = DM_CHAIN_JOB_RUNNING;
	work.job.total_bytes = total;
	work.next_ms = job_now_ms() + FIRST_MS;
	progress_add(&work.p, job_now_ms(), 0);
	msg_before_line = work_clear;
}

void work_step(uint64_t bytes)
{
	work_at(work.job.current_bytes + bytes);
}

void work_at(uint64_t bytes)
{
	char bar[BAR_WIDTH + 3], text[160], object[80];
	uint64_t now;

	work.job.current_bytes = bytes;
	if (!work.on)
		return;
	now = job_now_ms();
	if (now < work.next_ms)
		return;
	work.next_ms = now + STEP_MS;
	progress_add(&work.p, now, work.job.current_bytes);
	progress_text(&work.p, &work.job, text, sizeof(text));
	snprintf(object, sizeof(object), "%s", work.object);
	fprintf(stderr, "\r%s: %s %s %s\033[K", text_clean(object), work.what,
		progress_bar(&work.job, BAR_WIDTH, bar, sizeof(bar)), text);
	fflush(stderr);
	work.bar = true;
}

void work_end(void)
{
	work_clear();
	work.on = false;
}
