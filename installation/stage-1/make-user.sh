#!/usr/bin/env bash
# make-user.sh NAME UID GID SUDO: the user people log in as and instances run as, while an image is built.
# SUDO=1: may become root without a password, there is none to ask for.
set -Eeuo pipefail

die() {
  echo "cannot make the user: $*" >&2
  exit 1
}

main() {
  (($# == 4)) || die "expected NAME UID GID SUDO, got: $*"
  local name=$1 uid=$2 gid=$3 sudo=$4 other
  [[ $uid =~ ^[1-9][0-9]*$ && $gid =~ ^[1-9][0-9]*$ ]] || die "DEV_UID=$uid DEV_GID=$gid: set both to numbers above 0"
  [[ $sudo == [01] ]] || die "DEV_SUDO=$sudo: set it to 1 or 0"
  # Ubuntu's images come with a user of their own, with the UID that most people have.
  if other=$(getent passwd "$uid" | cut -d: -f1) && [[ -n $other && $other != "$name" ]]; then
    userdel --remove "$other" 2>/dev/null || die "UID $uid belongs to $other; choose another DEV_UID"
  fi
  getent group "$gid" >/dev/null || groupadd --gid "$gid" "$name"
  getent passwd "$name" >/dev/null || useradd --uid "$uid" --gid "$gid" --create-home --shell /bin/bash "$name"
  # No password fits, but the account is not locked either: sshd refuses keys for locked ones.
  usermod --password '*' "$name"
  if [[ $sudo == 1 ]]; then
    {
      echo "$name ALL=(ALL:ALL) NOPASSWD: ALL"
      # Else infer-dev would act as root, and leave what is root's among the user's; and it would read the same file
      # without the overrides, and restart what they are about.
      echo 'Defaults env_keep += "INFER_DEV_USER INFER_DEV_RUNTIME_DIR AUTO_INFER_LLAMA_CPP_*"'
    } >/etc/sudoers.d/infer-dev
    chmod 0440 /etc/sudoers.d/infer-dev
  fi
}

main "$@"
