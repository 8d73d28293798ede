"""The model's own byte-level BPE tokenizer and its chat template."""

from collections.abc import Iterator
from itertools import islice

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from workbench.worker.tiny_base.corpus import documents
from workbench.worker.tiny_base.records import lines

VOCAB_SIZE = 3072
MAX_LENGTH = 512
PAD, END = "<|pad|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{- '<|assistant|>' -}}
{%- generation -%}
{{- message['content'] + '<|end|>' -}}
{%- endgeneration -%}
{%- elif message['role'] in ['system', 'user'] -%}
{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}
{%- else -%}
{{- raise_exception('The roles are system, user and assistant, not ' + message['role']) -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"""

# A digit is a token, so that sums are learned by digit; the rest follows the usual words-with-their-space split.
_SPLIT = Regex(r"'(?:s|t|re|ve|m|ll|d)|\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
_TRAINING_DOCUMENTS = 30_000
_FIELD_REPEATS = 40


def training_texts(seed: int) -> Iterator[str]:
    """What the merges are learned from: the corpus, and the words of the field, so that each is few tokens."""
    for document in islice(documents(seed), _TRAINING_DOCUMENTS):
        yield document.text
        yield from (content for _, content in document.messages)
    for _ in range(_FIELD_REPEATS):
        for line in lines("field_words"):
            yield " " + line


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """A tokenizer of `VOCAB_SIZE` tokens; the same seed gives the same merges."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_SPLIT, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    special = [AddedToken(text, normalized=False, special=True) for text in (PAD, END, *ROLES)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    bpe.train_from_iterator(training_texts(seed), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=list(ROLES),
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
        padding_side="right",
        chat_template=CHAT_TEMPLATE,
    )
