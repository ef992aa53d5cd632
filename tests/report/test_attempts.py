"""Statistics over several attempts."""

from pytest_harbor.gate import Sample
from pytest_harbor.report.attempts import lines


def sample(*rewards: float, errors: int = 0) -> Sample:
    return Sample(tuple(map(float, rewards)), sum(reward >= 1 for reward in rewards), errors=errors)


def test_rates_mean_and_flaky_tasks_per_agent():
    run = {
        ("ds/a", "bot"): sample(1, 1, 1),
        ("ds/b", "bot"): sample(1, 0, 0),
        ("ds/c", "bot"): sample(0, 0, 0),
        ("ds/a", "once"): sample(1),
    }
    assert lines(run) == [
        "bot: pass@1 44.4%, pass@3 66.7%, pass^3 33.3%; mean reward 0.444 over 3 tasks, 95% interval 0.000 to 1.000",
        "bot: 1 flaky task: ds/b",
    ]
    assert lines(run, flaky=False) == lines(run)[:1]


def test_k_is_the_fewest_graded_attempts():
    run = {("ds/a", "bot"): sample(1, 0, 1), ("ds/b", "bot"): sample(1, 1, errors=1), ("ds/c", "bot"): sample(errors=3)}
    (rates, _) = lines(run)
    assert rates.startswith("bot: pass@1 83.3%, pass@2 100.0%, pass^2 66.7%; mean reward 0.833 over 2 tasks")


def test_single_attempt_has_no_lines():
    assert lines({("ds/a", "bot"): sample(1), ("ds/b", "bot"): sample(1, 0)}) == []
    assert lines({}) == []


def test_names_are_limited_and_printable():
    run = {(f"ds/\x1b[31m{n:02}\n", "bot\n"): sample(1, 0) for n in range(12)}
    text = lines(run)
    assert all(line.isprintable() for line in text)
    assert text[1].endswith(" and 2 more")
