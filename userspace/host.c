// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The id of this machine, as in-use marks name it.
 */
#include "dmchain.h"

#include <string.h>

/* 32 hexadecimal digits on the first line. */
static bool read_machine_id(const char *file, struct chain_id *id)
{
	unsigned int i, byte;
	bool ok = true;
	FILE *f = fopen(file, "re");

	if (!f)
		return false;
	for (i = 0; i < sizeof(id->b) && ok; i++) {
		ok = fscanf(f, "%2x", &byte) == 1;
		id->b[i] = (uint8_t)byte;
	}
	fclose(f);
	return ok;
}

void host_id(struct chain_id *id)
{
	if (read_machine_id("/etc/machine-id", id) ||
	    read_machine_id("/var/lib/dbus/machine-id", id))
		return;
	memset(id, 0, sizeof(*id));
}
