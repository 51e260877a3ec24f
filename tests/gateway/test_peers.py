"""Another embedd as a provider: its spaces are its own word. Two that serve the same model make one space, a pinned one
works across, and a space that changes is a new space or an error, never a mixture."""
import unittest

from case import Case, KEY, LOCAL, faults, upstream

YAML = """
providers:
  default: %(first)s
  instances:
%(instances)s
hybrid: {fallback: "%(fallback)s"}
"""


def instance(name, url, model="m", key=KEY, more=""):
    return ("    - {name: %s, kind: embedd, base_url: \"%s\", api_key: %s, private: true, max_retries: 0, "
            "models: [{name: %s%s}]}" % (name, url, key, model, more))


class Peers(Case):
    def peer(self):
        up = upstream.Upstream(key=KEY)
        self.addCleanup(up.close)
        return up

    def front(self, *instances, fallback=""):
        return self.gateway({}, YAML % {"first": instances[0].split("name: ")[1].split(",")[0], "fallback": fallback,
                                        "instances": "\n".join(instances)})


class Mocked(Peers):
    def setUp(self):
        super().setUp()
        self.other = self.peer()
        self.g = self.front(instance("a", self.up.url), instance("b", self.other.url))

    def space(self, revision="0123456789ab", dimension=8, length="l2"):
        return "local/m@%s:%d:mean:%s" % (revision, dimension, length)

    def test_its_space(self):
        a = self.ask(self.g, {"texts": ["one"], "preferred_provider": "a"})
        self.assertEqual((a["provider"], a["space"]), ("a", self.space()))
        self.assertEqual(self.headers["x-embedd-space"], self.space())
        self.assertEqual(self.up.texts(), ["dimension", "one"])  # asked for once
        self.assertEqual(self.up.requests[-1].json["space"], self.space())
        b = self.ask(self.g, {"texts": ["one"], "preferred_provider": "b", "use_cache": False})
        self.assertEqual((b["provider"], b["space"]), ("b", self.space()))
        # the same space is the same cache
        b = self.ask(self.g, {"texts": ["one"], "preferred_provider": "b"})
        self.assertEqual(b["cached_count"], 1)

    def test_settings(self):
        for body, space in (({"dimensions": 4}, self.space(dimension=4)), ({"normalize": False}, self.space(length="none")),
                            ({"normalize": True}, self.space()),
                            ({"dimensions": 4, "normalize": False}, self.space(dimension=4, length="none"))):
            with self.subTest(body):
                texts = ["of %s" % sorted(body)]
                a = self.ask(self.front(instance("a", self.up.url, more=", shortens: true")), {"texts": texts, **body})
                self.assertEqual(a["space"], space)
                self.assertEqual(a["dimension"], body.get("dimensions", 8))

    def test_pinned_space(self):
        """It works across: either may answer, known by now or not."""
        for name in ("a", "b"):
            a = self.ask(self.g, {"texts": ["x"], "space": self.space(), "preferred_provider": name, "use_cache": False})
            self.assertEqual((a["provider"], a["space"]), (name, self.space()))
        self.ask(self.g, {"texts": ["x"], "space": self.space("ffffffffffff")}, 409)
        self.ask(self.g, {"texts": ["x"], "space": "local/quite-another@ffffffffffff:8:mean:l2"}, 409)

    def test_fallback_within_the_space(self):
        self.ask(self.g, {"texts": ["warm"], "use_cache": False, "preferred_provider": "b"})
        self.up.always(faults.status(503))
        a = self.ask(self.g, {"texts": ["x"], "space": self.space()})
        self.assertEqual((a["provider"], a["space"]), ("b", self.space()))

    def test_space_that_changes(self):
        """The other side has another model from now on: the whole answer is of the new one, hits included."""
        first = self.ask(self.g, {"texts": ["one", "two"], "preferred_provider": "a"})
        self.assertEqual(first["space"], self.space())
        self.up.revision = "bbbbbbbbbbbb"
        a = self.ask(self.g, {"texts": ["one", "two"], "preferred_provider": "a"})
        self.assertEqual((a["space"], a["cached_count"]), (self.space(), 2))  # what is there is what it is named
        a = self.ask(self.g, {"texts": ["one", "new"], "preferred_provider": "a"})
        self.assertEqual((a["space"], a["cached_count"]), (self.space("bbbbbbbbbbbb"), 0))
        self.assertEqual({r["space"] for r in a["results"]}, {self.space("bbbbbbbbbbbb")})
        self.ask(self.g, {"texts": ["one"], "space": self.space(), "preferred_provider": "a"}, 409)
        a = self.ask(self.g, {"texts": ["three"], "space": self.space()})  # the other one still makes the old one
        self.assertEqual((a["provider"], a["space"]), ("b", self.space()))

    def test_pinned_space_that_is_gone(self):
        self.ask(self.g, {"texts": ["one"], "preferred_provider": "a"})
        self.up.revision = "bbbbbbbbbbbb"
        self.ask(self.g, {"texts": ["two"], "space": self.space(), "preferred_provider": "a"}, 409)

    def test_answers_of_two_spaces(self):
        """One that does not keep a pin is found out by each of its answers."""
        self.ask(self.g, {"texts": ["one"], "preferred_provider": "a"})
        self.up.keeps_pins = False
        self.up.revision = "bbbbbbbbbbbb"
        a = self.ask(self.g, {"texts": ["two"], "preferred_provider": "a"})
        self.assertEqual(a["space"], self.space("bbbbbbbbbbbb"))

        def back_and_forth(request):
            self.up.revision = "%012x" % len(self.up.requests)
        self.up.script(back_and_forth)
        g = self.front(instance("a", self.up.url), fallback="none")
        self.ask(g, {"texts": ["three"], "preferred_provider": "a"}, 502)

    def test_none_said(self):
        """An older one, or something that speaks like one: the space is named by the instance, as for any server."""
        self.up.revision = None
        a = self.ask(self.g, {"texts": ["one"], "preferred_provider": "a"})
        self.assertEqual(a["space"], "a/m@api:8:remote:api")
        self.assertNotIn("space", self.up.requests[-1].json)
        a = self.ask(self.g, {"texts": ["two"], "space": "a/m@api:8:remote:api"})
        self.assertEqual(a["provider"], "a")
        self.up.revision = "bbbbbbbbbbbb"  # it is upgraded
        a = self.ask(self.g, {"texts": ["one", "four"], "preferred_provider": "a"})
        self.assertEqual((a["space"], a["cached_count"]), (self.space("bbbbbbbbbbbb"), 0))

    def test_parts(self):
        """The parts of one call are of one space."""
        g = self.front("    - {name: a, kind: embedd, base_url: \"%s\", api_key: %s, max_retries: 0, max_batch_texts: 2, "
                       "models: [m]}" % (self.up.url, KEY), fallback="none")
        texts = ["text %d" % i for i in range(20)]
        a = self.ask(g, {"texts": texts})
        self.assertEqual(a["space"], self.space())
        self.same(a["embeddings"], self.expect("m", texts, 8))


