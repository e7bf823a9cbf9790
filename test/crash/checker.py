#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Judges a recorded history (history.py) by what the protocol promises, knowing nothing of the server.

    checker.py FILE...        exit status 0: no promise was broken

What an answer that never came leaves open is taken as open: a request whose connection broke may have had its effect
at any time until the hub that it had come to was dead, once, or not at all. A message that is missing, or came late,
is forgiven for one GET of its subscription each whose answer never came, when it can have been that one.

A job that a dead hub had given to a worker, and that the worker takes up only after the hub's death, counts as begun
when the hub died: nobody can call it back.
"""

import bisect
import collections
import itertools
import sys
from typing import NamedTuple

import history

FINAL = {"done", "failed", "cancelled", "dead"}
FOREVER = float("inf")
ON_ITS_WAY = 1.0  # s: what a living hub ends by itself may be on its way to a worker that begins it a little later
DYING = 2.0       # s: from the first connection that breaks to the death of the hub

# Kinds of offences.
LOST_JOB = "a job that was accepted is lost"
NEVER_ENDED = "a job did not end"
ENDED_TWICE = "a job ended twice"
REVIVED = "a job that had ended has not ended any more"
WRONG_END = "a job ended as it cannot have"
OTHER_RESULT = "the result is another job's"
CHANGED_RESULT = "the result changed"
NO_RESULT = "a job is done and has no result"
ALTERED = "a body was altered"
RUN_AGAIN = "a job was run again after its end"
EARLIER_HOP = "an earlier hop was run again"
WRONG_HOP = "a hop was run by another service"
TWO_JOBS = "two jobs for one request"
ONE_JOB = "one job for two requests"
UNKNOWN_JOB = "a job that nobody asked for"
LOST_MESSAGE = "a message is lost"
DOUBLED = "a message was read twice"
ORDER = "messages out of order"
AFTER_ACK = "a message was read again after it was acknowledged"
ACK_REFUSED = "a message that was read could not be acknowledged"
UNKNOWN_MESSAGE = "a message that was never published"
WRONG_MESSAGE = "a message that the subscription cannot have"
LOST_SUBSCRIPTION = "a subscription is lost"
STILL_SUBSCRIBED = "a subscription that was ended is still there"
TWO_IDS = "the ids of messages are not theirs alone"
ODD_ANSWER = "an answer that makes no sense"
NO_ANSWER = "no answer for a long time"
CUT = "an answer was cut, and the hub lived on"
NOT_JUDGED = "the history does not show it"


class Offence(NamedTuple):
    kind: str
    what: str  # the job, or topic/subscription and message
    text: str
    records: list  # the history of what it is about

    def __str__(self):
        lines = [history.show(r) for r in sorted(self.records, key=begun)]
        return f"{self.kind}: {self.what}: {self.text}\n    " + "\n    ".join(lines)


def begun(record):
    return record["at"] if "at" in record else record["asked"]


def judge(records):
    """The offences; last what is only not known."""
    times = Times(records)
    requests = [r for r in records if "asked" in r and not times.void(r)]
    offences = Jobs(times, requests, records).judge() + Topics(times, requests).judge() + answers(times, requests)
    return sorted(offences, key=lambda offence: offence.kind == NOT_JUDGED)


class Times:
    """What a request can have done, and until when."""

    def __init__(self, records):
        self.kills = sorted(r["at"] for r in records if r["op"] == "kill")
        self.dying = sorted(r["at"] for r in records if r["op"] in ("kill", "drain"))

    def death(self, time):
        """When the hub that was there at that time was dead."""
        i = bisect.bisect_left(self.kills, time)
        return self.kills[i] if i < len(self.kills) else FOREVER

    def lived_on(self, request):
        """The hub that broke it off was not about to die, or to drain."""
        i = bisect.bisect_left(self.dying, request["conn"])
        return i == len(self.dying) or self.dying[i] > request["broke"] + DYING

    def end(self, request):
        """After that it has no effect that it has not had."""
        return request["answered"] if request["answered"] is not None else self.death(request["conn"])

    def void(self, request):
        """It came to nobody: its connection's hub was dead before."""
        return request["answered"] is None and self.death(request["conn"]) < request["asked"]

    def began(self, execution):
        return min(execution["at"], self.death(execution["conn"]))


