#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Does the checker see what it says it sees? A history of each kind in which one thing is wrong, and the same one
without it, in which nothing may be found."""

import copy
import unittest

import checker


class Story:
    """Builds a history; the hub is killed where a test says so. Every step takes a second."""

    def __init__(self):
        self.records, self.time, self.count = [], 0.0, 0

    def tick(self, seconds=1.0):
        self.time += seconds
        return self.time

    def note(self, op, **fields):
        self.records.append({"op": op, **fields})
        return self.records[-1]

    def ask(self, op, answered=True, status=200, **fields):
        asked = self.tick()
        end = self.tick() if answered else None
        return self.note(op, asked=asked, answered=end, conn=asked - 0.5, status=status if answered else None, **fields)

    def kill(self):
        return self.note("kill", at=self.tick())

    # ---- jobs ----

    def submit(self, job="j1", token="t1", chain=("work",), answered=True, key=None, **fields):
        fields.setdefault("status", 202)
        return self.ask("submit", answered, job=job if answered else None, token=token, key=key, chain=list(chain),
                        sha="in-" + token, size=10, **fields)

    def run(self, job="j1", token="t1", service="work", hop=0, kind="answered", status=200, conn=None, name=None):
        self.count += 1
        name = name or f"w.{self.count}"
        begin = self.note("begin", at=self.tick(), exec=name, job=job, token=token, service=service, hop=hop, attempt=1,
                          sha="in-" + token, conn=self.time - 0.5 if conn is None else conn)
        end = self.note("end", at=self.tick(), exec=name, job=job, kind=kind, status=status, answer="out-" + name)
        return begin, end

    def state(self, job="j1", state="done", ended=100, **fields):
        return self.ask("state", job=job, state=state, ended=ended, **fields)

    def result(self, run, job="j1", token="t1", status=200, **fields):
        answer = {"exec": run["exec"], "job": run["job"], "token": token, "payload": "in-" + token,
                  "sha": "out-" + run["exec"]}
        return self.ask("result", job=job, answer=answer, status=status, **fields)

    def good_job(self, job="j1", token="t1"):
        submit = self.submit(job, token)
        begin, end = self.run(job, token)
        return submit, begin, end, self.result(begin, job, token), self.state(job)

    # ---- topics ----

    def subscribe(self, sub="s", **fields):
        return self.ask("subscribe", topic="t", sub=sub, **fields)

    def unsubscribe(self, sub="s", **fields):
        return self.ask("unsubscribe", topic="t", sub=sub, **fields)

    def publish(self, pub, **fields):
        return self.ask("publish", topic="t", pub=pub, sha="b-" + pub, size=9, **fields)

    def read(self, pub=None, message=None, sub="s", explicit=False, **fields):
        fields.setdefault("status", 200 if pub else 204)
        return self.ask("read", topic="t", sub=sub, explicit=explicit, pub=pub, message=message,
                        sha=pub and "b-" + pub, **fields)

    def ack(self, pub, message, **fields):
        return self.ask("ack", topic="t", sub="s", pub=pub, message=message, **fields)


class Jobs(unittest.TestCase):
    def setUp(self):
        self.s = Story()
        self.s.note("settings", attempts=5)

    def kinds(self):
        return {o.kind for o in checker.judge(copy.deepcopy(self.s.records))}

    def fine(self):
        self.assertEqual(self.kinds(), set())

    def found(self, *kinds):
        self.assertEqual(self.kinds(), set(kinds))

    def test_good(self):
        self.s.good_job()
        self.s.good_job("j2", "t2")
        self.s.kill()
        self.s.state()
        self.fine()

    def test_run_before_its_202(self):
        s = self.s
        submit = s.submit()
        begin, _ = s.run()
        submit["answered"] = s.tick()
        s.result(begin)
        s.state()
        self.fine()

    def test_lost(self):
        self.s.submit()
        self.s.kill()
        self.s.ask("state", job="j1", status=404)
        self.found(checker.LOST_JOB, checker.NEVER_ENDED)

    def test_lost_after_its_end(self):
        self.s.good_job()
        self.s.ask("result", job="j1", status=404)
        self.found(checker.LOST_JOB)

    def test_an_answer_404_of_its_worker_is_not_lost(self):
        self.s.submit(chain=["bad"])
        begin, _ = self.s.run(service="bad", status=404, kind="failed")
        self.s.result(begin, status=404)
        self.s.state(state="failed")
        self.fine()

    def test_404_to_one_who_asked_before_the_202(self):
        s = self.s
        early = s.ask("state", job="j1", status=404)
        s.good_job()
        early["answered"] = s.tick()
        self.fine()

    def test_never_ended(self):
        self.s.submit()
        self.s.state(state="queued", ended=None)
        self.found(checker.NEVER_ENDED)

    def test_nobody_looked(self):
        self.s.submit()
        self.found(checker.NOT_JUDGED)

    def test_ended_twice(self):
        self.s.good_job()
        self.s.state(state="failed")
        self.found(checker.ENDED_TWICE)

    def test_ended_twice_alike(self):
        self.s.good_job()
        self.s.state(ended=101)
        self.found(checker.ENDED_TWICE)

    def test_done_and_cancelled(self):
        self.s.good_job()
        self.s.ask("cancel", job="j1")
        self.found(checker.ENDED_TWICE)

    def test_not_ended_any_more(self):
        self.s.good_job()
        self.s.kill()
        self.s.state(state="running", ended=None)
        self.found(checker.REVIVED)

    def test_no_result_any_more(self):
        self.s.good_job()
        self.s.ask("result", job="j1", status=202, state="queued")
        self.found(checker.REVIVED)

    def test_it_was_looked_at_while_it_ended(self):
        s = self.s
        look = s.state(state="running", ended=None)
        s.good_job()
        look["answered"] = s.tick()
        look["asked"] = s.records[2]["answered"] + 0.1
        self.fine()

    def test_failed_without_reason(self):
        self.s.submit()
        begin, _ = self.s.run()
        self.s.result(begin)
        self.s.state(state="failed")
        self.found(checker.WRONG_END)

    def test_cancelled_by_nobody(self):
        self.s.submit()
        self.s.state(state="cancelled")
        self.found(checker.WRONG_END)

    def test_cancelled(self):
        self.s.submit()
        self.s.ask("cancel", job="j1", answered=False)
        self.s.state(state="cancelled")
        self.s.ask("cancel", job="j1", status=409)
        self.s.ask("result", job="j1", status=410)
        self.fine()

    def test_dead_too_early(self):
        self.s.submit()
        for _ in range(4):
            self.s.run(kind="failed", status=503)
        self.s.state(state="dead")
        self.found(checker.WRONG_END)

    def test_dead(self):
        self.s.submit()
        for _ in range(5):
            self.s.run(kind="failed", status=503)
        self.s.state(state="dead")
        self.fine()

    def test_result_of_another(self):
        s = self.s
        s.good_job("j2", "t2")
        s.submit()
        s.run()
        s.ask("result", job="j1", answer=dict(s.records[4]["answer"]))
        s.state()
        self.found(checker.OTHER_RESULT)

    def test_result_of_no_execution(self):
        s = self.s
        s.submit()
        begin, _ = s.run()
        s.result(dict(begin, exec="w.99"))
        s.state()
        self.found(checker.OTHER_RESULT)

    def test_result_changes(self):
        s = self.s
        s.submit()
        first, _ = s.run()
        second, _ = s.run(kind="answered")
        s.result(second)
        s.state()
        s.result(first)
        self.found(checker.CHANGED_RESULT)

    def test_altered_result(self):
        self.s.good_job()
        for r in self.s.records:
            if r["op"] == "result":
                r["answer"]["sha"] = "other"
        self.found(checker.ALTERED)

    def test_altered_order(self):
        self.s.good_job()
        for r in self.s.records:
            if r["op"] == "begin":
                r["sha"] = "other"
        self.found(checker.ALTERED)

    def test_done_without_result(self):
        self.s.submit()
        self.s.run()
        self.s.state()
        self.s.ask("result", job="j1", status=500)
        self.found(checker.NO_RESULT)
        self.s.records[-1]["status"] = 410  # that is: cancelled
        self.found(checker.NO_RESULT, checker.ENDED_TWICE)

    def test_run_again_after_a_kill(self):
        self.s.good_job()
        self.s.kill()
        self.s.run()
        self.found(checker.RUN_AGAIN)

    def test_run_again_after_cancel(self):
        s = self.s
        s.submit()
        s.ask("cancel", job="j1")
        s.state(state="cancelled")
        s.kill()
        s.run()
        self.found(checker.RUN_AGAIN)

    def test_it_was_on_its_way_when_cancelled(self):
        s = self.s
        s.submit()
        conn = s.time
        cancelled = s.ask("cancel", job="j1")
        s.state(state="cancelled")
        begin, _ = s.run(conn=conn)
        begin["at"] = cancelled["answered"] + 0.1
        self.fine()

    def test_run_again_unseen(self):
        """Whose answer counts must be the last."""
        s = self.s
        s.submit()
        first, _ = s.run()
        s.run()
        s.result(first)
        s.state()
        self.found(checker.RUN_AGAIN)

    def test_run_again_rightly(self):
        s = self.s
        s.submit()
        s.run()
        s.kill()
        second, _ = s.run()
        s.result(second)
        s.state()
        self.fine()

    def test_taken_up_after_the_death_of_its_hub(self):
        s = self.s
        s.submit()
        conn = s.time
        s.kill()
        second, _ = s.run()
        s.result(second)
        s.state()
        s.run(conn=conn)
        self.fine()

    def forwarded(self):
        s, chain = self.s, ["first", "second", "third"]
        s.submit(chain=chain)
        runs = [s.run(service=name, hop=hop, kind="answered" if hop == 2 else "forward") for hop, name in enumerate(chain)]
        s.result(runs[2][0])
        s.state()
        return runs

    def test_forwarded(self):
        self.forwarded()
        self.fine()

    def test_earlier_hop_again(self):
        runs = self.forwarded()
        begin, _ = self.s.run(service="first", kind="forward")
        begin["at"] = runs[2][0]["at"] - 0.1
        begin["conn"] = begin["at"] - 0.1
        self.found(checker.EARLIER_HOP)

    def test_same_hop_again(self):
        runs = self.forwarded()
        begin, _ = self.s.run(service="second", hop=1, kind="forward")
        begin["at"] = runs[2][0]["at"] - 0.1
        self.fine()

    def test_wrong_hop(self):
        self.s.submit(chain=["first", "second"])
        begin, _ = self.s.run(service="second", hop=0)
        self.s.result(begin)
        self.s.state()
        self.found(checker.WRONG_HOP)

    def test_ended_before_its_last_hop(self):
        self.s.submit(chain=["first", "second"])
        begin, _ = self.s.run(service="first", hop=0)
        self.s.result(begin)
        self.s.state()
        self.found(checker.WRONG_HOP)

    def test_two_jobs_for_a_key(self):
        s = self.s
        s.submit(answered=False, key="k", token="t1")
        s.kill()
        s.good_job()
        s.submit("j2", "t1", key="k")
        s.state("j2", ended=200)
        self.found(checker.TWO_JOBS)

    def test_two_jobs_run_for_a_key(self):
        s = self.s
        s.submit(answered=False, key="k")
        s.run("j0")
        s.kill()
        s.good_job()
        self.found(checker.TWO_JOBS)

    def test_one_job_for_a_key(self):
        s = self.s
        s.submit(answered=False, key="k")
        s.kill()
        s.submit(key="k")
        begin, _ = s.run()
        s.submit(key="k")
        s.result(begin)
        s.state()
        self.fine()

    def test_one_job_for_two(self):
        self.s.good_job()
        self.s.submit("j1", "t2")
        self.found(checker.ONE_JOB)

    def test_never_answered(self):
        s = self.s
        s.submit(answered=False)
        s.run()
        s.kill()
        self.fine()
        s.ask("listed", jobs=["j1"])
        s.state()
        self.fine()
        s.records.pop()
        s.state(state="queued", ended=None)
        self.found(checker.NEVER_ENDED)

    def test_nobodys_job(self):
        self.s.ask("listed", jobs=["j9"])
        self.s.state("j9")
        self.found(checker.UNKNOWN_JOB)

    def test_answered_at_once(self):
        s = self.s
        submit = s.submit(job=None, status=200)
        begin, end = s.run()
        submit["answered"] = s.tick()
        submit["answer"] = {"exec": begin["exec"], "job": "j1", "token": "t1", "payload": "in-t1", "sha": end["answer"]}
        s.state()
        self.fine()
        s.run()
        self.found(checker.RUN_AGAIN)

    def test_odd_answers(self):
        self.s.ask("publish", topic="t", pub="a", sha="", size=0, status=500)
        self.found(checker.ODD_ANSWER)

    def test_no_answer(self):
        self.s.ask("publish", answered=False, topic="t", pub="a", sha="", size=0, late=30)
        self.found(checker.NO_ANSWER)

    def test_cut(self):
        s = self.s
        s.submit()
        begin, _ = s.run()
        s.result(begin)
        s.state()
        cut = s.ask("result", answered=False, job="j1")
        cut["broke"] = s.tick()
        self.found(checker.CUT)
        cut["left"] = 1
        self.fine()
        del cut["left"]
        drain = s.note("drain", at=cut["broke"])
        self.fine()
        drain["op"] = "kill"
        self.fine()


class TopicsOnce(unittest.TestCase):
    """Messages that are acknowledged by being read."""

    setUp, kinds, fine, found = Jobs.setUp, Jobs.kinds, Jobs.fine, Jobs.found

    def begin(self, *pubs):
        self.s.subscribe()
        return [self.s.publish(pub) for pub in pubs]

    def test_good(self):
        s = self.s
        self.begin("a", "b", "c")
        s.kill()
        for i, pub in enumerate("abc"):
            s.read(pub, i + 1)
        s.read()
        self.fine()

    def test_lost(self):
        s = self.s
        self.begin("a", "b")
        s.kill()
        s.read("b", 2)
        s.read()
        self.found(checker.LOST_MESSAGE)

    def test_taken_by_a_get_that_broke(self):
        s = self.s
        self.begin("a", "b")
        s.read(answered=False)
        s.kill()
        s.read("b", 2)
        s.read()
        self.fine()

    def test_two_lost_by_one_get(self):
        s = self.s
        self.begin("a", "b", "c")
        s.read(answered=False)
        s.kill()
        s.read("c", 3)
        s.read()
        self.found(checker.LOST_MESSAGE)

    def test_lost_before_the_get_that_broke(self):
        s = self.s
        self.begin("a", "b")
        s.read("b", 2)
        s.read(answered=False)
        s.kill()
        s.read()
        self.found(checker.LOST_MESSAGE)

    def test_lost_after_the_get_that_broke(self):
        s = self.s
        s.subscribe()
        s.read(answered=False)
        s.kill()
        s.publish("a")
        s.read()
        self.found(checker.LOST_MESSAGE)

    def test_a_get_to_a_dead_hub_takes_nothing(self):
        s = self.s
        self.begin("a")
        conn = s.time
        s.kill()
        s.read(answered=False)["conn"] = conn
        s.read()
        self.found(checker.LOST_MESSAGE)

    def test_each_get_takes_its_own(self):
        """The first GET can have taken either, the second only b: both must be matched, whatever the order."""
        s = self.s
        s.subscribe()
        s.publish("a")
        s.read(answered=False)
        s.publish("b")
        s.read(answered=False)
        s.kill()
        s.read()
        self.fine()

    def test_publish_that_broke(self):
        s = self.s
        s.subscribe()
        s.publish("a", answered=False)
        s.kill()
        s.read()
        self.fine()
        s.read("a", 1)
        s.read()
        self.fine()

    def test_read_twice(self):
        s = self.s
        self.begin("a")
        s.read("a", 1)
        s.kill()
        s.read("a", 1)
        s.read()
        self.found(checker.DOUBLED)

    def test_out_of_order(self):
        s = self.s
        self.begin("a", "b")
        s.read("b", 2)
        s.read("a", 1)
        s.read()
        self.found(checker.ORDER)

    def test_out_of_order_without_ids(self):
        s = self.s
        self.begin("a", "b")
        s.read("b")
        s.read("a")
        s.read()
        self.found(checker.ORDER)

    def test_out_of_order_because_a_get_broke(self):
        s = self.s
        self.begin("a", "b")
        s.read(answered=False, left=True)
        s.read("b", 2)
        s.read("a", 1)
        s.read()
        self.fine()

    def test_published_at_once(self):
        """Whose publishing overlaps may come in any order."""
        s = self.s
        s.subscribe()
        a, b = s.publish("a"), s.publish("b")
        a["answered"] = b["answered"]
        s.read("b", 1)
        s.read("a", 2)
        s.read()
        self.fine()

    def test_two_subscriptions_two_orders(self):
        s = self.s
        s.subscribe()
        s.subscribe("r")
        a, b = s.publish("a"), s.publish("b")
        a["answered"] = b["answered"]
        for sub, pubs in (("s", "ab"), ("r", "ba")):
            for pub in pubs:
                s.read(pub, 1 if pub == "a" else 2, sub=sub)
            s.read(sub=sub)
        self.found(checker.ORDER)

    def test_altered(self):
        s = self.s
        self.begin("a")
        s.read("a", 1)["sha"] = "other"
        s.read()
        self.found(checker.ALTERED)

    def test_never_published(self):
        s = self.s
        s.subscribe()
        s.read("z", 1)
        s.read()
        self.found(checker.UNKNOWN_MESSAGE)

    def test_anothers_id(self):
        s = self.s
        self.begin("a", "b")
        s.read("a", 1)
        s.read("b", 1)
        s.read()
        self.found(checker.TWO_IDS)

    def test_from_before(self):
        s = self.s
        s.publish("a")
        s.subscribe()
        s.read("a", 1)
        s.read()
        self.found(checker.WRONG_MESSAGE)

    def test_from_before_it_was_ended(self):
        s = self.s
        self.begin("a")
        s.unsubscribe()
        s.subscribe()
        s.read("a", 1)
        s.read()
        self.found(checker.WRONG_MESSAGE)

    def test_ended_and_begun_again(self):
        s = self.s
        self.begin("a")
        s.unsubscribe()
        s.read(status=404)
        s.subscribe()
        s.publish("b")
        s.read("b", 2)
        s.read()
        s.unsubscribe()
        self.fine()

    def test_lost_before_its_end(self):
        s = self.s
        self.begin("a")
        s.read()
        s.unsubscribe()
        self.found(checker.LOST_MESSAGE)

    def test_ended_and_reads(self):
        s = self.s
        self.begin("a")
        s.unsubscribe()
        s.kill()
        s.read()
        self.found(checker.STILL_SUBSCRIBED)

    def test_ended_twice(self):
        s = self.s
        s.subscribe()
        s.unsubscribe()
        s.unsubscribe()
        self.found(checker.STILL_SUBSCRIBED)
        s.records[-1]["status"] = 404
        self.fine()

    def test_its_end_broke(self):
        s = self.s
        self.begin("a")
        s.unsubscribe(answered=False)
        s.kill()
        s.read(status=404)
        self.fine()
        s.records[-1]["status"] = 200
        s.records[-1].update(pub="a", sha="b-a", message=1)
        s.read()
        self.fine()
        s.read(status=404)
        self.found(checker.LOST_SUBSCRIPTION)  # it was there after the hub that may have ended it

    def test_not_ended_and_lost(self):
        s = self.s
        self.begin()
        s.unsubscribe(answered=False)
        s.kill()
        s.subscribe()
        s.read(status=404)
        self.found(checker.LOST_SUBSCRIPTION)

    def test_lost_subscription(self):
        s = self.s
        s.subscribe()
        s.kill()
        s.read(status=404)
        self.found(checker.LOST_SUBSCRIPTION)

    def test_lost_subscription_at_its_end(self):
        s = self.s
        s.subscribe()
        s.unsubscribe(status=404)
        self.found(checker.LOST_SUBSCRIPTION)

    def test_not_read_to_the_end(self):
        self.begin("a")
        self.found(checker.NOT_JUDGED)


class TopicsExplicit(unittest.TestCase):
    setUp, kinds, fine, found = Jobs.setUp, Jobs.kinds, Jobs.fine, Jobs.found

    def read(self, *args, **fields):
        return self.s.read(*args, explicit=True, **fields)

    def test_good(self):
        s = self.s
        s.subscribe()
        s.publish("a")
        s.publish("b")
        self.read("a", 1)
        s.kill()
        self.read("a", 1)
        s.ack("a", 1)
        self.read()  # it may be somebody else's now
        self.read("b", 2)
        s.ack("b", 2, answered=False)
        s.kill()
        s.ack("b", 2, status=404)
        self.read(final=True)
        self.fine()

    def test_after_ack(self):
        s = self.s
        s.subscribe()
        s.publish("a")
        self.read("a", 1)
        s.ack("a", 1)
        s.kill()
        self.read("a", 1)
        self.read(final=True)
        self.found(checker.AFTER_ACK)

    def test_asked_before_the_ack(self):
        s = self.s
        s.subscribe()
        s.publish("a")
        self.read("a", 1)
        again = self.read("a", 1)
        ack = s.ack("a", 1)
        again["answered"] = s.tick()
        again["asked"] = ack["asked"] - 0.1
        self.read(final=True)
        self.fine()

    def test_lost_though_not_acknowledged(self):
        s = self.s
        s.subscribe()
        s.publish("a")
        self.read(answered=False)
        s.kill()
        self.read(final=True)
        self.found(checker.LOST_MESSAGE)

    def test_ack_of_what_is_there(self):
        s = self.s
        s.subscribe()
        s.publish("a")
        self.read("a", 1)
        s.ack("a", 1, status=404)
        self.read(final=True)
        self.found(checker.ACK_REFUSED)


if __name__ == "__main__":
    unittest.main()
