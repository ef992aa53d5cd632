"""The moment a run turns out to have Harbor tasks."""

from __future__ import annotations

from pytest_harbor._util.signals import interrupt_on_signals
from pytest_harbor.plugin.agents import Agents
from pytest_harbor.plugin.fingerprint import Fingerprints
from pytest_harbor.plugin.gate import Gate
from pytest_harbor.plugin.lifecycle import Lifecycle
from pytest_harbor.plugin.rounds import RoundsOfRun
from pytest_harbor.plugin.session import HarborSession
from pytest_harbor.plugin.terminal import TerminalReport
from pytest_harbor.report.terminal import TrialTable


def activate(session: HarborSession) -> None:
    """Make the plugin take part in the run; after the first call this does nothing.

    Registers the session's hooks, and turns the signals that end a process into an interrupt if trials will run.

    Raises:
        pytest.UsageError: the baseline is not usable, or gate options exclude each other.

    """
    if session.active:
        return
    session.gate = Gate(session.config, session.options, on_command_line=session.asked_for_verdict)
    session.agents = Agents(session.config, session.options)
    if session.agents.chosen and not session.config.hook.pytest_harbor_agent.get_hookimpls():
        session.gate.check_agents(session.agents.shown_names)
    session.fingerprints = Fingerprints(session.agents, session.options)
    session.table = TrialTable()
    session.config.pluginmanager.register(Lifecycle(session), "harbor-lifecycle")
    session.config.pluginmanager.register(TerminalReport(session), "harbor-terminal")
    if session.in_rounds:
        session.config.pluginmanager.register(RoundsOfRun(session), "harbor-rounds")
    if session.runs_trials:
        session.restore_signals = interrupt_on_signals()
    session.active = True
