#!/usr/bin/env bash
# Puts infer-dev's commands and helper scripts where people look for them, while the image is built.
set -Eeuo pipefail

readonly OPT=/opt/infer-dev

write_profile() {
  cat >/etc/profile.d/infer-dev.sh <<'EOF'
# A login shell has just reset PATH: back to the container's own (CUDA's tools are in it).
if [ -n "${INFER_DEV_PATH:-}" ]; then PATH=$INFER_DEV_PATH; fi
EOF
  cat >>/etc/bash.bashrc <<'EOF'

# What runs where, once a session.
if [[ $- == *i* && -t 1 && -z ${INFER_DEV_BANNER:-} ]]; then
  export INFER_DEV_BANNER=shown
  infer-dev banner
fi
EOF
}

main() {
  local name
  ln -s "$OPT/bin/infer-dev" /usr/local/bin/infer-dev
  ln -s "$OPT/installation/stage-2/check-and-run-llama-cpp.sh" /usr/local/bin/check-and-run
  for name in get-llama-cpp-pkg.sh install-llama-cpp-pkg.sh check-and-run-llama-cpp.sh; do
    ln -s "$OPT/installation/stage-2/$name" "/hard/image/app/llama-cpp/$name"
  done
  mkdir -p /etc/bash_completion.d
  write_profile
}

main "$@"
