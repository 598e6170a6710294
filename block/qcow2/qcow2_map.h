/* SPDX-License-Identifier: MIT */
/*
 * From guest offset to data: L2 entries, the map, requests in flight, guest
 * reads and writes, compression, encryption, zeroes.
 */
#ifndef FIRN_BLOCK_QCOW2_MAP_H
#define FIRN_BLOCK_QCOW2_MAP_H

#include "qcow2_int.h"

/* ---- L2 entries ---- */

typedef enum Qcow2ClusterType {
    QCOW2_CLUSTER_UNALLOCATED,  /* backing decides */
    QCOW2_CLUSTER_ZERO_PLAIN,
    QCOW2_CLUSTER_ZERO_ALLOC,   /* reads zero, has a host cluster */
    QCOW2_CLUSTER_NORMAL,
    QCOW2_CLUSTER_COMPRESSED,
} Qcow2ClusterType;

/* An L2 entry. */
typedef struct Qcow2Entry {
    uint64_t desc;
    uint64_t bitmap;        /* of subclusters; 0 without extended L2 */
} Qcow2Entry;

/* Entry number @index of the table, or slice, in @table. */
static inline Qcow2Entry qcow2_entry_get(const Qcow2State *s,
                                         const uint8_t *table,
                                         uint64_t index)
{
    const uint8_t *p = table + (index << s->l2_entry_bits);

    return (Qcow2Entry) {
        .desc = be64_get(p),
        .bitmap = s->l2_entry_bits == 4 ? be64_get(p + 8) : 0,
    };
}

static inline void qcow2_entry_put(const Qcow2State *s, uint8_t *table,
                                   uint64_t index, Qcow2Entry e)
{
    uint8_t *p = table + (index << s->l2_entry_bits);

    be64_put(p, e.desc);
    if (s->l2_entry_bits == 4) {
        be64_put(p + 8, e.bitmap);
    }
}

/* Stale once s->lock drops, unless covered by s->in_flight (K3). */
typedef struct Qcow2Mapping {
    Qcow2ClusterType type;
    uint64_t host_offset;   /* of the byte asked for; NORMAL, ZERO_ALLOC */
    uint64_t bytes;         /* same type, same copied, contiguous on host */
    bool copied;
    Qcow2Entry entry;       /* the first one; COMPRESSED is decoded from it */
} Qcow2Mapping;

/* ---- entry.c ---- */

/* Type of a descriptor, subclusters and data file left aside. */
Qcow2ClusterType qcow2_entry_type(uint64_t entry);
/* Has @e a host cluster of its own (which compressed ones have not)? */
bool qcow2_entry_has_host(const Qcow2State *s, Qcow2Entry e);
/* Type of subcluster @sc, which is 0 without extended L2 entries. */
Qcow2ClusterType qcow2_subcluster_type(const Qcow2State *s, Qcow2Entry e,
                                       unsigned sc);
/* The subclusters of the cluster at @cluster that [@lo, @hi) touches. */
uint32_t qcow2_subcluster_mask(const Qcow2State *s, uint64_t cluster,
                               uint64_t lo, uint64_t hi);
/* Why no driver writes @e for @guest_offset, or NULL. */
const char *qcow2_entry_fault(const Qcow2State *s, Qcow2Entry e,
                              uint64_t guest_offset);
/* R7: 0, or -EIO for an entry that no driver writes. */
int coroutine_fn qcow2_check_entry(Qcow2State *s, Qcow2Entry e,
                                   uint64_t guest_offset) REQUIRES(s->lock);
/* Host bytes of a compressed entry: the stream ends with them or before. */
void qcow2_entry_compressed(const Qcow2State *s, uint64_t entry,
                            uint64_t *ret_offset, uint64_t *ret_bytes);
/* Subclusters of @e from @sc on that are of the same type. */
unsigned qcow2_subcluster_run(const Qcow2State *s, Qcow2Entry e, unsigned sc);
/* Is the host cluster of @e the @n-th behind that of @first, COPIED alike? */
bool qcow2_entry_continues(const Qcow2State *s, Qcow2Entry first,
                           Qcow2Entry e, uint64_t n);
