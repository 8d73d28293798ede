"""Chat templates: how a conversation becomes text, for models that come without one or where a recipe asks for one.

In each of ours {% generation %} marks what the assistant says, and the EOS token stands inside it, at its end: it is
learned with the answer, so the tuned model learns to stop.
"""

import os
import resource
import select
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from jinja2 import TemplateError
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from workbench.engine.data.chat_template import NAMES, resolve_chat_template
from workbench.engine.errors import InputError
from workbench.engine.text import one_line

_BOS = "{{- bos_token if bos_token else '' -}}"

# The space stands before the answer, not at the end of the prompt: there it would be a token of its own, which the
# model never saw while it learned, for tokenizers join a space to the word behind it.
PLAIN_TEMPLATE = _BOS + r"""
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{- 'Assistant:' -}}{%- generation -%}{{- ' ' + message['content'] + eos_token -}}{%- endgeneration -%}{{- '\n' -}}
{%- else -%}
{{- message['role'] | capitalize + ': ' + message['content'] + '\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}"""

# How an answer ends depends on the tokenizer: see `_template`.
CHATML_TEMPLATE = _BOS + r"""
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\n' -}}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{- message['content'] + END -}}{%- endgeneration -%}
{{- '\n' -}}
{%- else -%}
{{- message['content'] + '<|im_end|>\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"""

LLAMA_3_TEMPLATE = _BOS + r"""
{%- for message in messages -%}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' -}}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{- message['content'] | trim + END -}}{%- endgeneration -%}
{%- else -%}
{{- message['content'] | trim + '<|eot_id|>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}{%- endif -%}"""

# The preamble is the one of Stanford Alpaca's prompt for instructions without an input.
ALPACA_TEMPLATE = _BOS + r"""
{%- if messages[0]['role'] == 'system' -%}
{{- messages[0]['content'] + '\n\n' -}}
{%- else -%}
{{- 'Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n' -}}
{%- endif -%}
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{- '### Response:\n' -}}
{%- generation -%}{{- message['content'] + eos_token -}}{%- endgeneration -%}
{{- '\n\n' -}}
{%- elif message['role'] == 'user' -%}
{{- '### Instruction:\n' + message['content'] + '\n\n' -}}
{%- elif message['role'] != 'system' or not loop.first -%}
{{- '### ' + message['role'] | capitalize + ':\n' + message['content'] + '\n\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '### Response:\n' -}}{%- endif -%}"""

TEMPLATES = {"chatml": CHATML_TEMPLATE, "llama-3": LLAMA_3_TEMPLATE, "alpaca": ALPACA_TEMPLATE, "plain": PLAIN_TEMPLATE}
assert ("auto", *TEMPLATES) == NAMES

_END_OF_TURN = {"chatml": "<|im_end|>", "llama-3": "<|eot_id|>"}

# A template is a program that came with the model; a real one renders in well under a millisecond.
_SECONDS = 5.0
_MOST_MEMORY = 512 << 20
_RENDERED = "rendered"
_MOST_BYTES = 1_000_000
_PROBE = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


@dataclass(frozen=True)
class TemplateChoice:
    """The template that a tokenizer was given: its `name` as in `workbench data`, and whether it is the model's own."""

    name: str
    own: bool


def choose_template(tokenizer: PreTrainedTokenizerBase, wanted: str, *, own: bool, model: str,
                    base_dir: Path | None = None) -> TemplateChoice:
    """Give the tokenizer the template that a recipe's `data.chat_template` asks for, and try it.

    `own` says whether the one that it has is the model's; relative files start from `base_dir`. The tokenizer is saved
    with what is trained, so the template is what chat will use. Raises InputError for a template that is not known,
    cannot be read, raises, or does not come to an end.
    """
    if wanted == "auto":
        choice = TemplateChoice("the model's own" if own else "plain", own)
    elif wanted in TEMPLATES:
        tokenizer.chat_template = _template(wanted, tokenizer)
        choice = TemplateChoice(wanted, own=False)
    else:
        tokenizer.chat_template = _read(wanted, base_dir)
        choice = TemplateChoice(Path(wanted).name, own=False)
    _try(tokenizer, model if choice.own else choice.name)
    return choice


def _template(name: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """One of ours, its answers ended by the end-of-turn token where the tokenizer has it; generation stops at EOS, so
    that follows where it is another token, and stands alone where the first would be mere text."""
    mark = _END_OF_TURN.get(name, "")
    known = mark in tokenizer.get_vocab() and mark != tokenizer.eos_token
    return TEMPLATES[name].replace("END ", f"'{mark}' + eos_token " if known else "eos_token ")


def _read(wanted: str, base_dir: Path | None) -> str:
    path = Path(resolve_chat_template(wanted, base_dir))
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path} is larger than 1 MB: this is not a chat template.")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The chat template {path} cannot be read: {one_line(str(error), 120)}.") from None


def _try(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Render a short conversation. Raises InputError when the template raises, takes too long or too much memory.

    In a forked child: one multiplication can hold the interpreter for hours, or ask for all the memory there is, and
    only a process can be ended in the middle of that.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, _fault_of(tokenizer, name).encode("utf-8", "replace")[:4096])
        os._exit(0)
    os.close(writer)
    try:
        answered = bool(select.select([reader], [], [], _SECONDS)[0])
        answer = os.read(reader, 4096).decode(errors="replace") if answered else ""
    finally:
        os.close(reader)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if not answered:
        raise InputError(f"The chat template of {name} does not come to an end.", _HINT)
    if answer != _RENDERED:
        raise InputError(answer or f"The chat template of {name} ends the process that renders it.", _HINT)


def _fault_of(tokenizer: PreTrainedTokenizerBase, name: str) -> str:
    """What is wrong with the template, in a sentence; `_RENDERED` when nothing is. For the child: it never returns an
    exception, and limits its own memory."""
    try:
        allowed = psutil.Process().memory_info().vms + _MOST_MEMORY
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
        rendered = tokenizer.apply_chat_template(_PROBE, tokenize=False)
        return _RENDERED if str(rendered).strip() else f"The chat template of {name} renders nothing."
    except MemoryError:
        return f"The chat template of {name} asks for more than {_MOST_MEMORY >> 20} MiB of memory."
    except BaseException as error:  # the parent waits for a word
        return template_error(name, error).message


_HINT = "Choose another with data.chat_template: chatml, llama-3, alpaca, plain, or a Jinja file."


def template_error(name: str, error: BaseException) -> InputError:
    """What a template raised, in a sentence; `name` is the model's or the file's."""
    kind = "" if isinstance(error, TemplateError) else f"{type(error).__name__}: "
    line = f" (line {error.lineno})" if getattr(error, "lineno", None) else ""
    return InputError(f"The chat template of {name} fails{line}: {kind}{one_line(str(error), 160).rstrip('.')}.", _HINT)
