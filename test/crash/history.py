# SPDX-License-Identifier: Apache-2.0
"""What was asked, answered, run and killed: one JSON object per line, any number of files.

Times are seconds of CLOCK_MONOTONIC, which all processes of a machine share. Every record has "op":

  kill                at: the hub was dead by then. Nothing that came to it can have an effect any more
  drain               at: the hub was told to end
  kill-worker         at
  begin, end          a worker's: at, exec (the execution's name), job, token, service, hop, attempt, sha (of the
                      payload that came), conn (when its connection was made); end has kind ("answered", "forward",
                      "failed"), status, answer (sha of the whole body)
  (all others)        a client's request: asked, answered (None: the connection broke before the answer was whole),
                      conn (when its connection was being made), status, left (the client itself broke it)
    submit            token (of the order), key (Idempotency-Key or None), chain (services, in order), sha, size;
                      job when it was answered 202; answer as below when it was answered at once
    state             job; state, ended
    result            job; state when it is not there yet; answer: {exec, job, token, payload, sha} of what a worker
                      has made: payload is the sha of what it got, sha that of the body as received
    cancel            job
    listed            jobs: all ids
    subscribe, unsubscribe   topic, sub
    publish           topic, pub (names the message), sha, size
    read              topic, sub, explicit; message (its id), pub (as its body says), sha; final: nobody else reads
                      or has a lease any more
    ack               topic, sub, message, pub
"""

import json
import threading
import time

now = time.monotonic


class Recorder:
    """Appends records to a file, whole lines, from any thread."""

    def __init__(self, path):
        self.file = open(path, "ab", buffering=0)  # as it stands after a kill of this process
        self.lock = threading.Lock()

    def add(self, op, **fields):
        line = json.dumps({"op": op, **fields}, separators=(",", ":")).encode() + b"\n"
        with self.lock:
            self.file.write(line)


def load(paths):
    records = []
    for path in paths:
        with open(path, "rb") as f:
            records += [json.loads(line) for line in f if line.endswith(b"\n")]
    return records


def show(record):
    """One line for people, times rounded."""
    fields = [f"{k}={round(v, 4) if isinstance(v, float) else v}" for k, v in record.items() if k != "op" and v is not None]
    return f"{record['op']:<11} " + " ".join(fields)
