/* SPDX-License-Identifier: MIT */
/*
 * See luks.h. The header is handed to libcryptsetup in a memory file, so no
 * device and no file of the user's is touched. The library keeps a log
 * callback of its own per process, hence one call at a time.
 *
 * A header decides how long a passphrase takes to try. One that wants far more
 * than any machine would have chosen is refused before that.
 */
#include "luks.h"

#include <errno.h>
#include <inttypes.h>
#include <libcryptsetup.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "util/compiler.h"
#include "util/error.h"

/* Of all passphrases together: a minute or so. */
#define MAX_ITERATIONS      100000000ull
#define MIN_ITERATIONS      1000
#define MAX_ITER_TIME_MS    100000
/* Iterations that are timed to learn how fast this machine is. */
#define BENCH_ITERATIONS    20000
/* Key slots, and what is behind them, begin on 4 KiB. */
#define ALIGNMENT           4096
#define STRIPES             4000

static GMutex library_lock;

/* ---- the library on a memory file ---- */

typedef struct LuksFile {
    int fd;
    struct crypt_device *cd;
    char *said;             /* last error of the library, or NULL */
} LuksFile;

static void keep_error(int level, const char *msg, void *opaque)
{
    LuksFile *f = opaque;

    if (f && level == CRYPT_LOG_ERROR) {
        g_free(f->said);
        f->said = g_strchomp(g_strdup(msg));
    }
}

/* Ends what luks_file_open() began, also when that failed. */
static void luks_file_close(LuksFile *f)
{
    crypt_free(f->cd);
    if (f->fd >= 0) {
        close(f->fd);
    }
    g_free(f->said);
    g_mutex_unlock(&library_lock);
}

static int say(LuksFile *f, int ret, const char *what, GError **errp)
{
    return set_error(errp, ret, "%s: %s", what,
                     f->said ? f->said : g_strerror(-ret));
}

/* From here to luks_file_close() the library is ours. */
static int luks_file_open(LuksFile *f, const uint8_t *header, size_t bytes,
                          GError **errp)
{
    char path[40];
    size_t done = 0;
    int ret = 0;

    g_mutex_lock(&library_lock);
    *f = (LuksFile) { .fd = memfd_create("luks", MFD_CLOEXEC) };
    if (f->fd < 0 || ftruncate(f->fd, bytes) < 0) {
        ret = -errno;
    }
    while (header && done < bytes && ret == 0) {
        ssize_t n = pwrite(f->fd, header + done, bytes - done, done);

        ret = n < 0 ? -errno : 0;
        done += n < 0 ? 0 : n;
    }
    if (ret < 0) {
        return say(f, ret, "cannot make a memory file", errp);
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
    crypt_set_log_callback(NULL, keep_error, NULL);
    ret = crypt_init(&f->cd, path);
    if (ret < 0) {
        return say(f, ret, "cannot use libcryptsetup", errp);
    }
    crypt_set_log_callback(f->cd, keep_error, f);
    return 0;
}

/* ---- open ---- */

static int check_cost(const uint8_t *h, size_t bytes, GError **errp)
{
    uint64_t n;

    if (bytes < LUKS_PHDR_BYTES || bytes > LUKS_MAX_HEADER) {
        return set_error(errp, -EINVAL, "a LUKS header of %zu bytes is "
                         "impossible", bytes);
    }
    n = be32_get(h + LUKS_DIGEST_ITER_AT);
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        n += luks_slot_is_active(h, i)
             ? be32_get(h + luks_slot_at(i) + LUKS_ITER_AT) : 0;
    }
    if (n > MAX_ITERATIONS) {
        return set_error(errp, -EINVAL, "the LUKS header wants %" PRIu64
                         " iterations for a passphrase, more than %llu", n,
                         MAX_ITERATIONS);
    }
    if (be32_get(h + LUKS_KEY_BYTES_AT) > LUKS_MAX_KEY) {
        return set_error(errp, -EINVAL, "the LUKS header has a key of %u "
                         "bytes", be32_get(h + LUKS_KEY_BYTES_AT));
    }
    return 0;
}

static int load(LuksFile *f, GError **errp)
{
    return crypt_load(f->cd, CRYPT_LUKS1, NULL) < 0
           ? say(f, -EINVAL, "the LUKS header is damaged", errp) : 0;
}

static int load_key(LuksFile *f, GBytes *passphrase, LuksKey *ret,
                    GError **errp)
{
    gsize n;
    const char *pass = g_bytes_get_data(passphrase, &n);
    int r = load(f, errp);

    if (r < 0) {
        return r;
    }
    ret->key_bytes = sizeof(ret->key);
    r = crypt_volume_key_get(f->cd, CRYPT_ANY_SLOT, (char *)ret->key,
                             &ret->key_bytes, pass ? pass : "", n);
    if (r == -EPERM || r == -ENOENT) {
        return set_error(errp, -EACCES,
                         "the passphrase does not open the image");
    }
    if (r < 0) {
        return say(f, r, "cannot get the key of the image", errp);
    }
    g_strlcpy(ret->cipher, crypt_get_cipher(f->cd), sizeof(ret->cipher));
    g_strlcpy(ret->mode, crypt_get_cipher_mode(f->cd), sizeof(ret->mode));
    return 0;
}

