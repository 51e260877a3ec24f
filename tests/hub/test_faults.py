"""embedd pull when the hub, the network, the disk or another process misbehaves."""
import hashlib
import os
import resource
import shutil
import signal
import ssl
import subprocess
import threading
import time
import unittest

import hub_server
from harness import Case, model, noise, until
from hub_server import (Proxy, answers, damages, drips, drops, ends_after, git_hash, ignores_range, redirects,
                        reset_after, too_much, waits_for, wrong_range)

BIG = 3 << 20


class Faults(Case):
    """org/model with weights of 3 MiB that are no weights (--no-check)."""

    def setUp(self):
        super().setUp()
        self.files = {**model(), "model.safetensors": noise(BIG)}
        self.commit = self.hub.add("org/model", self.files)

    def pull(self, *arguments, **more):
        code, out, err = self.run_pull("--no-check", "org/model", *arguments, **more)
        self.assertEqual(code, 0, err + out)
        snapshot = os.path.join(self.cache, "models--org--model", "snapshots", self.commit)
        self.assert_files(snapshot, self.files)
        self.assertEqual(self.unfinished(), {})
        return err

    def failing(self, pattern, *arguments, **more):
        return self.fails(pattern, "--no-check", "org/model", *arguments, **more)

    def ranges(self):
        return [r.headers.get("Range") for r in self.hub.asked("store", "GET", "store")]


class Answers(Faults):
    def test_errors_that_pass(self):
        self.hub.fault("/api/", answers(503))
        self.hub.fault("config.json", answers(500))
        self.hub.fault("vocab.txt", answers(502))
        self.hub.fault("tokenizer_config", drops)
        self.hub.fault("/store/", answers(403))  # the signature ran out
        err = self.pull()
        for text in ("503", "500", "502", "403"):
            self.assertRegex(err, "the answer is %s.*; try 2 of 6 in 0" % text)

    def test_errors_that_stay(self):
        self.hub.fault("vocab.txt", answers(500, body={"error": "the\tdisk\nbroke"}), None)
        self.failing("vocab.txt: the answer is 500: the disk broke\n$", "--retries", "1")
        self.assertEqual(len(self.hub.asked("vocab.txt")), 2)
        self.assertFalse(os.path.exists(os.path.join(self.cache, "models--org--model", "refs")))
        self.assertFalse(os.path.exists(os.path.join(self.cache, "models--org--model", "snapshots")))
        self.hub.faults.clear()
        self.hub.forget()
        self.pull()

    def test_no_file(self):
        self.hub.fault("vocab.txt", answers(404, "EntryNotFound"), None)
        self.failing("org/model has no file vocab.txt at revision main")
        self.assertEqual(len(self.hub.asked("vocab.txt")), 1)

    def test_retry_after(self):
        begin = time.monotonic()
        self.hub.fault("/api/", answers(429, headers=[("Retry-After", "1")]))
        self.hub.fault("vocab.txt", answers(429, headers=[("RateLimit", '"resolvers";r=0;t=1')]))
        err = self.pull()
        self.assertGreater(time.monotonic() - begin, 2)
        self.assertIn("the hub asks to wait (429)", err)

    def test_too_long_a_wait(self):
        self.hub.fault("vocab.txt", answers(429, headers=[("Retry-After", "4000")]))
        self.failing("the hub asks to wait 4000 s, more than the 300 s that are waited; the same command goes on later")

    def test_not_a_hub(self):
        self.hub.fault("/api/", answers(200, body={"hello": 1}), 1)
        self.failing("the list of files of org/model names no commit; is it the address of a hub")
        self.hub.fault("/api/", answers(200, body=[]), 1)
        self.failing("names no commit")

        def page(h):
            h.send_response(200)
            h.send_header("Content-Length", "6")
            h.end_headers()
            h.wfile.write(b"<html>")
            return True
        self.hub.fault("/api/", page)
        self.failing("the list of files of org/model")

    def test_hostile_names(self):
        for name in ("../../../etc/cron.d/x", "/etc/passwd", "a/../../b", "a\\..\\b", "a//b", ".", "a/.", "x" * 300, "a\nb",
                     "a\0b", ""):
            self.hub.extra_names = [name]
            self.failing("a name that could lead outside of its folder; nothing was fetched", "--all")
        self.assertEqual(self.hub.asked("resolve"), [])
        self.assertEqual(os.listdir(self.folder), [])

    def test_hostile_hashes(self):
        listing = {"sha": self.commit, "siblings": [
            {"rfilename": n, "size": 1, "blobId": "../" + "a" * 37, "lfs": {"sha256": "/" * 64, "size": 1}}
            for n in ("config.json", "model.safetensors")]}
        self.hub.fault("/api/", answers(200, body=listing))
        self.hub.etags["config.json"] = "../../x"
        self.failing("no usable ETag")
        self.hub.fault("/api/", answers(200, body={**listing, "sha": "../../../x"}))
        self.failing("names no commit")

    def test_hostile_modules(self):
        for text in (b"{}", b"[1]", b"[", b'[{"path": "../../.."}]', b'[{"path": 7, "type": "x.Transformer"}]'):
            self.files["modules.json"] = text
            self.hub.add("org/model", self.files)
            code, out, err = self.run_pull("--no-check", "org/model")
            self.assertIn(code, (0, 1), err)
            self.assertIn("modules.json", err)


