/* SPDX-License-Identifier: MIT */
/*
 * Encrypted images: the key of a LUKS header, and guest data through it.
 *
 * All guest data of an encrypted image that is not compressed is encrypted by
 * sectors of 512 bytes; the sector number is that of the host offset, so data
 * is encrypted again wherever it moves. Metadata is plain, and so are streams:
 * other tools leave them readable without the key, which is why this driver
 * reads but never writes them (compress-write.c).
 *
 * Encrypted bytes exist in buffers of ours only, never in the guest's memory,
 * one piece of at most CHUNK at a time; large pieces are worked on in the
 * thread pool. Whoever writes is aligned to sectors: the guest because the
 * node says so (request_alignment), copy-on-write because a cluster is, and
 * vmstate through qcow2_crypto_write_any().
 *
 * A node that is opened to be checked, or described, needs no key; its guest
 * data can then not be read or written.
 */
#include "qcow2_int.h"

#include <openssl/evp.h>

#include "block/secret.h"
#include "luks.h"
#include "util/thread-pool.h"

#define CHUNK        (1024u * 1024)
/* Less is done at once: a thread would take longer to wake. */
#define INLINE_BYTES (32u * 1024)
#define IV_BYTES     16

struct Qcow2Crypto {
    EVP_CIPHER *cipher;
    EVP_CIPHER *essiv;          /* NULL: the sector number is the IV */
    bool short_sector;          /* "plain": 32 bits of it */
    LuksKey key;
    uint8_t essiv_key[EVP_MAX_MD_SIZE];
    CoMutex unaligned;          /* one write of parts of sectors at a time */
};

void qcow2_crypto_free(Qcow2Crypto *c)
{
    if (c) {
        EVP_CIPHER_free(c->cipher);
        EVP_CIPHER_free(c->essiv);
        co_mutex_destroy(&c->unaligned);
        explicit_bzero(c, sizeof(*c));
        g_free(c);
    }
}

const LuksKey *qcow2_crypto_key(const Qcow2Crypto *c)
{
    return &c->key;
}

/* ---- what a header's cipher is to libcrypto ---- */

static int set_essiv(Qcow2Crypto *c, const char *hash)
{
    unsigned n = 0;
    char name[24];
    const EVP_MD *md = EVP_get_digestbyname(hash);

    if (!md || EVP_Digest(c->key.key, c->key.key_bytes, c->essiv_key, &n, md,
                          NULL) != 1) {
        return -ENOTSUP;
    }
    g_snprintf(name, sizeof(name), "AES-%u-ECB", n * 8);
    c->essiv = EVP_CIPHER_fetch(NULL, name, NULL);
    return c->essiv ? 0 : -ENOTSUP;
}

static int set_ivgen(Qcow2Crypto *c, const char *ivgen)
{
    c->short_sector = !strcmp(ivgen, "plain");
    if (c->short_sector || !strcmp(ivgen, "plain64")) {
        return 0;
    }
    return g_str_has_prefix(ivgen, "essiv:") ? set_essiv(c, ivgen + 6)
                                             : -ENOTSUP;
}

/* AES in XTS or CBC mode, with IVs of sector numbers. */
static int set_cipher(Qcow2Crypto *c, GError **errp)
{
    const char *dash = strchr(c->key.mode, '-');
    bool xts = g_str_has_prefix(c->key.mode, "xts-");
    unsigned bits = c->key.key_bytes * 8 / (xts ? 2 : 1);
    char name[24];
    int ret = -ENOTSUP;

    if (!strcmp(c->key.cipher, "aes") && dash &&
        (xts || g_str_has_prefix(c->key.mode, "cbc-"))) {
        g_snprintf(name, sizeof(name), "AES-%u-%s", bits, xts ? "XTS"
                                                              : "CBC");
        c->cipher = EVP_CIPHER_fetch(NULL, name, NULL);
        ret = c->cipher ? set_ivgen(c, dash + 1) : -ENOTSUP;
    }
    return ret < 0 ? set_error(errp, ret, "cipher %s-%s with a key of %zu "
                               "bits is not supported", c->key.cipher,
                               c->key.mode, c->key.key_bytes * 8) : 0;
}

