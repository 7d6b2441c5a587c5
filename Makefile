# SPDX-License-Identifier: MIT
#
# One file, no configure, no recursion (but for the sanitizers' own build
# directories).  B= names another build directory, V=1 shows the commands,
# and a config.mk beside this file may set any variable below.

-include config.mk

B       ?= build
PREFIX  ?= /usr/local
OBJCOPY ?= objcopy
CFLAGS  ?= -O2 -g
VERSION := $(shell cat VERSION)

libdir  := $(PREFIX)/lib/pgreen
bindir  := $(PREFIX)/bin
man1dir := $(PREFIX)/share/man/man1
man7dir := $(PREFIX)/share/man/man7

Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-7s %s\n' '$(1)' '$(2)')

.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := all

# ---- what there is to build -------------------------------------------------

LIB_C     := $(wildcard shim/*.c interpose/*.c)
LIB_S     := $(wildcard shim/*.S)
LIB_OBJS  := $(strip $(LIB_C:%.c=$(B)/%.o) $(LIB_S:%.S=$(B)/%.o))
SHIM_OBJS := $(filter $(B)/shim/%,$(LIB_OBJS))
CLI_OBJS  := $(patsubst %.c,$(B)/%.o,$(wildcard shim/cli/*.c))
UNITS     := $(patsubst tests/unit/%.c,$(B)/unit/%,$(wildcard tests/unit/*.c))
SAMPLES   := $(patsubst samples/%.c,$(B)/samples/%,$(wildcard samples/*.c))
PROGS     := $(patsubst tests/progs/%.c,$(B)/progs/%,$(wildcard tests/progs/*.c))

# The frame pointer and the unwind tables let a task be walked from outside; the
# stack protector would read %fs:0x28 of one task and check another's.
LIB_CFLAGS := -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -fPIC -fvisibility=hidden -fno-plt \
	-ftls-model=initial-exec -fno-omit-frame-pointer \
	-fasynchronous-unwind-tables -fno-stack-protector -pthread -Ishim
# No symbol may be missing at run time, and every row of symbols.def that is ours must have
# its body (--no-undefined-version).
LIB_LDFLAGS := -shared -Wl,-z,defs -Wl,-z,now -Wl,-z,initfirst -Wl,--no-undefined-version
CLI_CFLAGS  := -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -pthread \
	-DPGREEN_VERSION='"$(VERSION)"'
CLI_LIBS    := -ljansson -lxxhash -lunwind-x86_64 -ldl -lm

SYMBOLS := $(wildcard interpose/symbols.def)
EXPORTS := $(if $(SYMBOLS),$(B)/exports.map)

.PHONY: all
all: $(if $(LIB_OBJS),$(B)/libpgreen.so) $(B)/pgreen samples ## build the library, the launcher and the samples

$(B)/libpgreen.so: $(LIB_OBJS) $(EXPORTS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(SAN) $(LIB_LDFLAGS) $(LDFLAGS) \
		$(EXPORTS:%=-Wl,--version-script=%) -o $@ $(LIB_OBJS)

$(B)/pgreen: $(CLI_OBJS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(SAN) -pthread $(LDFLAGS) -o $@ $(CLI_OBJS) $(CLI_LIBS)

# An anonymous version script answers references of any version, and the rows
# of symbols.def are the only list of what the library exports.
$(B)/exports.map: interpose/symbols.def
	$(call say,GEN,$@)
	@mkdir -p $(@D)
	$(Q){ echo '{ global: pgreen_*;'; \
		$(CC) -E -P -x c '-DSYM(n,f,v,verdict,why)=EXPORT_##verdict(n)' \
		'-DEXPORT_WRAP(n)=n;' '-DEXPORT_TWIN(n)=n;' '-DEXPORT_PASS(n)=' '-DEXPORT_LATER(n)=' $<; \
		echo 'local: *; };'; } >$@

$(B)/shim/cli/%.o: shim/cli/%.c VERSION
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(SAN) $(CLI_CFLAGS) $(CPPFLAGS) -MMD -MP -c -o $@ $<

# The runtime's code in a section of its own: it is never preempted, which the handler
# knows by the address (shim/preempt.c).
$(B)/shim/%.o: shim/%.c
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(SAN) $(LIB_CFLAGS) $(CPPFLAGS) -fno-reorder-functions -MMD -MP -c -o $@ $<
	$(Q)$(OBJCOPY) --rename-section .text=shim_text --rename-section .text.unlikely=shim_text \
		--rename-section .text.startup=shim_text $@

# A wrapper that waits is in its task's backtrace, by the name that the program called.
$(B)/%.o: %.c
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(SAN) $(LIB_CFLAGS) $(CPPFLAGS) -fno-optimize-sibling-calls -MMD -MP -c -o $@ $<

$(B)/%.o: %.S
	$(call say,AS,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LIB_CFLAGS) $(CPPFLAGS) -MMD -MP -c -o $@ $<

# ---- programs for the tests -------------------------------------------------

.PHONY: samples progs units
samples: $(SAMPLES)
progs: $(PROGS)
units: $(UNITS)

# An archive, so that a unit test gets the objects that it names and no others.
$(B)/libshim.a: $(SHIM_OBJS)
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $(SHIM_OBJS)

$(B)/unit/%: tests/unit/%.c $(B)/libshim.a
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(SAN) $(LIB_CFLAGS) $(CPPFLAGS) -MMD -MP $(LDFLAGS) -o $@ $< $(B)/libshim.a

$(B)/samples/%: samples/%.c
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -pthread $(CPPFLAGS) -MMD -MP $(LDFLAGS) -o $@ $< -lm

$(B)/progs/%: tests/progs/%.c
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -pthread $(CPPFLAGS) -MMD -MP $(LDFLAGS) -o $@ $< -lm

# ---- trying it --------------------------------------------------------------

# A goal that must work as the only command on a fresh system first installs
# what it needs: everything built for it waits for that, and is not rebuilt by it.
DEPS := $(if $(filter check check-slow,$(MAKECMDGOALS)),@check) \
	$(if $(filter demo,$(MAKECMDGOALS)),@demo) \
	$(if $(filter bench,$(MAKECMDGOALS)),@bench) \
	$(if $(filter lint fmt fmt-check,$(MAKECMDGOALS)),@lint)
.PHONY: deps
deps:
	@tests/deps.sh @build $(DEPS)
ifneq ($(strip $(DEPS)),)
$(LIB_OBJS) $(CLI_OBJS) $(UNITS) $(SAMPLES) $(PROGS) $(EXPORTS): | deps
endif

.PHONY: check
check: deps all units progs ## run the tests; T=NAME runs tests/NAME.bats alone
	$(Q)B=$(B) tests/run $(T)

DEMO_MB   ?= 256
DEMO_DATA := $(B)/demo/usr-$(DEMO_MB)M.tar
$(DEMO_DATA):
	$(call say,DATA,$@)
	@mkdir -p $(@D)
	$(Q){ tar -C / -cf - usr 2>/dev/null || :; } | head -c $(DEMO_MB)M >$@

.PHONY: demo
demo: deps all $(DEMO_DATA) ## compress real data with 64 threads, native against green
	$(B)/pgreen compare -n 3 -- pigz -p 64 -c $(DEMO_DATA)

.PHONY: bench
bench: deps all ## measure against native threads and Go; T=echo only that, T='-g echo' its goals
	$(Q)B=$(B) tests/bench/run $(T)

.PHONY: random
random: all $(B)/progs/random ## run programs drawn from seeds, native against green; T=seconds, S=first seed
	$(Q)B=$(B) tests/random/run $(T:%=-t %) $(S:%=-s %)

.PHONY: asan tsan
asan: ## run the unit tests under AddressSanitizer and UBSan
	$(Q)$(MAKE) --no-print-directory B=$(B)/asan SAN=-fsanitize=address,undefined unit-check
# It cannot see fences, and gcc says so at each: what is tested here has none.
tsan: ## run the unit tests under ThreadSanitizer
	$(Q)$(MAKE) --no-print-directory B=$(B)/tsan SAN='-fsanitize=thread -Wno-tsan' unit-check
.PHONY: unit-check
unit-check: units
	$(Q)B=$(B) tests/run --units

# ---- keeping it in shape ----------------------------------------------------

C_FILES  := $(wildcard shim/*.[ch] shim/cli/*.[ch] interpose/*.[ch] samples/*.[ch] tests/unit/*.[ch] tests/progs/*.[ch] tests/bench/*.c)
SH_FILES := $(wildcard tests/*.sh tests/run tests/*.bash tests/bench/run tests/random/run .ci/run)

# Left out: Annex K's functions, which glibc has not; arguments that could be swapped;
# names beginning with __, which we interpose; a va_list that clang 14 does not see being
# started; products of small constants; and what we implement or test on purpose: vfork,
# asynchronous cancellation, a thread that is sent SIGTERM.  clang does not know gcc's
# attribute copy, nor all of its warnings.
TIDY := clang-analyzer-*,bugprone-*,concurrency-*,-concurrency-mt-unsafe,$\
	-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling,$\
	-clang-analyzer-valist.Uninitialized,-bugprone-easily-swappable-parameters,$\
	-bugprone-reserved-identifier,-bugprone-narrowing-conversions,$\
	-bugprone-implicit-widening-of-multiplication-result,$\
	-clang-analyzer-unix.Vfork,-clang-analyzer-security.insecureAPI.vfork,$\
	-concurrency-thread-canceltype-asynchronous,-bugprone-bad-signal-to-kill-thread

.PHONY: fmt fmt-check lint
fmt: deps ## format the C files in place
	clang-format -i $(C_FILES)
fmt-check: deps ## fail when a C file is not formatted
	clang-format --dry-run -Werror $(C_FILES)
lint: deps ## clang-tidy, shellcheck, mandoc
	clang-tidy --quiet --warnings-as-errors='*' --checks='$(TIDY)' $(filter %.c,$(C_FILES)) -- \
		-std=gnu11 -D_GNU_SOURCE -Ishim -DPGREEN_VERSION='"$(VERSION)"' \
		-Wno-unknown-attributes -Wno-unknown-warning-option
	shellcheck $(SH_FILES)
	shellcheck -s bats -S warning -e SC2154 $(wildcard tests/*.bats)
	mandoc -Tlint -Wwarning $(wildcard docs/man/*.[1-8])

# ---- and the rest -----------------------------------------------------------

.PHONY: install uninstall clean help
install: all ## install under PREFIX (DESTDIR is honoured)
	install -d $(DESTDIR)$(bindir) $(DESTDIR)$(libdir) $(DESTDIR)$(man1dir) $(DESTDIR)$(man7dir)
	install -m 755 $(B)/pgreen $(DESTDIR)$(bindir)/pgreen
	install -m 755 $(B)/libpgreen.so $(DESTDIR)$(libdir)/libpgreen.so
	$(if $(wildcard docs/man/*.1),install -m 644 $(wildcard docs/man/*.1) $(DESTDIR)$(man1dir))
	$(if $(wildcard docs/man/*.7),install -m 644 $(wildcard docs/man/*.7) $(DESTDIR)$(man7dir))
uninstall: ## remove what install put there
	rm -f $(DESTDIR)$(bindir)/pgreen $(DESTDIR)$(libdir)/libpgreen.so
	rm -f $(patsubst docs/man/%,$(DESTDIR)$(man1dir)/%,$(wildcard docs/man/*.1))
	rm -f $(patsubst docs/man/%,$(DESTDIR)$(man7dir)/%,$(wildcard docs/man/*.7))
	-rmdir $(DESTDIR)$(libdir) 2>/dev/null
clean: ## remove the build directory
	rm -rf $(B)
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

-include $(LIB_OBJS:.o=.d) $(CLI_OBJS:.o=.d) $(UNITS:=.d) $(SAMPLES:=.d) $(PROGS:=.d)
