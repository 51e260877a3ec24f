#!/usr/bin/env python3
"""What shadow mode costs the caller: the same requests at two services, one of which runs the candidate beside them.
    bench/shadow_cost.py --build build [--rounds 8] [--seconds 2]

Three cases, each at a fixed rate, as a caller's rate does not depend on the answers: answers from memory, texts that the
local model computes, texts of a remote provider. The candidate of the first two is the remote provider (the mock
tests/support/upstream_fast), of the third the local model, on the same CPUs. The services take turns, block after block,
each first as often as the other; both run all the time. Latency is from when a request was due to the last byte of its
answer, so that a service that falls behind cannot hide it. The client is Python with one connection: its own 50 µs or so
are in both figures. What is reported is the median over the rounds of the ratio with/without of the round, and its spread:
on a machine that others use too, the spread tells what can be seen at all."""
import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
import service  # noqa: E402

CASES = [("cached", "local", "openai", 300), ("local", "local", "openai", 15), ("remote", "openai", "local", 100)]


class Client:
    """One connection; its requests are written by hand: a library would be most of what is measured."""

    def __init__(self, port):
        self.link = socket.create_connection(("127.0.0.1", port))
        self.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, text):
        body = json.dumps({"input": text, "encoding_format": "base64"}).encode()
        self.link.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                          % (len(body), body))
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.more()
        head, rest = data.split(b"\r\n\r\n", 1)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError((head + rest)[:500].decode(errors="replace"))
        left = next(int(l.split(b":")[1]) for l in head.lower().split(b"\r\n") if l.startswith(b"content-length")) - len(rest)
        while left > 0:
            left -= len(self.more())

    def more(self):
        data = self.link.recv(65536)
        if not data:
            raise RuntimeError("the service closed the connection")
        return data


def start(options, upstream, legacy, candidate, shadow):
    env = {"OPENAI_API_KEY": "x", "OPENAI_BASE_URL": "http://127.0.0.1:%d/v1" % upstream, "EMBEDDING_PROVIDER": "openai",
           "OPENAI_EMBEDDING_MODEL": "text-embedding-3-small", "USE_HYBRID_EMBEDDINGS": "false",
           "EMBEDD_LEGACY_PROVIDER": legacy, "EMBEDD_CANDIDATE_PROVIDER": candidate,
           "EMBEDDING_SHADOW_MODE": "true" if shadow else "false", "EMBEDDING_DAILY_API_BUDGET_USD": "1000000",
           "EMBEDD_SHADOW_DAILY_BUDGET_USD": "1000000", "EMBEDD_ACCESS_LOG": "false"}
    return service.Service(env=env, program=os.path.join(options.build, "embedd"))


def block(client, name, rate, seconds, numbers):
    """Latencies in µs of requests at this rate."""
    found, begin = [], time.perf_counter()
    for i in range(int(rate * seconds)):
        due = begin + i / rate
        while (left := due - time.perf_counter()) > 0:
            time.sleep(left)
        client.post("a text that is there" if name == "cached" else "what is the yield of fund %d" % next(numbers))
        found.append((time.perf_counter() - due) * 1e6)
    return found


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))]


def measure(options, upstream, name, legacy, candidate, rate):
    running = [start(options, upstream, legacy, candidate, shadow) for shadow in (False, True)]
    try:
        clients, numbers, rounds = [Client(s.port) for s in running], iter(range(10 ** 9)), []
        for c in clients:
            block(c, name, rate, 1, numbers)
        for i in range(options.rounds):
            found = {}
            for k in (0, 1) if i % 2 == 0 else (1, 0):
                found[k] = block(clients[k], name, rate, options.seconds, numbers)
            rounds.append({q: (quantile(found[0], v), quantile(found[1], v)) for q, v in (("p50", .5), ("p99", .99))})
        deadline = time.monotonic() + 10
        while True:
            shadow = running[1].get("/api/v1/embeddings/shadow")[2]
            if not shadow["queued"] or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        if shadow["failures"] or not shadow["comparisons"]:
            raise RuntimeError("the shadow did not run: %r" % shadow)
        return rounds, shadow
    finally:
        for s in running:
            s.close()


def row(name, rounds, shadow):
    line = "| %s | %d | %d |" % (name, shadow["comparisons"], shadow["dropped"])
    for q in ("p50", "p99"):
        without, with_it = (statistics.median(r[q][k] for r in rounds) for k in (0, 1))
        ratios = sorted(r[q][1] / r[q][0] for r in rounds)
        line += " %.0f | %.0f | %.2f (%.2f to %.2f) |" % (without, with_it, statistics.median(ratios), ratios[0], ratios[-1])
    return line


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2, help="of each block")
    parser.add_argument("--cases", nargs="+", default=[c[0] for c in CASES], choices=[c[0] for c in CASES])
    parser.add_argument("--json", help="a file for all figures")
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    mock = subprocess.Popen([os.path.join(options.build, "upstream_fast")], stdout=subprocess.PIPE)
    figures = {}
    try:
        port = int(mock.stdout.readline().split()[1])
        print("| answers | compared | dropped | p50 µs without | with | ratio | p99 µs without | with | ratio |")
        print("|---|---|---|---|---|---|---|---|---|", flush=True)
        for name, legacy, candidate, rate in CASES:
            if name in options.cases:
                rounds, shadow = measure(options, port, name, legacy, candidate, rate)
                figures[name] = rounds
                print(row("%s, %d a second" % (name, rate), rounds, shadow), flush=True)
    finally:
        mock.terminate()
        mock.wait()
        mock.stdout.close()
    if options.json:
        with open(options.json, "w") as f:
            json.dump(figures, f)


if __name__ == "__main__":
    main()
