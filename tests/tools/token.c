// SPDX-License-Identifier: GPL-2.0-or-later
// sources: tests/tools/common.c kmod/dm-chain-perm.c
/*
 * Tokens of /dev/dm-chain: holds one while a command runs, compares all answers
 * of the kernel with the matrix, and lets processes that are killed at any
 * moment fight for them.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/dm-chain.h>
#include "dm-chain-perm.h"
#include "common.h"

#define MAX_LAYERS	16
#define MAX_ASKED	512
#define MAX_HOLDERS	4096

/* An operation on a disk, and the rows that it needs. */
struct asked {
	u32 op, top, base;
	u32 rows[MAX_LAYERS];
};

static int ctl;
static dev_t disk;
static u32 layers;
static u32 faults;

#define wrong(...) (faults++, bad(__VA_ARGS__))

static void usage(void)
{
	fprintf(stderr,
"usage: token DISK hold OPERATION TOP BASE [COMMAND...]\n"
"       token DISK events OPERATION TOP BASE COMMAND...\n"
"       token DISK pairs [SHARED]    SHARED: first layer that another disk has, too\n"
"       token DISK storm COUNT PROCESSES\n"
"       token DISK fuzz COUNT\n"
"       token DISK start OPERATION TOP BASE    its job\n"
"       token DISK resize BYTES | snapshot     as the table is, by nothing but the call\n");
	exit(EX_USE);
}

static int ask(const struct asked *a, u32 flags, struct dm_chain_acquire *arg)
{
	memset(arg, 0, sizeof(*arg));
	arg->major = major(disk);
	arg->minor = minor(disk);
	arg->op = a->op;
	arg->top = a->top;
	arg->base = a->base;
	arg->flags = flags;
	return ioctl(ctl, DM_CHAIN_IOC_ACQUIRE, arg) ? -errno : 0;
}

static u32 holders(struct dm_chain_holder *list, bool all)
{
	struct dm_chain_holders arg = {
		.major = all ? 0 : major(disk), .minor = all ? 0 : minor(disk),
		.nr = MAX_HOLDERS, .holder_size = sizeof(*list),
		.holders = (uintptr_t)list,
	};

	if (ioctl(ctl, DM_CHAIN_IOC_HOLDERS, &arg))
		die("holders: %s", strerror(errno));
	if (arg.nr > MAX_HOLDERS)
		die("%u holders", arg.nr);
	return arg.nr;
}

static const char *row_text(u32 row)
{
	static char text[4][64];
	static unsigned int next;
	const struct chain_perm_rule *r = chain_perm_rule(row);
	char *out = text[next++ % 4];

	snprintf(out, sizeof(text[0]), "%s %s", r ? chain_perm_op_name(r->op) : "no",
		 r ? r->role : "row");
	return out;
}

static void print_conflict(const struct dm_chain_conflict *c)
{
	printf("layer %u (%s) of disk %s: %s holds it as %s; %s is %s\n", c->depth,
	       row_text(c->row), c->holder.disk,
	       c->holder.id ? "a token" : "a table", row_text(c->holder.row),
	       chain_perm_name(c->perm) ?: "nothing",
	       c->direction == DM_CHAIN_CONFLICT_WANTED ? "not allowed" : "required");
}

/* --- hold, events --- */

static struct asked parse(char **argv)
{
	struct asked a = { .op = chain_perm_op(argv[0]),
			   .top = parse_num(argv[1]), .base = parse_num(argv[2]) };

	if (a.op == DM_CHAIN_OP_NONE)
		die("no such operation: %s", argv[0]);
	return a;
}

