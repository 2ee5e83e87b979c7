#!/usr/bin/env bash
# Installs the llama.cpp bundle $AUTO_INFER_LLAMA_CPP_PKG_PATH, or the archive given.
set -Eeuo pipefail

main() {
  if ! command -v infer-dev >/dev/null; then
    echo "cannot run infer-dev: it is not on PATH" >&2
    exit 69
  fi
  exec infer-dev bundle install "$@"
}

main "$@"
