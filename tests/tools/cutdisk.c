// SPDX-License-Identifier: GPL-2.0-or-later
// libs: -lpthread
// sources: tests/tools/common.c tests/tools/lib/cutlog.c tests/tools/lib/dmmark.c
/*
 * Disks with volatile caches, whose power is cut at one instant.
 *
 *	cutdisk serve SOCKET DIR N	/dev/nbd0 and so on hold what DIR/0 and so on do
 *	cutdisk tell SOCKET begin LOG	log from now on, requests count from 1; what they
 *					are is known when the power is cut: replay
 *	cutdisk tell SOCKET mark TEXT	(--mark-dev SOCKET of crashwrite does that)
 *	cutdisk tell SOCKET slow N MS	from now on each change of disk N takes so long
 *	cutdisk tell SOCKET die N	the N-th request and all behind it fail: no power
 *	cutdisk tell SOCKET end		no log any more, there is power; stop: no disks
 *	cutdisk list LOG [marks]
 *	cutdisk make LOG		of lines like those of list; writes have the text
 *	cutdisk replay LOG --cut N [...]	see usage()
 *
 * All requests of all disks are done one after the other. Those that have come while
 * another one was done are in flight together, and a flush covers none of them: so
 * flushes go first.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/nbd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common.h"
#include "lib/cutlog.h"
#include "lib/dmmark.h"

/* Headers of Linux 6.1 don't know it */
#define CMD_WRITE_ZEROES	6
#define FLAG_SEND_WRITE_ZEROES	(1 << 6)
#define FLAGS	(NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | \
		 NBD_FLAG_SEND_TRIM | FLAG_SEND_WRITE_ZEROES)
#define IN_FLIGHT	32

struct request {
	struct nbd_request nbd;		/* as it came */
	u32 type;
	bool fua;
	u64 off, len;
	u8 *data;
};

struct disk {
	unsigned int no;
	int nbd, file, kernel, sock;
	u64 size;
	atomic_uint slow_ms;
	pthread_t server, device;
};

static struct {
	struct disk disk[CUT_MAX_DISKS];
	unsigned int nr;
	pthread_mutex_t lock;
	FILE *log;
	u64 number, die_at;
} cd = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* The wire */

static bool get(int fd, void *buf, size_t n)
{
	return recv(fd, buf, n, MSG_WAITALL) == (ssize_t)n;
}

static bool put(int fd, const void *buf, size_t n)
{
	const u8 *p = buf;

	while (n) {
		ssize_t did = send(fd, p, n, MSG_NOSIGNAL);

		if (did < 0 && errno == EINTR)
			continue;
		if (did <= 0)
			return false;
		p += did;
		n -= did;
	}
	return true;
}

static bool receive(struct disk *d, struct request *r)
{
	u32 type;

	if (!get(d->sock, &r->nbd, sizeof(r->nbd)) ||
	    r->nbd.magic != htonl(NBD_REQUEST_MAGIC))
		return false;
	type = ntohl(r->nbd.type);
	r->type = type & 0xffff;
	r->fua = type & NBD_CMD_FLAG_FUA;
	r->off = be64toh(r->nbd.from);
	r->len = ntohl(r->nbd.len);
	r->data = NULL;
	if (r->type == NBD_CMD_READ || r->type == NBD_CMD_WRITE)
		r->data = xalloc_aligned(r->len);
	return r->type != NBD_CMD_WRITE || get(d->sock, r->data, r->len);
}

static bool reply(struct disk *d, const struct request *r, int error)
{
	struct nbd_reply rep = {
		.magic = htonl(NBD_REPLY_MAGIC), .error = htonl(error),
	};

	memcpy(&rep.handle, &r->nbd.handle, sizeof(rep.handle));
	if (!put(d->sock, &rep, sizeof(rep)))
		return false;
	return error || r->type != NBD_CMD_READ || put(d->sock, r->data, r->len);
}

/* Requests */

static enum cut_kind kind_of(const struct request *r)
{
	switch (r->type) {
	case NBD_CMD_WRITE:
		return CUT_WRITE;
	case CMD_WRITE_ZEROES:
		return CUT_ZERO;
	case NBD_CMD_TRIM:
		return CUT_TRIM;
	default:
		return CUT_FLUSH;
	}
}

