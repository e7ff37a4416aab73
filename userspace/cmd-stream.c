// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain stream: a layer takes in what those below it hold.
 * dmchain commit: a layer gives what it holds to one below.
 */
#include "job.h"

/* What both take. */
struct texts {
	const char *speed;
	const char *on_error;
};

static int parse_rest(struct job_ask *ask, const struct texts *t)
{
	int ret = job_on_error(t->on_error, &ask->on_error);

	if (!ret && t->speed)
		ret = size_parse(t->speed, NULL, &ask->speed);
	if (!ret && ask->top)
		ret = arg_layer_check(ask->top);
	if (!ret && ask->base)
		ret = arg_layer_check(ask->base);
	if (!ret && ask->background && ask->dry_run)
		ret = msg_fail(EXIT_USAGE,
			       "%s: --dry-run starts nothing that could run in the background",
			       ask->name);
	return ret;
}

int cmd_stream(int argc, char **argv)
{
	struct job_ask ask = { .op = DM_CHAIN_OP_STREAM };
	struct texts t = { 0 };
	const struct arg_opt opts[] = {
		{ "into", &ask.top, NULL },
		{ "base", &ask.base, NULL },
		{ "speed", &t.speed, NULL },
		{ "on-error", &t.on_error, NULL },
		{ "force", NULL, &ask.force },
		{ "background", NULL, &ask.background },
		{ "dry-run", NULL, &ask.dry_run },
		{ NULL, NULL, NULL },
	};
	int ret = args_parse(&argc, &argv, opts, 1, 1);

	if (ret)
		return ret;
	ask.name = argv[0];
	ret = parse_rest(&ask, &t);
	return ret ? ret : job_run(&ask);
}

int cmd_commit(int argc, char **argv)
{
	struct job_ask ask = { .op = DM_CHAIN_OP_COMMIT };
	struct texts t = { 0 };
	const struct arg_opt opts[] = {
		{ "top", &ask.top, NULL },
		{ "base", &ask.base, NULL },
		{ "speed", &t.speed, NULL },
		{ "on-error", &t.on_error, NULL },
		{ "no-pivot", NULL, &ask.no_pivot },
		{ "force", NULL, &ask.force },
		{ "background", NULL, &ask.background },
		{ "dry-run", NULL, &ask.dry_run },
		{ NULL, NULL, NULL },
	};
	int ret = args_parse(&argc, &argv, opts, 1, 1);

	if (ret)
		return ret;
	ask.name = argv[0];
	ret = parse_rest(&ask, &t);
	return ret ? ret : job_run(&ask);
}
