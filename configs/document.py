"""Reads YAML and JSON documents into checked models, or says in one line what is wrong with them.

Owns the wording of configuration errors. Knows no format: the pydantic model that describes the file is
handed in. A path or bare name comes in, a model goes out.
"""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

import configs

__all__ = ["WrongInputError", "read_json", "read_yaml"]

Model = TypeVar("Model", bound=BaseModel)


class WrongInputError(ValueError):
    """Something a person gave cannot be used. The message names the thing and the remedy.

    The command line prints it as one line and ends with exit code 2; nothing was written.
    """


def read_yaml(name: str | Path, model: type[Model], folder: str = "") -> Model:
    """Read a YAML file into a pydantic model.

    Parameters
    ----------
    name
        A path, or the bare name of a file in ``configs/folder``.
    model
        The pydantic model that describes the file.
    folder
        Where bare names are looked up, below ``configs/``.

    Raises
    ------
    WrongInputError
        The file is missing, is not YAML, or does not fit the model; the first offending key is named.
    """
    try:
        path = configs.find(name, folder)
    except FileNotFoundError as error:
        raise WrongInputError(str(error)) from error
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        msg = f"{path}: not readable as YAML ({_one_line(error)}); correct the file"
        raise WrongInputError(msg) from error
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise WrongInputError(f"{path}: {_first_problem(error)}") from error


def read_json(path: Path, model: type[Model], *, what: str, remedy: str) -> Model:
    """Read the JSON file that makes a folder what it is.

    Parameters
    ----------
    path
        The file, in the folder that a person named.
    model
        The pydantic model that describes it.
    what, remedy
        For the message: what the folder was taken for, and which folder to give instead.

    Raises
    ------
    WrongInputError
        The file is missing or does not fit the model.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path.parent} is not {what} (no {path.name}); {remedy}"
        raise WrongInputError(msg) from error
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        msg = f"{path} is not the {path.name} of {what}: {_first_problem(error)}"
        raise WrongInputError(msg) from error


def _first_problem(error: ValidationError) -> str:
    """Return the first problem of a validation error as one line that names the key."""
    problems = error.errors()
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"]) or "the document"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"unknown key '{key}'; remove it or correct its spelling{more}"
    if first["type"] == "missing":
        return f"key '{key}' is missing; add it{more}"
    said = first["msg"].removeprefix("Value error, ")
    return f"key '{key}': {said}; got {first['input']!r}{more}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
