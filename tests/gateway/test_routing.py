"""Where requests go, what they are answered with, and what happens when a provider fails."""
import collections
import hashlib
import os
import tempfile
import unittest

from case import Case, KEY, LOCAL, SMALL, faults, rows, upstream


class DefaultProvider(Case):
    def test_openai_by_environment(self):
        g = self.gateway(self.openai(EMBEDDING_PROVIDER="openai"))
        a = self.ask(g, {"input": ["one", "two words", "one"]}, path="/v1/embeddings")
        self.same([d["embedding"] for d in a["data"]], self.expect(SMALL, ["one", "two words", "one"]))
        self.assertEqual(a["model"], SMALL)
        self.assertEqual(self.headers["x-embedd-provider"], "openai")
        self.assertEqual(self.headers["x-embedd-space"], "openai/%s@api:1536:remote:api" % SMALL)
        self.assertGreater(float(self.headers["x-embedd-cost-usd"]), 0)
        self.assertIn("provider;dur=", self.headers["server-timing"])
        self.assertEqual(self.up.texts(), ["one", "two words"], "a text that is there twice is sent once")
        self.assertEqual(self.up.requests[0].headers["authorization"], "Bearer " + KEY)
        a = self.ask(g, {"input": ["two words", "one"]}, path="/v1/embeddings")
        self.same([d["embedding"] for d in a["data"]], self.expect(SMALL, ["two words", "one"]))
        self.assertEqual(self.up.calls, 1, "the second time from the cache")
        self.assertEqual(self.headers["x-embedd-cached"], "2")
        self.assertEqual(float(self.headers["x-embedd-cost-usd"]), 0)

    def test_partial_hits_keep_their_places(self):
        g = self.gateway(self.openai(EMBEDDING_PROVIDER="openai"))
        self.ask(g, {"texts": ["b", "d"]})
        self.up.always(faults.shuffled)
        texts = ["a", "b", "c", "d", "e", "b"]
        a = self.ask(g, {"texts": texts})
        self.same(a["embeddings"], self.expect(SMALL, texts))
        self.assertEqual(sorted(self.up.embeddings()[-1].texts), ["a", "c", "e"])
        self.assertEqual([r["cached"] for r in a["results"]], [False, True, False, True, False, True])

    def test_dimensions_are_asked_for_and_another_number_is_an_error(self):
        g = self.gateway(self.openai(EMBEDDING_PROVIDER="openai", EMBEDD_FALLBACK="none"))
        a = self.ask(g, {"input": "hello", "dimensions": 256, "encoding_format": "float"}, path="/v1/embeddings")
        self.same([a["data"][0]["embedding"]], self.expect(SMALL, ["hello"], 256))
        self.up.always(faults.wrong_dimension)
        a = self.ask(g, {"input": "other", "dimensions": 256}, 502, path="/v1/embeddings")
        self.assertNotIn("other", str(a))

    def ids_sent(self):
        return [r.ids for r in self.up.embeddings()]

    def test_token_ids(self):
        """They go out as they are, and share the cache with the text that they are the tokens of."""
        self.up.spell = {(15339, 1917): "hello world", (15339,): "hello"}.get
        g = self.gateway(self.openai(EMBEDDING_PROVIDER="openai", EMBEDD_PII_ENABLED="true"))
        a = self.ask(g, {"input": [[15339, 1917]]}, path="/v1/embeddings")  # "hello world" in cl100k_base
        self.same([a["data"][0]["embedding"]], self.expect(SMALL, ["hello world"]))
        self.assertEqual(a["usage"]["prompt_tokens"], 2)
        self.assertEqual(self.ids_sent(), [[[15339, 1917]]])
        for same in ("hello world", [15339, 1917]):
            a = self.ask(g, {"input": same}, path="/v1/embeddings")
            self.same([a["data"][0]["embedding"]], self.expect(SMALL, ["hello world"]))
        self.assertEqual(self.up.calls, 1)
        self.ask(g, {"input": ["hello"]}, path="/v1/embeddings")
        self.ask(g, {"input": [[15339], [15339, 1917]]}, path="/v1/embeddings")
        self.assertEqual(self.up.calls, 2)

    def test_token_ids_of_no_text(self):
        """A list that cuts a character, or that no text would be cut into, is a key of its own."""
        smile = [76460, 222]  # an emoji's bytes in two tokens: alone each is a piece of a character
        spelled_otherwise = [39, 36, 43, 43, 46]  # "HELLO", a letter a token
        g = self.gateway(self.openai(EMBEDDING_PROVIDER="openai"))
        for ids in (smile[:1], smile[1:], spelled_otherwise, smile + smile[:1]):
            for _ in range(2):
                a = self.ask(g, {"input": [ids]}, path="/v1/embeddings")
                self.same([a["data"][0]["embedding"]], self.expect(SMALL, [tuple(ids)]))
                self.assertEqual(a["usage"]["prompt_tokens"], len(ids))
        self.assertEqual(self.ids_sent(), [[smile[:1]], [smile[1:]], [spelled_otherwise], [smile + smile[:1]]])
        a = self.ask(g, {"input": "HELLO"}, path="/v1/embeddings")  # what the letters spell
        self.same([a["data"][0]["embedding"]], self.expect(SMALL, ["HELLO"]))
        self.assertEqual(self.up.calls, 5)
        self.ask(g, {"input": [[10 ** 9]]}, 400, path="/v1/embeddings")
        self.ask(g, {"input": [[100277]]}, 400, path="/v1/embeddings")
        self.ask(g, {"input": [[5] * 8193]}, 400, path="/v1/embeddings")  # too long, by its exact count
        self.assertEqual(self.up.calls, 5)

    def test_token_ids_are_scanned(self):
        g = self.gateway(self.openai(EMBEDDING_PROVIDER="openai"))
        ids = [5040, 311, 3008, 36587, 916]  # "write to ann@example.com"
        body = {"input": [ids], "model": SMALL}
        self.ask(g, body, 403, path="/v1/embeddings")
        self.ask(g, {"input": [[76460] + ids], "model": SMALL}, 403, path="/v1/embeddings")  # with half a character before
        self.assertEqual(self.up.calls, 0)

    def test_token_ids_for_other_kinds(self):
        """Where the API takes texts alone, what the ids spell is sent, and a cut character is the caller's fault."""
        g = self.gateway({}, """
providers:
  default: old
  instances:
    - {name: old, kind: remote, base_url: "%s", private: true, models: [{name: m, dimension: 8, encoding: cl100k_base}]}
""" % self.up.base_url("remote"))
        a = self.ask(g, {"input": [[15339, 1917]], "model": "m"}, path="/v1/embeddings")
        self.same([a["data"][0]["embedding"]], self.expect("served-model", ["hello world"], 8))
        self.ask(g, {"input": "hello world", "model": "m"}, path="/v1/embeddings")
        self.assertEqual((self.up.calls, self.up.texts()), (1, ["hello world"]))
        self.ask(g, {"input": [[76460]], "model": "m"}, 400, path="/v1/embeddings")
        self.assertEqual(self.up.calls, 1)

    def test_lists_of_models(self):
        g = self.gateway(self.openai(EMBEDDING_PROVIDER="openai"))
        names = {m["id"] for m in g.get("/v1/models")[2]["data"]}
        self.assertTrue({SMALL, "text-embedding-3-large", LOCAL} <= names, names)
        models = {m["name"]: m for m in g.get("/embed/models")[2]["models"]}
        self.assertEqual(models[SMALL]["provider"], "openai")
        self.assertEqual(models[SMALL]["cost_per_1k_tokens"], 0.00002)
        self.assertEqual(models[SMALL]["dimension"], 1536)


