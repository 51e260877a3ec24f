"""Providers over TLS: who is trusted, what a certificate that is not trusted costs (one attempt, nothing billed), and that
connections and sessions are used again."""
import os
import socket
import tempfile
import unittest

from driver import INVALID, KEY, NOT_FOUND, PROVIDER, SECRET, UNAVAILABLE, Case, certificates, faults, words

TEXTS = words(3)
# What is wrong with a certificate, and a word that the error must have.
BAD = {"expired": "expired", "other_host": "127.0.0.1", "self_signed": "self-signed", "stranger": "issuer"}


class Tls(Case):
    kind = "openai"

    def secure(self, kind="good", version=None, upstream=None, **options):
        up = self.upstream(tls=certificates.server(kind, version), **(upstream or {}))
        return up, self.provider(up, **{"ca_file": certificates.ca(), **options})

    def test_good_chain(self):
        up, p = self.secure()
        self.right(p.embed(TEXTS), TEXTS)
        self.assertEqual(up.requests[0].headers["authorization"], "Bearer " + KEY)
        self.assertEqual(up.refused_handshakes, 0)

    def test_versions(self):
        for version in ("1.2", "1.3"):
            with self.subTest(version=version):
                up, p = self.secure(version=version)
                self.right(p.embed(TEXTS), TEXTS)
                self.assertEqual([v for v, _, _ in up.handshakes], ["TLSv" + version])

    def test_by_name(self):
        """The name of the address is what the certificate must have."""
        up = self.upstream(tls=certificates.server())
        for host, good in (("localhost", True), ("upstream.test", True), ("other.test", False)):
            with self.subTest(host=host):
                p = self.provider(up, base_url=up.base_url("openai").replace("127.0.0.1", host), ca_file=certificates.ca())
                if good:
                    self.right(p.embed(TEXTS), TEXTS)
                else:
                    self.assertIn(host, self.failed(p.embed(TEXTS), UNAVAILABLE)["message"])

    def test_bad_certificates(self):
        """One attempt, whose key and texts never left; the error names instance and reason; nothing is billed."""
        for kind, reason in BAD.items():
            with self.subTest(kind=kind):
                up, p = self.secure(kind, max_retries=5)
                answer = self.failed(p.embed(TEXTS), UNAVAILABLE)
                self.assertIn("provider upstream", answer["message"])
                self.assertIn(reason, answer["message"])
                self.assertEqual(answer["hooks"]["ends"], ["not_sent"])
                self.assertEqual(answer["hooks"]["billed"], [False])
                self.assertEqual((up.connections, up.requests, up.billed_tokens), (1, [], 0))
                state = self.state_is_idle(p)
                self.assertEqual((state["attempts"], state["retries"], state["tokens"]), (1, 0, 0))
                self.assertIn(reason, state["last_error"])

    def test_no_ca_file(self):
        """The system's authorities do not know the tests' one."""
        up, p = self.secure(ca_file="")
        self.failed(p.embed(TEXTS), UNAVAILABLE)
        self.assertEqual(up.requests, [])

    def test_ca_file_that_is_none(self):
        """Said when the provider is opened, not at the first call."""
        up = self.upstream(tls=certificates.server())
        with tempfile.TemporaryDirectory() as folder:
            empty, other, missing = (os.path.join(folder, name) for name in ("empty.pem", "other.pem", "missing.pem"))
            open(empty, "w").close()
            with open(other, "w") as f:
                f.write("-----BEGIN " + "PRIVATE KEY-----\nMA==\n-----END " + "PRIVATE KEY-----\n")
            for path in (empty, other, missing, folder):
                with self.subTest(path=path):
                    opened = self.refused_provider(up, name="second", ca_file=path)
                    self.assertEqual(opened["status"], INVALID)
                    self.assertIn("ca_file of provider second", opened["message"])
                    self.assertIn(path, opened["message"] + opened["where"])
            with open(other, "w") as f:
                f.write("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
            p = self.provider(up, ca_file=other)  # libcurl's word, at the call
            answer = self.failed(p.embed(TEXTS), UNAVAILABLE)
            self.assertEqual((answer["hooks"]["ends"], answer["hooks"]["billed"]), (["not_sent"], [False]))
            self.assertIn("certificate", answer["message"])

    def test_not_tls(self):
        """https to a server that speaks http, and the other way round."""
        plain, secure = self.upstream(), self.upstream(tls=certificates.server())
        for base_url in (plain.base_url("openai").replace("http:", "https:"), secure.base_url("openai").replace("https:", "http:")):
            with self.subTest(base_url=base_url):
                p = self.provider(plain, base_url=base_url, ca_file=certificates.ca(), max_retries=1, timeout_ms=2000)
                self.failed(p.embed(TEXTS), UNAVAILABLE)
        self.assertEqual((plain.calls, secure.calls), (0, 0))

    def test_connection_is_kept(self):
        up, p = self.secure()
        for _ in range(5):
            self.right(p.embed(TEXTS), TEXTS)
        self.assertEqual((len(up.handshakes), up.connections, up.calls), (1, 1, 5))

    def test_session_is_resumed(self):
        """A connection more costs half a handshake: all connections of a provider share sessions."""
        for version in ("1.2", "1.3"):
            with self.subTest(version=version):
                up, p = self.secure(version=version)
                up.script([faults.connection_close])  # a reset would make OpenSSL forget a session of TLS 1.2
                self.right(p.embed(TEXTS), TEXTS)
                self.right(p.embed(TEXTS), TEXTS)
                self.assertEqual([resumed for _, resumed, _ in up.handshakes], [False, True])
                up.always(faults.delayed(0.2))  # so that a connection each is needed
                for one in p.embed(TEXTS, threads=4)["results"]:
                    self.right(one, TEXTS)
                self.assertEqual([resumed for _, resumed, _ in up.handshakes[2:]], [True] * (len(up.handshakes) - 2))

    def test_session_of_a_server_that_forgot(self):
        """A ticket that the server cannot read is a full handshake, not an error."""
        up, p = self.secure()
        self.right(p.embed(TEXTS), TEXTS)
        up.drop_connections()
        up.tls = certificates.server()  # other ticket keys
        self.right(p.embed(TEXTS), TEXTS)
        self.assertEqual([resumed for _, resumed, _ in up.handshakes], [False, False])

    def test_redirect_to_plain_text(self):
        """Neither key nor texts follow, from https to http least of all."""
        elsewhere = self.upstream(key=None)
        up, p = self.secure()
        for status in (301, 302, 303, 307, 308):
            with self.subTest(status=status):
                up.reset_record()
                up.always(lambda x, s=status: x.send(faults.Plain(s, b"", {"Location": elsewhere.url + x.request.target})))
                answer = self.failed(p.embed(TEXTS), PROVIDER, UNAVAILABLE, NOT_FOUND)
                self.assertIn(str(status), answer["message"])
                self.assertEqual(up.calls, 1)
        self.assertEqual((elsewhere.requests, elsewhere.connections), ([], 0))

    def test_faults_over_tls(self):
        """What breaks below TLS passes at the second attempt, as it does without."""
        up, p = self.secure()
        for fault in (faults.reset, faults.closed, faults.truncated, faults.closed_after, faults.server_error):
            with self.subTest(fault=fault.__name__):
                up.reset_record()
                up.script([fault])
                answer = self.right(p.embed(TEXTS), TEXTS)
                self.assertEqual(answer["hooks"]["ends"][-1], "ok")
                self.assertLessEqual(up.calls, 2)
        self.assertNotIn(SECRET, p.do("metrics")["text"])

    def test_handshake_that_hangs(self):
        """connect_timeout_ms holds for TLS, too; nothing was sent."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            up = self.upstream()
            p = self.provider(up, base_url="https://127.0.0.1:%d/v1" % silent.getsockname()[1], connect_timeout_ms=200,
                              max_retries=0)
            answer = self.failed(p.embed(TEXTS), UNAVAILABLE)
            self.assertEqual((answer["hooks"]["ends"], answer["hooks"]["billed"]), (["not_sent"], [False]))


del Case

if __name__ == "__main__":
    unittest.main(verbosity=2)
