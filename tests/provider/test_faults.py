"""Everything that can go wrong with a remote provider: the right answer or a clear error within the deadline, and never
another text's vector. Errors name neither the key nor a text; each attempt is accounted for once; retries end."""
import time
import unittest

from driver import (BUSY, DEADLINE, DIMENSION, INVALID, KEY, LIMIT, NOT_FOUND, NUMBERED, OK, PROVIDER, SANITIZED, SECRET, SLACK,
                    UNAVAILABLE, Case, faults, for_each_kind, until, words)

TEXTS = words(3)
# Legal answers, however odd: one attempt, right vectors.
LEGAL = [faults.good, faults.chunked, faults.until_close, faults.continue_first, faults.connection_close, faults.closed_after,
         faults.no_usage, faults.gzipped, faults.gzipped_chunked, faults.drip(0.0005, 40), faults.delayed(0.1)]
# Those that pass: the call goes through at the second attempt.
PASSING = [faults.reset, faults.closed, faults.truncated, faults.truncated_head, faults.truncated_chunks, faults.reset_midway,
           faults.timeout_408, faults.conflict, faults.server_error, faults.bad_gateway, faults.unavailable,
           faults.gateway_timeout, faults.overloaded_529]
# 200, and cannot be used.
BAD = [faults.empty_body, faults.garbage, faults.html, faults.null, faults.empty_object, faults.empty_list, faults.deep,
       faults.cut_json, faults.trailing_garbage, faults.too_few, faults.too_many, faults.wrong_dimension,
       faults.other_dimension, faults.longer, faults.empty_vector, faults.nan, faults.infinity, faults.minus_infinity,
       faults.null_number, faults.text_number, faults.huge_number, faults.over_float, faults.nested_number,
       faults.null_vector, faults.text_vector, faults.object_vector]
BAD_NUMBERED = [faults.wrong_index, faults.huge_index, faults.negative_index, faults.real_index, faults.doubled_index,
                faults.mixed_index, faults.base64_garbage, faults.base64_short, faults.base64_odd, faults.base64_nan,
                faults.base64_infinity]
# Not HTTP, or not to be taken.
BROKEN = [faults.not_http, faults.bad_gzip, faults.no_content, faults.redirect()]