class Contexts(Case):
    def provider(self, g, body, **headers):
        return self.ask(g, dict({"texts": ["some text"]}, **body), **headers)["provider"]

    def test_each_context(self):
        g = self.gateway()
        self.assertEqual(self.provider(g, {}), "local", "the configured order")
        self.assertEqual(self.provider(g, {"context": "analysis"}), "openai")
        self.assertEqual(self.provider(g, {"context": "batch"}), "local")
        self.assertEqual(self.provider(g, {"context": "sensitive"}), "local")
        self.assertEqual(self.provider(g, {}, x_embedd_context="analysis"), "openai")
        self.assertEqual(self.provider(g, {"preferred_provider": "openai"}), "openai")
        self.assertEqual(self.provider(g, {"preferred_provider": "local", "context": "analysis"}), "local")
        self.assertEqual(self.provider(g, {"model": SMALL}), "openai")
        self.assertEqual(self.provider(g, {"model": "openai/" + SMALL}), "openai")
        self.assertEqual(self.provider(g, {"model": LOCAL, "context": "analysis"}), "local")

    def test_routing_off_is_the_default_provider(self):
        g = self.gateway(self.openai(EMBEDDING_ENABLE_ROUTING="false"))
        self.assertEqual(self.provider(g, {"context": "analysis"}), "local")

    def test_every_result_says_why(self):
        g = self.gateway()
        route = self.ask(g, {"texts": ["x"], "context": "analysis"})["results"][0]["route"]
        self.assertEqual((route["provider"], route["path"], route["rule"]), ("openai", "hybrid", "context"))
        self.assertTrue(route["reason"])

    def test_a_pinned_space_is_kept(self):
        g = self.gateway()
        a = self.ask(g, {"texts": ["x"], "preferred_provider": "openai"})
        space = a["space"]
        b = self.ask(g, {"texts": ["y"], "space": space})
        self.assertEqual((b["space"], b["provider"]), (space, "openai"))
        self.up.always(faults.status(500))
        self.ask(g, {"texts": ["z"], "space": space}, 503)
        local = self.ask(g, {"texts": ["x"]})["space"]
        self.assertEqual(self.ask(g, {"texts": ["w"], "space": local, "context": "analysis"})["provider"], "local")

    def test_unknown_names(self):
        g = self.gateway()
        self.ask(g, {"texts": ["x"], "preferred_provider": "nobody"}, 422)
        self.ask(g, {"texts": ["x"], "model": "no-such-model"}, 404)
        self.ask(g, {"texts": ["x"], "context": "whatever"}, 422)

    def test_explained_without_being_run(self):
        g = self.gateway()
        e = self.ask(g, {"texts": ["write to jane.doe@example.com"], "context": "analysis"},
                     path="/api/v1/embeddings/route")
        self.assertEqual((e["provider"], e["pii"], e["pii_kinds"]), ("local", True, "email"))
        passed = {c["model"]: c.get("passed_over_by") for c in e["candidates"]}
        self.assertEqual(passed[SMALL], "privacy")
        self.assertTrue(all(c["why"] for c in e["candidates"]))
        self.assertEqual(self.up.calls, 0)


