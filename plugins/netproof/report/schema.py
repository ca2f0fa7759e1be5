"""Whether a report document keeps its schema; for tests and `netproof report --check`."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from netproof.problem import Problem


def schema() -> dict[str, Any]:
    """The JSON Schema of the report document."""
    text = resources.files("netproof.report").joinpath("schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def problems(document: Any) -> list[str]:
    """What is wrong with the document, each with its place in it; empty where it keeps the schema. Raises Problem without jsonschema."""
    try:
        from jsonschema import Draft202012Validator
    except ImportError:
        raise Problem("Checking a report needs the package jsonschema: install it with `pip install jsonschema`.") from None
    errors = sorted(Draft202012Validator(schema()).iter_errors(document), key=lambda error: error.json_path)
    return [f"{error.json_path}: {error.message}" for error in errors]
