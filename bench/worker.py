"""One contender in a process of its own, driven by lines of JSON on stdin.

    {"do": "variants"}                                    -> {"variants": [...], "version": ...}
    {"do": "time", "set": "128", "variant": {}, "least_s": 0.5}  -> {"seconds", "cpu_s", "rounds", "detail"}
    {"do": "latency", "text": "...", "times": 50}         -> {"seconds": [...]}
    {"do": "vectors", "set": "128", "file": "x.npy"}      -> {"rss_kb"}

A process each keeps thread pools, allocators and peak memory apart. `--startup TEXT` instead embeds one
text and prints nothing: the time that takes from outside is the start-up time.
"""
import argparse
import json
import os
import sys
import time


def pin(threads):
    cpus = sorted(os.sched_getaffinity(0))[-threads:]
    os.sched_setaffinity(0, cpus)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
    os.environ["HF_HUB_OFFLINE"] = "1"


def peak_kb(pid="self"):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0


def pid(contender):
    return contender.process.pid if hasattr(contender, "process") else "self"


def forget_peak(contender):
    """So that the peak is that of one encode() with the chosen setting, not of the trials before."""
    with open(f"/proc/{pid(contender)}/clear_refs", "w", encoding="ascii") as f:
        f.write("5")


def answer(contender, sets, request):
    what = request["do"]
    if what == "variants":
        return {"variants": contender.variants(), "version": contender.version, "rss_kb": peak_kb()}
    if what == "time":
        texts, variant = sets[request["set"]][:: request.get("every", 1)], request["variant"]
        cpu, start, rounds = time.process_time(), time.perf_counter(), 0
        while True:
            contender.encode(texts, variant)
            rounds += 1
            seconds = time.perf_counter() - start
            if seconds >= request["least_s"]:
                break
        detail = contender.detail() if hasattr(contender, "detail") else {}
        return {"seconds": seconds, "cpu_s": time.process_time() - cpu, "rounds": rounds, "detail": detail}
    if what == "latency":
        times = []
        for _ in range(request["times"]):
            start = time.perf_counter()
            contender.encode([request["text"]], request["variant"])
            times.append(time.perf_counter() - start)
        return {"seconds": times}
    if what == "vectors":
        import numpy as np
        forget_peak(contender)
        np.save(request["file"], contender.encode(sets[request["set"]], request["variant"]))
        return {"rss_kb": peak_kb(pid(contender))}
    raise ValueError(what)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("directory")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--library")
    parser.add_argument("--sets", help="JSON file: name of a set -> texts")
    parser.add_argument("--startup", metavar="TEXT")
    args = parser.parse_args()
    pin(args.threads)
    wire = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print does not belong on the wire
    import contenders
    contender = contenders.make(args.name, args.directory, args.threads, args.library)
    try:
        if args.startup is not None:
            contender.encode([args.startup], contender.variants()[0])
            return
        with open(args.sets, encoding="utf-8") as f:
            sets = json.load(f)
        for line in sys.stdin:
            try:
                reply = answer(contender, sets, json.loads(line))
            except Exception as problem:  # one failing measurement must not end the comparison
                reply = {"error": f"{type(problem).__name__}: {problem}"}
            wire.write(json.dumps(reply) + "\n")
            wire.flush()
    finally:
        if hasattr(contender, "close"):
            contender.close()


if __name__ == "__main__":
    main()
