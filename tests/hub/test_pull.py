"""embedd pull as it should go: what is fetched, where it goes, what is asked of the hub, what is printed."""
import os
import shutil
import stat
import subprocess
import tempfile
import unittest

from harness import Case, PROGRAM, model, noise
from hub_server import answers, git_hash


class Fetching(Case):
    def test_layout(self):
        files = model()
        commit = self.hub.add("org/model", files)
        snapshot = self.good("org/model")
        self.assertEqual(snapshot, os.path.join(self.cache, "models--org--model", "snapshots", commit))
        self.assert_files(snapshot, files)
        with open(os.path.join(self.cache, "models--org--model", "refs", "main")) as f:
            self.assertEqual(f.read(), commit)
        self.assertEqual(os.readlink(os.path.join(snapshot, "config.json")), "../../blobs/" + git_hash(files["config.json"]))
        self.assertTrue(os.readlink(os.path.join(snapshot, "1_Pooling/config.json")).startswith("../../../blobs/"))
        self.assertEqual(self.unfinished(), {})
        self.assertTrue(os.path.isfile(os.path.join(self.cache, "CACHEDIR.TAG")))

    def test_only_what_is_needed(self):
        files = model()
        more = {"pytorch_model.bin": b"x", "onnx/model.onnx": b"x", "openvino/openvino_model.xml": b"x", "tf_model.h5": b"x",
                "flax_model.msgpack": b"x", "model.gguf": b"x", "1_Pooling/notes.bin": b"x", "rust_model.ot": b"x",
                "model.fp16.safetensors": b"x", ".gitattributes": b"x", "train.py": b"x"}
        also = {"README.md": b"# model", "LICENSE": b"Apache", "special_tokens_map.json": b"{}"}
        self.hub.add("org/model", {**files, **more, **also})
        self.assert_files(self.good("org/model"), {**files, **also})
        snapshot = self.good("org/model", "--include", "onnx/*,*.py")
        self.assert_files(snapshot, {**files, **also, "onnx/model.onnx": b"x", "train.py": b"x"})
        self.assert_files(self.good("org/model", "--all"), {**files, **more, **also})

    def test_shards_and_folders_of_modules(self):
        files = model("bert-sharded")
        self.hub.add("org/model", {**files, "0_Transformer/pytorch_model.bin": b"x", "2_Other/config.json": b"{}"})
        self.assert_files(self.good("org/model"), files)
        files = model("bert")
        both = {**files, "model.safetensors.index.json": b"{}", "model-00001-of-00001.safetensors": b"x"}
        self.hub.add("org/both", both)
        self.assert_files(self.good("org/both"), files)

    def test_no_safetensors(self):
        files = model()
        weights = files.pop("model.safetensors")
        self.hub.add("org/model", {**files, "pytorch_model.bin": weights, "onnx/model.onnx": b"x"})
        self.fails(r"org/model has no safetensors weights \(it has onnx/model.onnx, pytorch_model.bin\)", "org/model")
        self.assertEqual(len(self.hub.asked("resolve")), 1)  # modules.json
        self.hub.add("org/empty", {"README.md": b"x"})
        self.fails("org/empty has no safetensors weights; embedd reads no others", "org/empty")
        files = model()
        files["modules.json"] = files["modules.json"].replace(b"]", b""",
            {"idx": 9, "name": "9", "path": "9_Dense", "type": "sentence_transformers.models.Dense"}]""")
        self.hub.add("org/dense", {**files, "9_Dense/config.json": b"{}", "9_Dense/pytorch_model.bin": b"x"})
        self.fails("org/dense has no safetensors weights in 9_Dense", "org/dense")
        files = model()
        del files["config.json"]
        self.hub.add("org/bare", files)
        self.fails("org/bare has no config.json", "org/bare")

    def test_known_names(self):
        self.hub.add("BAAI/bge-small-en-v1.5", model())
        snapshot = self.good("bge-small-en-v1.5")
        self.assertIn("models--BAAI--bge-small-en-v1.5", snapshot)
        self.assertEqual(self.good("baai/BGE-small-en-v1.5"), snapshot)
        self.fails("text-embedding-3-small runs at openai and cannot be downloaded", "text-embedding-3-small")

    def test_found_afterwards(self):
        self.hub.add("BAAI/bge-small-en-v1.5", model())
        code, out, err = self.run_pull("BAAI/bge-small-en-v1.5")
        self.assertEqual(code, 0, err)
        self.assertRegex(out, r"^BAAI/bge-small-en-v1.5 at commit \w{12}: 6 files, 35\d\.\d kB; fetched 6, 35\d\.\d kB in ")
        self.assertIn("can be run: bert, ", out)
        self.assertIn('\n  embedd embed --model bge-small-en-v1.5 "hello world"\n', out)
        self.assertRegex(err, r"(?m)^embedd pull: model.safetensors: complete, 357.0 kB$")
        p = subprocess.run([PROGRAM, "embed", "--model", "bge-small-en-v1.5", "hello"], env=self.environment(),
                           stdout=subprocess.PIPE, cwd=self.folder)
        self.assertEqual(p.returncode, 0)
        code, out, _ = self.run_pull("BAAI/bge-small-en-v1.5", "--cache-dir", os.path.join(self.folder, "elsewhere"))
        self.assertIn("embedd embed --model " + self.folder + "/elsewhere/models--BAAI", out)

    def test_cannot_be_run(self):
        files = model()
        files["config.json"] = files["config.json"].replace(b'"bert"', b'"llama"')
        self.hub.add("org/model", files)
        err = self.fails("org/model is complete and cannot be run: .*llama", "org/model")
        self.assertEqual(self.run_pull("org/model", "--no-check")[0], 0)

    def test_second_time(self):
        self.hub.add("org/model", model())
        snapshot = self.good("org/model")
        self.hub.forget()
        code, out, _ = self.run_pull("org/model")
        self.assertEqual(code, 0)
        self.assertIn("all of it was here", out)
        self.assertEqual(len(self.hub.requests), 1)
        os.remove(os.path.join(snapshot, "vocab.txt"))  # the link: the blob is still there
        self.assert_files(self.good("org/model"), model())
        self.assertEqual(len(self.hub.requests), 2)
        blob = os.path.realpath(os.path.join(snapshot, "vocab.txt"))
        with open(blob, "r+b") as f:
            f.truncate(10)
        self.assert_files(self.good("org/model"), model())
        self.assertEqual(len(self.hub.asked("resolve")), 1)

    def test_new_commit_shares_blobs(self):
        old, new = model(), model()
        new["README.md"] = b"# new"
        self.hub.add("org/model", old)
        first = self.good("org/model")
        self.hub.add("org/model", new)
        self.hub.forget()
        second = self.good("org/model")
        self.assertNotEqual(first, second)
        self.assert_files(first, old)
        self.assert_files(second, new)
        self.assertEqual([r.path.rsplit("/", 1)[1] for r in self.hub.asked("resolve")], ["README.md"])

    def test_several_at_once(self):
        self.hub.add("org/one", model())
        self.hub.add("org/two", model("distilbert"))
        code, out, err = self.run_pull("--quiet", "org/one", "org/none", "org/two")
        self.assertEqual(code, 1)
        self.assertEqual(len(out.splitlines()), 2)
        self.assertIn("org/none", err)

    def test_empty_and_odd_files(self):
        files = {**model(), "added_tokens.json": b"{}", "empty file+ä.txt": b"", "a/b c/d%20e.json": b"1"}
        self.hub.add("org/model", files)
        self.assert_files(self.good("org/model", "--all"), files)

    def test_without_hashes_in_the_listing(self):
        """Mirrors list names alone: HEAD says the rest."""
        self.hub.lists_blobs = False
        self.hub.add("org/model", model())
        self.assert_files(self.good("org/model"), model())
        self.assertEqual(len(self.hub.asked("resolve", "HEAD")), len(model()))
        self.assertEqual(len(self.hub.asked("", "HEAD", "store")), 0)
        self.hub.forget()
        self.good("org/model")
        self.assertEqual(len(self.hub.requests), 1)

    def test_weak_and_foreign_etags(self):
        self.hub.lists_blobs = False
        self.hub.etags["vocab.txt"] = "5f3a-mtime"
        self.hub.add("org/model", model())
        self.assert_files(self.good("org/model"), model())
        self.assertIn("5f3a-mtime", self.blobs())
        self.hub.etags["config.json"] = "../../evil"
        self.hub.add("org/other", model())
        self.fails("no usable ETag", "org/other")

    def test_many_files(self):
        files = {**model(), **{"data/%03d.txt" % i: b"%d" % i * 100 for i in range(300)}}
        self.hub.add("org/model", files)
        self.assert_files(self.good("org/model", "--all", "--parallel", "16"), files)

    def test_copies_where_links_are_off(self):
        self.hub.add("org/model", model())
        snapshot = self.good("org/model", env={"HF_HUB_DISABLE_SYMLINKS": "1"})
        self.assert_files(snapshot, model())
        self.assertFalse(os.path.islink(os.path.join(snapshot, "config.json")))
        self.hub.forget()
        self.good("org/model", env={"HF_HUB_DISABLE_SYMLINKS": "1"})
        self.assertEqual(len(self.hub.requests), 1)


    def test_copies_where_no_link_can_be(self):
        """Blobs on another file system cannot be linked to, so snapshots hold copies."""
        other = "/dev/shm"
        if not os.path.isdir(other) or os.stat(other).st_dev == os.stat(self.folder).st_dev:
            self.skipTest("needs a second file system")
        blobs = tempfile.mkdtemp(prefix="embedd-hub-", dir=other)
        self.addCleanup(shutil.rmtree, blobs)
        os.makedirs(os.path.join(self.cache, "models--org--model"))
        os.symlink(blobs, os.path.join(self.cache, "models--org--model", "blobs"))
        self.hub.add("org/model", model())
        snapshot = self.good("org/model", env={"HF_HUB_DISABLE_SYMLINKS": "1"})
        self.assert_files(snapshot, model())
        for name in model():
            info = os.lstat(os.path.join(snapshot, name))
            self.assertEqual((stat.S_ISREG(info.st_mode), info.st_nlink), (True, 1))
        self.assertEqual(self.good("org/model", "--offline"), snapshot)


