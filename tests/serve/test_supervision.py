"""embedd serve under a supervisor: systemd's notifications, notices of preemption."""
import http.server
import os
import signal
import socket
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))
from service import PATIENCE, Service  # noqa: E402


class Notify(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(PATIENCE)
        self.addCleanup(self.socket.close)

    def wait_for(self, wanted):
        while True:
            state = self.socket.recv(4096).decode()
            if wanted in state.splitlines():
                return state

    def test_states(self):
        with Service(env={"NOTIFY_SOCKET": self.path}) as s:
            self.wait_for("READY=1")
            self.wait_for("STATUS=serving")
            s.signal(signal.SIGHUP)
            self.assertIn("MONOTONIC_USEC=", self.wait_for("RELOADING=1"))
            self.wait_for("READY=1")
            s.signal(signal.SIGTERM)
            self.wait_for("STOPPING=1")
            self.assertEqual(s.wait(), 0)

    def test_watchdog(self):
        with Service(env={"NOTIFY_SOCKET": self.path, "WATCHDOG_USEC": "400000"}):
            for _ in range(3):
                self.wait_for("WATCHDOG=1")


class Metadata(http.server.BaseHTTPRequestHandler):
    """The metadata addresses of three clouds, and a plain one."""

    def log_message(self, *_):
        pass

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        if self.path == "/latest/api/token" and self.headers.get("X-aws-ec2-metadata-token-ttl-seconds"):
            self.answer(200, b"TOKEN")
        else:
            self.answer(400)

    def do_GET(self):
        s = self.server
        s.asked += 1
        taken = s.asked > 2
        if self.path == "/computeMetadata/v1/instance/preempted":
            ok = self.headers.get("Metadata-Flavor") == "Google"
            self.answer(200 if ok else 403, b"TRUE\n" if taken else b"FALSE\n")
        elif self.path == "/latest/meta-data/spot/instance-action":
            if self.headers.get("X-aws-ec2-metadata-token") != "TOKEN":
                self.answer(401)
            else:
                self.answer(200, b'{"action":"terminate"}') if taken else self.answer(404, b"not found")
        elif self.path.startswith("/metadata/scheduledevents?api-version="):
            event = b'{"EventId":"1","EventType":"Preempt"}' if taken else b'{"EventId":"2","EventType":"Reboot"}'
            self.answer(200 if self.headers.get("Metadata") == "true" else 400, b'{"Events":[' + event + b"]}")
        elif self.path == "/plain":
            self.answer(200, b"in two minutes" if taken else b"none")
        else:
            self.answer(404)


class Preemption(unittest.TestCase):
    def check(self, source):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
        server.asked = 0
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            url = source.replace("ADDRESS", "http://127.0.0.1:%d" % server.server_address[1])
            with Service(env={"EMBEDD_PREEMPTION_URL": url, "EMBEDD_PREEMPTION_INTERVAL_MS": "100"}, ready=False) as s:
                self.assertEqual(s.wait(), 0)
                self.assertTrue(s.log("preemption notice: this machine is about to be taken away"))
                self.assertTrue(s.log("stopped"))
            self.assertEqual(server.asked, 3)
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def test_gcp(self):
        self.check("gcp=ADDRESS")

    def test_aws(self):
        self.check("aws=ADDRESS/")

    def test_azure(self):
        self.check("azure=ADDRESS")

    def test_plain(self):
        self.check("ADDRESS/plain")

    def test_nobody_there(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = "http://127.0.0.1:%d/" % free.getsockname()[1]
            with Service(env={"EMBEDD_PREEMPTION_URL": url, "EMBEDD_PREEMPTION_INTERVAL_MS": "100"}) as s:
                s.wait_log("preemption notices cannot be asked for")
                self.assertEqual(s.get("/ready")[0], 200)
                self.assertEqual(s.stop(), 0)


if __name__ == "__main__":
    unittest.main()