static int change(struct disk *d, const struct request *r)
{
	struct cut_rec rec = {
		.kind = kind_of(r), .disk = d->no, .number = cd.number + 1,
		.off = r->off, .len = r->len, .fua = r->fua,
	};

	if (cd.die_at && rec.number >= cd.die_at)
		return -EIO;
	cd.number++;
	if (cd.log)
		cut_append(cd.log, &rec, rec.kind == CUT_WRITE ? r->data : NULL);
	if (rec.kind == CUT_FLUSH)
		return 0;
	return cut_apply(d->file, &rec, r->data, r->off, r->len);
}

static bool is_dead(void)
{
	return cd.die_at && cd.number + 1 >= cd.die_at;
}

static int execute(struct disk *d, const struct request *r)
{
	int error;

	if (r->off > d->size || r->len > d->size - r->off)
		return -EINVAL;
	if (r->type != NBD_CMD_READ && d->slow_ms)
		usleep(d->slow_ms * 1000);
	pthread_mutex_lock(&cd.lock);
	if (r->type != NBD_CMD_READ)
		error = change(d, r);
	else if (is_dead())
		error = -EIO;
	else
		error = full_pread(d->file, r->data, r->len, r->off);
	pthread_mutex_unlock(&cd.lock);
	return error;
}

/* Flushes, or all others, of those that are in flight. */
static bool execute_some(struct disk *d, struct request *r, unsigned int n, bool flushes)
{
	for (; n--; r++) {
		if ((r->type == NBD_CMD_FLUSH) != flushes)
			continue;
		if (r->type == NBD_CMD_DISC || !reply(d, r, -execute(d, r)))
			return false;
		free(r->data);
	}
	return true;
}