class Revisions(Case):
    def setUp(self):
        super().setUp()
        self.old = self.hub.add("org/model", {**model(), "README.md": b"old"}, ["v1", "refs/pr/3"])
        self.new = self.hub.add("org/model", {**model(), "README.md": b"new"})

    def test_branch_tag_commit(self):
        for revision, commit in (("main", self.new), ("v1", self.old), ("refs/pr/3", self.old), (self.old, self.old)):
            snapshot = self.good("org/model", "--revision", revision)
            self.assertTrue(snapshot.endswith(commit))
            reference = os.path.join(self.cache, "models--org--model", "refs", revision)
            self.assertEqual(os.path.isfile(reference), revision != commit)
        self.fails('org/model has no revision "v9"', "org/model", "--revision", "v9")
        for bad in ("../../x", "/abs", "a\\b", "a//b"):
            self.fails("the revision is not one", "org/model", "--revision", bad)

    def test_a_commit_that_is_here_asks_nobody(self):
        self.good("org/model", "--revision", self.old)
        self.hub.forget()
        self.good("org/model", "--revision", self.old)
        self.assertEqual(self.hub.requests, [])
        self.hub.close()
        self.good("org/model", "--revision", self.old)


class Offline(Case):
    def test_offline(self):
        commit = self.hub.add("org/model", model())
        self.fails(r"org/model at revision main is not in the cache .*offline", "org/model", "--offline")
        snapshot = self.good("org/model")
        self.hub.forget()
        self.assertEqual(self.good("org/model", "--offline"), snapshot)
        self.assertEqual(self.good("org/model", env={"HF_HUB_OFFLINE": "YES"}), snapshot)
        self.assertEqual(self.good("org/model", env={"TRANSFORMERS_OFFLINE": "1"}), snapshot)
        self.assertEqual(self.good("org/model", "--offline", "--revision", commit), snapshot)
        os.remove(os.path.join(snapshot, "vocab.txt"))
        self.fails(r"of org/model in the cache \S+ 1 file is missing \(vocab.txt\), and the hub is not asked",
                   "org/model", "--offline")
        self.assertEqual(self.hub.requests, [])
        self.assertIn("(the hub was not asked)", self.offline_summary())

    def offline_summary(self):
        self.good("org/model")
        return self.run_pull("org/model", "--offline")[1]

    def test_unlisted(self):
        """A snapshot that other software made, with no list of files beside it."""
        self.hub.add("org/model", model())
        snapshot = self.good("org/model")
        shutil.rmtree(os.path.join(self.cache, "models--org--model", ".embedd"))
        self.assertEqual(self.good("org/model", "--offline"), snapshot)
        os.remove(os.path.realpath(os.path.join(snapshot, "model.safetensors")))
        self.fails("no safetensors", "org/model", "--offline")

    def test_hub_away(self):
        self.hub.add("org/model", model())
        snapshot = self.good("org/model")
        self.hub.fault("api", answers(503), None)
        code, out, err = self.run_pull("org/model", "--retries", "1")
        self.assertEqual(code, 0, err)
        self.assertRegex(err, "the answer is 503.*; taking what is in the cache")
        self.hub.close()
        code, out, err = self.run_pull("org/model", "--retries", "0")
        self.assertEqual(code, 0, err)
        self.assertIn("taking what is in the cache", err)
        os.remove(os.path.join(snapshot, "vocab.txt"))
        self.fails("the list of files of org/model from 127.0.0.1: ", "org/model", "--retries", "0")


