"""Which image a task gets, how often it is tried, and that it is built once."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from pytest_harbor.errors import EngineUnavailable, ImageError
from pytest_harbor.image import BuildContext, ImageDetails, ImageStore
from pytest_harbor.task import Task


class FakeBackend:
    """An engine whose images are files, so that processes share it."""

    engine_id = "fake"
    has_registries = True
    adapts = False

    def __init__(self, directory: Path, remote=(), failures: int = 0, away: bool = False) -> None:
        self.directory = directory
        self.remote = set(remote)
        self.failures = failures
        self.away = away
        directory.mkdir(exist_ok=True)

    def _file(self, ref: str) -> Path:
        return self.directory / ref.replace("/", "%")

    def add(self, ref: str) -> None:
        self._file(ref).touch()

    def work(self) -> list[str]:
        log = self.directory / "work.log"
        return log.read_text().splitlines() if log.exists() else []

    def _do(self, what: str, log: Path) -> None:
        with (self.directory / "work.log").open("a") as file:
            file.write(what + "\n")
        log.write_text(f"log of {what}")
        if self.away:
            raise EngineUnavailable("nobody there")
        if self.failures > 0:
            self.failures -= 1
            raise ImageError(f"{what.split()[0]} failed", "try harder", log=log)

    def find_image(self, ref):
        return ImageDetails(id=f"sha256:{ref}") if self._file(ref).exists() else None

    def pull_image(self, ref, *, log, timeout):
        self._do(f"pull {ref} {timeout:g}", log)
        if ref not in self.remote:
            raise ImageError(f"no {ref} anywhere", log=log)
        self.add(ref)

    def build_image(self, context, ref, *, log, timeout):
        self._do(f"build {ref} {timeout:g}", log)
        self.add(ref)


@pytest.fixture
def backend(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return FakeBackend(tmp_path / "engine")


@pytest.fixture
def task(make_task):
    def make(toml: str = "", dockerfile: bool = True, name: str = "a") -> Task:
        files = {"environment/Dockerfile": "FROM scratch\n"} if dockerfile else {}
        return Task.load(make_task(f"tb2/{name}", toml, files=files))

    return make


NAMED = '[environment]\ndocker_image = "org/named:1"\n'


def built_ref(task: Task) -> str:
    return f"pytest-harbor:{BuildContext(task.path / 'environment').digest[:24]}"


def words(backend) -> list[str]:
    return [line.split()[0] for line in backend.work()]


def test_auto_builds_a_dockerfile_once(backend, task, tmp_path):
    store, a = ImageStore(backend, tmp_path / "run"), task()
    image = store.ensure(a)
    assert (image.ref, image.source, image.notes) == (built_ref(a), "built", ())
    assert image.details.id == f"sha256:{image.ref}"
    assert "log of build" in image.log.read_text()
    assert image.log.is_relative_to(tmp_path / "run" / "images")
    assert store.ensure(a).ref == image.ref
    assert words(backend) == ["build"]


def test_tasks_with_equal_contexts_share_an_image(backend, task, tmp_path):
    store = ImageStore(backend, tmp_path / "run")
    assert store.ensure(task()).ref == store.ensure(task(name="b")).ref
    assert words(backend) == ["build"]


def test_a_later_run_takes_what_is_there(backend, task, tmp_path):
    a = task()
    ImageStore(backend, tmp_path / "run1").ensure(a)
    image = ImageStore(backend, tmp_path / "run2").ensure(a)
    assert (image.source, image.log) == ("cached", None)
    assert words(backend) == ["build"]


def test_a_changed_context_is_another_image(backend, task, tmp_path):
    a = task()
    first = ImageStore(backend, tmp_path / "run1").ensure(a)
    (a.path / "environment" / "new").touch()
    assert ImageStore(backend, tmp_path / "run2").ensure(a).ref != first.ref


def test_always_builds_once_a_run(backend, task, tmp_path):
    a = task()
    backend.add(built_ref(a))
    for run in ("run1", "run2"):
        for _ in range(2):  # two workers of one run
            image = ImageStore(backend, tmp_path / run, policy="always").ensure(a)
            assert image.source == "built"
    assert words(backend) == ["build", "build"]


def test_always_prefers_the_dockerfile_to_docker_image(backend, task, tmp_path):
    backend.add("org/named:1")
    a = task(NAMED)
    assert ImageStore(backend, tmp_path / "run", policy="always").ensure(a).ref == built_ref(a)


def test_never_takes_what_is_there_and_neither_builds_nor_pulls(backend, task, tmp_path):
    store, a = ImageStore(backend, tmp_path / "run", policy="never"), task()
    with pytest.raises(ImageError, match="--harbor-build=never forbids building it") as caught:
        store.ensure(a)
    assert "--harbor-build=auto" in caught.value.cure
    with pytest.raises(ImageError, match="org/named:1 is not here and --harbor-build=never forbids pulling it"):
        store.ensure(task(NAMED, name="b"))
    assert backend.work() == []
    backend.add(built_ref(a))
    assert store.ensure(a).source == "cached"


def test_docker_image_is_taken_where_it_is_present(backend, task, tmp_path):
    backend.add("org/named:1")
    image = ImageStore(backend, tmp_path / "run").ensure(task(NAMED))
    assert (image.ref, image.source, image.notes) == ("org/named:1", "present", ())
    assert backend.work() == []


def test_docker_image_is_pulled_where_it_is_not(backend, task, tmp_path):
    backend.remote = {"org/named:1"}
    store, a = ImageStore(backend, tmp_path / "run"), task(NAMED)
    assert store.ensure(a).source == "pulled"
    store.ensure(a)
    assert words(backend) == ["pull"]


def test_a_docker_image_that_cannot_be_had_gives_way_to_the_dockerfile_and_says_so(backend, task, tmp_path):
    a = task(NAMED)
    image = ImageStore(backend, tmp_path / "run", retries=0).ensure(a)
    assert (image.ref, image.source) == (built_ref(a), "built")
    (note,) = image.notes
    assert "docker_image org/named:1 cannot be had (no org/named:1 anywhere)" in note
    assert "Dockerfile was built instead" in note
    assert words(backend) == ["pull", "build"]


def test_the_note_stands_in_every_trial_of_the_task(backend, task, tmp_path):
    store, a = ImageStore(backend, tmp_path / "run", retries=0), task(NAMED)
    assert store.ensure(a).notes == store.ensure(a).notes != ()
    assert ImageStore(backend, tmp_path / "run", retries=0).ensure(a).notes == store.ensure(a).notes


def test_without_a_dockerfile_a_docker_image_that_cannot_be_had_is_an_error(backend, task, tmp_path):
    with pytest.raises(ImageError, match="no org/named:1 anywhere"):
        ImageStore(backend, tmp_path / "run").ensure(task(NAMED, dockerfile=False))


def test_a_task_that_brings_nothing_gets_the_fallback_and_a_note(backend, task, tmp_path):
    backend.add("own:1")
    image = ImageStore(backend, tmp_path / "run", fallback="own:1").ensure(task(dockerfile=False))
    assert image.ref == "own:1"
    assert image.notes == ("the task brings neither Dockerfile nor docker_image: own:1 is used",)


def test_a_name_that_is_given_wins_over_everything(backend, task, tmp_path):
    backend.add("given:1")
    assert ImageStore(backend, tmp_path / "run").ensure(task(NAMED), "given:1").ref == "given:1"
    assert backend.work() == []


def test_a_failure_is_tried_again(backend, task, tmp_path):
    backend.failures = 2
    image = ImageStore(backend, tmp_path / "run", retries=2).ensure(task())
    assert image.source == "built"
    assert words(backend) == ["build"] * 3
    assert len(list(image.log.parent.glob("log-*.txt"))) == 3, "the log of every try is kept"


def test_after_the_last_try_the_error_has_fact_cure_and_log(backend, task, tmp_path):
    backend.failures = 99
    with pytest.raises(ImageError) as caught:
        ImageStore(backend, tmp_path / "run", retries=1).ensure(task())
    assert (caught.value.fact, caught.value.cure) == ("build failed", "try harder")
    assert caught.value.log.exists()
    assert words(backend) == ["build"] * 2


def test_a_failure_is_remembered_for_the_other_workers_of_the_run(backend, task, tmp_path):
    backend.failures = 1
    a = task()
    errors = []
    for _ in range(3):
        with pytest.raises(ImageError) as caught:
            ImageStore(backend, tmp_path / "run1", retries=0).ensure(a)
        errors.append((caught.value.fact, caught.value.cure, caught.value.log))
    assert len(set(errors)) == 1
    assert words(backend) == ["build"]
    assert ImageStore(backend, tmp_path / "run2", retries=0).ensure(a).source == "built"


def test_an_engine_that_is_away_is_not_remembered_as_a_failed_build(backend, task, tmp_path):
    backend.away = True
    store, a = ImageStore(backend, tmp_path / "run"), task()
    with pytest.raises(EngineUnavailable):
        store.ensure(a)
    backend.away = False
    assert store.ensure(a).source == "built"


def test_the_deadline_is_the_tasks_times_the_multiplier(backend, task, tmp_path):
    a = task("[environment]\nbuild_timeout_sec = 10\n")
    ImageStore(backend, tmp_path / "run", timeout_multiplier=2.5).ensure(a)
    assert backend.work()[0].endswith(" 25")


def test_an_image_that_vanishes_after_its_build_is_an_error(backend, task, tmp_path, monkeypatch):
    monkeypatch.setattr(backend, "add", lambda ref: None)
    with pytest.raises(ImageError, match="was built and is not here"):
        ImageStore(backend, tmp_path / "run").ensure(task())


@pytest.mark.parametrize(
    "ref", ["r.io:5000/org/" + "x" * 200 + ":tag", "a/b@sha256:" + "0" * 64, "../../../etc/x", "sp ace"]
)
def test_names_of_all_kinds_make_safe_file_names(backend, task, tmp_path, ref):
    backend.remote = {ref}
    image = ImageStore(backend, tmp_path / "run").ensure(task(), ref)
    assert image.log.resolve().is_relative_to((tmp_path / "run").resolve())


def test_a_corrupt_note_of_an_earlier_worker_is_overlooked(backend, task, tmp_path):
    a = task()
    ref = built_ref(a)
    directory = tmp_path / "run" / "images" / f"build-{ref.replace(':', '_')}"
    directory.mkdir(parents=True)
    (directory / "outcome.json").write_text('{"log": ')
    assert ImageStore(backend, tmp_path / "run").ensure(a).source == "built"


def _ensure(barrier, engine, task, run, policy, queue) -> None:
    backend = FakeBackend(engine)
    store = ImageStore(backend, run, policy=policy)
    barrier.wait()
    queue.put(store.ensure(Task.load(task)).ref)


@pytest.mark.parametrize("policy", ["auto", "always"])
def test_two_processes_build_once(backend, task, tmp_path, policy):
    a = task()
    spawn = multiprocessing.get_context("fork")
    barrier, queue = spawn.Barrier(3), spawn.Queue()
    arguments = (barrier, tmp_path / "engine", a.path, tmp_path / "run", policy, queue)
    workers = [spawn.Process(target=_ensure, args=arguments) for _ in range(3)]
    for worker in workers:
        worker.start()
    refs = {queue.get(timeout=30) for _ in workers}
    for worker in workers:
        worker.join(30)
    assert refs == {built_ref(a)}
    assert words(backend) == ["build"]


def test_a_cache_directory_that_cannot_be_written_is_replaced(backend, task, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert ImageStore(backend, tmp_path / "run").ensure(task()).source == "built"
