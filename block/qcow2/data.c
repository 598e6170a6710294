/* SPDX-License-Identifier: MIT */
/*
 * Guest data in the file that holds it: parts of vectors, through crypto.c when
 * the image is encrypted, and nothing about where they belong. Whoever calls
 * has a host offset that cannot change meanwhile (K3) and does not hold s->lock
 * (K1).
 */
#include "qcow2_int.h"

int coroutine_fn qcow2_data_preadv(Qcow2State *s, uint64_t host_offset,
                                   uint64_t bytes, QEMUIOVector *qiov,
                                   size_t qiov_offset)
{
    QEMUIOVector part;
    int ret;

    if (s->hdr.crypt_method) {
        return qcow2_crypto_preadv(s, host_offset, bytes, qiov, qiov_offset);
    }
    if (!qiov_offset && bytes == qiov->size) {
        return bdrv_co_preadv(s->data_file, host_offset, bytes, qiov, 0);
    }
    qemu_iovec_init_slice(&part, qiov, qiov_offset, bytes);
    ret = bdrv_co_preadv(s->data_file, host_offset, bytes, &part, 0);
    qemu_iovec_destroy(&part);
    return ret;
}

int coroutine_fn qcow2_data_pwritev(Qcow2State *s, uint64_t host_offset,
                                    uint64_t bytes, QEMUIOVector *qiov,
                                    size_t qiov_offset)
{
    QEMUIOVector part;
    int ret;

    if (s->hdr.crypt_method) {
        return qcow2_crypto_pwritev(s, host_offset, bytes, qiov, qiov_offset);
    }
    if (!qiov_offset && bytes == qiov->size) {
        return bdrv_co_pwritev(s->data_file, host_offset, bytes, qiov, 0);
    }
    qemu_iovec_init_slice(&part, qiov, qiov_offset, bytes);
    ret = bdrv_co_pwritev(s->data_file, host_offset, bytes, &part, 0);
    qemu_iovec_destroy(&part);
    return ret;
}

int coroutine_fn qcow2_data_pwrite_zeroes(Qcow2State *s, uint64_t host_offset,
                                          uint64_t bytes, unsigned flags)
{
    return bdrv_co_pwrite_zeroes(s->data_file, host_offset, bytes, flags);
}
