/* SPDX-License-Identifier: Apache-2.0 */
/* zbeacon PORT: hears a beacon as czmq's zbeacon does, and prints the first of weir that comes. */
#include <czmq.h>

int main(int argc, char **argv) {
    zactor_t *beacon = argc == 2 ? zactor_new(zbeacon, NULL) : NULL;
    if (!beacon) return 2;
    zsock_send(beacon, "si", "CONFIGURE", atoi(argv[1]));
    char *host = zstr_recv(beacon);
    if (!host || !*host) return 1;
    zstr_free(&host);
    zsock_send(beacon, "sb", "SUBSCRIBE", "WEIR1 ", (size_t)6);
    zsock_set_rcvtimeo(zactor_sock(beacon), 5000);
    char *from = zstr_recv(beacon), *text = zstr_recv(beacon);
    if (!from || !text) return 1;
    printf("%s\n", text);
    zstr_free(&from);
    zstr_free(&text);
    zactor_destroy(&beacon);
    return 0;
}
