# make bench: embedd and its peers side by side; make bench BENCH_FULL=1: longer, with every engine.
# BENCH_DIR: where bench/setup-peers installed them. BENCH_FLAGS: more options for bench/compare.py.
BENCH_DIR ?= $(if $(EMBEDD_BENCH_DIR),$(EMBEDD_BENCH_DIR),$(HOME)/.cache/embedd-bench)
BENCH_FLAGS ?=
BENCH_TEXTS ?= bench/data/peps.sample.txt
BENCH_QUICK = --rounds 3 --least-s 0.3 --startup-times 3 --contenders 'embedd*' 'openvino*' 'onnxruntime*' \
    torch-bf16 llama.cpp-bf16
BENCH_OPTIONS = $(if $(BENCH_FULL),--rounds 7 --least-s 0.8,$(BENCH_QUICK))

.PHONY: bench bench-peers
bench: all bench-peers
	@cmake --build $(BUILD) --target kernels_bench -j $(JOBS)
	@$(BENCH_DIR)/venv/bin/python -W ignore bench/compare.py --dir $(BENCH_DIR) --texts $(BENCH_TEXTS) \
	    --library $(BUILD)/libembedd.so --cli $(BUILD)/embedd --kernels-bench $(BUILD)/kernels_bench \
	    $(BENCH_OPTIONS) $(BENCH_FLAGS)

bench-peers: deps
	@bench/setup-peers $(BENCH_DIR)

# make bench-http: the service over HTTP beside the bare HTTP library (needs wrk).
.PHONY: bench-http
bench-http: all
	@command -v wrk >/dev/null || tools/install-deps bench
	@cmake --build $(BUILD) --target http_bare serialise_bench cache_bench -j $(JOBS)
	@bench/http_service.py --program $(BUILD)/embedd --bare $(BUILD)/http_bare $(BENCH_HTTP_FLAGS)
	@$(BUILD)/serialise_bench
	@$(BUILD)/cache_bench

# make bench-gateway: what embedd and LiteLLM add to a call of a remote API (LiteLLM is installed into the build directory).
.PHONY: bench-gateway
bench-gateway: all
	@cmake --build $(BUILD) --target gateway_client upstream_fast -j $(JOBS)
	@bench/gateway_latency.py --build $(BUILD) $(BENCH_GATEWAY_FLAGS)
