"""Alerts told to HTTP servers: a webhook, and a small Alertmanager; down, refusing, slow; and restarts in between."""
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from servers import hold_port, start_postgresql, until


class Sink:
    """An HTTP server that keeps what it was sent. `status` is what it answers; `hold`, if clear, makes it hang."""

    def __init__(self, port=0):
        sink = self
        self.status, self.got, self.lock = 200, [], threading.Lock()
        self.hold = threading.Event()
        self.hold.set()
        self.refused = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink.hold.wait(60)
                with sink.lock:
                    status = sink.status
                    if status == 200:
                        sink.got.append((self.path, dict(self.headers), json.loads(body)))
                    else:
                        sink.refused += 1
                self.send_response(status)
                if status == 307:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *args):
                pass

            def handle(self):
                try:
                    super().handle()
                except OSError:
                    pass  # the client has gone

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def bodies(self):
        with self.lock:
            return [body for _, _, body in self.got]

    def url(self, path=""):
        return "http://127.0.0.1:%d%s" % (self.port, path)

    def close(self):
        self.hold.set()
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Alertmanager(Sink):
    """Groups by labels as the real one does."""

    def alerts(self):
        state = {}
        for body in self.bodies():
            for alert in body:
                state[tuple(sorted(alert["labels"].items()))] = alert
        return state

    def firing(self):
        return sorted(dict(k)["alertname"] + "/" + dict(k)["severity"] for k, a in self.alerts().items()
                      if "endsAt" not in a)


