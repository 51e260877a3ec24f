"""What well-formed requests get."""
import email.utils
import time
import unittest

from harness import Case


class Requests(Case):
    @classmethod
    def setUpClass(cls):
        from harness import Server
        cls.shared = Server(cors_origins="https://a.example, http://b.example:81", server_name="embedd/9.9")

    @classmethod
    def tearDownClass(cls):
        cls.shared.close()

    def connect(self):
        return self.client(self.shared)

    def test_headers_of_an_answer(self):
        a = self.connect().request("POST", "/echo", b"hello", [("Content-Type", "text/x")])
        self.assertEqual((a.version, a.status, a.body), ("HTTP/1.1", 200, b"hello"))
        self.assertEqual(a["server"], "embedd/9.9")
        self.assertEqual(a["content-type"], "text/x")
        self.assertLess(abs(time.time() - email.utils.parsedate_to_datetime(a["date"]).timestamp()), 60)
        self.assertRegex(a["x-request-id"], "^[0-9a-f]{32}$")
        self.assertIsNone(a["connection"])

    def test_request_ids(self):
        c = self.connect()
        for good in ("a", "x" * 128, "!~/:", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"):
            self.assertEqual(c.request("GET", "/echo", headers=[("X-Request-ID", good)])["x-request-id"], good)
        ids = {c.request("GET", "/echo", headers=[("x-request-id", bad)])["x-request-id"]
               for bad in ("", "x" * 129, "a b", "caf\u00e9")}
        self.assertEqual(len(ids), 4)
        for made in ids:
            self.assertRegex(made, "^[0-9a-f]{32}$")

    def test_what_the_application_sees(self):
        c = self.connect()
        a = c.request("PUT", "/any/caf%C3%A9%2f?a=1%20%2B+2&b", b"xyz", [("x-tEsT", "  v \t")])
        seen = a.json()
        self.assertEqual(seen["peer"].split(":")[0], "127.0.0.1")
        del seen["peer"]
        self.assertEqual(seen, {"method": "PUT", "path": "/any/caf\u00e9/", "a": "1 + 2", "header": "v", "body": 3})
        self.assertEqual(c.request("GET", "http://x.example/about?a").json()["a"], "")
        self.assertIsNone(c.request("GET", "/about?b=1").json()["a"])
        self.assertEqual(c.request("GET", "http://x.example").json()["path"], "/")

    def test_headers_that_an_application_may_not_set(self):
        a = self.connect().request("GET", "/about")
        self.assertEqual((a["x-kept"], a["x-number"], a["x-dropped"], a["x-injected"]), ("yes", "42", None, None))
        self.assertEqual(int(a["content-length"]), len(a.body))

    def test_keep_alive_and_close(self):
        c = self.connect()
        for i in range(50):
            self.assertEqual(c.request("POST", "/park" if i % 2 else "/echo", b"%d" % i).body, b"%d" % i)
        a = c.request("POST", "/echo", b"last", [("Connection", "close")])
        self.assertEqual((a.body, a["connection"]), (b"last", "close"))
        self.assertTrue(c.ended())

    def test_http_1_0(self):
        c = self.connect()
        a = c.request("POST", "/echo", b"x", [("Connection", "keep-alive")], version="1.0")
        self.assertEqual((a.body, a["connection"]), (b"x", "keep-alive"))
        c.send("GET /stream?pieces=3&bytes=2 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        a = c.read()
        self.assertEqual((a.body, a["connection"], a["transfer-encoding"]), (b"aabbcc", "close", None))
        c = self.connect()
        self.assertEqual(c.request("GET", "/echo", version="1.0")["connection"], "close")
        self.assertTrue(c.ended())

    def test_pipelining(self):
        c = self.connect()
        routes = ["/echo", "/park", "/stream?pieces=2", "/sleep?ms=1", "/large?bytes=70000"]
        c.send(b"".join(b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n%03d" % (routes[i % 5].encode(), i)
                        for i in range(100)))
        for i in range(100):
            a = c.read()
            self.assertEqual(a.status, 200)
            if i % 5 < 2:
                self.assertEqual(a.body, b"%03d" % i)
            elif i % 5 == 4:
                self.assertEqual(len(a.body), 70000)

    def test_pipelining_beyond_what_is_taken_ahead(self):
        c = self.connect()
        one = b"POST /park HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + b"z" * 5000
        import threading
        sender = threading.Thread(target=lambda: c.send(one * 200))
        sender.start()
        for _ in range(200):
            self.assertEqual(c.read().body, b"z" * 5000)
        sender.join()

    def test_garbage_behind_a_good_request(self):
        for route in ("/echo", "/park", "/sleep?ms=30"):
            c = self.connect()
            c.send("GET %s HTTP/1.1\r\nHost: a\r\n\r\n\x00\x01garbage\r\n\r\n" % route)
            self.assertEqual(c.read().status, 200)
            self.refused(c.read(), 400, "malformed_request")
            self.assertTrue(c.ended())

    def test_empty_lines_before_a_request(self):
        c = self.connect()
        c.send("\r\nGET /echo HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual((c.read().status, c.read().status), (200, 200))
        c.send("\r\n\r\nGET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
        self.refused(c.read(), 400)

    def test_every_cut(self):
        """A request that arrives in two pieces, cut anywhere, and byte by byte."""
        whole = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n2\r\nde\r\n0\r\nA: b\r\n\r\n"
        c = self.connect()
        c.socket.setsockopt(6, 1, 1)  # TCP_NODELAY
        for cut in range(1, len(whole)):
            c.send(whole[:cut])
            c.send(whole[cut:])
            self.assertEqual(c.read().body, b"abcde")
        for i in range(len(whole)):
            c.send(whole[i:i + 1])
        self.assertEqual(c.read().body, b"abcde")

    def test_bodies(self):
        c = self.connect()
        for size in (0, 1, 63, 64, 65, 4095, 4096, 65535, 65536, 65537, 200000, 3000000):
            body = bytes((i * 7 + size) % 251 + 1 for i in range(min(size, 1000))) * (size // 1000 + 1)
            body = body[:size]
            self.assertEqual(c.request("POST", "/echo", body).body, body)
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 9999]), body[i:i + 9999]) for i in range(0, size, 9999))
            c.send(b"POST /park HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
            self.assertEqual(c.read().body, body)

    def test_expect(self):
        for framing, body in (("Content-Length: 5", b"hello"), ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n")):
            c = self.connect()
            c.send("POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n%s\r\n\r\n" % framing)
            self.assertEqual(c.read().status, 100)
            c.send(body)
            self.assertEqual(c.read().body, b"hello")
            c.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n%s\r\n\r\n%s" % (framing.encode(), body))
            self.assertEqual(c.read().body, b"hello")  # it did not wait: no 100
        c.send("POST /echo HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 5\r\n\r\n")
        self.refused(c.read(), 417)

    def test_head(self):
        c = self.connect()
        for route in ("/large?bytes=5000", "/park-large?bytes=5000"):
            a = c.request("HEAD", route)
            self.assertEqual((a.status, a["content-length"], c.buffer), (200, "5000", b""))
        c.request("HEAD", "/stream")
        self.assertEqual(c.request("POST", "/echo", b"x").body, b"x")

    def test_no_answer_is_500(self):
        c = self.connect()
        for route in ("/nothing", "/park-nothing"):
            a = c.request("GET", route)
            self.assertEqual((a.status, a.json()["error"]["code"]), (500, "internal_error"))
        self.assertEqual(c.request("GET", "/echo").status, 200)

    def test_stream(self):
        c = self.connect()
        a = c.request("GET", "/stream?pieces=100&bytes=1000")
        self.assertEqual((a["transfer-encoding"], a["content-type"]), ("chunked", "text/event-stream"))
        self.assertEqual(a.body, b"".join(bytes([97 + i % 23]) * 1000 for i in range(100)))
        self.assertEqual(c.request("GET", "/stream?pieces=0").body, b"")
        self.assertEqual(c.request("GET", "/stream?unended").body, b"a" * 10 + b"b" * 10 + b"c" * 10)

    def test_cors(self):
        c = self.connect()
        for origin in ("https://a.example", "HTTPS://A.example", "http://b.example:81"):
            a = c.request("POST", "/echo", b"x", [("Origin", origin)])
            self.assertEqual((a["access-control-allow-origin"], a["vary"]), (origin, "Origin"))
        for origin in ("https://a.example.evil", "http://a.example", "null", "https://a.exampl"):
            a = c.request("POST", "/echo", b"x", [("Origin", origin)])
            self.assertEqual((a.status, a["access-control-allow-origin"], a["vary"]), (200, None, "Origin"))
        self.assertIsNone(c.request("GET", "/echo")["access-control-allow-origin"])

    def test_preflight(self):
        c = self.connect()
        asked = [("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "authorization, x-a")]
        a = c.request("OPTIONS", "/echo", headers=[("Origin", "https://a.example")] + asked)
        self.assertEqual((a.status, a["content-length"]), (204, None))
        self.assertEqual(a["access-control-allow-origin"], "https://a.example")
        self.assertEqual(a["access-control-allow-headers"], "authorization, x-a")
        self.assertIn("POST", a["access-control-allow-methods"])
        self.assertIn("Origin", a["vary"])
        a = c.request("OPTIONS", "/echo", headers=[("Origin", "https://evil.example")] + asked)
        self.assertEqual((a.status, a["access-control-allow-origin"], a["access-control-allow-methods"]), (204, None, None))
        self.assertEqual(c.request("OPTIONS", "/about").json()["method"], "OPTIONS")  # no preflight: the application's
        a = c.request("OPTIONS", "*")
        self.assertEqual(a.status, 204)
        self.assertIn("DELETE", a["allow"])

    def test_cors_for_all_or_none(self):
        c = self.client(self.server(cors_origins="*"))
        self.assertEqual(c.request("GET", "/echo", headers=[("Origin", "https://x")])["access-control-allow-origin"], "*")
        c = self.client(self.server())
        a = c.request("OPTIONS", "/about", headers=[("Origin", "https://x"), ("Access-Control-Request-Method", "GET")])
        self.assertEqual((a.status, a["vary"], a["access-control-allow-origin"]), (200, None, None))


if __name__ == "__main__":
    unittest.main()
