"""GRPO with step rewards: TRL's trainer, a reward model behind `prm serve`.

    PRM_URL=http://127.0.0.1:8000 python examples/serving/grpo_trl.py MODEL OUT

The problems are three sums and the training is two steps: put your own in their place.
"""

import os
import sys

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from prm.adapters.trl import StepReward
from prm.client import Client

model, out = sys.argv[1:]
data = Dataset.from_list(
    [
        {"prompt": [{"role": "user", "content": f"What is {a} + {b}?"}], "answer": str(a + b)}
        for a, b in ((2, 3), (10, 4), (7, 8))
    ]
)
trainer = GRPOTrainer(
    model=model,
    reward_funcs=StepReward(Client(os.environ["PRM_URL"]), aggregation="min", reference="answer"),
    train_dataset=data,
    args=GRPOConfig(
        output_dir=out,
        max_steps=2,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=16,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
    ),
)
trainer.train()
for entry in trainer.state.log_history:
    if "reward" in entry:
        print(f"step {entry['step']}: mean reward {entry['reward']:.3f}")
