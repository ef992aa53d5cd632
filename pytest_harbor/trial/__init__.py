"""One attempt of one agent at one task, from image to reward."""

from pytest_harbor.trial.hooks import TrialHooks
from pytest_harbor.trial.journal import Recorder, State, TrialPlace
from pytest_harbor.trial.result import RUN_BUDGET, Outcome, Retry, TrialResult
from pytest_harbor.trial.services import AgentService, AgentVariables, ServiceContext
from pytest_harbor.trial.settings import TrialSettings
from pytest_harbor.trial.trial import Trial
from pytest_harbor.trial.usage import NoUsage, Usage
from pytest_harbor.trial.verifier import Verification

__all__ = [
    "RUN_BUDGET",
    "AgentService",
    "AgentVariables",
    "NoUsage",
    "Outcome",
    "Recorder",
    "Retry",
    "ServiceContext",
    "State",
    "Trial",
    "TrialHooks",
    "TrialPlace",
    "TrialResult",
    "TrialSettings",
    "Usage",
    "Verification",
]