static int run(char **argv)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		execvp(argv[0], argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		die("%s: %s", argv[0], strerror(errno));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void print_events(int fd)
{
	static const char * const names[] = {
		[DM_CHAIN_EVENT_ACQUIRED] = "acquired",
		[DM_CHAIN_EVENT_UPGRADED] = "upgraded",
		[DM_CHAIN_EVENT_DOWNGRADED] = "downgraded",
		[DM_CHAIN_EVENT_DISK_GONE] = "disk-gone",
		[DM_CHAIN_EVENT_LOST] = "lost",
	};
	struct dm_chain_event e;
	struct pollfd p = { .fd = fd, .events = POLLIN };

	while (poll(&p, 1, 0) == 1 && read(fd, &e, sizeof(e)) == sizeof(e))
		printf("%llu %s %u\n", (unsigned long long)e.seq,
		       e.type < ARRAY_SIZE(names) ? names[e.type] : "?", e.depth);
	if (fcntl(fd, F_SETFL, O_NONBLOCK) || read(fd, &e, sizeof(e)) >= 0 || errno != EAGAIN)
		die("a read without events: %s", strerror(errno));
	if (read(fd, &e, sizeof(e) - 1) >= 0 || errno != EINVAL)
		die("a read without room: %s", strerror(errno));
}

static int hold(char **argv, bool events)
{
	struct asked a = parse(argv);
	struct dm_chain_acquire arg;
	int r = ask(&a, 0, &arg), status = 0;

	if (r == -EBUSY && arg.conflict.perm) {
		print_conflict(&arg.conflict);
		return 3;
	}
	if (r) {
		fprintf(stderr, "acquire: %s\n", strerror(-r));
		return 1;
	}
	if (argv[3])
		status = run(argv + 3);
	if (events)
		print_events(arg.fd);
	close(arg.fd);
	return status;
}

/* --- Calls as a script would make them --- */

static int said(const char *what, int r)
{
	if (!r)
		return EX_OK;
	fprintf(stderr, "%s: %s\n", what, strerrorname_np(errno));
	return EX_BAD;
}

static int start(char **argv)
{
	struct dm_chain_acquire arg;
	struct dm_chain_job_start js = { 0 };
	struct asked a = parse(argv);
	int r = ask(&a, 0, &arg);

	errno = -r;
	if (r)
		return said("acquire", r);
	js.token = arg.fd;
	return said("start", ioctl(ctl, DM_CHAIN_IOC_JOB_START, &js));
}

static int resize(u64 bytes)
{
	struct dm_chain_resize rs = {
		.major = major(disk), .minor = minor(disk), .size = bytes,
	};

	return said("resize", ioctl(ctl, DM_CHAIN_IOC_RESIZE, &rs));
}

static int snapshot(void)
{
	struct dm_chain_switch_disk d = {
		.major = major(disk), .minor = minor(disk),
	};
	struct dm_chain_switch sw = {
		.op = DM_CHAIN_SWITCH_SNAPSHOT, .nr_disks = 1, .disks = (uintptr_t)&d,
	};

	return said("snapshot", ioctl(ctl, DM_CHAIN_IOC_SWITCH, &sw));
}

/* --- all pairs --- */

/* Each operation at each place of the disk that it has. */
static u32 all_asked(struct asked *list)
{
	struct asked a;
	u32 n = 0;

	for (a.op = DM_CHAIN_OP_SNAPSHOT; a.op < DM_CHAIN_OP_NR; a.op++)
		for (a.top = 0; a.top < layers; a.top++)
			for (a.base = 0; a.base <= layers; a.base++) {
				bool range = a.op == DM_CHAIN_OP_STREAM ||
					     a.op == DM_CHAIN_OP_COMMIT;

				/* The same by another name */
				if ((!range && a.base) || n == MAX_ASKED ||
				    chain_perm_plan(a.op, a.top, a.base, layers, a.rows))
					continue;
				list[n++] = a;
			}
	return n;
}

/* What the disk itself, or another one with the same lower layers, refuses. */
static bool tables_allow(const struct asked *a, u32 shared)
{
	u32 i, held;

	for (i = 0; i < layers; i++) {
		held = i ? DM_CHAIN_OPROLE_GUEST_LOWER : DM_CHAIN_OPROLE_GUEST_ACTIVE;
		if (i && chain_perm_through(a->rows[i]))
			held = DM_CHAIN_OPROLE_GUEST_THROUGH;
		if (chain_perm_clashes(chain_perm_rows_conflict(held, a->rows[i])))
			return false;
		if (i >= shared && chain_perm_clashes(chain_perm_rows_conflict(
				DM_CHAIN_OPROLE_GUEST_LOWER, a->rows[i])))
			return false;
	}
	return true;
}

static bool go_together(const struct asked *a, const struct asked *b)
{
	u32 i;

	for (i = 0; i < layers; i++)
		if (chain_perm_clashes(chain_perm_rows_conflict(a->rows[i], b->rows[i])))
			return false;
	return true;
}

/* A refusal has to be for the reason that it gives. */
static bool reason_holds(const struct asked *a, const struct dm_chain_acquire *arg)
{
	const struct dm_chain_conflict *c = &arg->conflict;
	struct chain_perm_clash clash;

	if (c->depth >= layers || c->row != a->rows[c->depth] || !c->holder.disk[0])
		return false;
	clash = chain_perm_rows_conflict(c->holder.row, c->row);
	return (c->direction == DM_CHAIN_CONFLICT_WANTED ? clash.wanted : clash.held) & c->perm;
}

static void expect(const struct asked *a, const struct asked *beside, bool yes)
{
	struct dm_chain_acquire arg;
	int r = ask(a, DM_CHAIN_ACQUIRE_TEST, &arg);

	if (r == (yes ? 0 : -EBUSY) && (yes || reason_holds(a, &arg)))
		return;
	wrong("%s %u %u beside %s %u %u: expected %s, saw %s", chain_perm_op_name(a->op),
	    a->top, a->base, beside ? chain_perm_op_name(beside->op) : "nothing",
	    beside ? beside->top : 0, beside ? beside->base : 0,
	    yes ? "yes" : "no", r ? strerror(-r) : "yes");
	if (r == -EBUSY)
		print_conflict(&arg.conflict);
}

static int pairs(u32 shared)
{
	static struct asked list[MAX_ASKED];
	u32 n = all_asked(list), i, j, together = 0, alone = 0;
	struct dm_chain_acquire arg;

	for (i = 0; i < n; i++) {
		expect(&list[i], NULL, tables_allow(&list[i], shared));
		if (!tables_allow(&list[i], shared))
			continue;
		alone++;
		if (ask(&list[i], 0, &arg))
			die("acquire: %s", strerror(errno));
		for (j = 0; j < n; j++) {
			bool yes = tables_allow(&list[j], shared) &&
				   go_together(&list[i], &list[j]);

			expect(&list[j], &list[i], yes);
			together += yes;
		}
		close(arg.fd);
	}
	printf("%u operations, %u possible, %u of %u pairs together\n", n, alone,
	       together, alone * n);
	return faults ? EX_BAD : EX_OK;
}

/* --- storm --- */

/* Whoever holds a layer at one moment may hold it together. */
static u32 check_holders(struct dm_chain_holder *list)
{
	u32 n = holders(list, true), i, j, tokens = 0;

	for (i = 0; i < n; i++) {
		tokens += !!list[i].id;
		for (j = 0; j < i; j++) {
			if (memcmp(list[i].uuid, list[j].uuid, 16) ||
			    list[i].major != list[j].major || list[i].minor != list[j].minor ||
			    (list[i].id && list[i].id == list[j].id))
				continue;
			if (chain_perm_clashes(chain_perm_rows_conflict(list[i].row, list[j].row)))
				wrong("%s beside %s on one layer", row_text(list[i].row),
				    row_text(list[j].row));
		}
	}
	return tokens;
}

static void fight(u64 seed, const struct asked *list, u32 n, u64 *granted)
{
	static struct dm_chain_holder seen[MAX_HOLDERS];
	struct dm_chain_acquire arg;
	struct rng rng;
	int held[8] = { 0 };

	rng_init(&rng, seed, getpid());
	for (;;) {
		const struct asked *a = &list[rnd_below(&rng, n)];
		int *slot = &held[rnd_below(&rng, ARRAY_SIZE(held))], r;

		if (*slot) {
			close(*slot);
			*slot = 0;
			continue;
		}
		r = ask(a, 0, &arg);
		if (!r) {
			*slot = arg.fd;
			__atomic_add_fetch(granted, 1, __ATOMIC_RELAXED);
		} else if (r != -EBUSY || !reason_holds(a, &arg)) {
			wrong("%s %u %u: %s", chain_perm_op_name(a->op), a->top, a->base,
			    strerror(-r));
		}
		if (rnd_chance(&rng, 2))
			check_holders(seen);
		if (faults)
			_exit(EX_BAD);
	}
}

static int storm(u64 count, u32 nr)
{
	static struct asked list[MAX_ASKED];
	static struct dm_chain_holder seen[MAX_HOLDERS];
	u32 n = all_asked(list), i, killed = 0;
	u64 *granted = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct rng rng;
	pid_t pids[64] = { 0 };
	int status;

	if (granted == MAP_FAILED || nr > ARRAY_SIZE(pids))
		die("storm: %s", strerror(errno));
	rng_init(&rng, count, 0);
	while (__atomic_load_n(granted, __ATOMIC_RELAXED) < count) {
		i = rnd_below(&rng, nr);
		if (pids[i]) {
			kill(pids[i], SIGKILL);
			waitpid(pids[i], &status, 0);
			if (WIFEXITED(status))
				die("a process ended by itself, status %d", WEXITSTATUS(status));
			killed++;
		}
		pids[i] = fork();
		if (!pids[i])
			fight(rnd(&rng), list, n, granted);
		sleep_ms(rnd_below(&rng, 30));
		check_holders(seen);
	}
	for (i = 0; i < nr; i++) {
		if (!pids[i])
			continue;
		kill(pids[i], SIGKILL);
		waitpid(pids[i], &status, 0);
	}
	if (check_holders(seen))
		wrong("tokens are left when nobody has one");
	printf("%llu tokens, %u processes killed\n", (unsigned long long)*granted, killed);
	return faults ? EX_BAD : EX_OK;
}

/* --- fuzz --- */

/* Each call with what it doesn't know: never more than an error. */
static int fuzz(u64 count)
{
	u8 buf[1024], room[4096];
	u64 i, errors[256] = { 0 };
	struct rng rng;
	size_t k;

	rng_init(&rng, count, 1);
	for (i = 0; i < count; i++) {
		unsigned int size = rnd_below(&rng, 600), nr = rnd_below(&rng, 12);
		u32 dev[2] = { major(disk), minor(disk) };
		u64 user = (uintptr_t)room;
		bool does;
		int r;

		memset(buf, 0, sizeof(buf));
		for (k = rnd_below(&rng, 12); k; k--)
			buf[rnd_below(&rng, size + 1)] = rnd(&rng) >> rnd_below(&rng, 8) * 8;
		/* A switch and a resize do what they are told: of no disk, here */
		does = nr == _IOC_NR(DM_CHAIN_IOC_SWITCH) || nr == _IOC_NR(DM_CHAIN_IOC_RESIZE);
		if (!does && rnd_chance(&rng, 60))
			memcpy(buf, dev, sizeof(dev));
		if (rnd_chance(&rng, 50))
			memcpy(buf + 8 * (1 + rnd_below(&rng, 3)), &user, 8);
		r = ioctl(ctl, _IOC(rnd_below(&rng, 20) ? 3 : rnd_below(&rng, 4),
				    DM_CHAIN_IOC_TYPE, nr, size), buf);
		errors[r ? errno & 255 : 0]++;
		for (k = 3; k < 32; k++)
			if (k != (size_t)ctl)
				close(k);
	}
	for (k = 0; k < ARRAY_SIZE(errors); k++)
		if (errors[k])
			printf("%s %llu\n", k ? strerrorname_np(k) : "ok",
			       (unsigned long long)errors[k]);
	return faults ? EX_BAD : EX_OK;
}

/* --- */

static void find_disk(const char *path)
{
	struct dm_chain_layers arg = { .layer_size = sizeof(struct dm_chain_layer) };
	struct stat st;

	if (stat(path, &st) || !S_ISBLK(st.st_mode))
		die("%s: no block device", path);
	disk = st.st_rdev;
	ctl = open("/dev/" DM_CHAIN_CONTROL, O_RDWR | O_CLOEXEC);
	if (ctl < 0)
		die("/dev/" DM_CHAIN_CONTROL ": %s", strerror(errno));
	arg.major = major(disk);
	arg.minor = minor(disk);
	if (ioctl(ctl, DM_CHAIN_IOC_LAYERS, &arg))
		die("layers: %s", strerror(errno));
	layers = arg.nr;
}

int main(int argc, char **argv)
{
	set_prog("token");
	if (argc < 3)
		usage();
	find_disk(argv[1]);
	if (!strcmp(argv[2], "hold") && argc >= 6)
		return hold(argv + 3, false);
	if (!strcmp(argv[2], "events") && argc >= 7)
		return hold(argv + 3, true);
	if (!strcmp(argv[2], "fuzz") && argc == 4)
		return fuzz(parse_num(argv[3]));
	if (!strcmp(argv[2], "start") && argc == 6)
		return start(argv + 3);
	if (!strcmp(argv[2], "resize") && argc == 4)
		return resize(parse_num(argv[3]));
	if (!strcmp(argv[2], "snapshot") && argc == 3)
		return snapshot();
	if (layers > MAX_LAYERS)
		die("%u layers are too many", layers);
	if (!strcmp(argv[2], "pairs") && argc <= 4)
		return pairs(argc == 4 ? parse_num(argv[3]) : layers);
	if (!strcmp(argv[2], "storm") && argc == 5)
		return storm(parse_num(argv[3]), parse_num(argv[4]));
	usage();
}
