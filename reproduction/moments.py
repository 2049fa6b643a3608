"""Train a recipe and keep its method at several moments of the run; the same command continues it

python -m reproduction.moments voc_animals_104 --root VOC_ANIMALS --steps 640
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
import torch
from corrmatch.engine.config import Config
from corrmatch.engine.processes import Processes
from corrmatch.engine.runs import append_row, read_log, save_checkpoint
from corrmatch.engine.state import TrainState, ids_of, training_step
from corrmatch.engine.trainer import RunContext, start_run, log_row, make_context, save, run_metadata
from corrmatch.methods import DEFAULT
from corrmatch.recipes.published import RECIPES

FRACTIONS = (0.05, 0.10, 0.25, 0.50, 1.0)  # of a run, at which its method is kept


def moments(
    total: int,  # steps of the run
    fractions=FRACTIONS,
) -> dict[int, str]:  # step -> name of the moment: its per cent, in three digits
    "The steps after which a method is kept."
    return {max(1, round(f * total)): f"{round(100 * f):03d}" for f in fractions}


def keep_method(
    state: TrainState,
    context: RunContext,
    path: Path,  # for `corrmatch.engine.results.load_method`
):
    "Write a checkpoint without optimisers: it is looked at, never trained further."
    save_checkpoint({"step": state.step, "method": state.method.state_dict()} | run_metadata(context), path)


def train_with_moments(
    config: Config,  # `log_every` is also the distance of two checkpoints
    fractions=FRACTIONS,
    progress: bool = True,  # print a line for each row of the log
) -> Path:  # the run folder, with a file moment_NNN.pt for each moment
    "Train to the end of the schedule, from the last checkpoint if there is one; nothing is validated."
    run, dist = Path(config.out) / config.name, Processes()
    resume = (run / "config.json").exists()
    context = make_context(config, dist, resume)
    state = TrainState(config, len(context.folder.classes), dist, load=not resume)
    run.mkdir(parents=True, exist_ok=True)
    start_run(state, context, resume)
    before = read_log(run)["cpu_seconds"].iloc[-1] if state.step else 0.0
    start, due = time.process_time() - before, moments(context.total, fractions)
    while state.step < context.total:
        for batch in context.batches(state.step):
            epoch = state.step // context.per_epoch
            losses = training_step(state, batch, config, context.total, context.per_epoch, dist)
            state.record.add(state.step, losses.terms, ids_of(batch))
            if state.step in due:
                keep_method(state, context, run / f"moment_{due[state.step]}.pt")
            if state.step % config.log_every and state.step < context.total:
                continue
            row = log_row(state, epoch, losses.logs) | {"cpu_seconds": round(time.process_time() - start, 1)}
            append_row(run / "log.csv", row)
            save(state, context, "last.pt")
            if progress:
                shown = " ".join(f"{k} {row[k]:.3f}" for k in ("total", "tau", "mask_ratio") if k in row)
                print(f"step {state.step} of {context.total}: {shown}; CPU {row['cpu_seconds']:.0f} s", flush=True)
    return run


def main(argv=None):
    "The command line."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--method", default=DEFAULT)
    parser.add_argument("--root", help="folder of the dataset")
    parser.add_argument("--steps", type=int, help="length of the run; default: the recipe's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", help="of the run folder")
    parser.add_argument("--out", default="runs/moments")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    config = RECIPES[args.recipe].make(args.method)
    config = replace(
        config,
        name=args.name or f"{config.name}_seed{args.seed}",
        data=replace(config.data, root=args.root or config.data.root),
        steps=args.steps or config.steps,
        seed=args.seed,
        out=args.out,
    )
    print(train_with_moments(config))


if __name__ == "__main__":
    main()
