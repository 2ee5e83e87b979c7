"""Where the server is in what was unpacked."""

from pathlib import Path

import pytest

from infer_dev.errors import BundleError
from infer_dev.llama_cpp.bundle.layout import find_layout


def put(tree: Path, *names: str, server_mode: int = 0o755) -> str:
    for name in names:
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        path.chmod(server_mode if path.name == "llama-server" else 0o644)
    return str(tree)


@pytest.mark.parametrize(
    ("names", "folder", "readmes"),
    [
        (("README.md", "bin/llama-server", "bin/libllama.so"), "bin", ("README.md",)),
        (("x/README", "x/bin/llama-server", "x/bin/libllama.so.0"), "x/bin", ("x/README",)),
        (
            ("build/bin/llama-server", "build/bin/libllama.so", "build/bin/README.txt"),
            "build/bin",
            ("build/bin/README.txt",),
        ),
        (
            ("llama-b1/llama-server", "llama-b1/libllama.so", "llama-b1/README.md"),
            "llama-b1",
            ("llama-b1/README.md",),
        ),
        (("README.md", "llama-server", "libllama.so"), ".", ("README.md",)),
        (("notes.txt", "x/README.md", "x/bin/llama-server", "x/bin/a.so"), "x/bin", ("x/README.md",)),
        (
            ("README.md", "bin/llama-server", "bin/a.so", "build/bin/llama-server"),
            "bin",
            ("README.md",),
        ),
    ],
    ids=["root", "one-folder", "release-build", "release-flat", "flat", "file-beside-the-folder", "bin-before-build"],
)
def test_each_layout_is_found_without_a_warning(tmp_path, names, folder, readmes):
    found = find_layout(put(tmp_path, *names))
    assert (found.bin, found.readmes, found.warnings) == (folder, readmes, ())


def test_missing_readme_and_libraries_are_warnings(tmp_path):
    warnings = find_layout(put(tmp_path, "bin/llama-server")).warnings
    assert warnings == (
        "the bundle has no README* beside bin/",
        "the bundle has no libraries (*.so*) beside llama-server",
    )


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "the archive is empty"),
        (("README.md", "bin/llama-cli"), "no bin/llama-server; at its top: README.md, bin"),
        (("a/b/bin/llama-server",), "no bin/llama-server; at its top: a"),
        (("a/bin/llama-server", "b/bin/llama-server"), "no bin/llama-server; at its top: a, b"),
    ],
    ids=["empty", "no-server", "too-deep", "two-bundles"],
)
def test_tree_without_a_server_is_refused_with_what_it_has(tmp_path, names, said):
    with pytest.raises(BundleError, match=said) as caught:
        find_layout(put(tmp_path, *names))
    assert caught.value.message.startswith("cannot use the bundle")
    assert caught.value.hint


def test_archive_in_an_archive_is_pointed_at(tmp_path):
    with pytest.raises(BundleError) as caught:
        find_layout(put(tmp_path, "llama.tar.gz"))
    assert caught.value.hint == "unpack llama.tar.gz and install that"


def test_server_that_is_not_executable_is_refused(tmp_path):
    with pytest.raises(BundleError, match="bin/llama-server is not executable"):
        find_layout(put(tmp_path, "README.md", "bin/llama-server", server_mode=0o644))


def test_server_that_is_a_folder_or_a_dead_link_is_refused(tmp_path):
    (tmp_path / "a/bin/llama-server").mkdir(parents=True)
    with pytest.raises(BundleError, match="is a folder"):
        find_layout(str(tmp_path / "a"))
    (tmp_path / "b/bin").mkdir(parents=True)
    (tmp_path / "b/bin/llama-server").symlink_to("nowhere")
    with pytest.raises(BundleError, match="is a link to nowhere"):
        find_layout(str(tmp_path / "b"))
