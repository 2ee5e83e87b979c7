"""What a llama-server can be told on its command line."""

from collections.abc import Mapping
from dataclasses import dataclass, field

# Without these a program is no llama-server, whatever else it can be told.
SERVER_FLAGS = ("--model", "--port", "--host", "--ctx-size")
# The layers that go to GPUs, by the canonical name of newer versions and of older ones (before mid-2024).
GPU_LAYERS = ("gpu-layers", "n-gpu-layers")
NUMBER_METAVARS = frozenset({"N", "PORT", "INDEX", "SEED", "SECONDS", "SIMILARITY"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option.

    Attributes:
        names: all spellings, dashes included, in the order of the help.
        negatives: those of `names` that switch it off ("--no-kv-offload").
        values: how many words it takes after it; None where the help does not tell.
        metavar: what the help calls the value, or "".
        choices: all there are; None where the help does not say so.
        takes_list: the value is a comma-separated list of `choices`.
        mentioned: values that the description names, which need not be all.
        env: the variable that stands for it, or None.
        is_on: whether the help says that it is on by default; None where it says nothing.
        is_removed: it is listed only to say that it is gone.
        is_deprecated: it still works, but the help advises against it.
        successors: what the help names in its stead, where it is one of those two.
        repeats: given again, it adds to what was given before.
    """

    names: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    values: int | None = 1
    metavar: str = ""
    choices: tuple[str, ...] | None = None
    takes_list: bool = False
    mentioned: tuple[str, ...] = ()
    env: str | None = None
    is_on: bool | None = None
    is_removed: bool = False
    is_deprecated: bool = False
    successors: tuple[str, ...] = ()
    repeats: bool = False

    @property
    def is_number(self) -> bool:
        """Whether the value is read as a number (by C++'s `stoi` or `stof`, which pass over what follows one)."""
        return self.values == 1 and (self.metavar in NUMBER_METAVARS or self.bounds is not None)

    @property
    def bounds(self) -> tuple[int, int] | None:
        """The range in a metavar such as `<0|1>` or `<0...100>`. llama-server itself does not always keep to it."""
        if not (self.metavar.startswith("<") and self.metavar.endswith(">")):
            return None
        low, _, high = self.metavar[1:-1].replace("...", "|").partition("|")
        return (int(low), int(high)) if low.isdigit() and high.isdigit() else None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The options of one llama-server.

    Attributes:
        options: in the order of its help.
        version: what `--version` says, or "".
        is_complete: it takes no option that is not in the list. Not so before September 2024, when the help was
            written by hand and left some spellings out.
    """

    options: tuple[Option, ...]
    version: str = ""
    is_complete: bool = True
    by_name: Mapping[str, Option] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = {name: option for option in self.options for name in option.names}
        object.__setattr__(self, "by_name", names)

    def find(self, word: str) -> Option | None:
        """The option that `word` is a spelling of."""
        return self.by_name.get(spelled(word))

    @property
    def is_llama_server(self) -> bool:
        return all(flag in self.by_name for flag in SERVER_FLAGS)


def spelled(word: str) -> str:
    """`word` as llama-server reads it: `_` stands for `-` in a long flag (common/arg.cpp)."""
    return word.replace("_", "-") if word.startswith("--") else word


def canonical(option: Option, spelling: str) -> str:
    """The name an option goes by: its first long one without dashes; the first that negates, if `spelling` does."""
    is_off = spelled(spelling) in option.negatives
    same = [name for name in option.names if (name in option.negatives) == is_off]
    return next((name for name in same if name.startswith("--")), same[0]).lstrip("-")


def opposite(name: str) -> str:
    """The canonical name of what switches off what `name` switches on, or the other way round; it need not exist."""
    return name.removeprefix("no-") if name.startswith("no-") else f"no-{name}"
