"""What every kind of remote provider must do when all goes well: the right vector at every position, limits kept,
connections used again, nothing in a request that a strict server refuses."""
import random
import time
import unittest

from driver import (BUDGET, CANCELLED, DEADLINE, DIMENSION, INVALID, KEY, KINDS, LIMIT, NUMBERED, OK, PROVIDER, SHORTENING,
                    SLACK, TELLING, Case, faults, for_each_kind, tokens, words)

UNICODE = ["Grüße", "日本語のテキスト", "e\u0301 combining", "👩‍👩‍👧‍👦 family", "עברית and العربية", "quote \" backslash \\ slash /",
           "line\nfeed\r\ttab", "control \u0001 \u001f", "nul \u0000 inside", "\uffff \U0010ffff", "\u2028\u2029", " leading",
           "trailing ", " ", "x", "</script>", "{\"input\": 1}", "ﬁ ligature", "\ufeffBOM", "a" * 20000]


class Conformance:
    def test_order(self):
        up, p = self.pair()
        texts = words(50)
        answer = self.right(p.embed(texts), texts)
        self.assertEqual(answer["attempts"], answer["parts"])
        self.assertEqual(up.calls, answer["parts"])
        self.assertEqual(answer["end"], "ok")
        self.state_is_idle(p)

    def test_one_text(self):
        _, p = self.pair()
        self.right(p.embed(["alone"]), ["alone"])

    def test_duplicates(self):
        _, p = self.pair()
        texts = ["a b", "c", "a b", "d", "c", "a b"]
        self.right(p.embed(texts), texts)
        self.right(p.embed(texts, max_batch_texts=2), texts)

    def test_unicode(self):
        up, p = self.pair()
        self.right(p.embed(UNICODE), UNICODE)
        self.assertEqual(sorted(up.texts()), sorted(UNICODE))  # to the last byte

    def test_empty_text(self):
        _, p = self.pair()
        texts = ["before", "", "after"]
        answer = p.embed(texts)
        if answer["status"] == OK:
            self.right(answer, texts)
        else:
            self.failed(answer, INVALID, LIMIT)

    def test_empty_text_that_the_provider_refuses(self):
        _, p = self.pair({"allow_empty": False})
        self.failed(p.embed(["before", "", "after"]), INVALID, LIMIT, PROVIDER)
        self.right(p.embed(["before"]), ["before"])

    # ---- splitting ----

    def test_split_by_count(self):
        up, p = self.pair(max_batch_texts=7)
        texts = words(50)
        answer = self.right(p.embed(texts), texts)
        self.assertEqual((answer["parts"], up.calls), (8, 8))
        self.assertLessEqual(max(len(r.texts) for r in up.embeddings()), 7)
        up.reset_record()
        answer = self.right(p.embed(texts, max_batch_texts=3), texts)  # the model's limit goes first
        self.assertLessEqual(max(len(r.texts) for r in up.embeddings()), 3)
        self.assertEqual(answer["parts"], 17)

    def test_split_by_tokens(self):
        up, p = self.pair(max_batch_tokens=100)
        texts = words(40)
        counts = [random.Random(i).randint(1, 60) for i in range(len(texts))]
        counts[11] = 250  # over the limit alone: goes alone
        by_text = dict(zip(texts, counts))
        self.right(p.embed(texts, token_counts=counts), texts)
        for r in up.embeddings():
            total = sum(by_text[t] for t in r.texts)
            self.assertTrue(total <= 100 or len(r.texts) == 1, "%d tokens in a call" % total)
        self.assertEqual(sorted(up.texts()), sorted(texts))
        self.assertLess(up.calls, len(texts))  # and they are filled

    def test_split_by_bytes(self):
        up, p = self.pair(max_body_bytes=4000)
        texts = ["%d %s" % (i, "\u0001ü\"" * (i * 7 % 90)) for i in range(60)]  # grow when they are escaped
        self.right(p.embed(texts), texts)
        self.assertLessEqual(max(r.size for r in up.embeddings()), 4000)
        self.assertLess(up.calls, len(texts))

    def test_own_limit(self):
        """Without a configured one, the kind's limit of texts is kept."""
        up, p = self.pair()
        texts = words(2100 if self.kind in ("openai", "azure", "embedd") else 300)
        self.right(p.embed(texts), texts)
        self.assertEqual({r.status for r in up.embeddings()}, {200})

    # ---- in parallel ----

    def test_concurrency(self):
        up, p = self.pair({"latency_s": 0.15}, concurrency=3, max_batch_texts=1)
        texts = words(30)
        start = time.monotonic()
        self.right(p.embed(texts), texts)
        took = time.monotonic() - start
        self.assertEqual(up.peak, 3)
        self.assertGreaterEqual(took, 0.15 * 10)
        self.assertLess(took, 0.15 * 30)  # what one after another would take

    def test_concurrency_of_callers(self):
        up, p = self.pair({"latency_s": 0.02}, concurrency=3, max_batch_texts=4)
        texts = words(16)
        answer = p.embed(texts, threads=8)
        for one in answer["results"]:
            self.right(one, texts)
        self.assertLessEqual(up.peak, 3)
        self.assertEqual(up.calls, 8 * 4)
        self.state_is_idle(p)

    def test_keep_alive(self):
        up, p = self.pair(concurrency=3)
        for i in range(10):
            self.right(p.embed(words(2, i)), words(2, i))
        self.assertEqual(up.connections, 1)
        up.latency_s = 0.02
        for i in range(3):
            self.right(p.embed(words(9), max_batch_texts=1), words(9))
        self.assertLessEqual(up.connections, 3)

    # ---- what is asked for ----

    def test_dimensions(self):
        up, p = self.pair()
        self.right(p.embed(["a", "b"]), ["a", "b"])
        for member in ("dimensions", "output_dimension"):
            self.assertNotIn(member, up.requests[-1].json)
        if self.kind not in SHORTENING:
            return
        self.right(p.embed(["a", "b"], dimensions=3, dimension=3), ["a", "b"], dimension=3)
        r = up.requests[-1]
        self.assertEqual(r.json.get("output_dimension" if self.kind == "cohere" else "dimensions"), 3)

    def test_another_dimension_than_expected(self):
        _, p = self.pair()
        self.failed(p.embed(["a"], dimension=DIMENSION - 2), PROVIDER)
        self.failed(p.embed(["a"], dimension=DIMENSION + 2), PROVIDER)
        self.right(p.embed(["a"]), ["a"])

    def test_request(self):
        """Headers as servers expect them, and no member that is null."""
        up, p = self.pair(headers={"X-Team": "search"}, user_agent="embedd/9.9")
        self.right(p.embed(["a"]), ["a"])
        r = up.requests[-1]
        self.assertEqual(r.headers["content-type"].split(";")[0], "application/json")
        self.assertEqual(r.headers["x-team"], "search")
        self.assertEqual(r.headers["user-agent"], "embedd/9.9")
        self.assertNotIn(None, r.json.values())
        self.assertNotIn("expect", r.headers)  # 100-continue costs a round trip
        self.assertNotIn(KEY, r.target)
        self.assertEqual(r.json.get("encoding_format", "float"), "base64" if self.kind in ("openai", "azure") else "float")

    def test_without_a_key(self):
        up = self.upstream(key=None)
        p = self.provider(up, api_key="")
        answer = p.embed(["a"])
        if answer["status"] == OK:
            self.right(answer, ["a"])
            self.assertNotIn("authorization", up.requests[-1].headers)

    def test_base_url_with_a_path(self):
        up = self.upstream()
        p = self.provider(up, base_url=up.base_url(self.kind) + "/")  # a slash too many is forgiven, or refused clearly
        answer = p.embed(["a"])
        if answer["status"] == OK:
            self.right(answer, ["a"])
            self.assertNotIn("//", up.requests[-1].path)

    def test_upstream_name(self):
        if self.kind in ("tei", "remote"):
            return  # they have one model
        up, p = self.pair({"models": {"real/name": DIMENSION} if self.kind == "huggingface" else {"real-name": DIMENSION}})
        name = next(iter(up.models))
        self.right(p.embed(["a"], model=name), ["a"], model=name)

    # ---- accounts ----

    def test_hooks(self):
        up, p = self.pair(max_batch_texts=4)
        texts = words(10)
        answer = self.right(p.embed(texts, token_counts=list(range(1, 11))), texts)
        hooks = answer["hooks"]
        self.assertEqual((hooks["before"], hooks["after"], hooks["tokens"]), (3, 3, 55))
        self.assertEqual(hooks["ends"], ["ok"] * 3)
        self.assertEqual(hooks["billed"], [True] * 3)
        self.assertEqual(hooks["statuses"], [200] * 3)

    def test_hook_refuses(self):
        up, p = self.pair(max_batch_texts=1, concurrency=1)
        self.failed(p.embed(words(4), refuse_after=0), BUDGET)
        self.assertEqual(up.calls, 0)
        self.failed(p.embed(words(6), refuse_after=2), BUDGET)
        self.assertLessEqual(up.calls, 2)
        self.right(p.embed(words(2)), words(2))
        self.state_is_idle(p)

    def test_usage(self):
        up, p = self.pair(max_batch_texts=3)
        texts = words(10)
        answer = self.right(p.embed(texts, token_counts=[7] * 10), texts)
        self.assertEqual(up.billed_tokens, sum(map(tokens, texts)))
        if self.kind in TELLING:
            self.assertTrue(answer["tokens_known"])
        self.assertEqual(answer["tokens"], up.billed_tokens if answer["tokens_known"] else 70)
        up.always(faults.no_usage)
        answer = self.right(p.embed(texts, token_counts=[7] * 10), texts)
        if not answer["tokens_known"]:
            self.assertEqual(answer["tokens"], 70)

    def test_state_and_metrics(self):
        _, p = self.pair()
        for i in range(3):
            self.right(p.embed(words(2)), words(2))
        state = self.state_is_idle(p)
        self.assertEqual((state["calls"], state["attempts"], state["retries"], state["failures"]), (3, 3, 0, 0))
        text = p.do("metrics")["text"]
        self.assertNotIn(KEY, text)

    def test_probe(self):
        up, p = self.pair({"dimension": 24})
        self.assertEqual(p.do("probe", model="m"), {"status": OK, "message": "", "where": "", "dimension": 24})
        self.assertEqual(up.calls, 1)

    # ---- ends ----

    def test_cancel(self):
        up, p = self.pair(max_batch_texts=1)
        up.always(faults.black_hole)
        answer = self.failed(p.embed(words(3), cancel_after_ms=150), CANCELLED)
        self.assertLess(answer["ms"], 150 + SLACK)
        self.assertEqual(set(answer["hooks"]["ends"]), {"cancelled"})
        up.script([])
        self.right(p.embed(words(3)), words(3))
        self.state_is_idle(p)

    def test_cancelled_before(self):
        up, p = self.pair()
        answer = p.embed(words(3), cancel_after_ms=0)
        if answer["status"] == OK:  # it was faster
            self.right(answer, words(3))
        else:
            self.failed(answer, CANCELLED)

    def test_deadline(self):
        up, p = self.pair()
        up.always(faults.black_hole)
        answer = self.failed(p.embed(words(3), timeout_ms=300), DEADLINE)
        self.assertGreaterEqual(answer["ms"], 250)
        self.assertLess(answer["ms"], 300 + SLACK)
        up.script([])
        self.right(p.embed(words(3)), words(3))

    def test_deadline_passed_while_waiting(self):
        """Callers that wait for their turn keep their deadlines too."""
        up, p = self.pair({"latency_s": 1.0}, concurrency=1, max_batch_texts=1)
        answer = p.embed(["a"], threads=6, timeout_ms=3000)  # two seconds for what the machine does beside it
        statuses = sorted(one["status"] for one in answer["results"])
        for one in answer["results"]:
            self.assertLess(one["ms"], 3000 + SLACK)
            self.right(one, ["a"]) if one["status"] == OK else self.failed(one, DEADLINE, 8)
        self.assertEqual(statuses[0], OK)
        self.assertNotEqual(statuses[-1], OK)
        self.state_is_idle(p)

    # ---- anything goes ----

    def test_random(self):
        """Random batches, limits and callers, rows in another order where they are numbered."""
        up, p = self.pair(concurrency=4)
        r = random.Random(self.kind)
        legal = [None, faults.chunked, faults.no_usage, faults.connection_close, faults.closed_after]
        if self.kind in NUMBERED:
            legal += [faults.shuffled, faults.floats_instead_of_base64]
        up.script(lambda _: r.choice(legal))
        for _ in range(25):
            pool = [r.choice(UNICODE[:12]) + str(r.randint(0, 9)) for _ in range(r.randint(1, 12))]
            texts = [r.choice(pool) for _ in range(r.randint(1, 60))]
            answer = p.embed(texts, max_batch_texts=r.choice([0, 1, 5, 16]), max_batch_tokens=r.choice([0, 40]),
                             threads=r.choice([1, 1, 3]))
            for one in answer.get("results", [answer]):
                self.right(one, texts)
        self.state_is_idle(p)


