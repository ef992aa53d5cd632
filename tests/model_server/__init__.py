"""A model server on 127.0.0.1 that speaks the real protocols and sends scripted answers.

    with ModelServer(Answer("Hello!"), Answer(calls=[Call("bash", {"command": "ls"})])) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any")

It keeps every request unchanged, and streams a response if the request asks for a stream.
"""

from .answers import Answer, Call, Reply, Tokens, failure
from .server import ModelServer

__all__ = ["Answer", "Call", "ModelServer", "Reply", "Tokens", "failure"]
