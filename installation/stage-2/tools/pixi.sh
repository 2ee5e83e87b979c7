#!/usr/bin/env bash
# Pixi, from its makers' releases: they publish in no registry but conda's (PyPI's and npm's `pixi` are something else).
# $PIXI_RELEASES: a mirror of the releases. $PIXI_SHA256: the archive's checksum, for another version than the one known here.
# shellcheck source-path=SCRIPTDIR
source "${BASH_SOURCE[0]%/*}/shared.sh"

readonly KNOWN=0.81.0
declare -rA KNOWN_SHA256=(
  [x86_64]=7aa3ec39aecceff9062fa2ed4d42cbaa0bdc25ddea727d048e061cf188d434f6
  [aarch64]=9f8d2113fe9dc01788a65f5c2acec34fa56b1193461a5c3e9a775d6d2d621bcb
)

main() {
  begin pixi "${PIXI_VERSION:-$KNOWN}"
  local machine sha256=${PIXI_SHA256:-} url
  machine=$(uname -m)
  [[ -n ${KNOWN_SHA256[$machine]:-} ]] || die "there is none for $machine; set INSTALL_PIXI=0"
  [[ -n $sha256 || $VERSION != "$KNOWN" ]] || sha256=${KNOWN_SHA256[$machine]}
  [[ -n $sha256 ]] || die "no checksum is known for version $VERSION; set PIXI_SHA256 to that of the archive for $machine"
  url=${PIXI_RELEASES:-https://github.com/prefix-dev/pixi/releases/download}/v$VERSION/pixi-$machine-unknown-linux-musl.tar.gz
  curl --fail --silent --show-error --location --retry 3 --connect-timeout 20 --output "$SCRATCH/pixi.tar.gz" "$url" ||
    die "cannot fetch $url; set PIXI_RELEASES to a mirror, or INSTALL_PIXI=0"
  echo "$sha256  $SCRATCH/pixi.tar.gz" | sha256sum --check --quiet - ||
    die "the archive is not the one expected: its SHA-256 differs from $sha256"
  mkdir "$PLACE/bin"
  tar -xzf "$SCRATCH/pixi.tar.gz" -C "$PLACE/bin" pixi
  finish pixi
}

main "$@"
