// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite for the states of jobs: what a thread does with what its steps meet, with
 * verbs, a suspend and a disk that goes. The kind of job is made up here: it
 * moves nothing, its steps return what the case says. Steps that move something
 * are not among them, for then a job looks at the disk's counters; nor is the end,
 * which gives a token back: the functional tests have both.
 */
#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/module.h>

#include "../dm-chain-job.h"

#define STEPS	8

struct fixture {
	struct chain_job job;		/* first: the callbacks get it */
	struct chain_disk disk;
	int step[STEPS];		/* what steps return; then 0 */
	int finish[STEPS];
	unsigned int steps, skips, finishes, settled, resumes;
	u32 at_finish;			/* status then */
	bool more;
	bool suspends;			/* a suspend begins during a step */
	unsigned int steps_then;	/* in a pivot */
	u32 at_pivot;
	int cancel_then;
	struct completion done;
	int result;
};

static struct fixture *of(struct chain_job *job)
{
	return container_of(job, struct fixture, job);
}

static int fake_prepare(struct chain_job *job)
{
	return 0;
}

static int fake_step(struct chain_job *job)
{
	struct fixture *f = of(job);
	unsigned int i = f->steps++;

	WRITE_ONCE(f->more, false);
	if (f->suspends)
		WRITE_ONCE(f->disk.jobs_stop, true);
	return i < STEPS ? f->step[i] : 0;
}

static void fake_skip(struct chain_job *job)
{
	of(job)->skips++;
}

static void fake_resumed(struct chain_job *job)
{
	of(job)->resumes++;
}

static int fake_finish(struct chain_job *job)
{
	struct fixture *f = of(job);
	unsigned int i = f->finishes++;

	f->at_finish = job->status;
	return i < STEPS ? f->finish[i] : 0;
}

static int fake_settle(struct chain_job *job)
{
	of(job)->settled++;
	return 0;
}

static bool fake_more(struct chain_job *job)
{
	return READ_ONCE(of(job)->more);
}

/* For longer than a job sleeps: it has something to move, and is told to end. */
static int fake_pivot(struct chain_member *m, unsigned int nr)
{
	struct dm_chain_job_verb v = { .verb = DM_CHAIN_VERB_CANCEL };
	struct fixture *f = of(m->job);

	WRITE_ONCE(f->more, true);
	wake_up_all(&f->job.wait);
	msleep(1500);
	f->cancel_then = chain_job_apply(&f->job, &v);
	msleep(100);
	f->steps_then = f->steps;
	f->at_pivot = f->job.status;
	return READ_ONCE(f->more) ? -EAGAIN : 0;
}

static const struct chain_job_ops fake_ops = {
	.prepare = fake_prepare,
	.step = fake_step,
	.skip = fake_skip,
	.resumed = fake_resumed,
	.finish = fake_finish,
	.settle = fake_settle,
	.more = fake_more,
	.pivot = fake_pivot,
};

static struct fixture *make(struct kunit *test, u32 type, u32 on_error)
{
	struct fixture *f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, f);
	spin_lock_init(&f->disk.jobs_lock);
	init_waitqueue_head(&f->disk.jobs_wait);
	spin_lock_init(&f->job.lock);
	init_waitqueue_head(&f->job.wait);
	init_completion(&f->done);
	f->job.ops = &fake_ops;
	f->job.disk = &f->disk;
	f->job.type = type;
	f->job.on_error = on_error;
	f->job.status = DM_CHAIN_JOB_CREATED;
	return f;
}

static int thread(void *arg)
{
	struct fixture *f = arg;

	f->result = chain_job_run(&f->job);
	complete(&f->done);
	return 0;
}

static void begin(struct kunit *test, struct fixture *f)
{
	struct task_struct *task = kthread_run(thread, f, "job_kunit");

	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
}

