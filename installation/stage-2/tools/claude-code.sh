#!/usr/bin/env bash
# Claude Code (`claude`), from npm, where Anthropic publishes it.
# shellcheck source-path=SCRIPTDIR
source "${BASH_SOURCE[0]%/*}/shared.sh"

main() {
  begin claude-code "${CLAUDE_CODE_VERSION:-2.1.330}"
  from_npm "@anthropic-ai/claude-code@$VERSION"
  finish claude
}

main "$@"
