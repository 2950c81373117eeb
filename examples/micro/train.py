"""Trains all micro models from nothing: policies, judge, and a base for reward models.

    python examples/micro/train.py --out runs/micro

One curriculum. A model of 1M parameters learns to solve, in a plain and in a long style; those of
its checkpoints that get as much right as the table in `policies` says are the policies. They then
solve train problems, and the model goes on to judge: their solutions and planted errors, under
every strategy, with and without a reference, and to say where steps begin. Two courses make the
base for reward models out of the solver: to solve in the words a reward model is asked in, and to
notice what it did not expect (`surprise`). Held-out problems and wordings are never seen.

An interrupted run goes on after the last finished course. Kernels are deterministic and sums are
divided alike, so that a run with the same seed on a like machine repeats itself. The weights are
published in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402 - needs the path above
from tqdm import tqdm  # noqa: E402
from transformers import (  # noqa: E402
    AutoTokenizer,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Model,
)

from annotate.boundary import STARTS  # noqa: E402
from annotate.judge import RESULT  # noqa: E402
from annotate.strategy import load_splitting, load_strategy, render, render_pieces  # noqa: E402
from examples.micro import problems, truth, world  # noqa: E402
from examples.micro.card import write_card  # noqa: E402
from examples.micro.learner import Course, Learner, learn  # noqa: E402
from examples.micro.lessons import PROMPTS, STRATEGIES, Lesson, Teacher  # noqa: E402
from examples.micro.measure import measure  # noqa: E402
from examples.micro.policies import (  # noqa: E402
    CHECKING,
    POLICIES,
    MicroPolicy,
    choose,
    write_solutions,
)
from examples.micro.surprise import Noticer, deepen  # noqa: E402
from prm import jsonl  # noqa: E402
from prm.engines import Message  # noqa: E402
from prm.records import Solution  # noqa: E402
from prm.render import NO_REFERENCE, REFERENCE_INTRO  # noqa: E402
from prm.train.scratch import make_tokenizer  # noqa: E402

SOLVE = Course(steps=2400, tokens=8192, rate=5e-3)
JUDGE = Course(steps=2400, tokens=8192, rate=4e-3)
SAVE = 25
"""Steps from one checkpoint to the next."""
OWN = 1200
"""Train problems that each policy solves, for judge and base to learn from."""
SCHOOL = 500
"""Train problems on which checkpoints are compared with the policies' goals."""
YOUNGEST = 200
"""Steps of the solving course before which no policy is looked for."""
THREADS = 2
"""Sums depend on how they are divided; so a run is the same on machines with more cores."""
READ = Course(steps=700, tokens=8192, rate=3e-3, warmup=20)
NOTICE = Course(steps=1200, tokens=8192, rate=4e-3, decay=0.5)
SOLVERS = (
    world.Policy("plain", "plain", 0.0, 0.0, 0.0, 0.0),
    world.Policy("long", "long", 0.0, 0.0, 0.0, 0.0, retake=0.25),
)
"""They make no error but the wrong turns that the long style takes back."""


def tokenizer() -> Any:
    """Byte-level, so every text has tokens; the world's words and the prompts' have their own."""
    drawn = problems.micro_problems(0, 300) + problems.micro_problems(0, 300, held_out=True)
    items = [item.solution for item in world.solutions(drawn, samples=1)]
    asking = [load_strategy(name, str(PROMPTS)) for name in STRATEGIES]
    messages: list[Message] = [
        *(turn for item in items for how in asking for turn in render(how, item)),
        *render_pieces(load_splitting(str(PROMPTS)), ["a"]),
    ]
    texts = [" ".join(item.steps) for item in items] + [turn.content for turn in messages]
    rare = f"system\nuser\nassistant\n1: 25 (25) right\n2: no (no) wrong\n{RESULT}{STARTS}"
    rare += CHECKING + REFERENCE_INTRO + NO_REFERENCE
    return make_tokenizer([*texts, *[rare] * 100], 1024)


def make_repeatable() -> None:
    """Let the same seed make the same models, bit by bit, on like machines."""
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(THREADS)