static bool more(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void *serve_disk(void *arg)
{
	struct request r[IN_FLIGHT];
	struct disk *d = arg;
	unsigned int n;

	do {
		for (n = 0; n < IN_FLIGHT && (!n || more(d->sock)); n++)
			if (!receive(d, &r[n]))
				goto out;
	} while (execute_some(d, r, n, true) && execute_some(d, r, n, false));
out:
	shutdown(d->sock, SHUT_RDWR);
	return NULL;
}

/* Devices */

static void *run_device(void *arg)
{
	struct disk *d = arg;

	ioctl(d->nbd, NBD_DO_IT);
	ioctl(d->nbd, NBD_CLEAR_SOCK);
	return NULL;
}

static void nbd_set(const struct disk *d, unsigned long what, unsigned long value)
{
	if (ioctl(d->nbd, what, value))
		die("/dev/nbd%u: ioctl %lx: %s", d->no, what, strerror(errno));
}

static void open_files(struct disk *d, const char *dir)
{
	char path[4096];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%u", dir, d->no);
	d->file = open(path, O_RDWR | O_CLOEXEC);
	if (d->file < 0 || fstat(d->file, &st))
		die("%s: %s", path, strerror(errno));
	d->size = st.st_size;
	snprintf(path, sizeof(path), "/dev/nbd%u", d->no);
	d->nbd = open(path, O_RDWR | O_CLOEXEC);
	if (d->nbd < 0)
		die("%s: %s", path, strerror(errno));
}

static void start_disk(struct disk *d, const char *dir)
{
	int fds[2];

	open_files(d, dir);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		die("socketpair: %s", strerror(errno));
	d->kernel = fds[0];
	d->sock = fds[1];
	nbd_set(d, NBD_SET_BLKSIZE, SECTOR);
	nbd_set(d, NBD_SET_SIZE_BLOCKS, d->size / SECTOR);
	nbd_set(d, NBD_SET_FLAGS, FLAGS);
	nbd_set(d, NBD_SET_SOCK, d->kernel);
	if (pthread_create(&d->server, NULL, serve_disk, d) ||
	    pthread_create(&d->device, NULL, run_device, d))
		die("cannot start a thread");
}

static void stop_disk(struct disk *d)
{
	ioctl(d->nbd, NBD_DISCONNECT);
	pthread_join(d->server, NULL);
	pthread_join(d->device, NULL);
}

/* What others have put into DIR behind our back must be seen. */
static void forget_pages(void)
{
	unsigned int i;

	for (i = 0; i < cd.nr; i++)
		ioctl(cd.disk[i].nbd, BLKFLSBUF);
}

/* Control */

static void end_log(void)
{
	if (cd.log)
		fclose(cd.log);
	cd.log = NULL;
	cd.die_at = 0;
}

static bool begin_log(const char *path)
{
	end_log();
	cd.log = fopen(path, "we");
	cd.number = 0;
	return cd.log;
}

static bool add_mark(const char *text)
{
	struct cut_rec rec = {
		.kind = CUT_MARK, .number = cd.number, .len = strlen(text) + 1,
	};

	if (cd.log && !is_dead())
		cut_append(cd.log, &rec, text);
	return cd.log;
}

static bool set_slow(const char *arg)
{
	unsigned int no, ms;

	if (sscanf(arg, "%u %u", &no, &ms) != 2 || no >= cd.nr)
		return false;
	cd.disk[no].slow_ms = ms;
	return true;
}

/* Returns if it was understood. */
static bool command(const char *line)
{
	const char *arg = strchr(line, ' ');

	if (!strncmp(line, "begin ", 6))
		return begin_log(arg + 1);
	if (!strncmp(line, "mark ", 5))
		return add_mark(arg + 1);
	if (!strncmp(line, "slow ", 5))
		return set_slow(arg + 1);
	if (!strncmp(line, "die ", 4))
		cd.die_at = parse_num(arg + 1);
	else if (!strcmp(line, "end"))
		end_log();
	else if (strcmp(line, "stop"))
		return false;
	return true;
}

/* One line comes, the number of requests goes. Returns if it was "stop". */
static bool talk(int fd)
{
	char line[4096] = "", answer[32];
	ssize_t n = recv(fd, line, sizeof(line) - 1, 0);
	bool understood;

	if (n <= 0)
		return false;
	if (!strncmp(line, "begin", 5) || !strcmp(line, "end"))
		forget_pages();
	pthread_mutex_lock(&cd.lock);
	understood = command(line);
	snprintf(answer, sizeof(answer), understood ? "%llu" : "?",
		 (unsigned long long)cd.number);
	pthread_mutex_unlock(&cd.lock);
	send(fd, answer, strlen(answer), MSG_NOSIGNAL);
	return !strcmp(line, "stop");
}

static int listen_at(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	unlink(path);
	if (fd < 0 || bind(fd, (void *)&un, sizeof(un)) || listen(fd, 16))
		die("%s: %s", path, strerror(errno));
	return fd;
}

static int cmd_serve(const char *path, const char *dir, const char *disks)
{
	bool stop = false;
	unsigned int i;
	int fd, peer;

	cd.nr = parse_num(disks);
	if (!cd.nr || cd.nr > CUT_MAX_DISKS)
		die("1 to %u disks", CUT_MAX_DISKS);
	for (i = 0; i < cd.nr; i++) {
		cd.disk[i].no = i;
		start_disk(&cd.disk[i], dir);
	}
	fd = listen_at(path);
	while (!stop) {
		peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		if (peer < 0)
			continue;
		stop = talk(peer);
		close(peer);
	}
	end_log();
	for (i = 0; i < cd.nr; i++)
		stop_disk(&cd.disk[i]);
	return EX_OK;
}

static int cmd_tell(const char *path, char **words)
{
	char line[4096];
	size_t n = 0;
	u64 number;
	int r;

	for (line[0] = 0; *words && n < sizeof(line); words++)
		n += snprintf(line + n, sizeof(line) - n, "%s%s", n ? " " : "", *words);
	r = cut_tell(path, line, &number);
	if (r)
		die("%s: '%s': %s", path, line, strerror(-r));
	printf("%llu\n", (unsigned long long)number);
	return EX_OK;
}

/* Logs */

static const char *const kinds[] = { "write", "zero", "trim", "flush", "mark" };

static int cmd_list(const char *path, bool marks)
{
	struct cut_log log;
	u64 i;

	cut_load(&log, path);
	for (i = 0; i < log.count; i++) {
		const struct cut_rec *r = &log.entries[i].r;

		if (r->kind == CUT_MARK)
			printf("%llu mark %s\n", (unsigned long long)r->number,
			       (const char *)log.entries[i].data);
		else if (!marks)
			printf("%llu disk=%u %s%s %llu+%llu\n",
			       (unsigned long long)r->number, r->disk, kinds[r->kind],
			       r->fua ? "+fua" : "", (unsigned long long)r->off,
			       (unsigned long long)r->len);
	}
	return EX_OK;
}

static enum cut_kind parse_kind(const char *s, u32 *fua)
{
	size_t n = strcspn(s, "+"), i;

	*fua = !strcmp(s + n, "+fua");
	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!strncmp(s, kinds[i], n) && !kinds[i][n])
			return i;
	die("no such request: %s", s);
}

