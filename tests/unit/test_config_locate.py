"""The line on which a key stands."""

import time

import pytest

from infer_dev.config.load import load
from infer_dev.config.locate import line_of

TEXT = """# port = 1, in a comment
[master]
enable = true

[instance.server]
note = "port"
text = '''
port = 3
[instance.a.server]
'''
lora = [
    "port",
    # port
]
port = 7

[instance.a.server] # port
"port" = 8
"dotted.key" = 1
'single' = 2

[instance."b.c"]
server = { port = 9, alias = "x" }
control.env.PORT = "1"

[instance.d.server]
port = \"\"\"
8080\"\"\"
"""


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (("master",), 2),
        (("master", "enable"), 3),
        (("instance",), 5),
        (("instance", "server"), 5),
        (("instance", "server", "note"), 6),
        (("instance", "server", "text"), 7),
        (("instance", "server", "lora"), 11),
        (("instance", "server", "port"), 15),
        (("instance", "a"), 17),
        (("instance", "a", "server"), 17),
        (("instance", "a", "server", "port"), 18),
        (("instance", "a", "server", "dotted.key"), 19),
        (("instance", "a", "server", "single"), 20),
        (("instance", "b.c"), 22),
        (("instance", "b.c", "server", "port"), 23),
        (("instance", "b.c", "server", "alias"), 23),
        (("instance", "b.c", "control", "env", "PORT"), 24),
        (("instance", "d", "server", "port"), 27),
    ],
)
def test_line_of_a_key_is_that_of_its_definition(keys, line):
    assert line_of(TEXT, keys) == line


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (("instance", "a", "server", "nowhere"), 17),
        (("instance", "a", "control", "gpu_ids"), 17),
        (("instance", "server", "lora", "0"), 11),
        (("instance", "nobody", "server", "port"), 5),
        (("nothing",), None),
        ((), None),
    ],
)
def test_line_of_a_key_that_is_not_there_is_that_of_its_nearest_parent(keys, line):
    assert line_of(TEXT, keys) == line


def test_line_of_a_key_behind_a_long_text_is_found_at_once():
    """A Jinja template of some hundred lines is common; each must not cost a parse of the file up to its end."""
    template = "\n".join(f"{{% if a{number} %}}" for number in range(120))
    text = f"[instance.server]\nchat_template = '''\n{template}'''\n[instance.a.server]\nport = 1\n"
    begin = time.process_time()
    assert line_of(text, ("instance", "a")) == 123
    assert time.process_time() - begin < 0.3


def test_place_names_file_line_and_dotted_key(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text('[instance."a.b".server]\nport = 1\n')
    file = load(str(path), '{"instance": {"a.b": {"server": {"alias": "x"}}}}')
    assert file.place("instance", "a.b", "server", "port") == f'{path}:2: instance."a.b".server.port'
    assert (
        file.place("instance", "a.b", "server", "alias")
        == 'AUTO_INFER_LLAMA_CPP_OVERRIDES: instance."a.b".server.alias'
    )
    assert file.place("master", "enable") == f"{path}: master.enable"