/*
 * Subclusters from @sc of entry @index on, in up to @max entries, that are of
 * one type and contiguous on the host; stops before a faulty entry.
 * @guest_offset is that of the first cluster.
 */
uint64_t qcow2_entry_run(const Qcow2State *s, const uint8_t *slice,
                         uint64_t index, unsigned sc, uint64_t max,
                         uint64_t guest_offset);

/* ---- map.c ---- */

/*
 * Map up to @bytes > 0 from @guest_offset through @l1 (&s->l1 or a
 * snapshot's). Does not drop the lock after having looked.
 */
int coroutine_fn qcow2_map(Qcow2State *s, const Qcow2Table *l1,
                           uint64_t guest_offset, uint64_t bytes,
                           Qcow2Mapping *ret)
    REQUIRES(s->lock) DROPS(s->lock);
/* Pin the slice of the active map that has @guest_offset; *@ret_index is its
 * entry there. *@ret NULL: there is no L2 table. */
int coroutine_fn qcow2_get_slice(Qcow2State *s, const Qcow2Table *l1,
                                 uint64_t guest_offset, Qcow2CacheEntry **ret,
                                 unsigned *ret_index)
    REQUIRES(s->lock) DROPS(s->lock);
/* Make sure that the L2 table for @guest_offset exists and is ours alone. */
int coroutine_fn qcow2_ensure_l2(Qcow2State *s, uint64_t guest_offset)
    REQUIRES(s->lock) DROPS(s->lock);
/* Pin the slice that has @guest_offset, in a table that is ours alone. */
int coroutine_fn qcow2_own_slice(Qcow2State *s, uint64_t guest_offset,
                                 Qcow2CacheEntry **ret, unsigned *ret_index)
    REQUIRES(s->lock) DROPS(s->lock);
/* Grow the active L1 table to at least @min_size entries. */
int coroutine_fn qcow2_grow_l1(Qcow2State *s, uint64_t min_size)
    REQUIRES(s->lock) DROPS(s->lock);
/* Clusters from @guest_offset on that lie in the same L2 slice. */
static inline uint64_t qcow2_slice_left(const Qcow2State *s,
                                        uint64_t guest_offset)
{
    uint64_t n = 1ULL << s->l2_slice_bits;

    return n - ((guest_offset >> s->cluster_bits) & (n - 1));
}

/* ---- inflight.c ---- */

/*
 * Cut [@start, *@end) to what no entry of s->in_flight stands against. Returns
 * NULL, or, when nothing is left, the entry to wait for; then look everything
 * up afresh.
 */
Qcow2InFlight *qcow2_in_flight_clip(Qcow2State *s, uint64_t start,
                                    uint64_t *end, bool exclusive)
    REQUIRES(s->lock);
void qcow2_in_flight_add(Qcow2State *s, Qcow2InFlight *r, uint64_t start,
                         uint64_t end, bool exclusive) REQUIRES(s->lock);
/* Takes @r off the list and wakes those that wait for it. */
void qcow2_in_flight_remove(Qcow2State *s, Qcow2InFlight *r)
    REQUIRES(s->lock);
/*
 * Run @fn(@opaque), which does a piece of a request, beside the others of it;
 * waits while too many run. *@pool is made when it is NULL. Returns 0, or the
 * error of a piece that has ended: start no more.
 */
int coroutine_fn qcow2_pieces_start(AioTaskPool **pool, AioTaskFunc *fn,
                                    void *opaque);
/* Wait for all pieces, also when @ret is an error; the first error. */
int coroutine_fn qcow2_pieces_end(AioTaskPool *pool, int ret);

/* ---- datafile.c ---- */

/* Take the options about it, and open the one that the image needs, if any. */
int coroutine_fn qcow2_open_data_file(Qcow2State *s, BdrvOptions *options,
                                      unsigned flags, GError **errp);

/* ---- data.c: host offsets, in s->data_file ---- */

int coroutine_fn qcow2_data_preadv(Qcow2State *s, uint64_t host_offset,
                                   uint64_t bytes, QEMUIOVector *qiov,
                                   size_t qiov_offset)
    EXCLUDES(s->lock);