class Real(Peers):
    """Two real ones behind a third."""

    def test_one_space_everywhere(self):
        a, b = self.gateway({"EMBEDD_API_KEYS": KEY}), self.gateway({"EMBEDD_API_KEYS": KEY})
        front = self.front(instance("box-a", a.url, "mini", more=", upstream: %s" % LOCAL),
                           instance("box-b", b.url, LOCAL))
        own = self.ask(front, {"texts": ["hello"], "preferred_provider": "local"})
        spaces = {own["space"]}
        for name, model in (("box-a", "mini"), ("box-b", LOCAL)):
            got = self.ask(front, {"texts": ["hello"], "preferred_provider": name})
            self.assertEqual((got["provider"], got["model"]), (name, model))
            spaces.add(got["space"])
            self.same(got["embeddings"], own["embeddings"])
            pinned = self.ask(front, {"texts": ["bye"], "preferred_provider": name, "space": own["space"]})
            self.assertEqual((pinned["provider"], pinned["space"]), (name, own["space"]))
        self.assertEqual(len(spaces), 1, spaces)
        # a pinned space is answered by whoever is left
        a.process.kill()
        a.process.wait()
        got = self.ask(front, {"texts": ["another"], "space": own["space"]})
        self.assertEqual(got["space"], own["space"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
