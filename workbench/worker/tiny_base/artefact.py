"""Writing the artefact folder: bfloat16 weights, tokenizer, generation defaults, model card."""

import copy
import json
import os
import shutil
from pathlib import Path
from string import Template

import torch
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.worker.tiny_base.pretrain import Outcome
from workbench.worker.tiny_base.records import DATA

SIZE_LIMIT = 8_000_000
SAMPLE_QUESTIONS = (
    "What is a kettle?",
    "Why do we sleep?",
    "How do I make tea?",
    "When should I use an umbrella?",
    "What is the difference between a boat and a ship?",
    "What is 3 plus 4?",
    "Where does an owl live?",
    "What is the opposite of cold?",
    "What is a language model?",
    "What is a gloopard?",
)
SAMPLE_PROMPTS = ("One day Anna lost her", "There was once a fox that")


def answer(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, question: str, limit: int = 80) -> str:
    """The greedy answer to one question, special tokens included, so that the end token shows."""
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    return _continue(model, tokenizer, ids, limit)


def complete(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str, limit: int = 80) -> str:
    """The greedy continuation of plain text, without the prompt."""
    return _continue(model, tokenizer, tokenizer(prompt, return_tensors="pt"), limit)


@torch.no_grad()
def _continue(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, ids: object, limit: int) -> str:
    inputs = {key: ids[key] for key in ("input_ids", "attention_mask")}  # type: ignore[index]
    out = model.generate(
        **inputs,
        max_new_tokens=limit,
        do_sample=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
    )
    text = tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=False)
    assert isinstance(text, str)
    return text


def rounded(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """A bfloat16 copy: what is stored, and what the card's samples come from."""
    return copy.deepcopy(model).to(torch.bfloat16).eval()


def write(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path, card: str) -> None:
    """Write the folder beside `out` and put it in its place.

    Raises:
        ValueError: the weights are over `SIZE_LIMIT` bytes.
    """
    fresh = out.with_name(out.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    stored = rounded(model)
    stored.config.use_cache = True
    stored.generation_config = GenerationConfig(
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=128,
    )
    stored.save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
    (fresh / "README.md").write_text(card, encoding="utf-8")
    _portable(fresh)
    size = (fresh / "model.safetensors").stat().st_size
    if size > SIZE_LIMIT:
        raise ValueError(f"the weights are {size:,} bytes, the limit is {SIZE_LIMIT:,}")
    old = out.with_name(out.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    os.replace(fresh, out)
    shutil.rmtree(old, ignore_errors=True)


def _portable(folder: Path) -> None:
    """Name the tokenizer class that every transformers version knows, and let everybody read the weights."""
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "model.safetensors").chmod(0o644)


def card(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, outcome: Outcome, command: str) -> str:
    """The model card, with measured figures and greedy samples of the stored weights."""
    stored, config, measured = rounded(model), model.config, outcome.validation
    questions = [(q, answer(stored, tokenizer, q)) for q in SAMPLE_QUESTIONS]
    prompts = [(p, complete(stored, tokenizer, p)) for p in SAMPLE_PROMPTS]
    template = Template((DATA / "model_card.md").read_text(encoding="utf-8"))
    return template.substitute(
        layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        intermediate_size=config.intermediate_size,
        positions=config.max_position_embeddings,
        vocab_size=config.vocab_size,
        parameters=f"{sum(p.numel() for p in model.parameters()):,}",
        tokens=f"{outcome.tokens:,}",
        steps=f"{outcome.steps:,}",
        minutes=f"{outcome.seconds / 60:.1f}",
        speed=f"{outcome.tokens / outcome.seconds:,.0f}",
        command=command,
        loss=f"{measured.loss:.3f}",
        perplexity=f"{measured.perplexity:.2f}",
        held_out_loss=f"{measured.held_out_loss:.3f}",
        held_out_perplexity=f"{measured.held_out_perplexity:.2f}",
        questions=_rows(questions),
        prompts=_rows(prompts),
    )


def _rows(samples: list[tuple[str, str]]) -> str:
    return "\n".join(f"| {asked} | {_cell(said)} |" for asked, said in samples)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("<|end|>", "`<|end|>`").replace("|", "\\|")
