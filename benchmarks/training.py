"""Training speed and memory beside TRL 1.13's PRM trainer, the last one that TRL had.

    python benchmarks/training.py [--data FOLDER] [--rounds 3] [--steps 20] [--checkpointing]

Both train the same Qwen2 of about 7 million weights (random, made here) in float32 with AdamW on
the same solutions in the same order, as many in every step, with hard labels and cross entropy of
two classes: 300 solutions of ProcessBench and a tenth of long ones, made by joining such, which
neither cuts. Each runs in a process of its own, in turns; the best of each side's rounds counts.
Speed is measured after two steps, by the clock and by the processor's time, which others on the
machine disturb less; the peak is the process's largest resident size. The peer lives in an
environment of its own, `.peers/trl-1.13`, made on the first run with the versions of
`configs/constraints/cpu.txt`: that takes minutes and 1.5 GB.

    python benchmarks/training.py --shape 7b --lengths 2048,8192,32768 [--lora] [--device cuda]

measures ours alone in bfloat16 on a shape with random weights: rows packed with solutions of each
length, gradient checkpointing, tokens a second and the share of the device's bfloat16 peak. With
`--lora` whole optimizer steps; without, forward and backward, since one device cannot hold the
optimizer's state of 7 billion weights.

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

PEER = ROOT / ".peers" / "trl-1.13"
VOCABULARY = 4096
WARM = 2
BATCH = 8
LONG = (2048, 4096)

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "small": {
        "vocab_size": VOCABULARY,
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
    },
    "7b": {  # Qwen2.5-7B
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
    },
}


def examples(data: Path) -> list[dict[str, list[int]]]:
    """Token ids, step ends and hard labels of 300 solutions and 30 long ones."""
    from prm.render import Renderer, RenderSettings
    from prm.train.scratch import make_tokenizer

    rows = json.loads((data / "processbench/math.json").read_text())
    texts = ("\n".join([row["problem"], *row["steps"]]) for row in rows)
    renderer = Renderer(make_tokenizer(texts, VOCABULARY), RenderSettings(max_length=2 * LONG[1]))
    rng = random.Random(0)
    made = [rendered(renderer, row["problem"], row["steps"], row["label"]) for row in rows[:300]]
    while len(made) < 330:
        steps: list[str] = []
        wanted = rng.randint(*LONG)
        while True:
            steps += rng.choice(rows)["steps"]
            long = rendered(renderer, "Solve them all.", steps, rng.randint(-1, len(steps) - 1))
            if len(long["input_ids"]) >= wanted:
                break
        if len(long["input_ids"]) <= LONG[1]:
            made.append(long)
    return made


def rendered(renderer: Any, problem: str, steps: list[str], first_wrong: int) -> dict[str, Any]:
    """One solution; what follows its first wrong step is wrong, too."""
    found = renderer.render(problem, steps)
    labels = [int(first_wrong < 0 or step < first_wrong) for step in range(len(steps))]
    return {"input_ids": found.input_ids, "step_ends": found.step_ends, "labels": labels}


def make_model(shape: str, labels: int, context: int, dtype: Any = None) -> Any:
    """A random Qwen2, the same on both sides."""
    import torch
    from transformers import AutoModelForTokenClassification, Qwen2Config

    torch.manual_seed(0)
    head: dict[str, Any] = {"num_labels": labels, "classifier_dropout": 0.0, "pad_token_id": 0}
    config = Qwen2Config(**SHAPES[shape], max_position_embeddings=context, **head)
    return AutoModelForTokenClassification.from_config(config, dtype=dtype or torch.float32)


def stopwatch() -> Any:
    """A callback of the Trainer that measures from the end of step `WARM` on."""
    from transformers import TrainerCallback

    class Stopwatch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == WARM:
                self.start, self.work = time.perf_counter(), time.process_time()
            elif state.global_step > WARM:
                self.seconds = time.perf_counter() - self.start
                self.cpu_seconds = time.process_time() - self.work

    return Stopwatch()


def train_here(side: str, file: Path, steps: int, threads: int, checkpointing: bool) -> None:
    """One side's run, in this process; prints what it measured."""
    import torch

    torch.set_num_threads(threads)
    data = json.loads(file.read_text())
    watch = stopwatch()
    keys: dict[str, Any] = {
        "output_dir": str(file.parent / side),
        "max_steps": steps,
        "per_device_train_batch_size": BATCH,
        "learning_rate": 1e-4,
        "optim": "adamw_torch",
        "bf16": False,
        "gradient_checkpointing": checkpointing,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "remove_unused_columns": False,
    }
    build = {"ours": our_trainer, "peer": peer_trainer}[side]
    trainer, labels = build(data, keys, watch)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    solutions = (steps - WARM) * BATCH
    measured = {
        "solutions_per_second": solutions / watch.seconds,
        "solutions_per_cpu_second": solutions / watch.cpu_seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "labels": labels,
        "losses": losses,
    }
    print(json.dumps(measured))


