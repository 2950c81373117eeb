"""What verl calls for every response, called once by hand.

    PRM_URL=http://127.0.0.1:8000 python examples/serving/verl_reward.py

In verl: custom_reward_function.path=<path of prm/adapters/verl.py> and
custom_reward_function.name=compute_score. The data's `extra_info` must hold the `question`.
"""

from prm.adapters.verl import compute_score

print(
    compute_score(
        data_source="sums",
        solution_str="2 + 3 = 5.\n\nThe answer is 5.",
        ground_truth="5",
        extra_info={"question": "What is 2 + 3?"},
    )
)
