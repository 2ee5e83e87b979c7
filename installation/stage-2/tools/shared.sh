#!/usr/bin/env bash
# Sourced by the scripts beside it: where a tool goes, and the three ways to get one. A tool lies in /opt/tools/NAME, root's
# and readable by all, with links in /usr/local/bin ($TOOLS_DIR and $TOOLS_BIN_DIR: elsewhere). Run one script by hand as root,
# or all that are wanted with ../tools.sh.
#
# Tools come from package registries (PyPI, npm) wherever their makers publish there, so that one mirror, proxy or CA bundle
# for pip and npm serves them all: PIP_INDEX_URL, PIP_CERT, NPM_CONFIG_REGISTRY, NODE_EXTRA_CA_CERTS, https_proxy…
# are read from the environment, and none of them is written down anywhere. Registries check what they serve by hash.
set -Eeuo pipefail
umask 022

readonly ROOT=${TOOLS_DIR:-/opt/tools} LINKS=${TOOLS_BIN_DIR:-/usr/local/bin}

log() { echo "$TOOL: $*" >&2; }

die() {
  echo "cannot install $TOOL: $*" >&2
  exit 1
}

# begin NAME VERSION: makes $PLACE, empty, and $SCRATCH, which goes when the script ends; ends it if VERSION is there already.
begin() {
  readonly TOOL=$1 VERSION=$2 PLACE=$ROOT/$1
  if [[ -f $PLACE/.installed && $(<"$PLACE/.installed") == "$VERSION" ]]; then
    log "$VERSION is there already"
    exit 0
  fi
  mkdir -p "$ROOT" "$LINKS" && [[ -w $ROOT && -w $LINKS ]] ||
    die "$ROOT or $LINKS cannot be written; use sudo, or set TOOLS_DIR and TOOLS_BIN_DIR to folders of your own"
  SCRATCH=$(mktemp -d)
  readonly SCRATCH
  trap 'rm -rf "$SCRATCH"' EXIT
  # Caches and all else that pip, npm and node leave in the folder for such things.
  export TMPDIR=$SCRATCH
  rm -rf "$PLACE"
  mkdir "$PLACE"
}

# finish COMMAND…: sees the first one run, closes $PLACE to all but root, and links these commands of $PLACE/bin.
finish() {
  local command
  # Some tools make folders in the home at their first start: not in the image's.
  HOME=$SCRATCH "$PLACE/bin/$1" --version >"$SCRATCH/said" 2>&1 || {
    cat "$SCRATCH/said" >&2
    die "$1 --version fails on this system ($(uname -m)); choose another version, or leave it out"
  }
  ((EUID != 0)) || chown -R root:root "$PLACE"
  chmod -R go-w,a+rX "$PLACE"
  for command; do
    ln -sfn "$PLACE/bin/$command" "$LINKS/$command"
  done
  # Last, so that what broke off half-way is begun anew.
  echo "$VERSION" >"$PLACE/.installed"
  log "$VERSION installed in $SECONDS s, $(du -sm "$PLACE" | cut -f1) MB: $(grep . "$SCRATCH/said" | tail -n 1)"
}

# uv has its own names for what pip is told by environment; whoever has set them knows better.
tell_uv() {
  export UV_NO_CACHE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
  [[ -z ${PIP_INDEX_URL:-} ]] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}
  [[ -z ${PIP_FIND_LINKS:-} ]] || export UV_FIND_LINKS=${UV_FIND_LINKS:-$PIP_FIND_LINKS}
  [[ -z ${PIP_TRUSTED_HOST:-} ]] || export UV_INSECURE_HOST=${UV_INSECURE_HOST:-$PIP_TRUSTED_HOST}
  [[ -z ${PIP_DEFAULT_TIMEOUT:-} ]] || export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-$PIP_DEFAULT_TIMEOUT}
  [[ -z ${PIP_CERT:-} ]] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$PIP_CERT}
  # pip takes the best version of all indexes, uv the first index that knows the name.
  [[ -z ${PIP_EXTRA_INDEX_URL:-} ]] || export UV_INDEX=${UV_INDEX:-$PIP_EXTRA_INDEX_URL} UV_INDEX_STRATEGY=unsafe-best-match
}

make_environment() {
  python3 -m venv "$1" || die "python3 or its venv is missing; install python3 and python3-venv first"
}

pip_install() {
  "$1/bin/python" -m pip install --no-cache-dir --disable-pip-version-check --root-user-action ignore --quiet "${@:2}"
}

# from_wheel REQUIREMENT: a package that needs no other, unpacked into $PLACE, its programs in $PLACE/bin.
from_wheel() {
  make_environment "$SCRATCH/venv"
  pip_install "$SCRATCH/venv" --no-deps --only-binary :all: --target "$PLACE" "$1"
}

# from_python REQUIREMENT…: a virtual environment in $PLACE; by uv where it is there, which fetches and unpacks in parallel.
from_python() {
  if command -v uv >/dev/null; then
    tell_uv
    uv venv --quiet --python "$(command -v python3)" "$PLACE"
    # Compiled now: those who run it cannot write there, and would compile it at every start.
    uv pip install --quiet --compile-bytecode --python "$PLACE/bin/python" "$@"
  else
    make_environment "$PLACE"
    pip_install "$PLACE" "$@"
  fi
}

# from_npm PACKAGE@VERSION: in $PLACE/lib/node_modules, its programs in $PLACE/bin.
from_npm() {
  command -v npm >/dev/null || die "npm is missing; install node first (INSTALL_NODE=1)"
  npm install --global --prefix "$PLACE" --cache "$SCRATCH/npm" --no-audit --no-fund --no-update-notifier --loglevel error "$1" >/dev/null
  # It names the registry that was used.
  rm -f "$PLACE/lib/node_modules/.package-lock.json"
}