def nothing(vocabulary: Any, seed: int) -> Any:
    """A Qwen2 model of 1M parameters with random weights."""
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=-(-len(vocabulary) // 64) * 64,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            eos_token_id=vocabulary.eos_token_id,
            pad_token_id=vocabulary.pad_token_id,
        )
    )


def draw_problem(rng: random.Random) -> problems.MicroProblem:
    """A problem of the train world."""
    while True:
        problem = problems.make_problem(rng, wording="train")
        if not problems.is_held_out(problem):
            return problem


def solving(teacher: Teacher) -> Callable[[random.Random], Lesson]:
    """Lessons of the first course."""

    def draw(rng: random.Random) -> Lesson:
        checking = rng.random() < 0.3
        solved = world.solve(draw_problem(rng), SOLVERS[checking], rng)
        return teacher.solve(solved.solution, checking=checking)

    return draw


def judging(teacher: Teacher, own: list[Solution]) -> Callable[[random.Random], Lesson]:
    """Lessons of the second course; `own` are the policies' solutions of train problems."""
    solve = solving(teacher)

    def draw(rng: random.Random) -> Lesson:
        kind = rng.choices(["solve", "split", "judge"], [0.15, 0.1, 0.75])[0]
        if kind == "solve":
            return solve(rng)
        if rng.random() < 0.5:
            solution = rng.choice(own)
        else:
            solution = world.solve(draw_problem(rng), rng.choice(world.POLICIES), rng).solution
        if kind == "split":
            return teacher.split(" ".join(solution.steps))
        strategy = rng.choices(STRATEGIES, [0.2, 0.3, 0.2, 0.3])[0]
        return teacher.judge(solution, strategy, reference=rng.random() < 0.8)

    return draw


def reading(teacher: Teacher) -> Callable[[random.Random], Lesson]:
    """Lessons of the third course: right solutions as a reward model is shown them.

    Who solves nearly all problems has little use for a reference. So half of those that come
    with one come without the problem's numbers.
    """

    def draw(rng: random.Random) -> Lesson:
        solution = world.solve(draw_problem(rng), rng.choice(SOLVERS), rng).solution
        reference = rng.random() < 0.5
        if reference and rng.random() < 0.5:
            solution = replace(solution, problem=solution.problem.rsplit(". ", 1)[-1])
        return teacher.read(solution, reference=reference)

    return draw


def noticing(teacher: Teacher, own: list[Solution]) -> Callable[[random.Random], Lesson]:
    """Lessons of the fourth course: solutions with errors, and nothing said about them."""

    def draw(rng: random.Random) -> Lesson:
        if rng.random() < 0.5:
            solution = rng.choice(own)
        else:
            solution = world.solve(draw_problem(rng), rng.choice(world.POLICIES), rng).solution
        return teacher.read(solution, reference=rng.random() < 0.5)

    return draw


def policy_ages(out: Path, seed: int) -> dict[str, int]:
    """The step of the solving course whose model is each policy, by name; kept in `ages.json`."""
    path = out / "ages.json"
    if not path.exists():
        asked = problems.micro_problems(seed + 2, SCHOOL)
        scores: dict[tuple[str, int], float] = {}

        def accuracy(policy: MicroPolicy, age: int) -> float:
            key = (policy.template, age)
            if key not in scores:
                texts = write_solutions(policy, out / f"solve-{age}", asked, seed)
                scores[key] = sum(map(truth.answered, texts)) / SCHOOL
            return scores[key]

        ages = range(YOUNGEST, SOLVE.steps + 1, SAVE)
        chosen = {p.name: choose(p.goal, ages, partial(accuracy, p)) for p in POLICIES}
        jsonl.write_text(path, json.dumps(chosen) + "\n")
        rows = [
            {"template": t, "age": age, "accuracy": found} for (t, age), found in scores.items()
        ]
        jsonl.write_text(out / "school.json", json.dumps(rows, indent=1) + "\n")
    return dict(json.loads(path.read_text()))


def own_solutions(out: Path, seed: int) -> list[Solution]:
    """What the policies write about train problems."""
    if not (out / "own.jsonl").exists():
        asked = problems.micro_problems(seed + 1, OWN)
        ages = policy_ages(out, seed)
        found = [
            item
            for policy in POLICIES
            for item in write_solutions(policy, out / f"solve-{ages[policy.name]}", asked, seed)
        ]
        jsonl.write(out / "own.jsonl", found)
    return list(jsonl.read(out / "own.jsonl", Solution))


