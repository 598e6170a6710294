/* SPDX-License-Identifier: MIT */
/*
 * The passphrases of encrypted images. Each of the 8 key slots of a LUKS header
 * is off, or on and has the volume key under one passphrase; that key, and so
 * what the guest wrote, never changes.
 *
 * The slots are changed where they are. Lose power after any write, and each
 * slot that is on has key material that is whole:
 *  (S1) A slot goes on after its salt and key material are durable.
 *  (S2) A slot is off, durably, before its salt or key material changes.
 *  (S3) A slot that is on and gets another passphrase first lends it to one
 *       that is off. So the old one or the new one opens the image at any
 *       time, even if there is no other.
 * On and off is one number of 32 bits inside of one sector, written alone; a
 * salt may be in two. With all 8 slots on there is none to borrow for S3: then
 * the other 7 open the image while the slot is off.
 *
 * S3 can copy: key material is encrypted by the number of a sector in the slot,
 * not in the file.
 *
 * A power cut can leave a slot off whose key material was not wiped yet, or a
 * borrowed one on. Erasing it (by force, as it is off) ends that.
 */
#include "qcow2_int.h"

#include <openssl/rand.h>

#include "block/secret.h"
#include "luks.h"
#include "util/nearest.h"
#include "util/thread-pool.h"

#define ITER_TIME_MS 2000
#define ANY_SLOT     LUKS_SLOTS
#define ALL_SLOTS    ((1u << LUKS_SLOTS) - 1)

struct Qcow2CryptoAmend {
    bool activate;
    bool force;
    unsigned slot;              /* ANY_SLOT: none is named */
    uint64_t iter_time_ms;
    GBytes *passphrase;         /* to add, or what is to be erased; NULL:
                                   whatever the slot has */

    /* qcow2_crypto_prepare_amend() */
    uint8_t *header;            /* as it is to be */
    size_t bytes;
    LuksMaterial material[LUKS_SLOTS];
    const LuksKey *key;
    unsigned active;            /* slots that are on in the file, as bits */
    unsigned change;            /* slots to switch */
    GError *error;
};

void qcow2_crypto_amend_free(Qcow2CryptoAmend *a)
{
    if (a) {
        g_clear_pointer(&a->passphrase, g_bytes_unref);
        if (a->header) {
            explicit_bzero(a->header, a->bytes);
            free(a->header);
        }
        g_clear_error(&a->error);
        g_free(a);
    }
}

/* ---- options ---- */

typedef struct AmendTexts {
    char *state;
    char *new_secret;
    char *old_secret;
    bool slot;
    bool iter_time;
} AmendTexts;

static int check_texts(const AmendTexts *t, GError **errp)
{
    if (!t->state) {
        return set_error(errp, -EINVAL, "changing the passphrases needs "
                         "encrypt.state=active or encrypt.state=inactive");
    }
    if (!strcmp(t->state, "active")) {
        return !t->new_secret
               ? set_error(errp, -EINVAL, "encrypt.state=active needs "
                           "encrypt.new-secret") : t->old_secret
               ? set_error(errp, -EINVAL, "encrypt.old-secret is for "
                           "encrypt.state=inactive; encrypt.keyslot names the "
                           "slot to set") : 0;
    }
    if (strcmp(t->state, "inactive")) {
        return bdrv_options_refuse("encrypt.state", t->state,
                                   NEAREST_LIST("active", "inactive"), errp);
    }
    if (t->new_secret || t->iter_time) {
        return set_error(errp, -EINVAL, "encrypt.%s is for "
                         "encrypt.state=active",
                         t->new_secret ? "new-secret" : "iter-time");
    }
    return t->old_secret || t->slot ? 0
           : set_error(errp, -EINVAL, "encrypt.state=inactive needs "
                       "encrypt.keyslot or encrypt.old-secret");
}

static int check_image(const Qcow2State *s, GError **errp)
{
    if (s->hdr.crypt_method != 2) {
        return set_error(errp, -EINVAL, "the image is not encrypted with "
                         "LUKS; it has no passphrases to change");
    }
    return s->crypto ? 0
           : set_error(errp, -EACCES, "the image was opened without its key; "
                       "option encrypt.key-secret must name a passphrase");
}

