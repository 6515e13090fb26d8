"""One question to a vision-language model: its text, its JSON schema and the rules that its answer must keep."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ffpdata.core import yaml_text
from ffpdata.core.answer_schema import schema_violations
from ffpdata.core.errors import ConfigError, nearest
from ffpdata.core.keys import digest
from ffpdata.core.wording import fault

NEGATIONS = frozenset({"no", "not", "without", "never", "none", "nothing", "nobody", "neither", "nor", "cannot"})
"""Words that the paper's caption rules forbid (section 7.1.1: no negations, e.g. "no/without")."""

View = Literal["first_frame", "clip", "image"]


IRREGULAR_PLURALS = {"person": "people", "child": "children", "man": "men", "woman": "women", "foot": "feet"} | {
    "mouse": "mice",
    "goose": "geese",
    "knife": "knives",
    "leaf": "leaves",
    "shelf": "shelves",
    "wolf": "wolves",
}


class TextRule(BaseModel):
    """What one string field of an answer (or each string of a list) must keep. Unset rules are not checked."""

    model_config = ConfigDict(extra="forbid")

    words: tuple[int, int] | None = None
    """Fewest and most words, both inclusive."""
    starts: str | list[str] | None = None
    """The text must begin so, or with one of these (case-sensitive, whole words)."""
    no_negation: bool = False
    sentences: int | None = None
    """Exact number of sentences."""
    lowercase: bool = False
    omits: str | None = None
    """Name of an input field whose text must not occur in the answer, in singular or plural."""
    avoids: list[str] = Field(default_factory=list)
    """Words that must not occur, whatever the case."""
    distinct: bool = False
    """The strings of a list must differ."""

    def violations(self, name: str, text: str, fields: Mapping[str, Any]) -> list[str]:
        """List what `text` breaks, each with the value and the limit."""
        tokens = split_words(text)
        lower = [token.lower().replace("\u2019", "'") for token in tokens]
        found = []
        if self.words and not self.words[0] <= len(tokens) <= self.words[1]:
            found.append(f"{name} has {len(tokens)} words, wanted {self.words[0]} to {self.words[1]}")
        starts = [self.starts] if isinstance(self.starts, str) else self.starts
        if starts and not any(re.match(re.escape(start) + r"(?!\w)", text) for start in starts):
            found.append(f"{name} must start with {' or '.join(map(repr, starts))}, got {text[:24]!r}")
        if self.no_negation:
            bad = sorted({token for token in lower if token in NEGATIONS or token.endswith("n't")})
            if bad:
                found.append(f"{name} uses a negation: {', '.join(bad)}")
        if self.sentences:
            count = len([s for s in re.split(r"(?<=[.!?])\s+", text.strip()) if s])
            if count != self.sentences:
                found.append(f"{name} has {count} sentences, wanted {self.sentences}")
        if self.lowercase and text != text.lower():
            found.append(f"{name} must be lowercase, got {text!r}")
        if self.avoids:
            bad = sorted(set(self.avoids).intersection(lower))
            if bad:
                found.append(f"{name} uses a word to avoid: {', '.join(bad)}")
        if self.omits:
            banned = str(fields.get(self.omits) or "")
            if banned and mentions(text, banned):
                found.append(f"{name} mentions {banned!r}, which must not appear")
        return found


def split_words(text: str) -> list[str]:
    """Split `text` as the word limits count it: `hand-held` and `it's` are one word each."""
    return re.findall(r"[^\W_]+(?:['\u2019-][^\W_]+)*", text)


def mentions(text: str, phrase: str) -> bool:
    """Say whether `text` names `phrase` as whole words, in singular or plural, whatever the case."""
    parts = re.findall(r"\w+", phrase.lower())
    if not parts:
        return False
    last = "|".join(sorted(map(re.escape, _forms(parts[-1]))))
    pattern = r"\b" + r"\W+".join([*map(re.escape, parts[:-1]), f"(?:{last})"]) + r"\b"
    return re.search(pattern, text.lower()) is not None


def _forms(word: str) -> set[str]:
    """Return the spellings that `word` may have as a singular or a plural; a few that do not exist do no harm."""
    stems = {word}
    stems |= {word[: -len(end)] + new for end, new in (("ies", "y"), ("es", ""), ("s", "")) if word.endswith(end)}
    stems |= {one for one, many in IRREGULAR_PLURALS.items() if many == word}
    stems = {stem for stem in stems if len(stem) > 1} | {word}
    plurals = {stem + "s" for stem in stems} | {stem + "es" for stem in stems}
    plurals |= {stem[:-1] + "ies" for stem in stems if stem.endswith("y")}
    return stems | plurals | {IRREGULAR_PLURALS[stem] for stem in stems if stem in IRREGULAR_PLURALS}


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
            data = yaml_text.load(yaml_text.read_text(path))
        except FileNotFoundError:
            siblings = [p.stem for p in path.parent.glob("*.yaml")]
            raise ConfigError(f"{path}: no such prompt file{nearest(path.stem, siblings)}") from None
        except yaml_text.WrongYamlError as err:
            raise ConfigError(f"{path}: not valid YAML: {err}") from err
        try:
            parsed = _PromptFile.model_validate(data)
        except ValidationError as err:
            first = err.errors()[0]
            where = ".".join(str(p) for p in first["loc"])
            raise ConfigError(f"{path}: {where}: {fault(first)}") from err
        if parsed.name != path.stem:
            raise ConfigError(f"{path}: name is {parsed.name!r}: it must be the file's name, {path.stem!r}")
        used = set(re.findall(r"(?<!\{)\{(\w+)\}(?!\})", parsed.text))
        if used != set(parsed.inputs):
            raise ConfigError(f"{path}: text uses {sorted(used)} but inputs lists {sorted(parsed.inputs)}")
        for name, rule in parsed.rules.items():
            if name not in parsed.answer:
                raise ConfigError(f"{path}: rules names {name!r}, no field of the answer{nearest(name, parsed.answer)}")
            if rule.omits and rule.omits not in parsed.inputs:
                raise ConfigError(
                    f"{path}: rules.{name}.omits names {rule.omits!r}, no input{nearest(rule.omits, parsed.inputs)}"
                )
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
        rules = {name: rule.model_dump(exclude_defaults=True) for name, rule in self.rules.items()}
        order = list(
            self.schema["properties"]
        )  # a model writes the fields in this order: a reason first helps the score
        return digest(self.name, self.text, self.schema, order, list(self.media.items()), rules)

    def render(self, fields: Mapping[str, Any]) -> str:
        """Fill the template; a field that the text needs and `fields` lacks raises ConfigError."""
        missing = [name for name in self.inputs if fields.get(name) is None]
        if missing:
            raise ConfigError(f"prompt {self.name!r} needs the fields {missing}, got {sorted(fields)}")
        text = re.sub(r"(?<!\{)\{(\w+)\}(?!\})", lambda m: str(fields[m[1]]), self.text)
        return text.replace("{{", "{").replace("}}", "}")

    def violations(self, answer: Mapping[str, Any], fields: Mapping[str, Any]) -> list[str]:
        """List what an answer breaks: missing, extra or mistyped entries first, then the text rules."""
        found = schema_violations(answer, self.schema)
        for name, rule in self.rules.items():
            value = answer.get(name)
            texts = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
            for text in texts:
                found += rule.violations(name, text, fields)
            if rule.distinct and len({text.lower() for text in texts}) < len(texts):
                found.append(f"{name} must not repeat itself, got {texts}")
        return found
