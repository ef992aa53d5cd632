"""The command `pytest-harbor images`."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_harbor._util.choices import DEFAULT_IMAGE
from pytest_harbor.errors import UnmetRequirement

if TYPE_CHECKING:
    from pytest_harbor.image.publish import PublishPlan, PublishResult


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the command to its parser."""
    parser = commands.add_parser(
        "images", help="Build all images of datasets, or of converted environments, and push them"
    )
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="DATASET",
        help="A task, dataset, directory of them, or converted directory",
    )
    parser.add_argument(
        "--adapt",
        choices=("lean", "hud"),
        help="What is added to the images of tasks, see --harbor-adapt of pytest (default lean); with it, what is "
        "built of a converted directory is the images of its tasks, and not those of its environments",
    )
    parser.add_argument("--push", type=_repository, metavar="HOST/PREFIX", help="Push them to a registry")
    parser.add_argument(
        "--task", action="append", default=[], metavar="GLOB", help="Only of tasks whose name or id matches; repeatable"
    )
    parser.add_argument("--jobs", type=_jobs, metavar="N", help="How many at a time (default: as many as CPUs)")
    parser.add_argument(
        "--build",
        choices=("auto", "always"),
        default="auto",
        help="Whether what is there already is built again, as when a base image has changed (default auto)",
    )
    parser.add_argument(
        "--image",
        default=DEFAULT_IMAGE,
        metavar="REF",
        help=f"Image for tasks that bring neither Dockerfile nor docker_image (default {DEFAULT_IMAGE})",
    )
    parser.add_argument(
        "--logs", type=Path, metavar="DIR", help="Keep the logs in DIR (default: keep them where something fails)"
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
    """Run the command and return its exit status: 1 where an image could not be had or pushed."""
    from pytest_harbor.environment.docker import DockerProvider
    from pytest_harbor.image.publish import Publisher, default_jobs

    logs = _directory(options.logs)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
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


def _directory(chosen: Path | None) -> Path:
    if chosen is None:
        return Path(tempfile.mkdtemp(prefix="pytest-harbor-images-"))
    try:
        chosen.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnmetRequirement(f"--logs: {chosen} cannot be made: {error}") from error
    return chosen.absolute()


def _print(plan: PublishPlan, results: Iterator[PublishResult]) -> bool:
    """Print what becomes of images as it becomes known, and tell whether anything failed."""
    problems = [f"{name}: {error}" for name, error in plan.broken]
    notes: dict[str, None] = {}
    counts: Counter[str] = Counter()
    for name, reason in plan.skipped:
        print(f"skipped            {name}: {reason}")
    for result in results:
        names = _listed(result.target.names)
        image = " -> ".join(filter(None, (result.ref, result.remote)))
        print(f"{result.status:<9} {result.seconds:6.1f} s {image}  {names}", flush=True)
        counts[result.status] += 1
        notes.update(dict.fromkeys(f"{names}: {note}" for note in result.notes))
        if result.error:
            problems.append(f"{names}: {result.error}")
    for note in notes:
        print(f"note: {note}")
    said = ", ".join(f"{number} {how}" for how, number in counts.items())
    print(f"{sum(counts.values())} images: {said or 'none'}; {len(plan.skipped)} tasks skipped")
    for problem in problems:
        print(f"failed: {problem}", file=sys.stderr)
    return bool(problems)


def _listed(names: Sequence[str], shown: int = 4) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
