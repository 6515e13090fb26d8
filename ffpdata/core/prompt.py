"""One question to a vision-language model: its text, its JSON schema and the rules that its answer must keep."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ffpdata.core.errors import ConfigError, nearest
from ffpdata.core.keys import digest

NEGATIONS = frozenset({"no", "not", "without", "never", "none", "nothing", "nobody", "neither", "nor", "cannot"})
"""Words that the paper's caption rules forbid (section 7.1.1: no negations, e.g. "no/without")."""

View = Literal["first_frame", "clip", "image"]


class TextRule(BaseModel):
    """What one string field of an answer must keep. Unset rules are not checked."""

    model_config = ConfigDict(extra="forbid")

    words: tuple[int, int] | None = None
    """Fewest and most words, both inclusive."""
    starts: str | None = None
    """The sentence must begin so (case-sensitive)."""
    no_negation: bool = False
    sentences: int | None = None
    """Exact number of sentences."""
    lowercase: bool = False
    omits: str | None = None
    """Name of an input field whose text must not occur in the answer, in singular or plural."""

    def violations(self, name: str, text: str, fields: Mapping[str, Any]) -> list[str]:
        """List what `text` breaks, each with the value and the limit."""
        tokens = re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text)
        found = []
        if self.words and not self.words[0] <= len(tokens) <= self.words[1]:
            found.append(f"{name} has {len(tokens)} words, wanted {self.words[0]} to {self.words[1]}")
        if self.starts and not text.startswith(self.starts):
            found.append(f"{name} must start with {self.starts!r}")
        if self.no_negation:
            bad = sorted({t.lower() for t in tokens if t.lower() in NEGATIONS or t.lower().endswith("n't")})
            if bad:
                found.append(f"{name} uses a negation: {', '.join(bad)}")
        if self.sentences:
            count = len([s for s in re.split(r"(?<=[.!?])\s+", text.strip()) if s])
            if count != self.sentences:
                found.append(f"{name} has {count} sentences, wanted {self.sentences}")
        if self.lowercase and text != text.lower():
            found.append(f"{name} must be lowercase, got {text!r}")
        if self.omits:
            banned = str(fields.get(self.omits) or "")
            if banned and mentions(text, banned):
                found.append(f"{name} mentions {banned!r}, which must not appear")
        return found


def mentions(text: str, phrase: str) -> bool:
    """Say whether `text` names `phrase` as whole words, in singular or plural, whatever the case."""
    words = [re.escape(w) for w in re.findall(r"\w+", phrase.lower())]
    if not words:
        return False
    last = words[-1].removesuffix("s")
    pattern = r"\b" + r"\W+".join([*words[:-1], last + r"(?:e?s)?"]) + r"\b"
    return re.search(pattern, text.lower()) is not None


class _PromptFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    about: str
    inputs: list[str] = Field(default_factory=list)
    media: dict[str, View] = Field(default_factory=dict)
    text: str
    answer: dict[str, Any]
    rules: dict[str, TextRule] = Field(default_factory=dict)


