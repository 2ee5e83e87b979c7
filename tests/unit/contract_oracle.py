"""The contract said a second time, from its text alone, for property tests to compare with.

Nothing of infer_dev is imported. Where the program walks tables, this works on streams of pairs and on leaf paths.
"""

import copy
import math
from collections.abc import Iterator

Table = dict[str, object]
RESERVED = {"control", "server"}


def instance_names(document: Table) -> list[str]:
    """Every key under `[instance]` but the two reserved ones, in file order."""
    return [name for name in document.get("instance", {}) if name not in RESERVED]


def argv(document: Table, name: str) -> list[str]:
    """The arguments of one instance, without the binary."""
    pairs = merged_server(document, name)
    verbatim = [item for key, items in pairs if key == "extra_args" for item in items]
    options = [(key, word) for key, value in pairs if key != "extra_args" for word in occurrences(value)]
    return verbatim + [part for key, word in options for part in ("--" + "-".join(key.split("_")), *word)]


def occurrences(value: object) -> list[tuple[str, ...]]:
    """One tuple for each time the flag is written: what follows it there."""
    items = value if isinstance(value, list) else [value]
    return [() if item is True else (printed(item),) for item in items if item is not False]


def printed(item: object) -> str:
    """Strings as they are, whole numbers in decimal, floats as the shortest text that reads back the same."""
    if isinstance(item, str):
        return item
    if isinstance(item, int):
        return f"{item:d}"
    return repr(item)


def merged_server(document: Table, name: str) -> list[tuple[str, object]]:
    """(key, value) once per key, in order of first mention: the shared table's, then the instance's."""
    shared = document["instance"].get("server", {})
    stream = [*shared.items(), *document["instance"][name].get("server", {}).items()]
    first_mention = {key: place for place, (key, _) in reversed(list(enumerate(stream)))}
    merged = []
    for key in sorted(first_mention, key=first_mention.__getitem__):
        given = [value for mentioned, value in stream if mentioned == key]
        joined = all(isinstance(value, list) for value in given)
        merged.append((key, [item for value in given for item in value] if joined else given[-1]))
    return merged


def control(document: Table, name: str, key: str, default: object = None) -> object:
    """A control value: the instance's, else the shared one, else the default."""
    for table in (document["instance"][name], document["instance"]):
        if key in table.get("control", {}):
            return table["control"][key]
    return default


def log_file(document: Table, name: str) -> str:
    """`log_file` wins over `log_dir`, wherever each of the two was given."""
    return (
        control(document, name, "log_file") or f"{control(document, name, 'log_dir', '/tmp')}/llama-server-{name}.log"
    )


def gpu_env(gpu_ids: object) -> dict[str, str]:
    """What `gpu_ids` puts into the environment."""
    if gpu_ids is None or gpu_ids in ("all", "none"):
        return {"CUDA_VISIBLE_DEVICES": ""} if gpu_ids == "none" else {}
    ids = gpu_ids.split(",") if isinstance(gpu_ids, str) else gpu_ids
    return {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": ",".join(str(one).strip() for one in ids),
    }


def env(document: Table, name: str, binary_folder: str, inherited_library_path: str) -> dict[str, str]:
    """The variables the contract names, and those of `env` (the instance's over the shared ones)."""
    own = {}
    for table in (document["instance"], document["instance"][name]):
        own |= table.get("control", {}).get("env", {})
    gpu = gpu_env(control(document, name, "gpu_ids"))
    libraries = [binary_folder, own.get("LD_LIBRARY_PATH", inherited_library_path)]
    order = {key: own[key] for key in ("CUDA_DEVICE_ORDER",) if key in own}
    return own | gpu | order | {"LD_LIBRARY_PATH": ":".join(part for part in libraries if part)}


def overlaid(document: Table, overrides: Table) -> Table:
    """The document with each leaf of the overrides set in its place."""
    result = copy.deepcopy(document)
    for path, value in leaves(overrides):
        node = result
        for key in path[:-1]:
            if not isinstance(node.get(key), dict):
                node[key] = {}
            node = node[key]
        if value != {} or not isinstance(node.get(path[-1]), dict):
            node[path[-1]] = copy.deepcopy(value)
    return result


def leaves(table: Table, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Everything in a tree of tables that is no table, and the empty tables, with its path."""
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key), value


def same(one: object, two: object) -> bool:
    """Equality under which nan equals nan, for values that went through a file."""
    if isinstance(one, float) and isinstance(two, float) and math.isnan(one):
        return math.isnan(two)
    return one == two
