#!/usr/bin/env bash
# application.sh INSTALL_UV=1…: what stage-2 of dockers/infer-dev/Dockerfile does, on top of PeiDocker's stage-2, while it is built.
set -Eeuo pipefail

readonly HERE=${BASH_SOURCE[0]%/*} OPT=/opt/infer-dev

main() {
  local settings="$HERE/stage-2/with-build-settings.sh"
  mkdir -p "$OPT/installation"
  cp -r "$HERE/stage-2" "$OPT/installation/"
  "$settings" env "$@" "$OPT/installation/stage-2/tools.sh"

  python3 -m venv "$OPT"
  cp -r "$HERE/source" "$OPT/"
  "$settings" "$OPT/bin/pip" install --constraint "$OPT/source/constraints.txt" "$OPT/source"

  # PeiDocker made these for everybody to write to.
  install -d -o dev -g 0 -m 2775 /hard/image /hard/image/app /hard/image/app/llama-cpp /hard/image/data
  install -d -o dev -g "$(id -g dev)" -m 0700 /run/infer-dev
  install -d -o dev -g "$(id -g dev)" /hard/volume/workspace
  "$OPT/installation/stage-2/lay-out.sh"
  "$OPT/bin/infer-dev" completion bash >/etc/bash_completion.d/infer-dev
}

main "$@"
