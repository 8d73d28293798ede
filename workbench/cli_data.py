"""`workbench data`: what is in a dataset, what is wrong with it, and its rows as a model sees them."""

import os
import re
import shutil
import sys
import textwrap
from itertools import dropwhile, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli_memory import Json, Overrides
from workbench.cli_support import load

if TYPE_CHECKING:
    from workbench.engine.recipe import Recipe

# Above this, all rows would take minutes to tokenise.
_ALL_BELOW = 200 << 20
_WIDTH = 100
_LABEL = 11
_REJECTED_SHOWN = 10
_TOKENS_SHOWN = 400
_BAR = 40


def data(
    source: Annotated[str, typer.Argument(metavar="PATH-OR-RECIPE", help="A dataset (file, folder, Hub id or built-in "
                                          "name), or a recipe.")],
    model: Annotated[str | None, typer.Option(help="Whose tokenizer and template; default: the recipe's, or tiny-base."
                                              )] = None,
    objective: Annotated[str | None, typer.Option(help="What it is to be used for; default: the recipe's, or by the "
                                                  "format.")] = None,
    json: Json = False, overrides: Overrides = None,
    every_row: Annotated[bool | None, typer.Option("--all/--sample", help="Tokenise every row, or an evenly spread "
                                                   "sample; default: all up to 200 MB.")] = None,
) -> None:
    """Detect the format of a dataset, check it, and show its rows as a model will see them."""
    from workbench import console
    from workbench.engine.inspection import Inspector
    from workbench.engine.pipeline import stage_recipes

    recipe, base_dir, notes = _recipe(source, model, objective, overrides or [])
    inspector = Inspector()
    loud = not json and sys.stderr.isatty()
    try:
        documents = []
        for stage in stage_recipes(recipe) or (recipe,):
            everything = _is_small(stage, base_dir) if every_row is None else every_row
            found = inspector.inspect(stage, base_dir, _show if loud else _quiet, everything=everything).document
            documents.append((stage, found))
    finally:
        inspector.close()
        if loud:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
    if json:
        stages = {"stages": [document for _, document in documents]} if recipe.stages else {}
        console.print_json({**documents[0][1], **stages})
    else:
        print("\n\n".join(data_text(stage.dataset.label, document, notes) for stage, document in documents))


def _recipe(source: str, model: str | None, objective: str | None,
            overrides: list[str]) -> "tuple[Recipe, Path, dict[str, str]]":
    """The recipe to look through, where its paths start, and what was taken for granted, by the setting's name."""
    import orjson

    from workbench.engine.recipe_file import parse_recipe

    given = {"model": model, "objective": objective}
    if _is_recipe(Path(source)):
        changes = [f"{name}={value}" for name, value in given.items() if value]
        return load(Path(source), [*changes, *overrides]), Path(source).resolve().parent, {}
    notes = {}
    if model is None:
        given["model"] = "tiny-base"
        notes["model"] = "the built-in one; name yours with --model"
    if objective is None:
        given["objective"] = _objective_for(source)
        notes["objective"] = "by its format; another with --objective"
    # JSON is YAML: what is set from outside goes through the same reading.
    text = orjson.dumps({**given, "dataset": {"path": source}}).decode()
    return parse_recipe(text, "workbench data", overrides), Path.cwd(), notes


def _is_recipe(path: Path) -> bool:
    import orjson

    if path.suffix in (".yaml", ".yml"):
        return True
    try:
        if path.suffix != ".json" or path.stat().st_size > 1_000_000:
            return False
        content = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return False
    return isinstance(content, dict) and {"model", "dataset"} <= content.keys()


_BY_FORMAT = {"preference": "dpo", "kto": "kto", "accepted-rejected": "rt", "text": "cpt", "prompts": "rlhf"}


def _objective_for(source: str) -> str:
    """What rows like the first one are made for; sft where that cannot be told before they are read."""
    from workbench.engine.data.formats import detect
    from workbench.engine.data.readers import read_rows
    from workbench.engine.data.sources import files_of, resolve_dataset
    from workbench.engine.errors import InputError

    found = resolve_dataset(source)
    if found.path is None:
        return "sft"
    try:
        for path, name in files_of(found, None):
            for _, row in read_rows(path, name):
                if isinstance(row, dict):
                    return _BY_FORMAT.get(detect(row).name, "sft")
    except InputError:
        pass  # the inspection says what is wrong, and where
    return "sft"


def _is_small(recipe: "Recipe", base_dir: Path) -> bool:
    from workbench.engine.data.sources import files_of, resolve_dataset

    sources = [(resolve_dataset(part.path, base_dir), part.split) for part in recipe.dataset.parts]
    if any(source.path is None for source, _ in sources):
        return False
    return sum(path.stat().st_size for source, split in sources for path, _ in files_of(source, split)) <= _ALL_BELOW


def _show(words: str, share: float | None) -> None:
    done = "     " if share is None else f"{share:4.0%} "
    print(f"\r\033[K{done} {words}", end="", file=sys.stderr, flush=True)


def _quiet(words: str, share: float | None) -> None:
    pass


