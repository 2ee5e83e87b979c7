"""The models of one run: each file is read once, however many instances name it."""

from infer_dev.llama_cpp.gguf.cache import read_cached
from infer_dev.llama_cpp.gguf.error import GgufError
from infer_dev.llama_cpp.gguf.header import Header, read_header
from infer_dev.llama_cpp.gguf.model import Model, read_model
from infer_dev.settings import cache_dir


class Library:
    """Reads headers and models, and remembers them and what went wrong.

    Args:
        folder: where headers are kept from run to run; "" for nowhere. By default the user's cache folder.
    """

    def __init__(self, folder: str | None = None) -> None:
        self._folder = cache_dir() if folder is None else folder
        self._headers: dict[str, Header | GgufError] = {}
        self._models: dict[str, Model | GgufError] = {}

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that were read, or could not be."""
        return tuple(self._headers)

    def header(self, path: str) -> Header:
        """The header of the file at `path`.

        Raises:
            GgufError: it cannot be read.
        """
        if path not in self._headers:
            try:
                self._headers[path] = read_cached(path, self._folder) if self._folder else read_header(path)
            except GgufError as err:
                self._headers[path] = err.with_traceback(None)  # which would keep what was read
        found = self._headers[path]
        if isinstance(found, GgufError):
            raise found
        return found

    def model(self, path: str) -> Model:
        """The model of which the file at `path` is a part.

        Raises:
            GgufError: this very file cannot be read.
        """
        if path not in self._models:
            try:
                self._models[path] = read_model(path, self.header)
            except GgufError as err:
                self._models[path] = err.with_traceback(None)
        found = self._models[path]
        if isinstance(found, GgufError):
            raise found
        return found
