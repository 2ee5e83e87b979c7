#!/usr/bin/env bash
# generate.sh [FOLDER]: makes the PeiDocker project of infer-dev in FOLDER (dockers/infer-dev/.peidocker), anew each time.
# PeiDocker is not among this project's requirements: pipx install pei-docker==2.0.1; or say where it is: $PEI_DOCKER_CLI.
# Read from the environment: INFER_DEV_VARIANT (cuda, cpu), INFER_DEV_BASE_IMAGE, INFER_DEV_IMAGE_NAME, DEV_UID, DEV_GID,
# DEV_SUDO and the INSTALL_… of installation/stage-2/tools.sh; all the rest is read by Compose, as for docker-compose.yml.
set -Eeuo pipefail

HERE=$(cd "${BASH_SOURCE[0]%/*}" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
readonly HERE ROOT CLI=${PEI_DOCKER_CLI:-pei-docker-cli}

die() {
  echo "cannot generate the PeiDocker project: $*" >&2
  exit 1
}

run_cli() {
  "$CLI" "$@" >"$project/pei-docker.log" 2>&1 || {
    cat "$project/pei-docker.log" >&2
    die "pei-docker-cli $1 failed"
  }
}

# patch FILE EXPRESSION PATTERN: sed's EXPRESSION, after which a line must match PATTERN.
patch() {
  local file=$project/$1
  sed -i -E "$2" "$file"
  grep -qE "$3" "$file" || die "PeiDocker's $1 is not as expected; use pei-docker==2.0.1"
}

copy_ours() {
  local stage
  for stage in 1 2; do
    mkdir -p "$project/installation/stage-$stage/custom/infer-dev"
    cp -r "$ROOT/installation/stage-$stage" "$project/installation/stage-$stage/custom/infer-dev/"
  done
  cp "$HERE/system.sh" "$project/installation/stage-1/custom/infer-dev/"
  cp "$HERE/application.sh" "$HERE/before-sshd.sh" "$project/installation/stage-2/custom/infer-dev/"
  mkdir "$project/installation/stage-2/custom/infer-dev/source"
  # As git knows it: no caches, which would have the image built anew.
  (cd "$ROOT" && tar -c --exclude=__pycache__ constraints.txt infer_dev pyproject.toml README.md) |
    tar -x -C "$project/installation/stage-2/custom/infer-dev/source"
  cp "$HERE/docker-compose.override.yml" "$project/"
  cp "$ROOT/dockers/infer-dev/user_config.persist.yml" "$project/user_config.yml"
}

mend_peidocker() {
  local stage
  for stage in 1 2; do
    # The CA bundle and the mirrors of docker-compose.override.yml reach what is run while the image is built.
    patch "stage-$stage.Dockerfile" 's#^RUN --mount=type=cache#RUN --mount=type=secret,id=ca,target=/run/secrets/ca --mount=type=cache#' \
      '^RUN --mount=type=secret,id=ca'
    patch "stage-$stage.Dockerfile" 's/^# install custom apps.*/ARG PIP_INDEX_URL\nARG NPM_CONFIG_REGISTRY\n&/' '^ARG PIP_INDEX_URL'
  done
  # Without GPUs PeiDocker asks for an empty list of devices, which Compose cannot merge with another file.
  [[ $PEI_DEVICE == gpu ]] || patch compose-template.yml '/^    deploy:$/,/^          devices:/d' '^  stage-2:$'
  cat "$HERE/end-of-stage-2.Dockerfile" >>"$project/stage-2.Dockerfile"
  # It would make all that lies in the workspace writable for everybody, at each start, on the host too.
  patch installation/stage-2/internals/create-links.sh 's/^( *)(chmod 777 -R .*)/\1: # \2/' '^ *: # chmod 777 -R'
}

main() {
  local project=${1:-$ROOT/dockers/infer-dev/.peidocker}
  command -v "$CLI" >/dev/null || die "there is no $CLI; pipx install pei-docker==2.0.1, or set PEI_DOCKER_CLI"
  case ${INFER_DEV_VARIANT:-cuda} in
    cuda) local -x PEI_DEVICE=gpu ;;
    cpu) local -x PEI_DEVICE=cpu INFER_DEV_BASE_IMAGE=${INFER_DEV_BASE_IMAGE:-debian:trixie} ;;
    *) die "INFER_DEV_VARIANT=$INFER_DEV_VARIANT: set it to cuda or cpu" ;;
  esac
  mkdir -p "$project"
  rm -rf "$project/installation"
  # Kept, so that stage-1 is not built anew each time.
  [[ -s $project/password ]] || (umask 077 && od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >"$project/password")
  local -x PEI_PASSWORD
  PEI_PASSWORD=$(<"$project/password")
  run_cli create -p "$project"
  copy_ours
  mend_peidocker
  rm -f "$project/docker-compose.yml"
  run_cli configure -p "$project"
  [[ -s $project/docker-compose.yml ]] || die "pei-docker-cli wrote no docker-compose.yml; see $project/pei-docker.log"
  echo "generated $project; next: cd there; docker compose build stage-1 && docker compose build stage-2 && docker compose up -d"
}

main "$@"