def answers(times, requests):
    """What no promise is about, and is wrong nevertheless."""
    offences = []
    allowed = {"submit": None, "state": {200, 404}, "result": None, "cancel": {200, 404, 409}, "listed": {200},
               "subscribe": {200}, "unsubscribe": {200, 404}, "publish": {200}, "read": {200, 204, 404}, "ack": {200, 404}}
    for r in requests:
        statuses = allowed[r["op"]]
        if r.get("late"):
            offences.append(Offence(NO_ANSWER, r["op"], f"{r['late']} s", [r]))
        elif r.get("broke") and not r.get("left") and times.lived_on(r):
            offences.append(Offence(CUT, r["op"], str(r.get("job") or r.get("topic")), [r]))
        elif r["answered"] is not None and statuses and r["status"] not in statuses and r["status"] != 503:
            offences.append(Offence(ODD_ANSWER, r["op"], str(r["status"]), [r]))
    return offences


# ---- jobs ----

class Job:
    def __init__(self, id):
        self.id = id
        self.orders, self.looks, self.results, self.cancels = [], [], [], []
        self.executions, self.ends = [], {}
        self.known = FOREVER  # a client knows of it since then

    def records(self):
        return self.orders + self.looks + self.results + self.cancels + self.executions + list(self.ends.values())


