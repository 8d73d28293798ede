"""Common GPUs by name, to plan for one that isn't here."""

import difflib
import re

from workbench.engine.errors import InputError
from workbench.engine.hardware.gpus import Gpu

# Memory as NVML reports it (`nvidia-smi`, "Total"), in MiB. It is a little less than the label says where the card
# keeps ECC bits in the same memory.
CARDS: dict[str, int] = {
    "B200": 183_359,
    "H200": 143_771,
    "H100-NVL": 95_830,
    "H100-96GB": 97_871,
    "H100-80GB": 81_559,
    "GH200-96GB": 97_871,
    "A100-80GB": 81_920,
    "A100-40GB": 40_960,
    "A40": 46_068,
    "A30": 24_576,
    "A16": 15_356,
    "A10": 23_028,
    "A10G": 23_028,
    "A2": 15_356,
    "L40S": 46_068,
    "L40": 46_068,
    "L4": 23_034,
    "T4": 15_360,
    "V100-32GB": 32_768,
    "V100-16GB": 16_384,
    "P100-16GB": 16_384,
    "RTX-PRO-6000-Blackwell": 97_887,
    "RTX-6000-Ada": 49_140,
    "RTX-5000-Ada": 32_760,
    "RTX-4000-Ada": 20_475,
    "RTX-A6000": 49_140,
    "RTX-A5000": 24_564,
    "RTX-A4000": 16_376,
    "RTX-5090": 32_607,
    "RTX-5080": 16_303,
    "RTX-5070-Ti": 16_303,
    "RTX-5070": 12_227,
    "RTX-5060-Ti-16GB": 16_311,
    "RTX-4090": 24_564,
    "RTX-4080": 16_376,
    "RTX-4070-Ti": 12_282,
    "RTX-4070": 12_282,
    "RTX-4060-Ti-16GB": 16_380,
    "RTX-4060": 8_188,
    "RTX-3090": 24_576,
    "RTX-3080-12GB": 12_288,
    "RTX-3080": 10_240,
    "RTX-3070": 8_192,
    "RTX-3060": 12_288,
    "RTX-2080-Ti": 11_264,
}

_MIB = 1024**2
PLANNED = "planned-"
"""What the uuid of a card that is not here begins with."""


def free_when_idle(total_bytes: int) -> int:
    """Bytes that a card offers with nothing else on it. The driver keeps some for itself: what torch reports as total
    was seen to lie 0.3 GiB (24 GiB cards) to 0.7 GiB (180 GiB) below NVML's."""
    return int(total_bytes - 256 * _MIB - 0.006 * total_bytes)


def gpu_named(name: str, index: int = 0) -> Gpu:
    """A card that isn't here, idle. Case, spaces, a maker's name and "GB" do not matter: "h100 80gb", "NVIDIA A10".

    Raises InputError that names the nearest cards.
    """
    wanted = _plain(name)
    names = {_plain(card): card for card in CARDS}
    matches = [names[wanted]] if wanted in names else [card for card in CARDS if wanted and wanted in _beginnings(card)]
    if len(matches) != 1:
        close = matches or [names[plain] for plain in difflib.get_close_matches(wanted, names, n=3, cutoff=0.4)]
        raise InputError(
            f"The GPU {name!r} is {'more than one card' if matches else 'not known'}.",
            hint=f"Did you mean {' or '.join(close[:4])}?" if close else f"Known: {', '.join(CARDS)}.",
        )
    total = CARDS[matches[0]] * _MIB
    free = free_when_idle(total)
    return Gpu(index, f"{PLANNED}{index}", matches[0], total, free, total - free, None, None, None)


def _beginnings(card: str) -> set[str]:
    """Names that leave out what tells variants apart: H100 for H100-80GB, H100-96GB and H100-NVL."""
    parts = card.split("-")
    return {_plain("-".join(parts[:end])) for end in range(1, len(parts))}


def _plain(name: str) -> str:
    lower = re.sub(r"nvidia|geforce|tesla|pcie|sxm\d?|hbm\d?e?|[^a-z0-9]", "", name.lower())
    # RTX 4090 and 4090 are one card; the label's unit may be left out.
    return lower.removeprefix("rtx").removesuffix("gb").removesuffix("gib")
