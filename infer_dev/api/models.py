"""What requests may hold, checked by pydantic."""

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from infer_dev.api.http import Request
from infer_dev.errors import UsageError


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class UpRequest(_Body):
    """`POST /up`. The caller's own overrides and PATH count, not those the daemon was started with."""

    config: str
    overrides: str | None = None
    search_path: str = ""


class DownRequest(_Body):
    """`POST /down`. Without `config` everything is stopped and the daemon leaves."""

    config: str | None = None


Body = TypeVar("Body", bound=_Body)


def parse_body(model: type[Body], request: Request) -> Body:
    """The request's body as `model`.

    Raises:
        UsageError: names the key and what was expected.
    """
    try:
        return model.model_validate(request.json())
    except ValidationError as err:
        first = err.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"cannot read the request: {key}: {first['msg']}") from err
