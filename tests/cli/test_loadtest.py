"""embedd loadtest against servers whose times are known."""
import json
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
import unittest

from harness import Case, PROGRAM, SANITIZED, environment, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx-embedd-tokens: 7\r\nx-embedd-cached: 1\r\n\r\n{}"


class Server:
    """answer(request number, head, body) gives bytes, or (seconds to wait, bytes), or None to stay silent; a
    trailing b"CLOSE" ends the connection after it, b"RESET" resets it."""

    def __init__(self, answer=lambda n, head, body: OK, family=socket.AF_INET, address=("127.0.0.1", 0),
                 context=None):
        self.context = context  # of TLS
        self.answer, self.requests, self.connections = answer, [], 0
        self.lock, self.closed = threading.Lock(), threading.Event()
        self.stalled_until = 0
        self.listener = socket.socket(family)
        self.listener.bind(address)
        self.listener.listen(512)
        threading.Thread(target=self._accept, daemon=True).start()
        if family == socket.AF_INET:
            self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]

    def _accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
            threading.Thread(target=self._serve, args=(s,), daemon=True).start()

    def _serve(self, s):
        data = b""
        try:
            if self.context:
                s = self.context.wrap_socket(s, server_side=True)
            while True:
                while b"\r\n\r\n" not in data:
                    more = s.recv(65536)
                    if not more:
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                length = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))
                while len(data) < length:
                    data += s.recv(65536)
                body, data = data[:length], data[length:]
                with self.lock:
                    number = len(self.requests)
                    self.requests.append((time.monotonic(), head, body))
                out = self.answer(number, head, body)
                if isinstance(out, tuple):
                    self.closed.wait(out[0])
                    out = out[1]
                wait = self.stalled_until - time.monotonic()
                if wait > 0:
                    self.closed.wait(wait)
                if out is None:
                    continue
                if out.endswith(b"RESET"):
                    s.sendall(out[:-5])
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                if out.endswith(b"CLOSE"):
                    s.sendall(out[:-5])
                    return
                s.sendall(out)
        except OSError:
            pass
        finally:
            s.close()

    def close(self):
        self.closed.set()
        self.listener.close()

    def bodies(self):
        return [json.loads(b) for _, _, b in self.requests[1:]]  # the first one is the probe


class LoadTest(Case):
    def server(self, *arguments, **more):
        s = Server(*arguments, **more)
        self.addCleanup(s.close)
        return s

    def load(self, url, *arguments, code=0, **more):
        r = self.run_program("loadtest", "--warmup", "0", "--format", "json", *arguments, url, **more)
        self.assertEqual(r.code, code, r.err)
        o = r.json()
        bad = sum(n for status, n in o["statuses"].items() if not 200 <= int(status) < 300)
        self.assertEqual(o["due"], o["good"] + bad + sum(o["errors"].values()), "every request has one end")
        return o


