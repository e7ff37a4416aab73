// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Options and operands of a command.
 */
#include "dmchain.h"

#include <getopt.h>
#include <string.h>

#define MAX_OPTS 16

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
