# excon: build, test and try it. `make help` lists what there is.
#
# Override on the command line: CC, OPT, ARCH, CUDA, BUILD, V=1, WERROR=0. A change of flags rebuilds what it touches.

BUILD  ?= build
CC     := $(if $(filter default,$(origin CC)),gcc,$(CC))
ARCH   ?= native
OPT    ?= -O3
WERROR ?= 1
V      ?= 0
SAN    ?=
PYTHON ?= python3
MPIRUN ?= mpirun

Q := $(if $(filter 1,$(V)),,@)

# ---- what is here -------------------------------------------------------------------------------------------------
pkg_ok  = $(shell pkg-config --exists $(1) 2>/dev/null && echo yes)
pkg_ver = $(shell pkg-config --modversion $(1) 2>/dev/null)
have_header = $(shell printf '\#include <$(1)>\n' | $(CC) -E -x c - >/dev/null 2>&1 && echo yes)

MPI_OK    := $(call pkg_ok,ompi-c)
HDF5_PC   := $(if $(call pkg_ok,hdf5-serial),hdf5-serial,hdf5)
HDF5_OK   := $(call pkg_ok,$(HDF5_PC))
YAML_OK   := $(call pkg_ok,yaml-0.1)
JPEG_OK   := $(call pkg_ok,libjpeg)
BLAS_OK   := $(call pkg_ok,openblas)
CRYPTO_OK := $(call pkg_ok,libcrypto)
CMOCKA_OK := $(call pkg_ok,cmocka)
DNNL_OK   := $(call have_header,dnnl.h)
REQUIRED_MISSING := $(if $(MPI_OK),,Open-MPI) $(if $(HDF5_OK),,HDF5) $(if $(YAML_OK),,libyaml) $(if $(JPEG_OK),,libjpeg-turbo) \
                    $(if $(BLAS_OK),,OpenBLAS) $(if $(CRYPTO_OK),,libcrypto) $(if $(DNNL_OK),,oneDNN)

# ---- flags ----------------------------------------------------------------------------------------------------------
WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes $(if $(filter 1,$(WERROR)),-Werror)
CPPFLAGS := -I. -D_GNU_SOURCE -DEXCON_REVISION='"$(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)"' \
            $(if $(MPI_OK),$(patsubst -I%,-isystem %,$(shell pkg-config --cflags ompi-c))) \
            $(if $(HDF5_OK),$(patsubst -I%,-isystem %,$(shell pkg-config --cflags $(HDF5_PC)))) \
            $(if $(BLAS_OK),$(patsubst -I%,-isystem %,$(shell pkg-config --cflags openblas)))
CFLAGS := -std=gnu11 $(OPT) -g -march=$(ARCH) -fno-math-errno -fno-trapping-math -fopenmp -fno-strict-aliasing $(WARN) $(SAN)
LDFLAGS := -fopenmp $(SAN)
LDLIBS := $(if $(MPI_OK),$(shell pkg-config --libs ompi-c)) $(if $(HDF5_OK),$(shell pkg-config --libs $(HDF5_PC))) -lhdf5_hl \
          $(if $(YAML_OK),$(shell pkg-config --libs yaml-0.1)) $(if $(JPEG_OK),$(shell pkg-config --libs libjpeg)) \
          $(if $(BLAS_OK),$(shell pkg-config --libs openblas)) $(if $(CRYPTO_OK),$(shell pkg-config --libs libcrypto)) \
          -ldnnl -lpthread -lm

# ---- files ----------------------------------------------------------------------------------------------------------
ROOMS := kernels/base kernels/cpu kernels/nocuda comm io trainer $(wildcard kernels/*.c)
MAIN  := trainer/cli/main.c
SRCS  := $(filter-out $(MAIN),$(shell find $(ROOMS) -name '*.c' 2>/dev/null | sort))
OBJS  := $(SRCS:%.c=$(BUILD)/obj/%.o)
LIB   := $(BUILD)/libexcon.a
UNIT  := $(shell find tests/unit tests/golden -name 'test_*.c' 2>/dev/null | sort)
UNIT_BIN := $(UNIT:tests/%.c=$(BUILD)/tests/%)
SUPPORT := $(patsubst %.c,$(BUILD)/obj/%.o,$(shell find tests/support -name '*.c' 2>/dev/null | sort))

.PHONY: all help deps detect check demo test test-binaries bench asan ubsan format format-check clean FORCE
all: detect $(BUILD)/excon

help:
	@echo 'make            build $(BUILD)/excon'
	@echo 'make demo       install what is missing, build, train on a small dataset with two ranks, evaluate, report'
	@echo 'make test       build and run every test; ends in counted results'
	@echo 'make check      layout, shell scripts, and a syntax pass with all warnings'
	@echo 'make bench      speed of step, loss, loader and operators on this machine'
	@echo 'make asan       the tests under AddressSanitizer     make ubsan   ... under UndefinedBehaviorSanitizer'
	@echo 'make format     lay the sources out with clang-format'
	@echo 'make deps       install missing Debian/Ubuntu packages (scripts/deps.sh)'
	@echo 'Variables: CC OPT ARCH BUILD V=1 WERROR=0 CUDA=0|1'

line = @printf '  %-14s %s\n' '$(1)' '$(if $(2),found $(3),MISSING: run scripts/deps.sh)'
detect:
ifneq ($(strip $(REQUIRED_MISSING)),)
	$(call line,Open MPI,$(MPI_OK),)
	$(call line,HDF5,$(HDF5_OK),)
	$(call line,libyaml,$(YAML_OK),)
	$(call line,libjpeg-turbo,$(JPEG_OK),)
	$(call line,OpenBLAS,$(BLAS_OK),)
	$(call line,oneDNN,$(DNNL_OK),)
	$(call line,libcrypto,$(CRYPTO_OK),)
	@echo 'excon: missing: $(strip $(REQUIRED_MISSING)). Run scripts/deps.sh, or make demo, which does.'; exit 1
endif

$(BUILD)/flags: FORCE
	@mkdir -p $(@D); echo '$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) $(LDLIBS)' | cmp -s - $@ || echo '$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) $(LDLIBS)' >$@

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(if $(Q),@echo '  CC   $<')
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(LIB): $(OBJS)
	$(if $(Q),@echo '  AR   $@')
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/excon: $(MAIN:%.c=$(BUILD)/obj/%.o) $(LIB)
	$(if $(Q),@echo '  LINK $@')
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(LIB) $(LDLIBS)

$(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(SUPPORT) $(LIB)
	@mkdir -p $(@D)
	$(if $(Q),@echo '  LINK $@')
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(SUPPORT) $(LIB) -lcmocka $(LDLIBS)

.PRECIOUS: $(BUILD)/obj/%.o
-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
