"""The image store: layers, registries and setups."""

from __future__ import annotations

import pytest
from fake_backend import NAMED, built_ref, words

from pytest_harbor.errors import ImageError
from pytest_harbor.image import ImageStore


@pytest.fixture
def adapting(backend):
    backend.adapts = True
    return backend


def layers(backend) -> set[str]:
    return {context.adaptation.layer for context in backend.contexts.values() if context.adaptation}


def test_lean_images_share_a_layer_that_is_imported_once(adapting, task, tmp_path):
    store = ImageStore(adapting, tmp_path / "run")
    other = task(name="b")
    (other.path / "environment" / "file").touch()
    first, second = store.ensure(task()), store.ensure(other)
    assert first.ref != second.ref
    assert words(adapting) == ["import", "build", "build"]
    assert len(layers(adapting)) == 1
    assert {context.adaptation.name for context in adapting.contexts.values()} == {"lean"}


def test_a_cached_image_needs_no_layer(adapting, task, tmp_path):
    a = task()
    ref = ImageStore(adapting, tmp_path / "run1").ensure(a).ref
    for file in adapting.directory.iterdir():
        if file.name != ref and file.name != "work.log":
            file.unlink()
    assert ImageStore(adapting, tmp_path / "run2").ensure(a).source == "cached"
    assert words(adapting) == ["import", "build"]


def test_the_hud_layer_is_built_first(adapting, task, tmp_path):
    store = ImageStore(adapting, tmp_path / "run", adapt="hud")
    a = task()
    image, lean = store.ensure(a), ImageStore(adapting, tmp_path / "lean").ensure(a)
    assert image.ref != lean.ref
    layer, task_image = [line.split()[1] for line in adapting.work()[:2]]
    assert task_image == image.ref
    assert adapting.contexts[image.ref].adaptation.layer == layer
    assert adapting.contexts[layer].adaptation is None
    store.ensure(task(name="b"))
    assert words(adapting) == ["build", "build", "import", "build"]


def test_hud_adapts_finished_images_too(adapting, task, tmp_path):
    adapting.add("org/named:1")
    image = ImageStore(adapting, tmp_path / "run", adapt="hud").ensure(task(NAMED, dockerfile=False))
    assert "FROM org/named:1" in adapting.dockerfiles[image.ref]
    assert adapting.contexts[image.ref].adaptation.name == "hud"


def test_a_layer_that_cannot_be_built_is_named(adapting, task, tmp_path):
    adapting.failures = 9
    with pytest.raises(ImageError, match="the layer for --harbor-adapt=hud cannot be built: build failed") as caught:
        ImageStore(adapting, tmp_path / "run", adapt="hud", retries=0).ensure(task())
    assert "network" in caught.value.fix
    assert caught.value.log.exists()


def test_notes_without_an_engine(backend, task, tmp_path):
    backend.has_registries = False
    image = ImageStore(backend, tmp_path / "run", adapt="hud", registry="r.io/x").ensure(task())
    assert image.notes == (
        "--harbor-adapt=hud has no effect without a container engine",
        "--harbor-registry has no effect without a container engine",
    )
    assert words(backend) == ["build"]


def test_a_published_image_is_pulled_instead_of_built(backend, task, tmp_path):
    a = task()
    remote = built_ref(a).replace("pytest-harbor:", "r.io/x:") + "-mips"
    backend.remote = {remote}
    image = ImageStore(backend, tmp_path / "run", registry="r.io/x").ensure(a)
    assert (image.ref, image.source, image.notes) == (built_ref(a), "pulled", ())
    assert backend.work() == [f"pull {remote} 600"]
    assert "log of pull" in image.log.read_text()


def test_an_image_missing_in_the_registry_is_built(backend, task, tmp_path):
    image = ImageStore(backend, tmp_path / "run", registry="r.io/x").ensure(task())
    assert (image.source, image.notes) == ("built", ())
    assert words(backend) == ["pull", "build"]


def test_an_unavailable_registry_is_asked_once(backend, task, tmp_path):
    backend.registry_away = True
    store, other = ImageStore(backend, tmp_path / "run", registry="r.io/x"), task(name="b")
    (other.path / "environment" / "file").touch()
    note = "image built locally: registry r.io/x does not answer or refuses (it is down)"
    for image in (store.ensure(task()), store.ensure(other)):
        assert (image.source, image.notes) == ("built", (note,))
    # Another worker of the run.
    (other.path / "environment" / "file").write_text("another")
    assert ImageStore(backend, tmp_path / "run", registry="r.io/x").ensure(other).notes == (note,)
    assert words(backend) == ["pull", "build", "build", "build"]


@pytest.mark.parametrize("policy", ["always", "never"])
def test_only_auto_asks_the_registry(backend, task, tmp_path, policy):
    a = task()
    backend.add(built_ref(a))
    ImageStore(backend, tmp_path / "run", registry="r.io/x", policy=policy).ensure(a)
    assert "pull" not in words(backend)


def test_a_setup_skips_the_registry_and_keeps_the_images_notes(backend, task, tmp_path):
    store, a = ImageStore(backend, tmp_path / "run", registry="r.io/x"), task()
    below = store.ensure(a)
    before = len(backend.work())
    image = store.with_setup(below, "pip install agent", timeout=50)
    assert backend.work()[before:] == [f"build {image.ref} 50"]
    assert backend.dockerfiles[image.ref].splitlines()[1:3] == [f"FROM {below.ref}", "ADD files.tar /"]
    assert (image.source, image.setup, image.below, image.notes) == (below.source, "built", below.ref, below.notes)
    assert store.with_setup(below, "pip install agent").ref == image.ref
    assert ImageStore(backend, tmp_path / "later").with_setup(below, "pip install agent").setup == "cached"


def test_a_failed_setup_names_its_image(backend, task, tmp_path):
    below = ImageStore(backend, tmp_path / "run").ensure(task())
    backend.failures = 9
    with pytest.raises(ImageError, match=f"the agent's setup on {below.ref} failed: build failed; try harder"):
        ImageStore(backend, tmp_path / "run", retries=0).with_setup(below, "false")
