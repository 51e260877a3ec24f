"""The hand-written cases of hard.txt as JSON lines {"text","kind","start","end","spans"} (kind null: nothing to find).
    tests/pii/hard.py >hard.jsonl"""
import json
import os

HERE = os.path.dirname(os.path.abspath(__file__))


def cases():
    with open(os.path.join(HERE, "hard.txt"), encoding="utf-8") as f:
        for line in f:
            line = line.rstrip("\n")
            if not line or line.startswith("#"):
                continue
            kind, text, values = (part.strip() for part in line.split(" |", 2))
            if kind == "-":
                yield {"text": text, "kind": None}
                continue
            spans = []
            for value in values.split(" && "):
                start = len(text[:text.index(value)].encode())
                spans.append([start, start + len(value.encode())])
            yield {"text": text, "kind": kind, "start": spans[0][0], "end": spans[0][1], "spans": spans}


if __name__ == "__main__":
    for case in cases():
        print(json.dumps(case))
