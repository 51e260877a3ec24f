#!/usr/bin/env python3
"""What a gateway adds to a call of a remote embedding API: embedd and LiteLLM before the same mock.
    bench/gateway_latency.py --build build [--rounds 3] [--requests 5000] [--seconds 5] [--contenders direct embedd litellm]

Upstream is tests/support/upstream_fast (one text, 1,536 dimensions, base64), client bench/gateway_client (C, one
connection, one request at a time, another text each). Contenders take turns, round after round; what is added is the
difference of a quantile to the direct call's in the same round, and the median over the rounds counts. Client and mock
share a CPU, the gateway has another (--cpus): with one request on its way at most one of the three has work. Every
contender must answer with the mock's own vector, and the mock is not asked by a cache: embedd's is off, LiteLLM's is off
unless configured. LiteLLM is installed by pip into BUILD/litellm at the first run (about 400 MB), with httptools: without
it its server parses HTTP in Python. It has one worker, as one request at a time can use no more, no database and no
callbacks; what it adds is its own Python, so the figure depends on the interpreter: quote it with the machine."""
import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
import service  # noqa: E402

MODEL = "text-embedding-3-small"
LITELLM = "1.108.7"
BARS = {"p50": 60, "p99": 150}  # µs added by embedd


def pin(cpu, command):
    return ["taskset", "-c", cpu, *command]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def stop(process, patience=15):
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Direct:
    """The mock itself."""
    name = "direct"
    key = "x"

    def __init__(self, options):
        self.process = subprocess.Popen(pin(options.cpus[1], [os.path.join(options.build, "upstream_fast")]),
                                        stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline().split()[1])
        self.version = ""

    def close(self):
        stop(self.process)
        self.process.stdout.close()


class Embedd:
    name = "embedd"
    key = "x"

    def __init__(self, options, upstream):
        program = os.path.join(options.build, "embedd")
        self.version = subprocess.run([program, "--version"], stdout=subprocess.PIPE, check=True).stdout.decode().split()[-1]
        settings = {"OPENAI_API_KEY": "x", "OPENAI_BASE_URL": "http://127.0.0.1:%d/v1" % upstream,
                    "OPENAI_EMBEDDING_MODEL": MODEL, "EMBEDDING_PROVIDER": "openai", "EMBEDDING_ENABLE_CACHING": "false",
                    "EMBEDDING_DAILY_API_BUDGET_USD": "1000000", "EMBEDD_ACCESS_LOG": "false", "EMBEDD_LOG": "warn,json"}
        self.port = free_port()
        self.service = service.Service(env=settings, listen="127.0.0.1:%d" % self.port, program=program, ready=False)
        subprocess.run(["taskset", "-a", "-c", "-p", options.cpus[2], str(self.service.process.pid)], check=True,
                       stdout=subprocess.DEVNULL)
        self.ready = "http://127.0.0.1:%d/ready" % self.port

    def wait(self):
        wait_for(self.service.process, self.ready, lambda: self.service.lines[-5:])

    def close(self):
        self.service.__exit__(None, None, None)


class LiteLLM:
    name = "litellm"
    key = "sk-litellm"

    def __init__(self, options, upstream):
        venv = os.path.join(options.build, "litellm")
        program = os.path.join(venv, "bin", "litellm")
        if not os.path.exists(program):
            print("installing litellm[proxy] %s into %s ..." % (options.litellm, venv), file=sys.stderr, flush=True)
            subprocess.run([sys.executable, "-m", "venv", venv], check=True)
            subprocess.run([os.path.join(venv, "bin", "pip"), "install", "-q", "litellm[proxy]==" + options.litellm,
                            "httptools"], check=True)
        self.version = subprocess.run([os.path.join(venv, "bin", "python"), "-c",
                                       "import importlib.metadata as m; print(m.version('litellm'))"],
                                      stdout=subprocess.PIPE, check=True).stdout.decode().strip()
        config = os.path.join(venv, "gateway.yaml")
        with open(config, "w") as f:
            json.dump({"model_list": [{"model_name": MODEL,
                                       "litellm_params": {"model": "openai/" + MODEL, "api_key": "x",
                                                          "api_base": "http://127.0.0.1:%d/v1" % upstream}}],
                       "litellm_settings": {"telemetry": False, "set_verbose": False},
                       "general_settings": {"master_key": self.key}}, f)
        self.port = free_port()
        self.log = open(os.path.join(venv, "gateway.log"), "w+")
        env = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR",
               "NO_PROXY": "127.0.0.1", "PATH": os.path.join(venv, "bin") + ":" + os.environ["PATH"]}
        self.process = subprocess.Popen(pin(options.cpus[2], [program, "--config", config, "--host", "127.0.0.1", "--port",
                                                              str(self.port), "--num_workers", "1", "--telemetry", "False"]),
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=env)

    def wait(self):
        wait_for(self.process, "http://127.0.0.1:%d/health/liveliness" % self.port, self.tail)

    def tail(self):
        with open(self.log.name, errors="replace") as f:
            return f.read()[-2000:]

    def close(self):
        stop(self.process)
        self.log.close()


