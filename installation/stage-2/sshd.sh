#!/usr/bin/env bash
# Prepares and becomes the container's sshd. Boot starts it, and again should it end ($INFER_DEV_SSHD).
# `sshd.sh prepare` leaves becoming it to somebody else.
# $INFER_DEV_SSH_KEYS: public keys, a line each; $INFER_DEV_SSH_KEYS_FILE: a file of them; $INFER_DEV_SSH_PORT: 22.
set -Eeuo pipefail

readonly KEYS=/var/lib/infer-dev/ssh RUN=/run/infer-dev-sshd
readonly HERE=${BASH_SOURCE[0]%/*}

log() { echo "sshd: $*" >&2; }

die() {
  log "cannot start: $*"
  exit 1
}

make_host_key() {
  mkdir -p "$KEYS"
  [[ -s $KEYS/ssh_host_ed25519_key ]] && return
  # Beside its place and moved, so that a container killed here does not keep half a key.
  rm -f "$KEYS/new" "$KEYS/new.pub"
  ssh-keygen -q -N '' -t ed25519 -C "$HOSTNAME" -f "$KEYS/new"
  mv "$KEYS/new.pub" "$KEYS/ssh_host_ed25519_key.pub"
  mv "$KEYS/new" "$KEYS/ssh_host_ed25519_key"
  log "made the host key: $(ssh-keygen -lf "$KEYS/ssh_host_ed25519_key.pub")"
}

collect_authorized_keys() {
  local given=${INFER_DEV_SSH_KEYS_FILE:-/hard/volume/ssh/authorized_keys}
  {
    [[ -n ${INFER_DEV_SSH_KEYS:-} ]] && printf '%s\n' "$INFER_DEV_SSH_KEYS"
    [[ -r $given && -f $given ]] && cat "$given" && echo
    true
  } >"$RUN/authorized_keys"
  chmod 0644 "$RUN/authorized_keys"
  if [[ ! -s $RUN/authorized_keys && ! -s /home/dev/.ssh/authorized_keys ]]; then
    log "no public key is known, so nobody can log in: set INFER_DEV_SSH_KEYS, or put them into $given"
  fi
}

main() {
  mkdir -p "$RUN" /run/sshd
  # It holds sshd's configuration: if somebody else made it, the container must do without.
  [[ $(stat -c %u "$RUN") == 0 ]] || die "$RUN is not root's: remove it"
  chmod 0755 "$RUN" /run/sshd
  make_host_key
  collect_authorized_keys
  "$HERE/../../bin/python" -P -m infer_dev.boot.session_environment "$RUN/environment.conf"
  [[ ${1:-} == prepare ]] && return
  exec /usr/sbin/sshd -D -e -p "${INFER_DEV_SSH_PORT:-22}"
}

main "$@"
