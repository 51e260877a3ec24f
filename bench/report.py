"""Tables from compare.py's JSON:  python3 bench/report.py bench/results-latest.json"""
import json
import statistics
import sys

# Multiply-adds count as two. Products per token, and attention per token, layer and key.
SHAPES = {"all-MiniLM-L6-v2": (6, 384, 1536), "bge-base": (12, 768, 3072)}
CLASSES = [("fp32", 0.999999, "worst cosine ≥ 0.999999"), ("near", 0.999, "worst cosine ≥ 0.999"),
           ("coarse", 0.99, "worst cosine ≥ 0.99"), ("any", -1.0, "any")]


def flop_per_token(model, length):
    layers, hidden, inner = SHAPES[model]
    return layers * (2 * (4 * hidden * hidden + 2 * hidden * inner) + 4 * length * hidden)


def median(result, name):
    return statistics.median(result["sets"][name]["tokens_s"])


def worst(result):
    return min(s["cosine_worst"] for s in result["sets"].values())


def mean(result):
    return statistics.fmean(s["cosine_mean"] for s in result["sets"].values())


def share(report, model, threads, contender, result, name):
    """Share of the measured compute roof of the contender's own precision, in percent."""
    roof = report.get("roof", {})
    precision = contender.rsplit("-", 1)[1]
    precision = {"f32": "fp32", "q8_0": "int8", "f16": None}.get(precision, precision)
    if precision not in roof:
        return None
    s = result["sets"][name]
    length = s["tokens"] / s["texts"]
    return 100 * median(result, name) * flop_per_token(model, length) / (roof[precision] * 1e9 * threads)


def cell(value, form="{:,.0f}"):
    return "–" if value is None else form.format(value)


def speed_table(report, model, threads, results):
    sets = list(next(iter(results.values()))["sets"])
    any_result = next(iter(results.values()))
    heads = []
    for s in sets:
        n = any_result["sets"][s]
        heads.append(f"{s} tokens" if s != "mix" else f"as they are (Ø {n['tokens'] / n['texts']:.0f})")
    lines = ["| tokens/s · texts/s · share of roof | " + " | ".join(heads) + " | cosine mean | worst | one text, ms | peak MB |",
             "|---|" + "--:|" * (len(sets) + 4)]
    for name, r in sorted(results.items(), key=lambda item: (not item[0].startswith("embedd"), item[0])):
        cells = []
        for s in sets:
            percent = share(report, model, threads, name, r, s)
            texts = median(r, s) * r["sets"][s]["texts"] / r["sets"][s]["tokens"]
            cells.append(f"{median(r, s):,.0f} · {texts:,.0f}" + (f" · {percent:.0f} %" if percent is not None else ""))
        cells += [f"{mean(r):.7f}", f"{worst(r):.7f}", cell(r.get("latency_ms"), "{:.2f}"),
                  cell(r.get("peak_rss_mb"))]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def best(results, name, mine, bar):
    rows = [(median(r, name), n) for n, r in results.items()
            if n.startswith("embedd") == mine and worst(r) >= bar]
    return max(rows) if rows else None


def ratio_table(results):
    sets = list(next(iter(results.values()))["sets"])
    lines = ["| embedd / best peer | " + " | ".join(sets) + " |", "|---|" + "---|" * len(sets)]
    for _, bar, text in CLASSES:
        cells = []
        for s in sets:
            mine, peer = best(results, s, True, bar), best(results, s, False, bar)
            if not mine or not peer:
                cells.append("–")
                continue
            cells.append(f"**{mine[0] / peer[0]:.2f}** {mine[1][7:]} / {peer[1]}")
        lines.append(f"| {text} | " + " | ".join(cells) + " |")
    return lines


def startup_table(report):
    rows = report.get("startup", {})
    names = sorted({n for r in rows.values() for n in r}, key=lambda n: (not n.startswith("embedd"), n))
    if not names:
        return []
    lines = ["", "### Start to first vector (process start, page cache warm), peak memory of that process", "",
             "| | " + " | ".join(f"{m} ms | MB" for m in rows) + " |", "|---|" + "--:|" * (2 * len(rows))]
    for n in names:
        cells = []
        for m in rows:
            r = rows[m].get(n)
            cells += [cell(r and r["startup_ms"]), cell(r and r["startup_peak_mb"])]
        lines.append(f"| {n} | " + " | ".join(cells) + " |")
    return lines


def render(report):
    lines = []
    for key, results in report["runs"].items():
        model, threads = key.rsplit("/", 1)
        if not results:
            continue
        lines += ["", f"### {model}, {threads} thread{'s' * (threads != '1')}", ""]
        lines += speed_table(report, model, int(threads), results)
        if any(n.startswith("embedd") for n in results):
            lines += [""] + ratio_table(results)
    return "\n".join(lines + startup_table(report))


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as f:
        print(render(json.load(f)))
