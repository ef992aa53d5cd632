"""From tasks as Harbor has them to environments as HUD has them."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_harbor.errors import ConversionError
from pytest_harbor.hud.convert.files import all_files
from pytest_harbor.hud.convert.plan import Plan, plan
from pytest_harbor.hud.convert.write import Target
from pytest_harbor.task import TaskError, discover


def convert(source: str | os.PathLike[str], output: str | os.PathLike[str]) -> Plan:
    """Convert a task, a dataset or a directory of datasets, and return what was done and what could not be.

    What an earlier conversion wrote to the folder is replaced; nothing is written where no task can be converted.

    Raises:
        DatasetError: there is no task, or two datasets would become environments of one name.
        ConversionError: the folder holds something else, or cannot be written.

    """
    target = Path(output).resolve()
    place = Path(source).resolve()
    if target == place or target.is_relative_to(place) or place.is_relative_to(target):
        raise ConversionError(f"{output} and {source} lie within each other", "give a folder beside what is converted")
    tasks = discover([source])
    if converted := next((task for task in tasks if task.converted), None):
        raise ConversionError(f"{converted.path} is the outcome of a conversion", "convert what it was made from")
    folder = Target(target)
    todo = plan(tasks)
    if todo.environments:
        try:
            folder.write(all_files(todo.environments))
        except TaskError as error:
            raise ConversionError(f"{error}, and could before", "try again") from error
        except OSError as error:
            raise ConversionError(
                f"{target} cannot be written: {error}", "mend that, or give another folder"
            ) from error
    return todo
