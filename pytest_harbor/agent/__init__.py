"""Agents: the protocol, and the agents that are built in."""

from pytest_harbor.agent.base import (
    Agent,
    AgentContext,
    AgentReport,
    always_calls_models,
    may_call_models,
    runs_on_host,
    unmet_requirement,
)
from pytest_harbor.agent.callable import AgentEnvironment, AsyncAgentEnvironment, CallableAgent
from pytest_harbor.agent.command import CommandAgent
from pytest_harbor.agent.factory import AgentError, as_agent, load_callable, needs_setup
from pytest_harbor.agent.host import HostCommandAgent
from pytest_harbor.agent.nop import NopAgent
from pytest_harbor.agent.openai_agent import OpenAIAgent
from pytest_harbor.agent.oracle import OracleAgent

__all__ = [
    "Agent",
    "AgentContext",
    "AgentEnvironment",
    "AgentError",
    "AgentReport",
    "AsyncAgentEnvironment",
    "CallableAgent",
    "CommandAgent",
    "HostCommandAgent",
    "NopAgent",
    "OpenAIAgent",
    "OracleAgent",
    "always_calls_models",
    "as_agent",
    "load_callable",
    "may_call_models",
    "needs_setup",
    "runs_on_host",
    "unmet_requirement",
]