int coroutine_fn qcow2_data_pwritev(Qcow2State *s, uint64_t host_offset,
                                    uint64_t bytes, QEMUIOVector *qiov,
                                    size_t qiov_offset)
    EXCLUDES(s->lock);

/* ---- crypto.c: guest data of encrypted images ---- */

/* Take the encrypt.* options and get the key. */
int coroutine_fn qcow2_crypto_open(Qcow2State *s, BdrvOptions *options,
                                   unsigned flags, GError **errp);
/* NULL: nothing. */
void qcow2_crypto_free(Qcow2Crypto *c);
/* As qcow2_data_preadv() and qcow2_data_pwritev(), which call them; what is
 * written is whole sectors. -EACCES without the key. */
int coroutine_fn qcow2_crypto_preadv(Qcow2State *s, uint64_t host_offset,
                                     uint64_t bytes, QEMUIOVector *qiov,
                                     size_t qiov_offset)
    EXCLUDES(s->lock);
int coroutine_fn qcow2_crypto_pwritev(Qcow2State *s, uint64_t host_offset,
                                      uint64_t bytes, QEMUIOVector *qiov,
                                      size_t qiov_offset)
    EXCLUDES(s->lock);
/* qcow2_write_range() that may begin and end inside of sectors. */
int coroutine_fn qcow2_crypto_write_any(Qcow2State *s, uint64_t guest_offset,
                                        uint64_t bytes, QEMUIOVector *qiov)
    EXCLUDES(s->lock);
/* -ENOTSUP: not a cipher of this driver. */
int qcow2_crypto_can_do(const char *cipher, const char *mode,
                        size_t key_bytes, GError **errp);
/* The volume key; belongs to @c. */
const struct LuksKey *qcow2_crypto_key(const Qcow2Crypto *c);
/* *@ret: the LUKS header, s->ext.crypto_length bytes, for free(). */
int coroutine_fn qcow2_crypto_read_header(Qcow2State *s, uint8_t **ret,
                                          GError **errp);

/* ---- crypto-info.c ---- */

typedef struct _JsonObject JsonObject;

/* What the header tells without a key, to be shown; *@ret is new. */
int coroutine_fn qcow2_crypto_describe(Qcow2State *s, JsonObject **ret,
                                       GError **errp);

/* ---- crypto-create.c ---- */

/* Take the encrypt.* options; *@ret NULL: not to be encrypted. */
int qcow2_crypto_take_create(BdrvOptions *o, Qcow2CryptoCreate **ret,
                             GError **errp);
void qcow2_crypto_create_free(Qcow2CryptoCreate *c);
/* encrypt.key-secret to open it with. NULL allowed here and below. */
const char *qcow2_crypto_secret(const Qcow2CryptoCreate *c);
uint64_t qcow2_crypto_header_bytes(const Qcow2CryptoCreate *c);
/* Make the header, which takes as long as encrypt.iter-time says; *@ret is
 * owned by @c. */
int coroutine_fn qcow2_crypto_format(Qcow2CryptoCreate *c,
                                     const GByteArray **ret, GError **errp);

/* ---- crypto-amend.c: passphrases; map_lock held exclusively ---- */

/* Take the encrypt.* options of amend; *@ret NULL: no passphrase changes. */
int qcow2_crypto_take_amend(const Qcow2State *s, BdrvOptions *o, bool force,
                            Qcow2CryptoAmend **ret, GError **errp);
void qcow2_crypto_amend_free(Qcow2CryptoAmend *a);
/*
 * Find the key slots that are to change, and what they are to hold: as slow as
 * encrypt.iter-time says. The file is only read. @a NULL: nothing.
 */
int coroutine_fn qcow2_crypto_prepare_amend(Qcow2State *s,
                                            Qcow2CryptoAmend *a,
                                            GError **errp)
    EXCLUDES(s->lock);
/* Write it; durable when it returns 0. @a NULL: nothing. */
int coroutine_fn qcow2_crypto_amend(Qcow2State *s, Qcow2CryptoAmend *a,
                                    GError **errp)
    REQUIRES(s->lock);

