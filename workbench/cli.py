"""The command line. Every command imports what it needs when it runs: `workbench runs` must not wait for torch."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from workbench import cli_data, cli_memory, cli_queue, cli_runs
from workbench import cli_support as support
from workbench.cli_memory import Force, Json, Overrides, RecipeArgument
from workbench.cli_runs import Detach, RunArgument
from workbench.engine.errors import InputError, WorkbenchError
from workbench.engine.streams import plain_streams

app = typer.Typer(add_completion=False, no_args_is_help=False, pretty_exceptions_enable=False,
                  context_settings={"help_option_names": ["-h", "--help"]},
                  help="The terminal workbench for fine-tuning language models. Without a command: the application.")


@app.command()
def demo(json: Json = False, overrides: Overrides = None, force: Force = False) -> None:
    """Train the built-in model on the built-in glossary: about a minute on two cores."""
    from workbench.engine.paths import recipes_dir

    run = support.launch_recipe(recipes_dir() / "demo.yaml", overrides or [], force)
    if json:
        support.follow_quietly(run)
        show(run.id, json=True)
    elif support.is_interactive():
        support.open_app(start="watch", run=run)
    else:
        support.follow_chain(run)


@app.command()
def plan(recipe: RecipeArgument, json: Json = False, overrides: Overrides = None,
         gpu: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Plan for a GPU that isn't here, idle, "
                                                       "e.g. H100-80GB; may be repeated.")] = None) -> None:
    """Show the memory table, what fits, steps, warnings and what would go wrong at the start of a recipe."""
    from workbench import console
    from workbench.engine.preflight import preflight

    made = support.plan_recipe(support.load(recipe, overrides or []), recipe, gpu or [])
    checks = preflight(made, recipe.resolve().parent)
    if json:
        console.print_json({**made.to_json(), "preflight": [check.to_json() for check in checks]})
    else:
        print(f"{console.plan_text(made)}\n\n{console.checks_text(made, checks)}")
    if made.problems:
        raise typer.Exit(2)


@app.command()
def train(recipe: RecipeArgument, detach: Detach = False,
          json: Json = False, overrides: Overrides = None, force: Force = False,
          name: Annotated[str | None, typer.Option(help="The run's name.")] = None,
          queue: cli_queue.Queue = False) -> None:
    """Launch a recipe. It outlives this terminal; without --detach its lines are shown, Ctrl-C leaves it running."""
    run = support.launch_recipe(recipe, [*(overrides or []), *([f"name={name}"] if name else [])], force, queue)
    support.after_launch(run, detach, json)


@app.command()
def runs(json: Json = False) -> None:
    """List the runs, newest first."""
    from workbench import console
    from workbench.engine.runs.store import list_runs

    found = list_runs()
    if json:
        console.print_json([run.to_json() for run in found])
    elif found:
        print(console.runs_table(found))
    else:
        print("No runs yet. Start one: workbench demo")


@app.command()
def show(run: RunArgument = "last", json: Json = False) -> None:
    """Show everything known of a run."""
    from workbench import console
    from workbench.engine.runs.document import run_document
    from workbench.engine.runs.follow import ending_lines, pipeline_line, step_line
    from workbench.engine.runs.peaks import estimated_peak, memory_peaks, peaks_line
    from workbench.engine.runs.stalling import silent, stall_words
    from workbench.engine.runs.store import RunFollower

    follower = RunFollower(support.find(run))
    follower.refresh()
    if json:
        console.print_json(run_document(follower))
        return
    doing = f", {follower.state.phase}" if follower.state.phase and not follower.ended else ""
    print(f"{follower.run.id}: {follower.name}{doing}")
    if line := pipeline_line(follower.run):
        print(line)
    if line := peaks_line(memory_peaks(follower.state, estimated_peak(follower.run)), follower.state):
        print(line)
    losses = follower.state.metrics.get("train/loss")
    if losses:
        print(step_line(follower, len(losses) - 1))
    for sample in follower.samples[-8:]:
        print(f"  step {sample.step} · {sample.prompt} → {sample.text}")
    if follower.ended:
        print("\n".join(ending_lines(follower)))
    elif follower.name == "stalled":
        commands = (f"workbench {name} {follower.run.id}" for name in ("stop", "resume"))
        print("\n".join(stall_words(silent(follower.run), *commands)))
    print(f"directory: {follower.run.path}")


@app.command()
def watch(run: RunArgument = "last") -> None:
    """Watch a run: on screen in a terminal, as plain lines elsewhere."""
    found = support.at_work(support.find(run)) if run == "last" else support.find(run)
    if support.is_interactive():
        support.open_app(start="watch", run=found)
    else:
        support.follow_chain(found)


@app.command()
def logs(run: RunArgument = "last", lines: Annotated[int, typer.Option("--lines", "-n", min=1)] = 50) -> None:
    """Print the end of a run's log."""
    from workbench.engine.text import sanitise

    found = support.at_work(support.find(run)) if run == "last" else support.find(run)
    try:
        last = support.last_lines(found.log, lines)
    except FileNotFoundError:
        raise InputError(f"{found.id} has no log yet.") from None
    print("\n".join(map(sanitise, last)))


