#!/usr/bin/env bash
# bundle.sh   Puts the program and what it needs into one folder that runs wherever it is unpacked, and packs it.
#
# Writes $BUILD/bundle/excon-VERSION/ and .tar.gz beside it, and prints both sizes. Everything but glibc is inside; CUDA,
# cuDNN and NCCL come from the machine it runs on, and only when a CUDA device is asked for.
# Variables: BUILD (build), VERSION (the git revision), MAKE, JOBS (make -j), CC, CUDA_LIBRARY ($BUILD/libexcon_cuda.so; left out when
# it is not there), BUNDLE_ONEDNN (built: what excon needs of oneDNN, from source, by scripts/bundle/onednn.sh; installed: the
# library that is here), FOLDER_MOST_MB (40: more is an error; 80 with BUNDLE_ONEDNN=installed), WITH_TESTS (0; 1: also the test
# programs that run on a GPU, for scripts/gpu_check.sh on a machine that cannot build them; then without a limit).
# The program runs on every processor from x86-64-v2 on (ARCH=levels in the Makefile).
set -euo pipefail
cd "$(dirname "$0")/.."

BUILD=${BUILD:-build}
MAKE=${MAKE:-make}
CC=${CC:-gcc}
VERSION=${VERSION:-$(git describe --tags --always 2>/dev/null || echo unknown)}
CUDA_LIBRARY=${CUDA_LIBRARY:-$BUILD/libexcon_cuda.so}
BUNDLE_ONEDNN=${BUNDLE_ONEDNN:-built}
WITH_TESTS=${WITH_TESTS:-0}
case $BUNDLE_ONEDNN in
built) FOLDER_MOST_MB=${FOLDER_MOST_MB:-40} ;;
installed) FOLDER_MOST_MB=${FOLDER_MOST_MB:-80} ;;
*)
    echo "bundle: BUNDLE_ONEDNN=$BUNDLE_ONEDNN: built or installed" >&2
    exit 64
    ;;
esac

work=$BUILD/bundle/work
onednn='' # folder of the one that was built
[ "$BUNDLE_ONEDNN" = installed ] || onednn=$(realpath -m "$BUILD/onednn")
name=excon-$VERSION
[ "$WITH_TESTS" = 0 ] || name=$name-tests
tests=()
[ "$WITH_TESTS" = 0 ] || mapfile -t tests < <(
    { find tests/simt -name 'test_*.c' && grep -rlE --include='test_*.c' 'device_fixture|programs/(probe|rank_device)|EXCON_TEST_BACKEND' tests; } |
        sed 's/\.c$//' | sort -u) # those that tests/run.sh runs on a GPU
root=$BUILD/bundle/$name

say() { echo "bundle: $*"; }
need() { # COMMAND, PACKAGE
    command -v "$1" >/dev/null || {
        echo "bundle: no $1 here. Install it: apt-get install $2" >&2
        exit 66
    }
}
need patchelf patchelf
need ompi_info openmpi-bin
need pkg-config pkg-config

# ---- the program ----------------------------------------------------------------------------------------------------

build_program() {
    mkdir -p "$work/shim"
    "$MAKE" --no-print-directory ${JOBS:+-j"$JOBS"} BUILD="$work" ARCH=levels CUDA=0 DNNL_DIR="$onednn" "$work/excon" "${tests[@]/#/$work/}"
}

# ---- libraries ------------------------------------------------------------------------------------------------------

# What every Linux with glibc has, and must be its own.
is_system() {
    case $1 in
    ld-linux* | libc.so* | libm.so* | libmvec.so* | libdl.so* | libpthread.so* | librt.so* | libresolv.so* | \
        libutil.so* | libanl.so* | libnsl.so* | linux-vdso*) return 0 ;;
    esac
    return 1
}

# What the target's CUDA brings.
is_cuda() {
    case $1 in
    libcuda.so* | libcudart.so* | libcublas* | libcudnn* | libnccl* | libnvrtc* | libnvJitLink*) return 0 ;;
    esac
    return 1
}