static int take_values(Qcow2CryptoAmend *a, const AmendTexts *t,
                       BdrvOptions *o, GError **errp)
{
    uint64_t slot;
    int ret = bdrv_options_take_u64(o, "encrypt.keyslot", ANY_SLOT, &slot,
                                    errp);

    ret = ret < 0 ? ret : bdrv_options_take_u64(o, "encrypt.iter-time",
                                                ITER_TIME_MS,
                                                &a->iter_time_ms, errp);
    ret = ret < 0 ? ret : check_texts(t, errp);
    if (ret == 0 && t->slot && slot >= LUKS_SLOTS) {
        ret = set_error(errp, -EINVAL, "encrypt.keyslot is 0 to %u, not %"
                        PRIu64, LUKS_SLOTS - 1, slot);
    }
    if (ret < 0) {
        return ret;
    }
    a->activate = t->new_secret;
    a->slot = (unsigned)slot;
    return t->new_secret || t->old_secret
           ? secret_lookup(a->activate ? t->new_secret : t->old_secret,
                           &a->passphrase, errp) : 0;
}

int qcow2_crypto_take_amend(const Qcow2State *s, BdrvOptions *o, bool force,
                            Qcow2CryptoAmend **ret, GError **errp)
{
    AmendTexts t = {
        .state = bdrv_options_take(o, "encrypt.state"),
        .new_secret = bdrv_options_take(o, "encrypt.new-secret"),
        .old_secret = bdrv_options_take(o, "encrypt.old-secret"),
        .slot = bdrv_options_get(o, "encrypt.keyslot"),
        .iter_time = bdrv_options_get(o, "encrypt.iter-time"),
    };
    Qcow2CryptoAmend *a = NULL;
    int r = 0;

    if (t.state || t.new_secret || t.old_secret || t.slot || t.iter_time) {
        a = g_new0(Qcow2CryptoAmend, 1);
        a->force = force;
        r = check_image(s, errp);
        r = r < 0 ? r : take_values(a, &t, o, errp);
    }
    g_free(t.state);
    g_free(t.new_secret);
    g_free(t.old_secret);
    if (r < 0) {
        qcow2_crypto_amend_free(a);
        return prefix_error(errp, r, "%s: ", s->bs->filename);
    }
    *ret = a;
    return 0;
}

/* ---- what is to change; in a worker ---- */

static int first_inactive(const Qcow2CryptoAmend *a)
{
    return g_bit_nth_lsf(~a->active & ALL_SLOTS, -1);
}

static int prepare_set(Qcow2CryptoAmend *a)
{
    if (a->slot == ANY_SLOT) {
        if (a->active == ALL_SLOTS) {
            return set_error(&a->error, -ENOSPC, "all %u key slots are in use; "
                             "erase one, or name the one to overwrite with "
                             "encrypt.keyslot, and force it", LUKS_SLOTS);
        }
        a->slot = first_inactive(a);
    } else if ((a->active & 1u << a->slot) && !a->force) {
        return set_error(&a->error, -EEXIST, "key slot %u is in use; erase it "
                         "first, or force it", a->slot);
    }
    a->change = 1u << a->slot;
    return luks_set_slot(a->header, a->bytes, a->key, a->slot, a->passphrase,
                         a->iter_time_ms, &a->error);
}

static int prepare_erase(Qcow2CryptoAmend *a)
{
    unsigned all = a->slot == ANY_SLOT ? ALL_SLOTS : 1u << a->slot;
    int ret = 0;

    a->change = all;
    if (a->passphrase) {
        ret = luks_match_slots(a->header, a->bytes, all & a->active,
                               a->passphrase, &a->change, &a->error);
    }
    if (ret < 0) {
        return ret;
    }
    if (!a->change) {
        return a->slot == ANY_SLOT
               ? set_error(&a->error, -ENOENT, "the passphrase of "
                           "encrypt.old-secret is in no key slot")
               : set_error(&a->error, -ENOENT, "the passphrase of "
                           "encrypt.old-secret is not in key slot %u",
                           a->slot);
    }
    if (!a->force && !(a->change & a->active)) {
        return set_error(&a->error, -ENOENT, "key slot %u is not in use; "
                         "force it to wipe it once more", a->slot);
    }
    if (!a->force && !(a->active & ~a->change)) {
        return set_error(&a->error, -EBUSY, "no other passphrase would be "
                         "left, and nothing could ever be read again; add one "
                         "first, or force it");
    }
    return 0;
}

static int prepare_job(void *opaque)
{
    Qcow2CryptoAmend *a = opaque;
    int ret = luks_find_material(a->header, a->bytes, a->material, &a->error);

    for (unsigned i = 0; i < LUKS_SLOTS && ret == 0; i++) {
        a->active |= luks_slot_is_active(a->header, i) ? 1u << i : 0;
    }
    return ret < 0 ? ret : a->activate ? prepare_set(a) : prepare_erase(a);
}

static int coroutine_fn prepare(Qcow2State *s, Qcow2CryptoAmend *a,
                                GError **errp)
{
    int ret = qcow2_crypto_read_header(s, &a->header, errp);

    if (ret < 0) {
        return ret;
    }
    a->bytes = s->ext.crypto_length;
    a->key = qcow2_crypto_key(s->crypto);
    ret = thread_pool_co_run(prepare_job, a);
    if (ret < 0) {
        g_propagate_error(errp, g_steal_pointer(&a->error));
        return ret;
    }
    ret = aio_check_stop(); /* it took long, and nothing is changed yet */
    return ret < 0 ? set_error(errp, ret, "interrupted") : 0;
}