static void reaches(struct kunit *test, struct fixture *f, u32 status)
{
	unsigned int i;

	for (i = 0; i < 500 && READ_ONCE(f->job.status) != status; i++)
		msleep(20);
	KUNIT_EXPECT_EQ(test, f->job.status, status);
}

/* A thread that goes on would use what the case has left: no case ends before. */
static void ends(struct kunit *test, struct fixture *f, int result)
{
	if (!wait_for_completion_timeout(&f->done, 10 * HZ)) {
		KUNIT_FAIL(test, "no end, status %u", f->job.status);
		WRITE_ONCE(f->job.dying, true);
		wake_up_all(&f->job.wait);
		wake_up_all(&f->disk.jobs_wait);
		wait_for_completion(&f->done);
	}
	KUNIT_EXPECT_EQ(test, f->result, result);
}

static int verb(struct fixture *f, u32 what, u64 arg)
{
	struct dm_chain_job_verb v = { .verb = what, .arg = arg };

	return chain_job_apply(&f->job, &v);
}

/* A lock or memory that is not to be had, and somebody who loads a table */
static void job_tries_again(struct kunit *test)
{
	struct fixture *f = make(test, DM_CHAIN_JOB_STREAM, DM_CHAIN_ON_ERROR_REPORT);

	f->step[0] = -EAGAIN;
	f->step[1] = -ENOMEM;
	f->finish[0] = -EBUSY;
	f->finish[1] = -EBUSY;
	begin(test, f);
	ends(test, f, 0);
	KUNIT_EXPECT_EQ(test, f->steps, 3);
	KUNIT_EXPECT_EQ(test, f->finishes, 3);
	KUNIT_EXPECT_EQ(test, f->at_finish, DM_CHAIN_JOB_PENDING);
	KUNIT_EXPECT_EQ(test, f->job.errors, 0);
}

enum what { ENDS, SKIPS, PAUSES };

static const struct {
	u32 policy;
	int error;
	bool fatal;
	enum what what;
} policies[] = {
	{ DM_CHAIN_ON_ERROR_REPORT, -EIO, false, ENDS },
	{ DM_CHAIN_ON_ERROR_REPORT, -ENOSPC, false, ENDS },
	{ DM_CHAIN_ON_ERROR_IGNORE, -EIO, false, SKIPS },
	{ DM_CHAIN_ON_ERROR_IGNORE, -ENOSPC, false, SKIPS },
	{ DM_CHAIN_ON_ERROR_STOP, -EIO, false, PAUSES },
	{ DM_CHAIN_ON_ERROR_STOP, -ENOSPC, false, PAUSES },
	{ DM_CHAIN_ON_ERROR_ENOSPC, -EIO, false, ENDS },
	{ DM_CHAIN_ON_ERROR_ENOSPC, -ENOSPC, false, PAUSES },
	{ DM_CHAIN_ON_ERROR_IGNORE, -EIO, true, ENDS },
	{ DM_CHAIN_ON_ERROR_STOP, -EIO, true, ENDS },
	{ DM_CHAIN_ON_ERROR_ENOSPC, -ENOSPC, true, ENDS },
};

static void check_policy(struct kunit *test, u32 type, unsigned int i)
{
	bool paused = policies[i].what == PAUSES, mirror = type == DM_CHAIN_JOB_MIRROR;
	struct fixture *f = make(test, type, policies[i].policy);
	int error = policies[i].error;

	f->step[0] = error;
	f->job.fatal = policies[i].fatal;
	begin(test, f);
	if (paused) {
		reaches(test, f, DM_CHAIN_JOB_PAUSED);
		KUNIT_EXPECT_EQ(test, f->job.error, error);
		KUNIT_EXPECT_EQ(test, f->job.flags, DM_CHAIN_JOB_F_ERROR);
		KUNIT_EXPECT_EQ(test, verb(f, DM_CHAIN_VERB_RESUME, 0), 0);
		if (mirror) {
			reaches(test, f, DM_CHAIN_JOB_READY);
			verb(f, DM_CHAIN_VERB_CANCEL, 0);
		}
	}
	/* What was left out is never finished, nor ready. */
	ends(test, f, !paused ? error : mirror ? -ECANCELED : 0);
	KUNIT_EXPECT_EQ(test, f->job.errors, 1);
	KUNIT_EXPECT_EQ(test, f->skips, policies[i].what == SKIPS);
	KUNIT_EXPECT_EQ(test, f->resumes, paused);
	KUNIT_EXPECT_EQ(test, f->steps, policies[i].what == ENDS ? 1 : 2);
	KUNIT_EXPECT_EQ(test, f->finishes, paused && !mirror);
	KUNIT_EXPECT_EQ(test, f->settled, paused && mirror);
}

