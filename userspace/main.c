// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain: the controller of dm-chain. Finds the command, takes the options
 * that all commands have.
 */
#include "dmchain.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#ifndef DMCHAIN_VERSION
#define DMCHAIN_VERSION "0.1"
#endif

bool opt_json;
static bool opt_help;

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *args;
	const char *brief;
	const char *details;
};

#define JOB_POLICIES							\
	"  --speed RATE   bytes a second, for instance 100M (default: no limit)\n" \
	"  --on-error P   when a layer fails: report (default: the job ends), ignore (it goes\n" \
	"                 on and fails in the end), stop (it pauses), enospc (it pauses if\n" \
	"                 there is no room left, else it ends)\n"		\
	"  --background   print the job's number and don't wait\n"
#define JOB_OPTIONS							\
	JOB_POLICIES							\
	"  --dry-run      tell how much there is to do, and what is missing\n"
#define JOB_NOTES							\
	"LAYER: an index (0 is the top), a path or fd:N, a UUID or its start. An interrupt\n" \
	"cancels the job; what it has moved stays, and another goes on there.\n"

static const struct command commands[] = {
	{ "create", cmd_create,
	  "PATH --size SIZE [--backing PATH --backing-format raw|chain] [--block-size N] [--max-size N] [--force]",
	  "make a layer: a sparse file, or on a block device",
	  "  --size SIZE            virtual size; with --backing that of the parent if left out\n"
	  "  --backing PATH         the layer below, which is sealed by this\n"
	  "  --backing-format F     its format, never guessed\n"
	  "  --block-size N         4K (default) to 1M\n"
	  "  --max-size N           room for growing later (files: 16 times the size, at least\n"
	  "                         1T; devices: what fits)\n"
	  "  --force                the parent's in-use mark is known to be stale\n"
	  "A block device loses its contents.\n" },
	{ "open", cmd_open,
	  "NAME PATH [--format chain|raw] [--read-only] [--force] [--label-rw LABEL] [--label-ro LABEL]",
	  "activate the whole chain below PATH as /dev/mapper/NAME",
	  "  --format F     format of PATH (default: chain); nothing is ever probed\n"
	  "  --read-only    any layer of a chain can be opened so, also a sealed one\n"
	  "  --force        an in-use mark is known to be stale\n"
	  "  --label-rw L   owner, group and mode, SELinux context of the image file that the\n"
	  "                 disk writes: OWNER:GROUP:MODE[,selinux=CONTEXT] or selinux=CONTEXT;\n"
	  "                 an empty part stays as it is\n"
	  "  --label-ro L   the same for those that it reads\n"
	  "What the files had before comes back when they are closed.\n" },
	{ "close", cmd_close, "NAME", "deactivate a disk", "" },
	{ "list", cmd_list, "", "open disks", "" },
	{ "info", cmd_info, "NAME|PATH [--format chain|raw]",
	  "layers of an open disk, or of a closed image",
	  "  --format F     format of PATH (default: chain)\n" },
	{ "map", cmd_map, "NAME|PATH [--format chain|raw] [--picture FILE.svg | --draw]",
	  "which layer holds what, as qemu-img map",
	  "  --format F     format of PATH (default: chain)\n"
	  "  --picture F    draw it: a row for each layer, from the disk's start to its end\n"
	  "  --draw         the same in letters\n" },
	{ "top", cmd_top, "[NAME...] [--delay S] [-n N | --once]",
	  "what disks, layers and jobs do, again and again",
	  "  --delay S      seconds between two samples (default: 2)\n"
	  "  -n, --count N  end after so many; --once: after one\n"
	  "A layer's figures are those of its device: I/O of jobs and maps is in them, and of a\n"
	  "layer that several disks have that of all of them.\n" },
	{ "check", cmd_check,
	  "PATH [--format chain|raw] [--repair [--lossy] [--force]]",
	  "look for damage in a closed layer",
	  "  --repair       mend what can be mended without loss\n"
	  "  --lossy        also make blocks absent whose map is lost: they then show what\n"
	  "                 lower layers hold, and children are refused from then on\n"
	  "  --force        an in-use mark is known to be stale\n"
	  "Exit code 0: no damage, or all mended; 1: damage; 4: not an image.\n" },
	{ "compare", cmd_compare, "A B [--format-a chain|raw] [--format-b chain|raw]",
	  "do two disks, open or closed, show the same bytes",
	  "  --format-a F   format of A if it is a path (default: chain)\n"
	  "  --format-b F   format of B\n"
	  "Exit code 0: the same; 1: they differ.\n" },
	{ "table", cmd_table, "NAME", "the table of an open disk", "" },
	{ "snapshot", cmd_snapshot, "NAME=PATH... [--existing]",
	  "freeze the top of an open disk; PATH becomes the new one",
	  "  --existing     PATH was made before, by create\n"
	  "Several disks: all of them at one instant, or none. If the machine crashes\n"
	  "meanwhile, open asks the layer that decided for all.\n" },
	{ "stream", cmd_stream,
	  "NAME [--into LAYER] [--base LAYER] [--speed RATE] [--on-error POLICY] [--background] [--dry-run] [--force]",
	  "pull data up into a layer of an open disk; those below it are dropped",
	  "  --into LAYER   where the data goes (default: 0, the top)\n"
	  "  --base LAYER   what is kept (default: nothing, all below is pulled in)\n"
	  JOB_OPTIONS
	  "  --force        also if there is not enough room for it\n"
	  JOB_NOTES },
	{ "commit", cmd_commit,
	  "NAME [--top LAYER] [--base LAYER] [--no-pivot] [--speed RATE] [--on-error POLICY] [--background] [--dry-run] [--force]",
	  "move data of layers of an open disk down into one below",
	  "  --top LAYER    top of those that are merged (default: 0, the active layer)\n"
	  "  --base LAYER   where the data goes (default: the layer below top)\n"
	  "  --no-pivot     of the active layer: leave the job ready; dmchain pivot ends it\n"
	  JOB_OPTIONS
	  "  --force        also if other children of these layers are lost by it, or there is\n"
	  "                 not enough room\n"
	  JOB_NOTES },
	{ "mirror", cmd_mirror,
	  "NAME PATH --format raw|chain [--shallow] [--existing] [--verify] [--pivot] [--speed RATE] [--on-error POLICY] [--background]",
	  "copy an open disk to PATH, and from then on write both",
	  "  --format F     of the copy; never guessed\n"
	  "  --shallow      only what the top holds: the copy stands on what the top stands on\n"
	  "  --existing     PATH was made before: empty (chain), as large as the disk at least;\n"
	  "                 with --shallow on the parent that the top has. A block device that\n"
	  "                 is to be raw needs no --existing, and loses its contents\n"
	  "  --verify       read both and compare them before it is ready\n"
	  "  --pivot        when it is ready let the disk go on in the copy\n"
	  JOB_POLICIES
	  "It waits until the copy is ready; dmchain pivot then lets the disk go on there, and\n"
	  "dmchain job cancel leaves it as a complete copy of that instant. Cancelled before,\n"
	  "or by an interrupt, it is incomplete and is refused. A copy that fails never fails\n"
	  "the disk.\n"
	  "NAME PATH --layer LAYER [--format F] [--existing] [--verify] [--speed RATE]: only a\n"
	  "layer below the top is copied, and the disk goes on with it at PATH. --existing then\n"
	  "goes on with a copy that was cut off, or takes one that was made by other means.\n" },
	{ "pivot", cmd_pivot, "JOB|NAME ...",
	  "end a mirror or a commit of the active layer: the disk goes on there",
	  "Several mirrors: at one instant, all or none.\n" },
	{ "job", cmd_job,
	  "list [NAME] | show JOB | wait JOB [--timeout S] | pause JOB | resume JOB [--wait] | speed JOB RATE | cancel JOB",
	  "look at jobs, and tell them what to do",
	  "  list           jobs there are, also those that were cut off, of disks that are open\n"
	  "  wait           until it has ended, or is ready; exit code 1: it failed\n"
	  "  --timeout S    give up waiting after that many seconds\n"
	  "  pause, resume  resume also goes on after an error, and with what was cut off\n"
	  "  --wait         ... and waits for its end\n"
	  "  speed          RATE: bytes a second; 0: no limit\n"
	  "  cancel         end it where it is, and wait for that\n"
	  "JOB: a number, the start of a job's uuid, or the name of a disk that has one job.\n" },
	{ "monitor", cmd_monitor, "", "what happens to jobs, a line each", "" },
	{ "resize", cmd_resize, "NAME|PATH SIZE [--shrink] [--force]",
	  "change the virtual size; +SIZE: by that much",
	  "  --shrink       SIZE is smaller; what is beyond is lost (closed images only)\n"
	  "  --force        an in-use mark is known to be stale\n" },
	{ "rebase", cmd_rebase,
	  "PATH --backing PATH --backing-format raw|chain [--unsafe] [--force]",
	  "let a closed layer stand on another parent",
	  "  --backing PATH         the new parent, which is sealed by this\n"
	  "  --backing-format F     its format, never guessed\n"
	  "  --unsafe               only change the link: what is seen is what the new parent\n"
	  "                         shows; children are refused from then on\n"
	  "  --force                an in-use mark is known to be stale\n"
	  "Without --unsafe it shows what it did: it first gets what would differ. Cut off, it\n"
	  "is just run again.\n" },
	{ "import", cmd_import,
	  "IMAGE PATH [--lower-in FOLDER | --onto LAYER] [--block-size N] [--backing-format raw|qcow2] [--trust-backing] [--overwrite] [--verify]",
	  "make layers of a qcow2 image and what it stands on",
	  "  PATH                   of the top: a new file, a folder, or a block device\n"
	  "  --lower-in FOLDER      where the layers below go (default: the folder of PATH)\n"
	  "  --onto LAYER           make a layer of IMAGE only; LAYER, which shows what its\n"
	  "                         backing file shows, is what it stands on\n"
	  "  --block-size N         4K (default) to 1M\n"
	  "  --backing-format F     of backing files whose images don't say it\n"
	  "  --trust-backing        backing files may lie outside of the folder of IMAGE\n"
	  "  --overwrite            PATH is a block device that loses its contents\n"
	  "  --verify               compare in the end\n"
	  "A raw base stays where it is. Snapshots and bitmaps inside of the image are not\n"
	  "taken over. Cut off, it leaves nothing.\n" },
	{ "export", cmd_export,
	  "PATH IMAGE [--lower-in FOLDER] [--cluster-size N] [--verify]",
	  "make qcow2 images of a layer and what it stands on",
	  "  IMAGE                  of the top: a new file, or a folder\n"
	  "  --lower-in FOLDER      where the images below go (default: the folder of IMAGE)\n"
	  "  --cluster-size N       512 to 2M, for programs that know no parts of clusters\n"
	  "                         (extended_l2); a cluster of which a layer holds a part is\n"
	  "                         filled up from below\n"
	  "  --verify               compare in the end\n"
	  "Nothing may write the layers: close the disk, or export what a snapshot has frozen.\n"
	  "A raw base stays where it is. Cut off, it leaves nothing.\n" },
	{ "new-id", cmd_new_id, "PATH [--force]",
	  "give a copied layer a UUID of its own",
	  "  --force        an in-use mark is known to be stale\n" },
	{ "unseal", cmd_unseal, "PATH [--force]",
	  "make a frozen layer writable again; its children are then refused",
	  "  --force        an in-use mark is known to be stale\n" },
	{ "recover", cmd_recover, "[NAME|PATH [--assume committed|aborted]]",
	  "finish or undo what a killed command or a crash left",
	  "  PATH           a closed layer that a change of several disks has left pending\n"
	  "  --assume A     the layer that decided it is lost: committed freezes PATH, aborted\n"
	  "                 makes it the disk again; say the same for all disks of the set\n" },
	{ "enable", cmd_enable,
	  "NAME [PATH [--format chain|raw] [--read-only]] [--label-rw LABEL] [--label-ro LABEL] [--jobs resume|report] [--network]",
	  "let a disk come up with the machine",
	  "  PATH           its top; if it is left out, the disk is open, and comes up as it is\n"
	  "  --format F     format of PATH (default: chain)\n"
	  "  --read-only, --label-rw L, --label-ro L    as of open\n"
	  "  --jobs J       that were cut off: resume (default) them, or only report them\n"
	  "  --network      it comes up when there is a network\n"
	  "It writes /etc/dmchain/NAME.json, and keeps that in line with the disk when a\n"
	  "snapshot or pivot gives it another top.\n" },
	{ "disable", cmd_disable, "NAME",
	  "let a disk come up with the machine no longer", "" },
	{ "up", cmd_up, "NAME... | --all",
	  "open disks as they are declared, and resume their jobs",
	  "  --all          all that are declared; one that fails does not keep the others down\n"
	  "  --unit         names are escaped as in the name of a systemd unit\n"
	  "What is open already stays as it is.\n" },
	{ "down", cmd_down, "NAME... | --all",
	  "close disks, those first that lie on another one",
	  "  --all          all that are declared\n"
	  "  --unit         names are escaped as in the name of a systemd unit\n"
	  "What is not open is no error.\n" },
	{ "units", cmd_units, "DIR",
	  "for systemd's generator: what lets declared disks come up",
	  "DIR is the first of the folders that a generator is given.\n" },
	{ "perm", cmd_perm,
	  "[NAME] | matrix [--rst] | check OPERATION NAME|PATH [--format chain|raw] [LAYERS] | hold OPERATION NAME [--writable] [LAYERS] -- COMMAND...",
	  "who holds which layer; would an operation be allowed",
	  "  matrix         what each operation holds, and what it allows to others\n"
	  "  check          ask only; exit code 3: refused, the holder is named\n"
	  "  hold           hold what it needs while COMMAND runs; its exit code is passed on\n"
	  "  --writable     ... and let the kernel open for writing what it may write\n"
	  "  --rst          as a table of reStructuredText\n"
	  "LAYERS: [--top LAYER] [--base LAYER] [--into LAYER]; all options of hold stand\n"
	  "before its --\n"
	  "  --top LAYER    commit: top of the range; copy-layer: the layer (default: 0)\n"
	  "  --base LAYER   commit: where the data goes (default: the layer below top);\n"
	  "                 stream: what is kept (default: nothing)\n"
	  "  --into LAYER   stream: where the data goes (default: 0)\n"
	  "  --format F     format of PATH (default: chain)\n"
	  "OPERATION: snapshot, resize, commit, active-commit, stream, mirror and copy-layer\n"
	  "for an open disk; guest (to open it), export (the same, --read-only), create (a\n"
	  "layer on it), resize, rebase, unsafe-rebase, unseal, new-id, check, repair and\n"
	  "compare for a PATH. LAYER: an index (0 is the top), a path or fd:N, a UUID or its\n"
	  "start.\n" },
};

