"""`embedd config` and `embedd key`, and settings as flags: what is printed, and the exact messages."""
import hashlib
import json
import os
import re
import subprocess
import unittest

from harness import Case, PROGRAM, ROOT, Result

OURS = re.compile(r"EMBED|^HF_|^HUGGING_FACE|^REDIS_|^OPENAI_|^ALERT_|^USE_HYBRID")


class ConfigCase(Case):
    """Runs in an empty folder, with an environment that holds nothing of ours."""

    def run_program(self, *arguments, env=None, **more):
        plain = {k: v for k, v in os.environ.items() if not OURS.search(k)}
        plain.update(env or {})
        p = subprocess.run([PROGRAM, *arguments], input=more.get("stdin", b""), stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, env=plain, cwd=self.folder, timeout=60)
        return Result(p.returncode, p.stdout, p.stderr)

    def refused(self, *arguments, **more):
        """The one line of a bad configuration."""
        err = self.fails(2, *arguments, **more)
        self.assertEqual(err.count("\n"), 1, err)
        return err.rstrip("\n")

    def value(self, name, *arguments, **more):
        """A line of `config print`, without its indentation."""
        out = self.good("config", "print", *arguments, **more).out
        found = re.findall(r"^  (?:# )?%s: .*$" % name, out, re.M)
        self.assertEqual(len(found), 1, found)
        return found[0].strip()


class Print(ConfigCase):
    def test_order_of_sources(self):
        env = {}
        self.assertEqual(self.value("l1_size", env=env), "l1_size: 1000  # default")
        self.write("c.yaml", "cache:\n  l1_size: 1\n")
        self.assertEqual(self.value("l1_size", "--config", "c.yaml", env=env), "l1_size: 1  # c.yaml:2")
        env["EMBEDD_CONFIG"] = "c.yaml"
        self.assertEqual(self.value("l1_size", env=env), "l1_size: 1  # c.yaml:2")
        self.write(".env", "# mine\nEMBEDDING_L1_CACHE_SIZE=2\n")
        self.assertEqual(self.value("l1_size", env=env), "l1_size: 2  # EMBEDDING_L1_CACHE_SIZE (.env:2)")
        env["EMBEDDING_L1_CACHE_SIZE"] = "3"
        self.assertEqual(self.value("l1_size", env=env), "l1_size: 3  # EMBEDDING_L1_CACHE_SIZE")
        self.assertEqual(self.value("l1_size", "--cache-l1-size", "4", env=env), "l1_size: 4  # --cache-l1-size")
        self.assertEqual(self.value("l1_size", "--cache-l1-size=4", "--cache-l1-size=5", env=env),
                         "l1_size: 5  # --cache-l1-size")

    def test_print_loads_again(self):
        env = {"EMBEDD_LISTEN": ":9000,unix:/tmp/x y", "EMBEDDING_ROLLOUT_PERCENTAGE": "12.5", "EMBEDD_TLS_MIN_VERSION": "1.3",
               "LOCAL_EMBEDDING_MODEL": "true", "EMBEDD_MODEL_MEMORY": "1.5GiB", "EMBEDD_API_KEYS": "geheim",
               "HF_HOME": "/ä\"b\\c#d"}
        first = self.good("config", "print", "--no-origin", env=env).out
        self.write("all.yaml", first)
        del env["LOCAL_EMBEDDING_MODEL"], env["EMBEDD_LISTEN"]
        again = self.good("config", "print", "--no-origin", "-c", "all.yaml",
                          env={"EMBEDD_API_KEYS": "geheim"}).out
        self.assertEqual(first, again)
        self.assertIn('listen: ":9000,unix:/tmp/x y"', first)
        self.assertIn('default: "true"', first)
        self.assertIn("memory: 1536MiB", first)

    def test_secrets_are_not_shown(self):
        secrets = {"EMBEDD_API_KEYS": "topsecret1", "HF_TOKEN": "topsecret2", "EMBEDD_CACHE_URL": "redis://:topsecret3@h/0",
                   "REDIS_URL": "redis://:topsecret4@h/0", "EMBEDD_STORE_URL": "postgresql://u:topsecret5@h/d",
                   "EMBEDD_QUEUE_URL": "redis://:topsecret6@h", "OPENAI_API_KEY": "topsecret7"}
        r = self.good("config", "print", env=secrets)
        self.assertNotIn("topsecret", r.out + r.err)
        self.assertEqual(r.out.count("(set)"), 7)
        self.assertIn("  # api_keys: (set)  # EMBEDD_API_KEYS\n", r.out)
        r = self.good("config", "check", env=secrets)
        self.assertNotIn("topsecret", r.out + r.err)
        for name, bad in (("EMBEDD_API_KEYS", "topsecret x"), ("EMBEDD_CACHE_URL", "mysql://topsecret"),
                          ("REDIS_URL", "topsecret"), ("EMBEDD_STORE_URL", "redis://topsecret"),
                          ("EMBEDD_QUEUE_URL", "topsecret:"), ("HF_TOKEN", "topsecret\n"), ("OPENAI_API_KEY", b"topsecret\xff")):
            err = self.refused("config", "check", env={name: bad})
            self.assertNotIn("topsecret", err)
            self.assertIn(name + ": the value (which is not shown) ", err)


