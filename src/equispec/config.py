"""The base of every configuration object: frozen, typed, and closed against misspelt keys."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from equispec.errors import ConfigError

C = TypeVar("C", bound="Config")
SHOWN = 100  # characters of a wrong value in a message


class Config(BaseModel):
    """Immutable configuration; an unknown key or a forbidden value is an error that names the key."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def parse(cls: type[C], values: Any, where: str = "configuration") -> C:
        """Build from plain data (YAML, JSON); raises ConfigError with one sentence naming the first offending key."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{where}: {_sentence(error, cls)}") from None


def _sentence(error: ValidationError, cls: type[BaseModel]) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "top level"
    if first["type"] == "extra_forbidden":
        owner: Any = cls
        for part in first["loc"][:-1]:
            field = getattr(owner, "model_fields", {}).get(part)
            owner = field.annotation if field is not None else None
        fields = getattr(owner, "model_fields", None)
        return f"unknown key {key!r}" + (f"; known keys: {', '.join(fields)}" if fields else "")
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    given = repr(first.get("input"))
    given = given if len(given) <= SHOWN else f"{given[: SHOWN - 3]}..."
    return f"{key!r} = {given}: {message}" if first["loc"] else message
