"""keep_warm_seconds: something cheap is asked for when a provider was idle, over the connection that the next call takes. It
is no call: nothing of it is counted, billed or heard by anybody. It ends at once when the provider is closed."""
import socket
import unittest

from driver import DIMENSION, KEY, KINDS, OK, SLACK, Case, Driver, Upstream, certificates, faults, until, words

TEXTS = words(3)
PATHS = {"openai": "/v1/models", "azure": "/", "huggingface": "/hf-inference/", "cohere": "/v1/models", "ollama": "/api/version",
         "tei": "/health", "remote": "/health", "embedd": "/health"}


def garbage(x):
    x.send(faults.Plain(200, b"\0{]" * 1000))


def pings(up):
    return [r for r in list(up.requests) if r.method == "GET"]


class Warm(Case):
    kind = "openai"

    def nothing_is_counted(self, p):
        state = p.do("state")
        self.assertEqual([state[n] for n in ("calls", "attempts", "retries", "failures", "tokens", "last_error")], [0, 0, 0, 0, 0, ""])
        lines = [line for line in p.do("metrics")["text"].split("\n") if line.startswith("embedd_provider")]
        self.assertEqual([line for line in lines if float(line.rsplit(" ", 1)[1]) != 0], [])

    def test_connection_stays(self):
        """Through TLS with both versions of HTTP: the call finds a connection that is there."""
        for alpn in (None, ["h2"]):
            with self.subTest(alpn=alpn):
                up = self.upstream(tls=certificates.server(alpn=alpn))
                p = self.provider(up, keep_warm_s=1, ca_file=certificates.ca())
                until(lambda: len(pings(up)) >= 2, "two pings")
                self.nothing_is_counted(p)
                self.right(p.embed(TEXTS), TEXTS)
                self.right(p.embed(TEXTS), TEXTS)
                until(lambda: up.requests[-1].method == "GET", "a ping after the call")
                self.right(p.embed(TEXTS), TEXTS)
                self.assertEqual(up.calls, 3)
                self.assertLessEqual(up.connections, 2)  # a call that begins during a ping takes one of its own
                self.assertEqual({r.path for r in pings(up)}, {"/v1/models"})
                self.assertEqual(p.do("state")["attempts"], 3)
                self.assertEqual(up.billed_tokens, 3 * up.embeddings()[0].tokens)

    def test_every_kind(self):
        """What each asks for costs nothing and is answered by any server of its kind."""
        both = []
        for kind in KINDS:
            up = Upstream(dimension=DIMENSION, served="m", key=KEY, require_key=True)
            self.addCleanup(up.__exit__, None)
            driver = Driver(kind=kind, base_url=up.base_url(kind), api_key=KEY, model="m", keep_warm_s=1,
                            **({"api_version": "2024-10-21"} if kind == "azure" else {}))
            self.addCleanup(driver.__exit__, None)
            both.append((kind, up, driver))
        for kind, up, driver in both:
            with self.subTest(kind=kind):
                until(lambda u=up: pings(u), "a ping of " + kind)
                request = pings(up)[0]
                self.assertEqual((request.path, request.body), (PATHS[kind], b""))
                self.assertEqual((up.calls, up.billed_tokens), (0, 0))
                self.nothing_is_counted(driver)

    def test_no_pings(self):
        up, p = self.pair()
        self.right(p.embed(TEXTS), TEXTS)
        self.assertLess(p.do("close")["ms"], SLACK)
        self.assertEqual(pings(up), [])

    def test_answers_do_not_matter(self):
        """A server that refuses, breaks or limits pings does not stop calls."""
        plan = [faults.status(404), faults.unauthorised, faults.rate_limited({"retry-after": "60"}), faults.reset, garbage,
                faults.server_error]
        trials = []
        for fault in plan:
            up = self.upstream(pings=fault)
            trials.append((fault, up, self.provider(up, keep_warm_s=1)))
        for fault, up, p in trials:
            with self.subTest(fault=fault.__name__):
                until(lambda u=up: pings(u), "a ping")
                self.nothing_is_counted(p)
                answer = self.right(p.embed(TEXTS), TEXTS)
                self.assertLess(answer["ms"], 1000 + SLACK)
                self.assertEqual(p.do("state")["limited_ms"], 0)

    def test_ends_at_once(self):
        """Neither a ping that is not answered nor a name that is not resolved is waited for."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            for base_url in ("http://127.0.0.1:%d/v1" % silent.getsockname()[1],
                             "https://127.0.0.1:%d/v1" % silent.getsockname()[1], "http://slow.test:9/v1"):
                with self.subTest(base_url=base_url):
                    p = self.provider(self.upstream(), base_url=base_url, keep_warm_s=1, connect_timeout_ms=30000, timeout_ms=30000)
                    if "slow" not in base_url:
                        self.addCleanup(silent.accept()[0].close)
                    else:
                        until(lambda: p.do("state")["status"] == OK and self.threads(p) > 2, "the resolver's thread")
                    self.assertLess(p.do("close")["ms"], 1000 + SLACK)
        up, p = self.pair(keep_warm_s=3600)
        self.assertLess(p.do("close")["ms"], SLACK)

    def threads(self, driver):
        with open("/proc/%d/status" % driver.process.pid) as f:
            return next(int(line.split()[1]) for line in f if line.startswith("Threads"))


del Case

if __name__ == "__main__":
    unittest.main(verbosity=2)
