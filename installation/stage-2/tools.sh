#!/usr/bin/env bash
# Installs the dev tools that are wanted: INSTALL_UV=1, INSTALL_CLAUDE_CODE=1…; 0, empty or unset: not.
# Each script in tools/ says where its tool comes from; UV_VERSION, CLAUDE_CODE_VERSION… choose another version.
set -Eeuo pipefail

readonly HERE=${BASH_SOURCE[0]%/*}
# In this order: the later ones are installed with the help of uv and node.
readonly TOOLS=(uv pixi node bun claude-code codex litellm vllm)
readonly NEED_NPM=' bun claude-code codex '

die() {
  echo "cannot install the tools: $*" >&2
  exit 2
}

switch_of() {
  local name=${1//-/_}
  echo "INSTALL_${name^^}"
}

main() {
  (($# == 0)) || die "it takes no arguments ($*): set INSTALL_UV=1 and the like, or run one of the scripts in $HERE/tools"
  local name switch wanted=()
  # All is looked at before the first download.
  for name in "${TOOLS[@]}"; do
    switch=$(switch_of "$name")
    case ${!switch:-0} in
      1) wanted+=("$name") ;;
      0) ;;
      *) die "$switch=${!switch}: set it to 1 or 0" ;;
    esac
  done
  for name in "${wanted[@]}"; do
    [[ $NEED_NPM != *" $name "* || ${INSTALL_NODE:-0} == 1 ]] || command -v npm >/dev/null ||
      die "$name needs npm, which is not there: set INSTALL_NODE=1, or $(switch_of "$name")=0"
  done
  for name in "${wanted[@]}"; do
    "$HERE/tools/$name.sh"
  done
}

main "$@"
