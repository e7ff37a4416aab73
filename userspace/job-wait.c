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
 * @meter: shows how far it is
 * @told: that it is paused for an error
 * @cancelled: it was told to end
 */
struct watch {
	struct job_waiting *w;
	int mon;
	uint64_t begin_ms;
	struct meter meter;
	bool told;
	bool cancelled;
};

static void show(struct watch *x)
{
	const struct dm_chain_job *job = &x->w->job;

	if (x->w->show)
		meter_show(&x->meter, job->disk, job_type_name(job->type), job);
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
		meter_clear(&x->meter);
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
	meter_clear(&x->meter);
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
	ret = watch(&x, ctl);
	meter_clear(&x.meter);
	close(x.mon);
	return ret;
}
