"""Candidates of a question, best first, with Cohere's client.

PRM_URL=http://127.0.0.1:8000 python examples/serving/rerank_cohere.py
"""

import os

import cohere

client = cohere.ClientV2(
    api_key=os.environ.get("PRM_API_KEY") or "none", base_url=os.environ["PRM_URL"]
)
candidates = ["2 + 3 = 6.\n\nIt is 6.", "2 + 3 = 5.\n\nIt is 5."]
answer = client.rerank(
    model=os.environ["PRM_MODEL"], query="What is 2 + 3?", documents=candidates, top_n=2
)
for result in answer.results:
    print(f"{result.relevance_score:.3f}", candidates[result.index].replace("\n\n", " / "))
