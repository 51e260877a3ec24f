"""The real Prometheus tools and a real Alertmanager (Debian's packages prometheus and prometheus-alertmanager), where they are
installed; elsewhere this is skipped: the other tests of alerts have an Alertmanager of their own."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import urllib.error
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from service import PROGRAM, clean_environment
from servers import Server, until
from test_sinks import Driver

RULES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "packaging", "prometheus")
PROMTOOL, AMTOOL, ALERTMANAGER = (shutil.which(p) for p in ("promtool", "amtool", "prometheus-alertmanager"))


@unittest.skipUnless(PROMTOOL, "promtool is not installed")
class Promtool(unittest.TestCase):
    def run_it(self, *arguments):
        p = subprocess.run([PROMTOOL, *arguments], cwd=RULES, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        self.assertEqual(p.returncode, 0, p.stdout)
        return p.stdout

    def test_rules(self):
        self.assertIn("16 rules found", self.run_it("check", "rules", "embedd-alerts.yml"))
        self.run_it("test", "rules", "embedd-alerts.test.yml")

    def test_every_rule_has_a_test(self):
        def read(name):
            with open(os.path.join(RULES, name)) as f:
                return f.read()
        for line in read("embedd-alerts.yml").splitlines():
            if "- alert: " in line:
                self.assertIn("alertname: " + line.split("- alert: ")[1], read("embedd-alerts.test.yml"))


class Alertmanager(Server):
    def start(self, resolve_timeout="5m"):
        with open(os.path.join(self.folder, "alertmanager.yml"), "w") as f:
            f.write("global: {resolve_timeout: %s}\nroute: {receiver: nobody}\nreceivers: [{name: nobody}]\n" % resolve_timeout)
        self.launch([ALERTMANAGER, "--config.file=alertmanager.yml", "--storage.path=data", "--cluster.listen-address=",
                     "--web.listen-address=127.0.0.1:%d" % self.port])
        self.wait_up()
        return self

    @property
    def url(self):
        return "http://127.0.0.1:%d" % self.port

    def answers(self):
        try:
            with urllib.request.urlopen(self.url + "/-/ready", timeout=10) as r:
                return r.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def alerts(self):
        """What an operator sees: amtool lists what has not ended."""
        p = subprocess.run([AMTOOL, "--alertmanager.url=" + self.url, "alert", "query", "--output=json"], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=60)
        if p.returncode:
            raise AssertionError(p.stderr.decode())
        return json.loads(p.stdout)

    def names(self):
        return sorted(a["labels"]["alertname"] + "/" + a["labels"]["severity"] for a in self.alerts())


@unittest.skipUnless(AMTOOL and ALERTMANAGER, "prometheus-alertmanager is not installed")
class ToAlertmanager(unittest.TestCase):
    def setUp(self):
        self.am = Alertmanager()
        self.addCleanup(self.am.close)

    def test_firing_worse_and_resolved(self):
        self.am.start()
        with Driver(("alertmanager", "am", self.am.url, "-", "warning")) as d:
            d.open()
            d("evaluate", 600, "openai")
            until(lambda: self.am.names() == ["p95_latency/warning", "provider_unhealthy/error"], "both alerts")
            alert = [a for a in self.am.alerts() if a["labels"]["alertname"] == "provider_unhealthy"][0]
            self.assertEqual(alert["labels"], {"alertname": "provider_unhealthy", "severity": "error", "subject": "openai",
                                               "instance": "driver:1"})
            self.assertEqual(alert["annotations"], {"summary": "openai is unhealthy: it does not answer"})
            self.assertEqual(alert["status"]["state"], "active")
            d("evaluate", 1600, "openai")
            until(lambda: self.am.names() == ["p95_latency/error", "provider_unhealthy/error"], "a worse one in its place")
            d("evaluate", 20, "-")
            until(lambda: self.am.alerts() == [], "both to be over")
            self.assertNotIn("takes no notices", d.end())

    def test_down_at_first_and_restarted(self):
        """It is told what fires when it comes, and again when it has forgotten it."""
        with Driver(("alertmanager", "am", self.am.url, "-", "warning")) as d:
            d.open()
            d("evaluate", 1600, "-")
            until(lambda: "takes no notices" in d.log(), "an attempt that meets nobody")
            self.am.start()
            until(lambda: self.am.names() == ["p95_latency/error"], "what happened before it came")
            self.am.kill()
            shutil.rmtree(os.path.join(self.am.folder, "data"))
            self.am.start()
            until(lambda: self.am.names() == ["p95_latency/error"], "what it has forgotten, within a minute", patience=150)
            d("evaluate", 20, "-")
            until(lambda: self.am.alerts() == [], "the end")

    def test_command(self):
        self.am.start()
        with tempfile.TemporaryDirectory() as folder:
            p = subprocess.run([PROGRAM, "alerts", "test"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
                               env=clean_environment({"EMBEDD_ALERTMANAGER_URL": self.am.url + "/", "EMBEDD_DATA_DIR": folder}))
        self.assertEqual(p.returncode, 0, p.stdout)
        self.assertIn("took it, status 200", p.stdout)
        self.assertEqual(self.am.names(), ["test/warning"])


if __name__ == "__main__":
    if not (PROMTOOL or AMTOOL and ALERTMANAGER):
        sys.exit(77)
    unittest.main()
