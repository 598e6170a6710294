/* SPDX-License-Identifier: MIT */
/* Text to be shown: names may have any bytes, a message is one line. */
#ifndef FIRN_TOOLS_ONE_LINE_H
#define FIRN_TOOLS_ONE_LINE_H

/*
 * A copy of @text in which control characters and what is not UTF-8 are
 * escaped (\n, \x1b), and of which the middle is left out when it is very
 * long. To be freed.
 */
char *one_line(const char *text);

/*
 * @text for standard output: as it is, which programs rely on, but on a
 * terminal as one_line(), so that a name in an image that somebody else has
 * made cannot move the cursor or change the title. To be freed.
 */
char *one_line_if_seen(const char *text);

#endif
