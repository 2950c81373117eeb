"""Step scores with `requests` alone.

PRM_URL=http://127.0.0.1:8000 python examples/serving/score_requests.py
"""

import os

import requests

answer = requests.post(
    os.environ["PRM_URL"] + "/v1/prm/score",
    headers={"Authorization": f"Bearer {os.environ.get('PRM_API_KEY', '')}"},
    json={
        "items": [
            {"id": "good", "question": "What is 2 + 3?", "steps": ["2 + 3 = 5", "It is 5."]},
            {"id": "bad", "question": "What is 2 + 3?", "text": "2 + 3 = 6.\n\nIt is 6."},
        ]
    },
    timeout=60,
)
answer.raise_for_status()
for result in answer.json()["results"]:
    print(result["id"], result["status"], result["scores"])
