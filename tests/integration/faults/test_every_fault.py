"""No fault of docs/reliability.md goes without a test, and no test without its row."""

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
FAULTS = set(range(1, 46))


def _tests() -> list[str]:
    trees = [ast.parse(path.read_text()) for path in HERE.glob("test_*.py")]
    return [node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def test_every_fault_has_a_test() -> None:
    numbers = {int(found[1]) for name in _tests() if (found := re.match(r"test_fault_(\d\d)_", name))}
    assert numbers == FAULTS


def test_every_fault_has_a_row_that_names_its_tests() -> None:
    text = (HERE.parents[2] / "docs" / "reliability.md").read_text()
    rows = {int(found[1]): found[0] for found in re.finditer(r"^\| (\d+) \|.*$", text, re.MULTILINE)}
    assert set(rows) == FAULTS
    for name in _tests():
        if found := re.match(r"test_fault_(\d\d)_", name):
            assert f"`{name}`" in rows[int(found[1])], f"{name} is not linked"
