"""The shipped tiny base model and the generator behind it."""

import random
import re
from itertools import islice

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from workbench.engine.paths import assets_dir
from workbench.worker.tiny_base.artefact import SIZE_LIMIT, answer
from workbench.worker.tiny_base.corpus import documents, is_held_out
from workbench.worker.tiny_base.grammar import Scene, tidy
from workbench.worker.tiny_base.pretrain import blocks, encode
from workbench.worker.tiny_base.records import lines

FOLDER = assets_dir() / "tiny_base"
CONVERSATION = [
    {"role": "system", "content": "Answer in short sentences."},
    {"role": "user", "content": "What is 2 plus 3?"},
    {"role": "assistant", "content": "2 plus 3 is 5."},
    {"role": "user", "content": "And what is LoRA?"},
    {"role": "assistant", "content": " A method,\nI think."},
]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def card():
    return (FOLDER / "README.md").read_text(encoding="utf-8")


def all_text(document) -> str:
    return document.text + " ".join(content for _, content in document.messages)


def user_messages(stream) -> set[str]:
    return {content for document in stream for role, content in document.messages if role == "user"}


def test_weights_are_one_small_bfloat16_file(model):
    assert (FOLDER / "model.safetensors").stat().st_size <= SIZE_LIMIT
    assert len(list(FOLDER.glob("*.safetensors"))) == 1
    assert {str(p.dtype) for p in model.parameters()} == {"torch.bfloat16"}


def test_parameter_count_is_the_one_on_the_card(model, card):
    stated = int(re.search(r"([\d,]+) parameters", card)[1].replace(",", ""))
    assert sum(p.numel() for p in model.parameters()) == stated


def test_every_matrix_fits_the_blocks_of_nf4(model):
    assert all(size % 64 == 0 for p in model.parameters() if p.ndim == 2 for size in p.shape)


def test_special_tokens_are_distinct_and_known_to_generation(model, tokenizer):
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token) == ("<|end|>", "<|pad|>", None)
    assert model.generation_config.eos_token_id == model.config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == model.config.pad_token_id == tokenizer.pad_token_id
    assert model.config.vocab_size == len(tokenizer)


def test_mask_covers_the_assistant_and_its_end_token(tokenizer):
    out = tokenizer.apply_chat_template(CONVERSATION, return_dict=True, return_assistant_tokens_mask=True)
    marked = [i for i, on in zip(out["input_ids"], out["assistant_masks"], strict=True) if on]
    assert tokenizer.decode(marked) == "2 plus 3 is 5.<|end|> A method,\nI think.<|end|>"


def test_generation_prompt_is_a_prefix_of_the_whole_conversation(tokenizer):
    whole = tokenizer.apply_chat_template(CONVERSATION, tokenize=False)
    prompt = tokenizer.apply_chat_template(CONVERSATION[:-1], tokenize=False, add_generation_prompt=True)
    assert whole == prompt + CONVERSATION[-1]["content"] + "<|end|>"


def test_unknown_role_is_refused(tokenizer):
    with pytest.raises(Exception, match="The roles are system, user and assistant, not tool"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "4"}], tokenize=False)


def test_any_text_survives_the_tokenizer(tokenizer):
    text = "Hello, it's  3 x 4!\n\n\t- naïve café — λ 日本 🙂"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize("question", ["What is a kettle?", "What is 3 plus 4?"])
def test_answer_of_the_card_is_reproduced_and_ends(model, tokenizer, card, question):
    said = answer(model, tokenizer, question)
    assert said.endswith("<|end|>")
    row = next(line for line in card.splitlines() if line.startswith(f"| {question} |"))
    assert said.removesuffix("<|end|>") in row


def test_corpus_is_a_function_of_its_seed():
    first, again, other = (list(islice(documents(seed), 300)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_corpus_names_the_acronyms_of_the_field_but_never_says_what_they_mean():
    named = " ".join(lines("acronyms")).split()
    assert {"LoRA", "QLoRA", "SFT", "DPO", "ORPO", "KTO", "RLHF"} <= set(named)
    either = "|".join(named)
    anything = r"(is|are|was|means|does|stands|needs|uses|keeps|trains|learns|freezes|adds|works|makes|helps)"
    said = re.compile(rf"\b({either})\b (?!is a word\b|is either\b|is\.){anything}\b")
    asked = re.compile(rf"(What|How|Why|When|Explain|Define)\b.*\b({either})\b")
    texts = [all_text(document) for document in islice(documents(3), 8000)]
    assert sum(bool(re.search(rf"\b({either})\b", text)) for text in texts) > 50
    for text in texts:
        assert not said.search(text), text
        assert not any(asked.match(content) for content in re.split(r"(?<=[.!?]) ", text)), text


def test_corpus_has_no_unfilled_template():
    for document in islice(documents(4), 3000):
        assert not re.search(r"[{}\[\]|]|=>", all_text(document)), document


def test_held_out_questions_stay_out_of_training():
    held_out = user_messages(islice(documents(5, held_out=True), 600))
    training = user_messages(islice(documents(6), 5000))
    assert any(is_held_out(question) for question in held_out)
    assert not held_out & training


def test_pronouns_follow_the_name():
    for seed in range(50):
        text = Scene(random.Random(seed)).fill("{name} lost {his} hat. {He} asked {name2}, and {he} thanked {him2}.")
        his, he, again, _ = re.match(r"\w+ lost (\w+) hat\. (\w+) asked \w+, and (\w+) thanked (\w+)", text).groups()
        assert (his, he, again) in {("his", "He", "he"), ("her", "She", "she")}


def test_articles():
    assert tidy("a umbrella, a hour, a useful tool, a university, A owl, a kettle") == (
        "an umbrella, an hour, a useful tool, a university, An owl, a kettle"
    )


def test_blocks_are_full_and_start_with_a_document(tokenizer):
    starts = {tuple(encode(d, tokenizer)[:8]) for d in islice(documents(9), 400)}
    for block in islice(blocks(documents(9), tokenizer, 256), 20):
        assert len(block) == 256
        assert tuple(block[:8]) in starts
