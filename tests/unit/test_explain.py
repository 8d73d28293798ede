"""Explanations: every figure follows from the model and the formulas, checked by other ways of computing it."""

import json
import struct
from math import isclose, log
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import RunCommand
from workbench.engine.catalog.architecture import architecture_from_config
from workbench.engine.catalog.models import resolve_model
from workbench.engine.errors import InputError
from workbench.engine.explain import losses, quantization
from workbench.engine.explain.document import Table, signed, to_ascii
from workbench.engine.explain.lora import EXAMPLE, adapted_matrices, adapted_matrix, smallest_full_rank
from workbench.engine.explain.objectives import LESSONS
from workbench.engine.explain.tensors import middle_matrix, read_sample
from workbench.engine.explain.topics import TOPICS, Subject, explain, subject_of
from workbench.engine.explain.weights import study_weights
from workbench.engine.objectives import OBJECTIVES
from workbench.engine.paths import assets_dir
from workbench.engine.recipe import DatasetSettings, LoraSettings, Recipe

TINY = assets_dir() / "tiny_base"
# Columns that the overlay leaves for a table in a terminal of 80.
_ROOM = 68


def subject(model: str = "tiny-base", lora_r: int = 16) -> Subject:
    return subject_of(Recipe(model=model, dataset=DatasetSettings(path="-"), lora=LoraSettings(lora_r=lora_r)))


def words(topic: str, model: str = "tiny-base", lora_r: int = 16) -> str:
    found = explain(topic, subject(model, lora_r))
    parts = [part for section in found.sections for part in (section.title, *section.parts)]
    return "\n".join("\n".join("  ".join(row) for row in part.rows) if isinstance(part, Table) else str(part)
                     for part in parts)


def write_safetensors(path: Path, tensors: dict[str, tuple[str, list[int], bytes]]) -> None:
    header, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_the_small_layer_of_the_lora_example() -> None:
    layer, r = EXAMPLE
    one = adapted_matrix(layer, r)
    assert (one.weights, one.adapter, f"{one.share:.2%}") == (262_144, 4_096, "1.56%")
    assert "512·4 + 4·512 = 4,096" in words("lora")


@pytest.mark.parametrize("model", ["tiny-base", "meta-llama/Llama-3.1-8B", "Qwen/Qwen3-30B-A3B"])
@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "v_proj")])
def test_the_lines_of_the_lora_table_sum_to_what_is_trained(model: str, targets: str | tuple[str, ...]) -> None:
    architecture = architecture_from_config(resolve_model(model).config)
    matrices = adapted_matrices(architecture, 8, targets)
    assert sum(m.count * m.adapter for m in matrices) == architecture.lora_parameters(8, targets)
    assert architecture.lora_parameters(16, targets) == 2 * architecture.lora_parameters(8, targets)


def test_the_pair_outgrows_the_smallest_matrix_at_the_rank_that_is_named() -> None:
    architecture = architecture_from_config(resolve_model("tiny-base").config)
    r = smallest_full_rank(adapted_matrices(architecture, 1, "all-linear"))
    assert min(m.weights - m.adapter for m in adapted_matrices(architecture, r, "all-linear")) <= 0
    assert min(m.weights - m.adapter for m in adapted_matrices(architecture, r - 1, "all-linear")) > 0


def test_the_four_values_in_eight_bits() -> None:
    found = quantization.uniform(quantization.EXAMPLE, 8)
    assert isclose(found.scale * 255, 2.23)
    assert f"{found.scale:.5f}" == "0.00875"
    assert found.codes == (115, 167, 0, 255)
    assert found.largest_error <= found.scale / 2


def test_four_bits_and_nf4_take_the_nearest_of_what_they_have() -> None:
    uniform = quantization.uniform(quantization.EXAMPLE, 4)
    assert uniform.largest_error <= uniform.scale / 2
    assert max(uniform.codes) == 15
    found = quantization.nf4(quantization.EXAMPLE)
    for value, restored in zip(found.values, found.restored, strict=True):
        nearest = min(quantization.NF4, key=lambda level: abs(level * found.scale - value))
        assert restored == nearest * found.scale


