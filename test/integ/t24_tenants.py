#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tenants: shares, tokens of clients, rates, priorities that they may ask for; and what is refused."""

import itertools
import time

from weirtest import Case, main, request_bytes, scaled, wait_until
from weirtest.hub import weir_binary


def as_tenant(name):
    return [("X-Tenant", name)]


def bearer(secret):
    return [("Authorization", "Bearer " + secret)]


class Tenants(Case):
    def busy(self, h, headers=(), target="/sleep?ms=60000"):
        """A request that holds the only slot until its client is closed."""
        client = self.client(h)
        client.send(request_bytes("GET", target, headers))
        h.wait_running(1)
        return client

    def queued(self, h, name, headers=()):
        """One more in the queue, which the worker will note by its name."""
        client = self.client(h)
        self.count = getattr(self, "count", 0) + 1
        client.send(request_bytes("GET", f"/sleep?ms=1&i={name}", headers))
        h.wait_queued(self.count)
        return client

    def order(self, clients):
        """The names of the queued ones, as they were begun after the first."""
        for client in clients:
            self.assertEqual(client.response().status, 200)
        return [line[6].split("=")[-1] for line in self.logged("started")[1:]]

    def tenant(self, h, name):
        return next((t for t in h.status()["tenants"] if t["name"] == name), None)


class Shares(Tenants):
    def test_shares_are_as_the_weights(self):
        h = self.hub("--tenant-header", "X-Tenant", "--tenant", "a.weight=3")
        self.worker(h)
        first = self.busy(h)
        clients = [self.queued(h, "b", as_tenant("b")) for _ in range(16)]
        clients += [self.queued(h, "a", as_tenant("a")) for _ in range(12)]
        first.close()
        order = self.order(clients)
        for i in range(0, 16, 4):
            self.assertEqual(sorted(order[i:i + 4]), ["a", "a", "a", "b"], order)
        self.assertEqual(order[16:], ["b"] * 12)

    def test_a_flood_holds_up_no_other(self):
        tokens = ("--client-token", "flood=f1", "--client-token", "quiet=q1")
        for flags, tenant in ((("--tenant-header", "X-Tenant"), as_tenant),
                              (tokens, lambda name: bearer(name[0] + "1"))):
            with self.subTest(flags=flags):
                h = self.hub(*flags)
                self.worker(h)
                begun = len(self.logged("started"))
                self.count = 0
                first = self.busy(h, tenant("flood"))
                clients = [self.queued(h, "flood", tenant("flood")) for _ in range(40)]
                clients.append(self.queued(h, "quiet", tenant("quiet")))
                first.close()
                order = self.order(clients)[begun:]
                self.assertLessEqual(order.index("quiet"), 1, order)
                self.assertEqual(len(order), 41)

    def test_a_tenant_of_late_has_its_turn_at_once(self):
        """The flood is being worked off when the other one comes."""
        h = self.hub("--tenant-header", "X-Tenant")
        self.worker(h)
        first = self.busy(h)
        clients = [self.queued(h, "flood", as_tenant("flood")) for _ in range(10)]
        second = self.client(h)
        second.send(request_bytes("GET", "/sleep?ms=60000&i=long", as_tenant("flood") + [("Weir-Priority", "0")]))
        h.wait_queued(11)
        first.close()
        h.wait_queued(10)  # the long one, which has the better class
        clients += [self.queued(h, name, as_tenant(name)) for name in ("x", "y")]
        second.close()
        order = self.order(clients)[1:]
        self.assertLessEqual(max(order.index("x"), order.index("y")), 2, order)

    def test_more_than_max_tenants_share(self):
        h = self.hub("--tenant-header", "X-Tenant", "--max-tenants", "2")
        self.worker(h)
        first = self.busy(h)
        wanted = ["t1", "t1", "t2", "t2", "t3", "t4", "t5"]
        clients = [self.queued(h, name, as_tenant(name)) for name in wanted]
        status = h.status()
        self.assertEqual({t["name"]: t["requests"] for t in status["tenants"]}, {"": 4, "t1": 2, "t2": 2})
        first.close()
        self.assertEqual(self.order(clients), ["t1", "t2", "t3", "t1", "t2", "t4", "t5"])
        h.wait_idle()
        self.assertEqual([t["name"] for t in h.status()["tenants"]], [""])  # they are forgotten
        self.assertEqual(self.get(h, "/hello", as_tenant("t3")).status, 200)

    def test_a_name_can_be_anything(self):
        h = self.hub("--tenant-header", "X-Tenant")
        self.worker(h)
        names = ['a"b\\c', "\xfc\xe9", "n" * 255, "x" * 256, "100% {}"]
        for i, name in enumerate(names):
            client = self.client(h)
            client.send(request_bytes("GET", "/sleep?ms=60000", as_tenant(name)))
            h.wait_status(lambda s, n=i + 1: s["requests"] == n, what="one more")
        shown = {t["name"]: t["requests"] for t in h.status()["tenants"]}
        self.assertEqual(shown.pop(""), 1)  # the one that is too long
        self.assertEqual(set(shown), {'a"b\\c', "??", "n" * 255, "100% {}"})
        m = h.metrics()
        self.assertEqual(m.value("weir_tenant_requests", tenant='a\\"b\\\\c'), 1)
        self.assertEqual(m.value("weir_tenant_submitted_total", tenant="%FC%E9"), 1)
        self.assertEqual(m.value("weir_tenant_requests"), len(names))

    def test_status_lists_them(self):
        h = self.hub("--tenant-header", "X-Tenant", "--tenant", "gold.weight=5,gold.rate=90/m,gold.burst=7",
                     "--tenant", "gold.best-priority=2")
        self.worker(h)
        self.assertEqual(self.get(h, "/hello", as_tenant("gold")).status, 200)
        self.assertEqual(self.tenant(h, "gold"), {
            "name": "gold", "requests": 0, "submitted": 1, "dispatched": 1, "rejected_rate": 0, "weight": 5,
            "rate_per_s": 1.5, "burst": 7, "best_priority": 2})
        p = self.start("status", [weir_binary(), "status", "--admin", "%s:%d" % h.admin])
        self.assertEqual(p.wait(), 0)
        self.assertRegex(p.stdout(), r"Tenants\ntenant +requests .*\n(.*\n)?gold +0 +1 +1 +0 +5 +1\.5 +2\n")


