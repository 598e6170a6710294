/* SPDX-License-Identifier: MIT */
/*
 * For LD_PRELOAD into QEMU's tools. Before they give an image a passphrase
 * they find out how many iterations of PBKDF2 this machine does in a second of
 * a thread's processor time. That takes two seconds, and on a busy machine it
 * fails: "Unable to get accurate CPU usage". Here a second passes from each
 * look at that clock to the next one, so that the first trial is enough. The
 * iterations that come out of it are few, which nothing but the time to open
 * the image depends on.
 */
#include <dlfcn.h>
#include <stdatomic.h>
#include <sys/resource.h>

static atomic_int looks;

__attribute__((visibility("default"))) int getrusage(__rusage_who_t who,
                                                     struct rusage *usage);

int getrusage(__rusage_who_t who, struct rusage *usage)
{
    int (*real)(__rusage_who_t, struct rusage *) =
        (int (*)(__rusage_who_t, struct rusage *))dlsym(RTLD_NEXT,
                                                        "getrusage");
    int ret = real(who, usage);

    if (who == RUSAGE_THREAD && ret == 0) {
        usage->ru_utime.tv_sec += atomic_fetch_add(&looks, 1) + 1;
    }
    return ret;
}
