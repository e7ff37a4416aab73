/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The table line, taken apart and put together:
 *
 *	<#layers> {<dev> <chain|raw> <rw|ro|next|target>}+ [<#features> <feature>...]
 *
 * Words only: no device is opened and no header read here.
 */
#ifndef DM_CHAIN_ARGS_H
#define DM_CHAIN_ARGS_H

#include "dm-chain-env.h"

#define CHAIN_ARGS_MAX_NEXT	8

enum chain_role_word {
	CHAIN_WORD_RW,
	CHAIN_WORD_RO,
	CHAIN_WORD_NEXT,	/* attached, not part of what is seen */
	CHAIN_WORD_TARGET,	/* the same: of a mirror */
};

/**
 * struct chain_arg_layer - three words of the line
 * @dev: as given; belongs to who gave the line
 * @format: enum dm_chain_format, RAW or CHAIN
 * @word: enum chain_role_word
 */
struct chain_arg_layer {
	const char *dev;
	u32 format;
	u8 word;
};

/**
 * struct chain_args - a table line
 * @nr: entries in @layers
 * @nr_next: of these, in role "next" or "target"; they come first
 * @layers: top first; the chain proper starts at @layers[@nr_next]
 * @force: feature "force"
 */
struct chain_args {
	unsigned int nr;
	unsigned int nr_next;
	struct chain_arg_layer *layers;
	bool force;
};

/**
 * chain_args_parse() - take a line apart and check it
 * @argc: words
 * @argv: words; must live as long as @out does
 * @out: overwritten; needs chain_args_free() after success only
 * @error: set to a constant string that states the broken rule
 *
 * Context: may sleep.
 * Return: 0, -EINVAL or -ENOMEM.
 */
int chain_args_parse(unsigned int argc, char **argv, struct chain_args *out,
		     const char **error);

/**
 * chain_args_free() - free what chain_args_parse() made
 * @args: parsed, or zeroed
 */
void chain_args_free(struct chain_args *args);

/**
 * chain_args_print() - the line that parses to this
 * @args: line
 * @buf: filled in, NUL-terminated
 * @room: bytes in @buf, at least 1
 *
 * Return: characters written; a line that doesn't fit is cut at @room - 1.
 */
size_t chain_args_print(const struct chain_args *args, char *buf, size_t room);

/** chain_format_name() - how the line calls an enum dm_chain_format */
const char *chain_format_name(u32 format);

/** chain_word_name() - how the line calls an enum chain_role_word */
const char *chain_word_name(u8 word);

#endif
