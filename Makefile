# excon: build, test and try it. `make help` lists what there is.
#
# Every build first says what it found. Variables on the command line override; a change of flags rebuilds what it touches.

BUILD  ?= build
CC     := $(if $(filter default,$(origin CC)),gcc,$(CC))
ARCH   ?= $(if $(filter x86_64%,$(shell $(CC) -dumpmachine)),levels,native)
OPT    ?= -O3
WERROR ?= 0
V      ?= 0
SAN    ?=
CUDA   ?= auto
PYTHON ?= python3
MPIRUN ?= mpirun
OBJCOPY ?= objcopy
TEST   ?=

Q := $(if $(filter 1,$(V)),,@)

one_of = $(if $(and $(filter 1,$(words $($(1)))),$(filter $(2),$($(1)))),,$(error $(1)=$($(1)) is not allowed; allowed: $(2)))
$(call one_of,V,0 1)
$(call one_of,WERROR,0 1)
$(call one_of,CUDA,auto 0 1)

# Goals that build nothing here: they work without the libraries, and report none.
QUIET_GOALS := help deps demo chroot-check gpu-bundle format format-check clean
BUILDS := $(filter-out $(QUIET_GOALS),$(or $(MAKECMDGOALS),all))

# ---- what is here ---------------------------------------------------------------------------------------------------
# pkg-config names, to be overridden where a library is called otherwise (PKG_CONFIG_PATH works as ever).
comma  := ,
pkg_ok  = $(shell pkg-config --exists $(1) 2>/dev/null && echo yes)
pkg_ver = $(shell pkg-config --modversion $(1) 2>/dev/null)
MPI_PC    ?= ompi-c
HDF5_PC   ?= $(if $(call pkg_ok,hdf5-serial),hdf5-serial,hdf5)
YAML_PC   ?= yaml-0.1
JPEG_PC   ?= libjpeg
ZLIB_PC   ?= zlib
CRYPTO_PC ?= libcrypto
CMOCKA_PC ?= cmocka
DNNL_DIR  ?=

MPI_OK    := $(call pkg_ok,$(MPI_PC))
HDF5_OK   := $(call pkg_ok,$(HDF5_PC))
YAML_OK   := $(call pkg_ok,$(YAML_PC))
JPEG_OK   := $(call pkg_ok,$(JPEG_PC))
ZLIB_OK   := $(call pkg_ok,$(ZLIB_PC))
CRYPTO_OK := $(call pkg_ok,$(CRYPTO_PC))
CMOCKA_OK := $(call pkg_ok,$(CMOCKA_PC))
DNNL_INC  := $(if $(DNNL_DIR),-isystem $(DNNL_DIR)/include)
DNNL_VER  := $(shell echo DNNL_VERSION_MAJOR.DNNL_VERSION_MINOR.DNNL_VERSION_PATCH | \
               $(CC) $(DNNL_INC) -include dnnl_version.h -E -P -x c - 2>/dev/null | tail -1 | tr -d ' ')
REQUIRED_MISSING := $(strip $(if $(MPI_OK),,Open-MPI) $(if $(HDF5_OK),,HDF5) $(if $(YAML_OK),,libyaml) \
    $(if $(JPEG_OK),,libjpeg-turbo) $(if $(ZLIB_OK),,zlib) $(if $(CRYPTO_OK),,libcrypto) $(if $(DNNL_VER),,oneDNN))

