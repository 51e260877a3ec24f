"""kill -9 at random moments of a gateway under load: the next start needs no repair, and nothing that counts is lost.

A service with everything that keeps state is loaded by several threads, killed at a random moment and started again on the
same data directory, round after round. Half of the users are on the legacy path (local, with the priced provider as the
shadow's candidate), half on the hybrid one (the priced provider). Every round allows some more spending than the one
before, and always less than is asked for. Once with files alone, once with the shared state in Redis.

EMBEDD_KILLS: rounds of either; EMBEDD_KILL_SEED: of the moments and the texts.
"""
import os
import random
import shutil
import sqlite3
import tempfile
import threading
import time
import unittest

import numpy

from case import Case, KEY, SMALL, faults, rows, service
import servers

ROUNDS = int(os.environ.get("EMBEDD_KILLS", "6" if service.SANITIZED else "16"))
SEED = int(os.environ.get("EMBEDD_KILL_SEED", "0")) or int(time.time())
THREADS = 6
PRICE_NUSD = 1000000        # a call
MORE_CALLS = 30             # that each round may spend
SHADOW_CALLS = 40           # that the shadow may spend in all
FLUSHED_SECONDS = 1.5       # what was answered longer ago is in the ledger, on a disk and a machine that are not busy

YAML = """
providers:
  default: openai
  instances:
    - name: openai
      kind: openai
      base_url: "%(url)s"
      api_key: %(key)s
      max_retries: 1
      concurrency: 16
      breaker: {recovery_timeout_seconds: 1}
      models: [{name: %(model)s, dimension: 1536, price_per_1k_tokens: 0, price_per_request: 0.001}]
hybrid:
  legacy_provider: local
  candidate_provider: openai
  rollout_percentage: 50
  shadow_mode: true
  daily_api_budget_usd: %(budget).3f
  fallback: local
shadow: {daily_budget_usd: %(shadow).3f}
alerts: {api_budget_warning: 1.0, api_budget_critical: 1.0, interval_ms: 100}
budget: {timezone: UTC, reservation_seconds: 1, expired_reservations: spend}
"""


class Load:
    """Threads that ask and check every vector, until the service is gone."""

    def __init__(self, test, gateway, known, seed):
        self.test, self.gateway, self.known = test, gateway, known
        self.wrong, self.acknowledged, self.answers = [], [], 0
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(random.Random(seed * 1000 + i), i), daemon=True)
                        for i in range(THREADS)]
        for t in self.threads:
            t.start()

    def run(self, dice, number):
        while not self.stopping.is_set():
            texts = [dice.choice(self.test.seen) if self.test.seen and dice.random() < 0.3
                     else "text %d of %d" % (dice.randrange(10 ** 9), number) for _ in range(dice.randrange(1, 4))]
            try:
                status, headers, body = self.gateway.post(
                    "/api/v1/embeddings", {"texts": texts, "user": "user %d" % dice.randrange(50),
                                           "category": dice.choice(["faq", "news", ""]) or None}, timeout=20)
            except Exception:  # killed on the way
                continue
            if status != 200:
                self.wrong.append("status %s: %.300s" % (status, body))
                continue
            self.answers += 1
            cost = float(headers["x-embedd-cost-usd"])
            if cost:
                self.acknowledged.append((time.monotonic(), round(cost * 1e9)))
            self.check(texts, body)

    def check(self, texts, body):
        found = self.test.mistakes(texts, body)
        if found:
            self.wrong.append(found)
        else:
            self.test.seen.extend(texts)

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join(30)


