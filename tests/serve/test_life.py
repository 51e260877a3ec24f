"""embedd serve: starting, reloading, stopping."""
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))
from service import PROGRAM, SANITIZED, Service, clean_environment, until  # noqa: E402

LONG = "the length of a text decides how long its vector takes " * 20


def refused(*arguments, env=None):
    with tempfile.TemporaryDirectory() as folder:
        settings = {"EMBEDD_LISTEN": "127.0.0.1:0", "EMBEDD_DATA_DIR": folder, "EMBEDD_LOG": "info"}
        settings.update(env or {})
        p = subprocess.run([PROGRAM, "serve", *arguments], env=clean_environment(settings), cwd=folder, timeout=120,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return p.returncode, p.stderr.decode()


class Start(unittest.TestCase):
    def test_first_answer(self):
        with Service() as s:
            status, _, body = s.post("/v1/embeddings", {"input": "hello world", "encoding_format": "float"})
            self.assertEqual(status, 200, body)
            self.assertEqual(len(body["data"][0]["embedding"]), 384)
            self.assertAlmostEqual(body["data"][0]["embedding"][0], -0.034478, delta=0.002)
            self.assertEqual(s.stop(), 0)
            self.assertTrue(s.log("stopped"))

    def test_bad_settings_name_themselves(self):
        for env, words in (({"EMBEDDING_L1_CACHE_SIZE": "many"}, ("EMBEDDING_L1_CACHE_SIZE", "many")),
                           ({"EMBEDD_MAX_INPUTS": "0"}, ("EMBEDD_MAX_INPUTS", "0", "1")),
                           ({"EMBEDD_CONFIG": "/nonexistent/embedd.yaml"}, ("/nonexistent/embedd.yaml",))):
            code, err = refused(env=env)
            self.assertEqual(code, 2, err)
            for word in words:
                self.assertIn(word, err)

    def test_unknown_model(self):
        code, err = refused(env={"LOCAL_EMBEDDING_MODEL": "no-such-model"})
        self.assertEqual(code, 1, err)
        self.assertIn("no-such-model", err)

    def test_address_in_use(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            address = "127.0.0.1:%d" % other.getsockname()[1]
            code, err = refused(env={"EMBEDD_LISTEN": address})
        self.assertEqual(code, 1, err)
        self.assertIn(address, err)
        self.assertIn("in use", err)

    def test_data_directory_that_cannot_be_made(self):
        """The service goes on with what it has in memory."""
        with Service(env={"EMBEDD_DATA_DIR": "/proc/nowhere/embedd"}) as s:
            self.assertEqual(s.post("/v1/embeddings", {"input": "a"})[0], 200)
            self.assertEqual(s.stop(), 0)

    def test_ready_only_when_models_are_loaded(self):
        with Service(ready=False) as s:
            s.wait_log("listening")
            self.assertIn(s.get("/health")[0], (200,))
            s.wait_ready()

    def test_vectors_survive_a_restart(self):
        with tempfile.TemporaryDirectory() as folder:
            env = {"EMBEDD_DATA_DIR": folder}
            with Service(env=env) as s:
                first = s.post("/v1/embeddings", {"input": "kept"})
                self.assertEqual(first[1]["x-embedd-cached"], "0")
                self.assertEqual(s.stop(), 0)
            with Service(env=env) as s:
                second = s.post("/v1/embeddings", {"input": "kept"})
                self.assertEqual(second[1]["x-embedd-cached"], "1")
                self.assertEqual(second[2], first[2])


class Stop(unittest.TestCase):
    def test_requests_in_work_finish(self):
        with Service(env={"EMBEDDING_ENABLE_CACHING": "false", "EMBEDD_SHUTDOWN_SECONDS": "600"}) as s:
            results = []
            texts = [LONG + str(i) for i in range(20 if SANITIZED else 200)]
            client = threading.Thread(target=lambda: results.append(s.post("/v1/embeddings", {"input": texts})))
            client.start()
            until(lambda: self.active(s) > 1, "a request in work")
            s.signal(signal.SIGTERM)
            self.assertEqual(s.wait(), 0)
            client.join()
            self.assertEqual(results[0][0], 200)
            self.assertEqual(len(results[0][2]["data"]), len(texts))

    def active(self, s):
        _, _, text = s.get("/metrics")
        return sum(float(l.split()[-1]) for l in text.decode().splitlines() if l.startswith("embedd_requests_active"))

    def test_grace_period(self):
        with Service(env={"EMBEDD_SHUTDOWN_GRACE_MS": "8000", "EMBEDD_SHUTDOWN_SECONDS": "20"}) as s:
            s.signal(signal.SIGTERM)
            s.wait_log("stopping")
            until(lambda: s.get("/ready")[0] == 503, "/ready to say 503")
            self.assertEqual(s.get("/health")[0], 200)
            self.assertEqual(s.post("/v1/embeddings", {"input": "still taken"})[0], 200)
            start = time.monotonic()
            self.assertEqual(s.wait(), 0)
            self.assertLess(time.monotonic() - start, 30)

    def test_requests_that_take_too_long_are_cancelled(self):
        with Service(env={"EMBEDD_SHUTDOWN_SECONDS": "1", "EMBEDDING_ENABLE_CACHING": "false",
                          "EMBEDD_MAX_INPUTS": "100000"}) as s:
            texts = [LONG + str(i) for i in range(5000)]
            gone = []

            def client():
                try:
                    gone.append(s.post("/v1/embeddings", {"input": texts})[0])
                except OSError as e:
                    gone.append(e)
                except Exception as e:  # http.client's
                    gone.append(e)
            thread = threading.Thread(target=client)
            thread.start()
            until(lambda: self.active(s) > 1, "a request in work")
            start = time.monotonic()
            self.assertEqual(s.stop(), 0)
            self.assertLess(time.monotonic() - start, 30)  # one second, and what a busy machine takes
            thread.join()
            self.assertNotEqual(gone, [200])

    def test_second_signal_ends_at_once(self):
        with Service(env={"EMBEDD_SHUTDOWN_GRACE_MS": "50000", "EMBEDD_SHUTDOWN_SECONDS": "60"}) as s:
            s.signal(signal.SIGTERM)
            s.wait_log("stopping")
            s.signal(signal.SIGINT)
            self.assertEqual(s.wait(), 128 + signal.SIGINT)

    def test_kill_needs_no_repair(self):
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(3):
                with Service(env={"EMBEDD_DATA_DIR": folder}) as s:
                    for i in range(20):
                        s.post("/v1/embeddings", {"input": "text %d" % i})
                    s.signal(signal.SIGKILL)
                    s.wait()
            with Service(env={"EMBEDD_DATA_DIR": folder}) as s:
                self.assertEqual(s.post("/v1/embeddings", {"input": "text 1"})[0], 200)
                self.assertFalse([l for l in s.lines if isinstance(l, dict) and l.get("level") == "error"])


class Reload(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.file = os.path.join(self.folder.name, "embedd.yaml")

    def write(self, text):
        with open(self.file + ".new", "w") as f:
            f.write(text)
        os.rename(self.file + ".new", self.file)

    def test_reload_takes_over_and_refuses(self):
        self.write("server:\n  max_inputs: 3\n")
        with Service("--config", self.file) as s:
            self.assertEqual(s.post("/v1/embeddings", {"input": ["a"] * 4})[0], 413)
            self.write("server:\n  max_inputs: 5\n  loops: 2\n")
            s.signal(signal.SIGHUP)
            s.wait_log("configuration reloaded")
            self.assertEqual(s.post("/v1/embeddings", {"input": ["a"] * 4})[0], 200)
            restart = s.wait_log("a setting has changed that needs a restart")
            self.assertEqual(restart["setting"], "server.loops")
            for bad in ("server:\n  max_inputs: none\n", "server:\n  max_input: 7\n", "server: [\n",
                        "access:\n  api_keys_file: /nonexistent/keys.yaml\n"):
                before = len(s.lines)
                self.write(bad)
                s.signal(signal.SIGHUP)
                s.wait_log("the new configuration was refused; the old one stays", after=before)
                self.assertEqual(s.post("/v1/embeddings", {"input": ["a"] * 5})[0], 200)
                self.assertEqual(s.post("/v1/embeddings", {"input": ["a"] * 6})[0], 413)

    def test_reload_under_load_drops_nothing(self):
        self.write("server:\n  max_inputs: 10\n")
        with Service("--config", self.file) as s:
            failures, done, stop = [], [0], threading.Event()

            def client(n):
                i = 0
                while not stop.is_set():
                    i += 1
                    try:
                        status = s.post("/v1/embeddings", {"input": "text %d of %d" % (i % 50, n)})[0]
                    except OSError as e:
                        status = e
                    if status != 200:
                        failures.append(status)
                    done[0] += 1
            threads = [threading.Thread(target=client, args=(n,)) for n in range(4)]
            for t in threads:
                t.start()
            for n in range(20):
                until(lambda: done[0] > 2 * n, "requests between the reloads")
                self.write("server:\n  max_inputs: %d\ncache:\n  l1_size: %d\n" % (10 + n, 10 + 5 * n))
                before = len(s.lines)
                s.signal(signal.SIGHUP)
                s.wait_log("configuration reloaded", after=before)
            stop.set()
            for t in threads:
                t.join()
            self.assertEqual(failures, [])
            self.assertGreater(done[0], 20)
            _, _, metrics = s.get("/metrics")
            self.assertIn(b'embedd_config_reloads_total{result="ok"} 20', metrics)


if __name__ == "__main__":
    unittest.main()