# The CUDA backend is a library of its own beside the program, which loads it when a CUDA device is asked for.
NVCC        ?= $(or $(shell command -v nvcc 2>/dev/null),$(wildcard /usr/local/cuda/bin/nvcc))
CUDA_ARCHS  ?= 80 90
CUDNN       ?= auto
NCCL        ?= auto
CUDA_HOME   ?= $(patsubst %/bin/nvcc,%,$(realpath $(NVCC)))
CUDA_INC    := $(if $(NVCC),-isystem $(CUDA_HOME)/include)
CUDA_LIBDIR := $(firstword $(wildcard $(CUDA_HOME)/lib64 $(CUDA_HOME)/targets/x86_64-linux/lib $(CUDA_HOME)/lib))
$(call one_of,CUDNN,auto 0 1)
$(call one_of,NCCL,auto 0 1)
CUDA_ARCHS_KNOWN := 80 86 87 88 89 90 90a 100 100a 103 110 120 121
ifneq ($(filter-out $(CUDA_ARCHS_KNOWN),$(CUDA_ARCHS)),)
$(error CUDA_ARCHS=$(CUDA_ARCHS): the kernels need compute capability 80 or newer (bf16 products); known are $(CUDA_ARCHS_KNOWN))
endif
header_version = $(shell echo 'version= $(2)' | $(CC) $(CUDA_INC) -include $(1) -E -P -x c - 2>/dev/null | sed -n 's/^version= *//p' | tr -d ' ')
NVCC_VER  := $(if $(NVCC),$(shell $(NVCC) --version | sed -n 's/.*release \([0-9.]*\).*/\1/p'))
BLAS_HERE := $(if $(NVCC_VER),$(wildcard $(CUDA_HOME)/include/cublas_v2.h))
CUDNN_VER := $(if $(and $(NVCC_VER),$(filter-out 0,$(CUDNN))),$(call header_version,cudnn_version.h,CUDNN_MAJOR.CUDNN_MINOR.CUDNN_PATCHLEVEL))
NCCL_VER  := $(if $(and $(NVCC_VER),$(filter-out 0,$(NCCL))),$(call header_version,nccl.h,NCCL_MAJOR.NCCL_MINOR.NCCL_PATCH))
CUDNN_VER := $(if $(findstring CUDNN,$(CUDNN_VER)),,$(CUDNN_VER))
NCCL_VER  := $(if $(findstring NCCL,$(NCCL_VER)),,$(NCCL_VER))
CUDA_WHY  := $(if $(filter 0,$(CUDA)),CUDA=0,$(if $(NVCC_VER),$(if $(BLAS_HERE),,cublas_v2.h not found under $(CUDA_HOME)),nvcc not found))
ifneq ($(and $(filter 1,$(CUDA)),$(CUDA_WHY)),)
$(error CUDA=1, but $(CUDA_WHY); set NVCC or CUDA_HOME, leave CUDA out, or say CUDA=0, for the CPU backend)
endif
ifneq ($(and $(filter 1,$(CUDNN)),$(if $(CUDA_WHY)$(CUDNN_VER),,none)),)
$(error CUDNN=1, but cudnn_version.h was not found)
endif
ifneq ($(and $(filter 1,$(NCCL)),$(if $(CUDA_WHY)$(NCCL_VER),,none)),)
$(error NCCL=1, but nccl.h was not found)
endif

pad  = $(shell printf '%-14s' '$(1)')
line = $(info $()  $(call pad,$(1)) $(if $(2),found $(2),MISSING: run scripts/deps.sh) ($(3)))
ifneq ($(BUILDS),)
ifeq ($(MAKELEVEL),0)
$(call line,Open MPI,$(if $(MPI_OK),$(call pkg_ver,$(MPI_PC))),MPI_PC=$(MPI_PC))
$(call line,HDF5,$(if $(HDF5_OK),$(call pkg_ver,$(HDF5_PC))),HDF5_PC=$(HDF5_PC))
$(call line,libyaml,$(if $(YAML_OK),$(call pkg_ver,$(YAML_PC))),YAML_PC=$(YAML_PC))
$(call line,libjpeg-turbo,$(if $(JPEG_OK),$(call pkg_ver,$(JPEG_PC))),JPEG_PC=$(JPEG_PC))
$(call line,zlib,$(if $(ZLIB_OK),$(call pkg_ver,$(ZLIB_PC))),ZLIB_PC=$(ZLIB_PC))
$(call line,oneDNN,$(DNNL_VER),DNNL_DIR=$(DNNL_DIR))
$(call line,libcrypto,$(if $(CRYPTO_OK),$(call pkg_ver,$(CRYPTO_PC))),CRYPTO_PC=$(CRYPTO_PC))
$(call line,cmocka (tests),$(if $(CMOCKA_OK),$(call pkg_ver,$(CMOCKA_PC))),CMOCKA_PC=$(CMOCKA_PC))
$(info $()  $(call pad,CUDA) $(if $(CUDA_WHY),off: $(CUDA_WHY),found $(NVCC_VER), sm $(CUDA_ARCHS)) (CUDA=0|1 NVCC= CUDA_ARCHS=))
$(if $(CUDA_WHY),,$(info $()  $(call pad,cuDNN) $(if $(CUDNN_VER),found $(CUDNN_VER),off: $(if $(filter 0,$(CUDNN)),CUDNN=0,cudnn.h not found); convolutions by cuBLAS) (CUDNN=0|1)))
$(if $(CUDA_WHY),,$(info $()  $(call pad,NCCL) $(if $(NCCL_VER),found $(NCCL_VER),off: $(if $(filter 0,$(NCCL)),NCCL=0,nccl.h not found); collectives by MPI) (NCCL=0|1)))
endif
ifneq ($(REQUIRED_MISSING),)
$(error missing: $(REQUIRED_MISSING). Run scripts/deps.sh, or make demo, which does)
endif
endif

