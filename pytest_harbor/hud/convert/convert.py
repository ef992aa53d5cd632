"""Conversion of Harbor tasks to HUD environments."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_harbor.errors import ConversionError
from pytest_harbor.hud.convert.files import all_files
from pytest_harbor.hud.convert.plan import Plan, plan
from pytest_harbor.hud.convert.write import OutputDirectory
from pytest_harbor.task import TaskError, discover


def convert(source: str | os.PathLike[str], output: str | os.PathLike[str]) -> Plan:
    """Convert a task, a dataset or a directory of datasets; return the plan that was carried out.

    The output of an earlier conversion is replaced. If no task can be converted, nothing is written.

    Raises:
        DatasetError: there are no tasks, or two datasets would become environments with the same name.
        ConversionError: the output directory has other content, or cannot be written.

    """
    output_path, source_path = Path(output).resolve(), Path(source).resolve()
    if output_path.is_relative_to(source_path) or source_path.is_relative_to(output_path):
        raise ConversionError(f"{output} and {source} overlap", "choose an output directory outside the source")
    tasks = discover([source])
    if converted := next((task for task in tasks if task.converted), None):
        raise ConversionError(f"{converted.path} is already converted", "convert its source instead")
    directory = OutputDirectory(output_path)
    result = plan(tasks)
    if result.environments:
        try:
            directory.write(all_files(result.environments))
        except TaskError as error:
            raise ConversionError(f"{error} (it changed during the conversion)", "run the conversion again") from error
        except OSError as error:
            raise ConversionError(
                f"{output_path} cannot be written: {error}", "fix that, or choose another directory"
            ) from error
    return result
