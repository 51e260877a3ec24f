"""Rollout, shadow mode, readiness and alerts of a running service."""
import collections
import concurrent.futures
import http.server
import json
import os
import subprocess
import tempfile
import threading
import time
import unittest

from case import Case, SMALL, faults, service


class Rollout(Case):
    def gateway(self, env=None, **more):
        return super().gateway(self.openai(EMBEDDING_PROVIDER="local", EMBEDD_LEGACY_PROVIDER="openai", **(env or {})), **more)

    def paths(self, g, count=200, prefix="user"):
        def one(i):
            r = self.ask(g, {"texts": ["text %d" % i], "user": "%s-%d" % (prefix, i)})["results"][0]
            return r["provider"], r["route"]["path"]
        return [one(i) for i in range(count)]

    def rollout(self, g, **body):
        return self.ask(g, body, path="/api/v1/embeddings/rollout")

    def test_a_share_is_sticky_and_only_grows(self):
        g = self.gateway({"EMBEDDING_ROLLOUT_PERCENTAGE": "25"})
        first = self.paths(g)
        share = sum(path == "hybrid" for _, path in first)
        self.assertTrue(20 < share < 85, share)
        self.assertEqual({provider for provider, path in first if path == "legacy"}, {"openai"})
        self.assertEqual({provider for provider, path in first if path == "hybrid"}, {"local"})
        self.assertEqual(self.paths(g), first)
        self.rollout(g, action="set", percentage=60, reason="a test")
        service.until(lambda: g.get("/api/v1/embeddings/rollout")[2]["percentage"] == 60, "the new share")
        more = self.paths(g)
        for before, after in zip(first, more):
            self.assertFalse(before[1] == "hybrid" and after[1] == "legacy", "nobody is moved off")

    def test_hybrid_off_is_legacy_for_all(self):
        g = self.gateway({"USE_HYBRID_EMBEDDINGS": "false"})
        self.assertEqual(set(self.paths(g, 20)), {("openai", "legacy")})

    def test_rollback_at_once_and_its_audit(self):
        g = self.gateway()
        self.assertEqual(set(self.paths(g, 10)), {("local", "hybrid")})
        self.rollout(g, action="rollback", reason="it hurts")
        service.until(lambda: set(self.paths(g, 5)) == {("openai", "legacy")}, "the legacy path", patience=30)
        audit = g.get("/api/v1/embeddings/rollout")[2]["audit"]
        self.assertEqual((audit[0]["action"], audit[0]["reason"]), ("rollback", "it hurts"))
        self.ask(g, {"action": "set", "percentage": 101}, 422, path="/api/v1/embeddings/rollout")

    def test_the_command_sees_and_changes_a_running_service(self):
        with tempfile.TemporaryDirectory() as data:
            g = self.gateway({"EMBEDD_DATA_DIR": data})
            env = service.clean_environment({"EMBEDD_DATA_DIR": data})
            done = subprocess.run([service.PROGRAM, "rollout", "set", "0", "--reason", "from the shell"], env=env,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.assertEqual(done.returncode, 0, done.stdout)
            service.until(lambda: self.paths(g, 3)[0][1] == "legacy", "what the command set", patience=30)
            done = subprocess.run([service.PROGRAM, "rollout", "get", "--json"], env=env, stdout=subprocess.PIPE)
            self.assertEqual(json.loads(done.stdout)["percentage"], 0)

    def test_rollback_is_proved_under_load(self):
        with tempfile.TemporaryDirectory() as data:
            g = self.gateway({"EMBEDD_DATA_DIR": data})
            done = subprocess.run([service.PROGRAM, "rollout", "verify", "--url", g.url, "--seconds", "6"],
                                  env=service.clean_environment({"EMBEDD_DATA_DIR": data}), stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=120)
            self.assertEqual(done.returncode, 0, done.stdout.decode())
            view = g.get("/api/v1/embeddings/rollout")[2]
            self.assertEqual(view["audit"][0]["action"], "verified")
            readiness = g.get("/api/v1/embeddings/production-readiness")[2]
            verified = [c for c in readiness["criteria"] if c["name"] == "rollback_verified"][0]
            self.assertTrue(verified["passed"], readiness)


class Shadow(Case):
    ENV = {"EMBEDDING_SHADOW_MODE": "true", "USE_HYBRID_EMBEDDINGS": "false", "EMBEDDING_PROVIDER": "openai"}

    def test_compared_in_the_background(self):
        g = self.gateway(self.openai(**self.ENV))
        for i in range(30):
            a = self.ask(g, {"texts": ["sentence number %d about things" % i], "category": "news"})
            self.assertEqual((a["provider"], a["results"][0]["route"]["path"]), ("openai", "legacy"))
        report = service.until(lambda: self.done(g, 30), "30 comparisons")
        self.assertEqual(report["failures"], 0)
        self.assertIn("local/", report["newest"][0]["candidate"])
        ready = g.get("/api/v1/embeddings/production-readiness")[2]
        self.assertFalse(ready["ready"])
        named = {c["name"]: c for c in ready["criteria"]}
        self.assertFalse(named["comparisons"]["passed"])

    def done(self, g, count):
        report = g.get("/api/v1/embeddings/shadow")[2]
        return report if report["comparisons"] + report["failures"] >= count else None

    def test_a_candidate_that_costs_has_its_own_limit_and_account(self):
        g = self.gateway(self.openai(EMBEDDING_SHADOW_MODE="true", USE_HYBRID_EMBEDDINGS="false",
                                     EMBEDD_LEGACY_PROVIDER="local", EMBEDD_CANDIDATE_PROVIDER="openai"))
        for i in range(5):
            self.assertEqual(self.ask(g, {"texts": ["text %d" % i]})["provider"], "local")
        service.until(lambda: self.done(g, 5), "5 comparisons")
        service.until(lambda: self.up.calls == 5, "the candidate's calls")
        costs = g.get("/api/v1/embeddings/costs?by=kind")[2]
        self.assertEqual(costs["total"]["cost_usd"], 0, "the shadow's spending is apart")

    def test_a_candidate_that_fails_hurts_nobody(self):
        g = self.gateway(self.openai(EMBEDDING_SHADOW_MODE="true", USE_HYBRID_EMBEDDINGS="false",
                                     EMBEDD_LEGACY_PROVIDER="local", EMBEDD_CANDIDATE_PROVIDER="openai"))
        self.up.always(faults.black_hole)
        start = time.monotonic()
        for i in range(20):
            self.ask(g, {"texts": ["text %d" % i]})
        self.assertLess(time.monotonic() - start, 30)  # what one that waits for the candidate would take alone


class Alerts(Case):
    MISSES = {"EMBEDDING_PROVIDER": "local", "EMBEDD_ALERT_FOR_SECONDS": "0", "EMBEDD_ALERT_INTERVAL_MS": "50",
              "EMBEDD_ALERT_MINIMUM_LOOKUPS": "20"}

    def misses(self, g, start, count=50):
        self.ask(g, {"texts": ["never seen %d" % i for i in range(start, start + count)]})
        return start + count

    def alerts(self, g):
        return {a["name"]: a for a in g.get("/api/v1/embeddings/alerts")[2]["alerts"]}

    def test_a_cold_cache_is_no_alert_and_rolls_nothing_back(self):
        g = self.gateway(self.openai(**self.MISSES))
        self.ask(g, {"action": "schedule", "steps": [{"percentage": 50, "hold_seconds": 3600}]},
                 path="/api/v1/embeddings/rollout")
        self.misses(g, 0)
        named = {c["name"]: c for c in g.get("/api/v1/embeddings/production-readiness")[2]["criteria"]}
        self.assertEqual((named["cache_hit_rate"]["actual"], named["cache_hit_rate"]["passed"]), ("0.0000", False))
        self.up.always(faults.status(500))
        for i in range(6):  # an alert that is meant, to know that the rules were looked at
            g.post("/api/v1/embeddings", {"texts": ["text %d" % i], "preferred_provider": "openai"})
        service.until(lambda: "breaker_open" in self.alerts(g), "an alert")
        view = service.until(lambda: (lambda v: v if v["mode"] == "rolled_back" else None)(
            g.get("/api/v1/embeddings/rollout")[2]), "the rollback")
        self.assertRegex(view["reason"], "breaker_open|provider_unhealthy")
        self.assertNotIn("cache_hit_rate", self.alerts(g))

    def test_a_cache_that_stays_bad_is_an_alert(self):
        g = self.gateway(self.openai(EMBEDD_ALERT_WINDOW_SECONDS="1", **self.MISSES))
        sent = [0]

        def fires():
            sent[0] = self.misses(g, sent[0])
            return self.alerts(g).get("cache_hit_rate", {}).get("state") == "firing"
        service.until(fires, "the alert")

    def test_readiness_is_of_the_last_minutes(self):
        g = self.gateway(self.openai(EMBEDDING_PROVIDER="local"))

        def hit_rate():
            return {c["name"]: c for c in g.get("/api/v1/embeddings/production-readiness")[2]["criteria"]}["cache_hit_rate"]
        texts = ["text %d" % i for i in range(15)]
        self.ask(g, {"texts": texts})
        self.ask(g, {"texts": texts}, cache_control="no-cache")  # not looked for
        self.assertEqual((hit_rate()["actual"], hit_rate()["passed"]), ("too few lookups: 15", False))
        for _ in range(9):
            self.ask(g, {"texts": texts})
        self.assertEqual((hit_rate()["actual"], hit_rate()["passed"]), ("0.9000", True))

    def test_budget_alert_reaches_a_webhook_and_is_listed(self):
        received = []

        class Sink(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.shutdown)
        g = self.gateway(self.openai(EMBEDDING_PROVIDER="openai", EMBEDD_ALERT_FOR_SECONDS="0", EMBEDD_ALERT_INTERVAL_MS="100"),
                         yaml='alerts:\n  sinks: [{name: ops, kind: webhook, url: "http://127.0.0.1:%d/hook"}]\n'
                              % server.server_address[1])
        self.up.always(faults.status(500))
        for i in range(6):
            self.ask(g, {"texts": ["text %d" % i]})
        found = service.until(lambda: [r for r in received if r["alert"]["name"] == "breaker_open"], "the webhook")
        self.assertEqual((found[0]["status"], found[0]["alert"]["subject"]), ("firing", "openai"))
        alerts = g.get("/api/v1/embeddings/alerts")[2]["alerts"]
        self.assertIn(("breaker_open", "firing"), [(a["name"], a["state"]) for a in alerts])


if __name__ == "__main__":
    unittest.main()
