// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Waiting for a job. Events wake us, and a clock, as progress has none.
 */
#include "job.h"

#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define TICK_MS		250
#define LINE_MS		1000
#define BAR_WIDTH	24

static volatile sig_atomic_t interrupted;

static void interrupt(int sig)
{
	(void)sig;
	interrupted = 1;
}

void job_signals(void)
{
	/* Once is a wish. Who can't wait for the job's end asks again. */
	struct sigaction sa = {
		.sa_handler = interrupt, .sa_flags = SA_RESETHAND,
	};

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

bool job_interrupted(void)
{
	return interrupted;
}

uint64_t job_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/**
 * struct watch - one wait, on its way
 * @w: what it is for
 * @mon: monitor
 * @begin_ms: when it began
 * @line_ms: when the next line is due
 * @p: progress
 * @bar: there is one on the terminal
 * @told: that it is paused for an error
 * @cancelled: it was told to end
 */
struct watch {
	struct job_waiting *w;
	int mon;
	uint64_t begin_ms;
	uint64_t line_ms;
	struct progress p;
	bool bar;
	bool told;
	bool cancelled;
};

static void clear_bar(struct watch *x)
{
	if (x->bar)
		fputs("\r\033[K", stderr);
	x->bar = false;
}

static void show_bar(struct watch *x, const char *text)
{
	const struct dm_chain_job *job = &x->w->job;
	char bar[BAR_WIDTH + 3];

	fprintf(stderr, "\r%s: %s %s %s\033[K", job->disk,
		job_type_name(job->type),
		progress_bar(job, BAR_WIDTH, bar, sizeof(bar)), text);
	fflush(stderr);
	x->bar = true;
}

static void show(struct watch *x)
{
	const struct dm_chain_job *job = &x->w->job;
	uint64_t now = job_now_ms();
	char text[160];

	progress_add(&x->p, now, job->current_bytes);
	if (!x->w->show || opt_json)
		return;
	progress_text(&x->p, job, text, sizeof(text));
	if (isatty(STDERR_FILENO)) {
		show_bar(x, text);
	} else if (now >= x->line_ms) {
		printf("%s: %s %s\n", job->disk, job_type_name(job->type), text);
		fflush(stdout);
		x->line_ms = now + LINE_MS;
	}
}

/* Once for each pause: it can go on for hours until somebody has made room. */
static void tell_pause(struct watch *x)
{
	const struct dm_chain_job *job = &x->w->job;
	struct job_entry e = { .job = *job };
	const char *why = job_error_text(&e);
	bool paused = job->status == DM_CHAIN_JOB_PAUSED &&
		      job->flags & DM_CHAIN_JOB_F_ERROR;

	if (paused && !x->told) {
		clear_bar(x);
		msg_warn("%s: job %llu is paused, a layer failed: %s; mend that, then dmchain job resume %llu",
			 job->disk, (unsigned long long)job->id,
			 why ? why : "unknown error",
			 (unsigned long long)job->id);
	}
	x->told = paused;
}

static bool is_over(const struct watch *x)
{
	const struct dm_chain_job *job = &x->w->job;

	return !job_live(job) ||
	       (x->w->until_ready && job->status == DM_CHAIN_JOB_READY &&
		!x->cancelled);
}

/* Too late is no error: it ends all the same. */
static void cancel(struct watch *x, int ctl)
{
	x->cancelled = true;
	clear_bar(x);
	(void)control_job_verb(ctl, x->w->id, DM_CHAIN_VERB_CANCEL, 0);
}

static int wait_event(struct watch *x)
{
	struct pollfd p = { .fd = x->mon, .events = POLLIN };
	struct dm_chain_job_event e;
	int ret;

	(void)poll(&p, 1, TICK_MS);
	/* What they tell is asked for anyway. */
	do {
		ret = control_monitor_read(x->mon, &e);
	} while (ret > 0);
	return ret;
}

static bool timed_out(const struct watch *x)
{
	return x->w->timeout_ms &&
	       job_now_ms() - x->begin_ms >= x->w->timeout_ms;
}

static int watch(struct watch *x, int ctl)
{
	int ret;

	for (;;) {
		ret = control_job(ctl, x->w->id, &x->w->job);
		if (ret)
			return ret;
		show(x);
		tell_pause(x);
		if (is_over(x))
			return 0;
		if (timed_out(x))
			return JOB_TIMED_OUT;
		if (x->w->cancel && interrupted && !x->cancelled)
			cancel(x, ctl);
		ret = wait_event(x);
		if (ret)
			return ret;
	}
}

int job_wait(int ctl, struct job_waiting *w)
{
	struct watch x = {
		.w = w, .mon = control_monitor(), .begin_ms = job_now_ms(),
	};
	int ret;

	if (x.mon < 0)
		return x.mon;
	x.line_ms = x.begin_ms + LINE_MS;
	ret = watch(&x, ctl);
	clear_bar(&x);
	close(x.mon);
	return ret;
}