class Pace(threading.Thread):
    """How long this machine took at most, since it was last asked, to run a thread again and have a file on its disk: by so
    much may everything else be late too."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.path, self.ending, self.longest = os.path.join(folder, "pace"), threading.Event(), 0.0
        self.start()

    def run(self):
        while not self.ending.is_set():
            begun = time.monotonic()
            with open(self.path, "wb") as f:
                f.write(b"x" * 4096)
                f.flush()
                os.fsync(f.fileno())
            time.sleep(0.01)
            self.longest = max(self.longest, time.monotonic() - begun - 0.01)

    def take(self):
        longest, self.longest = self.longest, 0.0
        return longest

    def end(self):
        self.ending.set()
        self.join()


class Kill(Case):
    files = ["alerts.db", "cache.db", "ledger.db", "rollout.db", "shadow.db", "state.db"]
    environment = {}

    def setUp(self):
        super().setUp()
        other = tempfile.mkdtemp(prefix="embedd-pace-")
        self.addCleanup(shutil.rmtree, other, ignore_errors=True)
        self.pace = Pace(other)
        self.addCleanup(self.pace.end)
        self.seen = []      # texts that were answered
        self.local = {}     # their vectors of the local model
        self.data = tempfile.mkdtemp(prefix="embedd-kill-")
        self.addCleanup(shutil.rmtree, self.data, ignore_errors=True)
        dice = random.Random(SEED)
        lock = threading.Lock()

        def fault(_):
            with lock:
                x = dice.random()
            return faults.status(500) if x < 0.03 else faults.reset if x < 0.05 else faults.delayed(0.03) if x < 0.5 else None
        self.up.script(fault)

    def start(self, round_number):
        yaml = YAML % {"url": self.up.base_url("openai"), "key": KEY, "model": SMALL,
                       "budget": self.limit_nusd(round_number) / 1e9, "shadow": SHADOW_CALLS * PRICE_NUSD / 1e9}
        g = self.gateway(env={"EMBEDD_DATA_DIR": self.data, "EMBEDD_ACCESS_LOG": "false", **self.environment}, yaml=yaml)
        self.assertEqual(g.log("a part of the service is left out"), [])
        return g

    @staticmethod
    def limit_nusd(round_number):
        return (round_number + 1) * MORE_CALLS * PRICE_NUSD

    def mistakes(self, texts, body):
        got = rows(body["embeddings"])
        if body["provider"] == "openai":
            expected = self.expect(SMALL, texts)
            if got.shape != expected.shape or not numpy.allclose(got, expected, rtol=0, atol=1e-6):
                return "a vector that the provider did not make, of %r" % texts
            return None
        if body["provider"] != "local" or got.shape != (len(texts), 384):
            return "provider %s, shape %s" % (body["provider"], got.shape)
        for text, vector in zip(texts, got):
            before = self.local.setdefault(text, vector)
            if float(before @ vector) < 0.999:
                return "another local vector than before, of %r" % text
        return None

    def check_files(self):
        """Of a copy, as the kill left it: looking at the files themselves would already repair them."""
        with tempfile.TemporaryDirectory() as copy:
            files = os.path.join(copy, "data")
            shutil.copytree(self.data, files)
            found = [n for n in sorted(os.listdir(files)) if n.endswith(".db")]
            for name in found:
                db = sqlite3.connect(os.path.join(files, name))
                try:
                    self.assertEqual(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)], name)
                finally:
                    db.close()
            return found

    def ledger_nusd(self):
        db = sqlite3.connect("file:%s?mode=ro" % os.path.join(self.data, "ledger.db"), uri=True)
        try:
            tables = [n for n, in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
            for name in tables:
                columns = [row[1] for row in db.execute("PRAGMA table_info(%s)" % name)]
                if "nusd" in columns:
                    return db.execute("SELECT COALESCE(SUM(nusd), 0) FROM %s" % name).fetchone()[0]
        finally:
            db.close()
        raise AssertionError("no table of the ledger has a column nusd: %r" % tables)

    def one_round(self, number, acknowledged):
        g = self.start(number)
        # what was filed before is there, and right
        for texts in [self.seen[i:i + 1] for i in range(0, len(self.seen), max(1, len(self.seen) // 10))]:
            a = self.ask(g, {"texts": texts, "user": "a reader"})
            self.assertIsNone(self.mistakes(texts, a))
        load = Load(self, g, self.seen, SEED + number)
        time.sleep(random.Random(SEED * 7 + number).uniform(0.02, 2.5))
        killed = time.monotonic()
        g.process.kill()
        g.process.wait()
        load.stop()
        self.assertEqual(load.wrong, [])
        flushed = killed - FLUSHED_SECONDS - 3 * self.pace.take()
        acknowledged.extend(cost for at, cost in load.acknowledged if at < flushed)
        self.assertEqual(self.check_files(), self.files)
        billed = self.up.calls * PRICE_NUSD
        self.closest = min(self.closest, self.limit_nusd(number) + SHADOW_CALLS * PRICE_NUSD - billed)
        self.assertLessEqual(billed, self.limit_nusd(number) + SHADOW_CALLS * PRICE_NUSD, "the budget is overrun")
        return load.answers

    def test_kills(self):
        acknowledged, answers, lost = [], 0, 0
        self.closest = self.limit_nusd(ROUNDS)
        with self.subTest(seed=SEED):
            for number in range(ROUNDS):
                answers += self.one_round(number, acknowledged)
                total, billed = self.ledger_nusd(), self.up.calls * PRICE_NUSD
                lost = max(lost, billed - total)
                self.assertLessEqual(total, billed, "the ledger has more than was billed, in round %d" % number)
                self.assertGreaterEqual(total, sum(acknowledged), "the ledger has lost calls, in round %d" % number)
            g = self.start(ROUNDS)
            a = self.ask(g, {"texts": ["after all"], "user": "a reader"})
            self.assertIsNone(self.mistakes(["after all"], a))
            self.assertEqual(g.stop(), 0)
            self.assertGreater(answers, 10 * ROUNDS)
            self.assertGreater(self.up.calls, 3 * ROUNDS)
            print("kill: %s, %d rounds, %d answers, %d calls, %d of them surely in the ledger, which lacks %d at the end (%.1f a "
                  "kill); nearest to the limit: %d calls; seed %d"
                  % (type(self).__name__, ROUNDS, answers, self.up.calls, len(acknowledged), lost / PRICE_NUSD,
                     lost / PRICE_NUSD / ROUNDS, self.closest / PRICE_NUSD, SEED))


class KillWithRedis(Kill):
    """Redis lives on: it holds the reservations of the dead, which count as spent when their time is over."""
    files = ["alerts.db", "cache.db", "ledger.db", "rollout.db", "shadow.db"]

    def setUp(self):
        super().setUp()
        self.redis = servers.start_redis()
        self.addCleanup(self.redis.close)
        self.environment = {"EMBEDD_STATE_URL": self.redis.url}


if __name__ == "__main__":
    unittest.main()
