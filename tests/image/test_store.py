"""The image store: which image a task gets, retries, and that each image is built once."""

from __future__ import annotations

import multiprocessing

import pytest
from fake_backend import NAMED, FakeBackend, built_ref, words

from pytest_harbor.errors import EngineUnavailable, ImageError
from pytest_harbor.image import ImageStore
from pytest_harbor.task import Task


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


def test_a_later_run_uses_the_cached_image(backend, task, tmp_path):
    a = task()
    ImageStore(backend, tmp_path / "run1").ensure(a)
    image = ImageStore(backend, tmp_path / "run2").ensure(a)
    assert (image.source, image.log) == ("cached", None)
    assert words(backend) == ["build"]


def test_a_changed_context_gets_a_new_image(backend, task, tmp_path):
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


def test_never_uses_existing_images_without_building_or_pulling(backend, task, tmp_path):
    store, a = ImageStore(backend, tmp_path / "run", policy="never"), task()
    with pytest.raises(ImageError, match="--harbor-build=never forbids building it") as caught:
        store.ensure(a)
    assert "--harbor-build=auto" in caught.value.fix
    with pytest.raises(ImageError, match="org/named:1 is not present locally, and --harbor-build=never forbids"):
        store.ensure(task(NAMED, name="b"))
    assert backend.work() == []
    backend.add(built_ref(a))
    assert store.ensure(a).source == "cached"


def test_docker_image_is_used_if_present(backend, task, tmp_path):
    backend.add("org/named:1")
    image = ImageStore(backend, tmp_path / "run").ensure(task(NAMED))
    assert (image.ref, image.source, image.notes) == ("org/named:1", "present", ())
    assert backend.work() == []


def test_docker_image_is_pulled_if_missing(backend, task, tmp_path):
    backend.remote = {"org/named:1"}
    store, a = ImageStore(backend, tmp_path / "run"), task(NAMED)
    assert store.ensure(a).source == "pulled"
    store.ensure(a)
    assert words(backend) == ["pull"]


def test_unavailable_docker_image_falls_back_to_the_dockerfile_with_a_note(backend, task, tmp_path):
    a = task(NAMED)
    image = ImageStore(backend, tmp_path / "run", retries=0).ensure(a)
    assert (image.ref, image.source) == (built_ref(a), "built")
    (note,) = image.notes
    assert (
        note == "docker_image org/named:1 is not available (no org/named:1 anywhere); built from the Dockerfile instead"
    )
    assert words(backend) == ["pull", "build"]


def test_the_note_is_kept_for_every_trial(backend, task, tmp_path):
    store, a = ImageStore(backend, tmp_path / "run", retries=0), task(NAMED)
    assert store.ensure(a).notes == store.ensure(a).notes != ()
    assert ImageStore(backend, tmp_path / "run", retries=0).ensure(a).notes == store.ensure(a).notes


def test_unavailable_docker_image_without_a_dockerfile_is_an_error(backend, task, tmp_path):
    with pytest.raises(ImageError, match="no org/named:1 anywhere"):
        ImageStore(backend, tmp_path / "run").ensure(task(NAMED, dockerfile=False))


def test_a_task_without_an_image_gets_the_fallback_and_a_note(backend, task, tmp_path):
    backend.add("own:1")
    image = ImageStore(backend, tmp_path / "run", fallback="own:1").ensure(task(dockerfile=False))
    assert image.ref == "own:1"
    assert image.notes == ("the task has neither a Dockerfile nor a docker_image; using own:1",)


def test_a_given_name_takes_precedence(backend, task, tmp_path):
    backend.add("given:1")
    assert ImageStore(backend, tmp_path / "run").ensure(task(NAMED), "given:1").ref == "given:1"
    assert backend.work() == []


def test_a_failed_build_is_retried(backend, task, tmp_path):
    backend.failures = 2
    image = ImageStore(backend, tmp_path / "run", retries=2).ensure(task())
    assert image.source == "built"
    assert words(backend) == ["build"] * 3
    assert len(list(image.log.parent.glob("log-*.txt"))) == 3, "the log of every attempt is kept"


def test_the_last_failure_has_fact_fix_and_log(backend, task, tmp_path):
    backend.failures = 99
    with pytest.raises(ImageError) as caught:
        ImageStore(backend, tmp_path / "run", retries=1).ensure(task())
    assert (caught.value.fact, caught.value.fix) == ("build failed", "try harder")
    assert caught.value.log.exists()
    assert words(backend) == ["build"] * 2


def test_other_workers_of_the_run_do_not_repeat_a_failure(backend, task, tmp_path):
    backend.failures = 1
    a = task()
    errors = []
    for _ in range(3):
        with pytest.raises(ImageError) as caught:
            ImageStore(backend, tmp_path / "run1", retries=0).ensure(a)
        errors.append((caught.value.fact, caught.value.fix, caught.value.log))
    assert len(set(errors)) == 1
    assert words(backend) == ["build"]
    assert ImageStore(backend, tmp_path / "run2", retries=0).ensure(a).source == "built"


def test_an_unavailable_engine_is_not_a_failed_build(backend, task, tmp_path):
    backend.away = True
    store, a = ImageStore(backend, tmp_path / "run"), task()
    with pytest.raises(EngineUnavailable):
        store.ensure(a)
    backend.away = False
    assert store.ensure(a).source == "built"


def test_timeout_multiplier(backend, task, tmp_path):
    a = task("[environment]\nbuild_timeout_sec = 10\n")
    ImageStore(backend, tmp_path / "run", timeout_multiplier=2.5).ensure(a)
    assert backend.work()[0].endswith(" 25")


def test_an_image_that_vanishes_after_the_build_is_an_error(backend, task, tmp_path, monkeypatch):
    monkeypatch.setattr(backend, "add", lambda ref: None)
    with pytest.raises(ImageError, match="was built but is not present"):
        ImageStore(backend, tmp_path / "run").ensure(task())


@pytest.mark.parametrize(
    "ref", ["r.io:5000/org/" + "x" * 200 + ":tag", "a/b@sha256:" + "0" * 64, "../../../etc/x", "sp ace"]
)
def test_log_paths_are_safe_for_any_image_name(backend, task, tmp_path, ref):
    backend.remote = {ref}
    image = ImageStore(backend, tmp_path / "run").ensure(task(), ref)
    assert image.log.resolve().is_relative_to((tmp_path / "run").resolve())


def test_a_corrupt_build_record_is_ignored(backend, task, tmp_path):
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


def test_unwritable_cache_directory(backend, task, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert ImageStore(backend, tmp_path / "run").ensure(task()).source == "built"