int luks_open(const uint8_t *header, size_t bytes, GBytes *passphrase,
              LuksKey *ret, GError **errp)
{
    LuksFile f;
    int r = check_cost(header, bytes, errp);

    if (r < 0) {
        return r;
    }
    r = luks_file_open(&f, header, bytes, errp);
    r = r < 0 ? r : load_key(&f, passphrase, ret, errp);
    luks_file_close(&f);
    return r;
}

/* ---- format ---- */

static double cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* The library would take seconds to find that out. */
static int count_iterations(const LuksParams *p, uint32_t *ret, GError **errp)
{
    const EVP_MD *md = EVP_get_digestbyname(p->hash);
    uint8_t out[LUKS_MAX_KEY];
    double start = cpu_seconds(), n;

    if (p->iter_time_ms > MAX_ITER_TIME_MS) {
        return set_error(errp, -EINVAL, "iter-time is 0 to %d milliseconds",
                         MAX_ITER_TIME_MS);
    }
    if (!md || PKCS5_PBKDF2_HMAC("benchmark", 9, (const uint8_t *)"salt", 4,
                                 BENCH_ITERATIONS, md, EVP_MD_get_size(md),
                                 out) != 1) {
        return set_error(errp, -EINVAL, "hash '%s' is not known", p->hash);
    }
    n = BENCH_ITERATIONS / MAX(cpu_seconds() - start, 1e-6) *
        p->iter_time_ms / 1000;
    /* The key is longer than a digest: that many times the work. */
    n /= DIV_ROUND_UP(p->key_bytes, (size_t)EVP_MD_get_size(md));
    *ret = CLAMP(n, MIN_ITERATIONS, MAX_ITERATIONS / 2);
    return 0;
}

static int set_kdf(LuksFile *f, const char *hash, uint32_t iterations)
{
    struct crypt_pbkdf_type kdf = { .type = CRYPT_KDF_PBKDF2,
                                    .hash = hash,
                                    .iterations = iterations,
                                    .flags = CRYPT_PBKDF_NO_BENCHMARK };

    return crypt_set_pbkdf_type(f->cd, &kdf);
}

/* @key NULL: that of the header just made. */
static int add_passphrase(LuksFile *f, unsigned slot, const uint8_t *key,
                          size_t key_bytes, GBytes *passphrase)
{
    gsize n;
    const char *pass = g_bytes_get_data(passphrase, &n);

    return crypt_keyslot_add_by_volume_key(f->cd, slot, (const char *)key,
                                           key_bytes, pass ? pass : "", n);
}

static int format_file(LuksFile *f, const LuksParams *p, uint32_t iterations,
                       GBytes *passphrase, GError **errp)
{
    struct crypt_params_luks1 luks = { .hash = p->hash,
                                       .data_alignment = ALIGNMENT / 512 };
    int ret = set_kdf(f, p->hash, iterations);

    ret = ret < 0 ? ret : crypt_format(f->cd, CRYPT_LUKS1, p->cipher, p->mode,
                                       NULL, NULL, p->key_bytes, &luks);
    ret = ret < 0 ? ret : add_passphrase(f, 0, NULL, p->key_bytes,
                                         passphrase);
    return ret < 0 ? say(f, ret, "cannot make a LUKS header", errp) : 0;
}

uint64_t luks_header_bytes(size_t key_bytes)
{
    return ALIGNMENT + LUKS_SLOTS * ROUND_UP((uint64_t)key_bytes * STRIPES,
                                             ALIGNMENT);
}

static int read_back(LuksFile *f, uint8_t *ret, size_t bytes, GError **errp)
{
    size_t done = 0;

    while (done < bytes) {
        ssize_t n = pread(f->fd, ret + done, bytes - done, done);

        if (n <= 0) {
            return say(f, n < 0 ? -errno : -EIO,
                       "cannot read the LUKS header", errp);
        }
        done += n;
    }
    return 0;
}

static int take_header(LuksFile *f, size_t bytes, GByteArray *ret,
                       GError **errp)
{
    if (crypt_get_data_offset(f->cd) * 512 != bytes) {
        return set_error(errp, -EINVAL, "the LUKS header has %" PRIu64
                         " bytes, not %zu",
                         (uint64_t)crypt_get_data_offset(f->cd) * 512, bytes);
    }
    g_byte_array_set_size(ret, bytes);
    return read_back(f, ret->data, bytes, errp);
}

