"""The hybrid system's routes that embed and compare, its cache, and its reports."""
import json
import os
import unittest

import numpy

from case import MODEL, Case, command_line, rows

PATH = "/api/v1/embeddings"


class Embeddings(Case):
    def test_results(self):
        texts = ["net income", "gross margin", "net income"]
        a = self.post(PATH, {"texts": texts, "context": "realtime"})
        numpy.testing.assert_array_equal(rows(a["embeddings"]), command_line(texts))
        self.assertEqual([r["index"] for r in a["results"]], [0, 1, 2])
        self.assertEqual([r["source"] for r in a["results"]], ["computed", "computed", "shared"])
        for r in a["results"]:
            self.assertEqual((r["provider"], r["model"], r["space"], r["cost_usd"], r["cached"], r["route"]["provider"]),
                             ("local", MODEL, a["space"], 0, False, "local"))
            self.assertTrue(r["route"]["reason"])
        self.assertEqual(sum(r["tokens"] for r in a["results"]), a["total_tokens"])
        again = self.post(PATH, {"texts": ["net income", "new"]})
        self.assertEqual([(r["cached"], r["source"]) for r in again["results"]], [(True, "l1"), (False, "computed")])
        self.assertEqual(again["cached_count"], 1)

    def test_space(self):
        a = self.post(PATH, {"texts": ["a"], "dimensions": 64})
        same = self.post(PATH, {"texts": ["a"], "space": a["space"]})
        self.assertEqual((same["space"], same["dimension"], same["embeddings"]), (a["space"], 64, a["embeddings"]))
        other = a["space"].replace("@", "@0")
        self.assertIn(other, self.post(PATH, {"texts": ["a"], "space": other}, 409)["detail"])
        self.post(PATH, {"texts": ["a"], "space": a["space"], "dimensions": 32}, 409)
        self.post(PATH, {"texts": ["a"], "space": a["space"].replace(MODEL, "no-such")}, 404)
        for wrong in ("x", "local/@:", "local/m@r:0:mean", "local/m@r:x:mean", "/@:1:"):
            self.assertEqual(self.post(PATH, {"texts": ["a"], "space": wrong}, 422)["detail"][0]["loc"], ["body", "space"])

    def test_pii(self):
        texts = ["Mail ann@example.com", "nothing", "from 10.1.2.3 " * 9000]
        a = self.post(PATH + "/pii", {"texts": texts})
        self.assertEqual(a["results"][:2], [{"index": 0, "findings": [
            {"kind": "email", "start": 5, "end": 20, "confidence": "pattern"}]}, {"index": 1, "findings": []}])
        self.assertEqual(len(a["results"][2]["findings"]), 9000)
        self.assertEqual(self.post(PATH + "/pii", {"texts": texts[0], "kinds": ["phone"]})["results"][0]["findings"], [])
        for wrong in ("email", [], ["telepathy"], [1], ["email,phone"], ["x" * 600]):
            self.assertEqual(self.post(PATH + "/pii", {"texts": ["a"], "kinds": wrong}, 422)["detail"][0]["loc"],
                             ["body", "kinds"])

    def test_compare(self):
        a = self.post(PATH + "/compare", {"a": "profit", "b": "earnings"})
        v = command_line(["profit", "earnings"]).astype(numpy.float64)
        self.assertAlmostEqual(a["cosine"], float(v[0] @ v[1]), places=5)
        self.assertEqual((a["model"], a["dimension"]), (MODEL, 384))
        self.assertAlmostEqual(self.post(PATH + "/compare", {"a": "x", "b": "x"})["cosine"], 1, places=6)
        for body, status in (({"a": "x"}, 422), ({"a": "x", "b": " "}, 400), ({"a": 1, "b": "x"}, 422), ({}, 422)):
            self.post(PATH + "/compare", body, status)

    def test_malformed(self):
        for body, status in (({}, 422), ({"texts": []}, 400), ({"texts": [""]}, 400), ({"texts": [1]}, 422),
                             ({"texts": ["a"], "input_type": "x"}, 422), ({"texts": ["a"], "use_cache": 1}, 422),
                             ({"texts": ["a"] * 2049}, 413), ({"texts": ["a"], "model": "no-such"}, 404)):
            self.assertTrue(self.post(PATH, body, status)["detail"])

    def test_reports(self):
        self.post("/embed/metrics/reset", None)
        self.post(PATH, {"texts": ["report %d" % i for i in range(4)]})
        self.post(PATH, {"texts": ["report 0", "report 1"]})
        m = self.get(PATH + "/metrics")
        self.assertEqual((m["requests"]["total"], m["texts"]["total"], m["texts"]["l1"], m["texts"]["computed"]), (2, 6, 2, 4))
        for kind in ("requests", "embed", "queue", "compute"):
            p = m["latency"][kind]
            self.assertTrue(0 <= p["p50_ms"] <= p["p95_ms"] <= p["p99_ms"], p)
        self.assertGreater(m["latency"]["embed"]["p99_ms"], 0)
        self.assertGreater(m["throughput"]["texts_per_second"], 0)
        self.assertEqual([x["name"] for x in m["models"]], [MODEL])
        self.assertTrue(m["cache"]["enabled"])
        h = self.get(PATH + "/health")
        self.assertEqual((h["status"], h["cache"]["l2"]), ("healthy", "none"))