class Faults:
    def each(self, plan, judge):
        """judge(fault, upstream, driver) for a list of faults, with one upstream and provider."""
        up, p = self.pair(max_retries=2)
        for fault in plan:
            with self.subTest(fault=fault.__name__):
                until(up.is_quiet, "the end of connections that the last fault ends")  # else the next call may take one of them
                up.reset_record()
                judge(fault, up, p)
        up.script([])
        self.right(p.embed(TEXTS), TEXTS)  # and it is well again
        self.state_is_idle(p)

    def test_legal(self):
        def judge(fault, up, p):
            up.script([fault])
            answer = self.right(p.embed(TEXTS), TEXTS)
            self.assertEqual((answer["attempts"], up.calls), (1, 1))
            if fault in (faults.closed_after, faults.connection_close, faults.until_close):
                # a request that leaves before the end of the connection has come is lost, and counted: not here
                until(lambda: not up.links, "the upstream's closing of the connection")
        numbered = [faults.shuffled, faults.floats_instead_of_base64, faults.missing_index]
        self.each(LEGAL + (numbered if self.kind in NUMBERED else []), judge)

    def test_passing(self):
        def judge(fault, up, p):
            if fault is faults.conflict and self.kind == "embedd":
                return  # its 409 says that a space is not there
            up.script([fault])
            answer = self.right(p.embed(TEXTS), TEXTS)
            self.assertEqual(up.calls, 2)
            # by libcurl's own leave no request is sent twice: a kept connection that ends is counted as well
            self.assertEqual(answer["attempts"], 2)
            self.assertEqual(answer["hooks"]["ends"][1], "ok")
            self.assertNotEqual(answer["hooks"]["ends"][0], "ok")
        self.each(PASSING, judge)

    def test_lasting(self):
        """Retries are bounded by max_retries."""

        def judge(fault, up, p):
            up.always(fault)
            answer = self.failed(p.embed(TEXTS), UNAVAILABLE)
            self.assertEqual(up.calls, 3)
            self.assertEqual(len(answer["hooks"]["ends"]), 3)
        self.each([faults.reset, faults.closed, faults.truncated, faults.server_error], judge)

    def test_no_retries(self):
        up, p = self.pair(max_retries=0)
        up.script([faults.server_error])
        self.failed(p.embed(TEXTS), UNAVAILABLE)
        self.assertEqual(up.calls, 1)

    def test_bad_answers(self):
        plan = BAD + (BAD_NUMBERED if self.kind in NUMBERED else [])

        def judge(fault, up, p):
            up.always(fault)
            answer = self.failed(p.embed(TEXTS), PROVIDER)
            self.assertLessEqual(up.calls, 3)
            self.assertEqual(set(answer["hooks"]["ends"]), {"bad_answer"})
            self.assertEqual(set(answer["hooks"]["billed"]), {True})
        self.each(plan, judge)

    def test_error_in_200(self):
        def judge(fault, up, p):
            up.always(fault)
            self.failed(p.embed(TEXTS), PROVIDER, UNAVAILABLE)
            self.assertLessEqual(up.calls, 3)
        self.each([faults.error_in_200], judge)

    def test_bad_answer_once(self):
        """It is retried or fails; in no case is anything of it handed out."""

        def judge(fault, up, p):
            up.script([fault])
            answer = p.embed(TEXTS)
            self.right(answer, TEXTS) if answer["status"] == OK else self.failed(answer, PROVIDER)
        self.each([faults.nan, faults.too_few, faults.garbage, faults.wrong_dimension], judge)

    def test_broken(self):
        def judge(fault, up, p):
            up.always(fault)
            answer = self.failed(p.embed(TEXTS), PROVIDER, UNAVAILABLE)
            self.assertLessEqual(up.calls, 3)
            if fault in (faults.not_http, faults.bad_gzip):  # the request was out, and computed
                self.assertEqual(set(answer["hooks"]["billed"]), {True})
        self.each(BROKEN, judge)

    def test_redirect_is_not_followed(self):
        """The key and the texts go to nobody else."""
        elsewhere = self.upstream(key=None)
        up, p = self.pair()

        def away(x):
            x.send(faults.Plain(307, b"", {"Location": elsewhere.url + x.request.target}))
        up.always(away)
        self.failed(p.embed(TEXTS), PROVIDER, UNAVAILABLE, NOT_FOUND)
        self.assertEqual(elsewhere.requests, [])

    def test_denied(self):
        def judge(fault, up, p):
            up.always(fault)
            answer = self.failed(p.embed(TEXTS), UNAVAILABLE)
            self.assertEqual(up.calls, 1)
            self.assertEqual(answer["hooks"]["ends"], ["denied"])
        self.each([faults.unauthorised, faults.forbidden], judge)

    def test_refused_requests(self):
        def judge(fault, up, p):
            up.always(fault)
            expected = {faults.model_not_found: (NOT_FOUND,), faults.context_length: (LIMIT, INVALID)}
            self.failed(p.embed(TEXTS), *expected.get(fault, (INVALID, LIMIT, PROVIDER)))
            self.assertEqual(up.calls, 1)
        self.each([faults.bad_request, faults.unprocessable, faults.too_large, faults.context_length, faults.model_not_found],
                  judge)

    def test_text_too_long(self):
        up, p = self.pair({"max_text_tokens": 50})
        texts = ["short", "long " * 60, "short too"]
        self.failed(p.embed(texts), LIMIT, INVALID)
        self.assertEqual(up.calls, 1)

    def test_wrong_key(self):
        up = self.upstream()
        p = self.provider(up, api_key="sk-another-secret")
        answer = self.failed(p.embed(TEXTS), UNAVAILABLE)
        self.assertNotIn("sk-another-secret", str(answer))
        self.assertEqual(up.calls, 1)

    def test_echo(self):
        """A server that repeats the request in its error does not get key and texts into messages."""
        for code in (400, 401, 429, 500):
            up, p = self.pair(max_retries=0)
            up.always(faults.echo(code))
            answer = p.embed(TEXTS)
            self.assertNotEqual(self.sound(answer)["status"], OK)
            self.state_is_idle(p)
            self.assertNotIn(SECRET, p.do("metrics")["text"])

    # ---- limits ----

    def test_quota(self):
        plan = [faults.quota(code, status, type) for status, code, type in faults.QUOTA_CODES] + [faults.quota_by_type()]
        if self.kind not in NUMBERED:
            plan = [faults.status(402)]
        def judge(fault, up, p):
            up.always(fault)
            answer = self.failed(p.embed(TEXTS), UNAVAILABLE)
            self.assertEqual(up.calls, 1)
            self.assertEqual(answer["hooks"]["ends"], ["quota"])
        self.each(plan, judge)

    def test_rate_limit_passes(self):
        """Each way to say when: not before, and not much later."""
        forms = faults.RESETS if self.kind == "openai" else ["retry-after", "retry-after-ms", "reset-requests, ms"]
        for form in forms:
            wait_s = 1.0 if "after" in form and "ms" not in form or form == "ms before seconds" else 0.4
            if "fraction" in form or form == "ms before seconds":
                wait_s = 0.4
            with self.subTest(form=form):
                up, p = self.pair()
                up.script([faults.reset_by(form, wait_s)])
                answer = self.right(p.embed(TEXTS), TEXTS)
                first, second = up.embeddings()
                waited = second.started - first.ended
                self.assertGreaterEqual(waited, wait_s - 0.02)
                self.assertLess(waited, wait_s + 1.5 + SLACK / 1000)  # dates are in whole seconds; jitter
                self.assertEqual(answer["hooks"]["ends"], ["limited", "ok"])

    def test_rate_limit_outlasts_the_deadline(self):
        """Then another provider should be asked: it fails at once, and says when it would do again."""
        plan = [("x-ratelimit-reset-requests", "6m0s"), ("retry-after", "360"), ("retry-after-ms", "360000"),
                ("retry-after", lambda: faults.http_date(360)), ("x-ratelimit-reset-tokens", "1h2m3s")]
        for header, value in plan:
            with self.subTest(header=header, value=str(value)):
                up, p = self.pair()
                up.always(lambda x: faults.long_reset(header, value() if callable(value) else value)(x))
                answer = self.failed(p.embed(TEXTS, timeout_ms=15000), BUSY)
                self.assertLess(answer["ms"], 1000 + SLACK)
                self.assertEqual(up.calls, 1)
                self.assertGreater(answer["retry_after_ms"], 300000)
                self.assertEqual(answer["hooks"]["ends"], ["limited"])
                again = self.failed(p.embed(TEXTS, timeout_ms=500), BUSY, DEADLINE)
                self.assertLess(again["ms"], 500 + SLACK)
                self.state_is_idle(p)

    def test_absurd_reset(self):
        """What cannot be read, is negative or past counts as not said."""
        for value in ("-5", "soon", "", "99999999999999999999", "nan", "Thu, 01 Jan 1970 00:00:00 GMT", "1e99"):
            with self.subTest(value=value):
                up, p = self.pair()
                up.script([faults.rate_limited({"retry-after": value})])
                answer = self.sound(p.embed(TEXTS, timeout_ms=4000))
                self.assertLess(answer["ms"], 4000 + SLACK)
                self.right(answer, TEXTS) if answer["status"] == OK else self.failed(answer, BUSY, UNAVAILABLE)

    def test_rate_limit_for_ever(self):
        up, p = self.pair(max_retries=2)
        up.always(faults.rate_limited({"retry-after-ms": "20"}))
        self.failed(p.embed(TEXTS), BUSY)
        self.assertLessEqual(up.calls, 3)

    # ---- deadlines ----

    def test_deadline(self):
        plan = [faults.black_hole, faults.stalled, faults.drip(0.02, 1), faults.drip(0.02, 1, head_only=True),
                faults.delayed(5)]

        def judge(fault, up, p):
            up.always(fault)
            answer = self.failed(p.embed(TEXTS, timeout_ms=400), DEADLINE)
            self.assertLess(answer["ms"], 400 + SLACK)
            self.assertGreaterEqual(answer["ms"], 300)
        self.each(plan, judge)

    def test_timeout_of_an_attempt(self):
        """Shorter than the deadline: the next attempt may do."""
        up, p = self.pair(timeout_ms=1500)  # enough for a good answer on a busy machine
        up.script([faults.black_hole])
        answer = self.right(p.embed(TEXTS), TEXTS)
        self.assertEqual(answer["hooks"]["ends"], ["timeout", "ok"])
        self.assertEqual(answer["hooks"]["billed"], [True, True])
        up, p = self.pair(timeout_ms=300)
        up.always(faults.stalled)
        answer = self.failed(p.embed(TEXTS, timeout_ms=0), UNAVAILABLE, DEADLINE)
        self.assertEqual(set(answer["hooks"]["ends"]), {"timeout"})
        self.assertLess(answer["ms"], 3 * 300 + 8000 + SLACK)

    def test_retries_end_with_the_deadline(self):
        up, p = self.pair(max_retries=50)
        up.always(faults.server_error)
        answer = self.failed(p.embed(TEXTS, timeout_ms=1000), UNAVAILABLE, DEADLINE)
        self.assertLess(answer["ms"], 1000 + SLACK)

    # ---- connections ----

    def test_refused(self):
        up, p = self.pair(max_retries=1)
        up.stop_listening()
        answer = self.failed(p.embed(TEXTS), UNAVAILABLE)
        self.assertEqual(set(answer["hooks"]["ends"]), {"not_sent"})
        self.assertEqual(set(answer["hooks"]["billed"]), {False})
        up.start_listening()
        self.right(p.embed(TEXTS), TEXTS)

    def test_refused_for_a_moment(self):
        up, p = self.pair(max_retries=8)
        up.script([faults.refused(0.15)])
        self.right(p.embed(TEXTS), TEXTS)

    def test_peer_restarts(self):
        """Connections that died while they were idle do no harm."""
        up, p = self.pair(max_batch_texts=1)
        self.right(p.embed(TEXTS), TEXTS)
        for _ in range(3):
            up.drop_connections()
            self.right(p.embed(TEXTS), TEXTS)

    # ---- several parts ----

    def test_one_part_breaks(self):
        """It alone is sent again."""
        up, p = self.pair(max_batch_texts=4, concurrency=3)
        texts = words(40)
        broken = []

        def once(r):
            if texts[17] in r.texts and not broken:
                broken.append(r.number)
                return faults.reset
            return None
        up.script(once)
        answer = self.right(p.embed(texts), texts)
        self.assertEqual((answer["parts"], up.calls), (10, 11))

    def test_one_part_fails(self):
        """Then the call fails, and the others are not waited for to no use."""
        up, p = self.pair(max_batch_texts=4, concurrency=2)
        texts = words(40)
        # nothing comes after the third part but the refusal: whoever waits for more has no answer at all
        up.script(lambda r: faults.bad_request if texts[9] in r.texts else
                  faults.black_hole if texts.index(r.texts[0]) > 9 else None)
        self.failed(p.embed(texts), INVALID, LIMIT, PROVIDER)
        self.assertLess(up.calls, 10)
        self.state_is_idle(p)

    def test_storm(self):
        """Many callers, a third of all answers broken in some way: every good answer is right."""
        up, p = self.pair(max_batch_texts=3, concurrency=6, max_retries=4)
        plan = [faults.reset, faults.truncated, faults.server_error, faults.nan, faults.too_few, faults.closed_after,
                faults.garbage, faults.chunked]
        if self.kind in NUMBERED:
            plan += [faults.shuffled, faults.doubled_index]
        up.script(lambda r: plan[r.number // 3 % len(plan)] if r.number % 3 == 0 else None)
        texts = words(9)
        for one in p.embed(texts, threads=12)["results"]:
            self.right(one, texts) if one["status"] == OK else self.failed(one, PROVIDER, UNAVAILABLE)
        self.state_is_idle(p)


for_each_kind(Faults, globals())


class OpenAI(Case):
    kind = "openai"

    @unittest.skipIf(SANITIZED, "memory of sanitizers is not the program's")
    def test_flood(self):
        """An answer without end is given up at a bound, not kept."""
        up, p = self.pair(max_retries=0)
        up.always(faults.flood())
        start = time.monotonic()
        self.failed(p.embed(TEXTS, timeout_ms=120000), PROVIDER, UNAVAILABLE)
        self.assertLess(time.monotonic() - start, 60)
        self.assertLess(p.peak_kib(), 400 << 10)

    def test_endless_head(self):
        up, p = self.pair(max_retries=0)
        up.always(faults.endless_head)
        self.failed(p.embed(TEXTS), PROVIDER, UNAVAILABLE)

    def test_quota_beats_a_reset_header(self):
        """insufficient_quota with retry-after is a quota nevertheless."""
        up, p = self.pair()
        up.always(faults.quota(headers={"retry-after": "1"}))
        self.failed(p.embed(TEXTS), UNAVAILABLE)
        self.assertEqual(up.calls, 1)

    def test_bill(self):
        """What the hooks hear is what the upstream charged, but for what was refused; lost answers are maybe billed."""
        up, p = self.pair(max_batch_texts=2, max_retries=3)
        up.script([faults.server_error, faults.truncated, faults.reset, faults.nan])
        texts = words(8)
        answer = self.sound(p.embed(texts))
        billed = sum(1 for r in up.embeddings() if r.tokens)
        self.assertGreaterEqual(sum(answer["hooks"]["billed"]), billed)

    def test_cancel_while_waiting_for_a_retry(self):
        up, p = self.pair()
        up.always(faults.rate_limited({"retry-after": "10"}))
        answer = p.embed(TEXTS, cancel_after_ms=200)
        self.sound(answer)
        self.assertLess(answer["ms"], 200 + SLACK)
        self.assertEqual(answer["status"], 10)


del Case
assert DIMENSION and KEY

if __name__ == "__main__":
    unittest.main(verbosity=2)
