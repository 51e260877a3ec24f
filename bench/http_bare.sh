#!/bin/sh
# src/http against the bare library: requests/s over keep-alive, server on one CPU, wrk on another, interleaved.
#   bench/http_bare.sh HTTP_BARE [ROUNDS [SECONDS [BYTES [CONNECTIONS]]]]
set -eu
program=$1 rounds=${2:-5} seconds=${3:-2} bytes=${4:-4096} connections=${5:-16}
modes="bare-inline ours-inline ours-parked"
scratch=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill $server; rm -rf "$scratch"' EXIT
cat >"$scratch/post.lua" <<'LUA'
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer 0123456789abcdef0123456789abcdef"
wrk.body = '{"input":"' .. string.rep("word ", 54) .. '","model":"x"}'
LUA
for round in $(seq "$rounds"); do
    for mode in $modes; do
        : >"$scratch/port"
        taskset -c 0 "$program" ${mode%-*} ${mode#*-} "$bytes" 0 >"$scratch/port" &
        server=$!
        until [ -s "$scratch/port" ]; do sleep 0.05; done
        taskset -c 1 wrk -t1 -c"$connections" -d"${seconds}s" --latency -s "$scratch/post.lua" \
            "http://127.0.0.1:$(sed 's/port //' "$scratch/port")/v1/embeddings" >"$scratch/out"
        kill $server
        wait $server 2>/dev/null || true
        server=
        if grep -E 'Socket errors|Non-2xx' "$scratch/out"; then exit 1; fi
        echo "$mode $(awk '/Requests\/sec/ { print $2 }' "$scratch/out")" >>"$scratch/results"
    done
done
for mode in $modes; do
    awk -v m="$mode" '$1 == m { print $2 }' "$scratch/results" | sort -n |
        awk -v m="$mode" '{ a[NR] = $1 } END { print m, a[int((NR + 1) / 2)] }'
done | awk '{ if (!base) base = $2; printf "%-12s %9.0f requests/s  %5.2f of bare\n", $1, $2, $2 / base }'
