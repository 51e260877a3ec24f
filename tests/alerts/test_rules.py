"""packaging/prometheus/embedd-alerts.yml asks for metrics that there are, with labels they have, at the default thresholds."""
import os
import re
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def read(*path):
    with open(os.path.join(ROOT, *path)) as f:
        return f.read()


RULES = read("packaging", "prometheus", "embedd-alerts.yml")
FAMILIES = {name: labels.split(",") for name, labels in re.findall(
    r'X\(\w+, EMB_(?:COUNTER|GAUGE|HISTOGRAM), "(\w+)", "([\w,]*)"', read("src", "metrics", "metrics.h"))}


def rule(name):
    return re.search(r"- alert: %s\n(.*?)(?=\n +- alert:|\Z)" % name, RULES, re.S).group(1)


class Rules(unittest.TestCase):
    def test_metrics(self):
        used = re.findall(r"(embedd_\w+?)(?:_bucket|_sum|_count)?\b(?:\{([^}]*)\})?", RULES)
        self.assertGreater(len(used), 20)
        for name, matchers in used:
            self.assertIn(name, FAMILIES)
            for label in re.findall(r"(\w+)=", matchers):
                self.assertIn(label, FAMILIES[name], name)

    def test_thresholds(self):
        defaults = dict(re.findall(r'"alerts\.(\w+)",\s*(?:\\\s*)?"\w+",\s*(?:\\\s*)?"([\d.]+)"', read("src", "config", "settings.h")))
        for name, setting, scale in (
                ("EmbeddP95LatencyWarning", "p95_latency_warning", 1000), ("EmbeddP95LatencyError", "p95_latency_error", 1000),
                ("EmbeddCacheHitRateWarning", "cache_hit_warning", 1), ("EmbeddCacheHitRateError", "cache_hit_error", 1),
                ("EmbeddSimilarityWarning", "similarity_warning", 1), ("EmbeddSimilarityError", "similarity_error", 1),
                ("EmbeddErrorRate", "error_rate_warning", 1), ("EmbeddApiBudgetWarning", "api_budget_warning", 1),
                ("EmbeddApiBudgetCritical", "api_budget_critical", 1),
                ("EmbeddMonthlyCost", "monthly_cost_warning_usd", 1)):
            with self.subTest(name):
                expression = re.search(r"expr:(.*?)\n +for: 1m", rule(name), re.S).group(1)
                limits = [float(x) for x in re.findall(r"(?:<|>|>=) ([\d.]+)$", expression, re.M)]
                self.assertIn(float(defaults[setting]) / scale, limits)

    def test_severities(self):
        for name, severity in re.findall(r"- alert: (\w+)\n.*?severity: (\w+)", RULES, re.S):
            self.assertIn(severity, ("warning", "error", "critical"))
            for word in ("Warning", "Error", "Critical"):
                if name.endswith(word):
                    self.assertEqual(severity, word.lower())


if __name__ == "__main__":
    unittest.main()