def our_trainer(data: list[dict[str, Any]], keys: dict[str, Any], watch: Any) -> tuple[Any, int]:
    """Ours: packed rows. Returns the trainer and how many labels its data hold."""
    from transformers import TrainingArguments

    from prm.attention import use_packed_attention
    from prm.train.batches import collate_packed
    from prm.train.losses import LossConfig, StepLoss
    from prm.train.trainer import PRMTrainer

    model = make_model("small", 2, LONG[1])
    use_packed_attention(model, LONG[1], half=False)
    rows = [row | {"weights": [1.0] * len(row["labels"])} for row in data]
    trainer = PRMTrainer(
        loss=StepLoss(LossConfig(kind="two_class")),
        model=model,
        args=TrainingArguments(**keys, label_names=["labels"]),
        train_dataset=rows,
        data_collator=collate_packed,
        callbacks=[watch],
    )
    return trainer, sum(len(row["labels"]) for row in rows)


def peer_trainer(data: list[dict[str, Any]], keys: dict[str, Any], watch: Any) -> tuple[Any, int]:
    """TRL's, with its own collator, on the same token ids. Returns the same."""
    import datasets
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast
    from trl.experimental.prm import PRMConfig, PRMTrainer

    rows = []
    for row in data:
        labels = [-100] * len(row["input_ids"])
        for end, label in zip(row["step_ends"], row["labels"], strict=True):
            labels[end] = label
        rows.append({"input_ids": row["input_ids"], "labels": labels})
    # The collator asks a tokenizer how to pad, and nothing else.
    words = Tokenizer(WordLevel({"<pad>": 0}, unk_token="<pad>"))
    trainer = PRMTrainer(
        model=make_model("small", 2, LONG[1]),
        args=PRMConfig(**keys, max_length=None),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>"),
        callbacks=[watch],
    )
    kept = trainer.train_dataset["labels"]
    return trainer, sum(label != -100 for labels in kept for label in labels)


def make_peer() -> Path:
    """The peer's Python, with its environment made if absent."""
    python = PEER / "bin" / "python"
    done = PEER / ".installed"
    if not done.exists():
        print(f"making {PEER}: minutes, and 1.5 GB", file=sys.stderr)
        pins = (ROOT / "configs/constraints/cpu.txt").read_text().splitlines()
        subprocess.run([sys.executable, "-m", "venv", PEER], check=True)
        constraints = PEER / "constraints.txt"
        constraints.write_text("\n".join(pin for pin in pins if not pin.startswith("trl==")))
        wanted = ["trl==1.13.0", "torch", "transformers", "accelerate", "datasets"]
        install = [python, "-m", "pip", "install", "--quiet", "-c", constraints, *wanted]
        subprocess.run(install, check=True)
        done.touch()
    return python


