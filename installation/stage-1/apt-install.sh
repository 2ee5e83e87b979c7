#!/usr/bin/env bash
# apt-install.sh PACKAGE…: installs Debian or Ubuntu packages while an image is built, and leaves no lists behind.
# $APT_MIRROR, if set, takes the place of the distribution's archive, also for what is installed later;
# a CA bundle in /run/secrets/ca, if it is not empty, is what https mirrors are checked against.
set -Eeuo pipefail

readonly CA=/run/secrets/ca

log() { echo "apt-install: $*" >&2; }

use_mirror() {
  local file
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list; do
    # The archive itself ends in /debian or /ubuntu; security archives and other vendors' do not.
    [[ -f $file ]] && sed -E -i "s#https?://[^ ]+/(debian|ubuntu)/?( |\$)#${APT_MIRROR%/}\2#" "$file"
  done
  return 0
}

main() {
  if (($# == 0)); then
    log "cannot install nothing: name at least one package"
    exit 2
  fi
  local options=(-o Acquire::Retries=3)
  [[ -s $CA ]] && options+=(-o "Acquire::https::CaInfo=$CA")
  [[ -n ${APT_MIRROR:-} ]] && use_mirror
  export DEBIAN_FRONTEND=noninteractive
  apt-get "${options[@]}" update -qq
  apt-get "${options[@]}" install -y -qq --no-install-recommends "$@" >/dev/null
  rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb /var/log/apt /var/log/dpkg.log
}

main "$@"