class Driver:
    def __init__(self, *sinks):
        self.process = subprocess.Popen([os.environ["ALERTS_DRIVER"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        self.lines = []
        self.reader = threading.Thread(target=lambda: [self.lines.append(line) for line in self.process.stderr])
        self.reader.start()
        for sink in sinks:
            self("sink", *sink)

    def __call__(self, *words):
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def open(self, store="-"):
        answer = self("open", store)
        assert answer == "ok", answer
        return self

    def log(self):
        return "".join(self.lines)

    def kill(self):
        self.process.kill()
        self.clean_up()

    def clean_up(self):
        if not self.process.stdin.closed:
            self.process.stdin.close()
        self.process.wait(30)
        self.reader.join()
        self.process.stdout.close()
        self.process.stderr.close()

    def end(self):
        self.clean_up()
        assert self.process.returncode == 0, self.log()
        return self.log()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            self.kill()
        else:
            self.end()


SECRET = "/hook/T0KEN"


class Webhook(unittest.TestCase):
    def test_what_is_told(self):
        with Sink() as sink, Driver(("webhook", "hook", sink.url(SECRET), "bearer-value", "warning")) as d:
            d.open()
            d("evaluate", 812, "-")
            until(lambda: len(sink.got) == 1, "the notice")
            path, headers, body = sink.got[0]
            self.assertEqual(path, SECRET)
            self.assertEqual(headers["Authorization"], "Bearer bearer-value")
            self.assertEqual(headers["Content-Type"], "application/json")
            self.assertEqual(body["status"], "firing")
            alert = body["alert"]
            self.assertEqual((alert["name"], alert["subject"], alert["severity"], alert["value"], alert["threshold"]),
                             ("p95_latency", "", "warning", 812, 500))
            self.assertEqual(alert["summary"], "P95 latency is 812 ms, over 500 ms")
            self.assertRegex(alert["since"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
            self.assertEqual(body["instance"], "driver:1")
            self.assertRegex(body["time"], r"Z$")
            d("evaluate", 20, "-")
            until(lambda: len(sink.got) == 2, "the end")
            self.assertEqual(sink.got[1][2]["status"], "resolved")
            log = d.end()
            self.assertIn("alert: fires", log)
            self.assertIn("alert: resolved", log)
            for secret in ("T0KEN", "bearer-value", str(sink.port)):
                self.assertNotIn(secret, log)

    def test_down_then_told_once_and_in_order(self):
        holder = hold_port()
        self.addCleanup(holder.close)
        port = holder.getsockname()[1]
        with Driver(("webhook", "hook", "http://127.0.0.1:%d%s" % (port, SECRET), "-", "warning")) as d:
            d.open()
            d("evaluate", 600, "-")
            d("evaluate", 1600, "openai")
            d("evaluate", 20, "-")
            until(lambda: "takes no notices" in d.log(), "an attempt that meets nobody")
            with Sink(port) as sink:
                sink.status = 503
                until(lambda: sink.refused > 0, "an attempt")
                self.assertEqual(sink.got, [])
                sink.status = 200
                until(lambda: len(sink.got) == 5, "all that happened")
                told = [(b["status"], b["alert"]["name"], b["alert"]["severity"]) for b in sink.bodies()]
                self.assertEqual(told, [("firing", "p95_latency", "warning"), ("firing", "p95_latency", "error"),
                                        ("firing", "provider_unhealthy", "error"), ("resolved", "p95_latency", "error"),
                                        ("resolved", "provider_unhealthy", "error")])
                log = d.end()
                self.assertEqual(len(sink.got), 5)
                self.assertEqual(log.count("takes no notices"), 1)  # said once, not for each attempt
                self.assertEqual(log.count("takes notices again"), 1)
                self.assertNotIn("T0KEN", log)
                self.assertNotIn(str(port), log)

    def test_minimum_severity(self):
        with Sink() as all_of_it, Sink() as errors:
            with Driver(("webhook", "all", all_of_it.url(), "-", "warning"),
                        ("webhook", "errors", errors.url(), "-", "error")) as d:
                d.open()
                for p95 in (600, 20, 1600, 600, 20):
                    d("evaluate", p95, "-")
                d.end()
            self.assertEqual([b["status"] for b in all_of_it.bodies()],
                             ["firing", "resolved", "firing", "firing", "resolved"])
            self.assertEqual([(b["status"], b["alert"]["severity"]) for b in errors.bodies()],
                             [("firing", "error"), ("resolved", "error")])

    def test_one_that_hangs_holds_neither_the_other_nor_the_end(self):
        with Sink() as slow, Sink() as quick:
            slow.hold.clear()
            with Driver(("webhook", "slow", slow.url(), "-", "warning"),
                        ("webhook", "quick", quick.url(), "-", "warning")) as d:
                d.open()
                d("evaluate", 600, "-")
                until(lambda: len(quick.got) == 1, "the other's notice")
                answer = d("close").split()
                self.assertEqual(answer[0], "ok")
                self.assertLess(int(answer[1]), 9000)  # one second, and what a busy machine takes; the sink takes a minute

    def test_refused_for_good(self):
        with Sink() as sink, Driver(("webhook", "hook", sink.url(), "-", "warning")) as d:
            sink.status = 400
            d.open()
            d("evaluate", 600, "-")
            until(lambda: sink.refused == 1, "the refusal")
            sink.status = 200
            d("evaluate", 20, "-")
            until(lambda: len(sink.got) == 1, "the next")
            self.assertEqual(sink.got[0][2]["status"], "resolved")
            self.assertIn("given up", d.end())

    def test_redirects_are_not_followed(self):
        with Sink() as sink, Driver(("webhook", "hook", sink.url(SECRET), "bearer-value", "warning")) as d:
            sink.status = 307
            self.assertEqual(d("test", "hook"), "hook: it answered with status 307, 200 to 299 are success (307)")
            self.assertEqual(sink.got, [])


class ToAlertmanager(unittest.TestCase):
    def test_firing_worse_and_resolved(self):
        with Alertmanager() as am, Driver(("alertmanager", "am", am.url("/"), "t", "warning")) as d:
            d.open()
            d("evaluate", 600, "openai")
            until(lambda: am.firing() == ["p95_latency/warning", "provider_unhealthy/error"], "both")
            path, headers, _ = am.got[0]
            self.assertEqual((path, headers["Authorization"]), ("/api/v2/alerts", "Bearer t"))
            d("evaluate", 1600, "openai")
            until(lambda: am.firing() == ["p95_latency/error", "provider_unhealthy/error"], "it to be worse")
            alert = [a for k, a in am.alerts().items() if dict(k)["alertname"] == "provider_unhealthy"][0]
            self.assertEqual(alert["labels"], {"alertname": "provider_unhealthy", "severity": "error",
                                               "subject": "openai", "instance": "driver:1"})
            self.assertEqual(alert["annotations"], {"summary": "openai is unhealthy: it does not answer"})
            d("evaluate", 20, "-")
            until(lambda: am.firing() == [], "all to be over")
            for a in am.alerts().values():
                self.assertLessEqual(a["startsAt"], a["endsAt"])

    def test_test(self):
        with Alertmanager() as am, Sink() as hook, hold_port() as nobody:
            with Driver(("alertmanager", "am", am.url(), "-", "warning"), ("webhook", "hook", hook.url(), "-", "critical"),
                        ("webhook", "nobody", "http://127.0.0.1:%d/T0KEN" % nobody.getsockname()[1], "-", "warning")) as d:
                self.assertEqual(d("test", "am"), "ok:  (200)")
                self.assertEqual(d("test", "hook"), "ok:  (200)")
                answer = d("test", "nobody")
                self.assertTrue(answer.startswith("nobody: ") and answer.endswith("(0)"), answer)
                self.assertNotIn("T0KEN", answer)
            self.assertEqual(hook.bodies()[0]["alert"]["name"], "test")
            self.assertIn("endsAt", am.bodies()[0][0])


class Restarts(unittest.TestCase):
    def restart(self, store):
        holder = hold_port()
        self.addCleanup(holder.close)
        port = holder.getsockname()[1]
        sink_row = ("webhook", "hook", "http://127.0.0.1:%d/" % port, "-", "warning")
        d = Driver(sink_row).open(store)
        d("evaluate", 600, "-")
        d("evaluate", 1600, "-")
        d.kill()  # nobody was told
        with Sink(port) as sink:
            with Driver(sink_row) as d:
                d.open(store)
                self.assertEqual(d("firing"), "1")
                until(lambda: len(sink.got) == 2, "what the dead one did not tell")
                self.assertEqual([b["alert"]["severity"] for b in sink.bodies()], ["warning", "error"])
                d("evaluate", 1600, "-")
            with Driver(sink_row) as d:
                d.open(store)
                self.assertEqual(d("firing"), "1")
                d("evaluate", 1600, "-")
                d("evaluate", 20, "-")
                self.assertEqual(d("firing"), "0")
                d.end()
            self.assertEqual([b["status"] for b in sink.bodies()], ["firing", "firing", "resolved"])
            with Driver(sink_row) as d:
                d.open(store)
                self.assertEqual(d("firing"), "0")
            self.assertEqual(len(sink.got), 3)

    def test_sqlite(self):
        with tempfile.TemporaryDirectory() as folder:
            self.restart("sqlite:%s/alerts.db" % folder)

    def test_postgresql(self):
        with start_postgresql() as server:
            self.restart(server.url)

    def test_postgresql_away_and_back(self):
        with start_postgresql() as server, Sink() as sink:
            row = ("webhook", "hook", sink.url(), "-", "warning")
            with Driver(row) as d:
                d.open(server.url)
                d("evaluate", 20, "-")
                server.sql("CHECKPOINT")  # its commits are not synchronous
                server.kill()
                d("evaluate", 600, "-")
                until(lambda: len(sink.got) == 1, "the notice, store or not")
                server.start()

                def kept():
                    d("evaluate", 600, "-")
                    return server.sql("SELECT count(*) FROM embedd_alerts WHERE state = 2").strip() == "1"
                until(kept, "the store to have it")
            with Driver(row) as d:
                d.open(server.url)
                self.assertEqual(d("firing"), "1")
            self.assertEqual(len(sink.got), 1)


if __name__ == "__main__":
    unittest.main()
