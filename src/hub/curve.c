/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/curve.h"
#include "weir/weir.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

static int fail(int err, const char *why, const char **ret_why) {
    *ret_why = why;
    return err;
}

static int make(int fd, struct curve_key *ret, const char **ret_why) {
    char text[CURVE_TEXT + 1];
    struct curve_key key;
    if (zmq_curve_keypair(key.public, key.secret) != 0)
        return fail(WEIR_ECONFIG, "this libzmq knows no CURVE", ret_why);
    memcpy(text, key.secret, CURVE_TEXT);
    text[CURVE_TEXT] = '\n';
    if (write(fd, text, sizeof(text)) != (ssize_t)sizeof(text) || fsync(fd) != 0)
        return fail(WEIR_EIO, strerror(errno), ret_why);
    *ret = key;
    return 0;
}

static int read_key(int fd, struct curve_key *ret, const char **ret_why) {
    struct curve_key key = {0};
    char end = 0;
    if (read(fd, key.secret, CURVE_TEXT) != CURVE_TEXT ||
        (read(fd, &end, 1) == 1 && end != '\n' && end != '\r'))
        return fail(WEIR_ECONFIG, "it does not begin with a line of 40 characters", ret_why);
    if (strlen(key.secret) != CURVE_TEXT || zmq_curve_public(key.public, key.secret) != 0)
        return fail(WEIR_ECONFIG, "its first line is not a Z85 key", ret_why);
    *ret = key;
    return 0;
}

int curve_load(const char *path, struct curve_key *ret, const char **ret_why) {
    int fd = open(path, O_RDONLY | O_CLOEXEC), err;
    if (fd >= 0) {
        err = read_key(fd, ret, ret_why);
    } else if (errno == ENOENT && (fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) >= 0) {
        err = make(fd, ret, ret_why);
        if (err != 0) unlink(path);
    } else {
        return fail(WEIR_EIO, strerror(errno), ret_why);
    }
    close(fd);
    return err;
}