class Tokens(Tenants):
    def setUp(self):
        super().setUp()
        self.h = self.hub("--client-token", "web=s3cret", "--client-token", "shop=other", "--health-path", "/up",
                          "--cors-origin", "*", "--tenant-header", "X-Tenant")
        self.worker(self.h)

    def test_none(self):
        for headers in ([], [("Authorization", "Basic czNjcmV0")], [("Authorization", "Bearer")],
                        [("Authorization", "s3cret")], as_tenant("web")):
            r = self.get(self.h, "/hello", headers)
            self.assert_problem(r, 401)
            self.assertEqual(r.header("www-authenticate"), "Bearer")
        self.assertEqual(self.h.status()["services"][0]["submitted"], 0)

    def test_wrong(self):
        for secret in ("s3cre", "s3cret1", "S3cret", "web", "web=s3cret"):
            r = self.get(self.h, "/hello", bearer(secret))
            self.assert_problem(r, 403)
            self.assertIsNone(r.header("www-authenticate"))

    def test_right(self):
        for scheme in ("Bearer", "bearer"):
            r = self.get(self.h, "/echo", [("Authorization", scheme + " s3cret"), ("X-Kept", "yes")])
            self.assertEqual(r.status, 200)
            self.assertEqual(r.header("x-echo-x-kept"), "yes")
            self.assertIsNone(r.header("x-echo-authorization"))

    def test_not_passed_on_by_a_forward(self):
        r = self.get(self.h, "/forward?to=echo&body=x", bearer("other"))
        self.assertEqual((r.status, r.text), (200, "x"))
        self.assertIsNone(r.header("x-echo-authorization"))

    def test_the_tokens_name_is_the_tenant(self):
        self.busy(self.h, bearer("s3cret") + as_tenant("shop"))
        self.assertEqual(self.tenant(self.h, "web")["requests"], 1)
        self.assertIsNone(self.tenant(self.h, "shop"))

    def test_the_connection_stays(self):
        client = self.client(self.h)
        self.assertEqual(client.request("GET", "/hello").status, 401)
        self.assertEqual(client.request("GET", "/hello", bearer("nope")).status, 403)
        self.assertEqual(client.request("POST", "/hello", bearer("s3cret"), b"").status, 200)

    def test_a_refused_body(self):
        r = self.get(self.h, "/echo", method="POST", body=b"x" * 100)
        self.assert_problem(r, 401)

    def test_what_needs_none(self):
        self.assertEqual(self.get(self.h, "/up").status, 200)
        self.assertEqual(self.get(self.h, "*", method="OPTIONS").status, 204)
        preflight = [("Origin", "https://a.example"), ("Access-Control-Request-Method", "GET")]
        self.assertEqual(self.get(self.h, "/hello", preflight, method="OPTIONS").status, 204)
        self.assert_problem(self.get(self.h, "/hello", preflight), 401)
        self.assertEqual(self.h.admin_get("/status").status, 200)

    def test_without_tokens_the_field_is_the_workers(self):
        h = self.hub()
        self.worker(h)
        r = self.get(h, "/echo", bearer("any"))
        self.assertEqual(r.header("x-echo-authorization"), "Bearer any")

    def test_workers_need_another(self):
        h = self.hub("--client-token", "web=c")
        self.worker(h)  # none is wanted of workers
        self.assertEqual(self.get(h, "/hello", bearer("c")).status, 200)


