"""A step search with the server's policy, shown as it goes.

The server needs one: prm serve configs/serve/policy.yaml
PRM_URL=http://127.0.0.1:8000 python examples/serving/step_search.py
"""

import os

from prm.client import Client, SearchRound

QUESTION = "Tom has 5 apples and buys 7 more. How many has he?"

with Client(os.environ["PRM_URL"]) as client:
    for event in client.search(QUESTION, method="beam", n=8, width=2, steps=12, seed=1):
        if isinstance(event, SearchRound):
            newest = event.best.steps[-1] if event.best else "nothing scored yet"
            print(f"round {event.round}: {event.live} go on, {event.ended} ended: {newest}")
            continue
        for step, score in zip(event.best.steps, event.best.scores, strict=False):
            print(f"{score:.3f}  {step}")
        print(f"answer {event.best.answer}, reward {event.best.reward:.3f}")
        print(f"{event.budget['read']} of {event.budget['whole']} tokens read to score it")
