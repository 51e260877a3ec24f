"""The rollout's routes: state, changes, audit, and what other processes see of it."""
import os
import sqlite3
import subprocess
import unittest

from case import Case, service

PATH = "/api/v1/embeddings/rollout"


class Rollout(Case):
    ENV = {"EMBEDD_API_KEYS": "", "EMBEDDING_ROLLOUT_PERCENTAGE": "40", "EMBEDD_STORE_URL": "sqlite:"}

    def act(self, action, status=200, **more):
        return self.post(PATH, dict(more, action=action), status)

    def command(self, *arguments):
        env = service.clean_environment({"EMBEDD_DATA_DIR": os.path.join(self.service.folder, "data"),
                                         "EMBEDDING_ROLLOUT_PERCENTAGE": "40"})
        return subprocess.run([service.PROGRAM, "rollout", *arguments], env=env, stdout=subprocess.PIPE, check=True).stdout

    def test_changes(self):
        self.act("clear")
        a = self.get(PATH)
        self.assertEqual((a["mode"], a["percentage"], a["step"], a["schedule"]), ("configured", 40, None, []))
        a = self.act("set", percentage=12.5, reason="the first")
        self.assertEqual((a["mode"], a["percentage"], a["actor"], a["reason"]), ("fixed", 12.5, "api", "the first"))
        self.assertEqual({k: a["audit"][0][k] for k in ("action", "from", "to", "actor", "reason")},
                         {"action": "set", "from": None, "to": 12.5, "actor": "api", "reason": "the first"})
        steps = [{"percentage": 5, "hold_seconds": 3600}, {"percentage": 100, "hold_seconds": 60}]
        a = self.act("schedule", steps=steps)
        self.assertEqual((a["mode"], a["percentage"], a["step"], a["schedule"]), ("scheduled", 5, 1, steps))
        self.assertEqual(a["step_until"], a["step_since"] + 3600)
        a = self.act("rollback", reason="slow")
        self.assertEqual((a["mode"], a["percentage"], a["schedule"]), ("rolled_back", 0, []))
        a = self.act("verified", reason="it was")
        self.assertGreater(a["rollback_verified_at"], 0)
        self.assertEqual((a["mode"], a["reason"]), ("rolled_back", "slow"))
        self.assertEqual([e["action"] for e in self.get(PATH + "?audit=4")["audit"]],
                         ["verified", "rollback", "schedule", "set"])
        self.assertEqual(self.get(PATH + "?audit=0")["audit"], [])
        logged = self.service.log("audit: rollout")[-1]
        self.assertEqual((logged["action"], logged["actor"], logged["done"]), ("verified", "api", True))

    def test_shared_with_the_command(self):
        self.command("set", "33", "--actor", "ann", "--reason", "by hand")
        a = self.get(PATH)
        self.assertEqual((a["percentage"], a["actor"], a["reason"]), (33, "ann", "by hand"))
        self.act("rollback")
        self.assertIn(b"rolled_back", self.command("get"))
        self.assertIn(b"ann", self.command("audit"))

    def test_malformed(self):
        before = self.get(PATH)
        step = {"percentage": 5, "hold_seconds": 60}
        for body, status in (({}, 422), ({"action": "explode"}, 422), ({"action": 1}, 422), ({"action": "set"}, 422),
                             ({"action": "set", "percentage": 100.5}, 422), ({"action": "set", "percentage": -1}, 422),
                             ({"action": "set", "percentage": "5"}, 422), ({"action": "schedule"}, 422),
                             ({"action": "schedule", "steps": []}, 422), ({"action": "schedule", "steps": [step] * 33}, 422),
                             ({"action": "schedule", "steps": [step, step]}, 422), ({"action": "schedule", "steps": 5}, 422),
                             ({"action": "schedule", "steps": [{"percentage": 5}]}, 422),
                             ({"action": "schedule", "steps": [dict(step, hold_seconds=0)]}, 422),
                             ({"action": "schedule", "steps": [dict(step, hold_seconds=1.5)]}, 422),
                             ({"action": "clear", "reason": "x" * 200}, 422), ({"action": "clear", "reason": 5}, 422)):
            self.assertTrue(self.post(PATH, body, status)["detail"], body)
        for query in ("x", "-1", "1001", "", "1e2"):
            self.get(PATH + "?audit=" + query, 422)
        self.assertEqual(self.get(PATH), before)


class Keys(Case):
    ENV = {"EMBEDD_API_KEYS": "secret-key-of-the-test", "EMBEDD_STORE_URL": "sqlite:"}

    def test_actor(self):
        self.post(PATH, {"action": "set", "percentage": 5}, 401)
        self.get(PATH, 401)
        a = self.post(PATH, {"action": "set", "percentage": 5, "actor": "somebody else"},
                      authorization="Bearer secret-key-of-the-test")
        self.assertTrue(a["actor"])
        self.assertNotIn("secret", a["actor"])
        self.assertNotEqual(a["actor"], "somebody else")


class Damaged(Case):
    ENV = {"EMBEDD_STORE_URL": "sqlite:"}

    def test_nonsense_is_told_and_written_over(self):
        self.post(PATH, {"action": "set", "percentage": 5})
        db = sqlite3.connect(os.path.join(self.service.folder, "data", "rollout.db"))
        db.execute("UPDATE rollout_state SET mode = 77")
        db.commit()
        db.close()
        self.assertIn("makes no sense", self.get(PATH, 500)["detail"])
        self.assertEqual(self.post(PATH, {"action": "rollback"})["percentage"], 0)
        self.assertEqual(self.get(PATH)["mode"], "rolled_back")


if __name__ == "__main__":
    unittest.main()
