"""The best of N answers of a policy behind the server, with OpenAI's client.

    PRM_URL=http://127.0.0.1:8000 python examples/serving/best_of_n_openai.py

The server must have been started with a policy: see `prm serve --help`, `policy`.
"""

import os

import openai

client = openai.OpenAI(
    api_key=os.environ.get("PRM_API_KEY") or "none", base_url=os.environ["PRM_URL"] + "/v1"
)
answer = client.chat.completions.create(
    model=os.environ["PRM_MODEL"],
    messages=[{"role": "user", "content": "What is 2 + 3?"}],
    max_tokens=32,
    temperature=1.0,
    extra_body={"best_of_n": {"n": 4, "aggregation": "min", "return_candidates": True}},
)
print(answer.choices[0].message.content)
print(answer.usage.completion_tokens, "tokens written, by all candidates together")
