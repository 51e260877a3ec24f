"""embedd alerts: what the store holds, as a table and as JSON, its exit status; and the test of sinks."""
import http.server
import json
import os
import subprocess
import tempfile
import threading
import unittest

SINKS = """alerts:
  sinks:
    - name: pager
      kind: webhook
      url: http://127.0.0.1:%d/T0KEN
    - name: nobody
      kind: webhook
      url: http://127.0.0.1:1/T0KEN
"""


class Command(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.env = {**os.environ, "EMBEDD_DATA_DIR": self.folder, "EMBEDD_STORE_URL": "", "EMBEDD_CONFIG": ""}

    def run_it(self, *arguments, status=0):
        r = subprocess.run([os.environ["EMBEDD"], "alerts", *arguments], env=self.env, cwd=self.folder, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=60)
        self.assertEqual(r.returncode, status, r.stderr)
        return r

    def drive(self, *lines):
        text = "".join(line + "\n" for line in ("open sqlite:%s/alerts.db" % self.folder, *lines))
        subprocess.run([os.environ["ALERTS_DRIVER"]], input=text, text=True, check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=60)

    def test_nothing(self):
        self.assertEqual(self.run_it().stdout, "nothing fires, nothing is pending\n")
        self.assertEqual(json.loads(self.run_it("--json", "--check").stdout),
                         {"alerts": [], "firing": {"critical": 0, "error": 0, "warning": 0}})

    def test_what_fires(self):
        self.drive("evaluate 600 -")
        self.run_it("--check")  # a warning is none of its business
        self.drive("evaluate 1600 openai", "evaluate 20 openai")
        out = self.run_it("--check", status=1).stdout.splitlines()
        self.assertEqual(out[0].split(), ["STATE", "SEVERITY", "SINCE", "ALERT", "SUMMARY"])
        self.assertRegex(out[1], r"^firing    error     [-0-9]{10} [:0-9]{8} provider_unhealthy   openai is unhealthy: ")
        self.assertRegex(out[2], r"^resolved  error     [-0-9]{10} [:0-9]{8} p95_latency          P95 latency is 1600 ms")
        answer = json.loads(self.run_it("--json").stdout)
        self.assertEqual(answer["firing"], {"critical": 0, "error": 1, "warning": 0})
        first, second = answer["alerts"]
        self.assertEqual((first["name"], first["subject"], first["state"], first["resolved"], first["instance"]),
                         ("provider_unhealthy", "openai", "firing", None, "driver:1"))
        self.assertRegex(second["resolved"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")

    def test_wrong_use(self):
        self.run_it("nonsense", status=2)
        self.run_it("test", "--all", status=2)
        self.run_it("--sink", "x", status=2)

    def test_sinks(self):
        self.assertIn("alerts.webhook_url", self.run_it("test", status=1).stderr)
        got = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args):
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
            path = os.path.join(self.folder, "embedd.yaml")
            with open(path, "w") as f:
                f.write(SINKS % server.server_address[1])
            r = self.run_it("test", "-c", path, status=1)
            self.assertRegex(r.stdout, r"^pager +webhook +took it, status 204\nnobody +webhook +did not take it: ")
            self.assertNotIn("T0KEN", r.stdout + r.stderr)
            self.assertEqual(got[0]["alert"]["name"], "test")
            answer = json.loads(self.run_it("test", "-c", path, "--json", "--sink", "pager").stdout)
            self.assertEqual(answer, {"sinks": [{"name": "pager", "kind": "webhook", "ok": True, "status": 204,
                                                 "error": None}]})
            self.assertIn("nosuch", self.run_it("test", "-c", path, "--sink", "nosuch", status=1).stderr)
            server.shutdown()


if __name__ == "__main__":
    unittest.main()
