# SPDX-License-Identifier: GPL-2.0-or-later
#
# Everything is made below O; nothing is written beside the sources.
#
#   O=DIR      where (./build)
#   K=LIST     kernels: 6.1 6.12 debug (default: 6.1 and 6.12, or all for check);
#              check-long has kcsan, too
#   T=PATTERN  check, check-long: only tests whose name contains PATTERN
#   V=1        show commands

MAKEFLAGS += --no-builtin-rules --no-print-directory
# O and V mean something to kbuild: what it is to know is passed explicitly
MAKEOVERRIDES =
.SUFFIXES:
.DELETE_ON_ERROR:

top := $(CURDIR)
O ?= build
override O := $(abspath $(O))
V ?= 0
quiet := $(if $(filter 0,$(V)),@)
say = @$(if $(filter 0,$(V)),echo "  $(1)	$(2)",:)
CC := gcc
AR := ar
DESTDIR ?=
PREFIX ?= /usr/local
UDEVDIR ?= /usr/lib/udev
SYSTEMDDIR ?= /usr/lib/systemd

help:	## this list
	@sed -n 's/^\([a-z-]*\):.*##/\1	/p' $(top)/Makefile | expand -t 12
	@echo
	@sed -n 's/^#   /  /p' $(top)/Makefile

.PHONY: help all demo check check-long coverage fuzz bench curves vm deb install install-user docs clean

# --- Kernel module: one build directory for each kernel. 6.1's kbuild writes
# beside the sources, so these are copied there first.

headers = $(lastword $(shell printf '%s\n' /usr/src/linux-headers-$(1).*-amd64 | \
	grep -v -e '\*' -e -rt- -e -cloud- | sort -V))
kbuild_6.1 := $(call headers,6.1)
kbuild_6.12 := $(call headers,6.12)
stock := $(if $(kbuild_6.1),6.1) $(if $(kbuild_6.12),6.12)
ifeq ($(strip $(stock)),)
# Not Debian's headers: build for the running kernel
stock := running
kbuild_running := /lib/modules/$(shell uname -r)/build
endif

# What building leaves there must survive the copying
kept := *.o *.ko *.mod *.mod.c *.cmd .* *.symvers modules.order \
	compat-config.h* *.gcno

# W=1: warnings are errors, WERROR= relaxes that. These kernels were built
# with BTF, ours needs none (and pahole would have to be there).
define build_module
$(quiet)mkdir -p $(2)
$(quiet)rsync -rt --delete $(kept:%=--filter='P %') Kbuild kmod uapi $(2)/
+$(quiet)flock $(2)/.lock $(MAKE) $(if $(filter 0,$(V)),-s) -C $(1) M=$(2) V=$(V) W=1 \
	CONFIG_DEBUG_INFO_BTF_MODULES= $(if $(WERROR),KCFLAGS=-Werror) $(3) modules
endef
WERROR ?= 1

$(stock:%=module-%): module-%:
	$(call say,MODULE,$*)
	$(call build_module,$(kbuild_$*),$(O)/mod-$(patsubst linux-headers-%,%,$(notdir $(kbuild_$*))))

# The debug kernel has KUnit: the suites are built for it, too
module-debug:
	$(call say,MODULE,debug)
	$(quiet)dir=$$(tests/vm/debug-kernel) && \
	$(MAKE) module-debug-in O=$(O) V=$(V) WERROR=$(WERROR) \
		DIR=$$dir RELEASE=$$(cat $$dir/release)

module-debug-in:
	$(call build_module,$(DIR)/build,$(O)/mod-$(RELEASE),DM_CHAIN_KUNIT=1)

# For its detector of data races
module-kcsan:
	$(call say,MODULE,kcsan)
	$(quiet)dir=$$(tests/vm/debug-kernel kcsan) && \
	$(MAKE) module-kcsan-in O=$(O) V=$(V) WERROR=$(WERROR) \
		DIR=$$dir RELEASE=$$(cat $$dir/release)

module-kcsan-in:
	$(call build_module,$(DIR)/build,$(O)/mod-$(RELEASE))

# Without the gate that each I/O passes: tests/bench measures what that costs
module-ungated-%:
	$(call say,MODULE,ungated $*)
	$(call build_module,$(kbuild_$*),$(O)/ungated,KCFLAGS='-Werror -DCONFIG_DM_CHAIN_UNGATED=1')

# sparse prints its findings, if any
sparse:
	$(call build_module,$(kbuild_6.12),$(O)/mod-$(patsubst linux-headers-%,%,$(notdir $(kbuild_6.12))),C=2 CF=-D__CHECK_ENDIAN__)

.PHONY: $(stock:%=module-%) module-debug module-debug-in \
	module-kcsan module-kcsan-in sparse

# --- User space: the controller, once as shipped, once with sanitizers

libs := devmapper libkmod json-c libnbd
warn := -Wall -Wextra -Werror
flags := -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -g $(warn) \
	-I$(top)/uapi -I$(top)/kmod -I$(top)/userspace
