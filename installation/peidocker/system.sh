#!/usr/bin/env bash
# system.sh UID GID SUDO: what stage-1 of dockers/infer-dev/Dockerfile does, on top of PeiDocker's stage-1, while it is built.
set -Eeuo pipefail

readonly HERE=${BASH_SOURCE[0]%/*}

main() {
  # As in the Dockerfile, which says what each is for.
  "$HERE/stage-1/apt-install.sh" \
    bash-completion \
    build-essential ccache cmake git libcurl4-openssl-dev libssl-dev ninja-build pkg-config \
    ca-certificates curl openssh-client rsync \
    file htop iproute2 less lsof procps psmisc strace tmux vim-tiny \
    openssh-server sudo \
    python3 python3-dev python3-venv \
    tar unzip xz-utils zstd

  # PeiDocker has made the user, with a password, and a pair of keys of which the private one is in the build's output.
  "$HERE/stage-1/make-user.sh" dev "$@"
  rm -rf /home/dev/.ssh /etc/ssh/ssh_host_*
  install -m 0644 "$HERE/stage-1/sshd.conf" /etc/ssh/sshd_config.d/10-infer-dev.conf
  mkdir -p /llm-models /model-configs /var/lib/infer-dev/ssh
}

main "$@"