# add_libraries FILE   copies what FILE needs, and what that needs, into lib/
add_libraries() {
    local file=$1 wanted library path
    for wanted in $(patchelf --print-needed "$file"); do
        if is_system "$wanted" || is_cuda "$wanted" || [ -e "$root/lib/$wanted" ]; then continue; fi
        if [[ $wanted == libcurl.so* ]] && add_curl_absent "$file" "$wanted"; then continue; fi
        path=$(ldd "$file" | awk -v name="$wanted" '$1 == name && $3 ~ /^\// && !found++ { print $3 }')
        [ -n "$path" ] || path=$(ldconfig -p | awk -v name="$wanted" '$1 == name && /x86-64/ && !found++ { print $NF }')
        if [ -z "$path" ]; then
            echo "bundle: $file needs $wanted, which is nowhere here" >&2
            exit 66
        fi
        library=$root/lib/$wanted
        install -m 644 "$(readlink -f "$path")" "$library"
        if [ -n "$onednn" ] && [[ $path == "$onednn"/* ]]; then
            install -m 644 "$onednn"/licenses/* "$root/licenses/"
        else
            sources+=("$(readlink -f "$path")")
        fi
        add_libraries "$path"
        finish "$library" "\$ORIGIN"
    done
}

# The stand-in for libcurl, when what FILE takes from it is what the stand-in has.
add_curl_absent() { # FILE, SONAME
    local stub=$work/shim/libcurl.so version
    version=$(nm -D "$1" | sed -n 's/.* U curl_[a-z_]*@\(.*\)/\1/p' | sort -u)
    [[ $version =~ ^[A-Z0-9_]+$ ]] || return 1
    echo "$version { global: curl_*; local: *; };" >"$work/shim/curl.map"
    "$CC" -O2 -Wall -Wextra -fPIC -shared -Wl,-soname,"$2" -Wl,--version-script="$work/shim/curl.map" \
        scripts/bundle/curl_absent.c -o "$stub"
    local missing
    missing=$(comm -23 <(nm -D "$1" | grep -o ' U curl_[a-z_]*' | sort) <(nm -D "$stub" | sed -n 's/.* T \(curl_[a-z_]*\).*/ U \1/p' | sort))
    [ -z "$missing" ] || return 1
    install -m 644 "$stub" "$root/lib/$2"
}

# finish FILE RPATH   drops debug sections; libraries are looked for at RPATH before anywhere else, by what FILE loads too
finish() {
    strip --strip-unneeded "$1"
    patchelf --force-rpath --set-rpath "$2" "$1"
}

# ---- Open MPI -------------------------------------------------------------------------------------------------------

# Plugins for one host, TCP between hosts, and Slurm; without vendor fabrics, OpenSHMEM, MPI-IO and profiling.
wanted_plugin() {
    case $1 in
    mca_btl_openib* | mca_btl_ofi* | mca_btl_usnic* | mca_mtl_* | mca_*_ucx* | mca_pml_cm* | mca_*monitoring* | \
        mca_spml_* | mca_scoll_* | mca_memheap_* | mca_sshmem_* | mca_atomic_* | mca_io_* | mca_fs_* | mca_fbtl_* | \
        mca_fcoll_* | mca_sharedfp_* | mca_topo_treematch* | mca_vprotocol_* | mca_osc_pt2pt* | mca_*_flux* | \
        mca_*_jsm* | mca_ras_simulator* | mca_crs_* | mca_*cuda* | libompi_dbg*) return 1 ;;
    esac
    return 0
}

# Where an Open MPI of this layout looks for its plugins and messages when OPAL_PREFIX says where it lies.
relocated() { OPAL_PREFIX=/@ ompi_info --path "$1" 2>/dev/null | awk '/: / && !found++ { sub(/^[^:]*: \/@\//, ""); print }'; }
installed() { ompi_info --path "$1" 2>/dev/null | awk '/: / && !found++ { sub(/^[^:]*: /, ""); print }'; }

add_open_mpi() {
    local tool path plugins help plugin up
    for tool in orterun orted; do
        path=$(readlink -f "$(command -v $tool)")
        install -m 755 "$path" "$root/bin/$tool"
        sources+=("$path")
        add_libraries "$path"
        finish "$root/bin/$tool" "\$ORIGIN/../lib"
    done
    plugins=$(relocated pkglibdir) help=$(relocated pkgdatadir)
    if [ -z "$plugins" ] || [ -z "$help" ]; then
        echo "bundle: this Open MPI does not say where it would lie elsewhere (ompi_info --path pkglibdir)" >&2
        exit 70
    fi
    mkdir -p "$root/$plugins" "$root/$help" "$root/etc"
    up=$(tr -cd / <<<"$plugins/" | sed 's|/|/..|g')
    for plugin in "$(installed pkglibdir)"/*.so; do
        wanted_plugin "${plugin##*/}" || continue
        install -m 644 "$plugin" "$root/$plugins/"
        add_libraries "$plugin"
        finish "$root/$plugins/${plugin##*/}" "\$ORIGIN$up/lib"
    done
    install -m 644 "$(installed pkgdatadir)"/help*.txt "$root/$help/"
    add_pmix
    : >"$root/etc/openmpi-default-hostfile"
    : >"$root/etc/openmpi-mca-params.conf"
}