@pytest.mark.parametrize("method", [lambda v: quantization.uniform(v, 8), quantization.nf4,
                                    lambda v: quantization.symmetric(v, 8)])
@pytest.mark.parametrize("values", [(0.0, 0.0), (3.0,), (-2.0, -2.0)])
def test_blocks_without_any_spread_come_back_whole(method, values) -> None:  # type: ignore[no-untyped-def]
    assert method(values).restored == pytest.approx(values)


def test_a_real_tensor_is_read_in_part_and_studied() -> None:
    sample = read_sample(middle_matrix(TINY), numbers=5_000)
    assert 0 < sum(map(len, sample.rows)) <= 5_000
    study = study_weights(TINY)
    assert study.sample.matrix.name.startswith("model.layers.2.")
    assert sum(study.counts) == sum(study.codes) == study.numbers
    eight, four, nf4 = (loss.rms_error for loss in study.losses)
    assert eight < nf4 < four < 0.2


def test_every_width_of_number_is_read_alike(tmp_path: Path) -> None:
    values = (1.5, -0.375, 0.0, 2.0)
    single = struct.pack("<4f", *values)
    stored = {"BF16": b"".join(single[i + 2:i + 4] for i in range(0, 16, 4)), "F16": struct.pack("<4e", *values),
              "F32": single, "F64": struct.pack("<4d", *values)}
    for dtype, raw in stored.items():
        write_safetensors(tmp_path / "model.safetensors", {"norm": ("F32", [1], b"1234"),
                                                           "layers.0.w": (dtype, [2, 2], raw)})
        assert read_sample(middle_matrix(tmp_path)).rows == (values[:2], values[2:])


@pytest.mark.parametrize(("content", "fault"), [
    (b"", "no safetensors file"), (b"\xff" * 8, "no safetensors file"),
    (b"\x05" + bytes(7) + b"xxxxx", "header of .* is damaged"),
    (b"\x02" + bytes(7) + b"[]", "header of .* is damaged"), (b"\x02" + bytes(7) + b"{}", "holds no")])
def test_a_broken_weight_file_is_explained(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=fault):
        study_weights(tmp_path)


def test_a_weight_file_that_ends_early_is_explained(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", {"layers.0.w": ("F32", [4, 4], bytes(64))})
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:-8])
    with pytest.raises(InputError, match=r"ends inside layers\.0\.w"):
        study_weights(tmp_path)


