#!/usr/bin/env bash
# Codex (`codex`), from npm, where OpenAI publishes it. It starts through node.
# shellcheck source-path=SCRIPTDIR
source "${BASH_SOURCE[0]%/*}/shared.sh"

main() {
  begin codex "${CODEX_VERSION:-0.169.0}"
  from_npm "@openai/codex@$VERSION"
  finish codex
}

main "$@"
