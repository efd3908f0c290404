"""What can be made to go wrong: the closed set of faults, as the JSON that asks for them."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from bunce_attributes.sandbox.config import SandboxError
from bunce_attributes.sandbox.rows import IdentityKind, NamedRow


def _texts(given: object) -> object:
    # A frozenset, because what a validator returns is judged as Python, where a list is no set.
    texts = [given] if isinstance(given, str) else given
    return frozenset(texts) if isinstance(texts, list) and all(isinstance(text, str) for text in texts) else given


def _emails(given: frozenset[str]) -> frozenset[str]:
    return frozenset(email.lower() for email in given)


# An hour bounds a typing error; nobody waits longer for a fault.
Seconds = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]
Times = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Texts = Annotated[frozenset[str], BeforeValidator(_texts)]
Emails = Annotated[Texts, AfterValidator(_emails)]

DEFAULT_ROW_MESSAGE: Final = "The value could not be saved."


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RowMatch(_Model):
    """Which rows a rule is about: each given field must fit; a list means any of these."""

    id: Texts | None = None
    customer_id: Texts | None = None
    customer_email: Emails | None = None
    identity: Texts | None = None
    value: Texts | None = None
    value_contains: str | None = None

    @property
    def restricts(self) -> bool:
        """Whether any field is given at all."""
        return any(getattr(self, name) is not None for name in RowMatch.model_fields)

    def fits(self, row: NamedRow) -> bool:
        return (
            (self.id is None or row.attribute_id in self.id)
            and _fits_identity(self.customer_id, "customer_id", row)
            and _fits_identity(self.customer_email, "customer_email", row)
            and (self.identity is None or row.identity in self.identity)
            and (self.value is None or row.value in self.value)
            and (self.value_contains is None or self.value_contains in row.value)
        )


def _fits_identity(wanted: frozenset[str] | None, kind: IdentityKind, row: NamedRow) -> bool:
    return wanted is None or (row.kind == kind and row.identity in wanted)


class Refusal(RowMatch):
    """Puts matching rows in `errors`: each distinct row the first `times` times, or always."""

    times: Times | None = None
    message: str = DEFAULT_ROW_MESSAGE


class _Rule(RowMatch):
    """When a rule takes a call. With a field of RowMatch: only calls that hold such a row."""

    on: Literal["customers", "attributes", "any"] = "customers"
    skip: Annotated[int, Field(ge=0)] = 0
    every: Times = 1
    share: Share = 1.0
    times: Times | None = None
    for_seconds: Seconds | None = None
    save: bool | None = None
    save_after_seconds: Seconds | None = None

    @model_validator(mode="after")
    def _one_way_of_saving(self) -> Self:
        if self.save is not None and self.save_after_seconds is not None:
            raise ValueError("give save or save_after_seconds, not both")
        return self


class AnswerRule(_Rule):
    """Answers with this status. 2xx carries the ordinary body, whether or not the rows are saved."""

    do: Literal["answer"]
    status: Annotated[int, Field(ge=200, le=599)]
    message: str | None = None
    retry_after: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    name_rows: bool = False
    body: Any = None


class HangRule(_Rule):
    """Answers nothing for so long (None: until the faults change), then ordinarily if saving, else hangs up."""

    do: Literal["hang"]
    seconds: Seconds | None = None


class HangUpRule(_Rule):
    """Closes the connection without an answer."""

    do: Literal["hang_up"]
    reset: bool = False


MalformedKind = Literal[
    "not_json",
    "not_an_object",
    "no_content",
    "no_data",
    "success_false",
    "index_out_of_range",
    "index_not_number",
    "truncated",
]


class MalformedRule(_Rule):
    """Processes the call and answers 2xx with something that is no proper answer."""

    do: Literal["malformed"]
    kind: MalformedKind


class TrickleRule(_Rule):
    """Processes the call and sends the body of the answer a few bytes at a time, over so long."""

    do: Literal["trickle"]
    seconds: Seconds


CallRule = AnswerRule | HangRule | HangUpRule | MalformedRule | TrickleRule


class Shapes(_Model):
    """How a proper answer is written where the documentation leaves it open."""

    no_errors: Literal["object", "list", "null", "absent"] = "object"
    dense_errors: Literal["object", "list"] = "object"
    messages: Literal["string", "list", "object"] = "string"
    saved: Literal["rows", "empty"] = "rows"
    echo_key: bool = False


class Faults(_Model):
    """Everything that goes wrong at one time. The default: nothing."""

    latency: Seconds | tuple[Seconds, Seconds] = 0.0
    refuse: tuple[Refusal, ...] = ()
    refuse_share: Share = 0.0
    refuse_times: Times | None = 1
    refuse_message: str = DEFAULT_ROW_MESSAGE
    seed: int = 0
    calls: tuple[Annotated[CallRule, Field(discriminator="do")], ...] = ()
    shapes: Shapes = Shapes()

    @model_validator(mode="after")
    def _low_before_high(self) -> Self:
        if isinstance(self.latency, tuple) and self.latency[0] > self.latency[1]:
            raise ValueError("latency: give [lowest, highest] seconds")
        return self


def parse_faults(text: str | bytes) -> Faults:
    """Read the JSON of a fault set.

    Raises:
        SandboxError: It is not one; the text names every fault with its place.
    """
    try:
        return Faults.model_validate_json(text)
    except ValidationError as error:
        found = "; ".join(f"{_place(each['loc'])}{each['msg']}" for each in error.errors(include_url=False))
        raise SandboxError(f"These faults cannot be set: {found}.") from error


def _place(location: tuple[int | str, ...]) -> str:
    place = ""
    for part in location:
        place += f"[{part}]" if isinstance(part, int) else f".{part}"
    return f"{place.lstrip('.')}: " if place else ""
