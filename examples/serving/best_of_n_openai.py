"""The best of N answers of a policy, with OpenAI's own client.

The server needs one: prm serve configs/serve/policy.yaml
PRM_URL=http://127.0.0.1:8000 python examples/serving/best_of_n_openai.py
"""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ["PRM_URL"] + "/v1", api_key=os.environ.get("PRM_API_KEY", "none")
)
found = client.chat.completions.create(
    model=os.environ.get("PRM_POLICY", "policy"),
    messages=[{"role": "user", "content": "Tom has 5 apples and buys 7 more. How many has he?"}],
    temperature=0.8,
    max_tokens=320,
    # Every other field is OpenAI's; without this one the server's defaults choose.
    extra_body={
        "best_of_n": {"n": 8, "aggregation": "min", "vote": "weighted", "return_candidates": True}
    },
)
chosen = found.model_extra["best_of_n"]
for index, candidate in enumerate(chosen["candidates"]):
    mark = "*" if index == chosen["index"] else " "
    print(mark, candidate["reward"], candidate["answer"], candidate["error"] or "")
print(found.choices[0].message.content)
print(found.usage.total_tokens, "tokens")
