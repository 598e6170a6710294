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
    bool prompts;         /* commands come from standard input */
    bool quit;
    bool failed;          /* something that no command has told */
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

/* Run one line, which may be blank and is cut up. Returns 0 or -errno. */
int io_run_line(char *line);
/* The @i-th command in order of names, NULL after the last. */
const IoCommand *io_nth_command(unsigned i);
const IoCommand *io_find_command(const char *name);
/* One line about @command on standard output; returns -EINVAL. */
int io_usage(const IoCommand *command);
/* As above, by name, for a command that found its arguments wrong. */
int io_bad_usage(const char *name);
/* The same for the flag @letter, which is none of @letters or lacks its
 * argument. */
int io_bad_flag(const char *name, char letter, const char *letters);
/* "PROGRAM: message" on standard error. */
void io_error(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* --- Flags (flags.c) --- */

typedef struct IoFlags {
    int argc;
    char **argv;
    const char *letters;  /* a ":" behind those that take an argument */
    const char *rest;     /* letters that stand together and are to come */
    int next;             /* argv[next] is to come then */
    const char *arg;      /* of the flag that came last */
    char **words;         /* what is no flag; complete after the last flag */
    int nb_words;
} IoFlags;

/* Words of @argv are moved to its front then. */
void io_flags_init(IoFlags *f, int argc, char **argv, const char *letters);
/* The next flag, 0 after the last, or -EINVAL after telling a mistake. */
int io_flags_next(IoFlags *f);

/* --- Output (output.c) --- */

/* Call once, when it is known where commands come from. */
void io_start_output(void);
/* Commands print with these on standard output, and never with stdio. */
void io_put(const char *text, size_t bytes);
void io_print(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* Write what was printed. Whether all of it could be written up to now. */
bool io_flush_output(void);
/* The same in the end; says on standard error why not. */
bool io_end_output(void);
/* Before something is written to standard error or the process ends: after a
 * prompt, what was printed is out. */
void io_sync_output(void);

/* --- Images (open.c) --- */

/* What an image is opened with unless -r, -d, -t or -n say otherwise: a write
 * is on disk when it has been reported. */
#define IO_OPEN_FLAGS (BDRV_O_RDWR | BDRV_O_UNMAP | BDRV_O_WRITETHROUGH)

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
/* Open as io.blk; @options are consumed, @o may change. 0 or -errno. */
int io_open_image(const char *filename, BdrvOptions *options, IoOpen *o);
/* Let what is stopped go on, wait for aio requests and close; 0 or -errno. */
int io_close_image(void);
/* The command reopen (reopen.c). */
int io_cmd_reopen(int argc, char **argv);
/* Parse an option string; NULL after saying what is wrong. */
BdrvOptions *io_parse_options(const char *text);

/* --- Numbers and buffers (buffer.c) --- */

/* Parse a size into *@ret; false after saying on standard output what is
 * wrong with it, and *@ret is anything then. */
bool io_parse_number(const char *text, uint64_t *ret);
/* The same for the length of a request. */
bool io_parse_length(const char *text, uint64_t *ret);
bool io_parse_pattern(const char *text, uint8_t *ret);

typedef struct IoBuffer {
    uint8_t *data;
    uint64_t filled;       /* so many bytes of @data are known to be @fill */
    uint8_t fill;
    uint64_t size;
    void *memory;
    struct IoBuffer *next; /* of those that wait for a request */
} IoBuffer;

/* Memory of @bytes. Free with io_buffer_free(). */
IoBuffer *io_buffer_new(uint64_t bytes);
void io_buffer_free(IoBuffer *buf);
/* Make the first @bytes of it all @fill. */
void io_buffer_fill(IoBuffer *buf, uint8_t fill, uint64_t bytes);
/* What is in it will be changed. */
void io_buffer_spoil(IoBuffer *buf);
/* Put what is in the file @path, repeated, into @buf. false after saying why
 * not. */
bool io_buffer_load(IoBuffer *buf, uint64_t bytes, const char *path);
/* Hex dump, as of @offset. */
void io_buffer_dump(const uint8_t *buf, uint64_t offset, uint64_t bytes);

/* --- Reports (report.c) --- */

/* "1.500 MiB"; returns @out. */
#define IO_BYTES_TEXT 40
char *io_format_bytes(char out[IO_BYTES_TEXT], double bytes);

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

/* --- Requests (request.c) --- */

/* What is written unless -P or -s says otherwise. */
#define IO_WRITE_PATTERN 0xcd
/* What read -v shows where no driver has read anything. */
#define IO_READ_FILL 0xab

typedef struct IoRequest {
    IoReport report;
    const char *name;     /* how a failure is told */
    bool vmstate, zero, dump, invalid, has_pattern;
    bool verify;          /* what was read is to be all @pattern */
    uint8_t pattern;
    unsigned flags;       /* BDRV_REQ_* */
    const char *start_arg;  /* of -s: where the check starts, or a file */
    const char *length_arg; /* of -l */
    char **words;         /* offset and lengths */
    int nb_words;
    IoBuffer *buf;        /* or NULL */
    /* io_request_init() leaves these alone: they are set when needed. */
    uint64_t start, length; /* of what is verified */
    QEMUIOVector qiov;    /* @buf cut into pieces; valid with @buf */
} IoRequest;

/* @op for the report, @name for a failure. */
void io_request_init(IoRequest *r, const char *op, const char *name);

/* Flags of @letters, then an offset and one length, or several when @lengths.
 * Returns 0 or -EINVAL after saying what is wrong. */
int io_request_flags(IoRequest *r, int argc, char **argv, const char *letters,
                     bool lengths);
/* Offset and length; any length when @any. */
int io_request_range(IoRequest *r, bool any);
/* The same with several lengths, and the buffer for them, filled with @fill
 * unless that is IO_NO_FILL. */
#define IO_NO_FILL (-1)
int io_request_vector(IoRequest *r, int fill);
/* As the last, for reads; -P is what they expect. */
int io_request_read_args(IoRequest *r);
/* -b and -c take whole sectors. */
int io_request_check_aligned(const IoRequest *r);
/* Start the clock. */
void io_request_start(IoRequest *r);
/* The request ended with @ret: verify, dump, report. 0 or -errno. */
int io_request_end(IoRequest *r, int ret);
void io_request_clear(IoRequest *r);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(IoRequest, io_request_clear)

/* --- Breakpoints (cmd-debug.c) --- */

/* What is stopped goes on, and nothing will be stopped any more. */
void io_release_breaks(void);
/* From now on (or again no more) what stops goes on at once. */
void io_pass_breaks(bool on);
/* A request that is stopped, by its tag, or NULL. */
const char *io_suspended_tag(void);
void io_watch_breaks(void);

/* --- Terminal (input.c) --- */

/* The next line of standard input, the caller's until the next call; NULL at
 * its end. */
char *io_read_line(void);

#endif
