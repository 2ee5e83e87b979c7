"""Headers of GGUF files: what is told of them, and what of those that are damaged or no GGUF at all."""

import os
import shutil
from pathlib import Path
from struct import pack

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGUFReader, GGUFWriter, LlamaFileType
from gguf.constants import GGMLQuantizationType

from infer_dev.llama_cpp.gguf.error import Fault, GgufError
from infer_dev.llama_cpp.gguf.header import MOST_ITEMS, Array, Header, LongText, read_header
from infer_dev.llama_cpp.gguf.source import Source, open_regular
from infer_dev.llama_cpp.gguf.tensor_types import FILE_TYPES, TENSOR_TYPES
from tests.parts import gguf_bytes as raw
from tests.parts import tiny_model

ONLY_IN_MEMORY = (GGMLQuantizationType.Q8_1,)  # in no file; the package has the size it had long ago
ARCHITECTURE = raw.pair("general.architecture", raw.STRING, "llama")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    tiny_model.write(path)
    return path


@pytest.fixture
def file(tmp_path: Path):
    def write(content: bytes, name: str = "model.gguf") -> str:
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return write


def read_fault(path: str) -> GgufError:
    with pytest.raises(GgufError) as caught:
        read_header(path)
    assert caught.value.message == f"cannot read {path}: {caught.value.reason}"
    return caught.value


