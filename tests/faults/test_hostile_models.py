"""Model folders and adapters that mean harm: nothing in them runs, nothing asks, and what is refused says why."""

import builtins
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.engine.catalog.models import resolve_model
from workbench.engine.errors import WorkbenchError
from workbench.engine.paths import assets_dir
from workbench.worker import adapters
from workbench.worker.data.templates import choose_template
from workbench.worker.loading import load_model, load_tokenizer

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
MODULE = "import pathlib\npathlib.Path({sentinel!r}).write_text('pwned')\nclass Evil: ...\n"


class Pickled:
    """Writes the sentinel when it is unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self._sentinel = sentinel

    def __reduce__(self) -> Any:
        return Path.write_text, (self._sentinel, "pwned")


@pytest.fixture
def sentinel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that only an attack would write; nothing may ask the user anything either."""
    def ask(*arguments: object) -> str:
        raise AssertionError("it asked")

    monkeypatch.setattr(builtins, "input", ask)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "model"))
    yield tmp_path / "sentinel"
    assert not (tmp_path / "sentinel").exists(), "it ran"


@pytest.fixture
def model(tmp_path: Path, sentinel: Path) -> Path:
    """The built-in model with harmful files beside its own, which nobody should look at."""
    folder = Path(shutil.copytree(assets_dir() / "tiny_base", tmp_path / "model"))
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save(Pickled(sentinel), folder / name)
    for name in ("modeling_evil.py", "custom_generate/generate.py", "setup.py", "sitecustomize.py", "llama.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(MODULE.format(sentinel=str(sentinel)))
    return folder


def change(path: Path, **settings: Any) -> None:
    """Set some keys of a JSON file; dotted by two underscores."""
    document = json.loads(path.read_text()) if path.exists() else {}
    document.update(settings)
    path.write_text(json.dumps(document))


def load(folder: Path) -> str:
    """Load all of it and let it answer."""
    source = resolve_model(str(folder))
    tokenizer, own = load_tokenizer(source)
    choose_template(tokenizer, "auto", own=own, model=source.name)
    loaded = load_model(source, dtype=torch.float32, device=CPU)
    if source.adapter is not None:
        adapters.check_artefact(source)
        loaded = adapters.put_on(loaded, source.adapter, source.label)  # type: ignore[assignment]
    inputs = tokenizer("What is LoRA?", return_tensors="pt")
    output = loaded.generate(input_ids=inputs["input_ids"], max_new_tokens=2, pad_token_id=tokenizer.pad_token_id)
    return str(tokenizer.decode(output[0]))


def test_files_beside_a_whole_model_are_not_looked_at(model: Path) -> None:
    assert "LoRA" in load(model)


EVIL_MAP = {"AutoConfig": "modeling_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil",
            "AutoTokenizer": [None, "modeling_evil.Evil"]}


@pytest.mark.parametrize(("file", "settings", "words"), [
    ("config.json", {"auto_map": EVIL_MAP}, "auto_map"),
    ("tokenizer_config.json", {"auto_map": EVIL_MAP}, "auto_map"),
    ("config.json", {"text_config": {"auto_map": EVIL_MAP}}, "auto_map"),
    ("config.json", {"model_type": "evil", "auto_map": EVIL_MAP}, "auto_map"),
    ("config.json", {"_attn_implementation_internal": "evil/kernel"}, "kernel"),
    ("config.json", {"_attn_implementation": "evil/kernel@main:attack"}, "kernel"),
    ("config.json", {"attn_implementation": {"": "evil/kernel"}}, "kernel"),
    ("config.json", {"_experts_implementation": "evil/kernel"}, "kernel"),
    ("generation_config.json", {"custom_generate": "evil/repo"}, "custom_generate"),
    ("generation_config.json", {"auto_map": EVIL_MAP}, "auto_map"),
    ("config.json", {"quantization_config": {"quant_method": "mxfp4"}}, "quant"),
    ("config.json", {"quantization_config": {"quant_method": "evil"}}, "quant"),
    ("config.json", {"use_kernels": True}, "kernel"),
    ("tokenizer_config.json", {"tokenizer_class": "Trainer"}, "tokenizer_class"),
    ("tokenizer_config.json", {"tokenizer_class": "modeling_evil.Evil"}, "tokenizer_class"),
])
def test_settings_that_select_code_are_refused(file: str, settings: dict[str, Any], words: str, model: Path) -> None:
    change(model / file, **settings)
    with pytest.raises(WorkbenchError, match=words) as caught:
        load(model)
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("spoil", [
    lambda folder: (folder / "model.safetensors").unlink(),
    lambda folder: shutil.copy(folder / "pytorch_model.bin", folder / "model.safetensors"),
    lambda folder: [(folder / "model.safetensors").unlink(), change(
        folder / "model.safetensors.index.json", weight_map={"lm_head.weight": "pytorch_model.bin"})],
    lambda folder: [(folder / "model.safetensors").unlink(), change(
        folder / "model.safetensors.index.json", weight_map={"lm_head.weight": "../../etc/passwd.safetensors"})],
])
def test_weights_that_are_pickled_or_elsewhere_are_refused(spoil: Callable[[Path], object], model: Path) -> None:
    spoil(model)
    with pytest.raises(WorkbenchError, match=r"safetensors|damaged|pytorch_model"):
        load(model)


TEMPLATES = {
    "system": "{{ cycler.__init__.__globals__.os.system('touch sentinel') }}",
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ raise_exception.__globals__['__builtins__']['open']('sentinel', 'w') }}",
    "format": "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "file": "{% include '/etc/passwd' %}", "import": "{% import 'os' as o %}{{ o.system('touch sentinel') }}",
    "change": "{% set _ = messages.append(1) %}", "mutate": "{% set _ = messages[0].update({'role': 'x'}) %}",
    "gigabytes": "{{ 'a' * 40000000000 }}", "doubling": "{% set n = namespace(s='a') %}{% for i in range(60) %}"
    "{% set n.s = n.s + n.s %}{% endfor %}{{ n.s }}", "power": "{{ 9 ** (9 ** 9) }}",
    "ranges": "{% for i in range(999999999) %}{% endfor %}",
    "loop": "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}x",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nothing": "", "broken": "{% for %}",
    "deep": "{{ " + "(" * 500 + "1" + ")" * 500 + " }}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_neither_reaches_out_nor_goes_on_for_ever(name: str, model: Path) -> None:
    (model / "chat_template.jinja").write_text(TEMPLATES[name])
    began = time.monotonic()
    source = resolve_model(str(model))
    with pytest.raises(WorkbenchError, match="chat template"):
        choose_template(load_tokenizer(source)[0], "auto", own=True, model=source.name)
    # Its own limit is five seconds; gigabytes would take the memory of everything else.
    assert time.monotonic() - began < 60