class Bodies(Faults):
    def test_resets(self):
        """Each goes on from where it was cut: 1.2 MB of progress make the count of tries begin anew."""
        self.hub.fault("/store/", reset_after(1200000), 2)
        err = self.pull("--retries", "1")
        self.assertEqual([r if not r else r.split("=")[1] != "0-" for r in self.ranges()], [None, True, True])
        self.assertIn("try 2 of 2", err)

    def test_truncated(self):
        self.hub.fault("/store/", ends_after(1000))
        self.hub.fault("vocab.txt", ends_after(10))
        self.pull()
        self.assertIn("bytes=1000-", self.ranges())

    def test_no_progress(self):
        self.hub.fault("/store/", reset_after(1000), None)
        self.failing("model.safetensors from 127.0.0.1: ", "--retries", "2")
        self.assertEqual(len(self.ranges()), 3)
        size = list(self.unfinished().values())
        self.assertEqual(len(size), 1)
        self.assertGreater(size[0], 0)
        self.hub.faults.clear()
        self.hub.forget()
        err = self.pull()
        self.assertEqual(self.ranges(), ["bytes=%d-" % size[0]])
        self.assertIn("model.safetensors: going on at %.1f kB of 3.1 MB" % (size[0] / 1000), err)

    def test_stall(self):
        self.hub.fault("/store/", drips)
        err = self.pull("--timeout", "1")
        self.assertRegex(err, "model.safetensors from 127.0.0.1: .*(slow|Less than).*; try 2 of 6")
        self.assertEqual(len(self.ranges()), 2)

    def test_damaged_once(self):
        self.hub.fault("/store/", damages)
        self.hub.fault("vocab.txt", damages)
        err = self.pull()
        self.assertRegex(err, r"model.safetensors came damaged: its SHA-256 is \w{64}, the hub says \w{64}; try 2")
        self.assertRegex(err, r"vocab.txt came damaged: its git hash is \w{40}, the hub says \w{40}; try 2")
        self.assertEqual(self.ranges(), [None, None])

    def test_damaged_always(self):
        self.hub.fault("/store/", damages, None)
        self.failing(r"model.safetensors came damaged: its SHA-256 is \w{64}, the hub says \w{64}\n$")
        self.assertEqual(len(self.ranges()), 2)
        self.assertEqual(self.unfinished(), {})

    def test_damaged_copy(self):
        """What was left from an earlier run is not what the hub has: found at the end, fetched anew."""
        folder = os.path.join(self.cache, "models--org--model", "blobs")
        os.makedirs(folder)
        name = hashlib.sha256(self.files["model.safetensors"]).hexdigest() + ".incomplete"
        for data in (noise(1 << 20, 7), noise(BIG, 7), noise(BIG + 5, 7)):
            shutil.rmtree(os.path.join(self.cache, "models--org--model", "snapshots"), ignore_errors=True)
            for blob in os.listdir(folder):
                os.remove(os.path.join(folder, blob))
            with open(os.path.join(folder, name), "wb") as f:
                f.write(data)
            self.pull()

    def test_complete_copy(self):
        """Killed between the last byte and the name: nothing is fetched again."""
        folder = os.path.join(self.cache, "models--org--model", "blobs")
        os.makedirs(folder)
        with open(os.path.join(folder, hashlib.sha256(self.files["model.safetensors"]).hexdigest() + ".incomplete"), "wb") as f:
            f.write(self.files["model.safetensors"])
        self.pull()
        self.assertEqual(self.ranges(), [])

    def resume_from(self, count):
        folder = os.path.join(self.cache, "models--org--model", "blobs")
        os.makedirs(folder)
        with open(os.path.join(folder, hashlib.sha256(self.files["model.safetensors"]).hexdigest() + ".incomplete"), "wb") as f:
            f.write(self.files["model.safetensors"][:count])

    def test_range_ignored(self):
        self.resume_from(1000)
        self.hub.fault("/store/", ignores_range)
        self.pull()
        self.assertEqual(self.ranges(), ["bytes=1000-"])

    def test_range_refused(self):
        self.resume_from(1000)
        self.hub.fault("/store/", answers(416))
        self.pull()
        self.assertEqual(self.ranges(), ["bytes=1000-", None])

    def test_another_range(self):
        self.resume_from(1000)
        self.hub.fault("/store/", wrong_range)
        self.pull()
        self.assertEqual(self.ranges(), ["bytes=1000-", None])

    def test_too_much(self):
        self.hub.fault("/store/", too_much)
        self.assertIn("the server sent another part than was asked for, or too much", self.pull())

    def test_changed_meanwhile(self):
        """Opaque etags cannot be checked at the end; If-Range and the etag of the answer guard them."""
        self.hub.lists_blobs = False
        self.hub.etags["vocab.txt"] = "first"

        def changes(h):
            h.hub.etags["vocab.txt"] = "second"
            return False
        self.hub.fault("vocab.txt", changes, method="GET")
        self.assertIn("vocab.txt changed while it was fetched", self.pull())
        self.assertIn("second", self.blobs())
        folder = os.path.join(self.cache, "models--org--model", "blobs")
        shutil.rmtree(self.cache)
        os.makedirs(folder)
        with open(os.path.join(folder, "second.incomplete"), "wb") as f:
            f.write(self.files["vocab.txt"][:100])
        self.hub.forget()
        self.pull()
        asked = self.hub.asked("vocab.txt", "GET")
        self.assertEqual([(r.headers["Range"], r.headers["If-Range"]) for r in asked], [("bytes=100-", '"second"')])

    def test_new_etag_between_runs(self):
        self.hub.fault("/store/", reset_after(1 << 20), None)
        self.failing("model.safetensors", "--retries", "0")
        self.files["model.safetensors"] = noise(BIG, 9)
        self.commit = self.hub.add("org/model", self.files)
        self.hub.faults.clear()
        self.hub.forget()
        code, out, err = self.run_pull("--no-check", "org/model")
        self.assertEqual(code, 0, err)
        self.assertEqual(self.ranges(), [None])

    def test_compressed_all_the_same(self):
        def act(h):
            h.send_response(200)
            h.send_header("Content-Encoding", "gzip")
            h.send_header("Content-Length", "5")
            h.end_headers()
            h.wfile.write(b"abcde")
            return True
        self.hub.fault("vocab.txt", act)
        self.failing("vocab.txt: the server compressed it although that was declined")