for_each_kind(Conformance, globals())


def token_ids(self):
    """Lists of token ids go out as they are, are split by their number and billed by it."""
    up, p = self.pair(max_batch_texts=3, max_body_bytes=4000)
    ids = [[(i * 7919 + k) % 100277 for k in range(1 + i * 5 % 60)] for i in range(20)]
    answer = p.embed([], ids=ids, token_counts=[len(one) for one in ids])
    self.right(answer, [tuple(one) for one in ids])
    self.assertEqual(answer["parts"], 7)
    self.assertEqual(sorted(t for r in up.embeddings() for t in r.ids), sorted(ids))
    self.assertEqual(up.billed_tokens, sum(map(len, ids)))
    self.assertEqual((answer["tokens"], answer["hooks"]["tokens"]), (up.billed_tokens, up.billed_tokens))
    self.assertLessEqual(max(r.size for r in up.embeddings()), 4000)
    self.failed(p.embed([], ids=[[5], list(range(2000))]), LIMIT)  # too long for a body
    up.spell = {(9906, 1917): "Hello world"}.get
    self.right(p.embed([], ids=[[9906, 1917]]), ["Hello world"])


def words_that_list_ids(self):
    """What a provider says is not repeated where it lists the ids, which are a text to who has the ranks."""
    up, p = self.pair(max_retries=0)
    up.always(faults.status(400, {"error": {"message": "cannot embed [9906, 1917, 318, 1296, 3] as input",
                                            "type": "invalid_request_error", "param": None, "code": None}}))
    answer = p.embed([], ids=[[9906, 1917, 318, 1296, 3]])
    self.assertNotEqual(answer["status"], OK)
    self.assertNotIn("1917", answer["message"])
    self.assertIn("9906", p.embed(["x"])["message"])  # of texts it is