class Keys(Case):
    def test_a_key_goes_only_where_it_may_and_as_far_as_its_limit(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "keys.yaml")
            with open(path, "w") as f:
                f.write("keys:\n")
                for name, models in (("all", "  rights: [use, read]\n"), ("small", "  models: [%s]\n" % SMALL), ("own", "  models: [%s]\n" % LOCAL)):
                    f.write("- name: %s\n  sha256: %s\n%s" % (name, hashlib.sha256(name.encode()).hexdigest(), models))
            os.chmod(path, 0o600)
            g = self.gateway(self.openai(EMBEDDING_PROVIDER="openai", EMBEDD_API_KEYS_FILE=path), ready=False,
                             yaml="budget:\n  limits: [{key: small, daily_usd: 0.00000005}]\n")
            g.wait_ready()

            def ask(key, body, status=200):
                return self.ask(g, dict({"texts": ["some text of %s" % key]}, **body), status, authorization="Bearer " + key)
            self.assertEqual(ask("all", {})["provider"], "openai")
            self.assertEqual(ask("own", {})["provider"], "local", "what the key may not use is not asked")
            self.assertIn("may not use", ask("own", {"model": SMALL}, 403)["detail"])
            ask("small", {"model": LOCAL}, 403)
            self.assertEqual(ask("small", {"texts": ["one"]})["provider"], "openai")
            self.assertEqual(ask("small", {"texts": ["another text with a few more tokens in it"]}, 402)["detail"] != "", True)
            rows = self.ask_get(g, "/api/v1/embeddings/costs?by=key", "all")["rows"]
            self.assertTrue({"all", "own", "small"} <= {r["key"] for r in rows}, rows)
            rows = self.ask_get(g, "/api/v1/embeddings/costs?by=key", "small")["rows"]
            self.assertEqual([r["key"] for r in rows], ["small"], "without the right to read, its own")

    def ask_get(self, g, path, key):
        status, _, answer = g.get(path, headers={"authorization": "Bearer " + key})
        self.assertEqual(status, 200, answer)
        return answer


