"""What is told of the options of an instance, by the catalogues of llama-servers of several ages."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from infer_dev.check.finding import Finding, Level
from infer_dev.check.options.command_line import subject_of
from infer_dev.check.options.flags import flag_findings
from infer_dev.check.subject import Subject
from infer_dev.config.load import load
from infer_dev.llama_cpp.options.catalogue import Catalogue
from infer_dev.plan.build import build_plan
from tests.unit.test_options_help import AGES, of

NOW = "2026-09"
ERROR, WARNING, NOTE = Level.ERROR, Level.WARNING, Level.NOTE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.toml"


def checked(path: Path, text: str, catalogue: Catalogue | None) -> tuple[Subject, list[Finding]]:
    path.write_text(text)
    file = load(str(path))
    spec = build_plan(file, "/bin/llama-server", {}).specs[0]
    subject, reading = subject_of(file, file.instances[0], spec, catalogue)
    return subject, list(flag_findings(subject, catalogue, reading))


def server(path: Path, body: str, age: str = NOW) -> list[Finding]:
    return checked(path, f"[instance.a.server]\n{body}\n", of(age))[1]


def brief(findings: Sequence[Finding]) -> list[tuple[Level, str, str]]:
    return [(one.level, one.code, one.place.key.removeprefix("instance.a.")) for one in findings]


@pytest.mark.parametrize(
    "body",
    [
        'model = "/x.gguf"\nport = 8080\nctx_size = 8192\nflash_attn = "on"\nmetrics = true\nmetrics_ = false',
        'extra_args = ["--ctx_size", "0", "-ngl", "auto", "--no-kv-offload"]',
        'n_gpu_layers = "all"\ntemp = 0.7\nseed = -1\ncpu_strict = "1"\npoll = 100',
        'flash_attn = 1\nfit = "disabled"\nlog_colors = "-1"',  # other words for on, off and auto
        "ctx_size = 8192.0\ntop_k = 4e1",
        'ctx_size = "8192 "',  # read as meant
        'lora = ["a", "b"]\nspec_type = "ngram-mod,draft-simple"',
        'extra_args = ["-c", "8192"]\nctx_size = 8192',  # twice, but the same
        "metrics = false\nno_mmproj = false\nctx_size = false",
        'grammar = "--metrics"\nalias = "-c"\nreverse_prompt = "- "',
        'api_key = ""\nalias = "ünï códe\\n"',
        'numa = "isolate"\nload_mode = "mmap+mlock"\nlazy_mode = "auto"',
        'host = "::1"\nno_host = true\nmmproj = "x"\nno_mmproj = true',  # not against each other, but for the name
    ],
)
def test_correct_options_are_not_told(path: Path, body: str) -> None:
    assert not server(path, body)


@pytest.mark.parametrize(
    ("body", "level", "code", "key", "message", "hint"),
    [
        ("ctx_sise = 1", ERROR, "unknown-option", "server.ctx_sise", "no --ctx-sise", "did you mean ctx_size?"),
        ("n_gpu_layer = 1", ERROR, "unknown-option", "server.n_gpu_layer", "no --n-gpu", "mean n_gpu_layers?"),
        ("ngl = 1", ERROR, "unknown-option", "server.ngl", "no --ngl", "did you mean gpu_layers?"),
        ('draft_model = "x"', ERROR, "unknown-option", "server.draft_model", "", "did you mean model_draft?"),
        ("no_metrics = true", ERROR, "unknown-option", "server.no_metrics", "", "off unless it is given"),
        ("zzz = 1", ERROR, "unknown-option", "server.zzz", "no --zzz", "take it out"),
        ('extra_args = ["--ctx-sise", "1"]', ERROR, "unknown-option", "server.extra_args[0]", "", "mean --ctx-size?"),
        ('extra_args = ["-ctx-size", "1"]', ERROR, "unknown-option", "server.extra_args[0]", "", "mean --ctx-size?"),
        ('extra_args = ["--Metrics"]', ERROR, "unknown-option", "server.extra_args[0]", "", "mean --metrics?"),
        ('metrics = "yes"', ERROR, "value-not-taken", "server.metrics", '"yes"', "write metrics = true"),
        ('metrics = "off"', ERROR, "value-not-taken", "server.metrics", '"off"', "leave metrics out"),
        ('jinja = "no"', ERROR, "value-not-taken", "server.jinja", '"no"', "write no_jinja = true"),
        ("metrics = 1", ERROR, "value-not-taken", "server.metrics", '"1"', "write metrics = true"),
        ("flash_attn = true", ERROR, "value-missing", "server.flash_attn", "needs a value", 'flash_attn = "on"'),
        ("ctx_size = true", ERROR, "value-missing", "server.ctx_size", "needs a value", "ctx_size = N"),
        ("alias = true", ERROR, "value-missing", "server.alias", "needs a value", 'alias = "…"'),
        ('extra_args = ["--alias"]', ERROR, "value-missing", "server.extra_args[0]", "needs a value", "behind it"),
        ('split_mode = "roww"', ERROR, "bad-choice", "server.split_mode", "none, layer, row, tensor", 'mean "row"?'),
        ('flash_attn = "ON"', ERROR, "bad-choice", "server.flash_attn", '"ON"', 'did you mean "on"?'),
        ('fit = "yes"', ERROR, "bad-choice", "server.fit", '"yes"', 'did you mean "on"?'),
        ('cache_type_k = "q8"', ERROR, "bad-choice", "server.cache_type_k", "q8_0", 'did you mean "q8_0"?'),
        ('cache_type_v = "zzz"', ERROR, "bad-choice", "server.cache_type_v", "f32, f16", "write one of these"),
        ('spec_type = "ngram-mdo"', ERROR, "bad-choice", "server.spec_type", '"ngram-mdo"', '"ngram-mod"?'),
        ('numa = "foo"', WARNING, "bad-choice", "server.numa", '"foo"', "distribute, isolate, numactl"),
        ('ctx_size = "many"', ERROR, "not-a-number", "server.ctx_size", '"many" is not', "write a number"),
        ('gpu_layers = "many"', ERROR, "not-a-number", "server.gpu_layers", '"many"', 'or "auto" or "all"'),
        ('temp = "warm"', ERROR, "not-a-number", "server.temp", '"warm"', "write a number"),
        ("ctx_size = 99999999999", ERROR, "not-a-number", "server.ctx_size", "too large", "2147483647 at most"),
        ('ctx_size = "8k"', WARNING, "not-a-number", "server.ctx_size", "is read as 8", "write 8192"),
        ('ctx_size = "8,192"', WARNING, "not-a-number", "server.ctx_size", "is read as 8", "the whole number"),
        ("parallel = 1.5", WARNING, "not-a-number", "server.parallel", "is read as 1", "the whole number"),
        ('temp = "0,7"', WARNING, "not-a-number", "server.temp", "is read as 0", "the whole number"),
        ("poll = 101", WARNING, "out-of-range", "server.poll", '"101"', "from 0 to 100"),
        ("cpu_strict = 2", WARNING, "out-of-range", "server.cpu_strict", '"2"', "from 0 to 1"),
        ("draft_max = 8", ERROR, "removed-option", "server.draft_max", "--draft-max", "spec_draft_n_max or spec_"),
        ("no_mmap = true", ERROR, "removed-option", "server.no_mmap", "--no-mmap", 'write load_mode = "none"'),
        ("memory_f32 = true", ERROR, "removed-option", "server.memory_f32", "", 'cache_type_k = "f32" and'),
        ('extra_args = ["--mlock"]', ERROR, "removed-option", "server.extra_args[0]", "", "write --load-mode mlock"),
        ('prompt = "hi"', ERROR, "removed-option", "server.prompt", "--prompt", "llama-cli"),
        ("defrag_thold = 0.1", NOTE, "deprecated-option", "server.defrag_thold", "deprecated", "take it out"),
        ('extra_args = ["foo"]', ERROR, "stray-word", "server.extra_args[0]", '"foo"', "take it out"),
        ("jinja = false", WARNING, "false-has-no-effect", "server.jinja", "jinja = false", "no_jinja = true"),
        ("webui = false", WARNING, "false-has-no-effect", "server.webui", "webui = false", "no_ui = true"),
        ("mmap = false", WARNING, "false-has-no-effect", "server.mmap", "mmap = false", 'load_mode = "none"'),
        ("flash_attn = false", WARNING, "false-has-no-effect", "server.flash_attn", "", 'write flash_attn = "off"'),
        ("kv_unified = false", NOTE, "false-has-no-effect", "server.kv_unified", "", "no_kv_unified = true"),
        ("jinja = true\nno_jinja = true", WARNING, "given-twice", "server.jinja", "--jinja has no", "keep one"),
        (
            'extra_args = ["-c", "1"]\nctx_size = 2',
            WARNING, "given-twice", "server.extra_args[1]", "-c 1 has no effect: --ctx-size 2", "extra_args come",
        ),
        (
            'extra_args = ["--ctx-size 8192"]',
            ERROR, "option-and-value-in-one", "server.extra_args[0]", "one word", '"--ctx-size", "8192"',
        ),
        (
            'extra_args = ["--ctx-size=8192"]',
            ERROR, "option-and-value-in-one", "server.extra_args[0]", "one word", '"--ctx-size", "8192"',
        ),
        (
            'extra_args = ["--metrics=true"]',
            ERROR, "option-and-value-in-one", "server.extra_args[0]", "one word", 'one item: "--metrics"',
        ),
        (
            'extra_args = ["--metrics", "yes"]',
            ERROR, "value-not-taken", "server.extra_args[1]", '"yes"', '"--metrics" alone is enough',
        ),
        (
            "control_vector_layer_range = [1, 2]",
            ERROR, "value-missing", "server.control_vector_layer_range[0]", "takes two values", "extra_args",
        ),
    ],
)  # fmt: skip
def test_mistake_is_told_once_with_its_place_and_the_fix(  # noqa: PLR0917 - a row of the table
    path: Path, body: str, level: Level, code: str, key: str, message: str, hint: str
) -> None:
    found = server(path, body)
    assert brief(found) == [(level, code, key)]
    assert message in found[0].message
    assert hint in found[0].hint
    assert found[0].place.line is not None
    assert found[0].instance == "a"


def test_place_is_the_line_of_the_item(path: Path) -> None:
    found = server(path, 'extra_args = [\n  "--metrics",\n  "--ctx-sise",\n  "1",\n]')
    assert [one.place.line for one in found] == [4]


def test_default_is_to_blame_where_it_stands(path: Path) -> None:
    text = '[instance.server]\nctx_sise = 1\nmmap = false\n[instance.a.server]\nmodel = "x"\n'
    found = checked(path, text, of(NOW))[1]
    assert [(one.place.line, one.place.key) for one in found] == [
        (2, "instance.server.ctx_sise"),
        (3, "instance.server.mmap"),
    ]


def test_default_that_an_instance_overrides_is_not_told(path: Path) -> None:
    text = "[instance.server]\njinja = false\n[instance.a.server]\njinja = true\n"
    assert not checked(path, text, of(NOW))[1]


def test_option_that_swallows_another_is_told_as_what_it_does(path: Path) -> None:
    error = server(path, "alias = true\nport = 80")
    assert brief(error) == [(ERROR, "value-missing", "server.alias")]  # 80 is left over
    assert "would take --port for it" in error[0].message
    # Here it is only called "--metrics".
    assert brief(server(path, "alias = true\nmetrics = true")) == [(WARNING, "value-missing", "server.alias")]
    assert brief(server(path, "ctx_size = true\nmetrics = true")) == [(ERROR, "value-missing", "server.ctx_size")]


def test_one_mistake_does_not_hide_the_next(path: Path) -> None:
    body = 'extra_args = ["--ctx-sise", "1", "stray", "--metrics", "yes"]\nmodle = "x"\nsplit_mode = "x"'
    codes = [one.code for one in server(path, body)]
    assert codes == ["unknown-option", "stray-word", "value-not-taken", "unknown-option", "bad-choice"]


@pytest.mark.parametrize(
    ("age", "body", "expected"),
    [
        ("2024-10", 'flash_attn = "on"', [(ERROR, "value-not-taken", "server.flash_attn")]),
        ("2024-10", "flash_attn = true\nno_mmap = true\nmlock = true", []),
        ("2024-10", 'load_mode = "none"', [(ERROR, "unknown-option", "server.load_mode")]),
        ("2024-10", "cont_batching = false", [(WARNING, "false-has-no-effect", "server.cont_batching")]),
        ("2025-10", "mmap = false", [(WARNING, "false-has-no-effect", "server.mmap")]),
        ("2025-10", "draft_max = 8\nno_mmap = true", []),
        ("2025-10", "context_shift = false", []),
        (
            "2025-10",
            "cont_batching = true\nno_cont_batching = true",
            [(WARNING, "given-twice", "server.cont_batching")],
        ),
        ("2025-10", 'lora = ["a", "b"]', []),
        ("2025-10", "dump_kv_cache = true", [(ERROR, "removed-option", "server.dump_kv_cache")]),
        # A list that is known to leave some out makes no error.
        ("2024-03", "ctx_sise = 1", [(WARNING, "unknown-option", "server.ctx_sise")]),
        ("2024-03", "gpu_layers = 1", []),
        ("2024-03", 'host = "::1"\nmetrics = true\nlog_format = "text"', []),
        ("2024-07", 'split_mode = "x"', [(WARNING, "bad-choice", "server.split_mode")]),
    ],
)
def test_findings_are_by_the_options_of_that_server(
    path: Path, age: str, body: str, expected: list[tuple[Level, str, str]]
) -> None:
    assert brief(server(path, body, age)) == expected


def test_successor_that_an_old_server_does_not_have_is_not_named(path: Path) -> None:
    (found,) = server(path, "direct_io = true", "2025-10")
    assert "load" not in found.hint


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ('LLAMA_ARG_CTX_SIZE = "8192"', []),
        ('OTHER = "x"', []),
        ('LLAMA_ARG_NO_JINJA = "x"', []),  # its mere presence counts
        ('LLAMA_ARG_CTX_SIZE = "x"', [(ERROR, "not-a-number")]),
        ('LLAMA_ARG_SPLIT_MODE = "x"', [(ERROR, "bad-choice")]),
        ('LLAMA_ARG_JINJA = "yes"', [(ERROR, "bad-choice")]),
        ('LLAMA_ARG_ENDPOINT_METRICS = "yes"', [(WARNING, "bad-choice")]),
        ('LLAMA_ARG_DRAFT_MAX = "1"', [(ERROR, "removed-option")]),
        ('LLAMA_ARG_DEFRAG_THOLD = "x"', [(NOTE, "deprecated-option")]),  # passed over by the server
        ('LLAMA_ARG_CTXSIZE = "1"', [(WARNING, "unknown-variable")]),
    ],
)
def test_variables_are_checked_like_options(path: Path, env: str, expected: list[tuple[Level, str]]) -> None:
    text = f'[instance.a.server]\nmodel = "x"\n[instance.a.control.env]\n{env}\n'
    found = checked(path, text, of(NOW))[1]
    assert [(one.level, one.code) for one in found] == expected
    assert all(one.place.line == 4 for one in found)


@pytest.mark.parametrize(
    "body",
    [
        'extra_args = ["--api-key=sk-secret"]',
        'extra_args = ["--api-key sk-secret"]',
        'extra_args = ["--api_keys=sk-secret"]',
        'extra_args = ["--api-key", "x", "sk-secret"]',
        'extra_args = ["--hf-token", "sk-secret"]\nhf_token = "sk-secret2"',
        'apikey = "sk-secret"',
    ],
)
def test_secret_is_never_repeated(path: Path, body: str) -> None:
    found = server(path, body)
    assert found
    assert not [one for one in found if "secret" in one.message + one.hint]


def test_long_value_is_shortened(path: Path) -> None:
    (found,) = server(path, f'split_mode = "{"/folder" * 40}/end"')
    assert "/end" in found.message
    assert len(found.message) < 120


def test_control_characters_are_not_repeated(path: Path) -> None:
    (found,) = server(path, 'split_mode = "\\u001b[31m"')
    assert "\x1b" not in found.message


def test_without_a_catalogue_nothing_is_told(path: Path) -> None:
    subject, found = checked(
        path, '[instance.a.server]\nctx_sise = 1\nn_gpu_layers = 9\nextra_args = ["-fa"]\n', None
    )
    assert not found
    assert not subject.is_sure
    assert subject.options == {"gpu-layers": "9", "flash-attn": "", "port": "8080"}


@pytest.mark.parametrize("age", AGES)
def test_subject_is_sure_of_a_complete_list_only(path: Path, age: str) -> None:
    subject, _ = checked(path, '[instance.a.server]\nmodel = "x"\n', of(age))
    assert subject.is_sure == of(age).is_complete


def test_subject_has_every_option_with_its_place(path: Path) -> None:
    text = (
        '[instance.server]\nhost = "::1"\n[instance.a.server]\nextra_args = [\n"-ngl", "9",\n"-nkvo"]\nmodel = "x"\n'
        '[instance.a.control.env]\nLLAMA_ARG_PORT = "81"\n'
    )
    subject, found = checked(path, text, of(NOW))
    assert not found
    assert subject.options == {"port": "81", "gpu-layers": "9", "no-kv-offload": "", "host": "::1", "model": "x"}
    lines = {option: subject.place_of(option).line for option in subject.options}
    assert lines == {"port": 9, "gpu-layers": 5, "no-kv-offload": 6, "host": 2, "model": 7}


def test_option_that_we_set_has_the_place_of_the_instance(path: Path) -> None:
    subject, _ = checked(path, '[instance.a.server]\nmodel = "x"\n', of(NOW))
    assert subject.options["port"] == "8080"
    assert subject.place_of("port").key == "instance.a"