/* ---- codec.c: streams as bytes; any thread ---- */

/* As compression_type in the header. */
typedef enum Qcow2Codec {
    QCOW2_CODEC_DEFLATE,
    QCOW2_CODEC_ZSTD,
} Qcow2Codec;

/* Is it in this build? */
bool qcow2_codec_has(Qcow2Codec codec);
/* Exactly @out_len bytes from a stream that has them or more. Returns 0, -EIO
 * for one that has not, -ENOMEM, -ENOTSUP. */
int qcow2_codec_decode(Qcow2Codec codec, const uint8_t *in, size_t in_len,
                       uint8_t *out, size_t out_len);
/* Returns the length of the stream, -ENOSPC when it is longer than @out_len,
 * -ENOMEM, -ENOTSUP. */
ssize_t qcow2_codec_encode(Qcow2Codec codec, const uint8_t *in, size_t in_len,
                           uint8_t *out, size_t out_len);

/* ---- compress.c ---- */

/* Guest bytes inside one compressed cluster that nothing can change
 * meanwhile. -EIO: no stream of a cluster is there. */
int coroutine_fn qcow2_read_compressed(Qcow2State *s, const Qcow2Mapping *m,
                                       uint64_t guest_offset, uint64_t bytes,
                                       QEMUIOVector *qiov,
                                       size_t qiov_offset)
    EXCLUDES(s->lock);
Qcow2DecodedCache *qcow2_decoded_new(const Qcow2State *s);
/* Nobody reads. NULL: nothing. */
void qcow2_decoded_free(Qcow2DecodedCache *c);
/* New streams come to these host bytes. */
void qcow2_decoded_drop(Qcow2State *s, uint64_t offset, uint64_t bytes);

/* ---- pack.c: places for streams ---- */

/* Host bytes of streams end here or before. */
static inline uint64_t qcow2_compressed_limit(const Qcow2State *s)
{
    return MIN(QCOW2_MAX_HOST_OFFSET, 1ULL << (70 - s->cluster_bits));
}

/* Only one request places streams at a time. */
void coroutine_fn qcow2_pack_begin(Qcow2State *s)
    REQUIRES(s->lock) DROPS(s->lock);
void coroutine_fn qcow2_pack_end(Qcow2State *s) REQUIRES(s->lock);
/* Take and count host bytes for a stream of @bytes. Nothing refers to them
 * yet: undo with qcow2_unpack(). */
int coroutine_fn qcow2_pack(Qcow2State *s, uint64_t bytes,
                            uint64_t *ret_offset)
    REQUIRES(s->lock) DROPS(s->lock);
void coroutine_fn qcow2_unpack(Qcow2State *s, uint64_t offset,
                               uint64_t bytes)
    REQUIRES(s->lock) DROPS(s->lock);
/* The cluster at @host_offset has become free. */
void qcow2_pack_closed(Qcow2State *s, uint64_t host_offset)
    REQUIRES(s->lock);

/* ---- compress-write.c ---- */

/* BDRV_REQ_WRITE_COMPRESSED; whole clusters, or up to the end of the disk.
 * @replace: BDRV_REQ_REPLACE. */
int coroutine_fn qcow2_write_compressed(Qcow2State *s, uint64_t guest_offset,
                                        uint64_t bytes, QEMUIOVector *qiov,
                                        bool replace)
    EXCLUDES(s->lock);

/* Zeroes; flags as of bdrv_co_pwrite_zeroes(). Not with encryption. */
int coroutine_fn qcow2_data_pwrite_zeroes(Qcow2State *s, uint64_t host_offset,
                                          uint64_t bytes, unsigned flags)
    EXCLUDES(s->lock);

/* ---- alloc.c, cow.c: see there ---- */

typedef enum Qcow2WriteKind {
    QCOW2_WRITE_IN_PLACE,   /* the map stays as it is */
    QCOW2_WRITE_REUSE,      /* into host clusters that are ours */
    QCOW2_WRITE_NEW,        /* into new ones */
} Qcow2WriteKind;

