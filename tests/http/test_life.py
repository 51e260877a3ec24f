"""Where it listens, TLS, and its end."""
import os
import socket
import ssl
import stat
import subprocess
import threading
import time
import unittest
import warnings

from harness import Case, Client, Server, until


class Addresses(Case):
    def test_several(self):
        path = os.path.join(self.folder(), "s.sock")
        listen = "127.0.0.1:0, unix:%s" % path
        six = socket.has_ipv6
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
            listen += ",[::1]:0"
        except OSError:
            six = False
        s = self.server(listen=listen)
        self.assertRegex(s.addresses[0], r"^127\.0\.0\.1:[1-9]\d*$")
        self.assertEqual(s.addresses[1], "unix:" + path)
        peers = [self.client(s, i).request("GET", "/about").json()["peer"] for i in range(len(s.addresses))]
        self.assertTrue(peers[0].startswith("127.0.0.1:"))
        self.assertEqual(peers[1], "unix")
        if six:
            self.assertRegex(s.addresses[2], r"^\[::1\]:[1-9]\d*$")
            self.assertTrue(peers[2].startswith("[::1]:"))

    def test_all_interfaces(self):
        s = self.server(listen=":0")
        c = Client("127.0.0.1:%d" % s.port())
        self.assertTrue(c.request("GET", "/about").json()["peer"].startswith("127.0.0.1:"))
        c.close()

    def test_port_in_use(self):
        s = self.server()
        t = self.server(listen=s.addresses[0])
        self.assertEqual(t.failure, s.addresses[0] + ": address already in use")

    def test_bad_addresses(self):
        for listen, words in (("127.0.0.1", "no port"), ("127.0.0.1:65536", "no port"), ("127.0.0.1:8x", "no port"),
                              ("::1:80", "brackets"), (" , ", "no address"), ("unix:relative", "absolute"),
                              ("unix:/" + "x" * 200, "shorter"), ("[1::g]:80", "not an address"),
                              ("127.0.0.1:0," * 20, "more than 16")):
            self.assertIn(words, self.server(listen=listen).failure)
        self.assertIn("192.0.2.1:80: cannot assign", self.server(listen="192.0.2.1:80").failure)

    def test_unix_socket_file(self):
        path = os.path.join(self.folder(), "s.sock")
        s = self.server(listen="unix:" + path)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o660)
        self.assertIn("already in use", self.server(listen="unix:" + path).failure)
        self.assertEqual(self.client(s).request("GET", "/echo").status, 200)
        s.close()
        self.assertFalse(os.path.exists(path))
        left = socket.socket(socket.AF_UNIX)
        left.bind(path)  # as a killed server leaves it
        left.close()
        s = self.server(listen="unix:" + path)
        self.assertEqual(self.client(s).request("GET", "/echo").status, 200)
        os.unlink(path)  # somebody else takes the name: it is theirs
        other = socket.socket(socket.AF_UNIX)
        other.bind(path)
        s.close()
        self.assertTrue(os.path.exists(path))
        other.close()
        os.unlink(path)
        with open(path, "w") as f:
            f.write("precious")
        self.assertIn("not a socket", self.server(listen="unix:" + path).failure)
        with open(path) as f:
            self.assertEqual(f.read(), "precious")


