"""The chat worker, really served: answers stream, stop, differ by side; what is damaged is refused by name."""

import contextlib
import json
import os
import queue
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from workbench.engine.chat_client import ChatClient, GenerationSettings, Message, Side, ask_once
from workbench.engine.chat_target import ChatTarget
from workbench.engine.errors import RunError
from workbench.engine.paths import assets_dir
from workbench.engine.recipe import QuantizationSettings
from workbench.engine.runs.manifest import write_complete

pytestmark = pytest.mark.slow

BASE = ChatTarget("tiny-base", "tiny-base", "tiny-base")


class Worker:
    """A client whose answers are awaited."""

    def __init__(self) -> None:
        self._answers: queue.Queue[Message] = queue.Queue()
        self.client = ChatClient(self._answers.put)

    def until(self, *kinds: str) -> tuple[Message, list[str]]:
        """The next message of these kinds, and the tokens' texts before it."""
        pieces = []
        while (message := self._answers.get(timeout=120))["type"] not in kinds:
            if message["type"] == "token":
                pieces.append(message["text"])
        return message, pieces

    def load(self, target: ChatTarget) -> Message:
        self.client.load(target)
        return self.until("loaded", "error", "died")[0]

    def ask(self, prompt: str, side: Side, max_new_tokens: int = 24, **settings: float) -> tuple[Message, list[str]]:
        self.client.chat([{"role": "user", "content": prompt}], side,
                         GenerationSettings(max_new_tokens=max_new_tokens, **settings))  # type: ignore[arg-type]
        return self.until("done", "error", "died")


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    served = Worker()
    yield served
    served.client.close()


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> ChatTarget:
    """A LoRA adapter over tiny-base whose B is not zero, saved as a run saves it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = assets_dir() / "tiny_base"
    torch.manual_seed(0)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
                           LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    directory = tmp_path_factory.mktemp("run") / "model"

    def fill(partial: Path) -> None:
        model.save_pretrained(partial)
        AutoTokenizer.from_pretrained(base).save_pretrained(partial)

    write_complete(directory, fill, {"step": 4})
    return ChatTarget("demo · step 4", "tiny-base", "tiny-base", adapter=directory, tuning="lora",
                      verified_by_manifest=True)


def copy_of(target: ChatTarget, folder: Path, change: Callable[[Path], None]) -> ChatTarget:
    """The adapter copied, changed, and no longer the workbench's own."""
    assert target.adapter is not None
    shutil.copytree(target.adapter, folder)
    change(folder)
    return replace(target, adapter=folder, verified_by_manifest=False)


def test_an_answer_streams_and_says_its_pace(worker: Worker) -> None:
    loaded = worker.load(BASE)
    assert (loaded["sides"], loaded["titles"]) == (["base"], {"base": "tiny-base"})
    done, pieces = worker.ask("What is a dog?", "base", max_new_tokens=8)
    assert "".join(pieces).strip() == done["text"] != ""
    assert len(pieces) > 1
    assert (done["tokens"], done["finish"]) == (8, "length") or done["finish"] == "stop"
    assert done["time_to_first_token"] > 0
    assert done["tokens_per_second"] > 0


def test_adapter_and_base_answer_from_one_model(worker: Worker, adapter: ChatTarget) -> None:
    worker.load(BASE)
    alone = worker.ask("What is a dog?", "base")[0]["text"]
    loaded = worker.load(adapter)
    assert loaded["sides"] == ["tuned", "base"]
    assert loaded["titles"]["tuned"] == "demo · step 4"
    tuned = worker.ask("What is a dog?", "tuned")[0]["text"]
    assert worker.ask("What is a dog?", "base")[0]["text"] == alone != tuned
    # Switched back on after the base spoke.
    assert worker.ask("What is a dog?", "tuned")[0]["text"] == tuned


def test_the_seed_decides_a_warm_answer(worker: Worker, adapter: ChatTarget) -> None:
    worker.load(adapter)
    first, again, other = (worker.ask("What is a dog?", "tuned", temperature=1.5, seed=seed)[0]["text"]
                           for seed in (1, 1, 2))
    assert first == again != other


def test_a_cancelled_answer_keeps_its_text_and_the_worker_stays_usable(worker: Worker, adapter: ChatTarget) -> None:
    worker.load(adapter)
    request = worker.client.chat([{"role": "user", "content": "Tell me all"}], "tuned",
                                 GenerationSettings(temperature=2.0, max_new_tokens=400))
    _, _ = worker.until("token")
    worker.client.cancel(request)
    done, _ = worker.until("done")
    assert (done["id"], done["finish"]) == (request, "cancelled")
    assert 1 <= done["tokens"] < 400
    assert worker.ask("What is a dog?", "base")[0]["text"]


