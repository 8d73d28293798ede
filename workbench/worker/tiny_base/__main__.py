"""`python -m workbench.worker.tiny_base`: generate, pre-train, write the artefact folder."""

import argparse
from pathlib import Path

import torch

from workbench.engine.paths import assets_dir
from workbench.worker.tiny_base.artefact import card, write
from workbench.worker.tiny_base.pretrain import build_model, pretrain
from workbench.worker.tiny_base.tokenizer import train_tokenizer

_LEARNING_RATE = 3e-3


def main() -> None:
    """Parse the command line and run the whole pipeline; the folder also holds a usable model while training runs."""
    parser = argparse.ArgumentParser(prog="python -m workbench.worker.tiny_base", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="wall-clock minutes of training (default 30)")
    parser.add_argument("--seed", type=int, default=1, help="seed of corpus, tokenizer and weights (default 1)")
    parser.add_argument("--learning-rate", type=float, default=_LEARNING_RATE, help="peak learning rate")
    parser.add_argument("--out", type=Path, default=assets_dir() / "tiny_base", help="artefact folder to write")
    options = parser.parse_args()
    torch.set_num_threads(2)
    out: Path = options.out
    out.parent.mkdir(parents=True, exist_ok=True)
    command = f"python -m workbench.worker.tiny_base --minutes {options.minutes:g} --seed {options.seed}"

    tokenizer = train_tokenizer(options.seed)
    model = build_model(tokenizer, options.seed)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, vocabulary {len(tokenizer)}", flush=True)
    outcome = pretrain(
        model,
        tokenizer,
        options.minutes,
        options.seed,
        options.learning_rate,
        save=lambda step: write(model, tokenizer, out, f"# tiny_base\n\nTraining goes on: step {step}.\n"),
    )
    measured = outcome.validation
    print(
        f"{outcome.steps} steps, {outcome.tokens:,} tokens, {outcome.seconds:.0f} s; validation loss "
        f"{measured.loss:.4f} (perplexity {measured.perplexity:.2f}), held out {measured.held_out_loss:.4f}"
    )
    write(model, tokenizer, out, card(model, tokenizer, outcome, command))
    print(f"written: {out}")


if __name__ == "__main__":
    main()