class Jobs:
    def __init__(self, times, requests, records):
        self.times, self.offences, self.jobs = times, [], {}
        self.orders = collections.defaultdict(list)  # by token
        self.tokens = collections.defaultdict(set)   # job -> tokens that it has been seen with
        self.executions = {}                         # by name
        self.attempts = max([r["attempts"] for r in records if r["op"] == "settings"], default=0)
        self.worker_kills = sorted(r["at"] for r in records if r["op"] == "kill-worker")
        for r in records:
            if r["op"] in ("begin", "end"):
                self.add_execution(r)
        for r in sorted(requests, key=begun):
            if r["op"] in ("submit", "state", "result", "cancel", "listed"):
                self.add_request(r)

    def job(self, id):
        return self.jobs.setdefault(id, Job(id))

    def add_execution(self, r):
        job = self.job(r["job"])
        if r["op"] == "end":
            job.ends[r["exec"]] = r
            return
        job.executions.append(r)
        self.executions[r["exec"]] = r
        self.tokens[job.id].add(r["token"])

    def add_request(self, r):
        op, answered = r["op"], r["answered"] is not None
        if op == "listed":
            for id in r["jobs"] if answered and r["status"] == 200 else ():
                self.job(id).known = min(self.job(id).known, r["answered"])
            return
        if op == "submit":
            self.orders[r["token"]].append(r)
            if answered and r.get("job"):
                job = self.job(r["job"])
                job.orders.append(r)
                job.known = min(job.known, r["answered"])
                self.tokens[job.id].add(r["token"])
            elif answered and r.get("answer"):
                job = self.job(r["answer"]["job"])
                job.results.append(r)
                job.known = min(job.known, r["answered"])
                self.tokens[job.id].add(r["token"])
            return
        job = self.job(r["job"])
        {"state": job.looks, "result": job.results, "cancel": job.cancels}[op].append(r)

    def offence(self, kind, job, text, records=None):
        self.offences.append(Offence(kind, job.id, text, records if records is not None else job.records()))

    def judge(self):
        self.judge_orders()
        for job in self.jobs.values():
            order = self.order_of(job)
            if order is None:
                continue
            self.judge_executions(job, order)
            if job.known < FOREVER:
                self.judge_found(job)
                self.judge_end(job, order)
                self.judge_results(job, order)
            self.judge_run_again(job)
        return self.offences

    def judge_orders(self):
        """One job for one order, however often it was sent."""
        of = collections.defaultdict(set)
        for id, tokens in self.tokens.items():
            for token in tokens:
                of[token].add(id)
        for token, ids in of.items():
            if len(ids) > 1:
                jobs = [self.jobs[id] for id in sorted(ids)]
                records = self.orders[token] + [r for job in jobs for r in job.records() if r not in self.orders[token]]
                self.offence(TWO_JOBS, jobs[0], f"and {', '.join(j.id for j in jobs[1:])}", records)

    def order_of(self, job):
        tokens = self.tokens[job.id]
        for r in job.results:
            if r["answered"] is not None and r.get("answer") and r["answer"]["job"] == job.id:
                tokens.add(r["answer"]["token"])
        if len(tokens) > 1:
            self.offence(ONE_JOB, job, " and ".join(sorted(tokens)))
            return None
        orders = [r for token in tokens for r in self.orders[token]]
        if orders:
            return orders[0]
        if job.executions or job.known < FOREVER:
            self.offence(UNKNOWN_JOB, job, "no order is known for it")
        return None

    def judge_found(self, job):
        for r in job.looks + job.results + job.cancels:
            missing = r["answered"] is not None and r["status"] == 404 and not r.get("answer")
            if missing and r["asked"] > job.known:
                self.offence(LOST_JOB, job, f"{r['op']} was answered 404")
                return

    def finals(self, job):
        """When it was seen that it had ended, with what is known of how: (answered, state or None)."""
        seen = [(r["answered"], r["state"]) for r in job.looks if r["answered"] is not None and r.get("state") in FINAL]
        seen += [(r["answered"], None) for r in job.results if r["answered"] is not None and r.get("answer")]
        seen += [(r["answered"], "cancelled") for r in job.results if r["answered"] is not None and r["status"] == 410]
        seen += [(r["answered"], "cancelled") for r in job.cancels if r["answered"] is not None and r["status"] == 200]
        seen += [(r["answered"], None) for r in job.cancels if r["answered"] is not None and r["status"] == 409]
        return seen

    def judge_end(self, job, order):
        ended = {(r["state"], r["ended"]) for r in job.looks if r["answered"] is not None and r.get("state") in FINAL}
        finals = self.finals(job)
        states = {state for _, state in finals if state}
        if len(states) > 1 or len(ended) > 1:
            self.offence(ENDED_TWICE, job, f"{sorted(states)} at {sorted(str(at) for _, at in ended)}")
            return
        first = min((at for at, _ in finals), default=FOREVER)
        for r in job.looks + job.results:
            if r["answered"] is not None and r["asked"] > first and r["status"] in (200, 202) \
                    and r.get("state") and r["state"] not in FINAL:
                self.offence(REVIVED, job, f"it is {r['state']}")
                return
        if not states:
            looked = [r for r in job.looks if r["answered"] is not None]
            self.offence(NEVER_ENDED if looked else NOT_JUDGED, job, "no final state was seen")
            return
        self.judge_how_it_ended(job, order, states.pop())

    def judge_how_it_ended(self, job, order, state):
        wanted = {"bad": "failed", "doomed": "dead"}.get(order["chain"][-1], "done")
        if state == "cancelled":
            if not any(r["answered"] is None or r["status"] == 200 for r in job.cancels):
                self.offence(WRONG_END, job, "cancelled, and nobody has asked for that")
        elif state == "dead" and wanted != "dead" and self.attempts and self.failures(job) >= self.attempts:
            pass
        elif state != wanted:
            self.offence(WRONG_END, job, f"{state} instead of {wanted}")

    def failures(self, job):
        """How many attempts of its last hop can have failed."""
        hop = max((e["hop"] for e in job.executions), default=0)
        failed = 0
        for e in job.executions:
            end = job.ends.get(e["exec"])
            failed += e["hop"] == hop and (end is None or end["kind"] == "failed")
        since = min((begun(r) for r in job.records()), default=0)
        return failed + len(self.worker_kills) - bisect.bisect_left(self.worker_kills, since)

    def judge_results(self, job, order):
        answered = [r for r in job.results if r["answered"] is not None and r.get("answer")]
        if len({(r["status"], r["answer"]["sha"], r["answer"]["exec"]) for r in answered}) > 1:
            self.offence(CHANGED_RESULT, job, "not the same answer each time")
        for r in answered[:1]:
            answer = r["answer"]
            execution, end = self.executions.get(answer["exec"]), job.ends.get(answer["exec"])
            if answer["job"] != job.id or execution is None or execution["job"] != job.id or end is None:
                self.offence(OTHER_RESULT, job, f"execution {answer['exec']} of {answer['job']}",
                             job.records() + ([execution] if execution else []))
            elif answer["sha"] != end["answer"] or answer["payload"] != order["sha"] or r["status"] != end["status"]:
                self.offence(ALTERED, job, "the worker's answer is not what the client got")
            elif execution["hop"] != len(order["chain"]) - 1:
                self.offence(WRONG_HOP, job, f"the result is hop {execution['hop']}'s")
        done = [r for r in job.looks if r["answered"] is not None and r.get("state") == "done"]
        if done and not answered:
            asked = [r for r in job.results if r["answered"] is not None and r["asked"] > done[0]["answered"]]
            if asked:
                self.offence(NO_RESULT, job, f"{asked[0]['status']}")

    def judge_executions(self, job, order):
        chain = order["chain"]
        highest = []  # (when it began, hop), hops growing
        for e in sorted(job.executions, key=lambda e: e["at"]):
            if e["sha"] != order["sha"]:
                self.offence(ALTERED, job, f"the worker of {e['exec']} got another body")
            if e["hop"] >= len(chain) or chain[e["hop"]] != e["service"]:
                self.offence(WRONG_HOP, job, f"{e['exec']}: hop {e['hop']} at {e['service']}")
            if any(at < self.times.began(e) and hop > e["hop"] for at, hop in highest):
                self.offence(EARLIER_HOP, job, f"{e['exec']}: hop {e['hop']}")
            if not highest or e["hop"] > highest[-1][1]:
                highest.append((e["at"], e["hop"]))

    def judge_run_again(self, job):
        results = [r for r in job.results if r["answered"] is not None and r.get("answer")]
        if results and results[0]["answer"]["exec"] in job.ends:
            counts = job.ends[results[0]["answer"]["exec"]]
            for e in job.executions:
                if self.times.began(e) > counts["at"]:
                    self.offence(RUN_AGAIN, job, f"{e['exec']} after {counts['exec']}, whose answer is the result")
                    return
        finals = self.finals(job)
        cancelled = any(state == "cancelled" for _, state in finals)
        seen = min((at for at, _ in finals), default=FOREVER)
        for e in job.executions:
            same_hub = self.times.death(e["conn"]) <= self.times.death(seen)
            if self.times.began(e) > seen + (ON_ITS_WAY if cancelled and same_hub else 0):
                self.offence(RUN_AGAIN, job, f"{e['exec']} after it was seen to have ended")
                return