class Tls(Case):
    def certificate(self, folder, name):
        cert, key = os.path.join(folder, name + ".pem"), os.path.join(folder, name + ".key")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=" + name,
                        "-addext", "subjectAltName=DNS:localhost"], check=True, stderr=subprocess.DEVNULL)
        return cert, key

    def context(self, cert, version=None):
        context = ssl.create_default_context(cafile=cert)
        if version:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # TLS 1.1 is what is tested
                context.minimum_version = context.maximum_version = version
            if version < ssl.TLSVersion.TLSv1_2:
                context.set_ciphers("DEFAULT:@SECLEVEL=0")  # or the client would refuse it first
        return context

    def setUp(self):
        self.path = self.folder()
        self.cert, self.key = self.certificate(self.path, "one")
        self.s = self.server(tls_cert=self.cert, tls_key=self.key, head_timeout_ms=3000)

    def test_requests(self):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            c = self.client(self.s, context=self.context(self.cert, version))
            for route in ("/echo", "/park"):
                for size in (0, 1, 5000, 70000, 3000000):
                    self.assertEqual(c.request("POST", route, b"x" * size).body, b"x" * size)
            self.assertEqual(len(c.request("GET", "/stream?pieces=300&bytes=10000").body), 3000000)
            c.send((b"POST /park HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n" + b"y" * 9000) * 50)
            for _ in range(50):
                self.assertEqual(len(c.read().body), 9000)
            c.request("GET", "/echo", headers=[("Connection", "close")])
            self.assertTrue(c.ended())

    def test_old_versions_are_refused(self):
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            Client(self.s.addresses[0], context=self.context(self.cert, ssl.TLSVersion.TLSv1_1))
        s = self.server(tls_cert=self.cert, tls_key=self.key, tls_min_version=13)
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            Client(s.addresses[0], context=self.context(self.cert, ssl.TLSVersion.TLSv1_2))
        c = self.client(s, context=self.context(self.cert))
        self.assertEqual(c.socket.version(), "TLSv1.3")

    def test_alpn(self):
        context = self.context(self.cert)
        context.set_alpn_protocols(["h2", "http/1.1"])
        self.assertEqual(self.client(self.s, context=context).socket.selected_alpn_protocol(), "http/1.1")

    def test_plain_http_and_silence(self):
        c = self.client(self.s)
        c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertTrue(c.ended())
        until(lambda: self.s.records()["refused"] == "tls", "the record")
        silent = self.client(self.s)
        self.assertTrue(silent.ended())  # the handshake has the head's deadline

    def test_reload(self):
        old = self.client(self.s, context=self.context(self.cert))
        cert, key = self.certificate(self.path, "two")
        self.assertIn("does not belong", self.s.say("adjust tls_cert=%s tls_key=%s" % (cert, self.key))
                      .replace("key values mismatch", "does not belong"))
        self.assertIn("/nonexistent", self.s.say("adjust tls_cert=/nonexistent tls_key=%s" % key))
        self.client(self.s, context=self.context(self.cert)).close()  # the old one still
        self.assertEqual(self.s.say("adjust tls_cert=%s tls_key=%s" % (cert, key)), "ok")
        c = self.client(self.s, context=self.context(cert))
        self.assertEqual(c.request("GET", "/echo").status, 200)
        self.assertEqual(old.request("GET", "/echo").status, 200)

    def test_client_that_does_not_read(self):
        s = self.server(tls_cert=self.cert, tls_key=self.key, write_timeout_ms=300)
        c = self.client(s, context=self.context(self.cert), receive_buffer=4096)
        c.send("GET /large?bytes=30000000 HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: s.records()["gone"] == 1, "the answer to be given up")

    def test_bad_certificate_at_start(self):
        bad = os.path.join(self.path, "bad.pem")
        with open(bad, "w") as f:
            f.write("not a certificate")
        self.assertIn(bad, self.server(tls_cert=bad, tls_key=self.key).failure)
        self.assertIn("belong together", self.server(tls_cert=self.cert).failure)


class End(Case):
    def test_stop_drain_close(self):
        s = self.server()
        idle, busy = self.client(s), self.client(s)
        self.assertEqual(idle.request("GET", "/echo").status, 200)
        busy.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: s.records()["held"] == 1, "the request to be in work")
        s.say("stop")
        with self.assertRaises(ConnectionRefusedError):
            Client(s.addresses[0])
        a = idle.request("POST", "/park", b"x")  # keep-alive ends with the next answer
        self.assertEqual((a.body, a["connection"]), (b"x", "close"))
        self.assertTrue(idle.ended())
        self.assertEqual(s.say("drain 50"), "late")
        s.say("release")
        self.assertEqual(s.say("drain 60000"), "drained")
        self.assertEqual(busy.read().body, b"held")
        self.assertEqual(s.close()["gone"], 0)

    def test_what_was_sent_before_the_stop_is_answered(self):
        """Connections that the kernel has completed and nobody has accepted yet are not cut off."""
        for _ in range(10):
            s = self.server(loops=2)
            clients = [self.client(s) for _ in range(20)]
            for c in clients:
                c.send("POST /park HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
            self.assertEqual(s.say("drain 30000"), "drained")
            for c in clients:
                self.assertEqual(c.read().status, 200)
            s.close()

    def test_close_while_parked(self):
        s = self.server()
        clients = [self.client(s) for _ in range(20)]
        for i, c in enumerate(clients):
            c.send("GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % ("/sleep?ms=60000" if i % 2 else "/stream?pieces=1000000&bytes=10000"))
        until(lambda: s.stats()["parked"] == 20, "all to be parked")
        begun = time.monotonic()
        records = s.close()  # gone tells them to come back
        self.assertLess(time.monotonic() - begun, 30)
        self.assertEqual((records["total"], records["gone"]), (20, 20))

    def test_close_under_load(self):
        for how in ("stop", "close"):
            s = self.server(loops=2, max_parked=8)
            stopping = threading.Event()
            answers = []

            def load(k):
                while not stopping.is_set():
                    try:
                        with Client(s.addresses[0]) as c:
                            for i in range(20):
                                a = c.request("POST", ("/echo", "/park", "/stream?pieces=2")[(k + i) % 3], b"x" * 100)
                                answers.append(a.status)
                                if a["connection"] == "close":
                                    break
                    except Exception:  # the server ends in the middle of it
                        if stopping.is_set():
                            return

            threads = [threading.Thread(target=load, args=(k,)) for k in range(4)]
            for t in threads:
                t.start()
            until(lambda: len(answers) > 300, "some load")
            stopping.set()
            if how == "stop":
                self.assertEqual(s.say("drain 20000"), "drained")
            records = s.close()
            for t in threads:
                t.join()
            self.assertTrue(set(answers) <= {200, 429}, set(answers))
            self.assertGreaterEqual(records["total"], len(answers))

    def test_watchdog(self):
        s = self.server(loops=2)
        time.sleep(0.6)  # with nothing to do; the loops must tick all the same
        until(lambda: s.stats()["turn_ms"] < 400, "a fresh turn of both loops")


if __name__ == "__main__":
    unittest.main()