def data_text(label: str, document: dict[str, Any], notes: dict[str, str]) -> str:
    """The document for people: summary, findings, lengths, and the first row."""
    from workbench.engine.text import sanitise

    width = min(shutil.get_terminal_size().columns, _WIDTH)

    def line(name: str, words: str) -> str:
        return textwrap.fill(sanitise(words), width, initial_indent=f"{name:<{_LABEL}}", subsequent_indent=" " * _LABEL,
                             break_long_words=False, break_on_hyphens=False)

    def noted(name: str) -> str:
        return f"{document[name]} ({notes[name]})" if name in notes else str(document[name])

    template = "its own template" if document["template"] == "the model's own" else f"template {document['template']}"
    form = f"{document['format']}: {document['why']}" if document["format"] else "not known: no row could be read"
    lines = [sanitise(label), "", line("format", form), line("rows", _rows_line(document)),
             line("objective", noted("objective")),
             line("model", f"{noted('model')}, {template}"),
             line("tokens", _tokens_line(document)), line("epoch", _epoch_line(document))]
    lines.append("")
    for finding in document["findings"]:
        lines.append(line("finding", f"{finding['id']}: {finding['message']}"))
        if finding["hint"]:
            lines.append(line("", finding["hint"]))
    if not document["findings"]:
        lines.append(line("findings", "none"))
    for row in document["rejected"][:_REJECTED_SHOWN]:
        lines.append(line("rejected", f"{row['source']}:{row['line']}: {row['reason']}"))
    if (more := document["rejected_count"] - _REJECTED_SHOWN) > 0:
        lines.append(line("", f"and {more:,} more"))
    lines += ["", *_histogram(document["histogram"], width), "", *_first_row(document, width)]
    text = "\n".join(lines)
    return text if _is_utf8() else text.translate(_SEVEN_BITS).encode("ascii", "replace").decode()


def _rows_line(document: dict[str, Any]) -> str:
    rows = f"{document['rows']:,}"
    if document["rows_estimated"] is not None:
        rows = f"about {document['rows_estimated']:,}, the first {document['rows']:,} of them read"
    usable = "all usable" if document["usable_rows"] == document["rows"] else f"{document['usable_rows']:,} usable"
    return f"{rows}; {usable}; {document['duplicates']:,} repeated" if document["duplicates"] else f"{rows}; {usable}"


def _tokens_line(document: dict[str, Any]) -> str:
    lengths = document["token_lengths"]
    if lengths["max"] is None:
        return "none"
    of = "all rows" if document["tokens_looked_at"] >= document["examples"] else \
        f"a sample of {document['tokens_looked_at']:,} rows"
    ends = {True: "; the end of each answer is learned", False: "; the end of an answer is NOT learned", None: ""}
    return (f"half of the rows have at most {lengths['p50']:,}, 95 % at most {lengths['p95']:,}, the longest "
            f"{lengths['max']:,} ({of}){ends[document['eos_trained']]}")


def _epoch_line(document: dict[str, Any]) -> str:
    if document["tokens_per_epoch"] is None:
        return "nothing to train on"
    steps = document["steps_per_epoch"]
    gain = document["packing_gain"]
    packing = "" if gain is None else f"; without packing {gain:.2f} times the tokens are computed, padding included"
    return f"{document['tokens_per_epoch']:,} tokens in {steps:,} step{'' if steps == 1 else 's'}{packing}"


def _histogram(bars: list[list[int]], width: int) -> list[str]:
    if not bars:
        return []
    most = max(rows for _, rows in bars)
    room = min(_BAR, width - 24)
    lines = [f"{'tokens':>10} rows"]
    for bound, rows in dropwhile(lambda bar: not bar[1], bars):
        bar = "█" * round(rows / most * room) or ("▏" if rows else "")
        lines.append(f"{f'≤ {bound:,}':>10} {bar}{' ' if bar else ''}{rows:,}")
    return lines


def _first_row(document: dict[str, Any], width: int) -> list[str]:
    if not document["preview"]:
        return []
    from workbench.engine.text import sanitise

    first = document["preview"][0]
    sides = [view for view in document["preview"] if (view["source"], view["line"]) == (first["source"], first["line"])]
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    learned = "the score is read at" if document["objective"] == "reward" else "learned"
    lines = [f"{sanitise(first['source'])}:{first['line']} as the model sees it; {learned}: {_mark('so', colour)}"]
    if document["note"]:
        lines += textwrap.wrap(document["note"], width)
    for view in sides:
        lines += [f"[{view['side']}]"] if view["side"] else []
        lines += _wrapped(view, width - 2, colour)
        if view["dropped"]:
            lines.append("  (the trainer leaves this row out)")
        elif view["truncated_at"] is not None:
            lines.append(f"  (cut after {view['truncated_at']:,} tokens)")
    return lines


def _wrapped(view: dict[str, Any], width: int, colour: bool) -> list[str]:
    """A row's tokens in lines of `width` characters, runs of learned ones marked, as far as the model sees it."""
    end = min(view["truncated_at"] or len(view["tokens"]), _TOKENS_SHOWN)
    lines: list[list[tuple[str, bool]]] = [[]]
    used = 0
    for token, trained in zip(view["tokens"][:end], view["trained"][:end], strict=True):
        for piece in re.findall(r"\n|[^\n]{1,%d}" % width, token.replace("\t", "    ")):  # noqa: UP031
            if piece == "\n" or used + len(piece) > width:
                lines.append([])
                used = 0
            if piece != "\n":
                lines[-1].append((piece, trained))
                used += len(piece)
    if end < len(view["tokens"]):
        lines[-1].append(("…", False))
    return ["  " + _runs(line, colour) for line in lines]


def _runs(line: list[tuple[str, bool]], colour: bool) -> str:
    runs = ((trained, "".join(piece for piece, _ in run)) for trained, run in groupby(line, lambda one: one[1]))
    return "".join(_mark(text, colour) if trained else text for trained, text in runs)


def _mark(text: str, colour: bool) -> str:
    return f"\033[1;36m{text}\033[0m" if colour else f"«{text}»"


_SEVEN_BITS = str.maketrans({"«": "[[", "»": "]]", "█": "#", "▏": ".", "≤": "<", "…": "..."})


def _is_utf8() -> bool:
    return (sys.stdout.encoding or "").lower().startswith("utf")