# ---- flags ----------------------------------------------------------------------------------------------------------
system_flags = $(patsubst -I%,-isystem %,$(shell pkg-config --cflags $(1) 2>/dev/null))
# Two warnings of clang alone are muted: about loops it does not vectorise, and about named constants (all enums here) in
# floating-point expressions.
CLANG_QUIET := -Wno-pass-failed -Wno-enum-float-conversion
is_clang = $(findstring clang,$(shell $(1) --version 2>/dev/null))
WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes $(if $(call is_clang,$(CC)),$(CLANG_QUIET)) \
        $(if $(filter 1,$(WERROR)),-Werror)
CPPFLAGS := -I. -D_GNU_SOURCE $(call system_flags,$(MPI_PC)) $(call system_flags,$(HDF5_PC)) $(call system_flags,$(YAML_PC)) \
            $(call system_flags,$(JPEG_PC)) $(call system_flags,$(ZLIB_PC)) $(call system_flags,$(CRYPTO_PC)) $(DNNL_INC)
# ARCH=levels: a program for every x86-64 processor from x86-64-v2 on (kernels/cpu/device/levels.h); anything else goes to
# the compiler as -march, and the program runs on such processors only. Tests compile for this machine.
LEVELS := $(if $(filter levels,$(ARCH)),v2 v3 v4)
MARCH  := $(if $(LEVELS),x86-64,$(ARCH))
CFLAGS := -std=gnu11 $(OPT) -g -march=$(MARCH) -fno-math-errno -fno-trapping-math -fopenmp -fno-strict-aliasing $(WARN) $(SAN)
KEEP := $(if $(findstring address,$(SAN)),$(BUILD)/obj/tests/sanitize/keep_modules.o)
LDFLAGS := -fopenmp -rdynamic $(SAN)
DNNL_LIBS := $(if $(DNNL_DIR),-L$(DNNL_DIR)/lib -Wl$(comma)-rpath$(comma)$(DNNL_DIR)/lib) -ldnnl
LDLIBS := $(shell pkg-config --libs $(MPI_PC) $(HDF5_PC) 2>/dev/null) -lhdf5_hl \
          $(shell pkg-config --libs $(YAML_PC) $(JPEG_PC) $(ZLIB_PC) $(CRYPTO_PC) 2>/dev/null) \
          $(DNNL_LIBS) -lpthread -ldl -lm
REVISION := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

