"""The command that reruns one test: its node id, and the options of this run that matter to it."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_harbor.plugin.options.option import Option
from pytest_harbor.plugin.options.table import OPTIONS
from pytest_harbor.plugin.session import HarborSession
from pytest_harbor.proxy.redact import Redactor, secret_values

if TYPE_CHECKING:
    from pytest_harbor.trial import TrialResult

# Options that select tasks, judge the whole run or say where its reports go: a rerun of one test needs none of them.
_OF_THE_WHOLE_RUN = {
    *("harbor-task", "harbor-exclude-task", "harbor-shard", "harbor-session-budget", "harbor-html"),
    *("harbor-baseline", "harbor-gate", "harbor-inconclusive", "harbor-max-infra-errors", "harbor-min-coverage"),
    *("harbor-confirm", "harbor-changed"),
    *("harbor-save-baseline", "harbor-update-baseline", "harbor-force-baseline", "harbor-record-only"),
}
_OF_PYTEST = ("-c", "--config-file", "--rootdir", "--confcutdir", "-o", "--override-ini", "-p")
# What looks like a secret in a command line: its name before an equals sign, or a URL's password.
_SECRET = re.compile(
    r"([\w-]*(?:KEY|TOKEN(?!S)|SECRET|PASSWORD|PASSWD|CREDENTIAL)[\w-]*=)(?!\$)[^\s'\"]{8,}|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)",
    re.IGNORECASE,
)


class RerunCommands:
    """Returns for each trial the command that reruns its test in the directory of this run.

    Secrets are omitted: of `--harbor-agent-env`, only names remain.

    Args:
        session: the plugin's session.

    """

    def __init__(self, session: HarborSession) -> None:
        self._config = session.config
        self._redactor = Redactor((value, name) for name, value in secret_values(os.environ).items())
        given = [*shlex.split(os.environ.get("PYTEST_ADDOPTS", "")), *map(str, self._config.invocation_params.args)]
        self._options = [(option, list(self._words(option))) for option in OPTIONS if _is_given(option, given)]
        self._of_pytest = list(_pytest_words(given))

    def __call__(self, result: TrialResult) -> str:
        """Return the command as one line for a shell; empty if the test is unknown."""
        path, separator, name = result.node_id.partition("::")
        if not separator:
            return ""
        # The tasks of task.toml need no dataset; those of other tests are found in the datasets.
        is_task = Path(path).name == "task.toml"
        words = [
            word
            for option, option_words in self._options
            if not (is_task and option.name == "harbor-dataset")
            for word in option_words
        ]
        if is_task and "[" not in name:
            # Without a label it would name all attempts.
            words = [word for word in words if not word.startswith("--harbor-attempts=")]
        node_id = f"{self._from_here(path)}::{name}"
        return self._hide(" ".join(map(_quoted, ("pytest", node_id, *words, *self._of_pytest))))

    def _from_here(self, path: str) -> str:
        """Return a path of a node id, relative to where pytest was started instead of its root directory."""
        absolute, here = self._config.rootpath / path, self._config.invocation_params.dir
        return str(absolute) if Path(path).is_absolute() else os.path.relpath(absolute, here)

    def _words(self, option: Option) -> Iterator[str]:
        value: Any = self._config.getoption(option.key)
        if option.kind == "switch":
            yield option.flag
            return
        for each in value if isinstance(value, list) else [value]:
            text = str(each).partition("=")[0] if option.name == "harbor-agent-env" else str(each)
            yield f"{option.flag}={text}"

    def _hide(self, text: str) -> str:
        return self._redactor.hide(_SECRET.sub(lambda match: f"{match[1] or ''}***", text))


def _is_given(option: Option, given: Sequence[str]) -> bool:
    """Whether a flag was given by the command line rather than by pytest's ini file, which a rerun reads again."""
    return option.name not in _OF_THE_WHOLE_RUN and any(
        word == option.flag or word.startswith(f"{option.flag}=") for word in given
    )


def _pytest_words(given: Sequence[str]) -> Iterator[str]:
    """Yield pytest's own options that change how tests are found and set up, with their values."""
    words = iter(given)
    for word in words:
        flag, has_value, _ = word.partition("=")
        if word in _OF_PYTEST:
            yield from (word, next(words, ""))
        elif (has_value and flag in _OF_PYTEST) or (len(word) > 2 and word[:2] in _OF_PYTEST):
            yield word


def _quoted(word: str) -> str:
    """Quote a word for a shell; in `--flag=value`, only the value."""
    flag, is_flag, value = word.partition("=")
    return f"{flag}={shlex.quote(value)}" if is_flag and re.fullmatch(r"--[\w-]+", flag) else shlex.quote(word)