static Qcow2Crypto *crypto_new(void)
{
    Qcow2Crypto *c = g_new0(Qcow2Crypto, 1);

    co_mutex_init(&c->unaligned);
    return c;
}

int qcow2_crypto_can_do(const char *cipher, const char *mode,
                        size_t key_bytes, GError **errp)
{
    Qcow2Crypto *probe = crypto_new();
    int ret;

    g_strlcpy(probe->key.cipher, cipher, sizeof(probe->key.cipher));
    g_strlcpy(probe->key.mode, mode, sizeof(probe->key.mode));
    probe->key.key_bytes = MIN(key_bytes, LUKS_MAX_KEY);
    ret = set_cipher(probe, errp);
    qcow2_crypto_free(probe);
    return ret;
}

/* ---- sectors ---- */

typedef struct CryptJob {
    const Qcow2Crypto *c;
    uint8_t *buf;
    uint64_t bytes;
    uint64_t sector;
    bool encrypt;
} CryptJob;

static bool make_iv(const Qcow2Crypto *c, EVP_CIPHER_CTX *essiv,
                    uint64_t sector, uint8_t *iv)
{
    uint8_t plain[IV_BYTES] = { 0 };
    uint64_t le = GUINT64_TO_LE(c->short_sector ? (uint32_t)sector : sector);
    int n;

    memcpy(plain, &le, sizeof(le));
    if (essiv) {
        return EVP_EncryptUpdate(essiv, iv, &n, plain, IV_BYTES) == 1;
    }
    memcpy(iv, plain, IV_BYTES);
    return true;
}

static int crypt_job(void *opaque)
{
    CryptJob *j = opaque;
    const Qcow2Crypto *c = j->c;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    EVP_CIPHER_CTX *essiv = c->essiv ? EVP_CIPHER_CTX_new() : NULL;
    bool ok = ctx && (!c->essiv || essiv);
    uint8_t iv[IV_BYTES];
    int n;

    ok = ok && EVP_CipherInit_ex2(ctx, c->cipher, c->key.key, NULL,
                                  j->encrypt, NULL) == 1;
    ok = ok && EVP_CIPHER_CTX_set_padding(ctx, 0) == 1;
    ok = ok && (!essiv || EVP_EncryptInit_ex2(essiv, c->essiv, c->essiv_key,
                                              NULL, NULL) == 1);
    for (uint64_t at = 0; at < j->bytes && ok; at += QCOW2_SECTOR) {
        ok = make_iv(c, essiv, j->sector + at / QCOW2_SECTOR, iv) &&
             EVP_CipherInit_ex2(ctx, NULL, NULL, iv, -1, NULL) == 1 &&
             EVP_CipherUpdate(ctx, j->buf + at, &n, j->buf + at,
                              QCOW2_SECTOR) == 1;
    }
    EVP_CIPHER_CTX_free(essiv);
    EVP_CIPHER_CTX_free(ctx);
    return ok ? 0 : -EIO;
}

/* Whole sectors from @host_offset on, in place. */
static int coroutine_fn crypt_buffer(Qcow2State *s, uint64_t host_offset,
                                     uint64_t bytes, uint8_t *buf,
                                     bool encrypt)
{
    CryptJob j = { s->crypto, buf, bytes, host_offset / QCOW2_SECTOR,
                   encrypt };

    return bytes <= INLINE_BYTES ? crypt_job(&j)
                                 : thread_pool_co_run(crypt_job, &j);
}

/* ---- guest data ---- */

static uint8_t *chunk_alloc(uint64_t bytes)
{
    return blk_try_memalign(MIN(bytes, CHUNK));
}

