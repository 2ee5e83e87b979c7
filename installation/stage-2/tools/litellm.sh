#!/usr/bin/env bash
# LiteLLM with its proxy, from PyPI, in a virtual environment of its own.
# shellcheck source-path=SCRIPTDIR
source "${BASH_SOURCE[0]%/*}/shared.sh"

main() {
  begin litellm "${LITELLM_VERSION:-1.109.1}"
  from_python "litellm[proxy]==$VERSION"
  finish litellm
}

main "$@"