def test_header_is_the_one_that_the_gguf_package_reads(tiny):
    ours, theirs = read_header(str(tiny)), GGUFReader(tiny)
    assert ours.data_offset == theirs.data_offset
    assert ours.missing_bytes == 0
    assert ours.defects == ()
    assert ours.size_bytes == tiny.stat().st_size
    assert (ours.version, ours.is_little_endian, ours.alignment) == (3, True, 32)
    assert [
        (one.name, one.shape, one.type_name, ours.data_offset + one.offset, one.size_bytes, one.elements)
        for one in ours.tensors
    ] == [
        (
            one.name,
            tuple(map(int, one.shape)),
            one.tensor_type.name,
            one.data_offset,
            int(one.n_bytes),
            int(one.n_elements),
        )
        for one in theirs.tensors
    ]
    fields = {name: field for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert list(ours.metadata) == list(fields)
    for name, field in fields.items():
        value = ours.metadata[name]
        if isinstance(value, Array):
            assert value.count == len(field.data)
            assert value.items == (None if value.kind == "str" else tuple(field.contents()))
        else:
            assert value == field.contents()


def test_tensor_types_are_those_of_the_gguf_package():
    theirs = {
        int(one): (one.name, *GGML_QUANT_SIZES[one]) for one in GGMLQuantizationType if one not in ONLY_IN_MEMORY
    }
    assert {number: tuple(TENSOR_TYPES[number]) for number in theirs} == theirs


def test_file_types_are_those_of_the_gguf_package():
    theirs = {int(one): one.name.removeprefix("ALL_").removeprefix("MOSTLY_") for one in LlamaFileType}
    del theirs[LlamaFileType.GUESSED]
    assert {number: FILE_TYPES[number] for number in theirs} == theirs


def test_every_kind_of_value_is_told(file):
    numbers = {
        raw.U8: 200,
        raw.I8: -3,
        raw.U16: 60000,
        raw.I16: -300,
        raw.U32: 4_000_000_000,
        raw.I32: -70000,
        raw.F32: 0.5,
        raw.BOOL: True,
        raw.U64: 1 << 63,
        raw.I64: -(1 << 62),
        raw.F64: 0.1,
    }
    pairs = [raw.pair(f"k{kind}", kind, value) for kind, value in numbers.items()]
    pairs += [
        raw.pair("long", raw.STRING, b"x" * 5000),
        raw.pair("odd", raw.STRING, b"\xffok"),
        raw.array("counts", raw.U32, 3, pack("<3I", 1, 2, 3)),
        raw.array("many", raw.U8, MOST_ITEMS + 1, bytes(MOST_ITEMS + 1)),
        raw.array("words", raw.STRING, 2, raw.text("a") + raw.text("b" * 300)),
    ]
    metadata = read_header(file(raw.header(pairs, []))).metadata
    assert {kind: metadata[f"k{kind}"] for kind in numbers} == numbers
    assert metadata["long"] == LongText(5000)
    assert metadata["odd"] == "\\xffok"
    assert metadata["counts"] == Array("u32", 3, (1, 2, 3))
    assert metadata["many"] == Array("u8", MOST_ITEMS + 1, None)
    assert metadata["words"] == Array("str", 2, None)


@pytest.mark.parametrize("size", [0, 1, 9, 63, 64, 255, 256, 5000])
def test_strings_of_every_length_are_gone_over(file, size):
    words = b"".join(raw.text(bytes(index % 256 for index in range(size))) for _ in range(700))
    content = raw.header([raw.array("words", raw.STRING, 700, words), ARCHITECTURE], [])
    header = read_header(file(content))
    assert header.metadata == {"words": Array("str", 700, None), "general.architecture": "llama"}


def test_strings_of_mixed_lengths_are_gone_over_across_windows(file):
    # Contents that look like lengths, so that one byte too many or too few is noticed.
    sizes = [(index * 7919) % 90 if index % 97 else 3000 for index in range(60_000)]
    words = b"".join(raw.text((b"\x05" + bytes(7)) * (size // 8) + bytes(size % 8)) for size in sizes)
    content = raw.header([raw.array("words", raw.STRING, len(sizes), words), ARCHITECTURE], [])
    assert len(content) > 3 << 20
    header = read_header(file(content))
    assert header.metadata == {"words": Array("str", 60_000, None), "general.architecture": "llama"}


def test_a_big_endian_file_is_read_and_told(file):
    pairs = [raw.pair("general.architecture", raw.STRING, "llama", order=">")]
    words = raw.text("abc", order=">") * 600
    pairs.append(raw.array("words", raw.STRING, 600, words, order=">"))
    content = raw.header(pairs, [raw.tensor("a", (4,), 0, 0, order=">")], order=">") + bytes(16)
    header = read_header(file(content))
    assert not header.is_little_endian
    assert header.version == 3
    assert header.tensors[0].size_bytes == 16
    assert header.missing_bytes == 0


def test_a_huge_file_is_read_without_its_weights(file):
    size = 100 << 30
    tensors = [raw.tensor("a", (size // 4,), 0, 0), raw.tensor("b", (256,), 12, size)]
    path = file(raw.header([ARCHITECTURE], tensors))
    os.truncate(path, os.path.getsize(path) + size + 144)
    before = _read_bytes()
    header = read_header(path)
    assert header.missing_bytes == 0
    assert _read_bytes() - before < 4 << 20
    os.truncate(path, os.path.getsize(path) - 5)
    assert read_header(path).missing_bytes == 5


def _read_bytes() -> int:
    """What this process has read by system calls so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_a_tensor_of_an_unknown_type_has_the_room_up_to_the_next(file):
    tensors = [
        raw.tensor("a", (32,), 99, 0),
        raw.tensor("b", (32,), 42, 4096),
        raw.tensor("c", (8,), 0, 8192),
        raw.tensor("d", (8,), 98, 8224),
    ]
    header = read_header(file(raw.header([ARCHITECTURE], tensors) + bytes(9000)))
    assert [(one.type_name, one.size_bytes, one.has_known_size) for one in header.tensors] == [
        ("type 99", 4096, False),
        ("Q2_0", 4096, False),
        ("F32", 32, True),
        ("type 98", 776, False),
    ]
    assert header.missing_bytes == 0
    assert header.defects == ()


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ([raw.tensor("a", (8,), 0, 0), raw.tensor("a", (8,), 0, 32)], "'a' stands there twice"),
        ([raw.tensor("a", (8,), 0, 0), raw.tensor("b", (8,), 0, 16)], "'b' stands at 16 and should at 32"),
        ([raw.tensor("a", (8,), 0, 0), raw.tensor("b", (8,), 0, 0)], "'b' stands at 0 and should at 32"),
        ([raw.tensor("a", (8,), 0, 1 << 62)], "'a' stands at 4611686018427387904"),
        ([raw.tensor("a", (100,), 12, 0)], "no whole blocks of Q4_K"),
        ([raw.tensor("a" * 64, (8,), 0, 0)], "is too long"),
        ([raw.tensor("a", (1 << 62, 1 << 62), 0, 0)], "more elements than can be counted"),
    ],
)
def test_a_tensor_table_that_llama_cpp_refuses_is_told(file, tensors, told):
    header = read_header(file(raw.header([ARCHITECTURE], tensors) + bytes(64)))
    assert any(told in one for one in header.defects), header.defects


@pytest.mark.parametrize(
    ("content", "fault", "told"),
    [
        (b"", Fault.NOT_GGUF, "it is empty"),
        (bytes(5000), Fault.NOT_GGUF, "begins with zeros"),
        (b"GG", Fault.NOT_GGUF, "no GGUF file"),
        (b"hello world", Fault.NOT_GGUF, "no GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1\noid", Fault.NOT_GGUF, "Git LFS pointer"),
        (b"\n<!DOCTYPE html><html>", Fault.NOT_GGUF, "web page"),
        (b"<HTML lang=en>", Fault.NOT_GGUF, "web page"),
        (b'{"error":"Invalid username or password."}', Fault.NOT_GGUF, "JSON"),
        (pack("<Q", 20) + b'{"__metadata__":{}} ' + bytes(9), Fault.NOT_GGUF, "safetensors"),
        (b"PK\x03\x04" + bytes(30), Fault.NOT_GGUF, "zip"),
        (b"tjgg" + bytes(30), Fault.NOT_GGUF, "before GGUF"),
        (b"GGUF", Fault.CUT_SHORT, "ends within its header"),
        (b"GGUF" + pack("<IQQ", 1, 0, 0), Fault.VERSION, "version 1"),
        (b"GGUF" + pack("<IQQ", 0, 0, 0), Fault.VERSION, "version 0"),
        (b"GGUF" + pack("<IQQ", 4, 0, 0), Fault.VERSION, "version 4"),
        (raw.header([], [], key_count=1 << 63), Fault.BEYOND_LIMITS, "9223372036854775808 keys"),
        (raw.header([], [], tensor_count=(1 << 64) - 1), Fault.BEYOND_LIMITS, "tensors"),
        (raw.header([], [], key_count=65000)[:24], Fault.CUT_SHORT, "ends within"),
        (raw.header([pack("<Q", 1 << 60)], [], key_count=1), Fault.MALFORMED, "a key of 1152921504606846976 bytes"),
        (raw.header([pack("<Q", 0)], [], key_count=1), Fault.MALFORMED, "a key is empty"),
        (raw.header([ARCHITECTURE, ARCHITECTURE], []), Fault.MALFORMED, "stands there twice"),
        (raw.header([raw.text("k") + pack("<IQ", raw.STRING, 1 << 60)], []), Fault.CUT_SHORT, "ends within"),
        (raw.header([raw.text("k") + pack("<I", 13)], []), Fault.MALFORMED, "unknown kind 13"),
        (raw.header([raw.array("k", raw.ARRAY, 1, b"")], []), Fault.MALFORMED, "is of arr"),
        (raw.header([raw.array("k", 77, 1, b"")], []), Fault.MALFORMED, "unknown kind 77"),
        (raw.header([raw.array("k", raw.U64, 1 << 63, b"")], []), Fault.CUT_SHORT, "ends within"),
        (raw.header([raw.array("k", raw.STRING, 1 << 60, b"")], []), Fault.BEYOND_LIMITS, "strings"),
        (raw.header([raw.array("k", raw.STRING, 7_000_000, b"")], []), Fault.CUT_SHORT, "ends within"),
        (raw.header([raw.pair("general.alignment", raw.U32, 0)], []), Fault.MALFORMED, "no power of two"),
        (raw.header([raw.pair("general.alignment", raw.U32, 48)], []), Fault.MALFORMED, "no power of two"),
        (raw.header([raw.pair("general.alignment", raw.STRING, "a")], []), Fault.MALFORMED, "no power of two"),
        (
            raw.header([raw.pair("general.alignment", raw.U32, 1 << 31)], [raw.tensor("a", (1,), 0, 0)]),
            Fault.CUT_SHORT,
            "ends within",
        ),
        (raw.header([], [raw.text("t") + pack("<I", 5)]), Fault.MALFORMED, "5 dimensions"),
        (raw.header([], [raw.tensor("t", (1 << 63,), 0, 0)]), Fault.MALFORMED, "negative"),
        (raw.header([], [raw.tensor("t", (1,), 0, 1 << 63)]), Fault.MALFORMED, "negative"),
        (raw.header([], [pack("<Q", 1 << 62)]), Fault.MALFORMED, "name of 4611686018427387904 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_by_what_it_is(file, content, fault, told):
    error = read_fault(file(content))
    assert (error.fault, told in error.reason) == (fault, True), error.reason
    assert error.hint


def test_a_folder_a_pipe_a_device_and_nothing_are_told_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    assert read_fault(str(tmp_path)).fault == Fault.NOT_A_FILE
    assert read_fault(str(tmp_path / "pipe")).fault == Fault.NOT_A_FILE
    assert read_fault("/dev/zero").fault == Fault.NOT_A_FILE
    assert read_fault(str(tmp_path / "nowhere")).fault == Fault.MISSING
    assert read_fault(str(tmp_path / "none.gguf")).fault == Fault.MISSING
    assert read_fault(str(tmp_path / "pipe" / "x")).fault == Fault.MISSING
    with pytest.raises(GgufError, match="null byte"):
        read_header("a\0b")


def test_every_cut_of_a_header_is_told(tiny, tmp_path):
    whole = tiny.read_bytes()
    header = read_header(str(tiny))
    path = tmp_path / "cut.gguf"
    for size in [*range(200), *range(200, header.data_offset, 61)]:
        path.write_bytes(whole[:size])
        assert read_fault(str(path)).fault in (Fault.CUT_SHORT, Fault.NOT_GGUF)
    path.write_bytes(whole[:-1])
    assert read_header(str(path)).missing_bytes == 1
    path.write_bytes(whole + b"more")
    assert read_header(str(path)).missing_bytes == 0


def test_a_file_that_is_cut_while_it_is_read_is_told(file):
    """With a mapping this would be the process's end (SIGBUS)."""
    path = file(raw.header([raw.array("words", raw.STRING, 100_000, raw.text("word") * 100_000)], []))
    descriptor, size_bytes = open_regular(path)
    source = Source(path, descriptor, size_bytes)
    source.take(24)
    os.truncate(path, 30_000)
    source.skip(8 + 5 + 16)
    with pytest.raises(GgufError) as caught:
        source.skip_strings(100_000)
    os.close(descriptor)
    assert caught.value.fault == Fault.CUT_SHORT


def test_a_header_of_version_2_is_read(file):
    assert read_header(file(raw.header([ARCHITECTURE], [], version=2))).version == 2


def test_a_file_that_another_writes_is_no_trouble(tiny, tmp_path):
    """Read while it grows: it is cut short, then lacks a known number of bytes, then is whole."""
    path, whole = tmp_path / "growing.gguf", tiny.read_bytes()
    told: list[int | str] = []
    with path.open("wb", buffering=0) as growing, tiny.open("rb") as source:
        while piece := source.read(5000):
            growing.write(piece)
            found = _told(path)
            if not told or told[-1] != found:
                told.append(found)
    assert told[-1] == 0
    assert Fault.CUT_SHORT in told
    assert len([one for one in told if isinstance(one, int) and one > 0]) > 10
    shutil.copy(tiny, path)
    assert path.read_bytes() == whole


def _told(path: Path) -> int | str:
    try:
        return read_header(str(path)).missing_bytes
    except GgufError as err:
        return err.fault


def test_quantised_tensors_have_the_sizes_that_the_gguf_package_writes(tmp_path):
    writer = GGUFWriter(tmp_path / "q.gguf", "llama")
    kinds = [kind for kind in GGMLQuantizationType if kind not in ONLY_IN_MEMORY]
    for kind in kinds:
        block, size = GGML_QUANT_SIZES[kind]
        shape = (3, 2 * size) if block > 1 else (3, 2 * block * size)
        writer.add_tensor(f"t{int(kind)}", np.zeros(shape, dtype=np.uint8), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header: Header = read_header(str(tmp_path / "q.gguf"))
    theirs = {one.name: int(one.n_bytes) for one in GGUFReader(tmp_path / "q.gguf").tensors}
    assert {one.name: one.size_bytes for one in header.tensors} == theirs
    assert header.defects == ()
    assert header.missing_bytes == 0
