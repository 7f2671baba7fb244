# excon: build, test and try it. `make help` lists what there is.
#
# Every build first says what it found. Variables on the command line override; a change of flags rebuilds what it touches.

BUILD  ?= build
CC     := $(if $(filter default,$(origin CC)),gcc,$(CC))
ARCH   ?= native
OPT    ?= -O3
WERROR ?= 1
V      ?= 0
SAN    ?=
CUDA   ?= auto
PYTHON ?= python3
MPIRUN ?= mpirun
TEST   ?=

Q := $(if $(filter 1,$(V)),,@)

one_of = $(if $(and $(filter 1,$(words $($(1)))),$(filter $(2),$($(1)))),,$(error $(1)=$($(1)) is not allowed; allowed: $(2)))
$(call one_of,V,0 1)
$(call one_of,WERROR,0 1)
$(call one_of,CUDA,auto 0 1)

# Goals that build nothing here: they work without the libraries, and report none.
QUIET_GOALS := help deps demo format format-check clean
BUILDS := $(filter-out $(QUIET_GOALS),$(or $(MAKECMDGOALS),all))

# ---- what is here ---------------------------------------------------------------------------------------------------
# pkg-config names, to be overridden where a library is called otherwise (PKG_CONFIG_PATH works as ever).
pkg_ok  = $(shell pkg-config --exists $(1) 2>/dev/null && echo yes)
pkg_ver = $(shell pkg-config --modversion $(1) 2>/dev/null)
MPI_PC    ?= ompi-c
HDF5_PC   ?= $(if $(call pkg_ok,hdf5-serial),hdf5-serial,hdf5)
YAML_PC   ?= yaml-0.1
JPEG_PC   ?= libjpeg
BLAS_PC   ?= openblas
CRYPTO_PC ?= libcrypto
CMOCKA_PC ?= cmocka
DNNL_DIR  ?=

MPI_OK    := $(call pkg_ok,$(MPI_PC))
HDF5_OK   := $(call pkg_ok,$(HDF5_PC))
YAML_OK   := $(call pkg_ok,$(YAML_PC))
JPEG_OK   := $(call pkg_ok,$(JPEG_PC))
BLAS_OK   := $(call pkg_ok,$(BLAS_PC))
CRYPTO_OK := $(call pkg_ok,$(CRYPTO_PC))
CMOCKA_OK := $(call pkg_ok,$(CMOCKA_PC))
DNNL_INC  := $(if $(DNNL_DIR),-isystem $(DNNL_DIR)/include)
DNNL_VER  := $(shell echo DNNL_VERSION_MAJOR.DNNL_VERSION_MINOR.DNNL_VERSION_PATCH | \
               $(CC) $(DNNL_INC) -include dnnl_version.h -E -P -x c - 2>/dev/null | tail -1 | tr -d ' ')
REQUIRED_MISSING := $(strip $(if $(MPI_OK),,Open-MPI) $(if $(HDF5_OK),,HDF5) $(if $(YAML_OK),,libyaml) \
    $(if $(JPEG_OK),,libjpeg-turbo) $(if $(BLAS_OK),,OpenBLAS) $(if $(CRYPTO_OK),,libcrypto) $(if $(DNNL_VER),,oneDNN))

NVCC    := $(shell command -v nvcc 2>/dev/null)
CU_SRCS := $(shell find kernels -name '*.cu' 2>/dev/null)
CUDA_WHY := $(if $(filter 0,$(CUDA)),CUDA=0,$(if $(NVCC),$(if $(CU_SRCS),,this version has no CUDA sources yet),nvcc not found))
ifneq ($(and $(filter 1,$(CUDA)),$(CUDA_WHY)),)
$(error CUDA=1, but $(CUDA_WHY); leave CUDA out, or say CUDA=0, for the CPU backend)
endif