def compare(chosen: argparse.Namespace) -> dict[str, float]:
    """Run both sides in turns; returns the ratios, ours divided by the peer's."""
    pythons = {"peer": make_peer(), "ours": Path(sys.executable)}
    best: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "examples.json"
        data = examples(chosen.data)
        file.write_text(json.dumps(data))
        lengths = sorted(len(row["input_ids"]) for row in data)
        middle = lengths[len(lengths) // 2]
        print(f"{len(data)} solutions, {middle} tokens in the middle, {lengths[-1]} at most")
        for _ in range(chosen.rounds):
            for side, python in pythons.items():
                command = [python, __file__, "--side", side, "--file", file]
                command += ["--steps", str(chosen.steps), "--threads", str(chosen.threads)]
                command += ["--checkpointing"] if chosen.checkpointing else []
                environment = os.environ | {"OMP_NUM_THREADS": str(chosen.threads)}
                ended = subprocess.run(command, env=environment, capture_output=True, text=True)
                if ended.returncode:
                    raise SystemExit(f"{side}: {ended.stderr[-3000:]}")
                found = json.loads(ended.stdout.splitlines()[-1])
                print(
                    f"{side}  {found['solutions_per_second']:.2f} solutions/s  "
                    f"{found['solutions_per_cpu_second']:.2f} a CPU second  "
                    f"{found['peak_mb']:.0f} MB  {found['labels']} labels  "
                    f"loss {found['losses'][0]:.4f} → {found['losses'][-1]:.4f}",
                    flush=True,
                )
                kept = best.setdefault(side, found)
                for key in ("solutions_per_second", "solutions_per_cpu_second"):
                    kept[key] = max(kept[key], found[key])
                kept["peak_mb"] = min(kept["peak_mb"], found["peak_mb"])
    ours, peer = best["ours"], best["peer"]
    assert ours["labels"] == peer["labels"], "one side has cut labels off"
    apart = max(abs(one - other) for one, other in zip(ours["losses"], peer["losses"], strict=True))
    ratios = {
        f"{name}_ratio": round(ours[key] / peer[key], 3)
        for name, key in (
            ("speed", "solutions_per_second"),
            ("cpu_speed", "solutions_per_cpu_second"),
            ("memory", "peak_mb"),
        )
    }
    return ratios | {"largest_loss_difference": round(apart, 6)}


def pace(chosen: argparse.Namespace) -> dict[str, Any]:
    """Tokens a second and share of peak on a shape, for each length of solutions."""
    import torch

    from prm.attention import flash_arguments, use_packed_attention
    from prm.train.batches import collate_packed
    from prm.train.losses import LossConfig, StepLoss
    from prm.train.pace import Pace, device_peak

    lengths = [int(length) for length in chosen.lengths.split(",")]
    device, row = torch.device(chosen.device), max(lengths)
    with device:
        model = make_model(chosen.shape, 1, row, torch.bfloat16)
    attention = use_packed_attention(model, row, half=device.type == "cuda")
    model.config.use_cache = False
    if chosen.lora:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=16, target_modules="all-linear"))
        model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    optimizer = None
    if chosen.lora:
        optimizer = torch.optim.AdamW(one for one in model.parameters() if one.requires_grad)
    loss = StepLoss(LossConfig())
    found: dict[str, Any] = {"attention": attention, "lora": chosen.lora}
    for length in lengths:
        one: Any = {"input_ids": [index % 500 for index in range(length)]}
        one |= {"step_ends": [length - 1], "labels": [1.0], "weights": [1.0]}
        batch = {
            key: value.to(device) for key, value in collate_packed([one] * (row // length)).items()
        }
        targets = [batch.pop(key) for key in ("labels", "weights", "groups")]
        known = flash_arguments(batch["position_ids"])
        meter = Pace(model, processes=1, peak=device_peak())
        for step in range(WARM + chosen.steps):
            if step == WARM:
                settle(device)
                meter.restart()
            loss(model(**batch, **known).logits, *targets).backward()
            if optimizer is not None:
                optimizer.step()
            model.zero_grad()
            meter.count(batch)
        settle(device)
        figures = meter.read(0.0)
        print(f"{length} tokens a solution: {figures}", flush=True)
        found[str(length)] = {key: round(value, 4) for key, value in figures.items()}
    if device.type == "cuda":
        found["peak_gb"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
    return found


def settle(device: Any) -> None:
    """Wait for what the device still has to do."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Speed and memory of training.")
    parser.add_argument("--data", type=Path, default=Path("data"), help="holds processbench/")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side")
    parser.add_argument("--steps", type=int, default=20, help="optimizer steps a run")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--checkpointing", action="store_true", help="on both sides")
    parser.add_argument("--shape", choices=sorted(SHAPES), help="measure ours alone on a shape")
    parser.add_argument("--lengths", default="2048,8192,32768", help="tokens of a solution")
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--side", choices=("ours", "peer"), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.side:
        train_here(chosen.side, chosen.file, chosen.steps, chosen.threads, chosen.checkpointing)
    elif chosen.shape:
        print(json.dumps(pace(chosen)))
    else:
        print(json.dumps(compare(chosen)))


if __name__ == "__main__":
    main()