class OpenAI(Case):
    kind = "openai"

    def test_floats_where_base64_is_off(self):
        up, p = self.pair(base64=False)
        self.right(p.embed(words(5)), words(5))
        self.assertIn(up.requests[-1].json.get("encoding_format", "float"), ("float",))

    def test_user(self):
        up, p = self.pair()
        self.right(p.embed(["a"], user="user-7"), ["a"])
        self.assertEqual(up.requests[-1].json["user"], "user-7")
        self.right(p.embed(["a"]), ["a"])
        self.assertNotIn("user", up.requests[-1].json)

    def test_real_sizes(self):
        up, p = self.pair()
        texts = words(2048)
        answer = p.embed(texts, model="text-embedding-3-small", dimension=1536)
        self.right(answer, texts, dimension=1536, model="text-embedding-3-small")

    def test_key(self):
        up, p = self.pair()
        self.right(p.embed(["a"]), ["a"])
        self.assertEqual(up.requests[-1].headers["authorization"], "Bearer " + KEY)

    test_token_ids = token_ids
    test_words_that_list_ids = words_that_list_ids

    def test_hedge(self):
        """A second attempt beside a slow first: the faster one answers, both are accounted for."""
        up, p = self.pair(hedge_ms=80)
        up.script([faults.black_hole])  # who waits for it is late by seconds
        answer = self.right(p.embed(["a"]), ["a"])
        self.assertLess(answer["ms"], 80 + SLACK)
        self.assertEqual(answer["hooks"]["before"], 2)
        self.assertEqual(sorted(answer["hooks"]["ends"]), ["cancelled", "ok"])
        self.state_is_idle(p)

    def test_requests_per_minute(self):
        """Its own limit lets a call wait, and tells one that cannot wait."""
        up, p = self.pair(requests_per_minute=2)
        statuses = [p.embed(["a"], timeout_ms=8000)["status"] for _ in range(6)]  # the next is let out after half a minute
        self.assertEqual(statuses[0], OK)
        self.assertEqual(set(statuses[3:]), {8})
        self.assertLessEqual(up.calls, 3)