# PMIx, where it is a library of its own: its plugin for compression (others are built in), and its messages.
add_pmix() {
    local library home
    library=$(ldconfig -p | awk '$1 ~ /^libpmix\.so/ && !found++ { print $NF }')
    [ -n "$library" ] && [ -e "$root/lib/libpmix.so.2" ] || return 0
    home=$(dirname "$(readlink -f "$library")")
    mkdir -p "$root/lib/pmix" "$root/share/pmix"
    if [ -e "$home/pmix/pmix_mca_pcompress_zlib.so" ]; then
        install -m 644 "$home/pmix/pmix_mca_pcompress_zlib.so" "$root/lib/pmix/"
        add_libraries "$home/pmix/pmix_mca_pcompress_zlib.so"
        finish "$root/lib/pmix/pmix_mca_pcompress_zlib.so" "\$ORIGIN/.."
    fi
    for help in "$home"/../share/pmix/help*.txt; do
        [ ! -e "$help" ] || install -m 644 "$help" "$root/share/pmix/"
    done
}

wrapper() { # NAME, PROGRAM below the folder (none: what the arguments say)
    local target=''
    [ -z "$2" ] || target="\"\$root/$2\" "
    cat >"$root/bin/$1" <<END
#!/bin/sh
# Tells Open MPI and PMIx where this folder lies, then becomes ${2:-the program in its arguments}.
self=\$(readlink -f -- "\$0")
root=\${self%/*/*}
export PATH="\$root/bin:\$PATH" OPAL_PREFIX="\$root" OPAL_SYSCONFDIR="\$root/etc"
export PMIX_PKGLIBDIR="\$root/lib/pmix" PMIX_PKGDATADIR="\$root/share/pmix"
# Without ssh this Open MPI would refuse to start, on one host too.
command -v ssh >/dev/null || command -v rsh >/dev/null || export OMPI_MCA_plm="\${OMPI_MCA_plm:-^rsh}"
exec $target"\$@"
END
    chmod 755 "$root/bin/$1"
}

# ---- licences and words ----------------------------------------------------------------------------------------------

add_licences() {
    local file package
    for file in "${sources[@]}"; do
        # dpkg knows a file by either of its names where /lib is a link to /usr/lib
        package=$(dpkg-query -S "$file" 2>/dev/null || dpkg-query -S "${file#/usr}" 2>/dev/null || true)
        package=${package%%:*}
        if [ -z "$package" ] || [ ! -e "/usr/share/doc/$package/copyright" ]; then
            echo "bundle: no licence text found for $file" >&2
            continue
        fi
        install -m 644 "$(readlink -f "/usr/share/doc/$package/copyright")" "$root/licenses/$package.txt"
    done
    # Texts those files refer to by name only.
    grep -ohE '/usr/share/common-licenses/[A-Za-z0-9.-]*[A-Za-z0-9]' "$root"/licenses/*.txt | sort -u |
        while read -r common; do
            [ ! -e "$common" ] || install -m 644 "$(readlink -f "$common")" "$root/licenses/${common##*/}"
        done
}

