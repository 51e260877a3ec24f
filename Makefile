# make          build build/embedd and the library
# make run      build, then serve on 127.0.0.1:8000
# make test     everything that is tested, from a clean checkout; installs what it needs
# make help     the other targets
BUILD ?= build
CMAKE_FLAGS ?=
JOBS ?= $(shell nproc)
CONFIGURE = cmake -S . -G Ninja --log-level=WARNING
CTEST = ctest --output-on-failure -j $(JOBS)

.DEFAULT_GOAL := all
.PHONY: all run test quick-test sanitize asan tsan fuzz deb gateway install clean help deps test-deps lint

all: deps
	@$(CONFIGURE) -B $(BUILD) -DBUILD_TESTING=OFF $(CMAKE_FLAGS) >/dev/null
	@cmake --build $(BUILD) -j $(JOBS)

# The server on 127.0.0.1:8000 with the model that ships; Ctrl-C stops it.
run: all
	$(BUILD)/embedd serve

deps:
	@tools/install-deps

test-deps:
	@tools/install-deps test

# The tests build beside the product, so that `make` after `make test` is a no-op and the other way round.
test: test-deps
	@$(CONFIGURE) -B $(BUILD)-test -DEMB_WERROR=ON $(CMAKE_FLAGS) >/dev/null
	@cmake --build $(BUILD)-test -j $(JOBS)
	@$(CTEST) --test-dir $(BUILD)-test

# Without what needs Python packages.
quick-test: test-deps
	@$(CONFIGURE) -B $(BUILD)-test $(CMAKE_FLAGS) >/dev/null
	@cmake --build $(BUILD)-test -j $(JOBS)
	@$(CTEST) --test-dir $(BUILD)-test -LE python

# The whole suite under AddressSanitizer and UndefinedBehaviorSanitizer, then the threaded part under TSan.
sanitize: asan tsan

asan: test-deps
	@$(CONFIGURE) -B $(BUILD)-asan -DEMB_SANITIZE=address,undefined $(CMAKE_FLAGS) >/dev/null
	@cmake --build $(BUILD)-asan -j $(JOBS)
	@UBSAN_OPTIONS=print_stacktrace=1 $(CTEST) --test-dir $(BUILD)-asan -LE "python|install"

tsan: test-deps
	@$(CONFIGURE) -B $(BUILD)-tsan -DEMB_SANITIZE=thread $(CMAKE_FLAGS) >/dev/null
	@cmake --build $(BUILD)-tsan -j $(JOBS)
	@$(CTEST) --test-dir $(BUILD)-tsan -LE "python|install"

# libFuzzer over every parser: FUZZ_SECONDS each, new inputs go to build-fuzz/corpus/<target>.
FUZZ_SECONDS ?= 600
fuzz: test-deps
	@tools/install-deps fuzz
	@$(CONFIGURE) -B $(BUILD)-fuzz -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DEMB_FUZZ=ON \
	    -DEMB_SANITIZE=address,undefined,fuzzer-no-link $(CMAKE_FLAGS) >/dev/null
	@cmake --build $(BUILD)-fuzz -j $(JOBS)
	@for target in $(BUILD)-fuzz/tests/fuzz/fuzz_*; do \
	    [ -f $$target ] && [ -x $$target ] || continue; name=$${target##*/}; \
	    mkdir -p $(BUILD)-fuzz/corpus/$$name; \
	    echo "== $$name"; \
	    $$target -max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 \
	        -artifact_prefix=$(BUILD)-fuzz/corpus/$$name- \
	        $(BUILD)-fuzz/corpus/$$name tests/fuzz/corpus/$$name || exit 1; \
	done

# build-deb/embedd_VERSION_ARCH.deb
deb:
	@tools/install-deps deb
	@$(CONFIGURE) -B $(BUILD)-deb -DBUILD_TESTING=OFF -DEMB_DEB=ON -DCMAKE_INSTALL_PREFIX=/usr \
	    -DEMB_SYSTEMD_UNITS=/lib/systemd/system $(CMAKE_FLAGS) >/dev/null
	@cmake --build $(BUILD)-deb -j $(JOBS)
	@cd $(BUILD)-deb && cpack -G DEB >/dev/null && ls embedd_*.deb

# The gateway alone, without local models, stripped: build-gateway/embedd.
gateway: deps
	@$(CONFIGURE) -B $(BUILD)-gateway -DBUILD_TESTING=OFF -DEMB_LOCAL_MODELS=OFF -DCMAKE_BUILD_TYPE=MinSizeRel $(CMAKE_FLAGS) >/dev/null
	@cmake --build $(BUILD)-gateway -j $(JOBS) --target embedd
	@strip $(BUILD)-gateway/embedd
	@ls -l $(BUILD)-gateway/embedd | awk '{print $$NF ": " $$5 " bytes"}'

install: all
	@cmake --install $(BUILD)

lint: test-deps
	@tools/install-deps lint
	@tools/format --check
	@tools/check_includes
	@git diff --check

clean:
	rm -rf $(BUILD) $(BUILD)-test $(BUILD)-asan $(BUILD)-tsan $(BUILD)-fuzz $(BUILD)-deb $(BUILD)-gateway

help:
	@echo "make             build $(BUILD)/embedd and the library"
	@echo "make run         serve on 127.0.0.1:8000 with the model that ships"
	@echo "make test        all tests"
	@echo "make quick-test  the tests that need no Python packages"
	@echo "make sanitize    the tests under ASan+UBSan, then TSan"
	@echo "make fuzz        libFuzzer on every parser (FUZZ_SECONDS=600 each)"
	@echo "make bench       embedd and its peers side by side (see bench/README.md)"
	@echo "make bench-http  the service over HTTP beside the bare HTTP library"
	@echo "make gateway     the gateway without local models, stripped, in $(BUILD)-gateway"
	@echo "make deb         a Debian package in $(BUILD)-deb"
	@echo "make install     install program, library, header and model (CMAKE_FLAGS=-DCMAKE_INSTALL_PREFIX=...)"

-include bench/bench.mk
