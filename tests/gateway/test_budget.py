"""Hard budgets: exactly what they allow, with one process and with three, over restarts and kills."""
import collections
import concurrent.futures
import os
import sys
import tempfile
import threading
import time
import unittest

from case import Case, KEY, SMALL, faults, service
import servers

YAML = """
providers:
  default: openai
  instances:
    - name: openai
      kind: openai
      base_url: "%(url)s"
      api_key: %(key)s
      max_retries: 0
      concurrency: 64
      models: [{name: %(model)s, dimension: 1536, price_per_1k_tokens: 0, price_per_request: 0.001}]
hybrid:
  daily_api_budget_usd: %(budget)s
  fallback: none
cache: {url: none}
alerts: {api_budget_warning: 1.0, api_budget_critical: 1.0}
budget:
  timezone: UTC
  limits: [%(limits)s]
"""


class Budget(Case):
    def yaml(self, budget="0.010", limits=""):
        return YAML % {"url": self.up.base_url("openai"), "key": KEY, "model": SMALL, "budget": budget, "limits": limits}

    def flood(self, gateways, count, pinned="openai", **members):
        """Requests that must go to the provider, unless pinned is None."""
        def one(i):
            body = dict({"texts": ["text %d %s" % (i, members.get("category", ""))], "preferred_provider": pinned}, **members)
            status, _, body = gateways[i % len(gateways)].post("/api/v1/embeddings", body)
            return status, body
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            return list(pool.map(one, range(count)))

    def check(self, answers, calls, before=0):
        """Exactly these many were paid for, and every other was refused because of the budget, not of anything else."""
        self.assertEqual(collections.Counter(status for status, _ in answers), {200: calls, 402: len(answers) - calls})
        self.assertEqual(self.up.calls, before + calls)
        refused = next(b for s, b in answers if s == 402)
        self.assertIn("budget", refused["detail"].lower())

    def three(self, env, yaml=None):
        env = dict(env, EMBEDD_MAX_CONCURRENT_REQUESTS="128")
        three = [self.gateway(env=env, yaml=yaml or self.yaml(), ready=False) for _ in range(3)]
        return [g.wait_ready() for g in three]

    def test_a_thousand_requests_against_ten_calls(self):
        g = self.gateway(env={"EMBEDD_MAX_CONCURRENT_REQUESTS": "128"}, yaml=self.yaml())
        self.check(self.flood([g], 1000), 10)

    def test_one_process_over_redis(self):
        with servers.Redis() as redis:
            redis.start()
            g = self.gateway(env={"EMBEDD_STATE_URL": redis.url, "EMBEDD_MAX_CONCURRENT_REQUESTS": "128"}, yaml=self.yaml())
            self.check(self.flood([g], 1000), 10)
            g.close()

    def test_three_processes_over_redis(self):
        with servers.Redis() as redis:
            redis.start()
            three = self.three({"EMBEDD_STATE_URL": redis.url})
            self.check(self.flood(three, 1000), 10)
            for g in three:
                g.close()

    def test_three_processes_over_postgresql(self):
        """Everything that replicas share: budgets and breakers, ledger, rollout, vectors."""
        with servers.start_postgresql(max_connections=120) as postgresql:
            three = self.three({"EMBEDD_STATE_URL": postgresql.url, "EMBEDD_STORE_URL": postgresql.url,
                                "EMBEDD_CACHE_URL": postgresql.url}, self.yaml().replace("cache: {url: none}", ""))
            for g in three:  # they started at once on an empty database, and each made what the others did not
                self.assertEqual(g.log("a part of the service is left out"), [])
            self.assertEqual(self.ask(three[0], {"texts": ["paid for once"]})["provider"], "openai")
            service.until(lambda: postgresql.sql("SELECT count(*) FROM embedd_cache") == "1", "the vector to be stored")
            for g in three:
                answer = self.ask(g, {"texts": ["paid for once"]})
                self.same(answer["embeddings"], self.expect(SMALL, ["paid for once"]))
                self.assertEqual(self.headers["x-embedd-cached"], "1")
            self.check(self.flood(three, 1000), 9, before=1)
            # one ledger and one total of the day, the same for all
            for g in three:
                service.until(lambda: g.get("/api/v1/embeddings/costs?by=kind")[2]["total"]["cost_usd"] == 0.010,
                              "the ledger to have all ten calls")
            spent = "SELECT spent, reserved FROM embedd_budget_total WHERE scope = 'global'"
            service.until(lambda: postgresql.sql(spent) == "10000000|0", "all ten calls to be settled")
            # what an operator does on one holds for all
            self.ask(three[0], {"action": "rollback", "reason": "a test"}, path="/api/v1/embeddings/rollout")
            for g in three:
                service.until(lambda: g.get("/api/v1/embeddings/rollout")[2]["mode"] == "rolled_back", "the rollback")
            for g in three:
                g.close()

    def test_with_a_free_route_nothing_fails(self):
        g = self.gateway(env={}, yaml=self.yaml().replace("fallback: none", "fallback: local"))
        answers = self.flood([g], 200, pinned=None)
        self.assertEqual({s for s, _ in answers}, {200})
        providers = collections.Counter(b["provider"] for _, b in answers)
        self.assertEqual((providers["openai"], self.up.calls), (10, 10))

    def test_survives_a_restart(self):
        with tempfile.TemporaryDirectory() as data:
            env = {"EMBEDD_DATA_DIR": data}
            g = self.gateway(env=env, yaml=self.yaml())
            self.assertEqual([s for s, _ in self.flood([g], 6)], [200] * 6)
            g.stop()
            g = self.gateway(env=env, yaml=self.yaml())
            answers = self.flood([g], 20)
            self.assertEqual(sum(s == 200 for s, _ in answers), 4)
            self.assertEqual(self.up.calls, 10)

    def test_what_is_kept_is_answered_though_the_budget_is_spent(self):
        """From L1, and from L2 after a restart; a request that holds one text more is refused, and pays nothing."""
        with tempfile.TemporaryDirectory(prefix="embedd-kept-") as data:
            yaml = self.yaml(budget="0.002").replace("cache: {url: none}\n", "")
            env = {"EMBEDD_DATA_DIR": data}
            g = self.gateway(env=env, yaml=yaml)
            first = self.ask(g, {"texts": ["one"], "preferred_provider": "openai"})
            self.ask(g, {"texts": ["two", "three"], "preferred_provider": "openai"})
            self.ask(g, {"texts": ["four"], "preferred_provider": "openai"}, 402)
            for _ in range(2):
                again = self.ask(g, {"texts": ["one"], "preferred_provider": "openai"})
                self.assertEqual(again["embeddings"], first["embeddings"])
                self.assertEqual((self.headers["x-embedd-cached"], self.headers["x-embedd-provider"]), ("1", "openai"))
                self.assertEqual(float(self.headers["x-embedd-cost-usd"]), 0)
                both = self.ask(g, {"texts": ["three", "two", "three"], "preferred_provider": "openai"})
                self.assertEqual(self.headers["x-embedd-cached"], "3")
                self.assertEqual(both["embeddings"][0], both["embeddings"][2])
                self.ask(g, {"texts": ["one", "four"], "preferred_provider": "openai"}, 402)
                self.ask(g, {"texts": ["one"], "preferred_provider": "openai"}, 402, cache_control="no-cache")
                self.assertEqual(g.stop(), 0)
                g = self.gateway(env=env, yaml=yaml)
            self.assertEqual(self.up.calls, 2)

    def test_a_killed_process_leaves_no_reservation_for_ever(self):
        with tempfile.TemporaryDirectory() as data:
            env = {"EMBEDD_DATA_DIR": data, "EMBEDD_RESERVATION_SECONDS": "2"}
            g = self.gateway(env=env, yaml=self.yaml(budget="0.003"))
            self.up.always(faults.black_hole)
            waiting = [threading.Thread(target=lambda i=i: self._lost(g, i), daemon=True) for i in range(3)]
            for t in waiting:
                t.start()
            service.until(lambda: self.up.calls == 3, "three calls in work")
            g.process.kill()
            g.process.wait()
            self.up.script([])
            g = self.gateway(env=env, yaml=self.yaml(budget="0.003"))
            answered = service.until(lambda: self.flood([g], 1)[0][0] == 200, "the reservations come back")
            self.assertTrue(answered)

    def _lost(self, g, i):
        try:
            g.post("/api/v1/embeddings", {"texts": ["lost %d" % i]})
        except Exception:
            pass

    def test_limits_of_a_category_and_a_provider(self):
        g = self.gateway(env={}, yaml=self.yaml("1", "{category: faq, daily_usd: 0.003}, {provider: openai, daily_usd: 0.005}"))
        answers = self.flood([g], 10, category="faq")
        self.assertEqual(sum(s == 200 for s, _ in answers), 3)
        answers = self.flood([g], 10, category="news")
        self.assertEqual(sum(s == 200 for s, _ in answers), 2, "five in all for the provider")

    def test_the_question_for_a_dimension_is_paid_for(self):
        yaml = self.yaml("0.002").replace(", dimension: 1536", "").replace(SMALL, "of-a-dimension-unknown")
        g = self.gateway(env={}, yaml=yaml)
        answers = self.flood([g], 4)
        self.assertEqual(sorted(s for s, _ in answers), [200, 402, 402, 402])
        self.assertEqual(self.up.calls, 2, "one to learn the dimension, one for a text")
        total = service.until(lambda: g.get("/api/v1/embeddings/costs?by=provider")[2]["total"]["cost_usd"], "the ledger")
        self.assertAlmostEqual(total, 0.002)

    def test_one_key_s_spent_budget_is_not_another_s(self):
        """The one that computes for all has no money. The others, who wait for it and have some, get their vectors.

        The only lane of the provider is held by another text. So the poor one, whose budget holds what a plan estimates of a
        text (a token in four bytes) and not what it has (one in two), leads the computation of a text and waits for the lane;
        the rich come and wait for its vector; then the lane is free, and the poor one's reservation is refused. Whoever
        waited in vain asks the provider itself: several calls for one text, where one is made for all otherwise, prove that
        it came to that."""
        rounds, rich = 12, 6
        yaml = self.yaml("100", "{category: poor, daily_usd: 0.030}").replace("concurrency: 64", "concurrency: 1")
        yaml = yaml.replace("price_per_1k_tokens: 0, price_per_request: 0.001", "price_per_1k_tokens: 1")
        g = self.gateway(env={}, yaml=yaml)

        def misses():
            text = g.get("/metrics")[2].decode()
            return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                       if line.startswith('embedd_cache_misses_total{tier="l1"}'))

        def ask(text, category):
            return g.post("/api/v1/embeddings", {"texts": [text], "preferred_provider": "openai", "category": category})

        def one_round(n, pool):
            free, holder, text = threading.Event(), "the lane is held %d" % n, "%d" % n + " x" * 40

            def hold(x):
                free.wait(service.PATIENCE)
                x.send(x.reply())
            self.up.script(lambda r: hold if r.texts == [holder] else None)
            before = misses()
            try:
                first = pool.submit(ask, holder, "rich")
                service.until(lambda: holder in self.up.texts(), "the lane to be held")
                poor = pool.submit(ask, text, "poor")
                service.until(lambda: misses() >= before + 2, "the poor one to lead")
                others = [pool.submit(ask, text, "rich") for _ in range(rich)]
                service.until(lambda: misses() >= before + 2 + rich, "the rich to wait for it")
            finally:
                free.set()
            self.assertEqual(first.result()[0], 200)
            self.assertIn(poor.result()[0], (200, 402))
            for status, _, answer in [f.result() for f in others]:
                self.assertEqual(status, 200, answer)
                self.same(answer["embeddings"], self.expect(SMALL, [text]))
            return poor.result()[0] == 402 and self.up.texts().count(text) > 1
        with concurrent.futures.ThreadPoolExecutor(rich + 2) as pool:
            self.assertTrue(any(one_round(n, pool) for n in range(rounds)), "nobody ever waited for the poor one")

    def test_what_failed_is_given_back_and_what_may_be_billed_is_not(self):
        g = self.gateway(env={}, yaml=self.yaml("0.003"))
        self.up.script([faults.status(400), faults.status(429)])
        self.flood([g], 2)
        self.up.script([])
        answers = self.flood([g], 5)
        self.assertEqual(sum(s == 200 for s, _ in answers), 3)

    def test_near_the_limit_only_analysis_spends(self):
        g = self.gateway(env={"EMBEDD_FALLBACK": "local"}, yaml=self.yaml("0.010").replace(
            "api_budget_warning: 1.0", "api_budget_warning: 0.5").replace("fallback: none", "fallback: local"))
        by = collections.Counter()
        for i in range(8):
            by[self.ask(g, {"texts": ["t %d" % i]})["provider"]] += 1
        self.assertEqual(by, {"openai": 5, "local": 3})
        self.assertEqual(self.ask(g, {"texts": ["important"], "context": "analysis"})["provider"], "openai")

    def test_a_frozen_redis_spends_nothing_and_holds_nobody_up(self):
        with servers.Redis() as redis:
            redis.start()
            g = self.gateway(env={"EMBEDD_STATE_URL": redis.url},
                             yaml=self.yaml().replace("fallback: none", "fallback: local"))
            self.assertEqual(self.ask(g, {"texts": ["before"]})["provider"], "openai")
            redis.freeze()
            try:
                took = []
                for i in range(5):
                    start = time.monotonic()
                    a = self.ask(g, {"texts": ["while %d" % i]})
                    took.append(time.monotonic() - start)
                    self.assertEqual(a["provider"], "local")
                self.assertLess(max(took), 20)  # on a busy machine; it is frozen for as long as this takes
                self.assertLess(min(took), 2)
            finally:
                redis.thaw()
            service.until(lambda: self.ask(g, {"texts": ["after %f" % time.monotonic()]})["provider"] == "openai",
                          "it recovers by itself")


if __name__ == "__main__":
    unittest.main()
