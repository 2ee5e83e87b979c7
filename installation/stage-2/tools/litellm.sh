#!/usr/bin/env bash
# LiteLLM with its proxy, from PyPI, in a virtual environment of its own.
# shellcheck source-path=SCRIPTDIR
source "${BASH_SOURCE[0]%/*}/shared.sh"

main() {
  begin litellm "${LITELLM_VERSION:-1.106.2}"
  from_python "litellm[proxy]==$VERSION"
  # Else even --version asks the internet for a price list.
  export LITELLM_LOCAL_MODEL_COST_MAP=True
  finish litellm
}

main "$@"
