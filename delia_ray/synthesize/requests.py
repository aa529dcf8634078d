"""Requests and their keys: everything that decides a completion, and nothing else."""

import json
from typing import Any

from delia_ray.chats.thoughts import separate
from delia_ray.config import RunConfig, Sampling
from delia_ray.engines import Request, resolve
from delia_ray.models import (
    control_tokens,
    fingerprint,
    folder_digest,
    prompting,
    thoughts_of,
)
from delia_ray.records import Message, digest


class Asker:
    """Makes the requests of one run; the same request has the same key in every run."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config.synthesize
        self.seed = config.seed
        self.rules = self.config.rules
        self.model = model_of(config)
        self.reword = self.config.reword.for_model(self.model)
        engine = resolve(self.config.engine)
        self.engine = engine.type
        self.adapters = {a: folder_digest(a) for a in getattr(engine, "adapters", [])}
        # A mended template asks otherwise than one that is used as it is.
        self.fingerprint = fingerprint(self.model) + prompting(self.model)
        self.thoughts = thoughts_of(self.model)
        system = self.config.queries.system
        self.opening: list[Message] = [{"role": "system", "content": system}] if system else []
        # The declared tokens are wanted in an answer; these are not.
        self.control = control_tokens(self.model, config.downstream.special_tokens)

    def answer(self, query: dict[str, Any], chat: list[Message], sample: int) -> Request:
        """The ``sample``-th answer to ``query``."""
        identity = [query["id"], sample]
        adapter = ""
        if self.adapters:
            at = int(digest(["adapter", self.seed, *identity]), 16) % len(self.adapters)
            adapter = list(self.adapters)[at]
        return self._request(chat, self.config.sampling, identity, adapter=adapter)

    def said(self, text: str) -> str:
        """The answer in what was generated, without the thought before it."""
        return separate(text, self.thoughts)[1].strip()

    def rewording(self, chat: list[Message], identity: list[Any]) -> Request:
        """One rewording of an instruction."""
        return self._request(chat, self.config.reword.sampling, identity)

    def invention(self, number: int) -> Request:
        """The ``number``-th query that the model invents."""
        return self._request(
            self.opening, self.config.queries.sampling, ["invention", number], turn="user"
        )

    def _request(
        self, messages: list[Message], sampling: Sampling, identity: Any,
        adapter: str = "", turn: str = "assistant",
    ) -> Request:  # fmt: skip
        # A greedy answer has no seed: the same chat is the same request, whoever asks.
        seed = int(digest([self.seed, identity], 7), 16) if sampling.temperature else 0
        schema = json.dumps(sampling.json_schema) if sampling.json_schema else ""
        key = digest(
            [messages, self.fingerprint, sampling.model_dump(mode="json"), seed, self.engine,
             self.adapters.get(adapter, ""), turn],
            32,
        )  # fmt: skip
        return Request(
            key, messages, sampling.max_tokens, sampling.temperature, sampling.top_p, seed,
            schema, adapter, turn,
        )  # fmt: skip


def model_of(config: RunConfig) -> str:
    """Who answers and rewords: the base model, or the teacher that the config names."""
    return config.synthesize.model or config.model