GATEWAY = """providers:
  instances:
    - name: openai
      api_key: topsecret1
      headers: {X-Team: topsecret2}
      proxy: "http://u:topsecret3@p:1"
    - local
    - {name: eu, kind: azure, base_url: "https://e.openai.azure.com", api_key_env: EU_KEY, models: [{name: m, upstream: d}]}
budget: {limits: [{key: search, daily_usd: 1.5}]}
alerts: {sinks: [{name: ops, kind: webhook, url: "https://h/topsecret4", bearer: topsecret5}]}
rollout: {schedule: [{percentage: 5, hold_hours: 24}, {percentage: 100}]}
pii: {patterns: [{name: employee_id, regex: "EMP-[0-9]{6}"}]}
"""


class Gateway(ConfigCase):
    def test_print_loads_again_without_secrets(self):
        env = {"OPENAI_API_KEY": "topsecret6", "EU_KEY": "topsecret7", "EMBEDD_ALERT_WEBHOOK_URL": "https://h/topsecret8"}
        self.write("g.yaml", GATEWAY)
        first = self.good("config", "print", "-c", "g.yaml", env=env)
        self.assertNotIn("topsecret", first.out + first.err)
        self.write("again.yaml", first.out)
        self.assertNotIn("topsecret", self.good("config", "check", "-c", "again.yaml", env=env).out)
        again = self.good("config", "print", "--no-origin", "-c", "again.yaml", env=env).out
        first = self.good("config", "print", "--no-origin", "-c", "g.yaml", env=env).out
        said = lambda text: [line for line in text.splitlines() if not re.match(r" *#|  sinks:", line)]
        self.assertEqual(said(again), said(first))

    def test_mistakes(self):
        for text, message in (
                ("providers: {instances: [{name: openai, wieght: 2}]}\n",
                 "g.yaml:1: providers.instances[0]: there is no member 'wieght'; did you mean 'weight'?"),
                ("budget: {limits: [{provider: opnai, daily_usd: 2}]}\nproviders.instances: [{name: openai}]\n",
                 "g.yaml:1: budget.limits[0].provider: there is no provider 'opnai'; did you mean 'openai'?"),
                ("providers.default: tei\n", "g.yaml:1: providers.default: there is no provider 'tei'; there is only local")):
            self.write("g.yaml", text)
            self.assertEqual(self.refused("config", "check", "-c", "g.yaml"), "embedd config: " + message)


