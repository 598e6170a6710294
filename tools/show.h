/* SPDX-License-Identifier: MIT */
/*
 * firn-vmstate show: the walk (cmd-show.c) and its two printers.
 */
#ifndef FIRN_TOOLS_SHOW_H
#define FIRN_TOOLS_SHOW_H

#include <json-glib/json-glib.h>

#include "tools/tool-common.h"

typedef struct ShowBlock {
    char *name;
    uint64_t bytes;
    uint64_t pages;             /* records with data */
    uint64_t fill_pages;        /* records of one repeated byte */
} ShowBlock;

typedef struct Show {
    ToolSource source;
    StreamWalkResult result;
    GPtrArray *blocks;          /* ShowBlock */
    GPtrArray *notes;           /* strings */
    char *machine;              /* NULL until seen */
    bool configuration;         /* the section at hand is it */
    bool selected;              /* the section at hand is shown */
    bool any;                   /* some section was */
    unsigned depth;             /* of nested structures */
    GString *text;              /* human: lines of the section at hand */
    JsonBuilder *json;
    uint64_t budget;            /* JSON: array elements still shown singly */
} Show;

/*
 * A printer: begin, then for each section that is selected section_begin,
 * values, section_end; end after a walk that succeeded.
 */
typedef struct ShowPrinter {
    void (*begin)(Show *show);
    void (*section_begin)(Show *show, const StreamSection *section);
    void (*value)(Show *show, const StreamValue *value);
    void (*section_end)(Show *show, const StreamSection *section);
    void (*end)(Show *show);
} ShowPrinter;

extern const ShowPrinter show_human;
extern const ShowPrinter show_json;

#endif
