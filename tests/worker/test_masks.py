"""What is learned of a row, as the run's own trainer and collator make it: of every objective, cut, packed."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from workbench.engine.catalog.models import resolve_model
from workbench.engine.data.examples import Located
from workbench.engine.data.sources import DataError
from workbench.engine.errors import InputError
from workbench.engine.paths import assets_dir
from workbench.engine.recipe import DatasetSettings, Recipe, TrainingSettings
from workbench.worker.data.assistant import labelled, marks_answers
from workbench.worker.data.prepared import pack, prepare, stand_in_trainer
from workbench.worker.data.templates import TEMPLATES, choose_template
from workbench.worker.data.token_facts import TokenFacts, generation_ends
from workbench.worker.data.views import TokenView, view_rows

pytestmark = pytest.mark.slow

ASK = [{"role": "user", "content": "What is LoRA?"}]
LONG = [{"role": "user", "content": "What is LoRA? " * 9}]
GOOD = [{"role": "assistant", "content": "Small matrices é."}]
BAD = [{"role": "assistant", "content": "A cat."}]
TALK = [{"role": "system", "content": "Short."}, *ASK, *GOOD, {"role": "user", "content": "And?"}, *BAD]
_MARKERS = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")


def recipe(objective: str, **training: Any) -> Recipe:
    return Recipe.model_validate({"model": "tiny-base", "dataset": DatasetSettings(path="glossary"),
                                  "objective": objective, "training": TrainingSettings(**training)})


def fresh_tokenizer() -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(assets_dir() / "tiny_base")
    return tokenizer


def marked(tokens: Sequence[str], trained: Sequence[bool]) -> str:
    return "".join(f"«{token}»" if learned else token for token, learned in zip(tokens, trained, strict=True)
                   ).replace("»«", "")


def shown(view: TokenView) -> str:
    return ("DROPPED " if view.dropped else "") + (f"{view.side}: " if view.side else "") + \
        marked(view.tokens, view.trained)


P = "<|user|>What is LoRA?<|end|><|assistant|>"


@pytest.mark.parametrize(("objective", "example", "seen"), [
    ("sft", {"messages": ASK + GOOD}, [f"{P}«Small matrices é.<|end|>»"]),
    ("sft", {"messages": TALK}, [f"<|system|>Short.<|end|>{P}«Small matrices é.<|end|>»<|user|>And?<|end|><|assistant|>"
                                 "«A cat.<|end|>»"]),
    ("cpt", {"text": "Hello there"}, ["«Hello there<|end|>»"]),
    ("rt", {"chosen": "Good.", "rejected": "Bad one."}, ["chosen: «Good.<|end|>»", "rejected: «Bad one.<|end|>»"]),
    ("dpo", {"prompt": ASK, "chosen": GOOD, "rejected": BAD},
     [f"chosen: {P}«Small matrices é.<|end|>»", f"rejected: {P}«A cat.<|end|>»"]),
    ("orpo", {"prompt": ASK, "chosen": GOOD, "rejected": BAD},
     [f"chosen: «{P}Small matrices é.<|end|>»", f"rejected: {P}«A cat.<|end|>»"]),
    ("orpo", {"prompt": ASK, "chosen": GOOD, "rejected": None}, [f"chosen: «{P}Small matrices é.<|end|>»"]),
    ("kto", {"prompt": ASK, "completion": GOOD, "label": True}, [f"good: {P}«Small matrices é.<|end|>»"]),
    ("kto", {"prompt": ASK, "completion": BAD, "label": False}, [f"bad: {P}«A cat.<|end|>»"]),
    # A reward is read at the last token.
    ("reward", {"chosen": ASK + GOOD, "rejected": ASK + BAD},
     [f"chosen: {P}Small matrices é.«<|end|>»", f"rejected: {P}A cat.«<|end|>»"]),
    ("rlhf", {"prompt": ASK, "answer": "x"}, [P]),
])
def test_what_each_objective_learns_of_a_row(objective: str, example: dict[str, Any], seen: list[str]) -> None:
    views, = view_rows(recipe(objective), fresh_tokenizer(), [example])
    assert [shown(view) for view in views] == seen
    assert all(view.truncated_at is None for view in views)


def test_special_tokens_and_characters_of_several_tokens() -> None:
    (view,), = view_rows(recipe("sft"), fresh_tokenizer(), [{"messages": ASK + GOOD}])
    assert [token for token, special in zip(view.tokens, view.special, strict=True) if special] == \
        ["<|user|>", "<|end|>", "<|assistant|>", "<|end|>"]
    place = view.tokens.index("é")
    assert view.tokens[place + 1] == ""  # its second byte
    (view,), = view_rows(recipe("cpt"), fresh_tokenizer(), [{"text": "a\x1b[31mb"}])
    assert "".join(view.tokens) == "a\\x1b[31mb<|end|>"


def test_a_cut_row_shows_where_and_a_dropped_one_keeps_its_place() -> None:
    rows = [{"messages": LONG + GOOD}, {"messages": ASK + GOOD}, {"messages": ASK + BAD}]
    dropped, cut, whole = (views[0] for views in view_rows(recipe("sft", max_length=14), fresh_tokenizer(), rows))
    assert (dropped.dropped, dropped.truncated_at, any(dropped.trained)) == (True, 14, False)
    assert (cut.dropped, cut.truncated_at) == (False, 14)
    assert marked(cut.tokens[:14], cut.trained[:14]) == f"{P}«Small matrices é»"
    assert not any(cut.trained[14:])
    assert (whole.dropped, whole.truncated_at) == (False, None)

    pairs = [{"chosen": ASK + GOOD, "rejected": LONG + BAD}, {"chosen": ASK + BAD, "rejected": ASK + BAD}]
    too_long, fits = view_rows(recipe("reward", max_length=14), fresh_tokenizer(), pairs)
    assert [(view.dropped, view.truncated_at) for view in too_long] == [(True, 14), (True, 14)]
    assert not any(view.dropped for view in fits)


def facts_of(chosen: Recipe, tokenizer: PreTrainedTokenizerBase, examples: list[dict[str, Any]]) -> TokenFacts:
    facts = TokenFacts(chosen, tokenizer, generation_ends(resolve_model("tiny-base"), tokenizer))
    facts.add([Located("a.jsonl", line, example) for line, example in enumerate(examples, 1)])
    return facts


def test_findings_name_the_rows() -> None:
    rows = [{"messages": LONG + GOOD}, {"messages": ASK + GOOD}, {"messages": ASK + BAD}]
    facts = facts_of(recipe("sft", max_length=14), fresh_tokenizer(), rows)
    assert {finding.id: (finding.count, finding.places) for finding in facts.findings()} == {
        "truncated": (1, ("a.jsonl:2",)), "fully-masked": (1, ("a.jsonl:1",))}
    document = facts.document(300)
    assert (document["truncated_rows"], document["tokens_lost"], document["fully_masked_rows"]) == (1, 3, 1)
    assert (document["token_lengths"]["max"], document["token_lengths"]["p50"]) == (58, 17)
    assert (document["eos_trained"], document["double_bos"], document["tokens_looked_at"]) == (True, False, 3)
    assert document["tokens_per_epoch"] == (14 + 12) * 100
    assert document["steps_per_epoch"] == 200 // 4 // 4 + 1
    assert sum(rows for _, rows in document["histogram"]) == 3


def test_an_answer_whose_end_is_not_learned_and_a_second_bos_are_found() -> None:
    tokenizer = fresh_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    found = facts_of(recipe("sft"), tokenizer, [{"messages": ASK + GOOD}]).findings()
    assert [(finding.id, finding.count) for finding in found] == [("eos-not-trained", 1)]

    tokenizer = fresh_tokenizer()
    tokenizer.bos_token = "<|system|>"
    found = facts_of(recipe("cpt"), tokenizer, [{"text": "<|system|><|system|>a"}, {"text": "<|system|>a"}]).findings()
    assert [(finding.id, finding.places) for finding in found] == [("double-bos", ("a.jsonl:1",))]


def test_a_row_that_the_template_refuses_is_named() -> None:
    rows = [{"messages": ASK + GOOD}] * 5 + [{"messages": [{"role": "tool", "content": "x"}, *GOOD]}]
    with pytest.raises(DataError, match=r"a\.jsonl:6: the row cannot be prepared: The roles are system, user"):
        facts_of(recipe("sft"), fresh_tokenizer(), rows)


def test_packing_keeps_rows_apart_and_whole() -> None:
    tokenizer = fresh_tokenizer()
    rows = [{"messages": ASK + GOOD}, {"messages": ASK + BAD}, {"messages": TALK}]
    alone = prepare(recipe("sft", max_length=64), tokenizer, rows)
    packed = list(pack(recipe("sft", max_length=64, packing=True), tokenizer, rows))
    pieces = [tuple(sequence.ids[start:end]) for sequence in packed
              for start, end in zip(sequence.starts, [*sequence.starts[1:], len(sequence.ids)], strict=True)]
    assert sorted(pieces) == sorted(tuple(sequences[0].ids) for sequences in alone.values())
    assert len(packed) < len(rows)
    assert sum(sum(sequence.trained) for sequence in packed) == sum(sum(s[0].trained) for s in alone.values())


def test_the_marked_tokens_are_the_loss() -> None:
    """The loss that the trainer computes is the mean over the marked tokens, and nothing else."""
    tokenizer = fresh_tokenizer()
    trainer = stand_in_trainer(recipe("sft"), tokenizer, [{"messages": TALK}], 1024)
    sequence = prepare(recipe("sft"), tokenizer, [{"messages": TALK}])[0][0]
    loss = trainer.compute_loss(trainer.model.eval(), trainer.data_collator([trainer.train_dataset[0]]))
    ids = torch.tensor([sequence.ids])
    log_probs = trainer.model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    each = log_probs.gather(1, ids[0, 1:, None])[:, 0]
    assert loss.item() == pytest.approx(-each[torch.tensor(sequence.trained[1:])].mean().item(), rel=1e-5)


@pytest.mark.parametrize("name", [*TEMPLATES, "own"])
def test_answers_are_found_under_a_template_that_does_not_mark_them(name: str) -> None:
    tokenizer = fresh_tokenizer()
    if name != "own":
        choose_template(tokenizer, name, own=True, model="tiny-base")
    marks = tokenizer.apply_chat_template(TALK, return_dict=True, return_assistant_tokens_mask=True)
    with_markers = prepare(recipe("sft"), tokenizer, [{"messages": TALK}])[0][0]
    tokenizer.chat_template = _MARKERS.sub("", tokenizer.chat_template)
    assert not marks_answers(tokenizer)
    derived = labelled(TALK, tokenizer)
    assert derived["input_ids"] == marks["input_ids"]
    assert [label != -100 for label in derived["labels"]] == [bool(mark) for mark in marks["assistant_masks"]]
    # The trainer of a run takes them.
    assert prepare(recipe("sft"), tokenizer, [{"messages": TALK}])[0][0] == with_markers


def test_a_family_that_trl_knows_is_left_to_trl() -> None:
    import trl

    tokenizer = fresh_tokenizer()
    tokenizer.bos_token = "<|system|>"
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / "llama3.jinja").read_text()
    assert marks_answers(tokenizer)
    learned = prepare(recipe("sft"), tokenizer, [{"messages": ASK + GOOD}])[0][0]
    assert [label != -100 for label in labelled(ASK + GOOD, tokenizer)["labels"]] == learned.trained


def test_answers_that_cannot_be_told_apart_are_refused() -> None:
    tokenizer = fresh_tokenizer()
    tokenizer.chat_template = "{{ messages | length }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    with pytest.raises(DataError, match=r"a\.jsonl:1: .* cannot be told apart: it renders a conversation's beginning"):
        facts_of(recipe("sft"), tokenizer, [{"messages": TALK}])


LOOP = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(("text", "says"), [
    (LOOP, "does not come to an end"),
    ("{{ raise_exception('not me') }}", "fails: not me."),
    ("{% if %}", "fails (line 1): Expected an expression"),
    ("{{ ''.__class__.__mro__ }}", "is unsafe"),
    ("", "renders nothing"),
])
def test_a_bad_template_is_a_sentence(text: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.worker.data.templates._SECONDS", 1.0)
    (tmp_path / "mine.jinja").write_text(text)
    with pytest.raises(InputError) as raised:
        choose_template(fresh_tokenizer(), "mine.jinja", own=True, model="m", base_dir=tmp_path)
    assert raised.value.message.startswith("The chat template of mine.jinja")
    assert says in raised.value.message


def test_an_answer_ends_with_the_turn_where_the_tokenizer_knows_its_end_and_with_eos_in_any_case() -> None:
    tokenizer = fresh_tokenizer()
    choose_template(tokenizer, "chatml", own=True, model="m")
    assert "Small matrices é.<|end|>\n" in str(tokenizer.apply_chat_template(ASK + GOOD, tokenize=False))
    tokenizer.add_tokens(["<|im_end|>"], special_tokens=True)
    choose_template(tokenizer, "chatml", own=True, model="m")
    assert "Small matrices é.<|im_end|><|end|>\n" in str(tokenizer.apply_chat_template(ASK + GOOD, tokenize=False))
    tokenizer.eos_token = "<|im_end|>"
    choose_template(tokenizer, "chatml", own=True, model="m")
    assert "Small matrices é.<|im_end|>\n" in str(tokenizer.apply_chat_template(ASK + GOOD, tokenize=False))


def test_an_unknown_template_gets_the_nearest_name() -> None:
    with pytest.raises(InputError) as raised:
        choose_template(fresh_tokenizer(), "chatlm", own=True, model="m")
    assert raised.value.hint == "Did you mean chatml?"