# ---- topics ----

class Topics:
    def __init__(self, times, requests):
        self.times, self.offences = times, []
        self.messages = {r["pub"]: r for r in requests if r["op"] == "publish"}
        self.subscriptions = {}
        for r in sorted(requests, key=begun):
            if r["op"] in ("subscribe", "unsubscribe", "read", "ack"):
                key = r["topic"], r["sub"]
                if key not in self.subscriptions:
                    self.subscriptions[key] = Subscription(self, key)
                self.subscriptions[key].add(r)

    def judge(self):
        self.judge_ids()
        for subscription in self.subscriptions.values():
            subscription.judge()
        return self.offences

    def judge_ids(self):
        """A message has one id, a later one a greater."""
        ids, names = {}, {}
        for s in self.subscriptions.values():
            for r in s.reads:
                if r.get("message") is None or r["pub"] not in self.messages:
                    continue
                other = ids.setdefault(r["pub"], r)
                same = names.setdefault((r["topic"], r["message"]), r)
                for o in (other, same):
                    if (o["pub"], o["message"]) != (r["pub"], r["message"]):
                        self.offences.append(Offence(TWO_IDS, r["topic"], f"{r['message']}", [o, r]))
        of_topic = collections.defaultdict(list)
        for pub, r in ids.items():
            of_topic[r["topic"]].append(self.messages[pub])
        for topic, messages in of_topic.items():
            before = Highest((self.times.end(m), ids[m["pub"]]["message"]) for m in messages)
            for m in messages:
                if before.at(m["asked"]) > ids[m["pub"]]["message"]:
                    self.offences.append(Offence(ORDER, topic, f"{m['pub']} has a smaller id than one published before it",
                                                 [m, ids[m["pub"]]]))


class Highest:
    """The highest value of those whose time has come."""

    def __init__(self, pairs):
        pairs = sorted(pairs)
        self.times = [t for t, _ in pairs]
        self.values = list(itertools.accumulate((v for _, v in pairs), max))

    def at(self, time):
        """Of those before that time."""
        i = bisect.bisect_left(self.times, time)
        return self.values[i - 1] if i else -FOREVER