# ---- files ----------------------------------------------------------------------------------------------------------
ROOMS := kernels/base kernels/cpu comm io trainer $(wildcard kernels/*.c)
MAIN  := trainer/cli/main.c
SRCS  := $(filter-out $(MAIN) comm/nccl/%,$(shell find $(ROOMS) -name '*.c' 2>/dev/null | sort))
LEVEL_SRCS := $(if $(LEVELS),$(filter-out %/onednn.c,$(filter kernels/cpu/network/% kernels/cpu/method/% kernels/cpu/products/% %/table_cpu.c,$(SRCS))))
OBJS  := $(patsubst %.c,$(BUILD)/obj/%.o,$(filter-out $(LEVEL_SRCS),$(SRCS))) $(LEVELS:%=$(BUILD)/levels/%.o)
LIB   := $(BUILD)/libexcon.a
TESTS := $(shell find tests -name 'test_*.c' 2>/dev/null | sort)
TEST_BIN := $(TESTS:tests/%.c=$(BUILD)/tests/%)
SUPPORT := $(patsubst %.c,$(BUILD)/obj/%.o,$(shell find tests/support -name '*.c' 2>/dev/null | sort))
SCRIPTS := .ci/run $(shell find scripts tests -name '*.sh' -o -name '*.sbatch' 2>/dev/null | sort)
LAYOUT  := $(shell find kernels comm io trainer tests -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' 2>/dev/null | sort)

CUDNN_SRCS := $(sort $(wildcard kernels/cuda/*/*cudnn*.c))
CUDA_C  := $(filter-out $(CUDNN_SRCS),$(sort $(wildcard kernels/cuda/*/*.c)))
CUDA_CU := $(sort $(wildcard kernels/cuda/*/*.cu))
NCCL_C  := $(sort $(wildcard comm/nccl/*.c))
SIMT_CPP := $(sort $(wildcard tests/simt/*.cpp))
SIMT_C   := $(sort $(wildcard tests/simt/standin_*.c))

.PHONY: all help deps check demo test soak test-simt test-binaries ptxas-report bundle bundle-check chroot-check gpu-bundle bench asan ubsan format format-check clean FORCE
CUDA_LIB := $(if $(CUDA_WHY),,$(BUILD)/libexcon_cuda.so)
SIMT_LIB := $(BUILD)/simt/libexcon_cuda.so
all: $(BUILD)/excon $(CUDA_LIB)

help:
	@echo 'make            build $(BUILD)/excon'
	@echo 'make demo       install what is missing, build, train on a small dataset with two ranks, evaluate, report'
	@echo 'make test       build and run every test; ends in counted results (TEST=loader: only those named so)'
	@echo 'make test-simt  the CUDA backend alone, compiled for the CPU (no GPU, no CUDA needed)'
	@echo 'make soak       the programs of tests/soak, which run longer than a test may; each says what variable limits it'
	@echo 'make check      layout, shell scripts, the rooms include only what they may, and a build with all warnings'
	@echo 'make bench      speed of step, loss, loader and operators on this machine'
	@echo 'make ptxas-report  registers, spills and shared memory of every CUDA kernel; fails when a hot one spills'
	@echo 'make bundle     one folder with program, Open MPI and libraries that runs wherever it is unpacked, and a .tar.gz of it'
	@echo 'make chroot-check  demo and test in a bare Debian (RELEASE=trixie|bookworm; root, debootstrap, network)'
	@echo 'make bundle-check  tries that folder in a bare chroot of another release (root, debootstrap, network)'
	@echo 'make gpu-bundle  one file for a machine with a GPU and little else: scripts/gpu_check.sh takes it there'
	@echo 'make asan       the tests under AddressSanitizer and UBSan     make ubsan   under UBSan alone'
	@echo 'make format     lay the sources out with clang-format 14'
	@echo 'make deps       install missing Debian/Ubuntu packages (scripts/deps.sh)'
	@echo 'make clean      remove build/ and build-*/'
	@echo 'Variables: CC OPT ARCH=levels|native|... BUILD V=0|1 WERROR=0|1 (1: warnings are errors) CUDA=0|1 TEST MPIRUN PYTHON, and those that every build prints'

deps:
	@scripts/deps.sh

demo:
	@scripts/demo.sh

test-binaries: all $(TEST_BIN) $(SIMT_LIB)

test: test-binaries
	@BUILD='$(BUILD)' MPIRUN='$(MPIRUN)' PYTHON='$(PYTHON)' tests/run.sh $(TEST)

soak: test-binaries
	@failed=0; for program in tests/soak/*.sh; do \
	  echo "$$program"; BUILD='$(BUILD)' MPIRUN='$(MPIRUN)' PYTHON='$(PYTHON)' $$program || failed=1; done; exit $$failed

test-simt: all $(TEST_BIN) $(SIMT_LIB)
	@BUILD='$(BUILD)' MPIRUN='$(MPIRUN)' PYTHON='$(PYTHON)' tests/run.sh simt/

# Sanitizers confuse gcc's flow warnings, so those are no errors there.
asan:
	@$(MAKE) test BUILD=build-asan OPT=-O1 WERROR=0 SAN='-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer'

ubsan:
	@$(MAKE) test BUILD=build-ubsan OPT=-O1 WERROR=0 SAN='-fsanitize=undefined -fno-sanitize-recover=undefined'

bundle: all
	@BUILD='$(BUILD)' CC='$(CC)' MAKE='$(MAKE)' scripts/bundle.sh

chroot-check:
	@scripts/chroot_check.sh $(TEST)

bundle-check: bundle
	@BUILD='$(BUILD)' scripts/bundle_check.sh

gpu-bundle:
	@BUILD='$(BUILD)' CC='$(CC)' MAKE='$(MAKE)' scripts/gpu_bundle.sh

bench: all
	@for what in step loss loader ops; do $(BUILD)/excon bench $$what || exit; done

# Warnings are errors here: in this build when it was asked for with WERROR=1 already, else in one of its own beside it. A
# clang that is there reads every source, too.
CLANG ?= $(or $(shell command -v clang 2>/dev/null),$(lastword $(sort $(wildcard /usr/bin/clang-[1-9][0-9]))))
CLANG_READS = $(if $(CLANG),$(shell $(CLANG) -fopenmp -fsyntax-only -include omp.h -x c /dev/null 2>/dev/null && echo yes))
check: format-check
	@$(MAKE) --no-print-directory all test-binaries $(if $(filter 1,$(WERROR)),,WERROR=1 BUILD='$(BUILD)-check')
	@$(if $(CLANG_READS),$(CLANG) -fsyntax-only $(CPPFLAGS) -Itests/simt/include -DEXCON_REVISION='""' $(CFLAGS) $(CLANG_QUIET) -Werror \
	  $(filter %.c,$(LAYOUT)),echo '  clang or its omp.h (libomp-dev) is not here: compiled by $(CC) alone')
	@bash -n $(SCRIPTS)
	@if command -v shellcheck >/dev/null; then shellcheck $(SCRIPTS); else echo '  shellcheck is not here: scripts got a syntax pass only'; fi
	@scripts/check_floors.sh
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

# Corrupted images have the same bytes on every machine (corruptions.h): no product may be fused with a sum.
$(BUILD)/obj/trainer/evaluate/corruptions/%.o: private CFLAGS += -ffp-contract=off

# The files of one level become one object with one global name, their operator table.
define level_rules
$(BUILD)/levels/$(1)/%.o: %.c $(BUILD)/flags
	@mkdir -p $$(@D)
	$$(if $$(Q),@echo '  CC   $$< (x86-64-$(1))')
	$$(Q)$$(CC) $$(CPPFLAGS) $$(filter-out -march=%,$$(CFLAGS)) -march=x86-64-$(1) -DCPU_LEVEL=$(1) -MMD -MP -c $$< -o $$@

$(BUILD)/levels/$(1).o: $(LEVEL_SRCS:%.c=$(BUILD)/levels/$(1)/%.o)
	$$(Q)$$(LD) -r -o $$@ $$^ && $$(OBJCOPY) --keep-global-symbol=ops_cpu_$(1) $$@
endef
$(foreach l,$(LEVELS),$(eval $(call level_rules,$(l))))
level_list = $(foreach l,$(LEVELS),X($(l)))
$(BUILD)/obj/kernels/cpu/device/levels_cpu.o: private CPPFLAGS += $(if $(LEVELS),-DCPU_LEVELS='$(level_list)')

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

# ---- the CUDA backend's library --------------------------------------------------------------------------------------
# Twice from the same sources: by nvcc for GPUs, and by g++ on stand-in headers (tests/simt), which tests run on the CPU.
NEWEST_ARCH := $(lastword $(CUDA_ARCHS))
CUDA_DEFS  := $(if $(CUDNN_VER),-DEXCON_CUDNN) $(if $(NCCL_VER),-DEXCON_NCCL)
NVCC_SMALL := $(if $(NVCC_VER),$(shell $(NVCC) --help | grep -q -e --compress-mode && echo --compress-mode=size))
NVCC_FLAGS := -std=c++20 -O3 -lineinfo $(NVCC_SMALL) -Xptxas -v -I. $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) \
              -gencode arch=compute_$(NEWEST_ARCH),code=compute_$(NEWEST_ARCH) $(CUDA_DEFS) -Xcompiler -fPIC,-Wall,-Wextra,-Wshadow \
              $(if $(filter 1,$(WERROR)),-Werror all-warnings -Xcompiler -Werror)
CUDA_CFLAGS := $(filter-out -fopenmp -march=%,$(CFLAGS)) -fPIC $(CUDA_DEFS) $(CUDA_INC)
CUDA_OBJS  := $(CUDA_C:%.c=$(BUILD)/cuda/%.o) $(CUDA_CU:%.cu=$(BUILD)/cuda/%.cu.o) $(if $(CUDNN_VER),$(CUDNN_SRCS:%.c=$(BUILD)/cuda/%.o)) \
              $(if $(NCCL_VER),$(NCCL_C:%.c=$(BUILD)/cuda/%.o))
CUDA_LIBS  := -L$(CUDA_LIBDIR) -Wl,-rpath,$(CUDA_LIBDIR) -lcudart -lcublas $(if $(CUDNN_VER),-lcudnn) $(if $(NCCL_VER),-lnccl) \
              $(shell pkg-config --libs $(MPI_PC) 2>/dev/null)

SIMT_WARN  := -Wall -Wextra -Wshadow -Wconversion -Wno-unknown-pragmas $(if $(call is_clang,$(CC)),$(CLANG_QUIET)) $(if $(filter 1,$(WERROR)),-Werror)
SIMT_FLAGS := -Itests/simt/include -I. -O2 -g -march=$(if $(LEVELS),native,$(ARCH)) -fno-strict-aliasing -fPIC -DEXCON_CUDNN -DEXCON_NCCL $(SAN)
SIMT_OBJS  := $(CUDA_C:%.c=$(BUILD)/simt/%.o) $(CUDNN_SRCS:%.c=$(BUILD)/simt/%.o) $(CUDA_CU:%.cu=$(BUILD)/simt/%.cu.o) \
              $(NCCL_C:%.c=$(BUILD)/simt/%.o) \
              $(SIMT_CPP:%.cpp=$(BUILD)/simt/%.o) $(SIMT_C:%.c=$(BUILD)/simt/%.o)

$(BUILD)/cuda/flags: FORCE
	@mkdir -p $(@D); echo '$(NVCC) $(NVCC_FLAGS) $(CC) $(CUDA_CFLAGS) $(CUDA_LIBS)' | cmp -s - $@ || echo '$(NVCC) $(NVCC_FLAGS) $(CC) $(CUDA_CFLAGS) $(CUDA_LIBS)' >$@

$(BUILD)/simt/flags: FORCE
	@mkdir -p $(@D); echo '$(CXX) $(CC) $(SIMT_FLAGS) $(SIMT_WARN)' | cmp -s - $@ || echo '$(CXX) $(CC) $(SIMT_FLAGS) $(SIMT_WARN)' >$@

# What ptxas says of each kernel is kept for ptxas-report; the rest, warnings and errors, is shown.
PTXAS_SAYS := ^ptxas info +: (Compiling entry|Function prop|Used [0-9]|Compile time|[0-9]+ bytes gmem)|^ +[0-9]+ bytes stack frame
$(BUILD)/cuda/%.cu.o: %.cu $(BUILD)/cuda/flags
	@mkdir -p $(@D)
	$(if $(Q),@echo '  NVCC $<')
	$(Q)$(NVCC) $(NVCC_FLAGS) -MMD -MP -MF $(@:.o=.d) -c $< -o $@ 2>$(@:.o=.log); code=$$?; \
	  grep -vE '$(PTXAS_SAYS)' $(@:.o=.log) >&2; exit $$code

$(BUILD)/cuda/%.o: %.c $(BUILD)/cuda/flags
	@mkdir -p $(@D)
	$(if $(Q),@echo '  CC   $< (CUDA)')
	$(Q)$(CC) $(CPPFLAGS) $(CUDA_CFLAGS) -MMD -MP -c $< -o $@

# The few functions of the C++ runtime that nvcc's host code calls: CUDA's libraries may bring another one.
CXX_INSIDE := -static-libstdc++ -static-libgcc -Wl,--exclude-libs,ALL
$(BUILD)/libexcon_cuda.so: $(CUDA_OBJS)
	$(if $(Q),@echo '  SO   $@')
	$(Q)$(CXX) -shared $(CXX_INSIDE) -o $@ $^ $(CUDA_LIBS)

ptxas-report: $(CUDA_LIB)
	@$(if $(CUDA_WHY),echo 'excon: no report without CUDA: $(CUDA_WHY)' >&2; exit 66,$(PYTHON) scripts/ptxas_report.py \
	  --hot scripts/hot_kernels.txt --json $(BUILD)/ptxas.json $(foreach f,$(CUDA_CU),$(f)=$(BUILD)/cuda/$(f).log))

$(BUILD)/simt/%.cu.o: %.cu $(BUILD)/simt/flags
	@mkdir -p $(@D)
	$(if $(Q),@echo '  SIMT $<')
	$(Q)$(CXX) -x c++ -std=c++20 $(SIMT_FLAGS) $(SIMT_WARN) -MMD -MP -c $< -o $@

$(BUILD)/simt/%.o: %.cpp $(BUILD)/simt/flags
	@mkdir -p $(@D)
	$(if $(Q),@echo '  SIMT $<')
	$(Q)$(CXX) -std=c++20 $(SIMT_FLAGS) $(SIMT_WARN) -MMD -MP -c $< -o $@

$(BUILD)/simt/%.o: %.c $(BUILD)/simt/flags
	@mkdir -p $(@D)
	$(if $(Q),@echo '  SIMT $<')
	$(Q)$(CC) -std=gnu11 $(SIMT_FLAGS) $(CPPFLAGS) $(SIMT_WARN) -Wstrict-prototypes -MMD -MP -c $< -o $@

$(SIMT_LIB): $(SIMT_OBJS)
	$(if $(Q),@echo '  SO   $@')
	$(Q)$(CXX) -shared $(SAN) -o $@ $^ $(DNNL_LIBS) $(shell pkg-config --libs $(MPI_PC) 2>/dev/null)

# Asks the real cuDNN for plans, for GPUs that need not be here.
CUDNN_PLAN := $(if $(CUDNN_VER),$(BUILD)/cuda/kernels/cuda/products/cudnn_plan.o)
$(BUILD)/obj/tests/cudnn/test_plans.o: private CPPFLAGS += $(CUDA_INC) $(if $(CUDNN_VER),-DEXCON_CUDNN)
$(BUILD)/tests/cudnn/test_plans: private LDLIBS += $(if $(CUDNN_VER),$(CUDNN_PLAN) -L$(CUDA_LIBDIR) -Wl$(comma)-rpath$(comma)$(CUDA_LIBDIR) -lcudnn)
$(BUILD)/tests/cudnn/test_plans: $(CUDNN_PLAN)

# Preloaded by tests that make input/output fail; never linked.
$(BUILD)/tests/faults/%.so: tests/faults/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(if $(Q),@echo '  SO   $@')
	$(Q)$(CC) -I. -D_GNU_SOURCE -std=gnu11 -O1 -g -fPIC -shared $(WARN) -o $@ $< -ldl

$(BUILD)/tests/unit/io/test_files $(BUILD)/tests/unit/io/test_checkpoint_faults: | $(BUILD)/tests/faults/fail_io.so

.PRECIOUS: $(BUILD)/obj/%.o $(foreach l,$(LEVELS),$(BUILD)/levels/$(l)/%.o) $(BUILD)/simt/%.o $(BUILD)/cuda/%.o
-include $(shell find $(BUILD)/obj $(BUILD)/levels $(BUILD)/cuda $(BUILD)/simt -name '*.d' 2>/dev/null)
