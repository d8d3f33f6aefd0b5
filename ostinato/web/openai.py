"""The forms of OpenAI's API: what a request may say (`answers.py` has how answers are written).

null means everywhere that a field is not given. A field that would have no effect here may have the
values that ask for nothing, such as a penalty of 0; with any other it is refused. Labels (`user`,
`metadata` and the like) are not read. Three settings that OpenAI lacks are taken: top_k, min_p and
repetition_penalty.
"""

from abc import abstractmethod
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from ostinato.data.text.template import Message
from ostinato.inference.generate import Tokenizer
from ostinato.inference.sampling import Sampling

MAX_STOPS = 4
"""Stop strings of a request, as in OpenAI's API."""


def in_words(reason: str) -> WrapValidator:
    """Say in one line what is wrong with a field; pydantic writes one for each kind of value."""

    def check(value: Any, validate: Any) -> Any:
        try:
            return validate(value)
        except ValidationError:
            raise PydanticCustomError("in_words", "{reason}", {"reason": reason}) from None

    return WrapValidator(check)


def described(kinds: str) -> WrapValidator:
    """Say what a field of several kinds may be."""
    return in_words(f"give {kinds}")


def only(values: str) -> WrapValidator:
    """Say which values of a field without effect ask for nothing."""
    return in_words(f"not supported here: leave it out, or give {values}")


def is_false(value: Any) -> Any:
    """Return False. Raises ValueError for all else; in a literal, 0 would be False too."""
    if value is not False:
        raise ValueError
    return value


No = Annotated[Literal[False], BeforeValidator(is_false)]
Zero = Annotated[float, Field(ge=0, le=0)]
NoPenalty = Annotated[Zero | None, only("0")]
Nothing = Annotated[Annotated[list[Any], Field(max_length=0)] | None, only("[]")]
NoTool = Annotated[Literal["none", "auto"] | None, only('"none" or "auto"')]


class Strict(BaseModel):
    """Refuse what is not known, unless it is null."""

    model_config = ConfigDict(extra="allow", strict=True, use_attribute_docstrings=True)
    __pydantic_extra__: dict[str, None] = Field(init=False)


class StreamOptions(Strict):
    """Say what a stream tells besides texts."""

    include_usage: bool | None = None
    include_obfuscation: Annotated[No | None, only("false")] = None


class Asked(Strict):
    """Hold what both kinds of requests have."""

    model: str | None = None
    n: int | None = Field(None, ge=1)
    """Texts for each prompt (default: 1)."""
    temperature: float | None = Field(None, ge=0, le=2)
    """Default: 1."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Default: 1."""
    top_k: int | None = Field(None, ge=0)
    """Default: 0, which takes every token."""
    min_p: float | None = Field(None, ge=0, le=1)
    """Default: 0."""
    repetition_penalty: float | None = Field(None, ge=1e-3, le=1e3)
    """Default: 1, which penalises nothing."""
    seed: int | None = Field(None, ge=0, lt=2**62)
    stop: Annotated[
        str | Annotated[list[str], Field(max_length=MAX_STOPS)] | None,
        described(f"one stop string, or a list of at most {MAX_STOPS}"),
    ] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: NoPenalty = None
    presence_penalty: NoPenalty = None
    logit_bias: Annotated[dict[str, Zero] | None, only("{}")] = None
    user: str | None = None

    def sampling(self, seed: int) -> Sampling:
        """Return how tokens are drawn. Raises ValueError for an impossible way."""
        names = {"temperature", "top_p", "top_k", "min_p", "repetition_penalty"}
        return Sampling(**self.model_dump(include=names, exclude_none=True), seed=seed)

    @property
    def wants_usage(self) -> bool:
        """Return whether a stream ends with the number of tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    @abstractmethod
    def most_tokens(self) -> int | None:
        """Return the most tokens to write; None: as many as there is room for."""

    @property
    @abstractmethod
    def likeliest(self) -> int:
        """Return how many likeliest tokens to report for each token."""

    @property
    @abstractmethod
    def wants_tokens(self) -> bool:
        """Return whether to report tokens and their log probabilities."""


class AskedText(Asked):
    """Hold a request to continue texts."""

    prompt: Annotated[
        str | list[str] | list[int] | list[list[int]] | None,
        described("a text, a list of texts, the tokens of a text, or a list of such lists"),
    ]
    """null: begin a text, as an empty prompt does."""
    max_tokens: int | None = Field(None, ge=1)
    """Default: 16."""
    logprobs: Annotated[
        Annotated[int, Field(ge=0, le=5)] | No | None, described("a number from 0 to 5")
    ] = None
    echo: bool | None = None
    best_of: int | None = None
    """The value of n: no text is left out."""
    suffix: Annotated[Literal[""] | None, only('""')] = None

    @property
    def most_tokens(self) -> int:
        return self.max_tokens or 16

    @property
    def likeliest(self) -> int:
        return self.logprobs or 0

    @property
    def wants_tokens(self) -> bool:
        return self.logprobs is not None and self.logprobs is not False

    def prompts(self, tokenizer: Tokenizer) -> list[list[int]]:
        """Return the tokens of each prompt. Raises ValueError for a text that has none."""
        given: Any = "" if self.prompt is None else self.prompt
        given = [given] if isinstance(given, str) else given
        given = [given] if given and isinstance(given[0], int) else given
        return [tokenizer.encode(each) if isinstance(each, str) else each for each in given]


class TextPart(Strict):
    """Hold a part of a message; only text can be read."""

    type: Literal["text"]
    text: str


class TextFormat(Strict):
    """Ask for text, and not for JSON."""

    type: Annotated[Literal["text"], only('"text"')]


class Turn(Strict):
    """Hold a message of a conversation, as clients write it or as this server has answered."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        str | list[TextPart], described("a text, or a list of parts of the type text")
    ]
    tool_calls: Nothing = None
    annotations: Nothing = None

    @property
    def message(self) -> Message:
        whole = self.content
        text = whole if isinstance(whole, str) else "".join(part.text for part in whole)
        return Message("system" if self.role == "developer" else self.role, text)


class AskedAnswer(Asked):
    """Hold a request to answer in a conversation."""

    messages: list[Turn] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    tools: Nothing = None
    tool_choice: NoTool = None
    parallel_tool_calls: bool | None = None
    """No tools are called, one by one or in parallel."""
    functions: Nothing = None
    function_call: NoTool = None
    response_format: TextFormat | None = None
    modalities: Annotated[list[Literal["text"]] | None, only('["text"]')] = None
    reasoning_effort: Annotated[Literal["none"] | None, only('"none"')] = None
    verbosity: Annotated[Literal["medium"] | None, only('"medium"')] = None
    service_tier: Annotated[Literal["auto", "default"] | None, only('"auto" or "default"')] = None
    store: Annotated[No | None, only("false")] = None
    metadata: dict[str, Any] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @property
    def most_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def likeliest(self) -> int:
        return self.top_logprobs or 0

    @property
    def wants_tokens(self) -> bool:
        return bool(self.logprobs)
