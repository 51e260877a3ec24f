"""Compares embedd with other engines: same cores, same texts, text in and unit vector out.

    python3 bench/compare.py --dir ~/.cache/embedd-bench --library build/libembedd.so --cli build/embedd

Every contender is a process of its own, pinned to the same CPUs, with a thread count and settings chosen
for it by a short trial per kind of text. Then they take turns on the same texts, round after round, and
the median of the rounds counts. Writes everything as JSON; bench/report.py makes the tables.
"""
import argparse
import contextlib
import fcntl
import fnmatch
import json
import os
import re
import select
import statistics
import subprocess
import sys
import time

import numpy as np

import contenders as known
import models
import texts as corpus

HERE = os.path.dirname(os.path.abspath(__file__))
COUNTS = {"all-MiniLM-L6-v2": {"16": 512, "128": 96, "512": 24, "mix": 256},
          "bge-base": {"16": 128, "128": 24, "512": 8, "mix": 48}}
LOCK_WAIT_S = 20
ANSWER_S = 120  # a contender that hangs is dropped, and must not keep the lock
SHORT = "how do I sort a list of tuples by the second element"


@contextlib.contextmanager
def alone(lock):
    """Nothing else that respects the lock file measures meanwhile, unless it holds on for very long."""
    if not lock:
        yield
        return
    with open(lock, "w", encoding="ascii") as f:
        until = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    break
                time.sleep(0.02)
        yield


class Worker:
    def __init__(self, name, directory, threads, sets_file, args):
        self.name = name
        line = command(name, directory, threads, args) + ["--sets", sets_file]
        self.process = subprocess.Popen(line,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=args.log, text=True,
                                        env=environment(name, args))

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], ANSWER_S)[0]:
            self.process.kill()
            raise RuntimeError(f"no answer in {ANSWER_S} s")
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("ended unexpectedly")
        reply = json.loads(line)
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return reply

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def command(name, directory, threads, args):
    line = [sys.executable, "-W", "ignore", f"{HERE}/worker.py", name, directory, "--threads", str(threads)]
    return line + (["--library", args.library] if args.library else [])


def environment(name, args):
    """MKL takes its slow path on CPUs of other makers unless told otherwise: PyTorch gets the well-known
    override, which doubles its speed there."""
    env = dict(os.environ)
    override = f"{args.dir}/bin/libmklintel.so"
    if name.startswith("torch") and os.path.exists(override):
        env["LD_PRELOAD"] = override
    if name.startswith("tei"):
        env["EMBEDD_BENCH_TEI"] = f"{args.dir}/bin/text-embeddings-router"
    return env


def references(model, directory, sets):
    """float64 vectors per set, kept beside the models: slow, and always the same."""
    out, tok = {}, corpus.tokenizer(directory)
    weights = None
    for name, texts in sets.items():
        path = f"{directory}.reference-{name}-{len(texts)}-{abs(hash_texts(texts)):x}.npy"
        if not os.path.exists(path):
            import torch_bert
            if weights is None:
                weights = {k: v for k, v in models.read_weights(directory).items()
                           if not k.endswith("position_ids")}
            config = models.read_config(directory)
            np.save(path, torch_bert.reference(weights, config, models.POOLING[model], tok, texts))
        out[name] = np.load(path)
    return out


def hash_texts(texts):
    import hashlib
    return int(hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12], 16)


def cosine(vectors, reference):
    v = vectors.astype(np.float64)
    return (v * reference).sum(1) / np.linalg.norm(v, axis=1) / np.linalg.norm(reference, axis=1)


def start_workers(names, directory, threads, sets_file, args):
    workers = []
    for name in names:
        worker = Worker(name, directory, threads, sets_file, args)
        try:
            worker.about = worker.ask(do="variants")
            workers.append(worker)
        except (RuntimeError, OSError) as problem:
            print(f"  {name}: left out ({problem}); see {args.log.name}", flush=True)
    return workers


