"""API keys and notes about settings in a running service: who is let in, limits, and reloads of the file of keys."""
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from service import PROGRAM, Service, clean_environment, until  # noqa: E402


def entry(name, key, *more):
    lines = ["- name: " + name, "  sha256: " + hashlib.sha256(key.encode()).hexdigest()]
    return "\n".join(lines + ["  " + m for m in more]) + "\n"


class Keys(unittest.TestCase):
    def test_no_start_without_the_file(self):
        with Service(env={"EMBEDD_API_KEYS_FILE": "none.yaml"}, ready=False) as s:
            self.assertNotEqual(s.process.wait(60), 0)
            until(lambda: any("access.api_keys_file: opening none.yaml" in str(line) for line in s.lines), "the message")

    def test_rights(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "keys.yaml")
            made = subprocess.run([PROGRAM, "key", "--name", "ops", "--rights", "use, read"], stdout=subprocess.PIPE,
                                  check=True, text=True, env=clean_environment()).stdout
            ops = made.splitlines()[0]
            self.assertIn("    rights: [use, read]\n", made)
            wrong = subprocess.run([PROGRAM, "key", "--rights", "root"], stderr=subprocess.PIPE, text=True,
                                   env=clean_environment())
            self.assertEqual(wrong.returncode, 2)
            self.assertIn("use, read and admin", wrong.stderr)
            with open(path, "w") as f:
                f.write("keys:\n" + textwrap.dedent("\n".join(made.splitlines()[4:])) + "\n" + entry("app", "ka"))
            os.chmod(path, 0o600)
            with Service(env={"EMBEDD_API_KEYS_FILE": path, "EMBEDD_API_KEYS": "small"}) as s:
                def ask(method, route, key, body=None):
                    status, _, answer = s.request(method, route, body, headers={"authorization": "Bearer " + key})
                    return status, answer

                rollout = "/api/v1/embeddings/rollout"
                for key in ("ka", ops, "small"):
                    self.assertEqual(ask("POST", "/v1/embeddings", key, {"input": "x"})[0], 200)
                self.assertEqual([ask("GET", "/metrics", k)[0] for k in ("ka", ops, "small")], [403, 200, 200])
                self.assertEqual([ask("GET", rollout, k)[0] for k in ("ka", ops, "small")], [403, 200, 200])
                done = [ask("POST", rollout, k, {"action": "set", "percentage": 5}) for k in ("ka", ops, "small")]
                self.assertEqual([d[0] for d in done], [403, 403, 200])
                self.assertIn("needs a key with the right admin; this one has use and read.", done[1][1]["detail"])
                self.assertIn(b'embedd_requests_rejected_total{reason="right"} 4', ask("GET", "/metrics", ops)[1])
                until(lambda: any("lacks the right" in str(line) and "app" in str(line) for line in s.lines), "the log")
                for secret in ("ka", ops):
                    self.assertFalse(any('"%s"' % secret in str(line) for line in s.lines))

    def test_reload_and_limits(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "keys.yaml")

            def write(text):
                with open(path, "w") as f:
                    f.write("keys:\n" + text)
                os.chmod(path, 0o600)

            write(entry("a", "ka", "requests_per_minute: 1", "burst: 2") + entry("b", "kb", "models: [other]"))
            with Service(env={"EMBEDD_API_KEYS_FILE": path, "EMBEDD_LISEN": ":1"}) as s:
                def ask(key):
                    headers = {"authorization": "Bearer " + key} if key else {}
                    return s.post("/v1/embeddings", {"input": "x"}, headers=headers)

                self.assertTrue(any("did you mean EMBEDD_LISTEN?" in str(line) for line in s.lines))
                self.assertEqual(ask(None)[0], 401)
                self.assertEqual(ask("kz")[0], 401)
                self.assertEqual(ask("kb")[0], 403)
                self.assertEqual([ask("ka")[0] for _ in range(3)], [200, 200, 429])
                write("nothing")
                s.signal(signal.SIGHUP)
                until(lambda: any("was refused" in str(line) for line in s.lines), "the refusal")
                self.assertEqual(ask("ka")[0], 429)  # the keys in force stay, with what they have used
                write(entry("a", "ka2", "requests_per_minute: 1", "burst: 2") + entry("c", "kc"))
                s.signal(signal.SIGHUP)
                until(lambda: any("configuration reloaded" in str(line) for line in s.lines), "the reload")
                self.assertEqual(ask("ka")[0], 401)
                self.assertEqual(ask("kb")[0], 401)
                self.assertEqual(ask("kc")[0], 200)
                status, headers, _ = ask("ka2")
                self.assertEqual(status, 429)
                retry = {k.lower(): v for k, v in dict(headers).items()}["retry-after"]
                self.assertTrue(1 <= int(retry) <= 60, retry)
                for secret in ("ka2", "kc"):
                    self.assertFalse(any('"%s"' % secret in str(line) for line in s.lines))


if __name__ == "__main__":
    unittest.main()
