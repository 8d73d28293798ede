"""What every section of a recipe is made of: frozen, no unknown keys, no coerced types."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# No count of a recipe is larger, and what is must not reach 64-bit code.
LARGEST = 10**15
Positive = Annotated[int, Field(ge=1, le=LARGEST)]
Strings = Annotated[tuple[str, ...], Field(strict=False)]


class Section(BaseModel):
    """A part of a recipe; attribute docstrings are the help texts."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True,
                              allow_inf_nan=False)

    def __hash__(self) -> int:
        """By its values: mappings among them are not hashable themselves."""
        return hash((type(self), self.model_dump_json()))