class Rates(Tenants):
    def test_rate_and_burst(self):
        h = self.hub("--tenant-header", "X-Tenant", "--tenant", "slow.rate=60/h, burst.rate=60/h, burst.burst=3")
        self.worker(h)
        for name, burst in (("slow", 1), ("burst", 3)):
            begin = time.monotonic()
            for _ in range(burst):
                self.assertEqual(self.get(h, "/hello", as_tenant(name)).status, 200)
            r = self.get(h, "/hello", as_tenant(name))
            took = time.monotonic() - begin
            self.assert_problem(r, 429, "hello")
            self.assertTrue(60 - took - 1 <= int(r.header("retry-after")) <= 60, r)
        self.assertEqual(self.get(h, "/hello", as_tenant("other")).status, 200)
        self.assertEqual(self.get(h, "/hello").status, 200)
        m = h.metrics()
        self.assertEqual(m.value("weir_rejected_total", reason="rate"), 2)
        self.assertEqual(m.value("weir_tenant_rejected_total", tenant="slow", reason="rate"), 1)
        self.assertEqual(self.tenant(h, "burst")["rejected_rate"], 1)

    def test_it_recovers(self):
        h = self.hub("--tenant-header", "X-Tenant", "--tenant-rate", "20/m")
        self.worker(h)
        begin = time.monotonic()
        self.assertEqual(self.get(h, "/hello", as_tenant("t")).status, 200)
        r = self.get(h, "/hello", as_tenant("t"))
        self.assert_problem(r, 429)
        self.assertIn(r.header("retry-after"), ("1", "2", "3"))
        wait_until(lambda: self.get(h, "/hello", as_tenant("t")).status == 200, 10, "it may again")
        self.assertGreaterEqual(time.monotonic() - begin, 2.9)
        self.assertEqual(self.get(h, "/hello", as_tenant("t")).status, 429)

    def test_the_limit_is_not_forgotten_with_the_tenant(self):
        """Nor can one get around it by names that come and go, while there is room."""
        h = self.hub("--tenant-header", "X-Tenant", "--tenant-rate", "60/h")
        self.worker(h)
        for i in range(20):
            self.assertEqual(self.get(h, "/hello", as_tenant(f"t{i}")).status, 200)
        for i in range(20):
            self.assertEqual(self.get(h, "/hello", as_tenant(f"t{i}")).status, 429)

    def test_requests_without_a_tenant_share_the_hubs_rate(self):
        h = self.hub("--tenant-header", "X-Tenant", "--tenant-rate", "60/h", "--tenant", "free.rate=off")
        self.worker(h)
        self.assertEqual([self.get(h, "/hello").status for _ in range(2)], [200, 429])
        self.assertEqual([self.get(h, "/hello", as_tenant("free")).status for _ in range(5)], [200] * 5)


class Priorities(Tenants):
    def test_of_a_tenant(self):
        h = self.hub("--tenant-header", "X-Tenant", "--tenant", "low.best-priority=6")
        self.worker(h)
        first = self.busy(h)
        wanted = [("low", "0", "l0"), ("low", "7", "l7"), ("x", "5", "x5"), ("low", "6", "l6"), ("x", "0", "x0")]
        clients = [self.queued(h, name, as_tenant(t) + [("Weir-Priority", p)]) for t, p, name in wanted]
        first.close()
        self.assertEqual(self.order(clients), ["x0", "x5", "l0", "l6", "l7"])

    def test_of_a_service(self):
        h = self.hub("--service", "sleep.best-priority=5")
        self.worker(h)
        first = self.busy(h)
        clients = [self.queued(h, name, [("Weir-Priority", p)])
                   for p, name in (("9", "d"), ("4", "a"), ("5", "b"), ("0", "c"))]
        self.assertEqual(sorted(j["priority"] for j in h.status()["jobs"] if j["state"] == "queued"), [5, 5, 5, 9])
        first.close()
        self.assertEqual(self.order(clients), ["a", "b", "c", "d"])


class Refused(Case):
    def test_bad_values(self):
        numbers = itertools.count()
        for flags, message in (
                (("--tenant", "a.weight=0"), '"0" is not between 1 and 1000'),
                (("--tenant", "a.rate=5/d"), '"5/d" is not a rate'),
                (("--tenant", "a.best-priority=10"), '"10" is not between 0 and 9'),
                (("--tenant", "a b.weight=1"), "not a tenant's name"),
                (("--tenant", "a"), "not NAME.KEY=VALUE"),
                (("--tenant", "a.wieght=1"), "did you mean weight?"),
                (("--client-token", "secret"), "a token is NAME=SECRET"),
                (("--client-token-file", "/nonexistent"), "/nonexistent: No such file"),
                (("--max-tenants", "1", "--tenant", "a.weight=1,b.weight=1"), "max-tenants"),
                (("--service", "s.require=a}"), '"a}" is not a label'),
                (("--service", "s.order=random"), "none of fifo|shortest")):
            with self.subTest(flags=flags):
                p = self.start(f"check{next(numbers)}", [weir_binary(), "check", *flags])
                self.assertEqual(p.wait(scaled(10)), 2)
                self.assertIn(message, p.stderr())
                self.assertEqual(p.stdout(), "")


if __name__ == "__main__":
    main()
