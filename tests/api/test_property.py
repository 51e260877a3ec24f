"""The cache never lies: a random mix of hits, misses, duplicates, models, dimensions, prompts and encodings, by several
clients at once; each position of each answer equals a fresh vector of that text, bit for bit."""
import random
import threading
import unittest

import numpy

from case import MODEL, Case, rows

SEED = 20261121
CLIENTS, REQUESTS = 4, 60
WORDS = "gold oil bond yield rate bank cash euro yen stock merger dividend 日本 straße 🙂 naïve".split()
VARIANTS = [{}, {"dimensions": 64}, {"dimensions": 128}, {"input_type": "query"}, {"input_type": "document"},
            {"normalize": False}, {"model": MODEL}, {"model": "sentence-transformers/" + MODEL}, {"truncate": "start"}]
# what makes vectors differ; the model by another name does not
CLASSES = [{}, {"dimensions": 64}, {"dimensions": 128}, {"normalize": False}]


def texts_of(rng, count):
    return [" ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 12))) for _ in range(count)]


def class_of(variant):
    return next(i for i, c in reversed(list(enumerate(CLASSES))) if all(variant.get(k) == v for k, v in c.items()))


class Property(Case):
    # a small first level, so that entries come and go, and SQLite behind it
    ENV = {"EMBEDDING_L1_CACHE_SIZE": "60", "EMBEDD_CACHE_URL": "sqlite:cache.db", "EMBEDD_CACHE_STORE_TEXT": "true"}

    def ask_once(self, rng, pool):
        """A request in one of several languages: (class, texts, vectors)."""
        variant = rng.choice(VARIANTS)
        texts = [rng.choice(pool) for _ in range(rng.choice((1, 1, 2, 5, 20, 70)))]
        headers = {"cache-control": rng.choice(("no-cache", "no-store", "max-age=1", "x"))} if rng.random() < 0.3 else {}
        language = rng.randrange(4)
        if language == 0 and not {"input_type", "normalize"} & set(variant):
            body = dict({"model": MODEL, "input": texts}, **variant)
            status, _, answer = self.service.post("/api/embed", body, headers=headers)
            got = answer.get("embeddings")
        elif language == 1 and "dimensions" not in variant and "input_type" not in variant:
            body = dict({"input_type": "clustering", "texts": texts, "embedding_types": ["float", "base64"]}, **variant)
            status, _, answer = self.service.post("/v2/embed", body, headers=headers)
            self.assertEqual(status, 200, answer)
            numpy.testing.assert_array_equal(rows(answer["embeddings"]["float"]), rows(answer["embeddings"]["base64"]))
            got = answer["embeddings"]["base64"]
        else:
            body = dict({"input": texts, "encoding_format": rng.choice(("float", "base64", None))}, **variant)
            status, _, answer = self.service.post("/v1/embeddings", body, headers=headers)
            self.assertEqual(status, 200, answer)
            got = [d["embedding"] for d in answer["data"]]
        self.assertEqual(status, 200, answer)
        return class_of(variant), texts, rows(got)

    def fresh(self, texts, variant):
        """Computed anew, one at a time, so that nothing can be mixed up."""
        out = {}
        for text in texts:
            status, headers, answer = self.service.post("/v1/embeddings", dict({"input": text}, **variant),
                                                        headers={"cache-control": "no-cache, no-store"})
            self.assertEqual((status, headers["x-embedd-cached"]), (200, "0"))
            out[text] = rows([answer["data"][0]["embedding"]])[0]
        return out

    def test_each_position_equals_a_fresh_vector(self):
        pool = texts_of(random.Random(SEED), 120)
        # input_type has no effect with this model: it has no prompts
        want = [self.fresh(pool, c) for c in CLASSES]
        failures, cached = [], []

        def client(number):
            rng = random.Random(SEED + number)
            try:
                for _ in range(REQUESTS):
                    which, texts, got = self.ask_once(rng, pool)
                    if got.shape[0] != len(texts):
                        raise AssertionError("%d vectors for %d texts" % (got.shape[0], len(texts)))
                    for i, text in enumerate(texts):
                        if not numpy.array_equal(got[i], want[which][text]):
                            raise AssertionError("position %d of %d, %r in %r is not its vector" % (i, len(texts), text, CLASSES[which]))
            except BaseException as failure:  # noqa: B902: told by the main thread
                failures.append(failure)

        threads = [threading.Thread(target=client, args=(i,)) for i in range(CLIENTS)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if failures:
            raise failures[0]
        self.post("/v1/embeddings", {"input": pool[:40]})
        cached.append(int(self.headers["x-embedd-cached"]))
        self.assertGreater(cached[0], 30)  # the mix did use the cache


if __name__ == "__main__":
    unittest.main()
