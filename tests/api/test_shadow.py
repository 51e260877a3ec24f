"""Shadow and readiness of a service whose shadow mode is off: dashboards are answered, and say what is not recorded."""
import unittest

from case import Case

SHADOW = "/api/v1/embeddings/shadow"
READINESS = "/api/v1/embeddings/production-readiness"


class Shadow(Case):
    def test_report(self):
        self.assertIn("enabled", self.get(SHADOW))
        self.assertIn("enabled", self.get(SHADOW + "?since_hours=1.5&samples=3"))
        for wrong in ("samples=x", "samples=", "samples=-1", "samples=1001", "since_hours=nan", "since_hours=1e9",
                      "since_hours=+1", "samples=3x"):
            with self.subTest(wrong=wrong):
                answer = self.get(SHADOW + "?" + wrong, status=422)
                self.assertIn(wrong.split("=")[0], str(answer))

    def test_clear(self):
        if not self.get(SHADOW)["enabled"]:
            self.assertIn("off", str(self.ask("DELETE", SHADOW, status=409)))

    def test_readiness(self):
        answer = self.get(READINESS)
        self.assertFalse(answer["ready"])
        self.assertEqual(len(answer["criteria"]), 7)
        self.assertEqual([c["name"] for c in answer["criteria"]],
                         ["comparisons", "duration_hours", "similarity", "critical_alerts", "cache_hit_rate", "p95_latency_ms",
                          "rollback_verified"])
        self.assertEqual(answer["criteria"][0]["required"], ">= 100")
        self.assertFalse(answer["criteria"][0]["passed"])
        self.assertIn("comparisons", answer["recommendation"])
        self.assertEqual(answer["rollout"]["percentage"], 100)
        self.post("/api/v1/embeddings", {"texts": ["a"]})
        p95 = self.get(READINESS)["criteria"][5]
        self.assertRegex(p95["actual"], r"^[0-9.]+ ms$")


if __name__ == "__main__":
    unittest.main(verbosity=2)