class Places(Case):
    def test_environment(self):
        self.hub.add("org/model", model())
        home = os.path.join(self.folder, "hf")
        for env, place in (({"HF_HUB_CACHE": None, "HF_HOME": home}, home + "/hub"),
                           ({"HF_HUB_CACHE": None, "HF_HOME": "~/tilde"}, self.folder + "/tilde/hub"),
                           ({"HF_HUB_CACHE": None, "HUGGINGFACE_HUB_CACHE": home + "2"}, home + "2"),
                           ({"HF_HUB_CACHE": None, "XDG_CACHE_HOME": home + "3"}, home + "3/huggingface/hub"),
                           ({"HF_HUB_CACHE": None}, self.folder + "/.cache/huggingface/hub")):
            self.assertTrue(self.good("org/model", env=env).startswith(place + "/models--org--model/"), env)
            p = subprocess.run([PROGRAM, "inspect", "org/model"], env=self.environment(env), stdout=subprocess.PIPE,
                               cwd=self.folder)
            self.assertEqual(p.returncode, 0, env)
        self.fails("say where models go with --cache-dir", "org/model", env={"HF_HUB_CACHE": None, "HOME": None})
        self.assertTrue(self.good("org/model", "--cache-dir", "here").startswith("here/"))

    def test_endpoint(self):
        self.hub.add("org/model", model())
        self.good("org/model", "--endpoint", self.hub.url + "//", env={"HF_ENDPOINT": "http://127.0.0.1:9"})
        for bad in ("ftp://x", "huggingface.co", "http://user:secret@host", "http://", "http://x?y"):
            err = self.fails("the hub's address", "org/model", "--endpoint", bad)
            self.assertNotIn("secret", err)

    def test_names(self):
        for bad in ("a/b/c", "../x", "org/..", ".x/y", "x/y.git", "x--y", "a b", "", "org/", "/model", "x" * 200):
            self.fails("is not the name of a model", bad)
        self.assertEqual(self.hub.requests, [])
        self.assertEqual(self.run_pull()[0], 2)
        self.assertEqual(self.run_pull("x", "--parallel", "0")[0], 2)

    def test_read_only_cache_that_is_complete(self):
        if os.geteuid() == 0:
            self.skipTest("root may write everywhere")
        self.hub.add("org/model", model())
        self.good("org/model")
        subprocess.run(["chmod", "-R", "a-w", self.cache], check=True)
        self.addCleanup(subprocess.run, ["chmod", "-R", "u+w", self.cache])
        self.good("org/model")


