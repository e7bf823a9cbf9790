#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A worker in bash: one connection, one slot, kept from job to job.
#     examples/shell/worker.sh [HOST] [PORT] [SERVICE]        (127.0.0.1 8081 hello)
#     curl http://127.0.0.1:8080/hello; curl -d 'some text' http://127.0.0.1:8080/hello
# A cancelled job is noticed when it is over. SIGTERM ends it at once.
set -u
export LC_ALL=C
host=${1:-127.0.0.1} port=${2:-8081} service=${3:-hello} failures=0 first='' length=0 chunked=no
trap '' PIPE

# Reads a request's or an answer's head: first (its first line), length and chunked.
read_head() {
    local line
    length=0 chunked=no
    IFS= read -r first <&3 || return 1
    while IFS= read -r line <&3; do
        line=${line%$'\r'}
        case ${line,,} in
        '') return 0 ;;
        content-length:*) length=${line#*:} length=${length// /} ;;
        transfer-encoding:*) chunked=yes ;;
        esac
    done
    return 1
}

# In one write: the kernel would hold back the second of two small ones.
answer() { # STATUS LENGTH [BODY [FIELD]]
    printf 'HTTP/1.1 %s\r\n%bContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s' \
        "$1" "${4-}" "$2" "${3-}" >&3
}

job() {
    local text="Hello from the shell!"$'\n'
    if [ $chunked = yes ]; then
        answer '411 Length Required' 0 '' 'Connection: close\r\n'
        cat <&3 >/dev/null # until the hub has read that and closes
        return 1
    fi
    case $first in
    POST\ *) answer '200 OK' "$length" && head -c "$length" <&3 >&3 ;;
    HEAD\ *) answer '200 OK' ${#text} ;;
    *) { [ "$length" = 0 ] || head -c "$length" <&3 >/dev/null; } && answer '200 OK' ${#text} "$text" ;;
    esac
}

attach() {
    { exec 3<>"/dev/tcp/$host/$port"; } 2>/dev/null || return 1
    printf '%s\r\n' "GET /.well-known/ptth/http%3A%2F%2F$service/ HTTP/1.1" "Host: $host" \
        'Connection: Upgrade' 'Upgrade: ptth' 'ALPN: http%2F1.1' "Weir-Worker: shell-$$" '' >&3
    read_head && [[ $first == 'HTTP/1.1 101 '* ]]
}

while :; do
    if attach; then
        failures=0
        while read_head && job; do :; done
    else
        failures=$((failures < 6 ? failures + 1 : 6))
        ms=$(((50 << failures) * (50 + RANDOM % 50) / 100)) # up to 3.2 s, with jitter
        sleep "$((ms / 1000)).$(printf %03d $((ms % 1000)))"
    fi
    exec 3>&-
done