def test_a_full_run_loads_its_base_when_asked(worker: Worker, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(assets_dir() / "tiny_base", dtype=torch.float32)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    write_complete(tmp_path / "model", lambda partial: model.save_pretrained(partial), {"step": 4})
    target = ChatTarget("full", "tiny-base", "tiny-base", model=tmp_path / "model", tuning="full",
                        verified_by_manifest=True)
    assert worker.load(target)["sides"] == ["tuned", "base"]
    tuned = worker.ask("What is a dog?", "tuned")[0]["text"]
    base = worker.ask("What is a dog?", "base")[0]["text"]
    worker.load(BASE)
    assert worker.ask("What is a dog?", "base")[0]["text"] == base != tuned


def test_qlora_quantises_the_base(worker: Worker, adapter: ChatTarget) -> None:
    worker.load(replace(adapter, tuning="qlora", quantization=QuantizationSettings()))
    assert worker.ask("What is a dog?", "tuned")[0]["type"] == "done"


def test_a_conversation_longer_than_the_context_is_refused(worker: Worker) -> None:
    worker.load(BASE)
    error, _ = worker.ask("word " * 600, "base")
    assert "reads at most 512" in error["message"]
    assert worker.ask("What is a dog?", "base", max_new_tokens=4)[0]["type"] == "done"


def test_a_damaged_checkpoint_is_refused_by_name(worker: Worker, adapter: ChatTarget, tmp_path: Path) -> None:
    def flip(folder: Path) -> None:
        weights = folder / "adapter_model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)

    damaged = replace(copy_of(adapter, tmp_path / "copy", flip), verified_by_manifest=True)
    answer = worker.load(damaged)
    assert answer["type"] == "error"
    assert "adapter_model.safetensors is damaged" in answer["message"]


def test_an_incomplete_adapter_is_refused(worker: Worker, adapter: ChatTarget, tmp_path: Path) -> None:
    def lose_one(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        weights = load_file(folder / "adapter_model.safetensors")
        weights.pop(min(weights))
        save_file(weights, folder / "adapter_model.safetensors")

    assert "lacks 1 of its weights" in worker.load(copy_of(adapter, tmp_path / "copy", lose_one))["message"]


def test_a_model_without_some_weights_is_refused(worker: Worker, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(assets_dir() / "tiny_base", tmp_path / "holes")
    weights = load_file(tmp_path / "holes" / "model.safetensors")
    weights.pop("model.layers.0.mlp.up_proj.weight")
    save_file(weights, tmp_path / "holes" / "model.safetensors", metadata={"format": "pt"})
    answer = worker.load(ChatTarget("holes", str(tmp_path / "holes"), "holes"))
    assert "model.layers.0.mlp.up_proj.weight" in answer["message"]


@pytest.mark.parametrize(("setting", "value", "words"), [
    ("peft_type", "IA3", "only LoRA"), ("auto_mapping", {"parent_library": "antigravity"}, "names code to run")])
def test_an_adapter_that_could_run_code_is_refused(worker: Worker, adapter: ChatTarget, tmp_path: Path, setting: str,
                                                   value: object, words: str) -> None:
    def change(folder: Path) -> None:
        config = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps({**config, setting: value}))

    assert words in worker.load(copy_of(adapter, tmp_path / "copy", change))["message"]


def test_pickled_adapter_weights_are_refused(worker: Worker, adapter: ChatTarget, tmp_path: Path) -> None:
    def rename(folder: Path) -> None:
        (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")

    assert "has no adapter_model.safetensors" in worker.load(copy_of(adapter, tmp_path / "copy", rename))["message"]


def test_chatting_before_loading_and_after_a_refusal_is_an_error(worker: Worker) -> None:
    worker.load(ChatTarget("gone", "/nowhere", "gone"))
    assert worker.ask("What is a dog?", "base")[0]["message"] == "No model is loaded."


def test_a_killed_worker_is_reported_even_while_it_answers() -> None:
    served = Worker()
    with contextlib.closing(served.client):
        served.load(BASE)
        served.client.chat([{"role": "user", "content": "Tell me all"}], "base",
                           GenerationSettings(temperature=2.0, max_new_tokens=400))
        served.until("token")
        os.kill(served.client.pid, signal.SIGKILL)
        assert "killed" in served.until("died")[0]["explanation"]


def test_the_worker_leaves_with_its_screen_even_while_it_answers() -> None:
    served = Worker()
    served.load(BASE)
    served.client.chat([{"role": "user", "content": "Tell me all"}], "base",
                       GenerationSettings(temperature=2.0, max_new_tokens=400))
    served.until("token")
    process = psutil.Process(served.client.pid)
    assert served.client._process.stdin is not None
    served.client._process.stdin.close()  # as the kernel does for a screen that was killed
    served.until("died")
    assert not process.is_running()


def test_asking_once(adapter: ChatTarget) -> None:
    answer = ask_once(adapter, "What is a dog?", max_new_tokens=6)
    assert answer["model"] == "demo · step 4"
    assert set(answer) == {"model", "text", "tokens", "time_to_first_token", "tokens_per_second", "finish"}
    with pytest.raises(RunError, match="No model called '/nowhere'"):
        ask_once(ChatTarget("gone", "/nowhere", "gone"), "x")


def test_characters_of_several_tokens_are_streamed_whole() -> None:
    import torch
    from transformers import AutoTokenizer

    from workbench.worker.chat import _TokenStream

    text = "naïve café, 日本語 and 🙂 — done"
    tokenizer = AutoTokenizer.from_pretrained(assets_dir() / "tiny_base")
    pieces: list[str] = []
    stream = _TokenStream(tokenizer, pieces.append, lambda: False)
    stream.put(torch.tensor([[1, 2, 3]]))
    for token in tokenizer.encode(text, add_special_tokens=False):
        stream.put(torch.tensor([token]))
    stream.end()
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)
    assert len(stream.tokens) > len(pieces) > 5