def tune(worker, model, threads, sets, args):
    """The fastest setting per set, tried on half of its texts. What was found is kept in DIR/tuned.json
    (remove it to try again)."""
    path, found = f"{args.dir}/tuned.json", {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            found = json.load(f)
    variants = worker.about["variants"]
    worker.best = {}
    with alone(args.lock):
        for name in sets:
            key = f"{model}/{threads}/{worker.name}/{worker.about['version']}/{name}/{len(sets[name])}"
            if len(variants) > 1 and found.get(key) not in variants:
                speeds = []
                for variant in variants:
                    worker.ask(do="time", set=name, variant=variant, least_s=0, every=2)
                    r = worker.ask(do="time", set=name, variant=variant, least_s=args.trial_s, every=2)
                    speeds.append(r["rounds"] / r["seconds"])
                found[key] = variants[int(np.argmax(speeds))]
            worker.best[name] = found.get(key, variants[0])
    with open(path, "w", encoding="utf-8") as f:
        json.dump(found, f, indent=1)


def rounds(workers, sets, tokens, args, results):
    for turn in range(args.rounds):
        for name in sets:
            with alone(args.lock):
                for i in range(len(workers)):
                    worker = workers[(i + turn) % len(workers)]
                    if worker.name not in results:
                        continue
                    try:
                        r = worker.ask(do="time", set=name, variant=worker.best[name], least_s=args.least_s)
                    except (RuntimeError, OSError) as problem:
                        drop(worker, problem, results)
                        continue
                    speed = tokens[name] * r["rounds"] / r["seconds"]
                    cpu = tokens[name] * r["rounds"] / r["cpu_s"] if r["cpu_s"] else 0
                    results[worker.name]["sets"][name]["tokens_s"].append(speed)
                    results[worker.name]["sets"][name]["tokens_cpu_s"].append(cpu)
                    results[worker.name]["sets"][name]["detail"] = r["detail"]
        print(f"  round {turn + 1} of {args.rounds}", flush=True)


def drop(worker, problem, results):
    print(f"  {worker.name}: dropped ({problem})", flush=True)
    results.pop(worker.name, None)


def fidelity(worker, sets, reference, args, result):
    for name in sets:
        path = f"{args.dir}/vectors.npy"
        reply = worker.ask(do="vectors", set=name, variant=worker.best[name], file=path)
        c = cosine(np.load(path), reference[name])
        result["sets"][name].update(cosine_mean=float(c.mean()), cosine_worst=float(c.min()))
        result["peak_rss_mb"] = reply["rss_kb"] / 1024


def latency(worker, args):
    """One short text: the best of the settings, since a user would pick it."""
    medians = []
    with alone(args.lock):
        for variant in worker.about["variants"]:
            worker.ask(do="latency", text=SHORT, variant=variant, times=5)
            times = worker.ask(do="latency", text=SHORT, variant=variant, times=args.latency_times)["seconds"]
            medians.append(statistics.median(times))
    return min(medians) * 1000


def compare(model, threads, args):
    directory = f"{args.dir}/models/{model}"
    sets = {k: v for k, v in args.all_sets[model].items() if k in args.sets}
    tok = corpus.tokenizer(directory)
    tokens = {k: sum(len(e) for e in tok.encode_batch(v)) for k, v in sets.items()}
    reference = references(model, directory, sets)
    sets_file = f"{args.dir}/sets-{model}.json"
    with open(sets_file, "w", encoding="utf-8") as f:
        json.dump(sets, f)
    print(f"{model}, {threads} thread{'s' * (threads > 1)}", flush=True)
    workers = start_workers(args.contenders, directory, threads, sets_file, args)
    results = {}
    try:
        for worker in list(workers):
            try:
                tune(worker, model, threads, sets, args)
            except (RuntimeError, OSError) as problem:
                drop(worker, problem, results)
                workers.remove(worker)
                continue
            results[worker.name] = {"version": worker.about["version"], "sets": {
                name: {"tokens_s": [], "tokens_cpu_s": [], "texts": len(sets[name]), "tokens": tokens[name],
                       "setting": worker.best[name]} for name in sets}}
            fidelity(worker, sets, reference, args, results[worker.name])
            print(f"  {worker.name}: {json.dumps(worker.best)}", flush=True)
        rounds(workers, sets, tokens, args, results)
        for worker in workers:
            if worker.name in results:
                results[worker.name]["latency_ms"] = latency(worker, args)
    finally:
        for worker in workers:
            worker.close()
    return results


class Launcher:
    """A small process that starts others and times them: a child begins with the memory peak of the
    process it was forked from, which must therefore be small."""

    SOURCE = """
import json, os, sys, time
for text in sys.stdin:
    r = json.loads(text)
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.execvpe(r["line"][0], r["line"], r["env"])
    _, status, usage = os.wait4(child, 0)
    print(json.dumps({"status": status, "seconds": time.perf_counter() - start,
                      "peak_kb": usage.ru_maxrss}), flush=True)
"""

    def __init__(self, log):
        self.process = subprocess.Popen([sys.executable, "-S", "-E", "-c", self.SOURCE], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=log, text=True)

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def startup(name, model, args):
    """Process start to first vector, page cache warm: embedd's program, the peers' shortest script."""
    directory = f"{args.dir}/models/{model}"
    line = command(name, directory, 2, args) + ["--startup", SHORT]
    if name.startswith("embedd"):
        line = [args.cli, "embed", "--model", directory, "--precision", name.rsplit("-", 1)[1], SHORT]
    times, peak = [], 0
    for _ in range(1 + args.startup_times):
        with alone(args.lock):
            r = args.launcher.ask(line=line, env=environment(name, args))
        if r["status"]:
            raise RuntimeError(f"start-up run of {name} failed")
        times.append(r["seconds"])
        peak = r["peak_kb"] / 1024
    return {"startup_ms": statistics.median(times[1:]) * 1000, "startup_peak_mb": peak}


def widest():
    isa = machine()["isa"]
    return next((table for table, flag in (("amx", "amx_bf16"), ("avx512", "avx512f"), ("avx2", "avx2"))
                 if flag in isa), "portable")


def roof(args):
    """GFLOP/s of bare multiply-adds on one core, by precision: the best that any table of this CPU has."""
    with alone(args.lock):
        text = subprocess.run([args.kernels_bench, widest(), "0.01"],
                              check=True, capture_output=True, text=True).stdout
    found = re.findall(r"peaks: fp32 (\d+), bf16 (\d+) GFLOP/s, int8 (\d+) GOP/s", text)
    return {p: max(float(line[i]) for line in found) for i, p in enumerate(("fp32", "bf16", "int8")) if found}


def machine():
    def first(path, key):
        with open(path, encoding="utf-8") as f:
            for line in f:
                if line.startswith(key):
                    return line.split(":", 1)[1].strip()
        return ""
    flags = first("/proc/cpuinfo", "flags").split() or first("/proc/cpuinfo", "Features").split()
    wanted = [f for f in flags if f.startswith(("avx", "amx", "fma", "asimd", "bf16", "i8mm", "sve"))]
    return {"cpu": first("/proc/cpuinfo", "model name"), "cpus": os.cpu_count(), "isa": wanted,
            "family": first("/proc/cpuinfo", "cpu family"), "kernel": os.uname().release}


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--dir", required=True, help="what bench/setup-peers made")
    p.add_argument("--library", help="libembedd.so; without it only the peers run")
    p.add_argument("--cli", help="the embedd program, for start-up and peak memory")
    p.add_argument("--texts", default=f"{HERE}/data/peps.sample.txt")
    p.add_argument("--models", nargs="+", default=list(COUNTS))
    p.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    p.add_argument("--sets", nargs="+", default=["16", "128", "512", "mix"])
    p.add_argument("--contenders", nargs="+", default=["*"], help="names or patterns, e.g. 'embedd*' 'openvino*'")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--least-s", type=float, default=0.6, help="shortest timing of one contender in a round")
    p.add_argument("--trial-s", type=float, default=0.2)
    p.add_argument("--latency-times", type=int, default=60)
    p.add_argument("--startup-times", type=int, default=5, help="0 leaves start-up out")
    p.add_argument("--lock", help="hold this file's lock while measuring")
    p.add_argument("--kernels-bench", help="the program that measures the chip's rate of multiply-adds")
    p.add_argument("--nice", type=int, default=0, help="priority on a busy machine, e.g. -12 (needs root)")
    p.add_argument("--out", default=f"{HERE}/results-latest.json")
    args = p.parse_args()
    args.dir = os.path.abspath(os.path.expanduser(args.dir))
    args.contenders = [n for n in known.NAMES if any(fnmatch.fnmatch(n, c) for c in args.contenders)
                       and (args.library or not n.startswith("embedd"))
                       and (not n.startswith("tei") or os.path.exists(f"{args.dir}/bin/text-embeddings-router"))]
    args.library = args.library and os.path.abspath(args.library)
    return args


def main():
    args = parse()
    args.log = open(f"{args.dir}/compare.log", "w", encoding="utf-8")
    if args.nice:
        prefer(args.nice)
    args.launcher = Launcher(args.log)
    paragraphs = corpus.load(args.texts)
    args.all_sets = {m: corpus.build(paragraphs, corpus.tokenizer(f"{args.dir}/models/{m}"), COUNTS[m])
                     for m in args.models}
    report = {"date": time.strftime("%Y-%m-%d"), "machine": machine(), "texts": os.path.basename(args.texts),
              "rounds": args.rounds, "least_s": args.least_s, "runs": {}, "startup": {}}
    if args.kernels_bench:
        report["roof"] = roof(args)
    for model in args.models:
        for threads in args.threads:
            report["runs"][f"{model}/{threads}"] = compare(model, threads, args)
            save(report, args.out)
        for name in args.contenders if args.startup_times else []:
            try:
                report["startup"].setdefault(model, {})[name] = startup(name, model, args)
            except (RuntimeError, OSError, TypeError) as problem:
                print(f"  start-up of {name}: left out ({problem})", flush=True)
        save(report, args.out)
    import report as tables
    print(tables.render(report))


def prefer(nice):
    """Linux shares CPU time between sessions first, so the priority has to be the session's."""
    with contextlib.suppress(OSError):
        os.setsid()
    os.setpriority(os.PRIO_PROCESS, 0, nice)
    if os.path.exists("/proc/self/autogroup"):
        with open("/proc/self/autogroup", "w", encoding="ascii") as f:
            f.write(str(nice))


def save(report, path):
    with open(path + ".part", "w", encoding="utf-8") as f:
        json.dump(report, f, indent=1)
    os.replace(path + ".part", path)


if __name__ == "__main__":
    main()
