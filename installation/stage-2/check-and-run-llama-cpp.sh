#!/usr/bin/env bash
# Starts what $AUTO_INFER_LLAMA_CPP_CONFIG describes, or the file given, and waits until it serves.
set -Eeuo pipefail

main() {
  if ! command -v infer-dev >/dev/null; then
    echo "cannot run infer-dev: it is not on PATH" >&2
    exit 69
  fi
  exec infer-dev up "$@"
}

main "$@"
