"""What supervisors and Prometheus ask for."""
import re
import signal
import unittest

from case import MODEL, Case, service

SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*)\})? '
                    r'([-+]?(?:[0-9.]+(?:e[-+]?[0-9]+)?|Inf)|NaN)$')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')


def parse(text):
    """{(name, labels): value} of a Prometheus text; each family has HELP, TYPE and its own samples alone."""
    out, family, kind = {}, None, None
    for line in text.decode().splitlines():
        if line.startswith("# HELP "):
            helped = line.split(" ", 3)[2]
        elif line.startswith("# TYPE "):
            family, kind = line.split(" ")[2:]
            assert family == helped, line
        else:
            name, labels, value = SAMPLE.match(line).groups()
            suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            assert name in [family + s for s in suffixes], line
            key = name, tuple(sorted(LABEL.findall(labels or "")))
            assert key not in out, line
            out[key] = float(value)
    return out


class System(Case):
    def test_health(self):
        a = self.get("/health")
        self.assertEqual((a["status"], a["model"], a["device"]), ("healthy", MODEL, "cpu"))
        self.assertEqual(self.get("/ready"), {"status": "ready"})
        self.assertFalse(self.ask("HEAD", "/health"))
        self.post("/health", {}, 405)

    def metrics(self):
        text = self.get("/metrics")
        self.assertEqual(self.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        return parse(text)

    def test_metrics(self):
        before = self.metrics()
        for _ in range(3):
            self.post("/v1/embeddings", {"input": ["one for the metrics", "two"]})
        self.post("/v1/embeddings", {"input": 5}, 400)
        m = self.metrics()

        def grew(name, **labels):
            key = name, tuple(sorted(labels.items()))
            return m[key] - before.get(key, 0)

        self.assertEqual(grew("embedd_requests_total", route="/v1/embeddings", status="200"), 3)
        self.assertEqual(grew("embedd_requests_total", route="/v1/embeddings", status="400"), 1)
        self.assertEqual(grew("embedd_request_duration_seconds_count", route="/v1/embeddings"), 4)
        self.assertEqual(grew("embedd_request_duration_seconds_bucket", route="/v1/embeddings", le="+Inf"), 4)
        self.assertEqual(grew("embedd_texts_total", model=MODEL, source="computed"), 2)
        self.assertEqual(grew("embedd_texts_total", model=MODEL, source="l1"), 4)
        self.assertEqual(m[("embedd_models_loaded", ())], 1)
        self.assertGreater(m[("embedd_model_bytes", (("model", MODEL),))], 1e6)
        self.assertGreater(m[("process_resident_memory_bytes", ())], 1e6)
        self.assertGreaterEqual(m[("process_open_fds", ())], 3)
        # buckets never fall
        for (name, labels), value in m.items():
            if name.endswith("_bucket"):
                rest = tuple(l for l in labels if l[0] != "le")
                self.assertLessEqual(value, m[(name[:-7] + "_count", rest)])

    def test_labels_are_bounded(self):
        for i in range(50):
            self.get("/nothing/here/%d" % i, 404)
        routes = {dict(labels).get("route") for _, labels in self.metrics()}
        self.assertFalse([r for r in routes if r and r.startswith("/nothing")])


class Draining(unittest.TestCase):
    def test_ready_is_503_while_stopping(self):
        s = service.Service(env={"EMBEDD_SHUTDOWN_GRACE_MS": "8000", "EMBEDD_CACHE_URL": "none"})
        try:
            s.signal(signal.SIGTERM)
            status, headers, body = service.until(lambda: (lambda a: a if a[0] == 503 else None)(s.get("/ready")), "503")
            self.assertEqual((body["status"], body["error_type"]), ("draining", "Unhealthy"))
            self.assertIn("stopping", body["error"])
            self.assertIn("retry-after", headers)
            self.assertEqual(s.get("/health")[0], 200)
            self.assertEqual(s.get("/api/v1/embeddings/health")[2]["status"], "draining")
            self.assertEqual(s.wait(), 0)
        finally:
            s.close()


if __name__ == "__main__":
    unittest.main()