class Failures(Case):
    def test_falls_to_the_next_with_one_space_for_all(self):
        g = self.gateway(self.openai(EMBEDDING_PROVIDER="openai"))
        self.ask(g, {"texts": ["cached before"]})
        self.up.always(faults.status(500))
        a = self.ask(g, {"texts": ["cached before", "new"]})
        self.assertEqual(a["provider"], "local")
        self.assertEqual(len(a["embeddings"][0]), 384)
        self.assertEqual(len(a["embeddings"][1]), 384)
        self.assertEqual(a["results"][0]["route"]["fallback_from"], "openai")

    def test_no_fallback_where_it_is_off_or_the_model_is_pinned(self):
        g = self.gateway(self.openai(EMBEDDING_PROVIDER="openai"))
        self.up.always(faults.status(500))
        self.ask(g, {"texts": ["x"], "model": SMALL}, 503)
        g = self.gateway(self.openai(EMBEDDING_PROVIDER="openai", EMBEDD_FALLBACK="none"))
        self.ask(g, {"texts": ["x"]}, 503)

    def test_a_fallback_that_is_named_often_is_tried_once(self):
        g = self.gateway(self.openai(EMBEDD_FALLBACK=",".join(["openai"] * 100 + ["local"] * 100)))
        self.up.always(faults.status(500))
        self.assertEqual(self.ask(g, {"texts": ["x"], "context": "analysis"})["provider"], "local")
        self.assertLessEqual(self.up.calls, 3, "each model of it once")

    def test_the_breaker_opens_and_health_says_so(self):
        g = self.gateway(self.openai(EMBEDDING_PROVIDER="openai"))
        self.up.always(faults.status(500))
        for i in range(6):
            self.ask(g, {"texts": ["text %d" % i]})
        calls = self.up.calls
        self.assertEqual(calls, 5, "five failures open it")
        health = g.get("/api/v1/embeddings/health")[2]
        openai = {p["name"]: p for p in health["providers"]}["openai"]
        self.assertEqual((health["status"], openai["status"], openai["breaker"]["state"]), ("degraded", "unhealthy", "open"))
        e = self.ask(g, {"texts": ["x"]}, path="/api/v1/embeddings/route")
        self.assertIn("health", [c.get("passed_over_by") for c in e["candidates"]])

    def test_the_open_breaker_survives_a_restart(self):
        import tempfile
        with tempfile.TemporaryDirectory() as data:
            env = self.openai(EMBEDDING_PROVIDER="openai", EMBEDD_DATA_DIR=data)
            g = self.gateway(env)
            self.up.always(faults.status(500))
            for i in range(5):
                self.ask(g, {"texts": ["text %d" % i]})
            g.stop()
            calls = self.up.calls
            g = self.gateway(env)
            self.assertEqual(self.ask(g, {"texts": ["new"]})["provider"], "local")
            self.assertEqual(self.up.calls, calls)

    def test_a_denied_key_opens_it_at_once(self):
        g = self.gateway(self.openai(EMBEDDING_PROVIDER="openai", OPENAI_API_KEY="wrong"))
        for i in range(3):
            self.assertEqual(self.ask(g, {"texts": ["text %d" % i]})["provider"], "local")
        self.assertEqual(self.up.calls, 1)

    def test_nothing_is_kept_of_a_bad_answer(self):
        g = self.gateway(self.openai(EMBEDDING_PROVIDER="openai", EMBEDD_FALLBACK="none"))
        for fault in (faults.nan, faults.doubled_index, faults.too_many, faults.too_few, faults.truncated):
            self.up.script([fault, fault])
            status, _, a = g.post("/api/v1/embeddings", {"texts": ["a of " + fault.__name__, "b of " + fault.__name__]})
            self.assertIn(status, (502, 503), (fault.__name__, str(a)[:200], self.up.requests))
            self.up.script([])
            texts = ["a of " + fault.__name__, "b of " + fault.__name__]
            self.same(self.ask(g, {"texts": texts})["embeddings"], self.expect(SMALL, texts))


