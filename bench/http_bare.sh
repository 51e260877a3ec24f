#!/bin/sh
# src/http against the bare library: requests/s over keep-alive, server on one CPU, wrk on another, interleaved.
#   bench/http_bare.sh HTTP_BARE [ROUNDS [SECONDS [BYTES [CONNECTIONS]]]]
set -eu
program=$1 rounds=${2:-5} seconds=${3:-2} bytes=${4:-4096} connections=${5:-16}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cat >"$scratch/post.lua" <<'LUA'
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer 0123456789abcdef0123456789abcdef"
wrk.body = '{"input":"' .. string.rep("word ", 54) .. '","model":"x"}'
LUA
port=18700
for round in $(seq "$rounds"); do
    for mode in evhttp place parked; do
        port=$((port + 1))
        mkfifo "$scratch/stdin.$port"
        taskset -c 0 "$program" $mode $port "$bytes" <"$scratch/stdin.$port" &
        exec 3>"$scratch/stdin.$port"
        sleep 0.3
        taskset -c 1 wrk -t1 -c"$connections" -d"${seconds}s" --latency -s "$scratch/post.lua" \
            "http://127.0.0.1:$port/v1/embeddings" >"$scratch/out" 2>&1 || { cat "$scratch/out"; exit 1; }
        exec 3>&-
        wait
        echo "$mode $(awk '/Requests\/sec/ { print $2 }' "$scratch/out") $(awk '$1 == "99%" { print $2 }' "$scratch/out")" \
            >>"$scratch/results"
        grep -E 'Socket errors|Non-2xx' "$scratch/out" && sed -n 1,12p "$scratch/out" || true
    done
done
for mode in evhttp place parked; do
    echo "$mode $(awk -v m=$mode '$1 == m { print $2 }' "$scratch/results" | sort -n | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }')"
done | awk '{ if (!base) base = $2; printf "%-9s %9.0f requests/s  %5.2f of evhttp\n", $1, $2, $2 / base }'