static void job_policies(struct kunit *test)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(policies); i++) {
		check_policy(test, DM_CHAIN_JOB_COMMIT, i);
		check_policy(test, DM_CHAIN_JOB_MIRROR, i);
	}
}

/* Ready, then there is something to move again; then the disk moves on. */
static void job_ready(struct kunit *test)
{
	struct fixture *f = make(test, DM_CHAIN_JOB_ACTIVE_COMMIT, DM_CHAIN_ON_ERROR_REPORT);

	begin(test, f);
	reaches(test, f, DM_CHAIN_JOB_READY);
	WRITE_ONCE(f->more, true);
	wake_up_all(&f->job.wait);
	for (unsigned int i = 0; i < 500 && READ_ONCE(f->settled) < 2; i++)
		msleep(20);
	reaches(test, f, DM_CHAIN_JOB_READY);
	KUNIT_EXPECT_EQ(test, f->steps, 2);
	KUNIT_EXPECT_FALSE(test, completion_done(&f->done));
	WRITE_ONCE(f->job.pivoted, true);
	wake_up_all(&f->job.wait);
	ends(test, f, 0);
	KUNIT_EXPECT_EQ(test, f->finishes, 0);
}

/*
 * What comes while a pivot has it has to wait: a job that went on would hide from
 * the pivot that there is something to move, and one that ended would wait for it.
 */
static void job_pivot_keeps(struct kunit *test)
{
	struct fixture *f = make(test, DM_CHAIN_JOB_ACTIVE_COMMIT, DM_CHAIN_ON_ERROR_REPORT);
	struct chain_inst ci = { .disk = &f->disk };
	struct chain_member m = { .ci = &ci };

	INIT_LIST_HEAD(&f->disk.jobs);
	list_add(&f->job.on_disk, &f->disk.jobs);
	refcount_set(&f->job.ref, 1);
	f->job.installed = true;
	KUNIT_EXPECT_EQ(test, chain_jobs_pivot(&m, 1), -EAGAIN);
	KUNIT_EXPECT_NULL(test, m.job);
	begin(test, f);
	reaches(test, f, DM_CHAIN_JOB_READY);
	KUNIT_EXPECT_EQ(test, chain_jobs_pivot(&m, 1), -EAGAIN);
	KUNIT_EXPECT_EQ(test, f->steps_then, 1);
	KUNIT_EXPECT_EQ(test, f->at_pivot, DM_CHAIN_JOB_PENDING);
	KUNIT_EXPECT_EQ(test, f->cancel_then, -EBUSY);
	/* Now it moves that, and is ready again. */
	for (unsigned int i = 0; i < 500 && READ_ONCE(f->settled) < 2; i++)
		msleep(20);
	reaches(test, f, DM_CHAIN_JOB_READY);
	KUNIT_EXPECT_EQ(test, f->steps, 2);
	KUNIT_EXPECT_EQ(test, verb(f, DM_CHAIN_VERB_CANCEL, 0), 0);
	ends(test, f, -ECANCELED);
}