asan := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all \
	-fno-omit-frame-pointer
lib_cflags := $(shell pkg-config --cflags $(libs) 2>/dev/null)
lib_libs := $(shell pkg-config --libs $(libs) 2>/dev/null)
need_libs = $(if $(lib_libs),,$(error pkg-config does not know $(libs): see tests/lib/install-deps))

user_src := $(wildcard userspace/*.c) \
	$(wildcard kmod/dm-chain-format.c kmod/dm-chain-perm.c)
user_obj := $(user_src:%.c=$(O)/user/%.o)
asan_obj := $(user_src:%.c=$(O)/asan/%.o)
# Nothing to link before there is a main program
have_main := $(wildcard userspace/main.c)

user: $(if $(have_main),$(O)/dmchain)
asan: $(if $(have_main),$(O)/asan/dmchain)

$(O)/dmchain: $(user_obj)
	$(call say,LD,$(@F))
	$(need_libs)$(quiet)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(lib_libs)

$(O)/asan/dmchain: $(asan_obj)
	$(call say,LD,asan/$(@F))
	$(need_libs)$(quiet)$(CC) $(asan) -o $@ $^ $(lib_libs)

$(user_obj): $(O)/user/%.o: %.c Makefile
	$(call say,CC,$<)
	$(quiet)mkdir -p $(@D)
	$(quiet)$(CC) $(flags) -O2 $(CPPFLAGS) $(CFLAGS) $(lib_cflags) -MMD -MP -c -o $@ $<

$(asan_obj): $(O)/asan/%.o: %.c Makefile
	$(call say,CC,asan $<)
	$(quiet)mkdir -p $(@D)
	$(quiet)$(CC) $(flags) $(asan) $(lib_cflags) -MMD -MP -c -o $@ $<

-include $(user_obj:.o=.d) $(asan_obj:.o=.d)

# --- Test programs. One is a C file and, named in its first lines, further
# sources (from the top of the tree) and libraries:
#
#	// sources: tests/tools/common.c kmod/dm-chain-format.c
#	// libs: -luring
#
# tests/tools: run in the VM and have a "// sources:" line, even an empty one.
# tests/unit/test_*.c: run here with sanitizers, and are given cmocka.

listed = $(shell sed -n '1,5s@^// $(1):@@p' $(2))
tools_src := $(foreach f,$(wildcard tests/tools/*.c),$(if \
	$(shell sed -n '1,5{/^\/\/ sources:/p}' $(f)),$(f)))
tools := $(tools_src:tests/tools/%.c=$(O)/tools/%)
unit := $(patsubst tests/unit/%.c,$(O)/unit/%,$(wildcard tests/unit/test_*.c))
test_headers := $(wildcard tests/*/*.h tests/*/*/*.h tests/fuzz/include/linux/*.h userspace/*.h kmod/*.h uapi/linux/*.h)

tools: $(tools)
unit: $(unit)

.SECONDEXPANSION:
$(tools): $(O)/tools/%: tests/tools/%.c $$(call listed,sources,tests/tools/$$*.c) $(test_headers) Makefile
	$(call say,CC,$<)
	$(quiet)mkdir -p $(@D)
	$(quiet)$(CC) $(flags) -O2 -o $@ $(filter %.c,$^) $(call listed,libs,$<) \
		-Wl,--as-needed -lpthread -laio -luring

$(unit): $(O)/unit/%: tests/unit/%.c $$(call listed,sources,tests/unit/$$*.c) $(test_headers) Makefile
	$(call say,CC,$<)
	$(quiet)mkdir -p $(@D)
	$(quiet)$(CC) $(flags) $(asan) -Itests/unit $(lib_cflags) -o $@ $(filter %.c,$^) \
		$(call listed,libs,$<) -lcmocka -Wl,--as-needed $(lib_libs) -lpthread

.PHONY: user asan tools unit

# --- Fuzz targets: tests/fuzz/fuzz_*.c, each with what it needs of the controller and
# of the module's parsers. clang has the only fuzzer that comes with the compiler.

FUZZ_CC := clang-14
fuzz := $(patsubst tests/fuzz/%.c,$(O)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
fuzz_src := $(filter-out userspace/main.c,$(user_src)) $(wildcard kmod/dm-chain-args.c)
fuzz_obj := $(fuzz_src:%.c=$(O)/fuzz/obj/%.o)
fuzz_flags := $(flags) -Wno-c2x-extensions -O1 -fno-omit-frame-pointer -fno-sanitize-recover=all \
	-I$(top) -I$(top)/tests/fuzz/include $(lib_cflags)
fuzz_asan := address,undefined
fuzz_look = -fsanitize=fuzzer-no-link,$(fuzz_asan)
# Half of the time would go there, and there is nothing to find
$(O)/fuzz/obj/userspace/lib-crc.o: fuzz_look = -O2

fuzzers: $(fuzz)

$(fuzz_obj): $(O)/fuzz/obj/%.o: %.c $(test_headers) Makefile
	$(call say,CC,fuzz $<)
	$(quiet)mkdir -p $(@D)
	$(quiet)$(FUZZ_CC) $(fuzz_flags) $(fuzz_look) -c -o $@ $<

# A target may have a part of the controller in itself, to reach what is static there
$(O)/fuzz/parts.a: $(fuzz_obj)
	$(call say,AR,fuzz/$(@F))
	$(quiet)rm -f $@ && $(AR) rc $@ $^

$(fuzz): $(O)/fuzz/%: tests/fuzz/%.c $(O)/fuzz/parts.a
	$(call say,CC,$<)
	$(quiet)$(FUZZ_CC) $(fuzz_flags) -fsanitize=fuzzer,$(fuzz_asan) -o $@ $< \
		$(O)/fuzz/parts.a -Wl,--as-needed $(lib_libs)

.PHONY: fuzzers

# --- What people call

all: $(stock:%=module-%) user ## module for the installed kernel headers, controller

demo: ## a disk of layers and its snapshots while it is written; in a VM
	$(quiet)O=$(O) tests/demo/run

check: ## all tests; K=6.12 and T=PATTERN select some
	$(quiet)O=$(O) tests/run-check $(if $(K),--kernels "$(K)") $(if $(T),--tests "$(T)")

check-long: ## all tests, also those that take hours
	$(quiet)O=$(O) tests/run-check --long $(if $(K),--kernels "$(K)") $(if $(T),--tests "$(T)")

fuzz: fuzzers ## look for inputs that break the parsers; FUZZ_TIME=60 s each, T=header
	$(quiet)O=$(O) tests/fuzz/run $(if $(T),--targets "$(T)")

coverage: ## what of the module the tests run, in lines; T=PATTERN selects tests
	$(quiet)O=$(O) tests/run-coverage $(if $(T),"$(T)")

bench: ## measure the I/O path against other targets; BENCH="depth first" selects
	$(quiet)O=$(O) tests/bench/run

curves: ## measure the cost of a read against depth, size and run; renew the plots
	$(quiet)O=$(O) BENCH=curves tests/bench/run

vm: ## a shell in a VM with module and controller; K=6.1, 6.12, debug or kcsan
	$(quiet)O=$(O) tests/vm/run --kernel $(or $(K),$(KERNEL),6.12) --shell

# The distribution's compiler flags (CFLAGS, LDFLAGS) come from debian/rules
deb: ## Debian packages of module (for DKMS) and controller, in O/deb; lintian's errors
	$(quiet)rm -rf $(O)/deb && mkdir -p $(O)/deb/dm-chain
	$(quiet)cp -a debian Documentation Kbuild LICENSES Makefile README.md kmod uapi userspace \
		$(O)/deb/dm-chain/
	$(quiet)cd $(O)/deb/dm-chain && env -u MAKEFLAGS -u MAKELEVEL -u O -u V \
		dpkg-buildpackage -b -us -uc $(if $(filter 0,$(V)),>$(O)/deb/log 2>&1 || { \
		tail -n 50 $(O)/deb/log; exit 1; })
	$(quiet)cd $(O)/deb && lintian --allow-root --fail-on error *.changes
	@ls $(O)/deb/*.deb

install: all install-user ## module for the running kernel, controller, rules, units, manual pages
	if [ -e $(O)/mod-$$(uname -r)/kmod/dm-chain.ko ]; then \
		install -D -m 644 $(O)/mod-$$(uname -r)/kmod/dm-chain.ko \
			$(DESTDIR)/lib/modules/$$(uname -r)/updates/dm-chain.ko && \
		$(if $(DESTDIR),:,depmod -a); \
	fi

# Units call the program by its path
unit_paths := sed s@/usr/sbin/dmchain@$(PREFIX)/sbin/dmchain@
install-user: user
	install -D -m 755 $(O)/dmchain $(DESTDIR)$(PREFIX)/sbin/dmchain
	install -D -m 644 -t $(DESTDIR)$(UDEVDIR)/rules.d userspace/udev/*.rules
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man8 Documentation/man/*.8
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
		userspace/completion/dmchain
	mkdir -p $(DESTDIR)$(SYSTEMDDIR)/system $(DESTDIR)$(SYSTEMDDIR)/system-generators
	$(unit_paths) userspace/systemd/dmchain@.service \
		>$(DESTDIR)$(SYSTEMDDIR)/system/dmchain@.service
	$(unit_paths) userspace/systemd/dmchain-generator \
		>$(DESTDIR)$(SYSTEMDDIR)/system-generators/dmchain-generator
	chmod 755 $(DESTDIR)$(SYSTEMDDIR)/system-generators/dmchain-generator

docs: asan ## renew what Documentation/ has of the sources: the permission matrix
	$(quiet)O=$(O) tests/unit/perm-doc.sh --renew

clean: ## remove O; the cache of kernels and images stays
	rm -rf $(O)