/* One piece of a guest write. */
typedef struct Qcow2Write {
    Qcow2InFlight range;    /* whole clusters around the bytes */
    Qcow2WriteKind kind;
    uint64_t guest_offset;
    uint64_t bytes;
    QEMUIOVector *qiov;     /* its data is at qiov_offset; or, when NULL, */
    size_t qiov_offset;
    BlockDriverState *from; /* the host copies it from this file */
    uint64_t from_offset;
    Qcow2Entry first;       /* of the range, as looked up */
    Qcow2Entry last;
    uint64_t host_offset;   /* of range.start */
    uint64_t cow_start;     /* guest offsets: what becomes data */
    uint64_t cow_end;
    bool head_zero;         /* [cow_start, guest_offset) was zeroes */
    bool tail_zero;
    bool new_clusters;      /* host clusters are ours until linked */
    bool fresh;             /* and were never written: they read as zeroes */
    Qcow2CacheEntry *stale; /* for planted faults only */
    unsigned stale_index;
} Qcow2Write;

/* Decide on cow_start, cow_end and what is zero; not for IN_PLACE. */
void qcow2_cow_plan(Qcow2State *s, Qcow2Write *w) REQUIRES(s->lock);
/* The data step. */
int coroutine_fn qcow2_cow_write(Qcow2State *s, Qcow2Write *w)
    EXCLUDES(s->lock);

/* ---- read.c, alloc.c ---- */

/* Read [@guest_offset, + @qiov->size) of the active layer, any alignment. */
int coroutine_fn qcow2_read_range(Qcow2State *s, uint64_t guest_offset,
                                  uint64_t bytes, QEMUIOVector *qiov,
                                  size_t qiov_offset)
    EXCLUDES(s->lock);
/* Write it all. Grows the L1 table when it has to. */
int coroutine_fn qcow2_write_range(Qcow2State *s, uint64_t guest_offset,
                                   uint64_t bytes, QEMUIOVector *qiov)
    EXCLUDES(s->lock);
/* The same with data that the host copies from the protocol @from. -ENOTSUP: a
 * part may have been written. */
int coroutine_fn qcow2_copy_range(Qcow2State *s, uint64_t guest_offset,
                                  uint64_t bytes, BlockDriverState *from,
                                  uint64_t from_offset)
    EXCLUDES(s->lock);
/* Guest data of one mapping that nothing can change meanwhile. */
int coroutine_fn qcow2_read_mapping(Qcow2State *s, uint64_t guest_offset,
                                    const Qcow2Mapping *m,
                                    QEMUIOVector *qiov, size_t qiov_offset,
                                    uint64_t bytes)
    EXCLUDES(s->lock);

/* ---- zero.c ---- */

typedef enum Qcow2ZeroMode {
    QCOW2_ZERO_KEEP,        /* zero flag, host clusters stay */
    QCOW2_ZERO_UNMAP,       /* zero flag, host clusters go */
    QCOW2_DISCARD,          /* reads as zero, host clusters go */
} Qcow2ZeroMode;

/* Queue the host clusters of an L2 entry that is no longer in the map. */
void qcow2_free_entry(Qcow2State *s, uint64_t entry, bool punch)
    REQUIRES(s->lock);
/* Whole clusters only. -ENOTSUP: v2 image with a backing file. */
int coroutine_fn qcow2_zero_range(Qcow2State *s, uint64_t guest_offset,
                                  uint64_t nb_clusters, Qcow2ZeroMode mode)
    REQUIRES(s->lock) DROPS(s->lock);
/* Whole subclusters; -ENOTSUP also for parts of a compressed cluster. What is
 * behind the end of the disk may change with it. */
int coroutine_fn qcow2_zero_bytes(Qcow2State *s, uint64_t guest_offset,
                                  uint64_t bytes, Qcow2ZeroMode mode)
    REQUIRES(s->lock) DROPS(s->lock);
int coroutine_fn qcow2_co_pwrite_zeroes(BlockDriverState *bs,
                                        uint64_t offset, uint64_t bytes,
                                        unsigned flags);
int coroutine_fn qcow2_co_pdiscard(BlockDriverState *bs, uint64_t offset,
                                   uint64_t bytes);

#endif
