"""Transport to providers, through a whole embedd: what a certificate that is not trusted does to breaker, budget and ledger;
proxies and their passwords; ca_file at the start; keep_warm_seconds beside budgets and at the end."""
import os
import subprocess
import tempfile
import time
import unittest

from driver import KEY, SANITIZED, Proxy, certificates, h2, until
import service
import upstream

MODEL = "text-embedding-3-small"
PASSWORD = "hunter2-of-the-proxy"
YAML = """
providers:
  default: first
  instances:
%s
hybrid: {daily_api_budget_usd: 0.010}
cache: {url: none}
alerts: {api_budget_warning: 1.0, api_budget_critical: 1.0}
budget: {timezone: UTC}
"""
INSTANCE = """    - name: %(name)s
      kind: openai
      base_url: "%(url)s"
      api_key: %(key)s
      max_retries: 3
      models: [{name: text-embedding-3-small, dimension: 1536, price_per_1k_tokens: 0, price_per_request: 0.001}]
%(more)s"""


class Transport(unittest.TestCase):
    def upstream(self, **options):
        up = upstream.Upstream(**options)
        self.addCleanup(up.close)
        return up

    def instance(self, name, url, **more):
        lines = "".join("      %s: %s\n" % item for item in more.items())
        return INSTANCE % {"name": name, "url": url, "key": KEY, "more": lines}

    def config(self, *instances):
        folder = tempfile.mkdtemp(prefix="embedd-transport-")
        self.addCleanup(subprocess.run, ["rm", "-rf", folder])
        path = os.path.join(folder, "embedd.yaml")
        with open(path, "w") as f:
            f.write(YAML % "".join(instances))
        os.chmod(path, 0o600)
        return path

    def gateway(self, *instances, env=None, log="debug,json"):
        proxies = {name: None for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "no_proxy", "NO_PROXY")}
        g = service.Service("--config", self.config(*instances), env={**proxies, "EMBEDD_LOG": log, **(env or {})})
        self.addCleanup(self.close_gateway, g)
        return g

    def close_gateway(self, g):
        g.close()
        said = [line for line in g.lines if isinstance(line, str) and ("Sanitizer" in line or "runtime error" in line)]
        self.assertEqual((said, g.process.returncode), ([], 0), g.lines[-20:])

    def ask(self, g, text, status=200, pinned="first"):
        body = {"texts": [text], **({"preferred_provider": pinned} if pinned else {"model": MODEL})}
        got, _, answer = g.post("/api/v1/embeddings", body)
        self.assertEqual(got, status, "%.900r" % (answer,))
        return answer

    def provider(self, g, name="first"):
        return next(p for p in g.get("/api/v1/embeddings/health")[2]["providers"] if p["name"] == name)

    def metric(self, g, name, *labels):
        """The sum of the series of this name whose labels hold all of these words."""
        text = g.get("/metrics")[2]
        text = text.decode() if isinstance(text, bytes) else text
        lines = [line for line in text.split("\n") if line.startswith(name) and all(label in line for label in labels)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    # ---- certificates ----

    def test_bad_certificate_costs_nothing(self):
        """More failures than the day's budget has calls: all are returned. The breaker opens."""
        bad = self.upstream(tls=certificates.server("expired"))
        g = self.gateway(self.instance("first", bad.base_url("openai"), ca_file=certificates.ca()))
        answer = self.ask(g, "text 0", 503)
        for word in ("first", "certificate has expired"):
            self.assertIn(word, str(answer))
        self.assertEqual(bad.connections, 1)  # no retry
        for i in range(1, 5):
            self.ask(g, "text %d" % i, 503)
        self.assertEqual(self.provider(g)["breaker"]["state"], "open")
        for i in range(5, 20):
            self.ask(g, "text %d" % i, 503)
        self.assertEqual((bad.connections, bad.requests), (5, []))
        self.assertEqual(self.metric(g, "embedd_provider_attempts_total", 'provider="first"', "not_sent"), 5)
        budget = g.get("/api/v1/embeddings/metrics")[2]["budget"]
        self.assertEqual((budget["spent_usd"], budget["reserved_usd"]), (0, 0))

    def test_fallback_has_the_whole_budget(self):
        """Ten calls are paid for; what failed before them took none of it."""
        bad, good = self.upstream(tls=certificates.server("other_host")), self.upstream(tls=certificates.server())
        g = self.gateway(self.instance("first", bad.base_url("openai"), ca_file=certificates.ca()),
                         self.instance("second", good.base_url("openai"), ca_file=certificates.ca(), weight=0))
        for i in range(10):
            answer = self.ask(g, "text %d" % i, pinned=None)
            self.assertEqual(answer["provider"], "second", i)
        self.ask(g, "one too many", 402, pinned="second")
        self.assertEqual((good.calls, bad.requests), (10, []))

    def test_ca_file_at_the_start(self):
        up = self.upstream(tls=certificates.server())
        with tempfile.TemporaryDirectory() as folder:
            other = os.path.join(folder, "other.pem")
            with open(other, "w") as f:
                f.write("no certificate\n")
            for path in (other, os.path.join(folder, "missing.pem")):
                with self.subTest(path=path):
                    env = service.clean_environment({"EMBEDD_LISTEN": "127.0.0.1:0", "EMBEDD_DATA_DIR": folder})
                    done = subprocess.run([service.PROGRAM, "serve", "--config", self.config(
                        self.instance("first", up.base_url("openai"), ca_file=path))], env=env, stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=service.PATIENCE)
                    said = done.stdout.decode()
                    self.assertNotEqual(done.returncode, 0)
                    for word in ("ca_file", "first", path):
                        self.assertIn(word, said)

    # ---- HTTP/2 ----

    def test_restart_of_the_upstream(self):
        """GOAWAY and refused streams are not seen by clients, and the upstream bills each text once."""
        up = self.upstream(tls=certificates.server(alpn=["h2"]))
        g = self.gateway(self.instance("first", up.base_url("openai"), ca_file=certificates.ca()))
        self.ask(g, "text 0")
        up.script([h2.goaway])
        self.ask(g, "text 1")
        up.script([h2.refused_stream])
        self.ask(g, "text 2")
        self.assertEqual(sum(1 for r in up.embeddings() if r.tokens), 3)
        self.assertEqual({getattr(r, "protocol", "") for r in up.requests}, {"h2"})

    # ---- proxies ----

    def proxied(self, g, proxy, up, text="hello"):
        self.assertEqual(self.ask(g, text)["provider"], "first")
        self.assertEqual(up.requests[-1].headers["authorization"], "Bearer " + KEY)
        self.assertNotIn("proxy-authorization", up.requests[-1].headers)
        self.assertTrue(proxy.seen)

    def nowhere(self, g, *words):
        """Not in the log, not in an answer about the service."""
        said = str(g.lines) + "".join(str(g.get(path)[2]) for path in (
            "/health", "/metrics", "/api/v1/embeddings/health", "/api/v1/embeddings/metrics"))
        for word in words:
            self.assertNotIn(word, said)

    def test_proxy_of_the_instance(self):
        up = self.upstream(tls=certificates.server())
        url = up.base_url("openai").replace("127.0.0.1", "upstream.test")
        with Proxy(up.port, user="user", password=PASSWORD) as proxy, Proxy(up.port) as other:
            g = self.gateway(self.instance("first", url, ca_file=certificates.ca(), proxy='"%s"' % proxy.url),
                             env={"HTTPS_PROXY": other.url})
            self.proxied(g, proxy, up)
            self.assertEqual((proxy.methods(), other.methods()), (["CONNECT"], []))
            self.nowhere(g, PASSWORD, KEY)
            shown = subprocess.run([service.PROGRAM, "config", "show", "--config", self.config(
                self.instance("first", url, proxy='"%s"' % proxy.url))], env=service.clean_environment(),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout.decode()
            self.assertNotIn(PASSWORD, shown)

    def test_proxy_of_the_environment(self):
        """HTTPS_PROXY is the setting's; EMBEDD_PROXY goes before it; addresses of this machine go past it."""
        up, here = self.upstream(), self.upstream()
        url = up.base_url("openai").replace("127.0.0.1", "upstream.test")
        with Proxy(up.port, user="user", password=PASSWORD) as proxy, Proxy(up.port) as other:
            for env in ({"HTTPS_PROXY": proxy.url}, {"https_proxy": proxy.url}, {"EMBEDD_PROXY": proxy.url, "HTTPS_PROXY": other.url}):
                with self.subTest(env=sorted(env)):
                    proxy.seen.clear()
                    g = self.gateway(self.instance("first", url), env=env)
                    self.proxied(g, proxy, up)
                    self.assertEqual((proxy.methods(), other.methods()), (["POST"], []))
                    self.nowhere(g, PASSWORD)
            g = self.gateway(self.instance("first", here.base_url("openai")), env={"HTTPS_PROXY": other.url})
            self.ask(g, "hello")
            self.assertEqual((here.calls, other.methods()), (1, []))

    def test_proxy_that_refuses(self):
        up = self.upstream(tls=certificates.server())
        url = up.base_url("openai").replace("127.0.0.1", "upstream.test")
        with Proxy(up.port, user="user", password=PASSWORD) as proxy:
            wrong = proxy.url.replace("user:" + PASSWORD, "user:another-secret")
            g = self.gateway(self.instance("first", url, ca_file=certificates.ca(), proxy='"%s"' % wrong))
            for i in range(5):
                answer = self.ask(g, "text %d" % i, 503)
            self.assertIn("the proxy refused to connect: HTTP 407", str(answer))
            self.assertEqual(len(proxy.seen), 5)
            self.assertEqual(self.provider(g)["breaker"]["state"], "open")
            self.nowhere(g, PASSWORD, "another-secret")
            self.assertEqual(up.connections, 0)

    # ---- warmth ----

    def test_keep_warm(self):
        """Pings are no calls: the budget has its ten, and the accounts know of ten."""
        up = self.upstream(tls=certificates.server(alpn=["h2", "http/1.1"]))
        g = self.gateway(self.instance("first", up.base_url("openai"), ca_file=certificates.ca(), keep_warm_seconds=1))
        pings = lambda: [r for r in list(up.requests) if r.method == "GET"]  # noqa: E731
        until(lambda: len(pings()) >= 2, "two pings")
        self.assertEqual(self.metric(g, "embedd_provider_attempts_total", 'provider="first"'), 0)
        for i in range(10):
            self.ask(g, "text %d" % i)
        seen = len(pings())
        until(lambda: len(pings()) > seen, "a ping after the calls")
        self.ask(g, "one too many", 402)
        self.assertEqual(up.calls, 10)
        self.assertLessEqual(up.connections, 2)  # a call that begins during a ping takes one of its own
        self.assertEqual(self.metric(g, "embedd_provider_attempts_total", 'provider="first"'), 10)
        started = time.monotonic()
        g.stop()
        self.assertLess(time.monotonic() - started, 30 if SANITIZED else 10)

    def test_stops_during_a_ping(self):
        """One that is never answered does not hold the end up."""
        import socket
        with socket.create_server(("127.0.0.1", 0)) as silent:
            g = self.gateway(self.instance("first", "https://127.0.0.1:%d/v1" % silent.getsockname()[1], keep_warm_seconds=1,
                                           connect_timeout_ms=60000, timeout_ms=60000))
            silent.settimeout(service.PATIENCE)
            link = silent.accept()[0]
            started = time.monotonic()
            self.assertEqual(g.stop(), 0)
            self.assertLess(time.monotonic() - started, 30 if SANITIZED else 10)
            link.close()


if __name__ == "__main__":
    unittest.main(verbosity=2)
