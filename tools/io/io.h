/* SPDX-License-Identifier: MIT */
/*
 * What the parts of firn-io share: the session with its open image, the table
 * of commands, numbers and buffers, and the report a request ends with.
 */
#ifndef FIRN_TOOLS_IO_H
#define FIRN_TOOLS_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "block/block.h"

/* No request is longer. */
#define IO_MAX_BYTES ((uint64_t)INT32_MAX / 512 * 512)

typedef struct IoSession {
    AioContext *ctx;
    BlockBackend *blk;    /* NULL: no image is open */
    const char *program;  /* for prompt and messages */
    bool misalign;        /* buffers for O_DIRECT are misaligned (-m) */
    bool quit;
    unsigned aio;         /* aio_read and aio_write that are not reported */
} IoSession;

extern IoSession io;

/* --- Commands --- */

typedef struct IoCommand {
    const char *name;
    const char *alt;      /* short name or NULL */
    int (*run)(int argc, char **argv); /* 0 or -errno; has told why */
    int min_args;
    int max_args;         /* -1: any number */
    bool needs_image;
    bool writes;          /* refused on read-only images */
    const char *args;
    const char *what;     /* one line */
    const char *more;     /* further lines for help, or NULL */
} IoCommand;

/* Each is a list that ends with a nameless entry. */
extern const IoCommand io_read_commands[], io_write_commands[],
                       io_aio_commands[], io_map_commands[],
                       io_image_commands[], io_debug_commands[],
                       io_open_commands[], io_process_commands[],
                       io_help_commands[];

/* Run one line, which may be blank. Returns 0 or -errno. */
int io_run_line(const char *line);
/* The @i-th command in order of names, NULL after the last. */
const IoCommand *io_nth_command(unsigned i);
const IoCommand *io_find_command(const char *name);
/* One line about @command on standard output; returns -EINVAL. */
int io_usage(const IoCommand *command);
/* As above, by name, for a command that found its arguments wrong. */
int io_bad_usage(const char *name);
/* "PROGRAM: message" on standard error. */
void io_error(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* --- Images (open.c) --- */

typedef struct IoOpen {
    unsigned flags;        /* BDRV_O_* */
    bool snapshot;         /* writes go to a temporary overlay */
    bool copy_on_read;
    bool native_aio;
} IoOpen;

/* Values of -t, -d and -i; false after saying that @text is none. */
bool io_set_cache(IoOpen *o, const char *text);
bool io_set_discard(IoOpen *o, const char *text);
bool io_set_aio(IoOpen *o, const char *text);
/* Open as io.blk; @options are consumed. 0 or -errno. */
int io_open_image(const char *filename, BdrvOptions *options,
                  const IoOpen *o);
/* Wait for aio requests and close; 0 or -errno. */
int io_close_image(void);
/* The command reopen (reopen.c). */
int io_cmd_reopen(int argc, char **argv);
/* Parse an option string; NULL after saying what is wrong. */
BdrvOptions *io_parse_options(const char *text);

/* --- Numbers and buffers (buffer.c) --- */

/* Parse a size into *@ret; false after saying on standard output what is
 * wrong with it. */
bool io_parse_number(const char *text, uint64_t *ret);
/* The same for the length of a request. */
bool io_parse_length(const char *text, uint64_t *ret);
bool io_parse_pattern(const char *text, uint8_t *ret);

/* Memory of @bytes, all of them @pattern. Free with io_buffer_free(). */
uint8_t *io_buffer_new(uint64_t bytes, int pattern);
/* The same filled with what is in the file @path, repeated; NULL after saying
 * why not. */
uint8_t *io_buffer_from_file(uint64_t bytes, const char *path);
void io_buffer_free(uint8_t *buf);
/* Hex dump, as of @offset. */
void io_buffer_dump(const uint8_t *buf, uint64_t offset, uint64_t bytes);
bool io_buffer_is(const uint8_t *buf, uint8_t pattern, uint64_t bytes);

/* Lengths argv[0..argc) as one buffer cut into as many pieces; NULL after
 * saying what is wrong. The vector is to be destroyed. */
uint8_t *io_vector_new(QEMUIOVector *qiov, int argc, char **argv,
                       int pattern);

/* --- Reports (report.c) --- */

/* "1.500 MiB". To be freed. */
char *io_format_bytes(double bytes);

typedef struct IoReport {
    const char *op;       /* "read", "wrote", "discard" */
    uint64_t offset;
    uint64_t bytes;
    int64_t start_ns;
    bool quiet;
    bool machine;         /* comma separated numbers */
} IoReport;

void io_report(const IoReport *r);
/* "WHAT failed: ..." on standard output; returns @ret. */
int io_failed(const char *what, int ret);

/* --- Terminal (input.c) --- */

/* The next line of standard input, to be freed; NULL at its end. */
char *io_read_line(void);

#endif
