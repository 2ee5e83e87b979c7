"""The models of `/models` as lines of the picker."""

from collections.abc import Sequence

from infer_dev.dashboard.fits import leavers, verdict
from infer_dev.dashboard.picker import Choice
from infer_dev.dashboard.picture import Json, Picture
from infer_dev.dashboard.words import count, size
from infer_dev.host.printable import printable_line

HEADERS = ("NAME", "STATE", "SIZE", "CONTEXT", "FITS", "QUANT", "MODEL")


def choices_of(models: Sequence[Json], picture: Picture) -> list[Choice]:
    """One line each, with who would have to leave."""
    found = []
    for one in models:
        name, alias = str(one["instance"]), str(one.get("alias") or "")
        model = printable_line(str(one.get("model") or "")).rpartition("/")[2]
        going = [other.name for other in leavers(picture, one)]
        about = f"in the place of {', '.join(going)}" if going else "nothing has to stop for it"
        if one.get("state") == "ready":
            about = "runs already: nothing would be done"
        if one.get("reason"):
            about = printable_line(str(one["reason"]))
        cells = (
            printable_line(name),
            str(one["state"]),
            size(one.get("size_bytes")),
            count(one.get("ctx_size")),
            verdict(picture, one) or "-",
            str(one.get("quantisation") or "-"),
            model or "-",
        )
        found.append(
            Choice(
                id=name, cells=cells, state=cells[1], about=about, search=f"{name} {printable_line(alias)} {model}"
            )
        )
    return found
