"""The recipe of a screen: read from a file, changed in a form or from another screen, written to a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.engine.errors import WorkbenchError
from workbench.engine.paths import recipes_dir
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_file import load_recipe, save_recipe
from workbench.engine.runs.directory import RunDirectory
from workbench.tui.format import plain_title
from workbench.tui.screens.launching import LaunchingScreen
from workbench.tui.screens.picker import PickerScreen
from workbench.tui.screens.plan_picks import recipe_picks
from workbench.tui.screens.prompt import PromptScreen
from workbench.tui.widgets.plan_form import PlanForm, with_settings


class RecipeFileScreen(LaunchingScreen):
    """A screen with a `PlanForm`, once it is `composed`."""

    def __init__(self, path: Path | None) -> None:
        """Begin with the recipe in a file; without one, with the demo's. Raises InputError."""
        super().__init__()
        self.path = path
        shown = path or recipes_dir() / "demo.yaml"
        self.base_dir = shown.resolve().parent if path else Path.cwd()
        """Where relative paths start."""
        self.last_recipe = load_recipe(shown)
        """The recipe as it last held."""
        self.recipe: Recipe | None = self.last_recipe
        """The recipe as it stands; None while it does not hold."""
        self.composed = False
        self._title = ""

    @property
    def title_of_recipe(self) -> str:
        """What the form is headed."""
        return self._title or (self.path.name if self.path else "Recipe: the demo, yours to change")

    @property
    def planned(self) -> tuple[Recipe, Path]:
        """The recipe as it last held, and where its relative paths start."""
        return self.last_recipe, self.base_dir

    def take_recipe(self, recipe: Recipe | None) -> None:
        """The recipe stands like this now; None: it does not hold."""
        self.recipe = recipe
        self.last_recipe = recipe or self.last_recipe

    def change(self, settings: Mapping[str, Any]) -> None:
        """Change the recipe, from another screen too: dotted settings and their values."""
        self.take_recipe(with_settings(self.last_recipe, settings))
        if self.composed:
            self.query_one(PlanForm).load(self.last_recipe)

    def take_over(self, recipe: Recipe, run: RunDirectory) -> None:
        """Show the recipe of a run, to launch it as another one or to save it."""
        self.forget_launch()
        self.path, self.base_dir, self._title = None, run.path, f"From {run.name}"
        self.take_recipe(recipe)
        if self.composed:
            form = self.query_one(PlanForm)
            form.border_title = plain_title(self.title_of_recipe)
            form.load(recipe)

    def action_save(self) -> None:
        """Write the recipe to a file; comments of the file it came from stay."""
        recipe = self.recipe
        if recipe is None:
            self.notify("Mend the marked field first.", severity="warning")
            return

        def save(name: str | None) -> None:
            if not name:
                return
            path = Path(name).expanduser()
            try:
                save_recipe(path, recipe, self.path)
            except WorkbenchError as error:
                self.notify(error.message, severity="error", markup=False)
            else:
                self.path = path
                self.query_one(PlanForm).border_title = plain_title(path.name)
                self.notify(f"Saved {path}", markup=False)

        default = str(self.path or Path.cwd() / f"{recipe.name}.yaml")
        self.app.push_screen(PromptScreen("Save the recipe as", default), save)

    def action_open_recipe(self) -> None:
        """Open another recipe: those that are shipped, and those in the current directory."""
        def take(value: str | None) -> None:
            if value is not None:
                self._open(recipes_dir() / value)

        self.app.push_screen(PickerScreen("Open a recipe", recipe_picks()), take)

    def _open(self, path: Path) -> None:
        try:
            recipe = load_recipe(path)
        except WorkbenchError as error:
            self.notify(error.message, severity="error", markup=False)
            return
        self.path = None if recipes_dir() in path.parents else path
        self.base_dir = Path.cwd() if self.path is None else path.resolve().parent
        form = self.query_one(PlanForm)
        form.border_title = plain_title(path.name)
        form.load(recipe)
