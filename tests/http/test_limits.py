"""Limits, time-outs, and what is malformed."""
import time
import unittest

from harness import Case, Closed, Server, until

GET = b"GET /echo HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: a\r\n"


class Malformed(Case):
    @classmethod
    def setUpClass(cls):
        cls.shared = Server()

    @classmethod
    def tearDownClass(cls):
        cls.shared.close()

    def refuses(self, data, status, code=None):
        before = self.shared.records()["total"]
        with self.client(self.shared) as c:
            c.send(data)
            a = c.read()
            self.refused(a, status, code)
            self.assertTrue(c.ended())
            self.assertEqual(c.buffer, b"", "bytes behind the refusal: something was smuggled")
        until(lambda: self.shared.records()["total"] == before + 1, "one record and no other")

    def test_smuggling(self):
        inner = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        for head in (b"Content-Length: 4\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nContent-Length: 4",
                     b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x", b"Transfer-Encoding: xchunked",
                     b"Transfer-Encoding : chunked", b"Transfer-Encoding:\x0bchunked", b"X: y\r\n Transfer-Encoding: chunked",
                     b"Content-Length: 4\r\nContent-Length: 5", b"Content-Length: 4\r\nContent-Length: 4",
                     b"Content-Length: +4", b"Content-Length: 4,4", b"Content-Length: -1", b"Content-Length : 4",
                     b"Content-Length: 0x4", b"Content-Length: 4 ;", b"X: a\nContent-Length: 4", b"X: a\rContent-Length: 4",
                     b"X: \x00", b"Content-Length\x00: 4"):
            self.refuses(POST + head + b"\r\n\r\n0\r\n\r\n" + inner, 400)
        for chunk in (b"5 \r\nhello\r\n0\r\n\r\n", b"0x5\r\nhello", b"-1\r\n", b"5\nhello\n0\n\n", b"5;\nhello", b"11111111111111111\r\n",
                      b"5\r\nhelloX", b"0\r\n X: y\r\n\r\n"):
            self.refuses(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + inner, 400, "malformed_chunk")

    def test_statuses(self):
        self.refuses(b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "unsupported_method")
        self.refuses(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "unsupported_version")
        self.refuses(b"GET / HTTP/1.1\r\n\r\n", 400, "malformed_host")
        self.refuses(b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed_target")
        self.refuses(b"GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed_target")
        self.refuses(b"GET /?a=%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed_target")
        self.refuses(b"GET /?" + b"&" * 100 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed_target")
        self.refuses(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501, "unsupported_transfer_encoding")
        self.refuses(b"\x16\x03\x01\x02\x00\x01\x00", 400)
        until(lambda: self.shared.records()["refused"] == "malformed", "the record")


class Sizes(Case):
    def setUp(self):
        self.s = self.server(max_head_bytes=1000, max_body_bytes=5000)

    def test_head_at_and_over_the_limit(self):
        for over in (0, 1):
            c = self.client(self.s)
            head = GET + b"X: "
            c.send(head + b"y" * (1000 - len(head) - 4 + over) + b"\r\n\r\n")
            if over:
                self.refused(c.read(), 431, "head_too_large")
                self.assertTrue(c.ended())
            else:
                self.assertEqual(c.read().status, 200)
        c = self.client(self.s)
        c.send(b"GET /" + b"x" * 1000000)  # no end in sight
        self.refused(c.read(), 431)
        until(lambda: self.s.records()["refused"] == "too_large", "the record")

    def test_too_many_headers(self):
        c = self.client(self.server())
        c.send(GET + b"a: b\r\n" * 99 + b"\r\n")
        self.assertEqual(c.read().status, 200)
        c.send(GET + b"a: b\r\n" * 100 + b"\r\n")
        self.refused(c.read(), 431)

    def test_body_at_and_over_the_limit(self):
        c = self.client(self.s)
        self.assertEqual(len(c.request("POST", "/echo", b"x" * 5000).body), 5000)
        c.send(POST + b"Transfer-Encoding: chunked\r\n\r\n1388\r\n" + b"x" * 5000 + b"\r\n0\r\n\r\n")
        self.assertEqual(len(c.read().body), 5000)
        c.send(POST + b"Content-Length: 5001\r\nExpect: 100-continue\r\n\r\n")
        self.refused(c.read(), 413, "body_too_large")  # before the body, and no 100
        for length in (b"18446744073709551615", b"18446744073709551616", b"9" * 50):
            c = self.client(self.s)
            c.send(POST + b"Content-Length: " + length + b"\r\n\r\n")
            self.refused(c.read(), 413)
        for chunks in (b"1389\r\n", b"1388\r\n" + b"x" * 5000 + b"\r\n1\r\n", b"ffffffffffffffff\r\n"):
            c = self.client(self.s)
            c.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
            self.refused(c.read(), 413)

    def test_refusal_reaches_a_client_that_goes_on_sending(self):
        """It would be lost if the server closed with unread bytes: the kernel would send a reset."""
        for _ in range(5):
            c = self.client(self.s)
            c.send(POST + b"Content-Length: 3000000\r\n\r\n" + b"x" * 3000000)
            self.refused(c.read(), 413)


class Times(Case):
    def setUp(self):
        # long enough for a test that is not given the processor for a while to send in time what it has to
        self.s = self.server(head_timeout_ms=1500, body_timeout_ms=1500, idle_timeout_ms=1500, write_timeout_ms=1500)

    def drip(self, c, start, piece):
        """Sends piece after piece until there is an answer; the answer and the seconds it took."""
        begun = time.monotonic()
        c.send(start)
        c.socket.settimeout(0.02)
        while True:
            try:
                c.fill()
                break
            except TimeoutError:
                c.send(piece)
        c.socket.settimeout(60)
        return c.read(), time.monotonic() - begun

    def test_dripped_head(self):
        a, took = self.drip(self.client(self.s), b"GET /echo HTTP/1.1\r\nHost: a\r\n", b"X: y\r\n")
        self.refused(a, 408)
        self.assertGreater(took, 1.49)
        until(lambda: self.s.records()["refused"] == "timeout", "the record")

    def test_dripped_body(self):
        for framing, piece in ((b"Content-Length: 100000", b"x"), (b"Transfer-Encoding: chunked", b"1\r\nx\r\n")):
            a, took = self.drip(self.client(self.s), POST + framing + b"\r\n\r\n", piece)
            self.refused(a, 408)
            self.assertGreater(took, 1.49)

    def test_body_that_does_not_come(self):
        c = self.client(self.s)
        c.send(POST + b"Content-Length: 10\r\n\r\n")
        self.refused(c.read(), 408)

    def test_idle(self):
        begun = time.monotonic()
        fresh, used, half = self.client(self.s), self.client(self.s), self.client(self.s)
        half.send("\r\n")
        self.assertEqual(used.request("GET", "/echo").status, 200)
        for c in (fresh, used, half):
            self.assertTrue(c.ended())
            self.assertEqual(c.buffer, b"")
        self.assertGreater(time.monotonic() - begun, 1.49)

    def test_parked_requests_are_not_idle(self):
        c = self.client(self.s)
        self.assertEqual(c.request("GET", "/sleep?ms=3500").body, b"slept")

    def test_answer_that_is_not_read(self):
        for route in ("/large?bytes=30000000", "/park-large?bytes=30000000", "/stream?pieces=3000&bytes=10000"):
            c = self.client(self.s, receive_buffer=4096)
            gone = self.s.records()["gone"]
            c.send("GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % route)
            until(lambda: self.s.records()["gone"] == gone + 1, "the answer to be given up")
            c.close()
        until(lambda: self.s.stats()["parked"] == 0, "the stream's worker to be released")
        self.assertEqual(self.s.records()["dropped"], 1)

    def test_slow_reader_is_served(self):
        """Progress moves the write time-out: a whole answer may take longer than it."""
        s = self.server(write_timeout_ms=2500)
        for route in ("/large?bytes=6000000", "/stream?pieces=600&bytes=10000"):
            c = self.client(s, receive_buffer=65536)
            c.send("GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % route)
            a = c.head()
            got, begun = len(c.buffer), time.monotonic()
            try:
                while True:
                    c.buffer = b""
                    c.fill()
                    got += len(c.buffer)
                    if time.monotonic() - begun < 3.5:
                        time.sleep(0.02)
            except Closed:
                pass
            self.assertGreaterEqual(got, 6000000, a.headers)

    def test_adjust(self):
        s = self.server(max_body_bytes=100, idle_timeout_ms=60000)
        c = self.client(s)
        self.assertEqual(c.request("POST", "/echo", b"x" * 100).status, 200)
        self.assertEqual(s.say("adjust max_body_bytes=200 cors_origins=https://n.example"), "ok")
        a = c.request("POST", "/echo", b"x" * 200, [("Origin", "https://n.example")])
        self.assertEqual((a.status, a["access-control-allow-origin"]), (200, "https://n.example"))
        self.assertIn("belong together", s.say("adjust tls_cert=/nonexistent"))
        self.assertEqual(c.request("POST", "/echo", b"x" * 200).status, 200)


if __name__ == "__main__":
    unittest.main()
