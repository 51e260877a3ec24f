"""Servers that are no Redis and no PostgreSQL, or lie: answers come within the deadline, are errors, and cost no memory."""
import random
import struct
import time
import unittest

from driver import OK, SLACK, Driver, Liar

DEADLINE_MS = 60
MEMORY_KIB = 400 << 10  # far above what a driver needs, far below what is claimed by those who lie
NIL = b"$-1\r\n"


def read_until(connection, enough):
    data = b""
    while not enough(data):
        more = connection.recv(65536)
        if not more:
            raise OSError("closed")
        data += more
    return data


def hold(connection):
    """Keeps the connection open until the other side has enough."""
    while connection.recv(65536):
        pass


def drip(connection, data):
    for i in range(len(data)):
        connection.sendall(data[i:i + 1])
        time.sleep(0.01)


def flood(connection, data):
    connection.settimeout(20)  # nobody reads any more: the other side has to close
    while True:
        connection.sendall(data)


class Common:
    def check(self, behaviour, calls=3, words=None):
        """Calls on a server that behaves so; the last answer."""
        with Liar(behaviour) as liar, Driver(self.url % liar.port, connect_ms=300) as d:
            for i in range(calls):
                got = d.get(deadline_ms=DEADLINE_MS)
                self.assertLess(got["ms"], DEADLINE_MS + SLACK)
                if got["status"] == OK:
                    self.assertEqual(got["found"], got["wrong"], got)
                else:
                    self.assertTrue(got["message"].isprintable() and got["message"].strip(), got)
            for command in (("put", 0, 5, DEADLINE_MS, 0), ("stats", DEADLINE_MS), ("remove", "m", DEADLINE_MS),
                            ("most", 5, DEADLINE_MS)):
                answer = d.do(*command)
                self.assertLess(answer["ms"], DEADLINE_MS + SLACK, command)
            self.assertLess(d.do("memory")["count"], MEMORY_KIB)
            self.assertLess(d.do("close")["ms"], 1000 + SLACK)
        return got

    def check_fails(self, behaviour, **more):
        self.assertNotEqual(self.check(behaviour, **more)["status"], OK)

    def test_silent(self):
        self.check_fails(hold)

    def test_closes_at_once(self):
        self.check_fails(lambda c: None)

    def test_random_bytes(self):
        rng = random.Random(7)
        for _ in range(4):
            data = rng.randbytes(5000)
            self.check_fails(lambda c: (c.sendall(data), hold(c)))

    def test_speaks_http(self):
        self.check_fails(lambda c: c.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"))

    def test_floods_at_once(self):
        self.check_fails(lambda c: flood(c, b"\0" * 65536))


class Redis(Common, unittest.TestCase):
    url = "redis://127.0.0.1:%d/0"

    def after(self, *answers, then=hold):
        """Sets connections up as Redis does, then answers each request with the next of `answers`, and `then`."""
        def behaviour(c):
            read_until(c, lambda d: b"embedd\r\n" in d)
            c.sendall(b"+OK\r\n+OK\r\n")
            for answer in answers:
                read_until(c, lambda d: d.endswith(b"\r\n"))
                c.sendall(answer)
            if not answers:
                read_until(c, lambda d: d.endswith(b"\r\n"))
            then(c)
        return behaviour

    def test_honest(self):
        """The lie that is true: the setting-up above is what the driver takes for Redis."""
        with Liar(self.after(b"*20\r\n" + 20 * NIL)) as liar, Driver(self.url % liar.port) as d:
            got = d.get(deadline_ms=5000)
            self.assertEqual((got["status"], got["found"]), (OK, 0))

    def test_lengths(self):
        for answer in (b"$2147483647\r\n", b"$99999999999999999999\r\n", b"$-7\r\n", b"*2147483647\r\n",
                       b"*4611686018427387904\r\n", b"*-9\r\n", b"*1\r\n" * 2000, b"*20\r\n*1000000000\r\n", b"$5\r\nabcdefgh\r\n",
                       b":12345678901234567890123\r\n", b":\r\n", b"*\r\n", b"$\r\n", b"\r\n", b"?\r\n"):
            with self.subTest(answer=answer[:30]):
                self.check_fails(self.after(answer), calls=1)

    def test_types_and_counts(self):
        for answer in (b":5\r\n", b"+OK\r\n", NIL, b"*-1\r\n", b"*19\r\n" + 19 * NIL, b"*21\r\n" + 21 * NIL, b"*0\r\n"):
            with self.subTest(answer=answer[:30]):
                self.check_fails(self.after(answer), calls=1)
        self.check(self.after(b"*20\r\n" + 20 * b":1\r\n"))
        self.check(self.after(b"*20\r\n" + 20 * b"*1\r\n$1\r\nx\r\n"))
        self.check(self.after(b"*20\r\n" + 20 * b"$40\r\nEMR1\xff\xff\0\0" + 34 * b"x" + b"\r\n"))

    def test_half_an_answer(self):
        self.check_fails(self.after(b"*20\r\n$5\r\nhel"))
        self.check_fails(self.after(b"*20\r\n$5\r\nhel", then=lambda c: None))

    def test_too_many_answers(self):
        self.check_fails(self.after(b"*20\r\n" + 20 * NIL + b"+OK\r\n"))
        self.check_fails(self.after(b"", then=lambda c: flood(c, (b"*20\r\n" + 20 * NIL) * 100 + b"*20\r\n")))

    def test_drip(self):
        self.check_fails(self.after(b"", then=lambda c: drip(c, b"*20\r\n" + 20 * NIL)))
        self.check_fails(lambda c: drip(c, b"+OK\r\n+OK\r\n" * 10))

    def test_a_line_without_end(self):
        self.check_fails(self.after(b"", then=lambda c: flood(c, b"+" * 65536)), calls=1)

    def test_a_late_answer_is_nobodys(self):
        """What arrives after its deadline is never taken for the answer to the next call."""
        def behaviour(c):
            read_until(c, lambda d: b"embedd\r\n" in d)
            c.sendall(b"+OK\r\n+OK\r\n")
            while True:
                read_until(c, lambda d: d.endswith(b"\r\n"))
                time.sleep(0.15)
                c.sendall(b"*20\r\n" + 20 * b"$5\r\nstale\r\n")
        with Liar(behaviour) as liar, Driver(self.url % liar.port) as d:
            for _ in range(3):
                got = d.get(deadline_ms=DEADLINE_MS)
                self.assertNotEqual(got["status"], OK)
                time.sleep(0.2)  # for the late answer to be there

    def test_messages(self):
        got = self.check(self.after(b"-ERR \x1b[31mred\x07" + b"x" * 100000 + b"\r\n"), calls=1)
        self.assertLess(len(got["message"]), 512)
        self.assertNotIn("\x1b", got["message"])


def message(kind, body=b"", length=None):
    return kind + struct.pack(">i", 4 + len(body) if length is None else length) + body


class Postgresql(Common, unittest.TestCase):
    url = "postgresql://u@127.0.0.1:%d/d"
    READY = message(b"Z", b"I")
    WELCOME = message(b"R", struct.pack(">i", 0)) + message(b"S", b"server_version\x0015.4\0") + READY

    @staticmethod
    def start(c):
        first = read_until(c, lambda d: len(d) >= 8)
        if first[:8] == struct.pack(">ii", 8, 80877103):  # asks for TLS
            c.sendall(b"N")
            read_until(c, lambda d: len(d) >= 8)

    def greeted(self, answer, then=hold):
        def behaviour(c):
            self.start(c)
            c.sendall(answer)
            then(c)
        return behaviour

    def queried(self, answer, then=hold):
        """Welcomes, answers the first statement as PostgreSQL does, the others with `answer`."""
        def behaviour(c):
            self.start(c)
            c.sendall(self.WELCOME)
            read_until(c, lambda d: d.endswith(b"\0"))
            c.sendall(message(b"C", b"SET\0") + self.READY)
            read_until(c, lambda d: len(d) > 4)
            c.sendall(answer)
            then(c)
        return behaviour

    def test_greetings(self):
        for answer in (message(b"R", length=2147483647), message(b"R", length=-5), message(b"R", struct.pack(">i", 9999)),
                       message(b"E", b"SFATAL\0Mno\x1b[31m\0\0"), message(b"E", length=1 << 30), self.READY * 100,
                       message(b"R", struct.pack(">i", 10) + b"SCRAM-SHA-256\0\0"), message(b"N", b"SNOTICE\0Mhi\0\0") * 1000):
            with self.subTest(answer=answer[:30]):
                self.check_fails(self.greeted(answer), calls=1)
        self.check_fails(lambda c: (c.recv(8), c.sendall(b"S" + b"\x16\x03\x01" + b"x" * 500), hold(c)))

    def test_answers(self):
        for answer in (message(b"T", length=1 << 30), message(b"D", length=1 << 30), message(b"C", length=0),
                       message(b"G", b"\0\0\0"), message(b"H", b"\0\0\0"), message(b"W", b"\0\0\0"), self.READY * 50,
                       message(b"E", b"SERROR\0CXX000\0M\x07\x1b" + b"y" * 5000 + b"\0\0") + self.READY,
                       message(b"T", struct.pack(">h", 30000)), message(b"D", struct.pack(">hi", 1, 1 << 29)),
                       message(b"A", b"\0\0\0\1x\0y\0") * 1000, message(b"1") + message(b"2") + message(b"n")):
            with self.subTest(answer=answer[:30]):
                self.check_fails(self.queried(answer), calls=1)

    def test_drip(self):
        self.check_fails(self.greeted(b"", then=lambda c: drip(c, self.WELCOME * 5)))
        self.check_fails(self.queried(b"", then=lambda c: drip(c, message(b"N", b"SNOTICE\0Mhi\0\0") * 20)))

    def test_flood_of_notices(self):
        self.check_fails(self.queried(b"", then=lambda c: flood(c, message(b"N", b"SNOTICE\0Mhi\0\0") * 1000)), calls=1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
