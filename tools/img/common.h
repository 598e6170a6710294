/* SPDX-License-Identifier: MIT */
/*
 * firn-img: what its subcommands share. Each subcommand is a function that
 * gets its own words (argv[0] is its name) and returns the exit status.
 * Everything runs on one thread with one AioContext; failures are told on
 * standard error, once, by img_error().
 */
#ifndef FIRN_TOOLS_IMG_COMMON_H
#define FIRN_TOOLS_IMG_COMMON_H

#include <errno.h>
#include <getopt.h>
#include <glib.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-glib/json-glib.h>

#include "block/block.h"
#include "block/info.h"

extern AioContext *img_ctx;
/* Go on with another context, while nothing is open. 0, or 1 after a message. */
int img_use_backend(AioBackend backend);

/* "firn-img: ", the text, newline; returns 1, the usual exit status. */
int img_error(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
/* The same with the text of @err, which is freed and cleared (NULL: @ret). */
int img_fail(GError **err, int ret);
/* The same for @filename, put in front if the text does not name it. */
int img_fail_in(const char *filename, GError **err, int ret);
/* WHAT, then that @value is none of @names (which end with NULL) and which of
 * them is near; returns 1. */
int img_refuse(const char *what, const char *value, const char *const *names);
void img_warn(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

/* Write what standard output still holds; returns @status, or 1 after a
 * message when that or an earlier part could not be written. */
int img_end_output(int status);

/*
 * What SIGINT and SIGTERM leave behind from here on, for the message: "%s is
 * incomplete". Loops look at aio_check_stop() and end with its -ECANCELED like
 * with any error, which img_error() and img_fail() then do not tell.
 */
void img_when_stopped(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
/* More about a signal that comes too late to undo anything: "; ...". */
void img_when_stopped_late(const char *text);
#define IMG_MAY_LEAK "; clusters that are not in use any more may leak, " \
                     "check -r leaks frees them"
/* If a signal came: tell. @done: everything was done nevertheless. */
void img_tell_stopped(const char *command, bool done);

/* Numbers of long options; those with a letter use that. */
enum {
    IMG_OPT_OBJECT = 256,
    IMG_OPT_IMAGE_OPTS,
    IMG_OPT_OUTPUT,
    IMG_OPT_FIRST,          /* of a subcommand's own */
};

#define IMG_COMMON_OPTIONS \
    { "help", no_argument, NULL, 'h' }, \
    { "object", required_argument, NULL, IMG_OPT_OBJECT }, \
    { "image-opts", no_argument, NULL, IMG_OPT_IMAGE_OPTS }

/*
 * getopt_long() that tells about mistakes. Returns the option, -1 at the end,
 * or '?' after a message (exit status 1). -h and --help end the process;
 * --object is done here and not returned: when there is no such object, optopt
 * is IMG_OPT_OBJECT besides the '?', and 0 after any other mistake.
 */
int img_getopt(int argc, char **argv, const char *letters,
               const struct option *options);
/* --help, from help.c: of subcommand @name, which takes these options, or of
 * the program. */
void img_print_help(const char *name, const char *letters,
                    const struct option *options);
/* Is @name that of a subcommand? */
bool img_is_command(const char *name);
/* Run the subcommand of these words; returns the exit status. */
int img_run_command(int argc, char **argv);

/* How the words of the command line name images. */
typedef struct ImgSource {
    const char *filename;
    const char *format;     /* NULL: probed */
    bool image_opts;        /* the filename is a list of options */
    unsigned flags;         /* BDRV_O_* */
    BdrvOptions *options;   /* more of them, consumed; NULL: none */
} ImgSource;

/* All that @src says (--image-opts, json:, the format) as options, a plain
 * filename aside. 0, or 1 after a message; free src->options in any case. */
int img_expand_source(ImgSource *src);
/* Open what @src says. NULL after a message. */
BlockBackend *img_open(const ImgSource *src);
/* Is file @name in the chain of @src, as far as that can be opened? */
bool img_chain_has_file(const ImgSource *src, const char *name);
/* Close; returns @status, or 1 after a message when it fails. */
int img_close(BlockBackend *blk, const char *filename, int status);
/* Cache mode @mode of option -@letter into *@flags. 0, or 1 after a message. */
int img_cache_mode(const char *mode, char letter, unsigned *flags);
/* Is @name the name of a format? 0, or 1 after a message. */
int img_check_format(const char *name);

/* A size as people write it, up to 2^63-1. 0, or 1 after a message that calls
 * it @what. */
int img_parse_size(const char *text, const char *what, uint64_t *ret);
/* A number in [@min, @max]. */
int img_parse_number(const char *text, const char *what, uint64_t min,
                     uint64_t max, uint64_t *ret);
/* --output: 0 with *@ret_json, or 1 after a message. */
int img_parse_output(const char *text, bool *ret_json);
/* "64 MiB", "2.19 MiB": three digits. To be freed. */
char *img_size_text(uint64_t bytes);

/* --- json.c --- */

/* @node with four blanks for each level and a newline at the end; takes the
 * reference. */
void img_print_json(JsonNode *node);
void img_print_json_object(JsonObject *o);

/* --- progress.c --- */

/* From now on SIGUSR1 asks for progress. */
void img_progress_listen(void);
/* Show "(12.34/100%)" with -p, and once at each SIGUSR1 in any case. */
void img_progress_start(bool enabled);
/* Take what is shown off a terminal, before something else is printed. */
void img_progress_clear(void);
/* BdrvProgressFunc. */
void img_progress(uint64_t done, uint64_t total, void *opaque);
/* @done: all of it, which shows as 100%. */
void img_progress_end(bool done);

/* --- optlist.c: the options that images are created with --- */

/* Print what -o help shows. @filename: options of files, too. 0, or 1. */
int img_print_create_help(const char *format, const char *filename);
void img_print_amend_help(const char *format);
/* Does a list of options ask for help? */
bool img_wants_help(const char *text);
/*
 * Parse -o lists (@texts, may be NULL) of a format. *@ret: the set. @amended:
 * NULL, or the image where only what can be amended counts. 0, or 1 after a
 * message.
 */
int img_parse_create_options(const char *format, GPtrArray *texts,
                             const char *amended, BdrvOptions **ret);
/*
 * Neither @filename, which is about to be emptied, nor @data_file (or NULL) may
 * be in the chain of @src, which is open as @backing (NULL: it is not, and need
 * not be there). Returns 0, or 1 after a message.
 */
int img_check_overwrite(const char *filename, const char *data_file,
                        const ImgSource *src, BlockBackend *backing);
/* The same for what is to be copied: without locks (-U) nothing else keeps it
 * from being emptied. */
int img_check_sources(const char *filename, const char *data_file,
                      BlockBackend *const *sources, unsigned nb);
/* Make an image; @o (consumed) has a size, which raw rounds up to sectors. 0, or
 * 1 after a message. */
int img_create_image(const char *format, const char *filename, BdrvOptions *o);
/* " cluster_size=65536 ..." as "Formatting" shows it, defaults included. */
char *img_describe_create(const char *format, const BdrvOptions *o);

/* --- snapshot.c --- */

/* -l: "snapshot.id=..,snapshot.name=..", an id or a name, as options of an
 * image. NULL after a message. */
BdrvOptions *img_snapshot_options(const char *text);
/* The table of info and snapshot -l; nothing for an empty list. */
void img_print_snapshots(const GPtrArray *list);

/* --- subcommands --- */

typedef int ImgCommandFunc(int argc, char **argv);

ImgCommandFunc img_amend, img_bench, img_bitmap, img_check, img_commit,
               img_compare, img_convert, img_create, img_dd, img_info,
               img_map, img_measure, img_rebase, img_resize, img_snapshot;

#endif
