"""Takes the backends that the benchmark does not build out of text-embeddings-inference's manifests, so
that cargo needs nothing but crates.io:  trim_tei.py SOURCE_DIRECTORY"""
import os
import re
import sys


def edit(path, *changes):
    with open(path, encoding="utf-8") as f:
        text = f.read()
    for pattern, replacement in changes:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


root = sys.argv[1]
edit(f"{root}/Cargo.toml",
     (r'^\s*"backends/(candle|python|grpc-client)",\n', ""), (r"^(candle|cudarc)[\w-]* *=.*\n", ""),
     (r"^\[patch\.crates-io\]\n", ""), ('lto = "fat"', 'lto = "thin"'), ("codegen-units = 1$", "codegen-units = 8"))
edit(f"{root}/backends/Cargo.toml",
     (r"^text-embeddings-backend-(candle|python) *=.*\n", ""),
     (r"^(candle|python|cuda|metal|mkl|accelerate|flash-attn(-v1)?) *=.*\n", r"\1 = []\n"))
edit(f"{root}/router/Cargo.toml",
     (r"^cudarc *=.*\n", ""), (r', "dep:cudarc"', ""), (r'"cudarc\?/[\w-]+", ', ""), (r"^insta *=.*\n", ""))
lock = f"{root}/Cargo.lock"
if os.path.exists(lock):
    edit(lock, (r'^source = "git\+.*\n', ""))