@app.command()
def models(json: Json = False) -> None:
    """List the models on this disk and in the catalogue."""
    from workbench import console
    from workbench.engine.catalog.models import list_models
    from workbench.engine.figures import count, gib

    found = list_models()
    if json:
        console.print_json([{"name": m.name, "source": m.source, "parameters": m.parameters,
                             "path": str(m.path) if m.path else None} for m in found])
        return
    rows = [(m.name, m.source, count(m.parameters), gib(m.size_bytes) if m.size_bytes else "–") for m in found]
    print(console.table(("MODEL", "SOURCE", "PARAMETERS", "ON DISK"), rows, right=(2, 3)))


@app.command()
def chat(target: Annotated[str, typer.Argument(help="A model id, folder, run or checkpoint.")] = "last",
         prompt: Annotated[str | None, typer.Option(help="Answer this once and exit.")] = None,
         max_new_tokens: Annotated[int, typer.Option(min=1)] = 256,
         temperature: Annotated[float, typer.Option(min=0)] = 0.0, json: Json = False) -> None:
    """Chat with a model, next to its base."""
    from workbench import console
    from workbench.engine.chat_client import ask_once
    from workbench.engine.chat_target import resolve_chat_target

    found = resolve_chat_target(target)
    if prompt is None:
        if not support.is_interactive():
            raise InputError("Chat needs a terminal.", "Or ask once: workbench chat TARGET --prompt TEXT")
        support.open_app(start="chat", chat=target)
        return
    answer = ask_once(found, prompt, max_new_tokens=max_new_tokens, temperature=temperature)
    if json:
        console.print_json(answer)
    else:
        print(answer["text"])


@app.command()
def doctor(json: Json = False) -> None:
    """Check GPU, libraries, disk, Hub token and terminal; say how to mend each."""
    from dataclasses import asdict

    from workbench import console
    from workbench.engine.doctor import examine

    checks = examine()
    if json:
        console.print_json([asdict(check) for check in checks])
    else:
        rows = [(check.name, check.status, check.found) for check in checks]
        width = max(len(check.name) for check in checks)
        for (name, status, found), check in zip(rows, checks, strict=True):
            print(f"{name:<{width}}  {status:<7}  {found}")
            if check.fix:
                print(f"{'':<{width}}           {check.fix}")
    if any(check.status == "problem" for check in checks):
        raise typer.Exit(1)


for _command in (cli_runs.resume, cli_runs.pause, cli_runs.stop, cli_runs.delete, cli_data.data, cli_memory.estimate,
                 cli_memory.rehearse, cli_memory.explain, cli_queue.queue):
    app.command()(_command)


def main() -> None:
    """Run the command line; errors are a sentence and a hint, never a traceback, unless --debug is given."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    with plain_streams():
        try:
            if not arguments:
                support.open_app()
            elif _is_recipe(arguments):
                support.open_app(recipe=Path(arguments[0]))
            else:
                app(arguments)
        except WorkbenchError as error:
            if debug:
                raise
            from workbench.console import print_error

            print_error(error)
            sys.exit(error.exit_code)
        except BrokenPipeError:
            os._exit(1)


def _is_recipe(arguments: list[str]) -> bool:
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    return len(arguments) == 1 and not arguments[0].startswith("-") and arguments[0] not in commands \
        and (arguments[0].endswith((".yaml", ".yml", ".json")) or Path(arguments[0]).is_file())


if __name__ == "__main__":
    main()