int coroutine_fn qcow2_crypto_preadv(Qcow2State *s, uint64_t host_offset,
                                     uint64_t bytes, QEMUIOVector *qiov,
                                     size_t qiov_offset)
{
    uint64_t at = ROUND_DOWN(host_offset, (uint64_t)QCOW2_SECTOR);
    uint64_t end = host_offset + bytes;
    uint64_t last = ROUND_UP(end, (uint64_t)QCOW2_SECTOR);
    uint8_t *buf;
    int ret = 0;

    if (!s->crypto) {
        return -EACCES; /* opened without the key */
    }
    buf = chunk_alloc(last - at);
    if (!buf) {
        return -ENOMEM;
    }
    for (uint64_t n; at < last && ret == 0; at += n) {
        uint64_t from = MAX(at, host_offset);

        n = MIN(last - at, CHUNK);
        ret = bdrv_co_pread(s->data_file, at, n, buf, 0);
        ret = ret < 0 ? ret : crypt_buffer(s, at, n, buf, false);
        if (ret == 0) {
            qemu_iovec_from_buf(qiov, qiov_offset + (from - host_offset),
                                buf + (from - at), MIN(end, at + n) - from);
        }
    }
    free(buf);
    return ret;
}

int coroutine_fn qcow2_crypto_pwritev(Qcow2State *s, uint64_t host_offset,
                                      uint64_t bytes, QEMUIOVector *qiov,
                                      size_t qiov_offset)
{
    uint8_t *buf;
    int ret = 0;

    if (!s->crypto) {
        return -EACCES;
    }
    assert(IS_ALIGNED(host_offset | bytes, QCOW2_SECTOR));
    buf = chunk_alloc(bytes);
    if (!buf) {
        return -ENOMEM;
    }
    for (uint64_t done = 0, n; done < bytes && ret == 0; done += n) {
        n = MIN(bytes - done, CHUNK);
        qemu_iovec_to_buf(qiov, qiov_offset + done, buf, n);
        ret = crypt_buffer(s, host_offset + done, n, buf, true);
        ret = ret < 0 ? ret : bdrv_co_pwrite(s->data_file, host_offset + done,
                                             n, buf, 0);
    }
    free(buf);
    return ret;
}

/* The sector at guest offset @at as it is now. */
static int coroutine_fn read_sector(Qcow2State *s, uint64_t at, uint8_t *buf)
{
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, buf, QCOW2_SECTOR);
    return qcow2_read_range(s, at, QCOW2_SECTOR, &qiov, 0);
}

static int coroutine_fn write_unaligned(Qcow2State *s, uint64_t guest_offset,
                                        uint64_t bytes, QEMUIOVector *qiov)
{
    uint64_t start = ROUND_DOWN(guest_offset, (uint64_t)QCOW2_SECTOR);
    uint64_t end = ROUND_UP(guest_offset + bytes, (uint64_t)QCOW2_SECTOR);
    uint64_t last = end - QCOW2_SECTOR;
    uint8_t *buf = blk_try_memalign(end - start);
    QEMUIOVector whole;
    int ret = buf ? 0 : -ENOMEM;

    ret = ret < 0 ? ret : read_sector(s, start, buf);
    if (ret == 0 && last > start) {
        ret = read_sector(s, last, buf + (last - start));
    }
    if (ret == 0) {
        qemu_iovec_to_buf(qiov, 0, buf + (guest_offset - start), bytes);
        qemu_iovec_init_buf(&whole, buf, end - start);
        ret = qcow2_write_range(s, start, end - start, &whole);
    }
    free(buf);
    return ret;
}

int coroutine_fn qcow2_crypto_write_any(Qcow2State *s, uint64_t guest_offset,
                                        uint64_t bytes, QEMUIOVector *qiov)
{
    int ret;

    if (!s->crypto || IS_ALIGNED(guest_offset | bytes, QCOW2_SECTOR)) {
        return qcow2_write_range(s, guest_offset, bytes, qiov);
    }
    co_mutex_lock(&s->crypto->unaligned);
    ret = write_unaligned(s, guest_offset, bytes, qiov);
    co_mutex_unlock(&s->crypto->unaligned);
    return ret;
}