class Kinds(Case):
    YAML = """
providers:
  default: %(kind)s
  instances:
    - name: %(kind)s
      kind: %(kind)s
      base_url: %(url)s
      api_key: %(key)s
      max_retries: 0
      models: [{name: m, upstream: %(upstream)s, dimension: 8, price_per_1k_tokens: 0}]
"""

    def test_each_kind_end_to_end(self):
        for kind in ("openai", "azure", "huggingface", "cohere", "ollama", "tei", "remote", "embedd"):
            with self.subTest(kind=kind):
                upstream_name = "served-model" if kind in ("tei", "remote") else "m"
                g = self.gateway(env={}, yaml=self.YAML % {"kind": kind, "url": self.up.base_url(kind), "key": KEY,
                                                           "upstream": upstream_name})
                self.up.reset_record()
                texts = ["text %d é世" % i for i in range(5)]
                a = self.ask(g, {"texts": texts})
                self.assertEqual(a["provider"], kind)
                self.same(a["embeddings"], self.expect(upstream_name, texts))
                self.assertTrue(a["space"].startswith(("openai/" if kind in ("openai", "azure") else "local/" if kind == "embedd" else kind + "/")), a["space"])
                g.close()

    def test_a_dimension_that_nobody_told_is_learned(self):
        g = self.gateway({"EMBEDDING_SERVICE_URL": self.up.base_url("remote"), "EMBEDDING_PROVIDER": "remote"})
        a = self.ask(g, {"texts": ["x", "y"]})
        self.assertEqual((a["provider"], a["dimension"]), ("remote", 8))
        self.same(a["embeddings"], self.expect("served-model", ["x", "y"]))
        g.stop()
        env = {"EMBEDDING_SERVICE_URL": self.up.base_url("remote"), "EMBEDDING_PROVIDER": "remote"}
        g = self.gateway(env)
        b = self.ask(g, {"texts": ["z"], "space": a["space"]})
        self.assertEqual((b["provider"], b["space"]), ("remote", a["space"]), "a pinned space, before it was learned")
        g.stop()
        g = self.gateway(env)
        self.ask(g, {"texts": ["z"], "space": a["space"].replace(":8:", ":9:")}, 409)

    def test_weights(self):
        second = upstream.Upstream()
        self.addCleanup(second.close)
        g = self.gateway(env={"EMBEDDING_ENABLE_CACHING": "false"}, yaml="""
providers:
  default: first
  instances:
    - {name: first, kind: openai, base_url: "%s", api_key: %s, weight: 3, models: [%s]}
    - {name: second, kind: openai, base_url: "%s", api_key: %s, weight: 1, models: [%s]}
""" % (self.up.base_url("openai"), KEY, SMALL, second.base_url("openai"), KEY, SMALL))
        seen = collections.Counter(self.ask(g, {"texts": ["t%d" % i]})["provider"] for i in range(200))
        self.assertEqual(sum(seen.values()), 200)
        self.assertGreater(seen["first"], 110, seen)
        self.assertGreater(seen["second"], 20, seen)
        self.up.always(faults.status(500))
        self.assertEqual({self.ask(g, {"texts": ["u%d" % i]})["provider"] for i in range(8)}, {"second"})


class Accounts(Case):
    def test_ledger_counters_and_the_bill_agree(self):
        g = self.gateway(self.openai(EMBEDDING_PROVIDER="openai"))
        for i in range(5):
            self.ask(g, {"texts": ["text number %d" % i], "category": "faq" if i % 2 else "news"})
        self.ask(g, {"texts": ["text number 0"]})
        costs = g.get("/api/v1/embeddings/costs?by=provider")[2]
        total = round(costs["total"]["cost_usd"] * 1e9)
        self.assertEqual(total, self.up.cost_nusd)
        self.assertEqual(costs["total"]["tokens"] >= self.up.billed_tokens, True)
        metrics = g.get("/embed/metrics")[2]["metrics"]
        self.assertEqual(round(metrics["total_cost_usd"] * 1e9), total)
        by = g.get("/api/v1/embeddings/costs?by=category")[2]
        self.assertEqual({r["category"] for r in by["rows"]} >= {"faq", "news"}, True, by)


if __name__ == "__main__":
    unittest.main()
