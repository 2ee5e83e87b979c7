#!/usr/bin/env bash
# with-build-settings.sh COMMAND…: runs it with the caches off and, if the secret `ca` was given, with that CA bundle
# for pip, npm, curl and git. Nothing of it stays in the image.
set -Eeuo pipefail

readonly CA=/run/secrets/ca

main() {
  local -x PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_QUIET=1
  # An empty index is none at all for pip and npm, not the default one.
  [[ -n ${PIP_INDEX_URL:-} ]] || unset PIP_INDEX_URL
  [[ -n ${NPM_CONFIG_REGISTRY:-} ]] || unset NPM_CONFIG_REGISTRY
  if [[ -s $CA ]]; then
    local -x PIP_CERT=$CA SSL_CERT_FILE=$CA REQUESTS_CA_BUNDLE=$CA CURL_CA_BUNDLE=$CA GIT_SSL_CAINFO=$CA NODE_EXTRA_CA_CERTS=$CA
  fi
  "$@"
}

main "$@"
