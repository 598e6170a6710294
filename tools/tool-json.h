/* SPDX-License-Identifier: MIT */
/* JSON output that the subcommands share. */
#ifndef FIRN_TOOLS_TOOL_JSON_H
#define FIRN_TOOLS_TOOL_JSON_H

#include <json-glib/json-glib.h>

#include "block/snapshot.h"

/* A member of the object that is open in @b. */
void tool_json_string(JsonBuilder *b, const char *name, const char *value);
void tool_json_bool(JsonBuilder *b, const char *name, bool value);
/* A string "0x..." where the number does not fit a signed 64-bit one. */
void tool_json_u64(JsonBuilder *b, const char *name, uint64_t value);

/* The same number as a value: of an array, or after a member's name. */
void tool_json_u64_value(JsonBuilder *b, uint64_t value);

/* A string that need not be UTF-8: other bytes are shown as U+FFFD. */
void tool_json_text(JsonBuilder *b, const char *name, const char *value,
                    size_t bytes);

/* A snapshot as an object, with the member names of qemu-img info. */
void tool_json_snapshot(JsonBuilder *b, const BdrvSnapshotInfo *info);

/* Print what was built, and a newline, on stdout. */
void tool_json_print(JsonBuilder *b);

#endif
