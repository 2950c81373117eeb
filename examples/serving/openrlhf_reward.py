"""What OpenRLHF's workers post to a remote reward model, posted once by hand.

    PRM_URL=http://127.0.0.1:8000 python examples/serving/openrlhf_reward.py

In OpenRLHF: --remote_rm_url http://127.0.0.1:8000/get_reward
"""

import os

import requests

prompts = ["What is 2 + 3?", "What is 10 + 4?"]
responses = ["2 + 3 = 5.\n\nThe answer is 5.", "10 + 4 = 15.\n\nThe answer is 15."]
answer = requests.post(
    os.environ["PRM_URL"] + "/get_reward",
    headers={"Authorization": f"Bearer {os.environ.get('PRM_API_KEY', '')}"},
    json={
        "query": [prompt + response for prompt, response in zip(prompts, responses, strict=True)],
        "prompts": prompts,
        "labels": ["5", "14"],
    },
    timeout=60,
)
answer.raise_for_status()
print(answer.json()["rewards"])
