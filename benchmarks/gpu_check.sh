#!/usr/bin/env bash
# Runs benchmarks.gpu_check where nothing but Python, PyTorch and a GPU need be: see docs/gpu.md.
# gpu_check.sh WHEELS OUT [OPTION…]: installs the wheels of a folder into a temporary one, then runs the check.
set -eu
if [ $# -lt 2 ]; then
    echo "usage: $0 WHEELS OUT [OPTION of benchmarks.gpu_check…]" >&2
    exit 2
fi
wheels=$1 out=$2 root=$(realpath "$(dirname "$0")/..")
shift 2
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
compgen -G "$wheels/*.whl" >/dev/null && python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir \
    --target "$site" "$wheels"/*.whl
export PYTHONPATH="$site:$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
export CONDGAN_CACHE="$site/cache" TORCHINDUCTOR_CACHE_DIR="$site/inductor" TRITON_CACHE_DIR="$site/triton"
python3 -m benchmarks.gpu_check --out "$out" "$@"