/* Its copy is whole if it was cancelled when nothing was left to move. */
static void job_cancelled_ready(struct kunit *test)
{
	struct fixture *f = make(test, DM_CHAIN_JOB_MIRROR, DM_CHAIN_ON_ERROR_REPORT);

	begin(test, f);
	reaches(test, f, DM_CHAIN_JOB_READY);
	KUNIT_EXPECT_EQ(test, verb(f, DM_CHAIN_VERB_CANCEL, 0), 0);
	ends(test, f, -ECANCELED);
	KUNIT_EXPECT_TRUE(test, f->job.ready);
}

static void job_paused(struct kunit *test)
{
	struct fixture *f = make(test, DM_CHAIN_JOB_STREAM, DM_CHAIN_ON_ERROR_REPORT);

	KUNIT_EXPECT_EQ(test, verb(f, DM_CHAIN_VERB_PAUSE, 0), 0);
	begin(test, f);
	reaches(test, f, DM_CHAIN_JOB_PAUSED);
	msleep(100);
	KUNIT_EXPECT_EQ(test, f->steps, 0);
	KUNIT_EXPECT_EQ(test, verb(f, DM_CHAIN_VERB_CANCEL, 0), 0);
	ends(test, f, -ECANCELED);
	KUNIT_EXPECT_EQ(test, f->steps, 0);
	KUNIT_EXPECT_EQ(test, f->finishes, 0);
}

/* The disk goes: at once, from each state in which a job waits. */
static void job_dies(struct kunit *test)
{
	static const u32 states[] = {
		DM_CHAIN_JOB_PAUSED, DM_CHAIN_JOB_READY, DM_CHAIN_JOB_RUNNING,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(states); i++) {
		struct fixture *f = make(test, DM_CHAIN_JOB_MIRROR, DM_CHAIN_ON_ERROR_REPORT);

		if (states[i] == DM_CHAIN_JOB_PAUSED)
			verb(f, DM_CHAIN_VERB_PAUSE, 0);
		if (states[i] == DM_CHAIN_JOB_RUNNING)
			chain_jobs_stop(&f->disk);	/* it waits to enter */
		begin(test, f);
		reaches(test, f, states[i]);
		WRITE_ONCE(f->job.dying, true);
		wake_up_all(&f->job.wait);
		wake_up_all(&f->disk.jobs_wait);
		ends(test, f, -ENODEV);
	}
}

/* A device that is offline says the same. */
static void job_device_offline(struct kunit *test)
{
	struct fixture *f = make(test, DM_CHAIN_JOB_MIRROR, DM_CHAIN_ON_ERROR_REPORT);

	f->disk.live = kunit_kzalloc(test, sizeof(*f->disk.live), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, f->disk.live);
	f->step[0] = -ENODEV;
	begin(test, f);
	ends(test, f, -EIO);
}

static void job_suspended(struct kunit *test)
{
	struct fixture *f = make(test, DM_CHAIN_JOB_STREAM, DM_CHAIN_ON_ERROR_REPORT);

	chain_jobs_stop(&f->disk);
	begin(test, f);
	reaches(test, f, DM_CHAIN_JOB_RUNNING);
	msleep(100);
	KUNIT_EXPECT_EQ(test, f->steps, 0);
	chain_jobs_go(&f->disk);
	ends(test, f, 0);
	KUNIT_EXPECT_EQ(test, f->steps, 1);
	KUNIT_EXPECT_EQ(test, f->disk.jobs_busy, 0);
}

/* Between an error that is ignored and what is left out for it nothing is forgotten. */
static void job_resumed_too_soon(struct kunit *test)
{
	struct fixture *f = make(test, DM_CHAIN_JOB_COMMIT, DM_CHAIN_ON_ERROR_IGNORE);
	unsigned int i;

	f->step[0] = -EIO;
	f->suspends = true;
	begin(test, f);
	for (i = 0; i < 500 && !READ_ONCE(f->job.errors); i++)
		msleep(20);
	KUNIT_EXPECT_EQ(test, verb(f, DM_CHAIN_VERB_RESUME, 0), 0);
	KUNIT_EXPECT_EQ(test, f->skips, 0);
	f->suspends = false;
	chain_jobs_go(&f->disk);
	ends(test, f, -EIO);
	KUNIT_EXPECT_EQ(test, f->skips, 1);
	KUNIT_EXPECT_EQ(test, f->finishes, 0);
}