pad  = $(shell printf '%-14s' '$(1)')
line = $(info $()  $(call pad,$(1)) $(if $(2),found $(2),MISSING: run scripts/deps.sh) ($(3)))
ifneq ($(BUILDS),)
ifeq ($(MAKELEVEL),0)
$(call line,Open MPI,$(if $(MPI_OK),$(call pkg_ver,$(MPI_PC))),MPI_PC=$(MPI_PC))
$(call line,HDF5,$(if $(HDF5_OK),$(call pkg_ver,$(HDF5_PC))),HDF5_PC=$(HDF5_PC))
$(call line,libyaml,$(if $(YAML_OK),$(call pkg_ver,$(YAML_PC))),YAML_PC=$(YAML_PC))
$(call line,libjpeg-turbo,$(if $(JPEG_OK),$(call pkg_ver,$(JPEG_PC))),JPEG_PC=$(JPEG_PC))
$(call line,OpenBLAS,$(if $(BLAS_OK),$(call pkg_ver,$(BLAS_PC))),BLAS_PC=$(BLAS_PC))
$(call line,oneDNN,$(DNNL_VER),DNNL_DIR=$(DNNL_DIR))
$(call line,libcrypto,$(if $(CRYPTO_OK),$(call pkg_ver,$(CRYPTO_PC))),CRYPTO_PC=$(CRYPTO_PC))
$(call line,cmocka (tests),$(if $(CMOCKA_OK),$(call pkg_ver,$(CMOCKA_PC))),CMOCKA_PC=$(CMOCKA_PC))
$(info $()  $(call pad,CUDA) $(if $(CUDA_WHY),off: $(CUDA_WHY),found $(NVCC)) (CUDA=0|1))
endif
ifneq ($(REQUIRED_MISSING),)
$(error missing: $(REQUIRED_MISSING). Run scripts/deps.sh, or make demo, which does)
endif
endif

# ---- flags ----------------------------------------------------------------------------------------------------------
system_flags = $(patsubst -I%,-isystem %,$(shell pkg-config --cflags $(1) 2>/dev/null))
WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes $(if $(filter 1,$(WERROR)),-Werror)
CPPFLAGS := -I. -D_GNU_SOURCE $(call system_flags,$(MPI_PC)) $(call system_flags,$(HDF5_PC)) $(call system_flags,$(YAML_PC)) \
            $(call system_flags,$(JPEG_PC)) $(call system_flags,$(BLAS_PC)) $(call system_flags,$(CRYPTO_PC)) $(DNNL_INC)
CFLAGS := -std=gnu11 $(OPT) -g -march=$(ARCH) -fno-math-errno -fno-trapping-math -fopenmp -fno-strict-aliasing $(WARN) $(SAN)
KEEP := $(if $(findstring address,$(SAN)),$(BUILD)/obj/tests/sanitize/keep_modules.o)
LDFLAGS := -fopenmp $(SAN)
LDLIBS := $(shell pkg-config --libs $(MPI_PC) $(HDF5_PC) 2>/dev/null) -lhdf5_hl \
          $(shell pkg-config --libs $(YAML_PC) $(JPEG_PC) $(BLAS_PC) $(CRYPTO_PC) 2>/dev/null) \
          $(if $(DNNL_DIR),-L$(DNNL_DIR)/lib -Wl$(comma)-rpath$(comma)$(DNNL_DIR)/lib) -ldnnl -lpthread -lm
comma := ,
REVISION := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