class Cache(Case):
    ENV = {"EMBEDD_CACHE_URL": "", "EMBEDD_CACHE_STORE_TEXT": "true"}  # SQLite in the data directory

    def stats(self):
        return self.get(PATH + "/cache")

    def remove(self, query, status=200):
        return self.ask("DELETE", PATH + "/cache" + query, None, status)

    def setUp(self):
        self.remove("?all=true")

    def warm(self, body, status=200, **headers):
        return self.post(PATH + "/cache/warm", body, status, **headers)

    def stored(self, count):
        """Waits until so many vectors are in the second level."""
        from case import service
        service.until(lambda: self.stats()["l2"]["entries"] == count, "%d entries" % count)

    def test_stats(self):
        before = self.stats()
        self.post("/embed/batch", {"texts": ["s1", "s2"]})
        self.post("/embed/batch", {"texts": ["s1", "s3"]})
        s = self.stats()
        self.assertEqual((s["enabled"], s["l2"]["kind"], s["l2"]["up"], s["l2"]["last_error"]), (True, "sqlite", True, None))
        self.assertEqual((s["l1"]["entries"], s["l1"]["hits"] - before["l1"]["hits"]), (3, 1))
        self.assertGreater(s["l1"]["bytes"], 3 * 384 * 4)
        self.assertTrue(0 < s["hit_rate"] < 1)

    def test_remove(self):
        self.post("/embed/batch", {"texts": ["r1", "r2"]})
        self.stored(2)
        self.assertEqual(self.remove("?model=other-model")["removed"], 0)
        self.assertEqual(self.remove("?older_than=7d")["removed"], 0)
        self.assertEqual(self.remove("?key=" + "0" * 64)["removed"], 0)
        self.assertEqual(self.stats()["l1"]["entries"], 2)
        self.assertEqual(self.remove("?model=sentence-transformers/" + MODEL)["removed"], 2)
        self.assertEqual(self.stats()["l1"]["entries"], 0)
        self.assertFalse(self.post("/embed/text", {"text": "r1"})["cached"])
        self.stored(1)
        self.assertEqual(self.remove("?all=true")["removed"], 1)
        for query in ("", "?all=yes", "?older_than=soon", "?older_than=0", "?older_than=5y", "?key=abc", "?model="):
            self.assertEqual(self.remove(query, 422)["detail"][0]["loc"][0], "query", query)

    def test_warm(self):
        r = self.warm({"list": "finance"})
        self.assertGreaterEqual(r["texts"], 130)
        self.assertEqual((r["computed"], r["cached"], r["failed"], r["model"]), (r["texts"], 0, 0, MODEL))
        again = self.warm({"list": "finance"})
        self.assertEqual((again["cached"], again["computed"]), (r["texts"], 0))
        own = self.warm({"texts": ["alpha", "beta"], "model": MODEL, "input_type": "query"})
        self.assertEqual((own["texts"], own["computed"]), (2, 2))
        self.assertTrue(self.post("/embed/query", {"query": "alpha"})["cached"])

    def test_warm_most_used(self):
        self.post("/v1/embeddings", {"input": ["u1", "u2", "u3"]})
        self.stored(3)
        r = self.warm({"most_used": 10})
        self.assertEqual((r["texts"], r["cached"], r["failed"]), (3, 3, 0))

    def test_warm_streams(self):
        text = self.warm({"list": "finance"}, accept="text/event-stream").decode()
        self.assertEqual(self.headers["content-type"], "text/event-stream")
        events = [dict(line.split(": ", 1) for line in block.split("\n")) for block in text.strip().split("\n\n")]
        self.assertEqual([e["event"] for e in events[-1:]], ["report"])
        progress = [json.loads(e["data"]) for e in events if e["event"] == "progress"]
        self.assertEqual(len(progress), len(events) - 1)
        report = json.loads(events[-1]["data"])
        self.assertEqual((progress[-1]["done"], progress[-1]["total"]), (report["texts"], report["texts"]))
        self.assertEqual([p["done"] for p in progress], sorted(p["done"] for p in progress))
        self.assertEqual(report["computed"], report["texts"])
        self.warm({"list": "finance", "model": "no-such"}, 404, accept="text/event-stream")

    def test_warm_malformed(self):
        for body in ({}, {"list": "finance", "texts": ["a"]}, {"list": "weather"}, {"list": 5}, {"most_used": 0},
                     {"texts": "a"}, {"texts": [1]}, {"list": "finance", "input_type": "x"},
                     {"file": os.path.abspath(__file__)}):
            self.assertTrue(self.warm(body, 422)["detail"], body)
        self.warm({"texts": [" "]}, 400)


if __name__ == "__main__":
    unittest.main()
