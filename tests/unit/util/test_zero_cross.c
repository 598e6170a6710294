/* SPDX-License-Identifier: MIT */
/*
 * Zero detection on an architecture for which there is no glib and no cmocka
 * (scripts/test-aarch64): every variant, every length and position.
 */
#include "util/zero.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { MAX_LEN = 300, MAX_SHIFT = 33 };

static uint8_t area[MAX_LEN + 2 * MAX_SHIFT];

/* Wrong answers for @len bytes at @buf, in surroundings that are not zero. */
static unsigned wrong_at(const ZeroVariant *v, uint8_t *buf, size_t len)
{
    unsigned wrong = 0;

    memset(area, 0xff, sizeof(area));
    memset(buf, 0, len);
    wrong += !v->is_zero(buf, len);
    for (size_t pos = 0; pos < len; pos++) {
        buf[pos] = (uint8_t)(1u << (pos % 8));
        wrong += v->is_zero(buf, len);
        buf[pos] = 0;
    }
    memset(buf, 0x5a, len);
    wrong += !v->is_filled(buf, 0x5a, len);
    for (size_t pos = 0; pos < len; pos++) {
        buf[pos] = 0x5b;
        wrong += v->is_filled(buf, 0x5a, len);
        buf[pos] = 0x5a;
    }
    return wrong;
}

int main(void)
{
    unsigned tested = 0, wrong = 0;

    for (const ZeroVariant *v = buffer_is_zero_variants(); v->name; v++) {
        if (!v->supported()) {
            continue;
        }
        tested++;
        for (size_t shift = 0; shift < MAX_SHIFT; shift++) {
            for (size_t len = 0; len <= MAX_LEN; len++) {
                wrong += wrong_at(v, area + shift, len);
            }
        }
        printf("%s ", v->name);
    }
    printf("test_zero_cross: %u variants, %u wrong answers\n", tested, wrong);
    return wrong || tested < 2;
}
