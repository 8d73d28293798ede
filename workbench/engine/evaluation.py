"""Evaluation by recipe: whether there is anything to evaluate on, and which way its metric is better."""

from workbench.engine.recipe import Recipe, TrainingSettings

_LESS_IS_BETTER = ("loss", "perplexity")


def evaluates(recipe: Recipe) -> bool:
    """Whether rows are set aside, or named, to evaluate on."""
    dataset = recipe.dataset
    return bool(dataset.eval_path or dataset.eval_split or dataset.eval_fraction)


def greater_is_better(training: TrainingSettings) -> bool:
    """Whether more of `metric_for_best_model` is better: as the recipe says, else no for a loss or a perplexity."""
    if training.greater_is_better is not None:
        return training.greater_is_better
    return not training.metric_for_best_model.endswith(_LESS_IS_BETTER)


def evaluation_faults(recipe: Recipe) -> list[tuple[str, str, str]]:
    """(field, sentence, hint) of each setting that needs an evaluation which this recipe will not have."""
    training, faults = recipe.training, []
    for field, words in (("early_stopping_patience", "stops by evaluations"),
                         ("load_best_model_at_end", "chooses by evaluations")):
        if getattr(training, field) and not evaluates(recipe):
            faults.append((f"training.{field}", f"training.{field} {words}, and there are no rows to evaluate on.",
                           "Set dataset.eval_path, or dataset.eval_fraction such as 0.1."))
    if not training.metric_for_best_model.startswith("eval/"):
        faults.append(("training.metric_for_best_model",
                       f"training.metric_for_best_model is {training.metric_for_best_model}: metrics of an evaluation "
                       "begin with `eval/`.", "For example eval/loss."))
    return faults