/* "DISK KIND[+fua] OFFSET LENGTH TEXT"; data repeats the text's first letter. */
static int cmd_make(const char *path)
{
	char kind[16], text[64], line[256], *data;
	FILE *f = fopen(path, "we");
	u64 number = 0;

	if (!f)
		die("%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), stdin)) {
		struct cut_rec r = { 0 };

		if (sscanf(line, "%u %15s %" SCNu64 " %" SCNu64 " %63s", &r.disk, kind,
			   &r.off, &r.len, text) != 5)
			die("not understood: %s", line);
		r.kind = parse_kind(kind, &r.fua);
		if (r.kind == CUT_MARK)
			r.len = strlen(text) + 1;
		r.number = r.kind == CUT_MARK ? number : ++number;
		data = xzalloc(r.len);
		memset(data, text[0], r.len);
		cut_append(f, &r, r.kind == CUT_MARK ? text :
			   r.kind == CUT_WRITE ? data : NULL);
		free(data);
	}
	return fclose(f) ? EX_USE : EX_OK;
}

static const struct option options[] = {
	{ "cut", 1, NULL, 'c' }, { "keep", 1, NULL, 'k' }, { "seed", 1, NULL, 's' },
	{ "base", 1, NULL, 'b' }, { "to", 1, NULL, 't' }, { "disks", 1, NULL, 'd' },
	{ "lie", 1, NULL, 'l' },
	{ }
};

static void usage(void)
{
	fprintf(stderr,
"usage: cutdisk serve SOCKET DIR DISKS\n"
"       cutdisk tell SOCKET begin LOG|mark TEXT|slow DISK MS|die N|end|stop\n"
"       cutdisk list LOG [marks]\n"
"       cutdisk make LOG <LINES\n"
"       cutdisk replay LOG --cut N --base DIR --to DIR --disks K\n"
"               [--keep none|all|some|torn|disks] [--seed X] [--lie all|DISK]...\n"
"replay: the power goes behind request N (torn: in it). What is durable goes to the\n"
"images of --base, for later cuts, those as they are then to --to. mark= is the last\n"
"mark whose name is a number. --lie: flushes and FUA make nothing durable there\n");
	exit(EX_USE);
}

static enum cut_keep parse_keep(const char *s)
{
	static const char *const names[] = { "none", "all", "some", "torn", "disks" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(s, names[i]))
			return i;
	usage();
	return KEEP_NONE;
}

static void take_option(struct cut_args *a, int o)
{
	switch (o) {
	case 'c':
		a->cut = parse_num(optarg);
		break;
	case 'k':
		a->keep = parse_keep(optarg);
		break;
	case 's':
		a->seed = parse_num(optarg);
		break;
	case 'b':
		a->base = optarg;
		break;
	case 't':
		a->to = optarg;
		break;
	case 'd':
		a->disks = parse_num(optarg);
		break;
	case 'l':
		a->liars |= strcmp(optarg, "all") ? 1ULL << parse_num(optarg) : ~0ULL;
		break;
	default:
		usage();
	}
}

int main(int argc, char **argv)
{
	struct cut_args a = { 0 };
	int o;

	set_prog("cutdisk");
	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1)
		take_option(&a, o);
	argc -= optind;
	argv += optind;
	if (argc == 4 && !strcmp(argv[0], "serve"))
		return cmd_serve(argv[1], argv[2], argv[3]);
	if (argc > 2 && !strcmp(argv[0], "tell"))
		return cmd_tell(argv[1], argv + 2);
	if (argc > 1 && !strcmp(argv[0], "list"))
		return cmd_list(argv[1], argc > 2);
	if (argc == 2 && !strcmp(argv[0], "make"))
		return cmd_make(argv[1]);
	a.log = argv[1];
	if (argc != 2 || strcmp(argv[0], "replay") || !a.base || !a.to || !a.disks ||
	    a.disks > CUT_MAX_DISKS)
		usage();
	return cut_replay(&a);
}
