#!/usr/bin/env bash
# vLLM, from PyPI, in a virtual environment of its own. Gigabytes: it brings PyTorch and CUDA's libraries, whatever the
# base image has. PyPI's wheels are for one CUDA version; for another give that version's index in PIP_EXTRA_INDEX_URL.
# shellcheck source-path=SCRIPTDIR
source "${BASH_SOURCE[0]%/*}/shared.sh"

main() {
  begin vllm "${VLLM_VERSION:-0.32.0}"
  from_python "vllm==$VERSION"
  finish vllm
}

main "$@"