class Redirects(Faults):
    def test_loop(self):
        self.hub.fault("vocab.txt", redirects(lambda h: h.path), None)
        self.failing("the hub redirects more than 10 times: a loop")

    def test_nowhere(self):
        for where in ("file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "", "javascript:1", "x" * 9000):
            self.hub.fault("vocab.txt", redirects(where))
            self.failing("the hub redirects to something that is not a web address")

    def test_relative(self):
        """A renamed repository."""
        self.hub.fault("^/api/models/old/name/", redirects(lambda h: h.path.replace("old/name", "org/model")), None)
        self.hub.fault("^/old/name/resolve", redirects(
            lambda h: "../" * (h.path.count("/") - 1) + h.path.replace("/old/name", "org/model")), None)
        code, out, err = self.run_pull("--no-check", "old/name", env={"HF_TOKEN": self.hub.token})
        self.assertEqual(code, 0, err)
        self.assertEqual({r.headers.get("Authorization") for r in self.hub.asked(place="hub")}, {"Bearer " + self.hub.token})

    def test_the_token_stays_at_the_hub(self):
        """Other ports, other names of the same address and ways back: only the hub's own origin gets it."""
        other = hub_server.Hub()
        self.addCleanup(other.close)
        other.add("org/model", self.files)
        by_name = self.hub.url.replace("127.0.0.1", "localhost")
        self.hub.fault("vocab.txt", redirects(lambda h: other.url + h.path))
        self.hub.fault("tokenizer_config", redirects(lambda h: by_name + h.path))
        other.fault("vocab.txt", redirects(lambda h: self.hub.url + h.path))
        self.pull(env={"HF_TOKEN": self.hub.token})
        self.assertEqual([r.headers.get("Authorization") for r in other.asked()], [None])
        self.assertEqual([r.headers.get("Authorization") for r in self.hub.asked("tokenizer_config")],
                         ["Bearer " + self.hub.token, None])
        self.assertEqual([r.headers.get("Authorization") for r in self.hub.asked("vocab.txt")], 2 * ["Bearer " + self.hub.token])
        self.assertEqual({r.headers.get("Authorization") for r in self.hub.asked(place="store")}, {None})

    def test_tls(self):
        """Certificates are checked, and https is not left for http."""
        key, certificate = os.path.join(self.folder, "key.pem"), os.path.join(self.folder, "cert.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
                        "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], check=True,
                       stderr=subprocess.DEVNULL)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server = hub_server.Server(("127.0.0.1", 0), type("Bound", (hub_server.Handler,), {"hub": self.hub}))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        url = "https://localhost:%d" % server.server_address[1]
        self.failing("the certificate of localhost is not trusted .*SSL_CERT_FILE", env={"HF_ENDPOINT": url})
        trusting = {"HF_ENDPOINT": url, "SSL_CERT_FILE": certificate}
        self.failing("redirects from https to plain http, which is refused", env=trusting)
        self.hub.repositories["org/model"].lfs = lambda path: False
        self.pull(env=trusting)
        self.pull("--offline")


class Proxies(Faults):
    def test_forward_proxy(self):
        proxy = Proxy()
        self.addCleanup(proxy.close)
        self.pull(env={"http_proxy": proxy.url})
        self.assertEqual(len(proxy.seen), len(self.hub.asked()))
        shutil.rmtree(self.cache)
        count = len(proxy.seen)
        self.pull(env={"http_proxy": proxy.url, "no_proxy": "127.0.0.1"})
        self.assertEqual(len(proxy.seen), count)

    def test_tunnel(self):
        """https goes through CONNECT: the proxy sees neither token nor path. No TLS server is needed to see that."""
        proxy = Proxy()
        self.addCleanup(proxy.close)
        self.failing("from 127.0.0.1: ", "--retries", "0", env={
            "https_proxy": proxy.url, "HF_TOKEN": self.hub.token, "HF_ENDPOINT": self.hub.url.replace("http:", "https:")})
        self.assertEqual(proxy.seen, [("CONNECT", self.hub.url[len("http://"):])])

    def test_no_proxy_there(self):
        self.failing("the list of files of org/model from 127.0.0.1: ", "--retries", "0",
                     env={"http_proxy": "http://127.0.0.1:9"})


class Disks(Faults):
    def test_file_size_limit(self):
        """As a full disk: the write fails, what is there stays, and it goes on when there is room."""
        limit = 2 << 20
        self.failing("writing .*: File too large", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        self.assertEqual(list(self.unfinished().values()), [limit])
        self.hub.forget()
        self.pull()
        self.assertEqual(self.ranges(), ["bytes=%d-" % limit])

    def test_full_disk(self):
        os.makedirs(self.cache)
        if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", self.cache],
                                               stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("needs the right to mount")
        self.addCleanup(subprocess.run, ["umount", self.cache], check=True)
        self.failing(r"3.1 MB are still to be fetched and \d.\d MB are free on the disk of")
        self.hub.lists_blobs = False  # then the size is known when the file comes, or not at all
        self.failing("are free on the disk of|No space left on device")

    def test_something_in_the_way(self):
        with open(self.cache, "w"):
            pass
        self.failing("making the directory .*cache: File exists")
        os.remove(self.cache)
        os.makedirs(os.path.join(self.cache, "models--org--model", "snapshots", self.commit, "vocab.txt"))
        self.failing("vocab.txt: Is a directory")

    def test_no_permission(self):
        if os.geteuid() == 0:
            self.skipTest("root may write everywhere")
        os.makedirs(self.cache, 0o500)
        self.failing("Permission denied")


class Processes(Faults):
    def held(self):
        """The weights stop after a mebibyte until the event is set."""
        event = threading.Event()
        self.addCleanup(event.set)
        self.hub.fault("/store/", waits_for(event, 1 << 20))
        return event

    def wait_for_mebibyte(self):
        until(lambda: 1 << 20 in self.unfinished().values(), "a mebibyte")

    def test_signals(self):
        for number, name in ((signal.SIGINT, "SIGINT"), (signal.SIGTERM, "SIGTERM")):
            shutil.rmtree(self.cache, ignore_errors=True)
            event = self.held()
            p = self.start("--no-check", "org/model")
            self.wait_for_mebibyte()
            p.send_signal(number)
            out, err = p.communicate(timeout=60)
            self.assertEqual(p.returncode, -number)
            self.assertIn("stopped by %s; what came is kept, and the same command goes on from there" % name, err.decode())
            self.assertEqual(list(self.unfinished().values()), [1 << 20])
            event.set()
            self.hub.forget()
            self.pull()
            self.assertEqual(self.ranges(), ["bytes=%d-" % (1 << 20)])

    def test_kill(self):
        event = self.held()
        p = self.start("--no-check", "org/model")
        self.wait_for_mebibyte()
        p.kill()
        p.communicate(timeout=60)
        self.fails("is not in the cache", "org/model", "--offline")
        event.set()
        self.hub.forget()
        self.pull()
        self.assertEqual(self.ranges(), ["bytes=%d-" % (1 << 20)])

    def test_two_at_once(self):
        event = self.held()
        first = self.start("--no-check", "org/model")
        self.wait_for_mebibyte()
        second = self.start("--no-check", "org/model")
        line = second.stderr.readline()
        while b"another process is fetching model.safetensors; waiting for it" not in line:
            self.assertTrue(line)
            line = second.stderr.readline()
        event.set()
        for p in (first, second):
            out, err = p.communicate(timeout=60)
            self.assertEqual(p.returncode, 0, err)
        self.assertEqual(len(self.ranges()), 1)
        self.pull()

    def test_the_other_one_dies(self):
        event = self.held()
        first = self.start("--no-check", "org/model")
        self.wait_for_mebibyte()
        second = self.start("--no-check", "org/model")
        until(lambda: len(self.hub.asked("/api/")) == 2, "the second")
        first.kill()
        first.communicate()
        event.set()
        out, err = second.communicate(timeout=60)
        self.assertEqual(second.returncode, 0, err)
        self.assertEqual(self.ranges(), [None, "bytes=%d-" % (1 << 20)])

    def test_many_at_once(self):
        processes = [self.start("--no-check", "org/model") for _ in range(6)]
        for p in processes:
            out, err = p.communicate(timeout=120)
            self.assertEqual(p.returncode, 0, err)
        self.assertEqual(len(self.ranges()), 1)
        self.pull()


if __name__ == "__main__":
    unittest.main()
