// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain monitor: what happens to jobs, a line each, until it is interrupted.
 */
#include "job.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stopped;

static void stop(int sig)
{
	(void)sig;
	stopped = 1;
}

/* They come only while we wait, so that none is missed before a wait. */
static void block_signals(sigset_t *before)
{
	struct sigaction sa = { .sa_handler = stop };
	sigset_t set;

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, before);
}

static const char *event_name(uint32_t type)
{
	return type == DM_CHAIN_JOB_EVENT_STATUS ? "status" :
	       type == DM_CHAIN_JOB_EVENT_ERROR ? "error" :
	       type == DM_CHAIN_JOB_EVENT_LOST ? "lost" : "job";
}

static void time_text(uint64_t ns, char *buf, size_t len)
{
	time_t s = (time_t)(ns / 1000000000);
	struct tm tm;
	size_t n;

	n = strftime(buf, len, "%Y-%m-%dT%H:%M:%S", gmtime_r(&s, &tm));
	snprintf(buf + n, len - n, ".%03uZ",
		 (unsigned int)(ns / 1000000 % 1000));
}

static void line_json(const struct dm_chain_job_event *e, const char *when)
{
	json_object *o = json_object_new_object();

	json_object_object_add(o, "time", json_text(when));
	json_object_object_add(o, "time-ns", json_object_new_uint64(e->time_ns));
	json_object_object_add(o, "event", json_text(event_name(e->type)));
	json_object_object_add(o, "job", e->type == DM_CHAIN_JOB_EVENT_LOST ?
			       NULL : job_kernel_json(&e->job));
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
					    JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

static void line(const struct dm_chain_job_event *e)
{
	const struct dm_chain_job *job = &e->job;
	struct job_entry entry = { .job = *job };
	const char *error = job_error_text(&entry);
	char when[40];

	time_text(e->time_ns, when, sizeof(when));
	if (opt_json) {
		line_json(e, when);
		return;
	}
	if (e->type == DM_CHAIN_JOB_EVENT_LOST) {
		printf("%s events were lost; dmchain job list tells what is now\n",
		       when);
		return;
	}
	printf("%s job %llu %s %s %s %llu/%llu%s%s\n", when,
	       (unsigned long long)job->id, job->disk,
	       job_type_name(job->type), job_status_name(job->status),
	       (unsigned long long)job->current_bytes,
	       (unsigned long long)job->total_bytes, error ? " " : "",
	       error ? error : "");
}

/* What there is already; asked for when events come, so that none is lost. */
static int begin(int mon)
{
	struct dm_chain_job_event e = { .type = 0 };
	struct dm_chain_job *jobs;
	struct timespec t;
	unsigned int i, nr;
	int ret = control_jobs(mon, 0, &jobs, &nr);

	if (ret)
		return ret;
	clock_gettime(CLOCK_REALTIME, &t);
	e.time_ns = (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
	for (i = 0; i < nr; i++) {
		e.job = jobs[i];
		line(&e);
	}
	free(jobs);
	return 0;
}

/* Who reads us may go: then there is nobody to tell. */
static int follow(int mon, const sigset_t *before)
{
	struct pollfd p[2] = {
		{ .fd = mon, .events = POLLIN },
		{ .fd = STDOUT_FILENO },
	};
	struct dm_chain_job_event e;
	int ret = 0;

	while (!stopped && !ferror(stdout)) {
		if (ppoll(p, 2, NULL, before) < 0 && errno != EINTR)
			return msg_fail_errno(EXIT_FAILED, errno,
					      "/dev/dm-chain: cannot be waited for");
		if (p[1].revents)
			return 0;
		while ((ret = control_monitor_read(mon, &e)) > 0)
			line(&e);
		if (ret)
			break;
	}
	return ret;
}

int cmd_monitor(int argc, char **argv)
{
	int mon, ret = args_parse(&argc, &argv, NULL, 0, 0);
	sigset_t before;

	if (ret)
		return ret;
	setvbuf(stdout, NULL, _IOLBF, 0);
	block_signals(&before);
	mon = control_monitor();
	if (mon < 0)
		return mon;
	ret = begin(mon);
	if (!ret)
		ret = follow(mon, &before);
	close(mon);
	return ret;
}
