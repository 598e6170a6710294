/* SPDX-License-Identifier: MIT */
/*
 * What the subcommands of firn-vmstate share: the command line, messages,
 * progress, interruption and output files that appear only when complete.
 */
#ifndef FIRN_TOOLS_TOOL_COMMON_H
#define FIRN_TOOLS_TOOL_COMMON_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "migration/stream-image.h"
#include "util/progress.h"

/* Exit codes; man/firn-vmstate.1.scd lists them. */
enum { TOOL_OK = 0, TOOL_FAILED = 1, TOOL_USAGE = 2 };

typedef struct ToolArgs {
    StreamImageOptions image;
    const char *image_name;
    const char *tag;            /* NULL: the command has none */
    const char *out;            /* -o */
    const char *device;         /* --device */
    const char *block;          /* --block */
    uint64_t below_4g;          /* --below-4g; 0: by the machine type */
    bool json;
    bool quiet;
    bool elf;
    bool no_fields;
    bool no_checksum;
} ToolArgs;

typedef struct ToolCommand {
    const char *name;
    const char *options;        /* letters of tool-common.c's option table */
    bool has_tag;
    bool needs_out;
    const char *synopsis;       /* after "firn-vmstate NAME" */
    const char *help;           /* what it does */
    const char *example;        /* the words behind the name */
    int (*run)(const ToolArgs *args);   /* returns an exit code */
} ToolCommand;

extern const ToolCommand tool_list;
extern const ToolCommand tool_show;
extern const ToolCommand tool_extract;
extern const ToolCommand tool_dump_ram;
extern const ToolCommand tool_verify;

/* "firn-vmstate: " and the message on stderr, below any progress bar. */
void tool_error(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

/*
 * A copy of @text, from an image, that is safe to print: valid UTF-8, with
 * '?' for control characters. Free with g_free().
 */
char *tool_printable(const char *text);

/*
 * Parse argv[1..] of subcommand @command. Returns -1 to go on with @args, or
 * the exit code: TOOL_OK after --help, TOOL_USAGE after a message.
 */
int tool_parse(const ToolCommand *command, int argc, char **argv,
               ToolArgs *args);

/* --- An image and its snapshot, open --- */

typedef struct ToolSource {
    const ToolArgs *args;
    StreamImage *image;
    BdrvSnapshotInfo *snapshot; /* NULL for a command without TAG */
    Progress progress;
    int64_t shown_ns;           /* when the bar was drawn */
    bool bar;                   /* a bar is wanted */
    bool drawn;                 /* a bar is on the terminal's line */
} ToolSource;

/* Open what @args name; false after a message. Close it in either case. */
bool tool_open(ToolSource *source, const ToolArgs *args);
void tool_close(ToolSource *source);

/* Draw @done bytes; -EINTR when the user wants to stop, else 0. */
int tool_progress(ToolSource *source, uint64_t done);

/* Whether the user wants to stop. From any thread. */
gboolean tool_interrupted(void);

/* Report @err about the image, with a hint where one is known. */
void tool_image_error(ToolSource *source, int err, const GError *error);

/* Seconds since tool_open(). */
double tool_elapsed(const ToolSource *source);

/* --- Output files --- */

typedef struct OutFile {
    char *path;                 /* as it will be named */
    char *part;                 /* as it is named until then; NULL: none */
    int fd;
    char *error;                /* first failure, a sentence */
} OutFile;

/*
 * Create @path ("-": standard output, which must not be a terminal): under
 * another name next to it until out_file_commit(), unless it is no regular
 * file. Returns NULL with *@ret_error (free it) on failure.
 */
OutFile *out_file_new(const char *path, char **ret_error);

/* Write in order. 0 or -errno; the first failure is kept in error. */
int out_file_write(OutFile *out, const void *data, size_t bytes);

/* Write at @offset. As out_file_write(). */
int out_file_pwrite(OutFile *out, const void *data, size_t bytes,
                    uint64_t offset);

/* Set the length. As out_file_write(). */
int out_file_truncate(OutFile *out, uint64_t bytes);

/* Close and give it its name. As out_file_write(). */
int out_file_commit(OutFile *out);

/* Free; what was not committed is removed. NULL: nothing. */
void out_file_free(OutFile *out);

#endif
