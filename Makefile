# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors

PREFIX  ?= /usr/local
DESTDIR ?=
STORE   ?= /var/lib/zonectl
ROOT    ?= /run/zonectl

# One scratch folder for the release build, one for unit tests: the two differ in every flag.
RELEASE := .build/static
ZONECTL := .build/zonectl
PYTEST  := /usr/bin/python3 -m pytest -p no:cacheprovider -rs -q

.PHONY: all build run test test-units test-integration test-engines test-conformance test-vm vm-disk guest-kernel guest-kernel-foreign test-machines machine-disks fuzz images bench soak order check fmt man completions deb install uninstall clean tools packages

all: build

# --- What is needed from outside -------------------------------------------------------------------------------------

tools:
	@scripts/need-swift

packages: tools
	@scripts/need-packages build

# --- Build -----------------------------------------------------------------------------------------------------------

build: packages
	@scripts/build-static $(RELEASE) $(ZONECTL)

images: build
	@images/busybox/build .build/images/busybox
	@$(ZONECTL) --root $(ROOT) --store $(STORE) image import .build/images/busybox

run: images
	@scripts/need-packages run
	@scripts/show-first-zone $(ZONECTL) $(ROOT) $(STORE)

# --- Test ------------------------------------------------------------------------------------------------------------

test: test-units test-integration

test-units: packages
	swift test --scratch-path .build/units --quiet --disable-xctest

test-integration: build
	@scripts/need-packages test
	@ZONECTL=$(CURDIR)/$(ZONECTL) $(PYTEST) Tests/Integration

# podman, dockerd and containerd start zones by it.
test-engines: build
	@scripts/need-packages engines
	@ZONECTL=$(CURDIR)/$(ZONECTL) $(PYTEST) Tests/Engines

# The OCI validation suite, beside runc and crun.
test-conformance: build
	@scripts/need-packages conformance
	@ZONECTL=$(CURDIR)/$(ZONECTL) scripts/conformance

# In a virtual machine: version 2 control groups, and an older kernel.
test-vm: build
	@if scripts/need-packages vm; then \
		images/busybox/build .build/images/busybox && Tests/VM/run $(ZONECTL) .build/images/busybox; \
	else echo "SKIPPED: make test-vm needs the Debian packages named above, for its virtual machines"; fi

# The larger machine's disk, which is made once.
vm-disk:
	@if scripts/need-packages vm; then Tests/VM/run "" "" disk; fi

# The kernel of micro machines, out of Debian's package, beside the executable.
guest-kernel:
	@scripts/need-packages machine
	@images/guest-kernel/build .build/guest/amd64

# The same for machines of another architecture, with the small agent that they have: ARCH=arm64 or riscv64.
ARCH ?= arm64
guest-kernel-foreign:
	@scripts/need-packages machine-$(ARCH)
	@images/guest-kernel/build .build/guest/$(ARCH) $(ARCH)
	@images/guest-agent/build .build/guest/$(ARCH) $(ARCH)

# Zones that are virtual machines.
test-machines: build guest-kernel guest-kernel-foreign machine-disks
	@ZONECTL=$(CURDIR)/$(ZONECTL) ZONECTL_TEST_DISKS=$(CURDIR)/.build/machines $(PYTEST) Tests/Machines

# The disks that they boot, which are made once.
machine-disks:
	@scripts/need-packages machine-test
	@mkdir -p .build/machines
	@Tests/Machines/debian-disk .build/machines/debian.img
	@Tests/Machines/windows-stand-in .build/machines/windows.img
	@Tests/Machines/installer-iso .build/machines/installer.iso
	@Tests/Machines/arm64-busybox .build/machines/arm64-busybox

# Each parser under libFuzzer, SECONDS long; `make fuzz TARGETS="config user"` for some of them.
SECONDS ?= 60
fuzz: packages
	@scripts/fuzz $(SECONDS) $(TARGETS)

bench: build guest-kernel
	@scripts/need-packages bench
	@ZONECTL=$(CURDIR)/$(ZONECTL) Tests/Benchmarks/engine.py
	@ZONECTL=$(CURDIR)/$(ZONECTL) Tests/Benchmarks/bench.py
	@ZONECTL=$(CURDIR)/$(ZONECTL) Tests/Benchmarks/detached.py
	@ZONECTL=$(CURDIR)/$(ZONECTL) Tests/Benchmarks/images.py
	@ZONECTL=$(CURDIR)/$(ZONECTL) Tests/Benchmarks/network.py
	@ZONECTL=$(CURDIR)/$(ZONECTL) Tests/Benchmarks/storage.py
	@ZONECTL=$(CURDIR)/$(ZONECTL) Tests/Benchmarks/machines.py

# Zones under random use, MINUTES long; SEED=N for the commands of an earlier run.
MINUTES ?= 30
soak: build
	@scripts/need-packages test
	@ZONECTL=$(CURDIR)/$(ZONECTL) Tests/Soak/soak.py --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

# Which functions lie side by side in the executable: anew after great changes to how a zone starts.
order: build
	@scripts/order

check: packages
	@scripts/need-packages check
	@scripts/check

fmt: tools
	swift format format --in-place --recursive Package.swift Sources Tests

# --- Install ---------------------------------------------------------------------------------------------------------

install: build man completions
	install -D -m 0755 $(ZONECTL) $(DESTDIR)$(PREFIX)/bin/zonectl
	if [ -d .build/guest ]; then mkdir -p $(DESTDIR)$(PREFIX)/lib/zonectl && cp -r .build/guest $(DESTDIR)$(PREFIX)/lib/zonectl/; fi
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/man/man1 .build/man/*.1
	install -D -m 0644 .build/completions/zonectl $(DESTDIR)$(PREFIX)/share/bash-completion/completions/zonectl
	install -D -m 0644 .build/completions/_zonectl $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_zonectl
	install -D -m 0644 .build/completions/zonectl.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/zonectl.fish

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/zonectl
	rm -rf $(DESTDIR)$(PREFIX)/lib/zonectl/guest
	rm -f $(DESTDIR)$(PREFIX)/share/man/man1/zonectl.1 $(DESTDIR)$(PREFIX)/share/man/man1/zonectl-*.1
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/zonectl
	rm -f $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_zonectl
	rm -f $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/zonectl.fish

# Both are made by the executable, from its definitions of verbs and options.
man: build
	@scripts/man $(ZONECTL) .build/man

completions: build
	@mkdir -p .build/completions
	@$(ZONECTL) completion bash >.build/completions/zonectl
	@$(ZONECTL) completion zsh >.build/completions/_zonectl
	@$(ZONECTL) completion fish >.build/completions/zonectl.fish

deb: build
	@scripts/deb $(ZONECTL) .build

clean:
	rm -rf .build .build-* .build_*
