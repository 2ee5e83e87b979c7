#!/usr/bin/env bash
# uv, from PyPI, where Astral publishes it.
# shellcheck source-path=SCRIPTDIR
source "${BASH_SOURCE[0]%/*}/shared.sh"

main() {
  begin uv "${UV_VERSION:-0.13.9}"
  from_wheel "uv==$VERSION"
  finish uv uvx
}

main "$@"
