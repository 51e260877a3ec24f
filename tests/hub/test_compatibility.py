"""One cache, two programs: embedd pull and Python's huggingface_hub, against the same hub."""
import os
import subprocess
import sys
import threading
import unittest

from harness import Case, PROGRAM, model, noise, until
from hub_server import waits_for

SNAPSHOT = """
import sys, huggingface_hub
print(huggingface_hub.snapshot_download(%r, revision=%r, local_files_only=%r, allow_patterns=%r))
"""


class Compatibility(Case):
    def python(self, code, env=None, fails=False):
        extra = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **(env or {})}
        p = subprocess.run([sys.executable, "-B", "-c", code], env=self.environment(extra), cwd=self.folder, timeout=120,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(p.returncode != 0, fails, p.stderr.decode())
        return p.stderr.decode() if fails else p.stdout.decode().strip()

    def snapshot(self, name="org/model", revision=None, local=False, patterns=None):
        return self.python(SNAPSHOT % (name, revision, local, patterns))

    def setUp(self):
        super().setUp()
        self.files = {**model(), "README.md": b"# model", "pytorch_model.bin": noise(100000)}
        self.ours = {k: v for k, v in self.files.items() if k != "pytorch_model.bin"}
        self.commit = self.hub.add("org/model", self.files, ["main", "v1"])

    def test_python_finds_ours(self):
        snapshot = self.good("org/model")
        self.hub.forget()
        self.assertEqual(self.snapshot(local=True), snapshot)
        self.assertEqual(self.snapshot(revision=self.commit, local=True), snapshot)
        self.assertEqual(self.python("import huggingface_hub as h; print(h.hf_hub_download('org/model', 'config.json', "
                                     "local_files_only=True))"), snapshot + "/config.json")
        self.assertEqual(self.python("import huggingface_hub as h; print(h.try_to_load_from_cache('org/model', "
                                     "'1_Pooling/config.json'))"), snapshot + "/1_Pooling/config.json")
        self.assertEqual(self.hub.requests, [])
        seen = self.python("import huggingface_hub as h; i = h.scan_cache_dir(); r, = i.repos; "
                           "print(r.repo_id, sorted(r.refs), r.nb_files, len(i.warnings))")
        self.assertEqual(seen, "org/model ['main'] %d 0" % len(self.ours))

    def test_python_goes_on_from_ours(self):
        """With everything asked for, only what embedd leaves out is fetched; and embedd is content with the result."""
        snapshot = self.good("org/model")
        self.hub.forget()
        self.assertEqual(self.snapshot(), snapshot)
        self.assertEqual([r.path for r in self.hub.asked("", "GET") if "/resolve/" in r.path and
                          not r.path.endswith("pytorch_model.bin")], [])
        self.assert_files(snapshot, self.files)
        self.hub.forget()
        self.assertEqual(self.good("org/model"), snapshot)
        self.assertEqual(len(self.hub.requests), 1)

    def test_we_find_pythons(self):
        snapshot = self.snapshot()
        self.hub.forget()
        self.assertEqual(self.good("org/model"), snapshot)
        self.assertEqual(len(self.hub.requests), 1)
        self.hub.forget()
        self.assertEqual(self.good("org/model", "--offline"), snapshot)
        self.assertEqual(self.good("org/model", "--revision", self.commit), snapshot)
        self.assertEqual(self.hub.requests, [])
        p = subprocess.run([PROGRAM, "inspect", "org/model"], env=self.environment(), stdout=subprocess.PIPE, cwd=self.folder)
        self.assertEqual(p.returncode, 0)

    def test_pythons_partial_snapshot(self):
        """transformers fetches single files; without the modules the vectors would be others."""
        self.python("import huggingface_hub as h\nfor f in ('config.json', 'model.safetensors', 'vocab.txt'): "
                    "h.hf_hub_download('org/model', f)")
        self.hub.forget()
        snapshot = self.good("org/model")
        self.assert_files(snapshot, self.ours)
        self.assertEqual(self.hub.asked("model.safetensors"), [])

    def test_pythons_list_of_files(self):
        """snapshot_download keeps the whole list: what is missing of it is known offline."""
        snapshot = self.snapshot(patterns=["*.json"])
        self.fails(r"of org/model in the cache \S+ 3 files are missing \(README.md, model.safetensors, vocab.txt\)",
                   "org/model", "--offline")
        self.assertEqual(self.good("org/model"), snapshot)
        self.assertEqual(self.good("org/model", "--offline"), snapshot)

    def test_revisions_of_both(self):
        ours = self.good("org/model", "--revision", "v1")
        self.assertEqual(self.snapshot(revision="v1", local=True), ours)
        newer = self.hub.add("org/model", {**self.files, "README.md": b"# newer"})
        self.assertTrue(self.snapshot().endswith(newer))
        self.assertTrue(self.good("org/model", "--offline").endswith(newer))
        self.assertTrue(self.good("org/model", "--offline", "--revision", "v1").endswith(self.commit))

    def test_at_the_same_time(self):
        """One of them holds the lock of the weights; the other waits and fetches nothing."""
        event = threading.Event()
        self.addCleanup(event.set)
        self.hub.fault("/store/", waits_for(event, 1000))
        p = self.start("--quiet", "org/model")
        until(lambda: 1000 in self.unfinished().values(), "the beginning of the weights")
        seen = []
        thread = threading.Thread(target=lambda: seen.append(self.snapshot()))
        thread.start()
        until(lambda: self.hub.asked("model.safetensors", "HEAD"), "Python to ask for the weights")
        event.set()
        out, err = p.communicate(timeout=60)
        thread.join(60)
        self.assertEqual((p.returncode, seen), (0, [out.decode().strip()]), err)
        self.assertEqual(len(self.hub.asked("", "GET", "store")), 1)

    def test_copies(self):
        snapshot = self.good("org/model", env={"HF_HUB_DISABLE_SYMLINKS": "1"})
        self.assertEqual(self.snapshot(local=True), snapshot)


if __name__ == "__main__":
    unittest.main()