static void usage(void)
{
	size_t i;

	puts("usage: dmchain [--json] COMMAND ARGUMENTS\n"
	     "       dmchain COMMAND --help | help COMMAND | --help | --version\n");
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		printf("  %-9s  %s\n", commands[i].name, commands[i].brief);
	puts("\nWhere a layer's PATH is taken, fd:N is an open descriptor; its access mode caps\n"
	     "what the layer may do. Where there is one PATH, --fd N may take its place (not in\n"
	     "snapshot and perm).");
	puts("\nExit codes: 0 done, 1 failed, 2 usage, 3 refused or in use, 4 not a valid image\n"
	     "or not the parent it should be.");
}

static int command_help(const struct command *c)
{
	printf("usage: dmchain %s %s\n%s\n", c->name, c->args, c->brief);
	if (*c->details)
		printf("\n%s", c->details);
	return EXIT_DONE;
}

static const struct command *find_command(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

/* --json and --help may stand anywhere before a "--". */
static int take_globals(int argc, char **argv)
{
	int i, n = 1;

	for (i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--"))
			break;
		if (!strcmp(argv[i], "--json"))
			opt_json = true;
		else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h") ||
			 (n == 1 && !strcmp(argv[i], "help")))
			opt_help = true;
		else
			argv[n++] = argv[i];
	}
	while (i < argc)
		argv[n++] = argv[i++];
	argv[n] = NULL;
	return n;
}