def take(
    course: Course,
    name: str,
    pupil: Learner | Noticer,
    words: Any,
    draw: Callable[[random.Random], Lesson],
    out: Path,
    seed: int,
) -> None:
    """Let a pupil take a course; leaves `{name}-{step}` folders and `{name}.jsonl`."""
    window: list[dict[str, float]] = []
    with tqdm(total=course.steps, desc=name) as bar, (out / f"{name}.jsonl").open("w") as log:

        def after(step: int, measured: dict[str, float]) -> None:
            window.append(measured)
            bar.update()
            if step % 50 == 0:
                keys = sorted({key for item in window for key in item} - {"seconds"})
                values = {
                    key: sum(found) / len(found)
                    for key in keys
                    if (found := [item[key] for item in window if key in item])
                }
                values |= {"step": step, "seconds": measured["seconds"]}
                log.write(json.dumps({key: round(v, 4) for key, v in values.items()}) + "\n")
                log.flush()
                bar.set_postfix(loss=f"{values['loss']:.3f}")
                window.clear()
            if step % SAVE == 0:
                pupil.model.save_pretrained(out / f"{name}-{step}")
                words.save_pretrained(out / f"{name}-{step}")

        learn(pupil, course, draw, random.Random(f"{name} {seed}"), after)


def publish(out: Path, models: Path, seed: int) -> None:
    """Write the models as they are shipped: in bfloat16, with their tokenizer.

    The base has no language model head: its last layers are not made to name tokens.
    """
    shipped = {name: f"solve-{age}" for name, age in policy_ages(out, seed).items()}
    shipped |= {"judge": f"judge-{JUDGE.steps}", "base": f"notice-{NOTICE.steps}"}
    for name, folder in shipped.items():
        kind = Qwen2Model if name == "base" else Qwen2ForCausalLM
        kind.from_pretrained(out / folder, dtype=torch.bfloat16).save_pretrained(models / name)
        AutoTokenizer.from_pretrained(out / folder).save_pretrained(models / name)


def train(out: Path, seed: int) -> None:
    """Take all courses that are not finished yet."""
    make_repeatable()
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "tokenizer").exists():
        tokenizer().save_pretrained(out / "tokenizer")
    words = AutoTokenizer.from_pretrained(out / "tokenizer")
    teacher = Teacher(words)

    def open_(name: str, course: Course) -> bool:
        return not (out / f"{name}-{course.steps}").exists()

    def after(name: str, course: Course) -> Any:
        torch.manual_seed(seed)  # of what a pupil adds to it
        return Qwen2ForCausalLM.from_pretrained(out / f"{name}-{course.steps}", dtype=torch.float32)

    if open_("solve", SOLVE):
        take(SOLVE, "solve", Learner(nothing(words, seed)), words, solving(teacher), out, seed)
    own = own_solutions(out, seed)
    if open_("read", READ):
        take(READ, "read", Learner(after("solve", SOLVE)), words, reading(teacher), out, seed)
    if open_("notice", NOTICE):
        pupil = Noticer(deepen(after("read", READ), seed), words)
        take(NOTICE, "notice", pupil, words, noticing(teacher, own), out, seed)
    if open_("judge", JUDGE):
        take(JUDGE, "judge", Learner(after("read", READ)), words, judging(teacher, own), out, seed)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the micro models from nothing.")
    parser.add_argument("--out", required=True, type=Path, help="folder for checkpoints and logs")
    parser.add_argument("--models", type=Path, help="folder for the models; {out}/models")
    parser.add_argument("--benchmark", type=Path, help="file to write UniversalBench-micro to")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    out: Path = options.out
    models = options.models or out / "models"
    train(out, options.seed)
    publish(out, models, options.seed)
    figures = measure(models, options.benchmark)
    ages = policy_ages(out, options.seed)
    for name in (*(policy.name for policy in POLICIES), "judge", "base"):
        write_card(models / name, name, figures, ages)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