int coroutine_fn qcow2_crypto_prepare_amend(Qcow2State *s,
                                            Qcow2CryptoAmend *a,
                                            GError **errp)
{
    int ret = a ? prepare(s, a, errp) : 0;

    return ret < 0 ? prefix_error(errp, ret, "%s: ", s->bs->filename) : 0;
}

/* ---- writing ---- */

static int coroutine_fn put(Qcow2State *s, uint64_t at, size_t bytes,
                            const void *buf)
{
    return bdrv_co_pwrite(s->bs->file, s->ext.crypto_offset + at, bytes, buf,
                          0);
}

static int coroutine_fn flush(Qcow2State *s)
{
    return bdrv_co_flush(s->bs->file->bs);
}

/* Durable when it returns 0. */
static int coroutine_fn switch_slots(Qcow2State *s, unsigned slots, bool on)
{
    uint8_t be[4];
    int ret = 0;

    be32_put(be, on ? LUKS_SLOT_ACTIVE : LUKS_SLOT_INACTIVE);
    for (unsigned i = 0; i < LUKS_SLOTS && ret == 0; i++) {
        if (slots & 1u << i) {
            ret = put(s, luks_slot_at(i) + LUKS_STATE_AT, sizeof(be), be);
        }
    }
    return ret < 0 ? ret : flush(s);
}

/* Iterations and salt in @text, and key material, of a slot that is off. */
static int coroutine_fn put_slot(Qcow2State *s, const Qcow2CryptoAmend *a,
                                 unsigned slot, const uint8_t *text,
                                 const uint8_t *material)
{
    int ret = put(s, luks_slot_at(slot) + LUKS_ITER_AT,
                  LUKS_MATERIAL_AT - LUKS_ITER_AT, text);

    return ret < 0 ? ret : put(s, a->material[slot].at,
                               a->material[slot].bytes, material);
}

/* Give @slot, which is off, the passphrase that was prepared. */
static int coroutine_fn set_slot(Qcow2State *s, const Qcow2CryptoAmend *a,
                                 unsigned slot)
{
    int ret = put_slot(s, a, slot,
                       a->header + luks_slot_at(a->slot) + LUKS_ITER_AT,
                       a->header + a->material[a->slot].at);

    ret = ret < 0 ? ret : flush(s); /* S1 */
    return ret < 0 ? ret : switch_slots(s, 1u << slot, true);
}

static int coroutine_fn erase_slots(Qcow2State *s, const Qcow2CryptoAmend *a,
                                    unsigned slots)
{
    static const uint8_t zeroes[LUKS_MATERIAL_AT];
    int ret = switch_slots(s, slots, false); /* S2 */

    for (unsigned i = 0; i < LUKS_SLOTS && ret == 0; i++) {
        size_t bytes = a->material[i].bytes;
        uint8_t *noise;

        if (!(slots & 1u << i)) {
            continue;
        }
        noise = blk_try_memalign(bytes);
        if (!noise) {
            return -ENOMEM;
        }
        ret = RAND_bytes(noise, (int)bytes) == 1
              ? put_slot(s, a, i, zeroes, noise) : -EIO;
        free(noise);
    }
    return ret < 0 ? ret : flush(s);
}

static int coroutine_fn overwrite_slot(Qcow2State *s,
                                       const Qcow2CryptoAmend *a)
{
    int spare = first_inactive(a);
    int ret = spare < 0 ? 0 : set_slot(s, a, spare); /* S3 */

    ret = ret < 0 ? ret : switch_slots(s, a->change, false); /* S2 */
    ret = ret < 0 ? ret : set_slot(s, a, a->slot);
    return ret < 0 || spare < 0 ? ret : erase_slots(s, a, 1u << spare);
}

int coroutine_fn qcow2_crypto_amend(Qcow2State *s, Qcow2CryptoAmend *a,
                                    GError **errp)
{
    int ret;

    if (!a) {
        return 0;
    }
    ret = qcow2_check_overlap(s, QCOW2_OL_CRYPT_HEADER, s->ext.crypto_offset,
                              a->bytes);
    if (ret == 0) {
        ret = !a->activate ? erase_slots(s, a, a->change)
              : a->active & a->change ? overwrite_slot(s, a)
              : set_slot(s, a, a->slot);
    }
    return ret < 0 ? set_error(errp, ret, "%s: cannot change the passphrases: "
                               "%s", s->bs->filename, g_strerror(-ret)) : 0;
}
