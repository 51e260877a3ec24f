"""Providers by way of a proxy: what goes through it and what never does, whose environment counts, and proxies that refuse.
The upstream is called upstream.test where a proxy may stand between: of addresses of this machine none ever does."""
import unittest

from driver import KEY, SECRET, UNAVAILABLE, Case, Driver, Proxy, certificates, faults, words

TEXTS = words(3)
PASSWORD = "hunter2-of-the-proxy"


class Proxies(Case):
    kind = "openai"

    def proxy(self, up, **options):
        proxy = Proxy(up.port, **options)
        self.addCleanup(proxy.close)
        return proxy

    def both(self):
        """Upstreams of http and https, under names that are not this machine's."""
        for tls in (None, certificates.server()):
            up = self.upstream(tls=tls)
            yield up, up.base_url("openai").replace("127.0.0.1", "upstream.test"), "CONNECT" if tls else "POST"

    def through(self, up, base_url, via, **options):
        return self.provider(up, **{"base_url": base_url, "proxy": via.url if via else "",
                                    "ca_file": certificates.ca(), **options})

    def test_goes_through(self):
        for up, base_url, method in self.both():
            proxy = self.proxy(up)
            p = self.through(up, base_url, proxy)
            for _ in range(3):
                self.right(p.embed(TEXTS), TEXTS)
            self.assertEqual(proxy.methods(), ["CONNECT"] if method == "CONNECT" else ["POST"] * 3)  # a tunnel is kept
            _, target, headers = proxy.seen[0]
            self.assertIn("upstream.test:%d" % up.port, target)
            if method == "CONNECT":  # the proxy sees neither key nor texts
                self.assertNotIn(KEY, str(proxy.seen))
                self.assertNotIn("authorization", headers)
            self.assertEqual(up.requests[0].headers["authorization"], "Bearer " + KEY)
            self.assertNotIn("proxy-authorization", up.requests[0].headers)

    def test_http2_through_a_tunnel(self):
        up = self.upstream(tls=certificates.server(alpn=["h2"]))
        proxy = self.proxy(up)
        p = self.through(up, up.base_url("openai").replace("127.0.0.1", "upstream.test"), proxy, max_batch_texts=1)
        self.right(p.embed(TEXTS), TEXTS)
        self.assertEqual((proxy.methods(), [protocol for _, _, protocol in up.handshakes]), (["CONNECT"], ["h2"]))

    def test_socks(self):
        """The proxy resolves the name; wrong credentials and refusals were never sent."""
        for up, base_url, _ in self.both():
            proxy = self.proxy(up, user="user", password=PASSWORD)
            self.right(self.through(up, base_url, None, proxy=proxy.socks_url).embed(TEXTS), TEXTS)
            self.assertEqual(proxy.seen, [("SOCKS", "upstream.test:%d" % up.port, {})])
            wrong = proxy.socks_url.replace("user:", "stranger:")
            refusing = self.proxy(up, refuse=True)
            for url in (wrong, refusing.socks_url):
                answer = self.failed(self.through(up, base_url, None, proxy=url, max_retries=1).embed(TEXTS), UNAVAILABLE)
                self.assertEqual((set(answer["hooks"]["ends"]), set(answer["hooks"]["billed"])), ({"not_sent"}, {False}))
                for word in (PASSWORD, "stranger"):
                    self.assertNotIn(word, str(answer))
            self.assertEqual(up.calls, 1)

    def test_parts(self):
        for up, base_url, _ in self.both():
            p = self.through(up, base_url, self.proxy(up), max_batch_texts=2, concurrency=4)
            texts = words(20)
            self.right(p.embed(texts), texts)

    def test_user_and_password(self):
        """They go to the proxy, and to nobody else; no message has them."""
        for up, base_url, method in self.both():
            proxy = self.proxy(up, user="user", password=PASSWORD)
            p = self.through(up, base_url, proxy)
            self.right(p.embed(TEXTS), TEXTS)
            self.assertNotIn("proxy-authorization", str([r.headers for r in up.requests]))
            wrong = self.through(up, base_url, None, proxy=proxy.url.replace("user:", "stranger:"), max_retries=3)
            before = len(proxy.seen)
            answer = self.failed(wrong.embed(TEXTS), UNAVAILABLE)
            self.assertIn("407", answer["message"])
            self.assertIn("proxy", answer["message"])
            self.assertEqual((answer["hooks"]["ends"], answer["hooks"]["billed"]), (["not_sent"], [False]))
            self.assertEqual(len(proxy.seen), before + 1)  # asking again does not help
            said = str(answer) + str(wrong.do("state")) + wrong.do("metrics")["text"]
            for word in (PASSWORD, "stranger", SECRET):
                self.assertNotIn(word, said)
            self.assertEqual(up.calls, 1)

    def test_tunnel_refused(self):
        """The upstream was never reached: not sent, not billed."""
        up = self.upstream(tls=certificates.server())
        base_url = up.base_url("openai").replace("127.0.0.1", "upstream.test")
        for status, attempts in ((403, 1), (407, 1), (502, 3), (503, 3)):
            with self.subTest(status=status):
                proxy = self.proxy(up, refuse=status)
                answer = self.failed(self.through(up, base_url, proxy, max_retries=2).embed(TEXTS), UNAVAILABLE)
                self.assertIn("the proxy refused", answer["message"])
                self.assertIn(str(status), answer["message"])
                self.assertEqual(answer["hooks"]["ends"], ["not_sent"] * attempts)
                self.assertEqual(set(answer["hooks"]["billed"]), {False})
                self.assertEqual(proxy.methods(), ["CONNECT"] * attempts)
        self.assertEqual(up.connections, 0)

    def test_refused_in_the_clear(self):
        """Without a tunnel a 502 of the proxy looks like one of the upstream: an error in time, and the truth about billing
        is not known."""
        up = self.upstream()
        proxy = self.proxy(up, refuse=502)
        p = self.through(up, up.base_url("openai").replace("127.0.0.1", "upstream.test"), proxy, max_retries=1)
        answer = self.failed(p.embed(TEXTS), UNAVAILABLE)
        self.assertIn("502", answer["message"])
        self.assertEqual((len(proxy.seen), up.calls), (2, 0))
        proxy.refuse = None
        self.right(p.embed(TEXTS), TEXTS)

    def test_proxy_is_away(self):
        for up, base_url, _ in self.both():
            proxy = self.proxy(up, user="user", password=PASSWORD)
            proxy.close()
            answer = self.failed(self.through(up, base_url, proxy, max_retries=1).embed(TEXTS), UNAVAILABLE)
            self.assertEqual((answer["hooks"]["ends"], answer["hooks"]["billed"]), (["not_sent"] * 2, [False] * 2))
            self.assertNotIn(PASSWORD, str(answer))
            self.assertEqual(up.connections, 0)

    def test_bad_certificate_behind_a_proxy(self):
        up = self.upstream(tls=certificates.server("expired"))
        proxy = self.proxy(up)
        p = self.through(up, up.base_url("openai").replace("127.0.0.1", "upstream.test"), proxy)
        answer = self.failed(p.embed(TEXTS), UNAVAILABLE)
        self.assertIn("expired", answer["message"])
        self.assertEqual(answer["hooks"]["ends"], ["not_sent"])

    def test_address_without_a_scheme(self):
        """HTTPS_PROXY=proxy.example:3128 is usual."""
        for up, base_url, _ in self.both():
            proxy = self.proxy(up, user="user", password=PASSWORD)
            self.right(self.through(up, base_url, None, proxy=proxy.url.replace("http://", "")).embed(TEXTS), TEXTS)
            self.assertEqual(len(proxy.seen), 1)

    def test_addresses_that_are_none(self):
        """Refused at the start, without a word of what may be a password."""
        up = self.upstream()
        for proxy in ("http://user:%s@127.0.0.1:99999", "http://user:%s@[::1:80", "http://user:%s@of@127.0.0.1:80",
                      "ftp://user:%s@127.0.0.1:80", "user:%s@127.0.0.1:99999"):
            with self.subTest(proxy=proxy):
                opened = self.refused_provider(up, name="second", proxy=proxy % PASSWORD)
                self.assertIn("proxy of provider second", opened["message"])
                self.assertNotIn(PASSWORD, str(opened))
        for base_url in ("http://127.0.0.1:99999/v1", "http://[::1/v1", "http://"):
            with self.subTest(base_url=base_url), Driver(kind="openai", base_url=base_url, api_key=KEY) as driver:
                self.assertIn("base_url of provider upstream", driver.opened["message"])

    def test_loopback_is_never_proxied(self):
        for host in ("127.0.0.1", "localhost"):
            with self.subTest(host=host):
                up = self.upstream()
                proxy = self.proxy(up)
                p = self.through(up, up.base_url("openai").replace("127.0.0.1", host), proxy)
                self.right(p.embed(TEXTS), TEXTS)
                self.assertEqual(proxy.seen, [])

    def test_no_proxy(self):
        """Names, domains and the star of the environment's no_proxy."""
        up = self.upstream()
        base_url = up.base_url("openai").replace("127.0.0.1", "upstream.test")
        for name, value, direct in (("no_proxy", "upstream.test", True), ("NO_PROXY", "other.test,.test", True),
                                    ("no_proxy", "*", True), ("no_proxy", "other.test", False), ("no_proxy", "", False)):
            with self.subTest(name=name, value=value):
                proxy = self.proxy(up)
                p = self.through(up, base_url, proxy, env={name: value})
                self.right(p.embed(TEXTS), TEXTS)
                self.assertEqual(len(proxy.seen), 0 if direct else 1)
                here = self.through(up, up.base_url("openai"), proxy, env={name: value})
                self.right(here.embed(TEXTS), TEXTS)
                self.assertEqual(len(proxy.seen), 0 if direct else 1)

    def test_environment_is_the_configuration_s(self):
        """`proxy: ""` is none: the variables are read by the configuration, and libcurl's own reading of them does not count."""
        for up, base_url, _ in self.both():
            proxy = self.proxy(up)
            env = {name: proxy.url for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")}
            self.right(self.through(up, base_url, None, env=env).embed(TEXTS), TEXTS)
            self.assertEqual(proxy.seen, [])

    def test_upstream_faults_behind_a_proxy(self):
        for up, base_url, _ in self.both():
            p = self.through(up, base_url, self.proxy(up))
            self.right(p.embed(TEXTS), TEXTS)
            for fault in (faults.server_error, faults.rate_limited({"retry-after-ms": "10"})):
                up.script([fault])
                answer = self.right(p.embed(TEXTS), TEXTS)
                self.assertEqual(len(answer["hooks"]["ends"]), 2)


del Case

if __name__ == "__main__":
    unittest.main(verbosity=2)
