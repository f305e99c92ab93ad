# SPDX-License-Identifier: LGPL-2.1-or-later
# Shortcuts for people; the build itself is Meson's.
BUILD ?= build
JOBS ?= $(shell nproc)
SOAK_MINUTES ?= 60
FUZZ_SECONDS ?= 60

.PHONY: help all deps guest demo check quick soak bench fuzz sim asan tsan tidy fmt install clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

all: $(BUILD)/build.ninja ## build everything into build/
	@ninja -C $(BUILD) -j $(JOBS)

$(BUILD)/build.ninja:
	@tools/need-meson
	@meson setup $(BUILD) >$(BUILD).setup.log 2>&1 || { cat $(BUILD).setup.log; exit 1; }
	@mv $(BUILD).setup.log $(BUILD)/setup.log

deps: ## install the Debian packages that are missing (root)
	@tools/install-deps

guest: deps ## unpack a Debian kernel and build the test guest in build/guest
	@tools/build-guest $(BUILD)/guest

demo: deps all guest ## two hosts, a real guest: a cut, a death, a panic and what is left of it (root)
	@demo/holdfast-demo --build $(BUILD)

check: deps all guest ## all tests (root), as CI runs them; under 30 minutes
	@tools/check --build $(BUILD)

quick: all ## unit, scenario and static tests only; no root, a minute
	@tools/check --build $(BUILD) --quick

soak: deps all guest ## the long version of check; SOAK_MINUTES=60
	@tools/check --build $(BUILD) --soak $(SOAK_MINUTES)
	@$(MAKE) fuzz FUZZ_SECONDS=$$(($(SOAK_MINUTES) * 6))

bench: deps all guest ## measure; prints a table, writes build/bench/*.json (root)
	@bench/run --build $(BUILD)

fuzz: deps ## every decoder under libFuzzer; FUZZ_SECONDS=60 for each
	@[ -e $(BUILD)-fuzz/build.ninja ] || CC=clang meson setup $(BUILD)-fuzz -Dfuzz=true >/dev/null
	@ninja -C $(BUILD)-fuzz -j $(JOBS) --quiet
	@tests/fuzz/run-fuzz $(BUILD)-fuzz $(FUZZ_SECONDS)

sim: all ## the simulator; SEED=... replays one run
	@$(BUILD)/tests/sim/holdfast-sim $(if $(SEED),--seed $(SEED) --verbose,--seconds 60)

asan: deps ## unit tests under AddressSanitizer and UBSan
	@tools/check --build $(BUILD)-asan --sanitize address,undefined

tsan: deps ## unit tests under ThreadSanitizer
	@tools/check --build $(BUILD)-tsan --sanitize thread

tidy: all ## clang-tidy over the tree
	@tools/run-tidy $(BUILD)

fmt: ## clang-format over the tree
	@git ls-files '*.c' '*.h' | xargs clang-format -i

install: all ## install into the system (DESTDIR is honoured)
	@meson install -C $(BUILD)

clean: ## remove build folders
	@rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-tsan $(BUILD)-fuzz