# The newest glibc version that anything inside asks for.
glibc_needed() {
    { find "$root" -type f \( -name '*.so*' -o -path '*/bin/*' -o -path '*/libexec/*' \) -exec objdump -T {} + 2>/dev/null || true; } |
        grep -oE 'GLIBC_2\.[0-9]+' | sort -uV | tail -n 1 | sed 's/GLIBC_//'
}

megabytes() { awk -v bytes="$1" 'BEGIN { printf "%.1f", bytes / 1e6 }'; }
bytes_of() { find "$1" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum }'; }

[ -z "$onednn" ] || scripts/bundle/onednn.sh "$onednn"
build_program
rm -rf "${root:?}" "$root.tar.gz"
mkdir -p "$root"/{bin,lib,libexec,licenses}
sources=()

install -m 755 "$work/excon" "$root/libexec/excon"
add_libraries "$work/excon"
finish "$root/libexec/excon" "\$ORIGIN/../lib"
add_open_mpi
for test in "${tests[@]}"; do
    install -D -m 755 "$work/$test" "$root/libexec/$test"
    add_libraries "$work/$test"
    up=$(tr -cd / <<<"$test" | sed 's|/|/..|g')
    finish "$root/libexec/$test" "\$ORIGIN$up/../lib"
done
cuda="This one was built without CUDA: \`backend: cuda\` is refused."
if [ -e "$CUDA_LIBRARY" ]; then
    install -m 644 "$CUDA_LIBRARY" "$root/lib/libexcon_cuda.so"
    add_libraries "$CUDA_LIBRARY"
    strip --strip-unneeded "$root/lib/libexcon_cuda.so"
    # RUNPATH, not RPATH: LD_LIBRARY_PATH may point to another CUDA.
    patchelf --set-rpath "\$ORIGIN:/usr/local/cuda/lib64:/usr/local/cuda/targets/x86_64-linux/lib" "$root/lib/libexcon_cuda.so"
    outside=
    for library in $(patchelf --print-needed "$CUDA_LIBRARY"); do
        if is_cuda "$library"; then outside="$outside $library"; fi
    done
    cuda="GPUs (\`backend: cuda\`) need the machine's own driver and CUDA libraries, in the system's library path, /usr/local/cuda or
LD_LIBRARY_PATH:$outside. Without a GPU none of them is needed."
fi
wrapper excon libexec/excon
wrapper mpirun bin/orterun
[ "$WITH_TESTS" = 0 ] || wrapper in-bundle ''
cp -r configs "$root/configs"
add_licences
glibc=$(glibc_needed)
text=$(<scripts/bundle/README.md)
text=${text//@GLIBC@/$glibc}
printf '%s\n' "${text//@CUDA@/$cuda}" >"$root/README.md"

tar -C "$BUILD/bundle" --sort=name --owner=0 --group=0 --numeric-owner -cf - "$name" | gzip -9n >"$root.tar.gz"
folder=$(bytes_of "$root") packed=$(stat -c %s "$root.tar.gz")
say "largest files:"
find "$root" -type f -printf '%s %P\n' | sort -rn | awk 'NR <= 8 { printf "  %7.1f MB  %s\n", $1 / 1e6, $2 }'
say "$root.tar.gz: $(megabytes "$packed") MB packed, $(megabytes "$folder") MB unpacked; needs glibc $glibc and x86-64-v2"
if [ "$WITH_TESTS" = 0 ] && [ "$folder" -ge $((FOLDER_MOST_MB * 1000000)) ]; then
    echo "bundle: the folder is larger than $FOLDER_MOST_MB MB (FOLDER_MOST_MB)" >&2
    exit 70
fi