class Check(ConfigCase):
    def test_ok(self):
        self.assertEqual(self.good("config", "check").out, "ok\n")

    def test_notes_and_warnings(self):
        self.write(".env", "EMBEDD_LOOP=1\n")
        out = self.good("config", "check", env={"EMBEDD_LISEN": ":1", "EMBEDD_FROBNICATE": "x", "OPENAI_API_KEY": "k",
                                                "EMBEDD_QUEUE_URL": "sqlite:", "EMBEDING_L1_CACHE_SIZE": "1", "EMBEDDING_L1_CACHE_SZE": "1",
                                                "EMBEDDING_OF_SOMEBODY_ELSE": "1", "EMBEDD_PORT_8000_TCP": "tcp://",
                                                "EMBEDD_SERVICE_HOST": "h", "EMBEDD_ISA": "portable"}).out
        self.assertEqual(sorted(out.splitlines()), [
            "note: data.queue_url (EMBEDD_QUEUE_URL) has no effect in this version",
            "ok",
            "warning: .env:1: there is no variable EMBEDD_LOOP; did you mean EMBEDD_LOOPS?",
            "warning: there is no variable EMBEDDING_L1_CACHE_SZE; did you mean EMBEDDING_L1_CACHE_SIZE?",
            "warning: there is no variable EMBEDD_FROBNICATE",
            "warning: there is no variable EMBEDD_LISEN; did you mean EMBEDD_LISTEN?",
            "warning: there is no variable EMBEDING_L1_CACHE_SIZE; did you mean EMBEDDING_L1_CACHE_SIZE?",
        ])

    def test_bad_values_name_all(self):
        say = lambda *a, **m: self.refused("config", "check", *a, **m)
        self.assertEqual(say("--server-loops", "65"), "embedd config: --server-loops: '65' is out of range; allowed: 0 to 64")
        self.assertEqual(say(env={"EMBEDD_LOOPS": "-1"}),
                         "embedd config: EMBEDD_LOOPS: '-1' is not a whole number; allowed: 0 to 64")
        self.write("c.yaml", "server:\n  max_body_bytes: 2TB\n")
        self.assertEqual(say("-c", "c.yaml"), "embedd config: c.yaml:2: server.max_body_bytes: '2TB' is out of range; "
                                              "allowed: 1KiB to 1GiB")
        self.write("c.yaml", "server:\n  lisen: x\n")
        self.assertEqual(say("-c", "c.yaml"),
                         "embedd config: c.yaml:2: there is no setting 'server.lisen'; did you mean 'server.listen'?")
        self.write(".env", "\nUSE_HYBRID_EMBEDDINGS=perhaps\n")
        self.assertEqual(say(), "embedd config: .env:2: USE_HYBRID_EMBEDDINGS: 'perhaps' is neither true nor false; "
                                "allowed: true, false, yes, no, on, off, 1, 0")

    def test_all_mistakes_are_told(self):
        self.write("c.yaml", "server:\n  lisen: x\n  loops: 99\nlog.level: loud\nservr: 1\n")
        err = self.fails(2, "config", "check", "-c", "c.yaml", "--cache-url", "x", "--server-tls-key", "k",
                         env={"EMBEDD_PULL": "maybe"})
        self.assertEqual(err.splitlines(), [
            "embedd config: c.yaml:2: there is no setting 'server.lisen'; did you mean 'server.listen'?",
            "embedd config: c.yaml:3: server.loops: '99' is out of range; allowed: 0 to 64",
            "embedd config: c.yaml:5: there is no setting 'servr'; did you mean 'server'?",
            "embedd config: EMBEDD_PULL: 'maybe' is neither true nor false; allowed: true, false, yes, no, on, off, 1, 0",
            "embedd config: c.yaml:4: log.level: 'loud' is not a word for the log; allowed: error, warn, info, debug, "
            "plain, json",
            "embedd config: --cache-url: the value (which is not shown) begins with none of sqlite:, redis://, rediss://, "
            "postgresql://, and is not none",
        ])
        err = self.fails(2, "config", "check", "--server-tls-key", "k", "--server-shutdown-grace-ms", "60000")
        self.assertEqual(len(err.splitlines()), 2, err)
        err = self.fails(2, "config", "print", "-c", "c.yaml")
        self.assertEqual(len(err.splitlines()), 1, err)

    def test_missing_file(self):
        self.assertEqual(self.refused("config", "check", "-c", "none.yaml"),
                         "embedd config: opening none.yaml: No such file or directory")
        self.assertEqual(self.refused("config", "check", env={"EMBEDD_CONFIG": "none.yaml"}),
                         "embedd config: EMBEDD_CONFIG: opening none.yaml: No such file or directory")

    def test_file_of_keys(self):
        self.write("keys.yaml", "keys:\n  - name: a\n    sha265: x\n")
        self.assertEqual(self.refused("config", "check", "--access-api-keys-file", "keys.yaml"),
                         "embedd config: keys.yaml:3: 'sha265' is not a field of a key; did you mean 'sha256'?")
        self.assertEqual(self.refused("config", "check", "--access-api-keys-file", "none.yaml"),
                         "embedd config: access.api_keys_file: opening none.yaml: No such file or directory")


class Flags(ConfigCase):
    def test_switches(self):
        for words, value in ((["--models-pull"], "true"), (["--models-pull=false"], "false"), (["--models-pull", "on"], "true"),
                             (["--models-pull", "no"], "false"), (["--models-pull", "--no-origin"], "true")):
            self.assertRegex(self.value("pull", *words), r"^pull: %s" % value)

    def test_mistyped(self):
        for wrong, right in (("--server-lisen", "--server-listen"), ("--listen", "--server-listen"),
                             ("--l1-size", "--cache-l1-size"), ("--confg", "--config")):
            self.assertEqual(self.usage("config", "print", wrong, "x"),
                             "embedd config: unknown option '%s'; did you mean '%s'?" % (wrong, right))
        self.assertEqual(self.usage("config", "print", "--frobnicate=1"), "embedd config: unknown option '--frobnicate'")
        self.assertEqual(self.usage("config", "print", "--server-listen"), "embedd config: --server-listen needs a value")
        self.assertEqual(self.usage("config", "print", "--models-pull", "x"), "embedd config: unexpected argument 'x'")

    def test_topics(self):
        self.assertEqual(self.usage("config"), "embedd config: one of print, check, schema and docs is needed")
        self.assertEqual(self.usage("config", "prnt"), "embedd config: there is no 'config prnt'; did you mean 'print'?")


