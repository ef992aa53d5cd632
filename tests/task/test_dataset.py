import json
import time

import pytest

from pytest_harbor.task import Dataset, DatasetError, Task, TaskError, discover, select_tasks


def ids(tasks):
    return [task.id for task in tasks]


def test_discovery_order(write_task, tmp_path):
    for where in ("z/one", "a/two", "a/deep/er/three", "a b/four", "a/.git/five", "a/two/tests/six"):
        write_task(where, test=None)
    assert ids(discover([tmp_path / "z", tmp_path])) == ["z/one", "er/three", "a/two", "a b/four"]
    assert ids(discover([tmp_path / "a", tmp_path / "a" / "two" / "task.toml"])) == ["er/three", "a/two"]
    assert ids(discover([str(tmp_path / "a" / "two")])) == ["a/two"]
    assert ids(discover([tmp_path / "a" / ".git"])) == [".git/five"]


def test_broken_tasks_are_discovered(write_task, tmp_path):
    write_task("d/broken", "= =")
    (tmp_path / "d" / "directory" / "task.toml").mkdir(parents=True)
    assert ids(discover([tmp_path])) == ["d/broken", "d/directory"]


def test_names_of_datasets_in_equal_directories(write_task, tmp_path):
    for where in ("a/tb2/x", "b/tb2/x", "b/v/tb2/x", "c/v/tb2/x", "other/x"):
        write_task(where)
    assert ids(discover([tmp_path])) == ["a/tb2/x", "b/tb2/x", "b/v/tb2/x", "c/v/tb2/x", "other/x"]
    assert ids(discover([tmp_path / "a"])) == ["tb2/x"]


def test_links_are_followed_and_keep_their_path(write_task, tmp_path):
    write_task("real/x")
    (tmp_path / "linked").symlink_to("real")
    found = discover([tmp_path])
    assert ids(found) == ["linked/x", "real/x"]
    assert found[0].path == tmp_path / "linked" / "x"
    assert len(discover([tmp_path / "linked", tmp_path / "linked" / "x", tmp_path])) == 2


def test_link_loops(write_task, tmp_path):
    write_task("a/x")
    write_task("b/y")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "a" / "b").symlink_to("../b")
    (tmp_path / "b" / "a").symlink_to("../a")
    assert [str(task.path.relative_to(tmp_path)) for task in discover([tmp_path])] == [
        "a/b/y",
        "a/x",
        "b/a/x",
        "b/y",
    ]