/* ---- opening ---- */

typedef struct OpenJob {
    const uint8_t *header;
    size_t bytes;
    GBytes *passphrase;
    LuksKey *key;
    GError *error;
} OpenJob;

static int open_job(void *opaque)
{
    OpenJob *j = opaque;

    return luks_open(j->header, j->bytes, j->passphrase, j->key, &j->error);
}

int coroutine_fn qcow2_crypto_read_header(Qcow2State *s, uint8_t **ret,
                                          GError **errp)
{
    uint64_t bytes = s->ext.crypto_length;
    uint8_t *buf;
    int r;

    if (!s->ext.crypto_offset || !bytes || bytes > LUKS_MAX_HEADER) {
        return set_error(errp, -EINVAL, "the image is encrypted but names no "
                         "LUKS header");
    }
    buf = blk_try_memalign(bytes);
    if (!buf) {
        return set_error(errp, -ENOMEM, "no memory for the LUKS header");
    }
    r = bdrv_co_pread(s->bs->file, s->ext.crypto_offset, bytes, buf, 0);
    if (r < 0) {
        free(buf);
        return set_error(errp, r, "cannot read the LUKS header: %s",
                         g_strerror(-r));
    }
    *ret = buf;
    return 0;
}

static int coroutine_fn open_header(Qcow2State *s, GBytes *passphrase,
                                    LuksKey *ret, GError **errp)
{
    OpenJob j = { .bytes = s->ext.crypto_length, .passphrase = passphrase,
                  .key = ret };
    uint8_t *buf;
    int r = qcow2_crypto_read_header(s, &buf, errp);

    if (r < 0) {
        return r;
    }
    j.header = buf;
    r = thread_pool_co_run(open_job, &j);
    if (j.error) {
        g_propagate_error(errp, j.error);
    }
    free(buf);
    return r;
}

/* The options' answer to how the image is encrypted. *@ret_id NULL: none. */
static int take_options(const Qcow2State *s, BdrvOptions *o, unsigned flags,
                        char **ret_id, GError **errp)
{
    g_autofree char *format = bdrv_options_take(o, "encrypt.format");
    g_autofree char *id = bdrv_options_take(o, "encrypt.key-secret");

    if (!s->hdr.crypt_method && (format || id)) {
        return set_error(errp, -EINVAL, "the image is not encrypted, but "
                         "encrypt.%s is given", id ? "key-secret" : "format");
    }
    if (s->hdr.crypt_method == 1 && !(flags & BDRV_O_NO_IO)) {
        return set_error(errp, -ENOTSUP, "AES encrypted images (the legacy "
                         "format) are not supported");
    }
    if (format && strcmp(format, "luks")) {
        return set_error(errp, -EINVAL, "the image is encrypted with luks, "
                         "not '%s'", format);
    }
    *ret_id = g_steal_pointer(&id);
    return 0;
}

int coroutine_fn qcow2_crypto_open(Qcow2State *s, BdrvOptions *options,
                                   unsigned flags, GError **errp)
{
    g_autoptr(GBytes) passphrase = NULL;
    g_autofree char *id = NULL;
    Qcow2Crypto *c;
    int ret = take_options(s, options, flags, &id, errp);

    if (ret < 0 || !s->hdr.crypt_method) {
        return ret;
    }
    if (!id || s->hdr.crypt_method == 1) {
        return flags & (BDRV_O_CHECK | BDRV_O_NO_IO) ? 0
               : set_error(errp, -EACCES, "the image is encrypted: option "
                           "encrypt.key-secret must name its passphrase");
    }
    ret = secret_lookup(id, &passphrase, errp);
    if (ret < 0) {
        return ret;
    }
    c = crypto_new();
    ret = open_header(s, passphrase, &c->key, errp);
    ret = ret < 0 ? ret : set_cipher(c, errp);
    if (ret < 0) {
        qcow2_crypto_free(c);
        return ret;
    }
    s->crypto = c;
    return 0;
}