def wait_for(process, url, log, patience=180):
    """Waits until the address answers 200."""
    deadline = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (OSError, urllib.error.URLError):
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("it does not answer at %s; the log's end: %s" % (url, log()))
        time.sleep(0.1)


def measure(options, contender, requests=None, warm_up=300):
    run = subprocess.run(pin(options.cpus[0], [os.path.join(options.build, "gateway_client"), str(contender.port),
                                               str(requests or options.requests), str(options.seconds), str(warm_up),
                                               contender.key, MODEL]),
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if run.returncode:
        raise RuntimeError(run.stderr.decode(errors="replace").strip()[-700:])
    return json.loads(run.stdout)


def start(options, running):
    """Adds the contenders that answer as the mock does, which is there already; says of the others why not."""
    direct, reasons = running[0], {}
    expected = measure(options, direct, 10)["vector"]
    for make in (Embedd, LiteLLM):
        if make.name not in options.contenders:
            continue
        before = len(running)
        try:
            running.append(make(options, direct.port))
            running[-1].wait()
            if measure(options, running[-1], 10, 20)["vector"] != expected:
                raise RuntimeError("its vector is not the mock's")
        except (RuntimeError, OSError, AssertionError, subprocess.CalledProcessError) as e:
            reasons[make.name] = " ".join(str(e).split())
            if len(running) > before:
                running.pop().close()
    return reasons


def added(rounds, name, quantile):
    """Of each round: what this contender adds at a quantile, in µs."""
    return [r[name][quantile] - r["direct"][quantile] for r in rounds]


def report(running, rounds):
    versions = {c.name: " ".join((c.name, c.version)).strip() for c in running}
    print("| call | requests | p50 µs | p99 µs | added p50 | added p99 | spread of added p50 |")
    print("|---|---|---|---|---|---|---|")
    for c in running:
        mine = [r[c.name] for r in rounds]
        p50, p99 = (statistics.median(r[q] for r in mine) for q in ("p50", "p99"))
        line = "| %s | %d | %.1f | %.1f |" % (versions[c.name], sum(r["requests"] for r in mine), p50, p99)
        if c.name == "direct":
            print(line + " | | |")
            continue
        a50, a99 = added(rounds, c.name, "p50"), added(rounds, c.name, "p99")
        print(line + " %.1f | %.1f | %.1f to %.1f |" % (statistics.median(a50), statistics.median(a99), min(a50), max(a50)))
    names = [c.name for c in running]
    if "embedd" in names and "litellm" in names:
        for q in ("p50", "p99"):
            ours, theirs = (statistics.median(added(rounds, n, q)) for n in ("embedd", "litellm"))
            print("litellm adds %.1f times as much as embedd at %s" % (theirs / ours if ours > 0 else float("inf"), q))
    if "embedd" in names:
        for q, bar in BARS.items():
            value = statistics.median(added(rounds, "embedd", q))
            print("embedd adds %.1f µs at %s, bar %d µs: %s" % (value, q, bar, "met" if value < bar else "NOT met"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=5000, help="of each contender in each round, at most")
    parser.add_argument("--seconds", type=float, default=5, help="of each contender in each round, at most")
    parser.add_argument("--contenders", nargs="+", default=["embedd", "litellm"], choices=["direct", "embedd", "litellm"])
    parser.add_argument("--cpus", type=lambda s: s.split(","), default=["1", "1", "0"], help="of client, mock and gateway")
    parser.add_argument("--litellm", default=LITELLM, help="the version that is installed where none is")
    parser.add_argument("--json", help="a file for all figures")
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    running = [Direct(options)]
    try:
        reasons = start(options, running)
        rounds = []
        for i in range(options.rounds):
            # the other way round every second time, so that no contender always comes after the same one
            order = running if i % 2 == 0 else running[::-1]
            rounds.append({c.name: measure(options, c) for c in order})
        report(running, rounds)
        for name, reason in reasons.items():
            print("%s was not measured: %s" % (name, reason))
        if options.json:
            with open(options.json, "w") as f:
                json.dump({"cpus": options.cpus, "versions": {c.name: c.version for c in running}, "rounds": rounds}, f)
        return 1 if reasons else 0
    finally:
        for c in reversed(running):
            c.close()


if __name__ == "__main__":
    sys.exit(main())
