"""A recipe's data: where the rows come from, how they are read, and which findings may pass."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from workbench.engine.recipe_section import LARGEST, Positive, Section

FindingId = Literal["rejected-rows", "duplicates", "equal-pair", "control-characters", "eval-overlap",
                    "truncated", "fully-masked", "eos-not-trained", "double-bos"]
"""What the data check finds; the first five in the rows as they stand, the others in their tokens."""


class DatasetPart(Section):
    """One source of a mixture. What it leaves out is as in the section `dataset`."""

    path: str
    """A local file or folder, a Hugging Face dataset id, or a built-in name such as `glossary`."""
    weight: Annotated[float, Field(gt=0)] | None = None
    """Its share of the rows, against the other parts' weights; left out everywhere: every row of every part, once."""
    config: str | None = None
    """The configuration (subset) of a dataset from the Hub."""
    split: str | None = None
    """The split of a dataset from the Hub, or of a folder with a file per split."""
    format: str | None = None
    """The format of the rows, by its name in `workbench data`; default: by their columns."""
    columns: dict[str, str] | None = None
    """Which column is what, e.g. {prompt: question, completion: answer}; default: by their names."""


def _one_or_several(value: object) -> str:
    # Brackets mark the names that a union adds to the place of an error.
    return "[several]" if isinstance(value, list | tuple) else "[one]"


class DatasetSettings(Section):
    """Where the rows come from."""

    path: Annotated[Annotated[str, Tag("[one]")] | Annotated[tuple[DatasetPart, ...], Field(strict=False),
                                                             Tag("[several]")], Discriminator(_one_or_several)]
    """A file, a folder, a Hugging Face dataset id, or a built-in name such as `glossary`; a list mixes several."""
    config: str | None = None
    """The configuration (subset) of a dataset from the Hub."""
    split: str = "train"
    """The split to train on, for a dataset from the Hub or a folder with a file per split."""
    format: str | None = None
    """The format of the rows, by its name in `workbench data`; default: by their columns."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Which column is what, e.g. {prompt: question, completion: answer}; default: by their names."""
    eval_path: str | None = None
    """Rows to evaluate on, never trained on; a local file, a Hub id or a built-in name."""
    eval_split: str | None = None
    """The split to evaluate on, of `eval_path` or of the dataset itself."""
    eval_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of rows set aside for evaluation, when there is no `eval_path`."""
    max_rows: Positive | None = None
    """Use only the first rows, for a quick trial."""
    streaming: bool = False
    """Read rows while training instead of before it, for data that never ends; needs `training.max_steps`."""

    @field_validator("path", mode="before")
    @classmethod
    def _names_alone(cls, value: object) -> object:
        if isinstance(value, list | tuple):
            return tuple({"path": part} if isinstance(part, str) else part for part in value)
        return value

    @field_validator("path")
    @classmethod
    def _not_empty(cls, value: str | tuple[DatasetPart, ...]) -> str | tuple[DatasetPart, ...]:
        if not value:
            raise ValueError("it names no data")
        return value

    @property
    def parts(self) -> tuple[DatasetPart, ...]:
        """The sources, each with everything it needs; one where nothing is mixed."""
        return self._filled((DatasetPart(path=self.path),) if isinstance(self.path, str) else self.path, self.split)

    @property
    def eval_parts(self) -> tuple[DatasetPart, ...]:
        """The sources of the rows to evaluate on; none where they are a share of the training rows, or none at all."""
        if self.eval_path is not None:
            return self._filled((DatasetPart(path=self.eval_path),), self.eval_split or self.split)
        if self.eval_split is None:
            return ()
        return tuple(part.model_copy(update={"split": self.eval_split}) for part in self.parts)

    def _filled(self, parts: tuple[DatasetPart, ...], split: str) -> tuple[DatasetPart, ...]:
        shared: dict[str, Any] = {"config": self.config, "split": split, "format": self.format,
                                  "columns": self.columns}
        return tuple(part.model_copy(update={name: value for name, value in shared.items()
                                             if getattr(part, name) is None}) for part in parts)

    @property
    def label(self) -> str:
        """The sources in a few words: `a.jsonl + b.jsonl`."""
        return self.path if isinstance(self.path, str) else " + ".join(part.path for part in self.path)


class DataSettings(Section):
    """What the rows may be like, and how a conversation becomes text."""

    allow: Annotated[Annotated[Literal["all"], Tag("[one]")] | Annotated[
        tuple[FindingId, ...], Field(strict=False), Tag("[several]")], Discriminator(_one_or_several)] = ()
    """Findings of the data check that do not keep the run from starting, by their names in `workbench data`."""
    max_rejected_rows: Annotated[int, Field(ge=0, le=LARGEST)] = 0
    """Unusable rows that are set aside into rejected_rows.jsonl before the run is refused."""
    chat_template: str = "auto"
    """auto: the model's own, else plain; or chatml, llama-3, alpaca, plain, or a Jinja file."""

    @field_validator("allow", mode="before")
    @classmethod
    def _one_alone(cls, value: object) -> object:
        return (value,) if isinstance(value, str) and value != "all" else value
