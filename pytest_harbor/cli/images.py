"""The command `pytest-harbor images`."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_harbor._util.choices import DEFAULT_IMAGE
from pytest_harbor._util.signals import interrupt_on_signals
from pytest_harbor._util.text import listed, plural
from pytest_harbor.errors import UnmetRequirement

if TYPE_CHECKING:
    from pytest_harbor.image.publish import PublishPlan, PublishResult


# The most tasks to name for an image.
MAX_NAMES = 4


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the command to its parser."""
    parser = commands.add_parser(
        "images", help="Build the images of datasets or of converted environments, and optionally push them"
    )
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="DATASET",
        help="A task, a dataset, a directory of datasets, or a converted directory",
    )
    parser.add_argument(
        "--adapt",
        choices=("lean", "hud"),
        help="The layer to add to the images of tasks, as with pytest --harbor-adapt (default lean); for a converted "
        "directory, this builds the images of its tasks instead of those of its environments",
    )
    parser.add_argument("--push", type=_repository, metavar="HOST/PREFIX", help="Push the images to a registry")
    parser.add_argument(
        "--task", action="append", default=[], metavar="GLOB", help="Only tasks whose name or id matches; repeatable"
    )
    parser.add_argument("--jobs", type=_jobs, metavar="N", help="Number of images to process at a time (default: CPUs)")
    parser.add_argument(
        "--build",
        choices=("auto", "always"),
        default="auto",
        help="auto builds missing images only; always rebuilds them, for example after a base image has changed "
        "(default auto)",
    )
    parser.add_argument(
        "--image",
        default=DEFAULT_IMAGE,
        metavar="REF",
        help=f"Image for tasks with neither a Dockerfile nor a docker_image (default {DEFAULT_IMAGE})",
    )
    parser.add_argument(
        "--logs",
        type=Path,
        metavar="DIR",
        help="Write the logs to DIR (default: keep them only on failure)",
    )
    return parser


def _repository(value: str) -> str:
    from pytest_harbor.image.registry import parse_repository

    try:
        return parse_repository(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{value!r} is not valid; {error}") from error


def _jobs(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value!r} is not valid; use a whole number from 1")
    return int(value)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit status: 1 if an image cannot be built, pulled or pushed."""
    from pytest_harbor.environment.docker import DockerProvider
    from pytest_harbor.image.publish import Publisher, default_jobs

    logs = _log_directory(options.logs)
    interrupt_on_signals()
    provider = DockerProvider()
    failed = True
    try:
        publisher = Publisher(
            provider,
            logs,
            adapt=options.adapt,
            registry=options.push or "",
            policy=options.build,
            fallback=options.image,
            jobs=options.jobs or default_jobs(),
        )
        plan = publisher.plan([path.absolute() for path in options.paths], options.task)
        failed = _print(plan, publisher.run(plan.targets))
    finally:
        provider.close()
        if not options.logs and not (failed and any(logs.iterdir())):
            shutil.rmtree(logs)
    return int(failed)


def _log_directory(chosen: Path | None) -> Path:
    if chosen is None:
        return Path(tempfile.mkdtemp(prefix="pytest-harbor-images-"))
    try:
        chosen.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnmetRequirement(f"--logs: {chosen} cannot be created: {error}") from error
    return chosen.absolute()


def _print(plan: PublishPlan, results: Iterator[PublishResult]) -> bool:
    """Print each result as it arrives, then a summary; return True if anything failed."""
    problems = [f"{name}: {error}" for name, error in plan.broken]
    notes: dict[str, None] = {}
    counts: Counter[str] = Counter()
    for name, reason in plan.skipped:
        print(f"skipped            {name}: {reason}")
    for result in results:
        names = listed(result.target.names, MAX_NAMES)
        image = " -> ".join(filter(None, (result.ref, result.remote)))
        print(f"{result.status:<9} {result.seconds:6.1f} s {image}  {names}", flush=True)
        counts[result.status] += 1
        notes.update(dict.fromkeys(f"{names}: {note}" for note in result.notes))
        if result.error:
            problems.append(f"{names}: {result.error}")
    for note in notes:
        print(f"note: {note}")
    statuses = ", ".join(f"{number} {status}" for status, number in counts.items())
    skipped = plural(len(plan.skipped), "task")
    print(f"{plural(sum(counts.values()), 'image')}: {statuses or 'none'}; {skipped} skipped")
    for problem in problems:
        print(f"failed: {problem}", file=sys.stderr)
    return bool(problems)