static void job_verbs(struct kunit *test)
{
	struct fixture *f = make(test, DM_CHAIN_JOB_COMMIT, DM_CHAIN_ON_ERROR_STOP);

	KUNIT_EXPECT_EQ(test, verb(f, 99, 0), -EINVAL);
	KUNIT_EXPECT_EQ(test, f->job.flags, 0);
	f->job.due_ns = U64_MAX;
	KUNIT_EXPECT_EQ(test, verb(f, DM_CHAIN_VERB_SPEED, 4096), 0);
	KUNIT_EXPECT_EQ(test, f->job.speed, 4096);
	KUNIT_EXPECT_EQ(test, f->job.due_ns, 0);
	/* Of what was left out the error stays. */
	f->job.error = -EIO;
	f->job.skipped = true;
	KUNIT_EXPECT_EQ(test, verb(f, DM_CHAIN_VERB_RESUME, 0), 0);
	KUNIT_EXPECT_EQ(test, f->job.error, -EIO);
	/* Where there is no way back, and behind the end */
	f->job.status = DM_CHAIN_JOB_PENDING;
	KUNIT_EXPECT_EQ(test, verb(f, DM_CHAIN_VERB_CANCEL, 0), -EBUSY);
	KUNIT_EXPECT_FALSE(test, f->job.cancelled);
	f->job.status = DM_CHAIN_JOB_CONCLUDED;
	KUNIT_EXPECT_EQ(test, verb(f, DM_CHAIN_VERB_PAUSE, 0), -ESRCH);
	KUNIT_EXPECT_EQ(test, f->job.flags, 0);
}

static void job_speed(struct kunit *test)
{
	struct fixture *f = make(test, DM_CHAIN_JOB_STREAM, DM_CHAIN_ON_ERROR_REPORT);
	struct dm_chain_job out;
	u64 began = ktime_get_ns();

	f->job.speed = SZ_1M;
	f->job.total_bytes = SZ_64K;
	chain_job_done(&f->job, SZ_256K);
	chain_job_done(&f->job, SZ_256K);
	/* Half a second's work, of which a quarter may be made up for. */
	KUNIT_EXPECT_GE(test, f->job.due_ns, began + NSEC_PER_SEC / 4);
	KUNIT_EXPECT_LE(test, f->job.due_ns, ktime_get_ns() + NSEC_PER_SEC / 2);
	chain_job_fill(&f->job, &out);
	KUNIT_EXPECT_EQ(test, out.current_bytes, SZ_512K);
	/* Never more done than there is. */
	KUNIT_EXPECT_EQ(test, out.total_bytes, SZ_512K);
	begin(test, f);
	ends(test, f, 0);
	KUNIT_EXPECT_GE(test, ktime_get_ns() - began, NSEC_PER_SEC / 4);
}

static struct kunit_case job_cases[] = {
	KUNIT_CASE(job_tries_again),
	KUNIT_CASE(job_policies),
	KUNIT_CASE(job_ready),
	KUNIT_CASE(job_pivot_keeps),
	KUNIT_CASE(job_cancelled_ready),
	KUNIT_CASE(job_paused),
	KUNIT_CASE(job_dies),
	KUNIT_CASE(job_device_offline),
	KUNIT_CASE(job_suspended),
	KUNIT_CASE(job_resumed_too_soon),
	KUNIT_CASE(job_verbs),
	KUNIT_CASE(job_speed),
	{}
};

static struct kunit_suite job_suite = {
	.name = "dm_chain_job",
	.test_cases = job_cases,
};

kunit_test_suite(job_suite);

MODULE_DESCRIPTION("KUnit tests of the job states of dm-chain");
MODULE_LICENSE("GPL");
