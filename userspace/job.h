/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts that deal with jobs share.
 */
#ifndef DMCHAIN_JOB_H
#define DMCHAIN_JOB_H

#include "online.h"

/* control-job.c */

/** control_job_start() - 0 or a negative errno, nothing is said */
int control_job_start(int ctl, struct dm_chain_job_start *q);
/**
 * control_jobs() - jobs there are, and the last that have ended
 * @ctl: control device
 * @id: only this one; 0: all
 * @jobs: set to an array, to be freed
 * @nr: set to how many
 */
int control_jobs(int ctl, uint64_t id, struct dm_chain_job **jobs,
		 unsigned int *nr);
/** control_job() - one of them; says if it is not there */
int control_job(int ctl, uint64_t id, struct dm_chain_job *job);
/** control_job_verb() - 0 or a negative exit code */
int control_job_verb(int ctl, uint64_t id, uint32_t verb, uint64_t arg);
/** control_monitor() - a descriptor that tells of jobs, non-blocking */
int control_monitor(void);
/**
 * control_monitor_read() - the next event
 * @mon: descriptor of the monitor
 * @e: filled in
 *
 * Return: 1 with @e, 0: none now, or a negative exit code.
 */
int control_monitor_read(int mon, struct dm_chain_job_event *e);
/**
 * struct control_set - disks to be pivoted at one instant
 * @nr: how many
 * @disks: devices
 * @names: for messages
 * @decider: index of the one whose header decides
 * @hints: DM_CHAIN_PATH_BYTES each: where that lies; one disk: NULL
 * @pause_ns: set for each: how long it was held back
 */
struct control_set {
	unsigned int nr;
	dev_t *disks;
	const char **names;
	unsigned int decider;
	char *hints;
	uint64_t *pause_ns;
};

/** control_pivot() - 0; 1: not ready; or a negative exit code */
int control_pivot(int ctl, dev_t disk, const char *name, uint64_t *pause_ns);
/** control_pivot_set() - likewise, all or none */
int control_pivot_set(int ctl, const struct control_set *s);

/* job-list.c */

/**
 * struct job_entry - a job, or what one left on disk
 * @job: of what was left: uuid, type, disk, and paused
 * @left: there is a record and no job in the kernel
 * @index: of the layer with the record
 */
struct job_entry {
	struct dm_chain_job job;
	bool left;
	unsigned int index;
};

struct job_list {
	unsigned int nr;
	struct job_entry *jobs;
};

/**
 * job_list_read() - jobs in the kernel, and records of open disks
 * @ctl: control device
 * @name: of the disk; NULL: all
 * @l: filled in, for job_list_free()
 */
int job_list_read(int ctl, const char *name, struct job_list *l);
void job_list_free(struct job_list *l);
/** job_live() - it has not ended */
bool job_live(const struct dm_chain_job *job);
/** job_tracked() - a mirror that can go on when it is cut off: chain to chain */
bool job_tracked(const struct dm_chain_job *job);
/** job_find() - JOB: a number, the start of a uuid, a disk's name */
int job_find(const struct job_list *l, const char *arg,
	     const struct job_entry **found);

/* job-show.c */

#define JOB_ID_TEXT 24

const char *job_type_name(uint32_t type);
const char *job_status_name(uint32_t status);
const char *job_on_error_name(uint32_t on_error);
/** job_on_error() - of text; NULL: report */
int job_on_error(const char *text, uint32_t *on_error);
/** job_id() - what a user calls it; @buf JOB_ID_TEXT bytes */
const char *job_id(const struct job_entry *e, char *buf);
/** job_error_text() - why it paused, or how it ended; NULL: no error */
const char *job_error_text(const struct job_entry *e);
json_object *job_json(const struct job_entry *e);
/** job_kernel_json() - of a job in the kernel */
json_object *job_kernel_json(const struct dm_chain_job *job);
/** job_print() - a line of a table; job_print_head() is above it */
void job_print(const struct job_entry *e);
void job_print_head(void);

/* job-progress.c */

/**
 * struct progress - how fast it goes
 * @ms: time of the last look
 * @bytes: done then
 * @rate: bytes a second, smoothed
 * @looks: how many there were
 */
struct progress {
	uint64_t ms;
	uint64_t bytes;
	double rate;
	unsigned int looks;
};

void progress_add(struct progress *p, uint64_t ms, uint64_t bytes);
/** progress_text() - "42 %, 1.2 GiB of 3 GiB, 120 MiB/s, 0:15 left" */
const char *progress_text(const struct progress *p,
			  const struct dm_chain_job *job, char *buf, size_t len);
/** progress_bar() - "[####....]", @width characters between the brackets */
const char *progress_bar(const struct dm_chain_job *job, unsigned int width,
			 char *buf, size_t len);

/* job-meter.c */

/**
 * struct meter - progress as it is shown: a bar on a terminal, else lines
 * @p: how fast it goes
 * @line_ms: when the next line is due
 * @bar: there is one on the terminal
 */
struct meter {
	struct progress p;
	uint64_t line_ms;
	bool bar;
};

/** meter_show() - one more look; @what: is done to the disk */
void meter_show(struct meter *m, const char *disk, const char *what,
		const struct dm_chain_job *job);
/** meter_clear() - other text comes now */
void meter_clear(struct meter *m);

/* job-wait.c */

#define JOB_TIMED_OUT 1

/**
 * struct job_waiting - for what, and how
 * @id: of the job
 * @until_ready: or is ready
 * @show: progress: bar on a terminal, else lines
 * @cancel: an interrupt cancels it
 * @timeout_ms: 0: none
 * @job: set to what it is then
 */
struct job_waiting {
	uint64_t id;
	bool until_ready;
	bool show;
	bool cancel;
	uint64_t timeout_ms;
	struct dm_chain_job job;
};