class Loops(LoadTest):
    def test_closed(self):
        s = self.server(lambda n, h, b: (0.02, OK))
        o = self.load(s.url, "--connections", "4", "--duration", "1.5")
        self.assertEqual((o["loop"], o["connects"], o["errors"]["timeout"]), ("closed", 4, 0))
        self.assertGreaterEqual(o["latency_ms"]["min"], 20)
        self.assertGreaterEqual(o["latency_ms"]["p50"], 20)
        self.assertLessEqual(o["requests_per_second"], 200)
        # four connections that are never idle, whatever an answer takes on this machine
        self.assertGreater(o["requests_per_second"] * o["latency_ms"]["mean"] / 1000, 2)
        self.assertEqual(sum(x["requests"] for x in o["series"]), o["requests"])
        self.assertEqual(len(o["series"]), 2)
        self.assertEqual(o["tokens"], 7 * o["requests"])
        self.assertEqual(o["cached_texts"], o["requests"])

    def test_open_uniform(self):
        s = self.server()
        o = self.load(s.url, "--rate", "400", "--arrivals", "uniform", "--duration", "1")
        self.assertEqual((o["loop"], o["due"], o["good"]), ("open", 400, 400))
        times = [t for t, _, _ in s.requests[1:]]
        # sent when they were due, but for what a busy machine adds, which counts in the latency
        self.assertAlmostEqual(times[-1] - times[0], 399 / 400, delta=0.01 + o["latency_ms"]["max"] / 1000)

    def test_open_poisson(self):
        """The number of arrivals varies like its root, and gaps shorter than a third of the mean are 28 % of all."""
        s = self.server()
        o = self.load(s.url, "--rate", "1200", "--duration", "1", "--threads", "2")
        self.assertGreater(o["due"], 1200 - 6 * 35)
        self.assertLess(o["due"], 1200 + 6 * 35)
        self.assertEqual(o["good"], o["due"])

    def test_a_stall_shows(self):
        """The server stands still for a second of three. Requests were due all the time, so a third of them was late:
        that is in the percentiles from when they were due, and nearly invisible from when they were sent."""
        def answer(n, h, b):
            if n == 30: # early: what is answered after the measured time is in no second
                s.stalled_until = time.monotonic() + 1
            return OK
        s = self.server(answer)
        o = self.load(s.url, "--rate", "100", "--arrivals", "uniform", "--connections", "1", "--duration", "3")
        self.assertEqual(o["good"], 300)
        self.assertGreater(o["latency_ms"]["p99"], 900)
        self.assertGreater(o["latency_ms"]["p90"], 500)
        self.assertGreater(o["latency_ms"]["max"], 990)
        self.assertGreater(o["latency_ms"]["mean"], 120)
        self.assertLess(o["service_ms"]["p99"], o["latency_ms"]["p99"] / 2)
        self.assertGreater(max(x["max_ms"] for x in o["series"]), 990)
        self.assertLess(min(x["requests"] for x in o["series"]), 60)

    def test_slower_than_the_rate(self):
        """Two answers a second for fifty requests a second: what was never sent counts with its age."""
        s = self.server(lambda n, h, b: (0.5 if n else 0, OK))
        o = self.load(s.url, "--rate", "50", "--arrivals", "uniform", "--connections", "1", "--duration", "2", "--timeout", "1")
        self.assertEqual(o["due"], 100)
        self.assertGreater(o["errors"]["not sent"], 80)
        self.assertGreater(o["latency_ms"]["p50"], 1000)
        self.assertEqual(o["latency_ms"]["count"], o["good"] + o["errors"]["not sent"] + o["errors"]["timeout"])

    def test_warm_up_does_not_count(self):
        s = self.server()
        r = self.run_program("loadtest", "--warmup", "0.5", "--duration", "0.5", "--rate", "200", "--arrivals", "uniform", "-f", "json",
                             s.url)
        o = r.json()
        self.assertEqual((o["due"], o["good"]), (100, 100))
        self.assertEqual(len(s.requests), 201)

    def test_stopped(self):
        s = self.server()
        p = subprocess.Popen([PROGRAM, "loadtest", "--warmup", "0", "--duration", "600", "--rate", "100", "-f", "json", s.url],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        self.addCleanup(p.kill)
        until(lambda: len(s.requests) >= 60, "some requests")
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=60)
        self.assertEqual(p.returncode, -signal.SIGINT, err)
        o = json.loads(out)
        self.assertTrue(o["stopped"])
        self.assertGreater(o["good"], 20)
        self.assertLess(o["measured_seconds"], 300)

    @unittest.skipIf(SANITIZED, "slow on purpose")
    def test_many_connections(self):
        s = self.server(lambda n, h, b: (0.2, OK))
        o = self.load(s.url, "--connections", "300", "--duration", "2", "--threads", "2")
        self.assertEqual(o["connects"], 300)
        self.assertEqual(o["good"], o["due"])