class Azure(Case):
    kind = "azure"

    test_token_ids = token_ids
    test_words_that_list_ids = words_that_list_ids

    def test_address(self):
        up, p = self.pair()
        self.right(p.embed(["a"]), ["a"])
        r = up.requests[-1]
        self.assertEqual(r.path, "/openai/deployments/m/embeddings")
        self.assertEqual(r.query, {"api-version": "2024-10-21"})
        self.assertEqual(r.headers["api-key"], KEY)
        self.assertNotIn("authorization", r.headers)


class Cohere(Case):
    kind = "cohere"

    def test_input_type(self):
        up, p = self.pair()
        for role, name in (("query", "search_query"), ("document", "search_document")):
            self.right(p.embed(["a"], role=role), ["a"])
            self.assertEqual(up.requests[-1].json["input_type"], name)
        self.right(p.embed(["a"]), ["a"])
        self.assertIn(up.requests[-1].json["input_type"], ("search_document", "clustering", "classification"))

    def test_truncate(self):
        up, p = self.pair()
        for mode, name in (("none", "NONE"), ("left", "START"), ("right", "END")):
            self.right(p.embed(["a"], truncation=mode), ["a"])
            self.assertEqual(up.requests[-1].json.get("truncate", "END"), name)


class HuggingFace(Case):
    kind = "huggingface"

    def test_name_with_a_slash(self):
        up, p = self.pair()
        self.right(p.embed(["a"], model="org/name-v2"), ["a"], model="org/name-v2")
        self.assertIn("/models/org/name-v2/pipeline/feature-extraction", up.requests[-1].target)

    def test_bare_vector(self):
        up, p = self.pair({"hf_shape": "bare"})
        self.right(p.embed(["a"]), ["a"])
        self.right(p.embed(["a", "b"]), ["a", "b"])

    def test_token_level(self):
        """Vectors of tokens are pooled by their mean, whatever the number of texts."""
        up, p = self.pair({"hf_shape": "tokens"})
        self.right(p.embed(["a"]), ["a"])
        self.right(p.embed(["a", "b", "c"]), ["a", "b", "c"])

    def test_loading(self):
        up, p = self.pair()
        up.script([faults.loading(0.3)])
        answer = self.right(p.embed(["a"]), ["a"])
        self.assertEqual(answer["attempts"], 2)
        up.always(faults.loading(300))
        answer = p.embed(["a"], timeout_ms=1000)
        self.assertIn(answer["status"], (8, 9, 16))
        self.assertLess(answer["ms"], 1000 + SLACK)