@dataclass(frozen=True)
class Prompt:
    """A question as one file of `prompts/` holds it.

    Attributes:
        name: file stem, e.g. `identify`.
        text: the template; `{field}` stands for an input field.
        schema: JSON schema of the answer, `additionalProperties: false`.
        inputs: names of the fields that the text uses.
        media: what the model is shown, in order: media name to view (`first_frame`, `clip` or `image`).
        rules: per answer field, the rules of `TextRule`.
    """

    name: str
    text: str
    schema: dict[str, Any]
    inputs: tuple[str, ...] = ()
    media: dict[str, str] = field(default_factory=dict)
    rules: dict[str, TextRule] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Prompt:
        """Read one prompt file; a wrong or missing entry raises ConfigError naming file, entry and remedy."""
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            siblings = [p.stem for p in path.parent.glob("*.yaml")]
            raise ConfigError(f"{path}: no such prompt file{nearest(path.stem, siblings)}") from None
        except yaml.YAMLError as err:
            raise ConfigError(f"{path}: not valid YAML: {err}") from err
        try:
            parsed = _PromptFile.model_validate(data)
        except ValidationError as err:
            first = err.errors()[0]
            where = ".".join(str(p) for p in first["loc"])
            raise ConfigError(f"{path}: {where}: {first['msg']} (got {first.get('input')!r})") from err
        used = set(re.findall(r"(?<!\{)\{(\w+)\}(?!\})", parsed.text))
        if used != set(parsed.inputs):
            raise ConfigError(f"{path}: text uses {sorted(used)} but inputs lists {sorted(parsed.inputs)}")
        schema = {
            "type": "object",
            "properties": parsed.answer,
            "required": sorted(parsed.answer),
            "additionalProperties": False,
        }
        return cls(
            name=parsed.name,
            text=parsed.text.strip(),
            schema=schema,
            inputs=tuple(parsed.inputs),
            media=dict(parsed.media),
            rules=dict(parsed.rules),
        )

    @property
    def key(self) -> str:
        """Digest of everything that shapes the answer: a changed word gives a changed key."""
        rules = {name: rule.model_dump() for name, rule in self.rules.items()}
        return digest(self.name, self.text, self.schema, list(self.media.items()), rules)

    def render(self, fields: Mapping[str, Any]) -> str:
        """Fill the template; a field that the text needs and `fields` lacks raises ConfigError."""
        missing = [name for name in self.inputs if fields.get(name) is None]
        if missing:
            raise ConfigError(f"prompt {self.name!r} needs the fields {missing}, got {sorted(fields)}")
        text = re.sub(r"(?<!\{)\{(\w+)\}(?!\})", lambda m: str(fields[m[1]]), self.text)
        return text.replace("{{", "{").replace("}}", "}")

    def violations(self, answer: Mapping[str, Any], fields: Mapping[str, Any]) -> list[str]:
        """List what an answer breaks: missing, extra or mistyped entries first, then the text rules."""
        found = _schema_violations(answer, self.schema)
        for name, rule in self.rules.items():
            value = answer.get(name)
            texts = value if isinstance(value, list) else [value]
            for text in texts:
                if isinstance(text, str):
                    found += rule.violations(name, text, fields)
        return found


_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "array": (list, tuple),
    "object": dict,
}


def _schema_violations(value: Any, schema: Mapping[str, Any], where: str = "answer") -> list[str]:
    """Check the subset of JSON schema that prompts use: type, enum, bounds, lengths, items, properties."""
    kind = schema.get("type")
    if kind and (not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return [f"{where} must be of type {kind}, got {value!r}"]
    found: list[str] = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where} must be one of {schema['enum']}, got {value!r}")
    if kind in ("number", "integer"):
        low, high = schema.get("minimum"), schema.get("maximum")
        if (low is not None and value < low) or (high is not None and value > high):
            found.append(f"{where} must lie in [{low}, {high}], got {value!r}")
    sizes = {"string": ("minLength", "maxLength"), "array": ("minItems", "maxItems")}
    if kind in sizes:
        low, high = (schema.get(name) for name in sizes[kind])
        if (low is not None and len(value) < low) or (high is not None and len(value) > high):
            found.append(f"{where} must have a length in [{low}, {high}], got {len(value)}")
    if kind == "array" and "items" in schema:
        for i, entry in enumerate(value):
            found += _schema_violations(entry, schema["items"], f"{where}[{i}]")
    if kind == "object":
        properties = schema.get("properties", {})
        found += [f"{where} lacks {name!r}" for name in schema.get("required", []) if name not in value]
        if schema.get("additionalProperties") is False:
            found += [f"{where} has the unknown entry {name!r}" for name in value if name not in properties]
        for name, sub in properties.items():
            if name in value:
                found += _schema_violations(value[name], sub, name if where == "answer" else f"{where}.{name}")
    return found
