#!/usr/bin/env python3
"""The service over HTTP, against the bare HTTP library answering the same bytes.
    bench/http_service.py --program build/embedd --bare build/http_bare [--rounds 5] [--seconds 4] [--soak 60]

Server and client have a CPU each (taskset); runs of the two are interleaved and medians compared. Prints a table for
bench/RESULTS.md. Needs wrk."""
import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
import service  # noqa: E402

MODEL = "all-MiniLM-L6-v2"
ONE = {"model": MODEL, "input": "What is the expense ratio of an index fund?", "encoding_format": "base64"}


def pin(cpu, command):
    return ["taskset", "-c", str(cpu), *command]


class Bare:
    """bench/http_bare: evhttp and nothing else, answering a fixed body in place."""

    def __init__(self, program, size):
        self.process = subprocess.Popen(pin(0, [program, "bare", "inline", str(size), "0"]), stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline().split()[-1])

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


def wrk(port, path, body, seconds, connections=32):
    """(requests a second, p50 ms, p99 ms); raises on errors."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write('wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\nwrk.body = %s\n'
                     % json.dumps(json.dumps(body)))
        script.flush()
        out = subprocess.run(pin(1, ["wrk", "-t1", "-c%d" % connections, "-d%ds" % seconds, "--latency", "-s", script.name,
                                     "http://127.0.0.1:%d%s" % (port, path)]),
                             stdout=subprocess.PIPE, check=True).stdout.decode()
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(out)
    unit = {"us": 1e-3, "ms": 1, "s": 1e3}

    def percentile(p):
        value, u = re.search(r"%d%%\s+([0-9.]+)(us|ms|s)" % p, out).groups()
        return float(value) * unit[u]
    return float(re.search(r"Requests/sec:\s+([0-9.]+)", out).group(1)), percentile(50), percentile(99)


def serve(program, **env):
    settings = {"EMBEDD_ACCESS_LOG": "false", "EMBEDD_LOOPS": "1", "EMBEDDING_L1_CACHE_SIZE": "100000"}
    settings.update(env)
    s = service.Service(env=settings, program=program)
    subprocess.run(["taskset", "-a", "-c", "-p", "0", str(s.process.pid)], check=True, stdout=subprocess.DEVNULL)
    return s


def cached(options):
    """A cached text against bare evhttp."""
    with serve(options.program) as s:
        s.post("/v1/embeddings", ONE)
        connection = s.connect()
        connection.request("POST", "/v1/embeddings", json.dumps(ONE), {"content-type": "application/json"})
        size = len(connection.getresponse().read())
        connection.close()
        bare = Bare(options.bare, size)
        try:
            ours, library = [], []
            for _ in range(options.rounds):
                library.append(wrk(bare.port, "/", ONE, options.seconds))
                ours.append(wrk(s.port, "/v1/embeddings", ONE, options.seconds))
        finally:
            bare.close()
        a, b = statistics.median(r[0] for r in ours), statistics.median(r[0] for r in library)
        print("| cached text, base64, %d bytes, 32 connections, requests/s | %.0f | %.0f (bare evhttp) | %.2f | >= 0.60 |"
              % (size, a, b, a / b), flush=True)
        half(options, s, a / 2)


def half(options, s, rate):
    """An open loop: latency counts from when a request was due. All texts are cached after the warm-up."""
    out = subprocess.run(pin(1, [options.program, "loadtest", s.url, "--rate", "%.0f" % rate, "--duration",
                                 str(options.seconds * 2), "--warmup", "2", "--connections", "64", "--repeat", "100",
                                 "--distinct", "64", "--words", "8", "--format", "json"]),
                         stdout=subprocess.PIPE, env=service.clean_environment(), check=True)
    report = json.loads(out.stdout)
    if set(report["statuses"]) != {"200"}:
        raise SystemExit(out.stdout.decode())
    print("| cached text at half of that rate (%.0f/s), p50 / p99 ms | %.3f / %.3f | | | p99 < 1 |"
          % (rate, report["latency_ms"]["p50"], report["latency_ms"]["p99"]), flush=True)


def batch(options):
    """2,048 texts, all cached and 90 % cached."""
    texts = ["text number %d of the batch, which is in the cache" % i for i in range(2048)]
    with serve(options.program) as s:
        for encoding, bar in (("base64", "1 GB/s"), ("float", "400 MB/s")):
            body = {"model": MODEL, "input": texts, "encoding_format": encoding}
            s.post("/v1/embeddings", body)
            times, size = [], 0
            connection = s.connect()
            for _ in range(options.rounds * 4):
                start = time.perf_counter()
                connection.request("POST", "/v1/embeddings", json.dumps(body), {"content-type": "application/json"})
                size = len(connection.getresponse().read())
                times.append(time.perf_counter() - start)
            connection.close()
            best = statistics.median(times)
            print("| 2,048 cached texts, %s: whole request in ms; MB/s of body | %.2f | %.0f MB/s | | >= %s of serialising |"
                  % (encoding, best * 1e3, size / best / 1e6, bar), flush=True)


def resident(pid):
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1)) * 1024


def idle(options, count=1000):
    with serve(options.program) as s:
        s.post("/v1/embeddings", ONE)
        before, connections = resident(s.process.pid), []
        for _ in range(count):
            c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=60)
            c.request("GET", "/health")
            c.getresponse().read()
            connections.append(c)
        grown = resident(s.process.pid) - before
        for c in connections:
            c.close()
    print("| %d idle keep-alive connections, MB | %.1f | | | < 32 |" % (count, grown / 1e6), flush=True)


def soak(options):
    """Requests of many kinds from many connections; the line through resident memory after a warm-up."""
    stop, done, failures = threading.Event(), [0], []

    def client(s, n):
        connection, i = s.connect(), n
        while not stop.is_set():
            i += 7
            text = "soak %d" % (i % 5000)
            body = {"model": MODEL, "input": [text, "again " + text] if i % 3 else text,
                    "encoding_format": "float" if i % 5 else "base64"}
            try:
                connection.request("POST", "/v1/embeddings" if i % 11 else "/nowhere", json.dumps(body),
                                   {"content-type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                if answer.status >= 500:
                    failures.append(answer.status)
                done[0] += 1
                if i % 97 == 0:
                    connection.close()
            except OSError as e:
                failures.append(e)
                connection.close()
        connection.close()
    with service.Service(env={"EMBEDD_ACCESS_LOG": "false", "EMBEDDING_L1_CACHE_SIZE": "2000"}, program=options.program) as s:
        threads = [threading.Thread(target=client, args=(s, n)) for n in range(8)]
        for t in threads:
            t.start()
        port, points = s.port, []
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write('wrk.method = "POST"\nlocal i = 0\nrequest = function()\n  i = (i + 1) % 3000\n'
                         '  return wrk.format("POST", "/v1/embeddings", {["Content-Type"] = "application/json"},\n'
                         '    "{\\"input\\": \\"soak " .. i .. "\\"}")\nend\n')
            script.flush()
            load = subprocess.Popen(["wrk", "-t1", "-c16", "-d%ds" % options.soak, "-s", script.name,
                                     "http://127.0.0.1:%d/" % port], stdout=subprocess.PIPE)
            begin = time.monotonic()
            while load.poll() is None:
                points.append((time.monotonic() - begin, resident(s.process.pid)))
                time.sleep(0.5)
            out = load.stdout.read().decode()
        stop.set()
        for t in threads:
            t.join()
    requests = int(re.search(r"(\d+) requests in", out).group(1)) + done[0]
    points = points[len(points) // 3:]
    mean_t = statistics.mean(t for t, _ in points)
    mean_m = statistics.mean(m for _, m in points)
    slope = sum((t - mean_t) * (m - mean_m) for t, m in points) / sum((t - mean_t) ** 2 for t, _ in points)
    print("| soak: %d requests in %d s, failures | %d | | | 0 |" % (requests, options.soak, len(failures)))
    print("| soak: resident memory %.1f MB, growth in bytes a request | %.2f | | | 0 |"
          % (mean_m / 1e6, slope * options.soak / requests), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default=os.path.join(ROOT, "build", "embedd"))
    parser.add_argument("--bare", default=os.path.join(ROOT, "build", "http_bare"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--soak", type=int, default=60)
    options = parser.parse_args()
    options.program, options.bare = os.path.abspath(options.program), os.path.abspath(options.bare)
    print("| what | embedd | other | ratio | bar |\n|---|--:|--:|--:|---|")
    cached(options)
    batch(options)
    idle(options)
    soak(options)


if __name__ == "__main__":
    main()
