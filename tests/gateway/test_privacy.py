"""No text that is private leaves the machine or shows anywhere: an upstream's log, a shared cache, a log line, a metric."""
import itertools
import os
import sqlite3
import tempfile
import unittest

from case import Case, SMALL, faults
import servers

MARK = "xyzzyprivatemarker"
PERSONAL = ["jane.%s@example.com", "call +1 202 555 0173 about %s", "card 4111 1111 1111 1111 of %s",
            "IBAN DE89 3704 0044 0532 0130 00 %s", "ssn 536-90-4399 %s", "key sk-proj-abcdEFGH1234abcdEFGH1234abcdEFGH1234abcd %s"]


class Privacy(Case):
    def everywhere(self, g, data, redis=None):
        """Everything that could give a private text away, as bytes."""
        seen = {"upstream": b"".join(r.body or b"" for r in self.up.requests),
                "log": repr(g.lines).encode(),
                "metrics": g.get("/metrics")[2].encode() if isinstance(g.get("/metrics")[2], str) else g.get("/metrics")[2],
                "health": repr(g.get("/api/v1/embeddings/health")[2]).encode(),
                "costs": repr(g.get("/api/v1/embeddings/costs?by=category")[2]).encode(),
                "shadow": repr(g.get("/api/v1/embeddings/shadow")[2]).encode()}
        for folder, _, files in os.walk(data):
            for name in files:
                with open(os.path.join(folder, name), "rb") as f:
                    seen["file " + name] = f.read()
        if redis:
            keys = redis.command("KEYS", "*")
            seen["redis"] = b"".join((k if isinstance(k, bytes) else k.encode()) for k in keys)
        return seen

    def requests(self):
        for context in ("default", "realtime", "analysis", "batch"):
            for form in PERSONAL:
                yield {"texts": [form % MARK], "context": context}, {}
            for pin in ({"preferred_provider": "openai"}, {"model": SMALL}):
                yield dict({"texts": [PERSONAL[0] % MARK], "context": context}, **pin), {}
        for pin in ({}, {"preferred_provider": "openai"}, {"model": SMALL}):
            yield dict({"texts": ["harmless words with %s" % MARK], "context": "sensitive"}, **pin), {}
            yield dict({"texts": ["harmless words with %s" % MARK]}, **pin), {"x-embedd-context": "sensitive"}

    def run_all(self, env, redis=None):
        with tempfile.TemporaryDirectory() as data:
            g = self.gateway(self.openai(EMBEDDING_PROVIDER="openai", EMBEDD_DATA_DIR=data, EMBEDD_LOG="debug,json",
                                         EMBEDD_CACHE_STORE_TEXT="true", **env))
            self.ask(g, {"texts": ["a text that is not private"]})
            self.assertEqual(self.up.calls, 1)
            for body, headers in self.requests():
                status, _, answer = g.post("/api/v1/embeddings", body, headers=headers)
                pinned = "preferred_provider" in body or "model" in body
                self.assertEqual(status, 403 if pinned else 200, (body, answer))
                self.assertNotIn(MARK, repr(answer.get("detail")))
                if status == 200:
                    self.assertEqual(answer["provider"], "local")
                for path, other in (("/v1/embeddings", {"input": body["texts"]}), ("/embed/batch", {"texts": body["texts"]})):
                    if "sensitive" not in (body.get("context"), headers.get("x-embedd-context")):
                        g.post(path, other, headers=headers)
            self.assertEqual(self.up.calls, 1)
            for where, content in self.everywhere(g, data, redis).items():
                if where.startswith("file cache.db"):
                    continue  # this machine's own, looked at below
                self.assertNotIn(MARK.encode(), content, where)
            g.stop()
            # personal data may lie in the local cache with its text only if it was not private
            path = os.path.join(data, "cache.db")
            if os.path.exists(path):
                with open(path, "rb") as f:
                    self.assertNotIn(MARK.encode(), f.read(), "the second level never has a private text")

    def test_nothing_leaves(self):
        self.run_all({})

    def test_nothing_is_shared(self):
        with servers.Redis() as redis:
            redis.start()
            self.run_all({"REDIS_URL": redis.url}, redis)

    def test_nothing_leaves_when_local_is_slow_or_shadowed(self):
        self.run_all({"EMBEDDING_SHADOW_MODE": "true", "USE_HYBRID_EMBEDDINGS": "false"})

    def test_what_memory_holds_may_answer(self):
        g = self.gateway(self.openai(EMBEDDING_PROVIDER="openai", EMBEDD_PII_DETECTION="true"))
        text = "plain words"
        self.ask(g, {"texts": [text], "preferred_provider": "openai"})
        a = self.ask(g, {"texts": [text], "preferred_provider": "openai", "context": "sensitive"})
        self.assertEqual((a["provider"], a["cached_count"], self.up.calls), ("openai", 1, 1))
        self.ask(g, {"texts": ["others"], "preferred_provider": "openai", "context": "sensitive"}, 403)

    def test_a_vouched_for_instance_may_have_it(self):
        g = self.gateway(env={}, yaml="""
providers:
  default: own
  instances:
    - {name: own, kind: tei, base_url: "%s", private: true, models: [{name: served-model, dimension: 8}]}
""" % self.up.base_url("tei"))
        self.assertEqual(self.ask(g, {"texts": ["jane@example.com"]})["provider"], "own")

    def test_detection_can_be_switched_off_and_extended(self):
        g = self.gateway(self.openai(EMBEDDING_PROVIDER="openai", EMBEDD_PII_DETECTION="false"))
        self.assertEqual(self.ask(g, {"texts": ["jane@example.com"]})["provider"], "openai")
        g = self.gateway(self.openai(EMBEDDING_PROVIDER="openai", EMBEDD_PII_KINDS="phone"),
                         yaml='pii:\n  patterns: [{name: employee_id, regex: "EMP-[0-9]{6}"}]\n')
        self.assertEqual(self.ask(g, {"texts": ["jane@example.com"]})["provider"], "openai")
        self.assertEqual(self.ask(g, {"texts": ["badge EMP-123456"]})["provider"], "local")


if __name__ == "__main__":
    unittest.main()