class Answers(LoadTest):
    def test_statuses(self):
        refusal = b"HTTP/1.1 503 No\r\nContent-Length: 13\r\n\r\nno room\nhere!"
        s = self.server(lambda n, h, b: refusal if n % 4 == 3 else OK)
        o = self.load(s.url, "--rate", "100", "--duration", "1", "--arrivals", "uniform")
        self.assertEqual(o["statuses"], {"200": 75, "503": 25})
        self.assertEqual(o["first_error"], "no room here!")
        self.assertEqual(o["latency_ms"]["count"], 75)
        out = self.good("loadtest", "--warmup", "0", "--duration", "1", "--rate", "100", "--series", s.url).out
        self.assertRegex(out, r"\nerrors\n  status 503 +\d+\n  the first answer with status 503 began: no room here!\n")
        self.assertRegex(out, r"\nsecond +requests +errors +mean ms +max ms\n +0 +\d+ +\d+ ")
        self.assertRegex(out, r"\n  p99\.9 +\d+\.\d{3} +\d+\.\d{3}\n")

    def test_nothing_good(self):
        s = self.server(lambda n, h, b: OK if n == 0 else b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n")
        o = self.load(s.url, "--duration", "0.3", "--rate", "100", code=1)
        self.assertEqual((o["good"], o["requests"]), (0, 0))

    def test_broken(self):
        kinds = [b"RESET", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabcCLOSE", b"HTTP/1.1 200 OK\r\nConteRESET",
                 b"SMTP ready\r\nCLOSE", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
                 b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", OK + b"and more that nobody asked for"]
        s = self.server(lambda n, h, b: kinds[n % 8 - 1] if n % 8 else OK)
        o = self.load(s.url, "--rate", "160", "--duration", "1", "--arrivals", "uniform")
        self.assertEqual(o["due"], 160)
        for error in ("connection broken", "malformed answer"):
            self.assertGreater(o["errors"][error], 10, o["errors"])
        self.assertGreater(o["good"], 10)

    def test_timeout(self):
        s = self.server(lambda n, h, b: None if n % 5 == 4 else OK)
        o = self.load(s.url, "--rate", "50", "--duration", "1", "--timeout", "4", "--arrivals", "uniform")
        self.assertEqual((o["errors"]["timeout"], o["good"]), (10, 40))
        self.assertGreaterEqual(o["latency_ms"]["p90"], 4000)

    def test_forms_of_answers(self):
        """Chunked with an extension and a trailer; until the end of the connection; after a 100; usage in the body."""
        usage = b'{"x":"%s","usage":{"prompt_tokens":3,"total_tokens":1234}}' % (b"y" * 289)
        forms = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nab\r\nc\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
                 b"HTTP/1.0 200 OK\r\n\r\nto the endCLOSE",
                 b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}CLOSE",
                 b"HTTP/1.1 204 No\r\n\r\n",
                 b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(usage), usage)]
        s = self.server(lambda n, h, b: forms[n % 5])
        o = self.load(s.url, "--connections", "1", "--duration", "1")
        self.assertEqual(o["good"], o["due"])
        self.assertGreater(o["good"], 20)
        self.assertAlmostEqual(o["tokens"] / 1234, o["good"] / 5, delta=2)

    def test_kept_connections_that_are_closed(self):
        """The server closes each connection a moment after an answer, as at an idle time-out: no error is counted."""
        o = self.load(self.server(lambda n, h, b: OK + b"CLOSE").url, "--rate", "100", "--duration", "1", "--connections", "1")
        self.assertEqual(o["good"], o["due"], o)
        self.assertGreater(o["connects"], 50)


class Requests(LoadTest):
    def test_apis(self):
        for api, route, member in (("openai", "/v1/embeddings", "input"), ("tei", "/embed", "inputs"),
                                   ("embedder", "/embed/batch", "texts"), ("docvector", "/embed", "texts"),
                                   ("ollama", "/api/embed", "input")):
            s = self.server()
            self.load(s.url + "/base/", "--api", api, "--texts", "3", "--words", "5", "--rate", "40", "--duration", "0.3",
                      "--api-key", "secret-key", "--model", "some\"model")
            self.assertTrue(s.requests)
            for _, head, body in s.requests:
                self.assertTrue(head.startswith(b"POST /base" + route.encode() + b" HTTP/1.1\r\n"), head)
                self.assertIn(b"\r\nAuthorization: Bearer secret-key", head)
                self.assertIn(b"\r\nHost: " + s.url[7:].encode() + b"\r\n", head)
                o = json.loads(body)
                self.assertEqual([len(t.split()) for t in o[member]], [5, 5, 5])
                self.assertEqual(o.get("model"), None if api == "tei" else 'some"model')
                self.assertEqual(o.get("encoding_format"), "base64" if api == "openai" else None)
        s = self.server()
        self.load(s.url, "--encoding", "float", "--rate", "40", "--duration", "0.3")
        self.assertEqual({o["encoding_format"] for o in s.bodies()}, {"float"})

    def test_new_texts_and_repetitions(self):
        s = self.server()
        self.load(s.url, "--rate", "600", "--duration", "0.5", "--texts", "4")
        self.load(s.url, "--rate", "600", "--duration", "0.5", "--texts", "4")
        texts = [t for o in s.bodies() for t in o["input"]]
        self.assertGreater(len(texts), 1500)
        self.assertEqual(len(set(texts)), len(texts), "new in every run")
        self.assertGreater(len(set(map(len, texts))), 20, "a mix of lengths")
        s = self.server()
        self.load(s.url, "--rate", "1000", "--duration", "1", "--repeat", "75", "--distinct", "512")
        texts = [o["input"][0] for o in s.bodies()]
        new = [t for t in texts if t.startswith("n")]
        self.assertEqual(len(set(new)), len(new))
        self.assertAlmostEqual(len(new) / len(texts), 0.25, delta=0.08)
        self.assertLessEqual(len(set(texts)) - len(new), 512)
        self.assertGreater(len(set(texts)) - len(new), 200)

    def test_unix_socket(self):
        path = self.path("s")
        self.server(family=socket.AF_UNIX, address=path)
        o = self.load("unix:" + path, "--rate", "100", "--duration", "0.5", "--arrivals", "uniform")
        self.assertEqual(o["good"], 50)


