#!/usr/bin/env bash
# At each start, before PeiDocker starts its sshd: the host's key, who may log in, and the container's environment.
set -Eeuo pipefail

exec /opt/infer-dev/installation/stage-2/sshd.sh prepare
