// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Progress as it is shown: a bar on a terminal, one line a second elsewhere.
 */
#include "job.h"

#include <unistd.h>

#define LINE_MS		1000
#define BAR_WIDTH	24

void meter_clear(struct meter *m)
{
	if (m->bar)
		fputs("\r\033[K", stderr);
	m->bar = false;
}

static void show_bar(struct meter *m, const char *disk, const char *what,
		     const struct dm_chain_job *job, const char *text)
{
	char bar[BAR_WIDTH + 3];

	fprintf(stderr, "\r%s: %s %s %s\033[K", disk, what,
		progress_bar(job, BAR_WIDTH, bar, sizeof(bar)), text);
	fflush(stderr);
	m->bar = true;
}

void meter_show(struct meter *m, const char *disk, const char *what,
		const struct dm_chain_job *job)
{
	uint64_t now = job_now_ms();
	char text[160];

	if (!m->line_ms)
		m->line_ms = now + LINE_MS;
	progress_add(&m->p, now, job->current_bytes);
	if (opt_json)
		return;
	progress_text(&m->p, job, text, sizeof(text));
	if (isatty(STDERR_FILENO)) {
		show_bar(m, disk, what, job, text);
	} else if (now >= m->line_ms) {
		printf("%s: %s %s\n", disk, what, text);
		fflush(stdout);
		m->line_ms = now + LINE_MS;
	}
}