def test_a_sharded_model_is_read_through_its_index(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model-1.safetensors", {"layers.0.w": ("F32", [1, 1], struct.pack("<f", 1))})
    write_safetensors(tmp_path / "model-2.safetensors", {"layers.1.w": ("F32", [1, 1], struct.pack("<f", 2))})
    weight_map = {"layers.0.w": "model-1.safetensors", "layers.1.w": "model-2.safetensors", "x": "../x.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert read_sample(middle_matrix(tmp_path)).rows == ((2.0,),)


def test_preference_losses_start_at_log_two_and_fall_as_the_margin_grows() -> None:
    assert isclose(losses.dpo_loss(-9, -7, -9, -7, 0.1), log(2))
    assert isclose(losses.kto_loss(-9, -9, 0, 0.1, True), 0.5)
    assert isclose(losses.reward_loss(1, 1), log(2))
    margins = [losses.dpo_loss(-9 + step, -7, -9, -7, 0.1) for step in range(5)]
    assert margins == sorted(margins, reverse=True)
    assert losses.log_sigmoid(-800) == -800
    assert losses.sigmoid(-800) == 0


def test_orpo_is_the_likelihood_and_the_odds() -> None:
    chosen, rejected = log(0.6), log(0.3)
    odds = (0.6 / 0.4) / (0.3 / 0.7)
    assert isclose(losses.log_odds_ratio(chosen, rejected), log(odds))
    assert isclose(losses.orpo_loss(chosen, rejected, 0.5), -chosen + 0.5 * log(1 + 1 / odds))


def test_advantages_compare_answers_of_one_prompt() -> None:
    rewards = (1.0, 0.0, 0.0, 1.0)
    assert losses.leave_one_out_advantages(rewards) == pytest.approx([2 / 3, -2 / 3, -2 / 3, 2 / 3])
    assert sum(losses.group_advantages(rewards)) == pytest.approx(0)
    assert losses.group_advantages((1.0, 1.0)) == [0.0, 0.0]
    assert losses.clipped_policy_loss(2.0, 1.0, 0.2) == -1.2
    assert losses.clipped_policy_loss(2.0, -1.0, 0.2) == 2.0


def test_every_objective_and_tuning_is_a_topic_that_answers() -> None:
    assert set(LESSONS) == set(OBJECTIVES)
    for topic in TOPICS:
        for model in ("tiny-base", "Qwen/Qwen3-30B-A3B", "nobody/unknown-model"):
            found = explain(topic, subject(model, 8))
            assert found.sections
            json.dumps(found.to_json())


def test_what_is_quantised_is_said_and_counted() -> None:
    text = words("qlora", "meta-llama/Llama-3.1-8B")
    assert "What is quantised is the frozen base, not the new weights" in text
    assert text.count("8,030,261,248") >= 4
    held = quantization.base_bytes(architecture_from_config(resolve_model("meta-llama/Llama-3.1-8B").config))
    assert held["none"] == 2 * 8_030_261_248
    assert held["nf4-double"] < held["nf4"] < held["int8"] < held["none"]


def test_an_unknown_model_is_said_to_be_unknown() -> None:
    assert "its shape is not known here" in words("lora", "nobody/unknown-model")
    with pytest.raises(InputError, match="nothing to explain"):
        explain("lora2", subject())


def test_numbers_align_and_ascii_stays_readable() -> None:
    assert [signed(value) for value in (0.5, -0.5, -0.00001)] == ["+0.5000", "−0.5000", "0.0000"]
    assert to_ascii("loss = −log σ(β · x) × 2 → 1 %") == "loss = -log sigma(beta * x) x 2 -> 1 %"
    for topic in TOPICS:
        assert "?" not in to_ascii(words(topic)).replace("Kahneman-Tversky", "")


@pytest.mark.parametrize("topic", TOPICS)
def test_tables_of_large_models_keep_to_eighty_columns(topic: str) -> None:
    for model in ("meta-llama/Llama-3.1-70B", "mistralai/Mixtral-8x7B-v0.1", "Qwen/Qwen3-30B-A3B"):
        for section in explain(topic, subject(model, 128)).sections:
            for part in section.parts:
                if isinstance(part, Table):
                    widths = (max(len(row[i]) for row in (part.header, *part.rows)) for i in range(len(part.header)))
                    assert sum(widths) + 2 * (len(part.header) - 1) <= _ROOM, (model, section.title)


def test_the_command(workbench: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    text = workbench("explain", "lora", "--lora-r", "4").stdout
    assert "ADAPTER r=4" in text
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert "512x512 layer" in workbench("explain", "lora").stdout
    figures = json.loads(workbench("explain", "quantization", "--json").stdout)
    assert figures["weights"]["tensor"].startswith("model.layers.")
    wrong = workbench("explain", "lorra")
    assert wrong.returncode == 2
    assert "Did you mean lora?" in wrong.stderr


@pytest.mark.slow
def test_codes_and_losses_are_those_of_the_libraries() -> None:
    torch = pytest.importorskip("torch")
    from bitsandbytes import functional
    from trl.experimental.orpo.orpo_trainer import ORPOTrainer

    assert functional.get_4bit_type("nf4", device="cpu").tolist() == list(quantization.NF4)
    row = read_sample(middle_matrix(TINY)).rows[0][:quantization.BLOCK]
    packed, state = functional.quantize_4bit(torch.tensor(row), blocksize=quantization.BLOCK, quant_type="nf4")
    restored = functional.dequantize_4bit(packed, state).flatten().tolist()
    assert list(quantization.nf4(row).restored) == pytest.approx(restored, abs=1e-6)
    trainer = SimpleNamespace(beta=0.1, accelerator=SimpleNamespace(device="cpu"))
    chosen, rejected = torch.tensor([log(0.6)]), torch.tensor([log(0.3)])
    ratio = ORPOTrainer.odds_ratio_loss(trainer, chosen, rejected)[0].item()
    assert losses.orpo_loss(log(0.6), log(0.3), 0.1) == pytest.approx(-log(0.6) - ratio, abs=1e-6)
