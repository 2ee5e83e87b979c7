#!/usr/bin/env bash
# At each start, before PeiDocker starts its sshd: the host's key, who may log in, and the container's environment.
set -Eeuo pipefail

# sshd.sh prepares all that and then becomes sshd; the latter is PeiDocker's part here.
exec() { :; }
# shellcheck source-path=SCRIPTDIR source=../stage-2/sshd.sh
source /opt/infer-dev/installation/stage-2/sshd.sh
