"""embedd rollout: on the store, and the proof of a rollback on a service that keeps its word or does not."""
import http.server
import json
import signal
import subprocess
import threading
import time
import unittest

from harness import PROGRAM, Case, environment


class Store(Case):
    def setUp(self):
        super().setUp()
        self.env = {"EMBEDD_DATA_DIR": self.path("data"), "EMBEDD_STORE_URL": "", "EMBEDD_CONFIG": "",
                    "EMBEDDING_ROLLOUT_PERCENTAGE": "30"}

    def rollout(self, *arguments):
        return self.good("rollout", *arguments, "--json", env=self.env)

    def test_all(self):
        a = self.rollout("get").json()
        self.assertEqual((a["mode"], a["percentage"], a["changed_at"]), ("configured", 30, None))
        self.assertEqual(self.rollout("audit").out, "")
        a = self.rollout("set", "12.5%", "--reason", 'a "good" one', "--actor", "ann").json()
        self.assertEqual((a["mode"], a["percentage"], a["actor"], a["reason"]), ("fixed", 12.5, "ann", 'a "good" one'))
        a = self.rollout("schedule", "5:1d", "25:90m", "100:45").json()
        self.assertEqual(a["schedule"], [{"percentage": 5, "hold_seconds": 86400}, {"percentage": 25, "hold_seconds": 5400},
                                         {"percentage": 100, "hold_seconds": 45}])
        self.assertEqual((a["mode"], a["step"], a["step_until"] - a["step_since"]), ("scheduled", 1, 86400))
        self.assertTrue(a["actor"])  # the user's name
        self.assertEqual(self.rollout("rollback").json()["percentage"], 0)
        self.assertEqual(self.rollout("clear").json()["percentage"], 30)
        events = self.rollout("audit").lines()
        self.assertEqual([(e["action"], e["from"], e["to"]) for e in events],
                         [("clear", 0, None), ("rollback", 5, 0), ("schedule", 12.5, 5), ("set", None, 12.5)])
        self.assertEqual(len(self.rollout("audit", "-n", "2").lines()), 2)
        text = self.good("rollout", "audit", env=self.env).out
        self.assertRegex(text, r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC set +configured +12.5 % +ann +a \"good\" one$")

    def test_default_schedule(self):
        a = self.rollout("schedule").json()
        self.assertEqual([s["percentage"] for s in a["schedule"]], [5, 10, 25, 50, 90, 100])

    def test_control_characters_do_not_reach_a_terminal(self):
        self.rollout("set", "5", "--reason", "a\x1b[31mb")
        self.assertNotIn("\x1b", self.good("rollout", "get", env=self.env).out)

    def test_wrong_use(self):
        for arguments in ((), ("explode",), ("set",), ("set", "101"), ("set", "-1"), ("set", "x"), ("set", "5", "6"),
                          ("get", "x"), ("schedule", "5"), ("schedule", "5:"), ("schedule", "5:0s"), ("schedule", "5:1y"),
                          ("schedule", "5:1h", "5:1h"), ("schedule", "5:400d"), ("verify", "x"), ("verify", "--seconds", "1")):
            self.assertEqual(self.run_program("rollout", *arguments, env=self.env).code, 2, arguments)


class Fake(http.server.ThreadingHTTPServer):
    """A service whose state is a dict; `lag` seconds pass until answers follow a rollback."""
    daemon_threads = True

    def __init__(self, lag=0.5, percentage=60, fails_after=None, mode="fixed"):
        self.lag, self.fails_after, self.requests, self.posts, self.lock = lag, fails_after, 0, [], threading.Lock()
        self.state = {"mode": mode, "percentage": percentage, "step": None, "step_until": None, "schedule": []}
        self.share, self.changed = percentage, 0
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self):
        return "http://127.0.0.1:%d/" % self.server_address[1]

    def act(self, body):
        self.posts.append(body)
        if body["action"] == "rollback":
            self.state.update(mode="rolled_back", percentage=0)
            self.changed = time.monotonic()
        elif body["action"] == "set":
            self.state.update(mode="fixed", percentage=body["percentage"])

    def path_of(self, user):
        rolled_back = self.changed and time.monotonic() - self.changed >= self.lag
        return "legacy" if rolled_back or int(user.rsplit("-", 1)[1]) % 100 >= self.share else "hybrid"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.reply(200, self.server.state)

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.endswith("/rollout"):
            server.act(body)
            return self.reply(200, server.state)
        with server.lock:
            server.requests += 1
            number = server.requests
        if server.fails_after and number > server.fails_after:
            return self.reply(503, {"detail": "no provider is available"})
        time.sleep(0.01)
        self.reply(200, {"results": [{"route": {"path": server.path_of(body["user"])}}]})


