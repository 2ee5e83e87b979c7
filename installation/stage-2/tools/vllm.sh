#!/usr/bin/env bash
# vLLM, from PyPI, in a virtual environment of its own: 8.5 GB, for it brings PyTorch and CUDA's libraries, whatever the base
# image has. PyPI's wheels are for CUDA 13; for another version give the index that has them in PIP_EXTRA_INDEX_URL.
# shellcheck source-path=SCRIPTDIR
source "${BASH_SOURCE[0]%/*}/shared.sh"

main() {
  begin vllm "${VLLM_VERSION:-0.32.0}"
  from_python "vllm==$VERSION"
  # No GPU is there while an image is built, and without one it does not even tell its version.
  export VLLM_TARGET_DEVICE=cpu
  finish vllm
}

main "$@"
