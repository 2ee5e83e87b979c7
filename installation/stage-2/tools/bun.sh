#!/usr/bin/env bash
# Bun, from npm, where its makers publish it. (PyPI's `bun` is something else.)
# shellcheck source-path=SCRIPTDIR
source "${BASH_SOURCE[0]%/*}/shared.sh"

main() {
  begin bun "${BUN_VERSION:-1.4.5}"
  from_npm "bun@$VERSION"
  finish bun bunx
}

main "$@"