class Subscription:
    def __init__(self, topics, key):
        self.topics, self.times, self.name = topics, topics.times, "/".join(key)
        self.topic = key[0]
        self.changes, self.evidence, self.acks = [], [], []
        self.looks, self.reads, self.nothing, self.broken = [], [], [], []

    def add(self, r):
        if r["op"] in ("subscribe", "unsubscribe"):
            if r["answered"] is None or r["status"] in (200, 404):
                self.changes.append(r)
        elif r["op"] == "ack":
            self.acks.append(r)
        elif r["answered"] is None:
            self.broken.append(r)
        else:
            self.looks.append(r)
            if r["status"] == 200:
                self.reads.append(r)
            elif r["status"] == 204:
                self.nothing.append(r)

    def offence(self, kind, text, records):
        self.topics.offences.append(Offence(kind, self.name, text, list(records)))

    def possible(self, begin, end, without=None):
        """Whether it can have been there between these times: a set of booleans."""
        before = [c for c in self.changes + self.evidence if c is not without and c["asked"] < end]
        last = max((c["asked"] for c in before if c["answered"] is not None and c["answered"] < begin), default=None)
        states = {self.there(c) for c in before if last is None or self.times.end(c) >= last}
        return states if last is not None else states | {False}

    @staticmethod
    def there(r):
        return r["status"] != 404 if r["op"] == "read" else r["op"] == "subscribe"

    @property
    def explicit(self):
        return any(r["explicit"] for r in self.looks)

    def settle(self):
        """What a change did whose answer never came, the first look after it shows."""
        for c in self.changes:
            if c["answered"] is None:
                self.evidence += [r for r in self.looks if r["asked"] > self.times.end(c)][:1]

    def judge(self):
        self.settle()
        self.judge_presence()
        first = {}
        for r in sorted(self.reads, key=lambda r: r["answered"]):
            if self.judge_message(r):
                first.setdefault(r["pub"], r)
        if self.explicit:
            self.judge_acks()
        else:
            self.judge_once(first)
        self.judge_displaced(first)

    def judge_presence(self):
        for r in self.looks:
            possible = self.possible(r["asked"], r["answered"], r)
            if r["status"] == 404 and possible == {True}:
                self.offence(LOST_SUBSCRIPTION, "a GET was answered 404", self.changes + [r])
                return
            if r["status"] in (200, 204) and possible == {False}:
                self.offence(STILL_SUBSCRIBED, f"a GET was answered {r['status']}", self.changes + [r])
                return
        for c in self.changes:
            if c["op"] != "unsubscribe" or c["answered"] is None:
                continue
            possible = self.possible(c["asked"], c["answered"], c)
            if possible == {c["status"] != 200}:
                self.offence(LOST_SUBSCRIPTION if c["status"] == 404 else STILL_SUBSCRIBED,
                             f"a DELETE was answered {c['status']}", self.changes)
                return

    def judge_message(self, r):
        """One that was read: is it one, and whole, and can this subscription have it?"""
        m = self.topics.messages.get(r["pub"])
        if m is None or m["topic"] != r["topic"] or (m["answered"] is not None and m["status"] != 200):
            self.offence(UNKNOWN_MESSAGE, str(r["pub"]), [r] + ([m] if m else []))
            return False
        if r["sha"] != m["sha"]:
            self.offence(ALTERED, r["pub"], [m, r])
        if r["answered"] < m["asked"]:
            self.offence(WRONG_MESSAGE, f"{r['pub']} was read before it was published", [m, r])
        published = self.times.end(m)
        cut = any(c["op"] == "unsubscribe" and c["answered"] is not None and c["asked"] > published
                  and c["answered"] < r["asked"] for c in self.changes)
        if cut or self.possible(m["asked"], published) == {False}:
            self.offence(WRONG_MESSAGE, f"{r['pub']} was published when it was not subscribed", self.changes + [m, r])
        return True

    def judge_once(self, first):
        for r in self.reads:
            if r["pub"] in first and first[r["pub"]] is not r:
                self.offence(DOUBLED, r["pub"], [self.topics.messages[r["pub"]], first[r["pub"]], r])

    def judge_acks(self):
        done, acks = {}, collections.defaultdict(list)
        for a in self.acks:
            acks[a["message"]].append(a)
            if a["answered"] is not None and a["status"] == 200:
                done[a["message"]] = min(done.get(a["message"], FOREVER), a["answered"])
        for r in self.reads:
            if r["asked"] > done.get(r["message"], FOREVER):
                self.offence(AFTER_ACK, r["pub"], [r] + acks[r["message"]])
        for a in self.acks:
            before = [o for o in acks[a["message"]] if o is not a and o["asked"] < (a["answered"] or 0)]
            if a["answered"] is not None and a["status"] == 404 and not before \
                    and self.possible(a["asked"], a["answered"]) == {True}:
                reads = [r for r in self.reads if r["message"] == a["message"]]
                self.offence(ACK_REFUSED, f"{a['message']}", reads + acks[a["message"]])

    # ---- what is missing, or came late ----

    def judge_displaced(self, first):
        """Each message that should have been read and was not, or came after a later one, needs a GET of its own that
        can have taken it and whose answer never came. One that must be acknowledged is not taken by a GET."""
        late = self.late(first)
        missing = self.missing(first)
        items = [(m, limit, LOST_MESSAGE) for m, limit in missing] + [(m, limit, ORDER) for m, limit in late]
        takers = {}  # index of a broken GET -> index of an item

        def take(i, tried):
            message, limit, kind = items[i]
            if kind == LOST_MESSAGE and self.explicit:
                return False
            for g, get in enumerate(self.broken):
                if g not in tried and get["asked"] < limit and self.times.end(get) > message["asked"]:
                    tried.add(g)
                    if g not in takers or take(takers[g], tried):
                        takers[g] = i
                        return True
            return False
        for i, (message, _, kind) in enumerate(items):
            if not take(i, set()):
                records = [r for r in self.reads if r["pub"] == message["pub"]] + self.around(message, first)
                self.offence(kind, f"{message['pub']} ({len(items)} displaced, {len(self.broken)} GETs broken)",
                             self.changes + [message] + records)

    def around(self, message, first):
        """What was read next after its publishing."""
        later = [r for r in first.values() if self.topics.messages[r["pub"]]["asked"] >= message["asked"]
                 and r["pub"] != message["pub"]]
        return sorted(later, key=lambda r: r["answered"])[:3]

    def late(self, first):
        """(message, when a later one had been read)"""
        late = []
        reads = list(first.values())
        by_id = Highest((r["answered"], r["message"]) for r in reads if r.get("message") is not None)
        by_time = Highest((r["answered"], self.topics.messages[r["pub"]]["asked"]) for r in reads)
        for r in reads:
            m = self.topics.messages[r["pub"]]
            wrong = by_time.at(r["asked"]) > self.times.end(m)
            wrong = wrong or (r.get("message") is not None and by_id.at(r["asked"]) > r["message"])
            if wrong:
                late.append((m, self.later_read(m, r, reads)))
        return late

    def later_read(self, message, read, reads):
        """When the first of those after it was read."""
        end, id = self.times.end(message), read.get("message") if read else None
        return min((r["answered"] for r in reads if self.topics.messages[r["pub"]]["asked"] > end
                    or (id is not None and r.get("message") is not None and r["message"] > id)), default=FOREVER)

    def missing(self, first):
        """(message, until when it was taken)"""
        missing, reads = [], list(first.values())
        empty = sorted((r["asked"], r["answered"]) for r in self.nothing if r.get("final") or not self.explicit)
        ends = sorted(c["asked"] for c in self.changes if c["op"] == "unsubscribe")
        for m in self.topics.messages.values():
            if m["topic"] != self.topic or m["answered"] is None or m["status"] != 200 or m["pub"] in first:
                continue
            if self.possible(m["asked"], m["answered"]) != {True}:
                continue
            i = bisect.bisect_right(ends, m["asked"])
            end = ends[i] if i < len(ends) else FOREVER
            j = bisect.bisect_right(empty, (m["answered"], FOREVER))
            if j < len(empty) and empty[j][1] < end:
                missing.append((m, min(empty[j][1], self.later_read(m, None, reads))))
            elif end == FOREVER:
                self.offence(NOT_JUDGED, f"{m['pub']}: nobody has read until there was no more", [m])
        return missing


def main(paths):
    offences = judge(history.load(paths))
    for offence in offences[:50]:
        print(offence)
    print(f"{len(offences)} offences")
    return 1 if offences else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