class Documents(ConfigCase):
    def test_schema(self):
        schema = self.good("config", "schema").json()
        self.assertEqual(schema["$schema"], "https://json-schema.org/draft/2020-12/schema")
        self.assertFalse(schema["additionalProperties"])
        server = schema["properties"]["server"]["properties"]
        self.assertEqual(server["loops"], {"type": "integer", "minimum": 0, "maximum": 64, "default": 0,
                                           "description": "threads that read and write connections; 0: one per two CPUs"})
        self.assertEqual(server["tls_min_version"]["enum"], ["1.2", "1.3"])
        self.assertEqual(server["access_log"]["type"], "boolean")
        printed = self.good("config", "print", "--no-origin").out
        names = [line.split(":")[0].strip() for line in printed.splitlines() if line.startswith("  ")]
        lists = {"instances", "prices", "limits", "sinks", "schedule", "patterns"}  # not printed while there is none
        self.assertEqual(names, [n for s in schema["properties"].values() for n in s["properties"] if n not in lists])
        instance = schema["properties"]["providers"]["properties"]["instances"]["items"]["anyOf"][1]["properties"]
        self.assertEqual(instance["breaker"]["properties"]["slow_ms"]["maximum"], 3600000)
        self.assertIn("azure", instance["kind"]["enum"])

    def test_page_is_up_to_date(self):
        with open(os.path.join(ROOT, "docs", "configuration.md"), encoding="utf-8") as f:
            self.assertEqual(f.read(), self.good("config", "docs").out,
                             "run: embedd config docs >docs/configuration.md")

    def test_examples_of_the_page_are_good(self):
        with open(os.path.join(ROOT, "docs", "configuration.md"), encoding="utf-8") as f:
            examples = re.findall(r"```yaml\n(.*?)```", f.read(), re.S)
        examples = [e for e in examples if not e.startswith("keys:")]
        self.assertGreater(len(examples), 5)
        for example in examples:
            self.write("example.yaml", example)
            self.assertEqual(self.good("config", "check", "-c", "example.yaml",
                                       env={"AZURE_EU_KEY": "k", "OPENAI_API_KEY": "k"}).out, "ok\n")


class Key(ConfigCase):
    def test_new_key_is_accepted_by_its_file(self):
        out = self.good("key", "--name", "search", "--requests-per-minute", "600", "--tokens-per-minute", "9",
                        "--models", "a, bge-*").out
        key, _, rest = out.partition("\n")
        self.assertRegex(key, r"^emb-[0-9a-f]{64}$")
        self.assertNotEqual(key, self.good("key").out.split("\n")[0])
        digest = hashlib.sha256(key.encode()).hexdigest()
        entry = ('  - name: "search"\n    sha256: "%s"\n    requests_per_minute: 600\n    tokens_per_minute: 9\n'
                 '    models: ["a", "bge-*"]\n' % digest)
        self.assertTrue(rest.endswith(entry), rest)
        self.write("keys.yaml", "keys:\n" + entry)
        os.chmod(self.path("keys.yaml"), 0o600)
        self.assertEqual(self.good("config", "check", "--access-api-keys-file", "keys.yaml").out, "ok\n")
        self.assertEqual(self.good("key", "hash", "--name", "search", stdin=key.encode() + b"\n").out,
                         '  - name: "search"\n    sha256: "%s"\n' % digest)

    def test_refused(self):
        self.assertEqual(self.usage("key", "hsh"), "embedd key: there is no 'key hsh'; there is 'key hash', and 'key' alone")
        wanted = ("embedd key: standard input is not a key: one line of 1 to 4096 ASCII characters without spaces is "
                  "wanted")
        for bad in (b"", b"\n", b"a b", b"a\nb", "ä".encode(), b"x" * 4097):
            self.assertEqual(self.usage("key", "hash", stdin=bad), wanted)
        self.good("key", "hash", stdin=b"x" * 4096)
        for bad in ("", "a b", 'a"b', "x" * 65):
            self.assertIn("--name: is not a word", self.usage("key", "--name", bad))
        for bad in ("a*b", 'a"b'):
            self.assertIn("--models: is not a list", self.usage("key", "--models", bad))


if __name__ == "__main__":
    unittest.main()
