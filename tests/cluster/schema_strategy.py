"""Documents at random from a CRD's schema: what fits its types, patterns, bounds and lists. For hypothesis.

What a schema cannot say (CEL rules, names of objects that exist) is told by `bias`: strategies by path, each taken most of the
time in place of what the schema would give, so that most documents pass the API server and the others try its rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

Schema = Mapping[str, Any]
Bias = Mapping[str, st.SearchStrategy[Any]]

LONGEST_LIST = 3
LONGEST_TEXT = 40
OPTIONAL_IN = 4
"""An optional field is given once in so many documents."""
BIASED = 20
"""Once in so many times a bias is not followed."""

ABSENT = object()
"""What a bias of an optional field draws for 'not given'."""

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**31), 2**31), st.text(st.characters(codec="utf-8"), max_size=12)
)


def from_schema(schema: Schema, bias: Bias, path: str = "") -> st.SearchStrategy[Any]:
    """Values of a structural schema.

    Args:
        bias: by path, as in `cpu.max`; items of lists are `disks[]`, values of maps `labels{}`.
    """
    plain = _plain(schema, bias, path)
    if path in bias:
        return st.integers(1, BIASED).flatmap(lambda n: bias[path] if n < BIASED else plain)
    return plain


def _plain(schema: Schema, bias: Bias, path: str) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return st.one_of(st.integers(0, 2**53), _text(schema))
    match schema.get("type"):
        case "object":
            return _object(schema, bias, path)
        case "array":
            return _array(schema, bias, path)
        case "string":
            return _text(schema)
        case "integer":
            return st.integers(schema.get("minimum", -(2**31)), schema.get("maximum", 2**31))
        case "boolean":
            return st.booleans()
    raise ValueError(f"{path}: no strategy for {schema}")


@st.composite
def _object(draw: st.DrawFn, schema: Schema, bias: Bias, path: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, field in schema.get("properties", {}).items():
        below = f"{path}.{name}" if path else name
        wanted = name in schema.get("required", ()) or below in bias
        if wanted or draw(st.integers(1, OPTIONAL_IN)) == OPTIONAL_IN:
            value = draw(from_schema(field, bias, below))
            if value is not ABSENT:
                result[name] = value
    if "additionalProperties" in schema:
        values = from_schema(schema["additionalProperties"], bias, f"{path}{{}}")
        keys = st.from_regex(r"[a-z][a-z0-9]{0,8}(\.dev/[a-z]{1,8})?", fullmatch=True)
        result |= draw(st.dictionaries(keys, values, max_size=LONGEST_LIST))
    elif schema.get("x-kubernetes-preserve-unknown-fields"):
        result |= draw(st.dictionaries(st.from_regex(r"[a-z][a-zA-Z]{0,12}", fullmatch=True), anything(), max_size=2))
    return result


def anything() -> st.SearchStrategy[Any]:
    """Any JSON, shallow."""
    return st.recursive(
        LEAVES,
        lambda below: st.lists(below, max_size=2) | st.dictionaries(st.text("abcXYZ", min_size=1, max_size=6), below, max_size=2),
        max_leaves=4,
    )


def _array(schema: Schema, bias: Bias, path: str) -> st.SearchStrategy[list[Any]]:
    keys = schema.get("x-kubernetes-list-map-keys", ())
    size = {
        "min_size": schema.get("minItems", 0),
        "max_size": max(min(LONGEST_LIST, schema.get("maxItems", LONGEST_LIST)), schema.get("minItems", 0)),
    }
    items = from_schema(schema["items"], bias, f"{path}[]")
    if keys:
        return st.lists(items, unique_by=lambda item: tuple(item.get(key) for key in keys), **size)
    return st.lists(items, **size)


def _text(schema: Schema) -> st.SearchStrategy[str]:
    shortest = schema.get("minLength", 0)
    longest = schema.get("maxLength", LONGEST_TEXT)
    if "pattern" in schema:
        # The server's patterns know ASCII only, Python's \d and $ more than that.
        found = st.from_regex(schema["pattern"], fullmatch=True, alphabet=st.characters(codec="ascii"))
        return found.filter(lambda text: shortest <= len(text) <= longest and not text.endswith("\n"))
    return st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=shortest, max_size=min(longest, LONGEST_TEXT))