class Verify(Case):
    def verify(self, server, *more):
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return self.run_program("rollout", "verify", "--url", server.url, "--seconds", "6", "--concurrency", "4", "--json", *more)

    def test_a_service_that_rolls_back(self):
        server = Fake(lag=1.2)
        r = self.verify(server)
        self.assertEqual(r.code, 0, r.err)
        a = r.json()
        self.assertEqual((a["proved"], a["failed"], a["hybrid_late"], a["complaint"]), (True, 0, 0, None))
        self.assertGreater(a["hybrid_before"], 0)
        self.assertGreater(a["legacy_after"], 0)
        self.assertTrue(200 < a["settled_ms"] < 3000, a)
        self.assertEqual([p["action"] for p in server.posts], ["rollback", "set", "verified"])
        self.assertEqual(server.posts[1]["percentage"], 60)
        self.assertIn("none failed", server.posts[2]["reason"])

    def test_a_service_that_does_not(self):
        server = Fake(lag=1000)
        r = self.verify(server)
        self.assertEqual(r.code, 1)
        self.assertIn("more than 3 s after", r.json()["complaint"])
        self.assertEqual([p["action"] for p in server.posts], ["rollback", "set"])  # put back all the same

    def test_a_service_that_fails(self):
        server = Fake(fails_after=50)
        r = self.verify(server)
        self.assertEqual(r.code, 1)
        self.assertIn("no provider is available", r.json()["complaint"])
        self.assertEqual([p["action"] for p in server.posts], ["rollback", "set"])

    def test_schedule_goes_on(self):
        server = Fake(lag=0)
        server.state.update(mode="scheduled", percentage=60, step=2, step_until=int(time.time()) + 1000,
                            schedule=[{"percentage": 5, "hold_seconds": 50}, {"percentage": 60, "hold_seconds": 5000},
                                      {"percentage": 100, "hold_seconds": 70}])
        self.assertEqual(self.verify(server).code, 0)
        back = server.posts[1]
        self.assertEqual((back["action"], [s["percentage"] for s in back["steps"]], back["steps"][1]["hold_seconds"]),
                         ("schedule", [60, 100], 70))
        self.assertTrue(900 < back["steps"][0]["hold_seconds"] <= 1000)

    def test_nothing_to_roll_back(self):
        server = Fake(percentage=0)
        r = self.verify(server)
        self.assertEqual((r.code, server.posts), (1, []))
        self.assertIn("nothing to roll back", r.err)

    def stop_when(self, server, condition, seconds):
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        p = subprocess.Popen([PROGRAM, "rollout", "verify", "--url", server.url, "--seconds", seconds], env=environment(),
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.01)
        p.send_signal(signal.SIGTERM)
        p.communicate(timeout=60)
        self.assertEqual(p.returncode, -signal.SIGTERM)

    def test_stopped_before_the_rollback(self):
        server = Fake()
        self.stop_when(server, lambda: server.requests > 20, "60")
        self.assertEqual(server.posts, [])

    def test_stopped_after_it(self):
        server = Fake()
        self.stop_when(server, lambda: server.posts, "6")
        self.assertEqual([p["action"] for p in server.posts], ["rollback", "set"])
        self.assertEqual(server.state["percentage"], 60)


if __name__ == "__main__":
    unittest.main()