def test_many_directories_that_link_to_each_other(write_task, tmp_path):
    for n in range(12):
        write_task(f"d{n}/t")
        for m in range(12):
            if m != n:
                (tmp_path / f"d{n}" / f"l{m}").symlink_to(f"../d{m}")
    start = time.monotonic()
    assert {task.name for task in discover([tmp_path])} == {"t"}
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    "where,message",
    [
        ("missing", "missing does not exist; give a task"),
        ("file", "file is not a directory; give a task"),
        ("empty", "empty contains no task; a task is a directory with a task.toml"),
    ],
)
def test_paths_without_tasks(tmp_path, where, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty" / ".hidden").mkdir(parents=True)
    with pytest.raises(DatasetError) as caught:
        discover([tmp_path / where])
    assert message in str(caught.value)


def test_ten_thousand_tasks(tmp_path):
    for n in range(10_000):
        (tmp_path / f"task-{n:05}").mkdir()
        (tmp_path / f"task-{n:05}" / "task.toml").touch()
    start = time.monotonic()
    found = discover([tmp_path])
    assert len(found) == 10_000
    selected = select_tasks(found, [task.name for task in found], ["*-0000?"])
    # Takes about a second on an idle machine; the bound only has to catch quadratic time.
    assert time.monotonic() - start < 8
    assert len(selected) == 9_990


ODD = ["UPPER", "with space", "brackets[1]", "new\nline", "ünï-世界", "quote's\"", "-dash", "a%s{x}"]


def test_unusual_names(write_task, tmp_path):
    for name in ODD:
        write_task(f"odd/{name}")
    dataset = Dataset(tmp_path / "odd")
    assert sorted(task.name for task in dataset) == sorted(ODD)
    for name in ODD:
        assert ids(dataset.select(name)) == [f"odd/{name}"]
        assert dataset[f"odd/{name}"].name == name
        dataset[name].check()
    assert len(dataset.to_records()) == len(ODD)


def test_selection(write_task, tmp_path):
    for where in ("a/hello", "a/help", "b/hello", "b/other"):
        write_task(where)
    tasks = discover([tmp_path])
    assert ids(select_tasks(tasks, [], [])) == ["a/hello", "a/help", "b/hello", "b/other"]
    assert ids(select_tasks(tasks, ["b/*", "help"], [])) == ["a/help", "b/hello", "b/other"]
    assert ids(select_tasks(tasks, ["hel*"], ["b/hello"])) == ["a/hello", "a/help"]
    assert ids(select_tasks(tasks, [], ["hel[lp]*"])) == ["b/other"]
    for include, exclude in ((["HELLO", "*"], []), ([], ["helo"])):
        with pytest.raises(DatasetError, match=r"no task matches '(HELLO|helo)'") as caught:
            select_tasks(tasks, include, exclude)
    assert "did you mean 'hello'" in str(caught.value)
    with pytest.raises(DatasetError, match="there are 4 tasks, such as 'a/hello'"):
        select_tasks(tasks, ["zzz"], [])
    with pytest.raises(DatasetError, match="and 2 more patterns without a match"):
        select_tasks(tasks, ["1", "2", "3", "4", "5"], [])


def test_dataset_is_a_sequence(write_task, tmp_path):
    write_task("a/hello")
    write_task("b/hello")
    write_task("b/other")
    dataset = Dataset(tmp_path)
    assert (dataset.path, dataset.name, len(dataset)) == (tmp_path, tmp_path.name, 3)
    assert dataset[-1].name == "other"
    assert ids(dataset[:2]) == ["a/hello", "b/hello"]
    assert dataset["other"].id == dataset["b/other"].id == "b/other"
    assert Task(tmp_path / "a" / "hello") in dataset
    with pytest.raises(KeyError, match="several tasks are named 'hello'; use an id: a/hello, b/hello"):
        dataset["hello"]
    with pytest.raises(KeyError, match="no task 'othr'; did you mean 'other'"):
        dataset["othr"]
    assert Dataset(tmp_path / "a").name == "a"
    assert Dataset(tmp_path / "b" / "other").name == "b"
    assert Dataset(tmp_path / "b" / "other" / "task.toml").name == "b"
    with pytest.raises(DatasetError):
        Dataset(tmp_path / "none")


MIXED = "[metadata]\nx = 'a'\nwhen = 2026-01-02T03:04:05Z\nmixed = [1, 'a', 10:00:00, nan]\n"


def test_records(write_task, tmp_path):
    write_task("d/a", MIXED + "[environment]\ndocker_image = 'debian'\n")
    write_task("d/b", "unknown = 1\n[metadata]\nx = 1\n")
    first, second = Dataset(tmp_path / "d").to_records()
    assert list(first) == ["example_id", "task", "prompt", "info"]
    assert (first["example_id"], first["task"]) == (0, "a")
    assert first["prompt"] == [{"role": "user", "content": "Say hello.\n"}]
    assert first["info"]["task_dir"] == str(tmp_path / "d" / "a")
    assert (first["info"]["docker_image"], second["info"]["docker_image"]) == ("debian", None)
    assert json.loads(first["info"]["config"])["metadata"] == {
        "x": "a",
        "when": "2026-01-02T03:04:05+00:00",
        "mixed": [1, "a", "10:00:00", "nan"],
    }
    assert json.loads(second["info"]["config"]) == {"unknown": 1, "metadata": {"x": 1}}
    assert json.loads(json.dumps([first, second], allow_nan=False)) == [first, second]


@pytest.mark.parametrize("toml", ["= =", "[metadata]\na" + ".a" * 3000 + " = 1", "[metadata]\na = 0x" + "f" * 5000])
def test_records_of_a_broken_task(write_task, tmp_path, toml):
    write_task("d/a", "")
    broken = write_task("d/broken", toml)
    with pytest.raises(TaskError) as caught:
        Dataset(tmp_path / "d").to_records()
    assert caught.value.path == broken / "task.toml"


def test_records_with_the_datasets_library(write_task, tmp_path):
    datasets = pytest.importorskip("datasets")
    write_task("d/a", MIXED)
    write_task("d/b", "[metadata]\nx = 1\nmixed = 'no list'\n[environment]\ndocker_image = 'debian'\n")
    records = Dataset(tmp_path / "d").to_records()
    assert datasets.Dataset.from_list(records).to_list() == records