int luks_format(const LuksParams *params, GBytes *passphrase, GByteArray *ret,
                GError **errp)
{
    size_t bytes = luks_header_bytes(params->key_bytes);
    uint32_t iterations = 0;
    LuksFile f;
    int r = count_iterations(params, &iterations, errp);

    if (r < 0) {
        return r;
    }
    r = luks_file_open(&f, NULL, 2 * bytes, errp);
    r = r < 0 ? r : format_file(&f, params, iterations, passphrase, errp);
    r = r < 0 ? r : take_header(&f, bytes, ret, errp);
    luks_file_close(&f);
    return r;
}

/* ---- slots ---- */

static void look_at_slot(const uint8_t *header, unsigned i, LuksMaterial *ret)
{
    const uint8_t *slot = header + luks_slot_at(i);

    ret->at = (uint64_t)be32_get(slot + LUKS_MATERIAL_AT) * LUKS_SECTOR;
    ret->bytes = ROUND_UP((uint64_t)be32_get(header + LUKS_KEY_BYTES_AT) *
                          STRIPES, LUKS_SECTOR);
}

int luks_find_material(const uint8_t *header, size_t bytes,
                       LuksMaterial ret[LUKS_SLOTS], GError **errp)
{
    LuksMaterial m[LUKS_SLOTS];
    int r = check_cost(header, bytes, errp);

    if (r < 0) {
        return r;
    }
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        bool bad = be32_get(header + luks_slot_at(i) + LUKS_STRIPES_AT) !=
                   STRIPES;

        look_at_slot(header, i, &m[i]);
        bad |= m[i].at < LUKS_PHDR_BYTES || m[i].at > bytes ||
               !m[i].bytes || m[i].bytes > bytes - m[i].at;
        for (unsigned k = 0; k < i; k++) {
            bad |= m[i].at < m[k].at + m[k].bytes &&
                   m[k].at < m[i].at + m[i].bytes;
        }
        if (bad) {
            return set_error(errp, -EINVAL, "key slot %u of the LUKS header "
                             "is damaged", i);
        }
    }
    memcpy(ret, m, sizeof(m));
    return 0;
}

static int match_slot(LuksFile *f, unsigned slot, GBytes *passphrase)
{
    char key[LUKS_MAX_KEY];
    size_t key_bytes = sizeof(key);
    gsize n;
    const char *pass = g_bytes_get_data(passphrase, &n);
    int r = crypt_volume_key_get(f->cd, slot, key, &key_bytes,
                                 pass ? pass : "", n);

    explicit_bzero(key, sizeof(key));
    return r;
}

int luks_match_slots(const uint8_t *header, size_t bytes, unsigned candidates,
                     GBytes *passphrase, unsigned *ret, GError **errp)
{
    unsigned found = 0;
    LuksFile f;
    int r = check_cost(header, bytes, errp);

    if (r < 0) {
        return r;
    }
    r = luks_file_open(&f, header, bytes, errp);
    r = r < 0 ? r : load(&f, errp);
    for (unsigned i = 0; i < LUKS_SLOTS && r == 0; i++) {
        int got = candidates & 1u << i ? match_slot(&f, i, passphrase)
                                       : -EPERM;

        found |= got >= 0 ? 1u << i : 0;
        if (got < 0 && got != -EPERM && got != -ENOENT) {
            r = say(&f, got, "cannot try the passphrase", errp);
        }
    }
    luks_file_close(&f);
    *ret = r < 0 ? *ret : found;
    return r;
}

static int change_slot(LuksFile *f, const LuksKey *key, unsigned slot,
                       const char *hash, uint32_t iterations,
                       GBytes *passphrase, GError **errp)
{
    int r = load(f, errp);

    if (r < 0) {
        return r;
    }
    r = set_kdf(f, hash, iterations);
    r = r < 0 ? r : add_passphrase(f, slot, key->key, key->key_bytes,
                                   passphrase);
    return r < 0 ? say(f, r, "cannot add the passphrase", errp) : 0;
}

int luks_set_slot(uint8_t *header, size_t bytes, const LuksKey *key,
                  unsigned slot, GBytes *passphrase, uint64_t iter_time_ms,
                  GError **errp)
{
    char hash[LUKS_PAYLOAD_AT - LUKS_HASH_AT + 1] = { 0 };
    const LuksParams p = { .hash = hash, .key_bytes = key->key_bytes,
                           .iter_time_ms = iter_time_ms };
    uint32_t iterations = 0;
    LuksFile f;
    int r;

    memcpy(hash, header + LUKS_HASH_AT, sizeof(hash) - 1);
    r = count_iterations(&p, &iterations, errp);
    if (r < 0) {
        return r;
    }
    /* The library adds to free slots only. */
    be32_put(header + luks_slot_at(slot), LUKS_SLOT_INACTIVE);
    r = luks_file_open(&f, header, bytes, errp);
    r = r < 0 ? r : change_slot(&f, key, slot, hash, iterations, passphrase,
                                errp);
    r = r < 0 ? r : read_back(&f, header, bytes, errp);
    luks_file_close(&f);
    return r < 0 ? r : check_cost(header, bytes, errp);
}
