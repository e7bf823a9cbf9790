# SPDX-License-Identifier: Apache-2.0
# A thin front for Meson and Ninja: make, make demo, make test, make help.
BUILD ?= build
NINJA = ninja -C $(BUILD)
MESON_TEST = meson test -C $(BUILD) --print-errorlogs
SEED ?= 1
STEPS ?= 1000000
FUZZ_SECONDS ?= 60
ROUNDS ?= 200

.PHONY: all demo demo-durable demo-thumbnails test test-keyed crash bench bench-core lint fmt asan fuzz sim sim-durable sim-mutants install docs clean help

all: $(BUILD)/build.ninja ## build everything
	@$(NINJA)

$(BUILD)/build.ninja:
	@tools/setup build
	@meson setup $(BUILD) >/dev/null

demo: all ## the main job: primes below 1,000,000 through hub and worker processes
	@$(BUILD)/src/cli/weir demo primes

demo-thumbnails: all ## ImageMagick as a worker, over the images of a Debian package
	@tools/setup thumbnails
	@examples/thumbnails/run

demo-durable: all ## durable jobs: 200 are accepted, the hub is killed and started again, each ends once
	@tools/setup durable
	@examples/durable/run

test: ## build, then all tests (under 15 minutes on 2 cores)
	@tools/setup test
	@$(MAKE) --no-print-directory all
	@tools/run-tests $(BUILD)

lint: ## formatting, include rules, generated documentation
	@tools/setup test
	@$(MAKE) --no-print-directory all
	@tools/check-includes
	@tools/check-format
	@tools/gen-docs --check --weir $(BUILD)/src/cli/weir

fmt: ## format all C files
	@tools/check-format --fix

docs: all ## write the generated pages of docs/
	@tools/gen-docs --weir $(BUILD)/src/cli/weir

asan: ## all tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@tools/setup test
	@test -f build-asan/build.ninja || meson setup build-asan -Db_sanitize=address,undefined -Db_lundef=false >/dev/null
	@ninja -C build-asan
	@tools/run-tests build-asan

fuzz: ## each fuzz target for FUZZ_SECONDS (60) under ASan and UBSan
	@tools/setup fuzz
	@tools/fuzz $(FUZZ_SECONDS)

sim: all ## the simulator: make sim SEED=7 STEPS=1000000
	@$(BUILD)/test/sim/sim --seed $(SEED) --steps $(STEPS)

sim-durable: all ## the simulator of durable jobs: make sim-durable SEED=7 STEPS=100000
	@$(BUILD)/test/sim/durable --seed $(SEED) --steps $(STEPS)

sim-mutants: ## deliberate bugs in the core and in durable jobs, one by one: are they seen?
	@test/sim/mutants.py
	@test/sim/durable_mutants.py

test-keyed: all ## 10,000 keys while each second a worker comes and one is killed, for a minute
	@PYTHONPATH=test/lib WEIR=$(BUILD)/src/cli/weir WEIRTEST_BIN=$(BUILD)/test/integ WEIRTEST_SECONDS=60 \
		/usr/bin/python3 test/integ/t28_keyed.py Keyed.test_upheaval

crash: all ## kill -9 and power failures, ROUNDS times (200), while clients and workers go on
	@PYTHONDONTWRITEBYTECODE=1 WEIR=$(BUILD)/src/cli/weir UNSYNCED=$(BUILD)/test/crash/unsynced.so \
		/usr/bin/python3 test/crash/crash.py --rounds $(ROUNDS)
	@PYTHONDONTWRITEBYTECODE=1 WEIR=$(BUILD)/src/cli/weir UNSYNCED=$(BUILD)/test/crash/unsynced.so \
		/usr/bin/python3 test/crash/crash.py --each-change

bench: ## speed beside nginx and HAProxy, memory; writes docs/benchmarks.md
	@tools/setup bench
	@test -f build-release/build.ninja || meson setup build-release -Dbuildtype=release -Db_lto=true >/dev/null
	@ninja -C build-release
	@bench/compare.py --build build-release
	@bench/primes.py --build build-release
	@bench/waiting.py --build build-release
	@bench/memory.py --build build-release
	@bench/tail.py --build build-release
	@bench/tail.py --build build-release --busy
	@bench/fairness.py --build build-release
	@bench/durable.py --build build-release
	@bench/durable.py --build build-release --latency 1
	@bench/core.py --build build-release

bench-core: all ## cost per dispatch by queue length and workers
	@$(BUILD)/bench/bench_core

install: all ## install to the prefix of the build directory
	@meson install -C $(BUILD)

clean: ## remove the build directories
	rm -rf build build-asan build-release build-fuzz

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14
