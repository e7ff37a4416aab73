// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Loading of dm-chain.ko by libkmod.
 */
#include "online.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libkmod.h>

#define MODULE_NAME "dm_chain"

bool module_present(void)
{
	return !access("/sys/module/" MODULE_NAME, F_OK);
}

static int insert(struct kmod_module *mod)
{
	int err = kmod_module_probe_insert_module(mod, KMOD_PROBE_APPLY_BLACKLIST,
						  NULL, NULL, NULL, NULL);

	/* Blacklisted: the positive KMOD_PROBE_APPLY_BLACKLIST. */
	return err > 0 ? -EPERM : err;
}

static int insert_by_name(struct kmod_ctx *ctx, const char *name)
{
	struct kmod_list *list = NULL, *it;
	int err;

	err = kmod_module_new_from_lookup(ctx, name, &list);
	if (err < 0)
		return err;
	err = -ENOENT;
	kmod_list_foreach(it, list) {
		struct kmod_module *mod = kmod_module_get_module(it);

		err = insert(mod);
		kmod_module_unref(mod);
		if (err < 0)
			break;
	}
	kmod_module_unref_list(list);
	return err;
}

/* A file outside of modules.dep: its own word says what must come before. */
static int insert_depends(struct kmod_ctx *ctx, struct kmod_module *mod)
{
	struct kmod_list *info = NULL, *it;
	int err = kmod_module_get_info(mod, &info);

	if (err < 0)
		return err;
	err = 0;
	kmod_list_foreach(it, info) {
		char *list, *name, *rest;

		if (strcmp(kmod_module_info_get_key(it), "depends"))
			continue;
		list = rest = strdup(kmod_module_info_get_value(it));
		while (rest && !err && (name = strsep(&rest, ",")))
			if (*name && insert_by_name(ctx, name) < 0)
				err = -ENOENT;
		free(list);
	}
	kmod_module_info_free_list(info);
	return err;
}

static int insert_file(struct kmod_ctx *ctx, const char *path)
{
	struct kmod_module *mod = NULL;
	int err = kmod_module_new_from_path(ctx, path, &mod);

	if (err < 0)
		return err;
	err = insert_depends(ctx, mod);
	if (!err)
		err = kmod_module_insert_module(mod, 0, NULL);
	kmod_module_unref(mod);
	return err == -EEXIST ? 0 : err;
}

/* @path: a file, or NULL: the module installed under that name */
static int load(const char *name, const char *path)
{
	struct kmod_ctx *ctx = kmod_new(NULL, NULL);
	int err;

	if (!ctx)
		return -ENOMEM;
	kmod_set_log_priority(ctx, 0);	/* one line, and that is ours */
	err = path ? insert_file(ctx, path) : insert_by_name(ctx, name);
	kmod_unref(ctx);
	return err;
}

void module_load_loop(void)
{
	load("loop", NULL);
}

int module_load(void)
{
	int err;

	if (module_present())
		return 0;
	err = load(MODULE_NAME, secure_getenv("DMCHAIN_MODULE"));
	if (err >= 0)
		return 0;
	return msg_fail_errno(EXIT_FAILED, -err,
			      "module dm_chain: cannot be loaded%s",
			      err == -ENOENT ? " (is it installed for this kernel?)" :
			      err == -EPERM || err == -EACCES ? " (root is needed)" : "");
}