class TEI(Case):
    kind = "tei"

    def test_options(self):
        up, p = self.pair({"prompts": {"query": "query: "}})
        self.right(p.embed(["a"], prompt_name="query"), ["a"], prompt="query: ")
        self.right(p.embed(["a"], normalize=False), ["a"], length=2.0)
        self.assertIs(up.requests[-1].json["normalize"], False)
        self.right(p.embed(["a"], normalize=True), ["a"])
        self.right(p.embed(["a"], truncation="left"), ["a"])
        self.assertEqual(str(up.requests[-1].json.get("truncation_direction")).lower(), "left")
        self.right(p.embed(["a"], truncation="none"), ["a"])
        self.assertIs(up.requests[-1].json["truncate"], False)


class Embedd(Case):
    kind = "embedd"
    SPACE = "local/m@0123456789ab:8:mean:l2"

    def test_space(self):
        up, p = self.pair()
        self.right(p.embed(["a"], space=self.SPACE), ["a"])
        self.assertEqual(up.requests[-1].json["space"], self.SPACE)
        self.sound(p.embed(["a"], space="local/m@ffff:8:mean:l2"))
        self.assertNotEqual(p.embed(["a"], space="local/m@ffff:8:mean:l2")["status"], OK)

    def test_another_space_than_pinned(self):
        """An answer in another space is not handed out, even with 200."""
        up, p = self.pair()

        @faults.edit
        def other_space(reply, x):
            inner = reply.render
            reply.render = lambda r: {**inner(r), "space": "local/m@eeee:8:mean:l2"}
        up.always(other_space)
        self.failed(p.embed(["a"], space=self.SPACE), PROVIDER)

    def test_role(self):
        up, p = self.pair()
        for role in ("query", "document"):
            self.right(p.embed(["a"], role=role), ["a"])
            self.assertEqual(up.requests[-1].json["input_type"], role)


del Case
assert KINDS

if __name__ == "__main__":
    unittest.main(verbosity=2)
