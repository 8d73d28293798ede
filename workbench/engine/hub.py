"""The Hugging Face Hub, asked before a launch whether it will give a model or a dataset: an answer within seconds."""

import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from workbench.engine.errors import InputError
from workbench.engine.text import one_line

SECONDS = 3.0
"""The longest a user is kept waiting, name resolution and connecting and all."""
HubStatus = Literal["ok", "offline", "gated", "missing", "busy", "unreachable"]
_FALSE = ("", "0", "false", "no", "off")
_LOGIN = "hf auth login, or set HF_TOKEN"


class HubError(InputError):
    """The Hub does not give what is asked of it; the message says why."""


@dataclass(frozen=True, slots=True)
class HubAnswer:
    """Whether something on the Hub can be read, in a sentence, and what to do where it cannot."""

    status: HubStatus
    message: str
    fix: str | None = None


def endpoint() -> str:
    """Where the Hub is: `HF_ENDPOINT`, else huggingface.co."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def is_offline() -> bool:
    """Whether the environment forbids asking the Hub."""
    return (os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or "").lower() not in _FALSE


def ask_hub(name: str, kind: Literal["model", "dataset"] = "model", seconds: float = SECONDS) -> HubAnswer:
    """Ask for a small file of a model or dataset, with the user's token if there is one. Never raises.

    The answer is there within `seconds`, whatever the network does. Blocks: not for an event loop.
    """
    if is_offline():
        return HubAnswer("offline", f"{name} is not on this disk, and HF_HUB_OFFLINE is set, so the Hub is not asked.",
                         f"Unset HF_HUB_OFFLINE, or bring it here: hf download {_option(kind)}{name}")
    answer = within(seconds, lambda: _ask(name, kind, seconds))
    return answer or HubAnswer("unreachable", f"{name} is not on this disk, and the Hub ({endpoint()}) did not answer "
                               f"within {seconds:g} s.", "Check the network, a proxy, and HF_ENDPOINT.")


def within(seconds: float, ask: Callable[[], HubAnswer]) -> HubAnswer | None:
    """What `ask` gives, or None when it takes longer: it is left behind, as nothing can interrupt a name lookup."""
    answers: queue.SimpleQueue[HubAnswer] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(ask()), daemon=True, name="ask-hub").start()
    try:
        return answers.get(timeout=seconds)
    except queue.Empty:
        return None


def _ask(name: str, kind: str, seconds: float) -> HubAnswer:
    # Here: most launches never need it.
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    file = "config.json" if kind == "model" else "README.md"
    try:
        get_hf_file_metadata(hf_hub_url(name, file, repo_type=kind, endpoint=endpoint()), timeout=seconds,
                             endpoint=endpoint())
    except errors.GatedRepoError:
        return HubAnswer("gated", f"{name} is gated, and this machine may not read it.",
                         f"Ask for access at {endpoint()}/{'datasets/' if kind == 'dataset' else ''}{name}, then: "
                         f"{_LOGIN}.")
    except errors.RepositoryNotFoundError:
        return HubAnswer("missing", f"There is no {kind} called {name} on the Hub, or it is private.",
                         f"Check the id; for a private one: {_LOGIN}.")
    except errors.EntryNotFoundError:
        if kind == "dataset":  # many have no card
            return HubAnswer("ok", f"{name} can be read from the Hub.")
        return HubAnswer("missing", f"{name} on the Hub has no {file}, so it is no model that transformers can load.",
                         "Name a model with config.json and safetensors weights.")
    except errors.HfHubHTTPError as error:
        return _refusal(name, getattr(error.response, "status_code", 0))
    except errors.OfflineModeIsEnabled:
        return HubAnswer("offline", f"{name} is not on this disk, and the Hub may not be asked.",
                         "Unset HF_HUB_OFFLINE.")
    except Exception as error:  # whatever the HTTP library raises without a network
        return HubAnswer("unreachable", f"{name} is not on this disk, and the Hub ({endpoint()}) cannot be reached: "
                         f"{one_line(str(error), 100) or type(error).__name__}.",
                         f"Check the network and HF_ENDPOINT, or bring it here: hf download {_option(kind)}{name}")
    return HubAnswer("ok", f"{name} can be read from the Hub.")


def _refusal(name: str, status: int) -> HubAnswer:
    if status == 429:
        return HubAnswer("busy", f"The Hub asks to wait before it gives {name}: too many requests (429).",
                         f"Try again in some minutes; with a token the limit is higher: {_LOGIN}.")
    if status in (401, 403):
        return HubAnswer("gated", f"The Hub refuses {name} with this machine's token ({status}).", f"{_LOGIN}.")
    if status == 404:
        return HubAnswer("missing", f"There is nothing called {name} at {endpoint()}.", "Check the id and HF_ENDPOINT.")
    return HubAnswer("unreachable", f"The Hub has trouble of its own ({status}) and does not give {name}.",
                     "Try again later: https://status.huggingface.co")


def _option(kind: str) -> str:
    return "--repo-type dataset " if kind == "dataset" else ""
