/* SPDX-License-Identifier: MIT */
/*
 * Progress. The rate is an exponential moving average over time: a sample of
 * length dt has the weight 1 - exp(-dt / 2 s), approximated by dt / (dt + 2 s)
 * which needs no libm and is as smooth.
 */
#include "util/progress.h"

#include <string.h>

#include "util/units.h"

static const double smooth_ns = 2e9;
static const int64_t sample_ns = 100 * 1000 * 1000;

enum { MIN_WIDTH = 20, MIN_BAR = 10 };

void progress_init(Progress *p, uint64_t total, int64_t now_ns)
{
    *p = (Progress) { .total = total, .start_ns = now_ns, .last_ns = now_ns };
}

void progress_set_total(Progress *p, uint64_t total)
{
    p->total = total;
}

void progress_update(Progress *p, uint64_t current, int64_t now_ns)
{
    double sample, weight, dt;

    p->current = current;
    if (current < p->last_current || now_ns < p->last_ns) {
        p->last_current = current;
        p->last_ns = now_ns;
        p->rate = 0;
        return;
    }
    if (now_ns - p->last_ns < sample_ns) {
        return;
    }
    dt = (double)(now_ns - p->last_ns);
    sample = (double)(current - p->last_current) * 1e9 / dt;
    /* The first sample counts in full: there is nothing to smooth it with. */
    weight = p->last_ns == p->start_ns || p->rate == 0
             ? 1 : dt / (dt + smooth_ns);
    p->rate += (sample - p->rate) * weight;
    p->last_current = current;
    p->last_ns = now_ns;
}

double progress_fraction(const Progress *p)
{
    if (p->total == 0) {
        return 0;
    }
    return p->current >= p->total ? 1 : (double)p->current / (double)p->total;
}

uint64_t progress_rate(const Progress *p, int64_t now_ns)
{
    if (p->rate > 0) {
        return (uint64_t)p->rate;
    }
    if (now_ns <= p->start_ns) {
        return 0;
    }
    return (uint64_t)((double)p->current * 1e9 /
                      (double)(now_ns - p->start_ns));
}

int64_t progress_eta_seconds(const Progress *p, int64_t now_ns)
{
    uint64_t rate = progress_rate(p, now_ns);
    uint64_t left;

    if (p->total == 0) {
        return -1;
    }
    if (p->current >= p->total) {
        return 0;
    }
    left = p->total - p->current;
    if (rate == 0 || left / rate >= INT64_MAX) {
        return -1;
    }
    return (int64_t)(left / rate + (left % rate != 0));
}

/* ---- text ---- */

/* "0:07", "12:34", "1:02:03"; "9999h+" beyond. NULL if not known. */
static char *format_eta(int64_t seconds)
{
    if (seconds < 0) {
        return NULL;
    }
    if (seconds < 3600) {
        return g_strdup_printf("%d:%02d", (int)(seconds / 60),
                               (int)(seconds % 60));
    }
    if (seconds >= INT64_C(10000) * 3600) {
        return g_strdup("9999h+");
    }
    return g_strdup_printf("%d:%02d:%02d", (int)(seconds / 3600),
                           (int)(seconds / 60 % 60), (int)(seconds % 60));
}

static char *format_done(const Progress *p)
{
    g_autofree char *current = format_size(p->current);
    g_autofree char *total = p->total ? format_size(p->total) : NULL;

    return total ? g_strdup_printf(" %s / %s", current, total)
                 : g_strdup_printf(" %s", current);
}

/* " [####    ]" in @width columns, brackets and blank included. */
static void append_bar(GString *out, double fraction, unsigned width)
{
    unsigned cells = width - 3;
    unsigned full = (unsigned)(fraction * cells);

    g_string_append(out, " [");
    for (unsigned i = 0; i < cells; i++) {
        g_string_append_c(out, i < full ? '#' : ' ');
    }
    g_string_append_c(out, ']');
}

void progress_render(const Progress *p, int64_t now_ns, unsigned width,
                     GString *out)
{
    g_autofree char *done = format_done(p);
    g_autofree char *rate_size = format_size(progress_rate(p, now_ns));
    g_autofree char *rate = g_strdup_printf("  %s/s", rate_size);
    g_autofree char *eta_text = format_eta(progress_eta_seconds(p, now_ns));
    g_autofree char *eta = g_strdup_printf("%s%s", eta_text ? "  ETA " : "",
                                           eta_text ? eta_text : "");
    size_t start = out->len;
    size_t room = MAX(width, MIN_WIDTH);
    size_t need;

    if (p->total) {
        /* Rounded down: 100% is shown when all is done, not before. */
        g_string_append_printf(out, "%3d%%", (int)(progress_fraction(p) * 100));
    }
    need = out->len - start + strlen(done);
    if (need + strlen(rate) > room) {
        *rate = '\0';
    }
    need += strlen(rate);
    if (!*rate || need + strlen(eta) > room) {
        *eta = '\0';
    }
    need += strlen(eta);
    if (p->total && need + MIN_BAR + 3 <= room) {
        append_bar(out, progress_fraction(p), (unsigned)(room - need));
    }
    g_string_append_printf(out, "%s%s%s", done, rate, eta);
    g_string_truncate(out, MIN(out->len, start + room));
}
