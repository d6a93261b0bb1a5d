#!/usr/bin/env bash
# A CUDA 13.0 toolkit without a GPU or an installer, from PyPI wheels: nvcc, ptxas, cuobjdump, headers, and a stub libcuda to link
# against. About 100 MB; needs python3 with pip, unzip and gcc.
#
# usage: toolkit.sh DIR [headers]      with `headers`, only what `make build-cuda` needs: cuda.h and the stub
set -euo pipefail
dir=${1:?directory}
packages="nvidia-cuda-runtime==13.0.96 nvidia-cuda-crt==13.0.88"
if [ "${2:-}" != headers ]; then
  packages="$packages nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-cccl==13.0.85 nvidia-cuda-cuobjdump==13.2.51 nvidia-cuda-nvdisasm==13.2.51"
fi
mkdir -p "$dir/wheels" "$dir/stub"
# shellcheck disable=SC2086
python3 -m pip download -q --no-deps --only-binary=:all: -d "$dir/wheels" $packages
for wheel in "$dir"/wheels/*.whl; do unzip -qo "$wheel" 'nvidia/cu13/*' -d "$dir"; done
rm -rf "$dir/cu13" "$dir/wheels"
mv "$dir/nvidia/cu13" "$dir/cu13"
rmdir "$dir/nvidia"
if [ -d "$dir/cu13/nvvm" ]; then chmod -R u+x "$dir/cu13/bin" "$dir/cu13/nvvm/bin"; fi

# Every driver call that the header names answers CUDA_ERROR_STUB_LIBRARY (34); so do the older forms that gorgonia.org/cu calls.
{
  grep -oE '\bcu[A-Z][A-Za-z0-9]*(_v[0-9]+)?\b' "$dir/cu13/include/cuda.h"
  printf '%s\n' cuCtxCreate_v2 cuMemAdvise cuMemPrefetchAsync cuGraphAddDependencies cuGraphGetEdges
} | sort -u | sed 's/.*/int &(void) { return 34; }/' |
  gcc -x c -shared -fPIC -Wno-builtin-declaration-mismatch -Wl,-soname,libcuda.so.1 -o "$dir/stub/libcuda.so" -
