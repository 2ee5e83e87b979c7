#!/usr/bin/env bash
# The container's entry: prepares what only root can, then becomes `infer-dev boot -- COMMAND`.
# What cannot be prepared is told and never keeps the container from starting.
set -Eeuo pipefail

readonly OWN=/opt/infer-dev/bin/infer-dev
readonly SCRIPTS=/opt/infer-dev/installation/stage-2
readonly WORKSPACE=/hard/volume/workspace

log() { echo "infer-dev-entry: $*" >&2; }

# Docker makes the host's folder of a bind mount as root where it is missing: then, and only then, it is given away.
own_workspace() {
  local user=$1 owner
  mkdir -p "$WORKSPACE" || return
  owner=$(stat -c %u "$WORKSPACE")
  if [[ $owner == "$user" || $owner == "$(id -u "$user" 2>/dev/null)" ]]; then
    return
  elif [[ $owner == 0 && -z $(ls -A "$WORKSPACE") ]]; then
    chown "$user" "$WORKSPACE"
  else
    log "$WORKSPACE belongs to UID $owner and instances run as $user: build with DEV_UID=$owner, or chown it on the host"
  fi
}

# They are part of the image; a volume mounted over /soft/app hides them.
link_helper_scripts() {
  local folder=/soft/app/llama-cpp name
  [[ -d $folder ]] || install -d -g 0 -m 2775 ${1:+-o "$1"} "$folder"
  for name in get-llama-cpp-pkg.sh install-llama-cpp-pkg.sh check-and-run-llama-cpp.sh; do
    [[ -e $folder/$name ]] || ln -sfn "$SCRIPTS/$name" "$folder/$name"
  done
}

# The image's is for `dev`. One that nobody has used yet is made anew by boot, for whoever the daemon is to be.
leave_runtime_dir_to_boot() {
  local folder=/run/infer-dev
  [[ -d $folder && -z $(ls -A "$folder") ]] || return 0
  [[ $(stat -c %u "$folder") == "$(id -u "$1" 2>/dev/null || echo "$1")" ]] || rmdir "$folder"
}

main() {
  local user=${INFER_DEV_USER:-root}
  ((EUID == 0)) || user=
  # Boot tells of a user that does not exist; a bare number need not have an entry.
  if [[ -n $user && ! $user =~ ^[0-9]+$ ]] && ! id -u "$user" >/dev/null 2>&1; then
    user=
  fi
  if [[ -n $user ]]; then
    leave_runtime_dir_to_boot "$user" || log "cannot prepare /run/infer-dev"
    own_workspace "$user" || log "cannot prepare $WORKSPACE"
  fi
  link_helper_scripts "$user" || log "cannot put the helper scripts into /soft/app/llama-cpp"
  exec "$OWN" boot -- "$@"
}

main "$@"
