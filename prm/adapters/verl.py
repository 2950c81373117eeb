"""A reward function for verl: `compute_score`, over a server's step scores.

In verl's configuration:

    custom_reward_function.path=<the path of this file>
    custom_reward_function.name=compute_score

The server is the one that the environment variable `PRM_URL` names, its key `PRM_API_KEY`; the
aggregation is `PRM_AGGREGATION`, `min` unless set. The question is taken from
`extra_info["question"]`, the reference answer is `ground_truth`.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from annotate.pieces import split_steps
from prm.client import Client
from prm.errors import ConfigError


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str | None,
    extra_info: dict[str, Any] | None = None,
) -> dict[str, float]:
    """The reward of a response.

    Args:
        data_source: verl's name of the data set; not used.
        solution_str: the response.
        ground_truth: the reference answer; blank or None sends none.
        extra_info: its `question` is the problem.

    Returns:
        `score`, the reward, and `steps`, of how many. A response that says nothing gets 0, of 0
        steps: verl takes no "none".

    Raises:
        ConfigError: `PRM_URL` is not set, or there is no question.
        ClientError: the server refuses the response, or does not answer.
    """
    question = (extra_info or {}).get("question")
    if not question:
        raise ConfigError(
            f"data source {data_source!r}: extra_info has no `question`, which a PRM needs"
        )
    if not solution_str.strip():
        return {"score": 0.0, "steps": 0.0}
    steps = split_steps(solution_str)
    result = _client().score(
        question,
        steps,
        reference=ground_truth or None,
        aggregation=os.environ.get("PRM_AGGREGATION", "min"),
    )
    assert result.reward is not None  # else `score` had raised
    return {"score": result.reward, "steps": float(len(steps))}


@lru_cache(maxsize=1)
def _client() -> Client:
    url = os.environ.get("PRM_URL")
    if not url:
        raise ConfigError("PRM_URL is not set; name the server, such as http://127.0.0.1:8000")
    return Client(url)