class Tls(LoadTest):
    def setUp(self):
        super().setUp()
        self.certificate = self.path("cert.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", self.path("key.pem"), "-out",
                        self.certificate, "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
                       check=True, stderr=subprocess.DEVNULL)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.path("key.pem"))
        big = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100000
        self.port = self.server(lambda n, h, b: big if n % 2 else OK, context=context).url.rsplit(":", 1)[1]

    def test_load(self):
        url = "https://localhost:" + self.port
        trusting = {"SSL_CERT_FILE": self.certificate}
        o = self.load(url, "--duration", "1", "--connections", "4", "--texts", "100", "--words", "50", env=trusting)
        self.assertEqual(o["good"], o["due"])
        self.assertGreater(o["body_bytes"], 100000)
        self.assertEqual(o["connects"], 4)
        o = self.load(url, "--duration", "0.5", "--rate", "100", "--arrivals", "uniform", "--insecure")
        self.assertEqual(o["good"], 50)

    def test_certificates(self):
        self.assertIn("certificate verify failed (self-signed certificate)",
                      self.fails(1, "loadtest", "https://localhost:" + self.port))
        self.assertIn("certificate verify failed (IP address mismatch)",
                      self.fails(1, "loadtest", "https://127.0.0.1:" + self.port, env={"SSL_CERT_FILE": self.certificate}))
        self.assertRegex(self.fails(1, "loadtest", self.server(lambda n, h, b: OK).url.replace("http:", "https:"), "--timeout", "2"),
                         "(sending to|no answer from) 127.0.0.1:")


class Mistakes(LoadTest):
    def test_addresses(self):
        for bad in ("http://", "http:///x", "ftp://h/x", "http://h:x", "http://user@h", "http://a b", "unix:", "unix:" + "x" * 200):
            self.assertRegex(self.fails(1, "loadtest", bad), "address|unix: is followed by a path")
        self.assertRegex(self.fails(1, "loadtest", "http://127.0.0.1:9"), "no connection to 127.0.0.1:9: Connection refused")
        self.assertRegex(self.fails(1, "loadtest", "http://does-not-exist.invalid"), "does-not-exist.invalid port 80: ")

    def test_first_request(self):
        s = self.server(lambda n, h, b: b'HTTP/1.1 404 x\r\nContent-Length: 20\r\n\r\n{"error":"no model"}')
        self.assertIn('%s/v1/embeddings answers the first request with status 404: {"error":"no model"}' % s.url,
                      self.fails(1, "loadtest", s.url))
        s = self.server(lambda n, h, b: b"hello\r\nCLOSE")
        self.assertIn("is not HTTP", self.fails(1, "loadtest", s.url))
        s = self.server(lambda n, h, b: None)
        self.assertIn("no answer from %s: time-out" % s.url[7:], self.fails(1, "loadtest", "--timeout", "1", s.url))

    def test_options(self):
        self.assertIn("--rate x: a number", self.usage("loadtest", "--rate", "x"))
        self.assertIn("--rate 0: a number", self.usage("loadtest", "--rate", "0"))
        self.assertIn("--duration 0: a number from 0.1 to 86400 is needed", self.usage("loadtest", "--duration", "0"))
        self.assertIn("--repeat 101: a number from 0 to 100 is needed", self.usage("loadtest", "--repeat", "101"))
        self.assertIn("the key holds white space", self.usage("loadtest", "--api-key", "a b"))


if __name__ == "__main__":
    unittest.main()
