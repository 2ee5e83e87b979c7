"""What stands in a file that had better not: options that the environment sets too, secrets that others can read."""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence

from infer_dev.check.finding import Finding, Level
from infer_dev.check.subject import Subject
from infer_dev.check.words import Word
from infer_dev.plan.argv import API_KEY_ENV

PREFIX = "LLAMA_ARG_"
SECRETS = ("api-key", "hf-token")
SECRET_VARIABLES = (API_KEY_ENV, "HF_TOKEN")
# Options whose variable is not named as they are (llama.cpp common/arg.cpp).
_VARIABLES = {
    "gpu-layers": "LLAMA_ARG_N_GPU_LAYERS",
    "parallel": "LLAMA_ARG_N_PARALLEL",
    "predict": "LLAMA_ARG_N_PREDICT",
    "batch-size": "LLAMA_ARG_BATCH",
    "ubatch-size": "LLAMA_ARG_UBATCH",
    "api-key": API_KEY_ENV,
    "hf-token": "HF_TOKEN",
    "rope-scaling": "LLAMA_ARG_ROPE_SCALING_TYPE",
    "reasoning-format": "LLAMA_ARG_THINK",
    "reasoning-budget": "LLAMA_ARG_THINK_BUDGET",
    "path": "LLAMA_ARG_STATIC_PATH",
    "metrics": "LLAMA_ARG_ENDPOINT_METRICS",
    "slots": "LLAMA_ARG_ENDPOINT_SLOTS",
    "props": "LLAMA_ARG_ENDPOINT_PROPS",
    "no-slots": "LLAMA_ARG_NO_ENDPOINT_SLOTS",
}


def environment_findings(subject: Subject, variables: Mapping[str, str]) -> Iterator[Finding]:
    """Options that are given twice, in `control.env` and on the command line.

    Args:
        subject: the instance.
        variables: option → its variable, as the binary's help has it; what is not in it is guessed by name.
    """
    env = subject.spec.command.env
    if not any(name.startswith(PREFIX) or name in SECRET_VARIABLES for name in env):
        return
    for option, path in subject.option_paths.items():
        if not isinstance(path, Word) and "env" in path[:-1]:
            continue
        name = variables.get(option) or _VARIABLES.get(option) or PREFIX + option.upper().replace("-", "_")
        for place in (("instance", subject.spec.name, "control", "env", name), ("instance", "control", "env", name)):
            if name in env and subject.file.value(*place) is not None:
                yield Finding(
                    level=Level.WARNING,
                    code="env-overridden",
                    instance=subject.spec.name,
                    place=subject.file.where(*place),
                    message=f"{name} has no effect: --{option} is given too, and the command line wins",
                    hint="keep one of the two",
                )
                break


def file_mode(path: str) -> int:
    """The permissions of a file; 0 where they cannot be told."""
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return 0


def secret_findings(subjects: Sequence[Subject], mode: int) -> Iterator[Finding]:
    """A secret in a file that every user of the machine can read: one note, without the secret.

    Args:
        subjects: the instances.
        mode: the file's permissions.
    """
    if not mode & stat.S_IROTH:
        return
    for subject in subjects:
        places = [subject.place_of(option) for option in SECRETS if option in subject.option_paths]
        for above in (("instance", subject.spec.name), ("instance",)):
            paths = [(*above, "control", "env", name) for name in SECRET_VARIABLES]
            places += [subject.file.where(*path) for path in paths if subject.file.value(*path)]
        for place in places:
            if place.file == subject.file.path:
                yield Finding(
                    level=Level.NOTE,
                    code="secret-readable",
                    instance="",
                    place=place,
                    message=f"a secret stands in a file that every user here can read (mode {mode:o})",
                    hint=f"chmod o-r {subject.file.path}, or put the key into a file of its own: api_key_file",
                )
                return