@pytest.fixture
def adapter(tmp_path: Path, model: Path) -> Path:
    """An adapter of the built-in model, with harmful files beside it."""
    from peft import LoraConfig, get_peft_model

    base = load_model(resolve_model("tiny-base"), dtype=torch.float32, device=CPU)
    made = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"]))
    folder = tmp_path / "adapter"
    made.save_pretrained(str(folder))
    change(folder / "adapter_config.json", base_model_name_or_path=str(assets_dir() / "tiny_base"))
    for name in ("training_args.bin", "adapter_model.bin"):
        shutil.copy(model / "pytorch_model.bin", folder / name)
    return folder


def test_adapters_that_name_code_or_hold_pickles_are_refused(adapter: Path, model: Path) -> None:
    assert "LoRA" in load(adapter)
    config = adapter / "adapter_config.json"
    whole = config.read_text()
    for settings in ({"auto_mapping": {"base_model_class": "Evil", "parent_library": "modeling_evil"}},
                     {"megatron_config": {"a": 1}, "megatron_core": "modeling_evil"}, {"peft_type": "EVIL"},
                     {"peft_type": "XLORA"}, {"base_model_name_or_path": "../model/../evil"},
                     {"base_model_name_or_path": "../../../../etc"}, {"base_model_name_or_path": ["a"]},
                     {"base_model_name_or_path": str(adapter)}):
        change(config, **settings)
        with pytest.raises(WorkbenchError):
            load(adapter)
        config.write_text(whole)
    # The base of an adapter is looked at like any other model.
    change(config, base_model_name_or_path=str(model))
    change(model / "config.json", auto_map=EVIL_MAP)
    with pytest.raises(WorkbenchError, match="auto_map"):
        load(adapter)
    config.write_text(whole)
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(WorkbenchError, match="safetensors"):
        load(adapter)