# ---- files ----------------------------------------------------------------------------------------------------------
ROOMS := kernels/base kernels/cpu kernels/nocuda comm io trainer $(wildcard kernels/*.c)
MAIN  := trainer/cli/main.c
SRCS  := $(filter-out $(MAIN),$(shell find $(ROOMS) -name '*.c' 2>/dev/null | sort))
OBJS  := $(SRCS:%.c=$(BUILD)/obj/%.o)
LIB   := $(BUILD)/libexcon.a
TESTS := $(shell find tests -name 'test_*.c' 2>/dev/null | sort)
TEST_BIN := $(TESTS:tests/%.c=$(BUILD)/tests/%)
SUPPORT := $(patsubst %.c,$(BUILD)/obj/%.o,$(shell find tests/support -name '*.c' 2>/dev/null | sort))
SCRIPTS := .ci/run $(shell find scripts tests -name '*.sh' 2>/dev/null | sort)
LAYOUT  := $(shell find kernels comm io trainer tests -name '*.[ch]' 2>/dev/null | sort)

.PHONY: all help deps check demo test test-binaries bench asan ubsan format format-check clean FORCE
all: $(BUILD)/excon

help:
	@echo 'make            build $(BUILD)/excon'
	@echo 'make demo       install what is missing, build, train on a small dataset with two ranks, evaluate, report'
	@echo 'make test       build and run every test; ends in counted results (TEST=loader: only those named so)'
	@echo 'make check      layout, shell scripts, the rooms include only what they may, and a build with all warnings'
	@echo 'make bench      speed of step, loss, loader and operators on this machine'
	@echo 'make asan       the tests under AddressSanitizer and UBSan     make ubsan   under UBSan alone'
	@echo 'make format     lay the sources out with clang-format 14'
	@echo 'make deps       install missing Debian/Ubuntu packages (scripts/deps.sh)'
	@echo 'make clean      remove build/ and build-*/'
	@echo 'Variables: CC OPT ARCH BUILD V=0|1 WERROR=0|1 CUDA=0|1 TEST MPIRUN PYTHON, and those that every build prints'

deps:
	@scripts/deps.sh

demo:
	@scripts/demo.sh

test-binaries: all $(TEST_BIN)

test: test-binaries
	@BUILD='$(BUILD)' MPIRUN='$(MPIRUN)' PYTHON='$(PYTHON)' tests/run.sh $(TEST)

# Sanitizers confuse gcc's flow warnings, so those are no errors there.
asan:
	@$(MAKE) test BUILD=build-asan OPT=-O1 WERROR=0 SAN='-fsanitize=address,undefined -fno-omit-frame-pointer'

ubsan:
	@$(MAKE) test BUILD=build-ubsan OPT=-O1 WERROR=0 SAN='-fsanitize=undefined -fno-sanitize-recover=undefined'

bench: all
	@for what in step loss loader ops; do $(BUILD)/excon bench $$what || exit; done

# Includes of our own that a room may not have: kernels is nobody's guest, comm and io know kernels only.
forbidden = ! grep -nE '^\#include "($(2))/' $(shell find $(1) -name '*.[chu]*') /dev/null || \
            { echo 'excon: $(1)/ may not include those'; exit 1; }

check: all format-check
	@bash -n $(SCRIPTS)
	@if command -v shellcheck >/dev/null; then shellcheck $(SCRIPTS); else echo '  shellcheck is not here: scripts got a syntax pass only'; fi
	@$(call forbidden,kernels,comm|io|trainer)
	@$(call forbidden,comm,io|trainer)
	@$(call forbidden,io,comm|trainer)
	@echo '  check passed'

FORMATTER := $(firstword $(shell command -v clang-format-14) $(shell clang-format --version 2>/dev/null | grep -q 'version 14\.' && echo clang-format))
format:
	@test -n '$(FORMATTER)' || { echo 'excon: clang-format 14 is not here (its layout differs from other versions)'; exit 1; }
	@$(FORMATTER) -i $(LAYOUT)

format-check:
	@if test -n '$(FORMATTER)'; then $(FORMATTER) --dry-run -Werror $(LAYOUT); else echo '  clang-format 14 is not here: layout not checked'; fi

clean:
	rm -rf build build-*

$(BUILD)/flags: FORCE
	@mkdir -p $(@D); echo '$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) $(LDLIBS)' | cmp -s - $@ || echo '$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) $(LDLIBS)' >$@

# The revision goes into the files that name it, so that a commit does not rebuild the rest.
$(BUILD)/revision: FORCE
	@mkdir -p $(@D); echo '$(REVISION)' | cmp -s - $@ || echo '$(REVISION)' >$@

NAMES_REVISION := $(patsubst %.c,$(BUILD)/obj/%.o,$(shell grep -rl EXCON_REVISION --include='*.c' comm io trainer 2>/dev/null))
$(NAMES_REVISION): private CPPFLAGS += -DEXCON_REVISION='"$(REVISION)"'
$(NAMES_REVISION): $(BUILD)/revision

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(if $(Q),@echo '  CC   $<')
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(LIB): $(OBJS)
	$(if $(Q),@echo '  AR   $@')
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/excon: $(MAIN:%.c=$(BUILD)/obj/%.o) $(LIB) $(KEEP)
	$(if $(Q),@echo '  LINK $@')
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(KEEP) $(LIB) $(LDLIBS)

$(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(SUPPORT) $(LIB) $(KEEP)
	@mkdir -p $(@D)
	$(if $(Q),@echo '  LINK $@')
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(KEEP) $(SUPPORT) $(LIB) -lcmocka $(LDLIBS)

# Preloaded by tests that make input/output fail; never linked.
$(BUILD)/tests/faults/%.so: tests/faults/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(if $(Q),@echo '  SO   $@')
	$(Q)$(CC) -I. -D_GNU_SOURCE -std=gnu11 -O1 -g -fPIC -shared $(WARN) -o $@ $< -ldl

$(BUILD)/tests/unit/test_files $(BUILD)/tests/unit/test_checkpoint_faults: | $(BUILD)/tests/faults/fail_io.so

.PRECIOUS: $(BUILD)/obj/%.o
-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