class Tokens(Case):
    def setUp(self):
        super().setUp()
        self.hub.add("org/model", model())
        self.hub.repositories["org/model"].private = True

    def sent(self):
        return {r.headers.get("Authorization") for r in self.hub.requests if r.place == "hub"}

    def test_where_tokens_come_from(self):
        token, path = self.hub.token, os.path.join(self.folder, "token")
        with open(path, "w") as f:
            f.write("  " + token + "\n")
        os.makedirs(os.path.join(self.folder, "home"))
        shutil.copy(path, os.path.join(self.folder, "home", "token"))
        for arguments, env in (([], {"HF_TOKEN": token}), ([], {"HF_TOKEN": token + "\n"}), (["--token", token], {}),
                               ([], {"HF_TOKEN_PATH": path}), ([], {"HF_HOME": os.path.join(self.folder, "home")}),
                               (["--token", token], {"HF_TOKEN": "wrong"})):
            shutil.rmtree(self.cache, ignore_errors=True)
            self.hub.forget()
            self.good("org/model", *arguments, env=env)
            self.assertEqual(self.sent(), {"Bearer " + token}, (arguments, env))
            self.assertEqual({r.headers.get("Authorization") for r in self.hub.requests if r.place == "store"}, {None})

    def test_refused(self):
        self.fails(r"there is no repository org/model at http\S+, or it is private and needs a token \(HF_TOKEN\)", "org/model")
        err = self.fails("the hub does not accept the access token", "org/model", env={"HF_TOKEN": "hf_wrong"})
        self.assertNotIn("hf_wrong", err)
        self.fails("there is no repository org/none at .*, or the token has no access to it", "org/none",
                   env={"HF_TOKEN": self.hub.token})
        self.fails("the access token holds characters", "org/model", env={"HF_TOKEN": "a\nInjected: header"})

    def test_gated(self):
        self.hub.repositories["org/model"].private = False
        self.hub.repositories["org/model"].gated = True
        self.fails(r"org/model is gated: Access to model org/model is restricted.. Accept its terms at \S+/org/model",
                   "org/model")
        self.good("org/model", env={"HF_TOKEN": self.hub.token})
        self.hub.fault("api", answers(403, None, "Access to this resource is disabled."), None)
        self.fails("the hub denies access to org/model: Access to this resource is disabled", "org/model")

    def test_not_found(self):
        self.hub.fault("api", answers(404, None, None, body={"error": "Sorry"}), None)
        self.fails(r"there is no repository org/none at \S+: Sorry", "org/none")
        self.fails(r"most names begin with an organisation", "none")


if __name__ == "__main__":
    unittest.main()
