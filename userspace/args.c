// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Options and operands of a command.
 */
#include "dmchain.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define MAX_OPTS 16
#define MAX_OPERANDS 4	/* of commands that know --fd */

static void long_options(const struct arg_opt *opts, struct option *out)
{
	int i;

	for (i = 0; opts && opts[i].name && i < MAX_OPTS; i++) {
		out[i].name = opts[i].name;
		out[i].has_arg = opts[i].text ? required_argument : no_argument;
		out[i].val = 'A' + i;
	}
}

static int bad_option(const char *command, const char *arg, int what)
{
	if (what == ':')
		return msg_fail(EXIT_USAGE,
				"%s: option %s needs a value; see dmchain %s --help",
				command, arg, command);
	return msg_fail(EXIT_USAGE,
			"%s: no such option, or too short a form of it: %s; see dmchain %s --help",
			command, arg, command);
}

static int check_operands(const char *command, int n, char **args, int min,
			  int max)
{
	if (n < min)
		return msg_fail(EXIT_USAGE,
				"%s: something is missing after it; see dmchain %s --help",
				command, command);
	if (n > max)
		return msg_fail(EXIT_USAGE,
				"%s: what is this: %s; see dmchain %s --help",
				command, args[max], command);
	return 0;
}

int args_parse(int *argc, char ***argv, const struct arg_opt *opts, int min,
	       int max)
{
	struct option longs[MAX_OPTS + 1] = { 0 };
	const char *command = (*argv)[0];
	int c;

	long_options(opts, longs);
	optind = 0;
	opterr = 0;
	while ((c = getopt_long(*argc, *argv, ":", longs, NULL)) != -1) {
		if (c == '?' || c == ':')
			return bad_option(command, (*argv)[optind - 1], c);
		if (opts[c - 'A'].text)
			*opts[c - 'A'].text = optarg;
		else
			*opts[c - 'A'].flag = true;
	}
	*argc -= optind;
	*argv += optind;
	return check_operands(command, *argc, *argv, min, max);
}

/* The operands with the descriptor among them. */
static int put_fd(int *argc, char ***argv, const char *command, const char *n,
		  int min, int max, int at)
{
	static char *operands[MAX_OPERANDS + 1], text[32];
	int i, ret;

	if (!*n || n[strspn(n, "0123456789")] || strlen(n) > 10)
		return msg_fail(EXIT_USAGE, "--fd %s: no descriptor's number", n);
	ret = check_operands(command, *argc, *argv, min - 1, max - 1);
	if (ret)
		return ret;
	snprintf(text, sizeof(text), "fd:%s", n);
	for (i = 0; i < *argc; i++)
		operands[i < at ? i : i + 1] = (*argv)[i];
	operands[at] = text;
	*argv = operands;
	++*argc;
	return 0;
}

int args_parse_layer(int *argc, char ***argv, const struct arg_opt *opts,
		     int min, int max, int at)
{
	struct arg_opt all[MAX_OPTS + 1] = { 0 };
	const char *command = (*argv)[0], *n = NULL;
	int i, ret;

	for (i = 0; opts && opts[i].name && i < MAX_OPTS - 1; i++)
		all[i] = opts[i];
	all[i] = (struct arg_opt){ "fd", &n, NULL };
	ret = args_parse(argc, argv, all, 0, max);
	if (!ret && n)
		ret = put_fd(argc, argv, command, n, min, max, at);
	if (!ret)
		ret = check_operands(command, *argc, *argv, min, max);
	return ret ? ret : arg_layer_check((*argv)[at]);
}

int args_format(const char *text, uint32_t *format)
{
	*format = DM_CHAIN_FORMAT_CHAIN;
	if (!text || !strcmp(text, "chain"))
		return 0;
	*format = DM_CHAIN_FORMAT_RAW;
	if (!strcmp(text, "raw"))
		return 0;
	return msg_fail(EXIT_USAGE, "%s: no such format; say raw or chain", text);
}