/** job_signals() - from here on an interrupt only sets a flag; a second one is
 * obeyed */
void job_signals(void);
/** job_interrupted() - it is set */
bool job_interrupted(void);
/** job_now_ms() - monotonic */
uint64_t job_now_ms(void);
/** job_wait() - until it has ended: 0, JOB_TIMED_OUT, or an exit code */
int job_wait(int ctl, struct job_waiting *w);

/* job-range.c */

/**
 * struct job_ask - what a job is asked to do
 * @name: of the disk
 * @op: DM_CHAIN_OP_STREAM or _COMMIT
 * @top: LAYER that takes in, or top of the range; NULL: index 0
 * @base: LAYER; NULL: by rule
 * @record: go on with what this job left, wherever that is; or NULL
 * @speed: bytes a second, 0: no limit
 * @on_error: DM_CHAIN_ON_ERROR_*
 * @force: children are lost, space may run out
 * @background: don't wait
 * @dry_run: only tell what there is to do
 * @no_pivot: an active commit is left ready
 * @cancel: end it at once: drops the record of a stream
 * @quiet: don't say that it has started
 */
struct job_ask {
	const char *name;
	uint32_t op;
	const char *top;
	const char *base;
	const struct chain_id *record;
	uint64_t speed;
	uint32_t on_error;
	bool force;
	bool background;
	bool dry_run;
	bool no_pivot;
	bool cancel;
	bool quiet;
};

/**
 * job_range() - which layers are meant
 * @ask: what the user wants
 * @layers: of disk_layers()
 * @nr: how many layers
 * @top: set to an index
 * @base: stream: @nr if nothing is kept
 */
int job_range(const struct job_ask *ask, const struct dm_chain_layer *layers,
	      unsigned int nr, unsigned int *top, unsigned int *base);

/* job-space.c */

/**
 * struct job_space - what a job needs
 * @move: bytes of data to be copied
 * @zero: bytes that become zeroes
 * @fresh: bytes for which the layer that takes them in has no data yet
 * @need: how large its device must be
 * @has: how large it is
 * @device: it is no file: what is free there is not known
 * @free: bytes free where it lies
 * @missing: of these
 */
struct job_space {
	uint64_t move;
	uint64_t zero;
	uint64_t fresh;
	uint64_t need;
	uint64_t has;
	bool device;
	uint64_t free;
	uint64_t missing;
};

/**
 * job_space_look() - is there room for a job
 * @s: filled in
 * @est: answer to DM_CHAIN_JOB_ESTIMATE
 * @into: layer that takes the data in
 * @range: those that give space back meanwhile
 * @nr: of these; 0: none does
 */
void job_space_look(struct job_space *s, const struct dm_chain_job_start *est,
		    const struct dm_chain_layer *into,
		    const struct dm_chain_layer *range, unsigned int nr);
/** job_space_check() - refuse what can't fit; @force: but for a device that is
 * too small */
int job_space_check(const struct job_space *s, const char *name,
		    const struct dm_chain_layer *into, bool force);
void job_space_show(const struct job_space *s, const char *name);

/* job-run.c */

/**
 * job_run() - start a job, and unless it is for the background, see it through
 * @ask: what the user wants
 *
 * Return: a negative exit code, or 0.
 */
int job_run(const struct job_ask *ask);

/* layer-move.c */

/**
 * struct move_ask - a lower layer is to lie elsewhere
 * @name: of the disk
 * @layer: LAYER
 * @arg: the place, as the user named it: path or descriptor
 * @format: what the user takes the layer for; 0: didn't say
 * @existing: a copy of it, or one that was cut off, is there
 * @verify: compare both before the disk goes on there
 * @speed: bytes a second, 0: no limit
 */
struct move_ask {
	const char *name;
	const char *layer;
	const char *arg;
	uint32_t format;
	bool existing;
	bool verify;
	uint64_t speed;
};

/** layer_move() - copy it, and let the disk go on with the copy */
int layer_move(const struct move_ask *ask);
/**
 * layer_move_recover() - the disk may use the copy, and its header not say so
 * @name: of the disk, for who has its lock
 * @note: of the move that was cut off
 */
int layer_move_recover(const char *name, struct json_object *note);

/* cmd-mirror.c */

/** mirror_resume() - go on with a mirror that was cut off, as its record says */
int mirror_resume(const char *name, bool background, bool quiet);
/** mirror_forget() - drop that record */
int mirror_forget(const char *name);

/* job-end.c */

/** job_finish() - a job of a disk has ended: let its devices go; waits for the
 * disk's lock */
int job_finish(const char *name);
/** job_pivot() - 0: the disk has moved on; 1: not ready */
int job_pivot(int ctl, const char *name, uint64_t *pause_ns);
/** job_pivot_tidy() - let what was left go; if that fails, the pivot hasn't: it warns */
void job_pivot_tidy(struct disk_lock *l);

/* pivot-set.c */

/**
 * pivot_several() - the disks of mirrors move on at one instant, all or none
 * @ctl: control device
 * @jobs: mirrors, as the user named them
 * @nr: at least 2
 * @pause_ns: set for each
 *
 * Return: 0; 1: one is not ready; or a negative exit code.
 */
int pivot_several(int ctl, const struct job_entry *const *jobs, unsigned int nr,
		  uint64_t *pause_ns);
/** job_ended() - how it ended: 0, or its line and exit code */
int job_ended(const struct dm_chain_job *job);
/**
 * job_follow() - wait for the end of a job, pivot if need be, clean up
 * @ctl: control device
 * @id: of the job
 * @no_pivot: leave an active commit ready
 */
int job_follow(int ctl, uint64_t id, bool no_pivot);

#endif
