/* SPDX-License-Identifier: MIT */
/* JSON for people: "name: value", one a line, what is inside indented. */
#ifndef FIRN_TOOLS_JSON_LINES_H
#define FIRN_TOOLS_JSON_LINES_H

#include <json-glib/json-glib.h>

/* The members of @object in their order, @indent times four blanks in. */
void json_lines_print(JsonObject *object, unsigned indent);

#endif
