"""embedd serve with several models: fetched when named, unloaded for one another, bounded; a cache warmed from outside."""
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
for folder in ("support", "hub"):
    sys.path.insert(0, os.path.join(TESTS, folder))
from service import PROGRAM, Service, clean_environment, until  # noqa: E402
from hub_server import Hub, answers  # noqa: E402

SMALL = os.path.join(TESTS, "data", "models")


def files_of(model):
    top, files = os.path.join(SMALL, model), {}
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as f:
                files[os.path.relpath(path, top)] = f.read()
    return files


def embed(service, text, model, **more):
    return service.post("/v1/embeddings", {"input": text, "model": model, "encoding_format": "float", **more})


def metric(service, name):
    """The values of a family: {labels: value}."""
    text = service.get("/metrics")[2].decode()
    return {line[len(name):].rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
            for line in text.splitlines() if line.startswith((name + " ", name + "{"))}


class Pull(unittest.TestCase):
    def serve(self, hub, **env):
        settings = {"EMBEDD_PULL": "true", "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": None, "HF_TOKEN": hub.token}
        settings.update(env)
        s = Service(env=settings, ready=False)
        self.addCleanup(s.close)
        return s

    def test_a_model_that_a_request_names(self):
        with Hub() as hub:
            commit = hub.add("acme/tiny", files_of("bert"))
            home = os.path.join(self.folder(), "hf")
            s = self.serve(hub, HF_HOME=home).wait_ready()
            answers = []
            threads = [threading.Thread(target=lambda: answers.append(embed(s, "hello", "acme/tiny"))) for _ in range(4)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertEqual([a[0] for a in answers], [200] * 4, answers)
            self.assertEqual(len({tuple(a[2]["data"][0]["embedding"]) for a in answers}), 1)
            self.assertEqual(answers[0][2]["model"], "acme/tiny")
            self.assertIn("local/acme/tiny@" + commit[:12], answers[0][1]["x-embedd-space"])
            self.assertEqual(len(hub.asked("/config.json$", method="GET")), 2)  # of the model and of its pooling, once
            self.assertTrue(os.path.exists(os.path.join(home, "hub/models--acme--tiny/snapshots", commit)))
            for _ in range(3):
                status, _, body = embed(s, "hello", "acme/absent")
                self.assertEqual((status, body["error"]["param"]), (404, "model"), body)
            self.assertEqual(len(hub.asked("/api/models/acme/absent")), 1)
            self.assertEqual(embed(s, "hello", "absent")[0], 404)
            self.assertEqual(embed(s, "hello", "/etc")[0], 404)
            self.assertEqual(embed(s, "hello", "../../etc")[0], 404)

    def test_the_default_model(self):
        """It is fetched while the service listens already, and is ready after that."""
        with Hub() as hub:
            hub.add("acme/tiny", files_of("bert"))
            s = self.serve(hub, HF_HOME=os.path.join(self.folder(), "hf"), LOCAL_EMBEDDING_MODEL="acme/tiny").wait_ready()
            status, _, body = s.post("/v1/embeddings", {"input": "hello"})
            self.assertEqual((status, body["model"]), (200, "acme/tiny"), body)

    def test_the_default_model_once_the_hub_answers(self):
        with Hub() as hub:
            hub.add("acme/tiny", files_of("bert"))
            hub.fault("/api/models", answers(503), times=8)
            s = self.serve(hub, HF_HOME=os.path.join(self.folder(), "hf"), LOCAL_EMBEDDING_MODEL="acme/tiny")
            s.wait_log("listening")
            self.assertEqual(s.get("/ready")[0], 503)
            s.wait_log("a model could not be loaded and will be tried again")
            s.wait_ready()

    def test_only_what_is_allowed(self):
        with Hub() as hub:
            hub.add("acme/tiny", files_of("bert"))
            s = self.serve(hub, HF_HOME=os.path.join(self.folder(), "hf"), EMBEDD_ALLOWED_MODELS="acme/other*").wait_ready()
            status, _, body = embed(s, "hello", "acme/tiny")
            self.assertEqual(status, 404)
            self.assertIn("models.allowed", body["error"]["message"])
            self.assertEqual(hub.asked("acme"), [])

    def folder(self):
        folder = tempfile.mkdtemp(prefix="embedd-serve-models-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        return folder


class Several(unittest.TestCase):
    def test_models_make_room_for_one_another(self):
        names = ["red", "green", "blue", "white"]
        folder = tempfile.mkdtemp(prefix="embedd-serve-models-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        for name in names:
            shutil.copytree(os.path.join(SMALL, "bert"), os.path.join(folder, name))
        os.unlink(os.path.join(shutil.copytree(os.path.join(SMALL, "bert"), os.path.join(folder, "broken")), "vocab.txt"))
        models = folder + ":" + os.path.join(os.path.dirname(TESTS), "models")
        with Service(env={"EMBEDD_MODELS": models, "EMBEDD_MODEL_MEMORY": "1"}) as s:  # one beside the default
            first = {}
            for name in names * 3:
                status, _, body = embed(s, "hello " + name, name)
                self.assertEqual((status, body.get("model")), (200, name), body)
                vector = body["data"][0]["embedding"]
                self.assertEqual(first.setdefault(name, vector), vector)
                s.post("/v1/embeddings", {"input": "the default stays"})
                self.assertLessEqual(metric(s, "embedd_models_loaded")[""], 2)
            self.assertGreaterEqual(metric(s, "embedd_model_loads_total")['{model="all",result="unloaded"}'], 3)
            status, _, body = embed(s, "hello", "broken")
            self.assertEqual((status, body["error"]["param"]), (503, "model"), body)
            self.assertIn("the model broken cannot be opened: ", body["error"]["message"])
            errors = []

            def ask(offset):
                for i in range(12):
                    name = names[(i + offset) % 4]
                    status, _, body = embed(s, "hello " + name, name)
                    if status != 200 or body["data"][0]["embedding"] != first[name]:
                        errors.append((status, body))

            threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertEqual(errors, [])
            self.assertEqual(s.stop(), 0)


class Warmed(unittest.TestCase):
    def test_from_outside_while_it_runs(self):
        with Service() as s:
            data = os.path.join(s.folder, "data")
            env = clean_environment({"EMBEDD_DATA_DIR": data})
            p = subprocess.run([PROGRAM, "warm", "finance"], env=env, cwd=s.folder, capture_output=True, timeout=120)
            self.assertEqual(p.returncode, 0, p.stderr)
            status, headers, _ = s.post("/v1/embeddings", {"input": ["Roth IRA", "yield curve"]})
            self.assertEqual((status, headers["x-embedd-cached"]), (200, "2"))
            self.assertEqual(metric(s, "embedd_cache_hits_total")['{tier="l2"}'], 2)

    def test_at_start(self):
        with Service(env={"EMBEDD_WARM": "finance"}) as s:
            self.assertEqual(s.wait_log("list embedded")["texts"], 255)
            _, headers, _ = s.post("/v1/embeddings", {"input": "compound interest"})
            self.assertEqual(headers["x-embedd-cached"], "1")


if __name__ == "__main__":
    unittest.main()