static int run(int argc, char **argv)
{
	const struct command *c = find_command(argv[1]);
	int ret;

	if (!c)
		return -msg_fail(EXIT_USAGE,
				 "%s: no such command; see dmchain --help",
				 argv[1]);
	if (opt_help)
		return command_help(c);
	ret = c->run(argc - 1, argv + 1);
	return ret < 0 ? -ret : ret;
}

/* A full disk or a closed pipe must not pass for success. */
static int finish(int ret)
{
	if (!fflush(stdout) && !ferror(stdout))
		return ret;
	msg_fail(EXIT_FAILED, "standard output: can't write");
	return ret ? ret : EXIT_FAILED;
}

/*
 * What we open must not become 0, 1 or 2: messages would be written into it. An
 * O_PATH descriptor can be neither read nor written, as if it were closed.
 */
static bool standard_fds(void)
{
	int fd;

	for (fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 &&
		    open("/", O_PATH | O_CLOEXEC) != fd)
			return false;
	return true;
}

int main(int argc, char **argv)
{
	if (!standard_fds())
		return EXIT_FAILED;
	signal(SIGPIPE, SIG_IGN);
	argc = take_globals(argc, argv);
	if (argc > 1 && !strcmp(argv[1], "--version")) {
		puts("dmchain " DMCHAIN_VERSION);
		return finish(EXIT_DONE);
	}
	if (argc > 1)
		return finish(run(argc, argv));
	if (opt_help) {
		usage();
		return finish(EXIT_DONE);
	}
	return -msg_fail(EXIT_USAGE, "no command; see dmchain --help");
}
